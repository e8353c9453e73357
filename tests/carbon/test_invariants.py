"""The invariants of the design on the whole model, against a planner that counts."""

from __future__ import annotations

import math
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from carbon import (
    BadInput,
    CarbonPolicy,
    Decision,
    Fleet,
    IntensitySeries,
    Kind,
    Need,
    Outlook,
    PriceSeries,
    Request,
    Reservation,
    ResidencyError,
    Rule,
    Signal,
    Strategy,
    Urgency,
    Workload,
    plan,
)
from carbon._series import regular
from tests.carbon.brute import FIVE, LIMITS, Brute, Placed, clock_reaches
from tests.carbon.instances import ZONES, hour_of_day, moments, requests

if TYPE_CHECKING:
    from collections.abc import Sequence

JUNE = datetime(2026, 6, 10, tzinfo=UTC)
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


def chosen_of(brute: Brute, decision: Decision) -> Placed:
    """Return the choice as it is counted out, alone."""
    names = tuple(row.pool for row in decision.chosen.placements)
    (pools,) = (one for one in brute.choices if tuple(pool.name for pool in one) == names)
    return brute.place_at(pools, (decision.chosen.start - brute.zero) / FIVE)


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
    placed = chosen_of(brute, decision)
    start, late = float(placed.starts[0]), not placed.kept["deadline"][0]
    assert 0 <= start <= brute.last(placed.pools)
    assert late == (decision.chosen.start > decision.chosen.latest_safe_start)
    assert late == any(breach.startswith("deadline") for breach in decision.breaches)
    if late:
        assert start == 0
    if late and moved(brute.request):
        assert all(brute.needed(pools) > brute.slack for pools in brute.choices)


def capacity(brute: Brute, decision: Decision) -> None:
    """Invariant 4: a slot is never taken twice, unless no placement in time finds a free one."""
    free = bool(chosen_of(brute, decision).kept["capacity"][0])
    assert free != any(breach.startswith("capacity") for breach in decision.breaches)
    at_once = decision.rule is Rule.SIGNAL or (decision.rule is Rule.COST and brute.home_unpriced)
    if not free and moved(brute.request) and not at_once:
        assert not any(one.keeps(("deadline", "capacity")).any() for one in brute.every)


def interactive(request: Request) -> bool:
    """Tell whether a workload is never moved."""
    return request.workload.urgency is Urgency.INTERACTIVE


def moved(request: Request) -> bool:
    """Tell whether anything is compared at all."""
    return request.policy.strategy is not Strategy.RUN_NOW and not interactive(request)


def amounts(brute: Brute, decision: Decision) -> None:
    """Grams and USD of choice and baseline are what the formulas say."""
    placed = chosen_of(brute, decision)
    assert near(decision.chosen.g, float(placed.grams[0]))
    assert near(decision.chosen.usd, float(placed.usd[0]))
    assert near(decision.baseline.g, brute.baseline[0])
    assert near(decision.baseline.usd, brute.baseline[1])


def giving_way(brute: Brute, decision: Decision) -> None:
    """Invariant 7: what gives way has to, in the order that is declared, and is on record."""
    placed = chosen_of(brute, decision)
    broken = {breach.partition(":")[0] for breach in decision.breaches}
    most_usd, most_g_per_kwh, _ = brute.limits
    usd, g_per_kwh = float(placed.usd[0]), float(placed.g_per_kwh[0])
    unknown = math.isnan(usd) and most_usd < math.inf
    assert ("cost" in broken) == (unknown or usd > most_usd + abs(most_usd) * CLOSE)
    assert ("intensity" in broken) == (g_per_kwh > most_g_per_kwh * (1 + CLOSE))
    assert broken <= {"deadline", "capacity", "cost", "intensity"}
    if not moved(brute.request):
        assert placed.starts[0] == 0
    elif math.isnan(brute.baseline[0]) or not any(one.keeps(()).any() for one in brute.every):
        assert placed.starts[0] == 0
        assert decision.rule in {Rule.SIGNAL, Rule.DEADLINE}
    else:
        best(brute, decision, placed)


def best(brute: Brute, decision: Decision, placed: Placed) -> None:
    """Tell whether the choice is the best of the most limits that can be kept."""
    cheapest = brute.request.policy.strategy is Strategy.CHEAPEST
    steps: list[tuple[Sequence[str], bool]] = [
        (LIMITS, cheapest),
        (FOUR, cheapest),
        (("deadline", "capacity", "cost"), False),
        (("deadline", "capacity"), True),
    ]
    at_home = brute.home in brute.choices
    home_will_do = at_home and bool(brute.place_at(brute.home, 0).keeps(FOUR)[0])
    for limits, by_cost in steps:
        # Once a limit is broken, it is broken no further for an earlier start.
        waiting = limits in {LIMITS, FOUR}
        least = brute.least(limits, by_cost=by_cost, waiting=waiting)
        if "cost" not in limits and decision.rule is Rule.COST and brute.home_unpriced:
            assert placed.starts[0] == 0
            return
        if decision.rule is Rule.SAVING:
            assert home_will_do
            assert least == math.inf, "what saves enough was not taken"
            assert (placed.pools, placed.starts[0]) == (brute.home, 0)
            return
        if placed.keeps(limits)[0]:
            value = float(brute.value(placed, by_cost=by_cost, waiting=waiting)[0])
            assert value <= least + abs(least) * (WAITED + CLOSE) + 1e-12
            if value > least + abs(least) * CLOSE + 1e-9:
                assert placed.starts[0] <= (brute.soonest(limits) or 0), "neither best nor soonest"
            return
        assert least == math.inf, f"{limits} can be kept, {decision.breaches} gave way"
        assert limits is not LIMITS or not home_will_do, "home keeps all limits and was not taken"
    assert decision.rule is Rule.CAPACITY
    assert placed.starts[0] == 0


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
@pytest.mark.long
@pytest.mark.timeout(1200)
@given(request=requests())
@settings(max_examples=2500, deadline=None, suppress_health_check=WHATEVER)
def test_the_invariants_hold_always(request: Request) -> None:
    """The same, often."""
    check(request)


# -- limits that bind between two edges ------------------------------------------------------------


def crossing(policy: CarbonPolicy, *, price: list[float], grid: list[float]) -> Request:
    """Return a run of an hour at home that pays the market's price, on two hourly series."""
    row = {
        "region": "aws:eu-central-1",
        "capacity": 1,
        "watts": 1000.0,
        "usd_per_hour": 0.0,
        "startup": 0 * FIVE,
        "billed_energy": True,
    }
    fleet = Fleet.model_validate(
        {
            "home": "aws:eu-central-1",
            "residency": {"public": ["*"]},
            "pools": [{**row, "name": kind, "hardware": kind} for kind in ("cpu", "gpu")],
        }
    )
    need = {"p50": 12 * FIVE, "p95": 12 * FIVE}
    stages = [{"name": "train", "heavy": True, "needs": {"gpu": need}}]
    starts, end = regular(JUNE, 12 * FIVE, len(grid))
    made = {"kind": Kind.FORECAST}
    return Request(
        workload=Workload.model_validate({"name": "job", "stages": stages, "data_class": "public"}),
        policy=policy,
        fleet=fleet,
        outlook=Outlook(
            JUNE,
            end,
            {"DE": IntensitySeries("DE", starts, end, grid, "drawn", **made)},
            {"DE": PriceSeries("DE", starts, end, price, "drawn", currency="USD", **made)},
            {},
        ),
        now=JUNE,
        deadline=end,
    )


BETWEEN = {
    "both limits": (
        # From 3:00 on it is cheap and dirty: half past two is the only start that keeps both.
        CarbonPolicy(max_cost_usd=0.1, max_g_per_kwh=420, cost_tolerance_percent=1000),
        [100.0] * 3 + [10.0] * 5,
        [100.0] * 3 + [600.0] * 5,
    ),
    "cleanest within the cost": (
        CarbonPolicy(max_cost_usd=0.06, cost_tolerance_percent=1000),
        [100.0] * 3 + [10.0] * 5,
        [100.0] * 3 + [600.0] * 5,
    ),
    "cheapest below the ceiling": (
        CarbonPolicy(strategy=Strategy.CHEAPEST, max_g_per_kwh=350),
        [100.0] * 3 + [10.0] * 5,
        [100.0] * 3 + [600.0] * 5,
    ),
    "freshness below the ceiling": (
        CarbonPolicy(max_g_per_kwh=300, freshness_g_per_hour=1000),
        [10.0] * 8,
        [500.0] * 3 + [100.0] * 5,
    ),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_limits_that_bind_between_two_edges(name: str) -> None:
    """A start between two edges that keeps all limits is found, and it is the best of them."""
    policy, price, grid = BETWEEN[name]
    brute = Brute(crossing(policy, price=price, grid=grid))
    by_cost = policy.strategy is Strategy.CHEAPEST
    least = brute.least(LIMITS, by_cost=by_cost)
    assert least < math.inf
    decision = plan(brute.request)
    assert not decision.breaches
    waited = (decision.chosen.start - brute.zero) / (12 * FIVE)
    worth = policy.freshness_usd_per_hour if by_cost else policy.freshness_g_per_hour
    value = decision.chosen.usd if by_cost else decision.chosen.g
    assert value + waited * worth <= least * (1 + WAITED)


# -- what a decision says, and what it compares ----------------------------------------------------


def small(**changes: object) -> Request:
    """Return a run of an hour at home or in Oregon, on flat grids, with changes."""
    pool = {"capacity": 1, "watts": 1000.0, "usd_per_hour": 1.0, "startup": 0 * FIVE}
    pools = [
        {**pool, "name": "home-cpu", "region": "aws:eu-central-1", "hardware": "cpu"},
        {**pool, "name": "home-gpu", "region": "aws:eu-central-1", "hardware": "gpu"},
        {**pool, "name": "west-gpu", "region": "aws:us-west-2", "hardware": "gpu"},
    ]
    need = {"p50": 12 * FIVE, "p95": 12 * FIVE}
    stages = [{"name": "train", "heavy": True, "needs": {"gpu": need}}]
    given = {
        "workload": Workload.model_validate(
            {"name": "job", "stages": stages, "data_class": "public"}
        ),
        "policy": CarbonPolicy(),
        "fleet": Fleet.model_validate(
            {"home": "aws:eu-central-1", "residency": {"public": ["*"]}, "pools": pools}
        ),
        "outlook": flat(Signal.AVERAGE, 400.0, 100.0),
        "now": JUNE,
        "deadline": JUNE + 120 * FIVE,
    }
    return Request(**{**given, **changes})  # type: ignore[arg-type]  # a test's shorthand


def flat(signal: Signal, home: float, west: float) -> Outlook:
    """Return an outlook on which nothing changes for a day."""
    end = JUNE + 288 * FIVE
    series = {
        zone: IntensitySeries(zone, [JUNE], end, [level], "x", kind=Kind.FORECAST, signal=signal)
        for zone, level in (("DE", home), ("US-NW-PACW", west))
    }
    return Outlook(JUNE, end, series, {}, {})


def test_a_baseline_of_another_signal_is_not_compared() -> None:
    """A run that was released on average numbers and wakes on marginal ones (invariant 6)."""
    released = plan(small())
    marginal = flat(Signal.MARGINAL, 800.0, 700.0)
    woken = plan(small(outlook=marginal, baseline=released.baseline, running=True))
    assert woken.baseline.g == plan(small(outlook=marginal, running=True)).baseline.g


def test_a_full_pool_is_not_put_down_to_a_later_sale() -> None:
    """The slots are held by others, and the sale is tomorrow."""
    plain = small().fleet.model_dump()
    sale = {"name": "sale", "start": JUNE + 300 * FIVE, "end": JUNE + 320 * FIVE}
    busy = [
        Reservation(pool=pool["name"], start=JUNE, end=JUNE + 24 * FIVE) for pool in plain["pools"]
    ]
    fleet = Fleet.model_validate({**plain, "blackouts": [sale]})
    decision = plan(small(fleet=fleet, busy=tuple(busy), may_wait=False))
    assert "capacity" in decision.breaches[0]
    assert "sale" not in decision.breaches[0]


def test_what_is_moved_is_not_told_as_never_moved() -> None:
    """An interactive run whose policy leaves home out goes elsewhere, and that is said."""
    plain = small().workload.model_dump()
    search = Workload.model_validate({**plain, "urgency": "interactive"})
    decision = plan(small(workload=search, policy=CarbonPolicy(only_regions=("aws:us-west-2",))))
    assert decision.chosen.main.region == "aws:us-west-2"
    assert "never moved" not in decision.reason


def test_a_blackout_does_not_hold_up_light_work() -> None:
    """As its documentation has it: no heavy stage runs then."""
    need = {"p50": FIVE, "p95": FIVE}
    light = [{"name": "prepare", "needs": {"cpu": need}}]
    plain = small().fleet.model_dump()
    sale = {"name": "sale", "start": JUNE, "end": JUNE + 400 * FIVE}
    job = Workload.model_validate({"name": "job", "stages": light, "data_class": "public"})
    fleet = Fleet.model_validate({**plain, "blackouts": [sale]})
    assert not plan(small(fleet=fleet, workload=job)).breaches


def test_a_run_time_of_ages_is_refused() -> None:
    """Where it stands, not when a deadline is reckoned with it."""
    ages = timedelta(days=999_999)
    with pytest.raises((BadInput, ValidationError)):
        Need(p50=ages, p95=ages)


# -- deadlines by the clock ------------------------------------------------------------------------


@given(
    release=moments,
    at=st.one_of(hour_of_day, st.sampled_from(["02:30", "02:00", "03:00", "01:30"])),
    zone=st.sampled_from(ZONES),
)
@settings(max_examples=200, deadline=None)
def test_a_wall_clock_deadline_is_the_first_there_is(release: datetime, at: str, zone: str) -> None:
    """Counted in steps of five minutes; on a day that skips it, it is when the clock jumps."""
    clock, moment = ZoneInfo(zone), release + FIVE
    end = CarbonPolicy(finish_by=f"{at} {zone}").deadline(release)
    while moment < end:
        assert f"{moment.astimezone(clock):%H:%M}" != at, "it came before"
        moment += FIVE
    if f"{end.astimezone(clock):%H:%M}" == at:
        return
    day = end.astimezone(clock).date()
    first = clock_reaches(zone, datetime.combine(day, time()))
    shown = {f"{(first + FIVE * step).astimezone(clock):%H:%M}" for step in range(288)}
    assert at not in shown, "the clock shows it on that day"
    assert end == clock_reaches(zone, datetime.combine(day, time.fromisoformat(at)))
