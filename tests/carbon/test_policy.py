"""Policies: deadlines that hold over clock changes, sentences that leave no number out."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import jsonschema
import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from carbon._errors import BadInput
from carbon._policy import CarbonPolicy, Strategy

RELEASE = datetime(2026, 6, 1, 12, tzinfo=UTC)
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Sydney", "Asia/Kolkata", "UTC")


def utc(text: str) -> datetime:
    """Read a moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("12h", timedelta(hours=12)),
        ("1d 6h", timedelta(hours=30)),
        ("90m", timedelta(minutes=90)),
        ("1d2h3m", timedelta(days=1, hours=2, minutes=3)),
        (" 14d ", timedelta(days=14)),
    ],
)
def test_a_duration_counts_from_the_release(text: str, length: timedelta) -> None:
    """A duration is added to the moment the run was wanted."""
    assert CarbonPolicy(finish_by=text).deadline(RELEASE) == RELEASE + length


@pytest.mark.parametrize(
    ("finish_by", "release", "deadline"),
    [
        # Spring forward on 2026-03-29 at 02:00 CET; autumn back on 2026-10-25 at 03:00 CEST.
        ("06:30 Europe/Berlin", "2026-03-28T20:00", "2026-03-29T04:30"),
        ("06:30 Europe/Berlin", "2026-03-29T04:30", "2026-03-30T04:30"),
        ("06:30 Europe/Berlin", "2026-10-24T20:00", "2026-10-25T05:30"),
        ("06:30 Europe/Berlin", "2026-10-24T04:29", "2026-10-24T04:30"),
        ("23:59 Europe/Berlin", "2026-10-25T21:00", "2026-10-25T22:59"),
        ("00:00 UTC", "2026-06-01T00:00", "2026-06-02T00:00"),
        # 02:30 exists twice in autumn; the earlier one keeps the promise both ways.
        ("02:30 Europe/Berlin", "2026-10-24T20:00", "2026-10-25T00:30"),
    ],
)
def test_a_wall_clock_deadline_holds_over_clock_changes(
    finish_by: str, release: str, deadline: str
) -> None:
    """The wall clock of the zone counts, also on the days when it changes."""
    assert CarbonPolicy(finish_by=finish_by).deadline(utc(release)) == utc(deadline)


def test_a_wall_time_that_does_not_exist_still_gives_a_deadline() -> None:
    """02:30 on the spring day is skipped by the clock; the deadline is near it."""
    deadline = CarbonPolicy(finish_by="02:30 Europe/Berlin").deadline(utc("2026-03-28T20:00"))
    assert utc("2026-03-29T00:30") <= deadline <= utc("2026-03-29T01:30")


@given(
    release=st.datetimes(datetime(2025, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds the zone
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    zone=st.sampled_from(ZONES),
)
def test_a_wall_clock_deadline_is_strictly_later_and_soon(
    release: datetime, hour: int, minute: int, zone: str
) -> None:
    """It lies after the release, at most 25 h later, and shows the time that was asked for."""
    policy = CarbonPolicy(finish_by=f"{hour:02}:{minute:02} {zone}")
    deadline = policy.deadline(release)
    assert timedelta(0) < deadline - release <= timedelta(hours=25)
    local = deadline.astimezone(ZoneInfo(zone))
    naive = datetime(local.year, local.month, local.day, hour, minute, tzinfo=ZoneInfo(zone))
    exists = naive.astimezone(UTC).astimezone(ZoneInfo(zone)).time() == naive.time()
    assert not exists or (local.hour, local.minute) == (hour, minute)


def test_a_naive_release_is_refused() -> None:
    """A release without a time zone is not taken for the machine's local time."""
    with pytest.raises(BadInput, match=r"release.*no time zone"):
        CarbonPolicy().deadline(RELEASE.replace(tzinfo=None))


def test_the_sentence_mentions_every_number() -> None:
    """Nothing that was set is left out of the description."""
    policy = CarbonPolicy(
        strategy=Strategy.CLEANEST,
        finish_by="1d 7h",
        cost_tolerance_percent=11,
        max_cost_usd=13.5,
        max_g_per_kwh=217,
        min_saving_percent=19,
        only_regions=("aws:eu-north-1",),
    )
    said = policy.describe()
    for part in ("1d 7h", "11 %", "13.5 USD", "217 gCO2e/kWh", "19 %", "aws:eu-north-1"):
        assert part in said
    assert said.count(".") - said.count("13.5") == 1
    cheapest = policy.model_copy(update={"strategy": Strategy.CHEAPEST}).describe()
    for part in ("cheapest", "1d 7h", "13.5 USD", "217 gCO2e/kWh", "19 %", "aws:eu-north-1"):
        assert part in cheapest
    now = CarbonPolicy(strategy=Strategy.RUN_NOW, finish_by="06:30 Europe/Berlin").describe()
    assert now == "Run at once at home; finish by 06:30 Europe/Berlin."


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"strategy": "greenest"}, "strategy"),
        ({"finish_by": "soon"}, "finish_by"),
        ({"finish_by": ""}, "finish_by"),
        ({"finish_by": "0h"}, "finish_by"),
        ({"finish_by": "15d"}, "finish_by"),
        ({"finish_by": "-3h"}, "finish_by"),
        ({"finish_by": "24:00 Europe/Berlin"}, "finish_by"),
        ({"finish_by": "06:60 Europe/Berlin"}, "finish_by"),
        ({"finish_by": "06:30 Europe/Berln"}, "finish_by"),
        ({"finish_by": "06:30 ../etc/passwd"}, "finish_by"),
        ({"finish_by": "06:30 Europe"}, "finish_by"),
        ({"finish_by": "06:30"}, "finish_by"),
        ({"finish_by": "9" * 30 + "d"}, "finish_by"),
        ({"cost_tolerance_percent": -1}, "cost_tolerance_percent"),
        ({"cost_tolerance_percent": float("nan")}, "cost_tolerance_percent"),
        ({"max_cost_usd": 0}, "max_cost_usd"),
        ({"max_cost_usd": -1}, "max_cost_usd"),
        ({"max_g_per_kwh": -200}, "max_g_per_kwh"),
        ({"min_saving_percent": 101}, "min_saving_percent"),
        ({"only_regions": ["aws:eu-nort-1"]}, "only_regions"),
        ({"strategy": "cheapest"}, "max_g_per_kwh"),
        ({"finish_bye": "3h"}, "finish_bye"),
    ],
)
def test_a_bad_value_is_refused_by_field(fields: dict[str, object], named: str) -> None:
    """Each wrong value gives one line that names its field."""
    with pytest.raises(ValidationError) as caught:
        CarbonPolicy.model_validate(fields)
    error = BadInput.from_validation("policy", caught.value)
    assert error.field == f"policy.{named}"
    assert error.fix


@given(text=st.one_of(st.text(), st.from_regex(re.compile(r"[0-9]{1,12}[dhm: ]{0,3}[0-9]{0,4}"))))
def test_any_text_is_a_deadline_or_a_clear_refusal(text: str) -> None:
    """No text crashes the parser: it is read, or refused as finish_by."""
    try:
        policy = CarbonPolicy(finish_by=text)
    except ValidationError:
        with pytest.raises(ValidationError) as caught:
            CarbonPolicy(finish_by=text)
        assert BadInput.from_validation("policy", caught.value).field == "policy.finish_by"
    else:
        assert policy.deadline(RELEASE) > RELEASE


def test_the_hour_that_comes_twice_is_met_the_next_time() -> None:
    """On the autumn night, a time that has come once comes again an hour later."""
    policy = CarbonPolicy(finish_by="02:30 Europe/Berlin")
    release = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    assert policy.deadline(release) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_a_pendulum_release_gives_an_aware_deadline() -> None:
    """Prefect hands out pendulum times, which lose a standard zone when something is added."""
    release = pendulum.datetime(2026, 6, 1, 12, tz="UTC")
    deadline = CarbonPolicy(finish_by="12h").deadline(release)
    assert deadline == datetime(2026, 6, 2, tzinfo=UTC)
    assert deadline.tzinfo is UTC


def test_the_schema_refuses_what_the_policy_refuses() -> None:
    """Prefect checks requests by the schema: what is wrong must not become a run."""
    check = jsonschema.Draft202012Validator(CarbonPolicy.model_json_schema())
    for wrong in (
        {"finish_by": "tomorrow"},
        {"finish_by": "25 o'clock"},
        {"only_regions": ["aws:mars"]},
        {"strategy": "cheapest"},
        {"strategy": "cheapest", "max_g_per_kwh": None},
        {"max_cost_usd": 0},
        {"nonsense": 1},
    ):
        assert not check.is_valid(wrong), wrong
    for right in (
        {},
        {"finish_by": "1d 6h"},
        {"finish_by": "06:30 Europe/Berlin", "only_regions": ["aws:eu-north-1"]},
        {"strategy": "cheapest", "max_g_per_kwh": 200},
        CarbonPolicy().model_dump(mode="json"),
    ):
        assert check.is_valid(right), right


def test_what_is_stated_goes_over_the_rest() -> None:
    """A partial policy keeps the other's fields, and the sum of the two is checked."""
    base = CarbonPolicy(max_cost_usd=3, finish_by="8h")
    assert CarbonPolicy(finish_by="2h").over(base) == CarbonPolicy(max_cost_usd=3, finish_by="2h")
    assert CarbonPolicy().over(base) == base
    capped = CarbonPolicy(strategy="cheapest", max_g_per_kwh=100)
    with pytest.raises(BadInput, match="max_g_per_kwh"):
        CarbonPolicy(max_g_per_kwh=None).over(capped)


@pytest.mark.parametrize("field", ["max_cost_usd", "max_g_per_kwh", "cost_tolerance_percent"])
def test_endless_numbers_are_refused(field: str) -> None:
    """Infinity is no limit."""
    with pytest.raises(ValueError, match=field):
        CarbonPolicy(**{field: float("inf")})
