"""A run that is refused leaves word of it: an artifact, a line in its log, and an event."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from prefect.client.schemas.actions import ArtifactCreate
from prefect.logging import get_run_logger

from carbon import CarbonAwareError, ResidencyError
from deployments._events import Event, emit
from deployments._shown import best_effort, plain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun


@asynccontextmanager
async def refusals_told(
    client: PrefectClient, run: FlowRun | None, job: str
) -> AsyncIterator[None]:
    """Tell of an error that the trigger ends a run with, and raise it again.

    Args:
        client: Prefect client.
        run: The run; without one there is nobody to tell it to.
        job: Name of its job.
    """
    try:
        yield
    except CarbonAwareError as error:
        if run is not None:
            with best_effort("The refusal"):
                get_run_logger().error("The run does not go on: %s", error)
                if isinstance(error, ResidencyError):
                    emit(Event.REFUSED, run, job, problem=str(error))
                await client.create_artifact(
                    ArtifactCreate(
                        key=f"decision-{job}",
                        type="markdown",
                        description="The run was refused",
                        data=f"## {plain(job)} was refused\n\n{plain(str(error))}",
                        flow_run_id=run.id,
                    )
                )
        raise
