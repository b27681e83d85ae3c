"""A plugin that was edited after its runs were made is noticed: none of them is made anew by itself."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmbench.files import write_sealed
from mmbench.sources import changed, digest, recorded_sources, sources


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "sources_toy").mkdir()
    (tmp_path / "sources_toy" / "__init__.py").write_text("raise SystemExit('nothing is imported for a digest')")
    (tmp_path / "sources_toy" / "loss.py").write_text("WEIGHT = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    digest.cache_clear()
    yield tmp_path / "sources_toy"
    digest.cache_clear()


def choice(target: str) -> SimpleNamespace:
    return SimpleNamespace(entry=SimpleNamespace(component=SimpleNamespace(target=target)))


@pytest.mark.parametrize("kind", ["loss", "metric"])
def test_an_edit_is_told_with_the_rows_that_stay_as_they_are(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    mine, core = choice("sources_toy.loss:Loss"), choice("mmbench.floors:Linear")
    metric = mine if kind == "metric" else core
    monkeypatch.setattr("mmbench.sources.catalogue", lambda: SimpleNamespace(find=lambda kind, name: metric.entry))
    losses, experiment = (mine,) if kind == "loss" else (), SimpleNamespace(seeds=(1, 2), metrics=("mine",))
    resolved = SimpleNamespace(model=core, encoders={}, losses=losses, experiment=experiment)
    row, before = SimpleNamespace(name="with", folder=tmp_path / "runs", resolved=resolved), sources(resolved)
    plan = SimpleNamespace(rows=(row,))
    assert list(before) == ["sources_toy"]
    assert list(changed(plan)) == []  # no run yet
    (row.folder / "seed-2").mkdir(parents=True)
    write_sealed(row.folder / "seed-2" / "result.json", {"status": "done", "environment": {"sources": before}})
    assert list(changed(plan)) == []

    (package / "loss.py").write_text("WEIGHT = 2")
    digest.cache_clear()
    assert sources(resolved) != before
    (line,) = changed(plan)
    assert line.startswith("the code of sources_toy was changed since runs of with were made")
    assert "sources_toy" not in sys.modules
    write_sealed(row.folder / "seed-2" / "result.json", {"status": "interrupted", "environment": {"sources": before}})
    assert list(changed(plan)) == [line]  # its other epochs would be of other code
    write_sealed(row.folder / "seed-2" / "result.json", {"status": "failed", "reason": "no data"})
    assert list(changed(plan)) == []


def test_what_cannot_be_found_or_is_no_record_is_nothing(package: Path) -> None:
    assert digest("no_such_package_anywhere") == ""
    assert [recorded_sources(value) for value in (None, 3, {}, {"sources": ["x"]})] == [{}, {}, {}, {}]
    assert recorded_sources({"sources": {"a": 1}}) == {"a": "1"}
