"""Real Prefect processes for tests: a server on loopback and workers, each stopped by its pid.

::

    with real_server(tmp_path) as server:
        server.prefect("work-pool", "create", "--type", "process", "p")
        server.worker("p")
        with server.connected():          # this process's Prefect client talks to it
            ...
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STARTUP_SECONDS = 180
STOP_SECONDS = 20

# Nothing calls out, nothing asks, and loops are short enough to wait for in a test.
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_CLI_COLORS": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_WORKER_QUERY_SECONDS": "0.5",
}


@dataclass
class Server:
    """A running Prefect server and the workers started through it.

    Attributes:
        api_url: Address of its REST API, e.g. ``http://127.0.0.1:41234/api``.
        home: Its own ``PREFECT_HOME``; logs of all processes lie here.
        env: Environment in which any Prefect process reaches this server.
    """

    api_url: str
    home: Path
    env: Mapping[str, str]
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def ui_url(self) -> str:
        """Address of the server's UI."""
        return self.api_url.removesuffix("/api")

    def prefect(
        self,
        *args: str,
        cwd: Path | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``prefect ARGS`` against this server, wait for it and return its output.

        Raises:
            AssertionError: It exited with another code than 0.
        """
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *args],
            env=dict(self.env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"prefect {' '.join(args)}:\n{done.stdout}\n{done.stderr}"
        return done

    def worker(self, pool: str, *, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a worker on a pool; it ends with the server, or earlier with :func:`stop`."""
        process = spawn(
            ["prefect", "worker", "start", "--pool", pool, "--install-policy", "never"],
            env=self.env,
            log=self.home / f"worker-{pool}.log",
            cwd=cwd,
        )
        self._running.append(process)
        return process

    @contextmanager
    def connected(self) -> Iterator[Self]:
        """Point this process's Prefect client at the server for a while."""
        from prefect.settings import (  # noqa: PLC0415 - slow import, and conftest sets env first
            PREFECT_API_URL,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
            temporary_settings,
        )

        # Without its heartbeat thread a sync flow ends a second sooner.
        settings = {PREFECT_API_URL: self.api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
        with temporary_settings(settings):
            yield self


@contextmanager
def real_server(folder: Path, **settings: str) -> Iterator[Server]:
    """Run a Prefect server on a free loopback port with its home in a folder.

    Args:
        folder: An empty folder for its database and logs.
        **settings: Further environment variables of the server and its workers.

    Raises:
        RuntimeError: The server ended or was not healthy in time; its log is in the message.
    """
    port = free_port()
    api_url = f"http://127.0.0.1:{port}/api"
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {**QUIET, "PREFECT_HOME": str(folder), "PREFECT_API_URL": api_url, **settings}
    env["PREFECT_PROFILES_PATH"] = str(folder / "profiles.toml")
    log = folder / "server.log"
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = spawn(command, env=env, log=log)
    server = Server(api_url=api_url, home=folder, env=env)
    try:
        _wait_until_healthy(process, api_url, log)
        yield server
    finally:
        for worker in server._running:
            worker.terminate()
        for running in [*server._running, process]:
            stop(running)


def spawn(
    module_args: list[str],
    *,
    env: Mapping[str, str],
    log: Path,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``python -m ARGS`` in its own process group, its output in a log file.

    An ignored SIGINT (a test run started with ``&`` from a script) would be inherited, and then a
    Prefect worker never ends on SIGTERM; so it is at its default while the child starts.
    """
    inherited = signal.getsignal(signal.SIGINT)
    if inherited is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *module_args],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    finally:
        if inherited is signal.SIG_IGN:
            signal.signal(signal.SIGINT, inherited)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that :func:`spawn` started, politely first, with all that it started."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # the usual case: it left nothing behind


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_healthy(process: subprocess.Popen[bytes], api_url: str, log: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}:\n{_tail(log)}")
        if _answers(f"{api_url}/health"):
            return
        time.sleep(0.25)
    raise RuntimeError(f"no healthy server after {STARTUP_SECONDS} s:\n{_tail(log)}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own loopback URL
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])
