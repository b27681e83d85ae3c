"""Several commands at once

Commands that share a folder: each run is executed once, whoever asks for it, and what a dead command has left is gone on with.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mmbench.claims import CLAIM, Owner, owner_of
from mmbench.data.export import write_mmsa
from mmbench.data.manifest import load_manifest
from mmbench.data.simulate import simulate
from mmbench.data.store import open_store
from mmbench.results.runs import find_runs
from mmbench.results.status import status_lines
from mmbench.results.tables import summary

pytestmark = pytest.mark.reliability
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="training needs torch")

CONFIG = """
name: shared
data: {name: mosi, features: aligned, simulated: true, samples: 60, modalities: [audio]}
model: {name: linear}
training: {epochs: 2}
seeds: [1, 2]
"""
PATIENCE = 300.0


class Commands:
    """Commands in one folder, at once. All are ended with the test."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {**os.environ, "MMBENCH_CACHE": str(folder / "cache")}
        self.started: list[subprocess.Popen[str]] = []
        self.stopped: list[int] = []
        (folder / "shared.yaml").write_text(CONFIG)

    def __call__(self, *arguments: str) -> subprocess.Popen[str]:
        number = len(self.started)
        with open(self.folder / f"{number}.out", "w") as out, open(self.folder / f"{number}.err", "w") as err:
            command = [sys.executable, "-m", "mmbench", *arguments]
            process = subprocess.Popen(command, stdout=out, stderr=err, text=True, cwd=self.folder, env=self.environment)
        self.started.append(process)
        return process

    def run(self, *options: str) -> subprocess.Popen[str]:
        return self("run", "shared.yaml", "--device", "cpu", "--jobs", "1", *options)

    def said(self, process: subprocess.Popen[str], stream: str = "out") -> str:
        return (self.folder / f"{self.started.index(process)}.{stream}").read_text()

    def ended(self, process: subprocess.Popen[str], code: int = 0) -> bool:
        """Whether a command ended with this exit code, and well: without a traceback, and without an error where there is none."""
        found = process.wait(PATIENCE)
        out, err = self.said(process), self.said(process, "err")
        well = found == code and "Traceback" not in out + err and (code != 0 or "error" not in err)
        if not well:
            print(f"exit code {found}, not {code}\n{out}\n{err}")
        return well

    def table(self, process: subprocess.Popen[str]) -> str:
        """What a command printed after its runs."""
        return self.said(process).partition("\n\n")[2]

    @property
    def trained(self) -> Counter[str]:
        """How often each run was trained to its end, by the lines that tell of a last epoch, which only the one who trained has heard."""
        return Counter(line for process in self.started for line in re.findall(r"^\[\d+/\d+\] (.* seed \d+)  done  epoch", self.said(process), re.M))

    def owner(self, pattern: str) -> Owner:
        """The process that trains the one run of this pattern, once it does."""
        found: list[Owner] = []

        def look() -> bool:
            begun = [folder for folder in self.folder.glob(pattern) if (folder / "epochs.jsonl").exists()]
            found.extend(owner for folder in begun if (owner := owner_of(folder)))
            return bool(found)

        self.until(look)
        return found[0]

    def stop(self, pid: int) -> None:
        """Hold a process that would not hear of the end of this test."""
        os.kill(pid, signal.SIGSTOP)
        self.stopped.append(pid)

    def says(self, process: subprocess.Popen[str], text: str) -> bool:
        return text in self.said(process)

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, [self.said(process) for process in self.started]
            time.sleep(0.05)


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Callable[[], Commands]]:
    """Makes commands in an empty folder each time."""
    made: list[Commands] = []

    def make() -> Commands:
        folder = tmp_path / f"try-{len(made)}"
        folder.mkdir()
        made.append(Commands(folder))
        return made[-1]

    yield make
    for each in made:
        for pid in each.stopped:
            os.kill(pid, signal.SIGKILL)
        for process in each.started:
            if process.poll() is None:
                process.kill()
                process.wait()


def left_over(runs: Path) -> list[str]:
    """Claims, and files that were not put in their place."""
    return [str(path) for path in runs.rglob("*") if path.name.startswith(".") or path.name == CLAIM]


@needs_torch
def test_four_commands_share_one_experiment(commands: Any, tally: Any, times: Any) -> None:
    """Each run is executed once, all four say so with the same table; meanwhile others read."""
    for _ in range(times(1, 25)):
        each = commands()
        four = [each.run("--seeds", "1-2" if times(0, 1) else "1") for _ in range(4)]
        damaged, reads = [], 0
        while any(process.poll() is None for process in four):
            if list(each.folder.glob("runs/shared/*/seed-*")):
                records = find_runs(each.folder / "runs")
                damaged += [record.reason for record in records if record.status not in ("pending", "running", "done")]
                status_lines(records)
                summary(each.folder / "runs/shared")
                reads += 1
            time.sleep(0.2)
        ended = [each.ended(process) for process in four]
        runs = find_runs(each.folder / "runs")
        once = len(runs) > 1 and set(each.trained.values()) == {1} and len(each.trained) == len(runs)
        tables = {each.table(process) for process in four}
        tally(
            "four mmbench run of one config in one folder at once", all(ended) and once and len(tables) == 1 and not left_over(each.folder / "runs")
        )
        print(*damaged, sep="\n")
        tally("status and tables while four commands write", reads > 0 and not damaged, tries=max(reads, 1))


@needs_torch
def test_overlapping_seeds_and_rerun(commands: Any, tally: Any, times: Any) -> None:
    """Commands that share some runs, one of which starts all of its own anew."""
    for _ in range(times(1, 25)):
        each = commands()
        several = [each.run("--seeds", "1-2"), each.run("--seeds", "2", "--rerun", "all"), *[each.run("--seeds", "1")] * times(0, 1)]
        ended = [each.ended(process) for process in several]
        runs = find_runs(each.folder / "runs")
        well = all(ended) and {run.status for run in runs} == {"done"} and not left_over(each.folder / "runs")
        first = [count for name, count in each.trained.items() if name.endswith("seed 1")]
        tally("overlapping seeds at once, one command with --rerun all", well and set(first) == {1})


@needs_torch
def test_a_command_is_killed_while_others_wait(commands: Any, tally: Any, times: Any) -> None:
    """The one who waits goes on with the runs of the dead; an interrupt ends the waiting."""
    options = ["--seeds", "1", "--set", "training.epochs=200"]  # so long that it is met at work
    for _ in range(times(1, 25)):
        each = commands()
        first = each.run(*options)
        owner = each.owner("runs/shared/linear-*/seed-1")
        each.stop(owner.pid)  # held for as long as it takes
        waiting, impatient = each.run(*options), each.run(*options)
        for process in (waiting, impatient):
            each.until(partial(each.says, process, "that others execute (process "))
        line = next(line for line in status_lines(find_runs(each.folder / "runs")) if "running: " in line)
        impatient.send_signal(signal.SIGINT)
        tally("interrupt of a command that waits for another", each.ended(impatient, 130) and f"process {owner.pid} on" in line)
        first.kill()
        os.kill(owner.pid, signal.SIGKILL)
        each.stopped.remove(owner.pid)
        first.wait()
        well = each.ended(waiting) and {run.status for run in find_runs(each.folder / "runs")} == {"done"}
        tally("command and worker killed while another waits for them", well and not left_over(each.folder / "runs"))


def test_two_imports_at_once(commands: Any, tally: Any, times: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one data set: one store, and both succeed; then of two in its place: it is one of them, whole."""
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    manifest = load_manifest("mosi")
    for samples in (60, 61, 62):
        store = simulate(manifest, samples, layout="aligned")
        write_mmsa(replace(store, document={**store.document, "simulated": False}), tmp_path / f"{samples}.pkl", manifest)
    for _ in range(times(1, 25)):
        each = commands()

        def imported(each: Commands, *numbers: int) -> bool:
            """Whether commands that import these files end well, and what is there then is one of them, and nothing else."""
            options = ["--as", "mosi", "--data-root", "root", "--set", "data.splits=own", *["--replace"] * (numbers[0] != numbers[1])]
            ended = [each.ended(process) for process in [each("data", "import", f"../{number}.pkl", *options) for number in numbers]]
            held = open_store(each.folder / "root/mosi/aligned")
            there = sorted(path.relative_to(each.folder).as_posix() for path in (each.folder / "root").rglob("*") if path.is_file())
            files = [f"root/mosi/aligned/{name}" for name in ("arrays.safetensors", "store.json")]
            return (
                all(ended)
                and held is not None
                and held.document["origin"]["path"].endswith(tuple(f"{number}.pkl" for number in numbers))
                and there == files
            )

        tally("two imports of one data set at once", imported(each, 60, 60))
        tally("two imports at once in the place of another", imported(each, 61, 62))


RACE = """
import os, sys, time
from pathlib import Path
from mmbench.claims import ClaimedError, claim, take_over

root, number, others, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

def meet(folder, word):
    (folder / f"{word}-{number}").touch()
    while len(list(folder.glob(f"{word}-*"))) < others:
        time.sleep(0)

for i in range(rounds):
    folder = root / str(i)
    meet(folder, "here")
    if i % 3 == 2:
        take_over(folder)
    try:
        with claim(folder):
            (folder / f"won-{number}").touch()
            meet(folder, "tried")
    except ClaimedError:
        meet(folder, "tried")
"""
TURNS = """
import sys, time
from pathlib import Path
from mmbench.claims import ClaimedError, claim

folder, turns = Path(sys.argv[1]), int(sys.argv[2])
while turns:
    try:
        with claim(folder):
            with open(folder / "inside", "x"):
                pass
            (folder / "inside").unlink()
            turns -= 1
    except ClaimedError:
        time.sleep(0.0005)
"""


def at_once(code: str, arguments: Sequence[Sequence[object]]) -> list[str]:
    """What processes of this code said that did not end well."""
    started = [
        subprocess.Popen([sys.executable, "-c", code, *map(str, each)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for each in arguments
    ]
    said = [process.communicate(timeout=PATIENCE)[1] for process in started]
    return [text for process, text in zip(started, said, strict=True) if process.returncode]


def test_of_four_processes_one_gets_a_claim(tmp_path: Path, tally: Any, times: Any) -> None:
    """Free claims, those of the dead, and silent ones of another machine that all four take over."""
    rounds = times(15, 300)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with_claim: dict[int, dict[str, object]] = {1: {"pid": gone.pid}, 2: {"host": "node7", "boot": "b", "pid": 42}}
    for i in range(rounds):
        (tmp_path / str(i)).mkdir()
        if i % 3:
            left(tmp_path / str(i), **with_claim[i % 3])
    failed = at_once(RACE, [(tmp_path, number, 4, rounds) for number in range(4)])
    won = [len(list((tmp_path / str(i)).glob("won-*"))) for i in range(rounds)]
    for kind, name in enumerate(("a free claim", "the claim of a dead process", "a silent claim of another machine, with --take-over")):
        those = won[kind::3]
        tally(f"four processes at once after {name}", not failed and set(those) == {1}, tries=len(those))


def left(folder: Path, **changes: object) -> None:
    """A claim that a process of this machine, or of another one, has left long ago."""
    from mmbench import claims

    here = claims._here()
    owner = {"host": here.host, "boot": here.boot, "space": here.space, "born": "1", "since": "2026-01-01"} | changes
    (folder / CLAIM).mkdir()
    file = folder / CLAIM / "0f0f.json"
    file.write_text(json.dumps(owner))
    os.utime(file, (time.time() - 2 * claims.SILENT,) * 2)


def test_four_processes_take_turns(tmp_path: Path, tally: Any, times: Any) -> None:
    """Claimed and released over and over: never two inside."""
    turns = times(30, 1000)
    failed = at_once(TURNS, [(tmp_path, turns)] * 4)
    tally("turns of four processes at one claim", not failed and list(tmp_path.iterdir()) == [], tries=4 * turns)
