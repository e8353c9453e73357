"""The feed: the outlook store, and the providers that fill it, as the fleet file wants them.

::

    feed = Feed(signals, keys, path)
    await feed.refresh(zones, now=now, until=deadline)     # asks; never raises
    outlook = look(feed.sources(zones, now), zones, ...)   # asks nobody
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypedDict

from carbon._believed import StoredSource
from carbon._errors import BadInput, Unavailable
from carbon._refresh import Need, refresh
from carbon._signals import Signals
from carbon._store import Store
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

    from pydantic import SecretStr

    from carbon._provider import Provider

_log = logging.getLogger("carbon")

_SILENT: Final = timedelta(hours=6)
"""An answer that is this old gives way to a newer one of the next provider."""

_PATIENCE: Final = timedelta(seconds=15)


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


class Feed:
    """The outlook store and the providers that fill it.

    Args:
        signals: Which providers are asked for which zone.
        keys: What they want to be shown.
        path: File of the store. Where it cannot be used, the store is kept in memory, and said so.
    """

    def __init__(self, signals: Signals, keys: Keys, path: Path | None) -> None:
        self.signals, self.keys = signals, keys
        self.notes: list[str] = []
        try:
            self.store = Store(path)
        except Unavailable as error:
            self.notes.append(f"{error} Until then nothing is remembered.")
            self.store = Store.copied(path) if path else Store(None)

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
        patience: timedelta = _PATIENCE,
    ) -> None:
        """Ask the providers for what is due; see :func:`carbon._refresh.refresh`.

        Args:
            zones: Zones that matter, best first: a provider may not want to be asked for all.
            now: The present moment.
            until: How far ahead is wanted.
            priced: Zones whose electricity price matters.
            history: Ask for actual values this far back, to learn from them at once.
            patience: Longest time.
        """
        async with Web(patience=patience) as web:
            needs = [Need(zone, self.signals.chain(zone), zone in priced) for zone in zones]
            told = await refresh(
                self.store,
                list(self._providers(web)),
                needs,
                now=now,
                until=until,
                history=history,
                patience=patience,
            )
        self.notes += [note for note in told if note not in self.notes]

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
            chains[zone] = self._by_silence(zone, chain, now)
            if chains[zone][:1] != chain[:1]:
                hours = _SILENT / timedelta(hours=1)
                notes[zone] = f"{zone}: {chain[0]} was not heard for {hours:.0f} h or more"
        found: list[StoredSource] = []
        for rank in range(max(map(len, chains.values()), default=0)):
            source = StoredSource(
                self.store,
                {zone: chain[rank] for zone, chain in chains.items() if rank < len(chain)},
                now,
                name=f"provider {rank + 1}",
                before=found[-1] if found else None,
                notes=notes,
            )
            found.append(source)
        return tuple(found)

    def _by_silence(self, zone: str, chain: list[str], now: datetime) -> list[str]:
        """Put those who spoke once and have not for long last, the one heard last before others."""
        try:
            heard = {name: self.store.confirmed(name, zone, "intensity", now) for name in chain}
        except Unavailable:
            return chain  # the source that is made of it will say so
        silent = {name: at for name, at in heard.items() if at and now - at >= _SILENT}
        last = sorted(silent, key=lambda name: silent[name], reverse=True)
        return [name for name in chain if name not in silent] + last

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
                if str(error) not in self.notes:
                    self.notes.append(str(error))
            else:
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
