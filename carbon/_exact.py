"""Small fleets: a linear program proves the bound, and small integer programs mend the plan.

The linear program lets a job be in many places by shares. The prices of capacity that it ends with
prove the highest bound that prices can prove. It has a column for each placement; HiGHS is given
those that pay at the prices so far, until no other one does (column generation). Then, as long as
the plan is too far from the bound, some jobs that run at about the same time are taken out and put
back in the best way that there is, which is an integer program small enough to be solved.

Effort is counted in rounds and nodes, never in seconds, so the same input gives the same plan.
HiGHS: Huangfu and Hall, doi:10.1007/s12532-017-0130-5.
"""

from __future__ import annotations

from typing import Final

import highspy
import numpy as np

from carbon import _kernels as kernels
from carbon._kernels import Flags, Floats, Integers, Plan, Problem

_FIRST: Final = 8
"""Columns of each job to begin with."""
_MORE: Final = 3
"""Columns of each job that are added at a time."""
_ENOUGH: Final = 3e-4
"""Difference of the program from what its prices prove, as a share, from which on it is solved."""
_ROUNDS: Final = 80
_IDLE: Final = 20
"""Rounds without gain after which the search ends."""
_TRIES: Final = 8
"""The same where a job has no place: these rounds take longest."""
_TOGETHER: Final = 40
"""Jobs that are put back together."""
_COLUMNS: Final = 400
"""Placements among which they choose."""
_ALL: Final = 5000
"""The same when all jobs are put back at last; with more, they are not."""
_NODES: Final = 1
_EXACT: Final = 1e-4
"""Gap at which an integer program is solved, as a share of what its jobs cost."""
_FORBIDDEN: Final = 3.0
"""What a placement costs that may not be, in penalties."""
_NONE_MORE: Final = 0.9
"""The same where jobs have no place, in penalties: it is proven then that no more of them fit."""


class Exact:
    """All placements of a small fleet, one column each, by job, pool and start."""

    def __init__(self, q: Problem) -> None:
        self.q = q
        self.n = len(q.earliest)
        job, self.pool = np.nonzero(q.permitted)
        earliest = q.earliest[job, self.pool]
        starts = q.latest[job, self.pool] - earliest + 1
        begin = np.cumsum(starts) - starts
        self.start = np.arange(starts.sum()) - np.repeat(begin - earliest, starts)
        self._column = np.zeros(q.permitted.shape, np.int64)
        self._column[job, self.pool] = begin - earliest
        rows = np.repeat(q.row[job, self.pool] - begin, starts) + np.arange(starts.sum())
        self.job, self.pool = np.repeat(job, starts), np.repeat(self.pool, starts)
        self.end = self.start + q.duration[self.job, self.pool]
        # Where it may not be it costs more than to be nowhere, so no program puts it there.
        self.cost = np.minimum(q.grams[rows], _FORBIDDEN * q.penalty)
        self._first = np.searchsorted(self.job, np.arange(self.n))

    def prices(self, guess: Floats) -> Floats:
        """Return the prices that prove the highest bound, by pool and step.

        Args:
            guess: Prices to begin with; the better they are, the sooner it is done.
        """
        q = self.q
        program = _Program(self, np.arange(self.n), q.capacity)
        program.add(self._lowest(self._values(guess), _FIRST))
        while True:
            cost = program.solve()
            worth, prices = program.duals()
            values = self._values(prices)
            least = np.minimum(np.minimum.reduceat(values, self._first), q.penalty)
            proven = float(least.sum() - (prices * q.capacity).sum())
            better = self._lowest(values, _MORE)
            better = better[values[better] < worth[self.job[better]] - q.tiny]
            if cost - proven < _ENOUGH * abs(cost) or not program.add(better):
                return prices

    def improve(self, plan: Plan, prices: Floats, bound: float, enough: float) -> float:
        """Change a plan in place until it costs little more than the bound, or nothing helps.

        Args:
            plan: In and out, within capacity; it never gets worse.
            prices: By pool and step; they say where the plan loses.
            bound: What these prices prove: no plan of all jobs costs less.
            enough: Grams above it at which the plan is good enough.

        Returns:
            The bound, or a higher one that was proven on the way.
        """
        values = self._values(prices)
        least = np.minimum(np.minimum.reduceat(values, self._first), self.q.penalty)
        regret = values - least[self.job]
        chance, idle = np.random.default_rng(0), 0
        for _ in range(_ROUNDS):
            tries = _IDLE if (plan.pool >= 0).all() else _TRIES
            if idle >= tries or self._done(plan, bound + enough):
                break
            near = self._near(plan, self._of(plan, regret), chance)
            before = self._value(plan)
            self._put_back(plan, near, self._by_regret(near, regret), _COLUMNS)
            idle = idle + 1 if self._value(plan) == before else 0
        if self._done(plan, bound + enough) or (plan.pool < 0).any():
            return bound
        spare = self._value(plan) - bound
        # What regrets more than this is in no better plan.
        columns = np.flatnonzero(regret <= spare + self.q.tiny)
        if len(columns) > _ALL:
            return bound
        return max(bound, self._put_back(plan, np.arange(self.n), columns, _ALL))

    def _values(self, prices: Floats) -> Floats:
        pools, steps = self.q.capacity.shape
        sums = np.zeros((pools, steps + 1))
        kernels.running_sums(prices, sums)
        values: Floats = self.cost + (sums[self.pool, self.end] - sums[self.pool, self.start])
        return values

    def _lowest(self, values: Floats, count: int) -> Integers:
        """Return the columns of each job that have the lowest values."""
        order = np.lexsort((values, self.job))
        return order[np.arange(len(order)) - self._first[self.job] < count]

    def _of(self, plan: Plan, values: Floats) -> Floats:
        """Return the value of each job's place; the penalty where it has none."""
        placed = plan.pool >= 0
        found = np.full(self.n, self.q.penalty)
        found[placed] = values[self._columns(plan, np.flatnonzero(placed))]
        return found

    def _columns(self, plan: Plan, jobs: Integers) -> Integers:
        return self._column[jobs, plan.pool[jobs]] + plan.start[jobs]

    def _near(self, plan: Plan, lost: Floats, chance: np.random.Generator) -> Integers:
        """Return jobs that run at about the same time as one that loses much, or has no place."""
        q, nowhere = self.q, plan.pool < 0
        middle = plan.start + 0.5 * q.duration[np.arange(self.n), plan.pool]
        weight = nowhere if nowhere.any() else lost + lost.mean() + q.tiny
        one = chance.choice(self.n, p=weight / weight.sum())
        when = chance.integers(q.opens[one], q.closes[one] + 1) if nowhere[one] else middle[one]
        off = np.maximum(q.opens - when, when - q.closes - q.duration.max(axis=1))
        distance = np.where(nowhere, np.maximum(off, 0), np.abs(middle - when))
        if chance.random() < 0.5 and plan.pool[one] >= 0:  # noqa: PLR2004 - every other time
            # Fewer pools for longer: what runs after one another can be shifted then.
            other = chance.integers(len(q.capacity))
            there = (plan.pool == plan.pool[one]) | (plan.pool == other) | nowhere
            distance = np.where(there, distance, distance + q.capacity.shape[1])
        distance[one] = -1
        return np.sort(np.argsort(distance, kind="stable")[:_TOGETHER])

    def _by_regret(self, jobs: Integers, regret: Floats) -> Integers:
        """Return the columns of some jobs, the most promising first."""
        wanted = np.zeros(self.n, np.bool_)
        wanted[jobs] = True
        columns = np.flatnonzero(wanted[self.job])
        return columns[np.argsort(regret[columns], kind="stable")]

    def _put_back(self, plan: Plan, jobs: Integers, columns: Integers, most: int) -> float:
        """Put some jobs into the best of the first places; return what no choice of those beats."""
        pool, start = plan.pool[jobs], plan.start[jobs]
        own = self._columns(plan, jobs)[pool >= 0]
        for j in jobs:
            kernels.vacate(self.q, plan, j)
        room = self.q.capacity - plan.used
        program = _Program(self, jobs, room)
        program.add(np.union1d(self._free(columns, room)[:most], own))
        gap = _EXACT * float(np.abs(self.cost[own]).sum())
        chosen = program.whole(own, gap if len(own) == len(jobs) else _NONE_MORE * self.q.penalty)
        before = self.cost[own].sum() - self.q.penalty * len(own)
        if self.cost[chosen].sum() - self.q.penalty * len(chosen) < before - self.q.tiny:
            pool, start = np.full(len(jobs), -1), np.full(len(jobs), -1)
            place = np.searchsorted(jobs, self.job[chosen])
            pool[place], start[place] = self.pool[chosen], self.start[chosen]
        for j, p, s in zip(jobs, pool, start, strict=True):
            if p >= 0:
                kernels.occupy(self.q, plan, j, p, s)
        return program.proven

    def _free(self, columns: Integers, room: Integers) -> Integers:
        """Return those columns that run where there is room."""
        full = np.zeros((room.shape[0], room.shape[1] + 1), np.int64)
        full[:, 1:] = np.cumsum(room <= 0, axis=1)
        pool = self.pool[columns]
        blocked = full[pool, self.end[columns]] - full[pool, self.start[columns]]
        may = (blocked == 0) & (self.cost[columns] < self.q.penalty)
        free: Integers = columns[may]
        return free

    def _done(self, plan: Plan, goal: float) -> bool:
        return bool((plan.pool >= 0).all()) and self._value(plan) <= goal

    def _value(self, plan: Plan) -> float:
        return kernels.total(self.q, plan) + self.q.penalty * int((plan.pool < 0).sum())


class _Program:
    """Each job in one of its places or, at the penalty, in none; each step within its room.

    Rows are the jobs, then the steps of each pool; the first columns are jobs without a place.
    """

    def __init__(self, of: Exact, jobs: Integers, room: Integers) -> None:
        self._of, self._jobs = of, jobs
        self._columns = np.zeros(0, np.int64)
        self._known: Flags = np.zeros(len(of.job), np.bool_)
        self._room = room
        n, rows = len(jobs), len(jobs) + room.size
        self._highs = highspy.Highs()  # type: ignore[no-untyped-call]
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("threads", 1)
        none = np.zeros(0, np.int32)
        least = np.concatenate([np.ones(n), np.full(room.size, -np.inf)])
        most = np.concatenate([np.ones(n), room.ravel().astype(np.float64)])
        self._highs.addRows(rows, least, most, 0, np.zeros(rows, np.int32), none, np.zeros(0))
        each = np.arange(n, dtype=np.int32)
        ones, penalty = np.ones(n), np.full(n, of.q.penalty)
        self._highs.addCols(n, penalty, np.zeros(n), ones, n, each, each, ones)

    def add(self, columns: Integers) -> bool:
        """Add those columns that it has not; tell whether there were any."""
        of, columns = self._of, columns[~self._known[columns]]
        if not len(columns):
            return False
        self._known[columns] = True
        self._columns = np.concatenate([self._columns, columns])
        steps = of.end[columns] - of.start[columns]
        begin = np.cumsum(steps + 1) - (steps + 1)
        within = np.arange((steps + 1).sum()) - np.repeat(begin, steps + 1)
        first = len(self._jobs) + of.pool[columns] * self._room.shape[1] + of.start[columns] - 1
        rows = np.repeat(first, steps + 1) + within
        rows[begin] = np.searchsorted(self._jobs, of.job[columns])
        n = len(columns)
        self._highs.addCols(
            n,
            of.cost[columns],
            np.zeros(n),
            np.ones(n),
            len(rows),
            begin.astype(np.int32),
            rows.astype(np.int32),
            np.ones(len(rows)),
        )
        return True

    def solve(self) -> float:
        """Solve it by shares; return the cost."""
        self._highs.run()
        return float(self._highs.getInfo().objective_function_value)

    def duals(self) -> tuple[Floats, Floats]:
        """Return what each job adds to the cost, and the price of each step of each pool."""
        found = np.array(self._highs.getSolution().row_dual)
        n = len(self._jobs)
        return found[:n], np.maximum(-found[n:], 0.0).reshape(self._room.shape)

    def whole(self, own: Integers, gap: float) -> Integers:
        """Solve it in whole jobs; return the columns that are chosen.

        Args:
            own: Columns of a plan that is known.
            gap: Grams from the best at which it is solved.
        """
        highs, n = self._highs, len(self._jobs)
        count = n + len(self._columns)
        kind = np.full(count, highspy.HighsVarType.kInteger)
        highs.changeColsIntegrality(count, np.arange(count, dtype=np.int32), kind)
        known = highspy.HighsSolution()
        chosen = np.isin(self._columns, own)
        nowhere = ~np.isin(self._jobs, self._of.job[own])
        known.col_value = np.concatenate([nowhere, chosen]).astype(np.float64).tolist()
        highs.setSolution(known)
        highs.setOptionValue("mip_rel_gap", 0.0)
        highs.setOptionValue("mip_abs_gap", max(gap, self._of.q.tiny))
        highs.setOptionValue("mip_max_nodes", _NODES)
        highs.run()
        found = np.array(highs.getSolution().col_value)
        return self._columns[found[n:] > 0.5] if len(found) == count else own  # noqa: PLR2004

    @property
    def proven(self) -> float:
        """What no choice among its columns costs less than, once solved in whole jobs."""
        return float(self._highs.getInfo().mip_dual_bound)
