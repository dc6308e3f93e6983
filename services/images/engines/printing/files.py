"""Files for printers: PNG, PDF and TIFF at 300 DPI, tagged as sRGB."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pyvips

from services.images.engines.decode import Pixels
from services.images.engines.encode import PRINT_DPI, as_image, encode_image

_POINTS = 72 / PRINT_DPI  # a PDF's unit is 1/72 inch

# TIFF 6.0: field 338 (ExtraSamples), two SHORT values; 2 is alpha that colours are not multiplied by, 0 something else.
_TWO_ALPHAS = struct.pack("<HHIHH", 338, 3, 2, 2, 2)
_ALPHA_AND_OTHER = struct.pack("<HHIHH", 338, 3, 2, 2, 0)


def encode_white(white: Pixels) -> bytes:
    """The white as a PNG of its own: white where it is printed, else transparent."""
    alpha = as_image(white[..., np.newaxis], "b-w")
    return encode_image(alpha.new_from_image(255).bandjoin(alpha).copy(interpretation="b-w"))


def encode_tiff(pixels: Pixels, white: Pixels | None) -> bytes:
    """RGBA pixels as a TIFF (LZW); `white` is a fifth channel, 255 where all of it is printed."""
    bands = pixels if white is None else np.dstack([pixels, white])
    data = bytes(
        as_image(bands, "srgb").tiffsave_buffer(
            compression="lzw", predictor="horizontal", profile="srgb", resunit="inch"
        )
    )
    # libvips says of all further channels that they are alpha.
    return data if white is None else data.replace(_TWO_ALPHAS, _ALPHA_AND_OTHER, 1)


def encode_pdf(pixels: Pixels) -> bytes:
    """RGBA pixels as a PDF of one page of exactly their size.

    A PNG's data are a PDF's, filter and all: PDF 32000-1:2008, 7.4.4.4.
    """
    height, width = pixels.shape[:2]
    image = as_image(pixels, "srgb")
    page = f"{width * _POINTS:.4f} {height * _POINTS:.4f}"
    across, _, down = page.partition(" ")
    drawing = f"q {across} 0 0 {down} 0 0 cm /Art Do Q".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {page}] /Contents 4 0 R "
        "/Resources << /XObject << /Art 5 0 R >> >> >>".encode(),
        _stream("", drawing),
        _picture(image.extract_band(0, n=3), "[/ICCBased 7 0 R]", " /SMask 6 0 R"),
        _picture(image.extract_band(3), "/DeviceGray"),
        _stream("/N 3 /Alternate /DeviceRGB ", _srgb_profile()),
    ]
    parts = [b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"]
    places, length = [], len(parts[0])
    for number, body in enumerate(objects, start=1):
        places.append(length)
        parts.append(b"%d 0 obj\n%b\nendobj\n" % (number, body))
        length += len(parts[-1])
    entries = b"".join(b"%010d 00000 n \n" % place for place in places)
    parts.append(b"xref\n0 %d\n0000000000 65535 f \n%b" % (len(objects) + 1, entries))
    parts.append(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, length))
    return b"".join(parts)


def _picture(image: pyvips.Image, space: str, more: str = "") -> bytes:
    head = (
        f"/Type /XObject /Subtype /Image /Width {image.width} /Height {image.height} /BitsPerComponent 8 "
        f"/ColorSpace {space} /Filter /FlateDecode /DecodeParms << /Predictor 15 /Colors {image.bands} "
        f"/BitsPerComponent 8 /Columns {image.width} >>{more} "
    )
    return _stream(head, b"".join(_image_data(encode_image(image))))


def _image_data(png: bytes) -> Iterator[bytes]:
    position = 8
    while position < len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        if kind == b"IDAT":
            yield png[position + 8 : position + 8 + length]
        position += 12 + length


def _stream(head: str, data: bytes) -> bytes:
    return b"<< %b/Length %d >>\nstream\n%b\nendstream" % (head.encode(), len(data), data)


@lru_cache(maxsize=1)
def _srgb_profile() -> bytes:
    return bytes(pyvips.Operation.call("profile_load", "srgb"))
