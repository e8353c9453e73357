"""The SQLite file below the outlook store: opening, making, writing, and what can go wrong."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from carbon._errors import CarbonAwareError, Unavailable
from carbon._rows import SCHEMA, TABLES, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BUSY_SECONDS: Final = 1.0


class Database:
    """An SQLite file with the tables of the outlook store.

    Args:
        path: The file; made, with its folder, when it is not there. ``None`` keeps all in memory.

    Raises:
        Unavailable: It cannot be read and written, or something else is in it.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        with self.told():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", timeout=_BUSY_SECONDS)
        try:
            with self.told():
                version = _version(self._db)
            if version != VERSION:
                self._make()
            elif path is not None:
                with self.told():
                    self._try_writing(version)
        except Unavailable:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def copy_from(self, path: Path) -> None:
        """Take over what can be read of another file; nothing, if that is damaged."""
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as other:
                sound = other.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
                if sound and _version(other) == VERSION:
                    other.backup(self._db)
        except (sqlite3.Error, OSError):
            return

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Write all or nothing; what is written inside of another one belongs to that."""
        whole = nullcontext() if self._db.in_transaction else self._db
        with self.told(), whole:
            if whole is self._db:
                self._db.execute("BEGIN IMMEDIATE")
            yield self._db

    def read(
        self, query: str, values: tuple[object, ...] | dict[str, object]
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.told():
            return self._db.execute(query, values).fetchall()

    def _make(self) -> None:
        """Make the tables, once, whoever comes first; those of an older version go."""
        with self.write() as db:
            version = _version(db)
            if version == VERSION:
                return
            names = (
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
            tables = {name for (name,) in db.execute(names)}
            if version > VERSION or not tables <= TABLES:
                raise Unavailable(
                    f"{self.path} holds something else than the outlook store of this version. "
                    "It is left alone; move it away."
                )
            for name in tables:
                db.execute(f'DROP TABLE "{name}"')  # one of ours: SQL has no parameters for names
            for statement in filter(str.strip, SCHEMA.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")

    def _try_writing(self, version: int) -> None:
        """Fail now rather than with the first answer: the file or its folder may be read-only."""
        self._db.execute("PRAGMA busy_timeout = 0")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(f"PRAGMA user_version = {version}")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):  # else somebody is writing just now, so one can
                raise
        finally:
            self._db.rollback()
            self._db.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000:.0f}")

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn what SQLite, the disk or a damaged row raise into one error that says what to do."""
        path = self.path
        try:
            yield
        except Unavailable:
            raise
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise _unusable(path, error) from error
            raise Unavailable(f"The outlook store {path} is busy. Try again.") from error
        except (sqlite3.Error, OSError) as error:
            raise _unusable(path, error) from error
        except (CarbonAwareError, ValueError, TypeError) as error:  # what cannot be: tampered with
            raise Unavailable(
                f"The outlook store {path} is damaged ({error}). Delete it."
            ) from error


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _unusable(path: Path | None, error: Exception) -> Unavailable:
    fix = "Make its folder writable, or delete the file: it is fetched anew."
    if "readonly" in str(error):
        fix = "Make the file and its folder writable."
    return Unavailable(f"The outlook store {path} cannot be used ({error}). {fix}")
