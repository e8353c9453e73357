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
    from carbon._series import IntensitySeries
    from carbon._store import Store

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
    with store.together():
        _keep_norm(store, provider, actual, now)
        for method, scored in (
            (provider, _score_issues(store, provider, zone, actual, now)),
            (statistical(provider), _score_hindcasts(store, provider, zone, actual, now)),
        ):
            if not scored and not anew:
                continue
            found = trust(store.scores(method, zone, now - HISTORY - 2 * _DAY), now)
            if found is not None:
                store.set_trust(method, zone, found, now)
        if now - actual.end > _SILENT:
            return  # nothing new to forecast from: what was issued last grows old, and says so
        try:
            store.add(statistical(provider), [forecast(actual, now, now + _AHEAD)], now)
        except NoSignal:
            return  # too little history: the outlook says that there is none


def _keep_norm(store: Store, provider: str, actual: IntensitySeries, now: datetime) -> None:
    """Keep the range that a zone has been in; few days of it say little, and say how few."""
    lengths = np.diff(actual.edges)
    known = np.array([value is not None for value in actual.values])
    days = float(lengths[known].sum()) / _DAY.total_seconds()
    if not actual.known:
        return
    least, most = (float(value) for value in np.quantile(actual.known, _RANGE))
    before = store.norm(provider, actual.zone)
    # Terms may forbid to keep values for long; what was learned from more of them stays.
    longer = before is not None and before.days > days + 1
    store.set_norm(
        provider, actual.zone, before if before and longer else Norm(least, most, days), now
    )


def _score_issues(
    store: Store, provider: str, zone: str, actual: IntensitySeries, now: datetime
) -> bool:
    """Score the provider's own forecasts, eight a day; tell whether there were any to score.

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
    if scores:
        store.add_scores(provider, zone, scores)
    return bool(scores)


def _turn(hour: datetime) -> datetime:
    """Return the start of the stretch of time of which one issue is scored."""
    return hour - (hour - datetime.min.replace(tzinfo=UTC)) % _APART


def _score_hindcasts(
    store: Store, provider: str, zone: str, actual: IntensitySeries, now: datetime
) -> bool:
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
        return False
    values = hourly(actual, first, full_hour(now))
    if not np.isfinite(values).any():
        return False
    if scores := hindcast(values, first, days):
        store.add_scores(method, zone, scores)
    return bool(scores)
