"""Dispatch: runs a heavy stage in the pool that the planner chooses, exactly once, as a subflow.

The entry run waits for it and fails when it failed. Artefacts pass by URI in the parameters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.deployments import arun_deployment
from prefect.exceptions import FlowRunWaitTimeout, ObjectNotFound
from prefect.flow_runs import wait_for_flow_run
from prefect.logging import get_run_logger

from carbon import CarbonPolicy, Decision
from deployments._artifacts import publish_decision
from deployments._errors import NotDeployed, StageFailed
from deployments._gate import planning
from deployments._hold import Hold, taken
from deployments._jobs import Job
from deployments._trigger import Trigger, Verdict

_LOOK_AGAIN: Final = 60
"""Seconds after which the state is read again, should an event have been lost."""


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

    One stage with one set of parameters is run once for an entry run, whatever is retried or
    restarted: the key does not depend on the pool or the attempt.

    Args:
        job: The job that the stage belongs to.
        stage: Name of a heavy stage.
        parameters: Parameters of the execution flow: URIs and small values.
        policy: How the stage may be placed.
        data_class: Class of this run's data, on top of the workload's own.
        trigger: For tests; by default the one that the environment describes.

    Raises:
        StageFailed: The stage ended in anything but Completed.
        NotDeployed: The execution deployment is missing.
        ResidencyError: No permitted pool can run the stage.
    """
    trigger = trigger or Trigger.from_settings()
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("dispatch() works inside a flow run; call it from an entry flow")
    order = _Order(job, stage, dict(parameters), policy, data_class, trigger, context.flow_run.id)
    async with get_client() as client:
        child = await order.place(client)
        get_run_logger().info(
            "Stage %r runs as %r in pool %r", stage, child.name, child.work_pool_name
        )
        return await _finished(client, child, stage)


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
        text = json.dumps(self.parameters, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"{self.entry_id}/{self.stage}/{digest[:16]}"

    async def existing(self, client: PrefectClient) -> FlowRun | None:
        """Return the run that an earlier attempt of the entry run has already made."""
        same = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[self.key]))
        found = await client.read_flow_runs(flow_run_filter=same, limit=1)
        return found[0] if found else None

    async def place(self, client: PrefectClient) -> FlowRun:
        """Return this order's run: the one that there is, or a new one in the chosen pool."""
        log = get_run_logger()
        async with planning(log):
            # Inside the lock: a second attempt at this moment must find what the first has made.
            if made := await self.existing(client):
                return made
            entry = await client.read_flow_run(self.entry_id)
            hold = Hold.read(entry.labels)
            verdict = await self._decide(client, hold)
            log.info("Stage %r: %s", self.stage, verdict.decision.headline)
            if hold:
                moved = _moved(hold, verdict.decision, self.stage)
                await client.update_flow_run_labels(entry.id, moved.labels())
            child = await self._create(verdict.decision, f"{entry.name}-{self.stage}")
        await publish_decision(
            client, verdict, self.trigger.settings, run_id=self.entry_id, title=child.name
        )
        return child

    async def _decide(self, client: PrefectClient, hold: Hold | None) -> Verdict:
        now = self.trigger.clock.now()
        return self.trigger.decide(
            self.job.workload.only(self.stage),
            self.policy,
            hold.deadline if hold else self.policy.deadline(now),
            busy=await taken(client, now, but=self.entry_id),
            data_class=self.data_class,
            may_wait=False,
            entry=False,
        )

    async def _create(self, decision: Decision, name: str) -> FlowRun:
        deployment = self.job.execution_deployment(self.stage, decision.chosen.main.pool)
        try:
            return await arun_deployment(
                deployment,
                parameters=self.parameters,
                flow_run_name=name,
                timeout=0,
                idempotency_key=self.key,
            )
        except ObjectNotFound as error:
            raise NotDeployed(deployment) from error


def _moved(hold: Hold, decision: Decision, stage: str) -> Hold:
    """Return the run's hold with the stage's slot where it now is."""
    kept = tuple(slot for slot in hold.slots if slot.stage != stage)
    return Hold(hold.deadline, hold.start, hold.deferrals, (*kept, *decision.chosen.slots))


async def _finished(client: PrefectClient, child: FlowRun, stage: str) -> FlowRun:
    """Wait for a run by its events and return it completed."""
    while True:
        try:
            done: FlowRun = await wait_for_flow_run(child.id, timeout=_LOOK_AGAIN, client=client)
            break
        except FlowRunWaitTimeout:
            continue
    if done.state is None or done.state.type is not StateType.COMPLETED:
        state = (done.state.name if done.state else None) or "unknown"
        reason = (done.state.message if done.state else None) or ""
        raise StageFailed(stage, done.work_pool_name or "?", done.name, state, reason)
    return done
