"""How often the quality gate catches a fault, and how often it cries wolf, on real grids.

Usage: ``python benchmarks/quality.py [TRACES]`` with the folder of the hourly traces (default:
``../shared/traces``). Windows of two days are cut out of 15 series: the life-cycle intensity of 12
zones and the day-ahead forecasts of three. Each is looked at as it is, and once with each fault
put in; a fault is caught when there is any finding. "with history" means that the range of the 60
days before is known.

Prices of eight markets are looked at as they are known at noon, when the coming day has just been
published: 12 hours of today and all of tomorrow.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from carbon import Accounting, Fault, IntensitySeries, Kind, PriceSeries
from carbon._findings import Norm
from carbon._price_quality import inspect_price
from carbon._quality import inspect
from carbon._series import regular

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

HOURS, HISTORY_DAYS, EVERY = 48, 60, 77
HOUR = timedelta(hours=1)
NAMES = {"DE": "DE", "CISO": "US-CAL-CISO", "PJM": "US-MIDA-PJM"}
MOST = 1_999.0  # above 2,000 g/kWh no series is even made
OTHER_ZONE = "another zone's body"
LB_PER_KG = 2.2046


@dataclass(frozen=True)
class Grid:
    """One real series: hourly values from a midnight UTC on."""

    zone: str
    accounting: Accounting
    first: datetime
    values: Floats

    def window(self, hour: int, values: Floats) -> IntensitySeries:
        """Return values as a forecast that was issued at an hour."""
        start = self.first + HOUR * hour
        starts, end = regular(start, HOUR, len(values))
        return IntensitySeries(
            self.zone,
            starts,
            end,
            values.tolist(),
            "trace",
            kind=Kind.FORECAST,
            accounting=self.accounting,
            fetched_at=start,
        )


@dataclass
class Table:
    """What was found."""

    clean: int = 0
    alarms: Counter[str] = field(default_factory=Counter)
    tries: Counter[str] = field(default_factory=Counter)
    caught: Counter[tuple[str, bool]] = field(default_factory=Counter)

    def rate(self, fault: str, *, history: bool) -> float:
        """Return how much of a fault was caught, in percent."""
        return 100 * self.caught[fault, history] / self.tries[fault]

    def count(
        self, fault: str, series: IntensitySeries, norm: Norm, *others: IntensitySeries
    ) -> None:
        """Look at a series with a fault, with and without the zone's history."""
        self.tries[fault] += 1
        self.caught[fault, True] += bool(_looked(series, norm, *others))
        self.caught[fault, False] += bool(_looked(series, None, *others))


def _set(values: Floats, at: int, hours: int, to: float) -> Floats:
    changed = values.copy()
    changed[at : at + hours] = to
    return changed


FAULTS: dict[str, Callable[[Floats, int], Floats]] = {
    "zeros for 10 h": lambda values, at: _set(values, at, 10, 0.0),
    "zeros for 2 h": lambda values, at: _set(values, at, 2, 0.0),
    "frozen for 12 h": lambda values, at: _set(values, at, 12, values[at]),
    "one hour 40 % low": lambda values, at: _set(values, at, 1, 0.6 * values[at]),
    "one hour 60 % high": lambda values, at: _set(values, at, 1, min(1.6 * values[at], MOST)),
    "second day copied": lambda values, _: np.tile(values[:24], 2),
    "lb/MWh": lambda values, _: np.minimum(values * LB_PER_KG, MOST),
    "half the level": lambda values, _: values / 2,
    "4.5 times the level": lambda values, _: np.minimum(values * 4.5, MOST),
}
"""Values and an hour to values with a fault at that hour."""


def grids(folder: Path) -> list[Grid]:
    """Return the real series."""
    wide = pl.read_parquet(folder / "intensity_lifecycle_2022_hourly.parquet")
    long = pl.read_parquet(folder / "intensity_direct_2021H2_with_day_ahead_forecast.parquet")
    found = [
        Grid(zone, Accounting.LIFECYCLE, wide["utc"][0].astimezone(UTC), wide[zone].to_numpy())
        for zone in wide.columns
        if zone != "utc"
    ]
    for name, zone in NAMES.items():
        rows = long.filter(pl.col("zone") == name).sort("utc")
        values = rows["day_ahead_forecast_direct"].to_numpy()
        found.append(Grid(zone, Accounting.DIRECT, rows["utc"][0].astimezone(UTC), values))
    return found


def measure(grids: Sequence[Grid], every: int = EVERY, history_days: int = HISTORY_DAYS) -> Table:
    """Look at windows as they are and with each fault.

    Args:
        grids: The real series.
        every: Hours from one window to the next.
        history_days: Days before a window whose range is known.
    """
    table, rng = Table(), np.random.default_rng(1)
    for grid in grids:
        for hour in range(24 * history_days, len(grid.values) - HOURS, every):
            past, values = grid.values[:hour][-24 * history_days :], grid.values[hour:][:HOURS]
            norm = Norm(float(past.min()), float(past.max()), history_days)
            table.clean += 1
            alarms = _looked(grid.window(hour, values), norm)
            table.alarms.update(f"{grid.zone}: {one}" for one in alarms)
            at = int(rng.integers(1, HOURS - 13))
            for fault, put in FAULTS.items():
                table.count(fault, grid.window(hour, put(values, at)), norm)
            other = grids[int(rng.integers(len(grids)))]
            if other.zone != grid.zone and other.accounting is grid.accounting:
                theirs = other.values[hour:][:HOURS]
                sent = other.window(hour, theirs)
                table.count(OTHER_ZONE, grid.window(hour, theirs), norm, sent)
    return table


def _looked(series: IntensitySeries, norm: Norm | None, *others: IntensitySeries) -> list[str]:
    asked = series.start + HOUR * HOURS
    found = inspect(series, now=series.start, asked=asked, norm=norm, others=others)
    return [one.fault.value for one in found.findings]


@dataclass(frozen=True)
class Market:
    """Real hourly prices from a midnight UTC on, ``nan`` where none is known."""

    zone: str
    currency: str
    first: datetime
    values: Floats

    def found(self, hour: int, values: Floats) -> list[str]:
        """Return the names of what is found in prices that were published at an hour."""
        start = self.first + HOUR * hour
        starts, end = regular(start, HOUR, len(values))
        sent = [None if np.isnan(value) else float(value) for value in values]
        about = {"kind": Kind.FORECAST, "currency": self.currency}
        series = PriceSeries(self.zone, starts, end, sent, "trace", **about)
        return [one.fault.value for one in inspect_price(series, now=start, asked=end).findings]


PRICED_HOURS, TODAY = 36, 12
PRICE_FAULTS: dict[str, Callable[[Floats, int], Floats]] = {
    "tomorrow as zeros": lambda values, _: _set(values, TODAY, 24, 0.0),
    "tomorrow as the last price": lambda values, _: _set(values, TODAY, 24, values[TODAY - 1]),
    "tomorrow as today": lambda values, _: np.append(values[:TODAY], values[[*_AGAIN]]),
    "frozen for 14 h": lambda values, at: _set(values, at, 14, values[at]),
    "a thousand times": lambda values, _: values * 1_000,
    "one hour at a million": lambda values, at: _set(values, at, 1, 1e6),
}
"""Prices and an hour to prices with a fault at that hour."""

_AGAIN = (*range(12, 24), *range(12))
"""Tomorrow in the hours of today: its morning is over and was not sent, so any other will do."""


def markets(folder: Path) -> list[Market]:
    """Return the real prices."""
    wide = pl.read_parquet(folder / "price_2022_hourly.parquet")
    first = wide["utc"][0].astimezone(UTC)
    return [
        Market(
            (named := column.rsplit("_", 2))[0],
            named[1].upper(),
            first,
            np.round(wide[column].cast(pl.Float64).fill_null(np.nan).to_numpy(), 2),
        )
        for column in wide.columns
        if column != "utc"
    ]


def measure_prices(markets: Sequence[Market], every: int = 7) -> Table:
    """Look at windows of prices as they are and with each fault; those with gaps are left out.

    Args:
        markets: The real prices.
        every: Hours from one window to the next.
    """
    table, rng = Table(), np.random.default_rng(1)
    for market in markets:
        for hour in range(0, len(market.values) - PRICED_HOURS, every):
            values = market.values[hour:][:PRICED_HOURS]
            if np.isnan(values).any():
                continue
            table.clean += 1
            table.alarms.update(f"{market.zone}: {one}" for one in market.found(hour, values))
            at = int(rng.integers(0, PRICED_HOURS - 14))
            for fault, put in PRICE_FAULTS.items():
                table.tries[fault] += 1
                found = {*market.found(hour, put(values, at))} - {Fault.SHORT.value}
                table.caught[fault, False] += bool(found)
    return table


def main() -> None:
    """Print the tables."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/traces")
    real = grids(folder)
    table = measure(real)
    print("| fault put in | windows | caught, with history | caught, without |\n|---|---|---|---|")
    for fault, tries in table.tries.items():
        rates = (f"{table.rate(fault, history=history):.1f} %" for history in (True, False))
        print(f"| {fault} | {tries} | {' | '.join(rates)} |")
    print(f"\nIn {table.clean} clean windows: {dict(table.alarms) or 'no finding'}")
    prices = measure_prices(markets(folder))
    print("\n| fault put in prices | windows | caught |\n|---|---|---|")
    for fault, tries in prices.tries.items():
        print(f"| {fault} | {tries} | {prices.rate(fault, history=False):.1f} % |")
    print(f"\nIn {prices.clean} clean windows: {dict(prices.alarms) or 'no finding'}")


if __name__ == "__main__":
    main()
