"""What was measured for a target, beside what the paper prints: a block for each data set, rows and columns in the paper's order.

A gap is what was measured minus what is printed. On simulated data none is shown, since such numbers say nothing about it, nor where seeds failed or
are yet to be done, since the mean of the others may lie elsewhere.
"""

from __future__ import annotations

import math
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mmbench.component import Metric
from mmbench.privacy import shared
from mmbench.reproduction.plan import Work, records_of
from mmbench.reproduction.target import Group, Heading
from mmbench.results.published import PublishedScore, Source
from mmbench.results.runs import RunRecord
from mmbench.results.tables import Cell, Column, cell, column, known_metrics, notes_on, oracle_row, title

NOT_RUN = "not run"


@dataclass(frozen=True)
class Line:
    """One row of a block. `state`: ``5/5``, or why nothing was measured; the cells of a column are one for each of its metrics."""

    name: str
    kind: str
    """``method``, ``floor`` or ``oracle``."""
    state: str
    measured: tuple[tuple[Cell | None, ...], ...]
    published: tuple[tuple[PublishedScore | None, ...], ...]
    section: str = ""
    marks: Mapping[str, bool] = field(default_factory=dict)
    collapsed: int = 0
    adapted: bool = False
    experiment: str = ""
    records: tuple[RunRecord, ...] = ()

    def gap(self, found: Cell | None, score: PublishedScore | None) -> float:
        """Measured mean minus printed value, in the metric's own units; NaN where one is not there, or some seeds are not done."""
        whole = all(record.status == "done" for record in self.records)
        return found.mean - score.value if found and score and whole else math.nan


@dataclass(frozen=True)
class Block:
    """The rows on one data set. `columns` has those of each heading."""

    group: Group
    title: str
    simulated: bool
    columns: tuple[tuple[Column, ...], ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether any method was measured."""
        return any(line.kind == "method" and found for line in self.lines for cells in line.measured for found in cells)


@dataclass(frozen=True)
class Result:
    """A target's blocks, and what is said of the whole."""

    name: str
    title: str
    shows: str
    blocks: tuple[Block, ...]
    source: Source | None
    notes: tuple[str, ...] = ()
    command: str = ""
    """What writes it again, but for where the data and runs are."""

    @property
    def simulated(self) -> bool:
        """Whether any of its numbers are of simulated data."""
        return any(block.simulated for block in self.blocks)


def build_blocks(work: Work) -> tuple[Block, ...]:
    """The blocks of a target from the runs that are there."""
    every = [record for place in work.places.values() for record in work.records(place)]
    metrics = known_metrics(every)
    return tuple(_block(work, group, metrics) for group in work.target.groups)


def _block(work: Work, group: Group, metrics: Mapping[str, Metric]) -> Block:
    columns = tuple(tuple(column(key, metrics) for key in heading.metrics) for heading in group.headings)
    lines, shown = [], []
    for name, row in work.rows.items():
        place = work.places[name, group.place]
        records = work.records(place)
        printed = work.target.published_of(name, row)
        published = tuple(tuple(printed.get((group.dataset, group.protocol, key)) for key in heading.metrics) for heading in group.headings)
        line = _line(name, "method", records, columns, place.state)
        lines.append(Line(**{**vars(line), "published": published, "section": row.section, "marks": row.marks}))
        shown += records
    floors = work.floors.get(group.place)
    for floor in floors.floors if floors else ():
        records = records_of(floor)
        if any(record.status != "pending" for record in records):
            lines.append(_line(floor.name, "floor", records, columns, ""))
            shown += records
    done = [record for record in shown if record.status == "done"]
    data = done[0].data if done else {}
    notes = [*notes_on([record for record in shown if record.status not in ("done", "pending")]), *_different(lines)]
    if done:
        flat = [c for several in columns for c in several]
        oracle, problem = oracle_row(done, flat, tuple(data.get("classes", ())), metrics)
        measured = tuple(tuple(oracle.cells[c.key] for c in several) for several in columns)
        lines.append(Line(oracle.name, "oracle", "", measured, tuple((None,) * len(several) for several in columns)))
        notes += [problem] if problem else []
    heading = title(data) if data else group.place
    return Block(group, heading, any(record.data.get("simulated") for record in done), columns, tuple(lines), tuple(notes))


def _line(name: str, kind: str, records: Sequence[RunRecord], columns: Sequence[Sequence[Column]], state: str) -> Line:
    """A row from its runs."""
    done = [record for record in records if record.status == "done"]
    tests = [record.metrics.get("test", {}) for record in done]
    measured = tuple(tuple(cell([scores.get(c.key, math.nan) for scores in tests]) if done else None for c in several) for several in columns)
    if done or not state:
        begun = any(record.status != "pending" for record in records)
        state = f"{len(done)}/{len(records)}" if begun else NOT_RUN
    return Line(
        name,
        kind,
        state,
        measured,
        tuple((None,) * len(several) for several in columns),
        collapsed=sum(record.collapsed for record in done) if kind == "method" else 0,
        adapted=any(record.adapters for record in done),
        experiment=records[0].experiment if records else "",
        records=tuple(records),
    )


def _different(lines: Iterable[Line]) -> list[str]:
    """Notes where the rows of a block rest on other test samples, modalities or states of the data."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        for record in line.records[:1] if line.kind == "method" else ():
            first = next((r for r in line.records if r.status == "done"), record)
            if first.status == "done":
                split = first.data.get("splits", {}).get("test", {})
                found["test samples"][str(split.get("fingerprint") or split.get("size"))[:12]].append(line.name)
                found["modalities"][", ".join(first.data.get("modalities", ()))].append(line.name)
                found["layout of the features"][str(first.data.get("layout"))].append(line.name)
    return [
        f"rows differ in their {what}: " + "; ".join(f"{value}: {', '.join(names)}" for value, names in values.items())
        for what, values in found.items()
        if len(values) > 1
    ]


def result_of(work: Work, more: Sequence[str] = ()) -> Result:
    """Everything that the files of a target say, from the runs that are there."""
    target = work.target
    blocks = build_blocks(work)
    notes = [*work.missing, *more, *target.config.notes]
    if target.variant:
        notes.insert(0, f"Variant {target.variant!r}, not the paper's own setting: {target.config.variants[target.variant].about}")
    if work.options.changes:
        notes.insert(0, f"The configs were changed for this table: {work.options.changes}")
    source = target.source
    text = source.figures.get(target.table, "") if source else ""
    if text:
        notes.append(f"What the paper's text says of the figure: {text}")
    command = f"mmbench reproduce {shlex.quote(target.argument)}" + f" --variant {target.variant}" * bool(target.variant)
    command = f"{command} {work.options.changes}".rstrip()
    return Result(target.stem, target.config.title, target.config.shows, blocks, source, tuple(shared(notes)), shared(command))


def footnotes(result: Result) -> dict[str, str]:
    """Footnotes on printed numbers that the blocks show, by key, in the order of the source."""
    used = {key for block in result.blocks for line in block.lines for cells in line.published for score in cells if score for key in score.notes}
    return {key: text for key, text in (result.source.footnotes if result.source else {}).items() if key in used}


def of_column(block: Block, index: int) -> tuple[str, ...]:
    """Keys of the footnotes that every printed number of a column has: they stand at its head."""
    scores = [score for line in block.lines for score in line.published[index] if score]
    return tuple(key for key in (scores[0].notes if scores else ()) if all(key in score.notes for score in scores))


def of_line(block: Block, line: Line) -> tuple[str, ...]:
    """Keys of the footnotes that every printed number of a row has, where it has several: they stand at its name, if at no column's head."""
    scores = [score for cells in line.published for score in cells if score]
    heads = {key for index in range(len(block.columns)) for key in of_column(block, index)}
    shared = scores[0].notes if len(scores) > 1 else ()
    return tuple(key for key in shared if key not in heads and all(key in score.notes for score in scores))


def heading_text(heading: Heading) -> str:
    """What a column is: ``Acc-2 = acc2_non0``."""
    return f"{heading.text} = {' / '.join(heading.metrics)}"
