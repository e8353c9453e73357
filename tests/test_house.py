"""The rules of the house: what may import what, what is pinned, what must never be written down."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import time
import tomllib
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deployments.sandbox import Sandbox

ROOT = Path(__file__).parents[1]
LAYERS = ("carbon", "work_pools", "deployments", "flows")  # each may import only those before it
MODULES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
PACKAGES = sorted(
    ".".join(path.parent.relative_to(ROOT).parts) for path in MODULES if path.name == "__init__.py"
)
MAX_LINES = 400
MAX_VERBS = 8


def relative(path: Path) -> str:
    """Return a path as people write it, for test ids and messages."""
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield every module that is imported anywhere, also inside functions and type checks."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def tracked_files() -> list[Path]:
    """Return all files that are in git or would be added."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in files if path.is_file()]


def makefile_verbs() -> list[str]:
    """Return the targets of the Makefile that are not files."""
    phony = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony, "the Makefile declares no .PHONY verbs"
    return phony[1].split()


def requirements() -> dict[str, list[str]]:
    """Return each ``name==version`` line of the lock with its hashes."""
    found: dict[str, list[str]] = {}
    current = ""
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line.startswith("#"):
            continue
        if line.startswith("    --hash="):
            found[current].append(line.strip(" \\"))
        else:
            current = line.strip(" \\")
            found[current] = []
    return found


def locked_version(name: str) -> tuple[int, ...]:
    """Return the one version that the lock has of a package."""
    pins = [line.split(";")[0].strip() for line in requirements() if line.startswith(f"{name}==")]
    assert len(pins) == 1, f"{name}: {pins}"
    return tuple(int(part) for part in pins[0].split("==")[1].split("."))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_point_one_way(path: Path) -> None:
    """No module imports a package of a layer above its own, nor the tests."""
    layer = path.relative_to(ROOT).parts[0]
    forbidden = {*LAYERS[LAYERS.index(layer) + 1 :], "tests"}
    names = {name.split(".")[0] for name in imported(ast.parse(path.read_text()))}
    assert not names & forbidden


def test_carbon_imports_without_prefect_and_the_web() -> None:
    """Importing `carbon` loads neither Prefect nor an HTTP client nor a model runtime."""
    banned = ("prefect", "httpx", "aiohttp", "fastapi", "sqlalchemy", "onnx", "onnxruntime")
    code = f"import sys, carbon; print(*sorted(set({banned!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not done.stdout.strip()


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_sorted_and_is_what_is_public(name: str) -> None:
    """A package's `__all__` is sorted, resolves, and leaves out nothing that is public."""
    package = importlib.import_module(name)
    declared = list(getattr(package, "__all__", []))
    public = {
        attribute
        for attribute, value in vars(package).items()
        if not attribute.startswith("_")
        and not isinstance(value, ModuleType)
        and attribute not in {"annotations", "TYPE_CHECKING"}
    }
    assert declared == sorted(declared, key=_isort_style)
    assert not public - set(declared)
    assert not [each for each in declared if not hasattr(package, each)]


def _isort_style(name: str) -> tuple[int, str]:
    """Order constants, then classes, then functions: the order that ruff's RUF022 writes."""
    group = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return group, name.casefold() if group == 2 else name


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_modules_are_small_and_annotated(path: Path) -> None:
    """A module has at most 400 lines and, if it has code, postponed annotations."""
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    code = [node for node in ast.parse(text).body if not _is_docstring(node)]
    assert not code or "from __future__ import annotations" in text


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_lock_names_no_registry() -> None:
    """The lock holds versions and hashes only: where they come from is the machine's affair."""
    text = (ROOT / "requirements.lock").read_text()
    assert not re.findall(r"://|--index|--extra-index|--find-links|--trusted-host|file:", text)


def test_lock_has_a_hash_for_every_requirement() -> None:
    """Every line is an exact version with at least one sha256."""
    for line, hashes in requirements().items():
        assert re.match(r"^[a-z0-9-]+==[^\s;]+( ; .+)?$", line), line
        assert hashes, line
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), line


def test_lock_holds_the_pins_that_prefect_needs() -> None:
    """With newer fastapi the server or deploys break; with newer sqlalchemy cron runs vanish."""
    assert locked_version("prefect")[:2] == (3, 8)
    assert locked_version("fastapi") < (0, 151)
    assert locked_version("sqlalchemy") < (2, 1)


def test_lock_covers_pyproject() -> None:
    """Every dependency, extra and dev tool of pyproject.toml is in the lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    wanted += [each for extra in extras for each in extra] + project["build-system"]["requires"]
    names = {re.split(r"[<>=!~\[ ]", each)[0].lower() for each in wanted}
    assert not names - {line.split("==")[0] for line in requirements()}


def test_makefile_has_few_verbs() -> None:
    """The runner has at most eight verbs, and each says in `make help` what it does."""
    verbs = makefile_verbs()
    assert len(verbs) <= MAX_VERBS
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"],  # inside `make test` it would say where it is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == verbs


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_documented_verbs_exist(document: str) -> None:
    """Every `make VERB` that a document names exists; README names demo and test."""
    named = set(
        re.findall(r"(?:`|^\s*|\$ )make ([a-z]+)", (ROOT / document).read_text(), re.MULTILINE)
    )
    assert not named - set(makefile_verbs())
    assert document != "README.md" or named >= {"demo", "test"}


def test_no_file_names_a_machine_or_a_registry() -> None:
    """Nothing in git tells where a developer's files lie or where packages come from."""
    # Built from pieces: this file is searched too.
    folders = "|".join(["ro" + "ot", "wo" + "rk", "home/[a-z]", "Users/[A-Za-z]"])
    hosts = "|".join([r"pypi\." + "org", r"python" + r"hosted\.org", r"npmjs\." + "org"])
    forbidden = re.compile(rf"(?<![\w./}}<-])/(?:{folders})\b|{hosts}".encode())
    found = [
        f"{relative(path)}: {hit[0].decode()}"
        for path in tracked_files()
        if (hit := forbidden.search(path.read_bytes()))
    ]
    assert not found


@pytest.mark.server
def test_server_creates_a_run_for_a_cron_schedule(prefect_server: Sandbox) -> None:
    """The locked packages give a server that boots and whose scheduler creates cron runs.

    A newer sqlalchemy lets the server boot and never schedules anything, so booting proves little.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - slow import
    from prefect.client.schemas.actions import DeploymentScheduleCreate  # noqa: PLC0415
    from prefect.client.schemas.filters import (  # noqa: PLC0415
        DeploymentFilter,
        DeploymentFilterId,
    )
    from prefect.client.schemas.schedules import CronSchedule  # noqa: PLC0415

    every_minute = CronSchedule(cron="* * * * *", timezone="UTC")
    with get_client(sync_client=True) as client:
        assert str(client.api_url).rstrip("/") == prefect_server.api_url
        deployment = client.create_deployment(
            flow_id=client.create_flow_from_name("house-smoke"),
            name="every-minute",
            schedules=[DeploymentScheduleCreate(schedule=every_minute, active=True)],
        )
        its_own = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        deadline = time.monotonic() + 90
        while not (runs := client.read_flow_runs(deployment_filter=its_own)):
            assert time.monotonic() < deadline, "the scheduler created no run in 90 s"
            time.sleep(1)
        client.delete_deployment(deployment)
    times = sorted(run.expected_start_time for run in runs if run.expected_start_time)
    assert {run.state_name for run in runs} == {"Scheduled"}
    assert all(b - a == timedelta(minutes=1) for a, b in pairwise(times))
