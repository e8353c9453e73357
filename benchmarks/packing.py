"""How fast and how close to the best many jobs are packed, and what capacity costs.

Usage: ``python benchmarks/packing.py [TRACES]`` where TRACES is a folder with
``intensity_lifecycle_2022_hourly.parquet`` (default: ``../shared/traces``).

The first table packs jobs of all kinds (1 to 18 half hours, power log-normal, up to a day of slack,
each permitted in a quarter to all of 12 pools) into 48 hours of real grids; load is the steps that
jobs run over the steps that pools have. The second packs small fleets of such jobs: 3 to 12 pools,
load .6 to .95, drawn by chance. The last packs one four-hour job an hour, from Germany, for a year:
what is saved against running each at once, as if home had no limit. In a single pool the
best plan is a linear program whose matrix has consecutive ones, so HiGHS finds it exactly.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from carbon._packing import Packing, pack
from carbon._packing_input import Jobs

Floats = NDArray[np.float64]
STEPS = 96
POOLS = 12
HOURS = 4
SLACK = 24
SMALL = 20
SIX = ("DE", "IE", "NL", "FR", "SE-SE3", "ES")


def main() -> None:
    """Print the tables."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/traces")
    traces = pl.read_parquet(folder / "intensity_lifecycle_2022_hourly.parquet").drop("utc")
    began = time.perf_counter()
    pack(*mixed(traces, 20, 0.5))
    print(f"first packing of this process: {time.perf_counter() - began:.1f} s (compiles once)\n")
    print_sizes(traces)
    print_small(traces)
    print_arrival(traces)
    print_year(traces)


def print_sizes(traces: pl.DataFrame) -> None:
    """Print wall time, gap and memory by size and load."""
    print("| jobs | load | wall s | gap % | gap, % of possible saving | unplaced | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    for n in (1_000, 10_000, 100_000):
        for load in (0.6, 0.8, 0.9):
            jobs, intensity, capacity = mixed(traces, n, load)
            packing, took = timed(jobs, intensity, capacity)
            room = pack(jobs, intensity, np.full_like(capacity, n)).cost
            worst = -pack(flipped(jobs), -intensity, np.full_like(capacity, n)).cost
            possible = 100 * (packing.cost - packing.bound) / (worst - room)
            full = np.mean(jobs.duration, where=jobs.permitted, axis=1).sum() / capacity.sum()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"| {n:,} | {full:.2f} | {took:.2f} | {100 * packing.gap:.2f} | {possible:.2f} "
                f"| {len(packing.unplaced)} | {peak:.0f} |"
            )


def print_small(traces: pl.DataFrame) -> None:
    """Print gap and wall time of small fleets."""
    print(
        "\n| jobs | fleets | within 1 % | all placed | gap %: median, worst "
        "| wall s: median, worst |"
    )
    print("|---|---|---|---|---|---|")
    chance = np.random.default_rng(0)
    for low, high in ((50, 100), (100, 200), (200, 400)):
        rows = []
        for seed in range(SMALL):
            n, pools = chance.integers(low, high), chance.choice([3, 6, 12])
            packing, took = timed(*mixed(traces, n, chance.uniform(0.6, 0.95), seed, pools))
            rows.append((100 * packing.gap, len(packing.unplaced), took))
        gaps, unplaced, took = np.array(rows).T
        print(
            f"| {low} to {high} | {SMALL} | {100 * np.mean(gaps < 1):.0f} % "
            f"| {100 * np.mean(unplaced == 0):.0f} % | {np.median(gaps):.2f}, {gaps.max():.2f} "
            f"| {np.median(took):.2f}, {took.max():.1f} |"
        )


def print_arrival(traces: pl.DataFrame) -> None:
    """Print what one more job costs when all others are planned."""
    jobs, intensity, capacity = mixed(traces, 10_000, 0.8)
    known = 9_980
    packing = pack(jobs.first(known), intensity, capacity)
    took = []
    for n in range(known + 1, len(jobs.earliest) + 1):
        began = time.perf_counter()
        packing = pack(jobs.first(n), intensity, capacity, after=packing)
        took.append(time.perf_counter() - began)
    print(
        f"\n20 more jobs, one by one, into {known:,}: median {1000 * np.median(took):.0f} ms each, "
        f"gap {100 * packing.gap:.2f} %, {len(packing.unplaced)} unplaced\n"
    )


def print_year(traces: pl.DataFrame) -> None:
    """Print what is saved in a year under capacity, against greedy and the bound."""
    print("| zones | capacity | first come % | packed % | best % | gap % | wall s |")
    print("|---|---|---|---|---|---|---|")
    for zones, capacity in (
        (("DE",), 8),
        (("US-CAL-CISO",), 8),
        *((SIX, each) for each in (8, 4, 2, 1)),
    ):
        jobs, intensity = hourly(traces, zones)
        at_once = sum(intensity[0, s : s + HOURS].sum() for s in jobs.earliest)
        limit = np.full(intensity.shape, capacity)
        packing, took = timed(jobs, intensity, limit)
        greedy = first_come(jobs, intensity, limit)
        best = exact(jobs, intensity[0], capacity) if len(zones) == 1 else packing.bound
        name = zones[0] if len(zones) == 1 else f"{len(zones)} in the EU"
        saved = [f"{100 * (1 - grams / at_once):.2f}" for grams in (greedy, packing.cost, best)]
        saved[2] += "" if len(zones) == 1 else " at most"
        print(
            f"| {name} | {capacity} | {' | '.join(saved)} | {100 * packing.gap:.2f} | {took:.1f} |"
        )


def timed(jobs: Jobs, intensity: Floats, capacity: NDArray[np.int64]) -> tuple[Packing, float]:
    """Pack and say how long it took."""
    began = time.perf_counter()
    return pack(jobs, intensity, capacity), time.perf_counter() - began


def mixed(
    traces: pl.DataFrame, n: int, load: float, seed: int = 1, pools: int = POOLS
) -> tuple[Jobs, Floats, NDArray[np.int64]]:
    """Return jobs of all kinds, two days of real grids, and capacity for a load."""
    rng = np.random.default_rng(seed)
    hours = traces.to_numpy().T[:pools]
    begin = rng.integers(0, hours.shape[1] - STEPS)
    intensity = np.repeat(hours[:, begin : begin + STEPS // 2], 2, axis=1)
    speed = rng.choice([1.0, 1.0, 1.5, 0.75], pools)
    duration = np.maximum(1, np.round(rng.integers(1, 13, n)[:, None] * speed)).astype(int)
    last = STEPS - duration.max(axis=1)
    earliest = np.floor(rng.random(n) * (last + 1)).astype(int)
    home = rng.integers(0, pools, n)
    permitted = rng.random((n, pools)) < rng.choice([0.25, 0.5, 1.0], n)[:, None]
    permitted[np.arange(n), home] = True
    energy = rng.lognormal(0, 1, n)[:, None] * rng.uniform(0.45, 0.7, pools)
    transfer = rng.uniform(0, 60, (n, 1)) * energy * rng.uniform(0.5, 1.5, pools)
    jobs = Jobs(
        earliest=earliest,
        latest=np.minimum(last, earliest + rng.integers(0, 49, n)),
        duration=duration,
        energy=energy,
        fixed=np.where(np.arange(pools) == home[:, None], 0.0, transfer),
        permitted=permitted,
    )
    size = rng.uniform(0.3, 2, pools)
    total = np.mean(duration, where=permitted, axis=1).sum() / load
    by_pool = np.maximum(1, total * size / size.sum() / STEPS)
    taken = rng.choice([1, 1, 0.8, 0.9], (pools, STEPS))  # by reservations
    return jobs, intensity, np.round(by_pool[:, None] * taken / taken.mean()).astype(int)


def hourly(traces: pl.DataFrame, zones: tuple[str, ...]) -> tuple[Jobs, Floats]:
    """Return one job an hour for a year, each with a day of slack in all zones."""
    intensity = traces.select(zones).to_numpy().T
    n = intensity.shape[1] - HOURS - SLACK + 1
    by_pool = np.ones((n, len(zones)))
    earliest = np.arange(n)
    jobs = Jobs(earliest, earliest + SLACK, HOURS * by_pool, by_pool, 0 * by_pool, by_pool > 0)
    return jobs, intensity


def flipped(jobs: Jobs) -> Jobs:
    """Return the same jobs with what they cost turned round, so that the worst comes out best."""
    return replace(jobs, fixed=-np.asarray(jobs.fixed))


def first_come(jobs: Jobs, intensity: Floats, capacity: NDArray[np.int64]) -> float:
    """Return the grams when each job in turn takes the best window that is still free."""
    free, grams = capacity.copy(), 0.0
    window = np.lib.stride_tricks.sliding_window_view
    costs = window(intensity, HOURS, axis=1).sum(axis=2)
    for begin, end in zip(jobs.earliest, jobs.latest, strict=True):
        open_ = window(free[:, begin : end + HOURS], HOURS, axis=1).min(axis=2) > 0
        value = np.where(open_, costs[:, begin : end + 1], np.inf)
        p, s = np.unravel_index(np.argmin(value), value.shape)
        grams += value[p, s]
        free[p, begin + s : begin + s + HOURS] -= 1
    return float(grams)


def exact(jobs: Jobs, intensity: Floats, capacity: int) -> float:
    """Return the grams of the best plan in one pool, by linear programming."""
    n, starts = len(jobs.earliest), np.arange(SLACK + 1)
    begin = (np.asarray(jobs.earliest)[:, None] + starts).ravel()
    columns = np.arange(len(begin))
    costs = np.lib.stride_tricks.sliding_window_view(intensity, HOURS).sum(axis=1)[begin]
    steps = (begin[:, None] + np.arange(HOURS)).ravel()
    runs = sparse.csr_array((np.ones(len(steps)), (steps, np.repeat(columns, HOURS))))
    once = sparse.csr_array((np.ones(len(columns)), (np.repeat(np.arange(n), SLACK + 1), columns)))
    limit = np.full(runs.shape[0], capacity)
    return float(linprog(costs, A_ub=runs, b_ub=limit, A_eq=once, b_eq=np.ones(n)).fun)


if __name__ == "__main__":
    main()
