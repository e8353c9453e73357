"""The command ``carbon``: what it needs takes seconds to import, and Ctrl-C may come meanwhile.

It stands here because every other package loads much when it is first named.
"""

from __future__ import annotations

import sys

_STOPPED = 130


def main() -> None:
    """Run the command line; who interrupts it, at whatever moment, sees no traceback."""
    try:
        from deployments.cli import main as command  # noqa: PLC0415 - this is what takes long

        command()
    except KeyboardInterrupt:
        sys.exit(_STOPPED)
