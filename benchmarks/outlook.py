"""How long an outlook takes, and how large its store grows.

Usage: ``python benchmarks/outlook.py``. Twelve European zones in quarter hours, from an
Energy-Charts and an Electricity Maps on loopback whose every answer takes 200 ms, into a store as
it is after 60 days: two months of actual values and scores, and four days of forecasts that were
heard every 15 minutes.

- *cold look*: a process opens the store file and looks at all zones; must stay below 50 ms.
- *refresh*: all zones are asked, what came is stored, and it is learned from; must stay below 1 s.
  Every other one has not learned for half an hour, and takes longer.
- *size*: of the file after those 60 days.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from pydantic import SecretStr

from carbon import IntensitySeries, Kind, Signals, Store, look
from carbon._learn import learn
from carbon._score import Score
from carbon._series import regular
from carbon.providers import Feed, Keys
from tests.carbon.providers.wire import Answer, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from carbon import Outlook
    from tests.carbon.providers.wire import Asked

MAPS = "electricity-maps"
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
SPOKEN = {"se": "SE-SE3", "DE-LU": "DE", "SE3": "SE-SE3", "IE(SEM)": "IE"}
MINUTE, QUARTER, HOUR = timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=1)
DAY = timedelta(days=1)
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
    name = asked.query.get("bzn") or asked.query["country"]
    return Answer(body(asked.path, name, asked.query["start"], asked.query["end"]), delay=LATENCY_S)


@cache
def body(path: str, name: str, start: str, end: str) -> bytes:
    """Write a body once: it is not the server that is measured."""
    zone = SPOKEN.get(name, name.upper())
    first, last = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (start, end))
    count = (min(last + DAY, NOW + HORIZON) - first) // QUARTER
    times = [int(one.timestamp()) for one in regular(first, QUARTER, count)[0]]
    values = [grid(zone, one) for one in times]
    said: dict[str, object] = {"unix_seconds": times}
    if path == "/price":
        said |= {"price": values, "unit": "EUR / MWh", "license_info": "CC BY 4.0"}
    else:
        pairs = [
            (one < NOW.timestamp() - 1800, value) for one, value in zip(times, values, strict=True)
        ]
        said["co2eq"] = [value if over else None for over, value in pairs]
        said["co2eq_forecast"] = [None if over else value * 1.03 for over, value in pairs]
    return json.dumps(said).encode()


def maps_answer(asked: Asked) -> Answer:
    """Answer as Electricity Maps does, after a while."""
    signal, which = asked.path.split("/")[2:]
    return Answer(maps_body(signal, which, asked.query["zone"]), delay=LATENCY_S)


@cache
def maps_body(signal: str, which: str, zone: str) -> bytes:
    """Write a body of hours: a day back, three ahead, or a day of prices."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    first, count = (hour - DAY + HOUR, 24) if which == "history" else (hour, 25)
    count = 73 if which == "forecast" else count
    told = [f"{one:%Y-%m-%dT%H:%M:%S.000Z}" for one in regular(first, HOUR, count)[0]]
    values = [grid(zone, (first + HOUR * place).timestamp()) for place in range(count)]
    rows: list[dict[str, object]]
    if signal == "price-day-ahead":
        about = {"unit": "EUR/MWh", "source": "nordpool.com"}
        rows = [{"datetime": t, "value": v, **about} for t, v in zip(told, values, strict=True)]
        return json.dumps({"zone": zone, "data": rows}).encode()
    about = {"zone": zone, "emissionFactorType": "lifecycle", "isEstimated": False}
    more = about if which == "history" else {}
    rows = [{"datetime": t, "carbonIntensity": v} | more for t, v in zip(told, values, strict=True)]
    return json.dumps({"zone": zone, which: rows, "updatedAt": told[0]}).encode()


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
                issued_at=end - 3 * HOUR * back,
                errors=tuple(round(3 * math.sin(back + lead), 3) for lead in range(48)),
                at_once=level,
                best=level * 0.7,
                chosen=level * (0.72 + 0.01 * math.sin(back)),
            )
            for back in range(26, HISTORY_DAYS * 8)
        ]
        store.add_scores(NAME, zone, scores)
        learn(store, NAME, zone, NOW - HOUR)


def cold(path: Path, signals: Signals, now: datetime) -> Outlook:
    """Look at all zones as a new process does, once its modules are loaded."""
    feed = Feed(signals, Keys(), path)
    try:
        return look(feed.sources(LEVELS, now), LEVELS, "DE", now, now + DAY)
    finally:
        feed.close()


def ask(path: Path, signals: Signals, now: datetime, priced: Collection[str] = ()) -> None:
    """Ask for all zones, and for the prices of some."""
    feed = Feed(signals, Keys(electricity_maps_token=SecretStr("a-token-of-a-test")), path)
    try:
        asyncio.run(feed.refresh(LEVELS, now=now, until=now + 3 * DAY, priced=priced))
    finally:
        feed.close()


def show(what: str, limit: float, do: Callable[[int], object], count: int) -> None:
    """Do something a few times and print a row of the table."""
    seconds = []
    for turn in range(count):
        began = time.perf_counter()
        do(turn)
        seconds.append(time.perf_counter() - began)
    median, worst = statistics.median(seconds) * 1000, max(seconds) * 1000
    print(f"{what:<52}{median:>8.0f}{worst:>8.0f}{limit * 1000:>8.0f}")


def main() -> None:
    """Print the table."""
    wire = Wire()
    for path in ("/co2eq", "/price"):
        wire.obeys(path, answer)
    for which in ("forecast", "history"):
        wire.obeys(f"/v4/carbon-intensity/{which}", maps_answer)
    wire.obeys("/v4/price-day-ahead/combined", maps_answer)
    signals = Signals.model_validate({"order": [NAME], NAME: {"url": wire.url}})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outlook.sqlite"
        for minutes in (0, 20):  # so that the server has its bodies, and all is imported
            ask(Path(folder) / "other.sqlite", signals, NOW + minutes * MINUTE, LEVELS)
        print(f"{'ms':<52}{'median':>8}{'worst':>8}{'limit':>8}")

        def new(turn: int, priced: Collection[str]) -> None:
            ask(Path(folder) / f"{turn}-{len(priced)}.sqlite", signals, NOW, priced)

        maps = Signals.model_validate({"order": [MAPS], MAPS: {"url": wire.url}})

        def new_maps(turn: int) -> None:
            ask(Path(folder) / f"{turn}-maps.sqlite", maps, datetime.now(UTC), LEVELS)

        show("refresh of an empty store", 1.0, lambda turn: new(turn, ()), 3)
        show("the same with prices", 1.0, lambda turn: new(turn, LEVELS), 3)
        show("the same from Electricity Maps", 1.0, new_maps, 3)
        store = Store(path)
        fill(store)
        store.close()
        often = [NOW + 16 * turn * MINUTE for turn in range(1, 5)]
        show("refresh of a store of 60 days", 1.0, lambda turn: ask(path, signals, often[turn]), 4)
        show(
            "the same in the same quarter of an hour",
            1.0,
            lambda _: ask(path, signals, often[-1]),
            4,
        )
        ask(path, signals, often[-1], LEVELS)
        show(
            "cold look into a store of 60 days", 0.05, lambda _: cold(path, signals, often[-1]), 20
        )
        outlook = cold(path, signals, often[-1])
        assert len(outlook.intensity) == len(LEVELS), outlook.missing
        assert len(outlook.price) == len(LEVELS)
        print(f"\nsize of the file: {path.stat().st_size / 1e6:.1f} MB")
    wire.close()


if __name__ == "__main__":
    main()
