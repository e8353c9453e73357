"""What every provider must do, whatever its server says or does not say."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from carbon import Accounting, BadInput, IntensitySeries, Signal
from carbon._errors import BadResponse, NoData, ProviderError, RateLimited, Transient
from carbon.providers import (
    CarbonAwareSdk,
    ElectricityMaps,
    EnergyCharts,
    Entsoe,
    GBCarbonIntensity,
    Provider,
    WattTime,
    Web,
)
from carbon.testing import FakeClock
from tests.carbon.providers import a44
from tests.carbon.providers.wire import Answer, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carbon import PriceSeries
    from tests.carbon.providers.wire import Ask, Body

    Found = Sequence[IntensitySeries | PriceSeries]

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
END = START + 6 * HOUR
SECRET = "s3cr3t-t0ken-of-a-shop"
LEVEL = 200.0
"""What every case's server says for each interval: gCO2e/kWh, or a price per MWh."""


@dataclass(frozen=True)
class Case:
    """A provider and a server that speaks its language.

    Attributes:
        make: Makes the provider for an address.
        zone: A zone that it knows.
        path: Path that its main question goes to; ``*`` at the end stands for any rest.
        body: The body that says ``LEVEL`` from ``START`` to ``END``.
        price: Whether the main question is for the price, otherwise for the intensity.
        login: Another path that must answer first, and its body.
    """

    make: Callable[[Web, str], Provider]
    zone: str
    path: str
    body: Body
    price: bool = False
    login: tuple[str, Body] | None = None

    def serve(self, wire: Wire, *answers: Answer | Body) -> None:
        """Let the server give these answers to the main question."""
        if self.login:
            wire.says(*self.login)
        wire.says(self.path, *answers)

    async def question(self, web: Web, url: str, start: datetime = START) -> Found:
        """Ask the main question."""
        provider = self.make(web, url)
        method = provider.price if self.price else provider.intensity
        return await method(self.zone, start, END)


def stamp(moment: datetime) -> str:
    """Write a moment as GB does."""
    return f"{moment:%Y-%m-%dT%H:%MZ}"


def found_by(case: Case, wire: Wire, ask: Ask, start: datetime = START) -> Found:
    """Ask the main question and return the series that came."""
    found: list[IntensitySeries | PriceSeries] = []

    async def question(web: Web) -> None:
        found.extend(await case.question(web, wire.url, start))

    ask(question)
    return found


def halves() -> list[datetime]:
    """Return the half hours of the window."""
    return [START + HOUR / 2 * count for count in range(12)]


GB_ROWS = [
    {
        "from": stamp(half),
        "to": stamp(half + HOUR / 2),
        "intensity": {"forecast": 200, "actual": None, "index": "high"},
    }
    for half in halves()
]


def electricity_maps(web: Web, url: str) -> Provider:
    """Make Electricity Maps at the start of the window."""
    return ElectricityMaps(web, SecretStr(SECRET), url, clock=FakeClock(START))


def watttime(web: Web, url: str) -> Provider:
    """Make WattTime at the start of the window."""
    return WattTime(web, "user", SecretStr(SECRET), url, clock=FakeClock(START))


def carbon_aware_sdk(web: Web, url: str) -> Provider:
    """Make a Carbon Aware SDK at the start of the window."""
    locations, clock = {"SE-SE3": "swedencentral"}, FakeClock(START)
    return CarbonAwareSdk(web, url, locations, Signal.MARGINAL, Accounting.DIRECT, clock)


WATTTIME_LOGIN: tuple[str, Body] = ("/login", {"token": "t0ken-0f-half-an-hour"})
WATTTIME_BODY: dict[str, object] = {
    "data": [{"point_time": half.isoformat(), "value": 200 / 0.45359237} for half in halves()],
    "meta": {
        "data_point_period_seconds": 1800,
        "region": "CAISO_NORTH",
        "signal_type": "co2_moer",
        "units": "lbs_co2_per_mwh",
        "generated_at": START.isoformat(),
    },
}

CASES = {
    "gb": Case(
        make=GBCarbonIntensity,
        zone="GB",
        path="/intensity/*",
        body={"data": GB_ROWS},
    ),
    "gb-region": Case(
        make=GBCarbonIntensity,
        zone="GB-13",
        path="/regional/intensity/*",
        body={"data": {"regionid": 13, "shortname": "London", "data": GB_ROWS}},
    ),
    "energy-charts": Case(
        make=EnergyCharts,
        zone="SE-SE3",
        path="/co2eq",
        body={
            "unix_seconds": [int(half.timestamp()) for half in halves()],
            "co2eq": [200.0] * 6 + [None] * 6,
            "co2eq_forecast": [None] * 6 + [200.0] * 6,
            "deprecated": False,
        },
    ),
    "energy-charts-price": Case(
        make=EnergyCharts,
        zone="SE-SE3",
        path="/price",
        body={
            "license_info": "CC BY 4.0",
            "unix_seconds": [int(half.timestamp()) for half in halves()],
            "price": [200.0] * 12,
            "unit": "EUR / MWh",
        },
        price=True,
    ),
    "entsoe": Case(
        make=lambda web, url: Entsoe(web, SecretStr(SECRET), url),
        zone="FI",
        path="/api",
        body=a44.document(a44.flat(START, END, LEVEL)),
        price=True,
    ),
    "electricity-maps": Case(
        make=electricity_maps,
        zone="SE-SE3",
        path="/v4/carbon-intensity/forecast",
        body={
            "zone": "SE-SE3",
            "forecast": [
                {"carbonIntensity": 200, "datetime": half.isoformat()} for half in halves()
            ],
        },
    ),
    "electricity-maps-price": Case(
        make=electricity_maps,
        zone="SE-SE3",
        path="/v4/price-day-ahead/combined",
        body={
            "zone": "SE-SE3",
            "unit": "EUR/MWh",
            "data": [{"value": 200.0, "datetime": half.isoformat()} for half in halves()],
        },
        price=True,
    ),
    "watttime": Case(
        make=watttime,
        zone="US-CAL-CISO",
        path="/v3/forecast",
        body=WATTTIME_BODY,
        login=WATTTIME_LOGIN,
    ),
    "carbon-aware-sdk": Case(
        make=carbon_aware_sdk,
        zone="SE-SE3",
        path="/emissions/forecasts/current",
        body=[
            {
                "generatedAt": START.isoformat(),
                "forecastData": [
                    {"timestamp": half.isoformat(), "duration": 30, "value": 200}
                    for half in halves()
                ],
            }
        ],
    ),
}


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    """Return one provider with its server's language."""
    return CASES[request.param]


def test_it_says_who_it_is_and_what_its_terms_are(case: Case) -> None:
    """Name, attribution and licence are there without asking anybody."""
    provider = case.make(Web(), "http://127.0.0.1:1")
    assert provider.name.replace("-", "").isalnum()
    assert provider.terms.attribution
    assert provider.terms.licence
    assert provider.terms.fresh > timedelta(0)
    known = provider.has_price if case.price else provider.has_intensity
    assert known(case.zone)
    assert not known("XX-NOWHERE")


def test_a_good_answer_has_the_right_values_and_intervals(case: Case, wire: Wire, ask: Ask) -> None:
    """Values, unit, zone and half-open intervals are right, and it says who says so."""
    case.serve(wire, case.body)
    found = found_by(case, wire, ask)
    assert found
    assert min(series.start for series in found) == START
    assert max(series.end for series in found) == END
    for series in found:
        assert series.zone == case.zone
        assert series.source
        assert series.unit in {"gCO2e/kWh", "EUR/MWh"}
        assert series.mean(series.start, series.end) == pytest.approx(LEVEL)
        if isinstance(series, IntensitySeries):
            assert series.family[:2] == case.make(Web(), "http://127.0.0.1:1").family


def test_what_lies_outside_the_window_is_left_out(case: Case, wire: Wire, ask: Ask) -> None:
    """Providers send more than was asked for."""
    case.serve(wire, case.body)
    found = found_by(case, wire, ask, START + 3 * HOUR)
    assert min(series.start for series in found) == START + 3 * HOUR


def test_it_is_polite(case: Case, wire: Wire, ask: Ask) -> None:
    """It says who asks, and asks once."""
    case.serve(wire, case.body)
    ask(lambda web: case.question(web, wire.url))
    asked = [one for one in wire.asked if not case.login or one.path != case.login[0]]
    assert len({(one.path, tuple(sorted(one.query.items()))) for one in asked}) == len(asked)
    assert all(one.headers["user-agent"].startswith("carbon-aware-flows/") for one in wire.asked)


def test_an_unknown_zone_asks_nobody(case: Case, wire: Wire, ask: Ask) -> None:
    """A zone that it does not know is no question to the network."""

    async def unknown(web: Web) -> None:
        provider = case.make(web, wire.url)
        for method in (provider.price, provider.intensity):
            with pytest.raises(NoData, match="XX-NOWHERE"):
                await method("XX-NOWHERE", START, END)

    ask(unknown)
    assert not wire.asked


def test_a_bad_window_is_the_callers_fault(case: Case, ask: Ask) -> None:
    """Empty, backwards and naive windows are refused before anybody is asked."""

    async def bad(web: Web) -> None:
        provider = case.make(web, "http://127.0.0.1:1")
        naive = START.replace(tzinfo=None)
        for start, end in ((START, START), (END, START), (naive, END)):
            for method in (provider.price, provider.intensity):
                with pytest.raises(BadInput):
                    await method(case.zone, start, end)

    ask(bad)


def mains(case: Case, wire: Wire) -> int:
    """Return how often the main question was asked."""
    return sum(case.login is None or one.path != case.login[0] for one in wire.asked)


def refused(case: Case, wire: Wire, ask: Ask) -> ProviderError:
    """Ask, and return the error that came."""
    with pytest.raises(ProviderError) as raised:
        ask(lambda web: case.question(web, wire.url))
    return raised.value


@pytest.mark.parametrize("status", [302, 400, 403, 404, 410, 418, 451])
def test_a_permanent_refusal_is_not_asked_again(
    case: Case, wire: Wire, ask: Ask, status: int
) -> None:
    """Whatever is in the body, a refusal is one question and one error of the tree."""
    case.serve(wire, Answer("<html>no</html>", status=status))
    error = refused(case, wire, ask)
    assert not isinstance(error, Transient | RateLimited)
    assert mains(case, wire) == 1


def test_what_passes_is_asked_again(case: Case, wire: Wire, ask: Ask) -> None:
    """A 500 and a broken connection, then the answer: nobody notices."""
    broken = Answer(case.body, cut=20)
    case.serve(wire, Answer("oops", status=500), broken, case.body)
    assert found_by(case, wire, ask)
    assert mains(case, wire) == 3


def test_it_gives_up(case: Case, wire: Wire, ask: Ask) -> None:
    """A provider that stays broken is asked three times, and that is that."""
    case.serve(wire, Answer("oops", status=502))
    assert isinstance(refused(case, wire, ask), Transient)
    assert mains(case, wire) == 3


def test_a_short_pause_is_kept(case: Case, wire: Wire, ask: Ask) -> None:
    """429 with a short Retry-After is waited for."""
    patient = Answer("slow down", status=429, headers={"retry-after": "1"})
    case.serve(wire, patient, case.body)
    began = time.monotonic()
    assert found_by(case, wire, ask)
    assert time.monotonic() - began >= 1
    assert mains(case, wire) == 2


def test_a_long_pause_is_told(case: Case, wire: Wire, ask: Ask) -> None:
    """429 with a long Retry-After is not waited for: the error tells when to come back."""
    case.serve(wire, Answer("slow down", status=429, headers={"retry-after": "3600"}))
    error = refused(case, wire, ask)
    assert isinstance(error, RateLimited)
    assert error.retry_after == HOUR
    assert mains(case, wire) == 1


def test_a_provider_that_wants_to_be_left_alone_is(case: Case, wire: Wire, ask: Ask) -> None:
    """After a 429 no other question of the same client reaches it before its time."""
    case.serve(wire, Answer("slow down", status=429, headers={"retry-after": "3600"}))

    async def twice(web: Web) -> None:
        for _ in range(2):
            with pytest.raises(RateLimited):
                await case.question(web, wire.url)

    ask(twice)
    assert mains(case, wire) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"0",
        b"<!doctype html><html><body>Just a moment...</body></html>",
        b'{"data": [{"from": "2026-06-01T12:',
        b'{"data": "x"}',
        b'{"data": [], "error": null}',
        b"\xff\xfe\x00nonsense",
        b"NaN",
        b"[" * 20_000,
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "cccccccc">]><a>&b;</a>',
    ],
)
def test_no_body_is_believed_for_its_status(case: Case, wire: Wire, ask: Ask, body: bytes) -> None:
    """200 with anything but an answer is an error of the tree, never a number."""
    case.serve(wire, body)
    assert isinstance(refused(case, wire, ask), BadResponse | NoData)


def test_a_huge_body_is_not_read_to_its_end(case: Case, wire: Wire, ask: Ask) -> None:
    """A body without end does not fill the memory."""
    case.serve(wire, b" " * (17 * 2**20))
    assert isinstance(refused(case, wire, ask), BadResponse)


def test_silence_is_not_waited_out(case: Case, wire: Wire, ask: Ask) -> None:
    """A provider that stays silent, or drips, costs the patience of the client and no more."""
    for answer in (Answer(case.body, delay=60), Answer(case.body, drip=0.05)):
        case.serve(wire, answer)
        began = time.monotonic()
        assert isinstance(refused(case, wire, ask), Transient)
        assert time.monotonic() - began < 5


def test_nobody_at_home_is_transient(case: Case, ask: Ask) -> None:
    """A refused connection is an error of the tree."""
    with pytest.raises(Transient):
        ask(lambda web: case.question(web, "http://127.0.0.1:9"))


@pytest.mark.parametrize("status", [200, 401, 403, 429, 500])
def test_no_secret_shows(
    case: Case,
    wire: Wire,
    ask: Ask,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    """Neither the error with all that it drags along nor any log line holds the key."""
    caplog.set_level(logging.DEBUG)
    case.serve(wire, Answer(f"bad {SECRET}", status=status))
    error = refused(case, wire, ask)
    told = "".join(traceback.format_exception(error)) + repr(error) + caplog.text
    assert SECRET not in told
    assert SECRET not in repr(case.make(Web(), wire.url))


def test_questions_go_out_together(case: Case, wire: Wire) -> None:
    """Six questions to a slow provider take little longer than one."""
    case.serve(wire, Answer(case.body, delay=0.3))

    async def main() -> float:
        async with Web() as web:
            await case.question(web, wire.url)  # a login, if there is one
            began = time.monotonic()
            await asyncio.gather(*(case.question(web, wire.url) for _ in range(6)))
            return time.monotonic() - began

    assert asyncio.run(main()) < 6 * 0.3 / 2
