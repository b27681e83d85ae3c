"""MLflow: one MLflow run for each run, in the experiment of its name."""

from __future__ import annotations

import fcntl
import hashlib
import os
import posixpath
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Before MLflow is imported: it reads them then. It would report its use over the network; the run's log shall have our warning alone; and a
# server that does not answer shall not hold a run for minutes.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
for _name, _value in {"MLFLOW_LOGGING_LEVEL": "CRITICAL", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}.items():
    os.environ.setdefault(_name, _value)

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Metric, Param  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

from mmbench.component import TrackedRun  # noqa: E402
from mmbench_trackers.told import about, flat, outcome, title  # noqa: E402

STATUS = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
SQLITE = "sqlite:///"
KEY = "mmbench.key"
LONGEST_NAME, LONGEST_VALUE, PER_BATCH = 250, 500, 100
"""The limits of the oldest servers in use; newer ones take more."""


class MLflow:
    """Metrics of each epoch, test scores at the chosen epoch, the config as parameters, fingerprints as tags.

    A run that was stopped goes on in the same MLflow run, which is found by a tag with the run's folder. One that is started anew is a new one.
    """

    def run_start(self, run: TrackedRun) -> None:
        """Find or make the MLflow run."""
        out = run.folder.parents[2]
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{out / 'mlflow.db'}"
        self.database = Path(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(SQLITE) else None
        with self._alone():
            self.client = MlflowClient(uri)  # makes the tables of a new database
            experiment = self._experiment(run.experiment)
            self.run_id, self.last = self._resumed(experiment, run) or (self._new(experiment, run), 0)
            known = self.client.get_run(self.run_id).data.params
            params = [Param(key, value) for key, value in _params(run).items() if key not in known]
            for first in range(0, len(params), PER_BATCH):
                self.client.log_batch(self.run_id, params=params[first : first + PER_BATCH])

    def epoch_end(self, run: TrackedRun, epoch: int, values: Mapping[str, float]) -> None:
        """A point of each metric, unless an earlier attempt has given it."""
        if epoch > self.last:
            self._metrics(epoch, values)

    def run_end(self, run: TrackedRun, result: Mapping[str, Any]) -> None:
        """Test scores, and how it ended: FINISHED, FAILED or KILLED (stopped on request)."""
        epoch, numbers = outcome(result)
        if numbers:
            self._metrics(epoch, numbers)
        with self._alone():
            self.client.set_tag(self.run_id, "reason", str(result["reason"])[:LONGEST_VALUE])
            self.client.set_terminated(self.run_id, STATUS[result["status"]])

    def _metrics(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        with self._alone():
            self.client.log_batch(self.run_id, metrics=[Metric(allowed(name), value, now, step) for name, value in values.items()])

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            artifacts = None if self.database is None else str(self.database.resolve().parent / "mlflow-artifacts")
            try:
                return str(self.client.create_experiment(name, artifacts))
            except MlflowException:  # another machine made it in the meantime
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _resumed(self, experiment: str, run: TrackedRun) -> tuple[str, int] | None:
        """The MLflow run that goes on, and the last epoch in it. One with epochs that this run has not trained is of an earlier start."""
        for found in self.client.search_runs([experiment], f"tags.`{KEY}` = '{_key(run)}'", order_by=["start_time DESC"]):
            if found.info.status not in ("RUNNING", "KILLED"):
                continue
            last = max((point.step for point in self.client.get_metric_history(found.info.run_id, "lr")), default=0)
            if last <= run.resumed_from:
                self.client.update_run(found.info.run_id, "RUNNING")
                return str(found.info.run_id), last
            self.client.set_terminated(found.info.run_id, "KILLED")
        return None

    def _new(self, experiment: str, run: TrackedRun) -> str:
        tags = {KEY: _key(run), **{f"mmbench.{name}": value for name, value in about(run).items()}}
        return str(self.client.create_run(experiment, tags=tags, run_name=title(run)).info.run_id)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time writes to a database file: its tables are made once, and none finds it locked."""
        if self.database is None:
            yield
            return
        with open(self.database.with_name(f".{self.database.name}.lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def allowed(name: str) -> str:
    """A name without the characters that MLflow refuses: ``valid/recall[happy]`` becomes ``valid/recall_happy_``."""
    name = re.sub(r"[^\w./ :-]", "_", name)
    return posixpath.normpath(name).lstrip("./")[:LONGEST_NAME] or "_"


def _params(run: TrackedRun) -> dict[str, str]:
    return {allowed(name): str(value)[:LONGEST_VALUE] for name, value in flat(run.config).items()}


def _key(run: TrackedRun) -> str:
    return hashlib.sha256(str(run.folder).encode()).hexdigest()[:32]
