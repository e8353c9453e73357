"""One set of pools at every start worth looking at, with what each limit says about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._decision import Rule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon._chain import Chain
    from carbon._fleet import Pool
    from carbon._permitted import Refusals
    from carbon._request import Request

SAME: Final = 1e-9
"""Relative difference below which two numbers are taken as equal."""


@dataclass(frozen=True)
class Candidates:
    """The arrays have one entry per start.

    Attributes:
        chain: The workload on one set of pools.
        starts: POSIX seconds, ascending.
        grams: Emissions in gCO2e.
        usd: Cost in USD.
        known: Whether both are known.
        free: Whether every pool has a free slot all along.
        cheap: Whether the cost limit holds.
        clean: Whether the intensity limit holds.
    """

    chain: Chain
    starts: NDArray[np.float64]
    grams: NDArray[np.float64]
    usd: NDArray[np.float64]
    known: NDArray[np.bool_]
    free: NDArray[np.bool_]
    cheap: NDArray[np.bool_]
    clean: NDArray[np.bool_]

    def least(self, mask: NDArray[np.bool_], *, by_cost: bool) -> tuple[float, float] | None:
        """Return the least cost or emissions under the mask and its earliest start."""
        if not mask.any():
            return None
        values = np.where(mask, self.usd if by_cost else self.grams, np.inf)
        best = float(values.min())
        first = int(np.flatnonzero(values <= best + abs(best) * SAME)[0])
        return best, float(self.starts[first])

    def binding(self, least: float, *, by_cost: bool) -> Rule | None:
        """Return the limit that stands before this set's better starts, if it has any."""
        values = self.usd if by_cost else self.grams
        better = self.known & (values < least - abs(least) * 1e-6)
        if not better.any():
            return None
        best = int(np.argmin(np.where(better, values, np.inf)))
        if not self.free[best]:
            return Rule.CAPACITY
        return Rule.INTENSITY if self.cheap[best] else Rule.COST

    def excluded(self, cost_limit: float, ceiling: float | None) -> tuple[Rule, str]:
        """Say which limit keeps the whole set out, with numbers."""
        if not self.free.any():
            return Rule.CAPACITY, "every slot is taken until the latest safe start"
        if not (self.free & self.cheap).any():
            usd = float(np.min(self.usd[self.free]))
            return Rule.COST, f"costs {usd:.2f} USD, the limit is {cost_limit:.2f} USD"
        at_best = float(np.min(self.grams[self.free])) / self.chain.kwh()
        return Rule.INTENSITY, f"at best {at_best:.0f} gCO2e/kWh, the maximum is {ceiling or 0:g}"


def evaluate(
    request: Request, chain: Chain, cost_limit: float, refusals: Refusals
) -> Candidates | None:
    """Evaluate one set of pools; ``None`` when the deadline or the signal rules it out."""
    latest = request.deadline - chain.needed
    if latest < request.earliest:
        hours = f"{chain.needed.total_seconds() / 3600:.1f} h"
        for pool in chain.heavy_pools:
            refusals.add(pool, Rule.DEADLINE, f"needs {hours} with one retry, more than is left")
        return None
    last = latest if request.may_wait else request.earliest
    starts = chain.starts(request.earliest, last, request.busy)
    grams, usd = chain.grams(starts), chain.cost(starts)
    known = ~np.isnan(grams) & ~np.isnan(usd)
    if not known.any():
        for pool in chain.heavy_pools:
            refusals.add(pool, Rule.SIGNAL, _unknown(request, pool))
        return None
    ceiling = request.policy.max_g_per_kwh or np.inf
    return Candidates(
        chain=chain,
        starts=starts,
        grams=grams,
        usd=usd,
        known=known,
        free=chain.free(starts, request.busy) & known,
        cheap=(usd <= cost_limit) & known,
        clean=grams / chain.kwh() <= ceiling * (1 + SAME),
    )


def _unknown(request: Request, pool: Pool) -> str:
    zone = pool.place.zone
    if zone in request.outlook.missing:
        return request.outlook.missing[zone]
    if pool.billed_energy and zone not in request.outlook.price:
        return f"no electricity price for zone {zone}"
    return f"no intensity for zone {zone} over the run's window"
