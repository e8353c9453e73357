"""Jobs for tests, importable by workers: one does as it is told, one pauses as it is planned.

Each execution of the heavy stage leaves one file under ``CARBON_HOME/marks``, so that tests can
count executions without asking Prefect.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from prefect import flow, task

from carbon import CarbonPolicy, Hardware, Interruptible, Need, Stage, Workload
from deployments import Job, Settings, dispatch, gate, guard, pause, segment_end

JOB = Job(
    workload=Workload(
        name="errand",
        data_class="public",
        stages=(
            Stage(
                name="pack",
                needs={Hardware.CPU: Need(p50=timedelta(minutes=10), p95=timedelta(minutes=20))},
            ),
            Stage(
                name="carry",
                heavy=True,
                needs={Hardware.GPU: Need(p50=timedelta(minutes=30), p95=timedelta(hours=1))},
            ),
        ),
    ),
    description="Does as it is told.",
    entrypoint="tests.deployments.lab.errand",
    heavy={"carry": "tests.deployments.lab.carry"},
)

RELAY = Job(
    workload=Workload(
        name="relay",
        data_class="public",
        stages=(
            Stage(
                name="run",
                heavy=True,
                needs={Hardware.GPU: Need(p50=timedelta(hours=32), p95=timedelta(hours=32))},
                interruptible=Interruptible(timedelta(hours=16), restart=timedelta(minutes=10)),
            ),
        ),
    ),
    description="Pauses as it is planned.",
    entrypoint="tests.deployments.lab.relay",
    heavy={"run": "tests.deployments.lab.relay_run"},
)


@flow(name=RELAY.name)
async def relay(label: str, policy: CarbonPolicy = RELAY.policy) -> None:
    """Have the stage run, in segments."""
    await gate(RELAY, policy)
    await dispatch(RELAY, "run", {"label": label}, policy)


@flow(name=RELAY.execution_flow("run"))
async def relay_run(label: str) -> None:
    """Run until told to pause; what is left then takes no time."""
    await guard(RELAY.workload)
    until = await segment_end()
    while await leg(label, until):
        until = await pause()


@task(name="leg")
async def leg(label: str, until: datetime | None) -> bool:
    """Leave a mark, run to the end of the segment, and tell whether there is more."""
    _mark(label)
    if until is None:
        return False
    await asyncio.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))
    return True


@flow(name=JOB.name)
async def errand(
    label: str = "",
    act: str = "nothing",
    policy: CarbonPolicy = JOB.policy,
    data_class: str = "public",
) -> str:
    """Pass the gate and have the heavy stage do something; `nothing` does without it."""
    await gate(JOB, policy, data_class=data_class)
    if act != "nothing":
        given = {"label": label, "act": act, "data_class": data_class}
        await dispatch(JOB, "carry", given, policy, data_class=data_class)
    return label


@flow(name=JOB.execution_flow("carry"))
async def carry(label: str, act: str, data_class: str = "public", reads: str = "") -> str:
    """Do what `act` says, after the guard and after reading a file, when one is named."""
    await guard(JOB.workload, data_class=data_class)
    _mark(label)
    if reads:
        Path(reads).read_bytes()  # noqa: ASYNC240 - a tiny file
    act, once, _ = act.partition("-once")
    if once and executions(Settings.load().home, label) > 1:
        return label
    if act == "fail":
        raise ValueError("the parcel is broken")
    if act == "crash":
        os._exit(7)
    if act == "nap":
        await asyncio.sleep(75)
    if act == "sleep":
        await asyncio.sleep(300)
    return label


def _mark(label: str) -> None:
    marks = Settings.load().home / "marks"
    marks.mkdir(parents=True, exist_ok=True)
    (marks / f"{label}.{uuid4().hex}").touch()


def executions(home: Path, label: str) -> int:
    """Return how often the heavy stage has been executed under a label."""
    return len(list((home / "marks").glob(f"{label}.*")))
