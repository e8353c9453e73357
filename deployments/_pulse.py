"""The pulse: whether somebody still carries out a run that Prefect calls Running.

The process of a run sends a heartbeat every half a minute, as the template of its pool asks for
(Prefect's ``PREFECT_FLOWS_HEARTBEAT_FREQUENCY``). A machine that vanished sends none, and neither it
nor its worker will ever say how the run has ended. A server that was down has heard none either, so
one look proves nothing: it takes a second one, some minutes later.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter

SILENT: Final = timedelta(minutes=10)
"""After so long without a heartbeat a run is looked at again: twenty of them are missing."""

_AGAIN: Final = timedelta(minutes=4)
"""Between the two looks: a live process is heard eight times meanwhile."""

_MISSED: Final = "carbon.missed"
"""Label of a run that was found silent: when."""

_HEARTBEAT: Final = "prefect.flow-run.heartbeat"


@dataclass(frozen=True)
class Pulse:
    """What is known of the process of a run that is silent.

    Attributes:
        heard: When it was heard last.
        missed: When it was first found silent after that, if it was.
    """

    heard: datetime
    missed: datetime | None

    @property
    def gone(self) -> bool:
        """Whether it was silent twice."""
        return self.missed is not None and datetime.now(UTC) - self.missed >= _AGAIN


async def feel(client: PrefectClient, run: FlowRun) -> Pulse | None:
    """Return the pulse of a run that should have been heard; ``None`` for any other.

    One that never sends a heartbeat is none to worry about: then nothing is known of it.

    Args:
        client: Prefect client.
        run: A live run.
    """
    state = run.state
    if state is None or state.type is not StateType.RUNNING:
        return None
    if datetime.now(UTC) - state.timestamp < SILENT:
        return None
    beats = EventFilter(
        event=EventNameFilter(name=[_HEARTBEAT]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
    )
    page = await client.read_events(beats, limit=1)
    if not page.events:
        return None
    heard = max(datetime.fromtimestamp(page.events[0].occurred.timestamp(), UTC), state.timestamp)
    missed = _moment(run.labels.get(_MISSED))
    if datetime.now(UTC) - heard < SILENT:
        return None
    return Pulse(heard, missed if missed is not None and missed > heard else None)


def missing(moment: datetime) -> dict[str, str]:
    """Return the label of a run that was found silent."""
    return {_MISSED: moment.isoformat()}


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
