"""How long one decision takes.

Usage: ``python benchmarks/decision.py``. Twelve zones with a CPU and a GPU pool each, an outlook of
96 half hours, 40 hours of slack, in one process: all permitted pools at all starts worth looking
at, with refusals, five alternatives and what limits cost. One heavy stage, and a chain of light,
heavy, light. For comparison, in the same run: looking at every half hour only, for the grams alone.
The time is that of the processor, for other work on the machine is not what is measured. Each
decision is made from a request of its own, of which nothing has been worked out before. The CATS
scheduler was measured at 1.24 ms for one zone.
The last row lets the heavy stage pause, which is searched in every pool.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from carbon import (
    CarbonPolicy,
    Fleet,
    Hardware,
    IntensitySeries,
    Interruptible,
    Kind,
    Need,
    Outlook,
    Pool,
    Request,
    Stage,
    Workload,
    plan,
    regions,
)
from carbon._series import regular

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 6, 1, 12, 5, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
ZONES, STEPS, SLACK, TURNS = 12, 96, 40 * HOUR, 200


def places() -> dict[str, str]:
    """Return twelve zones with a region of each."""
    found: dict[str, str] = {}
    for region in regions().values():
        found.setdefault(region.zone, region.name)
    return dict(list(found.items())[:ZONES])


def request(*, chain: bool) -> Request:
    """Return what is to be decided."""
    light = {Hardware.CPU: Need(p50=5 * MINUTE, p95=9 * MINUTE)}
    heavy = Stage(
        name="embed",
        heavy=True,
        needs={Hardware.GPU: Need(p50=2 * HOUR, p95=3 * HOUR)},
        data_in_gb=10,
    )
    first, last = (Stage(name=name, needs=light) for name in ("list", "publish"))
    pools = tuple(
        Pool(
            name=f"{hardware}-{index}",
            region=region,
            hardware=hardware,
            capacity=4,
            watts=131,
            usd_per_hour=1.5,
        )
        for index, region in enumerate(places().values())
        for hardware in Hardware
    )
    chance = np.random.default_rng(1)
    starts, end = regular(NOW.replace(minute=0), HOUR / 2, STEPS)
    intensity = {
        zone: IntensitySeries(
            zone, starts, end, (200 + 100 * chance.random(STEPS)).tolist(), "x", kind=Kind.FORECAST
        )
        for zone in places()
    }
    return Request(
        workload=Workload(
            name="job", data_class="any", stages=(first, heavy, last) if chain else (heavy,)
        ),
        policy=CarbonPolicy(finish_by="40h", cost_tolerance_percent=100),
        fleet=Fleet(home=pools[0].region, residency={"any": ("*",)}, pools=pools),
        outlook=Outlook(NOW, NOW + SLACK, intensity, {}, {}),
        now=NOW,
        deadline=NOW + SLACK,
    )


def interruptible(workload: Workload) -> Workload:
    """Return a workload whose heavy stage may pause."""
    how = Interruptible(min_segment=HOUR / 4, restart=5 * MINUTE)
    stages = [
        stage.model_copy(update={"interruptible": how if stage.heavy else None})
        for stage in workload.stages
    ]
    return workload.model_copy(update={"stages": tuple(stages)})


def half_hours(asked: Request) -> float:
    """Return the least grams of the heavy stage over all zones and half hours."""
    starts = NOW.timestamp() + 1800.0 * np.arange(STEPS - 10)
    return min(
        float(np.nanmin(series.means(starts, 7200.0)))
        for series in asked.outlook.intensity.values()
    )


def show(what: str, do: Callable[[], object]) -> None:
    """Do something often and print a row of the table."""
    took = []
    for _ in range(TURNS):
        began = time.process_time()
        do()
        took.append(time.process_time() - began)
    print(f"{what:<44}{statistics.median(took) * 1000:>8.2f}{min(took) * 1000:>8.2f}")


def main() -> None:
    """Print the table."""
    print(f"{'ms of processor time':<44}{'median':>8}{'least':>8}")
    one, three = request(chain=False), request(chain=True)
    show("one heavy stage", lambda: plan(replace(one)))
    show("light, heavy, light", lambda: plan(replace(three)))
    show("grams alone, every half hour", lambda: half_hours(one))
    pausing = replace(three, workload=interruptible(three.workload))
    show("light, heavy in segments, light", lambda: plan(replace(pausing)))


if __name__ == "__main__":
    main()
