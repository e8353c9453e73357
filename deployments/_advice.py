"""What ``carbon outlook`` says beside its numbers: what to do, and what was learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict

from carbon import Outlook, RateLimited, Signals, Standing, StoredSource, Transient, Trust
from carbon.providers import KEYED, host_of, knowing

if TYPE_CHECKING:
    from carbon.providers import Provider
    from deployments._settings import Settings
    from deployments._trigger import Trigger

_TO_TRUST: Final = 14
"""Days that a forecast takes, and days on which it is judged, at least."""


class Learned(BaseModel):
    """What is known of a zone's past by way of one provider.

    Attributes:
        zone: Grid zone.
        provider: Name of the provider; empty where none is asked.
        days: Days of the past that are known.
        earned: Whether the statistical forecast from them is used where there is no better one.
        trust: What that forecast has been worth, if that is known.
        text: The same in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    zone: str
    provider: str
    days: int
    earned: bool
    trust: Trust | None
    text: str


def nobody_asked(settings: Settings) -> str:
    """Say why no provider is asked at all; empty where they are."""
    which = {
        "CARBON_REPLAY": settings.replay is not None,
        "CARBON_CLOCK": bool(settings.clock),
        "CARBON_OFFLINE": settings.offline,
    }
    name = next((name for name, is_set in which.items() if is_set), None)
    return f"{name} is set, so no provider is asked; unset it to ask them." if name else ""


def standings(
    sources: Sequence[StoredSource], zones: Sequence[str]
) -> dict[str, tuple[Standing, ...]]:
    """Return how the providers of each zone stand there, in the order in which they are asked."""
    return {
        zone: tuple(found for source in sources if (found := source.standing(zone)))
        for zone in zones
    }


def asked_again(known: Mapping[str, Sequence[Standing]], now: datetime) -> dict[str, datetime]:
    """Return when the first of those who failed on a zone is asked again, where any has failed."""
    found: dict[str, datetime] = {}
    for zone, row in known.items():
        if until := [one.failure.until for one in row if one.failure and one.failure.until > now]:
            found[zone] = min(until)
    return found


def advice(
    trigger: Trigger,
    outlook: Outlook,
    known: Mapping[str, Sequence[Standing]],
    *,
    anew: bool = False,
) -> Iterator[str]:
    """Yield what follows from numbers that are missing, and what to do about it.

    Args:
        trigger: Who is asked, where and for what.
        outlook: What decisions are made from.
        known: How the providers stand, by zone.
        anew: Whether all were to be asked just now.
    """
    home, signals, nobody = trigger.zones[0], trigger.fleet.signals, nobody_asked(trigger.settings)
    if home not in outlook.intensity:
        yield "Until something is believed, runs start at once, at home."
    if nobody:
        if anew:
            yield f"Nothing was asked for, and nothing learned: {nobody}"
        elif outlook.missing:
            yield nobody
        return
    failed = {
        one.provider: one.failure
        for row in known.values()
        for one in row
        if one.failure is not None and one.failure.until > outlook.start
    }
    for name, failure in failed.items():
        if failure.label == Transient.label and "HTTP status" not in failure.text:
            host = host_of(name, signals)
            yield f"Check that this machine reaches {host}, directly or by proxy (HTTPS_PROXY)."
    if not anew and any(one.label != RateLimited.label for one in failed.values()):
        yield "`carbon outlook --refresh` asks again at once."
    for zone in outlook.missing:
        if not known.get(zone):
            yield from _would_know(zone, outlook, home, signals)


def _would_know(zone: str, outlook: Outlook, home: str, signals: Signals) -> Iterator[str]:
    """Say who would know a zone that nobody is asked for, in numbers that can be compared."""
    like = outlook.intensity.get(home)
    able = [one for one in knowing(zone, signals) if like is None or one.family == like.family[:2]]
    keyless = [one for one in able if one.name not in KEYED]
    keyed = [one for one in able if one.name in KEYED]
    if keyless:
        yield f"{_names(keyless)} would know {zone}, if signals.order named it."
    if keyed:
        order = all(one.name in signals.chain(zone) for one in keyed)
        place = "" if order else " and a place in signals.order"
        yield f"{_names(keyed)} would know {zone}, with a key{place}."


def _names(providers: Sequence[Provider]) -> str:
    return " or ".join(provider.name for provider in providers)


def learned(known: Mapping[str, Sequence[Standing]], now: datetime) -> Iterator[Learned]:
    """Yield what is known of the past of each zone, and what it is good for."""
    for zone, row in known.items():
        if not row:
            text = f"{zone}: nothing (no provider that is asked knows it)"
            yield Learned(zone=zone, provider="", days=0, earned=False, trust=None, text=text)
        # Who comes later in the order was not asked, unless somebody before has failed.
        for one in [one for one in row if one.days or one.failure] or row[:1]:
            yield Learned(
                zone=zone,
                provider=one.provider,
                days=one.days,
                earned=one.statistical is not None and one.statistical.earned,
                trust=one.statistical,
                text=f"{zone}: {_lesson(one, now)}",
            )


def _lesson(one: Standing, now: datetime) -> str:
    failed = one.failure.told(now) if one.failure else ""
    if not one.days:
        return f"nothing ({failed or f'{one.provider} told nothing of the past'})"
    told = f"{one.days} days are known from {one.provider}; {_worth(one)}"
    return f"{told}; nothing was added ({failed})" if failed else told


def _worth(one: Standing) -> str:
    """Say what a statistical forecast from the days that are known is worth."""
    trust = one.statistical
    if one.days < _TO_TRUST:
        return f"a statistical forecast takes {_TO_TRUST}"
    if trust is None or not trust.proven:
        tried = trust.days if trust else 0
        return f"a statistical forecast could be tried on {tried} of them, trust takes {_TO_TRUST}"
    saved = f"{trust.saved_percent:+.1f} % over {trust.days} days"
    if not trust.earned:
        return f"a statistical forecast has not beaten starting at once here ({saved})"
    return (
        f"a statistical forecast has earned trust: it got {trust.captured:.0%} of the possible "
        f"saving ({saved})"
    )
