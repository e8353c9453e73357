"""The guard against a real server: an execution run refuses where its data may not be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from tests.deployments.lab import JOB

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.schemas.objects import FlowRun

    from tests.deployments.conftest import Lab

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def in_oregon(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, FlowRun]:
    """Start the stage in the US pool by hand, going round the planner: once for each data class."""
    listing: Path = tmp_path_factory.mktemp("listing") / "listing.csv"
    listing.write_text("shoe.jpg")
    deployment = lab.client.read_deployment_by_name(JOB.execution_deployment("carry", "lab-far"))
    reads = {"public": str(listing), "personal": str(listing.with_name("missing.csv"))}
    runs = {
        data_class: lab.client.create_flow_run_from_deployment(
            deployment.id,
            parameters={
                "label": f"oregon-{data_class}",
                "act": "complete",
                "data_class": data_class,
                "reads": path,
            },
        ).id
        for data_class, path in reads.items()
    }
    return {data_class: lab.ended(run_id) for data_class, run_id in runs.items()}


def test_personal_data_is_refused_outside_its_jurisdiction(
    lab: Lab, in_oregon: Mapping[str, FlowRun]
) -> None:
    """The run fails before it reads: a missing file is not what it complains about."""
    run = in_oregon["personal"]
    assert run.state
    assert run.state_name == "Failed"
    message = run.state.message or ""
    for told in (
        "ResidencyError",
        "'personal'",
        "'lab-far'",
        "only be processed in EU",
        "Choose a pool",
    ):
        assert told in message
    assert "missing.csv" not in message
    assert lab.executions("oregon-personal") == 0


def test_public_data_is_read_there(lab: Lab, in_oregon: Mapping[str, FlowRun]) -> None:
    """The same run with data that may be anywhere goes on: the refusal is about the data."""
    assert in_oregon["public"].state_name == "Completed"
    assert lab.executions("oregon-public") == 1
