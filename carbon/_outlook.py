"""The outlook: what is believed about intensity and price of each zone over the next hours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

from pydantic import BaseModel, ConfigDict

from carbon._errors import BadInput
from carbon._series import Accounting, IntensitySeries, Kind, PriceSeries, Signal, require_utc

if TYPE_CHECKING:
    from collections.abc import Mapping


_WINDOW: Final = ("start", "end")


def family_text(series: IntensitySeries) -> str:
    """Say what an intensity means, e.g. ``forecast average lifecycle intensity``."""
    return f"{series.kind} {series.signal} {series.accounting} intensity"


class SignalSource(Protocol):
    """Somewhere that intensity and price come from."""

    @property
    def name(self) -> str:
        """Name for people, e.g. ``replay of my-grid.csv``."""
        ...

    def intensity(self, zone: str, start: datetime, end: datetime) -> IntensitySeries:
        """Return the intensity of a zone from the start of a window for as long as it is known.

        The series covers the start. It may end before the window does (a forecast has a horizon)
        and may begin earlier or end later.

        Raises:
            NoSignal: The source has no usable number for this zone at the start.
        """
        ...

    def price(self, zone: str, start: datetime, end: datetime) -> PriceSeries:
        """Return the electricity price of a zone, as :meth:`intensity` does.

        Raises:
            NoSignal: The source has no usable price for this zone at the start.
        """
        ...


class Provenance(BaseModel):
    """Where the numbers of one zone came from.

    Attributes:
        zone: Grid zone.
        source: Who says so.
        kind: How the numbers came about; ``modelled`` is never a measurement.
        signal: Average or marginal.
        accounting: Lifecycle or direct.
        issued_at: When the source issued them, if it tells.
        fetched_at: When they were last heard from it, if they had to be fetched.
        trust: Part of the possible saving that it has earned in this zone, 0 to 1, if known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    zone: str
    source: str
    kind: Kind
    signal: Signal
    accounting: Accounting
    issued_at: datetime | None = None
    fetched_at: datetime | None = None
    trust: float | None = None


@dataclass(frozen=True)
class Outlook:
    """Intensity and price per zone, all intensities of one family.

    Attributes:
        start: Start of the window that was asked for.
        end: End of the window that was asked for.
        intensity: Zone to its series.
        price: Zone to its series; may lack zones.
        missing: Zone to the reason why it has no intensity.
        degraded: What is worse than it should be, in plain words; empty on a good day.

    Raises:
        BadInput: The window is naive, empty or backwards, a series is another zone's, or
            intensities are unlike: the planner compares whatever stands here.
    """

    start: datetime
    end: datetime
    intensity: Mapping[str, IntensitySeries]
    price: Mapping[str, PriceSeries]
    missing: Mapping[str, str]
    degraded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        start, end = (require_utc(f"outlook.{name}", getattr(self, name)) for name in _WINDOW)
        if end <= start:
            raise BadInput("outlook.end", f"{end} is not after the start", "Give a later end.")
        for name, moment in zip(_WINDOW, (start, end), strict=True):
            object.__setattr__(self, name, moment)
        for table, rows in (("intensity", self.intensity), ("price", self.price)):
            for zone, series in rows.items():
                if series.zone != zone:
                    raise BadInput(
                        f"outlook.{table}.{zone}",
                        f"holds numbers of zone {series.zone!r}",
                        "Put each series under its own zone.",
                    )
        self._one_family()

    def _one_family(self) -> None:
        known = list(self.intensity.values())
        for series in known[1:]:
            if series.family != known[0].family:
                raise BadInput(
                    f"outlook.intensity.{series.zone}",
                    f"is {family_text(series)}, and {known[0].zone} is {family_text(known[0])}: "
                    "unlike signals are never compared",
                    "Build the outlook with carbon.look, which leaves out what is unlike home.",
                )

    @cached_property
    def provenance(self) -> tuple[Provenance, ...]:
        """Where each zone's numbers came from, sorted by zone."""
        return tuple(
            Provenance(
                zone=zone,
                source=series.source,
                kind=series.kind,
                signal=series.signal,
                accounting=series.accounting,
                issued_at=series.issued_at,
                fetched_at=series.fetched_at,
                trust=series.trust,
            )
            for zone, series in sorted(self.intensity.items())
        )
