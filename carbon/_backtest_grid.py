"""The grid of a back-test: what came, and what was known of it at each moment.

What came is a trace from a file, or the modelled typical day where there is none. What was known is
a provider's forecast of each hour, as far ahead as it was issued, and beyond that the statistical
forecast that the library makes from the hours before (:mod:`carbon._statistical`). Gaps stay gaps:
a zone's forecast does not need every hour of the past, but a job is never settled over a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon import _cells, _gridfile
from carbon._backtest_case import Known
from carbon._backtest_kernels import HOURS
from carbon._errors import BadInput, UnknownZone
from carbon._series import Accounting, IntensitySeries, Kind, Signal
from carbon._statistical import DAY, HOUR, Climate, midnight
from carbon._typical import TypicalDay, known_zones

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_STALE: Final = 2 * HOURS
"""Hours before the present day whose last value still tells where the grid stands."""

_SEEN: Final = 14 * HOURS
_LEAST_SEEN: Final = HOURS


@dataclass(frozen=True)
class Trace:
    """Intensity over time, in gCO2e/kWh.

    Attributes:
        zones: Zone to its gapless pieces, in order.
        source: Where it comes from.
        modelled: Whether nobody has measured it.
    """

    zones: Mapping[str, Sequence[IntensitySeries]]
    source: str
    modelled: bool = False

    @property
    def first(self) -> datetime:
        """When it begins."""
        return min(piece.start for pieces in self.zones.values() for piece in pieces)

    @property
    def end(self) -> datetime:
        """When it ends."""
        return max(piece.end for pieces in self.zones.values() for piece in pieces)

    @property
    def step(self) -> timedelta:
        """Its shortest interval."""
        edges = (np.diff(piece.edges).min() for all_ in self.zones.values() for piece in all_)
        return timedelta(seconds=float(min(edges)))

    def means(self, zone: str, starts: Floats, seconds: float) -> Floats:
        """Return the means of steps, ``nan`` where one is not wholly known."""
        found = np.full(len(starts), np.nan)
        for piece in self.zones.get(zone, ()):
            values = piece.means(starts, seconds)
            found = np.where(np.isfinite(values), values, found)
        return found


def read_trace(path: Path, column: str = "g_per_kwh") -> Trace:
    """Read a trace from a file like ``CARBON_REPLAY``: wide, or long with a value column.

    Raises:
        BadInput: A cell is wrong; the message names file, line and column.
    """
    cells = _cells.read(path)
    source = f"{cells.file} (sha256 {cells.digest})"
    zones = {
        zone: [
            IntensitySeries(
                zone,
                piece.starts,
                piece.end,
                piece.values,
                source,
                kind=Kind.ACTUAL,
                signal=Signal.AVERAGE,
                accounting=Accounting.LIFECYCLE,
            )
            for piece in stretches
        ]
        for zone, stretches in _gridfile.intensities(cells, column).items()
    }
    if not any(zones.values()):
        raise BadInput(cells.file, "has empty cells only", "Give a trace with values.")
    return Trace({zone: pieces for zone, pieces in zones.items() if pieces}, source)


def typical_trace(zones: Sequence[str], first: datetime, end: datetime) -> Trace:
    """Return the modelled typical day of zones over some time."""
    model = TypicalDay()
    known = [zone for zone in zones if zone in known_zones()]
    if not known:
        raise UnknownZone("zone", zones[0], known_zones())
    series = {zone: [model.intensity(zone, first, end)] for zone in known}
    return Trace(series, model.name, modelled=True)


@dataclass(frozen=True, eq=False)
class Grid:
    """What came and what was known, on whole steps.

    Attributes:
        first: Midnight UTC at or before the start of the trace: step 0.
        step: Length of a step; a whole part of an hour.
        zones: Grid zones.
        actual: What came, gCO2e/kWh, ``nan`` where it is not known; by zone and step.
        forecast: A provider's forecast of each step, likewise.
        ahead: How long ahead of a step that forecast was known.
    """

    first: datetime
    step: timedelta
    zones: tuple[str, ...]
    actual: Floats
    forecast: Floats
    ahead: timedelta

    @classmethod
    def of(
        cls,
        trace: Trace,
        zones: Sequence[str],
        step: timedelta,
        *,
        forecasts: Trace | None = None,
        ahead: timedelta = DAY,
    ) -> Grid:
        """Lay a trace out on steps.

        Args:
            trace: What came.
            zones: Which zones.
            step: Length of a step; a whole part of an hour.
            forecasts: What a provider had forecast of each hour; with none, and beyond it, the
                statistical forecast serves.
            ahead: How long ahead of each hour that was known.
        """
        first = midnight(trace.first)
        count = (trace.end - first) // step
        starts = first.timestamp() + np.arange(count, dtype=np.float64) * step.total_seconds()

        def rows(of: Trace | None) -> Floats:
            if of is None:
                return np.full((len(zones), count), np.nan)
            return np.array([of.means(zone, starts, step.total_seconds()) for zone in zones])

        return cls(first, step, tuple(zones), rows(trace), rows(forecasts), ahead)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return int(self.actual.shape[1])

    @property
    def end(self) -> datetime:
        """When the last step ends."""
        return self.first + self.step * self.steps

    @property
    def per_hour(self) -> int:
        """Steps in an hour."""
        return HOUR // self.step

    @cached_property
    def sums(self) -> Floats:
        """Running sums of what came, beginning with 0, gaps as 0; by zone and step."""
        zero = np.zeros((len(self.zones), 1))
        return np.hstack([zero, np.cumsum(np.nan_to_num(self.actual), axis=1)])

    @cached_property
    def gaps(self) -> NDArray[np.int64]:
        """Running counts of the steps that nobody has measured, beginning with 0; likewise."""
        zero = np.zeros((len(self.zones), 1), np.int64)
        return np.hstack([zero, np.cumsum(np.isnan(self.actual), axis=1)])

    def moment(self, step: int) -> datetime:
        """Return when a step begins."""
        return self.first + self.step * step

    @cached_property
    def _hourly(self) -> Floats:
        """Means of the clock hours, of whole days; ``nan`` where one is not wholly known."""
        days = -(-self.steps // (HOURS * self.per_hour)) + 1
        padded = np.full((len(self.zones), days * HOURS * self.per_hour), np.nan)
        padded[:, : self.steps] = self.actual
        by_hour = padded.reshape(len(self.zones), days * HOURS, self.per_hour)
        return np.asarray(by_hour.mean(axis=2), np.float64)

    def known(self) -> Known:
        """Return what was known at each step; a day or an hour counts once it is over."""
        hourly = self._hourly
        zones, days = len(self.zones), hourly.shape[1] // HOURS
        typical = np.full((zones, days, HOURS), np.nan)
        persistence = np.zeros((zones, days))
        for z in range(zones):
            climate = Climate(
                until=self.first, signal=Signal.AVERAGE, accounting=Accounting.LIFECYCLE
            )
            for day in range(days):
                usual = climate.predict(np.empty(0), 0, HOURS)
                if usual is not None:
                    typical[z, day], persistence[z, day] = usual, climate.persistence
                climate = climate.folded(hourly[z, day * HOURS : (day + 1) * HOURS])
        anomaly, back = _anomalies(hourly, typical)
        return Known(
            self.forecast,
            self.ahead // self.step,
            typical,
            persistence,
            anomaly,
            back,
            self.per_hour,
        )

    def clean(self, zone: int, quantile: float) -> NDArray[np.bool_]:
        """Tell for each step whether the last hour was as clean as a quantile of two weeks before.

        True too while less than a day has been seen: then nobody waits.
        """
        hourly = self._hourly[zone]
        before = np.concatenate([np.full(_SEEN, np.nan), hourly])
        windows = np.lib.stride_tricks.sliding_window_view(before, _SEEN)[: len(hourly)]
        seen = np.isfinite(windows).sum(axis=1)
        limit = np.full(len(hourly), np.inf)
        enough = seen >= _LEAST_SEEN
        limit[enough] = np.nanquantile(windows[enough], quantile, axis=1)
        last = np.concatenate([[np.nan], hourly[:-1]])
        clean = (last <= limit) | ~enough
        return np.repeat(clean, self.per_hour)[: self.steps]


def _anomalies(hourly: Floats, typical: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return how the last known hour departs from the usual, and how many hours it is back."""
    hours = np.arange(hourly.shape[1])
    known = np.isfinite(hourly)
    latest = np.maximum.accumulate(np.where(known, hours, -1), axis=1)
    latest = np.hstack([np.full((len(hourly), 1), -1), latest[:, :-1]])
    back = hours - latest
    fresh = (latest >= 0) & (back <= _STALE + hours % HOURS)
    place = np.where(fresh, latest, 0)
    rows = np.arange(len(hourly))[:, None]
    departs = hourly[rows, place] - typical[rows, hours // HOURS, place % HOURS]
    return np.where(fresh & np.isfinite(departs), departs, 0.0), np.where(fresh, back, 1)


def plain_step(trace: Trace, moments: Floats) -> timedelta:
    """Return the coarsest step, an hour at most, that a trace and moments or lengths fit.

    Args:
        trace: The trace.
        moments: Seconds that should fall on edges of steps.
    """
    for minutes in (60, 30):
        step = timedelta(minutes=minutes)
        if step <= trace.step and not (np.round(moments) % step.total_seconds()).any():
            return step
    return timedelta(minutes=15)


def refuse_gaps(grid: Grid, source: str, first: int, stop: int) -> None:
    """Refuse a trace that lacks an hour in which jobs may run.

    Raises:
        BadInput: Zone and time of the first gap.
    """
    for zone, values in zip(grid.zones, grid.actual, strict=True):
        missing = np.flatnonzero(np.isnan(values[first:stop]))
        if len(missing):
            when = grid.moment(first + int(missing[0]))
            raise BadInput(
                source,
                f"has no value of zone {zone} at {when:%Y-%m-%d %H:%M} UTC, when jobs may run",
                "Fill it from the same source, or replay another time.",
            )
