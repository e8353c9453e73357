"""A question to the signal providers: one zone's intensity or price, asked along its chain."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from carbon._asked import LONGEST_TURN
from carbon._errors import (
    AuthError,
    BadResponse,
    CarbonAwareError,
    NoData,
    PlanDenied,
    ProviderError,
    RateLimited,
    Transient,
    Unavailable,
)
from carbon._learn import EVERY
from carbon._price_quality import inspect_price
from carbon._provider import kept_as
from carbon._quality import inspect
from carbon._rows import NOT_BELIEVED, Failure
from carbon._series import IntensitySeries, Kind, PriceSeries, joined
from carbon._statistical import midnight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from carbon._provider import Provider
    from carbon._store import Store

_log = logging.getLogger("carbon")

What = Literal["intensity", "price"]

_REVISED: Final = timedelta(hours=23)
"""Actual values are asked for again for this long: providers revise them for a day. It is not a
whole day, for that much Electricity Maps tells in one answer."""

_OVERLAP: Final = timedelta(hours=2)
BACKLOG: Final = timedelta(days=7)
"""How far back one asks that has never asked before, or not for long."""

_LOOKS: Final = 0.05
"""Seconds after which one looks again whether another process is done with asking."""

_LEFT_ALONE: Final[Mapping[type[ProviderError], timedelta]] = {
    AuthError: timedelta(hours=1),
    PlanDenied: timedelta(hours=6),
    RateLimited: timedelta(minutes=10),
    NoData: timedelta(minutes=10),
    BadResponse: timedelta(minutes=5),
    Transient: timedelta(minutes=1),
}
"""How long a question that failed is not asked again."""

_PATIENT: Final = 2.0
"""Seconds below which it is no fault of a provider that it gave no answer."""

_TIMES_AS_LONG: Final = 10
"""Who was waited for shortly and gave no answer is left alone for so many times as long only."""

_LONGEST_PAUSE: Final = timedelta(days=1)
"""What is to be left alone for longer was written by a clock that was wrong."""


def in_a_line(error: Exception) -> str:
    """Return an error in one line: its own words if they are ours, else its kind."""
    own = isinstance(error, CarbonAwareError)
    return " ".join(str(error).split()) if own else type(error).__name__


@dataclass
class Asking:
    """What all questions of one refresh share.

    Attributes:
        store: Where answers are kept.
        now: The present moment.
        end: Until when is asked.
        history: How far back to ask, if somebody wants to learn at once.
        anew: Whether also those are asked whose answer is fresh, or who failed lately.
        patience: Longest time.
        broken: How the store has failed, if it has; then nobody waits for it again.
        kept: What is to be written, by question; at once, for each commit waits for the disk.
        began: Time of the event loop at which it began.
    """

    store: Store
    now: datetime
    end: datetime
    history: timedelta | None
    anew: bool
    patience: timedelta
    broken: str = ""
    kept: list[Callable[[], None]] = field(default_factory=list)
    began: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return asyncio.get_running_loop().time() - self.began

    @property
    def left(self) -> float:
        """Seconds until all must be over."""
        return self.patience.total_seconds() - self.elapsed

    async def turn(self) -> datetime | None:
        """Wait until no other process asks, and return until when the turn is taken.

        Returns:
            ``None`` if another process took too long: then this one asks beside it.
        """
        began = self.now
        until = began + min(self.patience, LONGEST_TURN)
        while not self.store.take_turn(self.now, until):
            if self.elapsed > self.patience.total_seconds() / 2:
                return None
            await asyncio.sleep(_LOOKS)
            self.now = began + timedelta(seconds=self.elapsed)
        return until

    def keep(self) -> None:
        """Write what was heard since the last time; a store that fails is noted."""
        if not self.kept or self.broken:
            return
        try:
            with self.store.together():
                for write in self.kept:
                    write()
        except Unavailable as error:
            self.fail(error)
        self.kept.clear()

    def fail(self, error: Unavailable) -> None:
        """Take note that the store has failed."""
        if not self.broken:
            _log.warning("%s", error)
        self.broken = in_a_line(error)


@dataclass
class Question:
    """One thing to be known of one zone.

    Attributes:
        asking: What all questions share.
        zone: Grid zone.
        what: What is to be known of it.
        chain: Whom to ask, best first.
        answered: Who is believed.
        heard: Whether that was heard just now.
    """

    asking: Asking
    zone: str
    what: What
    chain: Sequence[Provider]
    answered: Provider | None = None
    heard: bool = False

    @property
    def store(self) -> Store:
        return self.asking.store

    @property
    def _anew(self) -> bool:
        return self.asking.anew

    @property
    def now(self) -> datetime:
        return self.asking.now

    def learned(self) -> Iterator[tuple[str, str, bool]]:
        """Yield under which names numbers of the zone are kept, and whether not for long."""
        for provider in self.chain:
            if self.what == "intensity" and self._knows(provider):
                private = provider.terms.keep is not None
                yield kept_as(provider, self.zone), self.zone, private

    def due(self) -> bool:
        """Tell whether somebody would be asked."""
        for provider in self.chain:
            if self._knows(provider) and not self._left_alone(provider):
                return not self._fresh(provider)
        return False

    async def ask(self, like: Provider | None = None) -> None:
        """Ask the chain until somebody is believed; a store that fails ends it for all.

        Args:
            like: Ask only those whose numbers can be compared with those of this one.
        """
        able = [
            provider
            for provider in self.chain
            if (like is None or provider.family == like.family) and self._knows(provider)
        ]
        for place, provider in enumerate(able):
            left = self.asking.left
            if self.asking.broken or left <= 0:
                return
            try:
                if await self._believed(provider, left / (len(able) - place)):
                    self.answered = provider
                    return
            except Unavailable as error:
                self.asking.fail(error)

    def _knows(self, provider: Provider) -> bool:
        knows = provider.has_price if self.what == "price" else provider.has_intensity
        try:
            return knows(self.zone)
        except Exception as error:  # noqa: BLE001 - a fault in a client must not stop a run
            _log.warning("%s is not asked for %s (%s)", provider.name, self.zone, in_a_line(error))
            return False

    def _fresh(self, provider: Provider) -> bool:
        """Tell whether a provider has answered so lately that it is not asked again."""
        last = self.store.confirmed(kept_as(provider, self.zone), self.zone, self.what, self.now)
        fresh = last is not None and timedelta(0) <= self.now - last < provider.terms.fresh
        return fresh and not self._anew

    async def _believed(self, provider: Provider, seconds: float) -> bool:
        """Tell whether a provider has sent what can be believed, now or recently."""
        if self._left_alone(provider):
            return False
        if self._fresh(provider):
            return True
        wrong = await self._answer(provider, seconds)
        if wrong:
            # Kept all the same, and the next provider is asked.
            until = self.now + provider.terms.fresh
            self._failed(provider, Failure(NOT_BELIEVED, wrong, until))
        self.heard = wrong == ""
        return self.heard

    async def _answer(self, provider: Provider, seconds: float) -> str | None:
        """Ask, and say why the answer is of no use; empty where it is, ``None`` without one."""
        name = provider.name
        try:
            async with asyncio.timeout(seconds):
                found = await self._from(provider)
            self._require_own(name, found)
            kept = kept_as(provider, self.zone)
            self.asking.kept.append(partial(self.store.add, kept, found, self.now))
            return self._wrong(provider, found)
        except TimeoutError:
            if seconds >= _PATIENT:  # else it was this process that was in a hurry
                late = Transient(name, f"gave no answer within {seconds:.0f} s")
                self._note(provider, late, _TIMES_AS_LONG * timedelta(seconds=seconds))
        except Unavailable as error:
            if not isinstance(error, ProviderError):
                raise  # the store
            self._note(provider, error)
        except CarbonAwareError as error:
            self._note(provider, error)
        except Exception as error:  # noqa: BLE001 - a fault in a client must not stop a run
            # Only its kind: a stranger's text may hold an address with a key in it.
            fault = BadResponse(name, f"its client failed ({type(error).__name__})")
            self._note(provider, fault)
        return None

    def _left_alone(self, provider: Provider) -> bool:
        failed = self.store.failure(kept_as(provider, self.zone), self.zone, self.what)
        if failed is None or not timedelta(0) < failed.until - self.now <= _LONGEST_PAUSE:
            return False
        return not self._anew or failed.label == RateLimited.label

    def _require_own(
        self, name: str, found: Sequence[IntensitySeries] | Sequence[PriceSeries]
    ) -> None:
        """Refuse an answer to another question: another zone, unlike numbers, a model's.

        Raises:
            NoData: There is nothing in it.
            BadResponse: It is about something else.
        """
        if not found:
            raise NoData(name, f"has nothing for {self.zone}")
        if others := {one.zone for one in found} - {self.zone}:
            raise BadResponse(name, f"sent {min(others)!r} when asked for {self.zone}")
        kind = PriceSeries if self.what == "price" else IntensitySeries
        if not all(isinstance(one, kind) and one.kind is not Kind.MODELLED for one in found):
            raise BadResponse(name, f"sent no {self.what} of {self.zone}")
        said = {one.family[:2] for one in found if isinstance(one, IntensitySeries)}
        if len(said) > 1:
            raise BadResponse(name, f"sent unlike numbers for {self.zone} in one answer")

    def _wrong(
        self, provider: Provider, found: Sequence[IntensitySeries] | Sequence[PriceSeries]
    ) -> str:
        """Say why an answer is of no use for a decision; empty where it is of use."""
        name = provider.name
        ahead = [one for one in found if isinstance(one, PriceSeries) or one.kind is Kind.FORECAST]
        if not ahead:
            return f"{name}: has no forecast for {self.zone}."
        whole = joined(ahead)
        if isinstance(whole, PriceSeries):
            sold = inspect_price(whole, now=self.now, asked=self.asking.end)
            told = f"{name}: is not believed on the price of {self.zone}: {sold.refusal}."
            return told if sold.series is None else ""
        looked = inspect(
            whole,
            now=self.now,
            asked=self.asking.end,
            norm=self.store.norm(kept_as(provider, self.zone), self.zone),
        )
        if looked.series is None:
            return f"{name}: is not believed for {self.zone}: {looked.refusal}."
        return ""

    async def _from(self, provider: Provider) -> Sequence[IntensitySeries] | Sequence[PriceSeries]:
        if self.what == "price":
            return await provider.price(self.zone, self.now, self.asking.end)
        history = self.asking.history
        # Of the day that the history begins in, the whole: a part of a day teaches nothing.
        start = midnight(self.now - history) if history else self.now - self._back(provider)
        return await provider.intensity(self.zone, start, self.asking.end)

    def _back(self, provider: Provider) -> timedelta:
        """Return how far back to ask for actual values: not at all where nothing would be learned.

        Many a provider tells past and future in answers of their own, and a run is waiting.
        """
        kept = kept_as(provider, self.zone)
        learned = self.store.learned_at(kept, self.zone)
        if learned is not None and timedelta(0) <= self.now - learned < EVERY:
            return timedelta(0)
        known = self.store.known_until(kept, self.zone, self.now)
        keep = provider.terms.keep
        if known is None:
            return _REVISED if keep else BACKLOG
        return min(max(_REVISED, self.now - known + _OVERLAP), keep or BACKLOG)

    def _note(
        self, provider: Provider, error: CarbonAwareError, most: timedelta = _LONGEST_PAUSE
    ) -> None:
        pause = next(
            (wait for leaf, wait in _LEFT_ALONE.items() if isinstance(error, leaf)),
            timedelta(minutes=5),
        )
        pause = min(pause, most)
        if isinstance(error, RateLimited) and error.retry_after is not None:
            pause = min(max(error.retry_after, timedelta(seconds=1)), _LONGEST_PAUSE)
        label = error.label if isinstance(error, ProviderError) else "failed"
        self._failed(provider, Failure(label, str(error), self.now + pause))

    def _failed(self, provider: Provider, failure: Failure) -> None:
        kept = kept_as(provider, self.zone)
        self.asking.kept.append(partial(self.store.fail, kept, self.zone, self.what, failure))
