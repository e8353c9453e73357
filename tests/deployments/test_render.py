"""``prefect.yaml``: what is rendered, and that residency holds in it without any server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from carbon import BadInput, Fleet, ResidencyError
from deployments import Job, jobs
from deployments._render import check_rendered, execution_pools, render
from tests.deployments.lab import JOB
from work_pools import load_fleet

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    """The shipped fleet: Germany, Spain and Oregon."""
    return load_fleet()


def _personal() -> Job:
    return JOB.model_copy(
        update={"workload": JOB.workload.model_copy(update={"data_class": "personal"})}
    )


def _pools(document: dict[str, Any]) -> set[str]:
    return {row["work_pool"]["name"] for row in document["deployments"]}


def test_shipped_file_is_the_rendering(fleet: Fleet) -> None:
    """`prefect.yaml` in the repository is what the fleet file and the announced jobs say."""
    shipped = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    assert shipped == render(fleet, jobs().values())


def test_every_deployment_says_what_it_is(fleet: Fleet) -> None:
    """Each has a description and each schedule a slug and whether it is active."""
    for row in yaml.safe_load(render(fleet, jobs().values()))["deployments"]:
        assert row["description"]
        assert all({"slug", "active"} <= schedule.keys() for schedule in row["schedules"])


def test_public_data_may_be_deployed_everywhere(fleet: Fleet) -> None:
    """Each pool that can run the stage has an execution deployment, the entry pool has none."""
    document = yaml.safe_load(render(fleet, [JOB]))
    assert _pools(document) == {
        "eu-central-1-cpu",  # the entry
        "eu-central-1-gpu",
        "eu-south-2-gpu",
        "us-west-2-gpu",
    }


def test_rendering_leaves_a_forbidden_pool_out(fleet: Fleet) -> None:
    """Personal data gets no deployment outside the EU, so nobody can start one there."""
    document = yaml.safe_load(render(fleet, [_personal()]))
    assert _pools(document) == {"eu-central-1-cpu", "eu-central-1-gpu", "eu-south-2-gpu"}


def test_no_permitted_pool_is_an_error(fleet: Fleet) -> None:
    """Where no pool is permitted there is no fallback."""
    swiss = fleet.model_copy(update={"residency": {"personal": ("CH",)}})
    job = _personal()
    with pytest.raises(ResidencyError, match="no pool may run stage 'carry'"):
        execution_pools(swiss, job, job.workload.stage("carry"))
    with pytest.raises(ResidencyError, match="only be processed in CH"):
        render(swiss, [job])


def test_data_class_without_rule_is_refused(fleet: Fleet) -> None:
    """A data class that the fleet file does not name may be nowhere."""
    unruled = fleet.model_copy(update={"residency": {"public": ("*",)}})
    with pytest.raises(BadInput, match="'personal' has no residency rule"):
        render(unruled, [_personal()])


@pytest.mark.parametrize("index", [0, 1], ids=["entry", "execution"])
def test_hand_edited_deployment_in_a_forbidden_pool_is_refused(fleet: Fleet, index: int) -> None:
    """Who writes a forbidden pool into prefect.yaml is stopped before it is deployed."""
    job = _personal()
    document = yaml.safe_load(render(fleet, [job]))
    check_rendered(fleet, {job.name: job}, document)
    document["deployments"][index]["work_pool"]["name"] = "us-west-2-cpu"
    with pytest.raises(ResidencyError, match="'personal' data may only be processed in EU"):
        check_rendered(fleet, {job.name: job}, document)


@pytest.mark.parametrize("pool", [{}, {"name": "us-west-2-cup"}, None])
def test_hand_edited_deployment_in_no_known_pool_is_refused(
    fleet: Fleet, pool: dict[str, str] | None
) -> None:
    """A pool that the fleet file does not hold is a mistake, not a loophole."""
    job = _personal()
    document = yaml.safe_load(render(fleet, [job]))
    document["deployments"][1]["work_pool"] = pool
    with pytest.raises(BadInput, match=r"prefect\.yaml: .*work_pool\.name"):
        check_rendered(fleet, {job.name: job}, document)
