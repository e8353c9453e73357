"""Jobs: workloads together with the flows that carry them out.

A package announces its jobs in ``pyproject.toml``::

    [project.entry-points."carbon_aware_flows.jobs"]
    image-embeddings = "flows.image_embeddings:JOB"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from carbon import BadInput, CarbonPolicy, Urgency, Workload
from deployments._settings import Settings

GROUP = "carbon_aware_flows.jobs"


class Schedule(BaseModel):
    """When the entry deployment creates runs.

    Attributes:
        slug: Stable name, so that a redeploy updates the schedule instead of adding one.
        cron: Five-field cron expression.
        timezone: Zone that the expression is read in.
        active: Whether it creates runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slug: str
    cron: str
    timezone: str = "UTC"
    active: bool = True


def accept(parameters: Mapping[str, Any], settings: Settings) -> None:
    """Accept any parameters; the flow's own types still hold."""
    del parameters, settings


class Job(BaseModel):
    """A workload and its flows.

    Attributes:
        workload: What it needs.
        description: One sentence for the Prefect UI.
        entrypoint: Module path of the entry flow.
        heavy: Name of each heavy stage to the module path of its execution flow.
        policy: Default policy of the deployment.
        check: Refuses parameters of the entry flow with a ``BadInput``; called before a run is
            created, and by the entry flow before it waits.
        schedules: When runs are created.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    workload: Workload
    description: str
    entrypoint: str
    heavy: dict[str, str] = Field(default_factory=dict)
    policy: CarbonPolicy = CarbonPolicy()
    check: Callable[[Mapping[str, Any], Settings], None] = accept
    schedules: Annotated[tuple[Schedule, ...], Field()] = ()

    @model_validator(mode="after")
    def _flows_for_heavy_stages(self) -> Self:
        stages = {stage.name for stage in self.workload.stages if stage.heavy}
        if stages != set(self.heavy):
            raise BadInput(
                "heavy",
                f"names {sorted(self.heavy)}, but the heavy stages are {sorted(stages)}",
                "Name one execution flow for each heavy stage.",
            )
        return self

    @model_validator(mode="after")
    def _nobody_waits_for_it(self) -> Self:
        if self.workload.urgency is Urgency.INTERACTIVE:
            raise BadInput(
                "workload.urgency",
                f"{self.workload.name!r} is interactive, so it is never deferred and never moved",
                "Deploy its flow with Prefect alone, or declare it urgent: then it starts at once, "
                "in the cleanest permitted place.",
            )
        return self

    @property
    def name(self) -> str:
        """Name of the workload and of its entry flow."""
        return self.workload.name

    def policy_for(self, given: CarbonPolicy | None) -> CarbonPolicy:
        """Return the policy of one run: what was given for it, over the job's own.

        Raises:
            BadInput: The two do not go together.
        """
        return given.over(self.policy) if given else self.policy

    @property
    def entry_deployment(self) -> str:
        """Full name of the entry deployment."""
        return f"{self.name}/entry"

    def execution_flow(self, stage: str) -> str:
        """Return the name of the flow that runs a heavy stage."""
        return f"{self.name}-{stage}"

    def execution_deployment(self, stage: str, pool: str) -> str:
        """Return the full name of a heavy stage's deployment in a pool."""
        return f"{self.execution_flow(stage)}/{pool}"


def jobs() -> dict[str, Job]:
    """Return all announced jobs by name.

    Raises:
        BadInput: An announced object cannot be imported or is no job, or two have one name.
    """
    found: dict[str, Job] = {}
    for point in entry_points(group=GROUP):
        loaded = _load(point)
        if found.setdefault(loaded.name, loaded) != loaded:
            raise BadInput(
                _field(point), f"there is another job named {loaded.name!r}", "Rename one of them."
            )
    return dict(sorted(found.items()))


def _load(point: EntryPoint) -> Job:
    try:
        loaded = point.load()
    except (ImportError, AttributeError) as error:
        raise BadInput(
            _field(point),
            f"{point.value} cannot be imported ({error})",
            "Correct it, or uninstall the package that announces it.",
        ) from error
    if not isinstance(loaded, Job):
        raise BadInput(_field(point), f"{point.value} is no Job", "Point it at a deployments.Job.")
    return loaded


def _field(point: EntryPoint) -> str:
    return f"entry point {point.name}"


def job(name: str) -> Job:
    """Return one job.

    Raises:
        BadInput: No job has this name.
    """
    known = jobs()
    if name not in known:
        raise BadInput.unknown("job", name, known)
    return known[name]
