"""The heavy stage: images in, unit vectors out."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from flows.image_embeddings._catalogue import Item, Rejected
from flows.image_embeddings._extras import extra
from flows.image_embeddings._image import Unfit, decode, read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flows.image_embeddings._network import Model

_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class EmbedResult:
    """Vectors of some images.

    Attributes:
        hashes: Content digest of each image that was embedded.
        vectors: One row for each digest, float32, L2 norm 1, shape ``(len(hashes), dimension)``.
        rejected: Images that were left out.
    """

    hashes: tuple[str, ...]
    vectors: NDArray[np.float32]
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True)
class _Decoded:
    item: Item
    pixels: NDArray[np.uint8] | None
    fault: str


def _ignore(_done: int, _total: int) -> None:
    """Tell nobody."""


class Encoder:
    """The network in ONNX Runtime, on the GPU where one can be used, else on the CPU.

    Args:
        model: The network.
        threads: Threads for arithmetic and, beside them, for decoding; default: all usable cores.

    Raises:
        ImportError: The extra ``images`` is not installed.
    """

    def __init__(self, model: Model, threads: int | None = None) -> None:
        runtime = extra("onnxruntime")
        extra("PIL.Image")
        self.model = model
        self._threads = threads or usable_cores()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Idle threads would spin for the next batch: energy for nothing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
        if "CUDAExecutionProvider" in runtime.get_available_providers():
            # TF32 would round to ten bits and give vectors unlike the CPU's under the same key.
            providers.insert(0, ("CUDAExecutionProvider", {"use_tf32": "0"}))
        self._session = runtime.InferenceSession(
            model.path, sess_options=options, providers=providers
        )

    @property
    def device(self) -> str:
        """What it runs on: ``cuda`` or ``cpu``."""
        return "cuda" if "CUDAExecutionProvider" in self._session.get_providers() else "cpu"

    def embed(
        self,
        items: Sequence[Item],
        folder: Path,
        batch: int = 16,
        progress: Callable[[int, int], None] = _ignore,
    ) -> EmbedResult:
        """Embed images; those that cannot be are reported, and the rest goes on.

        Args:
            items: The images, as listed.
            folder: The folder that their paths stand below.
            batch: Images that the network takes at a time.
            progress: Called after each batch with images done and images in all.
        """
        hashes: list[str] = []
        rows: list[NDArray[np.float32]] = []
        rejected: list[Rejected] = []
        done = 0
        for group in self._decoded_batches(items, folder, batch):
            kept: list[tuple[Item, NDArray[np.uint8]]] = []
            for image in group:
                if image.pixels is None:
                    rejected.append(Rejected(image.item.path, image.fault))
                else:
                    kept.append((image.item, image.pixels))
            if kept:
                rows.append(self.vectors(np.stack([pixels for _, pixels in kept])))
                hashes.extend(item.sha256 for item, _ in kept)
            done += len(group)
            progress(done, len(items))
        empty = np.empty((0, self.model.dimension), np.float32)
        return EmbedResult(tuple(hashes), np.concatenate([empty, *rows]), tuple(rejected))

    def vectors(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the unit vectors of decoded images.

        Args:
            pixels: RGB, shape ``(n, input_px, input_px, 3)``.

        Returns:
            float32, shape ``(n, dimension)``.
        """
        scaled = (pixels.astype(np.float32) - 127.0) / 128.0
        network_input = np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
        (features,) = self._session.run(None, {"pixels": network_input})
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        unit: NDArray[np.float32] = features / np.maximum(norms, np.finfo(np.float32).tiny)
        return unit

    def _decoded_batches(
        self, items: Sequence[Item], folder: Path, batch: int
    ) -> Iterator[list[_Decoded]]:
        """Decode in threads while the network computes, a bounded number of batches ahead."""
        waiting = iter(items)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool:
            ahead: deque[list[Future[_Decoded]]] = deque()

            def submit(group: Iterable[Item]) -> None:
                futures = [pool.submit(self._decode, item, folder) for item in group]
                if futures:
                    ahead.append(futures)

            for _ in range(_BATCHES_AHEAD):
                submit(islice(waiting, batch))
            while ahead:
                group = [future.result() for future in ahead.popleft()]
                submit(islice(waiting, batch))
                yield group

    def _decode(self, item: Item, folder: Path) -> _Decoded:
        try:
            data = read_bytes(folder / item.path, folder)
            if hashlib.sha256(data).hexdigest() != item.sha256:
                return _Decoded(item, None, "changed after it was listed; the next run takes it up")
            return _Decoded(item, decode(data, self.model.input_px), "")
        except Unfit as fault:
            return _Decoded(item, None, str(fault))


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
