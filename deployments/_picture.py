"""The decision picture: what the grid looks like, where the run was put, and what bounds it."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import altair as alt
import polars as pl

from carbon import Decision, IntensitySeries, Outlook, PriceSeries
from deployments._segments import spans

_STEP = timedelta(minutes=15)
_WIDTH, _HEIGHT = 760, 300
_LINE = 140
_CHOSEN, _BASELINE, _LIMIT = "#1a7f37", "#6e7781", "#cf222e"


def decision_picture(decision: Decision, outlook: Outlook) -> bytes:
    """Draw a decision.

    Args:
        decision: What was decided.
        outlook: The outlook that it was made from.

    Returns:
        A PNG.
    """
    layers: list[Any] = [_bands(decision), _rules(decision)]
    lines = _lines(decision, outlook)
    if lines is not None:
        layers.insert(1, lines)
    chart = alt.layer(*layers).resolve_scale(color="independent")
    sized = chart.properties(width=_WIDTH, height=_HEIGHT)
    return png(framed(sized, decision.headline, _notes(decision)))


def framed(chart: Any, title: str, notes: list[str] | str) -> Any:  # noqa: ANN401  altair's fluent types do not survive strict checking
    """Return a chart in the look of all pictures, with a title and notes below it."""
    head = alt.TitleParams(title, subtitle=notes, anchor="start", subtitleColor="#57606a")
    whole = chart.properties(title=head).configure_view(stroke=None)
    return whole.configure_axis(gridColor="#eaeef2")


def png(chart: Any) -> bytes:  # noqa: ANN401  as above
    """Return a chart as a PNG."""
    buffer = io.BytesIO()
    chart.save(buffer, format="png", scale_factor=1.5)
    return buffer.getvalue()


def _lines(decision: Decision, outlook: Outlook) -> Any:  # noqa: ANN401  altair's fluent types do not survive strict checking
    """Draw each zone's intensity as a step line over the time that the run has."""
    last = max(decision.deadline, decision.chosen.end)
    rows = [
        {"time": time, "g": value, "zone": _zone_label(decision, zone)}
        for zone, series in outlook.intensity.items()
        for time, value in steps(series, decision.decided_at, last)
    ]
    if not rows:
        return None
    return (
        alt.Chart(pl.DataFrame(rows))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=time_axis(),
            y=alt.Y("g:Q", title="gCO2e/kWh", scale=alt.Scale(zero=True)),
            color=alt.Color("zone:N", title="Grid zone", scale=alt.Scale(scheme="tableau10")),
        )
    )


def steps(
    series: IntensitySeries | PriceSeries, start: datetime, end: datetime
) -> Iterator[tuple[datetime, float | None]]:
    """Yield a series' quarter hours inside a window, ``None`` where it is not known."""
    moment = max(start, series.start)
    while moment < min(end, series.end):
        stop = min(moment + _STEP, series.end)
        yield plain(moment), series.mean(moment, stop) if series.covers(moment, stop) else None
        moment += _STEP


def _bands(decision: Decision) -> Any:  # noqa: ANN401  as above
    """Shade when the chosen run and the baseline take place, and not where they pause."""
    rows = [
        {"from": plain(begin), "to": plain(end), "what": what}
        for what, option in (("baseline", decision.baseline), ("chosen", decision.chosen))
        for begin, end in spans(option)
    ]
    return (
        alt.Chart(pl.DataFrame(rows))
        .mark_rect(opacity=0.22)
        .encode(
            x=time_axis("from"),
            x2="to:T",
            color=alt.Color(
                "what:N",
                title="Run",
                scale=alt.Scale(domain=["chosen", "baseline"], range=[_CHOSEN, _BASELINE]),
            ),
        )
    )


def _rules(decision: Decision) -> Any:  # noqa: ANN401  as above
    """Mark the latest safe start and the deadline."""
    rows = pl.DataFrame(
        [
            {"time": plain(decision.chosen.latest_safe_start), "text": "latest safe start"},
            {"time": plain(decision.deadline), "text": "deadline"},
        ]
    )
    base = alt.Chart(rows).encode(x=time_axis())
    return base.mark_rule(color=_LIMIT, strokeDash=[4, 3]) + base.mark_text(
        align="right", dx=-4, dy=8, baseline="top", color=_LIMIT
    ).encode(text="text:N", y=alt.value(0))


def time_axis(name: str = "time") -> alt.X:
    return alt.X(
        f"{name}:T",
        title="Grid time (UTC)",
        axis=alt.Axis(format="%a %H:%M", labelOverlap=True),
        scale=alt.Scale(type="utc"),
    )


def _zone_label(decision: Decision, zone: str) -> str:
    kind = next((row.kind.value for row in decision.provenance if row.zone == zone), "")
    return f"{zone} ({kind})" if kind else zone


def _notes(decision: Decision) -> list[str]:
    """Return what must be read beside the picture, in lines that fit above it."""
    told = (
        decision.policy,
        decision.reason,
        *decision.breaches,
        *(one.text for one in decision.relaxations),
        *decision.degraded,
        decision.clock,
    )
    return [line for note in told for line in textwrap.wrap(note, _LINE)]


def plain(moment: datetime) -> datetime:
    """Return the moment without its zone: altair would shift aware times to the viewer's zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)
