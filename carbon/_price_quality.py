"""The quality gate of prices: what a provider sent is looked at before it is believed.

::

    checked = inspect_price(series, now=now, asked=end)
    checked.series       # without the prices that are not believed; None if nothing is left
    checked.findings     # each with a name and a sentence; none has a price in it

Tomorrow's prices are known after noon. Before that ENTSO-E has sent zeros for them (entsoe-py issue
288), others today's prices once more (hass-entso-e issue 220) or the last one for a whole day
(dynamic_grid_prices issue 1). Real prices are zero or negative for hours, leap by thousands, are
the same in neighbouring zones and do not age, so none of these is a fault. How often each rule
catches a fault, and how often it cries wolf, is measured by ``benchmarks/quality.py``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._findings import Fault, Finding, Inspected
from carbon._looked import Looked, left, short
from carbon._series import PriceSeries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    _Looked = Looked[PriceSeries]

_ZEROS: Final = timedelta(hours=12)
"""Zeros until the end of a series for so long are no prices. The longest run in eight real years of
hours is 4 h; Spain's spring has days of 10 h, but a day's prices end in the evening."""

_FROZEN: Final = timedelta(hours=12)
_FROZEN_ZERO: Final = timedelta(hours=30)
"""The same price to the cent lasts 6 h at most in eight real years; zero may last a windy day."""

_LIMITS: Final[Mapping[str, tuple[float, float]]] = {
    "EUR": (-2_000.0, 15_000.0),
    **dict.fromkeys(("INR", "CZK", "RUB", "PHP", "THB", "TWD"), (-1e6, 1e6)),
    **dict.fromkeys(("JPY", "HUF", "KRW", "CLP", "ISK", "RSD"), (-3e7, 3e7)),
}
"""What a market can have per MWh. The coupled European auction goes from -500 to 4,000 EUR, and has
been up to 5,000; Australia's cap is 20,300 AUD."""

_STRONG: Final = frozenset(
    {"USD", "GBP", "CHF", "AUD", "NZD", "CAD", "SGD", "DKK", "SEK", "NOK", "PLN", "RON", "BGN"}
)
_STRONG_LIMITS: Final = (-30_000.0, 60_000.0)
_ANY_LIMITS: Final = (-1e9, 1e9)
"""Of a currency that is not named here nothing is known."""

_MOST_OUT: Final = 0.25
"""From this part beyond the limits on it is the unit, and the rest is no better."""

_DAY: Final = timedelta(days=1)


def inspect_price(series: PriceSeries, *, now: datetime, asked: datetime) -> Inspected[PriceSeries]:
    """Look at prices before they are believed.

    Args:
        series: What a provider sent, or what was stored of it.
        now: The present moment.
        asked: Until when it was asked for.

    Returns:
        What is believed of it, and what was found.
    """
    looked = Looked(series)
    findings = [finding for rule in _RULES if (finding := rule(looked))]
    believed = looked.believed()
    if not any(finding.rejects for finding in findings):
        # That tomorrow is not known yet leaves today's prices as good as they are.
        findings += left(believed, now, min(asked, believed.known_until))
    if any(finding.rejects for finding in findings):
        return Inspected(None, tuple(findings))
    findings += short(believed.known_until, asked)
    return Inspected(believed, tuple(findings))


def _zeros(looked: _Looked) -> Finding | None:
    """Zeros until the end are what is not known yet; a later price would prove them."""
    zero = looked.values == 0
    other = np.flatnonzero(~zero & np.isfinite(looked.values))
    zero[: other[-1] + 1 if len(other) else 0] = False
    if looked.hours[zero].sum() < _ZEROS / timedelta(hours=1):
        return None
    return looked.refuse(zero, Fault.ZEROS, "zero until the end, so not known yet")


def _frozen(looked: _Looked) -> Finding | None:
    """The same price for half a day and longer: a feed that stands still."""
    same = np.zeros_like(looked.refused)
    equal = np.diff(looked.values) == 0
    for first, stop in looked.runs(equal):
        limit = _FROZEN_ZERO if looked.values[first] == 0 else _FROZEN
        if looked.hours[first : stop + 1].sum() >= limit / timedelta(hours=1):
            same[first : stop + 1] = True
    return looked.refuse(same & ~looked.refused, Fault.FROZEN, "the same price all along")


def _out_of_range(looked: _Looked) -> Finding | None:
    """No market has it: another unit, or no price at all."""
    currency = looked.series.currency
    least, most = _LIMITS.get(currency, _STRONG_LIMITS if currency in _STRONG else _ANY_LIMITS)
    out = (looked.values < least) | (looked.values > most)
    words = f"beyond {least:g} to {most:g} {looked.series.unit}, which no market has"
    finding = looked.refuse(out, Fault.OUT_OF_RANGE, words)
    known = looked.hours[np.isfinite(looked.values)].sum()
    rejects = bool(looked.hours[out].sum() >= _MOST_OUT * known)
    return finding and finding.model_copy(update={"rejects": rejects})


def _copied_day(looked: _Looked) -> Finding | None:
    """Tomorrow is today once more.

    Prices come by the day: where all that can be compared is a copy, so is the rest of its day,
    whose counterpart is over and was not sent any more.
    """
    copied, before = looked.copied(), looked.day_before()
    if before is not None and copied.any():
        compared = np.isfinite(before) & np.isfinite(looked.values)
        if np.array_equal(copied, compared):
            end = looked.series.edges[np.flatnonzero(copied)[-1] + 1]
            day = looked.series.edges[:-1] >= end - _DAY.total_seconds()
            copied |= day & (looked.series.edges[1:] <= end) & np.isfinite(looked.values)
    words = "the day before once more, digit by digit"
    return looked.refuse(copied & ~looked.refused, Fault.COPIED_DAY, words)


_RULES: Final[Sequence[Callable[[_Looked], Finding | None]]] = (
    _zeros,
    _frozen,
    _out_of_range,
    _copied_day,
)
