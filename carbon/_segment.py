"""What :func:`carbon.segments` is asked for, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from carbon._errors import BadInput
from carbon._series import require_utc

_NO_TIME: Final = timedelta(0)


@dataclass(frozen=True)
class Interruptible:
    """How a run may be split.

    Attributes:
        min_segment: Least run time of a segment; a run that is shorter stays whole.
        restart: What each segment but the first takes before it goes on: start-up and loading the
            checkpoint. Its slot is held meanwhile.
        restart_kwh: Energy of one restart, spread evenly over ``restart``; without it, what the run
            uses in that time. Like the run's own: before PUE in a :class:`carbon.Stage`, PUE
            included in a :class:`carbon.SegmentRequest`.
        restart_g: Emissions of one restart whenever it happens, in gCO2e.
    """

    min_segment: timedelta = _NO_TIME
    restart: timedelta = _NO_TIME
    restart_kwh: float | None = None
    restart_g: float = 0.0

    def __post_init__(self) -> None:
        for name in ("min_segment", "restart"):
            _require_time(name, getattr(self, name))
        for name in ("restart_kwh", "restart_g"):
            value = getattr(self, name)
            if name == "restart_g" or value is not None:
                _require_number(name, value)
        if self.restart_kwh and not self.restart:
            raise BadInput(
                "restart", "takes no time and yet uses energy", "Say how long a restart takes."
            )


@dataclass(frozen=True)
class SegmentRequest:
    """One run and the window that it has.

    Attributes:
        run: Run time.
        kwh: Energy of the run, PUE included, spread evenly over it.
        earliest: When its slot may be taken at the earliest, aware.
        latest: When it must be over, aware.
        startup: Time from taking its slot to its first line of code; it uses no energy, as in
            :func:`carbon.plan`.
        interruptible: How it may be split; ``None`` for a run that stays whole.
        start_within: Longest time from ``earliest`` to taking its slot.
        wait_at_most: Longest time in all that it neither runs nor starts up for the first time.
    """

    run: timedelta
    kwh: float
    earliest: datetime
    latest: datetime
    startup: timedelta = _NO_TIME
    interruptible: Interruptible | None = None
    start_within: timedelta | None = None
    wait_at_most: timedelta | None = None

    def __post_init__(self) -> None:
        _require_time("run", self.run)
        if not self.run:
            raise BadInput("run", "takes no time", "Give its run time.")
        _require_number("kwh", self.kwh)
        _require_time("startup", self.startup)
        for name in ("start_within", "wait_at_most"):
            if (limit := getattr(self, name)) is not None:
                _require_time(name, limit)
        earliest = require_utc("earliest", self.earliest)
        latest = require_utc("latest", self.latest)
        if latest - earliest < self.startup + self.run:
            raise BadInput(
                "latest",
                f"{latest:%Y-%m-%d %H:%M} UTC leaves {latest - earliest} for a run that takes "
                f"{self.startup + self.run}",
                "Give a later end.",
            )
        object.__setattr__(self, "earliest", earliest)
        object.__setattr__(self, "latest", latest)

    @property
    def end_by(self) -> datetime:
        """When it must be over, by its window and by how long it may wait."""
        if self.wait_at_most is None:
            return self.latest
        return min(self.latest, self.earliest + self.startup + self.run + self.wait_at_most)


@dataclass(frozen=True)
class Segment:
    """A part of a run without a break.

    Attributes:
        start: When its slot is taken, for the start-up or the restart.
        begin: When the run goes on.
        end: When it stops.
        kwh: Energy, that of the restart included.
        g: Emissions in gCO2e, those of the restart included.
        cost: What the energy costs in the price's currency, in a placement in USD; ``None`` where
            it is not paid for on its own.
    """

    start: datetime
    begin: datetime
    end: datetime
    kwh: float
    g: float
    cost: float | None


@dataclass(frozen=True)
class Segments:
    """A run in its segments.

    Attributes:
        segments: In order; one of them for a whole run.
        step: Multiples of what the begins and ends were searched on; ``None`` where no grid was
            needed.
        exact: Whether no other begins and ends are better, on any grid. Otherwise they are the best
            of this step.
    """

    segments: tuple[Segment, ...]
    step: timedelta | None = None
    exact: bool = True

    @property
    def start(self) -> datetime:
        """When the first slot is taken."""
        return self.segments[0].start

    @property
    def end(self) -> datetime:
        """When the run is over."""
        return self.segments[-1].end

    @property
    def kwh(self) -> float:
        """Energy, restarts included."""
        return sum(one.kwh for one in self.segments)

    @property
    def g(self) -> float:
        """Emissions in gCO2e, restarts included."""
        return sum(one.g for one in self.segments)

    @property
    def cost(self) -> float | None:
        """What the energy costs in the price's currency; ``None`` without a price."""
        costs = [one.cost for one in self.segments if one.cost is not None]
        return sum(costs) if len(costs) == len(self.segments) else None


def _require_time(name: str, value: timedelta) -> None:
    if not isinstance(value, timedelta) or value < _NO_TIME:
        raise BadInput(name, f"{value!r} is no length of time", "Give a timedelta of 0 or more.")


def _require_number(name: str, value: object) -> None:
    if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
        raise BadInput(name, f"{value} is no amount", "Give a number of 0 or more.")
