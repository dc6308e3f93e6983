"""What stands out in a picture, by a small network, for photos and busy grounds: a draft that is refined at full size.

U-2-Net's small network sees 320 x 320 px. It is asked twice, about the picture and about its mirror image: where the
two answers differ, it does not know. An operator's own model file runs on onnxruntime.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from services.images.engines.cutout.surface import Floats, border_of, strips
from services.images.engines.decode import Pixels
from services.images.weights import weight

# As its authors trained it, and rembg after them: scaled by the brightest value, then by ImageNet's mean and deviation.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIDE = 320
_WORK_SIDE = 1024
_RADIUS_SHARE, _EPSILON = 1 / 80, 1e-4
_SURE = 0.5


class Network(Protocol):
    """Something that tells how much each pixel stands out."""

    def __call__(self, colors: Pixels) -> Floats:
        """Saliency (0..1) of RGB pixels at a size of the network's own."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A cut-out by a network: RGBA, and what can be seen of it.

    `agreement` of its two answers (0..1), `vague`: px where it does not know, as a share of the subject, `share` of the
    picture and `border` of its border that the subject covers.
    """

    pixels: Pixels
    agreement: float
    vague: float
    share: float
    border: float

    @property
    def confidence(self) -> float:
        """How likely it is right (0..1). A small network's outline is a draft, however sure it is."""
        return 0.6 * self.certainty

    @property
    def certainty(self) -> float:
        """How sure the network is of what stands out (0..1), whatever its outline is worth."""
        return self.agreement**2 * (1 - min(self.vague, 1))


class U2NetSmall:
    """U-2-Net's small network on OpenCV."""

    def __init__(self) -> None:
        self._network = cv2.dnn.readNetFromONNX(str(weight("u2net/u2netp.onnx")))

    def __call__(self, colors: Pixels) -> Floats:
        """Saliency of RGB pixels, 320 x 320."""
        self._network.setInput(_prepared(colors, (_SIDE, _SIDE), _MEAN, _DEVIATION))
        return _stretched(np.asarray(self._network.forward(), dtype=np.float32)[0, 0])


class OnnxFile:
    """An operator's own model, in the shapes that rembg's models have: ISNet, BiRefNet, U-2-Net."""

    def __init__(self, path: Path) -> None:
        """Load a model. Raises RuntimeError when it, or onnxruntime, is not there."""
        try:
            import onnxruntime
        except ImportError as error:
            raise RuntimeError(
                'BACKGROUND_MODEL needs onnxruntime. Run: pip install "dtf-editor-backend[onnx]"'
            ) from error
        if not path.is_file():
            raise RuntimeError(f"BACKGROUND_MODEL names {path}, which is not there.")
        self._session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        shape = self._session.get_inputs()[0].shape
        self._size = tuple(side if isinstance(side, int) else 1024 for side in shape[2:])
        # ISNet was trained on values around one half, the others as U-2-Net.
        is_isnet = "isnet" in path.name.lower()
        self._mean, self._deviation = ((0.5,) * 3, (1.0,) * 3) if is_isnet else (_MEAN, _DEVIATION)
        self._is_raw = "birefnet" in path.name.lower()

    def __call__(self, colors: Pixels) -> Floats:
        """Saliency of RGB pixels at the model's size."""
        height, width = self._size
        blob = _prepared(colors, (width, height), self._mean, self._deviation)
        answer = self._session.run(None, {self._session.get_inputs()[0].name: blob})[0]
        answer = np.asarray(answer, dtype=np.float32).reshape(answer.shape[-2:])
        return _stretched(1 / (1 + np.exp(-answer)) if self._is_raw else answer)


@lru_cache(maxsize=2)
def load(model: Path | None) -> Network:
    """The network that an operator names, or the one that is installed. Raises RuntimeError when it is not there."""
    return U2NetSmall() if model is None else OnnxFile(model)


def _prepared(colors: Pixels, size: tuple[int, int], mean: tuple[float, ...], deviation: tuple[float, ...]) -> Floats:
    small = cv2.resize(colors, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small /= max(float(small.max()), 1)
    return np.ascontiguousarray(
        ((small - np.array(mean, np.float32)) / np.array(deviation, np.float32)).transpose(2, 0, 1)[np.newaxis]
    )


def _stretched(answer: npt.NDArray[np.floating[Any]]) -> Floats:
    low, high = float(answer.min()), float(answer.max())
    return np.asarray((answer - low) / max(high - low, 1e-6), dtype=np.float32)


def draft(colors: Pixels, network: Network) -> Draft:
    """Cut out what stands out of RGB pixels."""
    first = network(colors)
    second = network(np.ascontiguousarray(colors[:, ::-1]))[:, ::-1]
    mean = (first + second) / 2
    either = int(((first >= _SURE) | (second >= _SURE)).sum())
    agreement = float(((first >= _SURE) & (second >= _SURE)).sum() / either) if either else 0.0
    found = max(int((mean >= _SURE).sum()), 1)
    vague = float(((mean > 0.15) & (mean < 0.85)).sum() / found)
    alpha = _refined(colors, mean)
    pixels = _with_own_colors(colors, alpha)
    inside = alpha >= _SURE
    return Draft(pixels, agreement, vague, float(inside.mean()), float(border_of(inside).mean()))


def _refined(colors: Pixels, saliency: npt.NDArray[np.floating[Any]]) -> Floats:
    """Saliency that follows the edges of the picture: a guided filter (He, Sun and Tang, 2013), by its fast variant."""
    height, width = colors.shape[:2]
    scale = min(_WORK_SIDE / max(height, width), 1)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    guide = cv2.resize(colors, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    target = cv2.resize(np.ascontiguousarray(saliency), size, interpolation=cv2.INTER_CUBIC)
    side = 2 * max(round(max(size) * _RADIUS_SHARE), 2) + 1

    def mean(values: npt.NDArray[Any]) -> Floats:
        return np.asarray(cv2.blur(values, (side, side)), dtype=np.float32)

    guide_mean, target_mean = mean(guide), mean(target)
    covariance = mean(guide * target[..., np.newaxis]) - guide_mean * target_mean[..., np.newaxis]
    variance = np.empty((*guide.shape[:2], 3, 3), np.float32)
    for i in range(3):
        for j in range(i, 3):
            product = mean(guide[..., i] * guide[..., j]) - guide_mean[..., i] * guide_mean[..., j]
            variance[..., i, j] = variance[..., j, i] = product
    variance += np.eye(3, dtype=np.float32) * _EPSILON
    slope = np.linalg.solve(variance, covariance[..., np.newaxis])[..., 0]
    offset = target_mean - (slope * guide_mean).sum(axis=2)
    alpha = np.empty((height, width), np.float32)
    factors = mean(np.dstack([slope, offset]).astype(np.float32))
    down, right = factors.shape[0] / height, factors.shape[1] / width
    for rows in strips(height):
        where = np.array([[right, 0, right / 2 - 0.5], [0, down, (rows.start + 0.5) * down - 0.5]], np.float64)
        here = cv2.warpAffine(
            factors,
            where,
            (width, rows.stop - rows.start),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        alpha[rows] = (here[..., :3] * colors[rows].astype(np.float32) / 255).sum(axis=2) + here[..., 3]
    # Only the outline is in question: away from it, what prints is there or not.
    inside = (target >= _SURE).astype(np.uint8)
    reach = np.ones((2 * side + 1,) * 2, np.uint8)
    zone = np.asarray(cv2.erode(inside, reach, borderValue=1) + cv2.dilate(inside, reach))
    place = cv2.resize(zone, (width, height), interpolation=cv2.INTER_NEAREST)
    alpha = np.asarray(np.clip((alpha - 0.1) / 0.8, 0, 1), dtype=np.float32)
    alpha[place == 2] = 1
    alpha[place == 0] = 0
    return alpha


def _with_own_colors(colors: Pixels, alpha: Floats) -> Pixels:
    """RGBA without the ground's colour along the edges: blur fusion (Forte, 2021), twice."""
    height, width = alpha.shape
    scale = min(_WORK_SIDE / max(height, width), 1)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    picture = cv2.resize(colors, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)[..., np.newaxis]
    own: npt.NDArray[Any] = picture
    ground: npt.NDArray[Any] = picture
    for side in (91, 7):
        weight_own = cv2.blur(share, (side, side))[..., np.newaxis]
        weight_ground = cv2.blur(1 - share, (side, side))[..., np.newaxis]
        own_mean = cv2.blur(own * share, (side, side)) / (weight_own + 1e-5)
        ground = cv2.blur(ground * (1 - share), (side, side)) / (weight_ground + 1e-5)
        own = np.clip(own_mean + share * (picture - share * own_mean - (1 - share) * ground), 0, 255)
    result = np.empty((height, width, 4), np.uint8)
    result[..., :3] = colors
    result[..., 3] = np.rint(alpha * 255)
    edge = (alpha > 0) & (alpha < 0.98)
    larger = own.astype(np.uint8) if scale == 1 else cv2.resize(own.astype(np.uint8), (width, height))
    result[edge, :3] = larger[edge]
    result[result[..., 3] == 0, :3] = 0
    return result
