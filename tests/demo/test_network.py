"""What leaves the machine: nothing. The demo listens on loopback only and calls nobody."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.conftest import ISLAND, Finished, Interrupted, without_network

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(500)]

_NO_NAMESPACE = (
    "`unshare --net` or `ip` does not work here: calls to the internet were not looked for"
)


def test_server_and_workers_listen_on_loopback_only(interrupted: Interrupted) -> None:
    """Every listening socket of the demo's processes is bound to loopback, the server's too."""
    assert interrupted.listening, "nothing listens, not even the server"
    found = {ip for ip, _ in interrupted.listening}
    assert {ip for ip in found if not ipaddress.ip_address(ip).is_loopback} == set()


def test_connections_from_outside_are_refused(interrupted: Interrupted) -> None:
    """On the machine's own outer addresses all of the demo's ports are closed."""
    if not interrupted.outer:
        pytest.skip("this machine has no address outside loopback: refusal was not tried")
    assert interrupted.open_outside == []


def test_demo_needs_no_network_and_does_not_try_to_call_out(finished: Finished) -> None:
    """Without a network it passes; it asks for no name and sends nothing that has no route."""
    if finished.attempts is None:
        pytest.skip(_NO_NAMESPACE)
    assert finished.code == 0, finished.demo.screen[-6000:]
    assert finished.attempts == {"names": [], "unroutable": 0}


@pytest.mark.parametrize(
    ("attempt", "seen"),
    [
        ("socket.create_connection(('127.0.0.1', 9), 1)", {"names": [], "unroutable": 0}),
        ("socket.gethostbyname('example.org')", {"names": ["example.org"], "unroutable": 0}),
        ("socket.create_connection(('192.0.2.7', 443), 1)", {"names": [], "unroutable": 1}),
        ("socket.create_connection(('2001:db8::1', 443), 1)", {"names": [], "unroutable": 1}),
    ],
)
def test_the_watch_sees_an_attempt(tmp_path: Path, attempt: str, seen: dict[str, object]) -> None:
    """A name that is looked up and an address that is called are seen; loopback is no attempt."""
    alone = without_network()
    if not alone:
        pytest.skip(_NO_NAMESPACE)
    report = tmp_path / "report.json"
    call = [sys.executable, "-c", f"import socket; {attempt}"]
    done = subprocess.run(
        [*alone, sys.executable, str(ISLAND), str(report), *call],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert json.loads(report.read_text()) == seen
