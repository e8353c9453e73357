"""WattTime: its login, what its numbers mean, and which of them are not believed."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from pydantic import SecretStr

from carbon import Accounting, BadInput, Kind, ReplayClock, Signal
from carbon._errors import (
    AuthError,
    BadResponse,
    NoData,
    PlanDenied,
    ProviderError,
    RateLimited,
    Transient,
)
from carbon.providers import WattTime
from carbon.testing import FakeClock
from tests.carbon.providers.canned import Canned, done
from tests.carbon.providers.odd import mutated
from tests.carbon.providers.wire import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from carbon import IntensitySeries
    from carbon.providers import Web
    from tests.carbon.providers.wire import Ask, Body, Wire

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
STEP = timedelta(minutes=5)
ZONE = "US-CAL-CISO"
PASSWORD = "p4ssword-of-a-shop"
LOGIN: dict[str, object] = {"token": "t0ken-1"}
PAGE = Answer("<html><h1>403 Forbidden</h1><hr>nginx</html>", status=403)
EXPIRED = Answer({"error": "INVALID_TOKEN"}, status=401)
SCOPE = Answer({"error": "Invalid scope", "message": "upgrade"}, status=403)


def points(*values: float | None, start: datetime = NOW, **more: object) -> dict[str, object]:
    """Return a body with a value in lb/MWh for each five minutes, and more beside the region."""
    meta = {
        "data_point_period_seconds": 300,
        "region": "CAISO_NORTH",
        "signal_type": "co2_moer",
        "units": "lbs_co2_per_mwh",
        "warnings": [],
        "model": {"date": "2023-03-01"},
    }
    rows = [
        {"point_time": (start + STEP * count).isoformat(), "value": value}
        for count, value in enumerate(values)
    ]
    return {"data": rows, "meta": {**meta, **more}}


def index(value: float | None, **more: object) -> dict[str, object]:
    """Return the body of the signal index."""
    return points(value, units="percentile", **more)


def read(
    body: Body,
    start: datetime = NOW,
    end: datetime = NOW + DAY,
    *,
    now: datetime = NOW,
    zone: str = ZONE,
    regions: Mapping[str, str] | None = None,
) -> Sequence[IntensitySeries]:
    """Return what the provider makes of a body, whichever question it answers."""
    web = Canned(LOGIN, body)
    watttime = WattTime(web, "me", SecretStr(PASSWORD), regions=regions, clock=FakeClock(now))
    return done(watttime.intensity(zone, start, end))


def read_index(body: Body) -> float:
    """Return what the provider makes of a signal index."""
    watttime = WattTime(Canned(LOGIN, body), "me", SecretStr(PASSWORD), clock=FakeClock(NOW))
    return done(watttime.signal_index(ZONE))


def using(
    wire: Wire, ask: Ask, do: Callable[[WattTime, FakeClock], Awaitable[object]]
) -> list[str]:
    """Let a function use the provider on loopback, and return the paths that were asked."""
    wire.answers.setdefault("/login", [Answer(LOGIN)])

    async def question(web: Web) -> None:
        clock = FakeClock(NOW)
        await do(WattTime(web, "me", SecretStr(PASSWORD), wire.url, clock=clock), clock)

    ask(question)
    return [one.path for one in wire.asked]


def ahead(watttime: WattTime) -> Awaitable[Sequence[IntensitySeries]]:
    """Ask for a forecast from the present moment on."""
    now = watttime.clock.now()
    return watttime.intensity(ZONE, now, now + DAY)


def lasting(*values: float) -> dict[str, object]:
    """Return a forecast whose rows hold until tomorrow, however the clock runs."""
    return points(*values, start=NOW, data_point_period_seconds=86_400)


def test_a_forecast_is_marginal_direct_and_in_grams() -> None:
    """Pounds per MWh are not grams per kWh."""
    [series] = read(points(870, 1000, generated_at=(NOW - STEP).isoformat()))
    assert series.values == pytest.approx((394.6253619, 453.59237))
    assert (series.start, series.end) == (NOW, NOW + 2 * STEP)
    assert series.family == (Signal.MARGINAL, Accounting.DIRECT, Kind.FORECAST)
    assert series.issued_at == NOW - STEP
    assert (series.zone, series.source) == (ZONE, "WattTime, for CAISO_NORTH")


def test_a_forecast_may_not_tell_when_it_was_issued() -> None:
    """It is used all the same."""
    assert read(points(870))[0].issued_at is None


def test_the_past_is_actual_or_imputed() -> None:
    """Imputed values are estimates."""
    body: Any = points(870, 860, 850, start=NOW - HOUR)
    body["data"][1]["imputed_data_used"] = True
    body["data"][2]["imputed_data_used"] = False
    first, last, imputed = read(body, NOW - HOUR, NOW)
    assert (first.kind, last.kind, imputed.kind) == (Kind.ACTUAL, Kind.ACTUAL, Kind.ESTIMATED)
    assert imputed.start == NOW - HOUR + STEP
    assert imputed.values == pytest.approx((860 * 0.45359237,))
    assert imputed.issued_at is None


def test_hourly_values_hold_for_an_hour() -> None:
    """The length of a value stands beside the values."""
    [series] = read(points(870, data_point_period_seconds=3600))
    assert series.end - series.start == HOUR


def test_both_ends_of_a_window_count() -> None:
    """Values beside the window are left out, and rows that come twice are one."""
    body = points(*range(870, 890), start=NOW - HOUR)
    body["data"] = [*body["data"], *body["data"]]  # type: ignore[misc]
    [series] = read(body, NOW - HOUR + 2 * STEP, NOW - HOUR + 4 * STEP)
    assert (series.start, series.end) == (NOW - HOUR + 2 * STEP, NOW - HOUR + 4 * STEP)


def test_null_is_a_gap_and_warnings_are_advice() -> None:
    """Nothing is filled in."""
    advice = [{"type": "EXAMPLE_WARNING", "message": "This is just an example"}]
    assert len(read(points(870, None, 850, warnings=advice))) == 2


def test_past_and_future_are_asked_for_together(wire: Wire, ask: Ask) -> None:
    """A window over the present has two answers."""
    wire.says("/v3/historical", points(100, 200, start=NOW - HOUR))
    wire.says("/v3/forecast", points(300, 400, generated_at=NOW.isoformat()))
    found: list[IntensitySeries] = []

    async def do(watttime: WattTime, _: FakeClock) -> None:
        found.extend(await watttime.intensity(ZONE, NOW - timedelta(minutes=52), NOW + DAY))

    assert sorted(using(wire, ask, do)) == ["/login", "/v3/forecast", "/v3/historical"]
    actual, forecast = found  # the first value ends before the window begins
    assert actual.values == pytest.approx((200 * 0.45359237,))
    assert (actual.kind, actual.issued_at) == (Kind.ACTUAL, None)
    assert (forecast.kind, forecast.issued_at) == (Kind.FORECAST, NOW)
    past = next(one for one in wire.asked if one.path == "/v3/historical")
    assert past.query == {
        "region": "CAISO_NORTH",
        "signal_type": "co2_moer",
        "start": "2026-06-01T11:00:00+00:00",
        "end": "2026-06-01T12:00:00+00:00",
    }


@pytest.mark.parametrize(("hours", "horizon"), [(0.1, 2), (6, 7), (24, 25), (71, 72), (300, 72)])
def test_the_forecast_reaches_over_the_window(
    wire: Wire, ask: Ask, hours: float, horizon: int
) -> None:
    """An hour more, since it may begin before the present; 72 hours are the most."""
    wire.says("/v3/forecast", points(870))
    using(wire, ask, lambda watttime, _: watttime.intensity(ZONE, NOW, NOW + hours * HOUR))
    assert wire.asked[-1].query["horizon_hours"] == str(horizon)


def test_a_long_past_is_asked_for_in_parts(wire: Wire, ask: Ask) -> None:
    """32 days are the most, both ends included."""
    wire.says("/v3/historical", points(870, start=NOW - DAY))
    using(wire, ask, lambda watttime, _: watttime.intensity(ZONE, NOW - 70 * DAY, NOW))
    parts = sorted(
        (one.query["start"], one.query["end"]) for one in wire.asked if "start" in one.query
    )
    assert [start for start, _ in parts[1:]] == [end for _, end in parts[:-1]]
    spans = [datetime.fromisoformat(end) - datetime.fromisoformat(start) for start, end in parts]
    assert spans == [31 * DAY, 31 * DAY, 8 * DAY]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"units": "percentile"}, "sent a percentile"),
        ({"units": "g_per_kwh"}, "sent another unit"),
        ({"region": "PSCO"}, "asked for region CAISO_NORTH and sent PSCO"),
        ({"region": "bad t0ken"}, "sent no region at all"),
        ({"signal_type": "health_damage"}, "another signal"),
        ({"data_point_period_seconds": None}, "how long"),
        ({"data_point_period_seconds": 0}, "greater_than"),
        ({"data_point_period_seconds": -300}, "greater_than"),
        ({"data_point_period_seconds": 10**9}, "less_than"),
        ({"data_point_period_seconds": True}, "int_type"),
    ],
)
def test_what_is_no_intensity_of_the_region_is_refused(
    more: dict[str, object], problem: str
) -> None:
    """The envelope is the same for all: what stands beside the values decides."""
    with pytest.raises(BadResponse, match=problem):
        read(points(870, **more))


@pytest.mark.parametrize(
    "value",
    [-1, 4500, True, "870", [870], 10**400, float("nan"), float("inf")],
)
def test_values_that_cannot_be_are_refused(value: Any) -> None:  # noqa: ANN401 - any fault
    """4,500 lb/MWh is more than any grid emits."""
    with pytest.raises(BadResponse):
        read(points(870, value))


@pytest.mark.parametrize(
    "time", ["2026-06-01T12:00:00", "9999-12-31T23:59:00Z", "0001-01-01T00:00:00+14:00", None, ""]
)
def test_times_that_cannot_be_are_refused(time: str | None) -> None:
    """One without an offset could be any."""
    body = {**points(870), "data": [{"point_time": time, "value": 870}]}
    with pytest.raises(BadResponse):
        read(body)


def test_an_empty_history_is_no_data() -> None:
    """The near past comes late."""
    with pytest.raises(NoData, match="nothing for US-CAL-CISO"):
        read(points(), NOW - HOUR, NOW)


def test_the_signal_index_is_a_percentile_and_apart() -> None:
    """It is asked for by another method, and never in pounds."""
    assert read_index(index(96)) == 96
    two = index(1)
    two["data"] = [*index(2, start=NOW + STEP)["data"], *two["data"]]  # type: ignore[misc]
    assert read_index(two) == 2
    for body, error in (
        (points(96), BadResponse),
        (index(100.5), BadResponse),
        (index(-1), BadResponse),
        (index(None), NoData),
        ({**index(1), "data": []}, NoData),
        (index(1, region="PSCO"), BadResponse),
    ):
        with pytest.raises(error):
            read_index(body)


def test_a_zone_may_be_given_another_region() -> None:
    """What is given counts before the table."""
    body = points(870, region="CAISO_SOUTH")
    assert read(body, regions={ZONE: "CAISO_SOUTH"})
    assert read(body, zone="XX", regions={"XX": "CAISO_SOUTH"})[0].zone == "XX"
    watttime = WattTime(Canned(), "me", SecretStr(PASSWORD), regions={"XX": "CAISO_SOUTH"})
    assert watttime.has_intensity("XX")
    assert watttime.has_intensity("GB")
    assert not watttime.has_intensity("SE-SE3")
    with pytest.raises(NoData, match="SE-SE3"):
        done(watttime.signal_index("SE-SE3"))


def test_a_login_without_a_password_is_refused() -> None:
    """Before anybody is asked."""
    for user, password in (("", PASSWORD), ("me", "")):
        with pytest.raises(BadInput, match="watttime login"):
            WattTime(Canned(), user, SecretStr(password))


def test_one_login_for_many_questions(wire: Wire, ask: Ask) -> None:
    """By name and password once, then by what came back."""
    wire.says("/login", Answer(LOGIN, delay=0.1))
    wire.says("/v3/forecast", points(870))

    async def do(watttime: WattTime, _: FakeClock) -> None:
        await asyncio.gather(*(ahead(watttime) for _ in range(8)))

    paths = using(wire, ask, do)
    assert paths == ["/login", *["/v3/forecast"] * 8]
    basic = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert wire.asked[0].headers["authorization"] == f"Basic {basic}"
    assert {one.headers["authorization"] for one in wire.asked[1:]} == {"Bearer t0ken-1"}


def test_a_token_is_renewed_before_it_expires(wire: Wire, ask: Ask) -> None:
    """It holds for 30 minutes."""
    wire.says("/login", LOGIN, {"token": "t0ken-2"})
    wire.says("/v3/forecast", lasting(870))

    async def do(watttime: WattTime, clock: FakeClock) -> None:
        for minutes in (0, 24, 2):
            clock.advance(timedelta(minutes=minutes))
            await ahead(watttime)

    forecast = "/v3/forecast"
    assert using(wire, ask, do) == ["/login", forecast, forecast, "/login", forecast]
    assert wire.asked[-1].headers["authorization"] == "Bearer t0ken-2"


def test_a_token_ages_in_life(wire: Wire, ask: Ask) -> None:
    """A replay that runs through days in seconds does not log in all the time."""
    wire.says("/login", LOGIN)
    wire.says("/v3/forecast", lasting(870))

    async def question(web: Web) -> None:
        clock = ReplayClock(NOW, datetime.now(UTC), speed=36_000)
        watttime = WattTime(web, "me", SecretStr(PASSWORD), wire.url, clock=clock)
        for _ in range(2):
            await watttime.intensity(ZONE, NOW, NOW + 3 * DAY)
            await asyncio.sleep(0.1)

    wire.says("/v3/historical", lasting(870))
    ask(question)
    assert [one.path for one in wire.asked].count("/login") == 1


@pytest.mark.parametrize("refusal", [PAGE, EXPIRED])
def test_a_token_that_expired_early_is_renewed_once(wire: Wire, ask: Ask, refusal: Answer) -> None:
    """401, or 403 as a web page: log in again, ask again."""
    wire.says("/v3/forecast", lasting(870), refusal, lasting(870))

    async def do(watttime: WattTime, clock: FakeClock) -> None:
        await ahead(watttime)
        clock.advance(timedelta(minutes=10))
        assert await ahead(watttime)

    forecast = "/v3/forecast"
    assert using(wire, ask, do) == ["/login", forecast, forecast, "/login", forecast]


def test_many_refusals_are_one_new_login(wire: Wire, ask: Ask) -> None:
    """The others take the token that one of them has got."""
    refused = Answer(PAGE.body, status=403, delay=0.1)
    wire.says("/login", LOGIN, {"token": "t0ken-2"})
    wire.says("/v3/forecast", lasting(870), *[refused] * 5, lasting(870))

    async def do(watttime: WattTime, clock: FakeClock) -> None:
        await ahead(watttime)
        clock.advance(timedelta(minutes=10))
        await asyncio.gather(*(ahead(watttime) for _ in range(5)))

    assert using(wire, ask, do).count("/login") == 2
    last = [one.headers["authorization"] for one in wire.asked[-5:]]
    assert last == ["Bearer t0ken-2"] * 5


@pytest.mark.parametrize("refusal", [PAGE, EXPIRED])
def test_a_token_that_stays_refused_is_no_loop(wire: Wire, ask: Ask, refusal: Answer) -> None:
    """A new token is not renewed, and a renewed one not either: a firewall, or a blocked user."""
    wire.says("/v3/forecast", refusal)

    async def do(watttime: WattTime, clock: FakeClock) -> None:
        for minutes in (0, 0.5, 10, 0.5):
            clock.advance(timedelta(minutes=minutes))
            with pytest.raises(AuthError, match="token"):
                await ahead(watttime)

    forecast = "/v3/forecast"
    assert using(wire, ask, do) == ["/login", *[forecast] * 3, "/login", *[forecast] * 2]


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_password_is_tried_once(wire: Wire, ask: Ask, status: int) -> None:
    """However many ask, and not again for a minute."""
    wire.says("/login", Answer({"error": "no"}, status=status, delay=0.1))

    async def do(watttime: WattTime, clock: FakeClock) -> None:
        found = await asyncio.gather(*(ahead(watttime) for _ in range(6)), return_exceptions=True)
        assert {type(one) for one in found} == {AuthError}
        with pytest.raises(AuthError, match="does not let the user in"):
            await ahead(watttime)
        clock.advance(timedelta(minutes=1))
        with pytest.raises(AuthError):
            await ahead(watttime)

    assert using(wire, ask, do) == ["/login", "/login"]


def test_a_login_that_fails_is_not_waited_for_in_a_row(wire: Wire, ask: Ask) -> None:
    """Each of many questions would wait out the time-out of its own login."""
    wire.says("/login", Answer("oops", status=500))

    async def do(watttime: WattTime, clock: FakeClock) -> None:
        found = await asyncio.gather(*(ahead(watttime) for _ in range(6)), return_exceptions=True)
        assert {type(one) for one in found} == {Transient}
        wire.says("/login", LOGIN)
        wire.says("/v3/forecast", lasting(870))
        clock.advance(timedelta(minutes=1))
        assert await ahead(watttime)

    assert using(wire, ask, do) == [*["/login"] * 3, "/login", "/v3/forecast"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer({}), BadResponse),
        (Answer({"token": ""}), BadResponse),
        (Answer({"token": "two words"}), BadResponse),
        (Answer({"token": "line\nbreak"}), BadResponse),
        (Answer({"token": "t\u00f6ken"}), BadResponse),
        (Answer({"token": "x" * 9000}), BadResponse),
        (Answer({"token": 5}), BadResponse),
        (Answer("<html>login</html>"), BadResponse),
        (Answer("not here", status=404), BadResponse),
        (Answer("slow down", status=429), RateLimited),
    ],
)
def test_a_login_without_a_token(
    wire: Wire, ask: Ask, answer: Answer, error: type[ProviderError]
) -> None:
    """What cannot be a token is not sent back to anybody, nor shown."""
    wire.says("/login", answer)

    async def do(watttime: WattTime, _: FakeClock) -> None:
        with pytest.raises(error) as raised:
            await ahead(watttime)
        assert "ken" not in str(raised.value).replace("token", "")

    assert using(wire, ask, do) == ["/login"]


def test_a_plan_that_is_too_small_is_no_reason_to_log_in(wire: Wire, ask: Ask) -> None:
    """Invalid scope is permanent."""
    wire.says("/v3/forecast", lasting(870), SCOPE)

    async def do(watttime: WattTime, clock: FakeClock) -> None:
        await ahead(watttime)
        clock.advance(timedelta(minutes=10))
        with pytest.raises(PlanDenied):
            await ahead(watttime)

    assert using(wire, ask, do) == ["/login", *["/v3/forecast"] * 2]


def test_half_a_plan_is_used(wire: Wire, ask: Ask) -> None:
    """History without forecasts, or the other way round."""
    past = points(870, start=NOW - HOUR)
    for history, forecast, kind in (
        (Answer(past), SCOPE, Kind.ACTUAL),
        (SCOPE, Answer(points(870)), Kind.FORECAST),
        (Answer(points()), Answer(points(870)), Kind.FORECAST),
    ):
        wire.says("/v3/historical", history)
        wire.says("/v3/forecast", forecast)

        async def do(watttime: WattTime, _: FakeClock, kind: Kind = kind) -> None:
            [series] = await watttime.intensity(ZONE, NOW - HOUR, NOW + DAY)
            assert series.kind is kind

        using(wire, ask, do)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error": "INVALID_QUERY_PARAMS", "msg": "t0ken"}, BadResponse),
        (400, {"error": "INVALID_QUERY_PARAMS", "message": "t0ken"}, BadResponse),
        (422, {"detail": [{"loc": ["query", "region"], "msg": "t0ken"}]}, BadResponse),
        (422, {"error": "t0ken", "message": "t0ken", "docs": ""}, BadResponse),
        (404, {"error": "t0ken"}, NoData),
        (429, {"error": "t0ken"}, RateLimited),
        (502, "<html>t0ken</html>", Transient),
    ],
)
def test_refusals_of_either_shape(
    wire: Wire, ask: Ask, status: int, body: Body, error: type[ProviderError]
) -> None:
    """The status decides; what the provider writes is never repeated."""
    wire.says("/v3/forecast", Answer(body, status=status))

    async def do(watttime: WattTime, _: FakeClock) -> None:
        with pytest.raises(error) as raised:
            await ahead(watttime)
        assert "t0ken" not in str(raised.value)

    using(wire, ask, do)


@settings(max_examples=300, deadline=1000)
@given(body=mutated([points(870, None, 850, generated_at=NOW.isoformat()), index(50)]))
def test_a_body_with_faults_gives_numbers_or_an_error_of_the_tree(body: str) -> None:
    """Values are swapped, dropped and replaced, bytes are cut: nothing else comes out."""
    for question in (read, read_index):
        try:
            question(body)
        except ProviderError:
            continue


def recorded(shared: Path, name: str) -> dict[str, Any]:
    """Return a recorded body."""
    body: dict[str, Any] = json.loads((shared / "wire/watttime" / name).read_text())
    return body


def test_a_recorded_forecast(shared: Path) -> None:
    """A day of five minutes."""
    body = recorded(shared, "forecast_24h_doc.json")
    start = datetime(2022, 7, 15, tzinfo=UTC)
    [series] = read(body, start, start + DAY, now=start)
    assert len(series.values) == len(body["data"])
    assert set(series.values) == {870 * 0.45359237}
    assert series.start == start
    assert series.end == start + len(body["data"]) * STEP
    assert series.issued_at == start


def test_a_recorded_history(shared: Path) -> None:
    """Two values, both imputed."""
    start = datetime(2022, 7, 15, tzinfo=UTC)
    [series] = read(recorded(shared, "historical_doc.json"), start, start + HOUR, now=start + DAY)
    assert series.kind is Kind.ESTIMATED
    assert series.values == pytest.approx((870 * 0.45359237, 860 * 0.45359237))
    assert (series.start, series.end) == (start, start + 2 * STEP)


def test_a_recorded_signal_index(shared: Path) -> None:
    """96 is a percentile, of another region's intensity never a value."""
    body = recorded(shared, "signal_index_percentile.json")
    web = Canned(recorded(shared, "login_doc.json"), body)
    watttime = WattTime(web, "me", SecretStr(PASSWORD), regions={"US-NW-PSCO": "PSCO"})
    assert done(watttime.signal_index("US-NW-PSCO")) == 96
    with pytest.raises(BadResponse, match="percentile"):
        read(body, regions={ZONE: "PSCO"})


@pytest.mark.parametrize(
    "name",
    [
        "error_generic_doc.json",
        "error_register_taken.json",
        "forecast_historical_3pt.json",
        "region_from_loc_doc.json",
        "region_psco.json",
        "login_doc.json",
    ],
)
def test_recorded_bodies_that_are_no_intensity(shared: Path, name: str) -> None:
    """Each is an error of the tree, whatever the status."""
    with pytest.raises(BadResponse):
        read(recorded(shared, name))
