"""Embedding: stable vectors, and one bad image never spoils the rest."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flows.image_embeddings import _image
from flows.image_embeddings._catalogue import scan
from flows.image_embeddings._image import Unfit, decode
from flows.sample_shop import draw_catalogue

if TYPE_CHECKING:
    from pathlib import Path

    from flows.image_embeddings._encoder import Encoder


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The file that Pillow writes for an image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_same_bytes_give_the_same_unit_vector(encoder: Encoder, shop: Path) -> None:
    """Twice the same images: equal vectors to the bit, of length one."""
    items = scan(shop, set()).items
    first, second = encoder.embed(items, shop), encoder.embed(items, shop)
    np.testing.assert_array_equal(first.vectors, second.vectors)
    np.testing.assert_allclose(np.linalg.norm(first.vectors, axis=1), 1.0, atol=1e-5)
    assert first.vectors.dtype == np.float32
    assert first.hashes == tuple(item.sha256 for item in items)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_batch_size_does_not_change_vectors(encoder: Encoder, shop: Path, batch: int) -> None:
    """How many images travel together is a matter of speed alone; progress ends at the total."""
    items = scan(shop, set()).items
    calls: list[tuple[int, int]] = []
    usual = encoder.embed(items, shop)
    other = encoder.embed(items, shop, batch, lambda done, total: calls.append((done, total)))
    np.testing.assert_allclose(other.vectors, usual.vectors, atol=1e-4)
    assert calls == [(min(n, 8), 8) for n in range(batch, 8 + batch, batch)]


def test_bad_images_are_reported_and_the_rest_goes_on(encoder: Encoder, shop: Path) -> None:
    """Cut off, changed and vanished since the scan: each has its reason, five are embedded."""
    cut, changed, gone, *_ = sorted(shop.iterdir())
    cut.write_bytes(cut.read_bytes()[:2000])
    items = scan(shop, set()).items
    changed.write_bytes(changed.read_bytes() + b"more")
    gone.unlink()
    result = encoder.embed(items, shop, batch=2)
    reasons = {fault.path: fault.reason for fault in result.rejected}
    assert set(reasons) == {cut.name, changed.name, gone.name}
    assert "cannot be decoded" in reasons[cut.name]
    assert "changed after it was listed" in reasons[changed.name]
    assert "cannot be read" in reasons[gone.name]
    assert len(result.hashes) == len(result.vectors) == 5


def test_nothing_embeddable_gives_an_empty_matrix(encoder: Encoder, tmp_path: Path) -> None:
    """All images bad is a result with the right shape; the stage decides what it means."""
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff and no more")
    result = encoder.embed(scan(tmp_path, set()).items, tmp_path)
    assert result.vectors.shape == (0, 1280)
    assert len(result.rejected) == 1


def test_a_decompression_bomb_is_refused_unopened() -> None:
    """A few bytes that claim 87 million pixels are judged by their header."""
    head = struct.pack(">IIBBBBB", 30_000, 2_900, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    data += struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 0) + b"IDAT5\xafa\x1e"
    with pytest.raises(Unfit, match="has 30000 x 2900 pixels"):
        decode(data, 224)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_every_format_gives_the_same_picture(kind: str, mode: str) -> None:
    """A grey square is grey in each format and colour mode that is read."""
    if (kind, mode) == ("JPEG", "P"):
        mode = "CMYK"
    image = Image.new("RGB", (300, 260), (102, 102, 102)).convert(mode)
    pixels = decode(encoded(image, kind), 224)
    assert pixels.shape == (224, 224, 3)
    assert np.abs(pixels.astype(int) - 102).max() <= 3


def test_transparency_is_laid_on_white() -> None:
    """A cut-out shows white around it, whatever colour the invisible pixels have."""
    image = Image.new("RGBA", (256, 256), (255, 0, 0, 0))
    assert decode(encoded(image, "PNG"), 224).min() == 255


def test_a_picture_taken_sideways_is_turned() -> None:
    """The camera's orientation mark is obeyed: left becomes top."""
    image = Image.new("RGB", (256, 256), "white")
    image.paste((0, 0, 0), (0, 0, 128, 256))
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode(encoded(image, "JPEG", exif=exif, quality=95), 224)
    assert pixels[:100].max() < 30
    assert pixels[-100:].min() > 225


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound picture to damage."""
    return draw_catalogue(tmp_path_factory.mktemp("one"), count=1)[0].read_bytes()


@given(data=st.data())
def test_damaged_bytes_never_crash(jpeg: bytes, data: st.DataObject) -> None:
    """Whatever happens to a file, decoding gives pixels of the right shape or our own error."""
    at = data.draw(st.integers(0, len(jpeg)))
    patch = data.draw(st.binary(max_size=8))
    end = data.draw(st.sampled_from([len(jpeg), at + len(patch)]))
    damaged = jpeg[:at] + patch + jpeg[at + len(patch) : end]
    with contextlib.suppress(Unfit):
        assert decode(damaged, 224).shape == (224, 224, 3)


def test_preprocessing_has_a_name_of_its_own(encoder: Encoder) -> None:
    """The name of the preprocessing is part of the key under which vectors are kept."""
    assert _image.PREPROCESSING in encoder.model.key
    assert encoder.model.digest[:16] in encoder.model.key
