"""The user's own grid data, wide or long, as gapless stretches per zone.

*Wide*: a time column and one column per zone. *Long*: the columns ``zone``, a time, a value, and
maybe ``price`` and ``currency``. The time column is called ``utc``, ``datetime``, ``timestamp`` or
``time``; unless it is ``utc``, each time carries its own offset. An empty cell is a gap, and
nothing is ever filled in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from carbon._cells import TIME_COLUMNS, Bounds, Cells
from carbon._errors import BadInput
from carbon._series import MAX_PLAUSIBLE_G_PER_KWH
from carbon._stretch import Stretch, by_step, join

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ZONE_NAME = re.compile(r"[A-Z][A-Z0-9]*(?:[-_][A-Z0-9]+)*")
_CURRENCY = re.compile(r"[A-Z]{3}")
_INTENSITY = Bounds(lowest=0.0, highest=MAX_PLAUSIBLE_G_PER_KWH)
_PRICE = Bounds()


@dataclass(frozen=True)
class Priced:
    """Prices of a zone per MWh in one currency."""

    currency: str
    stretches: Sequence[Stretch]


def intensities(cells: Cells, column: str) -> dict[str, Sequence[Stretch]]:
    """Read intensities in gCO2e/kWh.

    Args:
        cells: A wide or a long file.
        column: The value column of a long file.

    Raises:
        BadInput: The file has neither shape, or a cell is wrong.
    """
    if cells.find("zone") is None:
        times = _Times(cells, range(len(cells.places)))
        zones = _value_columns(cells)
        _require_zones(cells, {zone: zone for zone in zones})
        return {zone: times.stretches(zone, _INTENSITY) for zone in zones}
    value_column = cells.need(column.lower())
    return {
        zone: _Times(cells, rows).stretches(value_column, _INTENSITY)
        for zone, rows in _rows_by_zone(cells).items()
    }


def prices(cells: Cells, currency: str | None) -> dict[str, Priced]:
    """Read prices per MWh, of either shape.

    Args:
        cells: Wide with columns ``<zone>`` or ``<zone>_<currency>_mwh``, or long with ``price``.
        currency: Three letters for prices that do not name their own.

    Raises:
        BadInput: A price has no currency or more than one, or a cell is wrong.
    """
    if cells.find("zone") is not None:
        return _price_rows(cells, currency)
    times = _Times(cells, range(len(cells.places)))
    names = {column: _price_name(column) for column in _value_columns(cells)}
    _require_zones(cells, {column: zone for column, (zone, _) in names.items()})
    found: dict[str, Priced] = {}
    for column, (zone, named) in names.items():
        if zone in found:
            raise BadInput(cells.file, f"has two prices of zone {zone!r}", "Remove one column.")
        unit = _currency(f"{cells.file}: column {column!r}", named or currency)
        found[zone] = Priced(unit, times.stretches(column, _PRICE))
    return found


def _price_rows(cells: Cells, currency: str | None) -> dict[str, Priced]:
    column, unit_column = cells.need("price"), cells.find("currency")
    found: dict[str, Priced] = {}
    for zone, rows in _rows_by_zone(cells).items():
        units: set[str] = set()
        for row in rows:
            if cells.number(row, column, _PRICE) is None:
                continue
            own = cells.columns[unit_column][row] if unit_column else None
            where = f"{cells.file}: {cells.places[row]}, column {unit_column or column!r}"
            units.add(_currency(where, str(own or currency or "")))
            if len(units) > 1:
                both = " and ".join(sorted(units))
                raise BadInput(where, f"zone {zone} is priced in {both}", "Use one currency.")
        if units:
            found[zone] = Priced(units.pop(), _Times(cells, rows).stretches(column, _PRICE))
    return found


class _Times:
    """The checked times of some rows of a file."""

    def __init__(self, cells: Cells, rows: Sequence[int]) -> None:
        column = cells.need(*TIME_COLUMNS)
        if len(rows) == 1:
            fix = "Give two or more: their distance tells how long a value holds."
            raise cells.bad(rows[0], column, "is the only time of its zone", fix)
        times = [cells.moment(row, column) for row in rows]
        for row, (before, time) in zip(rows[1:], pairwise(times), strict=True):
            if time == before:
                raise cells.bad(row, column, f"repeats {time:%Y-%m-%d %H:%M} UTC", "Remove it.")
            if time < before:
                raise cells.bad(row, column, "is earlier than the row before", "Sort the rows.")
        self._cells, self._rows, self._times = cells, rows, times

    def stretches(self, column: str, bounds: Bounds) -> list[Stretch]:
        """Return a column's values, cut at each gap."""
        values = [self._cells.number(row, column, bounds) for row in self._rows]
        return join(by_step(self._times, values))


def _value_columns(cells: Cells) -> list[str]:
    time_column = cells.need(*TIME_COLUMNS)
    names = [column for column in cells.columns if column != time_column]
    if not names:
        raise BadInput(cells.file, "has no zone column", "Add one column per zone, e.g. 'DE'.")
    return names


def _require_zones(cells: Cells, zones: Mapping[str, str]) -> None:
    for column, zone in zones.items():
        if not _ZONE_NAME.fullmatch(zone):
            raise BadInput(
                f"{cells.file}: column {column!r}",
                "is not named like a grid zone",
                "Name it after its zone in capitals, e.g. 'DE' or 'SE-SE3', or remove it.",
            )


def _rows_by_zone(cells: Cells) -> dict[str, list[int]]:
    column = cells.need("zone")
    rows: dict[str, list[int]] = {}
    for row, zone in enumerate(cells.columns[column]):
        if not isinstance(zone, str) or not zone:
            raise cells.bad(row, column, "names no zone", "Write one, e.g. 'DE'.")
        rows.setdefault(zone, []).append(row)
    return rows


def _price_name(column: str) -> tuple[str, str | None]:
    match = re.fullmatch(r"(.+)_([a-z]{3})_mwh", column)
    return (match[1], match[2].upper()) if match else (column, None)


def _currency(where: str, value: str | None) -> str:
    if not value or not _CURRENCY.fullmatch(value):
        problem = f"{value!r} is no currency" if value else "has no currency"
        raise BadInput(where, problem, "Give its three letters, e.g. currency='EUR'.")
    return value
