"""Where a run pauses: a chain whose interruptible stage is split into the cleanest segments.

Of a chain's interruptible stages the one that uses most energy is split, by the dynamic programme
of :mod:`carbon._split`: the stages before it weigh in where its first segment begins, those after
it where its last one ends, so that the chain is planned as a whole. Begins and ends are multiples
of a step of the clock, five minutes where that is not too fine; times are rounded up to it. A split
has to beat the best whole run clearly: published numbers are revised by some per cent, and each
pause is one more thing that can go wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from carbon._chain import Chain, Starts
from carbon._window import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from carbon._request import Request
    from carbon._segment import Interruptible
    from carbon._window import Window

    _Flags = NDArray[np.bool_]
    _Floats = NDArray[np.float64]

_STEPS: Final = (300.0, 600.0, 900.0, 1800.0, 3600.0)
_MOST_CELLS: Final = 200_000
"""Steps x work of one search on the finest step that is tried: some milliseconds."""
_SAME: Final = 1e-10
"""Share of the largest cost of a run below which a difference counts as none."""
_HOUR: Final = 3600.0
_PER_MWH: Final = 1000.0
_ROUNDING: Final = 1e-6
_MIXES: Final = 6
"""Halvings in search of the mix of emissions and cost that just keeps a limit on the other one."""


def pauses(
    request: Request,
    chains: Sequence[Chain],
    keeps: Callable[[Chain, float], bool],
    worth: Callable[[], float],
    *,
    by_cost: bool,
) -> Iterator[tuple[Chain, float]]:
    """Yield chains in segments, with their start in POSIX seconds.

    Args:
        request: What is planned.
        chains: The workload on sets of pools, each running whole.
        keeps: Tells whether a chain with this start keeps the limits on emissions and cost.
        worth: Tells what a split has to stay below, in emissions or cost; it may sink meanwhile.
        by_cost: Whether cost is kept low instead of emissions.
    """
    searches = [search for chain in chains for search in _searches(request, chain)]
    ranked = [(search.least(by_cost=by_cost), place) for place, search in enumerate(searches)]
    for least, place in sorted(ranked):
        if least >= worth():
            return
        yield from searches[place].splits(keeps, by_cost=by_cost)


def _searches(request: Request, chain: Chain) -> Iterator[_Search]:
    """Yield a search for each time in which the entry run has a slot; none for a run kept whole."""
    places = [p for p, one in enumerate(chain.windows) if one.stage.interruptible]
    if not places:
        return
    place = max(places, key=lambda place: chain.windows[place].kwh)
    how = chain.windows[place].stage.interruptible
    assert how is not None
    if grid := _Grid.of(request, chain, chain.windows[place], how):
        # The entry run keeps its own slot in the pauses too.
        full = request.full(request.home)
        begins = [-math.inf, *(one.end for one in full)]
        ends = [*(one.begin for one in full), math.inf]
        for home in zip(begins, ends, strict=True):
            yield _Search(request, chain, place, how, grid, home)


@dataclass(frozen=True)
class _Grid:
    """Steps of the clock, and a run in whole ones.

    Attributes:
        edges: POSIX seconds, shape ``(steps + 1,)``.
        step: Seconds.
        work: Steps that the run takes.
        least: Steps that a segment takes at least.
        pause: Steps that a restart takes.
    """

    edges: _Floats
    step: float
    work: int
    least: int
    pause: int

    @classmethod
    def of(cls, request: Request, chain: Chain, window: Window, how: Interruptible) -> _Grid | None:
        """Return the finest steps that can be searched; ``None`` where no split fits."""
        low = request.earliest.timestamp() + window.begin
        high = request.deadline.timestamp() - chain.needed.total_seconds() + window.end
        if request.running and request.may_wait:
            high -= request.home.startup.total_seconds()  # it lets go, and starts up again
        lengths = (window.seconds, how.min_segment.total_seconds(), how.restart.total_seconds())
        for step in _STEPS:
            work, least, pause = (math.ceil(length / step - _ROUNDING) for length in lengths)
            least = max(1, least)
            begin = math.ceil(low / step - _ROUNDING) * step if request.may_wait else low
            count = math.floor((high - begin) / step + _ROUNDING)
            if count * work <= _MOST_CELLS or step == _STEPS[-1]:
                break
        if work < 2 * least or count <= work + pause:
            return None
        return cls(begin + step * np.arange(count + 1, dtype=np.float64), step, work, least, pause)


class _Costs(NamedTuple):
    """What emissions or cost hang on, by step: see :class:`carbon._split.Steps`."""

    value: _Floats
    again: _Floats
    before: _Floats
    after: _Floats


@dataclass(frozen=True)
class _Search:
    """A chain of which one stage is being split, while home has a slot for the entry run."""

    request: Request
    chain: Chain
    place: int
    how: Interruptible
    grid: _Grid
    home: tuple[float, float]

    @property
    def window(self) -> Window:
        return self.chain.windows[self.place]

    def least(self, *, by_cost: bool) -> float:
        """Return what no split is better than: the best steps, wherever they are."""
        costs = self._usd if by_cost else self._grams
        steps = costs.value[self._usable]
        if len(steps) < self.grid.work:
            return math.inf
        run = float(np.partition(steps, self.grid.work - 1)[: self.grid.work].sum())
        flat = self.window.flat_usd if by_cost else self.window.embodied_g
        return run + flat + _least(costs.before) + _least(costs.after)

    def splits(
        self, keeps: Callable[[Chain, float], bool], *, by_cost: bool
    ) -> Iterator[tuple[Chain, float]]:
        """Yield the best split and, where it breaks a limit, others that keep it.

        A limit on the other one of emissions and cost is kept by weighing both, with the least
        weight of the other one that will do.
        """
        best = self._split(float(by_cost))
        if best is None:
            return
        yield best
        if keeps(*best):
            return
        low, high = float(by_cost), 1.0 - by_cost
        if (other := self._split(high)) is not None:
            yield other
            if not keeps(*other):
                return
        for _ in range(_MIXES):
            middle = (low + high) / 2
            found = self._split(middle)
            if found is None or keeps(*found):
                high = middle  # a run that stays whole costs no restart
            else:
                low = middle
            if found is not None:
                yield found

    def _split(self, usd: float) -> tuple[Chain, float] | None:
        """Return the best split by a mix of emissions and cost, from none of cost to cost alone."""
        # Here, for numba takes half a second to load, and who keeps runs whole does without it.
        from carbon._split import Steps, split  # noqa: PLC0415

        grid = self.grid
        scale = [self._scale(costs) for costs in (self._grams, self._usd)]
        mixed = _Costs(
            *(
                grams * (1 - usd) / scale[0] + cost * usd / scale[1]
                for grams, cost in zip(self._grams, self._usd, strict=True)
            )
        )
        value = np.where(self._usable, mixed.value, 0.0)
        chosen = split(
            Steps(
                value=value,
                usable=self._usable,
                before=_or_never(mixed.before, self._may_begin),
                again=_or_never(mixed.again, self._may_restart),
                after=_or_never(mixed.after, self._may_end),
                pause=grid.pause,
                work=grid.work,
                least=grid.least,
                tiny=_SAME * grid.work * float(np.abs(value).max()),
            )
        )
        turns = np.flatnonzero(np.diff(np.concatenate(([0], chosen, [0])))).reshape(-1, 2)
        runs = self._trimmed([(float(grid.edges[a]), float(grid.edges[b])) for a, b in turns])
        if len(runs) < 2:  # noqa: PLR2004  # whole runs are looked at by others, and exactly
            return None
        start = runs[0][0] - self.window.begin
        relative = [(begin - start, end - start) for begin, end in runs]
        return self.chain.split(self.place, self.how, relative), start

    def _trimmed(self, runs: list[tuple[float, float]]) -> list[tuple[float, float]]:
        """Take off the last run that is long enough what whole steps have too much."""
        spare = self.grid.work * self.grid.step - self.window.seconds
        least = self.how.min_segment.total_seconds()
        for place in reversed(range(len(runs))):
            begin, end = runs[place]
            if end - begin - spare >= least - _ROUNDING and end - begin > spare:
                return [*runs[:place], (begin, end - spare), *runs[place + 1 :]]
        return []

    def _scale(self, costs: _Costs) -> float:
        """Return what a run costs about, to weigh unlike numbers."""
        mean = float(np.mean(np.abs(costs.value[self._usable]))) * self.grid.work
        return mean + self.window.flat_usd * (costs is self._usd) or 1.0

    # Emissions and cost by step

    @cached_property
    def _grams(self) -> _Costs:
        request, window, at = self.request, self.window, self._at
        run, restart = self._step, self._restart
        before, after = self._others
        value = np.zeros(len(at.seconds))
        for zone, kwh in window.weights(run, request.home_zone):
            value += kwh * at.intensity(zone, 0.0, run.seconds)
        hours = restart.seconds / _HOUR
        again = np.full_like(value, self.how.restart_g + window.pool.embodied_g_per_hour * hours)
        if restart.kwh:
            again += restart.kwh * at.intensity(window.zone, restart.begin, restart.seconds)
        delay = self.grid.edges - request.earliest.timestamp() - window.end
        return _Costs(
            value,
            again,
            before.grams(self._starts),
            after.grams(self._ends) + delay / _HOUR * request.policy.freshness_g_per_hour,
        )

    @cached_property
    def _usd(self) -> _Costs:
        request, pool, at = self.request, self.window.pool, self._at
        run, restart = self._step, self._restart
        before, after = self._others
        value = np.zeros(len(at.seconds))
        again = np.full_like(value, pool.usd_per_hour * restart.seconds / _HOUR)
        if request.energy_price(pool) is not None:
            value += run.kwh / _PER_MWH * at.usd(pool, 0.0, run.seconds)
            if restart.kwh:
                again += restart.kwh / _PER_MWH * at.usd(pool, restart.begin, restart.seconds)
        delay = self.grid.edges - request.earliest.timestamp() - self.window.end
        return _Costs(
            value,
            again,
            before.cost(self._starts),
            after.cost(self._ends) + delay / _HOUR * request.policy.freshness_usd_per_hour,
        )

    @property
    def _step(self) -> Part:
        """What the run draws in one step."""
        window, share = self.window, 1 / self.grid.work
        return Part(0.0, self.grid.step, window.kwh * share, window.network_kwh * share)

    @property
    def _restart(self) -> Part:
        seconds = self.how.restart.total_seconds()
        return Part(-seconds, seconds, self.window.restart_kwh, 0.0)

    @cached_property
    def _at(self) -> Starts:
        return Starts(self.request, self.grid.edges[:-1])

    @cached_property
    def _starts(self) -> Starts:
        """When the chain starts if the stage begins with a step."""
        return Starts(self.request, self.grid.edges[:-1] - self.window.begin)

    @cached_property
    def _ends(self) -> Starts:
        """When the chain would have started if the stage, run whole, ends with a step."""
        return Starts(self.request, self.grid.edges - self.window.end)

    @cached_property
    def _others(self) -> tuple[Chain, Chain]:
        """The stages before and after."""
        windows = self.chain.windows
        return (
            Chain(self.request, windows[: self.place]),
            Chain(self.request, windows[self.place + 1 :]),
        )

    # Where a slot is free

    @cached_property
    def _usable(self) -> _Flags:
        edges = self.grid.edges
        known = ~np.isnan(self._grams.value + self._usd.value)
        return known & self.request.room(self.window.pool, edges[:-1], edges[1:])

    @cached_property
    def _may_begin(self) -> _Flags:
        window, starts = self.window, self._starts.seconds
        free = self.request.room(window.pool, starts + window.due, starts + window.begin)
        free &= self._rooms(self._others[0], starts) & (starts >= self.home[0] - _ROUNDING)
        if not self.request.may_wait:
            free[1:] = False
        return free

    @cached_property
    def _may_restart(self) -> _Flags:
        begins = self.grid.edges[:-1]
        return self.request.room(
            self.window.pool, begins - self.how.restart.total_seconds(), begins
        )

    @cached_property
    def _may_end(self) -> _Flags:
        window, edges = self.window, self.grid.edges
        free = self.request.room(window.pool, edges, edges + window.end_p95 - window.end)
        over = self._ends.seconds + self.chain.windows[-1].end_p95
        free &= self._rooms(self._others[1], self._ends.seconds)
        return free & (over <= self.home[1] + _ROUNDING)

    def _rooms(self, chain: Chain, starts: _Floats) -> _Flags:
        """Tell for each start whether the heavy stages of a part of the chain have slots."""
        free = np.ones(len(starts), dtype=np.bool_)
        for window in chain.windows:
            for slot in window.slots() if window.stage.heavy else ():
                free &= self.request.room(slot.pool, starts + slot.begin, starts + slot.end)
        return free


def _least(costs: _Floats) -> float:
    return float(np.min(costs[~np.isnan(costs)], initial=math.inf))


def _or_never(costs: _Floats, may: _Flags) -> _Floats:
    return np.where(may & ~np.isnan(costs), costs, np.inf)
