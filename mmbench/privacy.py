"""What is written down of a run is shared and published: it holds no home folder, no user's name and no secret.

In records, logs and pages the home folder stands as ``$HOME`` and a folder with the user's name as ``$USER``; the values of environment variables
that are secrets by their name, and what stands before the host in a URL, are stars. A ``config.yaml`` is read again, so there only whole paths are
changed, and only where `expanded` gives back what was there.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

HOME, USER, HIDDEN = "$HOME", "$USER", "***"
CREDENTIALS = re.compile(r"(?<=://)[^\s/@'\"]+@")
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|COOKIE|(?:^|_)(?:KEY|PAT)$", re.IGNORECASE)
_SHORTEST = 8
"""Characters of a secret; what is shorter is a switch, as in ``USE_TOKEN=true``."""


def shared(value: Any) -> Any:
    """The same JSON-ready value for others to read: in every text, paths below the home folder, the user's folders and secrets are replaced."""
    return _mapped(value, _rules(_home(), _user(), _secrets()).told)


def portable(value: Any) -> Any:
    """The same config with ``$HOME`` and ``$USER`` in its paths, as far as `expanded` gives back the same."""
    return _mapped(value, lambda text: found if expanded(found := told_path(text)) == text else text)


def expanded(value: Any) -> Any:
    """The same config with the home folder and the name of who runs in place of ``$HOME`` and ``$USER`` in paths."""

    def whole(text: str) -> str:
        text = f"{_home()}{text.removeprefix(HOME)}" if f"{text}/".startswith(f"{HOME}/") and _home() else text
        return "/".join(_user() if part == USER else part for part in text.split("/")) if text.startswith("/") and _user() else text

    return _mapped(value, whole)


class SharedStream:
    """A text stream whose texts are written as others may read them; a path is known where it is not cut between two writings."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text as `shared` has it."""
        self._stream.write(shared(text))
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        """Write several."""
        self.write("".join(texts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_mapped(key, change): _mapped(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mapped(item, change) for item in value]
    return value


def told_path(text: str) -> str:
    """A whole path with ``$HOME`` and ``$USER`` in it, which `expanded` makes a path to the same file; any other text as it is."""
    if not text.startswith("/"):  # nearly all of a config, and the home folder is asked for each time
        return text
    for home in filter(None, (_home(), os.path.realpath(_home()) if _home() else "")):
        if f"{text}/".startswith(f"{home}/"):
            text = f"{HOME}{text[len(home) :]}"
    user = _user()
    return "/".join(USER if part == user else part for part in text.split("/")) if text.startswith("/") and user else text


def _home() -> str:
    """The home folder without a slash at its end; nothing where there is none, or where it is the root of all."""
    try:
        return str(Path.home()).rstrip("/")
    except RuntimeError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a number without a name, as in a container
        return ""


def _secrets() -> tuple[str, ...]:
    found = {value for name, value in os.environ.items() if len(value) >= _SHORTEST and _SECRET.search(name)}
    return tuple(sorted(found, key=lambda value: (-len(value), value)))  # one may hold another


class _Rules:
    """What to replace in texts, compiled: a text that has the first is searched for the second. Nearly all have none, and logs may be floods."""

    def __init__(self, home: str, user: str, secrets: tuple[str, ...]):
        homes = sorted({home, os.path.realpath(home)} - {"", "/"}, key=len, reverse=True) if home else []
        self.rules = [(secret, re.compile(rf"(?<!\w){re.escape(secret)}(?!\w)"), HIDDEN) for secret in secrets]
        self.rules += [("://", CREDENTIALS, f"{HIDDEN}@")]
        self.rules += [(name, re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])"), HOME) for name in homes]
        self.rules += [(f"/{user}", re.compile(rf"(?<=/){re.escape(user)}(?![\w.-])"), USER)] if user else []

    def told(self, text: str) -> str:
        for part, pattern, other in self.rules:
            if part in text:
                text = pattern.sub(other, text)
        return text


@lru_cache(maxsize=8)
def _rules(home: str, user: str, secrets: tuple[str, ...]) -> _Rules:
    return _Rules(home, user, secrets)


def credentials(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places in a config where a URL brings a user or a password."""
    if isinstance(value, str) and CREDENTIALS.search(value):
        yield place
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from credentials(item, (*place, key))
