"""Published sets of vectors, as readers see them: complete versions, of which one is current.

::

    current.json                         the version that readers take
    versions/<version>/vectors.parquet   path, sha256, vector
    versions/<version>/index.npy         the same vectors as a matrix, for exact search
    versions/<version>/manifest.json     what it is made of, with checksums
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from carbon._errors import BadInput
from flows.image_embeddings._files import sha256_file
from flows.image_embeddings._store import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


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


def versions(store: Path) -> tuple[Manifest, ...]:
    """Return the manifests of all complete versions, oldest first."""
    folders = (store / "versions").glob("[!.]*/manifest.json")
    manifests = [read_manifest(path.parent) for path in folders]
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
        name = version or read_pointer(store).version
        folder = store / "versions" / name
        if version and version not in {path.name for path in _folders(store)}:
            raise BadInput.unknown("version", version, (path.name for path in _folders(store)))
        manifest = read_manifest(folder)
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


def _folders(store: Path) -> list[Path]:
    return sorted((store / "versions").glob("[!.]*"))


def read_pointer(store: Path) -> Pointer:
    """Return which version is current.

    Raises:
        NotPublished: Nothing is published yet.
        StoreError: The pointer is damaged.
    """
    path = store / "current.json"
    try:
        return Pointer.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotPublished(f"nothing is published in {store}. Run the workload first.") from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is damaged. Delete it and run the workload again.") from error


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a version's folder.

    Raises:
        StoreError: It is missing or damaged.
    """
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


def is_sound(folder: Path) -> bool:
    """Tell whether a version's folder is there and all its checksums hold."""
    try:
        manifest = read_manifest(folder)
    except StoreError:
        return False
    return all(_matches(folder, manifest, file) for file in manifest.checksums)
