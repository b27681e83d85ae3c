"""What a wheel brings, away from the checkout: run by ``tox -e dist`` and ``tox -e dist-plugins``."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

WHICH = os.environ.get("MMBENCH_DIST")
if WHICH is None:
    pytest.skip("is run by tox -e dist and dist-plugins, where wheels are installed", allow_module_level=True)
ROOT = Path(__file__).parent.parent.parent


def mmbench(folder: Path, *arguments: str, code: int = 0) -> str:
    environment = {**os.environ, "MMBENCH_CACHE": str(folder / "cache")}
    command = [str(Path(sys.executable).parent / "mmbench"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_what_runs_is_the_wheel(tmp_path) -> None:
    code = "import mmbench, mmbench.files as f; print(mmbench.__file__, f.shipped('configs'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    for path in done.stdout.split():
        assert "site-packages" in path
        assert not Path(path).is_relative_to(ROOT / "mmbench")
    for distribution in metadata.distributions():
        if distribution.name.startswith("mmbench"):
            origin = json.loads(distribution.read_text("direct_url.json") or "{}")
            assert not origin.get("dir_info", {}).get("editable"), distribution.name


def test_everything_is_listed(tmp_path) -> None:
    listed = mmbench(tmp_path, "list")
    assert "linear" in listed
    plugins = mmbench(tmp_path, "plugins")
    assert "not loaded" not in plugins
    folders = {path.name for path in (ROOT / "plugins").iterdir() if (path / "pyproject.toml").is_file()}
    assert {name for name in folders if name in plugins} == (folders if WHICH == "all" else set())


def test_manifests_and_configs_are_inside(tmp_path) -> None:
    known = mmbench(tmp_path, "data", "list")
    assert all(path.stem in known for path in (ROOT / "datasets_manifest").glob("*.yaml"))
    if WHICH == "core":
        refused = mmbench(tmp_path, "check", "quickstart", code=2)
        assert "is not provided by any installed plugin" in refused
        config = tmp_path / "floor.yaml"
        config.write_text("data: {name: mosi, simulated: true, samples: 60, features: aligned}\nmodel: {name: linear}\n")
        assert "linear" in mmbench(tmp_path, "check", str(config))


def test_published_numbers_are_inside(tmp_path) -> None:
    code = "from mmbench.results.published import published_sources as sources, load_published as load; print(*sources(), len(load()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    *sources, scores = done.stdout.split()
    assert sources == sorted(path.stem for path in (ROOT / "published").glob("*.yaml"))
    assert int(scores) > 1000


def test_a_new_package_can_be_written(tmp_path) -> None:
    assert "wrote mmbench-demo/src/mmbench_demo/plugin.py" in mmbench(tmp_path, "new", "plugin", "demo")


@pytest.mark.skipif(WHICH == "core", reason="the core alone has no torch")
def test_a_shipped_config_runs(tmp_path) -> None:
    small = [part for value in ("data.samples=60", "training.epochs=1") for part in ("--set", value)]
    table = mmbench(tmp_path, "run", "quickstart", "--seeds", "1", *small)
    assert "SIMULATED" in table
    assert "1/1" in table
