"""A chain on a fixed set of pools, evaluated for many starts at once.

For one set of pools the emissions of a chain are a sum of means of piecewise-constant series, so
they are piecewise linear in the start. Their least value lies where an edge of a series meets the
begin or the end of a stage's window, or where a slot becomes free: looking at those starts alone is
exact for emissions and for cost under capacity. Where a cost or intensity limit binds in between,
the choice is the best of these starts that keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from carbon._decision import Option, Placement, Reservation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from carbon._fleet import Pool
    from carbon._request import Request
    from carbon._series import IntensitySeries, PriceSeries
    from carbon._workload import Stage

_KWH_PER_GB = 0.001
"""Network energy: cloud-carbon-footprint, NETWORKING_COEFFICIENT, kWh per GB (Apache-2.0)."""

_HOUR = 3600.0
_PER_MWH = 1000.0
"""kWh in a MWh."""
_ROUNDING = 1e-5
"""Seconds; a moment has whole microseconds."""


@dataclass(frozen=True)
class _Window:
    """A stage in its pool; times are seconds from the chain's start.

    Attributes:
        stage: The stage.
        pool: Its pool.
        due: When it takes its slot, if those before it take their median time.
        due_p95: The same by their 95th percentile.
        begin: When its code begins, after the pool's start-up.
        seconds: Median run time.
        needed: Start-up and run time by the 95th percentile.
        kwh: Energy of one run, PUE included.
        network_kwh: Energy of carrying its data from home and back.
        flat_usd: Cost that does not hang on the time: compute and transfer.
        embodied_g: Share of the emissions from making the hardware.
    """

    stage: Stage
    pool: Pool
    due: float
    due_p95: float
    begin: float
    seconds: float
    needed: float
    kwh: float
    network_kwh: float
    flat_usd: float
    embodied_g: float

    @classmethod
    def after(
        cls, before: _Window | None, home: Pool, stage: Stage, pool: Pool, lead: float
    ) -> _Window:
        """Lay out a stage after another one, or after the start-up of the entry run."""
        need = stage.needs[pool.hardware]
        startup = pool.startup.total_seconds() if stage.heavy else 0.0
        due = before.end if before else lead
        seconds = need.p50.total_seconds()
        at_server = need.kwh or pool.watts / 1000.0 * seconds / _HOUR
        there, carried, transfer = pool.place, 0.0, 0.0
        if pool.region != home.region:
            here, carried = home.place, stage.data_in_gb + stage.data_out_gb
            transfer = stage.data_in_gb * here.transfer_price(there)
            transfer += stage.data_out_gb * there.transfer_price(here)
        return cls(
            stage=stage,
            pool=pool,
            due=due,
            due_p95=before.end_p95 if before else lead,
            begin=due + startup,
            seconds=seconds,
            needed=startup + need.p95.total_seconds(),
            kwh=at_server * there.pue.value,
            network_kwh=carried * _KWH_PER_GB,
            flat_usd=pool.usd_per_hour * seconds / _HOUR + transfer,
            embodied_g=pool.embodied_g_per_hour * seconds / _HOUR,
        )

    @property
    def end(self) -> float:
        return self.begin + self.seconds

    @property
    def end_p95(self) -> float:
        return self.due_p95 + self.needed

    def weights(self, home_zone: str) -> Iterator[tuple[str, float]]:
        """Yield by which zone's mean intensity which energy is weighed.

        The way is shared: half of the network's energy is drawn at each end.
        """
        yield self.pool.place.zone, self.kwh + self.network_kwh / 2
        if self.network_kwh:
            yield home_zone, self.network_kwh / 2


@dataclass(frozen=True)
class _Slot:
    """A slot that the chain takes, in seconds from its start."""

    pool: Pool
    begin: float
    end: float
    stage: str

    def reserved(self, start: datetime) -> Reservation:
        return Reservation(
            pool=self.pool.name,
            start=start + timedelta(seconds=self.begin),
            end=start + timedelta(seconds=self.end),
            stage=self.stage,
        )


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
        return self._unknown if series is None else series.means(self.seconds + begin, seconds)


@dataclass(frozen=True)
class Chain:
    """Stages on pools, back to back.

    Attributes:
        request: What it is laid out for.
        windows: Stages in their pools, in order.
    """

    request: Request
    windows: tuple[_Window, ...]

    @classmethod
    def on(cls, request: Request, pools: Sequence[Pool], *, lead: timedelta) -> Chain:
        """Lay a request's stages out on pools, one after the other.

        Args:
            request: What to lay out.
            pools: One for each stage.
            lead: Start-up of the entry run; light stages run inside it and have none of their own.
        """
        windows: list[_Window] = []
        seconds = lead.total_seconds()
        for stage, pool in zip(request.workload.stages, pools, strict=True):
            before = windows[-1] if windows else None
            windows.append(_Window.after(before, request.home, stage, pool, seconds))
        return cls(request, tuple(windows))

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pool of each stage."""
        return tuple(window.pool for window in self.windows)

    @property
    def heavy_pools(self) -> tuple[Pool, ...]:
        """The pools of the heavy stages."""
        return tuple(window.pool for window in self.windows if window.stage.heavy)

    @property
    def blackouts(self) -> tuple[str, ...]:
        """Names of the blackouts of its pools."""
        reasons = (full.reason for own in self._slots for full in self.request.full(own.pool))
        return tuple(dict.fromkeys(filter(None, reasons)))

    @cached_property
    def needed(self) -> timedelta:
        """Time that the deadline must leave: p95 run times, start-ups and one retry."""
        retry = max(window.needed for window in self.windows)
        return timedelta(seconds=self.windows[-1].end_p95 + retry)

    @cached_property
    def layout(self) -> tuple[float, ...]:
        """When its stages run, in seconds from its start: chains that are alike share much work."""
        edges = (edge for window in self.windows for edge in (window.begin, window.end))
        return (self.needed.total_seconds(), *edges)

    def breakpoints(self) -> Iterator[tuple[NDArray[np.float64], float]]:
        """Yield where the slope of emissions or cost changes, or a slot becomes free.

        Yields:
            POSIX seconds, and how long before them the start is.
        """
        for window in self.windows:
            price = self.request.energy_price(window.pool)
            drawn: list[IntensitySeries | PriceSeries | None] = [
                self.request.outlook.intensity.get(zone)
                for zone, _ in window.weights(self.request.home_zone)
            ]
            drawn += [price.series] if price is not None else []
            for series in drawn:
                if series is not None:
                    yield series.edges, window.begin
                    yield series.edges, window.end
        for own in self._slots:
            full = self.request.full(own.pool)
            if full:
                yield np.array([one.end for one in full]), own.begin
                yield np.array([one.begin for one in full]), own.end

    def grams(self, at: Starts) -> NDArray[np.float64]:
        """Return the emissions for each start in gCO2e; ``nan`` where the outlook has none."""
        found = np.full(at.seconds.shape, self.embodied_g)
        for window in self.windows:
            for zone, kwh in window.weights(self.request.home_zone):
                found += kwh * at.intensity(zone, window.begin, window.seconds)
        return found

    def cost(self, at: Starts) -> NDArray[np.float64]:
        """Return the cost for each start in USD; ``nan`` where a price is needed and missing."""
        found = np.full(at.seconds.shape, sum(window.flat_usd for window in self.windows))
        for window in self.windows:
            if self.request.energy_price(window.pool) is not None:
                found += window.kwh / _PER_MWH * at.usd(window.pool, window.begin, window.seconds)
        return found

    @cached_property
    def embodied_g(self) -> float:
        """The share of the emissions from making the hardware, in gCO2e."""
        return sum(window.embodied_g for window in self.windows)

    @cached_property
    def kwh(self) -> float:
        """The energy of one run, PUE and network included."""
        return sum(window.kwh + window.network_kwh for window in self.windows)

    def free(self, starts: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell for each start whether every pool has a free slot all along."""
        result = np.ones(starts.shape, dtype=np.bool_)
        for own in self._slots:
            if self.request.full(own.pool):
                result &= self._has_room(own, starts)
        return result

    def pools_without_room(self, start: float) -> Iterator[Pool]:
        """Yield the pools that have no free slot all along for a start in POSIX seconds."""
        for own in self._slots:
            if not self._has_room(own, np.array([start]))[0]:
                yield own.pool

    def _has_room(self, own: _Slot, starts: NDArray[np.float64]) -> NDArray[np.bool_]:
        result = np.ones(starts.shape, dtype=np.bool_)
        for full in self.request.full(own.pool):
            # Starts were rounded to a microsecond somewhere: one that just fits is free.
            before = starts + own.end <= full.begin + _ROUNDING
            result &= before | (starts + own.begin >= full.end - _ROUNDING)
        return result

    def option(self, start: datetime, deadline: datetime) -> Option:
        """Return the chain as an option that starts at this moment."""
        placements = tuple(self._placement(window, start) for window in self.windows)
        grams = _total(placement.g for placement in placements)
        return Option(
            placements=placements,
            start=start,
            end=placements[-1].end,
            latest_safe_start=deadline - self.needed,
            kwh=self.kwh,
            usd=_total(placement.usd for placement in placements),
            g=grams,
            g_per_kwh=None if grams is None else (grams - self.embodied_g) / self.kwh,
            slots=tuple(slot.reserved(start) for slot in self._slots),
        )

    @cached_property
    def _slots(self) -> tuple[_Slot, ...]:
        slots = [
            _Slot(w.pool, w.due, w.end_p95, w.stage.name) for w in self.windows if w.stage.heavy
        ]
        # The entry run waits for its heavy stages, so it holds its own slot all along.
        return (*slots, _Slot(self.request.home, 0.0, self.windows[-1].end_p95, ""))

    def _placement(self, window: _Window, start: datetime) -> Placement:
        begin = start + timedelta(seconds=window.begin)
        end = start + timedelta(seconds=window.end)
        zone = window.pool.place.zone
        weights = tuple(window.weights(self.request.home_zone))
        means = {place: self._mean(place, begin, end) for place, _ in weights}
        energy_usd: float | None = 0.0
        if (price := self.request.energy_price(window.pool)) is not None:
            mean = _known(price.series, begin, end)
            energy_usd = None if mean is None else window.kwh / _PER_MWH * mean * price.rate
        return Placement(
            stage=window.stage.name,
            pool=window.pool.name,
            region=window.pool.region,
            zone=zone,
            heavy=window.stage.heavy,
            start=start + timedelta(seconds=window.due),
            end=end,
            end_p95=start + timedelta(seconds=window.end_p95),
            kwh=window.kwh,
            usd=_total((window.flat_usd, energy_usd)),
            g=_total(
                (
                    window.embodied_g,
                    *(None if (mean := means[at]) is None else kwh * mean for at, kwh in weights),
                )
            ),
            embodied_g=window.embodied_g,
            g_per_kwh=means[zone],
        )

    def _mean(self, zone: str, begin: datetime, end: datetime) -> float | None:
        return _known(self.request.outlook.intensity.get(zone), begin, end)


def _known(
    series: IntensitySeries | PriceSeries | None, begin: datetime, end: datetime
) -> float | None:
    return series.mean(begin, end) if series and series.covers(begin, end) else None


def _total(parts: Iterable[float | None]) -> float | None:
    """Return a sum, not known where a part of it is not."""
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total
