"""Dispatch against a real server: the parent runs in this process, its children in a worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.states import Cancelling

from carbon import CarbonPolicy, ResidencyError
from deployments import Job, NotDeployed, StageFailed, dispatch
from tests.deployments.lab import JOB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.deployments.conftest import Lab

pytestmark = pytest.mark.server

POLICY = CarbonPolicy()
ACTS = ("twice", "fail-once", "fail", "crash", "sleep")


@dataclass(frozen=True)
class Family:
    """A parent that dispatched, as Prefect shows it."""

    parent: FlowRun
    children: list[FlowRun]
    task_runs: list[TaskRun]

    @property
    def message(self) -> str:
        """Message of the parent's last state."""
        return (self.parent.state.message if self.parent.state else None) or ""


@pytest.fixture(scope="module")
def families(lab: Lab) -> Mapping[str, Family]:
    """One family for each thing that a child can do; all run at the same time."""

    @flow(name="errand-parent")
    async def parent(act: str) -> UUID:
        given = {"label": f"dispatch-{act}", "act": act, "data_class": "personal"}

        async def once() -> FlowRun:
            return await dispatch(
                JOB, "carry", given, POLICY, data_class="personal", trigger=lab.trigger
            )

        if act == "fail-once":
            with pytest.raises(StageFailed):
                await once()
        if act != "twice":
            return (await once()).id
        given["act"] = "complete"
        first, second = await asyncio.gather(once(), once())
        third = await once()
        assert first.id == second.id == third.id
        return first.id

    async def main() -> dict[str, UUID]:
        ids: dict[str, UUID] = {}

        async def run(act: str) -> None:
            state: State[UUID] = await parent(act, return_state=True)
            assert state.state_details.flow_run_id
            ids[act] = state.state_details.flow_run_id

        await asyncio.gather(_cancel(lab, "sleep"), *(run(act) for act in ACTS))
        return ids

    ids = asyncio.run(main())
    return {act: _family(lab, run_id) for act, run_id in ids.items()}


async def _cancel(lab: Lab, act: str) -> None:
    """Cancel the child once it runs, as a person does in the UI."""
    async with get_client() as client:
        for _ in range(240):
            for run in await client.read_flow_runs(limit=50):
                is_child = run.parent_task_run_id and run.parameters.get("act") == act
                if is_child and run.state_name == "Running":
                    await client.set_flow_run_state(run.id, Cancelling(message="not needed"))
                    return
            await asyncio.sleep(0.5)
    pytest.fail(f"no child to cancel\n{lab.report()}")


def _family(lab: Lab, parent: UUID) -> Family:
    own = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[parent]))
    return Family(
        lab.run(parent),
        lab.below(parent),
        lab.client.read_task_runs(task_run_filter=own),
    )


def test_child_is_a_subflow_in_another_pool(families: Mapping[str, Family]) -> None:
    """The stage runs in the clean pool, as a subflow of its parent, under a name that says so."""
    family = families["twice"]
    (child,), (task_run,) = family.children, family.task_runs
    assert child.work_pool_name == "lab-green"
    assert child.parent_task_run_id == task_run.id
    assert child.name == f"{family.parent.name}-carry"
    assert child.state_name == "Completed"


def test_same_stage_is_executed_once(lab: Lab, families: Mapping[str, Family]) -> None:
    """Dispatching the same stage three times, twice at the same moment, executes it once."""
    assert families["twice"].parent.state_name == "Completed"
    assert lab.executions("dispatch-twice") == 1


def test_failed_stage_is_retried_as_the_same_run(lab: Lab, families: Mapping[str, Family]) -> None:
    """When the entry run comes again, its failed stage is executed again, in the same run."""
    family = families["fail-once"]
    (child,) = family.children
    assert (family.parent.state_name, child.state_name) == ("Completed", "Completed")
    assert lab.executions("dispatch-fail-once") == 2


@pytest.mark.parametrize(
    ("act", "state", "reason"),
    [
        ("fail", "Failed", "the parcel is broken"),
        ("crash", "Crashed", "status code: 7"),
        ("sleep", "Cancelled", ""),
    ],
)
def test_parent_fails_with_its_child(
    families: Mapping[str, Family], act: str, state: str, reason: str
) -> None:
    """The parent of a child that did not complete fails with the child's name, state and reason."""
    family = families[act]
    *_, child = family.children
    assert child.state_name == state
    assert family.parent.state_name == "Failed"
    for told in ("StageFailed", "'carry'", "'lab-green'", repr(child.name), state, reason):
        assert told in family.message


@pytest.mark.parametrize("act", ACTS)
def test_no_task_run_is_left_pending(families: Mapping[str, Family], act: str) -> None:
    """The task run that stands for the child in the parent's graph ends with it."""
    for task_run in families[act].task_runs:
        assert task_run.state
        assert task_run.state.is_final(), task_run.state_name


def test_stage_that_crashes_again_and_again_is_given_up(
    lab: Lab, families: Mapping[str, Family]
) -> None:
    """Three attempts are made in all; what failed by its own fault, or was cancelled, has one."""
    attempts = [child.state_name for child in families["crash"].children]
    assert attempts == ["Crashed"] * lab.executions("dispatch-crash") == ["Crashed"] * 3
    for act in ("fail", "sleep"):
        assert lab.executions(f"dispatch-{act}") == len(families[act].children) == 1


def test_pool_without_a_worker_is_refused_by_name(lab: Lab, families: Mapping[str, Family]) -> None:
    """Nobody waits in a pool where nothing starts, and the decision says why it was left out."""
    refusals = lab.artifacts(families["fail"].parent.id)["refusals-errand"]
    assert "lab-base" in str(refusals.data)
    assert "no worker of the pool is online" in str(refusals.data)


def test_decision_of_the_stage_is_on_the_parent(lab: Lab, families: Mapping[str, Family]) -> None:
    """Why the stage runs where it does is shown on the run that dispatched it."""
    assert lab.artifacts(families["fail"].parent.id).keys() >= {
        "decision-errand",
        "options-errand",
        "refusals-errand",
        "grid-errand",
    }


def test_stage_without_deployment_fails_before_a_run_exists(lab: Lab) -> None:
    """A missing execution deployment is one clear error, and no task run is left behind."""
    absent = JOB.model_copy(
        update={"workload": JOB.workload.model_copy(update={"name": "never-deployed"})}
    )
    parent = _alone(lab, absent, POLICY)
    assert isinstance(parent, NotDeployed)
    assert "prefect deploy --all" in str(parent)


def test_stage_without_permitted_pool_is_refused(lab: Lab) -> None:
    """Dispatch never falls back to a pool that residency or the policy forbids."""
    only_far = CarbonPolicy(only_regions=("aws:us-west-2",))
    assert isinstance(_alone(lab, JOB, only_far), ResidencyError)


def _alone(lab: Lab, job: Job, policy: CarbonPolicy) -> BaseException:
    """Dispatch and return the error; nothing may be left in the parent's graph."""

    @flow(name="errand-alone")
    async def parent() -> None:
        await dispatch(
            job,
            "carry",
            {"label": "alone", "act": "complete"},
            policy,
            data_class="personal",
            trigger=lab.trigger,
        )

    async def main() -> State[None]:
        return await parent(return_state=True)

    state = asyncio.run(main())
    assert state.type is StateType.FAILED
    assert state.state_details.flow_run_id
    family = _family(lab, state.state_details.flow_run_id)
    assert not family.children
    assert not family.task_runs
    error = asyncio.run(state.aresult(raise_on_failure=False))
    assert isinstance(error, BaseException)
    return error


def test_dispatch_outside_a_flow_says_so(lab: Lab) -> None:
    """Called from plain code, dispatch says where it belongs."""
    with pytest.raises(RuntimeError, match="inside a flow run"):
        asyncio.run(dispatch(JOB, "carry", {}, POLICY, trigger=lab.trigger))
