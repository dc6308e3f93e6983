"""Drawings of others: sets of coloured icons from npm, which `make bench` alone installs.

Which icons are taken is decided by the hash of their names. The engine was tuned on `TUNED` (and on random drawings);
`HELD_OUT` is of other sets, by other hands, and says how good it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cutouts.art import draw
from tests.cutouts.case import Floats

NODE_MODULES = Path(__file__).parents[1] / "benchmarks" / "peers" / "node_modules"
TUNED = ("fluent-emoji-flat", "openmoji", "noto", "twemoji", "flat-color-icons", "fxemoji")
HELD_OUT = ("emojione", "flat-ui", "streamline-ultimate-color")
MARGIN = 0.08
"""Ground left and right of an icon, as a share of its side."""


def icons(name: str, count: int, side: int = 512) -> Iterator[tuple[str, Floats]]:
    """`count` drawings of a set, by name, RGBA of `side` px; those that leave nothing or fill all are passed over."""
    content: dict[str, Any] = json.loads((NODE_MODULES / "@iconify-json" / name / "icons.json").read_text())
    by_hash = sorted(content["icons"], key=lambda icon: hashlib.sha256(f"{name}:{icon}".encode()).digest())
    for icon in by_hash:
        if count == 0:
            return
        entry = content["icons"][icon]
        width, height = entry.get("width", content.get("width", 16)), entry.get("height", content.get("height", 16))
        reach = max(width, height) * (1 + 2 * MARGIN)
        left, top = (width - reach) / 2, (height - reach) / 2
        art = draw(
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {reach} {reach}">{entry["body"]}</svg>',
            side,
            side,
        )
        if 0.02 < (art[..., 3] >= 0.5).mean() < 0.95:
            count -= 1
            yield f"{name}/{icon}", art
