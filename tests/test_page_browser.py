"""The page in a browser: sorting, filtering, the pages of runs, printing and narrow screens, with no error in the console."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2", reason="the page needs the extra report")
pytest.importorskip("matplotlib", reason="the page needs the extra report")

from mmbench.results.page import build
from mmbench.results.runs import find_runs

from .results.folders import make_run
from .results.test_page import SEEN, hostile_runs, put

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"there is no {', '.join(NAMES)} on this machine")

BEFORE = """<script>window.problems = [];
window.onerror = function (message) { window.problems.push(String(message)); };
document.addEventListener("securitypolicyviolation", function (event) { window.problems.push("policy: " + event.violatedDirective); });
</script>"""
AFTER = """<script>(async function () {
  var $ = function (s) { return document.querySelector(s); }, all = function (s) { return [].slice.call(document.querySelectorAll(s)); };
  var wait = function () { return new Promise(function (done) { setTimeout(done, 50); }); };
  var go = async function (hash) { location.hash = hash; await wait(); };
  var shown = function (s) { return all(s).filter(function (e) { return e.getClientRects().length > 0; }); };
  var texts = function (s) { return all(s).map(function (e) { return e.textContent.trim(); }); };
  var type = function (input, text) { input.value = text; input.dispatchEvent(new Event("input")); };
  var found = {};
  try { %s } catch (error) { window.problems.push(String(error)); }
  found.problems = window.problems;
  var out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.body.appendChild(out);
})();</script></body>"""


def visit(page: str, folder: Path, steps: str, *flags: str) -> dict[str, Any]:
    """What a script that does these steps on the page found."""
    path = folder / "visited.html"
    path.write_text(page.replace("<style>", BEFORE + "<style>", 1).replace("</body>", AFTER % steps), encoding="utf-8")
    done = browse(folder, path, "--dump-dom", "--enable-logging=stderr", *flags)
    dumped = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert dumped, f"{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    found = json.loads(html.unescape(dumped[1]))
    assert found["problems"] == []
    assert "CONSOLE" not in done.stderr, done.stderr
    return found  # type: ignore[no-any-return]


def browse(folder: Path, path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER
    common = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--virtual-time-budget=20000", f"--user-data-dir={folder / 'profile'}"]
    return subprocess.run([BROWSER, *common, *flags, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three configurations, one of them incomplete, and a floor; two metrics. Figures are not this test's."""
    root = tmp_path_factory.mktemp("runs")
    for name, offset in {"tfn": 0.2, "lmf": 0.3, "misa_long_name": 0.9}.items():
        put(root, name, offset)
    put(root, "linear", 0.5, floor=True)
    make_run(root, "mult", 1, status="failed", reason="loss is NaN", data={"metrics": ["mae", "corr"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "DRAWN", 0)
        return build.render_page(find_runs(root), 200)


def test_tables_sort_filter_and_say_so(page: str, tmp_path: Path) -> None:
    found = visit(
        page,
        tmp_path,
        """
        var names = function () { return texts("#data-1-table tbody th"); };
        var heads = all("#data-1-table thead th");
        var click = function (index) { heads[index].querySelector("button").click(); return [names(), heads[index].getAttribute("aria-sort")]; };
        found.first = names();
        found.marked = heads.map(function (h) { return h.getAttribute("aria-sort"); });
        found.mae = click(2);
        found.maeAgain = click(2);
        found.corr = click(3);
        found.one = heads.filter(function (h) { return h.hasAttribute("aria-sort"); }).length;
        found.name = click(0);
        var focusable = all("#data-1-table th button").filter(function (b) { b.focus(); return document.activeElement === b; });
        found.buttons = focusable.length === heads.length;
        var input = $(".tools[data-for=data-1-table] input"), output = $(".tools[data-for=data-1-table] output");
        type(input, "LMF 3/3");
        found.filtered = [shown("#data-1-table tbody tr").length, output.textContent, output.getAttribute("aria-live")];
        type(input, "nothing like it");
        found.nothing = [shown("#data-1-table tbody tr").length, output.textContent];
        type(input, "");
        found.all = [shown("#data-1-table tbody tr").length, output.textContent];
        found.label = input.labels[0].textContent.trim();
        """,
    )
    methods, others = ["tfn", "lmf", "misa_long_name"], ["linear (floor)", "best constant on test (oracle)"]
    assert found["first"] == [*methods, "mult", *others]
    assert found["marked"][2] == "ascending"
    assert found["mae"] == [["best constant on test (oracle)", "misa_long_name", "linear (floor)", "lmf", "tfn", "mult"], "descending"]
    assert found["maeAgain"] == [["tfn", "lmf", "linear (floor)", "misa_long_name", "best constant on test (oracle)", "mult"], "ascending"]
    assert found["corr"][1] == "descending"  # higher is better: the best on top
    assert set(found["corr"][0][-2:]) == {"best constant on test (oracle)", "mult"}  # n/a is last, whatever the direction
    assert found["one"] == 1
    assert found["name"][0] == sorted(found["first"])
    assert found["buttons"]
    assert found["filtered"] == [1, "1 of 6 rows", "polite"]
    assert found["nothing"] == [0, "0 of 6 rows"]
    assert found["all"] == [6, ""]
    assert found["label"] == "Show rows with"


def test_one_metric_of_the_comparisons_is_shown_at_a_time(page: str, tmp_path: Path) -> None:
    found = visit(
        page,
        tmp_path,
        """
        var select = $("select"), headings = function () { return shown(".metric h4").map(function (h) { return h.textContent; }); };
        found.first = headings();
        select.value = "1";
        select.dispatchEvent(new Event("change"));
        found.second = headings();
        found.said = select.closest(".tools").querySelector("output").textContent;
        """,
    )
    assert [len(found["first"]), len(found["second"])] == [1, 1]
    assert found["first"][0].startswith("mae (lower is better): ")
    assert found["second"] == [found["said"]]
    assert found["said"].startswith("corr (higher is better): ")


def test_a_runs_page_opens_by_its_address_and_closes(page: str, tmp_path: Path) -> None:
    found = visit(
        page,
        tmp_path,
        """
        found.before = [shown("#report").length, shown("#run").length];
        var link = all("#runs-table a").find(function (a) { return a.textContent.indexOf("misa") > 0; });
        await go(link.getAttribute("href"));
        found.open = [shown("#report").length, shown("#run").length, document.activeElement.id, texts("#run h2")[0]];
        found.heads = texts("#run h3");
        found.charts = shown("#run .chart").length;
        found.config = $("#run pre").textContent;
        found.rows = texts("#run table:last-of-type tbody th").length;
        var table = all("#run table").pop(), error = function () { return Number(table.tBodies[0].rows[0].cells[3].textContent); };
        var tools = all("#run .tools").pop(), output = tools.querySelector("output"), buttons = tools.querySelectorAll("button");
        found.count = [table.tBodies[0].rows.length, output.textContent, buttons[0].disabled];
        found.largest = error();
        buttons[1].click();
        found.next = [output.textContent, buttons[0].disabled];
        table.tHead.rows[0].cells[3].querySelector("button").click();
        found.smallest = [error(), table.tHead.rows[0].cells[3].getAttribute("aria-sort"), output.textContent];
        type(tools.querySelector("input"), "video7/");
        found.filtered = output.textContent;
        type(tools.querySelector("input"), "no such id");
        found.none = output.textContent;
        await go("#runs");
        found.back = [shown("#report").length, shown("#run").length, document.activeElement.getAttribute("href") === link.getAttribute("href")];
        await go("#run-999");
        found.unknown = shown("#report").length;
        """,
    )
    assert found["before"] == [1, 0]
    assert found["open"][:3] == [0, 1, "run-title"]
    assert re.fullmatch(r"misa_long_name, seed \d", found["open"][3])
    assert found["heads"] == ["Scores", "Learning curves", "Test predictions", "Data", "Environment", "Config"]
    assert found["charts"] == 2
    assert found["config"] == "name: demo"
    assert found["count"] == [25, "1 to 25 of 60 samples", True]
    assert found["next"] == ["26 to 50 of 60 samples", False]
    assert found["smallest"][1:] == ["ascending", "1 to 25 of 60 samples"]
    assert found["smallest"][0] < 0.9 < found["largest"]  # about 0.9 apart, with some noise
    assert found["filtered"] == "1 to 3 of 3 samples"
    assert found["none"] == "no sample"
    assert found["back"] == [1, 0, True]
    assert found["unknown"] == 1


def test_hostile_data_stay_text_on_the_pages_of_runs(tmp_path: Path) -> None:
    hostile_runs(tmp_path / "runs")
    text = build.render_page(find_runs(tmp_path / "runs"), 100)
    assert SEEN.strip() not in text
    found = visit(
        text,
        tmp_path,
        """
        found.alert = 0;
        window.alert = function () { found.alert += 1; };
        found.titles = [];
        for (var number = 0; document.getElementById("run-data-" + number); number += 1) {
          await go("#run-" + number);
          found.titles.push($("#run h2").textContent);
          found.simulated = (found.simulated || 0) + ($("#run .simulated") ? 1 : 0);
          found.text = (found.text || "") + $("#run").textContent;
        }
        found.images = all("img, iframe, object").length;
        """,
    )
    assert found["alert"] == found["images"] == 0
    assert len(found["titles"]) == found["simulated"] + 1  # a pending run knows nothing of its data
    assert f"{SEEN.strip()}, seed 1" in found["titles"]
    assert found["text"].count(SEEN.strip()) > 6
    assert f"warningsa tracker failed {SEEN.strip()}" in found["text"]


def test_a_narrow_screen_scrolls_tables_and_not_the_page(page: str, tmp_path: Path) -> None:
    found = visit(
        page,
        tmp_path,
        """
        var wide = function () { return document.documentElement.scrollWidth - document.documentElement.clientWidth; };
        found.width = document.documentElement.clientWidth;
        found.over = [wide()];
        await go("#run-0");
        found.over.push(wide());
        await go("#report");
        var box = $("#data-1-table").parentNode, name = $("#data-1-table tbody th");
        found.table = box.scrollWidth > box.clientWidth;
        box.scrollLeft = 200;
        found.sticky = Math.round(name.getBoundingClientRect().left - box.getBoundingClientRect().left);
        var named = function (e) { return e.getAttribute("aria-label") || e.getAttribute("aria-labelledby"); };
        // what is hidden from sight is placed absolutely, and would widen the page if its box did not hold it
        found.held = all(".scroll, .plate").every(function (e) { return getComputedStyle(e).position === "relative"; });
        found.focusable = all(".scroll").every(function (e) { return e.tabIndex === 0 && Boolean(named(e)); });
        """,
        "--window-size=500,900",
    )
    assert found["width"] <= 500
    assert found["over"] == [0, 0]
    assert found["table"]
    assert found["sticky"] <= 2
    assert found["held"]
    assert found["focusable"]


def test_on_paper_everything_is_unfolded_and_controls_are_gone(page: str, tmp_path: Path) -> None:
    found = visit(
        page,
        tmp_path,
        """
        window.dispatchEvent(new Event("beforeprint"));
        found.open = all("details").every(function (d) { return d.open; });
        window.dispatchEvent(new Event("afterprint"));
        found.closed = all("details").some(function (d) { return d.open; });
        document.querySelectorAll("style")[0].textContent += $("style").textContent.replace("@media print", "@media all");
        found.controls = shown("input, select, nav, .tools").length;
        found.details = all("details").length;
        """,
    )
    assert found["open"]
    assert not found["closed"]
    assert found["controls"] == 0
    assert found["details"] > 0
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    browse(tmp_path, tmp_path / "page.html", f"--print-to-pdf={tmp_path / 'page.pdf'}")
    printed = (tmp_path / "page.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert len(printed) > 20_000
