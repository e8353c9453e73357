"""Explain: why a run is where it is, read from the run itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel, ConfigDict

from carbon import BadInput
from deployments._hold import Hold

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TOLD = {
    "reason": "Why",
    "pool": "Pool",
    "region": "Region",
    "start": "Planned start",
    "segments": "In segments",
    "end": "Expected end",
    "latest_safe_start": "Latest safe start",
    "deadline": "Deadline",
    "expected_g": "Expected gCO2e",
    "expected_usd": "Expected USD",
    "breaches": "Gave way",
    "degraded": "Notes",
    "outlook": "Numbers from",
}


class Explanation(BaseModel):
    """What a run says about its own plan.

    Attributes:
        flow_run_id: Id of the run.
        name: Its name.
        state: Name of its state.
        ended: Whether it has ended.
        stage_of: Id of the task run that it is a stage of; ``None`` for a run of its own.
        message: Message of that state.
        plan: The labels that carry its plan; empty for a run that no trigger has planned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flow_run_id: UUID
    name: str
    state: str
    ended: bool
    stage_of: UUID | None
    message: str
    plan: dict[str, str | int | float]

    @property
    def text(self) -> str:
        """Return the explanation for a person."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.name} is {self.state}. {self.message}".strip()
        if self.stage_of:
            yield "It is a stage of another run: see the plan of the run that it belongs to."
        elif not self.plan:
            yield (
                "The trigger never planned this run."
                if self.ended
                else "The trigger has not planned this run yet."
            )
        elif self.ended:
            yield "The last plan that it carried:"
        for key, title in _TOLD.items():
            value = self.plan.get(key)
            if value not in {None, "none", "no"}:
                yield f"  {title:<18} {_readable(value)}"


def _readable(value: object) -> str:
    """Return a label's value, moments to the minute."""
    try:
        return f"{datetime.fromisoformat(str(value)):%a %Y-%m-%d %H:%M} UTC"
    except ValueError:
        return str(value)


async def explain_run(flow_run: str) -> Explanation:
    """Read a run's plan.

    Args:
        flow_run: Its id, its name, or the address of its page.

    Raises:
        BadInput: There is no such run.
    """
    async with get_client() as client:
        run = await find_run(client, flow_run)
    return Explanation(
        flow_run_id=run.id,
        name=run.name,
        state=run.state.name if run.state else "unknown",
        ended=run.state is not None and run.state.is_final(),
        stage_of=run.parent_task_run_id,
        message=(run.state.message if run.state else None) or "",
        plan=Hold.told(run.labels),
    )


async def find_run(client: PrefectClient, flow_run: str) -> FlowRun:
    """Return a run that a person has named, by its id, its name or the address of its page.

    Raises:
        BadInput: There is no such run, or several of this name.
    """
    if found := _UUID.search(flow_run):
        try:
            return await client.read_flow_run(UUID(found[0]))
        except ObjectNotFound as error:
            raise BadInput(
                "flow_run", f"there is no run {found[0]}", "Copy the id from the run's page."
            ) from error
    named = FlowRunFilter(name=FlowRunFilterName(any_=[flow_run]))
    runs = await client.read_flow_runs(flow_run_filter=named, limit=2)
    if len(runs) == 1:
        return runs[0]
    problem = "several runs are" if runs else "no run is"
    raise BadInput(
        "flow_run", f"{problem} named {flow_run!r}", "Give its id, or the address of its page."
    )
