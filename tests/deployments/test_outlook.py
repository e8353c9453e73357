"""Decisions on live signals: real clients, a provider on loopback, a real store, real faults."""

from __future__ import annotations

import asyncio
import json
import math
import re
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from carbon import CarbonPolicy, Signals, Store, Trust
from deployments import Settings, Trigger, cli
from deployments._keys import load_keys
from tests.carbon.providers.wire import Answer, Wire
from tests.deployments.lab import JOB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbon import Decision
    from deployments.sandbox import Sandbox
    from tests.carbon.providers.wire import Asked

LEVELS = {"de": 380.0, "es": 140.0}
SECRET = "s3cr3t-t0ken-of-a-shop"
QUARTER, DAY = 900, 86_400


def grid(country: str, seconds: float) -> float:
    """Return an intensity that is low around noon, in g/kWh."""
    hour = seconds / 3600 % 24
    return LEVELS[country] * (1 - 0.3 * math.sin((hour - 6) / 12 * math.pi))


def co2eq(asked: Asked) -> Answer:
    """Answer as Energy-Charts does: actual values up to now, a forecast for 40 hours."""
    country, now = asked.query["country"], time.time()
    first = datetime.fromisoformat(asked.query["start"]).replace(tzinfo=UTC).timestamp()
    last = datetime.fromisoformat(asked.query["end"]).replace(tzinfo=UTC).timestamp() + DAY
    times = range(int(first), int(min(last, now + 40 * 3600)), QUARTER)
    past = [moment < now - QUARTER for moment in times]
    values = [round(grid(country, moment), 1) for moment in times]
    both = list(zip(past, values, strict=True))
    return Answer(
        {
            "unix_seconds": list(times),
            "co2eq": [value if over else None for over, value in both],
            "co2eq_forecast": [None if over else value for over, value in both],
            "deprecated": False,
        }
    )


@pytest.fixture
def charts() -> Iterator[Wire]:
    """Return an Energy-Charts on loopback that knows Germany and Spain."""
    server = Wire()
    server.obeys("/co2eq", co2eq)
    yield server
    server.close()


@pytest.fixture
def settings(tmp_path: Path, charts: Wire) -> Settings:
    """Return the settings of a shop that asks the loopback provider."""
    shipped = (Path(__file__).parents[2] / "work_pools" / "fleet.toml").read_text()
    signals = (
        f'[signals]\norder = ["energy-charts"]\n[signals.energy-charts]\nurl = "{charts.url}"\n'
    )
    (tmp_path / "fleet.toml").write_text(f"{shipped}\n{signals}")
    return Settings(home=tmp_path / "home", fleet=tmp_path / "fleet.toml", offline=False)


def decided(settings: Settings) -> tuple[Decision, float]:
    """Decide as a new process does; return the decision and how long it took in seconds."""
    began = time.monotonic()
    trigger = Trigger.from_settings(settings)

    async def main() -> Decision:
        feed = await trigger.refresh()
        assert feed is not None
        deadline = trigger.clock.now() + timedelta(hours=24)
        try:
            policy = CarbonPolicy(cost_tolerance_percent=100)
            return trigger.decide(JOB.workload, policy, deadline).decision
        finally:
            feed.close()

    return asyncio.run(main()), time.monotonic() - began


def test_a_decision_rests_on_live_forecasts(settings: Settings, charts: Wire) -> None:
    """Places are compared by what the provider says, each zone asked once."""
    decision, _ = decided(settings)
    assert decision.chosen.main.zone == "ES"
    assert {row.zone: row.kind.value for row in decision.provenance} == dict.fromkeys(
        ("DE", "ES"), "forecast"
    )
    assert all("Energy-Charts" in row.source for row in decision.provenance)
    assert all(row.fetched_at is not None for row in decision.provenance)
    assert not decision.modelled
    assert sorted(asked.query["country"] for asked in charts.asked) == ["de", "es"]


def test_a_second_process_asks_nobody(settings: Settings, charts: Wire) -> None:
    """What is fresh in store is not asked for again, and is believed just the same."""
    first, _ = decided(settings)
    asked = len(charts.asked)
    second, _ = decided(settings)
    assert len(charts.asked) == asked
    assert second.chosen.main.pool == first.chosen.main.pool
    assert second.provenance == first.provenance


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>sorry</html>", b'{"unix_seconds": [1'])
def test_a_provider_that_lies_changes_the_label_not_the_start(
    settings: Settings, charts: Wire, body: bytes
) -> None:
    """With nothing to believe the run starts at once at home, and it is said why."""
    charts.says("/co2eq", body)
    decision, seconds = decided(settings)
    assert decision.rule.value == "signal"
    assert decision.chosen.start == decision.decided_at
    assert decision.chosen.main.region == "aws:eu-central-1"
    assert any("energy-charts" in note for note in decision.degraded)
    assert seconds < 10


def test_a_provider_that_dies_leaves_its_last_word(settings: Settings, charts: Wire) -> None:
    """The stored forecast serves on; a provider that hangs costs seconds, not the deadline."""
    first, _ = decided(settings)
    charts.says("/co2eq", Answer(b"", delay=60))
    store = settings.outlook
    _age(store, timedelta(hours=8))
    later, seconds = decided(settings)
    assert seconds < 25
    assert later.chosen.main.zone == first.chosen.main.zone
    assert any("stale" in note for note in later.degraded)
    _age(store, timedelta(days=2))
    last, _ = decided(settings)
    assert last.rule.value == "signal"
    assert last.chosen.start == last.decided_at
    assert last.chosen.main.region == "aws:eu-central-1"


@pytest.mark.parametrize("known", [True, False])
def test_a_provider_that_is_killed_while_it_answers_changes_the_label_not_the_punctuality(
    settings: Settings, known: bool
) -> None:
    """Its process dies in the middle of a planning run: the last word serves, or the run starts."""
    server = Wire()
    server.obeys("/co2eq", co2eq)
    fleet = settings.fleet
    assert fleet is not None
    text = fleet.read_text()
    fleet.write_text(f'{text.rpartition("url = ")[0]}url = "{server.url}"\n')
    before = decided(settings)[0] if known else None
    server.obeys("/co2eq", lambda _: Answer(b"{", delay=30))
    if known:
        _age(settings.outlook, timedelta(hours=1))
    killer = threading.Timer(0.7, server.close)
    killer.start()
    after, seconds = decided(settings)
    killer.join()
    assert seconds < 20
    assert after.chosen.start <= after.chosen.latest_safe_start
    if before is None:
        assert after.rule.value == "signal"
        assert after.chosen.start == after.decided_at
        assert after.chosen.main.region == "aws:eu-central-1"
        assert any("energy-charts" in note for note in after.degraded)
    else:
        assert after.chosen.main.pool == before.chosen.main.pool
        assert any("its answer of" in note for note in after.degraded), after.degraded


def _age(store: Path, by: timedelta) -> None:
    """Let all that is in store have been heard earlier."""
    import sqlite3  # noqa: PLC0415 - only here

    with sqlite3.connect(store) as db:
        seconds = by.total_seconds()
        db.execute("UPDATE series SET fetched_at = fetched_at - ?", (seconds,))
        db.execute("UPDATE series SET confirmed_at = confirmed_at - ?", (seconds,))
        db.execute("DELETE FROM failure")
    db.close()


def test_a_store_that_cannot_be_used_stops_nothing(settings: Settings, tmp_path: Path) -> None:
    """A file where the store's folder should be: the decision is made all the same, and says so."""
    (tmp_path / "home").write_text("in the way")
    decision, _ = decided(settings)
    assert decision.chosen.main.zone == "ES"
    assert any("outlook store" in note for note in decision.degraded)


@pytest.mark.parametrize("field", ["entsoe_token", "electricity_maps_token"])
def test_a_key_that_is_none_stops_nothing(settings: Settings, field: str) -> None:
    """It is said, without the key, and the other providers are asked."""
    bad = SecretStr("x y")
    decision, _ = decided(settings.model_copy(update={field: bad}))
    assert decision.chosen.main.zone == "ES"
    assert not any("x y" in note for note in decision.degraded)


def test_replayed_time_asks_nobody(settings: Settings, charts: Wire) -> None:
    """A replayed grid has no live signals."""
    now = datetime.now(UTC).isoformat()
    replayed = settings.model_copy(update={"clock": f"2026-06-01T00:00+00:00,{now},600"})
    assert asyncio.run(Trigger.from_settings(replayed).refresh()) is None
    assert not charts.asked


def test_the_typical_day_is_used_where_it_is_allowed(settings: Settings, charts: Wire) -> None:
    """`typical-day` at the end of the order stands in, and says that it is modelled."""
    charts.says("/co2eq", b"{}")
    assert settings.fleet is not None
    text = settings.fleet.read_text()
    settings.fleet.write_text(text.replace('["energy-charts"]', '["energy-charts", "typical-day"]'))
    decision, _ = decided(settings)
    assert decision.modelled
    assert any("energy-charts" in note for note in decision.degraded)


def test_the_command_shows_the_outlook(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the terminal, as JSON and as a picture."""
    monkeypatch.setenv("CARBON_OFFLINE", "0")
    monkeypatch.setenv("CARBON_HOME", str(settings.home))
    monkeypatch.setenv("CARBON_FLEET", str(settings.fleet))
    picture = settings.home / "outlook.png"
    _run("outlook", "--learn", "30", "--picture", str(picture))
    told = capsys.readouterr().out
    assert "DE (home)" in told
    assert "Energy-Charts" in told
    assert "no provider that is asked knows US-NW-PACW" in told
    assert "electricity-maps would know US-NW-PACW, with a key and a place in" in told
    assert re.search("learned DE: (29|30) days are known from energy-charts", told)
    assert picture.read_bytes().startswith(b"\x89PNG")
    _run("outlook", "--json", "--hours", "48")
    zones = {row["zone"]: row for row in json.loads(capsys.readouterr().out)["zones"]}
    assert zones["DE"]["home"]
    assert zones["DE"]["intensity"]["kind"] == "forecast"
    assert 200 < zones["DE"]["intensity"]["now_g_per_kwh"] < 500
    assert zones["US-NW-PACW"]["intensity"] is None
    assert zones["US-NW-PACW"]["missing"]
    assert [zones[zone]["believed"] for zone in ("DE", "US-NW-PACW")] == [True, False]


@pytest.fixture
def shop(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings, with an environment that says the same."""
    monkeypatch.setenv("CARBON_OFFLINE", "0")
    monkeypatch.setenv("CARBON_HOME", str(settings.home))
    monkeypatch.setenv("CARBON_FLEET", str(settings.fleet))
    return settings


@pytest.mark.usefixtures("shop")
def test_the_command_asks_again_where_it_is_told_to(
    charts: Wire, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure is remembered for a while; `--refresh` does not wait for its end."""
    charts.says("/co2eq", Answer(b"", status=404))
    _run("outlook")
    charts.obeys("/co2eq", co2eq)
    asked = len(charts.asked)
    _run("outlook")
    assert len(charts.asked) == asked
    told = capsys.readouterr().out
    assert told.count("asked again from") == 2, "in each of both outlooks"
    assert "`carbon outlook --refresh` asks again at once." in told
    _run("outlook", "--refresh", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["zones"][0]["believed"]
    assert told["zones"][0]["asked_again"] is None
    assert len(charts.asked) == asked + 2


@pytest.mark.usefixtures("shop")
def test_who_wants_to_be_left_alone_is_left_alone(
    charts: Wire, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also by `--refresh` and `--learn`, which say that nothing was learned, and why."""
    charts.says("/co2eq", Answer(b"", status=429, headers={"retry-after": "3600"}))
    _run("outlook")
    asked = len(charts.asked)
    _run("outlook", "--refresh")
    capsys.readouterr()
    _run("outlook", "--learn", "30")
    assert len(charts.asked) == asked
    told = capsys.readouterr().out
    assert "learned DE: nothing (energy-charts: asked too often" in told
    assert "3600" not in told
    assert "--refresh" not in told


@pytest.mark.usefixtures("shop")
def test_offline_nothing_is_learned(
    charts: Wire, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no mistake, but it is said; so it is for a replay."""
    monkeypatch.setenv("CARBON_OFFLINE", "1")
    _run("outlook", "--learn", "30")
    assert "nothing learned: CARBON_OFFLINE is set" in capsys.readouterr().out
    now = datetime.now(UTC).isoformat()
    monkeypatch.setenv("CARBON_CLOCK", f"2026-06-01T00:00+00:00,{now},600")
    _run("outlook", "--learn", "30")
    assert "nothing learned: CARBON_CLOCK is set" in capsys.readouterr().out
    assert not charts.asked


def test_the_command_shows_what_forecasts_have_been_worth(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trust stands beside the numbers that it speaks of."""
    monkeypatch.setenv("CARBON_HOME", str(settings.home))
    monkeypatch.setenv("CARBON_FLEET", str(settings.fleet))
    monkeypatch.setenv("CARBON_OFFLINE", "0")
    _run("outlook", "--json")
    store = Store(settings.outlook)
    worth = {"days": 30, "saved_percent": 9.0, "possible_percent": 10.0, "surplus_percent": 8.0}
    lines = {"bias": (0.0,) * 24, "deviation": (9.0,) * 6, "correlation": 0.8}
    spread = (-1.6, -0.7, 0.0, 0.7, 1.6)
    trust = Trust.model_validate({**worth, **lines, "spread": spread})
    store.set_trust("energy-charts", "DE", trust, datetime.now(UTC))
    store.close()
    monkeypatch.setenv("CARBON_OFFLINE", "1")
    capsys.readouterr()
    _run("outlook", "--json")
    zones = {row["zone"]: row for row in json.loads(capsys.readouterr().out)["zones"]}
    assert zones["DE"]["trust"]["days"] == 30
    _run("outlook")
    assert "90% of the possible saving" in capsys.readouterr().out


def _run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert not left.value.code


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are secrets from the first moment on: nothing that prints settings prints them."""
    monkeypatch.setenv("CARBON_ENTSOE_TOKEN", SECRET)
    monkeypatch.setenv("CARBON_WATTTIME_PASSWORD", SECRET)
    settings = Settings.load()
    keys, notes = asyncio.run(load_keys(settings, Signals()))
    assert notes == ()
    assert keys.entsoe_token is not None
    assert keys.entsoe_token.get_secret_value() == SECRET
    assert SECRET not in repr(settings) + repr(keys) + settings.model_dump_json()


@pytest.mark.server
def test_keys_come_from_prefect_blocks(prefect_server: Sandbox) -> None:
    """A Secret block of the right name is as good as the variable."""
    assert prefect_server

    async def main() -> None:
        await Secret(value=SecretStr(SECRET)).save("carbon-electricity-maps-token", overwrite=True)
        try:
            keys, notes = await load_keys(Settings(), Signals())
        finally:
            await Secret.adelete("carbon-electricity-maps-token")
        assert keys.electricity_maps_token is not None
        assert keys.electricity_maps_token.get_secret_value() == SECRET
        assert keys.entsoe_token is None
        assert notes == ()

    asyncio.run(main())


def test_a_provider_that_is_named_without_its_key_is_told_of() -> None:
    """Whoever writes an order down wants to know whom it leaves out; the default is long."""
    for table, told in (
        ({"order": ["electricity-maps"]}, "CARBON_ELECTRICITY_MAPS_TOKEN not set"),
        ({"zones": {"DE": ["entsoe"]}}, "CARBON_ENTSOE_TOKEN not set"),
        ({"order": ["carbon-aware-sdk"]}, "the fleet file has no table"),
    ):
        _, notes = asyncio.run(load_keys(Settings(), Signals.model_validate(table)))
        assert len(notes) == 1
        assert f"is left out: {told}" in notes[0]
    half = Settings(watttime_username="someone")
    _, notes = asyncio.run(load_keys(half, Signals.model_validate({"order": ["watttime"]})))
    assert notes == ("watttime is left out: CARBON_WATTTIME_PASSWORD not set",)


def test_a_prefect_that_does_not_answer_costs_seconds() -> None:
    """A server that accepts and stays silent keeps neither a person nor a run waiting."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: address}):
            began = time.monotonic()
            keys, notes = asyncio.run(
                load_keys(Settings(), Signals(), patience=timedelta(seconds=1))
            )
    assert time.monotonic() - began < 4
    assert keys.entsoe_token is None
    assert "the Prefect API failed (no answer in time)" in notes[0]
    assert len(notes) == 1


def test_one_block_that_fails_leaves_the_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could be read is used, and it is said that something could not."""

    async def read(name: str) -> SecretStr | None:
        if name == "entsoe_token":
            raise ConnectionError
        return SecretStr(SECRET) if name == "electricity_maps_token" else None

    monkeypatch.setattr("deployments._keys._block", read)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        keys, notes = asyncio.run(load_keys(Settings(), Signals()))
    assert keys.electricity_maps_token is not None
    assert keys.entsoe_token is None
    assert len(notes) == 1
    assert "ConnectionError" in notes[0]
    assert SECRET not in notes[0]
