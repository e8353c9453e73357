"""Electricity Maps: the whole world, average intensity, lifecycle or direct, and day-ahead prices.

::

    async with Web() as web:
        maps = ElectricityMaps(web, SecretStr("..."))
        series = await maps.intensity("SE-SE3", now, now + timedelta(hours=48))
        zone = await maps.zone_of("aws:eu-north-1")

Zones are Electricity Maps zones, so a zone is its own name here. Intensities are flow-traced
averages; those of the past are ``estimated`` where the body says so (the running hour nearly always
is), else ``actual``. Prices are day-ahead, of an exchange or modelled: all are called forecasts.

The terms forbid to publish the data and to use it in a "data connector, or similar product": keep
it private and short, and check that your plan covers what you do with it.

What it really sends: without ``disableCallerLookup`` a missing or misspelt zone is answered with
that of the caller's address, so it is always sent, and the zone of the body is checked.
``updatedAt`` of a forecast is the time of the question, so no issue time is told. A sandbox key
gets made-up numbers with status 200. 24 hours are 25 rows. Rows stand under ``forecast``,
``history`` or ``data``, or the body is the row. Only ``temporalGranularity`` tells how long a row
holds, and not always. Status 401 is a bad key, a small plan or too many questions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import httpx
from pydantic import SecretStr

from carbon._clock import Clock, SystemClock
from carbon._errors import AuthError, BadInput, BadResponse, NoData, PlanDenied, RateLimited
from carbon._provider import Terms
from carbon._series import Accounting, Kind, Signal, require_window
from carbon.providers import _electricity_maps_body as wire
from carbon.providers._answers import answered, hour_of, parts
from carbon.providers._made import intensities, prices

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from carbon._errors import ProviderError
    from carbon._series import IntensitySeries, PriceSeries
    from carbon.providers._web import Reply, Web

_TOKEN: Final = re.compile(r"[!-~]{4,}")
_PER_MWH: Final = re.compile(r"([A-Z]{3}) ?/ ?MWh")
_CLOUDS: Final = frozenset({"aws", "azure", "gcp"})
_HORIZONS: Final = (6, 24, 48, 72)
_HISTORY: Final = timedelta(hours=23)
"""What ``history`` surely holds: it is 24 rows, and the running hour may be one of them."""
_MOMENT: Final = timedelta(seconds=30)
"""What is shorter ago than this is now: it takes time until a question is sent."""
_LONGEST: Final = timedelta(days=9)
"""Longest ``past-range``: the documentation says 10 days, and not whether both ends count."""


@dataclass(frozen=True)
class _Question:
    which: str
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class ElectricityMaps:
    """Carbon intensity and day-ahead price of any zone of Electricity Maps.

    Args:
        web: The HTTP client.
        token: The API key.
        base_url: Address of the service.
        version: Version of the API.
        accounting: Which emissions are asked for.
        regions: Zone to the cloud region by which it is asked for, e.g. ``aws:eu-north-1``; other
            zones are asked for by their name.
        clock: Tells which part of a window is over.
        worked: Whether the key has been accepted before: then a refusal means too many questions.

    Raises:
        BadInput: The key is no key, the version is not known, or a cloud region is none.
    """

    web: Web
    token: SecretStr
    base_url: str = "https://api.electricitymaps.com"
    version: Literal["v3", "v4"] = "v4"
    accounting: Accounting = Accounting.LIFECYCLE
    regions: Mapping[str, str] | None = None
    clock: Clock = field(default_factory=SystemClock)
    worked: bool = False

    name: ClassVar[str] = wire.NAME
    terms: ClassVar[Terms] = Terms(
        attribution="Electricity Maps",
        licence=(
            "Terms of Electricity Maps: no publication of the data, no use in a data connector; "
            "prices of Nord Pool and EPEX are not to be displayed. Check that your plan allows it."
        ),
        fresh=timedelta(minutes=15),
        keep=timedelta(days=3),
        prices_shown=False,
    )

    def __post_init__(self) -> None:
        # httpx would show a key that cannot stand in a header in the error that it raises.
        if not _TOKEN.fullmatch(self.token.get_secret_value().strip()):
            raise BadInput("electricity-maps token", "this is no key", "Copy the whole key.")
        if self.version not in {"v3", "v4"}:
            raise BadInput.unknown("electricity-maps version", self.version, ("v3", "v4"))
        for region in (self.regions or {}).values():
            _by_region(region)

    @property
    def family(self) -> tuple[Signal, Accounting]:
        """What its intensities mean."""
        return Signal.AVERAGE, self.accounting

    def meaning(self, zone: str) -> str:
        """Say which emissions are counted, if not all, and of which cloud region, if of one."""
        accounting = self.accounting.value if self.accounting is not Accounting.LIFECYCLE else ""
        return ", ".join(filter(None, (accounting, (self.regions or {}).get(zone))))

    def has_intensity(self, zone: str) -> bool:
        """Tell whether a zone is written as Electricity Maps writes them: it covers the world."""
        return zone in (self.regions or {}) or wire.ZONE.fullmatch(zone) is not None

    def has_price(self, zone: str) -> bool:
        """Tell the same, although it has prices of Europe and of few zones more."""
        return self.has_intensity(zone)

    async def zone_of(self, region: str) -> str:
        """Ask in which zone a cloud region lies, e.g. ``aws:eu-north-1``.

        Raises:
            BadInput: This is no cloud region.
            ProviderError: It did not answer, or not with a zone.
        """
        body = await self._ask(wire.CARBON, _Question("latest", _by_region(region)))
        if body.zone is None or not wire.ZONE.fullmatch(body.zone):
            raise BadResponse(self.name, f"did not say in which zone {region} lies")
        return body.zone

    async def intensity(
        self, zone: str, start: datetime, end: datetime
    ) -> Sequence[IntensitySeries]:
        """Return actual, estimated and forecast values within a window.

        Raises:
            NoData: It has nothing there.
            ProviderError: It did not answer, or not with an answer.
        """
        window, now = require_window(start, end), self.clock.now()
        asked = [*self._past(*window, now), *_forecast(window[1] - now)]
        values = await self._values(zone, wire.CARBON, asked)
        found: list[IntensitySeries] = []
        for kind in (Kind.ACTUAL, Kind.ESTIMATED, Kind.FORECAST):
            found += intensities(
                self.name,
                zone,
                (value.slot for value in values if value.kind is kind),
                window,
                kind=kind,
                signal=Signal.AVERAGE,
                accounting=self.accounting,
                source=self.terms.attribution,
            )
        if not found:
            raise NoData(self.name, f"has nothing for {zone} in this window")
        return found

    async def price(self, zone: str, start: datetime, end: datetime) -> Sequence[PriceSeries]:
        """Return day-ahead prices within a window; ahead they reach 24 hours.

        Raises:
            NoData: It has nothing there.
            ProviderError: It did not answer, or not with an answer.
        """
        window, hour = require_window(start, end), hour_of(self.clock.now())
        asked = [*self._past(*window, hour), *([_Question("combined")] if window[1] > hour else [])]
        values = await self._values(zone, wire.PRICE, asked)
        found: list[PriceSeries] = []
        for unit in sorted({value.unit or "" for value in values}):
            currency = _PER_MWH.fullmatch(unit)
            if currency is None:
                raise BadResponse(self.name, f"sent {zone} in another unit than money per MWh")
            found += prices(
                self.name,
                zone,
                (value.slot for value in values if value.unit == unit),
                window,
                kind=Kind.FORECAST,
                currency=currency[1],
                source=self.terms.attribution,
            )
        if not found:
            raise NoData(self.name, f"has no price of {zone} in this window")
        return found

    def _past(self, start: datetime, end: datetime, now: datetime) -> Iterator[_Question]:
        """Return what to ask for the part of a window that is over."""
        if start >= now - _MOMENT:  # a window from now on began before the question was sent
            return
        if start >= hour_of(now) and self.version == "v4":  # v3 does not say how long its row holds
            yield _Question("latest")
            return
        edge = now - _HISTORY
        if end > edge:  # a free plan has the history, but no range of the past
            yield _Question("history")
        for part in (
            parts(hour_of(start), min(end, edge), _LONGEST) if start < edge - _MOMENT else ()
        ):
            first, last = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in part)
            yield _Question("past-range", {"start": first, "end": last})

    async def _values(self, zone: str, signal: str, asked: Sequence[_Question]) -> list[wire.Value]:
        if not self.has_intensity(zone):
            raise NoData(self.name, f"does not know zone {zone!r}")
        region = (self.regions or {}).get(zone)
        place = _by_region(region) if region else {"zone": zone}

        async def answer(question: _Question) -> list[wire.Value]:
            whole = _Question(question.which, {**question.params, **place})
            ahead = signal == wire.PRICE or question.which == "forecast"
            return wire.values(await self._ask(signal, whole), zone, signal, ahead=ahead)

        return [value for values in await answered(map(answer, asked)) for value in values]

    async def _ask(self, signal: str, question: _Question) -> wire.Rows | wire.Row:
        params = {**question.params, "disableCallerLookup": "true"}
        if signal == wire.CARBON:
            params["emissionFactorType"] = self.accounting.value
        return await self.web.get(
            self.name,
            f"{self.base_url}/{self.version}/{signal}/{question.which}",
            params,
            self._read,
            headers={"auth-token": self.token.get_secret_value().strip()},
        )

    def _read(self, reply: Reply) -> wire.Rows | wire.Row:
        if reply.status == httpx.codes.UNAUTHORIZED:
            raise self._refusal(reply)
        body = wire.read(reply, self.accounting)
        self.worked = True
        return body

    def _refusal(self, reply: Reply) -> ProviderError:
        if wire.outside_plan(reply):
            return PlanDenied(self.name, "has this zone or signal in another plan only")
        # Users report that a good key is called bad when it asks too often.
        if self.worked:
            return RateLimited(self.name)
        return AuthError(self.name, "does not accept the key (HTTP status 401)")


def _forecast(ahead: timedelta) -> list[_Question]:
    """Ask for the shortest forecast that reaches as far ahead, or else the longest."""
    if ahead <= timedelta(0):
        return []
    fitting = (hours for hours in _HORIZONS if timedelta(hours=hours) >= ahead)
    return [_Question("forecast", {"horizonHours": str(next(fitting, _HORIZONS[-1]))})]


def _by_region(region: str) -> dict[str, str]:
    cloud, _, name = region.partition(":")
    if cloud not in _CLOUDS or not name:
        fix = "Write the cloud and its region, e.g. 'aws:eu-north-1'."
        raise BadInput("region", f"{region!r} is no cloud region", fix)
    return {"dataCenterProvider": cloud, "dataCenterRegion": name}
