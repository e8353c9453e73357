"""What time, place and both save on a real grid, and what a decision costs in time.

Usage: ``python benchmarks/placement.py [TRACES]`` where TRACES is a folder with
``intensity_lifecycle_2022_hourly.parquet`` (default: ``../shared/traces``). A four-hour GPU job,
home in Germany, a day of slack, released every 29 hours of 2022 with perfect foresight: an upper
bound, since a forecast is never perfect. The planner's time is compared with a scan of every five
minutes, in the same run.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from carbon import (
    CarbonPolicy,
    Fleet,
    Hardware,
    Kind,
    Need,
    Pool,
    ReplaySource,
    Request,
    Stage,
    Workload,
    look,
    plan,
)
from carbon._chain import Starts

REGIONS = {
    "DE": "aws:eu-central-1",
    "FR": "aws:eu-west-3",
    "ES": "aws:eu-south-2",
    "SE-SE3": "aws:eu-north-1",
    "IE": "aws:eu-west-1",
}
DAY = timedelta(hours=24)


def main() -> None:
    """Print the two tables."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/traces")
    source = ReplaySource(folder / "intensity_lifecycle_2022_hourly.parquet", kind=Kind.ACTUAL)
    fleet = make_fleet([zone for zone in REGIONS if zone in source.zones])
    releases = [
        datetime(2022, 1, 1, tzinfo=UTC) + timedelta(hours=29) * step for step in range(296)
    ]
    cases = {
        "time alone": (CarbonPolicy(only_regions=("aws:eu-central-1",)), True),
        "place alone": (CarbonPolicy(cost_tolerance_percent=100), False),
        "time and place": (CarbonPolicy(cost_tolerance_percent=100), True),
    }
    print(f"{len(releases)} releases of 2022, zones {', '.join(REGIONS)}, perfect foresight\n")
    print("| freedom | mean saving | median decision |\n|---|---|---|")
    for name, (policy, may_wait) in cases.items():
        saved, took = [], []
        for release in releases:
            request = make_request(source, fleet, policy, release, may_wait=may_wait)
            began = time.perf_counter()
            decision = plan(request)
            took.append(time.perf_counter() - began)
            saved.append(decision.saving_percent or 0.0)
        print(f"| {name} | {np.mean(saved):.1f} % | {np.median(took) * 1000:.1f} ms |")
    compare_with_scan(source, fleet, releases[:50])


def compare_with_scan(source: ReplaySource, fleet: Fleet, releases: list[datetime]) -> None:
    """Compare the exact candidates with a scan of every five minutes."""
    policy = CarbonPolicy(cost_tolerance_percent=100)
    worse, exact, scan = 0.0, 0.0, 0.0
    for release in releases:
        request = make_request(source, fleet, policy, release, may_wait=True)
        began = time.perf_counter()
        best = plan(request).chosen.g or np.inf
        exact += time.perf_counter() - began
        began = time.perf_counter()
        scanned = min(scan_pool(request, pool) for pool in fleet.pools if pool.hardware == "gpu")
        scan += time.perf_counter() - began
        worse = max(worse, scanned / best - 1)
    print(f"\nA five-minute scan is up to {100 * worse:.3f} % worse and takes {scan / exact:.2f}")
    print("of the planner's time (which also explains itself).")


def scan_pool(request: Request, pool: Pool) -> float:
    """Return the least emissions in a pool over a five-minute grid of starts."""
    chain = request.chain([pool])
    last = (request.deadline - chain.needed).timestamp()
    starts = Starts(request, np.arange(request.now.timestamp(), last, 300.0))
    return float(np.nanmin(chain.grams(starts)))


def make_fleet(zones: list[str]) -> Fleet:
    """Return a fleet of one CPU pool at home and a GPU pool in each zone, all of one price."""
    home = Pool(
        name="home-cpu",
        region=REGIONS["DE"],
        hardware="cpu",
        capacity=4,
        watts=15,
        usd_per_hour=0.25,
    )
    pools = [
        Pool(
            name=f"{zone.lower()}-gpu",
            region=REGIONS[zone],
            hardware="gpu",
            capacity=4,
            watts=300,
            usd_per_hour=1.5,
        )
        for zone in zones
    ]
    return Fleet(home=REGIONS["DE"], residency={"public": ("*",)}, pools=(home, *pools))


def make_request(
    source: ReplaySource, fleet: Fleet, policy: CarbonPolicy, release: datetime, *, may_wait: bool
) -> Request:
    """Return the request of one release."""
    need = Need(p50=timedelta(hours=4), p95=timedelta(hours=4))
    job = Workload(
        name="job",
        data_class="public",
        stages=(Stage(name="train", heavy=True, needs={Hardware.GPU: need}),),
    )
    zones = {pool.place.zone for pool in fleet.pools}
    return Request(
        workload=job,
        policy=policy,
        fleet=fleet,
        outlook=look([source], zones, "DE", release, release + DAY + timedelta(hours=6), priced=()),
        now=release,
        deadline=release + DAY + timedelta(hours=4),
        may_wait=may_wait,
    )


if __name__ == "__main__":
    main()
