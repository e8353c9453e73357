"""A short play of the chaos run; ``python -m benchmarks.chaos`` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(600)]


def test_nothing_is_lost_doubled_late_or_misplaced_while_all_fails_in_turn() -> None:
    """Real server, workers and runs; its exit code tells whether it has counted anything."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", "--runs", "8", "--minutes", "1", "--seed", "5"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=590,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| 8 | 5 | 1 | 0 | 0 | 0 | 0 |" in done.stdout
