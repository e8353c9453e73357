"""One run that was asked for: how it is planned, and how it is created."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.states import Scheduled

from carbon import CarbonPolicy, Decision, Reservation
from deployments._hold import Hold, waiting_state
from deployments._jobs import Job
from deployments._mode import Switch
from deployments._trigger import Trigger, Verdict

_SUBMISSION: Final = "carbon.submission"


@dataclass(frozen=True)
class Order:
    """One run that was asked for.

    Attributes:
        job: What to run.
        parameters: Parameters of the entry flow, without policy and data class.
        policy: How it may be placed.
        release: When it is wanted; ``None`` for now.
        deadline: Latest acceptable finish.
        data_class: Class of this run's data, on top of the workload's own.
        key: The caller's name of the logical run.
        trigger: What decides.
        submission: Names this very submission, however often it is sent.
    """

    job: Job
    parameters: dict[str, Any]
    policy: CarbonPolicy
    release: datetime | None
    deadline: datetime
    data_class: str | None
    key: str | None
    trigger: Trigger
    submission: str = field(default_factory=lambda: uuid4().hex)

    def decide(self, busy: tuple[Reservation, ...], switch: Switch | None = None) -> Verdict:
        """Return the decision, with the slots that others hold, as a person's switch wants it."""
        return self.trigger.decide(
            self.job.workload,
            switch.policy(self.policy) if switch else self.policy,
            self.deadline,
            release=self.release,
            busy=busy,
            data_class=self.data_class,
        )

    async def create(
        self, client: PrefectClient, deployment: UUID, decision: Decision
    ) -> tuple[FlowRun, bool]:
        """Return the run of this key, and whether it is new.

        It may be called again, and the client may repeat its request, when an answer was lost: the
        key stays the same, so there is one run, and its label tells whose it is.
        """
        waits = decision.chosen.start > decision.decided_at
        hold = Hold.of(decision, deferrals=int(waits))
        run = await client.create_flow_run_from_deployment(
            deployment,
            parameters=self.given(),
            state=waiting_state(decision, self.trigger.clock) if waits else Scheduled(),
            # Without a key of the caller's, a request that the client repeats is one run too.
            idempotency_key=self.key or self.submission,
            labels={**hold.labels(), _SUBMISSION: self.submission},
        )
        return run, run.labels.get(_SUBMISSION) == self.submission

    def given(self) -> dict[str, Any]:
        """Return all parameters of the entry flow."""
        own: dict[str, Any] = {"policy": self.policy.model_dump(mode="json")}
        if self.data_class is not None:
            own["data_class"] = self.data_class
        return {**self.parameters, **own}
