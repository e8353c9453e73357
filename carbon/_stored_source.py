"""The signal source that reads the outlook store: what the providers sent, as far as believed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from carbon._belief import Belief, Believing
from carbon._errors import NoSignal, NotAsked
from carbon._price_belief import PriceBelief, believe_price
from carbon._provider import provider_of
from carbon._statistical import statistical

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from carbon._rows import Failure, Issue
    from carbon._series import IntensitySeries, PriceSeries
    from carbon._store import Store
    from carbon._trust import Trust


@dataclass(frozen=True)
class Standing:
    """How a provider stands in a zone.

    Attributes:
        provider: Its name.
        failure: How it failed when it was asked last; ``None`` when it did not.
        days: Days of the past that are known from it.
        statistical: What a statistical forecast from them has been worth, if that is known.
    """

    provider: str
    failure: Failure | None
    days: int
    statistical: Trust | None


class StoredSource:
    """A signal source that believes what the providers sent, as far as they have earned it.

    It reads the store and asks nobody; :func:`carbon.refresh` fills the store.

    Args:
        store: The outlook store.
        providers: Zone to the name under which its provider's numbers are kept.
        now: The present moment; nothing that was fetched later is looked at.
        name: Name for people.
        before: The source that comes before this one; what it lacked is said with the numbers.
        notes: Zone to what must be said with its numbers.
        unshown: Names of providers whose prices are used and not displayed, as their terms want.
        priced: Names of providers that have prices only: no intensity of theirs is missing.
    """

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, str],
        now: datetime,
        *,
        name: str = "signal providers",
        before: StoredSource | None = None,
        notes: Mapping[str, str] | None = None,
        unshown: Collection[str] = (),
        priced: Collection[str] = (),
    ) -> None:
        self._priced = frozenset(priced)
        self._before, self._notes, self._unshown = before, notes or {}, frozenset(unshown)
        self._store, self._providers, self._now, self._name = store, providers, now, name
        self._known: dict[tuple[str, datetime, datetime], Belief] = {}
        self._prices: dict[tuple[str, datetime, datetime], PriceBelief] = {}
        self._heard: dict[str, list[Issue]] = {}

    @property
    def name(self) -> str:
        """Name for people."""
        return self._name

    def intensity(self, zone: str, start: datetime, end: datetime) -> IntensitySeries:
        """Return what is believed of a zone from the start of a window on.

        Raises:
            NotAsked: No provider is asked for it here.
            NoSignal: Nothing is believed; the reasons are in the message.
            Unavailable: The store cannot be used.
        """
        if self._asked(zone) is None:
            raise NotAsked(f"no provider is asked for the intensity of {zone}.")
        belief = self.belief(zone, start, end)
        if belief.series is None:
            raise NoSignal(f"{'; '.join(belief.reasons)}.")
        return belief.series

    def price(self, zone: str, start: datetime, end: datetime) -> PriceSeries:
        """Return the price that is believed of a zone, for as long as it reaches.

        Raises:
            NoSignal: None is believed at the start of the window; the reasons are in the message.
            Unavailable: The store cannot be used.
        """
        belief = self.price_belief(zone, start, end)
        if belief.series is None:
            raise NoSignal(f"{'; '.join(belief.reasons)}.")
        return belief.series

    def price_belief(self, zone: str, start: datetime, end: datetime) -> PriceBelief:
        """Return what is believed of a zone's price and why, as :meth:`belief` does."""
        key = (zone, start, end)
        if key not in self._prices:
            self._prices[key] = self._believe_price(zone, start, end)
        return self._prices[key]

    def belief(self, zone: str, start: datetime, end: datetime) -> Belief:
        """Return what is believed of a zone and why.

        Raises:
            Unavailable: The store cannot be used.
        """
        key = (zone, start, end)
        if key not in self._known:
            self._known[key] = self._believe(zone, start, end)
        return self._known[key]

    def standing(self, zone: str) -> Standing | None:
        """Return how the provider that is asked for a zone's intensity stands there.

        Returns:
            ``None`` where nobody is asked.

        Raises:
            Unavailable: The store cannot be used.
        """
        kept = self._asked(zone)
        if kept is None:
            return None
        norm = self._store.norm(kept, zone)
        return Standing(
            provider=provider_of(kept),
            failure=self._store.failure(kept, zone, "intensity"),
            days=int(norm.days) if norm else 0,
            statistical=self._store.trust(statistical(kept), zone),
        )

    def _believe(self, zone: str, start: datetime, end: datetime) -> Belief:
        provider = self._asked(zone)
        if provider is None:
            # What the sources before believe stands.
            return self._before.belief(zone, start, end) if self._before else Belief(None)
        own = provider_of(provider)
        others = {one: name for one, name in self._providers.items() if provider_of(name) == own}
        made = Believing(self._store, provider, others, self._heard, zone, self._now, start, end)
        belief = made.belief()
        findings, reasons = tuple(made.findings), tuple(made.reasons)
        if belief.series is not None and zone in self._notes:
            series = belief.series.told(notes=(*belief.series.notes, self._notes[zone]))
            belief = replace(belief, series=series)
        if self._before is not None:
            passed = self._before.belief(zone, start, end)
            findings = passed.findings + findings
            if passed.reasons and belief.series is not None and passed.series is None:
                note = f"{'; '.join(passed.reasons)}; using {provider} for {zone}"
                series = belief.series.told(notes=(*belief.series.notes, note))
                belief = replace(belief, series=series)
        return replace(belief, findings=findings, reasons=reasons)

    def _asked(self, zone: str) -> str | None:
        """Return under which name intensities of a zone are kept, if anybody is asked for them."""
        provider = self._providers.get(zone)
        return None if provider is None or provider_of(provider) in self._priced else provider

    def _believe_price(self, zone: str, start: datetime, end: datetime) -> PriceBelief:
        provider = self._providers.get(zone)
        if provider is None:
            return PriceBelief(None, reasons=(f"{self.name} has no price of zone {zone}",))
        belief = believe_price(self._store, provider, zone, self._now, (start, end))
        if belief.series is not None and provider_of(provider) in self._unshown:
            belief = replace(belief, series=replace(belief.series, shown=False))
        if self._before is None:
            return belief
        return belief.after(self._before.price_belief(zone, start, end), provider)
