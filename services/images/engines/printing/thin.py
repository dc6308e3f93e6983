"""Lines and gaps that are too narrow to print.

Blurred by a Gaussian of the deviation s, a line of width w has the value erf(w / (2√2 s)) along its middle, at any
angle and wherever it lies between the pixels. So where no point nearby reaches the value of the least width, the part
is thinner.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, erf, sqrt

import cv2
import numpy as np

from services.images.engines.decode import Pixels
from services.images.engines.printing.size import pixels_of
from services.images.engines.printing.strips import strips

# Shorter ones (mm, and in widths that are looked for) are corners, and ends of lines.
_LEAST_LENGTH = 1.0
_LEAST_RATIO = 1.5
# How opaque a pixel of a line is at least: one of .1 mm may share its width between two.
_LEAST_ALPHA = 64
# The middle of a line may lie half a pixel beside that of the nearest pixel, which lowers its value.
_HALF_PIXEL = 0.06  # px of width


@dataclass(frozen=True, slots=True)
class ThinParts:
    """Masks (0 or 255) of thin lines and gaps, and how many there are of each."""

    lines: Pixels
    gaps: Pixels
    line_count: int
    gap_count: int


def find_thin_parts(alpha: Pixels, line_mm: float, gap_mm: float, sharpen: float = 1.0) -> ThinParts:
    """Where art (alpha before it is hardened) has lines below `line_mm`, or gaps below `gap_mm`; 0 looks for none.

    `sharpen` says how many times the art was enlarged: its edges are as many pixels wide, and are taken as sharp.
    """
    if sharpen > 1:
        levels = np.clip((np.arange(256) - 127.5) * sharpen + 127.5, 0, 255).astype(np.uint8)
        alpha = cv2.LUT(alpha, levels)  # type: ignore[assignment]
    lines, line_count = _narrower(alpha, line_mm, _LEAST_ALPHA)
    gaps, gap_count = _narrower(cv2.bitwise_not(alpha), gap_mm, 128, outside=255)  # type: ignore[arg-type]
    return ThinParts(lines, gaps, line_count, gap_count)


def _narrower(shape: Pixels, least_mm: float, opaque: int, outside: int = 0) -> tuple[Pixels, int]:
    """Mask of the parts of a shape that are narrower, and how many there are; beyond the edges it is `outside`."""
    found = np.zeros_like(shape)
    width = pixels_of(least_mm)
    if width < 1:
        return found, 0
    sigma = width / 2
    value = round(255 * erf((width - _HALF_PIXEL) / (2 * sqrt(2) * sigma)))
    radius = ceil(width / 2) + 2
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    reach = ceil(4 * sigma)
    margin = radius + reach
    for strip in strips(shape.shape[0], margin):
        outer = cv2.copyMakeBorder(
            shape[strip.outer], margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=outside
        )
        blurred = cv2.GaussianBlur(outer, (2 * reach + 1, 2 * reach + 1), sigma)
        highest = cv2.dilate(blurred, disc)[margin:-margin, margin:-margin][strip.inner]
        found[strip.rows] = ((highest < value) & (shape[strip.rows] >= opaque)) * np.uint8(255)
    return _drop_short(found, pixels_of(max(_LEAST_LENGTH, _LEAST_RATIO * least_mm)))


def _drop_short(found: Pixels, least: float) -> tuple[Pixels, int]:
    left, top, width, height = cv2.boundingRect(found)
    if not width:
        return found, 0
    part = found[top : top + height, left : left + width]
    _, labels, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
    long = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) >= least
    long[0] = False
    for strip in strips(height):
        part[strip.rows] = long[labels[strip.rows]] * np.uint8(255)
    return found, int(long.sum())
