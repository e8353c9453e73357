"""The seam of all signal providers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from carbon._errors import BadInput, BadResponse
from carbon._series import IntensitySeries, PriceSeries
from carbon._stretch import clip, join

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carbon._series import Accounting, Kind, Signal
    from carbon._stretch import Slot


@dataclass(frozen=True)
class Terms:
    """What a provider's terms allow and ask for.

    Attributes:
        attribution: Who must be named beside the numbers.
        licence: Licence of the data, or what is known of the terms.
        fresh: Time within which it is not asked the same question again.
        keep: How long its numbers may be kept; ``None`` for as long as they serve.
    """

    attribution: str
    licence: str
    fresh: timedelta
    keep: timedelta | None = None


class Provider(Protocol):
    """A signal provider on the web.

    Its answers are series without gaps: a gap cuts one in two. All intensities are of one signal
    and one accounting, in gCO2e/kWh; actual, estimated and forecast values are series of their
    own. Intervals that do not touch the window are left out. Nothing is filled in.
    """

    @property
    def name(self) -> str:
        """Name in settings and reports, e.g. ``energy-charts``."""
        ...

    @property
    def terms(self) -> Terms:
        """What its terms allow and ask for."""
        ...

    def has_intensity(self, zone: str) -> bool:
        """Tell without asking whether it knows the intensity of a zone."""
        ...

    def has_price(self, zone: str) -> bool:
        """Tell without asking whether it knows the electricity price of a zone."""
        ...

    async def intensity(
        self, zone: str, start: datetime, end: datetime
    ) -> Sequence[IntensitySeries]:
        """Return what it has of a zone's intensity, past and future, within a window.

        Raises:
            NoData: It has nothing there.
            ProviderError: It did not answer, or not with an answer.
            BadInput: The window is naive, empty or backwards.
        """
        ...

    async def price(self, zone: str, start: datetime, end: datetime) -> Sequence[PriceSeries]:
        """Return what it has of a zone's electricity price within a window, as above."""
        ...


def intensities(
    provider: str,
    zone: str,
    slots: Iterable[Slot],
    window: tuple[datetime, datetime],
    *,
    kind: Kind,
    signal: Signal,
    accounting: Accounting,
    source: str,
    issued_at: datetime | None = None,
) -> list[IntensitySeries]:
    """Make series out of slots; see :class:`Provider` for what they are.

    Raises:
        BadResponse: A value is no intensity, or a time cannot be.
    """
    try:
        return [
            IntensitySeries(
                zone,
                stretch.starts,
                stretch.end,
                stretch.values,
                source,
                kind=kind,
                signal=signal,
                accounting=accounting,
                issued_at=issued_at,
            )
            for stretch in join(clip(slots, *window))
        ]
    except BadInput as error:
        raise BadResponse(provider, f"sent {error.problem} for {zone}") from None


def prices(
    provider: str,
    zone: str,
    slots: Iterable[Slot],
    window: tuple[datetime, datetime],
    *,
    kind: Kind,
    currency: str,
    source: str,
    issued_at: datetime | None = None,
) -> list[PriceSeries]:
    """Make price series out of slots, as :func:`intensities` does."""
    try:
        return [
            PriceSeries(
                zone,
                stretch.starts,
                stretch.end,
                stretch.values,
                source,
                kind=kind,
                currency=currency,
                issued_at=issued_at,
            )
            for stretch in join(clip(slots, *window))
        ]
    except BadInput as error:
        raise BadResponse(provider, f"sent {error.problem} for {zone}") from None
