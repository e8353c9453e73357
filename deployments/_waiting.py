"""Entry runs that wait: what they are, what they were promised, and how much slack is left.

And those that should have begun: they are due, and no worker has started them.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State, StateType, WorkPool, WorkPoolStatus
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from carbon import CarbonPolicy
from deployments._hold import AWAITING, HELD, HELD_LABEL, Hold
from deployments._mode import pinned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prefect.client.orchestration import PrefectClient

    from carbon import Clock
    from deployments._jobs import Job

ENTRY: Final = "entry"
"""Tag of the entry deployments, and of their runs."""

EXECUTION: Final = "execution"
"""Tag of the execution deployments, and of their runs: stages."""

_TAKEN: Final = timedelta(minutes=1)
"""A worker looks for runs every 15 s, and needs some seconds to start one."""

_SHOWN: Final = 3
_RUN_SUBMITTED: Final = timedelta(seconds=45)
"""Workers fetch runs 10 s before they are due: from so long before that nobody re-times them."""


@dataclass(frozen=True)
class Waiting:
    """A run that waits for its planned start, or that should have started.

    Attributes:
        run: The run.
        hold: The plan that it carries.
        job: Its job.
        policy: Its own policy, as a person who has pinned it wants it.
        due: When Prefect starts it, by the wall clock.
    """

    run: FlowRun
    hold: Hold
    job: Job
    policy: CarbonPolicy
    due: datetime

    @property
    def data_class(self) -> str | None:
        """Class of its data, on top of the job's own."""
        given = self.run.parameters.get("data_class")
        return given if isinstance(given, str) else None

    @property
    def held(self) -> bool:
        """Whether a person's switch holds it back."""
        return self.run.labels.get(HELD_LABEL) is True

    @property
    def planned(self) -> bool:
        """Whether it waits for a start that the trigger has chosen."""
        return self.run.state_name in {AWAITING, HELD}

    @property
    def imminent(self) -> bool:
        """Whether a worker has it already, or will in a moment."""
        scheduled = self.run.state is not None and self.run.state.type is StateType.SCHEDULED
        return not scheduled or self.due - datetime.now(UTC) < _RUN_SUBMITTED

    def moved_by_hand(self, clock: Clock) -> bool:
        """Tell whether a person has given it another time than its plan's."""
        return abs(self.due - clock.wall(self.hold.start)) > timedelta(seconds=1)

    def slack(self, clock: Clock) -> timedelta:
        """Return how long it may still wait, in grid time; below zero when it is late."""
        return self.hold.latest_safe_start - clock.now()


@dataclass(frozen=True)
class Untaken:
    """A run that is due and that no worker has started: a stage, or an entry run without a plan.

    Attributes:
        run: The run.
        job: Its job.
        due: Since when it is due, by the wall clock.
        why: What it waits for.
    """

    run: FlowRun
    job: Job
    due: datetime
    why: str


async def untaken(
    client: PrefectClient, runs: Iterable[FlowRun], jobs: Mapping[str, Job]
) -> list[Untaken]:
    """Return those of some live runs that should have begun, the first due first.

    Runs that wait by a plan are :func:`waiting`.
    """
    late, live = datetime.now(UTC) - _TAKEN, list(runs)
    found = [
        (run, _due(run.state))
        for run in live
        if run.state is not None
        and run.state.type in {StateType.SCHEDULED, StateType.PENDING}
        and _due(run.state) < late
        and {ENTRY, EXECUTION} & set(run.tags)
        and ((hold := Hold.read(run.labels)) is None or hold.went)
    ]
    if not found:
        return []
    known = {**await entry_jobs(client, jobs), **await _stage_jobs(client, jobs)}
    rows = [
        Untaken(run, job, due, await untaken_why(client, run, live))
        for run, due in found
        if (job := known.get(run.deployment_id) or known.get(run.flow_id))
    ]
    return sorted(rows, key=lambda one: one.due)


async def untaken_why(client: PrefectClient, run: FlowRun, live: Iterable[FlowRun]) -> str:
    """Say what a run that is due waits for: its worker, or its pool."""
    name, state = run.work_pool_name, run.state
    if state is not None and state.type is StateType.PENDING:
        return f"a worker of pool {name} took it at {state.timestamp:%H:%M} UTC, and has not begun"
    try:
        pool = await client.read_work_pool(name or "")
    except ObjectNotFound:
        return f"there is no pool {name}"
    return _pool_says(pool, live) or f"no worker of pool {name} has taken it"


def _pool_says(pool: WorkPool, live: Iterable[FlowRun]) -> str:
    """Say why a pool starts nothing; empty where it should."""
    name = pool.name
    if pool.is_paused:
        return f"pool {name} is paused"
    if pool.status is WorkPoolStatus.NOT_READY:
        return f"pool {name} has no worker"
    there = [one for one in live if one.work_pool_name == name and _holds_slot(one)]
    if pool.concurrency_limit is not None and len(there) >= pool.concurrency_limit:
        names = ", ".join(one.name for one in there[:_SHOWN])
        return f"pool {name} is full: {names}{' and others' if len(there) > _SHOWN else ''}"
    return ""


def _holds_slot(run: FlowRun) -> bool:
    return run.state is not None and run.state.type in {StateType.PENDING, StateType.RUNNING}


async def _stage_jobs(client: PrefectClient, jobs: Mapping[str, Job]) -> dict[UUID | None, Job]:
    """Return the jobs by the id of their stages' flows."""
    found: dict[UUID | None, Job] = {}
    for job in jobs.values():
        for stage in job.heavy:
            with suppress(ObjectNotFound):
                flow = await client.read_flow_by_name(job.execution_flow(stage))
                found[flow.id] = job
    return found


async def entry_jobs(client: PrefectClient, jobs: Mapping[str, Job]) -> dict[UUID | None, Job]:
    """Return the jobs by the id of their entry deployment; without those that are not deployed."""
    found: dict[UUID | None, Job] = {}
    for job in jobs.values():
        with suppress(ObjectNotFound):
            found[(await client.read_deployment_by_name(job.entry_deployment)).id] = job
    return found


def _due(state: State[Any]) -> datetime:
    due = state.state_details.scheduled_time or state.timestamp
    return datetime.fromtimestamp(due.timestamp(), UTC)


def waiting(runs: Iterable[FlowRun], jobs: Mapping[str, Job]) -> Iterator[Waiting]:
    """Yield those of some live runs that are entry runs of known jobs and have not gone."""
    for run in runs:
        hold = Hold.read(run.labels)
        job = jobs.get(str(hold.decision.get("job"))) if hold else None
        if hold is None or job is None or run.state is None or hold.went:
            continue
        if run.state.type not in {StateType.SCHEDULED, StateType.PENDING}:
            continue
        yield Waiting(run, hold, job, pinned(_policy(run, job), run.labels), _due(run.state))


def _policy(run: FlowRun, job: Job) -> CarbonPolicy:
    """Return the policy that a run was given; the job's own where it cannot be read."""
    try:
        return job.policy_for(CarbonPolicy.model_validate(run.parameters.get("policy") or {}))
    except (ValidationError, ValueError):
        return job.policy
