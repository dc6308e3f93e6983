"""How far a cut-out can be trusted, from what can be seen of it: a figure that is calibrated, and words."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from services.images.engines.cutout.surface import Doubles, Floats, Mask, Surface, border_of, components, to_lab
from services.images.engines.decode import Pixels

SEEN_DIFFERENCE = 8.0
"""CIEDE2000 from which an outline can be told from the ground beside it."""

_SAMPLES = 8000
_WORK_SIDE = 512
_PURE = 6  # levels from white or black within which the ground has a colour that artwork has, too
_INLET = 9  # px of the reduced picture


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for and against a cut-out; shares are of 1.

    `weak`: of the outline, what can hardly be told from the ground. `doubtful`: of the artwork, parts whose outline is
    mostly weak. `border`: of the border, what lies on the ground. `undecided`: enclosed areas that are a guess, as a
    share of the artwork. `inlets`: narrow bays of the ground in the artwork, as a share of it. `cut_off`: of the
    border, what is artwork. `shaded`: of the picture, what was taken for a shadow. `spread`: CIE76 by which the ground
    leaves its surface. `pure`: whether the ground is white or black.
    """

    weak: float
    doubtful: float
    border: float
    undecided: float
    inlets: float
    cut_off: float
    shaded: float
    spread: float
    tolerance: float
    degree: int
    pure: bool
    lossy: bool


def gather(
    pixels: Pixels,
    surface: Surface,
    *,
    tolerance: float,
    undecided: int,
    shade: Mask | None,
    lossy: bool,
) -> Evidence:
    """Look at a cut-out (RGBA) on the ground that was removed."""
    artwork = pixels[..., 3] >= 128
    area = max(int(artwork.sum()), 1)
    weak, doubtful = _outline(pixels, artwork, surface)
    first = surface.rgb[0, 0]
    is_pure = surface.is_flat and bool((first >= 255 - _PURE).all() or (first <= _PURE).all())
    return Evidence(
        weak=weak,
        doubtful=doubtful,
        border=surface.share,
        undecided=undecided / area,
        inlets=_inlets(artwork),
        cut_off=float(border_of(artwork).mean()),
        shaded=0.0 if shade is None else float(shade.mean()),
        spread=surface.spread,
        tolerance=tolerance,
        degree=surface.degree,
        pure=is_pure,
        lossy=lossy,
    )


def _outline(pixels: Pixels, artwork: Mask, surface: Surface) -> tuple[float, float]:
    """Share of the outline that is weak, and share of the artwork in parts whose outline mostly is."""
    # The picture's own rim is no outline.
    inner = cv2.erode(artwork.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    outline = artwork & (inner == 0)
    number = int(outline.sum())
    if number == 0:
        return 1.0, 1.0
    parts, stats = components(artwork, 8)
    where = parts[outline]
    step = max(number // _SAMPLES, 1)
    art = to_lab(pixels[outline][::step, :3])
    ground = to_lab(surface.rgb_at(outline)[::step])
    is_weak = difference(art, ground) < SEEN_DIFFERENCE
    where = where[::step]
    seen = np.bincount(where, minlength=len(stats))
    mostly = (np.bincount(where, is_weak, len(stats)) > 0.5 * np.maximum(seen, 1)) & (seen > 0)
    area = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    area[0] = 0
    return float(is_weak.mean()), float(area[mostly].sum() / max(area.sum(), 1))


def _inlets(artwork: Mask) -> float:
    height, width = artwork.shape
    scale = min(_WORK_SIDE / max(height, width), 1)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = cv2.resize(artwork.astype(np.uint8), size, interpolation=cv2.INTER_AREA)
    # A margin, so that artwork at the border does not close against it.
    small = cv2.copyMakeBorder(small, _INLET, _INLET, _INLET, _INLET, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(small, cv2.MORPH_CLOSE, np.ones((_INLET, _INLET), np.uint8))
    return float((closed.sum() - small.sum()) / max(int(small.sum()), 1))


def confidence(seen: Evidence) -> float:
    """How likely the cut-out is right (0..1)."""
    doubts = [
        2.5 * max(seen.weak - 0.01, 0),
        3.0 * seen.doubtful,
        2.0 * max(0.95 - seen.border - seen.cut_off, 0),
        min(3.0 * max(seen.undecided - 0.02, 0), 0.4),
        0.5 * seen.cut_off,
        min(2.0 * seen.shaded, 0.3),
        (2.0 * min(seen.inlets, 0.3)) if seen.pure else 0.0,
        0.1 * max(seen.tolerance - 4, 0),
    ]
    trust = 0.97
    for doubt in doubts:
        trust *= 1 - min(doubt, 1)
    return trust


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
