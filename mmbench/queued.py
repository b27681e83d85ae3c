"""The note in a run's folder that it has been handed to a scheduler: ``queued.json``. Who looks needs no scheduler to answer."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from mmbench.files import read_json, write_json

QUEUED = "queued.json"


@dataclass(frozen=True)
class Queued:
    """`executor` and its `job` (``slurm``, ``1234_7``), handed over at `since` (UTC)."""

    executor: str
    job: str
    since: str

    def __str__(self) -> str:
        return f"{self.executor} job {self.job}, since {self.since}"

    @classmethod
    def write(cls, folder: Path, executor: str, job: str) -> Queued:
        """Note that a run has been handed over. OSError: it cannot be written."""
        note = cls(executor, job, datetime.now(timezone.utc).isoformat(timespec="seconds"))
        write_json(folder / QUEUED, asdict(note))
        return note

    @classmethod
    def read(cls, folder: Path) -> Queued | None:
        """The note of a run; nothing where there is none that can be read."""
        known = read_json(folder / QUEUED)
        values = [known.get(name) for name in ("executor", "job", "since")]
        return cls(*values) if all(isinstance(value, str) for value in values) else None  # type: ignore[arg-type]

    @staticmethod
    def remove(folder: Path, job: str = "") -> None:
        """Take the note away, where it is. `job`: only where it is of this one, since another command may have left its own."""
        if job and ((note := Queued.read(folder)) is None or note.job != job):
            return
        with contextlib.suppress(OSError):
            (folder / QUEUED).unlink()
