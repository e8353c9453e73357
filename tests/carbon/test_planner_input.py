"""Bad input: one typed error that names what is wrong, wherever in the request it stands."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

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
    Request,
    Reservation,
    Rule,
    Stage,
    TypicalDay,
    UnknownRegion,
    UnknownZone,
    Workload,
    look,
    plan,
    region,
)
from carbon._fleet import CapacityHours, TariffHours
from carbon._packing import Packing, pack
from carbon._packing_input import Jobs

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAIVE = datetime(2026, 3, 1)  # noqa: DTZ001 - naive on purpose
HOUR = timedelta(hours=1)

POOL = {
    "name": "home-gpu",
    "region": "aws:eu-central-1",
    "hardware": "gpu",
    "capacity": 1,
    "watts": 300.0,
    "usd_per_hour": 1.0,
}
NEED = {"p50": HOUR, "p95": HOUR, "kwh": 1.0}
STAGE = {"name": "train", "heavy": True, "needs": {"gpu": NEED}, "data_in_gb": 1.0}
JOB = {"name": "job", "stages": (STAGE,), "data_class": "public"}
FLEET = {
    "home": "aws:eu-central-1",
    "residency": {"public": ("*",)},
    "pools": (POOL, {**POOL, "name": "home-cpu", "hardware": "cpu"}),
}


def series(
    values: list[float | None], start: datetime = NOW, zone: str = "DE", **meaning: str
) -> IntensitySeries:
    """Return hourly values."""
    starts = [start + HOUR * place for place in range(len(values))]
    end = start + HOUR * len(values)
    said = {"kind": Kind.FORECAST, **meaning}
    return IntensitySeries(zone, starts, end, values, "test", **said)  # type: ignore[arg-type]


def decide(**changes: object) -> Decision:
    """Plan a good request with changes."""
    view = Outlook(NOW, NOW + 24 * HOUR, {"DE": series([400.0] * 24)}, {}, {})
    given = {
        "workload": Workload.model_validate(JOB),
        "policy": CarbonPolicy(),
        "fleet": Fleet.model_validate(FLEET),
        "outlook": view,
        "now": NOW,
        "deadline": NOW + 20 * HOUR,
    }
    return plan(Request(**{**given, **changes}))  # type: ignore[arg-type]  # a test's shorthand


def refused(build: Callable[[], object], where: str = "fleet") -> BadInput:
    """Return the error as every file and form reports it."""
    with pytest.raises((BadInput, ValidationError)) as caught:
        build()
    if isinstance(caught.value, BadInput):
        return caught.value
    return BadInput.from_validation(where, caught.value)


# -- workload and fleet --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "good", "changes", "field"),
    [
        (Workload, JOB, {"stages": (STAGE, STAGE)}, "stages"),
        (Workload, JOB, {"stages": ()}, "stages"),
        (Need, NEED, {"p50": timedelta(0)}, "p50"),
        (Need, NEED, {"p50": -HOUR}, "p50"),
        (Need, NEED, {"p50": 2 * HOUR}, "p95"),
        (Stage, STAGE, {"needs": {}}, "needs"),
        (Stage, STAGE, {"needs": {"tpu": NEED}}, "needs"),
        (Stage, STAGE, {"heavy": False}, "needs"),
        (Pool, POOL, {"capacity": 0}, "capacity"),
        (Pool, POOL, {"capacity": -1}, "capacity"),
        (Pool, POOL, {"capacity": 1.5}, "capacity"),
        (Pool, POOL, {"watts": 0.0}, "watts"),
        (Pool, POOL, {"region": "aws:eu-nort-1"}, "region"),
        (Fleet, FLEET, {"pools": (POOL, POOL)}, "pools"),
        (Fleet, FLEET, {"pools": (POOL,)}, "home"),
        (Fleet, FLEET, {"home": "aws:mars-1"}, "home"),
    ],
)
def test_what_a_model_refuses(
    model: type[BaseModel], good: dict[str, object], changes: dict[str, object], field: str
) -> None:
    """A chain that comes back to a stage, no slot, no time: the field is named."""
    model.model_validate(good)
    error = refused(lambda: model.model_validate({**good, **changes}))
    assert field in error.field
    assert error.fix


NUMBERS = [
    (Pool, POOL, "watts"),
    (Pool, POOL, "usd_per_hour"),
    (Pool, POOL, "capacity"),
    (Pool, POOL, "embodied_g_per_hour"),
    (Pool, POOL, "usd_per_kwh"),
    (Need, NEED, "kwh"),
    (Stage, STAGE, "data_in_gb"),
    (Stage, STAGE, "data_out_gb"),
    (CarbonPolicy, {}, "max_g_per_kwh"),
    (CarbonPolicy, {}, "max_cost_usd"),
    (CarbonPolicy, {}, "cost_tolerance_percent"),
    (CarbonPolicy, {}, "min_saving_percent"),
    (CarbonPolicy, {}, "freshness_g_per_hour"),
    (CarbonPolicy, {}, "freshness_usd_per_hour"),
    (Need, NEED, "p50"),
    (Need, NEED, "p95"),
    (Pool, POOL, "startup"),
    (TariffHours, {"from": "22:00", "to": "06:00", "usd_per_kwh": 0.1}, "usd_per_kwh"),
    (CapacityHours, {"from": "22:00", "to": "06:00", "capacity": 1}, "capacity"),
]


@given(case=st.sampled_from(NUMBERS), value=st.sampled_from([math.nan, math.inf, -math.inf, -1.0]))
def test_no_field_takes_what_is_not_a_number(
    case: tuple[type[BaseModel], dict[str, object], str], value: float
) -> None:
    """Neither not-a-number nor infinity nor less than nothing."""
    model, good, field = case
    model.model_validate(good)
    assert field in refused(lambda: model.model_validate({**good, field: value})).field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"usd_per": {"EUR": math.nan}}, "usd_per"),
        ({"usd_per": {"EUR": 0.0}}, "usd_per"),
        ({"usd_per": {"Euro": 1.1}}, "usd_per"),
        ({"residency": {}}, "residency"),
        ({"residency": {"public": ("MARS",)}}, "public"),
        ({"signals": {"zones": {"XX": ("energy-charts",)}}}, "signals.zones"),
        ({"blackouts": ({"name": "x", "start": NAIVE, "end": NAIVE + HOUR},)}, "start"),
        ({"blackouts": ({"name": "x", "start": NOW, "end": NAIVE},)}, "end"),
        ({"blackouts": ({"name": "x", "start": NOW, "end": NOW},)}, "end"),
        ({"pools": ({**POOL, "timezone": "Europe/Berln"},)}, "timezone"),
        ({"pools": ({**POOL, "timezone": "Europe"},)}, "timezone"),
        ({"pools": ({**POOL, "hours": ({"from": "7", "to": "8"},)},)}, "hours"),
        ({"pools": ({**POOL, "hours": ({"from": "25:00", "to": "08:00"},)},)}, "from"),
    ],
)
def test_what_a_fleet_refuses(changes: dict[str, object], field: str) -> None:
    """Rates, rules, zones, times: the field is named, and what to write instead."""
    error = refused(lambda: Fleet.model_validate({**FLEET, **changes}))
    assert field in error.field
    assert error.fix


def test_unknown_names_are_told_what_is_near() -> None:
    """Of a region, a zone, a class of data, a stage."""
    with pytest.raises(UnknownRegion, match="Did you mean 'aws:eu-north-1'"):
        region("aws:eu-nort-1")
    with pytest.raises(UnknownZone) as zone:
        TypicalDay().intensity("DF", NOW, NOW + HOUR)
    assert (zone.value.field, zone.value.zone) == ("zone", "DF")
    with pytest.raises(BadInput) as stage:
        Workload.model_validate(JOB).since("trian")
    assert "train" in stage.value.fix
    with pytest.raises(BadInput) as data:
        decide(data_class="publik")
    assert (data.value.field, "public" in data.value.fix) == ("data_class", True)


# -- the grid ------------------------------------------------------------------------------------


@given(
    count=st.integers(1, 30),
    place=st.integers(0, 29),
    value=st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 2001.0]),
)
def test_no_series_takes_what_is_no_intensity(count: int, place: int, value: float) -> None:
    """Wherever in the series it stands; a price may be negative."""
    values: list[float | None] = [100.0] * count
    values[place % count] = value
    with pytest.raises(BadInput) as caught:
        series(values)
    assert caught.value.field == "IntensitySeries(DE)"
    if not math.isfinite(value):
        starts = [NOW + HOUR * hour for hour in range(count)]
        with pytest.raises(BadInput, match="PriceSeries"):
            PriceSeries(
                "DE", starts, NOW + HOUR * count, values, "x", kind=Kind.FORECAST, currency="EUR"
            )


def test_naive_times_of_the_grid_are_refused() -> None:
    """In a series and in the window of an outlook."""
    with pytest.raises(BadInput, match="time zone") as caught:
        series([1.0], NAIVE)
    assert caught.value.field == "IntensitySeries(DE).starts"
    with pytest.raises(BadInput, match="time zone") as caught:
        look([TypicalDay()], ["DE"], "DE", NAIVE, NOW)
    assert caught.value.field == "start"


def test_a_zone_without_numbers_is_told_by_name() -> None:
    """It is no error but a reason: the run goes at once, and nothing is invented."""
    french = {"FR": series([50.0] * 24, zone="FR")}
    decision = decide(outlook=Outlook(NOW, NOW + 24 * HOUR, french, {}, {}))
    assert (decision.rule, decision.chosen.start) == (Rule.SIGNAL, NOW)
    assert decision.chosen.g is None
    view = look([TypicalDay()], ["DE", "DF"], "DE", NOW, NOW + HOUR)
    assert "DF" in view.missing


def outlook(**changes: object) -> Outlook:
    """Return a good outlook with changes."""
    fields = {"start": NOW, "end": NOW + 24 * HOUR, "intensity": {}, "price": {}, "missing": {}}
    return Outlook(**{**fields, **changes})  # type: ignore[arg-type]  # a test's shorthand


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"start": NAIVE}, "outlook.start"),
        ({"end": NAIVE}, "outlook.end"),
        ({"end": NOW}, "outlook.end"),
        ({"end": NOW - HOUR}, "outlook.end"),
        ({"intensity": {"FR": series([1.0])}}, "outlook.intensity.FR"),
    ],
)
def test_an_outlook_that_makes_no_sense(changes: dict[str, object], field: str) -> None:
    """Naive, backwards, empty, another zone's numbers."""
    with pytest.raises(BadInput) as caught:
        outlook(**changes)
    assert caught.value.field == field
    assert caught.value.fix


def test_an_outlook_is_in_utc_whatever_zone_its_window_is_in() -> None:
    """A window in local time is the same window."""
    berlin = ZoneInfo("Europe/Berlin")
    assert outlook(start=NOW.astimezone(berlin)).start == NOW
    assert outlook(start=NOW.astimezone(berlin)).start.tzinfo is UTC


# -- the request ---------------------------------------------------------------------------------


def test_a_slot_of_an_unknown_pool_is_refused() -> None:
    """A misspelt pool would leave its slot untaken: the place in the list is named."""
    slots = [Reservation(pool=pool, start=NOW, end=NOW + HOUR) for pool in ("home-gpu", "home-gpx")]
    with pytest.raises(BadInput, match="Did you mean 'home-gpu'") as caught:
        decide(busy=tuple(slots))
    assert caught.value.field == "busy[1].pool"


@pytest.mark.parametrize("data_class", ["public", "personal"])
def test_hardware_that_the_fleet_lacks_is_named(data_class: str) -> None:
    """It is neither the policy's fault nor residency's."""
    pools = ({**POOL, "name": "home-cpu", "hardware": "cpu"},)
    fleet = {**FLEET, "residency": {"public": ("*",), "personal": ("EU",)}, "pools": pools}
    with pytest.raises(BadInput, match=r"no pool of the fleet has gpu .*'home-cpu'") as caught:
        decide(fleet=Fleet.model_validate(fleet), data_class=data_class)
    assert caught.value.field == "job.stages.train.needs"
    assert "which has cpu" in caught.value.fix


@pytest.mark.parametrize("data_class", ["public", "personal"])
def test_a_region_without_a_pool_is_the_policys_fault(data_class: str) -> None:
    """Whatever the class of data: residency would permit the region."""
    fleet = {**FLEET, "residency": {"public": ("*",), "personal": ("EU",)}}
    with pytest.raises(BadInput, match="aws:eu-west-1") as caught:
        decide(
            fleet=Fleet.model_validate(fleet),
            policy=CarbonPolicy(only_regions=("aws:eu-west-1",)),
            data_class=data_class,
        )
    assert caught.value.field == "policy.only_regions"
    assert "aws:eu-central-1" in caught.value.fix


@pytest.mark.parametrize(
    ("night", "zone"),
    [
        ("2026-03-28T20:00", "Europe/Berlin"),
        ("2026-10-24T20:00", "Europe/Berlin"),
        ("2026-11-01T02:00", "America/New_York"),
        ("2026-12-31T20:00", "Australia/Lord_Howe"),
    ],
)
def test_the_zone_of_a_time_does_not_matter(night: str, zone: str) -> None:
    """A night with a change of clocks is as long as it is, also for local times."""
    now = datetime.fromisoformat(night).replace(tzinfo=UTC)
    falling = series([900.0 - 20 * hour for hour in range(24)], now)
    view = Outlook(now, now + 24 * HOUR, {"DE": falling}, {}, {})
    decisions = [
        decide(
            outlook=view,
            now=now.astimezone(clock),
            release=(now + HOUR).astimezone(clock),
            deadline=(now + 10 * HOUR).astimezone(clock),
        )
        for clock in (UTC, ZoneInfo(zone))
    ]
    assert decisions[0] == decisions[1]
    assert decisions[0].rule is Rule.DEADLINE
    assert decisions[0].chosen.latest_safe_start > now + 5 * HOUR
    assert decisions[0].chosen.start == decisions[0].chosen.latest_safe_start


@pytest.mark.parametrize("slack", [timedelta(minutes=30), timedelta(0), -HOUR])
def test_a_window_shorter_than_the_stage_is_on_record(slack: timedelta) -> None:
    """A run that comes too late still runs: the breach names the deadline (invariant 7)."""
    decision = decide(deadline=NOW + slack)
    assert (decision.rule, decision.chosen.start) == (Rule.DEADLINE, NOW)
    assert [breach.partition(":")[0] for breach in decision.breaches] == ["deadline"]


@pytest.mark.parametrize("field", ["now", "deadline", "release"])
def test_naive_times_of_a_request_are_refused(field: str) -> None:
    """The error names the field."""
    with pytest.raises(BadInput) as caught:
        decide(**{field: NAIVE})
    assert caught.value.field == field


@pytest.mark.parametrize(("start", "end"), [(NAIVE, NAIVE + HOUR), (NOW + HOUR, NOW), (NOW, NOW)])
def test_slots_that_make_no_sense_are_refused(start: datetime, end: datetime) -> None:
    """Naive, backwards, empty."""
    with pytest.raises((BadInput, ValidationError)):
        decide(busy=(Reservation(pool="home-gpu", start=start, end=end),))


# -- many jobs -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arrays:
    """Two jobs, two pools, six steps."""

    values: dict[str, np.ndarray]

    @classmethod
    def good(cls) -> Arrays:
        """Return what can be packed."""
        return cls(
            {
                "earliest": np.array([0.0, 1.0]),
                "latest": np.array([3.0, 4.0]),
                "duration": np.full((2, 2), 2.0),
                "energy": np.ones((2, 2)),
                "fixed": np.zeros((2, 2)),
                "permitted": np.ones((2, 2), dtype=bool),
                "intensity": np.arange(12.0).reshape(2, 6),
                "capacity": np.ones((2, 6)),
            }
        )

    def pack(self) -> Packing:
        """Pack it."""
        given = dict(self.values)
        intensity, capacity = given.pop("intensity"), given.pop("capacity")
        return pack(Jobs(**given), intensity, capacity)


@given(
    field=st.sampled_from([name for name in Arrays.good().values if name != "permitted"]),
    place=st.integers(0, 11),
    value=st.sampled_from([math.nan, math.inf, -math.inf]),
)
@settings(deadline=None)
def test_no_array_takes_what_is_not_a_number(field: str, place: int, value: float) -> None:
    """Wherever it stands, the array is named, and the place."""
    arrays = Arrays.good()
    array = arrays.values[field]
    array.flat[place % array.size] = value
    with pytest.raises(BadInput) as caught:
        arrays.pack()
    assert caught.value.field == field
    assert str(np.unravel_index(place % array.size, array.shape)[0]) in caught.value.problem


@pytest.mark.parametrize(
    ("field", "place", "value"),
    [
        ("latest", 0, 5.0),  # it would run after the last step
        ("latest", 1, 0.0),  # it has to start before it may
        ("duration", 0, 0.0),
        ("duration", 0, 7.0),
        ("duration", 0, 1.5),
        ("earliest", 0, -1.0),
        ("energy", 0, -1.0),
        ("capacity", 0, -1.0),
        ("capacity", 0, 0.5),
    ],
)
def test_windows_and_capacity_that_cannot_be(field: str, place: int, value: float) -> None:
    """A window shorter than the run, no time, less than no capacity: the array is named."""
    arrays = Arrays.good()
    arrays.values[field].flat[place] = value
    with pytest.raises(BadInput) as caught:
        arrays.pack()
    assert caught.value.field in {field, "latest"}


def test_jobs_that_may_run_nowhere_are_refused() -> None:
    """Residency is never worked around; capacity 0 leaves a job unplaced, and that is told."""
    arrays = Arrays.good()
    arrays.values["permitted"][1] = False
    with pytest.raises(BadInput, match="job 1") as caught:
        arrays.pack()
    assert caught.value.field == "permitted"
    arrays = Arrays.good()
    arrays.values["capacity"][:] = 0
    assert arrays.pack().unplaced.tolist() == [0, 1]


def test_ragged_arrays_are_refused() -> None:
    """The array is named."""
    arrays = Arrays.good()
    arrays.values["duration"] = [[1.0], [1.0, 2.0]]
    with pytest.raises(BadInput) as caught:
        arrays.pack()
    assert caught.value.field == "duration"
