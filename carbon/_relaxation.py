"""What limits cost: what would be saved if one of them were wider and the others as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carbon._candidates import MORE_SLACK, NOT_WORTH_WAITING
from carbon._decision import Relaxation, Rule, amount

if TYPE_CHECKING:
    from carbon._candidates import Candidates, Limits

_LIMITS: Final = (Rule.DEADLINE, Rule.CAPACITY, Rule.COST, Rule.INTENSITY)


def relaxations(
    table: Candidates, limits: Limits, least: float, *, by_cost: bool
) -> tuple[Relaxation, ...]:
    """Return what single limits cost, the dearest first, without those that cost next to nothing.

    Args:
        table: All placements.
        limits: The limits.
        least: Emissions or cost of the choice.
        by_cost: Whether cost was compared.
    """
    found: list[tuple[float, Relaxation]] = []
    for rule in _LIMITS:
        if table.kept[rule].all():
            continue
        others = [other for other in (*_LIMITS, Rule.SAVING) if other is not rule]
        best = table.best(table.mask(others), by_cost=by_cost)
        if best is None:
            continue
        saved = least - float(table.values(by_cost=by_cost)[best])
        if saved <= abs(least) * NOT_WORTH_WAITING:
            continue
        text = _text(rule, table, best, limits)
        told = f"{text} would save {f'{saved:.2f} USD' if by_cost else amount(saved)}."
        unit = {"saves_usd" if by_cost else "saves_g": saved}
        found.append((saved, Relaxation(rule=rule, text=told, **unit)))
    return tuple(one for _, one in sorted(found, key=lambda pair: -pair[0]))


def _text(rule: Rule, table: Candidates, entry: int, limits: Limits) -> str:
    """Say what would have to be wider, and by how much."""
    chain = table.chain(entry)
    if rule is Rule.DEADLINE:
        hours = MORE_SLACK.total_seconds() / 3600
        return "One hour more slack" if hours == 1 else f"{hours:g} hours more slack"
    if rule is Rule.CAPACITY:
        pools = {pool.name: None for pool in chain.pools_without_room(float(table.starts[entry]))}
        return f"A free slot in {' and '.join(pools)}"
    if rule is Rule.COST:
        return f"{table.usd[entry] - limits.usd:.2f} USD more of cost limit"
    g_per_kwh = (table.grams[entry] - chain.embodied_g) / chain.kwh
    return f"An intensity limit of {g_per_kwh:.0f} instead of {limits.g_per_kwh:g} gCO2e/kWh"
