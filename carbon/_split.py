"""The inner loop of :mod:`carbon._segments`: a dynamic programme over whole steps, compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from carbon._kernels import Flags, Floats, Integers, compiled


class Steps(NamedTuple):
    """One interruptible run on a grid of whole steps.

    Attributes:
        value: What running through a step costs, by step; 0 where it may not run.
        usable: Whether it may run in a step.
        before: What comes before costs if its first segment begins with a step; infinite where that
            may not be.
        after: What comes after costs if it ends when a step begins, and at last when the last one
            ends; infinite where that may not be.
        again: What a further segment that begins with a step costs on top; infinite where none may.
        pause: Steps that are the least between two segments: the restart.
        work: Steps that it runs in all.
        least: Steps that a segment runs at least, 1 to ``work``.
        tiny: A difference in cost that is no more than rounding.
    """

    value: Floats
    usable: Flags
    before: Floats
    after: Floats
    again: Floats
    pause: int
    work: int
    least: int
    tiny: float


@compiled
def _reach(usable: Flags) -> Integers:
    """Return how many usable steps in a row begin with each step."""
    reach = np.zeros(len(usable) + 1, np.int64)
    for t in range(len(usable) - 1, -1, -1):
        reach[t] = reach[t + 1] + 1 if usable[t] else 0
    return reach


@compiled
def _sums(q: Steps) -> Floats:
    """Return the running sums of the values, beginning with 0."""
    sums = np.zeros(len(q.value) + 1)
    for t in range(len(q.value)):
        sums[t + 1] = sums[t] + q.value[t]
    return sums


@compiled
def _backwards(q: Steps, sums: Floats, reach: Integers) -> tuple[Floats, Flags, Flags]:
    """Return what is left to pay and what is best to do, by step t and work w that is left.

    A segment's first ``least`` steps are taken in one go.

    Returns:
        The least that is still to pay when it runs up to t and may stop there; whether it then goes
        on; whether a restart begins with t when it does not run.
    """
    steps, most = len(q.value), q.work - q.least
    up = np.full((steps + 1, most + 1), np.inf)
    up[:, 0] = q.after
    down = np.full(most + 1, np.inf)
    goes_on = np.zeros((steps, most + 1), np.bool_)
    resumes = np.zeros((steps, most + 1), np.bool_)
    for t in range(steps - 1, -1, -1):
        begin = t + q.pause
        end = begin + q.least
        if end <= steps and reach[begin] >= q.least and q.again[begin] < np.inf:
            block = q.again[begin] + q.tiny + (sums[end] - sums[begin])
            for w in range(q.least, most + 1):
                found = block + up[end, w - q.least]
                resumes[t, w] = found <= down[w] and found < np.inf
                down[w] = min(found, down[w])
        for w in range(1, most + 1):
            on = q.value[t] + up[t + 1, w - 1] if q.usable[t] else np.inf
            goes_on[t, w] = on <= down[w]
            up[t, w] = min(on, down[w])
    return up, goes_on, resumes


@compiled
def _begin(q: Steps, sums: Floats, reach: Integers, up: Floats) -> int:
    """Return the step in which the first segment is best to begin; -1 for none."""
    best, begin = np.inf, -1
    for t in range(len(q.value) - q.least + 1):
        if reach[t] >= q.least:
            found = q.before[t] + sums[t + q.least] - sums[t] + up[t + q.least, q.work - q.least]
            if found < best - q.tiny:
                best, begin = found, t
    return begin


@compiled
def split(q: Steps) -> Flags:
    """Return in which steps the run is up in the cheapest split; in none where no split fits.

    Of equals it is the one with the fewest restarts that begins first.
    """
    chosen = np.zeros(len(q.value), np.bool_)
    sums, reach = _sums(q), _reach(q.usable)
    up, goes_on, resumes = _backwards(q, sums, reach)
    t, w = _begin(q, sums, reach, up), q.work
    if t < 0:
        return chosen
    taken = q.least
    while True:
        chosen[t : t + taken] = True
        t, w = t + taken, w - taken
        if w == 0:
            return chosen
        taken = 1
        if not goes_on[t, w]:
            while not resumes[t, w]:
                t += 1
            t, taken = t + q.pause, q.least
