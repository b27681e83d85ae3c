"""What the keys of an MMSA configuration are called here, from the table that `mmbench new config --from-mmsa` uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmbench.mmsa import Key, tables
from writers.markdown import DOCS, table, written

PAGE = DOCS / "reference" / "mmsa-keys.md"


def pages() -> Iterator[tuple[Path, str]]:
    """The page with its text."""
    found = tables()
    names = list(found)
    every = {name: key for name, key in found[names[0]].items() if all(found[other].get(name) == key for other in names)}
    text = "# Keys of MMSA\n\n"
    text += "`mmbench new config --from-mmsa config_regression.json --model self_mm --dataset mosi` writes a config with these values in it.\n\n"
    text += "## Every model\n\n" + _rows(every)
    for name in names:
        text += f"## {name}\n\n" + _rows({key: item for key, item in found[name].items() if every.get(key) != item})
    yield PAGE, written(text, "mmbench/mmsa.yaml")


def _rows(keys: dict[str, Key]) -> str:
    return table(
        ["MMSA", "here", "note"], [(f"`{name}`", ", ".join(f"`{to}`" if to else "-" for to in key.to), key.note) for name, key in keys.items()]
    )
