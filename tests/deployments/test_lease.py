"""When a process ends itself, and when another one may begin; no server."""

from __future__ import annotations

import asyncio
import itertools
import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Completed, Crashed, Failed, Running, Scheduled

from deployments._attempts import entry_of, key, lost, number_of, withdrawal
from deployments._lease import Lease, gone_at, settled

LOG = logging.getLogger("test")
LEASE = timedelta(minutes=10)
ENTRY = UUID("12345678-1234-5678-1234-567812345678")


def flow_run(state: State[None], run_count: int = 1) -> FlowRun:
    """A stage's run in a state."""
    return FlowRun(flow_id=uuid4(), state=state, run_count=run_count)


def kept(
    *seen: FlowRun | Exception, own: FlowRun | None = None, length: timedelta = LEASE
) -> tuple[int, list[int]]:
    """Let a process look until all has been seen, the last sight for ever; return looks and end.

    A process that is still at work after twenty looks ends by itself.
    """
    run = own or flow_run(Running())
    ends: list[int] = []
    looks = itertools.count(1)
    made = 0

    async def look() -> FlowRun:
        nonlocal made
        made = next(looks)
        if made > 20:
            run.state = Completed()
        sight = seen[min(made, len(seen)) - 1]
        if isinstance(sight, Exception):
            raise sight
        return sight

    lease = Lease(run, length, ends.append, LOG, pace=0.001, grace=0.004)
    asyncio.run(lease.keep(look))
    return made, ends


def test_a_process_works_on_while_its_run_is_wanted() -> None:
    """Also while the engine waits for a retry of its own, or the server does not answer."""
    assert kept(flow_run(Running())) == (21, [])
    assert kept(flow_run(Scheduled(name="AwaitingRetry"))) == (21, [])
    assert kept(TimeoutError()) == (21, [])


@pytest.mark.parametrize("state", [Crashed(), Cancelled(), Failed(), Completed()])
def test_a_process_ends_itself_when_its_run_has_ended_without_it(state: State[None]) -> None:
    """It has the grace to end in order first, and its worker is told of no crash."""
    looks, ends = kept(flow_run(state))
    assert ends == [0]
    assert 1 < looks < 20


def test_a_process_ends_itself_when_another_one_has_taken_the_run_up() -> None:
    """The same run, begun once more, is another process's."""
    assert kept(flow_run(Running(), 2))[1] == [0]


def test_a_process_that_is_wanted_again_at_once_stays() -> None:
    """An engine that begins the flow anew tells of it a moment later."""
    assert kept(flow_run(Running(), 2), flow_run(Running(), 1)) == (21, [])


def test_a_process_that_is_cut_off_ends_itself() -> None:
    """Its worker is to tell of it, should it hear more than the process did."""
    ends = kept(OSError("unreachable"), length=timedelta(seconds=0.01))[1]
    assert ends == [75]


def test_an_unwanted_process_that_is_cut_off_ends_itself_in_time() -> None:
    """The answer that it is unwanted gives it no more time."""
    sights = (flow_run(Crashed()), OSError("unreachable"))
    assert kept(*sights, length=timedelta(seconds=0.01))[1] == [75]


def test_a_process_that_has_ended_by_itself_is_left_alone() -> None:
    """What the engine has noted in the run counts, not what the server tells."""
    assert kept(flow_run(Completed()), own=flow_run(Completed())) == (0, [])


def test_who_saw_the_process_end_is_believed() -> None:
    """A worker that tells an exit code, and the run itself; and what never began is not there."""
    seen: tuple[State[None], ...] = (
        Completed(),
        Failed(),
        Crashed(message="Process exited with status code: -9. Out of memory?"),
        Crashed(message="Flow run infrastructure exited with non-zero status code 137."),
        Crashed(message="Execution was aborted by a termination signal."),
        Cancelled(message="Flow run was cancelled successfully."),
    )
    for state in seen:
        assert gone_at(flow_run(state), LEASE) is None
    assert gone_at(flow_run(Crashed(message="No heartbeat"), 0), LEASE) is None
    assert gone_at(flow_run(Running()), LEASE) is None


@pytest.mark.parametrize("state", [Crashed(message="No heartbeat"), Crashed(), Cancelled()])
def test_who_did_not_see_the_process_end_waits_for_the_lease(state: State[None]) -> None:
    """And for the look, the grace and clocks that differ."""
    gone = gone_at(flow_run(state), LEASE)
    assert gone
    assert gone - state.timestamp > LEASE + timedelta(seconds=30)


def test_a_run_that_was_only_said_to_be_dead_is_taken_as_it_ends() -> None:
    """Its process completes it while somebody waits to repeat it: then nothing is repeated."""
    crashed = flow_run(Crashed(message="No heartbeat"))
    completed = flow_run(Completed())
    sights = iter([crashed, completed])

    async def read() -> FlowRun:
        return next(sights)

    waits = settled(read, timedelta(seconds=30), LOG, pace=0.001)
    assert asyncio.run(waits) is completed


def test_long_ago_needs_no_waiting() -> None:
    """A person who retries an entry run on the next day is not kept waiting."""
    old: State[None] = Crashed(
        message="No heartbeat", timestamp=datetime.now(UTC) - timedelta(days=1)
    )

    async def read() -> FlowRun:
        return flow_run(old)

    assert asyncio.run(asyncio.wait_for(settled(read, LEASE, LOG), 1)).state == old


@pytest.mark.parametrize("number", [0, 1, 49])
def test_an_attempt_is_known_by_its_key(number: int) -> None:
    """Entry run, stage and number; the first has none, as runs had before there were others."""
    run = FlowRun(
        flow_id=uuid4(), idempotency_key=key(ENTRY, "embed", number), parent_task_run_id=uuid4()
    )
    assert (entry_of(run), number_of(run)) == (ENTRY, number)
    assert key(ENTRY, "embed") == f"{ENTRY}/embed"


@pytest.mark.parametrize("given", [None, "", "nightly-42", "a/b", str(ENTRY)])
def test_a_run_with_another_key_is_no_attempt(given: str | None) -> None:
    """Other services choose their own keys, and an entry run may be a stage of something else."""
    run = FlowRun(flow_id=uuid4(), idempotency_key=given, parent_task_run_id=uuid4())
    assert entry_of(run) is None


def test_only_what_crashed_or_was_withdrawn_goes_on_elsewhere() -> None:
    """Failed is the code's own fault, and what a person cancelled stays so until it is retried."""
    assert lost(flow_run(Crashed()))
    assert lost(flow_run(withdrawal("Full.")))
    others: tuple[State[None], ...] = (Failed(), Cancelled(), Completed(), Running(), Scheduled())
    for state in others:
        assert not lost(flow_run(state))
