"""What a planned submission costs over a plain run of the same deployment, on PostgreSQL.

Usage: ``python -m benchmarks.submit [--runs 200] [--rounds 8] [--live 0] [--postgres BIN]`` with
the folder of PostgreSQL's programs (default: ``/usr/lib/postgresql/15/bin``). It takes a few
minutes on two cores: a database and a real Prefect server are started in a folder of their own.

*raw* is ``create_flow_run_from_deployment`` of Prefect's own client, opened before: the least that
anybody pays. *submit* plans the run first, among all that wait, and creates it at its time. Both
are done one at a time and 8 at a time, in turns; each round begins with as many live runs as
``--live`` says (none), which *submit* must look at. What it publishes of its decisions when nobody
waits any more stands in a column of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client

from benchmarks.postgres import PROGRAMS, can_run, database
from carbon import CarbonPolicy, Hardware, Need, Stage, Workload
from deployments import Job, Trigger, gate, submit
from deployments._desk import desk
from deployments._render import render
from deployments.sandbox import OWN_DATABASE, sandbox
from work_pools import register

MINUTE = timedelta(minutes=1)
JOB = Job(
    workload=Workload(
        name="nothing",
        data_class="public",
        stages=(Stage(name="work", needs={Hardware.CPU: Need(p50=5 * MINUTE, p95=10 * MINUTE)}),),
    ),
    description="Does nothing.",
    entrypoint="benchmarks.submit.nothing",
    heavy={},
    policy=CarbonPolicy(finish_by="24h"),
)
ROOT = Path(__file__).parents[1]
TOGETHER = (1, 8)


@flow(name=JOB.name)
async def nothing(label: str = "", policy: CarbonPolicy = JOB.policy) -> str:
    """Pass the gate."""
    await gate(JOB, policy)
    return label


@dataclass
class Took:
    """Seconds that calls took, each and all together, and what was left to do afterwards."""

    each: list[float] = field(default_factory=list)
    all: float = 0.0
    after: float = 0.0

    @property
    def rate(self) -> float:
        """Calls a second."""
        return len(self.each) / self.all

    @property
    def p95(self) -> float:
        """The slowest but one in twenty."""
        return statistics.quantiles(self.each, n=20)[-1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--live", type=int, default=0)
    parser.add_argument("--postgres", type=Path, default=PROGRAMS)
    told = parser.parse_args()
    if not can_run(told.postgres):
        sys.exit(f"NOT MEASURED: needs PostgreSQL in {told.postgres}, and root to start it.")
    folder = Path(tempfile.mkdtemp(prefix="submit-"))
    folder.chmod(0o755)  # the user of the database must get through
    try:
        with (
            database(folder / "db", told.postgres) as address,
            sandbox(
                folder / "prefect",
                {OWN_DATABASE: address, "PYTHONPATH": str(ROOT)},
            ) as box,
            box.connected(),
        ):
            os.environ |= {
                "CARBON_HOME": str(folder / "home"),
                "CARBON_REPLAY": str(grid(folder / "grid.csv", Trigger.from_settings().zones)),
            }
            trigger = Trigger.from_settings()
            (folder / "prefect.yaml").write_text(render(trigger.fleet, [JOB]))
            asyncio.run(pools(trigger))
            box.prefect("deploy", "--all", cwd=folder)
            show(asyncio.run(measured(told.runs, told.rounds, told.live)), told.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def pools(trigger: Trigger) -> None:
    """Create the work pools and the planner lock."""
    async with get_client() as client:
        await register(trigger.fleet, client)


async def measured(runs: int, rounds: int, live: int) -> dict[tuple[str, int], Took]:
    """Return what each way took at each number of calls at a time."""
    async with get_client() as client:
        deployment = (await client.read_deployment_by_name(JOB.entry_deployment)).id
        ways = {"raw": lambda: raw(client, deployment), "submit": planned}
        took = {(way, together): Took() for together in TOGETHER for way in ways}
        for do in ways.values():  # both warm
            await calls(do, 5, 1, Took())
            await settled()
        await clear(client)
        for turn in range(rounds):
            for together in TOGETHER:
                for way in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
                    one = took[way, together]
                    await calls(planned, live, 8, Took())
                    await settled()
                    await calls(ways[way], math.ceil(runs / rounds), together, one)
                    began = time.perf_counter()
                    await settled()
                    one.after += time.perf_counter() - began
                    await clear(client)
        return took


async def raw(client: PrefectClient, deployment: UUID) -> None:
    """Create a run as any user of Prefect does."""
    await client.create_flow_run_from_deployment(
        deployment,
        parameters={"label": "x", "policy": JOB.policy.model_dump(mode="json")},
        idempotency_key=str(uuid4()),
    )


async def planned() -> None:
    """Create a run by way of the planner."""
    made = await submit(JOB, {"label": "x"}, key=str(uuid4()))
    assert made.created


async def settled() -> None:
    """Wait until submit has published what it decided."""
    at, background = desk()
    await asyncio.wrap_future(background.call(at.settled()))


async def clear(client: PrefectClient) -> None:
    """Delete all runs."""
    while runs := await client.read_flow_runs(limit=200):
        for run in runs:
            await client.delete_flow_run(run.id)


async def calls(do: Callable[[], Awaitable[None]], count: int, together: int, took: Took) -> None:
    """Do something so often, so many at a time."""
    places = asyncio.Semaphore(together)

    async def one() -> None:
        async with places:
            began = time.perf_counter()
            await do()
            took.each.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    took.all += time.perf_counter() - began


def show(took: dict[tuple[str, int], Took], rounds: int) -> None:
    """Print the table."""
    runs = len(took["raw", 1].each)
    print(f"{runs} runs each in {rounds} rounds, Prefect on PostgreSQL, {os.cpu_count()} cores\n")
    print(
        "| at a time | way | median ms | p95 ms | mean ms | runs/s | published later s "
        "| latency ratio (median, mean) | throughput ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for (way, together), one in took.items():
        plain = took["raw", together]
        median, mean = statistics.median, statistics.mean
        print(
            f"| {together} | {way} | {1e3 * median(one.each):.0f} "
            f"| {1e3 * one.p95:.0f} | {1e3 * mean(one.each):.0f} | {one.rate:.1f} "
            f"| {one.after:.1f} | {median(one.each) / median(plain.each):.2f}, "
            f"{mean(one.each) / mean(plain.each):.2f} | {one.rate / plain.rate:.2f} |"
        )


def grid(path: Path, zones: tuple[str, ...]) -> Path:
    """Write a grid that is cleaner at some hours than at others, for three days from now."""
    first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    rows = [",".join(("utc", *zones))]
    for hour in range(-1, 72):
        level = 300 + 100 * math.sin(hour / 24 * math.tau)
        values = [f"{level * (1 + place / 10):.1f}" for place, _ in enumerate(zones)]
        rows.append(",".join(((first + timedelta(hours=hour)).isoformat(), *values)))
    path.write_text("\n".join(rows))
    return path


if __name__ == "__main__":
    main()
