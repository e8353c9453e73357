"""ENTSO-E: what its price documents mean, and which of them are not believed."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from carbon import BadInput, Kind
from carbon._errors import (
    AuthError,
    BadResponse,
    NoData,
    ProviderError,
    RateLimited,
    Transient,
)
from carbon.providers import Entsoe
from carbon.providers._a44 import read, slots
from carbon.providers._web import Reply
from tests.carbon.providers.a44 import (
    STEPS,
    Series,
    acknowledgement,
    document,
    flat,
    minute,
)
from tests.carbon.providers.canned import Canned, done

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from carbon import PriceSeries

START = datetime(2026, 6, 1, 22, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
QUARTER = HOUR / 4
TOKEN = "0f1e2d3c-token-of-a-test"


def provider(web: Canned) -> Entsoe:
    """Return the provider on canned bodies."""
    return Entsoe(web, SecretStr(TOKEN))


def price(
    *bodies: bytes | str,
    zone: str = "FI",
    start: datetime = START,
    end: datetime = START + 2 * DAY,
    status: int = 200,
) -> Sequence[PriceSeries]:
    """Return what the provider makes of bodies."""
    return done(provider(Canned(*bodies, status=status)).price(zone, start, end))


def rows(found: Sequence[PriceSeries]) -> list[list[tuple[int, int, float]]]:
    """Return start and end in minutes from ``START``, and the price, by series."""
    return [
        [
            (int((start - START) / timedelta(minutes=1)), int((end - START).seconds / 60), value)
            for start, end, value in zip(
                one.starts, [*one.starts[1:], one.end], one.values, strict=True
            )
        ]
        for one in found
    ]


def hours(points: dict[int, float | str | None], count: int = 4, curve: str | None = "A03") -> str:
    """Return the document of one hourly series."""
    return document(Series(START, START + count * HOUR, points, curve=curve))


def test_under_a03_an_omitted_position_repeats_the_one_before_it() -> None:
    """Also at the end of the period."""
    assert rows(price(hours({1: 50, 3: -55.5}))) == [
        [(0, 60, 50), (60, 120, 50), (120, 180, -55.5), (180, 240, -55.5)]
    ]


@pytest.mark.parametrize("curve", ["A01", None])
def test_under_a01_an_omitted_position_is_a_gap(curve: str | None) -> None:
    """So it is where nothing says which curve type it is."""
    assert rows(price(hours({1: 50, 3: 0}, curve=curve))) == [[(0, 60, 50)], [(120, 180, 0)]]


def test_nothing_comes_before_the_first_point() -> None:
    """A03 repeats what was, and there nothing was."""
    assert rows(price(hours({3: 7}))) == [[(120, 180, 7), (180, 240, 7)]]


def test_a_point_without_a_price_ends_the_one_before_it() -> None:
    """That is how a publication is cancelled; a missing price is never zero."""
    found = price(hours({1: 50, 2: None, 4: 60}))
    assert rows(found) == [[(0, 60, 50)], [(180, 240, 60)]]
    empty = hours({1: 50, 2: 1234, 4: 60}).replace("1234", " \n")
    assert rows(price(empty)) == rows(found)


def test_points_may_stand_in_any_order() -> None:
    """The position counts."""
    assert rows(price(hours({4: 4, 2: 2, 1: 1, 3: 3})))[0] == [
        (60 * hour, 60 * hour + 60, hour + 1) for hour in range(4)
    ]


@given(
    points=st.dictionaries(st.integers(1, 48), st.none() | st.floats(-500, 4000), max_size=48),
    resolution=st.sampled_from(sorted(STEPS)),
    curve=st.sampled_from(["A01", "A03"]),
)
def test_expansion(points: dict[int, float | None], resolution: str, curve: str) -> None:
    """Nothing lies outside the period; a value is its position's, or the last one's before it."""
    step = STEPS[resolution]
    body = document(Series(START, START + 48 * step, points, resolution, curve))
    found = read(Reply("entsoe", 200, body.encode()))
    assert found
    said = {slot.start: slot for slot in slots(found.day_ahead, START, START + 48 * step)}
    for position in range(1, 49):
        known = [one for one in points if one <= position]
        last = max(known, default=None) if curve == "A03" else position
        value = None if last is None else points.get(last)
        slot = said.pop(START + (position - 1) * step, None)
        assert (slot.value if slot else None) == value
        assert slot is None or slot.end - slot.start == step
    assert not said


def test_hours_and_quarter_hours_in_one_document() -> None:
    """As across 2025-10-01, over several series, with omitted quarters."""
    quarters = {position: position for position in range(1, 97) if position not in {29, 30, 96}}
    body = document(
        flat(START, START + DAY, 40),
        Series(START + DAY, START + 2 * DAY, quarters, "PT15M"),
        flat(START + 2 * DAY, START + 3 * DAY, 30, "PT30M"),
    )
    (found,) = price(body, end=START + 3 * DAY)
    assert (found.start, found.end) == (START, START + 3 * DAY)
    assert len(found.values) == 24 + 96 + 48
    assert found.values[24 + 27 : 24 + 31] == (28, 28, 28, 31)
    assert found.values[24 + 95] == 95
    assert found.starts[24 + 95 : 24 + 98] == (
        START + 2 * DAY - QUARTER,
        START + 2 * DAY,
        START + 2 * DAY + 2 * QUARTER,
    )


def test_several_periods_in_one_series() -> None:
    """What lies between two periods is a gap under A03, too."""
    first = Series(START, START + 2 * HOUR, {1: 1}).xml
    second = Series(START + 3 * HOUR, START + 4 * HOUR, {1: 2}).xml
    inside = re.search("<Period>.*</Period>", second)
    assert inside
    body = document(Series(START, START + 2 * HOUR, {1: 1}))
    body = body.replace(first, first.replace("</Period>", "</Period>" + inside[0]))
    assert rows(price(body)) == [[(0, 60, 1), (60, 120, 1)], [(180, 240, 2)]]


def sequence(number: int | None, level: float, resolution: str = "PT60M", days: int = 0) -> Series:
    """Return a flat day of an auction."""
    start = START + days * DAY
    day = flat(start, start + DAY, level, resolution)
    return Series(start, day.end, day.points, resolution, sequence=number)


@pytest.mark.parametrize("resolutions", [("PT60M", "PT15M"), ("PT15M", "PT15M")])
def test_the_coupled_auction_is_chosen(resolutions: tuple[str, str]) -> None:
    """Sequence 1 counts, also where 2 is first or finer; nothing is averaged."""
    one, two = resolutions
    body = document(sequence(2, 98.10, two), sequence(1, 67.04, one), sequence(3, 1, two))
    (found,) = price(body)
    assert set(found.values) == {67.04}
    assert found.end - found.start == DAY


def test_another_auction_is_no_stand_in() -> None:
    """With EXAA alone, as before the coupled auction of the day is published, there is no data."""
    with pytest.raises(NoData):
        price(document(sequence(2, 98.10, "PT15M")))


def test_a_series_without_a_sequence_counts_where_the_coupled_auction_is_silent() -> None:
    """It may be the only auction of an older day; of the same day it might be any."""
    body = document(sequence(None, 98, "PT15M"), sequence(1, 67), sequence(None, 50, days=1))
    (found,) = price(body)
    assert found.values == (67,) * 24 + (50,) * 24


def test_intraday_auctions_are_left_out() -> None:
    """Spain's came along, in another resolution."""
    intraday = flat(START, START + DAY, 1, "PT15M")
    other = {"contract_MarketAgreement.type": "A07"}
    intraday = Series(START, START + DAY, intraday.points, "PT15M", more=other)
    assert set(price(document(intraday, flat(START, START + DAY, 40)))[0].values) == {40}
    with pytest.raises(NoData):
        price(document(intraday))


def test_the_same_series_twice_is_one() -> None:
    """PL and NO3 send each twice."""
    day = flat(START, START + DAY, 40)
    (found,) = price(document(day, day))
    assert found.values == (40,) * 24


def test_series_that_contradict_one_another_are_a_gap() -> None:
    """Where nothing says which auction is which, neither is believed; the rest stays."""
    points: dict[int, float | str | None] = {1: 1, 2: 2, 3: 3, 4: 4}
    one = Series(START, START + 4 * HOUR, points)
    two = Series(START, START + 4 * HOUR, {**points, 2: 99})
    assert rows(price(document(one, two))) == [[(0, 60, 1)], [(120, 180, 3), (180, 240, 4)]]


def test_hours_that_overlap_are_a_gap() -> None:
    """Of two hours that begin at different times and differ, neither is believed."""
    other = Series(START + 2.5 * HOUR, START + 3.5 * HOUR, {1: 9})
    body = document(Series(START, START + 3 * HOUR, {1: 1, 2: 2, 3: 3}), other)
    assert rows(price(body)) == [[(0, 60, 1), (60, 120, 2)]]


def test_the_finest_of_two_that_agree_is_taken() -> None:
    """An hour that is the mean of its quarters says the same as they, to the cent."""
    quarters = Series(START, START + 2 * HOUR, {1: 10, 2: 20, 3: 30, 4: 40.01, 5: 7}, "PT15M")
    both = Series(START, START + 4 * HOUR, {1: 25.0, 2: 7, 3: 8})
    for body in (document(quarters, both), document(both, quarters)):
        assert rows(price(body)) == [
            [
                (0, 15, 10),
                (15, 30, 20),
                (30, 45, 30),
                (45, 60, 40.01),
                *((60 + 15 * part, 75 + 15 * part, 7) for part in range(4)),
                (120, 180, 8),
                (180, 240, 8),
            ]
        ]


def test_hours_and_quarters_that_disagree_are_a_gap() -> None:
    """They come from two auctions, and nothing says which is the coupled one."""
    quarters = Series(START, START + HOUR, {1: 98.1}, "PT15M")
    both = Series(START, START + 2 * HOUR, {1: 67.04, 2: 60})
    assert rows(price(document(quarters, both))) == [[(60, 120, 60)]]


def test_an_hour_fills_missing_quarters_only_if_it_equals_the_others() -> None:
    """The mean of unlike quarters says nothing of one of them."""
    alike = Series(START, START + HOUR, {1: 5, 2: 5, 4: 5}, "PT15M", "A01")
    unlike = Series(START + HOUR, START + 2 * HOUR, {1: 5, 2: 6, 4: 5}, "PT15M", "A01")
    both = Series(START, START + 2 * HOUR, {1: 5})
    first, second = rows(price(document(alike, unlike, both)))
    assert first == [(15 * part, 15 * part + 15, 5 + (part == 5)) for part in range(6)]
    assert second == [(105, 120, 5)]


@pytest.mark.parametrize(
    ("day", "quarters"), [("2026-03-29", 92), ("2026-10-25", 100), ("2026-06-01", 96)]
)
@pytest.mark.parametrize("curve", ["A01", "A03"])
def test_days_of_a_clock_change_have_no_hole(day: str, quarters: int, curve: str) -> None:
    """Positions are counted from the start in UTC: 92 or 100 quarter hours."""
    zone = ZoneInfo("Europe/Brussels")
    midnight = datetime.fromisoformat(day).replace(tzinfo=zone)
    start, end = midnight.astimezone(UTC), (midnight + DAY).astimezone(UTC)
    points = {position: float(position) for position in range(1, quarters + 1)}
    body = document(Series(start, end, points, "PT15M", curve))
    (found,) = price(body, start=start, end=end)
    assert (found.start, found.end) == (start, end)
    assert found.values == tuple(points.values())


def test_whole_days_are_clipped_to_the_window() -> None:
    """An hour that the window touches stays whole."""
    body = document(flat(START, START + DAY, 40))
    (found,) = price(body, start=START + 1.5 * HOUR, end=START + 3.1 * HOUR)
    assert (found.start, found.end) == (START + HOUR, START + 4 * HOUR)


def test_the_price_says_what_it_is() -> None:
    """A forecast, in the currency of the document; when it was issued is not told."""
    (found,) = price(document(flat(START, START + DAY, 40)))
    assert (found.kind, found.unit, found.issued_at) == (Kind.FORECAST, "EUR/MWh", None)
    assert found.source == "ENTSO-E Transparency Platform"


def in_currency(currency: str, level: float, days: int = 0) -> Series:
    """Return a flat day in a currency."""
    day = flat(START + days * DAY, START + (days + 1) * DAY, level)
    return Series(day.start, day.end, day.points, more={"currency_Unit.name": currency})


def test_an_answer_is_in_one_currency() -> None:
    """The euro, where it stands beside another; otherwise the one that there is."""
    (found,) = price(document(in_currency("BGN", 78), in_currency("EUR", 40)))
    assert (found.unit, set(found.values)) == ("EUR/MWh", {40})
    (found,) = price(document(in_currency("PLN", 170)))
    assert (found.unit, set(found.values)) == ("PLN/MWh", {170})


@pytest.mark.parametrize(
    ("element", "value", "good"),
    [
        ("price_Measure_Unit.name", None, True),
        ("price_Measure_Unit.name", "EUR", True),
        ("price_Measure_Unit.name", "KWH", False),
        ("price_Measure_Unit.name", "MAW", False),
        ("currency_Unit.name", None, False),
        ("currency_Unit.name", "euro", False),
        ("in_Domain.mRID", "10YSE-1--------K", False),
        ("in_Domain.mRID", None, False),
        ("out_Domain.mRID", "10YSE-1--------K", False),
        ("out_Domain.mRID", None, True),
        ("curveType", "A04", False),
        ("classificationSequence_AttributeInstanceComponent.position", "one", False),
    ],
)
def test_what_a_series_must_say(element: str, value: str | None, good: bool) -> None:
    """Of this zone, per MWh, in a currency, of a known curve type."""
    day = flat(START, START + DAY, 40)
    body = document(Series(START, START + DAY, day.points, more={element: value}))
    if good:
        assert price(body)
    else:
        with pytest.raises(BadResponse):
            price(body)


@pytest.mark.parametrize("version", ["7:0", "7:4"])
def test_the_version_of_the_schema_does_not_matter(version: str) -> None:
    """Local names count; a document without a namespace is understood, too."""
    body = document(flat(START, START + DAY, 40))
    assert price(body.replace(":7:3", f":{version}"))
    assert price(re.sub(' xmlns="[^"]*"', "", body))


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    "text",
    [
        "No matching data found",
        "No matching data found for Data item ENERGY_PRICES and interval 2026-06-01T22:00:00.000Z.",
    ],
)
def test_no_matching_data(status: int, text: str) -> None:
    """It is said with a success today, and was with a 400."""
    with pytest.raises(NoData):
        price(acknowledgement(f"<code>999</code><text>{text}</text>"), status=status)


REFUSALS = {
    "too many": "<code>999</code><text>The number of instances (400) exceeds the allowed</text>",
    "parameters": f"<code>999</code><text>Invalid query parameters securityToken={TOKEN}</text>",
    "b11": "<code>B11</code><text>No matching data found</text>",
    "no text": "<code>999</code>",
    "no code": "<text>No matching data found</text>",
    "empty": "",
    "text alone": "Service Unavailable",
    "odd code": f"<code>{TOKEN}</code><text>x</text>",
    "nested": "<code><code>999</code></code><text><b>No matching data found</b></text>",
}


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("reason", REFUSALS)
def test_other_acknowledgements_are_refusals(reason: str, status: int) -> None:
    """They are told by their code alone: the text may hold the token."""
    with pytest.raises(BadResponse) as raised:
        price(acknowledgement(REFUSALS[reason]), status=status)
    assert TOKEN not in repr(raised.value) + str(raised.value)
    assert "exceeds" not in str(raised.value)


def test_a_refusal_names_its_code() -> None:
    """That is for the reader of the log."""
    with pytest.raises(BadResponse, match=r"reason 999 and B11\)"):
        price(acknowledgement("<code>999</code><text>x</text>", "<code>B11</code>"))
    with pytest.raises(BadResponse, match=r"reason none\)"):
        price(acknowledgement())


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, "<root><Reason>Service Unavailable</Reason></root>", Transient),
        (503, "<html><body>503</body></html>", Transient),
        (500, "", Transient),
        (401, acknowledgement("<code>999</code><text>Authentication failed.</text>"), AuthError),
        (429, "<html>Too many requests</html>", RateLimited),
        (404, "", NoData),
        (400, "<html>Bad request</html>", BadResponse),
        (400, "Bad request", BadResponse),
        (400, document(flat(START, START + DAY, 40)), BadResponse),
        (200, "<html><body>Welcome</body></html>", BadResponse),
        (200, "<!doctype html><html><body>Welcome</body></html>", BadResponse),
        (200, b"PK\x03\x04\x14\x00\x08\x08\x08\x00", BadResponse),
        (200, "", BadResponse),
        (200, "{}", BadResponse),
        (200, document(kind="A75"), BadResponse),
        (200, document(flat(START, START + DAY, 40), kind="A25"), BadResponse),
        (200, document(), NoData),
        (200, "<GL_MarketDocument><type>A44</type></GL_MarketDocument>", BadResponse),
        (200, "<Publication_MarketDocument/>", BadResponse),
        (200, "<Publication_MarketDocument>A44</Publication_MarketDocument>", BadResponse),
        (200, '<?xml version="1.0" encoding="utf-7"?><a/>', BadResponse),
        (200, '<?xml version="1.0" encoding="no-such"?><a/>', BadResponse),
    ],
)
def test_the_body_is_judged(status: int, body: str | bytes, error: type[ProviderError]) -> None:
    """Each failure is one of the tree, whatever the status says."""
    with pytest.raises(error) as raised:
        price(body, status=status)
    assert type(raised.value) is error


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "'
    + "c" * 1000
    + '"><!ENTITY d "'
    + "&b;" * 1000
    + '">]><a>'
    + "&d;" * 1000
    + "</a>"
)
HARMFUL = {
    "bomb": BOMB,
    "file": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "dtd": '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><a/>',
    "unknown entity": "<a>&b;</a>",
    "deep": "<a>" * 500_000 + "</a>" * 500_000,
    "deep series": document().replace("</Pub", "<TimeSeries>" * 9 + "</TimeSeries>" * 9 + "</Pub"),
    "wide": "<a>" + "<b/>" * 900_000 + "</a>",
    "large": "<a>" + " " * 5 * 2**20 + "</a>",
    "attributes": "<a " + " ".join(f'b{number}=""' for number in range(200_000)) + "/>",
    "never closed": "<a>" * 500_000,
    "nulls": "\0" * 100_000,
    "long positions": hours({1: "1", 2: "9" * 100_000}),
    "many periods": document(*[flat(START, START + DAY, 1)] * 300).replace(
        minute(START + DAY), "2099-06-02T22:00Z"
    ),
}


def test_a_good_document_with_a_type_or_without_end_is_refused() -> None:
    """A document type is harmful whatever it says, and so is a document of any length."""
    good = document(flat(START, START + DAY, 40))
    with pytest.raises(BadResponse, match="no XML"):
        price(good.replace("<Publication", "<!DOCTYPE a><Publication", 1))
    with pytest.raises(BadResponse, match="more than 4 MiB"):
        price(good + " " * 2**22)


@pytest.mark.parametrize("name", HARMFUL)
def test_harmful_xml_is_refused_quickly(name: str) -> None:
    """Bombs, depth, width and length cost neither memory nor time."""
    began = time.process_time()
    with pytest.raises(BadResponse):
        price(HARMFUL[name])
    assert time.process_time() - began < 5


POINTS: dict[str, dict[int | str, float | str]] = {
    "position 0": {0: 1},
    "position -1": {-1: 1},
    "position after the end": {5: 1},
    "position 10^9": {1_000_000_000: 1},
    "position 1.5": {"1.5": 1},
    "no position": {"": 1},
    "position x": {"x": 1},
    "nan": {1: "NaN"},
    "infinite": {1: "INF"},
    "too large": {1: "1e999"},
    "comma": {1: "12,5"},
    "words": {1: "cheap"},
    "child": {1: "<b>1</b>"},
    "two prices": {1: "1</price.amount><price.amount>2"},
    "two positions": {"1</position><position>2": 1},
    "a position twice": {1: 1, "01": 2},
}


@pytest.mark.parametrize("name", POINTS)
def test_points_that_cannot_be_are_refused(name: str) -> None:
    """What does not fit is no number, never a guess."""
    with pytest.raises(BadResponse):
        price(document(Series(START, START + 4 * HOUR, POINTS[name])))


def test_a_position_may_repeat_itself() -> None:
    """The same twice does not contradict."""
    assert rows(price(hours({1: 1, "01": 1}, 1))) == [[(0, 60, 1)]]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-06-01T22:00Z", "2026-06-01T22:00Z"),
        ("2026-06-02T22:00Z", "2026-06-01T22:00Z"),
        ("2026-06-01T22:00Z", "2026-06-01T22:30Z"),
        ("2026-06-01T22:07Z", "2026-06-02T22:07Z"),
        ("2026-06-01T22:00Z", "2098-06-01T22:00Z"),
        ("2026-06-01T22:00Z", "9999-12-31T23:00Z"),
        ("0001-01-01T00:00+23:00", "2026-06-01T22:00Z"),
        ("2026-06-01T22:00", "2026-06-02T22:00"),
        ("2026-06-01", "2026-06-02"),
        ("yesterday", "tomorrow"),
        ("", ""),
        ("2026-06-01T25:00Z", "2026-06-02T22:00Z"),
    ],
)
def test_intervals_that_cannot_be_are_refused(start: str, end: str) -> None:
    """Empty, backwards, uneven, endless and naive ones."""
    body = document(flat(START, START + DAY, 40))
    body = body.replace(minute(START), start).replace(minute(START + DAY), end)
    with pytest.raises(BadResponse):
        price(body)


@pytest.mark.parametrize("resolution", ["PT5M", "P1D", "P1Y", "PT0M", "PT-15M", "15", ""])
def test_an_unknown_resolution_is_refused(resolution: str) -> None:
    """Without it no position has a time."""
    body = document(flat(START, START + DAY, 40)).replace("PT60M", resolution)
    with pytest.raises(BadResponse, match="resolution"):
        price(body)


def test_what_is_asked() -> None:
    """Whole hours of UTC, the area twice, day-ahead alone; the auction where there are two."""
    web = Canned(document(flat(START, START + DAY, 40)))
    start = (START + timedelta(minutes=10)).astimezone(ZoneInfo("Europe/Helsinki"))
    done(provider(web).price("FI", start, start + 3.5 * HOUR))
    area = "10YFI-1--------U"
    assert web.asked == [
        {
            "documentType": "A44",
            "contract_MarketAgreement.type": "A01",
            "in_Domain": area,
            "out_Domain": area,
            "periodStart": "202606012200",
            "periodEnd": "202606020200",
            "securityToken": TOKEN,
        }
    ]
    for zone, two in (("DE", True), ("AT", True), ("FR", False)):
        web = Canned(acknowledgement("<code>999</code><text>No matching data found</text>"))
        with pytest.raises(NoData):
            done(provider(web).price(zone, START, START + HOUR))
        sequence_asked = web.asked[0].get(
            "classificationSequence_AttributeInstanceComponent.position"
        )
        assert sequence_asked == ("1" if two else None)


def test_a_long_window_is_asked_for_in_parts() -> None:
    """Each well below a year and a hundred series; what comes is one, and a hole is a hole."""
    days = [flat(START + day * DAY, START + (day + 1) * DAY, day) for day in range(45)]
    nothing = acknowledgement("<code>999</code><text>No matching data found</text>")
    web = Canned(document(*days[:21]), document(*days[19:41]), document(*days[40:]))
    (found,) = done(provider(web).price("FI", START, START + 45 * DAY))
    assert found.values == tuple(day for day in range(45) for _ in range(24))
    asked = [(one["periodStart"], one["periodEnd"]) for one in web.asked]
    assert asked == [
        ("202606012200", "202606212200"),
        ("202606212200", "202607112200"),
        ("202607112200", "202607162200"),
    ]
    web = Canned(document(*days[:20]), nothing, document(*days[40:]))
    first, last = done(provider(web).price("FI", START, START + 45 * DAY))
    assert (first.end, last.start) == (START + 20 * DAY, START + 40 * DAY)


def test_the_token_is_a_secret() -> None:
    """It shows nowhere, and a token that cannot be one is refused before anybody is asked."""
    assert TOKEN not in repr(provider(Canned("")))
    with pytest.raises(BadInput, match=r"entsoe\.token"):
        Entsoe(Canned(""), SecretStr("x"))


def test_it_has_no_intensity() -> None:
    """Of a zone that it knows it has prices, nothing else."""
    entsoe = provider(Canned(""))
    assert entsoe.has_price("FI")
    assert not entsoe.has_intensity("FI")
    assert not entsoe.has_price("GB")
    with pytest.raises(NoData):
        done(entsoe.intensity("FI", START, START + HOUR))


GOOD = document(
    Series(START, START + 6 * HOUR, {1: 5, 2: -6.5, 5: 0}, sequence=1),
    Series(START + 6 * HOUR, START + 12 * HOUR, {1: 5, 3: 7}, "PT15M", "A01"),
)
TOKENS = re.findall(r"<[^>]*>|[^<]+", GOOD)
ODD = ["", "0", "-1", "1000000000", "9" * 400, "NaN", "1e400", "9999-12-31T23:00Z", "PT15M", "A01"]
ODD += ["<Point>", "</Point>", "<Period>", "<!-- -->", "&lt;", "&#0;", "<![CDATA[1]]>", "\ud7ff"]


@settings(max_examples=400, deadline=2000)
@given(data=st.data())
def test_a_body_with_faults_gives_numbers_or_an_error_of_the_tree(data: st.DataObject) -> None:
    """Tags and texts are swapped, dropped and replaced, bytes are cut: nothing else comes out."""
    parts = list(TOKENS)
    for _ in range(data.draw(st.integers(1, 5))):
        spot, other = (data.draw(st.integers(0, len(parts) - 1)) for _ in range(2))
        change = data.draw(st.sampled_from(["replace", "text", "drop", "swap", "repeat"]))
        if change == "replace":
            parts[spot] = data.draw(st.sampled_from(ODD))
        elif change == "text":
            texts = [index for index, part in enumerate(parts) if not part.startswith("<")] or [0]
            parts[data.draw(st.sampled_from(texts))] = data.draw(st.sampled_from(ODD + TOKENS))
        elif change == "drop":
            parts[spot] = ""
        elif change == "swap":
            parts[spot], parts[other] = parts[other], parts[spot]
        else:
            parts.insert(spot, parts[other])
    content = "".join(parts).encode()
    content = content[: data.draw(st.integers(0, 60)) * -1 or None]
    try:
        found = price(content)
    except ProviderError:
        return
    for one in found:
        assert START <= one.start < one.end <= START + 2 * DAY


RECORDED = {
    "a44_be_60m": "BE",
    "a44_be_60m_15m_mix": "BE",
    "a44_dst_spring_92pts": "FR",
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_prices(shared: Path, name: str) -> None:
    """Counts, edges and values of each period are those of the facts and of the body."""
    body = (shared / "wire" / "entsoe" / f"{name}.xml").read_bytes()
    facts = json.loads((shared / "wire" / "FACTS.json").read_text())[f"entsoe/{name}.xml"]
    periods = [one for series in facts["timeseries"] for one in series["periods"]]
    first = datetime.fromisoformat(periods[0]["start"])
    last = datetime.fromisoformat(periods[-1]["end"])
    (found,) = price(body, zone=RECORDED[name], start=first, end=last)
    assert (found.start, found.end, found.unit) == (first, last, "EUR/MWh")
    assert len(found.values) == sum(one["grid_positions"] for one in periods)
    done_with = 0
    for one in periods:
        count, step = one["grid_positions"], STEPS[one["resolution"]]
        values = found.values[done_with : done_with + count]
        starts = found.starts[done_with : done_with + count]
        start = datetime.fromisoformat(one["start"])
        assert starts == tuple(start + step * index for index in range(count))
        assert (values[0], values[-1]) == (one["first"], one["last"])
        for omitted in one["omitted_positions"]:
            assert values[omitted - 1] == values[omitted - 2]
        done_with += count


def test_recorded_sparse_series(shared: Path) -> None:
    """Three points are six hours; the domain is a border, so no zone of ours has them."""
    body = (shared / "wire" / "entsoe" / "a44_curvetype_A03_sparse.xml").read_bytes()
    found = read(Reply("entsoe", 200, body))
    assert found
    start = datetime(2024, 1, 1, tzinfo=UTC)
    values = [slot.value for slot in slots(found.day_ahead, start, start + DAY)]
    assert values == [50, 50, 55, 55, 55, 60]
    with pytest.raises(BadResponse):
        price(body)


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("a73_generation_min", 200, BadResponse),
        ("ack_999_too_many_instances", 200, BadResponse),
        ("ack_no_matching_data", 200, NoData),
        ("ack_no_matching_data", 400, NoData),
        ("body_503_root_reason", 503, Transient),
    ],
)
def test_recorded_failures(
    shared: Path, name: str, status: int, error: type[ProviderError]
) -> None:
    """Each is the error that it means."""
    body = (shared / "wire" / "entsoe" / f"{name}.xml").read_bytes()
    with pytest.raises(error) as raised:
        price(body, status=status)
    assert type(raised.value) is error
