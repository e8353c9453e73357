"""The seam of all signal providers on the web; what speaks it stands in :mod:`carbon.providers`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Final, Never, Protocol

from carbon._errors import NoData
from carbon._series import Accounting, IntensitySeries, PriceSeries, Signal, require_window

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Terms:
    """What a provider's terms allow and ask for.

    Attributes:
        attribution: Who must be named beside the numbers.
        licence: Licence of the data, or what is known of the terms.
        fresh: Time within which it is not asked the same question again.
        keep: How long its numbers may be kept; ``None`` for as long as they serve.
        prices_shown: Whether its prices may be displayed. Otherwise decisions are made with them,
            and reports say who gave them, but neither table, picture nor JSON has the numbers.
    """

    attribution: str
    licence: str
    fresh: timedelta
    keep: timedelta | None = None
    prices_shown: bool = True


_FOR: Final = ", for "


def of_whole(source: str, whole: str) -> str:
    """Return the source of numbers that speak of a whole of which a zone is a part.

    Several zones may share such numbers: the quality gate takes one body for two zones for another
    zone's otherwise. The outlook store keeps the source alone, so this is where it is said.

    Args:
        source: Who says so.
        whole: What the numbers speak of, e.g. ``all of Sweden``; the same for all of its zones.
    """
    return f"{source}{_FOR}{whole}"


def whole_of(source: str) -> str | None:
    """Return the whole that a source speaks of; ``None`` where it speaks of the zone itself."""
    _, said, whole = source.rpartition(_FOR)
    return whole if said else None


class Provider(Protocol):
    """A signal provider on the web.

    Its answers are series without gaps: a gap cuts one in two. All intensities are of one signal
    and one accounting, in gCO2e/kWh; actual, estimated and forecast values are series of their
    own. Intervals that do not touch the window are left out. Nothing is filled in. Numbers that
    several zones share, as parts of a whole, say so in their source: :func:`of_whole`.
    """

    @property
    def name(self) -> str:
        """Name in settings and reports, e.g. ``energy-charts``."""
        ...

    @property
    def terms(self) -> Terms:
        """What its terms allow and ask for."""
        ...

    @property
    def family(self) -> tuple[Signal, Accounting] | None:
        """What its intensities mean; ``None`` where it has none."""
        ...

    def meaning(self, zone: str) -> str:
        """Say what of its settings decides what its numbers of a zone mean; empty by default.

        Numbers of another meaning are kept apart, and so is what was learned from them.
        """
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


def kept_as(provider: Provider, zone: str) -> str:
    """Return the name under which a provider's numbers of a zone are kept, e.g. ``a (direct)``."""
    meaning = provider.meaning(zone)
    return f"{provider.name} ({meaning})" if meaning else provider.name


def provider_of(kept: str) -> str:
    """Return whose numbers are kept under a name."""
    return kept.partition(" (")[0]


class NoPrices:
    """What a provider without prices says of them."""

    name: ClassVar[str]

    def has_price(self, zone: str) -> bool:  # noqa: ARG002 - the seam asks for a zone
        """Tell that it has none."""
        return False

    async def price(self, zone: str, start: datetime, end: datetime) -> Never:
        """Refuse: it has none.

        Raises:
            NoData: Always.
            BadInput: The window is naive, empty or backwards.
        """
        require_window(start, end)
        raise NoData(self.name, f"has no price of zone {zone!r}")
