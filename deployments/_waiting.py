"""Entry runs that wait: what they are, what they were promised, and how much slack is left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from prefect.client.schemas.objects import FlowRun, StateType
from pydantic import ValidationError

from carbon import CarbonPolicy
from deployments._hold import AWAITING, HELD, HELD_LABEL, Hold
from deployments._mode import pinned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from carbon import Clock
    from deployments._jobs import Job

_RUN_SUBMITTED: Final = timedelta(seconds=45)
"""Workers fetch runs 10 s before they are due: from so long before that nobody re-times them."""


@dataclass(frozen=True)
class Waiting:
    """A run that waits for its planned start, or that should have started.

    Attributes:
        run: The run.
        hold: The plan that it carries.
        job: Its job.
        policy: Its own policy, as a person who has pinned it wants it.
        due: When Prefect starts it, by the wall clock.
    """

    run: FlowRun
    hold: Hold
    job: Job
    policy: CarbonPolicy
    due: datetime

    @property
    def data_class(self) -> str | None:
        """Class of its data, on top of the job's own."""
        given = self.run.parameters.get("data_class")
        return given if isinstance(given, str) else None

    @property
    def held(self) -> bool:
        """Whether a person's switch holds it back."""
        return self.run.labels.get(HELD_LABEL) is True

    @property
    def planned(self) -> bool:
        """Whether it waits for a start that the trigger has chosen."""
        return self.run.state_name in {AWAITING, HELD}

    @property
    def imminent(self) -> bool:
        """Whether a worker has it already, or will in a moment."""
        scheduled = self.run.state is not None and self.run.state.type is StateType.SCHEDULED
        return not scheduled or self.due - datetime.now(UTC) < _RUN_SUBMITTED

    def moved_by_hand(self, clock: Clock) -> bool:
        """Tell whether a person has given it another time than its plan's."""
        return abs(self.due - clock.wall(self.hold.start)) > timedelta(seconds=1)

    def slack(self, clock: Clock) -> timedelta:
        """Return how long it may still wait, in grid time; below zero when it is late."""
        return self.hold.latest_safe_start - clock.now()


def waiting(runs: Iterable[FlowRun], jobs: Mapping[str, Job]) -> Iterator[Waiting]:
    """Yield those of some live runs that are entry runs of known jobs and have not gone."""
    for run in runs:
        hold = Hold.read(run.labels)
        job = jobs.get(str(hold.decision.get("job"))) if hold else None
        if hold is None or job is None or run.state is None or hold.went:
            continue
        if run.state.type not in {StateType.SCHEDULED, StateType.PENDING}:
            continue
        due = run.state.state_details.scheduled_time or run.state.timestamp
        yield Waiting(run, hold, job, pinned(_policy(run, job), run.labels), due)


def _policy(run: FlowRun, job: Job) -> CarbonPolicy:
    """Return the policy that a run was given; the job's own where it cannot be read."""
    try:
        return job.policy_for(CarbonPolicy.model_validate(run.parameters.get("policy") or {}))
    except (ValidationError, ValueError):
        return job.policy
