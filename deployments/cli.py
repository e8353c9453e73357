"""The command line, for the person on call and for scripts; every verb takes ``--json``.

::

    carbon plan image-embeddings --finish-by 12h        where and when would it run, and why
    carbon submit image-embeddings --param images=...   ask for a run
    carbon explain FLOW_RUN                             why is this run where it is
    carbon start FLOW_RUN                               start a waiting run at once
    carbon pools                                        what Prefect has, against the fleet file
    carbon pools apply                                  create and update the pools in Prefect
    carbon deployments render                           write prefect.yaml
    carbon regions                                      the catalogue with its sources
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import cyclopts
import httpx
import yaml
from cyclopts import App, Parameter
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from carbon import BadInput, CarbonAwareError, CarbonPolicy, Decision, regions
from deployments._artifacts import option_rows, refusal_rows
from deployments._errors import PrefectUnavailable
from deployments._explain import explain_run
from deployments._jobs import job as find_job
from deployments._jobs import jobs
from deployments._picture import decision_picture
from deployments._render import check_rendered, render
from deployments._settings import Settings
from deployments._step_in import start_run
from deployments._submit import submit as submit_run
from deployments._trigger import Trigger
from work_pools import Outcome, Registration, inspect, load_fleet, register

app = App(
    name="carbon",
    version=lambda: version("carbon-aware-flows"),
    help="Run AI work when and where the grid is clean, and still on time.",
)
pools = App(name="pools", help="Work pools: compare the fleet file with Prefect, or apply it.")
deployments = App(name="deployments", help="prefect.yaml: render it, or check it.")
app.command(pools)
app.command(deployments)

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON for machines.")]
Policy = Annotated[CarbonPolicy | None, Parameter(name="*")]
# Into a pipe or a file a table is written whole: it is read by grep, not fitted to a screen.
_out = Console(width=None if sys.stdout.isatty() else 240)
_DONE = {
    Outcome.FOREIGN: "foreign: not made by `carbon pools apply`, left alone",
    Outcome.CONFLICT: "conflict: has another type, which Prefect cannot change",
}
_FOUND = {
    **_DONE,
    Outcome.CREATED: "not in Prefect yet",
    Outcome.UPDATED: "differs from the fleet file",
    Outcome.UNCHANGED: "as in the fleet file",
}
_T = TypeVar("_T")


@app.command
def plan(
    job: str,
    /,
    policy: Policy = None,
    *,
    data_class: str | None = None,
    picture: Path | None = None,
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
        _write(picture, decision_picture(verdict.decision, verdict.outlook))
    _show_decision(verdict.decision, as_json=json)


@app.command
def submit(
    job: str,
    /,
    policy: Policy = None,
    *,
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
    made = _run(
        submit_run(found, _parameters(param), policy=policy, data_class=data_class, key=key)
    )
    if json:
        _out.print_json(made.model_dump_json())
        return
    run = f"flow run [bold]{escape(made.name)}[/] ({made.flow_run_id})"
    if made.decision is not None:
        _out.print(f"Created {run}")
        _show_decision(made.decision, as_json=False)
    else:
        _out.print(
            f"Already submitted under this key: {run} is {escape(made.state)}. "
            "To run it once more, retry it in the Prefect UI or give another key."
        )


@app.command
def explain(flow_run: str, *, json: Json = False) -> None:
    """Say why a run is where it is: its plan, from the run itself.

    Parameters
    ----------
    flow_run
        Id or name of the flow run, or the address of its page.
    """
    told = _run(explain_run(flow_run))
    if json:
        _out.print_json(told.model_dump_json())
    else:
        _out.print(escape(told.text))


@app.command
def start(flow_run: str, *, json: Json = False) -> None:
    """Start a waiting run at once, whatever its plan says.

    Parameters
    ----------
    flow_run
        Id or name of the flow run, or the address of its page.
    """
    run = _run(start_run(flow_run))
    told = {"flow_run_id": str(run.id), "name": run.name}
    _tell(f"{run.name} starts now.", told, as_json=json)


@pools.default
def show_pools(*, json: Json = False) -> None:
    """Compare the fleet file with the work pools in Prefect. Changes nothing."""

    async def ask() -> Registration:
        async with get_client() as client:
            return await inspect(load_fleet(Settings.load().fleet), client)

    _show_registration(_run(ask()), _FOUND, as_json=json)


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

    _show_registration(_run(ask()), _DONE, as_json=json)


@deployments.command(name="render")
def render_deployments(path: Path = Path("prefect.yaml"), *, json: Json = False) -> None:
    """Write prefect.yaml from the fleet file and the announced jobs."""
    _write(path, _rendered().encode())
    _tell(f"Wrote {path}", {"path": str(path)}, as_json=json)


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
    _tell(told, {"path": str(path)}, as_json=json)


@app.command(name="regions")
def show_regions(*, json: Json = False) -> None:
    """List the cloud regions of the catalogue with their figures and sources."""
    catalogue = regions()
    if json:
        rows = {name: row.model_dump(mode="json") for name, row in catalogue.items()}
        _out.print_json(data=rows)
        return
    _out.print(
        _table(
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
    _out.print("All figures with their sources and dates: carbon regions --json")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake ends in one line and exit code 2, never in a traceback."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except (cyclopts.CycloptsError, CarbonAwareError) as error:
        _fail(error)


def _fail(error: Exception) -> None:
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


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    """Do what asks Prefect; without an address it would quietly ask a server of its own."""
    if get_current_settings().api.url is None:
        work.close()
        raise PrefectUnavailable.unnamed()
    try:
        return asyncio.run(work)
    except httpx.HTTPError as error:
        raise PrefectUnavailable.of(error) from error


def _rendered() -> str:
    known = jobs()
    return render(load_fleet(Settings.load().fleet), known.values())


def _parameters(given: Sequence[str]) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise BadInput(
                "--param", f"{text!r} is not NAME=VALUE", "Write e.g. --param images=/data/img."
            )
        try:
            parameters[name] = json.loads(value)
        except ValueError:
            parameters[name] = value
    return parameters


def _tell(text: str, data: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        _out.print_json(data=dict(data))
    else:
        _out.print(escape(text))


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadInput(
            str(path), f"cannot be written ({error.strerror})", "Name another file."
        ) from error


def _show_decision(decision: Decision, *, as_json: bool) -> None:
    if as_json:
        _out.print_json(decision.model_dump_json())
        return
    _out.print(f"[bold]{escape(decision.headline)}[/]")
    _out.print(escape(decision.reason))
    _out.print(f"Policy: {escape(decision.policy)}")
    for note in decision.breaches:
        _out.print(f"[red]gave way[/] {escape(note)}")
    for note in decision.degraded:
        _out.print(f"[yellow]note[/] {escape(note)}")
    _out.print(_table(option_rows(decision)))
    if decision.refusals:
        _out.print(_table(refusal_rows(decision)))
    for told in decision.provenance:
        _out.print(f"[dim]{escape(told.zone)}: {escape(told.source)} ({told.kind})[/]")


def _table(rows: list[dict[str, str]]) -> Table:
    # What does not fit is folded, never cut: half an id is no id.
    columns = (Column(name, overflow="fold") for name in rows[0])
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(escape(value) for value in row.values()))
    return table


def _show_registration(
    report: Registration, words: Mapping[Outcome, str], *, as_json: bool
) -> None:
    if as_json:
        _out.print_json(report.model_dump_json())
        return
    _out.print(
        _table(
            [
                {"work pool": name, "outcome": words.get(outcome, outcome.value)}
                for name, outcome in report.pools.items()
            ]
        )
    )
    for line in report.drift:
        _out.print(f"[yellow]differs[/] {escape(line)}")
    for name in report.orphans:
        _out.print(
            f"[yellow]orphan[/] {escape(name)}: no longer in the fleet file; "
            "`carbon pools apply --prune` deletes it"
        )
