"""The typical day: modelled, labelled so, bounded, and right about noon and night."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon._errors import NoSignal, UnknownZone
from carbon._series import Accounting, Kind, Signal
from carbon._typical import TypicalDay, known_zones, terms, zones

TRACE = Path("../shared/traces/intensity_lifecycle_2022_hourly.parquet")
CATALOGUE_ZONES = [
    "DE",
    "SE-SE3",
    "FR",
    "IE",
    "GB",
    "NL",
    "BE",
    "FI",
    "ES",
    "IT-NO",
    "PL",
    "CH",
    "NO-NO1",
    "DK-DK2",
    "AT",
    "US-MIDA-PJM",
    "US-NW-PACW",
    "US-CAL-CISO",
    "US-TEX-ERCO",
    "US-CENT-SWPP",
    "US-MIDW-MISO",
    "CA-QC",
    "CA-ON",
    "SG",
    "JP-TK",
    "IN-WE",
    "AU-NSW",
]
DAY = timedelta(days=1)
SHAPED = [name for name, zone in zones().items() if zone.shape]
PRICED = [name for name, zone in zones().items() if zone.price]

moments = st.datetimes(datetime(2000, 1, 1), datetime(2080, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone


def test_every_zone_of_the_catalogue_is_known() -> None:
    """The zones that a fleet may name have a typical day."""
    assert set(CATALOGUE_ZONES) <= set(known_zones())
    assert list(known_zones()) == sorted(known_zones())


@given(zone=st.sampled_from(known_zones()), start=moments, minutes=st.integers(1, 5000))
def test_any_window_is_covered_and_positive(zone: str, start: datetime, minutes: int) -> None:
    """The horizon is unlimited, the steps are half hours, and no intensity is impossible."""
    end = start + timedelta(minutes=minutes)
    series = TypicalDay().intensity(zone, start, end)
    assert series.covers(start, end)
    assert series.starts[0] > start - timedelta(minutes=30)
    assert series.end < end + timedelta(minutes=30)
    assert set(np.diff(series.edges)) == {1800.0}
    assert min(series.values) > 0


def test_it_is_labelled_modelled() -> None:
    """Kind, family and source say that the numbers are modelled, from what and of which year."""
    start = datetime(2026, 6, 1, tzinfo=UTC)
    series = TypicalDay().intensity("DE", start, start + DAY)
    assert series.family == (Signal.AVERAGE, Accounting.LIFECYCLE, Kind.MODELLED)
    assert series.source.startswith("modelled typical day")
    assert "2025" in series.source
    assert "fitted" in series.source
    assert "flat" in TypicalDay().intensity("SG", start, start + DAY).source
    price = TypicalDay().price("DE", start, start + DAY)
    assert price.kind is Kind.MODELLED
    assert price.source.startswith("modelled typical day")
    assert "crisis" in price.source


@pytest.mark.parametrize("zone", SHAPED)
def test_every_day_has_the_yearly_mean(zone: str) -> None:
    """The shape moves emissions within a day, never the level of the day."""
    for month in range(1, 13):
        start = datetime(2026, month, 15, tzinfo=UTC)
        mean = TypicalDay().intensity(zone, start, start + DAY).mean(start, start + DAY)
        assert mean == pytest.approx(zones()[zone].level.g_per_kwh, rel=0.01)


def test_the_terms_have_no_mean() -> None:
    """Sun, evening and night are each taken less their mean over the day, also in polar summer."""
    for latitude in (-60.0, 0.0, 50.0, 80.0):
        for day in range(0, 365, 30):
            seconds = day * 86400 + np.arange(0, 86400, 60.0)
            assert np.abs(terms(latitude, 20.0, seconds).mean(axis=0)).max() < 2e-3


def test_the_dip_is_at_solar_noon_and_deeper_in_summer() -> None:
    """California is cleanest about its own noon, and the dip is wider and deeper in June."""
    depth = {}
    for month in (6, 12):
        start = datetime(2026, month, 21, 8, tzinfo=UTC)  # midnight over the zone
        series = TypicalDay().intensity("US-CAL-CISO", start, start + DAY)
        values = np.array(series.values)
        assert abs(values.argmin() / 2 - 12) <= 1
        depth[month] = (values.mean() - values.min(), (values < values.mean()).sum())
    assert depth[6] > depth[12]
    assert depth[6][1] > depth[12][1]


def test_zones_without_a_fit_are_flat() -> None:
    """Where nothing is known of the day, no hour looks cleaner than another."""
    start = datetime(2026, 6, 1, tzinfo=UTC)
    assert len(set(TypicalDay().intensity("CA-QC", start, start + DAY).values)) == 1


@pytest.mark.parametrize("zone", PRICED)
def test_prices_come_with_their_currency(zone: str) -> None:
    """A zone with a price has it for any window, in its own currency."""
    start = datetime(2026, 6, 1, tzinfo=UTC)
    price = TypicalDay().price(zone, start, start + DAY)
    assert price.currency == ("USD" if zone.startswith("US-") else "EUR")
    assert price.covers(start, start + DAY)


def test_a_missing_price_is_no_signal() -> None:
    """A zone without a fitted price says so instead of inventing one."""
    start = datetime(2026, 6, 1, tzinfo=UTC)
    with pytest.raises(NoSignal, match="no price of zone PL"):
        TypicalDay().price("PL", start, start + DAY)


@pytest.mark.parametrize("method", ["intensity", "price"])
def test_a_misspelt_zone_gets_the_closest(method: str) -> None:
    """An unknown zone is a bad input with the closest known name."""
    start = datetime(2026, 6, 1, tzinfo=UTC)
    with pytest.raises(UnknownZone, match=r"'SE-SE33' is not known.*'SE-SE3'"):
        getattr(TypicalDay(), method)("SE-SE33", start, start + DAY)


@pytest.mark.skipif(not TRACE.exists(), reason="needs the real traces in ../shared/traces")
def test_it_beats_a_flat_day_on_the_real_year() -> None:
    """For each zone with a fit, starting where the model says beats starting at once in 2022."""
    frame = pl.read_parquet(TRACE)
    seconds = frame["utc"].dt.epoch("s").to_numpy() + 1800.0
    for zone in frame.columns[1:]:
        shape = zones()[zone].shape
        assert shape is not None
        real = np.lib.stride_tricks.sliding_window_view(frame[zone].to_numpy(), 24)
        seen = np.lib.stride_tricks.sliding_window_view(shape.factors(seconds), 24)
        chosen = real[np.arange(len(real)), seen.argmin(axis=1)]
        assert chosen.mean() < real[:, 0].mean(), zone
