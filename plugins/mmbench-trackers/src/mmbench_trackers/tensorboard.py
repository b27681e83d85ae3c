"""TensorBoard: one folder of event files for each run, ``<out>/<experiment>/tensorboard/<label>-seed-<n>``."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from mmbench.component import TrackedRun
from mmbench_trackers.told import about, flat, outcome, title

STATUS = {"done": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}


class TensorBoard:
    """Curves of each epoch, test scores at the chosen epoch, the config as hyperparameters.

    An attempt writes a file of its own that begins with "all from step 0 on is void": what an earlier attempt wrote is written anew.
    """

    def run_start(self, run: TrackedRun) -> None:
        """Open the file. The folder's name ends in -SIMULATED where the data are made up: it is what TensorBoard shows beside each curve."""
        folder = run.folder.parents[1] / "tensorboard" / (f"{run.label}-seed-{run.seed}" + "-SIMULATED" * run.simulated)
        folder.mkdir(parents=True, exist_ok=True)
        if not run.resumed_from:
            for path in _files(folder):  # of a start whose run folder is gone
                path.unlink()
        self.file = open(folder / _next_name(folder), "xb")  # noqa: SIM115  (open as long as the run)
        self.writer = RecordWriter(self.file)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(session_log=SessionLog(status=SessionLog.START)))
        start = SessionStartInfo(group_name=run.label, start_time_secs=time.time())  # TensorBoard averages the seeds of a group
        for name, value in flat({key: value for key, value in run.config.items() if key != "seeds"}).items():
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
            elif isinstance(value, (int, float)):
                start.hparams[name].number_value = value
            else:
                start.hparams[name].string_value = value
        rows = "\n".join(f"| {key} | {_cell(value)} |" for key, value in about(run).items())
        self._summary(0, [_session(metadata.SESSION_START_INFO_TAG, session_start_info=start)])
        self._text("run", f"**{_cell(title(run))}**\n\n| | |\n|---|---|\n{rows}")

    def epoch_end(self, run: TrackedRun, epoch: int, values: Mapping[str, float]) -> None:
        """A point of each curve; on disk when it returns."""
        self._scalars(epoch, values)

    def run_end(self, run: TrackedRun, result: Mapping[str, Any]) -> None:
        """Test scores, and how it ended."""
        epoch, numbers = outcome(result)
        self._scalars(epoch, numbers)
        if result["status"] in STATUS:  # one that was stopped goes on; readers keep the first end they meet
            end = SessionEndInfo(status=STATUS[result["status"]], end_time_secs=time.time())
            self._summary(epoch, [_session(metadata.SESSION_END_INFO_TAG, session_end_info=end)])
        self._text("end", _cell(f"{result['status']}: {result['reason']}".removesuffix(": ")))
        self.file.close()

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._summary(step, [Summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    def _text(self, tag: str, markdown: str) -> None:
        self._write(Event(step=0, summary=Summary.FromString(text_pb(tag, markdown).SerializeToString())))

    def _summary(self, step: int, values: Iterable[Summary.Value]) -> None:
        self._write(Event(step=step, summary=Summary(value=list(values))))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self.writer.write(event.SerializeToString())
        self.file.flush()


def _session(tag: str, **content: Any) -> Summary.Value:
    described = metadata.create_summary_metadata(HParamsPluginData(**content))
    return Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)


def _files(folder: Path) -> list[Path]:
    return list(folder.glob("events.out.tfevents.*.mmbench"))


def _next_name(folder: Path) -> str:
    """A name behind all those in the folder: readers take them in this order, and two attempts may start within one second."""
    earlier = [int(path.name.split(".")[3]) for path in _files(folder)]
    return f"events.out.tfevents.{max([int(time.time()), *(second + 1 for second in earlier)]):010d}.run.{os.getpid()}.mmbench"


def _cell(text: str) -> str:
    """Text that ends no cell and starts no markup in TensorBoard's Markdown."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))
