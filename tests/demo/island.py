"""Run a command on a machine without a network, and write down every attempt to leave it.

::

    unshare --net python tests/demo/island.py REPORT.json COMMAND ...

Only loopback is up. Name servers are played by this program, which notes what is asked for and
refuses to answer; for everything else the kernel counts the packets that had nowhere to go.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

_RESPONSE_REFUSED = b"\x81\x05"


def main() -> int:
    """Run the command, write the report, and return the command's exit code."""
    report, *command = sys.argv[1:]
    _ip("link", "set", "lo", "up")
    servers = re.findall(r"^nameserver\s+(\S+)", Path("/etc/resolv.conf").read_text(), re.MULTILINE)
    for server in servers:
        address = ipaddress.ip_address(server.partition("%")[0])
        if not address.is_loopback:
            _ip("addr", "add", f"{address}/{address.max_prefixlen}", "dev", "lo")
    asked: set[str] = set()
    threading.Thread(target=_refuse_names, args=(_name_server(), asked), daemon=True).start()
    before = _unroutable()
    code = subprocess.run(command, check=False).returncode
    told = {"names": sorted(asked), "unroutable": _unroutable() - before}
    Path(report).write_text(json.dumps(told))
    return code


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _name_server() -> socket.socket:
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", 53))
    return server


def _refuse_names(server: socket.socket, asked: set[str]) -> None:
    while True:
        query, sender = server.recvfrom(4096)
        asked.add(_name(query))
        server.sendto(query[:2] + _RESPONSE_REFUSED + query[4:], sender)


def _name(query: bytes) -> str:
    labels: list[str] = []
    at = 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode(errors="replace"))
        at += 1 + query[at]
    return ".".join(labels)


def _unroutable() -> int:
    """Return how many packets had no route, as the kernel counts them for this namespace."""
    names, values = re.findall(r"^Ip: (.*)$", Path("/proc/net/snmp").read_text(), re.MULTILINE)
    four = dict(zip(names.split(), values.split(), strict=True))["OutNoRoutes"]
    six = re.search(r"^Ip6OutNoRoutes\s+(\d+)", _text("/proc/net/snmp6"), re.MULTILINE)
    return int(four) + int(six[1] if six else 0)


def _text(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


if __name__ == "__main__":
    sys.exit(main())
