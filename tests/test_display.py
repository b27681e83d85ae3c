"""What is seen of runs while they go: on terminals of two widths, in a file, and by scripts."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from mmbench.cli.display import Course, Events, Failures, Lines
from mmbench.component import RunOutcome, RunRequest

LONG = "a_rather_long_name_of_a_configuration_that_somebody_gave, part fold1, seed 12"


class Screen(io.StringIO):
    """A terminal that keeps what it would show; it fails at anything but what the display uses. Lines of runs that have ended may be long."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns, self.rows, self.row, self.writings = columns, [""], 0, 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.writings += 1
        for part in re.findall(r"\033\[\d*[A-Z]|\r|\n|[^\033\r\n]+", text):
            if part == "\n":
                self.row += 1
                self.rows += [""] * (self.row + 1 - len(self.rows))
            elif part.endswith("A") and part.startswith("\033"):
                self.row -= int(part[2:-1])
            elif part == "\033[J":
                self.rows[self.row :] = [""]
            elif part not in ("\r", "\033[K"):
                assert not part.startswith("\033"), part
                assert part.startswith("[") or len(part) < self.columns, f"{part!r} would go on in the next line"
                self.rows[self.row] = part
        return len(text)

    @property
    def shown(self) -> list[str]:
        return [row for row in self.rows if row]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def request(label: str) -> RunRequest:
    return RunRequest(Path(label), label, "cpu", 1)


def told(epoch: int, of: int = 40, value: float | None = 0.912345) -> dict[str, object]:
    return {"epoch": epoch, "of": of, "metric": "acc2_non0", "value": value}


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch):
    def make(columns: int, total: int = 5) -> tuple[Lines, Screen, Clock]:
        monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((columns, 12)))
        screen, clock = Screen(columns), Clock()
        monkeypatch.setattr("sys.stdout", screen)
        return Lines(total, screen, clock), screen, clock

    return make


@pytest.mark.parametrize("columns", [80, 200])
def test_each_run_has_a_line_with_its_epoch_score_and_time_left(display, columns: int) -> None:
    lines, screen, clock = display(columns)
    for epoch in (1, 2, 3):
        clock.now += 10
        lines.epoch(request("tfn seed 1"), told(epoch))
        clock.now += 1
        lines.epoch(request(LONG), told(epoch, 4, None))
    first, second, last = screen.shown
    assert re.fullmatch(r"tfn seed 1 +  epoch 3/40  valid acc2_non0 0\.9123  6\.8 min left", first)
    assert second.endswith("seed 12  epoch 3/4  valid acc2_non0 n/a  11 s left")
    assert (LONG in second) is (columns == 200)
    assert ("…" in second) is (columns == 80)
    assert first.index("epoch") == second.index("epoch")
    assert last == "0 of 5 runs have ended, about 9.3 min left"
    assert max(map(len, screen.rows)) < columns


def test_a_run_that_ends_leaves_one_line_and_nothing_else(display) -> None:
    lines, screen, clock = display(100, total=2)
    for epoch in (1, 2):
        clock.now += 1
        lines.epoch(request("tfn seed 1"), told(epoch))
        lines.epoch(request("lmf seed 1"), told(epoch))
    before = screen.writings
    lines.epoch(request("tfn seed 1"), told(3))
    assert screen.writings == before  # too soon after the last drawing
    lines.outcome(RunOutcome(request("tfn seed 1"), "done"))
    assert screen.shown[0] == "[1/2] tfn seed 1  done  epoch 3/40  valid acc2_non0 0.9123  1.0 s"
    assert [row.partition(" ")[0] for row in screen.shown] == ["[1/2]", "lmf", "1"]
    lines.outcome(RunOutcome(request("lmf seed 1"), "failed", "out of memory"))
    assert screen.shown[1:] == ["[2/2] lmf seed 1  failed  epoch 2/40  valid acc2_non0 0.9123  1.0 s  out of memory"]
    lines.clear()
    assert len(screen.shown) == 2


def test_no_time_is_told_while_one_run_is_unknown(display) -> None:
    lines, screen, clock = display(80, total=3)
    for epoch in (1, 2):
        clock.now += 1
        lines.epoch(request("constant seed 1"), told(epoch, of=2))
    lines.outcome(RunOutcome(request("constant seed 1"), "done"))
    clock.now += 1
    lines.epoch(request("decalign seed 1"), told(1))
    assert screen.shown[-1] == "1 of 3 runs have ended"
    clock.now += 10
    lines.epoch(request("decalign seed 1"), told(2))
    assert screen.shown[-1].startswith("1 of 3 runs have ended, about 6.3 min left")


def test_many_runs_fit_the_window_and_names_are_harmless(display) -> None:
    lines, screen, clock = display(80, total=30)
    for number in range(25):
        clock.now += 1
        lines.epoch(request(f"\x1b[2J名前 seed {number}"), told(1))
    assert len(screen.shown) == 10
    assert screen.shown[-2:] == ["and 17 more", "0 of 30 runs have ended"]


def test_a_file_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(1)
    lines.epoch(request("tfn seed 1"), told(1))
    lines.outcome(RunOutcome(request("tfn seed 1"), "done"))
    assert re.fullmatch(r"\[1/1\] tfn seed 1  done  epoch 1/40  valid acc2_non0 0\.9123(  \d\.\d s)?\n", capsys.readouterr().out)


def test_the_time_left_needs_two_epochs_and_their_number() -> None:
    course = Course("tfn seed 1", told(7), 100.0)
    assert course.left is None
    course.hear(told(9), 110.0)
    assert course.left == pytest.approx(5 * 31)
    course.hear(told(10, 0), 115.0)
    assert course.left is None


def test_quiet_tells_of_failures_alone(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Failures()
    quiet.epoch(request("tfn seed 1"), told(1))
    quiet.outcome(RunOutcome(request("tfn seed 1"), "done"))
    quiet.outcome(RunOutcome(request("tfn seed 2"), "failed", "out of memory"))
    assert capsys.readouterr() == ("", "tfn seed 2  failed  out of memory\n")


def test_events_are_lines_of_json() -> None:
    stream = io.StringIO()
    events = Events(stream)
    events.epoch(request("名 seed 1"), told(1, value=float("nan")))
    events.outcome(RunOutcome(request("名 seed 1"), "failed", "two\nlines\x1b"))
    assert stream.getvalue().isascii()
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"event": "epoch", "run": "名 seed 1", "folder": "名 seed 1", "epoch": 1, "of": 40, "metric": "acc2_non0", "value": None},
        {"event": "run", "run": "名 seed 1", "folder": "名 seed 1", "status": "failed", "reason": "two\nlines\x1b"},
    ]
