"""When another placement is better enough to leave a plan for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carbon import Strategy

if TYPE_CHECKING:
    from carbon import CarbonPolicy, Option

_CLEARLY_BETTER_PERCENT: Final = 1.0
"""Saving for which a run waits again, or is moved.

By ``benchmarks/uncertainty.py`` 1 % keeps most of what planning anew on waking wins where forecasts
are poor, with far fewer moves than 0 %; 5 % and more throw it away.
"""


def clearly_better(one: Option, other: Option, policy: CarbonPolicy) -> bool:
    """Tell whether one option beats another one clearly, by what the policy keeps low."""
    by_cost = policy.strategy is Strategy.CHEAPEST
    mine = one.usd if by_cost else one.g
    theirs = other.usd if by_cost else other.g
    if mine is None or theirs is None:
        return False
    # Of the amount, and by something: prices may be negative, and nothing.
    return mine < theirs and mine <= theirs - abs(theirs) * _CLEARLY_BETTER_PERCENT / 100
