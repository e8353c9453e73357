"""Write requirements.lock from pyproject.toml: `make lock` runs this."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"

HEADER = """\
# Every package of this project (all extras and the dev group) with version and hashes, for Python
# 3.11 and newer on Linux and macOS. Made from pyproject.toml by `make lock`
# (`make lock ARGS=--upgrade` takes newer versions); never edited by hand.
# Install with `make setup`, or: pip install --no-deps --require-hashes -r requirements.lock
# (--no-deps: this file is complete, and pip before 23.3 does not take a pin of `sqlalchemy` as an
# answer to `sqlalchemy[asyncio]`), then: pip install --no-deps --no-build-isolation -e .
"""

# "fewest": one version of each package for all Pythons, so that all run the same code.
OPTIONS = [
    "--all-extras",
    "--group=dev",
    "--universal",
    "--python-version=3.11",
    "--fork-strategy=fewest",
    "--generate-hashes",
    "--no-annotate",
    "--no-header",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--quiet",
]


def main() -> int:
    """Resolve, keeping the versions that the lock already has unless asked to upgrade."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *OPTIONS]
    command += ["--output-file", LOCK.name, *sys.argv[1:]]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    if done.returncode == 0:
        LOCK.write_text(HEADER + LOCK.read_text())
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
