"""Chains: the joint plan of light, heavy, light is the best there is, and never below piecemeal."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from carbon import (
    CarbonPolicy,
    Fleet,
    Hardware,
    IntensitySeries,
    Kind,
    Need,
    Outlook,
    Request,
    Reservation,
    Rule,
    Stage,
    Workload,
    plan,
)
from carbon._candidates import Limits
from carbon._evaluation import evaluate
from carbon._permitted import Refusals
from tests.carbon.instances import one_gpu_each

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FIVE = timedelta(minutes=5)
HOUR = timedelta(hours=1)
HOURS = 10
HOME = "DE"
PLACES = {HOME: "aws:eu-central-1", "SE-SE3": "aws:eu-north-1", "US-NW-PACW": "aws:us-west-2"}
KWH_PER_GB = 0.001
ENDLESS = Limits(math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class Case:
    """A chain of three stages; all lengths are multiples of five minutes.

    Attributes:
        levels: Hourly intensity by zone; ``None`` where it is not known.
        p50: Run times of the three stages, in fives of minutes.
        more: By how much their p95 is longer.
        startup: Start-up of each pool.
        watts: Of the heavy pool in each zone.
        data_gb: What the heavy stage carries there and back.
        slack: From now to the deadline.
        busy: Slots that are taken: pool, first, count.
    """

    levels: dict[str, list[float | None]]
    p50: tuple[int, int, int]
    more: tuple[int, int, int]
    startup: int
    watts: tuple[int, int, int]
    data_gb: float
    slack: int
    busy: tuple[tuple[str, int, int], ...]

    @property
    def request(self) -> Request:
        """What the planner is asked; cost is no limit."""
        names = ("prepare", "train", "publish")
        needs = [
            Need(p50=FIVE * length, p95=FIVE * (length + more))
            for length, more in zip(self.p50, self.more, strict=True)
        ]
        stages = tuple(
            Stage(
                name=name,
                heavy=name == "train",
                needs={Hardware.GPU if name == "train" else Hardware.CPU: need},
                data_in_gb=self.data_gb if name == "train" else 0,
                data_out_gb=self.data_gb if name == "train" else 0,
            )
            for name, need in zip(names, needs, strict=True)
        )
        series = {
            zone: IntensitySeries(
                zone,
                [NOW + HOUR * place for place in range(HOURS)],
                NOW + HOUR * HOURS,
                row,
                "test",
                kind=Kind.FORECAST,
            )
            for zone, row in self.levels.items()
        }
        return Request(
            workload=Workload(name="job", stages=stages, data_class="public"),
            policy=CarbonPolicy(cost_tolerance_percent=1000),
            fleet=self.fleet,
            outlook=Outlook(NOW, NOW + HOUR * HOURS, series, {}, {}),
            now=NOW,
            deadline=NOW + FIVE * self.slack,
            busy=tuple(
                Reservation(pool=pool, start=NOW + FIVE * at, end=NOW + FIVE * (at + count))
                for pool, at, count in self.busy
            ),
        )

    @cached_property
    def fleet(self) -> Fleet:
        """A CPU pool at home and a GPU pool in each place, so dear that no transfer counts."""
        return one_gpu_each(PLACES, self.watts, FIVE * self.startup, 100.0)

    # The same, once more, by counting

    def kwh(self, stage: int, zone: str) -> float:
        """Return the energy of a stage, PUE included."""
        fleet = self.fleet
        pool = fleet.pool(zone.lower()) if stage == 1 else fleet.home_cpu
        return pool.watts / 1000 * (self.p50[stage] / 12) * pool.place.pue.value

    def mean(self, zone: str, begin: int, length: int) -> float:
        """Return the mean intensity of a window, not a number where it is not known."""
        fives = range(begin, begin + length)
        if fives.stop > HOURS * 12:
            return math.nan
        known = [self.levels[zone][five // 12] for five in fives]
        return math.nan if None in known else sum(filter(None, known)) / length

    def begins(self, start: int) -> tuple[int, int, int]:
        """Return when the code of each stage begins."""
        first = start + self.startup
        second = first + self.p50[0] + self.startup
        return first, second, second + self.p50[1]

    def parts(self, start: int, zone: str) -> tuple[float, float, float]:
        """Return the grams of each stage."""
        carried = 2 * self.data_gb * KWH_PER_GB if zone != HOME else 0.0
        found = []
        for stage, begin in enumerate(self.begins(start)):
            at = zone if stage == 1 else HOME
            extra = carried / 2 if stage == 1 else 0.0
            grams = (self.kwh(stage, zone) + extra) * self.mean(at, begin, self.p50[stage])
            if extra:
                grams += extra * self.mean(HOME, begin, self.p50[stage])
            found.append(grams)
        return found[0], found[1], found[2]

    def feasible(self, start: int, zone: str) -> bool:
        """Tell whether it is over in time after one retry, and has its slots all along."""
        p95 = [length + more for length, more in zip(self.p50, self.more, strict=True)]
        over = start + 2 * self.startup + sum(p95)
        retry = max(p95[0], p95[1] + self.startup, p95[2])
        due = start + self.startup + self.p50[0]
        late = start + 2 * self.startup + p95[0] + p95[1]
        slots = ((zone.lower(), due, late), ("home-cpu", start, over))
        return over + retry <= self.slack and not any(
            pool == taken and begin < at + count and at < end
            for pool, begin, end in slots
            for taken, at, count in self.busy
        )

    def every(self) -> dict[tuple[int, str], tuple[float, float, float]]:
        """Return the grams of each stage by start and place, for all that is possible and known."""
        return {
            (start, zone): parts
            for start in range(self.slack)
            for zone in PLACES
            if self.feasible(start, zone) and not math.isnan(sum(parts := self.parts(start, zone)))
        }

    def piecemeal(self) -> float:
        """Return the grams when each stage is planned by itself, the first one first."""
        every = self.every()
        start = min(every, key=lambda key: (every[key][0], key[0]))[0]
        zone = min(PLACES, key=lambda at: every.get((start, at), (0, math.inf))[1])
        return sum(every[start, zone])


level = st.one_of(st.floats(1, 900), st.integers(1, 5).map(lambda one: one * 100.0))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Small chains, on grids with a gap now and then."""
    row = st.lists(st.one_of(*[level] * 15, st.none()), min_size=HOURS, max_size=HOURS)
    pools = ["home-cpu", *(zone.lower() for zone in PLACES)]
    return Case(
        levels={zone: draw(row) for zone in PLACES},
        p50=draw(st.tuples(*[st.integers(1, 18)] * 3)),
        more=draw(st.tuples(*[st.integers(0, 4)] * 3)),
        startup=draw(st.integers(0, 3)),
        watts=draw(st.tuples(*[st.sampled_from([50, 300, 3000])] * 3)),
        data_gb=draw(st.sampled_from([0.0, 5.0, 50.0])),
        slack=draw(st.integers(10, HOURS * 12)),
        busy=tuple(
            draw(
                st.lists(
                    st.tuples(st.sampled_from(pools), st.integers(0, 100), st.integers(1, 30)),
                    max_size=3,
                )
            )
        ),
    )


def check(case: Case) -> None:
    """The best of all sets is that of brute force; what is chosen is at most one per cent off."""
    request, every = case.request, case.every()
    chains = [
        request.chain((request.fleet.home_cpu, pool, request.fleet.home_cpu))
        for pool in request.fleet.pools[1:]
    ]
    table = evaluate(request, chains, ENDLESS, Refusals())
    mask = None if table is None else table.mask((Rule.DEADLINE, Rule.CAPACITY))
    entry = None if table is None or mask is None else table.best(mask, by_cost=False)
    assert (entry is not None) == bool(every)
    if not every:
        return
    best = min(map(sum, every.values()))
    assert table is not None
    assert table.grams[entry] == pytest.approx(best, rel=1e-9)
    assert best <= case.piecemeal() * (1 + 1e-9)
    decision = plan(request)
    if decision.baseline.g is None:
        assert (decision.rule, decision.chosen.start) == (Rule.SIGNAL, NOW)
        return
    assert not decision.breaches
    assert best * (1 - 1e-9) <= decision.chosen.g <= best * (1.01 + 1e-9)
    assert decision.chosen.g <= case.piecemeal() * (1.01 + 1e-9)


@given(case=cases())
@settings(max_examples=100, deadline=None)
def test_the_joint_plan_equals_brute_force(case: Case) -> None:
    """Over pools and starts five minutes apart nothing is better, planned stage by stage or not."""
    check(case)


@pytest.mark.long
@given(case=cases())
@settings(max_examples=2000, deadline=None)
def test_the_joint_plan_equals_brute_force_always(case: Case) -> None:
    """The same, on many."""
    check(case)


def test_the_joint_plan_beats_stage_by_stage() -> None:
    """A small light stage that takes its own best hour drags the heavy one into a bad one."""
    low, high = [100.0] + [400.0] * 9, [500.0] * 5 + [50.0] * 5
    case = Case(
        levels={HOME: low, "SE-SE3": high, "US-NW-PACW": [600.0] * HOURS},
        p50=(9, 24, 2),
        more=(0, 0, 0),
        startup=0,
        watts=(300, 300, 300),
        data_gb=0.0,
        slack=HOURS * 12,
        busy=(),
    )
    decision = plan(case.request)
    assert decision.chosen.main.zone == "SE-SE3"
    assert decision.chosen.start >= NOW + 4 * HOUR
    assert decision.chosen.g < 0.9 * case.piecemeal()
    check(case)


@given(case=cases(), later=st.integers(1, 24))
@settings(max_examples=50, deadline=None)
def test_more_slack_is_never_worse(case: Case, later: int) -> None:
    """A later deadline leaves every placement that there was; only a per cent is not waited for."""
    assume(case.every())
    before, after = (plan(one.request) for one in (case, replace(case, slack=case.slack + later)))
    assume(before.baseline.g is not None)
    assert before.chosen.g is not None
    assert after.chosen.g is not None
    assert after.chosen.g <= before.chosen.g * 1.01 + 1e-9
