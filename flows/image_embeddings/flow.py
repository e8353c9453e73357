"""Image embeddings on Prefect: list what changed, embed it where the grid is clean, publish it.

Start it from the Prefect UI (deployment ``image-embeddings/entry``), by its schedule, with
``carbon submit image-embeddings --param images=FOLDER``, or from another service. Vectors and index
are published under ``CARBON_HOME/store``; ``Published.open`` reads them.
"""

from __future__ import annotations

import base64
from datetime import datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import (
    create_image_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.logging import get_run_logger
from pydantic import Field

from carbon import CarbonPolicy
from deployments import (
    Settings,
    best_effort,
    dispatch,
    gate,
    guard,
    pause,
    segment_end,
    table_cells,
)
from flows.image_embeddings._catalogue import Rejected
from flows.image_embeddings._job import JOB, images_folder
from flows.image_embeddings._published import Manifest, Published
from flows.image_embeddings._sheet import contact_sheet
from flows.image_embeddings._stages import (
    Embedded,
    Listed,
    embed_images,
    list_images,
    publish_images,
    result_path,
)

CatalogueName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


@flow(name=JOB.name)
async def image_embeddings(
    images: str = "",
    catalogue: CatalogueName = "products",
    policy: CarbonPolicy = JOB.policy,
    data_class: str = JOB.workload.data_class,
) -> Manifest:
    """Embed the product images of a folder and publish vectors and index.

    Args:
        images: Folder with product images; by default CARBON_HOME/images. It must lie in
            CARBON_HOME or in one of CARBON_DATA_ROOTS.
        catalogue: Name under which vectors and index are published.
        policy: When and where the heavy stage may run.
        data_class: Class of the images, e.g. public or personal: where they may be processed.
    """
    await gate(JOB, policy, data_class=data_class)
    store = _store(catalogue, data_class)
    listed = list_stage(images, store)
    listing = listed.listing
    if listed.new:
        given = {"listing": listing, "catalogue": catalogue, "data_class": data_class}
        child = await dispatch(JOB, "embed", given, policy, data_class=data_class)
        # Its own listing: after a restart this is the one that the first attempt handed over.
        result = result_path(child.parameters["listing"], store).read_bytes()
        listing = Embedded.model_validate_json(result).listing
    return publish_stage(listing, store)


@flow(name=JOB.execution_flow("embed"))
async def embed(
    listing: str,
    catalogue: CatalogueName,
    data_class: str,
) -> Embedded:
    """Embed the new images of a listing. Started by the trigger, not by hand.

    Args:
        listing: URI of a listing in the catalogue's store.
        catalogue: Name of the catalogue.
        data_class: Class of the images: where they may be processed. The listing lies in the
            store of its class, so that a wrong one is refused before anything is read.
    """
    await guard(JOB.workload, data_class=data_class)
    until = await segment_end()
    while (embedded := embed_stage(listing, _store(catalogue, data_class), until)).left:
        until = await pause()
    return embedded


@task(name="list", retries=2, retry_delay_seconds=5)
def list_stage(images: str, store: str) -> Listed:
    """List the folder and find what is new."""
    settings = Settings.load()
    folder = images_folder(images, settings)
    listed = list_images(str(folder), store, roots=settings.roots)
    get_run_logger().info(
        "%d images: %d new, %d unchanged, %d duplicates, %d rejected",
        listed.images,
        listed.new,
        listed.unchanged,
        listed.duplicates,
        listed.rejected,
    )
    _report_rejected(listed.examples, listed.rejected)
    return listed


@task(name="embed", retries=1, retry_delay_seconds=5)
def embed_stage(listing: str, store: str, until: datetime | None) -> Embedded:
    """Embed what is new, with progress, until the run is to pause."""
    bar: UUID | None = None
    with best_effort("Progress"):
        bar = create_progress_artifact(0.0, key="embed-progress", description="Images embedded")  # type: ignore[assignment]  # sync here

    def progress(done: int, total: int) -> None:
        if bar is not None:
            with best_effort("Progress"):
                update_progress_artifact(bar, 100.0 * done / total)

    roots = Settings.load().roots
    embedded = embed_images(listing, store, roots=roots, until=until, progress=progress)
    get_run_logger().info(
        "%d images embedded on %s in %.1f CPU-seconds, %d rejected, %d left",
        embedded.embedded,
        embedded.device or "nothing",
        embedded.cpu_seconds,
        embedded.rejected,
        embedded.left,
    )
    _report_rejected(embedded.examples, embedded.rejected)
    return embedded


@task(name="publish", retries=2, retry_delay_seconds=5)
def publish_stage(listing: str, store: str) -> Manifest:
    """Publish vectors and index atomically, and show what resembles what."""
    manifest = publish_images(listing, store)
    get_run_logger().info("Published version %s with %d images", manifest.version, manifest.count)
    with best_effort("The nearest neighbours"):
        _show_neighbours(Path(store), manifest)
    return manifest


def _store(catalogue: str, data_class: str) -> str:
    """Return the store of a catalogue; a class of data has folders of its own, cache included.

    The class is one that the fleet knows, which the guard has seen to: it names no other place.
    """
    return str(Settings.load().store / JOB.name / data_class / catalogue)


def _report_rejected(examples: tuple[Rejected, ...], count: int) -> None:
    if not examples:
        return
    for row in examples:
        get_run_logger().warning("Left out %s: %s", row.path, row.reason)
    part = f"the first {len(examples)} of {count}" if count > len(examples) else f"all {count}"
    with best_effort("The rejected images"):
        create_table_artifact(
            table_cells([{"image": row.path, "reason": row.reason} for row in examples]),
            key="rejected-images",
            description=f"Images that were left out, and why ({part})",
        )


def _show_neighbours(store: Path, manifest: Manifest) -> None:
    folder = Path(manifest.folder)
    sheet = contact_sheet(Published.open(store, manifest.version), folder)
    create_image_artifact(
        "data:image/png;base64," + base64.b64encode(sheet).decode(),
        key="image-neighbours",
        description="Products and their nearest neighbours in this version",
    )
