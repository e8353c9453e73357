"""Settling a back-test: what each job came to, with the intensities that came, and the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from carbon._backtest_case import Case, Placed
from carbon._backtest_report import Backtest, Hour, Peak, PolicyResult, Way

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon._backtest_jobs import JobList
    from carbon._backtest_setting import Setting

    Floats = NDArray[np.float64]

HOURS: Final = 24
_P95: Final = 95
_ROUNDING: Final = 1e-3
_GRAMS: Final = 1000.0
_ROOM: Final = 1.4
"""Slots for each that jobs take on average: without room nothing waits for a better hour."""


@dataclass(frozen=True, eq=False)
class Settlement:
    """What each job came to; ``nan`` for one that found no slot.

    Attributes:
        g: Grams of CO2e; ``nan`` also where it ran in a step that nobody has measured.
        delay: Steps from its earliest start to its start.
        unsafe: Whether it started after its latest safe start, or never.
        late: Whether it ended too late or never ran.
    """

    g: Floats
    delay: Floats
    unsafe: NDArray[np.bool_]
    late: NDArray[np.bool_]

    @classmethod
    def of(cls, setting: Setting, jobs: JobList, q: Case, placed: Placed) -> Self:
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
        # Who queues may run past the hours that were checked: a gap is no clean hour.
        gaps = setting.grid.gaps
        known = gaps[zone, end] == gaps[zone, start]
        known &= (network == 0) | (gaps[q.home_zone, end] == gaps[q.home_zone, start])
        startup = np.array([one.startup.total_seconds() for one in setting.pools])[pool]
        began = setting.grid.first.timestamp() + start * setting.grid.step.total_seconds()
        # Who starts at once starts at its release: the rest of the step is not its delay.
        began = np.where(start == q.earliest, jobs.release, began)
        return cls(
            g=np.where(ran & known, g, np.nan),
            delay=np.where(ran, start - q.earliest, np.nan),
            unsafe=~ran | (start > np.maximum(q.latest, q.earliest)),
            late=~ran | (began + startup + q.hours * 3600.0 > jobs.due + _ROUNDING),
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
    """Put together what all policies came to."""
    baseline = float(_baseline(setting, jobs, q).g.sum())
    bound = next((one.bound_g for one in outcomes if one.bound_g is not None), None)
    last = np.maximum(q.latest, q.earliest) + q.length
    span = slice(int(q.earliest.min()), int(last.max()))
    return Backtest(
        jobs=len(jobs),
        jobs_source=jobs.source,
        first=setting.grid.moment(span.start),
        end=datetime.fromtimestamp(float(jobs.due.max()), UTC),
        step=setting.grid.step,
        grid=grid,
        modelled=modelled,
        forecasts=forecasts,
        home=setting.fleet.home,
        baseline_kg=baseline / _GRAMS,
        bound_kg=None if bound is None else bound / _GRAMS,
        results=tuple(_result(setting, jobs, q, one, baseline) for one in outcomes),
        hours=tuple(_hours(setting, q, outcomes, span)),
        days=_days(setting, span),
        crowded=_crowded(jobs, q, outcomes, span),
        notes=(*notes, *setting.cost.notes(setting.grid, span.start, span.stop)),
    )


def _crowded(jobs: JobList, q: Case, outcomes: Sequence[Outcome], span: slice) -> str:
    """Say once that pools are too small, by how much and for which policies."""
    left = {one.way: int((one.placed.pool < 0).sum()) for one in outcomes}
    short = [way.value for way, number in left.items() if number]
    if not short:
        return ""
    slots = q.capacity[:, span].mean(axis=1)
    at_home = float(slots[np.unique(q.home)].sum())
    usable = float(slots[q.permitted.any(axis=0)].sum())
    needed = float(q.length.sum()) / (span.stop - span.start)
    what = "no comparison is possible"
    if len(short) < len(left):
        what = f"nothing is said of what {', '.join(short)} would save"
    fix = "replay fewer jobs"
    if jobs.every is not None and at_home:
        hours = math.ceil(_ROOM * jobs.every / timedelta(hours=1) * needed / at_home)
        fix = f"use --every {hours}h"
    return (
        f"These jobs need about {needed:.2g} slots at a time, home has {at_home:.2g}, and all "
        f"pools that may run them have {usable:.2g}: up to {max(left.values()):,} jobs find no "
        f"slot before the trace ends, so {what}. Raise capacity in the fleet file, or {fix}."
    )


def _baseline(setting: Setting, jobs: JobList, q: Case) -> Settlement:
    """Settle all jobs at once at home, whether or not it has room for them."""
    nobody = np.zeros(len(q.earliest), np.bool_)
    moves, used = np.zeros_like(q.earliest), np.zeros_like(q.capacity)
    placed = Placed(q.home[q.group], q.earliest, nobody, nobody, moves, used)
    return Settlement.of(setting, jobs, q, placed)


def _result(
    setting: Setting, jobs: JobList, q: Case, one: Outcome, baseline: float
) -> PolicyResult:
    placed, settled = one.placed, one.settled
    unplaced = placed.pool < 0
    grams = float(settled.g[~unplaced].sum())
    unmeasured = int(np.isnan(settled.g[~unplaced]).sum())
    pool, start = np.maximum(placed.pool, 0), np.maximum(placed.start, 0)
    usd = float(setting.cost.usd(jobs, pool, start, q.length)[~unplaced].sum())
    delay = settled.delay[~unplaced] * (setting.grid.step / timedelta(hours=1))
    return PolicyResult(
        policy=one.way,
        kg=None if unmeasured else grams / _GRAMS,
        saved_percent=None
        if unmeasured or unplaced.any() or baseline <= 0
        else 100 * (1 - grams / baseline),
        usd=None if np.isnan(usd) else usd,
        mean_delay_hours=float(delay.mean()) if len(delay) else 0.0,
        p95_delay_hours=float(np.percentile(delay, _P95)) if len(delay) else 0.0,
        misses=int(settled.late.sum()),
        unsafe=int(settled.unsafe.sum()),
        queued=int(placed.queued.sum()),
        unplaced=int(unplaced.sum()),
        unmeasured=unmeasured,
        moves=int(placed.moves.sum()),
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


def _days(setting: Setting, span: slice) -> int:
    """Return how many days a time has, the last one whole."""
    steps: int = span.stop - span.start
    return math.ceil(steps / (HOURS * setting.grid.per_hour))


def _hours(setting: Setting, q: Case, outcomes: Sequence[Outcome], span: slice) -> list[Hour]:
    """Return the usual day of each zone, over the time in which jobs may run."""
    grid = setting.grid
    hour = np.arange(grid.steps)[span] // grid.per_hour % HOURS
    came = np.maximum(np.bincount(hour, minlength=HOURS), 1)
    # Jobs are counted by whole days: an hour that only one day has is not a usual hour.
    steps = _days(setting, span) * grid.per_hour

    def total(values: Floats) -> Floats:
        found = np.bincount(hour, weights=np.nan_to_num(values[span]), minlength=HOURS)
        return found.astype(np.float64)

    found = []
    for z, zone in enumerate(grid.zones):
        g_per_kwh = total(grid.actual[z]) / came
        running = {
            one.way: total(one.placed.used[q.zone == z].sum(axis=0).astype(np.float64)) / steps
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
