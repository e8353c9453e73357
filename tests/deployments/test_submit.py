"""Submit against a real server: once for each key, at its time, or one clear error and nothing."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Scheduled

from carbon import (
    BadInput,
    CarbonAwareError,
    CarbonPolicy,
    DeadlinePassed,
    Fleet,
    ResidencyError,
)
from deployments import (
    AWAITING,
    Job,
    NotDeployed,
    PrefectUnavailable,
    Submission,
    Trigger,
    submit,
    submit_sync,
)
from deployments._desk import AT_ONCE, desk
from deployments._hold import Hold
from tests.deployments.faulty import DROPPED, LOST, Faults, faulty
from tests.deployments.lab import JOB
from work_pools import PLANNER_LOCK

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from tests.deployments.conftest import Lab

pytestmark = pytest.mark.server
ROOT = Path(__file__).parents[2]

Asking = Callable[[Trigger], dict[str, Any]]


def _submit_all(*orders: dict[str, Any]) -> list[Submission]:
    """Submit at the same moment, as independent callers do."""

    async def main() -> list[Submission]:
        return await asyncio.gather(*(submit(**{"job": JOB, **order}) for order in orders))

    return asyncio.run(main())


@pytest.fixture(scope="module")
def five(lab: Lab) -> list[Submission]:
    """Submit one logical run five times at once; it would wait for two minutes."""
    order = {"parameters": {"label": "five", "act": "complete"}, "key": "five"}
    return _submit_all(*[order | {"trigger": lab.trigger}] * 5)


def _children(lab: Lab, run_id: UUID) -> list[FlowRun]:
    below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_id]))
    return lab.client.read_flow_runs(flow_run_filter=below)


def test_same_key_five_times_at_once_is_one_run(lab: Lab, five: list[Submission]) -> None:
    """Five callers with one key get one run, and one of them is told that it made it."""
    (run_id,) = {made.flow_run_id for made in five}
    assert [made.created for made in five].count(True) == 1
    assert lab.run(run_id).state_name == AWAITING


def test_one_execution_in_the_chosen_pool(lab: Lab, five: list[Submission]) -> None:
    """Moved to now, the run begins at home and its heavy stage runs once, in the clean pool."""
    run_id = five[0].flow_run_id
    lab.client.set_flow_run_state(run_id, Scheduled())
    entry = lab.ended(run_id, seconds=90)
    (child,) = _children(lab, run_id)
    assert (entry.state_name, entry.work_pool_name) == ("Completed", "lab-home")
    assert (child.state_name, child.work_pool_name) == ("Completed", "lab-green")
    assert lab.executions("five") == 1


def test_restarted_run_does_not_repeat_its_heavy_stage(lab: Lab, five: list[Submission]) -> None:
    """A person restarts a run that has dispatched already: the stage's result is used again."""
    run_id = five[0].flow_run_id
    before = lab.run(run_id).run_count
    lab.client.set_flow_run_state(run_id, Scheduled(), force=True)
    lab.until("the run begins again", lambda: lab.run(run_id).run_count > before)
    assert lab.ended(run_id).state_name == "Completed"
    assert len(_children(lab, run_id)) == 1
    assert lab.executions("five") == 1


def test_two_runs_do_not_take_the_same_slot(lab: Lab) -> None:
    """Two runs, planned at the same moment for a pool of one slot, run one after the other."""
    fleet = lab.trigger.fleet
    small = fleet.pool("lab-green").model_copy(update={"capacity": 1})
    base = fleet.pool("lab-base")
    fleet = fleet.model_copy(update={"pools": (fleet.home_cpu, base, small)})
    trigger = replace(lab.trigger, fleet=Fleet.model_validate(fleet.model_dump()))
    policy = CarbonPolicy(only_regions=("aws:eu-north-1",))
    order = {"trigger": trigger, "policy": policy}
    made = _submit_all(order | {"key": "slot-1"}, order | {"key": "slot-2"})
    try:
        holds = [Hold.read(lab.run(one.flow_run_id).labels) for one in made]
        slots = sorted(
            (slot.start, slot.end)
            for hold in holds
            if hold
            for slot in hold.slots
            if slot.pool == "lab-green"
        )
        assert len(slots) == 2
        assert all(first_end <= start for (_, first_end), (start, _) in pairwise(slots))
    finally:
        for one in made:
            lab.client.delete_flow_run(one.flow_run_id)


def _undeployed() -> Job:
    workload = JOB.workload.model_copy(update={"name": "never-deployed"})
    return JOB.model_copy(update={"workload": workload})


@pytest.mark.parametrize(
    ("asking", "error", "told"),
    [
        pytest.param(
            lambda trigger: {"release": trigger.clock.now() - timedelta(days=2)},
            DeadlinePassed,
            "finish_by: ",
            id="deadline-in-the-past",
        ),
        pytest.param(
            lambda _: {"release": datetime(2026, 6, 1)},  # noqa: DTZ001 - the mistake
            BadInput,
            "release: ",
            id="release-without-zone",
        ),
        pytest.param(
            lambda _: {"data_class": "persnal"},
            BadInput,
            "Did you mean 'personal'?",
            id="unknown-data-class",
        ),
        pytest.param(
            lambda _: {"policy": CarbonPolicy(only_regions=("gcp:europe-west1",))},
            BadInput,
            "policy.only_regions: ",
            id="region-without-pool",
        ),
        pytest.param(
            lambda _: {
                "policy": CarbonPolicy(only_regions=("aws:us-west-2",)),
                "data_class": "personal",
            },
            ResidencyError,
            "may only be processed in EU",
            id="residency",
        ),
        pytest.param(
            lambda _: {"parameters": {"lable": "x"}},
            BadInput,
            "parameters.lable: this setting does not exist. Did you mean 'label'?",
            id="unknown-parameter",
        ),
        pytest.param(
            lambda _: {"parameters": {"label": ["x"]}},
            BadInput,
            "parameters.label: ['x'] ",
            id="parameter-of-another-type",
        ),
        pytest.param(
            lambda _: {"parameters": {"policy": {"strategy": "run_now"}}},
            BadInput,
            "parameters.policy: ",
            id="policy-as-a-parameter",
        ),
        pytest.param(
            lambda _: {
                "parameters": {"data_class": "personal"},
                "policy": CarbonPolicy(only_regions=("aws:us-west-2",)),
            },
            BadInput,
            "parameters.data_class: ",
            id="data-class-as-a-parameter",
        ),
        pytest.param(
            lambda _: {"key": " "},
            BadInput,
            "key: is empty",
            id="empty-key",
        ),
        pytest.param(
            lambda _: {"job": _undeployed()},
            NotDeployed,
            "never-deployed/entry",
            id="not-deployed",
        ),
    ],
)
def test_bad_order_is_one_clear_error(
    lab: Lab, asking: Asking, error: type[CarbonAwareError], told: str
) -> None:
    """What a caller got wrong is told in one line, and nothing is created."""
    before = _made(lab)
    with pytest.raises(error) as caught:
        _submit_all({"trigger": lab.trigger} | asking(lab.trigger))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _made(lab) == before


def _made(lab: Lab) -> set[UUID]:
    return {run.id for run in lab.client.read_flow_runs() if not run.auto_scheduled}


def test_unreachable_server_is_one_clear_error(lab: Lab) -> None:
    """Without a server the caller is told so, soon, and what to check."""
    began = datetime.now(UTC)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(PrefectUnavailable, match="PREFECT_API_URL") as caught,
    ):
        _submit_all({"trigger": lab.trigger})
    assert "\n" not in str(caught.value)
    assert datetime.now(UTC) - began < timedelta(seconds=20)


@contextmanager
def _unreliable(lab: Lab) -> Iterator[Faults]:
    """Let submissions go through a proxy that fails as it is told."""
    with faulty(lab.box.api_url) as (url, faults), temporary_settings({PREFECT_API_URL: url}):
        yield faults
        at, background = desk()
        background.call(at.settled()).result(60)  # before the proxy goes


def _labelled(lab: Lab, label: str) -> list[FlowRun]:
    found = lab.client.read_flow_runs(limit=200)
    return [run for run in found if run.parameters.get("label") == label]


# With `five` Prefect's own client of the lock, one for the process, has been made: it asks the
# server, not a proxy that is gone when the next test wants the lock.
@pytest.mark.usefixtures("five")
@pytest.mark.parametrize(
    ("fault", "key"), [(503, None), (503, "busy"), (DROPPED, None), (LOST, None), (LOST, "lost")]
)
def test_what_the_network_loses_is_asked_for_again(
    lab: Lab, fault: int | str, key: str | None
) -> None:
    """The run is made once, and its caller is told that it is new, though an answer was lost."""
    label = f"fault-{fault}-{key}"
    with _unreliable(lab) as faults:
        faults.next.append(fault)
        made = submit_sync(JOB, {"label": label}, key=key, trigger=lab.trigger)
        assert made.created
        assert made.decision is not None
        assert faults.sent >= 2  # a busy SQLite refuses one more at times
    (run,) = _labelled(lab, label)
    assert run.id == made.flow_run_id
    lab.client.delete_flow_run(run.id)


@pytest.mark.usefixtures("five")
def test_retry_after_is_obeyed(lab: Lab) -> None:
    """A server that says when to come again is left alone until then."""
    with _unreliable(lab) as faults:
        faults.next.append(429)
        faults.retry_after = "4"
        began = time.monotonic()
        made = submit_sync(JOB, {"label": "later"}, trigger=lab.trigger)
        assert time.monotonic() - began >= 4
        assert made.created
        assert faults.sent >= 2
    lab.client.delete_flow_run(made.flow_run_id)


@pytest.mark.usefixtures("five")
def test_who_is_refused_again_and_again_is_told(lab: Lab) -> None:
    """After as many tries as Prefect's settings allow there is one clear error, and no run."""
    with _unreliable(lab) as faults, temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}):
        faults.next.extend([503] * 10)
        with pytest.raises(PrefectUnavailable, match="HTTP status 503"):
            submit_sync(JOB, {"label": "never"}, trigger=lab.trigger)
        assert faults.sent == 2
    assert not _labelled(lab, "never")


@pytest.mark.usefixtures("five")
def test_many_at_once_do_not_flood_the_server(lab: Lab) -> None:
    """From many tasks and threads a few are created at a time, each once, in free slots."""
    with _unreliable(lab) as faults, ThreadPoolExecutor(8) as threads:
        by_thread = [
            threads.submit(
                contextvars.copy_context().run,
                submit_sync,
                JOB,
                {"label": "flood"},
                trigger=lab.trigger,
            )
            for _ in range(8)
        ]
        order = {"trigger": lab.trigger, "parameters": {"label": "flood"}}
        made = _submit_all(*[order] * 22) + [one.result() for one in by_thread]
        assert faults.most <= AT_ONCE
        assert faults.sent >= 30
    ids = {one.flow_run_id for one in made}
    assert len(ids) == 30
    assert all(one.created for one in made)
    runs = _labelled(lab, "flood")
    try:
        assert {run.id for run in runs} == ids
        holds = [Hold.read(run.labels) for run in runs]
        slots = [slot for hold in holds if hold for slot in hold.slots]
        for slot in slots:
            same = [one for one in slots if one.pool == slot.pool]
            over = sum(one.start <= slot.start < one.end for one in same)
            assert over <= lab.trigger.fleet.pool(slot.pool).capacity
    finally:
        for run_id in ids:
            lab.client.delete_flow_run(run_id)


def test_sync_works_where_a_loop_runs(lab: Lab) -> None:
    """A web handler's thread runs an event loop; submitting there is no nested loop."""

    async def handler() -> Submission:
        return submit_sync(JOB, {"label": "handler"}, trigger=lab.trigger)

    made = asyncio.run(handler())
    assert made.created
    lab.client.delete_flow_run(made.flow_run_id)


def test_sync_refuses_as_async_does(lab: Lab) -> None:
    """An error that the planner finds comes out of the sync form, too, and nothing is created."""
    before = _made(lab)
    policy = CarbonPolicy(only_regions=("aws:us-west-2",))
    with pytest.raises(ResidencyError, match="may only be processed in EU"):
        submit_sync(JOB, policy=policy, data_class="personal", trigger=lab.trigger)
    assert _made(lab) == before


def test_process_that_ends_at_once_loses_nothing(lab: Lab) -> None:
    """Its decision is on the run, and the planner lock is given back, when it has ended."""
    code = (
        "from deployments import submit_sync\n"
        "from tests.deployments.lab import JOB\n"
        "print(submit_sync(JOB, {'label': 'brief'}).flow_run_id)"
    )
    settings = lab.trigger.settings
    env = {
        **lab.box.env,
        "CARBON_HOME": str(settings.home),
        "CARBON_FLEET": str(settings.fleet),
        "CARBON_REPLAY": str(settings.replay),
        "CARBON_CLOCK": settings.clock,
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    run_id = UUID(done.stdout.split()[-1])
    told = lab.artifacts(run_id)["decision-errand"].data
    assert "### What was considered" in str(told)
    assert lab.client.read_global_concurrency_limit_by_name(PLANNER_LOCK).active_slots == 0
    lab.client.delete_flow_run(run_id)


def test_documented_curl_line_makes_one_run(lab: Lab) -> None:
    """The README's REST lines, as they stand but for the names, make one run for one key."""
    if shutil.which("curl") is None:
        pytest.skip("no curl: the README's REST lines were not run")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```\n(ID=\$\(curl.*?)```", readme, re.DOTALL)
    names = {
        "image-embeddings": "errand",
        '"images": "/srv/images"': '"label": "by-curl"',
        "nightly-42": "by-curl",
    }
    if shutil.which("jq") is None:
        names["jq -r .id"] = f"{sys.executable} -c 'import json; print(json.load(open(0))[\"id\"])'"
    for written, meant in names.items():
        assert written in lines
        lines = lines.replace(written, meant)
    ids = set()
    for _ in range(2):
        done = subprocess.run(
            ["bash", "-euc", lines],
            env={**os.environ, "PREFECT_API_URL": lab.box.api_url},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        # Its worker may have it already when the second answer comes.
        ids.add(json.loads(done.stdout)["id"])
    (run,) = _labelled(lab, "by-curl")
    assert ids == {str(run.id)}
    try:
        assert run.idempotency_key == "by-curl"
        lab.until("its gate has planned it", lambda: Hold.read(lab.run(run.id).labels))
    finally:
        lab.client.delete_flow_run(run.id)
