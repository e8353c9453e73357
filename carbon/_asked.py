"""Whom to ask: what the outlook store knows of the questions that were asked, and by whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from carbon._rows import CONFIRMED, Failure, moment
from carbon._statistical import statistical

if TYPE_CHECKING:
    from carbon._database import Database

_LONGEST_TURN: Final = timedelta(minutes=10)
"""A turn that ends later was taken by a clock that is wrong."""

_FORGOTTEN: Final = (
    "DELETE FROM series WHERE provider = ?",
    "DELETE FROM actual WHERE provider = ?",
    "DELETE FROM climate WHERE provider = ?",
    "DELETE FROM score WHERE method = ?",
    "DELETE FROM trust WHERE method = ?",
)


class Asked:
    """The part of the outlook store that says whom not to ask again yet."""

    _db: Database

    def confirmed(self, provider: str, zone: str, what: str, now: datetime) -> datetime | None:
        """Return when a provider last answered for a zone, by then."""
        rows = self._db.read(
            CONFIRMED,
            {"provider": provider, "zone": zone, "what": what, "now": now.timestamp()},
        )
        return moment(rows[0][0])

    def fail(self, provider: str, zone: str, what: str, failure: Failure) -> None:
        """Keep that a question failed."""
        with self._db.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO failure VALUES (?, ?, ?, ?, ?, ?)",
                (provider, zone, what, failure.label, failure.text, failure.until.timestamp()),
            )

    def failure(self, provider: str, zone: str, what: str) -> Failure | None:
        """Return how a question failed last; ``None`` when it did not."""
        rows = self._db.read(
            "SELECT label, told, until FROM failure WHERE provider = ? AND zone = ? AND what = ?",
            (provider, zone, what),
        )
        if not rows:
            return None
        label, text, until = rows[0]
        return Failure(label, text, datetime.fromtimestamp(until, UTC))

    def take_turn(self, now: datetime, until: datetime) -> bool:
        """Take the turn to ask, so that of many processes one asks; ``False`` if another has it.

        Args:
            now: The present moment.
            until: When the turn ends by itself, should this process die.
        """
        with self._db.write() as db:
            taken = db.execute(
                "INSERT INTO refreshing VALUES (1, :until) ON CONFLICT DO UPDATE SET until = :until"
                " WHERE refreshing.until <= :now OR refreshing.until > :wrong",
                {
                    "now": now.timestamp(),
                    "until": until.timestamp(),
                    "wrong": (now + _LONGEST_TURN).timestamp(),
                },
            )
            return taken.rowcount == 1

    def end_turn(self, until: datetime) -> None:
        """End a turn that was taken until then."""
        with self._db.write() as db:
            db.execute("DELETE FROM refreshing WHERE until = ?", (until.timestamp(),))

    def introduce(self, provider: str, meaning: str, access: str, now: datetime) -> datetime:
        """Take note of how a provider is asked, and return since when it is asked so.

        Args:
            provider: Name of the provider.
            meaning: What decides what its numbers mean. Where it changes, all that is kept of the
                provider is forgotten: old errors say nothing of other numbers.
            access: What decides whether it answers. Where it changes, old failures are forgotten.
            now: The present moment.
        """
        rows = self._db.read(
            "SELECT meaning, access, since FROM provider WHERE name = ?", (provider,)
        )
        if rows and rows[0][:2] == (meaning, access):
            return datetime.fromtimestamp(rows[0][2], UTC)
        with self._db.write() as db:
            if rows and rows[0][0] != meaning:
                for statement in _FORGOTTEN:
                    for name in (provider, statistical(provider)):
                        db.execute(statement, (name,))
            db.execute("DELETE FROM failure WHERE provider = ?", (provider,))
            row = (provider, meaning, access, now.timestamp())
            db.execute("INSERT OR REPLACE INTO provider VALUES (?, ?, ?, ?)", row)
        return now

    def has_answered(self, provider: str, since: datetime) -> bool:
        """Tell whether a provider has answered anything since then."""
        rows = self._db.read(
            "SELECT 1 FROM series WHERE provider = ? AND confirmed_at >= ? LIMIT 1",
            (provider, since.timestamp()),
        )
        return bool(rows)
