"""A provider's server on loopback, and an impatient client to ask it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from carbon.providers import Web
from tests.carbon.providers.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.carbon.providers.wire import Ask


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Return a server on a free loopback port."""
    server = Wire()
    yield server
    server.close()


@pytest.fixture
def ask() -> Ask:
    """Return a function that lets a coroutine function ask with an impatient client."""

    def run(do: Callable[[Web], Awaitable[object]]) -> object:
        async def main() -> object:
            part = timedelta(seconds=0.1)
            async with Web(timeout=4 * part, patience=22 * part, pause=part / 10) as web:
                return await do(web)

        return asyncio.run(main())

    return run
