"""What a back-test found: one row a policy, settled with the intensities that came.

Nothing compiled is loaded here: the command line needs the words, not the kernels.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict


class Way(StrEnum):
    """A policy that jobs are replayed by."""

    AT_ONCE = "at-once"
    TIME_ONLY = "time-only"
    PLACE_ONLY = "place-only"
    BOTH = "both"
    RE_PLANNED = "re-planned"
    PRICED = "priced"
    THRESHOLD = "threshold"
    ORACLE = "oracle"


MEANING: Final = {
    Way.AT_ONCE: "at home, as soon as a slot is free",
    Way.TIME_ONLY: "at home, at the start that was forecast to be cleanest",
    Way.PLACE_ONLY: "at once, in the permitted region that was forecast to be cleanest",
    Way.BOTH: "start and region that were forecast to be cleanest together",
    Way.RE_PLANNED: "the same, and moved while they wait, where a newer forecast clearly says so",
    Way.PRICED: "as both, where slots cost what they have been worth to the jobs before",
    Way.THRESHOLD: "at home, once the grid is as clean as in the cleanest part of the last weeks",
    Way.ORACLE: "all jobs together, knowing the future: what no policy can do",
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Peak(_Frozen):
    """How many jobs a pool ran at a time, at most.

    Attributes:
        pool: Name of the pool.
        zone: Its grid zone.
        peak: Jobs at a time, at most.
        capacity: Its capacity, at most, less what others hold.
    """

    pool: str
    zone: str
    peak: int
    capacity: int


class Hour(_Frozen):
    """An hour of the UTC day in a grid zone.

    Attributes:
        zone: Grid zone.
        hour: 0 to 23, UTC.
        g_per_kwh: Intensity that came, the mean over the days that have the hour.
        running: Policy to jobs at a time, the mean over all days.
    """

    zone: str
    hour: int
    g_per_kwh: float
    running: dict[Way, float]


class PolicyResult(_Frozen):
    """What one policy would have done.

    Attributes:
        policy: The policy.
        kg: Emissions of all jobs, kgCO2e; ``None`` where one ran in hours that nobody has measured.
        saved_percent: Against the baseline; ``None`` likewise, and where a job found no slot at
            all, for then the two are not of the same jobs.
        usd: Cost of all jobs: by the hour, transfer, and electricity on top; ``None`` where a price
            is not known.
        mean_delay_hours: From the first step at or after its release to a job's start.
        p95_delay_hours: 95th percentile of the same.
        misses: Jobs that ended too late, or found no slot before the trace ends.
        unsafe: Jobs that started after their latest safe start, or found no slot: a long run or a
            retry would have ended too late.
        queued: Jobs that found no free slot when they wanted one.
        unplaced: Jobs that found no slot before the trace ends; not in the sums.
        unmeasured: Jobs that queued until hours which the trace does not hold.
        moves: How often a job that waited was moved, all jobs together.
        blind: Jobs that started at once at home because nothing was known to decide by.
        peaks: By pool.
    """

    policy: Way
    kg: float | None
    saved_percent: float | None
    usd: float | None
    mean_delay_hours: float
    p95_delay_hours: float
    misses: int
    unsafe: int
    queued: int
    unplaced: int
    unmeasured: int
    moves: int
    blind: int
    peaks: tuple[Peak, ...]


class Backtest(_Frozen):
    """What a back-test found.

    Attributes:
        jobs: How many jobs.
        jobs_source: Where they come from.
        first: Release of the first job.
        end: When the last one has to end.
        step: Length of a step.
        grid: What came, and from where.
        modelled: Whether nobody has measured it.
        forecasts: What decisions were made by.
        home: Home region.
        baseline_kg: What all jobs emit at once at home, as if it had no limit.
        bound_kg: No plan whose jobs all start safely emits less; ``None`` without an oracle, or
            where not all of them can.
        results: By policy.
        hours: The usual day: intensity, and where and when jobs ran.
        days: From the first job to the last, the last day whole.
        crowded: That jobs found no slot, of which policies therefore no saving is told, and what
            to do; empty where all jobs ran.
        notes: What must be read beside the numbers.
    """

    jobs: int
    jobs_source: str
    first: datetime
    end: datetime
    step: timedelta
    grid: str
    modelled: bool
    forecasts: str
    home: str
    baseline_kg: float
    bound_kg: float | None
    results: tuple[PolicyResult, ...]
    hours: tuple[Hour, ...]
    days: int
    crowded: str
    notes: tuple[str, ...]

    def result(self, way: Way) -> PolicyResult:
        """Return what one policy would have done.

        Raises:
            KeyError: It was not replayed.
        """
        return {row.policy: row for row in self.results}[way]

    @property
    def gap_percent(self) -> float | None:
        """How far the oracle may be from the best plan, in percent of the bound."""
        found = {row.policy: row for row in self.results}
        kg = found[Way.ORACLE].kg if Way.ORACLE in found else None
        if kg is None or self.bound_kg is None or self.bound_kg <= 0:
            return None
        return 100 * (kg / self.bound_kg - 1)
