"""One set of pools at every start worth looking at, with what each limit says about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._decision import Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from carbon._chain import Chain
    from carbon._fleet import Pool
    from carbon._permitted import Refusals
    from carbon._request import Request

SAME: Final = 1e-9
"""Relative difference below which two numbers are taken as equal."""

NOT_WORTH_WAITING: Final = 0.01
"""Published intensities are revised by up to some per cent: below this nothing is waited for."""


MORE_SLACK: Final = timedelta(hours=1)
"""For how much more slack a decision says what it would be worth."""

_HOUR: Final = 3600.0


@dataclass(frozen=True)
class Limits:
    """What a placement should keep.

    Attributes:
        usd: Highest cost; endless without one.
        g_per_kwh: Highest mean intensity; endless without one.
        g: Highest emissions, from the least saving; endless without one.
    """

    usd: float
    g_per_kwh: float
    g: float


@dataclass(frozen=True)
class Candidates:
    """One set of pools; the arrays have one entry per start.

    The starts go on for an hour after the latest safe one, to tell what more slack would be worth.

    Attributes:
        chain: The workload on these pools.
        starts: POSIX seconds, ascending.
        grams: Emissions in gCO2e.
        usd: Cost in USD.
        known: Whether both are known.
        kept: Which starts keep each limit: deadline (it starts in time), capacity (every pool has
            a free slot all along), cost, intensity, and saving (enough is saved to move at all).
        waiting_g: What the wait is worth in gCO2e, by the policy.
        waiting_usd: The same in USD.
    """

    chain: Chain
    starts: NDArray[np.float64]
    grams: NDArray[np.float64]
    usd: NDArray[np.float64]
    known: NDArray[np.bool_]
    kept: Mapping[Rule, NDArray[np.bool_]]
    waiting_g: NDArray[np.float64]
    waiting_usd: NDArray[np.float64]

    def mask(self, rules: Iterable[Rule]) -> NDArray[np.bool_]:
        """Return which starts keep some limits."""
        result = self.known
        for rule in rules:
            result = result & self.kept[rule]
        return result

    def values(self, *, by_cost: bool) -> NDArray[np.float64]:
        """Return what is to be kept low."""
        return self.usd + self.waiting_usd if by_cost else self.grams + self.waiting_g

    def least(self, mask: NDArray[np.bool_], *, by_cost: bool) -> tuple[float, float] | None:
        """Return value and start of the best candidate, the earliest of equals."""
        if not mask.any():
            return None
        values = np.where(mask, self.values(by_cost=by_cost), np.inf)
        best = float(values.min())
        first = int(np.argmax(values <= best + abs(best) * SAME))
        return float(values[first]), float(self.starts[first])

    def soonest(
        self, mask: NDArray[np.bool_], best: float, *, by_cost: bool
    ) -> tuple[float, float] | None:
        """Return value and start of the first candidate, if it is nearly as good as the best.

        For a saving below what the numbers are later revised by nothing is waited for; whoever
        waits anyway waits for the best.
        """
        first = int(np.argmax(mask))
        value = float(self.values(by_cost=by_cost)[first])
        near = mask.any() and value <= best + abs(best) * NOT_WORTH_WAITING
        return (value, float(self.starts[first])) if near else None

    def binding(self, least: float, *, by_cost: bool) -> Rule | None:
        """Return the limit that stands before this set's clearly better starts, if it has any."""
        values = self.values(by_cost=by_cost)
        better = self.mask((Rule.DEADLINE,)) & (values < least - abs(least) * NOT_WORTH_WAITING)
        if not better.any():
            return None
        best = int(np.argmin(np.where(better, values, np.inf)))
        limits = (Rule.CAPACITY, Rule.COST, Rule.INTENSITY)
        return next((rule for rule in limits if not self.kept[rule][best]), None)

    def excluded(self, limits: Limits) -> tuple[Rule, str]:
        """Say which limit keeps the whole set out, with numbers."""
        left = self.mask((Rule.DEADLINE, Rule.CAPACITY))
        if not left.any():
            one = len(self.starts) == 1
            until = "now" if one else "until the latest safe start"
            return Rule.CAPACITY, f"every slot is taken {until}{self._blackouts()}"
        if not (left & self.kept[Rule.COST]).any():
            usd = float(np.min(self.usd[left]))
            return Rule.COST, f"costs {usd:.2f} USD, the limit is {limits.usd:.2f} USD"
        left &= self.kept[Rule.COST]
        if not (left & self.kept[Rule.INTENSITY]).any():
            at_best = float(np.min(self.grams[left]) - self.chain.embodied_g) / self.chain.kwh
            return Rule.INTENSITY, (
                f"at best {at_best:.0f} gCO2e/kWh, the maximum is {limits.g_per_kwh:g}"
            )
        return Rule.SAVING, "would save too little to be worth the move"

    def _blackouts(self) -> str:
        names = self.chain.blackouts
        return f" (blackout: {', '.join(names)})" if names else ""


def evaluate(
    request: Request, chain: Chain, limits: Limits, refusals: Refusals
) -> Candidates | None:
    """Evaluate one set of pools; ``None`` when the deadline or the signal rules it out."""
    latest = request.deadline - chain.needed
    if latest < request.earliest:
        hours = f"{chain.needed.total_seconds() / 3600:.1f} h"
        for pool in chain.heavy_pools:
            refusals.add(pool, Rule.DEADLINE, f"needs {hours} with one retry, more than is left")
        return None
    last = _last(request, latest)
    starts = chain.starts(request.earliest, last, last + MORE_SLACK * request.may_wait)
    grams, usd = chain.grams(starts), chain.cost(starts)
    known = ~np.isnan(grams) & ~np.isnan(usd)
    in_time = starts <= last.timestamp()
    if not (known & in_time).any():
        for pool in chain.heavy_pools:
            refusals.add(pool, Rule.SIGNAL, _unknown(request, pool))
        return None
    slack, policy = 1 + SAME, request.policy
    waited = (starts - request.earliest.timestamp()) / _HOUR
    return Candidates(
        chain=chain,
        starts=starts,
        grams=grams,
        usd=usd,
        known=known,
        kept={
            Rule.DEADLINE: in_time,
            Rule.CAPACITY: chain.free(starts),
            Rule.COST: usd <= limits.usd + abs(limits.usd) * SAME,
            Rule.INTENSITY: (grams - chain.embodied_g) / chain.kwh <= limits.g_per_kwh * slack,
            Rule.SAVING: grams <= limits.g * slack,
        },
        waiting_g=waited * policy.freshness_g_per_hour,
        waiting_usd=waited * policy.freshness_usd_per_hour,
    )


def _last(request: Request, latest: datetime) -> datetime:
    """Return the last start to look at; a run that is up and lets go has to start up again."""
    if not request.may_wait:
        return request.earliest
    again = request.fleet.home_cpu.startup if request.running else timedelta(0)
    return max(request.earliest, latest - again)


def _unknown(request: Request, pool: Pool) -> str:
    zone = pool.place.zone
    if zone in request.outlook.missing:
        return request.outlook.missing[zone]
    if pool.billed_energy and zone not in request.outlook.price:
        return f"no electricity price for zone {zone}"
    if pool.billed_energy and request.outlook.price[zone].currency not in {
        "USD",
        *request.fleet.usd_per,
    }:
        return f"no exchange rate usd_per.{request.outlook.price[zone].currency} in the fleet file"
    return f"no intensity for zone {zone} over the run's window"
