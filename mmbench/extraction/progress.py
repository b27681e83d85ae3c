"""What a terminal shows while clips are extracted: one line, with an estimate."""

from __future__ import annotations

import shutil
import sys
import time

from mmbench.errors import shown


class Progress:
    """Writes to standard error, and only to a terminal."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self._title, self._started, self._first, self._shown = "", 0.0, 0, 0.0

    def __call__(self, title: str, done: int, total: int) -> None:
        """Hear how far the work of one title is."""
        now = time.monotonic()
        if title != self._title:
            self._title, self._started, self._first = title, now, done
        if not self.live or (now - self._shown < 0.1 and done < total):
            return
        self._shown = now
        seconds = now - self._started
        own = done - self._first
        left = f", {_about(seconds / own * (total - done))} left" if own and seconds > 1 else ""
        line = f"{title}: {done}/{total}{left}"
        sys.stderr.write(f"\r\033[K{shown(line)[: shutil.get_terminal_size()[0] - 1]}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Make the line free for something that stays."""
        if self.live:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def say(self, text: str) -> None:
        """A line that stays, on a terminal or not."""
        self.clear()
        print(shown(text), file=sys.stderr, flush=True)


def _about(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
