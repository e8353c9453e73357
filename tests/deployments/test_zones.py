"""The report behind `carbon outlook`: prices that may not be shown, and findings in prices."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from carbon import Fault, IntensitySeries, Kind, PriceSeries, Store, StoredSource, look
from carbon._series import regular
from deployments import _screen
from deployments._outlook_picture import _price, outlook_picture
from deployments._zones import beliefs, price_findings, report

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from carbon import Belief, Outlook
    from deployments._zones import ZoneReport

HOUR = timedelta(hours=1)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
END = NOW + 24 * HOUR
SECRET = 87.6543


def prices(hours: int) -> list[float]:
    """Return prices of which none is like another; the first is the one to look for."""
    return [SECRET + hour * 1.25 for hour in range(hours)]


def seen(
    sold: Sequence[float | None], unshown: Collection[str] = ()
) -> tuple[ZoneReport, Outlook, dict[str, Belief]]:
    """Return the report on Germany when a provider has sent these prices."""
    starts, end = regular(NOW, HOUR, 30)
    grams = [400.0 + hour % 5 + hour for hour in range(30)]
    store = Store(None)
    store.add("maps", [IntensitySeries("DE", starts, end, grams, "Maps", kind=Kind.FORECAST)], NOW)
    starts, end = regular(NOW, HOUR, len(sold))
    price = PriceSeries("DE", starts, end, sold, "Maps", kind=Kind.FORECAST, currency="EUR")
    store.add("maps", [price], NOW)
    sources = [StoredSource(store, {"DE": "maps"}, NOW, unshown=unshown)]
    outlook = look(sources, ["DE"], "DE", NOW, END, priced=["DE"])
    known = beliefs(sources, ["DE"], outlook)
    found = price_findings(sources, ["DE"], outlook)
    return report(outlook, "DE", known, found), outlook, known


def printed(told: ZoneReport, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the terminal shows."""
    _screen.show_zones(told)
    return " ".join(capsys.readouterr().out.split())


def test_a_price_is_shown_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the terms do not forbid it."""
    told, _, _ = seen(prices(30))
    assert told.zones[0].price is not None
    assert told.zones[0].price.now == SECRET
    assert "88 EUR/MWh" in (text := printed(told, capsys))
    assert "DE price: Maps (forecast until Tue 18:00)" in text


def test_a_price_that_may_not_be_shown_is_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither table nor JSON nor picture has it; they say who gave it, and that it is used."""
    told, outlook, known = seen(prices(30), unshown={"maps"})
    assert outlook.price["DE"].known[0] == SECRET, "decisions are made with it"
    text, machine = printed(told, capsys), told.model_dump_json()
    strip = json.dumps(_price(told.zones[0], outlook).to_dict())
    assert "used, not shown (terms of Maps)" in text
    for shown in (text, machine, strip):
        assert "87.6" not in shown
        assert "88 EUR" not in shown
    assert json.loads(machine)["zones"][0]["price"]["now"] is None
    assert json.loads(machine)["zones"][0]["price"]["shown"] is False
    assert "not shown" in strip
    assert outlook_picture(told, outlook, known).startswith(b"\x89PNG")


@pytest.mark.parametrize("unshown", [(), ("maps",)])
def test_what_was_found_in_a_price_is_told(
    unshown: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside what was found in the intensity, and in the notes of the outlook, without a price."""
    told, _, _ = seen([*prices(10), 2e6, *prices(23)[11:], *[0.0] * 24], unshown)
    (zone,) = told.zones
    assert not zone.findings
    names = [finding.fault for finding in zone.price_findings]
    assert names == [Fault.ZEROS, Fault.OUT_OF_RANGE, Fault.GAPS, Fault.SHORT]
    assert zone.price is not None
    assert zone.price.until == NOW + 23 * HOUR
    text = printed(told, capsys)
    assert "DE price zeros zero until the end" in text
    assert "2000000" not in text
    (note,) = told.degraded
    assert note.startswith("price of DE from maps: zeros:")


def test_a_price_that_is_not_believed_is_missed() -> None:
    """There is none, and it is said why."""
    told, outlook, _ = seen([0.0] * 30)
    assert outlook.price == {}
    (zone,) = told.zones
    assert zone.price is None
    assert {finding.fault for finding in zone.price_findings} == {Fault.ZEROS, Fault.TOO_LITTLE}
    (note,) = told.degraded
    assert "maps is not believed on the price of DE" in note
