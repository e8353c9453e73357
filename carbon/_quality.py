"""The quality gate: what a provider sent is looked at before it is believed.

::

    checked = inspect(series, now=now, asked=end, norm=norm)
    checked.series       # without the values that are not believed; None if nothing is left
    checked.findings     # each with a name and a sentence

Providers have been seen to send zeros for ten hours, one value for a day, single low slots that
never happened, half the horizon, yesterday instead of tomorrow, and another country's numbers. A
value that is not believed becomes unknown; none is ever replaced. How often each rule catches a
fault, and how often it cries wolf, is measured by ``benchmarks/quality.py`` on real grids.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._findings import Fault, Finding, Inspected, Norm
from carbon._looked import HOUR, Looked, left, short
from carbon._provider import whole_of
from carbon._series import Accounting, IntensitySeries, Signal
from carbon._typical import zones

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


_LONGEST_GLITCH: Final = timedelta(hours=1)
_MOST_IN_GLITCH: Final = 60
_GLITCH_PART: Final = 0.2
_GLITCH_G: Final = 12.0
"""A glitch goes down or up by this part of the level, and by this many g/kWh, and comes back. On 15
real series no hour in 700 does (Sweden, at 23 g/kWh, is what the second number is for)."""

_FROZEN: Final = timedelta(hours=6)
_FROZEN_LOW: Final = timedelta(hours=48)
_LOW_G: Final = 60.0
"""Below this a value that was rounded to whole grams may well stand for a day and more: Norway,
Quebec; Sweden's year has stretches of 33 and 38 hours."""

_STALE: Final = timedelta(hours=6)
_DEAD: Final = timedelta(hours=36)
_SAME_VALUES: Final = 12
"""Two zones have one body from so many values in common on."""

_FAR_OUT: Final = 1.6
"""A value is out of range beyond this factor of the highest, or of one over the lowest, seen."""

_OTHER_LEVEL: Final = 6.0
"""Without a history: a mean that is off by this factor from the published one is another zone's."""

_OTHER_UNIT: Final = 10.0
"""A value that is below a tenth of the lowest seen is in another unit, also on the cleanest grids,
where the margin of some g/kWh is as large as the values."""

_ZERO_G: Final = 0.01
_MOST_OUT: Final = 0.25
"""From this part out of range on it is the unit or the level, and the rest is no better."""

_NORM_DAYS: Final = 14.0
"""Days of history below which a zone's range says nothing: of real two-day windows 1 in 100 leaves
the range of a week, 1 in 230 that of two weeks, none in 1,400 that of three."""


def inspect(
    series: IntensitySeries,
    *,
    now: datetime,
    asked: datetime,
    norm: Norm | None = None,
    others: Iterable[IntensitySeries] = (),
) -> Inspected[IntensitySeries]:
    """Look at a forecast before it is believed.

    Args:
        series: What a provider sent, or what was stored of it.
        now: The present moment.
        asked: Until when it was asked for.
        norm: What the zone's intensity has been, if that is known.
        others: What the same provider sent for other zones.

    Returns:
        What is believed of it, and what was found.
    """
    norm = _telling(norm)
    looked = _Looked(series, norm)
    findings = [finding for rule in _RULES if (finding := rule(looked))]
    findings += _about_the_whole(series, now, asked, norm, others)
    believed = looked.believed()
    if not any(finding.rejects for finding in findings):
        findings += left(believed, now, min(asked, series.end))
    rejected = any(finding.rejects for finding in findings)
    return Inspected(None if rejected else believed, tuple(findings))


def sound(series: IntensitySeries, norm: Norm | None = None) -> IntensitySeries:
    """Return actual values without those that no grid has, or this one never had.

    Zeros, a feed that stood still, and what is far out of the zone's range: learned from, a wrong
    unit would be taken for the forecast's error, and would widen the range that it is judged by.
    """
    looked = _Looked(series, _telling(norm))
    _zeros(looked)
    _frozen(looked)
    _out_of_range(looked)
    return looked.believed()


def _telling(norm: Norm | None) -> Norm | None:
    """Return a range that enough days are known of."""
    return norm if norm is not None and norm.days >= _NORM_DAYS else None


class _Looked(Looked[IntensitySeries]):
    """An intensity with what the zone has been at."""

    def __init__(self, series: IntensitySeries, norm: Norm | None) -> None:
        super().__init__(series)
        self.norm = norm


def _zeros(looked: _Looked) -> Finding | None:
    """No lifecycle intensity is zero; a direct one may be for a while, where it has been before."""
    zero = looked.values < _ZERO_G
    if looked.series.accounting is not Accounting.LIFECYCLE:
        usual = looked.norm is not None and looked.norm.least <= 1
        zero &= False if usual else looked.long(zero, timedelta(hours=3))
    return looked.refuse(zero, Fault.ZEROS, "zero, which is no intensity of this grid")


def _frozen(looked: _Looked) -> Finding | None:
    """The same value for hours: a feed that stands still."""
    same = np.zeros(len(looked.values), dtype=np.bool_)
    equal = np.diff(looked.values) == 0
    for first, stop in looked.runs(equal):
        level = looked.values[first]
        rounded = level < _LOW_G and float(level).is_integer()
        limit = _FROZEN_LOW if rounded else _FROZEN
        if level > 0 and looked.hours[first : stop + 1].sum() * HOUR >= limit.total_seconds():
            same[first : stop + 1] = True
    return looked.refuse(same, Fault.FROZEN, "the same value all along")


def _glitch(looked: _Looked) -> Finding | None:
    """A leap of at most an hour that comes back: a minimiser would pick the phantom dip."""
    values, edges = looked.values, looked.series.edges
    marked = np.zeros(len(values), dtype=np.bool_)
    for length in range(1, min(len(values) - 2, _MOST_IN_GLITCH) + 1):
        short = edges[1 + length : -1] - edges[1 : -1 - length] <= _LONGEST_GLITCH.total_seconds()
        if not short.any():
            break
        # One row for each place: the value before, those of the leap, the value after it.
        rows = np.lib.stride_tricks.sliding_window_view(values, length + 2)
        before, inside, after = rows[:, :1], rows[:, 1:-1], rows[:, -1:]
        low, high = np.minimum(before, after), np.maximum(before, after)
        leap = np.maximum(_GLITCH_PART * (low + high) / 2, _GLITCH_G)
        row, place = np.nonzero(((inside < low - leap) | (inside > high + leap)) & short[:, None])
        marked[row + place + 1] = True
    return looked.refuse(marked, Fault.GLITCH, "a leap that comes back within the hour")


def _out_of_range(looked: _Looked) -> Finding | None:
    """Far beyond anything that the zone has been seen at."""
    norm = looked.norm
    if norm is None:
        return None
    least = max(norm.least / _FAR_OUT - _GLITCH_G, norm.least / _OTHER_UNIT)
    out = (looked.values > norm.most * _FAR_OUT + _GLITCH_G) | (looked.values < least)
    out &= ~looked.refused
    words = f"outside of what the zone has been at ({norm.least:.0f} to {norm.most:.0f} g/kWh)"
    finding = looked.refuse(out, Fault.OUT_OF_RANGE, words)
    known = looked.hours[np.isfinite(looked.values)].sum()
    rejects = bool(looked.hours[out].sum() >= _MOST_OUT * known)
    return finding and finding.model_copy(update={"rejects": rejects})


def _copied_day(looked: _Looked) -> Finding | None:
    """Tomorrow is today once more, digit by digit."""
    words = "the day before once more, digit by digit"
    return looked.refuse(looked.copied(), Fault.COPIED_DAY, words)


_RULES: Final[Sequence[Callable[[_Looked], Finding | None]]] = (
    _zeros,
    _frozen,
    _glitch,
    _out_of_range,
    _copied_day,
)


def _about_the_whole(
    series: IntensitySeries,
    now: datetime,
    asked: datetime,
    norm: Norm | None,
    others: Iterable[IntensitySeries],
) -> list[Finding]:
    found: list[Finding] = []
    for other in others:
        if _is_same(series, other):
            text = f"digit by digit what the provider sent for {other.zone}"
            found.append(Finding(fault=Fault.OTHER_ZONE, text=text, rejects=True))
            break
    if finding := _level(series, norm):
        found.append(finding)
    age = now - (series.issued_at or series.fetched_at or now)
    if age >= _STALE:
        text = f"{age.total_seconds() / HOUR:.0f} h old"
        found.append(Finding(fault=Fault.STALE, text=text, rejects=age >= _DEAD))
    return found + short(series.end, asked)


def _is_same(series: IntensitySeries, other: IntensitySeries) -> bool:
    """Tell whether two zones have one body, where both say something.

    Zones may share what a source says of a whole that both are parts of.
    """
    if other.zone == series.zone:
        return False
    if other.source == series.source and whole_of(series.source) is not None:
        return False
    told = dict(zip(other.starts, other.values, strict=True))
    common: list[float] = []
    for start, value in zip(series.starts, series.values, strict=True):
        theirs = told.get(start)
        if value is None or theirs is None:
            continue
        if value != theirs:
            return False
        common.append(value)
    return len(common) >= _SAME_VALUES and len(set(common)) > len(common) / 4


def _level(series: IntensitySeries, norm: Norm | None) -> Finding | None:
    """Compare with the published mean of the zone, where nothing better is known."""
    published = zones().get(series.zone)
    comparable = series.signal is Signal.AVERAGE and series.accounting is Accounting.LIFECYCLE
    if norm is not None or published is None or not comparable or not series.known:
        return None
    mean, usual = float(np.mean(series.known)), published.level.g_per_kwh
    least = max(usual / _OTHER_LEVEL - _GLITCH_G, usual / _OTHER_UNIT)
    if least <= mean <= usual * _OTHER_LEVEL + _GLITCH_G:
        return None
    text = f"{mean:.0f} g/kWh on average, where the zone's published mean is {usual:.0f}"
    return Finding(fault=Fault.LEVEL, text=text, rejects=True)
