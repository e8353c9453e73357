"""What a decision depends on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._chain import Chain
from carbon._decision import Option, Reservation
from carbon._energy_price import EnergyPrice, energy_price
from carbon._errors import BadInput
from carbon._fleet import Fleet, Pool
from carbon._occupancy import Full, full_periods
from carbon._outlook import Outlook
from carbon._policy import CarbonPolicy
from carbon._series import require_utc
from carbon._workload import Urgency, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_LATE: Final = timedelta(days=2)
_ROUNDING: Final = 1e-5
"""Seconds; a moment has whole microseconds."""


@dataclass(frozen=True)
class Request:
    """Everything that a decision depends on.

    Attributes:
        workload: What is to run.
        policy: How it may be placed.
        fleet: Where it could run.
        outlook: What is believed about the grid.
        now: Grid time at which the decision is made.
        deadline: Latest acceptable finish; by default the policy's, counted from the release, and
            without one from now. A run that waits gives its own, counted from its slot: it rules.
        release: When the run is wanted, if later than now; it never starts before.
        busy: Slots that other runs hold or will hold.
        data_class: Class of this run's data, on top of the workload's own.
        may_wait: False for a stage whose run has already begun: only the place is chosen. Never
            true for work that is not deferrable.
        running: Whether the entry run is up already, so that going now costs no start-up.
        baseline: Running at once at home as it was judged when the run was released; by default
            it is judged now.
        closed: Pools that start nothing now, with the reason. Heavy stages keep out of them, unless
            no other pool is permitted.

    Raises:
        BadInput: A time is naive, or a slot is of a pool that the fleet does not have.
    """

    workload: Workload
    policy: CarbonPolicy
    fleet: Fleet
    outlook: Outlook
    now: datetime
    deadline: datetime = None  # type: ignore[assignment]  # never so once it is made
    release: datetime | None = None
    busy: tuple[Reservation, ...] = ()
    data_class: str | None = None
    may_wait: bool = True
    running: bool = False
    baseline: Option | None = None
    closed: Mapping[str, str] = field(default_factory=dict)
    _full: dict[str, tuple[Full, ...]] = field(default_factory=dict, init=False, repr=False)
    _prices: dict[str, EnergyPrice] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "now", require_utc("now", self.now))
        if self.deadline is None:
            counted = self.policy.deadline(self.release or self.now)  # type: ignore[unreachable]
            object.__setattr__(self, "deadline", counted)
        for name in ("deadline", "release"):
            moment = getattr(self, name)
            if moment is not None or name != "release":
                # In UTC: two times of one zone are subtracted by its clock, changes left out.
                object.__setattr__(self, name, require_utc(name, moment))
        if self.workload.urgency is not Urgency.DEFERRABLE:
            object.__setattr__(self, "may_wait", False)
        known = self.fleet.by_name
        for place, slot in enumerate(self.busy):
            if slot.pool not in known:
                raise BadInput.unknown(f"busy[{place}].pool", slot.pool, known)

    @property
    def earliest(self) -> datetime:
        """The first moment at which the run may start."""
        return max(self.now, self.release) if self.release else self.now

    @property
    def data_classes(self) -> tuple[str, ...]:
        """The classes whose residency rules all hold."""
        return tuple(dict.fromkeys(filter(None, (self.workload.data_class, self.data_class))))

    @cached_property
    def home(self) -> Pool:
        """The pool for entry runs and light stages."""
        return self.fleet.home_cpu

    @cached_property
    def home_zone(self) -> str:
        """The grid zone of home."""
        return self.home.place.zone

    @cached_property
    def family(self) -> str:
        """What intensities mean in its outlook; empty without any of home."""
        series = self.outlook.intensity.get(self.home_zone)
        return f"{series.kind} {series.signal} {series.accounting}" if series else ""

    @property
    def horizon(self) -> datetime:
        """Until when the calendar matters: a run that is late still needs slots and power."""
        longest = [max(need.p95 for need in one.needs.values()) for one in self.workload.stages]
        return max(self.deadline, self.earliest) + _LATE + sum(longest, timedelta(0))

    def chain(self, pools: Sequence[Pool]) -> Chain:
        """Lay the workload out on these pools."""
        lead = timedelta(0) if self.running else self.home.startup
        return Chain.on(self, pools, lead=lead)

    @cached_property
    def contended(self) -> bool:
        """Whether any pool may be full at any time."""
        fleet = self.fleet
        return bool(self.busy or fleet.blackouts or any(pool.hours for pool in fleet.pools))

    def full(self, pool: Pool) -> tuple[Full, ...]:
        """Return when a pool has no free slot."""
        if not self.contended:
            return ()
        if pool.name not in self._full:
            self._full[pool.name] = full_periods(
                self.fleet, pool, self.busy, self.earliest, self.horizon
            )
        return self._full[pool.name]

    def room(
        self, pool: Pool, begins: NDArray[np.float64], ends: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Tell for each period whether a pool has a free slot all along.

        Args:
            pool: The pool.
            begins: POSIX seconds, shape ``(n,)``.
            ends: The same.
        """
        result = np.ones(begins.shape, dtype=np.bool_)
        for full in self.full(pool):
            # Starts were rounded to a microsecond somewhere: one that just fits is free.
            result &= (ends <= full.begin + _ROUNDING) | (begins >= full.end - _ROUNDING)
        return result

    def energy_price(self, pool: Pool) -> EnergyPrice | None:
        """Return what electricity costs on top in a pool; ``None`` where its price includes it."""
        if not pool.billed_energy and pool.usd_per_kwh is None:
            return None
        if pool.name not in self._prices:
            self._prices[pool.name] = energy_price(
                self.fleet, self.outlook, pool, self.earliest, self.horizon
            )
        return self._prices[pool.name]
