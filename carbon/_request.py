"""What a decision depends on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from carbon._chain import Chain
from carbon._decision import Option, Reservation
from carbon._fleet import Fleet, Pool
from carbon._outlook import Outlook
from carbon._policy import CarbonPolicy
from carbon._workload import Workload

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Request:
    """Everything that a decision depends on.

    Attributes:
        workload: What is to run.
        policy: How it may be placed.
        fleet: Where it could run.
        outlook: What is believed about the grid.
        now: Grid time at which the decision is made.
        deadline: Latest acceptable finish.
        release: When the run is wanted, if later than now; it never starts before.
        busy: Slots that other runs hold or will hold.
        data_class: Class of this run's data, on top of the workload's own.
        may_wait: False for a stage whose run has already begun: only the place is chosen.
        running: Whether the entry run is up already, so that going now costs no start-up.
        baseline: Running at once at home as it was judged when the run was released; by default
            it is judged now.
    """

    workload: Workload
    policy: CarbonPolicy
    fleet: Fleet
    outlook: Outlook
    now: datetime
    deadline: datetime
    release: datetime | None = None
    busy: tuple[Reservation, ...] = ()
    data_class: str | None = None
    may_wait: bool = True
    running: bool = False
    baseline: Option | None = None

    @property
    def earliest(self) -> datetime:
        """The first moment at which the run may start."""
        return max(self.now, self.release) if self.release else self.now

    @property
    def data_classes(self) -> tuple[str, ...]:
        """The classes whose residency rules all hold."""
        return tuple(dict.fromkeys(filter(None, (self.workload.data_class, self.data_class))))

    def chain(self, pools: Sequence[Pool]) -> Chain:
        """Lay the workload out on these pools."""
        lead = timedelta(0) if self.running else self.fleet.home_cpu.startup
        return Chain.on(self.fleet, self.outlook, self.workload.stages, pools, lead=lead)
