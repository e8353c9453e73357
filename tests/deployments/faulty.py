"""A proxy before Prefect's API that fails as it is told, as networks and busy servers do."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, Final

import httpx

CREATE: Final = "/create_flow_run"
LOST: Final = "lost"
"""The request arrives, and its answer does not."""

DROPPED: Final = "dropped"
"""The connection is closed before the request arrives."""

_NOT_FORWARDED: Final = {"host", "content-length", "connection", "accept-encoding"}


@dataclass
class Faults:
    """What is to go wrong with the next creations, in order, and what was seen.

    Attributes:
        next: Statuses to answer with, ``LOST`` or ``DROPPED``; then all goes well.
        retry_after: Seconds to tell with a status; nothing when empty.
        sent: How many creations were asked for, repetitions included.
        most: Most creations that were under way at a time.
    """

    next: deque[int | str] = field(default_factory=deque)
    retry_after: str = ""
    sent: int = 0
    most: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def creation(self) -> Iterator[int | str | None]:
        """Count a creation and tell what is to go wrong with it."""
        with self._lock:
            self.sent += 1
            self._now += 1
            self.most = max(self.most, self._now)
            fault = self.next.popleft() if self.next else None
        try:
            yield fault
        finally:
            with self._lock:
                self._now -= 1


@contextmanager
def faulty(api_url: str) -> Iterator[tuple[str, Faults]]:
    """Run a proxy before an API; yields its address and what goes wrong there."""
    faults = Faults()
    with httpx.Client(
        base_url=api_url.removesuffix("/api"), timeout=120, trust_env=False
    ) as client:
        handler = type("Handler", (_Proxy,), {"faults": faults, "client": client})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api", faults
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: ClassVar[Faults]
    client: ClassVar[httpx.Client]

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if "upgrade" in self.headers:
            self._answer(404, b"")
        elif self.path.endswith(CREATE):
            with self.faults.creation() as fault:
                self._create(body, fault)
        else:
            self._forward(body)

    do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _create(self, body: bytes, fault: int | str | None) -> None:
        if fault == DROPPED:
            self.close_connection = True
        elif fault == LOST:
            self._ask(body)
            self.close_connection = True
        elif isinstance(fault, int):
            self._answer(fault, b"{}", retry_after=self.faults.retry_after)
        else:
            self._forward(body)

    def _forward(self, body: bytes) -> None:
        answer = self._ask(body)
        self._answer(
            answer.status_code, answer.content, retry_after=answer.headers.get("retry-after", "")
        )

    def _ask(self, body: bytes) -> httpx.Response:
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in _NOT_FORWARDED
        }
        return self.client.request(self.command, self.path, content=body, headers=headers)

    def _answer(self, status: int, content: bytes, *, retry_after: str = "") -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        if status != httpx.codes.NO_CONTENT:
            self.send_header("content-length", str(len(content)))
        if retry_after:
            self.send_header("retry-after", retry_after)
        self.end_headers()
        if status != httpx.codes.NO_CONTENT:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its parent's name
        """Say nothing."""
