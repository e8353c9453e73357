"""Bring the work pools in Prefect in line with the fleet file, as often as you like.

``inspect`` tells what differs and writes nothing; ``register`` creates and updates. A pool that
this package did not make is never changed and never deleted: it is recognised by a mark that
``register`` leaves twice, in the pool's description and in its template, so that a person who
edits one of them does not orphan the pool.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import TERMINAL_STATES, StateType
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from carbon._errors import BadInput
from work_pools._report import ForeignPool, Outcome, Registration, diff_lines
from work_pools._templates import MANAGED_BY, MARKER_KEY, base_job_template

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import WorkPool

    from carbon._fleet import Fleet, Pool

PLANNER_LOCK = "carbon-planner"
"""Prefect global concurrency limit that lets one planner at a time read and write reservations."""

KEEPER_QUEUE = "keeper"
"""Work queue of the home region's CPU pool that the keeper does not share with entry runs."""

_DEFAULT_QUEUE = "default"
_MARK = f"Managed by {MANAGED_BY}"
_PAGE = 200


async def inspect(fleet: Fleet, client: PrefectClient) -> Registration:
    """Tell how Prefect differs from the fleet, and write nothing.

    Args:
        fleet: The fleet as the file has it.
        client: A client of the Prefect API.

    Returns:
        What ``register`` would do, without pruning.
    """
    found = await _read_pools(client)
    pools: dict[str, Outcome] = {}
    drift: list[str] = []
    for pool in fleet.pools:
        outcome, lines = _compare(fleet, pool, found.get(pool.name))
        if pool.name == fleet.home_cpu.name and outcome in {Outcome.UNCHANGED, Outcome.UPDATED}:
            others = await _compare_default_queue(pool, client)
            lines += others
            outcome = Outcome.UPDATED if others else outcome
        pools[pool.name] = outcome
        drift += [f"{pool.name}: {line}" for line in lines]
    lock, lines = await _compare_lock(client)
    drift += [f"{PLANNER_LOCK}: {line}" for line in lines]
    orphans = sorted(name for name in found if _ours(found[name]) and name not in fleet.by_name)
    return Registration(pools=pools, planner_lock=lock, drift=tuple(drift), orphans=tuple(orphans))


async def register(fleet: Fleet, client: PrefectClient, *, prune: bool = False) -> Registration:
    """Create and update the fleet's pools and the planner lock in Prefect.

    Whether a pool is paused is left to the person on call, and so are pools that we did not make.

    Args:
        fleet: The fleet as the file has it.
        client: A client of the Prefect API.
        prune: Delete pools that we made and that the fleet no longer holds.

    Returns:
        What was done, and what differed before.

    Raises:
        ForeignPool: Someone else's pool has the name of one of ours. Nothing was written.
        BadInput: A pool's name or its change of type is impossible in Prefect, or a pool to prune
            still has runs. Nothing was written.
    """
    report = await inspect(fleet, client)
    _refuse(fleet, report)
    condemned = report.orphans if prune else ()
    for name in condemned:
        await _refuse_pruning_live(name, client)
    try:
        await _write_lock(report.planner_lock, client)
        for pool in fleet.pools:
            await _write_pool(fleet, pool, report.pools[pool.name], client)
    except ObjectAlreadyExists:
        # Someone registered the same pool at the same moment: look again, it may be in order now.
        return await register(fleet, client, prune=prune)
    for name in condemned:
        await client.delete_work_pool(name)
    return report.model_copy(
        update={
            "pools": report.pools | dict.fromkeys(condemned, Outcome.PRUNED),
            "orphans": () if prune else report.orphans,
        }
    )


def _wanted(fleet: Fleet, pool: Pool) -> WorkPoolCreate:
    # Beside the entry runs, which hold their slots while their stages run, the keeper has its own.
    more = 1 if pool.name == fleet.home_cpu.name else 0
    runs = "one run" if pool.capacity == 1 else f"{pool.capacity} runs"
    return WorkPoolCreate(
        name=pool.name,
        type=pool.type.value,
        description=(
            f"{pool.hardware.upper()} runs in {pool.place.place} ({pool.region}), {runs} at a "
            f"time. {_MARK}: edit the fleet file and register again, not this pool."
        ),
        concurrency_limit=pool.capacity + more,
        base_job_template=base_job_template(pool),
    )


def _ours(pool: WorkPool) -> bool:
    return _MARK in (pool.description or "") or pool.base_job_template.get(MARKER_KEY) == MANAGED_BY


def _compare(fleet: Fleet, pool: Pool, found: WorkPool | None) -> tuple[Outcome, list[str]]:
    if found is None:
        return Outcome.CREATED, []
    if not _ours(found):
        return Outcome.FOREIGN, ["a pool of this name exists that this package did not make"]
    if found.type != pool.type.value:
        return Outcome.CONFLICT, [f"type is {found.type!r}, should be {pool.type.value!r}"]
    wanted = _wanted(fleet, pool)
    lines = [
        *diff_lines("description", found.description, wanted.description),
        *diff_lines("concurrency_limit", found.concurrency_limit, wanted.concurrency_limit),
        *diff_lines(
            "base_job_template",
            found.base_job_template,
            json.loads(json.dumps(wanted.base_job_template)),
        ),
    ]
    return (Outcome.UPDATED if lines else Outcome.UNCHANGED), lines


def _refuse(fleet: Fleet, report: Registration) -> None:
    for pool in fleet.pools:
        outcome = report.pools[pool.name]
        if pool.name.startswith("prefect"):
            raise BadInput(
                f"pools.{pool.name}",
                "Prefect keeps names that begin with 'prefect' to itself",
                "Rename the pool in the fleet file.",
            )
        if outcome is Outcome.FOREIGN:
            raise ForeignPool(pool.name)
        if outcome is Outcome.CONFLICT:
            raise BadInput(
                f"pools.{pool.name}.type",
                f"Prefect cannot change a pool's type to {pool.type.value!r}",
                "Give the pool a new name in the fleet file, or delete the old one once it is "
                f"empty with: prefect work-pool delete {pool.name}",
            )


async def _refuse_pruning_live(name: str, client: PrefectClient) -> None:
    alive = [state for state in StateType if state not in TERMINAL_STATES]
    runs = await client.read_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[name])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=alive))
        ),
        limit=1,
    )
    if runs:
        raise BadInput(
            f"pools.{name}",
            f"it still has runs that are not finished, e.g. {runs[0].name!r}",
            "Let them end or cancel them, then prune again.",
        )


async def _compare_default_queue(pool: Pool, client: PrefectClient) -> list[str]:
    queue = await client.read_work_queue_by_name(_DEFAULT_QUEUE, pool.name)
    return [*diff_lines("default queue's limit", queue.concurrency_limit, pool.capacity)]


async def _write_default_queue(pool: Pool, client: PrefectClient) -> None:
    """Leave the home pool's last slot to the keeper, whose deployment has a queue of its own."""
    queue = await client.read_work_queue_by_name(_DEFAULT_QUEUE, pool.name)
    await client.update_work_queue(queue.id, concurrency_limit=pool.capacity)


async def _write_pool(fleet: Fleet, pool: Pool, outcome: Outcome, client: PrefectClient) -> None:
    wanted = _wanted(fleet, pool)
    if outcome is Outcome.CREATED:
        await client.create_work_pool(wanted)
    elif outcome is Outcome.UPDATED:
        await client.update_work_pool(
            pool.name,
            WorkPoolUpdate(
                description=wanted.description,
                concurrency_limit=wanted.concurrency_limit,
                base_job_template=wanted.base_job_template,
            ),
        )
    if outcome in {Outcome.CREATED, Outcome.UPDATED} and pool.name == fleet.home_cpu.name:
        await _write_default_queue(pool, client)


async def _compare_lock(client: PrefectClient) -> tuple[Outcome, list[str]]:
    try:
        found = await client.read_global_concurrency_limit_by_name(PLANNER_LOCK)
    except ObjectNotFound:
        return Outcome.CREATED, []
    lines = [
        *diff_lines("limit", found.limit, 1),
        *diff_lines("active", found.active, wanted=True),
        *diff_lines("slot_decay_per_second", found.slot_decay_per_second, 0.0),
    ]
    return (Outcome.UPDATED if lines else Outcome.UNCHANGED), lines


async def _write_lock(outcome: Outcome, client: PrefectClient) -> None:
    if outcome is Outcome.CREATED:
        await client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name=PLANNER_LOCK, limit=1)
        )
    elif outcome is Outcome.UPDATED:
        await client.update_global_concurrency_limit(
            PLANNER_LOCK,
            GlobalConcurrencyLimitUpdate(limit=1, active=True, slot_decay_per_second=0.0),
        )


async def _read_pools(client: PrefectClient) -> dict[str, WorkPool]:
    found: dict[str, WorkPool] = {}
    while True:
        page = await client.read_work_pools(limit=_PAGE, offset=len(found))
        found |= {pool.name: pool for pool in page}
        if len(page) < _PAGE:
            return found
