"""WattTime: marginal intensity, in full in the US, on a paid plan in much of the world.

::

    async with Web() as web:
        watttime = WattTime(web, "user", SecretStr("..."))
        series = await watttime.intensity("US-CAL-CISO", now, now + timedelta(hours=24))
        rank = await watttime.signal_index("US-CAL-CISO")

The numbers say what the *next* kWh emits (MOER, direct CO2), so they are never compared with
averages. They come in lb/MWh and are handed on in g/kWh. The signal index is no intensity: it says
at which percentile of the next 24 hours the present stands, and free plans have it everywhere. A
free plan has forecasts and history of ``CAISO_NORTH`` only.

A token holds for 30 minutes; it is renewed after 25, or once when it is refused. However many
questions wait for it, one of them logs in, and after a failed login nobody tries for a minute.

What it really sends: ``signal-index`` has the envelope of an intensity and differs in ``units``
only. Both ends of a window count. A 403 is "Invalid scope", that is the plan, or a web page, that
is an expired token or a firewall. ``warnings`` are advice. The history lags by minutes to hours.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import SecretStr

from carbon._clock import Clock, SystemClock
from carbon._errors import AuthError, BadInput, BadResponse, NoData, ProviderError
from carbon._provider import NoPrices, Terms, of_whole
from carbon._series import Accounting, Kind, Signal, require_window
from carbon.providers import _watttime_body as wire
from carbon.providers._answers import answered, past
from carbon.providers._codes import codes
from carbon.providers._made import intensities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon._series import IntensitySeries
    from carbon.providers._web import Web

_LONGEST: Final = timedelta(days=31)
"""Longest window of one question about the past: 32 days, and both ends count."""
_FARTHEST: Final = 72
_WHOLE: Final = 100
_RENEWED: Final = timedelta(minutes=25)
_NEW: Final = timedelta(minutes=1)
"""Age below which a token that is refused has not expired, and pause after a failed login."""


@dataclass(frozen=True)
class _Token:
    text: str = field(repr=False)
    since: datetime


@dataclass(eq=False)
class WattTime(NoPrices):
    """Marginal carbon intensity of WattTime.

    Args:
        web: The HTTP client.
        username: The user.
        password: The password.
        base_url: Address of the service.
        regions: Zone to WattTime's region, for zones that are not in ``codes.toml`` and instead of
            what stands there.
        clock: Tells which part of a window is over, and how old a token is.

    Raises:
        BadInput: The user or the password is empty.
    """

    web: Web
    username: str = field(repr=False)
    password: SecretStr
    base_url: str = "https://api.watttime.org"
    regions: Mapping[str, str] | None = None
    clock: Clock = field(default_factory=SystemClock)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)
    _token: _Token | None = field(default=None, init=False, repr=False)
    _failed: tuple[datetime, ProviderError] | None = field(default=None, init=False, repr=False)

    name: ClassVar[str] = wire.NAME
    family: ClassVar[tuple[Signal, Accounting]] = (Signal.MARGINAL, Accounting.DIRECT)
    terms: ClassVar[Terms] = Terms(
        attribution="WattTime",
        licence="Terms of WattTime; what they say on keeping and showing the data is not known.",
        fresh=timedelta(minutes=5),
        keep=timedelta(days=3),
    )

    def __post_init__(self) -> None:
        if not self.username or not self.password.get_secret_value():
            raise BadInput("watttime login", "user or password is empty", "Give both.")

    def meaning(self, zone: str) -> str:
        """Say which of its regions stands for a zone, if another one than usual."""
        return (self.regions or {}).get(zone, "")

    def has_intensity(self, zone: str) -> bool:
        """Tell whether the zone is one of WattTime's regions."""
        return self._region(zone) is not None

    async def intensity(
        self, zone: str, start: datetime, end: datetime
    ) -> Sequence[IntensitySeries]:
        """Return actual, estimated (imputed) and forecast values within a window.

        Raises:
            NoData: It has nothing there.
            ProviderError: It did not answer, or not with an answer.
        """
        window, now = require_window(start, end), self.clock.now()
        region = self._require_region(zone)
        asked = [self._past(region, *part) for part in past(window, now, _LONGEST)]
        if window[1] > now:
            asked.append(self._forecast(region, window[1] - now))
        answers = await answered(asked)
        found: list[IntensitySeries] = []
        for kind in (Kind.ACTUAL, Kind.ESTIMATED, Kind.FORECAST):
            found += intensities(
                self.name,
                zone,
                (slot for answer in answers for slot in answer.slots(kind)),
                window,
                kind=kind,
                signal=Signal.MARGINAL,
                accounting=Accounting.DIRECT,
                source=of_whole(self.terms.attribution, region),
                issued_at=answers[-1].body.meta.issued_at if kind is Kind.FORECAST else None,
            )
        if not found:
            raise NoData(self.name, f"has nothing for {zone} in this window")
        return found

    async def signal_index(self, zone: str) -> float:
        """Return the percentile, 0 to 100, of the present among the next 24 hours.

        Raises:
            NoData: It has none.
            ProviderError: It did not answer, or not with an answer.
        """
        region = self._require_region(zone)
        points = (await self._ask("signal-index", region, {}, wire.PERCENTILE)).data
        value = max(points, key=lambda point: point.start).value if points else None
        if value is None:
            raise NoData(self.name, f"has no signal index of {zone}")
        if not 0 <= value <= _WHOLE:
            raise BadResponse(self.name, f"sent a signal index of {zone} that is no percentile")
        return value

    def _region(self, zone: str) -> str | None:
        return (self.regions or {}).get(zone) or codes(zone).watttime

    def _require_region(self, zone: str) -> str:
        region = self._region(zone)
        if region is None:
            raise NoData(self.name, f"does not know zone {zone!r}")
        return region

    async def _past(self, region: str, start: datetime, end: datetime) -> wire.Intensities:
        window = {"start": start.isoformat("T", "seconds"), "end": end.isoformat("T", "seconds")}
        return wire.Intensities(
            await self._ask("historical", region, window, wire.POUNDS), ahead=False
        )

    async def _forecast(self, region: str, ahead: timedelta) -> wire.Intensities:
        # It begins with the interval before the present one, so an hour more reaches to the end.
        hours = min(math.ceil(ahead / timedelta(hours=1)) + 1, _FARTHEST)
        horizon = {"horizon_hours": str(hours)}
        return wire.Intensities(
            await self._ask("forecast", region, horizon, wire.POUNDS), ahead=True
        )

    async def _ask(
        self, path: str, region: str, params: Mapping[str, str], units: str
    ) -> wire.Body:
        token = await self._login()
        query = {"region": region, "signal_type": wire.SIGNAL, **params}
        try:
            body = await self._get(path, query, token)
        except AuthError:
            if self._wall() - token.since < _NEW:
                raise
            body = None
        if body is None:
            body = await self._get(path, query, await self._login(instead_of=token))
        body.require(region, units)
        return body

    async def _get(self, path: str, query: Mapping[str, str], token: _Token) -> wire.Body:
        url, headers = f"{self.base_url}/v3/{path}", {"authorization": f"Bearer {token.text}"}
        return await self.web.get(self.name, url, query, wire.read, headers=headers)

    async def _login(self, instead_of: _Token | None = None) -> _Token:
        """Return a token, new if need be, and another one than the one that was refused."""
        async with self._lock:
            known, now = self._token, self._wall()
            if known and known is not instead_of and now - known.since < _RENEWED:
                return known
            if self._failed and now - self._failed[0] < _NEW:
                raise self._failed[1].with_traceback(None)
            user = (self.username, self.password.get_secret_value())
            try:
                text = await self.web.get(
                    self.name, f"{self.base_url}/login", {}, wire.read_token, login=user
                )
            except ProviderError as error:
                self._failed = (self._wall(), error)
                raise
            self._token, self._failed = _Token(text, self._wall()), None
            return self._token

    def _wall(self) -> datetime:
        # A token ages in life, however fast a replay's clock runs.
        return self.clock.wall(self.clock.now())
