"""A workload on sets of pools, at all starts worth looking at, whole and in segments."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._candidates import (
    MORE_SLACK,
    NOT_WORTH_WAITING,
    Candidates,
    Limits,
    Placed,
    Step,
    giving_way,
    tabulate,
)
from carbon._chain import Starts
from carbon._decision import Rule
from carbon._pauses import pauses
from carbon._workload import Urgency

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from carbon._chain import Chain
    from carbon._fleet import Pool
    from carbon._permitted import Refusals
    from carbon._request import Request

_HOUR: Final = 3600.0
_INSTANT: Final = 1e-6
"""Seconds: moments are no finer."""
_ROUNDING: Final = timedelta(microseconds=10)
_MOST_SPLIT: Final = 64
"""Sets of pools that are tried in segments: those that are best when they run whole."""


def evaluate(
    request: Request, chains: Sequence[Chain], limits: Limits, refusals: Refusals
) -> Candidates | None:
    """Evaluate sets of pools; ``None`` when deadline or signal rule all of them out."""
    alike: defaultdict[tuple[float, ...], list[Chain]] = defaultdict(list)
    for chain in chains:
        alike[chain.layout].append(chain)
    placed: list[Placed] = []
    late: list[Chain] = []
    unknown: list[Chain] = []
    for group in alike.values():
        latest = request.deadline - group[0].needed
        if latest < request.earliest:
            late += group
            if request.may_wait and latest + MORE_SLACK >= request.earliest:
                # They tell what more slack would be worth.
                placed += _known(_lay_out(request, group, latest, limits))
            continue
        for one in _lay_out(request, group, _last(request, latest), limits):
            if one.is_known():
                placed.append(one)
            else:
                unknown.append(one.chain)
    if pausing(request):
        placed += _split(request, placed, unknown, limits)
    in_time = [one.chain for one in placed if one.in_time[0]]
    _refuse(request, refusals, in_time, late, unknown)
    return tabulate(request, placed, limits) if in_time else None


def _refuse(
    request: Request,
    refusals: Refusals,
    in_time: Sequence[Chain],
    late: Sequence[Chain],
    unknown: Sequence[Chain],
) -> None:
    """Say why pools are in no chain that is known and in time."""
    used = {pool.name for chain in in_time for pool in chain.heavy_pools}
    for pool, needed in _least_needed(late):
        if pool.name not in used:
            hours = f"{needed.total_seconds() / _HOUR:.1f} h"
            refusals.add(pool, Rule.DEADLINE, f"needs {hours} with one retry, more than is left")
    for chain in unknown:
        for pool in chain.heavy_pools:
            if pool.name not in used:
                refusals.add(pool, Rule.SIGNAL, _unknown(request, pool))


def pausing(request: Request) -> bool:
    """Tell whether a stage of the workload may be split."""
    deferrable = request.workload.urgency is Urgency.DEFERRABLE
    return deferrable and any(stage.interruptible for stage in request.workload.stages)


def wider(
    request: Request, table: Candidates, limits: Limits, step: Step, worth: float
) -> Mapping[Rule, Candidates]:
    """Return what could be had in segments with an hour more, and with every slot free.

    Args:
        request: What was planned.
        table: All placements.
        limits: The limits.
        step: What the choice keeps low.
        worth: Emissions or cost of the choice; only what is clearly better is of interest.
    """
    more = {Rule.DEADLINE: replace(request, deadline=request.deadline + MORE_SLACK)}
    if request.busy:
        more[Rule.CAPACITY] = replace(request, busy=())
    whole = [chain for chain in _ranked(table, step) if not chain.paused]
    worthwhile = worth - abs(worth) * NOT_WORTH_WAITING
    found = {}
    for rule, other in more.items():
        chains = [replace(chain, request=other) for chain in whole]
        if rows := _splits(other, chains, limits, step, worthwhile):
            found[rule] = tabulate(other, rows, limits)
    return found


def _known(rows: Iterator[Placed]) -> Iterator[Placed]:
    return (one for one in rows if not np.isnan(one.grams + one.usd).all())


def _least_needed(chains: Sequence[Chain]) -> Iterator[tuple[Pool, timedelta]]:
    """Yield each heavy pool with the least time that a chain with it needs."""
    found: dict[str, tuple[Pool, timedelta]] = {}
    for chain in chains:
        for pool in chain.heavy_pools:
            before = found.get(pool.name)
            if before is None or chain.needed < before[1]:
                found[pool.name] = (pool, chain.needed)
    yield from found.values()


def _lay_out(
    request: Request, group: Sequence[Chain], last: datetime, limits: Limits
) -> Iterator[Placed]:
    """Yield chains that are alike at all starts worth looking at."""
    at, end = _starts(request, group, last), last.timestamp()
    in_time = at.seconds <= end
    for chain in group:
        placed = placed_at(at, chain, in_time)
        if len(where := _at_limits(placed, limits)):
            placed = placed.joined(placed_at(Starts(request, where), chain, where <= end))
        yield placed


def placed_at(at: Starts, chain: Chain, in_time: NDArray[np.bool_]) -> Placed:
    """Return a chain at some starts."""
    starts = at.seconds
    return Placed(chain, starts, chain.grams(at), chain.cost(at), in_time, chain.free(starts))


def _at_limits(placed: Placed, limits: Limits) -> NDArray[np.float64]:
    """Return the starts, between those that were looked at, at which a limit is just kept."""
    chain, found = placed.chain, []
    ceiling = chain.embodied_g + limits.g_per_kwh * chain.kwh
    levels = ((placed.usd, limits.usd), (placed.grams, limits.g), (placed.grams, ceiling))
    for values, level in levels:
        if level == np.inf or (values is placed.usd and chain.flat):
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


def _split(
    request: Request, placed: Sequence[Placed], unknown: Sequence[Chain], limits: Limits
) -> Sequence[Placed]:
    """Return chains in segments that clearly beat the best whole run."""
    steps = giving_way(request.policy)
    step, worth, ranked = steps[0], np.inf, []
    if placed:
        table = tabulate(request, placed, limits)
        # Without a whole run that has a slot in time, nothing gives way yet.
        step = next((one for one in steps if table.mask(one.rules).any()), step)
        values = table.values(by_cost=step.by_cost, waiting=step.waiting)
        worth = float(values[table.mask(step.rules)].min(initial=np.inf))
        worth -= abs(worth) * NOT_WORTH_WAITING if worth < np.inf else 0.0
        ranked = _ranked(table, step)
    return _splits(request, [*ranked, *unknown], limits, step, worth)


def _ranked(table: Candidates, step: Step) -> list[Chain]:
    """Return the chains that are known and in time, the best first."""
    mask = table.mask((Rule.DEADLINE,))
    return [table.chains[place] for place, _ in table.best_by_chain(mask, by_cost=step.by_cost)]


def _splits(
    request: Request, chains: Sequence[Chain], limits: Limits, step: Step, worth: float
) -> Sequence[Placed]:
    """Return chains in segments that stay below a worth, of the first of those that are given."""
    others = [rule for rule in step.rules if rule not in {Rule.DEADLINE, Rule.CAPACITY}]
    found: list[Placed] = []
    least = [worth]

    def row(chain: Chain, start: float) -> tuple[Placed, Candidates]:
        at = Starts(request, np.array([start]))
        last = request.deadline - chain.needed + _ROUNDING
        one = placed_at(at, chain, at.seconds <= last.timestamp())
        return one, tabulate(request, [one], limits)

    def keeps(chain: Chain, start: float) -> bool:
        return bool(row(chain, start)[1].mask(others)[0])

    first = chains[:_MOST_SPLIT]
    for chain, start in pauses(request, first, keeps, lambda: min(least), by_cost=step.by_cost):
        one, table = row(chain, start)
        value = float(table.values(by_cost=step.by_cost, waiting=step.waiting)[0])
        if value < worth:
            found.append(one)
            if table.mask(step.rules)[0]:
                least.append(value)
    return found


def _starts(request: Request, chains: Sequence[Chain], last: datetime) -> Starts:
    """Return the starts worth looking at for chains that are alike, ascending."""
    more = last + MORE_SLACK * request.may_wait
    moments = [moment.timestamp() for moment in (request.earliest, last, more)]
    # Many grids have the same edges: each of them is looked at once.
    drawn = {id(series): series for chain in chains for series in chain.drawn()}
    grids = {series.grid: series.edges for series in drawn.values()}
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
    zone, price = pool.place.zone, request.energy_price(pool)
    if zone in request.outlook.missing:
        return request.outlook.missing[zone]
    if price is not None and price.missing:
        return price.missing
    return f"no intensity for zone {zone} over the run's window"
