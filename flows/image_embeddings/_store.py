"""The vector cache: what was embedded once is never embedded again.

Layout below the store folder; all of it can be deleted and is rebuilt::

    vectors/<model key>/<digest>.parquet   shards: sha256, vector
    versions/, current.json                see ``_published``
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from carbon._errors import CarbonAwareError
from flows.image_embeddings._files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flows.image_embeddings._encoder import EmbedResult
    from flows.image_embeddings._network import Model

_log = logging.getLogger(__name__)


class StoreError(CarbonAwareError):
    """The store lacks something, or holds something damaged."""


@dataclass(frozen=True)
class VectorCache:
    """Vectors by content and by all that they depend on.

    Attributes:
        store: The store folder; made when first written to.
    """

    store: Path

    def known(self, model: Model) -> set[str]:
        """Return the digests of all contents that have a vector of this model."""
        hashes: set[str] = set()
        for frame in self._shards(model, "sha256"):
            hashes.update(frame["sha256"])
        return hashes

    def write_shard(self, result: EmbedResult, model: Model) -> Path | None:
        """Keep vectors, atomically.

        The name follows from the content, so a stage that runs twice leaves one shard.

        Returns:
            The shard, or ``None`` where there is no vector to keep.
        """
        if not result.hashes:
            return None
        name = hashlib.sha256("\n".join(result.hashes).encode()).hexdigest()[:16]
        path = self._folder(model) / f"{name}.parquet"
        frame = pl.DataFrame({"sha256": list(result.hashes), "vector": result.vectors})
        with replacing(path) as part:
            frame.write_parquet(part)
        return path

    def vectors(self, model: Model, hashes: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of contents, in the order asked for.

        Returns:
            float32, shape ``(len(hashes), dimension)``.

        Raises:
            StoreError: Some content has no vector.
        """
        row: dict[str, int] = {}
        found: list[NDArray[np.float32]] = [np.empty((0, model.dimension), np.float32)]
        wanted = set(hashes)
        for frame in self._shards(model, "sha256", "vector"):
            fresh = frame.filter(pl.col("sha256").is_in(list(wanted - row.keys())))
            fresh = fresh.unique("sha256", keep="first", maintain_order=True)
            row.update(zip(fresh["sha256"], range(len(row), len(row) + len(fresh)), strict=True))
            found.append(fresh["vector"].to_numpy().reshape(len(fresh), model.dimension))
        missing = wanted - row.keys()
        if missing:
            raise StoreError(
                f"{len(missing)} of {len(wanted)} images have no vector in the cache, for it was "
                "cleared or the embed stage did not end. Run the workload again."
            )
        matrix: NDArray[np.float32] = np.concatenate(found)[[row[digest] for digest in hashes]]
        return matrix

    def _folder(self, model: Model) -> Path:
        return self.store / "vectors" / model.key

    def _shards(self, model: Model, *columns: str) -> Iterator[pl.DataFrame]:
        # Sorted, so that of two vectors for one content the same one is always taken.
        for path in sorted(self._folder(model).glob("[!.]*.parquet")):
            try:
                frame = _read_shard(path, columns, model.dimension)
            except (OSError, pl.exceptions.PolarsError, StoreError) as error:
                # Its images count as unknown, so the next run embeds them again.
                _log.warning("Ignoring the damaged shard %s: %s", path, error)
            else:
                yield frame


def _read_shard(path: Path, columns: Sequence[str], dimension: int) -> pl.DataFrame:
    if pl.read_parquet_schema(path).get("vector") != pl.Array(pl.Float32, dimension):
        raise StoreError("holds no vectors of this model")
    return pl.read_parquet(path, columns=list(columns))
