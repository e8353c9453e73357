"""What all tests share: isolation from the developer's own Prefect, one server, loud skips."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deployments.sandbox import Sandbox

ROOT = Path(__file__).parents[1]

# Prefect reads its settings when it is imported, so this must stand before any test module. The
# developer's profile, database and API address are out of reach from here on.
_HOME = Path(tempfile.mkdtemp(prefix="carbon-tests-"))
for _name in [name for name in os.environ if name.startswith(("PREFECT_", "CARBON_"))]:
    if _name != "CARBON_CHROMIUM":
        del os.environ[_name]
os.environ |= {
    "DO_NOT_TRACK": "1",
    "CARBON_OFFLINE": "1",  # no test asks a signal provider that it has not started itself
    "NO_PROXY": "*",
    "no_proxy": "*",
    "PREFECT_HOME": str(_HOME),
    "PREFECT_PROFILES_PATH": str(_HOME / "profiles.toml"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Without an address Prefect would start a hidden server of its own for each flow call.
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
}


def pytest_unconfigure() -> None:
    """Remove the Prefect home of this test run."""
    shutil.rmtree(_HOME, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what this machine could not check: a skip must never look like a pass."""
    reasons = Counter(
        str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        for report in terminalreporter.stats.get("skipped", [])
    )
    if reasons:
        terminalreporter.section("NOT CHECKED on this machine", sep="!", red=True, bold=True)
        for reason, count in sorted(reasons.items()):
            terminalreporter.write_line(f"{count} x {reason.removeprefix('Skipped: ')}", red=True)


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A real Prefect server with all its services (scheduler too), started on first use."""
    from deployments.sandbox import sandbox  # noqa: PLC0415 - only server tests pay for it

    with sandbox(tmp_path_factory.mktemp("server")) as box:
        yield box


@pytest.fixture(scope="session")
def prefect_server(live_server: Sandbox) -> Iterator[Sandbox]:
    """Connect this process's Prefect client to :func:`live_server` until the session ends.

    One real server serves all tests: `prefect_test_harness` would start a second one (half a
    minute of two cores), and without the services that schedule runs and mark them late.
    """
    with live_server.connected():
        yield live_server


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Path of a Chromium for browser tests; ``CARBON_CHROMIUM`` overrides the usual place."""
    path = Path(os.environ.get("CARBON_CHROMIUM", "/usr/bin/chromium"))
    if not path.is_file():
        pytest.skip(
            f"no Chromium at {path}: the UI was not driven. Install it or set CARBON_CHROMIUM"
        )
    return path


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference data beside the checkout; most machines do not have it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared beside the checkout: not checked against its recorded data")
    return folder
