"""Runs that hold slots together: which of them are one too many for a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carbon._occupancy import capacity_steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carbon._decision import Option, Reservation
    from carbon._fleet import Fleet, Pool

_ENDS, _CHANGES, _BEGINS = range(3)
"""At one moment slots end before capacity changes, and others begin after that."""
_OTHERS: Final = -1


def over_capacity(
    fleet: Fleet, options: Sequence[Option | None], busy: Sequence[Reservation]
) -> list[int]:
    """Return places of the options that must go elsewhere, so that no pool is over capacity.

    Args:
        fleet: The fleet.
        options: Where runs are to go; ``None`` where that is not known yet.
        busy: Slots that others hold; they do not move.
    """
    slots: dict[str, list[tuple[Reservation, int]]] = {}
    for place, option in enumerate(options):
        for slot in option.slots if option else ():
            slots.setdefault(slot.pool, []).append((slot, place))
    found: dict[int, None] = {}
    for name, own in slots.items():
        others = [(slot, _OTHERS) for slot in busy if slot.pool == name]
        found |= dict.fromkeys(_too_many(fleet, fleet.pool(name), [*own, *others]))
    return list(found)


def _too_many(fleet: Fleet, pool: Pool, slots: Sequence[tuple[Reservation, int]]) -> Iterator[int]:
    """Yield the places of options whose slots in a pool begin when it has none left."""
    begin = min(slot.start for slot, _ in slots)
    end = max(slot.end for slot, _ in slots)
    edges, values = capacity_steps(fleet, pool, begin, end)
    events = [(edge, _CHANGES, int(value)) for edge, value in zip(edges, values, strict=False)]
    for number, (slot, _) in enumerate(slots):
        events.append((slot.start.timestamp(), _BEGINS, number))
        events.append((slot.end.timestamp(), _ENDS, number))
    room, running = pool.capacity, dict[int, None]()
    for _, what, number in sorted(events):
        if what == _CHANGES:
            room = number
        elif what == _BEGINS:
            running[number] = None
        else:
            running.pop(number, None)
        while len(running) > room:
            movable = [one for one in running if slots[one][1] != _OTHERS]
            if not movable:
                break
            running.pop(movable[-1])
            yield slots[movable[-1]][1]
