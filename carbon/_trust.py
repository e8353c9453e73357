"""Earned trust: what forecasts have been worth in a zone, and how far they are off.

Each issue of a forecast is scored once the hours that it speaks of are over: its error in each
hour ahead, and what it would have saved on a reference job (4 h of work, a day of slack) against
starting that job at once. Out of the scores of the last weeks comes a :class:`Trust`: whether the
forecast may choose a time here at all, by how much it is usually off at each hour of the day, and
how sure the mean over a job's window is.

Only scores are kept, not the numbers of a provider, so they may be kept for as long as they serve.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from carbon._series import MAX_PLAUSIBLE_G_PER_KWH, IntensitySeries
from carbon._statistical import HOUR, full_hour, hourly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carbon._statistical import Climate

    Floats = NDArray[np.float64]

JOB: Final = timedelta(hours=4)
SLACK: Final = timedelta(hours=24)
"""The reference job, and how much later it may start."""

_JOB_HOURS: Final = JOB // HOUR
_SLACK_HOURS: Final = SLACK // HOUR
_LEAST_SLACK: Final = 4
_DAY_HOURS: Final = 24
_LEAST_DAYS: Final = 14
_WINDOW: Final = timedelta(days=60)
_LEADS: Final = (1, 3, 6, 12, 24, 48)
"""Hours ahead at which a bucket of leads ends; longer leads count to the last."""

_SHRINK: Final = 10.0
"""A mean error of n days is believed to n / (n + 10): a few days prove no bias."""

_HINDCASTS: Final = (1, 7, 13, 19)
"""Hours of a day at which a forecast of that day is scored."""

_QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
_NORMAL: Final = (-1.645, -0.674, 0.0, 0.674, 1.645)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(_Frozen):
    """What one issue of a forecast was worth.

    Attributes:
        issued_at: Start of the first hour that it was scored on.
        errors: Actual less forecast in gCO2e/kWh by hour ahead; ``None`` where one is not known.
        at_once: Mean intensity of the reference job started at once; ``None`` without a whole one.
        best: The same started at the best moment.
        chosen: The same started where the forecast said.
    """

    issued_at: datetime
    errors: tuple[float | None, ...]
    at_once: float | None = None
    best: float | None = None
    chosen: float | None = None


class Trust(_Frozen):
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
    """

    days: int
    saved_percent: float
    possible_percent: float
    surplus_percent: float
    bias: tuple[float, ...]
    deviation: tuple[float, ...]
    correlation: float
    spread: tuple[float, ...]
    share: tuple[float, ...] = (1.0,) * len(_LEADS)

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
        """Return a forecast less its usual error at each hour of the day."""
        issued_at = series.issued_at or series.fetched_at or series.start
        values = [
            None
            if value is None
            else min(max(0.0, value + self.usual_error(start, issued_at)), MAX_PLAUSIBLE_G_PER_KWH)
            for start, value in zip(series.starts, series.values, strict=True)
        ]
        return replace(series, values=values)

    def usual_error(self, moment: datetime, issued_at: datetime) -> float:
        """Return what is usually missing in a forecast of a moment, in g/kWh."""
        ahead = max(0, (moment - issued_at) // HOUR)
        return self.bias[moment.hour] * self.share[_bucket(ahead + 1)]

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


def _bucket(hours_ahead: int) -> int:
    return next((place for place, last in enumerate(_LEADS) if hours_ahead <= last), -1)


def score(believed: Floats, actual: Floats, issued_at: datetime) -> Score | None:
    """Score an issue against what came.

    Args:
        believed: Hourly forecast from ``issued_at`` on; ``nan`` where there is none.
        actual: Hourly actual values of the same hours.
        issued_at: Start of the first hour.

    Returns:
        The score; ``None`` when there is no hour to compare.
    """
    count = min(len(believed), len(actual), _LEADS[-1])
    errors = actual[:count] - believed[:count]
    if not np.isfinite(errors).any():
        return None
    told = tuple(None if math.isnan(error) else round(float(error), 3) for error in errors)
    kernel = np.ones(_JOB_HOURS) / _JOB_HOURS
    if count < _JOB_HOURS + _LEAST_SLACK:
        return Score(issued_at=issued_at, errors=told)
    seen, real = (
        np.convolve(values[:count], kernel, "valid")[: _SLACK_HOURS + 1]
        for values in (believed, actual)
    )
    if not (np.isfinite(seen[0]) and np.isfinite(real).all()):
        return Score(issued_at=issued_at, errors=told)
    return Score(
        issued_at=issued_at,
        errors=told,
        at_once=float(real[0]),
        best=float(real.min()),
        chosen=float(real[int(np.nanargmin(seen))]),
    )


def hour_after(moment: datetime) -> datetime:
    """Return the first full hour from a moment on: an issue is scored from there."""
    hour = full_hour(moment)
    return hour + HOUR if hour < moment else hour


def score_series(
    forecast: IntensitySeries, actual: IntensitySeries, issued_at: datetime
) -> Score | None:
    """Score a stored issue from the first full hour after it was issued; see :func:`score`."""
    first = hour_after(issued_at)
    stop = min(first + HOUR * _LEADS[-1], full_hour(min(forecast.end, actual.end)))
    if stop <= first:
        return None
    return score(hourly(forecast, first, stop), hourly(actual, first, stop), first)


def hindcast(climate: Climate, values: Floats) -> list[Score]:
    """Score the statistical forecast as if it had been issued on a day that is over.

    Args:
        climate: What was usual when the day began.
        values: Hourly actual values of that day and the next, ``nan`` where one is not known.

    Returns:
        Scores of issues six hours apart; none with too little in the climate.
    """
    found, ahead = [], _SLACK_HOURS + _JOB_HOURS
    for hour in _HINDCASTS:
        believed = climate.predict(values[:hour], hour, ahead)
        if believed is None:
            return []
        made = score(believed, values[hour : hour + ahead], climate.until + HOUR * hour)
        found += [made] if made else []
    return found


def trust(scores: Sequence[Score], now: datetime) -> Trust | None:
    """Return what the scores of the last weeks say; ``None`` without any."""
    recent = [one for one in scores if now - _WINDOW <= one.issued_at <= now]
    if not recent:
        return None
    errors = np.full((len(recent), _LEADS[-1]), np.nan)
    for place, one in enumerate(recent):
        errors[place, : len(one.errors)] = [np.nan if e is None else e for e in one.errors]
    hours = np.array([one.issued_at.astimezone(UTC).hour for one in recent])
    hour_of_day = (hours[:, None] + np.arange(errors.shape[1])) % _DAY_HOURS
    days = len({one.issued_at.date() for one in recent})
    bias = _bias(errors, hour_of_day, days)
    usual = bias[hour_of_day]
    share = _share(errors, usual)
    left = errors - usual * np.repeat(share, np.diff((0, *_LEADS)))
    deviation, correlation = _deviation(left), _correlation(left)
    saved, possible, surplus = _saving(recent)
    draft = Trust(
        days=days,
        saved_percent=saved,
        possible_percent=possible,
        surplus_percent=surplus,
        bias=tuple(bias.tolist()),
        share=share,
        deviation=deviation,
        correlation=correlation,
        spread=_NORMAL,
    )
    return draft.model_copy(update={"spread": _spread(left, draft)})


def _bias(errors: Floats, hour_of_day: NDArray[np.int64], days: int) -> Floats:
    """Return the mean error by hour of the day over the first day ahead, shrunk."""
    bias = np.zeros(_DAY_HOURS)
    near = errors[:, :_DAY_HOURS]
    for hour in range(_DAY_HOURS):
        found = near[(hour_of_day[:, :_DAY_HOURS] == hour) & np.isfinite(near)]
        if len(found):
            bias[hour] = found.mean() * days / (days + _SHRINK)
    return bias


def _share(errors: Floats, usual: Floats) -> tuple[float, ...]:
    """Return how much of the usual error there is in the errors of each bucket of leads."""
    found = []
    for part, bias in zip(
        *(np.split(all_, _LEADS[:-1], axis=1) for all_ in (errors, usual)), strict=True
    ):
        known = np.isfinite(part)
        energy = float((bias[known] ** 2).sum())
        slope = float((part[known] * bias[known]).sum()) / energy if energy else 1.0
        found.append(min(max(slope, 0.0), 1.0))
    return tuple(found)


def _deviation(left: Floats) -> tuple[float, ...]:
    """Return the standard deviation by bucket of leads.

    An empty bucket takes the one before, and the first ones take the next: many a forecast begins
    an hour after it was issued, which makes that hour no surer.
    """
    parts = (part[np.isfinite(part)] for part in np.split(left, _LEADS[:-1], axis=1))
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
    for begin in range(0, left.shape[1] - _JOB_HOURS + 1, _JOB_HOURS):
        means = left[:, begin : begin + _JOB_HOURS].mean(axis=1)
        width = draft.width(np.arange(begin, begin + _JOB_HOURS))
        if width > 0:
            found += (means[np.isfinite(means)] / width).tolist()
    if len(found) < _LEAST_DAYS:
        return _NORMAL
    return tuple(float(value) for value in np.quantile(found, _QUANTILES))
