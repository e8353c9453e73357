"""Decisions of submitted runs that are yet to be attached to them, when nobody waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient

from carbon import Decision
from deployments._artifacts import publish_note

_MOST: Final = 500
"""Notes that may wait, however busy it is; the labels of their runs say the same in short."""

_TOGETHER: Final = 4


class Notes:
    """What was decided for runs that exist by now, published while there is nothing else to do.

    Args:
        busy: Tells whether somebody waits for a run to be created.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._left: deque[tuple[UUID, Decision]] = deque()
        self._publishing: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether one must be published before the next is added."""
        return len(self._left) >= _MOST

    def add(self, run_id: UUID, decision: Decision) -> None:
        """Keep a run's decision for later."""
        self._left.append((run_id, decision))

    def start(self, client: PrefectClient) -> None:
        """Publish until somebody waits, or nothing is left."""
        if self._left and (self._publishing is None or self._publishing.done()):
            self._publishing = asyncio.create_task(self._publish_until_busy(client))

    async def one(self, client: PrefectClient) -> None:
        """Publish the one that has waited longest."""
        if self._left:
            run_id, decision = self._left.popleft()
            await publish_note(client, decision, run_id=run_id)

    async def finish(self, client: PrefectClient) -> None:
        """Publish all that are left."""
        if self._publishing is not None:
            await asyncio.wait([self._publishing])
        await asyncio.gather(*(self._publish_all(client) for _ in range(_TOGETHER)))

    async def _publish_until_busy(self, client: PrefectClient) -> None:
        while self._left and not self._busy():
            await self.one(client)

    async def _publish_all(self, client: PrefectClient) -> None:
        while self._left:
            await self.one(client)
