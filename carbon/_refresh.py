"""Refreshing the outlook store: ask the providers what is due, all at once, within a time.

::

    await refresh(store, providers, needs, now=now, until=deadline)

For each zone the providers are asked in the order of its chain until one sends a forecast that can
be believed; all zones are asked at the same time, and each provider has its share of the time.
Nothing here raises: what failed is kept with the time until which it is not asked again, and the
outlook says so. A provider is left alone as long as its terms want.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

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
from carbon._learn import learn, statistical
from carbon._quality import inspect
from carbon._rows import NOT_BELIEVED, Failure
from carbon._series import IntensitySeries, Kind, PriceSeries, joined
from carbon._statistical import HISTORY
from carbon._store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carbon._provider import Provider

_log = logging.getLogger("carbon")

What = Literal["intensity", "price"]

_REVISED: Final = timedelta(hours=26)
"""Actual values are asked for again for this long: providers revise them for a day."""

_BACKLOG: Final = timedelta(days=7)
_SCORED: Final = timedelta(days=4)
"""By then a forecast has been scored, and is kept no longer."""

_JUDGED: Final = timedelta(days=70)
"""Scores that are older say nothing any more."""

_AHEAD: Final = timedelta(hours=72)
"""No provider forecasts further."""

_LEFT_ALONE: Final[Mapping[type[ProviderError], timedelta]] = {
    AuthError: timedelta(hours=1),
    PlanDenied: timedelta(hours=6),
    RateLimited: timedelta(minutes=10),
    NoData: timedelta(minutes=10),
    BadResponse: timedelta(minutes=5),
    Transient: timedelta(minutes=1),
}
"""How long a question that failed is not asked again."""

_LONGEST_PAUSE: Final = timedelta(days=1)
"""What is to be left alone for longer was written by a clock that was wrong."""


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
) -> tuple[str, ...]:
    """Ask the providers for what is due, and learn from what came.

    Args:
        store: Where answers are kept.
        providers: Whom to ask.
        needs: For which zones.
        now: The present moment.
        until: How far ahead is wanted.
        patience: Longest time; what has not come by then is left for the next time.
        history: Ask for actual values this far back, to learn from them at once.

    Returns:
        What must be said beside the outlook: that the store failed.
    """
    by_name = {provider.name: provider for provider in providers}
    limit = asyncio.get_running_loop().time() + patience.total_seconds()
    state = _State(store, now, history, limit)
    end = min(max(until, now + timedelta(hours=24)), now + _AHEAD)
    rounds = []
    for need in needs:
        whats: tuple[What, ...] = ("intensity", "price") if need.price else ("intensity",)
        chain = [by_name[name] for name in need.chain if name in by_name]
        rounds += [_Question(state, need.zone, what, chain, end) for what in whats]
    await asyncio.gather(*(question.ask() for question in rounds))
    if not state.broken:
        state.broken = _settle(store, by_name, needs, now, anew=history is not None)
    return (state.broken,) if state.broken else ()


def _settle(
    store: Store,
    providers: Mapping[str, Provider],
    needs: Sequence[Need],
    now: datetime,
    *,
    anew: bool,
) -> str:
    """Learn from what came, forget what the terms want forgotten, and say how the store failed."""
    try:
        for need in needs:
            for name in need.chain:
                if name in providers:
                    learn(store, name, need.zone, now, anew=anew)
        with store.together():
            for name, provider in providers.items():
                keep = provider.terms.keep or HISTORY + _BACKLOG
                scored, judged = now - min(keep, _SCORED), now - _JUDGED
                store.prune(name, forecasts=scored, actual=now - keep, scores=judged)
                store.prune(statistical(name), forecasts=scored, actual=now, scores=judged)
    except Exception as error:  # noqa: BLE001 - what is learned must not stop what is decided
        _log.warning("Nothing was learned from what the providers sent: %s", _line(error))
        return _line(error) if isinstance(error, Unavailable) else ""
    return ""


def _line(error: Exception) -> str:
    own = isinstance(error, CarbonAwareError)
    return " ".join(str(error).split()) if own else type(error).__name__


@dataclass
class _State:
    """What all questions of one refresh share.

    Attributes:
        store: Where answers are kept.
        now: The present moment.
        history: How far back to ask, if all is to be asked.
        limit: Time of the event loop by which all must be over.
        broken: How the store has failed, if it has; then nobody waits for it again.
    """

    store: Store
    now: datetime
    history: timedelta | None
    limit: float
    broken: str = ""


@dataclass(frozen=True)
class _Question:
    """One thing to be known of one zone."""

    state: _State
    zone: str
    what: What
    chain: Sequence[Provider]
    end: datetime

    @property
    def store(self) -> Store:
        return self.state.store

    @property
    def _anew(self) -> bool:
        return self.state.history is not None

    @property
    def now(self) -> datetime:
        return self.state.now

    async def ask(self) -> None:
        """Ask the chain until somebody is believed; a store that fails ends it for all."""
        able = [provider for provider in self.chain if self._knows(provider)]
        for place, provider in enumerate(able):
            left = self.state.limit - asyncio.get_running_loop().time()
            if self.state.broken or left <= 0:
                return
            try:
                if await self._answered(provider, left / (len(able) - place)):
                    return
            except Unavailable as error:
                if not self.state.broken:
                    _log.warning("%s", error)
                self.state.broken = _line(error)

    def _knows(self, provider: Provider) -> bool:
        knows = provider.has_price if self.what == "price" else provider.has_intensity
        try:
            return knows(self.zone)
        except Exception as error:  # noqa: BLE001 - a fault in a client must not stop a run
            _log.warning("%s is not asked for %s (%s)", provider.name, self.zone, _line(error))
            return False

    async def _answered(self, provider: Provider, seconds: float) -> bool:
        """Tell whether a provider has sent what can be believed, now or recently."""
        name = provider.name
        if self._left_alone(self.store.failure(name, self.zone, self.what)):
            return False
        last = self.store.confirmed(name, self.zone, self.what, self.now)
        fresh = last is not None and timedelta(0) <= self.now - last < provider.terms.fresh
        if fresh and not self._anew:
            return True
        try:
            async with asyncio.timeout(seconds):
                found = await self._from(provider)
            self._require_own(name, found)
            self.store.add(name, found, self.now)
            wrong = self._wrong(provider, found)
        except TimeoutError:
            self._note(provider, Transient(name, f"gave no answer within {seconds:.0f} s"))
        except Unavailable as error:
            if not isinstance(error, ProviderError):
                raise  # the store
            self._note(provider, error)
        except CarbonAwareError as error:
            self._note(provider, error)
        except Exception as error:  # noqa: BLE001 - a fault in a client must not stop a run
            # Only its kind: a stranger's text may hold an address with a key in it.
            self._note(provider, BadResponse(name, f"its client failed ({type(error).__name__})"))
        else:
            if not wrong:
                return True
            # Kept all the same, and the next provider is asked.
            until = self.now + provider.terms.fresh
            self.store.fail(name, self.zone, self.what, Failure(NOT_BELIEVED, wrong, until))
        return False

    def _left_alone(self, failed: Failure | None) -> bool:
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
            return "" if whole.end > self.now else f"{name}: has no price of {self.zone} ahead."
        looked = inspect(whole, now=self.now, asked=self.end, norm=self.store.norm(name, self.zone))
        if looked.series is None:
            told = "; ".join(one.text for one in looked.findings if one.rejects)
            return f"{name}: is not believed for {self.zone}: {told}."
        return ""

    async def _from(self, provider: Provider) -> Sequence[IntensitySeries] | Sequence[PriceSeries]:
        if self.what == "price":
            return await provider.price(self.zone, self.now, self.end)
        known = self.store.known_until(provider.name, self.zone, self.now)
        missed = self.now - known if known else _BACKLOG
        back = max(_REVISED, min(missed + _REVISED, _BACKLOG))
        if provider.terms.keep is not None:
            back = min(back, provider.terms.keep)
        back = self.state.history or back
        return await provider.intensity(self.zone, self.now - back, self.end)

    def _note(self, provider: Provider, error: CarbonAwareError) -> None:
        pause = next(
            (wait for leaf, wait in _LEFT_ALONE.items() if isinstance(error, leaf)),
            timedelta(minutes=5),
        )
        if isinstance(error, RateLimited) and error.retry_after is not None:
            pause = min(max(error.retry_after, timedelta(seconds=1)), _LONGEST_PAUSE)
        label = error.label if isinstance(error, ProviderError) else "failed"
        self.store.fail(
            provider.name, self.zone, self.what, Failure(label, str(error), self.now + pause)
        )
