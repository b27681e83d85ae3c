"""A page for each data set, of its manifest, and the list of all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmbench.data.manifest import Manifest, list_manifests, load_manifest
from writers.markdown import DOCS, escaped, table, written

FOLDER = DOCS / "data"


def pages() -> Iterator[tuple[Path, str]]:
    """Each page with its text."""
    manifests = [load_manifest(name) for name in list_manifests()]
    yield FOLDER / "index.md", written(_index(manifests), "datasets_manifest")
    for manifest in manifests:
        yield FOLDER / f"{manifest.name}.md", written(_data_set(manifest), f"datasets_manifest/{manifest.name}.yaml")


def _index(manifests: list[Manifest]) -> str:
    rows = [[f"[{escaped(m.title)}]({m.name}.md)", f"`{m.name}`", m.task, ", ".join(m.modalities), _total(m)] for m in manifests]
    return (
        "# Data\n\nNo data come with this package. Each page says where to ask, where files are looked for, and what they are checked against.\n\n"
        + table(["data set", "name", "task", "modalities", "samples"], rows)
        + "`mmbench data check NAME` prints one page about the files that you have: [Your data](../start/own-data.md). "
        + "A data set of your own is a [manifest](../extend/more.md#a-data-set).\n"
    )


def _total(manifest: Manifest) -> str:
    return f"{sum(split.size for split in manifest.splits.values()):,}" if manifest.splits else "-"


def _data_set(manifest: Manifest) -> str:
    classes = f"classes: {', '.join(manifest.classes)}" if manifest.classes else f"labels in {list(manifest.label_range or ())}"
    text = f"# {escaped(manifest.title)}\n\n"
    facts = [
        ("name in configs", f"`{manifest.name}`"),
        ("task", f"{manifest.task}; {escaped(classes)}"),
        ("modalities", ", ".join(manifest.modalities)),
    ]
    facts += [("scores", ", ".join(f"`{metric}`" for metric in manifest.metrics))]
    facts += [("labels of single modalities", "yes")] * manifest.unimodal_labels
    facts += [("licence", escaped(manifest.licence)), ("cite", escaped(manifest.citation))]
    text += table(["", ""], facts)
    text += "## How to get it\n\n" + escaped(manifest.source).replace("https://", "").replace("http://", "") + "\n\n"
    if manifest.downloads:
        text += f"`mmbench data fetch {manifest.name}` downloads what the owners offer:\n\n"
        text += table(["file", "notes"], [[f"`{each.file}`", escaped(each.notes)] for each in manifest.downloads])
    text += (
        "## Where its files are looked for\n\nBelow `--data-root` (or `MMBENCH_DATA`), in any case of letters; `data.path` names another place.\n\n"
    )
    for layout, found in manifest.layouts.items():
        shapes = ", ".join(f"{modality} {shape.length} x {shape.width}" for modality, shape in found.shapes.items())
        text += f"**{layout}** ({shapes}): " + ", ".join(f"`{file}`" for file in found.files) + "\n\n"
    if manifest.raw:
        text += "**recordings**, folders with `label.csv`: " + ", ".join(f"`{folder}`" for folder in manifest.raw) + "\n\n"
    text += "## What is checked\n\n" + _checked(manifest)
    if manifest.protocols:
        text += (
            "## Protocols\n\n`data.protocol` is one of " + ", ".join(f"`{name}`" for name in manifest.protocols) + "; the first is the default.\n\n"
        )
        rows = []
        for name in manifest.protocols:
            other = load_manifest(manifest.name, name)
            parts = f"{len(other.parts)}: {', '.join(other.parts)}" if other.parts else ""
            rows.append([f"`{name}`", other.task, escaped(", ".join(other.classes)), parts])
        text += table(["protocol", "task", "classes", "parts, averaged in tables"], rows)
    if manifest.notes:
        text += "## Notes\n\n" + escaped(manifest.notes) + "\n\n"
    return text


def _checked(manifest: Manifest) -> str:
    rows = [[name, f"{split.size:,}", f"`{split.fingerprint}`" if split.fingerprint else "-"] for name, split in manifest.splits.items()]
    text = (
        "The ids of each split, whose fingerprint is the sha256 of the sorted ids; other splits stop a run unless `data.splits: own`.\n\n"
        if rows
        else ""
    )
    text += table(["split", "samples", "fingerprint"], rows)
    also = [
        "shapes",
        "NaN and infinity",
        "lengths",
        "masks",
        "labels out of range or of unknown classes",
        "videos and contents that stand in two splits",
    ]
    if manifest.labels:
        also.append("the counts of the training labels")
    digests = sum(len(layout.sha256) for layout in manifest.layouts.values()) + len(manifest.sha1)
    if digests:
        also.append(f"the digests of {digests} known files")
    return text + "Also: " + ", ".join(also) + ".\n\n"
