"""Parameters of an entry flow, checked before a run is created.

Prefect checks a request against the deployment's schema, but lets unknown names through and knows
none of our own rules; the run would only fail hours later, when it wakes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from prefect.flows import Flow, load_flow_from_entrypoint
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from carbon import BadInput
from deployments._jobs import Job
from deployments._settings import Settings


def require_parameters(job: Job, parameters: Mapping[str, Any], settings: Settings) -> None:
    """Refuse parameters that the job's entry flow would refuse.

    Raises:
        BadInput: An unknown or missing name, a wrong type, or what the job's own check refuses.
    """
    model = _model(job)
    try:
        model.model_validate(dict(parameters))
    except ValidationError as error:
        raise BadInput.from_validation("parameters", error, model=model) from error
    job.check(parameters, settings)


def _model(job: Job) -> type[BaseModel]:
    """Return the entry flow's signature as a model; Prefect's own check logs every value."""
    entry: Flow[..., Any] = load_flow_from_entrypoint(job.entrypoint, use_placeholder_flow=False)
    function = entry.fn
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
    }
    return create_model("Parameters", __config__=ConfigDict(extra="forbid"), **fields)
