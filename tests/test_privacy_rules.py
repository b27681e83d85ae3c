"""What is replaced in texts that others read, and what a config gives back."""

import pytest

from mmbench.privacy import credentials, expanded, portable, shared, told_path
from mmbench.resolve import load
from mmbench.results.text import escape_latex, escape_markdown


@pytest.fixture(autouse=True)
def someone(monkeypatch, tmp_path):
    """A user whose home folder is a link, with secrets in the environment."""
    (tmp_path / "disk" / "ann").mkdir(parents=True)
    (tmp_path / "ann").symlink_to(tmp_path / "disk" / "ann")
    monkeypatch.setenv("HOME", str(tmp_path / "ann"))
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "ann")
    for name, value in {"HF_TOKEN": "hf_abcdefgh", "MY_PASSWORD": "deadbeef", "USE_TOKEN": "true", "SHELL_LEVEL": "hf_visible"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{home}/x.pkl: cannot be read", "$HOME/x.pkl: cannot be read"),
        ("'{home}' and file://{home}/a b", "'$HOME' and file://$HOME/a b"),
        ("{disk}/ann/x.pkl", "$HOME/x.pkl"),
        ("{home}ette/x and /data{home}-x", "{home}ette/x and /data{home}-x"),
        ("/scratch/ann/x, /scratch/anna/x, ann says", "/scratch/$USER/x, /scratch/anna/x, ann says"),
        ("GET https://ann:pa55@host/x?y", "GET https://***@host/x?y"),
        ("401 for hf_abcdefgh.", "401 for ***."),
        ("sha deadbeef, sha 0deadbeef0", "sha ***, sha 0deadbeef0"),
        ("true, hf_visible", "true, hf_visible"),
    ],
)
def test_texts_for_others(tmp_path, text, told) -> None:
    places = {"home": tmp_path / "ann", "disk": tmp_path / "disk"}
    assert shared({"a": [text.format(**places), 1, None]}) == {"a": [told.format(**places), 1, None]}


def test_what_is_escaped_is_replaced_before(monkeypatch, tmp_path) -> None:
    home = tmp_path / "_of_ann"
    monkeypatch.setenv("HOME", str(home))
    assert escape_latex(f"{home}/x_y: cannot be read") == r"\$HOME/x\_y: cannot be read"
    assert escape_markdown(f"{home}/x_y: cannot be read") == r"\$HOME/x_y: cannot be read"


def test_a_config_gives_back_what_it_was_given(tmp_path) -> None:
    home = str(tmp_path / "ann")
    plain = [f"{home}ette", "~/x", "a$USER", "mosi", 3]
    given = {"a": [f"{home}/x", home, "$HOME", *plain], "b": {"c": "/scratch/ann/x"}, "d": f"{tmp_path}/disk/ann/x"}
    told = portable(given)
    assert told == {"a": ["$HOME/x", "$HOME", "$HOME", *plain], "b": {"c": "/scratch/$USER/x"}, "d": given["d"]}
    assert expanded(told) == {**given, "a": [f"{home}/x", home, home, *plain]}
    assert told_path(given["d"]) == "$HOME/x"


def test_without_a_home_or_a_name_nothing_is_replaced(monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(KeyError("uid")))
    assert shared("/etc/ann/x") == portable("/etc/ann/x") == expanded("/etc/ann/x") == "/etc/ann/x"
    assert expanded("$HOME/x") == "$HOME/x"


def test_a_config_may_say_home_and_holds_no_password(tmp_path) -> None:
    assert list(credentials({"a": ["x", "https://a:b@c/d"], "b": "ftp://user@host", "c": "a@b"})) == [("a", 1), ("b",)]
    path = tmp_path / "mine.yaml"
    path.write_text("data: {name: mosi, path: $HOME/x.pkl}\nmodel: {name: linear}\n")
    (cell,) = load(path)
    assert cell.experiment.data.path == f"{tmp_path}/ann/x.pkl"
    path.write_text("data: {name: mosi, path: 'https://ann:pa55@host/x.pkl'}\nmodel: {name: linear}\n")
    with pytest.raises(Exception, match=r"mine.yaml:1:20: data.path: a URL brings a user or a password") as caught:
        load(path)
    assert "pa55" not in str(caught.value)
