"""What people see of a decision: text, tables and picture."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from markdown_it import MarkdownIt

from carbon import CarbonPolicy, NoSignal, SignalSource, TypicalDay, regions
from carbon.testing import BrokenSource, FakeClock, StaticSource
from deployments import Settings, Trigger, Verdict
from deployments._artifacts import explain, option_rows, origins, refusal_rows
from deployments._hold import Hold
from deployments._picture import _bands, _rules, _window, decision_picture, zone_colors
from deployments._segments import in_words, segments_of
from deployments._shown import table_cells
from deployments._why import Explanation
from tests.deployments.lab import JOB, RELAY
from work_pools import load_fleet

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 6, 1, 7, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVIL = "<script>alert(1)</script> [click](javascript:alert(2)) | `x` ![](http://t) \r\n# *big*"


def _decide(*sources: SignalSource, home: Path, data_class: str | None = None) -> Verdict:
    trigger = Trigger(load_fleet(), sources, FakeClock(NOW), Settings(home=home))
    policy = CarbonPolicy()
    return trigger.decide(JOB.workload, policy, policy.deadline(NOW), data_class=data_class)


@pytest.fixture
def verdict(tmp_path: Path) -> Verdict:
    """A decision on the modelled grid, with a pool refused."""
    return _decide(TypicalDay(), home=tmp_path, data_class="personal")


@pytest.fixture
def split(tmp_path: Path) -> Verdict:
    """A decision for a stage that pauses through a dirty day between two clean nights."""
    clean, dirty = [100.0] * 12, [400.0] * 12
    values = {zone: [*clean, *dirty, *clean, *dirty] for zone in ("DE", "ES")}
    source = StaticSource(values, NOW, timedelta(hours=1))
    trigger = Trigger(load_fleet(), (source,), FakeClock(NOW), Settings(home=tmp_path))
    policy = CarbonPolicy(finish_by="96h")
    return trigger.decide(RELAY.workload, policy, policy.deadline(NOW), data_class="personal")


@pytest.fixture
def evil(tmp_path: Path) -> Verdict:
    """A decision whose every free text is hostile."""
    values = {zone: [200.0] * 48 for zone in ("DE", "ES")}
    source = StaticSource(values, NOW, timedelta(hours=1), name=EVIL)
    broken = BrokenSource(NoSignal(EVIL), name=EVIL)
    found = _decide(broken, source, home=tmp_path)
    decision = found.decision
    refusals = tuple(row.model_copy(update={"reason": EVIL}) for row in decision.refusals)
    told = {"workload": EVIL, "reason": EVIL, "policy": EVIL, "breaches": (EVIL,), "clock": EVIL}
    return Verdict(decision.model_copy(update={**told, "refusals": refusals}), found.request)


def _rendered(markdown: str) -> str:
    return str(MarkdownIt("commonmark").enable("table").render(markdown))


def test_explanation_says_when_where_and_why(verdict: Verdict) -> None:
    """Start, latest start, end, deadline, what is expected and where the numbers come from."""
    text = explain(verdict.decision)
    for told in (
        verdict.decision.reason,
        verdict.decision.chosen.main.pool,
        f"{verdict.decision.deadline:%Y-%m-%d %H:%M} UTC",
        "Where the numbers come from",
        "modelled",
    ):
        assert told in text


def test_hostile_names_do_nothing_in_the_explanation(evil: Verdict) -> None:
    """Names from files and requests are shown as they are and never acted on."""
    html = _rendered(explain(evil.decision))
    assert "&lt;script&gt;alert(1)" in html
    for active in ("<script", "<a ", "<img", "<table", "<code", "<em", "<h1"):
        assert active not in html


def test_hostile_names_do_nothing_in_the_tables(evil: Verdict) -> None:
    """Prefect's UI reads the cells of a table as Markdown, so they are made harmless too."""
    assert evil.decision.refusals
    for row in table_cells([*option_rows(evil.decision), *refusal_rows(evil.decision)]):
        for cell in row.values():
            html = _rendered(cell)
            assert not [each for each in ("<script", "<a ", "<img", "<h1") if each in html]


def test_tables_tell_what_was_considered_and_refused(verdict: Verdict) -> None:
    """The chosen place, the baseline, the others, and each refused pool with its reason."""
    rows = option_rows(verdict.decision)
    assert [row["what"] for row in rows[:2]] == ["chosen", "at once at home"]
    assert {row["pool"] for row in rows} == {"eu-central-1-gpu", "eu-south-2-gpu"}
    assert rows[0]["end (UTC)"] == f"{verdict.decision.chosen.end:%a %d %b %H:%M}"
    refused = {row["pool"]: row for row in refusal_rows(verdict.decision)}
    assert refused["us-west-2-gpu"]["rule"] == "residency"
    assert "only be processed in EU" in refused["us-west-2-gpu"]["why"]


def test_pauses_are_told_in_text_and_table(split: Verdict) -> None:
    """When it runs and when it does not; a column of its own only where something pauses."""
    words = in_words(segments_of(split.decision.chosen))
    assert words.count("-") == 2
    assert f"- **Runs in segments** {words}; it pauses" in explain(split.decision)
    hold = Hold.of(split.decision, deferrals=0)
    assert len([slot for slot in hold.slots if slot.stage == "run"]) == 2
    assert f"In segments        {words}" in _told(plan=hold.decision)
    told = [row["segments"] for row in option_rows(split.decision)]
    assert told[:2] == [words, "none"]


def test_whole_runs_are_told_without_segments(verdict: Verdict) -> None:
    """Nobody has to read about what is not there."""
    assert "segments" not in explain(verdict.decision)
    assert all("segments" not in row for row in option_rows(verdict.decision))


def test_zones_with_one_source_share_a_line(verdict: Verdict) -> None:
    """A long source is read once, whatever the number of its zones."""
    lines = origins(verdict.decision)
    sources = {row.source for row in verdict.decision.provenance}
    assert len(lines) == len(sources) < len(verdict.decision.provenance)
    zones = [zone for line in lines for zone in line.partition(":")[0].split(", ")]
    assert sorted(zones) == sorted(row.zone for row in verdict.decision.provenance)


def test_unknown_emissions_are_called_unknown(tmp_path: Path) -> None:
    """Without a signal no number is invented."""
    decision = _decide(BrokenSource(NoSignal("down")), home=tmp_path).decision
    assert {row["gCO2e"] for row in option_rows(decision)} == {"unknown"}
    assert "emissions unknown" in explain(decision)


def _size(picture: bytes) -> tuple[int, int]:
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


def test_picture_of_a_decision(verdict: Verdict) -> None:
    """A PNG of a size that fits on a page."""
    width, height = _size(decision_picture(verdict.decision, verdict.outlook))
    assert 1000 < width < 2000
    assert 450 < height < 1000


def test_picture_leaves_out_the_pauses(split: Verdict) -> None:
    """Each segment is drawn for itself, and the line says that it is of the first start."""
    rows = [row for each in _bands(split.decision).to_dict()["datasets"].values() for row in each]
    (first, second) = [row for row in rows if row["what"] == "chosen"]
    assert datetime.fromisoformat(second["from"]) - datetime.fromisoformat(first["to"]) > HOUR
    assert len([row for row in rows if row["what"] == "at once at home"]) == 1
    assert "latest safe first start" in str(_rules(split.decision, told=True).to_dict())
    assert _size(decision_picture(split.decision, split.outlook))[0] > 1000


def test_picture_of_a_missed_deadline(verdict: Verdict) -> None:
    """What is over is named at the left edge; the time that is drawn begins with the decision."""
    over = verdict.decision.model_copy(update={"deadline": NOW - 20 * HOUR})
    assert "deadline: over since Sun 31 May 11:00" in str(_rules(over, told=True).to_dict())
    assert _window(over)[0] == NOW


def test_a_zone_has_one_colour_in_all_pictures() -> None:
    """Whatever others stand beside it; no two of the catalogue share one."""
    zones = sorted({place.zone for place in regions().values()})
    assert len({*zone_colors(zones)}) == len(zones)
    assert zone_colors(["ES", "DE"]) == zone_colors(["DE", "ES"])[::-1]


def test_picture_without_any_signal(tmp_path: Path) -> None:
    """A decision that no number supports is still drawn: when, and until when at the latest."""
    verdict = _decide(BrokenSource(NoSignal("down")), home=tmp_path)
    assert verdict.decision.degraded
    assert not verdict.outlook.intensity
    assert _size(decision_picture(verdict.decision, verdict.outlook))[0] > 1000


def test_long_text_does_not_widen_the_picture(verdict: Verdict) -> None:
    """Long reasons are wrapped: the picture grows in height only."""
    usual = _size(decision_picture(verdict.decision, verdict.outlook))
    wordy = verdict.decision.model_copy(update={"reason": "because of the wind " * 60})
    width, height = _size(decision_picture(wordy, verdict.outlook))
    assert width <= usual[0] * 1.2
    assert height > usual[1]


def _told(**changes: object) -> str:
    given = {
        "flow_run_id": uuid4(),
        "name": "calm-eel",
        "state": "Completed",
        "ended": True,
        "stage_of": "",
        "message": "",
        "plan": {"pool": "green", "start": "2026-06-01T12:34:56.789+00:00", "breaches": "none"},
    } | changes
    return Explanation.model_validate(given).text


def test_an_explanation_tells_what_has_happened() -> None:
    """Who set a state, and why, stands in its message."""
    past = {"at": "2026-06-01T03:04:05+00:00", "state": "Scheduled", "message": "By the keeper."}
    told = _told(history=[past])
    assert "What has happened to it:\n  Mon 2026-06-01 03:04:05 UTC  Scheduled. By the" in told


def test_an_explanation_says_what_it_speaks_of() -> None:
    """The plan of a run that has ended, of a stage, of a run that was never planned."""
    assert "last plan" in _told()
    assert "Mon 2026-06-01 12:34 UTC" in _told()
    assert "Gave way" not in _told()
    assert "last plan" not in _told(state="Running", ended=False)
    assert "stage of busy-bee, whose plan" in _told(stage_of="busy-bee")
    assert "never planned" in _told(plan={})
    assert "not planned this run yet" in _told(plan={}, ended=False)
