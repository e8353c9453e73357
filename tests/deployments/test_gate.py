"""The gate against a real server: runs of cron and of plain REST wait for their window and wake.

All wait at the same time, and what needs no waiting is tested until the minute of cron comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
)

from carbon import CarbonPolicy, Decision
from deployments import AWAITING, Schedule, gate
from deployments._hold import Hold
from deployments._render import render
from deployments._step_in import release_run
from tests.deployments.conftest import NEEDED, SPEED, register_pools
from tests.deployments.lab import JOB
from work_pools import PLANNER_LOCK

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from tests.deployments.conftest import Lab

pytestmark = pytest.mark.server

DAY = timedelta(days=1)
WAIT = timedelta(seconds=60)
"""From the minute of cron to the wake-up: enough for the first attempt and a redeploy.

A worker fetches a run 10 s before it is due, so it really waits for 10 s less.
"""


def policy(wait: timedelta) -> CarbonPolicy:
    """Return the policy that lets a run wait this long on the wall clock, on a falling grid."""
    minutes = (wait * SPEED + NEEDED) // timedelta(minutes=1)
    return CarbonPolicy(finish_by=f"{minutes}m")


@dataclass(frozen=True)
class Waiting:
    """What was asked for: the minute of cron, and the runs that were created by plain REST."""

    minute: datetime
    moved: UUID
    unplanned: UUID
    rest: UUID

    @property
    def wakes(self) -> datetime:
        """When the runs of cron and of REST wake by themselves."""
        return self.minute + WAIT


@pytest.fixture(scope="module")
def asked(lab: Lab) -> Waiting:
    """Deploy with a cron schedule for a minute that is near, and ask for two runs over REST."""
    minute = (datetime.now(UTC) + timedelta(seconds=80)).replace(second=0, microsecond=0)
    cron = Schedule(slug="soon", cron=f"{minute.minute} {minute.hour} * * *")
    job = JOB.model_copy(update={"policy": policy(WAIT), "schedules": (cron,)})
    (lab.folder / "prefect.yaml").write_text(render(lab.trigger.fleet, [job]))
    lab.deploy()
    # First: its deadline counts from the moment when it is created.
    until_wake = policy(minute + WAIT - datetime.now(UTC)).model_dump(mode="json")
    rest = _create(lab, {"label": "rest", "policy": until_wake})
    return Waiting(
        minute=minute,
        moved=_create(lab, {"label": "moved"}),
        unplanned=_create(lab, {"label": "unplanned"}, start=datetime.now(UTC) + DAY),
        rest=rest,
    )


@pytest.fixture(scope="module")
def waiting(lab: Lab, asked: Waiting) -> Mapping[str, FlowRun]:
    """Return the runs of cron and REST once both wait for their window."""
    cron = lab.until("cron has created a run", lambda: _of_cron(lab, asked.minute), seconds=30)
    left = (asked.minute - datetime.now(UTC)).total_seconds()
    return {
        name: lab.until(
            f"{name} waits",
            lambda run_id=run_id: run if _waits(run := lab.run(run_id)) else None,  # type: ignore[misc]
            seconds=max(left, 0) + 45,
        )
        for name, run_id in {"rest": asked.rest, "cron": cron.id}.items()
    }


def _create(lab: Lab, parameters: Mapping[str, Any], *, start: datetime | None = None) -> UUID:
    """Create a run as a service in another language does."""
    deployment = lab.client.read_deployment_by_name(JOB.entry_deployment)
    url = f"{lab.box.api_url}/deployments/{deployment.id}/create_flow_run"

    details = {"state_details": {"scheduled_time": start.isoformat()}} if start else {}
    body = {"parameters": parameters, "state": {"type": "SCHEDULED", **details}}

    def created() -> str | None:
        answer = httpx.post(url, json=body, timeout=30)
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return None  # SQLite is busy, and any client must then ask again
        assert answer.status_code == httpx.codes.CREATED, answer.text
        return str(answer.json()["id"])

    return UUID(lab.until("the server has made a run", created))


def _of_cron(lab: Lab, minute: datetime) -> FlowRun | None:
    runs = lab.client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[JOB.name])),
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=["entry"])),
    )
    found = [run for run in runs if run.auto_scheduled and run.expected_start_time == minute]
    return found[0] if found else None


def _waits(run: FlowRun) -> bool:
    return run.state_name == AWAITING


def _due(run: FlowRun) -> datetime:
    assert run.state
    assert run.state.state_details.scheduled_time
    return run.state.state_details.scheduled_time


def test_run_that_is_moved_to_now_goes_at_once(lab: Lab, asked: Waiting) -> None:
    """A person who starts a waiting run, or reschedules it to now, gets it now."""
    held = lab.until("the run waits", lambda: run if _waits(run := lab.run(asked.moved)) else None)
    lab.until("its process has ended", lambda: not lab.processes(asked.moved), seconds=30)
    assert asyncio.run(release_run(held.name)).id == asked.moved
    lab.until("a worker carries it out", lambda: lab.processes(asked.moved), seconds=30)
    run = lab.ended(asked.moved)
    assert run.state_name == "Completed"
    assert run.run_count == 2
    assert run.end_time
    assert run.end_time < _due(held), "it was over only after the start that was planned"


def test_run_that_is_started_before_it_was_planned_goes_at_once(lab: Lab, asked: Waiting) -> None:
    """A person starts a run that no gate has seen yet: its gate does not put it off."""
    asyncio.run(release_run(f"http://ui/runs/flow-run/{asked.unplanned}?tab=Logs"))
    run = lab.ended(asked.unplanned)
    assert run.state_name == "Completed"
    assert run.run_count == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"finish_by": "tomorrow"},
        {"only_regions": ["aws:mars"]},
        {"strategy": "cheapest"},
        {"max_cost_usd": -1},
        {"strategie": "run_now"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_policy_is_refused_over_rest(lab: Lab, wrong: dict[str, Any]) -> None:
    """The server itself refuses what the policy would refuse, before there is a run."""
    deployment = lab.client.read_deployment_by_name(JOB.entry_deployment)
    url = f"{lab.box.api_url}/deployments/{deployment.id}/create_flow_run"
    answer = httpx.post(url, json={"parameters": {"policy": wrong}}, timeout=30)
    assert answer.status_code == httpx.codes.CONFLICT, answer.text
    assert "policy" in answer.text


def test_gate_goes_on_without_its_lock(lab: Lab) -> None:
    """Somebody deletes the planner's lock: runs are planned all the same."""

    @flow(name="errand-without-lock")
    async def unlocked() -> Decision:
        return await gate(JOB, CarbonPolicy(), trigger=lab.trigger)

    async def main() -> Decision:
        async with get_client() as client:
            await client.delete_global_concurrency_limit_by_name(PLANNER_LOCK)
            return await unlocked()

    try:
        decision = asyncio.run(main())
    finally:
        asyncio.run(register_pools(lab.trigger))
    assert decision.chosen.main.pool == "lab-green"


@pytest.mark.parametrize("name", ["rest", "cron"])
def test_run_waits_and_holds_no_process(
    lab: Lab, waiting: Mapping[str, FlowRun], asked: Waiting, name: str
) -> None:
    """The first attempt ends, and until it is time no process of the run is alive."""
    run = waiting[name]
    lab.until("its process has ended", lambda: not lab.processes(run.id), seconds=30)
    assert _waits(lab.run(run.id))
    # Less than one per cent is not waited for, and the grid falls by four per cent in 3 s.
    early = asked.wakes - _due(run)
    assert timedelta(seconds=-1) < early < timedelta(seconds=5)
    assert run.state
    assert "carbon release" in (run.state.message or "")


@pytest.mark.parametrize("name", ["rest", "cron"])
def test_waiting_run_carries_its_plan(lab: Lab, waiting: Mapping[str, FlowRun], name: str) -> None:
    """The plan stands in the labels, where other runs' planners and people read it."""
    labels = lab.run(waiting[name].id).labels
    hold = Hold.read(labels)
    assert hold
    assert hold.deferrals == 1
    assert {slot.pool for slot in hold.slots} == {"lab-home", "lab-green"}
    assert abs(lab.trigger.clock.wall(hold.start) - _due(waiting[name])) < timedelta(seconds=1)
    told = Hold.told(labels)
    assert told["pool"] == "lab-green"
    assert "replay of falling-grid.csv" in str(told["outlook"])
    assert float(told["expected_g"]) > 0


@pytest.mark.parametrize("name", ["rest", "cron"])
def test_decision_is_shown_on_the_run(lab: Lab, waiting: Mapping[str, FlowRun], name: str) -> None:
    """Text, table and picture of the decision are on the run's page while it waits."""
    run_id = waiting[name].id
    wanted = {"decision-errand", "options-errand", "grid-errand"}
    shown = lab.until(
        "the decision is shown",
        lambda: found if wanted <= (found := lab.artifacts(run_id)).keys() else None,
        seconds=30,
    )
    assert "lab-green" in str(shown["decision-errand"].data)
    assert "at once at home" in str(shown["options-errand"].data)
    assert str(shown["grid-errand"].data).startswith("data:image/png;base64,iVBOR")


def test_redeploying_loses_no_waiting_run(
    lab: Lab, waiting: Mapping[str, FlowRun], asked: Waiting
) -> None:
    """`prefect deploy --all` while runs wait leaves them as they are."""
    lab.deploy()
    for before in waiting.values():
        after = lab.run(before.id)
        assert (after.state_name, _due(after)) == (AWAITING, _due(before))
    assert datetime.now(UTC) < asked.wakes, "the machine was too slow to say anything"


@pytest.mark.parametrize("name", ["rest", "cron"])
def test_run_wakes_by_itself_and_completes(
    lab: Lab, waiting: Mapping[str, FlowRun], name: str
) -> None:
    """At its planned start the same run goes on, without a further wait."""
    run = lab.ended(waiting[name].id, seconds=WAIT.total_seconds() + 60)
    assert run.state_name == "Completed"
    assert run.run_count == 2
    attempts = [
        state
        for state in lab.client.read_flow_run_states(run.id)
        if state.name == "Running" and state.timestamp > _due(waiting[name]) - timedelta(seconds=2)
    ]
    assert len(attempts) == 1
