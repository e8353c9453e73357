"""What electricity costs on top of a pool's own price: by contract and clock, or at the market."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbon._calendar import steps, utc
from carbon._series import Kind, PriceSeries

if TYPE_CHECKING:
    from datetime import datetime

    from carbon._fleet import Fleet, Pool
    from carbon._outlook import Outlook

_PER_MWH = 1000.0


@dataclass(frozen=True)
class EnergyPrice:
    """A price of electricity, and what turns it into USD.

    Attributes:
        series: Price per MWh; ``None`` where it is not known, or its currency has no rate.
        rate: USD per unit of its currency.
        missing: Why there is no series.
    """

    series: PriceSeries | None
    rate: float = 1.0
    missing: str = ""


def energy_price(
    fleet: Fleet, outlook: Outlook, pool: Pool, start: datetime, end: datetime
) -> EnergyPrice:
    """Return what electricity costs on top in a pool over a while."""
    if pool.usd_per_kwh is not None:
        bands = [(band.within(start, end, pool.timezone), band.usd_per_kwh) for band in pool.tariff]
        edges, values = steps(pool.usd_per_kwh, bands, start.timestamp(), end.timestamp())
        moments = [utc(edge) for edge in edges]
        per_mwh = [value * _PER_MWH for value in values]
        contract = PriceSeries(
            pool.place.zone,
            moments[:-1],
            moments[-1],
            per_mwh,
            f"tariff of pool {pool.name}",
            kind=Kind.FORECAST,
            currency="USD",
        )
        return EnergyPrice(contract)
    zone = pool.place.zone
    if (price := outlook.price.get(zone)) is None:
        return EnergyPrice(None, missing=f"no electricity price for zone {zone}")
    rate = {"USD": 1.0, **fleet.usd_per}.get(price.currency)
    if rate is None:
        missing = f"no exchange rate usd_per.{price.currency} in the fleet file"
        return EnergyPrice(None, missing=missing)
    return EnergyPrice(price, rate)
