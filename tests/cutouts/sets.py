"""Many cases: one drawing on every ground, and random drawings on random grounds."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np
from PIL import Image

from tests.cutouts import grounds
from tests.cutouts.art import glow, halftone, invent, label
from tests.cutouts.case import Case, Floats

COLORS: tuple[grounds.Color, ...] = ((0, 160, 70), (225, 30, 90), (245, 214, 60), (40, 70, 140), (128, 128, 128))


def on_every_ground(name: str, art: Floats, seed: int) -> Iterator[Case]:
    """A drawing on each kind of ground, as PNG and as JPEG of a quality between 40 and 80."""
    dice = Random(f"{name} {seed}")  # noqa: S311 - to be the same again
    shape = art.shape[:2]
    white = grounds.flat(shape, (255, 255, 255))
    made: dict[str, Floats] = {
        "white": white,
        "color": grounds.flat(shape, dice.choice(COLORS)),
        "black": grounds.flat(shape, (0, 0, 0)),
        "subtle": grounds.gradient(shape, [(255, 255, 255), (225, 228, 232)], dice.choice([45, 0, 90, 200, 310])),
        "strong": grounds.gradient(shape, [(250, 250, 250), (60, 110, 190)], dice.choice([45, 0, 90, 135, 250])),
        "vignette": grounds.vignette(shape, corner=dice.uniform(0.75, 0.9)),
        "paper": grounds.paper(shape, dice.randint(0, 999)),
        "shadow": grounds.under_shadow(white, art, (dice.randint(-12, 12), dice.randint(2, 14)), dice.uniform(4, 12)),
    }
    for kind, ground in made.items():
        if kind != "paper":
            yield Case(f"{name} {kind} png", kind, art, ground)
        quality = dice.choice([40, 50, 60, 70, 80])
        yield Case(f"{name} {kind} jpeg{quality}", kind, art, ground, quality)


def random_cases(seed: int, count: int) -> Iterator[Case]:
    """Random art of random size on random grounds."""
    for number in range(seed * 100_000, seed * 100_000 + count):
        dice = Random(number)  # noqa: S311 - to be the same again
        side = dice.choice([256, 320, 400, 512, 512, 640, 768, 1024, 1500])
        if dice.random() < 0.02:
            side = 3000
        color = (dice.randint(0, 255), dice.randint(0, 255), dice.randint(0, 255))
        art, drawn = invent(number, side), "shapes"
        what = dice.random()
        if what < 0.06:
            art, drawn = halftone(dice.uniform(25, 45), side=min(side, 768), degrees=dice.uniform(0, 90)), "halftone"
        elif what < 0.10:
            words = ["100% cotton. Wash at 30.", "Do not iron; do not bleach!", "Made in Turin: i, j, é, ü."]
            art, drawn = label(words, dice.choice([6, 8, 11])), "label"
        elif what < 0.14:
            art, drawn = glow(art, color, side / dice.uniform(30, 80)), "glow"
        yield _on_random_ground(f"random {number} {drawn}", art, dice)


def _on_random_ground(name: str, art: Floats, dice: Random) -> Case:
    shape = art.shape[:2]
    first, second, third = (_color(dice, 0) for _ in range(3))
    light = _color(dice, 200)
    white: grounds.Color = (255, 255, 255)
    kind = dice.choice(
        [
            "white",
            "white",
            "flat",
            "flat",
            "black",
            "linear",
            "linear",
            "radial",
            "stops",
            "vignette",
            "paper",
            "paper",
            "lit",
            "shadow",
        ]
    )
    ground = {
        "white": lambda: grounds.flat(shape, white),
        "flat": lambda: grounds.flat(shape, first),
        "black": lambda: grounds.flat(shape, (0, 0, 0)),
        "linear": lambda: grounds.gradient(
            shape, [first, second] if dice.random() < 0.5 else [white, light], dice.uniform(0, 360)
        ),
        "radial": lambda: grounds.radial(shape, [light, second], (dice.uniform(0.3, 0.7), dice.uniform(0.3, 0.7))),
        "stops": lambda: grounds.gradient(shape, [first, second, third], dice.uniform(0, 360)),
        "vignette": lambda: grounds.vignette(shape, light, dice.uniform(0.6, 0.95), dice.uniform(1.5, 4)),
        "paper": lambda: grounds.paper(
            shape, dice.randint(0, 9999), dice.uniform(1, 9), dice.uniform(190, 245), dice.uniform(0.5, 2.5)
        ),
        "lit": lambda: grounds.under_light(
            grounds.paper(shape, 5, dice.uniform(1, 5)), dice.uniform(0, 360), dice.uniform(0.05, 0.4)
        ),
        "shadow": lambda: grounds.under_shadow(
            grounds.flat(shape, dice.choice([white, light])),
            art,
            (dice.randint(-15, 15), dice.randint(-2, 18)),
            dice.uniform(2, 16),
            dice.uniform(0.15, 0.6),
        ),
    }[kind]()
    quality = None if dice.random() < 0.5 else dice.randint(40, 95)
    return Case(f"{name} on {kind} {quality or 'png'}", kind, art, ground, quality)


def _color(dice: Random, least: float) -> grounds.Color:
    return dice.uniform(least, 255), dice.uniform(least, 255), dice.uniform(least, 255)


def on_photo(name: str, art: Floats, photo: Floats) -> Case:
    """Art on a photographic ground that is scaled to its size."""
    picture = Image.fromarray((photo * 255).astype(np.uint8)).resize((art.shape[1], art.shape[0]))
    return Case(f"{name} photo", "photo", art, np.asarray(picture, dtype=np.float64) / 255, 85)
