"""The line on a terminal, with an estimate."""

from __future__ import annotations

import io

import pytest

from mmbench.extraction import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_estimate_is_of_the_clips_that_are_done(monkeypatch, clock) -> None:
    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    shown = progress.Progress()
    for seconds, done in ((0, 0), (10, 5), (10.05, 6), (400, 20)):
        clock[0] = 100.0 + seconds
        shown("audio", done, 100)
    shown("vision", 100, 100)
    shown.clear()
    lines = terminal.getvalue().split("\r\033[K")
    # 10 s for 5 clips, so 190 s for 95; 400 s for 20, so 1600 s for 80; one of them came too soon after another to be shown
    assert lines == ["", "audio: 0/100", "audio: 5/100, about 3 min left", "audio: 20/100, about 27 min left", "vision: 100/100", ""]


def test_nothing_but_lasting_lines_without_a_terminal(monkeypatch, capsys) -> None:
    shown = progress.Progress()
    shown("audio", 1, 2)
    shown.say("a warning")
    assert capsys.readouterr().err == "a warning\n"
