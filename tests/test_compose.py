"""Files and options are merged so that the later wins, and each value keeps its place."""

import json
from pathlib import Path

import pytest

from mmbench.compose import compose, find_config, parse_seeds
from mmbench.errors import ConfigError


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(files))}.yaml"


def test_later_wins_and_lists_are_replaced(tmp_path) -> None:
    top = write(
        tmp_path,
        top="extends: [first, second.yaml]\nb: {y: 3}\nl: [9]\n",
        first="a: 1\nb: {x: 1, y: 1}\nl: [1, 2]\n",
        second="a: 2\nb: {y: 2, z: 2}\n",
    )
    document = compose(top)
    assert document.value == {"a": 2, "b": {"x": 1, "y": 3, "z": 2}, "l": [9]}
    assert document.mark(("a",)).source.endswith("second.yaml")
    assert document.mark(("b", "x")).source.endswith("first.yaml")
    assert document.mark(("b", "y")).source.endswith("top.yaml")


def test_another_component_replaces_the_earlier_one_whole(tmp_path) -> None:
    top = write(tmp_path, top="extends: base\nmodel: {name: other, depth: 1}\n", base="model: {name: first, width: 3}\n")
    assert compose(top).value["model"] == {"name": "other", "depth": 1}
    same = write(tmp_path, same="extends: base\nmodel: {depth: 1}\n")
    assert compose(same).value["model"] == {"name": "first", "width": 3, "depth": 1}


def test_an_experiment_of_another_name_keeps_what_it_extends(tmp_path) -> None:
    top = write(tmp_path, top="extends: base\nname: mine\nmodel: {depth: 1}\n", base="name: first\nmodel: {name: other, width: 3}\nseeds: [1]\n")
    assert compose(top).value == {"name": "mine", "model": {"name": "other", "width": 3, "depth": 1}, "seeds": [1]}


def test_circles_and_absent_files_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"goes in a circle: a.yaml -> b.yaml -> a.yaml"):
        compose(write(tmp_path, a="extends: b\n", b="extends: a\n"))
    with pytest.raises(ConfigError, match=r"c.yaml:1:1: extends: config 'nowhere' is neither"):
        compose(write(tmp_path, c="extends: nowhere\n"))
    with pytest.raises(ConfigError, match="extends: must be a file name"):
        compose(write(tmp_path, d="extends: {a: 1}\n"))
    with pytest.raises(ConfigError, match="is a mapping of keys"):
        compose(write(tmp_path, e="- 1\n"))


def test_overrides(tmp_path) -> None:
    top = write(tmp_path, top="a: {b: 1}\nlosses:\n  - {name: x, weight: 1}\n  - {name: y, weight: 2}\nn:\nmodel: {name: m, width: 2}\n")
    document = compose(top, ["a.b=1e-4", "losses.1.weight=0.5", "losses.0.new=[text, audio]", "n.deep.er=no", "z=true"])
    assert document.value["a"] == {"b": 1e-4}
    assert document.value["losses"] == [{"name": "x", "weight": 1, "new": ["text", "audio"]}, {"name": "y", "weight": 0.5}]
    assert document.value["n"] == {"deep": {"er": "no"}}
    assert document.value["z"] is True
    assert str(document.mark(("losses", 1, "weight"))) == "--set losses.1.weight=0.5"
    assert compose(top, ["model.name=other"]).value["model"] == {"name": "other"}
    assert compose(top, ["model.name=m"]).value["model"] == {"name": "m", "width": 2}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a", "must have the form key=value"),
        ("=1", "must have the form key=value"),
        ("losses.2.weight=1", "losses is a list of 1; '2' is neither a position in it nor the name of one item (x)"),
        ("a.b.c=1", "a.b is 1, which has no keys"),
        ("a.b=[1", "not valid YAML"),
    ],
)
def test_bad_overrides(tmp_path, override: str, message: str) -> None:
    top = write(tmp_path, top="a: {b: 1}\nlosses: [{name: x}]\n")
    with pytest.raises(ConfigError) as caught:
        compose(top, [override])
    assert f"--set {override}" in str(caught.value)
    assert message in str(caught.value)


def test_configs_are_found_by_path_and_by_bare_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("decalign_mosi").name == "decalign_mosi.yaml"
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    assert find_config("mine.yaml") == Path("mine.yaml")
    with pytest.raises(ConfigError, match="Did you mean 'decalign_mosi'"):
        find_config("decalign_mosy")


def test_seeds() -> None:
    assert parse_seeds("1-3,7") == [1, 2, 3, 7]
    for bad in ("", "a", "3-1", "1-", "-1", "1,,2", "1.5"):
        with pytest.raises(ConfigError, match="--seeds"):
            parse_seeds(bad)


@pytest.mark.parametrize("text", ["1-99999999999", "0-10000", "\u00b2", "9" * 5000, "1-\u00b2"], ids=["many", "more", "two", "long", "range"])
def test_seeds_that_are_no_numbers_or_too_many(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        parse_seeds(text)


@pytest.mark.parametrize("key", ["seeds.--1", "seeds.\u00b2", f"seeds.{'9' * 5000}"], ids=["minus", "two", "long"])
def test_a_place_in_a_list_that_is_no_number(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="neither a position in it nor the name of one item"):
        compose(write(tmp_path, top="seeds: [1, 2]\n"), [f"{key}=3"])


def test_the_name_of_a_model_alone_is_told_the_configs_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean .*'lmf_mosei' or 'lmf_mosi'.*\?$"):
        find_config("lmf")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"], ids=["long", "nul"])
def test_a_name_that_no_file_can_have_is_unknown(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="neither a file nor the name of a shipped config"):
        find_config(name)
    with pytest.raises(ConfigError, match="extends"):
        compose(write(tmp_path, top=f"extends: {json.dumps(name)}\n"))
