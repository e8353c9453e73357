"""Series out of what a provider sent: cut to the window, joined where they touch, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbon._errors import BadInput, BadResponse
from carbon._series import IntensitySeries, PriceSeries
from carbon._stretch import clip, join

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from carbon._series import Accounting, Kind, Signal
    from carbon._stretch import Slot


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
    """Make series out of slots; see :class:`carbon._provider.Provider`.

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
