"""Lengths on film, and the pixels that they are."""

from __future__ import annotations

from typing import Literal

from services.images.engines.base import EngineError
from services.images.engines.encode import PRINT_DPI

Unit = Literal["in", "cm", "mm"]
Side = Literal["width", "height"]

MM_PER_INCH = 25.4
PER_INCH: dict[Unit, float] = {"in": 1.0, "cm": 2.54, "mm": MM_PER_INCH}

# The widest film of common printers, and a length that fits an operation's memory: 129.6 million pixels.
MAX_SHORT_SIDE = 24.0  # inches
MAX_LONG_SIDE = 60.0  # inches

# Effective DPI: what print shops call good, and soft.
GOOD_DPI = 250
SOFT_DPI = 150


def pixels_of(millimetres: float) -> float:
    """Pixels of a length in millimetres, not rounded."""
    return millimetres * PRINT_DPI / MM_PER_INCH


def print_size(size: float, side: Side, unit: Unit, art: tuple[int, int]) -> tuple[int, int]:
    """Width and height in pixels of art (width, height in any pixels) whose `side` is `size` long in print.

    The given side has exactly round(inches × 300) pixels, the other follows from the art. Raises EngineError where
    that is less than a pixel or larger than MAX_SHORT_SIDE × MAX_LONG_SIDE.
    """
    inches = size / PER_INCH[unit]
    width, height = art
    other = inches * (height / width if side == "width" else width / height)
    short, long = sorted((inches, other))
    if short > MAX_SHORT_SIDE or long > MAX_LONG_SIDE:
        shown = tuple(length * PER_INCH[unit] for length in ((inches, other) if side == "width" else (other, inches)))
        raise EngineError(
            f"The print would be {shown[0]:.4g} × {shown[1]:.4g} {unit}; the limit is "
            f"{MAX_SHORT_SIDE * PER_INCH[unit]:.4g} × {MAX_LONG_SIDE * PER_INCH[unit]:.4g} {unit}. "
            "Give a smaller size."
        )
    given, following = round(inches * PRINT_DPI), round(other * PRINT_DPI)
    if min(given, following) < 1:
        raise EngineError("The print would be less than a pixel high or wide. Give a larger size.")
    return (given, following) if side == "width" else (following, given)
