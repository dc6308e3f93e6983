"""How much the worker's pipeline adds to the bare engine calls: decoding, checks, encoding and the thumbnail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import cv2

from services.images.engines.background import remove_background
from services.images.engines.cutout.surface import fit_surface
from services.images.engines.upscale import upscale
from services.images.engines.vectorize import trace
from tests.benchmarks.measure import Figure, Progress, in_turn
from tests.services.art import badge_on, encode
from tests.services.engine_support import run as run_pipeline

SECTION = "Engines"
ROUNDS = 2  # a call takes seconds
GOAL = 1.15
WHITE = (255, 255, 255)

CASES: dict[str, tuple[int, dict[str, Any], Callable[[Any], Any]]] = {
    "upscale": (512, {"scale": 4}, lambda pixels: upscale(pixels, 4, "art", "none")),
    "background_removal": (1024, {}, lambda pixels: remove_background(pixels, fit_surface(pixels, False), lossy=False)),
    "vectorize": (1024, {}, lambda pixels: trace(pixels, None, "medium", lossy=False)),
}


def run(report: Progress) -> Iterator[Figure]:
    """Each offline engine that works on a picture, from file to file, beside the call on decoded pixels."""
    cv2.setNumThreads(1)
    for operation_type, (side, options, engine_call) in CASES.items():
        report(f"engines: {operation_type}")
        pixels = badge_on(side, WHITE)
        file = encode(pixels, "PNG")
        run_pipeline(operation_type, file, **options)  # loads weights
        times = in_turn(
            {
                "engine": partial(_seconds, partial(engine_call, pixels)),
                "pipeline": partial(_seconds, partial(run_pipeline, operation_type, file, **options)),
            },
            ROUNDS,
        )
        what = f"{operation_type}, {side} × {side}"
        yield Figure(SECTION, what, times["pipeline"], "engine alone", times["engine"], "s", GOAL, at_most=True)


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
