"""The documentation: every command, setting and deployment that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from carbon import CarbonPolicy
from deployments import Settings
from deployments._events import Event
from deployments._mode import Mode
from deployments.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "work_pools/fleet.toml"]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}


def commands() -> set[tuple[str, ...]]:
    """All commands of the command line, groups and their verbs."""
    found: set[tuple[str, ...]] = set()
    for name in app:
        if name.startswith("-"):
            continue
        found.add((name,))
        found |= {(name, verb) for verb in app[name] if not verb.startswith("-")}
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_named_commands_exist(name: str) -> None:
    """`carbon VERB` in a document is a verb of the command line."""
    groups = {path[0] for path in commands() if len(path) == 2}
    named = re.findall(r"(?:^#?\s*|`)carbon ([a-z]+)(?: ([a-z]+))?", TEXTS[name], re.MULTILINE)
    assert named or name == "CONTRIBUTING.md"
    for verb, second in named:
        path = (verb, second) if verb in groups and second not in {"", "shows"} else (verb,)
        assert path in commands(), f"{name} names `carbon {' '.join(path)}`"


def test_named_settings_are_the_settings() -> None:
    """The README's table of settings is complete and names nothing else."""
    table = TEXTS["README.md"].split("## Settings")[1].split("## ")[0]
    named = set(re.findall(r"`CARBON_([A-Z_]+)`", table))
    assert named == {field.upper() for field in Settings.model_fields}


def test_named_policy_fields_are_the_policy() -> None:
    """The README's table of the policy explains every field."""
    section = TEXTS["README.md"].split("## The policy")[1].split("## ")[0]
    assert set(CarbonPolicy.model_fields) <= set(re.findall(r"`([a-z_]+)`", section))


def test_named_deployments_exist() -> None:
    """Deployments and pools that the README names are in prefect.yaml."""
    document = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    assert "image-embeddings/entry" in TEXTS["README.md"]
    assert "entry" in {row["name"] for row in document["deployments"]}
    pools = {row["work_pool"]["name"] for row in document["deployments"]}
    assert set(re.findall(r"--pool ([a-z0-9-]+)", TEXTS["README.md"])) <= pools


def test_named_events_and_modes_are_those_that_there_are() -> None:
    """The README tells every event and every value of the switch, and no others."""
    told = TEXTS["README.md"].split("## Stepping in")[1].split("## Use it")[0]
    assert set(re.findall(r"`(carbon\.decision\.[a-z-]+)`", told)) == {
        event.value for event in Event
    }
    rows = re.findall(r"^\| `([a-z_]+)` \|", told, re.MULTILINE)
    assert set(rows) == {mode.value for mode in Mode}


def test_the_example_in_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """It needs no server and no network."""
    section = TEXTS["README.md"].split("## Plan from Python")[1]
    code = section.split("```python\n")[1].split("```")[0]
    exec(code, {})  # noqa: S102 - our own README
    assert "ranking: run" in capsys.readouterr().out
