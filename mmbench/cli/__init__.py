"""The command line. Each verb is a module of this package, imported when it runs, so that ``--help`` is quick.

Exit codes: 0, all is well; 1, something did not come about (a run failed or was stopped, a clip failed, scores differ, a disk is full);
2, a mistake in the command, the config or the choice of components; 3, data are missing, damaged or not what they should be; 130, interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import io
import sys
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from mmbench import __version__
from mmbench.errors import DataError, MmbenchError, printable, shown, told

VERBS = {
    "run": "train and score the runs of a config, or what is missing of them",
    "tune": "search values of a config on validation, and run the best of them",
    "check": "validate a config and print what it would do, without training",
    "status": "what is done, failed, running or missing in a folder of runs",
    "rerun": "a finished run once more from its folder, and whether it comes to the same scores",
    "reproduce": "a table or figure of a paper, run again and beside the published values",
    "report": "the tables of a folder of runs",
    "figure": "the figures of a paper from finished runs: curves, confusion, sweeps, embeddings, intervals",
    "compare": "how sure it is that one configuration is better than another",
    "embed": "the features of finished runs, in files beside them",
    "diagnose": "what finished runs lean on, how far apart their modalities are, and how well they are calibrated",
    "extract": "features out of transcripts and recordings, as a data set to train on",
    "score": "recompute every metric from the stored predictions",
    "list": "the models, losses, metrics and extractors that are installed",
    "show": "one component with all its hyperparameters",
    "new": "write a config, or a plugin package, to start from",
    "plugins": "the installed plugins, and why one could not be loaded",
    "env": "versions, plugins, GPUs and paths, for a bug report",
    "completion": "the line that makes Tab complete commands, configs, components and keys",
    "data": "list, check and simulate data sets",
    "test": "check that installed plugins keep the contracts",
}


DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)
"""What is wrong with a disk, not with a file that the user names."""


class Verbs(click.Group):
    """A group whose commands are imported on use; their one-line help stands in `VERBS`."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command = import_module(f"mmbench.cli.{name}").command
        command.help = command.help or VERBS[name][:1].upper() + VERBS[name][1:] + "."
        return command  # type: ignore[no-any-return]

    def resolve_command(self, context: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in VERBS and not context.resilient_parsing:  # as when a shell asks for what can follow
            raise click.UsageError(f"No such command {args[0]!r}. {_meant(args[0])}", context)
        return super().resolve_command(context, args)

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verbs, without importing them."""
        if incomplete.startswith("-"):
            return super().shell_complete(context, incomplete)
        return [CompletionItem(name, help=text) for name, text in VERBS.items() if name.startswith(incomplete)]

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


def _meant(name: str) -> str:
    """What somebody wanted who took this for a command."""
    import difflib

    from mmbench.files import shipped

    if name.endswith((".yaml", ".yml")) or (shipped("configs") / f"{name}.yaml").is_file():
        return f"Did you mean 'mmbench run {name}'?"
    close = [f"--{name}"] if name in ("help", "version") else difflib.get_close_matches(name.lower(), VERBS, 1)
    return f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(VERBS)}."


def _hint(error: click.ClickException) -> str:
    """Of words that a command does not know: how values of a config are given, where it takes them; of a component without its kind, the kind."""
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return ""
    if error.ctx.info_name == "show" and isinstance(error, click.BadParameter):
        from mmbench.plugins import catalogue

        with contextlib.suppress(MmbenchError):  # of plugins, which is not what was asked
            named = [entry.component for entry in catalogue().entries if entry.component.name in sys.argv[2:]]
            meant = dict.fromkeys(f"'mmbench show {each.kind} {each.name}'" for each in named)
            return f" Did you mean {' or '.join(meant)}?" if meant else ""
    if not any("--set" in parameter.opts for parameter in error.ctx.command.params):
        return ""
    if isinstance(error, click.NoSuchOption) and not error.possibilities:
        return " Keys of the config are given as --set KEY=VALUE."
    if error.message.startswith("Got unexpected extra argument") and "--set" in sys.argv:
        return ". A value with spaces stands in quotation marks, and none around '=': --set 'data.modalities=[text, audio]'"
    return ""


@click.group(cls=Verbs, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="mmbench")
@click.pass_context
def cli(context: click.Context) -> None:
    """Benchmark for multimodal sentiment and emotion: any loss with any backbone, one set of splits, seeds, metrics and statistics."""
    if context.invoked_subcommand is None:
        from mmbench.cli.advice import advice
        from mmbench.cli.terminal import say

        say("\n".join(advice()))


def main() -> None:
    """Entry point. Exit codes: 0 ok, 1 some runs failed, 2 usage or config, 3 data, 130 interrupted."""
    try:
        sys.exit(cli(prog_name="mmbench", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        click.echo(shown(text.getvalue().expandtabs(4).rstrip("\n") + _hint(error)), err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except MmbenchError as error:
        click.echo(told(str(error)), err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if error.errno not in DISK and error.filename is None:
            raise
        told_of = f"{'the output' if error.filename is None else printable(str(error.filename))}: {error.strerror}"
        if error.errno not in DISK:  # of a file or folder of the user's, wherever it is looked at: of a name that is too long, for one
            click.echo(told(told_of), err=True)
            sys.exit(DataError.exit_code)
        with contextlib.suppress(OSError):  # standard error may be on that disk
            click.echo(told(f"{told_of}; when that is mended, give the same command again"), err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
