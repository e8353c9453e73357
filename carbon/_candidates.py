"""All sets of pools at all starts worth looking at, with what each limit says about each."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from carbon._chain import Starts
from carbon._decision import Rule
from carbon._pauses import pauses
from carbon._policy import Strategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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

LIMITS: Final = (Rule.DEADLINE, Rule.CAPACITY, Rule.COST, Rule.INTENSITY, Rule.SAVING)
"""All limits; the last of them only decides whether a move is worth it."""

_HOUR: Final = 3600.0
_INSTANT: Final = 1e-6
"""Seconds: moments are no finer."""
_ROUNDING: Final = timedelta(microseconds=10)


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

    def values(self, *, by_cost: bool) -> NDArray[np.float64]:
        """Return what is to be kept low."""
        return self.usd + self.waiting_usd if by_cost else self.grams + self.waiting_g

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

    def best_or_soonest(self, mask: NDArray[np.bool_], *, by_cost: bool) -> int | None:
        """Return the best entry, or the best of the earliest ones if that is nearly as good.

        For a saving below what the numbers are later revised by nothing is waited for; whoever
        waits anyway waits for the best.
        """
        values = self.values(by_cost=by_cost)
        best = self._best(mask, values)
        if best is None:
            return None
        soonest = self._best(mask & (self.starts == self.starts[mask].min()), values)
        assert soonest is not None
        near = values[best] + abs(values[best]) * NOT_WORTH_WAITING
        return soonest if values[soonest] <= near else best

    def best_by_chain(self, mask: NDArray[np.bool_], *, by_cost: bool) -> Iterator[tuple[int, int]]:
        """Yield place and best entry of each chain that has any, the best chain first."""
        values = np.where(mask, self.values(by_cost=by_cost), np.inf)
        least = np.minimum.reduceat(values, self.first[:-1])
        edges = self.first.tolist()
        for place in np.argsort(least, kind="stable").tolist():
            if least[place] < np.inf:
                first, end = edges[place], edges[place + 1]
                yield place, first + int(np.argmin(values[first:end]))

    def binding(self, least: float, *, by_cost: bool) -> Rule | None:
        """Return the limit that stands before the best clearly better entry, if there is one."""
        values = self.values(by_cost=by_cost)
        better = self.mask((Rule.DEADLINE,)) & (values < least - abs(least) * NOT_WORTH_WAITING)
        if not better.any():
            return None
        best = int(np.argmin(np.where(better, values, np.inf)))
        limits = (Rule.CAPACITY, Rule.COST, Rule.INTENSITY)
        return next((rule for rule in limits if not self.kept[rule][best]), None)

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
            return Rule.CAPACITY, f"every slot is taken {until}{sale}"
        cheap = left & self.kept[Rule.COST][own]
        if not cheap.any():
            return (
                Rule.COST,
                f"costs {float(usd[left].min()):.2f} USD, the limit is {limits.usd:.2f} USD",
            )
        if not (cheap & self.kept[Rule.INTENSITY][own]).any():
            at_best = float(grams[cheap].min() - chain.embodied_g) / chain.kwh
            return Rule.INTENSITY, (
                f"at best {at_best:.0f} gCO2e/kWh, the maximum is {limits.g_per_kwh:g}"
            )
        return Rule.SAVING, "would save too little to be worth the move"


def evaluate(
    request: Request, chains: Sequence[Chain], limits: Limits, refusals: Refusals
) -> Candidates | None:
    """Evaluate sets of pools; ``None`` when deadline or signal rule all of them out."""
    alike: defaultdict[tuple[float, ...], list[Chain]] = defaultdict(list)
    for chain in chains:
        alike[chain.layout].append(chain)
    placed: list[_Placed] = []
    unknown: list[Chain] = []
    for group in alike.values():
        latest = request.deadline - group[0].needed
        if latest < request.earliest:
            hours = f"{group[0].needed.total_seconds() / _HOUR:.1f} h"
            _refuse(
                refusals, group, Rule.DEADLINE, f"needs {hours} with one retry, more than is left"
            )
            continue
        for one in _lay_out(request, group, _last(request, latest), limits):
            if np.isnan((one.grams + one.usd)[one.in_time]).all():
                unknown.append(one.chain)
            else:
                placed.append(one)
    if any(stage.interruptible for stage in request.workload.stages):
        placed += _split(request, placed, unknown, limits)
    used = {pool.name for one in placed for pool in one.chain.heavy_pools}
    for chain in unknown:
        for pool in chain.heavy_pools:
            if pool.name not in used:
                refusals.add(pool, Rule.SIGNAL, _unknown(request, pool))
    return _table(request, placed, limits) if placed else None


def _lay_out(
    request: Request, group: Sequence[Chain], last: datetime, limits: Limits
) -> Iterator[_Placed]:
    """Yield chains that are alike at all starts worth looking at."""
    at = _starts(request, group, last)
    for chain in group:
        placed = _place(at, chain, last)
        if len(where := _at_limits(placed, limits)):
            placed = placed.joined(_place(Starts(request, where), chain, last))
        yield placed


class _Placed(NamedTuple):
    """A chain at some starts: its rows of the table."""

    chain: Chain
    starts: NDArray[np.float64]
    grams: NDArray[np.float64]
    usd: NDArray[np.float64]
    in_time: NDArray[np.bool_]
    free: NDArray[np.bool_]

    def joined(self, other: _Placed) -> _Placed:
        """Return the rows of both, which are of one chain."""
        return _Placed(
            self.chain, *(np.concatenate(both) for both in zip(self[1:], other[1:], strict=True))
        )


def _place(at: Starts, chain: Chain, last: datetime) -> _Placed:
    starts = at.seconds
    in_time = starts <= last.timestamp()
    return _Placed(chain, starts, chain.grams(at), chain.cost(at), in_time, chain.free(starts))


def _at_limits(placed: _Placed, limits: Limits) -> NDArray[np.float64]:
    """Return the starts, between those that were looked at, at which a limit is just kept."""
    chain, found = placed.chain, []
    ceiling = chain.embodied_g + limits.g_per_kwh * chain.kwh
    levels = ((placed.usd, limits.usd), (placed.grams, limits.g), (placed.grams, ceiling))
    for values, level in levels:
        if level == np.inf:
            continue
        kept = values <= level
        if np.count_nonzero(kept) in {0, len(kept)}:
            continue
        # Between two of them values are linear; where one is not known, so is what is between.
        turns = np.flatnonzero((kept[:-1] != kept[1:]) & ~np.isnan(values[:-1] + values[1:]))
        low, length = values[turns], np.diff(placed.starts)[turns]
        share = (level - low) / (values[turns + 1] - low)
        # To the side of those that keep it: a moment has whole microseconds.
        aside = np.where(kept[turns], -_INSTANT, _INSTANT)
        found.append(placed.starts[turns] + np.clip(share * length + aside, 0.0, length))
    return np.concatenate(found) if found else np.empty(0)


def _table(request: Request, placed: Sequence[_Placed], limits: Limits) -> Candidates:
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


def _split(
    request: Request, placed: Sequence[_Placed], unknown: Sequence[Chain], limits: Limits
) -> Sequence[_Placed]:
    """Return chains in segments that clearly beat each whole run which keeps the limits."""
    by_cost = request.policy.strategy is Strategy.CHEAPEST
    worth = np.inf
    if placed:
        table = _table(request, placed, limits)
        if (best := table.best(table.mask(LIMITS), by_cost=by_cost)) is not None:
            worth = float(table.values(by_cost=by_cost)[best])
            worth -= abs(worth) * NOT_WORTH_WAITING

    def row(chain: Chain, start: float) -> _Placed:
        at = Starts(request, np.array([start]))
        return _place(at, chain, request.deadline - chain.needed + _ROUNDING)

    def keeps(chain: Chain, start: float) -> bool:
        one = _table(request, [row(chain, start)], limits)
        return bool(one.mask((Rule.COST, Rule.INTENSITY, Rule.SAVING))[0])

    chains = [*(one.chain for one in placed), *unknown]
    found = [row(*one) for one in pauses(request, chains, keeps, worth, by_cost=by_cost)]
    values = [_table(request, [one], limits).values(by_cost=by_cost)[0] for one in found]
    return [one for one, value in zip(found, values, strict=True) if value < worth]


def _refuse(refusals: Refusals, chains: Iterable[Chain], rule: Rule, why: str) -> None:
    for chain in chains:
        for pool in chain.heavy_pools:
            refusals.add(pool, rule, why)


def _starts(request: Request, chains: Sequence[Chain], last: datetime) -> Starts:
    """Return the starts worth looking at for chains that are alike, ascending."""
    more = last + MORE_SLACK * request.may_wait
    moments = [moment.timestamp() for moment in (request.earliest, last, more)]
    # Many grids have the same edges: each of them is looked at once.
    grids = {series.grid: series.edges for chain in chains for series in chain.drawn()}
    found = [np.array(moments)]
    found += [edges - shift for shift in set(chains[0].shifts) for edges in grids.values()]
    found += [edges - shift for chain in chains for edges, shift in chain.releases()]
    every = np.unique(np.concatenate(found))
    return Starts(request, every[(every >= moments[0]) & (every <= moments[-1])])


def _last(request: Request, latest: datetime) -> datetime:
    """Return the last start to look at; a run that is up and lets go has to start up again."""
    if not request.may_wait:
        return request.earliest
    again = request.home.startup if request.running else timedelta(0)
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
