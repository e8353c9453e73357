"""GB Carbon Intensity: what its half hours mean, what it is asked, and what is not believed."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from carbon import Accounting, BadInput, Kind, Signal
from carbon._errors import BadResponse, NoData, ProviderError, Transient
from carbon._findings import Fault
from carbon._quality import inspect
from carbon.providers import GBCarbonIntensity
from carbon.providers._answers import Moment
from carbon.providers._web import Reply
from tests.carbon.providers.canned import Canned, done
from tests.carbon.providers.odd import mutated
from tests.carbon.providers.wire import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from carbon import IntensitySeries
    from carbon.providers import Web
    from tests.carbon.providers.wire import Ask, Body, Wire

    T = TypeVar("T")

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
HALF = timedelta(minutes=30)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
ERROR = {"error": {"code": "500 Internal Server Error", "message": "Requested resource not found."}}


def stamp(moment: datetime) -> str:
    """Write a moment as the service does."""
    return f"{moment:%Y-%m-%dT%H:%MZ}"


def row(start: datetime, forecast: object, actual: object = None, **more: object) -> dict[str, Any]:
    """Return a half hour of the country."""
    said = {"forecast": forecast, "actual": actual, "index": "moderate"}
    return {"from": stamp(start), "to": stamp(start + HALF), "intensity": said, **more}


def rows(*forecasts: object, start: datetime = START) -> list[dict[str, Any]]:
    """Return half hours of the country one after the other."""
    return [row(start + HALF * count, value) for count, value in enumerate(forecasts)]


def national(*forecasts: object, start: datetime = START) -> dict[str, Any]:
    """Return a body of ``/intensity``."""
    return {"data": rows(*forecasts, start=start)}


def region(*forecasts: object, number: object = 13, start: datetime = START) -> dict[str, Any]:
    """Return what a body says of a region: there is no ``actual``, and there is the mix."""
    said = [
        {
            "from": one["from"],
            "to": one["to"],
            "intensity": {"forecast": one["intensity"]["forecast"], "index": "low"},
            "generationmix": [{"fuel": "wind", "perc": 100}],
        }
        for one in rows(*forecasts, start=start)
    ]
    return {"regionid": number, "dnoregion": "UKPN London", "shortname": "London", "data": said}


def read(
    body: Body,
    zone: str = "GB",
    start: datetime = START - DAY,
    end: datetime = START + 3 * DAY,
    status: int = 200,
) -> Sequence[IntensitySeries]:
    """Return what the provider makes of a body."""
    return done(GBCarbonIntensity(Canned(body, status=status)).intensity(zone, start, end))


def slots(found: Sequence[IntensitySeries]) -> list[tuple[datetime, datetime, float | None]]:
    """Return each value with its interval."""
    return [
        (start, end, value)
        for one in found
        for start, end, value in zip(
            one.starts, [*one.starts[1:], one.end], one.values, strict=True
        )
    ]


def level(start: datetime) -> int:
    """Return the value of a half hour as :class:`Service` sends it: two near ones differ."""
    return 100 + int(start.timestamp() // 1800) % 331


class Service:
    """Stands where a provider expects its web, and answers as the service was seen to.

    It sends the half hours that end in the window, both ends included, and in the year that it
    begins in. ``asked`` has the windows.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[datetime, datetime]] = []

    async def get(
        self,
        provider: str,
        url: str,
        _params: Mapping[str, str],
        read: Callable[[Reply], T],
        **_keys: object,
    ) -> T:
        """Answer a question about any window."""
        first, last = map(datetime.fromisoformat, re.findall(r"\d{4}-\S\S-\S\ST[\d:]+Z", url))
        self.asked.append((first, last))
        if last - first > 14 * DAY:
            said = {"error": {"code": "400 Bad Request", "message": "14 days at most"}}
            return read(Reply(provider, 400, json.dumps(said).encode()))
        midnight = first.replace(hour=0, minute=0)
        ends = (midnight + HALF * count for count in range(16 * 48))
        ends = (end for end in ends if first <= end <= last and end.year == first.year)
        found: Any = [row(end - HALF, level(end - HALF)) for end in ends]
        if "/regional/" in url:
            found = {"regionid": int(url.rpartition("/")[2]), "data": found}
        return read(Reply(provider, 200, json.dumps({"data": found}).encode()))


def whole(start: datetime, end: datetime, zone: str = "GB") -> list[tuple[datetime, datetime]]:
    """Look whether a window is had to both its ends, and return what was asked for it."""
    web = Service()
    (series,) = done(GBCarbonIntensity(web).intensity(zone, start, end))
    assert series.covers(start, end)
    assert series.start > start - HALF
    assert series.end < end + HALF
    assert series.values == tuple(map(level, series.starts))
    assert {later - earlier for earlier, later, _ in slots([series])} == {HALF}
    return web.asked


def test_the_country_has_forecast_and_actual_values() -> None:
    """Both are series of their own, of direct emissions, and it stands beside them who says so."""
    body = {"data": [row(START, 211, 206), row(START + HALF, 216), row(START + HOUR, 220)]}
    actual, forecast = read(body)
    assert (actual.kind, actual.values) == (Kind.ACTUAL, (206,))
    assert (actual.start, actual.end) == (START, START + HALF)
    assert (forecast.kind, forecast.values) == (Kind.FORECAST, (211, 216, 220))
    assert (forecast.start, forecast.end) == (START, START + 3 * HALF)
    for series in (actual, forecast):
        assert (series.signal, series.accounting) == (Signal.AVERAGE, Accounting.DIRECT)
        assert (series.zone, series.issued_at) == ("GB", None)
        assert series.source.endswith("National Energy System Operator: Great Britain")


def test_a_region_has_a_forecast_only() -> None:
    """Its bodies have no key `actual`."""
    (series,) = read({"data": region(199, 206)}, "GB-13")
    assert (series.kind, series.values, series.zone) == (Kind.FORECAST, (199, 206), "GB-13")
    assert series.source.endswith(": region 13")


def test_a_region_may_stand_for_the_country(wire: Wire, ask: Ask) -> None:
    """The zone keeps its name, the source tells whose numbers they are."""
    path = "/regional/intensity/2026-06-01T12:00Z/2026-06-01T13:00Z/regionid/7"
    wire.says(path, {"data": region(48, number=7)})
    found: list[IntensitySeries] = []

    async def question(web: Web) -> None:
        provider = GBCarbonIntensity(web, wire.url, region=7)
        found.extend(await provider.intensity("GB", START, START + HOUR))

    ask(question)
    assert [(one.zone, one.source.rpartition(": ")[2]) for one in found] == [("GB", "region 7")]
    assert [(one.path, one.query) for one in wire.asked] == [(path, {})]


@pytest.mark.parametrize("number", [0, 18, -1, 99])
def test_a_region_that_there_is_not_is_refused(number: int) -> None:
    """18 is sent as well, and nobody says what it is."""
    with pytest.raises(BadInput, match="London is 13"):
        GBCarbonIntensity(Canned(b""), region=number)


@pytest.mark.parametrize(
    "zone",
    [
        *("GB-0", "GB-18", "GB-013", "GB-", "GB-x", "GB--1", "GB-1.0", "GB-\u0661", "GB-\u00b2"),
        *("gb", "gb-13", "GB-13 ", "GB_13", "13", "", "GB-" + "9" * 5000),
    ],
    ids=lambda zone: ascii(zone[:9]),
)
def test_what_only_looks_like_a_region_is_none(zone: str) -> None:
    """Neither zeros before the number nor digits of another script name a region."""
    web = Canned(b"")
    assert not GBCarbonIntensity(web).has_intensity(zone)
    with pytest.raises(NoData, match="does not know zone"):
        done(GBCarbonIntensity(web).intensity(zone, START, START + DAY))
    assert not web.asked


def test_there_are_seventeen_regions_and_the_country() -> None:
    """Each is known, and each is told from the others by its number."""
    known = ["GB", *(f"GB-{number}" for number in range(1, 18))]
    assert all(GBCarbonIntensity(Canned(b"")).has_intensity(zone) for zone in known)
    for number in range(1, 18):
        (series,) = read({"data": region(number, number=number)}, f"GB-{number}")
        assert series.values == (number,)


def test_the_half_hour_that_ends_at_the_start_is_left_out() -> None:
    """A window is answered with both its ends; so is the one that begins at the end."""
    body = national(1, 2, 3, 4, start=START - HALF)
    (series,) = read(body, start=START, end=START + HOUR)
    assert (series.start, series.end, series.values) == (START, START + HOUR, (2, 3))


@pytest.mark.parametrize("zone", ["GB", "GB-13"])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        (START, START + DAY),
        (START + timedelta(minutes=7, seconds=3), START + timedelta(hours=5, minutes=52)),
        (START + timedelta(minutes=29, seconds=59), START + timedelta(minutes=30, seconds=1)),
        (START + timedelta(minutes=1), START + timedelta(minutes=2)),
    ],
)
def test_a_window_is_had_up_to_its_end(zone: str, start: datetime, end: datetime) -> None:
    """A half hour that ends later than what is asked for is not sent: whole ones are asked for."""
    [(first, last)] = whole(start, end, zone)
    assert (first.minute % 30, last.minute % 30) == (0, 0)
    assert first <= start < end <= last


@pytest.mark.parametrize("days", [13, 14, 31, 45])
def test_a_long_window_is_asked_for_in_parts(days: int) -> None:
    """The documentation says 14 days, a live error 31; no part is longer than the shorter one."""
    asked = sorted(whole(START, START + days * DAY))
    assert all(last - first <= 14 * DAY - HALF for first, last in asked)
    assert all(before[1] == after[0] for before, after in pairwise(asked))
    assert (asked[0][0], asked[-1][1]) == (START, START + days * DAY)
    assert len(asked) == -(-days // 13)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (NEW_YEAR - DAY, NEW_YEAR + DAY),
        (NEW_YEAR - DAY, NEW_YEAR),
        (NEW_YEAR - HALF, NEW_YEAR - timedelta(minutes=1)),
        (NEW_YEAR - HALF, NEW_YEAR + HALF),
        (NEW_YEAR - HOUR, NEW_YEAR + timedelta(minutes=1)),
        (NEW_YEAR - 20 * DAY, NEW_YEAR + 20 * DAY),
    ],
)
def test_a_window_over_new_year_is_had_to_its_end(start: datetime, end: datetime) -> None:
    """An answer ends with the year that it begins in (carbon-intensity/api-definitions issue 12).

    The last half hour of the year comes with the first ones of the next.
    """
    asked = whole(start, end)
    assert sum(NEW_YEAR in {first, last} for first, last in asked) == 2


@settings(max_examples=100, deadline=1000)
@given(
    start=st.one_of(st.integers(-3000, 60), st.integers(-2_000_000, 2_000_000)),
    length=st.one_of(st.integers(1, 3000), st.integers(1, 43_200)),
)
def test_any_window_is_had_whole(start: int, length: int) -> None:
    """Wherever it begins and ends, in minutes from a New Year."""
    begin = NEW_YEAR + timedelta(minutes=start)
    whole(begin, begin + timedelta(minutes=length))


def test_two_parts_may_say_the_same_half_hour() -> None:
    """Each is answered with both its ends; if they do not agree, neither is believed."""
    edge = START + 13 * DAY
    start, end = edge - HOUR, edge + HOUR
    web = Canned(national(1, 2, start=start), national(2, 3, 4, start=edge - HALF))
    (series,) = done(GBCarbonIntensity(web).intensity("GB", edge - 13 * DAY, end))
    assert series.values == (1, 2, 3, 4)
    web = Canned(national(1, 2, start=start), national(5, 3, 4, start=edge - HALF))
    found = done(GBCarbonIntensity(web).intensity("GB", edge - 13 * DAY, end))
    assert [one.values for one in found] == [(1,), (3, 4)]


def paths(wire: Wire, *answers: Sequence[Answer | Body]) -> None:
    """Write down what three weeks from the start on are answered with, part by part."""
    edges = [START, START + 13 * DAY, START + 21 * DAY]
    for (first, last), said in zip(pairwise(edges), answers, strict=True):
        wire.says(f"/intensity/{stamp(first)}/{stamp(last)}", *said)


def three_weeks(wire: Wire, ask: Ask) -> list[IntensitySeries]:
    """Return what the provider has from the server."""
    found: list[IntensitySeries] = []

    async def question(web: Web) -> None:
        provider = GBCarbonIntensity(web, wire.url)
        found.extend(await provider.intensity("GB", START, START + 21 * DAY))

    ask(question)
    return found


def test_a_part_that_fails_for_a_moment_is_asked_for_again(wire: Wire, ask: Ask) -> None:
    """The outages began with a 500 now and then."""
    early, late = national(1, 2), national(3, start=START + 20 * DAY)
    paths(wire, [Answer(ERROR, status=500), early], [Answer(early, cut=9), late])
    assert [one.values for one in three_weeks(wire, ask)] == [(1, 2), (3,)]
    assert len(wire.asked) == 4


def test_a_part_that_there_is_not_leaves_the_other(wire: Wire, ask: Ask) -> None:
    """Nothing about one part is no reason to throw the other away; a fault is one."""
    early = [national(1, 2)]
    for nothing in (Answer(ERROR, status=404), Answer({}), Answer({"data": []})):
        paths(wire, early, [nothing])
        assert [one.values for one in three_weeks(wire, ask)] == [(1, 2)]
        paths(wire, [nothing], [nothing])
        with pytest.raises(NoData):
            three_weeks(wire, ask)
    paths(wire, early, [Answer(ERROR, status=400)])
    with pytest.raises(BadResponse):
        three_weeks(wire, ask)
    paths(wire, early, [Answer(ERROR, status=500)])
    with pytest.raises(Transient):
        three_weeks(wire, ask)


def test_no_actual_value_of_what_is_not_over() -> None:
    """Neither of the future nor of the half hour that has just ended; a later one may be late."""
    said = [row(START + HALF * count, 200, actual) for count, actual in enumerate([190, None])]
    actual, forecast = read({"data": [*said, *rows(200, 200, start=START + HOUR)]})
    assert (actual.end, forecast.end) == (START + HALF, START + 4 * HALF)
    said = [row(START + HALF * count, 200, actual) for count, actual in enumerate([1, None, 3])]
    first, second, forecast = read({"data": said})
    assert [one.kind for one in (first, second)] == [Kind.ACTUAL] * 2
    assert (first.end, second.start) == (START + HALF, START + HOUR)
    assert forecast.values == (200, 200, 200)


def test_the_shape_of_the_envelope_does_not_matter() -> None:
    """What is an object today is a list of one tomorrow, and the other way round."""
    one = region(199, 206)
    for body in ({"data": one}, {"data": [one]}):
        assert [series.values for series in read(body, "GB-13")] == [(199, 206)]
    single = {**region(199), "data": region(199)["data"][0]}
    for body in ({"data": single}, {"data": [single]}):
        assert [series.values for series in read(body, "GB-13")] == [(199,)]
    for body in (national(211), {"data": national(211)["data"][0]}):
        assert [series.values for series in read(body)] == [(211,)]


@pytest.mark.parametrize("zone", ["GB", "GB-13"])
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, {}, NoData),
        (200, " { } ", NoData),
        (200, {"data": []}, NoData),
        (200, {"data": None}, BadResponse),
        (200, {"data": ""}, BadResponse),
        (200, {"data": {}}, BadResponse),
        (200, {"data": [{}]}, BadResponse),
        (200, {"data": [[]]}, BadResponse),
        (200, ERROR, BadResponse),
        (200, {"message": "Forbidden"}, BadResponse),
        (200, [], BadResponse),
        (200, "", BadResponse),
        (200, "null", BadResponse),
        (200, "<!doctype html><title>Just a moment...</title>", BadResponse),
        (200, '{"data":[{"from":"2026-06-01T12:00Z","to":"2026-06-', BadResponse),
        (200, '{"data":[]}{"data":[]}', BadResponse),
        (204, "", BadResponse),
        (400, ERROR, BadResponse),
        (404, ERROR, NoData),
        (500, ERROR, Transient),
        (500, {"data": []}, Transient),
        (502, "<html>Bad Gateway</html>", Transient),
    ],
)
def test_an_answer_without_half_hours(
    zone: str, status: int, body: Body, error: type[ProviderError]
) -> None:
    """Nothing there, a fault of the service and what is no answer are told apart."""
    with pytest.raises(error) as raised:
        read(body, zone, status=status)
    assert type(raised.value) is error
    assert "resource" not in str(raised.value)


@pytest.mark.parametrize("zone", ["GB", "GB-13"])
@pytest.mark.parametrize("count", [29, 31, 1])
def test_a_short_forecast_ends_where_it_ends(zone: str, count: int) -> None:
    """29 to 31 of 96 half hours have been seen (springfall2008/batpred issue 4958)."""
    values = [150 + place for place in range(count)]
    body = {"data": region(*values)} if zone != "GB" else national(*values)
    (series,) = read(body, zone, START, START + 2 * DAY)
    assert (series.end, series.values) == (START + HALF * count, tuple(values))
    assert not series.covers(START, START + 2 * DAY)


def test_a_true_zero_stays() -> None:
    """Northern Scotland has hours without any direct emission."""
    (series,) = read({"data": region(3, 0, 0, 2, number=1)}, "GB-1")
    assert series.values == (3, 0, 0, 2)


def test_a_glitch_is_handed_on_and_found_by_the_gate() -> None:
    """The client changes nothing; the two dips of 2023-03-27 never happened."""
    dips = [150, 155, 158, 163, 116, 166, 115, 174, 178, 181, 180, 176]
    (series,) = read(national(*dips))
    assert series.values == tuple(dips)
    looked = inspect(series, now=START, asked=series.end)
    assert Fault.GLITCH in {finding.fault for finding in looked.findings}
    assert looked.series is not None
    believed = looked.series.values
    assert (believed[4], believed[6]) == (None, None)
    assert all(value in {None, dips[place]} for place, value in enumerate(believed))


@pytest.mark.parametrize("zone", ["GB", "GB-13"])
@pytest.mark.parametrize(
    ("day", "count"), [("2026-03-29", 46), ("2026-06-01", 48), ("2026-10-25", 50)]
)
def test_days_of_a_clock_change_have_no_hole(zone: str, day: str, count: int) -> None:
    """Half hours are counted in UTC, so a day of London has 46, 48 or 50, in one stretch."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/London"))
    start, end = midnight, midnight + DAY
    whole(start, end, zone)
    (series,) = done(GBCarbonIntensity(Service()).intensity(zone, start, end))
    assert len(series.values) == count
    assert (series.start, series.end) == (start.astimezone(UTC), end.astimezone(UTC))
    assert series.start.tzinfo is UTC


def test_other_keys_do_not_matter() -> None:
    """An index that nobody knows, the mix, and whatever is new."""
    said = [{**one, "generationmix": [{"fuel": "?", "perc": None}]} for one in rows(1, 2)]
    said[0]["intensity"]["index"] = None
    del said[1]["intensity"]["index"]
    assert read({"data": said, "version": 3})[0].values == (1, 2)


def test_rows_may_come_in_any_order_and_twice() -> None:
    """Each half hour stands at its time, once."""
    said = rows(1, 2, 3, 4)
    for order in ([3, 1, 0, 2], [0, 1, 1, 2, 3, 3], [3, 2, 1, 0, 0]):
        (series,) = read({"data": [said[place] for place in order]})
        assert (series.start, series.values) == (START, (1, 2, 3, 4))


@pytest.mark.parametrize("second", [9, None])
def test_a_half_hour_with_two_values_is_a_gap(second: int | None) -> None:
    """2021-04-19 19:00 came with two (carbon-intensity/api-definitions issue 17)."""
    found = read({"data": [*rows(1, 2, 3), row(START + HALF, second)]})
    assert slots(found) == [(START, START + HALF, 1), (START + HOUR, START + 3 * HALF, 3)]


@pytest.mark.parametrize("minutes", [(15, 45), (0, 60), (30, 45)])
def test_what_overlaps_is_a_gap(minutes: tuple[int, int]) -> None:
    """Of two values for one time neither is believed."""
    start, end = (START + timedelta(minutes=one) for one in minutes)
    odd = {**row(start, 9), "to": stamp(end)}
    found = slots(read({"data": [*rows(1, 2, 3, 4), odd]}))
    assert {value for *_, value in found} <= {1, 2, 3, 4}
    assert not any(first < end and last > start for first, last, _ in found)
    assert found[-1] == (START + 3 * HALF, START + 4 * HALF, 4)


@pytest.mark.parametrize("value", [200, None])
@pytest.mark.parametrize("minutes", [0, -30, -1, 61, 24 * 60, 7 * 24 * 60 - 1, 10**6])
def test_what_is_no_half_hour_is_refused(minutes: int, value: int | None) -> None:
    """Empty, backwards, or the value of a day: nothing to plan with."""
    odd = {**row(START + HALF, value), "to": stamp(START + HALF + timedelta(minutes=minutes))}
    with pytest.raises(BadResponse, match="no_half_hour"):
        read({"data": [row(START, 1), odd, row(START + HOUR, 3)]})


@pytest.mark.parametrize("minutes", [5, 15, 60])
def test_the_length_of_a_value_is_what_the_row_says(minutes: int) -> None:
    """Quarter hours may come one day."""
    step = timedelta(minutes=minutes)
    said = [
        {**row(START + step * place, place), "to": stamp(START + step * (place + 1))}
        for place in range(4)
    ]
    (series,) = read({"data": said})
    assert {last - first for first, last, _ in slots([series])} == {step}
    assert series.values == (0, 1, 2, 3)


def test_a_missing_row_and_a_missing_value_are_gaps() -> None:
    """Nothing is filled in, and what is not told is not zero."""
    whole_day = rows(1, 2, 3, 4, 5, 6)
    del whole_day[4]
    for nothing in ({"forecast": None, "actual": None}, {}, {"index": "low"}):
        whole_day[2]["intensity"] = nothing
        found = read({"data": whole_day})
        assert [one.values for one in found] == [(1, 2), (4,), (6,)]
        assert found[1].start == START + 3 * HALF


def test_a_fraction_is_a_number() -> None:
    """Whole grams are a habit of the service, not a promise."""
    assert read(national(0.5, 199.25))[0].values == (0.5, 199.25)


ODD_VALUES: list[Any] = [
    *(-1, -0.01, 2000.1, 20_000, 10**9, 10**20, -(10**400), 10**400, 1e308),
    *(float("nan"), float("inf"), -float("inf"), True, False, "200", "", [], [200], {}),
]


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:12])
def test_a_value_that_cannot_be_is_refused(value: object) -> None:
    """As a forecast or as an actual value: no number is made out of it."""
    for said in (row(START, value, 1), row(START, 1, value)):
        with pytest.raises(BadResponse):
            read({"data": [*rows(1, start=START - HALF), said]})
    with pytest.raises(BadResponse):
        read({"data": region(1, value)}, "GB-13")


@pytest.mark.parametrize(
    "time",
    [
        *(None, "", "x", [], True, "2026-06-01", "12:00Z", "2026-06-01T12:00"),
        *("9999-12-31T23:30Z", "0001-01-01T00:00+14:00", "1999-12-31T23:30Z", 10**30),
    ],
)
def test_a_time_that_cannot_be_is_refused(time: object) -> None:
    """One without a zone could be any."""
    for key in ("from", "to"):
        with pytest.raises(BadResponse):
            read({"data": [{**row(START, 200), key: time}]})


@pytest.mark.parametrize("missing", ["from", "to", "intensity"])
def test_a_row_without_its_parts_is_refused(missing: str) -> None:
    """A value without a time is none."""
    said = rows(1, 2)
    del said[1][missing]
    with pytest.raises(BadResponse, match=f"data.1.{missing}: missing"):
        read({"data": said})


@pytest.mark.parametrize("number", [12, 15, 18, 0, -13, 130, None, "London", [13]])
def test_another_region_is_refused(number: object) -> None:
    """Whatever its name says: the number counts."""
    with pytest.raises(BadResponse):
        read({"data": region(199, number=number)}, "GB-13")
    with pytest.raises(BadResponse):
        read({"data": [region(199), region(48, number=number)]}, "GB-13")


def test_the_name_of_a_region_does_not_matter() -> None:
    """A body of 2020 calls region 11 "South England"; the table says that this is 12."""
    named = {**region(199, number=11), "shortname": "South England", "dnoregion": None}
    assert read({"data": named}, "GB-11")[0].values == (199,)


def test_all_regions_at_once_are_not_one() -> None:
    """Eighteen come by the half hour or by the region; neither is what was asked for."""
    listed = [{**region(number, number=number)} for number in range(1, 19)]
    with pytest.raises(BadResponse, match="another region when asked for GB-13"):
        read({"data": listed}, "GB-13")
    by_time = [{"from": stamp(START), "to": stamp(START + HALF), "regions": listed}]
    for zone in ("GB", "GB-13"):
        with pytest.raises(BadResponse):
            read({"data": by_time}, zone)


def test_a_region_is_not_the_country_nor_the_other_way_round() -> None:
    """The body of the one is no answer about the other."""
    with pytest.raises(BadResponse):
        read({"data": region(199)})
    with pytest.raises(BadResponse):
        read(national(211), "GB-13")


def test_more_rows_than_anybody_asked_for_are_refused() -> None:
    """A flood is not worked through, of good rows or of bad ones, whichever list they stand in."""
    for flood in (rows(1) * 20_001, [{}] * 300_000):
        with pytest.raises(BadResponse):
            read({"data": flood})
        for body in ({**region(), "data": flood}, [{**region(), "data": flood}], flood):
            with pytest.raises(BadResponse):
                read({"data": body}, "GB-13")


def test_the_longest_answer_is_read() -> None:
    """Thirteen days of a region with its mix are far from a flood."""
    values = [place % 300 for place in range(13 * 48 + 1)]
    (series,) = read({"data": region(*values)}, "GB-13", START, START + 14 * DAY)
    assert series.values == tuple(values)


_MOMENT = TypeAdapter(Moment)


def moment(text: object) -> datetime | None:
    """Return a time of a body, if it is one."""
    try:
        return _MOMENT.validate_python(text)
    except ValidationError:
        return None


def told(body: object) -> Iterator[tuple[datetime | None, datetime | None, Kind, object]]:
    """Yield all that a body says anywhere: times, kind and value."""
    if isinstance(body, list):
        for one in body:
            yield from told(one)
    elif isinstance(body, dict):
        said = body.get("intensity")
        if isinstance(said, dict):
            for kind, key in ((Kind.FORECAST, "forecast"), (Kind.ACTUAL, "actual")):
                value = said.get(key)
                if isinstance(value, int | float) and not isinstance(value, bool):
                    yield moment(body.get("from")), moment(body.get("to")), kind, value
        for one in body.values():
            yield from told(one)


def judge(text: str) -> None:
    """Let a body answer both questions: each value found stands in it, at that time, or none."""
    for zone in ("GB", "GB-13"):
        try:
            found = read(text, zone)
        except ProviderError:
            continue
        said = set(told(json.loads(text)))
        for one in found:
            assert START - DAY - HOUR < one.start < one.end < START + 3 * DAY + HOUR
            for first, last, value in slots([one]):
                assert (first, last, one.kind, value) in said


GOOD = [
    {"data": [row(START, 211, 206), *rows(216, None, 220, 0, start=START + HALF)]},
    {"data": region(199, 206, None, 0, 210)},
    {"data": [region(199, 206, 300)]},
]


@settings(max_examples=500, deadline=1000)
@given(body=mutated(GOOD))
def test_a_body_with_faults_gives_its_numbers_or_an_error_of_the_tree(body: str) -> None:
    """Values are swapped, dropped and replaced, bytes are cut: nothing is made up."""
    judge(body)


TIMES = st.integers(-3, 9).map(lambda place: stamp(START + HALF * place))
NUMBERS = st.one_of(st.none(), st.integers(-1, 2001), st.floats(), st.booleans())
ROWS = st.fixed_dictionaries(
    {"from": TIMES, "to": TIMES},
    optional={
        "intensity": st.fixed_dictionaries({}, optional={"forecast": NUMBERS, "actual": NUMBERS}),
        "regionid": st.sampled_from([13, 12, "13", None, True]),
    },
)
KEYS = st.sampled_from(["data", "error", "regionid", "intensity", "from", "to", "forecast"])
ANYTHING = st.recursive(
    st.one_of(NUMBERS, TIMES, ROWS, st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)
HALVES = st.lists(
    st.tuples(st.integers(-3, 9), st.sampled_from([HALF, HALF, HALF, HOUR, HALF / 2]), NUMBERS),
    max_size=8,
).map(
    lambda said: [
        {
            **row(START + HALF * place, forecast, forecast),
            "to": stamp(START + HALF * place + length),
        }
        for place, length, forecast in said
    ]
)


@settings(max_examples=500, deadline=1000)
@given(
    body=st.one_of(
        ANYTHING,
        ANYTHING.map(lambda data: {"data": data}),
        st.lists(ROWS, max_size=8).map(lambda data: {"data": data}),
        HALVES.map(lambda data: {"data": data}),
        HALVES.map(lambda data: {"data": {"regionid": 13, "data": data}}),
    )
)
def test_any_json_gives_its_numbers_or_an_error_of_the_tree(body: object) -> None:
    """Half hours out of order, twice, or overlapping, in an envelope or in none."""
    judge(json.dumps(body))


@settings(max_examples=200, deadline=1000)
@given(body=st.binary(max_size=60), status=st.sampled_from([200, 201, 400, 404, 500]))
def test_any_bytes_are_an_error_of_the_tree(body: bytes, status: int) -> None:
    """Whatever the status."""
    for zone in ("GB", "GB-13"):
        with pytest.raises(ProviderError):
            read(body, zone, status=status)


def recorded(shared: Path, name: str) -> tuple[bytes, dict[str, Any]]:
    """Return a recorded body and what is known of it."""
    folder = shared / "wire"
    facts = json.loads((folder / "FACTS.json").read_text())[f"gb/{name}.json"]
    return (folder / "gb" / f"{name}.json").read_bytes(), facts


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("date_period_winter", "GB"),
        ("date_spring_46_periods", "GB"),
        ("intensity_fw48h_nulls", "GB"),
        ("intensity_pt24h_49slots", "GB"),
        ("intensity_range_2d_leading_slot", "GB"),
        ("regional_regionid_range_object", "GB-13"),
        ("regional_postcode_current_list", "GB-9"),
    ],
)
def test_recorded_half_hours(shared: Path, name: str, zone: str) -> None:
    """Every value of a recorded body is there, at its time, under its kind."""
    body, facts = recorded(shared, name)
    first, last = (datetime.fromisoformat(facts[key]) for key in ("first_from", "last_to"))
    found = read(body, zone, first, last)
    assert {(*slot, one.kind) for one in found for slot in slots([one])} == {
        (start, end, value, kind) for start, end, kind, value in told(json.loads(body))
    }
    (forecast,) = [one for one in found if one.kind is Kind.FORECAST]
    assert (forecast.start, forecast.end) == (first, last)
    assert [min(forecast.known), max(forecast.known)] == facts["forecast_min_max"]
    count = facts.get("inner_rows", facts["rows"])
    actual = sum(len(one.values) for one in found if one.kind is Kind.ACTUAL)
    assert actual == (count - facts["actual_nulls"] if facts["actual_key"] else 0)


@pytest.mark.parametrize(
    ("name", "zone"),
    [("intensity_range_2d_leading_slot", "GB"), ("regional_regionid_range_object", "GB-13")],
)
def test_a_recorded_window_begins_where_it_was_asked_to(shared: Path, name: str, zone: str) -> None:
    """Asked from 00:00 to 23:59 it has half an hour too much, and half an hour too little."""
    body, _ = recorded(shared, name)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    for one in read(body, zone, start, start + 2 * DAY):
        assert (one.start, one.end) == (start, start + 2 * DAY - HALF)


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("error_400_date_period", 400, BadResponse),
        ("error_400_datetime", 400, BadResponse),
        ("error_500", 500, Transient),
        ("error_500", 200, BadResponse),
        ("factors", 200, BadResponse),
        ("generation_range_7d_dst_week", 200, BadResponse),
        ("regional_england", 200, BadResponse),
        ("regional_scotland", 200, BadResponse),
        ("regional_range_all", 200, BadResponse),
        ("stats_range", 200, BadResponse),
    ],
)
def test_recorded_bodies_that_answer_another_question(
    shared: Path, name: str, status: int, error: type[ProviderError]
) -> None:
    """Each is an error of the tree, for the country and for London."""
    body, _ = recorded(shared, name)
    start = datetime(2019, 4, 1, tzinfo=UTC)
    for zone in ("GB", "GB-13"):
        with pytest.raises(error):
            read(body, zone, start, start + 9 * DAY, status=status)
