"""Earned trust: what forecasts have been worth in a zone, and how far they are off.

Out of the scores of the last weeks (:mod:`carbon._score`) comes a :class:`Trust`: whether the
forecast may choose a time here at all, by how much it is usually off at each hour of the day, how
much of what it tells beyond the typical day comes true, and how sure the mean over a job's window
is.

A forecast that swings more than the grid is worst where it looks best: its least hour is the one
with the largest error. So what is believed is the conditional mean, as model output statistics have
it: the typical day, and that part of the departure from it that has proved true, never more than
all of it (``benchmarks/uncertainty.py`` shows what that is worth).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from carbon._score import JOB_HOURS, LEADS, Score
from carbon._series import MAX_PLAUSIBLE_G_PER_KWH, IntensitySeries
from carbon._statistical import HOUR, HOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_LEAST_DAYS: Final = 14
_WINDOW: Final = timedelta(days=60)
_SHRINK: Final = 10.0
"""A mean error of n days is believed to n / (n + 10): a few days prove no bias."""

_QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
_NORMAL: Final = (-1.645, -0.674, 0.0, 0.674, 1.645)


class Trust(BaseModel):
    """What forecasts of one source have been worth in one zone.

    Attributes:
        days: Days on which an issue was scored.
        saved_percent: Emissions of the reference job saved against starting it at once.
        possible_percent: The same with perfect foresight.
        surplus_percent: The saving less its standard error: what is safe to expect; 0 while that
            rests on too few days.
        bias: Usual error by hour of the UTC day, gCO2e/kWh, shrunk to what is proven.
        deviation: Standard deviation of what is left of the error, by bucket of hours ahead.
        correlation: Of the errors of neighbouring hours.
        spread: Quantiles (5, 25, 50, 75, 95 %) of the error of the mean over the reference job, in
            units of what deviation and correlation say.
        share: How much of the usual error there is in a forecast, by bucket of hours ahead, 0 to 1:
            what is said of the next hour often knows better than to err as usual.
        typical: The typical day by UTC hour, gCO2e/kWh; empty where nothing hangs on it.
        kept: How much of a forecast's departure from it comes true, 0 to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: int
    saved_percent: float
    possible_percent: float
    surplus_percent: float
    bias: tuple[float, ...]
    deviation: tuple[float, ...]
    correlation: float
    spread: tuple[float, ...]
    share: tuple[float, ...] = (1.0,) * len(LEADS)
    typical: tuple[float, ...] = ()
    kept: float = 1.0

    @property
    def proven(self) -> bool:
        """Whether enough days were scored to say anything."""
        return self.days >= _LEAST_DAYS

    @property
    def judged(self) -> bool:
        """Whether it could be seen what it saves: short forecasts and flat grids save nothing."""
        return self.proven and self.possible_percent > 0

    @property
    def earned(self) -> bool:
        """Whether it has beaten starting at once, by more than its standard error."""
        return self.proven and self.surplus_percent > 0

    @property
    def captured(self) -> float:
        """Part of the possible saving that it got, 0 to 1."""
        if self.possible_percent <= 0:
            return 0.0
        return min(1.0, max(0.0, self.saved_percent / self.possible_percent))

    def corrected(self, series: IntensitySeries) -> IntensitySeries:
        """Return what a forecast lets expect: less its usual error, and as far as it comes true."""
        issued_at = series.issued_at or series.fetched_at or series.start
        values = [
            None
            if value is None
            else min(max(0.0, self._expected(value, start, issued_at)), MAX_PLAUSIBLE_G_PER_KWH)
            for start, value in zip(series.starts, series.values, strict=True)
        ]
        return replace(series, values=values)

    def _expected(self, value: float, moment: datetime, issued_at: datetime) -> float:
        told = value + self.usual_error(moment, issued_at)
        if not self.typical:
            return told
        typical = self.typical[moment.hour]
        return typical + (told - typical) * self.kept

    def usual_error(self, moment: datetime, issued_at: datetime) -> float:
        """Return what is usually missing in a forecast of a moment, in g/kWh."""
        return self.bias[moment.hour] * self.share[_bucket(_ahead(moment, issued_at) + 1)]

    def interval(
        self, series: IntensitySeries, now: datetime, start: datetime, end: datetime
    ) -> tuple[float, float, float]:
        """Return the 5 %, 50 % and 95 % quantile of the mean over a window.

        Args:
            series: A corrected forecast.
            now: When it was issued; errors grow with the time ahead.
            start: Start of the window.
            end: End of the window.

        Raises:
            NoSignal: The window is not wholly known.
        """
        mean = series.mean(start, end)
        first = max(0, (start - now) // HOUR)
        hours = max(1, math.ceil((end - start) / HOUR))
        width = self.width(np.arange(first, first + hours))
        return tuple(  # type: ignore[return-value]  # three of them
            max(0.0, mean + width * self.spread[place]) for place in (0, 2, 4)
        )

    def width(self, leads: NDArray[np.int64]) -> float:
        """Return the standard deviation of the mean error over some hours.

        Args:
            leads: The hours, as whole hours ahead, shape ``(n,)``.
        """
        deviation = np.array([self.deviation[_bucket(int(lead) + 1)] for lead in leads])
        apart = np.abs(leads[:, None] - leads[None, :])
        covariance = deviation[:, None] * deviation[None, :] * self.correlation**apart
        return float(np.sqrt(covariance.mean()))


def _ahead(moment: datetime, issued_at: datetime) -> int:
    return max(0, (moment - issued_at) // HOUR)


def _bucket(hours_ahead: int) -> int:
    return next((place for place, last in enumerate(LEADS) if hours_ahead <= last), -1)


def trust(scores: Sequence[Score], now: datetime, typical: Floats | None = None) -> Trust | None:
    """Return what the scores of the last weeks say; ``None`` without any.

    Args:
        scores: Of the issues of one method.
        now: The present moment.
        typical: The typical day by UTC hour, if it is known.
    """
    recent = [one for one in scores if now - _WINDOW <= one.issued_at <= now]
    if not recent:
        return None
    errors = _table([one.errors for one in recent])
    departures = _table([one.departures for one in recent])
    hours = np.array([one.issued_at.astimezone(UTC).hour for one in recent])
    hour_of_day = (hours[:, None] + np.arange(errors.shape[1])) % HOURS
    day = np.array([one.issued_at.toordinal() for one in recent])
    day -= day.min()
    days = len(np.unique(day))
    bias = _bias(errors, hour_of_day, days)
    usual = bias[hour_of_day]
    share = _share(errors, usual)
    usual = usual * _by_lead(share)
    left, departures = errors - usual, departures + usual
    kept = _kept(left, departures, day) if typical is not None else 1.0
    left = left + np.nan_to_num(departures * (1 - kept))
    deviation, correlation = _deviation(left), _correlation(left)
    saved, possible, surplus = _saving(recent)
    draft = Trust(
        days=days,
        saved_percent=saved,
        possible_percent=possible,
        surplus_percent=surplus,
        bias=tuple(bias.tolist()),
        share=share,
        typical=() if typical is None or kept == 1.0 else tuple(typical.tolist()),
        kept=kept,
        deviation=deviation,
        correlation=correlation,
        spread=_NORMAL,
    )
    return draft.model_copy(update={"spread": _spread(left, draft)})


def _table(rows: Sequence[tuple[float | None, ...]]) -> Floats:
    table = np.full((len(rows), LEADS[-1]), np.nan)
    for place, row in enumerate(rows):
        table[place, : len(row)] = [np.nan if value is None else value for value in row]
    return table


def _by_lead(buckets: tuple[float, ...]) -> Floats:
    return np.repeat(np.array(buckets), np.diff((0, *LEADS)))


def _bias(errors: Floats, hour_of_day: NDArray[np.int64], days: int) -> Floats:
    """Return the mean error by hour of the day over the first day ahead, shrunk."""
    bias = np.zeros(HOURS)
    near = errors[:, :HOURS]
    for hour in range(HOURS):
        found = near[(hour_of_day[:, :HOURS] == hour) & np.isfinite(near)]
        if len(found):
            bias[hour] = found.mean() * days / (days + _SHRINK)
    return bias


def _share(errors: Floats, usual: Floats) -> tuple[float, ...]:
    """Return how much of the usual error there is in the errors of each bucket of leads."""
    found = []
    for part, bias in zip(
        *(np.split(all_, LEADS[:-1], axis=1) for all_ in (errors, usual)), strict=True
    ):
        known = np.isfinite(part)
        energy = float((bias[known] ** 2).sum())
        slope = float((part[known] * bias[known]).sum()) / energy if energy else 1.0
        found.append(min(max(slope, 0.0), 1.0))
    return tuple(found)


def _kept(left: Floats, departures: Floats, day: NDArray[np.int64]) -> float:
    """Return how much of the departures comes true, 0 to 1.

    By least squares, and as much more as is not proven, by its standard error over days. Never more
    than all of it: to stretch PJM's timid forecasts of 2021 by the slope of their past cost 1.8
    (standard error 0.7) points of the possible saving, and won nothing in Germany and California.
    """
    known = np.isfinite(left) & np.isfinite(departures)
    error, told = np.where(known, left, 0.0), np.where(known, departures, 0.0)
    energy = float((told**2).sum())
    if not energy:
        return 1.0
    slope = float((error * told).sum()) / energy
    # By day: the issues of one day share its weather, and would feign certainty.
    by_day = np.bincount(day, ((error - slope * told) * told).sum(axis=1))
    unsure = float(np.sqrt((by_day**2).sum())) / energy
    return min(max(1 + slope + unsure, 0.0), 1.0)


def _deviation(left: Floats) -> tuple[float, ...]:
    """Return the standard deviation by bucket of leads.

    An empty bucket takes the one before, and the first ones take the next: many a forecast begins
    an hour after it was issued, which makes that hour no surer.
    """
    parts = (part[np.isfinite(part)] for part in np.split(left, LEADS[:-1], axis=1))
    found = [float(np.sqrt((part**2).mean())) if len(part) else None for part in parts]
    before = next((value for value in found if value is not None), 0.0)
    told = []
    for value in found:
        before = before if value is None else value
        told.append(before)
    return tuple(told)


def _correlation(left: Floats) -> float:
    before, after = left[:, :-1].ravel(), left[:, 1:].ravel()
    both = np.isfinite(before) & np.isfinite(after)
    energy = float(np.sqrt((before[both] ** 2).sum() * (after[both] ** 2).sum()))
    return (
        min(max(float((before[both] * after[both]).sum()) / energy, 0.0), 0.99) if energy else 0.0
    )


def _saving(scores: Sequence[Score]) -> tuple[float, float, float]:
    """Return saving, possible saving, and saving less its standard error, in percent.

    Days whose reference job is not known whole do not count; a few that do prove nothing.
    """
    by_day: defaultdict[object, list[tuple[float, float, float]]] = defaultdict(list)
    for one in scores:
        if one.at_once is not None and one.best is not None and one.chosen is not None:
            by_day[one.issued_at.date()].append((one.at_once, one.best, one.chosen))
    if not by_day:
        return 0.0, 0.0, 0.0
    # By day: jobs of one day share its weather, and would feign certainty.
    table = np.array([np.mean(rows, axis=0) for rows in by_day.values()])
    at_once, best, chosen = table.T
    level = float(at_once.mean()) or 1.0
    saving = at_once - chosen
    percent, mean, surplus = 100 / level, float(saving.mean()), 0.0
    if len(saving) >= _LEAST_DAYS:
        surplus = (mean - float(saving.std(ddof=1) / np.sqrt(len(saving)))) * percent
    return mean * percent, float((at_once - best).mean()) * percent, surplus


def _spread(left: Floats, draft: Trust) -> tuple[float, ...]:
    """Return quantiles of the error of a job's mean, in units of what the model says."""
    found: list[float] = []
    for begin in range(0, left.shape[1] - JOB_HOURS + 1, JOB_HOURS):
        means = left[:, begin : begin + JOB_HOURS].mean(axis=1)
        width = draft.width(np.arange(begin, begin + JOB_HOURS))
        if width > 0:
            found += (means[np.isfinite(means)] / width).tolist()
    if len(found) < _LEAST_DAYS:
        return _NORMAL
    return tuple(float(value) for value in np.quantile(found, _QUANTILES))
