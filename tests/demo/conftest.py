"""One interrupted demo and one whole one serve all tests here: each takes a minute or more."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.demo.watched import Demo, answers, outer_addresses

StartDemo = Callable[..., Demo]
ISLAND = Path(__file__).with_name("island.py")


@dataclass(frozen=True)
class Interrupted:
    """What was seen of a demo that was stopped in the middle.

    Attributes:
        demo: The demo, ended.
        commands: Its processes just before.
        listening: Addresses and ports that they listened on.
        open_outside: Those of its ports that answered on an address others can reach.
        outer: The addresses that were tried.
        code: Its exit code.
    """

    demo: Demo
    commands: list[str]
    listening: set[tuple[str, int]]
    open_outside: list[tuple[str, int]]
    outer: list[str]
    code: int


@dataclass(frozen=True)
class Finished:
    """What was seen of a whole demo.

    Attributes:
        demo: The demo, ended.
        code: Its exit code.
        seconds: How long it took.
        attempts: What it tried to reach outside: names, and packets without a route; ``None``
            where this machine cannot take the network away.
    """

    demo: Demo
    code: int
    seconds: float
    attempts: dict[str, object] | None


@pytest.fixture(scope="session")
def start_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartDemo]:
    """Start demos, each with an empty home; whatever they leave is ended at last."""
    started: list[Demo] = []

    def start(*arguments: str, wrap: tuple[str, ...] = ()) -> Demo:
        started.append(Demo.start(tmp_path_factory.mktemp("home"), *arguments, wrap=wrap))
        return started[-1]

    try:
        yield start
    finally:
        for demo in started:
            demo.close()


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both demos, one after the other."""
    return tmp_path_factory.mktemp("demo") / "place"


@pytest.fixture(scope="session")
def interrupted(start_demo: StartDemo, demo_folder: Path) -> Interrupted:
    """A demo that gets Ctrl-C, and again a second later, while its runs are at work."""
    demo = start_demo("--folder", str(demo_folder))
    demo.wait_for("Running", 240)
    commands, listening, outer = demo.commands, demo.listening(), outer_addresses()
    tried = [(address, port) for address in outer for _, port in sorted(listening)]
    open_outside = [(address, port) for address, port in tried if answers(address, port)]
    demo.process.send_signal(signal.SIGINT)
    time.sleep(1)
    demo.process.send_signal(signal.SIGINT)
    return Interrupted(demo, commands, listening, open_outside, outer, demo.wait(60))


@pytest.fixture(scope="session")
def finished(
    start_demo: StartDemo,
    demo_folder: Path,
    interrupted: Interrupted,
    tmp_path_factory: pytest.TempPathFactory,
) -> Finished:
    """A whole demo on the folder of an interrupted one, without a network where possible."""
    del interrupted
    report = tmp_path_factory.mktemp("island") / "report.json"
    alone = without_network()
    wrap = (*alone, sys.executable, str(ISLAND), str(report)) if alone else ()
    demo = start_demo("--folder", str(demo_folder), wrap=wrap)
    code = demo.wait(330)
    seconds = time.monotonic() - demo.began
    return Finished(demo, code, seconds, json.loads(report.read_text()) if alone else None)


def without_network() -> tuple[str, ...]:
    """Return a command that takes the network away: as root, as a user, or none."""
    for command in (("unshare", "--net"), ("unshare", "--map-root-user", "--net")):
        if shutil.which(command[0]) and shutil.which("ip"):
            tried = [*command, "ip", "link", "set", "lo", "up"]
            if subprocess.run(tried, capture_output=True, check=False).returncode == 0:
                return command
    return ()
