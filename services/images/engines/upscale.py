"""Upscaling with the waifu2x upconv_7 networks on the CPU.

The network doubles; four times is twice doubled. Pictures go through it in tiles, so memory does not grow
with the picture. waifu2x: Nagadomi, https://github.com/nagadomi/waifu2x (MIT).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

import ncnn
import numpy as np

from services.images.engines.alpha import bleed_colors
from services.images.engines.base import ConfiguredEngine, EngineError, EngineResult
from services.images.engines.decode import Picture, Pixels, decode
from services.images.engines.encode import MAX_RESULT_BYTES, encode_png, png_result, result_too_large
from services.images.engines.measure import ART_SHARE, art_share
from services.images.engines.options import UpscaleOptions
from services.images.engines.settings import EngineSettings
from services.images.weights import weight

# 22 inches, the width of a gang sheet, at 300 DPI both ways are 44 million. With a varied alpha channel, the
# worst case, 48 million take 95 s on one 2026 server core and 135 s on a busy machine; 300 s are allowed.
MAX_OUTPUT_PIXELS = 48_000_000

# Input side of a tile without its border. Time per pixel is level from 64 to 256; memory is not
# (94 MB at 64, 524 MB at 256), and small tiles more often hold a single colour.
TILE = 64
# upconv_7 looks 7 px beyond what it returns: output = (input - 14) * 2.
BORDER = 7

Style = Literal["art", "photo"]
Denoise = Literal["none", "light", "medium", "strong"]

_MODEL_FOLDERS: dict[Style, str] = {"art": "models-upconv_7_anime_style_art_rgb", "photo": "models-upconv_7_photo"}
_MODEL_FILES: dict[Denoise, str] = {"none": "noise0", "light": "noise1", "medium": "noise2", "strong": "noise3"}

# This many patches a side, spread over the picture, tell how large its file will be.
_SAMPLE_GRID = 4
# The estimate was within 0.6 and 1.4 times the file for photos, noise and art.
_CERTAINLY_TOO_LARGE = 1.5


class Waifu2xEngine(ConfiguredEngine):
    """Enlarges a picture two or four times."""

    name = "waifu2x"
    operation_type = "upscale"
    options_model = UpscaleOptions

    def __init__(self, settings: EngineSettings) -> None:
        """Raises RuntimeError when weights are missing, so that a worker without them does not start."""
        super().__init__(settings)
        for style, denoise in product(_MODEL_FOLDERS, _MODEL_FILES):
            _weights(style, denoise)

    def run(self, source: bytes | None, options: UpscaleOptions) -> EngineResult:
        """Enlarge the file by `options.scale`; the result is a PNG at 300 DPI."""
        picture = decode(source)
        _check_output_size(picture, options.scale)
        style: Style = options.style if options.style != "auto" else choose_style(picture.pixels)
        denoise: Denoise = options.denoise if options.denoise != "auto" else _choose_denoise(picture)
        expected = _expected_bytes(picture.pixels, options.scale, style, denoise, self._settings.engine_threads)
        if expected > MAX_RESULT_BYTES * _CERTAINLY_TOO_LARGE:
            raise result_too_large(expected)
        pixels = upscale(picture.pixels, options.scale, style, denoise, self._settings.engine_threads)
        return png_result(
            pixels,
            warnings=picture.warnings,
            details={"scale": options.scale, "style": style, "denoise": denoise},
        )


def upscale(pixels: Pixels, scale: int, style: Style, denoise: Denoise, threads: int = 1) -> Pixels:
    """Enlarge RGB or RGBA pixels of shape (height, width, 3 or 4) by 2 or 4."""
    network = _load_network(style, denoise, threads)
    # An alpha channel is drawn, whatever it cuts out, and carries no coding noise.
    alpha_network = _load_network("art", "none", threads)
    alpha = np.ascontiguousarray(pixels[..., 3]) if pixels.shape[2] == 4 else None
    colors = np.ascontiguousarray(pixels[..., :3]) if alpha is None else bleed_colors(pixels)
    for _ in range(scale // 2):
        colors = _double(colors, network)
        if alpha is not None:
            alpha = np.ascontiguousarray(_double(np.repeat(alpha[..., np.newaxis], 3, axis=2), alpha_network)[..., 1])
    return colors if alpha is None else np.dstack([colors, alpha])


def _check_output_size(picture: Picture, scale: int) -> None:
    width, height = picture.width * scale, picture.height * scale
    if width * height > MAX_OUTPUT_PIXELS:
        advice = "Use scale 2 or a smaller picture." if scale == 4 else "Use a smaller picture."
        raise EngineError(
            f"Enlarged {scale} times the picture would be {width} x {height} px; the limit is "
            f"{MAX_OUTPUT_PIXELS // 10**6} million pixels. {advice}"
        )


def _expected_bytes(pixels: Pixels, scale: int, style: Style, denoise: Denoise, threads: int) -> int:
    """Size of the enlarged picture's PNG, by enlarging patches of it first (0: small enough in any case)."""
    height, width, bands = pixels.shape
    if height * width * bands * scale**2 <= MAX_RESULT_BYTES:
        return 0
    rows, columns = (
        np.linspace(0, side - min(TILE, side), _SAMPLE_GRID).astype(int).tolist() for side in (height, width)
    )
    patches = [[pixels[top : top + TILE, left : left + TILE] for left in columns] for top in rows]
    sample = np.concatenate([np.concatenate(line, axis=1) for line in patches])
    encoded = len(encode_png(upscale(sample, scale, style, denoise, threads)))
    share = sample.shape[0] * sample.shape[1] / (height * width)
    return int(encoded / share)


def choose_style(pixels: Pixels) -> Style:
    """Which of the networks suits a picture."""
    return "art" if art_share(pixels) >= ART_SHARE else "photo"


def _choose_denoise(picture: Picture) -> Denoise:
    return "medium" if picture.lossy else "none"


def _weights(style: Style, denoise: Denoise) -> tuple[Path, Path]:
    """Files of a network: its layers and their weights. Raises RuntimeError when they are missing or damaged."""
    name = f"waifu2x/{_MODEL_FOLDERS[style]}/{_MODEL_FILES[denoise]}_scale2.0x_model"
    return weight(f"{name}.param"), weight(f"{name}.bin")


@lru_cache(maxsize=4)
def _load_network(style: Style, denoise: Denoise, threads: int) -> Any:
    layers, weights = _weights(style, denoise)
    network = ncnn.Net()
    network.opt.num_threads = threads
    network.opt.use_vulkan_compute = False
    if network.load_param(str(layers)) != 0 or network.load_model(str(weights)) != 0:
        raise RuntimeError(f"ncnn could not load the weights {weights}.")
    return network


def _double(pixels: Pixels, network: Any) -> Pixels:
    height, width = pixels.shape[:2]
    doubled = np.empty((height * 2, width * 2, 3), np.uint8)
    padded = np.pad(pixels, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge")
    for top, left in _tile_corners(height, width):
        rows, columns = min(TILE, height - top), min(TILE, width - left)
        tile = padded[top : top + rows + 2 * BORDER, left : left + columns + 2 * BORDER]
        target = doubled[top * 2 : (top + rows) * 2, left * 2 : (left + columns) * 2]
        if (tile == tile[0, 0]).all():
            # One colour stays that colour; in flat art this spares most of the work.
            target[:] = tile[0, 0]
        else:
            target[:] = _run_network(tile, network)
    return doubled


def _tile_corners(height: int, width: int) -> Iterator[tuple[int, int]]:
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield top, left


def _run_network(tile: Pixels, network: Any) -> Pixels:
    planes = np.ascontiguousarray(tile.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
    extractor = network.create_extractor()
    # Without clone() the Mat looks into the array's memory, which may be gone before it is read.
    extractor.input("Input1", ncnn.Mat(planes).clone())
    status, output = extractor.extract("Eltwise4")
    if status != 0:
        raise MemoryError("the network could not be run on a tile")
    doubled = np.array(output).transpose(1, 2, 0)
    return np.clip(doubled * 255 + 0.5, 0, 255).astype(np.uint8)
