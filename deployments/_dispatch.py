"""Dispatch: runs a heavy stage in the pool that the planner chooses, exactly once, as a subflow.

The entry run waits for it and fails when it failed. Artefacts pass by URI in the parameters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.deployments import arun_deployment
from prefect.exceptions import FlowRunWaitTimeout, ObjectNotFound
from prefect.flow_runs import wait_for_flow_run
from prefect.logging import get_run_logger
from prefect.states import AwaitingRetry

from carbon import CarbonPolicy, Decision, Strategy
from deployments._artifacts import publish_decision
from deployments._errors import NotDeployed, StageFailed
from deployments._gate import Log, planning
from deployments._hold import Hold, taken
from deployments._jobs import Job
from deployments._segments import PAUSES, WHOLE, labels
from deployments._trigger import Trigger, Verdict

_LOOK_AGAIN: Final = 10
"""Seconds after which the state is read again, should an event have been lost."""

_PATIENCE: Final = timedelta(seconds=10)
"""Longest time that a stage waits for signal providers."""

_PAUSE: Final = 2
"""Seconds between two looks at a retried run, whose earlier end is still being told."""


async def dispatch(
    job: Job,
    stage: str,
    parameters: Mapping[str, Any],
    policy: CarbonPolicy,
    *,
    data_class: str | None = None,
    trigger: Trigger | None = None,
) -> FlowRun:
    """Run one heavy stage where the planner says, wait for it, and return its completed run.

    A stage is run once for an entry run, whatever is retried or restarted in between: the run that
    was made first is waited for, with the parameters that it was given. When it had ended without
    completing, that same run is retried.

    Args:
        job: The job that the stage belongs to.
        stage: Name of a heavy stage.
        parameters: Parameters of the execution flow: URIs and small values.
        policy: How the stage may be placed; what it leaves out is as in the job's policy.
        data_class: Class of this run's data, on top of the workload's own.
        trigger: For tests; by default the one that the environment describes.

    Raises:
        StageFailed: The stage ended in anything but Completed.
        NotDeployed: The execution deployment is missing.
        ResidencyError: No permitted pool can run the stage.
    """
    trigger = trigger or Trigger.for_run()
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("dispatch() works inside a flow run; call it from an entry flow")
    entry_id = context.flow_run.id
    policy = job.policy_for(policy)
    order = _Order(job, stage, dict(parameters), policy, data_class, trigger, entry_id)
    fixed = policy.strategy is Strategy.RUN_NOW
    await trigger.refresh(patience=timedelta(0) if fixed else _PATIENCE)
    async with get_client() as client:
        child = await order.place(client)
        get_run_logger().info(
            "Stage %r runs as %r in pool %r", stage, child.name, child.work_pool_name
        )
        try:
            return await _finished(client, child, stage)
        finally:
            await order.release(client)


@dataclass(frozen=True)
class _Order:
    """One stage to be run once for one entry run."""

    job: Job
    stage: str
    parameters: dict[str, Any]
    policy: CarbonPolicy
    data_class: str | None
    trigger: Trigger
    entry_id: UUID

    @property
    def key(self) -> str:
        """What names the stage's run, whatever the pool, the attempt or the parameters."""
        return f"{self.entry_id}/{self.stage}"

    async def place(self, client: PrefectClient) -> FlowRun:
        """Return this order's run: the one that there is, or a new one in the chosen pool."""
        log = get_run_logger()
        async with planning(log):
            # Inside the lock: a second attempt at this moment must find what the first has made.
            entry = await client.read_flow_run(self.entry_id)
            hold = Hold.read(entry.labels)
            if made := await self._existing(client):
                if hold and made.work_pool_name:
                    # It stays in its pool, wherever the gate would place it by now.
                    there = hold.moved(self.stage, made.work_pool_name)
                    await client.update_flow_run_labels(entry.id, there.labels())
                return await _again(client, made, log)
            verdict = await self._decide(client, hold)
            log.info("Stage %r: %s", self.stage, verdict.decision.headline)
            if hold:
                moved = Hold.of(
                    verdict.decision, deferrals=hold.deferrals, went=True, baseline=hold.baseline
                )
                await client.update_flow_run_labels(entry.id, moved.labels())
            child = await self._create(verdict.decision, f"{entry.name}-{self.stage}")
            await self._segment(client, child, verdict.decision, log)
        await publish_decision(
            client, verdict, self.trigger.settings, run_id=self.entry_id, title=child.name
        )
        return child

    async def release(self, client: PrefectClient) -> None:
        """Give the stage's slot back in the entry run's plan."""
        hold = Hold.read((await client.read_flow_run(self.entry_id)).labels)
        if hold:
            await client.update_flow_run_labels(self.entry_id, hold.without(self.stage).labels())

    async def _existing(self, client: PrefectClient) -> FlowRun | None:
        """Return the run that an earlier attempt of the entry run has already made."""
        same = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[self.key]))
        found = await client.read_flow_runs(flow_run_filter=same, limit=1)
        return found[0] if found else None

    async def _decide(self, client: PrefectClient, hold: Hold | None) -> Verdict:
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
        )

    async def _create(self, decision: Decision, name: str) -> FlowRun:
        placed = decision.chosen.placement(self.stage)
        deployment = self.job.execution_deployment(self.stage, placed.pool)
        try:
            return await arun_deployment(
                deployment,
                parameters=self.parameters,
                flow_run_name=name,
                timeout=0,
                tags=[PAUSES] if placed.segments else None,
                idempotency_key=self.key,
            )
        except ObjectNotFound as error:
            raise NotDeployed(deployment) from error

    async def _segment(
        self, client: PrefectClient, child: FlowRun, decision: Decision, log: Log
    ) -> None:
        """Leave its segments on the stage's run, which pauses between them by itself."""
        segments = decision.chosen.placement(self.stage).segments
        if not segments:
            return
        try:
            told = labels(segments, self.trigger.clock)
            await client.update_flow_run_labels(child.id, told)
        except Exception as error:  # noqa: BLE001  # without them it runs whole, and in time
            log.warning("Stage %r runs without pauses (%s)", self.stage, type(error).__name__)


async def _again(client: PrefectClient, made: FlowRun, log: Log) -> FlowRun:
    """Start a run again that ended without completing: somebody retries its entry run."""
    if made.state is None or not made.state.is_final() or made.state.is_completed():
        return made
    log.info("Stage run %r ended as %s and is retried", made.name, made.state.name)
    # The plan of its segments did not know that it would fail.
    await client.update_flow_run_labels(made.id, WHOLE)
    await client.set_flow_run_state(made.id, AwaitingRetry())
    return await client.read_flow_run(made.id)


async def _finished(client: PrefectClient, child: FlowRun, stage: str) -> FlowRun:
    """Wait for a run by its events and return it completed."""
    state: State | None = None
    while state is None or not state.is_final():
        try:
            child = await wait_for_flow_run(child.id, timeout=_LOOK_AGAIN, client=client)
        except FlowRunWaitTimeout:
            continue
        state = child.state
        if state is not None and not state.is_final():
            # The run is retried, and Prefect has sent the event of its earlier end once more, as
            # it does with the events of the last minute.
            await asyncio.sleep(_PAUSE)
    if not state.is_completed():
        pool, reason = child.work_pool_name or "?", state.message or ""
        raise StageFailed(stage, pool, child.name, state.name or "unknown", reason)
    return child
