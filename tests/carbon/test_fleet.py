"""The fleet: pools, home region and residency rules."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from carbon._errors import BadInput, ResidencyError
from carbon._fleet import ANYWHERE, Fleet, Pool
from carbon._regions import region, regions
from carbon._workload import Hardware, Need, Stage, Workload

NEED = Need(p50=timedelta(minutes=10), p95=timedelta(minutes=20))
RESIDENCY = {"public": ("*",), "personal": ("EU",), "swiss": ("CH", "EU"), "british": ("GB",)}


def make_pool(name: str, place: str, hardware: str = "cpu", **changes: Any) -> Pool:  # noqa: ANN401  any field
    """Build a pool with unremarkable figures."""
    return Pool.model_validate(
        {
            "name": name,
            "region": place,
            "hardware": hardware,
            "capacity": 1,
            "watts": 10,
            "usd_per_hour": 0.2,
        }
        | changes
    )


def make_fleet(*pools: Pool, **changes: Any) -> Fleet:  # noqa: ANN401
    """Build a fleet with its home CPU pool in Frankfurt."""
    home = make_pool("home-cpu", "aws:eu-central-1")
    fields = {"home": "aws:eu-central-1", "residency": RESIDENCY, "pools": (home, *pools)}
    return Fleet.model_validate(fields | changes)


def test_two_pools_of_one_name_are_refused() -> None:
    """A pool's name is its identity in Prefect."""
    with pytest.raises(ValidationError, match="two pools are named 'home-cpu'"):
        make_fleet(make_pool("home-cpu", "aws:eu-north-1"))


def test_home_needs_a_cpu_pool() -> None:
    """Entry runs and light stages have nowhere to run otherwise."""
    with pytest.raises(ValidationError, match="has no CPU pool"):
        make_fleet(home="aws:eu-north-1")


@pytest.mark.parametrize(
    "change",
    [
        {"region": "aws:moon-1"},
        {"hardware": "tpu"},
        {"capacity": 0},
        {"watts": 0},
        {"watts": float("inf")},
        {"usd_per_hour": -1},
        {"usd_per_hour": float("nan")},
        {"startup": timedelta(seconds=-1)},
        {"startup": 120},
        {"name": "No Spaces"},
        {"colour": "green"},
    ],
)
def test_impossible_pools_are_refused(change: dict[str, Any]) -> None:
    """A pool with a figure that cannot be is an error, not a surprise in a plan."""
    with pytest.raises(ValidationError):
        Pool.model_validate(make_pool("pool", "aws:eu-north-1").model_dump() | change)


def test_unknown_jurisdiction_is_refused() -> None:
    """A residency rule that matches no region would silently forbid everything."""
    with pytest.raises(ValidationError, match="'UE' is not known"):
        make_fleet(residency={"personal": ("UE",)})


def test_anywhere_stands_alone() -> None:
    """'*' beside a jurisdiction is a contradiction, so nobody has to guess which one holds."""
    with pytest.raises(ValidationError, match="beside other jurisdictions"):
        make_fleet(residency={"personal": ("EU", "*")})


def test_data_class_without_rule_is_refused() -> None:
    """No rule never means anywhere."""
    with pytest.raises(BadInput, match=r"'personl' has no residency rule.*'personal'"):
        make_fleet().jurisdictions("personl")


def test_refusal_names_data_place_and_way_out() -> None:
    """The person who is refused learns why and what to change."""
    oregon = make_pool("us-west-2-gpu", "aws:us-west-2", "gpu")
    with pytest.raises(ResidencyError) as refused:
        make_fleet(oregon).require_permitted(oregon, "personal")
    for part in ("'personal'", "EU", "us-west-2-gpu", "(US)", "[residency]"):
        assert part in str(refused.value)


PLACES = st.sampled_from(sorted(regions()))
CLASSES = st.lists(st.sampled_from(sorted(RESIDENCY)), min_size=1, max_size=3)


@given(place=PLACES, classes=CLASSES)
def test_several_classes_are_permitted_where_each_one_is(place: str, classes: list[str]) -> None:
    """Data of several classes may be exactly where the rule of every single class allows it."""
    fleet = make_fleet()
    jurisdiction = region(place).jurisdiction
    expected = all(
        ANYWHERE in RESIDENCY[name] or jurisdiction in RESIDENCY[name] for name in classes
    )
    assert fleet.permits(make_pool("there", place), *classes) == expected


def test_home_pool_prefers_the_faster_hardware() -> None:
    """The baseline for a heavy stage is the home pool that finishes it first."""
    quick = Need(p50=timedelta(minutes=1), p95=timedelta(minutes=2))
    stage = Stage(name="embed", needs={Hardware.CPU: NEED, Hardware.GPU: quick}, heavy=True)
    fleet = make_fleet(make_pool("home-gpu", "aws:eu-central-1", "gpu"))
    assert fleet.home_pool(stage).name == "home-gpu"
    light = Stage(name="list", needs={Hardware.CPU: NEED, Hardware.GPU: quick})
    assert fleet.home_pool(light).name == "home-cpu"


def test_workload_that_cannot_run_at_home_is_refused() -> None:
    """Home is the last resort, so a workload without a place there is refused up front."""
    heavy = Stage(name="embed", needs={Hardware.GPU: NEED}, heavy=True)
    workload = Workload(name="images", stages=(heavy,), data_class="public")
    with pytest.raises(BadInput, match="has no pool for stage 'embed'"):
        make_fleet().check(workload)
    light = Stage(name="list", needs={Hardware.CPU: NEED})
    with pytest.raises(ResidencyError, match="GB"):
        make_fleet().check(Workload(name="uk", stages=(light,), data_class="british"))


@pytest.mark.parametrize("rates", [{"EUR": float("inf")}, {"eur": 1.1}, {"EUR": 0}])
def test_impossible_exchange_rates_are_refused(rates: dict[str, float]) -> None:
    """An endless rate, or a currency that no price series names."""
    with pytest.raises(ValueError, match="usd_per"):
        make_fleet(usd_per=rates)


def test_a_data_class_is_no_path() -> None:
    """Classes name folders, so that none may lead anywhere."""
    with pytest.raises(ValueError, match="residency"):
        make_fleet(residency={"../up": ["EU"]})
