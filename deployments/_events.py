"""Events: what the trigger tells Prefect, for automations that notify people or start something.

Each concerns a flow run and carries one payload, whose fields stay as they are; new ones may come.
README, "Events", lists them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from prefect.events import emit_event

from deployments._shown import best_effort

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect.client.schemas.objects import FlowRun

    from carbon import Decision

_VERSION: Final = 1


class Event(StrEnum):
    """Names of the events.

    Attributes:
        MADE: A run was planned: it waits, goes, or a stage was placed.
        MOVED: A waiting run was given another start or place.
        DEGRADED: A decision was made with less than should be known.
        AT_RISK: A run has not started by its latest safe start.
        RELEASED: A person, or the switch, has started a waiting run.
        REFUSED: A run was refused a place where its data may not be.
    """

    MADE = "carbon.decision.made"
    MOVED = "carbon.decision.moved"
    DEGRADED = "carbon.decision.degraded"
    AT_RISK = "carbon.decision.deadline-at-risk"
    RELEASED = "carbon.decision.released"
    REFUSED = "carbon.decision.residency-refused"


def emit(event: Event, run: FlowRun, job: str, *, flow: str = "", **details: object) -> None:
    """Tell Prefect what has happened to a run; never raises.

    Args:
        event: What has happened.
        run: The run that it happened to.
        job: Name of its job.
        flow: Name of its flow; by default that of the job's entry runs, which is the job's own.
        details: Further fields of the payload: values that JSON has.
    """
    with best_effort(f"The event {event}"):
        related = [
            {
                "prefect.resource.id": f"prefect.flow.{run.flow_id}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": flow or job,
            }
        ]
        if run.deployment_id:
            related.append(
                {
                    "prefect.resource.id": f"prefect.deployment.{run.deployment_id}",
                    "prefect.resource.role": "deployment",
                }
            )
        emit_event(
            event.value,
            resource={
                "prefect.resource.id": f"prefect.flow-run.{run.id}",
                "prefect.resource.name": run.name,
            },
            related=related,
            payload={"version": _VERSION, "job": job, "run": run.name, **details},
        )


def emit_decision(
    decision: Decision,
    run: FlowRun,
    job: str,
    event: Event = Event.MADE,
    *,
    flow: str = "",
    **details: object,
) -> None:
    """Tell Prefect of a decision, and that it is degraded where it is; see :func:`emit`."""
    told = {**summary(decision), **details}
    emit(event, run, job, flow=flow, **told)
    if decision.degraded:
        emit(Event.DEGRADED, run, job, flow=flow, **told)


def summary(decision: Decision) -> Mapping[str, object]:
    """Return a decision as the payload of an event."""
    chosen, baseline = decision.chosen, decision.baseline
    return {
        "pool": chosen.main.pool,
        "region": chosen.main.region,
        "zone": chosen.main.zone,
        "start": chosen.start.isoformat(),
        "end": chosen.end.isoformat(),
        "latest_safe_start": chosen.latest_safe_start.isoformat(),
        "deadline": decision.deadline.isoformat(),
        "expected_g": chosen.g,
        "expected_usd": chosen.usd,
        "baseline_g": baseline.g,
        "rule": decision.rule.value,
        "headline": decision.headline,
        "reason": decision.reason,
        "breaches": list(decision.breaches),
        "degraded": list(decision.degraded),
        "clock": decision.clock,
    }
