"""How much time the pipeline adds to the bare engine calls. Figures are recorded, never asserted.

The goal is a ratio of at most 1.15: decoding, checks, encoding and the thumbnail cost little beside the
engine itself. Results go to the file named by BENCHMARK_OUTPUT (JSON lines), and to the report of `-rP`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from services.images.engines.background import LOSSLESS_TOLERANCE, remove_background
from services.images.engines.upscale import upscale
from services.images.engines.vectorize import trace
from tests.services.art import badge_on, encode
from tests.services.engine_support import run

WHITE = (255, 255, 255)
GOAL = 1.15


def best_of(count: int, call: Callable[[], Any]) -> float:
    """Shortest of `count` runs in seconds: the one least disturbed by the rest of the machine."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


CASES: dict[str, tuple[int, dict[str, Any], Callable[[Any], Any]]] = {
    "upscale": (512, {"scale": 4}, lambda pixels: upscale(pixels, 4, "art", "none")),
    "background_removal": (1024, {}, lambda pixels: remove_background(pixels, LOSSLESS_TOLERANCE, "auto")),
    "vectorize": (1024, {}, lambda pixels: trace(pixels, None, "medium", lossy=False)),
}


@pytest.mark.parametrize("operation_type", CASES)
def test_pipeline_time_beside_the_engine_call(
    operation_type: str, record_property: Callable[[str, object], None]
) -> None:
    side, options, engine_call = CASES[operation_type]
    pixels = badge_on(side, WHITE)
    file = encode(pixels, "PNG")
    cv2.setNumThreads(1)
    run(operation_type, file, **options)  # loads weights and fonts
    engine = best_of(2, lambda: engine_call(pixels))
    pipeline = best_of(2, lambda: run(operation_type, file, **options))
    figures = {
        "benchmark": f"{operation_type} {side}x{side}",
        "engine_seconds": round(engine, 3),
        "pipeline_seconds": round(pipeline, 3),
        "ratio": round(pipeline / engine, 3),
        "goal": GOAL,
    }
    record_property("figures", figures)
    print(json.dumps(figures))
    if output := os.environ.get("BENCHMARK_OUTPUT"):
        with Path(output).open("a") as lines:
            lines.write(json.dumps(figures) + "\n")
