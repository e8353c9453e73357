"""The keeper as a flow; its deployment is rendered with those of the jobs, every five minutes.

It may be paused or deleted: then waiting runs start at their time, as they were planned.
"""

from __future__ import annotations

from typing import Final

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed

from deployments._jobs import jobs
from deployments._keeper import keep
from deployments._trigger import Trigger

KEEPER: Final = "carbon-keeper"
"""Name of its flow."""


@flow(name=KEEPER, timeout_seconds=240)
async def keeper() -> State[None]:
    """Bring all waiting runs in line with what is known now."""
    log = get_run_logger()
    trigger = Trigger.for_run()
    await trigger.refresh()
    async with get_client() as client:
        report = await keep(client, trigger, jobs(), log)
    log.info(report.headline)
    return Completed(message=report.headline)
