"""The command line, run as a person runs it: what it prints, and one line for each mistake."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

from carbon import CarbonPolicy, Strategy
from deployments import cli, job, jobs
from tests.deployments.lab import JOB

if TYPE_CHECKING:
    from collections.abc import Callable

    Carbon = Callable[..., str]

ROOT = Path(__file__).parents[2]
NOBODY = "http://127.0.0.1:9/api"


@pytest.fixture
def carbon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Carbon:
    """Return a function that runs a command and returns what it printed, mistakes included."""
    monkeypatch.setenv("CARBON_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        left = 0
        try:
            cli.main(arguments)
        except SystemExit as exit_:
            left = int(exit_.code or 0)
        printed = capsys.readouterr()
        assert left == code, printed
        if code:
            assert printed.out == ""
            assert len(printed.err.strip().splitlines()) == 1, printed.err
            assert printed.err.startswith("error: ")
        return printed.err if code else printed.out

    return run


def test_plan_speaks_to_people_and_to_machines(carbon: Carbon) -> None:
    """The decision in words with its tables, or whole as JSON."""
    told = carbon("plan", "image-embeddings", "--finish-by", "12h")
    assert "image-embeddings: run" in told
    words = " ".join(told.split())
    assert "finish within 12h" in words
    for moment in ("Ends about", "deadline", "The latest safe start is"):
        assert moment in words
    decision = json.loads(carbon("plan", "image-embeddings", "--json"))
    assert decision["chosen"]["placements"][0]["stage"] == "list"


def test_plan_without_a_signal_says_what_to_do(
    carbon: Carbon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs at once, and names the command that tells more and the model that needs nobody."""
    monkeypatch.setenv("CARBON_OFFLINE", "1")
    monkeypatch.delenv("CARBON_REPLAY", raising=False)
    told = " ".join(carbon("plan", "image-embeddings").split())
    assert "is not known, so it starts at once" in told
    assert "`carbon outlook` says what is missing and why" in told
    assert '"typical-day"' in told


def test_plan_draws(carbon: Carbon, tmp_path: Path) -> None:
    """The picture is a PNG where it was asked for."""
    carbon("plan", "image-embeddings", "--picture", str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_flag_changes_only_its_own_field() -> None:
    """What a person leaves out stays as in the job's policy."""
    own = CarbonPolicy(max_cost_usd=0.3, only_regions=("aws:eu-south-2",), finish_by="8h")
    careful = JOB.model_copy(update={"policy": own})
    found = careful.policy_for(CarbonPolicy(finish_by="12h"))
    assert found == own.model_copy(update={"finish_by": "12h"})
    assert careful.policy_for(None) == own
    assert careful.policy_for(CarbonPolicy(strategy=Strategy.CLEANEST)) == own


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("plan", "image-embedings"), "Did you mean 'image-embeddings'?"),
        (("plan", "image-embeddings", "--finish-by", "tomorrow"), "finish_by"),
        (("plan", "image-embeddings", "--max-cost-usd", "-1"), "max_cost_usd"),
        (("plan", "image-embeddings", "--strategy", "cheapest"), "ceiling"),
        (("plan", "image-embeddings", "--only-regions", "aws:mars"), "aws:mars"),
        (("plan", "image-embeddings", "--data-class", "persnal"), "Did you mean 'personal'?"),
        (("submit", "image-embeddings", "--param", "images"), "NAME=VALUE"),
        (("submit", "image-embeddings", "--param", "images=/no/such"), "/no/such"),
        (("submit", "image-embeddings", "--param", "data_class=personal"), "--data-class"),
        (("submit", "image-embeddings", "--key", ""), "key"),
        (("why", "nonsense"), "did not answer"),
        (("fly",), "fly"),
        (("mode", "runnow"), "'runnow' is not known. Did you mean 'run_now'?"),
        (("mode", "auto", "--job", "no-job"), "no-job"),
        (("pin", "some-run", "aws:eu-nowhere-1"), "did not answer"),
        (("regions", "all", "of them"), "all of them: is more than this command takes"),
        (("outlook", "--hours", "1.5"), "--hours: '1.5' is no whole number"),
        (("outlook", "--hours", "73"), "72"),
        (("outlook", "--learn", "2d"), "--learn: '2d' is no whole number"),
        (("outlook", "--picture", "x.jpg"), "--picture: 'x.jpg' is no PNG file"),
        (("outlook", "--picture", ""), "--picture: '' is no PNG file"),
        (("plan", "image-embeddings", "--picture", "x.jpg"), "--picture x.png."),
        (("plan", "image-embeddings", "12h"), "12h: is more than this command takes"),
        (("plan", "image-embeddings", "--finish-by", "-3h"), "finish_by: '-3h' is neither"),
        (("deployments", "check", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_a_mistake_is_one_line(carbon: Carbon, arguments: tuple[str, ...], told: str) -> None:
    """It names what is wrong, with exit code 2 and nothing else."""
    with temporary_settings({PREFECT_API_URL: NOBODY}):
        assert told.lower() in carbon(*arguments, code=2).lower()


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "1",
        "deployments: [1]",
        "deployments: {}",
        "a: [",
        "",
        "deployments:\n- entrypoint: flows.image_embeddings.embed\n  work_pool: 3\n",
    ],
)
def test_a_broken_prefect_yaml_is_one_line(carbon: Carbon, tmp_path: Path, text: str) -> None:
    """Whatever stands in the file, the check says one line."""
    (tmp_path / "prefect.yaml").write_text(text)
    assert "prefect.yaml" in carbon("deployments", "check", code=2)


def test_a_prefect_yaml_that_is_no_text_is_one_line(carbon: Carbon, tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are no traceback."""
    (tmp_path / "prefect.yaml").write_bytes(b"\xff\xfe\x00")
    assert "no YAML" in carbon("deployments", "check", code=2)


def test_rendering_is_what_is_checked(carbon: Carbon, tmp_path: Path) -> None:
    """What render writes passes the check; another pool for personal data does not."""
    told = json.loads(carbon("deployments", "render", "--json"))
    assert told == {"path": "prefect.yaml"}
    assert json.loads(carbon("deployments", "check", "--json")) == told
    path = tmp_path / "prefect.yaml"
    document = yaml.safe_load(path.read_text())
    document["deployments"][0]["work_pool"]["name"] = "no-such-pool"
    path.write_text(yaml.safe_dump(document))
    assert "no-such-pool" in carbon("deployments", "check", code=2)


def test_regions_name_their_sources(carbon: Carbon) -> None:
    """The catalogue as a table and as JSON."""
    assert "aws:eu-north-1" in carbon("regions")
    told = json.loads(carbon("regions", "--json"))
    assert told["aws:eu-north-1"]["pue"]["source"]["title"]


@pytest.mark.parametrize("verb", ["why", "release"])
def test_without_an_address_nobody_is_asked(carbon: Carbon, verb: str) -> None:
    """Prefect would make up a server of its own and report success."""
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        told = carbon(verb, "7d8a6e6e-0000-4000-8000-000000000000", code=2)
    assert "PREFECT_API_URL" in told


def test_a_dead_server_is_one_line(tmp_path: Path) -> None:
    """As a program of its own: exit code 2 and one line on a server that does not answer."""
    done = subprocess.run(
        [sys.executable, "-c", "from deployments.cli import main; main()", "pools"],
        env={
            **os.environ,
            "PREFECT_API_URL": NOBODY,
            "CARBON_HOME": str(tmp_path),
            "PREFECT_CLIENT_MAX_RETRIES": "0",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"error: The Prefect API did not answer .*\n", done.stderr)


def test_every_job_can_be_planned(carbon: Carbon) -> None:
    """Each announced job fits the shipped fleet."""
    for name in jobs():
        assert json.loads(carbon("plan", name, "--json"))["workload"] == job(name).name
