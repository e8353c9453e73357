"""What the tests of flows share: the real network once a session, a small shop, made-up vectors."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from flows.image_embeddings._catalogue import Entry, Listing, State
from flows.image_embeddings._encoder import EmbedResult, Encoder
from flows.image_embeddings._network import Model, model_file
from flows.image_embeddings._store import VectorCache
from flows.sample_shop import draw_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The real network."""
    return model_file(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def encoder(model: Model) -> Encoder:
    """The real network in ONNX Runtime."""
    return Encoder(model, threads=2)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Sixteen product pictures; tests that change them copy them first."""
    return draw_catalogue(tmp_path_factory.mktemp("drawn"), count=16)


@pytest.fixture
def shop(drawn: tuple[Path, ...], tmp_path: Path) -> Path:
    """A folder with eight of the pictures, free to change."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for path in drawn[:8]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="session")
def toy_model() -> Model:
    """A network that nobody runs: its vectors are made up, four numbers each."""
    return Model(path=Path("toy.onnx"), digest="0" * 64, dimension=4)


@pytest.fixture(scope="session")
def toy_listing(toy_model: Model) -> Callable[..., Listing]:
    """A function that keeps made-up vectors in a store and lists their images."""

    def build(store: Path, *names: str, minute: int = 0) -> Listing:
        hashes = [hashlib.sha256(name.encode()).hexdigest() for name in sorted(names)]
        seeds = [np.random.default_rng(int(digest[:8], 16)) for digest in hashes]
        vectors = np.stack([seed.normal(size=4).astype(np.float32) for seed in seeds])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        VectorCache(store).write_shard(EmbedResult(tuple(hashes), vectors, ()), toy_model)
        entries = [
            Entry(name, digest, 1, State.NEW)
            for name, digest in zip(sorted(names), hashes, strict=True)
        ]
        moment = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(minutes=minute)
        return Listing("/shop", moment, tuple(entries))

    return build
