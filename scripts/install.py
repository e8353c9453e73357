"""Build .venv from requirements.lock, saying what happens: `make setup` runs this.

Standard library only: it runs before anything is installed. Safe to run again at any time.
"""

from __future__ import annotations

import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"


def main() -> int:
    """Install the locked packages and the project itself; return the exit code."""
    folder = Path(sys.argv[1])
    python = folder / "bin" / "python"
    started = time.monotonic()
    count = sum("==" in line for line in LOCK.read_text().splitlines() if not line.startswith("#"))
    say(f"Setting up {folder}: {count} packages, 2 to 4 minutes and 1.2 GB the first time.")
    if not works(python):
        venv.create(folder, with_pip=True, clear=True)

    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    # --no-deps: the lock is complete, and pip < 23.3 takes a pin for `sqlalchemy` to be no answer
    # to `sqlalchemy[asyncio]`. `pip check` below proves that nothing is missing.
    install = ["install", "--no-deps", "--require-hashes", "--no-compile", "--progress-bar", "off"]
    project = ["install", "--no-deps", "--no-build-isolation", "--quiet", "--editable", str(ROOT)]
    steps = [
        (f"1/3 Downloading and unpacking {count} packages", [*pip, *install, "-r", str(LOCK)]),
        # Without byte code the first `prefect` command takes 16 s instead of 4.
        ("2/3 Compiling", [str(python), "-m", "compileall", "-q", "-j2", str(folder / "lib")]),
        ("3/3 Installing the project", [*pip, *project]),
        ("    Checking that the packages agree", [*pip, "check"]),
    ]
    for title, command in steps:
        if not run(title, command, count):
            return 1
    say(f"Done in {time.monotonic() - started:.0f} s.")
    return 0


def works(python: Path) -> bool:
    """Tell whether the environment is there and has a pip (a moved or half-made one has not)."""
    if not python.exists():
        return False
    probe = [str(python), "-c", "import pip"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def run(title: str, command: list[str], count: int) -> bool:
    """Run one step, counting the packages that pip reports; show its output only if it fails."""
    say(f"{title} ...")
    started, seen = time.monotonic(), 0
    output: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            if line.startswith(("Collecting ", "Processing ", "Requirement already satisfied")):
                seen += 1
                if seen % 30 == 0:
                    say(f"    {seen} of {count} after {time.monotonic() - started:.0f} s")
            elif line.startswith("Installing collected"):
                say(f"    unpacking after {time.monotonic() - started:.0f} s")
    if process.returncode != 0:
        say("".join(output[-20:]))
        say(f"Failed: {' '.join(command)}")
    return process.returncode == 0


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Stopped. Run it again to go on from here.")
