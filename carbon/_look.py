"""Building an outlook: ask the sources in order of preference, and never mix unlike signals.

The first source that covers the home zone decides the family (signal, accounting, kind); all other
zones are filled from sources of that family only. What went less than well is said in ``degraded``;
a missing signal is never an error, since a run must start in time without one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from carbon._errors import CarbonAwareError, NoSignal, NotAsked, UnknownZone
from carbon._outlook import Outlook, family_text
from carbon._series import IntensitySeries, Kind, PriceSeries, require_window

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from carbon._outlook import SignalSource

_Any = TypeVar("_Any", IntensitySeries, PriceSeries)
_LONGEST_REASON = 200
_MOMENT = timedelta(seconds=1)


def look(
    sources: Sequence[SignalSource],
    zones: Collection[str],
    home_zone: str,
    start: datetime,
    end: datetime,
    *,
    priced: Collection[str] | None = None,
) -> Outlook:
    """Ask the sources, best first, and return what is believed about the zones.

    Args:
        sources: In order of preference.
        zones: Grid zones that matter, with or without the home zone.
        home_zone: The zone whose source decides which numbers may be compared.
        start: Start of the window, aware.
        end: End of the window, aware, later than the start.
        priced: Zones whose electricity price matters; by default all.

    Returns:
        The outlook; without any intensity where no source covers the home zone.

    Raises:
        BadInput: The window is naive, empty or backwards.
    """
    start, end = require_window(start, end)
    asked = _Asked(start, end, [_Source(source) for source in sources])
    others = sorted({*zones} - {home_zone})
    intensity: dict[str, IntensitySeries] = {}
    missing: dict[str, str] = {}

    home = asked.intensity(home_zone, None)
    if isinstance(home, str):
        missing[home_zone] = home
        missing |= dict.fromkeys(others, f"not used: the home zone {home_zone} has no intensity")
        asked.notes.append(f"no intensity for the home zone {home_zone}: {home}")
    else:
        intensity[home_zone] = home
        for zone in others:
            found = asked.intensity(zone, home)
            if isinstance(found, str):
                missing[zone] = found
            else:
                intensity[zone] = found
        if home.kind is Kind.MODELLED:
            asked.notes.append(f"all intensities are modelled, not a forecast: {home.source}")

    asked.notes += [note for series in intensity.values() for note in series.notes]
    asked.notes += _short(intensity, end)
    wanted = [zone for zone in (home_zone, *others) if priced is None or zone in priced]
    price: dict[str, PriceSeries] = {}
    for zone in wanted:
        sold, reasons = asked.price(zone)
        if sold is not None:
            price[zone] = sold
        if priced is not None and reasons and (sold is None or sold.kind is Kind.MODELLED):
            asked.notes.append(f"no price for {zone}: {reasons}")
    asked.notes += [note for series in price.values() for note in series.notes]
    modelled = sorted(zone for zone, series in price.items() if series.kind is Kind.MODELLED)
    if modelled:
        source = price[modelled[0]].source
        asked.notes.append(f"prices of {', '.join(modelled)} are modelled: {source}")
    return Outlook(start, end, intensity, price, missing, tuple(asked.notes))


@dataclass
class _Source:
    source: SignalSource
    broken: bool = False


@dataclass
class _Asked:
    start: datetime
    end: datetime
    sources: list[_Source]
    notes: list[str] = field(default_factory=list)

    def intensity(self, zone: str, like: IntensitySeries | None) -> IntensitySeries | str:
        """Return the first series of the family, or why there is none."""
        reasons: list[str] = []
        for asked in self.sources:
            found = self._ask(asked, asked.source.intensity, zone)
            if isinstance(found, str):
                reasons += [found] if found else []
            elif like is not None and found.family != like.family:
                reasons.append(
                    f"{asked.source.name} has it as {family_text(found)}, which is never compared "
                    f"with the {family_text(like)} of the home zone"
                )
            else:
                if like is None and reasons:
                    self.notes.append(f"{'; '.join(reasons)}; using {asked.source.name}")
                return found
        nobody = f"no provider that is asked knows {zone}"
        return "; ".join(reasons) or (nobody if self.sources else "there is no signal source")

    def price(self, zone: str) -> tuple[PriceSeries | None, str]:
        """Return the first price series that any source has, and why those before have none."""
        reasons: list[str] = []
        for asked in self.sources:
            found = self._ask(asked, asked.source.price, zone)
            if not isinstance(found, str):
                return found, "; ".join(reasons)
            reasons.append(found)
        return None, "; ".join(reasons)

    def _ask(
        self, asked: _Source, method: Callable[[str, datetime, datetime], _Any], zone: str
    ) -> _Any | str:
        """Return a series of this zone that holds the start, or why this source has none.

        Where it asks nobody there is nothing to say, and the reason is empty.
        """
        name = asked.source.name
        if asked.broken:
            return f"{name} is broken"
        try:
            return _checked(method(zone, self.start, self.end), zone, self.start)
        except NotAsked:
            return ""
        except (NoSignal, UnknownZone) as error:
            reason = _line(error)
            return reason if reason.startswith(name) else f"{name} has nothing for {zone}: {reason}"
        except Exception as error:  # noqa: BLE001 - any fault of a provider must not stop a run
            # Only our own words: a stranger's may hold an address with a token in it.
            own = isinstance(error, CarbonAwareError)
            reason = type(error).__name__ + (f": {_line(error)}" if own else "")
        asked.broken = True
        self.notes.append(f"{name} is broken and was not asked again ({reason})")
        return f"{name} is broken"


def _checked(series: _Any, zone: str, start: datetime) -> _Any:
    # Providers were seen to send another country's numbers without an error.
    if series.zone != zone:
        raise CarbonAwareError(f"sent zone {series.zone!r} when asked for {zone!r}")
    if not series.covers(start, min(start + _MOMENT, series.end)):
        raise NoSignal(
            f"only from {series.start:%Y-%m-%d %H:%M} to {series.end:%Y-%m-%d %H:%M} UTC"
        )
    return series


def _short(intensity: dict[str, IntensitySeries], end: datetime) -> list[str]:
    """Say which zones are not known until the end of the window, by where they end."""
    ends: dict[datetime, list[str]] = {}
    for zone, series in intensity.items():
        if series.end < end:
            ends.setdefault(series.end, []).append(zone)
    return [
        f"the outlook for {', '.join(sorted(zones))} ends at {last:%Y-%m-%d %H:%M} UTC: "
        "later starts are not considered there"
        for last, zones in sorted(ends.items())
    ]


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = text if text.endswith("...") else text.removesuffix(".")
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."
