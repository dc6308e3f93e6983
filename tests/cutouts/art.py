"""Art with a known alpha: drawn from SVG by a generator of its own, and halftones. RGBA, straight, 0..1."""

from __future__ import annotations

import base64
import io
import math
from functools import lru_cache
from importlib.resources import files
from random import Random

import cv2
import numpy as np
import resvg_py
from PIL import Image, ImageDraw, ImageFont

from services.images.engines.lettering import FONTS
from tests.cutouts.case import Floats

SIDE = 512
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">{body}</svg>'

BADGE = SVG.format(
    side=SIDE,
    body='<circle cx="256" cy="256" r="190" fill="#1c2c48"/><circle cx="256" cy="256" r="150" fill="#ffffff"/>'
    '<path d="M160 320 L256 170 L352 320 Z" fill="#e85d3f"/>'
    '<rect x="120" y="330" width="272" height="40" fill="#f2b63d"/>'
    '<circle cx="256" cy="110" r="14" fill="#f7f3e8"/>',
)
FIGURE = SVG.format(
    side=SIDE,
    body='<path d="M250 60 a46 46 0 1 1 1 0 Z" fill="#ffd23f" stroke="#111" stroke-width="10"/>'
    '<path d="M250 155 L230 300 L170 450 M236 290 L330 440 M240 190 L360 240 M240 190 L130 260" fill="none" '
    'stroke="#111" stroke-width="22" stroke-linecap="round"/>'
    '<path d="M60 200 h90 m-26 -22 l26 22 l-26 22" fill="none" stroke="#0a7d5a" stroke-width="6"/>',
)
PASTEL = SVG.format(
    side=SIDE,
    body='<rect x="90" y="90" width="332" height="332" rx="24" fill="#f0f1f3"/>'
    '<rect x="150" y="150" width="90" height="90" fill="#c8102e"/><circle cx="330" cy="330" r="50" fill="#e6eefc"/>',
)
STAR = SVG.format(
    side=SIDE,
    body='<path d="M256 70 L300 200 L440 200 L326 282 L370 420 L256 336 L142 420 L186 282 L72 200 L212 200 Z" '
    'fill="#c0392b"/>',
)


@lru_cache(maxsize=64)
def draw(svg: str, width: int = SIDE, height: int = SIDE) -> Floats:
    """Draw an SVG."""
    data = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=width, height=height))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"), dtype=np.float64) / 255


def halftone(
    lpi: float, dpi: float = 300, side: int = SIDE, degrees: float = 22.5, color: tuple[float, ...] = (0, 0, 0)
) -> Floats:
    """Dots that grow from left to right until they merge."""
    cell = dpi / lpi
    y, x = np.mgrid[0:side, 0:side].astype(float)
    angle = np.deg2rad(degrees)
    u, v = (x * np.cos(angle) + y * np.sin(angle)) / cell, (-x * np.sin(angle) + y * np.cos(angle)) / cell
    away = np.hypot(u - np.round(u), v - np.round(v)) * cell
    art = np.empty((side, side, 4))
    art[..., :3] = color
    art[..., 3] = np.clip(cell * (0.10 + 0.5 * x / side) - away + 0.5, 0, 1)
    rim = side * 40 // 512
    art[:rim, :, 3] = art[-rim:, :, 3] = art[:, :rim, 3] = art[:, -rim:, 3] = 0
    return art


def label(
    lines: list[str], points: float, dpi: float = 300, color: tuple[int, int, int] = (0, 0, 0), font: str = "manrope"
) -> Floats:
    """A care label: lines of small text at its printed size."""
    size = points / 72 * dpi
    face = _face(font, round(size * 4))
    width = max(face.getlength(line) for line in lines) / 4
    shape = (round(size * 1.4 * len(lines) + 60), round(width + 60))
    big = Image.new("L", (shape[1] * 4, shape[0] * 4))
    pen = ImageDraw.Draw(big)
    for row, line in enumerate(lines):
        pen.text((120, 120 + row * size * 1.4 * 4), line, font=face, fill=255)
    art = np.empty((*shape, 4))
    art[..., :3] = np.array(color) / 255
    art[..., 3] = np.asarray(big.resize((shape[1], shape[0]), Image.Resampling.BOX)) / 255
    return art


def glow(art: Floats, color: tuple[int, int, int], blur: float) -> Floats:
    """Art in front of a soft glow."""
    soft = (cv2.GaussianBlur(art[..., 3], (0, 0), blur) * 1.4).clip(0, 1)
    alpha = art[..., 3] + soft * (1 - art[..., 3])
    mixed = art[..., :3] * art[..., 3:] + np.array(color) / 255 * (soft * (1 - art[..., 3]))[..., None]
    return np.dstack([mixed / np.maximum(alpha, 1e-6)[..., None], alpha])


def invent(seed: int, side: int = SIDE, palette: list[str] | None = None) -> Floats:
    """Random art: a few shapes, strokes, rings and letters in one palette; now and then it leaves the picture."""
    dice = Random(seed)  # noqa: S311 - to be the same again
    colors = palette or [_color(dice) for _ in range(dice.randint(1, 5))]
    kinds = [_blob, _star, _stroke, _ring, _bars, _plate, _word, _dots]
    parts: list[str] = []
    leaves = dice.random() < 0.12
    for _ in range(dice.choice([1, 1, 2, 3, 5, 8])):
        reach = dice.uniform(30, 190)
        room = 10 if leaves else reach + 30
        x, y = dice.uniform(min(room, 256), max(512 - room, 256)), dice.uniform(min(room, 256), max(512 - room, 256))
        parts.append(dice.choice(kinds)(dice, x, y, reach, colors))
    return draw(SVG.format(side=SIDE, body="".join(parts)), side, side)


def _face(font: str, size: int) -> ImageFont.FreeTypeFont:
    package, name = FONTS[font]
    return ImageFont.truetype(str(files(package) / "files" / name), size)


def _color(dice: Random) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(dice.randint(0, 255) for _ in range(3)))


def _points(pairs: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def _outline(dice: Random, colors: list[str]) -> str:
    if dice.random() < 0.5:
        return ""
    return f' stroke="{dice.choice(colors)}" stroke-width="{dice.uniform(2, 16):.1f}" stroke-linejoin="round"'


def _blob(dice: Random, x: float, y: float, reach: float, colors: list[str]) -> str:
    corners = [
        (x + r * math.cos(a), y + r * math.sin(a))
        for a, r in ((i * math.tau / 7, reach * dice.uniform(0.5, 1)) for i in range(7))
    ]
    return f'<polygon points="{_points(corners)}" fill="{dice.choice(colors)}"{_outline(dice, colors)}/>'


def _star(dice: Random, x: float, y: float, reach: float, colors: list[str]) -> str:
    count = dice.randint(4, 9)
    corners = [
        (x + r * math.cos(a), y + r * math.sin(a))
        for a, r in ((i * math.pi / count, reach * (1 if i % 2 else 0.45)) for i in range(2 * count))
    ]
    return f'<polygon points="{_points(corners)}" fill="{dice.choice(colors)}"{_outline(dice, colors)}/>'


def _stroke(dice: Random, x: float, y: float, reach: float, colors: list[str]) -> str:
    at = [(x + dice.uniform(-reach, reach), y + dice.uniform(-reach, reach)) for _ in range(4)]
    path = "M{:.0f} {:.0f} C{:.0f} {:.0f} {:.0f} {:.0f} {:.0f} {:.0f}".format(*(v for pair in at for v in pair))
    width = dice.choice([2, 4, 6, 10, 20, 34])
    return (
        f'<path d="{path}" fill="none" stroke="{dice.choice(colors)}" stroke-width="{width}" '
        f'stroke-linecap="{dice.choice(["butt", "round"])}"/>'
    )


def _ring(dice: Random, x: float, y: float, reach: float, colors: list[str]) -> str:
    width = dice.uniform(0.15, 0.6) * reach
    return (
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{reach - width / 2:.1f}" fill="none" stroke="{dice.choice(colors)}" '
        f'stroke-width="{width:.1f}"/>'
    )


def _bars(dice: Random, x: float, y: float, reach: float, colors: list[str]) -> str:
    step = max(reach / dice.randint(2, 6), 6)
    bars = (
        f'<rect x="{x - reach:.1f}" y="{y - reach + i * step:.1f}" width="{2 * reach:.1f}" height="{step * 0.5:.1f}"/>'
        for i in range(int(2 * reach / step))
    )
    return f'<g fill="{dice.choice(colors)}">{"".join(bars)}</g>'


def _plate(dice: Random, x: float, y: float, reach: float, colors: list[str]) -> str:
    return (
        f'<rect x="{x - reach:.0f}" y="{y - reach * 0.7:.0f}" width="{2 * reach:.0f}" height="{1.4 * reach:.0f}" '
        f'rx="{dice.choice([0, 8, 24])}" fill="{dice.choice(colors)}"{_outline(dice, colors)}/>'
    )


def _dots(dice: Random, x: float, y: float, reach: float, colors: list[str]) -> str:
    color = dice.choice(colors)
    return "".join(
        f'<circle cx="{x + dice.uniform(-reach, reach):.1f}" cy="{y + dice.uniform(-reach, reach):.1f}" '
        f'r="{dice.uniform(1.5, 9):.1f}" fill="{color}"/>'
        for _ in range(dice.randint(3, 30))
    )


def _word(dice: Random, x: float, y: float, reach: float, colors: list[str]) -> str:
    """Letters as outlines, so that no font of the machine matters."""
    word = dice.choice(["Bold", "ROAD 8", "pi.i!", "CAMP", "e?a%", "SURF", "Aged 40"])
    face = _face(dice.choice(list(FONTS)), 200)
    left, top, right, bottom = (int(v) for v in face.getbbox(word))
    mask = Image.new("L", (right - left + 8, bottom - top + 8))
    ImageDraw.Draw(mask).text((4 - left, 4 - top), word, font=face, fill=255)
    buffer = io.BytesIO()
    ink = Image.new("RGBA", mask.size, dice.choice(colors))
    ink.putalpha(mask)
    ink.save(buffer, "PNG")
    scale = 2 * reach / mask.width
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<image x="{x - reach:.1f}" y="{y - mask.height * scale / 2:.1f}" width="{2 * reach:.1f}" '
        f'height="{mask.height * scale:.1f}" href="data:image/png;base64,{data}"/>'
    )
