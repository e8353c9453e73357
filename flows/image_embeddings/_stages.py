"""The three stages as plain functions: list, embed, publish.

What passes between them is a URI and a few counts. A listing is the one artefact: the embed stage
hands on a copy in which the images that it could not embed are marked as rejected.
"""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from carbon import BadInput
from flows.image_embeddings._catalogue import Listing, Rejected, resolve_folder, scan
from flows.image_embeddings._encoder import Encoder
from flows.image_embeddings._files import local_path, replacing
from flows.image_embeddings._network import model_file
from flows.image_embeddings._publish import publish
from flows.image_embeddings._published import Manifest
from flows.image_embeddings._store import VectorCache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHARD_IMAGES = 1024
"""Images after which vectors are kept: what a crash of the embed stage can lose."""

_SHOWN = 20


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Listed(_Frozen):
    """Result of the list stage.

    Attributes:
        listing: URI of the listing.
        folder: The images folder, absolute.
        images: Files found, rejected ones included.
        new: Contents to embed.
        unchanged: Images whose vectors are in the cache.
        duplicates: Images with the same bytes as another one.
        rejected: Files left out.
        examples: The first of those, with reasons.
    """

    listing: str
    folder: str
    images: int
    new: int
    unchanged: int
    duplicates: int
    rejected: int
    examples: tuple[Rejected, ...]


class Embedded(_Frozen):
    """Result of the embed stage.

    Attributes:
        listing: URI of the listing to publish.
        shards: URIs of the vectors that were added to the cache.
        embedded: Images embedded now.
        rejected: Files left out by now, those of the list stage included.
        examples: The first of those, with reasons.
        device: ``cpu`` or ``cuda``; empty where there was nothing to embed.
        cpu_seconds: Processor time that embedding took in this process, over all threads.
        left: Images that are still to be embedded, where it has stopped to pause.
    """

    listing: str
    shards: tuple[str, ...]
    embedded: int
    rejected: int
    examples: tuple[Rejected, ...]
    device: str
    cpu_seconds: float
    left: int = 0


def list_images(images: str, store: str, *, roots: Sequence[Path]) -> Listed:
    """Light stage: list the images folder and find what is new.

    Args:
        images: Path or ``file://`` URI of the folder.
        store: Path or ``file://`` URI of the store.
        roots: Folders that images may be read from.

    Raises:
        BadInput: The folder or the store is no good, or the folder holds no usable image.
        ImportError: The extra ``images`` is not installed.
    """
    folder, place = resolve_folder(images, roots), local_path("store", store)
    model = model_file(place / "models")
    listing = scan(folder, VectorCache(place).known(model))
    listing.require_usable()
    return Listed(
        listing=_keep(listing, place),
        folder=listing.folder,
        images=len(listing.entries),
        new=len(listing.items),
        unchanged=listing.unchanged,
        duplicates=listing.duplicates,
        rejected=len(listing.rejected),
        examples=listing.rejected[:_SHOWN],
    )


def embed_images(
    listing: str,
    store: str,
    *,
    roots: Sequence[Path],
    threads: int | None = None,
    batch: int = 16,
    shard: int = SHARD_IMAGES,
    until: datetime | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Embedded:
    """Heavy stage: embed what is new. A run after a crash or a pause goes on where the last ended.

    The result is also left at ``result_path(listing, store)``, once nothing is left to embed.

    Args:
        listing: URI from the list stage.
        store: Path or ``file://`` URI of the store.
        roots: Folders that images may be read from.
        threads: Threads; default: all usable cores.
        batch: Images that the network takes at a time.
        shard: Images after which vectors are kept.
        until: When to pause: after the shard that is then under way.
        progress: Called after each batch with images done and images in all.

    Raises:
        BadInput: The listing is no listing, its folder is gone, or no image is left to publish.
        ImportError: The extra ``images`` is not installed.
    """
    place = local_path("store", store)
    found = Listing.read(_listing_path(listing, place))
    folder = resolve_folder(found.folder, roots)
    model, cache = model_file(place / "models"), VectorCache(place)
    known = cache.known(model)
    items = [item for item in found.items if item.sha256 not in known]
    started = time.process_time()
    encoder = Encoder(model, threads) if items else None
    shards: list[str] = []
    rejected: list[Rejected] = []
    done = 0
    while done < len(items) and not (done and until and datetime.now(UTC) >= until):
        assert encoder is not None
        result = encoder.embed(
            items[done : done + shard],
            folder,
            batch,
            lambda more, _, before=done: progress(before + more, len(items)),  # type: ignore[misc]
        )
        rejected.extend(result.rejected)
        if written := cache.write_shard(result, model):
            shards.append(written.resolve().as_uri())
        done = min(done + shard, len(items))
    outcome, left = found.rejecting(rejected), len(items) - done
    if not left:
        outcome.require_usable()
    embedded = Embedded(
        # After a pause it goes on from the same listing, and finds the vectors that are kept.
        listing=listing if left else _keep(outcome, place),
        shards=tuple(shards),
        embedded=done - len(rejected),
        rejected=len(outcome.rejected),
        examples=outcome.rejected[:_SHOWN],
        device=encoder.device if encoder else "",
        cpu_seconds=time.process_time() - started,
        left=left,
    )
    if not left:
        with replacing(result_path(listing, store)) as part:
            part.write_text(embedded.model_dump_json(), encoding="utf-8")
    return embedded


def result_path(listing: str, store: str) -> Path:
    """Return where the embed stage leaves its result for a listing, for whoever dispatched it.

    Args:
        listing: URI that the embed stage was given.
        store: Path or ``file://`` URI of the store.

    Raises:
        BadInput: The listing does not lie in the store.
    """
    return _listing_path(listing, local_path("store", store)).with_suffix(".embedded.json")


def publish_images(listing: str, store: str) -> Manifest:
    """Light stage: publish the images of a listing as the current version.

    Args:
        listing: URI from the embed stage.
        store: Path or ``file://`` URI of the store.

    Raises:
        BadInput: The listing is no listing.
        StoreError: An image has no vector in the cache.
    """
    place = local_path("store", store)
    found = Listing.read(_listing_path(listing, place))
    return publish(place, found, model_file(place / "models"))


def _listing_path(listing: str, store: Path) -> Path:
    """Return the file of a listing; a parameter may not lead out of the store."""
    path = local_path("listing", listing).resolve()
    if not path.is_relative_to(store.resolve()):
        raise BadInput("listing", f"{listing!r} is not in the store", "Pass the list stage's URI.")
    return path


def _keep(listing: Listing, store: Path) -> str:
    # Named by content, so that a stage that runs twice leaves one file.
    text = "\n".join([listing.folder, *map(repr, listing.entries)])
    path = store / "listings" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.parquet"
    listing.write(path)
    return path.resolve().as_uri()
