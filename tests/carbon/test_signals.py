"""The table `[signals]` of the fleet file: which providers are asked, and what cannot be meant."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr, ValidationError

from carbon import Accounting, BadInput, Fleet, NotAsked, Signal, Signals, look
from carbon._signals import PROVIDERS
from carbon.providers import Feed, Keys
from work_pools import load_fleet

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SDK = "[carbon-aware-sdk]\nurl = 'http://a'\nsignal = 'average'\naccounting = 'direct'"


def parsed(text: str) -> Signals:
    """Read the table as the fleet file holds it."""
    return Signals.model_validate(tomllib.loads(text))


def test_nothing_need_be_said() -> None:
    """All providers in the usual order, and nothing modelled stands in."""
    signals = Signals()
    assert signals.chain("DE") == PROVIDERS
    assert not signals.modelled


def test_names_are_written_as_providers_are_called() -> None:
    """With hyphens, in TOML; a zone may have an order of its own."""
    signals = parsed(
        """
        order = ["energy-charts", "typical-day"]
        zones = {GB = ["gb-carbon-intensity", "electricity-maps"]}
        [gb-carbon-intensity]
        region = 13
        [electricity-maps]
        accounting = "direct"
        [energy-charts]
        url = "http://127.0.0.1:8090/"
        [carbon-aware-sdk]
        url = "https://sdk.example"
        signal = "marginal"
        accounting = "direct"
        locations = {SE-SE3 = "swedencentral"}
        """
    )
    assert signals.chain("DE") == ("energy-charts",)
    assert signals.chain("GB") == ("gb-carbon-intensity", "electricity-maps")
    assert signals.modelled
    assert signals.gb_carbon_intensity.region == 13
    assert signals.electricity_maps.accounting is Accounting.DIRECT
    assert signals.energy_charts.url == "http://127.0.0.1:8090"
    assert signals.carbon_aware_sdk is not None
    assert signals.carbon_aware_sdk.signal is Signal.MARGINAL


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('order = ["energy-chart"]', "Did you mean 'energy-charts'"),
        ('order = ["entsoe", "entsoe"]', "twice"),
        ('order = ["typical-day", "entsoe"]', "Put it last"),
        ('zones = {DE = ["typical-day"]}', "zones.DE"),
        ('zones = {DE = ["watttime", "watttime"]}', "twice"),
        ("[gb-carbon-intensity]\nregion = 18", "17"),
        ("[electricity-maps]\nversion = 'v2'", "v3"),
        ("[entsoe]\ntoken = 's3cr3t'", "token"),
        ("[carbon-aware-sdk]\nurl = 'http://a'", "signal"),
        ("surprise = 1", "surprise"),
        *(
            (f"[energy-charts]\nurl = {url!r}", "plain address")
            for url in (
                "ftp://a",
                "a.example",
                "http://",
                "http://:key@a",
                "https://k@a",
                "http://a?k=1",
            )
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, told: str) -> None:
    """The message names what is wrong, and a key in an address is one such thing."""
    with pytest.raises(ValidationError, match=told):
        parsed(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('zones = {GBB = ["watttime"]}', "signals.zones: grid zone 'GBB'.*Did you mean 'GB'"),
        (
            "[electricity-maps]\nregions = {US-NW-PACWW = 'aws:us-west-2'}",
            "signals.electricity-maps.regions: .*Did you mean 'US-NW-PACW'",
        ),
        ("[watttime]\nregions = {DEE = 'DE'}", "signals.watttime.regions: grid zone 'DEE'"),
        (
            f"{SDK}\nlocations = {{ESS = 'spain'}}",
            "signals.carbon-aware-sdk.locations: grid zone 'ESS'.*Did you mean 'ES'",
        ),
    ],
)
def test_a_zone_that_does_not_exist_is_refused(text: str, told: str) -> None:
    """It would silently do nothing; one without a pool is fine, for pools come and go."""
    shipped = load_fleet().model_dump()
    with pytest.raises(ValidationError, match=told):
        Fleet.model_validate({**shipped, "signals": tomllib.loads(text)})
    Fleet.model_validate({**shipped, "signals": {"zones": {"FR": ["watttime"]}}})


def test_a_name_where_a_list_belongs_is_shown_as_a_list() -> None:
    """The fix is made of what was written."""
    with pytest.raises(ValidationError) as caught:
        parsed('order = "energy-charts"')
    told = BadInput.from_validation("signals", caught.value)
    assert told.fix == "Write a list, e.g. ['energy-charts']."
    with pytest.raises(ValidationError) as caught:
        parsed("order = 3")
    assert BadInput.from_validation("signals", caught.value).fix == "Write a list, e.g. ['a', 'b']."


def test_nobody_is_asked_in_vain() -> None:
    """Who has prices only says nothing of an intensity; where nobody knows a zone that is said."""
    feed = Feed(Signals(), Keys(entsoe_token=SecretStr("0123456789")), None)
    sources = feed.sources(["DE", "US-NW-PACW"], NOW)
    assert [source.name for source in sources] == ["energy-charts", "entsoe"]
    outlook = look(sources, ["DE", "US-NW-PACW"], "DE", NOW, NOW + timedelta(hours=4))
    assert outlook.missing["DE"] == "energy-charts has sent no forecast for DE yet"
    with pytest.raises(NotAsked, match="DE"):
        sources[1].intensity("DE", NOW, NOW + timedelta(hours=4))
    elsewhere = look(sources, ["US-NW-PACW"], "US-NW-PACW", NOW, NOW + timedelta(hours=4))
    assert elsewhere.missing["US-NW-PACW"] == "no provider that is asked knows US-NW-PACW"
    feed.close()


def test_a_provider_without_its_key_is_not_asked() -> None:
    """The ranks of a zone are those of the providers that can be asked for it."""
    with_keys = Signals(order=("entsoe", "watttime", "electricity-maps", "energy-charts"))
    feed = Feed(with_keys, Keys(), None)
    (only,) = feed.sources(["DE", "US-CAL-CISO"], NOW)
    assert only.name == "energy-charts"
    feed.close()
