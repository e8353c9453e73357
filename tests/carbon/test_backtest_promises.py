"""What every back-test keeps, in any world: the published invariants, for each policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from carbon import Fleet, Reservation
from carbon._backtest import Replay
from carbon._backtest_case import Placed
from carbon._backtest_jobs import Group, JobList, JobRow, job_list
from carbon._backtest_kernels import believe
from carbon._backtest_report import Way
from carbon._fleet import CapacityHours
from tests.carbon.replayed import (
    BEGIN,
    FIRST,
    HOUR,
    STARTUPS,
    fleet,
    grid_values,
    pool,
    trace,
)

GROUPS = (
    Group(data_classes=("public",)),
    Group(data_classes=("personal",)),
    Group(),
    Group(pools=("gpu-de", "gpu-es")),
)
ABROAD = "aws:eu-west-2"
"""Outside the EU: the last of the pools lies there."""

AT_RELEASE = (Way.TIME_ONLY, Way.PLACE_ONLY, Way.BOTH, Way.PRICED)
WATCHING = (Way.THRESHOLD, Way.RE_PLANNED)
NEAR = 1.01
TINY = 1 + 1e-9


@dataclass(frozen=True)
class Job:
    """A job: what hypothesis makes small."""

    release: int
    hours: int
    slack: int
    longer: float
    kwh: float | None
    data_gb: float
    group: int


@dataclass(frozen=True)
class World:
    """All that a replay is given.

    ``held`` are slots that others hold (pool, hour, hours); ``night`` is the capacity at night of
    home's pool; ``closed`` is a blackout (first hour, hours); ``told`` is how many hours ahead a
    provider's forecast of an hour is known, if there is one.
    """

    seed: int
    jobs: tuple[Job, ...]
    capacities: tuple[int, int, int]
    half: bool
    held: tuple[tuple[int, int, int], ...]
    night: int | None
    closed: tuple[int, int] | None
    told: int | None

    @property
    def job_list(self) -> JobList:
        """The jobs."""
        rows = []
        for job in self.jobs:
            hours = job.hours + (0.5 if self.half else 0.0)
            release = FIRST + HOUR * (BEGIN + job.release)
            left = max(hours, 2 * hours * job.longer + job.slack)
            rows.append(
                JobRow(
                    release=release,
                    finish_by=release + HOUR * left + STARTUPS,
                    hours=hours,
                    reserve_hours=2 * hours * job.longer,
                    kwh=np.nan if job.kwh is None else job.kwh,
                    data_in_gb=job.data_gb,
                    group=GROUPS[job.group],
                )
            )
        return job_list(rows, "a world")

    @property
    def fleet(self) -> Fleet:
        """The pools, with the calendar's limits."""
        found = fleet(*self.capacities[:2], blackouts=self._blackouts())
        abroad = pool("gpu-gb", ABROAD, self.capacities[2])
        found = found.model_copy(update={"pools": (*found.pools, abroad)})
        if self.night is None:
            return found
        night = min(self.night, self.capacities[0])
        band = CapacityHours.model_validate({"from": "22:00", "to": "05:00", "capacity": night})
        home = found.pool("gpu-de").model_copy(
            update={"hours": (band,), "timezone": "Europe/Berlin"}
        )
        pools = tuple(home if one.name == home.name else one for one in found.pools)
        return found.model_copy(update={"pools": pools})

    def _blackouts(self) -> list[dict[str, object]]:
        if self.closed is None:
            return []
        start = FIRST + HOUR * (BEGIN + self.closed[0])
        return [{"name": "sale", "start": start, "end": start + HOUR * self.closed[1]}]

    @property
    def reserved(self) -> list[Reservation]:
        """Slots that others hold."""
        names = ("gpu-de", "gpu-es", "gpu-gb")
        return [
            Reservation(
                pool=names[place],
                start=FIRST + HOUR * (BEGIN + first) + timedelta(minutes=10),
                end=FIRST + HOUR * (BEGIN + first + hours),
            )
            for place, first, hours in self.held
        ]

    def replay(
        self,
        came: dict[str, NDArray[np.float64]] | None = None,
        told: dict[str, NDArray[np.float64]] | None = None,
    ) -> Replay:
        """Lay it out."""
        told = told or values(self.seed + 1)
        return Replay.of(
            self.job_list,
            self.fleet,
            trace(came or values(self.seed)),
            forecasts=None if self.told is None else trace(told),
            ahead=HOUR * (self.told or 24),
            reserved=self.reserved,
        )


def values(seed: int) -> dict[str, NDArray[np.float64]]:
    """Return intensities of the zones of all pools."""
    germany, spain, britain = grid_values(seed).values()
    return {"DE": germany, "ES": spain, "GB": britain}


jobs = st.builds(
    Job,
    release=st.integers(0, 60),
    hours=st.integers(1, 6),
    slack=st.integers(-2, 24),
    longer=st.sampled_from((1.0, 1.25)),
    kwh=st.sampled_from((None, 0.3, 5.0)),
    data_gb=st.sampled_from((0.0, 40.0)),
    group=st.integers(0, len(GROUPS) - 1),
)
worlds = st.builds(
    World,
    seed=st.integers(0, 2**31),
    jobs=st.lists(jobs, min_size=1, max_size=12).map(tuple),
    capacities=st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2)),
    half=st.booleans(),
    held=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 80), st.integers(1, 20)), max_size=4
    ).map(tuple),
    night=st.none() | st.integers(0, 1),
    closed=st.none() | st.tuples(st.integers(0, 60), st.integers(1, 20)),
    told=st.none() | st.integers(1, 16),
)


def keeps_its_promises(world: World) -> None:
    """Check capacity, windows, residency and safe starts of every policy, and the oracle's bound.

    Capacity, residency and the latest safe start are worked out here anew, from the fleet.
    """
    replay = world.replay()
    q, grid, pools = replay.case, replay.setting.grid, replay.setting.pools
    capacity = _capacity(world, replay)
    latest = np.maximum(q.latest, q.earliest)
    found = {way: replay.outcome(way) for way in Way}
    for way, one in found.items():
        placed, ran = one.placed, one.placed.pool >= 0
        used = np.zeros_like(capacity)
        for j in np.flatnonzero(ran):
            used[placed.pool[j], placed.start[j] : placed.start[j] + q.length[j]] += 1
            group, its = replay.jobs.groups[replay.jobs.group[j]], pools[placed.pool[j]]
            assert its.region != ABROAD or group.data_classes == ("public",)
            assert not group.pools or its.name in group.pools
        assert (used == placed.used).all()
        assert (used <= capacity)[used > 0].all()
        assert (placed.start >= q.earliest)[ran].all()
        moments = grid.first.timestamp() + placed.start * grid.step.total_seconds()
        assert (moments >= replay.jobs.release)[ran].all()
        assert (one.settled.unsafe == (~ran | (placed.start > latest))).all()
        assert placed.queued[one.settled.unsafe].all()
        assert one.settled.unsafe[one.settled.late & (q.latest >= q.earliest)].all()
        assert (placed.moves == 0).all() or way is Way.RE_PLANNED
        if way in AT_RELEASE:
            _is_the_best_free_place(replay, placed, way)
    _is_a_queue_at_home(replay, found[Way.AT_ONCE].placed.start)
    report = replay.report(list(found.values()))
    if report.bound_kg is not None:
        best = report.result(Way.ORACLE)
        assert best.unsafe == 0
        assert report.gap_percent is not None
        for row in report.results:
            if row.unsafe == 0:
                assert row.kg * TINY >= report.bound_kg
                assert best.kg <= row.kg * (1 + report.gap_percent / 100) * TINY


def _capacity(world: World, replay: Replay) -> NDArray[np.int64]:
    """Return what pools take by step: the least that holds at any minute of it."""
    grid, pools = replay.setting.grid, replay.setting.pools
    found = np.array([[one.capacity] * grid.steps for one in pools])
    for step in range(BEGIN * grid.per_hour, grid.steps):
        begin, end = grid.moment(step), grid.moment(step + 1)
        for p, own in enumerate(pools):
            local = begin + HOUR  # CET is an hour ahead, and all of this is winter
            if own.hours and (local.hour >= 22 or local.hour < 5):
                found[p, step] = own.hours[0].capacity
            found[p, step] -= sum(
                slot.pool == own.name and slot.start < end and slot.end > begin
                for slot in world.reserved
            )
            if any(one.start < end and one.end > begin for one in world.fleet.blackouts):
                found[p, step] = 0
    return np.asarray(np.maximum(found, 0), np.int64)


def _is_the_best_free_place(replay: Replay, placed: Placed, way: Way) -> None:
    """Check each choice against a look at all that was free then, by what was believed then."""
    q, used, where, start = replay.case, np.zeros_like(placed.used), placed.pool, placed.start
    zones, ahead = len(replay.setting.grid.zones), int((q.latest - q.earliest + q.length).max()) + 9
    for j in range(len(q.earliest)):
        now, length, home = q.earliest[j], q.length[j], q.home[q.group[j]]
        sums = np.empty((zones, ahead))
        believe(replay.known, now, sums)
        last = min(now, q.latest[j]) if way is Way.PLACE_ONLY else q.latest[j]
        grams = {
            (p, s): _grams(replay, sums, j, p, s)
            for p in range(len(q.pue))
            if q.permitted[q.group[j], p] and (way is not Way.TIME_ONLY or p == home)
            for s in range(now, last + 1)
            if (used[p, s : s + length] < q.capacity[p, s : s + length]).all()
        }
        if grams:
            assert (where[j], start[j]) in grams
            near = NEAR if start[j] == now else 1.0
            if way is not Way.PRICED:
                assert grams[where[j], start[j]] <= min(grams.values()) * near * TINY
        else:
            assert where[j] < 0 or start[j] > last or q.latest[j] < now
        if where[j] >= 0:
            used[where[j], start[j] : start[j] + length] += 1


def _grams(replay: Replay, sums: NDArray[np.float64], j: int, p: int, s: int) -> float:
    q, k = replay.case, s - replay.case.earliest[j]
    kwh = q.kw[p] * q.hours[j] if np.isnan(q.kwh[j]) else q.kwh[j]
    carried = q.network_kwh[j] / 2 * q.away[p]
    means = (sums[:, k + q.length[j]] - sums[:, k]) / q.length[j]
    return float((kwh * q.pue[p] + carried) * means[q.zone[p]] + carried * means[q.home_zone])


def _is_a_queue_at_home(replay: Replay, start: NDArray[np.int64]) -> None:
    q, used = replay.case, np.zeros_like(replay.case.capacity)
    for j in range(len(q.earliest)):
        home, length = q.home[q.group[j]], q.length[j]
        s = int(q.earliest[j])
        while (
            s + length <= used.shape[1]
            and (used[home, s : s + length] >= q.capacity[home, s : s + length]).any()
        ):
            s += 1
        assert start[j] == (s if s + length <= used.shape[1] else -1)
        if start[j] >= 0:
            used[home, s : s + length] += 1


def looks_not_ahead(world: World, which: tuple[int, int]) -> None:
    """Check that what is not known yet at an hour changes nothing that is decided until then."""
    cut = BEGIN + world.jobs[which[0] % len(world.jobs)].release + which[1]
    came, told, other = (values(world.seed + more) for more in range(3))
    known = cut + (world.told or 0)
    one = world.replay(came, told)
    two = world.replay(_changed(came, other, cut), _changed(told, other, known))
    step = cut * one.setting.grid.per_hour
    for way in (Way.AT_ONCE, *AT_RELEASE):
        first, second = one.run(way)[0], two.run(way)[0]
        before = one.case.earliest <= step
        assert (first.start == second.start)[before].all()
        assert (first.pool == second.pool)[before].all()
    for way in WATCHING:
        # Jobs that still wait then may move; who has started has not.
        first, second = one.run(way)[0], two.run(way)[0]
        alike = (first.start == second.start) & (first.pool == second.pool)
        waits = (first.start > step) & (second.start > step)
        assert (alike | waits | (first.start < 0) | (second.start < 0)).all()


def _changed(
    before: dict[str, NDArray[np.float64]], after: dict[str, NDArray[np.float64]], hour: int
) -> dict[str, NDArray[np.float64]]:
    return {zone: np.concatenate([before[zone][:hour], after[zone][hour:]]) for zone in before}


cuts = st.tuples(st.integers(0, 11), st.integers(0, 4))
"""A job, and hours after its release: there a look ahead shows."""


@settings(max_examples=50, deadline=None)
@given(worlds)
def test_promises_hold_for_every_policy(world: World) -> None:
    """Capacity, release, safe start, residency; the best free place; the oracle within its gap."""
    keeps_its_promises(world)


@settings(max_examples=50, deadline=None)
@given(worlds, cuts)
def test_nothing_looks_ahead(world: World, cut: tuple[int, int]) -> None:
    """What comes or is forecast after a decision does not change it."""
    looks_not_ahead(world, cut)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
@settings(max_examples=2500, deadline=None)
@given(worlds)
def test_promises_hold_in_many_worlds(world: World) -> None:
    """The same, often."""
    keeps_its_promises(world)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
@settings(max_examples=2500, deadline=None)
@given(worlds, cuts)
def test_nothing_looks_ahead_in_many_worlds(world: World, cut: tuple[int, int]) -> None:
    """The same, often."""
    looks_not_ahead(world, cut)


def test_the_future_matters_once_it_is_known() -> None:
    """The test above is no tautology: what is known earlier does change decisions."""
    job = Job(release=0, hours=2, slack=24, longer=1.0, kwh=None, data_gb=0.0, group=0)
    world = World(3, (job,) * 6, (3, 2, 2), half=False, held=(), night=None, closed=None, told=24)
    starts = [
        replace(world, seed=seed).replay().run(Way.RE_PLANNED)[0].start.tolist() for seed in (3, 4)
    ]
    assert starts[0] != starts[1]
