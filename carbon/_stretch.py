"""Stretches: values over time without a gap, cut out of what a file or a provider sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Stretch:
    """Values without a gap.

    Attributes:
        starts: Starts of the intervals, ascending, UTC.
        end: End of the last interval.
        values: One value per interval.
    """

    starts: tuple[datetime, ...]
    end: datetime
    values: tuple[float, ...]


@dataclass(frozen=True)
class Slot:
    """One value over a half-open interval; ``None`` where there is none.

    Attributes:
        start: Start of the interval, aware UTC.
        end: End of the interval, later than the start.
        value: The value.
    """

    start: datetime
    end: datetime
    value: float | None


def by_step(times: Sequence[datetime], values: Sequence[float | None]) -> list[Slot]:
    """Give each value the interval up to the next time, but no longer than the usual step.

    Args:
        times: Ascending, two or more.
        values: One per time.
    """
    steps = Counter(later - earlier for earlier, later in pairwise(times))
    usual = min(steps, key=lambda step: (-steps[step], step))
    ends = [min(time + usual, later) for time, later in pairwise(times)] + [times[-1] + usual]
    return [Slot(*row) for row in zip(times, ends, values, strict=True)]


def join(slots: Iterable[Slot]) -> list[Stretch]:
    """Join slots that follow one another; cut at each gap and at each missing value.

    Slots may come in any order. Of two slots that overlap without being equal neither is believed:
    the time that they share is a gap.
    """
    found: list[Stretch] = []
    run: list[Slot] = []
    for slot in _agreed(slots):
        if run and (slot.value is None or slot.start != run[-1].end):
            found.append(_stretch(run))
            run = []
        if slot.value is not None:
            run.append(slot)
    return [*found, _stretch(run)] if run else found


def _stretch(run: Sequence[Slot]) -> Stretch:
    values = tuple(slot.value for slot in run if slot.value is not None)
    return Stretch(tuple(slot.start for slot in run), run[-1].end, values)


def _agreed(slots: Iterable[Slot]) -> list[Slot]:
    """Return the slots in order, those that contradict one another without their value."""
    kept: list[Slot] = []
    for slot in sorted(slots, key=lambda slot: (slot.start, slot.end)):
        if kept and slot.start < kept[-1].end:
            if slot == kept[-1]:
                continue
            end = max(kept[-1].end, slot.end)
            kept[-1] = Slot(kept[-1].start, end, None)
        else:
            kept.append(slot)
    return kept


def clip(slots: Iterable[Slot], start: datetime, end: datetime) -> list[Slot]:
    """Return the slots that touch a window; providers send more than was asked for."""
    return [slot for slot in slots if slot.start < end and slot.end > start]
