"""The image-embeddings job: what it needs, and the flows that carry it out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from carbon import Hardware, Need, Stage, Workload
from deployments import Job, Schedule, Settings
from flows.image_embeddings._catalogue import require_images, resolve_folder


def images_folder(images: str, settings: Settings) -> Path:
    """Return the folder with product images; empty means ``CARBON_HOME/images``.

    Raises:
        BadInput: It is missing, is no folder, or lies outside the folders that flows may read.
    """
    return resolve_folder(images or str(settings.home / "images"), settings.roots)


def check_images(parameters: Mapping[str, Any], settings: Settings) -> None:
    """Refuse a wrong images folder before a run is created or waits.

    Raises:
        BadInput: See :func:`images_folder`; or it holds no image.
    """
    require_images(images_folder(str(parameters.get("images") or ""), settings))


JOB = Job(
    workload=Workload(
        name="image-embeddings",
        data_class="public",
        # Sized for a nightly increment of 50,000 new images: ours are starting points, declared and
        # not learned. fp32 embeds 65 images per CPU-second on a Zen 3 core (measured, decoding
        # included), so 13 minutes of one core, or 3.5 of the four of a CPU pool. The times leave
        # room for a catalogue with a backlog; a GPU is bound by decoding and assumed twice as fast.
        # 50,000 JPEGs of 60 kB are 3 GB, the vectors of 1280 floats that come back 0.26 GB.
        # Twenty minutes are not worth a pause. For a catalogue of hours declare `interruptible`:
        # the flow keeps its vectors every few seconds, and pauses as it is planned.
        stages=(
            Stage(
                name="list",
                needs={Hardware.CPU: Need(p50=timedelta(minutes=2), p95=timedelta(minutes=5))},
            ),
            Stage(
                name="embed",
                heavy=True,
                needs={
                    Hardware.GPU: Need(p50=timedelta(minutes=20), p95=timedelta(minutes=40)),
                },
                data_in_gb=3.0,
                data_out_gb=0.26,
            ),
            Stage(
                name="publish",
                needs={Hardware.CPU: Need(p50=timedelta(minutes=2), p95=timedelta(minutes=5))},
            ),
        ),
    ),
    description="Embeds new product images and publishes vectors and index.",
    entrypoint="flows.image_embeddings.image_embeddings",
    heavy={"embed": "flows.image_embeddings.embed"},
    check=check_images,
    # To be switched on once there is a folder of images.
    schedules=(
        Schedule(slug="nightly", cron="0 20 * * *", timezone="Europe/Berlin", active=False),
    ),
)
