"""Times by the calendar: hours of the week by the local clock, and periods with a name."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import TYPE_CHECKING, Annotated, Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from carbon._errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = timedelta(days=1)


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )


@cache
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # 'Europe' is a folder
        raise BadInput(
            "timezone", f"{name!r} is not known", "Write one like 'Europe/Berlin' or 'UTC'."
        ) from error


def _known_zone(value: str) -> str:
    return _zone(value).key


Timezone = Annotated[str, AfterValidator(_known_zone)]


def _known_days(value: str) -> str:
    _days(value)
    return value


def _days(text: str) -> frozenset[int]:
    """Return weekdays, Monday is 0, of a text like ``mon-fri`` or ``sat, sun``."""
    found: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = (name.strip() for name in part.partition("-"))
        last = last if dash else first
        if first not in DAYS or last not in DAYS:
            raise BadInput(
                "days", f"{text!r} are no weekdays", "Write e.g. 'mon-fri' or 'sat, sun'."
            )
        begin, end = DAYS.index(first), DAYS.index(last)
        found |= {(begin + step) % len(DAYS) for step in range((end - begin) % len(DAYS) + 1)}
    return frozenset(found)


def _without_offset(value: time) -> time:
    if value.tzinfo is not None:
        raise BadInput(
            "from / to", f"{value} has an offset", "Write e.g. '22:00'; timezone says whose clock."
        )
    return value


LocalTime = Annotated[time, AfterValidator(_without_offset)]


def readings(zone: ZoneInfo, day: date, at: time) -> tuple[float, float]:
    """Return when the clock shows a time of a day for the first and the last time.

    Returns:
        POSIX seconds: the same twice, unless it comes twice; where the clock jumps over it, when.
    """
    usual, other = (
        datetime.combine(day, at.replace(fold=fold), zone).timestamp() for fold in (0, 1)
    )
    if other >= usual:
        return usual, other
    after = utc(usual).astimezone(zone).utcoffset()
    while usual - other > 1:  # skipped: the change lies between the two readings
        middle = (usual + other) // 2
        changed = utc(middle).astimezone(zone).utcoffset() == after
        usual, other = (middle, other) if changed else (usual, middle)
    return usual, usual


class Hours(_Frozen):
    """Hours of the week by the local clock.

    A band that ends at or before it begins goes on until the next day; on a day with a change of
    clocks it is as long as the clock makes it. An edge that comes twice counts the first time, and
    one that the clock jumps over when it does.

    Attributes:
        days: Weekdays on which it begins, e.g. ``mon-fri`` or ``sat, sun``.
        begin: When it begins, by the local clock.
        end: When it ends; ``00:00`` is midnight.
    """

    days: Annotated[str, AfterValidator(_known_days)] = "mon-sun"
    begin: LocalTime = Field(alias="from")
    end: LocalTime = Field(alias="to")

    def within(
        self, start: datetime, end: datetime, timezone: str
    ) -> Iterator[tuple[float, float]]:
        """Yield when it is between two moments, in POSIX seconds, in order."""
        zone, days = _zone(timezone), _days(self.days)
        day = start.astimezone(zone).date() - _DAY
        while day <= end.astimezone(zone).date():
            if day.weekday() in days:
                last = day if self.end > self.begin else day + _DAY
                begins = max(readings(zone, day, self.begin)[0], start.timestamp())
                ends = min(readings(zone, last, self.end)[0], end.timestamp())
                if begins < ends:
                    yield begins, ends
            day += _DAY


class Blackout(_Frozen):
    """A period in which no heavy stage runs, e.g. the days around a sale.

    Attributes:
        name: What people call it.
        start: When it begins, with an offset.
        end: When it ends.
        pools: Names of the pools; empty for all.
    """

    name: Annotated[str, Field(min_length=1)]
    start: AwareDatetime
    end: AwareDatetime
    pools: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            raise BadInput("end", f"{self.name!r} ends before it starts", "Swap the two.")
        return self

    def covers(self, pool: str) -> bool:
        """Tell whether a pool is meant."""
        return not self.pools or pool in self.pools


def steps(
    base: float, bands: list[tuple[Iterator[tuple[float, float]], float]], start: float, end: float
) -> tuple[list[float], list[float]]:
    """Return a step function: a base value, and where bands hold, theirs; the last one wins.

    Returns:
        Edges in POSIX seconds, one more than values, and values.
    """
    held = [(list(periods), value) for periods, value in bands]
    edges = sorted(
        {start, end, *(edge for periods, _ in held for pair in periods for edge in pair)}
    )
    values = []
    for begin in edges[:-1]:
        value = base
        for periods, other in held:
            if any(first <= begin < last for first, last in periods):
                value = other
        values.append(value)
    return edges, values


def utc(seconds: float) -> datetime:
    """Return POSIX seconds as an aware moment."""
    return datetime.fromtimestamp(seconds, UTC)
