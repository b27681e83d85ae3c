"""What the pages of docs/ ask a reader to have, small and made up, and a way to run mmbench's runs in a fraction of the time."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from mmbench import worker
from mmbench.data.export import write_mmsa
from mmbench.data.manifest import load_manifest
from mmbench.data.simulate import simulate
from mmbench.executors import local
from small_recordings import build_networks, write_video

NETWORKS = {"bert": "bert-base-uncased", "vit": "openai/clip-vit-base-patch32", "ctc": "facebook/wav2vec2-base-960h"}
"""Where the small random networks stand in the working folder: under the names that the pages have, which are found there before the hub is asked."""


def lay_mosi(folder: Path) -> None:
    """Files of MMSA's names, format and widths; the samples are simulated, so their splits are no published ones."""
    manifest = load_manifest("mosi")
    for layout, names in {"aligned": ["aligned_50.pkl"], "unaligned": ["unaligned_50.pkl", "mosi_data.pkl"]}.items():
        store = simulate(manifest, 60, layout=layout)
        real = dataclasses.replace(store, document={**store.document, "simulated": False})  # what is simulated is not exported
        for name in names:
            write_mmsa(real, folder / name, manifest)


def lay_settings(folder: Path) -> None:
    """A file in the form of MMSA's JSON configuration."""
    block = {"commonParams": {"need_data_aligned": False, "early_stop": 3}, "datasetParams": {"mosi": {"batch_size": 16, "post_text_dim": 24}}}
    (folder / "config_regression.json").write_text(json.dumps({"datasetCommonParams": {}, "self_mm": block}))


def lay_recordings(folder: Path) -> None:
    """Twelve clips with a table of labels, and the networks."""
    recordings = folder / "recordings"
    recordings.mkdir()
    with (recordings / "label.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["video_id", "clip_id", "text", "label", "mode"])
        for number in range(12):
            video, clip = divmod(number, 2)
            path = recordings / "Raw" / f"video{video}" / f"{clip}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, 0.4 + 0.1 * (number % 5), number)
            mode = "train" if video < 4 else "valid" if video < 5 else "test"
            table.writerow([f"video{video}", clip, "The film was not really good."[: 12 + 4 * (number % 4)], number / 2 - 3, mode])
    networks = folder / "networks"
    networks.mkdir()
    build_networks(networks)
    for name, place in NETWORKS.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (networks / name).rename(folder / place)


class Forked:
    """The process of a run, forked from this one, which has imported torch already; of a Popen what `mmbench.executors` uses."""

    def __init__(self, command: list[str], *, stderr: IO[bytes], env: dict[str, str], **_: Any):
        self.returncode: int | None = None
        reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            code = 1
            try:
                os.setsid()
                os.dup2(writer, 1)
                os.dup2(stderr.fileno(), 2)
                sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(number, "w"), write_through=True) for number in (1, 2))
                os.environ.update(env)
                code = worker.main(command[3:])
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writer)
        self.stdout = io.FileIO(reader)

    def poll(self) -> int | None:
        if self.returncode is None and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        end = time.monotonic() + timeout
        while (code := self.poll()) is None and time.monotonic() < end:
            time.sleep(0.01)
        if code is None:
            raise local.subprocess.TimeoutExpired("mmbench.worker", timeout)
        return code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


@contextlib.contextmanager
def forked_runs():
    """Within it, runs of the local executor are forked."""
    import torch  # noqa: F401

    import mmbench.training.loop  # noqa: F401

    plain = local.subprocess
    with pytest.MonkeyPatch.context() as patch:
        names = {name: getattr(plain, name) for name in ("PIPE", "DEVNULL", "TimeoutExpired", "run")}
        patch.setattr(local, "subprocess", SimpleNamespace(**names, Popen=Forked))
        yield
