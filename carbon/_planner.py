"""The planner: chooses start and pools for a chain of stages, and can say why.

Use :func:`plan`. It never waits, never asks a provider and never reads a clock: everything it
needs is in the :class:`Request`, so a decision can be made again from its inputs.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._candidates import LIMITS, Candidates, Limits, Step, giving_way
from carbon._decision import Decision, Option, Relaxation, Rule, amount, money
from carbon._evaluation import evaluate, pausing, wider
from carbon._permitted import Refusals, permitted, sets
from carbon._policy import Strategy
from carbon._relaxation import relaxations
from carbon._workload import Urgency

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from carbon._chain import Chain
    from carbon._request import Request

_MOST_ALTERNATIVES: Final = 5


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
        allowed = [permitted(request, stage, self.refusals) for stage in stages]
        self.home = request.chain([request.fleet.home_pool(stage) for stage in stages])
        self.chains = [
            self.home
            if tuple(pool.name for pool in pools) == self.home.names
            # Once is enough: to lay out a chain is a good part of a decision.
            else request.chain(pools)
            for pools in sets(request, allowed, self.refusals)
        ]
        given = request.baseline
        if given is None or not {given.family, request.family} <= {"", given.family}:
            # Judged by a signal that is unlike today's, it would be compared with nothing.
            given = self.home.option(request.earliest, request.deadline)
        self.baseline = given
        self.limits = self._limits()

    def decide(self) -> Decision:
        request = self.request
        if request.workload.urgency is Urgency.INTERACTIVE:
            at_home = self._last_resort() is self.home
            elsewhere = "Interactive work starts at once; the policy leaves home out."
            return self._at_once(
                Rule.INTERACTIVE, "Interactive work is never moved." if at_home else elsewhere
            )
        if request.policy.strategy is Strategy.RUN_NOW:
            at_home = self._last_resort() is self.home
            where = "at home" if at_home else "and leaves home out"
            return self._at_once(Rule.POLICY, f"The policy says to run at once {where}.")
        if self.baseline.g is None:
            return self._at_once(
                Rule.SIGNAL,
                "What the run would emit at once at home is not known, so it starts at once.",
            )
        table = evaluate(request, self.chains, self.limits, self.refusals)
        if table is not None:
            return self._choose(table)
        if all(request.deadline - chain.needed < request.earliest for chain in self.chains):
            return self._at_once(
                Rule.DEADLINE, "The deadline leaves no slack, so the run starts at once."
            )
        return self._at_once(
            Rule.SIGNAL, "The grid is not known well enough, so the run starts at once."
        )

    def _limits(self) -> Limits:
        policy, home = self.request.policy, self.baseline
        # Without a price at home it is what is known of the cost there.
        at_home = self.home.flat_usd if home.usd is None else home.usd
        saving = policy.min_saving_percent or 0.0
        return Limits(
            usd=policy.cost_limit(at_home),
            g_per_kwh=policy.max_g_per_kwh or np.inf,
            g=home.g * (1 - saving / 100) if saving and home.g is not None else np.inf,
        )

    def _choose(self, table: Candidates) -> Decision:
        first, *others = giving_way(self.request.policy)
        if (entry := table.best_or_soonest(first)) is not None:
            return self._chosen(table, entry, first)
        if self._home_will_do(table):
            wanted = self.request.policy.min_saving_percent or 0
            why = f"No placement within all limits saves {wanted:g} % of emissions."
            return self._at_once(Rule.SAVING, why, table, others[0])
        for step in others:
            if Rule.COST not in step.rules and self.baseline.usd is None:
                why = "What the run costs at home is not known, and all else costs more than that."
                return self._at_once(Rule.COST, why, table, step)
            if (entry := table.best_or_soonest(step)) is not None:
                return self._chosen(table, entry, step)
        return self._at_once(
            Rule.CAPACITY,
            "No pool has a free slot before the latest safe start, so the run queues now.",
            table,
            Step((Rule.DEADLINE,), others[0].by_cost, waiting=False),
        )

    def _home_will_do(self, table: Candidates) -> bool:
        """Tell whether going at once at home keeps every limit but the wish to save."""
        now = table.mask(LIMITS[:4]) & (table.starts == self.request.earliest.timestamp())
        entries = np.flatnonzero(now).tolist()
        chains = [table.chain(entry) for entry in entries]
        return any(chain is self.home for chain in chains)

    def _chosen(self, table: Candidates, entry: int, step: Step) -> Decision:
        least = float(table.values(by_cost=step.by_cost, waiting=step.waiting)[entry])
        chain = table.chain(entry)
        option = chain.option(table.start(entry), self.request.deadline)
        breaches = tuple(self._breaches(chain, option))
        rule = self._rule(table, option, least, by_cost=step.by_cost)
        return self._decision(
            option,
            rule,
            self._gave_way(option, breaches) or self._reason(rule, option),
            breaches,
            alternatives=tuple(self._alternatives(table, step, chain)),
            worth=() if breaches else self._relaxations(table, least, step),
        )

    def _relaxations(self, table: Candidates, least: float, step: Step) -> tuple[Relaxation, ...]:
        more: Mapping[Rule, Candidates] = {}
        if pausing(self.request):
            more = wider(self.request, table, self.limits, step, least)
        return relaxations(table, self.limits, least, more, by_cost=step.by_cost)

    def _alternatives(
        self, table: Candidates, step: Step, own: Chain | None = None
    ) -> Iterator[Option]:
        """Yield each other set's best option, best first; refuse the pools that have none.

        Args:
            table: All placements.
            step: The limits that they keep, and what is kept low.
            own: The chain that was chosen, if any of them was.
        """
        rules = LIMITS if own else step.rules
        seen = {(own.names, own.paused > 0)} if own else set()
        ranked: list[tuple[int, int]] = []
        for place, entry in table.best_by_chain(table.mask(rules), by_cost=step.by_cost):
            chain = table.chains[place]
            key = (chain.names, chain.paused > 0)
            if key not in seen:
                seen.add(key)
                ranked.append((place, entry))
        usable = {name for names, _ in seen for name in names}
        for place, chain in enumerate(table.chains):
            for pool in chain.heavy_pools:
                if pool.name not in usable and table.in_time(place):
                    self.refusals.add(pool, *table.excluded(place, self.limits))
        shown = ranked[:_MOST_ALTERNATIVES]
        told = {name for place, _ in shown for name in table.chains[place].names}
        told.update(own.names if own else ())
        for place, entry in ranked[_MOST_ALTERNATIVES:]:
            for pool in table.chains[place].heavy_pools:
                if pool.name not in told:
                    at_best = (
                        money(table.usd[entry]) if step.by_cost else amount(table.grams[entry])
                    )
                    better = f"at best {at_best}: {_MOST_ALTERNATIVES} or more others are better"
                    self.refusals.add(pool, Rule.GRID, better)
        for place, entry in shown:
            yield table.chains[place].option(table.start(entry), self.request.deadline)

    def _rule(self, table: Candidates, option: Option, least: float, *, by_cost: bool) -> Rule:
        """Return the limit between the choice and the best placement without limits."""
        if rule := table.binding(least, by_cost=by_cost):
            return rule
        # Who is up and lets go has to start up again.
        again = self.request.home.startup if self.request.running else timedelta(0)
        last = option.latest_safe_start - again - option.start < timedelta(seconds=1)
        return Rule.DEADLINE if last and self.request.may_wait else Rule.GRID

    @staticmethod
    def _gave_way(option: Option, breaches: Sequence[str]) -> str:
        """Say what the choice is when no placement keeps the limits; empty when it keeps them."""
        broken = {breach.partition(":")[0] for breach in breaches}
        where = f"{option.main.region}"
        if "cost" in broken:
            return f"No placement keeps the cost limit, so the cheapest is taken: {where}."
        if "intensity" in broken:
            return (
                "No placement keeps the intensity limit and all others, so the cleanest of those "
                f"that keep the others is taken: {where}."
            )
        return ""

    def _reason(self, rule: Rule, option: Option) -> str:
        main = option.main
        there = f"{main.g_per_kwh:.0f} gCO2e/kWh in {main.zone}" if main.g_per_kwh else main.zone
        if self.baseline.g:
            there += f"; at once at home the run would emit {amount(self.baseline.g)}"
        best = "The best start and place within all limits"
        if self.request.workload.urgency is Urgency.URGENT:
            best = "Urgent work starts at once, in the best place within all limits"
        return {
            Rule.GRID: f"{best}: {there}.",
            Rule.DEADLINE: f"The best start is the latest that is still safe: {there}.",
            Rule.COST: f"The best within the cost limit: {there}. Better ones cost too much.",
            Rule.CAPACITY: f"The best free slot: {there}. Better ones are taken.",
            Rule.INTENSITY: f"The best within the intensity limit: {there}.",
        }[rule]

    def _at_once(
        self, rule: Rule, reason: str, table: Candidates | None = None, step: Step | None = None
    ) -> Decision:
        chain = self._last_resort()
        option = chain.option(self.request.earliest, self.request.deadline)
        others = tuple(self._alternatives(table, step)) if table and step else ()
        breaches = tuple(self._breaches(chain, option))
        return self._decision(option, rule, reason, breaches, alternatives=others)

    def _last_resort(self) -> Chain:
        """Return home where it is permitted and in time, else the quickest permitted pools."""
        request = self.request
        quickest = min(self.chains, key=lambda chain: chain.needed)
        if not any(chain is self.home for chain in self.chains):
            return quickest
        in_time = [
            request.deadline - chain.needed >= request.earliest for chain in (self.home, quickest)
        ]
        stays = (
            request.policy.strategy is Strategy.RUN_NOW
            or request.workload.urgency is Urgency.INTERACTIVE
        )
        return self.home if stays or in_time != [False, True] else quickest

    def _decision(
        self,
        option: Option,
        rule: Rule,
        reason: str,
        breaches: tuple[str, ...],
        *,
        alternatives: tuple[Option, ...] = (),
        worth: tuple[Relaxation, ...] = (),
    ) -> Decision:
        request = self.request
        return Decision(
            workload=request.workload.name,
            policy=request.policy.describe(),
            decided_at=request.now,
            deadline=request.deadline,
            chosen=option,
            baseline=self.baseline,
            alternatives=alternatives,
            refusals=self.refusals.all(),
            rule=rule,
            reason=reason,
            relaxations=worth,
            breaches=breaches,
            degraded=request.outlook.degraded,
            provenance=request.outlook.provenance,
        )

    def _breaches(self, chain: Chain, option: Option) -> Iterator[str]:
        request = self.request
        if option.start > option.latest_safe_start:
            missed = "will be missed" if option.end > request.deadline else "may be missed"
            late = (option.start - option.latest_safe_start).total_seconds() / 60
            yield (
                f"deadline: starts {late:.0f} min after the latest safe start, so "
                f"{request.deadline:%a %d %b %H:%M} UTC {missed}"
            )
        ceiling = request.policy.max_g_per_kwh
        if ceiling and option.g_per_kwh is not None and option.g_per_kwh > ceiling * (1 + 1e-6):
            found = f"{option.g_per_kwh:.0f} gCO2e/kWh expected (whole run)"
            yield f"intensity: {found}, the maximum is {ceiling:g}"
        limit = self.limits.usd
        if option.usd is not None and option.usd > limit + abs(limit) * 1e-6:
            yield f"cost: {money(option.usd)} expected, the limit is {money(limit)}"
        if option.usd is None and limit < np.inf:
            yield f"cost: not known for lack of a price, the limit is {money(limit)}"
        start = option.start.timestamp()
        if not chain.free(np.array([start]))[0]:
            names = chain.blackouts(start, start)
            sale = f" (blackout: {', '.join(names)})" if names else ""
            yield f"capacity: no slot is free at that time, so the run queues in its pool{sale}"
