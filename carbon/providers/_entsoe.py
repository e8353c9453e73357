"""The ENTSO-E Transparency Platform: day-ahead electricity prices of Europe; wants a token.

::

    found = await Entsoe(web, SecretStr(token)).price("FI", now, now + timedelta(hours=36))

It has prices ahead but no carbon intensity: that would have to be computed from the generation mix,
of which there is no forecast. Prices are those of the coupled day-ahead auction (SDAC), per MWh and
in the currency that the document names; zero and negative prices are prices. All are forecasts, as
they are known ahead: a price is compared with a price. Prices of tomorrow come about 13:00 CET.

Quirks of its documents are in ``_a44.py``. Of the service itself:

- Whole market days come back, whatever the window.
- It sends at most 100 series in an answer, one to four a day: so a question asks for twenty days.
- Only DE-LU and AT name their auctions; the filter for the auction is sent for these alone, as
  ``entsoe-py`` does, since nothing tells what it does to series without a sequence.
- ``createdDateTime`` was seen to be the time of the question, so no issue time is told.
- The token stands in the address, so it is kept out of httpx's log. More than 400 questions a
  minute are a 429 and a ban of ten minutes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import SecretStr

from carbon._errors import BadResponse, NoData
from carbon._provider import Terms
from carbon._series import Kind, require_window
from carbon.providers._a44 import read, slots
from carbon.providers._codes import codes
from carbon.providers._made import prices
from carbon.providers._web import mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from typing import Never

    from carbon._series import PriceSeries
    from carbon.providers._a44 import Document
    from carbon.providers._web import Web

_LONGEST: Final = timedelta(days=20)
_TWO_AUCTIONS: Final = frozenset({"10Y1001A1001A82H", "10YAT-APG------L"})
_SDAC_ONLY: Final = {"classificationSequence_AttributeInstanceComponent.position": "1"}
_EURO: Final = "EUR"


@dataclass(frozen=True)
class Entsoe:
    """Day-ahead prices of European bidding zones.

    Args:
        web: The HTTP client.
        token: The security token.
        base_url: Address of the service.

    Raises:
        BadInput: The token is too short to be one.
    """

    web: Web
    token: SecretStr
    base_url: str = "https://web-api.tp.entsoe.eu"

    name: ClassVar[str] = "entsoe"
    family: ClassVar[None] = None
    terms: ClassVar[Terms] = Terms(
        attribution="ENTSO-E Transparency Platform",
        licence="terms of use of the platform; prices are not on its list for free re-use",
        fresh=timedelta(minutes=15),
    )

    def __post_init__(self) -> None:
        mask(self.token, "entsoe.token")

    def meaning(self, zone: str) -> str:  # noqa: ARG002 - the seam asks for a zone
        """Tell that nothing changes what its numbers mean."""
        return ""

    def has_intensity(self, zone: str) -> bool:  # noqa: ARG002 - the seam asks for a zone
        """Tell that it has no intensities."""
        return False

    def has_price(self, zone: str) -> bool:
        """Tell whether the zone has a bidding zone that it knows."""
        return codes(zone).entsoe is not None

    async def intensity(self, zone: str, start: datetime, end: datetime) -> Never:
        """Refuse: it has no intensities.

        Raises:
            NoData: Always.
        """
        require_window(start, end)
        raise NoData(self.name, f"has no intensity of zone {zone!r}")

    async def price(self, zone: str, start: datetime, end: datetime) -> Sequence[PriceSeries]:
        """Return day-ahead prices of the zone within a window, all in one currency.

        Raises:
            NoData: It has nothing there.
            ProviderError: It did not answer, or not with an answer.
        """
        window = require_window(start, end)
        area = codes(zone).entsoe
        if area is None:
            raise NoData(self.name, f"has no price of zone {zone!r}")
        parts = list(_parts(*window))
        answers = await asyncio.gather(*(self._document(zone, area, *part) for part in parts))
        told = [(answer, part) for answer, part in zip(answers, parts, strict=True) if answer]
        currency = _currency(answer for answer, _ in told)
        found = prices(
            self.name,
            zone,
            [
                slot
                for answer, part in told
                for slot in slots((s for s in answer.day_ahead if s.currency == currency), *part)
            ],
            window,
            kind=Kind.FORECAST,
            currency=currency,
            source=self.terms.attribution,
        )
        if not found:
            raise NoData(self.name, f"has no price of {zone} in this window")
        return found

    async def _document(
        self, zone: str, area: str, start: datetime, end: datetime
    ) -> Document | None:
        asked = {
            "documentType": "A44",
            "contract_MarketAgreement.type": "A01",
            "in_Domain": area,
            "out_Domain": area,
            "periodStart": f"{start:%Y%m%d%H%M}",
            "periodEnd": f"{end:%Y%m%d%H%M}",
            **(_SDAC_ONLY if area in _TWO_AUCTIONS else {}),
            "securityToken": mask(self.token, "entsoe.token"),
        }
        document = await self.web.get(self.name, f"{self.base_url}/api", asked, read)
        for one in document.series if document else ():
            if one.area != area or one.other_area not in {area, None}:
                raise BadResponse(self.name, f"sent another zone when asked for {zone}")
        return document


def _currency(documents: Iterable[Document]) -> str:
    """Return the one currency of an answer: Poland's zloty stand beside its euro."""
    known = sorted({one.currency for document in documents for one in document.day_ahead})
    return _EURO if _EURO in known or not known else known[0]


def _parts(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Cut a window into questions that begin and end with an hour."""
    start, last = _hour(start), _hour(end)
    end = end if last == end else last + timedelta(hours=1)
    while start < end:
        yield start, min(start + _LONGEST, end)
        start += _LONGEST


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
