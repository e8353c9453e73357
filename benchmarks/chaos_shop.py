"""The shop that the chaos run plays: one job, whose heavy stage leaves word of what it did."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from prefect import flow
from prefect.context import FlowRunContext

from carbon import CarbonPolicy, Hardware, Need, Stage, Workload
from deployments import Job, Settings, dispatch, gate, guard

MINUTE = timedelta(minutes=1)

JOB = Job(
    workload=Workload(
        name="chore",
        data_class="public",
        stages=(
            Stage(name="look", needs={Hardware.CPU: Need(p50=MINUTE, p95=2 * MINUTE)}),
            Stage(
                name="work",
                heavy=True,
                needs={Hardware.GPU: Need(p50=10 * MINUTE, p95=20 * MINUTE)},
            ),
        ),
    ),
    description="Does a little work.",
    entrypoint="benchmarks.chaos_shop.chore",
    heavy={"work": "benchmarks.chaos_shop.work"},
)


@flow(name=JOB.name)
async def chore(label: str, policy: CarbonPolicy = JOB.policy, data_class: str = "public") -> None:
    """Pass the gate and have the work done."""
    await gate(JOB, policy, data_class=data_class)
    word(label, "went")
    await dispatch(
        JOB, "work", {"label": label, "data_class": data_class}, policy, data_class=data_class
    )


@flow(name=JOB.execution_flow("work"))
async def work(label: str, data_class: str) -> None:
    """Work for some seconds, after the guard."""
    await guard(JOB.workload, data_class=data_class)
    context = FlowRunContext.get()
    run = str(context.flow_run.id) if context and context.flow_run else "?"
    one = uuid4().hex
    word(label, "began", run=run, one=one)
    await asyncio.sleep(4)
    word(label, "ended", run=run, one=one)


def word(label: str, what: str, **more: str) -> None:
    """Leave word of something that has happened."""
    folder = Settings.load().home / "words"
    folder.mkdir(parents=True, exist_ok=True)
    told = {"label": label, "what": what, "at": time.time(), **more}
    whole = folder / f"{uuid4().hex}.tmp"
    whole.write_text(json.dumps(told))
    whole.rename(whole.with_suffix(".json"))


def words(home: Path) -> list[dict[str, str | float]]:
    """Return all that was told, in order."""
    told = [json.loads(path.read_text()) for path in (home / "words").glob("*.json")]
    return sorted(told, key=lambda one: one["at"])
