"""The web: one pooled HTTP client for all providers; an answer is a value or a typed error.

::

    async with Web() as web:
        answer = await web.get("energy-charts", "https://...", {"country": "de"}, read)

``read`` judges the body and returns what it means. Faults that pass are asked about again, with
growing and random pauses, or after the pause that the provider wants. No address and no text of a
provider stands in an error: either may hold a key.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import math
import ssl
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, Self, TypeVar

import httpx
import stamina
from pydantic import TypeAdapter, ValidationError

from carbon._errors import (
    AuthError,
    BadInput,
    BadResponse,
    NoData,
    PlanDenied,
    ProviderError,
    RateLimited,
    Transient,
)

if TYPE_CHECKING:
    from types import TracebackType

    from pydantic import SecretStr

_T = TypeVar("_T")

_LARGEST: Final = 8 * 2**20
"""Bytes of a body; two months of quarter hours are below one MiB."""

_REST: Final = timedelta(seconds=30)
"""How long a provider is left alone that was asked too often and does not say how long."""

_SOON: Final = 0.1
"""Seconds of rest that are taken for over: a pause that was kept is never exact."""

_APART: Final = 0.01
"""Seconds between two questions to a provider. A small server takes few connections at a time (the
backlog of Python's own is 5), and one that it does not take is tried again after a second."""

_SHORTEST_SECRET: Final = 4
_LOOKED_AT: Final = 1000

_STATUS: Final[Mapping[int, tuple[Callable[[str, str], ProviderError], str]]] = {
    httpx.codes.UNAUTHORIZED: (AuthError, "does not accept the key"),
    httpx.codes.FORBIDDEN: (PlanDenied, "does not let this key ask for this"),
    httpx.codes.NOT_FOUND: (NoData, "has nothing for this"),
    httpx.codes.REQUEST_TIMEOUT: (Transient, "gave up waiting"),
}


@dataclass(frozen=True)
class Reply:
    """What a provider answered.

    Attributes:
        provider: Name of the provider.
        status: HTTP status.
        content: The body.
        content_type: What the provider says that it is; not to be believed.
        retry_after: How long the provider wants to be left alone, if it tells.
    """

    provider: str
    status: int
    content: bytes
    content_type: str = ""
    retry_after: timedelta | None = None

    def require_ok(self) -> None:
        """Refuse a status that is no success.

        Raises:
            ProviderError: The leaf that the status stands for.
        """
        fault = self.fault()
        if fault is not None:
            raise fault

    def fault(self) -> ProviderError | None:
        """Return the error that the status alone stands for; ``None`` for a success."""
        if httpx.codes.is_success(self.status):
            return None
        overloaded = self.status == httpx.codes.SERVICE_UNAVAILABLE and self.retry_after is not None
        if self.status == httpx.codes.TOO_MANY_REQUESTS or overloaded:
            return RateLimited(self.provider, self.retry_after)
        leaf, problem = _STATUS.get(self.status, (BadResponse, "answered"))
        if httpx.codes.is_server_error(self.status):
            leaf, problem = Transient, "failed"
        return leaf(self.provider, f"{problem} (HTTP status {self.status})")

    def parse(self, shape: TypeAdapter[_T]) -> _T:
        """Return the body as what it should be.

        Raises:
            BadResponse: It is something else: HTML, another shape, a cut-off text.
        """
        try:
            return shape.validate_json(self.content)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(step) for step in fault["loc"])
            what = f"{where}: {fault['type']}" if where else self._looks()
            raise BadResponse(self.provider, f"sent something unexpected ({what})") from None

    def _looks(self) -> str:
        start = self.content[:_LOOKED_AT].lstrip().lower()
        if not start:
            return "an empty body"
        return "a web page" if start.startswith(b"<") else "no JSON of the known shape"


class Web:
    """One pooled HTTP client; use it as an async context manager.

    Args:
        timeout: Longest silence of a provider.
        patience: Longest time for one question, repetitions and pauses included.
        attempts: How often a question is asked at most.
        pause: Shortest pause before a question is asked again; it doubles each time, and a random
            part of the same order is added.
        together: Questions to one provider at a time; the zones of most fleets in one go.
    """

    def __init__(
        self,
        *,
        timeout: timedelta = timedelta(seconds=8),
        patience: timedelta = timedelta(seconds=25),
        attempts: int = 3,
        pause: timedelta = timedelta(seconds=0.5),
        together: int = 12,
    ) -> None:
        self._timeout, self._patience = timeout, patience
        self._attempts, self._pause = attempts, pause
        self._places: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(together)
        )
        self._resting: dict[str, float] = {}
        self._next: defaultdict[str, float] = defaultdict(float)
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        self._client = httpx.AsyncClient(
            timeout=self._timeout.total_seconds(),
            headers={"user-agent": f"carbon-aware-flows/{version('carbon-aware-flows')}"},
            limits=httpx.Limits(max_connections=32),
            follow_redirects=False,
            verify=_trusted(),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def get(
        self,
        provider: str,
        url: str,
        params: Mapping[str, str],
        read: Callable[[Reply], _T],
        *,
        headers: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
    ) -> _T:
        """Ask a question and return what the answer means.

        Args:
            provider: Name of the provider, for errors and for how many ask it at a time.
            url: Address without the query.
            params: The query.
            read: Judges the body; it raises a :class:`ProviderError` for one that is no answer.
            headers: Headers of this question, e.g. a key.
            login: User and password for HTTP Basic.

        Raises:
            ProviderError: There is no answer, in time or at all.
        """
        if self._client is None:
            raise RuntimeError("Web is used as an async context manager: async with Web() as web")
        request = self._client.build_request("GET", url, params=dict(params), headers=headers or {})
        auth = httpx.BasicAuth(*login) if login else httpx.USE_CLIENT_DEFAULT
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                async for attempt in stamina.retry_context(
                    on=_again_in(self._patience),
                    attempts=self._attempts,
                    timeout=self._patience,
                    wait_initial=self._pause,
                    wait_jitter=self._pause,
                ):
                    with attempt:
                        async with self._places[provider]:
                            return await self._read(provider, request, auth, read)
        except TimeoutError:
            seconds = self._patience.total_seconds()
            raise Transient(provider, f"gave no whole answer within {seconds:.0f} s") from None
        raise AssertionError("stamina returns or raises")

    async def _read(
        self,
        provider: str,
        request: httpx.Request,
        auth: httpx.BasicAuth | object,
        read: Callable[[Reply], _T],
    ) -> _T:
        """Ask once, unless the provider has just told another question to leave it alone."""
        loop = asyncio.get_running_loop()
        left = self._resting.get(provider, 0.0) - loop.time()
        if left > _SOON:
            raise RateLimited(provider, timedelta(seconds=math.ceil(left)))
        at = max(self._next[provider], loop.time())
        self._next[provider] = at + _APART
        await asyncio.sleep(at - loop.time())
        try:
            return read(await self._once(provider, request, auth))
        except RateLimited as error:
            pause = error.retry_after if error.retry_after is not None else _REST
            self._resting[provider] = loop.time() + pause.total_seconds()
            raise

    async def _once(
        self, provider: str, request: httpx.Request, auth: httpx.BasicAuth | object
    ) -> Reply:
        assert self._client is not None
        try:
            response = await self._client.send(request, stream=True, auth=auth)  # type: ignore[arg-type]
            try:
                content = await _body(provider, response)
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            # The error itself holds the request, and so the address with its key.
            raise Transient(provider, f"did not answer ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            raise BadResponse(
                provider, f"sent what cannot be read ({type(error).__name__})"
            ) from None
        return Reply(
            provider,
            response.status_code,
            content,
            response.headers.get("content-type", ""),
            _retry_after(response.headers.get("retry-after", "")),
        )


def _again_in(patience: timedelta) -> Callable[[Exception], bool | timedelta]:
    """Return what tells whether to ask again, and after which pause if the provider names one."""

    def hook(error: Exception) -> bool | timedelta:
        if not isinstance(error, ProviderError) or not error.passes:
            return False
        if not isinstance(error, RateLimited):
            return True
        wait = error.retry_after
        return wait if wait is not None and wait < patience / 2 else False

    return hook


async def _body(provider: str, response: httpx.Response) -> bytes:
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > _LARGEST:
            raise BadResponse(provider, f"sent more than {_LARGEST // 2**20} MiB")
    return bytes(content)


def _retry_after(text: str) -> timedelta | None:
    """Read the header in either form: seconds, or a date."""
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text), 86_400))
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(timedelta(0), min(moment - datetime.now(UTC), timedelta(days=1)))


@cache
def _trusted() -> ssl.SSLContext:
    """Return the certificates to trust; reading them takes longer than many an answer."""
    return httpx.create_ssl_context()


class _Masked(logging.Filter):
    """Masks secrets in what httpx logs: it logs each address, and a key may stand in one."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if self.secrets:
            text = record.getMessage()
            for secret in self.secrets:
                text = text.replace(secret, "***")
            record.msg, record.args = text, ()
        return True


_masked = _Masked()
logging.getLogger("httpx").addFilter(_masked)
# A line for each repetition says nothing that the outlook does not say.
logging.getLogger("stamina").setLevel(logging.ERROR)


def mask(secret: SecretStr, name: str) -> str:
    """Return a secret that must stand in an address, and keep it out of httpx's log.

    Raises:
        BadInput: It is too short to be one; masking it would mangle the log.
    """
    value = secret.get_secret_value().strip()
    if len(value) < _SHORTEST_SECRET:
        raise BadInput(name, "is too short to be a key", "Copy the whole key.")
    _masked.secrets |= {value, str(httpx.QueryParams({"": value}))[1:]}
    return value
