"""From an uploaded file of unknown content to 8-bit sRGB pixels, or to a refusal that says why.

Files are hostile until proven otherwise: what a file is, is read from its first bytes and never from its
name; sizes are bounded before pixels are decoded; metadata is dropped because only pixels leave here.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import puremagic
import pyvips
from PIL import Image, ImageCms, ImageOps

from services.images.engines.base import MAX_FILE_BYTES, EngineError
from services.images.engines.svg import rasterize_svg

Pixels: TypeAlias = npt.NDArray[np.uint8]

MAX_PIXELS = 64_000_000
MAX_SIDE = 30_000
# A progressive JPEG is drawn anew with each scan, of which cameras and programs write about ten. A scan takes a few
# bytes and goes over all pixels: a file of 1 MB can hold hours of them.
MAX_SCANS = 100
# Alpha of 3 %: what is fainter cannot be seen on any garment.
LEAST_VISIBLE = 8
# Segments of 64 KiB make up the largest file less than a thousand times.
MAX_SEGMENTS = 10_000

# The first bytes of each accepted format. "MPO" is what Pillow calls the JPEG of many phones.
_SIGNATURES: tuple[tuple[bytes, tuple[str, ...]], ...] = (
    (b"\x89PNG\r\n\x1a\n", ("PNG",)),
    (b"\xff\xd8\xff", ("JPEG", "MPO")),
    (b"II*\x00", ("TIFF",)),
    (b"MM\x00*", ("TIFF",)),
    (b"II+\x00", ("TIFF",)),
    (b"MM\x00+", ("TIFF",)),
    (b"BM", ("BMP",)),
    (b"GIF87a", ("GIF",)),
    (b"GIF89a", ("GIF",)),
)
_ACCEPTED = "PNG, JPEG, WebP, TIFF, BMP, GIF or SVG"

# Where a scan of a JPEG ends: at a marker that is neither a stuffed byte nor a restart.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

# What Pillow's format plugins raise on damaged data.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, LookupError, TypeError)

# TIFF tag 262 (PhotometricInterpretation), value 0: white is zero.
_PHOTOMETRIC_TAG = 262
_WHITE_IS_ZERO = 0

Image.MAX_IMAGE_PIXELS = MAX_PIXELS
pyvips.block_untrusted_set(True)
# Nothing is asked for twice, so a cache of operations would only hold memory.
pyvips.cache_set_max(0)


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    `pixels` is uint8 of shape (height, width, 3) or, when something is transparent, (height, width, 4),
    in sRGB with straight alpha. `lossy` is true for JPEG and other formats that leave coding noise; `dpi`
    is what the file says, if it does.
    """

    pixels: Pixels
    source_format: str
    lossy: bool
    dpi: float | None
    warnings: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def has_alpha(self) -> bool:
        """Whether there is any transparency."""
        return bool(self.pixels.shape[2] == 4)


def decode(data: bytes | None) -> Picture:
    """Decode an uploaded file.

    Raises EngineError (permanent) for everything that is not one whole picture within the limits, and for a
    picture of which nothing can be seen.
    """
    if not data:
        raise EngineError("The file is empty. Upload the picture again.")
    if len(data) > MAX_FILE_BYTES:
        raise EngineError(
            f"The file is {len(data) / 1024**2:.0f} MB; the limit is {MAX_FILE_BYTES // 1024**2} MB. "
            "Save it with fewer pixels or as a JPEG of high quality."
        )
    if _looks_like_svg(data):
        pixels, dpi, svg_warnings = rasterize_svg(data, MAX_PIXELS, MAX_SIDE)
        if is_blank(pixels):
            raise EngineError(
                "The SVG draws nothing that can be seen. Parts such as foreignObject, which holds web pages, are not "
                "drawn: convert everything to paths, or upload the picture as PNG."
            )
        return Picture(_drop_opaque_alpha(pixels), "SVG", lossy=False, dpi=dpi, warnings=svg_warnings)
    picture = _decode_raster(data, _sniff(data))
    if is_blank(picture.pixels):
        raise EngineError("The picture is wholly transparent: there is nothing to be seen of it. Check the upload.")
    return picture


def is_blank(pixels: Pixels) -> bool:
    """Whether nothing can be seen of RGB or RGBA pixels."""
    return pixels.shape[2] == 4 and int(pixels[..., 3].max()) < LEAST_VISIBLE


def _sniff(data: bytes) -> tuple[str, ...]:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ("WEBP",)
    for signature, formats in _SIGNATURES:
        if data.startswith(signature):
            return formats
    try:
        guess = puremagic.from_string(data[:4096], mime=False).lstrip(".")
    except (puremagic.PureError, ValueError):
        guess = ""
    found = f"looks like {guess.upper()}, which is not supported" if guess else "is of an unknown type"
    raise EngineError(f"The file {found}. Upload the picture as {_ACCEPTED}.")


def _looks_like_svg(data: bytes) -> bool:
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        head = data[:8192].decode("utf-16", errors="ignore").lstrip().encode()
    return head.startswith(b"<") and (head.startswith(b"<?xml") or b"<svg" in head or b":svg" in head)


def _decode_raster(data: bytes, formats: tuple[str, ...]) -> Picture:
    try:
        with warnings.catch_warnings():
            # Odd metadata is nobody's concern here, it is dropped.
            warnings.simplefilter("ignore", UserWarning)
            # Pillow only warns between one and two times the limit.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=formats) as image:
                _check_size(image.width, image.height)
                _check_single(image)
                if "JPEG" in formats:
                    _check_scans(data)
                image.load()
                # TIFF and WebP tell the true size only here.
                _check_size(image.width, image.height)
                return _to_picture(image, data)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise EngineError(
            f"The picture has more than {MAX_PIXELS // 10**6} million pixels. Make it smaller and try again."
        ) from error
    except _DAMAGED as error:
        raise EngineError(
            f"The {formats[0]} file is damaged or incomplete and could not be read. "
            "Export it again, as PNG if you can, and upload it once more."
        ) from error


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise EngineError("The picture has no pixels. Export it again and upload it once more.")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise EngineError(
            f"The picture is {width} x {height} px; the limit is {MAX_PIXELS // 10**6} million pixels and "
            f"{MAX_SIDE} px a side. Make it smaller and try again."
        )


def _check_single(image: Image.Image) -> None:
    # An MPO's other frames are previews and depth maps; the first is the photo.
    if image.format == "MPO":
        return
    if image.format == "TIFF":
        # Pillow takes quadratic time to count a TIFF's pages.
        if getattr(image, "is_animated", False):
            raise EngineError("The TIFF has several pages. Save the page you want as a file of its own.")
        return
    frames = getattr(image, "n_frames", 1)
    if frames == 1:
        return
    raise EngineError(
        f"The picture is an animation of {frames} frames. Save the frame you want as a PNG and upload that."
    )


def _check_scans(data: bytes) -> None:
    """Refuse a JPEG that takes far longer to draw than its pixels do. Walks over the segments, not over their bytes."""
    scans, position = 0, 2
    for _ in range(MAX_SEGMENTS):
        marker = _NEXT_MARKER.search(data, position)
        if marker is None or marker[0] == b"\xff\xd9":
            return
        scans += marker[0] == b"\xff\xda"
        if scans > MAX_SCANS:
            break
        position = marker.end()
        if marker[0] != b"\xff\x01":  # TEM alone has no length
            position += int.from_bytes(data[position : position + 2], "big")
    raise EngineError(
        f"The JPEG is drawn in more than {MAX_SCANS} passes, or made of more than {MAX_SEGMENTS} segments. "
        "Save it as an ordinary JPEG or as PNG."
    )


def _to_picture(image: Image.Image, data: bytes) -> Picture:
    source_format = "JPEG" if image.format == "MPO" else str(image.format)
    dpi = _dpi(image)
    warning: tuple[str, ...] = ()
    lossy = source_format == "JPEG" or (source_format == "WEBP" and not _is_lossless_webp(data))
    profile = image.info.get("icc_profile")
    # Turning makes a plain image of it, which no longer knows its tags.
    white_is_zero = _is_white_zero(image)
    image = _to_eight_bits(ImageOps.exif_transpose(image), white_is_zero)
    if image.mode == "CMYK":
        warning = ("The picture was converted from CMYK to RGB; colours outside RGB are brought in.",)
    alpha: Pixels | None = None
    if image.mode == "RGBA":
        alpha = np.asarray(image.getchannel("A"))
    pixels = _to_srgb(image, profile)
    if alpha is not None and int(alpha.min()) < 255:
        pixels = np.dstack([pixels, alpha])
    return Picture(np.ascontiguousarray(pixels), source_format, lossy, dpi, warning)


def _dpi(image: Image.Image) -> float | None:
    try:
        dpi = float(image.info["dpi"][0])
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError):
        return None
    # 72 and below is what programs write when nobody said anything.
    return round(dpi, 2) if 72 < dpi < 10_000 else None


def _is_lossless_webp(data: bytes) -> bool:
    # RIFF: the chunk that holds the pixels is "VP8L" when lossless, "VP8 " when not.
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        if name in (b"VP8L", b"VP8 "):
            return bool(name == b"VP8L")
        position += 8 + size + size % 2
    return False


def _to_eight_bits(image: Image.Image, white_is_zero: bool) -> Image.Image:
    """Bring any Pillow mode to L, RGB, RGBA or CMYK without clipping."""
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)
        if white_is_zero:
            grey = 65535 - grey
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    if image.mode in ("L", "RGB", "RGBA", "CMYK"):
        # A PNG may name one colour transparent instead of carrying alpha.
        return image.convert("RGBA") if "transparency" in image.info and image.mode != "CMYK" else image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("LA", "La", "PA", "RGBa"):
        return image.convert("RGBA")
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("YCbCr", "RGBX"):
        return image.convert("RGB")
    raise EngineError(f"The picture's colour mode ({image.mode}) is not supported. Save it as 8- or 16-bit RGB.")


def _is_white_zero(image: Image.Image) -> bool:
    # Pillow inverts 8-bit TIFFs of this kind and leaves 16-bit ones as they are.
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO


def _to_srgb(image: Image.Image, profile: bytes | None) -> Pixels:
    """Colours of an L, RGB, RGBA or CMYK image as an sRGB array of shape (height, width, 3)."""
    if image.mode == "CMYK":
        return _convert_with_profile(np.asarray(image), "cmyk", profile)
    rgb = np.asarray(image.convert("RGB"))
    if profile is None:
        return rgb
    space = _profile_space(profile)
    if space == "RGB" and image.mode != "L":
        return _convert_with_profile(rgb, "srgb", profile)
    if space == "GRAY" and image.mode == "L":
        return _convert_with_profile(np.asarray(image)[..., np.newaxis], "b-w", profile)
    return rgb


def _profile_space(profile: bytes) -> str | None:
    """Colour space of a profile that needs converting; None for sRGB itself and for broken profiles."""
    try:
        parsed = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(parsed):
            return None
        return str(parsed.profile.xcolor_space).strip()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _convert_with_profile(pixels: Pixels, interpretation: str, profile: bytes | None) -> Pixels:
    # libvips brings a CMYK profile of its own (for files without one), which Pillow does not. An embedded
    # profile that does not fit the pixels is replaced by the default by libvips.
    height, width, bands = pixels.shape
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, bands, "uchar").copy(
        interpretation=interpretation
    )
    if profile is not None:
        image = image.copy()
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    fallback = "cmyk" if interpretation == "cmyk" else "srgb"
    converted = image.icc_transform(
        "srgb",
        embedded=profile is not None,
        input_profile=fallback,
        intent="relative",
        black_point_compensation=True,
    )
    return np.asarray(converted.numpy(), dtype=np.uint8)[..., :3]


def _drop_opaque_alpha(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[..., :3]) if int(pixels[..., 3].min()) == 255 else pixels
