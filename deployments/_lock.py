"""The planner's lock: runs are planned one at a time, so that two of them do not take one slot.

It is a global concurrency limit of Prefect, of one slot. The server keeps the leases of its limits
in memory unless it is told otherwise (``PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE``): one that is
stopped while somebody plans forgets the lease, and would keep the slot taken for ever. So whoever
gives the lock back looks whether its lease is still known, and the keeper frees what a process has
left that died in that moment.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from work_pools import PLANNER_LOCK

Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"

_LEASE: Final = 60.0
"""Seconds after which the server takes the lock back from a process that has died, its least."""

_WAIT: Final = 30.0
"""Seconds that a run waits for the lock before it is planned without."""

_PAUSE: Final = 0.4
"""Seconds between two attempts, on average."""

_STUCK: Final = 90.0
"""Seconds in which nobody gets a lock that is stuck: a lease, and what the server takes to see it
run out."""


@asynccontextmanager
async def planning(client: PrefectClient, log: Log) -> AsyncIterator[None]:
    """Plan one at a time, so that two runs do not take the same slot.

    Without the lock the run goes on: late work is worse than a full pool, whose own limit has the
    last word.

    Args:
        client: Prefect client.
        log: Where it is told that the lock cannot be had.
    """
    lease, began = None, time.monotonic()
    try:
        lease = await _take(client, _WAIT)
        why = f"nobody gave it back for {_WAIT:.0f} s"
    except Exception as error:  # noqa: BLE001  # any failure of the lock must not stop the run
        why = type(error).__name__
    if lease is None:
        log.warning("Planning without the lock %r (%s)", PLANNER_LOCK, why)
        yield
        return
    try:
        yield
    finally:
        try:
            await _give_back(client, lease, time.monotonic() - began)
        except Exception as error:  # noqa: BLE001  # as above; the lease runs out by itself
            log.warning("The lock %r was not given back (%s)", PLANNER_LOCK, type(error).__name__)


async def free_planner(client: PrefectClient, log: Log) -> bool:
    """Free the lock where nobody holds it any more; tell whether that was so.

    It is stuck when it is not to be had for longer than a process that has died could hold it.
    Should somebody just have been luckier each time, two may plan at once: then the pools' own
    limits have the last word.
    """
    try:
        if not (await client.read_global_concurrency_limit_by_name(PLANNER_LOCK)).active_slots:
            return False
        began = time.monotonic()
        if (lease := await _take(client, _STUCK)) is not None:
            await _give_back(client, lease, time.monotonic() - began)
            return False
        await client.update_global_concurrency_limit(
            PLANNER_LOCK, GlobalConcurrencyLimitUpdate(active_slots=0)
        )
    except ObjectNotFound:
        return False
    log.warning("The lock %r was stuck, and is free again", PLANNER_LOCK)
    return True


async def _take(client: PrefectClient, wait: float) -> UUID | None:
    """Return the lease of the lock; ``None`` when it is not to be had in so many seconds."""
    until = time.monotonic() + wait
    while True:
        try:
            answer = await client.increment_concurrency_slots_with_lease(
                [PLANNER_LOCK], 1, "concurrency", _LEASE
            )
            return UUID(answer.json()["lease_id"])
        except PrefectHTTPStatusError as error:
            if error.response.status_code != httpx.codes.LOCKED:
                raise
        if time.monotonic() >= until:
            return None
        await asyncio.sleep(_PAUSE * random.uniform(0.5, 1.5))  # noqa: S311  # no secret


async def _give_back(client: PrefectClient, lease: UUID, held: float) -> None:
    try:
        await client.renew_concurrency_lease(lease, _LEASE)
    except PrefectHTTPStatusError as error:
        if error.response.status_code != httpx.codes.GONE:
            raise
        if held < _LEASE:  # else the server has taken it back by itself
            await client.release_concurrency_slots([PLANNER_LOCK], 1, held)
        return
    await client.release_concurrency_slots_with_lease(lease)
