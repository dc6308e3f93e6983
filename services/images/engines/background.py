"""Background removal for flat art on one plain colour, without a model.

The background is what can be reached from the picture's border over pixels of the border's colour. Pixels
along its edge are mixtures of artwork and background and are taken apart again, so that no fringe of the
old background is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from services.images.engines.base import EngineError, EngineResult
from services.images.engines.decode import Picture, Pixels, decode
from services.images.engines.encode import png_result
from services.images.engines.options import BackgroundRemovalOptions

Mask: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float32]
Steps: TypeAlias = npt.NDArray[np.uint16]
Holes: TypeAlias = Literal["auto", "keep", "remove"]

# CIE76 colour distance up to which a pixel counts as background.
LOSSLESS_TOLERANCE = 6.0
LOSSY_TOLERANCE = 14.0

# Share of the border that must have one colour. Measured: flat art 1.0; photos 0.16 to 0.37, with the
# tolerance for JPEG up to 0.58.
MIN_BORDER_UNIFORMITY = 0.65

# Islands smaller than this (px) are dust and coding noise.
MIN_ISLAND_PIXELS = 30
# With holes="auto" an enclosed area larger than this share of the picture is part of the artwork: counters
# of letters are small, white fillings are not.
MAX_AUTO_HOLE_SHARE = 0.02

# A picture with at least this share of see-through pixels has had its background removed already.
_ALREADY_CUT_OUT_SHARE = 0.01

# How far (px) edge mixtures reach to both sides of the outline: antialiasing, and JPEG blocks on top.
_EDGE_REACH = 2
# Rows handled at once where floats are needed, so that memory stays level with large pictures.
_STRIP_ROWS = 256
# Colour distances are kept in steps of 1/64, in two bytes.
_STEPS = 64


@dataclass(frozen=True, slots=True)
class CutOut:
    """RGBA pixels with the background transparent, and what was found on the way."""

    pixels: Pixels
    background: tuple[int, int, int]
    uniformity: float
    kept_holes: int
    removed_share: float


class BorderKeyEngine:
    """Makes the plain background of flat art transparent."""

    name = "border_key"
    operation_type = "background_removal"
    options_model = BackgroundRemovalOptions

    def run(self, source: bytes | None, options: BackgroundRemovalOptions) -> EngineResult:
        """Cut the artwork out; the result is a PNG with alpha at 300 DPI.

        Raises EngineError (permanent) when the picture has no plain background.
        """
        picture = decode(source)
        if _is_cut_out(picture):
            return png_result(
                picture.pixels,
                confidence=1.0,
                warnings=(
                    *picture.warnings,
                    "The picture has a transparent background already; it was kept as it is.",
                ),
                details={"background": None},
            )
        tolerance = options.tolerance or (LOSSY_TOLERANCE if picture.lossy else LOSSLESS_TOLERANCE)
        cut_out = remove_background(picture.pixels, tolerance, options.holes)
        return png_result(
            cut_out.pixels,
            confidence=round(cut_out.uniformity, 3),
            warnings=(*picture.warnings, *_hole_warning(cut_out)),
            details={
                "background": "#{:02x}{:02x}{:02x}".format(*cut_out.background),
                "tolerance": tolerance,
                "kept_holes": cut_out.kept_holes,
                "removed_share": round(cut_out.removed_share, 4),
            },
        )


def remove_background(pixels: Pixels, tolerance: float, holes: Holes) -> CutOut:
    """Make the background of RGB or RGBA pixels transparent.

    `tolerance` is a CIE76 colour distance. Raises EngineError when the border is not of one colour or
    when nothing but background is there.
    """
    colors = np.ascontiguousarray(pixels[..., :3])
    background = _border_color(colors)
    distance = _distance_steps(colors, background)
    close = distance <= round(tolerance * _STEPS)
    uniformity = float(_border_of(close).mean())
    if uniformity < MIN_BORDER_UNIFORMITY:
        raise EngineError(
            f"The picture has no plain background: only {uniformity:.0%} of its border is of one colour, so "
            "it looks like a photo. Upload artwork on a plain background, crop away a frame or raise the "
            "tolerance; photos need a background removal service."
        )
    outside, kept_holes = _outside(close, distance, tolerance, holes)
    outside |= _islands(~outside)
    if outside.all():
        raise EngineError(
            "The picture is nothing but background. Lower the tolerance or upload artwork that differs from "
            "its background."
        )
    cut_out = _unmix_edges(colors, outside, distance, background, tolerance)
    if pixels.shape[2] == 4:
        cut_out[..., 3] = np.minimum(cut_out[..., 3], pixels[..., 3])
    return CutOut(cut_out, background, uniformity, kept_holes, float(outside.mean()))


def _is_cut_out(picture: Picture) -> bool:
    return picture.has_alpha and float((picture.pixels[..., 3] < 128).mean()) >= _ALREADY_CUT_OUT_SHARE


def _hole_warning(cut_out: CutOut) -> tuple[str, ...]:
    if not cut_out.kept_holes:
        return ()
    return (
        f"{cut_out.kept_holes} enclosed areas of the background colour were kept; "
        'choose holes "remove" to make them transparent.',
    )


def _border_of(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])


def _border_color(colors: Pixels) -> tuple[int, int, int]:
    """Return the commonest colour of the border, averaged over the border pixels near it."""
    border = _border_of(colors).astype(np.int64)
    steps = border >> 3
    keys = steps[:, 0] << 10 | steps[:, 1] << 5 | steps[:, 2]
    commonest = border[keys == np.bincount(keys).argmax()].mean(axis=0)
    near = border[np.abs(border - commonest).max(axis=1) <= 12]
    red, green, blue = np.median(near, axis=0).round().astype(int).tolist()
    return red, green, blue


def _strips(height: int) -> Iterator[slice]:
    for top in range(0, height, _STRIP_ROWS):
        yield slice(top, min(top + _STRIP_ROWS, height))


def _to_lab(colors: Pixels) -> Floats:
    return np.asarray(cv2.cvtColor(colors.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), dtype=np.float32)


def _distance_steps(colors: Pixels, background: tuple[int, int, int]) -> Steps:
    """CIE76 distance of each pixel from the background, in steps of 1/64."""
    target = _to_lab(np.array([[background]], np.uint8))
    steps = np.empty(colors.shape[:2], np.uint16)
    for rows in _strips(colors.shape[0]):
        distance = np.linalg.norm(_to_lab(colors[rows]) - target, axis=2)
        steps[rows] = (distance * _STEPS).astype(np.uint16)
    return steps


def _outside(close: Mask, distance: Steps, tolerance: float, holes: Holes) -> tuple[Mask, int]:
    """Areas of the background colour that are background, and how many enclosed ones were left."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(close.astype(np.uint8), connectivity=4)
    is_outside = np.zeros(count, bool)
    is_outside[np.unique(_border_of(labels))] = True
    area = stats[:, cv2.CC_STAT_AREA]
    total = np.bincount(labels.ravel(), weights=distance.ravel(), minlength=count)
    # Light fillings on a light background come near the background's colour; a true hole is that colour.
    is_hole = (area >= MIN_ISLAND_PIXELS) & (total <= area * tolerance * _STEPS / 2) & ~is_outside
    is_outside[0] = is_hole[0] = False
    if holes == "remove":
        is_outside |= is_hole
    elif holes == "auto":
        is_outside |= is_hole & (area <= MAX_AUTO_HOLE_SHARE * close.size)
    return is_outside[labels], int((is_hole & ~is_outside).sum())


def _islands(artwork: Mask) -> Mask:
    """Parts of the artwork that are too small to be meant."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(artwork.astype(np.uint8), connectivity=8)
    is_island = stats[:, cv2.CC_STAT_AREA] < MIN_ISLAND_PIXELS
    is_island[0] = False
    return np.asarray(is_island[labels], dtype=bool)


def _unmix_edges(
    colors: Pixels, outside: Mask, distance: Steps, background: tuple[int, int, int], tolerance: float
) -> Pixels:
    """RGBA in which edge pixels carry the artwork's own colour and the share of it they showed.

    A mixed pixel is share * artwork + (1 - share) * background; the artwork's colour is that of the nearest
    pixel that is not mixed.
    """
    height, width = outside.shape
    reach = np.ones((2 * _EDGE_REACH + 1,) * 2, np.uint8)
    near_outside = cv2.dilate(outside.astype(np.uint8), reach).astype(bool)
    near_artwork = cv2.dilate((~outside).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    edge = near_outside & near_artwork
    pure = ~near_outside
    # Strokes thinner than the reach have no pure pixels: the one furthest from the background stands in.
    pure |= ~outside & near_outside & (distance == cv2.dilate(distance, reach))
    _, labels = cv2.distanceTransformWithLabels(
        (~pure).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    palette = np.zeros((int(labels.max()) + 1, 3), np.float32)
    palette[labels[pure]] = colors[pure]

    result = np.empty((height, width, 4), np.uint8)
    result[..., :3] = colors
    result[..., 3] = np.where(outside, 0, 255)
    seen = colors[edge].astype(np.float32) - np.array(background, np.float32)
    artwork = palette[labels[edge]]
    span = artwork - np.array(background, np.float32)
    share = (seen * span).sum(axis=1) / np.maximum((span * span).sum(axis=1), 1e-3)
    share = np.clip(share, 0, 1)
    # A pixel that such a mixture does not explain belongs to another colour of the artwork: it is solid.
    off = np.linalg.norm(seen - share[:, np.newaxis] * span, axis=1)
    other = (off > 2 * tolerance) & ~outside[edge]
    share[other] = 1
    artwork[other] = colors[edge][other]
    result[edge, :3] = np.rint(artwork).astype(np.uint8)
    result[edge, 3] = np.rint(share * 255).astype(np.uint8)
    result[result[..., 3] == 0, :3] = 0
    return result
