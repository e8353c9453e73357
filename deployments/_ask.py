"""Asking Prefect from the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from json import JSONDecodeError
from typing import Any, TypeVar

import httpx
from prefect.settings import get_current_settings
from pydantic import ValidationError

from deployments._errors import PrefectUnavailable

_T = TypeVar("_T")


def ask_prefect(work: Coroutine[Any, Any, _T]) -> _T:
    """Do what asks Prefect; without an address it would quietly ask a server of its own.

    Raises:
        PrefectUnavailable: No address is set, or no Prefect answers there.
    """
    if get_current_settings().api.url is None:
        work.close()
        raise PrefectUnavailable.unnamed()
    try:
        return asyncio.run(work)
    except httpx.HTTPError as error:
        raise PrefectUnavailable.of(error) from error
    except (JSONDecodeError, ValidationError) as error:
        # Prefect's client reads any answer with status 200, a login page too.
        raise PrefectUnavailable.other() from error
