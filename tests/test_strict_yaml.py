"""YAML is read without surprises, and each mistake has its place."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench.errors import ConfigError
from mmbench.strict_yaml import Mark, dump, load, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.0e+2", 100.0),
        (".5", 0.5),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("0x" + "f" * 4000, math.inf),
        ("1_000", "1_000"),
        ("9" * 200, float("9" * 200)),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse(f"key: {text}", "f").value["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f.yaml:3:1: the key 'a' stands twice in one mapping (first at line 1)"),
        ("a: &x 1", "f.yaml:1:4: anchors and aliases are not supported"),
        ("a: *x", "f.yaml:1:4: anchors and aliases are not supported"),
        ("a: !!python/object/apply:os.system [ls]", "f.yaml:1:4: the tag"),
        ("a: !!binary aGk=", "f.yaml:1:4: the tag"),
        ("a: !!int x", "f.yaml:1:4: the tag"),
        ("a: !!float x", "f.yaml:1:4: the tag"),
        ("!!null a: 1", "f.yaml:1:1: the tag"),
        ("a: ! x", "f.yaml:1:4: the tag"),
        ("a: '&' \nb: " + "[" * 9000, "f.yaml: nested too deeply"),
        ("a: [1", "f.yaml:1:6: not valid YAML"),
        ("a:\n\t- 1", "f.yaml:2:1: not valid YAML"),
        ("? [1]\n: 2", "f.yaml:1:3: a key must be a plain word"),
        ("\x00", "f.yaml: not valid YAML"),
        ("[" * 1000 + "]" * 1000, "f.yaml: nested too deeply"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: not valid YAML"),
    ],
)
def test_mistakes_have_a_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml")
    assert str(caught.value).startswith(message)


def test_marks_point_to_keys_and_items() -> None:
    document = parse("a:\n  b: 1\n  c:\n    - 2\n    - d: 3\n", "f.yaml")
    assert document.mark(("a", "b")) == Mark("f.yaml", 2, 3)
    assert document.mark(("a", "c", 1)) == Mark("f.yaml", 5, 7)
    assert document.mark(("a", "c", 1, "absent", "deep")) == Mark("f.yaml", 5, 7)


def test_unreadable_files_are_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"absent.yaml: cannot be read"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(ConfigError, match=r"binary.yaml: is not a UTF-8 text file"):
        load(tmp_path / "binary.yaml")


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(st.characters(codec="ascii"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz_.0e1", min_size=1, max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(_values)
def test_dump_is_read_back_as_the_same_value(value: object) -> None:
    text = dump({"value": value})
    found = parse(text, "f").value["value"]
    assert found == value
    assert repr(found) == repr(value)


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_no_number_in_every_spelling(text: str) -> None:
    assert math.isnan(parse(f"key: {text}", "f").value["key"])
