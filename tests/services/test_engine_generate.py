"""Lettering from a prompt: repeatable, complete, readable on any garment."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from services.images.engines import EngineError, lettering
from services.images.engines.decode import Pixels
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


# ---- Text that runs from right to left

PEACE = "שלום"
# Their hashes ask for each of the layouts, the arc among them.
HEBREW = [f"{PEACE} {word}" for word in ("עולם", "לכולם", "וברכה", "חברים", "ילדים", "ירושלים", "2026", "רב לכם", "ים")]
TURNED = {
    "Hebrew": PEACE,
    "Hebrew in English": f"Say {PEACE} to all",
    "Arabic": "مرحبا",
    "Persian": "سلام دنیا",
    "Syriac": "ܫܠܡܐ",
    "N'Ko": "ߒߞߏ",
    "Arabic numerals": "٣٤",
    "a mark of direction": "ab\u200f!",
}


@pytest.mark.parametrize("prompt", TURNED.values(), ids=TURNED)
def test_without_libfribidi_nothing_is_set_back_to_front(monkeypatch: pytest.MonkeyPatch, prompt: str) -> None:
    monkeypatch.setattr(features, "check", lambda feature: feature != "raqm")
    assert "cannot be set here yet" in refusal("generate", None, prompt=prompt).message


def test_a_system_without_libfribidi_refuses_hebrew(tmp_path: Path) -> None:
    # What cannot be loaded is as good as missing, and this folder comes before the system's.
    (tmp_path / "libfribidi.so.0").touch()
    program = (
        "from PIL import features; from tests.services.engine_support import refusal, run\n"
        f"print(features.check('raqm'), refusal('generate', None, prompt={PEACE!r}).message)\n"
        "print(run('generate', None, prompt='Peace', size=256).label)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.startswith("False Text that runs from right to left cannot be set here yet")
    assert said.endswith("template_lettering\n")


def visual(text: str) -> Pixels:
    """What a reader sees of one line: its glyphs from left to right, cut to their ink."""
    font = lettering.load_font("amatic", 200)
    plain = ImageFont.truetype(font.path, 200, layout_engine=ImageFont.Layout.BASIC)
    image = Image.new("L", (2000, 400))
    ImageDraw.Draw(image).text((50, 50), text, font=plain, fill=255)
    return ink(np.asarray(image))


def ink(mask: Pixels) -> Pixels:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.asarray(cv2.resize(cut, (400, 200), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def likeness(first: Pixels, second: Pixels) -> float:
    return float(((first > 127) & (second > 127)).sum() / ((first > 127) | (second > 127)).sum())


def test_hebrew_reads_from_right_to_left_or_is_refused() -> None:
    if not features.check("raqm"):
        assert "cannot be set here yet" in refusal("generate", None, prompt=PEACE).message
        return
    marks = lettering.fit(lettering.straight([PEACE], "amatic"), "amatic", 1000, 20)
    letters, _ = lettering.draw(marks, "amatic", 1000)
    assert likeness(ink(letters), visual(PEACE[::-1])) > 0.8  # they kern differently
    assert likeness(ink(letters), visual(PEACE)) < 0.6


def test_no_letter_of_hebrew_is_set_on_an_arc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda feature: True)
    assert {hashlib.sha256(prompt.encode()).digest()[0] % 3 for prompt in HEBREW} == {0, 1, 2}
    layouts = {run("generate", None, prompt=prompt, size=256).details["layout"] for prompt in HEBREW}
    assert layouts == {"straight", "stacked"}


@pytest.mark.parametrize(
    "prompt",
    [
        f"Nike {PEACE} {PEACE} {PEACE} {PEACE} {PEACE}",
        f"{PEACE} Nike Nike Nike Nike Nike",
        f"{PEACE} {PEACE} {PEACE} 2026! {PEACE} {PEACE}",
    ],
)
def test_lines_that_would_turn_words_around_are_refused(monkeypatch: pytest.MonkeyPatch, prompt: str) -> None:
    monkeypatch.setattr(features, "check", lambda feature: True)
    words = prompt.split()
    with pytest.raises(EngineError, match="Make a text of each"):
        lettering.check_order(prompt, words)
    lettering.check_order(prompt, [prompt])


@pytest.mark.parametrize("mark", [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))])
def test_marks_that_turn_a_text_are_refused(mark: str) -> None:
    message = refusal("generate", None, prompt=f"Good {mark}vibes").message
    assert "invisible marks" in message
    assert mark not in message


@pytest.mark.parametrize("word", ["Café", "Noe\u0302l", "x\u0302y\u0302z\u0302"])
def test_a_loose_accent_stays_on_its_letter(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    drawn: list[str] = []
    draw = lettering.draw

    def watch(marks: Sequence[lettering.Mark], font: str, side: int) -> tuple[Pixels, Pixels]:
        drawn.extend(mark.text for mark in marks if isinstance(mark, lettering.Text))
        return draw(marks, font, side)

    monkeypatch.setattr(lettering, "draw", watch)
    for number in range(6):
        run("generate", None, prompt=unicodedata.normalize("NFD", f"{word} {number}"), size=256)
    assert drawn
    assert [text for text in drawn if unicodedata.combining(text[0])] == []
