"""The back-test as a picture: what each policy saves, and where and when it runs the jobs."""

from __future__ import annotations

import textwrap
from typing import Any

import altair as alt
import polars as pl

from carbon._backtest_report import Backtest, Way
from deployments._picture import framed, png, zone_colors

_WIDTH, _BAR, _STRIP = 560, 26, 110
_LINE = 140
_LAST = 23
_ROOM = 140
"""End of the axis in percent: beside the longest bar its text must find room."""
_SAVED, _LOST = "#1a7f37", "#cf222e"
_SHOWN = (Way.AT_ONCE, Way.BOTH, Way.ORACLE)
"""Policies whose usual day is drawn; the others lie in between."""


def backtest_picture(found: Backtest) -> bytes:
    """Draw a back-test.

    Returns:
        A PNG.
    """
    strips = [_grid(found), *(_running(found, way) for way in _shown(found))]
    title = f"{found.jobs:,} jobs, {found.first:%d %b %Y} to {found.end:%d %b %Y}"
    title += ", on a modelled grid" if found.modelled else ""
    chart = alt.vconcat(_savings(found), *strips).resolve_scale(color="independent")
    return png(framed(chart, title, _notes(found)))


def _shown(found: Backtest) -> list[Way]:
    replayed = [row.policy for row in found.results]
    return [way for way in _SHOWN if way in replayed]


def _savings(found: Backtest) -> Any:  # noqa: ANN401  altair's fluent types do not survive strict checking
    rows = [
        {
            "policy": row.policy.value,
            "saved": row.saved_percent or 0.0,
            "text": "unknown: not all jobs ran in known hours"
            if row.saved_percent is None
            else f"{row.saved_percent:.1f} %, {row.mean_delay_hours:.1f} h later, "
            f"{row.misses:,} too late",
        }
        for row in found.results
    ]
    base = alt.Chart(pl.DataFrame(rows)).encode(
        y=alt.Y("policy:N", sort=[row.policy.value for row in found.results], title=None),
        x=alt.X(
            "saved:Q",
            title="saved against at once at home with no limit, % of gCO2e",
            scale=alt.Scale(domainMax=_ROOM),
            axis=alt.Axis(values=list(range(-100, 101, 10))),
        ),
    )
    bars = base.mark_bar().encode(
        color=alt.condition("datum.saved >= 0", alt.value(_SAVED), alt.value(_LOST))
    )
    told = base.mark_text(align="left", dx=4).encode(text="text:N", x=alt.X("end:Q"))
    told = told.transform_calculate(end="max(datum.saved, 0)")
    return (bars + told).properties(width=_WIDTH, height=_BAR * len(rows))


def _grid(found: Backtest) -> Any:  # noqa: ANN401  as above
    rows = [
        {"hour": hour, "g": row.g_per_kwh, "zone": row.zone}
        for row in found.hours
        for hour in _edges(row.hour)
    ]
    return (
        alt.Chart(pl.DataFrame(rows))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=_hour(),
            y=alt.Y("g:Q", title="gCO2e/kWh", scale=alt.Scale(zero=True)),
            color=_zone(found),
        )
        .properties(width=_WIDTH, height=_STRIP, title="The grid's usual day, as it came")
    )


def _running(found: Backtest, way: Way) -> Any:  # noqa: ANN401  as above
    rows = [
        {"hour": hour, "jobs": row.running[way], "zone": row.zone}
        for row in found.hours
        for hour in _edges(row.hour)
    ]
    return (
        alt.Chart(pl.DataFrame(rows))
        .mark_area(interpolate="step-after")
        .encode(
            x=_hour(),
            y=alt.Y("jobs:Q", title=["jobs at a time,", _mean(found)], stack=True),
            color=_zone(found),
        )
        .properties(width=_WIDTH, height=_STRIP, title=f"{way.value}: where and when jobs ran")
    )


def _mean(found: Backtest) -> str:
    return f"mean of {found.days:,} days" if found.days > 1 else "on one day"


def _edges(hour: int) -> tuple[int, ...]:
    """Return where a step is drawn: the last one also where it ends."""
    return (hour, hour + 1) if hour == _LAST else (hour,)


def _hour() -> alt.X:
    return alt.X(
        "hour:Q",
        title="Hour of the day (UTC)",
        scale=alt.Scale(domain=[0, 24]),
        axis=alt.Axis(values=list(range(0, 25, 3))),
    )


def _zone(found: Backtest) -> alt.Color:
    zones = list(dict.fromkeys(row.zone for row in found.hours))
    return alt.Color(
        "zone:N", title="Grid zone", scale=alt.Scale(domain=zones, range=zone_colors(zones))
    )


def _notes(found: Backtest) -> list[str]:
    """Return what must be read beside the picture, in lines that fit above it."""
    told = (found.crowded, f"Grid: {found.grid}", f"Decided by: {found.forecasts}", *found.notes)
    return [line for note in told for line in textwrap.wrap(note, _LINE)]
