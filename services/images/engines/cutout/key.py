"""What of a picture is ground: reached from the border, shaded by the artwork, or enclosed by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from services.images.engines.cutout.surface import Floats, Mask, Surface, border_of, strips, to_lab
from services.images.engines.decode import Pixels

Steps: TypeAlias = npt.NDArray[np.uint16]
Holes: TypeAlias = Literal["auto", "keep", "remove"]

STEPS = 64
"""Colour distances (CIE76) are kept in steps of 1/64, in two bytes."""

# CIE76 from the ground from which a pixel is artwork, where the ground is free of noise; and the most that noise of
# the ground may make of it.
LEAST_TOLERANCE, MOST_TOLERANCE = 2.0, 14.0
# Times the distance that all but 1 in 200 pixels of the ground keep: coding noise has a longer tail.
_NOISE_REACH, _NOISE_REACH_LOSSY = 1.25, 1.7
# Coding noise beside an edge, as a share of the edge: least and most for lossy files, most for others (a PNG may
# have been a JPEG, or have been sharpened).
_LEAST_RINGING, _MOST_RINGING, _MOST_RINGING_LOSSLESS = 0.06, 0.16, 0.1
_BLOCK = 8
# Coding noise swings around the ground's colour: what is let pass for it beside an edge has a mean (px around) that
# stays within this share of what a single pixel may; pale artwork beside its own dark lines does not. So far (px) from
# undisturbed ground it is not asked.
_NOISE_SIDE, _NOISE_MEAN, _NOISE_NEAR = 7, 0.55, 6
# Under a shadow, the ground is known less well.
_SHADED, _SHADE_TOLERANCE = 0.985, 5.0


@dataclass(frozen=True, slots=True)
class Distance:
    """How far each pixel is from the ground's colour there (steps of 1/64), and up to where it counts as ground."""

    steps: Steps
    limit: Steps
    tolerance: float
    ringing: float
    noise: float

    @property
    def close(self) -> Mask:
        """What has the ground's colour."""
        return np.asarray(self.steps <= self.limit, dtype=bool)

    @property
    def is_plain(self) -> Mask:
        """What has it without allowance for coding noise beside edges."""
        return np.asarray(self.steps <= round((self.tolerance + 0.5) * STEPS), dtype=bool)


def measure_distance(colors: Pixels, surface: Surface, tolerance: float | None, lossy: bool) -> Distance:
    """Distance of RGB pixels from a surface. `tolerance` (CIE76) is measured where it is None."""
    steps = np.empty(colors.shape[:2], np.uint16)
    for rows in strips(colors.shape[0]):
        away = np.linalg.norm(to_lab(colors[rows]) - surface.lab_rows(rows), axis=2)
        steps[rows] = np.minimum(away * STEPS, 65535).astype(np.uint16)
    noise = _noise(steps, surface)
    if tolerance is not None:
        limit = np.full(steps.shape, round(tolerance * STEPS), np.uint16)
        return Distance(steps, limit, tolerance, 0.0, noise)
    reach = _NOISE_REACH_LOSSY if lossy else _NOISE_REACH
    tolerance = min(max(LEAST_TOLERANCE, reach * noise), MOST_TOLERANCE)
    contrast = _contrast(steps)
    ringing = _ringing(steps, contrast, lossy)
    limits = contrast
    limits *= ringing
    limits += tolerance * STEPS
    limit = limits.astype(np.uint16)
    if ringing > 0:
        limit[_pale(colors, surface, steps, limit, tolerance)] = round(tolerance * STEPS)
    if surface.light is not None:
        for rows in strips(len(limit)):
            limit[rows] += np.uint16(_SHADE_TOLERANCE * STEPS) * (surface.light_rows(rows) < _SHADED)
    return Distance(steps, limit, tolerance, ringing, noise)


def _pale(colors: Pixels, surface: Surface, steps: Steps, limit: Steps, tolerance: float) -> Mask:
    """What would pass for coding noise beside an edge, but is off the ground's colour on the mean."""
    passes = np.asarray(steps <= limit, dtype=bool)
    plain = (steps <= round(tolerance * STEPS)).astype(np.uint8)
    near = cv2.dilate(cv2.erode(plain, np.ones((5, 5), np.uint8)), np.ones((2 * _NOISE_NEAR + 5,) * 2, np.uint8))
    asked = np.asarray(passes & (plain == 0) & (near == 0), dtype=bool)
    if not asked.any():
        return asked
    window, margin = (_NOISE_SIDE, _NOISE_SIDE), _NOISE_SIDE // 2
    parts = []
    for rows in strips(len(steps)):
        top = max(rows.start - margin, 0)
        around, here = slice(top, rows.stop + margin), slice(rows.start - top, rows.stop - top)
        number = cv2.boxFilter(passes[around].astype(np.uint8), cv2.CV_16U, window, normalize=False)
        total = cv2.boxFilter(colors[around] * passes[around, :, np.newaxis], cv2.CV_16U, window, normalize=False)
        where = asked[rows]
        parts.append(total[here][where].astype(np.float32) / np.maximum(number[here][where], 1)[:, np.newaxis])
    away = np.linalg.norm(to_lab(np.concatenate(parts)) - to_lab(surface.rgb_at(asked)), axis=1) * STEPS
    asked[asked] = away > np.maximum(_NOISE_MEAN * limit[asked], tolerance * STEPS)
    return asked


def _noise(steps: Steps, surface: Surface) -> float:
    """Distance (CIE76) that all but 1 in 200 pixels of the ground keep, away from artwork."""
    height, width = steps.shape
    small = surface.ground.shape
    far = cv2.erode(surface.ground.astype(np.uint8), np.ones((7, 7), np.uint8), borderValue=1)
    rows, columns = np.nonzero(far)
    if rows.size < 200:
        rows, columns = np.nonzero(surface.ground)
    if rows.size == 0:
        return 0.0
    skip = max(rows.size // 20_000, 1)
    rows = ((rows[::skip] + 0.5) * height / small[0]).astype(np.int64)
    columns = ((columns[::skip] + 0.5) * width / small[1]).astype(np.int64)
    return float(np.quantile(steps[rows, columns], 0.995)) / STEPS


def _contrast(steps: Steps) -> Floats:
    """The largest distance in the blocks of 8 px around each pixel, in steps."""
    height, width = steps.shape
    down, right = -height % _BLOCK, -width % _BLOCK
    padded = cv2.copyMakeBorder(steps, 0, down, 0, right, cv2.BORDER_REPLICATE)
    blocks = padded.reshape(padded.shape[0] // _BLOCK, _BLOCK, -1, _BLOCK).max(axis=(1, 3))
    around = cv2.dilate(blocks, np.ones((3, 3), np.uint8)).astype(np.float32)
    whole = cv2.resize(around, (padded.shape[1], padded.shape[0]), interpolation=cv2.INTER_NEAREST)
    return np.ascontiguousarray(whole[:height, :width])


def _ringing(steps: Steps, contrast: Floats, lossy: bool) -> float:
    """Coding noise beside strong edges, as a share of the edge."""
    skip = max(steps.size // 4_000_000, 1)
    strong = (contrast[::skip] > 30 * STEPS).ravel()
    share = steps[::skip].ravel()[strong] / contrast[::skip].ravel()[strong]
    beside = share[share < 0.22]
    if beside.size < 100:
        return _LEAST_RINGING if lossy else 0.0
    if not lossy:
        # Drawn edges leave the ground beside them as it is.
        usual = float(np.quantile(beside, 0.75))
        return min(2 * usual, _MOST_RINGING_LOSSLESS) if usual > 0.01 else 0.0
    return float(np.clip(np.quantile(beside, 0.95), _LEAST_RINGING, _MOST_RINGING))


def reached_from_border(close: Mask) -> Mask:
    """What is connected to the border over `close` pixels."""
    count, labels = cv2.connectedComponents(close.astype(np.uint8), connectivity=4)
    reached = np.zeros(count, bool)
    reached[np.unique(border_of(labels))] = True
    reached[0] = False
    return np.asarray(reached[labels], dtype=bool)
