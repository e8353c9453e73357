"""The planner: exact for one chain, true to its limits, honest when it does not know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon import (
    BadInput,
    CarbonPolicy,
    Fleet,
    IntensitySeries,
    Kind,
    Need,
    Outlook,
    Pool,
    PriceSeries,
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
    assert any(note.startswith("intensity") for note in decision.breaches)


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
policies = st.builds(
    CarbonPolicy,
    strategy=st.sampled_from([Strategy.CLEANEST, Strategy.RUN_NOW]),
    cost_tolerance_percent=st.sampled_from([0.0, 10.0, 500.0]),
    max_cost_usd=st.sampled_from([None, 1.0, 5.0]),
    max_g_per_kwh=st.sampled_from([None, 50.0, 300.0]),
    min_saving_percent=st.sampled_from([None, 20.0]),
)


def reservations(rows: list[tuple[str, int, int]]) -> tuple[Reservation, ...]:
    """Turn drawn rows into slots."""
    return tuple(
        Reservation(pool=pool, start=NOW + HOUR * first, end=NOW + HOUR * (first + length))
        for pool, first, length in rows
    )


@given(de=levels, se=levels, us=levels, policy=policies, rows=busy_slots, slack=st.integers(1, 20))
def test_promises_hold_whatever_the_grid_does(
    de: list[float],
    se: list[float],
    us: list[float],
    policy: CarbonPolicy,
    rows: list[tuple[str, int, int]],
    slack: int,
) -> None:
    """Residency, deadline, capacity and cost hold, or the breach is on record."""
    busy = reservations(rows)
    view = outlook(DE=de, SE_SE3=se, US_NW_PACW=us)
    deadline = NOW + HOUR * slack
    decision = plan(request(view, policy, busy=busy, deadline=deadline, data_class="personal"))
    broken = " ".join(decision.breaches)
    for placement in decision.chosen.placements:
        assert FLEET.pool(placement.pool).place.jurisdiction == "EU"
    assert decision.chosen.start >= NOW
    if "deadline" not in broken:
        assert decision.chosen.start <= decision.chosen.latest_safe_start
        assert decision.chosen.placements[-1].end_p95 <= deadline
    if "capacity" not in broken:
        for slot in decision.chosen.slots:
            assert _peak(slot, busy) <= FLEET.pool(slot.pool).capacity
    if policy.max_cost_usd and "cost" not in broken:
        assert decision.chosen.usd <= policy.max_cost_usd * (1 + 1e-6)


def _peak(slot: Reservation, busy: tuple[Reservation, ...]) -> int:
    """Most slots of the pool taken at once while this one is held, itself included."""
    edges = [slot.start] + [other.start for other in busy if slot.start <= other.start < slot.end]
    return 1 + max(
        sum(other.pool == slot.pool and other.start <= edge < other.end for other in busy)
        for edge in edges
    )


@given(se=levels, us=levels, de=levels, rows=busy_slots)
def test_no_start_of_a_fine_grid_is_better(
    se: list[float], us: list[float], de: list[float], rows: list[tuple[str, int, int]]
) -> None:
    """The choice is at least as good as the best of all starts on a five-minute grid."""
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
        grams = np.where(chain.free(grid, busy), chain.grams(grid), np.inf)
        assert decision.chosen.g <= np.nanmin(grams) * (1 + 1e-6)


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
    pools = tuple(pool for pool in FLEET.pools if pool.name != "eu-central-1-gpu")
    asked = request(
        outlook(DE=[], SE_SE3=[], US_NW_PACW=[]),
        workload=JOB.model_copy(update={"stages": (LIGHT, slow_at_home)}),
        fleet=FLEET.model_copy(update={"pools": pools}),
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
