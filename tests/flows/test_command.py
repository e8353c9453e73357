"""The command `carbon` as it is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_is_the_command_line() -> None:
    """It does what the command line does."""
    assert version("carbon-aware-flows") in _run("sys.argv = ['carbon', '--version']").stdout


def test_ctrl_c_while_it_loads_is_quiet() -> None:
    """Exit code 130 and not a word, for nothing has begun yet."""
    soon = (
        "signal.signal(signal.SIGALRM, signal.default_int_handler);"
        "signal.setitimer(signal.ITIMER_REAL, 0.2)"
    )
    done = _run(soon)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def _run(before: str) -> subprocess.CompletedProcess[str]:
    code = f"import signal, sys; from flows._command import main; {before}; main()"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
