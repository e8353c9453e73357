"""Pools and grid of a back-test on whole steps, checked before anything is replayed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Self

import numpy as np

from carbon._backtest_case import Case
from carbon._backtest_cost import Cost
from carbon._backtest_grid import Grid, Trace
from carbon._errors import BadInput, ResidencyError, suggest
from carbon._occupancy import capacity_steps
from carbon._window import KWH_PER_GB
from carbon._workload import Hardware

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from carbon._backtest_jobs import Group, JobList
    from carbon._decision import Reservation
    from carbon._fleet import Fleet, Pool
    from carbon._series import PriceSeries

_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Setting:
    """Pools and grid.

    Attributes:
        fleet: The fleet.
        pools: Its pools whose grid zone the trace holds.
        grid: The grid.
        cost: What they cost.
        notes: What of the fleet is left out.
    """

    fleet: Fleet
    pools: tuple[Pool, ...]
    grid: Grid
    cost: Cost
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        fleet: Fleet,
        trace: Trace,
        step: timedelta,
        *,
        forecasts: Trace | None,
        ahead: timedelta,
        prices: Mapping[str, PriceSeries],
    ) -> Self:
        """Choose the pools that can be replayed, and lay their grid out on steps.

        Raises:
            BadInput: The trace does not hold the home zone.
        """
        home = fleet.home_cpu.place.zone
        if home not in trace.zones:
            raise BadInput(
                trace.source,
                f"has no zone {home!r}, where the home region {fleet.home} lies",
                suggest(home, trace.zones),
            )
        pools = tuple(pool for pool in fleet.pools if pool.place.zone in trace.zones)
        zones = tuple(dict.fromkeys(pool.place.zone for pool in pools))
        grid = Grid.of(trace, zones, step, forecasts=forecasts, ahead=ahead)
        notes = [
            f"Pool {pool.name} is left out: the trace has no zone {pool.place.zone}."
            for pool in fleet.pools
            if pool not in pools
        ]
        return cls(fleet, pools, grid, Cost.of(fleet, pools, grid, prices), tuple(notes))

    @property
    def zone(self) -> NDArray[np.int64]:
        """Index of each pool's zone."""
        return np.array([self.grid.zones.index(pool.place.zone) for pool in self.pools])

    def case(self, jobs: JobList, reserved: Sequence[Reservation] = ()) -> Case:
        """Return jobs and pools for the kernels.

        A job starts on the first step at or after its release and holds whole steps. Its latest
        safe start is as in :attr:`carbon._chain.Chain.needed`, with the longest start-up of the
        pools that it may use; a start-up holds no slot here.

        Raises:
            BadInput: The trace does not cover the jobs.
            ResidencyError: A job's data may be in no pool that it can use.
        """
        seconds = self.grid.step.total_seconds()
        begin = self.grid.first.timestamp()
        length = np.maximum(1, _up(jobs.hours * 3600.0 / seconds))
        earliest = _up((jobs.release - begin) / seconds)
        permitted = np.array([self._permitted(group, jobs.source) for group in jobs.groups])
        startups = np.array([self.startups(row) for row in permitted])[jobs.group]
        safe = jobs.due - jobs.reserve_hours * 3600.0 - startups
        latest = np.floor((safe - begin) / seconds + _ROUNDING).astype(np.int64)
        self._refuse_uncovered(jobs, earliest, np.maximum(earliest, latest) + length)
        home = np.array([self._home(row) for row in permitted])
        pools = self.pools
        return Case(
            earliest=earliest,
            latest=latest,
            length=length,
            kwh=jobs.kwh,
            hours=jobs.hours,
            network_kwh=(jobs.data_in_gb + jobs.data_out_gb) * KWH_PER_GB,
            group=jobs.group,
            permitted=permitted,
            home=home,
            pue=np.array([pool.place.pue.value for pool in pools]),
            kw=np.array([pool.watts / 1000.0 for pool in pools]),
            embodied=np.array([pool.embodied_g_per_hour for pool in pools]),
            zone=self.zone,
            away=np.array([pool.region != self.fleet.home for pool in pools]),
            home_zone=self.grid.zones.index(self.fleet.home_cpu.place.zone),
            capacity=self._capacity(reserved),
        )

    def _refuse_uncovered(
        self, jobs: JobList, earliest: NDArray[np.int64], end: NDArray[np.int64]
    ) -> None:
        grid = self.grid
        outside = (earliest < 0) | (end > grid.steps)
        if outside.any():
            j = int(np.argmax(outside))
            raise BadInput(
                jobs.source,
                f"job {j + 1} of {len(jobs)} may run from {_at(grid, int(earliest[j]))} to "
                f"{_at(grid, int(end[j]))}, and the trace reaches from {_at(grid, 0)} to "
                f"{_at(grid, grid.steps)}",
                "Leave the job out, or give a trace that covers it.",
            )

    def startups(self, usable: NDArray[np.bool_]) -> float:
        """Return the seconds of start-ups that a job leaves time for, by the pools it may use."""
        own = [pool for pool, may in zip(self.pools, usable, strict=True) if may]
        return startups(self.fleet, own).total_seconds()

    def _able(self, group: Group, source: str) -> list[bool]:
        """Return which pools have the hardware of a group, and are named by it if it names any."""
        hardware = group.hardware or self._default_hardware()
        for name in group.pools:
            self.fleet.pool(name, field=f"{source}: pools")
        return [
            pool.hardware is hardware and (not group.pools or pool.name in group.pools)
            for pool in self.pools
        ]

    def _default_hardware(self) -> Hardware:
        at_home = {pool.hardware for pool in self.pools if pool.region == self.fleet.home}
        return Hardware.GPU if Hardware.GPU in at_home else Hardware.CPU

    def _permitted(self, group: Group, source: str) -> NDArray[np.bool_]:
        # A job that names no class of data is taken to be of all of them: never too freely placed.
        classes = group.data_classes or tuple(self.fleet.residency)
        for name in group.data_classes:
            if name not in self.fleet.residency:
                raise BadInput.unknown(f"{source}: data_class", name, self.fleet.residency)
        able = self._able(group, source)
        if not any(able):
            raise BadInput(
                f"{source}: pools",
                f"no pool can run a job on {group.hardware or self._default_hardware()}",
                "Name pools with the job's hardware, in zones that the trace holds.",
            )
        found = [
            can and self.fleet.permits(pool, *classes)
            for pool, can in zip(self.pools, able, strict=True)
        ]
        if not any(found):
            names = ", ".join(pool.name for pool, can in zip(self.pools, able, strict=True) if can)
            raise ResidencyError(
                f"{' and '.join(map(repr, classes))} data may be in none of {names}. Give the job "
                "its own data_class, or change [residency] in the fleet file."
            )
        return np.array(found)

    def _home(self, permitted: NDArray[np.bool_]) -> int:
        """Return the pool in which a job runs at once: at home, or the first that it may use."""
        usable = np.flatnonzero(permitted)
        at_home = [p for p in usable if self.pools[p].region == self.fleet.home]
        # Heavy work keeps out of the entry runs' own pool wherever home has another one.
        other = [p for p in at_home if self.pools[p].name != self.fleet.home_cpu.name]
        return int((other or at_home or list(usable))[0])

    def _capacity(self, reserved: Sequence[Reservation]) -> NDArray[np.int64]:
        """Return jobs at a time by pool and step: the least of the step, less what others hold."""
        grid = self.grid
        seconds, begin = grid.step.total_seconds(), grid.first.timestamp()
        found = np.empty((len(self.pools), grid.steps), np.int64)
        for row, pool in zip(found, self.pools, strict=True):
            row[:] = pool.capacity
            edges, values = capacity_steps(self.fleet, pool, grid.first, grid.end)
            for value, first, stop in zip(values, edges[:-1], edges[1:], strict=True):
                row[slice(*_covered(first, stop, begin, seconds))] = np.minimum(
                    row[slice(*_covered(first, stop, begin, seconds))], int(value)
                )
            for slot in reserved:
                if slot.pool == pool.name:
                    first, stop = slot.start.timestamp(), slot.end.timestamp()
                    row[slice(*_covered(first, stop, begin, seconds))] -= 1
        return np.maximum(found, 0)


def startups(fleet: Fleet, pools: Sequence[Pool]) -> timedelta:
    """Return the start-ups that a latest safe start leaves time for: entry run, job and retry."""
    return fleet.home_cpu.startup + 2 * max(pool.startup for pool in pools)


def _covered(first: float, stop: float, begin: float, seconds: float) -> tuple[int, int]:
    """Return the steps that a period touches."""
    low = int(np.floor((first - begin) / seconds + _ROUNDING))
    high = int(np.ceil((stop - begin) / seconds - _ROUNDING))
    return max(0, low), max(0, high)


def _up(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.ceil(numbers - _ROUNDING).astype(np.int64)


def _at(grid: Grid, step: int) -> str:
    return f"{grid.moment(step):%Y-%m-%d %H:%M} UTC"
