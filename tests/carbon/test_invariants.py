"""The invariants of the design on the whole model, against a planner that counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from carbon import BadInput, Decision, Request, ResidencyError, Rule, Strategy, Urgency, plan
from tests.carbon.brute import FIVE, LIMITS, Brute, Placed
from tests.carbon.instances import requests

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = set(LIMITS)
FOUR = ("deadline", "capacity", "cost", "intensity")
WAITED = 0.01
CLOSE = 1e-6


def decide(brute: Brute) -> Decision | None:
    """Return a decision; ``None`` where one is refused, which has to be right."""
    closed = [stage for stage in brute.request.workload.stages if not brute.permitted(stage)]
    if not closed:
        return plan(brute.request)
    only, able = brute.request.policy.only_regions, brute.able(closed[0])
    with pytest.raises((ResidencyError, BadInput)) as caught:
        plan(brute.request)
    if closed[0].heavy and only and not any(pool.region in only for pool in able):
        assert isinstance(caught.value, BadInput)
        assert caught.value.field == "policy.only_regions"
    else:
        assert isinstance(caught.value, ResidencyError)
    return None


def chosen_of(decision: Decision, brute: Brute) -> tuple[Placed, int]:
    """Return the choice as it was counted out, and its start; late ones as well."""
    names = tuple(row.pool for row in decision.chosen.placements)
    (pools,) = (one for one in brute.choices if tuple(pool.name for pool in one) == names)
    start = (decision.chosen.start - brute.zero) / FIVE
    assert start == int(start)
    return brute.place(pools), int(start)


def near(one: float | None, other: float) -> bool:
    """Tell whether two numbers are the same; not known is not a number."""
    if one is None or math.isnan(other):
        return one is None and math.isnan(other)
    return one == pytest.approx(other, rel=1e-7, abs=1e-9)


def residency(brute: Brute, decision: Decision) -> None:
    """Invariant 1: no stage runs where the rules of any of its classes of data forbid it."""
    for row, stage in zip(decision.chosen.placements, brute.request.workload.stages, strict=True):
        assert brute.request.fleet.pool(row.pool) in brute.permitted(stage)
    for option in decision.alternatives:
        for row, stage in zip(option.placements, brute.request.workload.stages, strict=True):
            assert brute.request.fleet.pool(row.pool) in brute.permitted(stage)


def deadline(brute: Brute, decision: Decision) -> None:
    """Invariant 2: where a placement is in time, the run starts no later than its latest start."""
    assert decision.chosen.start >= brute.zero
    in_time = any(brute.needed(pools) <= brute.slack for pools in brute.choices)
    placed, start = chosen_of(decision, brute)
    late = start + placed.needed > brute.slack
    assert late == (decision.chosen.start > decision.chosen.latest_safe_start)
    assert late == any(breach.startswith("deadline") for breach in decision.breaches)
    if brute.request.policy.strategy is not Strategy.RUN_NOW and not interactive(brute.request):
        assert not (late and in_time)
    if late or not brute.request.may_wait:
        assert start == 0
    assert start < len(placed.grams), "a run that is up needs its start-up once more"


def capacity(brute: Brute, decision: Decision) -> None:
    """Invariant 4: a slot is never taken twice, unless no placement in time finds a free one."""
    placed, start = chosen_of(decision, brute)
    free = bool(brute.free(placed.pools, start + 1)[start])
    assert free != any(breach.startswith("capacity") for breach in decision.breaches)
    if not free and moved(brute.request) and decision.rule is not Rule.SIGNAL:
        assert not any(one.keeps(("deadline", "capacity")).any() for one in brute.every)


def interactive(request: Request) -> bool:
    """Tell whether a workload is never moved."""
    return request.workload.urgency is Urgency.INTERACTIVE


def moved(request: Request) -> bool:
    """Tell whether anything is compared at all."""
    return request.policy.strategy is not Strategy.RUN_NOW and not interactive(request)


def amounts(brute: Brute, decision: Decision) -> None:
    """Grams and USD of choice and baseline are what the formulas say."""
    placed, start = chosen_of(decision, brute)
    grams, usd, *_ = brute.amounts(placed.pools, start + 1)
    assert near(decision.chosen.g, float(grams[start]))
    assert near(decision.chosen.usd, float(usd[start]))
    assert near(decision.baseline.g, brute.baseline[0])
    assert near(decision.baseline.usd, brute.baseline[1])


def giving_way(brute: Brute, decision: Decision) -> None:
    """Invariant 7: what gives way has to, in the order that is declared, and is on record."""
    placed, start = chosen_of(decision, brute)
    broken = {breach.partition(":")[0] for breach in decision.breaches}
    grams, usd, embodied, kwh = brute.amounts(placed.pools, start + 1)
    most_usd, most_g_per_kwh, _ = brute.limits
    known_usd = not math.isnan(usd[start])
    dear = usd[start] > most_usd + abs(most_usd) * CLOSE if known_usd else most_usd < math.inf
    dirty = (grams[start] - embodied) / kwh > most_g_per_kwh * (1 + CLOSE)
    assert ("cost" in broken) == bool(dear)
    assert ("intensity" in broken) == bool(dirty)
    assert broken <= {"deadline", "capacity", "cost", "intensity"}
    if not moved(brute.request):
        assert start == 0
        return
    if math.isnan(brute.baseline[0]) or not any(one.keeps(()).any() for one in brute.every):
        assert (start, decision.rule in {Rule.SIGNAL, Rule.DEADLINE}) == (0, True)
        return
    best_of(brute, decision, (placed, start))


def exact(request: Request) -> bool:
    """Tell whether no limit can bind between two corners of what is compared."""
    pools, policy = request.fleet.pools, request.policy
    still = not any(pool.billed_energy or pool.usd_per_kwh is not None for pool in pools)
    return (
        still
        and policy.strategy is Strategy.CLEANEST
        and not policy.freshness_g_per_hour
        and not policy.freshness_usd_per_hour
    )


def best_of(brute: Brute, decision: Decision, chosen: tuple[Placed, int]) -> None:
    """Tell whether the choice is the best of the most limits that can be kept."""
    corners = not exact(brute.request)
    cheapest = brute.request.policy.strategy is Strategy.CHEAPEST
    steps: list[tuple[Sequence[str], bool]] = [
        (LIMITS, cheapest),
        (FOUR, cheapest),
        (("deadline", "capacity", "cost"), False),
        (("deadline", "capacity"), True),
    ]
    at_home = brute.place(brute.home) if brute.home in brute.choices else None
    home_will_do = at_home is not None and bool(at_home.keeps(FOUR)[0])
    for place, (limits, by_cost) in enumerate(steps):
        least = brute.least(limits, by_cost=by_cost, corners=corners)
        if decision.rule is Rule.SAVING:
            assert home_will_do
            assert least == math.inf, "what saves enough was not taken"
            assert chosen[1] == 0
            assert chosen[0].pools == brute.home
            return
        placed, start = chosen
        keeps = bool(placed.keeps(limits)[start]) if start < len(placed.grams) else False
        if least < math.inf:
            assert keeps, f"{limits} can be kept, {decision.breaches} gave way"
        if place == 0 and not keeps:
            assert not home_will_do, "home keeps all limits and was not taken"
        if keeps:
            value = float(brute.value(placed, by_cost=by_cost)[start])
            true = brute.least(limits, by_cost=by_cost, corners=False)
            assert value >= true - abs(true) * CLOSE - 1e-12
            assert value <= least + abs(least) * (WAITED + CLOSE) + 1e-12
            if value > least + abs(least) * CLOSE + 1e-9:
                assert start <= (brute.soonest(limits) or 0) or corners
            return
    assert decision.rule is Rule.CAPACITY
    assert chosen[1] == 0


INVARIANTS = (residency, deadline, capacity, amounts, giving_way)


def check(request: Request) -> None:
    """Check all of them on one request."""
    brute = Brute(request)
    decision = decide(brute)
    if decision is not None:
        for invariant in INVARIANTS:
            invariant(brute, decision)


WHATEVER = (HealthCheck.too_slow, HealthCheck.data_too_large)


@given(request=requests())
@settings(max_examples=200, deadline=None, suppress_health_check=WHATEVER)
def test_the_invariants_hold_on_the_whole_model(request: Request) -> None:
    """Residency, deadline, capacity, the amounts, and the order of giving way."""
    check(request)


@pytest.mark.slow
@given(request=requests())
@settings(max_examples=2500, deadline=None, suppress_health_check=WHATEVER)
def test_the_invariants_hold_always(request: Request) -> None:
    """The same, often."""
    check(request)
