"""The planner: exact for one chain, true to its limits, honest when it does not know."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon import (
    BadInput,
    CarbonPolicy,
    Decision,
    Fleet,
    IntensitySeries,
    Kind,
    Need,
    Outlook,
    Pool,
    PriceSeries,
    Relaxation,
    Request,
    Reservation,
    ResidencyError,
    Rule,
    Stage,
    Strategy,
    Urgency,
    Workload,
    plan,
)
from carbon._calendar import Blackout
from carbon._chain import Starts
from carbon._decision import amount, money

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
PLACES = {"DE": "aws:eu-central-1", "SE-SE3": "aws:eu-north-1", "US-NW-PACW": "aws:us-west-2"}

HEAVY = Stage(
    name="train",
    heavy=True,
    needs={"gpu": Need(p50=60 * MINUTE, p95=90 * MINUTE)},
    data_in_gb=2,
    data_out_gb=0.5,
)
SCORE = Stage(name="score", heavy=True, needs={"gpu": Need(p50=10 * MINUTE, p95=15 * MINUTE)})
LIGHT = Stage(name="prepare", needs={"cpu": Need(p50=10 * MINUTE, p95=20 * MINUTE)})
JOB = Workload(name="job", stages=(LIGHT, HEAVY), data_class="public")


def make_fleet(**changes: float) -> Fleet:
    """Three regions with a CPU and a GPU pool each, all alike but for the place."""
    pools = [
        Pool(
            name=f"{place.split(':')[1]}-{hardware}",
            region=place,
            hardware=hardware,
            capacity=2,
            watts=300 if hardware == "gpu" else 20,
            usd_per_hour=changes.get(zone, 1.0) if hardware == "gpu" else 0.1,
            startup=2 * MINUTE,
        )
        for zone, place in PLACES.items()
        for hardware in ("cpu", "gpu")
    ]
    return Fleet(
        home="aws:eu-central-1",
        residency={"public": ("*",), "personal": ("EU",), "internal": ("EU", "US")},
        pools=tuple(pools),
    )


FLEET = make_fleet()


def outlook(hours: int = 24, /, **values: list[float]) -> Outlook:
    """An hourly outlook; a zone's list is repeated to fill the hours."""
    zones = {"DE": [400.0], "SE-SE3": [30.0], "US-NW-PACW": [200.0]}
    zones |= {name.replace("_", "-"): list(row) for name, row in values.items()}
    starts = [NOW + HOUR * index for index in range(hours)]
    series = {
        zone: IntensitySeries(
            zone,
            starts,
            NOW + HOUR * hours,
            [row[index % len(row)] for index in range(hours)],
            "test",
            kind=Kind.FORECAST,
        )
        for zone, row in zones.items()
        if row
    }
    missing = {zone: f"nothing for {zone}" for zone, row in zones.items() if not row}
    return Outlook(NOW, NOW + HOUR * hours, series, {}, missing)


def request(view: Outlook, policy: CarbonPolicy | None = None, **changes: object) -> Request:
    """A request with a day of slack."""
    given = {
        "workload": JOB,
        "policy": policy or CarbonPolicy(),
        "fleet": FLEET,
        "outlook": view,
        "now": NOW,
        "deadline": NOW + 24 * HOUR,
    } | changes
    return Request(**given)  # type: ignore[arg-type]  # a test's shorthand


def test_the_policy_sets_the_deadline() -> None:
    """It counts from the release, else from now; one that is given rules."""
    hour = CarbonPolicy(finish_by="6h")
    assert Request(JOB, hour, FLEET, outlook(), now=NOW).deadline == NOW + 6 * HOUR
    later = Request(JOB, hour, FLEET, outlook(), now=NOW, release=NOW + HOUR)
    assert later.deadline == NOW + 7 * HOUR
    given = Request(JOB, hour, FLEET, outlook(), now=NOW, deadline=NOW + 4 * HOUR)
    assert plan(given).deadline == NOW + 4 * HOUR


def test_goes_where_the_grid_is_cleanest() -> None:
    """The heavy stage goes to the cleanest zone, the light one stays at home."""
    decision = plan(request(outlook()))
    assert [placement.pool for placement in decision.chosen.placements] == [
        "eu-central-1-cpu",
        "eu-north-1-gpu",
    ]
    assert decision.saving_percent == pytest.approx(
        100 * (1 - decision.chosen.g / decision.baseline.g)
    )
    assert decision.saving_percent > 80


def test_emissions_follow_the_formula() -> None:
    """Grams are energy x PUE x mean intensity, plus half of the network's energy at each end."""
    fleet = make_fleet()
    decision = plan(request(outlook(), fleet=fleet))
    heavy = decision.chosen.placement("train")
    pue = fleet.pool(heavy.pool).place.pue.value
    network = (HEAVY.data_in_gb + HEAVY.data_out_gb) * 0.001
    assert heavy.kwh == pytest.approx(0.3 * pue)
    assert heavy.g == pytest.approx(0.3 * pue * 30 + network * (30 + 400) / 2)
    there = fleet.pool(heavy.pool).place
    home = fleet.home_cpu.place
    transfer = 2 * home.transfer_price(there) + 0.5 * there.transfer_price(home)
    assert heavy.usd == pytest.approx(1.0 + transfer)


def test_waits_for_the_clean_hours() -> None:
    """With one place only, the run waits for the dip and ends in it."""
    dip = [400.0] * 10 + [100.0] * 3 + [400.0] * 11
    decision = plan(request(outlook(DE=dip), CarbonPolicy(only_regions=("aws:eu-central-1",))))
    heavy = decision.chosen.placement("train")
    assert heavy.start + 2 * MINUTE >= NOW + 10 * HOUR
    assert heavy.end <= NOW + 13 * HOUR
    assert decision.rule is Rule.GRID


def test_many_stages_in_many_pools_are_still_planned_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sets of pools multiply: where they are too many, the worst pools are left out, and told."""
    stages = (LIGHT, HEAVY, SCORE, SCORE.model_copy(update={"name": "again"}))
    job = Workload(name="job", stages=stages, data_class="public")
    view = outlook(DE=[90.0, 700.0], US_NW_PACW=[900.0])
    exact = plan(request(view, workload=job))
    monkeypatch.setattr("carbon._permitted._MOST_SETS", 8)
    bounded = plan(request(view, workload=job))
    assert bounded.chosen == exact.chosen
    assert [(row.pool, row.rule) for row in bounded.refusals] == [("us-west-2-gpu", Rule.GRID)]
    assert not exact.refusals


def test_a_slot_is_not_held_twice_by_one_run() -> None:
    """The second stage in a pool goes on in the slot of the first, however long that takes."""
    stages = (LIGHT, HEAVY, SCORE)
    decision = plan(request(outlook(), workload=JOB.model_copy(update={"stages": stages})))
    train, score, _ = decision.chosen.slots
    assert (train.pool, score.pool) == ("eu-north-1-gpu", "eu-north-1-gpu")
    assert train.end == score.start
    assert decision.chosen.placement("train").end_p95 > score.start


def test_pools_that_a_limit_needs_are_never_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few sets are looked at, what is quickest and what is cheapest is among them."""
    dirty = {"DE": [100.0], "SE_SE3": [50.0], "US_NW_PACW": [900.0]}
    slow = [
        pool.model_copy(update={"startup": 40 * MINUTE, "usd_per_hour": 2.0})
        if pool.hardware == "gpu" and pool.region != PLACES["US-NW-PACW"]
        else pool
        for pool in FLEET.pools
    ]
    fleet = FLEET.model_copy(update={"pools": tuple(slow)})
    stages = (HEAVY, *(SCORE.model_copy(update={"name": f"score-{n}"}) for n in range(3)))
    given = {
        "fleet": fleet,
        "workload": Workload(name="job", stages=stages, data_class="public"),
    }
    monkeypatch.setattr("carbon._permitted._MOST_SETS", 1)
    hurried = plan(request(outlook(**dirty), **given, deadline=NOW + 5 * HOUR))
    assert not hurried.breaches
    thrifty = plan(request(outlook(**dirty), CarbonPolicy(max_cost_usd=1.9), **given))
    assert not thrifty.breaches


def test_a_pool_that_is_left_and_come_back_to_is_held_once() -> None:
    """A, B, A: what is late in the first stage goes on in the slot of the third."""
    long = {"gpu": Need(p50=60 * MINUTE, p95=300 * MINUTE)}
    names = ("one", "two", "three")
    stages = tuple(Stage(name=name, heavy=True, needs=long) for name in names)
    job = Workload(name="job", stages=stages, data_class="public")
    chain = request(outlook(48), workload=job, deadline=NOW + 40 * HOUR).chain(
        [FLEET.pool(name) for name in ("us-west-2-gpu", "eu-north-1-gpu", "us-west-2-gpu")]
    )
    first, _, third, _ = chain.option(NOW, NOW + 40 * HOUR).slots
    assert (first.pool, third.pool) == ("us-west-2-gpu", "us-west-2-gpu")
    assert first.end <= third.start


def test_without_a_price_at_home_the_tolerance_still_holds() -> None:
    """A run does not go where it costs a fortune because nobody knows what home costs."""
    fleet = make_fleet(**{"SE-SE3": 1000.0, "US-NW-PACW": 1000.0})
    pools = tuple(
        pool.model_copy(update={"billed_energy": pool.name == "eu-central-1-gpu"})
        for pool in fleet.pools
    )
    decision = plan(request(outlook(), fleet=fleet.model_copy(update={"pools": pools})))
    assert decision.chosen.main.zone == "DE"
    assert (decision.rule, decision.chosen.start) == (Rule.COST, NOW)
    assert "not known" in decision.reason
    assert any(breach.startswith("cost: not known") for breach in decision.breaches)


def test_a_pool_that_is_an_hour_too_slow_is_told() -> None:
    """It is refused for the deadline, and the decision says what an hour more would save."""
    slow = [
        pool.model_copy(update={"startup": 150 * MINUTE}) if pool.name == "eu-north-1-gpu" else pool
        for pool in FLEET.pools
    ]
    fleet = FLEET.model_copy(update={"pools": tuple(slow)})
    decision = plan(request(outlook(), fleet=fleet, deadline=NOW + 8 * HOUR))
    assert decision.chosen.main.zone == "US-NW-PACW"
    refusals = {row.pool: row for row in decision.refusals}
    assert refusals["eu-north-1-gpu"].rule is Rule.DEADLINE
    (more,) = [row for row in decision.relaxations if row.rule is Rule.DEADLINE]
    assert more.text.startswith("One hour more slack would save")
    assert decision.chosen.main.pool not in refusals


def test_a_run_that_is_up_knows_its_last_start() -> None:
    """It lets go and has to start up again: its last start is sooner by that, and that is told."""
    falling = [400.0 - 10 * hour for hour in range(24)]
    policy = CarbonPolicy(only_regions=("aws:eu-central-1",))
    decision = plan(request(outlook(DE=falling), policy, running=True))
    assert decision.rule is Rule.DEADLINE


def test_least_savings_are_told_as_they_are() -> None:
    """What would save enough is too dear: it is not said that moving saves little."""
    fleet = make_fleet(**{"SE-SE3": 5.0, "US-NW-PACW": 5.0})
    decision = plan(request(outlook(), CarbonPolicy(min_saving_percent=50), fleet=fleet))
    assert decision.rule is Rule.SAVING
    assert decision.reason == "No placement within all limits saves 50 % of emissions."
    refusals = {row.pool: row.rule for row in decision.refusals}
    assert refusals["eu-north-1-gpu"] is Rule.COST


def test_a_broken_limit_is_not_broken_further_for_the_wait() -> None:
    """Where nothing keeps the ceiling, the least emissions count, and no hour's delay."""
    falling = [400.0] * 5 + [300.0] * 19
    policy = CarbonPolicy(
        only_regions=("aws:eu-central-1",), max_g_per_kwh=100, freshness_g_per_hour=1000
    )
    decision = plan(request(outlook(DE=falling), policy))
    assert decision.chosen.g_per_kwh == pytest.approx(300.0)
    assert "keeps the intensity limit and all others" in decision.reason


def test_amounts_are_readable() -> None:
    """No powers of ten, and nothing is rounded away."""
    assert [amount(g) for g in (0.5, 999.7, 1620.0)] == ["0.5 gCO2e", "1.0 kgCO2e", "1.6 kgCO2e"]
    assert [money(usd) for usd in (0.0, 0.004, 12.0)] == ["0.00 USD", "0.004 USD", "12.00 USD"]


def test_cost_tolerance_keeps_a_dear_place_out() -> None:
    """A clean place that costs more than the tolerance is refused, with the numbers."""
    decision = plan(request(outlook(), fleet=make_fleet(**{"SE-SE3": 2.0})))
    assert decision.chosen.main.zone != "SE-SE3"
    refusal = next(row for row in decision.refusals if row.pool == "eu-north-1-gpu")
    assert refusal.rule is Rule.COST
    assert "limit" in refusal.reason
    assert decision.rule is Rule.COST


def test_cheapest_obeys_its_ceiling() -> None:
    """Cheapest takes the cheapest place below the ceiling, not the cheapest of all."""
    fleet = make_fleet(**{"DE": 0.5, "SE-SE3": 3.0, "US-NW-PACW": 2.0})
    policy = CarbonPolicy(strategy=Strategy.CHEAPEST, max_g_per_kwh=250)
    decision = plan(request(outlook(), policy, fleet=fleet))
    assert decision.chosen.main.zone == "US-NW-PACW"
    assert not decision.breaches


def test_intensity_gives_way_first_and_says_so() -> None:
    """When no place is below the ceiling the run goes to the cleanest one within the cost."""
    policy = CarbonPolicy(max_g_per_kwh=5)
    decision = plan(request(outlook(), policy))
    assert decision.chosen.main.zone == "SE-SE3"
    assert any(re.match(r"intensity: .* \(whole run\)", note) for note in decision.breaches)


def test_cost_cap_gives_way_after_intensity() -> None:
    """A cap that nothing meets is broken, recorded, and the run still happens."""
    decision = plan(request(outlook(), CarbonPolicy(max_cost_usd=0.01)))
    assert any(note.startswith("cost") for note in decision.breaches)


def test_small_savings_are_not_worth_a_move() -> None:
    """A saving below the target means at once at home, and that is no breach."""
    policy = CarbonPolicy(min_saving_percent=50)
    decision = plan(request(outlook(DE=[30.0], US_NW_PACW=[30.0]), policy))
    assert decision.rule is Rule.SAVING
    assert decision.chosen.start == NOW
    assert decision.chosen.main.pool == "eu-central-1-gpu"
    assert not decision.breaches


def test_urgent_work_starts_at_once_in_the_cleanest_permitted_place() -> None:
    """However clean a later hour: place is chosen, time is not, and it never pauses."""
    urgent = JOB.model_copy(update={"urgency": Urgency.URGENT})
    view = outlook(SE_SE3=[60.0] * 6 + [5.0] * 18)
    decision = plan(request(view, workload=urgent))
    waits = plan(request(view))
    at_once = plan(request(view, may_wait=False))
    assert decision.chosen == at_once.chosen
    assert decision.chosen.start == NOW < waits.chosen.start
    assert decision.reason.startswith("Urgent work starts at once")


def test_run_now_and_interactive_stay_at_home() -> None:
    """Neither the policy run_now nor an interactive workload is moved in time or place."""
    forced = plan(request(outlook(), CarbonPolicy(strategy=Strategy.RUN_NOW)))
    assert (forced.rule, forced.chosen.start) == (Rule.POLICY, NOW)
    assert forced.chosen.main.region == "aws:eu-central-1"
    search = JOB.model_copy(update={"urgency": Urgency.INTERACTIVE})
    kept = plan(request(outlook(), workload=search))
    assert (kept.rule, kept.chosen.start) == (Rule.INTERACTIVE, NOW)
    assert kept.chosen.main.region == "aws:eu-central-1"


def test_no_permitted_region_is_an_error() -> None:
    """Personal data and a region outside the EU cannot be reconciled: nothing is decided."""
    policy = CarbonPolicy(only_regions=("aws:us-west-2",))
    with pytest.raises(ResidencyError, match="residency never gives way"):
        plan(request(outlook(), policy, data_class="personal"))


def test_a_region_without_a_pool_is_bad_input() -> None:
    """The policy names a region that the fleet does not have."""
    with pytest.raises(BadInput, match="only_regions"):
        plan(request(outlook(), CarbonPolicy(only_regions=("aws:eu-west-1",))))


def test_without_a_signal_it_runs_at_once_at_home() -> None:
    """No number is invented: emissions are unknown and the run starts now."""
    decision = plan(request(outlook(DE=[], SE_SE3=[], US_NW_PACW=[])))
    assert decision.rule is Rule.SIGNAL
    assert decision.chosen.start == NOW
    assert decision.chosen.g is None
    assert decision.saving_percent is None


def test_a_zone_without_a_signal_is_refused() -> None:
    """A pool in a zone that nobody knows is not used, and the reason is told."""
    decision = plan(request(outlook(SE_SE3=[])))
    assert decision.chosen.main.zone == "US-NW-PACW"
    refusal = next(row for row in decision.refusals if row.pool == "eu-north-1-gpu")
    assert (refusal.rule, refusal.reason) == (Rule.SIGNAL, "nothing for SE-SE3")


def test_no_slack_means_at_once_at_home_and_a_breach() -> None:
    """A deadline that even the fastest way misses is recorded, and the run does not wait."""
    decision = plan(request(outlook(), deadline=NOW + 30 * MINUTE))
    assert (decision.rule, decision.chosen.start) == (Rule.DEADLINE, NOW)
    assert any(note.startswith("deadline") for note in decision.breaches)


def test_a_full_pool_is_passed_over() -> None:
    """When the clean pool is full all along, the run goes to the next best, and says why."""
    busy = tuple(
        Reservation(pool="eu-north-1-gpu", start=NOW - HOUR, end=NOW + 48 * HOUR) for _ in range(2)
    )
    decision = plan(request(outlook(), busy=busy))
    assert decision.chosen.main.zone == "US-NW-PACW"
    assert decision.rule is Rule.CAPACITY


def test_a_closed_pool_is_passed_over_and_says_why() -> None:
    """A pool that starts nothing now is refused with its reason, also where it is home."""
    view = outlook(DE=[500.0], **{"SE-SE3": [20.0]}, **{"US-NW-PACW": [100.0]})
    decision = plan(request(view, closed={"eu-north-1-gpu": "the pool is paused"}))
    assert decision.chosen.main.pool == "us-west-2-gpu"
    (refusal,) = [row for row in decision.refusals if row.pool == "eu-north-1-gpu"]
    assert (refusal.rule, refusal.reason) == (Rule.CAPACITY, "the pool is paused")
    at_once = CarbonPolicy(strategy=Strategy.RUN_NOW)
    decision = plan(request(view, at_once, closed={"eu-central-1-gpu": "the pool is paused"}))
    assert decision.chosen.main.pool != "eu-central-1-gpu"


def test_where_all_pools_are_closed_it_is_planned_as_if_none_were() -> None:
    """It is as good to wait in the best pool as in any; pools for light stages are never closed."""
    view = outlook(DE=[500.0], **{"SE-SE3": [20.0]}, **{"US-NW-PACW": [100.0]})
    shut = dict.fromkeys(make_fleet().by_name, "the pool is paused")
    assert plan(request(view, closed=shut)) == plan(request(view))


def test_it_waits_for_a_slot_rather_than_stacking() -> None:
    """The run starts exactly when the clean pool has a free slot again."""
    busy = tuple(
        Reservation(pool="eu-north-1-gpu", start=NOW, end=NOW + 5 * HOUR) for _ in range(2)
    )
    decision = plan(request(outlook(), busy=busy))
    assert decision.chosen.main.pool == "eu-north-1-gpu"
    assert decision.chosen.placement("train").start == NOW + 5 * HOUR


def test_billed_energy_follows_the_market_price() -> None:
    """A pool that pays for its electricity is placed in the cheap hours."""
    prices = [100.0] * 12 + [10.0] * 3 + [100.0] * 9
    view = outlook(DE=[100.0])
    starts = [NOW + HOUR * index for index in range(24)]
    price = PriceSeries(
        "DE", starts, NOW + 24 * HOUR, prices, "test", kind=Kind.FORECAST, currency="EUR"
    )
    view = Outlook(view.start, view.end, view.intensity, {"DE": price}, {})
    own = FLEET.model_copy(
        update={
            "usd_per": {"EUR": 1.1},
            "pools": tuple(
                pool.model_copy(update={"billed_energy": True, "usd_per_hour": 0.0})
                for pool in FLEET.pools
                if pool.region == FLEET.home
            ),
        }
    )
    policy = CarbonPolicy(strategy=Strategy.CHEAPEST, max_g_per_kwh=500)
    decision = plan(request(view, policy, fleet=own))
    heavy = decision.chosen.placement("train")
    assert heavy.start + 2 * MINUTE >= NOW + 12 * HOUR
    assert heavy.end <= NOW + 15 * HOUR
    assert heavy.usd == pytest.approx(heavy.kwh * 10 * 1.1 / 1000)


def test_billed_energy_without_a_price_is_refused() -> None:
    """No price, no rate: the pool is not used and the reason is told."""
    pools = tuple(
        pool.model_copy(update={"billed_energy": pool.name == "eu-north-1-gpu"})
        for pool in FLEET.pools
    )
    decision = plan(request(outlook(), fleet=FLEET.model_copy(update={"pools": pools})))
    refusal = next(row for row in decision.refusals if row.pool == "eu-north-1-gpu")
    assert "price" in refusal.reason


levels = st.lists(st.floats(1, 900), min_size=1, max_size=24)
busy_slots = st.lists(
    st.tuples(
        st.sampled_from([pool.name for pool in FLEET.pools]),
        st.integers(-3, 20),
        st.integers(1, 12),
    ),
    max_size=12,
)


def reservations(rows: list[tuple[str, int, int]]) -> tuple[Reservation, ...]:
    """Turn drawn rows into slots."""
    return tuple(
        Reservation(pool=pool, start=NOW + HOUR * first, end=NOW + HOUR * (first + length))
        for pool, first, length in rows
    )


@given(se=levels, us=levels, de=levels, rows=busy_slots)
def test_no_start_of_a_fine_grid_is_better(
    se: list[float], us: list[float], de: list[float], rows: list[tuple[str, int, int]]
) -> None:
    """The choice is within one per cent of the best of all starts on a five-minute grid."""
    busy = reservations(rows)
    view = outlook(30, DE=de, SE_SE3=se, US_NW_PACW=us)
    free = CarbonPolicy(cost_tolerance_percent=1000)
    asked = request(view, free, busy=busy)
    decision = plan(asked)
    if decision.rule is Rule.CAPACITY and decision.chosen.start == NOW:
        return
    home = FLEET.home_cpu
    for pool in FLEET.pools:
        if not pool.can_run(HEAVY):
            continue
        chain = asked.chain((home, pool))
        grid = np.arange(NOW.timestamp(), (asked.deadline - chain.needed).timestamp(), 300.0)
        grams = np.where(chain.free(grid), chain.grams(Starts(asked, grid)), np.inf)
        assert decision.chosen.g <= np.nanmin(grams) * (1.01 + 1e-6)


def test_a_decision_survives_json() -> None:
    """What is stored as JSON reads back equal."""
    decision = plan(request(outlook()))
    assert type(decision).model_validate_json(decision.model_dump_json()) == decision


def test_a_quicker_pool_elsewhere_saves_the_deadline() -> None:
    """When home is too slow, a permitted pool that makes it is used, even without a signal."""
    slow_at_home = HEAVY.model_copy(
        update={
            "needs": {
                "gpu": Need(p50=HOUR, p95=HOUR),
                "cpu": Need(p50=8 * HOUR, p95=10 * HOUR),
            }
        }
    )
    pools = [pool for pool in FLEET.pools if pool.name != "eu-central-1-gpu"]
    pools.append(FLEET.home_cpu.model_copy(update={"name": "eu-central-1-cpu-heavy"}))
    asked = request(
        outlook(DE=[], SE_SE3=[], US_NW_PACW=[]),
        workload=JOB.model_copy(update={"stages": (LIGHT, slow_at_home)}),
        fleet=FLEET.model_copy(update={"pools": tuple(pools)}),
        deadline=NOW + 4 * HOUR,
    )
    decision = plan(asked)
    assert decision.chosen.main.pool in {"eu-north-1-gpu", "us-west-2-gpu"}
    assert not any(note.startswith("deadline") for note in decision.breaches)


def test_it_never_starts_before_its_release() -> None:
    """A run that is wanted later neither starts before nor is compared with starting before."""
    early = [10.0] * 3 + [400.0] * 21
    policy = CarbonPolicy(only_regions=("aws:eu-central-1",))
    decision = plan(request(outlook(DE=early), policy, release=NOW + 6 * HOUR))
    assert decision.chosen.start >= NOW + 6 * HOUR
    assert decision.baseline.start == NOW + 6 * HOUR


def test_two_stages_that_follow_one_another_need_one_slot() -> None:
    """Stages of a chain never overlap, so one slot of a pool serves both."""
    pools = tuple(pool.model_copy(update={"capacity": 1}) for pool in FLEET.pools)
    asked = request(
        outlook(),
        workload=JOB.model_copy(update={"stages": (HEAVY, SCORE)}),
        fleet=FLEET.model_copy(update={"pools": pools}),
    )
    decision = plan(asked)
    assert {row.pool for row in decision.chosen.placements} == {"eu-north-1-gpu"}


def test_heavy_work_never_runs_among_the_waiting_entry_runs() -> None:
    """A pool full of entry runs that wait for their stages would never start those."""
    either = HEAVY.model_copy(update={"needs": {**HEAVY.needs, "cpu": HEAVY.needs["gpu"]}})
    decision = plan(request(outlook(), workload=JOB.model_copy(update={"stages": (LIGHT, either)})))
    tried = {decision.chosen.main.pool, *(option.main.pool for option in decision.alternatives)}
    assert "eu-north-1-cpu" in tried | {row.pool for row in decision.refusals}
    assert FLEET.home_cpu.name not in tried


def test_nothing_is_waited_for_that_saves_less_than_one_per_cent() -> None:
    """Published intensities are revised by more than that."""
    dip = [100.0] * 20 + [99.5] * 4
    decision = plan(request(outlook(DE=dip), CarbonPolicy(only_regions=("aws:eu-central-1",))))
    assert decision.chosen.start == NOW


def test_who_waits_anyway_waits_for_the_best() -> None:
    """Half a per cent is not worth waiting for, and worth an hour more to a run that waits."""
    slope = [300.0] * 12 + [100.5] * 4 + [100.0] * 8
    decision = plan(request(outlook(DE=slope), CarbonPolicy(only_regions=("aws:eu-central-1",))))
    assert decision.chosen.main.g_per_kwh == 100


def test_no_other_place_is_waited_for_in_vain() -> None:
    """A slightly cleaner hour elsewhere does not keep a run from a place that is clean now."""
    view = outlook(DE=[400.0], SE_SE3=[20.0] * 24, US_NW_PACW=[300.0] * 20 + [19.95] * 4)
    chosen = plan(request(view)).chosen
    assert (chosen.start, chosen.main.zone) == (NOW, "SE-SE3")


def test_a_cost_cap_that_gives_way_is_broken_as_little_as_can_be() -> None:
    """When no placement is below the cap, the cheapest one is taken, not the cleanest."""
    fleet = make_fleet(**{"SE-SE3": 500.0})
    for strategy in (Strategy.CLEANEST, Strategy.CHEAPEST):
        policy = CarbonPolicy(strategy=strategy, max_cost_usd=0.5, max_g_per_kwh=900)
        decision = plan(request(outlook(), policy, fleet=fleet))
        assert decision.chosen.usd < 2
        assert any(note.startswith("cost") for note in decision.breaches)


def test_a_wish_to_save_does_not_break_the_ceiling() -> None:
    """Home is above the ceiling: the run moves although that saves less than wished."""
    view = outlook(DE=[110.0], SE_SE3=[95.0], US_NW_PACW=[300.0])
    policy = CarbonPolicy(min_saving_percent=50, max_g_per_kwh=100)
    decision = plan(request(view, policy))
    assert decision.chosen.main.zone == "SE-SE3"
    assert not decision.breaches


def test_an_unknown_price_is_not_zero() -> None:
    """Where home's price is not known there is no cost, no tolerance, and that is on record."""
    pools = tuple(
        pool.model_copy(update={"billed_energy": pool.region == FLEET.home}) for pool in FLEET.pools
    )
    fleet = FLEET.model_copy(update={"pools": pools})
    forced = plan(request(outlook(), CarbonPolicy(strategy=Strategy.RUN_NOW), fleet=fleet))
    assert forced.chosen.usd is None
    assert plan(request(outlook(), fleet=fleet)).baseline.usd is None


def test_a_run_that_is_up_may_go_at_its_latest_safe_start() -> None:
    """A run that wakes there is in time: its start-up is behind it."""
    chain = request(outlook()).chain((FLEET.home_cpu, FLEET.pool("eu-north-1-gpu")))
    late = NOW + 24 * HOUR - chain.needed
    woken = request(outlook(30), now=late + MINUTE, running=True)
    decision = plan(woken)
    assert decision.chosen.main.pool == "eu-north-1-gpu"
    assert not decision.breaches


def test_the_baseline_stays_what_it_was() -> None:
    """A run that has waited is compared with what it would have emitted when it was released."""
    dip = [400.0] * 10 + [100.0] * 14
    policy = CarbonPolicy(only_regions=("aws:eu-central-1",))
    first = plan(request(outlook(DE=dip), policy))
    woken = request(
        outlook(DE=dip), policy, now=first.chosen.start, running=True, baseline=first.baseline
    )
    assert plan(woken).saving_percent == pytest.approx(first.saving_percent, abs=1.0)


def owned(price: float, **levels: list[float]) -> Request:
    """A fleet of owned hardware, which pays the market's price of electricity and nothing else."""
    pools = [
        pool.model_copy(update={"usd_per_hour": 0.0, "billed_energy": True}) for pool in FLEET.pools
    ]
    fleet = FLEET.model_copy(update={"pools": tuple(pools), "usd_per": {"EUR": 1.1}})
    view = outlook(24, **levels)
    prices = {
        zone: PriceSeries(
            zone, series.starts, series.end, [price] * 24, "x", kind=Kind.FORECAST, currency="EUR"
        )
        for zone, series in view.intensity.items()
    }
    job = JOB.model_copy(
        update={"stages": (HEAVY.model_copy(update={"data_in_gb": 0.0, "data_out_gb": 0.0}),)}
    )
    full = Outlook(view.start, view.end, view.intensity, prices, {})
    return request(full, fleet=Fleet.model_validate(fleet.model_dump()), workload=job)


@given(price=st.floats(-500, 500))
def test_negative_prices_leave_the_tolerance_a_tolerance(price: float) -> None:
    """Running at once at home always keeps the cost limit that is measured from it."""
    decision = plan(owned(price))
    assert not decision.breaches
    at_home = plan(owned(price, SE_SE3=[400.0], US_NW_PACW=[400.0]))
    assert not at_home.breaches


@given(startup=st.floats(0, 500), gap=st.floats(0, 60))
def test_a_slot_that_just_fits_is_free(startup: float, gap: float) -> None:
    """Whatever fraction of a second the times have, a start that was called free is no breach."""
    pools = [
        pool.model_copy(update={"capacity": 1, "startup": timedelta(seconds=startup)})
        for pool in FLEET.pools
    ]
    fleet = FLEET.model_copy(update={"pools": tuple(pools)})
    until = NOW + timedelta(hours=3, seconds=gap)
    busy = tuple(Reservation(pool=pool.name, start=NOW, end=until) for pool in fleet.pools)
    decision = plan(request(outlook(), fleet=fleet, busy=busy))
    assert decision.rule is not Rule.CAPACITY or decision.chosen.start >= until - HOUR
    assert not any(breach.startswith("capacity") for breach in decision.breaches)


def test_run_now_says_where() -> None:
    """A policy that leaves home out is not told as running at home."""
    policy = CarbonPolicy(
        strategy=Strategy.RUN_NOW, only_regions=("aws:us-west-2",), max_cost_usd=9
    )
    decision = plan(request(outlook(), policy))
    assert decision.chosen.main.region == "aws:us-west-2"
    assert "at home" not in decision.policy + decision.reason
    assert "9 USD" in decision.policy
    assert "at once at home" in plan(request(outlook(), CarbonPolicy(strategy="run_now"))).reason


# -- the calendar, contracts, hardware and freshness -----------------------------------------------


def with_pools(**changes: object) -> Fleet:
    """Return the fleet with its GPU pools changed."""
    pools = [
        Pool.model_validate({**pool.model_dump(), **(changes if pool.hardware == "gpu" else {})})
        for pool in FLEET.pools
    ]
    return Fleet.model_validate({**FLEET.model_dump(), "pools": pools})


def test_heavy_work_keeps_out_of_a_blackout() -> None:
    """It ends before the sale or starts after it, and the refusal has the sale's name."""
    sale = {"name": "black friday", "start": NOW + HOUR, "end": NOW + 20 * HOUR}
    fleet = Fleet.model_validate({**FLEET.model_dump(), "blackouts": [sale]})
    decision = plan(request(outlook(), fleet=fleet))
    main = decision.chosen.main
    assert main.start >= NOW + 20 * HOUR
    one = {**sale, "pools": ["eu-north-1-gpu"], "start": NOW, "end": NOW + 60 * HOUR}
    fleet = Fleet.model_validate({**FLEET.model_dump(), "blackouts": [one]})
    decision = plan(request(outlook(), fleet=fleet))
    assert decision.chosen.main.zone == "US-NW-PACW"
    assert any("black friday" in refusal.reason for refusal in decision.refusals)


def test_a_blackout_of_everything_does_not_make_a_run_late() -> None:
    """The deadline is stronger: it goes at once at home, and says what it breaks."""
    sale = {"name": "sale", "start": NOW, "end": NOW + 60 * HOUR}
    fleet = Fleet.model_validate({**FLEET.model_dump(), "blackouts": [sale]})
    decision = plan(request(outlook(), fleet=fleet))
    assert (decision.chosen.start, decision.rule) == (NOW, Rule.CAPACITY)
    assert any("sale" in breach for breach in decision.breaches)


def test_a_contract_makes_the_night_cheap() -> None:
    """Strategy cheapest waits for the hours at which electricity costs less."""
    fleet = with_pools(
        usd_per_kwh=0.4,
        tariff=[{"from": "22:00", "to": "06:00", "usd_per_kwh": 0.1}],
        timezone="Europe/Berlin",
    )
    policy = CarbonPolicy(strategy=Strategy.CHEAPEST, max_g_per_kwh=900)
    late = NOW + 7 * HOUR
    decision = plan(request(outlook(30), policy, fleet=fleet, now=late))
    heavy = decision.chosen.main
    assert heavy.start >= NOW + 20 * HOUR
    pue = fleet.pool(heavy.pool).place.pue.value
    transfer = heavy.usd - 1.0 - 0.3 * pue * 0.1
    assert transfer == pytest.approx(decision.chosen.placement("train").usd - 1.0 - 0.03 * pue)
    assert decision.baseline.placement("train").usd == pytest.approx(1.0 + 0.3 * pue * 0.4, rel=0.1)


def test_the_embodied_share_counts_and_is_no_intensity() -> None:
    """It is in the grams and in the choice of hardware, and no limit of the grid's intensity."""
    fleet = with_pools(embodied_g_per_hour=50)
    decision = plan(request(outlook(), CarbonPolicy(max_g_per_kwh=40), fleet=fleet))
    heavy = decision.chosen.placement("train")
    assert heavy.embodied_g == 50
    plain = plan(request(outlook())).chosen.placement("train")
    assert heavy.g == pytest.approx(plain.g + 50)
    assert decision.chosen.g_per_kwh == pytest.approx(plan(request(outlook())).chosen.g_per_kwh)
    assert not any(breach.startswith("intensity") for breach in decision.breaches)


def test_the_hardware_is_chosen_by_all_that_it_emits() -> None:
    """A stage for CPU and GPU runs where energy and embodied share are least together."""
    either = HEAVY.model_copy(
        update={
            "needs": {
                "gpu": Need(p50=HOUR, p95=HOUR, kwh=0.3),
                "cpu": Need(p50=2 * HOUR, p95=2 * HOUR, kwh=0.5),
            }
        }
    )
    job = JOB.model_copy(update={"stages": (LIGHT, either)})
    assert plan(request(outlook(), workload=job)).chosen.main.pool == "eu-north-1-gpu"
    fleet = with_pools(embodied_g_per_hour=30)
    assert plan(request(outlook(), workload=job, fleet=fleet)).chosen.main.pool == "eu-north-1-cpu"


def test_freshness_has_its_price() -> None:
    """An hour of delay is accepted where it saves more than it is worth."""
    home = ("aws:eu-central-1",)
    slope = [400.0, 380.0, 360.0, 340.0, 320.0, 300.0] + [300.0] * 18
    starts = []
    for worth in (0.0, 3.0, 30.0):
        policy = CarbonPolicy(only_regions=home, freshness_g_per_hour=worth)
        starts.append(plan(request(outlook(DE=slope), policy)).chosen.start)
    assert starts[0] >= starts[1] > starts[2] == NOW
    said = CarbonPolicy(freshness_g_per_hour=3).describe()
    assert "wait an hour only where that saves 3 gCO2e" in said


# -- what limits cost ------------------------------------------------------------------------------


def relaxed(decision: Decision) -> dict[Rule, Relaxation]:
    """Return what single limits cost."""
    return {one.rule: one for one in decision.relaxations}


def test_an_hour_more_of_slack_has_a_price() -> None:
    """What it says is what the same request with an hour more then saves."""
    falling = [400.0 - 10 * hour for hour in range(30)]
    policy = CarbonPolicy(only_regions=("aws:eu-central-1",))
    view = outlook(30, DE=falling)
    one, more = (plan(request(view, policy, deadline=NOW + hours * HOUR)) for hours in (20, 21))
    price = relaxed(one)[Rule.DEADLINE]
    assert price.saves_g == pytest.approx(one.chosen.g - more.chosen.g)
    assert price.text.startswith("One hour more slack would save ")
    assert one.relaxations[0].rule is Rule.DEADLINE


def test_a_slot_and_a_dollar_have_a_price() -> None:
    """Of a full pool, and of a cost tolerance that keeps the cleanest place out."""
    taken = tuple(
        Reservation(pool="eu-north-1-gpu", start=NOW, end=NOW + 60 * HOUR) for _ in range(2)
    )
    decision = plan(request(outlook(), busy=taken))
    price = relaxed(decision)[Rule.CAPACITY]
    assert "A free slot in eu-north-1-gpu would save" in price.text
    assert price.saves_g == pytest.approx(decision.chosen.g - plan(request(outlook())).chosen.g)
    dear = plan(request(outlook(), fleet=make_fleet(**{"SE-SE3": 3.0})))
    text = relaxed(dear)[Rule.COST].text
    assert "USD more of cost limit would save" in text


def test_what_costs_nothing_is_not_told() -> None:
    """On a flat grid nothing would be gained by wider limits."""
    assert plan(request(outlook())).relaxations == ()


@given(se=levels, us=levels, de=levels, rows=busy_slots)
def test_a_wider_limit_never_costs_anything(
    se: list[float], us: list[float], de: list[float], rows: list[tuple[str, int, int]]
) -> None:
    """All prices are positive, and that of the deadline is true."""
    busy, view = reservations(rows), outlook(30, DE=de, SE_SE3=se, US_NW_PACW=us)
    decision = plan(request(view, busy=busy))
    assert all(one.saves_g is not None and one.saves_g > 0 for one in decision.relaxations)
    later = relaxed(decision).get(Rule.DEADLINE)
    if later is not None:
        more = plan(request(view, busy=busy, deadline=NOW + 25 * HOUR)).chosen.g
        assert decision.chosen.g - more == pytest.approx(later.saves_g, rel=0.02, abs=0.02 * more)


def sale(begin: int, end: int) -> Blackout:
    """A blackout of all pools, in hours from now."""
    return Blackout(name="sale", start=NOW + begin * HOUR, end=NOW + end * HOUR)


def test_a_blackout_over_all_the_slack_gives_way_to_the_deadline_and_says_so() -> None:
    """It is no queue: nothing keeps the run from starting."""
    fleet = FLEET.model_copy(update={"blackouts": (sale(-2, 60),)})
    decision = plan(request(outlook(), fleet=fleet, deadline=NOW + 8 * HOUR))
    assert decision.chosen.start == NOW
    assert "blackout sale" in decision.reason
    assert "The deadline counts for more" in decision.reason
    assert [breach for breach in decision.breaches if "in the blackout sale" in breach]
    assert decision.alternatives == ()
    assert all("blackout: sale" in refusal.reason for refusal in decision.refusals)


def test_a_blackout_before_the_best_start_is_named() -> None:
    """Better hours are not simply taken."""
    hours = [400.0, 400.0, 400.0, 10.0, 10.0, 10.0, 10.0, 300.0, 300.0, 300.0, 300.0, 300.0]
    fleet = FLEET.model_copy(update={"blackouts": (sale(3, 7),)})
    only = CarbonPolicy(only_regions=("aws:eu-central-1",))
    asked = request(outlook(DE=hours), only, fleet=fleet, deadline=NOW + 12 * HOUR)
    decision = plan(asked)
    assert decision.rule is Rule.CAPACITY
    assert "lie in the blackout sale" in decision.reason


def test_of_what_costs_the_same_the_cleanest_is_taken() -> None:
    """Cost comes first, and carbon before the hour."""
    policy = CarbonPolicy(
        strategy="cheapest", max_g_per_kwh=1000, only_regions=("aws:eu-central-1",)
    )
    decision = plan(request(outlook(DE=[400.0] * 5 + [200.0] * 3 + [400.0] * 16), policy))
    assert decision.chosen.usd == pytest.approx(decision.baseline.usd)
    assert decision.saving_percent is not None
    assert decision.saving_percent > 40


def test_more_slack_is_told_in_grams_that_are_really_saved() -> None:
    """What freshness is worth decides, and is no emission."""
    falling = [400.0 - 12 * hour for hour in range(30)]
    policy = CarbonPolicy(only_regions=("aws:eu-central-1",), freshness_g_per_hour=1.0)
    asked = request(outlook(30, DE=falling), policy, deadline=NOW + 8 * HOUR)
    decision = plan(asked)
    (told,) = (one for one in decision.relaxations if one.rule is Rule.DEADLINE)
    wider = plan(Request(**{**fields(asked), "deadline": NOW + 9 * HOUR}))
    assert decision.chosen.g is not None
    assert wider.chosen.g is not None
    assert told.saves_g == pytest.approx(decision.chosen.g - wider.chosen.g)


def fields(asked: Request) -> dict[str, Any]:
    """Return what a request was made of."""
    return {one.name: getattr(asked, one.name) for one in dataclasses.fields(asked) if one.init}


def test_a_wider_cost_limit_that_is_told_is_wide_enough() -> None:
    """What is shown is rounded up."""
    fleet = make_fleet(**{"SE-SE3": 1.2049})
    decision = plan(request(outlook(), CarbonPolicy(cost_tolerance_percent=0), fleet=fleet))
    (told,) = (one for one in decision.relaxations if one.rule is Rule.COST)
    more = float(told.text.split()[0])
    limit = decision.baseline.usd + more  # type: ignore[operator]  # known here
    wider = CarbonPolicy(cost_tolerance_percent=1000, max_cost_usd=limit)
    assert plan(request(outlook(), wider, fleet=fleet)).chosen.main.zone == "SE-SE3"


def test_a_naive_present_is_refused_by_its_name() -> None:
    """Not by that of what is counted from it."""
    with pytest.raises(BadInput, match=r"^now: "):
        Request(JOB, CarbonPolicy(), FLEET, outlook(), now=NOW.replace(tzinfo=None))


def test_what_is_not_known_of_home_is_named() -> None:
    """An outlook that ends too soon, or has no zone of home."""
    short = plan(request(outlook(1)))
    assert "the outlook for DE ends at" in short.reason
    assert "DE" in plan(request(outlook(DE=[]))).reason


def test_pools_are_ranked_by_what_can_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean hour after the deadline does not put a clean pool aside."""
    monkeypatch.setattr("carbon._permitted._MOST_SETS", 3)
    late = [500.0] * 40 + [1.0] + [500.0] * 19
    view = outlook(60, DE=[500.0], SE_SE3=[100.0], US_NW_PACW=late)
    asked = request(view, CarbonPolicy(cost_tolerance_percent=1000), deadline=NOW + 12 * HOUR)
    chain = Workload(name="job", stages=(HEAVY, SCORE), data_class="public")
    decision = plan(Request(**{**fields(asked), "workload": chain}))
    assert {one.zone for one in decision.chosen.placements} == {"SE-SE3"}
