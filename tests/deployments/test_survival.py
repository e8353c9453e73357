"""What runs survive, whatever they are doing, on a real server with real processes and faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import psutil
import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.logging import get_logger
from prefect.states import Pending

from carbon import CarbonPolicy, Strategy
from deployments import AWAITING, dispatch, submit
from deployments._hold import Hold
from deployments._keeper import keep
from deployments._render import render
from deployments._step_in import release_run
from tests.deployments.lab import JOB
from tests.deployments.test_keeper import dying

if TYPE_CHECKING:
    from deployments import Trigger
    from tests.deployments.conftest import Lab

pytestmark = [pytest.mark.server, pytest.mark.long, pytest.mark.timeout(900)]

LONG = CarbonPolicy(finish_by="14d")
GREEN, FAR = "aws:eu-north-1", "aws:us-west-2"
JOBS = {JOB.name: JOB}


def started(lab: Lab, label: str, act: str, region: str) -> UUID:
    """Start an entry run by REST whose stage runs in one region."""
    # Two weeks are half an hour of life: time enough for a stage that is done twice.
    policy = CarbonPolicy(strategy=Strategy.RUN_NOW, only_regions=(region,), finish_by="14d")
    entry = lab.client.read_deployment_by_name(JOB.entry_deployment)
    given = {"label": label, "act": act, "policy": policy.model_dump(mode="json")}
    return lab.client.create_flow_run_from_deployment(entry.id, parameters=given).id


def child(lab: Lab, parent: UUID, state: str) -> FlowRun:
    """Wait until a run's stage is in a state."""

    def found() -> FlowRun | None:
        runs = lab.below(parent)
        return runs[-1] if runs and runs[-1].state_name == state else None

    return lab.until(f"the stage of {parent} is {state}", found, seconds=150)


@contextmanager
def paused(lab: Lab, pool: str) -> Iterator[None]:
    """Let no worker take anything from a pool."""
    lab.client.update_work_pool(pool, WorkPoolUpdate(is_paused=True))
    try:
        yield
    finally:
        lab.client.update_work_pool(pool, WorkPoolUpdate(is_paused=False))


def pass_of_the_keeper(trigger: Trigger, dies_at: str = "") -> list[tuple[str, UUID]]:
    """Make one pass, which may die when it calls a method of its client."""

    async def make() -> list[tuple[str, UUID]]:
        async with get_client() as client:
            log = get_logger("keeper")
            if dies_at:
                async with dying(client, dies_at):
                    with pytest.raises(SystemExit):
                        await keep(client, trigger, JOBS, log)
                return []
            report = await keep(client, trigger, JOBS, log)
            return [(one.what.value, one.flow_run_id) for one in report.changes]

    return asyncio.run(make())


def test_runs_survive_whatever_they_are_doing(lab: Lab) -> None:
    """One waits, one is dispatched and not started, one is at work; each is done once in the end.

    Meanwhile the server is stopped and started, all workers are killed and come back, everything is
    deployed anew, and a keeper dies in the middle of a move.
    """
    working = started(lab, "at-work", "nap", GREEN)
    with paused(lab, "lab-far"):
        dispatched = started(lab, "dispatched", "complete", FAR)
        given = {"label": "waits", "act": "complete"}
        waits = asyncio.run(submit(JOB, given, policy=LONG, trigger=lab.trigger)).flow_run_id
        lab.until("it is at work", lambda: lab.executions("at-work"), seconds=150)
        child(lab, dispatched, "Scheduled")

        lab.box.stop_server()
        time.sleep(5)
        lab.box.start_server()
        assert lab.run(waits).state_name == AWAITING
        for pool in lab.workers:
            lab.kill_worker(pool)
        time.sleep(2)
        for pool in lab.workers:
            lab.work(pool)
        lab.deploy()
        pools = tuple(pool for pool in lab.trigger.fleet.pools if pool.name != "lab-green")
        smaller = lab.trigger.fleet.model_copy(update={"pools": pools})
        pass_of_the_keeper(replace(lab.trigger, fleet=smaller), dies_at="set_flow_run_state")

        assert lab.run(waits).state_name == AWAITING
        assert not lab.executions("dispatched")
    asyncio.run(release_run(str(waits)))
    for run, label in ((waits, "waits"), (dispatched, "dispatched"), (working, "at-work")):
        assert lab.ended(run, seconds=240).state_name == "Completed", label
        assert lab.executions(label) == 1, label
        assert [stage.state_name for stage in lab.below(run)] == ["Completed"], label


def test_a_stage_whose_machine_vanished_is_done_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process and its worker die at once, so nobody reports it: the keeper misses it."""
    monkeypatch.setattr("deployments._pulse.SILENT", timedelta(seconds=50))
    monkeypatch.setattr("deployments._pulse._AGAIN", timedelta(seconds=5))
    run = started(lab, "vanished", "sleep-once", FAR)
    stage = child(lab, run, "Running")
    lab.until("it is at work", lambda: lab.executions("vanished"))
    beats = EventFilter(
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{stage.id}"]),
    )
    lab.until("it was heard", lambda: lab.client.read_events(beats, limit=1).events)
    doomed = lab.processes(stage.id)
    assert doomed
    lab.kill_worker("lab-far")
    for process in doomed:
        process.kill()
    psutil.wait_procs(doomed, timeout=10)
    lab.work("lab-far")

    def missed() -> bool:
        time.sleep(4)
        return ("vanished", stage.id) in pass_of_the_keeper(lab.trigger)

    lab.until("the keeper has missed it", missed, seconds=200)
    assert lab.ended(run, seconds=300).state_name == "Completed"
    assert [one.state_name for one in lab.below(run)] == ["Crashed", "Completed"]
    assert lab.executions("vanished") == 2


def test_a_stage_that_its_worker_never_begins_is_withdrawn_and_made_anew(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host died between taking and starting it; no other pool is permitted, so the same one."""
    monkeypatch.setattr("deployments._stage_order._STUCK", timedelta(seconds=25))
    pools = [pool.model_copy(update={"startup": timedelta(0)}) for pool in lab.trigger.fleet.pools]
    fleet = lab.trigger.fleet.model_copy(update={"pools": tuple(pools)})
    policy = CarbonPolicy(finish_by="48h", only_regions=(FAR,))
    given = {"label": "taken", "act": "complete", "data_class": "public"}

    @flow(name="parent-of-a-stuck-stage")
    async def parent() -> UUID:
        context = FlowRunContext.get()
        assert context
        assert context.flow_run
        meddling = asyncio.create_task(asyncio.to_thread(meddle, context.flow_run.id))
        await dispatch(JOB, "carry", given, policy, trigger=replace(lab.trigger, fleet=fleet))
        await meddling
        return context.flow_run.id

    def meddle(run: UUID) -> None:
        with paused(lab, "lab-far"):
            stage = child(lab, run, "Scheduled")
            lab.client.set_flow_run_state(stage.id, Pending(), force=True)
            lab.until("it is withdrawn", lambda: len(lab.below(run)) > 1, seconds=120)

    run = asyncio.run(parent())
    assert [one.state_name for one in lab.below(run)] == ["Withdrawn", "Completed"]
    assert lab.executions("taken") == 1


def test_the_automation_calls_a_keeper_for_a_run_that_does_not_start(
    lab: Lab, tmp_path: Path
) -> None:
    """Deployed as rendered, but for its patience: it fires for a run that does not go on."""
    document = yaml.safe_load(render(lab.trigger.fleet, [JOB]))
    (row,) = (one for one in document["deployments"] if one["name"] == "keeper")
    row |= {"name": "watched", "schedules": []}
    row["triggers"][0] |= {"within": 60, "name": "carbon-deadline-watched"}
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump(document | {"deployments": [row]}))
    lab.box.prefect("deploy", "--all", cwd=tmp_path)
    watched = lab.client.read_deployment_by_name("carbon-keeper/watched")
    try:
        given = {"label": "watched", "act": "complete"}
        goes = started(lab, "watched", "complete", GREEN)
        waits = asyncio.run(submit(JOB, given, policy=LONG, trigger=lab.trigger)).flow_run_id
        lab.until("a keeper was called", lambda: _called(lab, watched.id), seconds=180)
        assert lab.ended(goes, seconds=150).state_name == "Completed"
        time.sleep(30)
        assert {call.deployment_id for call in _called(lab, watched.id)} == {watched.id}
        assert lab.run(waits).state_name == AWAITING
        lab.client.delete_flow_run(waits)
    finally:
        lab.client.delete_deployment(watched.id)


def _called(lab: Lab, deployment: UUID) -> list[FlowRun]:
    own = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    return lab.client.read_flow_runs(deployment_filter=own)


def test_a_stage_that_is_late_leaves_a_pool_that_starts_nothing(lab: Lab) -> None:
    """Its deadline is over in any pool, so it does not wait for the one that is paused."""
    pools = {"lab-green", "lab-far"}
    policy = CarbonPolicy(finish_by="3h", only_regions=(GREEN, FAR))
    with paused(lab, "lab-green"), paused(lab, "lab-far"):
        entry = lab.client.read_deployment_by_name(JOB.entry_deployment)
        given = {"label": "late", "act": "complete", "policy": policy.model_dump(mode="json")}
        run = lab.client.create_flow_run_from_deployment(entry.id, parameters=given).id
        first = child(lab, run, "Scheduled").work_pool_name or ""
        held = Hold.read(lab.run(run).labels)
        assert held
        lab.until("its deadline is over", lambda: lab.trigger.clock.now() > held.deadline)
        (other,) = pools - {first}
        lab.client.update_work_pool(other, WorkPoolUpdate(is_paused=False))
        assert lab.ended(run, seconds=150).state_name == "Completed"
    assert [stage.work_pool_name for stage in lab.below(run)] == [first, other]
    assert lab.executions("late") == 1
