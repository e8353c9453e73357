"""What a run carries with it: its plan, in labels that the planner reads as reservations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Scheduled

from carbon import Clock, Decision, Option, Reservation
from deployments._segments import TIMES, in_words, segments_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

AWAITING = "AwaitingCleanWindow"
"""Name of the state of a run that waits for its start; Prefect never marks it Late."""

HELD = "HeldByPerson"
"""Name of the state of a run that waits because somebody has set the switch so."""

_PAGE = 200
_OVERLAP = 20
_OURS = "carbon-aware"
"""Tag of all deployments that are rendered, and so of their runs."""

_PREFIX = "carbon."
HELD_LABEL = _PREFIX + "held"
"""Label of a run that the switch has held back."""

WANTED_NOW = _PREFIX + "wanted_now"
"""Label of a run that a person has started: its gate lets it go, whatever the plan."""

EARLY: Final = timedelta(seconds=15)
"""Workers fetch runs up to 10 s before they are due; a run that wakes earlier was asked for."""

WORTH_WAITING: Final = timedelta(seconds=20)
"""Wait below which going on beats freeing the slot: a worker needs longer to start a run."""

_OVERRUN = 0.1
"""Part of its p95 length that a stage which takes longer is given on top, each time anew."""
_FOR_MACHINES = frozenset({"slots", "baseline", "submission", TIMES.removeprefix(_PREFIX)})
_LIVE = [state for state in StateType if state not in TERMINAL_STATES]


@dataclass(frozen=True)
class Hold:
    """The plan of one run, as it stands in its labels.

    Attributes:
        deadline: Latest acceptable finish, in grid time.
        start: Planned start, in grid time.
        deferrals: How often the run has put itself off.
        slots: Pool slots that the run holds or will hold.
        baseline: Running at once at home, as it was judged when the run was released; ``None``
            where another version has written it.
        went: Whether the run has passed the gate; a retry or a restart does not wait again.
        decision: What people read: pool, expected grams, reason and so on.
    """

    deadline: datetime
    start: datetime
    deferrals: int
    slots: tuple[Reservation, ...]
    baseline: Option | None
    went: bool = False
    decision: Mapping[str, str | float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        decision: Decision,
        *,
        deferrals: int,
        went: bool = False,
        baseline: Option | None = None,
    ) -> Hold:
        """Return what a decision makes a run carry.

        Args:
            decision: The decision.
            deferrals: How often the run has put itself off.
            went: Whether the run has passed the gate.
            baseline: The baseline that the run carries already, if it does.
        """
        chosen = decision.chosen
        # Every key each time: labels are merged, and an old number must not outlive its decision.
        told: dict[str, str | float] = {
            "job": decision.workload,
            "pool": chosen.main.pool,
            "region": chosen.main.region,
            "end": chosen.end.isoformat(),
            "segments": in_words(segments_of(chosen)),
            "latest_safe_start": chosen.latest_safe_start.isoformat(),
            "expected_g": "unknown" if chosen.g is None else round(chosen.g, 3),
            "expected_usd": "unknown" if chosen.usd is None else round(chosen.usd, 4),
            "rule": decision.rule.value,
            "reason": decision.reason,
            "breaches": "; ".join(decision.breaches) or "none",
            "degraded": "; ".join(decision.degraded) or "no",
            "outlook": "; ".join(sorted({row.source for row in decision.provenance})) or "none",
        }
        return cls(
            deadline=decision.deadline,
            start=chosen.start,
            deferrals=deferrals,
            slots=chosen.slots,
            baseline=baseline or decision.baseline,
            went=went,
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
                baseline=_baseline(labels.get(_PREFIX + "baseline")),
                went=labels[_PREFIX + "went"] is True,
                decision=cls.told(labels),
            )
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def latest_safe_start(self) -> datetime:
        """When the run starts, whatever the grid does; its planned start where that is unknown."""
        try:
            return _moment(self.decision["latest_safe_start"])
        except (KeyError, ValueError):
            return self.start

    def moved(self, stage: str, pool: str) -> Hold:
        """Return the hold with a stage's slots in another pool."""
        kept = tuple(
            slot.model_copy(update={"pool": pool}) if slot.stage == stage else slot
            for slot in self.slots
        )
        return replace(self, slots=kept)

    def whole(self, stage: str, now: datetime) -> Hold:
        """Return the hold when a stage goes on to its end: no slot is free between its segments.

        Args:
            stage: Name of the stage.
            now: Grid time.
        """
        left = [slot for slot in self.slots if slot.stage == stage and slot.end > now]
        if not left:
            return self
        length = sum((slot.end - max(slot.start, now) for slot in left), timedelta(0))
        one = left[0].model_copy(update={"start": now, "end": now + length})
        return replace(self, slots=(*(slot for slot in self.slots if slot not in left), one))

    def without(self, stage: str) -> Hold:
        """Return the hold when a stage has ended and its slots are free again."""
        kept = tuple(slot for slot in self.slots if slot.stage != stage)
        return replace(self, slots=kept)

    @staticmethod
    def told(labels: Mapping[str, object]) -> dict[str, str | float]:
        """Return what a run's labels tell people about its plan."""
        return {
            key: value
            for name, value in labels.items()
            if name.startswith(_PREFIX)
            and (key := name.removeprefix(_PREFIX)) not in _FOR_MACHINES
            and isinstance(value, str | int | float)
        }

    @staticmethod
    def starting(now: datetime) -> dict[str, bool | str]:
        """Return the label of a run that is woken now, so that its gate plans it anew.

        Woken before its planned start it would go at once: somebody would have asked for it.
        """
        return {_PREFIX + "start": now.isoformat()}

    def labels(self) -> dict[str, str | int | float]:
        """Return the labels to write."""
        told = {_PREFIX + key: value for key, value in self.decision.items()}
        return {
            **told,
            _PREFIX + "deadline": self.deadline.isoformat(),
            _PREFIX + "start": self.start.isoformat(),
            _PREFIX + "deferrals": self.deferrals,
            _PREFIX + "went": self.went,
            _PREFIX + "slots": json.dumps([slot.model_dump(mode="json") for slot in self.slots]),
            _PREFIX + "baseline": self.baseline.model_dump_json() if self.baseline else "",
        }


def _baseline(label: object) -> Option | None:
    """Return the baseline that a label holds; ``None`` where another version has written it."""
    try:
        return Option.model_validate_json(str(label))
    except ValueError:
        return None


def _slot(label: object) -> Reservation:
    if isinstance(label, dict):  # a later version may say more
        label = {name: label[name] for name in Reservation.model_fields if name in label}
    slot = Reservation.model_validate(label)
    _moment(slot.start.isoformat())
    _moment(slot.end.isoformat())
    return slot


def _moment(label: object) -> datetime:
    moment = datetime.fromisoformat(str(label))
    if moment.tzinfo is None:
        raise ValueError(f"{label} has no time zone")
    return moment


def held_state(until: datetime, why: str) -> State[None]:
    """Return the state of a run that a person's switch holds back.

    Args:
        until: When it looks again, should the keeper not have woken it; by the wall clock.
        why: What holds it.
    """
    return Scheduled(
        scheduled_time=until,
        name=HELD,
        message=f"{why} It starts when that changes. To start it at once: carbon release, with "
        "the run's id.",
    )


def waiting_state(decision: Decision, clock: Clock) -> State[None]:
    """Return the state of a run that waits for its planned start."""
    message = (
        f"{decision.headline} Deadline {decision.deadline:%a %d %b %H:%M} UTC; starts "
        f"{decision.chosen.latest_safe_start:%a %d %b %H:%M} UTC at the latest, "
        "whatever the grid does. "
        "To start it at once: carbon release, with the run's id."
    )
    return Scheduled(
        scheduled_time=clock.wall(decision.chosen.start), name=AWAITING, message=message
    )


@dataclass(frozen=True)
class Held:
    """The pool slots of one live run, as they stand in its labels.

    Attributes:
        slots: Pool slots that it holds or will hold.
        started: Whether it runs.
    """

    slots: tuple[Reservation, ...]
    started: bool = False


async def taken(
    client: PrefectClient, now: datetime, *, but: UUID | None = None
) -> tuple[Reservation, ...]:
    """Return the pool slots that live runs hold or will hold, except one run's own.

    Args:
        client: Prefect client.
        now: Grid time; a run past its expected end still holds its slot.
        but: The run that is being planned.
    """
    return present(await held(client, but=but), now)


async def held(client: PrefectClient, *, but: UUID | None = None) -> list[Held]:
    """Return what each live run holds, for who asks more than once: see :func:`present`.

    Args:
        client: Prefect client.
        but: A run that is left out.
    """
    found = [holding(run) async for run in live_runs(client) if run.id != but]
    return [one for one in found if one is not None]


def holding(run: FlowRun) -> Held | None:
    """Return what a live run holds; ``None`` for one without a plan."""
    if (hold := Hold.read(run.labels)) is None:
        return None
    started = run.state is not None and run.state.type is StateType.RUNNING
    return Held(hold.slots, started=started)


def present(runs: Iterable[Held | None], now: datetime) -> tuple[Reservation, ...]:
    """Return the slots of live runs as they stand at a moment of grid time."""
    return tuple(
        slot for run in runs if run for slot in _present(run.slots, now, started=run.started)
    )


def _present(
    slots: Sequence[Reservation], now: datetime, *, started: bool
) -> Iterator[Reservation]:
    """Yield a live run's slots as they stand now: overdue work still holds or wants its slot.

    Of a stage in segments only the last one can be overdue: what an earlier one did not get done
    is done after it.
    """
    for slot in slots:
        if slot.end > now:
            yield slot
        elif not started or not any(
            other.stage == slot.stage and other.end > slot.end for other in slots
        ):
            length = slot.end - slot.start
            left = length * _OVERRUN if started else length
            yield slot.model_copy(update={"start": now, "end": now + left})


async def live_runs(client: PrefectClient) -> AsyncIterator[FlowRun]:
    """Yield every run that has not ended; runs without a plan are for the caller to pass over."""
    live = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_LIVE)),
        tags=FlowRunFilterTags(all_=[_OURS]),
    )
    async for run in read_all(client, live):
        yield run


async def read_all(client: PrefectClient, which: FlowRunFilter) -> AsyncIterator[FlowRun]:
    """Yield all runs that a filter lets through, however many there are.

    Runs may end while they are read, so that those behind move up: pages overlap.
    """
    offset, seen = 0, set[UUID]()
    while True:
        page = await client.read_flow_runs(
            flow_run_filter=which, limit=_PAGE, offset=offset, sort=FlowRunSort.ID_DESC
        )
        for run in page:
            if run.id not in seen:
                seen.add(run.id)
                yield run
        if len(page) < _PAGE:
            return
        offset += _PAGE - _OVERLAP
