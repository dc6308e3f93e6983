"""Makes the broken and dangerous files that the tests upload."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from tests.services.art import badge_on, encode

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
SIZED = SVG + 'width="100" height="100">'


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is enormous."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b"\0" * 100_000))
        + png_chunk(b"IEND", b"")
    )


def text_bomb() -> bytes:
    """A PNG whose text chunk unpacks to 200 MB."""
    good = encode(np.zeros((4, 4, 3), np.uint8), "PNG")
    packed = zlib.compressobj()
    content = b"".join(packed.compress(bytes(1_000_000)) for _ in range(200)) + packed.flush()
    return good[:33] + png_chunk(b"zTXt", b"Comment\0\0" + content) + good[33:]


def animated(file_format: str) -> bytes:
    frames = [Image.new("RGB", (30, 20), color) for color in ("red", "green", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, file_format, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def multiplying_svg() -> bytes:
    levels = "".join(f'<g id="a{level + 1}">' + f'<use href="#a{level}"/>' * 10 + "</g>" for level in range(9))
    return f'{SIZED}<defs><rect id="a0" width="9" height="9"/>{levels}</defs><use href="#a9"/></svg>'.encode()


def use_chain(length: int) -> bytes:
    links = "".join(f'<g id="a{link}"><use href="#a{link + 1}"/></g>' for link in range(length))
    return f'{SIZED}{links}<rect id="a{length}" width="9" height="9"/></svg>'.encode()


def slow_svg(side: int) -> bytes:
    """Less than 300 bytes that take minutes to draw at 7900 px a side."""
    noise = '<filter id="f"><feTurbulence baseFrequency="0.5" numOctaves="20"/></filter>'
    return (
        f'{SVG}width="{side}" height="{side}">{noise}<rect width="100%" height="100%" filter="url(#f)"/></svg>'
    ).encode()


def tiff_of_pages(pages: int) -> bytes:
    """A TIFF of so many pages of one pixel."""
    # ImageWidth, ImageLength, BitsPerSample, Compression, Photometric, Strip{Offsets,ByteCounts}
    tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 0), (279, 1)]
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    size = 2 + len(entries) + 4
    directories = (
        struct.pack("<H", len(tags)) + entries + struct.pack("<I", 8 + size * (page + 1) if page + 1 < pages else 0)
        for page in range(pages)
    )
    return b"II*\0" + struct.pack("<I", 8) + b"".join(directories)


def truncated(file_format: str) -> bytes:
    whole = encode(badge_on(256, (255, 255, 255)), file_format)
    return whole[: len(whole) // 2]


def jpeg_of_scans(scans: int, side: int = 64) -> bytes:
    """A progressive JPEG that draws its last scan so often."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "JPEG", progressive=True)
    whole = buffer.getvalue()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * scans + whole[-2:]
