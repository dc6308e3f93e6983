"""What makes a picture printable, measured: tones of a halftone, white below fine parts, thin lines, colours."""

from __future__ import annotations

from importlib.resources import files
from math import cos, pi, sin

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont

from services.images.engines.base import EngineError
from services.images.engines.decode import Pixels
from services.images.engines.print_ready import mirror
from services.images.engines.printing import strips as strips_module
from services.images.engines.printing.size import pixels_of, print_size
from services.images.engines.printing.thin import find_thin_parts
from services.images.engines.printing.transparency import halftone, harden, knock_out
from services.images.engines.printing.underbase import underbase
from tests.services.art import badge
from tests.services.engine_support import over

TEN_MM = round(pixels_of(10))
FINE = 8  # times finer than the pixels is what lines are drawn on


def line(width_mm: float, length_mm: float, angle: float, shift: tuple[float, float], side: int) -> Pixels:
    """How much of each pixel a line through the middle of a square covers, 0 to 255."""
    place = (np.arange(side * FINE) + 0.5) / FINE - side / 2
    x, y = np.meshgrid(place, place)
    along = x * cos(angle) + y * sin(angle) - shift[0]
    across = y * cos(angle) - x * sin(angle) - shift[1]
    drawn = (np.abs(along) < pixels_of(length_mm) / 2) & (np.abs(across) < pixels_of(width_mm) / 2)
    covered = 255 * drawn.reshape(side, FINE, side, FINE).mean((1, 3))
    return np.asarray(np.rint(covered), np.uint8)


def components(mask: npt.NDArray[np.bool_]) -> tuple[int, npt.NDArray[np.int32]]:
    """How many connected parts a mask has, and which part each pixel belongs to, 0 where to none."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8))
    return count - 1, np.asarray(labels)


# ---- Sizes


@pytest.mark.parametrize(
    ("size", "unit", "side", "pixels"),
    [
        (10, "in", "width", (3000, 1500)),
        (10, "in", "height", (6000, 3000)),
        (25.4, "mm", "width", (300, 150)),
        (8.47, "cm", "width", (1000, 500)),
        (3.333, "in", "width", (1000, 500)),
        (24, "in", "height", (14400, 7200)),
    ],
)
def test_a_length_has_exactly_its_pixels(size: float, unit: str, side: str, pixels: tuple[int, int]) -> None:
    assert print_size(size, side, unit, (800, 400)) == pixels  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "unit", "side", "art", "reason"),
    [
        (60.1, "in", "width", (10, 1), "the limit is 24 × 60 in"),
        (60, "in", "width", (10, 5), "60 × 30 in"),
        (700, "mm", "height", (1, 1), "the limit is 609.6 × 1524 mm"),
        (0.1, "in", "height", (1, 1000), "less than a pixel"),
    ],
)
def test_a_size_beyond_the_film_is_refused(
    size: float, unit: str, side: str, art: tuple[int, int], reason: str
) -> None:
    with pytest.raises(EngineError, match=reason):
        print_size(size, side, unit, art)  # type: ignore[arg-type]


# ---- Transparency


@pytest.mark.parametrize("lpi", [25, 35, 45, 55])
def test_a_halftone_keeps_each_tone_and_prints_no_dot_too_small_to_hold(lpi: int) -> None:
    side = 3 * TEN_MM
    for percent in range(2, 99, 4):
        alpha = np.full((side, side), round(percent * 2.55), np.uint8)
        printed = halftone(alpha, lpi)
        assert set(np.unique(printed)) == {0, 255}
        for top, left in ((0, 0), (31, 77), (side - TEN_MM, TEN_MM)):
            share = printed[top : top + TEN_MM, left : left + TEN_MM].mean() / 255
            assert share == pytest.approx(percent / 100, abs=0.02), percent
        if percent <= 10 or percent >= 90:
            small = printed > 0 if percent <= 10 else printed == 0
            count, _, stats, _ = cv2.connectedComponentsWithStats(small.astype(np.uint8))
            inner = [
                area
                for left, top, width, height, area in stats[1:].tolist()
                if left > 0 and top > 0 and left + width < side and top + height < side
            ]
            assert count > 20
            assert min(inner) >= pi * (pixels_of(0.25) / 2) ** 2


def test_a_halftone_has_no_seams_between_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = np.repeat(np.linspace(0, 255, 700).astype(np.uint8)[:, np.newaxis], 300, axis=1)
    whole = halftone(alpha, 45)
    monkeypatch.setattr(strips_module, "_ROWS", 37)
    assert (halftone(alpha, 45) == whole).all()


@pytest.mark.parametrize("treat", [harden, lambda alpha: halftone(alpha, 35)], ids=["harden", "halftone"])
def test_edges_of_solid_art_stay_edges(treat: object) -> None:
    alpha = np.asarray(badge(900)[..., 3])
    printed = treat(alpha)  # type: ignore[operator]
    assert set(np.unique(printed)) == {0, 255}
    assert (printed == np.where(alpha >= 128, 255, 0)).all()


def lab(colors: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.cvtColor((colors / 255).astype(np.float32), cv2.COLOR_RGB2LAB))


def from_away(colors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(cv2.blur(colors, (31, 31)), np.float64)


@pytest.mark.parametrize("garment", ["#000000", "#ffffff", "#1f3a5f"])
def test_a_knocked_out_colour_is_seen_again_on_its_garment(garment: str) -> None:
    red, green, blue = (int(garment[at : at + 2], 16) for at in (1, 3, 5))
    ground = (red, green, blue)
    side = 512
    fade = np.linspace(0, 1, side)[np.newaxis, :, np.newaxis]
    art = np.array([230, 90, 30]) * fade + np.array(ground) * (1 - fade) * np.ones((side, 1, 1))
    art = np.rint(np.maximum(art, over(badge(side), ground) * (np.arange(side) > 256)[:, np.newaxis, np.newaxis]))
    knocked = knock_out(art.astype(np.uint8), garment, 6, unmix=True)
    assert (knocked[..., 3] == 0).mean() > 0.02
    seen = lab(over(knocked, ground)) - lab(art)
    assert np.sqrt((seen**2).sum(axis=2)).mean() <= 2
    # As dots it is the same from a little away.
    dots = knocked.copy()
    dots[..., 3] = halftone(knocked[..., 3], 55)
    seen = lab(from_away(over(dots, ground))) - lab(from_away(art))
    assert np.sqrt((seen**2).sum(axis=2)).mean() <= 2


def test_a_colour_that_is_not_the_garments_stays_as_it_is() -> None:
    art = np.full((8, 8, 3), (200, 30, 40), np.uint8)
    knocked = knock_out(art, "#000000", 6, unmix=True)
    assert (knocked == (200, 30, 40, 255)).all()


# ---- White


def lettering(text: str, points: float, color: tuple[int, int, int]) -> Pixels:
    """Hard-edged RGBA of letters of that size."""
    path = str(files("font_manrope") / "files" / "Manrope-Regular.ttf")
    font = ImageFont.truetype(path, round(points / 72 * 300))
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (round(right - left) + 20, round(bottom - top) + 20))
    ImageDraw.Draw(image).text((10 - left, 10 - top), text, 255, font)
    alpha = harden(np.asarray(image))
    return np.dstack([np.broadcast_to(np.array(color, np.uint8), (*alpha.shape, 3)), alpha])


@pytest.mark.parametrize("choke", [0.1, 0.3, 0.5, 1.0])
def test_no_part_of_small_text_is_without_white(choke: float) -> None:
    art = lettering("The quick brown fox jumps over 13 lazy dogs; i, j & %", 8, (20, 60, 160))
    white = underbase(art, choke)
    count, parts = components(art[..., 3] > 0)
    assert count > 40
    assert set(np.unique(parts[white > 0])) - {0} == set(range(1, count + 1))
    assert not white[art[..., 3] == 0].any()
    # And not in one place of it only: no pixel of the art is farther from white than strokes are thick.
    distance = cv2.distanceTransform((white == 0).astype(np.uint8), cv2.DIST_L2, 5)
    assert distance[art[..., 3] > 0].max() <= 5


@pytest.mark.parametrize("choke", [0.2, 0.5, 1.0])
def test_thick_art_has_the_choke_that_was_asked_for_all_around(choke: float) -> None:
    art = np.zeros((400, 400, 4), np.uint8)
    art[:, 50:350] = (20, 60, 160, 255)  # to the edges of the sheet, above and below
    white = underbase(art, choke) > 0
    inner = np.argwhere(white)
    drawn_in = round(pixels_of(choke))
    assert inner.min(axis=0) == pytest.approx((drawn_in, 50 + drawn_in), abs=1)
    assert inner.max(axis=0) == pytest.approx((399 - drawn_in, 349 - drawn_in), abs=1)


def test_a_fine_line_beside_thick_art_keeps_its_white() -> None:
    art = np.zeros((300, 300, 4), np.uint8)
    art[20:280, 20:150] = (20, 60, 160, 255)
    art[20:280, 153:157] = (20, 60, 160, 255)
    white = underbase(art, 1.0) > 0
    assert white[24:276, 153:157].any(axis=1).all()


def test_pure_white_is_not_drawn_in_and_no_choke_is_none() -> None:
    art = np.zeros((100, 100, 4), np.uint8)
    art[20:80, 20:80] = 255
    assert (underbase(art, 1.0) == art[..., 3]).all()
    art[..., :3] = 90
    assert (underbase(art, 0) == art[..., 3]).all()
    assert underbase(art, 1.0).sum() < art[..., 3].sum()


def test_white_has_no_seams_between_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    art = badge(700).copy()
    art[..., 3] = harden(art[..., 3])
    whole = underbase(art, 0.6)
    monkeypatch.setattr(strips_module, "_ROWS", 61)
    assert (underbase(art, 0.6) == whole).all()


# ---- Thin parts


@pytest.mark.parametrize(
    ("widths", "least"),
    [((0.1, 0.34), 0.36), ((0.38, 1.0), 0.36)],
    ids=["too thin", "thick enough"],
)
def test_lines_that_are_too_thin_are_found_and_others_are_not(widths: tuple[float, float], least: float) -> None:
    random = np.random.default_rng(7)
    found = 0
    tries = 80
    for n in range(tries):
        angle = n * pi / 8 if n < 16 else random.uniform(0, pi)
        width = widths[n % 2] if n < 32 else random.uniform(*widths)
        alpha = line(width, 3, angle, tuple(random.uniform(-0.5, 0.5, 2)), 64)
        found += find_thin_parts(alpha, least, 0).line_count > 0
    assert found >= 0.95 * tries if widths[0] < least else found <= 0.02 * tries


@pytest.mark.parametrize(("width", "is_found"), [(0.3, True), (0.66, True), (0.74, False), (1.2, False)])
def test_gaps_that_are_too_narrow_are_found_and_others_are_not(width: float, is_found: bool) -> None:
    for n in range(9):
        alpha = 255 - line(width, 20, n * pi / 8, (0.3, n / 9 - 0.5), 96)
        assert (find_thin_parts(alpha, 0, 0.7).gap_count > 0) == is_found


def test_art_that_was_enlarged_is_measured_as_if_it_were_sharp() -> None:
    width = 0.45
    small = np.asarray(Image.fromarray(line(width * 4, 12, 0.3, (0.2, 0.4), 200)).reduce(4))
    alpha = cv2.resize(small, (200, 200), interpolation=cv2.INTER_CUBIC)
    assert find_thin_parts(np.asarray(alpha, np.uint8), 4 * width * 0.95, 0, 4).line_count == 0
    assert find_thin_parts(np.asarray(alpha, np.uint8), 4 * width * 1.08, 0, 4).line_count == 1


def test_thin_parts_have_no_seams_between_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    thin = line(0.3, 20, 1, (0, 0), 320)
    alpha = np.hstack([thin, 255 - thin])
    whole = find_thin_parts(alpha, 0.36, 0.7)
    assert (whole.line_count, whole.gap_count) == (1, 1)
    monkeypatch.setattr(strips_module, "_ROWS", 61)
    again = find_thin_parts(alpha, 0.36, 0.7)
    assert (again.lines == whole.lines).all()
    assert (again.gaps == whole.gaps).all()


def test_mirrored_twice_is_what_it_was() -> None:
    art = np.asarray(badge(101))
    assert (mirror(art) != art).any()
    assert (mirror(mirror(art)) == art).all()
