"""What forecasts have been worth in each zone, by the project's own rules, on real grids.

Usage: ``python benchmarks/skill.py [TRACES]`` with the folder of the hourly traces (default:
``../shared/traces``). A job of 4 h is submitted each day at 01:00 UTC with a day of slack. It goes
where the outlook says; the outlook knows only what was known by then. Three tables:

- *no forecast at all*, 2022: the statistical forecast where it has earned trust by that day,
  otherwise the job starts at once. "never gated" shows what the gate is for.
- *day-ahead forecasts*, 2021 H2: as issued, and less the errors that were usual by that day.
- how often the mean over the job lies inside the 90 % interval that was given for it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from carbon import IntensitySeries, Kind
from carbon._series import regular
from carbon._statistical import predict
from carbon._trust import Score, hindcast, score, trust

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

JOB, SLACK, AHEAD = 4, 24, 28
HOUR = timedelta(hours=1)
NAMES = {"DE": "DE", "CISO": "US-CAL-CISO", "PJM": "US-MIDA-PJM"}


@dataclass
class Result:
    """Mean intensity of a year's jobs: at once, at best, and as the outlook said."""

    at_once: float = 0.0
    best: float = 0.0
    chosen: float = 0.0
    ungated: float = 0.0
    days: int = 0
    trusted: int = 0
    inside: int = 0

    @property
    def oracle(self) -> float:
        """Possible saving in percent."""
        return 100 * (1 - self.best / self.at_once)

    def saved(self, chosen: float) -> float:
        """Saving in percent."""
        return 100 * (1 - chosen / self.at_once)

    def captured(self, chosen: float) -> float:
        """Part of the possible saving, in percent."""
        return 100 * (self.at_once - chosen) / (self.at_once - self.best)


def job_means(values: Floats) -> Floats:
    """Return the mean over the job for each start."""
    return np.convolve(values, np.ones(JOB) / JOB, "valid")


def series(values: Floats, start: datetime) -> IntensitySeries:
    """Return hourly values as a forecast."""
    starts, end = regular(start, HOUR, len(values))
    return IntensitySeries("X", starts, end, values.tolist(), "trace", kind=Kind.FORECAST)


def walk(actual: Floats, first: datetime, issued: Floats | None) -> Result:
    """Submit a job each day at 01:00 and learn from each day that is over.

    Args:
        actual: Hourly actual values.
        first: Start of the first hour, midnight UTC.
        issued: A provider's forecast for the same hours; without it the statistical one is used.
    """
    result, scores, real = Result(), list[Score](), job_means(actual)
    for hour in range(1, len(actual) - AHEAD + 1, 24):
        now = first + HOUR * hour
        believed = predict(actual[:hour], AHEAD) if issued is None else issued[hour : hour + AHEAD]
        belief = trust(scores, now)
        places = real[hour : hour + SLACK + 1]
        choice, interval = 0, None
        if believed is not None:
            view = series(believed, now)
            if belief is not None:
                view = belief.corrected(view)
            seen = job_means(np.array(view.known))
            blind = int(np.argmin(job_means(believed)))
            if issued is not None or (belief is not None and belief.earned):
                choice = int(np.argmin(seen))
                result.trusted += 1
            if belief is not None and belief.proven:
                begin = now + HOUR * choice
                interval = belief.interval(view, now, begin, begin + HOUR * JOB)
            result.ungated += float(places[blind])
        else:
            result.ungated += float(places[0])
        result.at_once += float(places[0])
        result.best += float(places.min())
        result.chosen += float(places[choice])
        if interval is not None:
            result.days += 1
            result.inside += interval[0] <= places[choice] <= interval[2]
        # The day before yesterday is over by now, all 28 hours of its jobs.
        day = hour // 24 - 1
        if day < 0:
            continue
        if issued is None:
            scores += hindcast(actual[: hour + 24], first, [day])
        else:
            at = 24 * day + 1
            made = score(issued[at : at + AHEAD], actual[at : at + AHEAD], first + HOUR * at)
            scores += [made] if made else []
    return result


def without_forecast(frame: pl.DataFrame) -> dict[str, Result]:
    """Walk through each zone of a wide frame with nothing but its own history."""
    first = frame["utc"][0].astimezone(UTC)
    return {
        zone: walk(frame[zone].to_numpy().astype(np.float64), first, None)
        for zone in frame.columns
        if zone != "utc"
    }


def with_forecast(frame: pl.DataFrame) -> dict[str, Result]:
    """Walk through each zone of a long frame with the provider's day-ahead forecast."""
    found = {}
    for name in sorted(frame["zone"].unique().to_list()):
        rows = frame.filter(pl.col("zone") == name).sort("utc")
        actual, issued = (
            rows[column].to_numpy().astype(np.float64)
            for column in ("actual_direct", "day_ahead_forecast_direct")
        )
        found[NAMES[name]] = walk(actual, rows["utc"][0].astimezone(UTC), issued)
    return found


def main() -> None:
    """Print the tables."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/traces")
    lifecycle = pl.read_parquet(folder / "intensity_lifecycle_2022_hourly.parquet")
    direct = pl.read_parquet(folder / "intensity_direct_2021H2_with_day_ahead_forecast.parquet")
    print("| no forecast | possible | never gated | gated | of possible | days trusted | in 90 % |")
    print("|---|---|---|---|---|---|---|")
    for zone, one in without_forecast(lifecycle).items():
        print(
            f"| {zone} | {one.oracle:.1f} % | {one.saved(one.ungated):.1f} % "
            f"| {one.saved(one.chosen):.1f} % | {one.captured(one.chosen):.0f} % "
            f"| {one.trusted} | {100 * one.inside / max(one.days, 1):.0f} % |"
        )
    print("\n| day-ahead forecast | possible | as issued | corrected | in 90 % |")
    print("|---|---|---|---|---|")
    for zone, one in with_forecast(direct).items():
        print(
            f"| {zone} | {one.oracle:.1f} % | {one.captured(one.ungated):.1f} % "
            f"| {one.captured(one.chosen):.1f} % | {100 * one.inside / max(one.days, 1):.0f} % |"
        )


if __name__ == "__main__":
    main()
