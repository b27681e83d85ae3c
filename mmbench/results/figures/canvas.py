"""What every figure shares: sizes, fonts and colours, texts that are never read as mathematics, the mark of simulated data, and files.

Colours are those of Okabe and Ito (2008), told apart by readers with any common colour blindness; line styles and markers tell them apart in grey.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import textwrap
import unicodedata
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmbench.errors import ConfigError
from mmbench.files import write, writing
from mmbench.installing import how_to_install
from mmbench.privacy import shared
from mmbench.results.text import clean

try:
    import matplotlib
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise ConfigError(f"figures need matplotlib, which cannot be imported ({error}): {how_to_install('mmbench[report]')}") from None

WIDTH = 7.2
"""Inches: the text of a page in two columns."""
DPI = 200
INK, GREY, FAINT, RED = "#000000", "#595959", "#d0d0d0", "#d55e00"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
SIMULATED = "SIMULATED"

SETTINGS: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": False,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8.5,
    "axes.unicode_minus": True,
    "figure.facecolor": "white",
    "figure.titlesize": 9.5,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
    "font.size": 8,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "text.parse_math": False,  # "$" and "_" in a name are themselves
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
}


class Look(NamedTuple):
    """How one configuration is drawn wherever it occurs in a figure."""

    colour: str
    line: Any
    marker: str


def look(position: int) -> Look:
    """The look of the n-th configuration: colours repeat after eight, with another line."""
    size = len(COLOURS)
    return Look(COLOURS[position % size], LINES[(position + position // size) % len(LINES)], MARKERS[position % size])


@contextlib.contextmanager
def style() -> Iterator[None]:
    """matplotlib's defaults with `SETTINGS`, whatever the user's matplotlibrc says. Also a decorator."""
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")  # the SVG has the text itself; the PNG shows a box
        warnings.filterwarnings("ignore", message=".*constrained_layout not applied.*")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)  # type: ignore[arg-type]
        yield


def plain(text: object, width: int = 0) -> str:
    """A user's text as one line without control characters, cut to `width` characters (0: as it is)."""
    line = " ".join("".join(char for char in clean(shared(str(text))) if unicodedata.category(char) != "Cn").split())  # XML has no place for U+FFFF
    return line if not width or len(line) <= width else line[: width - 1].rstrip() + "…"


def wrapped(text: object, width: int, lines: int = 2) -> str:
    """A user's text in at most so many lines of `width` characters; words that are longer are broken, the rest is cut."""
    found = textwrap.wrap(plain(text), width)
    if len(found) > lines:
        found = [*found[: lines - 1], found[lines - 1][: width - 1] + "…"]
    return "\n".join(found)


def headline(figure: Figure, title: str, simulated: bool = False) -> None:
    """The title over all panels; of simulated data it says so first, bold and red."""
    shown = wrapped(title, 100, 3)
    if simulated:
        shown = shown if shown.startswith(SIMULATED) else f"{SIMULATED} DATA\n{shown}".strip()
        figure.suptitle(shown, color=RED, weight="bold")
    elif shown:
        figure.suptitle(shown)


def panels(count: int, columns: int, size: tuple[float, float], width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels in at most `columns` columns, each about `size` inches; it is never wider than `width`."""
    columns = 2 if count == 4 else max(1, min(columns, count))
    rows = math.ceil(count / columns)
    across = min(width, columns * size[0])
    figure = Figure(figsize=(across, rows * size[1] + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def footer(figure: Figure, lines: Sequence[str] = (), handles: Sequence[Artist] = (), labels: Sequence[str] = (), columns: int = 4) -> None:
    """Below all panels a legend, and small print below it; the figure grows by what they need."""
    shown = "\n".join(wrapped(line, int(20 * figure.get_figwidth()), 3) for line in lines)
    names = [plain(label, 40) for label in labels]
    entry = 0.55 + 0.06 * max(map(len, names), default=0)  # inches, about
    columns = max(1, min(columns, len(handles), int(figure.get_figwidth() / entry)))
    print_height = 0.125 * (shown.count("\n") + 1) + 0.06 if shown else 0.0  # inches
    legend_height = 0.165 * math.ceil(len(handles) / columns) + 0.08 if handles else 0.0
    height = figure.get_figheight() + print_height + legend_height
    figure.set_figheight(height)
    share = (print_height + legend_height) / height
    figure.get_layout_engine().set(rect=(0, share, 1, 1 - share))  # type: ignore[union-attr, call-arg]
    if shown:
        figure.text(0.06 / figure.get_figwidth(), 0.05 / height, shown, fontsize=6.5, color=GREY, ha="left", va="bottom")
    if handles:
        figure.legend(handles, names, loc="lower center", ncols=columns, bbox_to_anchor=(0.5, print_height / height), borderaxespad=0)


def says(axes: Axes, text: str) -> None:
    """A panel that has nothing to show says why."""
    axes.text(0.5, 0.5, wrapped(text, 34, 4), transform=axes.transAxes, ha="center", va="center", color=GREY, fontsize=7)


# Files ----------------------------------------------------------------------------------------------------------------------------


@style()
def drawn(figure: Figure, format: str) -> bytes:
    """The figure as ``svg`` or ``png``: equal bytes for equal figures, without dates."""
    matplotlib.rcParams["svg.hashsalt"] = "mmbench"
    metadata = {"Date": None, "Creator": None} if format == "svg" else {"Software": None}
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # else each drawing moves the panels a little
    content = io.BytesIO()
    figure.savefig(content, format=format, dpi=DPI, metadata=metadata)
    return content.getvalue()


def save(figure: Figure, path: Path) -> list[Path]:
    """Write ``<path>.svg`` and ``<path>.png``, each atomically, and return their paths.

    Raises:
        ConfigError: where they cannot be written.
    """
    found = []
    for format in ("svg", "png"):
        target = Path(path).with_name(f"{Path(path).name}.{format}")
        content = drawn(figure, format)
        with writing(target):
            write(target, content)
        found.append(target)
    return found


SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def svg(figure: Figure, title: str = "", prefix: str = "") -> str:
    """The figure as an ``<svg>`` element to stand inside an HTML page: it scales, carries a title, and its ids begin with `prefix`.

    `prefix` defaults to one made from the content, so that two figures of a page never share an id.
    """
    content = drawn(figure, "svg")
    prefix = prefix or f"f{hashlib.sha256(content).hexdigest()[:10]}"
    for name, uri in (("", SVG), ("xlink", XLINK)):
        ET.register_namespace(name, uri)
    root = ET.fromstring(content)
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{prefix}-{value}")
            elif key == f"{{{XLINK}}}href" and value.startswith("#"):
                element.set(key, f"#{prefix}-{value[1:]}")
            else:
                element.set(key, value.replace("url(#", f"url(#{prefix}-"))
    seen: set[str] = set()
    for element in root.iter():
        if element.get("id", "") in seen:
            del element.attrib["id"]  # matplotlib names an image by its content: two panels may have the same
        seen.add(element.get("id", "no id"))
    for child in root.findall(f"{{{SVG}}}metadata"):
        root.remove(child)
    width = root.attrib.pop("width").removesuffix("pt")
    root.attrib.pop("height", None)
    about = plain(title) or " ".join(figure.get_suptitle().split()) or "figure"
    root.set("role", "img")
    root.set("aria-label", about)
    root.set("style", f"width:100%;max-width:{float(width) * 4 / 3:.0f}px;height:auto")
    label = ET.Element(f"{{{SVG}}}title")
    label.text = about
    root.insert(0, label)
    return ET.tostring(root, encoding="unicode")
