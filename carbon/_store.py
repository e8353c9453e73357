"""The outlook store: what providers sent, what it was worth, and whom not to ask again yet.

One SQLite file under ``CARBON_HOME``, shared by all processes of a machine, or of a file system
that locks. All of it can be deleted; it is fetched and learned again. Series are kept as arrays of
doubles; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from carbon._errors import CarbonAwareError, Unavailable
from carbon._findings import Norm
from carbon._rows import (
    SCHEMA,
    VERSION,
    Failure,
    Issue,
    amounts,
    columns,
    filled,
    issue,
    moment,
    points,
)
from carbon._series import Accounting, IntensitySeries, Kind, PriceSeries, Signal, joined
from carbon._trust import Score, Trust

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_BUSY_SECONDS: Final = 1.0


class Store:
    """The outlook store.

    Args:
        path: The SQLite file; made, with its folder, when it is not there. ``None`` keeps all in
            memory.

    Raises:
        Unavailable: It cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        with _told(path):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", timeout=_BUSY_SECONDS)
            if self._version() != VERSION:
                self._make()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _make(self) -> None:
        """Make the tables, once, whoever comes first; those of another version go."""
        with self._write() as db:
            if self._version() == VERSION:
                return
            tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in tables:
                db.execute(f'DROP TABLE "{name}"')
            for statement in filter(str.strip, SCHEMA.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with _told(self.path), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db

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
        currency = next((one.currency for one in series if isinstance(one, PriceSeries)), "")
        # Of prices in several currencies those in the first one are kept: they cannot be joined.
        ahead = [
            one
            for one in series
            if (isinstance(one, PriceSeries) and one.currency == currency)
            or (isinstance(one, IntensitySeries) and one.kind is Kind.FORECAST)
        ]
        past = [
            one
            for one in series
            if isinstance(one, IntensitySeries) and one.kind is not Kind.FORECAST
        ]
        with self._write() as db:
            if ahead:
                self._add_ahead(db, provider, joined(ahead), at)
            for one in past:
                db.executemany(
                    "INSERT OR REPLACE INTO actual VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    points(provider, one),
                )
            what = "price" if isinstance(series[0], PriceSeries) else "intensity"
            db.execute(
                "DELETE FROM failure WHERE provider = ? AND zone = ? AND what = ?",
                (provider, series[0].zone, what),
            )

    def _add_ahead(
        self,
        db: sqlite3.Connection,
        provider: str,
        series: IntensitySeries | PriceSeries,
        at: datetime,
    ) -> None:
        edges, blob = series.edges, amounts(series.values)
        digest = hashlib.sha256(edges.tobytes() + blob.tobytes()).hexdigest()
        intensity = isinstance(series, IntensitySeries)
        what = "intensity" if intensity else "price"
        newest = db.execute(
            "SELECT rowid, digest FROM series WHERE provider = ? AND zone = ? AND what = ?"
            " AND kind = ? ORDER BY fetched_at DESC LIMIT 1",
            (provider, series.zone, what, series.kind.value),
        ).fetchone()
        if newest and newest[1] == digest:
            db.execute(
                "UPDATE series SET confirmed_at = max(confirmed_at, ?) WHERE rowid = ?",
                (at.timestamp(), newest[0]),
            )
            return
        db.execute(
            "INSERT INTO series VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                provider,
                series.zone,
                what,
                series.kind.value,
                series.signal.value if isinstance(series, IntensitySeries) else "",
                series.accounting.value if isinstance(series, IntensitySeries) else "",
                series.currency if isinstance(series, PriceSeries) else "",
                series.source,
                series.issued_at.timestamp() if series.issued_at else None,
                at.timestamp(),
                at.timestamp(),
                series.start.timestamp(),
                series.end.timestamp(),
                digest,
                edges.tobytes(),
                blob.tobytes(),
            ),
        )

    def issues(
        self, provider: str, zone: str, since: datetime, until: datetime, *, most: int = -1
    ) -> list[Issue]:
        """Return the forecasts of a zone's intensity that were fetched in a while, newest first.

        Args:
            provider: Name of the provider.
            zone: Grid zone.
            since: Those that were last sent before are left out.
            until: Those that were first sent later are left out.
            most: How many at most; all by default.
        """
        rows = self._read(
            "SELECT kind, signal, accounting, source, issued_at, fetched_at, confirmed_at, edges,"
            " amounts FROM series WHERE provider = ? AND zone = ? AND what = 'intensity'"
            " AND kind = 'forecast' AND fetched_at <= ? AND confirmed_at >= ?"
            " ORDER BY fetched_at DESC LIMIT ?",
            (provider, zone, until.timestamp(), since.timestamp(), most),
        )
        with _told(self.path):
            return [issue(zone, row) for row in rows]

    def price(self, provider: str, zone: str, at: datetime) -> PriceSeries | None:
        """Return the newest price that a provider has sent for a zone by then."""
        rows = self._read(
            "SELECT kind, currency, source, issued_at, confirmed_at, edges, amounts FROM series"
            " WHERE provider = ? AND zone = ? AND what = 'price' AND fetched_at <= ?"
            " ORDER BY fetched_at DESC LIMIT 1",
            (provider, zone, at.timestamp()),
        )
        if not rows:
            return None
        kind, currency, source, issued_at, confirmed_at, edges, blob = rows[0]
        with _told(self.path):
            return PriceSeries(
                zone,
                *columns(edges, blob),
                source,
                kind=Kind(kind),
                currency=currency,
                issued_at=moment(issued_at),
                fetched_at=moment(confirmed_at),
            )

    def actual(
        self, provider: str, zone: str, start: datetime, end: datetime
    ) -> IntensitySeries | None:
        """Return what a zone's intensity has been, unknown where no value is kept.

        Of several signals or accountings the one that was kept last is returned.
        """
        rows = self._read(
            "SELECT signal, accounting, source, begins, ends, amount FROM actual"
            " WHERE provider = ? AND zone = ? AND begins >= ? AND begins < ? ORDER BY begins",
            (provider, zone, start.timestamp(), end.timestamp()),
        )
        if not rows:
            return None
        family = rows[-1][:3]
        rows = [row for row in rows if row[:2] == family[:2]]
        signal, accounting, source = family
        return IntensitySeries(
            zone,
            *filled([row[3:] for row in rows]),
            source,
            kind=Kind.ACTUAL,
            signal=Signal(signal),
            accounting=Accounting(accounting),
        )

    # -- whom not to ask again yet -------------------------------------------------------------

    def confirmed(self, provider: str, zone: str, what: str) -> datetime | None:
        """Return when a provider last answered for a zone."""
        rows = self._read(
            "SELECT max(confirmed_at) FROM series WHERE provider = ? AND zone = ? AND what = ?",
            (provider, zone, what),
        )
        return moment(rows[0][0])

    def fail(self, provider: str, zone: str, what: str, failure: Failure) -> None:
        """Keep that a question failed."""
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO failure VALUES (?, ?, ?, ?, ?, ?)",
                (provider, zone, what, failure.label, failure.text, failure.until.timestamp()),
            )

    def failure(self, provider: str, zone: str, what: str) -> Failure | None:
        """Return how a question failed last; ``None`` when it did not."""
        rows = self._read(
            "SELECT label, told, until FROM failure WHERE provider = ? AND zone = ? AND what = ?",
            (provider, zone, what),
        )
        if not rows:
            return None
        label, text, until = rows[0]
        return Failure(label, text, datetime.fromtimestamp(until, UTC))

    # -- what it was worth ---------------------------------------------------------------------

    def add_scores(self, method: str, zone: str, scores: Sequence[Score]) -> None:
        """Keep scores; one for the same moment is replaced."""
        with self._write() as db:
            db.executemany(
                "INSERT OR REPLACE INTO score VALUES (?, ?, ?, ?)",
                [
                    (method, zone, one.issued_at.timestamp(), one.model_dump_json())
                    for one in scores
                ],
            )

    def scores(self, method: str, zone: str, since: datetime) -> list[Score]:
        """Return the scores of a method in a zone, oldest first."""
        rows = self._read(
            "SELECT score FROM score WHERE method = ? AND zone = ? AND issued_at >= ?"
            " ORDER BY issued_at",
            (method, zone, since.timestamp()),
        )
        return [one for (text,) in rows if (one := _parsed(_SCORE, text))]

    def set_trust(self, method: str, zone: str, value: Trust, at: datetime) -> None:
        """Keep what the scores say."""
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO trust VALUES (?, ?, ?, ?)",
                (method, zone, at.timestamp(), value.model_dump_json()),
            )

    def learned_at(self, provider: str, zone: str) -> datetime | None:
        """Return when the range of a zone's intensity was last looked at."""
        rows = self._read("SELECT at FROM norm WHERE provider = ? AND zone = ?", (provider, zone))
        return moment(rows[0][0]) if rows else None

    def trust(self, method: str, zone: str) -> Trust | None:
        """Return what the scores of a method in a zone say; ``None`` without any."""
        rows = self._read("SELECT trust FROM trust WHERE method = ? AND zone = ?", (method, zone))
        return _parsed(_TRUST, rows[0][0]) if rows else None

    def set_norm(self, provider: str, zone: str, norm: Norm, at: datetime) -> None:
        """Keep what a zone's intensity has been."""
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO norm VALUES (?, ?, ?, ?, ?, ?)",
                (provider, zone, at.timestamp(), norm.least, norm.most, norm.days),
            )

    def norm(self, provider: str, zone: str) -> Norm | None:
        """Return what a zone's intensity has been; ``None`` where it is not known yet."""
        rows = self._read(
            "SELECT least, most, days FROM norm WHERE provider = ? AND zone = ?", (provider, zone)
        )
        return Norm(*rows[0]) if rows else None

    # -- housekeeping --------------------------------------------------------------------------

    def prune(
        self, provider: str, *, forecasts: datetime, actual: datetime, scores: datetime
    ) -> None:
        """Forget what a provider sent.

        Args:
            provider: Name of the provider.
            forecasts: Forecasts and prices that were last sent before this are forgotten.
            actual: Actual values from before this are forgotten.
            scores: Scores of issues from before this are forgotten.
        """
        with self._write() as db:
            db.execute(
                "DELETE FROM series WHERE provider = ? AND confirmed_at < ?",
                (provider, forecasts.timestamp()),
            )
            db.execute(
                "DELETE FROM actual WHERE provider = ? AND ends < ?", (provider, actual.timestamp())
            )
            db.execute(
                "DELETE FROM score WHERE method = ? AND issued_at < ?",
                (provider, scores.timestamp()),
            )

    def _read(self, query: str, values: tuple[object, ...]) -> list[tuple]:  # type: ignore[type-arg]  # rows of SQLite
        with _told(self.path):
            return self._db.execute(query, values).fetchall()


_SCORE, _TRUST = TypeAdapter(Score), TypeAdapter(Trust)
_T = TypeVar("_T")


def _parsed(shape: TypeAdapter[_T], text: str) -> _T | None:
    """Return what was kept; ``None`` for what an older version wrote in another shape."""
    try:
        return shape.validate_json(text)
    except ValidationError:
        return None


@contextmanager
def _told(path: Path | None) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise _unusable(path, error) from error
        raise Unavailable(f"The outlook store {path} is busy. Try again.") from error
    except (sqlite3.Error, OSError) as error:
        raise _unusable(path, error) from error
    except (CarbonAwareError, ValueError) as error:  # what cannot be: it was tampered with
        raise Unavailable(f"The outlook store {path} is damaged ({error}). Delete it.") from error


def _unusable(path: Path | None, error: Exception) -> Unavailable:
    return Unavailable(
        f"The outlook store {path} cannot be used ({error}). Make its folder writable, or delete "
        "the file: it is fetched anew."
    )
