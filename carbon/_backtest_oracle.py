"""The back-test's oracle: all jobs packed with perfect foresight, and a bound on what any plan saves.

A year is packed in parts, one after the other, each within the capacity that those before it left.
The prices on capacity that come out of the parts are put together, and prove one lower bound for
the whole year (any prices do, see :mod:`carbon._packing`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._backtest_kernels import Case, Placed, least, occupy, queue
from carbon._packing import pack
from carbon._packing_input import Jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from carbon._kernels import Floats

_PART: Final = 12_000
"""Jobs that are packed together."""


def oracle(q: Case, placed: Placed, actual: Floats) -> float | None:
    """Pack all jobs with what came, and return what no plan can cost less than, in gCO2e.

    Args:
        q: What is replayed.
        placed: Out.
        actual: What came, gCO2e per kWh; by zone and step.

    Returns:
        The bound; ``None`` where not all jobs find a slot in time: they queue, and it proves
        nothing of plans that are late.
    """
    prices = np.zeros((2, *q.capacity.shape))
    for first, stop in _parts(len(q.earliest)):
        begin = int(q.earliest[first])
        end = int((q.latest[first:stop] + q.length[first:stop]).max())
        jobs = _jobs(q, actual, first, stop)
        left = np.maximum(q.capacity - placed.used, 0)[:, begin:end]
        found = pack(_shifted(jobs, begin), actual[q.zone, begin:end], left)
        for j in range(first, stop):
            if found.pool[j - first] >= 0:
                occupy(q, placed, j, found.pool[j - first], begin + found.start[j - first])
        for j in first + found.unplaced:
            queue(q, placed, j, True)  # noqa: FBT003 - numba takes arguments by position
            placed.queued[j] = True
        window = (slice(None), slice(begin, end))
        np.maximum(prices[0][window], found.prices, out=prices[0][window])
        prices[1][window] = found.prices
    if placed.queued.any():
        return None
    sums = np.hstack([np.zeros((len(actual), 1)), np.cumsum(np.nan_to_num(actual), axis=1)])
    return max(_bound(q, sums, one) for one in prices)


def _parts(jobs: int) -> Iterator[tuple[int, int]]:
    parts = -(-jobs // _PART)
    for part in range(parts):
        yield jobs * part // parts, jobs * (part + 1) // parts


def _bound(q: Case, sums: Floats, prices: Floats) -> float:
    price_sums = np.hstack([np.zeros((len(prices), 1)), np.cumsum(prices, axis=1)])
    return float(least(q, sums, price_sums) - (prices * q.capacity).sum())


def _shifted(jobs: Jobs, begin: int) -> Jobs:
    return replace(
        jobs,
        earliest=np.asarray(jobs.earliest) - begin,
        latest=np.asarray(jobs.latest) - begin,
    )


def _jobs(q: Case, actual: Floats, first: int, stop: int) -> Jobs:
    part = slice(first, stop)
    length = q.length[part, None]
    there, home = energies(q, part)
    fixed = q.embodied * q.hours[part, None]
    if home.any():
        fixed = fixed + home * _at_home(q, actual[q.home_zone], part)[:, None]
    return Jobs(
        earliest=q.earliest[part],
        latest=q.latest[part],
        duration=np.broadcast_to(length, there.shape),
        energy=there / length,
        fixed=fixed,
        permitted=q.permitted[q.group[part]],
    )


def energies(q: Case, part: slice) -> tuple[Floats, Floats]:
    """Return the kWh of jobs that count at the pool's zone, and at home's; by job and pool."""
    by_pool = q.kw * q.hours[part, None]
    kwh = q.kwh[part, None]
    server: NDArray[np.float64] = np.where(np.isnan(kwh), by_pool, kwh) * q.pue
    network = np.where(q.away, q.network_kwh[part, None] / 2, 0.0)
    return server + network, network


def _at_home(q: Case, home: Floats, part: slice) -> Floats:
    """Return home's mean intensity over all the time that each job has.

    The packer knows one zone for each placement; what a job's data costs at the home end of the way
    hardly depends on the hour. The bound and the result are exact.
    """
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(home))])
    begin, end = q.earliest[part], q.latest[part] + q.length[part]
    return np.asarray((sums[end] - sums[begin]) / (end - begin), np.float64)
