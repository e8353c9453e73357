"""Who asks, whom and how far back: one process at a time, for numbers that can be compared."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from carbon import (
    Accounting,
    AuthError,
    IntensitySeries,
    Kind,
    Signal,
    Signals,
    Store,
    StoredSource,
    Transient,
    look,
    refresh,
)
from carbon._learn import learn
from carbon._provider import Terms, kept_as, provider_of
from carbon._refresh import Need
from carbon._rows import Failure
from carbon._series import regular
from carbon._statistical import statistical
from carbon.providers import (
    CarbonAwareSdk,
    ElectricityMaps,
    Feed,
    GBCarbonIntensity,
    Keys,
    WattTime,
    Web,
)
from carbon.testing import StaticProvider

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon._provider import Provider

HOUR, MINUTE, DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
SECOND = timedelta(seconds=1)
NOW = datetime(2026, 6, 1, 12, 20, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
HOME, AWAY = "DE", "FR"
DIRECT, MARGINAL = Accounting.DIRECT, Signal.MARGINAL


def series(
    zone: str,
    hours: int = 48,
    *,
    start: datetime = NOW,
    kind: Kind = Kind.FORECAST,
    signal: Signal = Signal.AVERAGE,
    accounting: Accounting = Accounting.LIFECYCLE,
) -> IntensitySeries:
    """Return hourly values that no quality gate has anything against."""
    starts, end = regular(start.replace(minute=0), HOUR, hours)
    level = {HOME: 300.0, AWAY: 40.0}[zone]
    values = [level * (1 + one.hour * 37 % 24 / 60) + index % 7 for index, one in enumerate(starts)]
    return IntensitySeries(
        zone, starts, end, values, "s", kind=kind, signal=signal, accounting=accounting
    )


class Listening(StaticProvider):
    """A provider that notes which windows it was asked for, and takes its time."""

    windows: list[tuple[datetime, datetime]]
    delay = 0.0

    async def intensity(
        self, zone: str, start: datetime, end: datetime
    ) -> Sequence[IntensitySeries]:
        """Answer after a while."""
        self.windows = [*getattr(self, "windows", []), (start, end)]
        await asyncio.sleep(self.delay)
        return await super().intensity(zone, start, end)


async def asked(
    store: Store,
    *providers: Provider,
    zones: Sequence[str] = (HOME, AWAY),
    now: datetime = NOW,
    patience: timedelta = 5 * SECOND,
) -> tuple[str, ...]:
    """Refresh the store."""
    needs = [Need(zone, tuple(provider.name for provider in providers)) for zone in zones]
    return await refresh(store, providers, needs, now=now, until=now + DAY, patience=patience)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a place for the store."""
    return tmp_path / "outlook.sqlite"


# -- one at a time ---------------------------------------------------------------------------------


def test_of_ten_that_want_to_ask_at_once_one_does(path: Path) -> None:
    """Ten gates at midnight are one question for each zone, and all ten know the answers."""
    provider = Listening([series(HOME), series(AWAY)], name="a")
    provider.delay = 0.2
    stores = [Store(path) for _ in range(10)]

    async def all_at_once() -> list[tuple[str, ...]]:
        return await asyncio.gather(*(asked(store, provider) for store in stores))

    assert set(asyncio.run(all_at_once())) == {()}
    assert sorted(provider.asked) == [HOME, AWAY]
    for store in stores:
        assert len(store.issues("a", HOME, NOW - DAY, NOW + MINUTE)) == 1


def test_a_turn_ends_with_the_refresh(path: Path) -> None:
    """Whatever came of it, the next one need not wait."""
    for error in (None, AuthError("a", "no")):
        store = Store(path)
        asyncio.run(asked(store, StaticProvider([series(HOME)], name="a", error=error)))
        assert store.take_turn(NOW, NOW + MINUTE)
        store.end_turn(NOW + MINUTE)


def test_another_ones_turn_is_not_ended(path: Path) -> None:
    """A process that slept past its turn does not end that of the one that took over."""
    store = Store(path)
    assert store.take_turn(NOW, NOW + SECOND)
    assert store.take_turn(NOW + 2 * SECOND, NOW + 9 * SECOND)
    store.end_turn(NOW + SECOND)
    assert not store.take_turn(NOW + 3 * SECOND, NOW + 8 * SECOND)


def test_a_turn_of_a_wrong_clock_is_not_waited_for(path: Path) -> None:
    """A turn until next year was never taken by anybody who asks."""
    store = Store(path)
    assert store.take_turn(NOW, NOW + 365 * DAY)
    assert store.take_turn(NOW, NOW + SECOND)


def test_who_takes_too_long_is_not_waited_for(path: Path) -> None:
    """After half of its time a process asks beside the one that has the turn."""
    store, provider = Store(path), StaticProvider([series(HOME), series(AWAY)], name="a")
    assert Store(path).take_turn(NOW, NOW + MINUTE)
    began = time.monotonic()
    asyncio.run(asked(store, provider, patience=SECOND))
    assert 0.4 < time.monotonic() - began < 3
    assert sorted(provider.asked) == [HOME, AWAY]
    assert not store.take_turn(NOW, NOW + SECOND), "the turn of the other one holds"


def test_a_process_that_dies_while_it_asks_keeps_nobody_waiting(path: Path) -> None:
    """Its turn ends by itself."""
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from carbon import Store; from carbon.testing import StaticProvider\n"
        "from tests.carbon.test_asking import asked, NOW, SECOND\n"
        "class Told(StaticProvider):\n"
        "    async def intensity(self, *window):\n"
        "        print('asking', flush=True)\n"
        "        return await super().intensity(*window)\n"
        "asyncio.run(asked(Store(Path(sys.argv[1])), Told([], name='a', hangs=True),"
        " patience=2 * SECOND))\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "asking\n"
        os.kill(other.pid, signal.SIGKILL)
    provider = StaticProvider([series(HOME), series(AWAY)], name="a")
    asyncio.run(asked(Store(path), provider, now=NOW + 3 * SECOND))
    assert sorted(provider.asked) == [HOME, AWAY]


def test_where_nothing_is_due_nobody_waits(path: Path) -> None:
    """With fresh answers a refresh reads, and takes no turn."""
    store, provider = Store(path), StaticProvider([series(HOME), series(AWAY)], name="a")
    asyncio.run(asked(store, provider))
    assert Store(path).take_turn(NOW, NOW + MINUTE)
    began = time.monotonic()
    asyncio.run(asked(store, provider, now=NOW + MINUTE))
    assert time.monotonic() - began < 0.3
    assert sorted(provider.asked) == [HOME, AWAY]


# -- numbers that can be compared ------------------------------------------------------------------


def test_when_home_falls_back_the_others_follow(path: Path) -> None:
    """Where home has average numbers only, the other zones are asked for average ones too."""
    store = Store(path)
    marginal = StaticProvider([series(AWAY, signal=MARGINAL, accounting=DIRECT)], name="m")
    average = StaticProvider([series(HOME), series(AWAY)], name="a")
    asyncio.run(asked(store, marginal, average))
    assert sorted(average.asked) == [HOME, AWAY]
    sources = [StoredSource(store, {HOME: name, AWAY: name}, NOW) for name in ("m", "a")]
    outlook = look(sources, (HOME, AWAY), HOME, NOW, NOW + DAY, priced=())
    assert {zone: found.family for zone, found in outlook.intensity.items()} == {
        HOME: series(HOME).family,
        AWAY: series(AWAY).family,
    }


def test_nobody_is_asked_twice_for_the_same_numbers(path: Path) -> None:
    """While home has its first provider, the second one is not asked."""
    first = StaticProvider([series(HOME), series(AWAY)], name="a")
    second = StaticProvider([series(HOME), series(AWAY)], name="b")
    asyncio.run(asked(Store(path), first, second))
    assert second.asked == []


# -- how far back ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "first", "later"),
    [(None, 7 * DAY, 26 * HOUR), (3 * DAY, 23 * HOUR, 26 * HOUR)],
)
def test_what_was_is_asked_for_as_far_as_it_teaches(
    path: Path, keep: timedelta | None, first: timedelta, later: timedelta
) -> None:
    """A week at first, then what is not known yet, and not at all where it was just learned."""
    store = Store(path)
    terms = Terms("x", "y", MINUTE, keep=keep)
    actual = series(HOME, 24 * 12 + 24, start=NOW - 12 * DAY, kind=Kind.ACTUAL)
    provider = Listening([actual, series(HOME, 24 * 4)], name="a", terms=terms)
    for now in (NOW, NOW + 2 * MINUTE, NOW + DAY):
        provider.series = (actual.within(actual.start, now.replace(minute=0)), provider.series[1])
        asyncio.run(asked(store, provider, zones=[HOME], now=now))
    back = [
        now - start
        for now, (start, _) in zip(
            (NOW, NOW + 2 * MINUTE, NOW + DAY), provider.windows, strict=True
        )
    ]
    assert back[:2] == [first, timedelta(0)]
    assert later - HOUR < back[2] <= later + HOUR


def test_terms_that_forbid_keeping_still_teach(path: Path) -> None:
    """Asked daily for weeks, a provider whose numbers are kept for three days has a climate."""
    store, terms = Store(path), Terms("x", "y", MINUTE, keep=3 * DAY)
    for day in range(20):
        now = NOW + day * DAY
        actual = series(HOME, 24 * 3, start=now - 3 * DAY, kind=Kind.ACTUAL)
        provider = StaticProvider([actual, series(HOME, start=now)], name="a", terms=terms)
        asyncio.run(asked(store, provider, zones=[HOME], now=now))
    climate = store.climate("a", HOME)
    assert climate is not None
    assert climate.days >= 17
    assert store.issues(statistical("a"), HOME, now, now), "a statistical forecast was issued"
    own = store.trust(statistical("a"), HOME)
    assert own is not None, "and it is known what such forecasts are worth"
    scores = store.scores("a", HOME, NOW)
    assert scores
    assert not any(one.departures for one in scores), "its forecasts cannot be made again"
    oldest = store.actual("a", HOME, NOW - 10 * DAY, now)
    assert oldest is not None
    assert oldest.start >= now - 3 * DAY - HOUR


# -- how a provider is asked -----------------------------------------------------------------------


def test_a_corrected_key_is_tried_at_once(path: Path) -> None:
    """That the old one was refused says nothing of the new one; other pauses are kept."""
    store = Store(path)
    assert store.introduce("a", "key 1", NOW - 9 * DAY) == NOW - 9 * DAY
    for zone, label in ((HOME, "auth"), (AWAY, "rate-limited")):
        store.fail("a (direct)", zone, "intensity", Failure(label, "a: no.", NOW + HOUR))
    store.fail("b", HOME, "intensity", Failure("auth", "b: no.", NOW + HOUR))
    assert store.introduce("a", "key 1", NOW) == NOW - 9 * DAY
    assert store.failure("a (direct)", HOME, "intensity") is not None
    assert store.introduce("a", "key 2", NOW) == NOW
    assert store.failure("a (direct)", HOME, "intensity") is None
    assert store.failure("a (direct)", AWAY, "intensity") is not None
    assert store.failure("b", HOME, "intensity") is not None


def test_numbers_of_another_meaning_are_kept_apart(path: Path) -> None:
    """Two fleets on one store: the country's intensity for one, London's for the other."""
    web = Web()
    national, london = GBCarbonIntensity(web), GBCarbonIntensity(web, region=13)
    assert kept_as(national, "GB") == "gb-carbon-intensity"
    assert kept_as(london, "GB") == "gb-carbon-intensity (region 13)"
    assert kept_as(london, "GB-7") == kept_as(national, "GB-7")
    assert provider_of(kept_as(london, "GB")) == provider_of(kept_as(national, "GB"))
    feeds = [
        Feed(Signals.model_validate({"gb-carbon-intensity": {"region": region}}), Keys(), path)
        for region in (None, 13)
    ]
    level = IntensitySeries(
        "GB",
        *regular(NOW, HOUR, 48),
        [250.0 + h % 9 for h in range(48)],
        "s",
        kind=Kind.FORECAST,
        accounting=DIRECT,
    )
    feeds[0].store.add(kept_as(national, "GB"), [level], NOW)
    for feed, known in zip(feeds, (True, False), strict=True):
        outlook = look(feed.sources(["GB"], NOW), ["GB"], "GB", NOW, NOW + DAY, priced=())
        assert bool(outlook.intensity) == known


def test_each_setting_that_changes_the_numbers_is_in_the_name() -> None:
    """Accounting, region, server, location; the address of a mirror is not."""
    web, token = Web(), SecretStr("a-token-of-a-test")
    plain = ElectricityMaps(web, token)
    assert (
        plain.meaning(HOME)
        == ElectricityMaps(web, token, base_url="http://x.y").meaning(HOME)
        == ""
    )
    told = {
        ElectricityMaps(web, token, accounting=DIRECT).meaning(HOME),
        ElectricityMaps(web, token, regions={HOME: "aws:eu-central-1"}).meaning(HOME),
        WattTime(web, "u", SecretStr("p"), regions={HOME: "CAISO_NORTH"}).meaning(HOME),
        *(
            CarbonAwareSdk(web, url, {HOME: place}, MARGINAL, DIRECT).meaning(HOME)
            for url in ("http://one", "http://two")
            for place in ("westus", "eastus")
        ),
    }
    assert len(told) == 7
    assert "" not in told


def test_another_key_is_another_way_of_asking(path: Path) -> None:
    """And nobody learns the key from what is kept of it."""
    marks = {
        Feed(Signals(), Keys(electricity_maps_token=SecretStr(text)), path)._access(
            ElectricityMaps.name
        )
        for text in ("token-one", "token-two", "token-three", "token-four")
    }
    assert len(marks) >= 3
    assert not any("token" in mark or len(mark) > 7 for mark in marks)


def test_a_refused_key_that_worked_is_asked_too_often(path: Path) -> None:
    """Another process finds in the store that the key has been accepted before."""
    store = Store(path)
    feed = Feed(Signals(), Keys(electricity_maps_token=SecretStr("a-token-of-a-test")), path)

    def worked(now: datetime) -> bool:
        found = feed._introduced(Web(), now)
        return next(one.worked for one in found if isinstance(one, ElectricityMaps))

    assert not worked(NOW)
    store.add(ElectricityMaps.name, [series(HOME)], NOW + MINUTE)
    assert worked(NOW + 2 * MINUTE)


def test_what_is_kept_of_a_provider_without_its_key_goes_too(path: Path) -> None:
    """Terms hold also when it is not asked any more, whatever its numbers mean."""
    store, then = Store(path), NOW - 5 * DAY
    names = (ElectricityMaps.name, f"{ElectricityMaps.name} (direct)")
    for name in names:
        past, ahead = (series(HOME, start=then - DAY, kind=Kind.ACTUAL), series(HOME, start=then))
        store.add(name, [past, ahead], then)
    terms = {ElectricityMaps.name: ElectricityMaps.terms}
    other, needs = StaticProvider([series(HOME)], name="a"), [Need(HOME, ("a",))]
    asyncio.run(refresh(store, [other], needs, now=NOW, until=NOW + DAY, left=terms))
    for name in names:
        assert not store.issues(name, HOME, then - DAY, NOW)
        assert store.actual(name, HOME, then - 2 * DAY, NOW) is None


def test_notes_are_those_of_the_last_time(path: Path) -> None:
    """What did not work once is not said for ever."""
    feed = Feed(Signals.model_validate({"order": ["energy-charts"]}), Keys(), path)
    feed._refreshed = ("the store is busy",)
    assert feed.notes == ("the store is busy",)
    nobody = Signals.model_validate({"order": ["entsoe"]})
    feed.signals = nobody
    asyncio.run(feed.refresh([HOME], now=NOW, until=NOW + DAY, patience=SECOND))
    assert feed.notes == ()


def test_a_transient_fault_of_home_is_not_waited_for_by_others(path: Path) -> None:
    """While home is asked in vain, the other zones have their answers."""
    store = Store(path)
    broken = StaticProvider([series(AWAY)], name="a", error=Transient("a", "did not answer"))
    sound = StaticProvider([series(AWAY)], name="b")
    asyncio.run(asked(store, broken, sound))
    assert store.issues("b", AWAY, NOW - DAY, NOW)


# -- what goes wrong -------------------------------------------------------------------------------


def test_a_hurry_is_no_fault_of_the_provider(path: Path) -> None:
    """Who had no time to wait does not keep others from asking."""
    store, provider = Store(path), Listening([series(HOME)], name="a")
    provider.delay = 0.4
    asyncio.run(asked(store, provider, zones=[HOME], patience=SECOND / 10))
    assert store.failure("a", HOME, "intensity") is None
    asyncio.run(asked(store, provider, zones=[HOME]))
    assert store.issues("a", HOME, NOW - DAY, NOW)


def test_what_has_come_is_kept_while_others_are_waited_for(path: Path) -> None:
    """A process that is killed while one provider hangs has kept what the others said."""
    store = Store(path)
    quick, stuck = (
        StaticProvider([series(HOME)], name="a"),
        StaticProvider([], name="b", hangs=True),
    )
    needs = [Need(HOME, ("a",)), Need(AWAY, ("b",))]

    async def killed() -> None:
        asking = asyncio.create_task(
            refresh(store, [quick, stuck], needs, now=NOW, until=NOW + DAY, patience=30 * SECOND)
        )
        await asyncio.sleep(1.6)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(killed())
    assert Store(path).issues("a", HOME, NOW - DAY, NOW)
    assert store.take_turn(NOW, NOW + SECOND), "the turn was given back"


def grown(path: Path, days: int, until: datetime) -> tuple[Store, IntensitySeries]:
    """Return a store that has learned from so many days, and the actual values of more of them."""
    store = Store(path)
    whole = series(HOME, 24 * (days + 20), start=until - days * DAY, kind=Kind.ACTUAL)
    store.add("a", [whole.within(whole.start, until)], until)
    learn(store, "a", HOME, until)
    return store, whole


@pytest.mark.parametrize("hours", [12, 30, 50, 96])
def test_an_outage_does_not_forget_what_is_usual(path: Path, hours: int) -> None:
    """While actual values fail to come and after they came back, it is as old as it was."""
    store, whole = grown(path, 40, NOW)
    for step in range(0, hours, 6):
        learn(store, "a", HOME, NOW + step * HOUR, anew=False)
    back = NOW + hours * HOUR
    store.add("a", [whole.within(back - 2 * HOUR, back)], back)
    learn(store, "a", HOME, back)
    for step in range(0, 100, 12):
        now = back + step * HOUR
        store.add("a", [whole.within(back, now)] if step else [], now)
        learn(store, "a", HOME, now)
    climate = store.climate("a", HOME)
    assert climate is not None
    assert climate.days >= 40
    assert climate.norm is not None
    assert climate.norm.days >= 38


@pytest.mark.parametrize("ahead", [2, 3, 30, 365])
def test_a_clock_that_is_ahead_once_destroys_nothing(path: Path, ahead: int) -> None:
    """Nothing is pruned by it, and the climate goes on as before."""
    store, whole = grown(path, 40, NOW)
    provider = StaticProvider([whole.within(whole.start, NOW), series(HOME)], name="a")
    asyncio.run(asked(store, provider, zones=[HOME], now=NOW + ahead * DAY))
    provider.series = (whole.within(whole.start, NOW + 3 * HOUR), series(HOME, 52))
    asyncio.run(asked(store, provider, zones=[HOME], now=NOW + 3 * HOUR))
    climate = store.climate("a", HOME)
    assert climate is not None
    assert climate.days >= 38
    assert store.actual("a", HOME, NOW - 30 * DAY, NOW) is not None


def test_what_the_gate_refused_teaches_nothing(path: Path) -> None:
    """A day of lies is not taken for the usual error of weeks."""
    found = []
    for lies in (False, True):
        store, whole = grown(path.with_name(f"{lies}.sqlite"), 40, NOW)
        for hour in range(0, 24 * 18, 3):
            now = NOW + hour * HOUR
            store.add("a", [whole.within(NOW, now)] if hour else [], now)
            told = whole.within(now.replace(minute=0), now.replace(minute=0) + 2 * DAY)
            values = [v * 3.5 if lies and 200 <= hour < 248 and v else v for v in told.values]
            sent = IntensitySeries(HOME, told.starts, told.end, values, "s", kind=Kind.FORECAST)
            store.add("a", [sent], now)
            learn(store, "a", HOME, now, anew=hour % 12 == 0)
        own = store.trust("a", HOME)
        assert own is not None
        found.append(own)
    assert found[1].bias == pytest.approx(found[0].bias, abs=1)
    assert max(found[1].deviation) == pytest.approx(max(found[0].deviation), abs=2)


def test_a_file_that_fails_later_is_left_for_memory(path: Path) -> None:
    """While another process holds the file's lock, the providers are asked all the same."""
    feed = Feed(Signals.model_validate({"order": ["energy-charts"]}), Keys(), path)
    provider = StaticProvider([series(HOME)], name="energy-charts")
    feed._providers = lambda _: iter([provider])  # type: ignore[method-assign,assignment]
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        asyncio.run(feed.refresh([HOME], now=NOW, until=NOW + DAY, patience=9 * SECOND))
        assert provider.asked
        assert feed.store.issues("energy-charts", HOME, NOW - DAY, NOW)
        assert any("busy" in note for note in feed.notes)


def test_actual_values_in_another_unit_teach_nothing(path: Path) -> None:
    """Three days at four times the level widen no range and shift no forecast."""
    store, whole = grown(path, 40, NOW)
    before = store.norm("a", HOME)
    for hour in range(0, 24 * 6, 6):
        now = NOW + hour * HOUR
        past = whole.within(now - 6 * HOUR, now)
        wrong = 20 <= hour < 80
        values = [4 * v if wrong and v is not None else v for v in past.values]
        sent = IntensitySeries(HOME, past.starts, past.end, values, "s", kind=Kind.ACTUAL)
        store.add("a", [sent, series(HOME, start=now)], now)
        learn(store, "a", HOME, now)
    after = store.norm("a", HOME)
    assert before is not None
    assert after is not None
    assert after.most <= before.most * 1.1
    own = store.trust("a", HOME)
    assert own is not None
    assert max(abs(bias) for bias in own.bias) < 60


@pytest.mark.parametrize("slow", [24, 48, 72, 240])
def test_a_clock_that_is_slow_once_destroys_nothing(path: Path, slow: int) -> None:
    """Also where few values are kept: what was learned from more of them stays."""
    store, whole = grown(path, 40, NOW)
    store.prune("a", forecasts=NOW - DAY, actual=NOW - 3 * DAY, scores=NOW - 70 * DAY)
    learn(store, "a", HOME, NOW - slow * HOUR)
    now = NOW + 3 * HOUR
    store.add("a", [whole.within(NOW, now)], now)
    learn(store, "a", HOME, now)
    climate = store.climate("a", HOME)
    assert climate is not None
    assert climate.days >= 38


def test_terms_hold_also_while_nobody_answers(path: Path) -> None:
    """Ten days after its last answer nothing is kept of a provider that allows three."""
    store, terms = Store(path), Terms("x", "y", MINUTE, keep=3 * DAY)
    provider = StaticProvider(
        [series(HOME, 24 * 3, start=NOW - 3 * DAY, kind=Kind.ACTUAL), series(HOME)],
        name="a",
        terms=terms,
    )
    asyncio.run(asked(store, provider, zones=[HOME]))
    provider.error = Transient("a", "down")
    asyncio.run(asked(store, provider, zones=[HOME], now=NOW + 10 * DAY))
    assert store.actual("a", HOME, NOW - 9 * DAY, NOW + 10 * DAY) is None
    assert not store.issues("a", HOME, NOW - DAY, NOW + 10 * DAY)
