"""The third residency gate: a run checks where it is before it reads any data.

The planner and the rendering of deployments have refused a forbidden pool by then. This gate holds
when someone went round both: started the flow by hand, pointed a worker at another pool, or edited
the fleet file without registering the pools again. When it cannot tell where it is, it refuses.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from carbon._errors import BadInput, ResidencyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbon._fleet import Fleet, Pool

POOL_ENV = "CARBON_POOL"
REGION_ENV = "CARBON_REGION"
JURISDICTION_ENV = "CARBON_JURISDICTION"
HARDWARE_ENV = "CARBON_HARDWARE"


def identity_env(pool: Pool) -> dict[str, str]:
    """Return the environment variables that tell a run which pool it is in."""
    return {
        POOL_ENV: pool.name,
        REGION_ENV: pool.region,
        JURISDICTION_ENV: pool.place.jurisdiction,
        HARDWARE_ENV: pool.hardware.value,
    }


def require_permitted_here(
    fleet: Fleet,
    *data_classes: str,
    pool_name: str | None,
    env: Mapping[str, str] = os.environ,
) -> None:
    """Refuse to go on where data of these classes may not be processed.

    Call it first thing in a run that reads data.

    Args:
        fleet: The fleet, with its residency rules.
        data_classes: Every class of data that the run reads.
        pool_name: The flow run's work pool as the Prefect API tells it; ``None`` if it has none.
        env: The run's environment; what the pool's template put there must agree.

    Raises:
        BadInput: No data class was named, or one has no residency rule.
        ResidencyError: The pool is not permitted, or it is not certain which pool this is.
    """
    if not data_classes:
        raise BadInput("data_classes", "none was named", "Name every class of data the run reads.")
    if fleet.jurisdictions(*data_classes) is None:
        return
    fleet.require_permitted(_this_pool(fleet, pool_name, env), *data_classes)


def _this_pool(fleet: Fleet, pool_name: str | None, env: Mapping[str, str]) -> Pool:
    if pool_name is None:
        raise ResidencyError(
            "This run is in no work pool, so it cannot be shown that its data may be processed "
            "here. Start it through its deployment, in a pool of the fleet file."
        )
    if pool_name not in fleet.by_name:
        raise ResidencyError(
            f"This run is in work pool {pool_name!r}, which the fleet file does not hold, so it is "
            "not known where its data would be processed. Add the pool to the fleet file or use "
            f"one of: {', '.join(sorted(fleet.by_name))}."
        )
    pool = fleet.by_name[pool_name]
    for variable, expected in ((POOL_ENV, pool.name), (REGION_ENV, pool.region)):
        told = env.get(variable, expected)
        if told != expected:
            raise ResidencyError(
                f"Prefect and the fleet file place this run in {expected!r}, but its environment "
                f"says {variable}={told!r}, so it is not certain where it runs. Run `carbon pools "
                f"apply`, and set {variable} nowhere yourself, neither in a deployment's job "
                "variables nor in a flow."
            )
    return pool
