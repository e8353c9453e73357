"""What a job needs: stages, their run times and data, chained into a workload."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from carbon._errors import BadInput
from carbon._segment import Interruptible


class Hardware(StrEnum):
    """Hardware class of a pool."""

    CPU = "cpu"
    GPU = "gpu"


class Urgency(StrEnum):
    """How much a workload may be moved.

    Attributes:
        DEFERRABLE: In time and in place, as long as it ends on time.
        URGENT: It starts at once, in the cleanest permitted place.
        INTERACTIVE: Somebody waits for the answer (search, checkout risk): it is never moved.
    """

    DEFERRABLE = "deferrable"
    URGENT = "urgent"
    INTERACTIVE = "interactive"


def _with_a_unit(value: object) -> object:
    """Refuse a bare number: pydantic would take 2 for seconds where hours were meant."""
    if isinstance(value, int | float):
        raise BadInput(
            "run time", f"{value:g} has no unit", "Give e.g. timedelta(hours=2), or 'PT2H'."
        )
    return value


PositiveTime = Annotated[
    timedelta,
    BeforeValidator(_with_a_unit),
    Field(gt=timedelta(0), le=timedelta(days=31)),
]
"""A run time: nobody's batch takes longer than a month, and moments must not overflow."""


class Need(BaseModel):
    """What one stage takes on one hardware class.

    Attributes:
        p50: Median run time; energy, emissions and cost are expected values at this length.
        p95: Run time that 95 of 100 runs stay below; deadlines hold for it.
        kwh: Energy at the plug of the server (before PUE) for one run. Without it the planner
            models it as pool watts x ``p50``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    p50: PositiveTime
    p95: PositiveTime
    kwh: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p95 < self.p50:
            raise BadInput("p95", f"{self.p95} is shorter than p50 {self.p50}", "Swap the two.")
        return self


class Stage(BaseModel):
    """One step of a workload with one hardware need.

    Attributes:
        name: Short name, unique in its workload.
        needs: What the stage takes on each hardware class that it can run on.
        heavy: Heavy stages are dispatched to a pool that the planner chooses; light ones run in
            the home region's CPU pool as part of the entry run.
        data_in_gb: Data that must be carried from home to the stage's region.
        data_out_gb: Data that must be carried back.
        interruptible: How it may be split, for a heavy stage that keeps what it has done and goes
            on from there; ``None`` for one that runs whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    needs: Annotated[dict[Hardware, Need], Field(min_length=1)]
    heavy: bool = False
    data_in_gb: Annotated[float, Field(ge=0)] = 0.0
    data_out_gb: Annotated[float, Field(ge=0)] = 0.0
    interruptible: Interruptible | None = None

    @model_validator(mode="after")
    def _light_runs_whole(self) -> Self:
        if self.interruptible is not None and not self.heavy:
            raise BadInput(
                "interruptible",
                f"light stage {self.name!r} runs inside the entry run, which does not pause",
                "Make the stage heavy, or leave interruptible out.",
            )
        return self

    @model_validator(mode="after")
    def _light_runs_on_cpu(self) -> Self:
        if not self.heavy and Hardware.CPU not in self.needs:
            raise BadInput("needs", f"light stage {self.name!r} has no CPU need", "Add needs.cpu.")
        return self


class Workload(BaseModel):
    """One of the shop's jobs: a chain of stages that run one after the other.

    Attributes:
        name: Name of the entry flow.
        stages: The chain, in order.
        data_class: Class of the data it reads; the fleet's residency rules say where it may be.
        urgency: How much it may be moved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    data_class: str
    urgency: Urgency = Urgency.DEFERRABLE

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise BadInput("stages", f"names repeat: {', '.join(names)}", "Rename one of them.")
        return self

    def stage(self, name: str) -> Stage:
        """Return a stage by name.

        Raises:
            BadInput: No stage has this name.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise BadInput.unknown(f"{self.name}.stages", name, [stage.name for stage in self.stages])

    def since(self, name: str) -> Workload:
        """Return what is left of the workload when a stage is about to start."""
        first = self.stages.index(self.stage(name))
        return self.model_copy(update={"stages": self.stages[first:]})
