"""Published sets of vectors: complete versions, of which one is current.

A version is written to a hidden folder, moved into place whole, and only then named in
``current.json``. A crash at any instant leaves the old version or the new one, never a part.
Publishers take turns on a file lock that the system drops when its holder dies::

    current.json                   the version that readers take
    versions/<version>/vectors.parquet   path, sha256, vector
    versions/<version>/index.npy         the same vectors as a matrix, for exact search
    versions/<version>/manifest.json     what it is made of, with checksums
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

import numpy as np
import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from carbon._errors import BadInput
from flows.image_embeddings._files import replacing, sha256_file, sync
from flows.image_embeddings._store import StoreError, VectorCache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from flows.image_embeddings._catalogue import Listing
    from flows.image_embeddings._network import Model


class NotPublished(StoreError):
    """Nothing has been published in this store yet."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Manifest(_Frozen):
    """What a version is made of.

    Attributes:
        version: Its name; the same files under the same model give the same name.
        created_at: When it was first published, UTC.
        data_cut_off: When the folder was scanned, UTC.
        folder: The images folder, absolute.
        count: Images in it.
        rejected: Files that were left out of it.
        model_digest: SHA-256 of the network's file.
        precision: Number format of the network.
        preprocessing: Identifies how pixels were made.
        dimension: Length of a vector.
        checksums: SHA-256 of each other file of the version.
    """

    version: str
    created_at: AwareDatetime
    data_cut_off: AwareDatetime
    folder: str
    count: int
    rejected: int
    model_digest: str
    precision: str
    preprocessing: str
    dimension: int
    checksums: dict[str, str]


class Pointer(_Frozen):
    """Content of ``current.json``.

    Attributes:
        version: The version that readers take.
        data_cut_off: The latest scan that found just these images.
    """

    version: str
    data_cut_off: AwareDatetime


class Neighbour(_Frozen):
    """An image and how alike it is.

    Attributes:
        path: Path below the images folder.
        score: Cosine similarity, 1 for the same content.
    """

    path: str
    score: float


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
        if not _sound(target):
            _build(target, listing, model, VectorCache(store))
        before = _pointer(store) if (store / "current.json").exists() else None
        if before is None or before.data_cut_off <= listing.scanned_at:
            _point(store, Pointer(version=version, data_cut_off=listing.scanned_at))
        return _manifest(target)


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


def versions(store: Path) -> tuple[Manifest, ...]:
    """Return the manifests of all complete versions, oldest first."""
    folders = (store / "versions").glob("[!.]*/manifest.json")
    manifests = [_manifest(path.parent) for path in folders]
    return tuple(sorted(manifests, key=lambda manifest: (manifest.created_at, manifest.version)))


@dataclass(frozen=True, eq=False)
class Published:
    """A version, loaded and verified.

    Attributes:
        manifest: What it is made of.
        paths: Path of each image below the images folder, sorted.
        vectors: float32, L2 norm 1, shape ``(len(paths), dimension)``.
    """

    manifest: Manifest
    paths: tuple[str, ...]
    vectors: NDArray[np.float32]

    @classmethod
    def open(cls, store: Path, version: str | None = None) -> Self:
        """Load the current version, or a named one, and verify its checksums.

        Raises:
            NotPublished: Nothing is published yet.
            BadInput: There is no version of that name.
            StoreError: A file is damaged.
        """
        name = version or _pointer(store).version
        folder = store / "versions" / name
        if version and version not in {path.name for path in _folders(store)}:
            raise BadInput.unknown("version", version, (path.name for path in _folders(store)))
        manifest = _manifest(folder)
        for file in manifest.checksums:
            if not _matches(folder, manifest, file):
                raise StoreError(
                    f"{folder / file} is missing or damaged. Run the workload again, which "
                    "rebuilds it from the cache."
                )
        vectors = np.load(folder / "index.npy", allow_pickle=False)
        paths = pl.read_parquet(folder / "vectors.parquet", columns=["path"])["path"]
        return cls(manifest, tuple(paths), vectors)

    def nearest(self, query: str | NDArray[np.float32], k: int = 10) -> tuple[Neighbour, ...]:
        """Return the images most like one, best first, by exact search.

        Args:
            query: Path of an image in this version, which then comes first itself, or a vector of
                shape ``(dimension,)`` of any length above zero.
            k: How many.

        Raises:
            BadInput: No image has that path, or the vector has the wrong shape or no direction.
        """
        own, vector = self._resolve(query)
        scores = self.vectors @ vector
        if own is not None:
            scores[own] = np.inf  # before others with the same bytes
        best = np.argsort(-scores, kind="stable")[: max(k, 0)]
        return tuple(
            Neighbour(path=self.paths[row], score=min(float(scores[row]), 1.0)) for row in best
        )

    def _resolve(self, query: str | NDArray[np.float32]) -> tuple[int | None, NDArray[np.float32]]:
        if isinstance(query, str):
            if query not in self.paths:
                raise BadInput.unknown("query", query, self.paths)
            own = self.paths.index(query)
            return own, self.vectors[own]
        norm = float(np.linalg.norm(query))
        if query.shape != (self.manifest.dimension,) or not (np.isfinite(norm) and norm > 0):
            raise BadInput(
                "query",
                f"is no vector of {self.manifest.dimension} finite numbers with a direction",
                "Give a path, or a vector that this model made.",
            )
        return None, (query / norm).astype(np.float32)


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


def _folders(store: Path) -> list[Path]:
    return sorted((store / "versions").glob("[!.]*"))


def _point(store: Path, pointer: Pointer) -> None:
    with replacing(store / "current.json") as part:
        part.write_text(pointer.model_dump_json(), encoding="utf-8")


def _pointer(store: Path) -> Pointer:
    path = store / "current.json"
    try:
        return Pointer.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotPublished(f"nothing is published in {store}. Run the workload first.") from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is damaged. Delete it and run the workload again.") from error


def _manifest(folder: Path) -> Manifest:
    path = folder / "manifest.json"
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{path} is missing or damaged. Run the workload again, which rebuilds it."
        ) from error


def _matches(folder: Path, manifest: Manifest, file: str) -> bool:
    path = folder / file
    return path.is_file() and sha256_file(path) == manifest.checksums[file]


def _sound(folder: Path) -> bool:
    try:
        manifest = _manifest(folder)
    except StoreError:
        return False
    return all(_matches(folder, manifest, file) for file in manifest.checksums)
