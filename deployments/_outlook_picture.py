"""The outlook as a picture: one strip per zone, with how sure it is, and the price beside it."""

from __future__ import annotations

import textwrap
from datetime import datetime, timedelta
from typing import Any

import altair as alt
import polars as pl

from carbon import Belief, Outlook
from deployments._picture import framed, plain, png, steps, time_axis
from deployments._zones import Zone, ZoneReport

_WIDE, _NARROW, _HIGH = 560, 200, 84
_WINDOW = timedelta(hours=4)
_STEP = timedelta(hours=1)
_LINE, _SHADE, _PRICE, _GREY = "#1a7f37", "#aceebb", "#0969da", "#57606a"
_MOST_LINES = 5

_Band = list[tuple[datetime, float, float]]


def outlook_picture(told: ZoneReport, outlook: Outlook, known: dict[str, Belief]) -> bytes:
    """Draw what is believed of each zone; all panels have one time axis.

    Args:
        told: The report.
        outlook: What decisions are made from.
        known: What is believed of each zone, for how sure it is.

    Returns:
        A PNG.
    """
    return png(_chart(told, outlook, known))


def _chart(told: ZoneReport, outlook: Outlook, known: dict[str, Belief]) -> Any:  # noqa: ANN401  altair's fluent types do not survive strict checking
    bands = {
        zone: band
        for zone, belief in known.items()
        if zone in outlook.intensity and (band := _band(belief, outlook))
    }
    rows = [_row(zone, outlook, bands.get(zone.zone)) for zone in told.zones]
    notes = [line for note in (*told.advice, *told.notes) for line in textwrap.wrap(note, 110)]
    title = f"Outlook of {told.now:%a %d %b %Y %H:%M} UTC"
    title += "; shaded: 90 % of 4-hour means" if bands else ""
    return framed(alt.vconcat(*rows), title, notes or "")


def _row(zone: Zone, outlook: Outlook, band: _Band | None) -> Any:  # noqa: ANN401  as above
    strips = [_intensity(zone, outlook, band)]
    if zone.price is not None:
        strips.append(_price(zone, outlook))
    return alt.hconcat(*strips)


def _intensity(zone: Zone, outlook: Outlook, band: _Band | None) -> Any:  # noqa: ANN401  as above
    series = outlook.intensity.get(zone.zone)
    if series is None:
        # A strip without numbers keeps its place, so that what is missing is seen to be missing.
        return _words(zone.missing, _WIDE).properties(title=_title(zone))
    times, values = zip(*steps(series, outlook.start, outlook.end), strict=True)
    line = (
        alt.Chart(pl.DataFrame({"time": times, "g": pl.Series(values, dtype=pl.Float64)}))
        .mark_line(interpolate="step-after", strokeWidth=2, color=_LINE)
        .encode(x=_time(outlook), y=alt.Y("g:Q", title="gCO2e/kWh", scale=alt.Scale(zero=True)))
    )
    layers = [_shaded(band, outlook), line] if band else [line]
    return alt.layer(*layers).properties(width=_WIDE, height=_HIGH, title=_title(zone))


def _time(outlook: Outlook) -> alt.X:
    """Return the axis of all panels, however far each one's numbers reach."""
    axis = time_axis()
    ends = [int(moment.timestamp() * 1000) for moment in (outlook.start, outlook.end)]
    return axis.scale(type="utc", domain=ends)


def _words(text: str, width: int) -> Any:  # noqa: ANN401  as above
    """Return a panel with words in the place of numbers."""
    lines = textwrap.wrap(text, width // 6)[:_MOST_LINES]
    return (
        alt.Chart(pl.DataFrame({"text": lines}).with_row_index("line"))
        .mark_text(color=_GREY)
        .encode(text="text:N", y=alt.Y("line:O", axis=None))
        .properties(width=width, height=_HIGH)
    )


def _band(belief: Belief, outlook: Outlook) -> _Band:
    """Return middle, 5 % and 95 % quantile of the 4-hour means ahead."""
    found = []
    moment = outlook.start
    while moment + _WINDOW <= outlook.end:
        if told := belief.interval(moment, moment + _WINDOW):
            found.append((plain(moment + _WINDOW / 2), told[0], told[2]))
        moment += _STEP
    return found


def _shaded(band: _Band, outlook: Outlook) -> Any:  # noqa: ANN401  as above
    times, low, high = zip(*band, strict=True)
    return (
        alt.Chart(pl.DataFrame({"time": times, "low": low, "high": high}))
        .mark_area(color=_SHADE, opacity=0.7)
        .encode(x=_time(outlook), y="low:Q", y2="high:Q")
    )


def _price(zone: Zone, outlook: Outlook) -> Any:  # noqa: ANN401  as above
    price = zone.price
    assert price is not None
    title = f"{price.kind.value} price"
    if not price.shown:
        return _words(price.hidden, _NARROW).properties(title=title)
    rows = list(steps(outlook.price[zone.zone], outlook.start, outlook.end))
    frame = pl.DataFrame(
        {"time": [time for time, _ in rows], "price": [value for _, value in rows]}
    )
    return (
        alt.Chart(frame)
        .mark_line(interpolate="step-after", strokeWidth=1.5, color=_PRICE)
        .encode(x=_time(outlook), y=alt.Y("price:Q", title=price.unit))
        .properties(width=_NARROW, height=_HIGH, title=title)
    )


def _title(zone: Zone) -> str:
    name = f"{zone.zone} (home)" if zone.home else zone.zone
    if zone.intensity is None:
        return f"{name}: nothing is believed"
    told = zone.intensity
    trust = ""
    if zone.trust is not None and zone.trust.proven:
        trust = f", has got {zone.trust.captured:.0%} of the possible saving"
    return f"{name}: {told.kind.value}, {told.signal.value}, {told.accounting.value}{trust}"
