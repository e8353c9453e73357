"""What is believed of a zone's electricity price: the newest answer that passes the quality gate.

Prices of an auction do not change, so an earlier answer of the same provider is as good as the
newest one for as long as it reaches. Nothing is corrected, and nothing is put together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from carbon._findings import Finding, spoken
from carbon._price_quality import inspect_price

if TYPE_CHECKING:
    from carbon._findings import Inspected
    from carbon._series import PriceSeries
    from carbon._store import Store

_LOOKED_AT: Final = 200
"""Answers that are looked at: two days of lies, one in a quarter hour."""

_MOMENT: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class PriceBelief:
    """What is believed of one zone's price.

    Attributes:
        series: The price; ``None`` where nothing is believed.
        findings: What the quality gate found in the newest answer, and in the one that is used.
        reasons: Why there is nothing.
    """

    series: PriceSeries | None
    findings: tuple[Finding, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def lied(self) -> bool:
        """Whether something was sent, and none of it is believed."""
        return self.series is None and any(one.rejects for one in self.findings)

    def after(self, passed: PriceBelief, provider: str) -> PriceBelief:
        """Return it with what is to be said of the provider that was asked before this one."""
        findings = passed.findings + self.findings
        if self.series is None or not passed.lied:
            return replace(self, findings=findings)
        note = f"{'; '.join(passed.reasons)}; using {provider}"
        series = self.series.told(notes=(note, *self.series.notes))
        return replace(self, series=series, findings=findings)


def believe_price(
    store: Store, provider: str, zone: str, now: datetime, window: tuple[datetime, datetime]
) -> PriceBelief:
    """Return what is believed of what a provider sent.

    Args:
        store: The outlook store.
        provider: Name of the provider.
        zone: Grid zone.
        now: The present moment; nothing that was fetched later is looked at.
        window: Start and end of the time that matters; the price at its start must be known.

    Raises:
        Unavailable: The store cannot be used.
    """
    start, end = window
    sent = store.price(provider, zone, now)
    if sent is None:
        failure = store.failure(provider, zone, "price")
        unheard = f"{provider} has no price of zone {zone}"
        return PriceBelief(None, reasons=(failure.told(now) if failure else unheard,))
    newest = looked = inspect_price(sent, now=now, asked=end)
    place = 0
    while not _serves(looked, start):
        place += 1
        earlier = sent.fetched_at and store.price(provider, zone, sent.fetched_at - _MOMENT)
        if not earlier or earlier.end <= start or place >= _LOOKED_AT:
            return _nothing(provider, zone, newest)
        sent, looked = earlier, inspect_price(earlier, now=now, asked=end)
    assert looked.series is not None
    findings = newest.findings if place == 0 else _told_once(newest, looked)
    told = [*spoken(looked.findings)]
    if place:
        what = newest.refusal or "it does not say the price now"
        told.append(f"the newest answer is not used ({what}), an earlier one is")
    notes = (f"price of {zone} from {provider}: {'; '.join(told)}",) if told else ()
    return PriceBelief(looked.series.told(notes=notes), findings)


def _serves(looked: Inspected[PriceSeries], start: datetime) -> bool:
    return looked.series is not None and looked.series.covers(start, start + _MOMENT)


def _told_once(newest: Inspected[PriceSeries], used: Inspected[PriceSeries]) -> tuple[Finding, ...]:
    return tuple(dict.fromkeys((*newest.findings, *used.findings)))


def _nothing(provider: str, zone: str, newest: Inspected[PriceSeries]) -> PriceBelief:
    """Say why none of the answers serves."""
    if newest.series is None:
        reason = f"{provider} is not believed on the price of {zone}: {newest.refusal}"
        return PriceBelief(None, newest.findings, (reason,))
    told = "; ".join(spoken(newest.findings))
    reason = f"{provider} has no price of zone {zone} now" + (f" ({told})" if told else "")
    return PriceBelief(None, newest.findings, (reason,))
