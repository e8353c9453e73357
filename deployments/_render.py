"""``prefect.yaml``, rendered from the fleet and the jobs: entry and execution deployments.

One entry deployment per job, in the home region's CPU pool, and one execution deployment per heavy
stage and permitted pool: Prefect cannot move a run to another pool, so each pool has its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

import yaml

from carbon import BadInput, Fleet, Pool, ResidencyError, Stage
from deployments._events import Event
from deployments._jobs import Job
from work_pools import KEEPER_QUEUE

_GOES_ON: Final = ("Cancelled", "Completed", "Crashed", "Failed", "Running")
"""States that show that a run has gone on."""

_HEADER = """\
# Every deployment of this project. Rendered from the fleet file and the jobs: do not edit by hand,
# run `carbon deployments render`. `prefect deploy --all` creates or updates all of them.
#
# entry            one per workload; schedules, the UI's form and API calls land here
# one per pool     where a heavy stage may run; the trigger chooses among them
# keeper           looks after runs that wait, every five minutes, and when one is late
"""


class _Indented(yaml.SafeDumper):
    """Indents lists below their key, as people write them."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  # PyYAML's signature
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002  # PyYAML's signature
        super().increase_indent(flow, indentless=False)


def render(fleet: Fleet, jobs: Iterable[Job]) -> str:
    """Return the text of ``prefect.yaml``.

    Args:
        fleet: Pools and residency rules.
        jobs: Jobs to deploy.

    Raises:
        ResidencyError: A stage has no permitted pool, or its home is not permitted.
        BadInput: A job does not fit the fleet.
    """
    deployments: list[dict[str, Any]] = []
    watched: list[dict[str, Any]] = []
    for job in jobs:
        fleet.check(job.workload)
        deployments.append(_entry(job, fleet))
        watched.append(_watch(job))
        for stage in job.workload.stages:
            if stage.heavy:
                deployments += [
                    _execution(job, stage, pool) for pool in execution_pools(fleet, job, stage)
                ]
    deployments.append(_keeper(fleet, watched))
    document = {
        "name": "carbon-aware-flows",
        "build": None,
        "push": None,
        "pull": [],
        "deployments": deployments,
    }
    body: str = yaml.dump(
        document, Dumper=_Indented, sort_keys=False, width=100, allow_unicode=True
    )
    return f"{_HEADER}\n{body}"


def execution_pools(fleet: Fleet, job: Job, stage: Stage) -> tuple[Pool, ...]:
    """Return the pools that get an execution deployment for a heavy stage.

    Raises:
        ResidencyError: No pool that can run the stage is permitted.
    """
    able = fleet.able(stage)
    pools = tuple(pool for pool in able if fleet.permits(pool, job.workload.data_class))
    if not pools:
        raise ResidencyError(
            f"{job.name}: no pool may run stage {stage.name!r} with {job.workload.data_class!r} "
            "data. Add a pool in a permitted jurisdiction to the fleet file."
        )
    return pools


def check_rendered(fleet: Fleet, jobs: Mapping[str, Job], document: object) -> None:
    """Refuse deployments that would run data where it may not be.

    Args:
        fleet: Pools and residency rules.
        jobs: Known jobs by name.
        document: A parsed ``prefect.yaml``, perhaps edited by hand.

    Raises:
        ResidencyError: A deployment lies in a pool that its data class forbids.
        BadInput: It is no list of deployments, or one names a pool that the fleet does not have.
    """
    flows = {job.entrypoint: job for job in jobs.values()}
    for job in jobs.values():
        flows |= dict.fromkeys(job.heavy.values(), job)
    for row in _rows(document):
        found = flows.get(str(row.get("entrypoint")))
        if found is None:
            continue
        where = f"prefect.yaml: {row.get('name')}.work_pool.name"
        pool = row.get("work_pool")
        name = pool.get("name") if isinstance(pool, Mapping) else None
        if not isinstance(name, str):
            raise BadInput(where, "no work pool is named", "Name a pool of the fleet file.")
        fleet.require_permitted(fleet.pool(name, field=where), found.workload.data_class)


def _rows(document: object) -> list[Mapping[str, Any]]:
    rows = document.get("deployments") if isinstance(document, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise BadInput(
            "prefect.yaml: deployments", "is no list of deployments", "Render the file anew."
        )
    return rows


def _entry(job: Job, fleet: Fleet) -> dict[str, Any]:
    return {
        "name": "entry",
        "description": f"{job.description} Carbon-aware: {job.policy.describe()}",
        "entrypoint": job.entrypoint,
        "tags": ["carbon-aware", "entry"],
        "work_pool": {"name": fleet.home_cpu.name},
        "parameters": {"policy": job.policy.model_dump(mode="json", exclude_defaults=True)},
        "schedules": [schedule.model_dump() for schedule in job.schedules],
    }


def _keeper(fleet: Fleet, watched: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "keeper",
        "description": (
            "Moves waiting runs when the outlook is clearly better, makes room when capacity "
            "shrinks, and tells of runs that are late. Waiting runs start at their time without it."
        ),
        "entrypoint": "deployments.keeper.keeper",
        "tags": ["carbon-aware", "keeper"],
        "work_pool": {"name": fleet.home_cpu.name, "work_queue_name": KEEPER_QUEUE},
        "schedules": [
            {"slug": "every-five-minutes", "cron": "*/5 * * * *", "timezone": "UTC", "active": True}
        ],
        "triggers": watched,
    }


def _watch(job: Job) -> dict[str, Any]:
    """Return the second net for a job's deadlines: an automation that calls the keeper.

    Proactive: when a run that was planned has not gone on by the time at which it should have
    started at the latest, whatever has become of the keeper's schedule.
    """
    run = sum(
        (min(need.p95 for need in stage.needs.values()) for stage in job.workload.stages),
        timedelta(0),
    )
    within = max(job.policy.longest - run, timedelta(minutes=10))
    return {
        "type": "event",
        "enabled": True,
        "name": f"carbon-deadline-{job.name}",
        "description": f"A run of {job.name} has not started although it was to: call the keeper.",
        "posture": "Proactive",
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.role": "flow", "prefect.resource.name": job.name},
        "after": [Event.MADE.value],
        "expect": [f"prefect.flow-run.{state}" for state in _GOES_ON],
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        "within": within // timedelta(seconds=1),
    }


def _execution(job: Job, stage: Stage, pool: Pool) -> dict[str, Any]:
    place = pool.place
    return {
        "name": pool.name,
        "description": (
            f"Heavy stage '{stage.name}' of {job.name} on {pool.hardware} in {pool.region} "
            f"({place.place}, grid {place.zone}). Started by the trigger, not by hand."
        ),
        "entrypoint": job.heavy[stage.name],
        "tags": ["carbon-aware", "execution", place.jurisdiction],
        "work_pool": {"name": pool.name},
        "schedules": [],
    }
