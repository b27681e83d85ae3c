"""The published splits, sample by sample, against what the manifests say, counted and divided here without the code that divides data sets."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.data.ids import canonical_id
from mmbench.data.manifest import Manifest, list_manifests, load_manifest
from mmbench.data.protocol import divide

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "splits"
pytestmark = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published splits are not beside this checkout")

FOUR = {"0": 0, "4": 0, "1": 1, "2": 2, "3": 3}  # of the six classes; frustrated is left out
SESSIONS = ["session1", "session2", "session3", "session4", "session5"]
Row = dict[str, str]


def rows(name: str) -> list[Row]:
    with gzip.open(PUBLISHED / f"{name}.csv.gz", "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digest(chosen: list[Row]) -> str:
    return hashlib.sha256("\n".join(sorted(row["id"] for row in chosen)).encode()).hexdigest()


def by_split(chosen: list[Row], test: str | None) -> dict[str, list[Row]]:
    """As the file says, or with the dialogues of one session as test."""
    found = defaultdict(list)
    for row in chosen:
        found[row["split"] if test is None else "test" if row["id"][:5] == test else "train"].append(row)
    return found


def cut(training: list[Row], tenths: int) -> list[Row]:
    """The rows of whole dialogues, by the sha256 of their names, until there are so many tenths of all."""
    dialogues = defaultdict(list)
    for row in training:
        dialogues[row["id"].split("/")[0]].append(row)
    taken: list[Row] = []
    for name in sorted(dialogues, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if 10 * len(taken) < tenths * len(training):
            taken += dialogues[name]
    return taken


def check(manifest: Manifest, splits: dict[str, list[Row]], everything: list[Row]) -> None:
    """Sizes, fingerprints and how often each label occurs in training."""
    assert set("+".join(manifest.splits).split("+")) == {"train", "valid", "test"}
    for key, published in manifest.splits.items():
        chosen = [row for split in key.split("+") for row in splits[split]]
        assert (len(chosen), digest(chosen)) == (published.size, published.fingerprint)
    assert digest(everything) == manifest.samples
    assert manifest.labels is not None
    labels = [float(row["label"] or row["class"]) for row in splits["train"]]
    found = [sum(abs(label - value) < 1e-3 for label in labels) for value in manifest.labels.values]
    assert found == list(manifest.labels.counts)
    assert sum(found) == len(labels)


CASES: list[tuple[str, str, str | None, str | None, str | None]] = [
    *((name, name, None, None, None) for name in list_manifests() if name != "iemocap"),
    ("iemocap_6way", "iemocap", "6way_session5", None, None),
    ("iemocap_4way", "iemocap", "4way_session5", None, None),
    *(("iemocap_4way", "iemocap", "4way_5fold", part, f"Ses0{part[-1]}") for part in SESSIONS),
]


@pytest.mark.parametrize(("file", "name", "protocol", "part", "test"), CASES)
def test_manifests_say_what_is_published(file: str, name: str, protocol: str | None, part: str | None, test: str | None) -> None:
    manifest, everything = load_manifest(name, protocol, part), rows(file)
    assert all(canonical_id(row["id"]) == row["id"] for row in everything)
    splits = by_split(everything, test)
    check(manifest, splits, everything)
    if manifest.sizes:
        valid = cut(splits["train"], 1)
        assert dict(manifest.sizes) == {"train": len(splits["train"]) - len(valid), "valid": len(valid), "test": len(splits["test"])}


def test_the_ids_of_meld_repeat_between_splits_only() -> None:
    everything, splits = rows("meld"), by_split(rows("meld"), None)
    assert all(len({row["id"] for row in chosen}) == len(chosen) for chosen in splits.values())
    assert len({row["id"] for row in everything}) < len(everything)
    assert load_manifest("meld").ids_per_split
    classes = load_manifest("meld").classes
    counts = {split: [sum(row["class"] == str(i) for row in chosen) for i in range(7)] for split, chosen in splits.items()}
    assert dict(zip(classes, counts["test"], strict=True)) == {  # table 3 of the paper
        "anger": 345, "joy": 402, "sadness": 208, "neutral": 1256, "disgust": 68, "fear": 50, "surprise": 281,
    }  # fmt: skip


def source(chosen: list[Row], test: str | None, shuffle: int | None = None) -> dict[str, Any]:
    """What a reader returns: training and test as given, class indices, and one value that says which row it is."""
    content = {}
    for split, part in by_split(chosen, test).items():
        order = range(len(part)) if shuffle is None else np.random.default_rng(shuffle).permutation(len(part))
        content[split] = {
            "id": [part[i]["id"].replace("/", "_") for i in order],
            "classification_labels": [int(part[i]["class"]) for i in order],
            "raw_text": [part[i]["id"] for i in order],
        }
    return content


@pytest.mark.parametrize("file", ["iemocap_6way", "iemocap_4way"])
@pytest.mark.parametrize(("protocol", "part"), [("4way_session5", None), *(("4way_5fold", part) for part in SESSIONS), ("6way_session5", None)])
def test_the_protocols_divide_the_published_samples(file: str, protocol: str, part: str | None) -> None:
    six = protocol.startswith("6way")
    if six and file == "iemocap_4way":
        return
    manifest = load_manifest("iemocap", protocol, part)
    expected = by_split(rows("iemocap_6way" if six else "iemocap_4way"), f"Ses0{part[-1]}" if part else None)
    valid = {row["id"] for row in cut(expected["train"], 1)}
    wanted = {
        "train": {row["id"]: int(row["class"]) for row in expected["train"] if row["id"] not in valid},
        "valid": {row["id"]: int(row["class"]) for row in expected["train"] if row["id"] in valid},
        "test": {row["id"]: int(row["class"]) for row in expected["test"]},
    }
    for shuffle in (None, 1):
        found = divide(Path("x"), manifest, source(rows(file), None, shuffle))
        assert {split: dict(zip(each["raw_text"], each["classification_labels"], strict=True)) for split, each in found.items()} == wanted
        assert all([canonical_id(name) for name in each["id"]] == each["raw_text"] for each in found.values())


def test_four_classes_are_six_without_frustrated_and_those_that_are_left_out() -> None:
    six = {row["id"]: FOUR[row["class"]] for row in rows("iemocap_6way") if row["class"] in FOUR}
    four = {row["id"]: int(row["class"]) for row in rows("iemocap_4way")}
    assert four.items() <= six.items()
    extra = six.keys() - four.keys()
    assert {six[name] for name in extra} == {0}
    digests = sorted(hashlib.sha256(name.encode()).hexdigest()[:12] for name in extra)
    assert digests == list(load_manifest("iemocap", "4way_session5").leave_out)
    assert not set(digests) & {hashlib.sha256(name.encode()).hexdigest()[:12] for name in four}
    assert load_manifest("iemocap").leave_out == ()


def test_what_is_not_known_of_the_binary_tasks_is_not_stated() -> None:
    for part in load_manifest("iemocap", "mult_4binary").parts:
        manifest = load_manifest("iemocap", "mult_4binary", part)
        assert {split: (each.size, each.fingerprint) for split, each in manifest.splits.items()} == {
            "train": (2717, None),
            "valid": (798, None),
            "test": (938, None),
        }
        assert manifest.samples is None
        assert manifest.labels is not None
        assert sum(manifest.labels.counts) == 2717
        assert not manifest.labels.published
