"""One run by itself, whole or split into the cleanest segments: exact, with the cost of restarts.

Use :func:`segments`, for back-tests and for finding out what splitting would be worth. A chain of
which a stage is interruptible is planned by :func:`carbon.plan` (:mod:`carbon._pauses`).

Intensity and price are piecewise constant, so for a given number of segments the cost is piecewise
linear in their begins and ends, and its least value lies where each of these is tied down: to an
edge of a series or of the window, to a neighbour by the least length or the restart, or, one chain
of neighbours at most, by the run time that all add up to. Hence every begin and end is a multiple
of the *common step*, the largest time of which all edges and lengths are multiples, and a search of
these multiples is exact in continuous time. The search is a dynamic programme over steps and work
that is left, running or not (:mod:`carbon._split`). Two cases need no grid: a whole run, whose best
begin has an edge at its begin or end, and a run that is split at no cost, which takes the cleanest
intervals in turn.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._errors import BadInput
from carbon._segment import Interruptible, Segment, SegmentRequest, Segments
from carbon._series import IntensitySeries, PriceSeries, require_window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    _Times = NDArray[np.int64]
    _Floats = NDArray[np.float64]
    _Flags = NDArray[np.bool_]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)
_PER_SECOND: Final = 1e6
_PER_MWH: Final = 1000.0
_NO_TIME: Final = timedelta(0)
_SAME: Final = 1e-10
"""Share of the largest cost of a run below which a difference counts as none."""
_MOST_CELLS: Final = 10_000_000
"""Steps x work of one search: about 100 MB and a twentieth of a second."""


def segments(
    request: SegmentRequest,
    intensity: IntensitySeries,
    price: PriceSeries | None = None,
    *,
    by_cost: bool = False,
    busy: Iterable[tuple[datetime, datetime]] = (),
    step: timedelta | None = None,
) -> Segments | None:
    """Find the begin, or the segments, with the least emissions or cost.

    Args:
        request: The run and its window.
        intensity: Carbon intensity of the place that it runs in.
        price: Price of the electricity that it pays.
        by_cost: Whether cost is kept low instead of emissions.
        busy: Periods in which no slot is free, begin and end, aware.
        step: Multiples of what to search on, where the common step is too fine. Then the window is
            cut to whole steps of the clock, and all lengths are rounded up to them.

    Returns:
        The best split: of equals one with few restarts, early. ``None`` where nothing fits between
        what is taken and what is not known; a time without intensity, or without a price where one
        is given, is never run in.

    Raises:
        BadInput: A value makes no sense, or the search would be too large without a ``step``.
    """
    if by_cost and price is None:
        raise BadInput("price", "is missing, and cost is to be kept low", "Give a price series.")
    if step is not None and step <= _NO_TIME:
        raise BadInput("step", f"{step} is no length", "Give a time above zero.")
    search = _Search(request, intensity, price, by_cost, _periods(busy))
    how = request.interruptible
    if how is not None and how.restart_kwh is None:
        how = replace(how, restart_kwh=request.kwh * (how.restart / request.run))
    if how is None or how.min_segment >= request.run:
        return search.whole()
    if how == _FOR_NOTHING and not search.startup_may_be_blocked:
        found = search.cleanest()
        if found is None or _ticks(found.segments[0].begin) <= search.first_by:
            return found
    return search.on_grid(how, step)


class _Search:
    """One run being placed; times are microseconds since the epoch."""

    def __init__(
        self,
        request: SegmentRequest,
        intensity: IntensitySeries,
        price: PriceSeries | None,
        by_cost: bool,
        busy: _Times,
    ) -> None:
        self.request = request
        self.intensity, self.price, self.by_cost = intensity, price, by_cost
        self.busy = busy
        self.run, self.startup = request.run // _TICK, request.startup // _TICK
        self.low = _ticks(request.earliest) + self.startup
        self.high = _ticks(request.end_by)
        within = request.start_within
        self.first_by = self.high if within is None else self.low + within // _TICK

    def whole(self) -> Segments | None:
        """Try each begin that has an edge at its begin or at its end."""
        last = min(self.first_by, self.high - self.run)
        marks = self._marks()
        begins = np.unique(
            np.concatenate((marks, marks + self.startup, marks - self.run, [self.low, last]))
        )
        begins = begins[(begins >= self.low) & (begins <= last)]
        values = self._values(begins, self.run, self.request.kwh)
        values[~self._free(begins - self.startup, begins + self.run)] = np.nan
        if np.isnan(values).all():
            return None
        best = np.nanmin(values)
        begin = int(begins[np.argmax(values <= best + _SAME * abs(best))])
        return Segments((self._segment(begin - self.startup, begin, begin + self.run),))

    def cleanest(self) -> Segments | None:
        """Take the cleanest intervals in turn, which is best where splitting costs nothing."""
        cuts = np.unique(np.concatenate((self._marks(), [self.low, self.high])))
        cuts = cuts[cuts >= self.low]
        begins, ends = cuts[:-1], cuts[1:]
        values = self._constants(cuts)
        values[~self._free(begins, ends)] = np.nan
        left = self.run
        taken: dict[int, int] = {}
        for i in np.argsort(values, kind="stable").tolist():
            if not left or math.isnan(values[i]):
                break
            taken[i] = min(left, int(ends[i] - begins[i]))
            left -= taken[i]
        if left:
            return None
        pieces: list[tuple[int, int]] = []
        for i in sorted(taken):
            # The one that is taken in part adjoins the one before it, else the one after it.
            late = i + 1 in taken and i - 1 not in taken
            begin = int(ends[i]) - taken[i] if late else int(begins[i])
            adjoins = pieces and pieces[-1][1] == begin
            pieces.append((pieces.pop()[0] if adjoins else begin, begin + taken[i]))
        return self._result(pieces, _FOR_NOTHING)

    def on_grid(self, how: Interruptible, step: timedelta | None) -> Segments | None:
        """Search all splits into multiples of a step."""
        lengths = [part // _TICK for part in (how.min_segment, how.restart, self.request.run)]
        marks = (*self._marks().tolist(), self.high, min(self.first_by, self.high))
        common = math.gcd(self.startup, *lengths, *(mark - self.low for mark in marks))
        tick = common if step is None else step // _TICK
        low = self.low if step is None else -(-self.low // tick) * tick
        least, pause, work = (-(-length // tick) for length in lengths)
        least = max(1, least)
        count = (self.high - low) // tick
        if count * (work - least + 1) > _MOST_CELLS:
            raise BadInput(
                "step",
                f"the times have only {tick * _TICK} in common, which is too fine to search",
                "Give a step to search on, e.g. five minutes.",
            )
        if count < work or least > work:
            return None
        edges = low + tick * np.arange(count + 1, dtype=np.int64)
        chosen = self._split(how, edges, least, pause, work)
        turns = np.flatnonzero(np.diff(np.concatenate(([0], chosen, [0]))))
        if not turns.size:
            return None
        return self._result(
            [(int(edges[begin]), int(edges[end])) for begin, end in turns.reshape(-1, 2)],
            how,
            tick * _TICK,
            exact=common % tick == 0 and low == self.low and self._has_a_best(how),
        )

    @property
    def startup_may_be_blocked(self) -> bool:
        """Whether the first segment may be harder to begin than one that restarts."""
        return bool(self.startup and self.busy.size)

    def _has_a_best(self, how: Interruptible) -> bool:
        """Tell whether there is a best split at all.

        Without a least length, where the first segment is harder to begin than the others, a
        shorter one in its place, only to have begun, is always better. On a grid it has one step.
        """
        harder = self.request.start_within is not None or self.startup_may_be_blocked
        return bool(how.min_segment) or not harder

    def _split(
        self, how: Interruptible, edges: _Times, least: int, pause: int, work: int
    ) -> _Flags:
        """Return in which steps the run is up."""
        # Here, for numba takes half a second to load, and who keeps runs whole does without it.
        from carbon._split import Steps, split  # noqa: PLC0415

        begins, tick = edges[:-1], int(edges[1] - edges[0])
        values = self._values(begins, tick, self.request.kwh / work)
        usable = ~np.isnan(values) & self._free(begins, edges[1:])
        restart = how.restart // _TICK
        again = np.full(len(begins), 0.0 if self.by_cost else how.restart_g)
        if how.restart_kwh:
            again += self._values(begins - restart, restart, how.restart_kwh)
        again[np.isnan(again) | ~self._free(begins - restart, begins)] = np.inf
        values = np.where(usable, values, 0.0)
        may_begin = (begins <= self.first_by) & self._free(begins - self.startup, begins)
        return split(
            Steps(
                value=values,
                usable=usable,
                before=np.where(may_begin, 0.0, np.inf),
                after=np.zeros(len(edges)),
                again=again,
                pause=pause,
                work=work,
                least=least,
                tiny=_SAME * work * float(np.abs(values).max()),
            )
        )

    # What both the grid and the intervals are made of

    def _marks(self) -> _Times:
        """Return where intensity, price or what is taken changes."""
        low, high = self.low - self.startup, self.high
        found = [self.busy.ravel()]
        for series in filter(None, (self.intensity, self.price)):
            within = np.searchsorted(series.edges, (low / _PER_SECOND, high / _PER_SECOND + 1))
            found.append(np.rint(series.edges[slice(*within)] * _PER_SECOND).astype(np.int64))
        marks = np.unique(np.concatenate(found))
        return marks[(marks >= low) & (marks <= high)]

    def _free(self, begins: _Times, ends: _Times) -> _Flags:
        """Tell for each period whether a slot is free all along."""
        free = np.ones(len(begins), np.bool_)
        for begin, end in self.busy:
            free &= (ends <= begin) | (begins >= end)
        return free

    def _values(self, begins: _Times, length: int, kwh: float) -> _Floats:
        """Return what so much energy over so long costs by its begin; ``nan`` if not known."""
        starts, seconds = begins / _PER_SECOND, length / _PER_SECOND
        return kwh * self._weighed(lambda series: series.means(starts, seconds))

    def _constants(self, cuts: _Times) -> _Floats:
        """Return what a kWh costs between cuts, none of which spans a mark."""
        return self._weighed(lambda series: _between(series, cuts / _PER_SECOND))

    def _weighed(self, read: Callable[[IntensitySeries | PriceSeries], _Floats]) -> _Floats:
        grams = read(self.intensity)
        if self.price is None:
            return grams
        cost = read(self.price) / _PER_MWH
        chosen, other = (cost, grams) if self.by_cost else (grams, cost)
        return np.where(np.isnan(other), np.nan, chosen)

    # The answer

    def _result(
        self,
        pieces: Sequence[tuple[int, int]],
        how: Interruptible,
        step: timedelta | None = None,
        *,
        exact: bool = True,
    ) -> Segments:
        total = sum(end - begin for begin, end in pieces)
        leads = [self.startup] + [how.restart // _TICK] * (len(pieces) - 1)
        found = [
            self._segment(begin - lead, begin, end, how if place else None, total)
            for place, (lead, (begin, end)) in enumerate(zip(leads, pieces, strict=True))
        ]
        return Segments(tuple(found), step, exact)

    def _segment(
        self,
        start: int,
        begin: int,
        end: int,
        restart: Interruptible | None = None,
        total: int | None = None,
    ) -> Segment:
        """Return a segment with what it emits and costs.

        Args:
            start: When its slot is taken.
            begin: When it goes on.
            end: When it stops.
            restart: How it restarts, if it does.
            total: Run time of all segments, over which the energy is spread.
        """
        kwh = self.request.kwh * (end - begin) / (total or end - begin)
        parts = [(begin, end, kwh)]
        if restart is not None and restart.restart_kwh:
            parts.append((start, begin, restart.restart_kwh))
        used = [(at * _TICK + _EPOCH, to * _TICK + _EPOCH, energy) for at, to, energy in parts]
        grams = sum(energy * self.intensity.mean(at, to) for at, to, energy in used)
        price = self.price
        return Segment(
            start=start * _TICK + _EPOCH,
            begin=begin * _TICK + _EPOCH,
            end=end * _TICK + _EPOCH,
            kwh=sum(energy for _, _, energy in used),
            g=grams + (restart.restart_g if restart else 0.0),
            cost=None
            if price is None
            else sum(energy * price.mean(at, to) / _PER_MWH for at, to, energy in used),
        )


_FOR_NOTHING: Final = Interruptible(restart_kwh=0.0)


def _between(series: IntensitySeries | PriceSeries, cuts: _Floats) -> _Floats:
    """Return the value of a series from each cut on to the next; ``nan`` where it has none."""
    place = np.searchsorted(series.edges, cuts[:-1], side="right") - 1
    inside = (place >= 0) & (place < len(series.values))
    low, high = np.clip((place[0], place[-1] + 1), 0, len(series.values))
    values = np.array([*series.values[low:high], None], dtype=np.float64)
    return values[np.where(inside, place - low, -1)]


def _periods(busy: Iterable[tuple[datetime, datetime]]) -> _Times:
    periods = [require_window(*period) for period in busy]
    return np.array(
        [(_ticks(begin), _ticks(end)) for begin, end in periods], dtype=np.int64
    ).reshape(-1, 2)


def _ticks(moment: datetime) -> int:
    return (moment - _EPOCH) // _TICK
