"""The statistical forecast: it knows the day's habit and what the last hour departs from it by."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from carbon._series import (
    MAX_PLAUSIBLE_G_PER_KWH,
    Accounting,
    IntensitySeries,
    Kind,
    Signal,
    regular,
)
from carbon._statistical import (
    HISTORY,
    HOUR,
    HOURS,
    Climate,
    forecast,
    full_hour,
    hourly,
    midnight,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

NOW = datetime(2026, 10, 26, 7, 20, tzinfo=UTC)  # Europe's clocks went back the day before
DAY = 200 + 80 * np.sin(2 * np.pi * np.arange(24) / 24)


def climate(
    values: Floats,
    first: datetime = datetime(2026, 1, 1, tzinfo=UTC),
    signal: Signal = Signal.AVERAGE,
    accounting: Accounting = Accounting.LIFECYCLE,
) -> Climate:
    """Fold in the whole days of hourly values that begin at a midnight."""
    made = Climate(until=first, signal=signal, accounting=accounting)
    for start in range(0, len(values) - HOURS + 1, HOURS):
        made = made.folded(values[start : start + HOURS])
    return made


def predict(history: Floats, hours: int) -> Floats | None:
    """Forecast the hours after a history that begins at midnight, from its first known day on."""
    heard = np.flatnonzero(np.isfinite(history))
    history = history[(heard[0] if len(heard) else len(history)) // HOURS * HOURS :]
    return climate(history).predict(history, len(history) % HOURS, hours)


def actual(values: Floats, end: datetime, step: timedelta = HOUR) -> IntensitySeries:
    """Make a history of equal steps up to a moment; ``nan`` is unknown."""
    starts, _ = regular(end - step * len(values), step, len(values))
    told = [None if np.isnan(value) else float(value) for value in values]
    return IntensitySeries("DE", starts, end, told, "trace", kind=Kind.ACTUAL)


def test_a_regular_day_goes_on() -> None:
    """What has been the same each day is forecast so, from any hour of the day on."""
    for hour in (0, 5, 23):
        history = np.tile(DAY, 31)[: 24 * 30 + hour]
        found = predict(history, 50)
        assert found is not None
        assert found == pytest.approx(np.tile(DAY, 4)[hour : hour + 50])


def test_an_anomaly_fades() -> None:
    """A windy spell lifts the next hours most, later ones ever less."""
    rng = np.random.default_rng(3)
    wind = np.zeros(24 * 40)
    for hour in range(1, len(wind)):
        wind[hour] = 0.9 * wind[hour - 1] + rng.normal(0, 10)
    wind[-6:] = 60
    usual, windy = (predict(np.tile(DAY, 40) + part, 24) for part in (0 * wind, wind))
    assert usual is not None
    assert windy is not None
    lift = windy - usual
    assert 30 < lift[0] < 60
    assert lift[0] > lift[6] > lift[20]


def test_recent_days_count_more() -> None:
    """After a lasting change the forecast is nearer to the new level than to the old."""
    found = predict(np.concatenate([np.full(24 * 40, 300.0), np.full(24 * 20, 100.0)]), 24)
    assert found is not None
    assert found.max() < 200


@pytest.mark.parametrize("hours", [0, 1, 24 * 14 - 1])
def test_less_than_two_weeks_is_too_little(hours: int) -> None:
    """Less than two weeks of history give no forecast."""
    assert predict(np.full(hours, 100.0), 24) is None
    assert predict(np.full(24 * 14, 100.0), 24) is not None


def test_a_young_history_begins_with_its_first_value() -> None:
    """What was not kept yet is no gap: two weeks in a store of sixty days are enough."""
    young = np.concatenate([np.full(24 * 40 + 7, np.nan), np.tile(DAY, 20)])
    found = predict(young, 24)
    assert found is not None
    assert found == pytest.approx(DAY)
    assert predict(young[: -24 * 7], 24) is None
    assert predict(np.full(24 * 60, np.nan), 24) is None


def test_too_many_gaps_give_no_forecast() -> None:
    """A third of the hours missing, or one hour of the day always, gives none."""
    gappy = np.tile(DAY, 30)
    gappy[1::3] = np.nan
    assert predict(gappy, 24) is None
    blind = np.tile(DAY, 30).reshape(30, 24)
    blind[:, 4] = np.nan
    assert predict(blind.ravel(), 24) is None


def test_an_old_anomaly_has_faded() -> None:
    """When the last value is days old, little is left of what it departed by."""
    history = np.tile(DAY, 30) + np.repeat(np.random.default_rng(1).normal(0, 20, 60), 12)
    fresh, old = predict(history, 24), predict(np.append(history, np.full(72, np.nan)), 24)
    assert fresh is not None
    assert old is not None
    typical = climate(history).predict(np.array([]), 0, 24)
    assert typical is not None
    assert abs(old - typical).max() < abs(fresh - typical).max()


@given(
    history=arrays(
        np.float64,
        st.integers(0, 24 * 70),
        elements=st.sampled_from([np.nan, 0.0, 50.0, 400.0, MAX_PLAUSIBLE_G_PER_KWH]),
        fill=st.floats(0, MAX_PLAUSIBLE_G_PER_KWH) | st.just(np.nan),
    ),
    hours=st.integers(1, 100),
)
def test_a_forecast_is_always_possible_as_an_intensity(history: Floats, hours: int) -> None:
    """Of any history comes no forecast, or one of plausible values for each hour."""
    found = predict(history, hours)
    if found is not None:
        assert found.shape == (hours,)
        assert ((found >= 0) & (found <= MAX_PLAUSIBLE_G_PER_KWH)).all()


@given(data=st.data())
def test_an_hour_is_known_only_as_a_whole(data: st.DataObject) -> None:
    """Clock hours out of steps of any length have the mean of their minutes, or none."""
    step = data.draw(st.sampled_from([5, 15, 20, 30]))
    values = data.draw(st.lists(st.none() | st.floats(0, 900), min_size=1, max_size=60))
    first = datetime(2026, 10, 25, tzinfo=UTC)
    starts, end = regular(first, timedelta(minutes=step), len(values))
    made = IntensitySeries("DE", starts, end, values, "trace", kind=Kind.ACTUAL)
    found = hourly(made, first - HOUR, first + 8 * HOUR)
    assert found.shape == (9,)
    for hour, mean in enumerate(found, -1):
        count = 60 // step
        part = values[hour * count : (hour + 1) * count] if hour >= 0 else []
        known = [value for value in part if value is not None]
        if len(known) < count:
            assert np.isnan(mean)
        else:
            assert mean == pytest.approx(sum(known) / count, rel=1e-6, abs=1e-3)


def test_full_hour_is_that_of_the_clock() -> None:
    """Moments of any zone go back to the full hour in UTC."""
    assert full_hour(NOW) == NOW.replace(minute=0)
    assert full_hour(NOW.replace(minute=0)) == NOW.replace(minute=0)
    nepal = timezone(timedelta(hours=5, minutes=45))
    assert full_hour(NOW.astimezone(nepal)) == NOW.replace(minute=0)


def test_forecast_begins_with_the_present_hour() -> None:
    """It speaks of whole hours from the present one on, and says what it is made of."""
    end = NOW.replace(minute=0)
    history = replace(
        actual(np.repeat(np.tile(DAY, 61)[: 24 * 60 + 7], 4), end, HOUR / 4),
        signal=Signal.MARGINAL,
        accounting=Accounting.DIRECT,
    )
    usual = climate(np.tile(DAY, 58), midnight(NOW) - 60 * 24 * HOUR)
    found = forecast(usual, history, NOW, NOW + 30 * HOUR)
    assert found is not None
    assert (found.start, found.end) == (end, end + 31 * HOUR)
    assert found.family == (Signal.MARGINAL, Accounting.DIRECT, Kind.FORECAST)
    assert found.issued_at == NOW
    assert found.source == "statistical forecast from 60 days of trace"
    assert found.values[0] == pytest.approx(DAY[7])


def test_forecast_looks_at_nothing_later() -> None:
    """What happened after the issue changes nothing, and the hour that runs is not over."""
    end = NOW.replace(minute=0)
    values = np.tile(DAY, 61)
    early = actual(values[: 24 * 60], end)
    late = actual(np.append(values[: 24 * 60], np.full(48, 999.0)), end + 48 * HOUR)
    usual = climate(values[: 24 * 20], midnight(NOW) - 40 * HOUR)
    usual = usual.model_copy(update={"until": midnight(NOW) - 48 * HOUR})
    found = [forecast(usual, history, NOW, NOW + 24 * HOUR) for history in (early, late)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].values == found[1].values


def test_too_little_history_gives_none() -> None:
    """Without two weeks of days there is no forecast."""
    usual = climate(np.tile(DAY, 10), midnight(NOW) - 240 * HOUR)
    assert forecast(usual, actual(np.tile(DAY, 10), NOW), NOW, NOW + HISTORY) is None


@given(
    days=arrays(
        np.float64,
        st.tuples(st.integers(1, 80), st.just(HOURS)),
        elements=st.just(np.nan) | st.floats(0, MAX_PLAUSIBLE_G_PER_KWH),
    )
)
def test_a_climate_comes_back_from_text_as_it_was(days: Floats) -> None:
    """What is kept is what was folded; its range is one that was seen, of no more days."""
    made = climate(days.ravel())
    assert Climate.model_validate_json(made.model_dump_json()) == made
    assert made.days == len(days)
    known = days[np.isfinite(days)]
    norm = made.norm
    if norm is None:
        assert not len(known)
    else:
        assert known.min() <= norm.least
        assert norm.most <= known.max()
        assert norm.days <= min(len(days), HISTORY.days)


def test_a_wild_day_is_no_part_of_the_range() -> None:
    """The most extreme of many days is left out, so that one bad value stretches nothing."""
    days = np.tile(DAY, 20)
    days[100], days[300] = 1900.0, 1.0
    norm = climate(days).norm
    assert norm is not None
    assert (norm.least, norm.most) == (DAY.min(), DAY.max())
