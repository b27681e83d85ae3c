"""Videos and content that stand in two splits are told of by ``mmbench data check``."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench.cli.data import command
from mmbench.data.dataset import Modality
from mmbench.data.load import load_dataset
from mmbench.data.overlaps import overlaps
from mmbench.errors import DataError


def copied(content: dict[str, Any], source: tuple[str, int], target: tuple[str, int]) -> None:
    """Everything of a sample but its id, in the place of another."""
    for key, values in content[source[0]].items():
        if key != "id":
            content[target[0]][key][target[1]] = values[source[1]]


def test_content_in_two_splits(write: Any, content: Any) -> None:
    assert overlaps(load_dataset(write(content))) == []
    copied(content, ("train", 3), ("test", 5))
    copied(content, ("train", 4), ("valid", 1))
    content["train"]["text"][7], content["test"]["text"][6] = 0, 0  # silence is no copy of silence
    found = overlaps(load_dataset(write(content)))
    train, valid, test = (content[name]["id"] for name in ("train", "valid", "test"))
    plain = {name: str(name).replace("$_$000", "/") for name in (*train, *valid, *test)}
    assert found == [
        f"1 samples of valid hold what samples of train hold, in every modality; first {plain[valid[1]]}, as {plain[train[4]]}",
        f"1 samples of test hold what samples of train hold, in every modality; first {plain[test[5]]}, as {plain[train[3]]}",
    ]


def test_videos_in_two_splits(write: Any, content: Any) -> None:
    content["test"]["id"][:2] = [f"{content['train']['id'][0].split('$')[0]}$_$0090", f"{content['train']['id'][3].split('$')[0]}$_$0091"]
    config = write(content).model_copy(update={"splits": "own"})
    dataset = load_dataset(config)
    assert overlaps(dataset) == ["2 of the 5 videos of test are in train too, first video_0"]
    assert overlaps(dataset, ids_per_split=True) == []
    arguments = ["check", config.path, "--as", config.name, "--set", "data.splits=own"]
    done = CliRunner().invoke(command, arguments)
    assert "\nin two splits: 2 of the 5 videos of test are in train too, first video_0\n" in done.output
    assert json.loads(CliRunner().invoke(command, [*arguments, "--json"]).output)["shared"] == overlaps(dataset)


def test_an_id_in_two_splits_is_refused(write: Any, content: Any) -> None:
    content["test"]["id"][0] = content["train"]["id"][0]
    with pytest.raises(DataError, match=r"1 samples of test stand there more than once; first video_0/0, in train and in test"):
        load_dataset(write(content).model_copy(update={"splits": "own"}))


def test_raw_text_is_compared_with_what_stands_beside_it(write: Any, content: Any) -> None:
    dataset = load_dataset(write(content))

    def raw(split: Any, words: str) -> Any:
        empty = Modality(np.zeros((len(split), 0), np.int64), np.zeros((len(split), 0), bool))
        one = {name: Modality(np.ones_like(part.values), np.ones_like(part.mask)) for name, part in split.inputs.items() if name == "audio"}
        return replace(split, inputs={"text": empty, **one}, transcripts=(words,) * len(split))

    equal = {name: raw(split, "yes") for name, split in dataset.splits.items()}
    assert len(overlaps(replace(dataset, splits=equal))) == 3
    other = {name: raw(split, name) for name, split in dataset.splits.items()}
    assert overlaps(replace(dataset, splits=other)) == []
    alone = {name: replace(split, inputs={"text": split.inputs["text"]}) for name, split in equal.items()}
    assert overlaps(replace(dataset, splits=alone)) == []
