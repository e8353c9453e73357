"""The report behind `carbon outlook`: what is believed, what is not and why, and what to do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from carbon import (
    Fault,
    IntensitySeries,
    Kind,
    PriceSeries,
    Signals,
    Store,
    StoredSource,
    Trust,
    look,
)
from carbon._rows import Failure
from carbon._series import regular
from carbon._statistical import Climate, statistical
from carbon.providers import Feed, Keys
from deployments import Settings, Trigger, _screen
from deployments._advice import advice, asked_again, learned, standings
from deployments._outlook_picture import _chart, _price, outlook_picture
from deployments._zones import beliefs, price_findings, report

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

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
    assert "DE price: Maps (forecast until Tue 02 Jun 18:00 UTC)" in text


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


# -- intensities ----------------------------------------------------------------------------------


def forecast(zone: str, first: datetime, values: Sequence[float | None]) -> IntensitySeries:
    """Return quarter hours of a zone."""
    starts, end = regular(first, HOUR / 4, len(values))
    return IntensitySeries(zone, starts, end, values, "Charts", kind=Kind.FORECAST)


def trusted(*, saved: float, days: int = 30, possible: float = 10.0) -> Trust:
    """Return what scores might say."""
    return Trust(
        days=days,
        saved_percent=saved,
        possible_percent=possible,
        surplus_percent=saved,
        bias=(0.0,) * 24,
        deviation=(9.0,) * 6,
        correlation=0.8,
        spread=(-1.6, -0.7, 0.0, 0.7, 1.6),
    )


def of_charts(
    *sent: IntensitySeries, trust: Trust | None = None, now: datetime = NOW
) -> tuple[ZoneReport, Outlook, dict[str, Belief]]:
    """Return the report on Germany and Spain when Energy-Charts has sent this."""
    store = Store(None)
    for series in sent:
        store.add("energy-charts", [series], now)
    if trust is not None:
        store.set_trust("energy-charts", "DE", trust, now)
    zones = ["DE", "ES"]
    sources = [StoredSource(store, dict.fromkeys(zones, "energy-charts"), now)]
    outlook = look(sources, zones, "DE", now, now + 24 * HOUR, priced=())
    known = beliefs(sources, zones, outlook)
    return report(outlook, "DE", known, priced=()), outlook, known


WAVE = [400.0 + quarter % 7 + 2 * quarter for quarter in range(200)]


def test_now_least_and_most_are_means_over_clock_hours() -> None:
    """So that now lies between the two; of this hour what is left of it counts."""
    now = NOW + timedelta(minutes=50)
    values = [500.0, 510.0, 520.0, 260.0, *(300.0 + 9 * quarter for quarter in range(110))]
    told, _, _ = of_charts(forecast("DE", NOW, values), now=now)
    found = told.zones[0].intensity
    assert found is not None
    assert found.now_g_per_kwh == pytest.approx(260)
    assert found.least_g_per_kwh <= found.now_g_per_kwh <= found.most_g_per_kwh
    assert found.least_at == now


def test_a_least_hour_begins_with_the_clock(capsys: pytest.CaptureFixture[str]) -> None:
    """The unit stands in the head of the table."""
    values = [500.0, 510.0, 520.0, 530.0, 330.0, 340.0, 335.0, 320.0, *WAVE[:150]]
    told, _, _ = of_charts(forecast("DE", NOW, values), now=NOW + timedelta(minutes=20))
    found = told.zones[0].intensity
    assert found is not None
    assert found.now_g_per_kwh == pytest.approx((510 * 10 + 520 * 15 + 530 * 15) / 40)
    assert found.least_g_per_kwh == pytest.approx((330 + 340 + 335 + 320) / 4)
    assert found.least_at == NOW + HOUR
    text = printed(told, capsys)
    assert "gCO2e/kWh now" in text
    assert "331 at Mon 13:00" in text


def test_what_is_not_judged_yet_says_what_that_means(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where it was judged and there was nothing to save, or it failed."""
    sent = forecast("DE", NOW, WAVE)
    meaning = "unproven: used as it was sent until it has been judged"
    text = printed(of_charts(sent)[0], capsys)
    assert "unproven" in text
    assert meaning in text
    text = printed(of_charts(sent, trust=trusted(saved=3, days=5))[0], capsys)
    assert "unproven (5 of 14 days)" in text
    for trust, said in (
        (trusted(saved=9), "90% of the possible saving"),
        (trusted(saved=-2), "failed: mean only"),
        (trusted(saved=0, possible=0), "nothing to save"),
    ):
        text = printed(of_charts(sent, trust=trust)[0], capsys)
        assert said in text
        assert meaning not in text


def test_prices_that_nobody_pays_are_not_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """It is said once, instead of an empty column; a zone that needs none says so in its own."""
    told, _, _ = of_charts(forecast("DE", NOW, WAVE))
    assert "price: not needed (no pool has billed_energy)." in printed(told, capsys)
    assert not any(zone.priced for zone in told.zones)
    home, other = told.zones
    mixed = told.model_copy(update={"zones": (home.model_copy(update={"priced": True}), other)})
    text = printed(mixed, capsys)
    assert "unknown" in text
    assert "not needed" in text
    assert "billed_energy" not in text


def test_a_cause_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """With its zone and not once more as a note; machines read both."""
    told, _, _ = of_charts(forecast("DE", NOW, [0.0] * 200))
    text = printed(told, capsys)
    assert text.count("energy-charts is not believed for DE") == 1
    assert any("energy-charts is not believed" in note for note in told.degraded)
    assert [zone.believed for zone in told.zones] == [False, False]
    assert json.loads(told.model_dump_json())["zones"][0]["believed"] is False


# -- the picture ----------------------------------------------------------------------------------


def test_panels_share_a_time_axis_and_say_what_is_missing() -> None:
    """A zone that ends early does not look like one that is known for as long as the others."""
    short = forecast("ES", NOW, [value / 2 for value in WAVE[:40]])
    told, outlook, known = of_charts(forecast("DE", NOW, WAVE), short)
    text = json.dumps(_chart(told, outlook, known).to_dict())
    ends = [int(moment.timestamp() * 1000) for moment in (outlook.start, outlook.end)]
    assert text.count(f'"domain": [{ends[0]}, {ends[1]}]') == 2
    told, outlook, known = of_charts(forecast("DE", NOW, WAVE))
    text = json.dumps(_chart(told, outlook, known).to_dict())
    assert "ES: nothing is believed" in text
    assert "energy-charts has sent no forecast for ES yet" in text
    assert "shaded" not in text


def test_only_a_band_that_is_drawn_is_explained() -> None:
    """It is drawn once it is known how sure a forecast is."""
    told, outlook, known = of_charts(forecast("DE", NOW, WAVE), trust=trusted(saved=9))
    text = json.dumps(_chart(told, outlook, known).to_dict())
    assert "shaded: 90 % of 4-hour means" in text
    assert '"type": "area"' in text


# -- what to do -----------------------------------------------------------------------------------


class Shop:
    """A shop whose providers have failed or told something, without asking them."""

    def __init__(self, folder: Path, *, order: tuple[str, ...] = (), offline: bool = False) -> None:
        """Open a store in memory."""
        trigger = Trigger.from_settings(Settings(home=folder, offline=offline))
        signals = Signals(order=order) if order else Signals()
        fleet = trigger.fleet.model_copy(update={"signals": signals})
        self.trigger = Trigger(fleet, (), trigger.clock, trigger.settings)
        self.feed = Feed(signals, Keys(), None)
        self.store = self.feed.store

    def fails(self, label: str, text: str) -> None:
        """Let Energy-Charts have failed on Germany."""
        self.store.fail("energy-charts", "DE", "intensity", Failure(label, text, NOW + HOUR))

    def told(self, *, anew: bool = False) -> ZoneReport:
        """Return the report."""
        zones = self.trigger.zones
        sources = self.feed.sources(zones, NOW)
        outlook = look(sources, zones, "DE", NOW, END, priced=())
        known = standings(sources, zones)
        return report(
            outlook,
            "DE",
            beliefs(sources, zones, outlook),
            again=asked_again(known, NOW),
            advice=advice(self.trigger, outlook, known, anew=anew),
            learned=learned(known, NOW),
        )


UNHEARD = "energy-charts: did not answer (ConnectError)."
AT_ONCE = "Until something is believed, runs start at once, at home."
CHECK = (
    "Check that this machine reaches api.energy-charts.info, directly or by proxy (HTTPS_PROXY)."
)
REFRESH = "`carbon outlook --refresh` asks again at once."


def test_without_an_answer_it_is_said_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What happens, what to check, and when it is asked again."""
    shop = Shop(tmp_path)
    shop.fails("transient", UNHEARD)
    told = shop.told()
    assert told.advice[:3] == (
        AT_ONCE,
        CHECK,
        REFRESH,
    )
    assert told.zones[0].asked_again == NOW + HOUR
    text = printed(told, capsys)
    assert text.count("did not answer (ConnectError); asked again from 13:00 UTC on") == 2
    assert "learned DE: nothing (energy-charts: did not answer" in text
    assert REFRESH not in shop.told(anew=True).advice


@pytest.mark.parametrize(
    ("label", "text", "said"),
    [
        ("transient", "energy-charts: failed (HTTP status 503).", (AT_ONCE, REFRESH)),
        ("rate-limited", "energy-charts: asked too often.", (AT_ONCE,)),
    ],
)
def test_only_what_may_help_is_advised(
    tmp_path: Path, label: str, text: str, said: tuple[str, ...]
) -> None:
    """A server that answers is reached, and one that wants to be left alone is left alone."""
    shop = Shop(tmp_path)
    shop.fails(label, text)
    assert shop.told().advice[: len(said)] == said
    assert not any("HTTPS_PROXY" in line for line in shop.told().advice)
    assert (REFRESH in shop.told().advice) == (REFRESH in said)


def test_a_zone_that_nobody_knows_is_told_who_would(tmp_path: Path) -> None:
    """Of those whose numbers can be compared, with what they lack."""
    shop = Shop(tmp_path)
    unknown = "electricity-maps or watttime would know US-NW-PACW, with a key."
    assert unknown in shop.told().advice
    shop.store.add("energy-charts", [forecast("DE", NOW, WAVE)], NOW)
    told = shop.told()
    assert told.advice == ("electricity-maps would know US-NW-PACW, with a key.",)
    assert told.zones[2].missing == "no provider that is asked knows US-NW-PACW"
    assert told.learned[2].text == "US-NW-PACW: nothing (no provider that is asked knows it)"
    only = Shop(tmp_path, order=("gb-carbon-intensity",))
    assert "energy-charts would know DE, if signals.order named it." in only.told().advice
    key = "electricity-maps or watttime would know DE, with a key and a place in signals.order."
    assert key in only.told().advice


def test_offline_is_said(tmp_path: Path) -> None:
    """For who asked for something, and for who wonders why there is nothing."""
    shop = Shop(tmp_path, offline=True)
    offline = "CARBON_OFFLINE is set, so no provider is asked; unset it to ask them."
    assert shop.told().advice == (AT_ONCE, offline)
    asked = shop.told(anew=True).advice
    assert asked == (AT_ONCE, f"Nothing was asked for, and nothing learned: {offline}")


@pytest.mark.parametrize(
    ("days", "trust", "said"),
    [
        (9, None, "9 days are known from energy-charts; a statistical forecast takes 14"),
        (20, trusted(saved=1, days=5), "could be tried on 5 of them, trust takes 14"),
        (20, None, "could be tried on 0 of them, trust takes 14"),
        (
            50,
            trusted(saved=4),
            "has earned trust: it got 40% of the possible saving (+4.0 % over 30 days)",
        ),
        (
            50,
            trusted(saved=-1),
            "a statistical forecast has not beaten starting at once here (-1.0 % over 30 days)",
        ),
    ],
)
def test_what_was_learned_is_said(
    tmp_path: Path, days: int, trust: Trust | None, said: str
) -> None:
    """How much is known, whether it is used, and how much it got."""
    shop = Shop(tmp_path)
    series = forecast("DE", NOW, WAVE)
    climate = Climate(
        until=NOW, signal=series.signal, accounting=series.accounting, days=days,
        lows=(1.0,) * days, highs=(9.0,) * days,
    )  # fmt: skip
    shop.store.set_climate("energy-charts", "DE", climate, NOW)
    if trust is not None:
        shop.store.set_trust(statistical("energy-charts"), "DE", trust, NOW)
    first = shop.told().learned[0]
    assert said in first.text
    assert (first.zone, first.provider, first.days) == ("DE", "energy-charts", days)
    assert first.earned == (trust is not None and trust.earned)
    shop.fails("transient", UNHEARD)
    assert "; nothing was added (energy-charts: did not answer" in shop.told().learned[0].text
