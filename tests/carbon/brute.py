"""A second planner that counts: every start five minutes apart, every set of pools, all limits.

It shares no code with the planner: from the request it takes the plain fields of the fleet, the
workload, the policy and the series, and it asks the clock of a time zone minute by minute. All
lengths and edges have to be multiples of five minutes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from carbon import Pool, Request, Stage

FIVE = timedelta(minutes=5)
DAY = timedelta(days=1)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NEAR = 1e-7
KWH_PER_GB = 0.001
LIMITS = ("deadline", "capacity", "cost", "intensity", "saving")

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def fives(length: timedelta) -> int:
    """Return how many fives of minutes a length has; it has no rest."""
    assert length % FIVE == timedelta(0), f"{length} is no multiple of five minutes"
    return length // FIVE


@cache
def clock_reaches(zone: str, wall: datetime) -> datetime:
    """Return the first moment at which a zone's clock shows a time of a day, or a later one."""
    moment = wall.replace(tzinfo=UTC) - timedelta(hours=15)
    while moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) < wall:
        moment += FIVE
    return moment


class Window(NamedTuple):
    """A stage in its pool; times are fives of minutes from the chain's start."""

    stage: Stage
    pool: Pool
    due: int
    begin: int
    end: int
    late: int
    needed: int


@dataclass
class Placed:
    """A set of pools at some starts, in fives of minutes from the first moment on."""

    pools: tuple[Pool, ...]
    starts: Floats
    grams: Floats
    usd: Floats
    g_per_kwh: Floats
    kept: dict[str, Flags]

    def keeps(self, limits: Sequence[str]) -> Flags:
        """Return at which starts it keeps some limits and is known."""
        known = ~np.isnan(self.grams + self.usd)
        return np.logical_and.reduce([known, *(self.kept[name] for name in limits)])


class Brute:
    """All that a request permits, counted out."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.fleet, self.policy = request.fleet, request.policy
        self.zero = max(request.now, request.release) if request.release else request.now
        self.slack = (request.deadline - self.zero) // FIVE
        self.cells = max(self.slack, 0) + 2 * 288
        pools = self.fleet.pools
        self.home_cpu = next(
            p for p in pools if p.region == self.fleet.home and p.hardware == "cpu"
        )
        self.lead = 0 if request.running else fives(self.home_cpu.startup)

    # -- where -----------------------------------------------------------------------------------

    def residency(self, pool: Pool) -> bool:
        """Tell whether the rules of all classes of data permit a pool."""
        classes = {self.request.workload.data_class, self.request.data_class} - {None}
        rules = [self.fleet.residency[name] for name in classes]
        return all(pool.place.jurisdiction in rule or "*" in rule for rule in rules)

    def able(self, stage: Stage) -> list[Pool]:
        """Return the pools that have the hardware for a stage."""
        if not stage.heavy:
            return [self.home_cpu]
        rest = [pool for pool in self.fleet.pools if pool is not self.home_cpu]
        return [pool for pool in rest if pool.hardware in stage.needs]

    def permitted(self, stage: Stage) -> list[Pool]:
        """Return the pools where residency and policy let a stage run."""
        only = self.policy.only_regions
        return [
            pool
            for pool in self.able(stage)
            if self.residency(pool) and (not stage.heavy or not only or pool.region in only)
        ]

    @cached_property
    def home(self) -> tuple[Pool, ...]:
        """The pools of the baseline."""
        return tuple(
            min(
                (pool for pool in self.able(stage) if pool.region == self.fleet.home),
                key=lambda pool, stage=stage: stage.needs[pool.hardware].p95,
            )
            for stage in self.request.workload.stages
        )

    # -- what it takes ---------------------------------------------------------------------------

    def windows(self, pools: Sequence[Pool]) -> list[Window]:
        """Lay the stages out one after the other."""
        found: list[Window] = []
        due = late = self.lead
        for stage, pool in zip(self.request.workload.stages, pools, strict=True):
            need = stage.needs[pool.hardware]
            startup = fives(pool.startup) if stage.heavy else 0
            begin = due + startup
            needed = startup + fives(need.p95)
            end, late = begin + fives(need.p50), late + needed
            found.append(Window(stage, pool, due, begin, end, late, needed))
            due = end
        return found

    def sampled(self, series: object) -> Floats:
        """Return a series at each five minutes; not a number where it is not known."""
        values = np.full(self.cells, np.nan)
        if series is None:
            return values
        edges = [*series.starts, series.end]
        for value, begin, end in zip(series.values, edges, edges[1:], strict=False):
            first, last = ((at - self.zero) // FIVE for at in (begin, end))
            values[max(first, 0) : max(last, 0)] = np.nan if value is None else value
        return values

    def intensity(self, zone: str) -> Floats:
        """Return a zone's intensity."""
        return self.sampled(self.request.outlook.intensity.get(zone))

    def in_hours(self, band: object, zone: str) -> Flags:
        """Tell for each five minutes whether hours of the week hold, by the local clock."""
        held = np.zeros(self.cells, dtype=bool)
        day = (self.zero - 2 * DAY).date()
        wanted = {
            DAYS[(DAYS.index(part.split("-")[0].strip()) + step) % 7]
            for part in band.days.split(",")
            for step in range(
                (DAYS.index(part.split("-")[-1].strip()) - DAYS.index(part.split("-")[0].strip()))
                % 7
                + 1
            )
        }
        while day <= (self.zero + FIVE * self.cells + DAY).date():
            if DAYS[day.weekday()] in wanted:
                until = day if band.end > band.begin else day + DAY
                first = clock_reaches(zone, datetime.combine(day, band.begin))
                last = clock_reaches(zone, datetime.combine(until, band.end))
                a, b = ((at - self.zero) // FIVE for at in (first, last))
                held[max(a, 0) : max(b, 0)] = True
            day += DAY
        return held

    def price(self, pool: Pool) -> Floats | None:
        """Return USD per kWh that a pool pays for electricity; ``None`` where it is included."""
        if pool.usd_per_kwh is not None:
            usd = np.full(self.cells, pool.usd_per_kwh)
            for band in pool.tariff:
                usd[self.in_hours(band, pool.timezone)] = band.usd_per_kwh
            return usd
        if not pool.billed_energy:
            return None
        series = self.request.outlook.price.get(pool.place.zone)
        rates = {"USD": 1.0, **self.fleet.usd_per}
        if series is None or series.currency not in rates:
            return np.full(self.cells, np.nan)
        return self.sampled(series) * rates[series.currency] / 1000

    def room(self, pool: Pool) -> NDArray[np.int64]:
        """Return how many slots a pool has left, for each five minutes."""
        left = np.full(self.cells, pool.capacity)
        for band in pool.hours:
            left[self.in_hours(band, pool.timezone)] = band.capacity
        # Entry runs and the light stages in them go on in a blackout.
        for sale in self.fleet.blackouts if pool is not self.home_cpu else ():
            if not sale.pools or pool.name in sale.pools:
                a, b = ((at - self.zero) // FIVE for at in (sale.start, sale.end))
                left[max(a, 0) : max(b, 0)] = 0
        for slot in self.request.busy:
            if slot.pool == pool.name:
                a, b = ((at - self.zero) // FIVE for at in (slot.start, slot.end))
                left[max(a, 0) : max(b, 0)] -= 1
        return left

    # -- all starts ------------------------------------------------------------------------------

    def means(self, values: Floats, begin: int, end: int, count: int) -> Floats:
        """Return the mean of a window for each of so many starts."""
        known = np.concatenate(([0.0], np.cumsum(np.nan_to_num(values))))
        gaps = np.concatenate(([0], np.cumsum(np.isnan(values))))
        at = np.arange(count)
        sums = (known[at + end] - known[at + begin]) / (end - begin)
        return np.where(gaps[at + end] > gaps[at + begin], np.nan, sums)

    def carried(self, window: Window) -> tuple[float, float]:
        """Return the network's energy in kWh and the transfer's price in USD."""
        here, there = self.home_cpu.place, window.pool.place
        if window.pool.region == self.fleet.home:
            return 0.0, 0.0
        stage = window.stage
        usd = stage.data_in_gb * here.transfer_price(there)
        usd += stage.data_out_gb * there.transfer_price(here)
        return (stage.data_in_gb + stage.data_out_gb) * KWH_PER_GB, usd

    def kwh(self, window: Window) -> float:
        """Return a stage's energy, PUE included."""
        hours = (window.end - window.begin) / 12
        own = window.stage.needs[window.pool.hardware].kwh
        return (own or window.pool.watts / 1000 * hours) * window.pool.place.pue.value

    def amounts(self, pools: Sequence[Pool], count: int) -> tuple[Floats, Floats, float, float]:
        """Return grams and USD by start, and the embodied grams and all kWh of a run."""
        grams, usd, kwh, embodied = np.zeros(count), np.zeros(count), 0.0, 0.0
        for window in self.windows(pools):
            hours = (window.end - window.begin) / 12
            own, (network, transfer) = self.kwh(window), self.carried(window)
            span = (window.begin, window.end, count)
            there = self.means(self.intensity(window.pool.place.zone), *span)
            grams += (own + network / 2) * there
            if network:
                here = self.means(self.intensity(self.home_cpu.place.zone), *span)
                grams += network / 2 * here
            usd += window.pool.usd_per_hour * hours + transfer
            if (price := self.price(window.pool)) is not None:
                usd += own * self.means(price, *span)
            embodied += window.pool.embodied_g_per_hour * hours
            kwh += own + network
        return grams + embodied, usd, embodied, kwh

    def free(self, pools: Sequence[Pool], count: int) -> Flags:
        """Tell for each start whether every slot that it takes is free all along."""
        windows = self.windows(pools)
        slots = [(w.pool, w.due, w.late) for w in windows if w.stage.heavy]
        result = np.ones(count, dtype=bool)
        for pool, begin, end in [*slots, (self.home_cpu, 0, windows[-1].late)]:
            none = np.concatenate(([0], np.cumsum(self.room(pool) <= 0)))
            at = np.arange(count)
            result &= none[at + end] == none[at + begin]
        return result

    def needed(self, pools: Sequence[Pool]) -> int:
        """Return what the deadline must leave: all stages by p95, and the longest once more."""
        windows = self.windows(pools)
        return windows[-1].late + max(window.needed for window in windows)

    @cached_property
    def baseline(self) -> tuple[float, float]:
        """Grams and USD of running at once at home."""
        grams, usd, *_ = self.amounts(self.home, 1)
        return float(grams[0]), float(usd[0])

    @property
    def home_unpriced(self) -> bool:
        """Whether it is not known what the run costs at home."""
        given = self.request.baseline
        return given.usd is None if given is not None else math.isnan(self.baseline[1])

    @cached_property
    def limits(self) -> tuple[float, float, float]:
        """USD, intensity and grams that should be kept."""
        policy, (grams, usd) = self.policy, self.baseline
        if self.request.baseline is not None:
            grams = math.nan if self.request.baseline.g is None else self.request.baseline.g
            usd = math.nan if self.request.baseline.usd is None else self.request.baseline.usd
        most = [policy.max_cost_usd or math.inf]
        if policy.strategy == "cleanest":
            if math.isnan(usd):  # what is known of it: hours of pools, and nothing is carried
                needs = [(w.pool, w.stage.needs[w.pool.hardware]) for w in self.windows(self.home)]
                usd = sum(pool.usd_per_hour * need.p50 / (12 * FIVE) for pool, need in needs)
            most.append(usd + abs(usd) * policy.cost_tolerance_percent / 100)
        saved = 1 - (policy.min_saving_percent or 0) / 100
        return (
            min(most),
            policy.max_g_per_kwh or math.inf,
            grams * saved if policy.min_saving_percent else math.inf,
        )

    def last(self, pools: Sequence[Pool]) -> int:
        """Return the last start that is looked at; a run that is up has to start up again."""
        again = fives(self.home_cpu.startup) if self.request.running else 0
        latest = self.slack - self.needed(pools) - again
        return max(0, latest) if self.request.may_wait else 0

    def place(self, pools: tuple[Pool, ...]) -> Placed:
        """Return a set of pools at all starts."""
        count = self.last(pools) + 1
        grams, usd, embodied, kwh = self.amounts(pools, count)
        g_per_kwh, free = (grams - embodied) / kwh, self.free(pools, count)
        return self.judged(pools, np.arange(count, dtype=float), (grams, usd, g_per_kwh), free)

    def place_at(self, pools: tuple[Pool, ...], start: float) -> Placed:
        """Return a set of pools at one start: between two fives of minutes all is a straight line.

        There it is free where both are, and known where both are.
        """
        low, part = int(start), start - int(start)
        grams, usd, embodied, kwh = self.amounts(pools, low + 2)
        free = self.free(pools, low + 2)
        share = np.array([1 - part, part])[: 1 if part == 0 else 2]
        near = slice(low, low + len(share))
        mixed = [np.array([values[near] @ share]) for values in (grams, usd)]
        g_per_kwh = (mixed[0] - embodied) / kwh
        own = np.array([free[near].all()])
        return self.judged(pools, np.array([start]), (*mixed, g_per_kwh), own)

    def judged(
        self,
        pools: tuple[Pool, ...],
        starts: Floats,
        amounts: tuple[Floats, Floats, Floats],
        free: Flags,
    ) -> Placed:
        """Tell which limits a set of pools keeps."""
        grams, usd, g_per_kwh = amounts
        most_usd, most_g_per_kwh, most_g = self.limits
        kept = {
            "deadline": starts + self.needed(pools) <= self.slack,
            "capacity": free,
            "cost": usd <= most_usd + abs(most_usd) * NEAR,
            "intensity": g_per_kwh <= most_g_per_kwh * (1 + NEAR),
            "saving": grams <= most_g * (1 + NEAR),
        }
        return Placed(pools, starts, grams, usd, g_per_kwh, kept)

    @cached_property
    def choices(self) -> list[tuple[Pool, ...]]:
        """All permitted sets of pools."""
        return list(itertools.product(*map(self.permitted, self.request.workload.stages)))

    @cached_property
    def every(self) -> list[Placed]:
        """All permitted sets of pools that are in time, at all starts."""
        return [self.place(pools) for pools in self.choices if self.needed(pools) <= self.slack]

    def value(self, placed: Placed, *, by_cost: bool, waiting: bool = True) -> Floats:
        """Return what is to be kept low, with what the wait is worth or without."""
        waited = placed.starts / 12 * waiting
        if by_cost:
            return placed.usd + waited * self.policy.freshness_usd_per_hour
        return placed.grams + waited * self.policy.freshness_g_per_hour

    def least(self, limits: Sequence[str], *, by_cost: bool, waiting: bool = True) -> float:
        """Return the least value of all that keeps some limits; endless where nothing does."""
        found = math.inf
        for placed in self.every:
            mask = placed.keeps(limits)
            values = self.value(placed, by_cost=by_cost, waiting=waiting)[mask]
            found = min(found, float(values.min(initial=math.inf)))
        return found

    def soonest(self, limits: Sequence[str]) -> int | None:
        """Return the first start of all that keep some limits."""
        firsts = [np.flatnonzero(placed.keeps(limits)) for placed in self.every]
        return min((int(found[0]) for found in firsts if len(found)), default=None)
