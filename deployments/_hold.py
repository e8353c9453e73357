"""What a run carries with it: its plan, in labels that the planner reads as reservations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Scheduled

from carbon import Clock, Decision, Reservation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AWAITING = "AwaitingCleanWindow"
"""Name of the state of a run that waits for its start; Prefect never marks it Late."""

_PAGE = 200
_PREFIX = "carbon."


@dataclass(frozen=True)
class Hold:
    """The plan of one run, as it stands in its labels.

    Attributes:
        deadline: Latest acceptable finish, in grid time.
        start: Planned start, in grid time.
        deferrals: How often the run has already put itself off.
        slots: Pool slots that the run holds or will hold.
        decision: What people read: pool, expected grams, saving and so on.
    """

    deadline: datetime
    start: datetime
    deferrals: int = 0
    slots: tuple[Reservation, ...] = ()
    decision: Mapping[str, str | float] | None = None

    @classmethod
    def of(cls, decision: Decision, *, deferrals: int) -> Hold:
        """Return what a decision makes a run carry."""
        main = decision.chosen.main
        told: dict[str, str | float] = {
            "pool": main.pool,
            "region": main.region,
            "end": decision.chosen.end.isoformat(),
            "latest_safe_start": decision.chosen.latest_safe_start.isoformat(),
            "rule": decision.rule.value,
            "outlook": "; ".join(sorted({row.source for row in decision.provenance})) or "none",
        }
        if decision.chosen.g is not None:
            told["expected_g"] = round(decision.chosen.g, 3)
        return cls(
            deadline=decision.deadline,
            start=decision.chosen.start,
            deferrals=deferrals,
            slots=decision.chosen.slots,
            decision=told,
        )

    @classmethod
    def read(cls, labels: Mapping[str, object]) -> Hold | None:
        """Read a run's labels; ``None`` when it carries no plan or one that nobody can read."""
        try:
            slots = json.loads(str(labels[_PREFIX + "slots"]))
            return cls(
                deadline=_moment(labels[_PREFIX + "deadline"]),
                start=_moment(labels[_PREFIX + "start"]),
                deferrals=int(str(labels[_PREFIX + "deferrals"])),
                slots=tuple(_slot(slot) for slot in slots),
            )
        except (KeyError, TypeError, ValueError):
            return None

    @staticmethod
    def told(labels: Mapping[str, object]) -> dict[str, str | int | float]:
        """Return what a run's labels tell people about its plan."""
        return {
            name.removeprefix(_PREFIX): value
            for name, value in labels.items()
            if name.startswith(_PREFIX) and isinstance(value, str | int | float)
        }

    def labels(self) -> dict[str, str | int | float]:
        """Return the labels to write."""
        told = {_PREFIX + key: value for key, value in (self.decision or {}).items()}
        return {
            **told,
            _PREFIX + "deadline": self.deadline.isoformat(),
            _PREFIX + "start": self.start.isoformat(),
            _PREFIX + "deferrals": self.deferrals,
            _PREFIX + "slots": json.dumps([slot.model_dump(mode="json") for slot in self.slots]),
        }


def _slot(label: object) -> Reservation:
    slot = Reservation.model_validate(label)
    _moment(slot.start.isoformat())
    _moment(slot.end.isoformat())
    return slot


def _moment(label: object) -> datetime:
    moment = datetime.fromisoformat(str(label))
    if moment.tzinfo is None:
        raise ValueError(f"{label} has no time zone")
    return moment


def waiting_state(decision: Decision, clock: Clock) -> State[None]:
    """Return the state of a run that waits for its planned start."""
    message = (
        f"{decision.headline} Deadline {decision.deadline:%a %H:%M} UTC; starts "
        f"{decision.chosen.latest_safe_start:%a %H:%M} UTC at the latest, whatever the grid does. "
        "To start it now, reschedule it to now in the UI."
    )
    return Scheduled(
        scheduled_time=clock.wall(decision.chosen.start), name=AWAITING, message=message
    )


async def taken(
    client: PrefectClient, now: datetime, *, but: UUID | None = None
) -> tuple[Reservation, ...]:
    """Return the pool slots that live runs hold or will hold, except one run's own.

    Args:
        client: Prefect client.
        now: Grid time; a run past its expected end still holds its slot.
        but: The run that is being planned.
    """
    slots: list[Reservation] = []
    async for run in _live(client):
        hold = Hold.read(run.labels) if run.id != but else None
        if hold is None:
            continue
        started = run.state is not None and run.state.type is StateType.RUNNING
        for slot in hold.slots:
            if slot.end > now:
                slots.append(slot)
            elif started:
                slots.append(slot.model_copy(update={"end": now + (slot.end - slot.start) / 10}))
    return tuple(slots)


async def _live(client: PrefectClient) -> AsyncIterator[FlowRun]:
    wanted = (
        FlowRunFilterState(name=FlowRunFilterStateName(any_=[AWAITING])),
        FlowRunFilterState(
            type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
        ),
    )
    for state in wanted:
        offset = 0
        while True:
            page = await client.read_flow_runs(
                flow_run_filter=FlowRunFilter(state=state), limit=_PAGE, offset=offset
            )
            for run in page:
                yield run
            if len(page) < _PAGE:
                break
            offset += _PAGE
