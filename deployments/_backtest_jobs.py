"""Past runs of the entry deployments as jobs of a back-test."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from pydantic import ValidationError

from carbon import BadInput, CarbonPolicy, Clock, Fleet, Hardware
from carbon._backtest_jobs import LONGEST, Group, JobList, JobRow, job_list
from deployments._hold import Hold
from deployments._jobs import Job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PAGE: Final = 200
_SHORTEST: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)


async def past_jobs(jobs: Iterable[Job], fleet: Fleet, since: datetime, clock: Clock) -> JobList:
    """Make jobs out of the completed runs of the entry deployments.

    A job was wanted when its run could have started at once: by the plan that the run carries, and
    else when it was due. It runs as long as the run was seen running: its light stages, and the
    wait for its heavy ones, on the hardware of the first heavy stage. What its deadline leaves in
    reserve is by the declared p95 of the stages. A run that no pool of today may take is left out.

    Args:
        jobs: Whose runs.
        fleet: The fleet, for the hardware and the regions of a run's policy.
        since: From when on, in grid time.
        clock: How grid time relates to life.

    Raises:
        BadInput: There is no such run.
    """
    rows, known = [], tuple(jobs)
    async with get_client() as client:
        completed = await client.count_flow_runs(flow_run_filter=_completed(clock.wall(since)))
        for job in known:
            async for run in _runs(client, job, clock.wall(since)):
                row = _row(job, run, fleet, clock)
                if row is not None:
                    rows.append(row)
    others = completed - len(rows)
    if not rows:
        names = ", ".join(f"{job.name}/entry" for job in known)
        raise BadInput(
            "--runs",
            f"Prefect has no completed run of {names} since {since:%Y-%m-%d %H:%M} UTC"
            + (f", only {others:,} of others" if others else ""),
            "Ask for more days, or check PREFECT_API_URL.",
        )
    return job_list(rows, f"past Prefect runs ({others:,} others left out)")


def _row(job: Job, run: FlowRun, fleet: Fleet, clock: Clock) -> JobRow | None:
    if run.expected_start_time is None or run.start_time is None:
        return None
    began = run.start_time
    length = clock.grid(began + run.total_run_time) - clock.grid(began)
    length = min(max(length, _SHORTEST), LONGEST)
    policy = _policy(job, run)
    if policy is None:
        return None
    # A submitted run is due when its clean start is planned, which is not when it was wanted.
    hold = Hold.read(run.labels)
    release = hold.baseline.start if hold and hold.baseline else clock.grid(run.expected_start_time)
    due = hold.deadline if hold else policy.deadline(release)
    due = min(max(due, release + length), release + LONGEST)
    stages = job.workload.stages
    hardware = next(
        (fleet.home_pool(stage).hardware for stage in stages if stage.heavy), Hardware.CPU
    )
    p95 = [stage.needs[fleet.home_pool(stage).hardware].p95 for stage in stages]
    own = run.parameters.get("data_class")
    classes = {job.workload.data_class, *([own] if isinstance(own, str) else [])}
    pools = [pool for pool in fleet.pools if pool.region in (policy.only_regions or (pool.region,))]
    if not classes <= fleet.residency.keys() or not any(
        pool.hardware is hardware and fleet.permits(pool, *classes) for pool in pools
    ):
        return None
    return JobRow(
        release=release,
        finish_by=due,
        hours=length / _HOUR,
        reserve_hours=sum(p95, max(p95)) / _HOUR,
        group=Group(
            hardware=hardware,
            data_classes=tuple(sorted(classes)),
            pools=tuple(pool.name for pool in pools) if policy.only_regions else (),
        ),
        where=f"run {run.name}",
    )


def _policy(job: Job, run: FlowRun) -> CarbonPolicy | None:
    """Return a run's policy; the job's own where nobody can read the run's any more.

    ``None`` where that would let the run into regions which its own kept it out of.
    """
    told = run.parameters.get("policy") or {}
    try:
        return job.policy_for(CarbonPolicy.model_validate(told))
    except (ValidationError, BadInput):
        return None if isinstance(told, dict) and told.get("only_regions") else job.policy


def _completed(since: datetime) -> FlowRunFilter:
    return FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED])),
        expected_start_time=FlowRunFilterExpectedStartTime(after_=since),
    )


async def _runs(client: PrefectClient, job: Job, since: datetime) -> AsyncIterator[FlowRun]:
    offset = 0
    while True:
        page = await client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[job.name])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=["entry"])),
            flow_run_filter=_completed(since),
            limit=_PAGE,
            offset=offset,
        )
        for run in page:
            yield run
        if len(page) < _PAGE:
            return
        offset += _PAGE
