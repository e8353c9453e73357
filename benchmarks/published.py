"""The set-ups of three papers, replayed with this planner on any trace: one table each.

Usage::

    python benchmarks/published.py [nightly|ml|gaia|eurosys|speed ...] [--trace FILE ...]
        [--zones DE GB] [--every N] [--seeds N] [--jobs FILE] [--start HOUR] [--slots N]

Without ``--trace`` the traces of 2022 in ``../shared/traces`` are read: hourly, 12 zones; they are
the third paper's data, not the others'. A file may be Parquet or CSV with a time and one column a
zone (also ``combined_carbon.csv`` of the third paper), or one zone: ``Time,Carbon Intensity``
(half-hourly, dos-group/lets-wait-awhile), ``datetime,carbon_intensity_avg`` (umassos/GAIA), or a
download of Electricity Maps; files of one zone that follow one another are joined. ``--every 1
--seeds 10`` is all of it, as published. ``tests/carbon/test_published.py`` holds each set-up
against the papers' own loops, and *eurosys* against rows that they published.

1. *nightly*, *ml*: Wiesner, Behnke, Scheinert, Gontarska, Thamsen: Let's Wait Awhile. Middleware
   2021, doi 10.1145/3464298.3493399; github.com/dos-group/lets-wait-awhile, ``simulate.py`` at
   52672f2 and ``strategy.py`` at 6f58b9e. A 30 min job each day at 01:00 that may start up to 8 h
   earlier or later; 3,387 jobs of 4 to 90 h that are given on workdays from 9 to 17 and have to end
   by 9:00 of the next workday, or of the next Monday or Thursday. Forecasts are the truth with
   Gaussian noise of 0, 5 and 10 % of the mean, ten draws. As in that code: files are read from New
   Year on (they begin ten days before, and end ten days after the year, so that all jobs fit); the
   search reaches one step beyond the deadline, and that of the baseline one step beyond the run;
   Saturday counts as Friday's next workday; the sum over the nights is divided by all nights, also
   where the first is left out. Not as in that code: of equal values an interruptible job takes as
   many as it needs, there it takes all. The clock is that of the file.
2. *gaia*: Going Green for Less Green: Optimizing the Cost of Reducing Cloud Carbon Emissions.
   ASPLOS 2024; github.com/umassos/GAIA, ``src`` at 2c1c25f and 0d474d3. Jobs below 2 h may wait
   6 h, others 24 h. *Lowest-Slot* starts in the cleanest hour; *Lowest-Window* where a job of the
   mean length of its queue would emit least, of starts an hour apart; *Carbon-Time* where that
   saves most per hour until it is over; *Wait Awhile* runs in the cleanest times until length and
   wait are over. Reserved cores cost 0.4 of on-demand until the last start; "reserved first" starts
   a waiting job as soon as they have room. As in that code: all is in steps of five seconds, a core
   can be had again one step after it was given back, and ``--start`` counts from 2022 on in files
   of 2020 to 2022. The jobs are drawn here (``--jobs`` takes their ``arrival_time,length,cpus`` in
   seconds). Spot instances are left out.
3. *eurosys*: Sukprasert, Souza, Bashir, Irwin, Shenoy: On the Limitations of Carbon-Aware Temporal
   and Spatial Workload Shifting in the Cloud. EuroSys 2024, zenodo.org/records/10790855;
   github.com/umassos/decarbonization-potential, ``sim_temporal/experiment_vary_job_slack.py`` at
   da853f9. Jobs of 1 to 168 h given each hour of 2022 with 24 h of slack, whole and interruptible,
   against running at once, and against the cleanest zone. As in that code windows end with the
   year, and there are as many releases as the year has hours less those of the job.
4. *speed*: wall time of one answer, in process.

All of it on the traces of 2022 (``--every 1 --seeds 10``, 2 vCPU shared with three others), saving
in %, forecast error of 0 / 5 / 10 %::

    nightly, 10 s     +-1 h        +-2 h        +-4 h        +-8 h
    FR                2.8 / 1.6    4.5 / 2.9    6.0 / 4.1    11.8 / 9.7
    DE                1.2 / 0.4    2.4 / 1.2    6.0 / 4.3    23.2 / 21.7
    GB                2.1 / 1.0    3.9 / 2.3    5.2 / 3.4    10.5 / 8.5
    US-CAL-CISO       12.4 / 11.8  25.1 / 24.5  34.7 / 33.6  37.6 / 36.2

    ml, 200 s         next workday, whole, interruptible   semi-weekly, whole, interruptible
    FR                3.8 / 3.8 / 3.8   5.6 / 5.3 / 4.8    9.8 / 9.8 / 9.7     13.0 / 12.5 / 11.5
    DE                3.6 / 3.5 / 3.5   6.0 / 5.8 / 5.3    9.3 / 9.3 / 9.2     14.4 / 14.0 / 13.0
    GB                5.2 / 5.2 / 5.1   7.5 / 7.3 / 6.8    12.7 / 12.7 / 12.6  17.5 / 17.1 / 16.2
    US-CAL-CISO       2.2 / 2.1 / 2.1   6.3 / 6.1 / 5.7    5.5 / 5.4 / 5.3     16.0 / 15.7 / 14.9

    eurosys, 220 s, mean of 12 zones, by hours of the job
                      1     6     12    24    48    96    168
    deferred whole    18.0  15.4  10.9  5.9   3.9   2.2   1.3
    interrupted       18.0  16.1  13.8  10.8  7.8   5.3   3.6
    cleanest zone     92.7  92.7  92.7  92.7  92.7  92.8  92.8   at once

Of the ml jobs 3,348 are in it: those of the last week reach beyond the trace, which ends with 2022.
"""

from __future__ import annotations

import argparse
import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from carbon import IntensitySeries, Interruptible, Kind, SegmentRequest, Segments, segments

Floats = NDArray[np.float64]
HOUR = timedelta(hours=1)
HALF = timedelta(minutes=30)
DAY = timedelta(days=1)
MONDAY, THURSDAY, SATURDAY, SUNDAY = 0, 3, 5, 6
EVENING = 17
TIMES = ("utc", "datetime", "time", "datetime (utc)")
VALUES = (
    "carbon intensity",
    "carbon_intensity_avg",
    "carbon intensity gco₂eq/kwh (lca)",
    "carbon intensity gco₂eq/kwh (life cycle)",
)
DEFAULT = Path("../shared/traces/intensity_lifecycle_2022_hourly.parquet")


@dataclass(frozen=True)
class Trace:
    """Carbon intensity of a zone at equal steps, in gCO2e/kWh."""

    zone: str
    start: datetime
    step: timedelta
    values: Floats

    @cached_property
    def series(self) -> IntensitySeries:
        """The same as the planner takes it."""
        starts = [self.start + self.step * place for place in range(len(self.values))]
        known = [None if np.isnan(value) else float(value) for value in self.values]
        return IntensitySeries(self.zone, starts, self.end, known, "trace", kind=Kind.ACTUAL)

    @property
    def end(self) -> datetime:
        """End of the last step."""
        return self.start + self.step * len(self.values)

    @property
    def year(self) -> int:
        """The year that most of it lies in."""
        return (self.start + (self.end - self.start) / 2).year

    def noisy(self, error: float, seed: int) -> Trace:
        """Return a forecast that is off by Gaussian noise, as a share of the mean.

        Where that is below zero all of it is raised: which time is cleanest stays the same.
        """
        noise = np.random.default_rng(seed).normal(
            0, error * float(np.nanmean(self.values)), len(self.values)
        )
        values = self.values + noise
        return replace(self, values=values - min(0.0, float(np.nanmin(values))))

    def cut(self, start: datetime, end: datetime) -> Trace:
        """Return the part of it inside a window."""
        first = max(0, (start - self.start) // self.step)
        last = max(0, (end - self.start) // self.step)
        return replace(self, start=self.start + self.step * first, values=self.values[first:last])

    def from_new_year(self) -> Trace:
        """Return it from the begin of its year on, as the first paper reads its files."""
        return self.cut(datetime(self.year, 1, 1, tzinfo=UTC), self.end)

    def in_year(self, year: int) -> Trace:
        """Return a year of it, as the third paper does; all of it where it has less."""
        first, last = (datetime(one, 1, 1, tzinfo=UTC) for one in (year, year + 1))
        return self.cut(first, last) if self.start <= first and last <= self.end else self


def read(path: Path, zones: Sequence[str] = ()) -> list[Trace]:
    """Read a file in any of the forms; the name of a file with one zone is its zone."""
    table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    names = {name.lower(): name for name in table.columns}
    clock = next(names[name] for name in TIMES if name in names)
    if table[clock].dtype == pl.String:
        table = table.with_columns(pl.col(clock).str.slice(0, 19).str.to_datetime())
    if "carbon intensity" in names:  # some of these files are finer; the paper takes half hours
        table = table.filter(pl.col(clock).dt.minute() % 30 == 0)
    table, step = regular(table.unique(clock, keep="first").sort(clock), clock)
    single = next((names[name] for name in VALUES if name in names), None)
    zone = table[names["zone id"]][0] if "zone id" in names else path.stem.removesuffix("_ci")
    columns = {zone: single} if single else {}
    columns = columns or {
        name: name for name in table.columns if name != clock and table[name].dtype.is_numeric()
    }
    start = table[clock][0].replace(tzinfo=UTC)
    return [
        Trace(zone, start, step, as_floats(table[of]))
        for zone, of in columns.items()
        if not zones or zone in zones
    ]


def joined(traces: Sequence[Trace]) -> list[Trace]:
    """Return one trace for each zone: those that follow one another are put together."""
    found: list[Trace] = []
    for trace in sorted(traces, key=lambda one: one.start):
        before = next((one for one in found if one.zone == trace.zone), None)
        if before is not None and (before.end, before.step) == (trace.start, trace.step):
            values = np.concatenate((before.values, trace.values))
            found[found.index(before)] = replace(before, values=values)
        else:
            found.append(trace)
    order = [trace.zone for trace in traces]
    return sorted(found, key=lambda one: order.index(one.zone))


def regular(table: pl.DataFrame, clock: str) -> tuple[pl.DataFrame, timedelta]:
    """Return a table with a row for each step; missing ones hold the last row, and that is told."""
    step = Counter(after - before for before, after in pairwise(table[clock])).most_common(1)[0][0]
    every = pl.datetime_range(table[clock][0], table[clock][-1], step, eager=True).alias(clock)
    full = every.to_frame().join(table, on=clock, how="left", maintain_order="left")
    missing = len(full) - len(table.join(every.to_frame(), on=clock, how="semi"))
    if not missing:
        return full, step
    print(f"{missing} of {len(full)} steps are missing and hold the value before them")
    return full.fill_null(strategy="forward"), step


def as_floats(column: pl.Series) -> Floats:
    """Return a column with unknown values as ``nan``."""
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def best(trace: Trace, request: SegmentRequest) -> Segments:
    """Return the best split by a trace, which has to know the whole window."""
    found = segments(request, trace.series)
    assert found is not None, "the trace has gaps"
    return found


def true_mean(trace: Trace, found: Segments) -> float:
    """Return the mean intensity that a split meets by another trace."""
    parts = [(part.begin, part.end) for part in found.segments]
    hours = [(end - begin) / HOUR for begin, end in parts]
    means = [trace.series.mean(*part) for part in parts]
    return float(np.average(means, weights=hours))


def asked(
    run: timedelta, earliest: datetime, latest: datetime, *, split: bool = False
) -> SegmentRequest:
    """Return a job that uses 1 kW."""
    how = Interruptible() if split else None
    return SegmentRequest(run, run / HOUR, earliest, latest, interruptible=how)


# 1. Let's Wait Awhile


def nightly(trace: Trace, window: timedelta, error: float = 0.0, seeds: int = 1) -> float:
    """Return the intensity of the nightly jobs of a year, in gCO2e/kWh.

    As published: a first night whose window begins before the year is left out, and their sum is
    divided by all nights, so that for windows above an hour 0.3 % are saved by that.
    """
    found = []
    first = datetime(trace.year, 1, 1, 1, tzinfo=UTC)
    nights = [first + DAY * day for day in range(365)]
    every = [night for night in nights if trace.start <= night and night + HALF <= trace.end]
    inside = [
        night
        for night in every
        if trace.start <= night - window and night + window + HALF <= trace.end
    ]
    draws = seeds if error else 1
    for seed in range(draws):
        forecast = trace.noisy(error, seed) if error else trace
        found += [
            true_mean(trace, best(forecast, asked(HALF, night - window, night + window + HALF)))
            for night in inside
        ]
    return float(np.sum(found)) / (len(every) * draws)


def print_nightly(traces: Sequence[Trace], seeds: int) -> None:
    """Print what the nightly job saves by the width of its window."""
    widths = [HALF, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR]
    print("Let's Wait Awhile, nightly: 30 min at 01:00, saving in % by flexibility (error 0 / 5 %)")
    print(f"| zone | g/kWh at 01:00 | {' | '.join(f'+-{w / HOUR:g} h' for w in widths)} |")
    print(f"|---|---|{'---|' * len(widths)}")
    for trace in map(Trace.from_new_year, traces):
        base = nightly(trace, timedelta(0))
        cells = []
        for width in widths:
            exact, noisy = nightly(trace, width), nightly(trace, width, 0.05, seeds)
            cells.append(f"{100 * (1 - exact / base):.1f} / {100 * (1 - noisy / base):.1f}")
        print(f"| {trace.zone} | {base:.1f} | {' | '.join(cells)} |")


@dataclass(frozen=True)
class Job:
    """A job that is given at a time.

    Attributes:
        given: When it may start.
        run: Run time.
        cpus: Cores that it takes.
    """

    given: datetime
    run: timedelta
    cpus: int = 1

    def in_steps(self, start: datetime) -> Job:
        """Return it in the five seconds that the second paper's simulator counts in."""
        given = start + (self.given - start) // STEP * STEP
        return replace(self, given=given, run=self.run // STEP * STEP)


def ml_jobs(year: int, count: int = 3387) -> list[Job]:
    """Draw the jobs of the machine learning project in the order of the published draws."""
    rng = np.random.default_rng(0)
    first = datetime(year, 1, 1, tzinfo=UTC)
    days = [first + DAY * day for day in range((datetime(year + 1, 1, 1, tzinfo=UTC) - first).days)]
    workdays = [day for day in days if day.weekday() < SATURDAY]
    by_day = rng.multinomial(count, [1 / len(workdays)] * len(workdays))
    starts = np.arange(9 * 60, EVENING * 60, 30)
    given = [
        day + timedelta(minutes=int(minute))
        for day, jobs in zip(workdays, by_day, strict=True)
        for minute in np.sort(rng.choice(starts, size=jobs))
    ]
    minutes = rng.choice(np.arange(4 * 60, 90 * 60, 30), size=count)
    return [Job(at, timedelta(minutes=int(run))) for at, run in zip(given, minutes, strict=True)]


def next_workday(over: datetime) -> datetime:
    """Return the deadline of a job that would be over at this time if it started at once."""
    nine = over.replace(hour=9, minute=0)
    hours = over.hour + over.minute / 60
    if over.weekday() == SATURDAY:
        return nine + 2 * DAY
    if over.weekday() == SUNDAY or hours > EVENING:
        return nine + DAY
    return max(nine, over)


def semi_weekly(over: datetime) -> datetime:
    """Return the next Monday or Thursday at 9:00."""
    nine = over.replace(hour=9, minute=0)
    days = [nine + DAY * day for day in range(8)]
    return next(day for day in days if day >= over and day.weekday() in {MONDAY, THURSDAY})


def at_once(over: datetime) -> datetime:
    """Return the deadline of the baseline; it has the step of grace, too."""
    return over


def ml_request(
    job: Job, deadline: Callable[[datetime], datetime], *, split: bool
) -> SegmentRequest:
    """Return a job with its window; as published, that is a step longer than the deadline."""
    return asked(job.run, job.given, deadline(job.given + job.run) + HALF, split=split)


def print_ml(traces: Sequence[Trace], every: int, seeds: int) -> None:
    """Print what the machine learning project saves by deadline, kind and error."""
    errors = (0.0, 0.05, 0.1)
    print("Let's Wait Awhile, ML project: saving in % by forecast error of 0 / 5 / 10 %")
    print(
        "| zone | jobs | next workday, whole | interruptible | semi-weekly, whole | interruptible |"
    )
    print("|---|---|---|---|---|---|")
    for trace in map(Trace.from_new_year, traces):
        jobs = [
            job
            for job in ml_jobs(trace.year)
            if ml_request(job, semi_weekly, split=False).latest <= trace.end
        ][::every]
        base = sum(best(trace, ml_request(job, at_once, split=False)).g for job in jobs)
        cells = []
        for deadline in (next_workday, semi_weekly):
            for split in (False, True):
                saved = [
                    ml_saving(trace, jobs, base, deadline, split=split, error=error, seeds=seeds)
                    for error in errors
                ]
                cells.append(" / ".join(f"{100 * part:.1f}" for part in saved))
        print(f"| {trace.zone} | {len(jobs)} | {' | '.join(cells)} |")


def ml_saving(
    trace: Trace,
    jobs: Sequence[Job],
    base: float,
    deadline: Callable[[datetime], datetime],
    *,
    split: bool,
    error: float,
    seeds: int,
) -> float:
    """Return which share of the emissions is saved."""
    draws = range(seeds if error else 1)
    grams = 0.0
    for seed in draws:
        forecast = trace.noisy(error, seed) if error else trace
        for job in jobs:
            found = best(forecast, ml_request(job, deadline, split=split))
            grams += job.run / HOUR * true_mean(trace, found) / len(draws)
    return 1 - grams / base


# 2. GAIA

STEP = timedelta(seconds=5)
HISTORY = 17_544
"""Hours of 2020 and 2021, which stand before the year that the second paper looks at."""

SHORT = 2 * HOUR
WAITS = (6 * HOUR, 24 * HOUR)
RESERVED = 0.4


def drawn_jobs(start: datetime, count: int = 1000) -> list[Job]:
    """Draw a month of jobs: most short, some of days; not the papers' cluster traces."""
    rng = np.random.default_rng(0)
    arrivals = np.sort(rng.uniform(0, 27 * 86_400, count))
    lengths = np.clip(rng.lognormal(np.log(7200), 1.6, count), 300, 72 * 3600)
    return [
        Job(start + timedelta(seconds=int(at)), timedelta(seconds=5 * int(run / 5)))
        for at, run in zip(arrivals, lengths, strict=True)
    ]


def read_jobs(path: Path, start: datetime) -> list[Job]:
    """Read a cluster trace in the form of umassos/GAIA."""
    rows = pl.read_csv(path).sort("arrival_time").iter_rows(named=True)
    return [
        Job(
            start + timedelta(seconds=int(row["arrival_time"])),
            timedelta(seconds=int(row["length"])),
            int(row["cpus"]),
        )
        for row in rows
        if row["length"] > 0
    ]


@dataclass(frozen=True)
class Queues:
    """What is known of a job before it runs: how long its queue may wait, and its mean length."""

    means: tuple[timedelta, timedelta]

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> Queues:
        """Return the queues of these jobs."""
        short = [job.run for job in jobs if job.run <= SHORT]
        long = [job.run for job in jobs if job.run >= SHORT]
        means = (sum(part, timedelta(0)) / max(1, len(part)) for part in (short, long))
        return cls(tuple(mean // STEP * STEP for mean in means))

    def wait(self, job: Job) -> timedelta:
        """Return how long a job may wait."""
        return WAITS[job.run >= SHORT]

    def expected(self, job: Job) -> timedelta:
        """Return how long it is thought to take."""
        return self.means[job.run >= SHORT]


def lowest_slot(trace: Trace, job: Job, queues: Queues) -> datetime:
    """Return the begin of the cleanest hour that it may start in."""
    hour = job.given.replace(minute=0, second=0, microsecond=0) + HOUR
    count = max(0, (job.given + queues.wait(job) - hour) // HOUR + 1)
    starts = [job.given, *(hour + HOUR * place for place in range(count))]
    return min(starts, key=lambda at: trace.series.mean(at, at + timedelta(seconds=1)))


def hourly_starts(job: Job, queues: Queues) -> list[datetime]:
    """Return the starts that the policies with windows look at."""
    return [job.given + HOUR * place for place in range(queues.wait(job) // HOUR + 1)]


def lowest_window(trace: Trace, job: Job, queues: Queues) -> datetime:
    """Return the start at which a job of the expected length emits least."""
    run = queues.expected(job)
    return min(hourly_starts(job, queues), key=lambda at: trace.series.mean(at, at + run))


def carbon_time(trace: Trace, job: Job, queues: Queues) -> datetime:
    """Return the start that saves most for the time until it is over."""
    run = queues.expected(job)
    at_once = trace.series.mean(job.given, job.given + run)

    def worth(at: datetime) -> float:
        return (at_once - trace.series.mean(at, at + run)) / ((at - job.given + run) / HOUR)

    return max(hourly_starts(job, queues), key=worth)


def best_window(trace: Trace, job: Job, queues: Queues) -> datetime:
    """Return the best start of all, which this planner finds if it knows the length."""
    return best(trace, whole(job, queues.wait(job))).start


def whole(job: Job, wait: timedelta) -> SegmentRequest:
    """Return a job that has to start before it has waited this long."""
    request = asked(job.run, job.given, job.given + job.run + wait)
    return replace(request, start_within=wait)


def suspended(job: Job, wait: timedelta) -> SegmentRequest:
    """Return a job that may be suspended and wait this long in all."""
    request = asked(job.run, job.given, job.given + job.run + wait, split=True)
    return replace(request, wait_at_most=wait)


def reserved_first(
    jobs: Sequence[Job], planned: Sequence[datetime], slots: int, *, wait: bool
) -> tuple[list[datetime], float]:
    """Run jobs on reserved instances where there is room, else on demand.

    Args:
        jobs: By the time at which they are given.
        planned: When each starts at the latest.
        slots: Cores of the reserved instances.
        wait: Whether each waits until then even if there is room before.

    Returns:
        When each starts, and the core hours on demand.
    """
    starts = list(planned)
    on_demand, free = 0.0, slots
    events: list[tuple[datetime, int, int]] = []
    for place, job in enumerate(jobs):
        heapq.heappush(events, (job.given, 1, place))
        heapq.heappush(events, (planned[place], 2, place))
    waiting: list[int] = []
    while events:
        now = events[0][0]
        while events and events[0][0] == now:
            _, kind, place = heapq.heappop(events)
            free += jobs[place].cpus if kind == 0 else 0
            if kind == 1:
                waiting.append(place)
        for place in sorted(waiting):
            job = jobs[place]
            due, room = now >= planned[place], free >= job.cpus
            if not (due or (room and not wait)):
                continue
            waiting.remove(place)
            starts[place] = now
            if room:
                free -= job.cpus
                # As published: a core that is given back can be had a step later.
                heapq.heappush(events, (now + job.run + STEP, 0, place))
            else:
                on_demand += job.cpus * (job.run / HOUR)
    return starts, on_demand


def print_gaia(traces: Sequence[Trace], path: Path | None, hour: int, slots: int) -> None:
    """Print emissions, wait and cost by policy."""
    print(f"GAIA: waits of 6 h (jobs below 2 h) and 24 h; {slots} reserved cores where it says so")
    print("| zone | policy | emissions, % of no wait | mean wait, h | cost, % of on demand |")
    print("|---|---|---|---|---|")
    for trace in traces:
        start = trace.start + HOUR * (hour + HISTORY * (len(trace.values) > HISTORY + hour))
        jobs = read_jobs(path, start) if path else drawn_jobs(start)
        jobs = [job for job in jobs if job.given + job.run + 4 * DAY < trace.end]
        gaia(trace, jobs, slots, start)


def gaia(trace: Trace, told: Sequence[Job], slots: int, first: datetime) -> None:
    """Print the rows of one zone."""
    queues, jobs = Queues.of(told), [job.in_steps(first) for job in told]
    hours = sum(job.cpus * (job.run / HOUR) for job in jobs)
    given = [job.given for job in jobs]
    base = emitted(trace, jobs, given)

    def row(name: str, grams: float, waits: Iterable[timedelta], cost: float) -> None:
        mean = sum(waits, timedelta(0)) / len(jobs) / HOUR
        print(
            f"| {trace.zone} | {name} | {100 * grams / base:.1f} | {mean:.1f} "
            f"| {100 * cost / hours:.0f} |"
        )

    def waited(starts: Sequence[datetime]) -> list[timedelta]:
        return [start - at for start, at in zip(starts, given, strict=True)]

    policies = {
        "Lowest-Slot": lowest_slot,
        "Lowest-Window": lowest_window,
        "Carbon-Time": carbon_time,
        "exact window (known length)": best_window,
    }
    planned = {name: [do(trace, job, queues) for job in jobs] for name, do in policies.items()}
    for name, starts in planned.items():
        row(name, emitted(trace, jobs, starts), waited(starts), hours)
    splits = [best(trace, suspended(job, queues.wait(job))) for job in jobs]
    grams = sum(job.cpus * split.g for job, split in zip(jobs, splits, strict=True))
    ends_late = [split.end - job.given - job.run for job, split in zip(jobs, splits, strict=True)]
    row("Wait Awhile (suspend and resume)", grams, ends_late, hours)
    latest = [job.given + queues.wait(job) for job in jobs]
    for name, starts, wait in (
        ("reserved, no wait", given, False),
        ("reserved, all wait", latest, False),
        ("reserved first, Lowest-Window", planned["Lowest-Window"], False),
        ("reserved first, exact window", planned["exact window (known length)"], False),
        ("reserved, exact window kept", planned["exact window (known length)"], True),
    ):
        began, on_demand = reserved_first(jobs, starts, slots, wait=wait)
        upfront = RESERVED * slots * ((max(began) - first) / HOUR)
        row(name, emitted(trace, jobs, began), waited(began), upfront + on_demand)


def emitted(trace: Trace, jobs: Sequence[Job], starts: Sequence[datetime]) -> float:
    """Return the emissions of jobs that start at these times, in gCO2e per kW of a core."""
    return sum(
        job.cpus * (job.run / HOUR) * trace.series.mean(at, at + job.run)
        for job, at in zip(jobs, starts, strict=True)
    )


# 3. On the limitations


LENGTHS = (1, 6, 12, 24, 48, 96, 168)
SLACK = 24 * HOUR


def print_eurosys(traces: Sequence[Trace], every: int) -> None:
    """Print what time and place save by the length of the job."""
    print(f"EuroSys'24: saving in %, mean of {len(traces)} zones, 24 h of slack")
    print(
        "| job, h | releases | deferred whole | and interrupted | best zone, at once "
        "| best zone, deferred | and interrupted |"
    )
    print("|---|---|---|---|---|---|---|")
    for length in LENGTHS:
        found = temporal(traces, HOUR * length, every)
        at_once = found[0].sum(axis=1)
        later = [100 * np.mean(1 - part.sum(axis=1) / at_once) for part in found[1:]]
        place = [100 * np.mean(1 - len(traces) * part.min(axis=1) / at_once) for part in found]
        cells = " | ".join(f"{value:.1f}" for value in (*later, *place))
        print(f"| {length} | {found.shape[1]} | {cells} |")


def temporal(traces: Sequence[Trace], run: timedelta, every: int) -> Floats:
    """Return mean intensities at once, deferred, and interrupted, by release and zone."""
    first, last = max(t.start for t in traces), min(t.end for t in traces)
    count = (last - first - run) // HOUR  # as published, without the last one of all
    releases = [first + HOUR * place for place in range(0, count, every)]
    found = np.empty((3, len(releases), len(traces)))
    for zone, trace in enumerate(traces):
        for place, at in enumerate(releases):
            found[0, place, zone] = trace.series.mean(at, at + run)
            for kind, split in enumerate((False, True), start=1):
                request = asked(run, at, min(at + run + SLACK, last), split=split)
                found[kind, place, zone] = best(trace, request).g / (run / HOUR)
    return found


# 4. Speed


def print_speed(trace: Trace) -> None:
    """Print what one answer costs, by how the run may be split."""
    minutes = timedelta(minutes=1)
    kinds = {
        "whole": None,
        "splits for nothing": Interruptible(),
        "1 h at least, restart 30 min": Interruptible(HOUR, HALF, 0.1),
        "1 h at least, restart 5 min": Interruptible(HOUR, 5 * minutes, 0.1),
        "20 min at least, restart 1 min": Interruptible(20 * minutes, minutes, 0.1),
    }
    print("A run of 8 h in a window of 48 h, half-hourly grid")
    print("| run | common step, min | median ms | worst ms | segments, mean |")
    print("|---|---|---|---|---|")
    half_hours = replace(trace, step=HALF)
    for name, how in kinds.items():
        took, parts, step = [], [], None
        for day in range(100):
            at = trace.start + DAY * day
            request = replace(asked(8 * HOUR, at, at + 2 * DAY), interruptible=how)
            window = half_hours.series.within(at, at + 2 * DAY)
            segments(request, window) if not day else None  # compiles once
            began = time.perf_counter()
            found = segments(request, window)
            took.append(1000 * (time.perf_counter() - began))
            assert found is not None
            parts.append(len(found.segments))
            step = found.step
        shown = "-" if step is None else f"{step / minutes:g}"
        print(
            f"| {name} | {shown} | {np.median(took):.2f} | {max(took):.2f} | {np.mean(parts):.1f} |"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("setups", nargs="*", default=["nightly", "ml", "gaia", "eurosys", "speed"])
    parser.add_argument("--trace", type=Path, nargs="*", default=[DEFAULT])
    parser.add_argument("--zones", nargs="*", default=[])
    parser.add_argument("--every", type=int, help="take each n-th job (ml: 8) or hour (29)")
    parser.add_argument("--seeds", type=int, default=2, help="draws of noise; published: 10")
    parser.add_argument("--jobs", type=Path)
    parser.add_argument("--start", type=int, default=7000, help="gaia: hour that it begins with")
    parser.add_argument("--year", type=int, default=2022, help="eurosys: the year of the releases")
    parser.add_argument("--slots", type=int, default=9, help="gaia: reserved cores")
    given = parser.parse_args()
    traces = joined([trace for path in given.trace for trace in read(path, given.zones)])
    few = (
        traces
        if given.zones or given.trace != [DEFAULT]
        else [trace for trace in traces if trace.zone in {"DE", "GB", "FR", "US-CAL-CISO"}]
    )
    for name in given.setups:
        if name == "nightly":
            print_nightly(few, given.seeds)
        elif name == "ml":
            print_ml(few, given.every or 8, given.seeds)
        elif name == "gaia":
            print_gaia(few, given.jobs, given.start, given.slots)
        elif name == "speed":
            print_speed(few[0])
        else:
            print_eurosys([trace.in_year(given.year) for trace in traces], given.every or 29)
        print()


if __name__ == "__main__":
    main()
