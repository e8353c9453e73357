"""A statistical forecast out of what the grid has been: climatology plus a fading anomaly.

The typical hour of the day is the mean of the last weeks, recent days counting more. What the last
hour departs from it by is carried on and fades as such departures have faded: damped persistence of
the anomaly, an old reference forecast of meteorology (H. van den Dool, Empirical Methods in
Short-Term Climate Prediction, Oxford 2007). It knows sun and habits; of the wind it knows only that
it does not turn at once. Whether it is worth anything in a zone is for :mod:`carbon._trust` to say:
"the same as yesterday" is worse than doing nothing on windy grids, this was not on any of twelve.

A :class:`Climate` is all that is kept of the past for it: each day is folded in once, and its
values are not needed any more. So it also serves where terms forbid to keep a provider's numbers.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from carbon._findings import Norm
from carbon._series import MAX_PLAUSIBLE_G_PER_KWH, Accounting, IntensitySeries, Kind, Signal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
HISTORY: Final = timedelta(days=60)
"""How far back it looks."""

HOURS: Final = 24
_LEAST_DAYS: Final = 14
_LEFT_AFTER_A_DAY: Final = 0.5 ** (1 / 14)
"""What a day counts for a day later: half after two weeks, a twentieth after two months."""

_LEAST_KNOWN: Final = 0.75
_FASTEST, _SLOWEST = 0.0, 0.98
"""Bounds of what is left of an anomaly after an hour: at most half of it after 34 h."""

_NO_EXTREMES: Final = 14
"""From so many days on the lowest and the highest day are left out of the range."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_PerHour = Annotated[tuple[float, ...], Field(min_length=HOURS, max_length=HOURS)]


def statistical(provider: str) -> str:
    """Return the name under which the statistical forecast from a provider's values is kept."""
    return f"statistical/{provider}"


class Climate(BaseModel):
    """What is usual in a zone, out of whole UTC days that were folded in one after the other.

    Attributes:
        until: Midnight UTC after the last day that was folded in.
        signal: Which intensity it is of.
        accounting: Which emissions are counted.
        days: How many days that were, with those of which nothing is known.
        weights: What the known hours of the day weigh together, for each hour of the day.
        typical: Their weighted mean in gCO2e/kWh; 0 where nothing is known.
        possible: What ``weights`` would be without gaps.
        energy: Sum of the squared anomalies of hours with a known next one.
        product: Sum of the products of neighbouring anomalies.
        lows: Lowest value of each of the last days.
        highs: Highest value of each of the last days.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    until: AwareDatetime
    signal: Signal
    accounting: Accounting
    days: int = 0
    weights: _PerHour = (0.0,) * HOURS
    typical: _PerHour = (0.0,) * HOURS
    possible: float = 0.0
    energy: float = 0.0
    product: float = 0.0
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()

    @property
    def began(self) -> datetime:
        """Midnight UTC before the first day that was folded in."""
        return self.until - DAY * self.days

    @property
    def norm(self) -> Norm | None:
        """The range that the zone has been in; ``None`` before anything is known.

        Few days say little, and say how few. With more of them the most extreme day counts for
        nothing: a single wild value is no part of a range.
        """
        if not self.lows:
            return None
        place = 1 if len(self.lows) >= _NO_EXTREMES else 0
        least, most = sorted(self.lows)[place], sorted(self.highs)[-1 - place]
        return Norm(least, most, float(len(self.lows)))

    @property
    def usual(self) -> Floats | None:
        """The typical day, shape ``(24,)``; ``None`` for too little history."""
        weights = np.array(self.weights)
        if self.days < _LEAST_DAYS or weights.sum() < _LEAST_KNOWN * HOURS * self.possible:
            return None
        return np.array(self.typical) if (weights > 0).all() else None

    def folded(self, day: Floats) -> Climate:
        """Return the climate after one more day.

        Args:
            day: Its 24 hourly values, ``nan`` where one is not known.
        """
        known = np.isfinite(day)
        before = np.array(self.weights) * _LEFT_AFTER_A_DAY
        weights = before + known
        sums = np.array(self.typical) * before + np.where(known, day, 0.0)
        typical = np.divide(sums, weights, out=np.zeros(HOURS), where=weights > 0)
        anomaly = day - typical
        both = known[:-1] & known[1:]
        first, second = anomaly[:-1][both], anomaly[1:][both]
        lows, highs = ([float(f(day[known]))] if known.any() else [] for f in (np.min, np.max))
        return self.model_copy(
            update={
                "until": self.until + DAY,
                "days": self.days + 1,
                "weights": tuple(weights.tolist()),
                "typical": tuple(typical.tolist()),
                "possible": self.possible * _LEFT_AFTER_A_DAY + 1,
                "energy": self.energy * _LEFT_AFTER_A_DAY + float((first**2).sum()),
                "product": self.product * _LEFT_AFTER_A_DAY + float((first * second).sum()),
                "lows": (*self.lows, *lows)[-HISTORY.days :],
                "highs": (*self.highs, *highs)[-HISTORY.days :],
            }
        )

    def predict(self, recent: Floats, hour: int, count: int) -> Floats | None:
        """Forecast the hours that follow.

        Args:
            recent: Hourly values up to the present, at least some of them after ``until``; ``nan``
                where one is not known.
            hour: Hour of the UTC day of the first hour to forecast.
            count: How many hours to forecast.

        Returns:
            The forecast, shape ``(count,)``; ``None`` for less than two weeks of days, or too many
            gaps in them.
        """
        typical = self.usual
        if typical is None:
            return None
        lead = np.arange(1, count + 1)
        values = typical[(hour + lead - 1) % HOURS]
        heard = np.flatnonzero(np.isfinite(recent))
        if len(heard):
            back = len(recent) - int(heard[-1])
            anomaly = recent[heard[-1]] - typical[(hour - back) % HOURS]
            values = values + anomaly * self.persistence ** (lead + back - 1.0)
        return np.asarray(np.clip(values, 0.0, MAX_PLAUSIBLE_G_PER_KWH), np.float64)

    @property
    def persistence(self) -> float:
        """What is left of an anomaly after an hour, by least squares."""
        slope = self.product / self.energy if self.energy > 0 else 0.0
        return min(max(slope, _FASTEST), _SLOWEST)


def hourly(series: IntensitySeries, first: datetime, stop: datetime) -> Floats:
    """Return a series' means over the clock hours of a window, ``nan`` where one is not known.

    Args:
        series: The series.
        first: Start of the window, at a full hour.
        stop: End of the window, at a full hour.
    """
    count = max(0, (stop - first) // HOUR)
    starts = first.timestamp() + np.arange(count, dtype=np.float64) * HOUR.total_seconds()
    return series.means(starts, HOUR.total_seconds())


def full_hour(moment: datetime) -> datetime:
    """Return the start of the clock hour that a moment lies in."""
    return _EPOCH + (moment - _EPOCH) // HOUR * HOUR


def midnight(moment: datetime) -> datetime:
    """Return the start of the UTC day that a moment lies in."""
    return _EPOCH + (moment - _EPOCH) // DAY * DAY


def forecast(
    climate: Climate, actual: IntensitySeries, now: datetime, end: datetime
) -> IntensitySeries | None:
    """Forecast a zone out of its climate and what has been since.

    Args:
        climate: What is usual; days that are over since are folded in for this forecast.
        actual: What the grid has been, in the signal and accounting of the forecast; gaps are fine.
        now: When the forecast is issued; nothing later is looked at.
        end: Until when to forecast.

    Returns:
        Hourly values from the present hour on; ``None`` for too little history.
    """
    present = full_hour(now)
    recent = hourly(actual, climate.until, present)
    days = len(recent) // HOURS
    for day in recent[: days * HOURS].reshape(days, HOURS):
        climate = climate.folded(day)  # for now only: its values may still be revised
    hours = -((present - end) // HOUR)
    values = climate.predict(recent, present.hour, hours)
    if values is None:
        return None
    return IntensitySeries(
        actual.zone,
        [present + HOUR * index for index in range(hours)],
        present + HOUR * hours,
        values.tolist(),
        f"statistical forecast from {min(climate.days, HISTORY.days)} days of {actual.source}",
        kind=Kind.FORECAST,
        signal=actual.signal,
        accounting=actual.accounting,
        issued_at=now,
    )
