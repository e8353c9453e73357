"""A chain on a fixed set of pools, evaluated for many starts at once.

For one set of pools the emissions of a chain are a sum of means of piecewise-constant series, so
they are piecewise linear in the start. Their least value lies where an edge of a series meets the
begin or the end of a stage's window, or where a slot becomes free: looking at those starts alone is
exact for emissions and for cost under capacity. Where a cost or intensity limit binds in between,
the choice is the best of these starts that keeps it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from carbon._decision import Option, Placement, Reservation
from carbon._series import Windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from carbon._fleet import Pool
    from carbon._request import Request
    from carbon._series import IntensitySeries, PriceSeries
    from carbon._workload import Stage

    _Term = tuple[IntensitySeries | PriceSeries | None, Windows]

_KWH_PER_GB = 0.001
"""Network energy: cloud-carbon-footprint, NETWORKING_COEFFICIENT, kWh per GB (Apache-2.0)."""

_HOUR = 3600.0
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

    @property
    def needed(self) -> timedelta:
        """Time that the deadline must leave: p95 run times, start-ups and one retry."""
        retry = max(window.needed for window in self.windows)
        return timedelta(seconds=self.windows[-1].end_p95 + retry)

    def starts(self, *moments: datetime) -> NDArray[np.float64]:
        """Return the starts worth looking at, POSIX seconds, in no order, shape ``(n,)``.

        Args:
            moments: Starts that are among them; the first and the last one are their bounds.
        """
        low, high = moments[0].timestamp(), moments[-1].timestamp()
        found = [np.array([moment.timestamp() for moment in moments])]
        for series, windows in (*self._intensities, *self._prices):
            if series is not None:
                found.append((series.edges - windows.offsets[:, None]).ravel())
        found += [
            np.array([full.end - own.begin, full.begin - own.end])
            for own in self._slots
            for full in self.request.full(own.pool)
        ]
        every = np.concatenate(found)
        return every[(every >= low) & (every <= high)]

    def grams(self, starts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the emissions for each start in gCO2e; ``nan`` where the outlook has none."""
        return self.embodied_g + _sum(self._intensities, starts)

    def cost(self, starts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the cost for each start in USD; ``nan`` where a price is needed and missing."""
        flat = sum(window.flat_usd for window in self.windows)
        return flat + _sum(self._prices, starts)

    @cached_property
    def _intensities(self) -> tuple[_Term, ...]:
        """What the emissions are made of, by zone."""
        found: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
        for window in self.windows:
            for zone, kwh in window.weights(self.request.home_zone):
                found[zone].append((window.begin, window.seconds, kwh))
        return tuple(
            (self.request.outlook.intensity.get(zone), Windows.of(*rows))
            for zone, rows in found.items()
        )

    @cached_property
    def _prices(self) -> tuple[_Term, ...]:
        """What the cost is made of beside what does not hang on the time."""
        return tuple(term for window in self.windows if (term := self._price(window)))

    def _price(self, window: _Window) -> _Term | None:
        price = self.request.energy_price(window.pool)
        if price is None:
            return None
        usd = window.kwh * price.rate / 1000.0
        return price.series, Windows.of((window.begin, window.seconds, usd))

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
        price = self._price(window)
        energy_usd = 0.0 if price is None else _number(_sum((price,), _at(start))[0])
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
        series = self.request.outlook.intensity.get(zone)
        return series.mean(begin, end) if series and series.covers(begin, end) else None


def _at(start: datetime) -> NDArray[np.float64]:
    return np.array([start.timestamp()])


def _sum(terms: Iterable[_Term], starts: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.zeros(starts.shape)
    for series, windows in terms:
        found += np.nan if series is None else series.weighted(starts, windows)
    return found


def _total(parts: Iterable[float | None]) -> float | None:
    """Return a sum, not known where a part of it is not."""
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
