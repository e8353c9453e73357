"""What leaves the machine: nothing. The demo listens on loopback only and calls nobody."""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path

import psutil
import pytest

from tests.demo.running import Demo, Jail

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(600)]

_CONNECT = re.compile(r"connect\(.*sin6?_port=htons\((\d+)\).*?\"([0-9a-fA-F.:]+)\"")
_DNS = 53


def test_server_and_workers_listen_on_loopback_only(interrupted: Demo) -> None:
    """Every listening socket of the demo's processes is bound to loopback, the server's too."""
    addresses = _listening(interrupted)
    assert addresses, "nothing listens, not even the server"
    assert {ip for ip, _ in addresses if not ipaddress.ip_address(ip).is_loopback} == set()


def test_server_refuses_connections_to_the_outer_address(interrupted: Demo) -> None:
    """On the machine's own outer addresses the server's port is closed."""
    outer = _outer_addresses()
    if not outer:
        pytest.skip("this machine has no address outside loopback: refusal was not tried")
    ports = {port for _, port in _listening(interrupted)}
    for address in outer:
        for port in ports:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, port), timeout=5)


def test_demo_needs_no_network(finished: tuple[Demo, int, float], jail: Jail) -> None:
    """The whole demo passes in a network namespace that has only loopback."""
    if not jail.block:
        pytest.skip("`unshare --net` does not work here: the demo was not run without a network")
    demo, code, _ = finished
    assert code == 0, demo.screen[-6000:]


def test_demo_does_not_even_try_to_call_out(finished: tuple[Demo, int, float], jail: Jail) -> None:
    """No process of the demo connects to anything but loopback, and none asks a name server."""
    del finished
    if not jail.watch:
        pytest.skip("strace does not work here: attempts to call out were not looked for")
    tried = _connects(jail.trace)
    assert len(tried) > 50, "the trace is empty: strace saw nothing of the demo"
    assert sorted({(ip, port) for ip, port in tried if _is_outside(ip, port)}) == []


@pytest.mark.parametrize(
    ("address", "outside"),
    [
        ('sa_family=AF_INET, sin_port=htons(4200), sin_addr=inet_addr("127.0.0.1")', False),
        ('sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.7")', True),
        ('sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")', True),
        ('sa_family=AF_INET6, sin6_port=htons(443), inet_pton(AF_INET6, "2001:db8::1", &x)', True),
        ('sa_family=AF_INET6, sin6_port=htons(80), inet_pton(AF_INET6, "::1", &sin6_addr)', False),
    ],
)
def test_trace_is_read_right(tmp_path: Path, address: str, outside: bool) -> None:
    """Outer addresses and name servers count as calls out, loopback does not."""
    trace = tmp_path / "trace"
    local = '12 connect(4, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = 0'
    trace.write_text(f"{local}\n12 connect(3, {{{address}}}, 16) = -1 ENETUNREACH\n")
    ((ip, port),) = _connects(trace)
    assert _is_outside(ip, port) is outside


def _listening(demo: Demo) -> set[tuple[str, int]]:
    return {
        (connection.laddr.ip, connection.laddr.port)
        for process in demo.processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def _outer_addresses() -> list[str]:
    """Return this machine's own addresses that others can reach."""
    found = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in {socket.AF_INET, socket.AF_INET6}
    ]
    kept = [ipaddress.ip_address(text.partition("%")[0]) for text in found]
    return [str(ip) for ip in kept if not ip.is_loopback and not ip.is_link_local]


def _connects(trace: Path) -> list[tuple[str, int]]:
    return [(found[2], int(found[1])) for found in _CONNECT.finditer(trace.read_text())]


def _is_outside(ip: str, port: int) -> bool:
    return port == _DNS or not ipaddress.ip_address(ip).is_loopback
