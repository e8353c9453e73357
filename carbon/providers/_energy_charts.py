"""Energy-Charts of Fraunhofer ISE: no key, most of Europe, intensity and day-ahead prices.

::

    found = await EnergyCharts(web).intensity("DE", now, now + timedelta(hours=48))

Intensities are averages of a whole *country*, also for a zone that is a part of one: the source of
each series says so. The site states lifecycle emissions; that is unverified. Actual and forecast
values are series of their own: they may overlap, and between the last actual and the first forecast
value there is a jump that is none of the grid. Prices are those of the day-ahead auction. All of
them are forecasts here, also past ones, as they are known ahead and only compared with one another.

What the site really sends was seen to differ from what one expects:

- ``start`` and ``end`` are dates of the zone, not of UTC: a day more is asked for on both sides.
- The step is nowhere stated, and one answer may go from hours to quarter hours (2025-10-01). Each
  value lasts for the step that prevails among its neighbours, if that is a quarter, half or whole
  hour, and never longer than it is to the next one or to the one before. A value without such a
  neighbour lasts for an unknown time and is left out: one row alone is no data.
- ``null`` may stand in both arrays at a time, or at the end of a short forecast.
- Prices of some zones are CC BY 4.0, of others not; ``license_info`` tells, not the documentation.
- A day that is not published yet is a 404; an unknown country a 400, so a wrong row in codes.toml.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter

from carbon._errors import BadResponse, NoData
from carbon._provider import Terms, of_whole
from carbon._series import Accounting, Kind, Signal, require_window
from carbon._stretch import Slot
from carbon.providers._codes import codes
from carbon.providers._made import intensities, prices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon._series import IntensitySeries, PriceSeries
    from carbon.providers._web import Reply, Web

_SITE: Final = "Energy-Charts, Fraunhofer ISE"
_OPEN: Final = "CC BY 4.0"
_SMARD: Final = "SMARD.de"

_DAY: Final = timedelta(days=1)
_STEPS: Final = frozenset(timedelta(minutes=minutes) for minutes in (15, 30, 60))
_NEIGHBOURS: Final = 4
_MOST_ROWS: Final = 200_000
"""Five years of quarter hours; more is no answer to any question of ours."""

_Time = Annotated[int, Field(ge=0, lt=4_102_444_800)]  # from 1970 to 2100
_Times = Annotated[list[_Time], Field(max_length=_MOST_ROWS)]
_Values = list[FiniteFloat | None]


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True)  # true is not 1 g, and "12" is not sent

    times: _Times = Field(alias="unix_seconds")


class _Carbon(_Answer):
    actual: _Values = Field(alias="co2eq")
    forecast: _Values | None = Field(default=None, alias="co2eq_forecast")


class _Prices(_Answer):
    values: _Values = Field(alias="price")
    unit: str = Field(pattern=r"^[A-Z]{3} ?/ ?MWh$")
    licence: str | None = Field(default=None, alias="license_info")


_CARBON, _PRICES = TypeAdapter(_Carbon), TypeAdapter(_Prices)


@dataclass(frozen=True)
class EnergyCharts:
    """Carbon intensity and day-ahead prices of European countries.

    Args:
        web: The HTTP client.
        base_url: Address of the service.
    """

    web: Web
    base_url: str = "https://api.energy-charts.info"

    name: ClassVar[str] = "energy-charts"
    family: ClassVar[tuple[Signal, Accounting]] = (Signal.AVERAGE, Accounting.LIFECYCLE)
    terms: ClassVar[Terms] = Terms(
        attribution=f"{_SITE} ({_OPEN})",
        licence="CC-BY-4.0; prices of some zones only for private and internal use",
        fresh=timedelta(minutes=15),
    )

    def meaning(self, zone: str) -> str:  # noqa: ARG002 - the seam asks for a zone
        """Tell that nothing changes what its numbers mean."""
        return ""

    def has_intensity(self, zone: str) -> bool:
        """Tell whether the zone lies in a country that it knows."""
        return codes(zone).energy_charts is not None

    def has_price(self, zone: str) -> bool:
        """Tell whether the zone has a bidding zone that it knows."""
        return codes(zone).energy_charts_price is not None

    async def intensity(
        self, zone: str, start: datetime, end: datetime
    ) -> Sequence[IntensitySeries]:
        """Return actual and forecast values of the zone's country within a window.

        Raises:
            NoData: It has nothing there.
            ProviderError: It did not answer, or not with an answer.
        """
        window = require_window(start, end)
        known = codes(zone)
        if known.energy_charts is None:
            raise NoData(self.name, f"does not know zone {zone!r}")
        asked = {"country": known.energy_charts, **_dates(*window)}
        answer = await self.web.get(self.name, f"{self.base_url}/co2eq", asked, _read_carbon)
        source, whole = self.terms.attribution, known.energy_charts_for
        found: list[IntensitySeries] = []
        for kind, values in ((Kind.ACTUAL, answer.actual), (Kind.FORECAST, answer.forecast or [])):
            found += intensities(
                self.name,
                zone,
                _slots(answer.times, values),
                window,
                kind=kind,
                signal=Signal.AVERAGE,
                accounting=Accounting.LIFECYCLE,
                source=of_whole(source, whole) if whole else source,
            )
        if not found:
            raise NoData(self.name, f"has no intensity of {zone} in this window")
        return found

    async def price(self, zone: str, start: datetime, end: datetime) -> Sequence[PriceSeries]:
        """Return day-ahead prices of the zone within a window.

        Raises:
            NoData: It has nothing there.
            ProviderError: It did not answer, or not with an answer.
        """
        window = require_window(start, end)
        bidding_zone = codes(zone).energy_charts_price
        if bidding_zone is None:
            raise NoData(self.name, f"has no price of zone {zone!r}")
        asked = {"bzn": bidding_zone, **_dates(*window)}
        answer = await self.web.get(self.name, f"{self.base_url}/price", asked, _read_prices)
        found = prices(
            self.name,
            zone,
            _slots(answer.times, answer.values),
            window,
            kind=Kind.FORECAST,
            currency=answer.unit[:3],
            source=_credit(answer.licence or ""),
        )
        if not found:
            raise NoData(self.name, f"has no price of {zone} in this window")
        return found


def _dates(start: datetime, end: datetime) -> dict[str, str]:
    return {"start": f"{start - _DAY:%Y-%m-%d}", "end": f"{end + _DAY:%Y-%m-%d}"}


def _read_carbon(reply: Reply) -> _Carbon:
    reply.require_ok()
    answer = reply.parse(_CARBON)
    _require_rows(reply, answer.times, answer.actual, answer.forecast or None)
    return answer


def _read_prices(reply: Reply) -> _Prices:
    reply.require_ok()
    answer = reply.parse(_PRICES)
    _require_rows(reply, answer.times, answer.values)
    return answer


def _require_rows(reply: Reply, times: list[int], *arrays: _Values | None) -> None:
    """Refuse arrays that do not belong together; without their times no value means anything."""
    if any(array is not None and len(array) != len(times) for array in arrays):
        raise BadResponse(reply.provider, "sent arrays of different lengths")
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise BadResponse(reply.provider, "sent times that do not ascend")


def _slots(seconds: list[int], values: _Values) -> list[Slot]:
    times = [datetime.fromtimestamp(second, UTC) for second in seconds]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    found: list[Slot] = []
    for index, (time, value) in enumerate(zip(times, values, strict=False)):
        near = gaps[max(0, index - _NEIGHBOURS) : index + _NEIGHBOURS]
        steps = Counter(gap for gap in near if gap in _STEPS)
        if steps:
            step = min(steps, key=lambda step: (-steps[step], step))
            found.append(Slot(time, time + min(step, *gaps[max(0, index - 1) : index + 1]), value))
    return found


def _credit(licence: str) -> str:
    """Say who says so; the licence of a price is what the answer states, zone by zone."""
    if _OPEN not in licence:
        return f"{_SITE} (no open licence stated)"
    owner = f", from Bundesnetzagentur | {_SMARD}" if _SMARD in licence else ""
    return f"{_SITE} ({_OPEN}){owner}"
