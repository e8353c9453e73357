"""Decision artifacts: what a person sees on the run in the Prefect UI."""

from __future__ import annotations

import asyncio
import base64
import re
from datetime import datetime
from pathlib import Path

from prefect.artifacts import (
    acreate_image_artifact,
    acreate_markdown_artifact,
    acreate_table_artifact,
)
from prefect.logging import get_logger

from carbon import Decision, Option
from deployments._picture import decision_picture
from deployments._settings import Settings
from deployments._trigger import Verdict


async def publish_decision(verdict: Verdict, settings: Settings, *, run_name: str) -> None:
    """Attach a decision to the run that is in progress: text, table and picture.

    The picture is also kept on disk under ``CARBON_HOME/decisions``. A fault here is logged and
    never stops a run: the work matters more than its picture.

    Args:
        verdict: The decision and its outlook.
        settings: Where pictures are kept.
        run_name: Name of the run, for the file.
    """
    decision = verdict.decision
    name = decision.workload
    try:
        await acreate_markdown_artifact(
            explain(decision), key=f"decision-{name}", description=decision.headline
        )
        await acreate_table_artifact(
            option_rows(decision), key=f"options-{name}", description="What was considered"
        )
        if decision.refusals:
            await acreate_table_artifact(
                refusal_rows(decision),
                key=f"refusals-{name}",
                description="Pools not used, and why",
            )
        picture = await asyncio.to_thread(decision_picture, decision, verdict.outlook)
        await asyncio.to_thread(_keep, picture, settings.pictures, run_name, decision)
        await acreate_image_artifact(
            "data:image/png;base64," + base64.b64encode(picture).decode(),
            key=f"grid-{name}",
            description=decision.headline,
        )
    except Exception:  # noqa: BLE001  see above: any fault
        get_logger("carbon").warning("The decision could not be shown", exc_info=True)


def explain(decision: Decision) -> str:
    """Return a decision as Markdown that a person on call can read."""
    chosen, baseline = decision.chosen, decision.baseline
    lines = [
        f"## {_escape(decision.headline)}",
        "",
        _escape(decision.reason),
        "",
        f"- **Policy** {_escape(decision.policy)}",
        f"- **Starts** {_time(chosen.start)}, at the latest {_time(chosen.latest_safe_start)}",
        f"- **Ends** about {_time(chosen.end)}; deadline {_time(decision.deadline)}",
        f"- **Expected** {_numbers(chosen)}",
        f"- **At once at home** {_numbers(baseline)}",
    ]
    if decision.clock:
        lines.append(f"- **Clock** {_escape(decision.clock)}")
    lines += _list("Limits that gave way", decision.breaches)
    lines += _list("Worse than it should be", decision.degraded)
    lines += _list(
        "Where the numbers come from",
        [
            f"{row.zone}: {row.source} ({row.kind}, {row.signal}, {row.accounting})"
            for row in decision.provenance
        ],
    )
    lines += ["", "Energy is modelled from pool watts and expected run time."]
    return "\n".join(lines)


def option_rows(decision: Decision) -> list[dict[str, str]]:
    """Return chosen, baseline and alternatives as rows of one table."""
    return [
        _row("chosen", decision.chosen),
        _row("at once at home", decision.baseline),
        *(_row("considered", option) for option in decision.alternatives),
    ]


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
        "gCO2e": "unknown" if option.g is None else f"{option.g:.1f}",
        "USD": f"{option.usd:.2f}",
        "gCO2e/kWh": "unknown" if main.g_per_kwh is None else f"{main.g_per_kwh:.0f}",
    }


def _time(moment: datetime) -> str:
    return f"{moment:%a %Y-%m-%d %H:%M} UTC"


def _numbers(option: Option) -> str:
    grams = "emissions unknown" if option.g is None else f"{option.g:.1f} gCO2e"
    return f"{grams}, {option.kwh:.3f} kWh, {option.usd:.2f} USD in {option.main.region}"


def _list(title: str, items: tuple[str, ...] | list[str]) -> list[str]:
    return ["", f"### {title}", "", *(f"- {_escape(item)}" for item in items)] if items else []


def _escape(text: str) -> str:
    """Neutralise what Markdown or HTML would act on: names come from files and requests."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", text).replace("\n", " ")


def _keep(picture: bytes, folder: Path, run_name: str, decision: Decision) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    safe = re.sub(r"[^A-Za-z0-9-]+", "-", run_name)
    (folder / f"{decision.decided_at:%Y%m%dT%H%M}-{safe}.png").write_bytes(picture)
