"""Time series of the grid: carbon intensity and electricity price, with their meaning attached.

A series is piecewise constant over half-open intervals ``[start_i, start_{i+1})`` in UTC. It has
no gaps: a source that has a gap hands over two series or none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from carbon._errors import BadInput, NoSignal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_PLAUSIBLE_G_PER_KWH = 2_000.0
"""No grid emits more: lignite alone is about 1,100 gCO2e/kWh (IPCC AR5 WG3 Annex III)."""


class Kind(StrEnum):
    """How a number came about."""

    ACTUAL = "actual"
    ESTIMATED = "estimated"
    FORECAST = "forecast"
    MODELLED = "modelled"


class Signal(StrEnum):
    """Which question an intensity answers."""

    AVERAGE = "average"
    MARGINAL = "marginal"


class Accounting(StrEnum):
    """Which emissions are counted."""

    LIFECYCLE = "lifecycle"
    DIRECT = "direct"


def require_utc(name: str, moment: datetime) -> datetime:
    """Return an aware moment in UTC, or refuse a naive one."""
    if moment.tzinfo is None:
        raise BadInput(name, f"{moment.isoformat()} has no time zone", "Add one, e.g. '+00:00'.")
    utc = moment.astimezone(UTC)
    # A plain datetime: pendulum's, which Prefect hands out, loses a standard zone when added to.
    return datetime.combine(utc.date(), utc.time(), UTC)


def require_window(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Return a window in UTC, or refuse one that is naive, empty or backwards."""
    start, end = require_utc("start", start), require_utc("end", end)
    if end <= start:
        raise BadInput("end", f"{end:%Y-%m-%d %H:%M} is not after the start", "Give a later end.")
    return start, end


@dataclass(frozen=True, eq=False)
class _Series:
    """Piecewise-constant values over contiguous half-open intervals in UTC.

    Args:
        zone: Grid zone, e.g. ``"SE-SE3"``.
        starts: Starts of the intervals, ascending, aware.
        end: End of the last interval, aware.
        values: One value per interval.
        source: Who says so, as a person would cite it.
        issued_at: When the source issued these numbers; ``None`` if it does not tell.
    """

    zone: str
    starts: Sequence[datetime]
    end: datetime
    values: Sequence[float]
    source: str
    issued_at: datetime | None = field(default=None, kw_only=True)
    _edges: NDArray[np.float64] = field(init=False, repr=False)
    _area: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        where = f"{type(self).__name__}({self.zone})"
        if not self.starts or len(self.starts) != len(self.values):
            raise BadInput(
                where, "needs one value for each interval", "Give equal, non-zero counts."
            )
        starts = tuple(require_utc(f"{where}.starts", moment) for moment in self.starts)
        end = require_utc(f"{where}.end", self.end)
        edges = np.array([moment.timestamp() for moment in (*starts, end)], dtype=np.float64)
        if not np.all(np.diff(edges) > 0):
            raise BadInput(where, "times do not ascend", "Sort the rows and drop duplicate times.")
        values = np.asarray(self.values, dtype=np.float64)
        if not np.all(np.isfinite(values)):
            raise BadInput(where, "holds a value that is not a number", "Remove or fill that row.")
        area = np.concatenate(([0.0], np.cumsum(values * np.diff(edges))))
        for name, value in (
            ("starts", starts),
            ("end", end),
            ("values", tuple(float(value) for value in values)),
            ("_edges", edges),
            ("_area", area),
        ):
            object.__setattr__(self, name, value)

    @property
    def start(self) -> datetime:
        """Start of the first interval."""
        return self.starts[0]

    @property
    def edges(self) -> NDArray[np.float64]:
        """All interval edges as POSIX seconds, shape ``(n + 1,)``."""
        return self._edges

    def covers(self, start: datetime, end: datetime) -> bool:
        """Tell whether the window lies wholly inside the series."""
        return self.start <= start and end <= self.end

    def mean(self, start: datetime, end: datetime) -> float:
        """Return the time-weighted mean over a window.

        Raises:
            NoSignal: The window is not wholly covered.
        """
        if not self.covers(start, end) or end <= start:
            raise NoSignal(
                f"{self.source} has zone {self.zone} from {self.start:%Y-%m-%d %H:%M} to "
                f"{self.end:%Y-%m-%d %H:%M} UTC, not {start:%Y-%m-%d %H:%M} to "
                f"{end:%Y-%m-%d %H:%M}. Use a source with a longer horizon or an earlier deadline."
            )
        seconds = np.array([start.timestamp()])
        return float(self.means(seconds, (end - start).total_seconds())[0])

    def means(self, starts: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
        """Return the mean over ``[start, start + seconds)`` for each start.

        Args:
            starts: POSIX seconds, shape ``(n,)``.
            seconds: Window length, above zero.

        Returns:
            Means, shape ``(n,)``; ``nan`` where a window is not wholly covered.
        """
        ends = starts + seconds
        area = np.interp(ends, self._edges, self._area) - np.interp(starts, self._edges, self._area)
        inside = (starts >= self._edges[0]) & (ends <= self._edges[-1] + 1e-6)
        return np.where(inside, area / seconds, np.nan)


@dataclass(frozen=True, eq=False)
class IntensitySeries(_Series):
    """Carbon intensity of a zone in gCO2e/kWh."""

    kind: Kind = field(kw_only=True)
    signal: Signal = field(default=Signal.AVERAGE, kw_only=True)
    accounting: Accounting = field(default=Accounting.LIFECYCLE, kw_only=True)

    unit = "gCO2e/kWh"

    def __post_init__(self) -> None:
        super().__post_init__()
        worst = max(self.values)
        if min(self.values) < 0 or worst > MAX_PLAUSIBLE_G_PER_KWH:
            raise BadInput(
                f"IntensitySeries({self.zone})",
                f"values from {min(self.values):g} to {worst:g} are no carbon intensity in "
                f"{self.unit}",
                f"Give values from 0 to {MAX_PLAUSIBLE_G_PER_KWH:g} {self.unit}.",
            )

    @property
    def family(self) -> tuple[Signal, Accounting, Kind]:
        """What must be equal before two series may be ranked against each other."""
        return (self.signal, self.accounting, self.kind)


@dataclass(frozen=True, eq=False)
class PriceSeries(_Series):
    """Electricity price of a zone per MWh; it may be negative."""

    kind: Kind = field(kw_only=True)
    currency: str = field(kw_only=True)

    @property
    def unit(self) -> str:
        """Return the unit, e.g. ``EUR/MWh``."""
        return f"{self.currency}/MWh"


def regular(start: datetime, step: timedelta, count: int) -> tuple[tuple[datetime, ...], datetime]:
    """Return the starts and the end of ``count`` equal intervals."""
    return tuple(start + step * index for index in range(count)), start + step * count
