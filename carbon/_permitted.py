"""Which pools may run a stage, and why the others may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from carbon._decision import Refusal, Rule
from carbon._errors import BadInput, ResidencyError
from carbon._fleet import residency_text

if TYPE_CHECKING:
    from carbon._fleet import Pool
    from carbon._request import Request
    from carbon._workload import Stage


class Refusals:
    """The pools that are not used; the first reason for a pool stands."""

    def __init__(self) -> None:
        self._found: dict[str, Refusal] = {}

    def add(self, pool: Pool, rule: Rule, reason: str) -> None:
        """Note why a pool is not used."""
        refusal = Refusal(pool=pool.name, region=pool.region, rule=rule, reason=reason)
        self._found.setdefault(pool.name, refusal)

    def all(self) -> tuple[Refusal, ...]:
        """Return all refusals in the order in which they were found."""
        return tuple(self._found.values())


def permitted(request: Request, stage: Stage, refusals: Refusals) -> tuple[Pool, ...]:
    """Return the pools that residency and policy permit for a stage.

    Raises:
        ResidencyError: Residency leaves no pool.
        BadInput: No pool has its hardware, or none in the policy's regions.
    """
    fleet = request.fleet
    fitting = []
    allowed = fleet.jurisdictions(*request.data_classes)
    for pool in fleet.able(stage):
        if allowed is not None and pool.place.jurisdiction not in allowed:
            why = residency_text(fleet, pool, *request.data_classes)
            refusals.add(pool, Rule.RESIDENCY, why)
        elif stage.heavy and pool.region not in (request.policy.only_regions or (pool.region,)):
            only = ", ".join(request.policy.only_regions or ())
            refusals.add(pool, Rule.POLICY, f"the policy allows only {only}")
        else:
            fitting.append(pool)
    if not fitting:
        _nowhere(request, stage)
    return tuple(fitting)


def _nowhere(request: Request, stage: Stage) -> NoReturn:
    fleet, only = request.fleet, request.policy.only_regions or ()
    able = fleet.able(stage)
    if not able:
        has = " and ".join(sorted({pool.hardware for pool in fleet.pools}))
        raise BadInput(
            f"{request.workload.name}.stages.{stage.name}.needs",
            f"no pool of the fleet has {' or '.join(sorted(stage.needs))} beside the entry runs' "
            f"{fleet.home_cpu.name!r}",
            f"Add such a pool to the fleet file, which has {has}, or give the stage another need.",
        )
    if stage.heavy and only and not any(pool.region in only for pool in able):
        raise BadInput(
            "policy.only_regions",
            f"the fleet has no pool for stage {stage.name!r} in {', '.join(only)}",
            f"Name one of {', '.join(sorted({pool.region for pool in able}))}, or leave it empty.",
        )
    allowed = fleet.jurisdictions(*request.data_classes) or ()
    classes = " and ".join(repr(name) for name in request.data_classes)
    within = f", and the policy allows only {', '.join(only)}" if stage.heavy and only else ""
    raise ResidencyError(
        f"{request.workload.name}: no permitted pool for stage {stage.name!r}. {classes} data may "
        f"only be processed in {', '.join(sorted(allowed)) or 'no jurisdiction'}{within}. "
        "Add a pool there, or change only_regions; residency never gives way."
    )
