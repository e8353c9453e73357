"""The desk: where the submissions of one process meet, from all its threads and event loops.

One planner lock and one look at the live runs serve all that come while the lock is held. They are
planned one after the other, each with the slots of those before it taken, and created up to
``AT_ONCE`` at a time.

Who retries what: Prefect's client repeats each request by itself on 408, 429, 502, 503 and a lost
connection, ``PREFECT_CLIENT_MAX_RETRIES`` times (5), after 2, 4, 8 s and so on with jitter, or when
``Retry-After`` says. It knows no limit in time, and it gives up at once when the very first
connection is refused. So here is only what it lacks: a time limit, and some seconds of patience
with a server that is just starting. A repeated request is the same run: see :class:`Order`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeAlias, TypeVar
from uuid import UUID

import httpx
import stamina
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.logging import get_logger
from prefect.settings import get_current_settings

from deployments._background import Background
from deployments._errors import NotDeployed, PrefectUnavailable
from deployments._events import emit_decision
from deployments._hold import Held, held, present
from deployments._lock import planning
from deployments._mode import Switch, read_switch
from deployments._notes import Notes
from deployments._order import Order
from deployments._trigger import Trigger, Verdict

_T = TypeVar("_T")
Made: TypeAlias = tuple[FlowRun, bool, Verdict]
"""A run, whether it is new, and what was decided."""

AT_ONCE: Final = 8
"""Creations under way at a time; more make Prefect's server slower, and SQLite refuse."""

_PATIENCE: Final = 60
"""Longest time in seconds that the API may leave one question without a good answer."""

_STARTING: Final = timedelta(seconds=5)
"""Longest time that a refused first connection is tried again."""

_TENURE: Final = 5.0
"""Longest time in seconds that the planner lock is kept while there is more to plan."""

_TURN: Final = 0.25
"""Seconds that the lock is left to others between two of those."""

_LINGER: Final = 0.1
"""Seconds that it is kept for the next one of a burst: to get it anew costs three requests."""

_FRESH: Final = 1.0
"""Seconds after which the providers are asked again what is due."""

_KNOWN_FOR: Final = 60
"""Seconds that a deployment's id is remembered."""


@dataclass(eq=False)
class _Ticket:
    """An order that waits, and where its outcome is expected."""

    order: Order
    deployment: UUID
    done: asyncio.Future[Made]
    since: float = field(default_factory=time.monotonic)

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Desk:
    """The submissions of this process to one Prefect API; lives on the background loop."""

    def __init__(self, background: Background) -> None:
        self._waiting: deque[_Ticket] = deque()
        self._stirred = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._under_way = 0
        self._closing = False
        self._serving: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._client: PrefectClient | None = None
        self._deployments: dict[str, tuple[UUID, float]] = {}
        self._switches: dict[str, tuple[Switch, float]] = {}
        self._answered = float("-inf")
        self._asking = asyncio.Lock()
        self._asked = (0, 0.0)
        self._notes = Notes(lambda: bool(self._waiting or self._under_way))
        background.at_close(self.close)
        self._background, self._emitted = background, False

    async def take(self, order: Order) -> Made:
        """Plan and create one run.

        Raises:
            CarbonAwareError: It is refused; nothing was created.
            NotDeployed: The entry deployment is missing.
            PrefectUnavailable: The API gave no good answer in time; the run may exist.
            httpx.HTTPError: The API refused, or did not answer.
        """
        if self._serving is None or self._serving.done():
            # What can be refused is refused before the API is asked; in a burst it is, soon enough.
            order.decide(())
        await self._refresh(order.trigger)
        name = order.job.entry_deployment
        try:
            return await self._served(order, await self._deployment(name))
        except PrefectHTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            self._deployments.pop(name, None)  # it was deleted, and perhaps deployed anew
        return await self._served(order, await self._deployment(name))

    async def close(self) -> None:
        """Serve who waits, give the lock back, publish what is left and close the client."""
        self._closing = True
        self._stirred.set()
        await self.settled()
        if self._client is not None:
            await self._client.__aexit__(None, None, None)
            self._client = None

    async def settled(self) -> None:
        """Wait until nobody is served, the lock is given back and all decisions are published."""
        if self._serving is not None:
            await asyncio.wait([self._serving])
        if self._client is not None:
            await self._notes.finish(self._client)

    async def _refresh(self, trigger: Trigger) -> None:
        """Let the providers be asked, once for a burst."""
        async with self._asking:
            asked = (id(trigger), time.monotonic())
            if asked[0] != self._asked[0] or asked[1] - self._asked[1] > _FRESH:
                await trigger.refresh()
                self._asked = (asked[0], time.monotonic())

    async def _served(self, order: Order, deployment: UUID) -> Made:
        ticket = _Ticket(order, deployment, asyncio.get_running_loop().create_future())
        self._waiting.append(ticket)
        self._stirred.set()
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve())
        return await ticket.done

    async def _serve(self) -> None:
        """Serve until nobody waits; whatever goes wrong with the API goes wrong for all of them."""
        try:
            while self._waiting:
                await self._serve_under_lock()
                if self._waiting:
                    await asyncio.sleep(_TURN)
        except Exception as error:  # noqa: BLE001  # each of them gets it
            while self._waiting:
                self._waiting.popleft().fail(error)
        if self._client is not None:
            self._notes.start(self._client)

    async def _serve_under_lock(self) -> None:
        client = await self._connected()
        async with planning(client, get_logger("carbon.submit")):
            runs = await _in_time(held(client))
            until = time.monotonic() + _TENURE
            async with asyncio.TaskGroup() as creations:
                while ticket := await self._next(until):
                    switch = await self._switch(client, ticket.order.job.name)
                    await self._places.acquire()
                    self._under_way += 1
                    creations.create_task(self._fill(client, ticket, runs, switch))

    async def _next(self, until: float) -> _Ticket | None:
        """Return who is to be served next; ``None`` when the lock is to be given back."""
        while (now := time.monotonic()) < until:
            if self._waiting:
                ticket = self._waiting.popleft()
                if ticket.done.done():
                    continue  # its caller has gone
                if now - max(ticket.since, self._answered) > _PATIENCE:
                    ticket.fail(_no_answer())
                    continue
                return ticket
            linger = 0.0 if self._closing else _LINGER
            self._stirred.clear()
            try:
                async with asyncio.timeout(until - now if self._under_way else linger):
                    await self._stirred.wait()
            except TimeoutError:
                return None
        return None

    async def _switch(self, client: PrefectClient, job: str) -> Switch:
        """Return how a person's switch stands for a job, as it was some seconds ago at most."""
        known, until = self._switches.get(job, (None, 0.0))
        if known is not None and time.monotonic() < until:
            return known
        found = await _in_time(read_switch(client, job))
        self._switches[job] = (found, time.monotonic() + _TENURE)
        return found

    async def _fill(
        self, client: PrefectClient, ticket: _Ticket, runs: list[Held], switch: Switch
    ) -> None:
        """Plan and create one run; never raises, but for what ends the process."""
        order = ticket.order
        own: Held | None = None
        try:
            # No await until its slots are taken: the next one must find them so.
            verdict = order.decide(present(runs, order.trigger.clock.now()), switch)
            own = Held(verdict.decision.chosen.slots)
            runs.append(own)
            run, created = await _in_time(order.create(client, ticket.deployment, verdict.decision))
            self._answered = time.monotonic()
            if not created:
                runs.remove(own)
            else:
                waits = verdict.decision.chosen.start > verdict.decision.decided_at
                mode = switch.mode.value
                emit_decision(verdict.decision, run, order.job.name, waits=waits, mode=mode)
                self._notes.add(run.id, verdict.decision)
                if not self._emitted:
                    # With its first event Prefect has started the service that sends them.
                    self._emitted = True
                    self._background.close_first()
            if not ticket.done.done():
                ticket.done.set_result((run, created, verdict))
            if self._notes.full:
                await self._notes.one(client)
        except PrefectHTTPStatusError as error:
            if own is not None and error.response.is_client_error:
                runs.remove(own)  # refused; after anything else the run may exist
            ticket.fail(error)
        except Exception as error:  # noqa: BLE001  # it is the caller's
            ticket.fail(error)
        finally:
            self._under_way -= 1
            self._places.release()
            self._stirred.set()

    async def _deployment(self, name: str) -> UUID:
        """Return the id of a deployment."""
        known, until = self._deployments.get(name, (None, 0.0))
        if known is not None and time.monotonic() < until:
            return known
        client = await self._connected()
        async for attempt in stamina.retry_context(
            on=httpx.ConnectError, attempts=None, timeout=_STARTING, wait_initial=0.2
        ):
            with attempt:
                try:
                    found = (await _in_time(client.read_deployment_by_name(name))).id
                except ObjectNotFound as error:
                    raise NotDeployed(name) from error
        self._deployments[name] = (found, time.monotonic() + _KNOWN_FOR)
        return found

    async def _connected(self) -> PrefectClient:
        """Return the client, opened on first use: to open one takes as long as to create a run."""
        async with self._opening:
            if self._client is None:
                self._client = await get_client().__aenter__()
            return self._client


async def _in_time(work: Awaitable[_T]) -> _T:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await work
    except TimeoutError as error:
        raise _no_answer() from error


def _no_answer() -> PrefectUnavailable:
    return PrefectUnavailable(
        f"The Prefect API gave no good answer within {_PATIENCE} s. The run may have been created: "
        "ask again with the same key. Without a key look for it in Prefect first, for a second "
        "request makes a second run."
    )


_making = threading.Lock()


def desk() -> tuple[Desk, Background]:
    """Return this process's desk for the API that Prefect's settings name, and where it lives.

    Raises:
        PrefectUnavailable: They name none.
    """
    api = get_current_settings().api
    if api.url is None:
        raise PrefectUnavailable.unnamed()
    background = Background.get()
    name = (api.url, api.key, api.auth_string)
    with _making:
        if name not in background.kept:
            background.kept[name] = Desk(background)
        return background.kept[name], background
