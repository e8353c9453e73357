"""Stages whose pool is down, full or breaks them, against a real server with real workers.

All happen at the same time, for most of it is waiting: a full pool is given a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelling, Crashed, Scheduled

from carbon import CarbonPolicy, Strategy
from deployments import dispatch
from deployments._attempts import number_of
from tests.deployments.lab import JOB

if TYPE_CHECKING:
    from tests.deployments.conftest import Lab

pytestmark = [pytest.mark.server, pytest.mark.long, pytest.mark.timeout(600)]

GREEN, FAR = "lab-green", "lab-far"
ANYWHERE = CarbonPolicy(finish_by="48h")


@dataclass(frozen=True)
class Rescue:
    """A parent that dispatched, and the attempts of its stage."""

    parent: FlowRun
    attempts: list[FlowRun]

    @property
    def told(self) -> list[tuple[str | None, str | None]]:
        """Pool and state of each attempt."""
        return [(run.work_pool_name, run.state_name) for run in self.attempts]


class Scene:
    """Parents that dispatch in this process, and what happens to their stages' runs."""

    def __init__(self, lab: Lab, client: PrefectClient) -> None:
        self.lab = lab
        self.client = client
        self.parents: dict[str, UUID] = {}

    async def parent(
        self, label: str, act: str = "complete", data_class: str = "public", *, dies: bool = False
    ) -> None:
        """Dispatch one stage under a label; `dies` lets the parent fail while it waits."""
        given = {"label": label, "act": act, "data_class": data_class}

        async def storm() -> None:
            await self.child(label)
            raise RuntimeError("a storm")

        @flow(name="rescue-parent", flow_run_name=f"rescue-{label}")
        async def rescue() -> None:
            for _ in range(2):  # a retry finds what has completed
                waits = dispatch(
                    JOB, "carry", given, ANYWHERE, data_class=data_class, trigger=self.lab.trigger
                )
                await asyncio.gather(waits, *([storm()] if dies else []))

        state: State[None] = await rescue(return_state=True)
        assert state.state_details.flow_run_id
        self.parents[label] = state.state_details.flow_run_id
        assert dies or state.is_completed(), state

    async def child(
        self, label: str, number: int = 0, *, state: str = "", seconds: float = 150
    ) -> FlowRun:
        """Return an attempt once it is there, and in a state."""

        async def found() -> FlowRun | None:
            for run in await self.client.read_flow_runs(limit=100):
                mine = run.parameters.get("label") == label and run.parent_task_run_id
                if mine and number_of(run) == number and state in {"", run.state_name}:
                    return run
            return None

        return await self.until(f"{label} has attempt {number} {state}", found, seconds)

    async def until(
        self, what: str, found: Callable[[], Awaitable[FlowRun | None]], seconds: float = 150
    ) -> FlowRun:
        """Ask until there is an answer."""
        for _ in range(int(seconds * 2)):
            if value := await found():
                return value
            await asyncio.sleep(0.5)
        pytest.fail(f"waited {seconds:.0f} s in vain until {what}\n{self.lab.report()}")

    async def pool(self, name: str, *, limit: int = 4, paused: bool = False) -> None:
        """Let a pool start so many runs at a time."""
        update = WorkPoolUpdate(concurrency_limit=limit, is_paused=paused)
        await self.client.update_work_pool(name, update)

    def rescues(self) -> dict[str, Rescue]:
        """Return what has become of all of them."""
        return {
            label: Rescue(self.lab.run(parent), self.lab.below(parent))
            for label, parent in self.parents.items()
        }


@pytest.fixture(scope="module")
def rescues(lab: Lab) -> Mapping[str, Rescue]:
    """The clean pool has no room, and then it is paused, while stages wait in it."""

    async def main() -> dict[str, Rescue]:
        async with get_client() as client:
            scene = Scene(lab, client)
            try:
                await scene.pool(GREEN, limit=0)
                async with asyncio.TaskGroup() as group:
                    for label in ("full", "restarted"):
                        group.create_task(scene.parent(label))
                    group.create_task(scene.parent("stays", data_class="personal"))
                    group.create_task(scene.parent("orphan", data_class="personal", dies=True))
                    group.create_task(_paused(scene, group))
            finally:
                await scene.pool(GREEN)
            return scene.rescues()

    return asyncio.run(main())


async def _paused(scene: Scene, group: asyncio.TaskGroup) -> None:
    """Pause the pool once one stage has left it for want of room; open it in the end."""
    await scene.child("full", 1)
    await scene.child("restarted", 1)
    paused = group.create_task(scene.parent("paused"))
    await scene.child("paused")
    await scene.pool(GREEN, limit=0, paused=True)
    await paused
    stays = await scene.child("stays")
    assert stays.state
    assert stays.state.is_scheduled(), stays.state_name
    await scene.pool(GREEN)
    # Somebody starts a run again that was withdrawn.
    withdrawn = await scene.child("restarted")
    await scene.client.set_flow_run_state(withdrawn.id, Scheduled())
    await scene.child("orphan", state="Cancelled")
    await scene.child("restarted", state="Withdrawn")


@pytest.mark.parametrize("label", ["full", "paused", "restarted"])
def test_stage_that_does_not_begin_goes_elsewhere(
    lab: Lab, rescues: Mapping[str, Rescue], label: str
) -> None:
    """It is withdrawn from a full or a paused pool and run once, in the next best one."""
    rescue = rescues[label]
    assert rescue.parent.state_name == "Completed"
    assert rescue.told == [(GREEN, "Withdrawn"), (FAR, "Completed")]
    assert lab.executions(label) == 1


@pytest.mark.parametrize(
    ("label", "reason"),
    [("full", "has not begun there within"), ("paused", "is paused in Prefect")],
)
def test_it_is_told_why_a_stage_went_elsewhere(
    lab: Lab, rescues: Mapping[str, Rescue], label: str, reason: str
) -> None:
    """The state of the withdrawn run and the decision on the parent give the reason."""
    state = rescues[label].attempts[0].state
    assert state
    assert reason in (state.message or "")
    assert reason in str(lab.artifacts(rescues[label].parent.id)["refusals-errand"].data)


def test_withdrawn_run_never_begins(lab: Lab, rescues: Mapping[str, Rescue]) -> None:
    """Whoever starts it again starts nothing: its guard sees that another run stands in for it."""
    assert rescues["restarted"].attempts[0].run_count == 1
    assert lab.executions("restarted") == 1


def test_stage_without_another_permitted_pool_waits(
    lab: Lab, rescues: Mapping[str, Rescue]
) -> None:
    """It stays where it is, and completes as the same run when its pool takes runs again."""
    assert rescues["stays"].told == [(GREEN, "Completed")]
    assert lab.executions("stays") == 1


def test_stage_of_a_run_that_has_ended_does_not_begin(
    lab: Lab, rescues: Mapping[str, Rescue]
) -> None:
    """Its guard cancels it, and says who must be retried."""
    rescue = rescues["orphan"]
    assert rescue.parent.state_name == "Failed"
    assert rescue.told == [(GREEN, "Cancelled")]
    state = rescue.attempts[0].state
    assert state
    assert "rescue-orphan, which it is a stage of, has ended as Failed" in (state.message or "")
    assert lab.executions("orphan") == 0


@dataclass(frozen=True)
class Crashes:
    """What has become of crashed stages, and whether a process lived on beside its successor."""

    rescues: Mapping[str, Rescue]
    overlapped: bool
    cancelled: FlowRun
    left: int


@pytest.fixture(scope="module")
def crashes(lab: Lab) -> Crashes:
    """One process dies, another one is only said to have died; a third one's entry is cancelled."""

    async def main() -> Crashes:
        async with get_client() as client:
            scene = Scene(lab, client)
            async with asyncio.TaskGroup() as group:
                group.create_task(scene.parent("crashed", "crash-once"))
                group.create_task(scene.parent("said-dead", "sleep-once"))
                overlapped = group.create_task(_said_dead(scene))
                cancelled = group.create_task(_cancelled(scene))
            child = cancelled.result()
            left = len(lab.processes(child.id))
            return Crashes(scene.rescues(), overlapped.result(), child, left)

    return asyncio.run(main())


async def _said_dead(scene: Scene) -> bool:
    """Mark a run as crashed whose process lives; tell whether it lived when the next one began."""
    await scene.until("it is at work", lambda: _at_work(scene, "said-dead"))
    child = await scene.child("said-dead", state="Running")
    message = "No heartbeat for five minutes"
    await scene.client.set_flow_run_state(child.id, Crashed(message=message))
    assert scene.lab.processes(child.id)
    await scene.child("said-dead", 1, seconds=200)
    return bool(scene.lab.processes(child.id))


async def _at_work(scene: Scene, label: str) -> FlowRun | None:
    return await scene.child(label) if scene.lab.executions(label) else None


async def _cancelled(scene: Scene) -> FlowRun:
    """Cancel an entry run whose stage is at work, and return the stage's run when it has ended."""
    entry = await scene.client.read_deployment_by_name(JOB.entry_deployment)
    policy = CarbonPolicy(strategy=Strategy.RUN_NOW, only_regions=("aws:us-west-2",))
    given = {"label": "entry-cancelled", "act": "sleep", "policy": policy.model_dump(mode="json")}
    run = await scene.client.create_flow_run_from_deployment(entry.id, parameters=given)
    await scene.until("the stage is at work", lambda: _at_work(scene, "entry-cancelled"))
    child = await scene.child("entry-cancelled", state="Running")
    await scene.client.set_flow_run_state(run.id, Cancelling())
    below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
    assert [one.id for one in await scene.client.read_flow_runs(flow_run_filter=below)] == [
        child.id
    ]
    return await scene.child("entry-cancelled", state="Cancelled")


def test_crashed_stage_is_repeated_elsewhere(lab: Lab, crashes: Crashes) -> None:
    """What the infrastructure broke is run again as another run; a retry finds that one."""
    rescue = crashes.rescues["crashed"]
    assert rescue.parent.state_name == "Completed"
    assert rescue.told == [(GREEN, "Crashed"), (FAR, "Completed")]
    assert rescue.attempts[1].name == f"{rescue.parent.name}-carry-2"
    assert lab.executions("crashed") == 2


def test_stage_that_is_said_to_be_dead_never_runs_twice_at_a_time(
    lab: Lab, crashes: Crashes
) -> None:
    """Its process ends itself, and the next attempt waits for that."""
    rescue = crashes.rescues["said-dead"]
    assert not crashes.overlapped
    assert rescue.parent.state_name == "Completed"
    assert [state for _, state in rescue.told] == ["Crashed", "Completed"]
    assert lab.executions("said-dead") == 2


def test_stage_is_cancelled_with_its_entry_run(lab: Lab, crashes: Crashes) -> None:
    """Cancelling the entry run ends the stage's process, and nothing takes over."""
    assert crashes.cancelled.state_name == "Cancelled"
    assert crashes.left == 0
    assert lab.executions("entry-cancelled") == 1
