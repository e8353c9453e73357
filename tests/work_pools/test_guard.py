"""The residency gate inside a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon._errors import BadInput, ResidencyError
from carbon._fleet import Pool
from work_pools import identity_env, load_fleet, require_permitted_here

FLEET = load_fleet()
POOLS = st.sampled_from(FLEET.pools)
NAMES = st.one_of(st.none(), st.text(max_size=12), st.sampled_from(sorted(FLEET.by_name)))
CLASSES = st.lists(st.sampled_from(sorted(FLEET.residency)), min_size=1, max_size=3)


@given(pool=POOLS, classes=CLASSES)
def test_run_goes_on_exactly_where_its_data_may_be(pool: Pool, classes: list[str]) -> None:
    """In a known pool the gate is the residency rule, no more and no less."""
    env = identity_env(pool)
    if FLEET.permits(pool, *classes):
        require_permitted_here(FLEET, *classes, pool_name=pool.name, env=env)
    else:
        with pytest.raises(ResidencyError, match=pool.name):
            require_permitted_here(FLEET, *classes, pool_name=pool.name, env=env)


@given(
    pool_name=NAMES,
    env=st.dictionaries(st.sampled_from(["CARBON_POOL", "CARBON_REGION"]), st.text(max_size=12)),
    classes=CLASSES,
)
def test_gate_never_opens_for_a_forbidden_or_uncertain_place(
    pool_name: str | None, env: dict[str, str], classes: list[str]
) -> None:
    """Whoever gets through is in a permitted pool that nothing contradicts, or may be anywhere."""
    try:
        require_permitted_here(FLEET, *classes, pool_name=pool_name, env=env)
    except ResidencyError:
        return
    if FLEET.jurisdictions(*classes) is None:
        return
    pool = FLEET.by_name[pool_name or ""]
    assert FLEET.permits(pool, *classes)
    assert env.get("CARBON_POOL", pool.name) == pool.name
    assert env.get("CARBON_REGION", pool.region) == pool.region


def test_run_outside_any_pool_is_refused() -> None:
    """A flow that someone starts by hand may not read restricted data, whatever its shell says."""
    env = {"CARBON_POOL": "eu-central-1-cpu"}
    with pytest.raises(ResidencyError, match="Start it through its deployment"):
        require_permitted_here(FLEET, "personal", pool_name=None, env=env)


def test_pool_that_the_fleet_does_not_hold_is_refused() -> None:
    """A worker in a pool of unknown region may not read restricted data."""
    with pytest.raises(ResidencyError, match=r"'my-laptop'.*Add the pool"):
        require_permitted_here(FLEET, "personal", pool_name="my-laptop", env={})


@pytest.mark.parametrize(
    "env", [{"CARBON_POOL": "us-west-2-cpu"}, {"CARBON_REGION": "aws:us-west-2"}]
)
def test_environment_that_contradicts_prefect_is_refused(env: dict[str, str]) -> None:
    """Neither source is believed when they disagree, e.g. after an edit without registration."""
    with pytest.raises(ResidencyError, match="not certain where it runs"):
        require_permitted_here(FLEET, "personal", pool_name="eu-central-1-cpu", env=env)


def test_public_data_needs_no_known_place() -> None:
    """What may be anywhere is not held up by the gate."""
    require_permitted_here(FLEET, "public", pool_name=None, env={})


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers in a run need not hand over their environment, and it is read when they call."""
    require_permitted_here(FLEET, "personal", pool_name="eu-south-2-gpu")
    monkeypatch.setenv("CARBON_POOL", "us-west-2-gpu")
    with pytest.raises(ResidencyError):
        require_permitted_here(FLEET, "personal", pool_name="eu-south-2-gpu")


@pytest.mark.parametrize("classes", [(), ("secret",), ("public", "secret")])
def test_gate_without_a_rule_to_check_is_refused(classes: tuple[str, ...]) -> None:
    """No class, or a class without a rule, is a mistake and never a pass."""
    with pytest.raises(BadInput):
        require_permitted_here(FLEET, *classes, pool_name="eu-central-1-cpu", env={})
