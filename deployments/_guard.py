"""The guard: a run proves that it is wanted, and where it is, before it reads any data."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import partial
from typing import Final, NoReturn
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import Abort, ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Cancelled

from carbon import Fleet, Workload
from deployments._attempts import entry_of, replaced, withdrawal
from deployments._lease import ALONE, keep_lease
from deployments._outage import patiently
from deployments._refusal import refusals_told
from deployments._settings import Settings
from work_pools import load_fleet, require_permitted_here

_CARRIES_OUT: Final = "PREFECT__FLOW_RUN_ID"
"""Which run a worker has started a process for: one that it may end."""

_FOREVER: Final = timedelta(days=3650)


async def guard(
    workload: Workload, *, data_class: str | None = None, fleet: Fleet | None = None
) -> None:
    """Refuse to go on where this run's data may not be, or for nobody. Call it before reading data.

    The run of a dispatched stage cancels itself when its entry run has ended, or when another run
    of the stage stands in for it. From here on its process ends itself when the run has been given
    up; see :mod:`deployments._lease`.

    Args:
        workload: The workload that the run belongs to.
        data_class: Class of this run's data, on top of the workload's own.
        fleet: The fleet; by default the one that the environment names.

    Raises:
        Abort: Nobody waits for this stage's run; it has cancelled itself.
        ResidencyError: The pool is not permitted, or it is not certain which pool this is.
        BadInput: The data class has no residency rule, or the fleet file is wrong.
    """
    settings = Settings.load()
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if isinstance(run, FlowRun):
        if stage := entry_of(run) is not None:
            keep_lease(run, settings.lease)
        elif os.environ.get(_CARRIES_OUT) == str(run.id):
            # An entry run waits through any outage; but of two processes the older one ends.
            keep_lease(run, _FOREVER)
        run = await patiently(partial(_wanted, run.id), get_run_logger())
        if stage:  # an entry run's gate tells it
            async with get_client() as client, refusals_told(client, run, workload.name):
                _require_permitted(settings, workload, data_class, fleet, run)
            return
    _require_permitted(settings, workload, data_class, fleet, run)


def _require_permitted(
    settings: Settings,
    workload: Workload,
    data_class: str | None,
    fleet: Fleet | None,
    run: FlowRun | None,
) -> None:
    fleet = fleet or load_fleet(settings.fleet)
    classes = dict.fromkeys(filter(None, (workload.data_class, data_class)))
    require_permitted_here(fleet, *classes, pool_name=run.work_pool_name if run else None)


async def _wanted(run_id: UUID) -> FlowRun:
    """Return a run as the server knows it, which somebody waits for."""
    async with get_client() as client:
        run = await client.read_flow_run(run_id)
        await _require_wanted(client, run)
        return run


async def _require_wanted(client: PrefectClient, run: FlowRun) -> None:
    """Cancel the run of a stage where nobody waits for it.

    Prefect cancels the stage of a run that is cancelled, but not that of one that fails or crashes,
    which is taken up when that run is retried.
    """
    if (entry_id := entry_of(run)) is None:
        return
    if await replaced(client, run):
        await _end(client, run, withdrawal("Started too late."))
    try:
        entry = await client.read_flow_run(entry_id)
    except ObjectNotFound:
        await _end(client, run, Cancelled(message="The run that it is a stage of was deleted."))
    if (state := entry.state) is not None and (state.is_final() or state.is_cancelling()):
        why = f"{entry.name}, which it is a stage of, has ended as {state.name}"
        again = "Retry that run to take it up again."
        message = f"{why}: {ALONE}. {again}"
        await _end(client, run, Cancelled(message=message))


async def _end(client: PrefectClient, run: FlowRun, state: State[None]) -> NoReturn:
    get_run_logger().warning(state.message)
    await client.set_flow_run_state(run.id, state)
    raise Abort(state.message)
