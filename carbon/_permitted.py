"""Which pools may run a stage, and why the others may not."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np

from carbon._decision import Refusal, Rule
from carbon._errors import BadInput, ResidencyError
from carbon._fleet import residency_text
from carbon._policy import Strategy
from carbon._window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon._fleet import Pool
    from carbon._request import Request
    from carbon._series import IntensitySeries, PriceSeries
    from carbon._workload import Stage

_MOST_SETS: Final = 2000
"""Sets of pools that a decision looks at: a fifth of a second."""


class Refusals:
    """The pools that are not used; the first reason for a pool stands."""

    def __init__(self) -> None:
        self._found: dict[str, Refusal] = {}

    def add(self, pool: Pool, rule: Rule, reason: str) -> None:
        """Note why a pool is not used."""
        refusal = Refusal(pool=pool.name, region=pool.region, rule=rule, reason=reason)
        self._found.setdefault(pool.name, refusal)

    def all(self) -> tuple[Refusal, ...]:
        """Return all refusals in the order in which they were found."""
        return tuple(self._found.values())


def permitted(request: Request, stage: Stage, refusals: Refusals) -> tuple[Pool, ...]:
    """Return the pools that residency and policy permit for a stage, without those that are closed.

    Where all of them are closed they count as open: then it is as good to wait there as anywhere.

    Raises:
        ResidencyError: Residency leaves no pool.
        BadInput: No pool has its hardware, or none in the policy's regions.
    """
    fleet = request.fleet
    fitting = []
    allowed = fleet.jurisdictions(*request.data_classes)
    for pool in fleet.able(stage):
        if allowed is not None and pool.place.jurisdiction not in allowed:
            why = residency_text(fleet, pool, *request.data_classes)
            refusals.add(pool, Rule.RESIDENCY, why)
        elif stage.heavy and pool.region not in (request.policy.only_regions or (pool.region,)):
            only = ", ".join(request.policy.only_regions or ())
            refusals.add(pool, Rule.POLICY, f"the policy allows only {only}")
        else:
            fitting.append(pool)
    if not fitting:
        _nowhere(request, stage)
    shut = [pool for pool in fitting if stage.heavy and pool.name in request.closed]
    if len(shut) == len(fitting):
        return tuple(fitting)
    for pool in shut:
        refusals.add(pool, Rule.CAPACITY, request.closed[pool.name])
    return tuple(pool for pool in fitting if pool not in shut)


def sets(
    request: Request, permitted: Sequence[Sequence[Pool]], refusals: Refusals
) -> list[tuple[Pool, ...]]:
    """Return the sets of pools to look at, one pool for each stage: all, unless they are too many.

    Then the pools that even in their best hour are worst for a stage are left out, until a decision
    takes a fraction of a second. What is quickest, cheapest or cleanest for a stage stays, and so
    does home: whatever limit can be kept with all pools can be kept with those that are left.
    """
    if math.prod(map(len, permitted)) <= _MOST_SETS:
        return list(itertools.product(*permitted))
    kept = [list(pools) for pools in permitted]
    spare = [
        _ranked(request, stage, pools)
        for stage, pools in zip(request.workload.stages, permitted, strict=True)
    ]
    while math.prod(map(len, kept)) > _MOST_SETS and any(spare):
        place = max((p for p, row in enumerate(spare) if row), key=lambda p: len(kept[p]))
        kept[place].remove(spare[place].pop())
    names = {pool.name for pools in kept for pool in pools}
    for pool in itertools.chain.from_iterable(permitted):
        if pool.name not in names:
            refusals.add(
                pool,
                Rule.GRID,
                "even in its best hours before the deadline others are better for each stage",
            )
    return list(itertools.product(*kept))


def _ranked(request: Request, stage: Stage, pools: Sequence[Pool]) -> list[Pool]:
    """Return the pools that a stage can do without, the worst last."""
    windows = {pool.name: Window.after(None, request.home, stage, pool, 0.0) for pool in pools}

    def grams(pool: Pool) -> float:
        window = windows[pool.name]
        series = request.outlook.intensity.get(window.zone)
        return window.embodied_g + window.kwh * _least(request, series, window.seconds)

    def usd(pool: Pool) -> float:
        window, price = windows[pool.name], request.energy_price(pool)
        if price is None:
            return window.flat_usd
        least = _least(request, price.series, window.seconds)
        return window.flat_usd + window.kwh / 1000.0 * least * price.rate

    def g_per_kwh(pool: Pool) -> float:
        return grams(pool) / windows[pool.name].kwh

    needed = {
        min(pools, key=rank).name
        for rank in (grams, usd, g_per_kwh, lambda pool: windows[pool.name].needed)
    }
    home = request.fleet.home
    spare = [pool for pool in pools if pool.name not in needed and pool.region != home]
    return sorted(spare, key=usd if request.policy.strategy is Strategy.CHEAPEST else grams)


def _least(request: Request, series: IntensitySeries | PriceSeries | None, seconds: float) -> float:
    """Return the least mean over a run that is over by the deadline; infinite without any."""
    if series is None:
        return math.inf
    first, last = request.earliest.timestamp(), request.deadline.timestamp() - seconds
    edges = np.concatenate(([first, last], series.edges, series.edges - seconds))
    starts = edges[(edges >= first) & (edges <= last)]
    means = series.means(starts, seconds) if len(starts) else np.array([math.nan])
    return float(np.nanmin(means)) if np.isfinite(means).any() else math.inf


def _nowhere(request: Request, stage: Stage) -> NoReturn:
    fleet, only = request.fleet, request.policy.only_regions or ()
    able = fleet.able(stage)
    if not able:
        has = " and ".join(sorted({pool.hardware for pool in fleet.pools}))
        raise BadInput(
            f"{request.workload.name}.stages.{stage.name}.needs",
            f"no pool of the fleet has {' or '.join(sorted(stage.needs))} beside the entry runs' "
            f"{fleet.home_cpu.name!r}",
            f"Add such a pool to the fleet file, which has {has}, or give the stage another need.",
        )
    if stage.heavy and only and not any(pool.region in only for pool in able):
        raise BadInput(
            "policy.only_regions",
            f"the fleet has no pool for stage {stage.name!r} in {', '.join(only)}",
            f"Name one of {', '.join(sorted({pool.region for pool in able}))}, or leave it empty.",
        )
    allowed = fleet.jurisdictions(*request.data_classes) or ()
    classes = " and ".join(repr(name) for name in request.data_classes)
    within = f", and the policy allows only {', '.join(only)}" if stage.heavy and only else ""
    raise ResidencyError(
        f"{request.workload.name}: no permitted pool for stage {stage.name!r}. {classes} data may "
        f"only be processed in {', '.join(sorted(allowed)) or 'no jurisdiction'}{within}. "
        "Add a pool there, or change only_regions; residency never gives way."
    )
