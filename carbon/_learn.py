"""Learning: scores of what was forecast, against what came, and the trust that follows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from carbon._quality import inspect, sound
from carbon._score import JOB, SLACK, hindcast, hour_after, score_series
from carbon._series import Kind
from carbon._statistical import (
    DAY,
    HISTORY,
    HOUR,
    HOURS,
    Climate,
    forecast,
    hourly,
    midnight,
    statistical,
)
from carbon._trust import trust

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carbon._score import Score
    from carbon._series import IntensitySeries
    from carbon._store import Store
    from carbon._trust import Trust

_AHEAD: Final = timedelta(hours=72)
EVERY: Final = timedelta(minutes=30)
"""How often at most it is learned: nothing that it looks at changes faster."""

_SILENT: Final = timedelta(hours=6)

_REVISED: Final = 2 * DAY
"""How long providers revise actual values, at most."""

_APART: Final = timedelta(hours=3)
"""Neighbouring issues err alike: more of them a day would teach no more."""

_OVER: Final = SLACK + JOB + HOUR
"""After this time the reference job of an issue is over wherever it was put."""


@dataclass(frozen=True)
class Lesson:
    """What was learned of one provider in one zone.

    Attributes:
        provider: Name of the provider.
        zone: Grid zone.
        now: When.
        climate: What is usual there.
        scores: New scores, by method.
        trusts: What old and new scores say together, by method.
        ahead: A statistical forecast; ``None`` where there is none.
    """

    provider: str
    zone: str
    now: datetime
    climate: Climate
    scores: Mapping[str, Sequence[Score]]
    trusts: Mapping[str, Trust]
    ahead: IntensitySeries | None

    def keep(self, store: Store) -> None:
        """Put it into the store; quick, for whoever else wants to write waits for it.

        Raises:
            Unavailable: The store cannot be used.
        """
        with store.together():
            store.set_climate(self.provider, self.zone, self.climate, self.now)
            for method, new in self.scores.items():
                store.add_scores(method, self.zone, new)
            for method, found in self.trusts.items():
                store.set_trust(method, self.zone, found, self.now)
            store.add(statistical(self.provider), [self.ahead] if self.ahead else [], self.now)


def learn(store: Store, provider: str, zone: str, now: datetime, *, anew: bool = False) -> None:
    """Learn what can be learned by now, and keep it; see :func:`study`."""
    lesson = study(store, provider, zone, now, anew=anew)
    if lesson is not None:
        lesson.keep(store)


def study(
    store: Store,
    provider: str,
    zone: str,
    now: datetime,
    *,
    anew: bool = False,
    private: bool = False,
) -> Lesson | None:
    """Score what can be scored by now, renew the trust, and issue a statistical forecast.

    Done at most twice an hour: nothing that it looks at changes faster.

    Args:
        store: Where all of it is; nothing is written, see :meth:`Lesson.keep`.
        provider: Name of the provider.
        zone: Grid zone.
        now: The present moment; nothing later is looked at.
        anew: Do it even if it was just done, and from the start if more of the past is known now.
        private: Whether terms forbid to keep the provider's numbers for long. Then nothing is kept
            out of which its forecasts could be made again, and less is learned from them.

    Returns:
        What was learned; ``None`` where there is nothing to learn from, or it was just done.

    Raises:
        Unavailable: The store cannot be used.
    """
    before = store.learned_at(provider, zone)
    if not anew and before is not None and timedelta(0) <= now - before < EVERY:
        return None
    known = _up_to_date(store, provider, zone, now, anew=anew)
    if known is None:
        return None
    climate, actual, hindcasts = known
    scores = {
        provider: _score_issues(
            store, provider, zone, actual, now, climate=climate, private=private
        ),
        statistical(provider): hindcasts,
    }
    trusts = {
        method: found
        for method, new in scores.items()
        if (new or anew)
        and (found := _trust(store, method, zone, new, now, climate=climate)) is not None
    }
    # What was issued last grows old when the feed falls silent, and says so.
    silent = now - actual.end > _SILENT
    ahead = None if silent else forecast(climate, actual, now, now + _AHEAD)
    return Lesson(provider, zone, now, climate, scores, trusts, ahead)


def _up_to_date(
    store: Store, provider: str, zone: str, now: datetime, *, anew: bool
) -> tuple[Climate, IntensitySeries, list[Score]] | None:
    """Return the climate of by now, what was of late, and scores of the days that were folded in.

    Returns:
        ``None`` where nothing is known of what was, or less than the kept climate knows.
    """
    old = store.climate(provider, zone)
    if old is not None and now < old.until:
        return None  # the clock was, or is, wrong
    actual = _actual(store, provider, zone, now, old, whole=anew)
    climate = old
    if old is not None and actual is not None and not _goes_on(old, actual, anew=anew):
        climate, actual = None, _actual(store, provider, zone, now, old, whole=True)
    if actual is None:
        return None
    if climate is None:
        climate = Climate(
            until=midnight(actual.start), signal=actual.signal, accounting=actual.accounting
        )
    climate, hindcasts = _lived(climate, actual, now)
    if old is not None and _knows_more(old, climate, actual):
        return None  # of what was learned before the values are gone by now
    return climate, actual, hindcasts


def _actual(
    store: Store,
    provider: str,
    zone: str,
    now: datetime,
    climate: Climate | None,
    *,
    whole: bool,
) -> IntensitySeries | None:
    """Return what has to be looked at of what was: all of it where no climate knows of it."""
    since = now - HISTORY - DAY
    if climate is not None and not whole:
        since = max(since, min(climate.until - DAY, now - _OVER - _REVISED - DAY))
    actual = store.actual(provider, zone, since, now)
    if actual is None:
        return None
    # What a provider says of the past is no more sacred than what it says of the future.
    actual = sound(actual, climate.norm if climate is not None else None)
    return actual if actual.known else None


def _goes_on(climate: Climate, actual: IntensitySeries, *, anew: bool) -> bool:
    """Tell whether a climate can be gone on with.

    Not after a long silence, nor with numbers of another meaning, nor after the clock went back,
    nor where more is known of the past than went into it.
    """
    if (climate.signal, climate.accounting) != (actual.signal, actual.accounting):
        return False
    if climate.until > actual.end or actual.end - climate.until > HISTORY:
        return False
    return not (anew and midnight(actual.start) < climate.began)


def _knows_more(old: Climate, new: Climate, actual: IntensitySeries) -> bool:
    """Tell whether an older climate of the same meaning is better than one that begins anew."""
    same = (old.signal, old.accounting) == (new.signal, new.accounting)
    return same and new.days < old.days and actual.end - old.until <= HISTORY


def _lived(climate: Climate, actual: IntensitySeries, now: datetime) -> tuple[Climate, list[Score]]:
    """Fold in the days that are surely over, and score what would have been forecast on each."""
    # Not beyond what is known: a feed that is late is no day without values.
    values = hourly(actual, climate.until, midnight(min(now, actual.end)))
    scores: list[Score] = []
    for first in range(0, len(values) - 2 * HOURS + 1, HOURS):
        scores += hindcast(climate, values[first : first + 2 * HOURS])
        climate = climate.folded(values[first : first + HOURS])
    return climate, scores


def _trust(
    store: Store,
    method: str,
    zone: str,
    new: Sequence[Score],
    now: datetime,
    *,
    climate: Climate,
) -> Trust | None:
    """Return what old and new scores say together."""
    old = store.scores(method, zone, now - HISTORY - 2 * DAY)
    scores = {one.issued_at: one for one in (*old, *new)}
    return trust([scores[moment] for moment in sorted(scores)], now, climate.usual)


def _score_issues(
    store: Store,
    provider: str,
    zone: str,
    actual: IntensitySeries,
    now: datetime,
    *,
    climate: Climate,
    private: bool,
) -> list[Score]:
    """Score the provider's own forecasts, eight a day, as far as the quality gate believes them.

    Each is scored when its hours are over, and once more at the end, for actual values are revised.
    """
    over, scores = now - _OVER, []
    norm, usual = climate.norm, None if private else climate.usual
    known = {_turn(hour) for hour in store.scored(provider, zone, over - _REVISED - _APART)}
    seen: set[datetime] = set()
    for fetched_at in store.fetched(provider, zone, over - _REVISED, over):
        turn = _turn(hour_after(fetched_at))
        if turn in seen or (turn in known and fetched_at > over - _REVISED + _APART):
            continue
        seen.add(turn)
        for issue in store.issues(provider, zone, fetched_at, fetched_at, most=1):
            ahead = inspect(issue.series, now=fetched_at, asked=issue.series.end, norm=norm).series
            if ahead is None or ahead.family != (actual.signal, actual.accounting, Kind.FORECAST):
                continue
            if made := score_series(ahead, actual, fetched_at, usual):
                scores.append(made)
    return scores


def _turn(hour: datetime) -> datetime:
    """Return the start of the stretch of time of which one issue is scored."""
    return hour - (hour - datetime.min.replace(tzinfo=UTC)) % _APART
