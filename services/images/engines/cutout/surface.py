"""The ground of a picture as a smooth surface, fitted to the border and to what continues it inwards.

Plain colours, gradients, vignettes, uneven light and the mean of paper are polynomials of low degree in sRGB, in
which programs draw them; what such a polynomial leaves over (a gradient of several stops, a cone) is taken up by a
smooth correction. The fit is robust: artwork that touches the border has no weight in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from services.images.engines.decode import Pixels

Floats: TypeAlias = npt.NDArray[np.float32]
Doubles: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Labels: TypeAlias = npt.NDArray[np.int32]
Indices: TypeAlias = npt.NDArray[np.int64]
Value = TypeVar("Value", bound=np.generic)

# The fit sees the picture at this many px on its longer side: noise averages out, and work has a bound.
FIT_SIDE = 384
STRIP_ROWS = 256
"""Rows handled at once where floats are needed, so that memory stays level with large pictures."""

_ROUNDS = 12
# Share of an area's contour over which the ground runs into it, and CIE76 from the surface, for it to be ground, too.
_LEAST_REST, _MOST_REST = 0.75, 25.0

# An enclosed area goes on with a graded ground where it is near it (CIE76), or less near, but keeps to the ground's own
# slope: what is left of its variation, as a share of the ground's there, and from which variation that says anything.
# White and black are colours of artwork, too.
_ENCLOSED, _ENCLOSED_ALONG, _LEFT, _LEAST_LEFT, _TELLING_SLOPE = 2.5, 9.0, 0.4, 0.8, 1.5
_ENCLOSED_PIXELS, _PURE, _LEFT_NOISE = 40, 126.0, 1.5

_RING = 3  # px of the reduced picture
# Levels (0..255, Euclidean) from the surface within which a pixel of the border belongs to it.
_NEAR = 6.0
_FIRST_SCALE, _LAST_SCALE, _COOLING = 64.0, 2.0, 1.7
# CIE76 a pixel of the reduced picture, from which a step between neighbours is an edge: least and most, and as
# multiples of the median and of the ninth decile along the border.
_LEAST_EDGE, _MOST_EDGE, _EDGE, _STEEP = 0.7, 2.8, 4.0, 1.6
# CIE76 from the surface up to which the reduced picture is taken for ground, likewise.
_LEAST_REACH, _MOST_REACH, _REACH = 2.0, 6.0, 4.0


@dataclass(frozen=True, slots=True)
class Surface:
    """Colours of the ground at every pixel of a picture of `height` x `width`.

    `rgb` (0..255) and `lab` are float32 at a reduced size; `degree` is that of the polynomial, `share` how much of
    the border lies on it, `spread` the CIE76 distance that 95 % of the ground keeps from it at the reduced size.
    `ground` marks at the reduced size what continues the border; `light` is what shadows leave of it.
    """

    height: int
    width: int
    rgb: Floats
    lab: Floats
    ground: Mask
    degree: int
    share: float
    spread: float
    light: Floats | None = None

    @property
    def is_flat(self) -> bool:
        """Whether it is one colour."""
        return self.degree == 0 and self.light is None

    def under(self, light: Floats) -> Surface:
        """The same ground with so much of its light left (0..1, at any reduced size)."""
        return replace(self, light=light)

    def lab_rows(self, rows: slice) -> Floats:
        """Lab colours of the full-size rows, or one colour where it is flat."""
        if self.light is not None:
            return to_lab(self.rgb_rows(rows))
        return self._rows(self.lab, rows)

    def rgb_rows(self, rows: slice) -> Floats:
        """RGB colours (0..255) of the full-size rows, or one colour where it is flat."""
        values = self._rows(self.rgb, rows)
        return values if self.light is None else np.asarray(values * self._rows(self.light, rows)[..., np.newaxis])

    def rgb_at(self, where: Mask) -> Floats:
        """RGB colours (0..255) of the pixels that a full-size mask marks, shape (n, 3)."""
        if self.is_flat:
            return np.broadcast_to(self.rgb[0, 0], (int(where.sum()), 3))
        parts = [self.rgb_rows(rows)[where[rows]] for rows in strips(self.height)]
        return np.asarray(np.concatenate(parts), dtype=np.float32)

    def light_rows(self, rows: slice) -> Floats:
        """What is left of the light in full-size rows, 1 where there is no shadow."""
        return np.ones((1, 1), np.float32) if self.light is None else self._rows(self.light, rows)

    def _rows(self, small: Floats, rows: slice) -> Floats:
        if self.is_flat:
            return small[:1, :1]
        down, right = small.shape[0] / self.height, small.shape[1] / self.width
        where = np.array([[right, 0, right / 2 - 0.5], [0, down, (rows.start + 0.5) * down - 0.5]], np.float64)
        return np.asarray(
            cv2.warpAffine(
                small,
                where,
                (self.width, rows.stop - rows.start),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
        )


def strips(height: int) -> Iterator[slice]:
    """Slices of rows that together are the picture."""
    for top in range(0, height, STRIP_ROWS):
        yield slice(top, min(top + STRIP_ROWS, height))


def to_lab(colors: npt.NDArray[np.generic]) -> Floats:
    """CIE Lab of sRGB colours (0..255) of shape (h, w, 3) or (n, 3)."""
    if colors.size == 0:
        return np.empty(colors.shape, np.float32)
    if colors.ndim == 2:
        return np.asarray(to_lab(colors[np.newaxis])[0], dtype=np.float32)
    return np.asarray(cv2.cvtColor(colors.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), dtype=np.float32)


def border_of(values: npt.NDArray[Value], depth: int = 1) -> npt.NDArray[Value]:
    """The pixels of the outermost rows and columns, in one row."""
    depth = min(depth, *(max(side // 2, 1) for side in values.shape[:2]))
    tail = values.shape[2:]
    parts = [values[:depth], values[-depth:], values[depth:-depth, :depth], values[depth:-depth, -depth:]]
    return np.concatenate([part.reshape(-1, *tail) for part in parts])


def components(mask: Mask, connectivity: int) -> tuple[Labels, npt.NDArray[np.int64]]:
    """Labels of the connected areas of a mask (0: none), and for each its x, y, width, height and area."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    return np.asarray(labels, dtype=np.int32), np.asarray(stats, dtype=np.int64)


def fit_surface(colors: Pixels, lossy: bool) -> Surface:
    """Fit the ground of RGB pixels of shape (height, width, 3)."""
    height, width = colors.shape[:2]
    scale = min(FIT_SIDE / max(height, width), 1)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = cv2.resize(colors, size, interpolation=cv2.INTER_AREA) if scale < 1 else colors
    picture = small.astype(np.float32)
    axes = _axes(small.shape[0], small.shape[1])
    degree, factors, share = _fit_border(picture, axes)
    lab = to_lab(small)
    smooth = _smooth(lab)
    values = _evaluate(axes, degree, factors)
    usual = float(np.median(np.linalg.norm(border_of(lab - to_lab(values), _RING), axis=1)))
    # Coding draws a gradient in steps.
    least = 2 * _LEAST_REACH if lossy and degree > 0 else _LEAST_REACH
    reach = min(max(_REACH * usual, least), _MOST_REACH)
    ground = _continued(lab, to_lab(values), smooth, reach)
    if degree > 0 or usual > 0.3 or share < 0.8:
        for _ in range(2):
            inside = _well_inside(ground)
            if inside.sum() < 64:
                break
            degree, values = _refit(picture, axes, inside, degree)
            ground = _continued(lab, to_lab(values), smooth, reach)
        # Where the ground goes on smoothly, but off the polynomial, a correction follows it inwards step by step.
        for _ in range(_ROUNDS):
            rim = cv2.dilate(ground.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~ground & smooth
            if rim.sum() < 0.001 * rim.size or not ground.any():
                break
            degree = max(degree, 1)
            values = _corrected(picture, values, _well_inside(ground))
            ground = _continued(lab, to_lab(values), smooth, _MOST_REACH)
        rest = _soft_rest(lab, to_lab(values), ground, smooth)
        if rest.any():
            degree, ground = max(degree, 1), ground | rest
            for _ in range(2):
                values = _corrected(picture, values, ground)
        if degree > 0:
            known = ground.copy()
            for _ in range(2):
                enclosed = _enclosed(picture, lab, to_lab(values), known, smooth)
                if not enclosed.any():
                    break
                known |= enclosed
                values = _corrected(picture, values, _well_inside(known))
    near = border_of(np.linalg.norm(picture - values, axis=2), _RING) <= 2 * _NEAR
    share = max(share, float(near.mean())) if ground.any() else share
    surface_lab = to_lab(values)
    apart = np.linalg.norm(lab - surface_lab, axis=2)[ground]
    spread = float(np.quantile(apart, 0.95)) if apart.size else 0.0
    return Surface(height, width, values, surface_lab, ground, degree, share, spread)


def soft_contact(labels: Labels, contact: Mask, free: Mask, count: int) -> Floats:
    """For each area, how much of the ground's rim that faces it is reached without crossing an edge."""
    _, nearest = cv2.distanceTransformWithLabels(
        (labels == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP
    )
    number = np.zeros(int(nearest.max()) + 1, np.int64)
    number[nearest[labels > 0]] = labels[labels > 0]
    facing = cv2.dilate((labels > 0).astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & free
    rim = facing & cv2.dilate((~free).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    faced = np.bincount(number[nearest[rim]], minlength=count)
    met = np.bincount(labels[contact], minlength=count)
    return np.asarray(met / np.maximum(faced, 1), dtype=np.float32)


def _axes(height: int, width: int) -> tuple[Doubles, Doubles]:
    return np.linspace(-1, 1, height), np.linspace(-1, 1, width)


def _powers(degree: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]


def _terms(y: Doubles, x: Doubles, degree: int) -> Doubles:
    return np.stack([y**i * x**j for i, j in _powers(degree)], axis=1)


def _evaluate(axes: tuple[Doubles, Doubles], degree: int, factors: Doubles) -> Floats:
    rows, columns = (np.stack([axis**i for i in range(degree + 1)], axis=1) for axis in axes)
    cube = np.zeros((degree + 1, degree + 1, 3))
    for (i, j), factor in zip(_powers(degree), factors, strict=True):
        cube[i, j] = factor
    values = np.einsum("yi,xj,ijc->yxc", rows, columns, cube, optimize=True)
    return np.asarray(np.clip(values, 0, 255), dtype=np.float32)


def _fit_border(picture: Floats, axes: tuple[Doubles, Doubles]) -> tuple[int, Doubles, float]:
    """Degree, factors, and the share of the border that lies on the polynomial."""
    height, width = picture.shape[:2]
    y, x = np.meshgrid(*axes, indexing="ij")
    border = border_of(np.dstack([y, x, picture]), _RING).astype(np.float64)
    if len(border) > 3000:
        border = border[:: len(border) // 3000 + 1]
    seen = border[:, 2:]
    best: tuple[int, Doubles, float] | None = None
    for degree in (0, 1, 2, 3, 4):
        if min(height, width) <= 2 * degree + 2:
            break
        terms = _terms(border[:, 0], border[:, 1], degree)
        fits = [_robust(terms, seen, start, degree) for start in (_commonest(seen), np.ones(len(seen)))]
        factors, share = max(fits, key=lambda fit: fit[1])
        # A higher degree must earn itself: it extrapolates worse.
        if best is None or share > best[2] + (0.02 if degree <= 2 else 0.06):
            best = degree, factors, share
        if best[2] > 0.985:
            break
    if best is None:
        return 0, np.median(seen, axis=0)[np.newaxis], 1.0
    return best


def _commonest(seen: Doubles) -> Doubles:
    """Weights that begin with the commonest colour."""
    steps = seen.astype(np.int64) >> 4
    keys = steps[:, 0] << 8 | steps[:, 1] << 4 | steps[:, 2]
    middle = seen[keys == np.bincount(keys).argmax()].mean(axis=0)
    return np.asarray(np.linalg.norm(seen - middle, axis=1) < 40, dtype=np.float64)


def _robust(terms: Doubles, seen: Doubles, weight: Doubles, degree: int) -> tuple[Doubles, float]:
    """Factors by reweighted least squares whose scale cools down, and the share within reach at the end."""
    scale = _FIRST_SCALE
    while True:
        factors = _solve(terms, seen, weight, degree)
        away = np.linalg.norm(seen - terms @ factors, axis=1)
        if scale <= _LAST_SCALE:
            return factors, float((away <= _NEAR).mean())
        scale = max(scale / _COOLING, _LAST_SCALE)
        weight = 1 / (1 + (away / scale) ** 2) ** 2


def _solve(terms: Doubles, seen: Doubles, weight: Doubles, degree: int) -> Doubles:
    weighted = terms * weight[:, np.newaxis]
    # On a square's border some terms of a high degree cannot be told apart.
    ridge = np.array([1e-4 * (i + j) ** 2 for i, j in _powers(degree)]) * weight.sum()
    factors = np.linalg.solve(weighted.T @ terms + np.diag(ridge * 1e-2 + 1e-9), weighted.T @ seen)
    return np.asarray(factors, dtype=np.float64)


def _smooth(lab: Floats) -> Mask:
    """Where neighbours differ by less than an edge does."""
    if min(lab.shape[:2]) < 3:
        return np.ones(lab.shape[:2], bool)
    step = np.zeros(lab.shape[:2], np.float32)
    soft = cv2.GaussianBlur(lab, (0, 0), 0.8)
    for dx, dy in ((1, 0), (0, 1)):
        slope = cv2.Sobel(soft, cv2.CV_32F, dx, dy, ksize=3, scale=1 / 8, borderType=cv2.BORDER_REPLICATE)
        step += (slope**2).sum(axis=2)
    along = border_of(step, _RING)
    usual = float(np.median(along)) ** 0.5
    least = _LEAST_EDGE if usual < 0.02 else 2 * _LEAST_EDGE
    steep = max(_EDGE * usual, _STEEP * float(np.quantile(along, 0.9)) ** 0.5)
    return np.asarray(step < min(max(steep, least), _MOST_EDGE) ** 2, dtype=bool)


def _continued(lab: Floats, surface: Floats, smooth: Mask, reach: float) -> Mask:
    """What lies on the surface and is reached from the border without crossing an edge."""
    on = (np.linalg.norm(lab - surface, axis=2) <= reach) & smooth
    _, labels = cv2.connectedComponents(on.astype(np.uint8), connectivity=4)
    reached = np.zeros(int(labels.max()) + 1, bool)
    reached[np.unique(border_of(labels))] = True
    reached[0] = False
    return np.asarray(reached[labels], dtype=bool)


def _soft_rest(lab: Floats, surface: Floats, ground: Mask, smooth: Mask) -> Mask:
    """Areas that the ground runs into without an edge, such as the peak of a radial gradient."""
    labels, stats = components(smooth & ~ground, 4)
    near = cv2.dilate(ground.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    area = np.maximum(stats[:, cv2.CC_STAT_AREA], 1)
    away = np.bincount(labels.ravel(), np.linalg.norm(lab - surface, axis=2).ravel(), len(stats)) / area
    is_rest = (soft_contact(labels, near & (labels > 0), ground, len(stats)) >= _LEAST_REST) & (away <= _MOST_REST)
    is_rest[0] = False
    return np.asarray(is_rest[labels], dtype=bool)


def _enclosed(picture: Floats, lab: Floats, surface: Floats, ground: Mask, smooth: Mask) -> Mask:
    """Areas that artwork encloses and that go on with the ground: what is seen there tells its colour there."""
    labels, stats = components(smooth & ~ground, 4)
    count, area = len(stats), stats[:, cv2.CC_STAT_AREA]
    where = labels.ravel()

    def mean(values: Floats) -> Doubles:
        total = [np.bincount(where, values[..., i].ravel(), count) for i in range(3)]
        return np.asarray(np.stack(total, axis=1) / area[:, np.newaxis])

    apart = lab - surface
    off, own = mean(apart), mean(surface)
    left = np.sqrt(np.maximum((mean(apart**2) - off**2).sum(axis=1), 0))
    slope = np.sqrt(np.maximum((mean(surface**2) - own**2).sum(axis=1), 0))
    away = np.linalg.norm(off, axis=1)
    along = (slope >= _TELLING_SLOPE) & (left <= np.maximum(_LEFT * slope, _LEAST_LEFT)) & (away <= _ENCLOSED_ALONG)
    is_pure = np.abs(picture - 127.5).min(axis=2) > _PURE
    pure = np.bincount(where, is_pure.ravel(), count) > 0.5 * area
    noise = float(np.sqrt((apart[ground] ** 2).sum(axis=1).mean())) if ground.any() else 0.0
    near = ~pure & (away <= _ENCLOSED) & (left <= np.maximum(_LEFT * slope, _LEFT_NOISE * noise + 0.15))
    found = (along | near) & (area >= _ENCLOSED_PIXELS)
    found[0] = False
    return np.asarray(found[labels], dtype=bool)


def _well_inside(ground: Mask) -> Mask:
    inside = cv2.erode(ground.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return inside if inside.sum() >= 64 else ground


def _refit(picture: Floats, axes: tuple[Doubles, Doubles], inside: Mask, least: int) -> tuple[int, Floats]:
    """Degree and values of the polynomial through what is known to be ground."""
    at_y, at_x = np.nonzero(inside)
    step = max(len(at_y) // 6000, 1)
    at_y, at_x = at_y[::step], at_x[::step]
    seen = picture[at_y, at_x].astype(np.float64)
    y, x = axes[0][at_y], axes[1][at_x]
    best_degree, best, best_error = least, None, np.inf
    for degree in range(0, 5):
        terms = _terms(y, x, degree)
        weight = np.ones(len(seen))
        for _ in range(4):
            factors = _solve(terms, seen, weight, degree)
            away = np.linalg.norm(seen - terms @ factors, axis=1)
            weight = 1 / (1 + (away / 4) ** 2) ** 2
        error = float(np.quantile(away, 0.9))
        if error < 0.8 * best_error - 0.15:
            best_degree, best, best_error = degree, factors, error
        if best_error < 1:
            break
    assert best is not None  # noqa: S101 - the first degree is better than none
    return best_degree, _evaluate(axes, best_degree, best)


def _corrected(picture: Floats, values: Floats, inside: Mask) -> Floats:
    height, width = inside.shape
    size = (max(width // 4, 1), max(height // 4, 1))
    weight = inside.astype(np.float32)
    left = cv2.resize((picture - values) * weight[..., np.newaxis], size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    sigma = max(size) / 30
    left = cv2.GaussianBlur(left, (0, 0), sigma)
    total = cv2.GaussianBlur(total, (0, 0), sigma)[..., np.newaxis]
    values = values + cv2.resize(left / (total + 0.02), (width, height))
    return np.asarray(np.clip(values, 0, 255), dtype=np.float32)
