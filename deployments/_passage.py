"""A run's passage through the gate: what it does, by its plan, the switch and what people wish."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State

from carbon import CarbonPolicy, Decision, Reservation, Urgency
from deployments._hold import (
    EARLY,
    HELD_LABEL,
    WANTED_NOW,
    WORTH_WAITING,
    Hold,
    held_state,
    taken,
)
from deployments._hysteresis import clearly_better
from deployments._jobs import Job
from deployments._mode import Mode, Switch, pinned
from deployments._trigger import Trigger, Verdict

_HOLD: Final = timedelta(minutes=15)
"""After so long a run that is held back looks at the switch, should no keeper have woken it."""


@dataclass(frozen=True)
class Outcome:
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
class Memory:
    """What this process has written of a run, should Prefect be away in the middle of it.

    Attributes:
        before: The plan that the run carried before.
        written: The plan that it carries since, if it was written.
    """

    before: Hold | None = None
    written: Hold | None = None


@dataclass(frozen=True)
class Passage:
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
    memory: Memory = field(default_factory=Memory)

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

    async def decide(self, client: PrefectClient) -> Outcome:
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
            return Outcome(verdict, verdict, notes=notes)
        if self.deferrals:
            at_once = self._plan(busy, may_wait=False)
            if not self._clearly_better(verdict.decision, at_once.decision):
                return Outcome(at_once, at_once, notes=notes)
        return Outcome(verdict, verdict, waits=True, notes=notes)

    async def at_once(self, client: PrefectClient) -> Outcome:
        """Return what a run does that cannot wait."""
        verdict = self._plan(await self._busy(client), may_wait=False)
        return Outcome(verdict, verdict)

    def _held(self) -> bool:
        """Tell whether a person's switch holds this run back."""
        deferrable = self.job.workload.urgency is Urgency.DEFERRABLE
        return self.switch.mode is Mode.HOLD and deferrable and self._may_wait()

    def _hold_back(self, busy: tuple[Reservation, ...], notes: tuple[str, ...]) -> Outcome:
        verdict = self._plan(busy, may_wait=False)
        why = f"Held: the Prefect variable {self.switch.variable} is {self.switch.mode.value}."
        held = held_state(datetime.now(UTC) + _HOLD, why)
        was = self.run is not None and self.run.labels.get(HELD_LABEL) is True
        again = was and self.memory.written is None
        shown = verdict.noted(why)
        return Outcome(shown, verdict, waits=True, held=held, again=again, notes=(*notes, why))

    def _shadow(
        self, busy: tuple[Reservation, ...], verdict: Verdict, notes: tuple[str, ...]
    ) -> Outcome:
        actual = self._plan(busy, may_wait=False, policy=self.switch.policy(self.policy))
        note = (
            f"Shadow mode ({self.switch.variable}): this was decided and is not done. The run "
            f"starts at once in {actual.decision.chosen.main.region}."
        )
        return Outcome(verdict.noted(note), actual, notes=(*notes, note))

    async def write(self, client: PrefectClient, run: FlowRun, outcome: Outcome) -> None:
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
