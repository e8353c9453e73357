"""Submit: another service asks for a run; it is planned first and created already at its time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.logging import get_logger
from prefect.states import Scheduled
from pydantic import BaseModel, ConfigDict

from carbon import BadInput, CarbonPolicy, DeadlinePassed, Decision
from deployments._errors import NotDeployed, PrefectUnavailable
from deployments._gate import planning
from deployments._hold import Hold, taken, waiting_state
from deployments._jobs import Job
from deployments._trigger import Trigger

_SUBMISSION = "carbon.submission"


class Submission(BaseModel):
    """A run that was asked for.

    Attributes:
        flow_run_id: Id of the entry run.
        name: Its name in the Prefect UI.
        created: False when this key had been submitted before; then the run is the first one.
        decision: What was decided now; for a duplicate, the first decision stands in the run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flow_run_id: UUID
    name: str
    created: bool
    decision: Decision


async def submit(
    job: Job,
    parameters: Mapping[str, Any] | None = None,
    *,
    policy: CarbonPolicy | None = None,
    data_class: str | None = None,
    key: str | None = None,
    release: datetime | None = None,
    trigger: Trigger | None = None,
) -> Submission:
    """Plan a run and create it at its time. Nothing is created when anything is wrong.

    Args:
        job: What to run.
        parameters: Parameters of the entry flow, without policy and data class.
        policy: How it may be placed; by default the job's own.
        data_class: Class of this run's data, on top of the workload's own.
        key: Names the logical run: the same key never makes a second one.
        release: When the run is wanted, aware; by default now. The deadline counts from here.
        trigger: For tests; by default the one that the environment describes.

    Raises:
        DeadlinePassed: The finish-by lies in the past.
        ResidencyError: No permitted pool can run a stage.
        BadInput: A parameter or setting is wrong.
        NotDeployed: The entry deployment is missing.
        PrefectUnavailable: The Prefect API did not answer.
    """
    trigger = trigger or Trigger.from_settings()
    policy = policy or job.policy
    now = trigger.clock.now()
    deadline = policy.deadline(release or now)
    if deadline <= now:
        raise DeadlinePassed(
            "finish_by",
            f"{deadline:%Y-%m-%d %H:%M} UTC is over (it is {now:%Y-%m-%d %H:%M} UTC)",
            "Give a later release or a longer finish_by.",
        )
    # Residency and fit are checked before the API is asked for anything.
    trigger.decide(job.workload, policy, deadline, data_class=data_class)
    given = {**(parameters or {}), "policy": policy.model_dump(mode="json")}
    if data_class is not None:
        given["data_class"] = data_class
    try:
        async with get_client() as client, planning(get_logger("carbon.submit")):
            deployment = await _deployment(client, job)
            return await _create(
                client, deployment, job, given, policy, deadline, data_class, key, trigger
            )
    except httpx.TransportError as error:
        raise PrefectUnavailable(
            f"The Prefect API did not answer ({type(error).__name__}). Check PREFECT_API_URL and the server."
        ) from error


async def _deployment(client: PrefectClient, job: Job) -> DeploymentResponse:
    try:
        return await client.read_deployment_by_name(job.entry_deployment)
    except ObjectNotFound as error:
        raise NotDeployed(job.entry_deployment) from error


async def _create(
    client: PrefectClient,
    deployment: DeploymentResponse,
    job: Job,
    parameters: dict[str, Any],
    policy: CarbonPolicy,
    deadline: datetime,
    data_class: str | None,
    key: str | None,
    trigger: Trigger,
) -> Submission:
    busy = await taken(client, trigger.clock.now())
    decision = trigger.decide(
        job.workload, policy, deadline, busy=busy, data_class=data_class
    ).decision
    waits = trigger.clock.wall(decision.chosen.start) > trigger.clock.wall(decision.decided_at)
    submission = uuid4().hex
    try:
        run = await client.create_flow_run_from_deployment(
            deployment.id,
            parameters=parameters,
            state=waiting_state(decision, trigger.clock) if waits else Scheduled(),
            idempotency_key=key,
            labels={**Hold.of(decision, deferrals=int(waits)).labels(), _SUBMISSION: submission},
        )
    except PrefectHTTPStatusError as error:
        raise _refused(error) from error
    return Submission(
        flow_run_id=run.id,
        name=run.name,
        created=run.labels.get(_SUBMISSION) == submission,
        decision=decision,
    )


def _refused(error: PrefectHTTPStatusError) -> BadInput | PrefectUnavailable:
    status = error.response.status_code
    if status in {httpx.codes.CONFLICT, httpx.codes.UNPROCESSABLE_ENTITY}:
        detail = error.response.json().get("detail", "")
        return BadInput(
            "parameters", f"the deployment refuses them: {detail}", "Correct the parameters."
        )
    return PrefectUnavailable(f"The Prefect API answered {status}. Try again, or look at its log.")
