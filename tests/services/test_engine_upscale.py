"""Upscaling: better than resampling, clean at edges and seams, whatever the size."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.images.engines import encode as encode_module
from services.images.engines import upscale as upscale_module
from services.images.engines.upscale import upscale
from tests.services.art import Pixels, badge, badge_on, decode_png, encode
from tests.services.engine_support import PHOTO, lanczos, over, psnr, refusal, run

WHITE = (255, 255, 255)


def test_art_enlarged_four_times_beats_lanczos_by_five_decibels() -> None:
    small, truth = badge_on(256, WHITE), badge_on(1024, WHITE)
    result = run("upscale", encode(small, "PNG"))
    assert (result.width, result.height, result.extension) == (1024, 1024, "png")
    assert result.details == {"scale": 4, "style": "art", "denoise": "none"}
    assert psnr(truth, decode_png(result.data)) >= psnr(truth, lanczos(small, 4)) + 5


def test_a_jpeg_is_denoised_and_beats_lanczos_too() -> None:
    small, truth = badge_on(256, WHITE), badge_on(1024, WHITE)
    file = encode(small, "JPEG", quality=50)
    with Image.open(io.BytesIO(file)) as decoded:
        resampled = lanczos(np.asarray(decoded), 4)
    result = run("upscale", file)
    assert result.details["denoise"] == "medium"
    assert psnr(truth, decode_png(result.data)) >= psnr(truth, resampled) + 3


@pytest.mark.parametrize("background", [WHITE, (0, 0, 0), (255, 0, 255)])
def test_transparent_edges_carry_no_fringe(background: tuple[int, int, int]) -> None:
    # Black under the transparent pixels is what would show as a dark rim on a light garment.
    small, truth = badge(256).copy(), badge(1024)
    small[small[..., 3] == 0] = 0
    enlarged = decode_png(run("upscale", encode(small, "PNG")).data)
    assert enlarged.shape == (1024, 1024, 4)
    resampled = np.asarray(
        Image.fromarray(small).convert("RGBa").resize((1024, 1024), Image.Resampling.LANCZOS).convert("RGBA")
    )
    assert psnr(over(truth, background), over(enlarged, background)) >= 5 + psnr(
        over(truth, background), over(resampled, background)
    )


def test_the_file_says_300_dpi() -> None:
    with Image.open(io.BytesIO(run("upscale", encode(badge_on(64, WHITE), "PNG"), scale=2).data)) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_tiles_leave_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (50, 67, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(noise).resize((134, 100), Image.Resampling.BICUBIC))
    tiled = upscale(picture, 2, "photo", "light").astype(int)
    monkeypatch.setattr(upscale_module, "TILE", 512)
    assert np.abs(tiled - upscale(picture, 2, "photo", "light")).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (130, 3), (65, 63)])
@pytest.mark.parametrize("bands", [3, 4])
def test_odd_sizes_are_doubled_exactly(size: tuple[int, int], bands: int) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (*size, bands), dtype=np.uint8)
    enlarged = decode_png(run("upscale", encode(picture, "PNG"), scale=2).data)
    assert enlarged.shape == (size[0] * 2, size[1] * 2, bands)


def test_flat_colour_stays_exactly_that_colour() -> None:
    plain = np.full((70, 70, 3), (27, 45, 72), np.uint8)
    assert (upscale(plain, 2, "art", "none") == (27, 45, 72)).all()


def test_a_photo_is_recognised() -> None:
    with Image.open(PHOTO) as photo:
        part = np.asarray(photo.crop((100, 60, 228, 188)))
    assert run("upscale", encode(part, "PNG"), scale=2).details["style"] == "photo"


def noise(side: int) -> bytes:
    return encode(np.random.default_rng(2).integers(0, 256, (side, side, 4), dtype=np.uint8), "PNG")


def test_a_file_that_storage_would_not_take_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    run_network, tiles = upscale_module._run_network, 0

    def counted(tile: Pixels, network: Any) -> Pixels:
        nonlocal tiles
        tiles += 1
        return run_network(tile, network)

    monkeypatch.setattr(upscale_module, "_run_network", counted)
    assert "the limit is 50 MB" in refusal("upscale", noise(1500)).message
    assert tiles < 300, "the whole picture takes 5500"


def test_a_file_that_turns_out_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode_module, "MAX_RESULT_BYTES", 10_000)
    assert "smaller" in refusal("upscale", noise(40)).message


def test_a_result_beyond_the_limit_is_refused_with_the_way_out() -> None:
    error = refusal("upscale", encode(np.zeros((3000, 3000, 3), np.uint8), "PNG"))
    assert "12000 x 12000" in error.message
    assert "scale 2" in error.message
