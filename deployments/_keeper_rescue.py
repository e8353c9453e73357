"""What the keeper does for runs that nobody else will help: rescue, tell, close, revive.

Runs that no worker has started, that a dead worker took, whose machine vanished, that crashed, and
stages whose entry run has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled, Crashed, Scheduled
from pydantic import ValidationError

from carbon import CarbonPolicy
from deployments._events import Event, emit
from deployments._hold import Hold, read_all
from deployments._jobs import Job
from deployments._keeper_report import Change, Step
from deployments._lock import Log, free_planner
from deployments._pulse import feel, missing, pools_that_beat
from deployments._trigger import Trigger
from deployments._waiting import ENTRY, EXECUTION, Untaken, entry_jobs, untaken

STUCK: Final = timedelta(minutes=10)
"""How long a run may be Pending: its worker has died between taking it and starting it."""

_REVIVED: Final = "carbon.revived"
"""Label of a run that crashed and was retried: how often."""

_MOST_TRIES: Final = 2
_REVIVED_FOR: Final = timedelta(hours=24)
"""For so long a run that has crashed is retried; after that somebody has seen it."""

_SETTLED: Final = timedelta(seconds=30)
"""After so long nobody else is about to take a crashed run up again."""

_OVERDUE: Final = "carbon.overdue"
"""Label of a run of which it was told that it runs beyond its deadline."""

AT_RISK: Final = "carbon.at_risk"
"""Label of a run whose lateness has been told."""


@dataclass
class Rescuer:
    """What a pass of the keeper knows and has done, and the rescues that are part of it.

    Attributes:
        client: Prefect client.
        trigger: What decides.
        jobs: Known jobs by name.
        log: Where it is told what is done.
        changes: What was done.
        notes: What is wrong.
    """

    client: PrefectClient
    trigger: Trigger
    jobs: Mapping[str, Job]
    log: Log
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    async def _rescues(self, live: Sequence[FlowRun]) -> None:
        """Help all that need it; one run must not keep us from the others."""
        await free_planner(self.client, self.log)
        for run in live:
            await self._try(run, self._hand_out(run))
        for due in await untaken(self.client, live, self.jobs):
            await self._try(due.run, self._tell_untaken(due))
        beating = await pools_that_beat(self.client)
        for run in live:
            await self._try(run, self._watch(run, beating))
        for run in live:
            await self._try(run, self._close(run, live))
        crashed = await self._crashed()
        entries = await entry_jobs(self.client, self.jobs) if crashed else {}
        for run in crashed:
            # By its deployment: one that has died before its gate carries no plan.
            if run.deployment_id in entries and run.parent_task_run_id is None:
                await self._try(run, self._revive(run))

    async def _try(self, run: FlowRun, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told
            line = " ".join(str(error).split()) or type(error).__name__
            self._note(f"{run.name}: {line}")

    async def _hand_out(self, run: FlowRun) -> None:
        """Hand an entry run out again that a worker took and never started.

        Of a stage this is its parent's to do, which must know that nobody begins it late.
        """
        state = run.state
        if state is None or state.type is not StateType.PENDING or ENTRY not in run.tags:
            return
        if datetime.now(UTC) - state.timestamp < max(STUCK, 3 * self._startup(run)):
            return
        if await self._set(run, Scheduled(message="Its worker took it and never started it.")):
            self._done(run, Step.RESCUED, f"{state.name} since {state.timestamp:%H:%M:%S} UTC")

    def _startup(self, run: FlowRun) -> timedelta:
        pool = self.trigger.fleet.by_name.get(run.work_pool_name or "")
        return pool.startup if pool else timedelta(0)

    async def _tell_untaken(self, one: Untaken) -> None:
        """Tell of a run that no worker starts, though no plan of its own says that it is late."""
        policy, clock = one.job.policy, self.trigger.clock
        with suppress(ValidationError, ValueError):
            given = CarbonPolicy.model_validate(one.run.parameters.get("policy") or {})
            policy = one.job.policy_for(given)
        due = clock.grid(one.due)
        slack = clock.wall(due + (policy.deadline(due) - due) / 4) - one.due
        if datetime.now(UTC) - one.due >= min(STUCK, slack):
            why = f"due since {one.due:%a %H:%M} UTC: {one.why}"
            await self._tell_late(one.run, one.job.name, why, AT_RISK)

    async def _watch(self, run: FlowRun, beating: Mapping[str, datetime]) -> None:
        """Look after a run that is at work: does it live, and does it end in time?"""
        if not {ENTRY, EXECUTION} & set(run.tags):
            return
        hold = Hold.read(run.labels)
        job = hold.decision.get("job") if hold and hold.went and ENTRY in run.tags else None
        if hold and job in self.jobs and self.trigger.clock.now() > hold.deadline:
            why = f"still {run.state_name} after its deadline, {hold.deadline:%a %d %b %H:%M} UTC"
            await self._tell_late(run, str(job), why, _OVERDUE, hold)
        pulse = await feel(self.client, run, beating)
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

    async def _tell_late(
        self, run: FlowRun, job: str, why: str, label: str, hold: Hold | None = None
    ) -> None:
        """Tell people, once, of a run that is late or will be."""
        if run.labels.get(label) is True:
            return
        await self.client.update_flow_run_labels(run.id, {label: True})
        promised = {}
        if hold is not None:
            promised = {
                "latest_safe_start": hold.latest_safe_start.isoformat(),
                "deadline": hold.deadline.isoformat(),
            }
        emit(Event.AT_RISK, run, job, why=why, state=run.state_name, **promised)
        self._done(run, Step.LATE, why)

    # -- what has ended ------------------------------------------------------------------------

    async def _close(self, run: FlowRun, live: Iterable[FlowRun]) -> None:
        """Cancel a stage that has not begun, or pauses, and whose entry run has ended."""
        scheduled = run.state is not None and run.state.type is StateType.SCHEDULED
        if not (scheduled and run.parent_task_run_id and EXECUTION in run.tags):
            return
        parent = await self._parent(run.parent_task_run_id)
        over = parent is None or (
            parent.id not in {one.id for one in live}
            and parent.state is not None
            and parent.state.is_final()
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

    async def _crashed(self) -> list[FlowRun]:
        """Return the entry runs that have crashed of late."""
        crashed = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])),
            end_time=FlowRunFilterEndTime(after_=datetime.now(UTC) - _REVIVED_FOR),
            tags=FlowRunFilterTags(all_=[ENTRY]),
        )
        return [run async for run in read_all(self.client, crashed)]

    async def _revive(self, run: FlowRun) -> None:
        """Retry an entry run whose infrastructure died; what fails by itself is for people."""
        hold = Hold.read(run.labels)
        tries = run.labels.get(_REVIVED, 0)
        if not isinstance(tries, int):
            return
        now = datetime.now(UTC)
        if tries >= _MOST_TRIES or run.state is None or now - run.state.timestamp < _SETTLED:
            return
        told: dict[str, bool | str | int] = {_REVIVED: tries + 1}
        if hold is not None and not hold.went:
            told |= Hold.starting(self.trigger.clock.now())  # planned anew, not at once
        await self.client.update_flow_run_labels(run.id, {**told})
        if await self._set(run, AwaitingRetry()):
            why = run.state.message or "its infrastructure died"
            self._done(run, Step.RESCUED, f"{why} Retried, {tries + 1} of {_MOST_TRIES}")

    # -- writing -------------------------------------------------------------------------------

    async def _set(self, run: FlowRun, state: State[None]) -> bool:
        """Change the state of a run, unless somebody has acted on it since it was read."""
        if state_id(await self.client.read_flow_run(run.id)) != state_id(run):
            return False
        answer = await self.client.set_flow_run_state(run.id, state)
        if answer.status is not SetStateStatus.ACCEPT:
            return False
        history = await self.client.read_flow_run_states(run.id)
        before = sorted(history, key=lambda state: state.timestamp)[-2:-1]
        if before and before[0].id != state_id(run) and before[0].type is StateType.SCHEDULED:
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


def state_id(run: FlowRun) -> UUID | None:
    """Return the id of a run's state."""
    return run.state.id if run.state else None
