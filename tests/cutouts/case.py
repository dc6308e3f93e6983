"""One picture with its truth, and what makes a cut-out of it right. Written before the engine that is judged by it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Bytes: TypeAlias = npt.NDArray[np.uint8]

SEEN_DIFFERENCE = 8.0
"""CIEDE2000 from which an outline counts as told from the ground beside it."""
SEEN_SHARE = 0.98
"""Share of the true outline that must be told from the ground for a case to be unambiguous."""
RIGHT, WRONG = 0.98, 0.95
"""Intersection over union from which a cut-out is right, and below which it is wrong."""


_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True)
class Case:
    """Art (RGBA, straight, 0..1) drawn over a ground (RGB, 0..1) and kept as PNG (quality None) or as JPEG."""

    name: str
    kind: str
    art: Floats
    ground: Floats
    quality: int | None = None

    @cached_property
    def file(self) -> bytes:
        """The picture as it is uploaded."""
        buffer = io.BytesIO()
        picture = Image.fromarray((over(self.art, self.ground).clip(0, 1) * 255).round().astype(np.uint8))
        if self.quality is None:
            picture.save(buffer, "PNG", compress_level=1)
        else:
            picture.save(buffer, "JPEG", quality=self.quality)
        return buffer.getvalue()

    @property
    def truth(self) -> Mask:
        """Where the art is."""
        return np.asarray(self.art[..., 3] >= 0.5, dtype=bool)

    @cached_property
    def is_unambiguous(self) -> bool:
        """Whether at least 98 % of the true outline differ from the ground beside it by 8 (CIEDE2000)."""
        return self.seen_outline >= SEEN_SHARE

    @cached_property
    def seen_outline(self) -> float:
        """Share of the true outline that can be told from the ground beside it."""
        # The picture's own rim is no outline: art that is cut off there has nothing beside it.
        inner = cv2.erode(self.truth.astype(np.uint8), _CROSS, borderValue=1)
        outline = self.truth & (inner == 0)
        if not outline.any():
            return 0.0
        art, ground = rgb2lab(self.art[..., :3][outline]), rgb2lab(self.ground[outline])
        apart = deltaE_ciede2000(art, ground)  # type: ignore[no-untyped-call]
        return float((apart >= SEEN_DIFFERENCE).mean())

    def overlap(self, alpha: Bytes) -> float:
        """Intersection over union of the truth and a cut-out's alpha, both at one half."""
        found = alpha >= 128
        either = int((self.truth | found).sum())
        return float((self.truth & found).sum() / either) if either else 1.0


def over(art: Floats, ground: Floats) -> Floats:
    """Lay art over a ground."""
    alpha = art[..., 3:]
    return art[..., :3] * alpha + ground * (1 - alpha)
