"""Which commit of mmbench runs, where it runs from a checkout."""

from __future__ import annotations

import subprocess
from contextlib import suppress

from mmbench.files import PACKAGE


def commit() -> str | None:
    """The commit, with ``-dirty`` where files were changed since; None in an installed package, or without git."""
    if not (PACKAGE.parent / ".git").exists():
        return None
    command = ["git", "-C", str(PACKAGE.parent), "describe", "--always", "--dirty", "--abbrev=40"]
    with suppress(OSError):  # git is not installed
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    return None
