"""Outages: while Prefect's API is away, whoever waits goes on waiting."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

import httpx
from prefect.exceptions import PrefectHTTPStatusError
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode

if TYPE_CHECKING:
    import logging

_T = TypeVar("_T")

_AGAIN: Final = 5.0
"""Seconds between two attempts; Prefect's client has tried for a while by then."""

_OWN: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO}
)
"""Errors of this machine, which no patience mends: its disk is full, its files are too many."""

_LATER: Final = frozenset({httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS})


def is_outage(error: BaseException) -> bool:
    """Tell whether the API is away, so that the same question may get an answer later."""
    if isinstance(error, PrefectHTTPStatusError):
        return error.response.is_server_error or error.response.status_code in _LATER
    if isinstance(error, OSError):
        return error.filename is None and error.errno not in _OWN
    if type(error) is Exception:
        # Prefect's client of events says no more when the server goes while it logs in.
        cause = error.__cause__
        return isinstance(cause, ConnectionClosed) and not _unwanted(cause)
    return isinstance(error, httpx.TransportError | WebSocketException)


def _unwanted(error: ConnectionClosed) -> bool:
    """Tell whether the server has refused us, e.g. for a wrong key: that does not pass."""
    return error.rcvd is not None and error.rcvd.code == CloseCode.POLICY_VIOLATION


async def patiently(
    work: Callable[[], Awaitable[_T]], log: logging.Logger | logging.LoggerAdapter[logging.Logger]
) -> _T:
    """Do something that asks the API, again and again while it is away.

    To fail would end the run, and nobody could even be told.

    Args:
        work: What may be done more than once.
        log: Where an outage is told, once.
    """
    told = False
    while True:
        try:
            return await work()
        except Exception as error:
            if not is_outage(error):
                raise
            if not told:
                log.warning("The Prefect API is away (%s); the run waits", type(error).__name__)
                told = True
            await asyncio.sleep(_AGAIN)
