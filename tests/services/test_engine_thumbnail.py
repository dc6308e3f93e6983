"""Thumbnails: small WebP files that keep transparency."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from services.images.engines.thumbnail import make_thumbnail
from tests.services.art import badge, badge_on


@pytest.mark.parametrize(
    ("size", "expected"), [((1024, 2048), (512, 256)), ((100, 40), (40, 100)), ((1, 4000), (512, 1)), ((1, 1), (1, 1))]
)
def test_the_longer_side_is_at_most_512_px_and_never_enlarged(size: tuple[int, int], expected: tuple[int, int]) -> None:
    with Image.open(io.BytesIO(make_thumbnail(np.zeros((*size, 3), np.uint8)))) as image:
        assert (image.format, image.size) == ("WEBP", expected)


def test_transparency_is_kept() -> None:
    with Image.open(io.BytesIO(make_thumbnail(badge(1024)))) as image:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
    assert (alpha[0, 0], alpha[200, 256]) == (0, 255)
    assert len(make_thumbnail(badge_on(1024, (255, 255, 255)))) < 40_000
