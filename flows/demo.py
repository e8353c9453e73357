"""The demo: a real Prefect server, real workers, and four runs that the trigger decides on.

``make demo`` starts it. It draws a small shop, or takes your pictures (``make demo IMAGES=dir``).
Everything lies under ``.carbon/demo`` and ends with it, also on Ctrl-C; ``--keep`` leaves the
server up until Ctrl-C, so that you can look around in the Prefect UI.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, NoReturn
from uuid import UUID

# Before Prefect is imported: in a terminal it shows a notice and sends usage data; and the demo is
# the shipped fleet on this machine, whatever is set here for other work, a proxy among it.
for _name in [name for name in os.environ if name.startswith(("PREFECT_", "CARBON_"))]:
    if _name != "PREFECT_HOME":  # the Makefile's
        del os.environ[_name]
os.environ |= {"DO_NOT_TRACK": "1", "NO_PROXY": "*", "no_proxy": "*"}

import httpx
from cyclopts import App, Parameter
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from rich.console import Console
from rich.markup import escape

from carbon import BadInput, CarbonAwareError, CarbonPolicy, ResidencyError, Strategy, Unavailable
from deployments import PrefectUnavailable, Settings, Submission, Trigger, submit
from deployments.sandbox import Sandbox, sandbox
from flows.image_embeddings import JOB, Published
from flows.sample_shop import draw_catalogue
from work_pools import load_fleet, register

_PROJECT: Final = Path(__file__).parents[1]
_SPEED: Final = 240
"""Grid seconds per second of life: a day passes in six minutes."""

_GRID_START: Final = datetime(2026, 6, 15, 10, 0, tzinfo=UTC)
"""A morning in June: the sun is on its way."""

_PATIENCE: Final = 200
"""Seconds after which the demo gives up on its runs."""

_MARK: Final = ".carbon-demo"
_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end the demo: Ctrl-C, a polite kill, a closed terminal."""

_COLOURS: Final = {"Completed": "green", "Failed": "red", "Crashed": "red"}
_DULL: Final = {"Scheduled", "Pending", "Submitting"}

_out = Console(highlight=False)
_app = App(name="python -m flows.demo", help=__doc__, suppress_keyboard_interrupt=False)


@dataclass(frozen=True)
class _Shop:
    """The pictures of the demo: what the scheduled run embeds, and what the urgent one does."""

    catalogue: Path
    urgent: Path


@_app.default
def demo(
    *,
    images: Annotated[Path | None, Parameter(help="Folder with your own product pictures.")] = None,
    keep: Annotated[bool, Parameter(help="Leave the server up until Ctrl-C.", negative="")] = False,
    folder: Annotated[Path, Parameter(help="Where everything lies.")] = Path(".carbon/demo"),
) -> None:
    """Place four runs in time and region, and carry them out with real Prefect workers."""
    if images is not None:
        if not images.is_dir():
            raise BadInput(
                "IMAGES", f"there is no folder {str(images)!r}", "Name a folder with pictures."
            )
        JOB.check({"images": str(images)}, Settings(data_roots=(images,)))
    with _fresh(folder.absolute()) as home:
        _demo(home, images, keep=keep)


def _demo(home: Path, images: Path | None, *, keep: bool) -> None:
    began = time.monotonic()
    _say(
        "[bold]Carbon-aware flows: the demo[/]\n"
        "Real: the Prefect server, its workers, the embedding model. Modelled: the grid, a typical "
        f"day in June. [bold]Time runs {_SPEED} times faster than life: 1 s is 4 min of grid "
        "time[/], so starting a process looks as if it took half an hour. The regions and their "
        "GPUs are played by processes on this machine."
    )
    with _step("Drawing the sample shop"):
        shop = _make_shop(home, images)
    with _server(home) as box, box.connected():
        settings = Settings(home=home, data_roots=(shop.catalogue,), clock=f"@{home / 'clock'}")
        asyncio.run(_prepare(box, settings))
        asyncio.run(_story(Trigger.from_settings(settings), shop))
        _show_results(settings)
        _say(f"Took {time.monotonic() - began:.0f} s.")
        if keep:
            _say(
                f"The Prefect UI: [bold]{box.ui_url}[/] (runs, their graphs and artifacts). "
                "Ctrl-C ends it."
            )
            while True:
                time.sleep(1)
    _say("To look around in the Prefect UI: make demo ARGS=--keep")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the demo; a fault ends in one line, and nothing is left running."""
    # A process that was started in the background ignores Ctrl-C; ours must not.
    for ending in _ENDINGS:
        signal.signal(ending, _end)
    try:
        _app(arguments)
    except CarbonAwareError as error:
        _fail(str(error))
    except httpx.HTTPError as error:
        _fail(str(PrefectUnavailable.of(error)))
    except KeyboardInterrupt:
        with suppress(OSError):  # the terminal may be gone
            _say("Stopped. No process is left behind.")
        sys.exit(130)


def _fail(text: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(text)}")
    sys.exit(2)


def _end(_signal: int, _frame: object) -> None:
    # Only once: a second Ctrl-C would cut short the stopping of the server.
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _fresh(home: Path) -> Iterator[Path]:
    """Hold an empty folder; only a folder that an earlier demo made, and left, is emptied."""
    mark = home / _MARK
    if home.exists() and not home.is_dir():
        raise BadInput("--folder", f"{str(home)!r} is a file", "Name a folder.")
    if home.exists() and any(home.iterdir()) and not mark.exists():
        raise BadInput("--folder", f"{str(home)!r} is not empty and not a demo's", "Name another.")
    home.mkdir(parents=True, exist_ok=True)
    with mark.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(
                "--folder",
                f"another demo runs there ({str(home)!r})",
                "End it, or name another: make demo ARGS='--folder /tmp/demo'.",
            ) from error
        for old in home.iterdir():
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            elif old != mark:
                old.unlink()
        yield home


def _make_shop(home: Path, images: Path | None) -> _Shop:
    urgent = home / "images" / "urgent"
    draw_catalogue(urgent, count=12, seed=2)
    if images is not None:
        return _Shop(images.absolute(), urgent)
    catalogue = home / "images" / "catalogue"
    draw_catalogue(catalogue, count=60, seed=1)
    return _Shop(catalogue, urgent)


@contextmanager
def _server(home: Path) -> Iterator[Sandbox]:
    step = _step("Starting a Prefect server of its own (up to a minute)")
    step.__enter__()
    with sandbox(home / "prefect") as box:
        step.__exit__(None, None, None)
        try:
            yield box
        finally:
            _say("[dim]Stopping workers and server ...[/]")


async def _prepare(box: Sandbox, settings: Settings) -> None:
    """Register pools and deployments, start one worker per pool, and let grid time begin."""
    fleet = load_fleet()
    env = {
        "CARBON_HOME": str(settings.home),
        "CARBON_DATA_ROOTS": os.pathsep.join(str(root) for root in settings.data_roots),
        "CARBON_CLOCK": settings.clock,
    }
    regions = len({pool.region for pool in fleet.pools})
    async with get_client() as client:
        with _step("Registering work pools and deployments (prefect deploy --all)"):
            await register(fleet, client)
            for pool in fleet.pools:
                box.worker(pool.name, env)
            await asyncio.to_thread(box.prefect, "deploy", "--all", cwd=_PROJECT)
        with _step(f"Starting {len(fleet.pools)} workers in {regions} regions"):
            await _online(client, [pool.name for pool in fleet.pools])
    clock = f"{_GRID_START.isoformat()},{datetime.now(UTC).isoformat()},{_SPEED}"
    (settings.home / "clock").write_text(clock)


async def _online(client: PrefectClient, pools: list[str]) -> None:
    """Wait until a worker of each pool has reported."""
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit:
        if all([await client.read_workers_for_work_pool(pool) for pool in pools]):
            return
        await asyncio.sleep(0.5)
    raise Unavailable(
        "Not all workers came up. Look at worker-*.log under the demo's prefect folder."
    )


async def _story(trigger: Trigger, shop: _Shop) -> None:
    """Submit the runs and watch them end."""
    images = {"images": str(shop.catalogue)}
    seen: dict[UUID, str] = {}
    _say("\n[bold]1. The nightly catalogue may wait and may go elsewhere[/]")
    nightly = await submit(JOB, images, key="nightly-1", trigger=trigger)
    _tell(nightly)
    async with get_client() as client:
        _report(await client.read_flow_run(nightly.flow_run_id), "1 nightly", seen, trigger)
    _say("\n[bold]2. Somebody needs twelve new products at once: run now[/]")
    at_once = CarbonPolicy(strategy=Strategy.RUN_NOW)
    urgent = await submit(
        JOB, {"images": str(shop.urgent), "catalogue": "urgent"}, policy=at_once, trigger=trigger
    )
    _tell(urgent)
    _say("\n[bold]3. Personal pictures, asked to be processed in Oregon[/]")
    await _refused(trigger, images)
    _say("\n[bold]4. Somebody goes round the trigger and starts the Oregon deployment by hand[/]")
    async with get_client() as client:
        bypass = await _bypass(client)
        _say("\n[bold]What happens[/] [dim](grid time of the replayed day)[/]")
        runs = {
            nightly.flow_run_id: "1 nightly",
            urgent.flow_run_id: "2 urgent",
            bypass: "4 bypass",
        }
        ended = await _watch(client, trigger, runs, seen)
    _judge(ended, nightly, urgent, bypass)


async def _refused(trigger: Trigger, images: dict[str, str]) -> None:
    policy = CarbonPolicy(only_regions=("aws:us-west-2",))
    try:
        await submit(JOB, images, policy=policy, data_class="personal", trigger=trigger)
    except ResidencyError as error:
        _say(f"[green]Refused, and nothing was created:[/] {escape(str(error))}")
        return
    raise Unavailable("Personal data was accepted for Oregon: the residency rules do not hold.")


async def _bypass(client: PrefectClient) -> UUID:
    name = JOB.execution_deployment("embed", "us-west-2-gpu")
    deployment = await client.read_deployment_by_name(name)
    run = await client.create_flow_run_from_deployment(
        deployment.id,
        parameters={
            "listing": "file:///personal.parquet",
            "catalogue": "products",
            "data_class": "personal",
        },
    )
    _say(
        f"The run {run.name!r} is created in pool us-west-2-gpu; it will refuse before it reads "
        "anything."
    )
    return run.id


async def _watch(
    client: PrefectClient, trigger: Trigger, runs: dict[UUID, str], seen: dict[UUID, str]
) -> dict[UUID, FlowRun]:
    """Print each change of state until all runs have ended."""
    ended: dict[UUID, FlowRun] = {}
    limit = time.monotonic() + _PATIENCE
    with _out.status("") as status:
        while time.monotonic() < limit and not runs.keys() <= ended.keys():
            found = [run for run in await client.read_flow_runs(limit=50) if not run.auto_scheduled]
            labels = {run.name: runs[run.id] for run in found if run.id in runs}
            for run in sorted(found, key=_changed_at):
                entry = run.name.removesuffix("-embed")
                label = labels.get(run.name) or f"{labels.get(entry, entry)}: embed"
                _report(run, label, seen, trigger)
                if run.state and run.state.is_final():
                    ended[run.id] = run
            left = len(runs.keys() - ended.keys())
            status.update(f"grid time {trigger.clock.now():%H:%M}, {left} runs to go")
            await asyncio.sleep(0.5)
    return ended


def _changed_at(run: FlowRun) -> datetime:
    return run.state.timestamp if run.state else datetime.max.replace(tzinfo=UTC)


def _report(run: FlowRun, label: str, seen: dict[UUID, str], trigger: Trigger) -> None:
    state = (run.state.name if run.state else None) or "?"
    if seen.get(run.id) == state or state in _DULL:
        return
    seen[run.id] = state
    message = (run.state.message if run.state else None) or ""
    told = f": {escape(message.splitlines()[0])}" if state == "Failed" and message else ""
    _say(
        f"  {trigger.clock.now():%H:%M}  {label:<18} {run.work_pool_name or '':<18} "
        f"[{_COLOURS.get(state, 'cyan')}]{state}[/]{told}"
    )


def _tell(made: Submission) -> None:
    decision = made.decision
    assert decision is not None, "the demo's server is new, so the run is too"
    _say(f"[bold]{escape(decision.headline)}[/]")
    _say(f"  [dim]flow run {escape(made.name)}[/]")
    _say(f"  {escape(decision.reason)}")
    _say(f"  [dim]{escape(decision.policy)}[/]")
    for note in decision.breaches:
        _say(f"  [yellow]gave way:[/] {escape(note)}")


def _judge(
    ended: dict[UUID, FlowRun], nightly: Submission, urgent: Submission, bypass: UUID
) -> None:
    """Fail the demo when its story did not happen."""
    wanted = {nightly.flow_run_id: "Completed", urgent.flow_run_id: "Completed", bypass: "Failed"}
    for run_id, state in wanted.items():
        run = ended.get(run_id)
        found = run.state.name if run and run.state else "not finished"
        if found != state:
            why = (run.state.message if run and run.state else None) or ""
            raise Unavailable(f"Run {run.name if run else run_id} is {found}, not {state}. {why}")
    home = load_fleet().home
    places = {run.name: run.work_pool_name for run in ended.values()}
    told = nightly.decision
    assert told is not None
    if told.delay <= timedelta(0) or told.chosen.main.region == home:
        raise Unavailable(f"The nightly run was not moved: {told.headline}")
    ran_in = places.get(f"{nightly.name}-embed")
    if ran_in != told.chosen.main.pool:
        raise Unavailable(f"The nightly run was planned for {told.chosen.main.pool}, not {ran_in}.")


def _show_results(settings: Settings) -> None:
    published = Published.open(settings.store / JOB.name / "public" / "products")
    first = published.paths[0]
    near = ", ".join(f"{row.path} ({row.score:.2f})" for row in published.nearest(first, 4)[1:])
    _say(f"\nPublished: {published.manifest.count} images. Most like {first}: {near}")
    _say("Pictures of the decisions:")
    for picture in sorted(settings.pictures.glob("*.png")):
        _say(f"  {picture}")


@contextmanager
def _step(title: str) -> Iterator[None]:
    """Say what is going on and how long it took."""
    began = time.monotonic()
    with _out.status(title):
        yield
    _say(f"{title}: {time.monotonic() - began:.0f} s")


def _say(text: str) -> None:
    _out.print(text, soft_wrap=True)


if __name__ == "__main__":
    main()
