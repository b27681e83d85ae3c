"""Archives: what earlier versions wrote, and what later ones will.

Folders of runs, stores and manifests as each version wrote them (``tests/reliability/archives``, made by the script there) are read, reported,
compared, opened and resumed. Files of versions to come are refused by name, or read as far as they are known.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mmbench import config, plugins, resolve
from mmbench.cli import cli
from mmbench.config import DataConfig
from mmbench.data import store
from mmbench.data.load import open_source
from mmbench.errors import DataError
from mmbench.files import DIGEST, write_json, write_sealed
from mmbench.metrics import METRICS
from mmbench.results.embeddings import diagnostics_path, embeddings_path, read_diagnostics, read_embeddings
from mmbench.results.runs import find_runs, read_result
from mmbench.results.tables import build_tables
from mmbench.runner import make_plan, prepare

from .archives.make import FINGERPRINTS, HERE, fingerprints, toys

pytestmark = pytest.mark.reliability

VERSIONS = sorted(path.name for path in HERE.glob("v*"))
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
OURS = ("baselines", "decalign", "example", "extractors", "slad")


@pytest.fixture(params=VERSIONS)
def archive(request, tmp_path, monkeypatch) -> Iterator[Path]:
    """A copy of an archive, which is the home and the current folder; the plugin of its time is all that is installed."""
    folder = tmp_path / "archive"
    shutil.copytree(HERE / request.param, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MMBENCH_DATA", raising=False)
    with toys(monkeypatch.setattr):
        yield folder


@pytest.fixture
def worker(monkeypatch) -> Iterator[Callable[[Path], int]]:
    """Executes a run in this process, and leaves the process as it was."""
    import torch

    from mmbench.worker import main

    mode, threads = torch.get_deterministic_debug_mode(), torch.get_num_threads()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield lambda folder: main([str(folder), "--device", "cpu"])
    torch.set_deterministic_debug_mode(mode)
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def mmbench(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(cli, [*map(str, arguments)])
    assert done.exit_code == code, (arguments, done.output, done.exception)
    return done.output


def changed(path: Path, **values: Any) -> None:
    """Other values, as a version writes them that seals what it writes where this one did."""
    document = {**json.loads(path.read_text()), **values}
    (write_sealed if document.pop(DIGEST, None) else write_json)(path, document)


def run_of(archive: Path, experiment: str, model: str = "toy") -> Path:
    return next(archive.glob(f"runs/{experiment}/{model}-*/seed-1"))


def test_there_is_an_archive() -> None:
    assert VERSIONS


# Earlier versions --------------------------------------------------------------------------------------------------------------------


def test_records_are_read(archive, tally) -> None:
    expected = json.loads((archive / "expected.json").read_text())
    records = {str(record.folder.relative_to(archive)): record for record in find_runs(Path("runs"))}
    assert {"done", "failed", "interrupted", "incompatible"} == {each["status"] for each in expected.values()}
    for folder, told in expected.items():
        record = records[folder]
        scores = {name: value for name, value in record.metrics.get("test", {}).items() if value == value}
        same = (record.status, record.reason, scores) == (told["status"], told["reason"], {k: v for k, v in told["metrics"].items() if v is not None})
        tally("a record of an earlier version is not read as it was", same)


def test_verbs_read_them(archive, tally) -> None:
    reports = {form: mmbench("report", "runs", "--format", form, "--draws", "100") for form in ("plain", "github", "json", "csv", "latex", "html")}
    mae = json.loads((archive / "expected.json").read_text())[str(run_of(archive, "adapted").relative_to(archive))]["metrics"]["mae"]
    tally("a report of an earlier version's runs differs", all(f"{mae:.3f}" in reports[form] for form in ("plain", "github", "latex", "html")))
    tally("a report of an earlier version's runs differs", str(mae) in reports["csv"] and str(mae) in reports["json"])
    assert "loss 'pull' needs at least 2 modalities" in reports["plain"]
    states = mmbench("status", "runs")
    tally(
        "status of an earlier version's runs differs", all(f": {word}" in states for word in ("done 1", "failed 1", "interrupted 1", "incompatible"))
    )
    compared = mmbench("compare", run_of(archive, "adapted").parent, run_of(archive, "adapted", "linear").parent, "--draws", "100")
    tally("runs of an earlier version are not compared", "mae" in compared)
    tally("scores of an earlier version are others today", "mae" not in mmbench("score", "runs/adapted"))
    mmbench("report", "runs", "--html", "page.html", "--draws", "100")
    mmbench("figure", "curves", run_of(archive, "adapted").parent, "--out", "curves")
    tally("a page or figure of an earlier version's runs is not made", Path("page.html").stat().st_size > 1e5 and Path("curves.svg").exists())


def test_what_was_made_of_runs_is_read(archive, tally) -> None:
    for record in find_runs(Path("runs")):
        if record.status == "done" and not record.floor:
            tally(
                "embeddings of an earlier version are not read", read_embeddings(embeddings_path(record)).about["fingerprint"] == record.fingerprint
            )
    (path,) = archive.rglob("diagnostics/*.json")
    tally("a diagnosis of an earlier version is not read", read_diagnostics(path)["about"]["label"] == path.parents[1].name)


def test_stores_and_manifests_are_read(archive, tally) -> None:
    for name in ("numbers", "classes"):
        source = open_source(DataConfig(name=f"{name}.yaml", path=name))
        tally("a store of an earlier version is not read", [len(source.ids(split)) for split in ("train", "valid", "test")] == [18, 6, 8])


@needs_torch
def test_finished_runs_open_and_are_not_run_again(archive, tally) -> None:
    from mmbench.diagnostics.opening import open_run

    for experiment in ("adapted", "classified"):
        tally("a run of an earlier version does not open", open_run(run_of(archive, experiment)).difference < 1e-4)
    requests, done, failed = prepare(make_plan(resolve.load("adapted.yaml"), Path("runs"), None, "cpu"), None)
    tally("a run of an earlier version is not known", (requests, done, failed) == ([], 3, 0))


@needs_torch
def test_an_interrupted_run_goes_on(archive, worker, tally) -> None:
    folder = run_of(archive, "stopped")
    before = (folder / "epochs.jsonl").read_text().splitlines()
    shutil.rmtree(archive / "cache", ignore_errors=True)
    requests, _, _ = prepare(make_plan(resolve.load("stopped.yaml"), Path("runs"), None, "cpu"), None)
    assert folder.relative_to(archive) in [request.folder for request in requests]
    assert worker(folder) == 0
    after = (folder / "epochs.jsonl").read_text().splitlines()
    tally("a run of an earlier version does not go on", after[: len(before)] == before and len(after) == 4 > len(before) > 0)
    assert read_result(folder).status == "done"


# Later versions ----------------------------------------------------------------------------------------------------------------------


def test_fields_that_are_not_known_yet_are_passed_over(archive, tally) -> None:
    folder = run_of(archive, "adapted")
    before = read_result(folder)
    changed(folder / "result.json", soul=[1, 2], environment={**before.environment, "planet": "Mars"}, data={**before.data, "smell": "rose"})
    after = read_result(folder)
    tally("a result with fields of a later version is not read", after.metrics == before.metrics and after.status == "done")
    mmbench("report", "runs", "--draws", "100")


def test_a_result_of_a_later_schema_says_who_wrote_it(archive, tally) -> None:
    folder = run_of(archive, "adapted")
    packages = {"packages": {"mmbench": "7.1"}}
    for extra, writer in (({"environment": packages}, "mmbench 7.1 wrote it"), ({"environment": {}}, "mmbench of a newer version wrote it")):
        changed(folder / "result.json", schema_version=9, **extra)
        record = next(record for record in find_runs(folder))
        told = all(text in record.reason for text in ("has schema_version 9", "reads 1", writer, "update"))
        tally("a result of a later version is misread", record.status == "damaged" and told)
    assert "schema_version 9" in mmbench("status", "runs")
    assert "toy" in mmbench("report", "runs", "--draws", "100")
    content = (folder / "result.json").read_bytes()
    requests, done, _ = prepare(make_plan(resolve.load("adapted.yaml"), Path("runs"), None, "cpu"), None)
    tally("a result of a later version is overwritten", (len(requests), done) == (0, 3) and (folder / "result.json").read_bytes() == content)


def test_a_diagnosis_of_a_later_schema_is_refused(archive, tally) -> None:
    record = read_result(run_of(archive, "adapted"))
    changed(diagnostics_path(record), schema_version=9)
    with pytest.raises(DataError, match=r"no document of mmbench diagnose with schema_version 1; make it again"):
        read_diagnostics(diagnostics_path(record))
    tally("a diagnosis of a later version is misread", True)


def test_a_store_of_another_format_is_refused_or_made_again(archive, monkeypatch, tally) -> None:
    """One of the user's is refused by its version, one in the cache is built anew."""
    changed(archive / "numbers" / "store.json", format=9)
    with pytest.raises(DataError, match=r"numbers: is a store of format 9; this version reads 1: make the data again"):
        open_source(DataConfig(name="numbers.yaml", path="numbers"))
    tally("a store of a later version is misread", True)
    simulated = DataConfig(name="classes.yaml", simulated=True)
    folder = open_source(simulated).store.folder
    changed(folder / "store.json", format=9)
    assert store.open_store(folder) is None
    tally("a store of a later version is misread", open_source(simulated).store.document["format"] == 1)


# Numbers that change on purpose ------------------------------------------------------------------------------------------------------


def test_a_new_count_of_numbers_makes_other_runs(archive, monkeypatch, tally) -> None:
    """They get other folders, a table with both says so, and none of before goes on."""
    (before,) = {cell.fingerprint("x") for cell in resolve.load("stopped.yaml")}
    monkeypatch.setattr(resolve, "NUMBERS", config.NUMBERS + 1)
    (after,) = {cell.fingerprint("x") for cell in resolve.load("stopped.yaml")}
    tally("runs with other numbers are taken for the same", before != after)
    changed(run_of(archive, "adapted") / "result.json", numbers=config.NUMBERS + 1)
    notes = [note for table in build_tables(find_runs(Path("runs/adapted")), METRICS) for note in table.notes]
    told = [note for note in notes if note.startswith("the same config came to other numbers when some runs were made; --rerun all")]
    tally("runs with other numbers are mixed unseen", len(told) == 1 and "numbers 2 (" in told[0])


@needs_torch
def test_a_checkpoint_with_other_numbers_does_not_go_on(archive, worker, monkeypatch, tally) -> None:
    monkeypatch.setattr("mmbench.training.checkpoint.NUMBERS", config.NUMBERS + 1)
    folder = run_of(archive, "stopped")
    assert worker(folder) == 1
    told = "last.pt: is of a version with other numbers (1, here 2); start anew with --rerun failed" in read_result(folder).reason
    tally("a run goes on with other numbers", told)


def test_fingerprints_of_shipped_configs_are_those_of_the_record() -> None:
    """A default that changes makes every finished run unknown. Where that is meant: ``python tests/reliability/archives/make.py --fingerprints``."""
    for name in OURS:
        if find_spec(f"mmbench_{name}") is None:
            pytest.skip(f"needs mmbench_{name}")
    plugins.catalogue.cache_clear()
    known, found = json.loads(FINGERPRINTS.read_text()), fingerprints()
    assert {name: found.get(name) for name in known} == known, "a fingerprint changed: was it meant to? See archives/make.py"
    assert set(found) == set(known), "a shipped config is new or gone; record it with archives/make.py --fingerprints"
    assert sys.modules.get("mmbench.resolve") is resolve
