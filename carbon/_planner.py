"""The planner: chooses start and pools for a chain of stages, and can say why.

Use :func:`plan`. It never waits, never asks a provider and never reads a clock: everything it
needs is in the :class:`Request`, so a decision can be made again from its inputs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._chain import Chain, moment
from carbon._decision import Decision, Option, Refusal, Reservation, Rule
from carbon._errors import BadInput, ResidencyError
from carbon._fleet import Fleet, Pool, residency_text
from carbon._outlook import Outlook
from carbon._policy import CarbonPolicy, Strategy
from carbon._workload import Stage, Urgency, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_MOST_ALTERNATIVES: Final = 8
_SAME: Final = 1e-9
"""Relative difference below which two numbers are taken as equal."""


@dataclass(frozen=True)
class Request:
    """Everything that a decision depends on.

    Attributes:
        workload: What is to run.
        policy: How it may be placed.
        fleet: Where it could run.
        outlook: What is believed about the grid.
        now: Grid time at which the decision is made.
        deadline: Latest acceptable finish.
        busy: Slots that other runs hold or will hold.
        data_class: Class of this run's data, on top of the workload's own.
        may_wait: False for a stage whose run has already begun: only the place is chosen.
        entry: True when the chain begins with an entry run in the home CPU pool.
    """

    workload: Workload
    policy: CarbonPolicy
    fleet: Fleet
    outlook: Outlook
    now: datetime
    deadline: datetime
    busy: tuple[Reservation, ...] = ()
    data_class: str | None = None
    may_wait: bool = True
    entry: bool = True

    @property
    def data_classes(self) -> tuple[str, ...]:
        """The classes whose residency rules all hold."""
        return tuple(dict.fromkeys(filter(None, (self.workload.data_class, self.data_class))))

    def chain(self, pools: Sequence[Pool]) -> Chain:
        """Lay the workload out on these pools."""
        return Chain.on(self.fleet, self.outlook, self.workload.stages, pools, entry=self.entry)


@dataclass(frozen=True)
class _Candidates:
    """One set of pools at every start worth looking at; the arrays have one entry per start."""

    chain: Chain
    starts: NDArray[np.float64]
    grams: NDArray[np.float64]
    usd: NDArray[np.float64]
    known: NDArray[np.bool_]
    free: NDArray[np.bool_]
    cheap: NDArray[np.bool_]
    clean: NDArray[np.bool_]

    def best(
        self, values: NDArray[np.float64], mask: NDArray[np.bool_]
    ) -> tuple[float, float] | None:
        """Return the least value under the mask and its earliest start."""
        if not mask.any():
            return None
        masked = np.where(mask, values, np.inf)
        least = float(masked.min())
        first = int(np.flatnonzero(masked <= least + abs(least) * _SAME)[0])
        return least, float(self.starts[first])


def plan(request: Request) -> Decision:
    """Choose when and where a workload runs.

    Limits that cannot all hold give way in this order: intensity target, cost cap, then the run
    starts at once at home. Residency never gives way.

    Raises:
        ResidencyError: No permitted pool can run a stage.
        BadInput: The workload does not fit the fleet at all.
    """
    return _Planning(request).decide()


class _Planning:
    """One decision in the making."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.refusals: dict[str, Refusal] = {}
        self.permitted = [self._permitted(stage) for stage in request.workload.stages]
        homes = [request.fleet.home_pool(stage) for stage in request.workload.stages]
        self.home = request.chain(homes)
        self.fallback = request.chain(
            [
                home if home in pools else _fastest(stage, pools)
                for stage, home, pools in zip(
                    request.workload.stages, homes, self.permitted, strict=True
                )
            ]
        )
        now = np.array([request.now.timestamp()])
        self.cost_limit = self._cost_limit(float(self.home.cost(now)[0]))
        self.home_grams = float(self.home.grams(now)[0])

    def decide(self) -> Decision:
        request = self.request
        if request.workload.urgency is Urgency.INTERACTIVE:
            return self._at_once(Rule.INTERACTIVE, "Interactive work is never moved.")
        if request.policy.strategy is Strategy.RUN_NOW:
            return self._at_once(Rule.POLICY, "The policy says to run at once at home.")
        if request.deadline - self.fallback.needed < request.now:
            return self._at_once(
                Rule.DEADLINE, "The deadline leaves no slack, so the run starts at once at home."
            )
        sets = [
            found
            for pools in itertools.product(*self.permitted)
            if (found := self._evaluate(request.chain(pools))) is not None
        ]
        if not sets:
            return self._at_once(
                Rule.SIGNAL, "The grid is not known well enough, so the run starts at once at home."
            )
        return self._choose(sets)

    # -- what may be used ---------------------------------------------------------------------

    def _permitted(self, stage: Stage) -> list[Pool]:
        """Return the pools that may run the stage, noting why the others may not."""
        fleet, policy = self.request.fleet, self.request.policy
        pools = (
            [pool for pool in fleet.pools if pool.can_run(stage)]
            if stage.heavy
            else [fleet.home_cpu]
        )
        fitting = [pool for pool in pools if fleet.permits(pool, *self.request.data_classes)]
        for pool in pools:
            if pool not in fitting:
                self._refuse(
                    pool, Rule.RESIDENCY, residency_text(fleet, pool, *self.request.data_classes)
                )
        if stage.heavy and policy.only_regions:
            for pool in fitting:
                if pool.region not in policy.only_regions:
                    allowed = ", ".join(policy.only_regions)
                    self._refuse(pool, Rule.POLICY, f"the policy allows only {allowed}")
            fitting = [pool for pool in fitting if pool.region in policy.only_regions]
        if not fitting:
            self._nowhere(stage)
        return fitting

    def _nowhere(self, stage: Stage) -> None:
        request = self.request
        allowed = request.fleet.jurisdictions(*request.data_classes)
        only = request.policy.only_regions
        if allowed is None:
            raise BadInput(
                "policy.only_regions",
                f"the fleet has no pool for stage {stage.name!r} in {', '.join(only or ('any region',))}",
                "Name a region of the fleet file, or leave only_regions empty.",
            )
        classes = " and ".join(repr(name) for name in request.data_classes)
        within = f", and the policy allows only {', '.join(only)}" if only else ""
        raise ResidencyError(
            f"{request.workload.name}: no permitted pool for stage {stage.name!r}. {classes} data may "
            f"only be processed in {', '.join(sorted(allowed)) or 'no jurisdiction'}{within}. Add a pool "
            "there, or change only_regions; residency never gives way."
        )

    def _refuse(self, pool: Pool, rule: Rule, reason: str) -> None:
        self.refusals.setdefault(
            pool.name, Refusal(pool=pool.name, region=pool.region, rule=rule, reason=reason)
        )

    # -- what it would be ----------------------------------------------------------------------

    def _cost_limit(self, home_usd: float) -> float:
        policy = self.request.policy
        limits = [policy.max_cost_usd] if policy.max_cost_usd else []
        if policy.strategy is Strategy.CLEANEST:
            limits.append(home_usd * (1 + policy.cost_tolerance_percent / 100))
        return min(limits, default=np.inf) * (1 + _SAME)

    def _evaluate(self, chain: Chain) -> _Candidates | None:
        request = self.request
        latest = request.deadline - chain.needed
        heavy = [window.pool for window in chain.windows if window.stage.heavy]
        if latest < request.now:
            for pool in heavy:
                needed = f"{chain.needed.total_seconds() / 3600:.1f} h"
                self._refuse(
                    pool, Rule.DEADLINE, f"needs {needed} with one retry, more than is left"
                )
            return None
        last = latest if request.may_wait else request.now
        starts = chain.starts(request.now, last, request.busy)
        grams, usd = chain.grams(starts), chain.cost(starts)
        known = ~np.isnan(grams) & ~np.isnan(usd)
        if not known.any():
            for pool in heavy:
                self._refuse(pool, Rule.SIGNAL, self._unknown(pool))
            return None
        ceiling = request.policy.max_g_per_kwh
        clean = grams / chain.kwh() <= ceiling * (1 + _SAME) if ceiling else np.ones_like(known)
        free = chain.free(starts, request.busy)
        return _Candidates(
            chain, starts, grams, usd, known, free & known, (usd <= self.cost_limit) & known, clean
        )

    def _unknown(self, pool: Pool) -> str:
        zone = pool.place.zone
        if zone in self.request.outlook.missing:
            return self.request.outlook.missing[zone]
        if pool.billed_energy and zone not in self.request.outlook.price:
            return f"no electricity price for zone {zone}"
        return f"no intensity for zone {zone} over the run's window"

    # -- what it is ----------------------------------------------------------------------------

    def _choose(self, sets: list[_Candidates]) -> Decision:
        cheapest = self.request.policy.strategy is Strategy.CHEAPEST
        for clean, cheap in ((True, True), (False, True), (False, False)):
            by_cost = cheapest and clean
            found = [
                (*best, index)
                for index, one in enumerate(sets)
                if (
                    best := one.best(
                        one.usd if by_cost else one.grams,
                        one.free
                        & (one.clean if clean else one.known)
                        & (one.cheap if cheap else one.known),
                    )
                )
            ]
            if found:
                least, start, index = min(found)
                return self._decided(sets, sets[index], start, least, by_cost=by_cost)
        return self._at_once(
            Rule.CAPACITY,
            "No pool has a free slot before the latest safe start, so it queues at home now.",
        )

    def _decided(
        self,
        sets: list[_Candidates],
        chosen: _Candidates,
        start: float,
        least: float,
        *,
        by_cost: bool,
    ) -> Decision:
        option = chosen.chain.option(moment(start), self.request.deadline)
        if self._not_worth_it(option):
            return self._at_once(
                Rule.SAVING,
                f"Moving would save less than {self.request.policy.min_saving_percent:g} % of emissions.",
            )
        alternatives = list(self._alternatives(sets, chosen, by_cost=by_cost))
        rule = self._binding(sets, option, least, by_cost=by_cost)
        return self._decision(option, rule, _reason(rule, option, self.home_grams), alternatives)

    def _not_worth_it(self, option: Option) -> bool:
        least = self.request.policy.min_saving_percent
        if not least or option.g is None or not self.home_grams > 0:
            return False
        return 100 * (1 - option.g / self.home_grams) < least

    def _alternatives(
        self, sets: list[_Candidates], chosen: _Candidates, *, by_cost: bool
    ) -> Iterator[Option]:
        """Yield each other set's best option, best first; refuse the pools that have none."""
        ranked: list[tuple[float, float, int]] = []
        for index, one in enumerate(sets):
            if one is not chosen:
                best = one.best(one.usd if by_cost else one.grams, one.free & one.cheap & one.clean)
                if best:
                    ranked.append((*best, index))
        usable = {
            pool.name
            for one in (chosen, *(sets[row[2]] for row in ranked))
            for pool in one.chain.pools
        }
        for one in sets:
            for pool in one.chain.pools:
                if pool.name not in usable:
                    self._refuse(pool, *self._limit(one))
        for _, start, index in sorted(ranked)[:_MOST_ALTERNATIVES]:
            yield sets[index].chain.option(moment(start), self.request.deadline)

    def _limit(self, one: _Candidates) -> tuple[Rule, str]:
        """Say which limit keeps a set of pools out, with numbers."""
        if not one.free.any():
            return Rule.CAPACITY, "every slot is taken until the latest safe start"
        if not (one.free & one.cheap).any():
            return Rule.COST, (
                f"costs {np.min(one.usd[one.free]):.2f} USD, the limit is {self.cost_limit:.2f} USD"
            )
        least = np.min(one.grams[one.free]) / one.chain.kwh()
        return Rule.INTENSITY, (
            f"at best {least:.0f} gCO2e/kWh, the maximum is {self.request.policy.max_g_per_kwh or 0:g}"
        )

    def _binding(
        self, sets: list[_Candidates], option: Option, least: float, *, by_cost: bool
    ) -> Rule:
        """Return the limit that stands between the choice and the best placement without limits."""
        for one in sets:
            values = one.usd if by_cost else one.grams
            better = one.known & (values < least - abs(least) * 1e-6)
            if better.any():
                best = int(np.argmin(np.where(better, values, np.inf)))
                for rule, holds in ((Rule.CAPACITY, one.free), (Rule.COST, one.cheap)):
                    if not holds[best]:
                        return rule
                return Rule.INTENSITY
        last = option.latest_safe_start - option.start < timedelta(seconds=1)
        return Rule.DEADLINE if last and self.request.may_wait else Rule.GRID

    def _at_once(self, rule: Rule, reason: str) -> Decision:
        return self._decision(
            self.fallback.option(self.request.now, self.request.deadline), rule, reason
        )

    def _decision(
        self, option: Option, rule: Rule, reason: str, alternatives: Sequence[Option] = ()
    ) -> Decision:
        request = self.request
        return Decision(
            workload=request.workload.name,
            policy=request.policy.describe(),
            decided_at=request.now,
            deadline=request.deadline,
            chosen=option,
            baseline=self.home.option(request.now, request.deadline),
            alternatives=tuple(alternatives),
            refusals=tuple(self.refusals.values()),
            rule=rule,
            reason=reason,
            breaches=tuple(self._breaches(option)),
            degraded=request.outlook.degraded,
            provenance=request.outlook.provenance(),
        )

    def _breaches(self, option: Option) -> Iterator[str]:
        request = self.request
        if option.start > option.latest_safe_start:
            late = option.start - option.latest_safe_start
            yield (
                f"deadline: starts {late.total_seconds() / 60:.0f} min after the latest safe start, so "
                f"{request.deadline:%a %H:%M} UTC may be missed"
            )
        ceiling = request.policy.max_g_per_kwh
        if ceiling and option.g_per_kwh is not None and option.g_per_kwh > ceiling * (1 + 1e-6):
            yield f"intensity: {option.g_per_kwh:.0f} gCO2e/kWh expected, the maximum is {ceiling:g}"
        if option.usd > self.cost_limit:
            yield f"cost: {option.usd:.2f} USD expected, the limit is {self.cost_limit:.2f} USD"
        chain = request.chain(
            [request.fleet.pool(placement.pool) for placement in option.placements]
        )
        if not chain.free(np.array([option.start.timestamp()]), request.busy)[0]:
            yield "capacity: no slot is free at that time, so the run queues in its pool"


def _fastest(stage: Stage, pools: Sequence[Pool]) -> Pool:
    return min(pools, key=lambda pool: pool.startup + stage.needs[pool.hardware].p95)


def _reason(rule: Rule, option: Option, home_grams: float) -> str:
    main = option.main
    there = (
        f"{main.g_per_kwh:.0f} gCO2e/kWh in {main.zone}"
        if main.g_per_kwh is not None
        else main.zone
    )
    compared = (
        f"; at home now the whole run would emit {home_grams:.0f} gCO2e" if home_grams > 0 else ""
    )
    return {
        Rule.GRID: f"The best start and place within all limits: {there}{compared}.",
        Rule.DEADLINE: f"The best start is the latest that is still safe: {there}{compared}.",
        Rule.COST: f"The best within the cost limit: {there}{compared}. A better place costs too much.",
        Rule.CAPACITY: f"The best free slot: {there}{compared}. A better slot is taken.",
        Rule.INTENSITY: f"The best within the intensity limit: {there}{compared}.",
    }[rule]
