"""Whom to ask: what the outlook store knows of the questions that were asked, and by whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from carbon._errors import AuthError, PlanDenied
from carbon._rows import CONFIRMED, OF_PROVIDER, Failure, moment

if TYPE_CHECKING:
    from carbon._database import Database

LONGEST_TURN: Final = timedelta(minutes=1)
"""A turn that ends later was taken by a clock that is wrong."""

_BY_KEY: Final = (AuthError.label, PlanDenied.label)
"""Failures that another key may mend."""


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
                    "wrong": (now + LONGEST_TURN).timestamp(),
                },
            )
            return taken.rowcount == 1

    def end_turn(self, until: datetime) -> None:
        """End a turn that was taken until then."""
        with self._db.write() as db:
            db.execute("DELETE FROM refreshing WHERE until = ?", (until.timestamp(),))

    def introduce(self, provider: str, access: str, now: datetime) -> datetime:
        """Take note of how a provider is asked, and return since when it is asked so.

        Args:
            provider: Name of the provider.
            access: What decides whether it answers. Where it changes, it is forgotten that the old
                key was refused.
            now: The present moment.
        """
        rows = self._db.read("SELECT access, since FROM provider WHERE name = ?", (provider,))
        if rows and rows[0][0] == access:
            return datetime.fromtimestamp(rows[0][1], UTC)
        with self._db.write() as db:
            db.execute(
                f"DELETE FROM failure WHERE {OF_PROVIDER} AND label IN (:auth, :plan)",  # noqa: S608 - constants
                {"provider": provider, "auth": _BY_KEY[0], "plan": _BY_KEY[1]},
            )
            row = (provider, access, now.timestamp())
            db.execute("INSERT OR REPLACE INTO provider VALUES (?, ?, ?)", row)
        return now

    def spoke_within(self, time: timedelta, now: datetime) -> bool:
        """Tell whether anybody's last answer is no older than this."""
        newest = self._db.read("SELECT max(confirmed_at) FROM series", ())[0][0]
        return newest is not None and abs(now.timestamp() - newest) <= time.total_seconds()

    def has_answered(self, provider: str, since: datetime) -> bool:
        """Tell whether a provider has answered anything since then."""
        rows = self._db.read(
            f"SELECT 1 FROM series WHERE {OF_PROVIDER} AND confirmed_at >= :since LIMIT 1",  # noqa: S608 - a constant
            {"provider": provider, "since": since.timestamp()},
        )
        return bool(rows)
