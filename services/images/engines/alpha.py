"""Colours of see-through pixels."""

from __future__ import annotations

import cv2
import numpy as np

from services.images.engines.decode import Pixels


def bleed_colors(pixels: Pixels) -> Pixels:
    """RGB of an RGBA picture in which see-through pixels take the colour of the nearest solid one.

    What lies under transparent pixels is arbitrary, often black, and would bleed into the edges as a
    fringe when neighbouring pixels are mixed.
    """
    colors, alpha = pixels[..., :3].copy(), pixels[..., 3]
    solid = alpha == 255
    if not solid.any():
        solid = alpha == alpha.max()
    if solid.all():
        return colors
    _, labels = cv2.distanceTransformWithLabels(
        (~solid).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    palette = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    palette[labels[solid]] = colors[solid]
    clear = alpha == 0
    colors[clear] = palette[labels[clear]]
    return colors
