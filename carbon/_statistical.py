"""A statistical forecast out of what the grid has been: climatology plus a fading anomaly.

The typical hour of the day is the mean of the last weeks, recent days counting more. What the last
hour departs from it by is carried on and fades as such departures have faded: damped persistence of
the anomaly, an old reference forecast of meteorology (H. van den Dool, Empirical Methods in
Short-Term Climate Prediction, Oxford 2007). It knows sun and habits; of the wind it knows only that
it does not turn at once. Whether it is worth anything in a zone is for :mod:`carbon._trust` to say:
"the same as yesterday" is worse than doing nothing on windy grids, this was not on any of twelve.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._errors import NoSignal
from carbon._series import MAX_PLAUSIBLE_G_PER_KWH, IntensitySeries, Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

HOUR: Final = timedelta(hours=1)
HISTORY: Final = timedelta(days=60)
"""How far back it looks."""

_HOURS: Final = 24
_LEAST_DAYS: Final = 14
_HALF_LIFE_DAYS: Final = 14.0
_LEAST_KNOWN: Final = 0.75
_FASTEST, _SLOWEST = 0.0, 0.98
"""Bounds of what is left of an anomaly after an hour: at most half of it after 34 h."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def predict(history: Floats, hours: int) -> Floats | None:
    """Forecast the hours that follow a history.

    Args:
        history: Hourly values up to the present, shape ``(n,)``; ``nan`` where one is not known. It
            begins with the first that is.
        hours: How many hours to forecast.

    Returns:
        The forecast, shape ``(hours,)``; ``None`` for less than two weeks of history, or one with
        too many gaps.
    """
    heard = np.flatnonzero(np.isfinite(history))
    days = min((len(history) - heard[0]) // _HOURS, HISTORY.days) if len(heard) else 0
    if days < _LEAST_DAYS:
        return None
    past = history[len(history) - days * _HOURS :].reshape(days, _HOURS)
    known = np.isfinite(past)
    if known.mean() < _LEAST_KNOWN or not known.any(axis=0).all():
        return None
    weights = known * 0.5 ** (np.arange(days)[::-1] / _HALF_LIFE_DAYS)[:, None]
    typical = (np.where(known, past, 0.0) * weights).sum(axis=0) / weights.sum(axis=0)
    anomaly = (past - typical).ravel()
    last = int(np.flatnonzero(np.isfinite(anomaly))[-1])
    lead = np.arange(1, hours + 1)
    fading = _persistence(anomaly) ** (lead + len(anomaly) - 1 - last)
    values = typical[(lead - 1) % _HOURS] + anomaly[last] * fading
    return np.asarray(np.clip(values, 0.0, MAX_PLAUSIBLE_G_PER_KWH), np.float64)


def _persistence(anomaly: Floats) -> float:
    """Return what is left of an anomaly after an hour, by least squares."""
    before, after = anomaly[:-1], anomaly[1:]
    both = np.isfinite(before) & np.isfinite(after)
    energy = float((before[both] ** 2).sum())
    slope = float((before[both] * after[both]).sum()) / energy if energy else 0.0
    return min(max(slope, _FASTEST), _SLOWEST)


def hourly(series: IntensitySeries, first: datetime, stop: datetime) -> Floats:
    """Return a series' means over the clock hours of a window, ``nan`` where one is not known.

    Args:
        series: The series.
        first: Start of the window, at a full hour.
        stop: End of the window, at a full hour.
    """
    count = (stop - first) // HOUR
    starts = first.timestamp() + np.arange(count, dtype=np.float64) * HOUR.total_seconds()
    return series.means(starts, HOUR.total_seconds())


def full_hour(moment: datetime) -> datetime:
    """Return the start of the clock hour that a moment lies in."""
    return _EPOCH + (moment - _EPOCH) // HOUR * HOUR


def forecast(actual: IntensitySeries, now: datetime, end: datetime) -> IntensitySeries:
    """Forecast a zone out of its own actual values.

    Args:
        actual: What the grid has been, in the signal and accounting of the forecast; gaps are fine.
        now: When the forecast is issued; nothing later is looked at.
        end: Until when to forecast.

    Returns:
        Hourly values from the present hour on.

    Raises:
        NoSignal: There is too little history.
    """
    present = full_hour(now)
    hours = math.ceil((end - present) / HOUR)
    values = predict(hourly(actual, present - HISTORY, present), hours)
    if values is None:
        raise NoSignal(
            f"{actual.source} has less than {_LEAST_DAYS} days of {actual.zone} in store"
        )
    return IntensitySeries(
        actual.zone,
        [present + HOUR * index for index in range(hours)],
        present + HOUR * hours,
        values.tolist(),
        f"statistical forecast from the last {HISTORY.days} days of {actual.source}",
        kind=Kind.FORECAST,
        signal=actual.signal,
        accounting=actual.accounting,
        issued_at=now,
    )
