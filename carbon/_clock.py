"""The clock: what time it is on the grid, and when a grid moment comes on the wall clock.

In normal operation both are the same. A demo or a back-test replays the grid faster than life;
then all that decides asks the clock for grid time, and all that waits asks it for wall time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from carbon._errors import BadInput
from carbon._series import require_utc


class Clock(Protocol):
    """What time it is on the grid."""

    def now(self) -> datetime:
        """Return the present moment in grid time, aware UTC."""
        ...

    def grid(self, moment: datetime) -> datetime:
        """Return the grid time at a moment of the wall clock, aware UTC."""
        ...

    def wall(self, moment: datetime) -> datetime:
        """Return when a moment of grid time happens on the wall clock, aware UTC."""
        ...

    def describe(self) -> str:
        """Say plainly how grid time relates to life; empty when they are the same."""
        ...


@dataclass(frozen=True)
class SystemClock:
    """Grid time is the wall clock."""

    def now(self) -> datetime:
        """Return the present moment, aware UTC."""
        return datetime.now(UTC)

    def grid(self, moment: datetime) -> datetime:
        """Return the same moment in UTC.

        Raises:
            BadInput: The moment has no time zone.
        """
        return require_utc("moment", moment)

    def wall(self, moment: datetime) -> datetime:
        """Return the same moment in UTC.

        Raises:
            BadInput: The moment has no time zone.
        """
        return require_utc("moment", moment)

    def describe(self) -> str:
        """Return nothing: there is nothing to explain."""
        return ""


@dataclass(frozen=True)
class ReplayClock:
    """Grid time that runs faster (or slower) than life from an anchor.

    Args:
        grid_start: Grid time at the anchor, aware.
        wall_start: Wall-clock time at the anchor, aware.
        speed: Seconds of grid time per second of life, above zero.

    Raises:
        BadInput: A moment has no time zone, or the speed is not a positive number.
    """

    grid_start: datetime
    wall_start: datetime
    speed: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.speed) and self.speed > 0):
            raise BadInput("speed", f"{self.speed} is no speed", "Give a number above 0, e.g. 600.")
        for name in ("grid_start", "wall_start"):
            object.__setattr__(self, name, require_utc(name, getattr(self, name)))

    def now(self) -> datetime:
        """Return the present moment in grid time, aware UTC."""
        return self.grid(datetime.now(UTC))

    def grid(self, moment: datetime) -> datetime:
        """Return the grid time at a moment of the wall clock; the inverse of ``wall``.

        Raises:
            BadInput: The moment has no time zone.
        """
        return self.grid_start + (require_utc("moment", moment) - self.wall_start) * self.speed

    def wall(self, moment: datetime) -> datetime:
        """Return when a moment of grid time happens on the wall clock, aware UTC.

        Raises:
            BadInput: The moment has no time zone.
        """
        return self.wall_start + (require_utc("moment", moment) - self.grid_start) / self.speed

    def describe(self) -> str:
        """Say plainly that time is replayed, and how fast."""
        return (
            f"replayed: 1 s of life is {_length(self.speed)} of grid time, "
            f"from {self.grid_start:%Y-%m-%d %H:%M} UTC"
        )


def _length(seconds: float) -> str:
    whole = timedelta(seconds=seconds) // timedelta(seconds=1)
    if whole != seconds:
        return f"{seconds:g} s"
    hours, rest = divmod(whole, 3600)
    parts = ((hours, "h"), (rest // 60, "min"), (rest % 60, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
