"""Pausing: a stage's run lets its slot go between two segments, and goes on in the next one.

For the execution flow of a stage that declares ``interruptible``::

    @flow
    async def train(data: str):
        await guard(JOB.workload)
        until = await segment_end()
        while train_until(data, until):  # stops at the first checkpoint past it: is there more?
            until = await pause()

Between the segments it is the same run, in state ``AwaitingNextSegment``, and holds no worker. When
it wakes, the flow begins anew and takes up from its checkpoint. It pauses only while it keeps to
the plan: one that is late, or that a person has started, goes on to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import Abort
from prefect.logging import get_run_logger
from prefect.states import Scheduled

from carbon import Segment
from deployments._attempts import entry_of, stage_of
from deployments._hold import EARLY, WANTED_NOW, WORTH_WAITING, Hold
from deployments._lock import Log
from deployments._segments import PAUSES, TIMES, read
from deployments._settings import Settings
from deployments._shown import best_effort

AWAITING_SEGMENT: Final = "AwaitingNextSegment"
"""Name of the state of a run that pauses; Prefect never marks it Late."""

_SECONDS_FOR_LABELS: Final = 60
"""A server that stands still was seen to take two thirds of it."""

_BEHIND: Final = 0.1
_BEHIND_BY: Final = timedelta(minutes=1)
"""Share of the planned work, and time on top, that a run may lack when it pauses.

The plan keeps the deadline because it counts on the work of all segments before. A process takes
some seconds to start, and Prefect counts none of them.
"""


async def segment_end() -> datetime | None:
    """Return when this run is to stop at a checkpoint and pause, by the wall clock.

    Call it once, after the guard. ``None`` means: go on to the end.
    """
    if (run_id := _this_run()) is None:
        return None
    try:
        return await _segment_end(run_id)
    except (httpx.HTTPError, OSError) as error:
        get_run_logger().warning("The stage runs without pauses (%s)", type(error).__name__)
        return None


async def _segment_end(run_id: UUID) -> datetime | None:
    async with get_client() as client:
        run = await _labelled(client, run_id)
        if not (segments := read(run.labels)):
            return None
        now = datetime.now(UTC)
        if _between(segments, now):
            # Moved in the UI, which leaves no other sign. For good: it must not pause again.
            await client.update_flow_run_labels(run.id, {WANTED_NOW: True})
            run.labels[WANTED_NOW] = True
        if (end := _end(run, segments, now, get_run_logger())) is None:
            await _hold_to_the_end(client, run)
        return end


async def pause() -> datetime | None:
    """Let the slot go until the next segment; call it when the stage has stopped at a checkpoint.

    Returns:
        When to stop next, as :func:`segment_end`, where the run had better go on without a pause.

    Raises:
        Abort: The run pauses; Prefect ends this attempt and starts another in time.
        RuntimeError: It is called inside a task, which could not end the run.
    """
    if TaskRunContext.get() is not None:
        raise RuntimeError(
            "pause() ends the attempt of a flow run; call it in the flow, not a task"
        )
    if (run_id := _this_run()) is None:
        return None
    try:
        return await _pause(run_id)
    except (httpx.HTTPError, OSError) as error:
        # Whoever cannot tell Prefect that it pauses does the work instead.
        get_run_logger().warning("The stage does not pause (%s)", type(error).__name__)
        return None


async def _pause(run_id: UUID) -> datetime | None:
    async with get_client() as client:
        run = await client.read_flow_run(run_id)
        if not (segments := read(run.labels)):
            return None
        now, log = datetime.now(UTC), get_run_logger()
        done = [one for one in segments if one.end <= now]
        left = segments[len(done) :]
        if not (done and left) or left[0].start - now < WORTH_WAITING:
            return _end(run, segments, now, log)
        if why := _whole(run, done, now):
            log.info("The stage does not pause but goes on to its end: %s", why)
            await _hold_to_the_end(client, run)
            return None
        answer = await client.set_flow_run_state(run.id, _paused(left[0], len(done), len(segments)))
        if answer.status is not SetStateStatus.ACCEPT:
            log.warning("Prefect does not let the run pause (%s), so it goes on", answer.details)
            return None
        log.info("This attempt ends; the run goes on by itself at %s", _time(left[0].start))
    raise Abort("The run pauses until its next segment.")


async def _hold_to_the_end(client: PrefectClient, run: FlowRun) -> None:
    """Let the entry run's plan say that this stage holds its slot from now on.

    Others would plan with the slots between its segments, and queue.
    """
    with best_effort("That the stage holds its slot"):
        if (entry_id := entry_of(run)) is None:
            return
        entry = await client.read_flow_run(entry_id)
        if hold := Hold.read(entry.labels):
            whole = hold.whole(stage_of(run), Settings.load().make_clock().now())
            await client.update_flow_run_labels(entry.id, whole.labels())


async def _labelled(client: PrefectClient, run_id: UUID) -> FlowRun:
    """Read this run once its segments are on it, if any are coming."""
    for _ in range(_SECONDS_FOR_LABELS):
        run = await client.read_flow_run(run_id)
        if PAUSES not in run.tags or TIMES in run.labels:
            return run
        await asyncio.sleep(1)
    get_run_logger().warning("Its segments never came, so the stage runs whole")
    return await client.read_flow_run(run_id)


def _this_run() -> UUID | None:
    """Return the run of this process; ``None`` for one that cannot pause.

    Only the run of a deployment is started again, and only such a one is alone in its process:
    inside a subflow that ends so, the flow around it would stay Running for ever.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return run.id if run and run.deployment_id else None


def _between(segments: Sequence[Segment], now: datetime) -> bool:
    """Tell whether it is a pause: a run that begins then was started by somebody, or is late."""
    return any(one.end <= now < later.start - EARLY for one, later in pairwise(segments))


def _end(run: FlowRun, segments: Sequence[Segment], now: datetime, log: Log) -> datetime | None:
    """Return the end of the segment that a run is in, or is late or early for."""
    number = sum(one.end <= now for one in segments) + 1
    if number >= len(segments):
        return None
    if why := _whole(run, segments[:number], now):
        log.info("The stage goes on to its end without a further pause: %s", why)
        return None
    end = segments[number - 1].end
    log.info("Segment %d of %d, until %s", number, len(segments), _time(end))
    return end


def _whole(run: FlowRun, done: Sequence[Segment], now: datetime) -> str:
    """Say why a run must not pause when these segments are over; nothing where it may."""
    if run.labels.get(WANTED_NOW) is True:
        return "it was started before it was due"
    planned = sum((one.end - one.begin for one in done), timedelta(0))
    worked = run.estimated_run_time + max(done[-1].end - now, timedelta(0))
    if worked < planned * (1 - _BEHIND) - _BEHIND_BY:
        minutes = timedelta(minutes=1)
        return f"{worked / minutes:.0f} min of work by then, of {planned / minutes:.0f} planned"
    return ""


def _paused(following: Segment, done: int, count: int) -> State[None]:
    """Return the state of a run that pauses."""
    message = (
        f"Paused after segment {done} of {count}, at a checkpoint; goes on by itself at "
        f"{_time(following.start)}, when the grid is cleaner or cheaper. "
        "To let it go on at once, and to its end: carbon release, with the run's id."
    )
    return Scheduled(scheduled_time=following.start, name=AWAITING_SEGMENT, message=message)


def _time(moment: datetime) -> str:
    return f"{moment:%a %d %b %H:%M} UTC"
