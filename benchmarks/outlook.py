"""How long an outlook takes, and how large its store grows.

Usage: ``python benchmarks/outlook.py``. Twelve European zones in quarter hours, from an
Energy-Charts on loopback whose every answer takes 200 ms, into a store as it is after 60 days: two
months of actual values, hourly scores, and four days of forecasts that were heard every 15 minutes.

- *cold look*: a process opens the store file and looks at all zones; must stay below 50 ms.
- *refresh*: all zones are asked, what came is stored, and it is learned from; must stay below 1 s.
- *size*: of the file after those 60 days.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from carbon import IntensitySeries, Kind, Signals, Store, look
from carbon._learn import learn
from carbon._series import regular
from carbon._trust import Score
from carbon.providers import Feed, Keys
from tests.carbon.providers.wire import Answer, Wire

if TYPE_CHECKING:
    from carbon import Outlook
    from tests.carbon.providers.wire import Asked

NAME, SOURCE = "energy-charts", "Energy-Charts, Fraunhofer ISE (CC BY 4.0)"
LEVELS = {
    "AT": 150.0,
    "BE": 170.0,
    "CH": 90.0,
    "DE": 380.0,
    "ES": 140.0,
    "FI": 110.0,
    "FR": 60.0,
    "GR": 330.0,
    "IE": 310.0,
    "NL": 320.0,
    "PL": 680.0,
    "SE-SE3": 25.0,
}
QUARTER, HOUR, DAY = timedelta(minutes=15), timedelta(hours=1), timedelta(days=1)
HISTORY_DAYS, FORECAST_DAYS, HORIZON = 60, 4, timedelta(hours=48)
LATENCY_S = 0.2
NOW = datetime(2026, 6, 1, 12, 5, tzinfo=UTC)


def grid(zone: str, seconds: float) -> float:
    """Return an intensity with a day, a week and a weather of its own, in g/kWh."""
    hours = seconds / 3600 + len(zone) + LEVELS[zone]
    day, weather = math.sin(hours / 24 * math.tau), math.sin(hours / 61) * math.cos(hours / 17)
    return LEVELS[zone] * (1 + 0.25 * day + 0.15 * weather + 0.002 * math.sin(hours * 977))


def series(zone: str, start: datetime, end: datetime, kind: Kind) -> IntensitySeries:
    """Return quarter hours of a zone."""
    starts, stop = regular(start, QUARTER, (end - start) // QUARTER)
    off = 1.03 if kind is Kind.FORECAST else 1.0
    values = [grid(zone, one.timestamp()) * off for one in starts]
    return IntensitySeries(zone, starts, stop, values, SOURCE, kind=kind)


def answer(asked: Asked) -> Answer:
    """Answer as Energy-Charts does, after a while."""
    day = {
        end: datetime.fromisoformat(asked.query[end]).replace(tzinfo=UTC)
        for end in ("start", "end")
    }
    last = min(day["end"] + DAY, NOW + HORIZON)
    times = [
        int(one.timestamp())
        for one in regular(day["start"], QUARTER, (last - day["start"]) // QUARTER)[0]
    ]
    spoken = {"gr": "GR", "se": "SE-SE3", "DE-LU": "DE", "SE3": "SE-SE3", "IE(SEM)": "IE"}
    if asked.path == "/price":
        zone = asked.query["bzn"]
        values = [grid(spoken.get(zone, zone), one) / 4 for one in times]
        body: dict[str, object] = {
            "price": values,
            "unit": "EUR / MWh",
            "license_info": "CC BY 4.0",
        }
    else:
        zone = asked.query["country"]
        values = [grid(spoken.get(zone, zone.upper()), one) for one in times]
        over = [one < NOW.timestamp() - 1800 for one in times]
        pairs = list(zip(over, values, strict=True))
        body = {
            "co2eq": [value if past else None for past, value in pairs],
            "co2eq_forecast": [None if past else value * 1.03 for past, value in pairs],
        }
    return Answer({"unix_seconds": times, **body}, delay=LATENCY_S)


def fill(store: Store) -> None:
    """Bring a store to where it is after 60 days."""
    end = NOW.replace(minute=0)
    for zone, level in LEVELS.items():
        store.add(NAME, [series(zone, end - HISTORY_DAYS * DAY, end, Kind.ACTUAL)], NOW)
        for back in range(FORECAST_DAYS * DAY // QUARTER, 0, -1):
            at = end - QUARTER * back
            store.add(NAME, [series(zone, at, at + HORIZON, Kind.FORECAST)], at)
        scores = [
            Score(
                issued_at=end - HOUR * back,
                errors=tuple(round(3 * math.sin(back + lead), 3) for lead in range(48)),
                at_once=level,
                best=level * 0.7,
                chosen=level * (0.72 + 0.01 * math.sin(back)),
            )
            for back in range(80, HISTORY_DAYS * 24)
        ]
        store.add_scores(NAME, zone, scores)
        learn(store, NAME, zone, NOW - HOUR)


def cold(path: Path, signals: Signals) -> Outlook:
    """Look at all zones as a new process does, once its modules are loaded."""
    feed = Feed(signals, Keys(), path)
    try:
        sources = feed.sources(LEVELS, NOW)
        return look(sources, LEVELS, "DE", NOW, NOW + 2 * DAY)
    finally:
        feed.close()


def ask(path: Path, signals: Signals, now: datetime) -> None:
    """Ask for all zones, with their prices."""
    feed = Feed(signals, Keys(), path)
    try:
        asyncio.run(feed.refresh(LEVELS, now=now, until=now + 3 * DAY, priced=LEVELS))
    finally:
        feed.close()


def timed(what: str, seconds: list[float], limit: float) -> None:
    """Print a row of the table."""
    median, worst = statistics.median(seconds) * 1000, max(seconds) * 1000
    print(f"{what:<46}{median:>9.0f}{worst:>9.0f}{limit * 1000:>9.0f}")


def main() -> None:
    """Print the table."""
    wire = Wire()
    for path in ("/co2eq", "/price"):
        wire.obeys(path, answer)
    signals = Signals.model_validate({"order": [NAME], NAME: {"url": wire.url}})
    with tempfile.TemporaryDirectory() as folder:
        path, empty = Path(folder) / "outlook.sqlite", Path(folder) / "empty.sqlite"
        store = Store(path)
        began = time.perf_counter()
        fill(store)
        store.close()
        print(f"(a store of {HISTORY_DAYS} days made in {time.perf_counter() - began:.0f} s)\n")
        print(f"{'ms':<46}{'median':>9}{'worst':>9}{'limit':>9}")

        def clock(do: object, count: int) -> list[float]:
            assert callable(do)
            found = []
            for turn in range(count):
                began = time.perf_counter()
                do(turn)
                found.append(time.perf_counter() - began)
            return found

        first = clock(lambda _: ask(empty, signals, NOW), 1)
        timed("refresh, empty store, 12 zones with prices", first, 1.0)
        later = clock(lambda turn: ask(path, signals, NOW + 20 * timedelta(minutes=1) * turn), 4)
        timed("refresh, 60 days in store, 12 zones with prices", later, 1.0)
        timed(
            "cold look, 60 days in store, 12 zones", clock(lambda _: cold(path, signals), 20), 0.05
        )
        outlook = cold(path, signals)
        assert len(outlook.intensity) == len(LEVELS), outlook.missing
        assert len(outlook.price) == len(LEVELS)
        print(f"\nsize of the file: {path.stat().st_size / 1e6:.1f} MB")
    wire.close()


if __name__ == "__main__":
    main()
