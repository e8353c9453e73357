"""Jobs, pools and grids for tests of the back-test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from carbon import Fleet, IntensitySeries, Kind, Pool
from carbon._backtest_grid import Trace
from carbon._backtest_jobs import Group, JobList, JobRow, job_list
from carbon._series import regular

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST = datetime(2021, 12, 10, tzinfo=UTC)
HOURS = 24 * 24
"""Hours of the traces here: three weeks and a bit, over New Year."""

BEGIN = 15 * 24
"""Hour from which on jobs come: there is a statistical forecast then."""

REGIONS = {"DE": "aws:eu-central-1", "ES": "aws:eu-south-2", "SE-SE3": "aws:eu-north-1"}
STARTUPS = timedelta(minutes=6)
"""Of the entry run, the job and its retry."""


def pool(name: str, region: str, capacity: int = 1, **more: object) -> Pool:
    """Return a GPU pool."""
    told = {"hardware": "gpu", "watts": 100, "usd_per_hour": 1, "capacity": capacity, **more}
    return Pool.model_validate({"name": name, "region": region, **told})


def fleet(*capacities: int, **more: object) -> Fleet:
    """Return a fleet with a GPU pool in each region, and the entry runs' CPU pool."""
    entry = pool("entry", REGIONS["DE"], hardware="cpu")
    pools = [
        pool(f"gpu-{zone.lower()}", region, capacity)
        for (zone, region), capacity in zip(REGIONS.items(), capacities, strict=False)
    ]
    told = {"home": REGIONS["DE"], "residency": {"public": ["*"], "personal": ["EU"]}}
    return Fleet.model_validate({**told, "pools": [entry, *pools], **more})


def trace(values: dict[str, NDArray[np.float64]], source: str = "a trace") -> Trace:
    """Return hourly values as a trace."""
    zones = {}
    for zone, row in values.items():
        starts, end = regular(FIRST, HOUR, len(row))
        zones[zone] = [IntensitySeries(zone, starts, end, row.tolist(), source, kind=Kind.ACTUAL)]
    return Trace(zones, source)


def grid_values(seed: int, hours: int = HOURS) -> dict[str, NDArray[np.float64]]:
    """Return intensities with days and weather in them."""
    rng = np.random.default_rng(seed)
    day = 1 + 0.3 * np.sin(2 * np.pi * np.arange(hours) / 24)
    found = {}
    for zone in REGIONS:
        weather = np.exp(np.cumsum(rng.normal(0, 0.03, hours)))
        found[zone] = np.clip(rng.uniform(30, 500) * day * weather, 1, 1500)
    return found


def some_jobs(seed: int, n: int, *, half: bool = False) -> JobList:
    """Return jobs of all kinds in the last days of a trace."""
    rng = np.random.default_rng(seed)
    groups = (
        Group(data_classes=("public",)),
        Group(data_classes=("personal",)),
        Group(pools=("gpu-de", "gpu-es")),
    )
    rows = []
    for _ in range(n):
        hours = int(rng.integers(1, 7)) + (0.5 if half else 0.0)
        reserve = hours * float(rng.choice([2, 2.5]))
        left = max(hours, reserve + int(rng.integers(-2, 25)))
        release = FIRST + HOUR * int(rng.integers(BEGIN, HOURS - 70))
        data = float(rng.choice([0, 0, 40]))
        rows.append(
            JobRow(
                release=release,
                finish_by=release + HOUR * left + STARTUPS,
                hours=hours,
                reserve_hours=reserve,
                kwh=float(rng.choice([np.nan, rng.lognormal()])),
                data_in_gb=data,
                data_out_gb=data / 4,
                group=groups[rng.integers(0, 3)],
            )
        )
    return job_list(rows, "some jobs")
