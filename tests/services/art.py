"""Reference artwork with a known truth: a flat badge with lettering, drawn large and averaged down."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from importlib.resources import files
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels: TypeAlias = npt.NDArray[np.uint8]

NAVY = (27, 45, 72)
CREAM = (247, 234, 205)
CORAL = (232, 93, 63)
MUSTARD = (240, 178, 62)
TEAL = (46, 125, 118)

# The drawing's own pixels; every size that divides this is an exact average.
MASTER = 4096


@lru_cache(maxsize=1)
def _master() -> Image.Image:
    art = Image.new("RGBA", (MASTER, MASTER), (0, 0, 0, 0))
    draw = ImageDraw.Draw(art)
    _disc(draw, 0.5, 0.46, 0.42, NAVY)
    _disc(draw, 0.5, 0.46, 0.402, CREAM)
    _disc(draw, 0.5, 0.46, 0.392, NAVY)
    _disc(draw, 0.5, 0.46, 0.285, MUSTARD)
    scene = Image.new("RGBA", art.size, (0, 0, 0, 0))
    scenery = ImageDraw.Draw(scene)
    _disc(scenery, 0.5, 0.40, 0.115, CORAL)
    _polygon(scenery, [(0.2, 0.62), (0.37, 0.38), (0.46, 0.50), (0.56, 0.33), (0.8, 0.64)], TEAL)
    _polygon(scenery, [(0.56, 0.33), (0.515, 0.41), (0.55, 0.40), (0.575, 0.425), (0.618, 0.405)], CREAM)
    _polygon(scenery, [(0.2, 0.60), (0.8, 0.60), (0.8, 0.8), (0.2, 0.8)], NAVY)
    for x in (0.33, 0.40, 0.61, 0.68):
        _pine(scenery, x, 0.62, 0.15)
    art.paste(scene, (0, 0), Image.composite(scene.getchannel("A"), Image.new("L", art.size), _inside(0.277)))
    _text_on_arc(art, "PINE RIDGE", "font_fredoka_one", "FredokaOne-Regular.ttf", 0.085, 0.305, -90, CREAM)
    for angle in (158, 22):
        _star(draw, 0.5 + 0.338 * _cos(angle), 0.46 + 0.338 * _sin(angle), 0.03, MUSTARD)
    # The ribbon is wider than the badge, so the outline is not a plain disc.
    _polygon(draw, [(0.04, 0.74), (0.2, 0.74), (0.2, 0.89), (0.04, 0.89), (0.085, 0.815)], CORAL)
    _polygon(draw, [(0.96, 0.74), (0.8, 0.74), (0.8, 0.89), (0.96, 0.89), (0.915, 0.815)], CORAL)
    _polygon(draw, [(0.12, 0.70), (0.88, 0.70), (0.88, 0.85), (0.12, 0.85)], NAVY)
    _polygon(draw, [(0.127, 0.707), (0.873, 0.707), (0.873, 0.843), (0.127, 0.843)], CORAL)
    _centered_text(draw, "OUTFITTERS", "font_manrope", "Manrope-ExtraBold.ttf", 0.105, 0.775, CREAM)
    _centered_text(draw, "EST. 2019", "font_manrope", "Manrope-Bold.ttf", 0.05, 0.93, NAVY)
    return art


def _cos(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def _sin(degrees: float) -> float:
    return math.sin(math.radians(degrees))


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, color: tuple[int, int, int]) -> None:
    box = [v * MASTER for v in (x - radius, y - radius, x + radius, y + radius)]
    draw.ellipse(box, fill=color)


def _inside(radius: float) -> Image.Image:
    mask = Image.new("L", (MASTER, MASTER), 0)
    box = [v * MASTER for v in (0.5 - radius, 0.46 - radius, 0.5 + radius, 0.46 + radius)]
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask


def _polygon(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], color: tuple[int, int, int]) -> None:
    draw.polygon([(x * MASTER, y * MASTER) for x, y in points], fill=color)


def _pine(draw: ImageDraw.ImageDraw, x: float, base: float, height: float) -> None:
    for level in range(3):
        top = base - height + level * height * 0.25
        half = height * (0.16 + 0.07 * level)
        _polygon(draw, [(x, top), (x + half, top + height * 0.45), (x - half, top + height * 0.45)], NAVY)


def _star(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, color: tuple[int, int, int]) -> None:
    points = []
    for corner in range(10):
        reach = radius if corner % 2 == 0 else radius * 0.42
        points.append((x + reach * _cos(corner * 36 - 90), y + reach * _sin(corner * 36 - 90)))
    _polygon(draw, points, color)


def _font(package: str, name: str, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(files(package) / "files" / name), round(size * MASTER))


def _centered_text(
    draw: ImageDraw.ImageDraw,
    text: str,
    package: str,
    name: str,
    size: float,
    y: float,
    color: tuple[int, int, int],
) -> None:
    draw.text((MASTER / 2, y * MASTER), text, font=_font(package, name, size), fill=color, anchor="mm")


def _text_on_arc(
    art: Image.Image,
    text: str,
    package: str,
    name: str,
    size: float,
    radius: float,
    middle: float,
    color: tuple[int, int, int],
) -> None:
    font = _font(package, name, size)
    advances = [font.getlength(letter) + 0.012 * MASTER for letter in text]
    at = -sum(advances) / 2
    side = round(size * MASTER * 2)
    for letter, advance in zip(text, advances, strict=True):
        angle = middle + math.degrees((at + advance / 2) / (radius * MASTER))
        stamp = Image.new("L", (side, side), 0)
        ImageDraw.Draw(stamp).text((side / 2, side / 2), letter, font=font, fill=255, anchor="ms")
        turned = stamp.rotate(-(angle + 90), resample=Image.Resampling.BICUBIC)
        x, y = (0.5 + radius * _cos(angle)) * MASTER, (0.46 + radius * _sin(angle)) * MASTER
        art.paste(color, (round(x - side / 2), round(y - side / 2)), turned)
        at += advance


@lru_cache(maxsize=8)
def badge(size: int) -> Pixels:
    """RGBA truth of shape (size, size, 4), straight alpha, averaged from the master in linear alpha."""
    premultiplied = _master().convert("RGBa").resize((size, size), Image.Resampling.BOX)
    return np.asarray(premultiplied.convert("RGBA"))


def badge_on(size: int, background: tuple[int, int, int]) -> Pixels:
    """RGB badge on a plain background; edges mix badge and background as a rasteriser would."""
    canvas = Image.new("RGBA", (MASTER, MASTER), (*background, 255))
    canvas.alpha_composite(_master())
    return np.asarray(canvas.convert("RGB").resize((size, size), Image.Resampling.BOX))


def encode(pixels: Pixels, file_format: str, **options: object) -> bytes:
    """Encode pixels with Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def decode_png(data: bytes) -> Pixels:
    """Pixels of a result."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)
