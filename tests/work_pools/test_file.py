"""The fleet file: what ships is right, and every kind of typo gets one clear line."""

from __future__ import annotations

import re
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from carbon._errors import BadInput
from carbon._fleet import PoolType
from work_pools import load_fleet

SHIPPED = files("work_pools").joinpath("fleet.toml").read_text(encoding="utf-8")


def _refusal(folder: Path, text: str) -> str:
    path = folder / "fleet.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as refused:
        load_fleet(path)
    return str(refused.value)


def test_shipped_fleet_is_the_demo_fleet() -> None:
    """Without a path the file beside the module is read: three regions, CPU and GPU in each."""
    fleet = load_fleet()
    assert fleet.home == "aws:eu-central-1"
    assert {(pool.region, pool.hardware.value, pool.capacity) for pool in fleet.pools} == {
        (f"aws:{place}", hardware, capacity)
        for place in ("eu-central-1", "eu-south-2", "us-west-2")
        for hardware, capacity in (("cpu", 2), ("gpu", 1))
    }
    assert {pool.type for pool in fleet.pools} == {PoolType.PROCESS}
    assert fleet.residency["personal"] == ("EU",)


def test_shipped_watts_follow_from_their_stated_derivation() -> None:
    """The comments in the file say how the watts come about, and the figures agree with them."""
    by_name = load_fleet().by_name
    vcpu, gb = (0.74 + 3.50) / 2, 0.392
    assert by_name["eu-south-2-cpu"].watts == pytest.approx(4 * vcpu + 16 * gb, abs=0.1)
    assert by_name["eu-south-2-gpu"].watts == pytest.approx(16 * vcpu + 64 * gb + 72, abs=0.1)


def test_shipped_prices_follow_the_catalogue() -> None:
    """CPU prices of the three regions stand to each other as the catalogue's price levels."""
    fleet = load_fleet()
    per_level = [
        pool.usd_per_hour / pool.place.relative_price.value
        for pool in fleet.pools
        if pool.hardware == "cpu"
    ]
    assert max(per_level) / min(per_level) < 1.02


def test_a_given_file_is_read(tmp_path: Path) -> None:
    """The caller's own file wins over the shipped one, durations written as ISO 8601."""
    path = tmp_path / "mine.toml"
    path.write_text(SHIPPED.replace('startup = "PT2M"', 'startup = "PT90S"'), encoding="utf-8")
    assert {pool.startup for pool in load_fleet(path).pools} == {timedelta(seconds=90)}
    assert load_fleet(str(path)) == load_fleet(path)


TYPOS = [
    ('hardware = "gpu"', 'hardware = "gpuu"',
     "pools[1].hardware: 'gpuu' is not one of 'cpu', 'gpu'", "Did you mean 'gpu'?"),
    ('type = "process"', 'type = "k8s"',
     "pools[0].type: 'k8s' is not one of 'process', 'docker', 'kubernetes'", "Use one of these."),
    ('hardware = "gpu"', 'hardwear = "gpu"',
     "pools[1].hardwear: this setting does not exist", "Did you mean 'hardware'?"),
    ('startup = "PT2M"', 'start_up = "PT2M"',
     "pools[0].start_up: this setting does not exist", "Did you mean 'startup'?"),
    ("[residency]", "[residencyy]",
     "residencyy: this setting does not exist", "Did you mean 'residency'?"),
    ("capacity = 2\n", "", "pools[0].capacity: this setting is missing", "Add it."),
    ("capacity = 2\n", "capacity = 0\n",
     "pools[0].capacity: 0 should be greater than or equal to 1", "Correct the value."),
    ("watts = 14.8", 'watts = "14.8 W"',
     "pools[0].watts: '14.8 W' should be a valid number",
     "Write the number alone, without a unit."),
    ("watts = 14.8", "watts = inf",
     "pools[0].watts: inf should be a finite number", "Correct the value."),
    ('startup = "PT2M"', "startup = 120",
     "pools[0].startup: 120 has no unit", "Write an ISO 8601 duration, e.g. 'PT2M'."),
    ('startup = "PT2M"', 'startup = "-PT2M"',
     "pools[0].startup: a length of time is never less than zero",
     "Write an ISO 8601 duration, e.g. 'PT2M' for two minutes."),
    ('startup = "PT2M"', 'startup = "2 minutes"',
     "pools[0].startup: '2 minutes' should be a duration, invalid character in hour",
     "Write an ISO 8601 duration, e.g. 'PT2M' for two minutes."),
    ('region = "aws:eu-south-2"', 'region = "aws:eu-sout-2"',
     "pools[2].region: cloud region 'aws:eu-sout-2' is not known",
     "Did you mean 'aws:eu-south-2'?"),
    ('home = "aws:eu-central-1"', 'home = "aws:eu-west-1"',
     "home: the home region 'aws:eu-west-1' has no CPU pool",
     "Add a pool with that region and hardware = 'cpu': entry runs and light stages run there."),
    ('name = "eu-central-1-gpu"', 'name = "eu-central-1-cpu"',
     "pools: two pools are named 'eu-central-1-cpu'", "Rename one of them."),
    ('name = "eu-central-1-gpu"', 'name = "EU GPU"',
     "pools[1].name: 'EU GPU' is not a valid name",
     "Begin with a lower-case letter and use only lower-case letters, digits and hyphens."),
    ('personal = ["EU"]', 'personal = "EU"',
     "residency.personal: 'EU' should be a list", "Write a list, e.g. ['EU']."),
    ('personal = ["EU"]', 'personal = ["FR"]',
     "residency.personal: 'FR' is not known", "Known: *, CA, CH, EU, GB, JP, NO, SG, US."),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "problem", "fix"), TYPOS)
def test_typo_gets_one_line_with_field_and_fix(
    tmp_path: Path, right: str, wrong: str, problem: str, fix: str
) -> None:
    """The line names the file, the field, what is wrong and what to write instead."""
    assert right in SHIPPED
    assert _refusal(tmp_path, SHIPPED.replace(right, wrong, 1)) == f"fleet.toml: {problem}. {fix}"


def test_toml_mistake_names_its_line(tmp_path: Path) -> None:
    """A quote that was forgotten is found at its line, not described as a stack trace."""
    line = SHIPPED.splitlines().index('name = "eu-south-2-cpu"') + 1
    text = SHIPPED.replace('name = "eu-south-2-cpu"', 'name = "eu-south-2-cpu')
    assert f"fleet.toml: line {line}, column" in _refusal(tmp_path, text)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A path that leads nowhere is repeated in full."""
    path = tmp_path / "flet.toml"
    with pytest.raises(BadInput, match=re.escape(f"{path}: there is no such file")):
        load_fleet(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"home = "])
def test_files_that_are_no_fleet_are_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, binary and half-written files get a clear line too."""
    path = tmp_path / "fleet.toml"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        load_fleet(path)


def test_folder_is_refused(tmp_path: Path) -> None:
    """A folder in place of the file is not a traceback."""
    with pytest.raises(BadInput, match="cannot be read"):
        load_fleet(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    position=st.integers(min_value=0, max_value=len(SHIPPED) - 1),
    inserted=st.sampled_from(["", '"', "[", "]", "=", "\n", "x", "-", "1", "{", "#", "\x00"]),
    dropped=st.integers(min_value=0, max_value=5),
)
@example(position=SHIPPED.index("capacity ="), inserted="x", dropped=0)
def test_any_slip_of_the_keyboard_is_survived(
    tmp_path: Path, position: int, inserted: str, dropped: int
) -> None:
    """Whatever is typed into the file, it loads or is refused in one line; nothing else escapes."""
    path = tmp_path / "fleet.toml"
    text = SHIPPED[:position] + inserted + SHIPPED[position + dropped :]
    path.write_text(text, encoding="utf-8", newline="")
    try:
        load_fleet(path)
    except BadInput as refused:
        assert str(refused).startswith("fleet.toml")  # noqa: PT017  both outcomes are right
        assert "\n" not in str(refused)  # noqa: PT017
