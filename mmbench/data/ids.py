"""One spelling for a sample's id, ``video/clip``, and the fingerprint of a set of ids."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

# In order of trust: a separator that occurs in no video's name comes first, the underscore (which video names contain) last.
_SPELLINGS = (
    re.compile(r"(?P<video>.+)\$_\$(?P<clip>.+)", re.DOTALL),
    re.compile(r"(?P<video>.+)\[(?P<clip>[^\[\]]+)\]", re.DOTALL),
    re.compile(r"(?P<video>.+)/(?P<clip>[^/]+)", re.DOTALL),
    re.compile(r"(?P<video>.+)_(?P<clip>[0-9]+|[FM][X0-9]*[0-9]+)", re.DOTALL),  # the second form is a turn of IEMOCAP, as in F012
)


def canonical_id(spelling: object) -> str:
    """``video/clip`` from ``video$_$0012``, ``video[12]``, ``video/12`` or ``video_12``; leading zeros of the clip are dropped.

    A name in none of these spellings is a video of its own and stays as it is. ValueError: not text, bytes or an integer; empty; or with
    characters that are none (of control, half of a pair), since a fingerprint joins ids by newlines. A canonical id stays as it is.
    """
    if isinstance(spelling, bytes):
        spelling = spelling.decode()  # a UnicodeDecodeError is a ValueError
    if isinstance(spelling, bool) or not (isinstance(spelling, (str, int)) or hasattr(spelling, "__index__")):
        raise ValueError(f"an id must be text, not {type(spelling).__name__}")
    text = str(spelling).strip()
    if not text or any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ValueError(f"{text!a:.80} is no id: it has characters that cannot be shown" if text else "an id is empty")
    while (plain := _respelled(text)) != text:  # what a first step leaves may be spelled in another of the ways: a$_$b[12]
        text = plain
    return text


def video_of(identifier: str) -> str:
    """The video of a canonical id: utterances of one video are not independent of each other."""
    return identifier.rpartition("/")[0] or identifier


def fingerprint(ids: Iterable[str]) -> str:
    """sha256 of the sorted ids joined by newlines, UTF-8: the same for every order of the samples."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def _respelled(text: str) -> str:
    for pattern in _SPELLINGS:
        match = pattern.fullmatch(text)
        if match:
            return f"{match['video']}/{_plain_clip(match['clip'])}".strip()
    return text


def _plain_clip(clip: str) -> str:
    return (clip.lstrip("0") or "0") if clip.isascii() and clip.isdigit() else clip
