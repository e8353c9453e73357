"""Many jobs at once: the cheapest pool and start for each, within capacity, and how far from best.

Use :func:`pack`. It works on plain arrays of whole time steps; nothing here knows zones or clocks.
How it is done, in four steps:

1. *Prices.* Each step of each pool gets a price for its capacity. Jobs answer prices with the
   placement that is best for them, in batches; what too many ask for gets dearer
   (:func:`carbon._kernels.learn`). Any prices prove a lower bound on what any plan costs: each
   job's best answer, less what the whole capacity is worth (Lagrangian duality).
2. *Negotiation.* From those prices on, jobs choose one after the other, seeing what the others now
   take, while going over capacity gets dearer and dearer, until none does.
3. *Lanes.* Where that is not good enough, one lane after the other is filled exactly
   (:mod:`carbon._lanes`), or jobs come first, served first; the best of these plans is kept.
4. *Repair.* Jobs move to better free places, and lanes are sequenced anew, while it pays.
5. *Exactly.* Where that is still not good enough and jobs are few, a linear program proves the
   bound, and integer programs put jobs back together that run at about the same time
   (:mod:`carbon._exact`).

Who has no place at last gets one wherever others can make room (:mod:`carbon._room`).

The same input gives the same plan: chance is seeded, and no clock is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from carbon import _kernels as kernels
from carbon import _lanes as lanes
from carbon import _room as room
from carbon._errors import BadInput
from carbon._exact import Exact
from carbon._kernels import Flags, Floats, Integers, Plan, Problem
from carbon._packing_input import Jobs, only, problem, still_allowed

_EPOCHS: Final = 10
_BATCHES: Final = 16
_MOMENTUM: Final = 0.9
_SAMPLE: Final = 20_000
"""Jobs that answer prices in an epoch; they stand for all."""
_FIRST_STEP: Final = 0.03
_STAGES: Final = 40
_STILL_RISING: Final = 2e-3
"""Relative gain of the bound in a stage from which on the step is not made smaller."""
_CONVERGED: Final = 1e-4
"""Relative gain below which the bound is as good as it gets."""

_GOOD_ENOUGH: Final = 5e-3
"""Gap at which no better plan is sought."""
_STARTS: Final = 4
_GROWTH: Final = 1.1
_STUBBORN: Final = 80
_BRISK: Final = 3
_FEW: Final = 3e-4
"""Share of all steps run that is over capacity below which only those jobs choose again."""
_MANY: Final = 500_000
_WORK: Final = 200_000_000
"""Placements to be looked at in one search for a better plan: about half a second."""
_SMALL: Final = 100_000
"""Placements of all jobs up to which linear and integer programs are solved."""
_TRIES: Final = 1000
"""Moves of others after which a job without a place is given up."""
_BRIEFLY: Final = (100, 5_000_000)
"""The same, and the placements to be looked at, when a plan is only mended."""
_FINE: Final = (3e-3, 1e-3)
"""Steps of the negotiations that begin with exact prices."""


@dataclass(frozen=True, eq=False)
class Packing:
    """A plan for all jobs, and a proof of how good it is.

    Attributes:
        pool: Index of its pool, one per job; -1 where nothing fits.
        start: Step in which it starts, one per job; -1 where nothing fits.
        cost: What the placed jobs cost, in gCO2e.
        bound: No plan that places the same jobs within capacity costs less, in gCO2e.
        prices: What one more job at a time would save, in gCO2e, by pool and step.
    """

    pool: Integers
    start: Integers
    cost: float
    bound: float
    prices: Floats

    @property
    def gap(self) -> float:
        """How far the plan may be from the best one, as a share of the bound."""
        return (self.cost - self.bound) / max(abs(self.bound), float(np.finfo(float).tiny))

    @cached_property
    def unplaced(self) -> Integers:
        """The jobs for which no capacity was found: they need their last resort, and queue.

        Where only just all jobs fit, or not all, a plan of a few more may exist: not even for small
        fleets is it searched to the end.
        """
        return np.flatnonzero(self.pool < 0)


def pack(
    jobs: Jobs, intensity: ArrayLike, capacity: ArrayLike, *, after: Packing | None = None
) -> Packing:
    """Place all jobs within capacity at the least cost.

    Jobs that have started are no longer jobs: leave them out and take what they occupy off the
    capacity. With an earlier packing the plan is only mended, which takes milliseconds: jobs keep
    their place unless a new one, or capacity that has gone, needs it, and then they get another.
    Only where capacity has gone can a job that had a place be left without.

    Args:
        jobs: The jobs.
        intensity: gCO2e per kWh, by pool and step.
        capacity: Jobs at a time, by pool and step, reservations taken off. Where it is 0 nobody
            runs, and who finds no place is among the ``unplaced``.
        after: An earlier packing of the first of these jobs, in the same order and the same steps.

    Raises:
        BadInput: Something is missing, not a number or does not fit together.
    """
    return packed(problem(jobs, intensity, capacity), after)


def packed(q: Problem, after: Packing | None = None) -> Packing:
    """Place all jobs of a problem; see :func:`pack`."""
    if not len(q.earliest):
        nobody = np.zeros(0, np.int64)
        return Packing(nobody, nobody, cost=0.0, bound=0.0, prices=np.zeros(q.capacity.shape))
    if after is not None:
        return _Packer(q, _checked(after, q).prices).mend(after)
    return _Packer(q, np.zeros(q.capacity.shape)).make()


class _Packer:
    """One packing in the making."""

    def __init__(self, q: Problem, prices: Floats) -> None:
        self.q = q
        self.prices = prices
        self.n = len(q.earliest)
        self.pools = len(q.capacity)
        self.everyone = np.arange(self.n)
        self.by_window = np.argsort(q.opens + q.closes, kind="stable")
        self.chance = np.random.default_rng(0)
        self.unit = q.typical / np.maximum(q.capacity, 1)
        self.work = max(1, int(np.where(q.permitted, q.latest - q.earliest + 1, 0).sum()))
        self.proven = (np.ones(self.n, np.bool_), -np.inf)  # for plans that place these jobs
        many = self.work > _MANY
        self.patient, self.growth = (0.7, _GROWTH**2) if many else (0.0, _GROWTH)

    def make(self) -> Packing:
        """Plan from nothing."""
        plan = self._search()
        if (plan.pool >= 0).any() and (plan.pool < 0).any():
            roomier = self._make_room(self._copy(plan), _TRIES, _WORK)
            plan = self._better(self._search_again(roomier), plan)
        return self._packing(plan)

    def _search(self, known: Plan | None = None) -> Plan:
        best = self._approximate()
        best = best if known is None else self._better(known, best)
        if self.work > _SMALL or self._good_enough(best):
            return best
        exact = Exact(self.q)
        prices = exact.prices(self.prices)
        if (best.pool < 0).any() or self._bound(prices) > self._bound(self.prices):
            self.prices = prices
        best = min((best, *map(self._negotiate, _FINE)), key=self._value)
        bound = self._bound(self.prices)
        proven = exact.improve(best, self.prices, bound, _GOOD_ENOUGH * abs(bound))
        self.proven = (np.ones(self.n, np.bool_), proven)
        return self._settle(best)

    def _approximate(self) -> Plan:
        step = self._learn()
        best = self._negotiate(step)
        if self._good_enough(best):
            return best
        for other in self._others():
            if self._packing(other).gap < self._packing(best).gap:
                best = self._better(self._improve(other), best)
        for _ in range(min(_STARTS, _WORK // (100 * self.work))):
            if self._good_enough(best):
                return best
            best = self._better(best, self._negotiate(step))
        return self._improve(best)

    def _search_again(self, known: Plan) -> Plan:
        """Plan anew for the jobs that did fit.

        Where not all fit, prices rise without end: they prove that, and little else.
        """
        placed = known.pool >= 0
        fewer = _Packer(only(self.q, placed), np.zeros_like(self.prices))
        found = fewer._search(Plan(known.pool[placed], known.start[placed], known.used.copy()))
        self.prices = fewer.prices
        self.proven = (placed, fewer.proven[1])
        pool, start = np.full(self.n, -1), np.full(self.n, -1)
        pool[placed], start[placed] = found.pool, found.start
        plan = self._empty()
        kernels.occupy_all(self.q, plan, pool, start)
        return self._settle(plan)

    def mend(self, after: Packing) -> Packing:
        """Plan from an earlier plan: new jobs and overfull steps first, then whoever gains."""
        plan = self._empty()
        still = still_allowed(self.q, after.pool, after.start)
        kernels.occupy_all(self.q, plan, np.where(still, after.pool, -1), after.start)
        kept = self._copy(plan)
        kernels.evict(self.q, kept, self.chance.permutation(self.n))
        had = kept.pool >= 0
        new = np.flatnonzero(plan.pool < 0)
        kernels.negotiate(self.q, plan, new, self.prices, self.unit, 0.0)
        self._agree(plan, rise=1.0, sweeps=0)
        if (plan.pool < 0).any() and self.work <= _SMALL:
            Exact(self.q).improve(plan, self.prices, 0.0, np.inf)
        # Somebody may have lost a place to another in what was agreed: here nobody does.
        kept = self._make_room(self._settle(kept), *_BRIEFLY)
        plan = kept if (plan.pool[had] < 0).any() else self._better(kept, plan)
        return self._packing(plan)

    def _make_room(self, plan: Plan, tries: int, most: int) -> Plan:
        """Find places for jobs that have none, the shortest first, while nobody loses one."""
        shortest = np.where(self.q.permitted, self.q.duration, np.inf).min(axis=1)
        jobs = np.argsort(shortest, kind="stable")
        while room.make_room(self.q, plan, jobs[plan.pool[jobs] < 0], tries, most):
            pass
        return self._settle(plan)

    # Prices

    def _learn(self) -> float:
        """Find prices with a high bound; return the last step, in units of the typical price."""
        step, shrunk = _FIRST_STEP, True
        highest = self._bound(self.prices)
        for _ in range(_STAGES):
            price, drive = self.prices.copy(), np.zeros_like(self.prices)
            means = [
                kernels.learn(
                    self.q,
                    self.chance.permutation(self.n)[:_SAMPLE],
                    min(_BATCHES, self.n),
                    step * self.unit,
                    price,
                    drive,
                    _MOMENTUM,
                )
                for _ in range(_EPOCHS)
            ]
            found = np.mean(means[_EPOCHS // 2 :], axis=0)
            bound = self._bound(found)
            gain = (bound - highest) / max(abs(highest), self.q.tiny)
            if bound > highest:
                highest, self.prices = bound, found
            if highest > self.q.ceiling or (shrunk and 0 <= gain < _CONVERGED):
                break  # above the ceiling not all jobs fit
            shrunk = gain < _STILL_RISING
            step /= 2 if shrunk else 1
        return step

    def _answers(self, prices: Floats) -> tuple[Floats, Integers, Integers]:
        """Return value, pool and start of each job's best placement at given prices."""
        sums = np.zeros((self.pools, prices.shape[1] + 1))
        kernels.running_sums(prices, sums)
        value = np.empty(self.n)
        pool, start = np.empty(self.n, np.int64), np.empty(self.n, np.int64)
        kernels.respond(self.q, sums, self.everyone, value, pool, start)
        return value, pool, start

    def _bound(self, prices: Floats, placed: Flags | None = None) -> float:
        value = self._answers(prices)[0]
        value = value if placed is None else value[placed]
        return float(value.sum() - (prices * self.q.capacity).sum())

    # Plans

    def _empty(self) -> Plan:
        nowhere = np.full(self.n, -1)
        return Plan(nowhere, nowhere.copy(), np.zeros_like(self.q.capacity))

    @staticmethod
    def _copy(plan: Plan) -> Plan:
        return Plan(plan.pool.copy(), plan.start.copy(), plan.used.copy())

    def _negotiate(self, step: float) -> Plan:
        plan = self._empty()
        _, pool, start = self._answers(self.prices)
        kernels.occupy_all(self.q, plan, pool, start)
        return self._agree(plan, rise=4 * step / (1 - _MOMENTUM), sweeps=60)

    def _agree(self, plan: Plan, *, rise: float, sweeps: int) -> Plan:
        """Let jobs choose anew until no step is over capacity, or take jobs out in the end."""
        q, price = self.q, self.prices.copy()
        few = _FEW * q.duration.mean(axis=1).sum()
        for sweep in range(sweeps + _STUBBORN):
            rising = rise * self.unit
            patient = 1.0 if sweep >= sweeps else self.patient if sweep >= _BRISK else 0.0
            kernels.negotiate(q, plan, self.chance.permutation(self.n), price, rising, patient)
            over = plan.used - q.capacity
            if (over <= 0).all():
                break
            if np.maximum(over, 0).sum() < few:
                sweeps = sweep
            correction = 0.5 * np.maximum(over, 0) if sweep >= sweeps else 0.3 * over
            price = np.maximum(0.0, price + rising * correction)
            rise *= self.growth
        kernels.evict(q, plan, self.chance.permutation(self.n))
        return self._settle(plan)

    def _settle(self, plan: Plan) -> Plan:
        for _ in range(8):
            if not kernels.settle(self.q, plan, self.chance.permutation(self.n)):
                break
        return plan

    def _lanes(self) -> int:
        return int(self.q.capacity.max(axis=1).sum())

    def _others(self) -> Iterator[Plan]:
        """Yield plans made in other ways, which are better where capacity is small."""
        if self._lanes() * self.work // self.pools <= _WORK:
            yield self._fill()
        first_come = self._empty()
        kernels.settle(self.q, first_come, self.by_window)
        yield first_come

    def _fill(self) -> Plan:
        """Fill the dearest pool's lane first, then the next pool's, round and round."""
        plan = self._empty()
        worth = self._answers(self.prices)[0]
        dear = np.argsort(-self.prices.sum(axis=1), kind="stable")
        most = self.q.capacity.max(axis=1)
        order = [p for lane in range(most.max()) for p in dear if lane < most[p]]
        order = [p for p in order if self.prices[p].any()]
        lanes.fill(self.q, plan, self.by_window, worth, np.array(order, np.int64))
        kernels.settle(self.q, plan, self.by_window)
        return self._settle(plan)

    def _improve(self, plan: Plan) -> Plan:
        span = self.q.closes - self.q.opens + self.q.duration.max(axis=1)
        width = int(min(self.q.capacity.shape[1], max(2, 4 * span.mean())))
        price = max(1, 8 * self._lanes() * self.work // self.pools)
        for turn in range(min(16, _WORK // price)):
            before = self._value(plan)
            if self._good_enough(plan):
                break
            lanes.exchange(self.q, plan, self.by_window, width, turn)
            self._settle(plan)
            if before - self._value(plan) < _CONVERGED * abs(before):
                break
        return plan

    def _value(self, plan: Plan) -> float:
        return kernels.total(self.q, plan) + self.q.penalty * int((plan.pool < 0).sum())

    def _better(self, one: Plan, other: Plan) -> Plan:
        return min(one, other, key=self._value)

    def _good_enough(self, plan: Plan) -> bool:
        return not (plan.pool < 0).any() and self._packing(plan).gap < _GOOD_ENOUGH

    def _packing(self, plan: Plan) -> Packing:
        placed, (jobs, proven) = plan.pool >= 0, self.proven
        bound = self._bound(self.prices, placed)
        return Packing(
            pool=plan.pool,
            start=plan.start,
            cost=kernels.total(self.q, plan),
            bound=max(bound, proven) if (placed == jobs).all() else bound,
            prices=self.prices,
        )


def _checked(after: Packing, q: Problem) -> Packing:
    known = len(after.pool)
    if not (np.isfinite(after.prices).all() and (after.prices >= 0).all()):
        raise BadInput(
            "after", "its prices are not all numbers of 0 or more", "Give a packing as it was made."
        )
    if after.prices.shape != q.capacity.shape or known > len(q.earliest):
        raise BadInput(
            "after",
            f"it has {known} jobs and prices of shape {after.prices.shape}; now there are "
            f"{len(q.earliest)} jobs, and pools and steps are {q.capacity.shape}",
            "Give a packing of the first of these jobs in the same steps, or none.",
        )
    return after
