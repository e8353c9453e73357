"""A picture for people: a few images, each beside those most like it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from flows.image_embeddings._extras import extra
from flows.image_embeddings._image import Unfit, read_bytes, thumbnail

if TYPE_CHECKING:
    from pathlib import Path

    from flows.image_embeddings._published import Neighbour, Published

_TILE_PX = 128
_CAPTION_PX = 34
_GAP_PX = 12
_INK, _FAINT, _PAPER = "#1c2430", "#6b7480", "#ffffff"


def contact_sheet(published: Published, folder: Path, queries: int = 4, k: int = 5) -> bytes:
    """Draw images, evenly picked by path, each with its nearest neighbours and their scores.

    Args:
        published: The version to look into.
        folder: The images folder; an image that is gone or changed for the worse is left blank.
        queries: Rows.
        k: Neighbours a row.

    Returns:
        PNG bytes.
    """
    rows = _picked(published.paths, queries)
    columns = min(k, len(published.paths) - 1) + 1
    width = columns * (_TILE_PX + _GAP_PX) + 2 * _GAP_PX
    height = len(rows) * (_TILE_PX + _CAPTION_PX + _GAP_PX) + _GAP_PX
    sheet = extra("PIL.Image").new("RGB", (width, height), _PAPER)
    for row, path in enumerate(rows):
        top = _GAP_PX + row * (_TILE_PX + _CAPTION_PX + _GAP_PX)
        for column, neighbour in enumerate(published.nearest(path, columns)):
            # The query stands a little apart from what was found.
            left = _GAP_PX + column * (_TILE_PX + _GAP_PX) + (_GAP_PX if column else 0)
            _tile(sheet, (left, top), neighbour, folder, is_query=column == 0)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _picked(paths: tuple[str, ...], count: int) -> list[str]:
    count = min(count, len(paths))
    return [paths[(2 * index + 1) * len(paths) // (2 * count)] for index in range(count)]


def _tile(
    sheet: Any,  # noqa: ANN401  Pillow is an optional extra
    corner: tuple[int, int],
    neighbour: Neighbour,
    folder: Path,
    *,
    is_query: bool,
) -> None:
    left, top = corner
    pen = extra("PIL.ImageDraw").Draw(sheet)
    try:
        picture = thumbnail(read_bytes(folder / neighbour.path, folder), _TILE_PX)
        indent = ((_TILE_PX - picture.width) // 2, (_TILE_PX - picture.height) // 2)
        sheet.paste(picture, (left + indent[0], top + indent[1]))
    except Unfit:
        pen.text((left + 8, top + 8), "gone", fill=_FAINT)
    frame = (left - 1, top - 1, left + _TILE_PX, top + _TILE_PX)
    pen.rectangle(frame, outline=_INK if is_query else "#d5dae0", width=2 if is_query else 1)
    font = extra("PIL.ImageFont").load_default(size=12)
    name = neighbour.path.rsplit("/", 1)[-1]
    pen.text((left, top + _TILE_PX + 3), _fit(pen, name, font), fill=_INK, font=font)
    note = "looked up" if is_query else f"alike {neighbour.score:.3f}"
    pen.text((left, top + _TILE_PX + 18), note, fill=_FAINT, font=font)


def _fit(pen: Any, text: str, font: Any) -> str:  # noqa: ANN401  Pillow is an optional extra
    if pen.textlength(text, font=font) <= _TILE_PX:
        return text
    while text and pen.textlength(text + "...", font=font) > _TILE_PX:
        text = text[:-1]
    return text + "..."
