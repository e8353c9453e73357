"""The planner: chooses start and pools for a chain of stages, and can say why.

Use :func:`plan`. It never waits, never asks a provider and never reads a clock: everything it
needs is in the :class:`Request`, so a decision can be made again from its inputs.
"""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._candidates import SAME, Candidates, evaluate
from carbon._chain import Chain, moment
from carbon._decision import Decision, Option, Rule
from carbon._permitted import Refusals, permitted
from carbon._policy import Strategy
from carbon._workload import Urgency

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carbon._request import Request

_MOST_ALTERNATIVES: Final = 8

_GIVING_WAY: Final = ((True, True), (False, True), (False, False))
"""Whether the intensity and the cost limit hold, in the order in which they give way."""


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
        self.refusals = Refusals()
        stages = request.workload.stages
        self.permitted = [permitted(request, stage, self.refusals) for stage in stages]
        self.home = request.chain([request.fleet.home_pool(stage) for stage in stages])
        now = np.array([request.earliest.timestamp()])
        self.home_grams = float(self.home.grams(now)[0])
        self.cost_limit = self._cost_limit(float(self.home.cost(now)[0]))

    def decide(self) -> Decision:
        request = self.request
        if request.workload.urgency is Urgency.INTERACTIVE:
            return self._at_once(Rule.INTERACTIVE, "Interactive work is never moved.")
        if request.policy.strategy is Strategy.RUN_NOW:
            return self._at_once(Rule.POLICY, "The policy says to run at once at home.")
        chains = [request.chain(pools) for pools in itertools.product(*self.permitted)]
        sets = [
            found
            for chain in chains
            if (found := evaluate(request, chain, self.cost_limit, self.refusals))
        ]
        if sets:
            return self._choose(sets)
        if all(request.deadline - chain.needed < request.earliest for chain in chains):
            return self._at_once(
                Rule.DEADLINE, "The deadline leaves no slack, so the run starts at once."
            )
        return self._at_once(
            Rule.SIGNAL, "The grid is not known well enough, so the run starts at once."
        )

    def _cost_limit(self, home_usd: float) -> float:
        policy = self.request.policy
        limits = [policy.max_cost_usd] if policy.max_cost_usd else []
        if policy.strategy is Strategy.CLEANEST:
            limits.append(home_usd * (1 + policy.cost_tolerance_percent / 100))
        return min(limits, default=np.inf) * (1 + SAME)

    def _choose(self, sets: list[Candidates]) -> Decision:
        for clean, cheap in _GIVING_WAY:
            # Once the intensity target has given way, the least intensity is what is left of it.
            by_cost = clean and self.request.policy.strategy is Strategy.CHEAPEST
            found = []
            for index, one in enumerate(sets):
                mask = one.free & (one.clean | (not clean)) & (one.cheap | (not cheap))
                if best := one.least(mask, by_cost=by_cost):
                    found.append((*best, index))
            if found:
                least, start, index = min(found)
                return self._chosen(sets, index, start, least, by_cost=by_cost)
        return self._at_once(
            Rule.CAPACITY,
            "No pool has a free slot before the latest safe start, so the run queues now.",
        )

    def _chosen(
        self, sets: list[Candidates], index: int, start: float, least: float, *, by_cost: bool
    ) -> Decision:
        option = sets[index].chain.option(moment(start), self.request.deadline)
        wanted = self.request.policy.min_saving_percent
        if wanted and self._saving_percent(option) < wanted:
            return self._at_once(
                Rule.SAVING, f"Moving would save less than {wanted:g} % of emissions."
            )
        alternatives = tuple(self._alternatives(sets, index, by_cost=by_cost))
        rule = self._rule(sets, option, least, by_cost=by_cost)
        return self._decision(option, rule, self._reason(rule, option), alternatives)

    def _saving_percent(self, option: Option) -> float:
        """Return the saving against home now; endless where nothing can be compared."""
        if option.g is None or not self.home_grams > 0:
            return np.inf
        return 100 * (1 - option.g / self.home_grams)

    def _alternatives(
        self, sets: list[Candidates], chosen: int, *, by_cost: bool
    ) -> Iterator[Option]:
        """Yield each other set's best option, best first; refuse the pools that have none."""
        ranked = sorted(
            (*best, index)
            for index, one in enumerate(sets)
            if index != chosen
            and (best := one.least(one.free & one.cheap & one.clean, by_cost=by_cost))
        )
        usable = {
            pool
            for index in (chosen, *(row[2] for row in ranked))
            for pool in sets[index].chain.pools
        }
        for one in sets:
            for pool in one.chain.heavy_pools:
                if pool not in usable:
                    ceiling = self.request.policy.max_g_per_kwh
                    self.refusals.add(pool, *one.excluded(self.cost_limit, ceiling))
        for _, start, index in ranked[:_MOST_ALTERNATIVES]:
            yield sets[index].chain.option(moment(start), self.request.deadline)

    def _rule(self, sets: list[Candidates], option: Option, least: float, *, by_cost: bool) -> Rule:
        """Return the limit between the choice and the best placement without limits."""
        for one in sets:
            if rule := one.binding(least, by_cost=by_cost):
                return rule
        last = option.latest_safe_start - option.start < timedelta(seconds=1)
        return Rule.DEADLINE if last and self.request.may_wait else Rule.GRID

    def _reason(self, rule: Rule, option: Option) -> str:
        main = option.main
        there = f"{main.g_per_kwh:.0f} gCO2e/kWh in {main.zone}" if main.g_per_kwh else main.zone
        if self.home_grams > 0:
            there += f"; at home now the whole run would emit {self.home_grams:.3g} gCO2e"
        return {
            Rule.GRID: f"The best start and place within all limits: {there}.",
            Rule.DEADLINE: f"The best start is the latest that is still safe: {there}.",
            Rule.COST: f"The best within the cost limit: {there}. Better ones cost too much.",
            Rule.CAPACITY: f"The best free slot: {there}. Better ones are taken.",
            Rule.INTENSITY: f"The best within the intensity limit: {there}.",
        }[rule]

    def _at_once(self, rule: Rule, reason: str) -> Decision:
        chain = self._last_resort()
        return self._decision(
            chain.option(self.request.earliest, self.request.deadline), rule, reason
        )

    def _last_resort(self) -> Chain:
        """Return home where it is permitted and in time, else the quickest permitted pools."""
        request = self.request
        chains = [request.chain(pools) for pools in itertools.product(*self.permitted)]
        quickest = min(chains, key=lambda chain: chain.needed)
        at_home = next((chain for chain in chains if chain.pools == self.home.pools), None)
        if at_home is None:
            return quickest
        in_time = [
            request.deadline - chain.needed >= request.earliest for chain in (at_home, quickest)
        ]
        moved = request.policy.strategy is not Strategy.RUN_NOW and in_time == [False, True]
        return quickest if moved and request.workload.urgency is Urgency.BATCH else at_home

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
            baseline=self.home.option(request.earliest, request.deadline),
            alternatives=tuple(alternatives),
            refusals=self.refusals.all(),
            rule=rule,
            reason=reason,
            breaches=tuple(self._breaches(option)),
            degraded=request.outlook.degraded,
            provenance=request.outlook.provenance(),
        )

    def _breaches(self, option: Option) -> Iterator[str]:
        request = self.request
        if option.start > option.latest_safe_start:
            late = (option.start - option.latest_safe_start).total_seconds() / 60
            yield (
                f"deadline: starts {late:.0f} min after the latest safe start, so "
                f"{request.deadline:%a %H:%M} UTC may be missed"
            )
        ceiling = request.policy.max_g_per_kwh
        if ceiling and option.g_per_kwh is not None and option.g_per_kwh > ceiling * (1 + 1e-6):
            found = f"{option.g_per_kwh:.0f} gCO2e/kWh expected"
            yield f"intensity: {found}, the maximum is {ceiling:g}"
        if option.usd > self.cost_limit:
            yield f"cost: {option.usd:.2f} USD expected, the limit is {self.cost_limit:.2f} USD"
        chain = request.chain([request.fleet.pool(row.pool) for row in option.placements])
        if not chain.free(np.array([option.start.timestamp()]), request.busy)[0]:
            yield "capacity: no slot is free at that time, so the run queues in its pool"
