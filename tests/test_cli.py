"""The command line as a user meets it: output, exit codes, one clear line for each mistake."""

import errno
import gzip
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmbench import cli
from mmbench.errors import PluginError

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="training needs torch")
needs_decalign = pytest.mark.skipif(find_spec("mmbench_decalign") is None or find_spec("torch") is None, reason="needs the DecAlign plugin")
SMALL = [
    "data.features=aligned",
    "data.simulated=true",
    "data.samples=90",
    "data.modalities=[text,audio]",
    "training.epochs=2",
]
FLOOR = """
data: {name: mosi, features: aligned, simulated: true, samples: 90, modalities: [audio, vision]}
model: {name: linear}
training: {epochs: 2}
seeds: [1, 2]
"""


@pytest.fixture
def mmbench(tmp_path):
    """Runs the command in an empty folder; returns exit code, standard output, standard error."""
    environment = {**os.environ, "MMBENCH_CACHE": os.environ.get("MMBENCH_CACHE", str(tmp_path / "cache"))}
    environment.pop("MMBENCH_DATA", None)

    def call(*arguments: str, code: int = 0, **extra: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "mmbench", *arguments], capture_output=True, text=True, cwd=tmp_path, env={**environment, **extra}, check=False
        )
        assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr + done.stdout
        return done

    call.folder = tmp_path  # type: ignore[attr-defined]
    call.environment = environment  # type: ignore[attr-defined]
    return call


def small(*more: str) -> list[str]:
    return [argument for value in (*SMALL, *more) for argument in ("--set", value)]


def error(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    assert all(line.startswith(("error: ", "  ")) for line in lines if not line.startswith("warning: ")), done.stderr
    return done.stderr


def test_help_and_verbs(mmbench) -> None:
    assert "Usage: mmbench" in mmbench("--help").stdout
    from mmbench.cli import VERBS

    for verb in VERBS:
        assert "Usage:" in mmbench(verb, "--help").stdout
    assert "No such command 'rnu'" in mmbench("rnu", code=2).stderr


def test_list_show_plugins(mmbench) -> None:
    assert "constant" in mmbench("list", "model").stdout
    assert "mae" in mmbench("list").stdout
    assert "ok" in mmbench("plugins").stdout
    shown = mmbench("show", "model", "linear").stdout
    assert "masked mean" in shown
    assert "tasks: regression" in shown
    assert "tasks" not in mmbench("show", "executor", "local").stdout  # it has none
    assert "Did you mean 'linear'" in error(mmbench("show", "model", "liner", code=2))
    assert "Invalid value for 'KIND': 'linear' is not one of 'model', 'loss'" in mmbench("show", "linear", code=2).stderr


@needs_decalign
def test_show_gives_every_hyperparameter_with_its_source(mmbench) -> None:
    shown = mmbench("show", "loss", "prototype_transport").stdout
    assert "num_prototypes: integer | null, default null" in shown
    assert "Source: " in shown
    assert "terms: transport, prototype" in shown


def test_check_of_a_floor_needs_no_torch(mmbench) -> None:
    (mmbench.folder / "floor.yaml").write_text(FLOOR)
    done = mmbench("check", "floor.yaml")
    assert "config      floor.yaml: valid" in done.stdout
    assert "SIMULATED" in done.stdout
    assert "This experiment can be run." in done.stdout
    assert not (mmbench.folder / "runs").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model: {name: liner}", "model.name: model 'liner' is not provided by any installed plugin. Did you mean 'linear'?"),
        ("model: {name: linear, width: 3}", "model.width: unknown key"),
        ("training: {epochs: 2, batch_size: 0}", "training.batch_size: must be greater than 0 (got 0)"),
        ("training: {epochs: two}", "training.epochs: must be a valid integer"),
        ("seeds: [1, 1]", "seeds: seed 1 is given twice"),
        ("sedes: [1]", "sedes: unknown key. Did you mean 'seeds'?"),
        ("seeds: [1", "not valid YAML"),
    ],
)
def test_mistakes_in_a_config(mmbench, change: str, message: str) -> None:
    key = change.partition(":")[0]
    lines = [line for line in FLOOR.splitlines() if not line.startswith(f"{key}:")]
    (mmbench.folder / "bad.yaml").write_text("\n".join([*lines, change]))
    for verb in ("check", "run"):
        done = mmbench(verb, "bad.yaml", code=2)
        assert message in error(done)
        assert "bad.yaml:" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_mistakes_on_the_command_line(mmbench) -> None:
    (mmbench.folder / "floor.yaml").write_text(FLOOR)
    assert "neither a file nor the name of a shipped config" in error(mmbench("run", "nowhere.yaml", code=2))
    assert "--set oops" in error(mmbench("run", "floor.yaml", "--set", "oops", code=2))
    assert "--seeds 5-1" in error(mmbench("run", "floor.yaml", "--seeds", "5-1", code=2))
    assert "is none of auto, cpu, cuda" in mmbench("run", "floor.yaml", "--device", "tpu", code=2).stderr
    assert "seed 1 is given twice" in error(mmbench("run", "floor.yaml", "--seeds", "1,1", code=2))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rum floor.yaml", "No such command 'rum'. Did you mean 'run'?"),
        ("floor.yaml", "Did you mean 'mmbench run floor.yaml'?"),
        ("quickstart", "Did you mean 'mmbench run quickstart'?"),
        ("help", "Did you mean '--help'?"),
        ("check .", "config '.' is a folder; name a .yaml file"),
        ("check floor", "Did you mean 'floor.yaml'?"),
        ("check QUICKSTART", "Did you mean 'quickstart'?"),
        ("check floor.yaml --epochs 3", "No such option '--epochs'. Keys of the config are given as --set KEY=VALUE."),
        ("check floor.yaml --set data.modalities=[text, audio]", "A value with spaces stands in quotation marks"),
        (
            "check floor.yaml --set losses.cmd.weight=1",
            "--set losses.cmd.weight=1: the config has no losses; add one, for example --set 'losses=[{name",
        ),
        ("show linear", "Did you mean 'mmbench show model linear'?"),
        ("data check MOSI", "nor a file. Did you mean 'mosi'?"),
        ("check tab.yaml", "found character '\\t' that cannot start any token; indent with spaces"),
        ("figure", "Choose from:\n    curves,\n"),
    ],
)
def test_likely_mistakes_have_the_next_step(line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "floor.yaml").write_text(FLOOR)
    (tmp_path / "tab.yaml").write_text("data:\n\tname: mosi\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mmbench", *line.split(" ")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_mistake_is_told_where_plugins_cannot_be_listed(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def catalogue() -> None:
        raise PluginError("MMBENCH_PLUGINS names nobody")

    monkeypatch.setattr("mmbench.plugins.catalogue", catalogue)
    monkeypatch.setattr(sys, "argv", ["mmbench", "show", "linear"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "'linear' is not one of" in capsys.readouterr().err


def test_modules_are_not_built_without_torch(mmbench, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("mmbench.cli.execute.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["mmbench", "check", str(mmbench.folder / "floor.yaml"), "--build"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: training needs torch, which is not installed: pip install ")


def test_data_that_are_missing_or_damaged_end_with_code_3(mmbench) -> None:
    (mmbench.folder / "real.yaml").write_text(FLOOR.replace(", features: aligned, simulated: true, samples: 90", ""))
    done = mmbench("run", "real.yaml", code=3)
    assert "--set data.simulated=true" in error(done)
    assert "unaligned_50.pkl" in done.stderr
    hostile, truncated = mmbench.folder / "hostile.pkl", mmbench.folder / "truncated.pkl"
    hostile.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    assert "os.system" in error(mmbench("run", "real.yaml", "--set", f"data.path={hostile}", code=3))
    assert not (mmbench.folder / "pwned").exists()
    truncated.write_bytes(pickle.dumps({"train": list(range(1000))})[:-50])
    assert "truncated.pkl" in error(mmbench("run", "real.yaml", "--set", f"data.path={truncated}", code=3))
    assert "absent.pkl" in error(mmbench("run", "real.yaml", "--set", "data.path=absent.pkl", code=3))


@pytest.mark.parametrize(
    ("fault", "name", "code", "said"),
    [
        (errno.ENOSPC, "runs/a\x1b[2J\nb", 1, r"runs/a\x1b[2J\nb: No space left on device; when that is mended, give the same command again"),
        (errno.EIO, None, 1, "the output: Input/output error; when that is mended, give the same command again"),
        (errno.EACCES, "own\x9b.yaml", 3, r"own\x9b.yaml: Permission denied"),
    ],
)
def test_what_the_system_says_of_a_file_is_one_harmless_line(monkeypatch, capsys, fault: int, name: str | None, code: int, said: str) -> None:
    def fails(**options: object) -> None:
        raise OSError(fault, os.strerror(fault), *filter(None, [name]))

    monkeypatch.setattr(cli, "cli", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (code, f"error: {said}\n")


def test_a_folder_that_cannot_be_written_is_named(mmbench) -> None:
    (mmbench.folder / "floor.yaml").write_text(FLOOR)
    (mmbench.folder / "taken").write_text("a file")
    assert "taken" in error(mmbench("run", "floor.yaml", "--out", "taken", code=2))


@needs_torch
def test_a_run_from_start_to_table(mmbench, monkeypatch: pytest.MonkeyPatch) -> None:
    (mmbench.folder / "floor.yaml").write_text(FLOOR)
    done = mmbench("run", "floor.yaml")
    assert "SIMULATED CMU-MOSI" in done.stdout
    assert "best constant on test (oracle)" in done.stdout
    assert "[4/4]" in done.stdout
    (folder,) = mmbench.folder.glob("runs/floor/linear-*")
    for seed in (1, 2):
        names = {path.name for path in (folder / f"seed-{seed}").iterdir()}
        assert {"config.yaml", "result.json", "epochs.jsonl", "predictions.csv.gz", "best.pt", "log.txt"} <= names
        assert "last.pt" not in names
        result = json.loads((folder / f"seed-{seed}" / "result.json").read_text())
        assert result["status"] == "done"
        assert result["data"]["simulated"] is True
        assert result["environment"]["threads"] == 1
        assert result["seed"] == seed
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = mmbench("run", "floor.yaml")
    assert "0 runs to do, 4 done" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with monkeypatch.context() as here:
        here.setattr("mmbench.cli.execute.find_spec", lambda name: None)  # what is there already needs no torch
        here.setenv("MMBENCH_CACHE", mmbench.environment["MMBENCH_CACHE"])
        here.chdir(mmbench.folder)
        said = CliRunner().invoke(cli.cli, ["run", "floor.yaml"])
    assert (said.exit_code, "best constant on test (oracle)" in said.stdout) == (0, True)
    more = mmbench("run", "floor.yaml", "--seeds", "1-3")
    assert "2 runs to do, 4 done" in more.stdout
    assert "linear (floor)" in mmbench("report", "runs").stdout == mmbench("report").stdout
    assert r"\begin{tabular}" in mmbench("report", "runs", "--format", "latex").stdout
    assert "floor" in mmbench("status", "runs").stdout == mmbench("status").stdout
    mmbench("score", "runs")
    result["metrics"]["test"]["mae"] += 1e-3
    (folder / "seed-2" / "result.json").write_text(json.dumps(result))
    assert "is not as it was written" in mmbench("score", "runs", code=1).stdout
    del result["digest"]  # as older versions wrote it
    (folder / "seed-2" / "result.json").write_text(json.dumps(result))
    assert "mae" in mmbench("score", "runs", code=1).stdout


@needs_decalign
def test_one_seed_alone_equals_the_same_seed_among_others(mmbench) -> None:
    """Byte-identical predictions, whatever ran beside it, and again on a second run."""

    def predictions(out: str) -> bytes:
        (path,) = mmbench.folder.glob(f"{out}/decalign_mosi/decalign-*/seed-3/predictions.csv.gz")
        return path.read_bytes()

    mmbench("run", "decalign_mosi", *small("model.layers=1"), "--seeds", "3", "--out", "alone")
    mmbench("run", "decalign_mosi", *small("model.layers=1"), "--seeds", "1-3", "--out", "among", "--jobs", "2")
    assert predictions("alone") == predictions("among")
    text = gzip.decompress(predictions("alone")).decode().splitlines()
    assert text[0] == "split,id,target,prediction"
    others = {path.read_bytes() for path in mmbench.folder.glob("among/decalign_mosi/decalign-*/seed-*/predictions.csv.gz")}
    assert len(others) == 3


@needs_decalign
def test_an_encoder_that_is_not_installed_is_said_to_be_missing(mmbench) -> None:
    arguments = ["decalign_official_mosi", "--set", "data.simulated=true", "--set", "data.samples=60"]
    done = mmbench("check", *arguments, MMBENCH_PLUGINS="mmbench-decalign")
    assert "hf-text" in done.stdout
    assert "This experiment cannot be run yet." in done.stdout
    assert "extractor 'hf-text' (the encoder of text) is not provided by any installed plugin" in error(
        mmbench("run", *arguments, code=2, MMBENCH_PLUGINS="mmbench-decalign")
    )


@needs_decalign
def test_check_build_counts_and_runs_two_samples(mmbench) -> None:
    done = mmbench("check", "decalign_mosi", "--build", *small())
    assert "parameters  model: " in done.stdout
    assert "two samples task " in done.stdout


@needs_torch
def test_a_failed_run_is_recorded_not_scored_and_only_rerun_on_request(mmbench) -> None:
    """A learning rate without bounds goes non-finite in the second epoch; the floors beside it finish."""
    text = FLOOR.replace("{epochs: 2}", "{epochs: 3, task_loss: mse, optimizer: {lr: 1.0e+30}}")
    (mmbench.folder / "floor.yaml").write_text(text)
    done = mmbench("run", "floor.yaml", "--seeds", "1", code=1)
    assert "linear" in done.stdout
    assert "seed 1  failed" in done.stdout
    (path,) = mmbench.folder.glob("runs/floor/linear-*/seed-1/result.json")
    result = json.loads(path.read_text())
    assert result["status"] == "failed"
    assert "metrics" not in result
    assert "0 runs to do, 1 done, 1 failed before" in mmbench("run", "floor.yaml", "--seeds", "1", code=1).stdout
    assert "1 run to do, 1 done" in mmbench("run", "floor.yaml", "--seeds", "1", "--rerun", "failed", code=1).stdout


def test_an_interrupt_while_modules_are_imported_says_nothing() -> None:
    code = """
import sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            raise KeyboardInterrupt
import mmbench.__main__
sys.meta_path.insert(0, Interrupts())
mmbench.__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


@needs_decalign
def test_interrupt_keeps_what_is_done_and_resumes_to_the_same_numbers(mmbench) -> None:
    arguments = ["run", "decalign_mosi", *small("model.layers=1", "training.epochs=6"), "--seeds", "1", "--jobs", "1"]
    mmbench(*arguments, "--out", "whole")
    process = subprocess.Popen(
        [sys.executable, "-m", "mmbench", *arguments],
        cwd=mmbench.folder,
        env=mmbench.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(Path(mmbench.folder).glob("runs/decalign_mosi/decalign-*/seed-1/last.pt")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "the same command goes on" in out
    mmbench(*arguments)
    first, second = (
        next(Path(mmbench.folder).glob(f"{out}/decalign_mosi/decalign-*/seed-1/predictions.csv.gz")).read_bytes() for out in ("whole", "runs")
    )
    assert first == second
