"""A network that can be cut: a proxy on loopback before a port, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from enum import Enum


class Line(Enum):
    """How the network is.

    Attributes:
        UP: All passes.
        DOWN: Nobody gets through, and who was connected is cut off.
        BUSY: The server answers every new connection with 503.
    """

    UP = "up"
    DOWN = "down"
    BUSY = "busy"


_BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Network:
    """One region's way to the server.

    Args:
        target: Port of the server.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._line = Line.UP
        self._open: set[asyncio.StreamWriter] = set()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()

    def set(self, line: Line) -> None:
        """Change how the network is."""
        self._loop.call_soon_threadsafe(self._set, line)

    def close(self) -> None:
        """Stop it."""
        self._loop.call_soon_threadsafe(self._set, Line.DOWN)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _set(self, line: Line) -> None:
        self._line = line
        if line is not Line.UP:
            for writer in list(self._open):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self._line is Line.DOWN:
                return
            if self._line is Line.BUSY:
                await reader.read(1)
                writer.write(_BUSY)
                await writer.drain()
                return
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
                self._open.add(back)
                try:
                    ways = [
                        asyncio.ensure_future(_pipe(reader, back)),
                        asyncio.ensure_future(_pipe(there, writer)),
                    ]
                    _, other = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                    for way in other:
                        way.cancel()
                finally:
                    self._open.discard(back)
                    back.transport.abort()
        finally:
            self._open.discard(writer)
            writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
