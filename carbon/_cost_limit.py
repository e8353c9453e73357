"""What a run may cost by its policy: one rule for the planner and for the fleet planner."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from carbon._policy import Strategy

if TYPE_CHECKING:
    from carbon._decision import Option
    from carbon._policy import CarbonPolicy


def cost_limit(policy: CarbonPolicy, home: Option) -> float:
    """Return the highest cost in USD; endless without a limit.

    Args:
        policy: The job's policy.
        home: Running at once at home, which a tolerance is counted from.
    """
    limits = [policy.max_cost_usd] if policy.max_cost_usd else []
    if policy.strategy is Strategy.CLEANEST and home.usd is not None:
        # Of the amount: where prices are negative, home costs less than nothing.
        limits.append(home.usd + abs(home.usd) * policy.cost_tolerance_percent / 100)
    return min(limits, default=math.inf)
