"""Puts the page together: what each part says is made by its module, how it looks is in ``template.html``, ``page.css`` and ``page.js``."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmbench import __version__
from mmbench.component import Metric
from mmbench.errors import ConfigError
from mmbench.files import check_writable, write, writing
from mmbench.installing import how_to_install
from mmbench.metrics import metric_of
from mmbench.privacy import shared
from mmbench.results.longest import TOP
from mmbench.results.page.details import Details, listed
from mmbench.results.page.diagnoses import Diagnosis, diagnoses
from mmbench.results.page.embedding import as_json
from mmbench.results.page.groups import chosen_runs
from mmbench.results.page.leaderboard import Leaderboard, leaderboard, ordered, primary
from mmbench.results.page.matrix import Contests, contests
from mmbench.results.runs import RunRecord
from mmbench.results.statistics import DRAWS
from mmbench.results.tables import Table, build_tables, known_metrics
from mmbench.results.text import clean

HERE = Path(__file__).parent
EXAMPLES = 1000
"""Test samples of each run that can be browsed, those with the largest errors."""
RUNS = 300
"""Runs with a page of their own."""
LISTED = 2000
"""Runs in the list of runs."""
DRAWN = 6
"""Tables that have figures, the averaged ones of protocols first."""


@dataclass(frozen=True)
class Section:
    """One table's part of the page."""

    id: str
    title: str
    short: str
    simulated: bool
    compared: str
    board: Leaderboard
    contests: Contests
    drawings: Sequence[object]
    undrawn: Sequence[str]
    diagnoses: Sequence[Diagnosis]
    undiagnosed: Sequence[str]


@dataclass(frozen=True)
class Unfinished:
    """A configuration with runs that are not done, for one status and reason."""

    title: str
    experiment: str
    status: str
    seeds: str
    reason: str


def write_page(records: Sequence[RunRecord], path: Path, draws: int = DRAWS, examples: int = EXAMPLES) -> None:
    """Write the report of these runs as one HTML file, whole or not at all; equal runs give equal bytes.

    `draws`: of test videos behind intervals and p; `examples`: test samples of each run that can be browsed, the largest errors first.

    Raises:
        ConfigError: where Jinja2 or matplotlib is missing, or the file cannot be written.
    """
    advice = "choose another place with --html"
    check_writable(path, advice)
    text = render_page(records, draws, examples)
    with writing(path, advice):
        write(path, shared(text))


def render_page(records: Sequence[RunRecord], draws: int = DRAWS, examples: int = EXAMPLES) -> str:
    """The page as text. ConfigError: where Jinja2 or matplotlib is missing."""
    try:
        import jinja2
        import matplotlib  # noqa: F401
        from markupsafe import Markup
    except ImportError as error:
        raise ConfigError(f"the HTML report needs {error.name}, which is not installed: {how_to_install('mmbench[report]')}") from None
    known = known_metrics(records)
    tables = build_tables(records, known, top=TOP)
    sections = [section(f"data-{index}", table, known, draws, index <= DRAWN) for index, table in enumerate(tables, start=1)]
    chosen = chosen_runs(records, RUNS)
    details = Details(known, examples)
    documents = [details.document(record) for record in chosen.runs]
    keys = first_scores(tables)
    environment = jinja2.Environment(
        autoescape=True, loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = lambda text: Markup("<wbr>").join(re.split(r"(?<=[_/.:+-])(?=\w)", text))
    page = {
        "version": __version__,
        "title": headline(tables),
        "subtitle": subtitle(records, tables),
        "simulated": simulated(tables),
        "sections": sections,
        "listed": [listed(r, chosen.number(r), keys.get(id(r)), known) for r in in_order(records, chosen.runs)[:LISTED]],
        "left_out": left_out(len(records), chosen.left_out),
        "unfinished": unfinished(records),
        "metrics": explained(tables, known),
        "unfinished_count": sum(record.status != "done" for record in records),
        "counts": counted(Counter(record.status for record in records)),
        # both are files of this package; the JSON has no character that could end its element
        "css": Markup((HERE / "page.css").read_text(encoding="utf-8")),
        "js": Markup((HERE / "page.js").read_text(encoding="utf-8")),
        "documents": [Markup(as_json(document)) for document in documents],
        "shared": Markup(as_json(details.shared())),
    }
    return environment.get_template("template.html").render(page=page) + "\n"


def section(name: str, table: Table, known: Mapping[str, Metric], draws: int, drawn: bool) -> Section:
    """What the page says of one table."""
    from mmbench.results.page.drawings import drawings

    column = primary(table)
    rows = [row for row in ordered(table, column) if row.kind == "method" and row.finished]
    held = contests(table, known, draws)
    figures, undrawn = drawings(table, rows, column, held.of_the_best, name) if drawn and rows and column else ([], [])
    if not drawn and rows:
        undrawn = [f"figures are drawn of the first {DRAWN} tables alone; mmbench figure draws any"]
    found, undiagnosed = diagnoses(rows, column) if rows and column else ([], [])
    return Section(
        id=name,
        title=clean(table.title),
        short=clean(table.short),
        simulated=table.simulated,
        compared=compared(table),
        board=leaderboard(table),
        contests=held,
        drawings=figures,
        undrawn=undrawn,
        diagnoses=found,
        undiagnosed=undiagnosed,
    )


def explained(tables: Sequence[Table], known: Mapping[str, Metric]) -> list[tuple[str, str]]:
    """What the scores of the tables mean, each metric once."""
    found = {metric.name: metric.summary for table in tables for c in table.columns if (metric := metric_of(c.key, known)) and metric.summary}
    return [(clean(name), clean(about)) for name, about in found.items()]


def compared(table: Table) -> str:
    """What stands in a table, in one line."""
    kinds = Counter(row.kind for row in table.rows)
    methods = [row for row in table.rows if row.kind == "method"]
    seeds = sorted({row.total for row in methods})
    each = "" if not seeds else f" with {seeds[0]} seed{'s' * (seeds[0] != 1)} each" if len(seeds) == 1 else f" with {seeds[0]} to {seeds[-1]} seeds"
    partial = sum(not row.competes for row in methods)
    parts = [
        f"{kinds['method']} configuration{'s' * (kinds['method'] != 1)}{each}",
        f"{partial} of them not complete" if partial else "",
        f"{kinds['floor']} floor{'s' * (kinds['floor'] != 1)}" if kinds["floor"] else "",
        f"{kinds['published']} published" if kinds["published"] else "",
    ]
    return ", ".join(part for part in parts if part) if table.rows else ""


def simulated(tables: Sequence[Table]) -> str:
    """What on the page is of simulated data; nothing where nothing is."""
    shown = [table for table in tables if table.data]
    names = list(dict.fromkeys(data_name(table) for table in shown if table.simulated))
    return "" if not names else "everything on this page" if all(table.simulated for table in shown) else ", ".join(names)


def data_name(table: Table) -> str:
    """The title of a table's data set."""
    return clean(str(table.data.get("title") or table.data.get("name")))


def headline(tables: Sequence[Table]) -> str:
    """The data sets of the page."""
    names = list(dict.fromkeys(data_name(table) for table in tables if table.data))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") if names else "Runs without results"


def subtitle(records: Sequence[RunRecord], tables: Sequence[Table]) -> str:
    """What was run, in one line."""
    methods = len({(record.experiment, record.label) for record in records if not record.floor})
    experiments = len({record.experiment for record in records})
    return f"{methods} configurations in {experiments} experiment{'s' * (experiments != 1)}; {counted(Counter(record.status for record in records))}."


def counted(states: Mapping[str, int]) -> str:
    """How many runs are in which state."""
    order = ("done", "failed", "interrupted", "damaged", "incompatible", "running", "queued", "pending")
    names = {"incompatible": "refused as incompatible"}
    said = [f"{states[state]} {names.get(state, state)}" for state in order if states.get(state)]
    return f"{sum(states.values())} runs: {', '.join(said)}"


def unfinished(records: Sequence[RunRecord]) -> list[Unfinished]:
    """The runs that are not done by configuration, status and reason."""
    found: dict[tuple[str, str, str, str], list[int]] = defaultdict(list)
    for record in records:
        if record.status != "done":
            found[record.title, record.experiment, record.status, record.reason] += [] if record.seed is None else [record.seed]
    return [
        Unfinished(clean(title), clean(experiment), status, ", ".join(map(str, sorted(seeds))), clean(reason))
        for (title, experiment, status, reason), seeds in found.items()
    ]


def first_scores(tables: Sequence[Table]) -> dict[int, str]:
    """By a run (its identity) the score by which its table is ordered."""
    found: dict[int, str] = {}
    for table in tables:
        column = primary(table)
        for row in table.rows if column else ():
            found.update({id(record): column.key for record in row.records if column and record.status == "done"})
    return found


def in_order(records: Sequence[RunRecord], chosen: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs with a page first, then those that are not listed yet and not done; a floor that several experiments have stands once."""
    shown = {str(record.folder) for record in chosen}
    return [*chosen, *(record for record in records if str(record.folder) not in shown and not record.floor)]


def left_out(count: int, without: int) -> list[str]:
    """What of the runs is not on the page."""
    notes = [f"{without} runs have no page of their own; the page has room for {RUNS}"] if without else []
    return notes + ([f"{LISTED} of {count} runs are listed"] if count > LISTED else [])
