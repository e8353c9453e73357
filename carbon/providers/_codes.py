"""What the providers call a grid zone; the table stands in ``codes.toml`` beside this module."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict


class Codes(BaseModel):
    """The names of one grid zone; ``None`` where a provider does not know it.

    Attributes:
        energy_charts: Country of its carbon intensity.
        energy_charts_for: What those numbers really speak of, where it is more than the zone.
        energy_charts_price: Bidding zone of its price.
        entsoe: Energy identification code of its bidding zone.
        watttime: Region of the marginal signal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    energy_charts: str | None = None
    energy_charts_for: str | None = None
    energy_charts_price: str | None = None
    entsoe: str | None = None
    watttime: str | None = None


@cache
def _table() -> dict[str, Codes]:
    text = files("carbon.providers").joinpath("codes.toml").read_text(encoding="utf-8")
    return {zone: Codes.model_validate(row) for zone, row in tomllib.loads(text).items()}


def codes(zone: str) -> Codes:
    """Return what the providers call a grid zone; all ``None`` for an unknown one."""
    return _table().get(zone, Codes())
