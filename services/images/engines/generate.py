"""Artwork from words without an image model: the words themselves, set as lettering.

The same prompt with the same options always makes the same picture; its hash picks layout, typeface and
colours. Two outlines, one light and one dark, keep it readable on any garment.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from services.images.engines import lettering
from services.images.engines.base import ConfiguredEngine, EngineError, EngineResult
from services.images.engines.decode import Pixels
from services.images.engines.encode import png_result
from services.images.engines.options import GenerateOptions

Color: TypeAlias = tuple[int, int, int]
Floats: TypeAlias = npt.NDArray[np.float32]

LABEL = "template_lettering"

_DARK: Color = (24, 28, 43)
_LIGHT: Color = (253, 246, 230)
# Fill of the letters and of the ornaments.
_SCHEMES: tuple[tuple[Color, Color], ...] = (
    ((232, 84, 56), (244, 180, 60)),
    ((30, 136, 129), (245, 166, 35)),
    ((242, 176, 53), (226, 78, 61)),
    ((59, 110, 196), (240, 96, 88)),
    ((205, 62, 104), (250, 190, 88)),
    ((107, 168, 74), (241, 143, 60)),
    ((124, 88, 184), (72, 191, 172)),
)
_LAYOUTS: dict[str, lettering.Layout] = {
    "straight": lettering.straight,
    "arc": lettering.arc,
    "stacked": lettering.stacked,
}

# Outlines, drop shadow and margin (which holds them) as shares of the picture's side.
_INNER_OUTLINE = 0.009
_OUTER_OUTLINE = 0.007
_SHADOW = 0.014
_MARGIN = 0.06
# Letters of this share of the side and above get the full outlines.
_FULL_OUTLINE_LETTERS = 0.11
# Pictures smaller than this are drawn at twice the size, since outlines come out of whole pixels.
_SUPERSAMPLE_BELOW = 1600


class TemplateLetteringEngine(ConfiguredEngine):
    """Letters the words of the prompt."""

    name = "template_lettering"
    operation_type = "generate"
    options_model = GenerateOptions

    def run(self, source: bytes | None, options: GenerateOptions) -> EngineResult:
        """Set the prompt as lettering on a transparent square at 300 DPI; `source` is not used.

        Raises EngineError (permanent) when the typefaces lack characters of the prompt, or when it would be set in the
        wrong order.
        """
        lettering.check_direction(options.prompt)
        seed = hashlib.sha256(options.prompt.encode()).digest()
        # Where an accent stands apart from its letter, most have a character for both.
        words = lettering.split_words(unicodedata.normalize("NFC", options.prompt))
        layout = _choose_layout(words, seed[0])
        # Layouts around a shape are set in capitals, which keep lines level.
        if layout != "straight":
            words = [word.upper() for word in words]
        font = _choose_font("".join(words), options.font, seed[1])
        fill, accent = _SCHEMES[seed[2] % len(_SCHEMES)]
        if options.color is not None:
            fill = accent = _parse_color(options.color)
        pixels = _render(words, layout, font, fill, accent, options.size)
        return png_result(
            pixels,
            label=LABEL,
            warnings=("These are the words of the prompt as lettering; no image model was used.",),
            details={"layout": layout, "font": font, "color": "#{:02x}{:02x}{:02x}".format(*fill)},
        )


def _choose_layout(words: list[str], seed: int) -> str:
    letters = sum(map(len, words))
    if len(words) > 12 or letters > 70:
        return "straight"
    if letters > 36:
        return ("straight", "stacked")[seed % 2]
    if letters < 3:
        return "straight"
    if not lettering.is_set_by_letter("".join(words)):
        return ("straight", "stacked")[seed % 2]
    return ("straight", "arc", "stacked")[seed % 3]


def _choose_font(text: str, wanted: str, seed: int) -> str:
    names = list(lettering.FONTS) if wanted == "auto" else [wanted]
    missing = {name: lettering.missing_characters(text, name) for name in names}
    complete = [name for name in names if not missing[name]]
    if complete:
        return complete[seed % len(complete)]
    characters = min(missing.values(), key=len)
    shown = ", ".join(f"“{character}”" for character in characters[:10]) + (
        " and others" if len(characters) > 10 else ""
    )
    subject, advice = ("No typeface here has", "Leave")
    if wanted != "auto":
        subject, advice = (f"The typeface {wanted} does not have", 'Choose font "auto" or leave')
    raise EngineError(f"{subject} {shown}. {advice} these characters out; letters of European languages can be set.")


def _parse_color(text: str) -> Color:
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def _render(words: list[str], layout: str, font: str, fill: Color, accent: Color, size: int) -> Pixels:
    side = size * 2 if size < _SUPERSAMPLE_BELOW else size
    marks = lettering.fit(_LAYOUTS[layout](words, font), font, side, side * _MARGIN)
    texts = [mark for mark in marks if isinstance(mark, lettering.Text)]
    lettering.check_order(" ".join(words), [mark.text for mark in texts])
    smallest = min(mark.size for mark in texts)
    # Small letters would drown in outlines made for large ones.
    weight = side * min(1.0, smallest / (side * _FULL_OUTLINE_LETTERS))
    inner, outer, shadow = weight * _INNER_OUTLINE, weight * _OUTER_OUTLINE, weight * _SHADOW
    letters, ornaments = lettering.draw(marks, font, side)
    if not letters.any():
        raise EngineError("The prompt has no visible characters. Write the words that are to be lettered.")
    art = np.maximum(letters, ornaments)
    light_fill = _luminance(fill) > 0.75
    near, far = (_DARK, _LIGHT) if light_fill else (_LIGHT, _DARK)
    inner_mask = _grow(art, inner)
    outer_mask = _grow(_drop(inner_mask, round(shadow)), outer)
    pixels = np.empty((side, side, 4), np.uint8)
    pixels[..., :3] = far
    pixels[..., 3] = outer_mask
    for mask, color in ((inner_mask, near), (ornaments, accent), (letters, fill)):
        _paint(pixels, mask, color)
    if side != size:
        pixels = np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return pixels


def _luminance(color: Color) -> float:
    red, green, blue = color
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


def _grow(mask: Pixels, radius: float) -> Pixels:
    """Coverage of everything within `radius` px of the mask, antialiased by the distance itself."""
    distance = cv2.distanceTransform((mask < 128).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.asarray(np.clip((radius + 0.5 - distance) * 255, 0, 255), dtype=np.uint8)


def _drop(mask: Pixels, length: int) -> Pixels:
    """Extend the mask down and to the right, as a block shadow."""
    if length < 2:
        return mask
    # dilate() looks to both sides of the anchor: in the corner it looks up and left only.
    line = np.eye(length, dtype=np.uint8)
    return np.asarray(cv2.dilate(mask, line, anchor=(length - 1, length - 1)), dtype=np.uint8)


def _paint(pixels: Pixels, mask: Pixels, color: Color) -> None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    share = (mask[window].astype(np.float32) / 255)[..., np.newaxis]
    below = pixels[window][..., :3]
    below[:] = np.rint(below + share * (np.array(color, np.float32) - below)).astype(np.uint8)
