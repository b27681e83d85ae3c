"""Tables on narrow terminals: every cell is there, below its head and beside its row's name, and no line is wider than need be."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tabulate import tabulate

from mmbench.cli import fit as fitting
from mmbench.cli import terminal
from mmbench.cli.fit import fit
from mmbench.cli.options import deliver
from mmbench.results.text import width

words = st.text("abcdeß中↑±0123456789.", min_size=1, max_size=14)


def test_the_rule_of_a_narrow_first_column_is_no_title() -> None:
    text = tabulate([["id", *["x" * 20] * 3]], ["", *"abc"], tablefmt="simple")
    assert max(map(width, fit(text, 50).split("\n"))) <= 50


@settings(deadline=None)
@given(st.data(), st.integers(40, 120))
def test_every_cell_is_in_some_block(data: st.DataObject, columns: int) -> None:
    count = data.draw(st.integers(2, 9))
    heads = [f"h{place}" for place in range(count)]
    rows = data.draw(st.lists(st.lists(words, min_size=count, max_size=count), min_size=1, max_size=4))
    padded = [
        [cell + " " * (max(width(row[place]) for row in [heads, *rows]) - width(cell)) for place, cell in enumerate(row)] for row in [heads, *rows]
    ]
    text = "\n".join(["  ".join(row).rstrip() for row in (padded[0], ["-" * width(cell) for cell in padded[0]], *padded[1:])])
    read: list[list[str]] = [[] for _ in [heads, *rows]]
    for block in fit(text, columns).split("\n\n"):
        lines = block.split("\n")
        assert all(width(line) <= columns or len(line.split()) <= 2 for line in lines)
        for place, line in enumerate([lines[0], *lines[2:]]):
            name, *cells = line.split()
            assert name == [heads, *rows][place][0]
            read[place] += cells
    assert read == [row[1:] for row in [heads, *rows]]


def test_what_fits_and_what_is_no_table_stays() -> None:
    table = tabulate([["a", 1]], ["name", "value"], tablefmt="simple")
    for text in (table, "a line of prose", "", "\n\n", f"{table}\n\nshort"):
        assert fit(text, 80) == text


def test_prose_is_broken_between_words_and_commands_are_not() -> None:
    table = "\n".join(("  ".join(["name", *(f"column{place}" for place in range(9))]), "  ".join(["----", *["-------"] * 9])))
    command = f"go on with: mmbench run {'x' * 70}"
    found = fit(f"{table}\n\n{'prose of many words ' * 8}\n{command}", 80).split("\n")
    assert found[-1] == command
    assert max(map(width, found[:-1])) <= 80
    assert fit(f"   {'prose of many words ' * 8}", 80).split("\n")[1].startswith("   words")


def test_an_accent_stays_with_the_last_letter_of_a_cell() -> None:
    text = "\n".join(["name  one                   two", "----  --------------------  --------------------", "cafe\u0301  1                     2"])
    assert [block.split("\n")[-1].split() for block in fit(text, 40).split("\n\n")] == [["cafe\u0301", "1"], ["cafe\u0301", "2"]]


def test_titles_of_groups_stay_above_their_columns() -> None:
    lines = [
        "          first group          second group",
        "          -------------------  -------------------",
        "name      one  two  three       four  five  six   ",
        "--------  ---  ---  ---------  -----  ----  ------",
        "a         1    2    3          4      5     6",
        "-- a part of the table",
        "b         1    2    3          4      5     6",
    ]
    first, second = fit("\n".join(lines), 40).split("\n\n")
    assert "first group" in first
    assert "second" not in first
    assert "second group" in second
    assert first.count("-- a part of the table") == second.count("-- a part of the table") == 1
    assert second.split("\n")[-1].split() == ["b", "4", "5", "6"]


def test_a_terminal_gets_blocks_and_a_file_whole_lines(monkeypatch, capsys) -> None:
    table = tabulate([[f"cell{place}" * 3 for place in range(9)]], [f"head{place}" for place in range(9)], tablefmt="simple")
    monkeypatch.setenv("COLUMNS", "60")
    terminal.say(table)
    assert capsys.readouterr().out == f"{table}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    terminal.say(table)
    lines = capsys.readouterr().out.split("\n")
    assert max(map(width, lines)) <= 60
    assert sum(line.startswith("head0 ") for line in lines) > 2


@pytest.mark.parametrize(("form", "whole"), [("plain", False), ("github", True), ("latex", True), ("csv", True), ("json", True)])
def test_what_is_for_files_stays_whole_on_a_terminal(form: str, whole: bool, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    text = f"% {'words ' * 30}\n"
    deliver(text, None, form)
    assert (capsys.readouterr().out == text) is whole


@pytest.mark.parametrize("columns", [1, fitting.NARROWEST - 1])
def test_a_terminal_too_narrow_for_columns_gets_the_table_as_it_is(columns: int) -> None:
    table = tabulate([["x" * 30, "y" * 30]], ["name", "value"], tablefmt="simple")
    assert fit(table, columns) == table


def test_a_description_stays_in_its_column() -> None:
    line = "  mult         mmbench-baselines    a transformer from each modality to each other, memory transformers, last steps"
    first, *rest = fit(line, 80).split("\n")
    assert first.startswith("  mult         mmbench-baselines    a transformer")
    assert rest
    assert all(part.startswith(" " * 36) and part[36] != " " and len(part) <= 80 for part in rest)
    assert "".join(f"{part.strip()} " for part in [first, *rest]).split() == line.split()


def test_commands_and_documents_stay_whole(monkeypatch, capsys) -> None:
    assert fit(" " * 90 + "word", 80) == " " * 90 + "word"
    command = f"    mmbench run {'x ' * 50}"
    assert fit(command, 80) == command
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    terminal.say_whole("many words " * 30)
    assert capsys.readouterr().out.count("\n") == 1
