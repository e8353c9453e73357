"""Carbon Aware SDK WebAPI: what a self-hosted server of the Green Software Foundation hands on.

::

    async with Web() as web:
        server = CarbonAwareSdk(
            web,
            "https://carbon.example.org",
            {"SE-SE3": "swedencentral"},
            Signal.MARGINAL,
            Accounting.DIRECT,
        )
        series = await server.intensity("SE-SE3", now, now + timedelta(hours=24))

The server does not tell what its numbers mean: they are marginal and direct if WattTime is behind
it, average and lifecycle if Electricity Maps is. Whoever runs it must say so; a wrong word here
lets numbers be compared that must not be. All past values are taken for actual ones, because it
does not tell which of them its source has estimated.

What it really sends: forecast values are means over ``windowSize``. That is not sent, so that the
server takes the length of one point and each mean is the point itself; longer means are taken as
they are, each up to the next. No boundaries are sent: one outside of the forecast is a 400.
``duration`` is a number of minutes, or ``hh:mm:ss``, or zero where it is not known. Times have
seven digits of a second. ``location`` of a row is a grid region, not what was asked for, so it
proves nothing. Status 204 is "nothing there", 501 "my source has no forecast"; what its source
answered is handed on with its status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import httpx
from pydantic import AliasChoices, AwareDatetime, BaseModel, BeforeValidator, Field, TypeAdapter

from carbon._clock import Clock, SystemClock
from carbon._errors import AuthError, BadInput, NoData
from carbon._provider import NoPrices, Terms, of_whole
from carbon._series import Accounting, Kind, Signal, require_window
from carbon._stretch import Slot
from carbon.providers._answers import MOST_ROWS, Moment, Number, answered, past, usual_ends
from carbon.providers._made import intensities

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carbon._series import IntensitySeries
    from carbon.providers._web import Reply, Web

_TIMESPAN: Final = re.compile(r"(?:(\d{1,3})\.)?(\d{1,2}):(\d{2}):(\d{2})(?:\.\d{1,7})?")
_LONGEST: Final = timedelta(days=31)
"""Longest window of one question about the past, so that no answer is huge."""
_UNSET: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""What a .NET server does not know it sends as year 1."""


def _minutes(value: object) -> object:
    """Turn a .NET time span, ``[d.]hh:mm:ss``, into minutes, and leave all else alone."""
    span = _TIMESPAN.fullmatch(value) if isinstance(value, str) else None
    if span is None:
        return value
    days, hours, minutes, seconds = (int(part or 0) for part in span.groups())
    return days * 1440 + hours * 60 + minutes + seconds / 60


class _Row(BaseModel):
    start: Moment = Field(validation_alias=AliasChoices("timestamp", "time"))
    minutes: Annotated[Number, Field(ge=0, le=1440), BeforeValidator(_minutes)] | None = Field(
        None, alias="duration"
    )
    value: Number | None = Field(validation_alias=AliasChoices("value", "rating"))


_Rows = Annotated[list[_Row], Field(max_length=MOST_ROWS, fail_fast=True)]


class _Forecast(BaseModel):
    issued_at: AwareDatetime | None = Field(None, alias="generatedAt")
    rows: _Rows | None = Field(alias="forecastData")


@dataclass(frozen=True)
class _Part:
    kind: Kind
    slots: list[Slot]
    issued_at: datetime | None = None


_EMISSIONS: TypeAdapter[list[_Row]] = TypeAdapter(_Rows)
_FORECASTS: TypeAdapter[list[_Forecast]] = TypeAdapter(
    Annotated[list[_Forecast], Field(max_length=1, fail_fast=True)]
)


@dataclass(frozen=True)
class CarbonAwareSdk(NoPrices):
    """Carbon intensity from a Carbon Aware SDK WebAPI.

    Args:
        web: The HTTP client.
        base_url: Address of the server, e.g. ``https://carbon.example.org``.
        locations: Zone to the location as the server knows it, e.g. ``swedencentral``.
        signal: What the server's source sends, average or marginal.
        accounting: Which emissions its source counts.
        clock: Tells which part of a window is over.

    Raises:
        BadInput: The address is none.
    """

    web: Web
    base_url: str
    locations: Mapping[str, str]
    signal: Signal
    accounting: Accounting
    clock: Clock = field(default_factory=SystemClock)

    name: ClassVar[str] = "carbon-aware-sdk"
    terms: ClassVar[Terms] = Terms(
        attribution="Carbon Aware SDK WebAPI",
        licence="Terms of the source behind the server: ask who runs it.",
        fresh=timedelta(minutes=5),
        keep=timedelta(days=3),
    )

    def __post_init__(self) -> None:
        if not _is_address(self.base_url):
            # The address is not repeated: a password may stand in it.
            raise BadInput(
                "carbon-aware-sdk base_url",
                "this is no address of a server",
                "Write http:// or https:// with host and path only, e.g. 'http://localhost:8080'.",
            )

    @property
    def family(self) -> tuple[Signal, Accounting]:
        """What its intensities mean, as it was declared."""
        return self.signal, self.accounting

    def meaning(self, zone: str) -> str:
        """Say what was declared of it: another server or source sends other numbers."""
        told = (self.base_url, self.signal.value, self.accounting.value, self.locations.get(zone))
        return ", ".join(filter(None, told))

    def has_intensity(self, zone: str) -> bool:
        """Tell whether a location was given for the zone."""
        return zone in self.locations

    async def intensity(
        self, zone: str, start: datetime, end: datetime
    ) -> Sequence[IntensitySeries]:
        """Return past and forecast values within a window.

        Raises:
            NoData: It has nothing there.
            ProviderError: It did not answer, or not with an answer.
        """
        window, now = require_window(start, end), self.clock.now()
        if not self.has_intensity(zone):
            raise NoData(self.name, f"does not know zone {zone!r}")
        asked = [self._past(zone, *part) for part in past(window, now, _LONGEST)]
        if window[1] > now:
            asked.append(self._ask("forecasts/current", zone, _read_forecast))
        answers = await answered(asked)
        found: list[IntensitySeries] = []
        for kind in (Kind.ACTUAL, Kind.FORECAST):
            found += intensities(
                self.name,
                zone,
                (slot for part in answers if part.kind is kind for slot in part.slots),
                window,
                kind=kind,
                signal=self.signal,
                accounting=self.accounting,
                source=of_whole(self.terms.attribution, self.locations[zone]),
                issued_at=answers[-1].issued_at if kind is Kind.FORECAST else None,
            )
        if not found:
            raise NoData(self.name, f"has nothing for {zone} in this window")
        return found

    async def _past(self, zone: str, start: datetime, end: datetime) -> _Part:
        first, last = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (start, end))
        return await self._ask("bylocation", zone, _read_past, time=first, toTime=last)

    async def _ask(
        self, path: str, zone: str, read: Callable[[Reply], _Part], **times: str
    ) -> _Part:
        url = f"{self.base_url.rstrip('/')}/emissions/{path}"
        return await self.web.get(self.name, url, {"location": self.locations[zone], **times}, read)


def _read_past(reply: Reply) -> _Part:
    _require_answer(reply)
    rows = reply.parse(_EMISSIONS)
    return _Part(Kind.ACTUAL, _slots(rows))


def _read_forecast(reply: Reply) -> _Part:
    _require_answer(reply)
    forecasts = reply.parse(_FORECASTS)
    if not forecasts:
        raise NoData(reply.provider, "has no forecast of this location")
    issued_at = forecasts[0].issued_at
    known = issued_at is not None and issued_at >= _UNSET
    slots = _slots(forecasts[0].rows or [])
    return _Part(Kind.FORECAST, slots, issued_at if known else None)


def _require_answer(reply: Reply) -> None:
    """Refuse what is no success; statuses of the source behind the server are handed on.

    Raises:
        ProviderError: The leaf that the status stands for.
    """
    if reply.status == httpx.codes.NO_CONTENT:
        raise NoData(reply.provider, "has nothing for this location and time")
    if reply.status == httpx.codes.NOT_IMPLEMENTED:
        raise NoData(reply.provider, "has a source without forecasts")
    if reply.status == httpx.codes.UNAUTHORIZED:
        raise AuthError(reply.provider, "is not let in by its own source (HTTP status 401)")
    reply.require_ok()


def _slots(rows: Sequence[_Row]) -> list[Slot]:
    """Give each row its duration, but no more than up to the next row."""
    usual = usual_ends(row.start for row in rows)
    nexts = dict(pairwise(sorted(usual)))
    slots = []
    for row in rows:
        end = row.start + timedelta(minutes=row.minutes) if row.minutes else usual.get(row.start)
        if end is not None:
            slots.append(Slot(row.start, min(end, nexts.get(row.start, end)), row.value))
    return slots


def _is_address(text: str) -> bool:
    try:
        address = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    extras = address.userinfo or address.query or address.fragment
    return address.scheme in {"http", "https"} and bool(address.host) and not extras
