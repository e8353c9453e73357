"""The published set-ups: windows as the papers' code has them, and the optimum is right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import published
from benchmarks.published import DAY, HALF, HOUR, Floats, Job, Queues, Trace

if TYPE_CHECKING:
    from pathlib import Path

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def trace(seed: int, days: int = 12, step: timedelta = HALF, start: datetime = NEW_YEAR) -> Trace:
    """Return a grid that looks like nothing."""
    values = np.random.default_rng(seed).uniform(20, 700, int(timedelta(days=days) / step))
    return Trace("DE", start, step, values)


# The papers' own loops, over arrays of steps, without any of ours


def lwa_nightly(values: Floats, steps: int, forecast: Floats) -> float:
    """``BidirectionalStrategy`` and ``periodic_experiment`` of dos-group/lets-wait-awhile."""
    days, now, found = len(values) // 48, 0, 0.0
    for day in range(days):
        wait = 48 * day + 2 - now - steps
        if wait < 0:
            continue
        now += wait
        found += values[now + int(np.argmin(forecast[now : now + 2 * steps + 1]))]
    return found / days


def lwa_ad_hoc(forecast: Floats, at: int, run: int, flexible: int, *, split: bool) -> list[int]:
    """``AdHocStrategy`` of the same: the steps in which a job runs."""
    window = forecast[at : at + run + flexible + 1]
    if split:
        worst = np.sort(window)[run - 1]
        return [at + int(one) for one in np.flatnonzero(window <= worst)]
    means = np.convolve(window, np.ones(run) / run, "valid")
    start = at + int(np.argmin(means))
    return list(range(start, start + run))


@dataclass(frozen=True)
class Task:
    """A job of umassos/GAIA in steps of five seconds."""

    arrival: int
    length: int
    cpus: int
    expected: int
    wait: int


def gaia_starts(values: Floats, task: Task) -> dict[str, int]:
    """``carbon_waiting_policy.py``: the start of a task by each policy."""
    trace = values[task.arrival :]
    cost = {at: trace[at : at + task.expected].sum() for at in range(0, task.wait + 1, 720)}
    saved = {at: (cost[0] - one) / (at + task.expected) for at, one in cost.items()}
    return {
        "lowest_slot": task.arrival + int(np.argmin(trace[: task.wait + 1])),
        "lowest_window": task.arrival + min(cost, key=lambda at: cost[at]),
        "carbon_time": task.arrival + max(saved, key=lambda at: saved[at]),
    }


def gaia_suspended(values: Floats, task: Task) -> float:
    """``compute_schedule_optimal``: what a suspended task emits, in values x steps."""
    window = values[task.arrival : task.arrival + task.length + task.wait]
    return float(np.sort(window)[: task.length].sum())


def gaia_reserved(
    tasks: list[Task], due: list[int], slots: int, *, keen: bool
) -> tuple[list[int], int]:
    """``SchedulingPolicy.execute`` and ``SimulationCluster``: starts, and steps on demand."""
    free, release, waiting, on_demand = slots, Counter[int](), list(range(len(tasks))), 0
    starts = [0] * len(tasks)
    for now in range(max(due) + 1):
        for place in [one for one in waiting if tasks[one].arrival <= now]:
            task = tasks[place]
            if now >= due[place] or (keen and free >= task.cpus):
                waiting.remove(place)
                starts[place] = now
                if free >= task.cpus:
                    free -= task.cpus
                    release[now + task.length] += task.cpus
                else:
                    on_demand += task.cpus * task.length
        free += release.pop(now, 0)
    return starts, on_demand


def eurosys(values: Floats, job: int, slack: int) -> Floats:
    """``experiment_vary_job_slack.py``: sums at once, whole and interrupted, by release."""
    rows = []
    for release in range(len(values) - job):
        window = values[release : release + slack + job]
        sums = np.convolve(window, np.ones(job), "valid")
        rows.append((sums[0], sums.min(), np.sort(window)[:job].sum()))
    return np.array(rows).T


@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(0, 16), error=st.sampled_from([0, 0.05]))
@settings(max_examples=60, deadline=None)
def test_nightly_is_what_the_papers_loop_finds(seed: int, steps: int, error: float) -> None:
    """Each of the 2n + 1 half hours around 01:00 is looked at; the first night may be left out."""
    grid = trace(seed)
    draws = [grid.noisy(error, draw).values if error else grid.values for draw in range(2)]
    theirs = np.mean([lwa_nightly(grid.values, steps, one) for one in draws])
    assert published.nightly(grid, HALF * steps, error, seeds=2) == pytest.approx(theirs)


def test_ml_savings_are_what_the_papers_loop_finds() -> None:
    """Of some of the jobs of the year, by deadline, kind and error; the baseline has its grace."""
    grid = trace(7, days=380)
    jobs = ml_sample(grid)
    steps = [(int((job.given - grid.start) / HALF), int(job.run / HALF)) for job in jobs]
    base = sum(
        grid.values[lwa_ad_hoc(grid.values, at, run, 0, split=False)].sum() / 2 for at, run in steps
    )
    ours = sum(
        published.best(grid, published.ml_request(job, published.at_once, split=False)).g
        for job in jobs
    )
    assert ours == pytest.approx(base)
    for deadline in (published.next_workday, published.semi_weekly):
        for split in (False, True):
            for error in (0.0, 0.1):
                forecasts = [
                    grid.noisy(error, draw).values if error else grid.values for draw in (0, 1)
                ]
                theirs = 0.0
                for forecast in forecasts:
                    for job, (at, run) in zip(jobs, steps, strict=True):
                        over = job.given + job.run
                        flexible = int((deadline(over) - over) / HALF)
                        run_in = lwa_ad_hoc(forecast, at, run, flexible, split=split)
                        theirs += grid.values[run_in].sum() / 2 / len(forecasts)
                found = published.ml_saving(
                    grid, jobs, base, deadline, split=split, error=error, seeds=2
                )
                assert found == pytest.approx(1 - theirs / base)


def ml_sample(grid: Trace) -> list[Job]:
    """Return every fortieth job of the published ones."""
    return published.ml_jobs(grid.year)[::40]


@given(
    seed=st.integers(0, 2**32 - 1),
    at=st.integers(9 * 2, 17 * 2 - 1),
    day=st.integers(0, 3),
    run=st.integers(8, 60),
    weekly=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_ml_jobs_get_the_least_of_their_window(
    seed: int, at: int, day: int, run: int, weekly: bool
) -> None:
    """Whole: the least of all windows; interruptible: the cleanest steps. One step of grace."""
    grid = trace(seed)
    place = 48 * day + at
    job = Job(NEW_YEAR + HALF * place, HALF * run)
    deadline = published.semi_weekly if weekly else published.next_workday
    flexible = int((deadline(job.given + job.run) - job.given - job.run) / HALF)
    window = grid.values[place : place + run + flexible + 1]
    whole = published.best(grid, published.ml_request(job, deadline, split=False))
    split = published.best(grid, published.ml_request(job, deadline, split=True))
    means = np.convolve(window, np.ones(run), "valid")
    assert whole.g == pytest.approx(means.min() / 2)
    assert split.g == pytest.approx(np.sort(window)[:run].sum() / 2)


@pytest.mark.parametrize(
    ("over", "workday", "weekly"),
    [
        ("2026-01-05 08:30", "2026-01-05 09:00", "2026-01-05 09:00"),  # Monday
        ("2026-01-05 12:00", "2026-01-05 12:00", "2026-01-08 09:00"),
        ("2026-01-07 17:00", "2026-01-07 17:00", "2026-01-08 09:00"),
        ("2026-01-07 17:30", "2026-01-08 09:00", "2026-01-08 09:00"),
        ("2026-01-08 09:00", "2026-01-08 09:00", "2026-01-08 09:00"),  # Thursday
        ("2026-01-09 18:00", "2026-01-10 09:00", "2026-01-12 09:00"),  # Friday: as published
        ("2026-01-10 11:00", "2026-01-12 09:00", "2026-01-12 09:00"),
        ("2026-01-11 02:00", "2026-01-12 09:00", "2026-01-12 09:00"),
    ],
)
def test_deadlines_of_the_ml_project(over: str, workday: str, weekly: str) -> None:
    """They are 9:00 of the next workday, and of the next Monday or Thursday."""
    moment, day, half = (
        datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (over, workday, weekly)
    )
    assert published.next_workday(moment) == day
    assert published.semi_weekly(moment) == half


def test_the_ml_project_has_its_jobs() -> None:
    """3,387 of them, given on workdays from 9:00 to 16:30, of 4 h to less than 90 h."""
    jobs = published.ml_jobs(2020)
    assert len(jobs) == 3387
    assert jobs == sorted(jobs, key=lambda job: job.given)
    assert {job.given.weekday() for job in jobs} == {0, 1, 2, 3, 4}
    assert {job.given.hour for job in jobs} == set(range(9, 17))
    assert min(job.run for job in jobs) >= 4 * HOUR
    assert max(job.run for job in jobs) < 90 * HOUR


@given(seed=st.integers(0, 2**32 - 1), second=st.integers(0, 86_400), run=st.integers(60, 4320))
@settings(max_examples=60, deadline=None)
def test_gaia_windows_and_suspensions_are_the_best_there_are(
    seed: int, second: int, run: int
) -> None:
    """Times of seconds: no start of a fine scan is better, and no choice of steps."""
    grid = trace(seed, step=HOUR)
    job = Job(NEW_YEAR + timedelta(seconds=second // 60 * 60), timedelta(minutes=run))
    queues = Queues.of([job])
    wait = queues.wait(job)
    assert wait == (6 * HOUR if run < 120 else 24 * HOUR)
    exact = published.best(grid, published.whole(job, wait))
    assert job.given <= exact.start <= job.given + wait
    minutes = np.repeat(grid.values / 60, 60)
    first = int((job.given - NEW_YEAR) / timedelta(minutes=1))
    waits = int(wait / timedelta(minutes=1))
    sums = np.convolve(minutes[first : first + waits + run], np.ones(run), "valid")
    assert exact.g == pytest.approx(sums.min())
    split = published.best(grid, published.suspended(job, wait))
    cleanest = np.sort(minutes[first : first + waits + run])[:run].sum()
    assert split.g == pytest.approx(cleanest)
    for policy in (published.lowest_slot, published.lowest_window, published.carbon_time):
        at = policy(grid, job, queues)
        assert job.given <= at <= job.given + wait
        assert published.emitted(grid, [job], [at]) >= exact.g * (1 - 1e-9) >= split.g * (1 - 1e-8)


@st.composite
def drawn(draw: st.DrawFn) -> list[Job]:
    """Draw jobs as a cluster trace has them, by arrival, in whole seconds."""
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 86_400), st.integers(300, 40_000), st.integers(1, 3)),
            min_size=1,
            max_size=8,
        )
    )
    return [
        Job(NEW_YEAR + timedelta(seconds=at), timedelta(seconds=run), cpus)
        for at, run, cpus in sorted(rows)
    ]


def tasks_of(jobs: list[Job]) -> list[Task]:
    """Return jobs as ``task.py`` of umassos/GAIA reads them."""
    raw = [job.run.total_seconds() / 5 for job in jobs]
    means = [
        np.mean(part) if part else 0.0
        for part in ([one for one in raw if one <= 1440], [one for one in raw if one >= 1440])
    ]
    return [
        Task(
            int((job.given - NEW_YEAR).total_seconds() / 5),
            int(length),
            job.cpus,
            int(means[int(length) >= 1440]),
            (6 if int(length) < 1440 else 24) * 720,
        )
        for job, length in zip(jobs, raw, strict=True)
    ]


@given(seed=st.integers(0, 2**32 - 1), told=drawn(), slots=st.integers(1, 4), keen=st.booleans())
@settings(max_examples=40, deadline=None)
def test_gaia_is_what_the_papers_loops_find(
    seed: int, told: list[Job], slots: int, keen: bool
) -> None:
    """Lowest-Slot, Lowest-Window, Carbon-Time, Wait Awhile, and reserved cores, step by step."""
    grid = trace(seed, days=4, step=HOUR)
    values = np.repeat(grid.values, 720)
    queues, tasks = Queues.of(told), tasks_of(told)
    jobs = [job.in_steps(NEW_YEAR) for job in told]
    due = []
    for job, task in zip(jobs, tasks, strict=True):
        theirs = gaia_starts(values, task)
        for name, start in theirs.items():
            ours = getattr(published, name)(grid, job, queues)
            assert (ours - NEW_YEAR) / published.STEP == start, name
        split = published.best(grid, published.suspended(job, queues.wait(job)))
        assert split.g == pytest.approx(gaia_suspended(values, task) / 720)
        due.append(theirs["lowest_window"])
    planned = [NEW_YEAR + published.STEP * one for one in due]
    starts, on_demand = published.reserved_first(jobs, planned, slots, wait=not keen)
    theirs_at, theirs_on_demand = gaia_reserved(tasks, due, slots, keen=keen)
    assert [(at - NEW_YEAR) / published.STEP for at in starts] == theirs_at
    assert on_demand == pytest.approx(theirs_on_demand / 720)


def test_reserved_cores_are_never_taken_twice() -> None:
    """Jobs take a core when there is room, else they are on demand when they are due."""
    jobs = [Job(NEW_YEAR + HOUR * place, 3 * HOUR) for place in range(4)]
    due = [job.given + 2 * HOUR for job in jobs]
    starts, on_demand = published.reserved_first(jobs, due, 1, wait=False)
    # A core that is given back at 3:00 can be had five seconds later: the second job is due then.
    late = published.STEP / HOUR
    assert [(at - NEW_YEAR) / HOUR for at in starts] == pytest.approx([0, 3, 3 + late, 5])
    assert on_demand == 6  # two jobs were due before there was room
    kept, _ = published.reserved_first(jobs, due, 1, wait=True)
    assert kept == due


@given(seed=st.integers(0, 2**32 - 1), length=st.sampled_from([1, 6, 12, 24, 48]))
@settings(max_examples=20, deadline=None)
def test_deferral_by_a_day_is_what_the_papers_loop_finds(seed: int, length: int) -> None:
    """The least of 25 starts and the cleanest hours; the last windows end with the year."""
    grid = trace(seed, days=4, step=HOUR)
    found = published.temporal([grid], HOUR * length, every=1)[:, :, 0] * length
    assert found == pytest.approx(eurosys(grid.values, length, 24))


def test_reads_the_files_of_the_papers(tmp_path: Path) -> None:
    """Half-hourly and hourly, one zone or many, with and without a zone of the clock."""
    files = {
        "ger_ci.csv": "Time,Carbon Intensity\n2020-01-01 00:00:00,1.5\n2020-01-01 00:30:00,2\n",
        "fr_ci.csv": "Time,Carbon Intensity\n2020-01-01 00:00:00,1.5\n2020-01-01 00:15:00,9\n"
        "2020-01-01 00:30:00,2\n2020-01-01 01:30:00,5\n2020-01-01 02:00:00,6\n",
        "AU-SA.csv": "datetime,carbon_intensity_avg\n2020-01-01 00:00:00+00:00,1.5\n"
        "2020-01-01 01:00:00+00:00,2\n",
        "ES_2021_hourly.csv": "Datetime (UTC),Country,Zone Name,Zone Id,"
        "Carbon Intensity gCO₂eq/kWh (direct),Carbon Intensity gCO₂eq/kWh (LCA),"
        "Low Carbon Percentage,Renewable Percentage,Data Source,Data Estimated,"
        "Data Estimation Method\n"
        "2021-12-31 22:00:00,Spain,Spain,ES,103.42,1.5,77.7,51.54,entsoe.eu,false,\n"
        "2021-12-31 23:00:00,Spain,Spain,ES,100.86,2,78.42,50.7,entsoe.eu,false,\n",
        "ES_2022_hourly.csv": "Datetime (UTC),Country,Zone name,Zone id,"
        "Carbon intensity gCO₂eq/kWh (direct),Carbon intensity gCO₂eq/kWh (Life cycle)\n"
        "2022-01-01 00:00:00,Spain,Spain,ES,103.42,1.5\n"
        "2022-01-01 01:00:00,Spain,Spain,ES,100.86,2\n",
        "combined.csv": "datetime,DE,FR\n2022-01-01 00:00:00,1.5,7\n2022-01-01 01:00:00,2,\n",
    }
    read = {}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        read[name] = published.read(tmp_path / name)
    assert [one.zone for one in read["combined.csv"]] == ["DE", "FR"]
    assert np.isnan(read["combined.csv"][1].values[1])
    assert [read[name][0].zone for name in list(files)[:5]] == ["ger", "fr", "AU-SA", "ES", "ES"]
    assert read["ger_ci.csv"][0].step == HALF
    assert read["AU-SA.csv"][0].end == datetime(2020, 1, 1, 2, tzinfo=UTC)
    assert read.pop("fr_ci.csv")[0].values.tolist() == [1.5, 2.0, 2.0, 5.0, 6.0]
    assert all(traces[0].values.tolist() == [1.5, 2.0] for traces in read.values())
    assert read["ES_2022_hourly.csv"][0].year == 2022
    (both,) = published.joined(read["ES_2022_hourly.csv"] + read["ES_2021_hourly.csv"])
    assert (both.start.year, both.values.tolist()) == (2021, [1.5, 2.0, 1.5, 2.0])
    assert DAY == 24 * HOUR


def test_the_years_are_those_of_the_papers() -> None:
    """From New Year for the first, whose files begin ten days before; 2022 for the third."""
    begin = datetime(2019, 12, 20, tzinfo=UTC)
    file = trace(1, days=388, start=begin)
    cut = file.from_new_year()
    assert (cut.start, cut.end) == (datetime(2020, 1, 1, tzinfo=UTC), file.end)
    assert cut.values.tolist() == file.values[48 * 12 :].tolist()
    assert all(
        published.ml_request(job, published.semi_weekly, split=True).latest <= cut.end
        for job in published.ml_jobs(2020)
    ), "all 3,387 jobs fit into it"
    three = trace(1, days=1096, step=HOUR, start=datetime(2020, 1, 1, tzinfo=UTC))
    assert three.in_year(2022).start == three.start + HOUR * published.HISTORY
    assert len(three.in_year(2022).values) == 8760
    assert trace(1).in_year(2022).start == NEW_YEAR


def test_reads_a_cluster_trace(tmp_path: Path) -> None:
    """In the form of umassos/GAIA: seconds with a fraction, rows in any order."""
    path = tmp_path / "pai_1k.csv"
    path.write_text("arrival_time,length,cpus\n68.0,1000.0,1\n0.0,6302.0,3\n")
    jobs = published.read_jobs(path, NEW_YEAR)
    assert [(job.given - NEW_YEAR, job.run, job.cpus) for job in jobs] == [
        (timedelta(0), timedelta(seconds=6302), 3),
        (timedelta(seconds=68), timedelta(seconds=1000), 1),
    ]
    assert jobs[0].in_steps(NEW_YEAR).run == timedelta(seconds=6300)


PAPER = {
    0: (6804.98, 4781.56, 4745.65),
    1: (6820.88, 4753.97, 4733.96),
    3: (6835.58, 4705.34, 4700.03),
    100: (9186.18, 9186.18, 9060.29),
    500: (12470.35, 12470.35, 12470.35),
    502: (12865.45, 12865.45, 12864.16),
}
"""Rows of ``sim_temporal/data_output/absolute_slack_2022/job_24/slack_24/DE.csv`` in
umassos/decarbonization-potential at da853f9: slack_0, non_interrupt, interrupt by hour of 2022."""

PAPER_ENDS = [
    (5115.54, 4726.56, 4700.11),
    (5076.90, 4726.56, 4704.34),
    (5046.01, 4726.56, 4711.05),
    (5024.10, 4726.56, 4722.23),
    (4996.50, 4726.56, 4724.50),
    (4973.40, 4726.56, 4726.56),
    (4942.08, 4726.56, 4726.56),
    (4890.01, 4726.56, 4726.56),
    (4834.84, 4726.56, 4726.56),
    (4778.20, 4726.56, 4726.56),
    (4739.44, 4726.56, 4726.56),
]
"""The last rows of the same file: their windows end with the year."""


def test_the_figures_of_the_eurosys_paper_come_out(shared: Path) -> None:
    """On its own data, which that trace is, to its last digit."""
    (germany,) = published.read(shared / "traces" / published.DEFAULT.name, ["DE"])
    for hour, sums in PAPER.items():
        first = published.Trace("DE", germany.start, HOUR, germany.values[hour : hour + 49])
        found = published.temporal([first], 24 * HOUR, every=1)[:, 0, 0] * 24
        assert found.round(2).tolist() == list(sums)
    rest = replace(germany, start=germany.end - 60 * HOUR, values=germany.values[-60:])
    last = published.temporal([rest], 24 * HOUR, every=1)[:, :, 0].T * 24
    assert [tuple(row) for row in last.round(2).tolist()][-len(PAPER_ENDS) :] == PAPER_ENDS
