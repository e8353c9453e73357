"""The switch: one Prefect variable for all jobs, and one for each, that a person on call sets.

``carbon_mode`` holds the mode of all jobs, ``carbon_mode_image_embeddings`` that of one. The one
for all wins unless it says ``auto``: nobody in an incident should have to look for exceptions. Both
take effect on new runs at once, and on waiting ones at the keeper's next pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from prefect.client.schemas.actions import VariableCreate, VariableUpdate

from carbon import BadInput, CarbonPolicy, Strategy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect.client.orchestration import PrefectClient

_VARIABLE: Final = "carbon_mode"

PINNED: Final = "carbon.pinned_region"
"""Label of a run that a person has pinned to a region."""


class Mode(StrEnum):
    """What the trigger does with runs.

    Attributes:
        AUTO: It plans them.
        RUN_NOW: They start at once, at home, those that wait too.
        SHADOW: They start at once, at home; what would have been decided is on record.
        HOLD: Those that can wait do, until the mode changes, even beyond their latest safe start.
    """

    AUTO = "auto"
    RUN_NOW = "run_now"
    SHADOW = "shadow"
    HOLD = "hold_deferrable"


@dataclass(frozen=True)
class Switch:
    """How the switch stands for a job.

    Attributes:
        mode: What it says.
        variable: The Prefect variable that says so.
        note: What is wrong with it; empty if nothing is.
    """

    mode: Mode
    variable: str
    note: str = ""

    def policy(self, policy: CarbonPolicy) -> CarbonPolicy:
        """Return a run's policy as it is carried out."""
        if self.mode in {Mode.RUN_NOW, Mode.SHADOW}:
            return policy.model_copy(update={"strategy": Strategy.RUN_NOW})
        return policy


def pinned(policy: CarbonPolicy, labels: Mapping[str, object]) -> CarbonPolicy:
    """Return a run's policy as a person wants it who has pinned the run to a region."""
    region = labels.get(PINNED)
    return policy.model_copy(update={"only_regions": (str(region),)}) if region else policy


def variable_of(job: str | None) -> str:
    """Return the name of the variable for a job; for all of them without one."""
    return f"{_VARIABLE}_{job.replace('-', '_')}" if job else _VARIABLE


async def read_switch(client: PrefectClient, job: str) -> Switch:
    """Read how the switch stands for a job.

    A value that is no mode counts as ``auto``, and the note says so: a slip of the keyboard must
    not stop the shop's work.
    """
    notes = []
    for variable in (variable_of(None), variable_of(job)):
        found = await client.read_variable_by_name(variable)
        if found is None:
            continue
        try:
            mode = Mode(str(found.value).strip().lower().replace("-", "_"))
        except ValueError:
            known = ", ".join(Mode)
            notes.append(f"variable {variable} is {found.value!r}, not one of {known}: ignored")
            continue
        if mode is not Mode.AUTO:
            return Switch(mode, variable, "; ".join(notes))
    return Switch(Mode.AUTO, variable_of(None), "; ".join(notes))


async def set_switch(client: PrefectClient, mode: Mode, job: str | None) -> str:
    """Set the switch for a job, or for all of them; return the variable's name."""
    name = variable_of(job)
    if await client.read_variable_by_name(name) is None:
        await client.create_variable(VariableCreate(name=name, value=mode.value))
    else:
        await client.update_variable(VariableUpdate(name=name, value=mode.value))
    return name


def read_mode(text: str) -> Mode:
    """Return the mode that a person has named.

    Raises:
        BadInput: There is no such mode.
    """
    try:
        return Mode(text.strip().lower().replace("-", "_"))
    except ValueError as error:
        raise BadInput.unknown("mode", text, [mode.value for mode in Mode]) from error
