"""What limits cost: what would be saved if one of them were wider and the others as they are."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from carbon._candidates import LIMITS, MORE_SLACK, NOT_WORTH_WAITING
from carbon._decision import Relaxation, Rule, amount, money

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbon._candidates import Candidates, Limits

_ROUNDING: Final = 1e-6
_LIMITS: Final = (Rule.DEADLINE, Rule.CAPACITY, Rule.COST, Rule.INTENSITY)


def relaxations(
    table: Candidates,
    limits: Limits,
    least: float,
    emitted: float,
    wider: Mapping[Rule, Candidates],
    *,
    by_cost: bool,
) -> tuple[Relaxation, ...]:
    """Return what single limits cost, the dearest first, without those that cost next to nothing.

    Args:
        table: All placements.
        limits: The limits.
        least: What the choice is worth: emissions or cost, and the wait.
        emitted: Its emissions or cost alone.
        wider: What could be had in segments if a limit were wider; all of it keeps the others.
        by_cost: Whether cost was compared.
    """
    found: list[tuple[float, Relaxation]] = []
    for rule in _LIMITS:
        others = [other for other in LIMITS if other is not rule]
        tables = [] if table.kept[rule].all() else [(table, others)]
        tables += [(wider[rule], list(LIMITS))] if rule in wider else []
        best, text, saved = least - abs(least) * NOT_WORTH_WAITING, "", 0.0
        for one, rules in tables:
            entry = one.best(one.mask(rules), by_cost=by_cost)
            if entry is None or (value := float(one.values(by_cost=by_cost)[entry])) >= best:
                continue
            best, text = value, _text(rule, one, entry, limits, table)
            saved = emitted - float((one.usd if by_cost else one.grams)[entry])
        if text and saved > 0:
            told = f"{text} would save {money(saved) if by_cost else amount(saved)}."
            unit = {"saves_usd" if by_cost else "saves_g": saved}
            found.append((saved, Relaxation(rule=rule, text=told, **unit)))
    return tuple(one for _, one in sorted(found, key=lambda pair: -pair[0]))


def _text(rule: Rule, table: Candidates, entry: int, limits: Limits, asked: Candidates) -> str:
    """Say what would have to be wider, and by how much."""
    chain = table.chain(entry)
    if rule is Rule.DEADLINE:
        hours = MORE_SLACK.total_seconds() / 3600
        return "One hour more slack" if hours == 1 else f"{hours:g} hours more slack"
    if rule is Rule.CAPACITY:
        # By what was asked: where every slot is free, none is missing.
        real = replace(chain, request=asked.chains[0].request)
        pools = {pool.name: None for pool in real.pools_without_room(float(table.starts[entry]))}
        at = float(table.starts[entry])
        if names := real.blackouts(at, at):
            return f"To run in the blackout {' and '.join(names)}"
        return f"A free slot in {' and '.join(pools)}"
    if rule is Rule.COST:
        return f"{money(_enough(float(table.usd[entry]) - limits.usd, 2))} more of cost limit"
    g_per_kwh = (table.grams[entry] - chain.embodied_g) / chain.kwh
    wanted = _enough(float(g_per_kwh), 1)
    return f"An intensity limit of {wanted:.1f} instead of {limits.g_per_kwh:g} gCO2e/kWh"


def _enough(value: float, digits: int) -> float:
    """Round up to what is shown: a limit of this has to do."""
    scale = 10.0**digits
    return math.ceil(value * scale - _ROUNDING) / scale
