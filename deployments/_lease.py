"""The lease: how it is known that the process of a stage's run is gone before another one starts.

A state is not a process: an automation or a person may mark a run as Crashed whose process is only
cut off from Prefect. So the process of a stage asks every few seconds whether its run is still
wanted, and ends itself when the run has ended without it, when another process has taken the run
up, or when nobody has answered for ``CARBON_LEASE`` (ten minutes). Whoever wants to start another
one waits for as long, unless the state says who saw the process end.

The process of an entry run asks as well, and ends itself in the first two cases only: it waits for
Prefect as long as it takes, and all that is costly is in its stages.

Guaranteed, where all run with one value of ``CARBON_LEASE`` and clocks within some seconds: no
second process while the first one is at work. Not guaranteed: for a process that was frozen, or
whose code lets no Python thread run, and that goes on later, for the seconds until it looks; and
for what a stage has started elsewhere. So what it writes should be the same when written twice.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging import get_run_logger
from prefect.logging.handlers import APILogHandler

if TYPE_CHECKING:
    from deployments._lock import Log

LOOK: Final = 10.0
"""Seconds between two looks."""

GRACE: Final = 10.0
"""Seconds that a process has to end by itself once its run has ended."""

_MARGIN: Final = timedelta(minutes=1)
"""What whoever waits adds to the lease: three looks at most, and for clocks that differ."""

_SUPERSEDED: Final = 0
"""Exit code of a process whose run goes on, or has ended, without it: nothing is to report."""

_CUT_OFF: Final = 75
"""Exit code of a process that ends for want of an answer; its worker reports it as crashed."""

ALONE: Final = "it does not go on alone"
"""What a run says that cancels itself because its entry run has ended."""

_LAST_WORDS: Final = (
    "exited with",  # the worker: of the process, or of its container
    "Execution was aborted by",  # the run itself, on SIGTERM and the like
    "Execution was cancelled by the runtime",
    "Flow run was cancelled",  # the run itself, or the worker that has ended its process
    ALONE,
)
"""What the message of a state holds if its writer saw the process, or at least the code, end."""


def gone_at(run: FlowRun, lease: timedelta) -> datetime | None:
    """Return from when on the process of a run that has ended is certainly gone; ``None``: it is.

    Args:
        run: A run in a final state.
        lease: How long a process goes on without an answer from Prefect.
    """
    state = run.state
    if state is None or not (state.is_crashed() or state.is_cancelled()):
        return None  # Completed and Failed are what the process itself says when it has done
    if not run.run_count or _told(state):
        return None
    return state.timestamp + lease + _MARGIN


def _final(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def _told(state: State) -> bool:
    message = state.message or ""
    return any(words in message for words in _LAST_WORDS)


@dataclass
class Lease:
    """Keeps a process at work only while its run is wanted.

    Attributes:
        run: The run as this process knows it; Prefect's engine notes in it how it ended.
        length: How long it goes on without an answer.
        end: Ends this process with an exit code.
        log: Where it says why.
        pace: Seconds between two looks.
        grace: Seconds that the process has to end by itself.
    """

    run: FlowRun
    length: timedelta
    end: Callable[[int], None]
    log: Log
    pace: float = LOOK
    grace: float = GRACE
    _heard: float = field(default_factory=time.monotonic)
    _unwanted: float | None = None

    async def keep(self, look: Callable[[], Awaitable[FlowRun]]) -> None:
        """Look again and again, until the flow has ended by itself or is made to end.

        Args:
            look: Reads the run as the server knows it.
        """
        while not _final(self.run):
            asked = time.monotonic()
            try:
                left = self.length.total_seconds() - (asked - self._heard)
                # At least a moment: whoever was frozen asks before it gives up.
                async with asyncio.timeout(max(left, self.pace)):
                    why = self._why_not(await look())
            except Exception as error:  # noqa: BLE001  # whatever it is, nobody has answered
                silence = time.monotonic() - self._heard
                if silence >= self.length.total_seconds():
                    why = f"Prefect has not answered for {silence:.0f} s ({type(error).__name__})"
                    await self._stop(why, _CUT_OFF)
                    return
            else:
                # An answer that it is unwanted does not prolong the lease.
                self._heard = self._heard if why else asked
                self._unwanted = (self._unwanted or asked) if why else None
                if self._unwanted is not None and asked - self._unwanted >= self.grace:
                    await self._stop(why, _SUPERSEDED)
                    return
            await asyncio.sleep(self.pace)

    def _why_not(self, seen: FlowRun) -> str:
        """Say why the run does not want this process any more; nothing where it does."""
        if _final(seen) and seen.state:
            return f"the run has ended as {seen.state.name}"
        if seen.state is not None and seen.state.is_running():
            return "" if seen.run_count == self.run.run_count else "another process carries it out"
        return ""

    async def _stop(self, why: str, code: int) -> None:
        if _final(self.run):
            return  # it has ended meanwhile
        self.log.error("This process ends itself: %s", why)
        with suppress(Exception):  # the line is for people; the end must come
            async with asyncio.timeout(self.pace):
                await APILogHandler.aflush()
        self.end(code)


_kept: list[Lease] = []


def keep_lease(run: FlowRun, length: timedelta) -> None:
    """Begin to watch over this process, which carries out a run; once for each process.

    Args:
        run: The run, as Prefect's engine holds it.
        length: How long to go on without an answer.
    """
    if _kept:
        _kept[0].run = run  # the engine has begun the flow anew in the same process
        return
    lease = Lease(run, length, _end, get_run_logger())
    _kept.append(lease)

    async def keep() -> None:
        async with get_client() as client:
            await lease.keep(partial(client.read_flow_run, run.id))

    # With this thread's settings, in one of its own: the flow may keep its loop busy for hours.
    work = partial(contextvars.copy_context().run, asyncio.run, keep())
    threading.Thread(target=work, name="carbon-lease", daemon=True).start()


def _end(code: int) -> None:
    """End this process and all that it has started, whatever its other threads do."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    os._exit(code)


async def settled(
    read: Callable[[], Awaitable[FlowRun]], lease: timedelta, log: Log, *, pace: float = LOOK
) -> FlowRun:
    """Wait until the process of a run that has ended is certainly gone, and return the run.

    Returns at once when it is, and when the run goes on or ends otherwise meanwhile.
    """
    run = await read()
    told = False
    while (gone := gone_at(run, lease)) is not None:
        left = (gone - datetime.now(UTC)).total_seconds()
        if left <= 0:
            return run
        if not told:
            state = run.state.name if run.state else "ended"
            log.warning(
                "Stage run %r is %s, but its process may live on: the next attempt waits %.0f s",
                run.name,
                state,
                left,
            )
            told = True
        await asyncio.sleep(min(left, pace))
        run = await read()
    return run
