"""A stage in segments: how its run carries them, how people are told, when the whole run is on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Final

from pydantic import TypeAdapter

from carbon import Clock, Option, Segment

TIMES: Final = "carbon.segment_times"
"""Label of a stage's run: its segments in times of the wall clock, for machines."""

PAUSES: Final = "pauses"
"""Tag of a run that is to pause. Prefect takes no labels when a stage's run is made, so the run may
begin before its segments are on it; by its tag it knows that they are coming."""

_TOLD: Final = "carbon.segments"
_LIST: Final = TypeAdapter(tuple[Segment, ...])

WHOLE: Final[dict[str, str | int | float]] = {TIMES: "[]", _TOLD: "none"}
"""Labels of a run that is to pause no more; labels are merged and cannot be taken off."""


def segments_of(option: Option) -> tuple[Segment, ...]:
    """Return the segments of the stage that pauses; the planner splits one at most."""
    return next((row.segments for row in option.placements if row.segments), ())


def spans(option: Option) -> list[tuple[datetime, datetime]]:
    """Return when a run is on: from start to end, or all of that but the pauses."""
    parts = segments_of(option)
    begins = [option.start, *(one.start for one in parts[1:])]
    ends = [*(one.end for one in parts[:-1]), option.end]
    return list(zip(begins, ends, strict=True))


def in_words(segments: Sequence[Segment]) -> str:
    """Say when the segments are, as in ``Mon 01 Jun 01:00-02:00, 04:00-06:00 UTC``.

    Each is told from when its slot is taken, for that is when its run is seen to wake.
    """
    return ", ".join(_ranges(segments)) + " UTC" if segments else "none"


def _ranges(segments: Sequence[Segment]) -> Iterator[str]:
    shown = None
    for one in segments:
        begin = f"{one.start:%H:%M}" if one.start.date() == shown else f"{one.start:%a %d %b %H:%M}"
        shown = one.start.date()
        end = f"{one.end:%H:%M}" if one.end.date() == shown else f"{one.end:%a %d %b %H:%M}"
        shown = one.end.date()
        yield f"{begin}-{end}"


def labels(segments: Sequence[Segment], clock: Clock) -> dict[str, str | int | float]:
    """Return what a stage's run carries of its segments.

    The run itself knows no grid time: it is started by Prefect, by the wall clock.
    """
    walls = tuple(
        replace(
            one, start=clock.wall(one.start), begin=clock.wall(one.begin), end=clock.wall(one.end)
        )
        for one in segments
    )
    return {TIMES: _LIST.dump_json(walls).decode(), _TOLD: in_words(segments)}


def read(labels: Mapping[str, object]) -> tuple[Segment, ...]:
    """Return the segments that a run carries, by the wall clock; none where nobody can read them.

    Whoever carries none runs whole, so that an edited label does no harm.
    """
    try:
        found = _LIST.validate_json(str(labels.get(TIMES, "[]")))
        ordered = all(one.start <= one.begin < one.end for one in found)
        ordered &= all(one.end <= later.start for one, later in pairwise(found))
        aware = all(moment.tzinfo for one in found for moment in (one.start, one.begin, one.end))
    except (TypeError, ValueError):
        return ()
    return found if ordered and aware else ()
