"""When the run of a stage pauses and when it had better go on, by what it carries; no server."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import cast
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.context import TaskRunContext

from carbon import Option, Placement, ReplayClock, Segment, SystemClock
from deployments import pause, segment_end
from deployments._hold import WANTED_NOW, Hold
from deployments._pause import AWAITING_SEGMENT, _between, _end, _labelled, _paused, _whole
from deployments._segments import PAUSES, TIMES, WHOLE, in_words, labels, read, segments_of, spans

DAY = datetime(2026, 6, 1, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
LOG = logging.getLogger("test")


def segment(start: float, end: float, *, up: float = 0.0) -> Segment:
    """Return a segment by the hours of its day, with a start-up."""
    begin = start + up
    return Segment(DAY + HOUR * start, DAY + HOUR * begin, DAY + HOUR * end, 1.0, 2.0, None)


THREE = (segment(1, 2), segment(4, 6, up=0.25), segment(26, 27))


def flow_run(worked: timedelta = timedelta(), **told: object) -> FlowRun:
    """A stage's run that has worked for so long."""
    return FlowRun.model_validate(
        {
            "id": str(uuid4()),
            "flow_id": str(uuid4()),
            "deployment_id": str(uuid4()),
            "estimated_run_time": worked.total_seconds(),
            "labels": told,
        }
    )


def until(run: FlowRun, hours: float) -> datetime | None:
    """When a run is to stop that begins at this hour."""
    return _end(run, THREE, DAY + HOUR * hours, LOG)


def test_a_run_stops_at_the_end_of_its_segment() -> None:
    """In the first segment, on waking in the second one, and never in the last one."""
    assert until(flow_run(), 1) == THREE[0].end
    assert until(flow_run(HOUR), 4) == THREE[1].end
    assert until(flow_run(HOUR), 4 - 10 / 3600) == THREE[1].end
    assert until(flow_run(3 * HOUR), 26) is None
    assert until(flow_run(3 * HOUR), 40) is None


@pytest.mark.parametrize(
    ("hours", "worked", "pauses"),
    [
        (1 + 6 / 60, timedelta(), True),  # a tenth of an hour and a minute may be lacking
        (1 + 8 / 60, timedelta(), False),
        (4.25, HOUR, True),
        (4.25, 43 * MINUTE, True),
        (4.25, 42 * MINUTE, False),
        (5, HOUR, False),
    ],
)
def test_a_run_that_lags_behind_goes_on(hours: float, worked: timedelta, *, pauses: bool) -> None:
    """The plan keeps the deadline only if the work of the earlier segments is done."""
    assert (until(flow_run(worked), hours) is not None) is pauses


@given(worked=st.timedeltas(timedelta(), 4 * HOUR), now=st.timedeltas(timedelta(), 30 * HOUR))
def test_whoever_pauses_has_done_nearly_all_that_was_planned(
    worked: timedelta, now: timedelta
) -> None:
    """Whenever it begins, a run that is told to stop has what the plan counts on by then."""
    end = _end(flow_run(worked), THREE, DAY + now, LOG)
    if end is not None:
        done = [one for one in THREE if one.end <= end]
        planned = sum((one.end - one.begin for one in done), timedelta())
        assert worked + (end - DAY - now) >= planned * 0.9 - MINUTE
        assert DAY + now < end < THREE[-1].end


def test_a_run_that_was_started_in_a_pause_is_told_from_one_that_wakes() -> None:
    """Workers fetch runs some seconds early; whoever comes earlier than that was asked for."""
    assert _between(THREE, DAY + 3 * HOUR)
    assert _between(THREE, DAY + 4 * HOUR - timedelta(seconds=20))
    for moment in (HOUR, 1.5 * HOUR, 4 * HOUR - timedelta(seconds=10), 5 * HOUR, 50 * HOUR):
        assert not _between(THREE, DAY + moment)


def test_a_run_that_a_person_has_started_does_not_pause() -> None:
    """It goes on to its end, however well it keeps to the plan."""
    run = flow_run(5 * HOUR, **{WANTED_NOW: True})
    assert until(run, 4) is None
    assert "started" in _whole(run, THREE[:1], DAY + 2 * HOUR)


def test_the_state_of_a_pause_says_when_and_how_to_go_on() -> None:
    """People read it on the run's page."""
    state = _paused(THREE[1], 1, 3)
    assert (state.name, state.state_details.scheduled_time) == (AWAITING_SEGMENT, THREE[1].start)
    for told in ("segment 1 of 3", "Mon 01 Jun 04:00 UTC", "carbon release"):
        assert told in (state.message or "")


def test_segments_are_carried_by_the_wall_clock() -> None:
    """Prefect wakes a run by the wall clock, also where the grid is replayed."""
    assert read(labels(THREE, SystemClock())) == THREE
    clock = ReplayClock(DAY, DAY + 100 * HOUR, 60)
    (first, *_) = read(labels(THREE, clock))
    assert (first.start, first.end) == (DAY + 100 * HOUR + MINUTE, DAY + 100 * HOUR + 2 * MINUTE)
    assert read(labels(THREE, SystemClock()) | WHOLE) == read({}) == ()


JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(JUNK | JUNK.map(json.dumps))
def test_a_label_that_nobody_can_read_is_no_segment(junk: object) -> None:
    """A person may edit labels: such a run goes whole."""
    assert read({TIMES: junk}) == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [("01:00:00Z", "01:00:00"), ("T02:", "T01:"), ("T02:", "T05:"), ("06-01", "06-41")],
)
def test_segments_out_of_order_or_without_a_zone_are_none(old: str, new: str) -> None:
    """What makes no sense is not guessed at."""
    told = labels(THREE, SystemClock())
    text = str(told[TIMES])
    assert text.replace(old, new) != text
    assert read({TIMES: text.replace(old, new)}) == ()


def test_people_read_the_segments_in_words() -> None:
    """Days are named where they change."""
    assert in_words(THREE) == "Mon 01 Jun 01:00-02:00, 04:00-06:00, Tue 02 Jun 02:00-03:00 UTC"
    night = (segment(22, 26), segment(28, 29))
    assert in_words(night) == "Mon 01 Jun 22:00-Tue 02 Jun 02:00, 04:00-05:00 UTC"
    assert in_words(()) == "none"
    told = Hold.told(labels(THREE, SystemClock()))
    assert told == {"segments": in_words(THREE)}


def test_a_run_is_on_but_for_its_pauses() -> None:
    """From its start, light stages included, to its end."""
    chain = option(THREE)
    assert segments_of(chain) == THREE
    times = [((a - DAY) / HOUR, (b - DAY) / HOUR) for a, b in spans(chain)]
    assert times == [(0, 2), (4, 6), (26, 28)]
    assert all(end < begin for (_, end), (begin, _) in pairwise(spans(chain)))
    assert spans(option(())) == [(DAY, DAY + 28 * HOUR)]


def option(segments: tuple[Segment, ...]) -> Option:
    """A stage from one o'clock on, with an hour before it and one after."""
    placement = Placement(
        stage="train",
        pool="green",
        region="aws:eu-north-1",
        zone="SE-SE3",
        heavy=True,
        start=DAY + HOUR,
        end=DAY + 27 * HOUR,
        end_p95=DAY + 27 * HOUR,
        kwh=1.0,
        usd=1.0,
        g=1.0,
        g_per_kwh=1.0,
        segments=segments,
    )
    return Option(
        placements=(placement,),
        start=DAY,
        end=DAY + 28 * HOUR,
        latest_safe_start=DAY + HOUR,
        kwh=1.0,
        usd=1.0,
        g=1.0,
        g_per_kwh=1.0,
        slots=(),
    )


class LateLabels:
    """A server whose run gets its labels after it was first read."""

    def __init__(self, *runs: FlowRun) -> None:
        self.left = list(runs)

    async def read_flow_run(self, _: UUID) -> FlowRun:
        """Return what it is by now."""
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


@pytest.mark.parametrize(("tags", "count"), [([PAUSES], 3), ([], 0)])
def test_a_run_that_begins_before_its_segments_are_on_it_waits(tags: list[str], count: int) -> None:
    """It knows by its tag that they are coming; without the tag it is not kept waiting."""
    early = flow_run().model_copy(update={"tags": tags})
    late = early.model_copy(update={"labels": labels(THREE, SystemClock())})
    client = cast("PrefectClient", LateLabels(early, late))
    assert len(read(asyncio.run(_labelled(client, early.id)).labels)) == count


def test_outside_a_deployments_run_nothing_pauses() -> None:
    """The same flow, called in a script or as a subflow, runs whole."""
    assert asyncio.run(segment_end()) is None
    assert asyncio.run(pause()) is None


def test_a_task_cannot_pause_its_flow() -> None:
    """Called in the wrong place, it says where it belongs."""
    with (
        TaskRunContext.model_construct(),
        pytest.raises(RuntimeError, match="in the flow, not a task"),
    ):
        asyncio.run(pause())
