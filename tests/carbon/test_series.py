"""Series: piecewise constant, half-open, never silent about what they do not cover."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon._errors import BadInput, NoSignal
from carbon._series import (
    Accounting,
    IntensitySeries,
    Kind,
    PriceSeries,
    Signal,
    regular,
    require_utc,
    require_window,
)

START = datetime(2026, 6, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def series(values: list[float], minutes: list[int] | None = None) -> IntensitySeries:
    """Make a series of intervals with the given lengths, by default of 30 minutes."""
    lengths = minutes or [30] * len(values)
    edges = [START + sum(lengths[:index]) * MINUTE for index in range(len(lengths) + 1)]
    return IntensitySeries("DE", edges[:-1], edges[-1], values, "test", kind=Kind.FORECAST)


steps = st.lists(st.tuples(st.integers(1, 90), st.floats(0, 1500)), min_size=1, max_size=20)


def brute(intervals: list[tuple[int, float]], start: int, stop: int) -> float:
    """Integrate minute by minute."""
    flat = [value for length, value in intervals for _ in range(length)]
    return sum(flat[start:stop]) / (stop - start)


@given(intervals=steps, data=st.data())
def test_mean_is_the_integral(intervals: list[tuple[int, float]], data: st.DataObject) -> None:
    """The mean over any covered window equals the minute-by-minute integral."""
    total = sum(length for length, _ in intervals)
    start = data.draw(st.integers(0, total - 1))
    stop = data.draw(st.integers(start + 1, total))
    made = series([value for _, value in intervals], [length for length, _ in intervals])
    mean = made.mean(START + start * MINUTE, START + stop * MINUTE)
    assert mean == pytest.approx(brute(intervals, start, stop), rel=1e-6, abs=1e-3)


@given(intervals=steps, length=st.integers(1, 120))
def test_means_agree_with_mean(intervals: list[tuple[int, float]], length: int) -> None:
    """The vector form equals the scalar form where covered, and is nan elsewhere."""
    made = series([value for _, value in intervals], [minutes for minutes, _ in intervals])
    starts = [START + offset * MINUTE for offset in range(-30, 300, 7)]
    found = made.means(np.array([moment.timestamp() for moment in starts]), length * 60.0)
    for moment, value in zip(starts, found, strict=True):
        if made.covers(moment, moment + length * MINUTE):
            assert value == pytest.approx(made.mean(moment, moment + length * MINUTE))
        else:
            assert np.isnan(value)
            with pytest.raises(NoSignal):
                made.mean(moment, moment + length * MINUTE)


def test_intervals_are_half_open() -> None:
    """A window that ends where the next interval starts does not feel it."""
    made = series([100.0, 900.0])
    half = START + 30 * MINUTE
    assert made.mean(START, half) == pytest.approx(100.0)
    assert made.mean(half, half + 30 * MINUTE) == pytest.approx(900.0)


@pytest.mark.parametrize(("start", "stop"), [(-1, 10), (50, 61), (10, 10), (20, 10)])
def test_no_coverage_is_no_signal(start: int, stop: int) -> None:
    """A window outside, empty or backwards gives NoSignal that names source, zone and extent."""
    with pytest.raises(NoSignal, match=r"test has zone DE from 2026-06-01 00:00 to .* 01:00 UTC"):
        series([1.0, 2.0]).mean(START + start * MINUTE, START + stop * MINUTE)


@pytest.mark.parametrize(
    ("values", "minutes", "problem"),
    [
        ([], [], "one value"),
        ([1.0], [0], "ascend"),
        ([float("nan")], [30], "not a number"),
        ([float("inf")], [30], "not a number"),
        ([-1.0], [30], "no carbon intensity"),
        ([2001.0], [30], "no carbon intensity"),
    ],
)
def test_bad_series_are_refused(values: list[float], minutes: list[int], problem: str) -> None:
    """What cannot be an intensity is refused, with the zone in the message."""
    with pytest.raises(BadInput, match=rf"IntensitySeries\(DE\).*{problem}"):
        series(values, minutes)


def test_counts_must_agree() -> None:
    """One value per interval."""
    with pytest.raises(BadInput, match="one value"):
        IntensitySeries("DE", [START], START + MINUTE, [1.0, 2.0], "test", kind=Kind.ACTUAL)


def test_naive_times_are_refused() -> None:
    """A time without a zone is refused by the name of its field."""
    with pytest.raises(BadInput, match=r"moment.*no time zone"):
        require_utc("moment", START.replace(tzinfo=None))
    with pytest.raises(BadInput, match="end"):
        require_window(START, START)


def test_family_holds_what_must_be_alike() -> None:
    """Signal, accounting and kind make the family; zone and source do not."""
    starts, end = regular(START, MINUTE, 1)
    one = IntensitySeries("DE", starts, end, [1.0], "a", kind=Kind.FORECAST)
    two = IntensitySeries("FR", starts, end, [2.0], "b", kind=Kind.FORECAST)
    marginal = IntensitySeries(
        "DE", starts, end, [1.0], "a", kind=Kind.FORECAST, signal=Signal.MARGINAL
    )
    direct = IntensitySeries(
        "DE", starts, end, [1.0], "a", kind=Kind.FORECAST, accounting=Accounting.DIRECT
    )
    assert one.family == two.family
    assert len({one.family, marginal.family, direct.family}) == 3


def test_prices_may_be_negative_and_name_their_unit() -> None:
    """Negative prices are real."""
    starts, end = regular(START, MINUTE, 2)
    price = PriceSeries("DE", starts, end, [-20.0, 10.0], "x", kind=Kind.ACTUAL, currency="EUR")
    assert price.unit == "EUR/MWh"
    assert price.mean(START, end) == pytest.approx(-5.0)


def test_regular_intervals_touch() -> None:
    """Equal intervals follow on one another up to the end."""
    starts, end = regular(START, 30 * MINUTE, 3)
    assert [*starts, end] == [START + 30 * count * MINUTE for count in range(4)]
