"""Scores: what each issue of a forecast was worth.

Each is scored once the hours that it speaks of are over: its error in each hour ahead, and what it
would have saved on a reference job (4 h of work, a day of slack) against starting that job at once.

Only scores are kept, not the numbers of a provider, so they may be kept for as long as they serve.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from carbon._statistical import HOUR, HOURS, full_hour, hourly

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon._series import IntensitySeries
    from carbon._statistical import Climate

    Floats = NDArray[np.float64]

JOB: Final = timedelta(hours=4)
SLACK: Final = timedelta(hours=24)
"""The reference job, and how much later it may start."""

JOB_HOURS: Final = JOB // HOUR
_SLACK_HOURS: Final = SLACK // HOUR
_LEAST_SLACK: Final = 4
LEADS: Final = (1, 3, 6, 12, 24, 48)
"""Hours ahead at which a bucket of leads ends; longer leads count to the last."""

_HINDCASTS: Final = (1, 7, 13, 19)
"""Hours of a day at which a forecast of that day is scored."""


class Score(BaseModel):
    """What one issue of a forecast was worth.

    Attributes:
        issued_at: Start of the first hour that it was scored on.
        errors: Actual less forecast in gCO2e/kWh by hour ahead; ``None`` where one is not known.
        at_once: Mean intensity of the reference job started at once; ``None`` without a whole one.
        best: The same started at the best moment.
        chosen: The same started where the forecast said.
        departures: Forecast less what is typical of the hour of the day, like ``errors``; empty
            where that was not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issued_at: datetime
    errors: tuple[float | None, ...]
    at_once: float | None = None
    best: float | None = None
    chosen: float | None = None
    departures: tuple[float | None, ...] = ()


def score(
    believed: Floats, actual: Floats, issued_at: datetime, usual: Floats | None = None
) -> Score | None:
    """Score an issue against what came.

    Args:
        believed: Hourly forecast from ``issued_at`` on; ``nan`` where there is none.
        actual: Hourly actual values of the same hours.
        issued_at: Start of the first hour.
        usual: The typical day by UTC hour, if it is known.

    Returns:
        The score; ``None`` when there is no hour to compare.
    """
    count = min(len(believed), len(actual), LEADS[-1])
    errors = actual[:count] - believed[:count]
    if not np.isfinite(errors).any():
        return None
    made = Score(issued_at=issued_at, errors=_told(errors))
    if usual is not None:
        hours = (issued_at.astimezone(UTC).hour + np.arange(count)) % HOURS
        made = made.model_copy(update={"departures": _told(believed[:count] - usual[hours])})
    kernel = np.ones(JOB_HOURS) / JOB_HOURS
    if count < JOB_HOURS + _LEAST_SLACK:
        return made
    seen, real = (
        np.convolve(values[:count], kernel, "valid")[: _SLACK_HOURS + 1]
        for values in (believed, actual)
    )
    if not (np.isfinite(seen[0]) and np.isfinite(real).all()):
        return made
    chosen = real[int(np.nanargmin(seen))]
    return made.model_copy(
        update={"at_once": float(real[0]), "best": float(real.min()), "chosen": float(chosen)}
    )


def _told(values: Floats) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(value) else round(float(value), 3) for value in values)


def hour_after(moment: datetime) -> datetime:
    """Return the first full hour from a moment on: an issue is scored from there."""
    hour = full_hour(moment)
    return hour + HOUR if hour < moment else hour


def score_series(
    forecast: IntensitySeries,
    actual: IntensitySeries,
    issued_at: datetime,
    usual: Floats | None = None,
) -> Score | None:
    """Score a stored issue from the first full hour after it was issued; see :func:`score`."""
    first = hour_after(issued_at)
    stop = min(first + HOUR * LEADS[-1], full_hour(min(forecast.end, actual.end)))
    if stop <= first:
        return None
    return score(hourly(forecast, first, stop), hourly(actual, first, stop), first, usual)


def hindcast(climate: Climate, values: Floats) -> list[Score]:
    """Score the statistical forecast as if it had been issued on a day that is over.

    Args:
        climate: What was usual when the day began.
        values: Hourly actual values of that day and the next, ``nan`` where one is not known.

    Returns:
        Scores of issues six hours apart; none with too little in the climate.
    """
    found, ahead = [], _SLACK_HOURS + JOB_HOURS
    for hour in _HINDCASTS:
        believed = climate.predict(values[:hour], hour, ahead)
        if believed is None:
            return []
        issued_at = climate.until + HOUR * hour
        made = score(believed, values[hour : hour + ahead], issued_at)
        found += [made] if made else []
    return found
