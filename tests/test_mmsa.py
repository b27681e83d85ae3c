"""An MMSA configuration becomes a config: every key has its counterpart, or a reason."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmbench.cli import new
from mmbench.config import Experiment
from mmbench.errors import ConfigError
from mmbench.mmsa import Block, read_block, tables, translate
from mmbench.plugins import catalogue
from mmbench.resolve import load

LAYOUTS = ("aligned", "unaligned")
WHOLE = {
    "datasetCommonParams": {},
    "tfn": {
        "commonParams": {"need_data_aligned": False, "need_normalized": True, "early_stop": 3, "odd": "a\nb"},
        "datasetParams": {"mosi": {"hidden_dims": [11, 12, 13], "dropouts": [0.1, 0.1, 0.2, 0.3], "batch_size": 7, "learning_rate": 0.02}},
    },
    "unknown": {"commonParams": {}, "datasetParams": {}},
}


@pytest.mark.parametrize("model", list(tables()))
def test_every_counterpart_exists(model: str) -> None:
    if not catalogue().has("model", model):
        pytest.skip(f"{model} is not installed")
    options = catalogue().find("model", model).load_config().model_fields
    places = [place for key in tables()[model].values() for place in (*key.to, *key.first) if place]
    assert len(places) > 5
    for place in places:
        first, second, *_ = place.split(".")
        if first == "model":
            assert second in options, place
        elif first == "losses":
            assert catalogue().has("loss", second), place
        else:
            assert second in Experiment.model_fields[first].annotation.model_fields, place  # type: ignore[union-attr]
    assert all(key.to or key.note for key in tables()[model].values())


def test_values_go_where_they_belong() -> None:
    found = translate(Block("mult", "mosi", {"dst_feature_dim_nheads": [24, 6], "attn_dropout": 0.4, "patience": 9, "attn_mask": False}), LAYOUTS)
    assert dict(found.values) == {
        "model.width": 24,
        "model.heads": 6,
        "model.attention_dropout.text": 0.4,
        "model.memory_dropout": 0.4,
        "training.scheduler.patience": 9,
        "model.causal": False,
    }
    assert found.defaults == {"training.scheduler": {"name": "plateau"}}
    assert found.remarks == ()


def test_what_does_not_fit_is_remarked() -> None:
    values = {"need_data_aligned": True, "dropouts": [0.1, 0.2, 0.1, 0.5], "hidden_dims": [1, 2], "text_out": 8, "use_bert": True, "new": None}
    found = translate(Block("tfn", "sims", values), ("unaligned",))
    assert dict(found.values) == {"model.dropout": 0.1, "model.fusion_dropout": 0.5, "model.text_width": 8}
    assert found.remarks == (
        "need_data_aligned = true: sims has no aligned features",
        "dropouts = [0.1, 0.2, 0.1, 0.5]: one model.dropout here, which is 0.1",
        "hidden_dims = [1, 2]: 3 values are expected",
        "use_bert = true: an encoder inside the loop is named in model.encoders.text",
        "new = null: not known here",
    )


def verb(*arguments: str) -> None:
    done = CliRunner().invoke(new.command, ["config", *arguments])
    if done.exception is not None:
        raise done.exception


@pytest.mark.skipif(not catalogue().has("model", "tfn"), reason="needs the baselines")
def test_a_file_of_mmsa_becomes_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mmsa.json").write_text(json.dumps(WHOLE))
    verb("--from-mmsa", "mmsa.json", "--model", "tfn", "--dataset", "mosi")
    (found,) = load("my_tfn_mosi.yaml")
    assert found.model.config.hidden == {"text": 11, "audio": 12, "vision": 13}
    assert found.experiment.data.features == "unaligned"
    training = found.experiment.training
    assert (training.batch_size, training.optimizer.lr, training.early_stopping) == (7, 0.02, 3)
    text = Path("my_tfn_mosi.yaml").read_text()
    assert "#   dropouts = [0.1, 0.1, 0.2, 0.3]: one model.dropout here, which is 0.1\n" in text
    assert '#   odd = "a\\nb": not known here\n' in text
    Path("own.json").write_text(json.dumps({"batch_size": 5, "post_fusion_dim": 21}))
    verb("--from-mmsa", "own.json", "--model", "tfn", "--data", "mosei", "--out", "own.yaml")
    assert load("own.yaml")[0].model.config.fusion_width == 21
    assert "# Then those of an MMSA configuration.\n" in Path("own.yaml").read_text()


def test_mistakes_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mmsa.json"
    path.write_text(json.dumps(WHOLE))
    for model, data, message in (
        (None, "mosi", "mmsa.json: say with --model which is meant: tfn"),
        ("unknown", "mosi", "mmsa.json: --model unknown: there is none that is known here; there are tfn"),
        ("tfn", None, "mmsa.json: say with --data which is meant: mosi"),
        ("tfn", "sims", "mmsa.json: --data sims: there is none that is known here; there are mosi"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            read_block(path, model, data)
    with pytest.raises(ConfigError, match=r"none.json: cannot be read: No such file or directory; MMSA has it in its package"):
        read_block(tmp_path / "none.json", "tfn", "mosi")
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"say with --data which is meant: .*mosei, mosi"):
        read_block(path, "tfn", None)
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="is not an object of keys and values"):
        read_block(path, "tfn", "mosi")
    path.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        read_block(path, "tfn", "mosi")
    path.write_text(json.dumps({"datasetCommonParams": {}, "tfn": {"commonParams": [], "datasetParams": {"mosi": {}}}}))
    with pytest.raises(ConfigError, match=r"tfn: commonParams and datasetParams\.mosi must be objects"):
        read_block(path, "tfn", "mosi")
    path.write_text(json.dumps({"datasetCommonParams": {}, "tfn": {"commonParams": {}}}))
    with pytest.raises(ConfigError, match="--data mosi: there is none that is known here; there are none"):
        read_block(path, "tfn", "mosi")
