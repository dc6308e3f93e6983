"""Soft shadows that artwork throws on its ground: where they are, and how dark."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from services.images.engines.cutout.surface import Floats, Mask, Surface, components, soft_contact
from services.images.engines.decode import Pixels

WORK_SIDE = 768
_LIKENESS_SIDE = 144
# A shadow takes away between this much of the light and that much.
_FAINTEST, _FAINTEST_LOSSY, _DARKEST = 0.012, 0.02, 0.75
# Levels that a shadow may change in a px of the reduced picture, and the share of its depth there; outlines, of faint
# plates too, change faster.
_STEEPEST, _STEEPEST_SHARE = 9.0, 0.15
# Levels by which a shadow may differ from its ground made darker.
_OFF_NEUTRAL, _OFF_NEUTRAL_LOSSY = 5.0, 9.0
_DIMMEST_GROUND = 60.0
_LEAST_SHARE = 0.002
# Share of its contour towards the ground on which a shadow fades; a plate that leaks in one place has an edge else.
_LEAST_CONTACT = 0.5
# Even grey is artwork where little of its contour fades: it spans so many px of the reduced picture, and varies by no
# more than so many levels around a px. The middle of a broad shadow is even, too, but fades.
_EVEN_SIDE, _EVEN, _EVEN_LOSSY, _LEAST_DEPTH, _LEAST_FADING = 7, 1.5, 5.0, 0.06, 0.3
# What artwork encloses is shaded, too, if its light varies; flat grey is a filling.
_LEAST_VARIATION = 0.012


@dataclass(frozen=True, slots=True)
class Shade:
    """What is left of the ground's light (0..1) at a reduced size, and where (full size) the ground is shaded."""

    light: Floats
    mask: Mask


def find_shade(colors: Pixels, surface: Surface, outside: Mask, lossy: bool) -> Shade | None:
    """Find what continues the ground smoothly and is that ground made darker; None where there is none."""
    height, width = outside.shape
    scale = min(WORK_SIDE / max(height, width), 1)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    if min(size) < 16:
        return None
    small = cv2.resize(colors, size, interpolation=cv2.INTER_AREA)
    picture = (cv2.medianBlur(small, 5) if lossy else small).astype(np.float32)
    ground = surface.rgb[:1, :1] if surface.is_flat else cv2.resize(surface.rgb, size)
    if ground.max(axis=2).min() < _DIMMEST_GROUND:
        return None
    free = cv2.resize(outside.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) > 250
    light = (picture * ground).sum(axis=2) / (ground * ground).sum(axis=2)
    soft = cv2.GaussianBlur(light, (0, 0), 2 if lossy else 1)
    slope = np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=1 / 8))
    brightest = ground.max(axis=2)
    slope *= brightest
    depth = cv2.dilate((1 - soft) * brightest, np.ones((7, 7), np.uint8))
    steepest = np.minimum(np.maximum(_STEEPEST_SHARE * depth, 1.5), _STEEPEST)
    off = np.abs(picture - light[..., np.newaxis] * ground).max(axis=2)
    shaded = (1 - light > (_FAINTEST_LOSSY if lossy else _FAINTEST)) & (1 - light < _DARKEST) & ~free
    shaded &= (slope < steepest) & (off < (_OFF_NEUTRAL_LOSSY if lossy else _OFF_NEUTRAL))
    shaded &= ~_even_grey(picture, light, shaded, free, lossy)
    found = _continuing(shaded, free, light)
    if found.sum() < _LEAST_SHARE * found.size:
        return None
    known = (found | free).astype(np.float32)
    # Where a shadow is so faint that it passes for ground, it is still a shadow.
    around = cv2.dilate(found.astype(np.uint8), np.ones((31, 31), np.uint8)).astype(bool)
    filled = np.where(around, soft if lossy else light, 1).astype(np.float32)
    mask = cv2.resize(found.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return Shade(_extended(filled, known), mask.astype(bool))


def likeness(light: Floats, artwork: Mask) -> float:
    """How well the shade is explained as the shadow of the artwork, moved and blurred (0..1).

    What was taken for a shadow and was grey artwork has another shape.
    """
    height, width = light.shape
    scale = min(_LIKENESS_SIDE / max(height, width), 1)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    dark = 1 - cv2.resize(light, size, interpolation=cv2.INTER_AREA)
    shape = cv2.resize(artwork.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    free = shape < 0.02
    seen = dark[free]
    energy = float((seen**2).sum())
    best = 0.0
    for sigma in (1.0, 1.5, 2.2, 3.3, 5.0):
        soft = cv2.GaussianBlur(shape, (0, 0), sigma * max(size) / _LIKENESS_SIDE)
        for y in range(-6, 7, 2):
            for x in range(-6, 7, 2):
                moved = np.roll(soft, (y, x), (0, 1))[free]
                best = max(best, float((seen * moved).sum()) ** 2 / max(energy * float((moved**2).sum()), 1e-9))
    return best


def _even_grey(picture: Floats, light: Floats, shaded: Mask, free: Mask, lossy: bool) -> Mask:
    """Areas of one grey that hardly fade anywhere: trousers, wheels, hair."""
    around = np.ones((5, 5), np.uint8)
    grey = picture.mean(axis=2)
    even = shaded & (1 - light > _LEAST_DEPTH)
    even &= cv2.dilate(grey, around) - cv2.erode(grey, around) <= (_EVEN_LOSSY if lossy else _EVEN)
    even = cv2.morphologyEx(even.astype(np.uint8), cv2.MORPH_OPEN, np.ones((_EVEN_SIDE,) * 2, np.uint8)).astype(bool)
    # The range around a px leaves out the rim.
    labels, stats = components(cv2.dilate(even.astype(np.uint8), around).astype(bool) & (shaded | ~free), 8)
    count = len(stats)
    if count == 1:
        return even
    area = labels > 0
    wider = cv2.dilate(labels.astype(np.float32), np.ones((7, 7), np.uint8)).astype(np.int64)
    rim = (wider > 0) & ~area
    step = np.abs(light - (np.bincount(labels.ravel(), light.ravel(), count) / stats[:, cv2.CC_STAT_AREA])[wider])
    fades = rim & (shaded | free) & (step < 0.06)
    total = np.maximum(np.bincount(wider[rim], minlength=count), 1)
    is_artwork = np.bincount(wider[fades], minlength=count) / total < _LEAST_FADING
    is_artwork[0] = False
    return np.asarray(is_artwork[labels], dtype=bool)


def _continuing(shaded: Mask, free: Mask, light: Floats) -> Mask:
    """The shaded areas that the ground runs into, and those that artwork encloses, if there are such."""
    near = cv2.dilate(free.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    labels, stats = components(shaded, 8)
    count = len(stats)
    # Edges of drawn art are thin, shadows have a breadth.
    broad = cv2.erode(shaded.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    is_broad = np.bincount(labels[broad], minlength=count) > 0
    is_broad[0] = False
    runs_in = is_broad & (soft_contact(labels, near & shaded, free, count) >= _LEAST_CONTACT)
    found = np.asarray(runs_in[labels], dtype=bool)
    if not found.any():
        return found
    darkest = float(np.quantile(light[found], 0.01)) - 0.03
    area = stats[:, cv2.CC_STAT_AREA]
    mean = np.bincount(labels.ravel(), light.ravel(), count) / area
    varies = np.sqrt(np.maximum(np.bincount(labels.ravel(), light.ravel() ** 2, count) / area - mean**2, 0))
    touches = np.bincount(labels[near & shaded], minlength=count) > 0
    enclosed = is_broad & ~touches & (varies >= _LEAST_VARIATION) & (mean >= darkest)
    return np.asarray(found | enclosed[labels], dtype=bool)


def _extended(values: Floats, known: Floats) -> Floats:
    """Values where they are known, smoothly continued to where they are not."""
    result = values.copy()
    left = known == 0
    for sigma in (1.5, 3, 6, 12):
        total = cv2.GaussianBlur(known, (0, 0), sigma)
        part = cv2.GaussianBlur(values * known, (0, 0), sigma)
        take = left & (total > 0.02)
        result[take] = part[take] / total[take]
        left &= ~take
    result[left] = 1
    return np.clip(result, 0, 1)
