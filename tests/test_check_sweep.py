"""`mmbench check` of a sweep: what takes part once, which cells get adapters, what is refused, and, built, what the losses pull at."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mmbench import resolve as resolving
from mmbench import runner
from mmbench.cli import check

SWEEP = """
data: {name: mosi, features: aligned, simulated: true, samples: 60, modalities: [text, audio]}
model: {name: toy}
training: {epochs: 1}
seeds: [1, 2]
sweep:
  width: {key: model.width, values: [4, 5]}
  loss:
    none: {losses: []}
    pull: {losses: [{name: pull}]}
    alone: {losses: [{name: pull}], data.modalities: [text]}
    frozen: {losses: [{name: pull}], adapters: frozen}
    forbidden: {losses: [{name: pull}], adapters: forbid}
"""


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toys):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    for module in (resolving, runner):
        monkeypatch.setattr(module, "catalogue", lambda: toys)

    def run(text: str, *arguments: str) -> list[str]:
        (tmp_path / "s.yaml").write_text(text)
        done = CliRunner().invoke(check.command, [str(tmp_path / "s.yaml"), "--out", str(tmp_path / "runs"), *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output.splitlines()

    return run


def test_a_sweep_is_a_summary(checked, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = checked(SWEEP)
    assert lines[0].endswith("a sweep of 10 cells, of which 4 are refused")
    assert sum(line.startswith("model ") for line in lines) == sum(line.startswith("loss ") for line in lines) == 1
    assert [line for line in lines if line.startswith("adapters")] == [
        "adapters    none needed (adapters: auto) in 2 cells",
        "adapters    common, unique (adapters: auto) in 2 cells: width=4, pull; width=5, pull",
        "adapters    common, unique (adapters: frozen) in 2 cells: width=4, frozen; width=5, frozen",
    ]
    refused = [line for line in lines if line.startswith("cannot run")]
    assert len(refused) == 4
    assert any("width=4, alone" in line and "at least 2 modalities" in line for line in refused)
    assert any("width=5, forbidden" in line and "adapters are forbidden" in line for line in refused)
    assert sum("incompatible" in line for line in lines) == 4
    monkeypatch.setattr(check, "MOST_ROWS", 5)
    short = checked(SWEEP)
    at = next(i for i, line in enumerate(short) if line.startswith("runs "))
    assert "6 configurations and 2 floors" in short[at]
    assert short[at + 1].strip() == "16 runs to do"
    assert not any("incompatible" in line for line in short)
    assert not any(line.startswith("executor") for line in short)
    (told,) = (line for line in checked(SWEEP, "--jobs", "3") if line.startswith("executor"))
    assert told.endswith(", jobs 3")


def test_built_cells_show_counts_gradients_and_heads_that_nothing_trains(checked) -> None:
    pytest.importorskip("torch")
    text = SWEEP.split("sweep:")[0] + "sweep:\n  kind: {key: adapters, values: [auto, frozen, trained]}\nlosses: [{name: pull, weight: {far: 0}}]\n"
    lines = checked(text, "--build")
    adapters = [line.split(None, 1)[1] for line in lines if line.startswith("adapter ")]
    widths, pulled = {"text": 6, "audio": 7}, 7  # the toy's layers, and the widest of them
    heads = pulled * pulled + pulled
    counts = {"projections": widths["text"] * pulled, "common": heads, "unique": 2 * heads}
    kinds = {"auto": ("frozen", "trained", "trained"), "frozen": ("frozen",) * 3, "trained": ("trained",) * 3}
    assert adapters == [
        f"{name}: {kind}, {count:,} parameters" for row in kinds.values() for (name, count), kind in zip(counts.items(), row, strict=True)
    ]
    gradients = [line for line in lines if line.startswith("gradients")]
    assert len(gradients) == 3
    assert all("task " in line and "pull.near " in line for line in gradients)
    # the term that reads `unique` has weight zero
    assert [line for line in lines if line.startswith("warning ")] == [
        "warning     adapter unique: no loss here trains it, so that it stays as random as it starts"
    ] * 2
