"""A person steps in: start a waiting run at once."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas import OrchestrationResult
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import Scheduled

from carbon import BadInput
from deployments._explain import find_run
from deployments._hold import WANTED_NOW


async def start_run(flow_run: str) -> FlowRun:
    """Let a waiting run start at once, whatever its gate would plan.

    Args:
        flow_run: Its id, its name, or the address of its page.

    Returns:
        The run as it was.

    Raises:
        BadInput: There is no such run, or it does not wait.
    """
    async with get_client() as client:
        run = await find_run(client, flow_run)
        state = run.state.name if run.state else "without a state"
        if run.state is None or run.state.type is not StateType.SCHEDULED:
            raise BadInput(
                "flow_run", f"{run.name} is {state}", "Only a waiting run can be started."
            )
        # Before it can wake: a run that the trigger has not planned yet shows no other sign.
        await client.update_flow_run_labels(run.id, {WANTED_NOW: True})
        answer: OrchestrationResult[Any] = await client.set_flow_run_state(run.id, Scheduled())
        if answer.status is not SetStateStatus.ACCEPT:
            raise BadInput("flow_run", f"Prefect does not start {run.name} now", "Try again.")
    return run
