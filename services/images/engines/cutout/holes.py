"""Enclosed areas of the ground's colour: holes of the artwork, or fillings that happen to have that colour.

On a coloured, graded or grained ground the colour decides. White and black are colours of artwork, too: there an
area is a hole where nothing stands in it, and a line of one colour encloses it (a letter, a ring, a halftone) or parts
of several colours meet around it. All that is alike is treated alike, and what was undecided is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from services.images.engines.cutout.key import STEPS, Distance, Holes
from services.images.engines.cutout.surface import Doubles, Floats, Labels, Mask, Surface, components, to_lab
from services.images.engines.decode import Pixels

# Share of a hole's contour that must be an edge: what fades into a light filling is a part of that. An edge rises by so
# much (CIE76) above what passes for ground, within so many px.
_LEAST_EDGED, _EDGE_RISE = 0.8, 6.0
_EDGE_SIDE, _EDGE_SIDE_LOSSY = 5, 9
# Levels by which the ground and pure white (or black) must differ in how well they explain an area.
_TELLING, _TELLING_EVEN = 0.35, 0.3
# Share of a part's pixels that have its main colour where the part is of one colour.
_ONE_COLOR = 0.9
# Of undecided areas, holes are what lines and letters of one colour enclose, and gaps between parts of several colours
# (limbs, frames, wheels) that have no black outline: how far it is to the ground outside, as a share of the square root
# of the artwork's area; share of the main colour around; share of black. Fitted to 523 enclosed areas of 420 drawings,
# where they halve what is decided wrongly.
_LINE, _GAP, _MEETING, _OUTLINED, _BLACK = 0.25, 0.2, 0.9, 0.25, 30
# What is so small beside the artwork is a counter of small text or of a halftone, however far it is to the ground.
_TINY = 0.004
_RIM_SIDE = 2048  # px
_LEAST_PIXELS, _LEAST_PIXELS_LOSSY, _LEAST_PART_LOSSY = 1, 6, 16
_MOST_SAMPLES = 1_000_000


@dataclass(frozen=True, slots=True)
class Enclosed:
    """What is enclosed: `opened` is transparent; of `undecided` areas (px) it was a guess.

    `kept` lists the largest areas of the ground's colour that stay, as (x, y, width, height); `kept_count` counts all.
    """

    opened: Mask
    opened_count: int
    kept: tuple[tuple[int, int, int, int], ...]
    kept_count: int
    undecided: int
    undecided_opened: int


def decide_holes(
    colors: Pixels, surface: Surface, distance: Distance, outside: Mask, holes: Holes, lossy: bool
) -> Enclosed:
    """Decide which enclosed areas are holes."""
    close = distance.close & ~outside
    labels, stats = components(close, 4)
    count = len(stats)
    inside = labels > 0
    area = stats[:, cv2.CC_STAT_AREA]
    area[0] = 0
    core = _core(labels, inside, area) if lossy else inside
    where = labels[core]
    number = np.bincount(where, minlength=count)
    per_pixel = 1 / np.maximum(number, 1)
    ground = surface.rgb_at(core)
    seen = colors[core].astype(np.float32)
    left = to_lab(seen) - to_lab(ground)
    mean = np.stack([np.bincount(where, left[:, i], count) for i in range(3)], axis=1) * per_pixel[:, np.newaxis]
    limit = np.bincount(where, distance.limit[core], count) * per_pixel / STEPS
    # Noise of single pixels averages out, so the mean must be nearer than a pixel need be.
    allowed = np.maximum(0.75 + surface.spread / 2, limit / 3)
    alike = (np.linalg.norm(mean, axis=1) <= allowed) & (area >= (_LEAST_PIXELS_LOSSY if lossy else _LEAST_PIXELS))
    alike &= _edged(labels, inside, distance, count, lossy) >= _LEAST_EDGED
    alike[0] = False
    # How well the ground explains an area, and how well a filling of pure white or black does (levels, squared).
    off_ground = np.bincount(where, ((seen - ground) ** 2).mean(axis=1), count) * per_pixel
    off_pure = (
        np.minimum(
            np.bincount(where, ((seen - 255) ** 2).mean(axis=1), count),
            np.bincount(where, (seen**2).mean(axis=1), count),
        )
        * per_pixel
    )
    ground_explains, pure_explains = np.sqrt(off_ground), np.sqrt(off_pure)
    is_filling = alike & (pure_explains < 0.5 * ground_explains - _TELLING)
    # Even paint on a ground that is not even.
    own = np.stack([np.bincount(where, seen[:, i], count) for i in range(3)], axis=1) * per_pixel[:, np.newaxis]
    even = np.sqrt(np.bincount(where, ((seen - own[where]) ** 2).mean(axis=1), count) * per_pixel)
    is_filling |= alike & (even < 0.5 * ground_explains - _TELLING_EVEN)
    is_hole = alike & ~is_filling & (ground_explains < 0.5 * pure_explains - _TELLING)
    undecided = alike & ~is_filling & ~is_hole
    guess = np.zeros(count, bool)
    if undecided.any():
        guess = _guess(colors, distance, outside, labels, undecided, area, lossy)
    opened = {"keep": np.zeros(count, bool), "remove": alike, "auto": is_hole | (undecided & guess)}[holes]
    kept = np.flatnonzero(alike & ~opened & ~(is_filling & (holes == "auto")))
    kept = kept[np.argsort(-area[kept], kind="stable")]
    boxes = tuple((int(x), int(y), int(w), int(h)) for x, y, w, h in stats[kept[:5], :4])
    return Enclosed(
        opened=opened[labels],
        opened_count=int(opened.sum()),
        kept=boxes,
        kept_count=len(kept),
        undecided=int(area[undecided].sum()) if holes == "auto" else 0,
        undecided_opened=int(area[undecided & guess].sum()) if holes == "auto" else 0,
    )


def _core(labels: Labels, inside: Mask, area: npt.NDArray[np.int64]) -> Mask:
    """The areas without their rims, to which coding smears the colours beside them; all of those that are all rim."""
    core = cv2.erode(inside.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1).astype(bool)
    left = np.bincount(labels[core], minlength=len(area))
    return np.asarray(core | (inside & (left < np.minimum(16, area))[labels]), dtype=bool)


def _edged(labels: Labels, inside: Mask, distance: Distance, count: int, lossy: bool) -> Doubles:
    """Share of each area's contour beside which there is something far from the ground's colour."""
    rim = inside & (cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1) == 0)
    # Single pixels that noise takes out of an area are no part of its contour.
    whole = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    is_outer = cv2.erode(whole, np.ones((3, 3), np.uint8), borderValue=1)[rim] == 0
    limit, of = distance.limit[rim].astype(np.int64), labels[rim]
    reach = np.ones((_EDGE_SIDE_LOSSY if lossy else _EDGE_SIDE,) * 2, np.uint8)
    beyond = cv2.dilate(distance.steps, reach)[rim] > np.minimum(2 * limit, limit + round(_EDGE_RISE * STEPS))
    of_all = np.bincount(of, beyond, count) / np.maximum(np.bincount(of, minlength=count), 1)
    outer = of[is_outer]
    of_outer = np.bincount(outer, beyond[is_outer], count) / np.maximum(np.bincount(outer, minlength=count), 1)
    return np.maximum(of_all, of_outer)


def _guess(
    colors: Pixels,
    distance: Distance,
    outside: Mask,
    labels: Labels,
    undecided: npt.NDArray[np.bool_],
    area: npt.NDArray[np.int64],
    lossy: bool,
) -> npt.NDArray[np.bool_]:
    """Which undecided areas are more likely holes."""
    artwork = ~outside & ~undecided[labels]
    parts, part_stats = components(artwork, 8)
    # The part that encloses an area is the one at its topmost row: what stands in an area lies further down.
    flat = labels.ravel()
    inside = np.flatnonzero(flat)[::-1]
    first = np.zeros(len(undecided), np.int64)
    first[flat[inside]] = inside  # the last to be written is the topmost
    rows, columns = np.divmod(first, labels.shape[1])
    encloses = parts[np.maximum(rows - 1, 0), columns]
    stands_in = np.zeros(len(undecided), bool)
    touched = [
        np.stack([labels[1:][pair], parts[:-1][pair]], axis=1) for pair in [(labels[1:] > 0) & (parts[:-1] > 0)]
    ] + [np.stack([labels[:-1][pair], parts[1:][pair]], axis=1) for pair in [(labels[:-1] > 0) & (parts[1:] > 0)]]
    pairs = np.concatenate(touched)
    # Single pixels are noise in a lossy file.
    is_part = part_stats[:, cv2.CC_STAT_AREA] >= (_LEAST_PART_LOSSY if lossy else 1)
    other = pairs[(pairs[:, 1] != encloses[pairs[:, 0]]) & is_part[pairs[:, 1]]]
    stands_in[other[:, 0]] = True
    asked = np.zeros(int(parts.max()) + 1, bool)
    asked[encloses[undecided & ~stands_in]] = True
    asked[0] = False
    # What is alike is treated alike: where most of what a part encloses has something in it, all of it is filling.
    of_part = np.bincount(encloses[undecided], area[undecided], len(asked))
    filled = np.bincount(encloses[undecided & stands_in], area[undecided & stands_in], len(asked))
    is_tiny = area <= _TINY * artwork.sum()
    may_be = undecided & ~stands_in & (is_tiny | (filled <= 0.5 * of_part)[encloses])
    rims = _rims(colors, outside, labels, undecided, lossy)
    is_line = is_tiny | (rims.width <= _LINE)
    is_line &= _of_one_color(colors, distance, parts, asked, lossy)[encloses]
    is_gap = (rims.alike <= _MEETING) & (rims.least_width <= _GAP) & (rims.dark < _OUTLINED)
    return np.asarray(may_be & (is_line | is_gap), dtype=bool)


@dataclass(frozen=True, slots=True)
class _Rims:
    """What is around each area.

    Mean and least way from it to the ground outside, as a share of the artwork's size; share of the artwork beside it
    that has the main colour there, and that is black.
    """

    width: Doubles
    least_width: Doubles
    alike: Doubles
    dark: Doubles


def _rims(colors: Pixels, outside: Mask, labels: Labels, undecided: npt.NDArray[np.bool_], lossy: bool) -> _Rims:
    count = len(undecided)
    # Ways and colours are the same at a reduced size, and memory is not.
    step = max(max(outside.shape) // _RIM_SIDE, 1)
    colors, outside, labels = colors[::step, ::step], outside[::step, ::step], labels[::step, ::step]
    size = np.sqrt(max(int((~outside).sum()), 1))
    of = np.where(undecided[labels], labels, 0).astype(np.float32)
    to_ground = cv2.distanceTransform((~outside).astype(np.uint8), cv2.DIST_L2, 3)
    contour = cv2.dilate(of, np.ones((3, 3), np.uint8))
    contour[of > 0] = 0
    rim = contour > 0
    where, way = contour[rim].astype(np.int64), to_ground[rim]
    least = np.full(count, np.inf)
    np.minimum.at(least, where, way)
    width = np.bincount(where, way, count) / np.maximum(np.bincount(where, minlength=count), 1)
    # Colours a little further off, where they are not mixed with the area's own.
    near, far = ((11, 11), (17, 17)) if lossy else ((5, 5), (11, 11))
    beside = cv2.dilate(of, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, far))
    beside[(cv2.dilate(of, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, near)) > 0) | outside | (labels > 0)] = 0
    ring = beside > 0
    where, seen = beside[ring].astype(np.int64), colors[ring].astype(np.float32)
    number = np.maximum(np.bincount(where, minlength=count), 1)
    away = _from_main_color(where, seen, count)
    alike = np.where(number > 1, np.bincount(where, away <= 32, count) / number, 1)
    dark = np.bincount(where, seen.max(axis=1) < _BLACK, count) / number
    return _Rims(width / size, least / size, alike, dark)


def _from_main_color(where: npt.NDArray[np.signedinteger[Any]], seen: Floats, count: int) -> Floats:
    """How far (levels) each px is from the commonest colour of what it belongs to."""
    near = np.ones(len(where), bool)
    away = np.zeros(len(where), np.float32)
    for _ in range(3):
        some = np.maximum(np.bincount(where[near], minlength=count), 1)
        mean = np.stack([np.bincount(where[near], seen[near, i], count) / some for i in range(3)], axis=1)
        away = np.abs(seen - mean[where].astype(np.float32)).max(axis=1)
        near = away <= 48
    return away


def _of_one_color(
    colors: Pixels, distance: Distance, parts: Labels, asked: npt.NDArray[np.bool_], lossy: bool
) -> npt.NDArray[np.bool_]:
    """Whether a part is of one colour, edges left aside; only of those that are asked about."""
    count = len(asked)
    of_asked = asked[parts]
    inner = np.ones((7, 7) if lossy else (3, 3), np.uint8)
    solid = cv2.erode(of_asked.astype(np.uint8), inner, borderValue=1).astype(bool)
    some = np.bincount(parts[solid], minlength=count)
    # Strokes that are all edge: the pixels that are furthest from the ground around.
    thin = (some < 0.2 * np.bincount(parts[of_asked], minlength=count)) & asked
    if thin.any():
        solid |= thin[parts] & (distance.steps >= cv2.dilate(distance.steps, np.ones((3, 3), np.uint8)))
    places = np.flatnonzero(solid)
    places = places[:: max(len(places) // _MOST_SAMPLES, 1)]
    where = parts.ravel()[places]
    seen = colors.reshape(-1, 3)[places].astype(np.float32)
    total = np.maximum(np.bincount(where, minlength=count), 1)
    away = _from_main_color(where, seen, count)
    return np.asarray((np.bincount(where, away <= 32, count) / total >= _ONE_COLOR) & asked, dtype=bool)
