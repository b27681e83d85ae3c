"""The HTML report: what it says, that it is well formed and one file, and that nothing of users' data becomes markup."""

from __future__ import annotations

import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench.cli import cli, report
from mmbench.errors import ConfigError
from mmbench.results.runs import RunRecord, find_runs, read_run, write_predictions
from mmbench.results.tables import Column

from .folders import IDS, TARGET, make_run

pytest.importorskip("jinja2", reason="the page needs the extra report")
pytest.importorskip("matplotlib", reason="the page needs the extra report")

import itertools

from mmbench.results.page import build, charts, details, diagnoses, embedding, groups, matrix, samples, write_page

REAL = Path(__file__).parents[3] / "shared" / "data" / "mosi" / "unaligned_50.pkl"
HOSTILE = "</script><img src=x onerror=\"alert('1')\">\u202e\u2028\x07<!-- ' {{ 7*7 }} {% raw %} &amp; "
SEEN = "</script><img src=x onerror=\"alert('1')\"> <!-- ' {{ 7*7 }} {% raw %} &amp;"
VOID = {"meta", "br", "img", "input", "link", "hr", "wbr", "base", "source"}
VIDEOS = 20
DRAWN = build.DRAWN
BIG = np.linspace(-2.9, 2.9, 3 * VIDEOS).astype(np.float32)
BIG_IDS = tuple(f"video{index // 3}/{index}" for index in range(len(BIG)))


class Page(HTMLParser):
    """The page as a tree of what tests ask for; fails on tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.scripts: dict[str, str] = {}
        self._table = self._script = ""
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        assert len(own) == len(attrs), f"{tag} says an attribute twice"
        self.tags.append((tag, own))
        if tag in VOID:
            return
        self.stack.append(tag)
        if tag == "table":
            self._table = own.get("id") or f"table {len(self.rows)}"
            self.rows[self._table] = []
        elif tag == "tr":
            self.rows[self._table].append([])
        elif tag in ("td", "th"):
            self.rows[self._table][-1].append("")
        elif tag == "script":
            self._script = own.get("id") or "page"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> without its start"
        assert self.stack.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
            return
        self.texts.append((tuple(self.stack), data))
        if {"td", "th"} & set(self.stack):
            self.rows[self._table][-1][-1] += data

    @property
    def text(self) -> str:
        """All that can be read."""
        return " ".join("".join(data for stack, data in self.texts if "style" not in stack).split())

    def values(self, name: str) -> list[str]:
        """The values of one attribute over the page."""
        return [own[name] or "" for _, own in self.tags if name in own]


def document(page: Page, number: int) -> dict[str, Any]:
    found = json.loads(page.scripts[f"run-data-{number}"])
    assert isinstance(found, dict)
    return found


@pytest.fixture(autouse=True)
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time; the pages that several tests share have them."""
    monkeypatch.setattr(build, "DRAWN", 0)


def rendered(root: Path, **options: Any) -> tuple[str, Page]:
    text = build.render_page(find_runs(root), **{"draws": 200} | options)
    return text, Page(text)


def put(root: Path, name: str, offset: float, seeds: int = 3, **changes: Any) -> None:
    """Runs on 20 videos whose predictions miss the target by about `offset`."""
    for seed in range(1, seeds + 1):
        noise = np.random.default_rng([seed, *map(ord, name)]).normal(0, 0.02, len(BIG)).astype(np.float32)
        prediction = BIG + np.float32(offset) + noise
        scores = {"mae": float(np.mean(np.abs(prediction - BIG))), "corr": float(np.corrcoef(prediction, BIG)[0, 1])}
        data = {"metrics": ["mae", "corr"]} | changes.get("data", {})
        folder = make_run(root, name, seed, scores, **changes | {"data": data, "label": f"{name}-aa"})
        write_predictions(folder / "predictions.csv.gz", {"test": (BIG_IDS, BIG, prediction)})
        lines = [{"epoch": epoch, "train": {"task": 1 / epoch}, "valid": {"mae": 1 / epoch}} for epoch in (1, 2, 3)]
        (folder / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def hostile_runs(root: Path) -> None:
    """Every kind of run, with names, reasons, configs and records that try to become markup."""
    for name in ("mult", HOSTILE):
        for seed in (1, 2):
            folder = make_run(root, name, seed, data={"simulated": True, "warnings": [HOSTILE], "source": HOSTILE})
            (folder / "config.yaml").write_text(f"name: demo\n# {HOSTILE}\nmodel: {{}}\n")
            lines = [{"epoch": epoch, "train": {"task": 1 / epoch, HOSTILE: 1.0}, "valid": {"mae": 1.0}} for epoch in (1, 2)]
            (folder / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            ids = (HOSTILE.replace("\n", ""), *IDS[1:])
            prediction = TARGET * np.float32(0.5) + np.float32(0.1 * seed)
            write_predictions(folder / "predictions.csv.gz", {"test": (ids, TARGET, prediction)})
    simulated = {"data": {"simulated": True}}
    make_run(root, "constant", 1, floor=True, prediction=np.zeros_like(TARGET), **simulated)
    make_run(root, "mult", 3, status="failed", reason=f"the loss is NaN {HOSTILE}", warnings=[f"a tracker failed {HOSTILE}"], **simulated)
    make_run(root, "tfn", 1, status="incompatible", reason=f"no {HOSTILE}", **simulated)
    make_run(root, "lmf", 1, experiment=re.sub("[/\x00]", "", HOSTILE), status="interrupted", reason="killed", **simulated)
    (root / "demo" / "mult-9" / "seed-4").mkdir(parents=True)
    (root / "demo" / "mult-9" / "seed-4" / "config.yaml").write_text("name: demo\n")
    folder = next((root / "demo").glob("mult-*/seed-1")).parent / "diagnostics"
    folder.mkdir()
    probe = {"schema_version": 1, "about": {}, "ablation": [{"dropped": [HOSTILE], "scores": {"mae": 0.5}}], "gap": {HOSTILE: {HOSTILE: 0.1}}}
    (folder / "seed-1.json").write_text(json.dumps(probe))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    root = tmp_path_factory.mktemp("hostile")
    hostile_runs(root)
    return rendered(root)


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Page]:
    """Two configurations that are close, and one that is far behind."""
    root = tmp_path_factory.mktemp("contest")
    put(root, "tfn", 0.20)
    put(root, "lmf", 0.21)
    put(root, "misa", 0.90)
    put(root, "linear", 0.5, floor=True)
    return root, *rendered(root)


# One file, well formed, and nothing but itself -------------------------------------------------------------------------------------


def test_the_page_is_well_formed_and_its_links_lead_somewhere(hostile: tuple[str, Page]) -> None:
    text, page = hostile
    assert text.startswith("<!DOCTYPE html>\n")
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = [link[1:] for link in page.values("href")]
    assert targets
    assert not {name for name in targets if name not in ids and name.replace("run-", "run-data-") not in ids}
    for name in (*page.values("aria-labelledby"), *page.values("data-for"), *page.values("for")):
        assert name in ids
    assert ("html", {"lang": "en"}) in page.tags
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert {own.get("scope") for tag, own in page.tags if tag == "th"} == {"col", "row"}


def test_the_page_loads_nothing(hostile: tuple[str, Page]) -> None:
    text, page = hostile
    policy = next(own["content"] for tag, own in page.tags if own.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:")
    for name in ("src", "srcset", "action", "formaction", "data", "poster", "background", "ping"):
        assert page.values(name) == []
    assert all(link.startswith("#") for link in page.values("href"))
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.values("xlink:href"))  # images inside figures
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "base", "img", "form"}
    assert not re.search(r"(?i)(src|href|action)\s*=\s*[\"']?\s*(https?:)?//", text)
    assert not re.search(r"(?i)url\(\s*[\"']?(?!#)|@import|fetch\(|XMLHttpRequest|WebSocket|import\(", text)
    assert all(value.endswith(("w3.org/2000/svg", "w3.org/1999/xlink")) for value in re.findall(r'xmlns[^=]*="([^"]*)', text))


def test_nothing_of_users_data_becomes_markup(hostile: tuple[str, Page]) -> None:
    text, page = hostile
    assert not [name for _, own in page.tags for name in own if name.startswith("on")]
    assert len(page.scripts) == 2 + sum(name.startswith("run-data-") for name in page.scripts)
    assert not set(text) & {"\u202e", "\u2028", "\x07"}
    assert "innerHTML" not in text
    assert "49" not in page.text.replace("0.49", "")  # {{ 7*7 }}
    assert SEEN.strip() in page.text
    for place in ("leaderboard", "reason", "probe"):
        assert (
            SEEN.strip()
            in {
                "leaderboard": page.rows["data-1-table"][1][0] + page.rows["data-1-table"][2][0],
                "reason": page.text[page.text.index("refused and unfinished") :],
                "probe": page.text[page.text.index("Modality gap") :],
            }[place]
        )


def test_json_in_the_page_cannot_end_its_element_and_reads_back(hostile: tuple[str, Page]) -> None:
    _, page = hostile
    for name, content in page.scripts.items():
        if name != "page":
            assert not set("<>&\u2028\u2029") & set(content)
            json.loads(content)
    run = next(document(page, n) for n in range(5) if document(page, n)["title"] == SEEN.strip())
    assert SEEN.strip() in run["config"].replace('">\n<!--', '"> <!--')  # U+2028 ends a line in YAML
    assert f"train.{SEEN.strip()}" in run["curves"]
    shared = json.loads(page.scripts["shared"])
    assert shared["data"][run["data"]]["warnings"] == [SEEN.strip()]
    assert shared["samples"][run["predictions"]["set"]]["ids"][0] == SEEN.strip()


@pytest.mark.parametrize("value", ["</script>", "<!--", "\u2028\u2029", "&lt;", '"\\', "é \U0001f600"])
def test_json_survives_every_character(value: str) -> None:
    text = embedding.as_json({"x": value})
    assert json.loads(text) == {"x": value}
    assert not re.search("[<>&\u2028\u2029]", text)


def test_numbers_that_json_has_not_are_null() -> None:
    assert [embedding.number(x) for x in (math.nan, math.inf, True, "1", None, 1.0, 0.1234567)] == [None] * 5 + [1, 0.12346]
    assert embedding.safe({"a": [math.nan, 1, "x\u202ey"]}) == {"a": [None, 1, "xy"]}
    deep: Any = "x"
    for _ in range(2000):
        deep = [deep]
    assert json.loads(embedding.as_json(embedding.safe(deep)))


# What it says -----------------------------------------------------------------------------------------------------------------------


def test_the_leaderboard_has_the_tables_numbers_best_first(tmp_path: Path) -> None:
    for name, scores in {"misa": (0.9, 1.1), "tfn": (0.5, 0.7)}.items():
        for seed, mae in enumerate(scores, 1):
            make_run(tmp_path, name, seed, {"mae": mae, "corr": 0.5, "acc2_non0": 0.75})
    make_run(tmp_path, "mult", 1, {"mae": 0.1, "corr": None, "acc2_non0": 0.9})
    make_run(tmp_path, "mult", 2, status="failed", reason="loss is NaN")
    make_run(tmp_path, "constant", 1, {"mae": 0.95, "corr": None, "acc2_non0": 0.5}, floor=True)
    text, page = rendered(tmp_path)
    head, *rows = page.rows["data-1-table"]
    assert head == ["configuration", "seeds", "mae ↓", "corr ↑", "acc2_non0 ↑", "parameters", "time/run", "memory"]
    assert [row[0] for row in rows] == ["mult", "tfn", "misa", "constant (floor)", "best constant on test (oracle)"]
    by_name = {row[0]: row for row in rows}
    assert by_name["tfn"][2].removeprefix("best: ").removeprefix("second: ") == "0.600 ± 0.141"  # deviation of 0.5, 0.7: 0.2 / sqrt(2)
    assert by_name["misa"][2].endswith("1.000 ± 0.141‡")  # the floor is better
    assert by_name["mult"][1:4] == ["1/2", "0.100", "n/a"]  # a failed seed: not best, whatever its mean
    assert by_name["tfn"][4].endswith("75.00 ± 0.00")
    assert 'data-v="0.6"' in text
    assert "mult: seed 2 failed: loss is NaN" in page.text
    assert "3 configurations with 2 seeds each, 1 of them not complete, 1 floor" in page.text
    assert "tfn has the best test mae: 0.600 ± 0.141, before misa" in page.text
    assert page.text.count("SIMULATED") == 1  # in the explanation of what the word means


def test_what_is_told_apart_is_said_and_what_is_not_too(contest: tuple[Path, str, Page]) -> None:
    _, text, page = contest
    assert re.search(r"tfn has the best test mae: 0\.20\d ± 0\.0\d\d, before lmf", page.text)
    assert "Significantly better than 2 of 2 others" in page.text or "Significantly better than 1 of 2 others: misa" in page.text
    head, *rows = page.rows["table 1"]
    assert head == ["row \N{MINUS SIGN} column", "tfn", "lmf", "misa"]
    assert [row[0] for row in rows] == ["tfn", "lmf", "misa"]
    means = {name: np.mean([mae_of(name, seed) for seed in (1, 2, 3)]) for name in ("tfn", "misa")}
    assert rows[0][3].startswith(f"\N{MINUS SIGN}{means['misa'] - means['tfn']:.3f}[\N{MINUS SIGN}0.7")
    assert "▲ better" in rows[0][3]
    assert rows[2][1].startswith(f"+{means['misa'] - means['tfn']:.3f}[+0.")
    assert "▼ worse" in rows[2][1]
    assert [row[place] for place, row in enumerate(rows, 1)] == ["itself"] * 3
    assert 'class="better' in text
    assert "3 seeds and 20 test videos count as random; the videos are drawn again 200 times" in page.text


def mae_of(name: str, seed: int) -> float:
    noise = np.random.default_rng([seed, *map(ord, name)]).normal(0, 0.02, len(BIG)).astype(np.float32)
    return float(np.mean(np.abs(np.float32({"tfn": 0.2, "misa": 0.9}[name]) + noise)))


@pytest.mark.parametrize(
    ("difference", "low", "high", "p_holm", "seeds", "higher", "sign"),
    [
        (-0.2, -0.3, -0.1, 0.01, 5, False, "▲ better"),
        (-0.2, -0.3, -0.1, 0.01, 5, True, "▼ worse"),
        (0.2, 0.1, 0.3, 0.049, 2, True, "▲ better"),
        (0.2, 0.1, 0.3, 0.051, 5, True, "△ open"),  # the interval alone is no significance
        (0.2, -0.1, 0.5, 0.2, 5, True, "≈ open"),
        (0.2, 0.1, 0.3, 0.01, 1, True, "△ open"),  # one seed says nothing of seeds
        (math.nan, math.nan, math.nan, math.nan, 5, True, "≈ open"),
    ],
)
def test_a_pair_claims_what_the_statistics_give(difference, low, high, p_holm, seeds, higher, sign) -> None:
    from mmbench.results.comparison import Comparison

    seeds = tuple(range(seeds))
    found = Comparison("a", "b", "x", higher, difference=difference, low=low, high=high, p=p_holm, p_holm=p_holm, seeds=seeds)
    column = Column("x", higher, percent=True)
    assert matrix.pair(column, found).sign == sign
    other = {"▲": "▼", "▼": "▲", "△": "▽", "▽": "△", "≈": "≈"}
    turned = matrix.pair(column, found, turned=True)
    assert turned.sign[0] == other[sign[0]]
    assert (turned.first, turned.second) == ("b", "a")
    if not math.isnan(difference):
        assert turned.difference == matrix.signed(column, -difference)
        assert turned.interval == f"[{matrix.signed(column, -high)}, {matrix.signed(column, -low)}]"


def test_differences_have_a_real_minus_and_no_signed_zero() -> None:
    column = Column("acc", True, percent=True)
    assert [matrix.signed(column, x) for x in (-0.01, 0.01, -0.000001, math.nan)] == ["\N{MINUS SIGN}1.00", "+1.00", "0.00", "n/a"]
    assert [matrix.probability(p) for p in (math.nan, 0.0004, 0.0504, 1.0)] == ["n/a", "< 0.001", "0.050", "1.000"]


def test_simulated_data_are_marked_everywhere(hostile: tuple[str, Page]) -> None:
    text, page = hostile
    assert "<title>SIMULATED mmbench report" in text
    assert "SIMULATED: everything on this page" in page.text
    assert sum(own.get("class") == "simulated" for _, own in page.tags) == 2
    assert all(document(page, number)["simulated"] for number in range(4))
    assert all("SIMULATED" in row[3] for row in page.rows["runs-table"][1:] if row[4] == "done")


def test_warnings_of_a_run_stand_in_its_document(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "misa", 1, warnings=["tracker 'x' could not be \x1b[31mstarted"])
    assert details.Details({}, 10).document(read_run(folder))["warnings"] == ["tracker 'x' could not be started"]


def test_runs_that_are_not_done_are_listed_with_their_reasons(hostile: tuple[str, Page]) -> None:
    _, page = hostile
    found = next(rows for rows in page.rows.values() if rows[0] == ["configuration", "experiment", "status", "seeds", "reason"])
    states = {row[2]: row for row in found[1:]}
    assert set(states) == {"failed", "incompatible", "interrupted", "pending"}
    assert states["failed"][3:] == ["3", f"the loss is NaN {SEEN.strip()}"]
    assert "9 runs: 5 done, 1 failed, 1 interrupted, 1 refused as incompatible, 1 pending" in page.text
    assert "Not finished (4)" in page.text
    assert {row[4] for row in page.rows["runs-table"][1:]} == {"done", *states}


def test_parts_of_a_protocol_stand_after_their_mean(tmp_path: Path) -> None:
    for part, mae in {"first": 0.4, "second": 0.8}.items():
        for name in ("tfn", "lmf"):
            data = {"protocol": "folds", "part": part, "parts": ["first", "second"], "fingerprint": part}
            for seed in (1, 2):
                scores = {"mae": mae, "corr": 0.5, "acc2_non0": 0.5}
                make_run(tmp_path, name, seed, scores, label=f"{name}-{part}", family=f"f{name}", data=data)
    _, page = rendered(tmp_path)
    titles = ["".join(data for stack, data in page.texts if "h2" in stack).split("CMU-MOSI")[n] for n in (1, 2, 3)]
    assert ["mean over 2 parts" in titles[0], "part first" in titles[1], "part second" in titles[2]] == [True] * 3
    assert [page.rows[f"data-{n}-table"][1][2].split()[1] for n in (1, 2, 3)] == ["0.600", "0.400", "0.800"]
    assert "each seed's the mean over all parts" in page.text


def test_the_best_stands_on_top_whichever_direction_is_better(tmp_path: Path) -> None:
    for name, corr in {"tfn": 0.2, "lmf": 0.8, "misa": 0.5}.items():
        make_run(tmp_path, name, 1, {"corr": corr}, data={"metrics": ["corr"]})
    make_run(tmp_path, "mult", 1, {"corr": None}, data={"metrics": ["corr"]})
    text, page = rendered(tmp_path)
    assert [row[0] for row in page.rows["data-1-table"][1:-1]] == ["lmf", "misa", "tfn", "mult"]
    assert "not better than the best floor" not in page.text[: page.text.index("Leaderboard")]
    assert 'aria-sort="descending">corr' in text


def test_a_best_that_no_floor_is_below_is_called_that(tmp_path: Path) -> None:
    make_run(tmp_path, "tfn", 1, {"mae": 0.9}, data={"metrics": ["mae"]})
    make_run(tmp_path, "linear", 1, {"mae": 0.8}, floor=True, data={"metrics": ["mae"]})
    _, page = rendered(tmp_path)
    verdict = page.text[: page.text.index("Leaderboard")]
    assert "tfn has a test mae of 0.900. It is not better than the best floor" in verdict  # alone, nothing is the best


# The runs' own pages ----------------------------------------------------------------------------------------------------------------


def test_a_runs_page_has_what_the_folder_has(contest: tuple[Path, str, Page]) -> None:
    root, _, page = contest
    numbers = {(document(page, n)["title"], document(page, n)["seed"]): n for n in range(12)}
    run = document(page, numbers["misa", 2])
    assert run["config"] == "name: demo"
    assert run["curves"] == {"epoch": [1, 2, 3], "train.task": [1, 0.5, 0.33333], "valid.mae": [1, 0.5, 0.33333]}
    assert run["selection"] == {"metric": "mae", "value": 1.0, "epoch": 3}
    assert run["scores"][0] == ["mae ↓", run["scores"][0][2], run["scores"][0][2]]
    assert ["folder", str((root / "demo" / "misa-aa" / "seed-2").resolve())] in run["facts"]
    shared = json.loads(page.scripts["shared"])
    assert len(shared["samples"]) == len(shared["data"]) == 1  # what runs share stands once
    assert shared["samples"][0]["ids"] == list(BIG_IDS)
    prediction = np.array(run["predictions"]["p"])
    assert np.allclose(run["predictions"]["e"], np.abs(prediction - BIG), atol=1e-4)
    assert shared["samples"][0]["reason"] == "the data set is not on this machine"
    links = [own["href"] for tag, own in page.tags if tag == "a" and own["href"] == f"#run-{numbers['misa', 2]}"]
    assert len(links) == 1


def test_the_largest_errors_are_kept_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    put(tmp_path, "tfn", 0.2, seeds=1)
    _, page = rendered(tmp_path, examples=7)
    found = document(page, 0)["predictions"]
    full = Page(build.render_page(find_runs(tmp_path), 200))
    every = np.array(document(full, 0)["predictions"]["e"])
    assert found["of"] == len(BIG)
    assert sorted(found["rows"]) == found["rows"]
    assert set(found["rows"]) == set(np.argsort(-every)[:7].tolist())
    assert np.allclose(found["e"], every[found["rows"]])


def test_a_classes_error_is_by_how_much_the_best_other_class_wins(tmp_path: Path) -> None:
    scores = np.array([[2.0, 1.0, 0.0], [0.5, 0.2, 0.9], [0.0, 3.0, 2.5]], np.float32)
    data = {"task": "classification", "classes": ["happy", "sad", "angry"], "metrics": ["wacc"]}
    folder = make_run(tmp_path, "tfn", 1, {"wacc": 0.5}, TARGET, data=data)
    write_predictions(folder / "predictions.csv.gz", {"test": (IDS[:3], np.array([0, 1, 2]), scores)})
    found = samples.predicted(find_runs(tmp_path)[0])
    assert found.prediction.tolist() == [0, 2, 1]
    assert found.errors.tolist() == pytest.approx([-1.0, 0.7, 0.5])


@pytest.mark.parametrize("damage", ["absent", "cut", "empty"])
def test_a_damaged_file_is_a_reason_and_no_traceback(tmp_path: Path, damage: str) -> None:
    put(tmp_path, "tfn", 0.2, seeds=2)
    put(tmp_path, "lmf", 0.3, seeds=2)
    folder = tmp_path / "demo" / "tfn-aa" / "seed-1"
    for name in ("predictions.csv.gz", "epochs.jsonl", "config.yaml"):
        path = folder / name
        content = path.read_bytes()
        path.unlink()
        if damage != "absent":
            path.write_bytes(content[:7] if damage == "cut" else b"")
    _, page = rendered(tmp_path)
    run = next(document(page, n) for n in range(4) if (document(page, n)["title"], document(page, n)["seed"]) == ("tfn", 1))
    assert run["predictions"]["problem"]
    assert run["curves_problem"]
    assert "tfn: not compared" in page.text
    assert "lmf" in page.rows["data-1-table"][1][0] + page.rows["data-1-table"][2][0]


def test_transcripts_come_from_the_data_set_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not REAL.exists():
        pytest.skip("the real CMU-MOSI is not on this machine")
    from mmbench.data.store import file_digests

    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    digest = file_digests(REAL)["sha256"]
    folder = make_run(tmp_path / "runs", "tfn", 1, data={"source": str(REAL), "sha256": digest})
    (folder / "config.yaml").write_text(f"data: {{name: mosi, path: {REAL}}}\n")
    words, reason = samples.transcripts(find_runs(tmp_path / "runs")[0], ["d3_k5Xpfmik/2", "nobody/1"])
    assert reason == ""
    assert words[1] == ""
    assert len(words[0].split()) > 3
    changed = make_run(tmp_path / "other", "tfn", 1, data={"source": str(REAL), "sha256": "0" * 64})
    (changed / "config.yaml").write_text(f"data: {{name: mosi, path: {REAL}}}\n")
    assert samples.transcripts(find_runs(tmp_path / "other")[0], ["x/1"]) == ([], "the data set has changed since the run")


def test_a_page_of_too_many_runs_says_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "tfn", 0.2, seeds=3)
    put(tmp_path, "linear", 0.2, seeds=2, floor=True)
    make_run(tmp_path, "lmf", 1, status="failed", reason="no memory")
    monkeypatch.setattr(build, "RUNS", 4)
    monkeypatch.setattr(build, "LISTED", 5)
    _, page = rendered(tmp_path)
    assert [document(page, n)["title"] for n in range(4)] == ["tfn", "tfn", "tfn", "lmf"]  # floors are the first to go
    assert "run-data-4" not in page.scripts
    assert "2 runs have no page of their own" in page.text
    assert "figures are drawn of the first 0 tables alone" in page.text


def test_only_the_best_are_compared_where_there_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in enumerate(("tfn", "lmf", "misa", "mult")):
        put(tmp_path, name, 0.2 + place / 10, seeds=2)
    monkeypatch.setattr(matrix, "MOST", 2)
    monkeypatch.setattr(matrix, "COLUMNS", 1)
    _, page = rendered(tmp_path)
    assert page.rows["table 1"][0] == ["row \N{MINUS SIGN} column", "tfn", "lmf"]
    assert "2 of 4 configurations are left out here: the 2 best by mae are compared" in page.text
    assert "compared in 1 of 2 scores; left out: corr" in page.text
    assert "Not tested against misa, mult" in page.text


def test_floors_that_experiments_share_have_one_page() -> None:
    data = {"name": "mosi", "fingerprint": "f", "modalities": [], "metrics": []}
    runs = [RunRecord(Path(f"/r/{e}/{s}"), "done", experiment=e, label="linear-1", seed=s, floor=True, data=data) for e in "ab" for s in (1, 2)]
    runs.append(RunRecord(Path("/r/a/m"), "done", experiment="a", label="m-1", seed=1, data=data))
    chosen = groups.chosen_runs(runs, 10)
    assert [str(run.folder) for run in chosen.runs] == ["/r/a/m", "/r/a/1", "/r/a/2"]
    assert chosen.number(runs[1]) == 2
    assert chosen.number(runs[2]) is None


# Diagnostics ------------------------------------------------------------------------------------------------------------------------


def test_diagnostics_are_means_over_seeds(tmp_path: Path) -> None:
    put(tmp_path, "tfn", 0.2, seeds=2)
    folder = tmp_path / "demo" / "tfn-aa" / "diagnostics"
    folder.mkdir()
    for seed, mae in ((1, 0.5), (2, 0.7)):
        own = {
            "schema_version": 1,
            "about": {"modalities": ["text", "audio", "vision"]},
            "calibration_summary": {"slope": mae, "intercept": 0.0},
            "ablation": [{"dropped": ["text"], "scores": {"mae": mae}}, {"dropped": ["text", "vision"], "scores": {"mae": 1.0}}],
            "robustness": [{"kind": "missing", "modality": "all", "rate": rate, "scores": {"mae": mae + rate}} for rate in (0.0, 0.5)],
            "gap": {"encoded": {"text-audio": mae}},
            "cka": {"encoded": {"text-audio": None}},
            "untrained": {"gap": {"encoded": {"text-audio": 0.1}}},
            "calibration": [{"low": -3, "high": 0, "n": 4, "target": -1.5, "prediction": -1.0, "mae": 0.5}],
            "probes": {"trained": {"common": {"text": {"label": mae}}}},
        }
        (folder / f"seed-{seed}.json").write_text(json.dumps(own))
    (folder / "seed-3.json").write_text("{")
    _, page = rendered(tmp_path)
    rows = [row for rows in page.rows.values() for row in rows]
    assert ["tfn", "0.600 ± 0.141"] in rows  # the gap
    assert ["configuration", "without text", "audio alone"] in rows
    assert ["tfn", "0.600 ± 0.141", "1.000 ± 0.000"] in rows
    assert ["tfn, untrained", "0.100 ± 0.000"] in rows
    assert ["tfn", "0.600 ± 0.141", "1.100 ± 0.141"] in rows  # robustness at rates 0 and 0.5
    assert ["tfn, trained, common, text", "0.600 ± 0.141"] in rows  # probes
    assert rows[rows.index(["configuration", "slope", "intercept"]) :][:2] == [
        ["configuration", "slope", "intercept"],
        ["tfn", "0.600 ± 0.141", "0.000 ± 0.000"],
    ]
    assert ["-3", "0", "4", "-1.5", "-1", "0.5"] in rows
    assert sum(own.get("class") == "chart" for _, own in page.tags) == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 9}', '{"schema_version": 1, "about": {}, "ablation": 3, "gap": [1], "probes": [1]}'])
def test_damaged_diagnostics_are_a_note(tmp_path: Path, text: str) -> None:
    put(tmp_path, "tfn", 0.2, seeds=1)
    folder = tmp_path / "demo" / "tfn-aa" / "diagnostics"
    folder.mkdir()
    (folder / "seed-1.json").write_text(text)
    records = find_runs(tmp_path)
    from mmbench.results.tables import build_tables

    (table,) = build_tables(records, draws=200)
    found, problems = diagnoses.diagnoses([row for row in table.rows if row.finished], table.columns[0])
    assert found == []
    assert len(problems) == (0 if "about" in text else 1)


def test_a_charts_ticks_are_round_and_its_points_inside() -> None:
    drawn = charts.chart("t", "x", "y", {"a": [(0, 0.1), (1, 0.4)], "b": [(0.5, math.nan), (0.5, 0.2)]})
    assert drawn is not None
    assert [tick.text for tick in drawn.y_ticks] == ["0.1", "0.2", "0.3", "0.4"]
    assert all(charts.LEFT <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT - charts.BOTTOM for _, points in drawn.lines for x, y in points)
    assert drawn.lines[0][1][0][1] > drawn.lines[0][1][1][1]  # up is more
    assert charts.chart("", "", "", {"a": [(math.nan, 1.0)]}) is None
    flat = charts.chart("", "", "", {"a": [(1.0, 2.0)]})
    assert flat is not None
    assert flat.x_ticks
    assert charts.chart("", "", "", {str(n): [(0, n)] for n in range(10)}).left_out == 2  # type: ignore[union-attr]


# Files, options, looks ----------------------------------------------------------------------------------------------------------------


def test_equal_runs_give_equal_bytes_and_the_verb_writes_them(tmp_path: Path, contest: tuple[Path, str, Page], monkeypatch) -> None:
    monkeypatch.setattr(build, "DRAWN", DRAWN)
    root, text, _ = contest
    out = tmp_path / "new" / "report.html"
    done = CliRunner().invoke(report.command, [str(root), "--html", str(out), "--draws", "200"])
    assert done.exit_code == 0, done.output
    assert out.read_text(encoding="utf-8") == text
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_where_it_cannot_be_written_is_named(tmp_path: Path, contest: tuple[Path, str, Page]) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "report.html", tmp_path):
        with pytest.raises(ConfigError, match=rf"{re.escape(str(out))}: cannot be written \("):
            write_page(find_runs(contest[0])[:1], out, 100)


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    make_run(tmp_path, "tfn", 1)
    with pytest.raises(ConfigError, match=rf"{package}.*pip install '"):
        write_page(find_runs(tmp_path), tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_runs_without_results_make_a_page_too(tmp_path: Path) -> None:
    make_run(tmp_path, "tfn", 1, status="failed", reason="no memory", data={"name": ""})
    _, page = rendered(tmp_path)
    assert "no memory" in page.text
    assert "1 runs: 1 failed" in page.text


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_text_has_enough_contrast_in_light_dark_and_print() -> None:
    css = (build.HERE / "page.css").read_text()
    themes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6}|#[0-9a-f]{3})\b", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)]
    assert len(themes) == 3
    pairs = [(ink, paper) for ink in ("ink", "quiet", "accent") for paper in ("paper", "panel", "mark")]
    pairs += [(f"{name}-ink", name) for name in ("better", "worse", "alarm")]
    for theme in themes:
        full = {name: value if len(value) == 7 else "#" + "".join(2 * digit for digit in value[1:]) for name, value in theme.items()}
        for ink, paper in pairs:
            light, dark = sorted((luminance(full[ink]), luminance(full[paper])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper)


def test_the_page_is_offered_by_the_verb() -> None:
    assert "--html" in CliRunner().invoke(cli, ["report", "--help"]).output
