from __future__ import annotations

import csv
import gzip
import hashlib
import pickle
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench import strict_yaml
from mmbench.config import DataConfig
from mmbench.data.checks import examine
from mmbench.data.ids import fingerprint
from mmbench.data.load import open_source
from mmbench.errors import DataError

from .format_fixtures import mult_content, write_manifest, write_pickle

REAL = Path(__file__).parents[3] / "shared" / "data"


def read(tmp_path: Path, content: Any, names: dict[str, list[str]] | None = None, **options: Any) -> tuple[Any, list[str]]:
    published = {split: {"id": (names or {}).get(split, ["none"])} for split in ("train", "valid", "test")}
    manifest = write_manifest(tmp_path, published)
    return examine(DataConfig(name=manifest, path=str(write_pickle(tmp_path / "mult.pkl", content, 2)), **options))


def test_padding_is_where_all_modalities_are_zero_at_an_end(tmp_path: Path) -> None:
    content, lengths = mult_content(aligned=True)
    train = content["train"]
    train["text"][0, -1] = 0  # a word without a vector
    train["audio"][1, -2:] = train["vision"][1, -2:] = 0  # two words that are text alone
    train["text"][2, -2] = train["audio"][2, -2] = train["vision"][2, -2] = 0  # a pause before the last word
    dataset, _ = read(tmp_path, content)
    longest = train["text"].shape[1]
    for name in ("text", "audio", "vision"):
        mask = np.asarray(dataset.splits["train"].inputs[name].mask)
        assert mask.tolist() == [[t >= longest - n for t in range(longest)] for n in lengths["train"]]
    assert sum("all zero count as padding (our choice" in text for text in dataset.record["warnings"]) == 1
    assert dataset.record["layout"] == "aligned"


def test_padding_at_the_end_too(tmp_path: Path) -> None:
    content, lengths = mult_content(aligned=True)
    for name in ("text", "audio", "vision"):
        content["valid"][name] = content["valid"][name][:, ::-1]
    dataset, _ = read(tmp_path, content)
    mask = np.asarray(dataset.splits["valid"].inputs["audio"].mask)
    assert mask.sum(axis=1).tolist() == lengths["valid"]
    assert mask[:, 0].all()


def test_all_frames_of_an_unaligned_file_are_real_and_that_is_said(tmp_path: Path) -> None:
    content, _ = mult_content(aligned=False)
    dataset, _ = read(tmp_path, content)
    assert all(np.asarray(dataset.splits[s].inputs[m].mask).all() for s in content for m in ("text", "audio", "vision"))
    assert sum("all count as real" in text for text in dataset.record["warnings"]) == 3
    assert dataset.record["layout"] == "unaligned"


def test_minus_infinity_in_the_audio_is_zero_and_a_real_frame(tmp_path: Path) -> None:
    content, _ = mult_content(aligned=True)
    content["train"]["text"][0, -1] = content["train"]["vision"][0, -1] = 0
    content["train"]["audio"][0, -1] = -np.inf
    audio = read(tmp_path, content)[0].splits["train"].inputs["audio"]
    assert audio.mask[0, -1]
    assert not audio.values[0, -1].any()


@pytest.mark.parametrize("spelling", ["bytes array", "text array", "tuples", "names"])
def test_ids_that_name_the_clip(tmp_path: Path, spelling: str) -> None:
    content, _ = mult_content(aligned=True)
    for number, part in enumerate(content.values()):
        rows = [(f"v_{number}_{i + 1}", "1.5", "2.5") for i in range(len(part["labels"]))]
        part["id"] = {
            "bytes array": np.array(rows, dtype="S10"),
            "text array": np.array(rows),
            "tuples": [tuple(map(str.encode, row)) for row in rows],
            "names": np.array([row[0] for row in rows]),
        }[spelling]
    dataset, _ = read(tmp_path, content)
    assert dataset.splits["train"].ids[:2] == ("v_0/1", "v_0/2")
    assert not any("numbered" in text for text in dataset.record["warnings"])


def test_clips_are_counted_by_their_starts_where_ids_name_videos_alone(tmp_path: Path) -> None:
    content, _ = mult_content(aligned=True)
    sizes = {split: len(part["labels"]) for split, part in content.items()}
    for split, part in content.items():  # one video of each split, its clips from the last to the first
        part["id"] = np.array([(f"video{split}", f"{100.5 - i:.2f}", "0") for i in range(sizes[split])])
    expected = {split: [f"video{split}/{n - i}" for i in range(n)] for split, n in sizes.items()}
    dataset, problems = read(tmp_path, content, expected)
    assert {split: list(dataset.splits[split].ids) for split in sizes} == expected
    assert problems == []
    assert any("numbered from 1 in each video" not in text and "numbered from 1" in text for text in dataset.record["warnings"])


def test_counted_clips_are_checked_against_the_counted_fingerprint(tmp_path: Path) -> None:
    """The published ids may leave out numbers, as those of MOSEI do; the manifest then has a fingerprint of the counted ids as well."""
    content, _ = mult_content(aligned=True)
    names = {}
    for split, part in content.items():
        part["id"] = np.array([(f"video{split}", f"{i}.0", "0") for i in range(len(part["labels"]))])
        names[split] = [f"video{split}/{3 * i}" for i in range(len(part["labels"]))]
    assert len(read(tmp_path, content, names)[1]) == 3
    path = tmp_path / "tiny.yaml"
    manifest = strict_yaml.load(path)
    for split, ids in names.items():
        manifest["splits"][split]["counted"] = fingerprint([f"video{split}/{i + 1}" for i in range(len(ids))])
    path.write_text(strict_yaml.dump(manifest))
    config = DataConfig(name=str(path), path=str(tmp_path / "mult.pkl"))
    assert examine(config)[1] == []
    content["train"]["id"][0, 0] = "another"
    assert examine(config.model_copy(update={"path": str(write_pickle(tmp_path / "b.pkl", content))}))[1]
    for split, part in content.items():  # numbers that a file states are the published ones or none
        part["id"] = np.array([f"video{split}[{i + 1}]" for i in range(len(part["labels"]))])
    assert len(examine(config.model_copy(update={"path": str(write_pickle(tmp_path / "c.pkl", content))}))[1]) == 3


def test_a_file_without_ids(tmp_path: Path) -> None:
    content, _ = mult_content(aligned=True)
    for part in content.values():
        del part["id"]
    dataset, _ = read(tmp_path, content)
    assert dataset.splits["valid"].ids[:2] == ("valid/0", "valid/1")
    assert any("no ids" in text for text in dataset.record["warnings"])


def test_labels_are_those_of_the_file(tmp_path: Path) -> None:
    content, _ = mult_content(aligned=True)
    dataset, _ = read(tmp_path, content)
    np.testing.assert_array_equal(dataset.splits["test"].target, content["test"]["labels"][:, 0, 0].astype(np.float32))


def test_one_hot_labels_are_columns_of_classes(tmp_path: Path) -> None:
    from mmbench.data.formats.mult import MultFormat
    from mmbench.data.manifest import load_manifest

    content, _ = mult_content(aligned=True)
    truth = {}
    for split, part in content.items():
        truth[split] = np.random.default_rng(0).integers(0, 2, (len(part["labels"]), 4))
        part["labels"] = np.eye(2)[truth[split]]
    path = write_pickle(tmp_path / "iemocap_data.pkl", content)
    found = MultFormat().read(path, load_manifest("mosi"))
    for split in truth:
        np.testing.assert_array_equal(found[split]["classification_labels"], truth[split])
        assert "regression_labels" not in found[split]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda part: part.update(labels=np.zeros((5, 3, 3))), r"labels have the shape \(5, 3, 3\)"),
        (lambda part: part.update(id=[3] * 5), "is no name"),
        (lambda part: part.update(id=3), "id: int instead of a list"),
        (lambda part: part.update(labels=np.array(3.0)), "labels"),
        (lambda part: part.update(id=np.array([("v", "soon", "1")] * 5)), "soon"),
        (lambda part: part.update(text=part["text"][:3]), "text has 3"),
        (lambda part: part.update(audio=[1]), "audio"),
    ],
)
def test_what_is_not_as_mult_has_it(tmp_path: Path, change: Any, message: str) -> None:
    content, _ = mult_content(aligned=True)
    change(content["valid"])
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


def test_a_damaged_file_and_another_file(tmp_path: Path) -> None:
    content, _ = mult_content(aligned=True)
    path = tmp_path / "half.pkl"
    path.write_bytes(pickle.dumps(content)[:1000])
    manifest = write_manifest(tmp_path, {split: {"id": ["a"]} for split in content})
    with pytest.raises(DataError, match="damaged or cut short"):
        examine(DataConfig(name=manifest, path=str(path), format="mult"))
    write_pickle(path, {"train": {}})
    with pytest.raises(DataError, match="is no pickle of MulT"):
        examine(DataConfig(name=manifest, path=str(path), format="mult"))


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real CMU-MOSI")
def test_counting_gives_the_published_split_of_the_real_mosi() -> None:
    from mmbench.data.formats.mult import _counted
    from mmbench.data.manifest import load_manifest

    with np.load(REAL / "mosi" / "mosi_utterance.npz", allow_pickle=False) as real:
        rows = list(zip(real["split_standard"], real["video_id"], real["start_end"].tolist(), real["segment"], strict=True))
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    parts = {split: [row for row in shuffled if row[0] == split] for split in ("train", "valid", "test")}
    counted = _counted({split: [(str(video), tuple(times)) for _, video, times, _ in part] for split, part in parts.items()})
    canonical = {split: [name.replace("$_$", "/") for name in names] for split, names in counted.items()}
    assert {split: fingerprint(names) for split, names in canonical.items()} == {
        split: part.fingerprint for split, part in load_manifest("mosi").splits.items()
    }
    true = {split: [f"{video}/{segment}" for _, video, _, segment in part] for split, part in parts.items()}
    wrong = {a.rpartition("/")[0] for split in true for a, b in zip(true[split], canonical[split], strict=True) if a != b}
    # Clips that stand at the time of others, or at the same: why a notice says that clips were counted.
    assert wrong == {"VbQk4H8hgr0", "d6hH302o4v8", "bOL9jKpeJRs"}


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the published splits")
def test_the_counted_fingerprints_of_mosei() -> None:
    from mmbench.data.manifest import load_manifest

    videos: dict[str, Counter[str]] = defaultdict(Counter)
    with gzip.open(REAL / "splits" / "mosei.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            videos[row["split"]][row["id"].rpartition("/")[0]] += 1
    for split, counts in videos.items():
        names = sorted(f"{video}/{number}" for video, count in counts.items() for number in range(1, count + 1))
        assert load_manifest("mosei").splits[split].counted == hashlib.sha256("\n".join(names).encode()).hexdigest()


STRANGE = [5, "x", b"y", [], {}, (), [1], [None] * 5, np.array(3), np.zeros(0), np.array(["a"] * 5), np.array([{}], dtype=object), [[1, 2], [3]]]


@pytest.mark.parametrize("key", ["text", "audio", "vision", "labels", "id", "extra"])
def test_whatever_stands_in_a_file_is_read_or_refused(tmp_path: Path, key: str) -> None:
    refused = 0
    for value in [*STRANGE, np.zeros((5, 0, 3)), np.full((5, 7, 4), np.nan), True]:
        content, _ = mult_content(aligned=True)
        content["valid"][key] = value
        try:
            read(tmp_path, content, format="mult")
        except DataError:
            refused += 1
    assert refused >= (14 if key != "extra" else 0)


@pytest.mark.parametrize(("name", "file"), [("mosi", "MOSI/mosi_data.pkl"), ("mosei", "mosei_senti_data_noalign.pkl")])
def test_usual_names_of_files(tmp_path: Path, name: str, file: str) -> None:
    content, _ = mult_content(aligned=True)
    path = write_pickle(tmp_path / file, content)
    assert open_source(DataConfig(name=name), tmp_path).path == path
