"""What clients with JSON bodies share: numbers and times to believe, several answers in one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from pydantic import AwareDatetime, Field

from carbon._errors import NoData, PlanDenied
from carbon._stretch import by_step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Iterator

_T = TypeVar("_T")

Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e9, le=1e9)]
"""A number of a body; neither ``true`` nor ``"12"`` is one, nor what no unit makes plausible."""

Moment = Annotated[
    AwareDatetime,
    Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(2100, 1, 1, tzinfo=UTC)),
]
"""A time of a body; one at the end of the calendar could not be reckoned with."""

MOST_ROWS: Final = 20_000
"""Rows of a body; a month of five minutes is below 9,000. What is more is a flood."""


async def answered(questions: Iterable[Awaitable[_T]]) -> list[_T]:
    """Ask several questions about one window together, and return the answers in their order.

    What a provider has not, or not in this plan, is passed over as long as it has anything: a plan
    without forecasts is still good for the past.

    Raises:
        ProviderError: One question failed in another way, or all did.
    """
    good: list[_T] = []
    bad: list[BaseException] = []
    for answer in await asyncio.gather(*questions, return_exceptions=True):
        if isinstance(answer, BaseException):
            bad.append(answer)
        else:
            good.append(answer)
    for error in bad:
        if not good or not isinstance(error, NoData | PlanDenied):
            raise error
    return good


def usual_ends(starts: Iterable[datetime]) -> dict[datetime, datetime]:
    """Return where each interval ends if it lasts to the next, but no longer than usual.

    Starts may come in any order and more than once. A lone start tells nothing about its end.
    """
    times = sorted(set(starts))
    slots = by_step(times, [None] * len(times)) if len(times) > 1 else []
    return {slot.start: slot.end for slot in slots}


def hour_of(moment: datetime) -> datetime:
    """Return the start of the hour; a question from there also finds what runs at the moment."""
    return moment.replace(minute=0, second=0, microsecond=0)


def past(
    window: tuple[datetime, datetime], now: datetime, longest: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """Cut what is over of a window into parts; the first begins at a full hour."""
    start, end = window
    if start < now:
        yield from parts(hour_of(start), min(end, now), longest)


def parts(
    start: datetime, end: datetime, longest: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """Cut a window into parts of at most a length."""
    while start < end:
        yield start, min(start + longest, end)
        start += longest
