"""Writing results: PNG files with a print resolution, and the result around them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyvips

from services.images.engines.base import JSON, EngineResult, ProviderCall
from services.images.engines.decode import Pixels
from services.images.engines.thumbnail import make_thumbnail

PRINT_DPI = 300
# Measured on 3600 x 3600 RGBA: 3 takes 0.36 s (6: 1.6 s for 12 % less; Pillow at 3: 1.5 s for 28 % more).
_COMPRESSION = 3


def encode_png(pixels: Pixels) -> bytes:
    """Encode RGB or RGBA pixels of shape (height, width, 3 or 4) as a PNG that says 300 DPI."""
    height, width, bands = pixels.shape
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, bands, "uchar").copy(
        interpretation="srgb", xres=PRINT_DPI / 25.4, yres=PRINT_DPI / 25.4
    )
    return bytes(image.write_to_buffer(".png", compression=_COMPRESSION, filter="none"))


def png_result(
    pixels: Pixels,
    *,
    label: str | None = None,
    confidence: float | None = None,
    warnings: tuple[str, ...] = (),
    details: Mapping[str, JSON] | None = None,
    calls: tuple[ProviderCall, ...] = (),
) -> EngineResult:
    """Build the result of an operation that makes pixels."""
    return EngineResult(
        data=encode_png(pixels),
        media_type="image/png",
        extension="png",
        width=int(pixels.shape[1]),
        height=int(pixels.shape[0]),
        thumbnail=make_thumbnail(pixels),
        label=label,
        confidence=confidence,
        warnings=warnings,
        details=dict(details or {}),
        calls=calls,
    )
