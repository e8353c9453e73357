"""Life at its worst: a real server, workers and runs, while everything fails in turn.

Usage: ``python -m benchmarks.chaos [--runs 200] [--seed 1] [--minutes M] [--postgres BIN]`` with
the folder of PostgreSQL's programs (default ``/usr/lib/postgresql/15/bin``); without it, on SQLite.
On two cores with nothing else to do 200 runs take an hour: each costs 12 s of processor time, most
of it for the start of Prefect's processes.

Runs are submitted, and created by plain REST, until the last of them still ends in time. Meanwhile,
drawn by the seed: workers are killed (-9) and come back, so are processes that carry out a run, the
server is stopped and started, a region loses its network, all are answered with 503, everything is
deployed anew, the grid's numbers vanish, and a keeper that runs all the time is killed. One of the
home region's workers has a clock that is wrong. Time runs 60 times faster than life. It counts runs
that are

- *lost*: not completed in the end,
- *doubled*: whose heavy stage was completed twice, or was at work twice at a time,
- *late*: that passed their gate later than their latest safe start, start-up and outages aside,
- *misplaced*: personal data outside the EU.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException
from prefect.logging import get_logger

from benchmarks.chaos_shop import JOB, words
from benchmarks.cut import Line, Network
from benchmarks.postgres import PROGRAMS, can_run, database
from carbon import CarbonPolicy
from deployments import Settings, Trigger, submit
from deployments._hold import Hold
from deployments._keeper import keep
from deployments._render import render
from deployments.sandbox import OWN_DATABASE, Sandbox, sandbox, stop
from work_pools import register

ROOT: Final = Path(__file__).parents[1]
SPEED: Final = 60
GRID_START: Final = datetime(2026, 6, 1, tzinfo=UTC)
POOLS: Final = {
    "chaos-home": ("aws:eu-central-1", "cpu", 24),
    "chaos-base": ("aws:eu-central-1", "gpu", 3),
    "chaos-green": ("aws:eu-north-1", "gpu", 3),
    "chaos-far": ("aws:us-west-2", "gpu", 3),
}
LEVELS: Final = {"DE": 400.0, "SE-SE3": 60.0, "US-NW-PACW": 30.0}
SKEW: Final = 1.0
"""Seconds of life by which one worker's clock is wrong: a minute of grid time."""
EVERY: Final = (12.0, 32.0)
"""Seconds of life between two faults."""
WAITS: Final = (0, 0, 60, 120, 240)
"""Minutes of grid time that a run may wait beyond what it needs; in a short play none is long."""

LONGEST: Final = 60 * (90 + WAITS[-1]) / SPEED
"""Seconds of life from asking for a run to its end, at the latest."""

STAGE: Final = JOB.workload.stages[-1].name
PERSONAL: Final = 0.4
BY_REST: Final = 0.3
LEASES: Final = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"
IN_MEMORY: Final = "prefect.server.concurrency.lease_storage.memory"
"""Prefect's default, which forgets all leases when the server is stopped."""

START_UP: Final = 45.0
"""Seconds of life that a start may take on a machine with two cores that does all of this."""


@dataclass
class Chaos:
    """All that runs, and what was done to it."""

    box: Sandbox
    folder: Path
    settings: Settings
    networks: dict[str, Network]
    workers: dict[str, subprocess.Popen[bytes]]
    luck: random.Random
    longest: float = WAITS[-1]
    keeper: subprocess.Popen[bytes] | None = None
    faults: dict[str, int] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)
    runs: dict[UUID, str] = field(default_factory=dict)
    killed: set[str] = field(default_factory=set)

    def fault(self) -> None:
        """Let one thing go wrong."""
        kinds = (
            self.kill_worker,
            self.kill_run,
            self.stop_server,
            self.cut_region,
            self.busy,
            self.redeploy,
            self.no_signals,
            self.kill_keeper,
        )
        kind = self.luck.choice(kinds)
        self.faults[kind.__name__] = self.faults.get(kind.__name__, 0) + 1
        print(f"  {datetime.now(UTC):%H:%M:%S} {kind.__name__.replace('_', ' ')}", flush=True)
        began = time.time()
        kind()
        if kind in (self.stop_server, self.busy, self.cut_region):
            self.outages.append((began, time.time()))

    def kill_worker(self) -> None:
        """Kill a worker; its runs live on. It comes back after a while."""
        name = self.luck.choice(sorted(self.workers))
        self.workers[name].kill()
        self.workers[name].wait()
        time.sleep(self.luck.uniform(1, 8))
        self.work(name)

    def kill_run(self) -> None:
        """Kill the process of a run, an entry run's or a stage's, but none of the same run twice.

        The latest safe start leaves time for one retry; that a second crash is too late is no loss.
        """
        found = [
            process
            for worker in self.workers.values()
            for process in psutil.Process(worker.pid).children(recursive=True)
            if _at_work(process)
        ]
        self.luck.shuffle(found)
        for process in found:
            with suppress(psutil.Error, httpx.HTTPError, PrefectException, KeyError):
                run = UUID(process.environ()["PREFECT__FLOW_RUN_ID"])
                with get_client(sync_client=True) as client:
                    entry = client.read_flow_run(run).name.partition(f"-{STAGE}")[0]
                if entry not in self.killed:
                    self.killed.add(entry)
                    process.kill()
                    return

    def stop_server(self) -> None:
        """Stop the server, and start it again."""
        self.box.stop_server()
        time.sleep(self.luck.uniform(0, 5))
        self.box.start_server()

    def cut_region(self) -> None:
        """Cut one region off."""
        self._line([self.luck.choice(sorted(self.networks))], Line.DOWN)

    def busy(self) -> None:
        """Let the server be busy for everybody."""
        self._line(sorted(self.networks), Line.BUSY)

    def _line(self, names: list[str], line: Line) -> None:
        for name in names:
            self.networks[name].set(line)
        time.sleep(self.luck.uniform(3, 10))
        for name in names:
            self.networks[name].set(Line.UP)

    def redeploy(self) -> None:
        """Deploy everything anew."""
        self.box.prefect("deploy", "--all", cwd=self.folder)

    def no_signals(self) -> None:
        """Let the grid's numbers vanish for a while."""
        replay = self.settings.replay
        assert replay
        hidden = replay.with_suffix(".gone")
        replay.rename(hidden)
        time.sleep(self.luck.uniform(3, 12))
        hidden.rename(replay)

    def kill_keeper(self) -> None:
        """Kill the keeper, whatever it is doing."""
        if self.keeper is not None:
            self.keeper.kill()
            self.keeper.wait()
        self.keep()

    def keep(self) -> None:
        """Start a keeper that makes one pass after the other."""
        env = {**self.box.env, **environment(self.settings)}
        with (self.box.home / "keeper.log").open("ab") as log:
            self.keeper = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.chaos", "--keep"],
                env=env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def supervise(self) -> None:
        """Start workers anew that have ended by themselves, as any supervisor of services does.

        Prefect's do when the API is away just as they start.
        """
        for name, worker in self.workers.items():
            if worker.poll() is not None:
                print(f"  {datetime.now(UTC):%H:%M:%S} a worker of {name} had ended", flush=True)
                self.work(name)

    def work(self, name: str) -> None:
        """Start a worker; its way to the server leads through its region's network."""
        pool = name.partition("/")[0]
        env = environment(self.settings)
        if name.endswith("/skewed"):
            env["CARBON_CLOCK"] = clock_text(SKEW)
        port = self.networks[pool].port
        env["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        self.workers[name] = self.box.worker(pool, env)


def _at_work(process: psutil.Process) -> bool:
    """Tell whether a process carries out a run that has begun."""
    try:
        return "PREFECT__FLOW_RUN_ID" in process.environ() and not process.children()
    except psutil.Error:
        return False


_BEGAN: Final = datetime.now(UTC)


def clock_text(skew: float = 0.0) -> str:
    """Return the replayed clock, perhaps a wrong one."""
    began = os.environ.get("CHAOS_BEGAN") or _BEGAN.isoformat()
    start = datetime.fromisoformat(began) - timedelta(seconds=skew)
    return f"{GRID_START.isoformat()},{start.isoformat()},{SPEED}"


def environment(settings: Settings) -> dict[str, str]:
    """Return what workers and keeper are told."""
    return {
        "CARBON_HOME": str(settings.home),
        "CARBON_FLEET": str(settings.fleet),
        "CARBON_REPLAY": str(settings.replay),
        "CARBON_CLOCK": settings.clock,
        "PYTHONPATH": str(ROOT),
        "PREFECT_WORKER_CANCELLATION_POLL_SECONDS": "2",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }


def main() -> int:
    """Play it, and print what was counted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--postgres", type=Path, default=PROGRAMS)
    parser.add_argument("--logs", type=Path, help="folder to keep all logs in")
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.keep:
        asyncio.run(keeping())
        return 0
    minutes = told.minutes or max(2.0, told.runs / 4)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        env = {"PYTHONPATH": str(ROOT), LEASES: IN_MEMORY}
        if can_run(told.postgres):
            env[OWN_DATABASE] = stack.enter_context(database(folder / "db", told.postgres))
        else:
            print("PostgreSQL is not here, so it is SQLite.")
        chaos = stack.enter_context(playing(folder, env, told.seed))
        if told.logs:
            stack.callback(shutil.copytree, chaos.box.home, told.logs, ignore=only_logs)
        counts = play(chaos, told.runs, minutes)
    print(f"\n| runs | seed | minutes | {' | '.join(counts)} | faults |")
    print("|---" * (len(counts) + 4) + "|")
    faults = ", ".join(f"{count} {name}" for name, count in sorted(chaos.faults.items()))
    numbers = " | ".join(str(count) for count in counts.values())
    print(f"| {told.runs} | {told.seed} | {minutes:.0f} | {numbers} | {faults} |")
    return int(any(counts.values()))


def only_logs(_: str, names: list[str]) -> list[str]:
    """Return what is no log."""
    return [name for name in names if not name.endswith(".log")]


@contextmanager
def playing(folder: Path, env: dict[str, str], seed: int) -> Iterator[Chaos]:
    """Start server, networks and workers."""
    settings = Settings(
        home=folder / "home",
        fleet=written(folder / "fleet.toml", fleet_text()),
        replay=written(folder / "grid.csv", grid_text()),
        clock=clock_text(),
    )
    with sandbox(folder / "prefect", env) as box, box.connected():
        trigger = Trigger.from_settings(settings)
        written(folder / "prefect.yaml", render(trigger.fleet, [JOB]))

        async def pools() -> None:
            async with get_client() as client:
                await register(trigger.fleet, client)

        asyncio.run(pools())
        target = int(box.api_url.removesuffix("/api").rpartition(":")[2])
        networks = {name: Network(target) for name in POOLS}
        chaos = Chaos(
            box,
            folder,
            settings,
            networks,
            {},
            random.Random(seed),  # noqa: S311  # the same faults again
        )
        chaos.redeploy()
        for name in (*POOLS, "chaos-home/skewed"):
            chaos.work(name)
        chaos.keep()
        try:
            yield chaos
        finally:
            if chaos.keeper is not None:
                chaos.keeper.kill()
                chaos.keeper.wait()
            for worker in chaos.workers.values():
                stop(worker)
            for network in chaos.networks.values():
                network.close()


def play(chaos: Chaos, count: int, minutes: float) -> dict[str, int]:
    """Ask for runs while things go wrong, wait for their end, and count."""
    began, spent = time.time(), max(60 * minutes * 3 / 4, 60 * minutes - LONGEST)
    chaos.longest = SPEED * minutes
    due = sorted(chaos.luck.uniform(0, spent) for _ in range(count))
    next_fault = began + chaos.luck.uniform(*EVERY)
    with get_client(sync_client=True) as client:
        while due or not over(client, chaos, began + 60 * minutes * 3):
            while due and time.time() - began >= due[0]:
                due.pop(0)
                ask(chaos, count - len(due))
            if time.time() >= next_fault and time.time() - began < 60 * minutes:
                chaos.fault()
                next_fault = time.time() + chaos.luck.uniform(*EVERY)
            chaos.supervise()
            time.sleep(0.5 if due else 3)
        return counted(client, chaos)


def ask(chaos: Chaos, number: int) -> None:
    """Ask for a run, again and again until it is accepted: a service does no less."""
    label, personal = f"chore-{number}", chaos.luck.random() < PERSONAL
    wait = chaos.luck.choice([wait for wait in WAITS if wait <= chaos.longest])
    policy = CarbonPolicy(finish_by=f"{90 + wait}m", cost_tolerance_percent=1000)
    data_class = "personal" if personal else "public"
    by_rest = chaos.luck.random() < BY_REST
    while True:
        try:
            run = (rest if by_rest else planned)(chaos, label, policy, data_class)
        except Exception as error:  # noqa: BLE001  # the very thing that is tested
            print(f"  asked for {label} again ({type(error).__name__})", flush=True)
            time.sleep(2)
            continue
        chaos.runs[run] = label
        return


def planned(chaos: Chaos, label: str, policy: CarbonPolicy, data_class: str) -> UUID:
    """Submit a run."""
    trigger = Trigger._build(chaos.settings, strict=False)  # noqa: SLF001  # the grid may be gone
    made = asyncio.run(
        submit(
            JOB, {"label": label}, policy=policy, data_class=data_class, key=label, trigger=trigger
        )
    )
    return made.flow_run_id


def rest(chaos: Chaos, label: str, policy: CarbonPolicy, data_class: str) -> UUID:
    """Create a run as a service in another language does."""
    url, name = chaos.box.api_url, JOB.entry_deployment
    deployment = httpx.get(f"{url}/deployments/name/{name}", timeout=20).raise_for_status().json()
    given = {
        "parameters": {
            "label": label,
            "policy": policy.model_dump(mode="json", exclude_defaults=True),
            "data_class": data_class,
        },
        "idempotency_key": label,
        "state": {"type": "SCHEDULED"},
    }
    made = httpx.post(
        f"{url}/deployments/{deployment['id']}/create_flow_run", json=given, timeout=20
    )
    return UUID(made.raise_for_status().json()["id"])


def over(client: SyncPrefectClient, chaos: Chaos, limit: float) -> bool:
    """Tell whether all runs have ended, or the time is over."""
    if time.time() > limit:
        return True
    with suppress(Exception):
        return all(final(client.read_flow_run(run)) for run in chaos.runs)
    return False


def final(run: FlowRun) -> bool:
    """Tell whether a run has ended."""
    return run.state is not None and run.state.is_final()


def counted(client: SyncPrefectClient, chaos: Chaos) -> dict[str, int]:
    """Count what must not be."""
    told = words(chaos.settings.home)
    clock = chaos.settings.make_clock()
    counts = {"lost": 0, "doubled": 0, "late": 0, "misplaced": 0}
    for run_id, label in chaos.runs.items():
        run = client.read_flow_run(run_id)
        mine = [one for one in told if one["label"] == label]
        if run.state_name != "Completed":
            counts["lost"] += 1
            reason = run.state.message if run.state else ""
            print(f"  lost: {label} {run.name} is {run.state_name}: {reason}")
        if twice(mine):
            counts["doubled"] += 1
            print(f"  doubled: {label} {run.name}: {mine}")
        hold = Hold.read(run.labels)
        went = next((float(one["at"]) for one in mine if one["what"] == "went"), None)
        if hold and went:
            latest = clock.wall(hold.latest_safe_start).timestamp()
            spent = sum(
                max(0.0, min(end, went) - max(start, latest - START_UP))
                for start, end in chaos.outages
            )
            if went > latest + START_UP + spent:
                counts["late"] += 1
                print(
                    f"  late: {label} {run.name} went {went - latest:.0f} s after its latest start"
                )
        counts["misplaced"] += misplaced(client, run, mine)
    return counts


def twice(mine: list[dict[str, Any]]) -> bool:
    """Tell whether a heavy stage was completed twice, or was at work twice at a time."""
    ended = {one["one"]: float(one["at"]) for one in mine if one["what"] == "ended"}
    began = sorted(
        (float(one["at"]), ended.get(one["one"], 0.0)) for one in mine if one["what"] == "began"
    )
    overlap = any(first[1] > second[0] for first, second in pairwise(began))
    return len(ended) > 1 or overlap


def misplaced(client: SyncPrefectClient, run: FlowRun, mine: list[dict[str, Any]]) -> int:
    """Count executions of personal data outside the EU."""
    if run.parameters.get("data_class") != "personal":
        return 0
    executions = {one["run"] for one in mine if one["what"] == "began"}
    pools = [client.read_flow_run(UUID(str(one))).work_pool_name for one in executions]
    return sum(pool == "chaos-far" for pool in pools)


async def keeping() -> None:
    """Make one pass of the keeper after the other; a fault ends none but its own."""
    log = get_logger("keeper")
    while True:
        try:
            trigger = Trigger.for_run()
            async with get_client() as client:
                report = await keep(client, trigger, {JOB.name: JOB}, log)
            if report.changes or report.notes:
                print(report.model_dump_json(), flush=True)
        except Exception as error:  # noqa: BLE001  # a keeper is only ever late
            print(f"{type(error).__name__}: {error}", flush=True)
        await asyncio.sleep(5)


def written(path: Path, text: str) -> Path:
    """Write a file."""
    path.write_text(text, encoding="utf-8")
    return path


def fleet_text() -> str:
    """Return the fleet file."""
    head = 'home = "aws:eu-central-1"\n\n[residency]\npublic = ["*"]\npersonal = ["EU"]\n'
    pools = [
        f'[[pools]]\nname = "{name}"\nregion = "{region}"\nhardware = "{hardware}"\n'
        f'capacity = {capacity}\nwatts = 15\nusd_per_hour = 0.2\nstartup = "PT5M"\n'
        for name, (region, hardware, capacity) in POOLS.items()
    ]
    return "\n".join((head, *pools))


def grid_text() -> str:
    """Return a grid that is now cleaner, now dirtier, by the hour."""
    luck = random.Random(7)  # noqa: S311
    rows = [",".join(("utc", *LEVELS))]
    for step in range(-4, 2 * 24 * 5):
        moment = GRID_START + timedelta(minutes=30) * step
        values = [f"{level * luck.uniform(0.5, 1.5):.1f}" for level in LEVELS.values()]
        rows.append(",".join((moment.isoformat(), *values)))
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
