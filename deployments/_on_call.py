"""Verbs for the person on call: what waits and why, and stepping in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from prefect.client.orchestration import get_client
from prefect.logging import get_logger
from rich.markup import escape

from deployments._ask import ask_prefect
from deployments._jobs import job as find_job
from deployments._jobs import jobs
from deployments._keeper import keep
from deployments._keeper_report import KeeperReport
from deployments._mode import read_mode, set_switch
from deployments._screen import out, show_rows, tell
from deployments._settings import Settings
from deployments._status import Status, read_status
from deployments._step_in import pin_run, release_run
from deployments._trigger import Trigger
from deployments._why import explain_run
from work_pools import load_fleet

if TYPE_CHECKING:
    from deployments._mode import Mode

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON for machines.")]


def add_verbs(app: App) -> None:
    """Give the command line these verbs."""
    for verb in (status, why, release, pin, mode):
        app.command(verb)
    app.command(keep_now, name="keep")


def status(*, json: Json = False) -> None:
    """Say what waits, until when, why, how much slack is left, and how the switch stands."""

    async def ask() -> Status:
        async with get_client() as client:
            return await read_status(client, Settings.load().make_clock(), jobs())

    found = ask_prefect(ask())
    if json:
        out.print_json(found.model_dump_json())
        return
    for switch in found.switches:
        out.print(f"[yellow]{escape(switch)}[/]")
    for rows in (found.rows, found.untaken):
        if rows:
            show_rows([row.cells() for row in rows])
    out.print(escape(found.headline))


def why(flow_run: str, /, *, json: Json = False) -> None:
    """Say why a run is where it is, from the run itself; also long after it has ended.

    Parameters
    ----------
    flow_run
        Id or name of the flow run, or the address of its page.
    """
    told = ask_prefect(explain_run(flow_run))
    if json:
        out.print_json(told.model_dump_json())
    else:
        out.print(escape(told.text))


def release(flow_run: str, /, *, json: Json = False) -> None:
    """Start a waiting run at once, whatever its plan says.

    Parameters
    ----------
    flow_run
        Id or name of the flow run, or the address of its page.
    """
    run = ask_prefect(release_run(flow_run))
    told = {"flow_run_id": str(run.id), "name": run.name}
    tell(f"{run.name} starts now.", told, as_json=json)


def pin(flow_run: str, region: str = "", /, *, json: Json = False) -> None:
    """Say in which region a waiting run's heavy stages run, at the next plan: within five minutes.

    Parameters
    ----------
    flow_run
        Id or name of the flow run, or the address of its page.
    region
        The region, e.g. aws:eu-north-1; without one the trigger chooses again.
    """
    run = ask_prefect(pin_run(flow_run, region or None, load_fleet(Settings.load().fleet)))
    told = {"flow_run_id": str(run.id), "name": run.name, "region": region}
    text = f"{run.name} is pinned no more."
    if region:
        text = f"{run.name} is pinned to {region}"
        policy = run.parameters.get("policy")
        only = policy.get("only_regions") if isinstance(policy, dict) else None
        if only and region not in only:
            text += f", although its own policy names {', '.join(only)}"
        text += "."
    tell(
        f"{text} It is planned so within five minutes, or at once with carbon keep.",
        told,
        as_json=json,
    )


def mode(mode: str = "", /, *, job: str | None = None, json: Json = False) -> None:
    """Set the switch: auto, run_now, shadow or hold_deferrable. Without a word say how it stands.

    It is a Prefect variable, carbon_mode, and may as well be set in the UI. New runs heed it at
    once, waiting ones at the keeper's next pass: within five minutes, or at once with carbon keep.

    Parameters
    ----------
    mode
        auto: plan runs. run_now: start them at once at home, those that wait too. shadow: start
        them at once at home, and record what would have been decided. hold_deferrable: start none
        that can wait, until the switch says something else.
    job
        Only for this job, e.g. image-embeddings; the switch for all wins unless it says auto.
    """
    if job is not None:
        find_job(job)
    if not mode:
        status(json=json)
        return
    wanted = read_mode(mode)
    name = ask_prefect(_set(wanted, job))
    whom = job or "all jobs"
    tell(
        f"{name} is {wanted.value}, for {whom}.",
        {"variable": name, "mode": wanted.value},
        as_json=json,
    )


async def _set(wanted: Mode, job: str | None) -> str:
    async with get_client() as client:
        return await set_switch(client, wanted, job)


def keep_now(*, json: Json = False) -> None:
    """Make one pass of the keeper from here: bring waiting runs in line with what is known now."""
    trigger = Trigger.from_settings()
    asyncio.run(trigger.refresh())

    async def ask() -> KeeperReport:
        async with get_client() as client:
            return await keep(client, trigger, jobs(), get_logger("carbon.keeper"))

    report = ask_prefect(ask())
    if json:
        out.print_json(report.model_dump_json())
        return
    for change in report.changes:
        out.print(f"{escape(change.name)} [bold]{change.what}[/]: {escape(change.why)}")
    for note in report.notes:
        out.print(f"[yellow]note[/] {escape(note)}")
    out.print(escape(report.headline))
