"""What it is worth to know that a forecast is unsure, on real grids: four questions, four tables.

Usage: ``python -m benchmarks.uncertainty [TRACES] [--zones IE DE]`` with the folder of the hourly
traces (default: ``../shared/traces``). It takes some minutes on two cores.

A job of 4 h may start within 24 h. What is believed comes the real way: what the grid has been and
what was forecast is stored, learned from every 3 h, and a :class:`carbon.StoredSource` is looked at
each hour. On what was believed then, rules of choice are replayed. All begin as the planner does:
the least expected mean over the job's window, and at once where that is within 1 % of it.

1. *Point forecast or conditional mean?* A job a day at 01:00 UTC, day-ahead forecasts of 2021 H2,
   and actual values of 2022 with an autocorrelated error put on them.
2. *Choose once, or commit late?* A job each six hours, the statistical forecast of 2022: nothing is
   looked at again; the run plans again when it wakes, and waits again for a gain above a threshold;
   every three hours the start is moved for a gain above a threshold.
3. *Avoid risk?* Choose by the expected mean plus some standard deviations of its error.
4. *Several places?* The same, where the job may also run in another zone.

Captured is the part of what perfect foresight saves against starting at once (at home, the first
zone of several). A gain is in points of that, with its standard error over days (Newey-West, three
days: neighbouring days share their weather); in brackets the moves of a job.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.skill import (
    AHEAD,
    HOUR,
    JOB,
    PROCESSES,
    PROVIDER,
    SLACK,
    Grid,
    table,
    with_forecast,
    without_forecast,
)
from carbon import Kind, Store, StoredSource
from carbon._learn import learn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from carbon import Trust

    Floats = NDArray[np.float64]
    Whole = NDArray[np.int64]

STARTS = SLACK // HOUR + 1
NEAR = 0.01
LEARNED_EVERY = 3
WARM_UP = 21
"""Days that are not counted, for nothing can be known yet."""

NOISY = ("DE", "IE", "ES", "US-CAL-CISO")
NOISE = ((0.1, 0.94), (0.2, 0.94), (0.4, 0.94), (0.2, 0.73), (0.4, 0.73))
"""Standard deviation in parts of the mean intensity, and correlation of neighbouring hours."""

ON_WAKING = (0.0, 0.01, 0.02, 0.05, 0.1)
HOURLY = (0.0, 0.01, 0.02, 0.05)
EVERY = 3
RISK = (0.1, 0.2, 0.5, 1.0)
TOGETHER = (("IE", "DE"), ("ES", "FI", "GB"), ("IE", "NL", "GB", "DE"))


@dataclass(frozen=True)
class Believed:
    """What was believed of a zone at each hour that was looked at, and what came.

    Attributes:
        zone: Grid zone.
        means: Expected mean over a job that starts so many hours later, shape ``(hours, 25)``;
            ``nan`` where nothing was believed.
        widths: Standard deviation of its error, of the same shape; 0 where it is not known.
        came: Actual mean over a job that starts at the hour, shape ``(hours,)``.
        kept: How much of the departures from the typical day was believed in the end.
    """

    zone: str
    means: Floats
    widths: Floats
    came: Floats
    kept: float = 1.0


class _AsTold:
    """A store that lets a forecast's departures from the typical day all come true."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def trust(self, method: str, zone: str) -> Trust | None:
        own = self.store.trust(method, zone)
        return own and own.model_copy(update={"typical": (), "kept": 1.0})


def believe(grid: Grid, every: int = 1) -> tuple[Believed, Believed]:
    """Return what was believed, as it is and without the conditional mean.

    Args:
        grid: The trace.
        every: Hours between two looks, the first at 01:00 UTC.
    """
    store, known = Store(None), 0
    hours = len(grid.actual)
    shape = (2, hours, STARTS)
    means, widths = np.full(shape, np.nan), np.zeros(shape)
    for hour in range(1, hours - AHEAD + 1, every):
        now = grid.first + HOUR * hour
        if every > LEARNED_EVERY or hour % LEARNED_EVERY == 1:
            heard = [grid.part(known, hour, Kind.ACTUAL)]
            if grid.issued is not None:
                heard.append(grid.part(hour, hour + AHEAD, Kind.FORECAST))
            store.add(PROVIDER, heard, now)
            known = hour
            learn(store, PROVIDER, grid.zone, now)
        starts = now.timestamp() + HOUR.total_seconds() * np.arange(STARTS)
        for place, kept in enumerate((store, cast("Store", _AsTold(store)))):
            if place and grid.issued is None:
                break
            source = StoredSource(kept, {grid.zone: PROVIDER}, now)
            belief = source.belief(grid.zone, now, now + HOUR * AHEAD)
            if belief.series is not None:
                means[place, hour] = belief.series.means(starts, JOB.total_seconds())
                if belief.trust is not None:
                    widths[place, hour] = _widths(belief.trust)
    own = store.trust(PROVIDER, grid.zone)
    store.close()
    came = sliding_window_view(np.append(grid.actual, np.full(3, np.nan)), 4).mean(axis=1)
    found = [Believed(grid.zone, means[place], widths[place], came) for place in (0, 1)]
    return Believed(grid.zone, means[0], widths[0], came, own.kept if own else 1.0), found[1]


def _widths(own: Trust) -> list[float]:
    ahead = np.arange(JOB // HOUR)
    return [own.width(ahead + lead) for lead in range(STARTS)]


@dataclass(frozen=True)
class Rule:
    """How a start is chosen.

    Attributes:
        name: For the head of a table.
        wakes: Whether the run plans again when it wakes.
        every: Hours between two looks while it waits; 0 for none.
        threshold: Part of what is expected that a move must save.
        risk: Standard deviations that are put on what is expected.
    """

    name: str
    wakes: bool = False
    every: int = 0
    threshold: float = 0.0
    risk: float = 0.0


ONCE = Rule("once")


@dataclass(frozen=True)
class Outcome:
    """What jobs got by one rule.

    Attributes:
        chosen: Mean intensity of each job, in gCO2e/kWh.
        at_once: The same at once at home.
        best: The same with perfect foresight.
        day: Day of each job.
        moves: Of each job, the first wait included.
    """

    chosen: Floats
    at_once: Floats
    best: Floats
    day: Whole
    moves: Whole

    @property
    def possible(self) -> float:
        """What could be saved a job, in gCO2e/kWh."""
        return float((self.at_once - self.best).mean())

    @property
    def captured_percent(self) -> float:
        """The part of it that was saved."""
        return 100 * float((self.at_once - self.chosen).mean()) / self.possible

    def gain(self, before: Outcome) -> tuple[float, float]:
        """Return what was captured more than by another rule, and its standard error."""
        better = 100 * (before.chosen - self.chosen) / self.possible
        by_day = np.array([better[self.day == day].mean() for day in np.unique(self.day)])
        left = by_day - by_day.mean()
        variance = float(left @ left)
        for lag in range(1, 4):
            variance += 2 * (1 - lag / 4) * float(left[lag:] @ left[:-lag])
        return float(by_day.mean()), float(np.sqrt(max(variance, 0.0))) / len(left)


def replay(zones: Sequence[Believed], rule: Rule, at: Sequence[int] = (1, 7, 13, 19)) -> Outcome:
    """Let jobs choose start and place by a rule.

    Args:
        zones: What was believed of each zone; the first one is home.
        rule: The rule.
        at: Hours of the UTC day at which a job is submitted.
    """
    days = len(zones[0].came) // 24 - 2
    hours = np.array([24 * day + hour for day in range(WARM_UP, days) for hour in at])
    came = np.stack([one.came[hours[:, None] + np.arange(STARTS)] for one in zones], axis=1)
    at_once, best = came[:, 0, 0], came.min(axis=(1, 2))
    picked = [_pick(zones, rule, int(hour)) for hour in hours]
    place, wait, moves = (np.array(column) for column in zip(*picked, strict=True))
    chosen = came[np.arange(len(hours)), place, wait]
    return Outcome(chosen, at_once, best, hours // 24, moves)


def _pick(zones: Sequence[Believed], rule: Rule, hour: int) -> tuple[int, int, int]:
    """Return the place, the hours that a job waits and how often it moved."""
    place, wait, _ = _least(zones, rule, hour, 0)
    moves = int(wait > 0)
    for waited in range(1, STARTS):
        if waited > wait:
            break
        looked = rule.every and waited % rule.every == 0
        if not looked and not (rule.wakes and waited == wait):
            continue
        values = _values(zones, rule, hour, waited)
        there, then, value = _least(zones, rule, hour, waited, near=0.0)
        if value < values[place, wait - waited] * (1 - rule.threshold) - 1e-9:
            place, wait, moves = there, then, moves + 1
    return place, wait, moves


def _values(zones: Sequence[Believed], rule: Rule, hour: int, waited: int) -> Floats:
    """Return what each start is taken to be worth, ``inf`` where nothing is believed."""
    rows = [one.means[hour + waited] + rule.risk * one.widths[hour + waited] for one in zones]
    values = np.where(np.isnan(rows), np.inf, rows)
    values[:, STARTS - waited :] = np.inf
    return values


def _least(
    zones: Sequence[Believed], rule: Rule, hour: int, waited: int, near: float = NEAR
) -> tuple[int, int, float]:
    """Return place, hours from submission and value of the least; at once where that is near."""
    values = _values(zones, rule, hour, waited)
    if not np.isfinite(values[0, 0]):  # home is not known, so nothing can be compared
        return 0, waited, np.inf
    place, later = np.unravel_index(int(values.argmin()), values.shape)
    soon = int(values[:, 0].argmin())
    if values[soon, 0] <= values[place, later] * (1 + near):
        return soon, waited, float(values[soon, 0])
    return int(place), waited + int(later), float(values[place, later])


def noisy(grid: Grid, size: float, correlation: float) -> Grid:
    """Return a trace with a forecast that is what came and an autocorrelated error."""
    draws = np.random.default_rng(0).standard_normal(len(grid.actual))
    error = np.empty(len(draws))
    left = draws[0]
    for place, draw in enumerate(draws):
        left = correlation * left + np.sqrt(1 - correlation**2) * draw
        error[place] = left
    issued = np.maximum(0.0, grid.actual + size * grid.actual.mean() * error)
    name = f"{grid.zone}, error {size:.0%}, correlation {correlation}"
    return Grid(name, grid.first, grid.actual, issued)


def believe_all(grids: Iterable[Grid], every: int = 1) -> list[tuple[Believed, Believed]]:
    """Walk through some traces, two at a time."""
    # Spawned: polars has threads, and a process that has them must not be forked.
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        found = []
        for one in pool.map(partial(believe, every=every), grids):
            found.append(one)
            print(one[0].zone, file=sys.stderr)
    return found


def _gain(one: Outcome, before: Outcome) -> str:
    mean, error = one.gain(before)
    return f"{mean:+.1f} ± {error:.1f} ({one.moves.mean():.2f})"


def compare(title: str, sets: Sequence[Sequence[Believed]], rules: Sequence[Rule]) -> None:
    """Print what each rule gains against choosing once."""
    rows = []
    for zones in sets:
        once = replay(zones, ONCE)
        gains = [_gain(replay(zones, rule), once) for rule in rules]
        name = ", ".join(one.zone for one in zones)
        captured = f"{once.captured_percent:.1f} % ({once.moves.mean():.2f})"
        rows.append((name, f"{once.possible:.0f} g/kWh", captured, *gains))
    table(title, ("zone", "possible", "once", *(rule.name for rule in rules)), rows)


def show_expected(found: Sequence[tuple[Believed, Believed]]) -> None:
    """Print what the conditional mean gains against the point forecast."""
    rows = []
    for ours, told in found:
        point, mean = (replay([one], ONCE, at=(1,)) for one in (told, ours))
        gain, error = mean.gain(point)
        captured = (f"{one.captured_percent:.1f} %" for one in (point, mean))
        rows.append((ours.zone, f"{ours.kept:.2f}", *captured, f"{gain:+.1f} ± {error:.1f}"))
    table(
        "1. Point forecast or conditional mean?",
        ("forecast", "kept in the end", "point forecast", "conditional mean", "gain"),
        rows,
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("traces", nargs="?", type=Path, default=Path("../shared/traces"))
    parser.add_argument("--zones", nargs="+", metavar="ZONE", help="only these")
    options = parser.parse_args()
    bare, ahead = without_forecast(options.traces), with_forecast(options.traces)
    if options.zones:
        bare, ahead = ([one for one in some if one.zone in options.zones] for some in (bare, ahead))
    worse = [noisy(one, *error) for one in bare if one.zone in NOISY for error in NOISE]
    show_expected(believe_all([*ahead, *worse], every=24))
    believed = {one.zone: one for one, _ in believe_all(bare)}
    waking = [Rule(f"on waking, {one:.0%}", wakes=True, threshold=one) for one in ON_WAKING]
    hourly = [
        Rule(f"each {EVERY} h, {one:.0%}", wakes=True, every=EVERY, threshold=one) for one in HOURLY
    ]
    alone = [[one] for one in believed.values()]
    compare("2. Choose once, or commit late?", alone, [*waking, *hourly])
    compare("3. Avoid risk?", alone, [Rule(f"{one:g} deviations", risk=one) for one in RISK])
    together = [[believed[zone] for zone in zones] for zones in TOGETHER if {*zones} <= {*believed}]
    compare("4. Several places?", together, [*waking[1:4], *hourly, Rule("risk 0.2", risk=0.2)])


if __name__ == "__main__":
    main()
