"""A provider on loopback: a real server that answers what a test wrote down, faults included."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from carbon.providers import Web

    Body = bytes | str | list[object] | dict[str, object]
    Ask = Callable[[Callable[[Web], Awaitable[object]]], object]


@dataclass
class Answer:
    """One answer.

    Attributes:
        body: The body; anything but bytes and text is sent as JSON.
        status: HTTP status.
        headers: More headers.
        delay: Seconds before the first byte.
        cut: Bytes of the body that are left out although the length was promised.
        drip: Seconds between two bytes of the body.
    """

    body: Body = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: int = 0
    drip: float = 0.0

    @property
    def content(self) -> bytes:
        """The body as bytes."""
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


@dataclass
class Asked:
    """One request that came in."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


class Wire:
    """The server: ``wire.says(path, ...)`` writes answers down, ``wire.asked`` has the requests.

    Of several answers for one path each is given once, the last one for ever.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.rules: dict[str, Callable[[Asked], Answer]] = {}
        self.asked: list[Asked] = []
        self.stopped = threading.Event()
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = dict(parse_qsl(url.query, keep_blank_values=True))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(url.path, query, headers)
                wire.asked.append(asked)
                with suppress(ConnectionError):
                    self.give(wire.next(asked))

            def give(self, answer: Answer) -> None:
                wire.stopped.wait(answer.delay)
                content = answer.content
                self.send_response(answer.status)
                self.send_header("content-length", str(len(content)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if answer.drip:
                    for byte in content:
                        self.wfile.write(bytes([byte]))
                        if wire.stopped.wait(answer.drip):
                            break
                    return
                self.wfile.write(content[: len(content) - answer.cut])
                if answer.cut:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Stay quiet."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Stay quiet about clients that hang up."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def says(self, path: str, *answers: Answer | Body) -> None:
        """Write down what a path answers; ``*`` at its end stands for any rest."""
        self.rules.pop(path, None)
        self.answers[path] = [
            answer if isinstance(answer, Answer) else Answer(answer) for answer in answers
        ]

    def obeys(self, path: str, rule: Callable[[Asked], Answer]) -> None:
        """Let a path answer by a rule, which gets the request."""
        self.rules[path] = rule

    def next(self, asked: Asked) -> Answer:
        """Return the next answer for a request."""
        path = asked.path
        if path in self.rules:
            return self.rules[path](asked)
        for known, answers in self.answers.items():
            if path == known or (known.endswith("*") and path.startswith(known[:-1])):
                return answers.pop(0) if len(answers) > 1 else answers[0]
        return Answer(f"no answer is written down for {path}", status=500)

    def close(self) -> None:
        """Stop the server and all that it is still saying."""
        self.stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
