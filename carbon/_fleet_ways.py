"""What a request may do, laid out at every step: the rows of a fleet's packing.

A *way* is a request on one set of pools. It is counted in the pool of the heavy stage that uses
most energy, by the slot that this stage holds; what it costs is exact, with all other stages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._candidates import Candidates, Step, giving_way, tabulate
from carbon._chain import Starts
from carbon._decision import Rule
from carbon._evaluation import placed_at
from carbon._planner import Planning
from carbon._policy import Strategy

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from numpy.typing import NDArray

    from carbon._chain import Chain
    from carbon._fleet import Pool
    from carbon._request import Request
    from carbon._window import Window

_TIE: Final = 1e-3
"""What a gram counts where cost is kept low: of what costs the same, the cleanest."""
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Way:
    """A request on one set of pools.

    Attributes:
        chain: Its stages on these pools.
        first: Step of the first start.
        lead: Steps from the start of the run to that of the slot by which it is counted.
        held: Steps for which that slot is held, by the 95th percentile.
        values: What each start costs; infinite where a limit does not hold that can.
        by_cost: Whether cost is kept low; what it costs is then as if it were grams.
        gives_way: Whether a limit is broken, for no placement keeps all of them.
    """

    chain: Chain
    first: int
    lead: int
    held: int
    values: NDArray[np.float64]
    by_cost: bool
    gives_way: bool

    @property
    def pool(self) -> Pool:
        """Where it is counted."""
        return _counted(self.chain).pool

    def value_at(self, step: int) -> float:
        """Return what it costs if its slot begins in a step."""
        return float(self.values[step - self.first - self.lead])

    @property
    def rank(self) -> tuple[int, float]:
        """What is better first: all heavy stages in one pool, then what costs least."""
        return len(set(self.chain.heavy_pools)), float(self.values.min())


def ways(request: Request, step: timedelta) -> list[Way]:
    """Return how a request may run, one way for each pool in which it can be counted.

    Args:
        request: What is to run; ``busy`` holds only what does not move.
        step: Starts are multiples of it after the present.

    Returns:
        Its ways; none where it is not free to move, or where no start is in time and known.

    Raises:
        ResidencyError: No permitted pool can run a stage.
        BadInput: It does not fit the fleet at all.
    """
    planning = Planning(request)
    fixed = not request.may_wait or request.policy.strategy is Strategy.RUN_NOW
    if fixed or planning.baseline.g is None:
        return []
    now, seconds = request.now.timestamp(), step.total_seconds()
    latest = max(request.deadline - chain.needed for chain in planning.chains)
    first = math.ceil(_offset(request.earliest, request.now, seconds) - _ROUNDING)
    last = math.floor(_offset(latest, request.now, seconds) + _ROUNDING)
    if last < first:
        return []
    at = Starts(request, now + seconds * np.arange(first, last + 1, dtype=np.float64))
    placed = [
        placed_at(
            at, chain, at.seconds <= (request.deadline - chain.needed).timestamp() + _ROUNDING
        )
        for chain in planning.chains
    ]
    table = tabulate(request, placed, planning.limits)
    kept = _kept(request, table)
    if kept is None:
        return []
    values, count = _values(table, *kept), last - first + 1
    by_cost, gives_way = kept[0].by_cost, kept[0] != giving_way(request.policy)[0]
    found: dict[str, Way] = {}
    for index, chain in enumerate(table.chains):
        own = values[index * count : (index + 1) * count]
        if np.isfinite(own).any():
            way = Way(chain, first, *_slot(chain, seconds), own, by_cost, gives_way)
            other = found.get(way.pool.name)
            if other is None or way.rank < other.rank:
                found[way.pool.name] = way
    return list(found.values())


def _offset(moment: datetime, now: datetime, seconds: float) -> float:
    return (moment - now).total_seconds() / seconds


def _kept(request: Request, table: Candidates) -> tuple[Step, NDArray[np.bool_]] | None:
    """Return the limits that can all be kept, and where they are."""
    for step in giving_way(request.policy):
        mask = table.mask(step.rules)
        if mask.any():
            return step, mask
        if Rule.SAVING in step.rules and request.policy.min_saving_percent:
            return None  # what is not worth a move is for the planner to say
    return None


def _values(table: Candidates, step: Step, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return what each entry costs, in gCO2e or as if it were."""
    values = table.values(by_cost=step.by_cost, waiting=step.waiting)
    if step.by_cost:
        # By what the choice is worth in both: so dear jobs and clean ones share a pool fairly.
        usd, grams = np.ptp(values[mask]), np.ptp(table.grams[mask])
        alike = usd <= _ROUNDING * max(1.0, float(np.abs(values[mask]).max()))
        rate = 0.0 if alike else (grams or 1.0) / usd
        values = rate * values + (1.0 if alike else _TIE) * table.grams
    return np.where(mask, values, np.inf)


def _counted(chain: Chain) -> Window:
    heavy = [window for window in chain.windows if window.stage.heavy]
    return max(heavy or chain.windows, key=lambda window: window.kwh)


def _slot(chain: Chain, seconds: float) -> tuple[int, int]:
    """Return how many steps after its start a chain takes the slot that counts, and how many."""
    window = _counted(chain)
    begin, end = window.due, window.end_p95
    if not window.stage.heavy:
        begin, end = 0.0, chain.windows[-1].end_p95  # the entry run's own slot
    lead = math.floor(begin / seconds + _ROUNDING)
    return lead, max(1, math.ceil(end / seconds - _ROUNDING) - lead)
