"""A PostgreSQL of one's own, for what SQLite cannot show: many at a time."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deployments.sandbox import free_port

PROGRAMS: Final = Path("/usr/lib/postgresql/15/bin")
USER: Final = "postgres"


def can_run(programs: Path) -> bool:
    """Tell whether it can be started here: its programs are there, and we are root."""
    return (programs / "initdb").is_file() and os.geteuid() == 0


@contextmanager
def database(folder: Path, programs: Path) -> Iterator[str]:
    """Run a PostgreSQL of its own, and give its address as Prefect wants it."""
    folder.mkdir()
    owner = pwd.getpwnam(USER)
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    port = free_port()

    def run(program: str, *args: str) -> None:
        subprocess.run(  # noqa: S603
            [programs / program, *args],
            user=USER,
            group=owner.pw_gid,
            extra_groups=[],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )

    run("initdb", "-D", "data", "-A", "trust", "-U", USER)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")
    try:
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", USER, "prefect")
        yield f"postgresql+asyncpg://{USER}@127.0.0.1:{port}/prefect"
    finally:
        run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
