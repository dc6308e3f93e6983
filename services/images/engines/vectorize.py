"""Tracing flat art into an SVG.

The palette is taken from flat areas only, because antialiased edges hold mixtures that are nobody's
colour; every pixel then gets a palette colour, in a picture two or three times as large, so that outlines
keep the position that antialiasing told. vtracer turns the result into curves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import vtracer

from services.images.engines.alpha import bleed_colors
from services.images.engines.base import ConfiguredEngine, EngineError, EngineResult
from services.images.engines.decode import Pixels, decode
from services.images.engines.encode import encode_png
from services.images.engines.measure import ART_SHARE, art_share
from services.images.engines.options import VectorizeOptions
from services.images.engines.svg import MAX_SVG_BYTES, SVG_NAMESPACE, render_svg
from services.images.engines.thumbnail import MAX_SIDE as THUMBNAIL_SIDE
from services.images.engines.thumbnail import make_thumbnail

Floats: TypeAlias = npt.NDArray[np.float32]
Detail: TypeAlias = Literal["low", "medium", "high"]

# Colours closer than this (CIE76) are one colour printed twice.
MERGE_DISTANCE = 12.0
MAX_AUTO_COLORS = 32
# A colour of the picture covers at least this share of its flat area ...
_MIN_COLOR_SHARE = 0.0002
# ... and at least this many pixels.
_MIN_COLOR_PIXELS = 12

# The enlarged picture that is traced; larger originals are enlarged less or shrunk.
MAX_TRACED_PIXELS = 12_000_000
# Photos turn into thousands of paths a megapixel, which no editor opens with pleasure.
MAX_TRACED_PHOTO_PIXELS = 2_000_000

_FLAT_SPREAD = 6
_LOSSY_FLAT_SPREAD = 20
# How far (px) a colour may reach beyond the flat area where it was seen.
_REACH = 2
# A pixel this close to a palette colour has it even where no flat area shows it: thin strokes.
_HIT_DISTANCE = 12.0
_FORBIDDEN = 1e6
# JPEG leaves crumbs along every edge.
_LOSSY_SPECKLE = 10


@dataclass(frozen=True, slots=True)
class _Tracing:
    enlargement: int
    # Areas of up to this many enlarged pixels a side are dropped.
    speckle: int


_TRACINGS: dict[Detail, _Tracing] = {
    "low": _Tracing(enlargement=2, speckle=12),
    "medium": _Tracing(enlargement=2, speckle=4),
    "high": _Tracing(enlargement=3, speckle=2),
}

# Fill, transform attribute and outline of a path.
_Layer: TypeAlias = tuple[str, str, str]
_SUBPATH = re.compile(r"M[^Z]*Z")
_PATH = re.compile(r'<path d="([^"]*)" fill="#([0-9A-Fa-f]{6})" transform="translate\(([-\d.]+),([-\d.]+)\)"/>')


class VtracerEngine(ConfiguredEngine):
    """Traces flat art into an SVG."""

    name = "vtracer"
    operation_type = "vectorize"
    options_model = VectorizeOptions

    def run(self, source: bytes | None, options: VectorizeOptions) -> EngineResult:
        """Trace the file; the result is an SVG of the picture's size with a viewBox."""
        picture = decode(source)
        warnings = picture.warnings
        is_art = art_share(picture.pixels) >= ART_SHARE
        if not is_art:
            warnings = (
                *warnings,
                "The picture looks like a photo. Tracing is meant for flat art: the SVG will be large and "
                "will not look like the photo.",
            )
        limit = MAX_TRACED_PIXELS if is_art else MAX_TRACED_PHOTO_PIXELS
        svg, palette = trace(picture.pixels, options.colors, options.detail, limit, lossy=picture.lossy)
        if len(svg) > MAX_SVG_BYTES:
            raise EngineError(
                f"The SVG would be {len(svg) / 1024**2:.0f} MB; the limit is {MAX_SVG_BYTES // 1024**2} MB. "
                'Choose detail "low" or fewer colors, or use a picture without grain and shading.'
            )
        scale = min(1.0, THUMBNAIL_SIDE / max(picture.width, picture.height))
        preview = render_svg(svg, max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        return EngineResult(
            data=svg.encode(),
            media_type="image/svg+xml",
            extension="svg",
            width=picture.width,
            height=picture.height,
            thumbnail=make_thumbnail(preview),
            warnings=warnings,
            details={"palette": palette, "paths": svg.count("<path")},
        )


def trace(
    pixels: Pixels, colors: int | None, detail: Detail, max_pixels: int = MAX_TRACED_PIXELS, *, lossy: bool
) -> tuple[str, list[str]]:
    """Trace RGB or RGBA pixels; returns the SVG text and its palette as `#rrggbb`, commonest first.

    Transparent areas stay unpainted. At most `max_pixels` are traced, after enlarging or shrinking.
    Raises EngineError when nothing is solid enough to be traced.
    """
    height, width = pixels.shape[:2]
    tracing = _TRACINGS[detail]
    scale = min(float(tracing.enlargement), (max_pixels / (width * height)) ** 0.5)
    if scale < 1:
        pixels, scale = _shrink(pixels, scale), 1.0
    visible = pixels[..., 3] >= 128 if pixels.shape[2] == 4 else np.ones(pixels.shape[:2], bool)
    if not visible.any():
        raise EngineError("All of the picture is see-through, so there is nothing to trace. Make it solid first.")
    plain = bleed_colors(pixels) if pixels.shape[2] == 4 else pixels
    if lossy:
        plain = np.asarray(cv2.bilateralFilter(plain, 5, 24, 3), dtype=np.uint8)
    flat = _flat_areas(plain, _LOSSY_FLAT_SPREAD if lossy else _FLAT_SPREAD) & visible
    palette = _choose_palette(plain[flat] if flat.sum() >= _MIN_COLOR_PIXELS else plain[visible], colors)
    target = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    labels = _assign_colors(plain, flat, palette, target)
    traced = np.dstack([palette[labels], np.full(labels.shape, 255, np.uint8)])
    if not visible.all():
        alpha = cv2.resize(pixels[..., 3], target, interpolation=cv2.INTER_CUBIC)
        traced[alpha < 128] = 0
    # vtracer leaves see-through pixels out only when it finds many of them on a few rows, the first and
    # the last among them.
    padding = 0 if visible.all() else 1
    paths = _trace_paths(
        np.pad(traced, ((padding, padding), (0, 0), (0, 0))),
        palette,
        max(tracing.speckle, _LOSSY_SPECKLE) if lossy else tracing.speckle,
    )
    if not paths:
        raise EngineError('The picture has no area large enough to trace. Choose detail "high" or upscale it.')
    svg = (
        f'<svg xmlns="{SVG_NAMESPACE}" width="{width}" height="{height}" '
        f'viewBox="0 {padding} {target[0]} {target[1]}" preserveAspectRatio="none">\n' + "\n".join(paths) + "\n</svg>\n"
    )
    return svg, [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in palette.tolist()]


def _shrink(pixels: Pixels, scale: float) -> Pixels:
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _to_lab(colors: npt.NDArray[np.generic]) -> Floats:
    """CIELAB of RGB colours of shape (..., 3) in 0..255."""
    rows = np.asarray(colors, np.float32).reshape(1, -1, 3) / 255
    return np.asarray(cv2.cvtColor(rows, cv2.COLOR_RGB2LAB), dtype=np.float32).reshape(colors.shape)


def _flat_areas(colors: Pixels, spread: int) -> npt.NDArray[np.bool_]:
    kernel = np.ones((3, 3), np.uint8)
    return np.asarray((cv2.dilate(colors, kernel) - cv2.erode(colors, kernel)).max(axis=2) <= spread)


def _choose_palette(samples: Pixels, limit: int | None) -> Pixels:
    """Palette of shape (n, 3) for RGB samples of shape (m, 3), commonest colour first.

    k-means in Lab over the histogram, started from the distinct colours in order of how common they are:
    unlike random starts that finds small areas, and always the same ones.
    """
    keys = (samples[:, 0].astype(np.int64) >> 2) << 12 | (samples[:, 1].astype(np.int64) >> 2) << 6
    keys |= samples[:, 2] >> 2
    bins, index, counts = np.unique(keys, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(index, samples[:, band], bins.size) for band in range(3)], axis=1)
    colors, weights = _to_lab(sums / counts[:, np.newaxis]), counts.astype(np.float64)
    least = max(_MIN_COLOR_PIXELS, samples.shape[0] * _MIN_COLOR_SHARE)
    centers, shares = _leaders(colors, weights)
    kept = shares >= least if (shares >= least).any() else shares == shares.max()
    centers, shares = _merge_closest(centers[kept], shares[kept], limit or MAX_AUTO_COLORS)
    for _ in range(8):
        nearest = _nearest(colors, centers)
        shares = np.bincount(nearest, weights, len(centers)).astype(np.float64)
        moved = [np.bincount(nearest, weights * colors[:, band], len(centers)) for band in range(3)]
        filled = shares > 0
        centers = (np.stack(moved, axis=1)[filled] / shares[filled, np.newaxis]).astype(np.float32)
    centers, shares = _merge_closest(centers, shares[filled], limit or MAX_AUTO_COLORS)
    order = np.argsort(-shares, kind="stable")
    # The commonest exact colour of each cluster, so that #1b2d48 stays #1b2d48.
    nearest, modes = _nearest(colors, centers), []
    for cluster in order:
        members = np.flatnonzero(nearest == cluster)
        best = members[counts[members].argmax()]
        modes.append(np.median(samples[index == best], axis=0))
    return np.rint(modes).astype(np.uint8)


def _leaders(colors: Floats, weights: npt.NDArray[np.float64]) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Group colours around the commonest ones that are not yet near another leader."""
    centers = np.empty((0, 3), np.float32)
    shares: list[float] = []
    for at in np.argsort(-weights, kind="stable"):
        distances = np.linalg.norm(centers - colors[at], axis=1)
        if len(distances) and distances.min() < MERGE_DISTANCE:
            shares[int(distances.argmin())] += float(weights[at])
        else:
            centers = np.vstack([centers, colors[at]])
            shares.append(float(weights[at]))
    return centers, np.array(shares)


def _merge_closest(
    centers: Floats, shares: npt.NDArray[np.float64], limit: int
) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Merge the closest two until at most `limit` are left and none are closer than MERGE_DISTANCE."""
    while len(centers) > 1:
        distances = np.linalg.norm(centers[:, np.newaxis] - centers[np.newaxis], axis=2)
        np.fill_diagonal(distances, np.inf)
        first, second = np.unravel_index(int(distances.argmin()), distances.shape)
        if len(centers) <= limit and distances[first, second] >= MERGE_DISTANCE:
            break
        both = shares[first] + shares[second]
        centers[first] = (centers[first] * shares[first] + centers[second] * shares[second]) / both
        shares[first] = both
        centers, shares = np.delete(centers, second, axis=0), np.delete(shares, second)
    return centers, shares


def _nearest(colors: Floats, centers: Floats) -> npt.NDArray[np.int64]:
    best = np.full(len(colors), np.inf, np.float32)
    nearest = np.zeros(len(colors), np.int64)
    for number, center in enumerate(centers):
        distance = ((colors - center) ** 2).sum(axis=1)
        closer = distance < best
        best[closer], nearest[closer] = distance[closer], number
    return nearest


def _assign_colors(
    colors: Pixels, flat: npt.NDArray[np.bool_], palette: Pixels, target: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Palette index of each pixel of the picture enlarged to `target` (width, height).

    An edge pixel may only have a colour that is flat nearby, so that a mixture of two colours does not
    become a hairline of a third one.
    """
    enlarged = np.asarray(cv2.resize(colors, target, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    lab = _to_lab(enlarged)
    own = _nearest(_to_lab(colors).reshape(-1, 3), _to_lab(palette)).reshape(colors.shape[:2])
    reach = np.ones((2 * _REACH + 1,) * 2, np.uint8)
    best = np.full(lab.shape[:2], np.inf, np.float32)
    labels = np.zeros(lab.shape[:2], np.uint8)
    for number, center in enumerate(_to_lab(palette)):
        near = cv2.dilate(((own == number) & flat).astype(np.uint8), reach)
        is_near = cv2.resize(near, target, interpolation=cv2.INTER_NEAREST).astype(bool)
        distance = ((lab - center) ** 2).sum(axis=2)
        distance[~is_near & (distance > _HIT_DISTANCE**2)] += _FORBIDDEN
        closer = distance < best
        best[closer], labels[closer] = distance[closer], number
    return labels


def _trace_paths(pixels: Pixels, palette: Pixels, speckle: int) -> list[str]:
    traced = vtracer.convert_raw_image_to_svg(
        encode_png(pixels),
        img_format="png",
        colormode="color",
        hierarchical="stacked",
        mode="spline",
        filter_speckle=speckle,
        color_precision=8,
        layer_difference=0,
        path_precision=1,
    )
    lab = _to_lab(palette)
    layers: list[_Layer] = []
    for outline, fill, x, y in _PATH.findall(traced):
        # vtracer averages the colours of small areas it merges.
        color = np.frombuffer(bytes.fromhex(fill), np.uint8)
        red, green, blue = palette[int(_nearest(_to_lab(color).reshape(1, 3), lab)[0])].tolist()
        move = f' transform="translate({x},{y})"' if (x, y) != ("0", "0") else ""
        layers.append((f"#{red:02x}{green:02x}{blue:02x}", move, outline.strip()))
    return [f'<path fill="{color}"{move} d="{outline}"/>' for color, move, outline in _unhide_bottom(layers)]


def _unhide_bottom(layers: list[_Layer]) -> list[_Layer]:
    """Leave no layer under another one of the same outline, where it would show as a rim at the edge.

    vtracer lays the canvas in one colour and over it the canvas in the next, with holes that let the first
    one show. The same picture comes of the second without its holes, and the holes themselves painted on it
    in the first colour.
    """
    while len(layers) > 1:
        (below, at, outline), (above, above_at, pieces), *rest = layers
        shape, *holes = _SUBPATH.findall(pieces)
        if above_at != at or shape != outline:
            break
        layers = [(above, at, outline), *rest]
        if holes:
            return [layers[0], (below, at, " ".join(holes)), *rest]
    return layers
