"""One background thread with an event loop: where what a process submits comes together."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Final, Self, TypeVar

from prefect.context import SettingsContext

_T = TypeVar("_T")

_EXIT_SECONDS: Final = 15
"""Longest time that the end of the process waits for what is under way."""


class Background:
    """An event loop on a thread of its own, which ends with the process.

    Attributes:
        loop: The loop.
        kept: What lives on it, by name.
    """

    _current: Self | None = None
    _starting = threading.Lock()

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.kept: dict[Hashable, Any] = {}
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._thread = threading.Thread(target=self._run, name="carbon-submit", daemon=True)
        self._thread.start()
        # As Prefect's own services do: at `atexit` no thread can be started any more, so no name
        # could be looked up, and neither a lock given back nor an artifact sent.
        threading._register_atexit(self.close)  # type: ignore[attr-defined]  # noqa: SLF001

    @classmethod
    def get(cls) -> Self:
        """Return this process's background, started on first use."""
        with cls._starting:
            if cls._current is None or cls._current.loop.is_closed():
                cls._current = cls()
            return cls._current

    @classmethod
    def forget(cls) -> None:
        """Let go of a background whose thread did not survive a fork."""
        cls._current = None
        cls._starting = threading.Lock()

    def call(self, work: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        """Do something on the background loop; any thread may ask.

        It sees the asker's Prefect settings and nothing else of its context: what goes on here
        outlives a flow run or a web request.
        """
        context = contextvars.Context()
        if (settings := SettingsContext.get()) is not None:  # else those of the environment hold
            context.run(settings.model_copy().__enter__)
        return context.run(asyncio.run_coroutine_threadsafe, work, self.loop)

    def close_first(self) -> None:
        """Close before all that has been started by now: who registers last is called first.

        Prefect's own services end at exit, too, and what is published then is told to them.
        """
        with contextlib.suppress(RuntimeError):  # it is the exit already
            threading._register_atexit(self.close)  # type: ignore[attr-defined]  # noqa: SLF001

    def at_close(self, do: Callable[[], Awaitable[None]]) -> None:
        """Have something done before the process ends."""
        self._closing.append(do)

    def close(self) -> None:
        """Finish what is under way, within seconds, and end the thread."""
        if self.loop.is_closed() or not self._thread.is_alive():
            return
        ending = asyncio.run_coroutine_threadsafe(self._close(), self.loop)
        concurrent.futures.wait([ending], timeout=_EXIT_SECONDS + 5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self.loop.close()

    async def _close(self) -> None:
        ends = (asyncio.ensure_future(do()) for do in self._closing)
        await asyncio.wait([*ends, asyncio.create_task(asyncio.sleep(0))], timeout=_EXIT_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


os.register_at_fork(after_in_child=Background.forget)
