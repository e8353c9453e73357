"""The inner loops of the back-test, compiled by numba: jobs arrive one after the other and choose.

Time is whole steps from the start of the trace. What a job believes of the steps ahead is worked
out at its release from what was known then (:func:`believe`), never from what came. As in
:mod:`carbon._kernels`, every compiled function that these call stands in this file.
"""

from __future__ import annotations

import numpy as np

from carbon._backtest_case import Case, Known, Placed
from carbon._kernels import Flags, Floats, Integers, compiled

HOURS = 24
SLOW = 1e-3
"""What one job counts in what is usual."""

HIGHEST = 2_000.0
"""As ``carbon._series.MAX_PLAUSIBLE_G_PER_KWH``; numba freezes what it reads."""


@compiled
def energy(q: Case, j: int, p: int) -> tuple[float, float]:
    """Return the kWh of each step of a job that count at the pool's zone, and at home's zone."""
    server = q.kw[p] * q.hours[j] if np.isnan(q.kwh[j]) else q.kwh[j]
    there = server * q.pue[p]
    home = 0.0
    if q.away[p]:
        home = q.network_kwh[j] / 2  # half of the network's energy is drawn at each end
        there += home
    return there / q.length[j], home / q.length[j]


@compiled
def believe(known: Known, now: int, sums: Floats) -> None:
    """Write the running sums of what is believed, at the start of a step, of it and those ahead.

    Args:
        known: What was known.
        now: The step.
        sums: Out, by zone and step ahead, beginning with 0; ``nan`` from the first unknown step on.
    """
    steps = known.forecast.shape[1]
    present = now // known.per_hour
    day = present // HOURS
    for z in range(sums.shape[0]):
        left = known.persistence[z, day] ** known.back[z, present] * known.anomaly[z, present]
        sums[z, 0] = 0.0
        hour = present
        for k in range(sums.shape[1] - 1):
            t = now + k
            if t // known.per_hour > hour:
                hour += 1
                left *= known.persistence[z, day]
            value = np.nan
            if t < steps and k < known.ahead:
                value = known.forecast[z, t]
            if np.isnan(value):
                value = known.typical[z, day, hour % HOURS] + left
                if not np.isnan(value):
                    value = min(max(value, 0.0), HIGHEST)
            sums[z, k + 1] = sums[z, k] + value


@compiled
def first_free(q: Case, used: Integers, p: int, s: int, length: int) -> int:
    """Return the first start from a step on with a free slot all along; -1 if there is none."""
    steps = used.shape[1]
    t = s
    while s + length <= steps:
        if used[p, t] >= q.capacity[p, t]:
            s = t + 1
        elif t == s + length - 1:
            return s
        t += 1
        if t >= steps:
            break
    return -1


@compiled
def is_free(q: Case, used: Integers, p: int, s: int, length: int) -> bool:
    """Tell whether a slot is free all along from a step on."""
    if s + length > used.shape[1]:
        return False
    for t in range(s, s + length):  # noqa: SIM110 - numba knows no any()
        if used[p, t] >= q.capacity[p, t]:
            return False
    return True


@compiled
def occupy(q: Case, placed: Placed, j: int, p: int, s: int) -> None:
    """Put a job into its place; pool -1 is none."""
    placed.pool[j] = p
    placed.start[j] = s
    if p >= 0:
        for t in range(s, s + q.length[j]):
            placed.used[p, t] += 1


@compiled
def queue(q: Case, placed: Placed, j: int, roam: bool) -> None:
    """Put a job into the first free slot, home first; it runs as soon as it can, in time or not."""
    home = q.home[q.group[j]]
    when = first_free(q, placed.used, home, q.earliest[j], q.length[j])
    where = home if when >= 0 else -1
    if roam:
        for p in range(len(q.pue)):
            if q.permitted[q.group[j], p]:
                s = first_free(q, placed.used, p, q.earliest[j], q.length[j])
                if s >= 0 and (when < 0 or s < when):
                    where, when = p, s
    placed.queued[j] = when != q.earliest[j]
    occupy(q, placed, j, where, when)


@compiled
def occupy_all(q: Case, placed: Placed, first: int, pool: Integers, start: Integers) -> None:
    """Put some jobs, from one on, into their places; those with pool -1 wait for :func:`rest`."""
    for i in range(len(pool)):
        if pool[i] >= 0:
            occupy(q, placed, first + i, pool[i], start[i])


@compiled
def at_once(q: Case, placed: Placed) -> None:
    """Run each job at home as soon as it is released and a slot is free."""
    for j in range(len(q.earliest)):
        queue(q, placed, j, False)


@compiled
def cheapest_free(
    q: Case, used: Integers, sums: Floats, j: int, p: int, last: int, price: float
) -> tuple[float, int, float, float]:
    """Return a job's best free place in a pool, and what it would choose among all places there.

    Args:
        q: What is replayed.
        used: Jobs at a time, by pool and step.
        sums: Running sums of what is believed, from the job's earliest start on.
        j: The job.
        p: The pool.
        last: Last start that is looked at.
        price: What a step of a slot there costs, in grams.

    Returns:
        Value and start of the best free place, infinite and -1 where there is none; the least value
        of all places, infinite where nothing is known; and the most grams of any place.
    """
    now, d, z = q.earliest[j], q.length[j], q.zone[p]
    there, at_home = energy(q, j, p)
    best, when, least, most, full = np.inf, -1, np.inf, 0.0, now - 1
    for t in range(now, now + d - 1):
        if used[p, t] >= q.capacity[p, t]:
            full = t
    for s in range(now, last + 1):
        if used[p, s + d - 1] >= q.capacity[p, s + d - 1]:
            full = s + d - 1
        k = s - now
        grams = q.embodied[p] * q.hours[j] + there * (sums[z, k + d] - sums[z, k])
        if at_home > 0:
            grams += at_home * (sums[q.home_zone, k + d] - sums[q.home_zone, k])
        if np.isnan(grams):
            break  # nothing is known from here on
        value = grams + price * d
        least, most = min(least, value), max(most, grams)
        if full < s and value < best:
            best, when = value, s
    return best, when, least, most


@compiled
def rest(q: Case, placed: Placed, sums: Floats) -> None:
    """Put each job without a place into the cleanest free one, or let it queue.

    Args:
        q: What is replayed.
        placed: In and out.
        sums: Running sums of the intensity that came, by zone and step, beginning with 0.
    """
    for j in range(len(q.earliest)):
        if placed.pool[j] >= 0:
            continue
        best, where, when = np.inf, -1, -1
        ahead = sums[:, q.earliest[j] :]
        for p in range(len(q.pue)):
            if q.permitted[q.group[j], p]:
                value, s, _, _ = cheapest_free(q, placed.used, ahead, j, p, q.latest[j], 0.0)
                if value < best:
                    best, where, when = value, p, s
        if where >= 0:
            occupy(q, placed, j, where, when)
        else:
            queue(q, placed, j, True)
            placed.queued[j] = True


@compiled
def choose(
    q: Case, known: Known, placed: Placed, sums: Floats, move: bool, roam: bool, rate: float
) -> None:
    """Let each job, at its release, take the free place that is believed to be cleanest.

    With a rate, the slots of a pool cost what they have been worth so far: dearer while jobs ask
    for more than there are, cheaper while they ask for less. Who gains little leaves them alone.

    Args:
        q: What is replayed.
        known: What was known.
        placed: Out.
        sums: Room for what is believed, by zone and step ahead, one more than any job looks at.
        move: Whether a job may start later than at once.
        roam: Whether it may run elsewhere than at home.
        rate: How fast prices follow demand; 0 for none.
    """
    seen, usual = -1, 0.0
    price, asked = np.zeros(len(q.pue)), np.zeros(len(q.pue))
    for j in range(len(q.earliest)):
        if q.earliest[j] != seen:
            if rate > 0 and seen >= 0:
                follow(q, price, asked, seen, q.earliest[j] - seen, rate * usual)
            seen = q.earliest[j]
            believe(known, seen, sums)
        group = q.group[j]
        home = q.home[group]
        last = q.latest[j] if move else seen
        # Home first: of two places that are alike, the one at home is taken.
        best, when, least, most = cheapest_free(q, placed.used, sums, j, home, last, price[home])
        where, wanted = home, home
        for p in range(len(q.pue) if roam else 0):
            if p != home and q.permitted[group, p]:
                value, s, any_, high = cheapest_free(q, placed.used, sums, j, p, last, price[p])
                most = max(most, high)
                if any_ < least:
                    least, wanted = any_, p
                if value < best:
                    best, where, when = value, p, s
        placed.blind[j] = np.isinf(least)
        if not placed.blind[j]:
            asked[wanted] += q.length[j]
            grams = most / q.length[j]
            usual = usual + SLOW * (grams - usual) if usual > 0 else grams
        if when >= 0:
            occupy(q, placed, j, where, when)
        else:
            queue(q, placed, j, roam and not placed.blind[j])


@compiled
def follow(q: Case, price: Floats, asked: Floats, step: int, steps: int, rise: float) -> None:
    """Let the price of each pool's slots follow what has been asked for, and count anew.

    Args:
        q: What is replayed.
        price: In and out, grams for a step of a slot; by pool.
        asked: In and out, steps that jobs have asked for; by pool.
        step: Since when it is counted.
        steps: For how many steps.
        rise: Grams by which the price rises where twice the capacity is asked for.
    """
    for p in range(len(price)):
        over = asked[p] / max(q.capacity[p, step], 1) - steps
        price[p] = max(0.0, price[p] + rise * over)
        asked[p] = 0.0


@compiled
def threshold(q: Case, clean: Flags, placed: Placed) -> None:
    """Run each job at home when the grid is clean, or from its latest start on.

    Time goes step by step: a job that waits holds no slot, and nobody knows when it will start.

    Args:
        q: What is replayed.
        clean: Whether a job that may wait starts now, by step.
        placed: Out.
    """
    jobs = len(q.earliest)
    waiting = np.empty(jobs, np.int64)
    many, released = 0, 0
    for s in range(len(clean)):
        while released < jobs and q.earliest[released] <= s:
            waiting[many] = released
            many += 1
            released += 1
        if many == 0:
            continue
        for urgent in (True, False):
            if not urgent and not clean[s]:
                continue
            kept = 0
            for i in range(many):
                j = waiting[i]
                home = q.home[q.group[j]]
                if not urgent or q.latest[j] <= s:
                    if is_free(q, placed.used, home, s, q.length[j]):
                        occupy(q, placed, j, home, s)
                        continue
                    placed.queued[j] = True
                waiting[kept] = j
                kept += 1
            many = kept


@compiled
def least(q: Case, sums: Floats, price_sums: Floats) -> float:
    """Return what all jobs cost if each took its best window at given prices of capacity.

    Args:
        q: What is replayed.
        sums: Running sums of the intensity that came, by zone and step, beginning with 0.
        price_sums: Running sums of the prices, by pool and step, beginning with 0.
    """
    total = 0.0
    for j in range(len(q.earliest)):
        d = q.length[j]
        best = np.inf
        for p in range(len(q.pue)):
            if not q.permitted[q.group[j], p]:
                continue
            z = q.zone[p]
            there, at_home = energy(q, j, p)
            fixed = q.embodied[p] * q.hours[j]
            for s in range(q.earliest[j], q.latest[j] + 1):
                value = fixed + there * (sums[z, s + d] - sums[z, s])
                value += at_home * (sums[q.home_zone, s + d] - sums[q.home_zone, s])
                value += price_sums[p, s + d] - price_sums[p, s]
                best = min(best, value)
        total += best
    return total
