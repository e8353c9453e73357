"""What a run carries in its labels, and how it is read by others."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon import Option, Placement, Reservation
from deployments._hold import Hold, _present

MOMENTS = st.datetimes(
    datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
    datetime(2100, 1, 1),  # noqa: DTZ001 - as above
    timezones=st.just(UTC),
)
SLOTS = st.builds(
    lambda pool, start, length, stage: Reservation(
        pool=pool, start=start, end=start + length, stage=stage
    ),
    pool=st.text(),
    start=MOMENTS,
    length=st.timedeltas(timedelta(seconds=1), timedelta(days=400)),
    stage=st.sampled_from(["", "embed"]),
)
DAY = datetime(2026, 6, 1, tzinfo=UTC)
BASELINE = Option(
    placements=(
        Placement(
            stage="embed",
            pool="eu-central-1-gpu",
            region="aws:eu-central-1",
            zone="DE",
            heavy=True,
            start=DAY,
            end=DAY + timedelta(hours=1),
            end_p95=DAY + timedelta(hours=2),
            kwh=1.0,
            usd=2.0,
            g=300.0,
            g_per_kwh=300.0,
        ),
    ),
    start=DAY,
    end=DAY + timedelta(hours=1),
    latest_safe_start=DAY + timedelta(hours=20),
    kwh=1.0,
    usd=2.0,
    g=300.0,
    g_per_kwh=300.0,
    slots=(),
)
HOLDS = st.builds(
    Hold,
    deadline=MOMENTS,
    start=MOMENTS,
    deferrals=st.integers(0, 50),
    slots=st.lists(SLOTS, max_size=4).map(tuple),
    baseline=st.just(BASELINE),
    decision=st.just({"pool": "eu-north-1-gpu", "expected_g": 12.5}),
)
GOOD = Hold(DAY + timedelta(days=1), DAY, 1, (), BASELINE).labels()
JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(HOLDS)
def test_labels_are_read_as_they_were_written(hold: Hold) -> None:
    """What the planner needs comes back as it was; the values fit Prefect's labels."""
    labels = hold.labels()
    read = Hold.read(labels)
    assert read
    assert replace(read, decision=hold.decision) == hold
    assert read.labels() == labels
    assert all(isinstance(value, str | int | float) for value in labels.values())


@given(st.sampled_from(sorted(GOOD)), JUNK | JUNK.map(json.dumps))
def test_labels_that_nobody_can_read_are_no_plan(name: str, junk: object) -> None:
    """A person may edit labels: whatever stands there, reading it never fails."""
    read = Hold.read({**GOOD, name: junk})
    assert read is None or isinstance(read, Hold)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("carbon.slots", "3"),
        ("carbon.slots", "null"),
        ("carbon.slots", '[{"pool": "a", "start": "2026-06-01", "end": "2026-06-02"}]'),
        ("carbon.deadline", "2026-06-01T00:00:00"),
        ("carbon.start", "soon"),
        ("carbon.deferrals", "often"),
    ],
)
def test_plan_without_zone_or_shape_is_no_plan(name: str, value: str) -> None:
    """A time without a zone could not be compared with the clock, so it is not read as a plan."""
    assert Hold.read(GOOD) is not None
    assert Hold.read({**GOOD, name: value}) is None


def test_a_plan_of_another_version_keeps_its_promise() -> None:
    """Deadline, start and slots are read, whatever else a later version says or leaves out."""
    slots = [{**slot, "rack": 7} for slot in json.loads(GOOD["carbon.slots"])]
    given = {**GOOD, "carbon.baseline": "{}", "carbon.slots": json.dumps(slots)}
    here, there = Hold.read(GOOD), Hold.read(given)
    assert here is not None
    assert there == replace(here, baseline=None)
    assert Hold.read(there.labels()) == there


@pytest.mark.parametrize("name", ["carbon.slots", "carbon.deadline", "carbon.start"])
def test_run_that_was_never_planned_has_no_plan(name: str) -> None:
    """A run without all of the trigger's labels carries no plan."""
    assert Hold.read({key: value for key, value in GOOD.items() if key != name}) is None


def test_people_are_told_only_our_labels() -> None:
    """Labels of Prefect and of others are not shown as part of the plan."""
    told = Hold.told({**GOOD, "prefect.flow.id": "x", "carbon.note": ["no", "label"]})
    assert "deadline" in told
    assert {"prefect.flow.id", "note"}.isdisjoint(told)


def test_plan_in_another_offset_is_the_same_moment() -> None:
    """Labels may be written in any offset; what counts is the moment."""
    shifted = {**GOOD, "carbon.start": "2026-06-01T02:00:00+02:00"}
    read = Hold.read(shifted)
    assert read
    assert read.start - datetime(2026, 6, 1, tzinfo=UTC) == timedelta(0)


def slot(start: float, end: float, stage: str = "embed") -> Reservation:
    """Return a slot by the hours of its day."""
    hour = timedelta(hours=1)
    return Reservation(pool="green", start=DAY + hour * start, end=DAY + hour * end, stage=stage)


IN_SEGMENTS = (slot(0, 9, stage=""), slot(1, 2), slot(4, 6), slot(7, 8))


def present(hours: float, *, started: bool) -> list[tuple[float, float]]:
    """Return from when to when the slots of a run in segments are taken, as seen at this hour."""
    found = _present(IN_SEGMENTS, DAY + timedelta(hours=hours), started=started)
    return [
        ((one.start - DAY) / timedelta(hours=1), (one.end - DAY) / timedelta(hours=1))
        for one in found
    ]


def test_an_earlier_segment_is_over_and_only_the_last_one_is_late() -> None:
    """In a pause the pool is free; past the last segment the stage still holds its slot."""
    assert present(1.5, started=True) == [(0, 9), (1, 2), (4, 6), (7, 8)]
    assert present(3, started=True) == [(0, 9), (4, 6), (7, 8)]
    assert present(8.5, started=True) == [(0, 9), pytest.approx((8.5, 8.6))]


def test_a_run_that_has_not_started_still_wants_all_its_segments() -> None:
    """None of them has been used: what has passed is wanted from now on."""
    assert present(3, started=False) == [(0, 9), (3, 4), (4, 6), (7, 8)]


def test_a_stage_moves_and_ends_with_all_its_segments() -> None:
    """They are slots of one name: all in another pool, or all free again."""
    hold = Hold(DAY, DAY, 0, IN_SEGMENTS, BASELINE)
    moved = hold.moved("embed", "far").slots
    assert [one.pool for one in moved] == ["green", "far", "far", "far"]
    assert hold.without("embed").slots == IN_SEGMENTS[:1]


def test_a_stage_that_goes_whole_holds_its_slot_between_its_segments() -> None:
    """From now on, for as long as its segments would have been; others keep theirs."""
    hour = timedelta(hours=1)
    slots = [("gpu", 1, 2, "embed"), ("gpu", 8, 12, "embed"), ("cpu", 0, 13, "")]
    taken = tuple(
        Reservation(pool=pool, start=DAY + a * hour, end=DAY + b * hour, stage=stage)
        for pool, a, b, stage in slots
    )
    hold = Hold(deadline=DAY + 20 * hour, start=DAY, deferrals=1, slots=taken, baseline=BASELINE)
    whole = hold.whole("embed", DAY + 3 * hour)
    assert [(slot.start, slot.end) for slot in whole.slots if slot.stage == "embed"] == [
        (DAY + 1 * hour, DAY + 2 * hour),
        (DAY + 3 * hour, DAY + 7 * hour),
    ]
    assert taken[2] in whole.slots
    assert hold.whole("publish", DAY) == hold
