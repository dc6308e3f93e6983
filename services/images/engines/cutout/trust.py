"""How far a cut-out can be trusted, from what can be seen of it: a figure that is calibrated, and words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from services.images.engines.cutout.holes import Enclosed
from services.images.engines.cutout.key import STEPS, Distance, reached_from_border
from services.images.engines.cutout.shade import likeness
from services.images.engines.cutout.surface import (
    Doubles,
    Floats,
    Indices,
    Mask,
    Surface,
    border_of,
    components,
    to_lab,
)
from services.images.engines.decode import Pixels

SEEN_DIFFERENCE = 8.0
"""CIEDE2000 from which an outline can be told from the ground beside it."""

_SAMPLES = 8000
_PLACES, _PLACE_SIDE = 3, 128  # how many are named, and px of the picture's side in which near ones are one
_STRONG = 20.0  # CIE76
# An edge rises by so much (CIE76), and by that share of its height, within a px for each so many of the picture's side.
_LEAST_STEP, _LEAST_RISE, _EDGE_SHARE = 6.0, 0.5, 500
_WORK_SIDE = 384
# Side (px of the reduced picture) of an area, and by how much its mean is off: CIE76, and times the ground's spread.
# What is less broad than this is noise, too.
_AREA, _LEAST_OFF, _OFF, _OFF_USUAL, _BROAD = 5, 1.2, 1.4, 3.5, 9
_MOST, _LEAST = 0.98, 0.02
_BLACK = 12
# A ground of several stops is known less well where artwork encloses it.
_SIMPLE_DEGREE = 2
# A shadow that is less like the artwork's own has grey artwork in it.
LEAST_CAST = 0.88

# Logistic regression of "overlap at least .95" on 766 cut-outs of six sets of drawings and of random ones, with no
# weight below 0: `python -m tests.cutouts.calibrate`. 0.3 is taken off the intercept on top, so that of what claims .9
# at least 98 % are right, and not about so many.
_INTERCEPT = 4.06 - 0.3
_WEIGHTS = {
    "weak": 0.19,
    "soft": 0.84,
    "swallowed": 0.17,
    "tight": 0.65,
    "inside": 0.26,
    "guessed_open": 0.19,
    "guessed_kept": 0.28,
    "shaded": 0.62,
    "cast": 0.78,
    "border": 0.29,
    "cut_off": 0.23,
    "thin": 1.02,
    "lossy": 0.31,
    "tolerance": 0.29,
    "curved": 0.7,
    "black": 1.9,
}

Place: TypeAlias = tuple[int, int, int, int]
"""x, y, width and height, in px of the picture."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for and against a cut-out; shares are of the artwork, where nothing else is said.

    `weak`: of the outline, what can hardly be told from the ground. `soft`: of the outline, where there is no edge in
    the picture, as around a halo. `swallowed`: areas that were taken for ground and are all off its colour. `tight`:
    what two thirds of the distance to the ground that is let pass would leave beside it. `inside`: enclosed px near
    the ground's colour that were kept. `guessed_open`, `guessed_kept`: enclosed areas that are a guess. `thin`: px of
    the outline for each of the artwork. `border`: of the border, what lies on the ground. `cut_off`: of the border,
    what is artwork. `shaded`: of the picture, what was taken for a shadow. `cast`: how well that is explained as the
    artwork's own. `tolerance`: CIE76 that the ground's noise asks for. `degree` of the ground's surface.
    """

    weak: float
    soft: float
    swallowed: float
    tight: float
    inside: float
    guessed_open: float
    guessed_kept: float
    thin: float
    border: float
    cut_off: float
    shaded: float
    cast: float
    tolerance: float
    degree: int
    is_black: bool
    lossy: bool
    weak_places: tuple[Place, ...] = ()
    swallowed_places: tuple[Place, ...] = ()


def gather(
    pixels: Pixels,
    colors: Pixels,
    surface: Surface,
    distance: Distance,
    *,
    reached: Mask,
    enclosed: Enclosed,
    shade: Mask | None,
    lossy: bool,
) -> Evidence:
    """Look at a cut-out (RGBA) on the ground that was removed."""
    artwork = pixels[..., 3] >= 128
    area = max(int(artwork.sum()), 1)
    is_black = surface.is_flat and bool((surface.rgb[0, 0] <= _BLACK).all())
    weak, soft, weak_places = _outline(pixels, artwork, surface, distance)
    swallowed, swallowed_places = _swallowed(colors, artwork, surface)
    well_inside = cv2.erode(artwork.astype(np.uint8), np.ones((7, 7), np.uint8), borderValue=1).astype(bool)
    loose = distance.steps <= 1.5 * distance.limit + STEPS
    loosely = reached_from_border(loose | reached)
    tight = reached_from_border(distance.steps <= 0.67 * distance.limit)
    lost = cv2.erode((reached & ~tight & ~artwork).astype(np.uint8), np.ones((5, 5), np.uint8))
    edge = cv2.morphologyEx(artwork.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return Evidence(
        tight=float(lost.sum() / area),
        thin=float(edge.sum() / 2 / area),
        inside=float((loose & well_inside & ~loosely).sum() / area),
        guessed_open=enclosed.undecided_opened / area,
        guessed_kept=(enclosed.undecided - enclosed.undecided_opened) / area,
        weak=weak,
        soft=soft,
        border=surface.share,
        cut_off=float(border_of(artwork).mean()),
        shaded=0.0 if shade is None else float(shade.mean()),
        cast=1.0 if surface.light is None else likeness(surface.light, artwork),
        swallowed=swallowed,
        tolerance=distance.tolerance,
        degree=surface.degree,
        is_black=is_black,
        lossy=lossy,
        weak_places=weak_places,
        swallowed_places=swallowed_places,
    )


def _outline(
    pixels: Pixels, artwork: Mask, surface: Surface, distance: Distance
) -> tuple[float, float, tuple[Place, ...]]:
    """Shares of the outline that are weak and soft, and weak places."""
    # The picture's own rim is no outline.
    inner = cv2.erode(artwork.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    outline = artwork & (inner == 0)
    number = int(outline.sum())
    if number == 0:
        return 1.0, 1.0, ()
    step = max(number // _SAMPLES, 1)
    art = to_lab(pixels[outline][::step, :3])
    ground = to_lab(surface.rgb_at(outline)[::step])
    side = 2 * max(round(max(artwork.shape) / _EDGE_SHARE), 2) + 1
    around = np.ones((side, side), np.uint8)
    highest = cv2.dilate(distance.steps, around)[outline][::step].astype(np.int64)
    lowest = cv2.erode(distance.steps, around)[outline][::step].astype(np.int64)
    # Coding mixes the colours along an outline: what is near it counts, too.
    is_weak = (difference(art, ground) < SEEN_DIFFERENCE) & (highest < _STRONG * STEPS)
    is_soft = highest - lowest < np.maximum(_LEAST_STEP * STEPS, _LEAST_RISE * highest)
    rows, columns = np.nonzero(outline)
    places = _places(rows[::step][is_weak], columns[::step][is_weak], artwork.shape)
    return float(is_weak.mean()), float(is_soft.mean()), places


def _places(rows: Indices, columns: Indices, shape: tuple[int, ...]) -> tuple[Place, ...]:
    """Where most of these px are, as boxes: those that lie near each other are one place."""
    scale = min(_PLACE_SIDE / max(shape), 1)
    small = np.zeros((int(shape[0] * scale) + 1, int(shape[1] * scale) + 1), np.uint8)
    at = (rows * scale).astype(np.int64), (columns * scale).astype(np.int64)
    small[at] = 1
    labels, _ = components(cv2.dilate(small, np.ones((5, 5), np.uint8)).astype(bool), 8)
    where = labels[at]
    often = np.bincount(where)
    boxes = []
    for number in np.argsort(-often, kind="stable")[:_PLACES]:
        y, x = rows[where == number], columns[where == number]
        if y.size:
            boxes.append((int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1))
    return tuple(boxes)


def _swallowed(colors: Pixels, artwork: Mask, surface: Surface) -> tuple[float, tuple[Place, ...]]:
    """Areas outside of the artwork whose mean is off the ground by more than noise: share of the artwork; places.

    Single pixels of pale artwork may pass for noise; whole areas do not.
    """
    height, width = artwork.shape
    scale = min(_WORK_SIDE / max(height, width), 1)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    if min(size) < 3 * _AREA:
        return 0.0, ()
    small = cv2.resize(colors, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    rows = surface.rgb_rows(slice(0, height)) if surface.light is not None else surface.rgb
    ground = np.broadcast_to(rows[:1, :1], small.shape) if surface.is_flat else cv2.resize(rows, size)
    off = cv2.blur(to_lab(small) - to_lab(ground), (_AREA, _AREA))
    share = cv2.resize(artwork.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
    free = cv2.erode((share == 0).astype(np.uint8), np.ones((2 * _AREA + 1,) * 2, np.uint8), borderValue=1)
    away = np.linalg.norm(off, axis=2)
    usual = float(np.median(away[free > 0])) if free.any() else 0.0
    off_ground = (away > max(_LEAST_OFF, min(_OFF * surface.spread, _OFF_USUAL * usual))) & (free > 0)
    off_ground = cv2.morphologyEx(off_ground.astype(np.uint8), cv2.MORPH_OPEN, np.ones((_BROAD,) * 2, np.uint8)) > 0
    at = [(index / scale).astype(np.int64) for index in np.nonzero(off_ground)]
    places = _places(at[0], at[1], artwork.shape)
    return float(off_ground.sum() / max(float((share > 127).sum()), 1)), places


def confidence(seen: Evidence) -> float:
    """How likely the cut-out is right (0..1)."""
    odds = _INTERCEPT - sum(_WEIGHTS[name] * value for name, value in doubts(seen).items())
    return min(max(1 / (1 + math.exp(-odds)), _LEAST), _MOST)


def doubts(seen: Evidence) -> dict[str, float]:
    """What the confidence is made of: each 0 where there is no doubt of its kind, growing slower the more there is."""
    return {
        "weak": math.log1p(seen.weak / 0.01),
        "soft": math.log1p(seen.soft / 0.03),
        "swallowed": math.log1p(seen.swallowed / 0.01),
        "tight": math.log1p(seen.tight / 0.01),
        "inside": math.log1p(seen.inside / 0.01),
        "guessed_open": math.log1p(seen.guessed_open / 0.01),
        "guessed_kept": math.log1p(seen.guessed_kept / 0.01),
        "shaded": math.log1p(seen.shaded / 0.02),
        "cast": max(LEAST_CAST - seen.cast, 0) * 10 if seen.shaded else 0.0,
        "border": max(0.97 - seen.border - seen.cut_off, 0) * 10,
        "cut_off": math.log1p(seen.cut_off / 0.05),
        "thin": math.log1p(max(seen.thin - 0.05, 0) / 0.05) * seen.lossy,
        "lossy": float(seen.lossy),
        "tolerance": math.log1p(max(seen.tolerance - 2, 0)),
        "curved": float(seen.degree > _SIMPLE_DEGREE),
        "black": float(seen.is_black),
    }


def difference(first: Floats, second: Floats) -> Doubles:
    """CIEDE2000 between Lab colours of shape (n, 3) (Sharma, Wu and Dalal, 2005)."""
    l1, a1, b1 = first.astype(np.float64).T
    l2, a2, b2 = second.astype(np.float64).T
    mean7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    stretch = 1 + 0.5 * (1 - np.sqrt(mean7 / (mean7 + 25.0**7)))
    c1, c2 = np.hypot(a1 * stretch, b1), np.hypot(a2 * stretch, b2)
    h1 = np.degrees(np.arctan2(b1, a1 * stretch)) % 360
    h2 = np.degrees(np.arctan2(b2, a2 * stretch)) % 360
    turn = (h2 - h1 + 180) % 360 - 180
    turn[(c1 * c2) == 0] = 0
    far = np.abs(h1 - h2) > 180
    mean_h = np.where(c1 * c2 == 0, h1 + h2, (h1 + h2 + 360 * far) / 2)
    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    weight = (
        1
        - 0.17 * np.cos(np.radians(mean_h - 30))
        + 0.24 * np.cos(np.radians(2 * mean_h))
        + 0.32 * np.cos(np.radians(3 * mean_h + 6))
        - 0.20 * np.cos(np.radians(4 * mean_h - 63))
    )
    s_l = 1 + 0.015 * (mean_l - 50) ** 2 / np.sqrt(20 + (mean_l - 50) ** 2)
    s_c, s_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * weight
    c7 = mean_c**7
    rotate = -2 * np.sqrt(c7 / (c7 + 25.0**7)) * np.sin(np.radians(60 * np.exp(-(((mean_h - 275) / 25) ** 2))))
    d_l, d_c = (l2 - l1) / s_l, (c2 - c1) / s_c
    d_h = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / s_h
    return np.asarray(np.sqrt(np.maximum(d_l**2 + d_c**2 + d_h**2 + rotate * d_c * d_h, 0)))
