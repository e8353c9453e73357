"""Jobs of a back-test from a file: CSV or Parquet, one job a row.

::

    release,finish_by,hours,p95_hours,kw,data_class
    2022-03-27T01:30:00+01:00,24h,4,5,1.2,personal
    2022-03-27T09:00:00+02:00,06:30 Europe/Berlin,0.5,,,public

``release`` (when it was wanted) and ``hours`` (how long it runs) are needed. ``finish_by`` is a
duration, a time of day with a zone, or a moment; ``24h`` where it is left out. As in the trigger, a
job starts no later than leaves time for a run and a retry of ``p95_hours`` each (half as much again
as ``hours`` where it is left out) and the pools' start-ups. Energy is ``kw`` or
``kwh`` at the server, before PUE; without either it is the watts of the pool. Further columns:
``hardware``, ``data_class`` and ``pools`` (names, with spaces between), ``data_in_gb``,
``data_out_gb``, ``count`` (how many alike) and ``job`` (a name, for people).
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from carbon import _cells
from carbon._backtest_jobs import COUNT, ENERGY, HOURS, Group, JobList, JobRow, job_list, policy_of
from carbon._cells import Bounds, Cells
from carbon._errors import BadInput
from carbon._workload import Hardware

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOMENT: Final = re.compile(r"\d{4}-")
_DATA: Final = Bounds(lowest=0.0, highest=1e9, gap=False)
_NAMES: Final = ("job", "workload", "name")
_COLUMNS: Final = (
    *_NAMES,
    *("release", "finish_by", "hours", "p95_hours", "kw", "kwh", "hardware", "data_class", "pools"),
    *("data_in_gb", "data_out_gb", "count"),
)


def read_jobs(path: Path) -> JobList:
    """Read jobs from a ``.csv`` or ``.parquet`` file.

    Raises:
        BadInput: A cell is wrong; the message names file, line and column.
    """
    found = _cells.read(path)
    for name in found.columns:
        if name.lower() not in _COLUMNS:
            raise BadInput.unknown(f"{found.file}: column", name, _COLUMNS)
    return job_list(_rows(found), found.file)


def _rows(found: Cells) -> Iterator[JobRow]:
    """Yield the jobs of a file, in its order."""
    found.find(*_NAMES)
    release, hours = found.need("release"), found.need("hours")
    kw, kwh, finish = found.find("kw"), found.find("kwh"), found.find("finish_by")
    p95 = found.find("p95_hours")
    count, data = found.find("count"), [found.find("data_in_gb"), found.find("data_out_gb")]
    group = _Groups(found)
    for row, place in enumerate(found.places):
        begin = found.moment(row, release)
        runs = _number(found, row, hours, HOURS)
        if runs is None:
            raise found.bad(
                row, hours, "is empty or no number", "Say how long the job runs, in hours."
            )
        many = _number(found, row, count, COUNT) or 1.0
        if count and many != int(many):
            raise found.bad(row, count, f"{many:g} is no whole number", "Count jobs.")
        yield JobRow(
            release=begin,
            finish_by=_finish(found, row, finish, begin),
            hours=runs,
            reserve_hours=_twice_p95(found, row, p95, runs),
            kwh=_kwh(found, row, (kw, kwh), runs),
            data_in_gb=_number(found, row, data[0], _DATA) or 0.0,
            data_out_gb=_number(found, row, data[1], _DATA) or 0.0,
            group=group.of(row),
            count=int(many),
            where=f"{found.file}: {place}",
        )


def _number(found: Cells, row: int, column: str | None, bounds: Bounds) -> float | None:
    return found.number(row, column, bounds) if column else None


def _twice_p95(found: Cells, row: int, column: str | None, hours: float) -> float:
    p95 = _number(found, row, column, HOURS)
    if column is not None and p95 is not None and p95 < hours:
        raise found.bad(row, column, f"is less than hours, {hours:g}", "Give as much or more.")
    return math.nan if p95 is None else 2 * p95


def _kwh(found: Cells, row: int, columns: tuple[str | None, str | None], hours: float) -> float:
    kw, kwh = (_number(found, row, column, ENERGY) for column in columns)
    if kw is not None and kwh is not None:
        raise found.bad(row, str(columns[1]), "stands beside kw", "Give one of the two.")
    if kw is not None:
        return kw * hours
    return math.nan if kwh is None else kwh


def _finish(found: Cells, row: int, column: str | None, release: datetime) -> datetime:
    cell = found.columns[column][row] if column else None
    if column is None or cell is None or cell == "":
        return release + timedelta(hours=24)
    if isinstance(cell, datetime) or (isinstance(cell, str) and _MOMENT.match(cell)):
        return found.moment(row, column)
    if isinstance(cell, timedelta):
        return release + cell
    return policy_of(f"{found.file}: {found.places[row]}, column {column!r}", str(cell)).deadline(
        release
    )


class _Groups:
    """Where the jobs of a file may run."""

    def __init__(self, found: Cells) -> None:
        self._found = found
        self._hardware = found.find("hardware")
        self._data_class = found.find("data_class")
        self._pools = found.find("pools")

    def of(self, row: int) -> Group:
        hardware = self._text(row, self._hardware).lower()
        if self._hardware and hardware and hardware not in set(Hardware):
            known = " or ".join(Hardware)
            raise self._found.bad(row, self._hardware, f"{hardware!r} is none", f"Write {known}.")
        return Group(
            hardware=Hardware(hardware) if hardware else None,
            data_classes=_names(self._text(row, self._data_class)),
            pools=_names(self._text(row, self._pools)),
        )

    def _text(self, row: int, column: str | None) -> str:
        cell = self._found.columns[column][row] if column else None
        return "" if cell is None else str(cell).strip()


def _names(text: str) -> tuple[str, ...]:
    return tuple(sorted(set(text.replace(";", " ").replace("|", " ").split())))
