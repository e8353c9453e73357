"""All sets of pools at all starts worth looking at, with what each limit says about each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from carbon._decision import Rule, money
from carbon._policy import Strategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from carbon._chain import Chain
    from carbon._policy import CarbonPolicy
    from carbon._request import Request

SAME: Final = 1e-9
"""Relative difference below which two numbers are taken as equal."""

NOT_WORTH_WAITING: Final = 0.01
"""Published intensities are revised by up to some per cent: below this nothing is waited for."""


MORE_SLACK: Final = timedelta(hours=1)
"""For how much more slack a decision says what it would be worth."""

LIMITS: Final = (Rule.DEADLINE, Rule.CAPACITY, Rule.COST, Rule.INTENSITY, Rule.SAVING)
"""All limits; the last of them only decides whether a move is worth it."""

_HOUR: Final = 3600.0


class Step(NamedTuple):
    """A step of giving way.

    Attributes:
        rules: The limits that still hold.
        by_cost: Whether cost is kept low instead of emissions.
        waiting: Whether the wait counts: once a limit is broken, it is broken no further for it.
    """

    rules: tuple[Rule, ...]
    by_cost: bool
    waiting: bool


def giving_way(policy: CarbonPolicy) -> tuple[Step, ...]:
    """Return what is tried in turn: at first all limits hold, then the least saving is let go.

    Once the intensity target has given way, the least emissions are sought, and once the cost cap
    has, the least cost.
    """
    cheapest = policy.strategy is Strategy.CHEAPEST
    return (
        Step(LIMITS, cheapest, waiting=True),
        Step(LIMITS[:4], cheapest, waiting=True),
        Step(LIMITS[:3], by_cost=False, waiting=False),
        Step(LIMITS[:2], by_cost=True, waiting=False),
    )


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
    """Placements in one table; the arrays have one entry for each set of pools and start.

    The starts go on for an hour after the latest safe one, to tell what more slack would be worth.

    Attributes:
        chains: The workload on each set of pools.
        first: Where the entries of each chain begin, and where the last ones end.
        starts: POSIX seconds.
        grams: Emissions in gCO2e.
        usd: Cost in USD.
        known: Whether both are known.
        kept: Which entries keep each limit: deadline (it starts in time), capacity (every pool has
            a free slot all along), cost, intensity, and saving (enough is saved to move at all).
        waiting_g: What the wait is worth in gCO2e, by the policy.
        waiting_usd: The same in USD.
    """

    chains: Sequence[Chain]
    first: NDArray[np.int64]
    starts: NDArray[np.float64]
    grams: NDArray[np.float64]
    usd: NDArray[np.float64]
    known: NDArray[np.bool_]
    kept: Mapping[Rule, NDArray[np.bool_]]
    waiting_g: NDArray[np.float64]
    waiting_usd: NDArray[np.float64]

    def mask(self, rules: Iterable[Rule]) -> NDArray[np.bool_]:
        """Return which entries keep some limits."""
        result = self.known
        for rule in rules:
            result = result & self.kept[rule]
        return result

    def values(self, *, by_cost: bool, waiting: bool = True) -> NDArray[np.float64]:
        """Return what is to be kept low, with what the wait is worth or without."""
        if by_cost:
            return self.usd + self.waiting_usd if waiting else self.usd
        return self.grams + self.waiting_g if waiting else self.grams

    def chain(self, entry: int) -> Chain:
        """Return the chain that an entry belongs to."""
        return self.chains[int(np.searchsorted(self.first, entry, side="right")) - 1]

    def start(self, entry: int) -> datetime:
        """Return the start of an entry."""
        return datetime.fromtimestamp(float(self.starts[entry]), UTC)

    def best(self, mask: NDArray[np.bool_], *, by_cost: bool) -> int | None:
        """Return the entry with the least value, the earliest of equals; ``None`` without any."""
        return self._best(mask, self.values(by_cost=by_cost))

    def _best(self, mask: NDArray[np.bool_], values: NDArray[np.float64]) -> int | None:
        values = np.where(mask, values, np.inf)
        best = float(values.min(initial=np.inf))
        if best == np.inf:
            return None
        equal = np.flatnonzero(values <= best + abs(best) * SAME)
        return int(equal[np.argmin(self.starts[equal])])

    def best_or_soonest(self, step: Step) -> int | None:
        """Return the best entry, or the best of the earliest ones if that is nearly as good.

        For a saving below what the numbers are later revised by nothing is waited for; whoever
        waits anyway waits for the best. Of what costs the same, the cleanest is the best.
        """
        mask = self.mask(step.rules)
        values = self.values(by_cost=step.by_cost, waiting=step.waiting)
        best = self._best_of(mask, values, step)
        if best is None:
            return None
        soonest = self._best_of(mask & (self.starts == self.starts[mask].min()), values, step)
        assert soonest is not None
        both = (values, self.grams) if step.by_cost else (values,)
        near = all(
            each[soonest] <= each[best] + abs(each[best]) * NOT_WORTH_WAITING for each in both
        )
        return soonest if near else best

    def _best_of(
        self, mask: NDArray[np.bool_], values: NDArray[np.float64], step: Step
    ) -> int | None:
        """Return the best of some entries; of what costs the same, the cleanest."""
        best = self._best(mask, values)
        if best is None or not step.by_cost:
            return best
        alike = values <= values[best] + abs(values[best]) * SAME
        return self._best(mask & alike, self.grams)

    def best_by_chain(self, mask: NDArray[np.bool_], *, by_cost: bool) -> Iterator[tuple[int, int]]:
        """Yield place and best entry of each chain that has any, the best chain first."""
        values = np.where(mask, self.values(by_cost=by_cost), np.inf)
        least = np.minimum.reduceat(values, self.first[:-1])
        edges = self.first.tolist()
        for place in np.argsort(least, kind="stable").tolist():
            if least[place] < np.inf:
                first, end = edges[place], edges[place + 1]
                yield place, first + int(np.argmin(values[first:end]))

    def soonest(self, own: Chain, rules: Iterable[Rule]) -> int | None:
        """Return a chain's entry at the first start of all, if it keeps some limits there."""
        place = next((p for p, chain in enumerate(self.chains) if chain is own), None)
        if place is None:
            return None
        first, end = self.first[place], self.first[place + 1]
        at_once = self.mask(rules)[first:end] & (self.starts[first:end] == self.starts.min())
        return int(first + np.argmax(at_once)) if at_once.any() else None

    def better(self, least: float, *, by_cost: bool) -> int | None:
        """Return the best clearly better entry that is in time, if there is one."""
        values = self.values(by_cost=by_cost)
        better = self.mask((Rule.DEADLINE,)) & (values < least - abs(least) * NOT_WORTH_WAITING)
        return int(np.argmin(np.where(better, values, np.inf))) if better.any() else None

    def binding(self, entry: int) -> Rule | None:
        """Return the limit that keeps an entry from being chosen."""
        limits = (Rule.CAPACITY, Rule.COST, Rule.INTENSITY)
        return next((rule for rule in limits if not self.kept[rule][entry]), None)

    def blackouts(self, entry: int) -> tuple[str, ...]:
        """Name the blackouts that an entry meets."""
        at = float(self.starts[entry])
        return self.chain(entry).blackouts(at, at)

    def in_time(self, place: int) -> bool:
        """Tell whether a set of pools has any start in time."""
        own = slice(self.first[place], self.first[place + 1])
        return bool(self.kept[Rule.DEADLINE][own].any())

    def excluded(self, place: int, limits: Limits) -> tuple[Rule, str]:
        """Say which limit keeps a whole set of pools out, with numbers."""
        own = slice(self.first[place], self.first[place + 1])
        chain, usd, grams = self.chains[place], self.usd[own], self.grams[own]
        left = self.mask((Rule.DEADLINE, Rule.CAPACITY))[own]
        if not left.any():
            until = "now" if len(left) == 1 else "until the latest safe start"
            starts = self.starts[own][self.kept[Rule.DEADLINE][own]]
            names = chain.blackouts(float(starts.min()), float(starts.max()))
            sale = f" (blackout: {', '.join(names)})" if names else ""
            return Rule.CAPACITY, f"no slot is free {until}{sale}"
        cheap = left & self.kept[Rule.COST][own]
        if not cheap.any():
            return (
                Rule.COST,
                f"costs {money(float(usd[left].min()))}, the limit is {money(limits.usd)}",
            )
        if not (cheap & self.kept[Rule.INTENSITY][own]).any():
            at_best = float(grams[cheap].min() - chain.embodied_g) / chain.kwh
            return Rule.INTENSITY, (
                f"at best {at_best:.1f} gCO2e/kWh (whole run), the maximum is {limits.g_per_kwh:g}"
            )
        return Rule.SAVING, "would save too little to be worth the move"


class Placed(NamedTuple):
    """A chain at some starts, the earliest first: its rows of the table."""

    chain: Chain
    starts: NDArray[np.float64]
    grams: NDArray[np.float64]
    usd: NDArray[np.float64]
    in_time: NDArray[np.bool_]
    free: NDArray[np.bool_]

    def is_known(self) -> bool:
        """Tell whether emissions and cost are known at any start that is in time."""
        # Mostly they are at the first: to begin to look at all of them takes longer than that.
        if self.in_time[0] and not math.isnan(self.grams[0] + self.usd[0]):
            return True
        return not bool(np.isnan((self.grams + self.usd)[self.in_time]).all())

    def joined(self, other: Placed) -> Placed:
        """Return the rows of both, which are of one chain."""
        return Placed(
            self.chain, *(np.concatenate(both) for both in zip(self[1:], other[1:], strict=True))
        )


def tabulate(request: Request, placed: Sequence[Placed], limits: Limits) -> Candidates:
    """Put the rows of chains into one table."""
    starts, grams, usd, in_time, free = (
        np.concatenate(column) for column in list(zip(*placed, strict=True))[1:]
    )
    chains, sizes = [one.chain for one in placed], [len(one.starts) for one in placed]
    of_chains = np.array([(chain.embodied_g, chain.kwh, chain.paused) for chain in chains])
    embodied, kwh, paused = np.repeat(of_chains, sizes, axis=0).T
    waited = (starts + paused - request.earliest.timestamp()) / _HOUR
    slack, policy = 1 + SAME, request.policy
    return Candidates(
        chains=chains,
        first=np.concatenate(([0], np.cumsum(sizes))),
        starts=starts,
        grams=grams,
        usd=usd,
        known=~np.isnan(grams + usd),
        kept={
            Rule.DEADLINE: in_time,
            Rule.CAPACITY: free,
            Rule.COST: usd <= limits.usd + abs(limits.usd) * SAME,
            Rule.INTENSITY: (grams - embodied) / kwh <= limits.g_per_kwh * slack,
            Rule.SAVING: grams <= limits.g * slack,
        },
        waiting_g=waited * policy.freshness_g_per_hour,
        waiting_usd=waited * policy.freshness_usd_per_hour,
    )
