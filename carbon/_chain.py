"""A chain on a fixed set of pools, evaluated for many starts at once.

For one set of pools the emissions of a chain are a sum of means of piecewise-constant series, so
they are piecewise linear in the start. Their least value lies where an edge of a series meets the
begin or the end of a stage's window, or where a slot becomes free: looking at those starts alone is
exact for emissions and for cost under capacity. Where a cost or intensity limit binds in between,
the choice is the best of these starts that keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from carbon._decision import Option, Placement, Reservation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from carbon._fleet import Fleet, Pool
    from carbon._outlook import Outlook
    from carbon._workload import Stage

_KWH_PER_GB = 0.001
"""Network energy: cloud-carbon-footprint, NETWORKING_COEFFICIENT, kWh per GB (Apache-2.0)."""

_HOUR = 3600.0
_ROUNDING = 1e-5
"""Seconds; a moment has whole microseconds."""


@dataclass(frozen=True)
class _Window:
    """A stage in its pool, as seconds from the chain's start."""

    stage: Stage
    pool: Pool
    due: float
    due_p95: float
    startup: float

    @property
    def begin(self) -> float:
        return self.due + self.startup

    @property
    def seconds(self) -> float:
        return self.stage.needs[self.pool.hardware].p50.total_seconds()

    @property
    def seconds_p95(self) -> float:
        return self.stage.needs[self.pool.hardware].p95.total_seconds()

    @property
    def end(self) -> float:
        return self.begin + self.seconds

    @property
    def end_p95(self) -> float:
        return self.due_p95 + self.startup + self.seconds_p95

    @property
    def kwh(self) -> float:
        """Energy of one run, PUE included."""
        need = self.stage.needs[self.pool.hardware]
        at_server = need.kwh or self.pool.watts / 1000.0 * self.seconds / _HOUR
        return at_server * self.pool.place.pue.value


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
        fleet: The fleet.
        outlook: The outlook that it is judged by.
        windows: Stages in their pools, in order.
    """

    fleet: Fleet
    outlook: Outlook
    windows: tuple[_Window, ...]

    @classmethod
    def on(
        cls,
        fleet: Fleet,
        outlook: Outlook,
        stages: Sequence[Stage],
        pools: Sequence[Pool],
        *,
        lead: timedelta,
    ) -> Chain:
        """Lay stages out on pools, one after the other.

        Args:
            fleet: The fleet.
            outlook: The outlook that it is judged by.
            stages: In order.
            pools: One for each stage.
            lead: Start-up of the entry run; light stages run inside it and have none of their own.
        """
        clock = clock_p95 = lead.total_seconds()
        windows = []
        for stage, pool in zip(stages, pools, strict=True):
            startup = pool.startup.total_seconds() if stage.heavy else 0.0
            window = _Window(stage, pool, clock, clock_p95, startup)
            windows.append(window)
            clock, clock_p95 = window.end, window.end_p95
        return cls(fleet, outlook, tuple(windows))

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pool of each stage."""
        return tuple(window.pool for window in self.windows)

    @property
    def heavy_pools(self) -> tuple[Pool, ...]:
        """The pools of the heavy stages."""
        return tuple(window.pool for window in self.windows if window.stage.heavy)

    @property
    def needed(self) -> timedelta:
        """Time that the deadline must leave: p95 run times, start-ups and one retry."""
        retry = max(window.startup + window.seconds_p95 for window in self.windows)
        return timedelta(seconds=self.windows[-1].end_p95 + retry)

    def starts(
        self, first: datetime, last: datetime, busy: Iterable[Reservation]
    ) -> NDArray[np.float64]:
        """Return the starts worth looking at, POSIX seconds, ascending, shape ``(n,)``."""
        low, high = first.timestamp(), last.timestamp()
        found = [np.array([low, high])]
        for window in self.windows:
            for zone in {window.pool.place.zone, self._home_zone}:
                series = self.outlook.intensity.get(zone)
                if series is not None:
                    found += [series.edges - window.begin, series.edges - window.end]
            price = self.outlook.price.get(window.pool.place.zone)
            if window.pool.billed_energy and price is not None:
                found += [price.edges - window.begin, price.edges - window.end]
        for slot in busy:
            for own in self._slots():
                if own.pool.name == slot.pool:
                    after, before = slot.end.timestamp(), slot.start.timestamp()
                    found.append(np.array([after - own.begin, before - own.end]))
        every = np.unique(np.concatenate(found))
        return every[(every >= low) & (every <= high)]

    def grams(self, starts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the emissions for each start in gCO2e; ``nan`` where the outlook has none."""
        return sum(
            (self._stage_grams(window, starts) for window in self.windows), np.zeros(starts.shape)
        )

    def cost(self, starts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the cost for each start in USD; ``nan`` where a price is needed and missing."""
        return sum(
            (self._stage_usd(window, starts) for window in self.windows), np.zeros(starts.shape)
        )

    def kwh(self) -> float:
        """Return the energy of one run, PUE and network included."""
        return sum(window.kwh + self._network_kwh(window) for window in self.windows)

    def free(self, starts: NDArray[np.float64], busy: Sequence[Reservation]) -> NDArray[np.bool_]:
        """Tell for each start whether every pool has a free slot all along."""
        result = np.ones(starts.shape, dtype=np.bool_)
        for own in self._slots():
            for full_from, full_to in _full(own.pool, busy):
                # Starts were rounded to a microsecond somewhere: one that just fits is free.
                before = starts + own.end <= full_from + _ROUNDING
                result &= before | (starts + own.begin >= full_to - _ROUNDING)
        return result

    def option(self, start: datetime, deadline: datetime) -> Option:
        """Return the chain as an option that starts at this moment."""
        placements = tuple(self._placement(window, start) for window in self.windows)
        seconds = np.array([start.timestamp()])
        grams = _number(self.grams(seconds)[0])
        kwh = self.kwh()
        return Option(
            placements=placements,
            start=start,
            end=placements[-1].end,
            latest_safe_start=deadline - self.needed,
            kwh=kwh,
            usd=_number(self.cost(seconds)[0]),
            g=grams,
            g_per_kwh=None if grams is None else grams / kwh,
            slots=tuple(slot.reserved(start) for slot in self._slots()),
        )

    @property
    def _home_zone(self) -> str:
        return self.fleet.home_cpu.place.zone

    def _slots(self) -> list[_Slot]:
        slots = [
            _Slot(w.pool, w.due, w.end_p95, w.stage.name) for w in self.windows if w.stage.heavy
        ]
        # The entry run waits for its heavy stages, so it holds its own slot all along.
        return [*slots, _Slot(self.fleet.home_cpu, 0.0, self.windows[-1].end_p95, "")]

    def _zone_means(
        self, zone: str, window: _Window, starts: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        series = self.outlook.intensity.get(zone)
        if series is None:
            return np.full(starts.shape, np.nan)
        return series.means(starts + window.begin, window.seconds)

    def _stage_grams(self, window: _Window, starts: NDArray[np.float64]) -> NDArray[np.float64]:
        there = self._zone_means(window.pool.place.zone, window, starts)
        grams = window.kwh * there
        network = self._network_kwh(window)
        if network:
            # The way is shared: half of the network energy is drawn at each end.
            grams = (
                grams + network * (there + self._zone_means(self._home_zone, window, starts)) / 2
            )
        return grams

    def _stage_usd(self, window: _Window, starts: NDArray[np.float64]) -> NDArray[np.float64]:
        pool = window.pool
        flat = pool.usd_per_hour * window.seconds / _HOUR + self._transfer_usd(window)
        usd = np.full(starts.shape, flat)
        if pool.billed_energy:
            price = self.outlook.price.get(pool.place.zone)
            rate = (
                1.0
                if price is None or price.currency == "USD"
                else self.fleet.usd_per.get(price.currency)
            )
            if price is None or rate is None:
                return np.full(starts.shape, np.nan)
            per_mwh = price.means(starts + window.begin, window.seconds) * rate
            usd = usd + window.kwh * per_mwh / 1000.0
        return usd

    def _network_kwh(self, window: _Window) -> float:
        if window.pool.region == self.fleet.home:
            return 0.0
        return (window.stage.data_in_gb + window.stage.data_out_gb) * _KWH_PER_GB

    def _transfer_usd(self, window: _Window) -> float:
        home, there = self.fleet.home_cpu.place, window.pool.place
        return window.stage.data_in_gb * home.transfer_price(
            there
        ) + window.stage.data_out_gb * there.transfer_price(home)

    def _placement(self, window: _Window, start: datetime) -> Placement:
        seconds = np.array([start.timestamp()])
        return Placement(
            stage=window.stage.name,
            pool=window.pool.name,
            region=window.pool.region,
            zone=window.pool.place.zone,
            heavy=window.stage.heavy,
            start=start + timedelta(seconds=window.due),
            end=start + timedelta(seconds=window.end),
            end_p95=start + timedelta(seconds=window.end_p95),
            kwh=window.kwh,
            usd=_number(self._stage_usd(window, seconds)[0]),
            g=_number(self._stage_grams(window, seconds)[0]),
            g_per_kwh=_number(self._zone_means(window.pool.place.zone, window, seconds)[0]),
        )


def moment(seconds: float) -> datetime:
    """Return POSIX seconds as an aware moment."""
    return datetime.fromtimestamp(seconds, UTC)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _full(pool: Pool, busy: Sequence[Reservation]) -> list[tuple[float, float]]:
    """Return the periods in which others hold every slot of the pool."""
    changes = sorted(
        change
        for slot in busy
        if slot.pool == pool.name
        for change in ((slot.start.timestamp(), 1), (slot.end.timestamp(), -1))
    )
    periods: list[tuple[float, float]] = []
    taken, since = 0, 0.0
    for when, step in changes:
        before, taken = taken, taken + step
        if before < pool.capacity <= taken:
            since = when
        elif taken < pool.capacity <= before and when > since:
            periods.append((since, when))
    return periods
