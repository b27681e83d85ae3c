"""What a table is called: data set, whether simulated, protocol and part, whose split with which sizes, layout, modalities and extractors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmbench.data.manifest import list_manifests


def title(data: Mapping[str, Any]) -> str:
    """Data set, whether simulated, whose split with which sizes, layout of the features, modalities."""
    splits = data.get("splits")
    counts = {name: split.get("size") for name, split in splits.items() if isinstance(split, dict)} if isinstance(splits, dict) else {}
    sizes = ", ".join(f"{name} {size}" for name, size in counts.items() if size is not None)
    published = "published split" if str(data.get("name")) in list_manifests() else "split of its manifest"  # which a user may have written
    origin = {"published": published, "sizes": "split of the published sizes", "own": "OWN SPLIT"}.get(str(data.get("split_status")), "")
    layout = data.get("layout")
    parts = [
        *heading(data),
        f"{origin} ({sizes})" if origin and sizes else origin or sizes,
        " ".join(part for part in (layout if isinstance(layout, str) else "", ", ".join(data.get("modalities", ()))) if part),
        extracted(data),
    ]
    return "; ".join(part for part in parts if part)


def heading(data: Mapping[str, Any]) -> list[str]:
    """Data set and whether simulated, then protocol and part if there are any."""
    name, divided, part = (data.get(key) for key in ("protocol", "parts", "part"))
    which = f", part {part}" if part else f", mean over {len(divided)} parts ({several(divided)})" if isinstance(divided, list) and divided else ""
    return [("SIMULATED " if data.get("simulated") else "") + (data.get("title") or data["name"]), *([f"protocol {name}{which}"] if name else [])]


def extracted(data: Mapping[str, Any]) -> str:
    """With which extractors the features in use were made here, if they were."""
    extraction = data.get("extraction")
    used = extraction.get("extractors") if isinstance(extraction, dict) else None
    known = {name: part.get("name") for name, part in used.items() if isinstance(part, dict)} if isinstance(used, dict) else {}
    names = [str(known[name]).rpartition("/")[2] for name in data.get("modalities", ()) if name in known]
    return f"features extracted with {', '.join(names)}" if names else ""


def several(names: Sequence[str]) -> str:
    """Names in a row, or the first and the last where there are many."""
    return ", ".join(names) if len(names) <= 4 else f"{names[0]} ... {names[-1]}"
