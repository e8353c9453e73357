"""Time series of the grid: carbon intensity and electricity price, with their meaning attached.

A series is piecewise constant over half-open intervals ``[start_i, start_{i+1})`` in UTC. The value
of an interval may be unknown: nothing is ever filled in, and a window that touches such an interval
has no mean.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

import numpy as np

from carbon._errors import BadInput, NoSignal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    _Floats = NDArray[np.float64]

MAX_PLAUSIBLE_G_PER_KWH = 2_000.0
"""No grid emits more: lignite alone is about 1,100 gCO2e/kWh (IPCC AR5 WG3 Annex III)."""

_INSTANT = 1e-6
"""Seconds below which two moments are one."""

_S = TypeVar("_S", bound="_Series")


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
    if not isinstance(moment, datetime):
        raise BadInput(name, f"{moment!r} is no moment", "Give a datetime with a time zone.")
    if moment.tzinfo is UTC and type(moment) is datetime:
        return moment
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


class Places(NamedTuple):
    """Where windows of one length lie on a grid of edges.

    Attributes:
        place: The intervals of begins and ends, shape ``(2, n)``.
        ahead: How far into them these are, in seconds.
        inside: Whether a window lies inside the grid, shape ``(n,)``; ``None`` where all do.
        seconds: Their length.
    """

    place: NDArray[np.int64]
    ahead: _Floats
    inside: NDArray[np.bool_] | None
    seconds: float


@dataclass(frozen=True, eq=False)
class _Series:
    """Piecewise-constant values over contiguous half-open intervals in UTC.

    Args:
        zone: Grid zone, e.g. ``"SE-SE3"``.
        starts: Starts of the intervals, ascending, aware.
        end: End of the last interval, aware.
        values: One value per interval; ``None`` where it is not known.
        source: Who says so, as a person would cite it.
        issued_at: When the source issued these numbers; ``None`` if it does not tell.
        fetched_at: When they were fetched; ``None`` where nothing had to be fetched.
        trust: Part of the possible saving that the source has earned in this zone, 0 to 1; ``None``
            where nothing is known of it.
        notes: What must be said with these numbers, in plain words.
    """

    zone: str
    starts: Sequence[datetime]
    end: datetime
    values: Sequence[float | None]
    source: str
    issued_at: datetime | None = field(default=None, kw_only=True)
    fetched_at: datetime | None = field(default=None, kw_only=True)
    trust: float | None = field(default=None, kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    _edges: _Floats = field(init=False, repr=False)
    _level: _Floats = field(init=False, repr=False)
    _area: _Floats = field(init=False, repr=False)
    _gap: _Floats = field(init=False, repr=False)
    _unknown: _Floats = field(init=False, repr=False)
    _gaps: bool = field(init=False, repr=False)
    _grid: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        where = f"{type(self).__name__}({self.zone})"
        if not self.starts or len(self.starts) != len(self.values):
            raise BadInput(
                where, "needs one value for each interval", "Give equal, non-zero counts."
            )
        starts = tuple(
            moment
            if moment.tzinfo is UTC and type(moment) is datetime
            else require_utc(f"{where}.starts", moment)
            for moment in self.starts
        )
        end = require_utc(f"{where}.end", self.end)
        edges = np.array([moment.timestamp() for moment in (*starts, end)], dtype=np.float64)
        seconds = np.diff(edges)
        if not np.all(seconds > 0):
            raise BadInput(where, "times do not ascend", "Sort the rows and drop duplicate times.")
        given = np.array(self.values, dtype=np.float64)  # None becomes nan
        gaps = ~np.isfinite(given)
        missing = int(gaps.sum())
        held = tuple(given.tolist())
        if missing:
            if missing != sum(value is None for value in self.values):
                raise BadInput(where, "holds a value that is not a number", "Remove that row.")
            held = tuple(None if gap else value for gap, value in zip(gaps, held, strict=True))
        known = np.where(gaps, 0.0, given)
        for name, value in (
            ("starts", starts),
            ("end", end),
            ("values", held),
            ("_edges", edges),
            ("_level", known),
            ("_area", np.concatenate(([0.0], np.cumsum(known * seconds)))),
            ("_gap", gaps.astype(np.float64)),
            ("_unknown", np.concatenate(([0.0], np.cumsum(gaps * seconds)))),
            ("_gaps", bool(missing)),
            ("_grid", edges.tobytes()),
        ):
            object.__setattr__(self, name, value)

    @property
    def start(self) -> datetime:
        """Start of the first interval."""
        return self.starts[0]

    @property
    def edges(self) -> _Floats:
        """All interval edges as POSIX seconds, shape ``(n + 1,)``."""
        return self._edges

    @property
    def grid(self) -> bytes:
        """What is equal where the edges of two series are."""
        return self._grid

    @property
    def known(self) -> tuple[float, ...]:
        """The values that are known."""
        return tuple(value for value in self.values if value is not None)

    @property
    def known_until(self) -> datetime:
        """End of the last interval whose value is known; the start where none is."""
        known = (
            place for place in range(len(self.values), 0, -1) if self.values[place - 1] is not None
        )
        return (*self.starts, self.end)[next(known, 0)]

    def told(self, *, notes: tuple[str, ...] | None = None, trust: float | None = None) -> Self:
        """Return the same numbers with other notes or trust; they are not checked once more."""
        same = copy(self)
        if notes is not None:
            object.__setattr__(same, "notes", notes)
        if trust is not None:
            object.__setattr__(same, "trust", trust)
        return same

    def covers(self, start: datetime, end: datetime) -> bool:
        """Tell whether the whole of a window is known."""
        return self._covers(start.timestamp(), end.timestamp())

    def _covers(self, begin: float, end: float) -> bool:
        if not self._edges[0] <= begin < end <= self._edges[-1] + _INSTANT:
            return False
        return not self._gaps or self._between(self._unknown, self._gap, begin, end) < _INSTANT

    def mean(self, start: datetime, end: datetime) -> float:
        """Return the time-weighted mean over a window.

        Raises:
            NoSignal: The window is not wholly covered.
        """
        found = self.mean_between(start.timestamp(), end.timestamp())
        if math.isnan(found):
            gaps = ", with gaps," if self._gaps else ""
            raise NoSignal(
                f"{self.source} has zone {self.zone} from {self.start:%Y-%m-%d %H:%M} to "
                f"{self.end:%Y-%m-%d %H:%M} UTC{gaps or ','} not {start:%Y-%m-%d %H:%M} to "
                f"{end:%Y-%m-%d %H:%M}. Use a source with a longer horizon or an earlier deadline."
            )
        return found

    def mean_between(self, begin: float, end: float) -> float:
        """Return the mean over a window in POSIX seconds; ``nan`` where it is not wholly known."""
        if not self._covers(begin, end):
            return math.nan
        return self._between(self._area, self._level, begin, end) / (end - begin)

    def _between(self, area: _Floats, level: _Floats, begin: float, end: float) -> float:
        """Return by how much an area grows over a window inside the series."""
        # By hand: for one window numpy takes longer to begin than to count.
        edges, last = self._edges, len(level)
        first = min(bisect_right(edges, begin), last) - 1
        after = min(bisect_right(edges, end, lo=first), last) - 1
        grown = area[after] - area[first]
        grown += level[after] * (end - edges[after]) - level[first] * (begin - edges[first])
        return float(grown)

    def means(self, starts: _Floats, seconds: float) -> _Floats:
        """Return the mean over ``[start, start + seconds)`` for each start.

        Args:
            starts: POSIX seconds, shape ``(n,)``.
            seconds: Window length, above zero.

        Returns:
            Means, shape ``(n,)``; ``nan`` where a window is not wholly known.
        """
        return self.means_at(self.locate(starts, seconds))

    def locate(self, starts: _Floats, seconds: float) -> Places:
        """Return where windows lie, as :meth:`means` takes them, on all series of this grid."""
        edges = self._edges
        points = np.array((starts, starts + seconds))
        place = np.clip(np.searchsorted(edges, points, side="right") - 1, 0, len(edges) - 2)
        inside = (starts >= edges[0]) & (points[1] <= edges[-1] + _INSTANT)
        return Places(place, points - edges[place], None if inside.all() else inside, seconds)

    def means_at(self, places: Places) -> _Floats:
        """Return the means over windows that were located on this grid, as :meth:`means`."""
        place, ahead, inside, seconds = places
        area = self._area[place] + self._level[place] * ahead
        means: _Floats = (area[1] - area[0]) / seconds
        if inside is not None:
            means[~inside] = np.nan
        if self._gaps:
            unknown = self._unknown[place] + self._gap[place] * ahead
            means[unknown[1] - unknown[0] >= _INSTANT] = np.nan
        return means

    def within(self, start: datetime, end: datetime) -> Self:
        """Return the part inside a window, cut at its edges.

        Raises:
            NoSignal: The window does not touch the series.
        """
        first = max(start, self.start)
        last = min(end, self.end)
        if first >= last:
            raise NoSignal(f"{self.source} has nothing for {self.zone} in this window")
        begin = int(np.searchsorted(self._edges, first.timestamp(), side="right")) - 1
        stop = int(np.searchsorted(self._edges, last.timestamp(), side="left"))
        return replace(
            self,
            starts=(first, *self.starts[begin + 1 : stop]),
            end=last,
            values=self.values[begin:stop],
        )

    def regridded(self, step: timedelta) -> Self:
        """Return the time-weighted means over the steps of the clock that lie inside.

        Args:
            step: Length of a step; steps begin at multiples of it since the POSIX epoch.

        Raises:
            NoSignal: No whole step lies inside.
        """
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        first, stop = -((epoch - self.start) // step), (self.end - epoch) // step
        if stop <= first:
            raise NoSignal(f"{self.source} has no whole {step} of {self.zone}")
        seconds = step.total_seconds()
        means = self.means(np.arange(first, stop, dtype=np.float64) * seconds, seconds)
        if self.known:  # rounding must not carry a mean beyond what is allowed
            means = np.clip(means, min(self.known), max(self.known))
        return replace(
            self,
            starts=[epoch + step * place for place in range(first, stop)],
            end=epoch + step * stop,
            values=[None if math.isnan(mean) else float(mean) for mean in means],
        )


@dataclass(frozen=True, eq=False)
class IntensitySeries(_Series):
    """Carbon intensity of a zone in gCO2e/kWh."""

    kind: Kind = field(kw_only=True)
    signal: Signal = field(default=Signal.AVERAGE, kw_only=True)
    accounting: Accounting = field(default=Accounting.LIFECYCLE, kw_only=True)

    unit = "gCO2e/kWh"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = self.known
        least, worst = min(known, default=0.0), max(known, default=0.0)
        if least < 0 or worst > MAX_PLAUSIBLE_G_PER_KWH:
            raise BadInput(
                f"IntensitySeries({self.zone})",
                f"values from {least:g} to {worst:g} cannot be carbon intensities in {self.unit}",
                f"Give values from 0 to {MAX_PLAUSIBLE_G_PER_KWH:g} {self.unit}.",
            )

    @property
    def family(self) -> tuple[Signal, Accounting, Kind]:
        """What must be equal before two series may be ranked against each other."""
        return (self.signal, self.accounting, self.kind)


@dataclass(frozen=True, eq=False)
class PriceSeries(_Series):
    """Electricity price of a zone per MWh; it may be negative.

    ``shown`` is whether the numbers may be displayed; some may only be used in a decision.
    """

    kind: Kind = field(kw_only=True)
    currency: str = field(kw_only=True)
    shown: bool = field(default=True, kw_only=True)

    @property
    def unit(self) -> str:
        """Return the unit, e.g. ``EUR/MWh``."""
        return f"{self.currency}/MWh"


def joined(pieces: Sequence[_S]) -> _S:
    """Return one series out of several of a zone, unknown between them.

    Args:
        pieces: In order of preference: where two overlap, the first one holds. Meaning and origin
            of the result are those of the first.
    """
    moments = {edge: moment for piece in pieces for edge, moment in _moments(piece)}
    edges = np.array(sorted(moments), dtype=np.float64)
    values = np.full(len(edges) - 1, np.nan)
    for piece in reversed(pieces):
        place = np.searchsorted(piece.edges, edges[:-1], side="right") - 1
        inside = (place >= 0) & (place < len(piece.values))
        said = np.array([*piece.values, None], dtype=np.float64)[np.where(inside, place, -1)]
        values = np.where(np.isnan(said), values, said)
    return replace(
        pieces[0],
        starts=[moments[edge] for edge in edges[:-1].tolist()],
        end=moments[float(edges[-1])],
        values=[None if math.isnan(value) else value for value in values.tolist()],
    )


def _moments(piece: _Series) -> Iterator[tuple[float, datetime]]:
    return zip(piece.edges.tolist(), (*piece.starts, piece.end), strict=True)


def regular(start: datetime, step: timedelta, count: int) -> tuple[tuple[datetime, ...], datetime]:
    """Return the starts and the end of ``count`` equal intervals."""
    return tuple(start + step * index for index in range(count)), start + step * count
