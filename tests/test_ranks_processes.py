"""A run of two processes as users start it: one command, one result, and no process left, whoever is stopped or killed."""

import gzip
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

for _module in ("torch", "mmbench_baselines", "mmbench_extractors", "torchaudio"):
    if find_spec(_module) is None:
        pytest.skip(f"needs {_module}", allow_module_level=True)

from mmbench.component import RunOutcome  # noqa: E402
from mmbench.executors import LocalExecutor  # noqa: E402
from mmbench.resolve import load  # noqa: E402
from mmbench.runner import make_plan, prepare  # noqa: E402
from small_models import save_models  # noqa: E402

CONFIG = """
data: {name: mosi, path: PATH/small.pkl, splits: own, features: unaligned, modalities: [text, audio]}
model: {name: lf_dnn, encoders: {text: {name: hf-text, model: PATH/bert, finetune: true}}}
training: {epochs: 60, batch_size: 3, processes: 2, optimizer: {lr: 1e-3}}
seeds: [1]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a small BERT, a file of token ids, and a config."""
    folder = tmp_path_factory.mktemp("place")
    save_models(folder / "bert", folder / "data2vec")
    generator, content = np.random.default_rng(0), {}
    for split, size in {"train": 10, "valid": 4, "test": 5}.items():
        attention = np.arange(8) < generator.integers(3, 9, size)[:, None]
        ids = np.where(attention, generator.integers(4, 14, attention.shape), 0)
        content[split] = {
            "id": np.array([f"{split}{i // 3}$_${i % 3}" for i in range(size)]),
            "text_bert": np.stack([ids, attention, np.zeros_like(ids)], 1).astype(np.float64),
            "audio": generator.normal(size=(size, 5, 3)).astype(np.float32),
            "audio_lengths": [5] * size,
            "regression_labels": np.linspace(-3, 3, size, dtype=np.float32),
        }
    (folder / "small.pkl").write_bytes(pickle.dumps(content))
    (folder / "pair.yaml").write_text(CONFIG.replace("PATH", str(folder)))
    return folder


class Execution:
    """A run that is planned and executed as `mmbench run` does, here."""

    def __init__(self, place: Path, rerun: str | None = None):
        plan = make_plan(load(place / "pair.yaml"), place / "runs", None, "cpu")
        (self.request,) = (request for request in prepare(plan, rerun)[0] if request.folder.parent.name.startswith("lf_dnn"))
        self.folder = self.request.folder
        self.outcomes: list[RunOutcome] = []
        self.thread = threading.Thread(target=lambda: self.outcomes.extend(LocalExecutor().submit([self.request])), daemon=True)
        self.thread.start()

    def begun(self) -> None:
        """Wait for an epoch."""
        deadline = time.monotonic() + 240
        while not (self.folder / "epochs.jsonl").is_file():
            assert self.thread.is_alive(), self.outcomes
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self) -> RunOutcome:
        self.thread.join(240)
        (outcome,) = self.outcomes
        return outcome


def processes(folder: Path, *options: str) -> list[int]:
    """The processes whose command line has the folder and the options."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if all(option.encode() in words for option in ("mmbench.worker", str(folder), *options)):
            found.append(int(path.parent.name))
    return found


def test_killed_stopped_and_done(place, monkeypatch) -> None:
    monkeypatch.setenv("MMBENCH_CACHE", str(place / "cache"))
    run = Execution(place)
    folder = run.folder
    run.begun()
    (second,) = processes(folder, "--rank")
    os.kill(second, signal.SIGKILL)
    outcome = run.end()
    assert outcome.status == "failed"
    assert outcome.reason.startswith("process 2 of 2 was killed by SIGKILL; see ")
    assert processes(folder) == []

    run = Execution(place, "failed")
    run.begun()
    (first,) = set(processes(folder)) - set(processes(folder, "--rank"))
    os.kill(first, signal.SIGKILL)  # nobody is left to end the other
    assert run.end().reason.startswith("its process was killed by SIGKILL")
    deadline = time.monotonic() + 30
    while processes(folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    run = Execution(place, "failed")
    run.begun()
    (second,) = processes(folder, "--rank")
    os.kill(second, signal.SIGTERM)
    assert run.end().status == "interrupted"
    assert processes(folder) == []

    assert Execution(place).end().status == "done"
    found = json.loads((folder / "result.json").read_text())
    assert (found["epochs"], found["environment"]["processes"]) == (60, 2)
    assert processes(folder) == []
    assert not (folder / "last.pt").exists()


def test_torchrun_starts_the_same_run(place, monkeypatch) -> None:
    """A user's own launcher comes to the numbers of `mmbench run`, and its processes end."""
    monkeypatch.setenv("MMBENCH_CACHE", str(place / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = []
    for name in ("ours", "torchrun"):
        plan = make_plan(load(place / "pair.yaml", ["training.epochs=3"]), place / name, None, "cpu")
        (request,) = (request for request in prepare(plan, None)[0] if request.folder.parent.name.startswith("lf_dnn"))
        if name == "ours":
            (outcome,) = LocalExecutor().submit([request])
            assert outcome.status == "done", outcome
        else:
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mmbench.worker"]
            done = subprocess.run([*command, str(request.folder), "--device", "cpu"], capture_output=True, text=True, timeout=240, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
            assert processes(request.folder) == []
        result = json.loads((request.folder / "result.json").read_text())
        assert (result["status"], result["epochs"], result["environment"]["processes"]) == ("done", 3, 2)
        found.append((result["metrics"], gzip.decompress((request.folder / "predictions.csv.gz").read_bytes())))
    assert found[0] == found[1]
