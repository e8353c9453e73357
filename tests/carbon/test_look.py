"""The outlook: one family, best source first, and every shortcoming said aloud."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon._errors import BadInput, NoSignal, UnknownZone
from carbon._look import look
from carbon._outlook import Outlook
from carbon._series import Accounting, IntensitySeries, Kind, PriceSeries, Signal
from carbon._typical import TypicalDay
from carbon.testing import BrokenSource, StaticSource

if TYPE_CHECKING:
    from carbon._outlook import SignalSource

START = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
END = START + 4 * HOUR


def static(
    *zones: str,
    name: str = "first",
    level: float = 100.0,
    kind: Kind = Kind.FORECAST,
    signal: Signal = Signal.AVERAGE,
    accounting: Accounting = Accounting.LIFECYCLE,
    prices: tuple[str, ...] = (),
) -> StaticSource:
    """Make a source that has four flat hours of some zones."""
    return StaticSource(
        {zone: [level] * 4 for zone in zones},
        START,
        HOUR,
        prices={zone: [level] * 4 for zone in prices},
        kind=kind,
        signal=signal,
        accounting=accounting,
        name=name,
    )


def see(*sources: SignalSource, zones: tuple[str, ...] = ("DE", "FR"), home: str = "DE") -> Outlook:
    """Look at the four hours."""
    return look(sources, zones, home, START, END)


def test_a_good_day_is_not_degraded() -> None:
    """When the first source has all, nothing is missing and nothing is noted."""
    outlook = see(static("DE", "FR", prices=("DE",)))
    assert set(outlook.intensity) == {"DE", "FR"}
    assert set(outlook.price) == {"DE"}
    assert (outlook.start, outlook.end) == (START, END)
    assert not outlook.missing
    assert outlook.degraded == ()


def test_the_first_source_wins() -> None:
    """A later source is only asked for what the earlier ones lack."""
    outlook = see(
        static("DE", level=100, prices=("DE",)),
        static("DE", "FR", name="second", level=900, prices=("DE", "FR")),
    )
    assert outlook.intensity["DE"].source == "first"
    assert outlook.intensity["FR"].source == "second"
    assert outlook.price["DE"].source == "first"
    assert outlook.price["FR"].source == "second"
    assert outlook.degraded == ()


def test_home_belongs_to_the_outlook_unasked() -> None:
    """The home zone is looked at even if it is not among the zones."""
    assert set(see(static("DE", "FR"), zones=("FR",)).intensity) == {"DE", "FR"}


@pytest.mark.parametrize(
    "other",
    [
        static("DE", "FR", name="other", kind=Kind.ACTUAL),
        static("DE", "FR", name="other", signal=Signal.MARGINAL),
        static("DE", "FR", name="other", accounting=Accounting.DIRECT),
    ],
)
def test_unlike_signals_never_meet(other: StaticSource) -> None:
    """A zone that is only available in an unlike family is missing, with the reason."""
    outlook = see(static("DE"), other)
    assert set(outlook.intensity) == {"DE"}
    assert "first has no zone 'FR'" in outlook.missing["FR"]
    assert "other has it as" in outlook.missing["FR"]
    assert "never compared" in outlook.missing["FR"]


def test_home_decides_the_family() -> None:
    """The family is that of the first source that covers home, not of the first source."""
    outlook = see(static("FR"), static("DE", "FR", name="second", signal=Signal.MARGINAL))
    assert {series.signal for series in outlook.intensity.values()} == {Signal.MARGINAL}
    assert outlook.intensity["FR"].source == "second"


def test_falling_back_for_home_is_noted() -> None:
    """Using a later source for home, and a modelled one, is said in plain words."""
    outlook = see(static("FR"), TypicalDay())
    assert outlook.intensity["DE"].kind is Kind.MODELLED
    assert outlook.intensity["FR"].kind is Kind.MODELLED
    first, second, *_ = outlook.degraded
    assert first.startswith("first has no zone 'DE'")
    assert first.endswith("; using modelled typical day")
    assert "all intensities are modelled" in second


def test_modelled_prices_are_noted() -> None:
    """A modelled price beside a forecast intensity does not pass in silence."""
    (note,) = see(static("DE", "FR"), TypicalDay()).degraded
    assert note.startswith("prices of DE, FR are modelled: modelled typical day")


def test_a_broken_source_is_skipped_and_noted_once() -> None:
    """A fault of a provider is one line without its words, and it is not asked again."""
    broken = BrokenSource(ConnectionError("GET /?token=SECRET\nno route to host " + "x" * 1000))
    outlook = see(broken, static("DE", "FR"), zones=("DE", "FR", "NL"))
    assert set(outlook.intensity) == {"DE", "FR"}
    assert broken.calls == 1
    note, fallback = outlook.degraded
    assert note == "broken source is broken and was not asked again (ConnectionError)"
    assert fallback == "broken source is broken; using first"
    assert all("\n" not in line and len(line) < 400 for line in outlook.degraded)


class Liar(StaticSource):
    """A provider that answers every zone with the same country."""

    def intensity(self, zone: str, start: datetime, end: datetime) -> IntensitySeries:
        """Return another zone's series."""
        del zone
        return super().intensity("US", start, end)

    def price(self, zone: str, start: datetime, end: datetime) -> PriceSeries:
        """Return another zone's price."""
        del zone
        return super().price("US", start, end)


def test_another_countrys_numbers_are_refused() -> None:
    """A source that sends another zone than asked is broken, whatever it says."""
    liar = Liar({"US": [1.0] * 4}, START, HOUR, prices={"US": [1.0] * 4}, name="liar")
    outlook = see(liar, static("DE", "FR"))
    assert {series.source for series in outlook.intensity.values()} == {"first"}
    assert "sent zone 'US' when asked for 'DE'" in outlook.degraded[0]


class Short(StaticSource):
    """A provider that sends less than asked without a word."""

    def intensity(self, zone: str, start: datetime, end: datetime) -> IntensitySeries:
        """Return the first hour only."""
        return super().intensity(zone, start, min(end, start + HOUR))


def test_half_a_horizon_is_used_and_said() -> None:
    """A series that ends before the window does is used as far as it goes, and that is told."""
    short = Short({"DE": [1.0], "FR": [1.0]}, START, HOUR, name="short")
    outlook = see(short, static("DE", "FR"))
    assert {series.source for series in outlook.intensity.values()} == {"short"}
    assert "the outlook for DE, FR ends at" in outlook.degraded[0]


def test_only_prices_that_matter_are_asked() -> None:
    """Zones whose pools do not pay for electricity need no price, and no note about one."""
    source = static("DE", "FR", prices=("DE", "FR"))
    outlook = look([source], ["DE", "FR"], "DE", START, START + HOUR, priced=["FR"])
    assert set(outlook.price) == {"FR"}


@pytest.mark.parametrize("sources", [(), (static("FR"),), (BrokenSource(OSError("down")),)])
def test_no_signal_for_home_is_no_error(sources: tuple[SignalSource, ...]) -> None:
    """Without a number for home there is no intensity at all, and the outlook says so."""
    outlook = see(*sources)
    assert outlook.intensity == {}
    assert set(outlook.missing) == {"DE", "FR"}
    assert any("no intensity for the home zone DE" in note for note in outlook.degraded)


def test_an_unknown_zone_is_missing() -> None:
    """A zone that no source knows is missing with its closest name; the others go on."""
    outlook = see(TypicalDay(), zones=("DE", "SE-SE33"))
    assert set(outlook.intensity) == {"DE"}
    assert "'SE-SE3'" in outlook.missing["SE-SE33"]
    unknown_home = see(TypicalDay(), zones=("DE",), home="DEE")
    assert unknown_home.intensity == {}
    assert "'DE'" in unknown_home.missing["DEE"]


def test_unknown_zone_does_not_break_a_source() -> None:
    """A source that raises UnknownZone for one zone is still asked for the next."""
    source = BrokenSource(UnknownZone("zone", "XX", ["DE"]))
    outlook = see(source, static("DE", "FR"))
    assert source.calls > 1
    assert not any("not asked again" in note for note in outlook.degraded)


def test_a_bad_window_is_refused() -> None:
    """A window that is empty, backwards or naive is the caller's fault."""
    with pytest.raises(BadInput, match="end"):
        look([static("DE")], ["DE"], "DE", END, START)
    with pytest.raises(BadInput, match="start"):
        look([static("DE")], ["DE"], "DE", START.replace(tzinfo=None), END)


ZONES = ("DE", "FR", "NL", "XX")
FEW = (
    (Kind.FORECAST, Signal.AVERAGE, Accounting.LIFECYCLE),
    (Kind.FORECAST, Signal.MARGINAL, Accounting.DIRECT),
)
sources = st.one_of(
    st.just(TypicalDay()),
    st.just(BrokenSource(ValueError("odd"))),
    st.builds(
        lambda zones, kind, signal, prices: static(
            *zones, kind=kind, signal=signal, prices=tuple(prices)
        ),
        st.sets(st.sampled_from(ZONES), min_size=1),
        st.sampled_from(Kind),
        st.sampled_from(Signal),
        st.sets(st.sampled_from(ZONES)),
    ),
)


@given(
    chosen=st.lists(sources, max_size=4),
    zones=st.sets(st.sampled_from(ZONES)),
    home=st.sampled_from(ZONES),
)
def test_every_zone_is_answered_or_missing(
    chosen: list[SignalSource], zones: set[str], home: str
) -> None:
    """Whatever the sources: one family, each zone once, home or nothing, no empty reason."""
    outlook = look(chosen, zones, home, START, END)
    assert len({series.family for series in outlook.intensity.values()}) <= 1
    assert {*outlook.intensity, *outlook.missing} == zones | {home}
    assert not {*outlook.intensity} & {*outlook.missing}
    assert all(outlook.missing.values())
    assert home in outlook.intensity or not outlook.intensity
    assert outlook.intensity or outlook.degraded
    assert [entry.zone for entry in outlook.provenance] == sorted(outlook.intensity)


def test_notes_of_prices_are_carried_along() -> None:
    """What is said with a price that matters is said with the outlook, once."""
    source = static("DE", "FR", prices=("DE", "FR"))
    for zone in ("DE", "FR"):
        source._price[zone] = source._price[zone].told(notes=(f"price of {zone}: a gap",))
    outlook = look([source], ["DE", "FR"], "DE", START, START + HOUR, priced=["FR"])
    assert outlook.degraded == ("price of FR: a gap",)


def test_a_price_that_matters_and_is_missing_is_told() -> None:
    """With the reason; where nobody said which prices matter, none is missed."""
    source = static("DE", "FR")
    assert look([source], ["DE", "FR"], "DE", START, START + HOUR).degraded == ()
    (note,) = look([source], ["DE", "FR"], "DE", START, START + HOUR, priced=["FR"]).degraded
    assert note.startswith("no price for FR: ")


# -- unlike signals, whoever sends them ------------------------------------------------------------

Family = tuple[Kind, Signal, Accounting]
families = st.tuples(st.sampled_from(Kind), st.sampled_from(Signal), st.sampled_from(Accounting))


@dataclass(frozen=True)
class Mixed:
    """A source that has each zone in a family of its own."""

    name: str
    table: dict[str, Family]

    def intensity(self, zone: str, start: datetime, end: datetime) -> IntensitySeries:
        """Return four hours of the zone, as whatever it has them."""
        if zone not in self.table:
            raise NoSignal(f"{self.name} has no zone {zone!r}")
        kind, signal, accounting = self.table[zone]
        return static(
            zone, name=self.name, kind=kind, signal=signal, accounting=accounting
        ).intensity(zone, start, end)

    def price(self, zone: str, start: datetime, end: datetime) -> PriceSeries:
        """Refuse: it has no price."""
        raise NoSignal(f"{self.name} has no price of {zone!r} from {start} to {end}")


tables = st.lists(
    st.dictionaries(st.sampled_from(ZONES), st.sampled_from([*FEW]) | families), max_size=4
)


def never_mixed(rows: list[dict[str, Family]], home: str) -> None:
    """The first that knows home decides; each zone is the first like it, or left out with why."""
    chosen = [Mixed(f"source {place}", row) for place, row in enumerate(rows)]
    outlook = look(chosen, ZONES, home, START, END)
    wanted = next((one.table[home] for one in chosen if home in one.table), None)
    if wanted is None:
        assert not outlook.intensity
        assert set(outlook.missing) == set(ZONES)
        return
    for zone in ZONES:
        having = [one for one in chosen if zone in one.table]
        like = [one for one in having if one.table[zone] == wanted]
        if like:
            series = outlook.intensity[zone]
            assert series.source == like[0].name
            assert (series.kind, series.signal, series.accounting) == wanted
        else:
            assert zone not in outlook.intensity
            why = outlook.missing[zone]
            for one in having:
                assert f"{one.name} has it as {' '.join(one.table[zone])} intensity" in why
            assert why.count("never compared") == len(having)
            assert (" ".join(wanted) in why) == bool(having)
    assert len({(row.kind, row.signal, row.accounting) for row in outlook.provenance}) == 1


@given(rows=tables, home=st.sampled_from(ZONES))
@settings(max_examples=200, deadline=None)
def test_no_two_unlike_series_are_ever_together(rows: list[dict[str, Family]], home: str) -> None:
    """Average and marginal, lifecycle and direct, forecast and actual, mixed at will."""
    never_mixed(rows, home)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
@given(rows=tables, home=st.sampled_from(ZONES))
@settings(max_examples=2500, deadline=None)
def test_no_two_unlike_series_are_ever_together_often(
    rows: list[dict[str, Family]], home: str
) -> None:
    """The same, often."""
    never_mixed(rows, home)


@given(row=st.dictionaries(st.sampled_from(ZONES), st.sampled_from([*FEW]) | families, min_size=1))
@settings(max_examples=200, deadline=None)
def test_what_the_planner_is_given_is_of_one_family(row: dict[str, Family]) -> None:
    """An outlook that was put together by hand is refused, with the zone and both meanings."""
    series = {zone: Mixed("hand", row).intensity(zone, START, END) for zone in row}
    if len(set(row.values())) == 1:
        assert len(Outlook(START, END, series, {}, {}).provenance) == len(row)
        return
    with pytest.raises(BadInput, match="never compared") as caught:
        Outlook(START, END, series, {}, {})
    first, odd = next(iter(row)), caught.value.field.removeprefix("outlook.intensity.")
    assert row[odd] != row[first]
    for zone in (first, odd):
        assert " ".join(row[zone]) in caught.value.problem
    assert "carbon.look" in caught.value.fix
