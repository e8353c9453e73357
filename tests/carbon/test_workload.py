"""Workloads: chains of stages, refused when they cannot be what they say."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from carbon._errors import BadInput
from carbon._workload import Hardware, Need, Stage, Urgency, Workload

HOUR = timedelta(hours=1)
NEED = Need(p50=HOUR, p95=2 * HOUR)


def chain(*stages: Stage) -> Workload:
    """Make a workload of these stages."""
    return Workload(name="embed", stages=stages, data_class="public")


LIGHT = Stage(name="prepare", needs={Hardware.CPU: NEED})
HEAVY = Stage(name="train", needs={Hardware.GPU: NEED}, heavy=True)


def test_batch_is_the_default() -> None:
    """A workload may be moved unless it says that it is interactive."""
    assert chain(LIGHT).urgency is Urgency.DEFERRABLE


def test_a_stage_is_found_by_name() -> None:
    """Stages are found by name, and a misspelt one is answered with the closest."""
    workload = chain(LIGHT, HEAVY)
    assert workload.stage("train") is HEAVY
    assert workload.since("train").stages == (HEAVY,)
    assert workload.since("train").name == workload.name
    with pytest.raises(BadInput, match=r"embed\.stages: 'trian' is not known\. .*'train'"):
        workload.stage("trian")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"p50": timedelta(0), "p95": HOUR}, "p50"),
        ({"p50": -HOUR, "p95": HOUR}, "p50"),
        ({"p50": 2 * HOUR, "p95": HOUR}, "p95"),
        ({"p50": HOUR, "p95": HOUR, "kwh": 0}, "kwh"),
        ({"p50": HOUR, "p95": HOUR, "p99": HOUR}, "p99"),
        ({"p50": HOUR}, "p95"),
    ],
)
def test_a_bad_need_is_refused_by_field(fields: dict[str, object], named: str) -> None:
    """Run times are positive and ordered; energy is positive; nothing else is taken."""
    with pytest.raises(ValidationError) as caught:
        Need.model_validate(fields)
    assert BadInput.from_validation("", caught.value).field.endswith(named)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": "Train", "needs": {"cpu": NEED}}, "name"),
        ({"name": "train", "needs": {}}, "needs"),
        ({"name": "train", "needs": {"tpu": NEED}}, "needs"),
        ({"name": "train", "needs": {"gpu": NEED}}, "needs"),
        ({"name": "train", "needs": {"cpu": NEED}, "data_in_gb": -1}, "data_in_gb"),
        ({"name": "train", "needs": {"cpu": NEED}, "data_out_gb": -1}, "data_out_gb"),
    ],
)
def test_a_bad_stage_is_refused_by_field(fields: dict[str, object], named: str) -> None:
    """Names are simple, a light stage can run on a CPU, data is not negative."""
    with pytest.raises(ValidationError) as caught:
        Stage.model_validate(fields)
    assert named in BadInput.from_validation("", caught.value).field


def test_stage_names_are_unique_and_there_is_one() -> None:
    """A chain has at least one stage and no two of a name."""
    with pytest.raises(ValidationError, match="names repeat"):
        chain(LIGHT, LIGHT)
    with pytest.raises(ValidationError, match="stages"):
        chain()


def test_a_workload_does_not_change() -> None:
    """Workloads are values."""
    with pytest.raises(ValidationError, match="frozen"):
        chain(LIGHT).name = "other"  # type: ignore[misc]


def test_a_run_time_has_a_unit() -> None:
    """Two hours are not taken for two seconds."""
    with pytest.raises(ValidationError, match="2 has no unit"):
        Need.model_validate({"p50": 2, "p95": "PT3H"})
    hours = Need.model_validate({"p50": "PT2H", "p95": "PT3H"})
    assert Need.model_validate_json(hours.model_dump_json()) == hours
