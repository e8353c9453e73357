"""The back-test by examples; what always holds stands in ``test_backtest_promises``."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from carbon import (
    Accounting,
    BadInput,
    CarbonPolicy,
    Hardware,
    IntensitySeries,
    Kind,
    Need,
    Outlook,
    Pool,
    PriceSeries,
    Request,
    Reservation,
    ResidencyError,
    Signal,
    Stage,
    Workload,
)
from carbon._backtest import Replay, backtest, first_release
from carbon._backtest_grid import Grid, Trace, typical_trace
from carbon._backtest_jobfile import read_jobs
from carbon._backtest_jobs import Every, Group, JobRow, duration, job_list
from carbon._backtest_kernels import believe
from carbon._backtest_oracle import oracle
from carbon._backtest_report import Backtest, Way
from carbon._backtest_runs import runs
from carbon._backtest_settle import Settlement
from carbon._fleet import CapacityHours
from carbon._series import regular
from carbon._statistical import Climate, forecast, hourly
from tests.carbon.replayed import (
    BEGIN,
    DAY,
    FIRST,
    HOUR,
    HOURS,
    REGIONS,
    STARTUPS,
    fleet,
    grid_values,
    pool,
    some_jobs,
    trace,
)


def test_a_forecast_is_not_known_before_it_is_issued() -> None:
    """What a provider forecasts for later than it is known ahead changes nothing."""
    values, other = grid_values(3), grid_values(4)
    jobs, pools = some_jobs(3, 40), fleet(3, 2, 2)
    cut, ahead = BEGIN + 48, 12
    changed = {zone: np.concatenate([values[zone][:cut], other[zone][cut:]]) for zone in values}
    starts = [
        Replay.of(jobs, pools, trace(values), forecasts=trace(each), ahead=ahead * HOUR)
        .run(Way.BOTH)[0]
        .start
        for each in (values, changed)
    ]
    before = jobs.release <= (FIRST + HOUR * (cut - ahead)).timestamp()
    assert before.any()
    assert (starts[0] == starts[1])[before].all()
    assert (starts[0] != starts[1]).any()


def test_the_forecast_is_the_library_s_own() -> None:
    """What a job believes is what `carbon._statistical` forecasts at that hour, to the digit."""
    values = grid_values(5)
    came = trace(values)
    zones = tuple(values)
    grid = Grid.of(came, zones, HOUR)
    known = grid.known()
    for hour in (BEGIN, BEGIN + 5, BEGIN + 47):
        sums = np.empty((len(zones), 31))
        believe(known, hour, sums)
        now = FIRST + HOUR * hour
        for z, zone in enumerate(zones):
            (series,) = came.zones[zone]
            climate = Climate(until=FIRST, signal=Signal.AVERAGE, accounting=Accounting.LIFECYCLE)
            for day in range(hour // 24 - 2):
                first = FIRST + DAY * day
                climate = climate.folded(hourly(series, first, first + DAY))
            past = series.within(FIRST, now)
            told = forecast(climate, past, now, now + 30 * HOUR)
            assert told is not None
            assert np.diff(sums[z]) == pytest.approx(list(told.values))


def test_at_once_by_hand() -> None:
    """Two jobs at home, the second waits for the slot: energy x PUE x mean intensity, and cost."""
    values = grid_values(7)
    release = FIRST + HOUR * BEGIN
    rows = [
        JobRow(release, release + 10 * HOUR, hours=3, kwh=3.0),
        JobRow(release + HOUR, release + 13 * HOUR, hours=2),
    ]
    found = backtest(job_list(rows, "two"), fleet(1, 1, 1), trace(values), ways=[Way.BOTH])
    home = found.result(Way.AT_ONCE)
    de, pue = values["DE"], fleet(1).pool("gpu-de").place.pue.value
    first = 3.0 * pue * de[BEGIN : BEGIN + 3].mean()
    second = 0.2 * pue * de[BEGIN + 3 : BEGIN + 5].mean()
    assert home.kg == pytest.approx((first + second) / 1000)
    assert home.usd == pytest.approx(5.0)
    assert (home.queued, home.misses, home.mean_delay_hours) == (1, 0, 1.0)
    assert {row.pool: row.peak for row in home.peaks}["gpu-de"] == 1
    assert [row.policy for row in found.results] == [Way.AT_ONCE, Way.BOTH]
    at_once = 0.2 * pue * de[BEGIN + 1 : BEGIN + 3].mean()
    assert found.baseline_kg == pytest.approx((first + at_once) / 1000)
    assert home.saved_percent == pytest.approx(100 * (1 - home.kg / found.baseline_kg))


def test_each_job_can_be_looked_at() -> None:
    """A row for each job and policy; together they are what the table says."""
    replay = Replay.of(some_jobs(5, 60), fleet(2, 1, 1), trace(grid_values(5)))
    outcomes = replay.outcomes([Way.TIME_ONLY, Way.BOTH])
    told, rows = replay.report(outcomes), runs(replay.setting, replay.jobs, outcomes)
    assert len(rows) == 3 * 60
    for result in told.results:
        own = rows.filter(policy=result.policy.value)
        assert result.kg is not None
        assert own["g"].sum() == pytest.approx(1000 * result.kg)
        assert own["too_late"].sum() == result.misses
        assert own["unsafe"].sum() == result.unsafe
        assert own["queued"].sum() == result.queued
        assert (own["start"] >= own["release"]).all()
        assert set(own["pool"]) <= {pool.name for pool in replay.setting.pools}


def test_a_start_leaves_what_the_trigger_leaves() -> None:
    """The latest safe start is the planner's: p95, start-ups and a retry before the deadline."""
    slow = pool("gpu-es", REGIONS["ES"], startup=timedelta(minutes=30))
    pools = fleet(1)
    pools = pools.model_copy(update={"pools": (*pools.pools, slow)})
    release = FIRST + HOUR * BEGIN
    rows = [
        JobRow(release, release + 12 * HOUR, 1.75, reserve_hours=2 * 2.5, group=Group(pools=names))
        for names in (("gpu-de",), ("gpu-de", "gpu-es"))
    ]
    replay = Replay.of(job_list(rows, "two"), pools, trace(grid_values(1)))
    need = Need(p50=1.75 * HOUR, p95=2.5 * HOUR)
    workload = Workload(
        name="job",
        data_class="public",
        stages=(Stage(name="heavy", heavy=True, needs={Hardware.GPU: need}),),
    )
    request = Request(
        workload=workload,
        policy=CarbonPolicy(),
        fleet=pools,
        outlook=Outlook(release, release + DAY, {}, {}, {}),
        now=release,
        deadline=release + 12 * HOUR,
    )
    for name, latest in zip(("gpu-de", "gpu-es"), replay.case.latest, strict=True):
        safe = request.deadline - request.chain([pools.pool(name)]).needed
        assert replay.setting.grid.moment(int(latest)) <= safe
        assert replay.setting.grid.moment(int(latest) + 1) > safe
    # Half as much again as the run time where nobody has said it; and no slack is no choice.
    values = {"DE": np.full(HOURS, 400.0), "ES": np.full(HOURS, 10.0)}
    tight = JobRow(
        release, release + 6 * HOUR + STARTUPS - timedelta(minutes=1), hours=2, where="line 3"
    )
    found = backtest(job_list([tight], "tight"), fleet(1, 1), trace(values))
    assert [row.saved_percent for row in found.results[:-1]] == [0.0] * (len(Way) - 1)
    assert all(row.misses == row.unsafe == 0 for row in found.results)
    (told,) = (note for note in found.notes if "no slack" in note)
    assert "The first, line 3, has 6.083 h to its finish-by, and a safe start needs 6.1 h" in told
    assert "give p95_hours" in told


def test_late_is_not_unsafe() -> None:
    """Who starts after the latest safe start is unsafe, and late only if it ends too late."""
    release = FIRST + HOUR * BEGIN
    rows = [JobRow(release, release + hours * HOUR, hours=2) for hours in (9, 9, 9, 6)]
    found = backtest(job_list(rows, "a queue"), fleet(1), trace(grid_values(1)))
    home = found.result(Way.AT_ONCE)  # ends after 2, 4, 6 and 8 hours, and a start-up
    assert (home.unsafe, home.misses, home.queued) == (2, 1, 3)


def test_data_that_is_carried_costs_grams_and_money() -> None:
    """Transfer as in a chain: half of the network's energy at each end, and the price per GB."""
    values = {zone: np.full(HOURS, g) for zone, g in (("DE", 400.0), ("ES", 100.0))}
    release = FIRST + HOUR * BEGIN
    row = JobRow(release, release + 9 * HOUR, hours=2, kwh=10, data_in_gb=100, data_out_gb=20)
    found = backtest(job_list([row], "one"), fleet(1, 1), trace(values)).result(Way.PLACE_ONLY)
    pools = fleet(1, 1)
    home, there = pools.home_cpu.place, pools.pool("gpu-es").place
    network = 120 * 0.001 / 2
    grams = (10 * there.pue.value + network) * 100 + network * 400
    assert found.kg == pytest.approx(grams / 1000)
    transfer = 100 * home.transfer_price(there) + 20 * there.transfer_price(home)
    assert found.usd == pytest.approx(2 + transfer)


def test_electricity_on_top_costs_what_it_did() -> None:
    """By contract and clock, also when clocks change; at the market; and not known is not 0."""
    first = datetime(2022, 3, 26, 12, tzinfo=UTC)
    starts, end = regular(first - 16 * DAY, HOUR, 20 * 24)
    flat = IntensitySeries("DE", starts, end, [100.0] * len(starts), "flat", kind=Kind.ACTUAL)
    night = {"from": "22:00", "to": "06:00", "usd_per_kwh": 0.1}
    more = {"usd_per_hour": 0, "usd_per_kwh": 0.3, "tariff": [night], "timezone": "Europe/Berlin"}
    own, market = (
        pool("gpu-own", REGIONS["DE"], **more),
        pool("gpu-market", REGIONS["DE"], usd_per_hour=0, billed_energy=True),
    )
    pue = own.place.pue.value
    jobs = job_list([JobRow(first, first + 3 * DAY, hours=24, kwh=24)], "one")

    def usd(one: Pool, prices: dict[str, PriceSeries] | None = None, **told: object) -> object:
        pools = fleet(**told)
        pools = pools.model_copy(update={"pools": (*pools.pools, one)})
        found = backtest(jobs, pools, Trace({"DE": [flat]}, "flat"), prices=prices)
        return found.result(Way.AT_ONCE).usd, [note for note in found.notes if "costs" in note]

    # From 22:00 CET to 06:00 CEST: 7 hours in the night of 27 March.
    assert usd(own)[0] == pytest.approx(pue * (7 * 0.1 + 17 * 0.3))
    values = [float(hour % 24) for hour in range(len(starts))]
    price = PriceSeries("DE", starts, end, values, "p", kind=Kind.ACTUAL, currency="EUR")
    rate = {"usd_per": {"EUR": 1.1}}
    found, notes = usd(market, {"DE": price}, **rate)
    assert found == pytest.approx(pue * sum(range(24)) * 1.1 / 1000)
    assert not notes
    holey = replace(price, values=[None if at == 390 else 1.0 for at in range(len(starts))])
    for known, told, why in (
        (None, rate, "no electricity price for zone DE"),
        ({"DE": price}, {}, "usd_per.EUR"),
        ({"DE": holey}, rate, "no price at 2022-03-26 18:00 UTC"),
    ):
        found, notes = usd(market, known, **told)
        assert found is None
        assert why in notes[0]


def test_reserved_slots_hours_and_blackouts_take_capacity() -> None:
    """What others hold, what the calendar takes and what a blackout closes is never used."""
    night = CapacityHours.model_validate({"from": "22:00", "to": "06:00", "capacity": 1})
    small = pool("gpu-de", REGIONS["DE"], 3, hours=[night], timezone="Europe/Berlin")
    sale = {
        "name": "sale",
        "start": datetime(2021, 12, 27, 8, tzinfo=UTC),
        "end": datetime(2021, 12, 27, 20, tzinfo=UTC),
    }
    pools = fleet(blackouts=[sale])
    pools = pools.model_copy(update={"pools": (*pools.pools, small)})
    held = Reservation(
        pool="gpu-de",
        start=datetime(2021, 12, 28, 10, tzinfo=UTC),
        end=datetime(2021, 12, 28, 12, 10, tzinfo=UTC),
    )
    jobs = Every(2 * HOUR, 2, 12 * HOUR).jobs(FIRST + HOUR * BEGIN, FIRST + HOUR * (HOURS - 48))
    replay = Replay.of(jobs, pools, trace(grid_values(1)), reserved=[held])
    at = {
        moment: replay.case.capacity[1, (moment - FIRST) // HOUR]
        for moment in (
            datetime(2021, 12, 26, 20, tzinfo=UTC),
            datetime(2021, 12, 26, 21, tzinfo=UTC),  # 22:00 in Berlin
            datetime(2021, 12, 27, 12, tzinfo=UTC),
            datetime(2021, 12, 28, 12, tzinfo=UTC),  # held for a part of it
            datetime(2021, 12, 28, 13, tzinfo=UTC),
        )
    }
    assert list(at.values()) == [3, 1, 0, 2, 3]
    for way in Way:
        assert (replay.run(way)[0].used <= replay.case.capacity).all()


def test_jobs_over_new_year_and_changes_of_clocks(tmp_path: Path) -> None:
    """Moments count, not wall clocks: a day is 23 or 25 hours where it is, and a year ends."""
    path = tmp_path / "jobs.csv"
    path.write_text(
        "release,finish_by,hours\n"
        "2022-03-26T06:30:00+01:00,06:30 Europe/Berlin,1\n"
        "2022-10-29T06:30:00+02:00,06:30 Europe/Berlin,1\n"
        "2021-12-31T23:30:00+00:00,1d,2\n"
        "2022-10-30T02:30:00+02:00,2022-10-30T02:30:00+01:00,0.5\n"
    )
    found = read_jobs(path)
    left = (found.due - found.release) / 3600
    assert left.tolist() == [24, 23, 25, 1]  # by release: New Year first
    berlin = ZoneInfo("Europe/Berlin")
    trace_ = typical_trace(
        ["DE"], datetime(2021, 12, 1, tzinfo=UTC), datetime(2022, 11, 3, tzinfo=berlin)
    )
    told = backtest(found, fleet(1), trace_, forecasts=trace_, ahead=14 * DAY)
    assert told.first == datetime(2021, 12, 31, 23, 30, tzinfo=UTC)
    assert all(row.misses == 0 for row in told.results)
    assert told.modelled


def test_prices_keep_clean_slots_for_who_gains_most() -> None:
    """Small jobs that come first leave the one clean slot to large ones, once these are known."""
    values = {zone: np.full(HOURS, g) for zone, g in (("DE", 400.0), ("ES", 20.0))}
    begin = FIRST + HOUR * BEGIN
    rows = [
        JobRow(begin + HOUR * hour, begin + HOUR * (hour + 4), hours=1, kwh=kwh)
        for hour in range(150)
        for kwh in (0.1, 10.0)
    ]
    found = backtest(job_list(rows, "small and large"), fleet(4, 1), trace(values))
    both, priced = (found.result(way).saved_percent for way in (Way.BOTH, Way.PRICED))
    assert both is not None
    assert priced is not None
    assert both < 2
    assert priced > 50  # it takes two days to learn what a slot is worth


def test_a_waiting_job_moves_for_a_clear_gain_only() -> None:
    """A forecast that comes later moves who waits, at the next time of planning; not for 1 %."""
    release = BEGIN + 1
    values = {zone: np.full(HOURS, g) for zone, g in (("DE", 400.0), ("ES", 400.0))}
    told = {zone: row.copy() for zone, row in values.items()}
    told["DE"][release + 10] = 200
    row = JobRow(FIRST + HOUR * release, FIRST + HOUR * (release + 24), hours=1)
    jobs, pools = job_list([row], "one"), fleet(1, 1)
    efficient = pools.pool("gpu-es").place.pue.value / pools.pool("gpu-de").place.pue.value
    for clean, ahead, moved in ((100.0, 5, True), (199.0 / efficient, 5, False), (100.0, 1, True)):
        told["ES"][release + 15] = clean
        # Each hour's forecast is known so many hours ahead, so the job first waits for hour 10.
        ways = [Way.BOTH, Way.RE_PLANNED]
        replay = Replay.of(
            jobs, pools, trace(values), forecasts=trace(told), ahead=(10 + ahead) * HOUR
        )
        at_release, (found, _) = replay.run(ways[0])[0], replay.run(ways[1])
        assert at_release.start.tolist() == [release + 10]
        assert found.start.tolist() == [release + (15 if moved else 10)]
        assert found.moves.tolist() == [int(moved)]


def test_a_slot_that_others_hold_is_not_moved_into() -> None:
    """Who is planned again keeps the slots of those that wait, and of those that run."""
    release = BEGIN
    values = {"DE": np.full(HOURS, 400.0)}
    told = {"DE": values["DE"].copy()}
    told["DE"][[release + 3, release + 8]] = 100, 50
    rows = [
        JobRow(FIRST + HOUR * release, FIRST + HOUR * (release + hours), hours=1)
        for hours in (10, 16)
    ]
    late = JobRow(FIRST + HOUR * (release + 1), FIRST + HOUR * (release + 13), hours=1)
    replay = Replay.of(
        job_list([*rows, late], "three"),
        fleet(1),
        trace(values),
        forecasts=trace(told),
        ahead=8 * HOUR,
    )
    found = replay.run(Way.RE_PLANNED)[0]
    # The third takes hour 8 before the second is planned again; nobody has two of one slot.
    assert found.start.tolist()[2] == release + 8
    assert (found.used <= replay.case.capacity).all()
    assert len(set(found.start.tolist())) == 3


def test_planning_again_pays_where_forecasts_are_poor() -> None:
    """In weather that no daily habit tells, it saves more than the plan made at the release."""
    rng = np.random.default_rng(2)
    weather = np.cumsum(rng.normal(0, 1, HOURS)) * 0.35
    weather -= np.convolve(weather, np.ones(72) / 72, "same")
    values = {"DE": np.clip(300 * np.exp(weather / 2), 20, 1500)}
    jobs = Every(HOUR, 2, 24 * HOUR).jobs(FIRST + HOUR * BEGIN, FIRST + HOUR * HOURS)
    found = backtest(jobs, fleet(8), trace(values))
    once, again, best = (
        found.result(way).saved_percent for way in (Way.BOTH, Way.RE_PLANNED, Way.ORACLE)
    )
    assert once is not None
    assert again is not None
    assert best is not None
    assert again > once + 0.03 * best
    assert again < best
    assert found.result(Way.RE_PLANNED).moves


def test_the_first_two_weeks_run_at_home() -> None:
    """Without a past there is nothing to choose by: every job starts at once, and it is said."""
    jobs = Every(6 * HOUR, 2, 12 * HOUR).jobs(FIRST, FIRST + 10 * DAY)
    found = backtest(jobs, fleet(2, 2, 2), trace(grid_values(1)))
    for way in (Way.TIME_ONLY, Way.BOTH):
        row = found.result(way)
        assert (row.blind, row.saved_percent, row.mean_delay_hours) == (len(jobs), 0.0, 0.0)
    assert first_release(FIRST, forecast=False) == FIRST + 14 * DAY


def test_pools_that_are_too_small_say_nothing_of_savings() -> None:
    """Where jobs never run, a comparison of grams would be one of unlike jobs."""
    jobs = Every(HOUR, 6, 6 * HOUR).jobs(FIRST + HOUR * BEGIN, FIRST + HOUR * HOURS)
    found = backtest(jobs, fleet(1), trace(grid_values(2)))
    assert found.baseline_kg > 0
    row = found.result(Way.TIME_ONLY)
    assert row.unplaced
    assert row.misses >= row.unplaced
    assert row.saved_percent is None
    assert found.bound_kg is None
    # Six hours of work an hour, less what the last ones may take longer; one slot in one pool.
    assert "need about 5.7 slots at a time, home has 1, and all pools" in found.crowded
    assert "no comparison is possible" in found.crowded
    assert not any("slot" in note for note in found.notes)
    assert Backtest.model_validate_json(found.model_dump_json()) == found


def test_the_usual_day_is_of_whole_days() -> None:
    """Jobs at a time, summed over the day, are the hours of all jobs over the days."""
    jobs = Every(5 * HOUR, 2, 9 * HOUR).jobs(FIRST + HOUR * BEGIN, FIRST + HOUR * (BEGIN + 40))
    found = backtest(jobs, fleet(1), trace(grid_values(2)), ways=(Way.TIME_ONLY,))
    assert found.days == 2
    for way in (Way.AT_ONCE, Way.TIME_ONLY):
        running = sum(row.running[way] for row in found.hours)
        assert running == pytest.approx(2 * len(jobs) / 2)


def test_the_distance_that_is_suggested_fits() -> None:
    """Jobs as far apart as the report says can be compared."""
    every = Every(HOUR, 4, DAY)
    span = (FIRST + HOUR * BEGIN, FIRST + HOUR * HOURS)
    told = backtest(every.jobs(*span), fleet(1, 1), trace(grid_values(2))).crowded
    hours = re.findall(r"use --every (\d+)h\.", told)
    apart = replace(every, every=HOUR * int(hours[0])).jobs(*span)
    assert not backtest(apart, fleet(1, 1), trace(grid_values(2))).crowded


def test_many_parts_are_one_packing() -> None:
    """Packed in parts by two threads, a year is as good as packed whole, and its bound holds."""
    jobs = some_jobs(9, 300)
    needed = jobs.reserve_hours * 3600 + STARTUPS.total_seconds()
    jobs = replace(jobs, due=np.minimum(jobs.due, jobs.release + needed + 4 * 3600))
    replay = Replay.of(jobs, fleet(8, 4, 4), trace(grid_values(9)))
    found = []
    for part in (300, 20, 20):
        placed = replay.nobody()
        bound = oracle(replay.case, placed, replay.setting.grid.actual, part=part)
        grams = Settlement.of(replay.setting, jobs, replay.case, placed).g.sum()
        assert (placed.used <= replay.case.capacity).all()
        assert bound is not None
        assert bound <= grams
        found.append(grams)
        assert bound <= found[0] * (1 + 1e-9)
    assert found[1] == found[2]
    assert found[1] <= 1.02 * found[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("release,hours\n2022-01-01T00:00,1\n", "line 2, column 'release'.*no time zone"),
        ("release,hours\n2022-01-01T00:00Z,0\n", "line 2, column 'hours'"),
        ("release,hours\n2022-01-01T00:00Z,nan\n", "column 'hours': is empty"),
        ("release,hours\n2022-01-01T00:00Z,1\n\n2022-01-01T00:00Z,x\n", "line 4.*'x'"),
        ("release\n2022-01-01T00:00Z\n", "no column 'hours'"),
        ("release,hours,finish_bye\n2022-01-01T00:00Z,1,24h\n", "Did you mean 'finish_by'"),
        ("release,hours,finish_by\n2022-01-01T00:00Z,1,soon\n", "line 2, column 'finish_by'"),
        ("release,hours,finish_by\n2022-01-01T00:00Z,3,2h\n", "line 2: has 2 h .* runs for 3 h"),
        ("release,hours,finish_by\n2022-01-01T00:00Z,3,2022-09-09T00:00Z\n", "at most 14 days"),
        ("release,hours,kw,kwh\n2022-01-01T00:00Z,3,1,1\n", "column 'kwh': stands beside kw"),
        ("release,hours,p95_hours\n2022-01-01T00:00Z,3,2\n", "column 'p95_hours': is less than"),
        ("release,hours,p95_hours\n2022-01-01T00:00Z,3,inf\n", "column 'p95_hours': 'inf'"),
        ("release,hours,kw\n2022-01-01T00:00Z,3,-1\n", "column 'kw': -1 cannot be"),
        ("release,hours\n2022-01-01T00:00Z,-2\n", r"-2 cannot be. Give 0.0167 to 336.$"),
        ("release,hours\n2022-01-01T00:00Z,two\n", "'two' is not a number.*decimal point.$"),
        ("release;hours\n2022-01-01T00:00Z;2\n", "with ';'. Separate columns with a comma"),
        ("release,hours\n", "has no rows. Give some below the header"),
        ("release,hours,count\n2022-01-01T00:00Z,3,1.5\n", "no whole number"),
        ("release,hours,hardware\n2022-01-01T00:00Z,3,gpuu\n", "column 'hardware'"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path: Path, text: str, told: str) -> None:
    """File, line and column, and what to do."""
    path = tmp_path / "jobs.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=told):
        read_jobs(path)


def test_what_does_not_fit_together_is_refused() -> None:
    """Jobs outside the trace, a gap, unknown pools and zones, and places where data may not be."""
    came = trace(grid_values(1))
    late = Every(HOUR, 2, HOUR).jobs(FIRST + DAY * 23, FIRST + DAY * 30)
    with pytest.raises(BadInput, match="the trace reaches"):
        backtest(late, fleet(1), came)
    jobs = Every(HOUR, 2, HOUR).jobs(FIRST + DAY * 20, FIRST + DAY * 21)
    with pytest.raises(BadInput, match="no zone 'DE'"):
        backtest(jobs, fleet(1), trace({"ES": grid_values(1)["ES"]}))
    (series,) = came.zones["ES"]
    holey = [series.within(FIRST, FIRST + DAY * 20), series.within(FIRST + DAY * 21, series.end)]
    gap = Trace({**came.zones, "ES": holey}, "holey.csv")
    with pytest.raises(BadInput, match=r"holey\.csv: has no value of zone ES at 2021-12-30 00:00"):
        backtest(jobs, fleet(1, 1), gap)
    for group, error in (
        (Group(pools=("gpu-mars",)), BadInput),
        (Group(pools=("entry",)), BadInput),
        (Group(data_classes=("secret",)), BadInput),
    ):
        row = JobRow(FIRST + DAY * 20, FIRST + DAY * 21, hours=1, group=group)
        with pytest.raises(error):
            backtest(job_list([row], "one"), fleet(1, 1), came)
    nowhere = fleet(1, 1, residency={"public": ["*"], "personal": ["NO"]})
    row = JobRow(FIRST + DAY * 20, FIRST + DAY * 21, hours=1)
    with pytest.raises(ResidencyError, match="personal"):
        backtest(job_list([row], "one"), nowhere, came)
    with pytest.raises(BadInput, match="quantile"):
        backtest(jobs, fleet(1), came, quantile=1.5)
    with pytest.raises(BadInput, match="every"):
        duration("every", "06:30 Europe/Berlin")
    with pytest.raises(BadInput, match="no job"):
        job_list([], "nothing")


def test_a_job_without_a_class_of_data_stays_where_all_may_be() -> None:
    """Nobody has said what its data are, so it goes nowhere that any class may not."""
    pools = fleet(1, 1, 1, residency={"public": ["*"], "personal": ["EU"]})
    far = pool("gpu-us", "aws:us-west-2")
    zone = far.place.zone
    pools = pools.model_copy(update={"pools": (*pools.pools, far)})
    values = {**grid_values(1), zone: np.full(HOURS, 1.0)}
    release = FIRST + HOUR * BEGIN
    peaks = []
    for group in (Group(), Group(hardware=Hardware.GPU, data_classes=("public",))):
        row = JobRow(release, release + DAY, hours=1, group=group)
        found = backtest(job_list([row], "one"), pools, trace(values)).result(Way.BOTH)
        peaks.append({row.pool: row.peak for row in found.peaks}["gpu-us"])
    assert peaks == [0, 1]


def test_hours_that_nobody_has_measured_are_not_clean() -> None:
    """Who queues past the end of home's values emits something unknown, and nothing is saved."""
    values = {zone: np.full(HOURS, 400.0) for zone in REGIONS}
    values["DE"] = values["DE"][: BEGIN + 10]
    release = FIRST + HOUR * BEGIN
    group = Group(data_classes=("public",))
    row = JobRow(release, release + 10 * HOUR, 5.0, reserve_hours=6, group=group, count=4)
    jobs = job_list([row], "four at once")
    found = backtest(jobs, fleet(1, 3, 3), trace(values), ways=[Way.PLACE_ONLY])
    home = found.result(Way.AT_ONCE)
    assert (home.kg, home.saved_percent, home.unmeasured, home.unplaced) == (None, None, 2, 0)
    assert found.baseline_kg > 0
    elsewhere = found.result(Way.PLACE_ONLY)
    assert elsewhere.kg is not None
    assert elsewhere.unmeasured == 0


def test_the_oracle_runs_jobs_without_slack_at_home() -> None:
    """No policy may choose for them, so neither may the oracle, nor is the bound any lower."""
    values = {"DE": np.full(HOURS, 400.0), "ES": np.full(HOURS, 100.0)}
    release = FIRST + HOUR * BEGIN
    group = Group(data_classes=("public",))
    jobs = job_list([JobRow(release, release + 3 * HOUR, 2.0, group=group)], "no slack")
    found = backtest(jobs, fleet(1, 1), trace(values), ways=[Way.BOTH, Way.ORACLE])
    assert found.result(Way.ORACLE).kg == pytest.approx(found.result(Way.BOTH).kg)
    assert found.bound_kg == pytest.approx(found.baseline_kg)
