"""A modelled typical day per grid zone: what is used when there is nothing better.

An intensity is a published yearly mean times a shape of the day::

    1 - solar_dip * sun + evening_peak * evening - night_dip * night

``sun`` is the sine of the sun's elevation over the zone (zero at night), so width and season of the
dip follow from latitude and day; ``evening`` and ``night`` are bells around 19:00 and 03:00 solar
time. Each of the three is taken less its mean over the day, so that every day has the yearly mean.
The parameters stand in ``zones.toml``, each with its source; ``benchmarks/fit_typical_day.py`` fits
them and measures how far they can be trusted. It knows no weather, no season of the level and no
weekday. A zone without a fit is flat: it says which place is cleaner, never which hour.
"""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from carbon._errors import NoSignal, UnknownZone
from carbon._regions import Source
from carbon._series import Accounting, IntensitySeries, Kind, PriceSeries, Signal, require_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEP = timedelta(minutes=30)
_DAY_SECONDS, _HOUR_SECONDS = 86_400.0, 3_600.0
_TILT = np.radians(23.44)
_EQUINOX_DAY, _YEAR_DAYS = 79.0, 365.2422  # spring equinox 1970 as a day of the POSIX era
_BELLS = ((19.0, 2.0), (3.0, 2.5))  # solar hour and width in hours of evening and night


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shape(_Frozen):
    """How a zone's day departs from its mean, as parts of the mean.

    Attributes:
        latitude: Middle of the zone in degrees north.
        longitude: Middle of the zone in degrees east.
        solar_dip: Lower by this much under a sun overhead; negative where it rises.
        evening_peak: Higher by this much at 19:00 solar time.
        night_dip: Lower by this much at 03:00 solar time.
        source: What it was fitted to.
    """

    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    solar_dip: float
    evening_peak: float
    night_dip: float
    source: Source

    def factors(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the part of the mean that holds at each moment.

        Args:
            seconds: POSIX seconds, shape ``(n,)``.

        Returns:
            Factors around 1, shape ``(n,)``.
        """
        weights = np.array([-self.solar_dip, self.evening_peak, -self.night_dip])
        return np.asarray(1 + terms(self.latitude, self.longitude, seconds) @ weights)


class Level(_Frozen):
    """A yearly mean intensity in gCO2e/kWh with its source."""

    g_per_kwh: Annotated[float, Field(gt=0)]
    source: Source


class TypicalPrice(_Frozen):
    """A yearly median price per MWh with its own shape of the day."""

    per_mwh: float
    currency: str
    shape: Shape


class Zone(_Frozen):
    """What is known of a grid zone.

    Attributes:
        level: Yearly mean intensity.
        shape: Shape of its day; ``None`` where none was fitted, then the day is flat.
        price: Typical price, where there is one.
    """

    level: Level
    shape: Shape | None = None
    price: TypicalPrice | None = None


def terms(latitude: float, longitude: float, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sun, evening and night at each moment, each less its mean over the day.

    Args:
        latitude: Degrees north.
        longitude: Degrees east.
        seconds: POSIX seconds, shape ``(n,)``.

    Returns:
        Terms, shape ``(n, 3)``.
    """
    hour = (seconds / _HOUR_SECONDS + longitude / 15) % 24
    season = 2 * np.pi * (seconds / _DAY_SECONDS - _EQUINOX_DAY) / _YEAR_DAYS
    declination = np.arcsin(np.sin(_TILT) * np.sin(season))
    # Sine of the elevation is up + across * cos(hour angle); its mean over the day is exact below.
    up = np.sin(np.radians(latitude)) * np.sin(declination)
    across = np.cos(np.radians(latitude)) * np.cos(declination)
    sunset = np.arccos(np.clip(-up / across, -1, 1))
    sun = np.maximum(0, up + across * np.cos((hour - 12) * np.pi / 12))
    columns = [sun - (sunset * up + across * np.sin(sunset)) / np.pi]
    for middle, width in _BELLS:
        apart = (hour - middle + 12) % 24 - 12
        bell = np.exp(-0.5 * (apart / width) ** 2)
        columns.append(bell - width * np.sqrt(2 * np.pi) / 24)
    return np.stack(columns, axis=1)


@cache
def zones() -> dict[str, Zone]:
    """Return the parameters of every known zone."""
    text = files("carbon").joinpath("zones.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    sources = {key: Source.model_validate(value) for key, value in tables["sources"].items()}

    def resolve(value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {
            key: sources[inner] if key == "source" else resolve(inner)
            for key, inner in value.items()
        }

    return {name: Zone.model_validate(resolve(row)) for name, row in tables["zones"].items()}


def known_zones() -> tuple[str, ...]:
    """Return the grid zones that a typical day is modelled for, sorted."""
    return tuple(sorted(zones()))


class TypicalDay:
    """A signal source that models each zone's typical day: unlimited horizon, 30 minute steps."""

    @property
    def name(self) -> str:
        """Name for people."""
        return "modelled typical day"

    def intensity(self, zone: str, start: datetime, end: datetime) -> IntensitySeries:
        """Return the modelled average lifecycle intensity of a zone over the window.

        Raises:
            UnknownZone: There are no parameters for the zone.
        """
        known = _zone(zone)
        starts, last, middles = _grid(start, end)
        shape = known.shape.factors(middles) if known.shape else np.ones_like(middles)
        fitted = known.shape.source.title if known.shape else "flat, no daily shape is known"
        level = known.level
        return IntensitySeries(
            zone,
            starts,
            last,
            (level.g_per_kwh * shape).tolist(),
            f"{self.name} (mean {level.source.as_of.year}: {level.source.title}; shape: {fitted})",
            kind=Kind.MODELLED,
            signal=Signal.AVERAGE,
            accounting=Accounting.LIFECYCLE,
        )

    def price(self, zone: str, start: datetime, end: datetime) -> PriceSeries:
        """Return the modelled price of a zone over the window.

        Raises:
            UnknownZone: There are no parameters for the zone.
            NoSignal: No price was fitted for it.
        """
        known = _zone(zone).price
        starts, last, middles = _grid(start, end)
        if known is None:
            raise NoSignal(f"{self.name} has no price of zone {zone}. Replay a price file.")
        return PriceSeries(
            zone,
            starts,
            last,
            (known.per_mwh * known.shape.factors(middles)).tolist(),
            f"{self.name} ({known.shape.source.title})",
            kind=Kind.MODELLED,
            currency=known.currency,
        )


def _zone(name: str) -> Zone:
    found = zones().get(name)
    if found is None:
        raise UnknownZone("zone", name, zones())
    return found


def _grid(
    start: datetime, end: datetime
) -> tuple[tuple[datetime, ...], datetime, NDArray[np.float64]]:
    """Return starts, end and middles (POSIX seconds) of the half hours that touch the window."""
    start, end = require_window(start, end)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    first, stop = (start - epoch) // _STEP, -((epoch - end) // _STEP)
    starts = tuple(epoch + index * _STEP for index in range(first, stop))
    middles = (np.arange(first, stop, dtype=np.float64) + 0.5) * _STEP.total_seconds()
    return starts, epoch + stop * _STEP, middles
