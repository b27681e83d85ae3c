"""Leakage: what training can see of validation and test.

Every registered model and loss is trained by the real worker, in this process, on data whose test split raises when anything of it is read before
the last epoch. Then validation and test are changed wildly, and the trained weights must be the same bits.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import signal
import traceback
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import BaseModel

torch = pytest.importorskip("torch")

from mmbench import plugins, resolve, runner, worker  # noqa: E402
from mmbench.config import Experiment  # noqa: E402
from mmbench.data.dataset import Split  # noqa: E402
from mmbench.errors import ConfigError  # noqa: E402
from mmbench.plugins import GROUP, catalogue  # noqa: E402
from mmbench.results.predictions import read_predictions  # noqa: E402
from mmbench.strict_yaml import dump  # noqa: E402
from mmbench.training import encoders, loop  # noqa: E402

pytestmark = pytest.mark.reliability

SIZES = {"train": 26, "valid": 9, "test": 11}
WIDTHS = {"text": 5, "audio": 3, "vision": 4}
LENGTHS = {"text": 6, "audio": 7, "vision": 5}
CLASSES = ("low", "middle", "high")
REMEMBERING = ("slad_contrastive", "prototype_transport", "self_mm", "constant", "linear")
"""Components that keep something of the training data beside weights: these are compared first where not all are."""


def content(wild: str = "", words: bool = False) -> dict[str, Any]:
    """A data set of three modalities. The `wild` split has other labels, features and lengths."""
    whole: dict[str, Any] = {}
    for number, (split, size) in enumerate(SIZES.items()):
        rng = np.random.default_rng([number, split == wild])
        target = rng.uniform(-3, 3, size) if split != wild else rng.permutation(np.linspace(-3, 3, size) ** 3 / 9)
        part: dict[str, Any] = {
            "id": [f"{split}{i // 3}$_${i % 3}" for i in range(size)],
            "raw_text": ["good film " * (i % 3 + 1 + 4 * (split == wild)) for i in range(size)],
            "regression_labels": target.astype(np.float32),
            "classification_labels": [CLASSES[i] for i in np.digitize(target, [-1, 1])],
        }
        for name, width in () if words else WIDTHS.items():
            longest = LENGTHS[name] + 5 * (split == wild)
            lengths = rng.integers(1, longest + 1, size)
            lengths[0] = longest
            values = rng.normal(size=(size, longest, width)) * (40.0 if split == wild else 1.0) + target[:, None, None]
            part |= {name: (values * (np.arange(longest) < lengths[:, None])[..., None]).astype(np.float32), f"{name}_lengths": lengths.tolist()}
        if words:
            part |= {"audio": rng.normal(size=(size, 4, 3)).astype(np.float32), "audio_lengths": [4] * size}
        whole[split] = part
    return whole


def manifest(task: str) -> dict[str, Any]:
    """What those data are called. For classes there is a protocol of several binary tasks."""
    common = {"name": f"tiny_{task}", "title": "Tiny", "task": task, "prototypes": 3, "modalities": [*WIDTHS]}
    if task == "regression":
        return {**common, "label_range": [-3.0, 3.0], "metrics": ["mae", "corr"]}
    binary = {name: {"classes": ["other", name], "positive": name, "prototypes": 2} for name in CLASSES}
    protocols = {"all": {}, "binary": {"parts": binary}}
    return {**common, "classes": [*CLASSES], "source_classes": [*CLASSES], "metrics": ["wacc", "waf1"], "protocols": protocols}


class Sealed(Split):
    """A split that says who reads anything of it."""

    opened = False
    touches: tuple[str, ...] = ()

    def __getattribute__(self, name: str) -> Any:
        if name in FIELDS and not Sealed.opened:
            stack = [frame for frame in traceback.extract_stack()[:-1] if "/mmbench" in frame.filename or frame.filename == __file__]
            readers = " < ".join(f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in stack[::-1])
            Sealed.touches += (f"{name} of the test split, by {readers}",)
            raise PermissionError(Sealed.touches[-1])
        return super().__getattribute__(name)


FIELDS = {field.name for field in dataclasses.fields(Split)}


class Workshop:
    """Trains what a config says in this process, through the plan, the run folder and the worker."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.kept: dict[str, Any] = {}
        for task in ("regression", "classification"):
            (folder / f"{task}.yaml").write_text(dump(manifest(task)))
        for name in ("plain", "valid", "test"):
            (folder / f"{name}.pkl").write_bytes(pickle.dumps(content(name)))
            (folder / f"words-{name}.pkl").write_bytes(pickle.dumps(content(name, words=True)))

    def config(self, file: str = "plain", task: str = "regression", **sections: Any) -> list[resolve.Resolved]:
        """The experiments of an own model, losses, data options and training, on one of the files."""
        where = {"name": str(self.folder / f"{task}.yaml"), "path": str(self.folder / f"{file}.pkl"), "splits": "own"}
        data, training = {**where, **sections.pop("data", {})}, {"epochs": 2, "batch_size": 8, **sections.pop("training", {})}
        path = self.folder / "guard.yaml"
        path.write_text(dump({"name": "guard", "seeds": [1], "data": data, "training": training, **sections}))
        return resolve.load(path)

    def train(self, cells: list[resolve.Resolved], floors: bool = False) -> list[Path]:
        """The folders of the runs, done or failed."""
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        plan = runner.make_plan(cells, self.folder / "runs", None, "cpu")
        requests, _, _ = runner.prepare(plan, None)
        chosen = [request.folder for request in requests if floors or not request.folder.parent.name.startswith(("constant-", "linear-"))]
        for folder in chosen or [request.folder for request in requests]:
            Sealed.opened = False
            worker.main([str(folder), "--device", "cpu"])
        return chosen

    def weights(self, cells: list[resolve.Resolved], which: str = "best") -> dict[str, Any]:
        """The chosen weights of one run, or those of its ``last`` epoch; with buffers and what else a checkpoint holds of the network."""
        (folder,) = self.train(cells)
        assert result(folder)["status"] == "done", result(folder)["reason"]
        return dict(self.kept[which])


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Iterator[Workshop]:
    """With the toys, and with a test split that is sealed until training has ended. Leaves the process as it was."""
    folder = tmp_path_factory.mktemp("guards")
    made = Workshop(folder)
    points = [point for point in entry_points(group=GROUP) if point.name != "toys"]
    joined = plugins.build([*points, EntryPoint("toys", "toy_plugin", GROUP)])
    open_data, fit = runner.open_data, loop.fit

    def sealing(*arguments: Any) -> Any:
        dataset = open_data(*arguments)
        sealed = Sealed(**{name: getattr(dataset.splits["test"], name) for name in FIELDS})
        return dataclasses.replace(dataset, splits={**dataset.splits, "test": sealed})

    def opening(network: Any, train: Any, valid: Any, protocol: Any) -> Any:
        try:
            return fit(network, train, valid, protocol)
        finally:
            for which in ("best", "last"):
                if (protocol.folder / f"{which}.pt").exists():
                    made.kept[which] = torch.load(protocol.folder / f"{which}.pt", weights_only=True)["network"]
            Sealed.opened = True

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    mode, threads = torch.get_deterministic_debug_mode(), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMBENCH_CACHE", str(folder / "cache"))
        for module in (resolve, runner, worker):
            patch.setattr(module, "catalogue", lambda: joined)
        patch.setattr(runner, "open_data", sealing)
        patch.setattr(loop, "fit", opening)
        yield made
    torch.set_deterministic_debug_mode(mode)
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def untouched() -> None:
    Sealed.touches = ()


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def registered(kind: str) -> list[str]:
    return [entry.key for entry in catalogue().of_kind(kind)]


def section(kind: str, key: str) -> dict[str, Any]:
    return {"name": key, **catalogue().find(kind, key).component.small}


def experiment(kind: str, key: str) -> dict[str, Any]:
    """The sections of an experiment with one component: a loss joins the first model that it is not refused with."""
    return {"model": section("model", key)} if kind == "model" else {"model": section("model", backbone(key)), "losses": [section("loss", key)]}


def backbone(loss: str) -> str:
    wanted = {need for need in catalogue().find("loss", loss).component.needs if need.startswith("extra.")}
    entries = [entry for entry in catalogue().of_kind("model") if wanted <= entry.component.provides and not entry.component.floor]
    return next(entry.key for entry in entries if wanted or "encoded" in entry.component.provides)


COMPONENTS = [(kind, key) for kind in ("model", "loss") for key in registered(kind)]


def seen_nothing(tally, folder: Path) -> None:
    found = result(folder)
    tally("training looks at the test split", found["status"] == "done" and not Sealed.touches)
    assert "test" in read_predictions(folder / "predictions.csv.gz")


@pytest.mark.parametrize(("kind", "key"), COMPONENTS, ids=[f"{kind}-{key.partition('/')[2]}" for kind, key in COMPONENTS])
def test_no_component_sees_the_test_split(workshop, tally, kind, key) -> None:
    tasks = catalogue().find(kind, key).component.tasks
    (folder,) = workshop.train(workshop.config(task=tasks[0], **experiment(kind, key))) or [next(workshop.folder.glob("runs/*/*/seed-1"))]
    assert result(folder)["reason"] == ""
    seen_nothing(tally, folder)


WAYS: Mapping[str, Mapping[str, Any]] = {
    "frozen encoder": {"data": {"modalities": ["text", "audio"]}, "encoders": {"text": {"name": "letters"}}},
    "trained encoder": {"data": {"modalities": ["text", "audio"]}, "encoders": {"text": {"name": "letters", "finetune": True}}},
    "standardised": {"data": {"standardize": {"percentiles": [1, 99]}, "max_length": {"audio": 4}}},
    "context": {"data": {"context": {"audio": 2}}},
    "parts": {"task": "classification", "data": {"protocol": "binary"}},
    "buckets and schedule": {"training": {"buckets": 2, "scheduler": {"name": "plateau", "patience": 0}, "early_stopping": 1, "accumulation": 2}},
    "select by loss": {"training": {"select": "loss", "compile": True, "scheduler": {"name": "warmup_cosine"}}},
}


def way(name: str, file: str = "plain") -> dict[str, Any]:
    """The arguments of `Workshop.config` for one way of training, with data of which one split may be wild."""
    chosen = {key: value for key, value in WAYS[name].items() if key != "encoders"}
    if found := WAYS[name].get("encoders"):
        return {"file": f"words-{file}", "model": {"name": "toys/toy", "dropout": 0.3, "encoders": found}, **chosen}
    return {"file": file, "model": {"name": "toys/toy", "dropout": 0.3}, "losses": [{"name": "toys/pull"}, {"name": "toys/unimodal"}], **chosen}


@pytest.mark.parametrize("name", WAYS)
def test_no_way_of_training_sees_the_test_split(workshop, tally, name) -> None:
    folders = workshop.train(workshop.config(**way(name)), floors=name == "standardised")
    assert len(folders) == {"parts": 3, "standardised": 3}.get(name, 1)
    for folder in folders:
        assert result(folder)["reason"] == ""
        seen_nothing(tally, folder)


def test_the_seal_holds(workshop, monkeypatch) -> None:
    """Whoever looks too early is named; a failure in this is a test that proves nothing."""
    prepare = encoders.prepare

    def peeking(dataset: Any, *arguments: Any) -> Any:
        np.asarray(dataset.splits["test"].target).mean()
        return prepare(dataset, *arguments)

    monkeypatch.setattr(encoders, "prepare", peeking)
    (folder,) = workshop.train(workshop.config(model={"name": "toys/toy"}))
    assert result(folder)["status"] == "failed"
    assert "target of the test split, by peeking" in result(folder)["reason"]


def test_features_of_test_are_made_after_training_and_labels_of_it_never_by_an_encoder(workshop, monkeypatch, tally) -> None:
    """`prepare` is asked for training and validation, and for test when the seal is off; its encoders are given no targets."""
    asked, prepare, encode = [], encoders.prepare, encoders._encode

    def noting(dataset: Any, names: Any, *arguments: Any) -> Any:
        asked.append((*names, Sealed.opened))
        return prepare(dataset, names, *arguments)

    def inside(encoder: Any, modality: Any, *arguments: Any) -> Any:
        assert set(vars(modality)) == {"values", "mask"}
        return encode(encoder, modality, *arguments)

    monkeypatch.setattr(encoders, "prepare", noting)
    monkeypatch.setattr(encoders, "_encode", inside)
    shutil.rmtree(workshop.folder / "cache" / "features", ignore_errors=True)
    workshop.train(workshop.config(**way("frozen encoder")))
    tally("features of test are made during training", asked == [("train", "valid", False), ("test", True)])


def same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


FIRST = sorted(COMPONENTS, key=lambda pair: (pair[1].partition("/")[2] not in REMEMBERING, pair))


def test_weights_do_not_depend_on_test_nor_on_the_labels_of_validation(workshop, tally, times) -> None:
    """Bit for bit, with buffers (memories, prototypes, statistics); another test split changes nothing, another validation at most the choice."""
    for kind, key in FIRST[: times(len(REMEMBERING), len(FIRST))]:
        sections = {"task": catalogue().find(kind, key).component.tasks[0], **experiment(kind, key)}
        if catalogue().find("model", sections["model"]["name"]).component.floor:
            continue  # they are trained beside others, below
        plain, last = workshop.weights(workshop.config("plain", **sections)), dict(workshop.kept["last"])
        tally("test changes trained weights", same(plain, workshop.weights(workshop.config("test", **sections))))
        tally("validation changes trained weights", same(last, workshop.weights(workshop.config("valid", **sections), "last")))


@pytest.mark.parametrize("name", ["frozen encoder", "trained encoder", "standardised", "context"])
def test_no_statistic_is_taken_from_test(workshop, tally, name) -> None:
    plain, last = workshop.weights(workshop.config(**way(name))), dict(workshop.kept["last"])
    tally("test changes trained weights", same(plain, workshop.weights(workshop.config(**way(name, "test")))))
    tally("validation changes trained weights", same(last, workshop.weights(workshop.config(**way(name, "valid")), "last")))


def test_the_floors_know_training_alone(workshop, tally) -> None:
    found = {}
    for data in ("plain", "test"):
        for folder in workshop.train(workshop.config(**way("standardised", data)), floors=True):
            found.setdefault(folder.parent.name.partition("-")[0], []).append(torch.load(folder / "best.pt", weights_only=True)["network"])
    assert set(found) == {"toy", "constant", "linear"}
    for first, second in found.values():
        tally("test changes trained weights", same(first, second))


def test_a_component_that_spoils_its_targets_spoils_its_own_copy(workshop, monkeypatch, tally) -> None:
    """`FitContext` is given away; the targets that training and selection use are not in it."""
    fresh = workshop.weights(workshop.config(model={"name": "toys/toy"}))
    monkeypatch.setattr("toy_parts.ToyModel.on_fit_start", lambda self, context: context.train_targets.fill_(9.0))
    tally("a component changes the targets of training", same(fresh, workshop.weights(workshop.config(model={"name": "toys/toy"}))))


# No option selects on test -----------------------------------------------------------------------------------------------------------


def options(cls: type[BaseModel], place: str = "") -> Iterator[tuple[str, str]]:
    """Every key of the schema and every word that one may be, with its place."""
    for name, field in cls.model_fields.items():
        yield f"{place}{name}", name
        queue = [field.annotation]
        while queue:
            annotation = queue.pop()
            if isinstance(annotation, str):
                yield f"{place}{name}", annotation
            elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
                yield from options(annotation, f"{place}{name}.")
            else:
                queue += get_args(annotation)


def test_no_option_names_the_test_split(tally) -> None:
    found = list(options(Experiment))
    assert ("training.select", "select") in found
    assert ("data.splits", "own") in found
    for entry in catalogue().entries:
        if entry.component.kind in ("model", "loss"):
            found += options(entry.load_config(), f"{entry.key}.")
    tally("an option chooses by test", not [place for place, word in found if "test" in word.lower()], tries=len(found))


@pytest.mark.parametrize("select", ["test", "test.mae", "test/mae", "mae@test", "test_loss"])
def test_a_checkpoint_is_chosen_by_a_score_of_validation(workshop, tally, select) -> None:
    with pytest.raises(ConfigError, match=r"training.select: .* is none of this experiment's metrics: loss, mae, corr"):
        workshop.config(model={"name": "toys/toy"}, training={"select": select})
    tally("an option chooses by test", True)
