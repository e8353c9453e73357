"""Closed pools: those that Prefect knows to start nothing now, and why."""

from __future__ import annotations

from typing import Final

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import WorkPoolStatus

from carbon import Fleet

_WHY: Final = {
    WorkPoolStatus.PAUSED: "the pool is paused in Prefect",
    WorkPoolStatus.NOT_READY: "no worker of the pool is online",
}


async def closed(client: PrefectClient, fleet: Fleet) -> dict[str, str]:
    """Return the pools that are paused or have no worker online, with the reason.

    Prefect takes up to two minutes to notice that a worker has died.
    """
    names = list(fleet.by_name)
    ours = WorkPoolFilter(name=WorkPoolFilterName(any_=names))
    found = await client.read_work_pools(limit=len(names), work_pool_filter=ours)
    return {pool.name: _WHY[pool.status] for pool in found if pool.status and pool.status in _WHY}
