"""The jobs of a back-test: from a file, from a rule ("one every hour"), or from other rows.

A file is CSV or Parquet, one job a row::

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
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import ValidationError

from carbon import _cells as cells_
from carbon._cells import Bounds, Cells
from carbon._errors import BadInput
from carbon._policy import CarbonPolicy
from carbon._workload import Hardware

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

LONGEST: Final = timedelta(days=14)
"""Longest time from release to finish."""

P95_OF_HOURS: Final = 1.5
"""p95 run time of a job of which nobody has said it, in units of how long it runs."""

_HOUR: Final = timedelta(hours=1)
_MOMENT: Final = re.compile(r"\d{4}-")
_SMALLEST: Final = 1e-6
_MOST_HOURS: Final = LONGEST / _HOUR
_HOURS: Final = Bounds(lowest=1 / 60, highest=_MOST_HOURS, gap=False)
_ENERGY: Final = Bounds(lowest=_SMALLEST, highest=1e6, gap=False)
_DATA: Final = Bounds(lowest=0.0, highest=1e9, gap=False)
_COUNT: Final = Bounds(lowest=1, highest=1_000_000, gap=False)
_MOST: Final = 5_000_000
_NAMES: Final = ("job", "workload", "name")
_COLUMNS: Final = (
    *_NAMES,
    *("release", "finish_by", "hours", "p95_hours", "kw", "kwh", "hardware", "data_class", "pools"),
    *("data_in_gb", "data_out_gb", "count"),
)


@dataclass(frozen=True)
class Group:
    """What decides where a job may run.

    Attributes:
        hardware: Hardware class of its pools; ``None``: GPU where home has it, else CPU.
        data_classes: Classes of its data; empty: only where every class of the fleet may be.
        pools: Names of the only pools that it may use; empty for all.
    """

    hardware: Hardware | None = None
    data_classes: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobRow:
    """One job, or several alike.

    Attributes:
        release: When it was wanted, aware.
        finish_by: Latest acceptable finish, aware.
        hours: How long it runs.
        reserve_hours: What a start must leave to the finish, start-ups apart: run time by the 95th
            percentile, and one retry; ``nan``: :data:`P95_OF_HOURS` for each.
        kwh: Energy at the server, before PUE; ``nan``: by the watts of the pool.
        data_in_gb: Data that is carried to another region than home.
        data_out_gb: Data that is carried back.
        group: Where it may run.
        count: How many jobs alike.
        where: Where it stands, for errors.
    """

    release: datetime
    finish_by: datetime
    hours: float
    reserve_hours: float = math.nan
    kwh: float = math.nan
    data_in_gb: float = 0.0
    data_out_gb: float = 0.0
    group: Group = Group()
    count: int = 1
    where: str = "jobs"


@dataclass(frozen=True, eq=False)
class JobList:
    """Jobs in the order of their release; one value a job.

    Attributes:
        release: When it was wanted, POSIX seconds, ascending.
        due: Latest acceptable finish, POSIX seconds.
        hours: How long it runs.
        reserve_hours: What a start must leave to the finish, start-ups apart.
        kwh: Energy at the server, before PUE; ``nan``: by the watts of the pool.
        data_in_gb: Data that is carried to another region than home.
        data_out_gb: Data that is carried back.
        group: Index into ``groups``.
        groups: Where jobs may run.
        source: Where the jobs come from, for people.
        every: From one to the next, where they were made up at equal distances.
    """

    release: Floats
    due: Floats
    hours: Floats
    reserve_hours: Floats
    kwh: Floats
    data_in_gb: Floats
    data_out_gb: Floats
    group: Integers
    groups: tuple[Group, ...]
    source: str
    every: timedelta | None = None

    def __len__(self) -> int:
        return len(self.release)


def job_list(rows: Iterable[JobRow], source: str) -> JobList:
    """Put jobs in the order of their release; those of one moment keep their order.

    Raises:
        BadInput: There is none, or one has less time than it runs.
    """
    found = sorted(rows, key=lambda row: row.release)
    if not found:
        raise BadInput(source, "has no job", "Give at least one.")
    for row in found:
        _refuse_what_cannot_be(row)
    if sum(row.count for row in found) > _MOST:
        raise BadInput(source, f"has more than {_MOST:,} jobs", "Replay a shorter time.")
    groups = {row.group: None for row in found}
    index = {group: number for number, group in enumerate(groups)}
    count = [row.count for row in found]

    def column(values: Iterable[float]) -> Floats:
        return np.repeat(np.array(list(values), np.float64), count)

    return JobList(
        release=column(row.release.timestamp() for row in found),
        due=column(row.finish_by.timestamp() for row in found),
        hours=column(row.hours for row in found),
        reserve_hours=column(_reserve(row) for row in found),
        kwh=column(row.kwh for row in found),
        data_in_gb=column(row.data_in_gb for row in found),
        data_out_gb=column(row.data_out_gb for row in found),
        group=np.repeat(np.array([index[row.group] for row in found], np.int64), count),
        groups=tuple(groups),
        source=source,
    )


def _reserve(row: JobRow) -> float:
    given = row.reserve_hours
    return 2 * P95_OF_HOURS * row.hours if math.isnan(given) else given


def _refuse_what_cannot_be(row: JobRow) -> None:
    left = row.finish_by - row.release
    if left < timedelta(hours=row.hours) - timedelta(seconds=1):
        raise BadInput(
            row.where,
            f"has {left / _HOUR:g} h from release to finish-by and runs for {row.hours:g} h",
            "Give a later finish-by: it counts from the release, run time included.",
        )
    if left > LONGEST:
        raise BadInput(
            row.where, f"has {left / _HOUR:g} h to finish", f"Give at most {LONGEST.days} days."
        )


def duration(field: str, text: str) -> timedelta:
    """Return a length of time written like ``12h``, ``1d 6h`` or ``30m``.

    Raises:
        BadInput: It is not written so, or not between a minute and 14 days.
    """
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    try:
        if ":" not in text:
            return _policy(field, text).deadline(epoch) - epoch
    except BadInput:
        pass  # it speaks of times of day, which are no answer here
    raise BadInput(
        field,
        f"{text!r} is no duration from a minute to {LONGEST.days} days",
        "Write e.g. '12h', '1d 6h' or '30m'.",
    )


@cache
def _policy(field: str, text: str) -> CarbonPolicy:
    try:
        return CarbonPolicy(finish_by=text)
    except ValidationError as error:
        wrong = BadInput.from_validation("", error)
        raise BadInput(field, wrong.problem, wrong.fix) from error


@dataclass(frozen=True)
class Every:
    """Jobs alike at equal distances.

    Attributes:
        every: From one to the next.
        hours: How long each runs.
        slack: How much later than at once it may start.
        startups: Start-ups that its latest safe start leaves time for.
        kw: Power at the server, before PUE; ``None``: the watts of the pool.
        count: How many at each time.
        group: Where they may run.
    """

    every: timedelta
    hours: float
    slack: timedelta
    startups: timedelta = timedelta(0)
    kw: float | None = None
    count: int = 1
    group: Group = Group()

    def __post_init__(self) -> None:
        _inside("hours", self.hours, _HOURS)
        _inside("count", self.count, _COUNT)
        if self.kw is not None:
            _inside("kw", self.kw, _ENERGY)

    def jobs(self, first: datetime, end: datetime) -> JobList:
        """Return those that are released from a moment on and surely end before another.

        Raises:
            BadInput: Not one fits in between.
        """
        span = timedelta(hours=self.hours) + self.slack
        number = (end - span - first) // self.every + 1
        if number < 1:
            raise BadInput(
                "traces",
                f"from {first:%Y-%m-%d %H:%M} UTC there is less time than a job has",
                "Give a longer trace, or less slack.",
            )
        kwh = math.nan if self.kw is None else self.kw * self.hours
        reserve = 2 * P95_OF_HOURS * self.hours
        finish = self.slack + self.startups + timedelta(hours=reserve)
        rows = (
            JobRow(
                release=first + self.every * index,
                finish_by=first + self.every * index + finish,
                hours=self.hours,
                reserve_hours=reserve,
                kwh=kwh,
                group=self.group,
                count=self.count,
            )
            for index in range(number)
        )
        many = f"{self.count} jobs" if self.count > 1 else "one job"
        found = job_list(rows, f"{many} of {self.hours:g} h every {self.every / _HOUR:g} h")
        return replace(found, every=self.every)


def _inside(field: str, number: float, bounds: Bounds) -> None:
    if not bounds.lowest <= number <= bounds.highest:
        fix = f"Give {bounds.lowest:.3g} to {bounds.highest:g}."
        raise BadInput(field, f"{number:g} cannot be", fix)


def read_jobs(path: Path) -> JobList:
    """Read jobs from a ``.csv`` or ``.parquet`` file.

    Raises:
        BadInput: A cell is wrong; the message names file, line and column.
    """
    found = cells_.read(path)
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
        runs = _number(found, row, hours, _HOURS)
        if runs is None:
            raise found.bad(row, hours, "is empty", "Say how long the job runs, in hours.")
        many = _number(found, row, count, _COUNT) or 1.0
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
    p95 = _number(found, row, column, _HOURS)
    if column is not None and p95 is not None and p95 < hours:
        raise found.bad(row, column, f"is less than hours, {hours:g}", "Give as much or more.")
    return math.nan if p95 is None else 2 * p95


def _kwh(found: Cells, row: int, columns: tuple[str | None, str | None], hours: float) -> float:
    kw, kwh = (_number(found, row, column, _ENERGY) for column in columns)
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
    return _policy(f"{found.file}: {found.places[row]}, column {column!r}", str(cell)).deadline(
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
