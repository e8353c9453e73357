"""A Prefect server and workers of one's own on this machine, for the demo and for tests.

::

    with sandbox(folder) as box:
        box.prefect("deploy", "--all", cwd=project)
        box.worker("eu-central-1-cpu")
        with box.connected():             # this process's Prefect client talks to it
            ...

Everything lies in the folder, the server listens on a free loopback port, and each process is
stopped by its id, with all that it started, also after Ctrl-C. A developer's own Prefect profile is
never touched.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import httpx
import psutil

from carbon import Unavailable

_STARTUP_SECONDS: Final = 180
_STOP_SECONDS: Final = 20

_QUIET: Final = {
    "DO_NOT_TRACK": "1",
    "NO_PROXY": "*",  # all is on this machine
    "no_proxy": "*",
    "PREFECT_CLIENT_MAX_RETRIES": "15",
    "PREFECT_CLI_COLORS": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # By default a server that is stopped forgets who holds a slot, and never gives it back.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_WORKER_QUERY_SECONDS": "0.5",
}

# On SQLite, Prefect 3.8.8's server stands still for a minute when Python's garbage collector, on
# the event loop's thread, frees a cursor whose connection waits in another thread for the database
# lock: the loop waits for that connection, it for the loop to commit, until SQLite's busy timeout.
# So garbage is collected in a thread of its own, and who waits for the lock gives up after 3 s
# instead of 60 (clients ask again). Needless once the server is on PostgreSQL.
_COLLECT_ASIDE: Final = """
import gc, runpy, sys, threading, time
from sqlalchemy import event
from sqlalchemy.pool import Pool
def give_up_sooner(connection, *_):
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 3000")
    cursor.close()
event.listen(Pool, "checkout", give_up_sooner)
def collect():
    while True:
        time.sleep(10)
        gc.collect()
gc.disable()
threading.Thread(target=collect, daemon=True).start()
del sys.argv[0]
runpy.run_module("prefect", run_name="__main__")
"""


OWN_DATABASE: Final = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
"""Variable for :func:`sandbox` that names a database other than SQLite."""


@dataclass
class Sandbox:
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
    _server: subprocess.Popen[bytes] | None = None

    def start_server(self, wait: Callable[[], None] = lambda: None) -> None:
        """Start the server, on the same port and database as before.

        Raises:
            Unavailable: It ended or was not healthy in time; its log is in the message.
        """
        port = self.api_url.removesuffix("/api").rpartition(":")[2]
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
        log = self.home / "server.log"
        own = OWN_DATABASE in self.env
        aside = ["-m", *command] if own else ["-c", _COLLECT_ASIDE, *command]
        self._server = _spawn(aside, env=self.env, log=log)
        _wait_until_healthy(self._server, self.api_url, log, wait)

    def stop_server(self) -> None:
        """Stop the server; workers and runs go on without it."""
        if self._server is not None:
            stop(self._server)
            self._server = None

    @property
    def ui_url(self) -> str:
        """Address of the server's UI."""
        return self.api_url.removesuffix("/api")

    def command(self, *args: str, cwd: Path | None = None, timeout: float = 120) -> str:
        """Run ``python -m ARGS`` against this server, wait for it and return its output.

        Raises:
            Unavailable: It exited with another code than 0.
        """
        try:
            done = self._run(args, cwd, timeout)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{' '.join(args)} took longer than {timeout:.0f} s.") from error
        if done.returncode != 0:
            raise Unavailable(f"{' '.join(args)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _run(
        self, args: Sequence[str], cwd: Path | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603  our own interpreter and arguments
            [sys.executable, "-m", *args],
            env=dict(self.env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def prefect(self, *args: str, cwd: Path | None = None, timeout: float = 120) -> str:
        """Run ``prefect ARGS`` against this server; see :meth:`command`."""
        return self.command("prefect", *args, cwd=cwd, timeout=timeout)

    def worker(self, pool: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a worker on a pool; it ends with the sandbox, or earlier with :func:`stop`.

        Args:
            pool: Name of the work pool.
            env: Further environment variables of the worker and of its runs.
        """
        process = _spawn(
            ["-m", "prefect", "worker", "start", "--pool", pool, "--install-policy", "never"],
            env={**self.env, **(env or {})},
            log=self.home / f"worker-{pool}.log",
        )
        self._running.append(process)
        return process

    @contextmanager
    def connected(self) -> Iterator[Self]:
        """Point this process's Prefect client at the server for a while."""
        from prefect.settings import (  # noqa: PLC0415  slow import, and the environment is set first
            PREFECT_API_URL,
            temporary_settings,
        )

        with temporary_settings({PREFECT_API_URL: self.api_url}):
            yield self

    def close(self) -> None:
        """Stop every worker."""
        families = {worker.pid: _family(worker.pid) for worker in self._running}
        for worker in self._running:
            worker.terminate()
        for worker in self._running:
            stop(worker, families[worker.pid])
        self._running.clear()


@contextmanager
def sandbox(
    folder: Path, env: Mapping[str, str] | None = None, *, wait: Callable[[], None] = lambda: None
) -> Iterator[Sandbox]:
    """Run a Prefect server on a free loopback port with its home in a folder.

    Args:
        folder: An empty folder for its database and logs.
        env: Further environment variables of the server and its workers.
        wait: Called again and again until the server is healthy, to show progress.

    Raises:
        Unavailable: The server ended or was not healthy in time; its log is in the message.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    api_url = f"http://127.0.0.1:{port}/api"
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "CARBON_"))
    }
    (folder / "tmp").mkdir(exist_ok=True)
    own = {
        "TMPDIR": str(folder / "tmp"),  # workers leave empty folders behind
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_API_URL": api_url,
    }
    box = Sandbox(api_url, folder, {**inherited, **_QUIET, **own, **(env or {})})
    try:
        box.start_server(wait)
        yield box
    finally:
        box.close()
        box.stop_server()


def stop(process: subprocess.Popen[bytes], started: Sequence[psutil.Process] = ()) -> None:
    """End a process politely, then make sure that nothing it started is left.

    Args:
        process: The process.
        started: What it had started earlier, where that is known.
    """
    started = [*started, *_family(process.pid)]
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in started:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue  # the usual case: it has ended with its parent
    psutil.wait_procs(started, timeout=_STOP_SECONDS)


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _spawn(args: list[str], *, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start ``python ARGS`` in its own session, its output in a log file.

    In its own session it does not get the terminal's Ctrl-C; we stop it in order. An ignored SIGINT
    (a run started with ``&`` from a script) would be inherited, and then a Prefect worker never
    ends on SIGTERM; so it is at its default while the child starts.
    """
    inherited = signal.getsignal(signal.SIGINT)
    if inherited is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603  our own interpreter and arguments
                [sys.executable, *args],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    finally:
        if inherited is signal.SIG_IGN:
            signal.signal(signal.SIGINT, inherited)


def free_port() -> int:
    """Return a loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_healthy(
    process: subprocess.Popen[bytes], api_url: str, log: Path, wait: Callable[[], None]
) -> None:
    deadline = time.monotonic() + _STARTUP_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Unavailable(
                f"The Prefect server ended with code {process.returncode}:\n{_tail(log)}"
            )
        if _answers(f"{api_url}/health"):
            return
        wait()
        time.sleep(0.25)
    raise Unavailable(
        f"The Prefect server was not healthy after {_STARTUP_SECONDS} s:\n{_tail(log)}"
    )


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])
