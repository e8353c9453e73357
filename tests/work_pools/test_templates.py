"""Base job templates, through the eyes of the workers that read them."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import Flow, FlowRun
from prefect.server.schemas.actions import validate_base_job_template

from carbon._fleet import Pool, PoolType
from carbon._workload import Hardware
from work_pools import base_job_template, identity_env
from work_pools._templates import worker_class

KINDS = [(kind, hardware) for kind in PoolType for hardware in Hardware]
IDENTITY = {
    "CARBON_POOL": "eu-north-1-x",
    "CARBON_REGION": "aws:eu-north-1",
    "CARBON_JURISDICTION": "EU",
}


def _pool(kind: PoolType, hardware: Hardware) -> Pool:
    return Pool(
        name="eu-north-1-x",
        region="aws:eu-north-1",
        hardware=hardware,
        type=kind,
        capacity=2,
        watts=10,
        usd_per_hour=0.2,
    )


def _prepared(pool: Pool, **job_variables: object) -> Any:  # noqa: ANN401  three classes
    """Return the worker's own configuration for a run, as it is right before the start."""
    if pool.type is PoolType.KUBERNETES:
        pytest.importorskip("prefect_kubernetes")
    configuration_class: Any = worker_class(pool.type).job_configuration
    configuration = asyncio.run(
        configuration_class.from_template_and_values(
            # Nothing in the template refers to a block or a variable, so no client is asked.
            base_job_template(pool),
            job_variables,
            client=object(),
        )
    )
    flow = Flow(name="embed", labels={})
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=flow.id, name="run"), flow=flow)
    return configuration


def _env(configuration: Any) -> dict[str, str]:  # noqa: ANN401
    if not hasattr(configuration, "job_manifest"):
        return dict(configuration.env)
    entries = _container(configuration)["env"]
    assert len({entry["name"] for entry in entries}) == len(entries)
    return {entry["name"]: entry.get("value") for entry in entries}


def _container(configuration: Any) -> dict[str, Any]:  # noqa: ANN401
    container: dict[str, Any] = configuration.job_manifest["spec"]["template"]["spec"][
        "containers"
    ][0]
    return container


@pytest.mark.parametrize(("kind", "hardware"), KINDS)
def test_identity_reaches_the_run(kind: PoolType, hardware: Hardware) -> None:
    """Every run learns its pool, region, jurisdiction and hardware from its environment."""
    env = _env(_prepared(_pool(kind, hardware)))
    assert env.items() >= (IDENTITY | {"CARBON_HARDWARE": hardware.value}).items()


@pytest.mark.parametrize("kind", PoolType)
def test_identity_survives_a_deployments_own_env(kind: PoolType) -> None:
    """A deployment that sets job variables of its own does not wipe out where the run is."""
    env = _env(_prepared(_pool(kind, Hardware.CPU), env={"TOKENIZERS_PARALLELISM": "false"}))
    assert env.items() >= IDENTITY.items()
    assert env["TOKENIZERS_PARALLELISM"] == "false"


def test_identity_survives_a_kubernetes_env_list() -> None:
    """Kubernetes deployments may give env as a list with secrets; that works and keeps ours."""
    secret = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "key"}}}
    configuration = _prepared(
        _pool(PoolType.KUBERNETES, Hardware.CPU), env=[secret, {"name": "A", "value": "1"}]
    )
    assert _env(configuration).items() >= (IDENTITY | {"A": "1"}).items()
    assert secret in _container(configuration)["env"]


@pytest.mark.parametrize(("kind", "hardware"), KINDS)
def test_server_accepts_the_template(kind: PoolType, hardware: Hardware) -> None:
    """The API's own check of templates passes."""
    if kind is PoolType.KUBERNETES:
        pytest.importorskip("prefect_kubernetes")
    template = base_job_template(_pool(kind, hardware))
    assert validate_base_job_template(template) == template


def test_docker_run_carries_labels() -> None:
    """Whoever lists containers sees which pool and region each belongs to."""
    labels = _prepared(_pool(PoolType.DOCKER, Hardware.CPU)).labels
    assert labels["carbon-aware-flows.pool"] == "eu-north-1-x"
    assert labels["carbon-aware-flows.region"] == "aws:eu-north-1"


def test_kubernetes_labels_are_valid_there() -> None:
    """A region's colon, which Kubernetes refuses in labels, is replaced by the worker."""
    manifest = _prepared(_pool(PoolType.KUBERNETES, Hardware.CPU)).job_manifest
    assert manifest["metadata"]["labels"]["carbon-aware-flows/region"] == "aws-eu-north-1"


@pytest.mark.parametrize(("hardware", "gpus"), [(Hardware.CPU, None), (Hardware.GPU, 1)])
def test_kubernetes_run_is_tied_to_region_and_gpu(hardware: Hardware, gpus: int | None) -> None:
    """The pod runs on a node of the pool's region and asks for a GPU only in a GPU pool."""
    configuration = _prepared(_pool(PoolType.KUBERNETES, hardware), cpu_limit="4")
    pod = configuration.job_manifest["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"topology.kubernetes.io/region": "eu-north-1"}
    limits = _container(configuration)["resources"]["limits"]
    assert limits.get("nvidia.com/gpu") == gpus
    assert limits["cpu"] == "4"


@pytest.mark.parametrize(("hardware", "asked"), [(Hardware.CPU, False), (Hardware.GPU, True)])
def test_docker_asks_for_a_gpu_in_gpu_pools_only(hardware: Hardware, *, asked: bool) -> None:
    """A container in a GPU pool is created with a GPU."""
    configuration = _prepared(_pool(PoolType.DOCKER, hardware))
    assert ("device_requests" in (configuration.container_create_kwargs or {})) == asked


def test_missing_kubernetes_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error is the command to type."""
    monkeypatch.setitem(sys.modules, "prefect_kubernetes.worker", None)
    with pytest.raises(ImportError, match=r"pip install 'carbon-aware-flows\[kubernetes\]'"):
        base_job_template(_pool(PoolType.KUBERNETES, Hardware.CPU))


@pytest.mark.parametrize("kind", PoolType)
def test_templates_do_not_share_state(kind: PoolType) -> None:
    """Building a pool's template leaves the worker's own default alone."""
    if kind is PoolType.KUBERNETES:
        pytest.importorskip("prefect_kubernetes")
    before = json.dumps(worker_class(kind).get_default_base_job_template())
    template = base_job_template(_pool(kind, Hardware.GPU))
    assert json.dumps(worker_class(kind).get_default_base_job_template()) == before
    assert json.dumps(template) != before


@pytest.mark.parametrize("kind", PoolType)
def test_identity_is_not_offered_for_editing(kind: PoolType) -> None:
    """A person who fills in job variables in the UI is not shown, and cannot drop, the identity."""
    if kind is PoolType.KUBERNETES:
        pytest.importorskip("prefect_kubernetes")
    template = base_job_template(_pool(kind, Hardware.CPU))
    assert "CARBON_POOL" not in json.dumps(template["variables"])
    assert "CARBON_POOL" in json.dumps(template["job_configuration"])


def test_identity_is_what_the_guard_reads() -> None:
    """All four names are filled from the pool and the catalogue."""
    pool = _pool(PoolType.PROCESS, Hardware.GPU)
    assert identity_env(pool) == IDENTITY | {"CARBON_HARDWARE": "gpu"}
