"""Small line charts that the template draws as SVG in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 320, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 34
MOST = 8
"""Lines that can be told apart, by their colour and their dashes."""

MINUS = "\N{MINUS SIGN}"

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Tick:
    """A number at an axis, and where it stands."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart in pixels of its own. `lines`: names with their points as SVG writes them; a name's place is its style."""

    title: str
    x_title: str
    y_title: str
    lines: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    left_out: int
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM


def chart(title: str, x_title: str, y_title: str, lines: Mapping[str, Points], scale: float = 1.0) -> Chart | None:
    """A chart of lines through finite points; None where there are none. `scale`: what the ticks of the y axis are multiplied by."""
    finite = {name: [point for point in points if all(map(math.isfinite, point))] for name, points in lines.items()}
    finite = {name: sorted(points) for name, points in finite.items() if points}
    shown = dict(list(finite.items())[:MOST])
    if not shown:
        return None
    xs, ys = ([point[axis] for points in shown.values() for point in points] for axis in (0, 1))
    x_low, x_high = span(xs)
    y_low, y_high = span(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM), 1)

    return Chart(
        title,
        x_title,
        y_title,
        tuple((name, tuple(place(*point) for point in points)) for name, points in shown.items()),
        tuple(Tick(place(x, y_low)[0], text) for x, text in ticks(x_low, x_high)),
        tuple(Tick(place(x_low, y)[1], text) for y, text in ticks(y_low, y_high, scale)),
        len(finite) - len(shown),
    )


def span(values: Sequence[float]) -> tuple[float, float]:
    """Least and greatest value with a little room, never an empty range."""
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - room, high + room


def ticks(low: float, high: float, scale: float = 1.0) -> list[tuple[float, str]]:
    """Three to six round numbers inside a range, with their text."""
    low, high = low * scale, high * scale
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(low / step - 1e-9)
    found = [(index * step) for index in range(first, math.floor(high / step + 1e-9) + 1)]
    return [(value / scale, f"{value:.{digits}f}".replace("-", MINUS) if digits < 6 else f"{value:.1e}") for value in found]
