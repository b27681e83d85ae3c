"""The commands in benchmarks/ work, count what they say, and the page of their figures is up to date. No time is asserted."""

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PLUGINS = ("mmbench_baselines", "mmbench_decalign", "mmbench_extractors", "mmbench_slad")


def module(name: str) -> ModuleType:
    """A module of the benchmarks, which are no package."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_the_page_is_what_the_recorded_figures_make() -> None:
    done = subprocess.run([sys.executable, str(BENCHMARKS / "page.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_page_of_other_figures_is_noticed(tmp_path) -> None:
    command = [sys.executable, str(BENCHMARKS / "page.py"), "--results", str(tmp_path), "--page", str(tmp_path / "page.md")]
    assert subprocess.run([*command, "--check"], capture_output=True, check=False).returncode == 1
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert subprocess.run([*command, "--check"], capture_output=True, check=False).returncode == 0
    assert "Not recorded yet: `python benchmarks/steps.py`" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_the_page_of_many_runs_is_what_the_recorded_figures_make(tmp_path) -> None:
    command = [sys.executable, str(BENCHMARKS / "scale.py"), "--page", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    other = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, check=False)
    assert other.returncode == 1  # no figures make another page


def test_no_recorded_figures_are_of_a_quick_run() -> None:
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in (BENCHMARKS / "results").glob("*.json")]
    assert [content for content in contents if isinstance(content, dict) and content.get("quick")] == []


@pytest.fixture
def faults(tmp_path, monkeypatch) -> ModuleType:
    """The command that tries faults, with a record, a page and one file of tests of its own."""
    found = module("faults")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_drops.py").write_text('"""Drops of water.\n\nMore of them.\n"""\n')
    for name, path in {"TESTS": "tests", "RECORD": "reliability.json", "PAGE": "reliability.md"}.items():
        monkeypatch.setattr(found, name, tmp_path / path)
    return found


def test_the_page_of_faults_is_what_their_record_makes() -> None:
    if not module("faults").PAGE.is_file():
        pytest.skip("no faults are recorded yet")
    done = subprocess.run([sys.executable, str(BENCHMARKS / "faults.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_faults_that_were_tried_make_a_page(faults, monkeypatch) -> None:
    lines = [
        {"file": "test_drops.py", "fault": fault, "survived": fell, "tries": n}
        for fault, fell, n in (("z|", True, 3), ("a", False, 1), ("z|", True, 2))
    ]
    part = {"code": "f00d", "date": "2026-11-22", "long": False, "passed": False, "faults": faults.counted(lines)}
    monkeypatch.setattr(faults, "tried", lambda path, short, tests: (part, False))
    call = CliRunner().invoke
    faults.RECORD.write_text(json.dumps({"test_gone.py": part}))
    assert call(faults.main, ["--short"]).exit_code == 1
    said = faults.PAGE.read_text()
    assert "In all: 2 faults, 6 tries, 1 lost." in said
    assert "### Drops of water\n\n`tests/reliability/test_drops.py`, 2026-11-22, code f00d, at the counts of the test suite, **not all" in said
    assert said.endswith("|---|---:|---:|---:|\n| z\\| | 5 | 5 | 0 |\n| a | 1 | 0 | 1 |\n")
    assert call(faults.main, ["--check"]).exit_code == 0  # faults stand in the order in which they were tried, also when they are read again


def test_some_tests_of_a_file_are_tried_again(faults, monkeypatch) -> None:
    first = {
        "code": "f00d",
        "date": "2026-11-22",
        "long": True,
        "passed": False,
        "faults": {"a": {"tried": 2, "survived": 1}, "b": {"tried": 3, "survived": 3}},
    }
    again = {**first, "code": "beef", "passed": True, "faults": {"a": {"tried": 4, "survived": 4}}}
    monkeypatch.setattr(faults, "tried", lambda path, short, tests: (again, True))
    call = CliRunner().invoke
    assert "one file that is recorded" in call(faults.main, ["--only", "drops", "--tests", "a"]).output
    faults.RECORD.write_text(json.dumps({"test_drops.py": first}))
    assert call(faults.main, ["--only", "drops", "--tests", "a"]).exit_code == 0
    said = faults.PAGE.read_text()
    assert "code f00d, those of a again with code beef\n" in said
    assert said.endswith("| a | 4 | 4 | 0 |\n| b | 3 | 3 | 0 |\n")


def test_a_page_of_other_faults_is_noticed(faults) -> None:
    call = CliRunner().invoke
    assert "--page writes it" in call(faults.main, ["--check"]).output
    assert call(faults.main, ["--page"]).exit_code == 0
    assert call(faults.main, ["--check"]).exit_code == 0
    faults.PAGE.write_text(faults.PAGE.read_text() + "\n")
    assert call(faults.main, ["--check"]).exit_code == 1


def test_a_word_that_is_in_no_name_of_a_file_of_faults_is_refused(faults) -> None:
    done = CliRunner().invoke(faults.main, ["--only", "snow"])
    assert (done.exit_code, "no file of tests has snow in its name" in done.output) == (2, True)


@pytest.mark.parametrize(("power", "factor"), [(1.0, 3.0), (2.0, 0.01), (0.0, 5.0)])
def test_the_exponent_is_that_of_the_last_three_points(power: float, factor: float) -> None:
    points = (8, 50, 125, 250)
    values = [1e6, *(factor * x**power for x in points[1:])]  # the first is overhead, and is left out
    assert module("growth").exponent(points, values) == pytest.approx(power)


def test_a_call_inside_a_timed_call_counts_once() -> None:
    clock = module("epoch").Clock()
    with clock.under("outer"), clock.under("inner"):
        sum(range(200_000))
    whole = clock.seconds["outer"] + clock.seconds["inner"]
    assert clock.seconds["outer"] < whole / 2
    assert not clock.stack


def test_the_page_says_of_each_aim_whether_it_is_reached() -> None:
    jobs = {"settings": {"speedup": 1.5, "equal": True}}
    fast, slow = ({"case": "tfn", "lengths": "ragged", "threads": 1, "ratio": ratio, "ours": {}, "peer": {}} for ratio in (1.6, 1.4))
    told = [line.split(" | ")[-1] for line in module("page").glance({"jobs": jobs, "peers": [fast, slow]}).splitlines()[2:]]
    assert told == ["yes |", "**no** |", "yes |"]
    jobs["settings"]["equal"] = False
    assert "**no**" in module("page").glance({"jobs": jobs})


def test_every_comparison_with_other_code_has_an_aim() -> None:
    pytest.importorskip("torch")
    assert set(module("page").PEERS) == set(module("peers").CASES)


def test_figures_count_as_recorded_at_the_same_commit_with_the_same_settings(tmp_path, monkeypatch) -> None:
    measure = module("measure")
    monkeypatch.setattr(measure, "machine", dict)
    monkeypatch.setattr(measure, "commit", lambda: "one")
    measure.record(tmp_path, "steps", 2, False, [1], whole=False, seconds=1.5, configs=[])
    assert measure.recorded(tmp_path, "steps", seconds=1.5, configs=[])["rows"] == [1]
    assert measure.recorded(tmp_path, "steps", seconds=2.0) is None
    monkeypatch.setattr(measure, "commit", lambda: "two")
    assert measure.recorded(tmp_path, "steps", seconds=1.5) is None
    measure.record(tmp_path, "steps", 2, True, [1])
    assert measure.recorded(tmp_path, "steps") is None


def test_a_single_process_waits_as_the_machine_has_it(monkeypatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    kept = module("measure").without_thread_variables()
    assert not {"OMP_WAIT_POLICY", "OMP_NUM_THREADS"} & set(kept)
    assert kept["PATH"]


@pytest.mark.torch
@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
def test_fused_lstm_layers_count_like_the_products_that_they_are_made_of() -> None:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence

    products = module("stepping").products
    layer = torch.nn.LSTM(20, 32, batch_first=True, bidirectional=True)
    x = torch.randn(8, 50, 20, requires_grad=True)
    fused = products(lambda: layer(x)[0].sum().backward())
    frame_by_frame = products(lambda: layer(pack_padded_sequence(x, torch.full((8,), 50), batch_first=True))[0].data.sum().backward())
    assert fused == pytest.approx(frame_by_frame, rel=0.01)  # the first frame has no state to multiply with


@pytest.mark.torch
@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
def test_fused_attention_counts_like_the_products_that_it_is_made_of() -> None:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    query, key = torch.randn(2, 3, 40, 8, requires_grad=True), torch.randn(2, 3, 60, 8, requires_grad=True)

    def count(backend: SDPBackend) -> float:
        with sdpa_kernel(backend):
            return module("stepping").products(lambda: torch.nn.functional.scaled_dot_product_attention(query, key, key).sum().backward())

    assert count(SDPBackend.FLASH_ATTENTION) == pytest.approx(count(SDPBackend.MATH))


@pytest.mark.torch
@pytest.mark.skipif(any(find_spec(name) is None for name in ("torch", *PLUGINS)), reason="needs torch and the plugins of this repository")
@pytest.mark.parametrize("arguments", ["steps", "epoch", "start", "start --pickle", "jobs lmf_mosi", "encoders", "growth"])
def test_each_command_runs_and_its_figures_make_a_table(arguments: str, tmp_path) -> None:
    name, *given = arguments.split()
    environment = {**os.environ, "MMBENCH_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *given, "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert content["quick"] is True
    assert content["simulated"] is True
    problems = [row["problem"] for row in content["rows"] if isinstance(row, dict) and "problem" in row]
    assert problems == []
    page = module("page").render((BENCHMARKS / "performance.template.md").read_text(encoding="utf-8"), tmp_path)
    assert "a quick run: its figures mean nothing" in page
    assert f"Not recorded yet: `python benchmarks/{name}.py`" not in page
