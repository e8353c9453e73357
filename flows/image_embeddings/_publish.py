"""Publishing: a version is made whole out of sight, moved into place, and only then made current.

A crash at any instant leaves the old version or the new one, never a part. Publishers take turns
on a file lock, which the system drops when its holder dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flows.image_embeddings._files import replacing, sha256_file, sync
from flows.image_embeddings._published import (
    Manifest,
    Pointer,
    Published,
    is_sound,
    read_manifest,
    read_pointer,
)
from flows.image_embeddings._store import VectorCache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flows.image_embeddings._catalogue import Listing
    from flows.image_embeddings._network import Model


def publish(store: Path, listing: Listing, model: Model) -> Manifest:
    """Publish the images of a listing as the current version.

    All accepted images must have been embedded. If the current version comes from a later scan,
    which happens when runs overtake each other, the version is kept and not made current.

    Raises:
        BadInput: Every file of the listing was rejected.
        StoreError: An image has no vector in the cache.
    """
    listing.require_usable()
    version = _version(listing, model)
    with _turn(store):
        target = store / "versions" / version
        if not is_sound(target):
            _build(target, listing, model, VectorCache(store))
        before = read_pointer(store) if (store / "current.json").exists() else None
        if before is None or before.data_cut_off <= listing.scanned_at:
            _point(store, Pointer(version=version, data_cut_off=listing.scanned_at))
        return read_manifest(target)


def switch(store: Path, version: str) -> Manifest:
    """Make another kept version current, e.g. to roll back. The next publish goes on from there.

    Raises:
        BadInput: There is no such version.
        StoreError: It is damaged.
    """
    with _turn(store):
        manifest = Published.open(store, version).manifest
        _point(store, Pointer(version=version, data_cut_off=manifest.data_cut_off))
    return manifest


def _version(listing: Listing, model: Model) -> str:
    lines = [model.digest, model.precision, model.preprocessing, listing.folder]
    lines += [f"{entry.sha256} {entry.path} {entry.reason}" for entry in listing.entries]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _build(target: Path, listing: Listing, model: Model, cache: VectorCache) -> None:
    vectors = cache.vectors(model, [entry.sha256 for entry in listing.accepted])
    part = target.with_name(f".{target.name}.part")
    part.mkdir(parents=True)
    pl.DataFrame(
        {
            "path": [entry.path for entry in listing.accepted],
            "sha256": [entry.sha256 for entry in listing.accepted],
            "vector": vectors,
        }
    ).write_parquet(part / "vectors.parquet")
    np.save(part / "index.npy", vectors, allow_pickle=False)
    manifest = Manifest(
        version=target.name,
        created_at=datetime.now(UTC),
        data_cut_off=listing.scanned_at,
        folder=listing.folder,
        count=len(listing.accepted),
        rejected=len(listing.rejected),
        model_digest=model.digest,
        precision=model.precision,
        preprocessing=model.preprocessing,
        dimension=model.dimension,
        checksums={name: sha256_file(part / name) for name in ("index.npy", "vectors.parquet")},
    )
    (part / "manifest.json").write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    for file in (*part.iterdir(), part):
        sync(file)
    if target.exists():
        shutil.rmtree(target)  # damaged, or there would be nothing to build
    part.replace(target)
    sync(target.parent)


@contextlib.contextmanager
def _turn(store: Path) -> Iterator[None]:
    folder = store / "versions"
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(store / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for part in folder.glob(".*.part"):  # of a publisher that died, for nobody else is at it
            shutil.rmtree(part)
        yield
    finally:
        os.close(handle)


def _point(store: Path, pointer: Pointer) -> None:
    with replacing(store / "current.json") as part:
        part.write_text(pointer.model_dump_json(), encoding="utf-8")
