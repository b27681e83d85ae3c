"""Comparisons as text: two configurations in every score, all pairs in one score, or a table against one of its rows."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mmbench.component import Metric
from mmbench.errors import ConfigError
from mmbench.results.comparison import Comparison, contest_of
from mmbench.results.data_tables import finite
from mmbench.results.formats import FORMATS, Sheet, Style, clean, number, style_of
from mmbench.results.opponents import Opponent, all_tables, named, refuse_other_data
from mmbench.results.runs import RunRecord
from mmbench.results.statistics import DRAWS
from mmbench.results.tables import Column, Table, known_metrics
from mmbench.results.text import csv_text

FIELDS = (
    "table", "data", "simulated", "metric", "higher_is_better", "first", "second", "seeds", "videos", "unit", "mean_first", "mean_second",
    "difference", "low", "high", "level", "p", "p_holm", "significant", "sign_flip", "sign_flip_floor", "improvement", "better", "reason",
)  # fmt: skip
MOST_P = 100
"""p values that stand below a table."""


@dataclass(frozen=True)
class Compared:
    """Comparisons on one table's data, corrected together. `layout`: ``pair``, ``matrix`` (of one score) or ``baseline``."""

    layout: str
    table: Table
    columns: tuple[Column, ...]
    comparisons: tuple[Comparison, ...]
    draws: int
    unit: str

    @property
    def tests(self) -> int:
        """How many p values were corrected together."""
        return sum(not math.isnan(c.p) for c in self.comparisons)


def baseline_text(
    records: Sequence[RunRecord], name: str, format: str = "plain", draws: int = DRAWS, *, metrics: Sequence[str] = (), unit: str = "video"
) -> str:
    """Every configuration of each table against the row `name` (which may be a floor), in all scores that are not of one class.

    Raises:
        ConfigError: where no table has such a row, or a metric was not scored.
    """
    known = known_metrics(records)
    tables = all_tables(records)
    must_be_scored(tables, metrics)
    found = []
    for table in tables:
        row = named(name, table)
        columns = chosen_columns(table, metrics) if row else ()
        if row and columns:
            contest = contest_of(table, known, draws, unit=unit, also=(row.name,))
            found.append(Compared("baseline", table, columns, tuple(contest.against(row.name, [c.key for c in columns])), draws, unit))
    if not found:
        rows = dict.fromkeys(row.name for table in tables for row in table.rows if row.finished)
        raise ConfigError(f"no finished configuration is named {name!r}; there are {', '.join(rows) or 'none'}")
    return render(found, format)


def matrices(records: Sequence[RunRecord], metrics: Sequence[str] = (), draws: int = DRAWS, unit: str = "video") -> list[Compared]:
    """All pairs of the methods of each table, in each of the scores, or in the table's first.

    Raises:
        ConfigError: where no table has two methods with finished runs, or a metric was not scored.
    """
    known = known_metrics(records)
    found: list[Compared] = []
    tables = all_tables(records)
    must_be_scored(tables, metrics)
    for table in tables:
        columns = chosen_columns(table, metrics)
        contest = contest_of(table, known, draws, unit=unit)
        if len(contest.names) > 1:
            shown = columns if metrics else columns[:1]
            found += [Compared("matrix", table, (column,), tuple(contest.pairs(column.key)), draws, unit) for column in shown]
    if not found:
        raise ConfigError("there are no two methods with finished runs on the same data; floors are compared by name: mmbench compare A B --runs DIR")
    return found


def pair(
    first: Opponent, second: Opponent, known: Mapping[str, Metric], metrics: Sequence[str] = (), draws: int = DRAWS, unit: str = "video"
) -> Compared:
    """Two configurations on the same data in each of the scores, or in all that both have and that are not of one class.

    Raises:
        ConfigError: where their data or test samples differ, or predictions cannot be read, or a metric was not scored.
    """
    refuse_other_data(first, second)
    names = (first.row.name, second.row.name)
    if names[0] == names[1]:
        names = (f"{names[0]} ({first.row.experiment})", f"{names[1]} ({second.row.experiment})")
    if names[0] == names[1]:
        names = (first.place, second.place)
    if names[0] == names[1]:  # the same configuration, run in two places
        names = (first.folder, second.folder)
    if names[0] == names[1]:
        raise ConfigError(f"{names[0]} is compared with itself; name two configurations")
    own = {column.key for column in second.table.columns}
    table = replace(
        first.table,
        rows=(replace(first.row, name=names[0]), replace(second.row, name=names[1])),
        columns=tuple(column for column in first.table.columns if column.key in own),
    )
    contest = contest_of(table, known, draws, unit=unit, also=names)
    for name, problem in contest.problems.items():
        raise ConfigError(f"{name} cannot be compared: {problem}")
    must_be_scored([table], metrics)
    columns = chosen_columns(table, metrics)
    return Compared("pair", table, columns, tuple(contest.against(names[1], [c.key for c in columns])), draws, unit)


def chosen_columns(table: Table, metrics: Sequence[str]) -> tuple[Column, ...]:
    """The columns of these scores that the table has, or all that are not of one class."""
    own = {column.key: column for column in table.columns}
    return tuple(own[key] for key in dict.fromkeys(metrics) if key in own) if metrics else tuple(c for c in table.columns if not c.per_class)


def must_be_scored(tables: Sequence[Table], metrics: Sequence[str]) -> None:
    """Raises a ConfigError for a metric that no table has."""
    there = dict.fromkeys(column.key for table in tables for column in table.columns)
    unknown = [key for key in metrics if key not in there]
    if unknown:
        raise ConfigError(f"--metric {unknown[0]}: these runs were not scored with it; there are {', '.join(there) or 'no scores'}")


def render(found: Sequence[Compared], format: str = "plain") -> str:
    """The comparisons in one of the formats of tables, ending in a newline."""
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r} of a comparison; there are {', '.join(FORMATS)}")
    if format == "json":
        documents = [
            {"title": one.table.title, "simulated": one.table.simulated, "layout": one.layout, "draws": one.draws, "comparisons": list(entries(one))}
            for one in found
        ]
        return json.dumps(finite(documents), indent=1, ensure_ascii=False) + "\n"
    if format == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
        writer.writeheader()
        for one in found:
            writer.writerows({key: _flat(value) for key, value in entry.items()} for entry in entries(one))
        return text.getvalue()
    style = style_of(format)
    return "\n".join(style.layout(SHEETS[one.layout](one, style), style) for one in found)


def entries(found: Compared) -> list[dict[str, Any]]:
    """One for each comparison, by `FIELDS`."""
    data = found.table.data
    shared = {"table": clean(found.table.title), "data": clean(str(data.get("name", ""))), "simulated": found.table.simulated, "unit": found.unit}
    result = []
    for c in found.comparisons:
        own = asdict(c) | {"mean_first": c.means[0], "mean_second": c.means[1], "significant": c.significant, "better": c.better} | shared
        result.append({key: list(own[key]) if isinstance(own[key], tuple) else own[key] for key in FIELDS})
    return result


def _flat(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return int(value)
    return number(value) if isinstance(value, float) else csv_text(value) if isinstance(value, str) else value


# What stands on a sheet -------------------------------------------------------------------------------------------------------------


def pair_sheet(found: Compared, style: Style) -> Sheet:
    """A line for each score."""
    level = f"{found.comparisons[0].level:.0%} interval" if found.comparisons else "interval"
    headers = ("metric", "A", "B", "A - B", level, "p", "p (Holm)", "sign flip", "P(A better)", "outcome")
    rows = []
    for column, c in zip(found.columns, found.comparisons, strict=True):
        around = "" if math.isnan(c.low) else f"[{column.signed(c.low)}, {column.signed(c.high)}]"
        shown = [
            *map(column.text, c.means),
            column.signed(c.difference),
            around,
            *map(probability, (c.p, c.p_holm, c.sign_flip)),
            share(c.improvement),
        ]
        rows.append(((style.header(column), ""), *((style.escape(text), "") for text in shown), (style.escape(outcome(c, column)), "")))
    names = [f"{letter}: {style.escape(f'{row.name} ({row.experiment}/{row.label})')}" for letter, row in zip("AB", found.table.rows, strict=True)]
    title = f"{style.escape(found.table.title)}: A against B"
    return Sheet(title, tuple(map(style.escape, headers)), tuple(rows), (*names, *explanations(found, style)))


def outcome(c: Comparison, column: Column) -> str:
    """What may be said: which is better and what better means, or that the two are not told apart, or not tested."""
    if math.isnan(c.p):
        return "not tested"
    if not c.significant:
        return "not told apart"
    if not c.better:
        return "different"
    return f"{'A' if c.better == c.first else 'B'} better: {'higher' if c.higher_is_better else 'lower'} {column.key}"


def matrix_sheet(found: Compared, style: Style) -> Sheet:
    """Row minus column, methods from the best mean to the worst; the other half would be the same with the sign turned."""
    (column,) = found.columns
    names = list(dict.fromkeys(name for c in found.comparisons for name in (c.first, c.second)))
    cells = {(c.first, c.second): c for c in found.comparisons}
    means = {row.name: row.cells[column.key].mean for row in found.table.rows}
    headers = (style.escape("row - column"), style.header(column), *(str(place) for place in range(2, len(names) + 1)))
    rows = []
    for place, name in enumerate(names, 1):
        own = [difference(cells[name, other], column, style) if (name, other) in cells else ("", "") for other in names[1:]]
        rows.append(((style.escape(f"{place} {name}"), ""), (column.text(means[name]), ""), *own))
    title = f"{style.escape(found.table.title)}: {style.header(column)}, all pairs"
    return Sheet(title, headers, tuple(rows), tuple(explanations(found, style)))


def baseline_sheet(found: Compared, style: Style) -> Sheet:
    """A line for each configuration, its difference to the baseline in each score."""
    cells = {(c.first, c.metric): c for c in found.comparisons}
    rows = [
        ((style.escape(name), ""), *(difference(cells[name, column.key], column, style) for column in found.columns))
        for name in dict.fromkeys(c.first for c in found.comparisons)
    ]
    baseline = found.comparisons[0].second if found.comparisons else ""
    headers = (style.escape("configuration"), *map(style.header, found.columns))
    title = style.escape(f"{found.table.title}: differences to {baseline}")
    return Sheet(title, headers, tuple(rows), tuple(explanations(found, style)))


def difference(c: Comparison, column: Column, style: Style) -> tuple[str, str]:
    """A difference ± half the width of its interval, and a star where it is significant."""
    text = column.signed(c.difference)
    if not math.isnan(c.low):
        text += style.plus_minus + column.text((c.high - c.low) / 2)
    return text, style.escape("*") if c.significant else ""


SHEETS: Mapping[str, Callable[[Compared, Style], Sheet]] = {"pair": pair_sheet, "matrix": matrix_sheet, "baseline": baseline_sheet}


def probability(value: float) -> str:
    """A p value with four decimals."""
    return "n/a" if math.isnan(value) else "<0.0001" if value < 0.0001 else f"{value:.4f}"


def share(value: float) -> str:
    """A probability with two decimals."""
    return "n/a" if math.isnan(value) else f"{value:.2f}"


def explanations(found: Compared, style: Style) -> list[str]:
    """What the numbers mean, what they cannot say, and why something is not tested."""
    told = [c for c in found.comparisons if not math.isnan(c.p)]
    lines = []
    if any(column.percent for column in found.columns):
        lines.append("What ranges from 0 to 1 (accuracy, F1, recall) is times 100.")
    if told:
        level, alpha = f"{told[0].level:.0%}", f"{1 - told[0].level:.2g}"
        seeds, units = {c.seeds for c in told}, f"{told[0].videos} test {found.unit}s"
        which = numbered(next(iter(seeds))) if len(seeds) == 1 else "the seeds that both have finished"
        parts = " (each seed's score is the mean over all parts)" if found.table.averaged else ""
        half = "" if found.layout == "pair" else f"±: half the width of the {level} interval. "
        random = f"the {found.unit}s alone" if all(len(c.seeds) == 1 for c in told) else f"the seeds and the {found.unit}s"
        lines.append(
            f"{half}Interval and p count {random} as random: {which}, {units}{parts}; t distribution, its degrees of freedom "
            f"after Satterthwaite, errors from {found.draws} draws of {found.unit}s."
        )
        if found.unit == "utterance":
            lines.append("Utterances of one video are not independent: intervals over utterances are too narrow; videos are the default.")
        tests, none = f"{found.tests} comparison{'s' * (found.tests > 1)}", not any(c.significant for c in told)
        marked = "No p of several seeds is" if none and any(len(c.seeds) == 1 for c in told) else "No p is" if none else ""
        marked = marked or ("Called better: p" if found.layout == "pair" else "* p")
        lines.append(
            f"{marked} below {alpha} after Holm's correction for {tests}; what is not told apart is not proven equal. Intervals are not corrected."
        )
        lines += p_values(found)
        least = max(c.sign_flip_floor for c in told)
        if found.layout == "pair":
            lines.append(
                f"sign flip: the exact test over the {len(told[0].seeds)} seeds alone, on these test samples alone; it cannot be below {least:.4g}."
            )
            lines.append("P(A better): share of all pairs of a run of A and a run of B in which A's is better, ties one half.")
        if any(len(c.seeds) == 1 for c in told):
            lines.append("One seed says nothing of other seeds: its interval is over test videos alone, and nothing on it is called significant.")
    return [style.escape(line) for line in (*lines, *untested(found))]


def p_values(found: Compared) -> list[str]:
    """The p of each comparison where a table has no column for them: a line for each score, or where they are many, how to get them."""
    if found.layout == "pair":
        return []
    if found.tests > MOST_P:
        return ["p of each: --format csv."]
    by_score: dict[str, list[str]] = defaultdict(list)
    for c in found.comparisons:
        if not math.isnan(c.p):
            name = c.first if found.layout == "baseline" else f"{c.first} - {c.second}"
            by_score[c.metric].append(f"{name} {probability(c.p_holm)}")
    return [f"p (Holm), {metric}: {', '.join(each)}." for metric, each in by_score.items()]


def numbered(seeds: Sequence[int]) -> str:
    """``seed 1`` or ``seeds 1, 2``."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def untested(found: Compared) -> list[str]:
    """Why comparisons are without a test, each reason once."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for c in found.comparisons:
        if c.reason:
            reasons[c.reason].append(c.metric if found.layout == "pair" else f"{c.first} - {c.second}, {c.metric}")
    lines = []
    for reason, places in reasons.items():
        more = f" and {len(places) - 4} more" if len(places) > 4 else ""
        lines.append(f"not tested: {'; '.join(places[:4])}{more}: {reason}")
    return lines
