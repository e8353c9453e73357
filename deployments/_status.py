"""What waits, until when, why, and how much slack is left."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from deployments._hold import live_runs
from deployments._mode import Mode, read_switch
from deployments._waiting import Untaken, Waiting, untaken, waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect.client.orchestration import PrefectClient

    from carbon import Clock
    from deployments._jobs import Job


class WaitingRow(BaseModel):
    """One run that waits.

    Attributes:
        flow_run_id: Its id.
        name: Its name.
        job: Its job.
        state: Name of its state.
        starts: When it starts, by the wall clock.
        region: Where its heavy stages are to run.
        latest_safe_start: When it starts whatever the grid does, in grid time.
        deadline: When it must have ended, in grid time.
        slack_minutes: How long it may still wait, in grid time; below zero when it is late.
        why: The reason of its plan.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flow_run_id: UUID
    name: str
    job: str
    state: str
    starts: datetime
    region: str
    latest_safe_start: datetime
    deadline: datetime
    slack_minutes: int
    why: str

    @classmethod
    def of(cls, one: Waiting, clock: Clock) -> WaitingRow:
        """Return the row of a run that waits."""
        told = one.hold.decision
        return cls(
            flow_run_id=one.run.id,
            name=one.run.name,
            job=one.job.name,
            state=one.run.state_name or "unknown",
            starts=one.due,
            region=str(told.get("region", "")),
            latest_safe_start=one.hold.latest_safe_start,
            deadline=one.hold.deadline,
            slack_minutes=round(one.slack(clock) / timedelta(minutes=1)),
            why=str(told.get("reason", "")),
        )

    def cells(self) -> dict[str, str]:
        """Return the row for a person."""
        late = self.slack_minutes < 0
        hours, minutes = divmod(abs(self.slack_minutes), 60)
        return {
            "run": self.name,
            "job": self.job,
            "state": self.state,
            "starts (UTC)": f"{self.starts:%a %d %b %H:%M}",
            "region": self.region,
            "slack": f"{'LATE by ' if late else ''}{hours} h {minutes:02} min",
            "deadline (UTC)": f"{self.deadline:%a %d %b %H:%M}",
            "why": self.why,
        }


class UntakenRow(BaseModel):
    """One run that should have begun.

    Attributes:
        flow_run_id: Its id.
        name: Its name.
        job: Its job.
        state: Name of its state.
        due: Since when it is due, by the wall clock.
        why: What it waits for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flow_run_id: UUID
    name: str
    job: str
    state: str
    due: datetime
    why: str

    @classmethod
    def of(cls, one: Untaken) -> UntakenRow:
        """Return the row of a run."""
        return cls(
            flow_run_id=one.run.id,
            name=one.run.name,
            job=one.job.name,
            state=one.run.state_name or "unknown",
            due=one.due,
            why=one.why,
        )

    def cells(self) -> dict[str, str]:
        """Return the row for a person."""
        return {
            "run": self.name,
            "job": self.job,
            "state": self.state,
            "due (UTC)": f"{self.due:%a %d %b %H:%M}",
            "why it has not begun": self.why,
        }


class Status(BaseModel):
    """All runs that wait, and how the switch stands.

    Attributes:
        rows: The runs, the least slack first.
        untaken: Runs that are due, and that no worker has started.
        switches: What the switch says where it does not say ``auto``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: tuple[WaitingRow, ...]
    untaken: tuple[UntakenRow, ...] = ()
    switches: tuple[str, ...]

    @property
    def headline(self) -> str:
        """Return it in one line."""
        late = sum(row.slack_minutes < 0 for row in self.rows)
        told = "1 run waits" if len(self.rows) == 1 else f"{len(self.rows)} runs wait"
        if late:
            told += f", {late} of them beyond their latest safe start"
        if self.untaken:
            told += f"; {len(self.untaken)} due, and started by no worker"
        return f"{told}."


async def read_status(client: PrefectClient, clock: Clock, jobs: Mapping[str, Job]) -> Status:
    """Read all runs that wait, and the switch for all jobs."""
    live = [run async for run in live_runs(client)]
    found = list(waiting(live, jobs))
    told: dict[str, None] = {}
    for name in jobs:
        switch = await read_switch(client, name)
        if switch.mode is not Mode.AUTO:
            told[f"{switch.variable} is {switch.mode.value}"] = None
        if switch.note:
            told[switch.note] = None
    return Status(
        rows=tuple(
            WaitingRow.of(one, clock) for one in sorted(found, key=lambda one: one.slack(clock))
        ),
        untaken=tuple(UntakenRow.of(one) for one in await untaken(client, live, jobs)),
        switches=tuple(told),
    )
