"""The command line, for the person on call and for scripts; every verb takes ``--json``.

::

    carbon plan image-embeddings --finish-by 12h        where and when would it run, and why
    carbon submit image-embeddings --param images=...   ask for a run
    carbon status                                       what waits, until when, and why
    carbon why FLOW_RUN                                 why is this run where it is
    carbon release FLOW_RUN                             start a waiting run at once
    carbon pin FLOW_RUN REGION                          say in which region it runs
    carbon mode run_now                                 the switch for all runs
    carbon keep                                         one pass of the keeper, from here
    carbon pools                                        what Prefect has, against the fleet file
    carbon pools apply                                  create and update the pools in Prefect
    carbon deployments render                           write prefect.yaml
    carbon regions                                      the catalogue with its sources
    carbon outlook                                      what is believed of the grid, and why
    carbon backtest                                     what policies would have saved
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import cyclopts
import yaml
from cyclopts import App, Parameter, validators
from prefect.client.orchestration import get_client
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from carbon import BadInput, CarbonAwareError, CarbonPolicy, regions
from deployments._advice import advice, asked_again, learned, nobody_asked, standings
from deployments._arguments import Picture, Whole, parameters, write
from deployments._ask import ask_prefect
from deployments._backtest import backtest
from deployments._jobs import job as find_job
from deployments._jobs import jobs
from deployments._on_call import Json, add_verbs
from deployments._render import check_rendered, render
from deployments._screen import (
    DONE,
    FOUND,
    out,
    show_decision,
    show_registration,
    show_zones,
    table,
    tell,
)
from deployments._settings import Settings
from deployments._submit import submit as submit_run
from deployments._trigger import Trigger
from deployments._zones import beliefs, price_findings, report
from work_pools import Registration, inspect, load_fleet, register

app = App(
    name="carbon",
    version=lambda: version("carbon-aware-flows"),
    help="Run AI work when and where the grid is clean, and still on time.",
)
pools = App(name="pools", help="Work pools: compare the fleet file with Prefect, or apply it.")
deployments = App(name="deployments", help="prefect.yaml: render it, or check it.")
app.command(pools)
app.command(deployments)
app.command(backtest)
add_verbs(app)

Policy = Annotated[CarbonPolicy | None, Parameter(name="*", allow_leading_hyphen=True)]


@app.command
def plan(
    job: str,
    /,
    *,
    policy: Policy = None,
    data_class: str | None = None,
    picture: Picture = None,
    json: Json = False,
) -> None:
    """Say where and when a job would run now, and why. Creates nothing, needs no Prefect server.

    Parameters
    ----------
    job
        Name of the job, e.g. image-embeddings.
    data_class
        Class of this run's data, on top of the job's own; see [residency] in the fleet file.
    picture
        Also draw the decision to this PNG.
    """
    found = find_job(job)
    trigger = Trigger.from_settings()
    asyncio.run(trigger.refresh())
    chosen = found.policy_for(policy)
    deadline = chosen.deadline(trigger.clock.now())
    verdict = trigger.decide(found.workload, chosen, deadline, data_class=data_class)
    if picture is not None:
        from deployments._picture import decision_picture  # noqa: PLC0415  slow import

        write(picture, decision_picture(verdict.decision, verdict.outlook))
    show_decision(verdict.decision, as_json=json)


@app.command
def submit(
    job: str,
    /,
    *,
    policy: Policy = None,
    param: Sequence[str] = (),
    data_class: str | None = None,
    key: str | None = None,
    json: Json = False,
) -> None:
    """Ask for a run: it is planned now and created in Prefect at its time.

    Parameters
    ----------
    job
        Name of the job, e.g. image-embeddings.
    param
        A parameter of the flow as NAME=VALUE; the value may be JSON. May be given again.
    data_class
        Class of this run's data, on top of the job's own.
    key
        Names the logical run: the same key never makes a second one.
    """
    found = find_job(job)
    made = ask_prefect(
        submit_run(found, parameters(param), policy=policy, data_class=data_class, key=key)
    )
    if json:
        out.print_json(made.model_dump_json())
        return
    run = f"flow run [bold]{escape(made.name)}[/] ({made.flow_run_id})"
    if made.decision is not None:
        out.print(f"Created {run}")
        show_decision(made.decision, as_json=False)
    else:
        out.print(
            f"Already submitted under this key: {run} is {escape(made.state)}. "
            "To run it once more, retry it in the Prefect UI or give another key."
        )


@app.command
def outlook(
    *,
    hours: Annotated[int, Whole, Parameter(validator=validators.Number(gte=1, lte=72))] = 24,
    learn: Annotated[int, Whole, Parameter(validator=validators.Number(gte=1, lte=60))]
    | None = None,
    refresh: Annotated[bool, Parameter(negative="")] = False,
    picture: Picture = None,
    json: Json = False,
) -> None:
    """Say what is believed of each grid zone, from whom, how old and how far to be trusted.

    Parameters
    ----------
    hours
        How far ahead, in hours, 1 to 72.
    learn
        Ask the providers once for so many days of the past, 1 to 60, so that a statistical forecast
        can stand in from today on. Providers' own forecasts are judged as they come.
    refresh
        Ask all providers again now, but for those that asked to be left alone.
    picture
        Also draw it to this PNG.
    """
    trigger = Trigger.from_settings()
    history = timedelta(days=learn) if learn else None
    feed = asyncio.run(trigger.refresh(history=history, anew=refresh))
    now = trigger.clock.now()
    sources = feed.sources(trigger.zones, now) if feed else ()
    believed = trigger.outlook(now, now + timedelta(hours=hours), heard=sources)
    known = beliefs(sources, trigger.zones, believed)
    standing = standings(sources, trigger.zones)
    nobody = nobody_asked(trigger.settings)
    told = report(
        believed,
        trigger.zones[0],
        known,
        price_findings(sources, trigger.priced, believed),
        priced=trigger.priced,
        again=asked_again(standing, now),
        advice=advice(trigger, believed, standing, anew=bool(learn or refresh)),
        learned=learned(standing, now) if learn and not nobody else (),
    )
    if picture is not None:
        from deployments._outlook_picture import outlook_picture  # noqa: PLC0415  slow import

        write(picture, outlook_picture(told, believed, known))
    if feed is not None:
        feed.close()
    if json:
        out.print_json(told.model_dump_json())
        return
    show_zones(told)


@pools.default
def show_pools(*, json: Json = False) -> None:
    """Compare the fleet file with the work pools in Prefect. Changes nothing."""

    async def ask() -> Registration:
        async with get_client() as client:
            return await inspect(load_fleet(Settings.load().fleet), client)

    show_registration(ask_prefect(ask()), FOUND, as_json=json)


@pools.command
def apply(*, prune: bool = False, json: Json = False) -> None:
    """Create and update the work pools of the fleet file in Prefect.

    Parameters
    ----------
    prune
        Also delete pools that an earlier apply made and the file no longer names.
    """

    async def ask() -> Registration:
        async with get_client() as client:
            return await register(load_fleet(Settings.load().fleet), client, prune=prune)

    show_registration(ask_prefect(ask()), DONE, as_json=json)


@deployments.command(name="render")
def render_deployments(path: Path = Path("prefect.yaml"), *, json: Json = False) -> None:
    """Write prefect.yaml from the fleet file and the announced jobs."""
    write(path, _rendered().encode())
    tell(f"Wrote {path}", {"path": str(path)}, as_json=json)


@deployments.command(name="check")
def check_deployments(path: Path = Path("prefect.yaml"), *, json: Json = False) -> None:
    """Refuse a prefect.yaml that differs from the rendering or breaks residency."""
    fix = "Run `carbon deployments render`."
    if not path.is_file():
        raise BadInput(str(path), "there is no such file", fix)
    try:
        text = path.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        line = " ".join(str(error).split())
        raise BadInput(str(path), f"is no YAML ({line})", fix) from error
    check_rendered(load_fleet(Settings.load().fleet), jobs(), document)
    if text != _rendered():
        raise BadInput(str(path), "differs from the fleet file and jobs", fix)
    told = f"{path} is what the fleet file and the jobs say."
    tell(told, {"path": str(path)}, as_json=json)


@app.command(name="regions")
def show_regions(*, json: Json = False) -> None:
    """List the cloud regions of the catalogue with their figures and sources."""
    catalogue = regions()
    if json:
        rows = {name: row.model_dump(mode="json") for name, row in catalogue.items()}
        out.print_json(data=rows)
        return
    out.print(
        table(
            [
                {
                    "region": name,
                    "place": row.place,
                    "grid zone": row.zone,
                    "law": row.jurisdiction,
                    "PUE": f"{row.pue.value:.2f}{' (modelled)' if row.pue.modelled else ''}",
                }
                for name, row in sorted(catalogue.items())
            ]
        )
    )
    out.print("All figures with their sources and dates: carbon regions --json")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake ends in one line and exit code 2, never in a traceback."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except (cyclopts.CycloptsError, CarbonAwareError) as error:
        _fail(error)


def _fail(error: Exception) -> None:
    if isinstance(error, cyclopts.UnusedCliTokensError):
        left = " ".join(error.unused_tokens or ())
        error = BadInput(left, "is more than this command takes", "See its --help.")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CarbonAwareError):
            break
        if isinstance(cause, ValidationError):
            cause = BadInput.from_validation("", cause)
            break
        cause = cause.__cause__ or cause.__context__
    Console(stderr=True, soft_wrap=True).print(
        f"[bold red]error:[/] {escape(str(cause or error))}", highlight=False
    )
    sys.exit(2)


def _rendered() -> str:
    known = jobs()
    return render(load_fleet(Settings.load().fleet), known.values())
