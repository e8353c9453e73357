"""The demo ends by itself, tells its stories, and leaves nothing behind, also on Ctrl-C."""

from __future__ import annotations

import fcntl
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.conftest import Finished, Interrupted, StartDemo
from tests.demo.watched import ROOT, newcomer

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(500)]

_PNG = b"\x89PNG\r\n\x1a\n"


def test_impatient_ctrl_c_leaves_no_process(interrupted: Interrupted) -> None:
    """Ctrl-C, and again a second later, ends server, workers and runs, and says so."""
    assert any("prefect worker start" in command for command in interrupted.commands)
    assert any("prefect.engine" in command for command in interrupted.commands)
    assert interrupted.demo.left_behind() == []
    assert interrupted.code == 130, interrupted.demo.screen[-2000:]
    assert "Stopped. No process is left behind." in interrupted.demo.screen
    assert "Traceback" not in interrupted.demo.screen


def test_demo_ends_by_itself_in_time_and_leaves_no_process(finished: Finished) -> None:
    """On the folder of an interrupted demo it exits 0, soon, with nothing left running."""
    assert finished.code == 0, finished.demo.screen[-6000:]
    assert finished.seconds < 240
    assert finished.demo.left_behind() == []


def test_demo_tells_its_stories(finished: Finished) -> None:
    """One run is placed later and elsewhere, one runs now at home, one is refused."""
    screen = finished.demo.screen
    later = re.search(r"run at \w{3} \d\d \w{3} \d\d:\d\d UTC in (\S+) \(pool (\S+)\)", screen)
    assert later, screen
    assert later[1] != "aws:eu-central-1"
    assert "run now in aws:eu-central-1" in screen
    assert "Refused, and nothing was created" in screen
    assert re.search(r"1 nightly\b.*AwaitingCleanWindow", screen), screen
    assert re.search(rf"{re.escape(later[2])}\s+Completed", screen), screen
    assert re.search(r"4 bypass\b.*Failed: .*may only be processed in EU", screen), screen


def test_demo_leaves_its_decisions_as_pictures(finished: Finished, demo_folder: Path) -> None:
    """Every picture that the screen names lies in the demo's folder and is a PNG of some size."""
    named = [Path(path) for path in re.findall(r"(/\S+\.png)", finished.demo.screen)]
    assert len(named) >= 3, finished.demo.screen
    for path in named:
        assert path.is_relative_to(demo_folder)
        assert path.read_bytes().startswith(_PNG)
        assert path.stat().st_size > 5_000


def test_demo_keeps_out_of_the_home_folder(finished: Finished) -> None:
    """Nothing but Prefect's own folder appears in the home, and no telemetry notice is shown."""
    assert {path.name for path in finished.demo.home.iterdir()} <= {".prefect"}
    assert "telemetry" not in finished.demo.screen.lower()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_terminate_while_the_server_starts_leaves_no_process(
    start_demo: StartDemo, tmp_path: Path, ending: signal.Signals
) -> None:
    """A kill or a closed terminal before the server answers ends it too, as Ctrl-C does."""
    demo = start_demo("--folder", str(tmp_path / "demo"))
    demo.wait_for_command("prefect server start", 60)
    demo.process.send_signal(ending)
    assert demo.wait(60) == 130, demo.screen[-2000:]
    assert demo.left_behind() == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--images", "no-such-folder", "--folder", "{tmp}/new"], "IMAGES"),
        (["--folder", "{tmp}/mine"], "--folder"),
        (["--folder", "{tmp}/mine/precious.txt"], "--folder"),
        (["--folder", "{tmp}/busy"], "another demo"),
    ],
)
def test_wrong_argument_is_one_line_before_anything_is_created(
    tmp_path: Path, arguments: list[str], named: str
) -> None:
    """A missing folder, and a folder that is not ours to empty, are refused with one line."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("mine")
    (tmp_path / "busy").mkdir()
    with (tmp_path / "busy" / ".carbon-demo").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = _demo(tmp_path, arguments)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert named in done.stderr
    assert (tmp_path / "mine" / "precious.txt").read_text() == "mine"
    assert not (tmp_path / "new").exists()


def _demo(tmp_path: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.demo", *(a.format(tmp=tmp_path) for a in arguments)],
        cwd=ROOT,
        env=dict(newcomer(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
