"""Builds wheels of the given folders of this repository and installs them into the environment that runs this: WHEELS FOLDER..."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def main() -> None:
    """One resolver call for all of them, with the pinned versions of everything else."""
    wheels = Path(sys.argv[1])
    shutil.rmtree(wheels, ignore_errors=True)
    for folder in sys.argv[2:]:
        subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)], cwd=ROOT / folder, check=True)
    built = sorted(map(str, wheels.glob("*.whl")))
    command = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "--reinstall-package", "mmbench", "-c", "constraints.txt"]
    subprocess.run([*command, *built], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
