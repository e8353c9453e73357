"""Which providers there are for a zone, whether they are asked or not, and where they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from carbon.providers._carbon_aware_sdk import CarbonAwareSdk
from carbon.providers._electricity_maps import ElectricityMaps
from carbon.providers._energy_charts import EnergyCharts
from carbon.providers._entsoe import Entsoe
from carbon.providers._gb import GBCarbonIntensity
from carbon.providers._watttime import WattTime
from carbon.providers._web import Web

if TYPE_CHECKING:
    from carbon._provider import Provider
    from carbon._signals import Signals

KEYED: Final = frozenset({ElectricityMaps.name, WattTime.name, Entsoe.name})
"""Providers that want to be shown a key."""

_NO_KEY: Final = SecretStr("none-is-needed-where-nobody-is-asked")


def knowing(zone: str, signals: Signals) -> tuple[Provider, ...]:
    """Return the providers that would know the intensity of a zone; they cannot be asked."""
    web = Web()
    all_: tuple[Provider, ...] = (
        EnergyCharts(web),
        GBCarbonIntensity(web),
        ElectricityMaps(
            web,
            _NO_KEY,
            accounting=signals.electricity_maps.accounting,
            regions=signals.electricity_maps.regions,
        ),
        WattTime(web, "nobody", _NO_KEY, regions=signals.watttime.regions),
    )
    return tuple(provider for provider in all_ if provider.has_intensity(zone))


def host_of(name: str, signals: Signals) -> str:
    """Return the host, with its port if it is an unusual one, at which a provider is asked."""
    usual = {
        one.name: one.base_url
        for one in (EnergyCharts, GBCarbonIntensity, ElectricityMaps, WattTime, Entsoe)
    }
    if name == CarbonAwareSdk.name and signals.carbon_aware_sdk is not None:
        return urlsplit(signals.carbon_aware_sdk.url).netloc
    setting = getattr(signals, name.replace("-", "_"))
    return urlsplit(setting.url or usual[name]).netloc
