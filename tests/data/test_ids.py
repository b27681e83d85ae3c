from __future__ import annotations

import csv
import gzip
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench.data.ids import canonical_id, fingerprint, video_of
from mmbench.data.manifest import list_manifests, load_manifest

VIDEOS = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "splits"


@given(VIDEOS, st.integers(0, 99999), st.integers(0, 4))
def test_every_spelling_gives_one_id(video: str, clip: int, zeros: int) -> None:
    padded = "0" * zeros + str(clip)
    expected = f"{video}/{clip}"
    for spelling in (f"{video}$_${padded}", f"{video}[{padded}]", f"{video}/{padded}", f"{video}_{padded}"):
        assert canonical_id(spelling) == expected
        assert canonical_id(spelling.encode()) == expected
    assert canonical_id(expected) == expected
    assert video_of(expected) == video


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("video_0001$_$0001", "video_0001/1"),
        ("video_0001_0001", "video_0001/1"),
        ("aqgy3_0006/00012", "aqgy3_0006/12"),
        ("_dI--eQ6qVU_7", "_dI--eQ6qVU/7"),
        ("LQnXVd-PR_Y[10]", "LQnXVd-PR_Y/10"),
        ("Ses05F_script02_1_M004", "Ses05F_script02_1/M004"),
        ("a$_$0000", "a/0"),
        ("视频é$_$01", "视频é/1"),
        (17, "17"),
        ("nothing-to-split", "nothing-to-split"),
    ],
)
def test_spellings_in_the_wild(spelling: object, expected: str) -> None:
    assert canonical_id(spelling) == expected


@pytest.mark.parametrize("spelling", [None, 1.5, True, ("video", 1), b"\xff\xfe", "", " ", "a\nb$_$1", "a\0_1", "\x1b[31mred_1", "\udcff_1"])
def test_what_is_no_id_is_refused(spelling: object) -> None:
    with pytest.raises(ValueError):
        canonical_id(spelling)


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=6, unique=True), st.randoms())
def test_fingerprint_is_of_the_set(ids: list[str], random: object) -> None:
    shuffled = list(ids)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fingerprint(shuffled) == fingerprint(ids)
    assert fingerprint(ids[1:]) != fingerprint(ids)


def test_fingerprint_by_hand() -> None:
    assert fingerprint(["b/2", "a/10", "a/9"]) == hashlib.sha256(b"a/10\na/9\nb/2").hexdigest()


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published splits are not beside this checkout")
@pytest.mark.parametrize("name", list_manifests())
def test_manifests_have_the_published_fingerprints(name: str) -> None:
    manifest = load_manifest(name)
    with gzip.open(PUBLISHED / f"{'iemocap_6way' if name == 'iemocap' else name}.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for key, split in manifest.splits.items():
        parts = ("train",) if key == "train+valid" else (key,)
        ids = [row["id"] for row in rows if row["split"] in parts]
        assert (len(ids), fingerprint(ids)) == (split.size, split.fingerprint)
        assert [canonical_id(name) for name in ids] == ids
    assert fingerprint([row["id"] for row in rows]) == manifest.samples
    train = [row for row in rows if row["split"] == "train"]
    for value, count in zip(manifest.labels.values, manifest.labels.counts, strict=True):
        assert sum(abs(float(row["label"] or row["class"]) - value) < 1e-3 for row in train) == count


@pytest.mark.parametrize(("spelling", "expected"), [("a$_$b[12]", "a/b/12"), ("a$_$b$_$03", "a/b/3"), ("a[ 2]", "a/ 2"), ("a[012 ]", "a/12")])
def test_a_canonical_id_stays_as_it_is(spelling: str, expected: str) -> None:
    assert canonical_id(spelling) == expected
    assert canonical_id(expected) == expected
