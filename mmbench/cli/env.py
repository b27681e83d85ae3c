"""``mmbench env``: what a bug report needs. torch is asked in a process of its own, so that one that cannot be imported is told of, too."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

import click

from mmbench.cli.terminal import json_text, say, say_whole

PACKAGES = ("torch", "torchaudio", "transformers", "numpy", "pandas", "scipy", "pydantic", "pluggy", "click", "safetensors", "tabulate")
VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "HF_HUB_OFFLINE", "HF_HOME")
"""What changes runs from outside, beside everything that begins with ``MMBENCH_``."""
PATIENCE = 120.0
"""Seconds that importing torch may take, on a slow network file system."""
ASK = """
import json, sys, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
json.dump({"version": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus, "threads": torch.get_num_threads()}, sys.stdout)
"""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON, for scripts.")
def command(as_json: bool) -> None:
    """Versions, plugins, GPUs, threads and paths, to be copied into a bug report: no names of hosts or users, no secrets."""
    found = facts()
    if as_json:
        say_whole(json_text(found))
    else:
        say("\n".join(lines(found)))


def facts() -> dict[str, Any]:
    """What is installed and where things are, as others may read it."""
    from mmbench import __version__
    from mmbench.checkout import commit
    from mmbench.data.find import data_root
    from mmbench.files import cache_folder
    from mmbench.plugins import catalogue
    from mmbench.privacy import shared

    plugins = [
        {"name": each.name, "distribution": each.distribution, "version": each.version, "components": len(each.components), "problem": each.problem}
        for each in catalogue().plugins
    ]
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith("MMBENCH_") or name in VARIABLES}
    return shared(  # type: ignore[no-any-return]
        {
            "mmbench": __version__,
            "commit": commit(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpus": len(os.sched_getaffinity(0)),
            "packages": {name: version for name in PACKAGES if (version := _version(name))},
            "torch": _torch(),
            "plugins": plugins,
            "cache": str(cache_folder()),
            "data": str(data_root(None).absolute()),
            "variables": variables,
        }
    )


def lines(found: dict[str, Any]) -> list[str]:
    """The facts as text."""
    torch = found["torch"]
    gpus = ", ".join(torch.get("gpus", ())) or "none"
    state = torch.get("problem") or f"CUDA {torch['cuda'] or 'none'}, GPUs: {gpus}, {torch['threads']} threads"
    rows = [
        ("mmbench", found["mmbench"] + f", commit {found['commit']}" * bool(found["commit"])),
        ("python", found["python"]),
        ("platform", found["platform"]),
        ("cpus", f"{found['cpus']} that this process may use"),
        ("torch", f"{torch['version']}: {state}" if "version" in torch else state),
        ("packages", ", ".join(f"{name} {version}" for name, version in found["packages"].items())),
    ]
    for plugin in found["plugins"]:
        state = f"not loaded: {plugin['problem']}" if plugin["problem"] else f"{plugin['components']} component" + "s" * (plugin["components"] != 1)
        rows.append(("plugin", f"{plugin['name']} ({plugin['distribution']} {plugin['version']}): {state}"))
    rows += [("cache", found["cache"]), ("data", found["data"])]
    rows += [("variable", f"{name}={value}") for name, value in found["variables"].items()]
    return [f"{name:<10}{value}" for name, value in rows]


def _torch() -> dict[str, Any]:
    """What torch says of itself and of the GPUs, or why it does not."""
    try:
        done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return {"problem": f"importing torch took more than {PATIENCE:g} s"}
    if done.returncode:
        told = done.stderr.strip().splitlines()
        return {"problem": told[-1] if told else f"importing torch ended the process with {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
