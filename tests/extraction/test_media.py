"""Which file each clip has, and digests that are remembered."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest

from mmbench.extraction.assemble import Aligned, Clip
from mmbench.extraction.media import Listing, digests
from mmbench.extraction.words import split_words
from mmbench.files import cache_folder


@pytest.fixture
def files(tmp_path):
    def make(*names: str):
        for name in names:
            path = tmp_path / "raw" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return tmp_path / "raw"

    return make


def test_the_most_wanted_ending_in_raw_then_in_wav(files, tmp_path) -> None:
    folder = files("Raw/v/1.mp4", "Raw/v/1.WAV", "wav/v/1.wav", "wav/v/2.wav", "Raw/v/2.txt", "Raw/v/3.b.mp4", "own/v/1.wav", "Raw/v/10.wav")
    listing = Listing(folder)
    assert listing.find("v/1", (".wav", ".mp4")) == folder / "Raw/v/1.WAV"
    assert listing.find("v/1", (".mp4", ".wav")) == folder / "Raw/v/1.mp4"
    assert listing.find("v/2", (".wav",)) == folder / "wav/v/2.wav"
    assert listing.find("v/3.b", (".mp4",)) == folder / "Raw/v/3.b.mp4"
    assert listing.find("v/3", (".b.mp4",)) == folder / "Raw/v/3.b.mp4"
    assert listing.find("v/4", (".wav",)) is None
    assert listing.find("w/1", (".wav",)) is None
    assert listing.find("v/1", (".mp4", ".wav"), "own") == folder / "own/v/1.wav"
    assert listing.find("v/1", (".wav",), str(folder / "own")) == folder / "own/v/1.wav"
    assert listing.find("v/2", (".wav",), "own") is None


def test_digests_are_those_of_the_bytes_and_read_once(files) -> None:
    folder = files("a", "b")
    paths = [folder / "a", folder / "b", folder / "none", folder / "a"]
    told: list[tuple[int, int]] = []
    found = digests(folder, paths, lambda *numbers: told.append(numbers))
    assert found == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths[:2]}
    assert told == [(1, 2), (2, 2)]
    assert digests(folder, paths, lambda *numbers: told.append(numbers)) == found
    assert len(told) == 2
    status = paths[0].stat()
    paths[0].write_text("c")
    os.utime(paths[0], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert digests(folder, paths, lambda *numbers: told.append(numbers))[paths[0]] == hashlib.sha256(b"c").hexdigest()
    assert told[2:] == [(1, 1)]


def test_a_note_of_digests_that_is_damaged_is_not_believed(files, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    folder = files("a", "b")
    paths = [folder / "a", folder / "b"]
    found = digests(folder, paths, lambda *_: None)
    (note,) = (cache_folder() / "extracted" / "digests").glob("*.json")
    one, whole = found[paths[0]], note.read_text()
    for damaged in (whole.replace(one, one[::-1]), json.dumps(dict.fromkeys(map(str, paths), 5)), json.dumps({str(paths[0]): [1, 2]}), "[]", ""):
        note.write_text(damaged)
        assert digests(folder, paths, lambda *_: None) == found


def test_frames_that_cannot_be_given_to_words(tmp_path) -> None:
    clip = Clip("train", "v/1", "so good", split_words("so good"))
    for name, length in {"text": 4, "audio": 3, "vision": 1}.items():
        clip.results[name] = tmp_path / f"{name}.npy"
        np.save(clip.results[name], np.zeros((length, 2), np.float32))

    def misfit(modality, rates, spans):
        return Aligned([clip], {}, [modality], rates=rates, spans=spans).misfit(clip)

    found = misfit("audio", {"audio": None}, None)
    assert found is not None
    assert found[0] == "audio"
    assert found[1].startswith("3 frames without a place in the clip cannot be given to words")
    assert misfit("audio", {"audio": 10.0}, None) is None
    assert misfit("vision", {"vision": None}, None) is None
    assert misfit("text", {}, lambda _: [(0, 0), (0, 2), (3, 7), (0, 0)]) is None
    assert misfit("text", {}, lambda _: [(0, 2), (3, 7)]) == ("text", "the extractor names the characters of 2 frames, and gives 4")
    assert (misfit("text", {}, lambda _: None) or ("",))[0] == "text"
