"""Fleet plans: each request as if planned alone, all of them within capacity, and close to best."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon import (
    BadInput,
    CarbonPolicy,
    Fleet,
    IntensitySeries,
    Kind,
    Need,
    Option,
    Outlook,
    Pool,
    Request,
    Reservation,
    ResidencyError,
    Stage,
    Urgency,
    Workload,
    plan,
)
from carbon._series import regular
from carbon.fleet_plan import FleetPlan, plan_fleet

NOW = datetime(2026, 10, 24, 12, tzinfo=UTC)  # Europe's clocks go back the night after
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
PLACES = {"DE": "aws:eu-central-1", "SE-SE3": "aws:eu-north-1", "US-NW-PACW": "aws:us-west-2"}


def make_fleet(capacity: int, home: int = 100) -> Fleet:
    """Return three regions with a GPU pool each, and a CPU pool at home."""
    pools = [
        Pool(
            name="home-cpu",
            region=PLACES["DE"],
            hardware="cpu",
            capacity=home,
            watts=20,
            usd_per_hour=0.1,
        ),
        *(
            Pool(
                name=f"gpu-{zone.lower()}",
                region=place,
                hardware="gpu",
                capacity=capacity,
                watts=300,
                usd_per_hour=1.0,
            )
            for zone, place in PLACES.items()
        ),
    ]
    rules = {"public": ("*",), "personal": ("EU",)}
    return Fleet(home=PLACES["DE"], residency=rules, pools=tuple(pools))


def outlook(seed: int = 1, hours: int = 60) -> Outlook:
    """Return grids with a day and some weather."""
    chance = np.random.default_rng(seed)
    starts, end = regular(NOW, HOUR, hours)
    clock = np.arange(hours)
    found = {}
    for zone, level in (("DE", 350.0), ("SE-SE3", 30.0), ("US-NW-PACW", 200.0)):
        day = 1 + 0.4 * np.sin(clock / 24 * 2 * np.pi) + 0.1 * chance.random(hours)
        found[zone] = IntensitySeries(
            zone, starts, end, (level * day).tolist(), "x", kind=Kind.FORECAST
        )
    return Outlook(NOW, NOW + HOUR * hours, found, {}, {})


def request(
    fleet: Fleet, view: Outlook, minutes: int = 60, slack: int = 24, **more: object
) -> Request:
    """Return a request for one heavy stage after a light one."""
    run = minutes * MINUTE
    data_class = str(more.pop("data_class", "public"))
    workload = Workload(
        name="job",
        data_class=data_class,
        stages=(
            Stage(name="read", needs={"cpu": Need(p50=3 * MINUTE, p95=5 * MINUTE)}),
            Stage(name="train", heavy=True, needs={"gpu": Need(p50=run, p95=run * 1.5)}),
        ),
    )
    given = {
        "workload": workload,
        "policy": CarbonPolicy(cost_tolerance_percent=1000),
        "fleet": fleet,
        "outlook": view,
        "now": NOW,
        "deadline": NOW + slack * HOUR,
    } | more
    return Request(**given)  # type: ignore[arg-type]


def peaks(options: tuple[Option, ...], busy: tuple[Reservation, ...] = ()) -> dict[str, int]:
    """Return how many slots of each pool are held at a time at most."""
    slots = [*busy, *(slot for option in options for slot in option.slots)]
    return {
        name: max(
            sum(o.pool == name and o.start <= s.start < o.end for o in slots)
            for s in slots
            if s.pool == name
        )
        for name in {slot.pool for slot in slots}
    }


def one_by_one(requests: list[Request]) -> list[Option]:
    """Plan each request around those before it."""
    held: tuple[Reservation, ...] = ()
    found = []
    for one in requests:
        found.append(plan(replace(one, busy=(*one.busy, *held))).chosen)
        held += found[-1].slots
    return found


def test_a_request_alone_gets_what_the_planner_gives_it() -> None:
    """Up to the length of a step."""
    view, fleet = outlook(), make_fleet(2)
    asked = request(fleet, view)
    found = plan_fleet([asked])
    best = plan(asked).chosen
    assert found.options[0].main.pool == best.main.pool
    assert found.options[0].g == pytest.approx(best.g, rel=0.02)
    assert found.queued == ()


def test_many_want_the_same_window_and_share_it_well() -> None:
    """Within capacity, better than first come, first served, and close to the bound."""
    fleet, view = make_fleet(2), outlook()
    requests = [
        request(fleet, view, minutes=30 + 17 * k % 90, slack=12 + k % 24) for k in range(80)
    ]
    found = plan_fleet(requests)
    assert found.queued == ()
    for name, peak in peaks(found.options).items():
        assert peak <= fleet.pool(name).capacity
    first_come = sum(option.g or 0 for option in one_by_one(requests))
    assert found.g is not None
    assert found.g < first_come
    assert 0 <= found.gap < 0.05


def test_entry_runs_need_slots_at_home_too() -> None:
    """The home pool is never over capacity either."""
    fleet, view = make_fleet(8, home=3), outlook()
    found = plan_fleet([request(fleet, view, minutes=60) for _ in range(24)])
    for name, peak in peaks(found.options).items():
        assert peak <= fleet.pool(name).capacity
    assert found.queued == ()


def test_what_is_fixed_keeps_its_place_and_the_rest_goes_around_it() -> None:
    """Interactive work starts at once at home, and holds its slot."""
    fleet, view = make_fleet(1), outlook()
    fixed = request(fleet, view)
    fixed = replace(
        fixed, workload=fixed.workload.model_copy(update={"urgency": Urgency.INTERACTIVE})
    )
    requests = [request(fleet, view, minutes=40) for _ in range(6)] + [fixed]
    found = plan_fleet(requests)
    assert (found.options[-1].start, found.options[-1].main.pool) == (NOW, "gpu-de")
    assert 6 in found.alone
    for name, peak in peaks(found.options).items():
        assert peak <= fleet.pool(name).capacity


def test_what_does_not_fit_queues_and_is_named() -> None:
    """Forty hours of work into two pools of one slot and a day: some start at once and queue."""
    fleet, view = make_fleet(1), outlook()
    found = plan_fleet(
        [request(fleet, view, minutes=300, slack=14, data_class="personal") for _ in range(12)]
    )
    assert found.queued
    assert len(found.options) == 12


def test_requests_of_two_worlds_do_not_go_together() -> None:
    """One fleet, one outlook, one present; the message names what differs."""
    fleet = make_fleet(1)
    one = request(fleet, outlook())
    for other in (
        request(fleet, outlook(2)),
        request(make_fleet(2), one.outlook),
        replace(one, now=NOW + HOUR),
    ):
        with pytest.raises(BadInput, match=r"requests\[1\]"):
            plan_fleet([one, other])
    with pytest.raises(BadInput, match="step"):
        plan_fleet([one], step=timedelta(0))
    assert plan_fleet([]) == FleetPlan((), (), (), 0.0, 0.0)


def test_residency_is_no_wish() -> None:
    """A request that may run nowhere is an error, not a queue."""
    fleet = make_fleet(1)
    nowhere = fleet.model_copy(update={"residency": {**fleet.residency, "moon": ("JP",)}})
    view = outlook()
    with pytest.raises((ResidencyError, BadInput)):
        plan_fleet([request(nowhere, view), request(nowhere, view, data_class="moon")])


wanted = st.lists(
    st.tuples(
        st.integers(5, 200),
        st.integers(1, 40),
        st.sampled_from(["public", "personal"]),
        st.sampled_from([None, 50.0, 300.0]),
    ),
    min_size=1,
    max_size=14,
)
held = st.lists(
    st.tuples(st.sampled_from(["home-cpu", "gpu-se-se3"]), st.integers(0, 20), st.integers(1, 8)),
    max_size=4,
)


def keeps_every_promise(
    rows: list[tuple[int, int, str, float | None]],
    taken: list[tuple[str, int, int]],
    capacity: int,
    home: int,
) -> None:
    """Plan a fleet and check residency, release, capacity and the bound."""
    fleet, view = make_fleet(capacity, home), outlook()
    busy = tuple(
        Reservation(pool=pool, start=NOW + b * HOUR, end=NOW + (b + n) * HOUR)
        for pool, b, n in taken
    )
    requests = [
        request(
            fleet,
            view,
            minutes,
            slack,
            data_class=data_class,
            busy=busy,
            policy=CarbonPolicy(cost_tolerance_percent=1000, max_g_per_kwh=ceiling),
        )
        for minutes, slack, data_class, ceiling in rows
    ]
    found = plan_fleet(requests)
    kept = tuple(o for place, o in enumerate(found.options) if place not in found.queued)
    mine = {slot.pool for option in kept for slot in option.slots}
    for name, peak in peaks(kept, busy).items():
        alone = peaks((), busy).get(name, 0)
        assert name not in mine or peak <= max(alone, fleet.pool(name).capacity)
    for option, asked in zip(found.options, requests, strict=True):
        assert option.start >= NOW
        if asked.workload.data_class == "personal":
            assert all(fleet.pool(p.pool).place.jurisdiction == "EU" for p in option.placements)
    assert found.bound_g <= found.packed_g + 1e-6


@given(wanted, held, st.integers(1, 3), st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_promises(
    rows: list[tuple[int, int, str, float | None]],
    taken: list[tuple[str, int, int]],
    capacity: int,
    home: int,
) -> None:
    """Whatever is wanted and taken."""
    keeps_every_promise(rows, taken, capacity, home)


@pytest.mark.slow
@given(wanted, held, st.integers(1, 3), st.integers(2, 6))
@settings(max_examples=2000, deadline=None)
def test_promises_often(
    rows: list[tuple[int, int, str, float | None]],
    taken: list[tuple[str, int, int]],
    capacity: int,
    home: int,
) -> None:
    """The same, often."""
    keeps_every_promise(rows, taken, capacity, home)
