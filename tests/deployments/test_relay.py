"""A stage that pauses, against a real server: its run lets go between two segments and comes back.

All go at the same time. Their first segment takes 96 s of life, for the server may stand still for
a minute of them, and the pause 76 s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Running

from carbon import CarbonPolicy
from deployments import AWAITING_SEGMENT, dispatch
from deployments._hold import EARLY
from deployments._picture import decision_picture
from deployments._stage_order import again
from deployments._step_in import release_run
from deployments._why import explain_run
from tests.deployments.lab import RELAY

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from tests.deployments.conftest import Lab

pytestmark = [pytest.mark.server, pytest.mark.long, pytest.mark.timeout(600)]

POLICY = CarbonPolicy(finish_by="77h")
LABELS = ("undisturbed", "started", "failed", "cancelled")


@dataclass(frozen=True)
class Leg:
    """A parent, and its stage's run while that pauses and at the end."""

    parent: FlowRun
    paused: FlowRun
    child: FlowRun
    told: str

    @property
    def message(self) -> str:
        """Message of the child's last state."""
        return (self.child.state.message if self.child.state else None) or ""


@pytest.fixture(scope="module")
def legs(lab: Lab) -> Mapping[str, Leg]:
    """One run for each thing that can happen while a stage pauses."""
    verdict = lab.trigger.decide(RELAY.workload, POLICY, POLICY.deadline(lab.trigger.clock.now()))
    decision_picture(verdict.decision, verdict.outlook)  # the first of both takes long
    storm = asyncio.Event()

    async def at_storm() -> None:
        await storm.wait()
        raise RuntimeError("a storm")

    @flow(name="relay-parent")
    async def parent(label: str) -> None:
        waits = dispatch(RELAY, "run", {"label": label}, POLICY, trigger=lab.trigger)
        await asyncio.gather(waits, *([at_storm()] if label == "failed" else []))

    async def run(label: str) -> UUID:
        state: State[None] = await parent(label, return_state=True)
        assert state.state_details.flow_run_id
        return state.state_details.flow_run_id

    async def disturb() -> dict[str, tuple[FlowRun, str]]:
        async with get_client() as client:
            paused = await _paused(lab, client)
            told = {label: (await explain_run(run.name)).text for label, run in paused.items()}
            storm.set()
            await release_run(paused["started"].name)
            await _cancel_parent(client, paused["cancelled"])
        return {label: (run, told[label]) for label, run in paused.items()}

    async def main() -> dict[str, tuple[UUID, FlowRun, str]]:
        async with asyncio.TaskGroup() as group:
            runs = {label: group.create_task(run(label)) for label in LABELS}
            told = group.create_task(disturb())
        return {label: (runs[label].result(), *told.result()[label]) for label in LABELS}

    return {
        label: Leg(lab.run(run_id), paused, lab.ended(paused.id, seconds=150), told)
        for label, (run_id, paused, told) in asyncio.run(main()).items()
    }


async def _paused(lab: Lab, client: PrefectClient) -> dict[str, FlowRun]:
    """Return the stages' runs by label once all of them have paused."""
    paused: dict[str, FlowRun] = {}
    for _ in range(360):
        for run in await client.read_flow_runs(limit=50):
            if run.state_name == AWAITING_SEGMENT:
                paused.setdefault(str(run.parameters["label"]), run)
        if paused.keys() == set(LABELS):
            return paused
        await asyncio.sleep(0.5)
    pytest.fail(f"only {sorted(paused)} have paused\n{lab.report()}")


async def _cancel_parent(client: PrefectClient, child: FlowRun) -> None:
    """Cancel the run that a stage belongs to, and the stage when it should have gone on."""
    assert child.parent_task_run_id
    parent = (await client.read_task_run(child.parent_task_run_id)).flow_run_id
    assert parent
    await client.set_flow_run_state(parent, Cancelled(message="not needed"))
    left = _resumes(child) - datetime.now(UTC)
    await asyncio.sleep(left.total_seconds() + 15)
    run = await client.read_flow_run(child.id)
    assert run.state_name in {"Cancelling", "Cancelled"}
    # No process is there to be ended, which Prefect finds out after five minutes only.
    await client.set_flow_run_state(child.id, Cancelled())


def _resumes(run: FlowRun) -> datetime:
    assert run.state
    assert run.state.state_details.scheduled_time
    return run.state.state_details.scheduled_time


def _attempts(client: SyncPrefectClient, run: FlowRun) -> list[datetime]:
    states = client.read_flow_run_states(run.id)
    return [state.timestamp for state in states if state.name == "Running"]


def test_a_stage_pauses_once_and_completes(lab: Lab, legs: Mapping[str, Leg]) -> None:
    """One run with two attempts, the second one in the second segment; the parent waits for it."""
    leg = legs["undisturbed"]
    below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[leg.parent.id]))
    assert [run.id for run in lab.client.read_flow_runs(flow_run_filter=below)] == [leg.child.id]
    assert (leg.parent.state_name, leg.child.state_name) == ("Completed", "Completed")
    assert lab.executions("undisturbed") == len(_attempts(lab.client, leg.child)) == 2
    assert leg.child.end_time
    assert (
        leg.child.end_time > _resumes(leg.paused) - EARLY
    )  # workers fetch runs before they are due


def test_a_pause_counts_as_no_run_time(legs: Mapping[str, Leg]) -> None:
    """What tells whether a run keeps to its plan is the time that it has run."""
    leg = legs["undisturbed"]
    assert leg.child.start_time
    assert leg.child.end_time
    taken = leg.child.end_time - leg.child.start_time
    assert taken - leg.child.total_run_time > timedelta(seconds=50)


def test_a_paused_run_says_what_it_does(legs: Mapping[str, Leg]) -> None:
    """Its state and `carbon why` say when it goes on, and how to make it."""
    told = legs["undisturbed"].told
    for text in ("segment 1 of 2", "goes on by itself", "carbon release", "In segments", "Jun"):
        assert text in told


def test_a_paused_run_that_is_started_goes_to_its_end(lab: Lab, legs: Mapping[str, Leg]) -> None:
    """A person does not wait for the next segment, and the run does not pause again."""
    leg = legs["started"]
    assert (leg.parent.state_name, leg.child.state_name) == ("Completed", "Completed")
    assert lab.executions("started") == 2
    assert leg.child.end_time
    assert leg.child.end_time < _resumes(leg.paused)


def test_a_stage_does_not_go_on_for_a_run_that_was_cancelled(
    lab: Lab, legs: Mapping[str, Leg]
) -> None:
    """Prefect cancels it too, and it does not wake."""
    assert legs["cancelled"].child.state_name == "Cancelled"
    assert lab.executions("cancelled") == 1


def test_a_stage_of_a_run_that_has_failed_is_taken_up_by_its_retry(
    lab: Lab, legs: Mapping[str, Leg]
) -> None:
    """It cancels itself on waking and says why; dispatched again it goes on, whole."""
    leg = legs["failed"]
    assert (leg.parent.state_name, leg.child.state_name) == ("Failed", "Cancelled")
    assert f"{leg.parent.name}, which it is a stage of, has ended as Failed" in leg.message
    assert lab.executions("failed") == 1

    async def retried() -> None:
        async with get_client() as client:
            await client.set_flow_run_state(leg.parent.id, Running(), force=True)
            await again(client, leg.child, logging.getLogger("test"))

    asyncio.run(retried())
    lab.until("it starts again", lambda: lab.executions("failed") == 2)
    child = lab.ended(leg.child.id)
    assert child.state_name == "Completed"
    assert child.labels["carbon.segments"] == "none"
