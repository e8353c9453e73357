"""The inner loops of the fleet planner, compiled by numba.

They know nothing but arrays. A *placement* of job ``j`` is a pool and a start; its *value* is its
cost, plus what the prices on capacity say for the steps it runs in. Compiled code is kept beside
this file (``cache=True``). Numba does not see that a function in another file has changed, so every
compiled function stands here, in ``_lanes`` or in ``_room``, and after a change here the caches are
to be cleared (``make clean``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(function: _F) -> _F:
    """Compile a function on its first call; other threads may run meanwhile."""
    return cast("_F", njit(cache=True, nogil=True)(function))


class Problem(NamedTuple):
    """What is to be packed; see :class:`carbon._packing.Jobs` for the units.

    Attributes:
        earliest: First start, by job and pool.
        latest: Last start, by job and pool.
        duration: Steps for which it holds a slot, by job and pool.
        row: Where in ``grams`` its starts begin, by job and pool.
        grams: What each placement costs; infinite where it may not be.
        permitted: By job and pool.
        opens: First start in any pool, by job.
        closes: Last start in any pool, by job.
        capacity: Jobs at a time, by pool and step.
        penalty: What one job without a place weighs; far above any difference in cost.
        tiny: A difference in cost that is no more than rounding.
        typical: Grams per step that the choice of placement makes for a usual job.
        ceiling: No plan of all jobs costs more.
    """

    earliest: Integers
    latest: Integers
    duration: Integers
    row: Integers
    grams: Floats
    permitted: Flags
    opens: Integers
    closes: Integers
    capacity: Integers
    penalty: float
    tiny: float
    typical: float
    ceiling: float


class Plan(NamedTuple):
    """Who runs where and when; the kernels change it in place.

    Attributes:
        pool: By job; -1 without a place.
        start: Step, by job; -1 without a place.
        used: Jobs at a time, by pool and step.
    """

    pool: Integers
    start: Integers
    used: Integers


@compiled
def cost(q: Problem, j: int, p: int, s: int) -> float:
    """Return the grams of one placement."""
    grams: float = q.grams[q.row[j, p] + s - q.earliest[j, p]]
    return grams


@compiled
def tabulate(q: Problem, drawing: Integers, energy: Floats, fixed: Floats, sums: Floats) -> None:
    """Write what each placement costs that draws its energy evenly from the start on.

    Args:
        q: The problem; its costs are written.
        drawing: Steps from the start on in which a job draws energy, by job and pool.
        energy: kWh a step, by job and pool.
        fixed: Grams, by job and pool.
        sums: Running sums of the intensity, by pool and step.
    """
    for j in range(q.duration.shape[0]):
        for p in range(q.duration.shape[1]):
            if q.permitted[j, p]:
                row, first, a = q.row[j, p], q.earliest[j, p], drawing[j, p]
                for s in range(first, q.latest[j, p] + 1):
                    drawn = sums[p, s + a] - sums[p, s]
                    q.grams[row + s - first] = fixed[j, p] + energy[j, p] * drawn


@compiled
def occupy(q: Problem, plan: Plan, j: int, p: int, s: int) -> None:
    """Put a job that has no place in its place."""
    plan.pool[j] = p
    plan.start[j] = s
    for t in range(s, s + q.duration[j, p]):
        plan.used[p, t] += 1


@compiled
def occupy_all(q: Problem, plan: Plan, pool: Integers, start: Integers) -> None:
    """Put the first jobs in their places; pool -1 leaves a job without one."""
    for j in range(len(pool)):
        if pool[j] >= 0:
            occupy(q, plan, j, pool[j], start[j])


@compiled
def vacate(q: Problem, plan: Plan, j: int) -> None:
    """Take a job out of its place, if it has one."""
    p, s = plan.pool[j], plan.start[j]
    if p >= 0:
        for t in range(s, s + q.duration[j, p]):
            plan.used[p, t] -= 1
        plan.pool[j] = -1
        plan.start[j] = -1


@compiled
def overfull(q: Problem, plan: Plan, j: int) -> bool:
    """Tell whether a job runs in a step with more jobs than capacity."""
    p, s = plan.pool[j], plan.start[j]
    for t in range(s, s + q.duration[j, p]):  # noqa: SIM110 - numba knows no any()
        if plan.used[p, t] > q.capacity[p, t]:
            return True
    return False


@compiled
def extremes(q: Problem, low: Floats, high: Floats) -> None:
    """Write the least and the highest cost of each job; both infinite without any placement."""
    for j in range(len(q.earliest)):
        low[j], high[j] = np.inf, -np.inf
        for p in range(q.duration.shape[1]):
            if q.permitted[j, p]:
                for s in range(q.earliest[j, p], q.latest[j, p] + 1):
                    value = cost(q, j, p, s)
                    if value < np.inf:
                        low[j], high[j] = min(low[j], value), max(high[j], value)


@compiled
def respond(
    q: Problem, price_sums: Floats, jobs: Integers, value: Floats, pool: Integers, start: Integers
) -> None:
    """Write the best placement of each job of a list at given prices, as if it were alone.

    Args:
        q: The problem.
        price_sums: Running sums of the prices, by pool and step.
        jobs: Which jobs.
        value: Out, by job: cost and prices of the best placement.
        pool: Out, by job.
        start: Out, by job.
    """
    for k in range(len(jobs)):
        j = jobs[k]
        best, where = np.inf, 0
        for p in range(q.duration.shape[1]):
            if q.permitted[j, p]:
                d, first, least = q.duration[j, p], q.earliest[j, p], np.inf
                shift = q.row[j, p] - first
                for s in range(first, q.latest[j, p] + 1):
                    found = q.grams[shift + s] + (price_sums[p, s + d] - price_sums[p, s])
                    least = min(least, found)
                if least < best:
                    best, where = least, p
        # The start in a loop of its own: the loop above then needs no branch.
        d, first = q.duration[j, where], q.earliest[j, where]
        shift, least, when = q.row[j, where] - first, np.inf, first
        for s in range(first, q.latest[j, where] + 1):
            found = q.grams[shift + s] + (price_sums[where, s + d] - price_sums[where, s])
            if found < least:
                least, when = found, s
        value[j], pool[j], start[j] = best, where, when


@compiled
def running_sums(values: Floats, sums: Floats) -> None:
    """Write the running sums of each row, beginning with 0."""
    for p in range(values.shape[0]):
        for t in range(values.shape[1]):
            sums[p, t + 1] = sums[p, t] + values[p, t]


@compiled
def learn(
    q: Problem,
    order: Integers,
    batches: int,
    step: Floats,
    price: Floats,
    drive: Floats,
    momentum: float,
) -> Floats:
    """Let jobs answer the prices once, in batches, and correct the prices after each batch.

    A step of capacity that the batch asks for more than its share gets dearer, one that it asks for
    less gets cheaper: stochastic ascent of the Lagrangian dual, with momentum.

    Args:
        q: The problem.
        order: Jobs, shuffled: all, or a sample that stands for all.
        batches: How many batches.
        step: Change of price for one job too many, by pool and step.
        price: In and out, by pool and step, never negative.
        drive: In and out: decaying sum of earlier corrections.
        momentum: How much of it stays, 0 to 1.

    Returns:
        The mean of the prices over the batches.
    """
    n, m = len(q.earliest), len(order)
    pools, steps = price.shape
    sums = np.zeros((pools, steps + 1))
    mean = np.zeros((pools, steps))
    asked = np.empty((pools, steps))
    value, pool, start = np.empty(n), np.empty(n, np.int64), np.empty(n, np.int64)
    for b in range(batches):
        batch = order[m * b // batches : m * (b + 1) // batches]
        running_sums(price, sums)
        respond(q, sums, batch, value, pool, start)
        asked[:] = 0.0
        for j in batch:
            p, s = pool[j], start[j]
            for t in range(s, s + q.duration[j, p]):
                asked[p, t] += n / m
        share = len(batch) / m
        for p in range(pools):
            for t in range(steps):
                drive[p, t] = momentum * drive[p, t] + asked[p, t] - share * q.capacity[p, t]
                price[p, t] += step[p, t] * drive[p, t]
                if price[p, t] < 0:
                    price[p, t] = drive[p, t] = 0.0
                mean[p, t] += price[p, t] / batches
    return mean


@compiled
def _asking(q: Problem, plan: Plan, price: Floats, rise: Floats, p: int, t: int) -> float:
    """Return what a further job pays for a step that may be over-full already."""
    asked: float = price[p, t] + rise[p, t] * (plan.used[p, t] + 0.5 - q.capacity[p, t])
    return max(0.0, asked)


@compiled
def _cheapest(q: Problem, asking: Floats, j: int) -> tuple[int, int]:
    """Return pool and start of the best placement at prices that change from job to job."""
    best, where, when = np.inf, -1, -1
    for p in range(q.duration.shape[1]):
        if not q.permitted[j, p]:
            continue
        d, first, asked = q.duration[j, p], q.earliest[j, p], 0.0
        shift = q.row[j, p] - first
        for t in range(first, first + d):
            asked += asking[p, t]
        for s in range(first, q.latest[j, p] + 1):
            if s > first:
                asked += asking[p, s + d - 1] - asking[p, s - 1]
            value = q.grams[shift + s] + asked
            if value < best:
                best, where, when = value, p, s
    return where, when


@compiled
def negotiate(
    q: Problem, plan: Plan, order: Integers, price: Floats, rise: Floats, patient: float
) -> None:
    """Let jobs choose again, one after the other, each seeing what the others now take.

    Args:
        q: The problem.
        plan: In and out; may go over capacity.
        order: Jobs, in the order in which they choose.
        price: By pool and step.
        rise: How much dearer a step gets with each job, by pool and step.
        patient: Share of the order, from its end, whose jobs choose only if they are over capacity.
    """
    asking = np.empty_like(price)
    for p in range(price.shape[0]):
        for t in range(price.shape[1]):
            asking[p, t] = _asking(q, plan, price, rise, p, t)
    eager = (1 - patient) * len(order)
    for k in range(len(order)):
        j = order[k]
        p, s = plan.pool[j], plan.start[j]
        if p >= 0 and k >= eager and not overfull(q, plan, j):
            continue
        vacate(q, plan, j)
        if p >= 0:
            for t in range(s, s + q.duration[j, p]):
                asking[p, t] = _asking(q, plan, price, rise, p, t)
        p, s = _cheapest(q, asking, j)
        occupy(q, plan, j, p, s)
        for t in range(s, s + q.duration[j, p]):
            asking[p, t] = _asking(q, plan, price, rise, p, t)


@compiled
def evict(q: Problem, plan: Plan, order: Integers) -> None:
    """Take jobs out, the first of the order first, until no step is over capacity."""
    for j in order:
        if plan.pool[j] >= 0 and overfull(q, plan, j):
            vacate(q, plan, j)


@compiled
def cheapest_free(q: Problem, plan: Plan, j: int) -> tuple[float, int, int]:
    """Return cost, pool and start of the best placement in free capacity; pool -1 if none."""
    best, where, when = np.inf, -1, -1
    for p in range(q.duration.shape[1]):
        if not q.permitted[j, p]:
            continue
        d, first, full = q.duration[j, p], q.earliest[j, p], -1
        shift = q.row[j, p] - first
        for t in range(first, first + d - 1):
            if plan.used[p, t] >= q.capacity[p, t]:
                full = t
        for s in range(first, q.latest[j, p] + 1):
            t = s + d - 1
            if plan.used[p, t] >= q.capacity[p, t]:
                full = t
            if full < s and q.grams[shift + s] < best:
                best, where, when = q.grams[shift + s], p, s
    return best, where, when


@compiled
def settle(q: Problem, plan: Plan, order: Integers) -> int:
    """Let each job in turn take the best free placement; return how many did move.

    Args:
        q: The problem.
        plan: In and out, within capacity.
        order: Jobs, in turn.
    """
    moved = 0
    for j in order:
        p, s = plan.pool[j], plan.start[j]
        vacate(q, plan, j)
        found, where, when = cheapest_free(q, plan, j)
        if p >= 0 and found >= cost(q, j, p, s) - q.tiny:
            where, when = p, s
        if where >= 0:
            occupy(q, plan, j, where, when)
            moved += where != p or when != s
    return moved


@compiled
def total(q: Problem, plan: Plan) -> float:
    """Return the cost of all jobs that have a place, in grams."""
    grams = 0.0
    for j in range(len(q.earliest)):
        if plan.pool[j] >= 0:
            grams += cost(q, j, plan.pool[j], plan.start[j])
    return grams
