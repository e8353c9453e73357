"""Fakes for tests of your own code: sources, a provider, and a clock that stands still.

They obey the same contract as the real ones; ``tests/carbon/test_source_contract.py`` holds it.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Never, TypeVar

from carbon._errors import BadInput, NoData, NoSignal, suggest
from carbon._provider import Terms
from carbon._series import (
    Accounting,
    IntensitySeries,
    Kind,
    PriceSeries,
    Signal,
    regular,
    require_utc,
    require_window,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_Any = TypeVar("_Any", IntensitySeries, PriceSeries)


class StaticSource:
    """A source that always says the same.

    Args:
        intensity: Zone to its values in gCO2e/kWh, one per step.
        start: Start of the first step, aware.
        step: Length of a step.
        prices: Zone to its prices per MWh, one per step.
        currency: Currency of the prices.
        kind: How the numbers came about.
        signal: Average or marginal.
        accounting: Lifecycle or direct.
        name: Name for people.
    """

    def __init__(
        self,
        intensity: Mapping[str, Sequence[float]],
        start: datetime,
        step: timedelta,
        *,
        prices: Mapping[str, Sequence[float]] | None = None,
        currency: str = "EUR",
        kind: Kind = Kind.FORECAST,
        signal: Signal = Signal.AVERAGE,
        accounting: Accounting = Accounting.LIFECYCLE,
        name: str = "static source",
    ) -> None:
        self._name = name
        self._intensity: dict[str, IntensitySeries] = {}
        for zone, values in intensity.items():
            starts, end = regular(start, step, len(values))
            self._intensity[zone] = IntensitySeries(
                zone, starts, end, values, name, kind=kind, signal=signal, accounting=accounting
            )
        self._price: dict[str, PriceSeries] = {}
        for zone, values in (prices or {}).items():
            starts, end = regular(start, step, len(values))
            self._price[zone] = PriceSeries(
                zone, starts, end, values, name, kind=kind, currency=currency
            )

    @property
    def name(self) -> str:
        """Name for people."""
        return self._name

    def intensity(self, zone: str, start: datetime, end: datetime) -> IntensitySeries:
        """Return the whole series of a zone.

        Raises:
            NoSignal: There is none, or it does not hold the start of the window.
        """
        return _covering(self._name, self._intensity, zone, start, end)

    def price(self, zone: str, start: datetime, end: datetime) -> PriceSeries:
        """Return the whole price series of a zone.

        Raises:
            NoSignal: There is none, or it does not hold the start of the window.
        """
        return _covering(self._name, self._price, zone, start, end)


def _covering(
    name: str, held: Mapping[str, _Any], zone: str, start: datetime, end: datetime
) -> _Any:
    start, end = require_window(start, end)
    series = held.get(zone)
    if series is None:
        raise NoSignal(f"{name} has no zone {zone!r}. {suggest(zone, held)}")
    if not series.start <= start < series.end:
        raise NoSignal(f"{name} has zone {zone} only from {series.start} to {series.end}.")
    return series


class BrokenSource:
    """A source that raises the given error, whatever it is asked.

    Args:
        error: What to raise.
        name: Name for people.
    """

    def __init__(self, error: Exception, *, name: str = "broken source") -> None:
        self._error = error
        self._name = name
        self.calls = 0

    @property
    def name(self) -> str:
        """Name for people."""
        return self._name

    def intensity(self, zone: str, start: datetime, end: datetime) -> Never:  # noqa: ARG002
        """Raise the error; ``calls`` counts how often."""
        self.calls += 1
        raise self._error

    def price(self, zone: str, start: datetime, end: datetime) -> Never:
        """Raise the error; ``calls`` counts how often."""
        self.intensity(zone, start, end)


class StaticProvider:
    """A signal provider that says what it was given, and as often as it is asked.

    Args:
        series: What it has: intensities and prices of any zones.
        name: Name in settings and reports.
        error: What it raises instead of answering.
        hangs: Whether it never answers.
        terms: Its terms; by default it may be asked again after ten minutes.
    """

    def __init__(
        self,
        series: Sequence[IntensitySeries | PriceSeries] = (),
        *,
        name: str = "static-provider",
        error: Exception | None = None,
        hangs: bool = False,
        terms: Terms | None = None,
    ) -> None:
        self.name = name
        self.terms = terms or Terms("a test", "none", timedelta(minutes=10))
        self.series, self.error, self.hangs = tuple(series), error, hangs
        self.asked: list[str] = []

    @property
    def family(self) -> tuple[Signal, Accounting] | None:
        """What its first intensity means."""
        found = (one.family[:2] for one in self.series if isinstance(one, IntensitySeries))
        return next(found, None)

    def meaning(self, zone: str) -> str:  # noqa: ARG002 - the seam asks for a zone
        """Tell that nothing changes what its numbers mean."""
        return ""

    def has_intensity(self, zone: str) -> bool:
        """Tell that it may know any zone but one that is named like none."""
        return not zone.startswith("XX")

    def has_price(self, zone: str) -> bool:
        """Tell that it may know any zone but one that is named like none."""
        return self.has_intensity(zone)

    async def intensity(
        self, zone: str, start: datetime, end: datetime
    ) -> Sequence[IntensitySeries]:
        """Return the intensities of a zone that touch the window; ``asked`` counts the questions.

        Raises:
            NoData: It has none.
        """
        found = await self._found(zone, start, end)
        return [one for one in found if isinstance(one, IntensitySeries)] or self._nothing(zone)

    async def price(self, zone: str, start: datetime, end: datetime) -> Sequence[PriceSeries]:
        """Return the prices of a zone that touch the window, as :meth:`intensity` does."""
        found = await self._found(zone, start, end)
        return [one for one in found if isinstance(one, PriceSeries)] or self._nothing(zone)

    async def _found(
        self, zone: str, start: datetime, end: datetime
    ) -> list[IntensitySeries | PriceSeries]:
        start, end = require_window(start, end)
        self.asked.append(zone)
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return [
            one.within(start, end)
            for one in self.series
            if one.zone == zone and one.start < end and one.end > start
        ]

    def _nothing(self, zone: str) -> Never:
        raise NoData(self.name, f"has nothing for {zone!r}")


class FakeClock:
    """A clock that stands still until it is told to advance.

    Args:
        now: Grid time and wall time, aware.
    """

    def __init__(self, now: datetime) -> None:
        self._now = require_utc("now", now)

    def now(self) -> datetime:
        """Return the moment that was set, aware UTC."""
        return self._now

    def grid(self, moment: datetime) -> datetime:
        """Return the same moment in UTC."""
        return require_utc("moment", moment)

    def wall(self, moment: datetime) -> datetime:
        """Return the same moment in UTC."""
        return require_utc("moment", moment)

    def describe(self) -> str:
        """Return that time stands still."""
        return "fake: time moves only when told"

    def advance(self, by: timedelta) -> datetime:
        """Let time pass and return the new present.

        Raises:
            BadInput: Time would go backwards.
        """
        if by < timedelta(0):
            raise BadInput("by", f"{by} goes back in time", "Give a positive duration.")
        self._now += by
        return self._now
