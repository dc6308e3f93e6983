"""Setting a few words as a piece of lettering: which lines, where each mark stands, and drawing the marks.

Layouts are made in em-like units of their own and fitted to the canvas afterwards, so that a layout never
asks how large the picture is.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from services.images.engines.base import EngineError
from services.images.engines.decode import Pixels

FONTS = {
    "fredoka": ("font_fredoka_one", "FredokaOne-Regular.ttf"),
    "amatic": ("font_amatic_sc", "AmaticSC-Bold.ttf"),
    "manrope": ("font_manrope", "Manrope-ExtraBold.ttf"),
    "serif": ("font_source_serif_pro", "SourceSerifPro-Black.otf"),
}

# Size (px) at which text is measured for layouts; one layout unit is this many pixels.
_MEASURE_SIZE = 200
_MAX_WORD = 18
_MAX_LINES = 16
_NONCHARACTER = "\uffff"
# Bidirectional classes, https://www.unicode.org/reports/tr9/: letters and numbers that run from right to left or
# stand among such, all letters, and marks that turn what is around them.
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
_LETTERS = frozenset({"L", "R", "AL"})
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


@dataclass(frozen=True, slots=True)
class Text:
    """A run of letters: middle of its baseline, font size, and angle in degrees clockwise."""

    text: str
    x: float
    y: float
    size: float
    angle: float = 0.0


@dataclass(frozen=True, slots=True)
class Star:
    """A five-pointed star."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal bar from `left` to `right` around `y`."""

    left: float
    right: float
    y: float
    thickness: float


Mark: TypeAlias = Text | Star | Rule
Layout: TypeAlias = Callable[[Sequence[str], str], list[Mark]]


@lru_cache(maxsize=64)
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Load one of FONTS at a size in pixels."""
    package, file_name = FONTS[name]
    return ImageFont.truetype(str(files(package) / "files" / file_name), size)


def missing_characters(text: str, font: str) -> str:
    """Characters of `text` the font has no glyph for, each once, in order."""
    face = load_font(font, _MEASURE_SIZE)
    unknown = bytes(face.getmask(_NONCHARACTER))
    return "".join(
        character
        for character in dict.fromkeys(text)
        if not character.isspace() and bytes(face.getmask(character)) == unknown
    )


def check_direction(text: str) -> None:
    """Raises EngineError (permanent) when letters of the text would stand back to front.

    libfribidi turns them where the system has it; Pillow does without where not.
    """
    classes = {unicodedata.bidirectional(character) for character in text}
    if classes & _TURNING:
        raise EngineError("The text holds invisible marks that turn its direction. Type it anew, without them.")
    if classes & _RIGHT_TO_LEFT and not features.check("raqm"):
        raise EngineError(
            "Text that runs from right to left cannot be set here yet: its letters would stand back to front. "
            "Draw it elsewhere and upload the picture."
        )


def check_order(text: str, lines: Sequence[str]) -> None:
    """Raises EngineError (permanent) when words would stand in the wrong order on these lines of the text.

    Each line is set on its own, in the direction of its first letter. A number alone looks the same in both.
    """
    direction = _direction(text)
    if any(_direction(line) != direction and not line.isdecimal() for line in lines):
        raise EngineError(
            "The text mixes words that run from right to left with others, and cannot be set in the right order. "
            "Make a text of each."
        )


def _direction(text: str) -> str:
    """The direction of a text's first letter, L or R; L where it holds none."""
    classes = map(unicodedata.bidirectional, text)
    first = next((found for found in classes if found in _LETTERS), "L")
    return "R" if first == "AL" else first


def is_set_by_letter(text: str) -> bool:
    """Whether letters may be placed one by one: all run from left to right, and none carries a loose accent."""
    return not any(
        unicodedata.combining(character) or unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in text
    )


def split_words(text: str) -> list[str]:
    """Words of a text; words too long for any line are cut."""
    return [word[start : start + _MAX_WORD] for word in text.split() for start in range(0, len(word), _MAX_WORD)]


def straight(words: Sequence[str], font: str) -> list[Mark]:
    """Centred lines of one size, as many as give the largest letters."""
    best: list[Mark] = []
    best_side = math.inf
    for count in range(1, min(len(words), _MAX_LINES) + 1):
        lines = _balance(words, count, font)
        marks: list[Mark] = [Text(line, 0, row * 1.12, 1) for row, line in enumerate(lines)]
        left, top, right, bottom = _bounds(marks, font)
        if max(right - left, bottom - top) < best_side:
            best, best_side = marks, max(right - left, bottom - top)
    return best


def stacked(words: Sequence[str], font: str) -> list[Mark]:
    """Lines blown up to one width, with a rule and a star above and below."""
    count = max(1, min(len(words), round(math.sqrt(len(words) * 1.7))))
    marks: list[Mark] = []
    width, y = 4.0, 0.0
    for line in _balance(words, count, font):
        size = min(width / max(_width(line, font), 0.1), 1.9)
        ascent, descent = _extent(line, font)
        y += ascent * size
        marks.append(Text(line, 0, y, size))
        y += descent * size + 0.24
    marks.extend(_ornament(width, -0.42))
    marks.extend(_ornament(width, y + 0.18))
    return marks


def arc(words: Sequence[str], font: str) -> list[Mark]:
    """The first words on an arc, the others straight below it, a rule with a star at the foot."""
    count = 1 if len(words) == 1 else 2 if len(words) < 5 else 3
    first, *others = _balance(words, count, font)
    tracking = 0.05
    advances = [_advance(letter, font) + tracking for letter in first]
    total = sum(advances)
    radius = max(total / math.radians(115), 1.9)
    marks: list[Mark] = []
    at = -total / 2
    for letter, advance in zip(first, advances, strict=True):
        angle = (at + advance / 2) / radius
        x, y = radius * math.sin(angle), radius - radius * math.cos(angle)
        marks.append(Text(letter, x, y, 1, math.degrees(angle)))
        at += advance
    half = min(0.36 * total, 0.8 * radius)
    y = radius - math.sqrt(radius**2 - half**2) + 0.3
    for line in others:
        size = min(2 * half / max(_width(line, font), 0.1), 1.6)
        ascent, descent = _extent(line, font)
        y += ascent * size
        marks.append(Text(line, 0, y, size))
        y += descent * size + 0.2
    marks.extend(_ornament(2 * half, y + 0.2))
    return marks


def fit(marks: Sequence[Mark], font: str, side: int, margin: float) -> list[Mark]:
    """Scale and centre marks into a square of `side` px, leaving `margin` px free all round."""
    left, top, right, bottom = _bounds(marks, font)
    scale = (side - 2 * margin) / max(right - left, bottom - top, 0.1)
    x0 = side / 2 - scale * (left + right) / 2
    y0 = side / 2 - scale * (top + bottom) / 2
    return [_place(mark, scale, x0, y0) for mark in marks]


def draw(marks: Sequence[Mark], font: str, side: int) -> tuple[Pixels, Pixels]:
    """Coverage (0..255) of the letters and of the ornaments, each of shape (side, side)."""
    letters, ornaments = Image.new("L", (side, side), 0), Image.new("L", (side, side), 0)
    for mark in marks:
        if isinstance(mark, Text):
            _draw_text(letters, mark, font)
        elif isinstance(mark, Star):
            ImageDraw.Draw(ornaments).polygon(_star_corners(mark), fill=255)
        else:
            half = mark.thickness / 2
            ImageDraw.Draw(ornaments).rounded_rectangle(
                (mark.left, mark.y - half, mark.right, mark.y + half), radius=half, fill=255
            )
    return np.asarray(letters), np.asarray(ornaments)


def _place(mark: Mark, scale: float, x0: float, y0: float) -> Mark:
    if isinstance(mark, Text):
        return replace(mark, x=x0 + mark.x * scale, y=y0 + mark.y * scale, size=mark.size * scale)
    if isinstance(mark, Star):
        return Star(x0 + mark.x * scale, y0 + mark.y * scale, mark.radius * scale)
    return Rule(x0 + mark.left * scale, x0 + mark.right * scale, y0 + mark.y * scale, mark.thickness * scale)


def _ornament(width: float, y: float) -> list[Mark]:
    gap, thickness = 0.3, 0.07
    if width / 2 - gap < thickness:  # below narrow words there is room for the star alone
        return [Star(0, y, 0.17)]
    return [
        Rule(-width / 2, -gap, y, thickness),
        Star(0, y, 0.17),
        Rule(gap, width / 2, y, thickness),
    ]


def _star_corners(star: Star) -> list[tuple[float, float]]:
    corners = []
    for corner in range(10):
        reach = star.radius if corner % 2 == 0 else star.radius * 0.4
        angle = math.radians(corner * 36 - 90)
        corners.append((star.x + reach * math.cos(angle), star.y + reach * math.sin(angle)))
    return corners


def _draw_text(target: Image.Image, mark: Text, font: str) -> None:
    face = load_font(font, max(1, round(mark.size)))
    if mark.angle == 0:
        ImageDraw.Draw(target).text((mark.x, mark.y), mark.text, font=face, fill=255, anchor="ms")
        return
    side = 4 * max(1, round(mark.size))
    stamp = Image.new("L", (side, side), 0)
    ImageDraw.Draw(stamp).text((side / 2, side / 2), mark.text, font=face, fill=255, anchor="ms")
    turned = stamp.rotate(-mark.angle, resample=Image.Resampling.BICUBIC)
    target.paste(255, (round(mark.x - side / 2), round(mark.y - side / 2)), turned)


def _advance(text: str, font: str) -> float:
    return load_font(font, _MEASURE_SIZE).getlength(text) / _MEASURE_SIZE


def _width(text: str, font: str) -> float:
    left, _, right, _ = load_font(font, _MEASURE_SIZE).getbbox(text, anchor="ms")
    return (right - left) / _MEASURE_SIZE


def _extent(text: str, font: str) -> tuple[float, float]:
    """How far the ink reaches above and below the baseline, in units of the font size."""
    _, top, _, bottom = load_font(font, _MEASURE_SIZE).getbbox(text, anchor="ms")
    return -top / _MEASURE_SIZE, bottom / _MEASURE_SIZE


def _bounds(marks: Sequence[Mark], font: str) -> tuple[float, float, float, float]:
    boxes = [_box(mark, font) for mark in marks]
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )


def _box(mark: Mark, font: str) -> tuple[float, float, float, float]:
    if isinstance(mark, Star):
        reach = mark.radius
        return mark.x - reach, mark.y - reach, mark.x + reach, mark.y + reach
    if isinstance(mark, Rule):
        half = mark.thickness / 2
        return mark.left, mark.y - half, mark.right, mark.y + half
    box = load_font(font, _MEASURE_SIZE).getbbox(mark.text, anchor="ms")
    left, top, right, bottom = (value / _MEASURE_SIZE * mark.size for value in box)
    cos, sin = math.cos(math.radians(mark.angle)), math.sin(math.radians(mark.angle))
    corners = [(x, y) for x in (left, right) for y in (top, bottom)]
    xs = [mark.x + x * cos - y * sin for x, y in corners]
    ys = [mark.y + x * sin + y * cos for x, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def _balance(words: Sequence[str], count: int, font: str) -> list[str]:
    """Break words into at most `count` lines so that the widest is as narrow as can be."""
    widths = [_advance(word, font) for word in words]
    space = _advance(" ", font)
    low, high = max(widths), sum(widths) + space * len(widths)
    # The widest line that still needs no more than `count` lines, found by halving.
    for _ in range(24):
        middle = (low + high) / 2
        if len(_wrap(words, widths, space, middle)) <= count:
            high = middle
        else:
            low = middle
    return _wrap(words, widths, space, high)


def _wrap(words: Sequence[str], widths: Sequence[float], space: float, limit: float) -> list[str]:
    lines: list[str] = []
    used = math.inf
    for word, width in zip(words, widths, strict=True):
        if used + space + width <= limit + 1e-6:
            lines[-1] += f" {word}"
            used += space + width
        else:
            lines.append(word)
            used = width
    return lines
