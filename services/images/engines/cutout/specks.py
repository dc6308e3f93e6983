"""Telling dust and coding noise from small ink: dots of halftones, full stops, the dots of an i."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from services.images.engines.cutout.key import Distance
from services.images.engines.cutout.surface import Doubles, Mask, Surface, components
from services.images.engines.decode import Pixels

_SMALL = 40  # px
# Noise hardly passes the limit up to which a pixel is ground.
_BARELY, _BARELY_PIXELS = 1.5, 16
# A colour that this share of the artwork has belongs to its palette; levels by which a small part may be off it: coding
# smears the colours of small parts.
_PALETTE_SHARE, _OFF_PALETTE, _OFF_PALETTE_LOSSY = 0.01, 16.0, 40.0
# Nothing else within this many px: a lone speck of a few px is dust though it has the artwork's colour.
_ALONE, _ALONE_PIXELS = 48, 8


def find_specks(colors: Pixels, surface: Surface, distance: Distance, outside: Mask, lossy: bool) -> Mask:
    """Mark the small parts that are no artwork."""
    artwork = ~outside
    labels, stats = components(artwork, 8)
    count, area = len(stats), stats[:, cv2.CC_STAT_AREA]
    small = np.flatnonzero((area < _SMALL) & (np.arange(count) > 0))
    if small.size == 0:
        return np.zeros(outside.shape, bool)
    is_small = np.zeros(count, bool)
    is_small[small] = True
    rows, columns = np.nonzero(is_small[labels])
    number = labels[rows, columns]
    steps = distance.steps[rows, columns].astype(np.int64)
    # The pixel of each small part that is furthest from the ground.
    order = np.lexsort((steps, number))
    last = np.flatnonzero(np.diff(number[order], append=count))
    peak = order[last]
    which = number[peak]
    barely = (steps[peak] <= _BARELY * distance.limit[rows[peak], columns[peak]]) & (area[which] < _BARELY_PIXELS)
    seen = colors[rows[peak], columns[peak]].astype(np.float64)
    where = np.zeros(outside.shape, bool)
    where[rows[peak], columns[peak]] = True
    # `rgb_at` goes by rows and columns.
    by_place = np.lexsort((columns[peak], rows[peak]))
    ground = np.empty_like(seen)
    ground[by_place] = surface.rgb_at(where)
    palette = _palette(colors, artwork)
    off = _off_palette(seen, ground, palette) > (_OFF_PALETTE_LOSSY if lossy else _OFF_PALETTE)
    middles = stats[which, :2] + stats[which, 2:4] // 2
    alone = _is_alone(artwork, middles, area[which]) & (area[which] <= _ALONE_PIXELS)
    specks = np.zeros(count, bool)
    specks[which] = barely | off | alone
    return np.asarray(specks[labels], dtype=bool)


def _palette(colors: Pixels, artwork: Mask) -> Doubles:
    """Main colours of the artwork, shape (n, 3); small parts count where there is little else."""
    solid = cv2.erode(artwork.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(bool)
    if solid.sum() < 0.05 * artwork.sum():
        solid = artwork
    some = colors[solid][:: max(int(solid.sum()) // 200_000, 1)].astype(np.int64)
    steps = some >> 4
    keys = steps[:, 0] << 8 | steps[:, 1] << 4 | steps[:, 2]
    often = np.bincount(keys, minlength=4096)
    main = np.flatnonzero(often >= max(_PALETTE_SHARE * len(keys), 1))
    sums = np.stack([np.bincount(keys, some[:, i], 4096)[main] for i in range(3)], axis=1)
    return np.asarray(sums / often[main][:, np.newaxis])


def _off_palette(seen: Doubles, ground: Doubles, palette: Doubles) -> Doubles:
    """How far colours are from mixtures of the ground and a main colour, which small parts are that are all edge."""
    nearest = np.full(len(seen), np.inf)
    for color in palette:
        span = color - ground
        share = ((seen - ground) * span).sum(axis=1) / np.maximum((span * span).sum(axis=1), 1e-3)
        mixed = ground + np.clip(share, 0, 1.1)[:, np.newaxis] * span
        nearest = np.minimum(nearest, np.linalg.norm(seen - mixed, axis=1))
    return nearest


def _is_alone(artwork: Mask, middles: npt.NDArray[np.int64], area: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    height, width = artwork.shape
    total = cv2.integral(artwork.astype(np.uint8))
    x, y = middles.T
    left, right = np.maximum(x - _ALONE, 0), np.minimum(x + _ALONE + 1, width)
    top, bottom = np.maximum(y - _ALONE, 0), np.minimum(y + _ALONE + 1, height)
    around = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return np.asarray(around <= area)
