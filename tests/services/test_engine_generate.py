"""Lettering from a prompt: repeatable, complete, readable on any garment."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from services.images.engines import lettering
from tests.services.art import decode_png
from tests.services.engine_support import over, refusal, run

PROMPTS = [
    "A",
    "HELLO",
    "Summer Camp 2025",
    "Good vibes only",
    "Stay wild, little one — the mountains are calling",
    "Čau, Łódź & Ærø!",
    "Привет мир",
    "x" * 300,
    "all of these words are set " * 11,
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_fills_the_square_and_stays_inside(prompt: str) -> None:
    result = run("generate", None, prompt=prompt, size=600)
    pixels = decode_png(result.data)
    assert pixels.shape == (600, 600, 4)
    assert result.label == "template_lettering"
    rows, columns = np.nonzero(pixels[..., 3])
    assert min(rows.min(), columns.min()) > 0
    assert max(rows.max(), columns.max()) < 599
    assert max(np.ptp(rows), np.ptp(columns)) > 500


@pytest.mark.parametrize("garment", [(20, 20, 22), (245, 245, 245), (232, 84, 56)])
@pytest.mark.parametrize("color", [None, "#ffffff", "#000000"])
def test_lettering_is_readable_on_any_garment(garment: tuple[int, int, int], color: str | None) -> None:
    pixels = decode_png(run("generate", None, prompt="Good vibes only", size=600, color=color).data)
    printed = pixels[..., 3] > 200
    contrast = np.abs(over(pixels, garment) - np.array(garment)).max(axis=2)
    assert (contrast[printed] > 90).mean() > 0.2


def test_the_same_prompt_makes_the_same_picture_and_another_one_does_not() -> None:
    first, again, other = (
        run("generate", None, prompt=prompt, size=400).data for prompt in ("One love", "One love", "One life")
    )
    assert first == again
    assert first != other


def test_the_chosen_colour_and_font_are_used() -> None:
    result = run("generate", None, prompt="Blue", size=400, color="#1144cc", font="serif")
    pixels = decode_png(result.data)
    assert (pixels[..., :3] == (0x11, 0x44, 0xCC)).all(axis=2).mean() > 0.05
    assert result.details["font"] == "serif"


def test_the_file_is_square_transparent_and_300_dpi() -> None:
    with Image.open(io.BytesIO(run("generate", None, prompt="Print me").data)) as image:
        assert (image.size, image.mode) == ((2400, 2400), "RGBA")
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.getpixel((0, 0))[3] == 0  # type: ignore[index]


def test_missing_characters_are_named() -> None:
    error = refusal("generate", None, prompt="日本 rocks 🦊")
    assert all(character in error.message for character in "日本🦊")


def test_a_font_that_lacks_characters_points_to_the_others() -> None:
    error = refusal("generate", None, prompt="Привет", font="fredoka")
    assert 'font "auto"' in error.message
    assert run("generate", None, prompt="Привет", size=300).details["font"] in ("manrope", "serif")


@pytest.mark.parametrize("layout", [lettering.straight, lettering.arc, lettering.stacked])
@pytest.mark.parametrize("words", [["one"], ["one", "two"], ["a", "few", "more", "words", "here"]])
def test_no_layout_loses_a_letter(layout: lettering.Layout, words: list[str]) -> None:
    marks = layout(words, "manrope")
    text = "".join(mark.text for mark in marks if isinstance(mark, lettering.Text))
    assert text.replace(" ", "") == "".join(words)


@pytest.mark.parametrize("font", lettering.FONTS)
@pytest.mark.parametrize("layout", [lettering.straight, lettering.arc, lettering.stacked])
@pytest.mark.parametrize("words", [["I", "I", "I"], ["HI", "YOU"], ["I", "WILL"]])
def test_narrow_words_can_be_drawn(layout: lettering.Layout, font: str, words: list[str]) -> None:
    letters, _ = lettering.draw(lettering.fit(layout(words, font), font, 256, 20), font, 256)
    assert letters.any()
