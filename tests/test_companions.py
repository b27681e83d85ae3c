"""The processes of one run beside its worker are watched without what they share."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mmbench import companions
from mmbench.companions import Companions


class Locked:
    """A store while another thread waits in it."""

    def check(self, keys: list[str]) -> bool:
        threading.Event().wait()
        return False


def test_a_process_that_has_gone_is_told_of_while_the_worker_waits_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companions, "GRACE", 0.1)
    told: list[str] = []
    others = Companions(tmp_path, "cpu", 2, told.append)
    others.store = Locked()
    others.processes = [subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])]
    watch = threading.Thread(target=others._watch, daemon=True)
    watch.start()
    watch.join(30)
    assert not watch.is_alive()
    assert told == [f"process 2 of 2 ended with exit code 3; see {tmp_path / 'log.txt'}"]
