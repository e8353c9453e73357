"""What the quality gates of intensities and of prices share: a series as arrays, and two rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np

from carbon._findings import Fault, Finding
from carbon._series import IntensitySeries, PriceSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

HOUR: Final = 3600.0
_DAY: Final = timedelta(days=1)
_COPIED_FROM: Final = timedelta(hours=8)
_COPIED_VALUES: Final = 6
"""A day is a copy from so many hours in a row with so many different values on. Rounded to whole
grams, real ones have up to 6 hours in common with the day before, or 14 hours of three values."""

_LEAST_LEFT: Final = 0.5

S = TypeVar("S", bound=IntensitySeries | PriceSeries)


class Looked(Generic[S]):
    """A series as arrays; rules mark the values that they do not believe.

    Attributes:
        series: The series as it was sent.
        values: Its values, ``nan`` where one is not known.
        hours: Length of each interval.
        refused: The values that are not believed.
    """

    def __init__(self, series: S) -> None:
        self.series: S = series
        self.values: Floats = np.array(
            [np.nan if value is None else value for value in series.values], dtype=np.float64
        )
        self.hours: Floats = np.diff(series.edges) / HOUR
        self.refused: Flags = np.zeros(len(self.values), dtype=np.bool_)

    def refuse(self, mask: Flags, fault: Fault, words: str) -> Finding | None:
        """Refuse values and say how many hours of them there are."""
        if not mask.any():
            return None
        self.refused |= mask
        first = self.series.starts[int(np.flatnonzero(mask)[0])]
        hours = float(self.hours[mask].sum())
        return Finding(fault=fault, text=f"{words} ({hours:g} h from {first:%a %d %b %H:%M} UTC)")

    def believed(self) -> S:
        """Return the series with the refused values unknown."""
        if not self.refused.any():
            return self.series
        values = [
            None if refused else value
            for value, refused in zip(self.series.values, self.refused, strict=True)
        ]
        return replace(self.series, values=values)

    def runs(self, mask: Flags) -> list[tuple[int, int]]:
        """Return the runs of a mask as half-open index pairs."""
        padded = np.concatenate(([False], mask, [False]))
        edges = np.flatnonzero(padded[1:] != padded[:-1])
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))

    def long(self, mask: Flags, least: timedelta) -> Flags:
        """Return the runs of a mask that last so long."""
        kept = np.zeros_like(mask)
        for first, stop in self.runs(mask):
            if self.hours[first:stop].sum() * HOUR >= least.total_seconds():
                kept[first:stop] = True
        return kept

    def copied(self) -> Flags:
        """Return the values that are those of the day before once more, digit by digit."""
        copied = np.zeros_like(self.refused)
        before = self.day_before()
        if before is None:
            return copied
        same = self.values == before
        unsure = np.isnan(self.values) | np.isnan(before)
        for first, stop in self.runs(same | unsure):
            part = np.flatnonzero(same[first:stop]) + first
            long = self.hours[part].sum() * HOUR >= _COPIED_FROM.total_seconds()
            if long and len(np.unique(self.values[part])) >= _COPIED_VALUES:
                copied[part] = True
        return copied

    def day_before(self) -> Floats | None:
        """Return the values a day earlier at each interval's start; ``nan`` where none is known."""
        series = self.series
        if series.end - series.start <= _DAY:
            return None
        known = dict(zip((at + _DAY for at in series.starts), series.values, strict=True))
        found = [known.get(moment) for moment in series.starts]
        return np.array([np.nan if value is None else value for value in found], dtype=np.float64)


def left(believed: IntensitySeries | PriceSeries, now: datetime, until: datetime) -> list[Finding]:
    """Tell how much of the time ahead is known; that it begins with the next step is usual."""
    start = max(now, believed.start)
    if until <= start:
        text = "it says nothing about the time ahead"
        return [Finding(fault=Fault.TOO_LITTLE, text=text, rejects=True)]
    hours = np.diff(np.clip(believed.edges, start.timestamp(), until.timestamp())) / HOUR
    unknown = np.array([value is None for value in believed.values])
    late = (start - now).total_seconds() / HOUR
    late = late if late > 1 else 0.0
    missing = float(hours[unknown].sum()) + late
    part = 1 - missing / (float(hours.sum()) + late)
    if part < _LEAST_LEFT:
        text = f"only {part:.0%} of the time ahead is believed"
        return [Finding(fault=Fault.TOO_LITTLE, text=text, rejects=True)]
    if missing:
        text = f"{round(missing, 1):g} h of the time ahead are not known"
        return [Finding(fault=Fault.GAPS, text=text)]
    return []


def short(end: datetime, asked: datetime) -> list[Finding]:
    """Tell whether a series ends before the time that was asked for."""
    if end >= asked - timedelta(minutes=1):
        return []
    text = f"known until {end:%a %d %b %H:%M} UTC only"
    return [Finding(fault=Fault.SHORT, text=text)]
