"""Cells of a CSV or Parquet file, each knowing where it stands, so that an error can say so."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl

from carbon._errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TIME_COLUMNS = ("utc", "datetime", "timestamp", "time")
"""What the time column of a grid file may be called; ``utc`` needs no offset."""
_FIRST_YEAR, _LAST_YEAR = 1971, 2199


@dataclass(frozen=True)
class Bounds:
    """What a number may be.

    Attributes:
        lowest: At least this.
        highest: At most this.
        gap: Whether an empty cell stands for a gap, for that is then a way out.
    """

    lowest: float = -math.inf
    highest: float = math.inf
    gap: bool = True


@dataclass(frozen=True)
class Cells:
    """The cells of a file as they stand there, with the place of each.

    Attributes:
        file: Name of the file.
        digest: First digits of the SHA-256 of its content.
        columns: Column name to its cells.
        places: Where each row stands in the file, e.g. ``line 17``.
    """

    file: str
    digest: str
    columns: dict[str, list[object]]
    places: Sequence[str]

    def bad(self, row: int, column: str, problem: str, fix: str) -> BadInput:
        """Build the error for one cell."""
        return BadInput(f"{self.file}: {self.places[row]}, column {column!r}", problem, fix)

    def find(self, *names: str) -> str | None:
        """Return the column that has one of these names, in any case."""
        found = [column for column in self.columns if column.lower() in names]
        if len(found) > 1:
            both = " and ".join(repr(column) for column in found)
            raise BadInput(self.file, f"columns {both} mean the same", "Remove one of them.")
        return found[0] if found else None

    def need(self, *names: str) -> str:
        """Return the column that has one of these names, in any case, or refuse the file."""
        found = self.find(*names)
        if found is None:
            header = ", ".join(repr(column) for column in self.columns)
            wanted = " or ".join(repr(name) for name in names)
            raise BadInput(self.file, f"has no column {wanted}, only {header}", "Add or rename it.")
        return found

    def moment(self, row: int, column: str) -> datetime:
        """Return a cell as a moment in UTC, or refuse it."""
        cell = self.columns[column][row]
        time: object = cell
        if isinstance(cell, str):
            try:
                time = datetime.fromisoformat(cell)
            except ValueError:
                time = None
        if not isinstance(time, datetime):
            problem = f"{cell!r} is no date and time" if cell not in (None, "") else "is empty"
            raise self.bad(row, column, problem, "Write e.g. '2026-06-01T00:00:00Z'.")
        if time.tzinfo is None and column.lower() != "utc":
            fix = "Add an offset, e.g. '+00:00'."
            if column.lower() in TIME_COLUMNS:
                fix = "Add an offset, e.g. '+00:00', or name the column 'utc' if it is UTC."
            raise self.bad(row, column, f"{cell!s} has no time zone", fix)
        if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
            fix = f"Give a year from {_FIRST_YEAR} to {_LAST_YEAR}."
            raise self.bad(row, column, f"{cell!s} cannot be", fix)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)

    def number(self, row: int, column: str, bounds: Bounds) -> float | None:
        """Return a cell as a finite number, ``None`` for a gap, or refuse it."""
        cell = self.columns[column][row]
        if cell is None or cell == "":
            return None
        number = math.inf
        if isinstance(cell, str) and cell.isascii() and "_" not in cell:
            try:
                number = float(cell)
            except ValueError:
                number = math.inf
        elif isinstance(cell, int | float | Decimal) and not isinstance(cell, bool):
            number = float(cell)
        if math.isnan(number):
            return None
        empty = ", or leave the cell empty for a gap" if bounds.gap else ""
        if math.isinf(number):
            fix = f"Write a number with a decimal point{empty}."
            raise self.bad(row, column, f"{cell!r} is not a number", fix)
        if not bounds.lowest <= number <= bounds.highest:
            fix = f"Give {bounds.lowest:.3g} to {bounds.highest:g}{empty}."
            raise self.bad(row, column, f"{number:g} cannot be", fix)
        return number


def read(path: Path) -> Cells:
    """Read a ``.csv`` or ``.parquet`` file.

    Raises:
        BadInput: There is no such file, or it is not what its name says.
    """
    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadInput(str(path), "is neither .csv nor .parquet", "Save it as one of the two.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(
            str(path), f"cannot be read: {error.strerror}", "Check the path and its rights."
        ) from error
    columns, places = reader(path.name, content)
    if not places:
        raise BadInput(path.name, "has no rows", "Give some below the header.")
    return Cells(path.name, hashlib.sha256(content).hexdigest()[:12], columns, places)


def _read_csv(file: str, content: bytes) -> tuple[dict[str, list[object]], list[str]]:
    # The csv module and not polars: polars does not tell the line of a bad cell.
    places: list[str] = []
    rows: list[list[str]] = []
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        for row in reader:
            if row:
                rows.append([cell.strip() for cell in row])
                places.append(f"line {reader.line_num}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(file, f"is not CSV in UTF-8: {error}", "Export it again as CSV.") from error
    header, rows, places = rows[0] if rows else [], rows[1:], places[1:]
    if len(header) == 1 and (other := re.search(r"[;\t|]", header[0])):
        fix = "Separate columns with a comma and write decimals with a point."
        raise BadInput(file, f"separates its columns with {other[0]!r}", fix)
    for name, count in Counter(header).items():
        if count > 1:
            raise BadInput(file, f"has {count} columns named {name!r}", "Rename or remove one.")
    for place, row in zip(places, rows, strict=True):
        if len(row) != len(header):
            raise BadInput(
                f"{file}: {place}",
                f"has {len(row)} cells where the header has {len(header)}",
                "Separate cells by one comma each and write decimals with a point.",
            )
    return {name: [row[index] for row in rows] for index, name in enumerate(header)}, places


def _read_parquet(file: str, content: bytes) -> tuple[dict[str, list[object]], list[str]]:
    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = next(iter(str(error).splitlines()), "it is damaged")
        raise BadInput(file, f"is not Parquet: {reason}", "Export it again as Parquet.") from error
    columns = {name: column.to_list() for name, column in frame.to_dict().items()}
    return columns, [f"row {number + 1}" for number in range(frame.height)]
