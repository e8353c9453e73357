"""How long a back-test of a year takes, and what it says.

Usage: ``python benchmarks/backtest.py [TRACES] [--jobs 1000] [--hourly]`` where TRACES is a folder
with ``intensity_lifecycle_2022_hourly.parquet`` (default: ``../shared/traces``).

1,000 jobs a day over 2022 from Germany, over 12 zones, on half hours: half an hour to 8 h long, 0
to 28 h from the release to the latest safe start, power log-normal, some with data to carry. Home
can take all of them at once on most days; each other pool takes a tenth of that. ``setup`` is what
all policies share: what was known of the grid at each hour. Decisions are made with the
statistical forecast, after two weeks. The time includes ``re-planned``: every waiting job again
each 3 h.

The second table is what planning again is worth with no other place to go: in each zone a job of
4 h every hour, with 24 h of slack, in a pool that takes 12 at a time. Captured is the part of what
the oracle saves.
"""

from __future__ import annotations

import argparse
import resource
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from carbon import Fleet, Hardware, Pool, Region
from carbon._backtest import Replay, backtest, first_release
from carbon._backtest_grid import Trace, read_trace
from carbon._backtest_jobs import P95_OF_HOURS, Every, Group, JobList
from carbon._backtest_report import Backtest, Way
from carbon._statistical import DAY

HOUR = 3600.0
STARTUPS = 360.0
"""Seconds that a latest safe start leaves for the start-ups of entry run, job and retry."""
DAYS = 363
LARGE, SMALL = 0.18, 0.018
"""Capacity of home and of each other pool, for each job a day."""
ALONE = 67
"""Jobs a day for which home takes 12 at a time."""

SHARE_WITH_DATA = 0.3
HOME = "DE"
FIRST = datetime(2022, 1, 1, tzinfo=UTC)


class Site(Pool):
    """A pool in any grid zone, for the catalogue has no cloud region in some of them.

    Attributes:
        zone: The grid zone.
    """

    zone: str

    @property
    def place(self) -> Region:
        """The pool's region, moved to the zone."""
        return super().place.model_copy(update={"zone": self.zone})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("traces", nargs="?", type=Path, default=Path("../shared/traces"))
    parser.add_argument("--jobs", type=int, default=1000, help="jobs a day")
    parser.add_argument("--hourly", action="store_true", help="on hours instead of half hours")
    told = parser.parse_args()
    trace = read_trace(told.traces / "intensity_lifecycle_2022_hourly.parquet")
    began = time.perf_counter()
    backtest(jobs(20, 30, half=not told.hourly), fleet(trace, 20), trace)
    print(f"first back-test of this process: {time.perf_counter() - began:.1f} s (compiles once)\n")
    cpu = time.process_time()
    all_ = jobs(told.jobs, DAYS, half=not told.hourly)
    began = time.perf_counter()
    replay = Replay.of(all_, fleet(trace, told.jobs), trace)
    took = {"setup": time.perf_counter() - began}
    outcomes = []
    for way in Way:
        start = time.perf_counter()
        outcomes.append(replay.outcome(way))
        took[way] = time.perf_counter() - start
    start = time.perf_counter()
    found = replay.report(outcomes)
    took["report"] = time.perf_counter() - start
    print_table(found, took)
    whole, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    zones = len(replay.setting.grid.zones)
    print(
        f"\n{len(all_):,} jobs, {zones} zones, {replay.setting.grid.steps:,} steps: "
        f"{whole:.1f} s in all, {cpu:.1f} s of CPU "
        f"(setup {took['setup']:.1f} s, report {took['report']:.1f} s), "
        f"{peak:.0f} MiB at most\n"
    )
    print("| zone | oracle saves % | captured at the release % | re-planned % | moves of a job |")
    print("|---|---|---|---|---|")
    for zone in trace.zones:
        print_zone(zone, trace)


def print_table(found: Backtest, took: dict[str, float]) -> None:
    """Print one row a policy."""
    gap = found.gap_percent
    print("| policy | s | kgCO2e | saved % | USD | delay h | misses | queued | busiest pool |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in found.results:
        saved = "" if row.saved_percent is None else f"{row.saved_percent:.2f}"
        saved += f" (gap {gap:.2f} %)" if row.policy is Way.ORACLE and gap is not None else ""
        full = max(row.peaks, key=lambda one: one.peak / one.capacity)
        print(
            f"| {row.policy} | {took[row.policy]:.1f} | {row.kg or 0.0:,.0f} | {saved} "
            f"| {row.usd or 0:,.0f} | {row.mean_delay_hours:.1f} | {row.misses:,} | {row.queued:,} "
            f"| {full.zone} {full.peak}/{full.capacity} |"
        )


def print_zone(zone: str, trace: Trace) -> None:
    """Print what planning again is worth in one zone."""
    alone = Trace({HOME: trace.zones[zone]}, zone)
    begin = first_release(trace.first, forecast=False)
    steady = Every(timedelta(hours=1), 4.0, DAY, startups=timedelta(seconds=STARTUPS))
    ways = (Way.BOTH, Way.RE_PLANNED, Way.ORACLE)
    found = backtest(steady.jobs(begin, trace.end), fleet(alone, ALONE), alone, ways=ways)
    once, again, best = (found.result(way).saved_percent or 0.0 for way in ways)
    print(
        f"| {zone} | {best:.1f} | {100 * once / best:.1f} | {100 * again / best:.1f} "
        f"| {found.result(Way.RE_PLANNED).moves / found.jobs:.2f} |"
    )


def jobs(a_day: int, days: int, *, half: bool) -> JobList:
    """Return jobs of all kinds."""
    rng = np.random.default_rng(1)
    n, edge = a_day * days, HOUR / 2 if half else HOUR
    release = np.sort(rng.integers(0, int(days * 24 * HOUR / edge), n)) * edge
    hours = rng.integers(1, 9, n) * (edge / HOUR) * (2 if half else 1) * rng.choice([0.5, 1.0], n)
    hours = np.maximum(edge / HOUR, np.ceil(hours * HOUR / edge) * edge / HOUR)
    reserve = 2 * P95_OF_HOURS * hours
    data = np.where(rng.random(n) < SHARE_WITH_DATA, rng.lognormal(2, 1, n), 0.0)
    return JobList(
        release=FIRST.timestamp() + release,
        due=FIRST.timestamp() + release + (reserve + rng.integers(0, 29, n)) * HOUR + STARTUPS,
        hours=hours,
        reserve_hours=reserve,
        kwh=rng.lognormal(-1, 1, n) * hours,
        data_in_gb=data,
        data_out_gb=data / 10,
        group=np.zeros(n, np.int64),
        groups=(Group(hardware=Hardware.GPU, data_classes=("public",)),),
        source=f"{n:,} jobs of all kinds",
        row=np.zeros(n, np.int64),
        places=("jobs of all kinds",),
    )


def fleet(trace: Trace, a_day: int) -> Fleet:
    """Return a pool in each zone of the trace, home's large enough for most days."""
    home = Pool(
        name="entry",
        region="aws:eu-central-1",
        hardware=Hardware.CPU,
        capacity=1,
        watts=15,
        usd_per_hour=0.2,
    )
    sites = [
        Site(
            name=zone.lower(),
            zone=zone,
            region="aws:eu-central-1" if zone == HOME else "aws:eu-north-1",
            hardware=Hardware.GPU,
            capacity=max(1, round(a_day * (LARGE if zone == HOME else SMALL))),
            watts=131,
            usd_per_hour=1.5,
        )
        for zone in trace.zones
    ]
    pools = (home, *sites)
    return Fleet.model_construct(
        home="aws:eu-central-1", residency={"public": ("*",)}, pools=pools, usd_per={}, blackouts=()
    )


if __name__ == "__main__":
    main()
