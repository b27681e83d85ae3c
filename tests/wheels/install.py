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
    command = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "-c", "constraints.txt"]
    for wheel in sorted(wheels.glob("*.whl")):
        command += ["--reinstall-package", wheel.name.partition("-")[0].replace("_", "-"), str(wheel)]
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
