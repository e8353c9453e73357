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

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final, TypeAlias

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import SetStateStatus
from prefect.concurrency.asyncio import concurrency
from prefect.context import FlowRunContext
from prefect.exceptions import Abort
from prefect.logging import get_run_logger

from carbon import CarbonPolicy, Decision, Reservation, Strategy, Workload
from deployments._artifacts import publish_decision
from deployments._guard import guard
from deployments._hold import EARLY, WANTED_NOW, WORTH_WAITING, Hold, taken, waiting_state
from deployments._jobs import Job
from deployments._trigger import Trigger, Verdict
from work_pools import PLANNER_LOCK

Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"

_CLEARLY_BETTER_PERCENT: Final = 1.0
"""Saving against going now that a run which has waited once needs to wait again (hysteresis).

By ``benchmarks/uncertainty.py`` 1 % keeps most of what planning anew on waking wins where forecasts
are poor, with far fewer moves than 0 %; 5 % and more throw it away.
"""

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
    trigger = trigger or Trigger.for_run()
    await guard(job.workload, data_class=data_class, fleet=trigger.fleet)
    log = get_run_logger()
    run = _this_run()
    # Before the lock: others must not wait for our providers.
    await trigger.refresh(patience=_patience(job, job.policy_for(policy), run, trigger))
    async with get_client() as client:
        async with planning(log):
            # Read again: the engine's copy may be older than what a person has changed since.
            run = await client.read_flow_run(run.id) if run else None
            passage = _Passage(trigger, job.workload, job.policy_for(policy), data_class, run)
            verdict, waits = await passage.decide(client)
            if run is not None:
                # Labels first: a run that wakes must find its plan.
                await passage.write(client, run, verdict, waits=waits)
            if run is not None and waits and not await _put_off(client, run, verdict, trigger, log):
                verdict, waits = await passage.at_once(client), False
                await passage.write(client, run, verdict, waits=False)
        _tell(log, verdict.decision)
        if run is not None:
            await publish_decision(client, verdict, trigger.settings, run_id=run.id, title=run.name)
    if waits:
        log.info("This attempt ends; the run wakes by itself at its start.")
        raise Abort("The run waits for its clean window.")
    return verdict.decision


async def _put_off(
    client: PrefectClient, run: FlowRun, verdict: Verdict, trigger: Trigger, log: Log
) -> bool:
    """Re-time the run; ``False`` when Prefect refuses, e.g. because somebody is cancelling it."""
    answer = await client.set_flow_run_state(run.id, waiting_state(verdict.decision, trigger.clock))
    if answer.status is not SetStateStatus.ACCEPT:
        log.warning("Prefect does not let the run wait (%s), so it goes now", answer.details)
        return False
    return True


@asynccontextmanager
async def planning(
    log: Log, lock: AbstractAsyncContextManager[None] | None = None
) -> AsyncIterator[None]:
    """Plan one at a time, so that two runs do not take the same slot.

    Without the lock the run goes on: late work is worse than a full pool, whose own limit has the
    last word.

    Args:
        log: Where it is told that the lock cannot be had.
        lock: For tests; by default Prefect's global concurrency limit.
    """
    lock = lock or concurrency(PLANNER_LOCK, timeout_seconds=30, lease_duration=60, strict=False)
    try:
        await lock.__aenter__()
    except Exception as error:  # noqa: BLE001  # any failure of the lock must not stop the run
        log.warning("Planning without the lock %r (%s)", PLANNER_LOCK, type(error).__name__)
        yield
        return
    try:
        yield
    finally:
        try:
            await lock.__aexit__(None, None, None)
        except Exception as error:  # noqa: BLE001  # as above; the lease runs out by itself
            log.warning("The lock %r was not given back (%s)", PLANNER_LOCK, type(error).__name__)


@dataclass(frozen=True)
class _Passage:
    """One run at the gate."""

    trigger: Trigger
    workload: Workload
    policy: CarbonPolicy
    data_class: str | None
    run: FlowRun | None

    @cached_property
    def hold(self) -> Hold | None:
        return Hold.read(self.run.labels) if self.run else None

    @property
    def deferrals(self) -> int:
        return self.hold.deferrals if self.hold else 0

    async def decide(self, client: PrefectClient) -> tuple[Verdict, bool]:
        """Return the decision, and whether the run waits for it."""
        busy = await self._busy(client)
        verdict = self._plan(busy, may_wait=self._may_wait())
        if not self._worth_waiting(verdict.decision):
            return verdict, False
        if self.deferrals:
            at_once = self._plan(busy, may_wait=False)
            if not self._clearly_better(verdict.decision, at_once.decision):
                return at_once, False
        return verdict, True

    async def at_once(self, client: PrefectClient) -> Verdict:
        """Return the decision for a run that cannot wait."""
        return self._plan(await self._busy(client), may_wait=False)

    async def write(
        self, client: PrefectClient, run: FlowRun, verdict: Verdict, *, waits: bool
    ) -> None:
        """Let the run carry what was decided."""
        hold = Hold.of(
            verdict.decision,
            deferrals=self.deferrals + waits,
            went=not waits,
            baseline=self.hold.baseline if self.hold else None,
        )
        await client.update_flow_run_labels(run.id, hold.labels())

    async def _busy(self, client: PrefectClient) -> tuple[Reservation, ...]:
        return await taken(client, self.trigger.clock.now(), but=self.run.id if self.run else None)

    def _plan(self, busy: tuple[Reservation, ...], *, may_wait: bool) -> Verdict:
        return self.trigger.decide(
            self.workload,
            self.policy,
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
        return clock.wall(self.hold.start) - clock.wall(clock.now()) > EARLY

    def _worth_waiting(self, decision: Decision) -> bool:
        clock = self.trigger.clock
        wait = clock.wall(decision.chosen.start) - clock.wall(decision.decided_at)
        return self._may_wait() and wait >= WORTH_WAITING

    def _clearly_better(self, later: Decision, at_once: Decision) -> bool:
        """Tell whether waiting again beats going now: it keeps a limit, or saves clearly more."""
        if len(later.breaches) < len(at_once.breaches):
            return True
        by_cost = self.policy.strategy is Strategy.CHEAPEST
        then = later.chosen.usd if by_cost else later.chosen.g
        now = at_once.chosen.usd if by_cost else at_once.chosen.g
        if then is None or now is None:
            return False
        # Of the amount, and by something: prices may be negative, and nothing.
        return then < now and then <= now - abs(now) * _CLEARLY_BETTER_PERCENT / 100


def _patience(job: Job, policy: CarbonPolicy, run: FlowRun | None, trigger: Trigger) -> timedelta:
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


def _tell(log: Log, decision: Decision) -> None:
    log.info(decision.headline)
    log.info(decision.reason)
    for note in (*decision.breaches, *decision.degraded):
        log.warning(note)
