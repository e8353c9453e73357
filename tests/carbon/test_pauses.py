"""Chains that pause: as good as trying every split, within every limit, and only where it pays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from carbon import (
    CarbonPolicy,
    Decision,
    Fleet,
    Hardware,
    IntensitySeries,
    Interruptible,
    Kind,
    Need,
    Outlook,
    Placement,
    PriceSeries,
    Request,
    Reservation,
    Rule,
    Stage,
    Strategy,
    Workload,
    plan,
)
from carbon._candidates import LIMITS, Limits
from carbon._evaluation import evaluate
from carbon._permitted import Refusals
from tests.carbon.instances import one_gpu_each

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HALF = timedelta(minutes=30)
HOUR = timedelta(hours=1)
UNITS = 18
HOME = "DE"
PLACES = {HOME: "aws:eu-central-1", "SE-SE3": "aws:eu-north-1"}
ENDLESS = Limits(math.inf, math.inf, math.inf)

Runs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Case:
    """Light, heavy, light, of which the heavy stage may pause; all lengths are half hours.

    Attributes:
        levels: Hourly intensity by zone; ``None`` where it is not known.
        work: Run time of the heavy stage; the light ones take a half hour each.
        more: By how much the p95 of the first two stages is longer.
        startup: Start-up of each pool.
        least: Least length of a segment.
        restart: What a restart takes.
        slack: From now to the deadline.
        busy: Slots that are taken: pool, first, count.
        may_wait: Whether the start is open.
    """

    levels: Mapping[str, Sequence[float | None]]
    work: int
    more: tuple[int, int]
    startup: int
    least: int
    restart: int
    slack: int
    busy: tuple[tuple[str, int, int], ...] = ()
    may_wait: bool = True

    @cached_property
    def fleet(self) -> Fleet:
        """A CPU pool at home and a GPU pool in each place."""
        return one_gpu_each(PLACES, [1000.0] * len(PLACES), HALF * self.startup, 10.0)

    @property
    def request(self) -> Request:
        """What the planner is asked; cost is no limit."""
        lights = Need(p50=HALF, p95=HALF * (1 + self.more[0])), Need(p50=HALF, p95=HALF)
        heavy = Stage(
            name="train",
            heavy=True,
            needs={Hardware.GPU: Need(p50=HALF * self.work, p95=HALF * (self.work + self.more[1]))},
            interruptible=Interruptible(HALF * self.least, HALF * self.restart),
        )
        first, last = (
            Stage(name=name, needs={Hardware.CPU: need})
            for name, need in zip(("prepare", "publish"), lights, strict=True)
        )
        return Request(
            workload=Workload(name="job", stages=(first, heavy, last), data_class="public"),
            policy=CarbonPolicy(cost_tolerance_percent=1000),
            fleet=self.fleet,
            outlook=Outlook(NOW, NOW + HALF * UNITS, self.series, {}, {}),
            now=NOW,
            deadline=NOW + HALF * self.slack,
            busy=tuple(
                Reservation(pool=pool, start=NOW + HALF * at, end=NOW + HALF * (at + count))
                for pool, at, count in self.busy
            ),
            may_wait=self.may_wait,
        )

    @property
    def series(self) -> dict[str, IntensitySeries]:
        """The grid."""
        return {
            zone: IntensitySeries(
                zone,
                [NOW + HOUR * place for place in range(len(row))],
                NOW + HOUR * len(row),
                row,
                "test",
                kind=Kind.FORECAST,
            )
            for zone, row in self.levels.items()
        }

    # The same, once more, by trying everything

    def splits(self, begin: int, work: int) -> Iterator[Runs]:
        """Yield each way to run so long from a half hour on."""
        for length in range(min(self.least, work), work + 1):
            end, left = begin + length, work - length
            if not left:
                yield ((begin, end),)
            elif left >= self.least:
                for again in range(end + max(1, self.restart), self.slack):
                    for rest in self.splits(again, left):
                        yield ((begin, end), *rest)

    def grams(self, start: int, zone: str, runs: Runs) -> float:
        """Return the emissions; not a number where the grid is not known."""
        pue = {at: self.fleet.pool(at.lower()).place.pue.value for at in PLACES}
        found = 0.0
        for begin, end in ((start + self.startup, start + self.startup + 1),):
            found += 0.1 * pue[HOME] * self.mean(HOME, begin, end)
        for number, (begin, end) in enumerate(runs):
            whence = begin - self.restart if number else begin
            found += (end - whence) / 2 * pue[zone] * self.mean(zone, whence, end)
        return found + 0.1 * pue[HOME] * self.mean(HOME, runs[-1][1], runs[-1][1] + 1)

    def mean(self, zone: str, begin: int, end: int) -> float:
        """Return the mean intensity of a window."""
        if end > UNITS:
            return math.nan
        known = [self.levels[zone][unit // 2] for unit in range(begin, end)]
        return math.nan if None in known else sum(filter(None, known)) / (end - begin)

    def feasible(self, start: int, zone: str, runs: Runs) -> bool:
        """Tell whether it is over in time after one retry, and has its slots all along."""
        late, end = sum(self.more), runs[-1][1]
        over = end + 1 + late
        retry = max(1 + self.more[0], self.startup + self.work + self.more[1])
        slots = [("home-cpu", start, over)]
        for number, (begin, stop) in enumerate(runs):
            due = begin - (self.restart if number else self.startup)
            slots.append((zone.lower(), due, stop + (late if stop == end else 0)))
        return over + retry <= self.slack and not any(
            pool == taken and begin < at + count and at < end
            for pool, begin, end in slots
            for taken, at, count in self.busy
        )

    def least_grams(self, *, whole: bool) -> float:
        """Return the least emissions of all whole runs, or of all that pause."""
        return min(
            (
                grams
                for start in range(self.slack if self.may_wait else 1)
                for runs in self.splits(start + 2 * self.startup + 1, self.work)
                if (len(runs) == 1) == whole
                for zone in PLACES
                if self.feasible(start, zone, runs)
                and not math.isnan(grams := self.grams(start, zone, runs))
            ),
            default=math.inf,
        )


level = st.one_of(st.floats(1, 900), st.integers(1, 5).map(lambda one: one * 100.0))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Small chains, on grids with a gap now and then."""
    hours = UNITS // 2
    row = st.lists(st.one_of(*[level] * 20, st.none()), min_size=hours, max_size=hours)
    slot = st.tuples(
        st.sampled_from(["home-cpu", *(zone.lower() for zone in PLACES)]),
        st.integers(0, UNITS),
        st.integers(1, 4),
    )
    return Case(
        levels={zone: draw(row) for zone in PLACES},
        work=draw(st.integers(2, 5)),
        more=draw(st.tuples(st.integers(0, 1), st.integers(0, 1))),
        startup=draw(st.integers(0, 1)),
        least=draw(st.integers(1, 2)),
        restart=draw(st.integers(0, 1)),
        slack=draw(st.integers(8, UNITS)),
        busy=tuple(draw(st.lists(slot, max_size=2))),
        may_wait=draw(st.sampled_from([True, True, False])),
    )


def check(case: Case) -> None:
    """The best of the table is that of brute force, if splitting is clearly better than not."""
    request = case.request
    whole, split = (case.least_grams(whole=one) for one in (True, False))
    best = split if split < whole * 0.99 else whole
    chains = [
        request.chain((case.fleet.home_cpu, pool, case.fleet.home_cpu))
        for pool in case.fleet.pools[1:]
    ]
    table = evaluate(request, chains, ENDLESS, Refusals())
    entry = None if table is None else table.best(table.mask(LIMITS), by_cost=False)
    if entry is None or table is None:
        # Without any whole run there is no table; then the run goes at once.
        assert whole == math.inf
        return
    assert table.grams[entry] == pytest.approx(best, rel=1e-7)
    decision = plan(request)
    if decision.baseline.g is None:
        return
    assert decision.chosen.g is not None
    assert decision.chosen.g <= best * (1.01 + 1e-7)
    sound(case, decision)


def sound(case: Case, decision: Decision) -> None:
    """A split is as long as its stage, keeps least length and restarts, and takes free slots."""
    chosen = decision.chosen
    placed = chosen.placement("train")
    if not placed.segments:
        return
    exact = [((one.begin - NOW) / HALF, (one.end - NOW) / HALF) for one in placed.segments]
    assert sum(end - begin for begin, end in exact) == pytest.approx(case.work)
    assert all(end - begin >= case.least - 1e-9 for begin, end in exact)
    assert all(b - a >= case.restart - 1e-9 for (_, a), (b, _) in pairwise(exact))
    runs = tuple((round(begin), round(end)) for begin, end in exact)
    if all(one == pytest.approx(near) for one, near in zip(exact, runs, strict=True)):
        # Of equals one may be taken that begins or ends within a half hour.
        start = round((chosen.start - NOW) / HALF)
        assert case.feasible(start, placed.zone, runs)
        assert chosen.g == pytest.approx(case.grams(start, placed.zone, runs), rel=1e-7)
    assert not decision.breaches
    own = [slot for slot in chosen.slots if slot.stage == "train"]
    assert [slot.start for slot in own] == [one.start for one in placed.segments]


@given(case=cases())
@example(
    # No whole run has a slot: a split is sought by emissions all the same, and not by cost.
    Case(
        levels={
            HOME: [1.0, 1.0, None, None, 2.0, 1.0, None, None, 1.0],
            "SE-SE3": [1.0, 1.0, 1.0, 1.0, None, None, 1.0, 1.0, 1.0],
        },
        work=5,
        more=(0, 0),
        startup=0,
        least=1,
        restart=0,
        slack=17,
        busy=(("se-se3", 0, 4),),
    )
)
@settings(max_examples=60, deadline=None)
def test_a_split_chain_equals_brute_force(case: Case) -> None:
    """Over pools, starts and splits nothing is better."""
    check(case)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
@given(case=cases())
@settings(max_examples=2000, deadline=None)
def test_a_split_chain_equals_brute_force_always(case: Case) -> None:
    """The same, on many."""
    check(case)


UP_AND_DOWN = Case(
    levels={
        HOME: [50.0, 500.0, 50.0, 500.0, 50.0, 500.0, 500.0, 500.0, 500.0],
        "SE-SE3": [600.0] * 9,
    },
    work=4,
    more=(0, 0),
    startup=0,
    least=1,
    restart=0,
    slack=UNITS,
)


BLOCKS = replace(
    UP_AND_DOWN,
    levels={HOME: [50.0, 50.0, 900.0, 900.0, 50.0, 50.0, 300.0, 300.0] * 2, "SE-SE3": [900.0] * 16},
    work=8,
    restart=1,
    slack=50,
)
"""Two clean hours and two dirty ones in turn, and a stage that needs four."""


def placed(case: Case, **changes: object) -> tuple[Decision, Placement]:
    """Return the decision and where its heavy stage is."""
    decision = plan(replace(case.request, **changes))  # type: ignore[arg-type]  # fields of Request
    return decision, decision.chosen.placement("train")


def test_a_stage_pauses_through_dirty_hours() -> None:
    """Two clean hours with a dirty one between them are used, and the decision says so."""
    decision, train = placed(UP_AND_DOWN)
    assert [(one.begin - NOW) / HALF for one in train.segments] == [1, 4, 8]
    assert [(one.end - NOW) / HALF for one in train.segments] == [2, 6, 9]
    assert "in 3 segments until Sun 01 Mar 04:30 UTC" in decision.headline
    assert train.g == pytest.approx(sum(one.g for one in train.segments))
    assert any(not row.placement("train").segments for row in decision.alternatives)
    again = Decision.model_validate_json(decision.model_dump_json())
    assert again == decision
    # Late by the reserve that a whole run needs: from then on there is no time to pause.
    assert decision.chosen.latest_safe_start == decision.deadline - HALF * (6 + 4)


def test_a_restart_costs_energy_money_and_hardware() -> None:
    """What a restart takes is in energy, cost and slots."""
    decision, train = placed(replace(BLOCKS, work=6))
    assert len(train.segments) == 2
    assert train.segments[1].begin - train.segments[1].start == HALF
    assert train.kwh == pytest.approx(3.5 * BLOCKS.fleet.pool("de").place.pue.value)
    assert train.usd == pytest.approx(10 * 3.5)
    assert decision.chosen.kwh == pytest.approx(sum(row.kwh for row in decision.chosen.placements))


def test_what_saves_little_is_not_worth_a_pause() -> None:
    """Numbers are revised by a per cent: below that, nothing is interrupted."""
    flat = [100.0, 101.0, 100.0, 101.0, 100.0, 101.0, 101.0, 101.0, 101.0]
    assert not placed(replace(UP_AND_DOWN, levels={**UP_AND_DOWN.levels, HOME: flat}))[1].segments


def test_a_split_keeps_the_cost_limit_by_pausing_less() -> None:
    """Each restart costs half an hour of the pool: with less money there are fewer of them."""
    bounds = {most: placed(BLOCKS, policy=policy(most)) for most in (40.75, 45.75, 50.75)}
    assert [len(train.segments) for _, train in bounds.values()] == [0, 2, 3]
    for most, (decision, _) in bounds.items():
        assert not decision.breaches
        assert decision.chosen.usd is not None
        assert decision.chosen.usd <= most


def policy(most: float) -> CarbonPolicy:
    """Return a policy with a highest cost."""
    return CarbonPolicy(max_cost_usd=most, cost_tolerance_percent=1000)


def test_prices_split_the_cheapest() -> None:
    """Who wants it cheap pauses through dear hours, within the intensity limit."""
    prices = [10.0, 900.0, 10.0, 900.0, 10.0, 900.0, 900.0, 900.0, 900.0]
    series = PriceSeries(
        HOME,
        [NOW + HOUR * place for place in range(9)],
        NOW + 9 * HOUR,
        prices,
        "test",
        kind=Kind.FORECAST,
        currency="USD",
    )
    case = replace(UP_AND_DOWN, levels={HOME: [300.0] * 9, "SE-SE3": [300.0] * 9})
    pools = tuple(
        pool.model_copy(update={"billed_energy": pool.name == "de"}) for pool in case.fleet.pools
    )
    request = replace(
        case.request,
        fleet=case.fleet.model_copy(update={"pools": (pools[0], pools[1])}),
        outlook=replace(case.request.outlook, price={HOME: series}),
        policy=CarbonPolicy(strategy=Strategy.CHEAPEST, max_g_per_kwh=900),
    )
    train = plan(request).chosen.placement("train")
    assert len(train.segments) == 3
    assert all(one.cost is not None and one.cost < 0.02 for one in train.segments)


def test_a_stage_that_has_its_start_may_still_pause() -> None:
    """Dispatch cannot put the start off; the rest of the stage can wait."""
    case = replace(
        UP_AND_DOWN, may_wait=False, levels={**UP_AND_DOWN.levels, HOME: [50.0, 500.0] * 4 + [50.0]}
    )
    decision, train = placed(case, now=NOW + timedelta(minutes=7))
    assert decision.chosen.start == NOW + timedelta(minutes=7)
    assert len(train.segments) > 1
    assert sum((one.end - one.begin for one in train.segments), timedelta()) == 2 * HOUR


def test_the_first_stage_of_a_chain_may_pause() -> None:
    """Dispatch plans a stage with those after it only, and a job may be one stage long."""
    workload = UP_AND_DOWN.request.workload
    for stages in (workload.stages[1:], workload.stages[1:2]):
        shorter = workload.model_copy(update={"stages": stages})
        _, train = placed(UP_AND_DOWN, workload=shorter, may_wait=False)
        assert len(train.segments) > 1


def test_run_now_runs_whole() -> None:
    """Who wants it now wants it without a pause."""
    _, train = placed(UP_AND_DOWN, policy=CarbonPolicy(strategy=Strategy.RUN_NOW))
    assert not train.segments


def test_a_long_window_is_searched_on_coarser_steps() -> None:
    """With a month of slack a day of work is split to the half hour or so."""
    hours = 24 * 30
    series = IntensitySeries(
        HOME,
        [NOW + HOUR * place for place in range(hours)],
        NOW + HOUR * hours,
        [100.0 + 300 * (place % 24 >= 6) for place in range(hours)],
        "test",
        kind=Kind.FORECAST,
    )
    case = replace(UP_AND_DOWN, work=48, slack=2 * hours)
    outlook = Outlook(NOW, NOW + HOUR * hours, {HOME: series}, {}, {})
    _, train = placed(case, outlook=outlook)
    assert sum((one.end - one.begin for one in train.segments), timedelta()) == 24 * HOUR
    assert train.g_per_kwh == pytest.approx(100.0, rel=0.05)


def test_a_light_stage_cannot_pause() -> None:
    """It runs inside the entry run."""
    with pytest.raises(ValueError, match="light stage 'prepare' runs inside the entry run"):
        Stage(
            name="prepare",
            needs={Hardware.CPU: Need(p50=HALF, p95=HALF)},
            interruptible=Interruptible(),
        )


def test_a_taken_slot_is_told_of_a_split() -> None:
    """It keeps the stage from its clean hours, and the decision says what that costs."""
    decision, train = placed(replace(UP_AND_DOWN, busy=(("de", 2, 4),)))
    (row,) = [row for row in decision.relaxations if row.rule is Rule.CAPACITY]
    assert row.text.startswith("A free slot in de would save")
    assert row.saves_g is not None
    free = placed(UP_AND_DOWN)[0].chosen.g
    assert decision.chosen.g == pytest.approx(row.saves_g + (free or 0.0))
    assert train.segments


def test_an_hour_more_is_told_of_a_split() -> None:
    """A later deadline opens another clean hour."""
    levels = {
        **UP_AND_DOWN.levels,
        HOME: [500.0, 50.0, 500.0, 50.0, 500.0, 50.0, 500.0, 500.0, 500.0],
    }
    case = replace(UP_AND_DOWN, levels=levels, slack=11)
    decision, _ = placed(case)
    later, _ = placed(replace(case, slack=13))
    (row,) = [row for row in decision.relaxations if row.rule is Rule.DEADLINE]
    assert decision.chosen.g == pytest.approx((row.saves_g or 0.0) + (later.chosen.g or 0.0))


def test_alternatives_are_told_once() -> None:
    """Of each set of pools the best whole run and the best split, and never the choice again."""
    decision, _ = placed(BLOCKS, policy=policy(45.75))
    shown = [
        (row.main.pool, bool(row.main.segments))
        for row in (decision.chosen, *decision.alternatives)
    ]
    assert len(shown) == len(set(shown))
