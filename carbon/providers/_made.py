"""Series out of what a provider sent: cut to the window, joined where they touch, or refused."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from carbon._errors import BadInput, BadResponse
from carbon._series import IntensitySeries, PriceSeries
from carbon._stretch import clip, join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from carbon._series import Accounting, Kind, Signal
    from carbon._stretch import Slot

_S = TypeVar("_S")


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
    series = partial(
        IntensitySeries,
        source=source,
        kind=kind,
        signal=signal,
        accounting=accounting,
        issued_at=issued_at,
    )
    return _made(series, provider, zone, clip(slots, *window))


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
    series = partial(PriceSeries, source=source, kind=kind, currency=currency, issued_at=issued_at)
    return _made(series, provider, zone, clip(slots, *window))


def _made(series: Callable[..., _S], provider: str, zone: str, slots: Iterable[Slot]) -> list[_S]:
    try:
        return [series(zone, one.starts, one.end, one.values) for one in join(slots)]
    except BadInput as error:
        raise BadResponse(provider, f"sent {error.problem} for {zone}") from None
