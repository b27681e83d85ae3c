"""The process of one run: trains, scores the chosen checkpoint on the test split once, and leaves a complete folder.

Started by an executor as ``python -m mmbench.worker FOLDER --device DEVICE``. Each epoch it prints one JSON line, for the progress display.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from mmbench import claims, tracking
from mmbench.companions import Companions, torchrun
from mmbench.component import TrackedRun
from mmbench.config import NUMBERS
from mmbench.errors import MmbenchError, RunError, told
from mmbench.files import file_digest, no_room, read_json, write, write_sealed
from mmbench.plugins import catalogue, one_line
from mmbench.privacy import SharedStream, shared
from mmbench.queued import Queued

SCHEMA_VERSION = 1
EXIT = {"done": 0, "failed": 1, "interrupted": 130}
FINAL = ("done", "failed")
"""What is not executed again unless the user asks for it."""
BUSY = 75
"""Another process executes the run, or has taken it over."""
UNWRITTEN = 74
"""No result could be written, as on a full disk; why is said on standard output, where no disk is needed."""
GRADIENT = "gradient."


def main(arguments: list[str] | None = None) -> int:
    """Execute the run of a folder; the exit status says how it ended."""
    parser = argparse.ArgumentParser(prog="python -m mmbench.worker", description="execute one run (started by an executor)")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="stop when this process has gone; default: the one that started this one")
    parser.add_argument("--rank", type=int, default=(torchrun() or (0,))[0], help="which of the processes of the run; default: as torchrun says")
    parser.add_argument("--port", type=int, default=0, help="where the first process listens; default: as torchrun says")
    parser.add_argument("--prepare", action="store_true", help="only get the encoders' weights, and the features of frozen ones into the cache")
    options = parser.parse_args(arguments)
    if options.prepare:
        return _prepare(options.folder, options.device, options.parent)
    stop = _Stop(options.parent)
    if options.rank:
        threading.Thread(target=_end_with, args=(options.parent,), daemon=True).start()
        if (status := stated(options.folder)[0]) in FINAL:  # torchrun's first process ends, too
            return EXIT[status]
        from mmbench.follower import follow

        return follow(options.folder, options.device, options.rank, options.port, stop, _reason)
    started, clock = time.time(), time.monotonic()
    try:
        with claims.claim(options.folder, stop.request) as held:
            status, _ = stated(options.folder)
            if status in FINAL:
                return EXIT[status]  # another command was first
            if stop():  # nobody waits for it
                return EXIT["interrupted"]
            (options.folder / "result.json").unlink(missing_ok=True)  # of an interrupted attempt
            tracked = tracking.Tracking()
            result = _guarded(options.folder, options.device, stop, tracked, held)
            result["started"] = datetime.fromtimestamp(started, timezone.utc).isoformat(timespec="seconds")
            result["seconds_total"] = round(time.monotonic() - clock, 2)
            if not held.held:
                return BUSY
            _write_result(options.folder, result, tracked)
            if result["status"] == "done":
                (options.folder / "last.pt").unlink(missing_ok=True)
    except claims.ClaimedError:
        return BUSY
    except OSError as error:
        if (status := stated(options.folder)[0]) in FINAL:  # it stands, and only what comes after it failed
            with suppress(OSError):
                if status == "done":
                    (options.folder / "last.pt").unlink(missing_ok=True)
            return EXIT[status]
        why = f"{error.filename or options.folder}: {error.strerror or error}"
        with suppress(OSError):
            _tell({"unwritten": why})
        with suppress(OSError):
            print(f"error: {why}", file=sys.stderr)
        return UNWRITTEN
    return EXIT[result["status"]]


def _prepare(folder: Path, device: str, parent: int) -> int:
    """What all runs with the same encoders share, done once before them; a mistake is one error for all."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        from mmbench.resolve import load
        from mmbench.runner import open_data
        from mmbench.training.encoders import build_encoders, prepare
        from mmbench.training.environment import choose_device

        (resolved,) = load(folder / "config.yaml")
        prepare(open_data(resolved), ("train", "valid", "test"), build_encoders(resolved), choose_device(device))
    except MmbenchError as error:
        print(told(str(error)), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT["interrupted"]
    return 0


def _end_with(parent: int) -> None:
    """End this process soon after its parent: what it is writing has no final name yet."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(EXIT["interrupted"])


class _Stop:
    """Remembers a request to stop: an interrupt, a termination, the loss of the claim, or the death of the process that started this one.

    That process says who it is, since it may be gone before this one can look.
    """

    def __init__(self, parent: int) -> None:
        self.requested = False
        self.parent = parent
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        self.request()

    def request(self) -> None:
        """Ask the run to stop after its step."""
        self.requested = True

    def __call__(self) -> bool:
        return self.requested or os.getppid() != self.parent

    def explains(self, error: BaseException) -> bool:
        """Whether an error is nothing but that the one who read this process's output is gone."""
        output = select.poll()
        output.register(1, 0)
        return isinstance(error, BrokenPipeError) and any(event & select.POLLERR for _, event in output.poll(0))


def stated(folder: Path) -> tuple[str, str]:
    """Status and reason as a run's result has them, its warnings among the reasons; nothing where there is none that can be read."""
    try:
        result = read_json(folder / "result.json")
        return str(result["status"]), "; ".join([*filter(None, [str(result["reason"])]), *map(str, result.get("warnings", ()))])
    except (KeyError, TypeError):
        return "", ""


def _write_result(folder: Path, result: dict[str, Any], tracked: tracking.Tracking) -> None:
    """The result stands before the trackers hear of it; what fails in them is added."""
    result |= {"warnings": list(tracked.warnings)} if tracked.warnings else {}
    told = shared(result)
    write_sealed(folder / "result.json", told)
    if result["status"] in FINAL:
        Queued.remove(folder)
    tracked.end(told)
    if tracked.warnings != result.get("warnings", []):
        with suppress(OSError):  # the result stands
            write_sealed(folder / "result.json", {**told, "warnings": shared(tracked.warnings)})


def _guarded(folder: Path, device: str, stop: _Stop, tracked: tracking.Tracking, held: claims.Claim) -> dict[str, Any]:
    """The result of the run, whatever happens in it."""
    from mmbench.resolve import load

    result: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "numbers": NUMBERS, "status": "failed", "reason": "", "label": folder.parent.name}
    interrupted: tuple[type[Exception], ...] = ()
    try:
        (resolved,) = load(folder / "config.yaml")
        result.update(_identity(resolved, folder))
        tracked.classes = tracking.load(tracking.names())
        from mmbench.training.loop import Interrupted

        interrupted = (Interrupted,)
        with Companions(folder, device, resolved.experiment.training.processes, partial(_lost, folder, result, held)) as companions:
            _run(resolved, folder, companions, stop, result, tracked)
    except (Exception, SystemExit) as error:  # a component may call sys.exit, and none of its numbers is to mean something here
        if isinstance(error, interrupted) or stop.explains(error):
            result.update(status="interrupted", reason="stopped on request after a step; the last checkpoint stands")
        else:
            result["reason"] = _reason(error)
            if no_room(error):
                result.update(status="interrupted", reason=f"{result['reason']}; free some space, and the same command goes on")
    return result


def _lost(folder: Path, result: Mapping[str, Any], held: claims.Claim, reason: str) -> None:
    """Put down that the run has failed, and end: the rest of this process waits for another that will not answer. Its claim is that of one gone."""
    with suppress(OSError):
        if held.held:
            write_sealed(folder / "result.json", shared({**result, "status": "failed", "reason": reason}))
            Queued.remove(folder)
    os._exit(EXIT["failed"])


def _reason(error: Exception | SystemExit) -> str:
    """One line for the record; the traceback of anything that is not a user's mistake goes to the log."""
    if isinstance(error, MmbenchError):
        return " ".join(str(error).split())
    if full := no_room(error):
        return f"{full.filename or 'its folder'}: the disk is full ({full.strerror})"
    with suppress(OSError):
        traceback.print_exc()
    if isinstance(error, SystemExit):
        return f"a component ended the process ({one_line(error)[:200]})"
    if "out of memory" in str(error).lower() or isinstance(error, MemoryError):
        return f"out of memory: {one_line(error)[:200]}; use a smaller training.batch_size"
    if "torch.use_deterministic_algorithms" in str(error):
        reason = one_line(error).partition(", but you set")[0][:300]
        return f"training.deterministic: {reason}; choose another method or device, or set it to false: its numbers may then differ from run to run"
    return one_line(error)[:500] + _place(error)


def _place(error: BaseException) -> str:
    """Where in a component it was raised, or what of it called torch; its whole way stands in the log."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "-packages/torch/" not in frame.filename]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno}, in {own[-1].name}; the traceback is in the run's log.txt)" if own else ""


def _identity(resolved: Any, folder: Path) -> dict[str, Any]:
    experiment = resolved.experiment
    component = resolved.model.entry.component
    return {
        "experiment": experiment.name,
        "name": resolved.name,
        "model": component.name,
        "losses": [{"name": loss.entry.component.name, "weight": loss.weights} for loss in resolved.losses],
        "floor": component.floor,
        "seed": experiment.seeds[0],
        "fingerprint": folder.parent.name.rpartition("-")[2],
        **({"family": resolved.family, "data": resolved.protocol} if resolved.protocol else {}),
    }


def _run(resolved: Any, folder: Path, companions: Companions, stop: _Stop, result: dict[str, Any], tracked: tracking.Tracking) -> None:
    """Train, score and write predictions; what is known goes into `result` as soon as it is, so that a failure keeps it."""
    import numpy as np

    from mmbench.metrics import collapsed, evaluate
    from mmbench.results.runs import write_predictions
    from mmbench.runner import open_data, planned_fingerprint
    from mmbench.training.encoders import build_encoders, prepare
    from mmbench.training.environment import environment
    from mmbench.training.loop import Interrupted, Protocol, fit, predict
    from mmbench.training.network import Network
    from mmbench.training.seeds import make_deterministic
    from mmbench.training.tensors import TensorSplit

    training, seed = resolved.experiment.training, resolved.experiment.seeds[0]
    make_deterministic(training.threads, training.deterministic)
    ranks = companions.join()
    device = ranks.device
    dataset = open_data(resolved)
    fingerprint = planned_fingerprint(resolved, dataset, folder)
    metrics = {name: catalogue().find("metric", name).load() for name in resolved.to_dict()["metrics"]}
    result["data"] = {
        **dataset.record,
        "name": dataset.name,
        "task": dataset.task,
        "classes": list(dataset.classes),
        "modalities": list(dataset.modalities),
        "fingerprint": dataset.fingerprint,
        "metrics": list(metrics),
        **resolved.protocol,
    }
    result["environment"] = environment(resolved, device)

    def score(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
        return dict(evaluate(tuple(metrics), prediction, target, dataset.classes, metrics))

    log = _EpochLog(folder / "epochs.jsonl")

    def on_epoch(history: list[dict[str, Any]]) -> None:
        log.epoch(history)
        last = history[-1]
        _tell({"epoch": last["epoch"], "of": training.epochs, "metric": resolved.select, "value": _plain(last["valid"][resolved.select])})

    def on_start(history: list[dict[str, Any]]) -> None:
        identity = {key: result[key] for key in ("experiment", "label", "name", "model", "seed", "data")}
        tracked.start(
            TrackedRun(folder.resolve(), **shared(identity), config=shared(resolved.to_dict()), device=str(device), resumed_from=len(history)),
            history,
        )

    encoders = build_encoders(resolved)
    result["encoders"] = {modality: encoder.digest() for modality, encoder in encoders.items()}  # as they came, before training
    learning = prepare(dataset, ("train", "valid"), encoders, device)
    network = Network(resolved, learning.input_spec(), seed, encoders, ranks).to(device)
    result["adapters"] = network.adapters.describe() if network.adapters is not None else []
    higher = resolved.select != "loss" and metrics[resolved.select].higher_is_better
    told = on_epoch, on_start, tracked.epochs
    protocol = Protocol(training, resolved.task_loss, resolved.select, higher, score, seed, folder, fingerprint, stop, *told)
    valid = TensorSplit(learning.splits["valid"], device)
    try:
        progress = fit(network, TensorSplit(learning.splits["train"], device), valid, protocol)
    except Interrupted:
        raise
    except (Exception, SystemExit):
        tracked.epochs(log.history)  # a failed run is not gone on with, so these are all
        raise
    log.whole(progress.history)
    started = time.perf_counter()
    test = TensorSplit(prepare(dataset, ("test",), encoders, device).splits["test"], device)
    scores, rows = {}, {}
    for name, split in (("valid", valid), ("test", test)):
        try:
            prediction, target = predict(network, split, training)
        except RunError as error:
            raise RunError(f"{name} split, weights of epoch {progress.best_epoch}: {error}") from None
        scores[name] = score(prediction, target)
        rows[name] = (split.ids, target, prediction)
    ranks.leave()
    write_predictions(folder / "predictions.csv.gz", rows)
    _, target, prediction = rows["test"]
    result.update(
        status="done",
        metrics=scores,
        collapsed=bool(collapsed(prediction, target, dataset.task)),
        selection={"metric": resolved.select, "value": progress.best, "epoch": progress.best_epoch},
        gradients=_gradients(progress.history[progress.best_epoch - 1]["train"]),
        epochs=progress.epoch,
        **({"compile": progress.compile} if progress.compile else {}),
        parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        seconds=round(sum(entry["seconds"] for entry in progress.history), 2),
        files={name: file_digest(folder / name) for name in ("config.yaml", "epochs.jsonl", "predictions.csv.gz")},
        seconds_evaluation=round(time.perf_counter() - started, 2),
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )


def _tell(line: Mapping[str, Any]) -> None:
    """One line for the executor, unless a plugin has closed the stream. BrokenPipeError: the executor is gone."""
    try:
        print(json.dumps(line), flush=True)
    except BrokenPipeError:
        raise
    except (OSError, ValueError):
        pass


class _EpochLog:
    """``epochs.jsonl``, a line an epoch: begun anew by each attempt, with the epochs that earlier ones kept, then added to as epochs end."""

    def __init__(self, path: Path):
        self.path = path
        self.begun = False
        self.history: list[dict[str, Any]] = []

    def epoch(self, history: list[dict[str, Any]]) -> None:
        """Add the last epoch of the history. A line that a crash cuts off is left out by those who read."""
        self.history = history
        if not self.begun:
            self.whole(history)
            return
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(_line(history[-1]))

    def whole(self, history: list[dict[str, Any]]) -> None:
        """All epochs, durably."""
        write(self.path, "".join(map(_line, history)))
        self.begun = True


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(_plain(entry)) + "\n"


def _gradients(sums: Mapping[str, float]) -> dict[str, float]:
    """By term: the norm of its weighted gradient in the encoded features, at the first batch of an epoch."""
    return {name.removeprefix(GRADIENT): value for name, value in sums.items() if name.startswith(GRADIENT)}


def _plain(value: Any) -> Any:
    from mmbench.files import without_nan

    return without_nan(value)


if __name__ == "__main__":
    sys.stderr = SharedStream(sys.stderr)  # type: ignore[assignment]  # it is the run's log
    sys.exit(main())
