"""Learning: scores of what was forecast, against what came, and the trust that follows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._errors import NoSignal
from carbon._findings import Norm
from carbon._quality import sound
from carbon._series import Kind
from carbon._statistical import HISTORY, HOUR, forecast, full_hour, hourly
from carbon._trust import JOB, SLACK, hindcast, score_series, trust

if TYPE_CHECKING:
    from carbon._series import IntensitySeries
    from carbon._store import Store

_DAY: Final = timedelta(days=1)
_AHEAD: Final = timedelta(hours=72)
_EVERY: Final = timedelta(minutes=30)
_SILENT: Final = timedelta(hours=6)
_RANGE: Final = (0.002, 0.998)
"""Quantiles that are taken for the range of a zone: a single wild value is none of it."""

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
    _keep_norm(store, provider, actual, now)
    _score_issues(store, provider, zone, actual, now)
    _score_hindcasts(store, provider, zone, actual, now)
    for method in (provider, statistical(provider)):
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
) -> None:
    """Score the provider's own forecasts, one an hour, again while actual values are revised."""
    scores, seen = [], set()
    for issue in store.issues(provider, zone, now - _OVER - 2 * _DAY, now - _OVER):
        hour = full_hour(issue.fetched_at)
        alike = issue.series.family == (actual.signal, actual.accounting, Kind.FORECAST)
        if hour in seen or not alike:
            continue
        seen.add(hour)
        if made := score_series(issue.series, actual, issue.fetched_at):
            scores.append(made)
    if scores:
        store.add_scores(provider, zone, scores)


def _score_hindcasts(
    store: Store, provider: str, zone: str, actual: IntensitySeries, now: datetime
) -> None:
    """Score the statistical forecast for the days that are over and were not scored yet."""
    method = statistical(provider)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight - HISTORY - _DAY
    known = {one.issued_at.date() for one in store.scores(method, zone, first)}
    days = [
        day
        for day in range((midnight - first) // _DAY - 1)
        if (first + _DAY * day).date() not in known
    ]
    if not days:
        return
    values = hourly(actual, first, full_hour(now))
    if not np.isfinite(values).any():
        return
    if scores := hindcast(values, first, days):
        store.add_scores(method, zone, scores)
