"""Rows named by model and losses instead of by configuration, so that runs of one model on several data sets, each with a config of its own, meet.

The models, losses and settings are those of the runs' configs. A model that stands with several sets of losses has its losses in its name, and
where one model with the same losses has several settings on a data set, each name says what differs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mmbench.results.grid import NONE, configurations, flatten
from mmbench.results.tables import Row, Table, distinct

FEW, LONG = 3, 24
"""More differing settings than this, or a longer value, and a name has the configuration's own name instead."""


@dataclass(frozen=True)
class Setting:
    """What a row is: its model, the names of its losses, and everything else in its config as text."""

    model: str
    losses: tuple[str, ...]
    values: Mapping[str, str]

    @property
    def kind(self) -> tuple[str, tuple[str, ...]]:
        """What a short name tells."""
        return self.model, self.losses


def renamed(tables: Sequence[Table], by: str) -> list[Table]:
    """The same tables with rows named by ``model`` (then losses) or by ``losses`` (then model), in that order; a note says which is which."""
    settings = [[setting(row, table) for row in table.rows] for table in tables]
    methods = [s for own, table in zip(settings, tables, strict=True) for s, row in zip(own, table.rows, strict=True) if row.kind == "method"]
    sets: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for found in methods:
        sets[found.model].add(found.losses)
    differing: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for own in settings:
        alike: dict[tuple[str, tuple[str, ...]], list[Setting]] = defaultdict(list)
        for found in own:
            alike[found.kind].append(found)
        for kind, group in alike.items():
            every = sorted({key for found in group for key in found.values})
            differing[kind] += [key for key in every if len({found.values.get(key, "-") for found in group}) > 1 and key not in differing[kind]]
    result = []
    for table, own in zip(tables, settings, strict=True):
        rows: list[tuple[tuple[object, ...], Row]] = []
        for row, found in zip(table.rows, own, strict=True):
            if row.kind not in ("method", "floor"):
                rows.append(((2,), row))
                continue
            losses = abbreviated(found.losses)
            order: tuple[object, ...] = (found.model, found.losses)
            if by == "losses" and row.kind == "method":
                name = (losses or NONE) + (f" ({found.model})" if len(sets) > 1 else "")
                order = (found.losses, found.model)
            else:
                name = f"{found.model} + {losses}" if losses and len(sets[found.model]) > 1 else found.model
            what = difference(found, differing[found.kind])
            if what is None:
                name = row.name if row.name.startswith(name) else f"{name} ({row.name})"
            rows.append(((0 if row.kind == "method" else 1, *order), replace(row, name=f"{name} ({what})" if what else name)))
        ordered = [row for _, row in sorted(rows, key=lambda pair: (*pair[0], pair[1].name))]
        unique = distinct(ordered)
        first = {id_of(row): (row, found) for row, found in zip(table.rows, own, strict=True)}
        notes = [told(row, *first[id_of(row)]) for row in unique if row.kind in ("method", "floor")]
        behind = [f"rows: {'; '.join(note for note in notes if note)}"] if any(notes) else []
        result.append(replace(table, rows=tuple(unique), notes=(*behind, *table.notes)))
    return result


def id_of(row: Row) -> tuple[str, str, str]:
    """What stays as it is when a row is renamed."""
    return row.kind, row.experiment, row.label


def setting(row: Row, table: Table) -> Setting:
    """The setting of a row, from the config of one of its runs; without one that can be read, from the runs' records."""
    record = next((record for record in row.records if record.status == "done"), row.records[0] if row.records else None)
    if record is None:
        return Setting(row.name, (), {})
    found, _ = configurations([record], ("all",) if table.data.get("parts") else ())
    if not found:
        return Setting(row.model or row.name, tuple(str(loss.get("name", "")).rpartition("/")[2] for loss in record.losses), {})
    (config,) = found
    values = flatten({**config.row, "losses": config.column})
    return Setting(row.model, tuple(name for name in config.column if name != "adapters"), values)


def difference(found: Setting, keys: Iterable[str]) -> str | None:
    """What a name says of the settings that differ: ``width=16, mmd=0``; None where they are too many or too long to say."""
    keys = list(keys)
    texts = [f"{short(key, found.values)}={found.values.get(key, '-')}" for key in keys]
    return ", ".join(texts) if len(keys) <= FEW and all(len(text) <= LONG for text in texts) else None


def short(key: str, others: Iterable[str]) -> str:
    """The shortest end of a dotted key that no other one has."""
    parts = key.split(".")
    for start in range(len(parts) - 1, 0, -1):
        end = ".".join(parts[start:])
        if sum(other == end or other.endswith(f".{end}") for other in others) <= 1:
            return end
    return key


def abbreviated(losses: Sequence[str]) -> str:
    """The names of losses, of many only the first and how many more there are."""
    text = " + ".join(losses)
    return text if len(text) <= 2 * LONG else f"{losses[0]} + {len(losses) - 1} more"


def told(row: Row, before: Row, found: Setting) -> str:
    """The configuration behind a name, and its losses where the name does not have them; nothing where the name says all."""
    losses = " + ".join(found.losses)
    with_losses = f", with {losses}" if losses and losses not in row.name else ""
    return f"{row.name} = {before.name}{with_losses}" if row.name != before.name or with_losses else ""
