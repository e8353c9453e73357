"""When a pool has no free slot: its capacity by the calendar, less the slots that others hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbon._calendar import steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from carbon._decision import Reservation
    from carbon._fleet import Fleet, Pool


@dataclass(frozen=True)
class Full:
    """A period in which a pool has no free slot.

    Attributes:
        begin: When it begins, POSIX seconds.
        end: When it ends.
        reason: Why, if not because others hold the slots.
    """

    begin: float
    end: float
    reason: str = ""


def capacity_steps(
    fleet: Fleet, pool: Pool, start: datetime, end: datetime
) -> tuple[list[float], list[float]]:
    """Return a pool's capacity over time, without what others hold.

    Returns:
        Edges in POSIX seconds, one more than values, and runs at a time between them.
    """
    bands = [(band.within(start, end, pool.timezone), float(band.capacity)) for band in pool.hours]
    first, last = start.timestamp(), end.timestamp()
    bands += [
        (iter([(begin, stop)]), 0.0)
        for blackout in fleet.blackouts_of(pool)
        if (begin := max(first, blackout.start.timestamp()))
        < (stop := min(last, blackout.end.timestamp()))
    ]
    return steps(float(pool.capacity), bands, first, last)


def full_periods(
    fleet: Fleet, pool: Pool, busy: Sequence[Reservation], start: datetime, end: datetime
) -> tuple[Full, ...]:
    """Return when a pool has no free slot, in order.

    Args:
        fleet: The fleet, for its blackouts.
        pool: The pool.
        busy: Slots that others hold or will hold, in any pool.
        start: From when on the calendar matters.
        end: Until when it does.
    """
    own = [slot for slot in busy if slot.pool == pool.name]
    if not (own or pool.hours or fleet.blackouts):
        return ()
    edges, values = capacity_steps(fleet, pool, start, end)
    changes = [(edges[0], 0, values[0] - pool.capacity)]
    changes += [
        (edge, 0, after - before)
        for edge, before, after in zip(edges[1:-1], values, values[1:], strict=False)
    ]
    changes.append((edges[-1], 0, pool.capacity - values[-1]))
    for slot in own:
        changes += [(slot.start.timestamp(), 1, 0.0), (slot.end.timestamp(), -1, 0.0)]
    return tuple(_named(fleet, pool, _without_room(sorted(changes), float(pool.capacity))))


def _without_room(
    changes: Sequence[tuple[float, int, float]], capacity: float
) -> Iterator[tuple[float, float]]:
    taken, since = 0, None
    for place, (when, step, more) in enumerate(changes):
        taken, capacity = taken + step, capacity + more
        if place + 1 < len(changes) and changes[place + 1][0] == when:
            continue  # all that changes at one moment counts together
        if taken >= capacity and since is None:
            since = when
        elif taken < capacity and since is not None:
            yield since, when
            since = None


def _named(fleet: Fleet, pool: Pool, periods: Iterator[tuple[float, float]]) -> Iterator[Full]:
    for begin, end in periods:
        names = [
            blackout.name
            for blackout in fleet.blackouts_of(pool)
            if blackout.start.timestamp() < end and blackout.end.timestamp() > begin
        ]
        yield Full(begin, end, ", ".join(names))
