"""The shop of the UI tests: the shipped fleet on a real server, and a browser without a network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import psutil
import pytest
from playwright.sync_api import Page, Route, expect, sync_playwright
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun

from deployments.sandbox import Sandbox
from flows.sample_shop import draw_catalogue
from work_pools import load_fleet, register

ROOT: Final = Path(__file__).parents[2]
HOME_POOL: Final = "eu-central-1-cpu"
_MORNING: Final = "2026-06-15T09:30:00+00:00"
_SPEED: Final = 120
"""Grid seconds per second of life: a run that is asked for at 10 waits a minute for noon."""

_PATIENCE_MS: Final = 30_000
T = TypeVar("T")


@dataclass
class Shop:
    """A server with the shipped fleet, one worker at home, and twelve product images.

    Attributes:
        box: The server.
        home: ``CARBON_HOME`` of the workers.
        client: A client of the server.
    """

    box: Sandbox
    home: Path
    client: SyncPrefectClient
    _workers: dict[str, psutil.Process] = field(default_factory=dict)

    @property
    def images(self) -> Path:
        """Folder with the product images."""
        return self.home / "images"

    def start_clock(self) -> None:
        """Let the replayed morning begin now."""
        text = f"{_MORNING},{datetime.now(UTC).isoformat()},{_SPEED}"
        (self.home / "clock").write_text(text)

    def worker(self, pool: str) -> None:
        """Start a worker on a pool, unless there is one."""
        if pool not in self._workers:
            env = {"CARBON_HOME": str(self.home), "CARBON_CLOCK": f"@{self.home / 'clock'}"}
            self._workers[pool] = psutil.Process(self.box.worker(pool, env).pid)

    def at_work(self) -> list[str]:
        """Return the command lines of all processes below the workers."""
        return [
            " ".join(process.cmdline())
            for worker in self._workers.values()
            for process in worker.children(recursive=True)
            if process.status() != psutil.STATUS_ZOMBIE and "prefect.engine" in process.cmdline()
        ]

    def run(self, run_id: UUID) -> FlowRun:
        """Read a run."""
        return self.client.read_flow_run(run_id)

    def find(self, name: str) -> FlowRun | None:
        """Return the run of this name."""
        named = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
        return next(iter(self.client.read_flow_runs(flow_run_filter=named)), None)

    def until(self, what: str, found: Callable[[], T | None], seconds: float) -> T:
        """Ask until there is an answer, or fail and say what all runs and workers are doing."""
        limit = time.monotonic() + seconds
        while not (answer := found()):
            if time.monotonic() > limit:
                pytest.fail(f"waited {seconds:.0f} s in vain until {what}\n{self._report()}")
            time.sleep(0.3)
        return answer

    def _report(self) -> str:
        runs = [
            f"{run.name} in {run.work_pool_name}: {run.state!r}"
            for run in self.client.read_flow_runs(limit=20)
            if not run.auto_scheduled
        ]
        logs = [
            line
            for pool in self._workers
            for log in self.box.home.glob(f"worker-{pool}.log")
            for line in log.read_text(errors="replace").splitlines()[-15:]
        ]
        return "\n".join([*runs, *logs])


@dataclass
class Browser:
    """A page in Chromium that reaches the server and nothing else.

    Attributes:
        page: The page.
        refused: Hosts that it asked for and was not let through to.
    """

    page: Page
    refused: set[str] = field(default_factory=set)

    def gate(self, route: Route) -> None:
        """Let only requests to this machine through."""
        url = urlsplit(route.request.url)
        if url.scheme == "data" or url.hostname == "127.0.0.1":
            route.continue_()
        else:
            self.refused.add(url.hostname or url.scheme)
            route.abort()


@pytest.fixture(scope="module")
def shop(prefect_server: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Register the shipped fleet, deploy everything, and start the worker at home."""
    home = tmp_path_factory.mktemp("shop")
    draw_catalogue(home / "images", count=12, seed=1)
    asyncio.run(_register())
    prefect_server.prefect("deploy", "--all", cwd=ROOT)
    with get_client(sync_client=True) as client:
        shop = Shop(prefect_server, home, client)
        shop.start_clock()
        shop.worker(HOME_POOL)
        yield shop


@pytest.fixture(scope="module")
def browser(chromium: Path, shop: Shop) -> Iterator[Browser]:
    """Open a page; the shop comes first, since Playwright's loop lets no other run beside it."""
    del shop
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = chrome.new_page(viewport={"width": 1400, "height": 1000})
        browser = Browser(page)
        page.route("**/*", browser.gate)
        page.set_default_timeout(_PATIENCE_MS)
        expect.set_options(timeout=_PATIENCE_MS)
        yield browser
        chrome.close()


async def _register() -> None:
    async with get_client() as client:
        await register(load_fleet(), client)
