"""The keeper: brings runs that wait in line with what is known now, as often as you like.

Level-triggered: it looks at what is, not at what has happened, so a pass that was missed, killed or
run twice at once does no harm. Each waiting run has its own wake-up and needs no keeper to start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.states import Scheduled

from carbon import Option, Reservation, Rule
from deployments._artifacts import publish_note
from deployments._events import Event, emit, emit_decision
from deployments._hold import (
    WANTED_NOW,
    Hold,
    holding,
    live_runs,
    present,
    taken,
    waiting_state,
)
from deployments._hysteresis import clearly_better
from deployments._jobs import Job
from deployments._keeper_report import KeeperReport, Step
from deployments._keeper_rescue import AT_RISK, Rescuer, state_id
from deployments._lock import Log, planning
from deployments._mode import Mode, Switch, read_switch
from deployments._trigger import Trigger, Verdict
from deployments._waiting import Waiting, untaken_why, waiting

_GRACE: Final = timedelta(minutes=1)
"""By the wall clock: how late a run may be before people are told; a worker needs its time."""

_NOT_TO_BE_HAD: Final = {Rule.RESIDENCY, Rule.POLICY, Rule.CAPACITY}
"""What keeps a pool from a run, however good it is."""


async def keep(
    client: PrefectClient, trigger: Trigger, jobs: Mapping[str, Job], log: Log
) -> KeeperReport:
    """Make one pass over all runs that wait."""
    return await _Pass(client, trigger, jobs, log).make()


@dataclass
class _Pass(Rescuer):
    switches: dict[str, Switch] = field(default_factory=dict)

    async def make(self) -> KeeperReport:
        live = [run async for run in live_runs(self.client)]
        clock = self.trigger.clock
        found = sorted(waiting(live, self.jobs), key=lambda one: one.slack(clock))
        # First what cannot wait for the next pass, should this one take too long.
        for one in found:
            await self._try(one.run, self._tell_if_late(one, live))
        await self._rescues(live)
        # Who has most slack makes room for the others.
        for one in reversed(found):
            await self._try(one.run, self._look_at(one, live))
        return KeeperReport(
            waiting=sum(one.planned for one in found),
            changes=tuple(self.changes),
            notes=tuple(dict.fromkeys(self.notes)),
        )

    async def _look_at(self, one: Waiting, live: Iterable[FlowRun]) -> None:
        if not one.planned or one.imminent:
            return
        switch = await self._switch(one.job.name)
        if switch.mode is Mode.RUN_NOW:
            why = f"{switch.variable} is {switch.mode.value}"
            await self._release(one, why, {WANTED_NOW: True})
        elif switch.mode is Mode.AUTO and one.held:
            # Else its gate would take it, woken so early, for somebody's wish.
            anew = Hold.starting(self.trigger.clock.now())
            await self._release(one, f"{switch.variable} holds nothing back any more", anew)
        elif switch.mode is Mode.AUTO:
            now = self.trigger.clock.now()
            busy = present((holding(run) for run in live if run.id != one.run.id), now)
            if self._better(one, busy):
                await self._move(one)

    async def _switch(self, job: str) -> Switch:
        if job not in self.switches:
            self.switches[job] = await read_switch(self.client, job)
            if note := self.switches[job].note:
                self._note(note)
        return self.switches[job]

    # -- late ----------------------------------------------------------------------------------

    async def _tell_if_late(self, one: Waiting, live: Iterable[FlowRun]) -> None:
        clock, run = self.trigger.clock, one.run
        latest = clock.wall(one.hold.latest_safe_start)
        if datetime.now(UTC) < latest + _GRACE:
            return
        why = f"in state {run.state_name} after its latest safe start, {latest:%H:%M:%S} UTC"
        switch = await self._switch(one.job.name)
        if switch.mode is Mode.HOLD:
            why += f"; held by {switch.variable}"
        elif one.moved_by_hand(clock):
            why += "; somebody has given it another time"
        else:
            why += f"; {await untaken_why(self.client, run, live)}"
        await self._tell_late(run, one.job.name, why, AT_RISK, one.hold)

    # -- other times and places ----------------------------------------------------------------

    async def _release(self, one: Waiting, why: str, label: dict[str, bool | str]) -> None:
        """Let a run start now, or be planned anew now, as the label says to its gate."""
        # Labels first: the run may wake as soon as its state is set.
        await self.client.update_flow_run_labels(one.run.id, dict(label))
        if await self._set(one.run, Scheduled(message=f"Started by the keeper: {why}.")):
            if WANTED_NOW in label:
                emit(Event.RELEASED, one.run, one.job.name, by="keeper", why=why)
            self._done(one.run, Step.RELEASED, why)

    async def _move(self, one: Waiting) -> None:
        """Look again with nobody else planning, and move the run if it is still better."""
        async with planning(self.client, self.log):
            run = await self.client.read_flow_run(one.run.id)
            again = next(waiting([run], self.jobs), None)
            if again is None or again.imminent or state_id(run) != state_id(one.run):
                return
            busy = await taken(self.client, self.trigger.clock.now(), but=run.id)
            found = self._better(again, busy)
            if found is None:
                return
            verdict, why = found
            hold = Hold.of(
                verdict.decision, deferrals=again.hold.deferrals, baseline=again.hold.baseline
            )
            state = waiting_state(verdict.decision, self.trigger.clock)
            sooner = self.trigger.clock.wall(hold.start) < again.due
            # Killed in between, it must find a plan whose start is over when it wakes: one that
            # wakes before its start has been asked for by somebody.
            if sooner:
                await self.client.update_flow_run_labels(run.id, hold.labels())
            if not await self._set(again.run, state):
                return
            if not sooner:
                await self.client.update_flow_run_labels(run.id, hold.labels())
        self._done(run, Step.MOVED, why)
        previous: dict[str, Any] = {
            "previous_start": again.hold.start.isoformat(),
            "previous_pool": again.hold.decision.get("pool"),
        }
        emit_decision(verdict.decision, run, one.job.name, Event.MOVED, why=why, **previous)
        # A note, without the picture that takes a second to draw: there may be hundreds.
        await publish_note(self.client, verdict.decision, run_id=run.id)

    def _better(self, one: Waiting, busy: tuple[Reservation, ...]) -> tuple[Verdict, str] | None:
        """Return a decision that is clearly better than the plan as it stands, and why."""
        if one.moved_by_hand(self.trigger.clock):
            return None
        verdict = self.trigger.decide(
            one.job.workload,
            one.policy,
            one.hold.deadline,
            busy=busy,
            data_class=one.data_class,
            baseline=one.hold.baseline,
        )
        chosen, breaches = verdict.decision.chosen, verdict.decision.breaches
        if any(one.startswith(("capacity", "deadline")) for one in breaches):
            return None
        standing = _standing(one, verdict)
        if isinstance(standing, str):
            return verdict, standing
        if standing is None or not clearly_better(chosen, standing, one.policy):
            return None
        what = f"{standing.g:.1f} gCO2e" if standing.g is not None else "unknown emissions"
        return verdict, f"{chosen.g:.1f} instead of {what}" if chosen.g is not None else "cheaper"


def _standing(one: Waiting, verdict: Verdict) -> Option | str | None:
    """Return the plan as it stands today; what is wrong with it; or nothing where it pauses."""
    request, hold = verdict.request, one.hold
    refused = {
        row.pool: row.reason for row in verdict.decision.refusals if row.rule in _NOT_TO_BE_HAD
    }
    for slot in hold.slots:
        if slot.pool not in request.fleet.by_name:
            return f"{slot.pool} is no pool of the fleet any more"
        if slot.pool in refused:
            return f"{slot.pool}: {refused[slot.pool]}"
    stages = [slot for slot in hold.slots if slot.stage]
    if len({slot.stage for slot in stages}) < len(stages):
        return None  # in segments: what they emit by today's outlook is not known here
    places = {slot.stage: request.fleet.pool(slot.pool) for slot in stages}
    if any(stage.heavy and stage.name not in places for stage in one.job.workload.stages):
        return None
    chain = request.chain(
        [
            places[stage.name] if stage.heavy else request.fleet.home_cpu
            for stage in one.job.workload.stages
        ]
    )
    full = next(chain.pools_without_room(hold.start.timestamp()), None)
    if full is not None:
        return f"{full.name} has no free slot any more at its time"
    return chain.option(hold.start, hold.deadline)
