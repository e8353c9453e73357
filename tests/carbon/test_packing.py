"""Fleet packing: always within capacity, window and residency, and never better than its bound."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, milp

from carbon._errors import BadInput
from carbon._packing import Packing, pack
from carbon._packing_input import Jobs

MOST_PLANS = 20_000


class Case:
    """One instance: jobs, intensity and capacity."""

    def __init__(self, jobs: Jobs, intensity: NDArray[Any], capacity: NDArray[Any]) -> None:
        self.jobs, self.intensity, self.capacity = jobs, intensity, capacity

    def pack(self, after: Packing | None = None) -> Packing:
        """Pack it."""
        return pack(self.jobs, self.intensity, self.capacity, after=after)

    def cost(self, j: int, p: int, s: int) -> float:
        """Grams of one placement, by the definition."""
        drawing = self.jobs.duration if self.jobs.drawing is None else self.jobs.drawing
        d = drawing[j, p]
        return float(
            self.jobs.energy[j, p] * self.intensity[p, s : s + d].sum() + self.jobs.fixed[j, p]
        )

    def placements(self, j: int) -> list[tuple[int, int]]:
        """Every permitted pool and start of a job."""
        starts = range(self.jobs.earliest[j], self.jobs.latest[j] + 1)
        pools = np.flatnonzero(self.jobs.permitted[j])
        return [(int(p), s) for p in pools for s in starts]

    def used(self, plan: dict[int, tuple[int, int]]) -> NDArray[np.int64]:
        """Jobs at a time, by pool and step."""
        used = np.zeros_like(self.capacity)
        for j, (p, s) in plan.items():
            used[p, s : s + self.jobs.duration[j, p]] += 1
        return used

    def best(self) -> float:
        """Cost of the best plan that places every job, by trying all; infinite if there is none."""
        least = np.inf
        for chosen in itertools.product(*(self.placements(j) for j in range(len(self)))):
            plan = dict(enumerate(chosen))
            if (self.used(plan) <= self.capacity).all():
                least = min(least, sum(self.cost(j, *at) for j, at in plan.items()))
        return least

    def __len__(self) -> int:
        return len(self.jobs.earliest)


@st.composite
def cases(draw: st.DrawFn, most_jobs: int = 12, most_capacity: int = 3) -> Case:
    """Any small instance, with closed pools, tight windows and unlike pools."""
    n, pools = draw(st.integers(1, most_jobs)), draw(st.integers(1, 3))
    steps = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    duration = rng.integers(1, min(4, steps) + 1, (n, pools))
    last = steps - duration.max(axis=1)
    earliest = rng.integers(0, last + 1)
    latest = np.minimum(last, earliest + rng.integers(0, draw(st.integers(1, 12)), n))
    permitted = rng.random((n, pools)) < draw(st.sampled_from([0.3, 0.7, 1.0]))
    permitted[np.arange(n), rng.integers(0, pools, n)] = True
    jobs = Jobs(
        earliest=earliest,
        latest=latest,
        duration=duration,
        energy=rng.lognormal(0, draw(st.sampled_from([0.0, 1.5])), (n, pools)),
        fixed=rng.choice([0.0, 0.0, 5.0, -3.0], (n, pools)),
        permitted=permitted,
        drawing=rng.integers(1, duration + 1) if draw(st.booleans()) else None,
    )
    intensity = np.round(rng.uniform(0, draw(st.sampled_from([0, 3, 500])), (pools, steps)), 1)
    return Case(jobs, intensity, rng.integers(0, most_capacity + 1, (pools, steps)))


def simple(n: int, steps: int = 6, capacity: int = 1, duration: int = 1) -> Case:
    """Like jobs in two pools, free to start at any time."""
    by_pool = np.ones((n, 2))
    jobs = Jobs(
        earliest=np.zeros(n, int),
        latest=np.full(n, steps - duration),
        duration=by_pool.astype(int) * duration,
        energy=by_pool,
        fixed=by_pool * 0,
        permitted=by_pool > 0,
    )
    intensity = np.vstack([np.arange(steps) + 1.0, np.arange(steps) + 11.0])
    return Case(jobs, intensity, np.full((2, steps), capacity))


def check(case: Case, packing: Packing) -> None:
    """Every promise that can be checked without knowing the best plan."""
    placed = np.flatnonzero(packing.pool >= 0)
    plan = {int(j): (int(packing.pool[j]), int(packing.start[j])) for j in placed}
    assert (case.used(plan) <= case.capacity).all()
    assert all(at in case.placements(j) for j, at in plan.items())
    assert packing.cost == pytest.approx(sum(case.cost(j, *at) for j, at in plan.items()))
    assert packing.bound <= packing.cost + 1e-6 * max(1, abs(packing.cost))
    assert (packing.prices >= 0).all()
    assert np.isfinite(packing.bound)
    assert set(packing.unplaced) == set(range(len(case))) - set(plan)
    assert (packing.start[packing.unplaced] == -1).all()


@given(cases())
@settings(max_examples=150, deadline=None)
def test_keeps_capacity_window_and_residency(case: Case) -> None:
    """No step is ever over capacity, and no job runs outside its window or where it may not."""
    check(case, case.pack())


@pytest.mark.long
@given(cases(most_jobs=40, most_capacity=6))
@settings(max_examples=3000, deadline=None)
def test_keeps_capacity_window_and_residency_always(case: Case) -> None:
    """The same, on many and larger instances, and after a second packing."""
    first = case.pack()
    check(case, first)
    case.capacity = np.maximum(case.capacity - 1, 0)
    check(case, case.pack(after=first))


@given(cases(most_jobs=4))
@settings(max_examples=150, deadline=None)
def test_bound_and_plan_enclose_the_best_plan(case: Case) -> None:
    """Where all jobs are placed, the best plan lies between the bound and the plan."""
    if np.prod([len(case.placements(j)) for j in range(len(case))]) > MOST_PLANS:
        return
    packing, best = case.pack(), case.best()
    if len(packing.unplaced):
        return
    slack = 1e-6 * max(1.0, abs(best))
    assert packing.bound - slack <= best <= packing.cost + slack


@given(cases(most_jobs=1))
@settings(max_examples=100, deadline=None)
def test_a_job_alone_gets_its_best_placement(case: Case) -> None:
    """One job is placed exactly, wherever there is room at all, and the bound says so."""
    case.capacity[:] = 1
    packing = case.pack()
    assert packing.cost == pytest.approx(case.best())
    assert packing.bound == pytest.approx(packing.cost)


@given(cases())
@settings(max_examples=30, deadline=None)
def test_same_input_same_plan(case: Case) -> None:
    """Nothing depends on the clock or on chance that is not seeded."""
    one, other = case.pack(), case.pack()
    assert (one.pool == other.pool).all()
    assert (one.start == other.start).all()
    assert one.bound == other.bound


def test_like_jobs_fill_the_clean_steps_first() -> None:
    """Six like jobs take the six cleanest slots; that is the best plan, and nearly proven."""
    packing = simple(6).pack()
    assert packing.cost == pytest.approx(21)
    assert packing.gap < 0.01
    assert sorted(packing.start) == list(range(6))


def test_prices_say_what_capacity_is_worth() -> None:
    """A step that all want has a price; a pool that nobody needs has none."""
    packing = simple(4).pack()
    assert packing.prices[0, 0] > packing.prices[0, 3]
    assert not packing.prices[1].any()


def test_says_which_jobs_do_not_fit() -> None:
    """What does not fit is left out and named; the rest is still packed."""
    case = simple(7, steps=3)
    packing = case.pack()
    check(case, packing)
    assert len(packing.unplaced) == 1


def test_holes_are_not_left_where_jobs_can_be_shifted() -> None:
    """Three jobs of two steps fill six steps of one lane without a hole."""
    case = simple(3, steps=6, duration=2)
    case.jobs.permitted[:, 1] = False
    packing = case.pack()
    assert sorted(packing.start) == [0, 2, 4]


@pytest.mark.parametrize("capacity", [1, 2, 8])
def test_a_stream_of_like_jobs_is_packed_within_one_percent(capacity: int) -> None:
    """A four-step job every step for 480 steps: neither stampede nor holes, and proven so."""
    n, pools, steps = 452, 6, 480
    hour = np.arange(steps)
    level = np.array([400.0, 350, 300, 150, 60, 20])[:, None]
    intensity = level * (1 + 0.3 * np.sin((hour + 5 * np.arange(pools)[:, None]) / 24 * 2 * np.pi))
    by_pool = np.ones((n, pools))
    jobs = Jobs(hour[:n], hour[:n] + 24, 4 * by_pool, by_pool, 0 * by_pool, by_pool > 0)
    case = Case(replace(jobs, duration=by_pool.astype(int) * 4), intensity, np.full((6, steps), 0))
    case.capacity[:] = capacity
    packing = case.pack()
    check(case, packing)
    assert not len(packing.unplaced)
    assert packing.gap < 0.01


def tight(n: int, seed: int, load: float = 0.9) -> Case:
    """Jobs of 1 to 12 steps in three unlike pools of few slots, at some load."""
    rng = np.random.default_rng(seed)
    steps, pools = 96, 3
    duration = np.repeat(rng.integers(1, 13, n)[:, None], pools, axis=1)
    earliest = rng.integers(0, steps - duration[:, 0] + 1)
    energy = rng.lognormal(0, 1, (n, 1)) * rng.uniform(0.45, 0.7, pools)
    jobs = Jobs(
        earliest=earliest,
        latest=np.minimum(steps - duration[:, 0], earliest + rng.integers(12, 49, n)),
        duration=duration,
        energy=energy,
        fixed=energy * rng.uniform(0, 30, pools),
        permitted=np.ones((n, pools), bool),
    )
    hour = np.arange(steps) / 48 * 2 * np.pi
    intensity = np.array([[400.0], [250], [90]]) * (1 + 0.3 * np.sin(hour + np.arange(3)[:, None]))
    slots = int(np.ceil(duration[:, 0].sum() / load / steps / pools))
    return Case(jobs, intensity, np.full((pools, steps), slots))


@pytest.mark.parametrize(("n", "seed"), [(85, 3), (120, 3), (240, 3)])
def test_small_tight_fleets_are_near_the_proven_best(n: int, seed: int) -> None:
    """Where holes cost most, programs over few jobs at a time close the gap."""
    case = tight(n, seed)
    packing = case.pack()
    check(case, packing)
    assert not len(packing.unplaced)
    assert packing.gap < 0.01


def exact(case: Case) -> float:
    """Grams of the best plan of all jobs, by one integer program over every placement."""
    at = [(j, p, s) for j in range(len(case)) for p, s in case.placements(j)]
    runs = np.zeros((case.capacity.size + len(case), len(at)))
    for column, (j, p, s) in enumerate(at):
        first = p * case.capacity.shape[1] + s
        runs[first : first + case.jobs.duration[j, p], column] = 1
        runs[case.capacity.size + j, column] = 1
    each = np.ones(len(case))
    least = np.concatenate([np.full(case.capacity.size, -np.inf), each])
    limits = LinearConstraint(runs, least, np.concatenate([case.capacity.ravel(), each]))
    found = milp([case.cost(*one) for one in at], constraints=limits, integrality=np.ones(len(at)))
    return float(found.fun) if found.success else np.inf


@given(cases(most_jobs=10))
@settings(max_examples=60, deadline=None)
def test_few_jobs_are_placed_if_any_plan_places_them(case: Case) -> None:
    """An integer program finds a plan of all jobs where the packer does, as good to .5 %."""
    packing, best = case.pack(), exact(case)
    assert (len(packing.unplaced) == 0) == np.isfinite(best)
    if np.isfinite(best):
        tolerance = 1e-6 * max(1.0, abs(best))
        assert packing.bound - tolerance <= best <= packing.cost + tolerance
        assert packing.cost <= best + 0.0051 * abs(best) + tolerance


def test_no_jobs_no_plan() -> None:
    """An empty fleet plan costs nothing."""
    packing = simple(0).pack()
    assert packing.cost == packing.bound == packing.gap == 0


def one_more(case: Case, earliest: int, latest: int) -> Case:
    """The same instance with one more job, at its end."""
    grown = {
        name: np.concatenate([getattr(case.jobs, name), getattr(case.jobs, name)[-1:]])
        for name in ("duration", "energy", "fixed", "permitted")
    }
    jobs = Jobs(
        earliest=np.append(case.jobs.earliest, earliest),
        latest=np.append(case.jobs.latest, latest),
        **grown,
    )
    return Case(jobs, case.intensity, case.capacity)


def test_a_late_comer_moves_those_that_can_wait() -> None:
    """A new job without slack gets its step although it was taken; the others make room."""
    case = simple(4, steps=6)
    case.jobs.permitted[:, 1] = False
    first = case.pack()
    assert 0 in first.start
    late = one_more(case, 0, 0)
    packing = late.pack(after=first)
    check(late, packing)
    assert not len(packing.unplaced)
    assert packing.start[-1] == 0


def test_others_stay_where_a_new_job_fits_beside_them() -> None:
    """An arrival that needs nobody's place moves nobody."""
    case = simple(3)
    first = case.pack()
    packing = one_more(case, 5, 5).pack(after=first)
    assert (packing.start[:-1] == first.start).all()
    assert packing.start[-1] == 5


def crowded(n: int, seed: int, capacity: int) -> Case:
    """More jobs of 2 to 19 steps than one pool can take in 200 steps."""
    rng = np.random.default_rng(seed)
    earliest, duration = rng.integers(0, 140, n), rng.integers(2, 20, (n, 1))
    jobs = Jobs(
        earliest=earliest,
        latest=np.minimum(earliest + rng.integers(0, 40, n), 200 - duration[:, 0]),
        duration=duration,
        energy=np.ones((n, 1)),
        fixed=np.zeros((n, 1)),
        permitted=np.ones((n, 1), bool),
    )
    return Case(jobs, rng.random((1, 200)), np.full((1, 200), capacity))


@pytest.mark.parametrize("seed", range(3))
def test_nobody_loses_a_place_to_another(seed: int) -> None:
    """Mended on the same input no plan gets worse; new jobs take what is left, or others' room."""
    case = crowded(150, seed, 4)
    known = Case(case.jobs.first(140), case.intensity, case.capacity)
    first = known.pack()
    assert len(first.unplaced)
    again = known.pack(after=first)
    check(known, again)
    assert set(again.unplaced) <= set(first.unplaced)
    assert len(again.unplaced) < len(first.unplaced) or again.cost <= first.cost * (1 + 1e-9)
    more = case.pack(after=again)
    check(case, more)
    assert set(more.unplaced) - set(range(140, 150)) <= set(again.unplaced)


def test_a_long_job_does_not_drive_out_short_ones() -> None:
    """One new job that can only run in two others' steps stays without a place, not they."""
    by_pool = np.ones((3, 1))
    duration = np.array([[2], [2], [6]])
    jobs = Jobs([0, 4, 0], [0, 4, 0], duration, by_pool, 0 * by_pool, by_pool > 0)
    case = Case(jobs, np.ones((1, 6)), np.ones((1, 6), int))
    first = Case(jobs.first(2), case.intensity, case.capacity).pack()
    assert case.pack(after=first).unplaced.tolist() == [2]


def test_a_place_that_is_no_longer_allowed_is_given_up() -> None:
    """A job whose window or residency has changed since is placed anew, also when mending."""
    case = simple(3)
    first = case.pack()
    case.jobs.permitted[:, 0] = False
    case.jobs.earliest[:] = 2
    packing = case.pack(after=first)
    check(case, packing)
    assert not len(packing.unplaced)


def test_capacity_without_end_costs_nothing() -> None:
    """More capacity than jobs is as good as no limit, and takes no longer."""
    packing = simple(3, capacity=10**9).pack()
    assert packing.cost == packing.bound == 3


@given(cases(most_jobs=8), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_one_by_one_keeps_every_promise(case: Case, known: int) -> None:
    """Jobs that arrive one by one are packed within the same limits as all at once."""
    packing = None
    for n in range(min(known, len(case)), len(case) + 1):
        part = Case(case.jobs.first(n), case.intensity, case.capacity)
        packing = part.pack(after=packing)
        check(part, packing)


BAD = {
    "intensity": [[[np.nan] * 6] * 2, [1.0, 2.0], [["a"] * 6] * 2],
    "capacity": [np.full((2, 6), -1), np.ones((2, 5)), np.full((2, 6), 0.5)],
    "earliest": [[0, 0, -1], [[0, 0, 0]], [0, np.inf, 0], [0, 1e300, 0]],
    "latest": [[5, 5, -1], [5, 5, 6], [5, 5]],
    "duration": [np.zeros((3, 2)), np.ones((3, 3)), np.full((3, 2), 1.5)],
    "drawing": [np.zeros((3, 2)), np.full((3, 2), 2), np.full((3, 2), 0.5)],
    "energy": [np.full((3, 2), -1.0), np.full((3, 2), np.nan)],
    "fixed": [np.full((3, 2), np.inf), np.ones(3)],
    "permitted": [np.zeros((3, 2), bool), np.ones((3, 2))],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in BAD.items() for v in values])
def test_refuses_what_cannot_be(field: str, value: object) -> None:
    """Each wrong array is refused by name, with what to do."""
    case = simple(3)
    arrays: dict[str, Any] = {"intensity": case.intensity, "capacity": case.capacity}
    jobs = case.jobs if field in arrays else replace(case.jobs, **{field: value})
    arrays.update({field: value} if field in arrays else {})
    with pytest.raises(BadInput) as caught:
        pack(jobs, **arrays)
    assert caught.value.field == field
    assert caught.value.fix


def test_what_is_not_permitted_is_not_read() -> None:
    """A pool that a job may not use need not have numbers for it."""
    case = simple(2)
    case.jobs.permitted[:, 1] = False
    case.jobs.energy[:, 1] = np.nan
    assert not len(case.pack().unplaced)


def test_refuses_another_fleets_packing() -> None:
    """An earlier packing has to be of the same pools and steps, and of no more jobs."""
    with pytest.raises(BadInput, match="after"):
        simple(3).pack(after=simple(4).pack())
    with pytest.raises(BadInput, match="after"):
        simple(3, steps=5).pack(after=simple(3).pack())
    with pytest.raises(BadInput, match="prices"):
        simple(3).pack(after=replace(simple(3).pack(), prices=np.full((2, 6), -1.0)))
