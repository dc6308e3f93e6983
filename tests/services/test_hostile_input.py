"""Files that are broken, oversized, dangerous or not what they claim: refused with a sentence, or read right."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from services.images.engines import EngineError, svg
from services.images.engines.base import MAX_FILE_BYTES
from services.images.engines.decode import Picture, Pixels, decode
from tests.services.art import badge_on, encode
from tests.services.hostile_files import (
    SIZED,
    SVG,
    animated,
    bomb,
    jpeg_of_scans,
    multiplying_svg,
    slow_svg,
    text_bomb,
    tiff_of_pages,
    truncated,
    use_chain,
)

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "an empty file": (lambda: b"", "The file is empty"),
    "a file of 60 MB": (lambda: bytes(60 * 1024**2), "The file is 60 MB; the limit is 50 MB"),
    "a decompression bomb": (lambda: bomb(50_000, 50_000), "64 million pixels"),
    "a picture a little over the limit": (lambda: bomb(9_000, 9_000), "64 million pixels"),
    "a picture that is too long": (lambda: bomb(40_000, 10), "30000 px a side"),
    "a text chunk bomb": (text_bomb, "damaged"),
    "a truncated PNG": (lambda: truncated("PNG"), "damaged or incomplete"),
    "a truncated JPEG": (lambda: truncated("JPEG"), "damaged or incomplete"),
    "a truncated WebP": (lambda: truncated("WEBP"), "damaged or incomplete"),
    "a truncated TIFF": (lambda: truncated("TIFF"), "damaged or incomplete"),
    "a truncated BMP": (lambda: truncated("BMP"), "damaged or incomplete"),
    "a truncated GIF": (lambda: truncated("GIF"), "damaged or incomplete"),
    "an animated GIF": (lambda: animated("GIF"), "animation of 3 frames"),
    "an animated PNG": (lambda: animated("PNG"), "animation of 3 frames"),
    "an animated WebP": (lambda: animated("WEBP"), "animation of 3 frames"),
    "a TIFF of three pages": (lambda: animated("TIFF"), "several pages"),
    "a JPEG of endless scans": (lambda: jpeg_of_scans(3000, side=4000), "more than 100 passes"),
    "a JPEG of endless segments": (lambda: jpeg_of_scans(1)[:-2] + b"\xff\xe0\0\2" * 10_000_000, "segments"),
    "a PDF": (lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "PDF"),
    "a web page": (lambda: b"<!DOCTYPE html><html><body>Hi</body></html>", "Upload"),
    "noise": (lambda: np.random.default_rng(1).bytes(5000), "unknown type"),
    "an SVG of 100000 px": (
        lambda: (SVG + 'width="100000" height="100000"/>').encode(),
        "100000 x 100000 px",
    ),
    "an SVG of no size": (lambda: (SVG + "/>").encode(), "neither a width and height nor a viewBox"),
    "an SVG that breaks off": (lambda: (SIZED + "<rect").encode(), "not well-formed"),
    "an SVG that nests": (lambda: (SIZED + "<g>" * 999 + "</g>" * 999 + "</svg>").encode(), "nested"),
    "an SVG that multiplies": (multiplying_svg, "unfolds"),
    "an SVG of 21 MB": (lambda: (SIZED + " " * 21 * 1024**2 + "</svg>").encode(), "The SVG is 21 MB; the limit is 20"),
    "an SVG whose references are nested": (lambda: use_chain(600), "more than 200 levels"),
    "an SVG whose references are nested endlessly": (lambda: use_chain(50_000), "more than 200 levels"),
    "an SVG with default attributes": (
        lambda: ('<!DOCTYPE svg [<!ATTLIST rect fill CDATA "red">]>' + SIZED + "</svg>").encode(),
        "default attributes",
    ),
    "an SVG with entities": (
        lambda: (
            '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + SIZED + "<text>&x;</text></svg>"
        ).encode(),
        "XML entities",
    ),
}

OUTSIDE = {
    "an image": '<image href="{path}" width="100" height="100"/>',
    "an image, the old way": '<image xlink:href="{path}" width="100" height="100"/>',
    "a file address": '<image href="file://{path}" width="100" height="100"/>',
    "a web address": '<image href="https://example.org/a.png" width="100" height="100"/>',
    "a use element": '<use href="{path}#a"/>',
    "a filter image": '<filter id="f"><feImage href="{path}"/></filter><rect filter="url(#f)" width="9" height="9"/>',
    "a style sheet import": '<style>@import "{path}";</style>',
    "an escaped import": '<style>@\\69mport "{path}";</style>',
    "a style attribute": '<rect style="fill: url({path}#a)" width="9" height="9"/>',
    "a paint attribute": "<rect fill=\"url('{path}#a')\" width='9' height='9'/>",
    "a font face": "<style>@font-face {{ font-family: x; src: url({path}) }}</style>",
    "an SVG inside": '<image href="data:image/svg+xml;base64,PHN2Zy8+" width="9" height="9"/>',
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_is_refused_for_good_with_a_reason(make: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(EngineError) as caught:
        decode(make())
    assert reason in caught.value.message
    assert not caught.value.retryable


def repeated(text: str, size: int) -> str:
    return text * (size // len(text))


# Whatever is repeated, reading takes time in proportion to its length.
REPETITIVE: dict[str, Callable[[int], str]] = {
    "unclosed comments": lambda size: f'{SIZED}<g style="{repeated("/* ", size)}"/></svg>',
    "comments": lambda size: f'{SIZED}<g style="{repeated("/**/", size)}"/></svg>',
    "unclosed comments of a style sheet": lambda size: f"{SIZED}<style>{repeated('/* ', size)}</style></svg>",
    "nested style sheets": lambda size: f"{SIZED}{'<style>' * 190}{repeated('a{} ', size)}{'</style>' * 190}</svg>",
    "escapes": lambda size: f'{SIZED}<g class="{repeated(chr(92) + "61 ", size)}"/></svg>',
    "backslashes": lambda size: f'{SIZED}<g class="{repeated(chr(92), size)}"/></svg>',
    "addresses": lambda size: f'{SIZED}<g class="{repeated("url(", size)}"/></svg>',
    "blanks in an address": lambda size: f'{SIZED}<g class="url({repeated(" ", size)}"/></svg>',
    "digits of a length": lambda size: f'{SVG}width="{repeated("1", size)}!" height="1"/>',
    "blanks of a length": lambda size: f'{SVG}width="1{repeated(" ", size)}!" height="1"/>',
    "digits of a viewBox": lambda size: f'{SVG}viewBox="0 0 1 {repeated("1", size)}"/>',
    "numbers of a viewBox": lambda size: f'{SVG}viewBox="{repeated("1, ", size)}"/>',
    "blanks of a reference": lambda size: f'{SIZED}<use href="{repeated(" ", size)}#"/></svg>',
    "escapes of an embedded picture": lambda size: f'{SIZED}<image href="data:image/png,{repeated("%", size)}"/></svg>',
    "parameters of an embedded picture": lambda size: f'{SIZED}<image href="data:{repeated(";", size)}"/></svg>',
    "a long namespace": lambda size: f'{SIZED}<g xmlns:x="{repeated("u", size)}">{repeated("<x:a/>", size)}</g></svg>',
    "a long default attribute": lambda size: (
        f'<?xml version="1.0"?><!DOCTYPE svg [<!ATTLIST a b CDATA "{repeated("u", size)}">]>'
        f"{SIZED}{repeated('<a/>', size)}</svg>"
    ),
    "references to one element": lambda size: SIZED + '<g id="a"/>' + repeated('<use href="#a"/>', size) + "</svg>",
    "comments of the file": lambda size: f"{SIZED}{repeated('<!---->', size)}</svg>",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", REPETITIVE.values(), ids=REPETITIVE)
def test_reading_takes_time_in_proportion_to_the_file(make: Callable[[int], str]) -> None:
    for size in (10_000, 100_000, 1_000_000):
        started = time.perf_counter()
        with contextlib.suppress(EngineError):
            decode(make(size).encode())
        # About 0.2 s; in quadratic time it would be minutes.
        assert time.perf_counter() - started < 10


@pytest.mark.timeout(60)
def test_the_pages_of_a_tiff_are_not_counted() -> None:
    with pytest.raises(EngineError, match="several pages"):
        decode(tiff_of_pages(200_000))


def test_a_progressive_jpeg_is_read_however_its_segments_look() -> None:
    whole = jpeg_of_scans(50)
    # What looks like scans in a comment is none.
    comment = b"\xff\xda" * 500
    marked = whole[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment + whole[2:]
    assert decode(marked).width == 64


def test_an_svg_that_takes_too_long_to_draw_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svg, "MAX_DRAWING_SECONDS", 1)
    started = time.perf_counter()
    with pytest.raises(EngineError, match="more than 1 s to draw at 7900 x 7900 px") as caught:
        decode(slow_svg(7900))
    assert "Flatten its effects" in caught.value.message
    assert not caught.value.retryable
    assert time.perf_counter() - started < 20


def test_an_svg_that_ends_the_drawing_process_is_refused() -> None:
    # Each level of see-through groups needs 250 MB, and resvg ends its process when there is no more.
    groups = '<g opacity="0.9">' * 20 + '<rect width="7900" height="7900"/><rect width="9" height="9"/>' + "</g>" * 20
    program = (
        "import resource, sys; from services.images.engines import EngineError; "
        "from services.images.engines.decode import decode\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "try: decode(sys.stdin.buffer.read())\n"
        "except EngineError as error: print(error.retryable, error.message)"
    )
    drawn = subprocess.run(
        [sys.executable, "-c", program],
        input=f'{SVG}width="7900" height="7900">{groups}</svg>'.encode(),
        capture_output=True,
        check=True,
    )
    assert drawn.stdout.startswith(b"False The SVG is too complex to draw"), drawn.stdout


@pytest.mark.parametrize("element", OUTSIDE.values(), ids=OUTSIDE)
def test_an_svg_reaches_nothing_outside_itself(element: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (10, 10), "red").save(secret)
    with pytest.raises(EngineError) as caught:
        decode((SIZED + element.format(path=secret) + "</svg>").encode())
    assert "outside the file" in caught.value.message or "embeds a file" in caught.value.message


def test_an_svg_may_embed_pictures_and_link_to_pages() -> None:
    import base64

    red = base64.b64encode(encode(np.full((4, 4, 3), (255, 0, 0), np.uint8), "PNG")).decode()
    picture = decode(
        (
            SIZED + f'<a href="https://example.org"><image href="data:image/png;base64,{red}" width="100" '
            'height="100" image-rendering="pixelated"/></a></svg>'
        ).encode()
    )
    assert picture.pixels[500, 500].tolist() == [255, 0, 0]


def test_a_bomb_embedded_in_an_svg_is_refused() -> None:
    import base64

    inner = base64.b64encode(bomb(50_000, 50_000)).decode()
    with pytest.raises(EngineError, match="embedded in the SVG"):
        decode((SIZED + f'<image href="data:image/png;base64,{inner}" width="9" height="9"/></svg>').encode())


def test_a_file_of_exactly_the_limit_is_looked_at() -> None:
    with pytest.raises(EngineError, match="unknown type"):
        decode(b"\x01" * MAX_FILE_BYTES)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_damage_anywhere_never_escapes_as_another_error(file_format: str) -> None:
    whole = encode(badge_on(64, (255, 255, 255)), file_format)
    chance = np.random.default_rng(7)
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(chance.integers(1, 9)):
            # Headers and tables come first and are where decoders go wrong.
            broken[int(len(broken) * chance.random() ** 3)] = chance.integers(256)
        try:
            picture = decode(bytes(broken))
        except EngineError:
            continue
        assert picture.pixels.dtype == np.uint8


# What follows is unusual but honest, and must come out with the right colours the right way up.

RED, BLUE = (200, 30, 40), (20, 60, 190)


def red_above_blue(width: int = 60, height: int = 40) -> Pixels:
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2], picture[height // 2 :] = RED, BLUE
    return picture


def assert_red_above_blue(picture: Picture, tolerance: int) -> None:
    height, width = picture.pixels.shape[:2]
    assert (width, height) == (60, 40)
    above, below = picture.pixels[5, 30, :3].astype(int), picture.pixels[-5, 30, :3].astype(int)
    assert np.abs(above - RED).max() <= tolerance
    assert np.abs(below - BLUE).max() <= tolerance


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_every_format_is_read(file_format: str) -> None:
    assert_red_above_blue(decode(encode(red_above_blue(), file_format)), tolerance=12)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize(("orientation", "stored"), [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)])
def test_exif_orientation_is_applied(file_format: str, orientation: int, stored: Image.Transpose) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(red_above_blue()).transpose(stored).save(buffer, file_format, exif=exif)
    assert_red_above_blue(decode(buffer.getvalue()), tolerance=12)


def cmyk_of(picture: Pixels) -> Pixels:
    """What a print program would store for these colours, by libvips' own CMYK profile."""
    height, width, _ = picture.shape
    image = pyvips.Image.new_from_memory(picture.tobytes(), width, height, 3, "uchar")
    converted = image.copy(interpretation="srgb").icc_transform(
        "cmyk", input_profile="srgb", intent="relative", black_point_compensation=True
    )
    return np.asarray(converted.numpy(), dtype=np.uint8)


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_comes_out_in_the_colours_that_were_meant(file_format: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(cmyk_of(red_above_blue()), "CMYK").save(buffer, file_format)
    picture = decode(buffer.getvalue())
    # A blue as strong as this one cannot be printed, so it comes back duller.
    assert_red_above_blue(picture, tolerance=45)
    assert "CMYK" in picture.warnings[0]
    # The naive formula, which ignores inks and paper, is far off.
    naive = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))[5, 30].astype(int)
    assert np.abs(naive - RED).max() > np.abs(picture.pixels[5, 30].astype(int) - RED).max()


def test_an_embedded_profile_is_honoured() -> None:
    swapped = wide_gamut_profile()
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), (128, 160, 96), np.uint8)).save(buffer, "PNG", icc_profile=swapped)
    expected = ImageCms.profileToProfile(
        Image.new("RGB", (1, 1), (128, 160, 96)),
        ImageCms.ImageCmsProfile(io.BytesIO(swapped)),
        ImageCms.createProfile("sRGB"),
    )
    assert expected is not None
    seen = decode(buffer.getvalue()).pixels[4, 4].astype(int)
    assert np.abs(seen - np.array(expected.getpixel((0, 0)))).max() <= 3
    assert np.abs(seen - (128, 160, 96)).max() > 5


def wide_gamut_profile() -> bytes:
    """libvips' Display P3 profile, as a phone would embed it."""
    image = pyvips.Image.black(1, 1, bands=3).copy(interpretation="srgb")
    tagged = image.icc_transform("p3", input_profile="srgb")
    return bytes(tagged.get("icc-profile-data"))


def test_a_broken_profile_is_ignored() -> None:
    buffer = io.BytesIO()
    Image.fromarray(red_above_blue()).save(buffer, "PNG", icc_profile=b"not a profile")
    assert_red_above_blue(decode(buffer.getvalue()), tolerance=0)


def sixteen_bit_png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    grey = np.array([[0, 257 * 64, 257 * 128, 65535]], np.uint16)
    assert decode(sixteen_bit_png(grey)).pixels[0, :, 0].tolist() == [0, 64, 128, 255]
    bgra = np.array([[[257 * 40, 257 * 30, 257 * 200, 257 * 100]]], np.uint16)
    assert decode(sixteen_bit_png(bgra[..., :3])).pixels[0, 0].tolist() == [200, 30, 40]
    assert decode(sixteen_bit_png(bgra)).pixels[0, 0].tolist() == [200, 30, 40, 100]


def test_sixteen_bit_grey_tiffs_of_either_polarity_are_read() -> None:
    import tifffile

    grey = np.array([[0, 257 * 64, 257 * 128, 65535]], np.uint16)
    for photometric, expected in (("minisblack", [0, 64, 128, 255]), ("miniswhite", [255, 191, 127, 0])):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, grey, photometric=photometric)
        assert decode(buffer.getvalue()).pixels[0, :, 0].tolist() == expected


def test_a_palette_with_a_transparent_colour_keeps_it() -> None:
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    indexed.putpalette([*RED, *BLUE])
    buffer = io.BytesIO()
    indexed.save(buffer, "PNG", transparency=1)
    assert decode(buffer.getvalue()).pixels.tolist() == [[[*RED, 255], [*BLUE, 0]]]


def test_an_alpha_channel_that_is_all_solid_is_dropped() -> None:
    assert decode(encode(np.full((3, 3, 4), 255, np.uint8), "PNG")).pixels.shape == (3, 3, 3)


def test_a_phone_photo_with_a_preview_is_one_picture() -> None:
    first, preview = Image.fromarray(red_above_blue()), Image.new("RGB", (6, 4))
    buffer = io.BytesIO()
    first.save(buffer, "MPO", save_all=True, append_images=[preview])
    picture = decode(buffer.getvalue())
    assert_red_above_blue(picture, tolerance=12)
    assert (picture.source_format, picture.lossy) == ("JPEG", True)


@pytest.mark.parametrize(("lossless", "lossy"), [(True, False), (False, True)])
def test_webp_says_itself_whether_it_is_lossless(lossless: bool, lossy: bool) -> None:
    assert decode(encode(red_above_blue(), "WEBP", lossless=lossless)).lossy is lossy


def test_resolution_is_read_and_metadata_is_not_carried_on() -> None:
    picture = decode(encode(red_above_blue(), "PNG", dpi=(300, 300)))
    assert picture.dpi == pytest.approx(300, abs=0.1)
    assert decode(encode(red_above_blue(), "PNG")).dpi is None


def test_an_svg_in_millimetres_is_drawn_at_300_dpi() -> None:
    picture = decode(
        (SVG + 'width="100mm" height="50mm" viewBox="0 0 2 1"><rect width="2" height="1"/></svg>').encode()
    )
    assert (picture.width, picture.height, picture.dpi) == (1181, 591, 300)
    assert not picture.has_alpha


def test_an_svg_with_a_doctype_and_another_encoding_is_read() -> None:
    text = (
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" '
        f'"http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">{SIZED}<rect width="100" height="100" '
        'fill="#c81e28"/></svg>'
    )
    assert decode(text.encode("utf-16")).pixels[9, 9].tolist() == list(RED)
