"""Refreshing and believing: real store, fakes for providers, one fault after the other."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from carbon import (
    AuthError,
    BadInput,
    IntensitySeries,
    Kind,
    NoData,
    NoSignal,
    Outlook,
    PriceSeries,
    RateLimited,
    Signal,
    Store,
    StoredSource,
    Transient,
    Unavailable,
    look,
    refresh,
)
from carbon._learn import learn
from carbon._provider import Terms
from carbon._refresh import Need
from carbon._score import Score
from carbon._series import regular
from carbon._statistical import statistical
from carbon.testing import StaticProvider

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOUR, MINUTE, DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
NOW = datetime(2026, 6, 1, 12, 20, tzinfo=UTC)
HOME, AWAY = "DE", "FR"


def day(level: float, start: datetime, hours: int) -> list[float]:
    """Return hourly values with a clean noon, no day quite like the one before."""
    moments = [start + HOUR * step for step in range(hours)]
    return [
        level * (1 - 0.3 * math.sin((one.hour - 6) / 12 * math.pi) + (one - NOW) / HOUR / 20_000)
        for one in moments
    ]


def ahead(
    zone: str, level: float = 400.0, *, start: datetime = NOW, hours: int = 48, source: str = "s"
) -> IntensitySeries:
    """Return a forecast from the full hour on."""
    first = start.replace(minute=0)
    starts, end = regular(first, HOUR, hours)
    values = day(level, first, hours)
    return IntensitySeries(zone, starts, end, values, f"{source} {zone}", kind=Kind.FORECAST)


def past(
    zone: str, level: float = 400.0, *, days: int = 40, end: datetime = NOW
) -> IntensitySeries:
    """Return actual values up to the full hour."""
    last = end.replace(minute=0)
    first = last - DAY * days
    starts, _ = regular(first, HOUR, 24 * days)
    values = day(level, first, 24 * days)
    # A little noise that repeats: no feed stands still.
    values = [value + index * 7 % 5 for index, value in enumerate(values)]
    return IntensitySeries(zone, starts, last, values, f"s {zone}", kind=Kind.ACTUAL)


def flat(zone: str, value: float) -> IntensitySeries:
    """Return a forecast that no grid has."""
    starts, end = regular(NOW.replace(minute=0), HOUR, 48)
    return IntensitySeries(zone, starts, end, [value] * 48, "s", kind=Kind.FORECAST)


def ask(
    store: Store,
    *providers: StaticProvider,
    now: datetime = NOW,
    zones: Sequence[str] = (HOME, AWAY),
    patience: timedelta = timedelta(seconds=5),
    price: bool = False,
    history: timedelta | None = None,
) -> float:
    """Refresh the store and return how long it took in seconds."""
    chain = tuple(provider.name for provider in providers)
    needs = [Need(zone, chain, price) for zone in zones]
    began = time.monotonic()
    asyncio.run(
        refresh(
            store, providers, needs, now=now, until=now + DAY, patience=patience, history=history
        )
    )
    return time.monotonic() - began


def sources(store: Store, *names: str, now: datetime = NOW) -> list[StoredSource]:
    """Return what is believed, provider by provider."""
    found: list[StoredSource] = []
    for name in names:
        before = found[-1] if found else None
        known = {HOME: name, AWAY: name}
        found.append(StoredSource(store, known, now, name=f"of {name}", before=before))
    return found


def see(store: Store, *names: str, now: datetime = NOW) -> Outlook:
    """Look at the next day."""
    return look(sources(store, *names, now=now), (HOME, AWAY), HOME, now, now + DAY, priced=())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a place for the store."""
    return tmp_path / "deep" / "outlook.sqlite"


@pytest.fixture
def store(path: Path) -> Store:
    """Return an empty store."""
    return Store(path)


def test_what_was_sent_is_believed_by_the_next_process(store: Store, path: Path) -> None:
    """Values, source and time of the answer come back from the file."""
    ask(store, StaticProvider([ahead(HOME), ahead(AWAY, 80)], name="a"))
    store.close()
    outlook = see(Store(path), "a")
    assert set(outlook.intensity) == {HOME, AWAY}
    home = outlook.intensity[HOME]
    assert home.fetched_at == NOW
    assert home.source == "s DE"
    assert home.mean(NOW, NOW + 4 * HOUR) == pytest.approx(ahead(HOME).mean(NOW, NOW + 4 * HOUR))
    assert outlook.degraded == ()


def test_nobody_is_asked_twice_within_the_terms(store: Store) -> None:
    """Fresh answers are used; after the time of the terms they are asked for again."""
    provider = StaticProvider([ahead(HOME)], name="a")
    for minutes, asked in ((0, 1), (9, 1), (11, 2)):
        ask(store, provider, zones=[HOME], now=NOW + minutes * MINUTE)
        assert len(provider.asked) == asked


def test_an_answer_from_the_future_is_not_fresh_for_ever(store: Store) -> None:
    """A clock that was wrong once does not silence a provider."""
    provider = StaticProvider([ahead(HOME)], name="a")
    ask(store, provider, zones=[HOME], now=NOW + DAY)
    ask(store, provider, zones=[HOME])
    assert len(provider.asked) == 2


@pytest.mark.parametrize(
    ("error", "minutes"),
    [
        (Transient("a", "down"), 1),
        (RateLimited("a", timedelta(minutes=3)), 3),
        (RateLimited("a"), 10),
        (AuthError("a", "bad key"), 60),
        (RuntimeError("a stranger's text with a key"), 5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_a_failure_is_left_alone_for_its_time(store: Store, error: Exception, minutes: int) -> None:
    """The second provider serves; the first is asked again when its time is over, not before."""
    bad = StaticProvider(name="a", error=error)
    good = StaticProvider([ahead(HOME), ahead(AWAY, 80)], name="b")
    for later, asked in ((0, 1), (minutes - 0.5, 1), (minutes + 0.5, 2)):
        ask(store, bad, good, zones=[HOME], now=NOW + later * MINUTE)
        assert len(bad.asked) == asked
    outlook = see(store, "a", "b")
    assert outlook.intensity[HOME].source == "s DE"
    assert any("using b" in note or "of b" in note for note in outlook.degraded)
    assert "stranger" not in " ".join(outlook.degraded)


@pytest.mark.parametrize(
    "lie",
    [
        [flat(HOME, 0.0)],
        [flat(HOME, 400.0)],
        [ahead(HOME, 30.0)],
        [past(HOME, days=1)],
        [ahead(HOME, start=NOW + 10 * HOUR, hours=3)],
        [],
    ],
    ids=["zeros", "frozen", "another level", "no forecast", "nothing about now", "nothing"],
)
def test_who_lies_is_passed_over(store: Store, lie: list[IntensitySeries]) -> None:
    """What cannot be believed is no answer: the next provider is asked, and it is said why."""
    liar = StaticProvider(lie, name="a")
    good = StaticProvider([ahead(HOME)], name="b")
    ask(store, liar, good, zones=[HOME])
    assert good.asked == [HOME]
    ask(store, liar, good, zones=[HOME], now=NOW + 2 * MINUTE)
    assert len(liar.asked) == 1, "its terms hold for lies too"
    outlook = see(store, "a", "b", now=NOW + 2 * MINUTE)
    assert outlook.intensity[HOME].mean(NOW + HOUR, NOW + 2 * HOUR) > 100
    assert any("a" in note for note in outlook.degraded)


def test_a_lie_does_not_discard_the_last_good_answer(store: Store) -> None:
    """The good answer serves on with a note, however many lies follow, for 36 hours."""
    ask(store, StaticProvider([ahead(HOME, hours=72)], name="a"), zones=[HOME])
    for step in range(1, 6):
        lie = flat(HOME, float(step) / 1000)
        ask(store, StaticProvider([lie], name="a"), zones=[HOME], now=NOW + step * 20 * MINUTE)
    later = NOW + 2 * HOUR
    outlook = see(store, "a", now=later)
    good = ahead(HOME, hours=72).mean(later, later + HOUR)
    assert outlook.intensity[HOME].mean(later, later + HOUR) == pytest.approx(good)
    assert any("not believed" in note for note in outlook.degraded)
    assert outlook.intensity[HOME].fetched_at == NOW
    assert not see(store, "a", now=NOW + 37 * HOUR).intensity


def test_a_feed_that_repeats_itself_grows_old(store: Store) -> None:
    """The same body again and again is as old as its first time."""
    provider = StaticProvider([ahead(HOME, hours=72)], name="a")
    provider.series = (ahead(HOME, hours=72),)

    async def same(zone: str, start: datetime, end: datetime) -> Sequence[IntensitySeries]:
        del zone, start, end
        return [ahead(HOME, hours=72)]

    provider.intensity = same  # type: ignore[method-assign]  # it ignores the window, as some do
    for hours in range(0, 20, 4):
        ask(store, provider, zones=[HOME], now=NOW + hours * HOUR)
    outlook = see(store, "a", now=NOW + 16 * HOUR)
    assert any("stale" in note for note in outlook.degraded)


def test_who_hangs_costs_its_share_and_is_remembered(store: Store) -> None:
    """The next provider is reached within the patience, and the one that hangs is left alone."""
    stuck = StaticProvider(name="a", hangs=True)
    good = StaticProvider([ahead(HOME), ahead(AWAY, 80)], name="b")
    took = ask(store, stuck, good, patience=timedelta(seconds=5))
    assert took < 5
    assert sorted(good.asked) == [HOME, AWAY]
    assert set(see(store, "a", "b").intensity) == {HOME, AWAY}
    assert ask(store, stuck, good, now=NOW + 0.3 * MINUTE) < 0.4


def test_without_anybody_there_is_nothing_and_it_is_said(store: Store) -> None:
    """No answer, no belief: the reasons are told."""
    ask(store, StaticProvider(name="a", error=Transient("a", "down")))
    outlook = see(store, "a")
    assert not outlook.intensity
    assert any("down" in note for note in outlook.degraded)


def test_a_refused_hour_is_filled_from_an_earlier_answer_or_stays_unknown(store: Store) -> None:
    """Values are never made up: an earlier answer of the same provider may stand in."""
    dip = ahead(HOME)
    values = [value if place != 5 else 1.0 for place, value in enumerate(dip.values)]
    broken = IntensitySeries(HOME, dip.starts, dip.end, values, "s DE", kind=Kind.FORECAST)
    ask(store, StaticProvider([broken], name="a"), zones=[HOME])
    hole = dip.starts[5]
    series = see(store, "a").intensity[HOME]
    assert not series.covers(hole, hole + HOUR)
    assert series.covers(hole + HOUR, hole + 2 * HOUR)
    other = Store(None)
    ask(other, StaticProvider([ahead(HOME)], name="a"), zones=[HOME], now=NOW - HOUR)
    ask(other, StaticProvider([broken], name="a"), zones=[HOME])
    filled = see(other, "a").intensity[HOME]
    assert filled.mean(hole, hole + HOUR) == pytest.approx(ahead(HOME).mean(hole, hole + HOUR))


def test_a_refused_present_is_not_papered_over(store: Store) -> None:
    """The first value reaches back to now only where nothing was said of now."""
    late = ahead(HOME, start=NOW + HOUR, hours=47)
    assert late.start - NOW == 40 * MINUTE
    ask(store, StaticProvider([late], name="a"), zones=[HOME])
    assert see(store, "a").intensity[HOME].mean(NOW, NOW + 10 * MINUTE) == late.values[0]
    zero = ahead(HOME)
    values = [0.0, *zero.values[1:]]
    bad = IntensitySeries(HOME, zero.starts, zero.end, values, "s DE", kind=Kind.FORECAST)
    other = Store(None)
    ask(other, StaticProvider([bad], name="a"), zones=[HOME])
    assert HOME not in see(other, "a").intensity


def scores(*, good: bool, days: int = 20) -> list[Score]:
    """Return scores of a forecast that saves, or that costs."""
    return [
        Score(
            issued_at=NOW - DAY * back,
            errors=tuple([20.0] * 28),
            at_once=400.0,
            best=300.0,
            chosen=310.0 + back % 3 if good else 430.0 + back % 3,
        )
        for back in range(2, days + 2)
    ]


def trusted(store: Store, *, good: bool) -> None:
    """Let the provider's forecasts have been worth something, or less than nothing."""
    learned = past(HOME, days=2)
    store.add("a", [learned], NOW)
    store.add_scores("a", HOME, scores(good=good))
    learn(store, "a", HOME, NOW, anew=True)


def test_a_proven_forecast_is_corrected(store: Store) -> None:
    """It was 20 g too low all along, so most of that is added."""
    trusted(store, good=True)
    ask(store, StaticProvider([ahead(HOME)], name="a"), zones=[HOME])
    series = see(store, "a").intensity[HOME]
    plain = ahead(HOME).mean(NOW, NOW + HOUR)
    assert 10 < series.mean(NOW, NOW + HOUR) - plain < 20
    assert series.trust is not None
    assert series.trust > 0.5


def test_a_forecast_that_cost_more_than_it_saved_tells_no_hours_apart(store: Store) -> None:
    """Its mean stands for all its hours, with a note, and what is unknown stays unknown."""
    trusted(store, good=False)
    dip = ahead(HOME)
    values = [value if place != 5 else 1.0 for place, value in enumerate(dip.values)]
    broken = IntensitySeries(HOME, dip.starts, dip.end, values, "s DE", kind=Kind.FORECAST)
    ask(store, StaticProvider([broken], name="a"), zones=[HOME])
    outlook = see(store, "a")
    series = outlook.intensity[HOME]
    assert len(set(series.known)) == 1
    assert not series.covers(dip.starts[5], dip.starts[6])
    assert any("only its mean" in note for note in outlook.degraded)


def test_a_statistical_forecast_stands_in_where_it_has_earned_it(store: Store) -> None:
    """Without any forecast, a zone with a regular day is forecast from its own past."""
    provider = StaticProvider([past(HOME), past(AWAY, 80)], name="a")
    ask(store, provider, history=timedelta(days=40))
    outlook = see(store, "a")
    assert set(outlook.intensity) == {HOME, AWAY}
    assert all("statistical" in series.source for series in outlook.intensity.values())
    assert any("statistical" in note for note in outlook.degraded)
    noon, midnight = (NOW.replace(minute=0, hour=hour) + DAY for hour in (12, 0))
    home = outlook.intensity[HOME]
    assert home.mean(noon, noon + HOUR) < home.mean(midnight, midnight + HOUR)


def test_a_statistical_forecast_that_earned_nothing_is_not_used(store: Store) -> None:
    """A grid without a habit: nothing is believed, and it is said that this was tried."""
    rng = np.random.default_rng(1)
    noise = past(HOME)
    values = (400 + 60 * rng.standard_normal(len(noise.values))).clip(100, 900).tolist()
    wild = IntensitySeries(HOME, noise.starts, noise.end, values, "s DE", kind=Kind.ACTUAL)
    ask(store, StaticProvider([wild], name="a"), zones=[HOME], history=timedelta(days=40))
    trust = store.trust(statistical("a"), HOME)
    assert trust is not None
    assert trust.proven
    assert not trust.earned
    outlook = see(store, "a")
    assert not outlook.intensity
    assert any("starting at once" in note for note in outlook.degraded)


def test_a_dead_provider_is_not_forecast_for_ever(store: Store) -> None:
    """The statistical forecast grows old with the last actual value that it rests on."""
    provider = StaticProvider([past(HOME)], name="a")
    ask(store, provider, zones=[HOME], history=timedelta(days=40))
    provider.error = Transient("a", "down")
    for hours in range(1, 61, 4):
        ask(store, provider, zones=[HOME], now=NOW + hours * HOUR)
    assert see(store, "a", now=NOW + 20 * HOUR).intensity
    assert not see(store, "a", now=NOW + 60 * HOUR).intensity


def test_the_horizon_is_carried_on_only_for_what_was_corrected(store: Store) -> None:
    """A raw forecast is not continued by a corrected one: the seam would look like a clean hour."""
    ask(
        store,
        StaticProvider([past(HOME), ahead(HOME, 480, hours=16)], name="a"),
        zones=[HOME],
        history=timedelta(days=40),
    )
    assert see(store, "a").intensity[HOME].end == ahead(HOME, hours=16).end
    store.add_scores("a", HOME, scores(good=True))
    learn(store, "a", HOME, NOW, anew=True)
    outlook = see(store, "a")
    assert outlook.intensity[HOME].end >= NOW + DAY
    assert any("on a statistical forecast" in note for note in outlook.degraded)


def test_actual_zeros_teach_nothing(store: Store) -> None:
    """A feed that was dead in the past does not widen what the zone is taken to have been at."""
    dead = past(HOME)
    values = [0.0 if 100 <= place < 110 else value for place, value in enumerate(dead.values)]
    holed = IntensitySeries(HOME, dead.starts, dead.end, values, "s DE", kind=Kind.ACTUAL)
    ask(store, StaticProvider([holed], name="a"), zones=[HOME], history=timedelta(days=40))
    norm = store.norm("a", HOME)
    assert norm is not None
    assert norm.least > 100


def test_prices_of_two_currencies_are_not_joined(store: Store) -> None:
    """The first one is kept."""
    starts, end = regular(NOW.replace(minute=0), HOUR, 24)
    both = [
        PriceSeries("PL", starts, end, [50.0] * 24, "p", kind=Kind.FORECAST, currency="EUR"),
        PriceSeries("PL", starts, end, [210.0] * 24, "p", kind=Kind.FORECAST, currency="PLN"),
    ]
    store.add("a", both, NOW)
    kept = store.price("a", "PL", NOW)
    assert kept is not None
    assert (kept.currency, set(kept.known)) == ("EUR", {50.0})


def test_terms_are_kept(path: Path) -> None:
    """A provider whose numbers may be kept for three days leaves none that are older."""
    store = Store(path)
    terms = Terms("x", "private", 10 * MINUTE, keep=3 * DAY)
    provider = StaticProvider([past(HOME, days=20), ahead(HOME)], name="a", terms=terms)
    ask(store, provider, zones=[HOME], history=timedelta(days=20))
    store.close()
    with sqlite3.connect(path) as db:
        oldest = db.execute("SELECT min(ends) FROM actual").fetchone()[0]
        assert oldest >= (NOW - 3 * DAY).timestamp()
    db.close()
    norm = Store(path).norm("a", HOME)
    assert norm is not None
    assert norm.days > 15, "what was learned from more stays"


def test_identical_answers_are_stored_once(store: Store, path: Path) -> None:
    """Asking often does not fill the disk."""
    for _ in range(3):
        store.add("a", [ahead(HOME)], NOW)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM series").fetchone() == (1,)
    db.close()


def test_a_busy_store_costs_seconds_and_no_more(store: Store, path: Path) -> None:
    """Another process that holds the file delays the refresh once, not once for each zone."""
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    try:
        many = [f"DE-{number}" for number in range(8)]
        provider = StaticProvider([ahead(zone) for zone in many], name="a")
        assert ask(store, provider, zones=many) < 6
    finally:
        other.close()


def test_a_damaged_file_is_one_clear_error(path: Path) -> None:
    """No traceback of SQLite: it says what to do. A row that was cut is told as well."""
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database, " * 100)
    with pytest.raises(Unavailable, match="delete"):
        Store(path)
    path.unlink()
    store = Store(path)
    ask(store, StaticProvider([ahead(HOME)], name="a"), zones=[HOME])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE series SET edges = x'0102'")
    db.close()
    with pytest.raises(Unavailable, match="damaged"):
        store.issues("a", HOME, NOW - DAY, NOW)
    assert not see(store, "a").intensity
    ask(store, StaticProvider([ahead(HOME)], name="a"), zones=[HOME], now=NOW + HOUR)


def test_nothing_later_than_now_is_looked_at(store: Store) -> None:
    """A decision can be made again as it was made."""
    ask(store, StaticProvider([ahead(HOME)], name="a"), zones=[HOME])
    ask(store, StaticProvider([ahead(HOME, 700)], name="a"), zones=[HOME], now=NOW + HOUR)
    then = see(store, "a").intensity[HOME].mean(NOW, NOW + HOUR)
    assert then == pytest.approx(ahead(HOME).mean(NOW, NOW + HOUR))


def test_a_source_without_a_zone_says_so(store: Store) -> None:
    """A zone that no provider is set for is no guess."""
    (source,) = sources(store, "a")
    with pytest.raises(NoSignal, match="XX"):
        source.intensity("XX", NOW, NOW + HOUR)


def test_the_fake_keeps_the_contract_of_the_real_ones() -> None:
    """An answer lies inside the window; unknown zones and bad windows are refused as they do it."""
    provider = StaticProvider([ahead(HOME)], name="a")
    assert provider.has_intensity(HOME)
    assert not provider.has_intensity("XX-NOWHERE")
    assert provider.terms.fresh > timedelta(0)
    (found,) = asyncio.run(provider.intensity(HOME, NOW, NOW + 3 * HOUR))
    assert (found.zone, found.start, found.end) == (HOME, NOW, NOW + 3 * HOUR)
    for method in (provider.intensity, provider.price):
        with pytest.raises(NoData, match="XX-NOWHERE"):
            asyncio.run(method("XX-NOWHERE", NOW, NOW + HOUR))
        for start, end in ((NOW, NOW), (NOW + HOUR, NOW), (NOW.replace(tzinfo=None), NOW)):
            with pytest.raises(BadInput):
                asyncio.run(method(HOME, start, end))


class Strange(StaticProvider):
    """A provider that does not cut to the window, nor look at what it was asked."""

    async def intensity(
        self, zone: str, start: datetime, end: datetime
    ) -> Sequence[IntensitySeries]:
        """Return all that it has."""
        del start, end
        self.asked.append(zone)
        return [one for one in self.series if isinstance(one, IntensitySeries)]


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [ahead(AWAY)],
        [ahead(HOME), ahead(AWAY)],
        [ahead(HOME), dataclasses.replace(ahead(HOME), signal=Signal.MARGINAL)],
        [dataclasses.replace(ahead(HOME), kind=Kind.MODELLED)],
    ],
    ids=["empty", "another zone", "two zones", "unlike numbers", "a model"],
)
def test_an_answer_to_another_question_is_none(store: Store, answer: list[IntensitySeries]) -> None:
    """Nothing of it is kept, and the next provider is asked."""
    strange = Strange(answer, name="a")
    good = StaticProvider([ahead(HOME)], name="b")
    ask(store, strange, good, zones=[HOME])
    assert good.asked == [HOME]
    for zone in (HOME, AWAY):
        assert not store.issues("a", zone, NOW, NOW)
        assert store.actual("a", zone, NOW - DAY, NOW) is None
    assert see(store, "a", "b").intensity[HOME].kind is Kind.FORECAST


def test_a_provider_that_fails_before_it_is_asked_stops_nothing(store: Store) -> None:
    """A fault in what it says of its zones costs that provider only."""

    class Odd(StaticProvider):
        def has_intensity(self, zone: str) -> bool:
            raise RuntimeError(zone)

    ask(store, Odd(name="a"), StaticProvider([ahead(HOME)], name="b"), zones=[HOME])
    assert HOME in see(store, "a", "b").intensity


@pytest.mark.parametrize("pause", [5 * MINUTE, 400 * DAY])
def test_who_wants_to_be_left_alone_is(store: Store, pause: timedelta) -> None:
    """Even when all is asked for anew to learn from it, but for a day at the most."""
    busy = StaticProvider(name="a", error=RateLimited("a", pause))
    ask(store, busy, zones=[HOME])
    ask(store, busy, zones=[HOME], now=NOW + MINUTE, history=DAY)
    assert len(busy.asked) == 1
    ask(store, busy, zones=[HOME], now=NOW + min(pause, DAY) + MINUTE)
    assert len(busy.asked) == 2


def test_a_failure_noted_by_a_wrong_clock_is_not_believed(store: Store) -> None:
    """Who was asked in the year after next may be asked today."""
    provider = StaticProvider(name="a", error=AuthError("a", "bad key"))
    ask(store, provider, zones=[HOME], now=NOW + 700 * DAY)
    ask(store, provider, zones=[HOME])
    assert len(provider.asked) == 2


def test_a_store_that_fails_is_told(store: Store, path: Path) -> None:
    """What must be said beside the outlook comes back from refreshing."""
    needs = [Need(HOME, ("a",))]
    provider = StaticProvider([ahead(HOME)], name="a")
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    try:
        told = asyncio.run(refresh(store, [provider], needs, now=NOW, until=NOW + DAY))
    finally:
        other.close()
    assert len(told) == 1
    assert "busy" in told[0]
    assert asyncio.run(refresh(store, [provider], needs, now=NOW, until=NOW + DAY)) == ()
