"""Learning: what is scored, when, and that nothing later than now is ever looked at."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from carbon import Accounting, IntensitySeries, Kind, Store
from carbon._learn import learn
from carbon._series import regular
from carbon._statistical import statistical

HOUR, MINUTE, DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def grid(moment: datetime) -> float:
    """Return an intensity with a clean noon, and some weather."""
    hours = moment.timestamp() / 3600
    return 400 - 120 * math.sin((hours % 24 - 6) / 12 * math.pi) + 30 * math.sin(hours / 29)


def actual(start: datetime, end: datetime, off: float = 0.0) -> IntensitySeries:
    """Return what the grid has been, hour by hour."""
    starts, stop = regular(start, HOUR, (end - start) // HOUR)
    values = [grid(one) + off for one in starts]
    return IntensitySeries("DE", starts, stop, values, "s", kind=Kind.ACTUAL)


def ahead(
    at: datetime, off: float = 0.0, accounting: Accounting = Accounting.LIFECYCLE
) -> IntensitySeries:
    """Return a forecast of two days that is off by so much."""
    starts, stop = regular(at, HOUR, 48)
    values = [grid(one) + off for one in starts]
    return IntensitySeries(
        "DE", starts, stop, values, "s", kind=Kind.FORECAST, accounting=accounting
    )


def scored(store: Store, method: str = "a") -> list[datetime]:
    """Return what was scored, in order."""
    return sorted(store.scored(method, "DE", NOW - 400 * DAY))


def test_an_issue_is_scored_when_its_hours_are_over() -> None:
    """Not before a day of slack and the job itself have passed; then with its true error."""
    store = Store(None)
    store.add("a", [ahead(NOW, off=-15)], NOW)
    for hours, count in ((28, 0), (30, 1)):
        now = NOW + hours * HOUR
        store.add("a", [actual(NOW - DAY, now)], now)
        learn(store, "a", "DE", now, anew=True)
        assert len(scored(store)) == count
    (score,) = store.scores("a", "DE", NOW)
    assert score.issued_at == NOW
    assert set(score.errors[:28]) == {15.0}
    assert score.chosen == pytest.approx(score.best)


def test_of_many_issues_eight_a_day_are_scored() -> None:
    """Quarter-hourly ones err alike; more of them would cost time and teach nothing."""
    store = Store(None)
    for quarter in range(96):
        store.add("a", [ahead(NOW + quarter * 15 * MINUTE)], NOW + quarter * 15 * MINUTE)
    now = NOW + 2 * DAY + 5 * HOUR
    store.add("a", [actual(NOW, now)], now)
    learn(store, "a", "DE", now)
    assert 8 <= len(scored(store)) <= 9


@pytest.mark.parametrize("every", [HOUR, 7 * HOUR, DAY])
def test_whoever_asks_rarely_learns_too(every: timedelta) -> None:
    """A job that runs once a day is enough to score one issue a day."""
    store, days = Store(None), 8
    for step in range(int(days * DAY / every)):
        now = NOW + every * step
        store.add("a", [ahead(now), actual(now - 7 * DAY, now)], now)
        learn(store, "a", "DE", now)
    assert len({moment.date() for moment in scored(store)}) >= days - 3


def test_revised_values_are_scored_once_more() -> None:
    """Providers revise what was; the last word counts."""
    store = Store(None)
    store.add("a", [ahead(NOW)], NOW)
    for hours, off in ((30, 0.0), (76, 8.0)):
        now = NOW + hours * HOUR
        store.add("a", [actual(NOW, now, off)], now)
        learn(store, "a", "DE", now)
        (score,) = store.scores("a", "DE", NOW)
        assert score.errors[0] == off


def test_nothing_later_than_now_is_looked_at() -> None:
    """With what came later in store the same is learned as without it."""
    found = []
    for later in (False, True):
        store = Store(None)
        store.add("a", [actual(NOW - 40 * DAY, NOW)], NOW)
        for back in range(20 * 8):
            at = NOW - 3 * HOUR * back
            store.add("a", [ahead(at, off=back % 5)], at)
        if later:
            store.add("a", [actual(NOW, NOW + 3 * DAY, off=500)], NOW + 3 * DAY)
            store.add("a", [ahead(NOW + HOUR, off=300)], NOW + HOUR)
        learn(store, "a", "DE", NOW)
        issued = store.issues(statistical("a"), "DE", NOW, NOW)
        found.append(
            (
                store.scores("a", "DE", NOW - 400 * DAY),
                store.scores(statistical("a"), "DE", NOW - 400 * DAY),
                store.trust("a", "DE"),
                store.trust(statistical("a"), "DE"),
                store.norm("a", "DE"),
                [issue.series.values for issue in issued],
            )
        )
    assert found[0] == found[1]
    assert found[0][0], "the provider's issues were scored"
    assert found[0][5], "a statistical forecast was issued"


def test_it_is_done_twice_an_hour_at_most() -> None:
    """Unless it is asked for, or the clock went back."""
    store = Store(None)
    store.add("a", [actual(NOW - 3 * DAY, NOW)], NOW)
    for minutes, anew, at in ((0, False, 0), (29, False, 0), (29, True, 29), (10, False, 10)):
        learn(store, "a", "DE", NOW + minutes * MINUTE, anew=anew)
        assert store.learned_at("a", "DE") == NOW + at * MINUTE


def test_a_forecast_of_another_meaning_is_not_scored() -> None:
    """Direct emissions that were forecast say nothing of lifecycle emissions that came."""
    store = Store(None)
    store.add("a", [ahead(NOW, accounting=Accounting.DIRECT)], NOW)
    now = NOW + 2 * DAY
    store.add("a", [actual(NOW, now)], now)
    learn(store, "a", "DE", now)
    assert not scored(store)


def test_the_statistical_forecast_is_judged_before_it_is_used() -> None:
    """Two months of history give scores for each day after the first two weeks, at once."""
    store = Store(None)
    store.add("a", [actual(NOW - 60 * DAY, NOW)], NOW)
    learn(store, "a", "DE", NOW)
    own = store.trust(statistical("a"), "DE")
    assert own is not None
    assert 40 <= own.days <= 46
    assert own.earned, "a grid with a clean noon every day"
    (issue,) = store.issues(statistical("a"), "DE", NOW, NOW)
    assert issue.series.covers(NOW, NOW + 72 * HOUR)
    assert issue.series.kind is Kind.FORECAST


def test_without_history_nothing_is_made_up() -> None:
    """A few days are no habit: no forecast, and no trust in one."""
    store = Store(None)
    learn(store, "a", "DE", NOW)
    assert store.learned_at("a", "DE") is None
    store.add("a", [actual(NOW - 5 * DAY, NOW)], NOW)
    learn(store, "a", "DE", NOW)
    assert store.trust(statistical("a"), "DE") is None
    assert not store.issues(statistical("a"), "DE", NOW, NOW)
    norm = store.norm("a", "DE")
    assert norm is not None
    assert norm.days == 4, "whole days that are surely over"


def test_what_fails_half_way_leaves_the_store_as_it_was() -> None:
    """Norm, scores, trust and forecast of a zone are kept together."""
    store = Store(None)
    store.add("a", [actual(NOW - 60 * DAY, NOW)], NOW)

    class Stopped(Exception):
        """The process is stopped."""

    def stopped() -> None:
        with store.together():
            learn(store, "a", "DE", NOW)
            raise Stopped

    with pytest.raises(Stopped):
        stopped()
    assert store.norm("a", "DE") is None
    assert not scored(store, statistical("a"))
