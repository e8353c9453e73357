"""A person steps in: starts a waiting run at once, or says in which region it runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect.client.orchestration import get_client
from prefect.client.schemas import OrchestrationResult
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import Scheduled

from carbon import BadInput, region
from deployments._events import Event, emit
from deployments._hold import EARLY, WANTED_NOW, Hold
from deployments._jobs import Job, jobs
from deployments._mode import PINNED
from deployments._why import find_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbon import Fleet


async def release_run(flow_run: str) -> FlowRun:
    """Let a waiting run start at once, whatever its gate would plan.

    Args:
        flow_run: Its id, its name, or the address of its page.

    Returns:
        The run as it was.

    Raises:
        BadInput: There is no such run, or it does not wait.
    """
    async with get_client() as client:
        run = await find_run(client, flow_run)
        _require_waiting(run, "started")
        # Before it can wake: a run that the trigger has not planned yet shows no other sign.
        await client.update_flow_run_labels(run.id, {WANTED_NOW: True})
        if not _wakes_anyway(await client.read_flow_run(run.id)):
            # Re-timed, one that wakes could be started twice; its gate reads the label.
            now: State[None] = Scheduled(message="Started with `carbon release`.")
            answer: OrchestrationResult[Any] = await client.set_flow_run_state(run.id, now)
            if answer.status is not SetStateStatus.ACCEPT:
                raise BadInput("flow_run", f"Prefect does not start {run.name} now", "Try again.")
        emit(Event.RELEASED, run, _job_name(run), by="person", why="carbon release")
    return run


async def pin_run(
    flow_run: str, region_name: str | None, fleet: Fleet, *, known: Mapping[str, Job] | None = None
) -> FlowRun:
    """Say in which region a waiting run's heavy stages run; its next plan keeps to it.

    Args:
        flow_run: Its id, its name, or the address of its page.
        region_name: The region; ``None`` lets the trigger choose again.
        fleet: The fleet.
        known: For tests; by default the announced jobs.

    Returns:
        The run as it was.

    Raises:
        BadInput: There is no such run or region, or the run does not wait.
        ResidencyError: Its data may not be there.
    """
    async with get_client() as client:
        run = await find_run(client, flow_run)
        _require_waiting(run, "pinned")
        if region_name is not None:
            _require_region(run, region_name, fleet, known if known is not None else jobs())
        await client.update_flow_run_labels(run.id, {PINNED: region_name or ""})
    return run


def _wakes_anyway(run: FlowRun) -> bool:
    """Tell whether a worker has a run by now, or will in a moment."""
    if run.state is None or run.state.type is not StateType.SCHEDULED:
        return True
    due = run.state.state_details.scheduled_time
    return due is not None and due < datetime.now(UTC) + EARLY


def _require_waiting(run: FlowRun, what: str) -> None:
    if run.state is None or run.state.type is not StateType.SCHEDULED:
        state = run.state.name if run.state else "without a state"
        raise BadInput("flow_run", f"{run.name} is {state}", f"Only a waiting run can be {what}.")


def _require_region(run: FlowRun, region_name: str, fleet: Fleet, known: Mapping[str, Job]) -> None:
    """Refuse a region where the run's heavy stages have no pool, or their data may not be."""
    region(region_name, field="region")
    job = known.get(_job_name(run))
    if job is None:
        raise BadInput("flow_run", f"{run.name} is no run that the trigger has planned", "See why.")
    data_class = run.parameters.get("data_class")
    classes = dict.fromkeys(filter(None, (job.workload.data_class, data_class)))
    for stage in job.workload.stages:
        if not stage.heavy:
            continue
        there = [pool for pool in fleet.able(stage) if pool.region == region_name]
        if not there:
            others = sorted({pool.region for pool in fleet.able(stage)})
            raise BadInput(
                "region",
                f"there is no pool in {region_name} that can run stage {stage.name!r}",
                f"Use one of {', '.join(others)}.",
            )
        fleet.require_permitted(there[0], *classes)


def _job_name(run: FlowRun) -> str:
    return str(Hold.told(run.labels).get("job", ""))
