"""The catalogue of cloud regions."""

from __future__ import annotations

import csv
from datetime import date
from typing import TYPE_CHECKING

import pytest

from carbon._errors import UnknownRegion
from carbon._regions import Figure, Region, region, regions

if TYPE_CHECKING:
    from pathlib import Path

REQUIRED = {
    "aws:eu-central-1",
    "aws:eu-north-1",
    "aws:eu-west-1",
    "aws:eu-west-2",
    "aws:eu-west-3",
    "aws:us-east-1",
    "aws:us-west-2",
    "gcp:europe-west1",
    "gcp:europe-north1",
    "gcp:europe-west9",
    "gcp:us-central1",
    "azure:swedencentral",
    "azure:westeurope",
    "azure:norwayeast",
    "azure:uksouth",
}
EU = {"BE", "DE", "ES", "FI", "FR", "IE", "IT", "NL", "SE"}


def _figures(place: Region) -> list[Figure]:
    return [figure for figure in place.__dict__.values() if isinstance(figure, Figure)]


def test_catalogue_spans_three_clouds() -> None:
    """At least 20 regions over the three providers, the ones that the docs name among them."""
    assert len(regions()) >= 20
    assert {place.provider for place in regions().values()} == {"aws", "gcp", "azure"}
    assert not REQUIRED - set(regions())


@pytest.mark.parametrize("name", sorted(regions()))
def test_every_figure_has_a_dated_source(name: str) -> None:
    """Nothing is invented: the zone and the five figures of a region have a source."""
    place = region(name)
    assert len(_figures(place)) == 5
    for source in (place.zone_source, *(figure.source for figure in _figures(place))):
        assert source.title
        assert source.licence
        assert date(2020, 1, 1) < source.as_of


@pytest.mark.parametrize("name", sorted(regions()))
def test_figures_are_plausible(name: str) -> None:
    """A slipped decimal point in the catalogue does not pass."""
    place = region(name)
    assert 1.0 <= place.pue.value <= 2.0
    assert 0.6 <= place.relative_price.value <= 2.0
    assert 0 < place.transfer_usd_per_gb.value <= place.intercontinental_usd_per_gb.value
    assert place.intercontinental_usd_per_gb.value <= place.egress_usd_per_gb.value < 0.2


@pytest.mark.parametrize("name", sorted(regions()))
def test_jurisdiction_and_continent_fit_the_zone(name: str) -> None:
    """The law that data is under follows from the country that the grid zone is in."""
    place = region(name)
    country = place.zone.split("-")[0]
    assert place.jurisdiction == ("EU" if country in EU else country)
    assert place.continent == {"US": "NA", "CA": "NA", "JP": "AS", "SG": "AS"}.get(country, "EU")


def test_averages_and_stand_ins_are_labelled() -> None:
    """A figure that was not published for this very region says so."""
    for place in regions().values():
        for figure in _figures(place):
            stand_in = "average" in figure.source.title or "stand-in" in figure.source.title
            assert figure.modelled or not stand_in
    assert region("aws:eu-west-3").pue.modelled
    assert not region("aws:eu-north-1").pue.modelled


def test_transfer_price_depends_on_provider_and_continent() -> None:
    """Nothing at home, little next door, more over an ocean, most to another provider."""
    paris = region("gcp:europe-west9")
    assert paris.transfer_price(paris) == 0
    assert paris.transfer_price(region("gcp:europe-north1")) == 0.02
    assert paris.transfer_price(region("gcp:us-central1")) == 0.05
    assert paris.transfer_price(region("aws:eu-west-3")) == 0.12


def test_unknown_region_suggests_the_nearest_name() -> None:
    """A typo is answered with the name that was probably meant."""
    with pytest.raises(UnknownRegion, match=r"Did you mean 'aws:eu-north-1'\?"):
        region("aws:eu-nort-1")


def test_zones_and_pue_agree_with_the_shared_table(shared: Path) -> None:
    """Each region's zone and published PUE are those of the table they were taken from."""
    with (shared / "regions" / "cloud_regions.csv").open() as lines:
        table = {f"{row['provider']}:{row['region']}": row for row in csv.DictReader(lines)}
    for name, place in regions().items():
        assert place.zone == table[name]["zone"]
        if not place.pue.modelled:
            assert place.pue.value == float(table[name]["pue"])
        else:
            assert table[name]["pue"] == ""
