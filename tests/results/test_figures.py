"""The figures: what is drawn against scikit-learn and numbers by hand, equal bytes, hostile names, and errors instead of tracebacks."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from mmbench import strict_yaml
from mmbench.errors import ConfigError, DataError
from mmbench.results import figures
from mmbench.results.comparison import Comparison
from mmbench.results.figures import projection
from mmbench.results.figures.canvas import plain, wrapped
from mmbench.results.runs import find_runs, write_predictions
from mmbench.sweep import expand

from .folders import make_run

SEVEN = np.arange(-3, 4)
HOSTILE = (
    "$\\frac{1}{2 a_b^c$ \\ %s {0}",
    "<script>alert('x')</script> & \"y\" \x1b[31mred\x00\u202e 情感 분석 😀 \uffff",
    "\ud800 \ufffe",
    "x" * 400,
)


def regression_run(root: Path, model: str, seed: int, target: np.ndarray, prediction: np.ndarray, **changes: Any) -> Path:
    """A finished run with these test predictions."""
    data = {"metrics": ["mae", "acc7"]} | changes.pop("data", {})
    folder = make_run(root, model, seed, data=data, scores={"mae": 1.0, "acc7": 0.5}, **changes)
    write_predictions(folder / "predictions.csv.gz", {"test": ([f"v{i}/0" for i in range(len(target))], target, prediction)})
    return folder


def classification_run(root: Path, name: str, seed: int, target: np.ndarray, scores: np.ndarray, classes: list[str]) -> Path:
    """A finished run of a classifier."""
    data = {"name": "iemocap", "title": "IEMOCAP", "task": "classification", "classes": classes, "metrics": ["wacc"]}
    folder = make_run(root, name, seed, data=data, scores={"wacc": 0.5})
    write_predictions(folder / "predictions.csv.gz", {"test": ([f"v{i}/0" for i in range(len(target))], target, scores)})
    return folder


def log_epochs(folder: Path, values: dict[str, list[float | None]], tail: str = "") -> None:
    """An ``epochs.jsonl`` of these series, by ``train.<key>`` or ``valid.<key>``."""
    lines = []
    for epoch in range(max(map(len, values.values()))):
        entry: dict[str, Any] = {"epoch": epoch + 1, "train": {}, "valid": {}}
        for key, found in values.items():
            part, _, name = key.partition(".")
            if epoch < len(found):
                entry[part][name] = found[epoch]
        lines.append(json.dumps(entry) + "\n")
    (folder / "epochs.jsonl").write_text("".join(lines) + tail)


def panel(figure: Any, title: str) -> Any:
    """The axes whose title has this text."""
    (found,) = [axes for axes in figure.axes if title in axes.get_title().replace("\n", " ")]
    return found


def texts(figure: Any) -> str:
    """Every text of a figure."""
    shown = [figure.get_suptitle(), *(text.get_text() for text in figure.texts)]
    for axes in figure.axes:
        shown += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), *(text.get_text() for text in axes.texts)]
        shown += [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    for legend in figure.legends:
        shown += [text.get_text() for text in legend.get_texts()]
    return "\n".join(shown)


# Confusion and classes ------------------------------------------------------------------------------------------------------------


def test_confusion_counts_are_those_of_scikit_learn_summed_over_seeds(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    target = rng.uniform(-3, 3, 120).astype(np.float32)
    predictions = [(target + rng.normal(0, 1.5, 120)).astype(np.float32) for _ in range(3)]
    for seed, prediction in enumerate(predictions, start=1):
        regression_run(tmp_path, "misa", seed, target, prediction)
    figure = figures.confusion(figures.configurations(find_runs(tmp_path)))
    truth = np.rint(target.clip(-3, 3)).astype(int)
    guesses = [np.rint(prediction.clip(-3, 3)).astype(int) for prediction in predictions]
    expected = sum(confusion_matrix(truth, guess, labels=SEVEN) for guess in guesses)
    axes = panel(figure, "misa")
    shown = np.array([int(text.get_text()) for text in axes.texts]).reshape(7, 7)
    assert (shown == expected).all()
    np.testing.assert_allclose(axes.images[0].get_array(), expected / expected.sum(1, keepdims=True))
    accuracy = [np.mean(truth == guess) for guess in guesses]
    assert f"acc7 {100 * np.mean(accuracy):.1f} ± {100 * np.std(accuracy, ddof=1):.1f} %" in axes.get_title()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["-3", "-2", "-1", "0", "1", "2", "3"]
    assert figure.get_suptitle() == "CMU-MOSI"


def test_halves_are_rounded_to_even_and_what_is_outside_is_clipped(tmp_path: Path) -> None:
    target = np.array([-2.5, -0.5, 0.5, 1.5, 2.5, 3.0], np.float32)
    prediction = np.array([-9.0, -1.5, 0.0, 2.5, 3.5, 2.4], np.float32)
    regression_run(tmp_path, "misa", 1, target, prediction)
    axes = panel(figures.confusion(figures.configurations(find_runs(tmp_path))), "misa")
    counts = np.array([int(text.get_text()) for text in axes.texts]).reshape(7, 7)
    pairs = [(-2, -3), (0, -2), (0, 0), (2, 2), (2, 3), (3, 2)]
    expected = np.zeros((7, 7), int)
    for row, column in pairs:
        expected[row + 3, column + 3] += 1
    assert (counts == expected).all()


def test_sims_is_counted_in_its_five_bins(tmp_path: Path) -> None:
    target = np.array([-1.0, -0.7, -0.6, -0.1, 0.0, 0.1, 0.2, 0.7, 0.8, 1.0], np.float32)
    bins = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    regression_run(tmp_path, "misa", 1, target, target[::-1].copy(), data={"name": "sims", "metrics": ["mae_clip1", "acc5_sims"]})
    axes = panel(figures.confusion(figures.configurations(find_runs(tmp_path))), "misa")
    counts = np.array([int(text.get_text()) for text in axes.texts]).reshape(5, 5)
    assert (counts == confusion_matrix(bins, bins[::-1])).all()
    assert "acc5_sims 20.0 %" in axes.get_title()


def test_bars_are_scikit_learns_f1_and_recall_with_the_deviation_over_seeds(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    target = rng.integers(0, 3, 60)
    classes = ["happy", "sad", "angry", "never"]  # the last has no sample
    found = {}
    for name in ("misa", "tfn"):
        found[name] = [rng.normal(size=(60, 4)).astype(np.float32) + 1.5 * np.eye(4)[target].astype(np.float32) for _ in range(3)]
        for seed, scores in enumerate(found[name], start=1):
            classification_run(tmp_path, name, seed, target, scores, classes)
    chosen = figures.configurations(find_runs(tmp_path))
    for score, oracle in (("f1", f1_score), ("recall", recall_score)):
        figure = figures.per_class(chosen, score)  # type: ignore[arg-type]
        axes = figure.axes[0]
        bars = [container for container in axes.containers if hasattr(container, "patches")]
        for container, name in zip(bars, ("misa", "tfn"), strict=True):
            seeds = [oracle(target, scores.argmax(1), labels=range(3), average=None, zero_division=0) for scores in found[name]]
            np.testing.assert_allclose([bar.get_height() for bar in container.patches][:3], 100 * np.mean(seeds, axis=0))
            assert math.isnan(container.patches[3].get_height())
            lines = container.errorbar.lines[2][0].get_segments()[:3]
            np.testing.assert_allclose([(high[1] - low[1]) / 2 for low, high in lines], 100 * np.std(seeds, axis=0, ddof=1))
        numbers = [f"{name}\nn = {count}" for name, count in zip(classes, np.bincount(target, minlength=4), strict=True)]
        assert [label.get_text() for label in axes.get_xticklabels()] == numbers
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["misa", "tfn"]
    shown = panel(figures.confusion(chosen), "misa")
    expected = sum(confusion_matrix(target, scores.argmax(1), labels=range(4)) for scores in found["misa"])
    assert (np.array([int(text.get_text()) for text in shown.texts]).reshape(4, 4) == expected).all()


def test_parts_of_a_protocol_are_added_up_within_a_seed(tmp_path: Path) -> None:
    target = np.array([0, 1, 1])
    right, wrong = np.eye(2, dtype=np.float32)[target], np.eye(2, dtype=np.float32)[1 - target]
    for part, scores in (("fold1", right), ("fold2", wrong)):
        data = {"name": "i", "task": "classification", "classes": ["a", "b"], "metrics": ["wacc"], "protocol": "2fold", "part": part}
        folder = make_run(tmp_path, "misa", 1, scores={"wacc": 0.5}, label=f"misa-{part}", family="f", data=data)
        write_predictions(folder / "predictions.csv.gz", {"test": (["x/0", "x/1", "x/2"], target, scores)})
    chosen = figures.configurations(find_runs(tmp_path))
    assert list(chosen) == ["misa"]
    axes = panel(figures.confusion(chosen), "misa")
    assert [int(text.get_text()) for text in axes.texts] == [1, 1, 2, 2]
    assert "accuracy 50.0 %" in axes.get_title()


def test_failed_seeds_are_told_and_other_data_refused(tmp_path: Path) -> None:
    target = np.array([0.0, 1.0, 2.0, -1.0], np.float32)
    regression_run(tmp_path, "misa", 1, target, target)
    regression_run(tmp_path, "misa", 2, target, target, status="failed")
    assert "1/2 runs" in texts(figures.confusion(figures.configurations(find_runs(tmp_path))))
    regression_run(tmp_path, "tfn", 1, target, target, data={"name": "mosei", "title": "CMU-MOSEI"})
    with pytest.raises(ConfigError, match="different data"):
        figures.confusion(figures.configurations(find_runs(tmp_path)))
    only = figures.configurations(find_runs(tmp_path), rows=["tfn"])
    (only["tfn"][0].folder / "predictions.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"predictions\.csv\.gz"):
        figures.confusion(only)
    with pytest.raises(ConfigError, match="no configuration is called 'nope'; there are 'misa', 'tfn'"):
        figures.configurations(find_runs(tmp_path), rows=["nope"])
    with pytest.raises(ConfigError, match="is done"):
        figures.confusion({"misa": [run for run in find_runs(tmp_path) if run.status == "failed"]})


def test_predictions_that_are_no_numbers_are_a_data_error(tmp_path: Path) -> None:
    target = np.array([0.0, 1.0], np.float32)
    regression_run(tmp_path, "misa", 1, target, np.array([0.0, np.nan], np.float32))
    with pytest.raises(DataError, match="NaN"):
        figures.per_class(figures.configurations(find_runs(tmp_path)))


def test_configurations_of_one_name_stay_apart_and_floors_are_left_out(tmp_path: Path) -> None:
    for root in ("a", "b"):
        make_run(tmp_path / root, "misa", 1)
    make_run(tmp_path / "a", "constant", 1, floor=True)
    found = figures.configurations([run for root in ("a", "b") for run in find_runs(tmp_path / root)])
    assert len(found) == 2
    assert {len(runs) for runs in found.values()} == {1}
    assert all(name.startswith("misa (") for name in found)
    assert "constant" in figures.configurations(find_runs(tmp_path / "a"), floors=True)


# Learning curves ------------------------------------------------------------------------------------------------------------------


def test_curves_have_a_line_a_seed_and_the_mean_where_all_seeds_ran(tmp_path: Path) -> None:
    loss = [{"name": "cmd", "weight": {"cmd": [1.0, 0]}}]
    for seed, values in ((1, [3.0, 2.0, 1.0]), (2, [5.0, None, 2.0, 1.5])):
        folder = make_run(tmp_path, "misa", seed, losses=loss, selection={"metric": "mae", "value": 1.0, "epoch": 2})
        others = ("train.cmd.cmd", "train.cmd.logged", "train.gradient.task")
        series = {"train.task": values} | {key: [0.5] * len(values) for key in others}
        log_epochs(folder, series | {"valid.mae": [1.5, 1.2, 1.1]}, tail='{"epoch": 5, "tra')
    figure = figures.curves(find_runs(tmp_path))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["validation mae ↓", "train task loss", "cmd", "gradient norms, mean over seeds"]  # what is only logged is no term
    axes = panel(figure, "task loss")
    lines = {line.get_linewidth(): line for line in axes.lines if len(line.get_xdata()) > 1}
    bold = lines[max(lines)]
    np.testing.assert_array_equal(bold.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(bold.get_ydata(), [4.0, np.nan, 1.5])
    thin = [line for line in axes.lines if line.get_linewidth() < 1 and len(line.get_xdata()) > 1]
    np.testing.assert_array_equal(thin[1].get_ydata(), [5.0, np.nan, 2.0, 1.5])
    dots = [line for line in panel(figure, "mae").lines if line.get_marker() == "o"]
    assert [(dot.get_xdata().tolist(), dot.get_ydata().tolist()) for dot in dots] == [([2], [1.2]), ([2], [1.2])]
    assert "CMU-MOSI: misa, 2 seeds" in figure.get_suptitle()


def test_several_configurations_share_panels_and_stand_in_the_legend(tmp_path: Path) -> None:
    for name in ("misa", "tfn"):
        log_epochs(make_run(tmp_path, name, 1), {"train.task": [2.0, 1.0], "valid.mae": [1.0, 0.5], "train.gradient.task": [0.1, 0.2]})
    figure = figures.curves(find_runs(tmp_path))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["misa", "tfn"]
    assert [axes.get_title() for axes in figure.axes] == ["validation mae ↓", "train task loss", "gradient of task"]
    colours = {line.get_color() for line in panel(figure, "task loss").lines}
    assert len(colours) == 2


def test_a_log_without_numbers_or_with_damage_says_so(tmp_path: Path) -> None:
    good = make_run(tmp_path, "misa", 1)
    log_epochs(good, {"train.task": [None, None], "valid.mae": [1.0, 0.9]})
    missing = make_run(tmp_path, "misa", 2)
    figure = figures.curves(find_runs(tmp_path))
    assert "no finite value" in texts(figure)
    assert re.sub(r"\s", "", f"{missing / 'epochs.jsonl'}: there is no log")[-30:] in re.sub(r"\s", "", texts(figure))
    (good / "epochs.jsonl").write_text('{"epoch": 1}\nnonsense\n{"epoch": 3}\n')
    with pytest.raises(DataError, match=r"line 2: is no epoch"):
        figures.curves([run for run in find_runs(tmp_path) if run.seed == 1])
    for content in ("", '{"epo', "[1]\n", '{"epoch": "1"}\n{"epoch": 2}\n'):
        (good / "epochs.jsonl").write_text(content)
        with pytest.raises(DataError, match=r"epochs\.jsonl"):
            figures.curves([run for run in find_runs(tmp_path) if run.seed == 1])


def test_more_terms_than_panels_are_named(tmp_path: Path) -> None:
    terms = {f"train.loss{index}.x": [1.0, 2.0] for index in range(15)}
    loss = [{"name": f"loss{index}", "weight": {"x": [1, 0]}} for index in range(15)]
    log_epochs(make_run(tmp_path, "misa", 1, losses=loss), {"train.task": [1.0, 2.0], "valid.mae": [1.0, 1.0], "train.gradient.task": [1.0]} | terms)
    figure = figures.curves(find_runs(tmp_path))
    assert len(figure.axes) == 12
    assert "Not shown: loss9.x" in texts(figure)
    assert "gradient norms" in texts(figure)


# Sweeps ---------------------------------------------------------------------------------------------------------------------------

BASE = """
name: s
data: {name: mosi}
model: {name: mmbench-a/net, width: 8}
losses:
  - {name: one, temperature: 0.5, weight: {p: {value: 1}, q: {value: 1}}}
  - {name: two, temperature: 0.5, weight: {r: {value: 1}}}
"""
TWO_AXES = BASE + """
sweep:
  tau: {keys: [losses.one.temperature, losses.two.temperature], values: [0.1, 0.2, 10]}
  width: {key: model.width, values: [4, 16]}
"""  # fmt: skip


def sweep_runs(root: Path, cells: list[tuple[str, Any]], score: Any, seeds: tuple[int, ...] = (1, 2), **changes: Any) -> None:
    """Runs of a sweep's cells with the resolved config that a run has."""
    for index, (name, config) in enumerate(cells):
        for seed in seeds:
            folder = make_run(root, name, seed, scores={"mae": score(config, seed), "f1_non0": 0.5}, label=f"net-{index}", **changes)
            (folder / "config.yaml").write_text(strict_yaml.dump(config | {"row": name, "seeds": [seed]}))


def two_axes() -> list[tuple[str, Any]]:
    """The cells of a sweep whose first axis sets a key of two losses, the second one of the model."""
    return [(name, cell.value) for name, cell in expand(strict_yaml.parse(TWO_AXES, "sweep"))]


def test_heatmap_finds_the_two_axes_and_the_best_complete_cell(tmp_path: Path) -> None:
    def score(config: Any, seed: int) -> float:
        return config["losses"][0]["temperature"] + config["model"]["width"] / 100 + seed / 1000

    sweep_runs(tmp_path, two_axes(), score)
    figure = figures.heatmap(find_runs(tmp_path), "mae")
    axes, bar = figure.axes
    expected = np.array([[tau + width / 100 + 0.0015 for width in (4, 16)] for tau in (0.1, 0.2, 10.0)])
    np.testing.assert_allclose(axes.images[0].get_array(), expected.T if axes.get_xlabel() == "temperature" else expected)
    assert {axes.get_xlabel(), axes.get_ylabel()} == {"temperature", "width"}
    down = [label.get_text() for label in axes.get_yticklabels()]
    across = [label.get_text() for label in axes.get_xticklabels()]
    assert sorted([down, across]) == [["0.1", "0.2", "10"], ["4", "16"]]  # numbers in their order, not as text
    (box,) = [patch for patch in axes.patches if not patch.get_fill()]
    assert (box.get_x(), box.get_y()) == (-0.5, -0.5)
    assert "10.162\n±0.001" in [text.get_text() for text in axes.texts]  # 10.161 and 10.162: their sample deviation is 0.0007
    assert "lower is better" in bar.get_ylabel()
    failed = next(run for run in find_runs(tmp_path) if run.label == "net-0" and run.seed == 2)
    result = json.loads((failed.folder / "result.json").read_text())
    (failed.folder / "result.json").write_text(json.dumps(result | {"status": "failed"}))
    axes = figures.heatmap(find_runs(tmp_path), "mae").axes[0]
    (box,) = [patch for patch in axes.patches if not patch.get_fill()]
    assert (box.get_x(), box.get_y()) != (-0.5, -0.5)  # a cell with a failed seed is never best
    assert any("1/2" in text.get_text() for text in axes.texts)


def test_heatmap_takes_a_cell_that_was_not_run_and_the_better_direction(tmp_path: Path) -> None:
    sweep_runs(tmp_path, two_axes()[:-1], lambda config, seed: config["model"]["width"] * config["losses"][0]["temperature"])
    axes = figures.heatmap(find_runs(tmp_path), "mae").axes[0]
    assert np.ma.masked_invalid(axes.images[0].get_array()).mask.sum() == 1
    assert "not run" in [text.get_text() for text in axes.texts]
    figure = figures.heatmap(find_runs(tmp_path), "f1_non0")  # equal everywhere: all are best
    assert len([patch for patch in figure.axes[0].patches if not patch.get_fill()]) == 5
    assert "higher is better" in figure.axes[1].get_ylabel()


def test_heatmap_names_what_differs_where_it_is_not_two_axes(tmp_path: Path) -> None:
    cells = two_axes()
    sweep_runs(tmp_path / "one", [cells[0], cells[2]], lambda *_: 1.0)
    with pytest.raises(ConfigError, match=r"two axes, not 1: temperature \(0\.1, 0\.2\)"):
        figures.heatmap(find_runs(tmp_path / "one"), "mae")
    for index, (_, config) in enumerate(cells):
        config["data"]["seconds"] = index // 3
    sweep_runs(tmp_path / "three", cells, lambda *_: 1.0)
    with pytest.raises(ConfigError, match=r"not 3: data\.seconds \(0, 1\); width \(4, 16\); temperature"):
        figures.heatmap(find_runs(tmp_path / "three"), "mae")
    with pytest.raises(ConfigError, match="no run has a test score 'corr'; there are mae, f1_non0"):
        figures.heatmap(find_runs(tmp_path / "one"), "corr")
    for run in find_runs(tmp_path / "one"):
        (run.folder / "config.yaml").unlink()
    with pytest.raises(DataError, match=r"config\.yaml"):
        figures.heatmap(find_runs(tmp_path / "one"), "mae")


def test_the_weights_of_a_loss_are_one_axis(tmp_path: Path) -> None:
    cells = []
    for alpha in (0.1, 1.0):
        for beta in (0.1, 1.0):
            config = strict_yaml.parse(BASE, "base").value
            config["losses"][0]["weight"] = {"p": {"value": alpha}, "q": {"value": alpha}}
            config["losses"][1]["weight"] = {"r": {"value": beta}}
            cells.append((f"{alpha} {beta}", config))
    sweep_runs(tmp_path, cells, lambda config, seed: 1.0)
    axes = figures.heatmap(find_runs(tmp_path), "mae").axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("one.weight", "two.weight.r")


# Embeddings -----------------------------------------------------------------------------------------------------------------------


def by_first_columns(features: np.ndarray, name: str) -> np.ndarray:
    """In the place of t-SNE, which takes seconds for many points."""
    return np.asarray(features)[:, :2]


def test_tsne_marks_signs_and_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "embedded", by_first_columns)
    features = np.arange(24.0).reshape(8, 3)
    target = np.array([-2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 3.0, 2.0])
    axes = figures.tsne({"fused": (features, target)}).axes[0]
    negative, neutral, positive = axes.collections
    np.testing.assert_array_equal(negative.get_offsets(), features[:2, :2])
    np.testing.assert_array_equal(neutral.get_offsets(), features[2:5, :2])
    np.testing.assert_array_equal(positive.get_array(), [1.0, 3.0, 2.0])
    assert negative.get_clim() == (-3.0, 3.0)
    figure = figures.tsne({"fused": (features, np.array([0, 2, 0, 2, 2, 0, 0, 0]))}, classes=("sad", "angry", "happy"))
    assert [len(group.get_offsets()) for group in figure.axes[0].collections] == [5, 3]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sad", "happy"]


def test_the_legend_of_one_panel_stays_in_the_figure() -> None:
    features = np.random.default_rng(0).normal(size=(12, 3))
    figure = figures.tsne({"fused": (features, np.linspace(-3, 3, 12))})
    figures.svg(figure, "x", "x")
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_tsne_itself_is_seeded_and_keeps_far_groups_apart() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 1, (12, 5)), rng.normal(60, 1, (12, 5))])
    labels = np.repeat([-1.0, 1.0], 12)
    drawn = [figures.tsne({"x": (features, labels)}).axes[0].collections for _ in range(2)]
    first, second = drawn[0][0].get_offsets(), drawn[0][2].get_offsets()
    np.testing.assert_array_equal(first, drawn[1][0].get_offsets())
    within = max(np.ptp(first, axis=0).max(), np.ptp(second, axis=0).max())
    assert np.linalg.norm(first.mean(0) - second.mean(0)) > within / 2


def test_pairs_join_the_two_modalities_and_tell_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "embedded", by_first_columns)
    rng = np.random.default_rng(1)
    text, vision = rng.normal(size=(9, 4)) + 1, 3 * rng.normal(size=(9, 4))
    figure = figures.pairs({"full": (text, vision)}, title="CMU-MOSI")
    unit = [features / np.sqrt((features**2).sum(1, keepdims=True)) for features in (text, vision)]
    gap = np.sqrt(((unit[0].mean(0) - unit[1].mean(0)) ** 2).sum())
    axes = panel(figure, "full")
    assert axes.get_title().endswith(f"modality gap {gap:.3f}")
    lines, first, second = axes.collections
    np.testing.assert_array_equal(np.array(lines.get_segments()), np.stack([text[:, :2], vision[:, :2]], 1))
    np.testing.assert_array_equal(first.get_offsets(), text[:, :2])
    np.testing.assert_array_equal(second.get_offsets(), vision[:, :2])
    assert [label.get_text() for label in figure.legends[0].get_texts()] == ["text", "vision"]


def test_many_samples_are_thinned_out_in_the_same_way_and_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "embedded", by_first_columns)
    features = np.arange(2400.0).reshape(1200, 2)
    figure = figures.tsne({"a": (features, np.ones(1200)), "b": (features, np.ones(1200))})
    drawn = [axes.collections[2].get_offsets() for axes in figure.axes[:2]]
    assert len(np.unique(drawn[0][:, 0])) == 1000
    np.testing.assert_array_equal(*drawn)
    assert "1000 of 1200 samples (a, b)" in texts(figure)
    figure = figures.pairs({"a": (features + 1, features + 2)})
    assert len(figure.axes[0].collections[1].get_offsets()) == 500
    assert "500 of 1200 pairs (a)" in " ".join(texts(figure).split())


@pytest.mark.parametrize(
    ("features", "match"),
    [
        (np.eye(4), "at least 5 samples, and there are 4"),
        (np.ones((9, 3)), "are equal"),
        (np.full((9, 3), np.nan), "NaN"),
        (np.ones((9, 3, 2)), r"shape \(9, 3, 2\)"),
        (np.array([["a"]] * 9), "must be numbers"),
    ],
)
def test_features_that_cannot_be_drawn_are_a_data_error(features: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match):
        figures.tsne({"x": (features, np.zeros(len(features)))})
    with pytest.raises(DataError, match=match):
        figures.pairs({"x": (features, features)})


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(DataError, match="8 samples need as many"):
        figures.tsne({"x": (np.ones((8, 2)), np.ones(7))})
    with pytest.raises(DataError, match=r"text features \(8, 2\) and audio features \(8, 3\)"):
        figures.pairs({"x": (np.ones((8, 2)), np.ones((8, 3)))}, names=("text", "audio"))
    with pytest.raises(ConfigError, match="1 to 12 panels"):
        figures.tsne({})


# Bubbles and intervals ------------------------------------------------------------------------------------------------------------


def test_bubbles_stand_at_their_scores_and_published_ones_are_hollow() -> None:
    points = [
        figures.Point("a", 80, 81, 1.0),
        figures.Point("b", 85, 86, 1.2, True),
        figures.Point("c", 82, 82, 1.1),
        figures.Point("d", 1, 1, math.nan),
    ]
    figure = figures.bubble(points, title="CMU-MOSI")
    drawn = {tuple(group.get_offsets()[0]): group for group in figure.axes[0].collections}
    assert set(drawn) == {(80, 81), (85, 86), (82, 82)}
    areas = [drawn[place].get_sizes()[0] for place in ((80, 81), (82, 82), (85, 86))]
    assert areas[1] - areas[0] == pytest.approx(areas[2] - areas[1])  # the area grows with the score
    assert areas[0] < areas[2]
    assert len(drawn[85, 86].get_facecolor()) == 0
    assert len(drawn[80, 81].get_facecolor()) == 1
    assert "not shown: d" in texts(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["measured here", "published"]
    with pytest.raises(DataError, match="all three scores"):
        figures.bubble(points[-1:])


def test_labels_of_crowded_bubbles_do_not_cover_each_other() -> None:
    points = [figures.Point(f"method_{index}", 80 + 0.2 * index, 80 + 0.2 * index, 1 + index / 10, index % 2 == 0) for index in range(12)]
    figure = figures.bubble([*points, figures.Point("far", 90, 90, 1)])
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]  # without the lines that lead to them
    assert len(boxes) == 13
    assert not any(one.shrunk(0.98, 0.9).overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def comparison(first: str = "a", **changes: Any) -> Comparison:
    """A comparison in MAE whose interval is around 0.1."""
    known: dict[str, Any] = {"higher_is_better": False, "difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.01, "p_holm": 0.02, "seeds": (1, 2)}
    return Comparison(first, "base", "mae", **(known | changes))


def test_intervals_are_filled_only_where_they_are_significant() -> None:
    rows = [
        comparison("worse"),
        comparison("better", difference=-0.1, low=-0.15, high=-0.05),
        comparison("no", p_holm=0.2),
        comparison("untested", low=math.nan, high=math.nan, p_holm=math.nan, reason="seed 3: not done in both"),
    ]
    figure = figures.intervals(rows, title="CMU-MOSI")
    (axes,) = figure.axes
    middles = {line.get_ydata()[0]: line for line in axes.lines if line.get_marker() not in ("None", None, "")}
    bars = {line.get_ydata()[0]: line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]}
    assert [middles[row].get_marker() for row in range(4)] == ["v", "^", "o", "o"]
    assert [middles[row].get_markerfacecolor() == "white" for row in range(4)] == [False, False, True, True]
    assert [middles[row].get_xdata()[0] for row in range(4)] == [0.1, -0.1, 0.1, 0.1]
    assert bars[1].tolist() == [-0.15, -0.05]
    assert 3 not in bars
    assert [label.get_text() for label in axes.get_yticklabels()] == ["worse", "better", "no", "untested"]
    assert "+0.100 [+0.050, +0.150]  p 0.020" in texts(figure)
    assert "untested and base: seed 3: not done in both" in texts(figure)
    assert "lower is better" in axes.get_xlabel()
    assert "to base" in texts(figure)
    with pytest.raises(ConfigError, match="nothing to compare"):
        figures.intervals([])


def test_shares_are_percentage_points_and_each_metric_has_a_panel() -> None:
    rows = [comparison(), Comparison("a", "b", "acc7", higher_is_better=True, difference=0.02, low=0.01, high=0.03, p_holm=0.001, seeds=(1, 2))]
    figure = figures.intervals(rows)
    assert ["percentage points" in axes.get_xlabel() for axes in figure.axes] == [False, True]
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["a\n- b"]
    assert "+2.0 [+1.0, +3.0]" in texts(figure)


# Files, names, marks --------------------------------------------------------------------------------------------------------------


def every_kind(root: Path, name: str, simulated: bool) -> dict[str, Any]:
    """A figure of each kind, drawn of a configuration of this name."""
    target = np.linspace(-3, 3, 12).astype(np.float32)
    name = name or "none"
    data = {"simulated": simulated, "title": f"Data {name}"}
    for seed in (1, 2):
        log_epochs(regression_run(root, "x", seed, target, -target, data=data, label="x-1"), {"train.task": [1.0, 2.0], "valid.mae": [1.0]})
    sweep_runs(root / "sweep", two_axes(), lambda *_: 1.0, (1,), data=data | {"metrics": ["mae", "f1_non0"]})
    for path in root.rglob("result.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"name": name}))
    runs = find_runs(root / "demo")
    features = np.random.default_rng(0).normal(size=(8, 3))
    return {
        "curves": figures.curves(runs),
        "confusion": figures.confusion({name: runs}),
        "classes": figures.per_class({name: runs}),
        "heatmap": figures.heatmap(find_runs(root / "sweep"), "mae"),
        "tsne": figures.tsne({name: (features, np.arange(8) % 2)}, (name, name), name, simulated),
        "pairs": figures.pairs({name: (features, -features)}, (name, name), name, simulated),
        "bubble": figures.bubble([figures.Point(name, 1, 2, 3)], (name, name, name), name, simulated),
        "intervals": figures.intervals([Comparison(name, name, name, difference=1.0, reason=name)], name, simulated),
    }


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_can_break_a_figure(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    monkeypatch.setattr(projection, "embedded", by_first_columns)
    for kind, figure in every_kind(tmp_path, name, True).items():
        inline = figures.svg(figure)
        words = "".join(ET.fromstring(inline).itertext())
        assert "SIMULATED" in words, kind
        assert "<script" not in inline
        assert not re.search(r"[\x00-\x08\x1b\u202e\uffff]", inline)
    figures.save(figure, tmp_path / "figure")
    assert not recwarn.list
    if "$" in name:
        assert plain(name)[:8] in words  # not read as mathematics


def test_real_data_are_not_called_simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "embedded", by_first_columns)
    for figure in every_kind(tmp_path, "misa", False).values():
        assert "SIMULATED" not in texts(figure)


def test_equal_figures_have_equal_bytes_whatever_the_settings_of_matplotlib(tmp_path: Path) -> None:
    import matplotlib

    def draw() -> Any:
        return figures.bubble([figures.Point("a", 1, 2, 3), figures.Point("b", 2, 3, 4, True)], title="t")

    first = [path.read_bytes() for path in figures.save(draw(), tmp_path / "first")]
    figure = draw()
    assert [path.read_bytes() for path in figures.save(figure, tmp_path / "again")] == first
    assert [path.read_bytes() for path in figures.save(figure, tmp_path / "again")] == first  # saving changes nothing
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "figure.dpi": 50, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert [path.read_bytes() for path in figures.save(draw(), tmp_path / "other")] == first
        assert matplotlib.rcParams["font.size"] == 30
    text = first[0].decode()
    assert "<date>" not in text
    assert ">a</text>" in text  # text stays text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{stem}.{kind}" for stem in ("first", "again", "other") for kind in ("png", "svg")
    )


def test_save_keeps_dots_in_names_and_says_where_it_cannot_write(tmp_path: Path) -> None:
    figure = figures.bubble([figures.Point("a", 1, 2, 3)])
    assert figures.save(figure, tmp_path / "new" / "v1.2") == [tmp_path / "new" / "v1.2.svg", tmp_path / "new" / "v1.2.png"]
    assert (tmp_path / "new" / "v1.2.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/x.svg: cannot be written \(Not a directory\); choose another place with --out"):
        figures.save(figure, tmp_path / "file" / "x")


def test_inline_svg_scales_has_a_title_and_ids_of_its_own() -> None:
    one, two = (figures.svg(figures.bubble([figures.Point(name, 1, 2, 3)], title=f"figure {name}")) for name in "ab")
    assert one.startswith("<svg ")
    root = ET.fromstring(one)
    assert root.get("role") == "img"
    assert root.get("viewBox")
    assert root.get("width") is root.get("height") is None
    assert root.find("{http://www.w3.org/2000/svg}title").text == "figure a"  # type: ignore[union-attr]
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for text, known in zip((one, two), ids, strict=True):
        assert len(re.findall(r'\bid="', text)) == len(known)
        references = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
        assert references
        assert all((a or b) in known for a, b in references)
    assert 'id="mine-' in figures.svg(figures.bubble([figures.Point("a", 1, 2, 3)]), prefix="mine")
    assert "fill: #ffffff" in one  # its own background: readable on a dark page


def test_names_are_cut_and_wrapped() -> None:
    assert plain("a\x1b[31m\nb", 0) == "a b"
    assert plain("abcdef", 4) == "abc…"
    assert wrapped("one two three four", 9) == "one two\nthree…"
    assert wrapped("x" * 30, 10) == "xxxxxxxxxx\nxxxxxxxxx…"


# Imports --------------------------------------------------------------------------------------------------------------------------


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_the_command_line_imports_no_matplotlib_and_figures_no_pyplot() -> None:
    code = "import sys, mmbench.cli, mmbench.cli.figure; assert 'matplotlib' not in sys.modules; import mmbench.results.figures;"
    assert run_python(code + "assert 'matplotlib.pyplot' not in sys.modules; assert 'sklearn' not in sys.modules; print('ok')") == "ok\n"


def test_without_matplotlib_the_error_says_what_to_install(tmp_path: Path) -> None:
    make_run(tmp_path)
    code = (
        "import sys; sys.modules['matplotlib'] = None\nfrom mmbench.cli import main\n"
        f"sys.argv = ['mmbench', 'figure', 'curves', {str(tmp_path)!r}]\nmain()"
    )
    assert "figures need matplotlib, which cannot be imported" in run_python(code)
    assert "Traceback" not in run_python(code)
