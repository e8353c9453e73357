"""Lanes: jobs of one pool that follow each other, packed exactly by dynamic programming.

A pool with capacity 3 is three lanes. Where capacity is small, what is lost is lost in holes
between jobs that no job fits into. Given what each job is *worth* outside (what it costs there),
the best sequence for one lane is found exactly, among the sequences that keep the jobs in the order
of their windows (which loses nothing where windows and durations are alike).
"""

from __future__ import annotations

import numpy as np

from carbon._kernels import (
    Flags,
    Floats,
    Integers,
    Plan,
    Problem,
    cheapest_free,
    compiled,
    cost,
    occupy,
    vacate,
)


@compiled
def _reach(q: Problem, plan: Plan, p: int, low: int, high: int) -> Integers:
    """Return for each step from low to high the first step from it that has no free capacity."""
    reach = np.empty(high - low + 1, np.int64)
    reach[high - low] = high
    for t in range(high - 1, low - 1, -1):
        full = plan.used[p, t] >= q.capacity[p, t]
        reach[t - low] = t if full else reach[t - low + 1]
    return reach


@compiled
def best_lane(
    q: Problem, plan: Plan, p: int, jobs: Integers, worth: Floats, low: int, high: int
) -> Integers:
    """Return the starts of the sequence that saves most against what its jobs are worth.

    Args:
        q: The problem.
        plan: Says which capacity is free.
        p: The pool.
        jobs: Who may be in the lane, in the order that the lane keeps.
        worth: Grams, one for each of these jobs; a job enters only where it costs less.
        low: First step of the lane.
        high: Step after its last.

    Returns:
        Start for each of these jobs; -1 for those that stay out.
    """
    reach = _reach(q, plan, p, low, high)
    first, last, tops = _windows(q, p, jobs, low, high)
    duration = q.duration[jobs, p]
    # By t, `saved` is the most that the jobs so far save in sequences that are over by t. For each
    # job and t, `ends` is where it ends in the best sequence so far; -1 when it is not in it.
    saved = np.zeros(high - low + 1)
    offset = np.zeros(len(jobs) + 1, np.int64)
    offset[1:] = np.cumsum(np.where(last >= first, tops - (first + duration) + 1, 0))
    ends = np.full(offset[-1], -1, np.int32)
    known = low
    for k in range(len(jobs)):
        if last[k] >= first[k]:
            saved[known - low : tops[k] - low + 1] = saved[known - low]
            known = tops[k]
            window = (low, first[k], last[k], known)
            own = ends[offset[k] : offset[k + 1]]
            _let_in(q, p, jobs[k], worth[k], window, reach, saved, own)
    return _read_back(first, duration, offset, ends, known)


@compiled
def _windows(
    q: Problem, p: int, jobs: Integers, low: int, high: int
) -> tuple[Integers, Integers, Integers]:
    """Return each job's first and last start in a lane, and by when it and those before end.

    A job that cannot be in the lane has its last start before its first.
    """
    first, last = np.zeros(len(jobs), np.int64), np.full(len(jobs), -1, np.int64)
    tops = np.empty(len(jobs), np.int64)
    top = low
    for k in range(len(jobs)):
        j = jobs[k]
        if q.permitted[j, p]:
            first[k] = max(q.earliest[j, p], low)
            last[k] = min(q.latest[j, p], high - q.duration[j, p])
            if last[k] >= first[k]:
                top = max(top, last[k] + q.duration[j, p])
        tops[k] = top
    return first, last, tops


@compiled
def _let_in(
    q: Problem,
    p: int,
    j: int,
    worth: float,
    window: tuple[int, int, int, int],
    reach: Integers,
    saved: Floats,
    ends: Integers,
) -> None:
    """Let one more job into the sequences, behind all before it, wherever that saves more."""
    low, first, last, known = window
    d = q.duration[j, p]
    with_it = np.full(last - first + 1, -1.0)
    for s in range(first, last + 1):
        gain = worth - cost(q, j, p, s)
        if gain > q.tiny and reach[s - low] >= s + d:
            with_it[s - first] = saved[s - low] + gain
    best, end = -1.0, -1
    for t in range(first + d, known + 1):
        if t - d <= last and with_it[t - d - first] > best:
            best, end = with_it[t - d - first], t
        if best > saved[t - low] + q.tiny:
            saved[t - low] = best
            ends[t - d - first] = end


@compiled
def _read_back(
    first: Integers, duration: Integers, offset: Integers, ends: Integers, known: int
) -> Integers:
    """Return the starts of the best sequence, found from its end."""
    starts = np.full(len(first), -1, np.int64)
    t = known
    for k in range(len(first) - 1, -1, -1):
        span = offset[k + 1] - offset[k]
        i = min(t - first[k] - duration[k], span - 1)
        if span > 0 and i >= 0 and ends[offset[k] + i] >= 0:
            t = starts[k] = ends[offset[k] + i] - duration[k]
    return starts


@compiled
def fill(q: Problem, plan: Plan, jobs: Integers, worth: Floats, pools: Integers) -> None:
    """Fill one lane after the other with jobs that have no place yet.

    Args:
        q: The problem.
        plan: In and out, within capacity.
        jobs: All jobs, in the order of their windows.
        worth: Grams, by job: the value of its best placement at the prices.
        pools: Pool of each lane, in the order in which they are filled.
    """
    for p in pools:
        waiting = jobs[plan.pool[jobs] < 0]
        starts = best_lane(q, plan, p, waiting, worth[waiting], 0, q.capacity.shape[1])
        for k in range(len(waiting)):
            if starts[k] >= 0:
                occupy(q, plan, waiting[k], p, starts[k])


@compiled
def _take_lane(
    q: Problem, plan: Plan, p: int, jobs: Integers, low: int, high: int, skip: int
) -> Flags:
    """Return which of the jobs make up a lane: each begins after the one before has ended."""
    inside = np.zeros(len(jobs), np.bool_)
    end = low
    for k in np.argsort(plan.start[jobs]):
        j = jobs[k]
        s = plan.start[j]
        if plan.pool[j] == p and s >= end and s + q.duration[j, p] <= high:
            if skip > 0:
                skip -= 1
            else:
                inside[k] = True
                end = s + q.duration[j, p]
    return inside


@compiled
def _worth(q: Problem, plan: Plan, jobs: Integers, inside: Flags) -> Floats:
    """Return what each job costs where it is, or elsewhere if it is to leave its lane."""
    worth = np.empty(len(jobs))
    for k in range(len(jobs)):
        j = jobs[k]
        if inside[k] or plan.pool[j] < 0:
            grams, p, _ = cheapest_free(q, plan, j)
            worth[k] = grams if p >= 0 else q.penalty
        else:
            worth[k] = cost(q, j, plan.pool[j], plan.start[j])
    return worth


@compiled
def _value(q: Problem, plan: Plan, jobs: Integers) -> float:
    """Return the grams of some jobs, and the penalty for each that has no place."""
    grams = 0.0
    for j in jobs:
        grams += cost(q, j, plan.pool[j], plan.start[j]) if plan.pool[j] >= 0 else q.penalty
    return grams


@compiled
def _put(q: Problem, plan: Plan, jobs: Integers, pool: Integers, start: Integers) -> None:
    """Take jobs out, all at once, and put each where it is told; pool -1 leaves it out."""
    for j in jobs:
        vacate(q, plan, j)
    for k in range(len(jobs)):
        if pool[k] >= 0:
            occupy(q, plan, jobs[k], pool[k], start[k])


@compiled
def _exchange(
    q: Problem, plan: Plan, p: int, jobs: Integers, low: int, high: int, skip: int
) -> None:
    """Sequence one lane anew, from its own jobs and all others; undo it unless that is better."""
    inside = _take_lane(q, plan, p, jobs, low, high, skip)
    worth = _worth(q, plan, jobs, inside)
    pool, start = plan.pool[jobs], plan.start[jobs]
    before = _value(q, plan, jobs)
    for j in jobs[inside]:
        vacate(q, plan, j)
    starts = best_lane(q, plan, p, jobs, worth, low, high)
    moving = inside | (starts >= 0)
    movers = jobs[moving]
    _put(q, plan, movers, np.where(starts[moving] >= 0, p, -1), starts[moving])
    for j in jobs[inside & (starts < 0)]:
        _, where, when = cheapest_free(q, plan, j)
        if where >= 0:
            occupy(q, plan, j, where, when)
    if _value(q, plan, jobs) > before - q.tiny:
        _put(q, plan, movers, pool[moving], start[moving])


@compiled
def exchange(q: Problem, plan: Plan, jobs: Integers, width: int, seed: int) -> None:
    """Sequence every lane anew, in overlapping stretches of time; it never gets worse.

    Args:
        q: The problem.
        plan: In and out, within capacity.
        jobs: All jobs, in the order of their windows.
        width: Steps of a stretch.
        seed: Decides where stretches begin and which jobs make up a lane.
    """
    np.random.seed(seed)  # noqa: NPY002 - numba knows no other generator that it can seed
    steps = q.capacity.shape[1]
    longest = np.zeros(len(jobs), np.int64)
    for k in range(len(jobs)):
        longest[k] = q.closes[jobs[k]] + q.duration[jobs[k]].max()
    offset = np.random.randint(0, width)  # noqa: NPY002
    for begin in range(-offset, steps, max(1, width // 2)):
        low, high = max(0, begin), min(steps, begin + width)
        near = jobs[(longest > low) & (q.opens[jobs] < high)]
        if len(near) == 0:
            continue
        for p in np.random.permutation(q.capacity.shape[0]):  # noqa: NPY002
            lanes = q.capacity[p, low:high].max()
            for _ in range(lanes):
                skip = np.random.randint(0, lanes)  # noqa: NPY002
                _exchange(q, plan, p, near, low, high, skip)
