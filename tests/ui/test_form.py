"""A person asks for a run in Prefect's own UI and reads there why it waits and where it went."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Final

import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun

from deployments import AWAITING
from tests.ui.conftest import HOME_POOL, Browser, Shop

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(400)]

_ANALYTICS: Final = {"sr-client-cfg.amplitude.com"}
"""What Prefect 3.8.8's own pages ask for; no setting of the server stops it."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go."""
    return tmp_path_factory.mktemp("screenshots")


@pytest.fixture(scope="module")
def form(browser: Browser, shop: Shop) -> Page:
    """The form of a custom run of the entry deployment, opened by clicking."""
    page = browser.page
    # By its id: other tests have an entry deployment on this server too.
    deployment = shop.client.read_deployment_by_name("image-embeddings/entry")
    page.goto(f"{shop.box.ui_url}/v2/deployments/deployment/{deployment.id}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    expect(page.get_by_label("images (Optional)")).to_be_visible()
    return page


def _submit(form: Page) -> None:
    """Submit as a person does, who clicks again when SQLite was busy and the page stays."""
    for patience in (10_000, 10_000, 30_000):
        form.get_by_role("button", name="Submit").click()
        try:
            expect(form).to_have_url(re.compile(r"tab=Runs"), timeout=patience)
        except AssertionError:
            continue
        return
    pytest.fail("the form was submitted three times in vain")


@pytest.fixture(scope="module")
def waiting(form: Page, shop: Shop, pictures: Path) -> FlowRun:
    """The run that the form made, once it waits for its clean window."""
    form.get_by_label("images (Optional)").fill(str(shop.images))
    form.get_by_label("catalogue (Optional)").fill("from-the-form")
    form.get_by_label("Finish By (Optional)").fill("8h")
    form.get_by_label("Select Strategy").click()
    form.get_by_role("option", name="cleanest").click()
    form.screenshot(path=pictures / "1-form.png", full_page=True)
    name = form.get_by_label("Run Name").input_value()
    shop.start_clock()
    _submit(form)
    run_id = shop.until(f"{name} is created", lambda: shop.find(name), 20).id
    form.goto(f"{shop.box.ui_url}/v2/runs/flow-run/{run_id}")

    def has_been_put_off() -> FlowRun | None:
        run = shop.run(run_id)
        assert run.state is None or not run.state.is_final(), run.state
        return run if run.state_name == AWAITING else None

    return shop.until(f"{run_id} waits", has_been_put_off, 90)


@pytest.fixture(scope="module")
def completed(waiting: FlowRun, form: Page, shop: Shop, pictures: Path) -> FlowRun:
    """The same run after its end, its page open again."""
    form.screenshot(path=pictures / "2-waiting.png", full_page=True)
    shop.worker(str(waiting.labels["carbon.pool"]))

    def has_ended() -> FlowRun | None:
        run = shop.run(waiting.id)
        return run if run.state and run.state.is_final() else None

    run = shop.until(f"{waiting.name} has ended", has_ended, 200)
    form.reload()
    expect(form.get_by_role("tab", name="Subflow Runs")).to_be_visible()
    return run


def test_form_explains_the_policy(form: Page) -> None:
    """Each field of the policy stands there with its help, and strategies are to choose from."""
    expect(form.get_by_text("Latest acceptable finish: a duration")).to_be_visible()
    expect(form.get_by_text("cleanest: lowest emissions")).to_be_visible()
    form.get_by_label("Select Strategy").click()
    assert set(form.get_by_role("option").all_inner_texts()) == {"cleanest", "cheapest", "run_now"}
    form.keyboard.press("Escape")


def test_run_from_the_form_waits_and_holds_no_process(waiting: FlowRun, shop: Shop) -> None:
    """What was filled in arrives; the run has started once, is put off, and no process is left."""
    assert waiting.parameters["policy"]["finish_by"] == "8h"
    assert waiting.parameters["images"] == str(shop.images)
    assert waiting.run_count == 1
    shop.until("the first attempt's process has ended", lambda: not shop.at_work(), 15)
    assert shop.run(waiting.id).state_name == AWAITING


def test_page_of_a_waiting_run_says_why(waiting: FlowRun, form: Page) -> None:
    """State, place, start and the latest safe start are readable while it waits."""
    expect(form.get_by_text(AWAITING).first).to_be_visible()
    form.get_by_role("tab", name="Details").click()
    assert waiting.state is not None
    message = form.get_by_text(str(waiting.state.message))
    expect(message).to_contain_text(str(waiting.labels["carbon.pool"]))
    expect(message).to_contain_text("at the latest")


def test_run_completes_with_its_stage_in_another_pool(completed: FlowRun, shop: Shop) -> None:
    """The same run has started twice and completed; its one subflow ran in the chosen pool."""
    assert completed.state_name == "Completed", completed.state
    assert completed.run_count == 2
    assert completed.work_pool_name == HOME_POOL
    children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[completed.id]))
    (child,) = shop.client.read_flow_runs(flow_run_filter=children)
    assert child.state_name == "Completed"
    assert child.work_pool_name == completed.labels["carbon.pool"]
    assert child.work_pool_name != HOME_POOL


def test_graph_shows_the_dispatched_subflow(
    completed: FlowRun, form: Page, shop: Shop, pictures: Path
) -> None:
    """The graph is drawn and holds the subflow, and the tab beside it names the subflow's pool."""
    canvas = form.locator("canvas").first
    shop.until("the graph is drawn", lambda: _colours(canvas.screenshot()) > 30, 30)
    form.screenshot(path=pictures / "3-graph.png")
    graph = shop.client.request(
        "GET", "/flow_runs/{id}/graph-v2", path_params={"id": completed.id}
    ).json()
    nodes = [node for _, node in graph["nodes"]]
    assert [node["label"] for node in nodes if node["kind"] == "flow-run"] == [
        f"image-embeddings-embed / {completed.name}-embed"
    ]
    form.get_by_role("tab", name="Subflow Runs").click()
    expect(form.get_by_text(str(completed.labels["carbon.pool"])).first).to_be_visible()


def test_decision_is_readable_on_the_run(
    completed: FlowRun, form: Page, shop: Shop, pictures: Path
) -> None:
    """From the run's page one comes to the decision's headline and to its picture."""
    for key, name in (("decision", "4-decision"), ("grid", "5-grid")):
        form.goto(f"{shop.box.ui_url}/v2/runs/flow-run/{completed.id}")
        form.get_by_role("tab", name="Artifacts").click()
        card = form.get_by_role("link", name=re.compile(f"{key}-image-embeddings")).first
        expect(card).to_be_visible()
        form.screenshot(path=pictures / f"{name}-cards.png", full_page=True)
        card.click()
        # A card leads to the history of its key, newest first; one more click shows the artifact.
        form.locator("a[href*='/artifacts/artifact/']").first.click()
        expect(form.get_by_role("button", name="Show Raw Data")).to_be_visible()
        expect(form.get_by_text(re.compile(r"in aws:\S+ \(pool \S+\)")).first).to_be_visible()
        form.screenshot(path=pictures / f"{name}.png", full_page=True)
    drawn = form.locator("img[src^='data:image/png']").first
    expect(drawn).to_be_visible()
    assert drawn.evaluate("image => image.complete && image.naturalWidth") > 600


def _colours(png: bytes) -> int:
    """Return how many colours a picture has; an empty graph has one, and its border."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return len(image.getcolors(maxcolors=image.width * image.height) or ())


def test_browser_is_sent_nowhere_but_to_known_analytics(
    completed: FlowRun, browser: Browser
) -> None:
    """Our runs and artifacts bring nothing to load from elsewhere into the UI."""
    assert completed.state_name == "Completed"
    assert browser.refused <= _ANALYTICS
