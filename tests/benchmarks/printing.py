"""What a print file takes: processor time and memory of a process that makes one, against what they may be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks.measure import Figure, Progress
from tests.services.art import badge, encode

SECTION = "Print files"
ROUNDS = 2
# What is made, of which source (width × height px), and the most seconds and megabytes it may take.
CASES: dict[str, tuple[tuple[int, int], dict[str, Any], float | None, float]] = {
    "3600 × 4800 px, hardened, white, PNG": ((3600, 4800), {"size": 12, "trim": False}, 3.0, 600.0),
    "24 × 60 in, halftone, white, TIFF": (
        (2400, 6000),
        {"size": 24, "trim": False, "alpha": "halftone", "format": "tiff"},
        None,
        4096.0,
    ),
}
PROGRAM = """
import json, resource, sys, time
from pathlib import Path
from services.images.engines import EngineSettings, build_engines, run_operation
engine = build_engines(EngineSettings(openai_api_key=None))["print_ready"]
source, options = Path(sys.argv[1]).read_bytes(), json.loads(sys.argv[2])
started = time.process_time()
run_operation(engine, source, options)
print(json.dumps([time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def run(report: Progress) -> Iterator[Figure]:
    """Each case in a process of its own, as the worker's children are, libraries and networks included."""
    with TemporaryDirectory() as folder:
        for what, (size, options, most_seconds, most_megabytes) in CASES.items():
            report(f"printing: {what}")
            source = Path(folder) / "art.png"
            source.write_bytes(encode(np.asarray(Image.fromarray(badge(1200)).resize(size)), "PNG"))
            taken = [_measure(source, options) for _ in range(ROUNDS)]
            seconds, megabytes = (tuple(values) for values in zip(*taken, strict=True))
            bound = most_seconds if most_seconds is not None else min(seconds)
            yield Figure(
                SECTION, what, seconds, "allowed" if most_seconds else "fastest", (bound,) * ROUNDS, "CPU s",
                None if most_seconds is None else 1.0, at_most=True,
            )  # fmt: skip
            yield Figure(SECTION, what, megabytes, "allowed", (most_megabytes,) * ROUNDS, "MB", 1.0, at_most=True)


def _measure(source: Path, options: dict[str, Any]) -> tuple[float, float]:
    """Seconds of the processor, and megabytes of memory at most."""
    program = [sys.executable, "-c", PROGRAM, str(source), json.dumps(options)]
    done = subprocess.run(program, capture_output=True, check=True, text=True)
    seconds, megabytes = json.loads(done.stdout)
    return seconds, megabytes
