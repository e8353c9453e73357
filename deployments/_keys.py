"""Keys of signal providers: from the environment, or else from Prefect blocks."""

from __future__ import annotations

import logging
from typing import Any, Final

from prefect.blocks.system import Secret
from prefect.settings import get_current_settings
from pydantic import SecretStr

from carbon.providers import Keys
from deployments._settings import Settings

_BLOCK: Final = "carbon-{}"
_FIELDS: Final = (
    "electricity_maps_token",
    "watttime_username",
    "watttime_password",
    "entsoe_token",
)
_log = logging.getLogger("carbon")


async def load_keys(settings: Settings) -> Keys:
    """Return the keys that are there; a block is asked for what the environment lacks.

    A block that cannot be read counts as missing: a run must start without it too.
    """
    found: dict[str, SecretStr] = {}
    for name in _FIELDS:
        value = getattr(settings, name)
        if value is None:
            value = await _block(_BLOCK.format(name.replace("_", "-")))
        if value is not None:
            found[name] = SecretStr(value) if isinstance(value, str) else value
    user = found.pop("watttime_username", None)
    return Keys(**found, watttime_username=user.get_secret_value() if user else None)


async def _block(name: str) -> SecretStr | None:
    if get_current_settings().api.url is None:
        return None  # Prefect would make up a server of its own
    try:
        block: Any = await Secret.aload(name)
        value = block.get()
    except ValueError:
        return None  # there is no such block, which is the usual case
    except Exception as error:  # noqa: BLE001 - an API that does not answer must not stop a run
        _log.warning("The block %r cannot be read (%s)", name, type(error).__name__)
        return None
    return SecretStr(str(value)) if value else None
