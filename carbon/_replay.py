"""A signal source that replays the user's own CSV or Parquet file."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from carbon import _cells, _gridfile
from carbon._errors import BadInput, NoSignal, suggest
from carbon._gridfile import Priced
from carbon._series import (
    Accounting,
    IntensitySeries,
    Kind,
    PriceSeries,
    Signal,
    require_window,
)
from carbon._stretch import Stretch

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class ReplaySource:
    """Intensity and price from a file of the user, checked whole before anything else happens.

    A wide file has a time column (``utc``, ``datetime``, ``timestamp`` or ``time``) and one column
    per zone in gCO2e/kWh. A long file has ``zone``, a time, ``g_per_kwh``, and maybe ``price`` per
    MWh and ``currency``. Empty cells and missing rows are gaps: no window across one is answered.

    Args:
        path: The ``.csv`` or ``.parquet`` file.
        kind: What the numbers are taken for; a replay plays the part of a forecast.
        signal: Average or marginal.
        accounting: Lifecycle or direct.
        shift: Added to each time of the files, e.g. to let an old year happen now.
        prices: A separate file of prices per MWh; wide columns are ``<zone>`` or
            ``<zone>_<currency>_mwh``, e.g. ``DE_eur_mwh``.
        currency: Three letters for prices that do not name their own.
        column: The value column of a long file.

    Raises:
        BadInput: A file is wrong; the message names file, row and column and what to do.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        kind: Kind = Kind.FORECAST,
        signal: Signal = Signal.AVERAGE,
        accounting: Accounting = Accounting.LIFECYCLE,
        shift: timedelta | None = None,
        prices: Path | str | None = None,
        currency: str | None = None,
        column: str = "g_per_kwh",
    ) -> None:
        cells = _cells.read(Path(path))
        self._file = _File(cells, shift or timedelta(0))
        self._price_file = self._file
        self._kind, self._signal, self._accounting = kind, signal, accounting
        self._intensity = _gridfile.intensities(cells, column)
        self._price: dict[str, Priced] = {}
        has_own_prices = cells.find("zone") is not None and cells.find("price") is not None
        if prices is not None:
            if has_own_prices:
                raise BadInput("prices", f"{cells.file} has prices too", "Give one of the two.")
            cells = _cells.read(Path(prices))
            self._price_file = _File(cells, shift or timedelta(0))
        if prices is not None or has_own_prices:
            self._price = _gridfile.prices(cells, currency)

    @property
    def name(self) -> str:
        """Name for people, e.g. ``replay of my-grid.csv``."""
        return self._file.name

    @property
    def zones(self) -> tuple[str, ...]:
        """Zones that the file holds, sorted."""
        return tuple(sorted(self._intensity))

    def intensity(self, zone: str, start: datetime, end: datetime) -> IntensitySeries:
        """Return the intensity of a zone over the intervals that touch the window.

        Raises:
            NoSignal: The file does not hold the zone, or not at the start of the window.
        """
        known = _known(self.name, "zone", zone, self._intensity)
        cut = self._file.cut(zone, self._intensity[known], start, end)
        return IntensitySeries(
            zone,
            cut.starts,
            cut.end,
            cut.values,
            self._file.source,
            kind=self._kind,
            signal=self._signal,
            accounting=self._accounting,
        )

    def price(self, zone: str, start: datetime, end: datetime) -> PriceSeries:
        """Return the electricity price of a zone over the intervals that touch the window.

        Raises:
            NoSignal: The file has no price of the zone, or not at the start of the window.
        """
        priced = self._price[_known(self._price_file.name, "price of zone", zone, self._price)]
        cut = self._price_file.cut(zone, priced.stretches, start, end)
        return PriceSeries(
            zone,
            cut.starts,
            cut.end,
            cut.values,
            self._price_file.source,
            kind=self._kind,
            currency=priced.currency,
        )


def _known(name: str, what: str, zone: str, known: Collection[str]) -> str:
    if zone not in known:
        raise NoSignal(f"{name} has no {what} {zone!r}. {suggest(zone, known)}")
    return zone


@dataclass(frozen=True)
class _File:
    cells: _cells.Cells
    shift: timedelta

    @property
    def name(self) -> str:
        return f"replay of {self.cells.file}"

    @property
    def source(self) -> str:
        shifted = f", shifted by {self.shift}" if self.shift else ""
        return f"{self.name} (sha256 {self.cells.digest}{shifted})"

    def cut(
        self, zone: str, stretches: Sequence[Stretch], start: datetime, end: datetime
    ) -> Stretch:
        """Return the part of the window that the stretch around its start has, shifted."""
        start, end = (moment - self.shift for moment in require_window(start, end))
        for stretch in stretches:
            if stretch.starts[0] <= start < stretch.end:
                first = bisect_right(stretch.starts, start) - 1
                stop = bisect_left(stretch.starts, end)
                edge = stretch.starts[stop] if stop < len(stretch.starts) else stretch.end
                return Stretch(
                    tuple(moment + self.shift for moment in stretch.starts[first:stop]),
                    edge + self.shift,
                    stretch.values[first:stop],
                )
        raise NoSignal(f"{self.name} has zone {zone} {self._extent(stretches, start)}.")

    def _extent(self, stretches: Sequence[Stretch], start: datetime) -> str:
        """Say what the file has around the start of a window that it does not cover."""
        if not stretches:
            return "with empty cells only"
        if start < stretches[0].starts[0]:
            return f"only from {self._text(stretches[0].starts[0])} on"
        held = max(stretch.end for stretch in stretches if stretch.starts[0] <= start)
        later = [stretch.starts[0] for stretch in stretches if stretch.starts[0] > start]
        if not later:
            return f"only until {self._text(held)}"
        return f"with a gap from {self._text(held)} to {self._text(min(later))}"

    def _text(self, moment: datetime) -> str:
        return f"{moment + self.shift:%Y-%m-%d %H:%M} UTC"
