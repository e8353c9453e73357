"""The trigger: puts fleet, outlook, clock and the slots that others hold into one request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

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
    StoredSource,
    Workload,
    look,
    plan,
)
from carbon.providers import Feed
from deployments._keys import load_keys
from deployments._settings import Settings
from work_pools import load_fleet

_PATIENCE: Final = timedelta(seconds=15)


@dataclass(frozen=True)
class Verdict:
    """A decision and what it was made from."""

    decision: Decision
    request: Request

    @property
    def outlook(self) -> Outlook:
        """The outlook that it was made from."""
        return self.request.outlook

    def noted(self, note: str) -> Verdict:
        """Return it with a note before the reason of the decision."""
        reason = f"{note} {self.decision.reason}"
        return Verdict(self.decision.model_copy(update={"reason": reason}), self.request)


@dataclass(frozen=True)
class Trigger:
    """Decides for one run at a time.

    Attributes:
        fleet: Where runs may go.
        sources: Signal sources in order of preference, after the providers.
        clock: Grid time.
        settings: Folders and files.
    """

    fleet: Fleet
    sources: tuple[SignalSource, ...]
    clock: Clock
    settings: Settings
    _feed: list[Feed] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Trigger:
        """Build the trigger that the environment describes.

        Raises:
            BadInput: A setting, the fleet file or a replayed file is wrong.
        """
        return cls._build(settings or Settings.load(), strict=True)

    @classmethod
    def for_run(cls) -> Trigger:
        """Build the trigger inside a run, where a signal that is missing must not stop the work.

        Raises:
            BadInput: A setting or the fleet file is wrong.
        """
        return cls._build(Settings.load(), strict=False)

    @classmethod
    def _build(cls, settings: Settings, *, strict: bool) -> Trigger:
        fleet = load_fleet(settings.fleet)
        sources = settings.make_sources(fleet.signals, strict=strict)
        return cls(fleet, sources, settings.make_clock(), settings)

    @cached_property
    def zones(self) -> tuple[str, ...]:
        """All grid zones of the fleet, the home zone first."""
        home = self.fleet.home_cpu.place.zone
        others = {pool.place.zone for pool in self.fleet.pools} - {home}
        return (home, *sorted(others))

    @property
    def priced(self) -> set[str]:
        """Grid zones whose electricity price matters."""
        return {pool.place.zone for pool in self.fleet.pools if pool.billed_energy}

    async def refresh(
        self,
        *,
        history: timedelta | None = None,
        anew: bool = False,
        patience: timedelta = _PATIENCE,
    ) -> Feed | None:
        """Ask the signal providers for what is due, before :meth:`decide` reads what they sent.

        Never raises, and ends after seconds whatever they do. Replayed grids have none.

        Args:
            history: Ask for actual values this far back, to learn from them at once.
            anew: Ask also those whose answer is fresh, or who failed lately.
            patience: Longest time that it may take; without any nobody is asked.

        Returns:
            The feed, for who wants to know more than the decision says.
        """
        if not self.settings.live:
            return None
        if not self._feed:
            signals = self.fleet.signals
            keys, notes = await load_keys(self.settings, signals, patience / 2)
            self._feed.append(Feed(signals, keys, self.settings.outlook, notes=notes))
        feed = self._feed[0]
        if not self.settings.offline and patience > timedelta(0):
            now = self.clock.now()
            await feed.refresh(
                self.zones,
                now=now,
                until=now + timedelta(days=3),
                priced=self.priced,
                history=history,
                anew=anew,
                patience=patience,
            )
        return feed

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
        closed: Mapping[str, str] | None = None,
    ) -> Verdict:
        """Decide for one run; see :class:`carbon.Request` for the arguments.

        Raises:
            ResidencyError: No permitted pool can run a stage.
            BadInput: The workload does not fit the fleet.
        """
        now = self.clock.now()
        outlook = self.outlook(now, max(deadline, now) + timedelta(hours=1))
        request = Request(
            workload=workload,
            policy=policy,
            fleet=self.fleet,
            outlook=outlook,
            now=now,
            deadline=deadline,
            release=release,
            # A run that waits may hold a slot of a pool that has left the fleet file since.
            busy=tuple(slot for slot in busy if slot.pool in self.fleet.by_name),
            data_class=data_class,
            may_wait=may_wait,
            running=running,
            baseline=baseline,
            closed=closed or {},
        )
        decision = plan(request).model_copy(update={"clock": self.clock.describe()})
        return Verdict(decision, request)

    def outlook(
        self, now: datetime, end: datetime, *, heard: Sequence[StoredSource] | None = None
    ) -> Outlook:
        """Return what is believed of the fleet's zones; asks nobody.

        Args:
            now: The present moment, in grid time.
            end: Until when it is wanted.
            heard: What the providers sent, for who wants to ask these very sources more than the
                outlook tells; by default it is read from the store.
        """
        home = self.fleet.home_cpu.place.zone
        sources = (*(self._heard(now) if heard is None else heard), *self.sources)
        outlook = look(sources, self.zones, home, now, end, priced=self.priced)
        notes = tuple(note for feed in self._feed for note in feed.notes)
        return replace(outlook, degraded=notes + outlook.degraded) if notes else outlook

    def _heard(self, now: datetime) -> tuple[StoredSource, ...]:
        return tuple(source for feed in self._feed for source in feed.sources(self.zones, now))
