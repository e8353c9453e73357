"""What Electricity Maps sends, and what of it can be believed; see ``_electricity_maps.py``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AliasChoices, BaseModel, Field, TypeAdapter

from carbon._errors import BadResponse
from carbon._series import Accounting, Kind
from carbon._stretch import Slot
from carbon.providers._answers import MOST_ROWS, Moment, Number, usual_ends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon.providers._web import Reply

NAME: Final = "electricity-maps"
CARBON: Final = "carbon-intensity"
PRICE: Final = "price-day-ahead"
ZONE: Final = re.compile(r"[A-Z]{2}(-[A-Z][A-Z0-9]{0,4}){0,2}")

_LONGEST_FAULT: Final = 10_000
_HOUR: Final = timedelta(hours=1)
_STEPS: Final = {"hourly": _HOUR, "15_minutes": _HOUR / 4, "5_minutes": _HOUR / 12}


class Said(BaseModel):
    """What stands beside the rows, in a row, or in both."""

    zone: str | None = None
    unit: str | None = None
    factors: str | None = Field(None, alias="emissionFactorType")
    estimated: bool | None = Field(None, alias="isEstimated")
    method: str | None = Field(None, alias="estimationMethod")
    granularity: str | None = Field(None, alias="temporalGranularity")
    disclaimer: str | None = Field(None, alias="_disclaimer")


class Row(Said):
    """One value; the whole body of ``latest``."""

    start: Moment = Field(alias="datetime")
    intensity: Number | None = Field(None, alias="carbonIntensity")
    price: Number | None = Field(None, alias="value")

    @property
    def rows(self) -> list[Row]:
        """Itself."""
        return [self]


class Rows(Said):
    """Any other body."""

    rows: list[Row] = Field(
        validation_alias=AliasChoices("forecast", "history", "data"),
        max_length=MOST_ROWS,
        fail_fast=True,
    )


class _Fault(BaseModel):
    error: object = None
    message: object = None


_BODY: TypeAdapter[Rows | Row] = TypeAdapter(
    Annotated[Rows | Row, Field(union_mode="left_to_right")]
)
_FAULT = TypeAdapter(_Fault)


@dataclass(frozen=True)
class Value:
    """One value with what is known of it."""

    slot: Slot
    kind: Kind
    unit: str | None


def read(reply: Reply, accounting: Accounting) -> Rows | Row:
    """Return the body of a success.

    Raises:
        ProviderError: It is no success, has another shape, is made up, or counts other emissions.
    """
    reply.require_ok()
    body = reply.parse(_BODY)
    for said in (body, *body.rows):
        # The method is an open string; rows of a forecast have none, but the body a disclaimer.
        if "SANDBOX" in f"{said.method} {said.disclaimer}".upper():
            raise BadResponse(NAME, "sent made-up numbers: the key is a sandbox key")
        if said.factors not in {None, accounting.value}:
            raise BadResponse(NAME, f"did not send {accounting} emissions")
    return body


def values(body: Rows | Row, zone: str, signal: str, *, ahead: bool) -> list[Value]:
    """Return the values of a body that holds the answer for a zone.

    Raises:
        BadResponse: The body speaks of another zone or of something else.
    """
    sent = {said.zone for said in (body, *body.rows) if said.zone}
    if sent != {zone}:
        # Any text but a zone could hold a key.
        other = next((one for one in sent - {zone} if ZONE.fullmatch(one)), "no zone at all")
        raise BadResponse(NAME, f"was asked for {zone} and sent {other}")
    name = "intensity" if signal == CARBON else "price"
    if not all(name in row.model_fields_set for row in body.rows):
        raise BadResponse(NAME, f"sent something else than {signal}")
    ends = _ends(body, body.rows)
    return [
        Value(
            Slot(row.start, ends[row.start], row.intensity if signal == CARBON else row.price),
            Kind.FORECAST if ahead else _kind(row),
            row.unit or body.unit,
        )
        for row in body.rows
        if row.start in ends
    ]


def outside_plan(reply: Reply) -> bool:
    """Tell whether a refusal is about the plan: "Request unauthorized for zoneKey=...".

    A key that is not known, and one that asks too often, is told "Invalid auth-token".
    """
    if len(reply.content) > _LONGEST_FAULT:
        return False
    try:
        fault = reply.parse(_FAULT)
    except BadResponse:
        return False
    text = f"{fault.error} {fault.message}".lower()
    return "unauthorized for" in text or "not have access" in text


def _ends(body: Said, rows: Sequence[Row]) -> dict[datetime, datetime]:
    """Return the ends of the rows by their starts; a lone row of unknown length has none."""
    ends = usual_ends(row.start for row in rows)
    for row in rows:
        step = _STEPS.get(row.granularity or body.granularity or "")
        if step or row.start in ends:
            longest = row.start + (step or _HOUR)  # nothing coarser than hours was asked for
            ends[row.start] = min(ends.get(row.start, longest), longest)
    return ends


def _kind(row: Row) -> Kind:
    estimated = row.method is not None if row.estimated is None else row.estimated
    return Kind.ESTIMATED if estimated else Kind.ACTUAL
