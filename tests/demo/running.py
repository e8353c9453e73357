"""A demo as a person starts it: in a terminal, with an empty home, and watched from outside."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
MARK = "DEMO_TEST_MARK"
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Demo:
    """A demo that is running in a terminal of its own.

    Attributes:
        process: What was started: the demo, or what it is wrapped in.
        mark: Value of an environment variable that all its processes carry.
        home: Its ``HOME``, empty at the start.
    """

    process: subprocess.Popen[bytes]
    mark: str
    home: Path
    _terminal: int
    _read: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    def _drain(self) -> None:
        while True:
            try:
                chunk = os.read(self._terminal, 65536)
            except OSError:  # Linux says EIO when the last process has closed the terminal
                chunk = b""
            if not chunk:
                break
            self._read += chunk
        os.close(self._terminal)

    @property
    def screen(self) -> str:
        """All that was printed so far, without colours and without what was written over."""
        text = _COLOUR.sub("", self._read.decode(errors="replace")).replace("\r\n", "\n")
        return "\n".join(line.rpartition("\r")[2] for line in text.split("\n"))

    @property
    def processes(self) -> list[psutil.Process]:
        """All living processes that carry the mark, however they were started."""
        return [process for process in psutil.process_iter() if _carries(process, self.mark)]

    def wait_for(self, text: str, seconds: float) -> None:
        """Wait until this is on the screen."""
        self._wait(lambda: text in self.screen, f"{text!r} on the screen", seconds)

    def wait(self, seconds: float) -> int:
        """Wait for the end and return the exit code."""
        self._wait(lambda: self.process.poll() is not None, "the demo's end", seconds)
        self._reader.join(10)
        return self.process.wait()

    def left_behind(self, seconds: float = 3) -> list[str]:
        """Return the processes that are still there after a moment's grace."""
        limit = time.monotonic() + seconds
        while self.processes and time.monotonic() < limit:
            time.sleep(0.2)
        return [_describe(process) for process in self.processes]

    def close(self) -> None:
        """End whatever is left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for process in self.processes:
            process.kill()
        self.process.wait()

    def _wait(self, is_so: Callable[[], bool], what: str, seconds: float) -> None:
        limit = time.monotonic() + seconds
        while not is_so():
            ended = self.process.poll() is not None
            if time.monotonic() > limit or (ended and not is_so()):
                why = f"it exited with {self.process.returncode}" if ended else f"{seconds:.0f} s"
                pytest.fail(f"Waited for {what} ({why}):\n{self.screen[-6000:]}")
            time.sleep(0.1)


StartDemo = Callable[..., Demo]


@dataclass(frozen=True)
class Jail:
    """A command that runs another one without a network, and writes down its ``connect`` calls.

    Attributes:
        block: Command that takes the network away; empty where that is not possible.
        watch: Command that traces; empty where that is not possible.
        trace: File that the tracer writes.
    """

    block: tuple[str, ...]
    watch: tuple[str, ...]
    trace: Path

    @property
    def wrap(self) -> tuple[str, ...]:
        """The whole prefix."""
        return (*self.watch, *self.block)

    @classmethod
    def find(cls, trace: Path) -> Jail:
        """Try what works here: as root, as a user with user namespaces, or not at all."""
        alone = ("sh", "-c", 'ip link set lo up && exec "$@"', "sh")
        blocks = (("unshare", "--net", *alone), ("unshare", "--map-root-user", "--net", *alone))
        flags = ("-f", "-qq", "-e", "trace=connect", "-e", "signal=none", "-o", str(trace))
        watches = (("strace", "--seccomp-bpf", *flags), ("strace", *flags))
        return cls(_first_that_works(blocks), _first_that_works(watches), trace)


def newcomer(home: Path) -> Mapping[str, str]:
    """Return the environment of somebody who has never used Prefect: nothing is switched off."""
    told = ("PREFECT_", "CARBON_", "DO_NOT_TRACK", "CI", "GITHUB_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    return kept | {"HOME": str(home), "TERM": "xterm", "PYTHONPATH": str(ROOT)}


def _first_that_works(commands: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    for command in commands:
        if shutil.which(command[0]):
            tried = subprocess.run([*command, "true"], capture_output=True, check=False)
            if tried.returncode == 0:
                return command
    return ()


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    except psutil.Error:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{process.pid} (gone)"
