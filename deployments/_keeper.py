"""The keeper: brings runs that wait in line with what is known now, as often as you like.

Level-triggered: it looks at what is, not at what has happened, so a pass that was missed, killed or
run twice at once does no harm. Each waiting run has its own wake-up and needs no keeper to start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas import OrchestrationResult
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled, Crashed, Scheduled

from carbon import Option, Reservation, Rule
from deployments._artifacts import publish_note
from deployments._events import Event, emit, emit_decision
from deployments._gate import Log, planning
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
from deployments._keeper_report import Change, KeeperReport, Step
from deployments._mode import Mode, Switch, read_switch
from deployments._pulse import feel, missing
from deployments._trigger import Trigger, Verdict
from deployments._waiting import Waiting, waiting

EXECUTION: Final = "execution"
"""Tag of the deployments of heavy stages, and of their runs."""

_AT_RISK: Final = "carbon.at_risk"
"""Label of a run whose lateness has been told."""

_OVERDUE: Final = "carbon.overdue"
"""Label of a run of which it was told that it runs beyond its deadline."""

_GRACE: Final = timedelta(minutes=1)
"""By the wall clock: how late a run may be before people are told; a worker needs its time."""

_STUCK: Final = timedelta(minutes=10)
"""How long a run may be Pending: its worker has died between taking it and starting it."""

_REVIVED: Final = "carbon.revived"
"""Label of a run that crashed and was retried: how often."""

_MOST_TRIES: Final = 2
_REVIVED_FOR: Final = timedelta(hours=24)
"""For so long a run that has crashed is retried; after that somebody has seen it."""

_SETTLED: Final = timedelta(seconds=15)
"""After so long nobody else is about to take a crashed run up again."""

_MOST: Final = 200
_NOT_TO_BE_HAD: Final = {Rule.RESIDENCY, Rule.POLICY, Rule.CAPACITY}
"""What keeps a pool from a run, however good it is."""


async def keep(
    client: PrefectClient, trigger: Trigger, jobs: Mapping[str, Job], log: Log
) -> KeeperReport:
    """Make one pass over all runs that wait."""
    return await _Pass(client, trigger, jobs, log).make()


@dataclass
class _Pass:
    client: PrefectClient
    trigger: Trigger
    jobs: Mapping[str, Job]
    log: Log
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    switches: dict[str, Switch] = field(default_factory=dict)

    async def make(self) -> KeeperReport:
        live = [run async for run in live_runs(self.client)]
        found = list(waiting(live, self.jobs))
        # Who has most slack makes room for the others.
        for one in sorted(found, key=lambda one: one.slack(self.trigger.clock), reverse=True):
            try:
                await self._look_at(one, live)
            except Exception as error:  # noqa: BLE001  # one run must not keep us from the others
                line = " ".join(str(error).split()) or type(error).__name__
                self._note(f"{one.run.name}: {line}")
        for run in live:
            await self._watch(run)
        await self._close(live)
        await self._revive()
        return KeeperReport(
            waiting=sum(one.planned for one in found),
            changes=tuple(self.changes),
            notes=tuple(dict.fromkeys(self.notes)),
        )

    async def _look_at(self, one: Waiting, live: Iterable[FlowRun]) -> None:
        switch = await self._switch(one.job.name)
        await self._tell_if_late(one, switch)
        if await self._rescue(one) or not one.planned or one.imminent:
            return
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

    async def _tell_if_late(self, one: Waiting, switch: Switch) -> None:
        clock, run = self.trigger.clock, one.run
        latest = clock.wall(one.hold.latest_safe_start)
        if datetime.now(UTC) < latest + _GRACE or run.labels.get(_AT_RISK) is True:
            return
        why = f"in state {run.state_name} after its latest safe start, {latest:%H:%M:%S} UTC"
        if switch.mode is Mode.HOLD:
            why += f"; held by {switch.variable}"
        elif one.moved_by_hand(clock):
            why += "; somebody has given it another time"
        else:
            why += f"; does a worker serve pool {run.work_pool_name}?"
        await self.client.update_flow_run_labels(run.id, {_AT_RISK: True})
        emit(
            Event.AT_RISK,
            run,
            one.job.name,
            why=why,
            state=run.state_name,
            latest_safe_start=one.hold.latest_safe_start.isoformat(),
            deadline=one.hold.deadline.isoformat(),
        )
        self._done(run, Step.LATE, why)

    async def _rescue(self, one: Waiting) -> bool:
        """Hand a run out again that a worker took and never started."""
        state = one.run.state
        if state is None or state.type is not StateType.PENDING:
            return False
        if datetime.now(UTC) - state.timestamp < max(_STUCK, 3 * self._startup(one)):
            return False
        if await self._set(one.run, Scheduled(message="Its worker took it and never started it.")):
            self._done(one.run, Step.RESCUED, f"{state.name} since {state.timestamp:%H:%M:%S} UTC")
        return True

    def _startup(self, one: Waiting) -> timedelta:
        pool = self.trigger.fleet.by_name.get(one.run.work_pool_name or "")
        return pool.startup if pool else timedelta(0)

    async def _watch(self, run: FlowRun) -> None:
        """Look after a run that is at work: does it live, and does it end in time?"""
        hold = Hold.read(run.labels)
        job = hold.decision.get("job") if hold and hold.went and not run.parent_task_run_id else None
        if job not in self.jobs and EXECUTION not in run.tags:
            return
        if hold and job in self.jobs and self.trigger.clock.now() > hold.deadline:
            await self._tell_overdue(run, hold, str(job))
        pulse = await feel(self.client, run)
        if pulse is None:
            return
        since = f"no sign of life since {pulse.heard:%H:%M:%S} UTC"
        if pulse.missed is None:
            await self.client.update_flow_run_labels(run.id, {**missing(datetime.now(UTC))})
            self._note(f"{run.name} in pool {run.work_pool_name}: {since}")
        elif pulse.gone:
            # Should its process live after all, it learns of it; see the lease.
            why = f"{since}: its machine is taken for lost"
            if await self._set(run, Crashed(message=f"The keeper: {why}.")):
                self._done(run, Step.VANISHED, why)

    async def _tell_overdue(self, run: FlowRun, hold: Hold, job: str) -> None:
        if run.labels.get(_OVERDUE) is True:
            return
        why = f"still {run.state_name} after its deadline, {hold.deadline:%a %d %b %H:%M} UTC"
        await self.client.update_flow_run_labels(run.id, {_OVERDUE: True})
        emit(
            Event.AT_RISK,
            run,
            job,
            why=why,
            state=run.state_name,
            latest_safe_start=hold.latest_safe_start.isoformat(),
            deadline=hold.deadline.isoformat(),
        )
        self._done(run, Step.LATE, why)

    # -- other times and places ----------------------------------------------------------------

    async def _release(self, one: Waiting, why: str, label: dict[str, bool | str]) -> None:
        """Let a run start now, or be planned anew now, as the label says to its gate."""
        # Labels first: the run may wake as soon as its state is set.
        await self.client.update_flow_run_labels(one.run.id, dict(label))
        if await self._set(one.run, Scheduled(message=f"Started by the keeper: {why}.")):
            emit(Event.RELEASED, one.run, one.job.name, by="keeper", why=why)
            self._done(one.run, Step.RELEASED, why)

    async def _move(self, one: Waiting) -> None:
        """Look again with nobody else planning, and move the run if it is still better."""
        async with planning(self.log):
            run = await self.client.read_flow_run(one.run.id)
            again = next(waiting([run], self.jobs), None)
            if again is None or again.imminent or _state_id(run) != _state_id(one.run):
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
        previous = {
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

    # -- what has ended ------------------------------------------------------------------------

    async def _close(self, live: Iterable[FlowRun]) -> None:
        """Cancel stages that have not begun, or pause, and whose entry run has ended."""
        known = {run.id for run in live}
        for run in live:
            scheduled = run.state is not None and run.state.type is StateType.SCHEDULED
            if not (scheduled and run.parent_task_run_id and EXECUTION in run.tags):
                continue
            parent = await self._parent(run.parent_task_run_id)
            over = parent is None or (
                parent.id not in known and parent.state is not None and parent.state.is_final()
            )
            if over:
                name = parent.name if parent else "a run that was deleted"
                why = f"{name}, which it is a stage of, has ended: it does not go on alone"
                await self.client.set_flow_run_state(run.id, Cancelled(message=f"{why}."))
                self._done(run, Step.CLOSED, why)

    async def _parent(self, task_run_id: UUID) -> FlowRun | None:
        try:
            task_run = await self.client.read_task_run(task_run_id)
            if task_run.flow_run_id is None:
                return None
            return await self.client.read_flow_run(task_run.flow_run_id)
        except ObjectNotFound:
            return None

    async def _revive(self) -> None:
        """Retry entry runs whose infrastructure died; what fails by itself is for people."""
        now = datetime.now(UTC)
        crashed = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])),
            end_time=FlowRunFilterEndTime(after_=now - _REVIVED_FOR),
        )
        for run in await self.client.read_flow_runs(flow_run_filter=crashed, limit=_MOST):
            hold = Hold.read(run.labels)
            tries = run.labels.get(_REVIVED, 0)
            known = hold is not None and hold.decision.get("job") in self.jobs
            if not known or run.parent_task_run_id or not isinstance(tries, int):
                continue
            if tries >= _MOST_TRIES or run.state is None or now - run.state.timestamp < _SETTLED:
                continue
            told: dict[str, bool | str | int] = {_REVIVED: tries + 1}
            if hold is not None and not hold.went:
                told |= Hold.starting(self.trigger.clock.now())  # planned anew, not at once
            await self.client.update_flow_run_labels(run.id, {**told})
            answer: OrchestrationResult[Any] = await self.client.set_flow_run_state(
                run.id, AwaitingRetry()
            )
            if answer.status is SetStateStatus.ACCEPT:
                why = run.state.message or "its infrastructure died"
                self._done(run, Step.RESCUED, f"{why} Retried, {tries + 1} of {_MOST_TRIES}")

    # -- writing -------------------------------------------------------------------------------

    async def _set(self, run: FlowRun, state: State[None]) -> bool:
        """Change the state of a run, unless somebody has acted on it since it was read."""
        if _state_id(await self.client.read_flow_run(run.id)) != _state_id(run):
            return False
        answer = await self.client.set_flow_run_state(run.id, state)
        if answer.status is not SetStateStatus.ACCEPT:
            return False
        history = await self.client.read_flow_run_states(run.id)
        before = sorted(history, key=lambda state: state.timestamp)[-2:-1]
        if before and before[0].id != _state_id(run) and before[0].type is StateType.SCHEDULED:
            # In that moment a person has re-timed it, and has the last word.
            await self.client.set_flow_run_state(run.id, before[0].model_copy())
            return False
        return True

    def _done(self, run: FlowRun, what: Step, why: str) -> None:
        self.changes.append(Change(flow_run_id=run.id, name=run.name, what=what, why=why))
        self.log.info("%s %s: %s", run.name, what.value, why)

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.log.warning(text)


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


def _state_id(run: FlowRun) -> UUID | None:
    return run.state.id if run.state else None
