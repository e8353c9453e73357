"""Making room: a job without a place takes one, and those that it displaces find others.

What a plan has left in holes is often enough for one more job, if others move. The job takes the
start for which those have to leave that were easiest to place so far; they look for free capacity,
or displace others in turn. It ends when all of them have a place again; if that takes too long,
nothing has happened. So nobody ever loses a place to another.

This is guided ejection: Nagata and Bräysy, doi:10.1016/j.orl.2009.04.006.
"""

from __future__ import annotations

import numpy as np

from carbon._kernels import (
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

MOST = 12
"""Jobs that are without a place at a time before one that displaces others is given up."""


@compiled
def _leaving(
    q: Problem,
    plan: Plan,
    j: int,
    at: tuple[int, int],
    near: Integers,
    count: Floats,
    least: float,
    reached: Floats,
    who: Integers,
) -> float:
    """Write which jobs have to leave for one start of a job, so that their counts are least.

    Args:
        q: The problem.
        plan: Within capacity; the job has no place.
        j: The job.
        at: Pool and start.
        near: Jobs in that pool that may be in the way.
        count: How hard jobs were to place; by job.
        least: Sum of counts from which on it is of no interest.
        reached: Room for the least sum by which the first steps get free.
        who: Out, who leaves last for that; by step, -1 for nobody.

    Returns:
        The sum of counts; infinite where it is not below the least, or nobody can give room.
    """
    p, s = at
    reached[0] = 0.0
    for k in range(q.duration[j, p]):
        t = s + k
        reached[k + 1], who[k] = reached[k], -1
        if plan.used[p, t] >= q.capacity[p, t]:
            best = np.inf
            for i in near:
                begin = plan.start[i]
                if begin <= t < begin + q.duration[i, p]:
                    value = reached[max(begin - s, 0)] + count[i]
                    if value < best:
                        best, who[k] = value, i
            reached[k + 1] = best
        if reached[k + 1] >= least:
            return np.inf
    total: float = reached[q.duration[j, p]]
    return total


@compiled
def _force(q: Problem, plan: Plan, j: int, count: Floats, out: Integers) -> tuple[int, int]:
    """Put a job where it displaces those that are easiest to place.

    Args:
        q: The problem.
        plan: In and out, within capacity; the job has no free place.
        j: The job.
        count: How hard jobs were to place; by job.
        out: Out, who has lost its place.

    Returns:
        How many have, -1 where the job fits nowhere; and the work that it took.
    """
    longest = q.duration[j].max()
    reached, who = np.empty(longest + 1), np.empty(longest, np.int64)
    least, where, when, work = np.inf, -1, -1, len(plan.pool)
    everyone = np.arange(len(plan.pool))
    for p in range(q.duration.shape[1]):
        if not q.permitted[j, p]:
            continue
        d = q.duration[j, p]
        end = plan.start + q.duration[:, p]
        first, last = q.earliest[j, p], q.latest[j, p]
        in_the_way = (plan.pool == p) & (plan.start < last + d) & (end > first)
        near = everyone[in_the_way]
        for s in range(first, last + 1):
            if cost(q, j, p, s) == np.inf:
                continue
            found = _leaving(q, plan, j, (p, s), near, count, least, reached, who)
            if found < least:
                least, where, when = found, p, s
        work += (last - first + 1) * d * (len(near) + 1)
    if where < 0:
        return -1, work
    d = q.duration[j, where]
    near = everyone[plan.pool == where]
    _leaving(q, plan, j, (where, when), near, count, np.inf, reached, who)
    many, k = 0, d
    while k > 0:
        i = who[k - 1]
        k -= 1
        if i >= 0:
            k = max(plan.start[i] - when, 0)
            vacate(q, plan, i)
            out[many] = i
            many += 1
    occupy(q, plan, j, where, when)
    return many, work


@compiled
def _make_room(q: Problem, plan: Plan, j: int, count: Floats, tries: int, most: float) -> float:
    """Give a job a place and all that it displaces another, or change nothing; return the work."""
    pool, start = plan.pool.copy(), plan.start.copy()
    waiting = np.empty(MOST + q.duration.max(), np.int64)
    waiting[0], many, work = j, 1, float(len(pool))
    for _ in range(tries):
        if many == 0 or many > MOST or work > most:
            break
        i = waiting[many - 1]
        many -= 1
        _, p, s = cheapest_free(q, plan, i)
        if p >= 0:
            occupy(q, plan, i, p, s)
            continue
        count[i] += 1
        more, took = _force(q, plan, i, count, waiting[many:])
        work += took
        if more < 0:
            many = MOST + 1
            break
        many += more
    if many > 0:
        moved = np.arange(len(pool))[(plan.pool != pool) | (plan.start != start)]
        for i in moved:
            vacate(q, plan, i)
        for i in moved:
            if pool[i] >= 0:
                occupy(q, plan, i, pool[i], start[i])
    return work


@compiled
def make_room(q: Problem, plan: Plan, jobs: Integers, tries: int, most: float) -> int:
    """Find places for jobs that have none; nobody loses a place.

    Args:
        q: The problem.
        plan: In and out, within capacity.
        jobs: Who looks for a place, in turn.
        tries: Moves after which a job is given up.
        most: Placements to be looked at after which it ends.

    Returns:
        How many have found one.
    """
    count, found, work = np.ones(len(plan.pool)), 0, 0.0
    for j in jobs:
        if work > most:
            break
        if plan.pool[j] < 0:
            work += _make_room(q, plan, j, count, tries, most - work)
            found += plan.pool[j] >= 0
    return found
