"""The belief: nothing is invented, each step of its decay is said, and real grids show it."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon import (
    IntensitySeries,
    Kind,
    NoSignal,
    Outlook,
    PriceSeries,
    Signals,
    Store,
    StoredSource,
    Transient,
    look,
)
from carbon._refresh import Need, refresh
from carbon._rows import NOT_BELIEVED, Failure
from carbon._series import regular
from carbon._statistical import statistical
from carbon._trust import Trust
from carbon.providers import Feed, Keys, Web
from carbon.testing import StaticProvider

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from carbon._provider import Provider

HOUR, MINUTE, DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
NOW = datetime(2026, 6, 1, 12, 20, tzinfo=UTC)
NOON = NOW.replace(minute=0)
END = NOW + DAY


def wave(count: int, level: float = 400.0) -> list[float]:
    """Return hourly values that no gate frowns at."""
    return [level * (1 - 0.2 * math.sin(hour / 12 * math.pi)) + hour % 5 for hour in range(count)]


def ahead(
    values: Sequence[float | None], start: datetime = NOON, **more: object
) -> IntensitySeries:
    """Return a forecast of Germany in hours."""
    starts, end = regular(start, HOUR, len(values))
    about: dict[str, object] = {"kind": Kind.FORECAST, **more}
    return IntensitySeries("DE", starts, end, values, "s", **about)  # type: ignore[arg-type]


def judged(*, saved: float, surplus: float, bias: float = 0.0) -> Trust:
    """Return what the scores of a month might say."""
    return Trust(
        days=30,
        saved_percent=saved,
        possible_percent=20.0,
        surplus_percent=surplus,
        bias=(bias,) * 24,
        deviation=(10.0,) * 6,
        correlation=0.8,
        spread=(-1.645, -0.674, 0.0, 0.674, 1.645),
    )


FELL, HEARD = "DE: a: down", "its answer of Mon 01 Jun 11:40 UTC is used"
EARNED, LOST = judged(saved=15, surplus=12, bias=10), judged(saved=-3, surplus=-5)


def source(store: Store, now: datetime = NOW) -> StoredSource:
    """Return the source that believes provider a."""
    return StoredSource(store, {"DE": "a"}, now)


def told(store: Store, now: datetime = NOW, end: datetime = END) -> tuple[list[float], str]:
    """Return the values that are believed, and all that is said of them."""
    belief = source(store, now).belief("DE", now, end)
    if belief.series is None:
        return [], " | ".join(belief.reasons)
    return list(belief.series.known), " | ".join(belief.series.notes)


def sent(*answers: tuple[datetime, IntensitySeries]) -> Store:
    """Return a store with some answers of provider a."""
    store = Store(None)
    for at, series in answers:
        store.add("a", [series], at)
    return store


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(
            st.integers(-40, 2),
            st.lists(st.none() | st.floats(0, 1500), min_size=1, max_size=40),
        ),
        max_size=5,
    )
)
def test_no_value_is_believed_that_nobody_sent(
    answers: list[tuple[int, list[float | None]]],
) -> None:
    """Without trust each believed value stands in an answer that came by now, for its hour."""
    store, by_hour = Store(None), {}
    for hours, values in answers:
        store.add("a", [ahead(values, NOON + HOUR * hours)], NOW + HOUR * hours)
        if hours <= 0:
            for place, value in enumerate(values):
                by_hour.setdefault(NOON + HOUR * (hours + place), set()).add(value)
    series = source(store).belief("DE", NOW, END).series
    if series is None:
        return
    assert series.start <= NOW < series.end
    for start, value in zip(series.starts, series.values, strict=True):
        hour = start.replace(minute=0)
        # The first value may reach back over the step that it is late.
        near = by_hour.get(hour, set()) | by_hour.get(hour + HOUR, set())
        assert value is None or value in near


def test_a_good_forecast_is_believed_as_it_is() -> None:
    """Step 1: nothing to say."""
    values, notes = told(sent((NOW, ahead(wave(40)))))
    assert values == wave(40)
    assert not notes


def test_hours_that_are_missing_are_filled_from_an_earlier_answer() -> None:
    """Step 1: also beyond a horizon that got shorter, and it is said."""
    before = ahead(wave(40, 410), NOON - HOUR)
    store = sent((NOW - HOUR, before), (NOW, ahead(wave(14))))
    values, _ = told(store)
    assert values[:14] == wave(14)
    assert set(values[14:]) <= set(wave(40, 410))
    assert len(values) == 39
    holed = [None if hour == 3 else value for hour, value in enumerate(wave(40))]
    _, notes = told(sent((NOW - HOUR, before), (NOW, ahead(holed))))
    assert "some hours are from an earlier answer" in notes


def test_an_answer_of_yesterday_fills_nothing() -> None:
    """Step 1: what stands in is at most six hours older."""
    old = ahead(wave(72, 500), NOON - DAY)
    values, _ = told(sent((NOW - DAY, old), (NOW, ahead(wave(14)))))
    assert values == wave(14)


def test_a_proven_error_is_taken_off() -> None:
    """Step 2: by the hour of the day."""
    store = sent((NOW, ahead(wave(40))))
    store.set_trust("a", "DE", EARNED, NOW)
    values, _ = told(store)
    assert values == pytest.approx([value + 10 for value in wave(40)])


def test_beyond_the_horizon_a_statistical_forecast_carries_on() -> None:
    """Step 3: if both have earned it; else the outlook ends with the forecast."""
    store = sent((NOW, ahead(wave(14))))
    store.add(statistical("a"), [ahead(wave(72, 300))], NOW)
    assert len(told(store)[0]) == 14
    store.set_trust("a", "DE", EARNED, NOW)
    store.set_trust(statistical("a"), "DE", LOST, NOW)
    assert len(told(store)[0]) == 14
    store.set_trust(statistical("a"), "DE", judged(saved=5, surplus=3), NOW)
    values, notes = told(store)
    assert values[14:] == pytest.approx(wave(72, 300)[14:])
    assert "from Tue 02 Jun 02:00 UTC on a statistical forecast" in notes


def test_beyond_the_horizon_it_is_as_sure_as_what_carries_on() -> None:
    """A window that reaches there has the errors of the statistical forecast."""
    store = sent((NOW, ahead(wave(14))))
    store.add(statistical("a"), [ahead(wave(72, 300))], NOW)
    store.set_trust("a", "DE", EARNED, NOW)
    rough = judged(saved=5, surplus=3).model_copy(update={"deviation": (40.0,) * 6})
    store.set_trust(statistical("a"), "DE", rough, NOW)
    belief = source(store).belief("DE", NOW, END)
    near, across = (belief.interval(NOW + h * HOUR, NOW + (h + 4) * HOUR) for h in (2, 11))
    assert near is not None
    assert across is not None
    assert across[2] - across[0] == pytest.approx(4 * (near[2] - near[0]))


def test_a_statistical_forecast_stands_in_for_a_dead_provider() -> None:
    """Step 3: and the notes say why the provider is not heard."""
    store = Store(None)
    store.add(statistical("a"), [ahead(wave(72, 300))], NOW)
    store.set_trust(statistical("a"), "DE", judged(saved=5, surplus=3), NOW)
    store.fail("a", "DE", "intensity", Failure("transient", "a: down.", NOW))
    values, notes = told(store)
    assert values == wave(72, 300)
    assert "a: down" in notes


def test_a_forecast_that_earned_nothing_gives_its_level_only() -> None:
    """Step 4: unless a statistical one has earned more; unknown hours stay unknown."""
    holed = [None if hour == 3 else value for hour, value in enumerate(wave(40))]
    store = sent((NOW, ahead(holed)))
    store.set_trust("a", "DE", LOST, NOW)
    series = source(store).belief("DE", NOW, END).series
    assert series is not None
    assert len(set(series.known)) == 1
    assert not series.covers(NOON + 3 * HOUR, NOON + 4 * HOUR)
    known = [value for value in holed if value is not None]
    assert min(known) < series.known[0] < max(known)
    assert "so only its mean is used" in told(store)[1]
    store.add(statistical("a"), [ahead(wave(72, 300))], NOW)
    store.set_trust(statistical("a"), "DE", judged(saved=5, surplus=3), NOW)
    values, notes = told(store)
    assert values == wave(72, 300)
    assert "has not beaten starting at once here (-3.0 %" in notes


def test_nothing_is_believed_for_a_reason() -> None:
    """Step 5: each thing that was tried is named."""
    store = Store(None)
    assert told(store) == ([], "a has sent no forecast for DE yet")
    store.add(statistical("a"), [ahead(wave(72))], NOW)
    store.set_trust(statistical("a"), "DE", LOST, NOW)
    store.add("a", [ahead([0.0] * 40)], NOW)
    values, reasons = told(store)
    assert not values
    assert "a is not believed for DE" in reasons
    assert "a statistical forecast has not beaten starting at once in DE" in reasons


def test_a_provider_that_fell_silent_is_named_while_its_last_word_serves() -> None:
    """With the times of that word and of the next; not when it was heard and not believed."""
    store = sent((NOW - 40 * MINUTE, ahead(wave(40))))
    store.fail("a", "DE", "intensity", Failure(NOT_BELIEVED, "a: is not believed.", NOW))
    assert told(store) == (wave(40), "")
    store.fail("a", "DE", "intensity", Failure("transient", "a: down.", NOW))
    assert told(store) == (wave(40), f"{FELL}; noted before 12:20 UTC; {HEARD}")
    later = Failure("rate-limited", "a: down.", NOW + HOUR)
    store.fail("a", "DE", "intensity", later)
    assert told(store)[1] == f"{FELL}; asked again from 13:20 UTC on; {HEARD}"
    store.fail("a", "DE", "intensity", replace(later, until=NOW + 12 * HOUR))
    assert told(store)[1] == f"{FELL}; asked again from Tue 02 Jun 00:20 UTC on; {HEARD}"


@pytest.mark.parametrize("lies", [1, 7, 60])
def test_the_last_good_answer_is_found_behind_many_lies(lies: int) -> None:
    """However often it lied since, and in little time."""
    store = sent((NOW - 20 * HOUR, ahead(wave(72), NOON - 20 * HOUR)))
    for step in range(lies):
        store.add("a", [ahead([step / 1000] * 40)], NOW - lies * MINUTE + step * MINUTE)
    began = time.monotonic()
    values, notes = told(store)
    assert time.monotonic() - began < 1
    assert values == wave(72)[20:]
    assert "not believed; an earlier one is used" in notes


def test_a_longer_question_gets_a_longer_answer() -> None:
    """A source that was asked for a short window does not answer a long one from memory."""
    store = sent((NOW, ahead(wave(14))))
    for method, trust in (("a", EARNED), (statistical("a"), judged(saved=5, surplus=3))):
        store.set_trust(method, "DE", trust, NOW)
    store.add(statistical("a"), [ahead(wave(72))], NOW)
    one = source(store)
    short, long = (one.intensity("DE", NOW, NOW + hours * HOUR) for hours in (4, 24))
    assert short.end < long.end


def test_how_sure_a_window_is_is_told_once_it_is_known() -> None:
    """Three quantiles of its mean, for what is covered and proven."""
    store = sent((NOW, ahead(wave(40))))
    window = (NOW + HOUR, NOW + 5 * HOUR)
    assert source(store).belief("DE", NOW, END).interval(*window) is None
    store.set_trust("a", "DE", EARNED, NOW)
    belief = source(store).belief("DE", NOW, END)
    least, middle, most = belief.interval(*window) or (0, 0, 0)
    assert 0 < least < middle < most
    assert belief.interval(NOW + 39 * HOUR, NOW + 43 * HOUR) is None


# -- real grids ------------------------------------------------------------------------------


ZONES = ("DE", "ES", "FR")


@dataclass
class Grids:
    """Real intensities, and two providers that speak of them as time goes by."""

    values: dict[str, list[float]]
    first: datetime
    providers: tuple[StaticProvider, ...]

    def speak(self, now: datetime, history: timedelta) -> None:
        """Let the providers know what was by now, and guess what comes."""
        present = int((now - self.first) / HOUR)
        for place, provider in enumerate(self.providers):
            provider.series = tuple(
                one
                for zone in ZONES
                for one in self.said(
                    zone, present, int(history / HOUR), f"{provider.name} {zone}", place
                )
            )

    def said(
        self, zone: str, present: int, back: int, who: str, place: int
    ) -> Iterator[IntensitySeries | PriceSeries]:
        """Yield what was, and a forecast that is off by a slowly growing error."""
        drift = np.random.default_rng([present, place]).standard_normal(40).cumsum() * (1 + place)
        for begin, stop, kind in (
            (present - back, present, Kind.ACTUAL),
            (present, present + 40, Kind.FORECAST),
        ):
            values = np.array(self.values[zone][begin:stop])
            if kind is Kind.FORECAST:
                values = np.maximum(values * (1 + 0.004 * drift), 1)
            starts, end = regular(self.first + HOUR * begin, HOUR, stop - begin)
            yield IntensitySeries(zone, starts, end, values.tolist(), who, kind=kind)


class FakeFeed(Feed):
    """A feed whose providers are not on the web."""

    fakes: tuple[StaticProvider, ...] = ()

    def _providers(self, web: Web) -> Iterator[Provider]:
        del web
        yield from self.fakes


@pytest.fixture
def grids(shared: Path) -> Grids:
    """Return three real grids from spring on."""
    frame = pl.read_parquet(shared / "traces" / "intensity_lifecycle_2022_hourly.parquet")
    return Grids(
        {zone: frame[zone].to_list() for zone in ZONES},
        frame["utc"][0].astimezone(UTC),
        tuple(StaticProvider(name=name) for name in ("energy-charts", "electricity-maps")),
    )


def label(outlook: Outlook) -> str:
    """Return in a word what a decision at home would rest on."""
    notes = " | ".join(outlook.degraded)
    home = outlook.intensity.get("DE")
    if home is None:
        return "nothing"
    if "statistical" in home.source:
        return "statistical"
    who = home.source.removesuffix(" DE")
    if "stale" in notes:
        return f"{who}, stale"
    return f"{who}, last word" if "is used" in notes else who


@pytest.mark.slow
def test_providers_that_die_and_come_back_change_the_label_and_nothing_else(
    grids: Grids, tmp_path: Path
) -> None:
    """First one dies, then the other, then both return: each time it is said, and soon."""
    first, second = grids.providers
    start = grids.first + 150 * DAY + 20 * MINUTE
    seen: list[str] = []
    for hour in range(0, 74, 2):
        now = start + HOUR * hour
        first.error = Transient(first.name, "down") if 6 <= hour < 70 else None
        second.error = RuntimeError("a stranger's s3cr3t") if 18 <= hour < 72 else None
        grids.speak(now, 60 * DAY if hour == 0 else 3 * DAY)
        feed = FakeFeed(Signals(order=(first.name, second.name)), Keys(), tmp_path / "o.sqlite")
        feed.fakes = grids.providers
        history = 60 * DAY if hour == 0 else None
        asyncio.run(feed.refresh(ZONES, now=now, until=now + DAY, history=history))
        began = time.monotonic()
        outlook = look(feed.sources(ZONES, now), ZONES, "DE", now, now + DAY, priced=())
        assert time.monotonic() - began < 0.5
        feed.close()
        seen.append(label(outlook))
        said = " ".join(outlook.degraded)
        assert "s3cr3t" not in said
        assert bool(said) is (seen[-1] != "energy-charts"), "a good day is not degraded"
    steps = [label for place, label in enumerate(seen) if place == 0 or seen[place - 1] != label]
    assert steps == [
        "energy-charts",
        "energy-charts, last word",
        "electricity-maps",
        "electricity-maps, last word",
        "electricity-maps, stale",
        "statistical",
        "nothing",
        "energy-charts",
    ]


def test_one_forecast_in_a_hundred_zones_is_looked_at_in_time(tmp_path: Path) -> None:
    """The time for a look grows with the zones, not with their square."""
    zones = [f"DE-{number}" for number in range(100)]
    store = Store(tmp_path / "o.sqlite")
    provider = StaticProvider(
        [
            IntensitySeries(
                zone, *regular(NOON, HOUR, 40), wave(40, 300 + place), zone, kind=Kind.FORECAST
            )
            for place, zone in enumerate(zones)
        ],
        name="a",
    )
    needs: Iterable[Need] = [Need(zone, ("a",)) for zone in zones]
    asyncio.run(refresh(store, [provider], list(needs), now=NOW, until=END))
    began = time.monotonic()
    believed = StoredSource(store, dict.fromkeys(zones, "a"), NOW)
    outlook = look([believed], zones, "DE-0", NOW, END, priced=())
    assert len(outlook.intensity) == 100
    assert time.monotonic() - began < 3


# -- prices ---------------------------------------------------------------------------------------


def sold(values: Sequence[float | None], start: datetime = NOON, zone: str = "DE") -> PriceSeries:
    """Return prices in hours."""
    starts, end = regular(start, HOUR, len(values))
    return PriceSeries(zone, starts, end, values, "s", kind=Kind.FORECAST, currency="EUR")


def prices(count: int) -> list[float]:
    """Return prices that no gate frowns at."""
    return [
        round(80 - 40 * math.sin(hour / 12 * math.pi) + hour * 0.31, 2) for hour in range(count)
    ]


def paid(store: Store, end: datetime = END) -> tuple[list[float | None], str]:
    """Return the prices that are believed, and what is said of them, or why there are none."""
    belief = source(store).price_belief("DE", NOW, end)
    if belief.series is None:
        return [], " | ".join(belief.reasons)
    return list(belief.series.values), " | ".join(belief.series.notes)


def test_a_price_is_believed_as_it_was_sent() -> None:
    """In peace nothing is said; that it ends before the window is in its end."""
    store = Store(None)
    store.add("a", [sold(prices(30))], NOW)
    assert paid(store) == (prices(30), "")
    assert paid(store, NOW + 2 * DAY) == (prices(30), "")


def test_zeros_for_tomorrow_are_not_believed_and_it_is_said() -> None:
    """Today's prices are, in one note."""
    store = Store(None)
    store.add("a", [sold([*prices(11), *[0.0] * 24])], NOW)
    values, said = paid(store)
    assert values == [*prices(11), *[None] * 24]
    assert said.startswith("price of DE from a: zeros: zero until the end")
    assert " | " not in said


def test_an_earlier_price_is_as_good() -> None:
    """Where the newest answers are lies, what the same auction was said to be before is used."""
    store = Store(None)
    store.add("a", [sold(prices(20), NOON - HOUR)], NOW - HOUR)
    for minutes in (30, 15, 0):
        lie = sold([0.0] * (30 - minutes // 15))
        store.add("a", [lie], NOW - MINUTE * minutes)
    values, said = paid(store)
    assert values == prices(20)
    assert "the newest answer is not used" in said
    assert "an earlier one is" in said
    found = {one.fault.value for one in source(store).price_belief("DE", NOW, END).findings}
    assert found >= {"zeros", "too-little"}


def test_without_a_price_it_is_said_why() -> None:
    """Never sent, not let in, not believed, or over."""
    store = Store(None)
    assert paid(store) == ([], "a has no price of zone DE")
    store.fail("a", "DE", "price", Failure("auth", "a: does not accept the key.", NOW + DAY))
    again = "asked again from Tue 02 Jun 12:20 UTC on"
    assert paid(store) == ([], f"a: does not accept the key; {again}")
    store.add("a", [sold(prices(3), NOON - 5 * HOUR)], NOW - 5 * HOUR)
    assert "too-little" in source(store).price_belief("DE", NOW, END).findings[0].fault
    store.add("a", [sold([0.0] * 24)], NOW)
    assert paid(store)[1].startswith("a is not believed on the price of DE: it says nothing")
    with pytest.raises(NoSignal, match="a is not believed on the price of DE"):
        source(store).price("DE", NOW, END)


def test_the_next_provider_has_the_price_and_it_is_said() -> None:
    """What the first one sent is named beside the price of the second, in the outlook too."""
    store = Store(None)
    store.add("a", [sold([1e6] * 24)], NOW)
    store.add("b", [sold(prices(24))], NOW)
    first = StoredSource(store, {"DE": "a"}, NOW)
    second = StoredSource(store, {"DE": "b"}, NOW, before=first)
    series = second.price("DE", NOW, END)
    assert series.known == tuple(prices(24))
    seen = look([first, second], ["DE"], "DE", NOW, END, priced=["DE"])
    (note,) = (note for note in seen.degraded if "price" in note)
    assert note.startswith("a is not believed on the price of DE: beyond")
    assert note.endswith("using b")
    found = {one.fault.value for one in second.price_belief("DE", NOW, END).findings}
    assert "out-of-range" in found


def test_a_price_that_may_not_be_shown_says_so() -> None:
    """It is used all the same; another provider's is shown."""
    store = Store(None)
    store.add("a", [sold(prices(24))], NOW)
    hidden = StoredSource(store, {"DE": "a"}, NOW, unshown={"a", "c"}).price("DE", NOW, END)
    assert not hidden.shown
    assert hidden.known == tuple(prices(24))
    assert StoredSource(store, {"DE": "a"}, NOW, unshown={"b"}).price("DE", NOW, END).shown


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40),
            st.lists(
                st.none() | st.sampled_from([0.0, 50.0]) | st.floats(-1e5, 1e5),
                min_size=1,
                max_size=40,
            ),
        ),
        max_size=4,
    )
)
def test_no_price_is_believed_that_nobody_sent(
    answers: list[tuple[int, list[float | None]]],
) -> None:
    """Each price that is believed stands in an answer, for its hour."""
    store, by_hour = Store(None), {}
    for hours, values in answers:
        store.add("a", [sold(values, NOON - HOUR * hours)], NOW - HOUR * hours)
        for place, value in enumerate(values):
            by_hour.setdefault(NOON + HOUR * (place - hours), set()).add(value)
    series = source(store).price_belief("DE", NOW, END).series
    if series is None:
        return
    assert series.covers(NOW, NOW + MINUTE)
    for start, value in zip(series.starts, series.values, strict=True):
        assert value is None or value in by_hour[start]
