"""The decision picture: what the grid looks like, where the run was put, and what bounds it."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import altair as alt
import polars as pl

from carbon import Decision, IntensitySeries, Option, Outlook, PriceSeries, regions
from deployments._segments import segments_of, spans

_STEP = timedelta(minutes=15)
_WIDTH, _HEIGHT, _LANE = 760, 280, 22
_LINE = 140
_CHOSEN, _BASELINE, _LIMIT, _GREY = "#1a7f37", "#57606a", "#cf222e", "#57606a"
_AT_HOME = "at once at home"
_WHAT = ["chosen", _AT_HOME]
_PALETTE = (
    *("#9c755f", "#b07aa1", "#e0aa6e", "#f28e2b", "#4e79a7", "#76b7b2", "#d4a017", "#6a51a3"),
    *("#2f9c95", "#c27ba0", "#7a8ca3", "#cc8963", "#8cb9d8", "#00a2b3", "#a6761d", "#b5b35c"),
    *("#c994c7", "#8c3f8c", "#5778d0", "#86bcb6"),
)
"""Colours of grid zones: none is that of a run, and none that of a limit."""


def zone_colors(zones: Iterable[str]) -> list[str]:
    """Return the colours of zones, in their order: a zone has one colour in all pictures."""
    known = sorted({place.zone for place in regions().values()})
    # A replayed zone that is in no catalogue has the colour that is left for all such ones.
    places = (known.index(zone) if zone in known else -1 for zone in zones)
    return [_PALETTE[place % len(_PALETTE)] for place in places]


def decision_picture(decision: Decision, outlook: Outlook) -> bytes:
    """Draw a decision: the grid with the runs on it, and below it when they are on.

    Args:
        decision: What was decided.
        outlook: The outlook that it was made from.

    Returns:
        A PNG.
    """
    grid = _lines(decision, outlook)
    marks = _words("intensity not known") if grid is None else _on_curves(decision, outlook)
    layers = [*([] if grid is None else [grid]), marks, _rules(decision, told=True)]
    above = alt.layer(*layers).resolve_scale(color="independent")
    below = alt.layer(_bands(decision), _rules(decision, told=False))
    chart = alt.vconcat(
        above.properties(width=_WIDTH, height=_HEIGHT),
        below.properties(width=_WIDTH, height=2 * _LANE),
        spacing=8,
    ).resolve_scale(color="independent")
    return png(framed(chart, decision.headline, _notes(decision)))


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


def _window(decision: Decision) -> tuple[datetime, datetime]:
    """Return what time is drawn: what lies before the decision can only be named."""
    return decision.decided_at, max(decision.deadline, decision.chosen.end, decision.baseline.end)


def _lines(decision: Decision, outlook: Outlook) -> Any:  # noqa: ANN401  altair's fluent types do not survive strict checking
    """Draw each zone's intensity as a step line; ``None`` where none is known."""
    labels = {zone: _zone_label(decision, zone) for zone in outlook.intensity}
    rows = [
        {"time": time, "g": value, "zone": labels[zone]}
        for zone, series in outlook.intensity.items()
        for time, value in _held(series, *_window(decision))
    ]
    if not rows:
        return None
    domain, colors = list(labels.values()), zone_colors(labels)
    return (
        alt.Chart(pl.DataFrame(rows))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=_time(decision, title=None),
            y=_intensity(),
            color=alt.Color(
                "zone:N", title="Grid zone", scale=alt.Scale(domain=domain, range=colors)
            ),
        )
    )


def _on_curves(decision: Decision, outlook: Outlook) -> Any:  # noqa: ANN401  as above
    """Mark both runs on the curve of the zone that they use."""
    rows: list[dict[str, Any]] = []
    for what, option in _runs(decision):
        series = outlook.intensity.get(option.main.zone)
        for part, (begin, end) in enumerate(spans(option) if series else ()):
            assert series is not None
            rows += [
                {"time": time, "g": value, "what": what, "part": f"{what} {part}"}
                for time, value in _held(series, begin, end)
            ]
    return (
        alt.Chart(pl.DataFrame(rows, schema=_POINTS))
        .mark_line(interpolate="step-after", opacity=0.5)
        .encode(
            x=_time(decision, title=None),
            y=_intensity(),
            color=_what(legend=alt.Legend(title="Run, on its zone's curve")),
            # One lies inside the other where both are on one curve.
            strokeWidth=alt.StrokeWidth(
                "what:N", scale=alt.Scale(domain=_WHAT, range=[6, 14]), legend=None
            ),
            detail="part:N",
        )
    )


_POINTS = {"time": pl.Datetime, "g": pl.Float64, "what": pl.String, "part": pl.String}


def _held(
    series: IntensitySeries, start: datetime, end: datetime
) -> Iterator[tuple[datetime, float | None]]:
    """Yield the steps of a window, and where its last one ends."""
    yield from steps(series, start, end)
    last = min(end, series.end)
    before = last - timedelta(seconds=1)
    if before >= start and series.covers(before, last):
        yield plain(last), series.mean(before, last)


def _runs(decision: Decision) -> tuple[tuple[str, Option], ...]:
    return ((_AT_HOME, decision.baseline), ("chosen", decision.chosen))


def _what(**more: Any) -> alt.Color:  # noqa: ANN401  as above
    colors = alt.Scale(domain=_WHAT, range=[_CHOSEN, _BASELINE])
    return alt.Color("what:N", scale=colors, **more)


def _intensity() -> alt.Y:
    return alt.Y("g:Q", title="gCO2e/kWh", scale=alt.Scale(zero=True))


def _words(text: str) -> Any:  # noqa: ANN401  as above
    """Return words in the middle of a plot that has no line."""
    middle = {"x": alt.value(_WIDTH / 2), "y": alt.value(_HEIGHT / 2)}
    rows = alt.Chart(pl.DataFrame({"text": [text]}))
    return rows.mark_text(fontSize=16, color=_GREY).encode(text="text:N", **middle)


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
    """Draw when each run is on, and not where it pauses: one lane each, so that none hides one."""
    first, _ = _window(decision)
    rows = [
        {"from": plain(max(begin, first)), "to": plain(end), "what": what}
        for what, option in _runs(decision)
        for begin, end in spans(option)
        if end > first
    ]
    return (
        alt.Chart(pl.DataFrame(rows))
        .mark_bar(height=_LANE - 8)
        .encode(
            x=_time(decision, "from"),
            x2="to:T",
            y=alt.Y("what:N", title=None, scale=alt.Scale(domain=_WHAT)),
            color=_what(legend=None),
        )
    )


def _rules(decision: Decision, *, told: bool) -> Any:  # noqa: ANN401  as above
    """Mark the latest safe start and the deadline; one that is over stands at the left edge."""
    first, last = _window(decision)
    start = "latest safe first start" if segments_of(decision.chosen) else "latest safe start"
    found = ((start, decision.chosen.latest_safe_start), ("deadline", decision.deadline))
    rows = [
        {
            "time": plain(max(moment, first)),
            "text": name if moment >= first else f"{name}: over since {moment:%a %d %b %H:%M}",
            "left": moment - first < (last - first) / 4,
            "y": 8 + 14 * place,
        }
        for place, (name, moment) in enumerate(found)
    ]
    drawn = [_marked(decision, rows, told=told).mark_rule(color=_LIMIT, strokeDash=[4, 3])]
    for row in rows if told else ():
        # At the right of a rule at the left edge, for there is no room at its left.
        aligned: dict[str, Any] = {"align": "left", "dx": 4} if row["left"] else _LEFT_OF_RULE
        text = _marked(decision, [row], told=told).mark_text(
            baseline="top", color=_LIMIT, **aligned
        )
        drawn.append(text.encode(text="text:N", y=alt.value(row["y"])))
    return alt.layer(*drawn)


_LEFT_OF_RULE = {"align": "right", "dx": -4}


def _marked(decision: Decision, rows: list[dict[str, Any]], *, told: bool) -> Any:  # noqa: ANN401  as above
    # Of two panels with one axis only the lower one says what it is.
    axis = _time(decision, title=None) if told else _time(decision)
    return alt.Chart(pl.DataFrame(rows)).encode(x=axis)


def _time(decision: Decision, name: str = "time", **more: Any) -> alt.X:  # noqa: ANN401  as above
    """Return the axis of both panels."""
    ends = [int(moment.timestamp() * 1000) for moment in _window(decision)]
    axis = time_axis(name).scale(type="utc", domain=ends)
    return axis.title(None) if "title" in more else axis


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
        *(f"Gave way: {breach}" for breach in decision.breaches),
        *(one.text for one in decision.relaxations),
        *decision.degraded,
        decision.clock,
    )
    return [line for note in told for line in textwrap.wrap(note, _LINE)]


def plain(moment: datetime) -> datetime:
    """Return the moment without its zone: altair would shift aware times to the viewer's zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)
