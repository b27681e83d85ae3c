"""Published numbers beside measured ones: a line of their own below the model, with the gap (measured minus published), never in marks or tests.

A number stands where data set, protocol and metric are those of the table, and its model is the component of a row; methods that were not run here
have lines too. Ablations' rows are left out, and so are tables of simulated data and of single parts of a protocol, of which nobody published any.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mmbench.results.published import PublishedScore, Source, load_source, published_sources
from mmbench.results.tables import TOLERANCE, Cell, Row, Table


@dataclass
class Line:
    """What one source prints of one method on one data set, in those of its tables that agree."""

    method: str
    model: str
    source: str
    tables: list[str]
    scores: dict[str, PublishedScore] = field(default_factory=dict)
    several: bool = False
    """Whether other tables of the source print something else, so that the name says which one this is."""

    @property
    def key(self) -> str:
        """What it is called by: the component's name where there is one."""
        return self.model or self.method

    @property
    def name(self) -> str:
        """How it is called in a table."""
        return f"{self.key}: published ({self.source}{f' {self.tables[0]}' if self.several else ''})"

    def agrees(self, scores: Mapping[str, PublishedScore]) -> bool:
        """Whether another table of the source prints the same where both print something."""
        return all(abs(self.scores[key].value - score.value) <= TOLERANCE for key, score in scores.items() if key in self.scores)


def with_published(tables: Sequence[Table], sources: Iterable[str] | None = None) -> list[Table]:
    """The same tables with the published numbers that belong to them, and notes on where these come from.

    `sources`: names, or paths of YAML files; default all that are shipped.
    """
    known = {source.name: source for source in map(load_source, published_sources() if sources is None else sources)}
    return [extended(table, known) for table in tables]


def extended(table: Table, sources: Mapping[str, Source]) -> Table:
    """One table with its published numbers."""
    if not table.rows or table.data.get("part"):
        return table
    if table.simulated:
        return replace(table, notes=(*table.notes, "no published numbers are shown, since these data are simulated"))
    found = [line for source in sources.values() for line in lines_of(source, table)]
    if not found:
        return replace(table, notes=(*table.notes, "no published numbers are known for this data set, protocol and these scores"))
    rows: list[Row] = []
    placed: set[int] = set()
    methods = [row for row in table.rows if row.kind == "method"]
    last = {row.model: row for row in methods}
    for row in methods:
        rows.append(row)
        if last[row.model] is row:
            own = [other for other in methods if other.model == row.model]
            for line in found:
                if line.model == row.model:
                    rows.append(published_row(line, table, own))
                    placed.add(id(line))
    rows += [published_row(line, table, ()) for line in found if id(line) not in placed]
    several = sorted({row.name.partition(":")[0] for row in rows if row.kind == "published" and counts(methods, row.model) > 1})
    unclear = [f"{', '.join(several)}: no gap is shown, since several configurations of the model stand here"] if several else []
    adapted = [row.name for row in methods if row.adapted and counts(methods, row.model) == 1 and any(line.model == row.model for line in found)]
    unclear += [f"{', '.join(adapted)}: no gap is shown, since losses with adapters are not part of the published method"] if adapted else []
    rest = [row for row in table.rows if row.kind != "method"]
    return replace(table, rows=(*rows, *rest), notes=(*table.notes, *unclear, *footnotes(table, found, sources)))


def counts(rows: Sequence[Row], model: str) -> int:
    """How many rows are of that model."""
    return sum(bool(model) and row.model == model for row in rows)


def lines_of(source: Source, table: Table) -> list[Line]:
    """The lines of one source, in printed order; tables that print the same are one line."""
    keys = {column.key for column in table.columns}
    where = table.data.get("name"), table.data.get("protocol") or ""
    lines: list[Line] = []
    for name, printed in source.tables.items():
        for row in printed.rows:
            scores = {s.metric: s for s in row if (s.dataset, s.protocol) == where and not s.variant and s.metric in keys}
            if not scores:
                continue
            first = next(iter(scores.values()))
            alike = [line for line in lines if line.key == (first.model or first.method)]
            same = [line for line in alike if line.agrees(scores)]
            if same:
                same[0].tables.append(name)
                same[0].scores.update(scores)
            else:
                lines.append(Line(first.method, first.model, source.name, [name], scores))
                for line in (*alike, lines[-1]) if alike else ():
                    line.several = True
    return lines


def published_row(line: Line, table: Table, measured: Sequence[Row]) -> Row:
    """The row of a line; with the gap where one configuration of the model stands in the table, with every seed done and without adapters."""
    own = measured[0] if len(measured) == 1 and measured[0].competes and not measured[0].adapted else None
    cells = {}
    for column in table.columns:
        score = line.scores.get(column.key)
        if score is None:
            cells[column.key] = Cell(math.nan, math.nan, 0)
            continue
        gap = own.cells[column.key].mean - score.value if own else math.nan
        cells[column.key] = Cell(score.value, math.nan if score.sd is None else score.sd, score.seeds or 0, gap=gap)
    seeds = {score.seeds for score in line.scores.values()}
    told = str(next(iter(seeds))) if len(seeds) == 1 and None not in seeds else ""
    return Row(line.name, "published", cells, model=line.model, seeds_told=told)


def footnotes(table: Table, lines: Sequence[Line], sources: Mapping[str, Source]) -> list[str]:
    """Where the numbers come from, with which features and modalities, and what is known to be wrong with them."""
    layout = table.data.get("layout")
    here = " ".join((*([layout] if isinstance(layout, str) else []), ", ".join(table.data.get("modalities", ()))))
    notes = [f"published numbers rest on the features, modalities and rules of their sources; here: {here or 'see above'}"]
    for name, source in sources.items():
        own = [score for line in lines if line.source == name for score in line.scores.values()]
        if not own:
            continue
        about: dict[str, dict[str, None]] = defaultdict(dict)
        for score in own:
            for text in (score.setting if score.setting != source.setting else "", score.origin):
                if text:
                    about[text.rstrip(".")][score.model or score.method] = None
        whose = " ".join(f"{', '.join(methods)}: {text}." for text, methods in about.items())
        tables = dict.fromkeys(table for line in lines if line.source == name for table in line.tables)
        notes.append(f"published, {name} ({', '.join(tables)}): {source.citation.rstrip('.')}. {source.setting.rstrip('.')}. {whose}".rstrip())
        notes += [f"published, {name}: {source.footnotes[key]}" for key in dict.fromkeys(key for score in own for key in score.notes)]
    return notes
