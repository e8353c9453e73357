"""Refreshing the outlook store: ask the providers what is due, all at once, within a time.

::

    await refresh(store, providers, needs, now=now, until=deadline)

For each zone the providers are asked in the order of its chain until one sends a forecast that can
be believed; all zones are asked at the same time, and each provider has its share of the time. A
zone whose numbers cannot be compared with those of the first zone, which is home, is asked for once
more from those that can. Nothing here raises: what failed is kept with the time until which it is
not asked again, and the outlook says so. A provider is left alone as long as its terms want, and of
many processes that want to ask at once one does, while the others wait for what it gets.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from carbon._errors import Unavailable
from carbon._learn import study
from carbon._question import BACKLOG, Asking, Question, What, in_a_line
from carbon._statistical import DAY, HISTORY, statistical

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from carbon._provider import Provider, Terms
    from carbon._store import Store

_log = logging.getLogger("carbon")

_WHATS: Final[tuple[What, ...]] = ("intensity", "price")

_KEPT_EVERY: Final = 1.0
"""Seconds after which what has come is kept, though others are still waited for."""

_SCORED: Final = timedelta(days=4)
"""By then a forecast has been scored, and is kept no longer."""

_JUDGED: Final = timedelta(days=70)
"""Scores that are older say nothing any more."""

_AHEAD: Final = timedelta(hours=72)
"""No provider forecasts further."""


@dataclass(frozen=True)
class Need:
    """What is to be known of a zone.

    Attributes:
        zone: Grid zone.
        chain: Names of providers, in the order in which they are asked.
        price: Whether its electricity price matters.
    """

    zone: str
    chain: tuple[str, ...]
    price: bool = False


async def refresh(
    store: Store,
    providers: Sequence[Provider],
    needs: Sequence[Need],
    *,
    now: datetime,
    until: datetime,
    patience: timedelta = timedelta(seconds=20),
    history: timedelta | None = None,
    anew: bool = False,
    left: Mapping[str, Terms] | None = None,
) -> tuple[str, ...]:
    """Ask the providers for what is due, and learn from what came.

    Args:
        store: Where answers are kept.
        providers: Whom to ask.
        needs: For which zones; the first is home.
        now: The present moment.
        until: How far ahead is wanted.
        patience: Longest time; what has not come by then is left for the next time.
        history: Ask for actual values this far back, to learn from them at once.
        anew: Ask also those whose answer is fresh or who failed lately, but for those that want to
            be left alone; so does ``history``.
        left: Terms of providers that are not asked any more: what is kept of them is forgotten too.

    Returns:
        What must be said beside the outlook: that the store failed.
    """
    by_name = {provider.name: provider for provider in providers}
    end, anew = min(max(until, now + DAY), now + _AHEAD), anew or history is not None
    asking = Asking(store, now, end, history, anew, patience)
    questions = [
        Question(asking, need.zone, what, [by_name[name] for name in need.chain if name in by_name])
        for need in needs
        for what in _WHATS[: 1 + need.price]
    ]
    turn = None
    try:
        if any(question.due() for question in questions):
            turn = await asking.turn()
            await _answered(asking, [question.ask() for question in questions])
            await _answered(asking, _asked_alike(questions))
            terms = {**(left or {}), **{name: one.terms for name, one in by_name.items()}}
            if not asking.broken:
                _learn(asking, questions)
            if not asking.broken:
                # Where nobody tells what is ahead of it, the clock may be wrong: then only what the
                # terms want forgotten is, and nothing if it is wrong by months.
                heard = any(question.heard for question in questions)
                if heard or store.spoke_within(HISTORY, asking.now):
                    due = {name: one for name, one in terms.items() if heard or one.keep}
                    _forget(store, due, asking.now)
    except Unavailable as error:
        asking.fail(error)
    finally:
        if turn is not None:
            with suppress(Unavailable):  # then it ends by itself
                store.end_turn(turn)
    return (asking.broken,) if asking.broken else ()


async def _answered(asking: Asking, questions: Sequence[Coroutine[None, None, None]]) -> None:
    """Wait for answers, and keep what has come every now and then: this process may be killed."""
    async with asyncio.TaskGroup() as group:
        waiting = {group.create_task(question) for question in questions}
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=_KEPT_EVERY)
            asking.keep()


def _asked_alike(questions: Sequence[Question]) -> list[Coroutine[None, None, None]]:
    """Ask once more for zones whose numbers cannot be compared with those of home."""
    home = questions[0].answered if questions else None
    if home is None:
        return []
    return [
        question.ask(like=home)
        for question in questions
        if question.what == "intensity"
        and question.answered is not None
        and question.answered.family != home.family
    ]


def _learn(asking: Asking, questions: Sequence[Question]) -> None:
    """Learn from what came.

    Raises:
        Unavailable: The store cannot be used.
    """
    lessons, anew = [], asking.history is not None
    every = dict.fromkeys(one for question in questions for one in question.learned())
    for kept, zone, private in every:
        try:
            lesson = study(asking.store, kept, zone, asking.now, anew=anew, private=private)
            lessons.append(lesson)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - what is learned must not stop what is decided
            _log.warning("Nothing was learned of %s (%s): %s", zone, kept, in_a_line(error))
    with asking.store.together():  # one commit: each waits for the disk
        for lesson in filter(None, lessons):
            lesson.keep(asking.store)


def _forget(store: Store, terms: Mapping[str, Terms], now: datetime) -> None:
    """Forget what the terms of providers want forgotten, and what is of no use any more.

    Raises:
        Unavailable: The store cannot be used.
    """
    with store.together():
        for name, one in terms.items():
            keep = one.keep or HISTORY + BACKLOG
            scored, judged = now - min(keep, _SCORED), now - _JUDGED
            store.prune(name, forecasts=scored, actual=now - keep, scores=judged)
            store.prune(statistical(name), forecasts=scored, actual=now, scores=judged)
