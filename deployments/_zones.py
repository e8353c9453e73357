"""What is believed of each grid zone, and why: the report behind ``carbon outlook``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from carbon import (
    Accounting,
    Belief,
    Finding,
    IntensitySeries,
    Kind,
    Outlook,
    PriceSeries,
    Signal,
    StoredSource,
    Trust,
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Believed(_Frozen):
    """The intensity that is believed of a zone.

    Attributes:
        source: Who says so.
        kind: How the numbers came about.
        signal: Average or marginal.
        accounting: Lifecycle or direct.
        age: Time since they were heard, if they had to be fetched.
        until: Until when they reach.
        now_g_per_kwh: Now.
        least_g_per_kwh: In the cleanest hour ahead.
        least_at: When that hour begins.
        most_g_per_kwh: In the dirtiest hour ahead.
    """

    source: str
    kind: Kind
    signal: Signal
    accounting: Accounting
    age: timedelta | None
    until: datetime
    now_g_per_kwh: float
    least_g_per_kwh: float
    least_at: datetime
    most_g_per_kwh: float


class Priced(_Frozen):
    """The electricity price that is believed of a zone.

    Attributes:
        source: Who says so.
        kind: How the numbers came about.
        unit: E.g. ``EUR/MWh``.
        now: Price now; ``None`` where the terms of who says so forbid to show it.
        until: Until when it is known.
        shown: Whether it may be shown. It is used in decisions all the same.
    """

    source: str
    kind: Kind
    unit: str
    now: float | None
    until: datetime
    shown: bool

    @property
    def hidden(self) -> str:
        """What stands in the place of a price that may not be shown."""
        return f"used, not shown (terms of {self.source})"


class Zone(_Frozen):
    """One grid zone.

    Attributes:
        zone: Its name.
        home: Whether the data is there: it decides which numbers are compared.
        intensity: What is believed; ``None`` where nothing is.
        missing: Why it is not, or not used.
        trust: What its forecasts have been worth here, if that is known.
        findings: What the quality gate found in its intensity.
        price: What is believed of its price; ``None`` where nothing is, or it does not matter.
        price_findings: What the quality gate found in its price, if that matters.
    """

    zone: str
    home: bool
    intensity: Believed | None
    missing: str
    trust: Trust | None
    findings: tuple[Finding, ...]
    price: Priced | None
    price_findings: tuple[Finding, ...] = ()


class ZoneReport(_Frozen):
    """All zones of the fleet.

    Attributes:
        now: When, in grid time.
        zones: The zones, home first.
        degraded: What is worse than it should be, in words.
    """

    now: datetime
    zones: tuple[Zone, ...]
    degraded: tuple[str, ...]


def beliefs(
    sources: Sequence[StoredSource], zones: Sequence[str], outlook: Outlook
) -> dict[str, Belief]:
    """Return what is believed of each zone: the belief whose numbers the outlook has.

    A zone that the outlook has from elsewhere, or not at all, has the first provider's belief
    without its numbers: trust and range of others must not stand beside them.
    """
    found: dict[str, Belief] = {}
    for zone in zones:
        seen = [source.belief(zone, outlook.start, outlook.end) for source in sources]
        used = [one for one in seen if one.series is not None]
        same = [one for one in used if one.series is outlook.intensity.get(zone)]
        if same:
            found[zone] = same[0]
        elif seen:
            found[zone] = Belief(None, findings=seen[-1].findings)
    return found


def price_findings(
    sources: Sequence[StoredSource], zones: Collection[str], outlook: Outlook
) -> dict[str, tuple[Finding, ...]]:
    """Return what was found in the prices of each zone, in those that are used and before them."""
    found: dict[str, tuple[Finding, ...]] = {}
    for zone in zones:
        for source in sources:
            belief = source.price_belief(zone, outlook.start, outlook.end)
            found[zone] = belief.findings  # with those of the providers before
            if belief.series is not None:
                break
    return found


def report(
    outlook: Outlook,
    home: str,
    known: Mapping[str, Belief],
    prices: Mapping[str, tuple[Finding, ...]] | None = None,
) -> ZoneReport:
    """Put the report together.

    Args:
        outlook: What decisions are made from.
        home: The home zone.
        known: What is believed of each zone, with what was found on the way.
        prices: What was found in the prices of the zones where they matter.
    """
    zones = sorted({*outlook.intensity, *outlook.missing}, key=lambda zone: (zone != home, zone))
    found = prices or {}
    return ZoneReport(
        now=outlook.start,
        zones=tuple(
            _zone(zone, zone == home, outlook, known.get(zone), found.get(zone, ()))
            for zone in zones
        ),
        degraded=outlook.degraded,
    )


def _zone(
    name: str, home: bool, outlook: Outlook, belief: Belief | None, prices: tuple[Finding, ...]
) -> Zone:
    series = outlook.intensity.get(name)
    price = outlook.price.get(name)
    return Zone(
        zone=name,
        home=home,
        intensity=_believed(series, outlook.start) if series else None,
        missing=outlook.missing.get(name, ""),
        trust=belief.trust if belief else None,
        findings=belief.findings if belief else (),
        price=_priced(price, outlook.start) if price else None,
        price_findings=prices,
    )


def _priced(price: PriceSeries, now: datetime) -> Priced:
    return Priced(
        source=price.source,
        kind=price.kind,
        unit=price.unit,
        now=price.mean(now, now + timedelta(seconds=1)) if price.shown else None,
        until=price.known_until,
        shown=price.shown,
    )


def _believed(series: IntensitySeries, now: datetime) -> Believed:
    hours = [
        (series.mean(begin, begin + _HOUR), begin)
        for begin in (now + _HOUR * step for step in range((series.end - now) // _HOUR))
        if series.covers(begin, begin + _HOUR)
    ]
    present = series.mean(now, now + timedelta(seconds=1))
    least, least_at = min(hours, default=(present, now))
    return Believed(
        source=series.source,
        kind=series.kind,
        signal=series.signal,
        accounting=series.accounting,
        age=now - series.fetched_at if series.fetched_at else None,
        until=series.end,
        now_g_per_kwh=present,
        least_g_per_kwh=least,
        least_at=least_at,
        most_g_per_kwh=max(hours, default=(present, now))[0],
    )


_HOUR = timedelta(hours=1)
