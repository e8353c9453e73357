"""Random instances of the whole model, for all properties of the planner."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from carbon import (
    CarbonPolicy,
    Fleet,
    IntensitySeries,
    Kind,
    Outlook,
    PriceSeries,
    Request,
    Reservation,
    Workload,
)
from tests.carbon.brute import Brute

FIVE = timedelta(minutes=5)
HOUR = timedelta(hours=1)
HOME = "aws:eu-central-1"
PLACES = {
    HOME: "DE",
    "aws:eu-north-1": "SE-SE3",
    "aws:us-west-2": "US-NW-PACW",
    "aws:eu-west-2": "GB",
}
RESIDENCY = {
    "public": ["*"],
    "internal": ["EU", "US"],
    "personal": ["EU"],
    "payment": ["EU", "GB"],
    "british": ["GB"],
    "nowhere": [],
}
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
MOMENTS = [
    datetime.fromisoformat(text).replace(tzinfo=UTC)
    for text in (
        "2026-06-10T06:00",
        "2026-03-28T18:00",  # the night before summer time in Europe
        "2026-10-24T18:00",  # and before it ends
        "2026-03-08T01:35",  # the same in the United States
        "2026-10-31T22:00",
        "2026-04-04T10:00",  # the end of it on Lord Howe, where it is half an hour
        "2026-10-03T10:00",
        "2026-12-31T13:25",  # New Year
        "2028-02-28T17:00",  # a leap day
        "2027-02-28T17:00",
    )
]
"""Moments around which the clocks do something, and one on which they do not."""

moments = st.builds(
    lambda at, more: at + FIVE * more, st.sampled_from(MOMENTS), st.integers(0, 12 * 8)
)
lengths = st.integers(1, 18).map(lambda count: FIVE * count)
hour_of_day = st.tuples(st.integers(0, 23), st.sampled_from([0, 30])).map(
    lambda pair: f"{pair[0]:02}:{pair[1]:02}"
)


def bands(name: str, values: st.SearchStrategy[float]) -> st.SearchStrategy[list[object]]:
    """Draw hours of the week at which something else holds."""
    band = st.fixed_dictionaries(
        {
            "days": st.sampled_from(["mon-sun", "mon-fri", "sat, sun", "fri-mon", "sun"]),
            "from": hour_of_day,
            "to": hour_of_day,
            name: values,
        }
    )
    return st.lists(band, max_size=2)


@st.composite
def pools(draw: st.DrawFn, region: str, hardware: str, name: str) -> dict[str, object]:
    """Draw a pool; electricity is included, by contract, or at the market's price."""
    capacity = draw(st.integers(1, 2))
    pool: dict[str, object] = {
        "name": name,
        "region": region,
        "hardware": hardware,
        "capacity": capacity,
        "watts": draw(st.sampled_from([50.0, 300.0, 3000.0])),
        "usd_per_hour": draw(st.sampled_from([0.0, 0.5, 1.0, 1.05, 4.0])),
        "startup": FIVE * draw(st.integers(0, 2)),
        "timezone": draw(st.sampled_from(ZONES)),
        "embodied_g_per_hour": draw(st.sampled_from([0.0, 0.0, 200.0])),
        "hours": draw(st.one_of(st.just([]), bands("capacity", st.integers(0, capacity)))),
    }
    paid = draw(st.sampled_from(["included"] * 4 + ["contract", "contract", "market"]))
    if paid == "contract":
        pool["usd_per_kwh"] = draw(st.sampled_from([0.0, 0.2, 2.0]))
        pool["tariff"] = draw(bands("usd_per_kwh", st.sampled_from([0.0, 0.1, 1.0])))
    pool["billed_energy"] = paid == "market"
    return pool


@st.composite
def fleets(draw: st.DrawFn, now: datetime) -> Fleet:
    """Draw a fleet with what the home region must have, and more."""
    rows = [draw(pools(HOME, "cpu", "home-cpu")), draw(pools(HOME, "gpu", "home-gpu"))]
    more = [
        ("aws:eu-north-1", "gpu", "north-gpu"),
        ("aws:us-west-2", "gpu", "west-gpu"),
        ("aws:eu-west-2", "gpu", "london-gpu"),
        (HOME, "cpu", "home-cpu-heavy"),
        ("aws:eu-north-1", "cpu", "north-cpu"),
    ]
    for region, hardware, name in draw(st.permutations(more))[: draw(st.integers(0, 5))]:
        rows.append(draw(pools(region, hardware, name)))
    names = [str(row["name"]) for row in rows]
    sales = st.builds(
        lambda begin, count, where: {
            "name": "sale",
            "start": now + FIVE * begin,
            "end": now + FIVE * (begin + count),
            "pools": where,
        },
        st.integers(-24, 200),
        st.integers(1, 100),
        st.lists(st.sampled_from(names), unique=True),
    )
    return Fleet.model_validate(
        {
            "home": HOME,
            "residency": RESIDENCY,
            "pools": rows,
            "usd_per": draw(st.sampled_from([{"EUR": 1.1}] * 5 + [{}])),
            "blackouts": draw(st.lists(sales, max_size=1)),
        }
    )


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Draw a chain of one to three stages, light and heavy."""
    stages = []
    for place in range(draw(st.integers(1, 3))):
        heavy = draw(st.booleans())
        kinds = draw(st.sampled_from([["gpu"], ["gpu"], ["gpu", "cpu"]])) if heavy else ["cpu"]
        needs = {}
        for kind in kinds:
            p50 = draw(lengths)
            own = draw(st.sampled_from([None, None, 0.7]))
            needs[kind] = {"p50": p50, "p95": p50 + FIVE * draw(st.integers(0, 6)), "kwh": own}
        stages.append(
            {
                "name": f"stage-{place}",
                "heavy": heavy,
                "needs": needs,
                "data_in_gb": draw(st.sampled_from([0.0, 2.0, 50.0])) if heavy else 0.0,
                "data_out_gb": draw(st.sampled_from([0.0, 0.5])) if heavy else 0.0,
            }
        )
    return Workload.model_validate(
        {
            "name": "job",
            "stages": stages,
            "data_class": draw(classes),
            "urgency": draw(st.sampled_from(["deferrable"] * 18 + ["urgent", "interactive"])),
        }
    )


@st.composite
def policies(draw: st.DrawFn) -> CarbonPolicy:
    """Draw a policy of any strategy, with a deadline as a length or as a time of the clock."""
    strategy = draw(st.sampled_from(["cleanest"] * 5 + ["cheapest"] * 4 + ["run_now"]))
    ceiling = st.sampled_from([20.0, 50.0, 300.0, 600.0])
    regions = st.lists(st.sampled_from([*PLACES, HOME]), min_size=1, unique=True)
    finish = st.one_of(
        st.integers(3, 24 * 12).map(lambda count: f"{5 * count}m"),
        st.sampled_from(["6h", "12h", "1d 6h"]),
        st.builds(
            lambda at, zone: f"{at} {zone}",
            st.one_of(hour_of_day, st.just("02:30")),
            st.sampled_from(ZONES),
        ),
    )
    return CarbonPolicy.model_validate(
        {
            "strategy": strategy,
            "finish_by": draw(finish),
            "cost_tolerance_percent": draw(st.sampled_from([0.0, 10.0, 1000.0])),
            "max_cost_usd": draw(st.sampled_from([None, None, 0.5, 1.0, 3.0])),
            "max_g_per_kwh": draw(ceiling if strategy == "cheapest" else st.none() | ceiling),
            "min_saving_percent": draw(st.sampled_from([None, None, 20.0, 90.0])),
            "freshness_g_per_hour": draw(st.sampled_from([0.0, 0.0, 5.0])),
            "freshness_usd_per_hour": draw(st.sampled_from([0.0, 0.0, 0.1])),
            "only_regions": draw(st.one_of(*[st.none()] * 4, regions)),
        }
    )


classes = st.sampled_from(["public"] * 8 + ["internal"] * 4 + ["personal"] * 4 + [*RESIDENCY])
level = st.one_of(st.floats(1, 900), st.integers(1, 6).map(lambda one: one * 100.0))
price = st.one_of(st.floats(-500, 500), st.integers(-2, 4).map(lambda one: one * 50.0))


@st.composite
def outlooks(draw: st.DrawFn, now: datetime, end: datetime) -> Outlook:
    """Draw an outlook of one family: zones without signal, gaps, short horizons, all prices."""
    intensity: dict[str, IntensitySeries] = {}
    prices: dict[str, PriceSeries] = {}
    missing: dict[str, str] = {}
    for zone in PLACES.values():
        if draw(st.integers(0, 30 if zone == "DE" else 8)) == 1:
            missing[zone] = f"nobody knows {zone}"
            continue
        step = timedelta(minutes=draw(st.sampled_from([60, 60, 30])))
        whole = -((now - end) // step) + 2
        count = max(1, whole // 2) if draw(st.integers(0, 8)) == 1 else whole
        row = draw(st.lists(level, min_size=1, max_size=14))
        if draw(st.integers(0, 6)) == 1:
            row += [None, *draw(st.lists(level, max_size=4))]
        first = now - timedelta(minutes=now.minute % 30)
        starts = [first + step * place for place in range(count)]
        values = [row[place % len(row)] for place in range(count)]
        intensity[zone] = IntensitySeries(
            zone, starts, first + step * count, values, "drawn", kind=Kind.FORECAST
        )
        if draw(st.integers(0, 4)):
            row = draw(st.lists(price, min_size=1, max_size=14))
            if draw(st.integers(0, 6)) == 1:
                row += [None, *draw(st.lists(price, max_size=4))]
            prices[zone] = PriceSeries(
                zone,
                starts,
                first + step * count,
                [row[place % len(row)] for place in range(count)],
                "drawn",
                kind=Kind.FORECAST,
                currency=draw(st.sampled_from(["EUR", "USD"])),
            )
    return Outlook(now, end, intensity, prices, missing)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Draw a request of the whole model, on a grid of five minutes."""
    now = draw(moments)
    fleet, policy = draw(fleets(now)), draw(policies())
    release = now + FIVE * draw(st.integers(1, 40)) if draw(st.integers(0, 3)) == 0 else None
    deadline = policy.deadline(release or now)
    running = draw(st.sampled_from([False, False, True]))
    slots = st.builds(
        lambda pool, begin, count: Reservation(
            pool=pool, start=now + FIVE * begin, end=now + FIVE * (begin + count)
        ),
        st.sampled_from([pool.name for pool in fleet.pools]),
        st.integers(-24, 150),
        st.integers(1, 80),
    )
    request = Request(
        workload=draw(workloads()),
        policy=policy,
        fleet=fleet,
        outlook=draw(outlooks(now, max(deadline, release or now) + HOUR)),
        now=now,
        deadline=deadline,
        release=release,
        busy=tuple(draw(st.lists(slots, max_size=5))),
        data_class=draw(st.one_of(st.none(), st.none(), classes)),
        may_wait=draw(st.sampled_from([True] * 5 + [False])),
        running=running,
    )
    return draw(st.sampled_from([request, bound(draw, request)]))


def bound(draw: st.DrawFn, request: Request) -> Request:
    """Return a request with limits that some placement just keeps, so that they bind."""
    brute = Brute(request)
    places = draw(st.lists(st.integers(0, 10_000), min_size=2, max_size=2))
    if not brute.every or request.policy.strategy == "run_now":
        return request
    placed = brute.every[places[0] % len(brute.every)]
    start = places[1] % len(placed.grams)
    usd, grams = float(placed.usd[start]), float(placed.grams[start])
    if not math.isfinite(grams + usd):
        return request
    changes: dict[str, float | None] = {}
    wanted = draw(st.sets(st.sampled_from(["usd", "g_per_kwh", "saving"]), min_size=1))
    if "usd" in wanted and usd > 0:
        changes["max_cost_usd"] = usd * 1.0005
        changes["cost_tolerance_percent"] = 1000.0
    if "g_per_kwh" in wanted:
        changes["max_g_per_kwh"] = float(placed.g_per_kwh[start]) * 1.0005
    if "saving" in wanted and brute.baseline[0] > 0:
        changes["min_saving_percent"] = max(0.0, 99.95 - 100 * grams / brute.baseline[0])
    return replace(request, policy=request.policy.model_copy(update=changes))


def one_gpu_each(
    places: Mapping[str, str], watts: Sequence[float], startup: timedelta, usd_per_hour: float
) -> Fleet:
    """Return a fleet with a CPU pool at home and a GPU pool in each place, one run at a time.

    Args:
        places: Zone to region, home first; a GPU pool is named like its zone.
        watts: Of the GPU pool in each place.
        startup: Of each pool.
        usd_per_hour: Of each GPU pool.
    """
    home, *_ = places.values()
    shared = {"capacity": 1, "startup": startup}
    gpus = [
        {"name": zone.lower(), "region": place, "hardware": "gpu", "watts": power}
        | {"usd_per_hour": usd_per_hour, **shared}
        for (zone, place), power in zip(places.items(), watts, strict=True)
    ]
    cpu = {"name": "home-cpu", "region": home, "hardware": "cpu", "watts": 200}
    pools = [{**cpu, "usd_per_hour": 0.1, **shared}, *gpus]
    return Fleet.model_validate({"home": home, "residency": {"public": ["*"]}, "pools": pools})
