"""Many requests at once: a plan for the whole fleet, and a proof of how good it is.

::

    found = plan_fleet(requests)
    print(found)
    found.options[0].start, found.packed_g, found.bound_g, found.decision(0).headline

Each request is laid out exactly at every step in every permitted pool, as the planner does it: with
all its stages, prices and limits, and what gives way where not all of these can hold. All are then
packed together (:mod:`carbon._packing`), each by the heavy stage that uses most energy. What cannot
be seen there (the slots of other heavy stages and of the entry run at home) is looked at last: who
has none is planned alone, around all others. Where requests are few, each is at last planned anew
around all others, at any moment and in segments, as long as that gains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._crowding import over_capacity
from carbon._decision import amount
from carbon._errors import BadInput
from carbon._evaluation import pausing
from carbon._fleet_ways import Way, ways
from carbon._occupancy import capacity_steps
from carbon._packing import packed
from carbon._packing_input import placements, weighed
from carbon._planner import Planning, explain, plan
from carbon._policy import Strategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from carbon._decision import Decision, Option
    from carbon._packing import Packing
    from carbon._request import Request

_STEP: Final = timedelta(minutes=15)
_HOUR: Final = timedelta(hours=1)
_SWEEPS: Final = 3
_FEW: Final = 200
"""Requests up to which each is planned anew around the others."""
_MOST_STEPS: Final = 20_000
"""Steps from now until the last deadline, at most."""


@dataclass(frozen=True)
class FleetPlan:
    """A plan for many requests; as text it is one line for each thing that one wants to know.

    Attributes:
        options: The placement of each request, in their order.
        alone: Requests that were planned alone, around the others: fixed ones, those for which no
            place was found together, and those that gained by it.
        queued: Requests for which no slot is free in time: they start at once and queue. One that
            finds none, e.g. for capacity 0 by the calendar, does not keep the others from a plan.
        breaches: What had to give way, one tuple for each request.
        packed_g: Emissions of the packed requests that keep these low, with what the wait is worth
            where the policy says so, in gCO2e.
        bound_g: No plan of the same requests in whole steps stays below that. Each is counted by
            one heavy stage, so it says little of chains with several; and at moments between steps
            a little more can be had, which ``options`` do where requests are few.
    """

    options: tuple[Option, ...]
    alone: tuple[int, ...]
    queued: tuple[int, ...]
    breaches: tuple[tuple[str, ...], ...]
    packed_g: float
    bound_g: float
    _requests: tuple[Request, ...] = field(default=(), repr=False, compare=False)

    @property
    def g(self) -> float | None:
        """Emissions of all requests that do not queue, in gCO2e; ``None`` where one is unknown."""
        queued, total = set(self.queued), 0.0
        for place, option in enumerate(self.options):
            if place in queued:
                continue
            if option.g is None:
                return None
            total += option.g
        return total

    @property
    def gap(self) -> float:
        """How far the packed part may be from the best plan, as a share of the bound."""
        return max(0.0, self.packed_g - self.bound_g) / self.bound_g if self.bound_g > 0 else 0.0

    def decision(self, place: int) -> Decision:
        """Explain the placement of one request, given those of all others.

        Args:
            place: Which request, in their order.
        """
        others = [option for other, option in enumerate(self.options) if other != place]
        return explain(_around(self._requests[place], others), self.options[place])

    def __str__(self) -> str:
        """Return what one wants to know first."""
        count = len(self.options)
        lines = [f"{count - len(self.queued)} of {count} requests have a slot in time."]
        if self.queued:
            lines.append(f"{len(self.queued)} find none before their latest safe start and queue.")
        if self.g is not None:
            lines.append(f"{amount(self.g)} expected for those that have one.")
        if self.bound_g > 0:
            lines.append(
                f"Packed together, they emit at most {100 * self.gap:.2f} % more than in any plan "
                "in whole steps."
            )
        if broken := sum(map(bool, self.breaches)):
            lines.append(f"{broken} break a limit: see breaches.")
        return "\n".join(lines)


def plan_fleet(requests: Iterable[Request], *, step: timedelta = _STEP) -> FleetPlan:
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
    asked = tuple(requests)
    if not asked:
        return FleetPlan((), (), (), (), 0.0, 0.0)
    _require_one_world(asked, step)
    return _FleetPlanning(asked, step).made()


def _require_one_world(requests: Sequence[Request], step: timedelta) -> None:
    first = requests[0]
    if step <= timedelta(0):
        raise BadInput("step", f"{step} is no length of a step", "Give e.g. 15 minutes.")
    if (max(one.deadline for one in requests) - first.now) / step > _MOST_STEPS:
        raise BadInput(
            "step",
            f"until the last deadline there are more than {_MOST_STEPS} steps of {step}",
            "Give e.g. 15 minutes.",
        )
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


def _around(request: Request, others: Iterable[Option | None]) -> Request:
    """Return a request that goes around the slots of others."""
    slots = (slot for option in others if option is not None for slot in option.slots)
    return replace(request, busy=(*request.busy, *slots))


class _FleetPlanning:
    """One fleet plan in the making."""

    def __init__(self, requests: Sequence[Request], step: timedelta) -> None:
        self.requests, self.first, self.step = requests, requests[0], step
        self.pools = self.first.fleet.pools
        self.place = {pool.name: index for index, pool in enumerate(self.pools)}
        self.options: list[Option | None] = [None] * len(requests)
        self.alone: list[int] = []
        self.breaches: list[tuple[str, ...]] = [()] * len(requests)
        self.ways = [self._ways(request) for request in requests]

    def made(self) -> FleetPlan:
        """Pack what can be moved, lay it out exactly, and plan the rest around it."""
        moved = [place for place, own in enumerate(self.ways) if own]
        # What is fixed keeps its place, and the others go around it.
        for place, own in enumerate(self.ways):
            if not own:
                self._plan_alone(place)
        packed_g, bound_g = self._pack_all(moved) if moved else (0.0, 0.0)
        over = over_capacity(self.first.fleet, self.options, self.first.busy)
        nowhere = [place for place in moved if self.options[place] is None]
        for place in sorted({*nowhere, *over}, key=lambda place: self.requests[place].deadline):
            self._plan_alone(place)
        self._plan_anew(moved)
        options = tuple(option for option in self.options if option is not None)
        crowded = set(over_capacity(self.first.fleet, self.options, self.first.busy))
        return FleetPlan(
            options=options,
            alone=tuple(dict.fromkeys(self.alone)),
            queued=tuple(
                place
                for place, option in enumerate(options)
                if option.start > option.latest_safe_start or place in crowded
            ),
            breaches=tuple(self.breaches),
            packed_g=packed_g,
            bound_g=bound_g,
            _requests=tuple(self.requests),
        )

    # -- in steps ------------------------------------------------------------------------------

    def _ways(self, request: Request) -> dict[int, Way]:
        """Return how a request can be packed, by place of the pool; none where it is fixed."""
        return {self.place[way.pool.name]: way for way in ways(request, self.step)}

    def _pack_all(self, moved: Sequence[int]) -> tuple[float, float]:
        """Pack all that can be moved; return emissions and bound of those that keep them low."""
        packing = self._pack(moved)
        where = [
            (place, self.ways[place][column], step)
            for place, column, step in zip(
                moved, packing.pool.tolist(), packing.start.tolist(), strict=True
            )
            if column >= 0
        ]
        cleanest = [(place, way.value_at(step)) for place, way, step in where if not way.by_cost]
        found = packing.cost, packing.bound
        if len(cleanest) < len(where):
            # Others only take capacity from them: what bounds them alone bounds them here too.
            alone = self._pack([place for place, _ in cleanest]) if cleanest else None
            proven = alone.bound if alone is not None and not len(alone.unplaced) else 0.0
            found = sum(value for _, value in cleanest), proven
        for place, way, step in where:
            self._lay_out(place, way, step)
        return found

    def _pack(self, moved: Sequence[int]) -> Packing:
        shape = (len(moved), len(self.pools))
        earliest, latest = np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
        held, permitted = np.ones(shape, np.int64), np.zeros(shape, np.bool_)
        values: list[NDArray[np.float64]] = []
        for row, place in enumerate(moved):
            for column, way in sorted(self.ways[place].items()):
                permitted[row, column] = True
                earliest[row, column] = way.first + way.lead
                latest[row, column] = way.first + way.lead + len(way.values) - 1
                held[row, column] = way.held
                values.append(way.values)
        steps = int(np.where(permitted, latest + held, 0).max())
        q = placements(earliest, latest, held, permitted, self._capacity(steps))
        q.grams[:] = np.concatenate(values)
        return packed(weighed(q))

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

    def _lay_out(self, place: int, way: Way, step: int) -> None:
        """Lay a packed request out, its slot in a step."""
        request = self.requests[place]
        start = self.first.now + self.step * (step - way.lead)
        option = way.chain.option(start, request.deadline)
        self.options[place] = option
        if way.gives_way:
            self.breaches[place] = tuple(Planning(request).breaches(way.chain, option))

    def _plan_anew(self, moved: Sequence[int]) -> None:
        """Plan anew, around all others, what can be better at other moments or in other pools.

        Where stages can pause or a chain has several heavy ones, the best is kept of three plans:
        from where they were packed, the tightest first, and first come, first served.
        """
        if len(self.requests) > _FEW:
            return
        chains = [p for p in moved if _heavy(self.requests[p]) > 1 or pausing(self.requests[p])]
        self._improve(moved, _SWEEPS if chains else 1)
        if not chains:
            return
        best = self.options, self.alone, self.breaches
        for order in (sorted(chains, key=lambda p: self.requests[p].deadline), chains):
            self.options, self.alone, self.breaches = [*best[0]], [*best[1]], [*best[2]]
            for place in chains:
                self.options[place] = None
            for place in order:
                self._plan_alone(place)
            self._improve(chains, _SWEEPS)
            if self._worth(self.options) < self._worth(best[0]):
                best = self.options, self.alone, self.breaches
        self.options, self.alone, self.breaches = best

    def _improve(self, places: Sequence[int], sweeps: int) -> None:
        """Plan one after the other anew, as long as that gains."""
        for _ in range(sweeps):
            gained = False
            for place in places:
                before, broken = self.options[place], self.breaches[place]
                self._plan_alone(place)
                after = self._own(place, self.breaches[place], self.options[place])
                if self._own(place, broken, before) <= after:
                    self.options[place], self.breaches[place] = before, broken
                    self.alone.pop()
                else:
                    gained = True
            if not gained:
                return

    def _own(self, place: int, broken: Sequence[str], option: Option | None) -> tuple[int, float]:
        """Return how many limits a placement breaks, and what the request keeps low."""
        request = self.requests[place]
        if option is None:
            return len(broken), math.inf
        policy, waited = request.policy, (option.start - request.earliest) / _HOUR
        if policy.strategy is Strategy.CHEAPEST:
            return len(broken), (option.usd or 0.0) + waited * policy.freshness_usd_per_hour
        return len(broken), (option.g or 0.0) + waited * policy.freshness_g_per_hour

    @staticmethod
    def _worth(options: Sequence[Option | None]) -> tuple[int, float]:
        """Return how many start too late, and the grams."""
        known = [option for option in options if option is not None]
        late = sum(option.start > option.latest_safe_start for option in known)
        return late, sum(option.g or 0.0 for option in known)

    def _plan_alone(self, place: int) -> None:
        """Plan one request around all others, exactly."""
        self.options[place] = None
        found = plan(_around(self.requests[place], self.options))
        self.options[place], self.breaches[place] = found.chosen, found.breaches
        self.alone.append(place)


def _heavy(request: Request) -> int:
    return sum(stage.heavy for stage in request.workload.stages)


def _steps(offset: float, seconds: float) -> tuple[int, int]:
    """Return the step that an offset lies in, and the one after it if it lies within."""
    exact = offset / seconds
    return math.floor(exact + 1e-9), math.ceil(exact - 1e-9)
