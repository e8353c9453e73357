"""The demo ends by itself, tells its three stories, and leaves nothing behind, also on Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.demo.running import ROOT, Demo, StartDemo, newcomer

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(600)]

_PNG = b"\x89PNG\r\n\x1a\n"


def test_impatient_ctrl_c_while_runs_are_at_work_leaves_no_process(interrupted: Demo) -> None:
    """Ctrl-C, and again a second later, ends server, workers and runs, and says so."""
    at_work = " ".join(" ".join(process.cmdline()) for process in interrupted.processes)
    assert "prefect worker start" in at_work, "the test interrupted too early to mean anything"
    interrupted.process.send_signal(signal.SIGINT)
    time.sleep(1)
    interrupted.process.send_signal(signal.SIGINT)
    assert interrupted.wait(60) == 130, interrupted.screen[-2000:]
    assert interrupted.left_behind() == []
    assert "Stopped. No process is left behind." in interrupted.screen
    assert "Traceback" not in interrupted.screen


def test_demo_ends_by_itself_in_time_and_leaves_no_process(
    finished: tuple[Demo, int, float],
) -> None:
    """On the folder of an interrupted demo it exits 0, soon, with nothing left running."""
    demo, code, seconds = finished
    assert code == 0, demo.screen[-6000:]
    assert seconds < 240
    assert demo.left_behind() == []


def test_demo_tells_its_stories(finished: tuple[Demo, int, float]) -> None:
    """One run is placed later and elsewhere, one runs now at home, one is refused."""
    screen = finished[0].screen
    later = re.search(r"run at \w{3} \d\d:\d\d UTC in (\S+) \(pool (\S+)\)", screen)
    assert later, screen
    assert later[1] != "aws:eu-central-1"
    assert "run now in aws:eu-central-1" in screen
    assert "Refused, and nothing was created" in screen
    assert re.search(r"1 nightly\b.*AwaitingCleanWindow", screen), screen
    assert re.search(rf"{re.escape(later[2])}\s+Completed", screen), screen
    assert re.search(r"4 bypass\b.*Failed: .*may only be processed in EU", screen), screen


def test_demo_leaves_its_decisions_as_pictures(
    finished: tuple[Demo, int, float], demo_folder: Path
) -> None:
    """Every picture that the screen names is there and is a PNG of some size."""
    named = re.findall(r"(/\S+\.png)", finished[0].screen)
    assert len(named) >= 3, finished[0].screen
    for path in named:
        assert Path(path).is_relative_to(demo_folder)
        assert Path(path).read_bytes().startswith(_PNG)
        assert Path(path).stat().st_size > 5_000


def test_demo_keeps_out_of_the_home_folder(finished: tuple[Demo, int, float]) -> None:
    """Nothing is written to the home of who tries it, and no telemetry notice is on the screen."""
    demo = finished[0]
    assert [str(path.relative_to(demo.home)) for path in demo.home.rglob("*")] == []
    assert "telemetry" not in demo.screen.lower()


def test_terminate_while_the_server_starts_leaves_no_process(
    start_demo: StartDemo, tmp_path: Path
) -> None:
    """SIGTERM before the server answers ends it too, with the exit code of Ctrl-C."""
    demo = start_demo("--folder", str(tmp_path / "demo"))
    demo.wait_for("Starting a Prefect server", 60)
    while not any("server" in process.cmdline() for process in demo.processes):
        time.sleep(0.1)
    demo.process.send_signal(signal.SIGTERM)
    assert demo.wait(60) == 130, demo.screen[-2000:]
    assert demo.left_behind() == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--images", "no-such-folder", "--folder", "{tmp}/new"], "IMAGES"),
        (["--folder", "{tmp}/mine"], "--folder"),
    ],
)
def test_wrong_argument_is_one_line_before_anything_is_created(
    tmp_path: Path, arguments: list[str], named: str
) -> None:
    """A missing folder, and a folder that is not ours to empty, are refused with one line."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("mine")
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "flows.demo", *(a.format(tmp=tmp_path) for a in arguments)],
        cwd=ROOT,
        env=dict(newcomer(home)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert named in done.stderr
    assert (tmp_path / "mine" / "precious.txt").read_text() == "mine"
    assert not (tmp_path / "new").exists()
