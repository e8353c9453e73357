"""Energy-Charts: what its arrays mean, and which of them are not believed."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon import Accounting, Kind, Signal
from carbon._errors import BadResponse, NoData, ProviderError, Transient
from carbon.providers import EnergyCharts
from tests.carbon.providers.canned import Canned, done

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from carbon import IntensitySeries, PriceSeries

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
QUARTER = timedelta(minutes=15)


def seconds(count: int, step: int = 15, start: datetime = START) -> list[int]:
    """Return regular times."""
    return [int((start + timedelta(minutes=step) * index).timestamp()) for index in range(count)]


def carbon(
    times: Sequence[object], actual: Sequence[object], forecast: Sequence[object], **more: object
) -> dict[str, object]:
    """Return a body of ``/co2eq``."""
    return {"unix_seconds": times, "co2eq": actual, "co2eq_forecast": forecast, **more}


def priced(times: Sequence[object], prices: Sequence[object], **more: object) -> dict[str, object]:
    """Return a body of ``/price``."""
    return {"unix_seconds": times, "price": prices, "unit": "EUR / MWh", **more}


def intensity(
    body: object,
    zone: str = "DE",
    start: datetime = START - DAY,
    end: datetime = START + 3 * DAY,
    status: int = 200,
) -> Sequence[IntensitySeries]:
    """Return what the provider makes of a body of ``/co2eq``."""
    return done(EnergyCharts(Canned(body, status=status)).intensity(zone, start, end))


def price(
    body: object,
    zone: str = "NL",
    start: datetime = START - DAY,
    end: datetime = START + 3 * DAY,
    status: int = 200,
) -> Sequence[PriceSeries]:
    """Return what the provider makes of a body of ``/price``."""
    return done(EnergyCharts(Canned(body, status=status)).price(zone, start, end))


def minutes(found: Sequence[IntensitySeries | PriceSeries]) -> list[list[int]]:
    """Return how long each value lasts, by series."""
    return [
        [
            int((later - earlier).total_seconds() / 60)
            for earlier, later in zip(one.starts, [*one.starts[1:], one.end], strict=True)
        ]
        for one in found
    ]


def test_actual_and_forecast_are_series_of_their_own() -> None:
    """Where both exist both stay, each under its kind, and what it is stands beside it."""
    body = carbon(seconds(4), [400, 410, 420, None], [None, 300, 310, 320])
    actual, forecast = intensity(body)
    assert (actual.kind, actual.values) == (Kind.ACTUAL, (400, 410, 420))
    assert (forecast.kind, forecast.values) == (Kind.FORECAST, (300, 310, 320))
    assert (actual.start, actual.end) == (START, START + 3 * QUARTER)
    assert (forecast.start, forecast.end) == (START + QUARTER, START + 4 * QUARTER)
    for series in (actual, forecast):
        assert (series.signal, series.accounting) == (Signal.AVERAGE, Accounting.LIFECYCLE)


def test_null_in_both_is_a_gap() -> None:
    """Nothing is filled in between two stretches, nor after the last."""
    body = carbon(seconds(6), [400, None, None, None, None, None], [None, 1, None, 2, 3, None])
    found = intensity(body)
    assert [(one.start, one.end, one.values) for one in found] == [
        (START, START + QUARTER, (400,)),
        (START + QUARTER, START + 2 * QUARTER, (1,)),
        (START + 3 * QUARTER, START + 5 * QUARTER, (2, 3)),
    ]


@pytest.mark.parametrize("forecast", [{}, {"co2eq_forecast": None}, {"co2eq_forecast": []}])
def test_a_country_without_a_forecast(forecast: dict[str, object]) -> None:
    """An absent, null or empty array says nothing."""
    body = {"unix_seconds": seconds(2), "co2eq": [1, 2], **forecast}
    assert [one.kind for one in intensity(body)] == [Kind.ACTUAL]


@pytest.mark.parametrize("more", [{}, {"deprecated": False}, {"deprecated": True}, {"new": [1]}])
def test_other_keys_do_not_matter(more: dict[str, object]) -> None:
    """`deprecated` may be missing, and whatever is new is no concern."""
    assert intensity(carbon(seconds(2), [1, 2], [None, None], **more))[0].values == (1, 2)


def test_the_source_says_what_the_numbers_speak_of() -> None:
    """A zone that is a part of a country has the country's number, and says so."""
    body = carbon(seconds(2), [1, 2], [None, None])
    assert intensity(body, "DE")[0].source == "Energy-Charts, Fraunhofer ISE (CC BY 4.0)"
    assert intensity(body, "SE-SE3")[0].source.endswith("(CC BY 4.0), for all of Sweden")


def test_a_day_more_is_asked_for_on_both_sides() -> None:
    """Dates are local ones: whatever the zone, the window lies within."""
    web = Canned(carbon(seconds(2), [1, 2], [None, None]))
    late = datetime(2026, 6, 1, 23, 30, tzinfo=UTC)
    with pytest.raises(NoData):
        done(EnergyCharts(web).intensity("SE-SE3", late, late + QUARTER))
    assert web.asked == [{"country": "se", "start": "2026-05-31", "end": "2026-06-02"}]
    web = Canned(priced(seconds(2), [1, 2]))
    done(EnergyCharts(web).price("SE-SE3", START, START + DAY))
    assert web.asked == [{"bzn": "SE3", "start": "2026-05-31", "end": "2026-06-03"}]


@pytest.mark.parametrize("step", [15, 30, 60])
def test_the_last_value_lasts_a_step(step: int) -> None:
    """The step is that of the other rows; nothing in the body states it."""
    assert minutes(price(priced(seconds(5, step), [1, 2, 3, 4, 5]))) == [[step] * 5]


def test_one_answer_may_go_from_hours_to_quarter_hours() -> None:
    """As on 2025-10-01: each value keeps its own length, and there is no gap."""
    times = seconds(24, 60, START - DAY) + seconds(96)
    assert minutes(price(priced(times, list(range(120))))) == [[60] * 24 + [15] * 96]
    cut = times[:26]
    assert minutes(price(priced(cut, list(range(26))))) == [[60] * 24 + [15] * 2]


def test_a_missing_row_is_a_gap() -> None:
    """A value never lasts over the time of a row that is not there."""
    times = seconds(20)
    del times[9:11]
    before, after = price(priced(times, list(range(18))))
    assert (before.end, after.start) == (START + 9 * QUARTER, START + 11 * QUARTER)
    assert (before.values, after.values) == (tuple(range(9)), tuple(range(9, 18)))


def test_a_row_between_two_holes_does_not_become_an_hour() -> None:
    """Its neighbours are an hour away, yet the step is a quarter hour."""
    times = seconds(20)
    rows = [*range(6), 9, *range(13, 20)]
    found = price(priced([times[row] for row in rows], rows))
    assert minutes(found) == [[15] * 6, [15], [15] * 7]


@given(
    step=st.sampled_from([15, 30, 60]),
    spaces=st.lists(st.integers(8, 30), min_size=1, max_size=6),
)
def test_rows_that_are_missing_are_the_only_gaps(step: int, spaces: list[int]) -> None:
    """Of a regular series with holes everything else is covered, and the holes are not."""
    missing = {sum(spaces[: index + 1]) for index in range(len(spaces))}
    rows = [row for row in range(sum(spaces) + 9) if row not in missing]
    times = seconds(sum(spaces) + 9, step)
    found = price(
        priced([times[row] for row in rows], rows), start=START - DAY, end=START + 30 * DAY
    )
    assert [value for one in found for value in one.values] == rows
    assert {length for one in minutes(found) for length in one} == {step}


@pytest.mark.parametrize("gap", [None, 6 * 3600, 45 * 60, 7, 400 * 86_400])
def test_a_value_of_unknown_length_is_left_out(gap: int | None) -> None:
    """One row alone, or two that are no usual step apart, are no data."""
    times = seconds(1) if gap is None else [seconds(1)[0], seconds(1)[0] + gap]
    with pytest.raises(NoData):
        price(priced(times, [50.0] * len(times)))


@pytest.mark.parametrize(
    ("day", "quarters"), [("2026-03-29", 92), ("2026-10-25", 100), ("2026-06-01", 96)]
)
def test_days_of_a_clock_change_have_no_hole(day: str, quarters: int) -> None:
    """Times are counted in UTC, so a local day of 23 or 25 hours is one stretch."""
    zone = ZoneInfo("Europe/Amsterdam")
    midnight = datetime.fromisoformat(day).replace(tzinfo=zone)
    start, end = midnight.astimezone(UTC), (midnight + DAY).astimezone(UTC)
    times = seconds(quarters, 15, start)
    (found,) = price(priced(times, [1.5] * quarters), "NL", start - DAY, end + DAY)
    assert (found.start, found.end, len(found.values)) == (start, end, quarters)


def test_a_price_is_a_forecast_in_its_currency() -> None:
    """Zero and negative prices are prices; all of one kind, past or not."""
    (found,) = price(priced(seconds(4), [-12.5, 0, 0.01, 3000]))
    assert found.values == (-12.5, 0, 0.01, 3000)
    assert (found.kind, found.unit) == (Kind.FORECAST, "EUR/MWh")


@pytest.mark.parametrize("unit", ["EUR/MWh", "EUR / MWh", "CHF / MWh"])
def test_spaces_in_the_unit_do_not_matter(unit: str) -> None:
    """The currency is what the body says."""
    assert price(priced(seconds(2), [1, 2], unit=unit))[0].unit == unit.replace(" ", "")


@pytest.mark.parametrize("unit", ["EUR / kWh", "ct/kWh", "EUR", "", None, "g/kWh", "EUR / MWh\nx"])
def test_another_unit_is_refused(unit: str | None) -> None:
    """A price per something else is no price."""
    with pytest.raises(BadResponse, match="unit"):
        price(priced(seconds(2), [1, 2], unit=unit))


@pytest.mark.parametrize(
    ("licence", "source"),
    [
        (
            "CC BY 4.0 (creativecommons.org/licenses/by/4.0) from Bundesnetzagentur | SMARD.de",
            "Energy-Charts, Fraunhofer ISE (CC BY 4.0), from Bundesnetzagentur | SMARD.de",
        ),
        ("CC BY 4.0", "Energy-Charts, Fraunhofer ISE (CC BY 4.0)"),
        (
            "The data is for private and internal use only.",
            "Energy-Charts, Fraunhofer ISE (no open licence stated)",
        ),
        (None, "Energy-Charts, Fraunhofer ISE (no open licence stated)"),
    ],
)
def test_the_licence_of_a_price_is_what_the_answer_states(licence: str | None, source: str) -> None:
    """Prices of some zones are not open; the source must not claim that they are."""
    assert price(priced(seconds(2), [1, 2], license_info=licence))[0].source == source


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, {"detail": "no content available"}, NoData),
        (400, "Country xx is not available", BadResponse),
        (500, "Internal Server Error", Transient),
        (422, {"detail": [{"loc": ["query", "start"]}]}, BadResponse),
        (200, {"detail": "no content available"}, BadResponse),
        (200, priced([], []), NoData),
        (200, priced(seconds(3), [None, None, None]), NoData),
    ],
)
def test_an_answer_without_prices(status: int, body: object, error: type[ProviderError]) -> None:
    """Not published yet, an unknown name and a fault are told apart."""
    with pytest.raises(error):
        price(body, status=status)


BAD_ROWS: dict[str, tuple[list[object], list[object]]] = {
    "times descend": (seconds(3)[::-1], [1, 2, 3]),
    "a time twice": ([*seconds(2), seconds(2)[1]], [1, 2, 3]),
    "too few values": (seconds(3), [1, 2]),
    "too many values": (seconds(2), [1, 2, 3]),
    "no times": ([], [1]),
    "a bool": (seconds(2), [1, True]),
    "a text": (seconds(2), [1, "2"]),
    "a list": (seconds(2), [1, [2]]),
    "a time that is text": (["1", "2"], [1, 2]),
    "a time that is null": ([seconds(1)[0], None], [1, 2]),
    "a time with a fraction": ([0.5, 1.5], [1, 2]),
    "milliseconds": ([second * 1000 for second in seconds(2)], [1, 2]),
    "the year 9999": ([253_402_300_799 - 900, 253_402_300_799], [1, 2]),
    "before 1970": ([-900, 0], [1, 2]),
    "huge times": ([10**30, 10**31], [1, 2]),
    "huge values": (seconds(2), [1, 10**400]),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_rows_that_cannot_be_are_refused(name: str) -> None:
    """What does not fit is no number, never a guess."""
    times, values = BAD_ROWS[name]
    with pytest.raises(BadResponse):
        price(priced(times, values))
    with pytest.raises(BadResponse):
        intensity(carbon(times, values, values))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_refused(text: str) -> None:
    """JSON of some servers knows these."""
    body = json.dumps(carbon(seconds(2), [1, 12345], [1, 2])).replace("12345", text)
    with pytest.raises(BadResponse):
        intensity(body)


@pytest.mark.parametrize("value", [-0.1, 2000.1, 490_000])
def test_an_intensity_that_no_grid_has_is_refused(value: float) -> None:
    """Negative, or in another unit."""
    with pytest.raises(BadResponse, match="cannot be carbon intensities"):
        intensity(carbon(seconds(2), [1, value], [None, None]))


def test_more_rows_than_anybody_asked_for_are_refused() -> None:
    """A flood is not worked through."""
    with pytest.raises(BadResponse, match="too_long"):
        price(priced(list(range(200_001)), [1] * 200_001))


GOOD = [
    carbon(seconds(8), [400, 410, 420, 430, None, None, None, None], [None] * 4 + [1, 2, 3, 4]),
    priced(seconds(8), [5, -6, 7, 8.5, 0, None, 1, 2], license_info="CC BY 4.0"),
]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([[], {}, [[]], 10**400, "2026-06-01", 1780315200]).map(deepcopy),
)


@settings(max_examples=300, deadline=1000)
@given(data=st.data())
def test_a_body_with_faults_gives_numbers_or_an_error_of_the_tree(data: st.DataObject) -> None:
    """Values are swapped, dropped and replaced, bytes are cut: nothing else comes out."""
    body: dict[str, Any] = deepcopy(data.draw(st.sampled_from(GOOD)))
    for _ in range(data.draw(st.integers(1, 4))):
        key = data.draw(st.sampled_from(sorted(body)))
        rows = body[key]
        if isinstance(rows, list) and rows and data.draw(st.booleans()):
            row = data.draw(st.integers(0, len(rows) - 1))
            change = data.draw(st.sampled_from(["replace", "drop", "swap", "repeat"]))
            if change == "replace":
                rows[row] = data.draw(ODD)
            elif change == "drop":
                del rows[row]
            elif change == "swap":
                rows[row], rows[0] = rows[0], rows[row]
            else:
                rows.insert(row, rows[row])
        else:
            body[key] = data.draw(ODD)
    content = json.dumps(body).encode()
    content = content[: data.draw(st.integers(0, 40)) * -1 or None]
    for ask in (intensity, price):
        try:
            found = ask(content)
        except ProviderError:
            continue
        for one in found:
            assert START - DAY <= one.start < one.end <= START + 4 * DAY


@pytest.mark.parametrize("name", ["de_15min", "de_2026_gap_between", "fr_hourly_47"])
def test_recorded_intensities(shared: Path, name: str) -> None:
    """Every value of a recorded body is there, at its time, for its step, under its kind."""
    path = shared / "wire" / "energy_charts" / f"co2eq_{name}.json"
    facts = json.loads((shared / "wire" / "FACTS.json").read_text())[f"energy_charts/{path.name}"]
    body, step = json.loads(path.read_text()), timedelta(seconds=facts["step_seconds"][0])
    first = datetime.fromisoformat(facts["start"])
    found = intensity(path.read_bytes(), name[:2].upper(), first - DAY, first + 5 * DAY)
    assert len(found) == 2
    for kind, key in ((Kind.ACTUAL, "co2eq"), (Kind.FORECAST, "co2eq_forecast")):
        (one,) = [one for one in found if one.kind is kind]
        assert len(one.values) == facts[key]["non_null"]
        assert one.start == first + step * facts[key]["first_idx"]
        assert one.end == first + step * (facts[key]["last_idx"] + 1)
        assert one.values == tuple(value for value in body[key] if value is not None)
        assert {length for lengths in minutes([one]) for length in lengths} == {step.seconds / 60}


def test_recorded_prices(shared: Path) -> None:
    """The Dutch quarter hours are there; a row alone, of unknown length, is no data."""
    folder = shared / "wire" / "energy_charts"
    body = json.loads((folder / "price_nl_15min.json").read_text())
    first = datetime(2025, 12, 30, 23, tzinfo=UTC)
    (found,) = price(body, "NL", first, first + 3 * DAY)
    assert (found.start, found.end) == (first, first + 10 * QUARTER)
    assert found.values == tuple(body["price"])
    assert found.unit == "EUR/MWh"
    assert "SMARD" in found.source
    single, first = folder / "price_be_single.json", datetime(2026, 6, 30, 22, tzinfo=UTC)
    with pytest.raises(NoData):
        price(single.read_bytes(), "BE", first, first + DAY)
