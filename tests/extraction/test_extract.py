"""From a raw folder to data sets, with extractors whose results can be computed by hand."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from mmbench.config import DataConfig
from mmbench.data.load import load_dataset
from mmbench.errors import ConfigError, DataError
from mmbench.extraction import write as writing

from .samples import SIZES, make_rows, sound, write_raw, write_words

SOUND = "audio: {name: toy-sound}"


def test_unaligned(extract, tmp_path) -> None:
    outcome = extract(SOUND, "text: {name: toy-text}", "tokens: {name: toy-ids}", "vision: {name: toy-vector}", "max_length: {audio: 7}")
    (written,) = outcome.written
    assert written.store.folder == tmp_path / "out" / "tiny" / "unaligned"
    dataset = load_dataset(DataConfig(name=str(tmp_path / "tiny.yaml"), path=str(written.store.folder)))
    rows = make_rows()
    for split, size in SIZES.items():
        own = [(i, row) for i, row in enumerate(rows) if row["mode"] == split]
        part = dataset.splits[split]
        assert part.ids == tuple(f"{row['video_id']}/{row['clip_id'].lstrip('0')}" for _, row in own)
        assert part.target.tolist() == [float(row["label"]) for _, row in own]
        np.testing.assert_allclose(part.unimodal_targets["text"], [float(row["label_T"]) for _, row in own], rtol=1e-3)
        assert part.transcripts == tuple(row["text"] for _, row in own)
        for n, (i, row) in enumerate(own):
            expected = [[float(byte), float(byte) ** 2] for byte in sound(i)][:7]
            audio = part.inputs["audio"]
            assert audio.values[n][audio.mask[n]].tolist() == expected
            text = part.inputs["text"]
            codes = [-1, *map(ord, row["text"]), -1]
            assert text.values[n][text.mask[n]].tolist() == [[code, place] for place, code in enumerate(codes)]
            assert part.inputs["vision"].values[n].tolist() == [[i, 1, 2]]
            tokens = written.store.arrays[f"{split}/tokens/text"][n][written.store.arrays[f"{split}/tokens_mask/text"][n]]
            assert tokens.tolist() == [1, *map(ord, row["text"]), 2]
        assert len(part) == size
    assert dataset.record["split_status"] == "published"
    assert dataset.record["layout"] == "unaligned"
    assert dataset.record["extraction"] == written.store.document["origin"]["extraction"]
    assert not any("no known copy" in warning for warning in dataset.record["warnings"])
    assert any("max_length: 5 clips had more frames; the last 15 frames" in warning for warning in dataset.record["warnings"])


def test_of_two_extractions_into_one_folder_at_once_both_succeed(extract, tmp_path, monkeypatch) -> None:
    """Another one puts the same data set in its place while this one is writing."""
    original, others = writing.write_store, []

    def slow(*arguments) -> None:
        if not others:
            others.append(None)
            others[0] = extract(SOUND)
        original(*arguments)

    monkeypatch.setattr(writing, "write_store", slow)
    outcome = extract(SOUND)
    assert [outcome.written[0].changed, others[0].written[0].changed] == [False, True]
    assert outcome.written[0].store.document == others[0].written[0].store.document
    assert [path.name for path in (tmp_path / "out" / "tiny").iterdir()] == ["unaligned"]


def test_aligned_and_the_cache(extract, tmp_path, raw_folder) -> None:
    rows = make_rows(("so good", "bad - film", "a film, good!", "ok", "", "it was fine, today"))
    write_raw(raw_folder, rows)
    write_words(raw_folder, rows)
    lines = [SOUND, "text: {name: toy-text, most: 13}", "tokens: {name: toy-ids}", "vision: {name: toy-vector}", "aligner: {name: times}"]
    outcome = extract(*lines, "max_length: {audio: 2}")
    unaligned, aligned = (written.store for written in outcome.written)
    assert unaligned.arrays["train/features/audio"].shape[1] == 2
    assert [name for name in aligned.arrays if "tokens" in name] == []
    dataset = load_dataset(DataConfig(name=str(tmp_path / "tiny.yaml"), path=str(tmp_path / "out" / "tiny" / "aligned"), features="aligned"))
    for split, part in dataset.splits.items():
        for n, i in enumerate(i for i, row in enumerate(rows) if row["mode"] == split):
            text, words = rows[i]["text"], [word for word in rows[i]["text"].split() if word != "-"] or [""]
            if i in (5, 11):  # the extractor of text reads "it was fine, " alone
                words = words[:3]
            masks = [part.inputs[name].mask[n] for name in ("text", "audio", "vision")]
            assert [mask.sum() for mask in masks] == [len(words)] * 3
            codes = [np.mean([ord(letter) for letter in word]) if word else 0 for word in words]
            np.testing.assert_allclose(part.inputs["text"].values[n][masks[0]][:, 0], codes, rtol=1e-6)
            # word j lasts from 0.2 j to 0.2 j + 0.2 s, which are the bytes 2 j and 2 j + 1 of ten in a second, as far as there are so many
            content = sound(i)
            if not text:
                content = bytes([int(np.mean(list(content)))] * 2)  # all of it is one word
            expected = [np.mean([content[k] for k in (2 * j, 2 * j + 1) if k < len(content)] or [content[-1]]) for j in range(len(words))]
            np.testing.assert_allclose(part.inputs["audio"].values[n][masks[1]][:, 0], expected, rtol=1e-6, err_msg=text)
            assert part.inputs["vision"].values[n][masks[2]].tolist() == [[i, 1, 2]] * len(words)
    said = "\n".join(dataset.record["warnings"])
    assert "text: 2 transcripts are longer than the extractor of the text reads; their last words (2 of all) were left out" in said
    assert "vision: 12 clips have one vector for the whole clip, which is repeated for each word" in said
    assert "text: 2 words (of 2 clips) have no token; they are zeros" in said
    assert "text: 2 transcripts have no word" in said
    assert "audio: 3 words (of 3 clips) have no frame of their own" in said
    origin = aligned.document["origin"]
    assert (origin["name"], origin["known"], len(origin["digest"])) == ("tiny", False, 64)
    assert set(origin["extraction"]["extractors"]) == {"text", "audio", "vision", "aligner"}
    assert origin["extraction"]["extractors"]["audio"]["options"] == {"scale": 1.0, "folder": None}
    assert origin["extraction"]["extractors"]["audio"]["frame_rate"] == 10

    again = extract(*lines, "max_length: {audio: 2}")
    assert [(each.done, each.cached) for each in again.extractors.values()] == [(0, 12)] * 4 + [(0, 10)]
    assert [written.changed for written in again.written] == [False, False]
    other = [*lines, "max_length: {audio: 3}"]
    with pytest.raises(DataError, match=r"unaligned: holds a data set made of other labels, recordings or options .*--replace"):
        extract(*other)
    third = extract(*other, replace=True)
    assert [written.changed for written in third.written] == [True, False]
    assert sorted(path.name for path in (tmp_path / "out" / "tiny").iterdir()) == ["aligned", "unaligned"]

    lines[0] = "audio: {name: toy-sound, scale: 2}"
    changed = extract(*lines, replace=True)
    assert {key: each.done for key, each in changed.extractors.items()} == {"text": 0, "tokens": 0, "audio": 12, "vision": 0, "aligner": 0}
    twice = changed.written[0].store.arrays["train/features/audio"]
    first = twice[0][changed.written[0].store.arrays["train/features_mask/audio"][0]]
    assert first[:, 0].tolist() == [2.0 * byte for byte in sound(3)]


def test_failed_clips_are_listed_and_nothing_is_written(extract, tmp_path, raw_folder) -> None:
    rows = make_rows()
    paths = [raw_folder / "Raw" / row["video_id"] / f"{row['clip_id']}.snd" for row in rows]
    for i, content in {1: b"BROKEN", 3: b"SEGV", 5: b"\x01\xff", 7: b"BROKEN", 10: b""}.items():
        paths[i].write_bytes(content)
    paths[8].unlink()
    (paths[8].with_suffix(".bin")).unlink()
    paths[4].rename(paths[4].with_suffix(".MP4"))
    (raw_folder / "wav" / "vid_0").mkdir(parents=True)
    paths[0].rename(raw_folder / "wav" / "vid_0" / paths[0].name)
    outcome = extract(SOUND, "vision: {name: toy-vector}", jobs=2)
    assert outcome.written == []
    folder = tmp_path / "out" / "tiny"
    assert [path.name for path in folder.iterdir()] == ["failures.csv"]
    with open(folder / "failures.csv", newline="") as file:
        table = list(csv.DictReader(file))
    reasons = [(row["clip"], row["modality"], row["reason"]) for row in table]
    names = [f"{row['video_id']}/{row['clip_id']}" for row in rows]
    assert reasons == [
        (names[3], "audio", "its process died (SIGSEGV): a native library has something to say"),
        (names[5], "audio", "the extractor gave 2 values that are NaN or infinite"),
        (names[7], "audio", "is damaged"),
        (names[8], "audio", f"there is no {names[8]} with the ending .snd, .mp4 in Raw/ and wav/"),
        (names[8], "vision", f"there is no {names[8]} with the ending .bin, .mp4 in Raw/ and wav/"),
        (names[10], "audio", "holds nothing to extract from"),
        (names[1], "audio", "is damaged"),
    ]
    assert [row["split"] for row in table] == ["train"] * 3 + ["train"] * 2 + ["valid", "test"]
    assert table[0]["file"] == str(paths[3])

    paths[3].write_bytes(b"BROKEN")  # so that no process dies again
    outcome = extract(SOUND, "vision: {name: toy-vector}", leave_out=True)
    (written,) = outcome.written
    assert len(outcome.failures) == 7
    assert sum(len(part["ids"]) for part in written.store.document["splits"].values()) == 6
    assert [part["ids"] for part in written.store.document["splits"].values()] == [
        ["vid_1/10", "vid_2/9"],
        ["vid_3/9", "vid_3/11"],
        ["vid_0/9", "vid_0/11"],
    ]
    said = [f"{notice['modality']}: {notice['text']}" for notice in written.store.document["notices"]]
    assert "audio: 6 clips are left out of the data set, since audio could not be extracted; first vid_1/0009, vid_1/0011, vid_2/0010" in said
    assert written.store.document["origin"]["extraction"]["left_out"] == [names[i] for i in (3, 5, 7, 8, 10, 1)]
    config = DataConfig(name=str(tmp_path / "tiny.yaml"), path=str(written.store.folder), modalities=("audio",))
    with pytest.raises(DataError, match="split train is not the published one"):
        load_dataset(config)


def test_frames_without_a_place_cannot_be_aligned(extract, raw_folder) -> None:
    write_words(raw_folder, make_rows())
    with pytest.raises(ConfigError, match=r"text: toys/toy-text does not say for which words its frames stand"):
        extract("text: {name: toy-text, spans: false}", "aligner: {name: times}")


def test_a_library_that_is_missing_ends_everything_at_once(extract, tmp_path, raw_folder) -> None:
    for path in raw_folder.glob("Raw/*/*.snd"):
        path.write_bytes(b"NO READER" + path.read_bytes())
    with pytest.raises(DataError, match=r"^videos need a reader: pip install reader$"):
        extract(SOUND)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_is_named_with_the_reason(extract, raw_folder) -> None:
    path = raw_folder / "Raw" / "vid_1" / "0010.snd"
    path.unlink()
    path.mkdir()
    (failure,) = extract(SOUND).failures
    assert (failure.clip, failure.file, failure.reason) == ("vid_1/0010", str(path), "cannot be read: Is a directory")


def test_a_place_that_cannot_be_written_is_refused_before_any_work(extract, tmp_path) -> None:
    (tmp_path / "out").write_text("no folder")
    with pytest.raises(DataError, match=r"out/tiny: cannot be written: .*out is a file; --out names another folder"):
        extract(SOUND)
    assert not list((tmp_path / "cache").glob("extracted/*/*.npy"))
