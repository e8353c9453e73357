"""Outages: what is waited for, and what is not."""

from __future__ import annotations

import asyncio
import errno
import logging

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close, CloseCode

from deployments._outage import is_outage, patiently


def answered(status: int) -> PrefectHTTPStatusError:
    """Return the error of an answer."""
    request = httpx.Request("GET", "http://127.0.0.1/api")
    return PrefectHTTPStatusError(
        "no", request=request, response=httpx.Response(status, request=request)
    )


def closed_at_login(code: int) -> Exception:
    """Return what Prefect's client of events raises when its connection is closed as it logs in."""
    error = Exception("Unable to authenticate to the event stream.")
    error.__cause__ = ConnectionClosedError(Close(code, ""), None)
    return error


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), True),
        (OSError(errno.ENETUNREACH, "no network"), True),
        (OSError("Multiple exceptions: refused, refused"), True),
        (TimeoutError(), True),
        (httpx.ConnectError("refused"), True),
        (answered(503), True),
        (answered(429), True),
        (closed_at_login(CloseCode.SERVICE_RESTART), True),
        (closed_at_login(CloseCode.POLICY_VIOLATION), False),
        (Exception("of somebody else"), False),
        (answered(404), False),
        (FileNotFoundError(errno.ENOENT, "no such file", "/srv/images"), False),
        (OSError(errno.ENOSPC, "disk full"), False),
        (ValueError("a mistake"), False),
    ],
    ids=repr,
)
def test_only_what_time_mends_is_an_outage(error: Exception, *, away: bool) -> None:
    """A full disk or a missing file is told at once; a run would wait for ever."""
    assert is_outage(error) is away


def test_an_outage_is_waited_for_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The work is done when the API is back."""
    monkeypatch.setattr("deployments._outage._AGAIN", 0.0)
    faults = iter([ConnectionResetError(), answered(503), httpx.ReadTimeout("slow")])

    async def work() -> str:
        for fault in faults:
            raise fault
        return "done"

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(patiently(work, logging.getLogger("test"))) == "done"
    assert len(caplog.records) == 1
    with pytest.raises(ValueError, match="a mistake"):
        asyncio.run(patiently(_mistake, logging.getLogger("test")))


async def _mistake() -> None:
    raise ValueError("a mistake")
