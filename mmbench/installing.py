"""How to install what is missing. The packages of this project are not published, so that pip would not find their names, or find another's."""

from __future__ import annotations

import re
from importlib import metadata

_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def how_to_install(wanted: str) -> str:
    """The command that brings a plugin of this repository or an extra of one, such as ``mmbench[train]`` or ``mmbench-optuna``."""
    name, bracket, extras = wanted.partition("[")
    folder = "." if name == "mmbench" else f"./plugins/{name}"
    return pip_of_extras(wanted) or f"pip install '{folder}{bracket}{extras}' in the folder of the repository"


def pip_of_extras(wanted: str) -> str:
    """The command with the packages that an installed distribution declares for its extras, ``name[extra]``; nothing where it declares none."""
    packages = _packages(wanted)
    return f"pip install {' '.join(map(repr, dict.fromkeys(packages)))}" if packages else ""


def _packages(wanted: str) -> list[str]:
    name, _, extras = wanted.rstrip("]").partition("[")
    try:
        declared = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for extra in filter(None, extras.split(",")):
        for line in declared:
            package, _, marker = line.partition(";")
            match = _EXTRA.search(marker)
            if match and match[1] == extra:
                found += _packages(package.strip()) if package.startswith(f"{name}[") else [package.strip()]
    return found
