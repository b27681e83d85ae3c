"""The console command, and ``python -m mmbench``."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the console command: an interrupt that comes while modules are imported ends it like any other."""
    try:
        from mmbench.cli import main

        main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
