"""A demo as a person starts it: in a terminal, with an empty home, and watched from outside."""

from __future__ import annotations

import ipaddress
import os
import pty
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from uuid import uuid4

import psutil
import pytest

ROOT: Final = Path(__file__).parents[2]
_MARK: Final = "DEMO_TEST_MARK"
_COLOUR: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Demo:
    """A demo in a terminal of its own.

    Attributes:
        process: What was started: the demo, or what it is wrapped in.
        home: Its ``HOME``, empty at the start.
        began: When it was started, of the monotonic clock.
    """

    process: subprocess.Popen[bytes]
    home: Path
    began: float
    _mark: str
    _terminal: int
    _read: bytearray = field(default_factory=bytearray)

    @classmethod
    def start(cls, home: Path, *arguments: str, wrap: tuple[str, ...] = ()) -> Self:
        """Start a demo, optionally wrapped in another command."""
        mark = uuid4().hex
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*wrap, sys.executable, "-m", "flows.demo", *arguments],
            cwd=ROOT,
            env={**newcomer(home), _MARK: mark},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        return cls(process, home, time.monotonic(), mark, ours)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    @property
    def screen(self) -> str:
        """All that was printed so far, without colours and without what was written over."""
        text = _COLOUR.sub("", self._read.decode(errors="replace")).replace("\r\n", "\n")
        return "\n".join(line.rpartition("\r")[2] for line in text.split("\n"))

    @property
    def processes(self) -> list[psutil.Process]:
        """All living processes of this demo, however they were started."""
        return [process for process in psutil.process_iter() if self._is_mine(process)]

    @property
    def commands(self) -> list[str]:
        """The command lines of all its living processes."""
        found = []
        for process in self.processes:
            with suppress(psutil.Error):  # gone by now
                found.append(" ".join(process.cmdline()))
        return found

    def wait_for(self, text: str, seconds: float) -> None:
        """Wait until this is on the screen."""
        self._wait(lambda: text in self.screen, f"{text!r} on the screen", seconds)

    def wait_for_command(self, text: str, seconds: float) -> None:
        """Wait until one of its processes has this in its command line."""
        self._wait(lambda: text in "\n".join(self.commands), f"a process {text!r}", seconds)

    def wait(self, seconds: float) -> int:
        """Wait for the end and return the exit code."""
        self._wait(lambda: self.process.poll() is not None, "the demo's end", seconds)
        self._reader.join(10)
        return self.process.wait()

    def left_behind(self, seconds: float = 3) -> list[str]:
        """Return the command lines that are still there after a moment's grace."""
        limit = time.monotonic() + seconds
        while self.processes and time.monotonic() < limit:
            time.sleep(0.2)
        return self.commands

    def listening(self) -> set[tuple[str, int]]:
        """Return address and port of all its listening sockets."""
        found: set[tuple[str, int]] = set()
        for process in self.processes:
            with suppress(psutil.Error):  # gone by now
                sockets = process.net_connections("inet")
                found |= {
                    (one.laddr.ip, one.laddr.port)
                    for one in sockets
                    if one.status == psutil.CONN_LISTEN
                }
        return found

    def close(self) -> None:
        """End whatever is left, without asking."""
        for process in self.processes:
            with suppress(psutil.Error):
                process.kill()
        self.process.kill()
        self.process.wait()

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            return alive and process.environ().get(_MARK) == self._mark
        except psutil.Error:  # gone by now, or somebody else's
            return False

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

    def _wait(self, is_so: Callable[[], bool], what: str, seconds: float) -> None:
        limit = time.monotonic() + seconds
        while not is_so():
            code = self.process.poll()
            if time.monotonic() > limit or (code is not None and not is_so()):
                why = f"{seconds:.0f} s" if code is None else f"it exited with {code}"
                pytest.fail(f"Waited in vain for {what} ({why}):\n{self.screen[-6000:]}")
            time.sleep(0.1)


def newcomer(home: Path) -> Mapping[str, str]:
    """Return the environment of somebody who has never used Prefect: nothing is switched off."""
    told = ("PREFECT_", "CARBON_", "DO_NOT_TRACK", "ORT_", "CI", "GITHUB_", "PYTEST_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    # Settings of other work, which must not lead the demo astray or off this machine.
    other = {"HTTP_PROXY": "http://127.0.0.1:9", "CARBON_FLEET": "/no/such/fleet.toml"}
    return {**kept, **other, "HOME": str(home), "TERM": "xterm", "PYTHONPATH": str(ROOT)}


def outer_addresses() -> list[str]:
    """Return this machine's own addresses that others can reach."""
    found = [
        ipaddress.ip_address(address.address.partition("%")[0])
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in {socket.AF_INET, socket.AF_INET6}
    ]
    return [str(ip) for ip in found if not ip.is_loopback and not ip.is_link_local]


def answers(address: str, port: int) -> bool:
    """Tell whether something accepts a connection there."""
    try:
        socket.create_connection((address, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True
