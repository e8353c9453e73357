"""The planner: chooses start and pools for a chain of stages, and can say why.

Use :func:`plan`. It never waits, never asks a provider and never reads a clock: everything it
needs is in the :class:`Request`, so a decision can be made again from its inputs.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._candidates import LIMITS, Candidates, Limits, Step, giving_way, tabulate
from carbon._chain import Starts
from carbon._decision import Decision, Option, Relaxation, Rule, amount, money, span
from carbon._evaluation import evaluate, pausing, placed_at, wider
from carbon._permitted import Refusals, permitted, sets
from carbon._policy import Strategy
from carbon._reason import gave_way, reason
from carbon._relaxation import relaxations
from carbon._workload import Urgency

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from carbon._chain import Chain
    from carbon._request import Request

_MOST_ALTERNATIVES: Final = 5
_YES: Final = np.ones(1, np.bool_)


def plan(request: Request) -> Decision:
    """Choose when and where a workload runs.

    Limits that cannot all hold give way in this order: intensity target, cost cap, then the run
    starts at once at home. Residency never gives way.

    Raises:
        ResidencyError: No permitted pool can run a stage.
        BadInput: The workload does not fit the fleet at all.
    """
    return Planning(request).decide()


def explain(request: Request, option: Option) -> Decision:
    """Return the decision for a placement that a plan for many requests has chosen.

    Args:
        request: Whose placement it is; ``busy`` holds the slots of all others.
        option: The placement.
    """
    return Planning(request).explain(option)


class Planning:
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
            why = "What the run would emit at once at home is not known, so it starts at once"
            return self._at_once(Rule.SIGNAL, f"{why}: {self._unknown_at_home()}.")
        table = evaluate(request, self.chains, self.limits, self.refusals)
        if table is not None:
            return self._choose(table)
        if all(request.deadline - chain.needed < request.earliest for chain in self.chains):
            least = span(min(chain.needed for chain in self.chains))
            return self._at_once(
                Rule.DEADLINE,
                "The deadline leaves no slack, so the run starts at once: with start-ups and one "
                f"retry it needs {least}.",
            )
        unknown = [one.reason for one in self.refusals.all() if one.rule is Rule.SIGNAL]
        why = f": {unknown[0]}" if unknown else ""
        return self._at_once(
            Rule.SIGNAL, f"Too little is known of the grid, so the run starts at once{why}."
        )

    def _unknown_at_home(self) -> str:
        """Say what is not known of home."""
        request = self.request
        for window in self.home.windows:
            series = request.outlook.intensity.get(window.zone)
            if series is None:
                return request.outlook.missing.get(window.zone) or (
                    f"the outlook has no intensity of zone {window.zone}"
                )
            end = request.earliest + timedelta(seconds=window.end)
            if series.known_until < end:
                return (
                    f"the outlook for {window.zone} ends at {series.known_until:%a %d %b %H:%M} "
                    f"UTC, and the run at {end:%a %d %b %H:%M} UTC"
                )
        return "the outlook has gaps in that time"

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
        # Where only the calendar stands in the way, nothing keeps the run from starting.
        begin = self.request.earliest.timestamp()
        names = dict.fromkeys(
            name
            for chain in self.chains
            for name in chain.blackouts(begin, (self.request.deadline - chain.needed).timestamp())
        )
        why = "No pool has a free slot before the latest safe start, so the run queues now."
        if names:
            why = (
                f"Until the latest safe start no slot is free outside the blackout "
                f"{' and '.join(names)}. The deadline counts for more, so the run starts now."
            )
        return self._at_once(Rule.CAPACITY, why, table, Step(LIMITS[:2], False, waiting=False))

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
        return self._explained(table, step, chain, option, least)

    def _explained(
        self, table: Candidates, step: Step, chain: Chain, option: Option, least: float
    ) -> Decision:
        """Return the decision for a choice, and what it is worth."""
        breaches = tuple(self.breaches(chain, option))
        better = table.better(least, by_cost=step.by_cost)
        rule = self._rule(table, option, better)
        sales = () if better is None else table.blackouts(better)
        return self._decision(
            option,
            rule,
            gave_way(option, breaches) or reason(self.request, self.baseline, rule, option, sales),
            breaches,
            alternatives=(
                *self._without_wait(table, chain, option),
                *self._alternatives(table, step, chain),
            ),
            worth=() if breaches else self._relaxations(table, option, least, step),
        )

    def explain(self, option: Option) -> Decision:
        """Say why a placement is what it is, when it was chosen elsewhere."""
        names = tuple(placement.pool for placement in option.placements)
        chain = next((one for one in self.chains if one.names == names), self.home)
        paused = any(placement.segments for placement in option.placements)
        table = evaluate(self.request, self.chains, self.limits, self.refusals)
        first = giving_way(self.request.policy)[0]
        if table is None or option.g is None:
            why = "It starts where a plan for many runs has put it."
            return self._decision(option, Rule.CAPACITY, why, tuple(self.breaches(chain, option)))
        at = Starts(self.request, np.array([option.start.timestamp()]))
        least = option.usd if first.by_cost else option.g
        if not paused:
            one = placed_at(at, chain, _YES)
            values = tabulate(self.request, [one], self.limits)
            least = float(values.values(by_cost=first.by_cost, waiting=first.waiting)[0])
        worth = option.g if least is None else least
        return self._explained(table, first, chain, option, worth)

    def _relaxations(
        self, table: Candidates, option: Option, least: float, step: Step
    ) -> tuple[Relaxation, ...]:
        more: Mapping[Rule, Candidates] = {}
        if pausing(self.request):
            more = wider(self.request, table, self.limits, step, least)
        emitted = option.usd if step.by_cost else option.g
        return relaxations(
            table,
            self.limits,
            least,
            least if emitted is None else emitted,
            more,
            by_cost=step.by_cost,
        )

    def _without_wait(self, table: Candidates, chain: Chain, option: Option) -> Iterator[Option]:
        """Yield what the choice would be without its wait: it tells what the wait is worth."""
        soonest = table.soonest(chain, LIMITS)
        if soonest is not None and table.start(soonest) < option.start:
            yield chain.option(table.start(soonest), self.request.deadline)

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

    def _rule(self, table: Candidates, option: Option, better: int | None) -> Rule:
        """Return the limit between the choice and the best placement without limits."""
        if better is not None and (rule := table.binding(better)):
            return rule
        # Who is up and lets go has to start up again.
        again = self.request.home.startup if self.request.running else timedelta(0)
        last = option.latest_safe_start - again - option.start < timedelta(seconds=1)
        return Rule.DEADLINE if last and self.request.may_wait else Rule.GRID

    def _at_once(
        self, rule: Rule, reason: str, table: Candidates | None = None, step: Step | None = None
    ) -> Decision:
        chain = self._last_resort()
        option = chain.option(self.request.earliest, self.request.deadline)
        others = tuple(self._alternatives(table, step)) if table and step else ()
        breaches = tuple(self.breaches(chain, option))
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

    def breaches(self, chain: Chain, option: Option) -> Iterator[str]:
        """Say what does not hold for an option."""
        request = self.request
        if option.start > option.latest_safe_start:
            missed = "will be missed" if option.end > request.deadline else "may be missed"
            late = span(option.start - option.latest_safe_start)
            yield (
                f"deadline: starts {late} after the latest safe start, so "
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
            yield (
                f"capacity: it runs in the blackout {' and '.join(names)}, for lack of other time"
                if names
                else "capacity: no slot is free at that time, so the run queues in its pool"
            )
