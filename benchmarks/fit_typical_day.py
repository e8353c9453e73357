"""Fit the parameters of the typical day and measure how far they can be trusted.

Usage: ``python benchmarks/fit_typical_day.py [FOLDER]`` with the folder of the hourly traces, by
default ``../shared/traces``. Prints the parameters that ``carbon/zones.toml`` keeps, and how good
they are: for each start hour of the year, a 4 h job that must end within 24 h is started at once,
at the best moment, and where a belief says. "captured" is the part of the best possible saving
that the belief gets: ``model`` is the fit itself, ``halves`` was fitted on the other half of the
months, ``continent`` is the mean shape of the other continental zones, ``yesterday`` repeats the
day before.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from carbon._typical import terms, zones

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

JOB_HOURS, WINDOW_HOURS = 4, 24
CONTINENT = ("DE", "ES", "FR", "NL", "PL")
PRICE_COLUMNS = {
    "DE": "DE-LU_eur_mwh",
    "ES": "ES_eur_mwh",
    "FR": "FR_eur_mwh",
    "GB": "GB_eur_mwh",
    "NL": "NL_eur_mwh",
    "US-CAL-CISO": "US-CAL-CISO_usd_mwh",
    "US-MIDA-PJM": "US-MIDA-PJM_usd_mwh",
    "US-TEX-ERCO": "US-TEX-ERCO_usd_mwh",
}


def middles(frame: pl.DataFrame) -> Floats:
    """Return the middles of the hours as POSIX seconds."""
    starts: Floats = frame["utc"].dt.epoch("s").to_numpy().astype(np.float64)
    return starts + 1800.0


def zone_terms(zone: str, seconds: Floats) -> Floats:
    """Return sun, evening and night of a zone, signed as in the model."""
    shape = zones()[zone].shape
    assert shape is not None, f"{zone} has a trace but no coordinates in zones.toml"
    signs = np.array([-1.0, 1.0, -1.0])
    return np.asarray(terms(shape.latitude, shape.longitude, seconds) * signs, np.float64)


def daily(values: Floats) -> Floats:
    """Return the mean of each value's UTC day, ``nan`` for a day without values."""
    days = values.reshape(-1, 24)
    with np.errstate(invalid="ignore"):
        return np.repeat(np.nansum(days, axis=1) / np.isfinite(days).sum(axis=1), 24)


def fit(columns: Floats, target: Floats) -> Floats:
    """Return the least-squares parameters, rounded as they are kept."""
    found = np.linalg.lstsq(columns, target, rcond=None)[0]
    return np.asarray(np.round(found, 2), np.float64)


def outcome(values: Floats, believed: Floats) -> tuple[float, float, float]:
    """Return the mean intensity of jobs started at once, at best, and where believed best."""
    job = np.ones(JOB_HOURS) / JOB_HOURS
    choices = WINDOW_HOURS - JOB_HOURS + 1
    real = np.lib.stride_tricks.sliding_window_view(np.convolve(values, job, "valid"), choices)
    seen = np.lib.stride_tricks.sliding_window_view(np.convolve(believed, job, "valid"), choices)
    chosen = real[np.arange(len(real)), seen.argmin(axis=1)]
    return float(real[:, 0].mean()), float(real.min(axis=1).mean()), float(chosen.mean())


def captured(values: Floats, believed: Floats) -> float:
    """Return the part of the best possible saving that a belief gets, in percent."""
    now, best, chosen = outcome(values, believed)
    return 100 * (now - chosen) / (now - best)


def halves(columns: Floats, target: Floats, months: Floats) -> Floats:
    """Return the shape of each half of the months, fitted on the other half."""
    shape = np.ones(len(target))
    for part in (months % 2 == 0, months % 2 == 1):
        shape[part] += columns[part] @ fit(columns[~part], target[~part])
    return shape


def report_intensity(frame: pl.DataFrame) -> None:
    """Print the fitted shapes and how good they are."""
    seconds, months = middles(frame), frame["utc"].dt.month().to_numpy()
    names = [name for name in frame.columns if name != "utc"]
    columns = {zone: zone_terms(zone, seconds) for zone in names}
    values = {zone: frame[zone].to_numpy() for zone in names}
    target = {zone: values[zone] / daily(values[zone]) - 1 for zone in names}
    fitted = {zone: fit(columns[zone], target[zone]) for zone in names}
    print("zone          solar_dip evening_peak night_dip")
    for zone in names:
        print(f"{zone:13} {fitted[zone][0]:9.2f} {fitted[zone][1]:12.2f} {fitted[zone][2]:9.2f}")
    mean = np.stack([fitted[zone] for zone in CONTINENT]).mean(axis=0)
    print(f"{'continent':13} {mean[0]:9.2f} {mean[1]:12.2f} {mean[2]:9.2f}")
    print("\n              MAE g/kWh        saving   captured %")
    print("zone          model    flat    best %   model  halves  continent  yesterday")
    for zone in names:
        now, best, _ = outcome(values[zone], values[zone])
        shape = 1 + columns[zone] @ fitted[zone]
        level = values[zone].mean()
        others = np.mean([fitted[other] for other in CONTINENT if other != zone], axis=0)
        print(
            f"{zone:13} {np.abs(values[zone] - level * shape).mean():5.1f}"
            f" {np.abs(values[zone] - level).mean():7.1f} {100 * (now - best) / now:9.1f}"
            f" {captured(values[zone], shape):7.0f}"
            f" {captured(values[zone], halves(columns[zone], target[zone], months)):7.0f}"
            f" {captured(values[zone], 1 + columns[zone] @ others):10.0f}"
            f" {captured(values[zone], np.roll(values[zone], 24)):10.0f}"
        )


def report_other_year(frame: pl.DataFrame) -> None:
    """Print what the shapes kept in zones.toml get in another year, beside a real forecast."""
    print("\n2021 H2, direct   captured %: kept shape  yesterday  day-ahead forecast")
    for zone, name in (("DE", "DE"), ("US-CAL-CISO", "CISO"), ("US-MIDA-PJM", "PJM")):
        rows = frame.filter(pl.col("zone") == name).sort("utc")
        shape, real = zones()[zone].shape, rows["actual_direct"].to_numpy()
        assert shape is not None
        print(
            f"{zone:28} {captured(real, shape.factors(middles(rows))):10.0f}"
            f" {captured(real, np.roll(real, 24)):10.0f}"
            f" {captured(real, rows['day_ahead_forecast_direct'].to_numpy()):19.0f}"
        )


def report_price(frame: pl.DataFrame) -> None:
    """Print the fitted typical prices; 2022 was a crisis year and they say so."""
    seconds = middles(frame)
    print("\nzone          median per MWh  solar_dip evening_peak night_dip")
    for zone, column in PRICE_COLUMNS.items():
        price = frame[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        median = float(np.nanmedian(price))
        target = np.clip((price - daily(price)) / median, -1.5, 1.5)  # single hours reach 4,400
        held = np.isfinite(target)
        found = fit(zone_terms(zone, seconds)[held], target[held])
        print(f"{zone:13} {median:14.0f} {found[0]:10.2f} {found[1]:12.2f} {found[2]:9.2f}")


def main() -> None:
    """Fit, measure and print."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/traces")
    report_intensity(pl.read_parquet(folder / "intensity_lifecycle_2022_hourly.parquet"))
    report_other_year(
        pl.read_parquet(folder / "intensity_direct_2021H2_with_day_ahead_forecast.parquet")
    )
    report_price(pl.read_parquet(folder / "price_2022_hourly.parquet"))


if __name__ == "__main__":
    main()
