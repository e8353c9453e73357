"""Carbon Aware SDK: what a self-hosted server hands on, and which of it is not believed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from carbon.providers import CarbonAwareSdk
from carbon.testing import FakeClock
from tests.carbon.providers.canned import Canned, done
from tests.carbon.providers.odd import mutated
from tests.carbon.providers.wire import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from carbon import IntensitySeries
    from carbon.providers import Web
    from tests.carbon.providers.wire import Ask, Body, Wire

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
STEP = timedelta(minutes=5)
LOCATIONS = {"SE-SE3": "swedencentral"}


def stamp(moment: datetime) -> str:
    """Write a moment as .NET does."""
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}0+00:00"


def forecast(
    *values: float | None, step: int = 5, duration: object = 5, **more: object
) -> list[object]:
    """Return a forecast with a value for each so many minutes from now."""
    rows = [
        {
            "location": "GRID_REGION",
            "timestamp": stamp(NOW + timedelta(minutes=step * count)),
            "duration": duration,
            "value": value,
        }
        for count, value in enumerate(values)
    ]
    whole = {
        "generatedAt": stamp(NOW - STEP),
        "requestedAt": "2026-06-01T12:00:00.1234567+00:00",
        "location": "swedencentral",
        "windowSize": 5,
        "optimalDataPoints": rows[:1],
        "forecastData": rows,
    }
    return [{**whole, **more}]


def emissions(*values: float | None, duration: object = "00:05:00") -> list[object]:
    """Return past values, one for each five minutes of the last hour."""
    return [
        {
            "location": "GRID_REGION",
            "time": stamp(NOW - HOUR + STEP * count),
            "rating": value,
            "duration": duration,
        }
        for count, value in enumerate(values)
    ]


def make(
    web: Web | Canned, url: str = "http://localhost:8080", now: datetime = NOW
) -> CarbonAwareSdk:
    """Make a provider of marginal numbers."""
    return CarbonAwareSdk(
        web, url, LOCATIONS, Signal.MARGINAL, Accounting.DIRECT, clock=FakeClock(now)
    )


def read(
    body: Body, start: datetime = NOW, end: datetime = NOW + DAY, status: int = 200
) -> Sequence[IntensitySeries]:
    """Return what the provider makes of a body, whichever question it answers."""
    return done(make(Canned(body, status=status)).intensity("SE-SE3", start, end))


def read_past(body: Body, status: int = 200) -> Sequence[IntensitySeries]:
    """Return what the provider makes of past values."""
    return read(body, NOW - HOUR, NOW, status)


def test_a_forecast_means_what_the_user_says() -> None:
    """The server does not tell; it tells when the forecast was made."""
    [series] = read(forecast(300.5, 310, 290))
    assert series.values == (300.5, 310, 290)
    assert (series.start, series.end) == (NOW, NOW + 3 * STEP)
    assert series.family == (Signal.MARGINAL, Accounting.DIRECT, Kind.FORECAST)
    assert series.zone == "SE-SE3"
    assert series.source == "Carbon Aware SDK WebAPI, for swedencentral"
    assert series.issued_at == NOW - STEP


@pytest.mark.parametrize("signal", Signal)
@pytest.mark.parametrize("accounting", Accounting)
def test_any_meaning_may_be_declared(signal: Signal, accounting: Accounting) -> None:
    """It depends on the source behind the server."""
    web = Canned(forecast(300))
    server = CarbonAwareSdk(web, "https://c", LOCATIONS, signal, accounting, FakeClock(NOW))
    [series] = done(server.intensity("SE-SE3", NOW, NOW + DAY))
    assert (series.signal, series.accounting) == (signal, accounting)


def test_past_values_are_actual() -> None:
    """They hold for their duration, and what is outside the window is left out."""
    [series] = read(emissions(300, 310, 290), NOW - HOUR + STEP, NOW - HOUR + 2 * STEP)
    assert series.family == (Signal.MARGINAL, Accounting.DIRECT, Kind.ACTUAL)
    assert (series.values, series.start) == ((310,), NOW - HOUR + STEP)
    assert series.issued_at is None


@pytest.mark.parametrize(
    "duration", [5, 5.0, "00:05:00", "0:05:00", "0.00:05:00", "00:05:00.0000000"]
)
def test_a_duration_is_minutes_or_a_time_span(duration: object) -> None:
    """A forecast has numbers, emissions have text."""
    [ahead] = read(forecast(300, duration=duration))
    [past] = read_past(emissions(300, duration=duration))
    assert ahead.end - ahead.start == past.end - past.start == STEP


@pytest.mark.parametrize("duration", [None, 0, "00:00:00"])
def test_without_a_duration_the_next_row_tells(duration: object) -> None:
    """A source that has one row only sends zero."""
    [series] = read_past(emissions(300, 310, duration=duration))
    assert series.end - series.start == 2 * STEP
    with pytest.raises(NoData):
        read_past(emissions(300, duration=duration))


@pytest.mark.parametrize("duration", [-5, 1441, True, "-00:05:00", "99.00:00:00", "PT5M", "5", []])
def test_a_duration_that_cannot_be_is_refused(duration: object) -> None:
    """Negative, more than a day, or something else."""
    with pytest.raises(BadResponse, match="duration"):
        read(forecast(300, 310, duration=duration))
    with pytest.raises(BadResponse, match="duration"):
        read_past(emissions(300, 310, duration=duration))


def test_means_that_reach_over_the_next_row_end_there() -> None:
    """They are not averaged again, and the time that they share is counted once."""
    [series] = read(forecast(300, 310, 290, duration=30))
    assert series.starts == (NOW, NOW + STEP, NOW + 2 * STEP)
    assert series.end == NOW + 2 * STEP + timedelta(minutes=30)
    assert series.values == (300, 310, 290)


def test_gaps_stay_gaps() -> None:
    """A missing row, null, and two rows that contradict one another."""
    assert len(read(forecast(300, 310, step=60, duration=5))) == 2
    assert len(read(forecast(300, None, 290))) == 2
    body: Any = forecast(300, 310, 290)
    body[0]["forecastData"].append({**body[0]["forecastData"][1], "value": 999})
    assert [one.values for one in read(body)] == [(300,), (290,)]


def test_rows_in_any_order() -> None:
    """They are sorted here."""
    body: Any = forecast(300, 310, 290)
    body[0]["forecastData"].reverse()
    assert read(body)[0].values == (300, 310, 290)


@pytest.mark.parametrize("issued_at", [None, "0001-01-01T00:00:00+00:00"])
def test_a_forecast_may_not_tell_when_it_was_made(issued_at: str | None) -> None:
    """.NET writes the year 1 for what it does not know."""
    assert read(forecast(300, generatedAt=issued_at))[0].issued_at is None


@pytest.mark.parametrize("key", ["optimalDataPoint", "optimalDataPoints"])
def test_the_best_point_is_not_asked(key: str) -> None:
    """Old servers have one, new ones several."""
    assert read(forecast(300, **{key: {"value": 1}}))


def test_past_and_future_are_asked_for_together(wire: Wire, ask: Ask) -> None:
    """By the location as the server knows it; without boundaries that it might refuse."""
    wire.says("/sdk/emissions/bylocation", emissions(300, 310))
    wire.says("/sdk/emissions/forecasts/current", forecast(290))
    found: list[IntensitySeries] = []

    async def question(web: Web) -> None:
        server = make(web, f"{wire.url}/sdk/")
        found.extend(await server.intensity("SE-SE3", NOW - HOUR + STEP / 2, NOW + DAY))

    ask(question)
    assert [(one.kind, one.values) for one in found] == [
        (Kind.ACTUAL, (300, 310)),
        (Kind.FORECAST, (290,)),
    ]
    assert {one.path: one.query for one in wire.asked} == {
        "/sdk/emissions/bylocation": {
            "location": "swedencentral",
            "time": "2026-06-01T11:00:00Z",
            "toTime": "2026-06-01T12:00:00Z",
        },
        "/sdk/emissions/forecasts/current": {"location": "swedencentral"},
    }


def test_a_long_past_is_asked_for_in_parts() -> None:
    """No answer is huge."""
    web = Canned(emissions(300))
    done(make(web).intensity("SE-SE3", NOW - 40 * DAY, NOW))
    assert [one["time"] for one in web.asked] == ["2026-04-22T12:00:00Z", "2026-05-23T12:00:00Z"]
    assert web.asked[0]["toTime"] == web.asked[1]["time"]


def test_a_source_without_forecasts_is_good_for_the_past(wire: Wire, ask: Ask) -> None:
    """501 is permanent, and 204 is nothing there."""
    forecasts = [Answer({"title": "NotImplementedException"}, status=501), Answer([])]
    for answer in forecasts:
        wire.says("/emissions/forecasts/current", answer)
        wire.says("/emissions/bylocation", emissions(300))

        async def past(web: Web) -> None:
            [series] = await make(web, wire.url).intensity("SE-SE3", NOW - HOUR, NOW + DAY)
            assert series.kind is Kind.ACTUAL
            with pytest.raises(NoData):
                await make(web, wire.url).intensity("SE-SE3", NOW, NOW + DAY)

        wire.asked.clear()
        ask(past)
        assert len(wire.asked) == 3
    assert [one.kind for one in _with_empty_past(wire, ask)] == [Kind.FORECAST]


def _with_empty_past(wire: Wire, ask: Ask) -> list[IntensitySeries]:
    wire.says("/emissions/bylocation", Answer(b"", status=204))
    wire.says("/emissions/forecasts/current", forecast(290))
    found: list[IntensitySeries] = []

    async def question(web: Web) -> None:
        found.extend(await make(web, wire.url).intensity("SE-SE3", NOW - HOUR, NOW + DAY))

    ask(question)
    return found


PROBLEM = {"title": "ArgumentException", "status": 400, "errors": {"location": ["s3cret"]}}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (204, NoData),
        (400, BadResponse),
        (401, AuthError),
        (403, PlanDenied),
        (404, NoData),
        (429, RateLimited),
        (500, Transient),
        (501, NoData),
        (503, Transient),
    ],
)
def test_refusals(status: int, error: type[ProviderError]) -> None:
    """The status decides, whether it is the server's or its source's; its text is not repeated."""
    for question in (read, read_past):
        with pytest.raises(error) as raised:
            question(PROBLEM, status=status)
        assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [{}],
        [{"forecastData": [{"timestamp": stamp(NOW)}]}],
        [*forecast(300), *forecast(300)],
        forecast(-1, 2),
        forecast(1, 2001),
        forecast(1, 10**400),
        forecast(True),
        forecast("1"),  # type: ignore[arg-type]
        forecast(1, generatedAt="yesterday"),
        [{"forecastData": [{"timestamp": "9999-12-31T23:59:59Z", "value": 1, "duration": 5}]}],
        [{"forecastData": [{"timestamp": "2026-06-01T12:00:00", "value": 1, "duration": 5}]}],
    ],
)
def test_what_is_no_forecast_is_refused(body: Body) -> None:
    """Other shapes, several forecasts for one location, impossible numbers and times."""
    with pytest.raises(BadResponse):
        read(body)


def test_a_forecast_without_rows_is_no_data() -> None:
    """An empty list, null, or no forecast at all."""
    for body in (forecast(), forecast(1, forecastData=None), []):
        with pytest.raises(NoData):
            read(body)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "carbon.example.org",
        "ftp://carbon.example.org",
        "file:///etc/passwd",
        "http://",
        "http://[::1",
        "https://me:s3cret@carbon.example.org",
        "https://carbon.example.org/?key=s3cret",
        "https://carbon.example.org/#s3cret",
        "javascript:alert(1)",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_shown(url: str) -> None:
    """A password could stand in it, and would then stand in logs."""
    with pytest.raises(BadInput, match="base_url: this is no address") as raised:
        make(Canned(), url)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://localhost:8080", "HTTPS://Carbon.example.org/sdk/"])
def test_an_address_may_have_a_port_and_a_path(url: str) -> None:
    """Servers stand behind proxies."""
    assert make(Canned(), url).has_intensity("SE-SE3")


@settings(max_examples=50, deadline=1000)
@given(kept=st.lists(st.booleans(), min_size=12, max_size=12).filter(any))
def test_rows_that_are_missing_are_the_only_gaps(kept: list[bool]) -> None:
    """Each value that came is there, and no other time has any."""
    body = [row for row, keep in zip(emissions(*range(12)), kept, strict=True) if keep]
    found = read_past(body)
    values = {
        start: value for one in found for start, value in zip(one.starts, one.values, strict=True)
    }
    assert values == {NOW - HOUR + STEP * count: count for count in range(12) if kept[count]}
    assert sum((one.end - one.start for one in found), timedelta()) == sum(kept) * STEP


@settings(max_examples=300, deadline=1000)
@given(body=mutated([forecast(300, None, 290), emissions(300, 310, None)]))
def test_a_body_with_faults_gives_numbers_or_an_error_of_the_tree(body: str) -> None:
    """Values are swapped, dropped and replaced, bytes are cut: nothing else comes out."""
    for question in (read, read_past):
        try:
            question(body)
        except ProviderError:
            continue


def recorded(shared: Path, name: str) -> Body:
    """Return a recorded body."""
    body: Body = json.loads((shared / "wire/casdk" / name).read_text())
    return body


def test_a_recorded_forecast(shared: Path) -> None:
    """Two points far from one another, each a mean over ten minutes."""
    start = datetime(2022, 7, 19, 14, tzinfo=UTC)
    server = make(Canned(recorded(shared, "forecast_current_doc.json")), now=start)
    first, last = done(server.intensity("SE-SE3", start, start + DAY))
    assert (first.values, last.values) == ((532.02293146,), (535.7318741001667,))
    assert (first.start, first.end) == (start, start + 2 * STEP)
    assert last.start == datetime(2022, 7, 20, 4, 25, tzinfo=UTC)
    assert last.end - last.start == 2 * STEP
    assert first.issued_at == datetime(2022, 7, 19, 13, 35, tzinfo=UTC)


def test_a_recorded_emission(shared: Path) -> None:
    """Its location is the grid region, which nobody asked for."""
    start = datetime(2022, 11, 2, 10, tzinfo=UTC)
    [series] = read(recorded(shared, "emissions_bylocation.json"), start, start + HOUR)
    assert series.values == (545.67162111,)
    assert (series.start, series.end) == (start + 4 * STEP, start + 5 * STEP)
    assert series.kind is Kind.ACTUAL


def test_recorded_bodies_that_are_no_intensity(shared: Path) -> None:
    """A refusal by its status, a mean over a window by its shape."""
    with pytest.raises(BadResponse, match="400"):
        read(recorded(shared, "error_400_problem.json"), status=400)
    with pytest.raises(BadResponse):
        read(recorded(shared, "average_ci.json"))
