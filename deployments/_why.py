"""Why a run is where it is, read from the run itself; also long after it has ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel, ConfigDict

from carbon import BadInput
from deployments._hold import Hold
from deployments._mode import PINNED

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TOLD = {
    "job": "Job",
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


class Told(BaseModel):
    """One decision on a run.

    Attributes:
        at: When it was made, by the wall clock.
        headline: What was decided.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime
    headline: str


class Past(BaseModel):
    """A state that a run has been in.

    Attributes:
        at: Since when, by the wall clock.
        state: Its name.
        message: What was said of it, by whoever has set it; empty where nothing was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime
    state: str
    message: str


class Explanation(BaseModel):
    """What a run says about its own plan.

    Attributes:
        flow_run_id: Id of the run.
        name: Its name.
        state: Name of its state.
        ended: Whether it has ended.
        stage_of: Name of the run that it is a stage of, whose plan is told then; empty for a run of
            its own.
        message: Message of that state.
        pinned: The region that a person has pinned it to; empty without one.
        plan: The labels that carry its plan; empty for a run that no trigger has planned.
        decisions: What was decided on it, the first one first.
        history: The states that it has been in, the first one first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flow_run_id: UUID
    name: str
    state: str
    ended: bool
    stage_of: str
    message: str
    pinned: str = ""
    plan: dict[str, str | int | float]
    decisions: tuple[Told, ...] = ()
    history: tuple[Past, ...] = ()

    @property
    def text(self) -> str:
        """Return the explanation for a person."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.name} is {self.state}. {self.message}".strip()
        if self.stage_of:
            yield f"It is a stage of {self.stage_of}, whose plan this is:"
        elif not self.plan:
            yield (
                "The trigger never planned this run."
                if self.ended
                else "The trigger has not planned this run yet."
            )
        elif self.ended:
            yield "The last plan that it carried:"
        yield from self._plan_lines()
        if len(self.decisions) > 1:
            yield "What was decided:"
            for told in self.decisions:
                yield f"  {told.at:%a %Y-%m-%d %H:%M} UTC  {told.headline}"
        if self.history:
            yield "What has happened to it:"
            for past in self.history:
                yield f"  {past.at:%a %Y-%m-%d %H:%M:%S} UTC  {past.state}. {past.message}".rstrip()

    def _plan_lines(self) -> Iterator[str]:
        if self.pinned:
            yield f"A person has pinned it to {self.pinned} (carbon pin)."
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
        entry = await _entry(client, run)
        decisions = await _decisions(client, entry)
        states = await client.read_flow_run_states(run.id)
    return Explanation(
        flow_run_id=run.id,
        name=run.name,
        state=run.state.name if run.state else "unknown",
        ended=run.state is not None and run.state.is_final(),
        stage_of=entry.name if entry.id != run.id else "",
        message=(run.state.message if run.state else None) or "",
        pinned=str(entry.labels.get(PINNED) or ""),
        plan={**Hold.told(entry.labels), **Hold.told(run.labels)},  # a stage has its segments
        decisions=decisions,
        history=tuple(
            Past(at=one.timestamp, state=one.name or one.type.value, message=one.message or "")
            for one in sorted(states, key=lambda one: one.timestamp)
        ),
    )


async def _entry(client: PrefectClient, run: FlowRun) -> FlowRun:
    """Return the run that a run is a stage of; itself where it is none, or that one is gone."""
    if run.parent_task_run_id is None:
        return run
    try:
        task_run = await client.read_task_run(run.parent_task_run_id)
        return await client.read_flow_run(task_run.flow_run_id) if task_run.flow_run_id else run
    except ObjectNotFound:
        return run


async def _decisions(client: PrefectClient, run: FlowRun) -> tuple[Told, ...]:
    """Return what was decided on a run, from its artifacts."""
    own = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]),
        key=ArtifactFilterKey(like_="decision-%"),
    )
    found = await client.read_artifacts(artifact_filter=own, limit=200)
    told = [Told(at=one.created, headline=one.description or "") for one in found if one.created]
    return tuple(sorted(told, key=lambda one: one.at))


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
