"""The replay of a user's file: read exactly, or refused with place and fix."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbon._errors import BadInput, NoSignal
from carbon._replay import ReplaySource
from carbon._series import Accounting, Kind, Signal

START = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TRACES = Path("../shared/traces")
real = pytest.mark.skipif(not TRACES.exists(), reason="needs the real traces in ../shared/traces")
WIDE = "utc,DE,FR\n2026-06-01 00:00,100,50\n2026-06-01 01:00,200,60\n2026-06-01 02:00,300,70\n"
# Files are made anew for each example, so sharing the folder is safe.
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def replay(folder: Path, text: str, **options: object) -> ReplaySource:
    """Write a CSV and replay it."""
    path = folder / "grid.csv"
    path.write_text(text, encoding="utf-8")
    return ReplaySource(path, **options)  # type: ignore[arg-type]


def test_a_wide_file_is_read(tmp_path: Path) -> None:
    """Each column is a zone; a value holds until the next row, the last for the usual step."""
    source = replay(tmp_path, WIDE)
    assert source.zones == ("DE", "FR")
    assert source.name == "replay of grid.csv"
    series = source.intensity("DE", START, START + 3 * HOUR)
    assert series.values == (100.0, 200.0, 300.0)
    assert series.end == START + 3 * HOUR
    assert series.family == (Signal.AVERAGE, Accounting.LIFECYCLE, Kind.FORECAST)


def test_a_long_file_with_prices_is_read(tmp_path: Path) -> None:
    """Zones may interleave; each has its own currency; offsets are understood."""
    source = replay(
        tmp_path,
        "Zone,Timestamp,g_per_kwh,price,currency,comment\n"
        "DE,2026-06-01T02:00:00+02:00,100,-5.5,EUR,x\n"
        "US-CAL-CISO,2026-06-01T00:00:00Z,200,7,USD,\n"
        "DE,2026-06-01T03:00:00+02:00,110,6,EUR,\n"
        "US-CAL-CISO,2026-06-01T01:00:00Z,210,8,USD,\n",
    )
    assert source.intensity("DE", START, START + 2 * HOUR).values == (100.0, 110.0)
    assert source.price("DE", START, START + 2 * HOUR).values == (-5.5, 6.0)
    assert source.price("US-CAL-CISO", START, START + HOUR).unit == "USD/MWh"


def test_the_meaning_is_the_users_to_declare(tmp_path: Path) -> None:
    """Kind, signal and accounting are passed on to the series."""
    source = replay(
        tmp_path, WIDE, kind=Kind.ACTUAL, signal=Signal.MARGINAL, accounting=Accounting.DIRECT
    )
    found = source.intensity("DE", START, START + HOUR)
    assert found.family == (Signal.MARGINAL, Accounting.DIRECT, Kind.ACTUAL)


def test_the_source_names_file_content_and_shift(tmp_path: Path) -> None:
    """The provenance changes with the content of the file, and tells a shift."""
    first = replay(tmp_path, WIDE).intensity("DE", START, START + HOUR).source
    other = replay(tmp_path, WIDE.replace("70", "71")).intensity("DE", START, START + HOUR).source
    assert first.startswith("replay of grid.csv (sha256 ")
    assert first != other
    day = timedelta(days=1)
    shifted = replay(tmp_path, WIDE, shift=day).intensity("DE", START + day, START + day + HOUR)
    assert "shifted by 1 day" in shifted.source
    assert shifted.values == (100.0,)
    assert shifted.start == START + day


def test_separate_prices(tmp_path: Path) -> None:
    """A price file may name its currency by column or by argument."""
    prices = tmp_path / "price.csv"
    prices.write_text(WIDE.replace("DE,FR", "DE_gbp_mwh,FR").replace("100", "-100"))
    source = replay(tmp_path, WIDE, prices=prices, currency="EUR")
    assert source.price("DE", START, START + HOUR).unit == "GBP/MWh"
    assert source.price("DE", START, START + HOUR).values == (-100.0,)
    assert source.price("FR", START, START + HOUR).unit == "EUR/MWh"
    assert "price.csv" in source.price("FR", START, START + HOUR).source
    with pytest.raises(BadInput, match=r"price\.csv: column 'FR': has no currency"):
        replay(tmp_path, WIDE, prices=prices)
    with pytest.raises(NoSignal, match=r"grid\.csv has no price of zone 'DE'"):
        replay(tmp_path, WIDE).price("DE", START, START + HOUR)


def test_a_misspelt_zone_gets_the_closest(tmp_path: Path) -> None:
    """A zone that the file lacks is no signal, with the closest or all of its names."""
    source = replay(tmp_path, WIDE.replace("DE,", "SE-SE3,"))
    with pytest.raises(NoSignal, match=r"'SE-SE33'\. Did you mean 'SE-SE3'"):
        source.intensity("SE-SE33", START, START + HOUR)
    with pytest.raises(NoSignal, match="Known: FR, SE-SE3"):
        source.intensity("XX", START, START + HOUR)


@pytest.mark.parametrize(
    "rows",
    [
        "00:00,1\n01:00,2\n02:00,\n03:00,4\n04:00,5\n05:00,6\n",
        "00:00,1\n01:00,2\n03:00,4\n04:00,5\n05:00,6\n",
        "00:00,1\n01:00,2\n02:00,NaN\n02:30,3\n03:00,4\n04:00,5\n05:00,6\n".replace(
            "02:30,3\n", ""
        ),
    ],
)
def test_gaps_are_never_bridged(tmp_path: Path, rows: str) -> None:
    """An empty cell or a missing row ends the signal there; it goes on after the gap."""
    text = "utc,DE\n" + "".join(f"2026-06-01 {row}\n" for row in rows.splitlines())
    source = replay(tmp_path, text)
    assert source.intensity("DE", START, START + 2 * HOUR).values == (1.0, 2.0)
    assert source.intensity("DE", START + 3 * HOUR, START + 6 * HOUR).values == (4.0, 5.0, 6.0)
    assert source.intensity("DE", START + HOUR, START + 4 * HOUR).end == START + 2 * HOUR
    with pytest.raises(NoSignal, match="gap from 2026-06-01 02:00 UTC to 2026-06-01 03:00 UTC"):
        source.intensity("DE", START + 2 * HOUR, START + 2.5 * HOUR)
    assert source.intensity("DE", START + 5 * HOUR, START + 7 * HOUR).end == START + 6 * HOUR
    with pytest.raises(NoSignal, match="only until"):
        source.intensity("DE", START + 6 * HOUR, START + 7 * HOUR)
    with pytest.raises(NoSignal, match="only from"):
        source.intensity("DE", START - HOUR, START + HOUR)


def test_an_empty_cell_between_close_rows_is_a_gap_too(tmp_path: Path) -> None:
    """A value does not reach over an empty cell, even if the next value is near."""
    text = (
        "utc,DE\n2026-06-01 00:00,1\n2026-06-01 00:30,\n2026-06-01 01:00,3\n"
        "2026-06-01 02:00,4\n2026-06-01 03:00,5\n2026-06-01 04:00,6\n"
    )
    source = replay(tmp_path, text)
    with pytest.raises(NoSignal, match="gap from 2026-06-01 00:30 UTC to 2026-06-01 01:00 UTC"):
        source.intensity("DE", START + 0.5 * HOUR, START + HOUR)
    assert source.intensity("DE", START, START + HOUR).end == START + 0.5 * HOUR


def test_a_zone_of_empty_cells_has_nothing(tmp_path: Path) -> None:
    """A zone without any value is known and says that its cells are empty."""
    source = replay(tmp_path, "utc,DE\n2026-06-01 00:00,\n2026-06-01 01:00,\n")
    with pytest.raises(NoSignal, match="empty cells only"):
        source.intensity("DE", START, START + HOUR)


ROW = "2026-06-01 00:00"
NEXT = "2026-06-01 01:00"


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        ("", "grid.csv", "no rows"),
        ("utc,DE\n", "grid.csv", "no rows"),
        (f"utc,DE\n{ROW},1\n", "line 2, column 'utc'", "only time"),
        (f"utc,DE\n{ROW},1\n{ROW},2\n", "line 3, column 'utc'", "repeats 2026-06-01 00:00"),
        (f"utc,DE\n{NEXT},1\n{ROW},2\n", "line 3, column 'utc'", "earlier than the row before"),
        (f"utc,DE\n{ROW},1\n\n{NEXT},-2\n", "line 4, column 'DE'", "-2 cannot be"),
        (f"utc,DE\n{ROW},1\n{NEXT},2001\n", "line 3, column 'DE'", "2001 cannot be"),
        (f"utc,DE\n{ROW},1\n{NEXT},n/a\n", "line 3, column 'DE'", "'n/a' is not a number"),
        (f"utc,DE\n{ROW},1\n{NEXT},1_0\n", "line 3, column 'DE'", "not a number"),
        (f"utc,DE\n{ROW},1\n{NEXT},inf\n", "line 3, column 'DE'", "not a number"),
        (f"utc\n{ROW}\n{NEXT}\n", "grid.csv", "no zone column"),
        (f"when,DE\n{ROW},1\n{NEXT},2\n", "grid.csv", "no column 'utc' or 'datetime'"),
        (f"utc,de\n{ROW},1\n{NEXT},2\n", "column 'de'", "not named like a grid zone"),
        (f"utc,DE_eur_mwh\n{ROW},1\n{NEXT},2\n", "column 'DE_eur_mwh'", "not named like"),
        (f"utc,DE,DE\n{ROW},1,1\n{NEXT},2,2\n", "grid.csv", "2 columns named 'DE'"),
        (f"utc,time,DE\n{ROW},1,1\n{NEXT},2,2\n", "grid.csv", "mean the same"),
        (f"time,DE\n{ROW},1\n{NEXT},2\n", "line 2, column 'time'", "no time zone"),
        (f"utc,DE\n{ROW},1\ntomorrow,2\n", "line 3, column 'utc'", "no date and time"),
        (f"utc,DE\n{ROW},1\n,2\n", "line 3, column 'utc'", "is empty"),
        (f"utc,DE\n{ROW},1\n9999-12-31 00:00,2\n", "line 3, column 'utc'", "cannot be"),
        (f"utc,DE\n{ROW},12,5\n{NEXT},13,5\n", "line 2", "3 cells where the header has 2"),
        (f"utc;DE\n{ROW};1\n{NEXT};2\n", "grid.csv", "columns with ';'"),
        (f'utc,DE\n{ROW},"1\n', "grid.csv", "not CSV"),
        (f"zone,utc,grams\nDE,{ROW},1\nDE,{NEXT},2\n", "grid.csv", "no column 'g_per_kwh'"),
        (f"zone,utc,g_per_kwh\nDE,{ROW},1\n,{NEXT},2\n", "line 3, column 'zone'", "no zone"),
        (f"zone,utc,g_per_kwh\nDE,{ROW},1\nFR,{ROW},2\n", "line 2", "only time"),
        (f"zone,utc,g_per_kwh\nDE,{ROW},1\nDE,{NEXT},x\n", "line 3", "not a number"),
        (
            f"zone,utc,g_per_kwh,price\nDE,{ROW},1,2\nDE,{NEXT},1,2\n",
            "line 2, column 'price'",
            "no currency",
        ),
        (
            f"zone,utc,g_per_kwh,price,currency\nDE,{ROW},1,2,EUR\nDE,{NEXT},1,2,USD\n",
            "line 3, column 'currency'",
            "priced in EUR and USD",
        ),
        (
            f"zone,utc,g_per_kwh,price,currency\nDE,{ROW},1,2,euro\nDE,{NEXT},1,2,euro\n",
            "line 2, column 'currency'",
            "'euro' is no currency",
        ),
    ],
)
def test_a_bad_file_is_refused_at_once(tmp_path: Path, text: str, field: str, problem: str) -> None:
    """The error comes with the source, names file, row and column, and says what to do."""
    with pytest.raises(BadInput) as caught:
        replay(tmp_path, text)
    assert caught.value.field.startswith("grid.csv")
    assert field in caught.value.field
    assert problem in caught.value.problem
    assert caught.value.fix
    assert "\n" not in str(caught.value)


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    """No file, a folder, another format, or a lie about the format: one clear line."""
    (tmp_path / "grid.parquet").write_bytes(b"utc,DE\n")
    (tmp_path / "latin.csv").write_bytes("utc,DÉ\n".encode("latin-1"))
    (tmp_path / "folder.csv").mkdir()
    for name, problem in (
        ("none.csv", "No such file"),
        ("folder.csv", "cannot be read"),
        ("grid.xlsx", "neither .csv nor .parquet"),
        ("grid.parquet", "is not Parquet"),
        ("latin.csv", "not CSV in UTF-8"),
    ):
        with pytest.raises(BadInput, match=problem):
            ReplaySource(tmp_path / name)


def test_a_damaged_parquet_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What polars' own code panics over is a mistake of the file, not a traceback."""

    def panic(_: object) -> None:
        raise pl.exceptions.PanicException("range end out of bounds\nfor slice")

    monkeypatch.setattr(pl, "read_parquet", panic)
    (tmp_path / "grid.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput, match="is not Parquet: range end out of bounds"):
        ReplaySource(tmp_path / "grid.parquet")


def test_prices_twice_are_refused(tmp_path: Path) -> None:
    """Prices stand in the file or beside it, not both."""
    text = f"zone,utc,g_per_kwh,price\nDE,{ROW},1,2\nDE,{NEXT},1,2\n"
    with pytest.raises(BadInput, match="prices"):
        replay(tmp_path, text, prices=tmp_path / "price.csv", currency="EUR")


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (pl.Series("DE", [True, False]), "not a number"),
        (pl.Series("DE", [[1.0], [2.0]]), "not a number"),
        (pl.Series("DE", [1.0, -2.0]), "cannot be"),
    ],
)
def test_a_bad_parquet_cell_names_its_row(tmp_path: Path, column: pl.Series, problem: str) -> None:
    """Parquet has no lines, so rows are counted."""
    frame = pl.DataFrame({"utc": [START, START + HOUR], "DE": column})
    frame.write_parquet(tmp_path / "grid.parquet")
    with pytest.raises(BadInput, match=rf"grid\.parquet: row [12], column 'DE': .*{problem}"):
        ReplaySource(tmp_path / "grid.parquet")


def test_parquet_times(tmp_path: Path) -> None:
    """Aware times are converted, naive ones are UTC only under that name, dates are no times."""
    path = tmp_path / "grid.parquet"
    berlin = pl.Series([START, START + HOUR]).dt.convert_time_zone("Europe/Berlin")
    pl.DataFrame({"time": berlin, "DE": [1, 2]}).write_parquet(path)
    assert ReplaySource(path).intensity("DE", START, START + HOUR).starts == (START,)
    naive = berlin.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    pl.DataFrame({"utc": naive, "DE": [1, 2]}).write_parquet(path)
    assert ReplaySource(path).intensity("DE", START, START + HOUR).starts == (START,)
    pl.DataFrame({"time": naive, "DE": [1, 2]}).write_parquet(path)
    with pytest.raises(BadInput, match="no time zone"):
        ReplaySource(path)
    pl.DataFrame({"utc": naive.dt.date(), "DE": [1, 2]}).write_parquet(path)
    with pytest.raises(BadInput, match="no date and time"):
        ReplaySource(path)


values = st.lists(st.one_of(st.none(), st.floats(0, 2000)), min_size=2, max_size=30)


@in_one_folder
@given(values=values, step=st.sampled_from([5, 15, 30, 60]), parquet=st.booleans())
def test_what_was_written_is_read(
    tmp_path: Path, values: list[float | None], step: int, *, parquet: bool
) -> None:
    """Each value comes back for its own interval, each gap as no signal, from both formats."""
    length = timedelta(minutes=step)
    times = [START + length * index for index in range(len(values))]
    frame = pl.DataFrame({"utc": times, "DE": pl.Series(values, dtype=pl.Float64)})
    path = tmp_path / ("grid.parquet" if parquet else "grid.csv")
    frame.write_parquet(path) if parquet else frame.write_csv(path)
    source = ReplaySource(path)
    for time, value in zip(times, values, strict=True):
        if value is None:
            with pytest.raises(NoSignal):
                source.intensity("DE", time, time + length)
        else:
            assert source.intensity("DE", time, time + length).values == (value,)


cells = st.one_of(
    st.text(max_size=8),
    st.floats(allow_nan=True).map(str),
    st.datetimes().map(str),
    st.sampled_from(["utc", "time", "zone", "g_per_kwh", "price", "currency", "DE", "EUR", ROW]),
)


@in_one_folder
@given(rows=st.lists(st.lists(cells, min_size=1, max_size=4), max_size=5))
def test_any_table_is_read_or_refused(tmp_path: Path, rows: list[list[str]]) -> None:
    """No table crashes the reader: it is a source, or a BadInput of one line."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    path = tmp_path / "grid.csv"
    path.write_text(text.getvalue(), encoding="utf-8", errors="replace")
    try:
        zones = ReplaySource(path).zones
    except BadInput:
        with pytest.raises(BadInput, match=r"^grid\.csv"):
            ReplaySource(path)
    else:
        assert zones


@in_one_folder
@given(content=st.binary(max_size=200), ending=st.sampled_from([".csv", ".parquet"]))
def test_any_bytes_are_refused_in_one_line(tmp_path: Path, content: bytes, ending: str) -> None:
    """No bytes crash the reader."""
    path = tmp_path / f"grid{ending}"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="grid"):
        ReplaySource(path)


@real
def test_the_real_intensities_replay() -> None:
    """A day of the real 2022 trace comes back as it stands in the file."""
    path = TRACES / "intensity_lifecycle_2022_hourly.parquet"
    source = ReplaySource(path, kind=Kind.ACTUAL, prices=TRACES / "price_2022_hourly.parquet")
    frame = pl.read_parquet(path)
    start = datetime(2022, 6, 1, tzinfo=UTC)
    rows = frame.filter(pl.col("utc").is_between(start, start + 24 * HOUR, closed="left"))
    assert len(source.zones) == 12
    for zone in source.zones:
        series = source.intensity(zone, start, start + 24 * HOUR)
        assert np.allclose(series.values, rows[zone].to_numpy())
    assert source.price("DE-LU", start, start + HOUR).unit == "EUR/MWh"
    assert source.price("US-CAL-CISO", start, start + HOUR).unit == "USD/MWh"
    gap = datetime(2022, 9, 3, tzinfo=UTC)
    with pytest.raises(NoSignal, match="gap"):
        source.price("DE-LU", gap, gap + 24 * HOUR)


@real
def test_the_real_forecast_replays() -> None:
    """A long file with its own value column is read, at its own accounting."""
    source = ReplaySource(
        TRACES / "intensity_direct_2021H2_with_day_ahead_forecast.parquet",
        column="day_ahead_forecast_direct",
        accounting=Accounting.DIRECT,
    )
    start = datetime(2021, 7, 1, tzinfo=UTC)
    series = source.intensity("CISO", start, start + 2 * HOUR)
    assert series.values == (176.11, 204.07)
    assert series.accounting is Accounting.DIRECT
