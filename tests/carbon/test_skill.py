"""What forecasts are worth: the benchmark is right, and so is what it says of real grids."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks import skill

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.skill import Result

START = datetime(2026, 3, 1, tzinfo=UTC)
REGULAR = ("DE", "ES", "NL", "PL", "US-CAL-CISO", "US-MIDA-PJM")


def clean_noon(days: int) -> skill.Floats:
    """Return a grid whose noon is clean, and that is never twice the same."""
    hours = np.arange(24 * days)
    return 400 + hours % 7 - 300.0 * ((hours % 24 >= 10) & (hours % 24 < 14)) + hours / 100


def test_who_knows_what_comes_gets_all_that_is_possible() -> None:
    """A true forecast captures everything, as issued and believed; its interval is hit."""
    actual = clean_noon(20)
    for learns in (False, True):
        one = skill.walk(skill.Grid("DE", START, actual, actual), learns=learns)
        assert one.days == 19
        assert one.captured_percent == pytest.approx(100)
        assert one.least_percent == pytest.approx(100)
        assert one.trusted == one.days
        assert (one.intervals.days > 0) == learns
    assert one.errors["day-ahead"][24].rmse == pytest.approx(0, abs=0.001)
    assert one.errors["day-ahead"][24].skill("persistence") == pytest.approx(100)


def test_without_forecast_nothing_is_gained_before_trust_is_earned() -> None:
    """Jobs start at once until there is a history; then a regular day is known."""
    month = skill.walk(skill.Grid("DE", START, clean_noon(20)))
    assert month.trusted == 0
    assert month.decided == {"signal": month.days}
    assert month.captured_percent == pytest.approx(0)
    quarter = skill.walk(skill.Grid("DE", START, clean_noon(90)))
    assert 50 < quarter.trusted < 70
    assert quarter.captured_percent == pytest.approx(100 * quarter.trusted / quarter.days, abs=2)
    assert not quarter.lost


def test_plain_references_know_only_the_past() -> None:
    """The last value, the same hour of yesterday, and the mean at that hour of the last weeks."""
    actual = np.arange(24.0 * 5)
    hours = np.array([49])
    found = skill.references(actual, hours)
    assert found["persistence"][0, [0, 23]].tolist() == [1, 24]
    assert found["yesterday"][0].tolist() == [24] * 24
    assert found["climatology"][0, 0] == 49 - (25 + 1) / 2
    changed = actual.copy()
    changed[49:] += 100
    for name, errors in skill.references(changed, hours).items():
        assert errors - found[name] == pytest.approx(100)


def test_errors_are_compared_over_the_same_hours() -> None:
    """An hour that one of them does not know counts for none."""
    errors, plain = np.full((2, 24), 3.0), {"yesterday": np.full((2, 24), 4.0)}
    errors[0, 0], plain["yesterday"][1, 1] = np.nan, np.nan
    found = skill.by_lead(errors, plain)
    assert [one.count for one in found.values()] == [1, 3, 6, 12, 24]
    assert {one.skill("yesterday") for one in found.values()} == {25}


# -- on real grids --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(shared: Path) -> dict[str, Result]:
    """A year of twelve zones without any forecast."""
    return skill.measure(skill.without_forecast(shared / "traces"))


@pytest.fixture(scope="module")
def believed(shared: Path) -> dict[str, Result]:
    """Half a year of three zones with the provider's day-ahead forecast."""
    return skill.measure(skill.with_forecast(shared / "traces"))


@pytest.mark.slow
def test_day_ahead_forecasts_capture_what_is_asked_for(believed: dict[str, Result]) -> None:
    """With a real forecast nearly all that is possible is saved."""
    captured = {zone: round(one.captured_percent) for zone, one in believed.items()}
    assert {zone for zone, least in skill.TARGETS.items() if captured[zone] < least} == set()


@pytest.mark.slow
def test_correction_costs_nothing(shared: Path, believed: dict[str, Result]) -> None:
    """What is learned of a forecast makes it better, or hardly worse."""
    for zone, one in skill.measure(skill.with_forecast(shared / "traces"), learns=False).items():
        assert believed[zone].captured_percent > one.captured_percent - 0.5


@pytest.mark.slow
def test_no_zone_loses_without_a_forecast(plain: dict[str, Result]) -> None:
    """With nothing but its history no zone ends below run-now."""
    assert len(plain) == 12
    assert {zone for zone, one in plain.items() if one.lost} == set()


@pytest.mark.slow
def test_regular_days_keep_most_without_a_forecast(plain: dict[str, Result]) -> None:
    """Where one day is like the other three quarters of the possible saving are kept."""
    captured = {zone: plain[zone].captured_percent for zone in REGULAR}
    assert min(captured.values()) >= 75, captured


@pytest.mark.slow
def test_means_lie_in_the_intervals_that_were_given(
    plain: dict[str, Result], believed: dict[str, Result]
) -> None:
    """Nine in ten, about: of the chosen windows, which are the ones that look best."""
    for one in (*plain.values(), *believed.values()):
        assert one.intervals.days > 150
        assert 80 <= one.intervals.inside_percent <= 97, one.zone
