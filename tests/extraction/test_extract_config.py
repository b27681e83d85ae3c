"""Mistakes in an extraction config: all at once, each with its place and the next step; without torch."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from mmbench.errors import ConfigError, DataError
from mmbench.extraction.config import load_plan
from mmbench.extraction.progress import Progress
from mmbench.extraction.run import Extraction
from mmbench.files import shipped

from .samples import make_rows, write_manifest


def test_all_mistakes_at_once(plan, tmp_path) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(
            "text: {name: toy-text, mots: 3}",
            "tokens: {name: toy-text}",
            "audio: {name: toy-sond}",
            "vison: {name: toy-vector}",
            "vision: {name: toy-sound, scale: two}",
            "aligner: {name: time}",
            "max_length: {text: 0}",
        )
    expected = [
        ":5:1: vison: unknown key. Did you mean 'vision'?",
        ":8:14: max_length.text: must be greater than 0 (got 0)",
        ":2:24: text.mots: unknown key. Did you mean 'most'?",
        ":4:9: audio.name: extractor 'toy-sond' is not provided by any installed plugin. Did you mean 'toy-sound'?",
        ":6:27: vision.scale: must be a valid number (got 'two')",
        ":3:10: tokens.name: extractor 'toy-text' gives features; what gives token ids says so in `mmbench show extractor`",
        ":7:11: aligner.name: aligner 'time' is not provided by any installed plugin. Did you mean 'times'?",
    ]
    lines = [line.removeprefix(str(tmp_path / "config.yaml")) for line in str(caught.value).splitlines()]
    assert sorted(lines) == sorted(expected)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["vision: {name: toy-sound}"], ":2:10: vision.name: extractor 'toy-sound' is for audio, not for vision"),
        (["audio: {name: toy-text}"], ":2:9: audio.name: extractor 'toy-text' is for text, not for audio"),
        (["text: {name: toy-ids}"], ":2:8: text.name: extractor 'toy-ids' gives token ids, not features; name it under tokens"),
        ([], "names no extractor; add at least one of text, audio, vision, tokens"),
        (["tokens: {name: toy-ids}", "aligner: {name: times}"], ":3:1: aligner: has nothing to align"),
        (["audio: {name: toy-sound}", "max_length: {text: 3}"], ":3:14: max_length.text: names the modality 'text', which is not extracted"),
        (["audio: [toy-sound]"], ":2:1: audio: must be "),
        (["model: {name: lf_dnn}"], "is the config of an experiment, which mmbench run carries out"),
    ],
)
def test_single_mistakes(plan, lines, message) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(*lines)
    assert message in str(caught.value)


def test_a_modality_that_the_data_set_has_not(plan, tmp_path, raw_folder) -> None:
    names = ("text", "audio")
    shapes = {name: {"length": 5, "width": 2} for name in names}
    write_manifest(tmp_path / "tiny.yaml", make_rows(), modalities=list(names), layouts={"unaligned": {"files": ["x.pkl"], "shapes": shapes}})
    with pytest.raises(ConfigError, match=r":2:1: vision: tiny has no modality 'vision'; it has text, audio"):
        plan("vision: {name: toy-vector}")


def test_a_plan(plan) -> None:
    found = plan("vision: {name: toy-vector}", "text: {name: toy-text, most: 5}", "aligner: {name: times}", "max_length: {text: 9}")
    assert found.modalities == ("text", "vision")
    assert list(found.choices) == ["text", "vision", "aligner"]
    assert found.choices["text"].config.most == 5
    assert found.max_length == {"text": 9}


@pytest.mark.parametrize("name", sorted(path.stem for path in (shipped("configs") / "extract").glob("*.yaml")))
def test_shipped_configs_are_valid(name) -> None:
    for package in ("mmbench_extractors", "torchaudio"):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    assert load_plan(f"extract/{name}").modalities


def test_clips_that_stand_twice_and_folders_without_a_table(plan, tmp_path, raw_folder) -> None:
    found = plan("audio: {name: toy-sound}")
    table = raw_folder / "label.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([*rows, rows[1].replace("0009", "9")]) + "\n")
    with pytest.raises(DataError, match=r"label.csv: the clip vid_0/9 \(vid_0/9\) stands there more than once"):
        Extraction(found, None, tmp_path / "out", "cpu", Progress())
    table.unlink()
    with pytest.raises(DataError, match=r"label\.csv"):
        Extraction(found, None, tmp_path / "out", "cpu", Progress())


def test_one_part_of_a_protocol_is_extracted(tmp_path, toy_extractors) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data: {name: iemocap, protocol: 4way_5fold}\naudio: {name: toy-sound}\n")
    with pytest.raises(ConfigError, match=r"config.yaml:1:1: data: iemocap 4way_5fold has several parts.*data\.part: session1, session2"):
        load_plan(path, (), toy_extractors)
    assert load_plan(path, ("data.part=session3",), toy_extractors).manifest.part == "session3"
