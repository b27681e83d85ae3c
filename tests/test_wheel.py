"""What a wheel holds: the core, and the configs and manifests that are found by bare name."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_configs_and_manifests_are_found_in_an_installed_wheel(tmp_path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("mmbench-*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    assert not {path.name for path in installed.iterdir()} & {"tests", "plugins", "benchmarks"}
    code = (
        "import mmbench; from mmbench.compose import find_config; from mmbench.data.manifest import list_manifests, load_manifest\n"
        "from mmbench.results.published import load_published, published_sources\n"
        "print(mmbench.__file__); print(find_config('quickstart')); print(load_manifest('mosi').name); print(len(list_manifests()))\n"
        "print(len(published_sources())); print(load_published('decalign')[-1].value)"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    module, config, name, count, sources, correlation = done.stdout.split()
    assert Path(module).is_relative_to(installed)
    assert Path(config).is_relative_to(installed)
    assert (name, int(count)) == ("mosi", len(list((ROOT / "datasets_manifest").glob("*.yaml"))))
    assert (int(sources), float(correlation)) == (len(list((ROOT / "published").glob("*.yaml"))), 0.657)
    for folder in ("configs", "published"):
        inside = installed / "mmbench" / "_shipped" / folder
        shipped = {path.relative_to(inside) for path in inside.rglob("*.yaml")}
        assert shipped == {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.yaml")}
        assert shipped
