"""What ``carbon backtest`` replays: jobs, trace and forecasts, from what a person has asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from carbon import BadInput, Fleet, Hardware
from carbon._backtest import Replay, first_release
from carbon._backtest_cost import read_prices
from carbon._backtest_grid import Trace, read_trace, typical_trace
from carbon._backtest_jobfile import read_jobs
from carbon._backtest_jobs import LONGEST, Every, Group, JobList, duration
from carbon._backtest_report import Backtest, Way
from carbon._backtest_runs import runs
from carbon._backtest_setting import startups
from deployments._arguments import write_table
from deployments._ask import ask_prefect
from deployments._backtest_jobs import past_jobs
from deployments._jobs import jobs as known_jobs
from deployments._settings import Settings
from work_pools import load_fleet

_EVERY, _HOURS, _SLACK = "6h", 2.0, "24h"
_MODELLED_DAYS = 28
_DAY = timedelta(days=1)
_YEAR = timedelta(days=366)
_LONGEST_MODEL = 10 * _YEAR


@dataclass(frozen=True)
class MadeUp:
    """What a person has said of jobs that are made up; ``None`` or empty where nothing."""

    every: str | None
    hours: float | None
    slack: str | None
    kw: float | None
    count: int | None
    hardware: Hardware | None
    data_class: tuple[str, ...]
    days: int | None

    def refuse_beside(self, other: str) -> None:
        """Refuse what was said, where jobs come from elsewhere: it would be ignored.

        Raises:
            BadInput: Something was said.
        """
        for name, value in vars(self).items():
            if value not in (None, ()):
                raise BadInput(
                    f"--{name.replace('_', '-')}",
                    f"is of made-up jobs, and stands beside {other}",
                    "Leave it out: each of those jobs says it itself.",
                )


@dataclass(frozen=True)
class Wanted:
    """What a person has asked for; see :func:`deployments._backtest.backtest`."""

    jobs: Path | None
    made_up: MadeUp
    runs: int | None
    traces: Path | None
    column: str
    forecasts: Path | None
    forecast_column: str
    ahead: str
    prices: Path | None
    ways: tuple[Way, ...]
    quantile: float
    replan: str
    each: Path | None


def replayed(wanted: Wanted) -> Backtest:
    """Replay what a person has asked for.

    Raises:
        BadInput: A file, an argument or a setting is wrong, or they do not go together.
        ResidencyError: A job's data may be in no pool that it can use.
        PrefectUnavailable: Past runs were asked for, and the Prefect API did not answer.
    """
    settings = Settings.load()
    fleet = load_fleet(settings.fleet)
    if wanted.jobs is not None and wanted.runs is not None:
        raise BadInput("--runs", "stands beside a file of jobs", "Give one of the two.")
    path = wanted.traces or settings.replay
    if path is None and wanted.forecasts is not None:
        raise BadInput(
            "--forecasts", "stands without --traces", "Give what came, too, to settle with."
        )
    trace = None if path is None else read_trace(path, wanted.column)
    prices = wanted.prices or settings.replay_prices
    jobs = _jobs(wanted, settings, fleet, trace)
    ahead = duration("--ahead", wanted.ahead)
    if trace is None:
        trace = _modelled(fleet, jobs)
        forecasts, ahead = trace, LONGEST
    elif wanted.forecasts is not None:
        forecasts = read_trace(wanted.forecasts, wanted.forecast_column)
    else:
        forecasts = None
    replay = Replay.of(
        jobs,
        fleet,
        trace,
        forecasts=forecasts,
        ahead=ahead,
        prices=None if prices is None else read_prices(prices),
        quantile=wanted.quantile,
        replan=duration("--replan", wanted.replan),
    )
    outcomes = replay.outcomes(wanted.ways)
    if wanted.each is not None:
        write_table(wanted.each, runs(replay.setting, replay.jobs, outcomes))
    return replay.report(outcomes)


def _jobs(wanted: Wanted, settings: Settings, fleet: Fleet, trace: Trace | None) -> JobList:
    made_up = wanted.made_up
    if wanted.jobs is not None:
        made_up.refuse_beside("a file of jobs")
        return read_jobs(wanted.jobs)
    if wanted.runs is not None:
        made_up.refuse_beside("--runs")
        clock = settings.make_clock()
        since = clock.now() - timedelta(days=wanted.runs)
        return ask_prefect(past_jobs(known_jobs().values(), fleet, since, clock))
    slack = duration("--slack", _SLACK if made_up.slack is None else made_up.slack)
    every = Every(
        every=duration("--every", _EVERY if made_up.every is None else made_up.every),
        hours=_HOURS if made_up.hours is None else made_up.hours,
        slack=slack,
        startups=startups(fleet, fleet.pools),
        kw=made_up.kw,
        count=made_up.count or 1,
        group=Group(hardware=made_up.hardware, data_classes=made_up.data_class),
    )
    if trace is None:
        days = _DAY * (made_up.days or _MODELLED_DAYS)
        today = settings.make_clock().now().astimezone(UTC)
        end = datetime(today.year, today.month, today.day, tzinfo=UTC)
        return every.jobs(end - days, end)
    first = first_release(trace.first, forecast=wanted.forecasts is not None)
    end = trace.end
    if made_up.days is not None:
        end = min(end, first + _DAY * made_up.days + slack + timedelta(hours=every.hours))
    return every.jobs(first, end)


def _modelled(fleet: Fleet, jobs: JobList) -> Trace:
    """Return modelled days around the jobs, with two weeks of the past and room to queue."""
    first = datetime.fromtimestamp(float(jobs.release.min()), UTC) - LONGEST
    end = datetime.fromtimestamp(float(jobs.due.max()), UTC) + 2 * _DAY
    if end - first > _LONGEST_MODEL:
        raise BadInput(
            jobs.source,
            f"has jobs from {first + LONGEST:%Y-%m-%d} to {end - 2 * _DAY:%Y-%m-%d}",
            f"Replay at most {_LONGEST_MODEL // _YEAR} years, or give --traces.",
        )
    zones = list(dict.fromkeys(pool.place.zone for pool in fleet.pools))
    return typical_trace(zones, first, end)
