"""The back-test's oracle: all jobs packed with perfect foresight, and a bound on any plan.

A year is packed in parts, one after the other, within the capacity that those before it left. Each
part looks further ahead than its own jobs can run, and leaves those later jobs to the next part.
The parts' prices on capacity, put together, prove one lower bound for the whole year, as any prices
do (see :mod:`carbon._packing`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._backtest_case import Case, Placed
from carbon._backtest_kernels import occupy_all
from carbon._backtest_policies import least, rest
from carbon._packing import Packing, pack
from carbon._packing_input import Jobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from carbon._kernels import Floats, Integers

PART: Final = 45_000
"""Jobs that are packed together, at least."""

_MANY: Final = 4
"""Parts from which on two threads pack."""

_LONG: Final = 3
"""The least length of a part, in units of the longest time that a job has."""


def oracle(q: Case, placed: Placed, actual: Floats, *, part: int = PART) -> float | None:
    """Pack all jobs with what came, and return what no plan can cost less than, in gCO2e.

    Args:
        q: What is replayed.
        placed: Out.
        actual: What came, gCO2e per kWh; by zone and step.
        part: Jobs that are packed together, at least.

    Returns:
        The bound; ``None`` where not all jobs find a slot in time: they queue, and it proves
        nothing of plans that are late.
    """
    q = _hurried_at_home(q)
    work = _Packing(q, placed, actual)
    parts = list(_parts(q.earliest, work.longest, part))
    half = len(parts) // 2 if len(parts) >= _MANY else 0
    if half:
        # Compiled code lets other threads run, so each half of the time has its own.
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(work.pack, (parts[: half - 1], parts[half:])))
        work.close(parts[half - 1])
    else:
        work.pack(parts)
    sums = np.hstack([np.zeros((len(actual), 1)), np.cumsum(np.nan_to_num(actual), axis=1)])
    rest(q, placed, sums)
    return None if placed.queued.any() else _bound(q, sums, work.prices)


def _hurried_at_home(q: Case) -> Case:
    """Give jobs that no start is safe for a group of their own, which runs at once and at home.

    Every policy has to run them so; with more freedom the oracle would bound other jobs than those.
    """
    hurried, groups = q.latest < q.earliest, len(q.home)
    at_home = np.zeros_like(q.permitted)
    at_home[np.arange(groups), q.home] = True
    return q._replace(
        latest=np.maximum(q.latest, q.earliest),
        group=np.where(hurried, q.group + groups, q.group),
        permitted=np.vstack([q.permitted, at_home]),
        home=np.tile(q.home, 2),
    )


class _Packing:
    """A packing in the making.

    Attributes:
        longest: The longest time that a job has, in steps.
        prices: What one more slot would save, in gCO2e, by pool and step.
    """

    def __init__(self, q: Case, placed: Placed, actual: Floats) -> None:
        self._q, self._placed, self._actual = q, placed, actual
        self.longest = int((q.latest + q.length - q.earliest).max())
        self.prices = np.zeros(q.capacity.shape)

    def pack(self, parts: Sequence[tuple[int, int]]) -> None:
        """Pack parts that follow each other."""
        q = self._q
        for first, stop in parts:
            last = q.earliest[stop - 1] + self.longest
            ahead = max(stop, int(np.searchsorted(q.earliest, last, side="right")))
            begin, found = self._pack(first, stop, ahead)
            # What jobs of the part before still take here, its prices have counted.
            known = 0 if first == parts[0][0] else self.longest
            end = begin + found.prices.shape[1]
            self.prices[:, begin + known : end] = found.prices[:, known:]

    def close(self, part: tuple[int, int]) -> None:
        """Pack a part when those before and after it have been packed."""
        begin, found = self._pack(*part, part[1])
        known, end = begin + self.longest, int(self._q.earliest[part[1]])
        self.prices[:, known:end] = found.prices[:, self.longest : end - begin]

    def _pack(self, first: int, stop: int, ahead: int) -> tuple[int, Packing]:
        """Pack some jobs and those ahead of them, which keep no place."""
        q = self._q
        begin = int(q.earliest[first])
        end = int((q.latest[first:ahead] + q.length[first:ahead]).max())
        jobs = _jobs(q, self._actual, first, ahead, begin)
        left = np.maximum(q.capacity - self._placed.used, 0)[:, begin:end]
        found = pack(jobs, self._actual[q.zone, begin:end], left)
        own = slice(0, stop - first)
        occupy_all(q, self._placed, first, found.pool[own], begin + found.start[own])
        return begin, found


def _parts(earliest: Integers, longest: int, part: int) -> Iterator[tuple[int, int]]:
    """Yield first and last job of each part; jobs of one step stay together."""
    jobs, first = len(earliest), 0
    while first < jobs:
        reach = np.searchsorted(earliest, earliest[first] + _LONG * longest)
        stop = max(first + part, int(reach))
        stop = int(np.searchsorted(earliest, earliest[min(stop, jobs) - 1], side="right"))
        stop = jobs if jobs - stop < part // 4 else stop
        yield first, stop
        first = stop


def _bound(q: Case, sums: Floats, prices: Floats) -> float:
    price_sums = np.hstack([np.zeros((len(prices), 1)), np.cumsum(prices, axis=1)])
    return float(least(q, sums, price_sums) - (prices * q.capacity).sum())


def _jobs(q: Case, actual: Floats, first: int, stop: int, begin: int) -> Jobs:
    """Return some jobs for the packer, their steps counted from a later one."""
    part = slice(first, stop)
    length = q.length[part, None]
    there, home = energies(q, part)
    fixed = q.embodied * q.hours[part, None]
    if home.any():
        fixed = fixed + home * _at_home(q, actual[q.home_zone], part)[:, None]
    return Jobs(
        earliest=q.earliest[part] - begin,
        latest=q.latest[part] - begin,
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
