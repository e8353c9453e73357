"""Submit: another service asks for a run; it is planned first and created already at its time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.logging import get_logger
from prefect.states import Scheduled
from pydantic import BaseModel, ConfigDict

from carbon import BadInput, CarbonPolicy, DeadlinePassed, Decision, Reservation
from deployments._artifacts import publish_decision
from deployments._errors import NotDeployed, PrefectUnavailable
from deployments._gate import planning
from deployments._hold import Hold, taken, waiting_state
from deployments._jobs import Job
from deployments._parameters import require_parameters
from deployments._trigger import Trigger, Verdict

_SUBMISSION = "carbon.submission"


class Submission(BaseModel):
    """A run that was asked for.

    Attributes:
        flow_run_id: Id of the entry run.
        name: Its name in the Prefect UI.
        created: False when this key had been submitted before; then the run is the first one.
        state: Name of its state.
        decision: What was decided; ``None`` for a run that was there already, which carries its own
            (``carbon why``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flow_run_id: UUID
    name: str
    created: bool
    state: str
    decision: Decision | None


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
        policy: How it may be placed; what it leaves out is as in the job's policy.
        data_class: Class of this run's data, on top of the workload's own.
        key: Names the logical run: the same key never makes a second one. Not empty.
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
    policy = job.policy_for(policy)
    _require_arguments(parameters or {}, key)
    now = trigger.clock.now()
    deadline = policy.deadline(release or now)
    if deadline <= now:
        raise DeadlinePassed(
            "finish_by",
            f"{deadline:%Y-%m-%d %H:%M} UTC is over (it is {now:%Y-%m-%d %H:%M} UTC)",
            "Give a later release or a longer finish_by.",
        )
    request = _Request(
        job, dict(parameters or {}), policy, release, deadline, data_class, key, trigger
    )
    # All that can be refused here is refused before the API is asked for anything.
    require_parameters(job, request.given(), trigger.settings)
    request.decide(())
    await trigger.refresh()
    try:
        async with get_client() as client:
            return await request.create(client, await request.deployment(client))
    except httpx.TransportError as error:
        raise PrefectUnavailable.of(error) from error
    except PrefectHTTPStatusError as error:
        raise _refused(error) from error


def _require_arguments(parameters: Mapping[str, Any], key: str | None) -> None:
    """Refuse what would be planned without, or would make every repetition a run of its own."""
    for name, flags in (("policy", "--strategy, --finish-by and so on"), ("data_class", "")):
        if name in parameters:
            raise BadInput(
                f"parameters.{name}",
                "decides where the run may be, so it is no plain parameter",
                f"Give it as the argument {name}; on the command line {flags or '--data-class'}.",
            )
    if key is not None and not key.strip():
        raise BadInput(
            "key", "is empty, so a repeated request would make a second run", "Name the run."
        )


@dataclass(frozen=True)
class _Request:
    """One run that was asked for."""

    job: Job
    parameters: dict[str, Any]
    policy: CarbonPolicy
    release: datetime | None
    deadline: datetime
    data_class: str | None
    key: str | None
    trigger: Trigger

    def decide(self, busy: tuple[Reservation, ...]) -> Verdict:
        return self.trigger.decide(
            self.job.workload,
            self.policy,
            self.deadline,
            release=self.release,
            busy=busy,
            data_class=self.data_class,
        )

    async def create(self, client: PrefectClient, deployment: DeploymentResponse) -> Submission:
        """Create the run at the start that is planned now."""
        async with planning(get_logger("carbon.submit")):
            verdict = self.decide(await taken(client, self.trigger.clock.now()))
            run, created = await self._create(client, deployment, verdict.decision)
        if created:
            await publish_decision(
                client, verdict, self.trigger.settings, run_id=run.id, title=run.name
            )
        return Submission(
            flow_run_id=run.id,
            name=run.name,
            created=created,
            state=(run.state.name if run.state else None) or "unknown",
            decision=verdict.decision if created else None,
        )

    async def _create(
        self, client: PrefectClient, deployment: DeploymentResponse, decision: Decision
    ) -> tuple[FlowRun, bool]:
        """Return the run of this key, and whether it is new."""
        waits = decision.chosen.start > decision.decided_at
        hold = Hold.of(decision, deferrals=int(waits))
        submission = uuid4().hex
        run = await client.create_flow_run_from_deployment(
            deployment.id,
            parameters=self.given(),
            state=waiting_state(decision, self.trigger.clock) if waits else Scheduled(),
            # Without a key of the caller's, a request that the client repeats is one run too.
            idempotency_key=self.key or submission,
            labels={**hold.labels(), _SUBMISSION: submission},
        )
        return run, run.labels.get(_SUBMISSION) == submission

    def given(self) -> dict[str, Any]:
        """Return all parameters of the entry flow."""
        own: dict[str, Any] = {"policy": self.policy.model_dump(mode="json")}
        if self.data_class is not None:
            own["data_class"] = self.data_class
        return {**self.parameters, **own}

    async def deployment(self, client: PrefectClient) -> DeploymentResponse:
        """Return the job's entry deployment."""
        try:
            return await client.read_deployment_by_name(self.job.entry_deployment)
        except ObjectNotFound as error:
            raise NotDeployed(self.job.entry_deployment) from error


def _refused(error: PrefectHTTPStatusError) -> BadInput | PrefectUnavailable:
    status = error.response.status_code
    if status in {httpx.codes.CONFLICT, httpx.codes.UNPROCESSABLE_ENTITY}:
        detail = error.response.json().get("detail", "")
        problem = f"the deployment refuses them: {detail}"
        return BadInput("parameters", problem, "Correct the parameters.")
    return PrefectUnavailable.of(error)
