"""Learning: scores of what was forecast, against what came, and the trust that follows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._errors import NoSignal
from carbon._findings import Norm
from carbon._quality import sound
from carbon._series import Kind
from carbon._statistical import HISTORY, HOUR, forecast, full_hour, hourly
from carbon._trust import JOB, SLACK, hindcast, hour_after, score_series, trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon._series import IntensitySeries
    from carbon._store import Store
    from carbon._trust import Score, Trust

_DAY: Final = timedelta(days=1)
_AHEAD: Final = timedelta(hours=72)
_EVERY: Final = timedelta(minutes=30)
_SILENT: Final = timedelta(hours=6)
_RANGE: Final = (0.002, 0.998)
"""Quantiles that are taken for the range of a zone: a single wild value is none of it."""

_REVISED: Final = 2 * _DAY
"""How long providers revise actual values, at most."""

_APART: Final = timedelta(hours=3)
"""Neighbouring issues err alike: more of them a day would teach no more."""

_OVER: Final = SLACK + JOB + HOUR
"""After this time the reference job of an issue is over wherever it was put."""


def statistical(provider: str) -> str:
    """Return the name under which the statistical forecast from a provider's values is kept."""
    return f"statistical/{provider}"


def learn(store: Store, provider: str, zone: str, now: datetime, *, anew: bool = False) -> None:
    """Score what can be scored by now, renew the trust, and issue a statistical forecast.

    Done at most twice an hour: nothing that it looks at changes faster.

    Args:
        store: Where all of it is kept.
        provider: Name of the provider.
        zone: Grid zone.
        now: The present moment; nothing later is looked at.
        anew: Do it even if it was just done.

    Raises:
        Unavailable: The store cannot be used.
    """
    before = store.learned_at(provider, zone)
    if not anew and before is not None and timedelta(0) <= now - before < _EVERY:
        return
    actual = store.actual(provider, zone, now - HISTORY - _DAY, now)
    if actual is None:
        return
    # What a provider says of the past is no more sacred than what it says of the future.
    actual = sound(actual)
    if not actual.known:
        return
    norm = _norm(store, provider, actual)
    scores = {
        provider: _score_issues(store, provider, zone, actual, now),
        statistical(provider): _score_hindcasts(store, provider, zone, actual, now),
    }
    trusts = {
        method: _trust(store, method, zone, new, now)
        for method, new in scores.items()
        if new or anew
    }
    ahead = _forecast(actual, now)
    with store.together():  # short: whoever else wants to write waits for it
        store.set_norm(provider, zone, norm, now)
        for method, found in trusts.items():
            store.add_scores(method, zone, scores[method])
            if found is not None:
                store.set_trust(method, zone, found, now)
        store.add(statistical(provider), ahead, now)


def _norm(store: Store, provider: str, actual: IntensitySeries) -> Norm:
    """Return the range that a zone has been in; few days of it say little, and say how few."""
    lengths = np.diff(actual.edges)
    known = np.array([value is not None for value in actual.values])
    days = float(lengths[known].sum()) / _DAY.total_seconds()
    least, most = (float(value) for value in np.quantile(actual.known, _RANGE))
    before = store.norm(provider, actual.zone)
    # Terms may forbid to keep values for long; what was learned from more of them stays.
    return before if before is not None and before.days > days + 1 else Norm(least, most, days)


def _trust(
    store: Store, method: str, zone: str, new: Sequence[Score], now: datetime
) -> Trust | None:
    """Return what old and new scores say together."""
    old = store.scores(method, zone, now - HISTORY - 2 * _DAY)
    scores = {one.issued_at: one for one in (*old, *new)}
    return trust([scores[moment] for moment in sorted(scores)], now)


def _forecast(actual: IntensitySeries, now: datetime) -> list[IntensitySeries]:
    """Return a statistical forecast, if there is enough and recent history to make one from."""
    if now - actual.end > _SILENT:
        return []  # what was issued last grows old, and says so
    try:
        return [forecast(actual, now, now + _AHEAD)]
    except NoSignal:
        return []  # the outlook says that there is none


def _score_issues(
    store: Store, provider: str, zone: str, actual: IntensitySeries, now: datetime
) -> list[Score]:
    """Score the provider's own forecasts, eight a day.

    Each is scored when its hours are over, and once more at the end, for actual values are revised.
    """
    over, scores = now - _OVER, []
    known = {_turn(hour) for hour in store.scored(provider, zone, over - _REVISED - _APART)}
    seen: set[datetime] = set()
    for fetched_at in store.fetched(provider, zone, over - _REVISED, over):
        turn = _turn(hour_after(fetched_at))
        if turn in seen or (turn in known and fetched_at > over - _REVISED + _APART):
            continue
        seen.add(turn)
        for issue in store.issues(provider, zone, fetched_at, fetched_at, most=1):
            alike = issue.series.family == (actual.signal, actual.accounting, Kind.FORECAST)
            if alike and (made := score_series(issue.series, actual, fetched_at)):
                scores.append(made)
    return scores


def _turn(hour: datetime) -> datetime:
    """Return the start of the stretch of time of which one issue is scored."""
    return hour - (hour - datetime.min.replace(tzinfo=UTC)) % _APART


def _score_hindcasts(
    store: Store, provider: str, zone: str, actual: IntensitySeries, now: datetime
) -> list[Score]:
    """Score the statistical forecast for the days that are over and were not scored yet."""
    method = statistical(provider)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight - HISTORY - _DAY
    known = {moment.date() for moment in store.scored(method, zone, first)}
    days = [
        day
        for day in range((midnight - first) // _DAY - 1)
        if (first + _DAY * day).date() not in known
    ]
    if not days:
        return []
    values = hourly(actual, first, full_hour(now))
    return hindcast(values, first, days) if np.isfinite(values).any() else []
