"""The print file: its size, its formats, what comes with it, and what is refused."""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from services.images.engines import EngineResult
from tests.services.art import Pixels, badge, badge_on, decode_png, encode
from tests.services.engine_support import PHOTO, over, psnr, refusal, run
from tests.services.hostile_files import SIZED

NAVY = (27, 45, 72)
WIDTH = 552  # px, of the badge without its clear borders
UNCHECKED = {"least_line": 0, "least_gap": 0}


def prepare(source: bytes, **options: Any) -> EngineResult:
    return run("print_ready", source, **{"size": 2} | options)


def files(result: EngineResult) -> dict[str, bytes]:
    return {file.name: file.data for file in result.files}


@pytest.fixture(scope="module")
def art() -> bytes:
    """A badge with soft edges and clear borders."""
    return encode(np.pad(badge(600), ((20, 90), (40, 10), (0, 0))), "PNG")


def describe(profile: bytes) -> str:
    return str(ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))))


def physical(png: bytes) -> tuple[int, ...]:
    at = png.index(b"pHYs") + 4
    return struct.unpack(">IIB", png[at : at + 9])


def test_a_print_file_has_its_size_no_semi_transparency_and_its_white(art: bytes) -> None:
    result = prepare(art, size=2)
    pixels = decode_png(result.data)
    assert (result.width, result.height) == (600, 593)
    assert pixels.shape == (593, 600, 4)
    assert physical(result.data) == (11811, 11811, 1)
    assert set(np.unique(pixels[..., 3])) == {0, 255}
    for box in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert box[..., 3].any(), "trimmed to the art"
    with Image.open(io.BytesIO(result.data)) as image:
        assert "sRGB" in describe(image.info["icc_profile"])
    white = np.asarray(Image.open(io.BytesIO(files(result)["white"])))
    assert white.shape == (593, 600, 2)
    assert (white[..., 0] == 255).all()
    assert not white[pixels[..., 3] == 0, 1].any()
    assert 0.9 < white[..., 1].sum() / pixels[..., 3].sum() < 1
    assert result.details["effective_dpi"] == pytest.approx(WIDTH / 2, abs=1)


@pytest.mark.parametrize(
    ("size", "unit", "side", "pixels"),
    [(50, "mm", "width", 591), (5.08, "cm", "height", 600), (1.001, "in", "width", 300)],
)
def test_sizes_are_lengths(art: bytes, size: float, unit: str, side: str, pixels: int) -> None:
    result = prepare(art, size=size, unit=unit, side=side)
    assert getattr(result, side) == pixels


def test_without_trimming_the_size_is_that_of_the_picture(art: bytes) -> None:
    result = prepare(art, size=2.1667, trim=False, white=False, **UNCHECKED)
    assert (result.width, result.height) == (650, 710)
    assert files(result) == {}
    untouched = np.asarray(Image.open(io.BytesIO(art)))
    assert psnr(over(untouched, NAVY), over(decode_png(result.data), NAVY)) > 25


def fade() -> bytes:
    """A disc that fades to nothing."""
    y, x = np.mgrid[-300:300, -300:300] / 300
    alpha = np.clip(255 * (1.1 - np.hypot(x, y)), 0, 255).astype(np.uint8)
    return encode(np.dstack([np.full((600, 600, 3), (200, 40, 60), np.uint8), alpha]), "PNG")


def test_a_halftone_has_no_semi_transparent_pixel_and_all_of_its_colour() -> None:
    kept = decode_png(prepare(fade(), alpha="keep", white=False).data)
    assert np.count_nonzero((kept[..., 3] > 0) & (kept[..., 3] < 255)) > 1000
    pixels = decode_png(prepare(fade(), alpha="halftone", white=False).data)
    assert set(np.unique(pixels[..., 3])) == {0, 255}
    assert pixels[..., 3].mean() == pytest.approx(kept[..., 3].mean(), rel=0.03)
    assert np.abs(pixels[pixels[..., 3] > 0, :3].astype(int) - (200, 40, 60)).max() <= 1


def test_a_knocked_out_ground_leaves_the_art() -> None:
    result = prepare(encode(badge_on(600, (0, 0, 0)), "PNG"), knockout="#000000", garment="#000000")
    pixels = decode_png(result.data)
    assert 0.2 < (pixels[..., 3] == 0).mean() < 0.8
    assert not any("not transparent" in warning for warning in result.warnings)


def test_mirrored_is_what_is_printed_and_not_what_is_worn(art: bytes) -> None:
    plain, mirrored = (prepare(art, mirror=mirror, garment="#204080") for mirror in (False, True))
    assert (decode_png(mirrored.data) == decode_png(plain.data)[:, ::-1]).all()
    one, other = files(plain), files(mirrored)
    whites = [np.asarray(Image.open(io.BytesIO(white["white"]))) for white in (one, other)]
    # Distances are measured from left to right: a pixel at the edge may fall on the other side.
    assert (whites[0][:, ::-1] != whites[1]).mean() < 0.001
    assert one["mockup"] == other["mockup"]


@pytest.mark.parametrize(("size", "shape"), [(2, (1280, 1360)), (23, (1277, 1344))], ids=["a shirt", "cloth"])
def test_a_mock_up_shows_the_garments_colour(art: bytes, size: float, shape: tuple[int, int]) -> None:
    small = encode(np.asarray(Image.open(io.BytesIO(art)).resize((65, 71))), "PNG")
    mock_up = decode_png(
        files(prepare(small, size=size, garment="#a03060", white=False, least_line=0, least_gap=0))["mockup"]
    )
    assert mock_up.shape[:2] == shape
    assert (mock_up == (0xA0, 0x30, 0x60)).all(axis=2).mean() > 0.1


# ---- Formats


def idat(stream: bytes, width: int, height: int, bands: int) -> Pixels:
    """Pixels of a PDF's picture, read as those of a PNG."""
    kind = {1: 0, 3: 2}[bands]
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)), (b"IDAT", stream), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_pdf_is_a_page_of_that_size_with_the_same_pixels(art: bytes) -> None:
    result = prepare(art, size=3.3, format="pdf")
    assert (result.media_type, result.extension) == ("application/pdf", "pdf")
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", result.data)
    assert box is not None
    assert float(box[1]) / 72 == pytest.approx(3.3, abs=0.01)
    assert float(box[2]) / 72 == pytest.approx(result.height / 300, abs=0.01)
    png = decode_png(prepare(art, size=3.3).data)
    streams = re.findall(
        rb"/Width (\d+) /Height (\d+).*?/Colors (\d).*?/Length (\d+) >>\nstream\n", result.data, re.DOTALL
    )
    pictures = []
    for found in re.finditer(rb"/Colors (\d).*?/Length (\d+) >>\nstream\n", result.data):
        stream = result.data[found.end() : found.end() + int(found[2])]
        pictures.append(idat(stream, result.width, result.height, int(found[1])))
    assert len(streams) == 2
    assert (np.dstack(pictures) == png).all()
    # Each object is where the table says.
    start = int(result.data.rsplit(b"startxref\n", 1)[1].split()[0])
    assert result.data[start:].startswith(b"xref\n0 8\n")
    for number, place in enumerate(re.findall(rb"(\d{10}) 00000 n", result.data), start=1):
        assert result.data[int(place) :].startswith(b"%d 0 obj" % number)
    assert "white" in files(result)


def test_a_tiff_has_its_white_as_a_further_channel(art: bytes) -> None:
    result = prepare(art, format="tiff", **UNCHECKED)
    assert (result.media_type, result.extension) == ("image/tiff", "tif")
    assert files(result) == {}
    directory = ImageFileDirectory_v2(result.data[:8])
    file = io.BytesIO(result.data)
    file.seek(struct.unpack("<I", result.data[4:8])[0])
    directory.load(file)
    lzw, five, alpha_and_other, inch = 5, 5, (2, 0), 2
    assert [directory[tag] for tag in (259, 277, 338, 296)] == [lzw, five, alpha_and_other, inch]
    assert (directory[282], directory[283]) == (300, 300)
    assert "sRGB" in describe(directory[34675])
    bands = pyvips.Image.new_from_buffer(result.data, "").numpy()
    png = prepare(art)
    assert (bands[..., :4] == decode_png(png.data)).all()
    assert (bands[..., 4] == np.asarray(Image.open(io.BytesIO(files(png)["white"])))[..., 1]).all()


# ---- What it says, and refuses


def test_thin_parts_are_told_and_shown() -> None:
    picture = np.zeros((600, 600, 4), np.uint8)
    picture[50:550, 50:250] = (*NAVY, 255)
    picture[50:550, 256:450] = (*NAVY, 255)  # a gap of .5 mm
    picture[50:550, 500:503] = (*NAVY, 255)  # a line of .25 mm
    result = prepare(encode(picture, "PNG"), size=2, trim=False)
    assert [warning[:60] for warning in result.warnings] == [
        "1 part is thinner than 0.36 mm and may be lost: see the red ",
        "1 gap is narrower than 0.7 mm and may be lost: see the blue ",
    ]
    shown = decode_png(files(result)["thin"])
    assert tuple(shown[300, 501]) == (220, 0, 40, 255)
    assert tuple(shown[300, 253]) == (0, 70, 255, 255)
    assert tuple(shown[300, 100]) == (205, 205, 210, 255)
    assert not shown[20, 20].any()
    assert prepare(encode(picture, "PNG"), trim=False, **UNCHECKED).warnings == ()


@pytest.mark.parametrize(
    ("size", "words"),
    [(2.1, None), (3, "look soft"), (5, "look blurred. Have it enlarged")],
    ids=["good", "soft", "bad"],
)
def test_too_few_pixels_are_told(art: bytes, size: float, words: str | None) -> None:
    result = prepare(art, size=size, **UNCHECKED)
    assert result.details["effective_dpi"] == pytest.approx(WIDTH / size, abs=4)
    assert [str(words) in warning for warning in result.warnings] == ([True] if words else [])


def test_enlarging_gives_sharper_edges_than_stretching() -> None:
    small, truth = encode(badge(150), "PNG"), badge(600)
    plain, enlarged = (
        decode_png(prepare(small, trim=False, alpha="keep", white=False, enlarge=enlarge).data)
        for enlarge in (False, True)
    )
    assert psnr(over(truth, NAVY), over(enlarged, NAVY)) > psnr(over(truth, NAVY), over(plain, NAVY)) + 3


def test_an_svg_is_drawn_at_the_size_of_the_print() -> None:
    svg = (SIZED + '<circle cx="50" cy="50" r="40" fill="#c02040"/></svg>').encode()
    result = prepare(svg, size=6, **UNCHECKED)
    assert (result.width, result.details["effective_dpi"], result.warnings) == (1800, None, ())
    pixels = decode_png(result.data)
    y, x = np.mgrid[0:1800, 0:1800] - 899.5
    circle = np.hypot(x, y) < 900
    assert (circle != (pixels[..., 3] > 0)).mean() < 0.001


def test_a_background_that_is_left_is_told() -> None:
    result = prepare(PHOTO.read_bytes(), size=1.5)
    assert any("Remove the background first" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size": 0}, "size"),
        ({"size": 10, "height": 4}, "height"),
        ({"size": 30}, "the limit is 24 × 60 in"),
        ({"knockout": "#123456", "tolerance": 50}, "Nothing of the picture would be printed"),
    ],
)
def test_what_cannot_be_printed_is_refused_with_the_reason(options: dict[str, Any], reason: str) -> None:
    plain = encode(np.full((30, 30, 3), (0x12, 0x34, 0x56), np.uint8), "PNG")
    assert reason in refusal("print_ready", plain, **{"size": 2} | options).message


def test_faint_art_is_no_art_when_hardened() -> None:
    faint = encode(np.full((30, 30, 4), (0, 0, 0, 100), np.uint8), "PNG")
    assert "choose a halftone" in refusal("print_ready", faint, size=1).message
    assert decode_png(prepare(faint, size=1, alpha="halftone").data)[..., 3].mean() == pytest.approx(100, abs=6)


def test_an_svg_without_size_is_refused_with_what_to_do() -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><circle cx="50" cy="50" r="40"/></svg>'
    assert "width and height" in refusal("print_ready", svg, size=2).message
