"""The white below the colours, drawn in so that it does not show at their edges."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from services.images.engines.decode import Pixels
from services.images.engines.printing.size import pixels_of
from services.images.engines.printing.strips import strips

# White art is the white itself: there the colours print nothing.
_PURE_WHITE = (250, 250, 250, 0)
_ALL = (255, 255, 255, 255)
# The choke takes this share of a part's half width at most. With less, corners of thick parts, in which only smaller
# discs fit, would get more white than their sides: on the diagonal of a right angle, a disc of radius 1 ends .29 from
# the sides, and widths are rounded down by a step.
_SHARE = 0.45
# Widths of parts are told apart in steps of this ratio.
_STEP = 2 / 3
_NEIGHBORS = np.ones((3, 3), np.uint8)
_THINNEST = 1.0  # px, half the width: below nothing is drawn in


def underbase(pixels: Pixels, choke_mm: float) -> Pixels:
    """The white (0 to 255) below RGBA pixels, its edges `choke_mm` inside those of the art.

    Where a part is thinner than four times the choke, the choke is at most .45 of half its width, so that nothing is
    left without white. There is no choke under pure white. Semi-transparent pixels get as much white as they are
    opaque.
    """
    alpha = pixels[..., 3]
    choke = pixels_of(choke_mm)
    if choke < 0.5:
        return alpha.copy()
    white = np.zeros_like(alpha)
    halo = int(np.ceil(2 * choke / _SHARE)) + 2
    for strip in strips(alpha.shape[0], halo):
        outer = pixels[strip.outer]
        if not cv2.countNonZero(np.ascontiguousarray(outer[..., 3])):
            continue
        art = (outer[..., 3] > 0).astype(np.uint8)
        drawn_in = _draw_in(art, choke, outer.shape[0] == strip.inner.stop, strip.inner.start == 0)
        kept = drawn_in[strip.inner] | (cv2.inRange(pixels[strip.rows], _PURE_WHITE, _ALL) > 0)
        white[strip.rows] = np.where(kept, alpha[strip.rows], 0)
    return white


def _draw_in(art: Pixels, choke: float, at_bottom: bool, at_top: bool) -> npt.NDArray[np.bool_]:
    """Of a mask of 0 and 1 what stays; the sheet's own edges are edges of the art."""
    padded = cv2.copyMakeBorder(art, int(at_top), int(at_bottom), 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[int(at_top) : int(at_top) + art.shape[0], 1:-1]
    stays = np.zeros(art.shape, bool)
    left = art.astype(bool)
    half_width = choke / _SHARE
    while half_width >= _THINNEST:
        # What a disc of this radius reaches inside the art is at least so thick. Discs stay within the art, so no part
        # counts as thick for one beside it.
        core = (depth <= half_width).astype(np.uint8)
        if cv2.countNonZero(core) < core.size:
            thick = cv2.distanceTransform(core, cv2.DIST_L2, 5) <= half_width
            thick &= left
            stays |= thick & (depth > min(choke, half_width * _SHARE) + 0.5)
            left &= ~thick
            if not left.any():
                break
        half_width *= _STEP
    # What is left is a hair, or the tip of a corner: that belongs to the thick part, and ends within two pixels of it.
    thick_and_tips = art * ~left
    for _ in range(2):
        thick_and_tips = np.minimum(np.asarray(cv2.dilate(thick_and_tips, _NEIGHBORS), np.uint8), art)
    return np.asarray(stays | (left & (thick_and_tips == 0)))
