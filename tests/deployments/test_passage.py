"""What the gate decides for a run as Prefect hands it over, by the real clock, without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from carbon import CarbonPolicy, Reservation, Strategy, SystemClock, TypicalDay
from deployments import Settings, Trigger
from deployments._hold import WANTED_NOW, Hold
from deployments._mode import PINNED, Mode, Switch
from deployments._passage import Passage
from tests.deployments.lab import JOB
from work_pools import load_fleet

POLICY = CarbonPolicy(finish_by="24h")


@pytest.fixture
def trigger(tmp_path: Path) -> Trigger:
    """The trigger of a user who has set nothing."""
    return Trigger(load_fleet(), (TypicalDay(),), SystemClock(), Settings(home=tmp_path))


def flow_run(**labels: str | float | bool) -> FlowRun:
    """A run as the client reads it from the API: its times are pendulum's."""
    given = {
        "id": str(uuid4()),
        "flow_id": str(uuid4()),
        "deployment_id": str(uuid4()),
        "expected_start_time": datetime.now(UTC).isoformat(),
        "labels": labels,
    }
    return FlowRun.model_validate(given)


def passage(trigger: Trigger, run: FlowRun, mode: Mode = Mode.AUTO) -> Passage:
    """The run at the gate."""
    return Passage(trigger, JOB, POLICY, Switch(mode, "carbon_mode"), None, run)


def test_deadline_counts_from_the_slot_by_the_real_clock(trigger: Trigger) -> None:
    """A run that Prefect made has a deadline in UTC, a day after its slot."""
    run = flow_run()
    decision = passage(trigger, run)._plan((), may_wait=True).decision
    assert decision.deadline.tzinfo is UTC
    assert abs(decision.deadline - datetime.now(UTC) - timedelta(hours=24)) < timedelta(minutes=1)
    assert not decision.breaches


def test_slots_of_a_pool_that_has_left_the_fleet_file_stop_nobody(trigger: Trigger) -> None:
    """A run that was planned before still carries them; plan() would refuse an unknown pool."""
    now = datetime.now(UTC)
    gone = Reservation(pool="gone-gpu", start=now, end=now + timedelta(hours=1))
    decision = passage(trigger, flow_run())._plan((gone,), may_wait=True).decision
    assert not decision.breaches


def test_a_run_that_a_person_has_started_does_not_wait(trigger: Trigger) -> None:
    """`carbon release` leaves a label, for a run may not have been planned yet."""
    assert passage(trigger, flow_run())._may_wait()
    assert not passage(trigger, flow_run(**{WANTED_NOW: True}))._may_wait()


def test_a_run_that_was_released_says_so(trigger: Trigger) -> None:
    """The reason tells that somebody did it, and what had been planned."""
    decision = passage(trigger, flow_run())._plan((), may_wait=True).decision
    hold = Hold.of(decision, deferrals=1)
    later = replace(hold, start=datetime.now(UTC) + timedelta(hours=5))
    labels = {**later.labels(), WANTED_NOW: True}
    told = passage(trigger, flow_run(**labels))._wish()
    assert told.startswith("Started by a person or the switch")
    assert f"It had been planned for {later.start:%a %d %b %H:%M} UTC" in told
    assert passage(trigger, flow_run())._wish() == ""


def test_the_switch_and_a_pin_stand_over_a_runs_policy(trigger: Trigger) -> None:
    """run_now starts it at home; hold_deferrable holds what can wait, but nobody's wish."""
    now = passage(trigger, flow_run(), Mode.RUN_NOW)
    assert now.policy.strategy is Strategy.RUN_NOW
    pinned = passage(trigger, flow_run(**{PINNED: "aws:eu-south-2"}))
    assert pinned.policy.only_regions == ("aws:eu-south-2",)
    assert passage(trigger, flow_run(), Mode.HOLD)._held()
    assert not passage(trigger, flow_run(**{WANTED_NOW: True}), Mode.HOLD)._held()
    assert not passage(trigger, flow_run())._held()


def test_whether_a_run_was_woken_is_judged_by_prefects_time(trigger: Trigger) -> None:
    """A worker whose clock is slow takes no run for one that somebody has started."""
    decision = passage(trigger, flow_run())._plan((), may_wait=True).decision
    start = datetime.now(UTC) + timedelta(minutes=5)  # by this machine, the run wakes too early
    run = flow_run(**replace(Hold.of(decision, deferrals=1), start=start).labels())
    assert not passage(trigger, run)._may_wait()
    assert replace(passage(trigger, run), slot=start)._may_wait()
    by_hand = replace(passage(trigger, run), slot=start - timedelta(minutes=4))
    assert not by_hand._may_wait()
    assert by_hand.woken_by_hand
    assert not replace(passage(trigger, run), slot=start).woken_by_hand


def test_a_run_that_has_passed_the_gate_does_not_wait_again(trigger: Trigger) -> None:
    """A retry or a restart of a run is wanted now."""
    first = passage(trigger, flow_run())
    decision = first._plan((), may_wait=True).decision
    waits = Hold.of(decision, deferrals=1).labels()
    went = Hold.of(decision, deferrals=1, went=True).labels()
    assert first._may_wait()
    assert not passage(trigger, flow_run(**went))._may_wait()
    due = decision.chosen.start - datetime.now(UTC) < timedelta(seconds=15)
    assert passage(trigger, flow_run(**waits))._may_wait() is due
