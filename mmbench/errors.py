"""Errors that are a user's to mend: one line that names the thing, the place and the next step, and an exit code."""

from __future__ import annotations


def printable(line: str) -> str:
    """A line in which whatever a terminal would obey (from a stranger's file) stands as its escape."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in line)


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
