"""Submit: another service asks for a run; it is planned first and created already at its time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings
from pydantic import BaseModel, ConfigDict

from carbon import BadInput, CarbonPolicy, DeadlinePassed, Decision
from deployments._desk import desk
from deployments._errors import PrefectUnavailable
from deployments._jobs import Job
from deployments._order import Order
from deployments._parameters import require_parameters
from deployments._trigger import Trigger, Verdict


class Submission(BaseModel):
    """A run that was asked for.

    Attributes:
        flow_run_id: Id of the entry run.
        name: Its name in the Prefect UI.
        created: False when this key had been submitted before; then the run is the first one.
        state: Name of its state.
        decision: What was decided; ``None`` for a run that was there already, which carries its own
            (``carbon why``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flow_run_id: UUID
    name: str
    created: bool
    state: str
    decision: Decision | None


async def submit(
    job: Job,
    parameters: Mapping[str, Any] | None = None,
    *,
    policy: CarbonPolicy | None = None,
    data_class: str | None = None,
    key: str | None = None,
    release: datetime | None = None,
    trigger: Trigger | None = None,
) -> Submission:
    """Plan a run and create it at its time. Nothing is created when anything is wrong.

    Any number may be under way: they are planned together and created a few at a time.

    Args:
        job: What to run.
        parameters: Parameters of the entry flow, without policy and data class.
        policy: How it may be placed; what it leaves out is as in the job's policy.
        data_class: Class of this run's data, on top of the workload's own.
        key: Names the logical run: the same key never makes a second one. Not empty.
        release: When the run is wanted, aware; by default now. The deadline counts from here.
        trigger: For tests; by default the one that the environment describes.

    Raises:
        DeadlinePassed: The finish-by lies in the past.
        ResidencyError: No permitted pool can run a stage.
        BadInput: A parameter or setting is wrong.
        NotDeployed: The entry deployment is missing.
        PrefectUnavailable: The Prefect API did not answer.
    """
    order = _order(job, parameters, policy, data_class, key=key, release=release, trigger=trigger)
    with _in_our_words():
        at, background = desk()
        return _told(*await asyncio.wrap_future(background.call(at.take(order))))


def submit_sync(
    job: Job,
    parameters: Mapping[str, Any] | None = None,
    *,
    policy: CarbonPolicy | None = None,
    data_class: str | None = None,
    key: str | None = None,
    release: datetime | None = None,
    trigger: Trigger | None = None,
) -> Submission:
    """Do the same for who does not `await`; it works in any thread, also in one that runs a loop.

    There it holds the loop up until the run is created: a web handler that is `async` had better
    await :func:`submit`. Arguments and errors are the same.
    """
    order = _order(job, parameters, policy, data_class, key=key, release=release, trigger=trigger)
    with _in_our_words():
        at, background = desk()
        made = background.call(at.take(order))
        try:
            return _told(*made.result())
        except BaseException:
            made.cancel()  # Ctrl-C: who has not been served yet is not served any more
            raise


def _order(
    job: Job,
    parameters: Mapping[str, Any] | None,
    policy: CarbonPolicy | None,
    data_class: str | None,
    *,
    key: str | None,
    release: datetime | None,
    trigger: Trigger | None,
) -> Order:
    """Return what is asked for, as far as it can be checked without planning."""
    trigger = trigger or _usual_trigger()
    policy = job.policy_for(policy)
    _require_arguments(parameters or {}, key)
    now = trigger.clock.now()
    deadline = policy.deadline(release or now)
    if deadline <= now:
        raise DeadlinePassed(
            "finish_by",
            f"{deadline:%Y-%m-%d %H:%M} UTC is over (it is {now:%Y-%m-%d %H:%M} UTC)",
            "Give a later release or a longer finish_by.",
        )
    order = Order(job, dict(parameters or {}), policy, release, deadline, data_class, key, trigger)
    require_parameters(job, order.given(), trigger.settings)
    return order


def _usual_trigger() -> Trigger:
    """Return the trigger that the environment describes, one for a minute's submissions.

    A new one reads settings and fleet file, and the providers' keys from Prefect, each time.
    """
    told = tuple(item for item in os.environ.items() if item[0].startswith("CARBON_"))
    if os.environ.get("CARBON_CLOCK", "").startswith("@"):
        return Trigger.from_settings()  # the file may change at any time
    return _trigger((told, get_current_settings().api.url, int(time.monotonic() // 60)))


@lru_cache(maxsize=4)
def _trigger(_: Hashable, /) -> Trigger:
    return Trigger.from_settings()


def _told(run: FlowRun, created: bool, verdict: Verdict) -> Submission:
    return Submission(
        flow_run_id=run.id,
        name=run.name,
        created=created,
        state=(run.state.name if run.state else None) or "unknown",
        decision=verdict.decision if created else None,
    )


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise PrefectUnavailable.of(error) from error
    except PrefectHTTPStatusError as error:
        raise _refused(error) from error


def _require_arguments(parameters: Mapping[str, Any], key: str | None) -> None:
    """Refuse what would be planned without, or would make every repetition a run of its own."""
    for name, flags in (("policy", "--strategy, --finish-by and so on"), ("data_class", "")):
        if name in parameters:
            raise BadInput(
                f"parameters.{name}",
                "decides where the run may be, so it is no plain parameter",
                f"Give it as the argument {name}; on the command line {flags or '--data-class'}.",
            )
    if key is not None and not key.strip():
        raise BadInput(
            "key", "is empty, so a repeated request would make a second run", "Name the run."
        )


def _refused(error: PrefectHTTPStatusError) -> BadInput | PrefectUnavailable:
    status = error.response.status_code
    if status in {httpx.codes.CONFLICT, httpx.codes.UNPROCESSABLE_ENTITY}:
        detail = error.response.json().get("detail", "")
        problem = f"the deployment refuses them: {detail}"
        return BadInput("parameters", problem, "Correct the parameters.")
    return PrefectUnavailable.of(error)
