"""Many jobs planned at once, within capacity, with a proven bound on how good the plan can be.

::

    from carbon.fleet_plan import plan_fleet

    found = plan_fleet(requests)            # carbon.Request, all of one moment
    print(found.g, found.bound_g, found.queued)

:func:`pack` does the same on plain arrays, for a hundred thousand jobs in seconds. They stand in a
module of their own because their compiled loops take a second to load, and half a minute to compile
the first time on a machine.
"""

from __future__ import annotations

from carbon._fleet_plan import FleetPlan, plan_fleet
from carbon._packing import Packing, pack
from carbon._packing_input import Jobs

__all__ = ["FleetPlan", "Jobs", "Packing", "pack", "plan_fleet"]
