"""The gate: the first act of every entry run. It goes now, or puts itself off and frees its slot.

::

    @flow
    async def image_embeddings(images: str, policy: CarbonPolicy = CarbonPolicy()):
        await gate(JOB, policy)
        ...

A run that waits keeps its id, is in state ``AwaitingCleanWindow`` and holds no worker process. When
it wakes, the gate plans again with a newer outlook. From the latest safe start on it goes, whatever
the outlook says. A run that is woken before its planned time goes at once: somebody asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext
from prefect.exceptions import Abort
from prefect.logging import get_run_logger

from carbon import CarbonPolicy, Decision, Strategy
from deployments._artifacts import publish_decision
from deployments._events import Event, emit, emit_decision
from deployments._guard import guard
from deployments._hold import (
    AWAITING,
    HELD,
    WANTED_NOW,
    Hold,
    waiting_state,
)
from deployments._jobs import Job
from deployments._lock import Log, planning
from deployments._mode import read_switch
from deployments._outage import patiently
from deployments._passage import Outcome, Passage
from deployments._refusal import refusals_told
from deployments._trigger import Trigger

_MOST_PATIENCE: Final = timedelta(seconds=15)
"""Longest time that a gate waits for signal providers; what they sent earlier is in store."""


async def gate(
    job: Job,
    policy: CarbonPolicy,
    *,
    data_class: str | None = None,
    trigger: Trigger | None = None,
) -> Decision:
    """Let the run go now, or put it off to the start that the planner chose.

    Args:
        job: What the run will do.
        policy: How it may be placed; what it leaves out is as in the job's policy.
        data_class: Class of this run's data, on top of the workload's own.
        trigger: For tests; by default the one that the environment describes.

    Returns:
        The decision, when the run goes now.

    Raises:
        Abort: The run has put itself off; Prefect ends this attempt and starts another in time.
        ResidencyError: The run is where its data may not be, or no permitted pool can run a stage.
        BadInput: A parameter of the run, a setting, the policy, the fleet or the workload is wrong.
    """
    run = _this_run()
    log = get_run_logger()
    async with get_client() as client, refusals_told(client, run, job.name):
        trigger = trigger or Trigger.for_run()
        job.check(_parameters(), trigger.settings)
        await guard(job.workload, data_class=data_class, fleet=trigger.fleet)
        switch = await patiently(lambda: read_switch(client, job.name), log)
        asked = switch.policy(job.policy_for(policy))
        # Before the lock: others must not wait for our providers.
        await trigger.refresh(patience=_patience(asked, run, trigger))
        given = job.policy_for(policy)
        passage = Passage(trigger, job, given, switch, data_class, run)
        return await patiently(lambda: _pass(client, passage), log)


async def _pass(client: PrefectClient, passage: Passage) -> Decision:
    """Let the run go, or put it off."""
    log, trigger, run = get_run_logger(), passage.trigger, passage.run
    async with planning(client, log):
        # Read again: the engine's copy may be older than what a person has changed since.
        run = await client.read_flow_run(run.id) if run else None
        if run and passage.memory.written and run.state_name in {AWAITING, HELD}:
            raise Abort("The run waits for its clean window; only the answer to that was lost.")
        slot = await _slot_of(client, run) if run else None
        passage = replace(passage, run=run, slot=slot)
        outcome = await passage.decide(client)
        if run is not None:
            # Labels first: a run that wakes must find its plan.
            await passage.write(client, run, outcome)
        if run and outcome.waits and not await _put_off(client, run, outcome, trigger, log):
            outcome = await passage.at_once(client)
            await passage.write(client, run, outcome)
    decision = outcome.verdict.decision
    _tell(log, decision, outcome.notes)
    if run is not None and not outcome.again:
        mode = passage.switch.mode.value
        emit_decision(decision, run, decision.workload, waits=outcome.waits, mode=mode)
        if passage.woken_by_hand:
            why = "started before its planned time"
            emit(Event.RELEASED, run, decision.workload, by="person", why=why)
        await publish_decision(
            client, outcome.verdict, trigger.settings, run_id=run.id, title=run.name
        )
    if outcome.waits:
        log.info("This attempt ends; the run wakes by itself at its start.")
        raise Abort("The run waits for its clean window.")
    return outcome.goes.decision


async def _slot_of(client: PrefectClient, run: FlowRun) -> datetime | None:
    """Return for when Prefect had the run last; its own slot or what somebody has made of it."""
    states = await client.read_flow_run_states(run.id)
    scheduled = [state for state in states if state.type is StateType.SCHEDULED]
    last = max(scheduled, key=lambda state: state.timestamp, default=None)
    due = last.state_details.scheduled_time if last else None
    return datetime.fromtimestamp(due.timestamp(), UTC) if due else None


async def _put_off(
    client: PrefectClient, run: FlowRun, outcome: Outcome, trigger: Trigger, log: Log
) -> bool:
    """Re-time the run; ``False`` when Prefect refuses, e.g. because somebody is cancelling it."""
    state = outcome.held or waiting_state(outcome.verdict.decision, trigger.clock)
    answer = await client.set_flow_run_state(run.id, state)
    if answer.status is not SetStateStatus.ACCEPT:
        log.warning("Prefect does not let the run wait (%s), so it goes now", answer.details)
        return False
    return True


def _patience(policy: CarbonPolicy, run: FlowRun | None, trigger: Trigger) -> timedelta:
    """Return how long the providers may be waited for: not at all where nothing hangs on them."""
    hold = Hold.read(run.labels) if run else None
    wanted = run is not None and run.labels.get(WANTED_NOW) is True
    if policy.strategy is Strategy.RUN_NOW or wanted or (hold is not None and hold.went):
        return timedelta(0)
    left = hold.latest_safe_start - trigger.clock.now() if hold else _MOST_PATIENCE
    return min(max(left, timedelta(0)), _MOST_PATIENCE)


def _this_run() -> FlowRun | None:
    context = FlowRunContext.get()
    return context.flow_run if context else None


def _parameters() -> Mapping[str, object]:
    context = FlowRunContext.get()
    return context.parameters or {} if context else {}


def _tell(log: Log, decision: Decision, notes: Sequence[str]) -> None:
    log.info(decision.headline)
    log.info(decision.reason)
    for note in (*notes, *decision.breaches, *decision.degraded):
        log.warning(note)
