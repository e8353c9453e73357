"""The trigger: puts fleet, outlook, clock and the slots that others hold into one request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from carbon import (
    CarbonPolicy,
    Clock,
    Decision,
    Fleet,
    Option,
    Outlook,
    Request,
    Reservation,
    SignalSource,
    Workload,
    look,
    plan,
)
from deployments._settings import Settings
from work_pools import load_fleet


@dataclass(frozen=True)
class Verdict:
    """A decision and the outlook that it was made from."""

    decision: Decision
    outlook: Outlook


@dataclass(frozen=True)
class Trigger:
    """Decides for one run at a time.

    Attributes:
        fleet: Where runs may go.
        sources: Signal sources in order of preference.
        clock: Grid time.
        settings: Folders and files.
    """

    fleet: Fleet
    sources: tuple[SignalSource, ...]
    clock: Clock
    settings: Settings

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Trigger:
        """Build the trigger that the environment describes.

        Raises:
            BadInput: A setting, the fleet file or a replayed file is wrong.
        """
        settings = settings or Settings.load()
        return cls._build(settings, settings.make_sources())

    @classmethod
    def for_run(cls) -> Trigger:
        """Build the trigger inside a run, where a signal that is missing must not stop the work.

        Raises:
            BadInput: A setting or the fleet file is wrong.
        """
        settings = Settings.load()
        return cls._build(settings, settings.make_sources(strict=False))

    @classmethod
    def _build(cls, settings: Settings, sources: tuple[SignalSource, ...]) -> Trigger:
        return cls(load_fleet(settings.fleet), sources, settings.make_clock(), settings)

    @cached_property
    def zones(self) -> tuple[str, ...]:
        """All grid zones of the fleet."""
        return tuple(sorted({pool.place.zone for pool in self.fleet.pools}))

    def decide(
        self,
        workload: Workload,
        policy: CarbonPolicy,
        deadline: datetime,
        *,
        release: datetime | None = None,
        busy: tuple[Reservation, ...] = (),
        data_class: str | None = None,
        may_wait: bool = True,
        running: bool = False,
        baseline: Option | None = None,
    ) -> Verdict:
        """Decide for one run; see :class:`carbon.Request` for the arguments.

        Raises:
            ResidencyError: No permitted pool can run a stage.
            BadInput: The workload does not fit the fleet.
        """
        now = self.clock.now()
        end = max(deadline, now) + timedelta(hours=1)
        home = self.fleet.home_cpu.place.zone
        priced = {pool.place.zone for pool in self.fleet.pools if pool.billed_energy}
        outlook = look(self.sources, self.zones, home, now, end, priced=priced)
        request = Request(
            workload=workload,
            policy=policy,
            fleet=self.fleet,
            outlook=outlook,
            now=now,
            deadline=deadline,
            release=release,
            busy=busy,
            data_class=data_class,
            may_wait=may_wait,
            running=running,
            baseline=baseline,
        )
        decision = plan(request).model_copy(update={"clock": self.clock.describe()})
        return Verdict(decision, outlook)
