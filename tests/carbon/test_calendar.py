"""Hours of the week and blackouts: by the local clock, over changes of clocks and New Year."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from carbon._calendar import Blackout, Hours, steps
from carbon._decision import Reservation
from carbon._errors import BadInput
from carbon._fleet import Fleet, Pool
from carbon._occupancy import capacity_steps, full_periods

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MONDAY = datetime(2026, 6, 1, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def hours(text: str) -> Hours:
    """Return e.g. ``mon-fri 07:00 21:00``."""
    days, begin, end = text.rsplit(" ", 2)
    return Hours.model_validate({"days": days, "from": begin, "to": end})


def told(text: str, start: datetime, end: datetime, timezone: str = "UTC") -> list[str]:
    """Return the periods as texts in UTC."""
    found = hours(text).within(start, end, timezone)
    return [
        f"{datetime.fromtimestamp(a, UTC):%d %H:%M}-{datetime.fromtimestamp(b, UTC):%d %H:%M}"
        for a, b in found
    ]


def test_hours_are_those_of_the_local_clock() -> None:
    """Berlin is two hours ahead in June; what lies outside is cut off."""
    assert told("mon-sun 07:00 21:00", MONDAY + 6 * HOUR, MONDAY + 30 * HOUR, BERLIN) == [
        "01 06:00-01 19:00",
        "02 05:00-02 06:00",
    ]


def test_a_night_goes_on_until_the_next_day() -> None:
    """It belongs to the day on which it begins."""
    assert told("sun 22:00 06:00", MONDAY, MONDAY + 7 * DAY) == [
        "01 00:00-01 06:00",
        "07 22:00-08 00:00",
    ]
    assert told("mon-sun 00:00 00:00", MONDAY, MONDAY + DAY) == ["01 00:00-02 00:00"]


@pytest.mark.parametrize(
    ("text", "days"), [("mon-fri", 5), ("sat, sun", 2), ("fri-mon", 4), ("wed", 1), ("Mon-Sun", 7)]
)
def test_days_are_written_as_people_do(text: str, days: int) -> None:
    """Ranges, also around the week, and lists."""
    found = list(hours(f"{text} 01:00 02:00").within(MONDAY, MONDAY + 7 * DAY, "UTC"))
    assert len(found) == days


@pytest.mark.parametrize(
    ("day", "length"),
    [(datetime(2026, 3, 29, tzinfo=UTC), 5), (datetime(2026, 10, 25, tzinfo=UTC), 7)],
)
def test_on_a_day_with_a_change_of_clocks_a_band_is_as_long_as_the_clock_makes_it(
    day: datetime, length: int
) -> None:
    """From midnight to six are five hours in spring and seven in autumn."""
    (period,) = (
        (begin, end) for begin, end in hours("sun 00:00 06:00").within(day - DAY, day + DAY, BERLIN)
    )
    assert period[1] - period[0] == length * 3600


@pytest.mark.parametrize(
    ("text", "zone", "day", "expected"),
    [
        # Berlin jumps from 02:00 to 03:00 on 2026-03-29 at 01:00 UTC, and back on 2026-10-25.
        ("sun 02:30 06:00", BERLIN, "2026-03-29", ["29 01:00-29 04:00"]),
        ("sun 00:30 02:30", BERLIN, "2026-03-29", ["28 23:30-29 01:00"]),
        ("sun 02:15 02:45", BERLIN, "2026-03-29", []),
        ("sun 02:30 06:00", BERLIN, "2026-10-25", ["25 00:30-25 05:00"]),
        ("sun 00:30 02:30", BERLIN, "2026-10-25", ["24 22:30-25 00:30"]),
        # Lord Howe goes on by half an hour only, from 02:00 to 02:30, at 15:30 UTC.
        ("sun 02:10 04:00", "Australia/Lord_Howe", "2026-10-04", ["03 15:30-03 17:00"]),
        ("thu 22:00 06:00", "America/New_York", "2026-12-31", ["01 03:00-01 11:00"]),
        ("mon 23:30 00:30", "Asia/Kolkata", "2028-02-28", ["28 18:00-28 19:00"]),
    ],
)
def test_edges_that_the_clock_skips_or_repeats(
    text: str, zone: str, day: str, expected: list[str]
) -> None:
    """A skipped one counts when the clock jumps over it, one that comes twice the first time."""
    noon = datetime.fromisoformat(f"{day}T12:00:00+00:00")
    assert told(text, noon - 1.5 * DAY, noon + 1.5 * DAY, zone) == expected


@pytest.mark.parametrize("text", ["22:00+02:00", "22:00Z"])
def test_an_hour_with_an_offset_is_refused(text: str) -> None:
    """The pool's time zone says whose clock it is: a second answer is not ignored."""
    for changes in ({"from": text}, {"to": text}):
        with pytest.raises(ValidationError, match="offset"):
            Hours.model_validate({"from": "01:00", "to": "06:00", **changes})


@pytest.mark.parametrize(
    "text", ["monday-fri 07:00 21:00", "mon- 07:00 21:00", " 07:00 21:00", "mon;tue 07:00 21:00"]
)
def test_what_are_no_weekdays_is_refused(text: str) -> None:
    """With the days as they were written."""
    with pytest.raises((BadInput, ValueError), match="no weekdays"):
        hours(text)


@given(
    begin=st.times().map(lambda one: one.replace(second=0, microsecond=0)),
    end=st.times().map(lambda one: one.replace(second=0, microsecond=0)),
    start=st.integers(0, 310 * 24).map(
        lambda hour: datetime(2025, 12, 28, tzinfo=UTC) + hour * HOUR
    ),
    length=st.integers(1, 200),
    zone=st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe"]),
)
def test_a_moment_is_in_its_hours_exactly_if_the_clock_says_so(
    begin: object, end: object, start: datetime, length: int, zone: str
) -> None:
    """Every half hour, in four zones, over a year with changes of clocks."""
    band = Hours.model_validate({"from": begin, "to": end})
    first = start
    last = first + length * HOUR / 2
    periods = list(band.within(first, last, zone))
    assert all(a < b for a, b in periods)
    for step in range(length):
        at = first + step * HOUR / 2
        clock = at.astimezone(ZoneInfo(zone))
        # The hour that comes twice, or not at all, is the band's as a whole or not: left out here.
        around = {(at + shift * HOUR).astimezone(ZoneInfo(zone)).utcoffset() for shift in (-26, 26)}
        if len(around) > 1:
            continue
        now = clock.time()
        inside = (
            band.begin <= now < band.end
            if band.begin < band.end
            else (now >= band.begin or now < band.end)
        )
        assert any(a <= at.timestamp() < b for a, b in periods) == inside


def test_of_two_bands_the_last_one_holds() -> None:
    """As in a list of rules."""
    edges, values = steps(1.0, [(iter([(2.0, 6.0)]), 2.0), (iter([(4.0, 8.0)]), 3.0)], 0.0, 10.0)
    assert (edges, values) == ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [1.0, 2.0, 3.0, 3.0, 1.0])


# -- when a pool is full ---------------------------------------------------------------------------


def fleet(
    *, hours: tuple[dict[str, object], ...] = (), blackouts: tuple[Blackout, ...] = ()
) -> Fleet:
    """Return a fleet of one pool for two runs, beside that of the entry runs."""
    pool = Pool(
        name="one",
        region="aws:eu-central-1",
        hardware="cpu",
        capacity=2,
        watts=10,
        usd_per_hour=1,
        timezone=BERLIN,
        hours=hours,  # type: ignore[arg-type]
    )
    entry = pool.model_copy(update={"name": "entry", "hours": ()})
    rules = {"any": ("*",)}
    return Fleet(home=pool.region, residency=rules, pools=(entry, pool), blackouts=blackouts)


def slot(begin: float, end: float) -> Reservation:
    """Return a slot, in hours from Monday on."""
    return Reservation(pool="one", start=MONDAY + begin * HOUR, end=MONDAY + end * HOUR)


def full(one: Fleet, *busy: Reservation) -> list[tuple[float, float, str]]:
    """Return when it is full, in hours from Monday on."""
    found = full_periods(one, one.pool("one"), busy, MONDAY, MONDAY + DAY)
    zero = MONDAY.timestamp()
    return [((a.begin - zero) / 3600, (a.end - zero) / 3600, a.reason) for a in found]


def test_a_pool_is_full_while_others_hold_all_slots() -> None:
    """Slots that touch count as one; one that is given back at the same moment is free."""
    assert full(fleet()) == []
    assert full(fleet(), slot(1, 4), slot(3, 6), slot(6, 8)) == [(3, 4, "")]
    assert full(fleet(), slot(1, 4), slot(1, 4), slot(4, 6), slot(4, 6)) == [(1, 6, "")]


def test_hours_take_slots_away() -> None:
    """At night by Berlin's clock it takes one run, or none."""
    night = {"from": "22:00", "to": "06:00", "capacity": 1}
    assert full(fleet(hours=(night,)), slot(2, 5)) == [(2, 4, "")]
    closed = fleet(hours=({**night, "capacity": 0},))
    assert full(closed) == [(0, 4, ""), (20, 24, "")]


def test_a_blackout_closes_a_pool_and_has_a_name() -> None:
    """For all pools, or for those that it names."""
    sale = Blackout(name="sale", start=MONDAY + 6 * HOUR, end=MONDAY + 9 * HOUR)
    assert full(fleet(blackouts=(sale,))) == [(6, 9, "sale")]
    assert full_periods(fleet(blackouts=(sale,)), fleet().home_cpu, (), MONDAY, MONDAY + DAY) == ()
    one = fleet(blackouts=(sale.model_copy(update={"pools": ("one",)}),))
    assert full(one, slot(8, 12), slot(8, 12)) == [(6, 12, "sale")]
    with pytest.raises((BadInput, ValueError), match="one"):
        fleet(blackouts=(sale.model_copy(update={"pools": ("onne",)}),))


@given(
    rows=st.lists(st.tuples(st.integers(0, 23), st.integers(1, 12)), max_size=8),
    night=st.integers(0, 2),
    sale=st.none() | st.tuples(st.integers(0, 22), st.integers(1, 5)),
)
def test_it_is_full_exactly_when_no_slot_is_left(
    rows: list[tuple[int, int]], night: int, sale: tuple[int, int] | None
) -> None:
    """Counted by hand at each quarter of an hour."""
    black = (
        (Blackout(name="s", start=MONDAY + sale[0] * HOUR, end=MONDAY + sum(sale) * HOUR),)
        if sale
        else ()
    )
    one = fleet(hours=({"from": "22:00", "to": "06:00", "capacity": night},), blackouts=black)
    busy = [slot(begin, begin + length) for begin, length in rows]
    found = full(one, *busy)
    edges, values = capacity_steps(one, one.pool("one"), MONDAY, MONDAY + DAY)
    for quarter in range(96):
        at = quarter / 4
        moment = (MONDAY + at * HOUR).timestamp()
        room = next(v for v, a, b in zip(values, edges, edges[1:], strict=False) if a <= moment < b)
        taken = sum(begin <= at < begin + length for begin, length in rows)
        assert any(a <= at < b for a, b, _ in found) == (taken >= room)
