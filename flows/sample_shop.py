"""A small shop to try the flows on, drawn instead of downloaded.

``draw_catalogue(folder)`` fills a folder with product pictures. The same arguments give the same
bytes with the same Pillow, and more pictures never change the ones before them::

    from pathlib import Path
    from flows.sample_shop import draw_catalogue

    draw_catalogue(Path("catalogue"), count=60)
"""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from carbon._errors import BadInput

try:
    from PIL import Image, ImageChops, ImageDraw, ImageFilter
except ImportError as missing:
    raise ImportError(
        "The sample shop draws with Pillow. Run: pip install 'carbon-aware-flows[images]'",
        name="PIL",
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Sequence

SIDE_PX = 320
_DRAWN_PX = 2 * SIDE_PX  # drawn large and scaled down: smooth edges

Point = tuple[float, float]
Colour = tuple[int, int, int]

_COLOURS: dict[str, Colour] = {
    "teal": (28, 138, 140),
    "coral": (236, 104, 88),
    "navy": (38, 56, 104),
    "mustard": (220, 170, 44),
    "olive": (112, 124, 62),
    "plum": (118, 58, 110),
    "sky": (112, 176, 222),
    "brick": (166, 62, 48),
    "charcoal": (66, 70, 78),
    "sand": (208, 184, 148),
}
_GROUNDS: tuple[Colour, ...] = ((250, 250, 250), (243, 240, 235), (236, 240, 244), (247, 244, 250))
_PATTERNS = ("plain", "plain", "stripes", "dots", "checks")


@dataclass(frozen=True)
class _Part:
    """A patch of a product, in a square from 0 to 1.

    Attributes:
        points: Outline; ``curve`` rounds it, ``width`` draws it as an open line instead.
        tone: Brightness relative to the product's colour.
        pattern: Whether the product's pattern covers it.
        colour: Overrides the product's colour.
    """

    points: tuple[Point, ...]
    tone: float = 1.0
    pattern: bool = False
    curve: bool = True
    width: float = 0.0
    colour: Colour | None = None


def _oval(x: float, y: float, half_width: float, half_height: float) -> tuple[Point, ...]:
    angles = [2 * math.pi * step / 32 for step in range(32)]
    return tuple((x + half_width * math.cos(a), y + half_height * math.sin(a)) for a in angles)


def _neckline(y: float, half_width: float, depth: float) -> tuple[Point, ...]:
    return tuple(point for point in _oval(0.5, y, half_width, depth) if point[1] >= y)


def _mirrored(*left: Point) -> tuple[Point, ...]:
    """Close an outline whose left half is given from top to bottom."""
    return (*left, *((1 - x, y) for x, y in reversed(left)))


_WOOD: Colour = (150, 104, 64)
_STEEL: Colour = (150, 156, 164)
_GLOW: Colour = (255, 236, 186)
_SOLE: Colour = (240, 240, 236)

_PRODUCTS: dict[str, tuple[_Part, ...]] = {
    "t-shirt": (
        _Part(
            _mirrored((0.36, 0.17), (0.08, 0.34), (0.17, 0.50), (0.28, 0.44), (0.28, 0.86)),
            pattern=True,
            curve=False,
        ),
        _Part(_neckline(0.17, 0.12, 0.09), tone=0.6),
        _Part(((0.28, 0.44), (0.30, 0.34)), tone=0.75, curve=False, width=0.008),
        _Part(((0.72, 0.44), (0.70, 0.34)), tone=0.75, curve=False, width=0.008),
    ),
    "mug": (
        _Part(((0.66, 0.38), (0.88, 0.36), (0.90, 0.62), (0.66, 0.68)), tone=0.9, width=0.055),
        _Part(
            ((0.22, 0.26), (0.70, 0.26), (0.70, 0.70), (0.67, 0.82), (0.25, 0.82), (0.22, 0.70)),
            pattern=True,
            curve=False,
        ),
        _Part(_oval(0.46, 0.265, 0.24, 0.06), tone=1.15),
        _Part(_oval(0.46, 0.272, 0.205, 0.045), tone=0.45),
    ),
    "shoe": (
        _Part(
            (
                (0.10, 0.40),
                (0.22, 0.38),
                (0.36, 0.36),
                (0.44, 0.42),
                (0.58, 0.54),
                (0.78, 0.60),
                (0.91, 0.66),
                (0.91, 0.74),
                (0.08, 0.74),
            ),
            pattern=True,
        ),
        _Part(((0.10, 0.40), (0.36, 0.36), (0.33, 0.43), (0.13, 0.46)), tone=0.55),
        _Part(((0.06, 0.71), (0.93, 0.71), (0.95, 0.79), (0.05, 0.79)), colour=_SOLE),
        _Part(((0.42, 0.49), (0.50, 0.41)), curve=False, width=0.016, colour=_SOLE),
        _Part(((0.49, 0.54), (0.57, 0.46)), curve=False, width=0.016, colour=_SOLE),
        _Part(((0.56, 0.58), (0.64, 0.51)), curve=False, width=0.016, colour=_SOLE),
    ),
    "bag": (
        _Part(((0.34, 0.42), (0.36, 0.10), (0.64, 0.10), (0.66, 0.42)), tone=0.65, width=0.035),
        _Part(((0.22, 0.36), (0.78, 0.36), (0.86, 0.86), (0.14, 0.86)), pattern=True, curve=False),
        _Part(((0.22, 0.36), (0.78, 0.36), (0.80, 0.45), (0.20, 0.45)), tone=0.78, curve=False),
        _Part(_oval(0.5, 0.45, 0.03, 0.03), colour=_STEEL),
    ),
    "lamp": (
        _Part(((0.5, 0.45), (0.5, 0.84)), curve=False, width=0.03, colour=_STEEL),
        _Part(_oval(0.5, 0.85, 0.17, 0.035), colour=_STEEL),
        _Part(_oval(0.5, 0.47, 0.17, 0.05), colour=_GLOW),
        _Part(((0.36, 0.14), (0.64, 0.14), (0.76, 0.48), (0.24, 0.48)), pattern=True, curve=False),
    ),
    "chair": (
        _Part(((0.28, 0.60), (0.22, 0.90)), curve=False, width=0.035, colour=_WOOD),
        _Part(((0.72, 0.60), (0.78, 0.90)), curve=False, width=0.035, colour=_WOOD),
        _Part(((0.38, 0.60), (0.36, 0.80)), curve=False, width=0.026, colour=_WOOD),
        _Part(((0.62, 0.60), (0.64, 0.80)), curve=False, width=0.026, colour=_WOOD),
        _Part(((0.26, 0.10), (0.50, 0.07), (0.74, 0.10), (0.72, 0.52), (0.28, 0.52)), pattern=True),
        _Part(((0.26, 0.52), (0.74, 0.52), (0.82, 0.64), (0.18, 0.64)), tone=0.82),
    ),
    "dress": (
        _Part(
            _mirrored((0.40, 0.09), (0.35, 0.09), (0.34, 0.24), (0.38, 0.42), (0.20, 0.90)),
            pattern=True,
            curve=False,
        ),
        _Part(_neckline(0.09, 0.09, 0.10), tone=0.6),
        _Part(((0.375, 0.40), (0.625, 0.40), (0.63, 0.445), (0.37, 0.445)), tone=0.6, curve=False),
    ),
    "hat": (
        _Part(_oval(0.5, 0.66, 0.43, 0.12), tone=0.85),
        _Part(
            (
                (0.28, 0.66),
                (0.30, 0.34),
                (0.42, 0.27),
                (0.50, 0.31),
                (0.58, 0.27),
                (0.70, 0.34),
                (0.72, 0.66),
                (0.50, 0.70),
            ),
            pattern=True,
        ),
        _Part(
            ((0.28, 0.59), (0.72, 0.59), (0.725, 0.66), (0.50, 0.685), (0.275, 0.66)),
            tone=0.45,
            curve=False,
        ),
    ),
}


def draw_catalogue(folder: Path, count: int = 60, seed: int = 7) -> tuple[Path, ...]:
    """Draw product pictures into a folder; files that already hold the same bytes are left alone.

    Args:
        folder: Where to; made if it is not there.
        count: Number of pictures.
        seed: Another number gives another shop.

    Returns:
        The pictures, in the order drawn: JPEG, 320 x 320 pixels, e.g. ``mug-teal-03.jpg``.

    Raises:
        BadInput: The count is below one, or the folder is a file.
    """
    if count < 1:
        raise BadInput("count", f"{count} is no number of pictures", "Give 1 or more.")
    if folder.exists() and not folder.is_dir():
        raise BadInput("folder", f"{str(folder)!r} is a file", "Give a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_draw_one(folder, index, seed) for index in range(count))


def _draw_one(folder: Path, index: int, seed: int) -> Path:
    kinds = tuple(_PRODUCTS)
    kind, number = kinds[index % len(kinds)], index // len(kinds) + 1
    chance = random.Random(f"{seed}/{index}")  # noqa: S311  a drawing, no secret
    name = chance.choice(tuple(_COLOURS))
    data = _jpeg(_picture(_PRODUCTS[kind], _COLOURS[name], chance))
    path = folder / f"{kind}-{name}-{number:02d}.jpg"
    if not path.exists() or path.read_bytes() != data:
        part = path.with_suffix(".part")
        part.write_bytes(data)
        part.replace(path)
    return path


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _picture(parts: Sequence[_Part], colour: Colour, chance: random.Random) -> Image.Image:
    product = _product(parts, colour, _pattern(chance.choice(_PATTERNS), colour, chance))
    turned = product.rotate(chance.uniform(-4, 4), Image.Resampling.BILINEAR)
    side = round(_DRAWN_PX * chance.uniform(0.78, 0.92))
    wide = round(side * chance.uniform(0.92, 1.0))
    placed = Image.new("RGBA", (_DRAWN_PX, _DRAWN_PX))
    placed.paste(
        turned.resize((wide, side), Image.Resampling.BILINEAR),
        ((_DRAWN_PX - wide) // 2, (_DRAWN_PX - side) // 2),
    )
    scene = _studio(chance.choice(_GROUNDS))
    scene.paste((0, 0, 0), (0, _DRAWN_PX // 60), _shadow(placed))
    scene.paste(placed, (0, 0), placed)
    return scene.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)


def _studio(ground: Colour) -> Image.Image:
    light = Image.linear_gradient("L").resize((_DRAWN_PX, _DRAWN_PX))
    floor = Image.new("RGB", light.size, tuple(round(part * 0.9) for part in ground))
    floor.paste(ground, (0, 0), ImageChops.invert(light))
    return floor


def _shadow(placed: Image.Image) -> Image.Image:
    soft = placed.getchannel("A").filter(ImageFilter.GaussianBlur(_DRAWN_PX / 50))
    return soft.point([value * 70 // 255 for value in range(256)])


def _product(parts: Sequence[_Part], colour: Colour, cloth: Image.Image) -> Image.Image:
    image = Image.new("RGBA", (_DRAWN_PX, _DRAWN_PX))
    for part in parts:
        mask = _mask(part)
        flat = Image.new("RGB", image.size, _toned(part.colour or colour, part.tone))
        image.paste(cloth if part.pattern else flat, (0, 0), mask)
    return _shaded(image)


def _shaded(product: Image.Image) -> Image.Image:
    # Light from the upper left: the right side falls to three quarters.
    fall = Image.linear_gradient("L").rotate(90).resize(product.size)
    light = fall.point([255 - (255 - value) // 4 for value in range(256)])
    keep = Image.new("L", product.size, 255)
    return ImageChops.multiply(product, Image.merge("RGBA", (light, light, light, keep)))


def _mask(part: _Part) -> Image.Image:
    mask = Image.new("L", (_DRAWN_PX, _DRAWN_PX))
    is_line = part.width > 0
    points = _rounded(part.points, is_open=is_line) if part.curve else list(part.points)
    scaled = [(x * _DRAWN_PX, y * _DRAWN_PX) for x, y in points]
    pen = ImageDraw.Draw(mask)
    if is_line:
        pen.line(scaled, fill=255, width=round(part.width * _DRAWN_PX), joint="curve")
    else:
        pen.polygon(scaled, fill=255)
    return mask


def _rounded(points: Sequence[Point], *, is_open: bool, rounds: int = 3) -> list[Point]:
    """Cut corners again and again (Chaikin), which ends in a smooth curve."""
    rounded = list(points)
    for _ in range(rounds):
        nexts = rounded[1:] if is_open else [*rounded[1:], rounded[0]]
        cut = [
            point
            for here, there in zip(rounded, nexts, strict=False)
            for point in (_between(here, there, 0.25), _between(here, there, 0.75))
        ]
        rounded = [rounded[0], *cut, rounded[-1]] if is_open else cut
    return rounded


def _between(here: Point, there: Point, share: float) -> Point:
    return here[0] + (there[0] - here[0]) * share, here[1] + (there[1] - here[1]) * share


def _toned(colour: Colour, tone: float) -> Colour:
    red, green, blue = (min(255, round(part * tone)) for part in colour)
    return red, green, blue


def _pattern(name: str, colour: Colour, chance: random.Random) -> Image.Image:
    cloth = Image.new("RGB", (_DRAWN_PX, _DRAWN_PX), colour)
    second = _toned(colour, 0.68) if sum(colour) > 330 else _toned(colour, 1.9)  # noqa: PLR2004
    step = chance.choice((32, 44, 54))
    pen = ImageDraw.Draw(cloth)
    for row, top in enumerate(range(0, _DRAWN_PX, step)):
        if name in ("stripes", "checks"):
            pen.rectangle((0, top, _DRAWN_PX, top + step // 3), fill=second)
        if name == "dots":
            for left in range((row % 2) * step // 2, _DRAWN_PX, step):
                pen.ellipse((left, top, left + step // 3, top + step // 3), fill=second)
    if name == "checks":
        for left in range(0, _DRAWN_PX, step):
            pen.rectangle((left, 0, left + step // 3, _DRAWN_PX), fill=_toned(second, 0.85))
    return cloth
