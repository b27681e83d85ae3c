"""``mmbench show KIND NAME``."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import click

from mmbench.cli.complete import complete
from mmbench.cli.terminal import columns, say
from mmbench.component import KINDS


@click.command(epilog=f"KIND is one of {', '.join(KINDS)}.")
@click.argument("kind", metavar="KIND", type=click.Choice(KINDS))
@click.argument("name", shell_complete=complete("components"))
def command(kind: str, name: str) -> None:
    """One component: what it is, and every hyperparameter with type, default, description and source; for example mmbench show model linear."""
    from mmbench.component_config import type_text
    from mmbench.plugins import catalogue

    entry = catalogue().find(kind, name)
    component = entry.component
    say(f"{kind} {component.name}  ({entry.distribution} {entry.version})\n{component.summary}")
    facts = {
        "paper": component.paper,
        "needs": ", ".join(sorted(component.needs)),
        "provides": ", ".join(sorted(component.provides)),
        "terms": ", ".join(component.terms),
        "tasks": ", ".join(component.tasks) if kind in ("model", "loss", "metric") else "",
        "least modalities": str(component.min_modalities) if component.min_modalities > 1 else "",
        "extras": ", ".join(component.extras),
    }
    for label, value in facts.items():
        if value:
            say(f"  {label}: {value}")
    fields = entry.load_config().model_fields
    say("hyperparameters" if fields else "no hyperparameters")
    for field_name, field in fields.items():
        default = "required" if field.is_required() else f"default {_plain(field.get_default(call_default_factory=True))}"
        extra = field.json_schema_extra or {}
        source = f" Source: {extra['source']}." if isinstance(extra, dict) and extra.get("source") else ""
        say(f"  {field_name}: {type_text(field.annotation)}, {default}")
        told = f"{field.description or ''}{'.' + source if source else ''}"
        say(textwrap.fill(told, columns(110), initial_indent=" " * 6, subsequent_indent=" " * 6))


def _plain(value: Any) -> str:
    from pydantic import BaseModel

    return json.dumps(value.model_dump(mode="json") if isinstance(value, BaseModel) else value, default=str)
