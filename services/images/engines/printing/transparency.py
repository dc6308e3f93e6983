"""Semi-transparency, which prints as a fringe of white: hard edges, a halftone, and garments that show through.

Round dots at 22.5° follow the practice of screen printing: see "What shops ask for" in docs/print.md.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from services.images.engines.decode import Pixels
from services.images.engines.encode import PRINT_DPI
from services.images.engines.printing.strips import strips

_HALF = 128
_ANGLE = np.deg2rad(22.5)
# What counts as solid and as clear: no tone of the printable 2 to 98 %.
_SOLID = 251
_CLEAR = 4
# An antialiased edge is narrower than this (px); broader semi-transparency is a tone.
_EDGE = 5
# A dot of .25 mm has 6.8 px². As many as this make dots that have 7 px wherever they lie on the grid of pixels.
_LEAST_DOT = 9.6  # px²
_LEVELS = 4096
# Steps of the additive sequence R2, whose points are spread evenly over the plane however many are taken
# (M. Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018).
_R2 = (0.7548776662466927, 0.5698402909980532)
# ΔE above the tolerance over which a knocked-out colour fades in, as a multiple of the tolerance.
_RAMP = 1.0


def harden(alpha: Pixels) -> Pixels:
    """Alpha of 0 or 255: what is half opaque or more stays."""
    return cv2.threshold(alpha, _HALF - 1, 255, cv2.THRESH_BINARY)[1]  # type: ignore[return-value]


def halftone(alpha: Pixels, lpi: int) -> Pixels:
    """Alpha of 0 or 255 that shows tones as round dots, `lpi` lines of them an inch at 22.5°.

    No dot, and no hole of a dark tone, is smaller than .25 mm across: where the tone asks for less, whole ones are left
    out evenly. The mean of a tone is kept. Edges narrower than a tone are hardened. The pattern is a function of the
    place in the picture alone, so there are no seams.
    """
    edge = np.ones((_EDGE, _EDGE), np.uint8)
    semi = cv2.inRange(alpha, _CLEAR + 1, _SOLID - 1)
    tones = cv2.morphologyEx(semi, cv2.MORPH_OPEN, edge)
    result = harden(alpha)
    if not cv2.countNonZero(tones):
        return result
    cell = PRINT_DPI / lpi
    around = 2 * int(np.ceil(cell / 2)) + 1
    near = cv2.dilate(tones, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (around, around)))
    # Edges of what is solid beside a tone stay edges.
    near[(semi > 0) & (cv2.dilate(tones, edge) == 0)] = 0
    near[alpha >= _SOLID] = 0
    smooth = int(cell) // 2 * 2 + 1
    mean = np.asarray(cv2.blur(alpha, (smooth, smooth), borderType=cv2.BORDER_REPLICATE), np.uint8)
    for strip in strips(alpha.shape[0]):
        y, x = np.nonzero(near[strip.rows])
        if len(y):
            y += strip.rows.start
            result[y, x] = np.where(_is_printed(mean, x, y, cell), 255, 0)
    return result


def _is_printed(mean: Pixels, x: npt.NDArray[np.intp], y: npt.NDArray[np.intp], cell: float) -> npt.NDArray[np.bool_]:
    """Whether the pixels lie on dots; the tone of a dot, or of a hole, is that at its centre."""
    cosine, sine = np.cos(_ANGLE) / cell, np.sin(_ANGLE) / cell
    u, v = (x * cosine + y * sine).astype(np.float32), (y * cosine - x * sine).astype(np.float32)
    rank = _ranks()[_spot(u, v)]
    least = np.float32(_LEAST_DOT / cell**2)
    tone, left_out = _tone(mean, np.rint(u), np.rint(v), cell)
    dots = rank < _sizes(tone, left_out, least)
    tone_of_hole, left_out = _tone(mean, np.floor(u) + np.float32(0.5), np.floor(v) + np.float32(0.5), cell)
    holes = 1 - rank < _sizes(1 - tone_of_hole, left_out, least)
    return np.where(tone <= 0.5, dots, ~holes)


def _sizes(
    share: npt.NDArray[np.float32], left_out: npt.NDArray[np.float32], least: np.float32
) -> npt.NDArray[np.float32]:
    """The share of its cell that each dot covers: at least `least`, or none so often that the mean is kept."""
    return np.where(share >= least, share, np.where(share > left_out * least, least, np.float32(0)))


def _tone(
    mean: Pixels, u: npt.NDArray[np.float32], v: npt.NDArray[np.float32], cell: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The tone (0..1) at points of the screen, and the figures in 0..1 by which they are left out."""
    cosine, sine = np.float32(np.cos(_ANGLE) * cell), np.float32(np.sin(_ANGLE) * cell)
    height, width = mean.shape
    column = np.clip(np.rint(u * cosine - v * sine), 0, width - 1).astype(np.intp)
    row = np.clip(np.rint(u * sine + v * cosine), 0, height - 1).astype(np.intp)
    left_out = np.mod(np.floor(u) * _R2[0] + np.floor(v) * _R2[1], 1).astype(np.float32)
    return mean[row, column].astype(np.float32) / np.float32(255), left_out


def _spot(u: npt.NDArray[np.float32], v: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """How far points are from the centres of dots, as a level: round around dots and around holes."""
    turn = np.float32(2 * np.pi)
    distance = (2 - np.cos(turn * u) - np.cos(turn * v)) / 4
    level: npt.NDArray[np.intp] = np.minimum(distance * _LEVELS, _LEVELS - 1).astype(np.intp)
    return level


@lru_cache(maxsize=1)
def _ranks() -> npt.NDArray[np.float32]:
    """Of each level of the spot function the share of a cell that lies below it."""
    place = (np.arange(1024, dtype=np.float32) + 0.5) / 1024
    across, down = np.meshgrid(place, place)
    levels = _spot(across.astype(np.float32), down.astype(np.float32))
    counts = np.bincount(levels.ravel(), minlength=_LEVELS)
    below = np.cumsum(counts) - counts / 2
    return np.asarray(below / counts.sum(), np.float32)


def knock_out(pixels: Pixels, garment: str, tolerance: float, *, unmix: bool) -> Pixels:
    """RGBA of RGB or RGBA pixels in which the colour `garment` (#rrggbb) is clear, for the garment to show there.

    Clear are colours up to `tolerance` (CIE76 ΔE) from it; up to twice that they fade in. With `unmix` these take the
    colour that gives the old one over the garment, else they stay as they are.
    """
    height, width = pixels.shape[:2]
    result = np.empty((height, width, 4), np.uint8)
    ground = np.array([[[int(garment[at : at + 2], 16) for at in (1, 3, 5)]]], np.float32)
    target = cv2.cvtColor(ground / 255, cv2.COLOR_RGB2LAB)
    for strip in strips(height):
        colors = pixels[strip.rows, :, :3].astype(np.float32)
        lab = cv2.cvtColor(colors / np.float32(255), cv2.COLOR_RGB2LAB)
        distance = np.sqrt(np.square(lab - target).sum(axis=2))
        share = np.clip((distance - tolerance) / np.float32(_RAMP * tolerance), 0, 1)
        if unmix:
            fading = (share > 0) & (share < 1)
            at = share[fading][:, np.newaxis]
            colors[fading] = np.clip(ground[0] + (colors[fading] - ground[0]) / at, 0, 255)
        alpha = pixels[strip.rows, :, 3] if pixels.shape[2] == 4 else np.float32(255)
        result[strip.rows, :, :3] = np.rint(colors)
        result[strip.rows, :, 3] = np.rint(share * alpha)
    return result
