"""What code of plugins a run is made by: packages are edited without a new version, and their runs have to show it. Imports no plugin."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mmbench.files import read_json
from mmbench.plugins import catalogue

if TYPE_CHECKING:
    from mmbench.resolve import Resolved
    from mmbench.runner import Plan


def sources(resolved: Resolved) -> dict[str, str]:
    """A digest of the Python files of each package that brings a component of a run, by the package's name. The core's version stands elsewhere."""
    used = [choice.entry for choice in (resolved.model, *resolved.encoders.values(), *resolved.losses)]
    used += [catalogue().find("metric", name) for name in resolved.experiment.metrics or resolved.manifest.metrics]  # one of them chooses the epoch
    packages = dict.fromkeys(entry.component.target.partition(":")[0].partition(".")[0] for entry in used)
    return {package: known for package in packages if package != "mmbench" and (known := digest(package))}


@cache
def digest(package: str) -> str:
    """Of the names and contents of a package's Python files, or of a module's one; empty where they cannot be found."""
    found = hashlib.sha256()
    with suppress(ImportError, ValueError, OSError):
        spec = find_spec(package)
        folders = [Path(folder) for folder in (spec.submodule_search_locations if spec else None) or ()]
        files = {path.relative_to(folder).as_posix(): path for folder in folders for path in folder.rglob("*.py")}
        if not folders and spec and spec.origin:
            files = {"": Path(spec.origin)}
        for name, path in sorted(files.items()):
            found.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
        return found.hexdigest()[:12] if files else ""
    return ""


def changed(plan: Plan) -> Iterator[str]:
    """A line for each package that was edited since runs of a plan were made or begun; the first seed with a record speaks for its row."""
    rows: dict[str, list[str]] = {}
    for row in plan.rows:
        known = sources(row.resolved)
        if not known:  # floors, and what else the core brings: no record need be read
            continue
        results = (read_json(row.folder / f"seed-{seed}" / "result.json") for seed in row.resolved.experiment.seeds)
        recorded = next(filter(None, (recorded_sources(result.get("environment")) for result in results)), {})
        for package, now in known.items():
            if recorded.get(package, now) != now:
                rows.setdefault(package, []).append(row.name)
    for package, names in rows.items():
        more = f" and {len(names) - 3} more rows" if len(names) > 3 else ""
        yield (
            f"the code of {package} was changed since runs of {', '.join(names[:3])}{more} were made: what is done stays as it is, and what was "
            "stopped goes on with the new code; --rerun all makes all runs of this command anew"
        )


def recorded_sources(environment: object) -> dict[str, str]:
    """What a record says of it; a stranger's record may say anything."""
    found = environment.get("sources") if isinstance(environment, Mapping) else None
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, Mapping) else {}
