"""Background removal: exact on flat art, honest about everything else."""

from __future__ import annotations

import numpy as np
import pytest

from tests.services.art import Pixels, badge, badge_on, decode_png, encode
from tests.services.engine_support import PHOTO, over, overlap, psnr, refusal, run

WHITE, BLACK, GREEN = (255, 255, 255), (0, 0, 0), (0, 160, 70)


def ring_on_white() -> Pixels:
    """A small navy ring and a large one; both are white inside."""
    rows, columns = np.mgrid[0:300, 0:400]
    small = np.hypot(rows - 150, columns - 80)
    large = np.hypot(rows - 150, columns - 270)
    picture = np.full((300, 400, 3), 255, np.uint8)
    picture[((small > 15) & (small < 40)) | ((large > 90) & (large < 115))] = (27, 45, 72)
    return picture


@pytest.mark.parametrize("background", [WHITE, BLACK, GREEN])
@pytest.mark.parametrize(
    ("file_format", "options"), [("PNG", {}), ("JPEG", {"quality": 90}), ("JPEG", {"quality": 50})]
)
def test_drawn_art_is_cut_out_along_its_outline(
    background: tuple[int, int, int], file_format: str, options: dict[str, int]
) -> None:
    result = run("background_removal", encode(badge_on(1024, background), file_format, **options))
    cut_out, truth = decode_png(result.data), badge(1024)
    assert overlap(truth[..., 3] >= 128, cut_out[..., 3] >= 128) >= 0.99
    assert result.confidence is not None
    # Black outlines of the artwork would not be seen on black.
    assert result.confidence >= (0.7 if background == BLACK else 0.9)
    assert bool(result.warnings) == (background == BLACK)


@pytest.mark.parametrize("garment", [WHITE, BLACK, (255, 0, 255)])
def test_edges_take_nothing_of_the_old_background_along(garment: tuple[int, int, int]) -> None:
    cut_out = decode_png(run("background_removal", encode(badge_on(1024, GREEN), "PNG")).data)
    assert psnr(over(badge(1024), garment), over(cut_out, garment)) >= 45


@pytest.mark.parametrize(
    ("holes", "small_open", "large_open"),
    [("auto", True, True), ("keep", False, False), ("remove", True, True)],
)
def test_holes(holes: str, small_open: bool, large_open: bool) -> None:
    result = run("background_removal", encode(ring_on_white(), "PNG"), holes=holes)
    alpha = decode_png(result.data)[..., 3]
    assert (alpha[150, 80] == 0, alpha[150, 270] == 0) == (small_open, large_open)
    assert alpha[150, 50] == alpha[150, 170] == 255
    assert bool(result.warnings) == (holes != "remove")


def test_dust_is_removed() -> None:
    picture = ring_on_white()
    picture[10:14, 10:14] = (90, 90, 90)
    assert decode_png(run("background_removal", encode(picture, "PNG")).data)[12, 12, 3] == 0


def test_tolerance_decides_what_counts_as_background() -> None:
    picture = ring_on_white()
    picture[0:40, 200:400] = (238, 238, 238)  # 6.1 from white
    strict = decode_png(run("background_removal", encode(picture, "PNG"), tolerance=3).data)
    loose = decode_png(run("background_removal", encode(picture, "PNG"), tolerance=12).data)
    assert (strict[20, 300, 3], loose[20, 300, 3]) == (255, 0)


def test_a_photo_is_refused_with_reason_and_next_step() -> None:
    error = refusal("background_removal", PHOTO.read_bytes())
    assert "no smooth background" in error.message
    assert "photos need a background removal service" in error.message


def test_a_picture_of_nothing_but_background_is_refused() -> None:
    assert (
        "nothing but background"
        in refusal("background_removal", encode(np.full((40, 40, 3), 200, np.uint8), "PNG")).message
    )


def test_a_picture_without_background_is_refused() -> None:
    message = refusal("background_removal", encode(badge(256), "PNG")).message
    assert "already has a transparent background" in message
    assert "upload the version that still has its background" in message


@pytest.mark.parametrize("rows", [10, 60])
def test_a_box_in_a_transparent_margin_still_has_a_background(rows: int) -> None:
    picture = np.dstack([badge_on(256, GREEN), np.full((256, 256), 255, np.uint8)])
    picture[:rows] = 0
    alpha = decode_png(run("background_removal", encode(picture, "PNG")).data)[..., 3]
    assert overlap(badge(256)[rows:, :, 3] >= 128, alpha[rows:] >= 128) >= 0.99
    assert alpha.shape == (256, 256)
    assert not alpha[:rows].any()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 3)])
def test_tiny_pictures_end_in_a_refusal(size: tuple[int, int]) -> None:
    refusal("background_removal", encode(np.full((*size, 3), 200, np.uint8), "PNG"))
