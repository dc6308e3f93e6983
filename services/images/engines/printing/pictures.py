"""Pictures for people: where art is too thin, and how it looks on a garment."""

from __future__ import annotations

import cv2
import numpy as np

from services.images.engines.decode import Pixels
from services.images.engines.encode import PRINT_DPI, as_image, encode_image, encode_png
from services.images.engines.printing.thin import ThinParts
from services.images.engines.svg import render_svg

# Classes of pixels and their RGBA: clear, art, lines, gaps.
_COLORS = np.array([[0, 0, 0, 0], [205, 205, 210, 255], [220, 0, 40, 255], [0, 70, 255, 255]], np.uint8)
_RING = 3  # px: marks reach a pixel beyond what they mark; with more, small letters run together

# A T-shirt's front, in inches: as wide as a man's L.
_SHIRT = (
    "M13.6 1.2 Q17 4.6 20.4 1.2 L25.5 2.9 Q27.6 3.8 28.7 5.8 L32.6 12 L28.2 14.6 L26.9 12.4 Q27.3 22 27.2 30.4 "
    "Q17 31.2 6.8 30.4 Q6.7 22 7.1 12.4 L5.8 14.6 L1.4 12 L5.3 5.8 Q6.4 3.8 8.5 2.9 Z"
)
_COLLAR = "M13 1.4 Q17 5.7 21 1.4"
_SEAMS = "M8.5 2.9 Q7.3 7.5 7.1 12.4 M25.5 2.9 Q26.7 7.5 26.9 12.4"
_ROOM = (34, 32)
_CHEST = 6.0  # inches from the top of the drawing to that of the print
_LARGEST = (19.0, 23.5)  # inches: what fits the shirt
_SCALE = 40  # px an inch


def overlay(alpha: Pixels, parts: ThinParts) -> bytes:
    """A PNG of the art in grey, with thin lines in red and narrow gaps in blue."""
    classes = (alpha > 0).astype(np.uint8)
    ring = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_RING, _RING))
    for value, mask in ((2, parts.lines), (3, parts.gaps)):
        if cv2.countNonZero(mask):
            classes[cv2.dilate(mask, ring) > 0] = value
    table = np.zeros((1, 256, 4), np.uint8)
    table[0, : len(_COLORS)] = _COLORS
    colors = as_image(table, "srgb")
    return encode_image(as_image(classes[..., np.newaxis], "b-w").maplut(colors).copy(interpretation="srgb"))


def mock_up(pixels: Pixels, garment: str) -> bytes:
    """A PNG of RGBA print pixels on a shirt of the colour `garment` (#rrggbb), to scale; larger ones on plain cloth."""
    height, width = pixels.shape[:2]
    inches = width / PRINT_DPI, height / PRINT_DPI
    if inches[0] <= _LARGEST[0] and inches[1] <= _LARGEST[1]:
        scale = float(_SCALE)
        cloth = render_svg(_shirt(garment), _ROOM[0] * _SCALE, _ROOM[1] * _SCALE)[..., :3].copy()
        top, left = round(_CHEST * scale), round((_ROOM[0] - inches[0]) / 2 * scale)
    else:
        scale = 1200 / max(inches)
        margin = round(0.06 * max(inches) * scale)
        shape = (round(inches[1] * scale) + 2 * margin, round(inches[0] * scale) + 2 * margin, 3)
        cloth = np.full(shape, [int(garment[at : at + 2], 16) for at in (1, 3, 5)], np.uint8)
        top = left = margin
    size = max(1, round(inches[0] * scale)), max(1, round(inches[1] * scale))
    small = as_image(pixels, "srgb").thumbnail_image(size[0], height=size[1], size="force").numpy()
    ground = cloth[top : top + size[1], left : left + size[0]]
    share = small[..., 3:].astype(np.float32) / 255
    ground[:] = np.rint(small[..., :3] * share + ground * (1 - share))
    return encode_png(cloth)


def _shirt(garment: str) -> str:
    line = '<path d="{}" fill="none" stroke="#{}" stroke-opacity="{}" stroke-width="{}"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_ROOM[0]} {_ROOM[1]}">'
        f'<rect width="{_ROOM[0]}" height="{_ROOM[1]}" fill="#e7e5e1"/>'
        f'<path d="{_SHIRT}" fill="{garment}"/>'
        + "".join(
            line.format(path, tone, opacity, width)
            for path, tone, opacity, width in (
                (_SHIRT, "888", 0.9, 0.08),
                (_COLLAR, "888", 0.7, 0.08),
                (_SEAMS, "888", 0.5, 0.06),
            )
        )
        + "</svg>"
    )
