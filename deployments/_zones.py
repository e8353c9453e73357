"""What is believed of each grid zone, and why: the report behind ``carbon outlook``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, computed_field

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
from deployments._advice import Learned


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
        now_g_per_kwh: Mean over what is left of this hour.
        least_g_per_kwh: Mean over the cleanest clock hour from this one on.
        least_at: When that hour begins; now, where it is this one.
        most_g_per_kwh: Mean over the dirtiest of these hours.
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
        asked_again: When the first provider that failed is asked again, if one has.
        priced: Whether its price matters.
        price: What is believed of its price; ``None`` where nothing is, or it does not matter.
        price_findings: What the quality gate found in its price, if that matters.
    """

    zone: str
    home: bool
    intensity: Believed | None
    missing: str
    trust: Trust | None
    findings: tuple[Finding, ...]
    asked_again: datetime | None
    priced: bool
    price: Priced | None
    price_findings: tuple[Finding, ...] = ()

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own way of it
    @property
    def believed(self) -> bool:
        """Whether any intensity of it is believed: what to watch."""
        return self.intensity is not None


class ZoneReport(_Frozen):
    """All zones of the fleet.

    Attributes:
        now: When, in grid time.
        zones: The zones, home first.
        degraded: What is worse than it should be, in words.
        advice: What follows from numbers that are missing, and what to do about it.
        learned: What is known of the past, for who has asked for it.
    """

    now: datetime
    zones: tuple[Zone, ...]
    degraded: tuple[str, ...]
    advice: tuple[str, ...] = ()
    learned: tuple[Learned, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worse than it should be, less what is missing: each zone says that itself."""
        said = {f"no intensity for the home zone {one.zone}: {one.missing}" for one in self.zones}
        return tuple(note for note in self.degraded if note not in said)


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
    *,
    priced: Collection[str] | None = None,
    again: Mapping[str, datetime] | None = None,
    advice: Iterable[str] = (),
    learned: Iterable[Learned] = (),
) -> ZoneReport:
    """Put the report together.

    Args:
        outlook: What decisions are made from.
        home: The home zone.
        known: What is believed of each zone, with what was found on the way.
        prices: What was found in the prices of the zones where they matter.
        priced: The zones where they matter; by default those of ``prices``.
        again: When providers that failed are asked again.
        advice: What to do about numbers that are missing.
        learned: What is known of the past.
    """
    names = sorted({*outlook.intensity, *outlook.missing}, key=lambda name: (name != home, name))
    found, again = prices or {}, again or {}
    matter = found if priced is None else priced

    def zone(name: str) -> Zone:
        series, price, belief = (
            outlook.intensity.get(name),
            outlook.price.get(name),
            known.get(name),
        )
        return Zone(
            zone=name,
            home=name == home,
            intensity=_believed(series, outlook.start) if series else None,
            missing=outlook.missing.get(name, ""),
            trust=belief.trust if belief else None,
            findings=belief.findings if belief else (),
            asked_again=again.get(name),
            priced=name in matter,
            price=_priced(price, outlook.start) if price else None,
            price_findings=found.get(name, ()),
        )

    return ZoneReport(
        now=outlook.start,
        zones=tuple(map(zone, names)),
        degraded=outlook.degraded,
        advice=tuple(advice),
        learned=tuple(learned),
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
    hour = now.replace(minute=0, second=0, microsecond=0)
    rest = min(hour + _HOUR, series.end)
    # What begins as known may be unknown before the hour is over.
    rest = rest if series.covers(now, rest) else now + timedelta(seconds=1)
    present = series.mean(now, rest)
    hours = [(present, now)] + [
        (series.mean(begin, begin + _HOUR), begin)
        for begin in (hour + _HOUR * step for step in range(1, (series.end - hour) // _HOUR))
        if series.covers(begin, begin + _HOUR)
    ]
    least, least_at = min(hours)
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
        most_g_per_kwh=max(hours)[0],
    )


_HOUR = timedelta(hours=1)
