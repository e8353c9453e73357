"""The back-test: what policies would have saved, with no more than was known at the time.

::

    trace = read_trace(Path("my-grid.parquet"))
    report = backtest(read_jobs(Path("my-jobs.csv")), fleet, trace)

Jobs arrive in order. Each is placed once, at its release, in what the jobs before it left of the
pools' capacity, by what was known then; ``re-planned`` moves who still waits for a clear gain,
``threshold`` waits and watches, and ``oracle`` knows the future. All plan up to a job's latest safe
start, as the trigger does, and are settled with the intensities that came. A job is one stage that
runs whole; limits on cost are left out, for they would bind all policies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon import _backtest_policies as policies
from carbon._backtest_case import Case, Known, Placed
from carbon._backtest_grid import Trace, plain_step, refuse_gaps
from carbon._backtest_oracle import oracle
from carbon._backtest_report import Backtest, Way
from carbon._backtest_setting import Setting
from carbon._backtest_settle import Outcome, Settlement, report
from carbon._candidates import NOT_WORTH_WAITING
from carbon._errors import BadInput
from carbon._statistical import DAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon._backtest_jobs import JobList
    from carbon._decision import Reservation
    from carbon._fleet import Fleet
    from carbon._series import PriceSeries

QUANTILE: Final = 0.3
_SECONDS: Final = 3600.0
REPLAN: Final = timedelta(hours=3)
RATE: Final = 0.005
"""How fast ``priced`` follows demand; 0.001 to 0.03 save the same within half a per cent."""


def backtest(
    jobs: JobList,
    fleet: Fleet,
    trace: Trace,
    *,
    forecasts: Trace | None = None,
    ahead: timedelta = DAY,
    prices: Mapping[str, PriceSeries] | None = None,
    ways: Sequence[Way] = tuple(Way),
    quantile: float = QUANTILE,
    replan: timedelta = REPLAN,
    reserved: Sequence[Reservation] = (),
) -> Backtest:
    """Replay jobs over a trace.

    Args:
        jobs: The jobs.
        fleet: Pools, home and residency.
        trace: What came.
        forecasts: What a provider had forecast of each hour; without one, and beyond it, the
            statistical forecast from the hours before serves.
        ahead: How long ahead of each hour that was known.
        prices: What electricity came to cost, by zone; for pools that pay the market's price.
        ways: Policies to compare; ``at-once`` is always among them.
        quantile: ``threshold`` starts when home is as clean as this part of the two weeks before.
        replan: How often ``re-planned`` plans waiting jobs again, in grid time from midnight UTC.
        reserved: Slots that others hold.

    Raises:
        BadInput: The trace does not cover the jobs, or something else does not fit.
        ResidencyError: A job's data may be in no pool that it can use.
    """
    replay = Replay.of(
        jobs,
        fleet,
        trace,
        forecasts=forecasts,
        ahead=ahead,
        prices=prices,
        quantile=quantile,
        replan=replan,
        reserved=reserved,
    )
    return replay.report(replay.outcomes(ways))


@dataclass(frozen=True, eq=False)
class Replay:
    """Jobs, pools and grid on whole steps, ready to be run through by any policy.

    Attributes:
        jobs: The jobs.
        trace: What came.
        forecasts: What a provider had forecast, if there is one.
        setting: Pools and grid.
        case: All of it for the kernels.
        known: What was known at each step.
        quantile: Of ``threshold``.
        replan: Of ``re-planned``.
    """

    jobs: JobList
    trace: Trace
    forecasts: Trace | None
    setting: Setting
    case: Case
    known: Known
    quantile: float = QUANTILE
    replan: timedelta = REPLAN

    @classmethod
    def of(
        cls,
        jobs: JobList,
        fleet: Fleet,
        trace: Trace,
        *,
        forecasts: Trace | None = None,
        ahead: timedelta = DAY,
        prices: Mapping[str, PriceSeries] | None = None,
        quantile: float = QUANTILE,
        replan: timedelta = REPLAN,
        reserved: Sequence[Reservation] = (),
    ) -> Replay:
        """Lay everything out on steps; see :func:`backtest`."""
        if not 0 <= quantile <= 1:
            raise BadInput("quantile", f"{quantile:g} is none", "Give 0 to 1, e.g. 0.3.")
        if ahead < timedelta(hours=1):
            raise BadInput("ahead", f"{ahead} is too short", "Give an hour or more.")
        moments = np.concatenate([jobs.release, jobs.hours * _SECONDS])
        if not timedelta(minutes=15) <= replan <= DAY:
            raise BadInput("replan", f"{replan} cannot be", "Give 15 minutes to a day, e.g. '3h'.")
        setting = Setting.of(
            fleet,
            trace,
            plain_step(trace, moments),
            forecasts=forecasts,
            ahead=ahead,
            prices=prices or {},
        )
        case = setting.case(jobs, reserved)
        stop = int((np.maximum(case.latest, case.earliest) + case.length).max())
        refuse_gaps(setting.grid, trace.source, int(case.earliest.min()), stop)
        known = setting.grid.known()
        return cls(jobs, trace, forecasts, setting, case, known, quantile, replan)

    def outcomes(self, ways: Sequence[Way] = tuple(Way)) -> list[Outcome]:
        """Run all jobs by some policies, always by the baseline, and settle them."""
        return [self.outcome(way) for way in Way if way in ways or way is Way.AT_ONCE]

    def outcome(self, way: Way) -> Outcome:
        """Run all jobs by one policy and settle them with what came."""
        placed, bound = self.run(way)
        return Outcome(
            way, placed, Settlement.of(self.setting, self.jobs, self.case, placed), bound
        )

    def run(self, way: Way) -> tuple[Placed, float | None]:
        """Place all jobs by one policy; return also the oracle's bound in gCO2e."""
        q, placed = self.case, self.nobody()
        if way is Way.AT_ONCE:
            policies.at_once(q, placed)
        elif way is Way.THRESHOLD:
            policies.threshold(q, self.setting.grid.clean(q.home_zone, self.quantile), placed)
        elif way is Way.ORACLE:
            return placed, oracle(q, placed, self.setting.grid.actual)
        else:
            longest = int((np.maximum(q.latest - q.earliest, 0) + q.length).max())
            sums = np.empty((len(self.setting.grid.zones), longest + 1))
            if way is Way.RE_PLANNED:
                every = max(1, self.replan // self.setting.grid.step)
                policies.replan(q, self.known, placed, sums, every, NOT_WORTH_WAITING)
                return placed, None
            move, roam = way is not Way.PLACE_ONLY, way is not Way.TIME_ONLY
            rate = RATE if way is Way.PRICED else 0.0
            policies.choose(q, self.known, placed, sums, move, roam, rate, NOT_WORTH_WAITING)
        return placed, None

    def nobody(self) -> Placed:
        """Return what becomes of the jobs before any is placed."""
        n = len(self.case.earliest)
        return Placed(
            pool=np.full(n, -1),
            start=np.full(n, -1),
            queued=np.zeros(n, np.bool_),
            blind=np.zeros(n, np.bool_),
            moves=np.zeros(n, np.int64),
            used=np.zeros_like(self.case.capacity),
        )

    def report(self, outcomes: Sequence[Outcome]) -> Backtest:
        """Put together what policies came to; the first one is the baseline."""
        return report(
            self.setting,
            self.jobs,
            self.case,
            outcomes,
            grid=self.trace.source,
            modelled=self.trace.modelled,
            forecasts=_forecasts(self.forecasts, self.setting.grid.ahead),
            notes=_notes(self),
        )


def _forecasts(forecasts: Trace | None, ahead: timedelta) -> str:
    own = "the statistical forecast from the hours before"
    if forecasts is None:
        return own
    return f"{forecasts.source}, known {ahead / timedelta(hours=1):g} h ahead; beyond it {own}"


def _notes(replay: Replay) -> list[str]:
    """Say what must be read beside the numbers."""
    told, trace, forecasts = [], replay.trace, replay.forecasts
    if trace.modelled:
        told.append(f"The grid is a {trace.source}: nobody has measured these hours.")
    if forecasts is not None and forecasts.modelled:
        told.append("Its forecast is the model itself: real forecasts err, so real savings differ.")
    hurried = np.flatnonzero(replay.case.latest < replay.case.earliest)
    if len(hurried):
        told.append(_hurried(replay, hurried))
    return [*told, *replay.setting.notes]


def _hurried(replay: Replay, hurried: NDArray[np.int64]) -> str:
    """Say of the first job without slack what it lacks, for a file may have thousands of them."""
    jobs, j = replay.jobs, int(hurried[0])
    has = float(jobs.due[j] - jobs.release[j]) / _SECONDS
    startups = replay.setting.startups(replay.case.permitted[jobs.group[j]])
    needs = float(jobs.reserve_hours[j]) + startups / _SECONDS
    return (
        f"{len(hurried):,} jobs have no slack and start at once at home. The first, "
        f"{jobs.places[jobs.row[j]]}, has {has:.4g} h to its finish-by, and a safe start needs "
        f"{needs:.4g} h for two runs of p95 and the start-ups: let it finish later, or give "
        "p95_hours if its run time is steadier."
    )


def first_release(grid_first: datetime, *, forecast: bool) -> datetime:
    """Return from when on jobs find a forecast: after two weeks where it must be learned first."""
    return grid_first + (timedelta(0) if forecast else 14 * DAY)
