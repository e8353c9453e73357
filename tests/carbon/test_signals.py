"""The table `[signals]` of the fleet file: which providers are asked, and what cannot be meant."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from carbon import Accounting, Signal, Signals
from carbon._signals import PROVIDERS
from carbon.providers import Feed, Keys

NOW = datetime(2026, 6, 1, tzinfo=UTC)


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


def test_a_provider_without_its_key_is_not_asked() -> None:
    """The ranks of a zone are those of the providers that can be asked for it."""
    with_keys = Signals(order=("entsoe", "watttime", "electricity-maps", "energy-charts"))
    feed = Feed(with_keys, Keys(), None)
    (only,) = feed.sources(["DE", "US-CAL-CISO"], NOW)
    assert only.name == "energy-charts"
    feed.close()
