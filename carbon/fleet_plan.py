"""Many jobs planned at once, within capacity, with a proven bound on how good the plan can be.

::

    from carbon.fleet_plan import plan_fleet

    found = plan_fleet(requests)            # carbon.Request, all of one moment
    print(found.packed_g, found.bound_g)    # like numbers: the plan, and what none goes below
    print(found.g, found.queued)            # of all requests, also those that could not be packed

:func:`pack` does the same on plain arrays, for a hundred thousand jobs in seconds. They stand in a
module of their own because their compiled loops take a second to load, and half a minute to compile
the first time on a machine.
"""

from __future__ import annotations

from carbon._fleet_plan import FleetPlan, plan_fleet
from carbon._packing import Packing, pack
from carbon._packing_input import Jobs

__all__ = ["FleetPlan", "Jobs", "Packing", "pack", "plan_fleet"]
