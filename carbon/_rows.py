"""Tables and rows of the outlook store: series as blobs of doubles, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from carbon._series import Accounting, IntensitySeries, Kind, PriceSeries, Signal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Columns = tuple[list[datetime], datetime, list[float | None]]

_LEAST_APART: Final = 60.0
"""Seconds between two values below which nothing is missing between them."""


NOT_BELIEVED: Final = "not-believed"
"""Label of an answer that came, and that the quality gate refused."""

VERSION: Final = 4
TABLES: Final = frozenset(
    {"series", "actual", "failure", "score", "norm", "trust", "climate", "provider", "refreshing"}
)
SCHEMA: Final = """
CREATE TABLE series (
  provider TEXT, zone TEXT, what TEXT, kind TEXT, signal TEXT, accounting TEXT, currency TEXT,
  source TEXT, issued_at REAL, fetched_at REAL, confirmed_at REAL, begins REAL, ends REAL,
  digest TEXT, edges BLOB, amounts BLOB);
CREATE INDEX series_newest
  ON series (provider, zone, what, kind, fetched_at, confirmed_at, ends, digest);
CREATE TABLE actual (
  provider TEXT, zone TEXT, signal TEXT, accounting TEXT, source TEXT, begins REAL, ends REAL,
  amount REAL, estimated INTEGER, PRIMARY KEY (provider, zone, signal, accounting, begins)
) WITHOUT ROWID;
CREATE TABLE failure (
  provider TEXT, zone TEXT, what TEXT, label TEXT, told TEXT, until REAL,
  PRIMARY KEY (provider, zone, what));
CREATE TABLE score (
  method TEXT, zone TEXT, issued_at REAL, score TEXT, PRIMARY KEY (method, zone, issued_at));
CREATE TABLE climate (
  provider TEXT, zone TEXT, at REAL, climate TEXT, PRIMARY KEY (provider, zone));
CREATE TABLE trust (method TEXT, zone TEXT, at REAL, trust TEXT, PRIMARY KEY (method, zone));
CREATE TABLE provider (name TEXT PRIMARY KEY, access TEXT, since REAL);
CREATE TABLE refreshing (one INTEGER PRIMARY KEY CHECK (one = 1), until REAL);
"""

OF_PROVIDER: Final = "(provider = :provider OR provider LIKE :provider || ' (%')"
OF_METHOD: Final = "(method = :provider OR method LIKE :provider || ' (%')"
"""All that is kept of a provider or a method, whatever its numbers mean."""

# What was confirmed later than now was so by a clock that is wrong: it counts from when it came.
ISSUES: Final = """
SELECT kind, signal, accounting, source, issued_at, fetched_at, confirmed_at, edges, amounts
FROM (
  SELECT rowid AS place,
    CASE WHEN confirmed_at <= :now THEN confirmed_at ELSE fetched_at END AS heard
  FROM series
  WHERE provider = :provider AND zone = :zone AND what = 'intensity' AND kind = 'forecast'
    AND fetched_at <= :now AND heard >= :since AND ends > :last
  ORDER BY heard DESC, fetched_at DESC LIMIT :most
) JOIN series ON series.rowid = place ORDER BY heard DESC, fetched_at DESC
"""
PRICE: Final = """
SELECT kind, currency, source, issued_at, fetched_at, edges, amounts
FROM (
  SELECT rowid AS place,
    CASE WHEN confirmed_at <= :now THEN confirmed_at ELSE fetched_at END AS heard
  FROM series
  WHERE provider = :provider AND zone = :zone AND what = 'price' AND fetched_at <= :now
  ORDER BY heard DESC, fetched_at DESC LIMIT 1
) JOIN series ON series.rowid = place
"""
CONFIRMED: Final = """
SELECT max(CASE WHEN confirmed_at <= :now THEN confirmed_at ELSE fetched_at END)
FROM series
WHERE provider = :provider AND zone = :zone AND what = :what AND fetched_at <= :now
"""
NEWEST: Final = """
SELECT rowid, digest, confirmed_at
FROM series
WHERE provider = :provider AND zone = :zone AND what = :what AND fetched_at <= :now
ORDER BY fetched_at DESC LIMIT 1
"""
ADD_POINT: Final = (
    "INSERT INTO actual VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " source = excluded.source, ends = excluded.ends, amount = excluded.amount,"
    " estimated = excluded.estimated WHERE excluded.estimated <= actual.estimated"
)
"""An estimate never takes the place of a measured value."""


@dataclass(frozen=True)
class Failure:
    """A question that failed and is not asked again yet.

    Attributes:
        label: Kind of the failure, e.g. ``rate-limited``.
        text: What was wrong.
        until: When it may be asked again.
    """

    label: str
    text: str
    until: datetime

    @property
    def silent(self) -> bool:
        """Whether nothing was heard at all, rather than something that is not believed."""
        return self.label != NOT_BELIEVED

    def told(self, now: datetime) -> str:
        """Say what was wrong and when it is asked again, for it is remembered for a while."""
        today = self.until.date() == now.date()
        moment = f"{self.until:{'%H:%M' if today else '%a %d %b %H:%M'}} UTC"
        # Who is asked by nobody, offline or in a hurry, stays as it was noted.
        when = f"asked again from {moment} on" if self.until > now else f"noted before {moment}"
        return f"{self.text.rstrip('.')}; {when}"


@dataclass(frozen=True)
class Issue:
    """What a provider sent at one time.

    Attributes:
        fetched_at: When it was first sent so; its age counts from here.
        confirmed_at: When the provider last sent the same.
        series: The series, joined, unknown between its pieces.
    """

    fetched_at: datetime
    confirmed_at: datetime
    series: IntensitySeries


def amounts(values: Sequence[float | None]) -> NDArray[np.float64]:
    """Return values as doubles, ``nan`` where one is not known."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def points(provider: str, series: IntensitySeries) -> Iterator[tuple[object, ...]]:
    """Yield a row for each value that is known."""
    estimated = int(series.kind is Kind.ESTIMATED)
    for place, value in enumerate(series.values):
        if value is not None:
            begins, ends = series.edges[place : place + 2].tolist()
            family = (series.signal.value, series.accounting.value)
            yield (provider, series.zone, *family, series.source, begins, ends, value, estimated)


def meaning(series: IntensitySeries | PriceSeries) -> tuple[str, str, str, str]:
    """Return what must be equal before two series may be joined: as four columns."""
    if isinstance(series, PriceSeries):
        return (series.kind.value, "", "", series.currency)
    return (series.kind.value, series.signal.value, series.accounting.value, "")


def issue(zone: str, row: Sequence[Any], now: float) -> Issue:
    """Return an issue out of a row: kind, signal, accounting, source, three times, two blobs.

    Args:
        zone: Grid zone.
        row: The row.
        now: The present moment; that it was confirmed later is not known yet.
    """
    kind, signal, accounting, source, issued_at, fetched_at, confirmed_at, edges, blob = row
    confirmed_at = confirmed_at if confirmed_at <= now else fetched_at
    fetched, confirmed = (datetime.fromtimestamp(at, UTC) for at in (fetched_at, confirmed_at))
    series = IntensitySeries(
        zone,
        *columns(edges, blob),
        source,
        kind=Kind(kind),
        signal=Signal(signal),
        accounting=Accounting(accounting),
        issued_at=moment(issued_at),
        fetched_at=fetched,
    )
    return Issue(fetched, confirmed, series)


def columns(edges: bytes, blob: bytes) -> Columns:
    """Return starts, end and values of a kept series."""
    seconds = np.frombuffer(edges, np.float64).tolist()
    moments = [datetime.fromtimestamp(edge, UTC) for edge in seconds]
    values = np.frombuffer(blob, np.float64).tolist()
    return moments[:-1], moments[-1], [None if math.isnan(value) else value for value in values]


def filled(rows: Sequence[tuple[float, float, float]]) -> Columns:
    """Return starts, end and values of kept points, unknown between those that do not touch."""
    starts: list[float] = []
    values: list[float | None] = []
    end = rows[0][0]
    for begins, ends, amount in rows:
        if begins - end > _LEAST_APART:
            starts.append(end)
            values.append(None)
        starts.append(begins)
        values.append(amount)
        end = max(ends, begins + 1)
    return (
        [datetime.fromtimestamp(one, UTC) for one in starts],
        datetime.fromtimestamp(end, UTC),
        values,
    )


def moment(seconds: float | None) -> datetime | None:
    """Return POSIX seconds as an aware moment."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
