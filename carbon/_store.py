"""The outlook store: what providers sent, what it was worth, and whom not to ask again yet.

One SQLite file under ``CARBON_HOME``, shared by all processes of a machine, or of a file system
that locks. All of it can be deleted; it is fetched and learned again. Series are kept as arrays of
doubles; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from carbon._asked import Asked
from carbon._database import Database
from carbon._rows import (
    ADD_POINT,
    ISSUES,
    NEWEST,
    OF_METHOD,
    OF_PROVIDER,
    PRICE,
    Issue,
    amounts,
    columns,
    filled,
    issue,
    meaning,
    moment,
    points,
)
from carbon._score import Score
from carbon._series import Accounting, IntensitySeries, Kind, PriceSeries, Signal, joined
from carbon._statistical import Climate
from carbon._trust import Trust

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from carbon._findings import Norm


class Store(Asked):
    """The outlook store.

    Args:
        path: The SQLite file; made, with its folder, when it is not there. ``None`` keeps all in
            memory.

    Raises:
        Unavailable: It cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._db = Database(path)

    @classmethod
    def copied(cls, path: Path) -> Self:
        """Return a store in memory that begins with what can be read of a file."""
        store = cls(None)
        store._db.copy_from(path)
        return store

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def together(self) -> AbstractContextManager[object]:
        """Keep all that is kept inside at once, or nothing of it."""
        return self._db.write()

    # -- what providers sent -------------------------------------------------------------------

    def add(
        self, provider: str, series: Sequence[IntensitySeries] | Sequence[PriceSeries], at: datetime
    ) -> None:
        """Keep what a provider sent for one zone.

        Args:
            provider: Name of the provider.
            series: Its series; actual and estimated values join those that are kept.
            at: When they were fetched.
        """
        if not series:
            return
        rows = [row for one in _estimates_first(series) for row in points(provider, one)]
        ahead = [one for one in series if isinstance(one, PriceSeries) or one.kind is Kind.FORECAST]
        # What cannot be compared cannot be joined: what is like the first one is kept.
        alike = [one for one in ahead if meaning(one) == meaning(ahead[0])]
        whole = joined(alike) if alike else None
        what = "price" if isinstance(series[0], PriceSeries) else "intensity"
        with self._db.write() as db:
            if whole is not None:
                _add_ahead(db, provider, whole, at)
            db.executemany(ADD_POINT, rows)
            db.execute(
                "DELETE FROM failure WHERE provider = ? AND zone = ? AND what = ?",
                (provider, series[0].zone, what),
            )

    def issues(
        self,
        provider: str,
        zone: str,
        since: datetime,
        until: datetime,
        *,
        beyond: datetime | None = None,
        most: int = -1,
    ) -> list[Issue]:
        """Return the forecasts of a zone's intensity that were fetched in a while, newest first.

        Args:
            provider: Name of the provider.
            zone: Grid zone.
            since: Those that were last sent before are left out.
            until: Those that were first sent later are left out.
            beyond: Those that end no later are left out.
            most: How many at most; all by default.
        """
        now, last = until.timestamp(), beyond.timestamp() if beyond else -math.inf
        rows = self._db.read(
            ISSUES,
            {
                "provider": provider,
                "zone": zone,
                "now": now,
                "since": since.timestamp(),
                "last": last,
                "most": most,
            },
        )
        with self._db.told():
            return [issue(zone, row, now) for row in rows]

    def fetched(self, provider: str, zone: str, since: datetime, until: datetime) -> list[datetime]:
        """Return when the forecasts of a zone's intensity were first sent, oldest first."""
        rows = self._db.read(
            "SELECT fetched_at FROM series WHERE provider = ? AND zone = ? AND what = 'intensity'"
            " AND kind = 'forecast' AND fetched_at >= ? AND fetched_at <= ? ORDER BY fetched_at",
            (provider, zone, since.timestamp(), until.timestamp()),
        )
        return [datetime.fromtimestamp(at, UTC) for (at,) in rows]

    def price(self, provider: str, zone: str, at: datetime) -> PriceSeries | None:
        """Return the newest price that a provider has sent for a zone by then."""
        rows = self._db.read(
            PRICE,
            {"provider": provider, "zone": zone, "now": at.timestamp()},
        )
        if not rows:
            return None
        kind, currency, source, issued_at, fetched_at, edges, blob = rows[0]
        with self._db.told():
            return PriceSeries(
                zone,
                *columns(edges, blob),
                source,
                kind=Kind(kind),
                currency=currency,
                issued_at=moment(issued_at),
                fetched_at=moment(fetched_at),
            )

    def actual(
        self, provider: str, zone: str, start: datetime, end: datetime
    ) -> IntensitySeries | None:
        """Return what a zone's intensity has been, unknown where no value is kept.

        Of several signals or accountings the one that was kept last is returned.
        """
        rows = self._db.read(
            "SELECT signal, accounting, source, begins, ends, amount FROM actual"
            " WHERE provider = ? AND zone = ? AND begins >= ? AND begins < ? ORDER BY begins",
            (provider, zone, start.timestamp(), end.timestamp()),
        )
        if not rows:
            return None
        signal, accounting, source = rows[-1][:3]
        alike = [row[3:] for row in rows if row[:2] == (signal, accounting)]
        with self._db.told():
            return IntensitySeries(
                zone,
                *filled(alike),
                source,
                kind=Kind.ACTUAL,
                signal=Signal(signal),
                accounting=Accounting(accounting),
            )

    def known_until(self, provider: str, zone: str, now: datetime) -> datetime | None:
        """Return until when actual values are kept; ``None`` where there are none."""
        rows = self._db.read(
            "SELECT max(ends) FROM actual WHERE provider = ? AND zone = ? AND begins < ?",
            (provider, zone, now.timestamp()),
        )
        return moment(rows[0][0])

    # -- what it was worth ---------------------------------------------------------------------

    def add_scores(self, method: str, zone: str, scores: Sequence[Score]) -> None:
        """Keep scores; one for the same moment is replaced."""
        with self._db.write() as db:
            db.executemany(
                "INSERT OR REPLACE INTO score VALUES (?, ?, ?, ?)",
                [
                    (method, zone, one.issued_at.timestamp(), one.model_dump_json())
                    for one in scores
                ],
            )

    def scores(self, method: str, zone: str, since: datetime) -> list[Score]:
        """Return the scores of a method in a zone, oldest first."""
        rows = self._db.read(
            "SELECT score FROM score WHERE method = ? AND zone = ? AND issued_at >= ?"
            " ORDER BY issued_at",
            (method, zone, since.timestamp()),
        )
        return [one for (text,) in rows if (one := _parsed(_SCORE, text))]

    def scored(self, method: str, zone: str, since: datetime) -> set[datetime]:
        """Return the moments for which there are scores."""
        rows = self._db.read(
            "SELECT issued_at FROM score WHERE method = ? AND zone = ? AND issued_at >= ?",
            (method, zone, since.timestamp()),
        )
        return {datetime.fromtimestamp(at, UTC) for (at,) in rows}

    def set_trust(self, method: str, zone: str, value: Trust, at: datetime) -> None:
        """Keep what the scores say."""
        with self._db.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO trust VALUES (?, ?, ?, ?)",
                (method, zone, at.timestamp(), value.model_dump_json()),
            )

    def learned_at(self, provider: str, zone: str) -> datetime | None:
        """Return when it was last learned what is usual in a zone."""
        rows = self._db.read(
            "SELECT at FROM climate WHERE provider = ? AND zone = ?", (provider, zone)
        )
        return moment(rows[0][0]) if rows else None

    def trust(self, method: str, zone: str) -> Trust | None:
        """Return what the scores of a method in a zone say; ``None`` without any."""
        rows = self._db.read(
            "SELECT trust FROM trust WHERE method = ? AND zone = ?", (method, zone)
        )
        return _parsed(_TRUST, rows[0][0]) if rows else None

    def set_climate(self, provider: str, zone: str, climate: Climate, at: datetime) -> None:
        """Keep what is usual in a zone."""
        with self._db.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO climate VALUES (?, ?, ?, ?)",
                (provider, zone, at.timestamp(), climate.model_dump_json()),
            )

    def climate(self, provider: str, zone: str) -> Climate | None:
        """Return what is usual in a zone; ``None`` where it is not known yet."""
        rows = self._db.read(
            "SELECT climate FROM climate WHERE provider = ? AND zone = ?", (provider, zone)
        )
        return _parsed(_CLIMATE, rows[0][0]) if rows else None

    def norm(self, provider: str, zone: str) -> Norm | None:
        """Return the range that a zone has been in; ``None`` where it is not known yet."""
        climate = self.climate(provider, zone)
        return climate.norm if climate else None

    # -- housekeeping --------------------------------------------------------------------------

    def prune(
        self, provider: str, *, forecasts: datetime, actual: datetime, scores: datetime
    ) -> None:
        """Forget what a provider sent.

        Args:
            provider: Name of the provider; whatever its numbers mean.
            forecasts: Forecasts and prices that were last sent before this are forgotten.
            actual: Actual values from before this are forgotten.
            scores: Scores of issues from before this are forgotten.
        """
        limits = {
            "provider": provider,
            "forecasts": forecasts.timestamp(),
            "actual": actual.timestamp(),
            "scores": scores.timestamp(),
        }
        with self._db.write() as db:
            for statement in (
                f"DELETE FROM series WHERE {OF_PROVIDER} AND confirmed_at < :forecasts",  # noqa: S608 - a constant
                f"DELETE FROM actual WHERE {OF_PROVIDER} AND ends < :actual",  # noqa: S608 - a constant
                f"DELETE FROM score WHERE {OF_METHOD} AND issued_at < :scores",  # noqa: S608 - a constant
            ):
                db.execute(statement, limits)


def _add_ahead(
    db: sqlite3.Connection, provider: str, series: IntensitySeries | PriceSeries, at: datetime
) -> None:
    """Keep a forecast, or that it was sent once more."""
    edges, blob = series.edges.tobytes(), amounts(series.values).tobytes()
    said = (series.zone, *meaning(series), series.source)
    digest = hashlib.sha256(edges + blob + "|".join(said).encode()).hexdigest()
    what = "price" if isinstance(series, PriceSeries) else "intensity"
    issued_at = series.issued_at.timestamp() if series.issued_at else None
    now = at.timestamp()
    newest = db.execute(
        NEWEST,
        {"provider": provider, "zone": series.zone, "what": what, "now": now},
    ).fetchone()
    # What was confirmed later than now was so by a clock that is wrong, or by a quicker process.
    if newest and newest[1] == digest and newest[2] <= now:
        db.execute("UPDATE series SET confirmed_at = ? WHERE rowid = ?", (now, newest[0]))
        return
    row = (provider, series.zone, what, *meaning(series), series.source, issued_at, now, now)
    times = (series.start.timestamp(), series.end.timestamp())
    db.execute(
        "INSERT INTO series VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*row, *times, digest, edges, blob),
    )


def _estimates_first(
    series: Sequence[IntensitySeries] | Sequence[PriceSeries],
) -> list[IntensitySeries]:
    past = [
        one for one in series if isinstance(one, IntensitySeries) and one.kind is not Kind.FORECAST
    ]
    return sorted(past, key=lambda one: one.kind is not Kind.ESTIMATED)


_SCORE, _TRUST, _CLIMATE = TypeAdapter(Score), TypeAdapter(Trust), TypeAdapter(Climate)
_T = TypeVar("_T")


def _parsed(shape: TypeAdapter[_T], text: str) -> _T | None:
    """Return what was kept; ``None`` for what an older version wrote in another shape."""
    try:
        return shape.validate_json(text)
    except ValidationError:
        return None
