"""``mmbench list``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mmbench.cli.terminal import json_text, say, say_whole
from mmbench.component import KINDS

if TYPE_CHECKING:
    from mmbench.plugins import Entry


@click.command()
@click.argument("kind", required=False, type=click.Choice(KINDS))
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON, for scripts.")
def command(kind: str | None, as_json: bool) -> None:
    """The installed components, of one KIND or all: name, distribution, what it needs or provides, summary."""
    from mmbench.plugins import catalogue

    known = catalogue()
    if as_json:
        say_whole(json_text([_document(entry) for each in ([kind] if kind else KINDS) for entry in known.of_kind(each)]))
    for each in [] if as_json else [kind] if kind else KINDS:
        entries = known.of_kind(each)
        title = f"{each}{'es' if each.endswith('s') else 's'}"
        say(title if entries else f"{title}: none installed")
        names = [entry.component.name for entry in entries]
        for entry in entries:
            component = entry.component
            shown = component.name if names.count(component.name) == 1 else entry.key
            fields = [
                f"needs {_fields(component.needs)}" * bool(component.needs),
                f"provides {_fields(component.provides)}" * bool(component.provides),
            ]
            notes = "; ".join(field for field in fields if field)
            say(f"  {shown:<24} {entry.distribution:<20} {component.summary}" + (f" [{notes}]" if notes else ""))
    for plugin in known.plugins:
        if plugin.problem:
            say(f"warning: the plugin {plugin.distribution} could not be loaded: {plugin.problem}", err=True)


def _fields(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _document(entry: Entry) -> dict[str, Any]:
    component = entry.component
    return {
        "kind": component.kind,
        "name": component.name,
        "key": entry.key,
        "distribution": entry.distribution,
        "version": entry.version,
        "summary": component.summary,
        "needs": sorted(component.needs),
        "provides": sorted(component.provides),
        "tasks": list(component.tasks),
        "floor": component.floor,
    }
