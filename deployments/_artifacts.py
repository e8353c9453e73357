"""Decision artifacts: what a person sees on the run in the Prefect UI."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate

from carbon import Decision, Option, Provenance
from deployments._segments import in_words, segments_of
from deployments._settings import Settings
from deployments._shown import best_effort, plain, table_cells
from deployments._trigger import Verdict

_TYPES = {"decision": "markdown", "grid": "image", "options": "table", "refusals": "table"}


async def publish_decision(
    client: PrefectClient, verdict: Verdict, settings: Settings, *, run_id: UUID, title: str
) -> None:
    """Attach a decision to a run: text, tables and picture.

    The picture is also kept on disk under ``CARBON_HOME/decisions``. A fault here is logged and
    never stops a run: the work matters more than its picture.

    Args:
        client: Prefect client.
        verdict: The decision and its outlook.
        settings: Where pictures are kept.
        run_id: The run to attach it to.
        title: What was decided on, for the file's name: a run, or a run and its stage.
    """
    decision = verdict.decision
    with best_effort("The decision"):
        picture = await asyncio.to_thread(_drawn, verdict)
        await asyncio.to_thread(_keep, picture, settings.pictures, title, decision)
        for kind, data, description in _shown(decision, picture):
            await client.create_artifact(
                ArtifactCreate(
                    key=f"{kind}-{decision.workload}",
                    type=_TYPES[kind],
                    description=description,
                    data=data,
                    flow_run_id=run_id,
                )
            )


async def publish_note(client: PrefectClient, decision: Decision, *, run_id: UUID) -> None:
    """Attach a decision to a run that waits, as one text with its tables.

    Prefect shows no artifacts on the page of a run that waits, and its gate publishes the rest,
    picture included, when it wakes and has decided anew. A fault is logged, as above.

    Args:
        client: Prefect client.
        decision: The decision.
        run_id: The run to attach it to.
    """
    with best_effort("The decision"):
        await client.create_artifact(
            ArtifactCreate(
                key=f"decision-{decision.workload}",
                type=_TYPES["decision"],
                description=decision.headline,
                data=note(decision),
                flow_run_id=run_id,
            )
        )


def note(decision: Decision) -> str:
    """Return a decision as one Markdown text: what :func:`explain` says, and the tables."""
    lines = [explain(decision), "", "### What was considered", "", *_table(option_rows(decision))]
    if decision.refusals:
        lines += ["", "### Pools not used, and why", "", *_table(refusal_rows(decision))]
    return "\n".join(lines)


def _table(rows: list[dict[str, str]]) -> Iterator[str]:
    yield _line(rows[0])
    yield _line(["---"] * len(rows[0]))
    for row in table_cells(rows):
        yield _line(row.values())


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(decision: Decision, picture: bytes) -> Iterator[tuple[str, str, str]]:
    """Yield kind, data and description of each artifact."""
    image = "data:image/png;base64," + base64.b64encode(picture).decode()
    yield "decision", explain(decision), decision.headline
    yield "grid", image, decision.headline
    yield "options", json.dumps(table_cells(option_rows(decision))), "What was considered"
    if decision.refusals:
        yield "refusals", json.dumps(table_cells(refusal_rows(decision))), "Pools not used, and why"


def explain(decision: Decision) -> str:
    """Return a decision as Markdown that a person on call can read."""
    chosen, baseline = decision.chosen, decision.baseline
    lines = [
        f"## {plain(decision.headline)}",
        "",
        plain(decision.reason),
        "",
        f"- **Policy** {plain(decision.policy)}",
        f"- **Starts** {utc(chosen.start)}, at the latest {utc(chosen.latest_safe_start)}",
        f"- **Ends** about {utc(chosen.end)}; deadline {utc(decision.deadline)}",
        f"- **Expected** {_numbers(chosen)}",
        f"- **At once at home** {_numbers(baseline)}",
    ]
    if segments := segments_of(chosen):
        lines.append(f"- **Runs in segments** {in_words(segments)}; it pauses between them")
    if decision.clock:
        lines.append(f"- **Clock** {plain(decision.clock)}")
    lines += _list("Limits that gave way", decision.breaches)
    lines += _list("What limits cost", [one.text for one in decision.relaxations])
    lines += _list("Notes on the outlook", decision.degraded)
    lines += _list(
        "Where the numbers come from",
        origins(decision),
    )
    lines += ["", "Energy is declared by the workload or modelled from pool watts and run time."]
    return "\n".join(lines)


def origins(decision: Decision) -> list[str]:
    """Say where the numbers come from, how old they are, and what such ones were worth.

    Zones of which the same is to be said share a line.
    """
    zones: dict[str, list[str]] = {}
    for row in decision.provenance:
        zones.setdefault(_origin(row, decision.decided_at), []).append(row.zone)
    return [f"{', '.join(names)}: {text}" for text, names in zones.items()]


def _origin(row: Provenance, now: datetime) -> str:
    told = [row.kind.value, row.signal.value, row.accounting.value]
    if row.fetched_at is not None:
        minutes = max(0, round((now - row.fetched_at) / timedelta(minutes=1)))
        told.append(f"heard {minutes} min ago")
    if row.trust is None and row.fetched_at is not None:
        told.append("not judged here yet, so used as sent")
    if row.trust is not None:
        told.append(f"such forecasts got {row.trust:.0%} of the possible saving here")
    return f"{row.source} ({', '.join(told)})"


def option_rows(decision: Decision) -> list[dict[str, str]]:
    """Return chosen, baseline and alternatives as rows of one table."""
    options = [
        ("chosen", decision.chosen),
        ("at once at home", decision.baseline),
        *(("considered", option) for option in decision.alternatives),
    ]
    rows = [_row(what, option) for what, option in options]
    segments = [segments_of(option) for _, option in options]
    if any(segments):  # else a column that says nothing
        return [row | {"segments": in_words(of)} for row, of in zip(rows, segments, strict=True)]
    return rows


def refusal_rows(decision: Decision) -> list[dict[str, str]]:
    """Return the pools that were not used, and why."""
    return [
        {"pool": row.pool, "region": row.region, "rule": row.rule.value, "why": row.reason}
        for row in decision.refusals
    ]


def _row(what: str, option: Option) -> dict[str, str]:
    main = option.main
    return {
        "what": what,
        "pool": main.pool,
        "region": main.region,
        "start (UTC)": f"{option.start:%a %d %b %H:%M}",
        "end (UTC)": f"{option.end:%a %d %b %H:%M}",
        "gCO2e": "unknown" if option.g is None else f"{option.g:.1f}",
        "USD": "unknown" if option.usd is None else f"{option.usd:.2f}",
        "gCO2e/kWh": "unknown" if main.g_per_kwh is None else f"{main.g_per_kwh:.0f}",
    }


def utc(moment: datetime) -> str:
    """Return a moment for people."""
    return f"{moment:%a %Y-%m-%d %H:%M} UTC"


def _numbers(option: Option) -> str:
    grams = "emissions unknown" if option.g is None else f"{option.g:.1f} gCO2e"
    cost = "cost unknown" if option.usd is None else f"{option.usd:.2f} USD"
    embodied = sum(placement.embodied_g for placement in option.placements)
    share = f" ({embodied:.1f} of them from making the hardware)" if embodied else ""
    return f"{grams}{share}, {option.kwh:.3f} kWh, {cost} in {option.main.region}"


def _list(title: str, items: tuple[str, ...] | list[str]) -> list[str]:
    return ["", f"### {title}", "", *(f"- {plain(item)}" for item in items)] if items else []


def _drawn(verdict: Verdict) -> bytes:
    # A slow import, which stages, and most commands, do without.
    from deployments._picture import decision_picture  # noqa: PLC0415

    return decision_picture(verdict.decision, verdict.outlook)


def _keep(picture: bytes, folder: Path, title: str, decision: Decision) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    safe = re.sub(r"[^A-Za-z0-9-]+", "-", title)
    (folder / f"{decision.decided_at:%Y%m%dT%H%M}-{safe}.png").write_bytes(picture)
