"""Any loss with any backbone: every registered pair takes one step, or is refused with a reason. Two and three modalities, both tasks.

And the matrix, the config of all these pairs: it names every method of this repository, and takes one more by an option.
"""

from __future__ import annotations

import json
from collections import Counter
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from mmbench import plugins, runner  # noqa: E402
from mmbench import resolve as resolving  # noqa: E402
from mmbench.cli import report, run  # noqa: E402
from mmbench.compatibility import fit  # noqa: E402
from mmbench.component import FitContext  # noqa: E402
from mmbench.plugins import GROUP, Entry, catalogue  # noqa: E402
from mmbench.resolve import Resolved, load, resolve  # noqa: E402
from mmbench.strict_yaml import Document, load_document  # noqa: E402
from mmbench.training.network import Network, task_loss  # noqa: E402
from mmbench.training.tensors import TensorSplit  # noqa: E402

ROOT = Path(__file__).parent.parent
TEMPLATE = "mmbench-example"  # what a third party copies: no method, so not in the matrix
MODALITIES = (("text", "audio"), ("text", "audio", "vision"))
DATA = {"regression": "mosi", "classification": "iemocap"}
SMALL = {
    **dict.fromkeys(("width", "hidden", "text_width", "fusion_width", "subnet_width", "unimodal_width", "feed_forward"), 8),
    "layers": 1,
    "heads": 2,
    "rank": 2,
}
"""Values for hyperparameters of these names, where a component has them."""

MODELS = [entry for entry in catalogue().of_kind("model") if not entry.component.floor]
LOSSES: list[Entry | None] = [None, *catalogue().of_kind("loss")]
outcomes: Counter[str] = Counter()


def configured(model: Entry, loss: Entry | None, task: str, modalities: tuple[str, ...]) -> Resolved:
    sections = [{"name": entry.key, **{k: v for k, v in SMALL.items() if k in entry.load_config().model_fields}} for entry in (model, loss) if entry]
    data = {"name": DATA[task], "modalities": list(modalities)}
    return resolve(Document({"name": "pair", "data": data, "model": sections[0], "losses": sections[1:]}, {}), catalogue())


def meaningless(resolved: Resolved, task: str) -> bool:
    """Whether the declarations leave no way: said once more, without the core's words."""
    provides = resolved.model.declared("provides")
    for choice in (resolved.model, *resolved.losses):
        component = choice.entry.component
        if task not in component.tasks or len(resolved.modalities) < component.min_modalities:
            return True
    lacking = {need for loss in resolved.losses for need in loss.declared("needs")} - provides
    return bool(lacking) and ("encoded" not in provides or any(need.startswith("extra.") for need in lacking))


@pytest.fixture(scope="module")
def batches(make_dataset):
    """One batch of a whole small training split for each task and number of modalities."""
    found = {}
    for task in DATA:
        for modalities in MODALITIES:
            dataset = make_dataset(task, modalities=modalities)
            train = TensorSplit(dataset.splits["train"], torch.device("cpu"))
            found[task, modalities] = dataset.input_spec(), train, train.batch(torch.arange(train.size))
    return found


@pytest.mark.parametrize("modalities", MODALITIES, ids=lambda names: f"{len(names)}")
@pytest.mark.parametrize("task", DATA)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda entry: entry.component.name if entry else "none")
@pytest.mark.parametrize("model", MODELS, ids=lambda entry: entry.component.name)
def test_a_pair_takes_a_step_or_is_refused_with_a_reason(batches, model, loss, task, modalities) -> None:
    outcomes["started"] += 1
    resolved = configured(model, loss, task, modalities)
    assert not resolved.missing
    if meaningless(resolved, task):
        pairs = [(choice.entry.component, choice.declared("needs")) for choice in resolved.losses]
        again = fit(model.component, resolved.model.declared("provides"), pairs, modalities, task, "auto")
        assert again.refusals
        assert resolved.fit.refusals == again.refusals
        assert all(f"'{model.component.name}'" in reason or (loss and f"'{loss.component.name}'" in reason) for reason in again.refusals)
        outcomes["refused"] += 1
        outcomes.update(f"refused: {reason.partition(', which model')[0]}" for reason in again.refusals)
        return
    assert resolved.fit.refusals == ()
    inputs, train, batch = batches[task, modalities]
    network = Network(resolved, inputs, seed=1).train()
    network.on_fit_start(FitContext(train.size, train.target, 5))
    for epoch in (1, 2, 3):  # a loss may rest on what the first epochs show: its gradient must come by the third
        for part in network.losses.values():
            part.on_epoch_start(epoch)
        representation = network(batch)
        terms = network.terms(representation, batch, epoch)
        assert bool(terms) == bool(loss)
        task_term = task_loss(resolved.task_loss, representation.prediction, batch.target)
        total = torch.stack([term.float() for term in terms.values()] or [task_term]).sum()
        assert torch.isfinite(total)
        encoded = [sequence.values for sequence in representation.encoded.values()]
        assert bool(encoded) == ("encoded" in resolved.model.declared("provides"))
        reached = pulled(total, encoded)
        for part in network.losses.values():
            part.on_epoch_end(epoch)
        if reached:
            break
    # A loss that names no field reads the fused features or the prediction, and a model may show `encoded` beside the way to these.
    assert reached or not any(choice.declared("needs") for choice in resolved.losses)
    (total + task_term).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.model.parameters())
    outcomes["adapted" if resolved.fit.adapters else "as they are"] += 1
    outcomes["idle heads"] += idle(network)


def pulled(total, encoded) -> bool:
    """Whether the sum of terms has a gradient in the encoded features."""
    gradients = torch.autograd.grad(total, encoded, retain_graph=True, allow_unused=True) if encoded else ()
    return any(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients)


def idle(network) -> bool:
    """Whether an adapter's predictions are read, as labels, by losses of which none trains them."""
    return network.adapters is not None and any(p.requires_grad and p.grad is None for p in network.adapters.parameters())


def test_every_pair_is_accounted_for(capsys) -> None:
    """Each pair above took a step or was refused; says how many did which, and why."""
    if not outcomes["started"]:
        pytest.skip("no pair was run: no plugin with a model is installed, or only this test was chosen")
    ran = outcomes["adapted"] + outcomes["as they are"]
    assert ran + outcomes["refused"] == outcomes["started"]
    total = len(MODELS) * len(LOSSES) * len(DATA) * len(MODALITIES)
    took = f"{ran} took a step ({outcomes['adapted']} with adapters, {outcomes['idle heads']} of which no loss trains alone)"
    with capsys.disabled():
        print(f"\n{ran + outcomes['refused']} of {total} pairs: {took}, {outcomes['refused']} refused")
        for reason, count in sorted(outcomes.items()):
            if reason.startswith("refused: "):
                print(f"  {count:4d} {reason}")


def own(kind: str) -> set[str]:
    """The methods of this repository's plugins, where they are installed."""
    folders = {path.name for path in (ROOT / "plugins").iterdir()} - {TEMPLATE}
    entries = [entry for entry in catalogue().of_kind(kind) if entry.distribution in folders]
    missing = {"mmbench-baselines", "mmbench-decalign", "mmbench-slad"} - {entry.distribution for entry in entries}
    if missing:
        pytest.skip(f"needs {', '.join(sorted(missing))}")
    return {entry.component.name for entry in entries}


def axes() -> tuple[set[str], dict[str, list[dict]]]:
    sweep = load_document(ROOT / "configs" / "matrix.yaml").value["sweep"]
    return {settings["model"]["name"] for settings in sweep["backbone"].values()}, {name: s["losses"] for name, s in sweep["loss"].items()}


def test_the_matrix_names_every_backbone_and_every_loss() -> None:
    backbones, losses = axes()
    assert backbones == own("model")
    assert losses.pop("none") == []
    assert set(losses) == own("loss")
    assert all(name == listed[-1]["name"] and all("weight" in loss for loss in listed) for name, listed in losses.items())


def test_the_matrix_weights_are_those_of_the_methods_own_configs() -> None:
    own("loss")
    _, losses = axes()
    compared = set()
    for config in ("decalign", "slad", "misa", "mmim", "self_mm"):
        for loss in load_document(ROOT / "configs" / "base" / f"{config}.yaml").value["losses"]:
            assert losses[loss["name"]][-1]["weight"] == loss["weight"], loss["name"]
            compared.add(loss["name"])
    assert compared == set(losses) - {"none", "supervised_contrastive"}  # the paper's own config does without it


@pytest.fixture
def with_toys(monkeypatch):
    """The installed plugins, and the toy plugin with losses of its own."""
    points = [point for point in entry_points(group=GROUP) if point.name != "toys"]
    joined = plugins.build([*points, EntryPoint("toys", "toy_plugin", GROUP)])
    for module in (resolving, runner):
        monkeypatch.setattr(module, "catalogue", lambda: joined)


def test_a_loss_and_a_backbone_of_ones_own_join_by_an_option_or_a_file(with_toys, tmp_path) -> None:
    own("model")
    cells = {cell.experiment.row for cell in load("matrix")}
    backbones, losses = ({row.split(", ")[i] for row in cells} for i in (0, 1))
    assert len(cells) == len(backbones) * len(losses)
    more = {cell.experiment.row: cell for cell in load("matrix", ["sweep.loss.mine={losses: [{name: size, weight: 0.1}]}"])}
    assert set(more) - cells == {f"{backbone}, mine" for backbone in backbones}
    assert more["decalign, mine"].losses[0].weights == {"size": (0.1, 0)}
    (tmp_path / "mine.yaml").write_text("extends: matrix.yaml\nsweep: {backbone: {mine: {model: {name: toy}}}, loss: {cmd: null}}\n")
    more = {cell.experiment.row: cell for cell in load(tmp_path / "mine.yaml")}
    assert {row for row in more if row.startswith("mine, ")} == {f"mine, {loss}" for loss in losses - {"cmd"}}
    assert more["mine, homogeneity"].fit.adapters == ("common",)


def test_refused_cells_of_the_matrix_are_rows_with_their_reason(tmp_path, monkeypatch) -> None:
    own("model")
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    cells = load("matrix", ["data.simulated=true", "data.samples=60"], "1")
    plan = runner.make_plan(cells, tmp_path / "runs", None, "cpu")
    refused = {row.name: row.refusal for row in plan.rows if row.refusal}
    assert "the model has no features of single modalities" in refused["ef_lstm, homogeneity"]
    assert len(plan.rows) == len(cells) + sum(row.floor for row in plan.rows)


def test_one_switch_compares_the_kinds_of_adapters() -> None:
    own("model")
    cells = {cell.experiment.row: cell for cell in load("adapters")}
    assert {row: cell.experiment.adapters for row, cell in cells.items() if cell.losses} == {kind: kind for kind in ("auto", "frozen", "trained")}
    assert {cell.fit.adapters for cell in cells.values() if cell.losses} == {("common", "unique")}
    assert [row for row, cell in cells.items() if not cell.losses] == ["none"]
    (one,) = load("decalign_mosi", ["adapters=frozen"])
    assert one.experiment.adapters == "frozen"


def test_a_run_stores_its_adapters_and_gradients_and_stands_in_a_grid(tmp_path, monkeypatch) -> None:
    """The whole way, by the verbs: a run in its own process, its record, and a grid of it."""
    own("model")
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    settings = [
        "data.simulated=true",
        "data.samples=60",
        "training.epochs=1",
        "sweep.kind.none=null",
        "sweep.kind.auto=null",
        "sweep.kind.frozen=null",
    ]
    arguments = ["adapters", *(part for setting in settings for part in ("--set", setting)), "--seeds", "1", "--out", str(tmp_path / "runs")]
    done = CliRunner().invoke(run.command, [*arguments, "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (path,) = tmp_path.glob("runs/adapters/lf_dnn-*/seed-1/result.json")
    result = json.loads(path.read_text())
    assert {part["field"]: part["kind"] for part in result["adapters"]} == dict.fromkeys(("projections", "common", "unique"), "trained")
    assert set(result["gradients"]) == {"task", "decoupling.decoupling"}
    assert all(value > 0 for value in result["gradients"].values())
    done = CliRunner().invoke(report.command, [str(tmp_path / "runs"), "--grid", "mae", "--format", "json"], catch_exceptions=False)
    (cell,) = json.loads(done.output)[0]["cells"]
    assert (cell["backbone"], cell["losses"], cell["simulated"], cell["status"]) == ("lf_dnn", "decoupling", True, "done")
    assert cell["gradients"] == result["gradients"]
    assert cell["adapters"] == result["adapters"]
    assert cell["mean"] == result["metrics"]["test"]["mae"]
