"""The regions' work pools: the fleet file, job templates, registration, and the residency guard.

- ``load_fleet`` reads the fleet file (``work_pools/fleet.toml``), the one place to edit pools.
- ``inspect`` and ``register`` compare and align the pools in Prefect with it.
- ``base_job_template`` says what a worker starts in a pool.
- ``require_permitted_here`` is the last residency gate, inside a run.
"""

from __future__ import annotations

from work_pools._file import load_fleet
from work_pools._guard import identity_env, require_permitted_here
from work_pools._registration import KEEPER_QUEUE, PLANNER_LOCK, inspect, register
from work_pools._report import ForeignPool, Outcome, Registration
from work_pools._templates import base_job_template

__all__ = [
    "KEEPER_QUEUE",
    "PLANNER_LOCK",
    "ForeignPool",
    "Outcome",
    "Registration",
    "base_job_template",
    "identity_env",
    "inspect",
    "load_fleet",
    "register",
    "require_permitted_here",
]
