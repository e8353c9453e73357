"""`carbon backtest` as a person runs it: on a modelled grid, on files, on past Prefect runs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from uuid import uuid4

import polars as pl
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Failed, Running, Scheduled

import work_pools
from carbon import BadInput, Hardware, SystemClock
from carbon._backtest_jobs import Group
from carbon._backtest_report import Backtest, Way
from deployments import cli
from deployments._backtest_jobs import _row, past_jobs
from deployments._hold import Hold
from deployments._jobs import jobs
from tests.deployments.lab import JOB
from tests.deployments.test_hold import BASELINE
from work_pools import load_fleet

if TYPE_CHECKING:
    from collections.abc import Callable

    from deployments.sandbox import Sandbox

    Carbon = Callable[..., str]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FLEET = Path(work_pools.__file__).with_name("fleet.toml")
POOLS = ("eu-central-1-gpu", "eu-south-2-gpu")


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
            cli.main(("backtest", *arguments))
        except SystemExit as exit_:
            left = int(exit_.code or 0)
        printed = capsys.readouterr()
        assert left == code, printed
        assert not code or len(printed.err.strip().splitlines()) == 1, printed.err
        return printed.err if code else printed.out

    return run


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Write three weeks of two zones: nights are clean in DE, and ES is half of it."""
    rows = ["utc,DE,ES"]
    for hour in range(21 * 24):
        moment = datetime(2022, 3, 14, tzinfo=UTC) + HOUR * hour
        level = 200 if hour % 24 < 6 else 500
        rows.append(f"{moment.isoformat()},{level},{level / 2}")
    path = tmp_path / "grid.csv"
    path.write_text("\n".join(rows))
    return path


def test_without_arguments_it_says_something(carbon: Carbon) -> None:
    """The shipped fleet on a modelled grid, labelled as such, with a row for each policy."""
    told = carbon()
    assert "modelled typical day" in told
    assert "nobody has measured" in told
    for way in Way:
        assert way.value in told


def test_small_masses_are_in_grams(carbon: Carbon) -> None:
    """A hundred grams are not 0.1 kilograms, and the table has one unit."""
    told = carbon("--days", "3", "--kw", "0.1", "--hours", "1", "--policy", "both")
    assert re.search(r"policy +gCO2e", told)
    assert re.search(r"Saved against \d+ gCO2e:", told)
    assert "queued: found no free slot" in told


def test_on_files_with_a_picture(carbon: Carbon, traces: Path, tmp_path: Path) -> None:
    """Jobs and traces of one's own; JSON is the whole report, the picture a PNG."""
    jobs = tmp_path / "jobs.csv"
    jobs.write_text(
        "job,release,finish_by,hours,p95_hours,kw,data_class\n"
        "a,2022-03-30T12:00Z,22h,2,2.5,1,personal\n"
        "b,2022-03-30T18:00+02:00,06:30 Europe/Berlin,1,1,,public\n"
    )
    picture = tmp_path / "a.png"
    told = carbon(
        str(jobs), "--traces", str(traces), "--policy", "both", "--picture", str(picture), "--json"
    )
    found = Backtest.model_validate_json(told)
    assert [row.policy for row in found.results] == [Way.AT_ONCE, Way.BOTH]
    assert (found.jobs, found.modelled) == (2, False)
    # Both jobs can wait for the night, in the zone with half of home's intensity.
    pue = {name: load_fleet().pool(name).place.pue.value for name in POOLS}
    left = 100 * pue["eu-south-2-gpu"] / (500 * pue["eu-central-1-gpu"])
    assert found.result(Way.BOTH).saved_percent == pytest.approx(100 * (1 - left))
    assert any("us-west-2-gpu" in note for note in found.notes)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["each.csv", "each.parquet"])
def test_what_became_of_each_job_is_a_file(carbon: Carbon, tmp_path: Path, name: str) -> None:
    """One row a job and policy, beside the table."""
    carbon("--days", "2", "--policy", "both", "--each", name)
    read = pl.read_csv if name.endswith("csv") else pl.read_parquet
    rows = read(tmp_path / name)
    assert set(rows["policy"]) == {"at-once", "both"}
    assert not rows["too_late"].any()
    assert "--each" in carbon("--each", "each.txt", code=2)


def test_a_replayed_grid_is_the_default(
    carbon: Carbon, traces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`CARBON_REPLAY` is what came; a file of forecasts is what was known of it."""
    monkeypatch.setenv("CARBON_REPLAY", str(traces))
    found = json.loads(carbon("--days", "2", "--json"))
    assert found["grid"].startswith("grid.csv")
    assert found["first"].startswith("2022-03-28")
    told = carbon("--days", "2", "--forecasts", str(traces))
    assert "grid.csv" in told.split("Decided by")[1]


def test_market_prices_are_in_the_cost(
    carbon: Carbon, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--prices`, or `CARBON_REPLAY_PRICES`; without them the cost of such pools is not known."""
    fleet, prices = tmp_path / "fleet.toml", tmp_path / "prices.csv"
    text = FLEET.read_text().replace(
        '"aws:eu-central-1"\n', '"aws:eu-central-1"\nusd_per.EUR=1\n', 1
    )
    gpu = 'name = "eu-central-1-gpu"\n'
    fleet.write_text(text.replace(gpu, gpu + "billed_energy = true\n"))
    rows = [row.split(",")[0] + ",500" for row in traces.read_text().splitlines()[1:]]
    prices.write_text("\n".join(["utc,DE_eur_mwh", *rows]))
    monkeypatch.setenv("CARBON_FLEET", str(fleet))
    base = ("--traces", str(traces), "--days", "1", "--policy", "at-once")
    told = carbon(*base)
    assert "pool eu-central-1-gpu is not known: no electricity price for zone DE" in " ".join(
        told.split()
    )
    given = [Backtest.model_validate_json(carbon(*base, "--prices", str(prices), "--json"))]
    monkeypatch.setenv("CARBON_REPLAY_PRICES", str(prices))
    given.append(Backtest.model_validate_json(carbon(*base, "--json")))
    pool = load_fleet().pool("eu-central-1-gpu")
    each = 2 * (pool.usd_per_hour + pool.watts / 1000 * pool.place.pue.value * 0.5)
    for found in given:
        assert found.result(Way.AT_ONCE).usd == pytest.approx(found.jobs * each)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere.csv",), "nowhere.csv"),
        (("--every", "soon"), "--every"),
        (("--slack", "15d"), "--slack"),
        (("--every", "06:30 Europe/Berlin"), "no duration"),
        (("--days", "100000"), "days"),
        (("--hours", "nan"), "hours"),
        (("--hours", "0"), "hours"),
        (("--kw", "-1"), "kw"),
        (("--count", "0"), "count"),
        (("--policy", "bothh"), "policy"),
        (("--quantile", "2"), "quantile"),
        (("--replan", "1m"), "replan"),
        (("--replan", "often"), "--replan"),
        (("--data-class", "secret"), "secret"),
        (("--traces", "nowhere.csv"), "nowhere.csv"),
        (("--forecasts", "nowhere.csv"), "--traces"),
        (("--prices", "nowhere.csv"), "nowhere.csv"),
        (("jobs.csv", "--runs", "3"), "--runs"),
        (("jobs.csv", "--kw", "9"), "--kw: is of made-up jobs, and stands beside a file"),
        (("jobs.csv", "--every", "6h"), "--every"),
        (("jobs.csv", "--data-class", "payment"), "--data-class"),
        (("--runs", "3", "--slack", "1h"), "--slack: is of made-up jobs, and stands beside --runs"),
        (("--picture", "no/such/folder.png"), "folder.png"),
    ],
)
def test_a_mistake_is_one_line(carbon: Carbon, arguments: tuple[str, ...], told: str) -> None:
    """It names what is wrong, with exit code 2 and nothing else."""
    assert told in carbon(*arguments, code=2)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("2022-03-30T12:00Z,1,mars,", "pools: 'mars' is not known"),
        ("2022-03-30T12:00Z,1,,secret", "data_class: 'secret' is not known"),
        ("2022-03-30T12:00Z,1,us-west-2-gpu,public", "no pool can run"),
        ("2022-06-01T12:00Z,1,,public", "the trace reaches"),
        ("2022-03-13T23:30Z,1,,public", "the trace reaches"),
    ],
)
def test_a_job_that_does_not_fit_is_one_line(
    carbon: Carbon, traces: Path, tmp_path: Path, row: str, told: str
) -> None:
    """The file of jobs is named, and what in it fits neither fleet nor trace."""
    jobs = tmp_path / "mine.csv"
    jobs.write_text(f"release,hours,pools,data_class\n{row}\n")
    said = carbon(str(jobs), "--traces", str(traces), code=2)
    assert said.startswith("error: mine.csv: ")
    assert told in said


def test_a_modelled_grid_has_an_end(carbon: Carbon, tmp_path: Path) -> None:
    """Two jobs a human life apart are a mistake, not an afternoon of modelling."""
    jobs = tmp_path / "mine.csv"
    jobs.write_text("release,hours\n1990-01-01T00:00Z,1\n2060-01-01T00:00Z,1\n")
    assert "10 years" in carbon(str(jobs), code=2)


def test_without_an_address_no_runs_are_asked_for(carbon: Carbon) -> None:
    """Prefect would make up a server of its own and find nothing there."""
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert "PREFECT_API_URL" in carbon("--runs", "3", code=2)


def test_a_dead_or_another_api_is_one_line(carbon: Carbon) -> None:
    """Nobody listens, a web page answers, or some other service: never a traceback."""
    for answer, told in ((None, "did not answer"), (b"<h1>Log in</h1>", "no Prefect API")):
        with answering(answer) as url, temporary_settings({PREFECT_API_URL: url}):
            assert told in carbon("--runs", "3", code=2)
    with answering(b'{"service": "another"}') as url, temporary_settings({PREFECT_API_URL: url}):
        assert "no Prefect API" in carbon("--runs", "3", code=2)


@contextmanager
def answering(answer: bytes | None) -> Iterator[str]:
    """Yield the address of a server that answers everything alike; of none without an answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer or b"")))
            self.end_headers()
            self.wfile.write(answer or b"")

        do_POST = do_GET  # noqa: N815 - the name is the standard library's

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/api"
        if answer is None:
            server.server_close()
            yield url
            return
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield url
        finally:
            server.shutdown()
            thread.join()


def past_run(
    flow: str, deployment: str, end: State[None], when: datetime, **parameters: object
) -> None:
    """Make a run that was due some time ago and has ended."""
    with get_client(sync_client=True) as client:
        made = client.create_deployment(client.create_flow_from_name(flow), deployment)
        run = client.create_flow_run_from_deployment(
            made, parameters=parameters, state=Scheduled(scheduled_time=when)
        )
        for state in (Running(), end):
            client.set_flow_run_state(run.id, state, force=True)


@pytest.mark.server
def test_past_runs_are_replayed(
    prefect_server: Sandbox, carbon: Carbon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--runs` as a whole: own jobs' runs are replayed, others counted, none is one line."""
    (job,) = jobs().values()
    now = datetime.now(UTC)
    with temporary_settings({PREFECT_API_URL: prefect_server.api_url}):
        past_run("somebody-elses", "nightly", Completed(), now + HOUR)
        with monkeypatch.context() as patch:
            # A day of this clock is a second of life: other tests' runs are long ago.
            patch.setenv("CARBON_CLOCK", f"{now.isoformat()},{now.isoformat()},86400")
            said = carbon("--runs", "1", code=2)
        assert f"no completed run of {job.name}/entry" in said
        assert "only 1 of others" in said
        try:
            before = len(asyncio.run(past_jobs([job], load_fleet(), now - DAY, SystemClock())))
        except BadInput:
            before = 0
        for hours in (9, 5):
            past_run(
                job.name, "entry", Completed(), now - hours * HOUR, policy={"finish_by": "20h"}
            )
        past_run(job.name, "entry", Failed(), now - 3 * HOUR)
        found = Backtest.model_validate_json(carbon("--runs", "1", "--json"))
        assert re.search(r"past Prefect runs \([\d,]+ others left out\)", found.jobs_source)
    assert (found.jobs, found.modelled) == (before + 2, True)
    assert [row.policy for row in found.results] == list(Way)
    assert found.result(Way.AT_ONCE).misses == 0


def ended_run(due: datetime, labels: dict[str, object], **parameters: object) -> FlowRun:
    """Return a run of ten minutes, as the API tells of it."""
    return FlowRun(
        flow_id=uuid4(),
        name="a-run",
        expected_start_time=due,
        start_time=due,
        total_run_time=timedelta(minutes=10),
        parameters=parameters,
        labels=labels,
    )


def test_a_run_was_wanted_before_its_planned_start() -> None:
    """Release and deadline are those of the plan that the run carries, not its clean start."""
    wanted = BASELINE.start
    hold = Hold(wanted + 12 * HOUR, wanted + 9 * HOUR, 1, (), BASELINE)
    fleet, clock = load_fleet(), SystemClock()
    row = _row(JOB, ended_run(wanted + 9 * HOUR, dict(hold.labels())), fleet, clock)
    assert row is not None
    assert (row.release, row.finish_by) == (wanted, wanted + 12 * HOUR)
    row = _row(JOB, ended_run(wanted, {}, policy={"finish_by": "5h"}), fleet, clock)
    assert row is not None
    assert (row.release, row.finish_by) == (wanted, wanted + 5 * HOUR)


@pytest.mark.parametrize(
    "parameters",
    [
        {"policy": {"only_regions": ["aws:eu-north-1"]}},
        {"policy": {"only_regions": ["aws:mars-1"]}},
        {"policy": {"only_regions": ["aws:us-west-2"]}, "data_class": "personal"},
        {"data_class": "gone"},
    ],
)
def test_a_run_that_no_pool_may_take_today_is_left_out(parameters: dict[str, object]) -> None:
    """A region that has left, and a class of data that is gone, never mean all pools."""
    run = ended_run(BASELINE.start, {}, **parameters)
    assert _row(JOB, run, load_fleet(), SystemClock()) is None


@pytest.mark.server
def test_past_runs_become_jobs(prefect_server: Sandbox) -> None:
    """Completed runs of entry deployments count, with their own policy; others do not."""
    workload = JOB.workload.model_copy(update={"name": f"past-{uuid4().hex[:8]}"})
    job = JOB.model_copy(update={"workload": workload})
    fleet = load_fleet()
    due = datetime.now(UTC) - timedelta(hours=2)
    policy = {"finish_by": "9h", "only_regions": ["aws:eu-south-2"]}
    with get_client(sync_client=True) as client:
        assert str(client.api_url).rstrip("/") == prefect_server.api_url
        flow = client.create_flow_from_name(job.name)
        made = {
            name: client.create_deployment(flow_id=flow, name=name) for name in ("entry", "other")
        }
        for name, parameters, end, when in (
            ("entry", {"policy": policy, "data_class": "personal"}, Completed(), due),
            ("entry", {}, Completed(), due - timedelta(hours=1)),
            ("entry", {}, Failed(), due),
            ("entry", {}, Completed(), due - timedelta(days=9)),
            ("other", {}, Completed(), due),
        ):
            run = client.create_flow_run_from_deployment(
                made[name], parameters=parameters, state=Scheduled(scheduled_time=when)
            )
            for state in (Running(), end):
                client.set_flow_run_state(run.id, state, force=True)
    since = datetime.now(UTC) - timedelta(days=3)
    found = asyncio.run(past_jobs([job], fleet, since, SystemClock()))
    assert found.release.tolist() == pytest.approx(
        [(due - timedelta(hours=1)).timestamp(), due.timestamp()], abs=1
    )
    assert (found.due - found.release).tolist() == [24 * 3600, 9 * 3600]
    assert found.hours.tolist() == [pytest.approx(1 / 60)] * 2
    pools = ("eu-south-2-cpu", "eu-south-2-gpu")
    assert found.groups == (
        Group(Hardware.GPU, ("public",)),
        Group(Hardware.GPU, ("personal", "public"), pools),
    )
    with pytest.raises(BadInput, match="no completed run"):
        asyncio.run(past_jobs([job], fleet, datetime.now(UTC), SystemClock()))
