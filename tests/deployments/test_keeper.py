"""The keeper, the switch and stepping in, on a real server with runs that wait for their window.

The runs are submitted with two weeks of slack, half an hour of life: none wakes while it is tested,
and no worker has anything to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitUpdate,
    VariableUpdate,
    WorkPoolUpdate,
)
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventIDFilter
from prefect.exceptions import Abort
from prefect.logging import get_logger
from prefect.states import Crashed, Pending, Running, Scheduled

from carbon import BadInput, CarbonPolicy, ResidencyError
from deployments import AWAITING, Trigger, submit
from deployments._gate import _pass
from deployments._hold import HELD, Hold
from deployments._keeper import keep
from deployments._keeper_report import Change, KeeperReport
from deployments._lock import planning
from deployments._mode import Mode, Switch, read_switch, set_switch
from deployments._outage import patiently
from deployments._passage import Passage
from deployments._status import read_status
from deployments._step_in import pin_run, release_run
from deployments._why import explain_run
from tests.deployments.lab import JOB
from work_pools import PLANNER_LOCK

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from tests.deployments.conftest import Lab

pytestmark = pytest.mark.server

LONG = CarbonPolicy(finish_by="14d")
JOBS = {JOB.name: JOB}


@pytest.fixture
def alone(lab: Lab) -> Iterator[Lab]:
    """Set the switch to auto and remove the runs that wait, before and after a test."""
    asyncio.run(_clean())
    yield lab
    asyncio.run(_clean())


async def _clean() -> None:
    async with get_client() as client:
        await set_switch(client, Mode.AUTO, None)
        await set_switch(client, Mode.AUTO, JOB.name)
        for run in await client.read_flow_runs(limit=200):
            if run.state_name in {AWAITING, HELD}:
                await client.delete_flow_run(run.id)


def made(lab: Lab, count: int = 1, policy: CarbonPolicy = LONG) -> list[UUID]:
    """Submit runs that wait."""

    async def all_of_them() -> list[UUID]:
        found = [
            await submit(JOB, {"label": "kept"}, policy=policy, trigger=lab.trigger)
            for _ in range(count)
        ]
        return [one.flow_run_id for one in found]

    runs = asyncio.run(all_of_them())
    assert all(lab.run(run).state_name == AWAITING for run in runs)
    return runs


def kept(trigger: Trigger, at_once: int = 1) -> list[KeeperReport]:
    """Make passes of the keeper, several at the same time."""

    async def passes() -> list[KeeperReport]:
        async with get_client() as client:
            log = get_logger("keeper")
            return list(
                await asyncio.gather(*(keep(client, trigger, JOBS, log) for _ in range(at_once)))
            )

    return asyncio.run(passes())


def changes(reports: list[KeeperReport]) -> list[tuple[str, UUID]]:
    """Return what was done with which runs."""
    return [(one.what.value, one.flow_run_id) for report in reports for one in report.changes]


def switched(mode: Mode, job: str | None = None) -> None:
    """Set the switch."""

    async def set_it() -> None:
        async with get_client() as client:
            await set_switch(client, mode, job)

    asyncio.run(set_it())


def without(trigger: Trigger, pool: str) -> Trigger:
    """Return a trigger whose fleet has lost a pool."""
    pools = tuple(one for one in trigger.fleet.pools if one.name != pool)
    return replace(trigger, fleet=trigger.fleet.model_copy(update={"pools": pools}))


def due(run: FlowRun) -> datetime:
    """Return when Prefect starts a run."""
    assert run.state
    assert run.state.state_details.scheduled_time
    return run.state.state_details.scheduled_time


def plan_of(run: FlowRun) -> Hold:
    """Return the plan that a run carries."""
    hold = Hold.read(run.labels)
    assert hold
    return hold


def test_nothing_is_done_where_nothing_has_changed(alone: Lab) -> None:
    """A pass is level-triggered: on runs that are where they should be it does nothing."""
    runs = made(alone, 2)
    before = [alone.run(run).state for run in runs]
    assert changes(kept(alone.trigger)) == []
    assert [alone.run(run).state for run in runs] == before


def test_a_run_whose_pool_has_gone_is_moved_once_by_two_keepers(alone: Lab) -> None:
    """Two passes at once move it once; state, labels and artifact tell the new place."""
    (run,) = made(alone)
    assert plan_of(alone.run(run)).decision["pool"] == "lab-green"
    reports = kept(without(alone.trigger, "lab-green"), at_once=2)
    assert changes(reports) == [("moved", run)]
    after = alone.run(run)
    assert after.state_name == AWAITING
    assert plan_of(after).decision["pool"] == "lab-far"
    assert "aws:us-west-2" in (after.state.message if after.state else "")
    alone.until(  # submit tells when nobody waits any more
        "both decisions are told", lambda: len(asyncio.run(explain_run(str(run))).decisions) == 2
    )
    (why,) = (one.why for report in reports for one in report.changes)
    assert "no pool of the fleet any more" in why


def test_runs_are_spread_when_capacity_shrinks(alone: Lab) -> None:
    """Four wait for the same slots; with two left, two are given others, and none is late."""
    runs = made(alone, 4)
    first = {plan_of(alone.run(run)).decision["pool"] for run in runs}
    assert first == {"lab-green"}
    pools = tuple(
        pool.model_copy(update={"capacity": 2}) if pool.name == "lab-green" else pool
        for pool in alone.trigger.fleet.pools
    )
    fleet = alone.trigger.fleet.model_copy(update={"pools": pools})
    found = changes(kept(replace(alone.trigger, fleet=fleet)))
    assert [what for what, _ in found] == ["moved", "moved"]
    plans = [plan_of(alone.run(run)) for run in runs]
    at_last = max(plan.start for plan in plans)
    assert (
        sum(
            plan.decision["pool"] == "lab-green" and abs(plan.start - at_last) < timedelta(hours=1)
            for plan in plans
        )
        <= 2
    )
    assert all(plan.start <= plan.latest_safe_start for plan in plans)


def test_a_run_that_a_person_has_moved_is_left_alone(alone: Lab) -> None:
    """Who has re-timed a run in the UI has the last word."""
    (run,) = made(alone)
    later = due(alone.run(run)) + timedelta(minutes=5)
    alone.client.set_flow_run_state(run, Scheduled(scheduled_time=later, name=AWAITING))
    assert changes(kept(without(alone.trigger, "lab-green"))) == []
    assert due(alone.run(run)) == later


@asynccontextmanager
async def dying(client: PrefectClient, method: str) -> AsyncIterator[None]:
    """Let a method of the client end the keeper."""
    real: Callable[..., Awaitable[Any]] = getattr(client, method)

    async def die(*_: object, **__: object) -> None:
        raise SystemExit(9)

    setattr(client, method, die)
    try:
        yield
    finally:
        setattr(client, method, real)


@pytest.mark.parametrize("method", ["set_flow_run_state", "update_flow_run_labels"])
def test_a_keeper_killed_in_the_middle_of_a_move_harms_nothing(alone: Lab, method: str) -> None:
    """The run keeps a wake-up before its latest safe start, and the next pass ends the move."""
    (run,) = made(alone)
    trigger = without(alone.trigger, "lab-green")

    async def killed() -> None:
        async with get_client() as client, dying(client, method):
            await keep(client, trigger, JOBS, get_logger("keeper"))

    with pytest.raises(SystemExit):
        asyncio.run(killed())
    half = alone.run(run)
    assert half.state_name == AWAITING
    assert due(half) <= alone.trigger.clock.wall(plan_of(half).latest_safe_start)
    # Woken as it is, its gate must not take it for somebody's wish.
    assert plan_of(half).start <= alone.trigger.clock.grid(due(half)) + timedelta(seconds=1)
    kept(trigger)
    assert plan_of(alone.run(run)).decision["pool"] == "lab-far"


@contextmanager
def paused(lab: Lab, pool: str) -> Iterator[None]:
    """Let no worker take anything from a pool."""
    lab.client.update_work_pool(pool, WorkPoolUpdate(is_paused=True))
    try:
        yield
    finally:
        lab.client.update_work_pool(pool, WorkPoolUpdate(is_paused=False))


def test_the_switch_to_run_now_makes_twenty_waiting_runs_due(alone: Lab) -> None:
    """One pass is enough; back at auto, nothing happens to them. The chaos run really runs them."""
    runs = made(alone, 20)
    with paused(alone, "lab-home"):
        switched(Mode.RUN_NOW)
        began = datetime.now(UTC)
        assert sorted(changes(kept(alone.trigger))) == sorted(("released", run) for run in runs)
        assert datetime.now(UTC) - began < timedelta(seconds=60)
        assert all(due(alone.run(run)) <= datetime.now(UTC) for run in runs)
        switched(Mode.AUTO)
        assert changes(kept(alone.trigger)) == []
        for run in runs:
            alone.client.delete_flow_run(run)


def test_the_switch_of_a_job_and_a_slip_of_the_keyboard(alone: Lab) -> None:
    """The one for all wins unless it says auto; what is no mode is ignored and told."""

    async def ask() -> tuple[Mode, Mode, str]:
        async with get_client() as client:
            await set_switch(client, Mode.SHADOW, JOB.name)
            own = (await read_switch(client, JOB.name)).mode
            await set_switch(client, Mode.HOLD, None)
            every = (await read_switch(client, JOB.name)).mode
            await client.update_variable(VariableUpdate(name="carbon_mode", value="runnow"))
            slip = await read_switch(client, JOB.name)
            return own, every, slip.note

    del alone
    own, every, note = asyncio.run(ask())
    assert (own, every) == (Mode.SHADOW, Mode.HOLD)
    assert "'runnow', not one of auto, run_now" in note


def test_a_held_run_waits_until_the_switch_says_something_else(alone: Lab) -> None:
    """It wakes, is held back and told so; at auto the keeper lets it be planned anew."""
    (run,) = made(alone)
    switched(Mode.HOLD)
    assert changes(kept(alone.trigger)) == []
    alone.client.set_flow_run_state(run, Scheduled(name=AWAITING))  # its time has come
    _forget_wish(alone, run)
    held = alone.until(
        "the run is held", lambda: one if (one := alone.run(run)).state_name == HELD else None
    )
    assert "carbon_mode is hold_deferrable" in (held.state.message if held.state else "")
    switched(Mode.AUTO)
    assert changes(kept(alone.trigger)) == [("released", run)]
    after = alone.until(
        "it is planned anew",
        lambda: one if (one := alone.run(run)).state_name == AWAITING else None,
    )
    assert plan_of(after).start > alone.trigger.clock.now()


def _forget_wish(lab: Lab, run: UUID) -> None:
    """Let a run that was woken look as if its planned start had come."""
    lab.client.update_flow_run_labels(run, Hold.starting(lab.trigger.clock.now()))


def test_shadow_mode_records_and_changes_nothing(alone: Lab) -> None:
    """A new run starts at once at home; its artifact says what would have been decided."""
    switched(Mode.SHADOW)
    deployment = alone.client.read_deployment_by_name(JOB.entry_deployment)
    run = alone.client.create_flow_run_from_deployment(
        deployment.id, parameters={"label": "shadow", "policy": {"finish_by": "14d"}}
    )
    ended = alone.ended(run.id)
    assert ended.state_name == "Completed"
    assert ended.run_count == 1
    assert plan_of(ended).decision["region"] == "aws:eu-central-1"
    shown = alone.artifacts(run.id)["decision-errand"].data
    assert "Shadow mode (carbon_mode): this was decided and is not done" in str(shown)
    assert "aws:eu-north-1" in str(shown)


def test_a_run_that_is_late_is_told_once(alone: Lab) -> None:
    """Nobody starts it: an event that people can route, once, and the state stays as it is."""
    (run,) = made(alone)
    late = (alone.trigger.clock.now() - timedelta(hours=24)).isoformat()
    alone.client.update_flow_run_labels(run, {"carbon.latest_safe_start": late})
    assert changes(kept(alone.trigger)) == [("late", run)]
    assert changes(kept(alone.trigger)) == []
    payload = alone.until("the event is there", lambda: _event(alone, run, "deadline-at-risk"))
    assert payload["job"] == JOB.name
    assert payload["state"] == AWAITING
    status = asyncio.run(_status(alone))
    assert status.rows[0].slack_minutes < 0
    assert "beyond their latest safe start" in status.headline


def _event(lab: Lab, run: UUID, kind: str) -> dict[str, Any] | None:
    found = httpx.post(
        f"{lab.box.api_url}/events/filter",
        json={
            "filter": {
                "event": {"name": [f"carbon.decision.{kind}"]},
                "resource": {"id": [f"prefect.flow-run.{run}"]},
            }
        },
        timeout=30,
    ).json()["events"]
    return found[0]["payload"] if found else None


async def _status(lab: Lab) -> Any:  # noqa: ANN401 - shorthand of a test
    async with get_client() as client:
        return await read_status(client, lab.trigger.clock, JOBS)


def test_a_run_that_a_dead_worker_took_is_handed_out_again(
    alone: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pending for too long, it is scheduled once more; before that it is left alone."""
    (run,) = made(alone)
    alone.client.set_flow_run_state(run, Pending(), force=True)
    assert changes(kept(alone.trigger)) == []
    monkeypatch.setattr("deployments._keeper_rescue.STUCK", timedelta(0))
    fleet = alone.trigger.fleet
    quick = [pool.model_copy(update={"startup": timedelta(0)}) for pool in fleet.pools]
    fleet = fleet.model_copy(update={"pools": tuple(quick)})
    assert changes(kept(replace(alone.trigger, fleet=fleet))) == [("rescued", run)]
    assert alone.ended(run, seconds=90).state_name == "Completed"


@pytest.mark.parametrize("arrives", [True, False], ids=["answer lost", "request lost"])
def test_a_gate_whose_put_off_gets_no_answer_does_not_go(
    alone: Lab, monkeypatch: pytest.MonkeyPatch, *, arrives: bool
) -> None:
    """Its own second attempt is nobody's wish; and where the first one has arrived, it ends."""
    monkeypatch.setattr("deployments._outage._AGAIN", 0.0)

    @flow(name="gate-without-an-answer")
    async def passed(run_id: UUID) -> None:
        run = alone.run(run_id)
        async with get_client() as client:
            real, told = client.set_flow_run_state, iter([False])

            async def losing(*given: Any, **more: Any) -> Any:  # noqa: ANN401
                if (answered := next(told, True)) or arrives:
                    answer = await real(*given, **more)
                if not answered:
                    raise httpx.ReadTimeout("no answer")
                return answer

            monkeypatch.setattr(client, "set_flow_run_state", losing)
            switch = Switch(Mode.AUTO, "carbon_mode")
            passage = Passage(alone.trigger, JOB, LONG, switch, None, run)
            with pytest.raises(Abort):
                await patiently(lambda: _pass(client, passage), get_logger("test"))

    with paused(alone, "lab-home"):
        entry = alone.client.read_deployment_by_name(JOB.entry_deployment)
        run = alone.client.create_flow_run_from_deployment(entry.id)
        alone.client.set_flow_run_state(run.id, Running(), force=True)
        asyncio.run(passed(run.id))
        assert alone.run(run.id).state_name == AWAITING
        assert plan_of(alone.run(run.id)).deferrals == 1
        alone.client.delete_flow_run(run.id)


def _slots(lab: Lab) -> int:
    return lab.client.read_global_concurrency_limit_by_name(PLANNER_LOCK).active_slots


def test_a_lock_whose_lease_the_server_has_forgotten_is_given_back(alone: Lab) -> None:
    """A server that is restarted while somebody plans keeps the slot and forgets the lease."""

    async def planned() -> None:
        async with get_client() as client:
            with unleased(client):
                async with planning(client, get_logger("test")):
                    assert _slots(alone) == 1

    asyncio.run(planned())
    assert _slots(alone) == 0


@contextmanager
def unleased(client: PrefectClient) -> Iterator[None]:
    """Let the server forget the next lease at once."""
    real = client.increment_concurrency_slots_with_lease

    async def forgetting(names: list[str], slots: int, *_: Any) -> httpx.Response:  # noqa: ANN401
        await client.increment_concurrency_slots(names, slots, "concurrency")
        return httpx.Response(200, json={"lease_id": str(uuid4())})

    setattr(client, real.__name__, forgetting)
    try:
        yield
    finally:
        setattr(client, real.__name__, real)


def test_a_lock_that_a_dead_process_has_left_is_freed(
    alone: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are planned without it until then; the keeper's next pass frees it."""
    monkeypatch.setattr("deployments._lock._WAIT", 1.0)
    monkeypatch.setattr("deployments._lock._STUCK", 2.0)

    async def dies() -> None:
        async with get_client() as client:
            await client.increment_concurrency_slots([PLANNER_LOCK], 1, "concurrency")

    asyncio.run(dies())
    made(alone)
    assert _slots(alone) == 1
    kept(alone.trigger)
    assert _slots(alone) == 0


def test_a_lock_that_cannot_be_given_back_stops_nobody(alone: Lab) -> None:
    """The run has put itself off or dispatched by then: it must not fail for it."""

    async def main() -> str:
        async with get_client() as client:
            real = client.renew_concurrency_lease

            async def fails(*_: Any) -> None:  # noqa: ANN401
                raise httpx.ReadTimeout("no answer")

            async with planning(client, get_logger("test")):
                setattr(client, real.__name__, fails)
                return "planned"

    assert asyncio.run(main()) == "planned"
    asyncio.run(_set_free(alone))


async def _set_free(lab: Lab) -> None:
    async with get_client() as client:
        told = GlobalConcurrencyLimitUpdate(active_slots=0)
        await client.update_global_concurrency_limit(PLANNER_LOCK, told)
    assert _slots(lab) == 0


def test_a_run_that_no_worker_starts_is_told_and_handed_out(
    alone: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Created by plain REST, it has no plan yet: status shows it, and the keeper tells of it."""
    monkeypatch.setattr("deployments._waiting._TAKEN", timedelta(0))
    monkeypatch.setattr("deployments._keeper_rescue.STUCK", timedelta(0))
    entry = alone.client.read_deployment_by_name(JOB.entry_deployment)
    with paused(alone, "lab-home"):
        now = {"policy": {"strategy": "run_now"}}
        made_now = alone.client.create_flow_run_from_deployment(entry.id, parameters=now)
        time.sleep(1)
        (row,) = asyncio.run(_status(alone)).untaken
        assert (row.flow_run_id, row.job) == (made_now.id, JOB.name)
        assert row.why == "pool lab-home is paused"
        assert asyncio.run(_status(alone)).headline.endswith("; 1 due, and started by no worker.")
        assert changes(kept(alone.trigger)) == [("late", made_now.id)]
        assert changes(kept(alone.trigger)) == []
        alone.client.set_flow_run_state(made_now.id, Pending(), force=True)
        time.sleep(1)
        (row,) = asyncio.run(_status(alone)).untaken
        assert "and has not begun" in row.why
        fleet = alone.trigger.fleet
        quick = [pool.model_copy(update={"startup": timedelta(0)}) for pool in fleet.pools]
        fleet = fleet.model_copy(update={"pools": tuple(quick)})
        assert changes(kept(replace(alone.trigger, fleet=fleet))) == [("rescued", made_now.id)]
    assert alone.ended(made_now.id, seconds=90).state_name == "Completed"
    assert asyncio.run(_status(alone)).untaken == ()


def test_an_entry_run_that_crashed_is_retried_twice(
    alone: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its infrastructure died: that is nobody's fault, but more than twice is no bad luck."""
    (run,) = made(alone)
    monkeypatch.setattr("deployments._keeper_rescue._SETTLED", timedelta(0))
    with paused(alone, "lab-home"):
        for left in (1, 1, 0):
            alone.client.set_flow_run_state(run, Running(), force=True)
            alone.client.set_flow_run_state(run, Crashed(message="Power cut."), force=True)
            assert changes(kept(alone.trigger)) == [("rescued", run)] * left
        assert alone.run(run).state_name == "Crashed"
        alone.client.delete_flow_run(run)


def test_an_entry_run_that_crashed_before_its_gate_is_retried(
    alone: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it started, it carries no plan: it is known by its deployment."""
    monkeypatch.setattr("deployments._keeper_rescue._SETTLED", timedelta(0))
    entry = alone.client.read_deployment_by_name(JOB.entry_deployment)
    with paused(alone, "lab-home"):
        run = alone.client.create_flow_run_from_deployment(entry.id).id
        alone.client.set_flow_run_state(run, Running(), force=True)
        alone.client.set_flow_run_state(run, Crashed(message="Power cut."), force=True)
        assert changes(kept(alone.trigger)) == [("rescued", run)]
        assert alone.run(run).state_name == "AwaitingRetry"
        alone.client.delete_flow_run(run)


def test_a_run_whose_machine_vanished_is_declared_crashed_at_the_second_look(
    alone: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat in between is a sign of life; a run that was never heard counts, too."""
    with paused(alone, "lab-home"), at_work(alone) as run:
        monkeypatch.setattr("deployments._pulse._AGAIN", timedelta(0))
        time.sleep(15)
        for heard in (True, True, False):
            if heard:
                # Long enough for a busy server to keep the heartbeat, and shorter than it runs.
                monkeypatch.setattr("deployments._pulse.SILENT", timedelta(seconds=15))
                _beat(alone, run)
                assert changes(kept(alone.trigger)) == []
            monkeypatch.setattr("deployments._pulse.SILENT", timedelta(0))
            (report,) = kept(alone.trigger)
            assert changes([report]) == ([] if heard else [("vanished", run)])
            assert ["no sign of life since" in note for note in report.notes] == [True] * heard
        told = alone.run(run)
        assert told.state
        assert told.state_name == "Crashed"
        assert "its machine is taken for lost" in str(told.state.message)
    with paused(alone, "lab-home"), at_work(alone) as never:
        with monkeypatch.context() as without_heartbeats:
            without_heartbeats.setattr("deployments._pulse._ASKED", "NOT_ASKED_FOR")
            assert kept(alone.trigger)[0].notes == ()
        assert len(kept(alone.trigger)[0].notes) == 1
        assert changes(kept(alone.trigger)) == [("vanished", never)]


@contextmanager
def at_work(lab: Lab) -> Iterator[UUID]:
    """Let Prefect believe that a run is at work, and remove it in the end."""
    (run,) = made(lab)
    lab.client.set_flow_run_state(run, Running(), force=True)
    lab.client.update_flow_run_labels(run, replace(plan_of(lab.run(run)), went=True).labels())
    try:
        yield run
    finally:
        lab.client.delete_flow_run(run)


def _beat(lab: Lab, run: UUID) -> None:
    """Send a run's heartbeat, and wait until the server has kept it."""
    resource = {"prefect.resource.id": f"prefect.flow-run.{run}"}
    sent = emit_event("prefect.flow-run.heartbeat", resource=resource)
    assert sent
    mine = EventFilter(id=EventIDFilter(id=[sent.id]))
    lab.until("the heartbeat is kept", lambda: lab.client.read_events(mine, limit=1).events)


def test_a_run_at_work_beyond_its_deadline_is_told_once(alone: Lab) -> None:
    """People hear of it, and it goes on."""
    with paused(alone, "lab-home"), at_work(alone) as run:
        hold = replace(plan_of(alone.run(run)), deadline=alone.trigger.clock.now())
        alone.client.update_flow_run_labels(run, hold.labels())
        assert changes(kept(alone.trigger)) == [("late", run)]
        assert changes(kept(alone.trigger)) == []
        assert alone.run(run).state_name == "Running"


def test_a_pinned_run_keeps_to_its_region(alone: Lab) -> None:
    """The next pass moves it there; where is no pool, or its data may not be, is refused."""
    (run,) = made(alone)
    fleet = alone.trigger.fleet
    asyncio.run(pin_run(str(run), "aws:us-west-2", fleet, known=JOBS))
    assert changes(kept(alone.trigger)) == [("moved", run)]
    assert plan_of(alone.run(run)).decision["region"] == "aws:us-west-2"
    asyncio.run(pin_run(str(run), None, fleet, known=JOBS))
    assert changes(kept(alone.trigger)) == [("moved", run)]
    assert plan_of(alone.run(run)).decision["region"] == "aws:eu-north-1"
    with pytest.raises(BadInput, match=r"no pool in aws:eu-west-1"):
        asyncio.run(pin_run(str(run), "aws:eu-west-1", fleet, known=JOBS))
    personal = JOB.model_copy(
        update={"workload": JOB.workload.model_copy(update={"data_class": "personal"})}
    )
    with pytest.raises(ResidencyError):
        asyncio.run(pin_run(str(run), "aws:us-west-2", fleet, known={JOB.name: personal}))


def test_a_released_run_tells_who_has_released_it(alone: Lab) -> None:
    """An event says that a person did it."""
    (run,) = made(alone)
    asyncio.run(release_run(str(run)))
    payload = alone.until("the event is there", lambda: _event(alone, run, "released"))
    assert payload["by"] == "person"
    assert alone.ended(run).state_name == "Completed"
    told = asyncio.run(explain_run(str(run)))
    assert "Started with `carbon release`" in told.text
    assert [past.state for past in told.history][-1] == "Completed"


def test_reports_are_read_by_people_and_machines() -> None:
    """One line says what was done."""
    change = Change(flow_run_id=UUID(int=1), name="calm-eel", what="moved", why="cleaner")  # type: ignore[arg-type]
    report = KeeperReport(waiting=3, changes=(change,), notes=())
    assert report.headline == "3 waiting; 1 moved"
    assert KeeperReport(waiting=0, changes=(), notes=()).headline == "0 waiting; nothing to do"
