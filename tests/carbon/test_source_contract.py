"""What every signal source must do, the fake included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from carbon._errors import BadInput, NoSignal, UnknownZone
from carbon._replay import ReplaySource
from carbon._series import Kind
from carbon._typical import TypicalDay
from carbon.testing import StaticSource

if TYPE_CHECKING:
    from pathlib import Path

    from carbon._outlook import SignalSource

START = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
WINDOWS = [
    (START, START + 24 * HOUR),
    (START + 5 * HOUR, START + 6 * HOUR),
    (START + timedelta(minutes=7), START + timedelta(minutes=8)),
    (START + timedelta(minutes=59), START + timedelta(hours=23, minutes=31)),
]
DAY = [200.0 + hour for hour in range(24)]


def static_source(folder: Path) -> SignalSource:
    """Make the fake."""
    del folder
    return StaticSource({"DE": DAY}, START, HOUR, prices={"DE": DAY})


def wide_replay(folder: Path) -> SignalSource:
    """Make a replay of a wide CSV with a separate price file."""
    times = [START + HOUR * count for count in range(24)]
    pl.DataFrame({"utc": times, "DE": DAY}).write_csv(folder / "grid.csv")
    pl.DataFrame({"utc": times, "DE_eur_mwh": DAY}).write_csv(folder / "price.csv")
    return ReplaySource(folder / "grid.csv", prices=folder / "price.csv")


def long_replay(folder: Path) -> SignalSource:
    """Make a replay of a long Parquet file that was recorded a year before."""
    frame = pl.DataFrame(
        {
            "zone": ["DE"] * 24,
            "time": [START - timedelta(days=365) + HOUR * count for count in range(24)],
            "g_per_kwh": DAY,
            "price": DAY,
            "currency": ["EUR"] * 24,
        }
    )
    frame.write_parquet(folder / "grid.parquet")
    return ReplaySource(folder / "grid.parquet", shift=timedelta(days=365))


def typical(folder: Path) -> SignalSource:
    """Make the typical day."""
    del folder
    return TypicalDay()


@pytest.fixture(params=[static_source, wide_replay, long_replay, typical])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> SignalSource:
    """Return one of the implementations, which has DE for 2026-06-01 UTC."""
    made: SignalSource = request.param(tmp_path)
    return made


def test_it_has_a_name(source: SignalSource) -> None:
    """The name is one line for people."""
    assert source.name.strip()
    assert "\n" not in source.name


@pytest.mark.parametrize(("start", "end"), WINDOWS)
def test_a_covered_window_is_answered(source: SignalSource, start: datetime, end: datetime) -> None:
    """The series is of the zone, covers the window, and says what it is and who says so."""
    for series in (source.intensity("DE", start, end), source.price("DE", start, end)):
        assert series.zone == "DE"
        assert series.covers(start, end)
        assert np.isfinite(series.mean(start, end))
        assert series.kind in Kind
        assert series.source.strip()
        assert all(moment.tzinfo is UTC for moment in (*series.starts, series.end))
    assert source.intensity("DE", start, end).source.startswith(source.name)


@pytest.mark.parametrize(("start", "end"), WINDOWS)
def test_any_window_gives_the_same_numbers(
    source: SignalSource, start: datetime, end: datetime
) -> None:
    """A narrow question gets what a wide one gets."""
    whole = source.intensity("DE", START, START + 24 * HOUR)
    assert source.intensity("DE", start, end).mean(start, end) == pytest.approx(
        whole.mean(start, end)
    )


def test_any_time_zone_is_understood(source: SignalSource) -> None:
    """The window may be given in another time zone."""
    local = START.astimezone(timezone(timedelta(hours=5, minutes=30)))
    found = source.intensity("DE", local, local + HOUR)
    assert found.mean(START, START + HOUR) == pytest.approx(
        source.intensity("DE", START, START + HOUR).mean(START, START + HOUR)
    )


def test_an_unknown_zone_is_refused(source: SignalSource) -> None:
    """A zone that it does not have gives NoSignal or UnknownZone that names it."""
    for method in (source.intensity, source.price):
        with pytest.raises((NoSignal, UnknownZone), match="DEE"):
            method("DEE", START, START + HOUR)


def test_a_bad_window_is_refused(source: SignalSource) -> None:
    """Empty, backwards and naive windows are the caller's fault."""
    naive = START.replace(tzinfo=None)
    for start, end in ((START, START), (START + HOUR, START), (naive, START + HOUR)):
        for method in (source.intensity, source.price):
            with pytest.raises(BadInput):
                method("DE", start, end)


def test_a_window_is_answered_from_its_start_or_not_at_all(source: SignalSource) -> None:
    """A horizon may cut the end of a window; numbers that begin later are never handed over."""
    for start, end in (
        (START - HOUR, START + HOUR),
        (START + 20 * HOUR, START + 25 * HOUR),
        (START + 999 * HOUR, START + 1000 * HOUR),
    ):
        try:
            series = source.intensity("DE", start, end)
        except NoSignal:
            with pytest.raises(NoSignal, match="DE"):
                source.intensity("DE", start, end)
        else:
            assert series.start <= start < series.end
