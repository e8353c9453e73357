"""Signal providers on the web, one small module each, behind one seam.

::

    async with Web() as web:
        series = await GBCarbonIntensity(web).intensity("GB", now, now + timedelta(hours=48))

Each answer is a series without gaps that says what it is; each failure is one of the errors below
:class:`carbon.ProviderError`. `carbon` itself does not import this package: it needs no network.
"""

from __future__ import annotations

from carbon._provider import Provider, Terms
from carbon.providers._carbon_aware_sdk import CarbonAwareSdk
from carbon.providers._electricity_maps import ElectricityMaps
from carbon.providers._energy_charts import EnergyCharts
from carbon.providers._entsoe import Entsoe
from carbon.providers._feed import Feed, Keys
from carbon.providers._gb import GBCarbonIntensity
from carbon.providers._known import KEYED, host_of, knowing
from carbon.providers._watttime import WattTime
from carbon.providers._web import Web

__all__ = [
    "KEYED",
    "CarbonAwareSdk",
    "ElectricityMaps",
    "EnergyCharts",
    "Entsoe",
    "Feed",
    "GBCarbonIntensity",
    "Keys",
    "Provider",
    "Terms",
    "WattTime",
    "Web",
    "host_of",
    "knowing",
]
