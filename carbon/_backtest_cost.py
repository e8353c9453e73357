"""What a back-test's jobs cost: by the hour, for carrying data, and for electricity on top.

Electricity is priced as in the planner (:mod:`carbon._energy_price`): by contract and clock, or at
the market, there with the prices that came. Where one is not known, neither is the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from carbon import _cells, _gridfile
from carbon._energy_price import energy_price
from carbon._outlook import Outlook
from carbon._series import Kind, PriceSeries, joined

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from carbon._backtest_grid import Grid
    from carbon._backtest_jobs import JobList
    from carbon._fleet import Fleet, Pool

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

_PER_MWH: Final = 1000.0


def read_prices(path: Path) -> dict[str, PriceSeries]:
    """Read electricity prices from a file like ``CARBON_REPLAY_PRICES``; zone to series.

    Raises:
        BadInput: A cell is wrong; the message names file, line and column.
    """
    cells = _cells.read(path)
    return {
        zone: joined(
            [
                PriceSeries(
                    zone,
                    piece.starts,
                    piece.end,
                    piece.values,
                    cells.file,
                    kind=Kind.ACTUAL,
                    currency=priced.currency,
                )
                for piece in priced.stretches
            ]
        )
        for zone, priced in _gridfile.prices(cells, None).items()
        if priced.stretches
    }


@dataclass(frozen=True, eq=False)
class Cost:
    """What pools cost.

    Attributes:
        fleet: The fleet.
        pools: The pools.
        usd_per_kwh: Electricity on top, ``nan`` where its price is not known, 0 where the price by
            the hour holds it; by pool and step.
        reasons: Why it is not known; by name of the pool.
    """

    fleet: Fleet
    pools: Sequence[Pool]
    usd_per_kwh: Floats
    reasons: Mapping[str, str]

    @classmethod
    def of(
        cls, fleet: Fleet, pools: Sequence[Pool], grid: Grid, prices: Mapping[str, PriceSeries]
    ) -> Self:
        """Lay prices of electricity out on steps."""
        outlook = Outlook(grid.first, grid.end, {}, prices, {})
        step = grid.step.total_seconds()
        starts = grid.first.timestamp() + np.arange(grid.steps, dtype=np.float64) * step
        rows, reasons = np.zeros((len(pools), grid.steps)), {}
        for row, pool in zip(rows, pools, strict=True):
            if not pool.billed_energy and pool.usd_per_kwh is None:
                continue
            price = energy_price(fleet, outlook, pool, grid.first, grid.end)
            if price.series is None:
                row[:] = np.nan
                reasons[pool.name] = price.missing
            else:
                row[:] = price.series.means(starts, step) * price.rate / _PER_MWH
        return cls(fleet, pools, rows, reasons)

    def usd(self, jobs: JobList, pool: Integers, start: Integers, length: Integers) -> Floats:
        """Return what each job costs, ``nan`` where a price is not known.

        Args:
            jobs: The jobs.
            pool: Index of the pool of each.
            start: Step in which each starts.
            length: Steps that each runs.
        """
        home, pools = self.fleet.home_cpu.place, self.pools
        hourly = np.array([one.usd_per_hour for one in pools])
        there = np.array([home.transfer_price(one.place) for one in pools])
        back = np.array([one.place.transfer_price(home) for one in pools])
        kw = np.array([one.watts / 1000.0 for one in pools])
        pue = np.array([one.place.pue.value for one in pools])
        kwh = np.where(np.isnan(jobs.kwh), kw[pool] * jobs.hours, jobs.kwh) * pue[pool]
        transfer = there[pool] * jobs.data_in_gb + back[pool] * jobs.data_out_gb
        known, gaps = (
            _running_sums(values)
            for values in (np.nan_to_num(self.usd_per_kwh), np.isnan(self.usd_per_kwh))
        )
        end = start + length
        energy = kwh / length * (known[pool, end] - known[pool, start])
        energy = np.where(gaps[pool, end] > gaps[pool, start], np.nan, energy)
        return np.asarray(hourly[pool] * jobs.hours + transfer + energy)

    def notes(self, grid: Grid, first: int, stop: int) -> Iterator[str]:
        """Yield why the cost of pools is not known over some steps."""
        for pool, row in zip(self.pools, self.usd_per_kwh, strict=True):
            missing = np.flatnonzero(np.isnan(row[first:stop]))
            if len(missing):
                when = f"{grid.moment(first + int(missing[0])):%Y-%m-%d %H:%M} UTC"
                why = self.reasons.get(pool.name, f"zone {pool.place.zone} has no price at {when}")
                yield f"What electricity costs in pool {pool.name} is not known: {why}."


def _running_sums(values: NDArray[np.float64] | NDArray[np.bool_]) -> Floats:
    zero = np.zeros((len(values), 1))
    return np.hstack([zero, np.cumsum(values, axis=1, dtype=np.float64)])
