"""What a pass of the keeper found and did."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Step(StrEnum):
    """What the keeper has done with a run."""

    MOVED = "moved"
    RELEASED = "released"
    RESCUED = "rescued"
    LATE = "late"
    VANISHED = "vanished"
    CLOSED = "closed"


class Change(BaseModel):
    """One thing that was done, and why.

    Attributes:
        flow_run_id: Id of the run.
        name: Its name.
        what: What was done.
        why: Why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flow_run_id: UUID
    name: str
    what: Step
    why: str


class KeeperReport(BaseModel):
    """What one pass found and did.

    Attributes:
        waiting: How many runs wait.
        changes: What was done.
        notes: What is wrong with the switch, and what could not be looked at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    waiting: int
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def headline(self) -> str:
        """Return it in one line."""
        counts = {step: sum(one.what is step for one in self.changes) for step in Step}
        done = ", ".join(f"{count} {step}" for step, count in counts.items() if count)
        return f"{self.waiting} waiting; {done or 'nothing to do'}"
