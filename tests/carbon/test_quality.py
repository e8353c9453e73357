"""The quality gate: faults seen in the wild become unknown values; sound series pass untouched."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import quality
from carbon._findings import Fault, Inspected, Norm
from carbon._provider import of_whole, whole_of
from carbon._quality import inspect
from carbon._series import Accounting, IntensitySeries, Kind, Signal, regular

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

START = datetime(2026, 3, 28, tzinfo=UTC)  # Europe's clocks go forward in the second night
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
USUAL = Norm(100.0, 400.0, 60.0)

Values = list[float] | list[float | None]


def series(
    values: Values,
    step: timedelta = HOUR,
    *,
    zone: str = "DE",
    source: str = "test",
    accounting: Accounting = Accounting.LIFECYCLE,
    fetched_at: datetime = START,
) -> IntensitySeries:
    """Make a forecast of equal steps."""
    starts, end = regular(START, step, len(values))
    return IntensitySeries(
        zone,
        starts,
        end,
        values,
        source,
        kind=Kind.FORECAST,
        accounting=accounting,
        fetched_at=fetched_at,
    )


def mixed(values: Values, minutes: Sequence[int]) -> IntensitySeries:
    """Make a forecast of steps of the given lengths."""
    edges = [START + sum(minutes[:place]) * MINUTE for place in range(len(minutes) + 1)]
    return IntensitySeries("DE", edges[:-1], edges[-1], values, "test", kind=Kind.FORECAST)


def day(hours: int = 48) -> list[float]:
    """Return a believable forecast: a smooth day, and no hour like another."""
    place = np.arange(hours)
    values = 250 - 90 * np.cos(2 * np.pi * place / 24) + 7 * np.sin(place / 5) + place / 50
    return [float(value) for value in np.round(values, 2)]


def low_hydro(hours: int, changes: int) -> list[float]:
    """Return whole grams that stand still between a few changes."""
    return [26.0 + (place // changes) % 3 for place in range(hours)]


def look(
    made: IntensitySeries,
    norm: Norm | None = None,
    *others: IntensitySeries,
    after: timedelta = 0 * HOUR,
) -> Inspected:
    """Look at a forecast at its start or later, with all of it asked for."""
    return inspect(made, now=made.start + after, asked=made.end, norm=norm, others=others)


def faults(found: Inspected) -> set[Fault]:
    """Return the names of what was found."""
    return {finding.fault for finding in found.findings}


def refused(made: IntensitySeries, found: Inspected) -> list[int]:
    """Return the places of values that are no longer known."""
    assert found.series is not None
    pairs = zip(made.values, found.series.values, strict=True)
    return [place for place, (sent, kept) in enumerate(pairs) if sent is not None and kept is None]


# -- for any series -------------------------------------------------------------------------------

levels = st.sampled_from([0.0, 20.0, 100.0, 100.0, 150.0, 300.0, 2000.0]) | st.floats(0, 2000)
rows = st.lists(
    st.tuples(st.sampled_from([5, 15, 30, 60, 180]), st.none() | levels), min_size=1, max_size=80
)
norms = st.none() | st.builds(Norm, st.floats(0, 300), st.floats(300, 2000), st.floats(0, 60))


@given(
    rows=rows,
    norm=norms,
    accounting=st.sampled_from(Accounting),
    signal=st.sampled_from(Signal),
    now=st.integers(-100, 100),
    asked=st.integers(-100, 100),
)
def test_no_value_is_ever_changed(
    rows: list[tuple[int, float | None]],
    norm: Norm | None,
    accounting: Accounting,
    signal: Signal,
    now: int,
    asked: int,
) -> None:
    """Whatever is sent, the gate does not raise; it takes values away and invents none."""
    made = mixed([value for _, value in rows], [length for length, _ in rows])
    made = replace(made, accounting=accounting, signal=signal, fetched_at=START)
    found = inspect(
        made, now=START + now * HOUR, asked=START + asked * HOUR, norm=norm, others=[made]
    )
    assert all(0 <= finding.weight <= 1 and finding.text for finding in found.findings)
    assert len(faults(found)) == len(found.findings), "a fault is named once"
    if found.series is None:
        assert any(finding.rejects for finding in found.findings)
        return
    assert not any(finding.rejects for finding in found.findings)
    assert (found.series.starts, found.series.end) == (made.starts, made.end)
    for sent, kept in zip(made.values, found.series.values, strict=True):
        assert kept is None or kept == sent
    if refused(made, found):
        assert found.findings, "nothing is taken away without a word"


@given(rows=rows, norm=norms)
def test_looking_twice_is_no_stricter_on_what_is_left(
    rows: list[tuple[int, float | None]], norm: Norm | None
) -> None:
    """What the gate has let through does not make it raise, and is not made up the second time."""
    made = mixed([value for _, value in rows], [length for length, _ in rows])
    first = look(made, norm)
    if first.series is not None:
        again = look(first.series, norm)
        left = again.series.known if again.series else ()
        assert set(left) <= set(first.series.known)


@pytest.mark.parametrize("step", [5, 15, 30, 60])
@pytest.mark.parametrize("norm", [None, USUAL])
def test_a_sound_forecast_passes_untouched(step: int, norm: Norm | None) -> None:
    """A smooth day in any step has no finding and is the very series that was sent."""
    made = series(
        [float(v) for v in np.interp(np.arange(0, 48, step / 60), np.arange(48), day())],
        step * MINUTE,
    )
    found = look(made, norm)
    assert found.findings == ()
    assert found.series is made


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("step", [5, 60, 24 * 60])
def test_a_few_values_are_no_fault(count: int, step: int) -> None:
    """A series of one, two or three values passes."""
    assert look(series([200.0, 210.0, 190.0][:count], step * MINUTE), USUAL).findings == ()


def test_nothing_known_is_too_little() -> None:
    """A series without a value is not believed."""
    found = look(series([None, None]))
    assert found.series is None
    assert faults(found) == {Fault.TOO_LITTLE}


# -- zeros ----------------------------------------------------------------------------------------


def test_ten_hours_of_zeros() -> None:
    """Ten hours of zeros become unknown, and no other hour."""
    made = series([*day()[:12], *[0.0] * 10, *day()[22:]])
    found = look(made)
    assert refused(made, found) == list(range(12, 22))
    assert faults(found) == {Fault.ZEROS, Fault.GAPS}
    assert "10 h from Sat 28 Mar 12:00 UTC" in found.findings[0].text


def test_a_day_of_zeros_is_too_little() -> None:
    """Where more than half of the time ahead is zero, nothing is believed."""
    assert look(series([*[0.0] * 30, *day()[30:]])).series is None


def test_true_zeros_of_a_direct_series() -> None:
    """Wind and water alone emit nothing at the plant: zeros pass where there have been some."""
    values = [*[60.0 - 5 * place for place in range(12)], *[0.0] * 20, *day(16)]
    values[-16:] = [2.0 * place for place in range(16)]
    made = series(values, 30 * MINUTE, zone="GB", accounting=Accounting.DIRECT)
    assert look(made, Norm(0.0, 250.0, 60.0)).findings == ()
    assert Fault.ZEROS in faults(look(made, Norm(40.0, 250.0, 60.0)))
    assert Fault.ZEROS in faults(look(made)), "without a history, hours of zeros are doubted"


def test_an_hour_of_zeros_may_be_true_in_a_direct_series() -> None:
    """A short zero at the foot of a slope passes even where nothing is known of the zone."""
    values = [50.0, 40.0, 30.0, 20.0, 10.0, 0.0, 0.0, 8.0, 16.0, 24.0, 30.0, 36.0]
    assert look(series(values, zone="GB", accounting=Accounting.DIRECT)).findings == ()


# -- frozen ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [5, 30, 60])
def test_a_frozen_feed(step: int) -> None:
    """Twelve hours of one value become unknown, whatever the step."""
    values = [float(v) for v in np.interp(np.arange(0, 48, step / 60), np.arange(48), day())]
    first, stop = 10 * 60 // step, 22 * 60 // step
    values[first:stop] = [values[first]] * (stop - first)
    made = series(values, step * MINUTE)
    found = look(made)
    assert refused(made, found) == list(range(first, stop))
    assert faults(found) == {Fault.FROZEN, Fault.GAPS}


def test_an_afternoon_of_one_value_is_no_fault() -> None:
    """Five hours of one value pass."""
    values = day()
    values[10:15] = [values[10]] * 5
    assert look(series(values)).findings == ()


def test_steps_of_all_lengths_freeze_by_the_clock() -> None:
    """Whether a mixed series is frozen is a matter of hours, not of how many values there are."""
    many = mixed([*day(2), *[220.0] * 24, *day(2)], [60, 60, *[5] * 24, 60, 60])
    few = mixed([*day(2), *[220.0] * 4, *day(2)], [60, 60, 30, 60, 180, 180, 60, 60])
    assert Fault.FROZEN not in faults(look(many))
    assert Fault.FROZEN in faults(look(few))


def test_low_hydro_in_whole_grams_may_stand_still() -> None:
    """At 26 g/kWh rounding alone makes a value stand for 12 h, and seen in Sweden for 38 h."""
    assert look(series(low_hydro(48, 12), zone="SE-SE3"), Norm(20.0, 40.0, 60.0)).findings == ()
    assert look(series(low_hydro(72, 38), zone="SE-SE3")).findings == ()


def test_low_hydro_with_decimals_may_not() -> None:
    """Twelve hours of 26.31 g/kWh are a feed that stands still."""
    assert Fault.FROZEN in faults(look(series([*day(24), *[26.31] * 12])))


# -- glitches -------------------------------------------------------------------------------------


def test_the_recorded_glitch() -> None:
    """The phantom dips that Great Britain's forecast had on 2023-03-27 are not believed."""
    before, after = [158.0, 160.0, 161.0], [176.0, 180.0, 183.0]
    made = series([*before, 163.0, 116.0, 166.0, 115.0, 174.0, *after], 30 * MINUTE, zone="GB")
    found = look(made)
    assert found.series is not None
    assert found.series.values[3:8] == (163.0, None, None, None, 174.0)
    assert min(found.series.known) == 158.0
    assert faults(found) == {Fault.GLITCH, Fault.GAPS}


@pytest.mark.parametrize("factor", [0.6, 1.6])
@pytest.mark.parametrize("minutes", [5, 15, 30, 60])
def test_a_leap_that_comes_back_within_the_hour(factor: float, minutes: int) -> None:
    """A dip or a spike of an hour becomes unknown in any step, and nothing beside it."""
    values = [float(v) for v in np.interp(np.arange(0, 24, minutes / 60), np.arange(48), day())]
    first, count = 5 * 60 // minutes, 60 // minutes
    values[first : first + count] = [factor * v for v in values[first : first + count]]
    made = series(values, minutes * MINUTE)
    found = look(made)
    assert refused(made, found) == list(range(first, first + count))
    assert faults(found) == {Fault.GLITCH, Fault.GAPS}


def test_what_lasts_is_no_glitch() -> None:
    """A valley of two hours passes, and so does a step that does not come back."""
    values = [300.0, 310.0, 200.0, 205.0, 305.0, 300.0, 180.0, 170.0, 160.0]
    assert look(series(values)).findings == ()


def test_an_hour_is_an_hour_in_mixed_steps() -> None:
    """Many short steps do not make a valley of long ones a glitch, nor hide a short one."""
    near, valley = [300.0 + place % 3 for place in range(24)], [180.0, 170.0, 175.0]
    lengths = [*[5] * 24, *[60] * 5]
    sound = mixed([*near, *valley, 300.0, 310.0], lengths)
    assert look(sound).findings == ()
    dip = mixed([*near, 300.0, 170.0, 295.0, 300.0, 310.0], lengths)
    assert refused(dip, look(dip)) == [25]
    short = mixed([*near[:10], 170.0, *near[11:], *[300.0] * 5], lengths)
    assert refused(short, look(short)) == [10]


def test_a_slope_beside_a_gap_is_no_glitch() -> None:
    """Whether a leap comes back is not known beside a gap: the value is kept."""
    made = series([None, 100.0, 150.0, 200.0, None, 250.0, 180.0, None])
    found = look(made)
    assert refused(made, found) == []
    assert faults(found) == {Fault.GAPS}


def test_small_leaps_of_a_clean_grid_are_no_glitch() -> None:
    """At 23 g/kWh a leap of ten grams is half the level and real."""
    assert look(series([23.0, 24.0, 33.0, 22.0, 23.0], zone="SE-SE3")).findings == ()


# -- level ----------------------------------------------------------------------------------------


def test_pounds_per_mwh_leave_the_range_of_the_zone() -> None:
    """A body in lb/MWh is rejected as a whole where the zone's history is known."""
    pounds = [2.2046 * value for value in day()]
    found = look(series(pounds), Norm(min(day()), max(day()), 60.0))
    assert found.series is None
    assert faults(found) == {Fault.OUT_OF_RANGE}


def test_a_value_far_out_becomes_unknown() -> None:
    """A few hours far above all that was seen are not believed; the rest is."""
    made = series([*day()[:20], 1200.0, 1250.0, 1300.0, *day()[23:]])
    found = look(made, USUAL)
    assert refused(made, found) == [20, 21, 22]
    assert faults(found) == {Fault.OUT_OF_RANGE, Fault.GAPS}
    assert "100 to 400 g/kWh" in found.findings[0].text


def test_a_short_history_is_no_range() -> None:
    """The range of a week says nothing: real weather leaves it once in a hundred windows."""
    assert look(series(day()), Norm(300.0, 310.0, 7.0)).findings == ()
    assert Fault.OUT_OF_RANGE in faults(look(series(day()), Norm(300.0, 310.0, 14.0)))


def test_without_a_history_the_published_mean_tells() -> None:
    """A level six times off what is published is another zone's, but only like is compared."""
    coal = [value + 600 for value in day()]
    found = look(series(coal, zone="SE-SE3"))
    assert found.series is None
    assert faults(found) == {Fault.LEVEL}
    marginal = replace(series(coal, zone="SE-SE3"), signal=Signal.MARGINAL)
    assert look(marginal).findings == ()
    assert look(series(coal, zone="SE-SE3", accounting=Accounting.DIRECT)).findings == ()
    assert look(series(coal, zone="XX")).findings == ()


# -- copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [15, 30, 60])
def test_a_copied_second_day(step: int) -> None:
    """The second day is not believed when it is the first once more; the first one is."""
    one = [float(v) for v in np.interp(np.arange(0, 24, step / 60), np.arange(48), day())]
    made = series([*one, *one], step * MINUTE)
    found = look(made)
    assert refused(made, found) == list(range(len(one), 2 * len(one)))
    assert Fault.COPIED_DAY in faults(found)


def test_a_copy_is_seen_beside_other_days_and_holes() -> None:
    """A third day of its own and an hour that is missing do not hide the copied second one."""
    values: list[float | None] = [*day()[:24], *day()[:24], *(value + 3 for value in day()[:24])]
    values[30] = None
    made = series(values)
    found = look(made)
    assert refused(made, found) == [*range(24, 30), *range(31, 48)]
    assert faults(found) == {Fault.COPIED_DAY, Fault.GAPS}


def test_a_copy_in_whole_grams() -> None:
    """Rounding makes values recur within a day; a copied day is seen all the same."""
    one = [float(round(value / 8)) for value in day()[:24]]
    assert Fault.COPIED_DAY in faults(look(series([*one, *one], zone="FR")))


def test_low_hydro_is_no_copy() -> None:
    """Three values in whole grams come back on the next day by themselves."""
    assert look(series(low_hydro(48, 8), zone="SE-SE3")).findings == ()


def test_another_zones_digits() -> None:
    """Two countries with one body, be it cut differently, are both not believed."""
    made, other = series(day()), series(day(40), zone="NL")
    for found in (look(made, None, other), look(other, None, made)):
        assert found.series is None
        assert faults(found) == {Fault.OTHER_ZONE}
    assert "NL" in look(made, None, other).findings[0].text


def test_zones_that_may_have_one_body() -> None:
    """A country's number for two of its zones is no fault, nor is being itself."""
    source = of_whole("the site", "all of Norway")
    norway = [series(day(), zone=zone, source=source) for zone in ("NO-NO1", "NO-NO2")]
    assert Fault.OTHER_ZONE not in faults(look(norway[0], None, norway[1]))
    other = replace(norway[1], source=of_whole("the site", "all of Sweden"))
    assert Fault.OTHER_ZONE in faults(look(norway[0], None, other))
    assert look(series(day()), None, series(day())).findings == ()


def test_two_zones_of_one_country_with_one_body() -> None:
    """Where the source speaks of each zone, being in one country is no excuse."""
    ohio, oregon = (series(day(), zone=zone) for zone in ("US-MIDA-PJM", "US-NW-PACW"))
    found = look(ohio, None, oregon)
    assert found.series is None
    assert Fault.OTHER_ZONE in faults(found)


def test_a_source_says_what_it_speaks_of() -> None:
    """The whole is read as it was written; a plain attribution speaks of no whole."""
    assert whole_of(of_whole("A, of B (CC BY 4.0)", "all of C")) == "all of C"
    assert whole_of("A, of B (CC BY 4.0)") is None


def test_zones_that_agree_by_chance() -> None:
    """A few hours in common, or a flat line in common, are no proof."""
    values = [*day(11), *[None] * 37]
    made, other = series(values), series(values, zone="FR")
    assert Fault.OTHER_ZONE not in faults(look(made, None, other))
    flat = series([300.0] * 5, 2 * HOUR), series([300.0] * 5, 2 * HOUR, zone="FR")
    assert Fault.OTHER_ZONE not in faults(look(flat[0], None, flat[1]))


# -- time -----------------------------------------------------------------------------------------


def test_stale_then_dead() -> None:
    """From six hours on a forecast is stale; from a day and a half on it is not believed."""
    made = series(day(72))
    assert look(made, after=5 * HOUR).findings == ()
    stale = look(made, after=6 * HOUR)
    assert faults(stale) == {Fault.STALE}
    assert stale.series is made
    assert look(made, after=36 * HOUR).series is None


def test_age_is_that_of_the_issue() -> None:
    """When the provider says that it issued the numbers counts, not when they were fetched."""
    made = replace(series(day()), issued_at=START - 7 * HOUR)
    assert faults(look(made)) == {Fault.STALE}
    assert look(replace(made, issued_at=START + HOUR)).findings == ()


def test_a_short_horizon_is_said() -> None:
    """Half the horizon is named, costs no trust, and what there is stays."""
    made = series(day(24))
    found = inspect(made, now=START, asked=START + 48 * HOUR)
    assert faults(found) == {Fault.SHORT}
    assert found.findings[0].weight == 1
    assert found.series is made


@pytest.mark.parametrize(("now", "asked"), [(24, 48), (-3, -2)])
def test_nothing_about_the_time_ahead(now: int, asked: int) -> None:
    """A forecast that is over, or begins after the time asked for, is too little."""
    found = inspect(series(day(24)), now=START + now * HOUR, asked=START + asked * HOUR)
    assert found.series is None
    assert Fault.TOO_LITTLE in faults(found)


def test_beginning_late_is_a_gap() -> None:
    """Beginning with the next step is usual; hours later is a gap; too late is too little."""
    made = series(day(24))
    assert look(made, after=-1 * HOUR).findings == ()
    late = look(made, after=-5 * HOUR)
    assert [finding.text for finding in late.findings] == ["5 h of the time ahead are not known"]
    assert late.series is made
    assert look(made, after=-25 * HOUR).series is None


# -- on real grids --------------------------------------------------------------------------------

LEAST_CAUGHT = {
    "zeros for 10 h": (100, 100),
    "zeros for 2 h": (100, 88),
    "frozen for 12 h": (99, 99),
    "one hour 40 % low": (88, 88),
    "one hour 60 % high": (93, 93),
    "second day copied": (100, 100),
    "lb/MWh": (70, 5),
    "4.5 times the level": (97, 50),
    quality.OTHER_ZONE: (99, 99),
}
"""Percent of each fault that is caught, with and without the zone's history."""


@pytest.mark.slow
def test_faults_in_real_series_are_caught(shared: Path) -> None:
    """On 15 real series faults are caught as often as is said, and it rarely cries wolf."""
    table = quality.measure(quality.grids(shared / "traces"), every=199)
    assert table.clean > 450
    rates = {
        fault: (table.rate(fault, history=True), table.rate(fault, history=False))
        for fault in LEAST_CAUGHT
    }
    too_low = {
        fault: rates[fault]
        for fault, least in LEAST_CAUGHT.items()
        if rates[fault][0] < least[0] or rates[fault][1] < least[1]
    }
    assert not too_low
    assert sum(table.alarms.values()) <= 4, table.alarms


@pytest.mark.slow
def test_whole_grams_do_not_cry_wolf(shared: Path) -> None:
    """Providers that round to whole grams are believed as well."""
    whole = [
        replace(grid, values=np.round(grid.values)) for grid in quality.grids(shared / "traces")
    ]
    alarms = 0
    for grid in whole:
        for hour in range(0, len(grid.values) - quality.HOURS, 83):
            made = grid.window(hour, grid.values[hour : hour + quality.HOURS])
            alarms += bool(look(made).findings)
    assert alarms <= 5
