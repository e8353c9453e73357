"""The feed: the outlook store, and the providers that fill it, as the fleet file wants them.

::

    feed = Feed(signals, keys, path)
    await feed.refresh(zones, now=now, until=deadline)     # asks; never raises
    outlook = look(feed.sources(zones, now), zones, ...)   # asks nobody
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypedDict

from pydantic import SecretStr

from carbon._errors import BadInput, Unavailable
from carbon._provider import Terms, kept_as
from carbon._refresh import Need, refresh
from carbon._signals import Signals
from carbon._store import Store
from carbon._stored_source import StoredSource
from carbon.providers._carbon_aware_sdk import CarbonAwareSdk
from carbon.providers._electricity_maps import ElectricityMaps
from carbon.providers._energy_charts import EnergyCharts
from carbon.providers._entsoe import Entsoe
from carbon.providers._gb import GBCarbonIntensity
from carbon.providers._watttime import WattTime
from carbon.providers._web import Web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from carbon._provider import Provider

_log = logging.getLogger("carbon")

_SILENT: Final = timedelta(hours=6)
"""An answer that is this old gives way to a newer one of the next provider."""

_PATIENCE: Final = timedelta(seconds=15)

_TERMS: Final[Mapping[str, Terms]] = {
    one.name: one.terms
    for one in (EnergyCharts, GBCarbonIntensity, ElectricityMaps, WattTime, Entsoe, CarbonAwareSdk)
}


@dataclass(frozen=True)
class Keys:
    """What providers want to be shown; a provider without its key is not asked.

    Attributes:
        electricity_maps_token: Token of Electricity Maps.
        watttime_username: User at WattTime.
        watttime_password: Password at WattTime.
        entsoe_token: Security token of the ENTSO-E transparency platform.
    """

    electricity_maps_token: SecretStr | None = None
    watttime_username: str | None = None
    watttime_password: SecretStr | None = None
    entsoe_token: SecretStr | None = None

    def of(self, provider: str) -> list[str]:
        """Return what is shown to a provider."""
        shown: dict[str, tuple[str | SecretStr | None, ...]] = {
            ElectricityMaps.name: (self.electricity_maps_token,),
            WattTime.name: (self.watttime_username, self.watttime_password),
            Entsoe.name: (self.entsoe_token,),
        }
        return [
            key.get_secret_value() if isinstance(key, SecretStr) else key
            for key in shown.get(provider, ())
            if key is not None
        ]


class Feed:
    """The outlook store and the providers that fill it.

    Args:
        signals: Which providers are asked for which zone.
        keys: What they want to be shown.
        path: File of the store. Where it cannot be used, the store is kept in memory, and said so.
        notes: What must be said beside the outlook whatever happens.
    """

    def __init__(
        self, signals: Signals, keys: Keys, path: Path | None, *, notes: tuple[str, ...] = ()
    ) -> None:
        self.signals, self.keys, self._known = signals, keys, notes
        self._opened: tuple[str, ...] = ()
        self._refreshed: tuple[str, ...] = ()
        self._not_made: dict[str, str] = {}
        try:
            self.store = Store(path)
        except Unavailable as error:
            self._opened = (f"{error} Until then nothing is remembered.",)
            self.store = Store.copied(path) if path else Store(None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be said beside the outlook: what of it did not work, the last time."""
        said = (*self._known, *self._opened, *self._not_made.values(), *self._refreshed)
        return tuple(dict.fromkeys(said))

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    async def refresh(
        self,
        zones: Collection[str],
        *,
        now: datetime,
        until: datetime,
        priced: Collection[str] = (),
        history: timedelta | None = None,
        anew: bool = False,
        patience: timedelta = _PATIENCE,
    ) -> None:
        """Ask the providers for what is due; see :func:`carbon._refresh.refresh`. Never raises.

        Args:
            zones: Zones that matter, home first: a provider may not want to be asked for all.
            now: The present moment.
            until: How far ahead is wanted.
            priced: Zones whose electricity price matters.
            history: Ask for actual values this far back, to learn from them at once.
            anew: Ask also those whose answer is fresh, or who failed lately.
            patience: Longest time.
        """
        needs = [Need(zone, self.signals.chain(zone), zone in priced) for zone in zones]

        async def ask() -> tuple[str, ...]:
            async with Web(patience=patience) as web:
                return await refresh(
                    self.store,
                    self._introduced(web, now),
                    needs,
                    now=now,
                    until=until,
                    history=history,
                    anew=anew,
                    patience=patience,
                    left=_TERMS,
                )

        try:
            try:
                self._refreshed = await ask()
            except Unavailable as error:
                self._refreshed = (str(error),)
            if self._refreshed and self.store.path is not None:
                # The file fails, and the providers may not: what they say is kept in memory.
                self.store, self._opened = Store.copied(self.store.path), self._refreshed
                self._refreshed = await ask()
        except Exception as error:  # noqa: BLE001 - whatever fails here, the run must start
            _log.warning("The signal providers were not asked", exc_info=True)
            self._refreshed = (f"the signal providers were not asked ({type(error).__name__})",)

    def _introduced(self, web: Web, now: datetime) -> list[Provider]:
        """Return the providers, after the store was told how they are asked now."""
        found = list(self._providers(web))
        for provider in found:
            since = self.store.introduce(provider.name, self._access(provider.name), now)
            if isinstance(provider, ElectricityMaps):
                provider.worked = self.store.has_answered(provider.name, since)
        return found

    def _access(self, name: str) -> str:
        """Return what decides whether a provider answers: its address and the key.

        Of a key one byte of its digest is kept: it tells another key in 255 of 256 cases, and
        nobody learns the key from it.
        """
        setting = getattr(self.signals, name.replace("-", "_"))
        keys = self.keys.of(name)
        mark = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:2] if keys else ""
        return f"{setting.url} {mark}"

    def sources(self, zones: Collection[str], now: datetime) -> tuple[StoredSource, ...]:
        """Return what is believed, best provider first, as sources that ask nobody.

        The first one believes each zone's first provider, the second one its second, and so on. A
        provider that has not been heard for hours comes after those that have.

        Args:
            zones: Zones that matter.
            now: The present moment.
        """
        able = {provider.name: provider for provider in self._providers(Web())}
        chains: dict[str, list[str]] = {}
        notes: dict[str, str] = {}
        for zone in zones:
            chain = [
                name
                for name in self.signals.chain(zone)
                if name in able and (able[name].has_intensity(zone) or able[name].has_price(zone))
            ]
            chains[zone] = self._by_silence(zone, [able[name] for name in chain], now)
            if chains[zone][:1] != chain[:1]:
                hours = _SILENT / timedelta(hours=1)
                notes[zone] = f"{zone}: {chain[0]} was not heard for {hours:.0f} h or more"
        found: list[StoredSource] = []
        for rank in range(max(map(len, chains.values()), default=0)):
            ranked = {
                zone: able[chain[rank]] for zone, chain in chains.items() if rank < len(chain)
            }
            names = {zone: kept_as(provider, zone) for zone, provider in ranked.items()}
            source = StoredSource(
                self.store,
                names,
                now,
                name=" or ".join(dict.fromkeys(one.name for one in ranked.values())),
                before=found[-1] if found else None,
                notes=notes,
                unshown={name for name in able if not able[name].terms.prices_shown},
                priced={name for name in able if able[name].family is None},
            )
            found.append(source)
        return tuple(found)

    def _by_silence(self, zone: str, chain: list[Provider], now: datetime) -> list[str]:
        """Put those who spoke once and have not for long last, the one heard last before others."""
        names = [provider.name for provider in chain]
        try:
            heard = {
                one.name: self.store.confirmed(kept_as(one, zone), zone, "intensity", now)
                for one in chain
            }
        except Unavailable:
            return names  # the source that is made of it will say so
        silent = {name: at for name, at in heard.items() if at and now - at >= _SILENT}
        last = sorted(silent, key=lambda name: silent[name], reverse=True)
        return [name for name in names if name not in silent] + last

    def _providers(self, web: Web) -> Iterator[Provider]:
        """Yield the providers whose keys are there; one that cannot be made is told of."""
        for make in (
            self._energy_charts,
            self._gb,
            self._electricity_maps,
            self._watttime,
            self._entsoe,
            self._carbon_aware_sdk,
        ):
            try:
                made = make(web)
            except BadInput as error:
                self._not_made[make.__name__] = str(error)
            else:
                self._not_made.pop(make.__name__, None)
                if made is not None:
                    yield made

    def _energy_charts(self, web: Web) -> Provider:
        return EnergyCharts(web, **_at(self.signals.energy_charts.url))

    def _gb(self, web: Web) -> Provider:
        gb = self.signals.gb_carbon_intensity
        return GBCarbonIntensity(web, region=gb.region, **_at(gb.url))

    def _electricity_maps(self, web: Web) -> Provider | None:
        maps, token = self.signals.electricity_maps, self.keys.electricity_maps_token
        if token is None:
            return None
        return ElectricityMaps(
            web,
            token,
            version=maps.version,
            accounting=maps.accounting,
            regions=maps.regions,
            **_at(maps.url),
        )

    def _watttime(self, web: Web) -> Provider | None:
        watt, user, password = (
            self.signals.watttime,
            self.keys.watttime_username,
            self.keys.watttime_password,
        )
        if not user or password is None:
            return None
        return WattTime(web, user, password, regions=watt.regions, **_at(watt.url))

    def _entsoe(self, web: Web) -> Provider | None:
        token = self.keys.entsoe_token
        return Entsoe(web, token, **_at(self.signals.entsoe.url)) if token is not None else None

    def _carbon_aware_sdk(self, web: Web) -> Provider | None:
        sdk = self.signals.carbon_aware_sdk
        if sdk is None:
            return None
        return CarbonAwareSdk(web, sdk.url, sdk.locations, sdk.signal, sdk.accounting)


class _At(TypedDict, total=False):
    base_url: str


def _at(url: str | None) -> _At:
    return {"base_url": url} if url else {}
