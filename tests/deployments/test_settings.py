"""Settings from the environment: what they mean, and what is wrong with them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon import BadInput, ReplayClock, SystemClock
from deployments import Settings, Trigger

CLOCK = "2022-06-01T00:00+00:00,2026-01-01T12:00+00:00,600"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "FLEET", "REPLAY", "DATA_ROOTS", "CLOCK"):
        monkeypatch.delenv(f"CARBON_{name}", raising=False)


def test_nothing_needs_to_be_set() -> None:
    """Without any setting the shipped fleet, real time and the live signals are used."""
    settings = Settings.load()
    assert isinstance(settings.make_clock(), SystemClock)
    assert settings.live
    assert settings.make_sources() == ()
    assert settings.store.is_relative_to(Path.home())


def test_data_roots_are_separated_like_a_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Several folders may be read; the home always may."""
    monkeypatch.setenv("CARBON_HOME", str(tmp_path))
    monkeypatch.setenv("CARBON_DATA_ROOTS", "a:b:")
    assert Settings.load().roots == (tmp_path, Path("a").absolute(), Path("b").absolute())


def test_clock_replays_from_its_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes of the grid pass in each second after the anchor."""
    monkeypatch.setenv("CARBON_CLOCK", CLOCK)
    clock = Settings.load().make_clock()
    moment = datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)
    assert clock.grid(moment) == datetime(2022, 6, 1, 0, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "now",
        "600",
        CLOCK.replace("600", "fast"),
        CLOCK.replace("600", "0"),
        CLOCK.replace("600", "nan"),
        CLOCK.replace("+00:00", ""),
        CLOCK + ",1",
    ],
)
def test_wrong_clock_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A clock that does not parse names the setting and how to write it."""
    monkeypatch.setenv("CARBON_CLOCK", value)
    with pytest.raises(BadInput, match=r"CARBON_CLOCK: .* Write e\.g\.") as caught:
        Trigger.from_settings()
    assert "\n" not in str(caught.value)


@given(st.text() | st.lists(st.text(), min_size=3, max_size=3).map(",".join))
def test_any_clock_is_a_clock_or_one_error(text: str) -> None:
    """Whatever stands in the setting, nothing but a clock or a clear error comes of it."""
    try:
        clock = Settings(clock=text).make_clock()
    except BadInput as error:
        assert error.field == "CARBON_CLOCK"  # noqa: PT017 - both ways are fine
    else:
        assert isinstance(clock, ReplayClock | SystemClock)


@pytest.mark.parametrize("name", ["FLEET", "REPLAY"])
def test_missing_file_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """A file that is not there is named."""
    monkeypatch.setenv(f"CARBON_{name}", str(tmp_path / "gone.csv"))
    with pytest.raises(BadInput, match=r"gone\.csv: .*(no such file|cannot be read)") as caught:
        Trigger.from_settings()
    assert "\n" not in str(caught.value)


def test_pool_file_with_a_typo_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A typo in the fleet file names file and field before anything is planned."""
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(
        'home = "aws:eu-central-1"\n[residency]\npublic = ["*"]\n[[pools]]\nnme = "a"\n'
    )
    monkeypatch.setenv("CARBON_FLEET", str(fleet))
    with pytest.raises(BadInput, match=r"fleet\.toml: pools\[0\]\.nme: .*Did you mean 'name'"):
        Trigger.from_settings()


def test_prices_alone_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A price file without intensities would be ignored in silence."""
    monkeypatch.setenv("CARBON_REPLAY_PRICES", "/no/such.csv")
    with pytest.raises(BadInput, match="CARBON_REPLAY_PRICES"):
        Settings.load().make_sources()
