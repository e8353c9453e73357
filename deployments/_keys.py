"""Keys of signal providers: from the environment, or else from Prefect blocks."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

from prefect.blocks.system import Secret
from prefect.settings import get_current_settings
from pydantic import SecretStr

from carbon import Signals
from carbon.providers import Keys
from deployments._settings import Settings

_BLOCK: Final = "carbon-{}"
_FIELDS: Final = {
    "electricity-maps": ("electricity_maps_token",),
    "watttime": ("watttime_username", "watttime_password"),
    "entsoe": ("entsoe_token",),
}
_MOST_PATIENCE: Final = timedelta(seconds=4)
"""Prefect would wait a minute for each block, and a run is waiting."""

_log = logging.getLogger("carbon")


async def load_keys(
    settings: Settings, signals: Signals, patience: timedelta = _MOST_PATIENCE
) -> tuple[Keys, tuple[str, ...]]:
    """Return the keys that are there, and what must be said of those that are not.

    A block is asked for what the environment lacks, if its provider is to be asked at all. One that
    cannot be read counts as missing: a run must start without it too.

    Args:
        settings: The environment.
        signals: Which providers are asked.
        patience: Longest time for all blocks together.
    """
    asked = (names for provider, names in _FIELDS.items() if provider in signals.named)
    names = list(itertools.chain.from_iterable(asked))
    wanted = [name for name in names if getattr(settings, name) is None]
    blocks, failed = await _blocks(wanted, min(patience, _MOST_PATIENCE))
    notes = [f"keys in Prefect blocks were not read: the Prefect API failed ({failed})"]
    notes = notes if failed else []
    found = {name: getattr(settings, name) or blocks.get(name) for name in names}
    user = found.pop("watttime_username", None)
    keys = Keys(
        **found, watttime_username=user.get_secret_value() if isinstance(user, SecretStr) else user
    )
    return keys, (*notes, *_left_out(keys, signals))


def _left_out(keys: Keys, signals: Signals) -> Iterator[str]:
    """Say which providers were named in the fleet file and cannot be asked."""
    for provider in signals.stated:
        missing = [
            f"CARBON_{name.upper()}"
            for name in _FIELDS.get(provider, ())
            if getattr(keys, name) is None
        ]
        if missing:
            yield f"{provider} is left out: {' and '.join(missing)} not set"
        if provider == "carbon-aware-sdk" and signals.carbon_aware_sdk is None:
            yield f"{provider} is left out: the fleet file has no table [signals.carbon-aware-sdk]"


async def _blocks(
    names: Sequence[str], patience: timedelta
) -> tuple[dict[str, SecretStr | None], str]:
    """Return what blocks hold, as far as they could be read, and how others could not."""
    if not names or get_current_settings().api.url is None:
        return {}, ""  # without an address Prefect would make up a server of its own
    tasks = {name: asyncio.create_task(_block(name)) for name in names}
    _, late = await asyncio.wait(tasks.values(), timeout=patience.total_seconds())
    for task in late:
        task.cancel()
    read = await asyncio.gather(*tasks.values(), return_exceptions=True)
    found = dict(zip(tasks, read, strict=True))
    faults = {type(one).__name__ for one in read if isinstance(one, Exception)}
    failed = ", ".join(sorted(faults | ({"no answer in time"} if late else set())))
    return {name: one for name, one in found.items() if not isinstance(one, BaseException)}, failed


async def _block(name: str) -> SecretStr | None:
    try:
        block: Any = await Secret.aload(_BLOCK.format(name.replace("_", "-")))
        value = block.get()
    except ValueError:
        return None  # there is no such block, which is the usual case
    return SecretStr(str(value)) if value else None
