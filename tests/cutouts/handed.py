"""Fifteen pictures that the first background removal cut out wrongly, most of them sure of itself."""

from __future__ import annotations

from functools import lru_cache

from tests.cutouts import art, grounds
from tests.cutouts.case import Case

SHAPE = (art.SIDE, art.SIDE)
WHITE, BLACK = grounds.flat(SHAPE, (255, 255, 255)), grounds.flat(SHAPE, (0, 0, 0))


@lru_cache(maxsize=1)
def handed_cases() -> dict[str, Case]:
    """By name."""
    badge, figure, pastel, star = (art.draw(svg) for svg in (art.BADGE, art.FIGURE, art.PASTEL, art.STAR))
    subtle = grounds.gradient(SHAPE, [(255, 255, 255), (225, 228, 232)])
    strong = grounds.gradient(SHAPE, [(250, 250, 250), (60, 110, 190)])
    cases = [
        Case("gradient-subtle-figure", "gradient", figure, subtle),
        Case("gradient-subtle-badge", "gradient", badge, subtle),
        Case("vignette-figure", "vignette", figure, grounds.vignette(SHAPE)),
        Case("vignette-shape", "vignette", star, grounds.vignette(SHAPE)),
        Case("gradient-strong-shape", "gradient", star, strong),
        Case("shadow-shape", "shadow", star, grounds.under_shadow(WHITE, star)),
        Case("shadow-figure", "shadow", figure, grounds.under_shadow(WHITE, figure)),
        Case("paper-badge", "paper", badge, grounds.paper(SHAPE, 1), 70),
        Case("pastel-on-white-jpeg", "flat", pastel, WHITE, 60),
        Case("pastel-on-white-png", "flat", pastel, WHITE),
        Case("white-inside-badge", "flat", badge, WHITE),
        Case("black-ground-figure", "flat", figure, BLACK),
        *(Case(f"halftone-{lpi}lpi", "halftone", art.halftone(lpi), WHITE) for lpi in (25, 35, 45)),
    ]
    return {case.name: case for case in cases}
