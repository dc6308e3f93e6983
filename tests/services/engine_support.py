"""What the engine tests share: measures of likeness and one way to run an engine on bytes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from services.images.engines import EngineError, EngineResult, EngineSettings, build_engines, run_operation
from tests.services.art import Pixels

PHOTO = Path(__file__).parents[2] / "cli" / "samples" / "photo.jpg"


@lru_cache(maxsize=1)
def offline_engines() -> dict[str, Any]:
    return dict(build_engines(EngineSettings(openai_api_key=None)))


def run(operation_type: str, source: bytes | None, **options: Any) -> EngineResult:
    return run_operation(offline_engines()[operation_type], source, options)


def refusal(operation_type: str, source: bytes | None, **options: Any) -> EngineError:
    """The permanent error that the operation ends with."""
    with pytest.raises(EngineError) as caught:
        run(operation_type, source, **options)
    assert not caught.value.retryable
    return caught.value


def psnr(truth: npt.NDArray[Any], seen: npt.NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB of 8-bit values."""
    error = np.mean((truth.astype(np.float64) - seen.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def over(pixels: Pixels, background: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """RGBA laid over a plain colour."""
    alpha = pixels[..., 3:].astype(np.float64) / 255
    return pixels[..., :3] * alpha + np.array(background) * (1 - alpha)


def overlap(truth: npt.NDArray[np.bool_], seen: npt.NDArray[np.bool_]) -> float:
    """Intersection over union of two masks."""
    return float((truth & seen).sum() / (truth | seen).sum())


def lanczos(pixels: Pixels, scale: int) -> Pixels:
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((image.width * scale, image.height * scale), Image.Resampling.LANCZOS))
