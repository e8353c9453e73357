"""Submit against a real server: once for each key, at its time, or one clear error and nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

from carbon import (
    BadInput,
    CarbonAwareError,
    CarbonPolicy,
    DeadlinePassed,
    Fleet,
    ResidencyError,
)
from deployments import AWAITING, Job, NotDeployed, PrefectUnavailable, Submission, Trigger, submit
from deployments._hold import Hold
from tests.deployments.lab import JOB

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from tests.deployments.conftest import Lab

pytestmark = pytest.mark.server

Asking = Callable[[Trigger], dict[str, Any]]


def _submit_all(*orders: dict[str, Any]) -> list[Submission]:
    """Submit at the same moment, as independent callers do."""

    async def main() -> list[Submission]:
        return await asyncio.gather(*(submit(**{"job": JOB, **order}) for order in orders))

    return asyncio.run(main())


@pytest.fixture(scope="module")
def five(lab: Lab) -> list[Submission]:
    """Submit one logical run five times at once; it would wait for two minutes."""
    order = {"parameters": {"label": "five", "act": "complete"}, "key": "five"}
    return _submit_all(*[order | {"trigger": lab.trigger}] * 5)


def _children(lab: Lab, run_id: UUID) -> list[FlowRun]:
    below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_id]))
    return lab.client.read_flow_runs(flow_run_filter=below)


def test_same_key_five_times_at_once_is_one_run(lab: Lab, five: list[Submission]) -> None:
    """Five callers with one key get one run, and one of them is told that it made it."""
    (run_id,) = {made.flow_run_id for made in five}
    assert [made.created for made in five].count(True) == 1
    assert lab.run(run_id).state_name == AWAITING


def test_one_execution_in_the_chosen_pool(lab: Lab, five: list[Submission]) -> None:
    """Moved to now, the run begins at home and its heavy stage runs once, in the clean pool."""
    run_id = five[0].flow_run_id
    lab.client.set_flow_run_state(run_id, Scheduled())
    entry = lab.ended(run_id, seconds=90)
    (child,) = _children(lab, run_id)
    assert (entry.state_name, entry.work_pool_name) == ("Completed", "lab-home")
    assert (child.state_name, child.work_pool_name) == ("Completed", "lab-green")
    assert lab.executions("five") == 1


def test_restarted_run_does_not_repeat_its_heavy_stage(lab: Lab, five: list[Submission]) -> None:
    """A person restarts a run that has dispatched already: the stage's result is used again."""
    run_id = five[0].flow_run_id
    before = lab.run(run_id).run_count
    lab.client.set_flow_run_state(run_id, Scheduled(), force=True)
    lab.until("the run begins again", lambda: lab.run(run_id).run_count > before)
    assert lab.ended(run_id).state_name == "Completed"
    assert len(_children(lab, run_id)) == 1
    assert lab.executions("five") == 1


def test_two_runs_do_not_take_the_same_slot(lab: Lab) -> None:
    """Two runs, planned at the same moment for a pool of one slot, run one after the other."""
    fleet = lab.trigger.fleet
    small = fleet.pool("lab-green").model_copy(update={"capacity": 1})
    base = fleet.pool("lab-base")
    fleet = fleet.model_copy(update={"pools": (fleet.home_cpu, base, small)})
    trigger = replace(lab.trigger, fleet=Fleet.model_validate(fleet.model_dump()))
    policy = CarbonPolicy(only_regions=("aws:eu-north-1",))
    order = {"trigger": trigger, "policy": policy}
    made = _submit_all(order | {"key": "slot-1"}, order | {"key": "slot-2"})
    try:
        holds = [Hold.read(lab.run(one.flow_run_id).labels) for one in made]
        slots = sorted(
            (slot.start, slot.end)
            for hold in holds
            if hold
            for slot in hold.slots
            if slot.pool == "lab-green"
        )
        assert len(slots) == 2
        assert all(first_end <= start for (_, first_end), (start, _) in pairwise(slots))
    finally:
        for one in made:
            lab.client.delete_flow_run(one.flow_run_id)


def _undeployed() -> Job:
    workload = JOB.workload.model_copy(update={"name": "never-deployed"})
    return JOB.model_copy(update={"workload": workload})


@pytest.mark.parametrize(
    ("asking", "error", "told"),
    [
        pytest.param(
            lambda trigger: {"release": trigger.clock.now() - timedelta(days=2)},
            DeadlinePassed,
            "finish_by: ",
            id="deadline-in-the-past",
        ),
        pytest.param(
            lambda _: {"release": datetime(2026, 6, 1)},  # noqa: DTZ001 - the mistake
            BadInput,
            "release: ",
            id="release-without-zone",
        ),
        pytest.param(
            lambda _: {"data_class": "persnal"},
            BadInput,
            "Did you mean 'personal'?",
            id="unknown-data-class",
        ),
        pytest.param(
            lambda _: {"policy": CarbonPolicy(only_regions=("gcp:europe-west1",))},
            BadInput,
            "policy.only_regions: ",
            id="region-without-pool",
        ),
        pytest.param(
            lambda _: {
                "policy": CarbonPolicy(only_regions=("aws:us-west-2",)),
                "data_class": "personal",
            },
            ResidencyError,
            "may only be processed in EU",
            id="residency",
        ),
        pytest.param(
            lambda _: {"parameters": {"lable": "x"}},
            BadInput,
            "parameters.lable: this setting does not exist. Did you mean 'label'?",
            id="unknown-parameter",
        ),
        pytest.param(
            lambda _: {"parameters": {"label": ["x"]}},
            BadInput,
            "parameters.label: ['x'] ",
            id="parameter-of-another-type",
        ),
        pytest.param(
            lambda _: {"parameters": {"policy": {"strategy": "run_now"}}},
            BadInput,
            "parameters.policy: ",
            id="policy-as-a-parameter",
        ),
        pytest.param(
            lambda _: {
                "parameters": {"data_class": "personal"},
                "policy": CarbonPolicy(only_regions=("aws:us-west-2",)),
            },
            BadInput,
            "parameters.data_class: ",
            id="data-class-as-a-parameter",
        ),
        pytest.param(
            lambda _: {"key": " "},
            BadInput,
            "key: is empty",
            id="empty-key",
        ),
        pytest.param(
            lambda _: {"job": _undeployed()},
            NotDeployed,
            "never-deployed/entry",
            id="not-deployed",
        ),
    ],
)
def test_bad_order_is_one_clear_error(
    lab: Lab, asking: Asking, error: type[CarbonAwareError], told: str
) -> None:
    """What a caller got wrong is told in one line, and nothing is created."""
    before = _made(lab)
    with pytest.raises(error) as caught:
        _submit_all({"trigger": lab.trigger} | asking(lab.trigger))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _made(lab) == before


def _made(lab: Lab) -> set[UUID]:
    return {run.id for run in lab.client.read_flow_runs() if not run.auto_scheduled}


def test_unreachable_server_is_one_clear_error(lab: Lab) -> None:
    """Without a server the caller is told so, soon, and what to check."""
    began = datetime.now(UTC)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(PrefectUnavailable, match="PREFECT_API_URL") as caught,
    ):
        _submit_all({"trigger": lab.trigger})
    assert "\n" not in str(caught.value)
    assert datetime.now(UTC) - began < timedelta(seconds=20)
