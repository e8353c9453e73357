"""Why a placement was chosen, in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbon._decision import Rule, amount
from carbon._workload import Urgency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon._decision import Option
    from carbon._request import Request


def gave_way(option: Option, breaches: Sequence[str]) -> str:
    """Say what the choice is when no placement keeps the limits; empty when it keeps them."""
    broken = {breach.partition(":")[0] for breach in breaches}
    where = f"{option.main.region}"
    if "cost" in broken:
        return f"No placement keeps the cost limit, so the cheapest is taken: {where}."
    if "intensity" in broken:
        return (
            "No placement keeps the intensity limit and all others, so the cleanest of those "
            f"that keep the others is taken: {where}."
        )
    return ""


def reason(
    request: Request, baseline: Option, rule: Rule, option: Option, sales: Sequence[str]
) -> str:
    """Say why an option was chosen.

    Args:
        request: What was planned.
        baseline: At once at home.
        rule: What stands between the choice and better ones.
        option: The choice.
        sales: Blackouts in which the best of these lies.
    """
    main = option.main
    there = f"{main.g_per_kwh:.0f} gCO2e/kWh in {main.zone}" if main.g_per_kwh else main.zone
    if option.g is not None:
        there = f"{amount(option.g)} at {there}"
    if baseline.g:
        there += f"; at once at home the run would emit {amount(baseline.g)}"
    sale = f", or lie in the blackout {' and '.join(sales)}" if sales else ""
    best = "The best start and place within all limits"
    if request.workload.urgency is Urgency.URGENT:
        best = "Urgent work starts at once, in the best place within all limits"
    return {
        Rule.GRID: f"{best}: {there}.",
        Rule.DEADLINE: f"The best start is the latest that is still safe: {there}.",
        Rule.COST: f"The best within the cost limit: {there}. Better ones cost too much.",
        Rule.CAPACITY: f"The best free slot: {there}. Better ones are taken{sale}.",
        Rule.INTENSITY: f"The best within the intensity limit: {there}.",
    }[rule]
