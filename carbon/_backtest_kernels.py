"""What the back-test's policies have in common, compiled by numba: belief, free slots, one choice.

Time is whole steps from the start of the trace. What a job believes of the steps ahead is worked
out from what was known then (:func:`believe`), never from what came. ``_backtest_policies`` calls
these: as with :mod:`carbon._kernels`, after a change here the caches are to be cleared
(``make clean``).
"""

from __future__ import annotations

import numpy as np

from carbon._backtest_case import Case, Known, Placed
from carbon._kernels import Floats, Integers, compiled

HOURS = 24
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
def first_free(q: Case, used: Integers, p: int, s: int, last: int, length: int) -> int:
    """Return the first start within two steps with a free slot all along; -1 if there is none."""
    last = min(last, used.shape[1] - length)
    t = s
    while s <= last:
        if used[p, t] >= q.capacity[p, t]:
            s = t + 1
        elif t == s + length - 1:
            return s
        t += 1
    return -1


@compiled
def occupy(q: Case, placed: Placed, j: int, p: int, s: int) -> None:
    """Put a job into its place; pool -1 is none."""
    placed.pool[j] = p
    placed.start[j] = s
    if p >= 0:
        for t in range(s, s + q.length[j]):
            placed.used[p, t] += 1


@compiled
def vacate(q: Case, placed: Placed, j: int) -> None:
    """Take a job out of its place."""
    p, s = placed.pool[j], placed.start[j]
    for t in range(s, s + q.length[j]):
        placed.used[p, t] -= 1


@compiled
def queue(q: Case, placed: Placed, j: int, now: int, roam: bool) -> None:
    """Put a job into the first free slot, home first; it runs as soon as it can, in time or not."""
    home, length, end = q.home[q.group[j]], q.length[j], placed.used.shape[1]
    when = first_free(q, placed.used, home, now, end, length)
    where = home if when >= 0 else -1
    if roam:
        for p in range(len(q.pue)):
            if q.permitted[q.group[j], p]:
                s = first_free(q, placed.used, p, now, end if when < 0 else when - 1, length)
                if s >= 0:
                    where, when = p, s
    if when != now:
        placed.queued[j] = True
    occupy(q, placed, j, where, when)


@compiled
def occupy_all(q: Case, placed: Placed, first: int, pool: Integers, start: Integers) -> None:
    """Put some jobs, from one on, into their places; those with pool -1 wait for :func:`rest`."""
    for i in range(len(pool)):
        if pool[i] >= 0:
            occupy(q, placed, first + i, pool[i], start[i])


@compiled
def cheapest_free(
    q: Case, used: Integers, sums: Floats, j: int, p: int, now: int, last: int, price: float
) -> tuple[float, int, float, float, float]:
    """Return a job's best free place in a pool, and what it would choose among all places there.

    Args:
        q: What is replayed.
        used: Jobs at a time, by pool and step.
        sums: Running sums of what is believed, from ``now`` on.
        j: The job.
        p: The pool.
        now: First start that is looked at.
        last: Last start that is looked at.
        price: What a step of a slot there costs, in grams.

    Returns:
        Value and start of the best free place, infinite and -1 where there is none; the value of
        starting at once, infinite where there is no room; the least value of all places, infinite
        where nothing is known; and the most grams of any place.
    """
    d, z = q.length[j], q.zone[p]
    there, at_home = energy(q, j, p)
    fixed = q.embodied[p] * q.hours[j]
    best, when, soon, least, most, full = np.inf, -1, np.inf, np.inf, 0.0, now - 1
    for t in range(now, now + d - 1):
        if used[p, t] >= q.capacity[p, t]:
            full = t
    for s in range(now, last + 1):
        if used[p, s + d - 1] >= q.capacity[p, s + d - 1]:
            full = s + d - 1
        # No function of its own: handing over q in the innermost loop takes ten times as long.
        k = s - now
        grams = fixed + there * (sums[z, k + d] - sums[z, k])
        if at_home > 0:
            grams += at_home * (sums[q.home_zone, k + d] - sums[q.home_zone, k])
        if np.isnan(grams):
            break  # nothing is known from here on
        value = grams + price * d
        least, most = min(least, value), max(most, grams)
        if full < s and value < best:
            best, when = value, s
            if s == now:
                soon = value
    return best, when, soon, least, most


@compiled
def choice(
    q: Case,
    used: Integers,
    sums: Floats,
    j: int,
    now: int,
    last: int,
    roam: bool,
    price: Floats,
    near: float,
) -> tuple[float, int, int, float, int, float]:
    """Return a job's best free place, and what it would choose if all places were free.

    Args:
        q: What is replayed.
        used: Jobs at a time, by pool and step.
        sums: Running sums of what is believed, from ``now`` on.
        j: The job.
        now: First start that is looked at.
        last: Last start that is looked at.
        roam: Whether it may run elsewhere than at home.
        price: What a step of a slot costs, in grams; by pool.
        near: Part of the value for which nothing is waited for.

    Returns:
        Value, pool and start of the best free place, the latter -1 where there is none; the least
        value of all places, infinite where nothing is known, and its pool; the most grams.
    """
    group = q.group[j]
    home = q.home[group]
    best, where, when, soon, nearest = np.inf, -1, -1, np.inf, -1
    least, wanted, most = np.inf, home, 0.0
    for i in range(-1, len(q.pue) if roam else 0):
        # Home first: of two places that are alike, the one at home is taken.
        p = home if i < 0 else i
        if i == home or not q.permitted[group, p]:
            continue
        value, s, at_once, any_, high = cheapest_free(q, used, sums, j, p, now, last, price[p])
        most = max(most, high)
        if any_ < least:
            least, wanted = any_, p
        if value < best:
            best, where, when = value, p, s
        if at_once < soon:
            soon, nearest = at_once, p
    if soon <= best + abs(best) * near and nearest >= 0:
        best, where, when = soon, nearest, now
    return best, where, when, least, wanted, most
