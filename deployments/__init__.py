"""The carbon-aware trigger on Prefect: gate, dispatch, guard, submit, and the command line.

- ``gate`` is the first act of an entry flow: it goes now or waits for its clean window.
- ``dispatch`` runs a heavy stage in the pool that the planner chooses.
- ``guard`` is the first act of an execution flow: it refuses a pool where its data may not be.
- ``segment_end`` and ``pause`` are for one whose stage may pause: when to stop, and to let go.
- ``submit`` (``submit_sync`` without await) is for other services: plan first, then create the run
  at its time.
- ``Job`` announces a workload and its flows.
"""

from __future__ import annotations

from deployments._dispatch import dispatch
from deployments._errors import NotDeployed, PrefectUnavailable, StageFailed
from deployments._gate import gate
from deployments._guard import guard
from deployments._hold import AWAITING
from deployments._jobs import Job, Schedule, job, jobs
from deployments._pause import AWAITING_SEGMENT, pause, segment_end
from deployments._settings import Settings
from deployments._shown import best_effort, table_cells
from deployments._submit import Submission, submit, submit_sync
from deployments._trigger import Trigger, Verdict

__all__ = [
    "AWAITING",
    "AWAITING_SEGMENT",
    "Job",
    "NotDeployed",
    "PrefectUnavailable",
    "Schedule",
    "Settings",
    "StageFailed",
    "Submission",
    "Trigger",
    "Verdict",
    "best_effort",
    "dispatch",
    "gate",
    "guard",
    "job",
    "jobs",
    "pause",
    "segment_end",
    "submit",
    "submit_sync",
    "table_cells",
]
