"""What forecasts are worth in each zone and at each lead, on real grids and by the real path.

Usage: ``python benchmarks/skill.py [TRACES] [--zones DE IE] [--json]`` with the folder of the
hourly traces (default: ``../shared/traces``). It takes a few minutes on two cores.

A job of 4 h is submitted each day at 01:00 UTC with a day of slack. What a live system does is done
each time: what the grid has been is stored, and the provider's forecast, if there is one; it is
learned from; a :class:`carbon.StoredSource` is looked at, and the planner chooses the start.
Nothing of the gating, the correction or the choice is written a second time here. Four tables:

1. *no forecast at all*, lifecycle 2022: the statistical forecast, where it has earned trust by that
   day. A zone that ends above starting at once is flagged. "least" is what the start with the least
   believed mean would have captured: what the planner's own rules cost stands between the two.
2. *day-ahead forecasts*, direct 2021 H2: as issued (stored, never learned from), and believed.
3. *errors by lead* of all that was scored, and the skill against three plain references.
4. *intervals*: how often the mean over the chosen window lies in the 90 % that were given for it.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from carbon import (
    Accounting,
    CarbonPolicy,
    Fleet,
    Hardware,
    IntensitySeries,
    Kind,
    Need,
    Pool,
    Region,
    Request,
    Stage,
    Store,
    StoredSource,
    Workload,
    look,
    plan,
)
from carbon._learn import learn
from carbon._series import regular
from carbon._statistical import statistical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carbon._trust import Trust

    Floats = NDArray[np.float64]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
JOB, SLACK = timedelta(hours=4), timedelta(hours=24)
NEEDED = 2 * JOB
"""The planner keeps one retry in reserve: a start is safe while twice the job's length is left."""

AHEAD = (SLACK + JOB) // HOUR
LEADS = (1, 3, 6, 12, 24)
"""Last hour ahead of each bucket, as in ``carbon._trust``."""

REFERENCES = ("persistence", "yesterday", "climatology")
CLIMATE_DAYS = 60
PROVIDER = "trace"
ZONES = {"DE": "DE", "CISO": "US-CAL-CISO", "PJM": "US-MIDA-PJM"}
TARGETS = {"DE": 93, "US-CAL-CISO": 99, "US-MIDA-PJM": 91}
PROCESSES = 2


class Site(Pool):
    """A pool in any grid zone, for the catalogue has no cloud region in some of them.

    Attributes:
        zone: The grid zone.
    """

    zone: str

    @property
    def place(self) -> Region:
        """The pool's region, moved to the zone."""
        return super().place.model_copy(update={"zone": self.zone})


WORKLOAD = Workload(
    name="reference-job",
    stages=(Stage(name="work", heavy=True, needs={Hardware.GPU: Need(p50=JOB, p95=JOB)}),),
    data_class="public",
)


@dataclass(frozen=True)
class Grid:
    """A zone's hourly trace.

    Attributes:
        zone: Grid zone.
        first: Start of the first hour, midnight UTC.
        actual: What came, gCO2e/kWh.
        issued: The provider's day-ahead forecast of the same hours.
        accounting: Which emissions are counted.
    """

    zone: str
    first: datetime
    actual: Floats
    issued: Floats | None = None
    accounting: Accounting = Accounting.LIFECYCLE

    def part(self, first: int, stop: int, kind: Kind) -> IntensitySeries:
        """Return some hours as a series: what came, or what was forecast of them."""
        values = self.issued if kind is Kind.FORECAST else self.actual
        assert values is not None
        starts, end = regular(self.first + HOUR * first, HOUR, stop - first)
        known = [None if np.isnan(value) else float(value) for value in values[first:stop]]
        return IntensitySeries(
            self.zone, starts, end, known, "trace", kind=kind, accounting=self.accounting
        )


@dataclass
class Intervals:
    """Where the mean over the chosen window lay in the 90 % interval that was given for it."""

    days: int = 0
    below: int = 0
    above: int = 0
    width: float = 0.0

    def add(self, told: tuple[float, float, float], mean: float) -> None:
        """Count one day."""
        self.days += 1
        self.below += mean < told[0]
        self.above += mean > told[2]
        self.width += told[2] - told[0]

    @property
    def inside_percent(self) -> float:
        """How often it lay inside."""
        return 100 * (self.days - self.below - self.above) / max(self.days, 1)

    @property
    def mean_width(self) -> float:
        """Mean width in gCO2e/kWh."""
        return self.width / max(self.days, 1)


@dataclass
class Errors:
    """Errors of one method at one bucket of leads, in gCO2e/kWh.

    Attributes:
        count: Hours that were scored.
        rmse: Root mean square of the errors.
        references: The same of each plain reference, for the very same hours.
    """

    count: int
    rmse: float
    references: dict[str, float]

    def skill(self, reference: str) -> float:
        """Return the part of a reference's error that is avoided, in percent."""
        return 100 * (1 - self.rmse / self.references[reference])


@dataclass
class Result:
    """A walk through a trace, with mean intensities summed over the days.

    Attributes:
        zone: Grid zone.
        days: Jobs that were submitted.
        at_once: What they got if started at once.
        best: What they would have got with perfect foresight.
        chosen: What they got where the planner put them.
        least: What they would have got at the start with the least believed mean.
        trusted: Days on which there was a forecast that may tell hours apart.
        decided: How often each rule decided.
        intervals: How well the means were known.
        errors: Method to lead to its errors.
    """

    zone: str
    days: int = 0
    at_once: float = 0.0
    best: float = 0.0
    chosen: float = 0.0
    least: float = 0.0
    trusted: int = 0
    decided: dict[str, int] = field(default_factory=dict)
    intervals: Intervals = field(default_factory=Intervals)
    errors: dict[str, dict[int, Errors]] = field(default_factory=dict)

    @property
    def possible_percent(self) -> float:
        """What perfect foresight saves."""
        return 100 * (1 - self.best / self.at_once)

    @property
    def saved_percent(self) -> float:
        """What was saved."""
        return 100 * (1 - self.chosen / self.at_once)

    @property
    def captured_percent(self) -> float:
        """The part of the possible saving that was saved."""
        return 100 * (self.at_once - self.chosen) / (self.at_once - self.best)

    @property
    def least_percent(self) -> float:
        """The same of the starts with the least believed mean."""
        return 100 * (self.at_once - self.least) / (self.at_once - self.best)

    @property
    def lost(self) -> bool:
        """Whether starting at once would have been better."""
        return self.chosen > self.at_once * (1 + 1e-9)


def fleet_of(zone: str) -> Fleet:
    """Return a fleet at home in the zone; nothing in it takes time to start."""
    home = "aws:eu-central-1"
    pools = [
        Site(
            name=f"home-{hardware}",
            region=home,
            zone=zone,
            hardware=hardware,
            capacity=1000,
            watts=300,
            usd_per_hour=1,
            startup=timedelta(0),
        )
        for hardware in Hardware
    ]
    return Fleet(home=home, residency={"public": ("*",)}, pools=tuple(pools))


def walk(grid: Grid, *, learns: bool = True) -> Result:
    """Submit a job each day at 01:00 UTC.

    Args:
        grid: The trace.
        learns: Whether it is learned from what is stored; without, forecasts are taken as issued.
    """
    result, store, fleet = Result(grid.zone), Store(None), fleet_of(grid.zone)
    lessons, known = _Lessons(grid), 0
    for hour in range(1, len(grid.actual) - AHEAD + 1, DAY // HOUR):
        now = grid.first + HOUR * hour
        heard = [grid.part(known, hour, Kind.ACTUAL)]
        if grid.issued is not None:
            heard.append(grid.part(hour, hour + AHEAD, Kind.FORECAST))
        store.add(PROVIDER, heard, now)
        known = hour
        if learns:
            learn(store, PROVIDER, grid.zone, now)
            lessons.take(store, now)
        source = StoredSource(store, {grid.zone: PROVIDER}, now)
        _submit(result, grid, fleet, source, hour)
    store.close()
    result.errors = lessons.errors()
    return result


def _submit(result: Result, grid: Grid, fleet: Fleet, source: StoredSource, hour: int) -> None:
    """Let the planner place one job, and see what it got."""
    now = grid.first + HOUR * hour
    deadline = now + SLACK + NEEDED
    outlook = look([source], [grid.zone], grid.zone, now, deadline)
    decision = plan(Request(WORKLOAD, CarbonPolicy(), fleet, outlook, now=now, deadline=deadline))
    assert decision.chosen.latest_safe_start == now + SLACK
    start = decision.chosen.main.start
    came = grid.part(hour, hour + AHEAD, Kind.ACTUAL)
    mean = came.mean(start, start + JOB)
    belief = source.belief(grid.zone, now, deadline)
    least = now if belief.series is None else _least(belief.series, now)
    result.days += 1
    result.at_once += came.mean(now, now + JOB)
    result.best += came.mean(best := _least(came, now), best + JOB)
    result.chosen += mean
    result.least += came.mean(least, least + JOB)
    result.decided[decision.rule.value] = result.decided.get(decision.rule.value, 0) + 1
    own = belief.trust
    result.trusted += belief.series is not None and (own is None or not own.proven or own.earned)
    told = belief.interval(start, start + JOB)
    if told is not None:
        result.intervals.add(told, mean)


def _least(series: IntensitySeries, now: datetime) -> datetime:
    """Return the safe start with the least mean: a step of the series meets one of its ends."""
    first, seconds = now.timestamp(), JOB.total_seconds()
    starts = np.unique(np.concatenate(([first], series.edges, series.edges - seconds)))
    starts = starts[(starts >= first) & (starts <= first + SLACK.total_seconds())]
    return datetime.fromtimestamp(starts[np.nanargmin(series.means(starts, seconds))], UTC)


class _Lessons:
    """What the store came to know of errors, day by day."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.methods = {statistical(PROVIDER): "statistical"}
        if grid.issued is not None:
            self.methods[PROVIDER] = "day-ahead"
        self.scored: dict[str, dict[datetime, tuple[float | None, ...]]] = {
            method: {} for method in self.methods
        }
        self.trusts: dict[tuple[str, datetime], Trust] = {}

    def take(self, store: Store, now: datetime) -> None:
        """Note what is new; what was scored once more replaces what was."""
        for method, scored in self.scored.items():
            for one in store.scores(method, self.grid.zone, now - 5 * DAY):
                scored[one.issued_at] = one.errors
            if own := store.trust(method, self.grid.zone):
                self.trusts[method, now] = own

    def errors(self) -> dict[str, dict[int, Errors]]:
        """Return the errors of each method as issued, and less those that were usual by then."""
        found: dict[str, dict[int, Errors]] = {}
        for method, name in self.methods.items():
            scored = self.scored[method]
            if not scored:
                continue
            moments = sorted(scored)
            hours = np.array([(one - self.grid.first) // HOUR for one in moments])
            raw = np.full((len(hours), LEADS[-1]), np.nan)
            for row, one in enumerate(moments):
                part = scored[one][: LEADS[-1]]
                raw[row, : len(part)] = [np.nan if error is None else error for error in part]
            usual = np.array([self._usual(method, one) for one in moments])
            plain = references(self.grid.actual, hours)
            found[name] = by_lead(raw, plain)
            found[f"{name}, corrected"] = by_lead(raw - usual, plain)
        return found

    def _usual(self, method: str, issued_at: datetime) -> Floats:
        """Return the usual error of the hours ahead, as it was known when it was issued."""
        learned = issued_at.replace(hour=1)
        own = self.trusts.get((method, learned if learned <= issued_at else learned - DAY))
        if own is None or not own.proven:
            return np.zeros(LEADS[-1])
        ahead = (issued_at + HOUR * lead for lead in range(LEADS[-1]))
        return np.array([own.usual_error(moment, issued_at) for moment in ahead])


def references(actual: Floats, hours: NDArray[np.int64]) -> dict[str, Floats]:
    """Return the errors of plain forecasts that were issued at these hours.

    Args:
        actual: Hourly values, from midnight UTC on.
        hours: First hour ahead of each issue, shape ``(n,)``.

    Returns:
        Actual less forecast by hour ahead, shape ``(n, 24)``: of the last hour's value, of the same
        hour a day before, and of the mean at that hour of the day over the last weeks.
    """
    ahead = hours[:, None] + np.arange(LEADS[-1])
    past = ahead[..., None] - 24 * np.arange(1, CLIMATE_DAYS + 1)
    seen = np.ma.masked_array(actual[np.maximum(past, 0)], past < 0)
    usual = np.ma.filled(seen.mean(axis=2), np.nan)
    yesterday = np.where(past[..., 0] >= 0, actual[past[..., 0]], np.nan)
    said = (actual[hours - 1][:, None], yesterday, usual)
    return {name: actual[ahead] - one for name, one in zip(REFERENCES, said, strict=True)}


def by_lead(errors: Floats, plain: dict[str, Floats]) -> dict[int, Errors]:
    """Return the root mean square by bucket of leads, over the hours that all have."""
    usable = np.isfinite(errors) & np.all([np.isfinite(one) for one in plain.values()], axis=0)
    found = {}
    for first, last in zip((0, *LEADS[:-1]), LEADS, strict=True):
        mask = usable[:, first:last]
        if mask.any():
            rmse, *others = (
                float(np.sqrt((one[:, first:last][mask] ** 2).mean()))
                for one in (errors, *plain.values())
            )
            found[last] = Errors(int(mask.sum()), rmse, dict(zip(plain, others, strict=True)))
    return found


def without_forecast(folder: Path) -> list[Grid]:
    """Return the zones of the trace that has no forecast."""
    frame = pl.read_parquet(folder / "intensity_lifecycle_2022_hourly.parquet").sort("utc")
    first = frame["utc"][0].astimezone(UTC)
    return [
        Grid(zone, first, frame[zone].to_numpy().astype(np.float64))
        for zone in frame.columns
        if zone != "utc"
    ]


def with_forecast(folder: Path) -> list[Grid]:
    """Return the zones of the trace with a provider's day-ahead forecast."""
    path = folder / "intensity_direct_2021H2_with_day_ahead_forecast.parquet"
    frame = pl.read_parquet(path).sort("zone", "utc")
    grids = []
    for name, zone in ZONES.items():
        rows = frame.filter(pl.col("zone") == name)
        actual, issued = (
            rows[column].to_numpy().astype(np.float64)
            for column in ("actual_direct", "day_ahead_forecast_direct")
        )
        first = rows["utc"][0].astimezone(UTC)
        grids.append(Grid(zone, first, actual, issued, Accounting.DIRECT))
    return grids


def measure(grids: Sequence[Grid], *, learns: bool = True) -> dict[str, Result]:
    """Walk through some traces, two at a time; progress goes to standard error."""
    found: dict[str, Result] = {}
    # Spawned: polars has threads, and a process that has them must not be forked.
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        waiting = {pool.submit(walk, grid, learns=learns): grid.zone for grid in grids}
        for done in as_completed(waiting):
            found[waiting[done]] = done.result()
            print(f"{len(found)} of {len(grids)}: {waiting[done]}", file=sys.stderr)
    return {grid.zone: found[grid.zone] for grid in grids}


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table."""
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")


def show(plain: dict[str, Result], issued: dict[str, Result], believed: dict[str, Result]) -> None:
    """Print the tables."""
    table(
        "No forecast at all, lifecycle 2022",
        ("zone", "possible", "saved", "captured", "least", "days trusted", "floor"),
        [
            (
                zone,
                f"{one.possible_percent:.1f} %",
                f"{one.saved_percent:.1f} %",
                f"{one.captured_percent:.1f} %",
                f"{one.least_percent:.1f} %",
                f"{one.trusted} of {one.days}",
                "BELOW RUN-NOW" if one.lost else "kept",
            )
            for zone, one in plain.items()
        ],
    )
    table(
        "Day-ahead forecast, direct 2021 H2: part of the possible saving that was captured",
        ("zone", "possible", "as issued", "least", "believed", "least", "target", "reached"),
        [
            (
                zone,
                f"{one.possible_percent:.1f} %",
                f"{issued[zone].captured_percent:.1f} %",
                f"{issued[zone].least_percent:.1f} %",
                f"{one.captured_percent:.1f} %",
                f"{one.least_percent:.1f} %",
                f"{TARGETS[zone]} %",
                _reached(one.captured_percent, TARGETS[zone]),
            )
            for zone, one in believed.items()
        ],
    )
    table(
        "Root mean square error in g/kWh by hours ahead, and in brackets the skill in % against "
        f"{', '.join(REFERENCES)}",
        ("trace", "zone", "method", *(f"{lead} h" for lead in LEADS)),
        [
            (name, zone, method, *(_cell(errors.get(lead)) for lead in LEADS))
            for name, found in (("2022", plain), ("2021 H2", believed))
            for zone, one in found.items()
            for method, errors in one.errors.items()
        ],
    )
    table(
        "The mean over the chosen window, and the 90 % interval that was given for it",
        ("trace", "zone", "days", "inside", "below", "above", "mean width"),
        [
            (
                name,
                zone,
                one.intervals.days,
                f"{one.intervals.inside_percent:.0f} %",
                one.intervals.below,
                one.intervals.above,
                f"{one.intervals.mean_width:.0f} g/kWh",
            )
            for name, found in (("2022", plain), ("2021 H2", believed))
            for zone, one in found.items()
        ],
    )


def _cell(errors: Errors | None) -> str:
    if errors is None:
        return ""
    skills = " ".join(f"{errors.skill(name):+.0f}" for name in REFERENCES)
    return f"{errors.rmse:.1f} ({skills})"


def as_json(results: dict[str, dict[str, Result]]) -> str:
    """Return all that was found, with what the tables show of it."""
    return json.dumps(
        {
            name: {zone: _told(one) for zone, one in found.items()}
            for name, found in results.items()
        },
        indent=1,
    )


def _told(one: Result) -> dict[str, object]:
    shown = ("possible_percent", "saved_percent", "captured_percent", "least_percent", "lost")
    skills = {
        method: {
            lead: {name: errors.skill(name) for name in REFERENCES} for lead, errors in by.items()
        }
        for method, by in one.errors.items()
    }
    return (
        asdict(one)
        | {name: getattr(one, name) for name in shown}
        | {"inside_percent": one.intervals.inside_percent, "skill_percent": skills}
    )


def _reached(captured: float, target: float) -> str:
    if captured >= target:
        return "yes"
    return "rounded" if round(captured) >= target else "NO"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("traces", nargs="?", type=Path, default=Path("../shared/traces"))
    parser.add_argument("--zones", nargs="+", metavar="ZONE", help="only these")
    parser.add_argument("--json", action="store_true", help="all numbers, for a machine")
    options = parser.parse_args()
    bare, ahead = without_forecast(options.traces), with_forecast(options.traces)
    if options.zones:
        if unknown := {*options.zones} - {grid.zone for grid in (*bare, *ahead)}:
            parser.error(f"no trace of {', '.join(sorted(unknown))}")
        bare, ahead = ([one for one in some if one.zone in options.zones] for some in (bare, ahead))
    results = {
        "no_forecast": measure(bare),
        "as_issued": measure(ahead, learns=False),
        "believed": measure(ahead),
    }
    if options.json:
        print(as_json(results))
    else:
        show(*results.values())


if __name__ == "__main__":
    main()
