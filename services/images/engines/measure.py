"""Cheap measures of a picture that several engines decide by."""

from __future__ import annotations

import cv2
import numpy as np

from services.images.engines.decode import Pixels

_SAMPLE_SIDE = 512


def flat_share(pixels: Pixels) -> float:
    """Share (0..1) of visible pixels whose 3 x 3 neighbourhood is practically one colour.

    Drawn art is mostly areas of one colour, a photo has grain and shading everywhere. Measured on a
    full-resolution crop from the middle, since shrinking a photo would make it look smoother.
    """
    height, width = pixels.shape[:2]
    top, left = max(0, (height - _SAMPLE_SIDE) // 2), max(0, (width - _SAMPLE_SIDE) // 2)
    crop = pixels[top : top + _SAMPLE_SIDE, left : left + _SAMPLE_SIDE]
    colors = np.ascontiguousarray(crop[..., :3])
    kernel = np.ones((3, 3), np.uint8)
    spread = (cv2.dilate(colors, kernel) - cv2.erode(colors, kernel)).max(axis=2)
    visible = crop[..., 3] > 0 if crop.shape[2] == 4 else np.ones(spread.shape, bool)
    if not visible.any():
        return 1.0
    return float((spread[visible] <= 6).mean())
