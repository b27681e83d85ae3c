"""The process that extracts: one clip after the other, each alone, into the cache. Imports torch when it starts, not before."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.errors import ConfigError, DataError, MmbenchError, PluginError
from mmbench.extraction.assemble import packed
from mmbench.files import write
from mmbench.media import MissingLibraryError
from mmbench.plugins import Entry, one_line


@dataclass(frozen=True)
class Stage:
    """One extractor or aligner: `kind` is ``features``, ``tokens`` or ``times``; what it gives is kept in `folder`."""

    key: str
    kind: str
    entry: Entry
    config: Any
    device: str
    folder: Path

    def build(self) -> Any:
        """The component. ConfigError: it cannot be built, with its place in the config."""
        try:
            return self.entry.load()(self.config)
        except PluginError:
            raise
        except MmbenchError as error:
            raise type(error)(f"{self.key}: {error}") from error
        except Exception as error:
            raise ConfigError(f"{self.key}: {self.entry.key} cannot be built: {one_line(error)[:300]}") from error


@dataclass(frozen=True)
class Task:
    """One clip of one stage: its recording or its transcript, and the file (in the cache) that the result goes to."""

    stage: int
    clip: str
    path: Path | None
    text: str
    words: tuple[str, ...]
    target: Path


@dataclass(frozen=True)
class Answer:
    """How a task ended: `reason` is empty where it is done; `fatal`: no other task could end better."""

    reason: str = ""
    fatal: bool = False


def main(connection: Connection, stages: Sequence[Stage], log: str) -> None:
    """Answer tasks until there are no more or the process that gives them is gone. Interrupts are that process's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):  # what native libraries print must not run through the progress line
        os.dup2(handle, stream)
    current: tuple[int, Any] = (-1, None)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        answer, current = _answer(stages, task, current)
        try:
            connection.send(answer)
        except BrokenPipeError:
            return


def _answer(stages: Sequence[Stage], task: Task, current: tuple[int, Any]) -> tuple[Answer, tuple[int, Any]]:
    stage = stages[task.stage]
    try:
        if current[0] != task.stage:
            current = (-1, None)  # the last one's memory first
            current = (task.stage, _ready(stage))
        result = compute(stage, current[1], task)
    except (ConfigError, PluginError, MissingLibraryError) as error:
        return Answer(str(error), fatal=True), current
    except Exception as error:
        return Answer(reason(error, task.path)), current
    try:
        write(task.target, packed(result))
    except OSError as error:
        return Answer(cannot_write(error, task.target.parent), fatal=True), current
    return Answer(), current


def _ready(stage: Stage) -> Any:
    from mmbench.training.seeds import make_deterministic

    make_deterministic(1)
    built = stage.build()
    if hasattr(built, "eval"):
        built.eval()
    return built.to(stage.device) if hasattr(built, "to") else built


def compute(stage: Stage, component: Any, task: Task) -> np.ndarray:
    """Features (T, D) float32, token ids (T,) int64, or times (W, 2) float64 of one clip. DataError: not as they must be."""
    import torch

    torch.manual_seed(0)  # for an extractor that draws: the same for every clip, wherever it runs
    np.random.seed(0)
    random.seed(0)
    if stage.kind == "times":
        return _times(component.align(task.clip, task.path, list(task.words)), len(task.words))
    with torch.no_grad():
        raw = component.prepare(task.text if task.path is None else task.path)
        if stage.kind == "tokens":
            ids: np.ndarray = raw.cpu().numpy().astype(np.int64)
            return _checked(ids, 1)
        from mmbench.batch import Sequence as Batch

        if not len(raw):
            raise DataError("holds nothing to extract from")
        found = component(Batch(raw.unsqueeze(0).to(stage.device), torch.ones(1, len(raw), dtype=torch.bool, device=stage.device)))
        return _checked(found.values[0][found.mask[0]].float().cpu().numpy(), 2)


def _checked(result: np.ndarray, dimensions: int) -> np.ndarray:
    if result.ndim != dimensions or not result.size:
        raise DataError(f"the extractor gave the shape {result.shape}, where {'(T, D)' if dimensions == 2 else '(T,)'} without a 0 is expected")
    if not np.isfinite(result).all():
        raise DataError(f"the extractor gave {int((~np.isfinite(result)).sum())} values that are NaN or infinite")
    return result


def _times(result: Any, count: int) -> np.ndarray:
    times = np.asarray(result, np.float64)
    if times.shape != (count, 2) or not np.isfinite(times).all() or (times < 0).any() or (times[:, 1] < times[:, 0]).any():
        raise DataError(f"the aligner gave no start and end for each of {count} words, but {times.shape} or times that run backwards")
    return times


def reason(error: Exception, path: Path | None) -> str:
    """Why a clip failed, in one line; its file's name stands elsewhere."""
    text = " ".join(str(error).split()) if isinstance(error, MmbenchError) else one_line(error)
    if isinstance(error, MemoryError) or "out of memory" in text.lower():
        text = f"out of memory: {text}; try fewer --jobs, or --device cpu"
    return text.removeprefix(f"{path}: ")[:500]


def cannot_write(error: OSError, folder: Path, other: str = "MMBENCH_CACHE names another folder") -> str:
    """The message of a file that cannot be written, such as on a full disk."""
    what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
    return f"{folder}: cannot be written: {what}. What is done is kept, and the same command goes on from there; {other}"
