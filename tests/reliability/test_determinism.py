"""The same numbers, and the same bytes.

Every registered model, and every registered loss with a model that suits it, is trained by the worker in this process; then again where nothing that
surrounds a run is the same. Each file that a run leaves is compared byte for byte, but for the lines of ``result.json`` and ``epochs.jsonl`` that say
when, on what machine and of which folder it was made.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import small_runs  # noqa: E402
from mmbench import worker  # noqa: E402
from mmbench.executors import LocalConfig, LocalExecutor  # noqa: E402
from mmbench.plugins import catalogue  # noqa: E402
from mmbench.resolve import load  # noqa: E402
from mmbench.runner import make_plan, prepare  # noqa: E402

pytestmark = pytest.mark.reliability
SURROUNDINGS = {
    "another hash seed": {"PYTHONHASHSEED": "4242"},
    "another time zone": {"TZ": "Pacific/Kiritimati"},
    "another locale": {"LC_ALL": "tr_TR.UTF-8", "LANG": "de_DE.UTF-8", "PYTHONUTF8": "0"},
    "another user and home": {"USER": "somebody", "LOGNAME": "somebody"},
}


@pytest.fixture(scope="module")
def every(times) -> int:
    """Which part of all models and losses is trained."""
    return times(7, 1)


@pytest.fixture(scope="module")
def here(tmp_path_factory, every) -> dict[str, dict[str, str]]:
    """The digests of what is trained in this process."""
    return dict(small_runs.everything(tmp_path_factory.mktemp("here"), every=every))


def elsewhere(folder: Path, every: int, environment: dict[str, str], python: str = sys.executable) -> dict[str, dict[str, str]]:
    """The digests of the same, trained in a process of its own: in another folder, from another current directory, with data made anew."""
    (folder / "home").mkdir(parents=True)
    ours = {**os.environ, "HOME": str(folder / "home"), "MMBENCH_CACHE": str(folder / "cache"), **environment}
    command = [python, small_runs.__file__, str(folder / "runs of another" / "name"), "--every", str(every)]
    made = subprocess.run(command, env=ours, cwd=folder / "home", capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    found: dict[str, dict[str, str]] = json.loads(made.stdout)
    return found


def compared(here: dict[str, dict[str, str]], there: dict[str, dict[str, str]]) -> list[str]:
    """The files that differ, or are in one place alone."""
    assert here.keys() == there.keys()
    return [f"{label}: {name}" for label in here for name in here[label] | there[label] if here[label].get(name) != there[label].get(name)]


def test_what_surrounds_a_run_changes_no_byte(here, every, tmp_path, times, tally) -> None:
    at_once = {key: value for environment in SURROUNDINGS.values() for key, value in environment.items()}
    for fault, environment in times({"another folder, user, locale, time zone and hash seed": at_once}, SURROUNDINGS).items():
        lost = compared(here, elsewhere(tmp_path / fault, every, environment))
        print(lost)
        tally(fault, not lost, len(here))


def test_another_interpreter_changes_no_byte(here, every, tmp_path, tally) -> None:
    """MMBENCH_OTHER_PYTHON: the interpreter of another version of Python, with the same build of torch and the same plugins."""
    python = os.environ.get("MMBENCH_OTHER_PYTHON")
    if not python:
        pytest.skip("MMBENCH_OTHER_PYTHON names no other interpreter")
    told = subprocess.run(
        [python, "-c", "import sys, torch; print(sys.version_info[:2], torch.__version__)"], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() != f"{sys.version_info[:2]} {torch.__version__}", "it is the same version"
    assert told.stdout.split()[-1] == torch.__version__
    lost = compared(here, elsewhere(tmp_path, every, {}, python=python))
    print(lost)
    tally("another version of Python", not lost, len(here))


SWEEP = """
data: {name: mosi, simulated: true, samples: 40, modalities: [text, audio, vision]}
model: {name: linear}
seeds: [1, 2, 3]
training: {epochs: 3, batch_size: 8, optimizer: {lr: 0.01}}
sweep:
  optimizer:
    adam: {training: {optimizer: {name: adam}}}
    adamw: {training: {optimizer: {name: adamw}}}
"""


def test_what_runs_beside_a_run_changes_no_byte(tmp_path, times, tally) -> None:
    """One run alone in this process, and among other seeds, another cell of the sweep and a floor, five at once."""
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    found = {}
    for name in ("alone", "among others"):
        plan = make_plan(load(tmp_path / "sweep.yaml"), tmp_path / name, None, "cpu")
        requests, *_ = prepare(plan, None)
        wanted = requests if name == "among others" else [request for request in requests if request.folder.name == "seed-1"]
        wanted = wanted[: times(2, len(wanted))]
        outcomes = list(LocalExecutor(LocalConfig(jobs=5 if name == "among others" else 1)).submit(wanted[:1] if name == "alone" else wanted))
        assert {outcome.status for outcome in outcomes} == {"done"}
        found[name] = small_runs.digests(wanted[0].folder)
    print(found)
    tally("other seeds and cells beside it, five at once", found["alone"] == found["among others"])


@pytest.mark.parametrize("after", [1, 4, 7])
def test_a_run_that_goes_on_leaves_the_bytes_of_one_that_was_not_stopped(tmp_path, monkeypatch, tally, after) -> None:
    label, (model, loss) = list(small_runs.pairs().items())[-1]
    resolved = small_runs.configured(model, loss)
    assert small_runs.execute(resolved, tmp_path / "whole")["status"] == "done"
    steps = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr(worker._Stop, "__call__", lambda self: next(steps) == after)
        assert small_runs.execute(resolved, tmp_path / "stopped")["status"] == "interrupted"
    assert small_runs.execute(resolved, tmp_path / "stopped")["status"] == "done"
    whole, stopped = (small_runs.digests(next((tmp_path / name).glob("*/seed-1"))) for name in ("whole", "stopped"))
    print(label, whole, stopped)
    tally("stopped and gone on", whole == stopped)


def test_archives_hold_no_time_and_no_name(tmp_path, tally) -> None:
    """The header of the gzip file and the entries of the checkpoint are the same at any time and in any folder."""
    model = next(entry for entry in catalogue().of_kind("model") if entry.component.name == "linear")
    small_runs.execute(small_runs.configured(model), tmp_path)
    (folder,) = tmp_path.glob("*/seed-1")
    header = (folder / "predictions.csv.gz").read_bytes()[:10]
    assert header[:3] == b"\x1f\x8b\x08"
    tally("a time in a gzip header", header[4:8] == bytes(4))
    tally("a file name in a gzip header", header[3] == 0 and gzip.decompress((folder / "predictions.csv.gz").read_bytes()).startswith(b"split,id,"))
    with zipfile.ZipFile(folder / "best.pt") as archive:
        tally("a time in a checkpoint", len({entry.date_time for entry in archive.infolist()}) == 1 and archive.infolist()[0].date_time[0] <= 1980)
        tally("a folder's name in a checkpoint", {name.split("/")[0] for name in archive.namelist()} == {"archive"})


def test_an_operation_without_a_deterministic_kernel_fails_where_that_is_asked_for(tmp_path, monkeypatch, tally) -> None:
    """``put_`` has none on any device."""
    model = next(entry for entry in catalogue().of_kind("model") if entry.component.name == "linear")
    cls = model.load()
    forward = cls.forward

    def scattering(self, batch):
        torch.zeros(3).put_(torch.tensor([0, 1]), torch.ones(2))
        return forward(self, batch)

    monkeypatch.setattr(cls, "forward", scattering)
    result = small_runs.execute(small_runs.configured(model, training={"deterministic": True}), tmp_path / "strict")
    print(result["reason"])
    said = "training.deterministic: RuntimeError: put_ does not have a deterministic implementation; choose another method"
    tally("an operation without a deterministic kernel", result["status"] == "failed" and result["reason"].startswith(said))
    with pytest.warns(UserWarning, match="put_ does not have a deterministic implementation"):
        result = small_runs.execute(small_runs.configured(model), tmp_path / "lenient")
    tally("the same where that is not asked for", result["status"] == "done")
