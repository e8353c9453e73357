"""The jobs of a back-test: rows of any origin, or made by a rule ("one every hour")."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import ValidationError

from carbon._cells import Bounds
from carbon._errors import BadInput
from carbon._policy import CarbonPolicy
from carbon._workload import Hardware

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

LONGEST: Final = timedelta(days=14)
"""Longest time from release to finish."""

P95_OF_HOURS: Final = 1.5
"""p95 run time of a job of which nobody has said it, in units of how long it runs."""

_HOUR: Final = timedelta(hours=1)
_SMALLEST: Final = 1e-6
_MOST_HOURS: Final = LONGEST / _HOUR
HOURS: Final = Bounds(lowest=1 / 60, highest=_MOST_HOURS, gap=False)
ENERGY: Final = Bounds(lowest=_SMALLEST, highest=1e6, gap=False)
COUNT: Final = Bounds(lowest=1, highest=1_000_000, gap=False)
_MOST: Final = 5_000_000


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
        row: Index into ``places``.
        places: Where jobs stand, for people.
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
    row: Integers
    places: tuple[str, ...]
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
        row=np.repeat(np.arange(len(found)), count),
        places=tuple(row.where for row in found),
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
            return policy_of(field, text).deadline(epoch) - epoch
    except BadInput:
        pass  # it speaks of times of day, which are no answer here
    raise BadInput(
        field,
        f"{text!r} is no duration from a minute to {LONGEST.days} days",
        "Write e.g. '12h', '1d 6h' or '30m'.",
    )


@cache
def policy_of(field: str, text: str) -> CarbonPolicy:
    """Return the policy that a finish-by makes.

    Raises:
        BadInput: It cannot be read; the error names the field.
    """
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
        _inside("hours", self.hours, HOURS)
        _inside("count", self.count, COUNT)
        if self.kw is not None:
            _inside("kw", self.kw, ENERGY)

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
