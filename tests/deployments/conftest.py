"""A laboratory for the trigger: pools with real workers, a falling grid, time 600 times faster.

The grid gets cleaner and cleaner, so a run that may wait always waits until its latest safe start:
when a run wakes follows from its policy alone, and no test depends on the hour or on luck.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.logging.handlers import APILogWorker

from deployments import Settings, Trigger
from deployments._attempts import number_of
from deployments._render import render
from deployments.sandbox import Sandbox, stop
from tests.deployments.lab import JOB, RELAY, executions
from work_pools import register

if TYPE_CHECKING:
    import subprocess

    from prefect.client.schemas.objects import Artifact, FlowRun

ROOT = Path(__file__).parents[2]
SPEED: Final = 600
"""Grid seconds per second of life: an hour of the grid takes 6 s."""

NEEDED: Final = timedelta(minutes=146)
"""What the errand must have before its deadline: p95 run times, start-ups and one retry."""

LEASE: Final = timedelta(seconds=40)
"""Short, so that a test can wait for it; the server may stand still for half of it."""

_GRID_START: Final = datetime(2026, 6, 1, tzinfo=UTC)
_STEPS: Final = 600
_FLEET: Final = """\
home = "aws:eu-central-1"

[residency]
public = ["*"]
personal = ["EU"]
"""
_POOLS: Final = {
    "lab-home": ("aws:eu-central-1", "cpu"),
    "lab-base": ("aws:eu-central-1", "gpu"),
    "lab-green": ("aws:eu-north-1", "gpu"),
    "lab-far": ("aws:us-west-2", "gpu"),
}
_WORKED: Final = ("lab-home", "lab-green", "lab-far")
"""Pools with a worker: nothing is ever sent to the heavy pool at home."""

_LEVELS: Final = {"DE": 1.0, "SE-SE3": 0.1, "US-NW-PACW": 0.5}
T = TypeVar("T")


@dataclass(frozen=True)
class Lab:
    """A server, workers, and what tests ask of them."""

    box: Sandbox
    folder: Path
    trigger: Trigger
    client: SyncPrefectClient
    env: Mapping[str, str] = field(default_factory=dict)
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def work(self, pool: str) -> None:
        """Start the worker of a pool."""
        self.workers[pool] = self.box.worker(pool, self.env)

    def kill_worker(self, pool: str) -> None:
        """Kill the worker of a pool; the runs that it has started live on."""
        self.workers[pool].kill()
        self.workers[pool].wait()

    def deploy(self) -> None:
        """Run `prefect deploy --all` in the project folder."""
        self.box.prefect("deploy", "--all", cwd=self.folder)

    def run(self, run_id: UUID) -> FlowRun:
        """Read a run."""
        return self.client.read_flow_run(run_id)

    def ended(self, run_id: UUID, *, seconds: float = 60) -> FlowRun:
        """Wait until a run has ended and return it."""
        return self.until(
            f"run {run_id} has ended",
            lambda: run if _final(run := self.run(run_id)) else None,
            seconds=seconds,
        )

    def until(self, what: str, found: Callable[[], T | None], *, seconds: float = 60) -> T:
        """Ask until there is an answer, or fail and say what all runs and workers are doing."""
        limit = time.monotonic() + seconds
        while not (value := found()):
            if time.monotonic() > limit:
                pytest.fail(f"waited {seconds:.0f} s in vain until {what}\n{self.report()}")
            time.sleep(0.5)
        return value

    def executions(self, label: str) -> int:
        """Return how often the heavy stage has been executed under a label."""
        return executions(self.trigger.settings.home, label)

    def processes(self, run_id: UUID) -> list[psutil.Process]:
        """Return the processes below the workers that carry out a run."""
        return [
            process
            for worker in self.workers.values()
            for process in psutil.Process(worker.pid).children(recursive=True)
            if _carries_out(process, run_id)
        ]

    def below(self, parent: UUID) -> list[FlowRun]:
        """Return the runs of a run's stages, the attempts of one in order."""
        own = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent]))
        return sorted(self.client.read_flow_runs(flow_run_filter=own), key=number_of)

    def artifacts(self, run_id: UUID) -> dict[str, Artifact]:
        """Return the artifacts of a run by key."""
        own = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        return {found.key or "": found for found in self.client.read_artifacts(artifact_filter=own)}

    def report(self) -> str:
        """Return the states of all runs and the ends of all logs."""
        runs = [
            f"{run.name}: {run.state_name} {run.state.message if run.state else ''} "
            f"({run.work_pool_name}, {run.parameters})"
            for run in self.client.read_flow_runs(limit=50)
            if not run.auto_scheduled or run.run_count
        ]
        logs = [
            f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:])
            for log in sorted(self.box.home.glob("*.log"))
        ]
        return "\n".join((*runs, *logs))


@pytest.fixture(scope="session")
def lab(prefect_server: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Register the pools, deploy the errand and start one worker per pool, once for all tests."""
    folder = tmp_path_factory.mktemp("lab")
    settings = Settings(
        home=folder / "home",
        fleet=_written(folder / "fleet.toml", _fleet()),
        replay=_written(folder / "falling-grid.csv", _falling_grid()),
        lease=LEASE,
        clock=f"{_GRID_START.isoformat()},{datetime.now(UTC).isoformat()},{SPEED}",
    )
    trigger = Trigger.from_settings(settings)
    _written(folder / "prefect.yaml", render(trigger.fleet, [JOB, RELAY]))
    env = {
        "CARBON_HOME": str(settings.home),
        "CARBON_FLEET": str(settings.fleet),
        "CARBON_REPLAY": str(settings.replay),
        "CARBON_CLOCK": settings.clock,
        "CARBON_LEASE": f"PT{LEASE.total_seconds():.0f}S",
        "PYTHONPATH": str(ROOT),
        "PREFECT_WORKER_CANCELLATION_POLL_SECONDS": "1",
    }
    box = prefect_server
    asyncio.run(register_pools(trigger))
    with get_client(sync_client=True) as client:
        lab = Lab(box, folder, trigger, client, env)
        for pool in _WORKED:
            lab.work(pool)
        try:
            lab.deploy()
            yield lab
        finally:
            APILogWorker.drain_all()  # else it would go on trying when the server is gone
            for worker in lab.workers.values():
                worker.terminate()
            for worker in lab.workers.values():
                stop(worker)


async def register_pools(trigger: Trigger) -> None:
    """Create pools and lock in Prefect; changes nothing where they exist."""
    async with get_client() as client:
        await register(trigger.fleet, client)


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _fleet() -> str:
    pools = [
        f'[[pools]]\nname = "{name}"\nregion = "{region}"\nhardware = "{hardware}"\ncapacity = 4\n'
        'watts = 15\nusd_per_hour = 0.2\nstartup = "PT2M"\n'
        for name, (region, hardware) in _POOLS.items()
    ]
    return "\n".join((_FLEET, *pools))


def _falling_grid() -> str:
    rows = [",".join(("utc", *_LEVELS))]
    for step in range(_STEPS):
        moment = _GRID_START + timedelta(minutes=30) * (step - 2)
        # Four per cent a step: less than one per cent is not waited for.
        values = [f"{600 * 0.96**step * level:.15f}" for level in _LEVELS.values()]
        rows.append(",".join((moment.isoformat(), *values)))
    return "\n".join(rows)


def _final(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def _carries_out(process: psutil.Process, run_id: UUID) -> bool:
    try:
        return process.environ().get("PREFECT__FLOW_RUN_ID") == str(run_id)
    except psutil.Error:
        return False  # it has just ended
