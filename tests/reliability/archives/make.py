"""Archived runs, stores and manifests of this version, which later versions must read; and the fingerprints of the shipped configs.

    python tests/reliability/archives/make.py v1             # a new folder beside this file, for a version whose files are others
    python tests/reliability/archives/make.py --fingerprints # after a change that is meant to change fingerprints; say so in CHANGELOG.md

An archive is never made again, only joined by the next one: what it holds was written by the version of its time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
FINGERPRINTS = HERE / "fingerprints.json"
SHAPES = {"text": {"length": 3, "width": 3}, "audio": {"length": 4, "width": 2}}
COMMON = {"prototypes": 3, "modalities": [*SHAPES], "layouts": {"unaligned": {"files": ["tiny.pkl"], "shapes": SHAPES}}}
SPLITS = {name: {"size": size} for name, size in {"train": 18, "valid": 6, "test": 8}.items()}
MANIFESTS: dict[str, dict[str, Any]] = {
    "numbers": {
        "task": "regression",
        "label_range": [-3.0, 3.0],
        "metrics": ["mae", "corr"],
        "labels": {"values": [-2.0, 0.5, 2.0], "counts": [2, 1, 2]},
    },
    "classes": {"task": "classification", "classes": ["low", "high"], "metrics": ["wacc", "waf1"], "labels": {"values": [0, 1], "counts": [1, 1]}},
}
TOY = {"name": "toy", "width": 3, "dropout": 0.2}
TRAINING = {"epochs": 4, "batch_size": 6, "optimizer": {"lr": 0.02}}
PULL = [{"name": "pull", "weight": {"near": 0.1, "far": 0.05}}]
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "adapted": {"data": "numbers", "model": TOY, "losses": PULL, "sweep": {"kind": {"both": {}, "one": {"data.modalities": ["text"]}}}},
    "classified": {"data": "classes", "model": TOY},
    "failing": {"data": "numbers", "model": {**TOY, "explode_at_step": 2}},
    "stopped": {"data": "numbers", "model": TOY, "losses": PULL},
}


class Distribution:
    """The one that a plugin of tests says it is of."""

    def __init__(self, name: str):
        self.name, self.version = name, "1.0"


@contextmanager
def toys(patch: Any) -> Iterator[None]:
    """The core and the toy plugin are all that is installed. `patch(thing, name, value)` is undone by the caller."""
    from mmbench import plugins

    pairs = (("mmbench", "mmbench.builtin"), ("toys", "toy_plugin"))
    points = [EntryPoint(name, module, plugins.GROUP)._for(Distribution(name)) for name, module in pairs]  # type: ignore[attr-defined]
    patch(plugins, "metadata", SimpleNamespace(entry_points=lambda group: points))
    plugins.catalogue.cache_clear()
    yield
    plugins.catalogue.cache_clear()


def make(folder: Path) -> None:
    """Write an archive."""
    from mmbench import worker
    from mmbench.data.manifest import load_manifest
    from mmbench.data.simulate import simulate
    from mmbench.diagnostics.document import diagnose
    from mmbench.diagnostics.opening import open_run
    from mmbench.diagnostics.represent import represent
    from mmbench.files import without_nan, write_json
    from mmbench.resolve import load
    from mmbench.results.embeddings import diagnostics_path, embeddings_path, write_embeddings
    from mmbench.results.runs import find_runs
    from mmbench.runner import make_plan, prepare
    from mmbench.strict_yaml import dump

    folder.mkdir()
    os.chdir(folder)  # names of manifests count in fingerprints as they are written
    os.environ["HOME"] = str(folder)
    for name, own in MANIFESTS.items():
        Path(f"{name}.yaml").write_text(dump({"name": name, "title": name.title(), **COMMON, **own, "splits": SPLITS}))
        simulate(load_manifest(f"{name}.yaml"), folder=Path(name))
    for name, value in EXPERIMENTS.items():
        data = {"name": f"{value['data']}.yaml", "path": value["data"]}
        Path(f"{name}.yaml").write_text(dump({"name": name, **value, "data": data, "training": TRAINING, "seeds": [1]}))
        requests, _, _ = prepare(make_plan(load(f"{name}.yaml"), Path("runs"), None, "cpu"), None)
        for request in requests:
            if request.folder.parent.name.startswith("toy-") or name == "adapted":
                if name == "stopped":  # in the epoch after the first, which is written at once
                    worker._Stop.__call__ = lambda self: (request.folder / "last.pt").exists()  # type: ignore[method-assign] # noqa: B023
                worker.main([str(request.folder), "--device", "cpu"])
            else:
                shutil.rmtree(request.folder.parent)
    for record in find_runs(Path("runs")):
        if record.status == "done" and not record.floor:
            opened = open_run(record.folder)
            write_embeddings(embeddings_path(record), represent(opened))
            if record.experiment == "adapted":
                write_json(diagnostics_path(record), without_nan(diagnose(opened, draws=0)))
    expected = {
        str(record.folder.relative_to(folder)): {"status": record.status, "reason": record.reason, "metrics": record.metrics.get("test", {})}
        for record in find_runs(Path("runs"))
    }
    write_json(folder / "expected.json", expected)
    for path in [*folder.rglob("claim"), *folder.rglob("run.lock")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def fingerprints() -> dict[str, str]:
    """By shipped config, a digest of the fingerprints of all its cells on data that are always the same; and what is in force where none says it."""
    from mmbench.files import shipped
    from mmbench.plugins import catalogue
    from mmbench.resolve import read, resolve, resolve_all
    from mmbench.strict_yaml import Document

    bare = resolve(Document({"name": "bare", "data": {"name": "mosi"}, "model": {"name": "linear"}}, {}), catalogue())
    found = {"a config that says nothing": bare.fingerprint("data")}
    for entry in catalogue().entries:
        if entry.component.kind in ("model", "loss", "extractor") and entry.distribution.startswith("mmbench"):
            defaults = {name: repr(field.default) for name, field in entry.load_config().model_fields.items()}
            digest = hashlib.sha256(json.dumps(defaults, sort_keys=True).encode()).hexdigest()[:12]
            found[f"defaults of {entry.component.kind} {entry.key}"] = digest
    folder = shipped("configs")
    for path in sorted(folder.glob("*.yaml")):
        document = read(path)
        document.value.pop("tune", None)  # of a search: what it starts from
        cells = [[cell.experiment.row, cell.manifest.part, cell.fingerprint("data")] for cell in resolve_all(document)]
        found[path.stem] = f"{len(cells)} cells, {hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:12]}"
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help="the folder of a new archive")
    parser.add_argument("--fingerprints", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE.parents[1] / "toys"))
    if options.fingerprints:
        FINGERPRINTS.write_text(json.dumps(fingerprints(), indent=1) + "\n")
    if options.name:
        with toys(setattr):
            make(HERE / options.name)
