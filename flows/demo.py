"""The demo: a real Prefect server, real workers, and four runs that the trigger decides on.

``make demo`` starts it. It draws a small shop, or takes your pictures (``make demo IMAGES=folder``).
Everything lies under ``.carbon/demo`` and ends with it, also on Ctrl-C; ``--keep`` leaves the server
up until you press Ctrl-C, so that you can look around in the Prefect UI.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

from cyclopts import App, Parameter
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from rich.console import Console
from rich.markup import escape

from carbon import BadInput, CarbonAwareError, CarbonPolicy, ResidencyError, Strategy
from deployments import Settings, Submission, Trigger, submit
from deployments.sandbox import Sandbox, sandbox
from flows.image_embeddings import JOB, Published
from flows.image_embeddings.stages import resolve_folder
from flows.sample_shop import draw_catalogue
from work_pools import load_fleet

_PROJECT: Final = Path(__file__).parents[1]
_SPEED: Final = 600
_GRID_START: Final = datetime(2026, 6, 15, 7, 0, tzinfo=UTC)
_PATIENCE_SECONDS: Final = 180
_MARK: Final = ".carbon-demo"

_out = Console(highlight=False)
_app = App(name="demo", help=__doc__)


@_app.default
def demo(
    *,
    images: Annotated[Path | None, Parameter(help="Folder with your own product pictures.")] = None,
    keep: Annotated[bool, Parameter(help="Leave the server up until Ctrl-C.", negative="")] = False,
    folder: Annotated[Path, Parameter(help="Where everything lies.")] = Path(".carbon/demo"),
) -> None:
    """Place four runs in time and region, and carry them out with real Prefect workers."""
    began = time.monotonic()
    home = folder.absolute()
    pictures = _own_pictures(images)
    _fresh(home)
    shop = _shop(home, pictures)
    _say(
        "[bold]Carbon-aware flows, demo.[/] Prefect server, workers and the embedding model are real. The "
        "grid is a modelled typical day of June, replayed: [bold]1 s is 10 min[/]. Regions and GPU "
        "pools are played by processes on this machine."
    )
    settings = Settings(
        home=home,
        data_roots=tuple({path.resolve() for path in shop}),
        clock=f"{_GRID_START.isoformat()},{datetime.now(UTC).isoformat()},{_SPEED}",
    )
    with _step("Starting a Prefect server of its own"), _environment(settings):
        pass
    with _environment(settings) as env, _server(home, env) as box, box.connected():
        _deploy(box)
        asyncio.run(_story(Trigger.from_settings(settings), shop, home))
        _say(f"\nDone after {time.monotonic() - began:.0f} s. Pictures of the decisions: {home / 'decisions'}")
        if keep:
            _say(f"The Prefect UI is at [bold]{box.ui_url}[/] until you press Ctrl-C.")
            while True:
                time.sleep(1)
        _say("To look around in the Prefect UI: make demo ARGS=--keep")
