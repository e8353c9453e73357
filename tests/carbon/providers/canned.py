"""A web without a network, for what is about bodies only: it hands over what a test wrote down."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, TypeVar

from carbon.providers._web import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from tests.carbon.providers.wire import Body

    T = TypeVar("T")


class Canned:
    """Stands where a provider expects its :class:`carbon.providers.Web`.

    Of several bodies each is given once, the last one for ever. ``asked`` has the questions.
    """

    def __init__(self, *bodies: Body, status: int = 200) -> None:
        self.bodies = [
            body
            if isinstance(body, bytes)
            else (body if isinstance(body, str) else json.dumps(body)).encode()
            for body in bodies
        ]
        self.status = status
        self.asked: list[dict[str, str]] = []

    async def get(
        self,
        provider: str,
        _url: str,
        params: Mapping[str, str],
        read: Callable[[Reply], T],
        **_keys: object,
    ) -> T:
        """Answer a question, whoever asks."""
        self.asked.append(dict(params))
        body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        return read(Reply(provider, self.status, body))


def done(question: Coroutine[object, object, T]) -> T:
    """Return what a question comes to."""
    return asyncio.run(question)
