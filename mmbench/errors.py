"""Errors that are a user's to mend: one line that names the thing, the place and the next step, and an exit code."""

from __future__ import annotations


def printable(line: str) -> str:
    """A line in which whatever a terminal would obey (from a stranger's file) stands as its escape."""
    return line if line.isprintable() else "".join(character if character.isprintable() else ascii(character)[1:-1] for character in line)


def shown(text: str) -> str:
    """Text of several lines as `printable` has each; lines stay lines. Whatever goes to a terminal goes through it, and is not changed before."""
    return "\n".join(map(printable, text.split("\n")))


def told(text: str, most: int = 4000) -> str:
    """An error as it is shown: each line neutral, and cut where a name in it is endless."""
    lines = [line if len(line) <= most else f"{line[:most]} ... ({len(line) - most} more characters)" for line in text.splitlines()]
    return "\n".join(f"error: {printable(line)}" for line in lines)


class MmbenchError(Exception):
    """Shown as ``error: <message>`` without a traceback; ``exit_code`` is what the command ends with."""

    exit_code = 2


class ConfigError(MmbenchError):
    """A mistake in a config, an option or a combination of components."""


class PluginError(MmbenchError):
    """A component that is unknown, claimed twice, or whose plugin cannot be loaded."""


class DataError(MmbenchError):
    """Data that are missing, damaged or not what the manifest says."""

    exit_code = 3


class RunError(MmbenchError):
    """A run that cannot be scored; it is recorded as failed with this message."""

    exit_code = 1
