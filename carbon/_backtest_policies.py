"""The policies of the back-test, compiled by numba: jobs arrive one after the other and choose."""

from __future__ import annotations

import numpy as np

from carbon._backtest_case import Case, Known, Placed
from carbon._backtest_kernels import (
    believe,
    cheapest_free,
    choice,
    energy,
    first_free,
    occupy,
    queue,
    vacate,
)
from carbon._kernels import Flags, Floats, compiled

SLOW = 1e-3
"""What one job counts in what is usual."""


@compiled
def at_once(q: Case, placed: Placed) -> None:
    """Run each job at home as soon as it is released and a slot is free."""
    for j in range(len(q.earliest)):
        queue(q, placed, j, q.earliest[j], False)


@compiled
def choose(
    q: Case,
    known: Known,
    placed: Placed,
    sums: Floats,
    move: bool,
    roam: bool,
    rate: float,
    near: float,
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
        near: Part of a value for which nothing is waited for.
    """
    seen, usual = -1, 0.0
    price, asked = np.zeros(len(q.pue)), np.zeros(len(q.pue))
    for j in range(len(q.earliest)):
        if q.earliest[j] != seen:
            if rate > 0 and seen >= 0:
                follow(q, price, asked, seen, q.earliest[j] - seen, rate * usual)
            seen = q.earliest[j]
            believe(known, seen, sums)
        last = q.latest[j] if move else min(seen, q.latest[j])
        _, where, when, least, wanted, most = choice(
            q, placed.used, sums, j, seen, last, roam, price, near
        )
        known_to = least < np.inf
        placed.blind[j] = not known_to and last >= seen
        if known_to:
            asked[wanted] += q.length[j]
            grams = most / q.length[j]
            usual = usual + SLOW * (grams - usual) if usual > 0 else grams
        if when >= 0:
            occupy(q, placed, j, where, when)
        else:
            queue(q, placed, j, seen, roam and known_to)


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
def replan(q: Case, known: Known, placed: Placed, sums: Floats, every: int, near: float) -> None:
    """Let jobs choose start and place, and those that have not started choose anew for a gain.

    Time goes step by step. A job that waits holds its slot; it is planned again at regular steps,
    and when it is about to start.

    Args:
        q: What is replayed.
        known: What was known.
        placed: Out.
        sums: Room for what is believed, by zone and step ahead, one more than any job looks at.
        every: Steps from one time at which all are planned again to the next.
        near: Part of a value for which nothing is waited for, and nothing moved.
    """
    jobs, free = len(q.earliest), np.zeros(len(q.pue))
    waiting = np.empty(jobs, np.int64)
    many, released = 0, 0
    for now in range(q.earliest[0], placed.used.shape[1]):
        if many == 0 and released == jobs:
            break
        believe(known, now, sums)
        kept = 0
        for i in range(many):
            j = waiting[i]
            if now % every == 0 or placed.start[j] == now:
                plan_again(q, placed, sums, j, now, free, near)
            if placed.start[j] > now:
                waiting[kept] = j
                kept += 1
        many = kept
        while released < jobs and q.earliest[released] == now:
            j = released
            _, where, when, least, _, _ = choice(
                q, placed.used, sums, j, now, q.latest[j], True, free, near
            )
            placed.blind[j] = np.isinf(least) and q.latest[j] >= now
            if when >= 0:
                occupy(q, placed, j, where, when)
            else:
                queue(q, placed, j, now, least < np.inf)
            if placed.start[j] > now:
                waiting[many] = j
                many += 1
            released += 1


@compiled
def plan_again(
    q: Case, placed: Placed, sums: Floats, j: int, now: int, price: Floats, near: float
) -> None:
    """Move a job that has not started if the gain is clear; one that is late as soon as it can."""
    p, s, d = placed.pool[j], placed.start[j], q.length[j]
    vacate(q, placed, j)
    if s > q.latest[j]:
        queue(q, placed, j, now, q.latest[j] >= q.earliest[j])
    else:
        there, at_home = energy(q, j, p)
        k, z = s - now, q.zone[p]
        stays = q.embodied[p] * q.hours[j] + there * (sums[z, k + d] - sums[z, k])
        if at_home > 0:
            stays += at_home * (sums[q.home_zone, k + d] - sums[q.home_zone, k])
        value, where, when, _, _, _ = choice(
            q, placed.used, sums, j, now, q.latest[j], True, price, near
        )
        if value < stays - abs(stays) * near:
            occupy(q, placed, j, where, when)
        else:
            occupy(q, placed, j, p, s)
    placed.moves[j] += placed.pool[j] != p or placed.start[j] != s


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
                    if first_free(q, placed.used, home, s, s, q.length[j]) == s:
                        occupy(q, placed, j, home, s)
                        continue
                    placed.queued[j] = True
                waiting[kept] = j
                kept += 1
            many = kept


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
                value, s, _, _, _ = cheapest_free(
                    q, placed.used, ahead, j, p, q.earliest[j], q.latest[j], 0.0
                )
                if value < best:
                    best, where, when = value, p, s
        if where >= 0:
            occupy(q, placed, j, where, when)
        else:
            queue(q, placed, j, q.earliest[j], True)
            placed.queued[j] = True


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
