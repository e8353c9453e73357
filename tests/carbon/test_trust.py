"""Earned trust: what forecasts were worth, how far they are off, and whom to believe."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon._errors import NoSignal
from carbon._score import Score, hindcast, score, score_series
from carbon._series import (
    MAX_PLAUSIBLE_G_PER_KWH,
    Accounting,
    IntensitySeries,
    Kind,
    Signal,
    regular,
)
from carbon._statistical import HOUR, Climate
from carbon._trust import Trust, trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

START = datetime(2026, 3, 1, tzinfo=UTC)  # Europe's clocks go forward within the month
DAYS, AHEAD = 40, 48


def weather(days: int = DAYS + 3, seed: int = 1) -> Floats:
    """Return hourly values with a day's shape and spells of wind."""
    rng, hours = np.random.default_rng(seed), np.arange(24 * days)
    wind = np.zeros(len(hours))
    for hour in hours[1:]:
        wind[hour] = 0.95 * wind[hour - 1] + rng.normal(0, 12)
    return np.clip(250 - 60 * np.sin(2 * np.pi * hours / 24) + wind, 20, 600)


def scores(believed: Floats, actual: Floats, days: int = DAYS, ahead: int = AHEAD) -> list[Score]:
    """Score an issue a day at 01:00, each for some hours ahead."""
    made = (
        score(believed[at:][:ahead], actual[at:][:ahead], START + HOUR * at)
        for at in range(1, 24 * days, 24)
    )
    return [one for one in made if one is not None]


def learned(believed: Floats, actual: Floats, days: int = DAYS, ahead: int = AHEAD) -> Trust:
    """Return what the scores say when they are over."""
    found = trust(scores(believed, actual, days, ahead), START + HOUR * 24 * (days + 1))
    assert found is not None
    return found


def series(values: Sequence[float | None], step: timedelta = HOUR) -> IntensitySeries:
    """Make a forecast of equal steps."""
    starts, end = regular(START, step, len(values))
    return IntensitySeries("DE", starts, end, values, "test", kind=Kind.FORECAST)


def rough(deviation: Sequence[float], correlation: float = 0.8) -> Trust:
    """Return a trust with the given errors and no bias."""
    return Trust(
        days=DAYS,
        saved_percent=10.0,
        possible_percent=20.0,
        surplus_percent=8.0,
        bias=(0.0,) * 24,
        deviation=tuple(deviation),
        correlation=correlation,
        spread=(-1.645, -0.674, 0.0, 0.674, 1.645),
    )


# -- one issue ------------------------------------------------------------------------------------


def test_a_score_tells_errors_and_the_reference_job() -> None:
    """Errors are actual less forecast; the job is done at once, at best, and as forecast."""
    actual = np.array([100.0] * 8 + [20.0] * 4 + [60.0] * 16)
    believed = np.array([90.0] * 14 + [10.0] * 4 + [90.0] * 10)
    found = score(believed, actual, START)
    assert found is not None
    assert found.errors[:10] == (10.0,) * 8 + (-70.0,) * 2
    assert (found.at_once, found.best, found.chosen) == (100.0, 20.0, 60.0)


def test_the_reference_job_starts_within_a_day() -> None:
    """What is better than anything only after the slack is over does not count."""
    actual = np.full(48, 100.0)
    actual[24:28], actual[30:] = 50.0, 1.0
    found = score(actual, actual, START)
    assert found is not None
    assert (found.best, found.chosen) == (50.0, 50.0)


@pytest.mark.parametrize("hours", [1, 7])
def test_a_short_issue_has_errors_only(hours: int) -> None:
    """With less than eight hours ahead no reference job can be scored."""
    found = score(np.full(hours, 90.0), np.full(48, 100.0), START)
    assert found == Score(issued_at=START, errors=(10.0,) * hours)


def test_holes_are_not_scored() -> None:
    """An hour that is not known has no error; a job is scored where its place is known for sure."""
    actual, believed = np.full(28, 100.0), np.full(28, 90.0)
    believed[10] = np.nan
    found = score(believed, actual, START)
    assert found is not None
    assert found.errors[10] is None
    assert found.chosen == 100.0
    actual[20] = np.nan
    assert score(believed, actual, START) == Score(
        issued_at=START, errors=(10.0,) * 10 + (None,) + (10.0,) * 9 + (None,) + (10.0,) * 7
    )
    assert score(np.full(28, np.nan), actual, START) is None
    assert score(believed[:0], actual, START) is None


@given(data=st.data())
def test_no_choice_beats_the_best(data: st.DataObject) -> None:
    """Whatever is forecast, the chosen place is no better than the best one."""
    hours = data.draw(st.integers(1, 60))
    values = st.floats(0, 1000) | st.just(np.nan)
    believed, actual = (
        np.array(data.draw(st.lists(values, min_size=hours, max_size=hours))) for _ in range(2)
    )
    found = score(believed, actual, START)
    if found is None:
        assert not np.isfinite(actual - believed).any()
        return
    assert len(found.errors) == min(hours, AHEAD)
    if found.best is not None:
        assert found.at_once is not None
        assert found.chosen is not None
        assert found.best <= min(found.at_once, found.chosen)


def test_a_stored_issue_is_scored_from_the_next_full_hour() -> None:
    """An issue of 00:20 in half hours is scored by clock hours from 01:00 on."""
    actual = series([float(place) for place in range(48)])
    believed = series([float(place // 2) for place in range(80)], HOUR / 2)
    issued_at = START + HOUR / 3
    found = score_series(believed, actual, issued_at)
    assert found is not None
    assert found.issued_at == START + HOUR
    assert found.errors == (0.0,) * 39
    assert score_series(believed, actual, START + 60 * HOUR) is None
    first = score_series(believed, actual, START)
    assert first is not None
    assert first.issued_at == START


def climate(values: Floats) -> Climate:
    """Fold in whole days."""
    made = Climate(until=START, signal=Signal.AVERAGE, accounting=Accounting.LIFECYCLE)
    for day in values.reshape(-1, 24):
        made = made.folded(day)
    return made


def test_hindcasts_are_issued_six_hours_apart() -> None:
    """Four a day, none before two weeks are over, none whose hours are not over."""
    actual = weather(20)
    for days in range(12, 19):
        now = 24 * days
        found = hindcast(climate(actual[:now]), actual[now : now + 48])
        hours = [(one.issued_at - START) // HOUR - now for one in found]
        assert hours == ([1, 7, 13, 19] if days >= 14 else [])


def test_hindcasts_know_nothing_of_the_future() -> None:
    """What comes later changes the score of a forecast, never the forecast."""
    actual = weather(20)
    other, now = actual.copy(), 24 * 16
    other[now + 1 :] += 50
    usual = climate(actual[:now])
    one, two = (hindcast(usual, values[now : now + 48])[0] for values in (actual, other))
    assert np.array(two.errors) == pytest.approx(np.array(one.errors) + 50, abs=0.01)


# -- trust ----------------------------------------------------------------------------------------


def test_no_scores_no_trust() -> None:
    """Without scores, or with old and future ones only, there is nothing to say."""
    actual = weather()
    assert trust([], START) is None
    assert trust(scores(actual, actual), START + timedelta(days=200)) is None
    assert trust(scores(actual, actual), START) is None


@given(seed=st.integers(0, 1000))
def test_a_perfect_forecast_captures_everything(seed: int) -> None:
    """It earns its trust, gets all that is possible, and is sure."""
    actual = weather(20, seed)
    found = learned(actual, actual, 16)
    assert found.earned
    assert found.captured == pytest.approx(1)
    assert found.saved_percent == pytest.approx(found.possible_percent)
    view = series(actual[:24].tolist())
    start = START + 3 * HOUR
    mean = view.mean(start, start + 4 * HOUR)
    assert found.interval(view, START, start, start + 4 * HOUR) == pytest.approx((mean,) * 3)


@given(seed=st.integers(0, 1000))
def test_a_forecast_of_the_contrary_is_not_earned(seed: int) -> None:
    """What chooses the dirtiest hours has proven that it is worth nothing."""
    actual = weather(20, seed)
    found = learned(600 - actual, actual, 16)
    assert found.proven
    assert not found.earned
    assert found.saved_percent < 0
    assert found.captured == 0


def test_a_flat_forecast_is_not_earned() -> None:
    """What tells no hour from another starts at once, and saves nothing."""
    actual = weather()
    found = learned(np.full(len(actual), 250.0), actual)
    assert found.proven
    assert not found.earned
    assert found.saved_percent == 0


def test_a_flat_grid_has_nothing_to_save() -> None:
    """Where nothing can be saved nothing is earned, be the grid at zero."""
    for level in (0.0, 250.0):
        flat = np.full(24 * 30, level)
        found = learned(flat, flat, 20)
        assert not found.earned
        assert (found.captured, found.saved_percent) == (0, 0)


def test_two_weeks_prove_something() -> None:
    """Thirteen days prove nothing, fourteen do."""
    actual = weather()
    assert not learned(actual, actual, 13).proven
    assert not learned(actual, actual, 13).earned
    assert learned(actual, actual, 14).earned


def test_days_without_a_whole_job_prove_no_saving() -> None:
    """A few lucky jobs among many days of errors have not earned anything."""
    actual = weather()
    lucky = scores(actual, actual, 5)
    errors = [one.model_copy(update={"best": None}) for one in scores(actual, actual)[5:]]
    found = trust([*lucky, *errors], START + timedelta(days=DAYS + 1))
    assert found is not None
    assert found.proven
    assert not found.earned


def test_many_issues_of_few_days_prove_nothing() -> None:
    """Days count, not issues: those of one day share its weather."""
    actual = weather()
    made = [score(actual[at:][:28], actual[at:][:28], START + HOUR * at) for at in range(24 * 5)]
    found = trust([one for one in made if one], START + timedelta(days=10))
    assert found is not None
    assert found.days == 5
    assert not found.proven


def test_the_usual_error_is_taken_off() -> None:
    """A forecast that is low at each noon is lifted at noon, in part, and nowhere else."""
    actual = weather()
    noon = np.arange(len(actual)) % 24 == 12
    found = learned(np.where(noon, actual - 50, actual), actual)
    assert found.bias[12] == pytest.approx(50 * DAYS / (DAYS + 10))
    assert found.bias[:12] + found.bias[13:] == (0.0,) * 23
    half_hours = series([100.0, None] * 24, HOUR / 2)
    lifted = found.corrected(half_hours).values
    assert lifted[24] == pytest.approx(140)
    assert lifted[25] is None
    assert lifted[:24] == half_hours.values[:24]


@given(values=st.lists(st.none() | st.floats(0, MAX_PLAUSIBLE_G_PER_KWH), min_size=1, max_size=60))
def test_a_corrected_forecast_stays_plausible(values: list[float | None]) -> None:
    """A correction makes no value negative or impossible, and fills no hole."""
    bias = tuple(300.0 * (-1) ** hour for hour in range(24))
    found = rough([1.0] * 6).model_copy(update={"bias": bias}).corrected(series(values))
    for before, after in zip(values, found.values, strict=True):
        assert (before is None) == (after is None)
        assert after is None or 0 <= after <= MAX_PLAUSIBLE_G_PER_KWH


def test_errors_grow_with_the_time_ahead() -> None:
    """Each bucket of leads has its own deviation; one never seen takes its neighbour's."""
    actual = weather()
    rng, lead = np.random.default_rng(2), (np.arange(len(actual)) - 1) % 24
    noisy = np.maximum(actual + rng.normal(0, 1, len(actual)) * (5 + 2 * lead), 0)
    found = learned(noisy, actual, ahead=24)
    assert list(found.deviation[:5]) == sorted(found.deviation[:5])
    assert found.deviation[5] == found.deviation[4]
    late = [
        one.model_copy(update={"errors": (None, *one.errors[1:])})
        for one in scores(noisy, actual, ahead=24)
    ]
    begun = trust(late, START + timedelta(days=DAYS + 1))
    assert begun is not None
    assert begun.deviation[0] == begun.deviation[1] > 0


def test_neighbouring_errors_are_alike() -> None:
    """Errors that last make the mean over a job less sure than errors that cancel out."""
    leads = np.arange(4)
    assert rough([10.0] * 6, 0.0).width(leads) == pytest.approx(5)
    assert rough([10.0] * 6, 0.9).width(leads) > 9
    actual = weather()
    slow = np.repeat(np.random.default_rng(1).normal(0, 20, len(actual) // 12 + 1), 12)
    fast = np.random.default_rng(1).normal(0, 20, len(actual))
    lasting, noise = (learned(actual + error[: len(actual)], actual) for error in (slow, fast))
    assert lasting.correlation > 0.8
    assert noise.correlation < 0.2


@given(
    deviation=st.lists(st.floats(0, 200), min_size=6, max_size=6),
    correlation=st.floats(0, 0.99),
    begin=st.integers(0, 60 * 40),
    length=st.integers(1, 60 * 20),
    issued=st.integers(-200, 60),
)
def test_an_interval_is_ordered_around_the_mean(
    deviation: list[float], correlation: float, begin: int, length: int, issued: int
) -> None:
    """Low, middle and high are in order and never negative, and the mean lies between them."""
    view = series(weather(3)[:60].tolist())
    start = START + timedelta(minutes=begin)
    end = start + timedelta(minutes=length)
    own = rough(sorted(deviation), correlation)
    low, middle, high = own.interval(view, START + issued * HOUR, start, end)
    mean = view.mean(start, end)
    assert 0 <= low <= middle <= high
    assert low <= mean + 1e-6
    assert middle == pytest.approx(mean)
    assert high >= mean - 1e-6
    older = own.interval(view, START + (issued - 30) * HOUR, start, end)
    assert older[2] >= high - 1e-6, "an older issue is no surer"


def test_an_interval_needs_a_known_window() -> None:
    """There is no interval where there is no mean."""
    own, view = rough([10.0] * 6), series([100.0, None, 100.0])
    assert own.interval(view, START, START, START + HOUR)[1] == pytest.approx(100)
    with pytest.raises(NoSignal):
        own.interval(view, START, START, START + 2 * HOUR)


@given(
    rows=st.lists(
        st.lists(st.none() | st.floats(-500, 500), min_size=1, max_size=AHEAD),
        min_size=1,
        max_size=30,
    ),
    jobs=st.booleans(),
)
def test_any_scores_make_a_trust(rows: list[list[float | None]], jobs: bool) -> None:
    """Scores with holes, of any length, give finite numbers and ordered quantiles."""
    job = {"at_once": 100.0, "best": 50.0, "chosen": 80.0} if jobs else {}
    made = [
        Score(issued_at=START + HOUR * 7 * place, errors=tuple(row), **job)
        for place, row in enumerate(rows)
    ]
    found = trust(made, START + timedelta(days=20))
    assert found is not None
    numbers = [*found.bias, *found.deviation, *found.spread, found.correlation]
    assert np.isfinite(numbers).all()
    assert list(found.spread) == sorted(found.spread)
    assert 0 <= found.captured <= 1
    assert not (found.earned and not found.proven)
    assert Trust.model_validate_json(found.model_dump_json()) == found


def test_a_near_hour_that_is_known_better_is_not_corrected() -> None:
    """A forecast that is right about the next hours and off by 30 g later is corrected later."""
    actual = weather()
    off = np.where(np.arange(AHEAD) < 6, 0.0, 30.0)
    made = []
    for day in range(DAYS):
        for hour in range(24):
            at = day * 24 + hour
            found = score(actual[at : at + AHEAD] - off, actual[at : at + AHEAD], START + HOUR * at)
            made += [found] if found else []
    own = trust(made, START + timedelta(days=DAYS))
    assert own is not None
    assert own.share[0] == own.share[2] == 0
    assert own.share[4] == own.share[5] == 1
    now = START + timedelta(days=DAYS)
    plain = series([100.0] * AHEAD)
    plain = dataclasses.replace(
        plain, starts=[now + HOUR * h for h in range(AHEAD)], end=now + HOUR * AHEAD, issued_at=now
    )
    values = own.corrected(plain).known
    assert values[:6] == (100.0,) * 6
    assert all(value > 115 for value in values[12:])
