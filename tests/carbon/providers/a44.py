"""Price documents of ENTSO-E, as small as a test wants them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FI = "10YFI-1--------U"
STEPS = {
    "PT15M": timedelta(minutes=15),
    "PT30M": timedelta(minutes=30),
    "PT60M": timedelta(hours=1),
    "PT1H": timedelta(hours=1),
}
CREATED = datetime(2026, 5, 31, 11, 2, 3, tzinfo=UTC)


@dataclass(frozen=True)
class Series:
    """One series with one period.

    Attributes:
        start: Start of the period.
        end: Its end.
        points: Price by position; ``None`` for a point without a price.
        resolution: Length of a position.
        curve: Curve type; ``None`` leaves it out.
        sequence: Which auction; ``None`` leaves it out.
        more: Other elements by name; ``None`` leaves one out.
    """

    start: datetime
    end: datetime
    points: Mapping[int, float | str | None]
    resolution: str = "PT60M"
    curve: str | None = "A03"
    sequence: int | None = None
    more: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def xml(self) -> str:
        """The element."""
        elements = {
            "mRID": "1",
            "in_Domain.mRID": FI,
            "out_Domain.mRID": FI,
            "contract_MarketAgreement.type": "A01",
            "currency_Unit.name": "EUR",
            "price_Measure_Unit.name": "MWH",
            "curveType": self.curve,
            "classificationSequence_AttributeInstanceComponent.position": self.sequence,
            **self.more,
        }
        texts = "".join(f"<{k}>{v}</{k}>" for k, v in elements.items() if v is not None)
        points = "".join(
            f"<Point><position>{position}</position>"
            + ("" if price is None else f"<price.amount>{price}</price.amount>")
            + "</Point>"
            for position, price in self.points.items()
        )
        return (
            f"<TimeSeries>{texts}<Period><timeInterval><start>{minute(self.start)}</start>"
            f"<end>{minute(self.end)}</end></timeInterval>"
            f"<resolution>{self.resolution}</resolution>{points}</Period></TimeSeries>"
        )


def flat(start: datetime, end: datetime, level: float, resolution: str = "PT60M") -> Series:
    """Return a series that says the same all the time, at each position."""
    count = (end - start) // STEPS[resolution]
    return Series(start, end, dict.fromkeys(range(1, count + 1), level), resolution)


def document(*series: Series, kind: str = "A44") -> str:
    """Return the document that holds these series."""
    told = "<createdDateTime>2026-05-31T11:00:00Z</createdDateTime>"
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<Publication_MarketDocument '
        'xmlns="urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3">'
        f"<mRID>1</mRID><type>{kind}</type>{told}"
        + "".join(one.xml for one in series)
        + "</Publication_MarketDocument>"
    )


def acknowledgement(*reasons: str) -> str:
    """Return a refusal for these reasons, each the inside of a ``Reason``."""
    return (
        '<Acknowledgement_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-1:'
        'acknowledgementdocument:7:0"><mRID>1</mRID>'
        + "".join(f"<Reason>{reason}</Reason>" for reason in reasons)
        + "</Acknowledgement_MarketDocument>"
    )


def minute(moment: datetime) -> str:
    """Write a moment as the documents do."""
    return f"{moment:%Y-%m-%dT%H:%MZ}"
