"""The pulse: whether somebody still carries out a run that Prefect calls Running.

The process of a run sends a heartbeat every half a minute, as the template of its pool asks for. A
machine that vanished sends none, and neither it nor its worker will ever say how the run has ended.
A server that was down has heard none either, so one look proves nothing: it takes a second one,
some minutes later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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

_ASKED: Final = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_PAGE: Final = 200
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


async def pools_that_beat(client: PrefectClient) -> dict[str, datetime]:
    """Return the pools whose runs send heartbeats, and since when they have at the latest."""
    found: dict[str, datetime] = {}
    while page := await client.read_work_pools(limit=_PAGE, offset=len(found)):
        for pool in page:
            asked = _ASKED in json.dumps(pool.base_job_template.get("job_configuration"))
            found[pool.name] = _utc(pool.updated) if asked and pool.updated else _NEVER
    return {name: since for name, since in found.items() if since < _NEVER}


async def feel(
    client: PrefectClient, run: FlowRun, beating: Mapping[str, datetime]
) -> Pulse | None:
    """Return the pulse of a run that should have been heard; ``None`` for any other.

    Args:
        client: Prefect client.
        run: A live run.
        beating: Pools whose runs send heartbeats, and since when. A run of any other pool that was
            never heard is none to worry about: then nothing is known of it.
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
    heard = began = _utc(state.timestamp)
    if page.events:
        heard = max(_utc(page.events[0].occurred), began)
    elif began < beating.get(run.work_pool_name or "", _NEVER):
        return None
    missed = _moment(run.labels.get(_MISSED))
    if datetime.now(UTC) - heard < SILENT:
        return None
    return Pulse(heard, missed if missed is not None and missed > heard else None)


def missing(moment: datetime) -> dict[str, str]:
    """Return the label of a run that was found silent."""
    return {_MISSED: moment.isoformat()}


def _utc(moment: datetime) -> datetime:
    return datetime.fromtimestamp(moment.timestamp(), UTC)


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
