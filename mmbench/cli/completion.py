"""``mmbench completion``: Tab completes verbs, options, configs, components and the keys of ``--set``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mmbench.cli.terminal import say, say_whole

LINES = {
    "bash": ("~/.bashrc", 'eval "$(mmbench completion bash)"'),
    "zsh": ("~/.zshrc", 'eval "$(mmbench completion zsh)"'),
    "fish": ("~/.config/fish/completions/mmbench.fish", "mmbench completion fish | source"),
}
"""By shell: the file to add a line to, and the line."""
CHANGED = {
    "bash": {"COMPREPLY+=($value)": 'COMPREPLY+=("$value"); [[ $value == *[=/] ]] && compopt -o nospace'},
    "zsh": {
        "#compdef mmbench\n": "#compdef mmbench\n(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }\n",
        "    for type key": "    local -a ending; [[ ${response[2]} == *[=/] ]] && ending=(-S '')\n    for type key",
        "descriptions -U\n": 'descriptions -U "${ending[@]}"\n',
    },
    "fish": {},
}
"""By shell: what of click's script is replaced. No space follows a key or a folder, which go on, and zsh needs its completion to be switched on."""


@click.command()
@click.argument("shell", required=False, type=click.Choice(list(LINES)))
def command(shell: str | None) -> None:
    """Print the completion script of SHELL; without SHELL, the line to add to the shell's own file."""
    if shell is None:
        own = Path(os.environ.get("SHELL", "")).name
        for name in [own] if own in LINES else LINES:
            file, line = LINES[name]
            say(f"{name}: add this line to {file}, and open a new terminal:\n    {line}")
        return
    from click.shell_completion import get_completion_class

    from mmbench.cli import cli

    found = get_completion_class(shell)
    assert found is not None  # click has one for each of these
    script = found(cli, {}, "mmbench", "_MMBENCH_COMPLETE").source()
    for old, new in CHANGED[shell].items():
        script = script.replace(old, new)
    say_whole(script)
