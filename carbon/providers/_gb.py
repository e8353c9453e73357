"""GB Carbon Intensity of the National Energy System Operator: no key, half hours, two days ahead.

The numbers count direct emissions only (biomass 120, wind, sun and nuclear 0 gCO2/kWh), so they
are never compared with lifecycle numbers. Zone ``GB`` is the country, or one of its regions that
stands for it; ``GB-1`` to ``GB-17`` are the regions of the grid operators, e.g. ``GB-13``, London.
A region has no actual values, so nothing can be learned of how good its forecasts are.

Definition: "Carbon Intensity API", carbon-intensity.github.io/api-definitions. What it really sends
was seen to differ: a window is answered with the half hours that *end* in it, both ends included;
one over a New Year only up to there (carbon-intensity/api-definitions issue 12). ``data`` is now an
object and now a list of one. A forecast may end early or be empty, and "nothing" may be ``{}``. A
half hour may come twice with two values (issue 17 there): neither is believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Generic, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from carbon._errors import BadInput, BadResponse, NoData
from carbon._provider import NoPrices, Terms
from carbon._series import Accounting, Kind, Signal, require_window
from carbon._stretch import Slot
from carbon.providers._answers import MOST_ROWS, Moment, Number, answered, parts
from carbon.providers._made import intensities

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carbon._series import IntensitySeries
    from carbon.providers._web import Reply, Web

_T = TypeVar("_T")

_NATION: Final = "GB"
_REGIONS: Final = {f"{_NATION}-{number}": number for number in range(1, 18)}
_LONGEST: Final = timedelta(days=13)
"""Longest window of one question: the documentation says 14 days, and ends are inclusive."""
_SLOT: Final = timedelta(minutes=30)
_LONGEST_SLOT: Final = timedelta(hours=1)
"""What holds for longer is no half hour but a statistic, and nothing to plan with."""
_MIDNIGHT: Final = datetime(2000, 1, 1, tzinfo=UTC)


def _listed(data: object) -> object:
    return [data] if isinstance(data, dict) else data


# fail_fast: a flood of wrong rows must not become a flood of errors.
_List = Annotated[list[_T], Field(max_length=MOST_ROWS, fail_fast=True), BeforeValidator(_listed)]


class _Value(BaseModel):
    forecast: Number | None = None
    actual: Number | None = None


class _Row(BaseModel):
    start: Moment = Field(alias="from")
    end: Moment = Field(alias="to")
    intensity: _Value

    @model_validator(mode="after")
    def _is_a_slot(self) -> Self:
        if not timedelta(0) < self.end - self.start <= _LONGEST_SLOT:
            raise PydanticCustomError("no_half_hour", "it is over before it began, or too long")
        return self


class _Region(BaseModel):
    id: int = Field(alias="regionid")
    data: _List[_Row]


class _Answer(BaseModel, Generic[_T]):
    data: _List[_T]

    @model_validator(mode="before")
    @classmethod
    def _nothing(cls, body: object) -> object:
        return {"data": []} if body == {} else body


_NATIONAL, _REGIONAL = TypeAdapter(_Answer[_Row]), TypeAdapter(_Answer[_Region])


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
    family: ClassVar[tuple[Signal, Accounting]] = (Signal.AVERAGE, Accounting.DIRECT)
    terms: ClassVar[Terms] = Terms(
        attribution="Carbon Intensity API, National Energy System Operator",
        licence="CC-BY-4.0",
        fresh=timedelta(minutes=15),
    )

    def __post_init__(self) -> None:
        if self.region is not None and self.region not in _REGIONS.values():
            raise BadInput("region", f"{self.region} is no region", "Give 1 to 17; London is 13.")

    def meaning(self, zone: str) -> str:
        """Say which region stands for Great Britain, if one does."""
        return f"region {self.region}" if self.region and zone == "GB" else ""

    def has_intensity(self, zone: str) -> bool:
        """Tell whether the zone is Great Britain or one of its regions."""
        return zone == _NATION or zone in _REGIONS

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
        asked = [self._rows(zone, *part) for part in _questions(*window)]
        rows = [row for part in await answered(asked) for row in part]
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
        return self.region if zone == _NATION else _REGIONS[zone]

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
        found = await self.web.get(self.name, url, {}, _read_regional)
        if any(one.id != region for one in found):
            raise BadResponse(self.name, f"sent another region when asked for {zone}")
        return [row for one in found for row in one.data]


def _questions(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Cut a window into what one answer holds.

    Each ends with a half hour, because one that ends later is not sent. None spans a New Year; the
    half hour before it comes with the answer that begins there, so there is always one.
    """
    start -= (start - _MIDNIGHT) % _SLOT
    end += (_MIDNIGHT - end) % _SLOT
    end = max(end, datetime(end.year, 1, 1, tzinfo=UTC) + _SLOT)
    for first, last in parts(start, end, _LONGEST):
        year = datetime(last.year, 1, 1, tzinfo=UTC)
        yield from pairwise([first, year, last] if first < year < last else [first, last])


def _read_national(reply: Reply) -> list[_Row]:
    reply.require_ok()
    return reply.parse(_NATIONAL).data


def _read_regional(reply: Reply) -> list[_Region]:
    reply.require_ok()
    return reply.parse(_REGIONAL).data


def _slot(row: _Row, kind: Kind) -> Slot:
    value = row.intensity.actual if kind is Kind.ACTUAL else row.intensity.forecast
    return Slot(row.start, row.end, value)
