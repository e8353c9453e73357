"""What a back-test did with each job, one row a job and policy, for whoever wants to look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon._backtest_jobs import JobList
    from carbon._backtest_setting import Setting
    from carbon._backtest_settle import Outcome

_MICRO = 1e6


def runs(setting: Setting, jobs: JobList, outcomes: Sequence[Outcome]) -> pl.DataFrame:
    """Return where and when each job ran by each policy, and what it came to.

    Returns:
        ``policy``, ``job`` (where it stands in its file), ``release``, ``start`` and ``end`` in
        UTC, ``pool``, ``g`` in gCO2e, ``delay_hours``, ``queued``, ``unsafe`` and ``too_late``;
        null where a job found no slot, and ``g`` also where nobody has measured the hours.
    """
    return pl.concat([_of(setting, jobs, outcome) for outcome in outcomes])


def _of(setting: Setting, jobs: JobList, outcome: Outcome) -> pl.DataFrame:
    placed, settled = outcome.placed, outcome.settled
    step = setting.grid.step.total_seconds()
    # Who starts at once starts at its release: the rest of the step is not its delay.
    began = setting.grid.first.timestamp() + placed.start * step
    began = np.where(settled.delay == 0, jobs.release, began)
    ran = placed.pool >= 0
    names = np.array([*(pool.name for pool in setting.pools), ""])[placed.pool]
    moments = {"release": jobs.release, "start": began, "end": began + jobs.hours * 3600.0}
    table = pl.DataFrame(
        {
            "policy": np.full(len(jobs), outcome.way.value),
            "job": np.array(jobs.places)[jobs.row],
            **{name: np.round(at * _MICRO).astype(np.int64) for name, at in moments.items()},
            "pool": names,
            "g": settled.g,
            "delay_hours": settled.delay * step / 3600.0,
            "queued": placed.queued,
            "unsafe": settled.unsafe,
            "too_late": settled.late,
        }
    )
    ended = pl.Series("ran", ran)
    only_if_run = [
        pl.when(ended).then(pl.col(name)).alias(name) for name in ("start", "end", "pool")
    ]
    return table.with_columns(only_if_run).with_columns(
        pl.from_epoch(pl.col("release", "start", "end"), "us").dt.replace_time_zone("UTC"),
        pl.col("g", "delay_hours").fill_nan(None),
    )
