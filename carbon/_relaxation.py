"""What limits cost: what would be saved if one of them were wider and the others as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._candidates import MORE_SLACK, NOT_WORTH_WAITING
from carbon._decision import Relaxation, Rule, amount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon._candidates import Candidates, Limits

_LIMITS: Final = (Rule.DEADLINE, Rule.CAPACITY, Rule.COST, Rule.INTENSITY)


def relaxations(
    sets: Sequence[Candidates], limits: Limits, least: float, *, by_cost: bool
) -> tuple[Relaxation, ...]:
    """Return what single limits cost, the dearest first, without those that cost next to nothing.

    Args:
        sets: All sets of pools.
        limits: The limits.
        least: Emissions or cost of the choice.
        by_cost: Whether cost was compared.
    """
    found: list[tuple[float, Relaxation]] = []
    for rule in _LIMITS:
        others = [other for other in (*_LIMITS, Rule.SAVING) if other is not rule]
        best = min(
            (
                (*value, place)
                for place, one in enumerate(sets)
                if (value := one.least(one.mask(others), by_cost=by_cost))
            ),
            default=None,
        )
        if best is None or best[0] >= least - abs(least) * NOT_WORTH_WAITING:
            continue
        saved = least - best[0]
        one = sets[best[2]]
        text = _text(rule, one, int(np.searchsorted(one.starts, best[1])), limits)
        told = f"{text} would save {f'{saved:.2f} USD' if by_cost else amount(saved)}."
        unit = {"saves_usd" if by_cost else "saves_g": saved}
        found.append((saved, Relaxation(rule=rule, text=told, **unit)))
    return tuple(one for _, one in sorted(found, key=lambda pair: -pair[0]))


def _text(rule: Rule, one: Candidates, place: int, limits: Limits) -> str:
    """Say what would have to be wider, and by how much."""
    if rule is Rule.DEADLINE:
        hours = MORE_SLACK.total_seconds() / 3600
        return "One hour more slack" if hours == 1 else f"{hours:g} hours more slack"
    if rule is Rule.CAPACITY:
        pools = {pool.name: None for pool in one.chain.pools_without_room(float(one.starts[place]))}
        return f"A free slot in {' and '.join(pools)}"
    if rule is Rule.COST:
        return f"{one.usd[place] - limits.usd:.2f} USD more of cost limit"
    g_per_kwh = (one.grams[place] - one.chain.embodied_g) / one.chain.kwh
    return f"An intensity limit of {g_per_kwh:.0f} instead of {limits.g_per_kwh:g} gCO2e/kWh"
