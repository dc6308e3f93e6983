"""Taking the pixels along an outline apart into artwork and ground, so that no fringe of the ground is printed."""

from __future__ import annotations

import cv2
import numpy as np

from services.images.engines.cutout.key import STEPS, Distance
from services.images.engines.cutout.surface import Mask, Surface, strips
from services.images.engines.decode import Pixels

# How far (px) edge mixtures reach to both sides of the outline: antialiasing, and JPEG blocks on top.
_EDGE_REACH = 2
# Share of the light from which a shadow is there at all, and from which one that is kept is solid.
_NO_SHADOW, _FAINT = 0.012, 0.1


def unmix(colors: Pixels, outside: Mask, distance: Distance, surface: Surface) -> Pixels:
    """RGBA in which edge pixels carry the artwork's own colour and the share of it they showed.

    A mixed pixel is share * artwork + (1 - share) * ground; the artwork's colour is that of the nearest pixel that is
    not mixed.
    """
    height, width = outside.shape
    reach = np.ones((2 * _EDGE_REACH + 1,) * 2, np.uint8)
    near_outside = cv2.dilate(outside.astype(np.uint8), reach).astype(bool)
    near_artwork = cv2.dilate((~outside).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    edge = near_outside & near_artwork
    pure = ~near_outside
    # Strokes thinner than the reach have no pure pixels: the one furthest from the ground stands in.
    pure |= ~outside & near_outside & (distance.steps == cv2.dilate(distance.steps, reach))
    _, labels = cv2.distanceTransformWithLabels(
        (~pure).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    palette = np.zeros((int(labels.max()) + 1, 3), np.float32)
    palette[labels[pure]] = colors[pure]

    result = np.empty((height, width, 4), np.uint8)
    result[..., :3] = colors
    result[..., 3] = np.where(outside, 0, 255)
    ground = surface.rgb_at(edge)
    seen = colors[edge].astype(np.float32) - ground
    artwork = palette[labels[edge]]
    span = artwork - ground
    share = (seen * span).sum(axis=1) / np.maximum((span * span).sum(axis=1), 1e-3)
    share = np.clip(share, 0, 1)
    # A pixel that such a mixture does not explain belongs to another colour of the artwork: it is solid.
    off = np.linalg.norm(seen - share[:, np.newaxis] * span, axis=1)
    solid = (off > 12 + 2 / STEPS * (distance.limit[edge] - distance.tolerance)) & ~outside[edge]
    share[solid] = 1
    artwork[solid] = colors[edge][solid]
    result[edge, :3] = np.rint(artwork).astype(np.uint8)
    result[edge, 3] = np.rint(share * 255).astype(np.uint8)
    result[result[..., 3] == 0, :3] = 0
    return result


def lay_shadow(cut_out: Pixels, colors: Pixels, surface: Surface, solid: bool) -> None:
    """Put the shadow that was found back under the artwork, in place.

    It becomes black that is as opaque as it took light away; `solid`: as it was seen, fading out where it is faint.
    """
    for rows in strips(surface.height):
        dark = np.broadcast_to(1 - surface.light_rows(rows), cut_out[rows].shape[:2])
        alpha = cut_out[rows, :, 3].astype(np.float32) / 255
        under = np.clip(dark / _FAINT, 0, 1) if solid else dark
        under = np.where(dark < _NO_SHADOW, 0, under)
        total = alpha + under * (1 - alpha)
        shadow = colors[rows].astype(np.float32) if solid else np.zeros(3, np.float32)
        mixed = cut_out[rows, :, :3] * alpha[..., np.newaxis] + shadow * (under * (1 - alpha))[..., np.newaxis]
        cut_out[rows, :, :3] = np.rint(mixed / np.maximum(total, 1e-3)[..., np.newaxis])
        cut_out[rows, :, 3] = np.rint(total * 255)
