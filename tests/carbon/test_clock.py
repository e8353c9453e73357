"""The clock: replayed time runs faster than life and can be turned back into wall time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon._clock import Clock, ReplayClock, SystemClock
from carbon._errors import BadInput
from carbon.testing import FakeClock

ANCHOR = datetime(2026, 6, 1, tzinfo=UTC)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
speeds = st.floats(min_value=0.1, max_value=10_000)


@given(grid=moments, wall=moments, speed=speeds, hours=st.floats(0, 240))
def test_wall_is_the_inverse_of_grid(
    grid: datetime, wall: datetime, speed: float, hours: float
) -> None:
    """A wall moment turned into grid time and back is the same to a few microseconds."""
    clock = ReplayClock(grid, wall, speed)
    moment = wall + timedelta(hours=hours)
    limit = timedelta(microseconds=1 + 1 / speed)
    assert abs(clock.wall(clock.grid(moment)) - moment) <= limit


@given(grid=moments, wall=moments, speed=speeds, a=moments, gap=st.integers(1, 10**9))
def test_time_never_runs_backwards(
    grid: datetime, wall: datetime, speed: float, a: datetime, gap: int
) -> None:
    """A later grid moment never comes earlier on the wall."""
    clock = ReplayClock(grid, wall, speed)
    assert clock.wall(a) <= clock.wall(a + timedelta(milliseconds=gap))


def test_speed_is_grid_seconds_per_second_of_life() -> None:
    """Ten seconds of life at speed 600 are 100 minutes on the grid."""
    clock = ReplayClock(ANCHOR, datetime(2030, 1, 1, tzinfo=UTC), 600)
    later = datetime(2030, 1, 1, 0, 0, 10, tzinfo=UTC)
    assert clock.grid(later) == ANCHOR + timedelta(minutes=100)
    assert clock.wall(ANCHOR + timedelta(minutes=100)) == later


def test_replayed_now_goes_on() -> None:
    """A replay clock anchored in the past shows a grid time after its anchor, and moves."""
    clock = ReplayClock(ANCHOR, datetime.now(UTC), 600)
    first = clock.now()
    assert ANCHOR <= first <= clock.now() < ANCHOR + timedelta(hours=10)


@pytest.mark.parametrize(
    ("speed", "text"),
    [(600, "10 min"), (3600, "1 h"), (5400, "1 h 30 min"), (1, "1 s"), (0.5, "0.5 s")],
)
def test_describe_says_it_plainly(speed: float, text: str) -> None:
    """The clock says that time is replayed, how fast and from when."""
    said = ReplayClock(ANCHOR, ANCHOR, speed).describe()
    assert said == f"replayed: 1 s of life is {text} of grid time, from 2026-06-01 00:00 UTC"


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_a_speed_must_be_positive(speed: float) -> None:
    """A speed that is not a positive number is refused by name."""
    with pytest.raises(BadInput, match="speed"):
        ReplayClock(ANCHOR, ANCHOR, speed)


def test_anchors_become_utc() -> None:
    """An anchor in another zone is the same moment in UTC; a naive one is refused."""
    berlin = ANCHOR.astimezone(timezone(timedelta(hours=2)))
    assert ReplayClock(berlin, ANCHOR, 1) == ReplayClock(ANCHOR, ANCHOR, 1)
    with pytest.raises(BadInput, match=r"wall_start.*no time zone"):
        ReplayClock(ANCHOR, ANCHOR.replace(tzinfo=None), 1)


def test_system_clock_is_the_wall_clock() -> None:
    """Grid time is the present, and every moment is its own wall time."""
    before = datetime.now(UTC)
    assert before <= SystemClock().now() <= datetime.now(UTC)
    assert SystemClock().wall(ANCHOR) == ANCHOR


def test_fake_clock_stands_until_advanced() -> None:
    """The fake stands still, moves when told, and never backwards."""
    clock = FakeClock(ANCHOR)
    assert clock.now() == clock.now() == clock.wall(ANCHOR) == ANCHOR
    assert clock.advance(timedelta(hours=2)) == clock.now() == ANCHOR + timedelta(hours=2)
    with pytest.raises(BadInput, match="back in time"):
        clock.advance(timedelta(seconds=-1))


def test_all_clocks_fit_the_seam() -> None:
    """Each clock gives aware UTC times both ways; only unreal time has something to explain."""
    clocks: list[Clock] = [SystemClock(), ReplayClock(ANCHOR, ANCHOR, 60), FakeClock(ANCHOR)]
    local = ANCHOR.astimezone(timezone(timedelta(hours=5)))
    assert {clock.now().tzinfo for clock in clocks} == {UTC}
    assert {clock.wall(local).tzinfo for clock in clocks} == {UTC}
    assert {clock.grid(clock.wall(local)) for clock in clocks} == {ANCHOR}
    assert [bool(clock.describe()) for clock in clocks] == [False, True, True]
