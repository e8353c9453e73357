"""An order: one stage to be run once for one entry run, and where each attempt of it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas import OrchestrationResult
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import SetStateStatus
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry

from carbon import CarbonPolicy, Decision
from deployments._artifacts import publish_decision
from deployments._attempts import MARK, key, latest, lost, number_of, spent, withdrawal
from deployments._closed import closed
from deployments._errors import NotDeployed
from deployments._events import emit_decision
from deployments._hold import Hold, taken
from deployments._jobs import Job
from deployments._lease import settled
from deployments._lock import Log, planning
from deployments._pause import AWAITING_SEGMENT
from deployments._segments import PAUSES, WHOLE, labels
from deployments._trigger import Trigger, Verdict

_STUCK: Final = timedelta(minutes=10)
"""How long a run may be Pending: its worker, or what it has started, has died before it began."""

_WORKER_LAG: Final = timedelta(seconds=60)
"""What a pool gets on top of its start-up time: its worker asks for runs every 15 s."""


@dataclass(frozen=True)
class Order:
    """One stage to be run once for one entry run.

    Attributes:
        job: The job that the stage belongs to.
        stage: Name of the stage.
        parameters: Parameters of its execution flow.
        policy: How it may be placed.
        data_class: Class of this run's data, on top of the workload's own.
        trigger: What decides.
        entry_id: The entry run.
        log: Where it is told what happens.
    """

    job: Job
    stage: str
    parameters: dict[str, Any]
    policy: CarbonPolicy
    data_class: str | None
    trigger: Trigger
    entry_id: UUID
    log: Log

    async def place(self, client: PrefectClient) -> FlowRun:
        """Return this order's run: the one that there is, or a new one in the chosen pool."""
        while True:
            if made := await self._latest(client):
                made = await self._settled(client, made)
            async with planning(client, self.log):
                # Inside the lock: a second attempt at this moment must find what the first made.
                last = await self._latest(client)
                if last and (made is None or last.state_id != made.state_id):
                    continue  # it goes on, and if it ends meanwhile it must be settled, too
                entry = await client.read_flow_run(self.entry_id)
                hold = Hold.read(entry.labels)
                if last and (not lost(last) or spent(last)):
                    if hold and last.work_pool_name:
                        # It stays in its pool, wherever the gate would place it by now.
                        there = hold.moved(self.stage, last.work_pool_name)
                        await client.update_flow_run_labels(entry.id, there.labels())
                    return await again(client, last, self.log)
                verdict = await self._decide(client, hold, await closed(client, self.trigger.fleet))
                child = await self._make(client, entry, verdict, last)
            return await self._published(client, verdict, child)

    async def elsewhere(
        self, client: PrefectClient, child: FlowRun, shut: Mapping[str, str]
    ) -> FlowRun:
        """Take a run that has not begun out of its pool, if another one can begin it at once.

        In time, as long as its own pool could still do it in time.

        Args:
            client: Prefect client.
            child: The run.
            shut: Pools that are out of the question, with the reason; its own is among them.

        Returns:
            The run in the other pool, or the same run where it had better stay or has begun.
        """
        async with planning(client, self.log):
            child = await client.read_flow_run(child.id)
            stuck = self._stuck(child)
            if not (_waits(child) or stuck) or spent(child):
                return child
            entry = await client.read_flow_run(self.entry_id)
            hold, pool = Hold.read(entry.labels), child.work_pool_name or ""
            verdict = await self._open(client, hold, shut, pool)
            if verdict is None:
                if not stuck:
                    return child
                # What has it will not begin it: better the same pool once more than nowhere.
                others = {name: why for name, why in shut.items() if name != pool}
                verdict = await self._decide(client, hold, others)
            # The order counts. Marked first: should a worker take the run from here on, its guard
            # refuses. Read again: a run that has begun by now was not marked in time, and stays.
            await client.update_flow_run_labels(child.id, MARK)
            child = await client.read_flow_run(child.id)
            if not (_waits(child) or self._stuck(child)):
                return child
            why = shut.get(pool, "it has not begun there")
            state = withdrawal(f"Not begun in pool {child.work_pool_name!r}: {why}.")
            answer: OrchestrationResult[Any] = await client.set_flow_run_state(child.id, state)
            if answer.status is not SetStateStatus.ACCEPT:
                return await client.read_flow_run(child.id)
            self.log.warning("Stage run %r is withdrawn. %s", child.name, state.message)
            made = await self._make(client, entry, verdict, child)
        return await self._published(client, verdict, made)

    async def after_crash(
        self, client: PrefectClient, child: FlowRun, shut: Mapping[str, str]
    ) -> FlowRun:
        """Run a stage again whose infrastructure died: elsewhere if possible.

        One that had begun is repeated only where that is in time.

        Args:
            client: Prefect client.
            child: The crashed run.
            shut: Pools that are out of the question, with the reason.

        Returns:
            The new run, or the old one when no time is left or when it lives after all.
        """
        child = await self._settled(client, child)
        async with planning(client, self.log):
            last = await self._latest(client) or child
            if last.id != child.id or not _crashed(last) or spent(last):
                return last
            entry = await client.read_flow_run(self.entry_id)
            hold, pool = Hold.read(entry.labels), child.work_pool_name or ""
            others = {**shut, pool: "the stage has crashed there"}
            verdict = await self._open(client, hold, others, pool)
            if verdict is None:
                verdict = await self._decide(client, hold, shut)
            # What never began has cost nothing yet: it is begun late rather than not at all.
            if child.run_count and not _in_time(verdict.decision):
                self.log.error("Stage %r has crashed, and no time is left to repeat it", self.stage)
                return child
            # Whoever retries the crashed run in the UI must not wake a second one.
            await client.update_flow_run_labels(child.id, MARK)
            self.log.warning("Stage run %r has crashed and is repeated as another run", child.name)
            made = await self._make(client, entry, verdict, child)
        return await self._published(client, verdict, made)

    async def overdue(self, client: PrefectClient, child: FlowRun) -> dict[str, str]:
        """Return why a run that has not begun cannot wait in its pool, with all closed pools."""
        pool = self.trigger.fleet.by_name.get(child.work_pool_name or "")
        if pool is not None and child.state is not None and self._stuck(child):
            taken_at = f"{child.state.timestamp:%H:%M} UTC"
            why = f"its worker took the stage at {taken_at}, and it has not begun"
            return {**await closed(client, self.trigger.fleet), pool.name: why}
        if pool is None or not _waits(child):
            return {}
        due = _due(child)
        waited = datetime.now(UTC) - due
        if waited < timedelta(0):
            return {}
        clock = self.trigger.clock
        startup = clock.wall(clock.grid(due) + pool.startup) - due
        shut = await closed(client, self.trigger.fleet)
        if waited > startup + _WORKER_LAG:
            minutes = waited.total_seconds() / 60
            shut.setdefault(pool.name, f"the stage has not begun there within {minutes:.0f} min")
        return shut if pool.name in shut else {}

    def _stuck(self, run: FlowRun) -> bool:
        """Tell whether a worker took a run so long ago that it will not begin."""
        state = run.state
        if state is None or not state.is_pending():
            return False
        pool = self.trigger.fleet.by_name.get(run.work_pool_name or "")
        startup = pool.startup if pool else timedelta(0)
        return datetime.now(UTC) - state.timestamp >= max(_STUCK, 3 * startup)

    async def release(self, client: PrefectClient) -> None:
        """Give the stage's slot back in the entry run's plan."""
        hold = Hold.read((await client.read_flow_run(self.entry_id)).labels)
        if hold:
            await client.update_flow_run_labels(self.entry_id, hold.without(self.stage).labels())

    async def _latest(self, client: PrefectClient) -> FlowRun | None:
        return await latest(client, self.entry_id, self.stage)

    async def _settled(self, client: PrefectClient, run: FlowRun) -> FlowRun:
        read = partial(client.read_flow_run, run.id)
        return await settled(read, self.trigger.settings.lease, self.log)

    async def _decide(
        self, client: PrefectClient, hold: Hold | None, shut: Mapping[str, str]
    ) -> Verdict:
        """Place the stage with all that comes after it, so that those still end in time."""
        now = self.trigger.clock.now()
        return self.trigger.decide(
            self.job.workload.since(self.stage),
            # Whether a move is worth it was decided at the gate, for the run as a whole.
            self.policy.model_copy(update={"min_saving_percent": None}),
            hold.deadline if hold else self.policy.deadline(now),
            busy=await taken(client, now, but=self.entry_id),
            data_class=self.data_class,
            may_wait=False,
            running=True,
            closed=shut,
        )

    async def _open(
        self, client: PrefectClient, hold: Hold | None, shut: Mapping[str, str], pool: str
    ) -> Verdict | None:
        """Return where a stage begins at once in an open pool; ``None`` where nowhere.

        Where its own pool is too late as well, it need not end in time.
        """
        late, full = self._late(hold, pool), dict(shut)
        while True:
            verdict = await self._decide(client, hold, full)
            decision = verdict.decision
            where = decision.chosen.placement(self.stage).pool
            if where in full:
                return None
            queues = any(breach.startswith("capacity") for breach in decision.breaches)
            if not queues and (late or _in_time(decision)):
                return verdict
            if not late:
                return None
            full[where] = "no slot is free there"

    def _late(self, hold: Hold | None, name: str) -> bool:
        """Tell whether a stage would end too late in a pool if it began there now."""
        pool = self.trigger.fleet.by_name.get(name)
        if hold is None:
            return False
        if pool is None:  # it has left the fleet, so nothing begins there
            return True
        need = self.job.workload.stage(self.stage).needs.get(pool.hardware)
        longest = need.p95 if need else timedelta(0)
        return self.trigger.clock.now() + pool.startup + longest > hold.deadline

    async def _make(
        self, client: PrefectClient, entry: FlowRun, verdict: Verdict, before: FlowRun | None
    ) -> FlowRun:
        """Make the next attempt as it was decided, and let the entry run carry the plan."""
        decision = verdict.decision
        self.log.info("Stage %r: %s", self.stage, decision.headline)
        if hold := Hold.read(entry.labels):
            moved = Hold.of(decision, deferrals=hold.deferrals, went=True, baseline=hold.baseline)
            await client.update_flow_run_labels(entry.id, moved.labels())
        number = number_of(before) + 1 if before else 0
        if (last := await self._latest(client)) and number_of(last) >= number:
            return last  # made without the lock, while this plan was made
        name = f"{entry.name}-{self.stage}" + (f"-{number + 1}" if number else "")
        child = await self._create(decision, name, number)
        await self._segment(client, child, decision)
        return child

    async def _create(self, decision: Decision, name: str, number: int) -> FlowRun:
        placed = decision.chosen.placement(self.stage)
        deployment = self.job.execution_deployment(self.stage, placed.pool)
        try:
            return await arun_deployment(
                deployment,
                parameters=self.parameters,
                flow_run_name=name,
                timeout=0,
                tags=[PAUSES] if placed.segments else None,
                idempotency_key=key(self.entry_id, self.stage, number),
            )
        except ObjectNotFound as error:
            raise NotDeployed(deployment) from error

    async def _segment(self, client: PrefectClient, child: FlowRun, decision: Decision) -> None:
        """Leave its segments on the stage's run, which pauses between them by itself."""
        segments = decision.chosen.placement(self.stage).segments
        if not segments:
            return
        try:
            told = labels(segments, self.trigger.clock)
            await client.update_flow_run_labels(child.id, told)
        except Exception as error:  # noqa: BLE001  # without them it runs whole, and in time
            kind = type(error).__name__
            self.log.warning("Stage %r runs without pauses (%s)", self.stage, kind)

    async def _published(self, client: PrefectClient, verdict: Verdict, child: FlowRun) -> FlowRun:
        settings = self.trigger.settings
        flow = self.job.execution_flow(self.stage)
        emit_decision(verdict.decision, child, self.job.name, flow=flow, stage=self.stage)
        await publish_decision(client, verdict, settings, run_id=self.entry_id, title=child.name)
        self.log.info(
            "Stage %r runs as %r in pool %r", self.stage, child.name, child.work_pool_name
        )
        return child


async def again(client: PrefectClient, made: FlowRun, log: Log) -> FlowRun:
    """Start a run again that ended without completing: somebody retries its entry run."""
    if made.state is None or not made.state.is_final() or made.state.is_completed():
        return made
    if lost(made):  # and there have been too many of them
        return made
    log.info("Stage run %r ended as %s and is retried", made.name, made.state.name)
    # The plan of its segments did not know that it would fail.
    await client.update_flow_run_labels(made.id, WHOLE)
    await client.set_flow_run_state(made.id, AwaitingRetry())
    return await client.read_flow_run(made.id)


def _crashed(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_crashed()


def _waits(run: FlowRun) -> bool:
    """Tell whether a run waits for a worker, with no process that it might still have."""
    state = run.state
    fresh = not run.run_count or (state is not None and state.name == AWAITING_SEGMENT)
    return state is not None and state.is_scheduled() and fresh


def _due(run: FlowRun) -> datetime:
    due = run.state.state_details.scheduled_time if run.state else None
    due = due or run.expected_start_time
    return datetime.fromtimestamp(due.timestamp(), UTC) if due else datetime.now(UTC)


def _in_time(decision: Decision) -> bool:
    """Tell whether all that is left ends in time, by p95 run times and start-ups."""
    return max(row.end_p95 for row in decision.chosen.placements) <= decision.deadline
