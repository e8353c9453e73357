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

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext
from prefect.exceptions import Abort
from prefect.logging import get_run_logger

from carbon import CarbonPolicy, Decision, Reservation, Strategy, Urgency
from deployments._artifacts import publish_decision
from deployments._events import Event, emit, emit_decision
from deployments._guard import guard
from deployments._hold import (
    AWAITING,
    EARLY,
    HELD,
    HELD_LABEL,
    WANTED_NOW,
    WORTH_WAITING,
    Hold,
    held_state,
    taken,
    waiting_state,
)
from deployments._hysteresis import clearly_better
from deployments._jobs import Job
from deployments._lock import Log, planning
from deployments._mode import Mode, Switch, pinned, read_switch
from deployments._outage import patiently
from deployments._refusal import refusals_told
from deployments._trigger import Trigger, Verdict

_HOLD: Final = timedelta(minutes=15)
"""After so long a run that is held back looks at the switch, should no keeper have woken it."""

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
        BadInput: A setting, the policy, the fleet or the workload is wrong.
    """
    run = _this_run()
    log = get_run_logger()
    async with get_client() as client, refusals_told(client, run, job.name):
        trigger = trigger or Trigger.for_run()
        await guard(job.workload, data_class=data_class, fleet=trigger.fleet)
        switch = await patiently(lambda: read_switch(client, job.name), log)
        asked = switch.policy(job.policy_for(policy))
        # Before the lock: others must not wait for our providers.
        await trigger.refresh(patience=_patience(asked, run, trigger))
        given = job.policy_for(policy)
        passage = _Passage(trigger, job, given, switch, data_class, run)
        return await patiently(lambda: _pass(client, passage), log)


async def _pass(client: PrefectClient, passage: _Passage) -> Decision:
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
    client: PrefectClient, run: FlowRun, outcome: _Outcome, trigger: Trigger, log: Log
) -> bool:
    """Re-time the run; ``False`` when Prefect refuses, e.g. because somebody is cancelling it."""
    state = outcome.held or waiting_state(outcome.verdict.decision, trigger.clock)
    answer = await client.set_flow_run_state(run.id, state)
    if answer.status is not SetStateStatus.ACCEPT:
        log.warning("Prefect does not let the run wait (%s), so it goes now", answer.details)
        return False
    return True


@dataclass(frozen=True)
class _Outcome:
    """What the gate does with a run.

    Attributes:
        verdict: The decision, as it is shown.
        goes: The decision that the run carries: another one in shadow mode.
        waits: Whether the run puts itself off.
        held: The state of a run that a person's switch holds back.
        again: Whether it was held before, and all has been told.
        notes: What the log tells beside the decision.
    """

    verdict: Verdict
    goes: Verdict
    waits: bool = False
    held: State[None] | None = None
    again: bool = False
    notes: tuple[str, ...] = ()


@dataclass
class _Memory:
    """What this process has written of a run, should Prefect be away in the middle of it.

    Attributes:
        before: The plan that the run carried before.
        written: The plan that it carries since, if it was written.
    """

    before: Hold | None = None
    written: Hold | None = None


@dataclass(frozen=True)
class _Passage:
    """One run at the gate.

    Attributes:
        trigger: What decides.
        job: What the run will do.
        given: Its own policy.
        switch: How the switch stands.
        data_class: Class of its data, on top of the workload's own.
        run: The run.
        slot: For when Prefect had it last.
        memory: What this process has written of it.
    """

    trigger: Trigger
    job: Job
    given: CarbonPolicy
    switch: Switch
    data_class: str | None
    run: FlowRun | None
    slot: datetime | None = None
    memory: _Memory = field(default_factory=_Memory)

    @cached_property
    def policy(self) -> CarbonPolicy:
        """The policy that the run is planned by."""
        wish = pinned(self.given, self.run.labels) if self.run else self.given
        return wish if self.switch.mode is Mode.SHADOW else self.switch.policy(wish)

    @cached_property
    def hold(self) -> Hold | None:
        """The plan that the run came with."""
        found, mine = Hold.read(self.run.labels) if self.run else None, self.memory.written
        if found and mine and (found.start, found.deferrals) == (mine.start, mine.deferrals):
            return self.memory.before
        return found

    @property
    def deferrals(self) -> int:
        return self.hold.deferrals if self.hold else 0

    async def decide(self, client: PrefectClient) -> _Outcome:
        """Return what the run does."""
        notes = (self.switch.note,) if self.switch.note else ()
        busy = await self._busy(client)
        if self._held():
            return self._hold_back(busy, notes)
        verdict = self._plan(busy, may_wait=self._may_wait())
        if self.switch.mode is Mode.SHADOW:
            return self._shadow(busy, verdict, notes)
        if not self._worth_waiting(verdict.decision):
            verdict = verdict.noted(self._wish()) if self._wish() else verdict
            return _Outcome(verdict, verdict, notes=notes)
        if self.deferrals:
            at_once = self._plan(busy, may_wait=False)
            if not self._clearly_better(verdict.decision, at_once.decision):
                return _Outcome(at_once, at_once, notes=notes)
        return _Outcome(verdict, verdict, waits=True, notes=notes)

    async def at_once(self, client: PrefectClient) -> _Outcome:
        """Return what a run does that cannot wait."""
        verdict = self._plan(await self._busy(client), may_wait=False)
        return _Outcome(verdict, verdict)

    def _held(self) -> bool:
        """Tell whether a person's switch holds this run back."""
        deferrable = self.job.workload.urgency is Urgency.DEFERRABLE
        return self.switch.mode is Mode.HOLD and deferrable and self._may_wait()

    def _hold_back(self, busy: tuple[Reservation, ...], notes: tuple[str, ...]) -> _Outcome:
        verdict = self._plan(busy, may_wait=False)
        why = f"Held: the Prefect variable {self.switch.variable} is {self.switch.mode.value}."
        held = held_state(datetime.now(UTC) + _HOLD, why)
        was = self.run is not None and self.run.labels.get(HELD_LABEL) is True
        again = was and self.memory.written is None
        shown = verdict.noted(why)
        return _Outcome(shown, verdict, waits=True, held=held, again=again, notes=(*notes, why))

    def _shadow(
        self, busy: tuple[Reservation, ...], verdict: Verdict, notes: tuple[str, ...]
    ) -> _Outcome:
        actual = self._plan(busy, may_wait=False, policy=self.switch.policy(self.policy))
        note = (
            f"Shadow mode ({self.switch.variable}): this was decided and is not done. The run "
            f"starts at once in {actual.decision.chosen.main.region}."
        )
        return _Outcome(verdict.noted(note), actual, notes=(*notes, note))

    async def write(self, client: PrefectClient, run: FlowRun, outcome: _Outcome) -> None:
        """Let the run carry what was decided."""
        hold = Hold.of(
            outcome.goes.decision,
            deferrals=self.deferrals + outcome.waits,
            went=not outcome.waits,
            baseline=self.hold.baseline if self.hold else None,
        )
        held = {HELD_LABEL: outcome.held is not None}
        if outcome.held:
            # So that who wakes it before that has asked for it.
            hold = replace(hold, start=self.trigger.clock.grid(datetime.now(UTC) + _HOLD))
        before = self.hold
        await client.update_flow_run_labels(run.id, {**hold.labels(), **held})
        self.memory.before, self.memory.written = before, hold

    async def _busy(self, client: PrefectClient) -> tuple[Reservation, ...]:
        return await taken(client, self.trigger.clock.now(), but=self.run.id if self.run else None)

    def _plan(
        self,
        busy: tuple[Reservation, ...],
        *,
        may_wait: bool,
        policy: CarbonPolicy | None = None,
    ) -> Verdict:
        return self.trigger.decide(
            self.job.workload,
            policy or self.policy,
            self.hold.deadline if self.hold else self.policy.deadline(self._release()),
            busy=busy,
            data_class=self.data_class,
            may_wait=may_wait,
            running=True,
            baseline=self.hold.baseline if self.hold else None,
        )

    def _release(self) -> datetime:
        """Return when the run was wanted: its original slot, even if it starts late."""
        clock = self.trigger.clock
        slot = self.run.expected_start_time if self.run else None
        return min(clock.now(), clock.grid(slot)) if slot else clock.now()

    def _may_wait(self) -> bool:
        """Tell whether the run can put itself off.

        In a subflow the parent would stay Running for ever; without a deployment nobody would start
        it again; and a run that was woken before its planned start, or is tried once more, is
        wanted now.
        """
        run = self.run
        return (
            run is not None
            and run.deployment_id is not None
            and run.parent_task_run_id is None
            and not self._wanted_now()
        )

    def _wanted_now(self) -> bool:
        if self.run is not None and self.run.labels.get(WANTED_NOW) is True:
            return True
        if self.hold is None:
            return False
        if self.hold.went or not self.hold.deferrals:
            return self.hold.went
        clock = self.trigger.clock
        # By Prefect's time, not by this machine's, whose clock may be wrong.
        woken = self.slot or clock.wall(clock.now())
        return clock.wall(self.hold.start) - woken > EARLY

    @property
    def woken_by_hand(self) -> bool:
        """Whether somebody has started it in Prefect itself, with no verb of ours."""
        asked = self.run is not None and self.run.labels.get(WANTED_NOW) is True
        gone = self.hold is not None and self.hold.went
        return self._wanted_now() and not asked and not gone

    def _wish(self) -> str:
        """Say that somebody has started the run before its time; nothing where nobody has."""
        if not self._wanted_now() or (self.hold is not None and self.hold.went):
            return ""
        told = "Started by a person or the switch: only the place was chosen."
        if self.hold is None or self.hold.start <= self.trigger.clock.now():
            return told
        grams = self.hold.decision.get("expected_g")
        return (
            f"{told} It had been planned for {self.hold.start:%a %d %b %H:%M} UTC, with {grams} "
            "gCO2e."
        )

    def _worth_waiting(self, decision: Decision) -> bool:
        clock = self.trigger.clock
        wait = clock.wall(decision.chosen.start) - clock.wall(decision.decided_at)
        return self._may_wait() and wait >= WORTH_WAITING

    def _clearly_better(self, later: Decision, at_once: Decision) -> bool:
        """Tell whether waiting again beats going now: it keeps a limit, or saves clearly more."""
        if len(later.breaches) < len(at_once.breaches):
            return True
        return clearly_better(later.chosen, at_once.chosen, self.policy)


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


def _tell(log: Log, decision: Decision, notes: Sequence[str]) -> None:
    log.info(decision.headline)
    log.info(decision.reason)
    for note in (*notes, *decision.breaches, *decision.degraded):
        log.warning(note)
