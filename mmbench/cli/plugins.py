"""``mmbench plugins``."""

from __future__ import annotations

import click

from mmbench.cli.terminal import say


@click.command()
def command() -> None:
    """The installed plugins, and why one could not be loaded. MMBENCH_PLUGINS=a,b restricts which are."""
    from tabulate import tabulate

    from mmbench.plugins import catalogue

    rows = [
        [plugin.name, plugin.distribution, plugin.version, len(plugin.components), f"not loaded: {plugin.problem}" if plugin.problem else "ok"]
        for plugin in catalogue().plugins
    ]
    say(tabulate(rows, ["plugin", "distribution", "version", "components", "state"], tablefmt="simple"))
