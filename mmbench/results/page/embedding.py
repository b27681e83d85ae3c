"""What of users' data goes into the page's JSON: safe inside a script element, small, and without characters that rewrite what is shown."""

from __future__ import annotations

import json
import math
from typing import Any

from mmbench.results.text import clean

DIGITS = 5
"""Significant digits of numbers that are only drawn or browsed; tables print from the full ones."""

UNSAFE = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def as_json(value: Any) -> str:
    """A JSON document that no content can end early: ``<``, ``>``, ``&`` and the line separators of JavaScript stand as escapes; NaN is null."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).translate(UNSAFE)


def number(value: Any) -> float | int | None:
    """A number with few digits, None for anything that is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def lines(text: str, most: int) -> str:
    """Text of several lines without control or direction characters, cut after so many characters, which it says."""
    kept = "\n".join(" " * (len(line) - len(line.lstrip(" "))) + clean(line) for line in text[:most].splitlines())
    return kept + (f"\n... {len(text) - most} more characters" if len(text) > most else "")


def safe(value: Any, depth: int = 0) -> Any:
    """A record from a file with its text cleaned and its numbers made fit for JSON; what is nested deeper than records are is left out."""
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= 8:
        return "..."
    if isinstance(value, (list, tuple)):
        return [safe(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {clean(str(key)): safe(item, depth + 1) for key, item in value.items()}
    return clean(str(value))
