"""Lanes: jobs of one pool that follow each other, packed exactly by dynamic programming.

A pool with capacity 3 is three lanes. Where capacity is small, what is lost is lost in holes between
jobs that no job fits into. Given what each job is *worth* outside (what it costs there), the best
sequence for one lane is found exactly, among the sequences that keep the jobs in the order of their
windows (which loses nothing where windows and durations are alike).
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
    m = len(jobs)
    reach = _reach(q, plan, p, low, high)
    first, last = np.zeros(m, np.int64), np.full(m, -1, np.int64)
    offset = np.zeros(m + 1, np.int64)
    top = low
    for k in range(m):
        j = jobs[k]
        offset[k + 1] = offset[k]
        if q.permitted[j, p]:
            first[k] = max(q.earliest[j], low)
            last[k] = min(q.latest[j], high - q.duration[j, p])
            if last[k] >= first[k]:
                top = max(top, last[k] + q.duration[j, p])
                offset[k + 1] += top - (first[k] + q.duration[j, p]) + 1

    # saved[t]: most that the jobs so far can save by t; ends[offset + ...]: where the k-th job
    # ends in the best sequence of the first k that is over by t, or -1 when it is not in it.
    saved = np.zeros(high - low + 1)
    with_it = np.empty(high - low + 1)
    ends = np.full(offset[m], -1, np.int32)
    top = low
    for k in range(m):
        if offset[k + 1] == offset[k]:
            continue
        j = jobs[k]
        d = q.duration[j, p]
        for t in range(top + 1, last[k] + d + 1):
            saved[t - low] = saved[top - low]
        top = max(top, last[k] + d)
        some = False
        for s in range(first[k], last[k] + 1):
            with_it[s - low] = -1.0
            if reach[s - low] >= s + d:
                gain = worth[k] - cost(q, j, p, s)
                if gain > q.tiny:
                    with_it[s - low] = saved[s - low] + gain
                    some = True
        if not some:
            continue
        best, end = -1.0, -1
        for t in range(first[k] + d, top + 1):
            if t - d <= last[k] and with_it[t - d - low] > best:
                best, end = with_it[t - d - low], t
            if best > saved[t - low] + q.tiny:
                saved[t - low] = best
                ends[offset[k] + t - first[k] - d] = end
            elif t - d > last[k]:
                break

    starts = np.full(m, -1, np.int64)
    t = top
    for k in range(m - 1, -1, -1):
        span = offset[k + 1] - offset[k]
        d = q.duration[jobs[k], p]
        i = min(t - first[k] - d, span - 1)
        if span > 0 and i >= 0 and ends[offset[k] + i] >= 0:
            t = starts[k] = ends[offset[k] + i] - d
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
        starts = best_lane(q, plan, p, waiting, worth[waiting], 0, q.intensity.shape[1])
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
def _exchange(
    q: Problem, plan: Plan, p: int, jobs: Integers, low: int, high: int, skip: int
) -> None:
    """Sequence one lane anew, from its own jobs and all others; undo it unless that is better."""
    m = len(jobs)
    inside = _take_lane(q, plan, p, jobs, low, high, skip)
    worth = np.empty(m)
    for k in range(m):
        j = jobs[k]
        if inside[k] or plan.pool[j] < 0:
            found = cheapest_free(q, plan, j)
            worth[k] = found[0] if found[1] >= 0 else q.penalty
        else:
            worth[k] = cost(q, j, plan.pool[j], plan.start[j])
    pool, start = plan.pool[jobs], plan.start[jobs]
    for k in range(m):
        if inside[k]:
            vacate(q, plan, jobs[k])
    starts = best_lane(q, plan, p, jobs, worth, low, high)
    before = after = 0.0
    for k in range(m):
        j = jobs[k]
        if inside[k] or starts[k] >= 0:
            before += cost(q, j, pool[k], start[k]) if pool[k] >= 0 else q.penalty
            vacate(q, plan, j)
            if starts[k] >= 0:
                occupy(q, plan, j, p, starts[k])
                after += cost(q, j, p, starts[k])
    for k in range(m):
        if inside[k] and starts[k] < 0:
            found = cheapest_free(q, plan, jobs[k])
            after += found[0] if found[1] >= 0 else q.penalty
            if found[1] >= 0:
                occupy(q, plan, jobs[k], found[1], found[2])
    if after > before - q.tiny:
        for k in range(m):
            if inside[k] or starts[k] >= 0:
                vacate(q, plan, jobs[k])
        for k in range(m):
            if (inside[k] or starts[k] >= 0) and pool[k] >= 0:
                occupy(q, plan, jobs[k], pool[k], start[k])


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
    steps = q.intensity.shape[1]
    longest = np.zeros(len(jobs), np.int64)
    for k in range(len(jobs)):
        longest[k] = q.latest[jobs[k]] + q.duration[jobs[k]].max()
    offset = np.random.randint(0, width)  # noqa: NPY002
    for begin in range(-offset, steps, max(1, width // 2)):
        low, high = max(0, begin), min(steps, begin + width)
        near = jobs[(longest > low) & (q.earliest[jobs] < high)]
        if len(near) == 0:
            continue
        for p in np.random.permutation(q.intensity.shape[0]):  # noqa: NPY002
            lanes = q.capacity[p, low:high].max()
            for _ in range(lanes):
                skip = np.random.randint(0, lanes)  # noqa: NPY002
                _exchange(q, plan, p, near, low, high, skip)
