"""The catalogue of cloud regions: where a region lies and what is known about it.

The figures stand in ``regions.toml`` beside this module, each with its source and its date.
"""

from __future__ import annotations

import tomllib
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from carbon._errors import UnknownRegion


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Frozen):
    """Where a figure comes from.

    Attributes:
        title: What a person would cite.
        as_of: Day or year-end that the figure speaks about, or on which it was taken.
        licence: Licence of the source, or ``"facts"``.
    """

    title: str
    as_of: date
    licence: str


class Figure(_Frozen):
    """One number with its source.

    Attributes:
        value: The number, in the unit that the field it stands in documents.
        source: Where it comes from.
        modelled: True where it is a provider-wide average or our own estimate, not a figure that
            was published for this very region.
    """

    value: Annotated[float, Field(ge=0)]
    source: Source
    modelled: bool = False


class Region(_Frozen):
    """A cloud region.

    Attributes:
        name: Provider and region, e.g. ``aws:eu-north-1``.
        provider: The cloud.
        place: City or state, for people.
        continent: Two letters (EU, NA, ...); transfer prices depend on it.
        zone: Grid zone, e.g. ``SE-SE3``.
        zone_source: Where the mapping to the zone comes from.
        jurisdiction: Whose law the data is under: ``EU``, or an ISO 3166 country code.
        pue: Power usage effectiveness, energy of the site per energy of its servers.
        relative_price: On-demand compute price relative to the provider's cheapest US region.
        transfer_usd_per_gb: Carrying data to another region of the same provider and continent.
        intercontinental_usd_per_gb: To another region of the same provider on another continent.
        egress_usd_per_gb: Carrying data out to another provider (internet egress, first tier).
    """

    name: str
    provider: Literal["aws", "gcp", "azure"]
    place: str
    continent: str
    zone: str
    zone_source: Source
    jurisdiction: str
    pue: Figure
    relative_price: Figure
    transfer_usd_per_gb: Figure
    intercontinental_usd_per_gb: Figure
    egress_usd_per_gb: Figure

    def transfer_price(self, to: Region) -> float:
        """Return the price in USD per GB of carrying data from here to another region."""
        if to.name == self.name:
            return 0.0
        if to.provider != self.provider:
            return self.egress_usd_per_gb.value
        if to.continent != self.continent:
            return self.intercontinental_usd_per_gb.value
        return self.transfer_usd_per_gb.value


@cache
def regions() -> dict[str, Region]:
    """Return the catalogue, by region name."""
    text = files("carbon").joinpath("regions.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    sources = {key: Source.model_validate(value) for key, value in tables["sources"].items()}

    def resolve(value: object) -> object:
        if isinstance(value, dict) and "source" in value:
            return {**value, "source": sources[value["source"]]}
        return value

    catalogue: dict[str, Region] = {}
    for name, row in tables["regions"].items():
        fields = {key: resolve(value) for key, value in row.items()}
        fields["zone_source"] = sources[row["zone_source"]]
        catalogue[name] = Region.model_validate(
            {"name": name, "provider": name.split(":")[0], **fields}
        )
    return catalogue


def region(name: str, *, field: str = "region") -> Region:
    """Return one region of the catalogue.

    Raises:
        UnknownRegion: The catalogue does not hold it.
    """
    found = regions().get(name)
    if found is None:
        raise UnknownRegion(field, name, regions())
    return found
