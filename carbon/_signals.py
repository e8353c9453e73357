"""Which signal providers are asked for which zone: the table ``[signals]`` of the fleet file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from carbon._errors import BadInput
from carbon._series import Accounting, Signal

TYPICAL_DAY = "typical-day"
PROVIDERS = (
    "energy-charts",
    "electricity-maps",
    "gb-carbon-intensity",
    "watttime",
    "entsoe",
    "carbon-aware-sdk",
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _plain_address(value: str) -> str:
    parts = urlsplit(value)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or "@" in parts.netloc
        or parts.query
    ):
        raise BadInput(
            "url", "is no plain address of a server", "Write e.g. 'http://127.0.0.1:8090'."
        )
    return value.rstrip("/")


Address = Annotated[str, AfterValidator(_plain_address)]


class ElectricityMapsSetting(_Frozen):
    """How Electricity Maps is asked.

    Attributes:
        url: Address of a mirror or a proxy of it.
        version: Version of its API.
        accounting: Lifecycle or direct emissions.
        regions: Zone to the cloud region by which it is asked for.
    """

    url: Address | None = None
    version: Literal["v3", "v4"] = "v4"
    accounting: Accounting = Accounting.LIFECYCLE
    regions: dict[str, str] = {}


class WattTimeSetting(_Frozen):
    """How WattTime is asked.

    Attributes:
        url: Address of a mirror or a proxy of it.
        regions: Zone to WattTime's own region, where ours is missing or wrong.
    """

    url: Address | None = None
    regions: dict[str, str] = {}


class GBSetting(_Frozen):
    """How GB Carbon Intensity is asked.

    Attributes:
        url: Address of a mirror or a proxy of it.
        region: Number of the region that stands for zone GB, e.g. 13 for London.
    """

    url: Address | None = None
    region: Annotated[int, Field(ge=1, le=17)] | None = None


class ProviderSetting(_Frozen):
    """How a provider without settings of its own is asked.

    Attributes:
        url: Address of a mirror or a proxy of it.
    """

    url: Address | None = None


class CarbonAwareSdkSetting(_Frozen):
    """A Carbon Aware SDK server of one's own, and what its numbers mean: it does not tell.

    Attributes:
        url: Its address.
        signal: Average or marginal.
        accounting: Lifecycle or direct.
        locations: Zone to the name of a location there.
    """

    url: Address
    signal: Signal
    accounting: Accounting
    locations: Annotated[dict[str, str], Field(min_length=1)]


class Signals(_Frozen):
    """Which signal providers are asked, and in which order.

    The first that has numbers for the home zone decides which numbers are compared: average or
    marginal, lifecycle or direct. A provider that needs a key is asked once its key is there.

    Attributes:
        order: Names of providers, best first. With ``typical-day`` at its end the modelled typical
            day stands in where no provider has anything; else a run starts at once then, at home.
        zones: Zone to an order of its own.
    """

    order: tuple[str, ...] = PROVIDERS
    zones: dict[str, tuple[str, ...]] = {}
    energy_charts: ProviderSetting = Field(default=ProviderSetting(), alias="energy-charts")
    entsoe: ProviderSetting = ProviderSetting()
    electricity_maps: ElectricityMapsSetting = Field(
        default=ElectricityMapsSetting(), alias="electricity-maps"
    )
    watttime: WattTimeSetting = WattTimeSetting()
    gb_carbon_intensity: GBSetting = Field(default=GBSetting(), alias="gb-carbon-intensity")
    carbon_aware_sdk: CarbonAwareSdkSetting | None = Field(default=None, alias="carbon-aware-sdk")

    @field_validator("order")
    @classmethod
    def _known_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if TYPICAL_DAY in value[:-1]:
            raise BadInput(
                "order",
                f"{TYPICAL_DAY!r} never fails, so what follows is never asked",
                "Put it last.",
            )
        return _known("order", value, (*PROVIDERS, TYPICAL_DAY))

    @field_validator("zones")
    @classmethod
    def _known_zones(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return {zone: _known(f"zones.{zone}", order, PROVIDERS) for zone, order in value.items()}

    def chain(self, zone: str) -> tuple[str, ...]:
        """Return the providers of a zone, best first."""
        order = self.zones.get(zone, self.order)
        return tuple(name for name in order if name != TYPICAL_DAY)

    @property
    def named(self) -> frozenset[str]:
        """All providers that are asked for some zone."""
        return frozenset(self.order).union(*self.zones.values()) - {TYPICAL_DAY}

    @property
    def stated(self) -> tuple[str, ...]:
        """The providers that somebody wrote down, rather than all there are."""
        order = self.order if "order" in self.model_fields_set else ()
        names = (*order, *(name for chain in self.zones.values() for name in chain))
        return tuple(name for name in dict.fromkeys(names) if name != TYPICAL_DAY)

    def zones_named(self) -> Iterator[tuple[str, str]]:
        """Yield each zone that something is said of, after the table where it stands."""
        tables: dict[str, Mapping[str, object]] = {
            "zones": self.zones,
            "electricity-maps.regions": self.electricity_maps.regions,
            "watttime.regions": self.watttime.regions,
            "carbon-aware-sdk.locations": getattr(self.carbon_aware_sdk, "locations", {}),
        }
        for table, rows in tables.items():
            yield from ((table, zone) for zone in rows)

    @property
    def modelled(self) -> bool:
        """Whether the modelled typical day may stand in."""
        return TYPICAL_DAY in self.order


def _known(field: str, order: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    for name in order:
        if name not in known:
            raise BadInput.unknown(field, name, known)
    if len(set(order)) != len(order):
        raise BadInput(field, "names a provider twice", "Name each once.")
    return order
