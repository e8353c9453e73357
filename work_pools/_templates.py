"""Base job templates: what Prefect's worker starts for a run in a pool.

Each template is the worker's own default plus three things: environment variables, which tell a run
which pool it is in and that it is to give signs of life, labels, and a GPU where the pool has one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from carbon._fleet import PoolType
from carbon._workload import Hardware
from work_pools._guard import identity_env

if TYPE_CHECKING:
    from prefect.workers.base import BaseWorker

    from carbon._fleet import Pool

MANAGED_BY = "carbon-aware-flows"
MARKER_KEY = "managed_by"

_HEARTBEAT = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
"""Seconds, the least that Prefect takes: by this the keeper sees that a machine has vanished."""

_WORKERS = {
    PoolType.PROCESS: ("prefect.workers.process", "ProcessWorker"),
    PoolType.DOCKER: ("prefect_docker.worker", "DockerWorker"),
    PoolType.KUBERNETES: ("prefect_kubernetes.worker", "KubernetesWorker"),
}


def base_job_template(pool: Pool) -> dict[str, Any]:
    """Return the base job template for a pool.

    Args:
        pool: The pool.

    Returns:
        The template as Prefect's API takes it. The ``CARBON_*`` variables stay when a deployment
        sets an ``env`` of its own.

    Raises:
        ImportError: The pool's type needs an extra that is not installed.
    """
    template = worker_class(pool.type).get_default_base_job_template()
    template["variables"]["properties"]["labels"]["default"] = _labels(pool)
    if pool.type is PoolType.PROCESS:
        # Through the worker's own output a run would die with the worker: the first line that it
        # writes after that ends it (rich, on a broken pipe). Its log is in the UI all the same.
        template["variables"]["properties"]["stream_output"]["default"] = False
    if pool.type is PoolType.KUBERNETES:
        _fill_manifest(template["job_configuration"]["job_manifest"], pool)
    else:
        # A literal, not a variable's default: Prefect lays a deployment's env over either, but this
        # one is not offered for editing wherever the variables are.
        template["job_configuration"]["env"] = _env(pool)
    if pool.type is PoolType.DOCKER and pool.hardware is Hardware.GPU:
        template["variables"]["properties"]["container_create_kwargs"]["default"] = {
            "device_requests": [{"count": 1, "capabilities": [["gpu"]]}]
        }
    template[MARKER_KEY] = MANAGED_BY
    return template


def worker_class(pool_type: PoolType) -> type[BaseWorker[Any, Any, Any]]:
    """Return the Prefect worker that serves pools of a type.

    Raises:
        ImportError: The worker's package is not installed.
    """
    module, name = _WORKERS[pool_type]
    try:
        worker = getattr(import_module(module), name)
    except ImportError as error:
        if pool_type is not PoolType.KUBERNETES:
            raise
        raise ImportError(
            "pools of type 'kubernetes' need the worker for it: "
            "pip install 'carbon-aware-flows[kubernetes]'"
        ) from error
    return cast("type[BaseWorker[Any, Any, Any]]", worker)


def _env(pool: Pool) -> dict[str, str]:
    return {**identity_env(pool), **_HEARTBEAT}


def _labels(pool: Pool) -> dict[str, str]:
    return {
        f"{MANAGED_BY}/pool": pool.name,
        f"{MANAGED_BY}/region": pool.region,
        f"{MANAGED_BY}/hardware": pool.hardware.value,
    }


def _fill_manifest(manifest: dict[str, Any], pool: Pool) -> None:
    pod = manifest["spec"]["template"]["spec"]
    container = pod["containers"][0]
    # The worker lays a deployment's env, which may be a dict or a list here, over a list that
    # stands in the manifest; a dict in job_configuration.env would break on the list form.
    container["env"] = [{"name": name, "value": value} for name, value in _env(pool).items()]
    # The cloud's own label for the region, without the provider.
    pod["nodeSelector"] = {"topology.kubernetes.io/region": pool.region.partition(":")[2]}
    if pool.hardware is Hardware.GPU:
        container["resources"]["limits"]["nvidia.com/gpu"] = 1
