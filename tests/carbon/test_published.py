"""The published set-ups: windows as the papers' code has them, and the optimum is right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import published
from benchmarks.published import DAY, HALF, HOUR, Job, Queues, Trace

if TYPE_CHECKING:
    from pathlib import Path

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def trace(seed: int, days: int = 12, step: timedelta = HALF, start: datetime = NEW_YEAR) -> Trace:
    """Return a grid that looks like nothing."""
    values = np.random.default_rng(seed).uniform(20, 700, int(timedelta(days=days) / step))
    return Trace("DE", start, step, values)


@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(0, 16))
@settings(max_examples=60, deadline=None)
def test_nightly_is_the_least_of_all_its_slots(seed: int, steps: int) -> None:
    """Each of the 2n + 1 half hours around 01:00 is looked at, and no other."""
    grid = trace(seed)
    found = []
    for night in range(365):
        middle = 48 * night + 2
        if middle - steps >= 0 and middle + steps + 1 <= len(grid.values):
            found.append(grid.values[middle - steps : middle + steps + 1].min())
    assert published.nightly(grid, HALF * steps) == pytest.approx(np.mean(found))


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


def test_reserved_cores_are_never_taken_twice() -> None:
    """Jobs take a core when there is room, else they are on demand when they are due."""
    jobs = [Job(NEW_YEAR + HOUR * place, 3 * HOUR) for place in range(4)]
    due = [job.given + 2 * HOUR for job in jobs]
    starts, on_demand = published.reserved_first(jobs, due, 1, wait=False)
    assert [(at - NEW_YEAR) / HOUR for at in starts] == [0, 3, 4, 5]
    assert on_demand == 6  # two jobs were due before there was room
    kept, _ = published.reserved_first(jobs, due, 1, wait=True)
    assert kept == due


@given(seed=st.integers(0, 2**32 - 1), length=st.sampled_from([1, 6, 12, 24, 48]))
@settings(max_examples=20, deadline=None)
def test_deferral_by_a_day_is_the_least_of_25_starts(seed: int, length: int) -> None:
    """And the interruptible lower bound is the sum of the cleanest hours."""
    grid = trace(seed, days=5, step=HOUR)
    found = published.temporal([grid], HOUR * length, every=5)
    for place, at in enumerate(range(0, 5 * found.shape[1], 5)):
        window = grid.values[at : at + length + 24]
        means = np.convolve(window, np.ones(length) / length, "valid")
        assert len(means) == 25
        assert found[0, place, 0] == pytest.approx(means[0])
        assert found[1, place, 0] == pytest.approx(means.min())
        assert found[2, place, 0] == pytest.approx(np.sort(window)[:length].mean())


def test_reads_the_files_of_the_papers(tmp_path: Path) -> None:
    """Half-hourly and hourly, one zone or many, with and without a zone of the clock."""
    files = {
        "ger_ci.csv": "Time,Carbon Intensity\n2020-01-01 00:00:00,1.5\n2020-01-01 00:30:00,2\n",
        "fr_ci.csv": "Time,Carbon Intensity\n2020-01-01 00:00:00,1.5\n2020-01-01 00:15:00,9\n"
        "2020-01-01 00:30:00,2\n2020-01-01 01:30:00,5\n2020-01-01 02:00:00,6\n",
        "AU-SA.csv": "datetime,carbon_intensity_avg\n2020-01-01 00:00:00+00:00,1.5\n"
        "2020-01-01 01:00:00+00:00,2\n",
        "ES.csv": "Datetime (UTC),Zone Id,Carbon Intensity gCO₂eq/kWh (LCA)\n"
        "2022-01-01 00:00:00,ES,1.5\n2022-01-01 01:00:00,ES,2\n",
        "combined.csv": "datetime,DE,FR\n2022-01-01 00:00:00,1.5,7\n2022-01-01 01:00:00,2,\n",
    }
    read = {}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        read[name] = published.read(tmp_path / name)
    assert [one.zone for one in read["combined.csv"]] == ["DE", "FR"]
    assert np.isnan(read["combined.csv"][1].values[1])
    assert [read[name][0].zone for name in list(files)[:4]] == ["ger", "fr", "AU-SA", "ES"]
    assert read["ger_ci.csv"][0].step == HALF
    assert read["AU-SA.csv"][0].end == datetime(2020, 1, 1, 2, tzinfo=UTC)
    assert read.pop("fr_ci.csv")[0].values.tolist() == [1.5, 2.0, 2.0, 5.0, 6.0]
    assert all(traces[0].values.tolist() == [1.5, 2.0] for traces in read.values())
    assert read["ES.csv"][0].year == 2022
    assert DAY == 24 * HOUR


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


def test_the_figures_of_the_eurosys_paper_come_out(shared: Path) -> None:
    """On its own data, which that trace is, to its last digit."""
    (germany,) = published.read(shared / "traces" / published.DEFAULT.name, ["DE"])
    for hour, sums in PAPER.items():
        first = published.Trace("DE", germany.start, HOUR, germany.values[hour : hour + 48])
        found = published.temporal([first], 24 * HOUR, every=1)[:, 0, 0] * 24
        assert found.round(2).tolist() == list(sums)
