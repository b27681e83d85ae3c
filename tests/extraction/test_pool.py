"""What goes wrong in the processes, without starting any."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

import mmbench.extraction.write as writing
from mmbench.errors import ConfigError, DataError
from mmbench.extraction import pool, worker
from mmbench.extraction.worker import Answer, Stage, Task


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def task(tmp_path):
    return Task(0, "v/1", None, "so", ("so",), tmp_path / "cache" / "x.npy")


@pytest.fixture
def stage(toy_extractors, tmp_path):
    entry = toy_extractors.find("extractor", "toy-text")
    return Stage("text", "features", entry, entry.load_config()(), "cpu", tmp_path / "cache")


def test_a_full_disk_ends_all_with_one_error(stage, task, monkeypatch) -> None:
    answer, current = worker._answer([stage], task, (-1, None))
    assert (answer, current[0]) == (Answer(), 0)
    np.testing.assert_array_equal(np.load(task.target)[:, 0], [-1, ord("s"), ord("o"), -1])
    task.target.unlink()
    monkeypatch.setattr(np, "save", full)
    answer, _ = worker._answer([stage], task, current)
    assert answer.fatal
    assert "the disk is full. What is done is kept, and the same command goes on from there; MMBENCH_CACHE names another folder" in answer.reason
    assert list(task.target.parent.iterdir()) == []


def test_what_no_clip_can_mend_is_fatal_and_the_rest_is_not(task, stage, monkeypatch) -> None:
    def raising(error):
        return SimpleNamespace(prepare=lambda _: (_ for _ in ()).throw(error))

    assert worker._answer([stage], task, (0, raising(ConfigError("no torchaudio"))))[0] == Answer("no torchaudio", fatal=True)
    assert worker._answer([stage], task, (0, raising(DataError("None: is damaged"))))[0] == Answer("is damaged")
    assert worker._answer([stage], task, (0, raising(ValueError("odd"))))[0] == Answer("ValueError: odd")
    assert "try fewer --jobs" in worker._answer([stage], task, (0, raising(MemoryError())))[0].reason


@pytest.mark.parametrize("times", [[[0, 1], [1, 2]], [[1, 0]], [[0, np.nan]], [[-1, 0]], [[0, np.inf]]])
def test_times_that_are_none(task, toy_extractors, times) -> None:
    entry = toy_extractors.find("aligner", "times")
    stage = Stage("aligner", "times", entry, None, "cpu", Path())
    with pytest.raises(DataError, match="no start and end for each of 1 words"):
        worker.compute(stage, SimpleNamespace(align=lambda *_: times), task)


class Dead:
    """A worker whose process ended with an exit status."""

    def __init__(self, status: int, log: Path):
        self.process = SimpleNamespace(exitcode=status, join=lambda _=None: None, is_alive=lambda: False)
        self.connection = SimpleNamespace(close=lambda: None)
        self.log, self.task = log, None


def test_reasons_of_deaths(tmp_path) -> None:
    log = tmp_path / "log"
    log.write_text("first\nlast words\n\n")
    assert "was killed (SIGKILL), as a system does whose memory runs out" in pool._death(Dead(-signal.SIGKILL, log))
    assert pool._death(Dead(-signal.SIGABRT, log)) == "its process died (SIGABRT): last words"
    log.write_text("")
    assert pool._death(Dead(3, log)) == "its process ended with exit status 3"


def test_processes_that_all_die_are_no_matter_of_the_clips(task, monkeypatch, tmp_path) -> None:
    started = []

    def start(stages, logs):
        here, there = pool.multiprocessing.Pipe()
        there.close()
        worker = Dead(1, tmp_path / "log")
        worker.log.write_text("no such library\n")
        worker.connection = here
        started.append(worker)
        return worker

    monkeypatch.setattr(pool, "_start", start)
    failed = []
    with pytest.raises(DataError, match="exit status 1: no such library; 10 processes died one after the other"):
        failed += [reason for _, reason in pool.work([], [task] * 50, 2)]
    assert 10 <= len(started) <= 11


def test_a_full_disk_where_the_data_set_goes(tmp_path, monkeypatch) -> None:
    content = SimpleNamespace(columns={}, document=dict)
    monkeypatch.setattr(writing, "write_store", full)
    with pytest.raises(DataError, match=r"the disk is full.*--out names another folder"):
        writing.put(tmp_path / "out" / "unaligned", content, {"origin": {"digest": "1"}, "notices": []}, False)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_with_something_else_is_never_replaced(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something that is no data set"):
        writing.refuse_other(tmp_path, "1", replace=True)
    assert not writing.refuse_other(tmp_path / "none", "1", replace=False)
