from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mmbench.cli.data import command
from mmbench.config import DataConfig
from mmbench.data.checks import describe, examine
from mmbench.data.load import load_dataset
from mmbench.errors import ConfigError, DataError, MmbenchError

from .samples import make_content


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, list(map(str, arguments)))


def failure(*arguments: object) -> MmbenchError:
    error = invoke(*arguments).exception
    assert isinstance(error, MmbenchError), error
    return error


def row(page: str, name: str) -> list[str]:
    rows = [line.split() for line in page.splitlines() if line.split()[:1] == [name]]
    assert len(rows) == 1, page
    return rows[0]


def test_the_page(write: Any, content: Any) -> None:
    content["train"]["audio"][0, :2] = 0
    content["train"]["vision"][1, 0, 0] = np.nan
    content["config"] = {}
    dataset = load_dataset(write(content))
    page = describe(dataset)
    assert row(page, "train")[1:] == ["12", "4", dataset.record["splits"]["train"]["fingerprint"]]
    assert row(page, "sha256")[1] == dataset.record["sha256"]
    assert "not a known copy" in page
    kind, size, longest, mean, zero, replaced = row(page, "audio")[1:]
    assert (kind, size, longest, zero, replaced) == ("features", "3", "9", "2", "0")
    lengths = [length for part in content.values() if "audio_lengths" in part for length in part["audio_lengths"]]
    assert float(mean) == round(float(np.mean(lengths)), 2)
    assert row(page, "vision")[-1] == "1"
    assert row(page, "-3")[1:] == ["1", "1", "1"]
    labels = np.concatenate([content["train"]["regression_labels"]])
    assert page.count("below 0") == 1
    assert [line.split()[2] for line in page.splitlines() if line.startswith("below 0")] == [str(int((labels < 0).sum()))]
    assert "keys that are not read: config" in page
    assert "warning: vision: 1 values were NaN" in page
    assert "splits: published" in page
    assert max(map(len, page.splitlines())) < 200


def test_the_page_of_classes_and_of_simulated_data() -> None:
    page = describe(DataConfig(name="iemocap", simulated=True, samples=60))
    assert "SIMULATED" in page.splitlines()[0]
    assert sum(int(cell) for name in ("happy", "sad", "neutral", "angry", "excited", "frustrated") for cell in row(page, name)[1:]) == 60


def test_a_check_takes_what_a_file_has_and_names_what_it_lacks(write: Any, content: Any) -> None:
    for part in content.values():
        del part["vision"]
    config = write(content)
    dataset, problems = examine(config)
    assert (dataset.modalities, problems) == (("text", "audio"), [])
    assert "not usable: vision: the file has none\nso that mmbench check and run want --set 'data.modalities=[text,audio]'\n" in describe(dataset)
    with pytest.raises(DataError, match="vision cannot be used"):
        examine(config.model_copy(update={"modalities": ("vision",)}))


def test_list() -> None:
    result = invoke("list")
    assert result.exit_code == 0
    for name, size in (
        ("mosi", "train 1284, valid 229, test 686"),
        ("iemocap", "train+valid 5810"),
        ("sims", "1368"),
        ("simsv2", "2722"),
        ("mosei", "16326"),
    ):
        assert any(line.startswith(f"{name} ") and size in line for line in result.output.splitlines())
    assert "protocols: 6way_session5, 4way_session5, 4way_5fold (session1, " in result.output
    assert "mmbench data fetch meld: MELD/train_sent_emo.csv, " in result.output


def test_check_of_a_file(write: Any, content: Any) -> None:
    config = write(content)
    result = invoke("check", config.path, "--as", config.name)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Tiny (tiny): regression")
    result = invoke("check", config.path, "--as", config.name, "--set", "data.modalities=[audio]", "--set", "data.max_length.audio=2")
    assert row(result.output, "audio")[3] == "2"
    assert not any(line.startswith("text ") for line in result.output.splitlines())


def test_check_by_name_under_a_root(write: Any, content: Any, tmp_path: Path) -> None:
    config = write(content, name="tiny.pkl")
    result = invoke("check", config.name, "--data-root", tmp_path)
    assert result.exit_code == 0, result.output


def test_check_prints_the_page_and_then_fails_where_the_splits_differ(write: Any, content: Any) -> None:
    content["train"]["id"][3] = "other$_$1"
    config = write(content, make_content())
    result = invoke("check", config.path, "--as", config.name)
    assert result.output.startswith("Tiny (tiny)")
    assert isinstance(result.exception, DataError)
    assert "split train is not the published one" in str(result.exception)
    assert "--set data.splits=own accepts it" in str(result.exception)
    assert invoke("check", config.path, "--as", config.name, "--set", "data.splits=own").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["check", "mosi"], DataError, "--data-root"),
        (["check", "nosuch"], ConfigError, "neither a data set"),
        (["check", "."], ConfigError, "Add --as"),
        (["check", ".", "--as", "mosy"], ConfigError, "Did you mean 'mosi'"),
        (["check", "mosi", "--set", "modalities=[text]"], ConfigError, "data.key=value"),
        (["check", "mosi", "--set", "data.modalities"], ConfigError, "data.key=value"),
        (["check", "mosi", "--set", "data.colour=red"], ConfigError, "data.colour"),
        (["check", "mosi", "--set", "data.name.x=1"], ConfigError, "name has no keys"),
        (["check", "mosi", "--set", "data.samples=0"], ConfigError, "data.samples"),
        (["simulate", "mosi", "--samples", "3"], DataError, "too few"),
        (["simulate", "sims", "--features", "aligned"], DataError, "no aligned layout"),
    ],
)
def test_mistakes_are_errors_with_a_next_step(arguments: list[str], kind: type, message: str) -> None:
    error = failure(*arguments)
    assert isinstance(error, kind)
    assert message in str(error)


def test_simulate_says_where_and_how_to_use_it(tmp_path: Path) -> None:
    result = invoke("simulate", "mosi", "--samples", 24, "--out", tmp_path / "own", "--features", "unaligned")
    assert result.exit_code == 0, result.output
    assert f"--set data.path={tmp_path / 'own'}" in result.output
    assert "SIMULATED" in result.output
    result = invoke("check", tmp_path / "own", "--as", "mosi")
    assert result.exit_code == 0, result.output
    assert "splits: simulated" in result.output
    cached = invoke("simulate", "mosi", "--samples", 24)
    assert "--set data.simulated=true" in cached.output


def test_nothing_here_imports_torch(tmp_path: Path) -> None:
    code = (
        "import sys, pkgutil, importlib, mmbench.data, mmbench.cli.data\n"
        "names = [m.name for m in pkgutil.iter_modules(mmbench.data.__path__)]\n"
        "[importlib.import_module(f'mmbench.data.{name}') for name in names]\n"
        "from mmbench.data.checks import describe\n"
        "from mmbench.config import DataConfig\n"
        "describe(DataConfig(name='mosi', simulated=True, samples=12))\n"
        "assert len(names) > 8, names\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_the_module_of_the_verb_imports_nothing_heavy() -> None:
    code = "import sys, mmbench.cli.data; print([name for name in ('numpy', 'pydantic', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "[]\n", done.stderr
