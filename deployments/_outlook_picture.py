"""The outlook as a picture: one strip per zone, with how sure it is, and the price beside it."""

from __future__ import annotations

import io
import textwrap
from datetime import datetime, timedelta
from typing import Any

import altair as alt
import polars as pl

from carbon import Belief, Outlook
from deployments._picture import plain, steps, time_axis
from deployments._zones import Zone, ZoneReport

_WIDE, _NARROW, _HIGH = 560, 200, 84
_WINDOW = timedelta(hours=4)
_STEP = timedelta(hours=1)
_LINE, _BAND, _PRICE = "#1a7f37", "#aceebb", "#0969da"


def outlook_picture(told: ZoneReport, outlook: Outlook, known: dict[str, Belief]) -> bytes:
    """Draw what is believed of each zone.

    Args:
        told: The report.
        outlook: What decisions are made from.
        known: What is believed of each zone, for how sure it is.

    Returns:
        A PNG.
    """
    rows = [_row(zone, outlook, known.get(zone.zone)) for zone in told.zones]
    notes = [line for note in told.degraded for line in textwrap.wrap(note, 130)]
    chart = (
        alt.vconcat(*rows)
        .properties(
            title=alt.TitleParams(
                f"Outlook of {told.now:%a %d %b %Y %H:%M} UTC; shaded: 90 % of 4-hour means",
                subtitle=notes or "",
                anchor="start",
                subtitleColor="#57606a",
            )
        )
        .configure_view(stroke=None)
        .configure_axis(gridColor="#eaeef2")
    )
    buffer = io.BytesIO()
    chart.save(buffer, format="png", scale_factor=1.5)
    return buffer.getvalue()


def _row(zone: Zone, outlook: Outlook, belief: Belief | None) -> Any:  # noqa: ANN401  altair's fluent types do not survive strict checking
    strips = [_intensity(zone, outlook, belief)]
    if zone.price is not None:
        strips.append(_price(zone, outlook))
    return alt.hconcat(*strips)


def _intensity(zone: Zone, outlook: Outlook, belief: Belief | None) -> Any:  # noqa: ANN401  as above
    series = outlook.intensity.get(zone.zone)
    rows = list(steps(series, outlook.start, outlook.end)) if series else []
    # A strip without numbers keeps its place, so that what is missing is seen to be missing.
    times = [time for time, _ in rows] or [plain(outlook.start), plain(outlook.end)]
    values = [value for _, value in rows] or [None, None]
    line = (
        alt.Chart(pl.DataFrame({"time": times, "g": pl.Series(values, dtype=pl.Float64)}))
        .mark_line(interpolate="step-after", strokeWidth=2, color=_LINE)
        .encode(x=time_axis(), y=alt.Y("g:Q", title="gCO2e/kWh", scale=alt.Scale(zero=True)))
    )
    layers = [line]
    if belief is not None and series is not None and (band := _band(belief, outlook)):
        layers.insert(0, _shaded(band))
    return alt.layer(*layers).properties(width=_WIDE, height=_HIGH, title=_title(zone))


def _band(belief: Belief, outlook: Outlook) -> list[tuple[datetime, float, float]]:
    """Return middle, 5 % and 95 % quantile of the 4-hour means ahead."""
    found = []
    moment = outlook.start
    while moment + _WINDOW <= outlook.end:
        if told := belief.interval(moment, moment + _WINDOW):
            found.append((plain(moment + _WINDOW / 2), told[0], told[2]))
        moment += _STEP
    return found


def _shaded(band: list[tuple[datetime, float, float]]) -> Any:  # noqa: ANN401  as above
    times, low, high = zip(*band, strict=True)
    return (
        alt.Chart(pl.DataFrame({"time": times, "low": low, "high": high}))
        .mark_area(color=_BAND, opacity=0.7)
        .encode(x=time_axis(), y="low:Q", y2="high:Q")
    )


def _price(zone: Zone, outlook: Outlook) -> Any:  # noqa: ANN401  as above
    price = zone.price
    assert price is not None
    title = f"{price.kind.value} price"
    if not price.shown:
        return (
            alt.Chart(
                pl.DataFrame({"text": textwrap.wrap(price.hidden, 26)}).with_row_index("line")
            )
            .mark_text(color="#57606a")
            .encode(text="text:N", y=alt.Y("line:O", axis=None))
            .properties(width=_NARROW, height=_HIGH, title=title)
        )
    rows = list(steps(outlook.price[zone.zone], outlook.start, outlook.end))
    frame = pl.DataFrame(
        {"time": [time for time, _ in rows], "price": [value for _, value in rows]}
    )
    return (
        alt.Chart(frame)
        .mark_line(interpolate="step-after", strokeWidth=1.5, color=_PRICE)
        .encode(x=time_axis(), y=alt.Y("price:Q", title=price.unit))
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
