"""One interrupted demo and one whole one serve all tests here: each takes a minute or more."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.demo.running import MARK, ROOT, Demo, Jail, StartDemo, newcomer


@pytest.fixture(scope="session")
def start_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartDemo]:
    """Start the demo in a terminal, optionally wrapped in another command."""
    started: list[Demo] = []

    def start(*arguments: str, wrap: tuple[str, ...] = ()) -> Demo:
        home = tmp_path_factory.mktemp("home")
        mark = uuid4().hex
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*wrap, sys.executable, "-m", "flows.demo", *arguments],
            cwd=ROOT,
            env=newcomer(home) | {MARK: mark},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        started.append(Demo(process, mark, home, ours))
        return started[-1]

    try:
        yield start
    finally:
        for demo in started:
            demo.close()


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all demos of this session use, one after the other."""
    return tmp_path_factory.mktemp("demo") / "place"


@pytest.fixture(scope="session")
def jail(tmp_path_factory: pytest.TempPathFactory) -> Jail:
    """What this machine has to watch and to block the network with."""
    return Jail.find(tmp_path_factory.mktemp("trace") / "connects")


@pytest.fixture(scope="session")
def finished(
    start_demo: StartDemo, demo_folder: Path, jail: Jail, interrupted: Demo
) -> tuple[Demo, int, float]:
    """A whole demo, on the folder of an interrupted one, without a network where possible.

    Returns:
        The demo, its exit code, and how many seconds it took.
    """
    del interrupted
    began = time.monotonic()
    demo = start_demo("--folder", str(demo_folder), wrap=jail.wrap)
    code = demo.wait(400)
    return demo, code, time.monotonic() - began


@pytest.fixture(scope="session")
def interrupted(start_demo: StartDemo, demo_folder: Path) -> Demo:
    """A demo whose workers are at work; the test of Ctrl-C ends it."""
    demo = start_demo("--folder", str(demo_folder))
    demo.wait_for("Running", 240)
    return demo
