"""Registration of pools, against a real Prefect server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.exceptions import ObjectNotFound
from prefect.flows import flow
from prefect.states import Cancelled

from carbon._errors import BadInput
from carbon._fleet import Fleet
from work_pools import PLANNER_LOCK, ForeignPool, Outcome, inspect, register

if TYPE_CHECKING:
    from prefect.client.schemas.objects import WorkPool

    from deployments.sandbox import Sandbox

pytestmark = pytest.mark.server

Run = Callable[[Callable[[PrefectClient], Awaitable[None]]], None]
CREATED, UPDATED, UNCHANGED = Outcome.CREATED, Outcome.UPDATED, Outcome.UNCHANGED


class OwnPools(PrefectClient):
    """A client that sees only this test's pools: the server is shared with other tests."""

    prefix = ""

    async def read_work_pools(self, *args: Any, **kwargs: Any) -> list[WorkPool]:  # noqa: ANN401
        """Read the pools whose names begin with the prefix."""
        found = await super().read_work_pools(*args, **kwargs)
        return [pool for pool in found if pool.name.startswith(self.prefix)]


@pytest.fixture
def prefix() -> str:
    """Begin the names of this test's pools."""
    return f"t{uuid4().hex[:8]}"


@pytest.fixture
def run(prefect_server: Sandbox, prefix: str) -> Run:
    """Run a coroutine function with a client of the real server."""

    def call(body: Callable[[PrefectClient], Awaitable[None]]) -> None:
        async def main() -> None:
            client = OwnPools(prefect_server.api_url)
            client.prefix = prefix
            async with client:
                await body(client)

        asyncio.run(main())

    return call


def _fleet(prefix: str, *names: str, **changes: object) -> Fleet:
    pools = [
        {
            "name": f"{prefix}-{name}",
            "region": "aws:eu-north-1",
            "hardware": "cpu",
            "capacity": 2,
            "watts": 10,
            "usd_per_hour": 0.2,
        }
        | changes
        for name in names or ("a", "b")
    ]
    return Fleet.model_validate(
        {"home": "aws:eu-north-1", "residency": {"public": ["*"]}, "pools": pools}
    )


def test_registering_creates_then_leaves_alone(run: Run, prefix: str) -> None:
    """The first time makes the pools as the file has them; the second time changes nothing."""
    fleet = _fleet(prefix)
    first, second = f"{prefix}-a", f"{prefix}-b"

    async def body(client: PrefectClient) -> None:
        assert (await inspect(fleet, client)).pools == {first: CREATED, second: CREATED}
        with pytest.raises(ObjectNotFound):
            await client.read_work_pool(first)

        assert (await register(fleet, client)).pools == {first: CREATED, second: CREATED}
        made = await client.read_work_pool(first)
        # Home's CPU pool: one more for the keeper, in a queue that entry runs do not wait in.
        assert (made.type, made.concurrency_limit) == ("process", 3)
        queue = await client.read_work_queue_by_name("default", first)
        assert queue.concurrency_limit == 2
        assert (await client.read_work_pool(second)).concurrency_limit == 2
        assert "Stockholm" in (made.description or "")
        assert made.base_job_template["job_configuration"]["env"]["CARBON_POOL"] == first

        again = await register(fleet, client)
        assert again.pools == {first: UNCHANGED, second: UNCHANGED}
        assert again.planner_lock is UNCHANGED
        assert again.drift == ()
        assert (await client.read_work_pool(first)).updated == made.updated

    run(body)


def test_change_in_the_file_updates_the_pool(run: Run, prefix: str) -> None:
    """A new capacity reaches Prefect, and the report says what was different before."""

    async def body(client: PrefectClient) -> None:
        await register(_fleet(prefix), client)
        report = await register(_fleet(prefix, capacity=5), client)
        assert report.pools == {f"{prefix}-a": UPDATED, f"{prefix}-b": UPDATED}
        assert f"{prefix}-a: concurrency_limit is 3, should be 6" in report.drift
        assert f"{prefix}-a: default queue's limit is 2, should be 5" in report.drift
        assert f"{prefix}-b: concurrency_limit is 2, should be 5" in report.drift
        assert (await client.read_work_pool(f"{prefix}-b")).concurrency_limit == 5

    run(body)


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (WorkPoolUpdate(description="mine now"), "description is 'mine now', should be"),
        (WorkPoolUpdate(concurrency_limit=99), "concurrency_limit is 99, should be 3"),
        (
            WorkPoolUpdate(
                base_job_template={"job_configuration": {"env": {"A": "1"}}, "variables": {"a": 1}}
            ),
            "base_job_template.job_configuration.env.CARBON_POOL is missing, should be",
        ),
    ],
)
def test_edits_by_hand_are_reported_and_undone(
    run: Run,
    prefix: str,
    edit: WorkPoolUpdate,
    line: str,
) -> None:
    """What someone changed in the UI is listed line by line, and registration puts it right."""
    fleet, name = _fleet(prefix, "a"), f"{prefix}-a"

    async def body(client: PrefectClient) -> None:
        await register(fleet, client)
        await client.update_work_pool(name, edit)
        report = await inspect(fleet, client)
        assert report.pools == {name: UPDATED}
        assert any(drift.startswith(f"{name}: {line}") for drift in report.drift)
        await register(fleet, client)
        assert (await inspect(fleet, client)).drift == ()

    run(body)


def test_paused_pool_stays_paused(run: Run, prefix: str) -> None:
    """The person on call who stopped a pool at 03:00 is not overruled by a deploy at 09:00."""

    async def body(client: PrefectClient) -> None:
        await register(_fleet(prefix), client)
        await client.update_work_pool(f"{prefix}-a", WorkPoolUpdate(is_paused=True))
        await register(_fleet(prefix, capacity=3), client)
        assert (await client.read_work_pool(f"{prefix}-a")).is_paused

    run(body)


def test_foreign_pool_is_never_touched(run: Run, prefix: str) -> None:
    """A pool that someone else made stops registration before anything is written."""
    fleet, foreign = _fleet(prefix), f"{prefix}-b"

    async def body(client: PrefectClient) -> None:
        theirs = await client.create_work_pool(
            WorkPoolCreate(name=foreign, type="process", description="ML team", concurrency_limit=7)
        )
        report = await inspect(fleet, client)
        assert report.pools == {f"{prefix}-a": CREATED, foreign: Outcome.FOREIGN}
        with pytest.raises(ForeignPool, match="Rename the pool in the fleet file"):
            await register(fleet, client)
        assert await client.read_work_pool(foreign) == theirs
        with pytest.raises(ObjectNotFound):
            await client.read_work_pool(f"{prefix}-a")

        await register(_fleet(prefix, "c"), client, prune=True)
        assert await client.read_work_pool(foreign) == theirs

    run(body)


def test_change_of_type_is_refused(run: Run, prefix: str) -> None:
    """Prefect would ignore a new type silently, so the way out is said instead."""

    async def body(client: PrefectClient) -> None:
        await register(_fleet(prefix), client)
        docker = _fleet(prefix, type="docker")
        assert set((await inspect(docker, client)).pools.values()) == {Outcome.CONFLICT}
        with pytest.raises(BadInput, match="cannot change a pool's type to 'docker'"):
            await register(docker, client)

    run(body)


def test_name_that_prefect_reserves_is_refused(run: Run) -> None:
    """The server's refusal of such names comes as a line that names the fix."""

    async def body(client: PrefectClient) -> None:
        with pytest.raises(BadInput, match=r"pools\.prefect-a: .*Rename"):
            await register(_fleet("prefect", "a"), client)

    run(body)


def test_prune_removes_only_our_pools_that_left_the_file(run: Run, prefix: str) -> None:
    """Pools that the file no longer holds are listed, and deleted only when that is asked for."""
    kept, gone = f"{prefix}-a", f"{prefix}-b"

    async def body(client: PrefectClient) -> None:
        await register(_fleet(prefix), client)
        fewer = _fleet(prefix, "a")
        report = await register(fewer, client)
        assert (report.pools, report.orphans) == ({kept: UNCHANGED}, (gone,))
        assert await client.read_work_pool(gone)

        report = await register(fewer, client, prune=True)
        assert report.pools == {kept: UNCHANGED, gone: Outcome.PRUNED}
        assert report.orphans == ()
        with pytest.raises(ObjectNotFound):
            await client.read_work_pool(gone)

    run(body)


@flow
def _waiting() -> None:
    """Never runs: it only stands in a pool's queue."""


def test_prune_spares_a_pool_with_runs(run: Run, prefix: str) -> None:
    """A pool whose runs still wait is not pulled from under them."""

    async def body(client: PrefectClient) -> None:
        await register(_fleet(prefix), client)
        flow_id = await client.create_flow(_waiting)
        deployment = await client.create_deployment(
            flow_id, name=prefix, work_pool_name=f"{prefix}-b", entrypoint="none:none"
        )
        waiting = await client.create_flow_run_from_deployment(deployment)
        with pytest.raises(BadInput, match=rf"not finished, e\.g\. '{waiting.name}'"):
            await register(_fleet(prefix, "a"), client, prune=True)
        assert await client.read_work_pool(f"{prefix}-b")

        await client.set_flow_run_state(waiting.id, Cancelled(), force=True)
        report = await register(_fleet(prefix, "a"), client, prune=True)
        assert report.pools[f"{prefix}-b"] is Outcome.PRUNED

    run(body)


def test_planner_lock_is_kept_at_one(run: Run, prefix: str) -> None:
    """Two planners must not plan at once, so a lock that someone loosened is tightened again."""

    async def body(client: PrefectClient) -> None:
        await register(_fleet(prefix), client)
        await client.update_global_concurrency_limit(
            PLANNER_LOCK, GlobalConcurrencyLimitUpdate(limit=3, active=False)
        )
        report = await register(_fleet(prefix), client)
        assert report.planner_lock is UPDATED
        assert f"{PLANNER_LOCK}: limit is 3, should be 1" in report.drift
        lock = await client.read_global_concurrency_limit_by_name(PLANNER_LOCK)
        assert (lock.limit, lock.active) == (1, True)

    run(body)


def test_two_registrations_at_once_agree(run: Run, prefix: str) -> None:
    """Two deploys that start together both succeed and leave one set of pools."""
    fleet = _fleet(prefix)

    async def body(client: PrefectClient) -> None:
        await asyncio.gather(register(fleet, client), register(fleet, client))
        assert set((await inspect(fleet, client)).pools.values()) == {UNCHANGED}

    run(body)
