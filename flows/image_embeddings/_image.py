"""One image file: read its bytes without harm, decode them into the network's input."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from typing import TYPE_CHECKING, Any

import numpy as np

from carbon._errors import CarbonAwareError
from flows.image_embeddings._extras import extra

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

MAX_BYTES = 50_000_000
"""Larger files are no product pictures, and a file is held in memory whole."""

MAX_PIXELS = 64_000_000
"""About 200 MB once decoded; a file of a few kB may claim far more to exhaust memory."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_READ = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"}
_REFUSED = {".tif", ".tiff", ".heic", ".heif", ".avif"}
SUFFIXES = frozenset(_READ | _REFUSED)
"""Names that say image; those that are not read are still found, to be rejected aloud."""

PREPROCESSING = "rgb-on-white-exif-crop875-bicubic-v1"
"""Names what ``decode`` does; change it whenever the pixels that come out change."""

_CROP = 0.875
"""The network's published evaluation looks at this middle part; squashing the whole picture
instead cost 7 to 10 points of 5-NN accuracy on photos of clothing."""

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")


class Unfit(CarbonAwareError):
    """Why one image is left out. It becomes a ``Rejected`` and never ends a run."""


def read_bytes(file: Path, folder: Path) -> bytes:
    """Return an image file's bytes.

    Raises:
        Unfit: It is unreadable, empty, too large, no image, or a link out of the folder.
    """
    try:
        if file.is_symlink() and not file.resolve(strict=True).is_relative_to(folder.resolve()):
            raise Unfit("is a link out of the folder: copy the file instead")
        data = _read_regular(file)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise Unfit(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise Unfit("is empty")
    if len(data) > MAX_BYTES:
        raise Unfit(f"is larger than {MAX_BYTES // 1_000_000} MB")
    if not (data.startswith(_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")):
        raise Unfit(f"is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image")
    return data


def _read_regular(file: Path) -> bytes:
    # Non-blocking, for a named pipe called x.jpg would hold the whole scan.
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Unfit("is not a regular file")
        return stream.read(MAX_BYTES + 1)


def decode(data: bytes, px: int) -> NDArray[np.uint8]:
    """Decode an image to RGB and scale its middle to a square.

    Args:
        data: Bytes of the file.
        px: Side of the square in pixels.

    Returns:
        Pixels, shape ``(px, px, 3)``.

    Raises:
        Unfit: The bytes cannot be decoded, or there are too many pixels.
    """
    bicubic = extra("PIL.Image").Resampling.BICUBIC
    # The draft must leave px pixels in the middle that is cut out.
    with _opened(data, round(px / _CROP)) as rgb:
        square = rgb.resize((px, px), bicubic, box=_middle(*rgb.size))
        return np.asarray(square, dtype=np.uint8)


def thumbnail(data: bytes, px: int) -> Any:  # noqa: ANN401  Pillow is an optional extra
    """Decode an image and scale it whole to fit into a square.

    Raises:
        Unfit: The bytes cannot be decoded, or there are too many pixels.
    """
    with _opened(data, px) as rgb:
        rgb.thumbnail((px, px))
        return rgb


@contextlib.contextmanager
def _opened(data: bytes, px: int) -> Iterator[Any]:
    try:
        with extra("PIL.Image").open(io.BytesIO(data), formats=FORMATS) as image:
            _require_bounded(*image.size)
            image.draft("RGB", (px, px))  # lets libjpeg skip most of a large picture
            yield _upright_rgb(image)
    except (Unfit, ImportError):
        raise
    except Exception as error:  # Pillow raises some ten types on hostile bytes
        raise Unfit(f"cannot be decoded: {error or type(error).__name__}") from error


def _require_bounded(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unfit(f"has {width} x {height} pixels, more than {MAX_PIXELS // 10**6} million")


def _middle(width: int, height: int) -> tuple[float, float, float, float]:
    side = min(width, height) * _CROP
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _upright_rgb(image: Any) -> Any:  # noqa: ANN401  Pillow is an optional extra
    image = extra("PIL.ImageOps").exif_transpose(image)
    if image.mode == "RGB":
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    # Cut-out product pictures: without a ground, what shows is whatever colour hides below.
    layer = image.convert("RGBA")
    ground = extra("PIL.Image").new("RGBA", layer.size, "white")
    return extra("PIL.Image").alpha_composite(ground, layer).convert("RGB")
