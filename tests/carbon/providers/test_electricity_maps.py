"""Electricity Maps: what is asked, what the rows mean, and which of them are not believed.

All values here are made up: the terms forbid to publish what the service sends.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from carbon import Accounting, BadInput, Kind, Signal
from carbon._errors import (
    AuthError,
    BadResponse,
    NoData,
    PlanDenied,
    ProviderError,
    RateLimited,
    Transient,
)
from carbon.providers import ElectricityMaps
from carbon.testing import FakeClock
from tests.carbon.providers.canned import Canned, done
from tests.carbon.providers.odd import mutated
from tests.carbon.providers.wire import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from carbon import IntensitySeries, PriceSeries
    from carbon.providers import Web
    from tests.carbon.providers.wire import Ask, Body, Wire

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TOKEN = SecretStr("t0ken-of-a-shop")


def stamp(moment: datetime) -> str:
    """Write a moment as Electricity Maps does."""
    return f"{moment:%Y-%m-%dT%H:%M:%S.000Z}"


def row(hour: float, value: float | None, **more: object) -> dict[str, object]:
    """Return the value of an hour after noon."""
    return {"carbonIntensity": value, "datetime": stamp(NOW + hour * HOUR), **more}


def hours(*values: float | None, key: str = "forecast", first: int = 0) -> dict[str, object]:
    """Return a body with one value per hour."""
    rows = [row(first + count, value) for count, value in enumerate(values)]
    return {"zone": "DK-DK2", key: rows, "temporalGranularity": "hourly"}


def latest(value: float = 150, hour: float = 0, **more: object) -> dict[str, object]:
    """Return the body of ``latest``."""
    known = {"zone": "DK-DK2", "isEstimated": True, "temporalGranularity": "hourly"}
    return {**row(hour, value), **known, **more}


def priced(*values: float | None, unit: str | None = "EUR/MWh") -> dict[str, object]:
    """Return a body of prices, one per hour from noon."""
    rows = [
        {"datetime": stamp(NOW + count * HOUR), "value": value, "unit": unit, "source": "x.com"}
        for count, value in enumerate(values)
    ]
    return {"zone": "DK-DK2", "temporalGranularity": "hourly", "data": rows}


def read(
    body: object,
    start: datetime = NOW,
    end: datetime = NOW + DAY,
    *,
    now: datetime = NOW,
    accounting: Accounting = Accounting.LIFECYCLE,
    status: int = 200,
) -> Sequence[IntensitySeries]:
    """Return what the provider makes of a body, whichever question it answers."""
    web = Canned(body, status=status)
    maps = ElectricityMaps(web, TOKEN, accounting=accounting, clock=FakeClock(now))
    return done(maps.intensity("DK-DK2", start, end))


def read_price(body: object) -> Sequence[PriceSeries]:
    """Return what the provider makes of prices."""
    maps = ElectricityMaps(Canned(body), TOKEN, clock=FakeClock(NOW))
    return done(maps.price("DK-DK2", NOW, NOW + DAY))


def asked(
    wire: Wire, ask: Ask, start: datetime, end: datetime, now: datetime = NOW, **more: str
) -> list[tuple[str, dict[str, str]]]:
    """Return the last parts of the paths that were asked, and the queries."""
    wire.says("*", hours(1, 2, 3))

    async def question(web: Web) -> None:
        maps = ElectricityMaps(web, TOKEN, wire.url, clock=FakeClock(now), **more)
        with suppress(NoData):
            await maps.intensity("DK-DK2", start, end)

    ask(question)
    return sorted(
        ((one.path.rpartition("/")[2], one.query) for one in wire.asked),
        key=lambda one: (one[0], one[1].get("start", "")),
    )


def test_a_forecast_is_average_and_of_no_known_issue() -> None:
    """``updatedAt`` is the time of the question, so it is not taken for the issue time."""
    [series] = read({**hours(100, 110, 90), "updatedAt": stamp(NOW + HOUR / 2)})
    assert series.values == (100, 110, 90)
    assert series.starts == (NOW, NOW + HOUR, NOW + 2 * HOUR)
    assert series.end == NOW + 3 * HOUR
    assert (series.zone, series.source) == ("DK-DK2", "Electricity Maps")
    assert series.family == (Signal.AVERAGE, Accounting.LIFECYCLE, Kind.FORECAST)
    assert series.issued_at is None


def test_a_row_more_than_a_day_is_left_out() -> None:
    """24 hours are 25 rows."""
    [series] = read(hours(*range(25)))
    assert series.end == NOW + DAY


@pytest.mark.parametrize("key", ["forecast", "history", "data"])
def test_rows_may_stand_under_any_key(key: str) -> None:
    """Versions and endpoints differ in it."""
    assert read(hours(100, 110, key=key))


@pytest.mark.parametrize(
    ("ahead", "horizon"), [(1, 6), (6, 6), (6.5, 24), (24, 24), (48, 48), (49, 72), (200, 72)]
)
def test_the_shortest_forecast_that_reaches_is_asked_for(
    wire: Wire, ask: Ask, ahead: float, horizon: int
) -> None:
    """There are four lengths; beyond the longest one gets less than asked."""
    [(which, query)] = asked(wire, ask, NOW, NOW + ahead * HOUR)
    assert which == "forecast"
    assert query["horizonHours"] == str(horizon)


@pytest.mark.parametrize(
    ("back", "version", "questions"),
    [
        (0.5, "v4", ["forecast", "latest"]),
        (0.5, "v3", ["forecast", "history"]),
        (2, "v4", ["forecast", "history"]),
        (30, "v4", ["forecast", "history", "past-range"]),
        (30 * 24, "v4", ["forecast", "history", *["past-range"] * 4]),
    ],
)
def test_the_past_is_asked_for_as_cheaply_as_it_goes(
    wire: Wire, ask: Ask, back: float, version: str, questions: list[str]
) -> None:
    """The running hour, the last day, and what is older, along with the forecast."""
    now = NOW + 0.75 * HOUR
    found = asked(wire, ask, now - back * HOUR, now + DAY, now=now, version=version)
    assert [which for which, _ in found] == questions
    assert all(one.path.startswith(f"/{version}/carbon-intensity/") for one in wire.asked)


def test_a_window_that_is_over_asks_for_no_forecast(wire: Wire, ask: Ask) -> None:
    """There is none of the past; old windows need no recent history either."""
    assert [which for which, _ in asked(wire, ask, NOW - 5 * HOUR, NOW - HOUR)] == ["history"]
    wire.asked.clear()
    assert [which for which, _ in asked(wire, ask, NOW - 9 * DAY, NOW - 8 * DAY)] == ["past-range"]


def test_a_long_past_is_asked_for_in_parts_without_a_hole(wire: Wire, ask: Ask) -> None:
    """Ten days are the most; the first part begins with the hour that runs at the start."""
    found = asked(wire, ask, NOW - 20 * DAY + HOUR / 2, NOW - 10 * DAY)
    parts = [(query["start"], query["end"]) for _, query in found]
    assert parts == [
        ("2026-05-12T12:00:00Z", "2026-05-21T12:00:00Z"),
        ("2026-05-21T12:00:00Z", "2026-05-22T12:00:00Z"),
    ]


@pytest.mark.parametrize("accounting", Accounting)
def test_every_question_says_what_it_means(wire: Wire, ask: Ask, accounting: Accounting) -> None:
    """No lookup by the caller's address, ever; the key in a header, not in the address."""
    asked(wire, ask, NOW - 30 * HOUR, NOW + DAY, accounting=accounting)
    assert len(wire.asked) == 3
    for one in wire.asked:
        assert one.query["zone"] == "DK-DK2"
        assert one.query["disableCallerLookup"] == "true"
        assert one.query["emissionFactorType"] == accounting
        assert one.headers["auth-token"] == TOKEN.get_secret_value()


def test_the_latest_value_holds_for_its_hour(wire: Wire, ask: Ask) -> None:
    """One row has no next one: the granularity says how long it holds."""
    wire.says("/v4/carbon-intensity/latest", latest(150))
    wire.says("/v4/carbon-intensity/forecast", hours(100, 110))
    found: list[IntensitySeries] = []

    async def question(web: Web) -> None:
        maps = ElectricityMaps(web, TOKEN, wire.url, clock=FakeClock(NOW + HOUR / 2))
        found.extend(await maps.intensity("DK-DK2", NOW, NOW + DAY))

    ask(question)
    estimated, forecast = found
    assert (estimated.kind, estimated.values) == (Kind.ESTIMATED, (150,))
    assert (estimated.start, estimated.end) == (NOW, NOW + HOUR)
    assert (forecast.kind, forecast.values) == (Kind.FORECAST, (100, 110))


@pytest.mark.parametrize(
    ("granularity", "minutes"), [("hourly", 60), ("15_minutes", 15), ("5_minutes", 5)]
)
def test_a_lone_row_holds_as_long_as_its_granularity(granularity: str, minutes: int) -> None:
    """In the row or beside the rows."""
    inside = {"zone": "DK-DK2", "history": [row(0, 7, temporalGranularity=granularity)]}
    beside = {"zone": "DK-DK2", "data": [row(0, 7)], "temporalGranularity": granularity}
    for body in (inside, beside):
        [series] = read(body, now=NOW + DAY)
        assert series.end - series.start == timedelta(minutes=minutes)


@pytest.mark.parametrize("granularity", [None, "weekly"])
def test_a_lone_row_of_unknown_length_is_left_out(granularity: str | None) -> None:
    """Nobody said how long it holds."""
    with pytest.raises(NoData):
        read({"zone": "DK-DK2", "data": [row(0, 7)], "temporalGranularity": granularity})


@pytest.mark.parametrize("granularity", ["hourly", None])
def test_a_value_is_not_stretched_over_missing_hours(granularity: str | None) -> None:
    """Rows of every third hour say nothing of the hours between."""
    rows = [row(count, 100 + count) for count in (0, 3, 6)]
    body = {"zone": "DK-DK2", "data": rows, "temporalGranularity": granularity}
    assert [(one.start, one.end) for one in read(body)] == [
        (NOW + count * HOUR, NOW + (count + 1) * HOUR) for count in (0, 3, 6)
    ]


def test_rows_of_five_minutes_without_a_word() -> None:
    """The step is seen where it is not told."""
    rows = [row(count / 12, count) for count in range(12)]
    [series] = read({"zone": "DK-DK2", "history": rows}, now=NOW + DAY)
    assert series.end - series.start == HOUR


def test_measured_and_estimated_values_are_told_apart() -> None:
    """``isEstimated`` counts, then whether there is a method; its name may be any."""
    rows = [
        row(0, 1, isEstimated=False),
        row(1, 2, isEstimated=True, estimationMethod="TIME_SLICER_AVERAGE"),
        row(2, 3, isEstimated=None, estimationMethod="A_METHOD_OF_NEXT_YEAR"),
        row(3, 4),
    ]
    body = {"zone": "DK-DK2", "history": rows, "temporalGranularity": "hourly"}
    found = read(body, end=NOW + 5 * HOUR, now=NOW + 5 * HOUR)
    assert [(one.kind, one.values) for one in found] == [
        (Kind.ACTUAL, (1,)),
        (Kind.ACTUAL, (4,)),
        (Kind.ESTIMATED, (2, 3)),
    ]


def test_null_is_a_gap() -> None:
    """Nothing is filled in."""
    assert [one.values for one in read(hours(1, None, 3))] == [(1,), (3,)]


def test_rows_in_any_order_and_twice() -> None:
    """Equal rows are one; of two that differ neither is believed."""
    rows = [row(2, 3), row(0, 1), row(1, 2), row(0, 1), row(3, 4), row(3, 5)]
    body = {"zone": "DK-DK2", "forecast": rows, "temporalGranularity": "hourly"}
    [series] = read(body)
    assert (series.start, series.values) == (NOW, (1, 2, 3))


@pytest.mark.parametrize(
    "body",
    [
        {**hours(1, 2), "zone": "FR"},
        {**hours(1, 2), "forecast": [row(0, 1), row(1, 2, zone="FR")]},
        latest(zone="FR"),
    ],
)
def test_another_zone_is_refused_and_named(body: dict[str, object]) -> None:
    """The country of the caller, for instance."""
    with pytest.raises(BadResponse, match="asked for DK-DK2 and sent FR"):
        read(body, now=NOW + HOUR / 2)


def test_a_body_without_a_zone_is_refused() -> None:
    """It could be any, and a text that is no zone is not repeated."""
    for zone in (None, "bad key t0ken", ""):
        with pytest.raises(BadResponse, match="and sent no zone at all"):
            read({**hours(1, 2), "zone": zone})


@pytest.mark.parametrize(
    "body",
    [
        latest(estimationMethod="SANDBOX_MODE_DATA"),
        {**hours(1, 2), "forecast": [row(0, 1), row(1, 2, estimationMethod="SANDBOX_MODE_DATA")]},
        {**hours(1, 2), "_disclaimer": "This is SANDBOX MODE; numbers are inaccurate."},
    ],
)
def test_made_up_numbers_of_a_sandbox_key_are_refused(body: dict[str, object]) -> None:
    """They come with status 200 and look like any others."""
    with pytest.raises(BadResponse, match="sandbox key"):
        read(body, now=NOW + HOUR / 2)


def test_other_words_beside_the_rows_do_no_harm() -> None:
    """A disclaimer may say something else."""
    assert read({**hours(1, 2), "_disclaimer": "Academic use only.", "new": {"key": [1]}})


def test_other_emissions_than_asked_for_are_refused() -> None:
    """75 lifecycle and 20 direct were seen at the same instant."""
    body = latest(emissionFactorType="lifecycle")
    now = NOW + HOUR / 2
    [series] = read(body, end=now, now=now)
    assert series.accounting is Accounting.LIFECYCLE
    with pytest.raises(BadResponse, match="direct"):
        read(body, end=now, now=now, accounting=Accounting.DIRECT)


@pytest.mark.parametrize(
    "body",
    [
        {"zone": "DK-DK2", "data": [{"level": "low", "datetime": stamp(NOW)}]},
        {"zone": "DK-DK2", "data": [{"value": 80, "unit": "%", "datetime": stamp(NOW)}]},
        hours(1, -1),
        hours(1, 2001),
        hours(1, True),
        {**hours(1), "forecast": [{"carbonIntensity": "12", "datetime": stamp(NOW)}]},
        {**hours(1), "forecast": [{"carbonIntensity": 1, "datetime": "2026-06-01T12:00:00"}]},
        {**hours(1), "forecast": [{"carbonIntensity": 1, "datetime": "9999-12-31T23:00:00Z"}]},
        {**hours(1), "forecast": [{"carbonIntensity": 1, "datetime": "0001-01-01T00:00:00+14:00"}]},
        {**hours(1), "forecast": [None]},
        {**hours(1), "forecast": None},
    ],
)
def test_what_is_no_intensity_is_refused(body: dict[str, object]) -> None:
    """Levels, percentages, impossible numbers and times."""
    with pytest.raises(BadResponse):
        read(body)


PLAN = {
    "error": "Request unauthorized for zoneKey=DK-DK2,requestType=forecast.",
    "message": "You do not have access to this specific endpoint for this specific zone.",
}


@pytest.mark.parametrize(
    ("body", "first", "later"),
    [
        ({"error": "Invalid auth-token"}, AuthError, RateLimited),
        ({"status": "error", "message": "Invalid auth-token"}, AuthError, RateLimited),
        (PLAN, PlanDenied, PlanDenied),
        ({"status": 401, "message": PLAN["message"]}, PlanDenied, PlanDenied),
        ("<html>401</html>", AuthError, RateLimited),
        ("", AuthError, RateLimited),
        ([1], AuthError, RateLimited),
        ({"error": "x" * 20_000}, AuthError, RateLimited),
    ],
)
def test_what_a_401_means(
    wire: Wire, ask: Ask, body: Body, first: type[ProviderError], later: type[ProviderError]
) -> None:
    """A plan has its own text; a key that has worked before is not called bad."""
    path = "/v4/carbon-intensity/forecast"
    refusal = Answer(body, status=401)
    wire.says(path, refusal, hours(1, 2), refusal)

    async def question(web: Web) -> None:
        maps = ElectricityMaps(web, TOKEN, wire.url, clock=FakeClock(NOW))
        with pytest.raises(first):
            await maps.intensity("DK-DK2", NOW, NOW + DAY)
        assert await maps.intensity("DK-DK2", NOW, NOW + DAY)
        with pytest.raises(later):
            await maps.intensity("DK-DK2", NOW, NOW + DAY)

    ask(question)
    assert len(wire.asked) == 3


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, {"error": "No recent data for zone DK-DK2"}, NoData),
        (403, {"error": "plan"}, PlanDenied),
        (400, {"error": "Expected one of latest, past"}, BadResponse),
        (400, {"status": "error", "message": "no"}, BadResponse),
        (429, {"error": "slow down"}, RateLimited),
        (503, "<html>", Transient),
    ],
)
def test_other_refusals(status: int, body: object, error: type[ProviderError]) -> None:
    """By status; what the provider writes is never repeated."""
    with pytest.raises(error) as raised:
        read(body, status=status)
    assert "DK-DK2" not in str(raised.value)


def both(wire: Wire, ask: Ask, history: Answer, forecast: Answer) -> list[IntensitySeries]:
    """Ask for past and future and return what came."""
    wire.says("/v4/carbon-intensity/history", history)
    wire.says("/v4/carbon-intensity/forecast", forecast)
    found: list[IntensitySeries] = []

    async def question(web: Web) -> None:
        maps = ElectricityMaps(web, TOKEN, wire.url, clock=FakeClock(NOW))
        found.extend(await maps.intensity("DK-DK2", NOW - 3 * HOUR, NOW + DAY))

    ask(question)
    return found


def test_a_plan_without_forecasts_is_good_for_the_past(wire: Wire, ask: Ask) -> None:
    """And one without history for the future; without both it is refused."""
    plan = Answer(PLAN, status=401)
    nothing = Answer({"error": "No recent data"}, status=404)
    past = Answer(hours(1, 2, 3, key="history", first=-3))
    future = Answer(hours(4, 5))
    assert [one.kind for one in both(wire, ask, past, future)] == [Kind.ACTUAL, Kind.FORECAST]
    assert [one.kind for one in both(wire, ask, past, plan)] == [Kind.ACTUAL]
    assert [one.kind for one in both(wire, ask, nothing, future)] == [Kind.FORECAST]
    with pytest.raises(PlanDenied):
        both(wire, ask, plan, plan)


def test_half_an_answer_is_none_if_the_other_half_failed(wire: Wire, ask: Ask) -> None:
    """What passes may be asked again; what cannot be believed makes all of it doubtful."""
    past = Answer(hours(1, 2, 3, key="history", first=-3))
    with pytest.raises(Transient):
        both(wire, ask, past, Answer("oops", status=500))
    with pytest.raises(BadResponse):
        both(wire, ask, past, Answer({**hours(4, 5), "zone": "FR"}))


def test_a_price_is_a_forecast_in_its_currency() -> None:
    """It may be negative, and null is a gap."""
    low, high = read_price(priced(-3.5, 0, None, 70.25))
    assert (low.values, high.values) == ((-3.5, 0), (70.25,))
    assert (low.unit, low.kind, low.source) == ("EUR/MWh", Kind.FORECAST, "Electricity Maps")
    assert high.start == NOW + 3 * HOUR
    [pounds] = read_price({**priced(1, 2, unit=None), "unit": "GBP / MWh"})
    assert pounds.currency == "GBP"


@pytest.mark.parametrize("unit", [None, "", "%", "MW", "EUR/kWh", "euro/MWh", "EUR/MWh?"])
def test_another_unit_than_money_per_mwh_is_refused(unit: str | None) -> None:
    """A price without its unit is no price."""
    with pytest.raises(BadResponse, match="unit"):
        read_price(priced(1, 2, unit=unit))


def test_prices_are_asked_for_without_a_horizon(wire: Wire, ask: Ask) -> None:
    """Ahead there is only the combined day; the past is asked for as that of intensities."""
    wire.says("*", priced(1, 2, 3))

    async def question(web: Web) -> None:
        maps = ElectricityMaps(web, TOKEN, wire.url, clock=FakeClock(NOW + HOUR / 2))
        await maps.price("DK-DK2", NOW, NOW + 2 * DAY)
        await maps.price("DK-DK2", NOW - 2 * DAY, NOW + HOUR)
        with pytest.raises(NoData):
            await maps.price("DK-DK2", NOW + 20 * HOUR, NOW + 2 * DAY)

    ask(question)
    paths = [one.path.removeprefix("/v4/price-day-ahead/") for one in wire.asked]
    assert sorted(paths[:-1]) == ["combined", "combined", "history", "past-range"]
    assert not any({"horizonHours", "emissionFactorType"} & set(one.query) for one in wire.asked)
    assert all(one.query["disableCallerLookup"] == "true" for one in wire.asked)


def test_a_cloud_region_has_a_zone(wire: Wire, ask: Ask) -> None:
    """The service tells, by the cloud and the name of the region in it."""
    path = "/v4/carbon-intensity/latest"
    wire.says(path, latest(zone="SE-SE3"), latest(zone=None), latest(zone="t0ken"))

    async def question(web: Web) -> None:
        maps = ElectricityMaps(web, TOKEN, wire.url)
        assert await maps.zone_of("aws:eu-north-1") == "SE-SE3"
        for _ in range(2):
            with pytest.raises(BadResponse, match="aws:eu-north-1 lies"):
                await maps.zone_of("aws:eu-north-1")
        for region in ("eu-north-1", "aws:", "ibm:eu-de", ""):
            with pytest.raises(BadInput, match="cloud region"):
                await maps.zone_of(region)

    ask(question)
    query = wire.asked[0].query
    assert (query["dataCenterProvider"], query["dataCenterRegion"]) == ("aws", "eu-north-1")
    assert "zone" not in query


def test_a_zone_may_be_asked_for_by_a_cloud_region(wire: Wire, ask: Ask) -> None:
    """The zone of the answer must still be the zone."""
    path = "/v4/carbon-intensity/forecast"
    wire.says(path, {**hours(1, 2), "zone": "SE-SE3"}, {**hours(1, 2), "zone": "SE-SE4"})

    async def question(web: Web) -> None:
        regions = {"SE-SE3": "aws:eu-north-1"}
        maps = ElectricityMaps(web, TOKEN, wire.url, regions=regions, clock=FakeClock(NOW))
        assert await maps.intensity("SE-SE3", NOW, NOW + DAY)
        with pytest.raises(BadResponse, match="asked for SE-SE3 and sent SE-SE4"):
            await maps.intensity("SE-SE3", NOW, NOW + DAY)

    ask(question)
    assert wire.asked[0].query["dataCenterRegion"] == "eu-north-1"
    assert "zone" not in wire.asked[0].query


@pytest.mark.parametrize("zone", ["DE", "SE-SE3", "US-CAL-CISO", "IN-WE", "AU-TAS-KI", "MY-WM"])
def test_it_knows_the_world(zone: str) -> None:
    """Whatever is written as a zone of Electricity Maps may be asked for."""
    maps = ElectricityMaps(Canned({}), TOKEN)
    assert maps.has_intensity(zone)
    assert maps.has_price(zone)


@pytest.mark.parametrize("zone", ["", "de", "GB-13", "DE LU", "XX-NOWHERE", "DE\n", "A-B-C-D"])
def test_it_does_not_ask_for_what_is_no_zone(zone: str) -> None:
    """Half-regions of GB, for instance, are another provider's."""
    assert not ElectricityMaps(Canned({}), TOKEN).has_intensity(zone)


@pytest.mark.parametrize("token", ["", "   ", "abc", "two words", "t\u00f6ken", "to\nken"])
def test_a_key_that_is_none_is_refused_and_not_shown(token: str) -> None:
    """In a header it would make the client fail with the key in the error."""
    with pytest.raises(BadInput, match="this is no key") as raised:
        ElectricityMaps(Canned({}), SecretStr(token))
    assert not token.strip() or token not in str(raised.value)


def test_other_bad_settings_are_refused() -> None:
    """A version or a cloud region that does not exist."""
    with pytest.raises(BadInput, match="v5"):
        ElectricityMaps(Canned({}), TOKEN, version="v5")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="Stockholm"):
        ElectricityMaps(Canned({}), TOKEN, regions={"SE-SE3": "Stockholm"})


def test_space_around_a_key_does_not_matter(wire: Wire, ask: Ask) -> None:
    """It is copied along easily."""
    wire.says("*", hours(1, 2))

    async def question(web: Web) -> None:
        maps = ElectricityMaps(web, SecretStr(" t0ken\n"), wire.url, clock=FakeClock(NOW))
        await maps.intensity("DK-DK2", NOW, NOW + DAY)

    ask(question)
    assert wire.asked[0].headers["auth-token"] == "t0ken"


@settings(max_examples=50, deadline=1000)
@given(
    kept=st.lists(st.booleans(), min_size=12, max_size=12).filter(any),
    order=st.permutations(range(12)),
)
def test_rows_that_are_missing_are_the_only_gaps(kept: list[bool], order: list[int]) -> None:
    """Each hour that came is there with its value, in whatever order, and no other."""
    rows = [row(count, 100 + count) for count in order if kept[count]]
    found = read({"zone": "DK-DK2", "forecast": rows, "temporalGranularity": "hourly"})
    values = {
        start: value for one in found for start, value in zip(one.starts, one.values, strict=True)
    }
    assert values == {NOW + count * HOUR: 100 + count for count in range(12) if kept[count]}
    assert sum((one.end - one.start for one in found), timedelta()) == sum(kept) * HOUR


@settings(max_examples=300, deadline=1000)
@given(body=mutated([hours(1, 2, None, 4), latest(), priced(-1, 2, 3)]))
def test_a_body_with_faults_gives_numbers_or_an_error_of_the_tree(body: str) -> None:
    """Values are swapped, dropped and replaced, bytes are cut: nothing else comes out."""
    for question in (read, read_price):
        try:
            found = question(body)
        except ProviderError:
            continue
        assert all(one.zone == "DK-DK2" for one in found)


def recorded(shared: Path, name: str) -> dict[str, Any]:
    """Return a recorded body."""
    body: dict[str, Any] = json.loads((shared / "wire/electricitymaps" / name).read_text())
    return body


def test_a_recorded_forecast(shared: Path) -> None:
    """25 rows for 24 hours, asked for at 17:34."""
    body = recorded(shared, "v4_ci_forecast_shape.json")
    now = datetime(2026, 8, 22, 17, 34, tzinfo=UTC)
    [series] = read(body, now, now + DAY, now=now)
    assert series.values == tuple(one["carbonIntensity"] for one in body["forecast"])
    assert len(series.values) == 25
    assert series.start == datetime(2026, 8, 22, 17, tzinfo=UTC)
    assert series.end == datetime(2026, 8, 23, 18, tzinfo=UTC)
    assert series.issued_at is None


def test_a_recorded_latest_value(shared: Path) -> None:
    """Estimated, of the running hour."""
    now = datetime(2026, 8, 22, 17, 34, tzinfo=UTC)
    [series] = read(recorded(shared, "v4_ci_latest_shape.json"), now - HOUR / 2, now, now=now)
    assert (series.values, series.kind) == ((131,), Kind.ESTIMATED)
    assert series.start == datetime(2026, 8, 22, 17, tzinfo=UTC)
    assert series.end == datetime(2026, 8, 22, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("error_401_invalid_token.json", 401, AuthError),
        ("v4_ci_level_shape.json", 200, BadResponse),
        ("v4_zones_shape.json", 200, BadResponse),
        ("optimizer_response_shape.json", 200, BadResponse),
    ],
)
def test_recorded_bodies_that_are_no_intensity(
    shared: Path, name: str, status: int, error: type[ProviderError]
) -> None:
    """Each is an error of the tree."""
    with pytest.raises(error):
        read(recorded(shared, name), status=status)
