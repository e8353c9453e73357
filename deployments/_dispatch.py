"""Dispatch: runs a heavy stage in the pool that the planner chooses, exactly once, as a subflow.

The entry run waits for it and fails when it failed. Artefacts pass by URI in the parameters.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import FlowRunWaitTimeout
from prefect.flow_runs import wait_for_flow_run
from prefect.logging import get_run_logger

from carbon import CarbonPolicy, Strategy
from deployments._attempts import lost
from deployments._closed import closed
from deployments._errors import StageFailed
from deployments._jobs import Job
from deployments._mode import Switch, pinned, read_switch
from deployments._outage import patiently
from deployments._refusal import refusals_told
from deployments._shown import best_effort
from deployments._stage_order import Order
from deployments._trigger import Trigger

_LOOK_AGAIN: Final = 10
"""Seconds after which the state is read again, should an event have been lost."""

_PATIENCE: Final = timedelta(seconds=10)
"""Longest time that a stage waits for signal providers."""

_PAUSE: Final = 2
"""Seconds between two looks at a retried run, whose earlier end is still being told."""

_REPLAN: Final = 60
"""Seconds between two plans for a run that does not begin and cannot go elsewhere either."""

_FURTHER: Final = 2
"""Attempts after a crash that need nobody's word: what crashes three times is not bad luck."""

_NEVER_BEGUN: Final = 8
"""The same for runs that a worker could not start: that says nothing of the stage."""


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
    was made first is waited for, with the parameters that it was given. When it had failed or was
    cancelled, that same run is retried.

    Another run takes over in two cases, and only when the earlier one can no longer be at work:

    - It has not begun, for its pool is paused, has no worker or no room, and another pool can do it
      in time. It is withdrawn first; once withdrawn it does not begin, whoever starts it.
    - It crashed, and the deadline leaves time. Up to two more attempts are made, elsewhere if
      possible; up to eight where a worker could not even start it, also after the deadline. How it
      is known that the first one is gone, and what that does not cover, is told in
      :mod:`deployments._lease`. The execution flow must call ``guard`` first.

    A run on a machine that vanished stays Running in Prefect until the keeper, or somebody, marks
    it as Crashed; till then it is waited for. One that a worker took and that has not begun ten
    minutes later is withdrawn, too.

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
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("dispatch() works inside a flow run; call it from an entry flow")
    policy = job.policy_for(policy)
    entry, log = context.flow_run, get_run_logger()
    async with get_client() as client, refusals_told(client, entry, job.name):
        trigger = trigger or Trigger.for_run()
        switch, labels = await patiently(lambda: _wishes(client, job, entry.id), log)
        policy = switch.policy(pinned(policy, labels))
        order = Order(job, stage, dict(parameters), policy, data_class, trigger, entry.id, log)
        fixed = policy.strategy is Strategy.RUN_NOW
        await trigger.refresh(patience=timedelta(0) if fixed else _PATIENCE)
        child = await patiently(lambda: order.place(client), log)
        wait = _Wait(client, order, child)
        try:
            while not (ended := await patiently(wait.look, log)):
                pass
            return ended
        finally:
            with best_effort("That its slot is free"):
                await order.release(client)


async def _wishes(
    client: PrefectClient, job: Job, entry_id: UUID
) -> tuple[Switch, Mapping[str, object]]:
    """Return how the switch stands, and the labels of the entry run."""
    entry = await client.read_flow_run(entry_id)
    return await read_switch(client, job.name), entry.labels


@dataclass
class _Wait:
    """The wait for a stage, whichever runs it takes.

    Attributes:
        client: Prefect client.
        order: The stage that is waited for.
        child: The run that it is by now.
        tried: Pools in which it has waited in vain.
        crashes: How often it has crashed.
        refused: How often a worker could not start it.
        planned: When another place was last looked for, by the monotonic clock.
    """

    client: PrefectClient
    order: Order
    child: FlowRun
    tried: dict[str, str] = field(default_factory=dict)
    crashes: int = 0
    refused: int = 0
    planned: float = -float(_REPLAN)

    async def look(self) -> FlowRun | None:
        """Wait for some seconds; return the run that has completed, if one has.

        Raises:
            StageFailed: The stage has ended otherwise.
        """
        self.child = child = await _seen(self.client, self.child)
        state = child.state
        if state is None or not state.is_final():
            await self._hurry()
        elif state.is_completed():
            return child
        elif lost(child) and not state.is_crashed():
            # Withdrawn by its own guard, or by another process of this entry run.
            self._go_on_with(await self.order.place(self.client))
        elif state.is_crashed() and self._bad_luck(child):
            shut = await closed(self.client, self.order.trigger.fleet)
            found = await self.order.after_crash(self.client, child, self.tried | shut)
            self.child = found
            if found.id == child.id and found.state and found.state.is_crashed():
                raise _failed(found, self.order.stage)
        else:
            raise _failed(child, self.order.stage)
        return None

    def _bad_luck(self, child: FlowRun) -> bool:
        """Count a crash, and tell whether the stage may be tried again."""
        if child.run_count:
            self.crashes += 1
            return self.crashes <= _FURTHER
        self.refused += 1
        return self.refused <= _NEVER_BEGUN

    async def _hurry(self) -> None:
        """Have a run that does not begin taken elsewhere, if that is possible by now."""
        shut = await self.order.overdue(self.client, self.child)
        if not shut or time.monotonic() - self.planned < _REPLAN:
            return
        self.planned = time.monotonic()
        before = self.child.id
        self.child = await self.order.elsewhere(self.client, self.child, self.tried | shut)
        if self.child.id != before:
            self.tried |= shut
            self.planned -= _REPLAN

    def _go_on_with(self, child: FlowRun) -> None:
        if child.id == self.child.id:
            raise _failed(child, self.order.stage)
        self.child = child


async def _seen(client: PrefectClient, child: FlowRun) -> FlowRun:
    """Return a run when it has ended, or as it is after some seconds."""
    try:
        seen: FlowRun = await wait_for_flow_run(child.id, timeout=_LOOK_AGAIN, client=client)
    except FlowRunWaitTimeout:
        return await client.read_flow_run(child.id)
    if seen.state is not None and not seen.state.is_final():
        # The run is retried, and Prefect has sent the event of its earlier end once more, as it
        # does with the events of the last minute.
        await asyncio.sleep(_PAUSE)
    return seen


def _failed(child: FlowRun, stage: str) -> StageFailed:
    pool, state = child.work_pool_name or "?", child.state
    reason, name = (state.message or "", state.name or "unknown") if state else ("", "unknown")
    return StageFailed(stage, pool, child.name, name, reason)
