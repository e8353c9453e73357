"""Status: what is told of runs that nobody starts, on any terminal."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, WorkPool, WorkPoolStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import Pending, Running, Scheduled
from rich.console import Console

from deployments import _screen
from deployments._waiting import untaken_why


def run(state: Any, name: str = "late") -> FlowRun:  # noqa: ANN401  of any kind
    """Return a run in a pool."""
    return FlowRun(flow_id=uuid4(), name=name, state=state, work_pool_name="gpu")


def why(pool: WorkPool | Exception, own: FlowRun, *live: FlowRun) -> str:
    """Return what is told of a run; the client knows nothing but its pool."""
    client = AsyncMock()
    client.read_work_pool.side_effect = [pool]
    return asyncio.run(untaken_why(client, own, (own, *live)))


def pool(**changes: object) -> WorkPool:
    """Return a pool with a worker and room for two."""
    given: dict[str, Any] = {"concurrency_limit": 2, "status": WorkPoolStatus.READY} | changes
    return WorkPool(name="gpu", type="process", base_job_template={}, **given)


def test_it_is_told_what_a_run_waits_for() -> None:
    """Its worker, or what its pool lacks; a full one is told with who fills it."""
    own = run(Scheduled())
    assert why(pool(is_paused=True), own) == "pool gpu is paused"
    assert why(pool(status=WorkPoolStatus.NOT_READY), own) == "pool gpu has no worker"
    others = [run(Running(), "one"), run(Pending(), "two")]
    assert why(pool(), own, *others) == "pool gpu is full: one, two"
    assert why(pool(), own, others[0]) == "no worker of pool gpu has taken it"
    assert why(pool(concurrency_limit=None), own, *others) == "no worker of pool gpu has taken it"
    assert why(ObjectNotFound(Exception()), own) == "there is no pool gpu"
    assert "took it at" in why(pool(), run(Pending()))


@pytest.mark.parametrize("width", [80, 200])
def test_names_are_whole_on_any_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    """They are copied into `carbon why`."""
    monkeypatch.setattr(_screen, "out", Console(width=width))
    name = "sympathetic-griffin-of-the-north"
    row = {"run": name, "job": "image-embeddings", "state": "AwaitingCleanWindow"}
    row |= {"starts (UTC)": "Tue 01 Dec 17:10", "why": "The best start and place. " * 5}
    _screen.show_rows([row, row])
    printed = capsys.readouterr().out
    assert printed.count(name) == 2
    assert "Tue 01 Dec 17:10" in printed
