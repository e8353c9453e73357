"""The guard: a run proves where it is before it reads any data."""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from carbon import Fleet, Workload
from deployments._settings import Settings
from work_pools import load_fleet, require_permitted_here


async def guard(
    workload: Workload, *, data_class: str | None = None, fleet: Fleet | None = None
) -> None:
    """Refuse to go on in a pool where this run's data may not be. Call it before reading data.

    Args:
        workload: The workload that the run belongs to.
        data_class: Class of this run's data, on top of the workload's own.
        fleet: The fleet; by default the one that the environment names.

    Raises:
        ResidencyError: The pool is not permitted, or it is not certain which pool this is.
        BadInput: The data class has no residency rule, or the fleet file is wrong.
    """
    fleet = fleet or load_fleet(Settings.load().fleet)
    classes = dict.fromkeys(filter(None, (workload.data_class, data_class)))
    require_permitted_here(fleet, *classes, pool_name=await _pool_name())


async def _pool_name() -> str | None:
    """Return the work pool of this run as the API tells it."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return None
    async with get_client() as client:
        return (await client.read_flow_run(context.flow_run.id)).work_pool_name
