"""Explain: why a run is where it is, read from the run itself."""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel, ConfigDict

from carbon import BadInput
from deployments._hold import Hold


class Explanation(BaseModel):
    """What a run says about its own plan.

    Attributes:
        flow_run_id: Id of the run.
        name: Its name.
        state: Name of its state.
        message: Message of that state.
        plan: The labels that carry its plan; empty for a run that no trigger has planned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flow_run_id: UUID
    name: str
    state: str
    message: str
    plan: dict[str, str | int | float]

    @property
    def text(self) -> str:
        """Return the explanation for a person."""
        lines = [f"{self.name} is {self.state}. {self.message}".strip()]
        if not self.plan:
            lines.append("The trigger has not planned this run (yet).")
        lines += [f"  {name:<18} {value}" for name, value in self.plan.items()]
        return "\n".join(lines)


async def explain_run(flow_run_id: UUID) -> Explanation:
    """Read a run's plan.

    Raises:
        BadInput: There is no such run.
    """
    async with get_client() as client:
        run = await find_run(client, flow_run_id)
    plan = Hold.told(run.labels)
    return Explanation(
        flow_run_id=run.id,
        name=run.name,
        state=run.state.name if run.state else "unknown",
        message=(run.state.message if run.state else None) or "",
        plan=plan,
    )


async def find_run(client: PrefectClient, flow_run_id: UUID) -> FlowRun:
    """Return a run that a person has named.

    Raises:
        BadInput: There is no such run.
    """
    try:
        return await client.read_flow_run(flow_run_id)
    except ObjectNotFound as error:
        raise BadInput(
            "flow_run", f"there is no run {flow_run_id}", "Copy the id from the run's page."
        ) from error
