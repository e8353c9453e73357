"""What a back-test found: one row a policy, settled with the intensities that came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon._backtest_jobs import JobList
    from carbon._backtest_kernels import Case, Placed
    from carbon._backtest_setting import Setting

    Floats = NDArray[np.float64]

HOURS: Final = 24
_P95: Final = 95
_GRAMS: Final = 1000.0


class Way(StrEnum):
    """A policy that jobs are replayed by."""

    AT_ONCE = "at-once"
    TIME = "time-only"
    PLACE = "place-only"
    BOTH = "both"
    THRESHOLD = "threshold"
    ORACLE = "oracle"


MEANING: Final = {
    Way.AT_ONCE: "at home, as soon as a slot is free",
    Way.TIME: "at home, at the start that was forecast to be cleanest",
    Way.PLACE: "at once, in the permitted region that was forecast to be cleanest",
    Way.BOTH: "start and region that were forecast to be cleanest together",
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
    """An hour of the UTC day in a grid zone, the mean over all days.

    Attributes:
        zone: Grid zone.
        hour: 0 to 23, UTC.
        g_per_kwh: Intensity that came.
        running: Policy to jobs at a time.
    """

    zone: str
    hour: int
    g_per_kwh: float
    running: dict[Way, float]


class PolicyResult(_Frozen):
    """What one policy would have done.

    Attributes:
        policy: The policy.
        kg: Emissions of all jobs, kgCO2e.
        saved_percent: Against running at once at home; ``None`` where a job of either found no
            slot at all, for then they are not of the same jobs.
        usd: Cost of all jobs: by the hour, transfer, and energy by contract.
        mean_delay_hours: From the first step at or after its release to a job's start.
        p95_delay_hours: 95th percentile of the same.
        misses: Jobs that ended too late, or found no slot before the trace ends.
        queued: Jobs that found no free slot when they wanted one.
        unplaced: Jobs that found no slot before the trace ends; not in the sums.
        blind: Jobs that started at once at home because nothing was known to decide by.
        peaks: By pool.
    """

    policy: Way
    kg: float
    saved_percent: float | None
    usd: float
    mean_delay_hours: float
    p95_delay_hours: float
    misses: int
    queued: int
    unplaced: int
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
        bound_kg: No plan that is in time emits less; ``None`` without an oracle, or where not all
            jobs can be in time.
        results: By policy.
        hours: The usual day: intensity, and where and when jobs ran.
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
    bound_kg: float | None
    results: tuple[PolicyResult, ...]
    hours: tuple[Hour, ...]
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
        if self.bound_kg is None or Way.ORACLE not in found or self.bound_kg <= 0:
            return None
        return 100 * (found[Way.ORACLE].kg / self.bound_kg - 1)


@dataclass(frozen=True, eq=False)
class Settlement:
    """What each job came to; ``nan`` for one that found no slot.

    Attributes:
        g: Grams of CO2e.
        delay: Steps from its earliest start to its start.
        late: Whether it ended too late or never ran.
    """

    g: Floats
    delay: Floats
    late: NDArray[np.bool_]

    @classmethod
    def of(cls, setting: Setting, q: Case, placed: Placed) -> Self:
        """Settle placements with the intensities that came."""
        ran = placed.pool >= 0
        pool, start = np.where(ran, placed.pool, 0), np.where(ran, placed.start, 0)
        sums, end = setting.grid.sums, start + q.length
        zone = q.zone[pool]
        server = np.where(np.isnan(q.kwh), q.kw[pool] * q.hours, q.kwh) * q.pue[pool]
        network = np.where(q.away[pool], q.network_kwh / 2, 0.0)
        g = (server + network) / q.length * (sums[zone, end] - sums[zone, start])
        g += network / q.length * (sums[q.home_zone, end] - sums[q.home_zone, start])
        g += q.embodied[pool] * q.hours
        return cls(
            np.where(ran, g, np.nan),
            np.where(ran, start - q.earliest, np.nan),
            ~ran | (start > q.latest),
        )


@dataclass(frozen=True, eq=False)
class Outcome:
    """One policy's placements and what they came to."""

    way: Way
    placed: Placed
    settled: Settlement
    bound_g: float | None = None


def report(
    setting: Setting,
    jobs: JobList,
    q: Case,
    outcomes: Sequence[Outcome],
    *,
    grid: str,
    modelled: bool,
    forecasts: str,
    notes: Sequence[str],
) -> Backtest:
    """Put together what all policies came to; the first one is the baseline."""
    bound = next((one.bound_g for one in outcomes if one.bound_g is not None), None)
    span = slice(int(q.earliest.min()), int((q.latest + q.length).max()))
    return Backtest(
        jobs=len(jobs),
        jobs_source=jobs.source,
        first=setting.grid.moment(span.start),
        end=setting.grid.moment(span.stop),
        step=setting.grid.step,
        grid=grid,
        modelled=modelled,
        forecasts=forecasts,
        home=setting.fleet.home,
        bound_kg=None if bound is None else bound / _GRAMS,
        results=tuple(_result(setting, jobs, q, one, outcomes[0]) for one in outcomes),
        hours=tuple(_hours(setting, q, outcomes, span)),
        notes=tuple(notes),
    )


def _result(
    setting: Setting, jobs: JobList, q: Case, one: Outcome, baseline: Outcome
) -> PolicyResult:
    placed, settled = one.placed, one.settled
    grams, home = float(np.nansum(settled.g)), float(np.nansum(baseline.settled.g))
    unplaced = placed.pool < 0
    same = not (unplaced.any() or (baseline.placed.pool < 0).any())
    usd = np.where(unplaced, 0.0, setting.usd(jobs, np.maximum(placed.pool, 0)))
    delay = settled.delay[~unplaced] * (setting.grid.step / timedelta(hours=1))
    return PolicyResult(
        policy=one.way,
        kg=grams / _GRAMS,
        saved_percent=100 * (1 - grams / home) if same and home > 0 else None,
        usd=float(usd.sum()),
        mean_delay_hours=float(delay.mean()) if len(delay) else 0.0,
        p95_delay_hours=float(np.percentile(delay, _P95)) if len(delay) else 0.0,
        misses=int(settled.late.sum()),
        queued=int(placed.queued.sum()),
        unplaced=int(unplaced.sum()),
        blind=int(placed.blind.sum()),
        peaks=tuple(
            Peak(
                pool=pool.name,
                zone=pool.place.zone,
                peak=int(used.max()),
                capacity=int(capacity.max()),
            )
            for pool, used, capacity in zip(setting.pools, placed.used, q.capacity, strict=True)
        ),
    )


def _hours(setting: Setting, q: Case, outcomes: Sequence[Outcome], span: slice) -> list[Hour]:
    """Return the usual day of each zone, over the time in which jobs may run."""
    grid = setting.grid
    hour = np.arange(grid.steps)[span] // grid.per_hour % HOURS
    days = np.maximum(np.bincount(hour, minlength=HOURS), 1)

    def usual(values: Floats) -> Floats:
        return np.bincount(hour, weights=np.nan_to_num(values[span]), minlength=HOURS) / days

    found = []
    for z, zone in enumerate(grid.zones):
        g_per_kwh = usual(grid.actual[z])
        running = {
            one.way: usual(one.placed.used[q.zone == z].sum(axis=0).astype(np.float64))
            for one in outcomes
        }
        found += [
            Hour(
                zone=zone,
                hour=at,
                g_per_kwh=float(g_per_kwh[at]),
                running={way: float(values[at]) for way, values in running.items()},
            )
            for at in range(HOURS)
        ]
    return found
