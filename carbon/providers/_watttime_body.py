"""What WattTime sends, and what of it can be believed; see ``_watttime.py``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import httpx
from pydantic import BaseModel, Field, TypeAdapter

from carbon._errors import AuthError, BadResponse
from carbon._series import Kind
from carbon._stretch import Slot
from carbon.providers._answers import MOST_ROWS, Moment, Number

if TYPE_CHECKING:
    from carbon.providers._web import Reply

NAME: Final = "watttime"
SIGNAL: Final = "co2_moer"
POUNDS: Final = "lbs_co2_per_mwh"
PERCENTILE: Final = "percentile"

_G_PER_KWH: Final = 0.45359237
"""One pound per MWh; a pound is exactly this many kilograms."""
_REGION: Final = re.compile(r"[A-Z][A-Z0-9_]{1,24}")


class Point(BaseModel):
    """One value, in the unit that stands beside the points."""

    start: Moment = Field(alias="point_time")
    value: Number | None
    imputed: bool | None = Field(None, alias="imputed_data_used")

    @property
    def kind(self) -> Kind:
        """How a value of the past came about."""
        return Kind.ESTIMATED if self.imputed else Kind.ACTUAL


class Meta(BaseModel):
    """What stands beside the points."""

    region: str
    signal: str = Field(alias="signal_type")
    units: str
    seconds: Annotated[int, Field(strict=True, gt=0, le=86_400)] | None = Field(
        None, alias="data_point_period_seconds"
    )
    issued_at: Moment | None = Field(None, alias="generated_at")


class Body(BaseModel):
    """Any body but that of a login."""

    data: list[Point] = Field(max_length=MOST_ROWS, fail_fast=True)
    meta: Meta

    def require(self, region: str, units: str) -> None:
        """Refuse a body of another region, signal or unit.

        Raises:
            BadResponse: It is one.
        """
        if self.meta.region != region:
            # Any text but a region could hold a key.
            known = _REGION.fullmatch(self.meta.region)
            other = self.meta.region if known else "no region at all"
            raise BadResponse(NAME, f"was asked for region {region} and sent {other}")
        if self.meta.signal != SIGNAL:
            raise BadResponse(NAME, f"sent another signal of {region} than {SIGNAL}")
        if self.meta.units != units:
            what = "a percentile" if self.meta.units == PERCENTILE else "another unit"
            raise BadResponse(NAME, f"sent {what} of {region} instead of {units}")


@dataclass(frozen=True)
class Intensities:
    """A body of intensities.

    Attributes:
        body: The body.
        ahead: Whether it is a forecast.
    """

    body: Body
    ahead: bool

    def slots(self, kind: Kind) -> list[Slot]:
        """Return the values that came about in one way, in g/kWh.

        Raises:
            BadResponse: It does not say how long a value holds.
        """
        meta = self.body.meta
        if not self.body.data:
            return []
        if meta.seconds is None:
            raise BadResponse(NAME, f"did not say how long values of {meta.region} hold")
        step = timedelta(seconds=meta.seconds)
        return [
            Slot(
                point.start,
                point.start + step,
                None if point.value is None else point.value * _G_PER_KWH,
            )
            for point in self.body.data
            if kind is (Kind.FORECAST if self.ahead else point.kind)
        ]


class _Login(BaseModel):
    # It will stand in a header, where httpx would choke on anything else and show it.
    token: Annotated[str, Field(pattern=r"^[!-~]+$", max_length=8192)]


_BODY, _LOGIN = TypeAdapter(Body), TypeAdapter(_Login)


def read(reply: Reply) -> Body:
    """Return the body of a success.

    Raises:
        AuthError: The token is refused: it has expired, or a firewall stands in front.
        ProviderError: It is no success for another reason, or has another shape.
    """
    page = not reply.content.lstrip().startswith(b"{")
    if reply.status == httpx.codes.UNAUTHORIZED or (reply.status == httpx.codes.FORBIDDEN and page):
        raise AuthError(reply.provider, f"does not take the token (HTTP status {reply.status})")
    reply.require_ok()
    return reply.parse(_BODY)


def read_token(reply: Reply) -> str:
    """Return the token of a login.

    Raises:
        AuthError: The user is not let in.
        ProviderError: It did not answer, or not with a token.
    """
    if reply.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise AuthError(reply.provider, f"does not let the user in (HTTP status {reply.status})")
    if reply.status == httpx.codes.NOT_FOUND:
        # Not "no data for this zone", which a 404 means elsewhere.
        raise BadResponse(reply.provider, "has no login at this address (HTTP status 404)")
    reply.require_ok()
    return reply.parse(_LOGIN).token
