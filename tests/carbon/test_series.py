"""Series: piecewise constant, half-open, never silent about what they do not cover."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from carbon._errors import BadInput, NoSignal
from carbon._series import (
    Accounting,
    IntensitySeries,
    Kind,
    PriceSeries,
    Signal,
    joined,
    regular,
    require_utc,
    require_window,
)

START = datetime(2026, 6, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def series(
    values: list[float] | list[float | None],
    minutes: list[int] | None = None,
    start: datetime = START,
) -> IntensitySeries:
    """Make a series of intervals with the given lengths, by default of 30 minutes."""
    lengths = minutes or [30] * len(values)
    edges = [start + sum(lengths[:index]) * MINUTE for index in range(len(lengths) + 1)]
    return IntensitySeries("DE", edges[:-1], edges[-1], values, "test", kind=Kind.FORECAST)


def by_minute(*pieces: IntensitySeries) -> dict[datetime, float | None]:
    """Return the value of each minute; of several series, of the first that knows it."""
    found: dict[datetime, float | None] = {}
    for piece in reversed(pieces):
        ends = (*piece.starts[1:], piece.end)
        for begin, end, value in zip(piece.starts, ends, piece.values, strict=True):
            for place in range((end - begin) // MINUTE):
                moment = begin + place * MINUTE
                found[moment] = found.get(moment) if value is None else value
    return found


def told(pieces: dict[datetime, float | None]) -> dict[datetime, float]:
    """Leave out the minutes whose value is not known."""
    return {moment: value for moment, value in pieces.items() if value is not None}


@st.composite
def holed(draw: st.DrawFn) -> IntensitySeries:
    """Draw a series of mixed steps with unknown intervals."""
    values = st.none() | st.floats(0, 1500)
    rows = draw(st.lists(st.tuples(st.sampled_from([5, 15, 30, 60, 7]), values), min_size=1))
    start = START + draw(st.integers(-90, 90)) * MINUTE
    return series([value for _, value in rows], [length for length, _ in rows], start)


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
        ([-1.0], [30], "cannot be carbon intensities"),
        ([2001.0], [30], "cannot be carbon intensities"),
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


@given(made=holed(), begin=st.integers(-60, 300), length=st.integers(1, 180))
def test_no_mean_over_what_is_not_known(made: IntensitySeries, begin: int, length: int) -> None:
    """A mean is the integral where each minute is known, otherwise nan; `covers` says which."""
    start = START + begin * MINUTE
    flat = by_minute(made)
    minutes = [flat.get(start + place * MINUTE) for place in range(length)]
    found = made.means(np.array([start.timestamp()]), length * 60.0)[0]
    known = [value for value in minutes if value is not None]
    assert made.covers(start, start + length * MINUTE) == (len(known) == length)
    if len(known) < length:
        assert np.isnan(found)
        with pytest.raises(NoSignal, match="test has zone DE"):
            made.mean(start, start + length * MINUTE)
    else:
        assert found == pytest.approx(sum(known) / length, rel=1e-6, abs=1e-3)


def test_a_hole_is_told_apart_from_zero() -> None:
    """An unknown interval is no zero, not even at its edges, and the message speaks of gaps."""
    made = series([100.0, None, 0.0])
    half = 30 * MINUTE
    assert made.known == (100.0, 0.0)
    assert made.mean(START, START + half) == pytest.approx(100.0)
    assert made.mean(START + 2 * half, START + 3 * half) == 0
    assert not made.covers(START, START + half + MINUTE)
    with pytest.raises(NoSignal, match="with gaps"):
        made.mean(START + half, START + 2 * half)


def test_a_series_may_know_nothing() -> None:
    """Nothing known is a series all the same, and has no mean."""
    made = series([None, None])
    assert made.known == ()
    assert np.isnan(made.means(np.array([START.timestamp()]), 60.0)).all()
    assert made.regridded(60 * MINUTE).values == (None,)


@given(made=holed(), begin=st.integers(-100, 300), length=st.integers(1, 300))
def test_within_is_the_part_inside(made: IntensitySeries, begin: int, length: int) -> None:
    """The part inside has the same value in each minute; a window beside it gives NoSignal."""
    start, end = START + begin * MINUTE, START + (begin + length) * MINUTE
    inside = {at: value for at, value in by_minute(made).items() if start <= at < end}
    if not inside:
        with pytest.raises(NoSignal, match="nothing for DE"):
            made.within(start, end)
        return
    part = made.within(start, end)
    assert by_minute(part) == inside
    assert (part.start, part.end) == (max(start, made.start), min(end, made.end))
    assert (part.family, part.source) == (made.family, made.source)


@given(made=holed(), cut=st.integers(1, 1000))
def test_what_is_cut_can_be_joined_again(made: IntensitySeries, cut: int) -> None:
    """Both parts of a series, in either order, make the series."""
    at = made.start + cut * MINUTE
    assume(at < made.end)
    parts = [made.within(made.start, at), made.within(at, made.end)]
    assert by_minute(joined(parts)) == by_minute(made)
    assert by_minute(joined(parts[::-1])) == by_minute(made)


@given(pieces=st.lists(holed(), min_size=1, max_size=4))
def test_joined_keeps_the_first_and_fills_nothing(pieces: list[IntensitySeries]) -> None:
    """Each minute has the value of the first piece that knows it, and none where no piece does."""
    whole = joined(pieces)
    assert told(by_minute(whole)) == told(by_minute(*pieces))
    assert whole.start == min(piece.start for piece in pieces)
    assert whole.end == max(piece.end for piece in pieces)


def test_joined_leaves_a_hole_between_pieces() -> None:
    """What lies between two pieces is unknown, and no value reaches into it."""
    early, late = series([1.0, 2.0]), series([9.0], start=START + 120 * MINUTE)
    whole = joined([late, early])
    assert whole.values == (1.0, 2.0, None, 9.0)
    assert whole.starts[2] == early.end
    assert not whole.covers(early.end - MINUTE, early.end + MINUTE)


@given(made=holed(), step=st.sampled_from([5, 15, 30, 60]))
def test_regridded_means_are_weighted_by_time(made: IntensitySeries, step: int) -> None:
    """Each step of the clock that lies inside has the mean of its minutes, or is not known."""
    flat, length = by_minute(made), step * MINUTE
    whole = [
        begin
        for begin in sorted(flat)
        if (begin - START) % length == timedelta(0) and begin + length <= made.end
    ]
    if not whole:
        with pytest.raises(NoSignal, match="no whole"):
            made.regridded(length)
        return
    found = made.regridded(length)
    assert list(found.starts) == whole
    assert found.end == whole[-1] + length
    for begin, value in zip(found.starts, found.values, strict=True):
        minutes = [flat[begin + place * MINUTE] for place in range(step)]
        if None in minutes:
            assert value is None
        else:
            mean = sum(one for one in minutes if one is not None) / step
            assert value == pytest.approx(mean, rel=1e-6, abs=1e-3)


def test_regridding_knows_no_daylight_saving_time() -> None:
    """The 25 hours of the day on which clocks go back in Berlin are 25 steps."""
    berlin = ZoneInfo("Europe/Berlin")
    start, end = (datetime(2026, 10, day, tzinfo=berlin) for day in (25, 26))
    starts = [start.astimezone(UTC) + 15 * place * MINUTE for place in range(100)]
    values = [float(place) for place in range(100)]
    made = IntensitySeries("DE", starts, end, values, "test", kind=Kind.ACTUAL)
    found = made.regridded(60 * MINUTE)
    assert found.values == tuple(4 * hour + 1.5 for hour in range(25))
    assert (found.start, found.end) == (datetime(2026, 10, 24, 22, tzinfo=UTC), end)


def test_a_ragged_edge_is_cut_off() -> None:
    """A first step that a series knows but a part of is left out, be it a millisecond."""
    late = START + timedelta(milliseconds=1)
    made = IntensitySeries("DE", [late], START + 180 * MINUTE, [5.0], "test", kind=Kind.ACTUAL)
    found = made.regridded(60 * MINUTE)
    assert (found.start, found.values) == (START + 60 * MINUTE, (5.0, 5.0))
