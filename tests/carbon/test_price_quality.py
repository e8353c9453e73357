"""The quality gate of prices: what no market has becomes unknown; what markets do have passes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import quality
from carbon._findings import Fault, Inspected
from carbon._price_quality import inspect_price
from carbon._series import Kind, PriceSeries, regular

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOUR, QUARTER = timedelta(hours=1), timedelta(minutes=15)
START = datetime(2026, 3, 27, 12, tzinfo=UTC)


def priced(
    values: Sequence[float | None], step: timedelta = HOUR, currency: str = "EUR"
) -> PriceSeries:
    """Return prices of equal steps."""
    starts, end = regular(START, step, len(values))
    return PriceSeries("DE", starts, end, values, "s", kind=Kind.FORECAST, currency=currency)


def day(hours: int, *, first: int = 0) -> list[float]:
    """Return prices of which none is like another."""
    places = range(first, first + hours)
    return [round(90 - 60 * np.sin(hour / 12 * np.pi) + hour * 0.37, 2) for hour in places]


def look(made: PriceSeries, *, now: datetime = START, asked: datetime | None = None) -> Inspected:
    """Look at prices at their start, with all of them asked for."""
    return inspect_price(made, now=now, asked=asked or made.end)


def faults(found: Inspected) -> list[Fault]:
    """Return the names of what was found."""
    return [finding.fault for finding in found.findings]


def kept(found: Inspected) -> list[float | None]:
    """Return what is believed."""
    assert found.series is not None
    return list(found.series.values)


some = st.sampled_from([0.0, -0.0, 12.5, 50.0, 50.0, 4_000.0, -500.0, 1e5]) | st.floats(
    -1e300, 1e300
)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from([15, 60, 360]), st.none() | some), min_size=1, max_size=70
    ),
    currency=st.sampled_from(["EUR", "USD", "JPY", "XXX"]),
    now=st.integers(-100, 100),
    asked=st.integers(-100, 100),
    again=st.booleans(),
)
def test_no_price_is_ever_changed(
    rows: list[tuple[int, float | None]], currency: str, now: int, asked: int, again: bool
) -> None:
    """Whatever is sent, the gate does not raise; it takes prices away and invents none."""
    minutes = [length for length, _ in rows] * (2 if again else 1)
    values = [value for _, value in rows] * (2 if again else 1)
    edges = [START + timedelta(minutes=sum(minutes[:n])) for n in range(len(minutes) + 1)]
    made = PriceSeries(
        "DE", edges[:-1], edges[-1], values, "s", kind=Kind.FORECAST, currency=currency
    )
    found = look(made, now=START + now * HOUR, asked=START + asked * HOUR)
    assert len(set(faults(found))) == len(found.findings), "a fault is named once"
    assert all(one.text for one in found.findings)
    assert (found.series is None) == any(one.rejects for one in found.findings)
    if found.series is None:
        return
    assert (found.series.starts, found.series.end) == (made.starts, made.end)
    pairs = list(zip(made.values, found.series.values, strict=True))
    assert all(left is None or left == sent for sent, left in pairs)
    if any(left is None and sent is not None for sent, left in pairs):
        assert found.findings, "nothing is taken away without a word"


# -- zeros ----------------------------------------------------------------------------------------


def test_tomorrow_as_zeros_is_not_known_yet() -> None:
    """Eleven hours of today are believed, however near to zero they end; 24 zeros are not."""
    today = [*day(10), 0.042]  # as was sent for BE on 2023-12-28
    found = look(priced([*today, *[0.0] * 24]))
    assert kept(found) == [*today, *[None] * 24]
    assert faults(found) == [Fault.ZEROS, Fault.SHORT]
    assert "24 h from Fri 27 Mar 23:00 UTC" in found.findings[0].text


def test_nothing_but_zeros_is_no_price() -> None:
    """A day of zeros alone leaves nothing."""
    found = look(priced([0.0] * 24))
    assert found.series is None
    assert Fault.TOO_LITTLE in faults(found)


@pytest.mark.parametrize("zeros", [1, 4, 11])
def test_zeros_for_hours_are_prices(zeros: int) -> None:
    """On a sunny Sunday they are, also where the series ends with them."""
    assert not look(priced([*day(20), *[0.0] * zeros])).findings
    assert not look(priced([*day(20), *[0.0] * zeros, *day(10, first=20)])).findings


def test_a_windy_night_and_day_at_zero_is_believed() -> None:
    """Prices that follow later prove the zeros before them."""
    assert not look(priced([*day(6), *[0.0] * 20, *day(9, first=26)])).findings
    assert not look(priced([*day(3), *[0.0, -0.01, 0.0] * 11])).findings


def test_quarter_hours_count_as_quarters() -> None:
    """Forty zeros are ten hours, forty-eight are twelve."""
    today = day(48)
    assert not look(priced([*today, *[0.0] * 40], QUARTER)).findings
    assert Fault.ZEROS in faults(look(priced([*today, *[0.0] * 48], QUARTER)))


# -- frozen, copied, out of range ----------------------------------------------------------------


def test_the_last_price_for_a_whole_day_is_no_price() -> None:
    """As an integration of ENTSO-E made of a day that was not published."""
    today = day(12)
    found = look(priced([*today, *[today[-1]] * 24]))
    assert kept(found) == [*today[:-1], *[None] * 25]
    assert faults(found) == [Fault.FROZEN, Fault.SHORT]


@pytest.mark.parametrize("hours", [2, 6, 11])
def test_a_price_that_stands_for_hours_is_believed(hours: int) -> None:
    """One marginal unit may set the price of a night."""
    assert not look(priced([*day(12), *[55.7] * hours, *day(20, first=30)])).findings


def test_tomorrow_as_today_once_more() -> None:
    """What can be compared is a copy, so its whole day is not believed."""
    today = day(24)
    found = look(priced([*today[10:], *today]))
    assert kept(found) == [*today[10:], *[None] * 24]
    assert faults(found) == [Fault.COPIED_DAY, Fault.SHORT]


def test_a_copied_part_takes_nothing_else_along() -> None:
    """Where a part of the day differs, only what is the same is taken."""
    today = day(24)
    tomorrow = [*today[:12], *day(12, first=90)]
    found = look(priced([*today, *tomorrow]))
    assert kept(found) == [*today, *[None] * 12, *tomorrow[12:]]


@pytest.mark.parametrize("value", [90_000.0, -3_000.0, 1e300])
def test_one_price_that_no_market_has(value: float) -> None:
    """It is taken away, and the text names no price."""
    found = look(priced([*day(10), value, *day(10, first=11)]))
    assert kept(found)[10] is None
    assert faults(found) == [Fault.OUT_OF_RANGE, Fault.GAPS]
    assert f"{value:g}" not in found.findings[0].text


def test_another_unit_is_no_price_at_all() -> None:
    """With most prices beyond the limits, the rest is no better."""
    found = look(priced([price * 1_000 for price in day(24)]))
    assert found.series is None
    assert faults(found) == [Fault.OUT_OF_RANGE]


@pytest.mark.parametrize(
    ("currency", "value"),
    [
        ("EUR", 5_000.0),
        ("EUR", -500.0),
        ("AUD", 20_300.0),
        ("USD", 9_000.0),
        ("NOK", 44_000.0),
        ("JPY", 251_000.0),
        ("HUF", 1_600_000.0),
        ("XXX", 5e6),
    ],
)
def test_what_markets_have_had_is_believed(currency: str, value: float) -> None:
    """The caps and floors of real markets, in their currency."""
    assert not look(priced([*day(10), value, *day(10, first=11)], currency=currency)).findings


# -- time -----------------------------------------------------------------------------------------


def test_a_short_horizon_is_usual_and_named() -> None:
    """Before noon tomorrow is not known: today's prices are as good as they are."""
    found = look(priced(day(6)), asked=START + 30 * HOUR)
    assert found.series is not None
    assert faults(found) == [Fault.SHORT]
    assert "Fri 27 Mar 18:00" in found.findings[0].text


def test_a_gap_is_named_and_too_many_are_too_much() -> None:
    """A few hours are missed, most of them are too little."""
    found = look(priced([*day(10), None, None, *day(10, first=12)]))
    assert faults(found) == [Fault.GAPS]
    sparse = look(priced([*day(2), *[None] * 20, *day(2, first=22)]))
    assert sparse.series is None
    assert faults(sparse) == [Fault.TOO_LITTLE]


def test_prices_of_the_past_say_nothing_of_the_time_ahead() -> None:
    """All of it is over."""
    assert look(priced(day(6)), now=START + 7 * HOUR).series is None


def test_an_old_price_is_as_good_as_a_new_one() -> None:
    """An auction is held once."""
    made = replace(priced(day(24)), fetched_at=START - 24 * HOUR)
    assert not look(made).findings


# -- on real markets ------------------------------------------------------------------------------

LEAST_CAUGHT = {
    "tomorrow as zeros": 100,
    "tomorrow as the last price": 100,
    "tomorrow as today": 99,
    "frozen for 14 h": 100,
    "a thousand times": 97,
    "one hour at a million": 100,
}
"""Percent of each fault that is caught."""


@pytest.mark.slow
def test_real_prices_pass_and_faults_are_caught(shared: Path) -> None:
    """In eight real years of hours nothing is found but that hours are missing in the file."""
    table = quality.measure_prices(quality.markets(shared / "traces"), every=31)
    assert table.clean > 2_000
    assert not table.alarms
    rates = {fault: table.rate(fault, history=False) for fault in LEAST_CAUGHT}
    assert set(rates) == set(table.tries)
    assert not {fault: rate for fault, rate in rates.items() if rate < LEAST_CAUGHT[fault]}
