"""Image embeddings: only what changed is embedded, and what comes out is published at once."""

from __future__ import annotations

from flows.image_embeddings._job import JOB
from flows.image_embeddings._publish import switch
from flows.image_embeddings._published import Manifest, Neighbour, Published
from flows.image_embeddings.flow import embed, image_embeddings

__all__ = ["JOB", "Manifest", "Neighbour", "Published", "embed", "image_embeddings", "switch"]
