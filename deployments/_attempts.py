"""Attempts: the runs of one stage for one entry run, one after the other, each with its own key.

Prefect makes at most one run for an idempotency key, so an attempt is one run whoever asks for it,
how often and for which pool. The next number is used only when the run before has ended for good.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled

_MOST: Final = 50
"""Attempts of a stage; more of them need a new entry run."""

_WITHDRAWN: Final = "carbon.withdrawn"
MARK: Final[dict[str, str | int | float]] = {_WITHDRAWN: True}
"""Label of a run that another one stands in for; the guard does not let it begin."""

_STATE: Final = "Withdrawn"
"""Name of the Cancelled state of a run that never began and that another one stands in for."""


def withdrawal(why: str) -> State[None]:
    """Return the state of a run that did not begin and that another one stands in for."""
    return Cancelled(name=_STATE, message=f"{why} Another run of this stage takes over.")


def lost(run: FlowRun) -> bool:
    """Tell whether a stage can only go on in another run: this one crashed or was withdrawn."""
    state = run.state
    return state is not None and (state.is_crashed() or state.name == _STATE)


def key(entry_id: UUID, stage: str, number: int = 0) -> str:
    """Return what names an attempt, whatever its pool and its parameters."""
    return f"{entry_id}/{stage}/{number}" if number else f"{entry_id}/{stage}"


def spent(run: FlowRun) -> bool:
    """Tell whether a run is the last attempt that there may be."""
    return number_of(run) + 1 >= _MOST


def number_of(run: FlowRun) -> int:
    """Return the number of the attempt that a run is."""
    *_, number = f"{run.idempotency_key}/0".split("/")[:3]
    return int(number)


def entry_of(run: FlowRun) -> UUID | None:
    """Return the entry run whose stage a run is; ``None`` for any other run."""
    entry, slash, _ = (run.idempotency_key or "").partition("/")
    try:
        return UUID(entry) if slash and run.parent_task_run_id else None
    except ValueError:
        return None


def stage_of(run: FlowRun) -> str:
    """Return which stage of its entry run a run is."""
    return (run.idempotency_key or "").split("/")[1]


async def replaced(client: PrefectClient, run: FlowRun) -> bool:
    """Tell whether another attempt stands in for this one, or is about to."""
    if run.labels.get(_WITHDRAWN) is True:
        return True
    # A label may be lost where two write labels at the same moment; a run may not.
    entry, stage, *_ = (run.idempotency_key or "").split("/")
    last = await latest(client, UUID(entry), stage)
    return last is not None and number_of(last) > number_of(run)


async def latest(client: PrefectClient, entry_id: UUID, stage: str) -> FlowRun | None:
    """Return the last attempt of a stage, if there is one."""
    keys = [key(entry_id, stage, number) for number in range(_MOST)]
    same = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=keys))
    found = await client.read_flow_runs(flow_run_filter=same, limit=_MOST)
    return max(found, key=number_of, default=None)
