"""GB Carbon Intensity of the National Energy System Operator: no key, half hours, two days ahead.

The numbers count direct emissions only (biomass 120, wind, sun and nuclear 0 gCO2/kWh), so they
are never compared with lifecycle numbers. Zone ``GB`` is the country, or one of its regions that
stands for it; ``GB-1`` to ``GB-17`` are the regions of the grid operators, e.g. ``GB-13``, London.
A region has no actual values, so nothing can be learned of how good its forecasts are.

Definition: "Carbon Intensity API", carbon-intensity.github.io/api-definitions. What it really sends
was seen to differ: a window is answered inclusively at both ends, ``data`` of a region is now an
object and now a list of one, a forecast may end early or be empty.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

from pydantic import BaseModel, Field, TypeAdapter

from carbon._errors import BadInput, BadResponse, NoData
from carbon._provider import NoPrices, Terms
from carbon._series import Accounting, Kind, Signal, require_window
from carbon._stretch import Slot
from carbon.providers._answers import MOST_ROWS, Moment, Number, parts
from carbon.providers._made import intensities

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from carbon._series import IntensitySeries
    from carbon.providers._web import Reply, Web

_NATION: Final = "GB"
_REGIONS: Final = range(1, 18)
_LONGEST: Final = timedelta(days=13)
"""Longest window of one question: the documentation says 14 days, and ends are inclusive."""


class _Value(BaseModel):
    forecast: Number | None = None
    actual: Number | None = None


class _Row(BaseModel):
    start: Moment = Field(alias="from")
    end: Moment = Field(alias="to")
    intensity: _Value


# fail_fast: a flood of wrong rows must not become a flood of errors.
_Rows = Annotated[list[_Row], Field(max_length=MOST_ROWS, fail_fast=True)]


class _Region(BaseModel):
    id: int = Field(alias="regionid")
    data: _Rows


class _National(BaseModel):
    data: _Rows = []


class _Regional(BaseModel):
    data: _Region | Annotated[list[_Region], Field(max_length=1, fail_fast=True)] = []


_NATIONAL, _REGIONAL = TypeAdapter(_National), TypeAdapter(_Regional)


@dataclass(frozen=True)
class GBCarbonIntensity(NoPrices):
    """Carbon intensity of Great Britain and its regions.

    Args:
        web: The HTTP client.
        base_url: Address of the service.
        region: Number of the region that stands for zone ``GB``; the whole country by default.

    Raises:
        BadInput: There is no such region.
    """

    web: Web
    base_url: str = "https://api.carbonintensity.org.uk"
    region: int | None = None

    name: ClassVar[str] = "gb-carbon-intensity"
    terms: ClassVar[Terms] = Terms(
        attribution="Carbon Intensity API, National Energy System Operator",
        licence="CC-BY-4.0",
        fresh=timedelta(minutes=15),
    )

    def __post_init__(self) -> None:
        if self.region is not None and self.region not in _REGIONS:
            raise BadInput("region", f"{self.region} is no region", "Give 1 to 17; London is 13.")

    def has_intensity(self, zone: str) -> bool:
        """Tell whether the zone is Great Britain or one of its regions."""
        return zone == _NATION or _numbered(zone) is not None

    async def intensity(
        self, zone: str, start: datetime, end: datetime
    ) -> Sequence[IntensitySeries]:
        """Return forecast and, for the whole country, actual values within a window.

        Raises:
            NoData: It has nothing there.
            ProviderError: It did not answer, or not with an answer.
        """
        window = require_window(start, end)
        if not self.has_intensity(zone):
            raise NoData(self.name, f"does not know zone {zone!r}")
        asked = [self._rows(zone, *part) for part in parts(*window, _LONGEST)]
        rows = [row for part in await asyncio.gather(*asked) for row in part]
        found: list[IntensitySeries] = []
        for kind in (Kind.ACTUAL, Kind.FORECAST):
            found += intensities(
                self.name,
                zone,
                (_slot(row, kind) for row in rows),
                window,
                kind=kind,
                signal=Signal.AVERAGE,
                accounting=Accounting.DIRECT,
                source=self._source(zone),
            )
        if not found:
            raise NoData(self.name, f"has nothing for {zone} in this window")
        return found

    def _region(self, zone: str) -> int | None:
        return self.region if zone == _NATION else _numbered(zone)

    def _source(self, zone: str) -> str:
        region = self._region(zone)
        where = f"region {region}" if region else "Great Britain"
        return f"{self.terms.attribution}: {where}"

    async def _rows(self, zone: str, start: datetime, end: datetime) -> list[_Row]:
        window = f"{start:%Y-%m-%dT%H:%MZ}/{end:%Y-%m-%dT%H:%MZ}"
        region = self._region(zone)
        if region is None:
            url = f"{self.base_url}/intensity/{window}"
            return await self.web.get(self.name, url, {}, _read_national)
        url = f"{self.base_url}/regional/intensity/{window}/regionid/{region}"
        answer = await self.web.get(self.name, url, {}, _read_regional)
        if any(one.id != region for one in answer):
            raise BadResponse(self.name, f"sent another region when asked for {zone}")
        return [row for one in answer for row in one.data]


def _read_national(reply: Reply) -> list[_Row]:
    reply.require_ok()
    return reply.parse(_NATIONAL).data


def _read_regional(reply: Reply) -> list[_Region]:
    reply.require_ok()
    data = reply.parse(_REGIONAL).data
    return data if isinstance(data, list) else [data]


def _slot(row: _Row, kind: Kind) -> Slot:
    value = row.intensity.actual if kind is Kind.ACTUAL else row.intensity.forecast
    return Slot(row.start, row.end, value)


def _numbered(zone: str) -> int | None:
    nation, _, number = zone.partition("-")
    known = nation == _NATION and number.isdecimal() and int(number) in _REGIONS
    return int(number) if known else None
