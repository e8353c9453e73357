"""Jobs: what packages announce, and what is wrong with an announcement."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from carbon import BadInput, Hardware, Need, Stage, Urgency, Workload
from deployments import Job, job, jobs

if TYPE_CHECKING:
    from pathlib import Path

Announce = Callable[..., None]

MODULE = """\
from deployments import jobs
from flows.image_embeddings import JOB
NO_JOB = "a string"
TWIN = JOB.model_copy(update={"description": "Another job under the same name."})
"""


@pytest.fixture
def announce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Announce:
    """Install a package that announces jobs, for the length of a test."""

    def install(**points: str) -> None:
        (tmp_path / "announced_jobs.py").write_text(MODULE)
        info = tmp_path / "announced-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: announced\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(("[carbon_aware_flows.jobs]", *lines, "")))
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_shipped_jobs_are_found_by_name() -> None:
    """The workloads of this project announce themselves like anybody's."""
    assert job("image-embeddings").entry_deployment == "image-embeddings/entry"
    assert list(jobs()) == sorted(jobs())


def test_interactive_work_is_not_managed() -> None:
    """Search and checkout risk are declared, and no trigger may defer or move them."""
    search = job("image-embeddings").workload.model_copy(update={"urgency": Urgency.INTERACTIVE})
    given = job("image-embeddings").model_dump() | {"workload": search.model_dump()}
    with pytest.raises(ValueError, match=r"never deferred and never moved.*declare it urgent"):
        Job.model_validate(given)


def test_misspelt_job_is_told_its_right_name() -> None:
    """An unknown name is one line with the closest known one."""
    with pytest.raises(BadInput, match="Did you mean 'image-embeddings'"):
        job("image-embedings")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("announced_jobs:NO_JOB", "is no Job"),
        ("announced_jobs:GONE", "cannot be imported"),
        ("not_there.at_all:JOB", "No module named 'not_there'"),
    ],
)
def test_wrong_announcement_is_one_clear_error(
    announce: Announce, value: str, problem: str
) -> None:
    """The entry point that is wrong is named, whatever is wrong with it."""
    announce(mine=value)
    with pytest.raises(BadInput, match="entry point mine: ") as caught:
        jobs()
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_jobs_of_one_name_are_one_clear_error(announce: Announce) -> None:
    """Neither of two different jobs of one name wins in silence."""
    announce(mine="announced_jobs:TWIN")
    with pytest.raises(BadInput, match="there is another job named 'image-embeddings'"):
        jobs()


def test_job_that_is_announced_twice_is_one_job(announce: Announce) -> None:
    """An editable install beside a wheel announces the same job again; that is no mistake."""
    announce(again="announced_jobs:JOB")
    assert "image-embeddings" in jobs()


def test_heavy_stages_need_their_flows() -> None:
    """A job without an execution flow for a heavy stage is refused when it is written."""
    need = {Hardware.GPU: Need(p50=timedelta(minutes=1), p95=timedelta(minutes=2))}
    workload = Workload(
        name="x", data_class="public", stages=(Stage(name="train", heavy=True, needs=need),)
    )
    with pytest.raises(ValueError, match="Name one execution flow for each heavy stage"):
        Job(workload=workload, description="x", entrypoint="x.y")
