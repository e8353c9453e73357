"""Many requests at once: a plan for the whole fleet, and a proof of how good it is.

::

    found = plan_fleet(requests)
    found.options[0].start, found.packed_g, found.bound_g, found.gap

The heavy stage that uses most energy decides where a job is counted: a slot there is held from the
start of the run until the 95th percentile of its end, in whole steps; a chain of several heavy
stages is laid into that one pool, if it may, and then planned anew around all others. All jobs are
packed together (:mod:`carbon._packing`); each is then laid out exactly, and what does not hold then
(a limit that binds in between, a slot for the entry run at home) is planned alone, around all
others. Jobs that are not free to move keep their place: work that is interactive or runs at once,
and what has less than a step of slack.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._candidates import SAME
from carbon._crowding import over_capacity
from carbon._errors import BadInput
from carbon._evaluation import pausing
from carbon._occupancy import capacity_steps
from carbon._packing import Packing, pack
from carbon._packing_input import Jobs
from carbon._permitted import Refusals, permitted
from carbon._planner import plan
from carbon._policy import Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carbon._chain import Chain
    from carbon._decision import Option
    from carbon._fleet import Pool
    from carbon._request import Request

_STEP: Final = timedelta(minutes=15)
_SWEEPS: Final = 3
_FEW: Final = 200
"""Requests up to which chains with several heavy stages are planned anew around the others."""


@dataclass(frozen=True)
class FleetPlan:
    """A plan for many requests.

    Attributes:
        options: The placement of each request, in their order.
        alone: Requests that were planned alone, around the others: fixed ones, those whose packed
            place broke a limit, and chains of several heavy stages that gained by it.
        queued: Requests for which no slot is free in time: they start at once and queue. One that
            finds none, e.g. for capacity 0 by the calendar, does not keep the others from a plan.
        packed_g: Emissions of the packed requests in whole steps, in gCO2e.
        bound_g: No plan that packs the same requests in whole steps emits less, each counted by one
            heavy stage; it says little of chains with several.
    """

    options: tuple[Option, ...]
    alone: tuple[int, ...]
    queued: tuple[int, ...]
    packed_g: float
    bound_g: float

    @property
    def g(self) -> float | None:
        """Emissions of all requests in gCO2e; ``None`` where one is not known.

        Not to be held against ``bound_g``: those that queue count, as if they ran at once, and so
        do those that were planned alone.
        """
        total = 0.0
        for option in self.options:
            if option.g is None:
                return None
            total += option.g
        return total

    @property
    def gap(self) -> float:
        """How far the packed part may be from the best plan, as a share of the bound."""
        return (self.packed_g - self.bound_g) / self.bound_g if self.bound_g > 0 else 0.0


def plan_fleet(requests: Sequence[Request], *, step: timedelta = _STEP) -> FleetPlan:
    """Plan many requests together, within the capacity of every pool.

    At a new arrival, plan again with all that has not begun, and what has as ``busy``: those that
    can wait make room for one that cannot.

    Args:
        requests: What is to run; all with one fleet, one outlook, one present and the same slots
            held by others. A pool in whose zone the outlook has no intensity is not used.
        step: Length of a step: starts are multiples of it after the present moment.

    Raises:
        ResidencyError: No permitted pool can run a stage.
        BadInput: A request does not fit the fleet, or the requests do not go together.
    """
    if not requests:
        return FleetPlan((), (), (), 0.0, 0.0)
    _require_one_world(requests, step)
    return _FleetPlanning(requests, step).made()


def _require_one_world(requests: Sequence[Request], step: timedelta) -> None:
    if step <= timedelta(0):
        raise BadInput("step", f"{step} is no length of a step", "Give e.g. 15 minutes.")
    first = requests[0]
    for place, other in enumerate(requests):
        for name in ("fleet", "outlook", "now", "busy"):
            mine, theirs = getattr(first, name), getattr(other, name)
            if theirs is not mine and (name == "outlook" or theirs != mine):
                raise BadInput(
                    f"requests[{place}].{name}",
                    "is another one than that of the first request",
                    "Plan together what is decided at one moment, from one outlook.",
                )
        _require_pools(place, other)


def _require_pools(place: int, request: Request) -> None:
    """Refuse a request that could not even run at home, by its place."""
    try:
        for stage in request.workload.stages:
            request.fleet.home_pool(stage)
        request.fleet.jurisdictions(*request.data_classes)
    except BadInput as error:
        raise BadInput(f"requests[{place}].{error.field}", error.problem, error.fix) from error


@dataclass
class _Way:
    """One request in one pool, in steps."""

    chain: Chain
    earliest: int
    latest: int
    duration: int
    drawing: int
    g_per_step: float
    fixed_g: float

    @property
    def rank(self) -> tuple[int, float]:
        """What is better first: all heavy stages in the pool where they are counted, then grams."""
        return len(set(self.chain.heavy_pools)), self.fixed_g


class _FleetPlanning:
    """One fleet plan in the making."""

    def __init__(self, requests: Sequence[Request], step: timedelta) -> None:
        self.requests, self.first, self.step = requests, requests[0], step
        self.pools = self.first.fleet.pools
        self.place = {pool.name: index for index, pool in enumerate(self.pools)}
        self.ways = [self._ways(request) for request in requests]
        self.options: list[Option | None] = [None] * len(requests)
        self.alone: list[int] = []

    def made(self) -> FleetPlan:
        """Pack what can be moved, lay it out exactly, and plan the rest around it."""
        fixed = [place for place, ways in enumerate(self.ways) if not ways]
        for place in fixed:
            self._plan_alone(place)
        moved = [place for place, ways in enumerate(self.ways) if ways]
        packing = self._pack(moved) if moved else None
        if packing is not None:
            for index in np.argsort(packing.start, kind="stable").tolist():
                self._lay_out(moved[index], packing, index)
        over = over_capacity(self.first.fleet, self.options, self.first.busy)
        for place in (*(p for p in moved if self.options[p] is None), *over):
            self._plan_alone(place)
        self._plan_chains()
        options = tuple(option for option in self.options if option is not None)
        crowded = set(over_capacity(self.first.fleet, self.options, self.first.busy))
        queued = [
            place
            for place, option in enumerate(options)
            if option.start > option.latest_safe_start or place in crowded
        ]
        return FleetPlan(
            options=options,
            alone=tuple(dict.fromkeys(self.alone)),
            queued=tuple(queued),
            packed_g=packing.cost if packing else 0.0,
            bound_g=packing.bound if packing else 0.0,
        )

    # -- in steps ------------------------------------------------------------------------------

    def _seconds(self, moment: datetime) -> float:
        return (moment - self.first.now) / self.step

    def _ways(self, request: Request) -> dict[int, _Way]:
        """Return how a request can be packed, by place of the pool; none where it is fixed."""
        if not request.may_wait or request.policy.strategy is not Strategy.CLEANEST:
            return {}
        refusals = Refusals()
        choices = [permitted(request, stage, refusals) for stage in request.workload.stages]
        found: dict[int, _Way] = {}
        limit = self._limit(request)
        for pools in itertools.product(*choices):
            way = self._way(request, request.chain(pools))
            if way is not None and sum(one.flat_usd for one in way.chain.windows) <= limit:
                place = self.place[self._counted(way.chain).name]
                if place not in found or way.rank < found[place].rank:
                    found[place] = way
        return found

    def _level(self, zone: str) -> float:
        series = self.first.outlook.intensity.get(zone)
        return float(np.mean(series.known)) if series is not None and series.known else 0.0

    @staticmethod
    def _limit(request: Request) -> float:
        """Return what a request may cost in USD, with room for rounding."""
        stages = request.workload.stages
        home = request.chain([request.fleet.home_pool(stage) for stage in stages])
        at_home = (request.baseline or home.option(request.earliest, request.deadline)).usd
        limit = request.policy.cost_limit(home.flat_usd if at_home is None else at_home)
        return limit + abs(limit) * SAME

    @staticmethod
    def _counted(chain: Chain) -> Pool:
        heavy = [window for window in chain.windows if window.stage.heavy]
        return max(heavy or chain.windows, key=lambda window: window.kwh).pool

    def _way(self, request: Request, chain: Chain) -> _Way | None:
        earliest = math.ceil(self._seconds(request.earliest) - 1e-9)
        latest = math.floor(self._seconds(request.deadline - chain.needed) + 1e-9)
        counted = self._counted(chain)
        series = request.outlook.intensity.get(counted.place.zone)
        if latest < earliest or series is None:
            return None
        window = next(one for one in chain.windows if one.pool is counted)
        seconds = self.step.total_seconds()
        duration = max(1, math.ceil(window.end_p95 / seconds - 1e-9))
        drawing = min(duration, max(1, round(window.seconds / seconds)))
        # What does not hang on the time, or hardly: transfer, hardware, the other stages.
        fixed = chain.embodied_g
        for one in chain.windows:
            weights = one.weights(one.parts[0], request.home_zone)
            fixed += sum(kwh * self._level(zone) for zone, kwh in weights)
        fixed -= window.kwh * self._level(window.zone)
        return _Way(chain, earliest, latest, duration, drawing, window.kwh / drawing, fixed)

    def _pack(self, moved: Sequence[int]) -> Packing:
        shape = (len(moved), len(self.pools))
        duration, drawing = np.ones(shape, np.int64), np.ones(shape, np.int64)
        energy, fixed = np.zeros(shape), np.zeros(shape)
        allowed = np.zeros(shape, np.bool_)
        earliest = np.array([min(w.earliest for w in self.ways[p].values()) for p in moved])
        # Of unlike pools the tightest counts: a start is safe in all of them.
        latest = np.array([min(w.latest for w in self.ways[p].values()) for p in moved])
        for row, place in enumerate(moved):
            for column, way in self.ways[place].items():
                allowed[row, column] = True
                duration[row, column], drawing[row, column] = way.duration, way.drawing
                energy[row, column], fixed[row, column] = way.g_per_step, way.fixed_g
        steps = int((latest + np.where(allowed, duration, 0).max(axis=1)).max())
        jobs = Jobs(earliest, latest, duration, energy, fixed, allowed, drawing)
        intensity, known = self._intensity(steps)
        capacity = np.where(known, self._capacity(steps), 0)
        return pack(jobs, intensity, capacity)

    def _intensity(self, steps: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the mean of each step in each pool's zone, and whether it is known."""
        seconds = self.step.total_seconds()
        starts = self.first.now.timestamp() + seconds * np.arange(steps, dtype=np.float64)
        rows = []
        for pool in self.pools:
            series = self.first.outlook.intensity.get(pool.place.zone)
            rows.append(np.full(steps, np.nan) if series is None else series.means(starts, seconds))
        found = np.array(rows)
        return np.nan_to_num(found), np.isfinite(found)

    def _capacity(self, steps: int) -> NDArray[np.int64]:
        """Return free slots by pool and step, less what others and fixed requests hold."""
        first, seconds = self.first.now, self.step.total_seconds()
        end = first + self.step * steps
        taken = [*self.first.busy, *(s for o in self.options if o is not None for s in o.slots)]
        rows = []
        for pool in self.pools:
            edges, values = capacity_steps(self.first.fleet, pool, first, end)
            row = np.full(steps, float(pool.capacity))
            for begin, stop, value in zip(edges, edges[1:], values, strict=False):
                a, b = (_steps(edge - first.timestamp(), seconds) for edge in (begin, stop))
                row[a[0] : b[1]] = np.minimum(row[a[0] : b[1]], value)
            for slot in taken:
                if slot.pool == pool.name:
                    a = _steps((slot.start - first).total_seconds(), seconds)
                    b = _steps((slot.end - first).total_seconds(), seconds)
                    row[max(0, a[0]) : max(0, b[1])] -= 1
            rows.append(np.maximum(row, 0))
        return np.array(rows).astype(np.int64)

    # -- exactly -------------------------------------------------------------------------------

    def _lay_out(self, place: int, packing: Packing, index: int) -> None:
        """Lay a packed request out; leave it for later where a limit does not hold then."""
        column = int(packing.pool[index])
        if column < 0:
            return
        request, way = self.requests[place], self.ways[place][column]
        start = self.first.now + self.step * int(packing.start[index])
        option = way.chain.option(start, request.deadline)
        policy = request.policy
        limit = self._limit(request)
        if limit < math.inf and (option.usd is None or option.usd > limit):
            return
        if option.g is None or option.start > option.latest_safe_start:
            return
        ceiling = policy.max_g_per_kwh
        if ceiling and option.g_per_kwh is not None and option.g_per_kwh > ceiling:
            return
        if policy.min_saving_percent or policy.freshness_g_per_hour:
            return  # what is worth a move is for the planner to say
        self.options[place] = option

    def _plan_chains(self) -> None:
        """Plan anew, around all others, what was packed as one heavy stage that runs whole.

        Those are chains of several heavy stages and stages that can pause. The best is kept of
        three plans: from where they were packed, the tightest first, and first come, first served.
        """
        chains = [
            place
            for place, request in enumerate(self.requests)
            if self.ways[place] and (_heavy(request) > 1 or pausing(request))
        ]
        if not chains or len(self.requests) > _FEW:
            return
        self._improve(chains)
        best = self.options, self.alone
        for order in (sorted(chains, key=lambda p: self.requests[p].deadline), chains):
            self.options, self.alone = [*best[0]], [*best[1]]
            for place in chains:
                self.options[place] = None
            for place in order:
                self._plan_alone(place)
            self._improve(chains)
            if self._worth(self.options) < self._worth(best[0]):
                best = self.options, self.alone
        self.options, self.alone = best

    def _improve(self, chains: Sequence[int]) -> None:
        """Plan one after the other anew, as long as that gains."""
        for _ in range(_SWEEPS):
            gained = False
            for place in chains:
                before = self.options[place]
                self._plan_alone(place)
                if self._worth([before]) <= self._worth([self.options[place]]):
                    self.options[place] = before
                    self.alone.pop()
                else:
                    gained = True
            if not gained:
                return

    @staticmethod
    def _worth(options: Sequence[Option | None]) -> tuple[int, float]:
        """Return how many start too late, and the grams."""
        known = [option for option in options if option is not None]
        late = sum(option.start > option.latest_safe_start for option in known)
        return late, sum(option.g or 0.0 for option in known)

    def _plan_alone(self, place: int) -> None:
        """Plan one request around all others, exactly."""
        self.options[place] = None
        request = self.requests[place]
        others = (slot for option in self.options if option is not None for slot in option.slots)
        around = replace(request, busy=(*self.first.busy, *others))
        self.options[place] = plan(around).chosen
        self.alone.append(place)


def _heavy(request: Request) -> int:
    return sum(stage.heavy for stage in request.workload.stages)


def _steps(offset: float, seconds: float) -> tuple[int, int]:
    """Return the step that an offset lies in, and the one after it if it lies within."""
    exact = offset / seconds
    return math.floor(exact + 1e-9), math.ceil(exact - 1e-9)
