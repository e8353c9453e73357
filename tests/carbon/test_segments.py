"""Segments: equal to brute force, true to every limit, and never in the dark."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from carbon import (
    BadInput,
    CarbonPolicy,
    Fleet,
    IntensitySeries,
    Interruptible,
    Kind,
    Need,
    Outlook,
    Pool,
    PriceSeries,
    Request,
    Rule,
    SegmentRequest,
    Segments,
    Stage,
    Workload,
    plan,
    segments,
)
from carbon._candidates import Limits
from carbon._evaluation import evaluate
from carbon._permitted import Refusals

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
STEP = timedelta(minutes=30)
MINUTE = timedelta(minutes=1)


def grid(values: list[float | None], start: datetime = NOW, step: timedelta = STEP) -> object:
    """Return an intensity of so many steps."""
    starts = [start + step * place for place in range(len(values))]
    end = start + step * len(values)
    return IntensitySeries("DE", starts, end, values, "test", kind=Kind.FORECAST)


def priced(values: list[float | None]) -> PriceSeries:
    """Return a price of so many steps."""
    starts = [NOW + STEP * place for place in range(len(values))]
    end = NOW + STEP * len(values)
    return PriceSeries("DE", starts, end, values, "x", kind=Kind.FORECAST, currency="EUR")


@dataclass(frozen=True)
class Case:
    """A small problem in whole steps; times count from ``NOW``."""

    grams: list[float | None]
    prices: list[float | None] | None
    taken: frozenset[int]
    work: int
    least: int
    restart: int
    startup: int
    energy: float
    flat: float
    within: int | None
    wait: int | None
    whole: bool
    by_cost: bool

    def request(self, **changes: object) -> SegmentRequest:
        """Return what is asked for."""
        how = Interruptible(
            min_segment=STEP * self.least,
            restart=STEP * self.restart,
            restart_kwh=self.energy if self.restart else 0.0,
            restart_g=self.flat,
        )
        asked = SegmentRequest(
            run=STEP * self.work,
            kwh=float(self.work),
            earliest=NOW,
            latest=NOW + STEP * len(self.grams),
            startup=STEP * self.startup,
            interruptible=None if self.whole else how,
            start_within=None if self.within is None else STEP * self.within,
            wait_at_most=None if self.wait is None else STEP * self.wait,
        )
        return replace(asked, **changes)

    @property
    def busy(self) -> list[tuple[datetime, datetime]]:
        """When no slot is free."""
        return [(NOW + STEP * place, NOW + STEP * (place + 1)) for place in sorted(self.taken)]

    def solve(self, step: timedelta | None = None, **changes: object) -> Segments | None:
        """Return the answer under test."""
        price = None if self.prices is None else priced(self.prices)
        asked = self.request(**changes)
        intensity = grid(self.grams)
        return segments(asked, intensity, price, by_cost=self.by_cost, busy=self.busy, step=step)

    def known(self, place: int) -> bool:
        """Tell whether all that is asked for is known of a step."""
        if self.prices is not None and self.prices[place] is None:
            return False
        return self.grams[place] is not None

    def value(self, place: int) -> float:
        """Return what a kWh costs in a step."""
        found = self.prices[place] / 1000 if self.by_cost else self.grams[place]
        assert found is not None
        return found

    def judge(self, up: tuple[int, ...]) -> float:
        """Return what it costs to run in these steps; infinite where a limit forbids it."""
        begins = [place for place in up if place - 1 not in up]
        ends = [place + 1 for place in up if place + 1 not in up]
        slot = range(begins[0] - self.startup, begins[0])
        gaps = [
            (end, range(begin - self.restart, begin))
            for end, begin in zip(ends, begins[1:], strict=False)
        ]
        least = self.work if self.whole else min(self.least, self.work)
        latest = math.inf if self.wait is None else self.startup + self.work + self.wait
        uses = self.restart and self.energy
        kept = (
            all(end - begin >= least for begin, end in zip(begins, ends, strict=True)),
            all(self.known(place) for place in up),
            not self.taken.intersection(up),
            slot.start >= 0 and not self.taken.intersection(slot),
            self.within is None or slot.start <= self.within,
            ends[-1] <= latest,
            all(again.start >= end for end, again in gaps),
            not any(self.taken.intersection(again) for _, again in gaps),
            not uses
            or all(self.known(place) for _, again in gaps for place in again if place >= 0),
        )
        if not all(kept):
            return math.inf
        total = sum(self.value(place) for place in up)
        total += 0.0 if self.by_cost else self.flat * len(gaps)
        if uses:
            per_step = self.energy / self.restart
            total += sum(per_step * self.value(place) for _, again in gaps for place in again)
        return total

    def brute(self) -> float:
        """Return the least cost of all sets of steps."""
        every = itertools.combinations(range(len(self.grams)), self.work)
        return min(map(self.judge, every), default=math.inf)


@st.composite
def cases(draw: st.DrawFn, *, largest: int = 10) -> Case:
    """A few steps, some unknown, some taken."""
    steps = draw(st.integers(1, largest))
    startup = draw(st.integers(0, min(2, steps - 1)))
    level = st.one_of(st.integers(0, 9).map(float), st.floats(0, 900))
    some = st.one_of(*[level] * 7, st.none())
    money = st.one_of(*[st.floats(-100, 300)] * 9, st.none())
    row = {"min_size": steps, "max_size": steps}
    prices = draw(st.none() | st.lists(money, **row))
    limit = st.none() | st.integers(0, steps)
    return Case(
        grams=draw(st.lists(some, **row)),
        prices=prices,
        taken=draw(st.frozensets(st.integers(0, steps - 1), max_size=2)),
        work=draw(st.integers(1, steps - startup)),
        least=draw(st.integers(0, 4)),
        restart=draw(st.integers(0, 2)),
        startup=startup,
        energy=draw(st.sampled_from([0.0, 0.3, 2.0])),
        flat=draw(st.sampled_from([0.0, 0.0, 5.0, 200.0])),
        within=draw(limit),
        wait=draw(limit),
        whole=draw(st.booleans()) and draw(st.booleans()),
        by_cost=prices is not None and draw(st.booleans()),
    )


def objective(case: Case, found: Segments) -> float:
    """Return what is kept low."""
    if not case.by_cost:
        return found.g
    assert found.cost is not None
    return found.cost


def check(case: Case) -> None:
    """It is a split that keeps every limit, and none is better."""
    found, best = case.solve(), case.brute()
    assert (found is None) == math.isinf(best)
    if found is None:
        return
    assert found.exact or not case.least
    assert objective(case, found) == pytest.approx(best, rel=1e-6, abs=1e-6)
    keeps_limits(case, found)


def keeps_limits(case: Case, found: Segments) -> None:
    """Whatever its begins and ends, it keeps what was asked for."""
    asked = case.request()
    how = asked.interruptible or Interruptible()
    parts = found.segments
    assert sum((part.end - part.begin for part in parts), timedelta(0)) == asked.run
    assert found.start >= asked.earliest
    assert found.end <= asked.end_by
    if asked.start_within is not None:
        assert found.start <= asked.earliest + asked.start_within
    if asked.interruptible is None:
        assert len(parts) == 1
    assert parts[0].begin - parts[0].start == asked.startup
    for before, part in itertools.pairwise(parts):
        assert before.end <= part.start
        assert part.begin - part.start == how.restart
    intensity = grid(case.grams)
    for part in parts:
        assert part.end - part.begin >= min(how.min_segment, asked.run)
        assert intensity.covers(part.begin, part.end)
        for begin, end in case.busy:
            assert part.end <= begin or part.start >= end


@given(case=cases())
@settings(max_examples=200, deadline=None)
def test_equals_brute_force(case: Case) -> None:
    """No set of steps is better, and the answer keeps every limit."""
    check(case)


@pytest.mark.long
@given(case=cases(largest=12))
@settings(max_examples=3000, deadline=None)
def test_equals_brute_force_at_length(case: Case) -> None:
    """The same, on more and larger cases."""
    check(case)


@given(case=cases(), finer=st.sampled_from([2, 3, 5, 6]))
@settings(deadline=None)
def test_the_common_step_is_fine_enough(case: Case, finer: int) -> None:
    """A finer grid finds nothing better: the answer is exact in continuous time."""
    assume(not case.whole)
    found, fine = case.solve(), case.solve(STEP / finer)
    assert (found is None) == (fine is None)
    if found is not None and fine is not None and found.exact:
        assert objective(case, fine) == pytest.approx(objective(case, found), rel=1e-6, abs=1e-6)


@given(case=cases(), more=st.integers(1, 3))
@settings(deadline=None)
def test_more_slack_never_costs_anything(case: Case, more: int) -> None:
    """A longer window, or a looser limit, is as good or better."""
    assume(more < len(case.grams) - case.startup - case.work + 1)
    tight = case.solve(latest=NOW + STEP * (len(case.grams) - more))
    loose = case.solve()
    free = replace(case, within=None, wait=None).solve()
    for worse, better in ((tight, loose), (loose, free)):
        if worse is not None:
            assert better is not None
            assert objective(case, better) <= objective(case, worse) + 1e-6


@given(case=cases())
@settings(deadline=None)
def test_to_be_split_is_a_freedom(case: Case) -> None:
    """A run that may be split is never worse off than one that stays whole."""
    whole, split = replace(case, whole=True).solve(), replace(case, whole=False).solve()
    if whole is not None:
        assert split is not None
        assert objective(case, split) <= objective(case, whole) + 1e-6


@given(
    case=cases(),
    shift=st.integers(0, 29 * 60),
    step=st.sampled_from([5, 10, 7]),
    odd=st.integers(0, 299),
)
@settings(deadline=None)
def test_a_coarse_step_keeps_the_limits(case: Case, shift: int, step: int, odd: int) -> None:
    """Whatever the seconds are, the answer on a grid lies inside the window and what is free."""
    assume(not case.whole)
    asked = case.request()
    run = asked.run + timedelta(seconds=odd)
    earliest = asked.earliest + timedelta(seconds=shift)
    assume(asked.latest - earliest >= run + asked.startup)
    found = case.solve(step * MINUTE, earliest=earliest, run=run)
    if found is None or not found.step:
        return
    total = sum((part.end - part.begin for part in found.segments), timedelta(0))
    assert run <= total < run + step * MINUTE
    assert earliest <= found.start
    assert found.end <= asked.latest
    assert found.kwh >= asked.kwh - 1e-9
    for part in found.segments:
        assert grid(case.grams).covers(part.begin, part.end)
        assert all(part.end <= begin or part.start >= end for begin, end in case.busy)


def test_restarts_have_their_price() -> None:
    """Two dips are used while a restart costs less than what lies between them."""
    dips = grid([100.0, 10.0, 40.0, 10.0, 100.0])
    asked = SegmentRequest(run=2 * STEP, kwh=2.0, earliest=NOW, latest=NOW + 5 * STEP)
    how = [Interruptible(restart_g=grams) for grams in (29.0, 31.0)]
    cheap, dear = (segments(replace(asked, interruptible=one), dips) for one in how)
    assert cheap is not None
    assert [part.begin - NOW for part in cheap.segments] == [STEP, 3 * STEP]
    assert cheap.g == pytest.approx(20 + 29)
    assert dear is not None
    assert len(dear.segments) == 1
    assert dear.g == pytest.approx(50)


def test_a_flat_grid_is_not_worth_a_break() -> None:
    """Of equals it is one piece, at once."""
    for how in (None, Interruptible(), Interruptible(min_segment=STEP, restart=STEP)):
        asked = SegmentRequest(
            run=6 * STEP, kwh=1.0, earliest=NOW, latest=NOW + 40 * STEP, interruptible=how
        )
        found = segments(asked, grid([70.0] * 40))
        assert found is not None
        assert (found.start, found.end) == (NOW, NOW + 6 * STEP)


def test_restart_time_and_energy_are_on_the_bill() -> None:
    """A segment's slot and energy hold its restart, weighed by the grid at that time."""
    dips = grid([10.0, 500.0, 300.0, 10.0])
    how = Interruptible(restart=STEP, restart_kwh=0.1)
    asked = SegmentRequest(
        run=2 * STEP, kwh=2.0, earliest=NOW, latest=NOW + 4 * STEP, interruptible=how
    )
    found = segments(asked, dips)
    assert found is not None
    first, second = found.segments
    assert (second.start, second.begin) == (NOW + 2 * STEP, NOW + 3 * STEP)
    assert second.kwh == pytest.approx(1.1)
    assert second.g == pytest.approx(10 + 0.1 * 300)
    assert first.g == pytest.approx(10)
    assert found.kwh == pytest.approx(2.1)


@pytest.mark.parametrize("day", ["2025-03-30", "2025-10-26", "2025-12-31", "2024-02-28"])
@pytest.mark.parametrize("how", [None, Interruptible(), Interruptible(HOUR, 10 * MINUTE, 0.1)])
def test_clock_changes_and_new_year(day: str, how: Interruptible | None) -> None:
    """Local times are moments: a day of 23 or 25 hours is as long as it is."""
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime.fromisoformat(day).replace(tzinfo=berlin)
    end = (start + timedelta(days=2)).replace(tzinfo=berlin)
    utc = start.astimezone(UTC)
    hours = int((end.astimezone(UTC) - utc) / HOUR)
    values = [float(50 + 37 * hour % 101) for hour in range(hours)]
    asked = SegmentRequest(run=5 * HOUR, kwh=5.0, earliest=start, latest=end, interruptible=how)
    found = segments(asked, grid(values, utc, HOUR))
    assert found is not None
    assert utc <= found.start
    assert found.end <= utc + HOUR * hours
    assert sum((part.end - part.begin for part in found.segments), timedelta(0)) == 5 * HOUR
    if how is None:
        best = min(sum(values[at : at + 5]) for at in range(hours - 4))
        assert found.g == pytest.approx(best)
    if how == Interruptible():
        assert found.g == pytest.approx(sum(sorted(values)[:5]))


# -- the planner ---------------------------------------------------------------------------------


def one_stage(run: timedelta, slack: float, values: list[float]) -> Request:
    """Return the request of one heavy stage that has one place to go."""
    pools = [
        Pool(
            name=f"home-{hardware}",
            region="aws:eu-central-1",
            hardware=hardware,
            capacity=1,
            watts=300,
            usd_per_hour=1.0,
            startup=2 * MINUTE,
        )
        for hardware in ("cpu", "gpu")
    ]
    fleet = Fleet(home="aws:eu-central-1", residency={"public": ("*",)}, pools=tuple(pools))
    stage = Stage(name="train", heavy=True, needs={"gpu": Need(p50=run, p95=1.5 * run)})
    end = NOW + 1.5 * run * 2 + timedelta(minutes=6 + slack)
    series = grid(values, NOW, HOUR)
    return Request(
        workload=Workload(name="job", stages=(stage,), data_class="public"),
        policy=CarbonPolicy(),
        fleet=fleet,
        outlook=Outlook(NOW, end, {"DE": series}, {}, {}),
        now=NOW,
        deadline=end,
    )


@given(
    run=st.integers(1, 300),
    slack=st.floats(0, 1000),
    values=st.lists(st.floats(1, 900), min_size=48, max_size=48),
)
@settings(deadline=None)
def test_a_whole_run_is_what_the_planner_plans(run: int, slack: float, values: list[float]) -> None:
    """The same run, window and grid give the planner's least emissions."""
    asked = one_stage(run * MINUTE, slack, values)
    chain = asked.chain([asked.fleet.pool("home-gpu")])
    endless = Limits(math.inf, math.inf, math.inf)
    one = evaluate(asked, [chain], endless, Refusals())
    decision = plan(asked)
    window = chain.windows[0]
    earliest = NOW + timedelta(seconds=window.due)
    latest = asked.deadline - chain.needed + timedelta(seconds=window.end)
    found = segments(
        SegmentRequest(
            run=run * MINUTE,
            kwh=window.kwh,
            earliest=earliest,
            latest=max(latest, earliest + 2 * MINUTE + run * MINUTE),
            startup=2 * MINUTE,
        ),
        asked.outlook.intensity["DE"],
    )
    assert found is not None
    if one is None:
        return
    best = one.best(one.mask((Rule.DEADLINE,)), by_cost=False)
    assert best is not None
    assert found.g == pytest.approx(one.grams[best], rel=1e-6)
    assert found.g <= decision.chosen.g * (1 + 1e-6) <= found.g * 1.0101


# -- what is refused -----------------------------------------------------------------------------

GOOD = SegmentRequest(run=HOUR, kwh=1.0, earliest=NOW, latest=NOW + 4 * HOUR)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"latest": NOW + 30 * MINUTE}, "latest"),
        ({"run": timedelta(0)}, "run"),
        ({"run": -HOUR}, "run"),
        ({"run": 60}, "run"),
        ({"kwh": math.nan}, "kwh"),
        ({"kwh": -1.0}, "kwh"),
        ({"kwh": math.inf}, "kwh"),
        ({"earliest": datetime(2026, 3, 1)}, "earliest"),  # noqa: DTZ001 - naive on purpose
        ({"latest": datetime(2026, 3, 2)}, "latest"),  # noqa: DTZ001 - naive on purpose
        ({"startup": -MINUTE}, "startup"),
        ({"start_within": -MINUTE}, "start_within"),
        ({"wait_at_most": -MINUTE}, "wait_at_most"),
    ],
)
def test_a_request_that_makes_no_sense(changes: dict[str, object], field: str) -> None:
    """The error names the field."""
    with pytest.raises(BadInput) as caught:
        replace(GOOD, **changes)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"restart_kwh": 0.1}, "restart"),
        ({"restart_kwh": math.nan, "restart": HOUR}, "restart_kwh"),
        ({"restart_g": -1.0}, "restart_g"),
        ({"min_segment": -HOUR}, "min_segment"),
    ],
)
def test_a_split_that_makes_no_sense(given: dict[str, object], field: str) -> None:
    """The error names the field."""
    with pytest.raises(BadInput) as caught:
        Interruptible(**given)
    assert caught.value.field == field


def test_other_things_that_are_refused() -> None:
    """Cost without a price, a step of nothing, a busy period that is naive or backwards."""
    series = grid([1.0] * 10)
    naive = datetime(2026, 3, 1)  # noqa: DTZ001 - naive on purpose
    for field, wrong in (
        ("price", {"by_cost": True}),
        ("step", {"step": timedelta(0)}),
        ("start", {"busy": [(naive, NOW)]}),
        ("end", {"busy": [(NOW + HOUR, NOW)]}),
    ):
        with pytest.raises(BadInput) as caught:
            segments(GOOD, series, **wrong)
        assert caught.value.field == field


def test_times_that_are_too_fine_are_refused_without_a_step() -> None:
    """With one the answer is the best of that step, and says that it is."""
    asked = replace(
        GOOD,
        earliest=NOW + timedelta(microseconds=1),
        interruptible=Interruptible(min_segment=20 * MINUTE),
    )
    series = grid([5.0, 3.0, 4.0, 3.0, 6.0, 7.0, 7.0, 7.0])
    with pytest.raises(BadInput, match="five minutes"):
        segments(asked, series)
    found = segments(asked, series, step=5 * MINUTE)
    assert found is not None
    assert not found.exact
    assert found.step == 5 * MINUTE
    assert found.g == pytest.approx(3.0)
