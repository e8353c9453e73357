"""A chain on a fixed set of pools, evaluated for many starts at once.

For one set of pools the emissions of a chain are a sum of means of piecewise-constant series, so
they are piecewise linear in the start. Their least value lies where an edge of a series meets the
begin or the end of a stage's window, where a slot becomes free, or where a limit is just kept:
looking at those starts alone is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from carbon._decision import Option, Placement
from carbon._segment import Segment
from carbon._window import Slot, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from carbon._fleet import Pool
    from carbon._request import Request
    from carbon._segment import Interruptible
    from carbon._series import IntensitySeries, Places, PriceSeries

_PER_MWH = 1000.0
"""kWh in a MWh."""


class Starts:
    """Starts that chains are evaluated for, and the means that they have in common.

    Args:
        request: What is laid out.
        seconds: The starts, POSIX seconds, shape ``(n,)``.
    """

    def __init__(self, request: Request, seconds: NDArray[np.float64]) -> None:
        self.seconds = seconds
        self._request = request
        self._unknown = np.full(seconds.shape, np.nan)
        self._means: dict[tuple[str, float, float], NDArray[np.float64]] = {}
        self._places: dict[tuple[bytes, float, float], Places] = {}

    def intensity(self, zone: str, begin: float, seconds: float) -> NDArray[np.float64]:
        """Return a zone's mean over a window that begins so long after each start."""
        key = (zone, begin, seconds)
        if key not in self._means:
            self._means[key] = self._of(self._request.outlook.intensity.get(zone), begin, seconds)
        return self._means[key]

    def usd(self, pool: Pool, begin: float, seconds: float) -> NDArray[np.float64]:
        """Return what electricity costs on top in a pool, in USD per MWh."""
        price = self._request.energy_price(pool)
        return (
            self._unknown if price is None else self._of(price.series, begin, seconds) * price.rate
        )

    def _of(
        self, series: IntensitySeries | PriceSeries | None, begin: float, seconds: float
    ) -> NDArray[np.float64]:
        if series is None:
            return self._unknown
        key = (series.grid, begin, seconds)
        if key not in self._places:
            self._places[key] = series.locate(self.seconds + begin, seconds)
        return series.means_at(self._places[key])


@dataclass(frozen=True)
class Chain:
    """Stages on pools, back to back.

    Attributes:
        request: What it is laid out for.
        windows: Stages in their pools, in order.
        kwh: The energy of one run, PUE and network included.
        embodied_g: The emissions that do not hang on the time, in gCO2e.
        flat_usd: The cost that does not hang on the time.
        paused: By how many seconds pauses and restarts put its end off.
        heavy_pools: The pools of the heavy stages.
    """

    request: Request
    windows: tuple[Window, ...]
    kwh: float = field(init=False, repr=False)
    embodied_g: float = field(init=False, repr=False)
    flat_usd: float = field(init=False, repr=False)
    paused: float = field(init=False, repr=False)
    heavy_pools: tuple[Pool, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # At once, not when they are asked for: each of many chains is asked for all of them.
        kwh = embodied_g = flat_usd = paused = 0.0
        for window in self.windows:
            kwh += window.kwh + window.network_kwh
            embodied_g += window.embodied_g
            flat_usd += window.flat_usd
            paused += window.paused
        vars(self).update(
            kwh=kwh,
            embodied_g=embodied_g,
            flat_usd=flat_usd,
            paused=paused,
            heavy_pools=tuple([one.pool for one in self.windows if one.stage.heavy]),
        )

    @classmethod
    def on(cls, request: Request, pools: Sequence[Pool], *, lead: timedelta) -> Chain:
        """Lay a request's stages out on pools, one after the other.

        Args:
            request: What to lay out.
            pools: One for each stage.
            lead: Start-up of the entry run; light stages run inside it and have none of their own.
        """
        windows: list[Window] = []
        seconds = lead.total_seconds()
        for stage, pool in zip(request.workload.stages, pools, strict=True):
            before = windows[-1] if windows else None
            windows.append(Window.after(before, request.home, stage, pool, seconds))
        return cls(request, tuple(windows))

    def split(self, place: int, how: Interruptible, runs: Sequence[tuple[float, float]]) -> Chain:
        """Return this chain, which is whole, with one stage in segments.

        Args:
            place: Which stage.
            how: What a restart takes.
            runs: Begin and end of each segment's run in seconds from the chain's start; the first
                begins no sooner than the stages before it let it.
        """
        windows = [*self.windows[:place], self.windows[place].split(how, runs)]
        for after in self.windows[place + 1 :]:
            home, lead = self.request.home, 0.0
            windows.append(Window.after(windows[-1], home, after.stage, after.pool, lead))
        return replace(self, windows=tuple(windows))

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pool of each stage."""
        return tuple(window.pool for window in self.windows)

    @property
    def flat(self) -> bool:
        """Whether the cost does not hang on the time."""
        return all(self.request.energy_price(window.pool) is None for window in self.windows)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the pool of each stage."""
        return tuple(window.pool.name for window in self.windows)

    def blackouts(self, first: float, last: float) -> tuple[str, ...]:
        """Name the blackouts that its slots meet for starts in between, in POSIX seconds."""
        reasons = (
            full.reason
            for own in self._slots
            for full in self.request.full(own.pool)
            if full.begin < last + own.end and full.end > first + own.begin
        )
        return tuple(dict.fromkeys(filter(None, reasons)))

    @cached_property
    def needed(self) -> timedelta:
        """Time that the deadline must leave: p95 run times, pauses, start-ups and one retry."""
        retry = max(window.needed for window in self.windows)
        return timedelta(seconds=self.windows[-1].end_p95 + retry)

    @property
    def layout(self) -> tuple[float, ...]:
        """When its stages run, in seconds from its start: chains that are alike share much work."""
        edges = [self.needed.total_seconds()]
        for window in self.windows:
            for piece in window.pieces:
                edges += (piece.begin, piece.end)
        return tuple(edges)

    @property
    def shifts(self) -> tuple[float, ...]:
        """When its stages begin and end to draw power, in seconds from its start."""
        parts = [part for window in self.windows for part in window.parts]
        return tuple(edge for part in parts for edge in (part.begin, part.begin + part.seconds))

    def drawn(self) -> Iterator[IntensitySeries | PriceSeries]:
        """Yield the series that emissions or cost are weighed with."""
        known = self.request.outlook.intensity
        for window in self.windows:
            for zone in (window.zone, self.request.home_zone)[: 1 + bool(window.network_kwh)]:
                if (series := known.get(zone)) is not None:
                    yield series
            price = self.request.energy_price(window.pool)
            if price is not None and price.series is not None:
                yield price.series

    @property
    def _contended(self) -> tuple[Slot, ...]:
        """The slots in pools that are full at some time."""
        if self.request.contended:
            return tuple(own for own in self._slots if self.request.full(own.pool))
        return ()

    def releases(self) -> Iterator[tuple[NDArray[np.float64], float]]:
        """Yield when slots become free or are taken, and how long before that the start is."""
        for own in self._contended:
            full = self.request.full(own.pool)
            yield np.array([one.end for one in full]), own.begin
            yield np.array([one.begin for one in full]), own.end

    def grams(self, at: Starts) -> NDArray[np.float64]:
        """Return the emissions for each start in gCO2e; ``nan`` where the outlook has none."""
        home = self.request.home_zone
        drawn = (
            kwh * at.intensity(zone, part.begin, part.seconds)
            for window in self.windows
            for part in window.parts
            for zone, kwh in window.weights(part, home)
        )
        return np.asarray(sum(drawn, start=self.embodied_g))

    def cost(self, at: Starts) -> NDArray[np.float64]:
        """Return the cost for each start in USD; ``nan`` where a price is needed and missing."""
        flat = self.flat_usd
        found = np.full(at.seconds.shape, flat, dtype=np.float64)
        for window in self.windows:
            if self.request.energy_price(window.pool) is not None:
                for part in window.parts:
                    found += part.kwh / _PER_MWH * at.usd(window.pool, part.begin, part.seconds)
        return found

    def free(self, starts: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell for each start whether every pool has a free slot all along."""
        result = np.ones(starts.shape, dtype=np.bool_)
        for own in self._contended:
            result &= self.request.room(own.pool, starts + own.begin, starts + own.end)
        return result

    def pools_without_room(self, start: float) -> Iterator[Pool]:
        """Yield the pools that have no free slot all along for a start in POSIX seconds."""
        for own in self._slots:
            edges = (np.array([start + own.begin]), np.array([start + own.end]))
            if not self.request.room(own.pool, *edges)[0]:
                yield own.pool

    def option(self, start: datetime, deadline: datetime) -> Option:
        """Return the chain as an option that starts at this moment."""
        placements = tuple(self._placement(window, start) for window in self.windows)
        grams = _total(placement.g for placement in placements)
        return Option(
            placements=placements,
            start=start,
            end=placements[-1].end,
            # Who does not start in time to pause may still start in time.
            latest_safe_start=deadline - self.needed + timedelta(seconds=self.paused),
            kwh=self.kwh,
            usd=_total(placement.usd for placement in placements),
            g=grams,
            g_per_kwh=None if grams is None else (grams - self.embodied_g) / self.kwh,
            slots=tuple(slot.reserved(start) for slot in self._slots),
            family=self.request.family,
        )

    @cached_property
    def _slots(self) -> tuple[Slot, ...]:
        slots: list[Slot] = []
        for window in self.windows:
            for slot in window.slots() if window.stage.heavy else ():
                # One at a time: what is late goes on in the slot of what comes next there.
                slots = [
                    one._replace(end=slot.begin)
                    if one.pool is slot.pool and one.end > slot.begin
                    else one
                    for one in slots
                ]
                slots.append(slot)
        # The entry run waits for its heavy stages, so it holds its own slot all along.
        return (*slots, Slot(self.request.home, 0.0, self.windows[-1].end_p95, ""))

    def _placement(self, window: Window, start: datetime) -> Placement:
        zone, home, known = window.zone, self.request.home_zone, self.request.outlook.intensity
        price, since = self.request.energy_price(window.pool), start.timestamp()
        segments: list[Segment] = []
        own_g, energy_g, energy_usd = 0.0, 0.0, 0.0
        for piece in window.pieces:
            grams = usd = 0.0
            for part in piece.parts:
                begin, end = since + part.begin, since + (part.begin + part.seconds)
                mean = _mean(known.get(zone), begin, end)
                own_g += part.kwh * mean
                for at, kwh in window.weights(part, home):
                    if at != zone:
                        mean = _mean(known.get(at), begin, end)
                    grams += kwh * mean
                if price is not None:
                    usd += part.kwh / _PER_MWH * _mean(price.series, begin, end) * price.rate
            energy_g, energy_usd = energy_g + grams, energy_usd + usd
            if len(window.pieces) == 1:
                continue
            segments.append(
                Segment(
                    start=start + timedelta(seconds=piece.due),
                    begin=start + timedelta(seconds=piece.begin),
                    end=start + timedelta(seconds=piece.end),
                    kwh=sum(part.kwh for part in piece.parts),
                    g=grams,
                    cost=None if price is None else usd,
                )
            )
        return Placement(
            stage=window.stage.name,
            pool=window.pool.name,
            region=window.pool.region,
            zone=zone,
            heavy=window.stage.heavy,
            start=start + timedelta(seconds=window.due),
            end=start + timedelta(seconds=window.end),
            end_p95=start + timedelta(seconds=window.end_p95),
            kwh=window.kwh,
            usd=_known(window.flat_usd + energy_usd),
            g=_known(window.embodied_g + energy_g),
            embodied_g=window.embodied_g,
            g_per_kwh=_known(own_g / window.kwh),
            segments=tuple(segments),
        )


def _mean(series: IntensitySeries | PriceSeries | None, begin: float, end: float) -> float:
    """Return a mean; ``nan`` where it is not known."""
    return math.nan if series is None else series.mean_between(begin, end)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _total(parts: Iterable[float | None]) -> float | None:
    """Return a sum, not known where a part of it is not."""
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total
