"""The price document of ENTSO-E, A44: from XML to one price per interval.

``read`` judges an answer and returns the document; ``slots`` returns what its series say::

    document = read(reply)
    found = slots(document.day_ahead, start, end)

Which rules of the wire it knows:

- A series has points at numbered positions of a period. Under curve type A03, which is what the
  platform sends, an omitted position repeats the one before it, to the end of the period; under A01
  it is a gap. A point without a price is none, and under A03 so is what repeats it.
- Several auctions may price the same time. Sequence 1 is the coupled European auction (SDAC), 2 is
  EXAA, seen in DE-LU and AT; other zones have one auction and no sequence. Anything but day-ahead
  (``contract_MarketAgreement.type`` A01) is left out, too: Spain's intraday auctions came along.
- One document may hold hours and quarter hours, of different days or of the same time, and the same
  series twice (PL).
- "No matching data found" is an acknowledgement with status 200 or 400; so are refusals. What they
  say is never repeated: it may hold the token.
"""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

import httpx
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    Field,
    FiniteFloat,
    model_validator,
)
from pydantic_core import PydanticCustomError

from carbon._errors import BadResponse
from carbon._stretch import Slot
from carbon.providers._xml import judged, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from carbon.providers._web import Reply

_MOST_SLOTS: Final = 150_000
_MANY: Final = frozenset({"TimeSeries", "Period", "Point", "Reason"})
_STEPS: Final = {
    "PT15M": timedelta(minutes=15),
    "PT30M": timedelta(minutes=30),
    "PT60M": timedelta(hours=1),
    "PT1H": timedelta(hours=1),
}
_QUARTER: Final = _STEPS["PT15M"]
_YEARS: Final = range(2000, 2100)
_CENT: Final = 0.01
_SDAC: Final = 1
_NOTHING: Final = "no matching data found"


def _plausible(moment: datetime) -> datetime:
    if moment.year not in _YEARS:
        raise PydanticCustomError("odd_time", "the time lies far away")
    return moment.astimezone(UTC)


_Moment = Annotated[AwareDatetime, AfterValidator(_plausible)]


class _Point(BaseModel):
    position: Annotated[int, Field(ge=1)]
    price: FiniteFloat | None = Field(default=None, alias="price.amount")


class _Interval(BaseModel):
    start: _Moment
    end: _Moment


class _Period(BaseModel):
    interval: _Interval = Field(alias="timeInterval")
    resolution: Literal["PT15M", "PT30M", "PT60M", "PT1H"]
    points: list[_Point] = Field(default=[], alias="Point")

    @property
    def step(self) -> timedelta:
        return _STEPS[self.resolution]

    @property
    def positions(self) -> int:
        return (self.interval.end - self.interval.start) // self.step

    @property
    def prices(self) -> dict[int, float | None]:
        return {point.position: point.price for point in self.points}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        start, end, last = self.interval.start, self.interval.end, self.positions
        uneven = (end - start) % self.step or start.timestamp() % _QUARTER.total_seconds()
        if end <= start or uneven:
            raise PydanticCustomError("odd_interval", "the interval has no whole steps")
        if any(point.position > last for point in self.points):
            raise PydanticCustomError("position_outside", "a position lies outside the interval")
        if len(self.prices) != len({(point.position, point.price) for point in self.points}):
            raise PydanticCustomError("two_prices", "a position has two prices")
        return self


class TimeSeries(BaseModel):
    """Prices of one area, of one auction if it says which."""

    area: str = Field(alias="in_Domain.mRID")
    other_area: str | None = Field(default=None, alias="out_Domain.mRID")
    contract: str = Field(default="A01", alias="contract_MarketAgreement.type")
    sequence: int | None = Field(
        default=None, alias="classificationSequence_AttributeInstanceComponent.position"
    )
    currency: str = Field(alias="currency_Unit.name", pattern="^[A-Z]{3}$")
    unit: str | None = Field(default=None, alias="price_Measure_Unit.name")
    curve: Literal["A01", "A03"] = Field(default="A01", alias="curveType")
    periods: list[_Period] = Field(default=[], alias="Period")

    @model_validator(mode="after")
    def _per_megawatt_hour(self) -> Self:
        # A sample repeats the currency where the unit belongs; that does not contradict.
        if self.unit not in {None, "MWH", self.currency}:
            raise PydanticCustomError("unit", "the price is not per MWh")
        return self


class Document(BaseModel):
    """Day-ahead prices.

    Attributes:
        series: Its series, also of other auctions.
    """

    kind: Literal["A44"] = Field(alias="type")
    series: list[TimeSeries] = Field(default=[], alias="TimeSeries")

    @property
    def day_ahead(self) -> list[TimeSeries]:
        """Its series of day-ahead auctions."""
        return [one for one in self.series if one.contract == "A01"]

    @model_validator(mode="after")
    def _is_no_flood(self) -> Self:
        periods = [period for one in self.series for period in one.periods]
        if sum(period.positions for period in periods) > _MOST_SLOTS:
            raise PydanticCustomError("too_long", "more intervals than were asked for")
        return self


class _Reason(BaseModel):
    code: str = Field(default="without code", pattern="^[A-Z]?[0-9]{1,3}$")
    text: str = ""


class _Acknowledgement(BaseModel):
    reasons: list[_Reason] = Field(default=[], alias="Reason")


def read(reply: Reply) -> Document | None:
    """Return the document that an answer holds; ``None`` if it says that there is no data.

    Raises:
        ProviderError: It holds none.
    """
    fault = reply.fault()
    if fault is not None and reply.status != httpx.codes.BAD_REQUEST:
        raise fault
    name, body = plain(reply, _MANY)
    if name == "Acknowledgement_MarketDocument":
        reasons = judged(reply, _Acknowledgement, body).reasons
        if any(one.code == "999" and _NOTHING in one.text.lower() for one in reasons):
            return None
        codes = " and ".join(one.code for one in reasons[:3]) or "none"
        raise BadResponse(reply.provider, f"refused the question (reason {codes})")
    if fault is not None:
        raise fault
    if name != "Publication_MarketDocument":
        raise BadResponse(reply.provider, "sent something else than prices")
    return judged(reply, Document, body)


def slots(series: Iterable[TimeSeries], start: datetime, end: datetime) -> list[Slot]:
    """Return what the day-ahead series of one area and currency say within a window, in any order.

    Where the coupled auction says something it alone counts. Where series contradict one another
    the slots overlap and differ: :func:`carbon._stretch.join` makes that a gap.
    """
    by_sequence: defaultdict[int | None, list[Slot]] = defaultdict(list)
    for one in series:
        for period in one.periods:
            by_sequence[one.sequence] += _expanded(period, one.curve, start, end)
    found = _finest(by_sequence[_SDAC])
    taken = {quarter for slot in found for quarter in _quarters(slot)}
    return found + [
        slot for slot in _finest(by_sequence[None]) if taken.isdisjoint(_quarters(slot))
    ]


def _expanded(period: _Period, curve: str, start: datetime, end: datetime) -> Iterator[Slot]:
    """Yield a slot for each position that has a price, also if it only repeats another."""
    prices, price, step = period.prices, None, period.step
    for position in range(1, period.positions + 1):
        price = prices.get(position, price if curve == "A03" else None)
        time = period.interval.start + (position - 1) * step
        if price is not None and time < end and time + step > start:
            yield Slot(time, time + step, price)


def _finest(found: Iterable[Slot]) -> list[Slot]:
    """Leave out coarse slots that finer ones say more exactly.

    A coarse price that is not the mean of the finer ones belongs to another auction, of which
    nothing tells: both stay, and contradict one another. Where finer slots leave a part of a coarse
    one open, it counts there only if they equal it: a mean says nothing of a part.
    """
    kept: list[Slot] = []
    said: dict[datetime, float] = {}
    by_step: defaultdict[timedelta, list[tuple[Slot, float]]] = defaultdict(list)
    for slot in found:
        if slot.value is not None:
            by_step[slot.end - slot.start].append((slot, slot.value))
    for step in sorted(by_step):
        finer = dict(said)
        for slot, price in by_step[step]:
            quarters = _quarters(slot)
            inside = [finer[quarter] for quarter in quarters if quarter in finer]
            if not inside:
                kept.append(slot)
            elif len(inside) == len(quarters):
                if not math.isclose(fmean(inside), price, rel_tol=0.0, abs_tol=_CENT):
                    kept.append(slot)
            elif all(one == price for one in inside):
                kept += [Slot(one, one + _QUARTER, price) for one in quarters if one not in finer]
            said |= dict.fromkeys(quarters, price)
    return kept


def _quarters(slot: Slot) -> list[datetime]:
    return [slot.start + _QUARTER * part for part in range((slot.end - slot.start) // _QUARTER)]
