"""What the command line prints: tables that fold and never cut, and JSON for machines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from carbon import Decision
from deployments._artifacts import option_rows, origins, refusal_rows, utc
from deployments._zones import Priced, Zone, ZoneReport
from work_pools import Outcome, Registration

# Into a pipe or a file a table is written whole: it is read by grep, not fitted to a screen.
out = Console(width=None if sys.stdout.isatty() else 240)
_WIDE: int = 140
"""Columns that a table of runs needs."""

_MINUTES: int = 60
_UNKNOWN = (
    "`carbon outlook` says what is missing and why. To plan where no provider can be asked, end "
    'signals.order in the fleet file with "typical-day", a modelled grid.'
)
DONE = {
    Outcome.FOREIGN: "foreign: not made by `carbon pools apply`, left alone",
    Outcome.CONFLICT: "conflict: has another type, which Prefect cannot change",
}
FOUND = {
    **DONE,
    Outcome.CREATED: "not in Prefect yet",
    Outcome.UPDATED: "differs from the fleet file",
    Outcome.UNCHANGED: "as in the fleet file",
}


def tell(text: str, data: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        out.print_json(data=dict(data))
    else:
        out.print(escape(text))


def show_decision(decision: Decision, *, as_json: bool) -> None:
    if as_json:
        out.print_json(decision.model_dump_json())
        return
    out.print(f"[bold]{escape(decision.headline)}[/]")
    out.print(escape(decision.reason))
    out.print(f"Policy: {escape(decision.policy)}")
    for note in decision.breaches:
        out.print(f"[red]gave way[/] {escape(note)}")
    for note in decision.degraded:
        out.print(f"[yellow]note[/] {escape(note)}")
    chosen = decision.chosen
    out.print(
        f"Ends about {utc(chosen.end)}, deadline {utc(decision.deadline)}. "
        f"The latest safe start is {utc(chosen.latest_safe_start)}."
    )
    out.print(table(option_rows(decision)))
    if decision.refusals:
        out.print(table(refusal_rows(decision)))
    for one in decision.relaxations:
        out.print(f"[bold]limit[/] {escape(one.text)}")
    for line in origins(decision):
        out.print(f"[dim]{escape(line)}[/]")
    if decision.baseline.g is None:
        out.print(f"[bold]{escape(_UNKNOWN)}[/]")


def show_rows(rows: list[dict[str, str]]) -> None:
    """Print rows as a table, or one below the other where a table would break their names."""
    if out.width >= _WIDE:
        out.print(table(rows))
        return
    for row in rows:
        (_, name), *rest = row.items()
        out.print(f"[bold]{escape(name)}[/]", soft_wrap=True)
        for title, value in rest:
            out.print(f"  [dim]{escape(title)}[/] {escape(value)}", soft_wrap=True)


def table(rows: list[dict[str, str]]) -> Table:
    # What does not fit is folded, never cut: half an id is no id.
    columns = (Column(name, overflow="fold") for name in rows[0])
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for row in rows:
        table.add_row(*(escape(value) for value in row.values()))
    return table


def show_registration(report: Registration, words: Mapping[Outcome, str], *, as_json: bool) -> None:
    if as_json:
        out.print_json(report.model_dump_json())
        return
    out.print(
        table(
            [
                {"work pool": name, "outcome": words.get(outcome, outcome.value)}
                for name, outcome in report.pools.items()
            ]
        )
    )
    for line in report.drift:
        out.print(f"[yellow]differs[/] {escape(line)}")
    for name in report.orphans:
        out.print(
            f"[yellow]orphan[/] {escape(name)}: no longer in the fleet file; "
            "`carbon pools apply --prune` deletes it"
        )


def show_zones(told: ZoneReport) -> None:
    """Print what is believed of each zone, from whom, what was found, and what to do."""
    priced = any(zone.priced for zone in told.zones)
    out.print(table([_zone_row(zone, priced=priced) for zone in told.zones]))
    for zone in told.zones:
        for line in _zone_notes(zone):
            out.print(line)
    found = {f"{zone.zone} {one.named}" for zone in told.zones for one in zone.findings}
    for note in told.notes:
        if note not in found:
            out.print(f"[yellow]note[/] {escape(note)}")
    for line in _meanings(told):
        out.print(f"[dim]{line}[/]")
    for lesson in told.learned:
        out.print(f"[bold]learned[/] {escape(lesson.text)}")
    for line in told.advice:
        out.print(f"[bold]{escape(line)}[/]")


def _meanings(told: ZoneReport) -> Iterator[str]:
    """Yield what the words in the table mean for a run."""
    if any(_unproven(zone) for zone in told.zones):
        yield (
            "unproven: used as it was sent until it has been judged; only a forecast that was "
            "judged and failed loses its hours."
        )
    if not any(zone.priced for zone in told.zones):
        yield "price: not needed (no pool has billed_energy)."


def _unproven(zone: Zone) -> bool:
    """Tell whether it is a provider's forecast that was not judged yet."""
    if zone.intensity is None or zone.intensity.age is None:
        return False  # what was not fetched, a replay or a model, is never judged
    return zone.trust is None or not zone.trust.proven


def _zone_row(zone: Zone, *, priced: bool) -> dict[str, str]:
    told, price = zone.intensity, zone.price
    if told is None:
        numbers = ["nothing", "", ""]
    else:
        least = f"{told.least_g_per_kwh:.0f} at {told.least_at:%a %H:%M}"
        numbers = [f"{told.now_g_per_kwh:.0f}", least, f"{told.most_g_per_kwh:.0f}"]
    row = {
        "zone": f"{zone.zone} (home)" if zone.home else zone.zone,
        "gCO2e/kWh now": numbers[0],
        "least (UTC)": numbers[1],
        "most": numbers[2],
        "until (UTC)": f"{told.until:%a %H:%M}" if told else "",
        "age": _age(told.age) if told and told.age is not None else "",
        "trust": _earned(zone),
    }
    told_price = _price(price) if price else "unknown" if zone.priced else "not needed"
    return {**row, "price": told_price} if priced else row


def _earned(zone: Zone) -> str:
    """Say what such forecasts have been worth in a zone."""
    trust = zone.trust
    if _unproven(zone):
        return f"unproven ({trust.days} of 14 days)" if trust else "unproven"
    if trust is None or zone.intensity is None:
        return ""
    if not trust.judged:
        return "nothing to save"
    return f"{trust.captured:.0%} of the possible saving" if trust.earned else "failed: mean only"


def _price(price: Priced) -> str:
    return price.hidden if price.now is None else f"{price.now:.0f} {price.unit}"


def _age(age: timedelta) -> str:
    minutes = max(0, round(age / timedelta(minutes=1)))
    return f"{minutes} min" if minutes < _MINUTES else f"{minutes / _MINUTES:.0f} h"


def _zone_notes(zone: Zone) -> Iterator[str]:
    if zone.intensity is not None:
        told = zone.intensity
        meaning = f"{told.kind.value}, {told.signal.value}, {told.accounting.value}"
        yield f"[dim]{escape(zone.zone)}: {escape(told.source)} ({meaning})[/]"
    elif zone.missing:
        yield f"[yellow]{escape(zone.zone)}[/] {escape(zone.missing)}"
    for finding in zone.findings:
        yield f"[yellow]{escape(zone.zone)} {finding.fault.value}[/] {escape(finding.text)}"
    if zone.price is not None:
        until = f"{zone.price.kind.value} until {zone.price.until:%a %d %b %H:%M} UTC"
        yield f"[dim]{escape(zone.zone)} price: {escape(zone.price.source)} ({until})[/]"
    for finding in zone.price_findings:
        name = f"{escape(zone.zone)} price {finding.fault.value}"
        yield f"[yellow]{name}[/] {escape(finding.text)}"
