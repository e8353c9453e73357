"""A job for tests whose heavy stage does as it is told, importable by workers.

Each execution of the heavy stage leaves one file under ``CARBON_HOME/marks``, so that tests can
count executions without asking Prefect.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from prefect import flow

from carbon import CarbonPolicy, Hardware, Need, Stage, Workload
from deployments import Job, Settings, dispatch, gate, guard

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
    marks = Settings.load().home / "marks"
    marks.mkdir(parents=True, exist_ok=True)
    (marks / f"{label}.{uuid4().hex}").touch()
    if reads:
        Path(reads).read_bytes()  # noqa: ASYNC240 - a tiny file
    if act == "fail" or (act == "fail-once" and executions(Settings.load().home, label) == 1):
        raise ValueError("the parcel is broken")
    if act == "crash":
        os._exit(7)
    if act == "sleep":
        await asyncio.sleep(300)
    return label


def executions(home: Path, label: str) -> int:
    """Return how often the heavy stage has been executed under a label."""
    return len(list((home / "marks").glob(f"{label}.*")))
