"""Knowing that a forecast is unsure: what is kept of it, and when a waiting job is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import uncertainty
from benchmarks.skill import Grid, without_forecast
from carbon._score import score
from carbon._series import IntensitySeries, Kind, regular
from carbon._statistical import HOUR
from carbon._trust import Trust, trust

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.uncertainty import Believed, Floats

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS, AHEAD = 40, 28
USUAL = 300 - 80 * np.sin(2 * np.pi * np.arange(24) / 24)


def wind(days: int, size: float, seed: int) -> Floats:
    """Return departures from the typical day, in spells."""
    rng, found = np.random.default_rng(seed), np.zeros(24 * days)
    for hour in range(1, len(found)):
        found[hour] = 0.9 * found[hour - 1] + rng.normal(0, size * np.sqrt(1 - 0.9**2))
    return found


def learned(told: Floats, came: Floats, *, usual: Floats | None = USUAL) -> Trust:
    """Return what is learned of forecasts, by their and the true departures."""
    typical = np.tile(USUAL, len(came) // 24)
    told, came = typical + told, typical + came
    made = (
        score(told[at:][:AHEAD], came[at:][:AHEAD], START + HOUR * at, usual)
        for at in range(1, 24 * DAYS, 6)
    )
    now = START + timedelta(days=DAYS + 1)
    found = trust([one for one in made if one], now, usual)
    assert found is not None
    return found


def ahead(values: Floats) -> IntensitySeries:
    """Return a forecast from midnight on."""
    issued_at = START + timedelta(days=DAYS)
    starts, end = regular(issued_at, HOUR, len(values))
    return IntensitySeries(
        "DE", starts, end, values.tolist(), "test", kind=Kind.FORECAST, issued_at=issued_at
    )


def test_a_certain_forecast_is_believed_to_the_letter() -> None:
    """Where forecasts came true, nothing changes."""
    came = wind(DAYS + 2, 40, 1)
    own = learned(came, came)
    assert own.kept == 1.0
    series = ahead(np.array([100.0, 300.25, 200.5]))
    assert list(own.corrected(series).values) == list(series.values)


def test_of_a_useless_forecast_the_typical_day_is_left() -> None:
    """Noise tells nothing, so the start is chosen by what is usual at each hour."""
    own = learned(wind(DAYS + 2, 60, 2), wind(DAYS + 2, 20, 3))
    assert own.kept < 0.2
    phantom = USUAL.copy()
    phantom[20] = 0.0  # the forecast's cleanest hour by far, at a dirty time of day
    believed = np.array([value or 0.0 for value in own.corrected(ahead(phantom)).values])
    assert believed[20] > 250
    assert int(believed.argmin()) == int(USUAL.argmin())


@given(size=st.floats(5, 120), seed=st.integers(0, 99))
@settings(deadline=None)
def test_what_is_kept_is_what_comes_true(size: float, seed: int) -> None:
    """As much as statistics say, somewhat more while it is not proven, and never more than all."""
    came, error = wind(DAYS + 2, 40, seed), wind(DAYS + 2, size, seed + 100)
    own = learned(came + error, came)
    true = 40**2 / (40**2 + size**2)
    assert true - 0.2 < own.kept < true + 0.3
    assert own.kept <= 1.0
    assert own == learned(came + error, came)
    # A timid forecast is not blown up.
    assert learned(came / 2, came).kept == 1.0


def test_without_a_typical_day_all_is_kept() -> None:
    """Old scores, and zones whose past is not known, leave the forecast alone."""
    noise = wind(DAYS + 2, 60, 4)
    own = learned(noise, wind(DAYS + 2, 20, 5), usual=None)
    assert (own.kept, own.typical) == (1.0, ())


def test_intervals_are_as_narrow_as_what_is_believed_allows() -> None:
    """What was taken from a forecast is no error any more."""
    told, came = wind(DAYS + 2, 80, 6), wind(DAYS + 2, 40, 7)
    raw, own = learned(told, came, usual=None), learned(told, came)
    assert own.width(np.arange(8, 12)) < 0.7 * raw.width(np.arange(8, 12))


def believed(*looks: Floats) -> Believed:
    """Return a zone of which something new was believed at each hour from one submission on."""
    first = 24 * uncertainty.WARM_UP + 1
    hours = 24 * (uncertainty.WARM_UP + 3)
    means = np.full((hours, uncertainty.STARTS), np.nan)
    for place in range(uncertainty.STARTS):
        means[first + place] = looks[min(place, len(looks) - 1)]
    return uncertainty.Believed("DE", means, np.zeros_like(means), np.arange(hours, dtype=float))


def test_the_replay_waits_moves_and_settles() -> None:
    """Planned for hour 6; then hour 9 looks 3 % better: a move for 1 %, none for 5 %."""
    now, later = np.full(uncertainty.STARTS, 100.0), np.full(uncertainty.STARTS, 100.0)
    now[6], later[3] = 80.0, 77.6
    later[0] = 80.0
    looks = [np.roll(now, -hour) for hour in range(6)]
    looks += [np.roll(later, -hour) for hour in range(4)]
    found = {
        threshold: uncertainty.replay(
            [believed(*looks)],
            uncertainty.Rule("", wakes=True, threshold=threshold),
            at=(1,),
        )
        for threshold in (0.01, 0.05)
    }
    assert [int(one.moves[0]) for one in found.values()] == [2, 1]
    begun = float(24 * uncertainty.WARM_UP + 1)
    assert found[0.05].chosen[0] == begun + 6
    assert found[0.01].chosen[0] == begun + 9


@pytest.mark.long
def test_the_conditional_mean_beats_a_poor_point_forecast(shared: Path) -> None:
    """On a real grid with forecasts 20 % off, by more than two standard errors; never worse."""
    (grid,) = (one for one in without_forecast(shared / "traces") if one.zone == "DE")
    for size, least in ((0.2, 2.0), (0.02, -0.5)):
        ours, told = uncertainty.believe(uncertainty.noisy(grid, size, 0.94), every=24)
        mean, point = (uncertainty.replay([one], uncertainty.ONCE, at=(1,)) for one in (ours, told))
        gain, error = mean.gain(point)
        assert gain >= least
        assert gain > 2 * error or size < 0.1


@pytest.mark.slow
def test_planning_anew_beats_choosing_once_where_forecasts_are_poor(shared: Path) -> None:
    """On a windy grid, on waking and every three hours; with 1 % there are few moves more."""
    (grid,) = (one for one in without_forecast(shared / "traces") if one.zone == "IE")
    half = Grid(grid.zone, grid.first, grid.actual[: 24 * 240])
    zone, _ = uncertainty.believe(half)
    once = uncertainty.replay([zone], uncertainty.ONCE)
    for every in (0, 3):
        rule = uncertainty.Rule("", wakes=True, every=every, threshold=0.01)
        anew = uncertainty.replay([zone], rule)
        gain, error = anew.gain(once)
        assert gain > 2 * error
        assert anew.moves.mean() < once.moves.mean() + 0.2
