"""The file for one design: at its size on film, without semi-transparency, with its white, and looked over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from services.images.engines.alpha import bleed_colors
from services.images.engines.base import JSON, ConfiguredEngine, EngineError, EngineResult, ExtraFile
from services.images.engines.decode import LEAST_VISIBLE, MAX_PIXELS, MAX_SIDE, Picture, Pixels, decode
from services.images.engines.encode import MAX_RESULT_BYTES, PRINT_DPI, encode_png, result_too_large
from services.images.engines.options import PrintReadyOptions
from services.images.engines.printing import files, pictures
from services.images.engines.printing.size import GOOD_DPI, SOFT_DPI, print_size
from services.images.engines.printing.thin import ThinParts, find_thin_parts
from services.images.engines.printing.transparency import halftone, harden, knock_out
from services.images.engines.printing.underbase import underbase
from services.images.engines.svg import rasterize_svg
from services.images.engines.thumbnail import make_thumbnail
from services.images.engines.upscale import MAX_OUTPUT_PIXELS, Denoise, choose_style, upscale

_MEDIA_TYPES = {
    "png": ("image/png", "png"),
    "pdf": ("application/pdf", "pdf"),
    "tiff": ("image/tiff", "tif"),
}
_PNG = ("image/png", "png")
_OPAQUE = 128

_NOTHING_LEFT = (
    "Nothing of the picture would be printed: all of it is clear or too faint. "
    "Check the picture, the knocked-out colour and its tolerance, or choose a halftone for faint parts."
)
_BACKGROUND = (
    "The picture is not transparent anywhere: all of it is printed, background and all. "
    "Remove the background first if that is not meant."
)


@dataclass(frozen=True, slots=True)
class _Art:
    """RGBA pixels at the size of the print; `dpi` is what the source had at that size (None: it was drawn anew)."""

    pixels: Pixels
    dpi: float | None
    stretch: float


class FilmEngine(ConfiguredEngine):
    """Makes print files for direct-to-film printing."""

    name = "film"
    operation_type = "print_ready"
    options_model = PrintReadyOptions

    def run(self, source: bytes | None, options: PrintReadyOptions) -> EngineResult:
        """Make the print file, and beside it the white, a picture of thin parts if there are any, and a mock-up."""
        picture = decode(source)
        art = self._bring_to_size(picture, source or b"", options)
        warnings = [*picture.warnings, *_warnings_of_size(art, options)]
        pixels = art.pixels
        alpha = np.ascontiguousarray(pixels[..., 3])
        if int(alpha.min()) == 255:
            warnings.append(_BACKGROUND)
        semi = cv2.countNonZero(cv2.inRange(alpha, 1, 254)) / alpha.size
        thin = find_thin_parts(alpha, options.least_line, options.least_gap, art.stretch)
        warnings += _warnings_of_thin_parts(thin, options)
        if options.alpha == "harden":
            alpha = harden(alpha)
        elif options.alpha == "halftone":
            alpha = halftone(alpha, options.lpi)
        if int(alpha.max()) < LEAST_VISIBLE:
            raise EngineError(_NOTHING_LEFT)
        pixels[..., 3] = alpha

        extra = []
        if options.garment is not None:
            extra.append(ExtraFile("mockup", "Mock-up", pictures.mock_up(pixels, options.garment), *_PNG))
        if thin.line_count or thin.gap_count:
            extra.insert(0, ExtraFile("thin", "Thin parts", pictures.overlay(alpha, thin), *_PNG))
        del thin, alpha
        if options.mirror:
            pixels = mirror(pixels)
        white = underbase(pixels, options.choke) if options.white else None
        if white is not None and options.format != "tiff":
            extra.insert(0, ExtraFile("white", "White", files.encode_white(white), *_PNG))
        encoders: dict[str, Callable[[], bytes]] = {
            "png": lambda: encode_png(pixels),
            "pdf": lambda: files.encode_pdf(pixels),
            "tiff": lambda: files.encode_tiff(pixels, white),
        }
        data = encoders[options.format]()
        largest = max(len(data), *(len(file.data) for file in extra), 0)
        if largest > MAX_RESULT_BYTES:
            raise result_too_large(largest)
        media_type, extension = _MEDIA_TYPES[options.format]
        height, width = pixels.shape[:2]
        details: dict[str, JSON] = {
            "dpi": PRINT_DPI,
            "width_inches": round(width / PRINT_DPI, 3),
            "height_inches": round(height / PRINT_DPI, 3),
            "effective_dpi": None if art.dpi is None else round(art.dpi),
            "semi_transparent": round(semi, 4),
        }
        return EngineResult(
            data=data,
            media_type=media_type,
            extension=extension,
            width=width,
            height=height,
            thumbnail=make_thumbnail(pixels),
            warnings=tuple(warnings),
            details=details,
            files=tuple(extra),
        )

    def _bring_to_size(self, picture: Picture, source: bytes, options: PrintReadyOptions) -> _Art:
        """Knock out, trim, and bring to the size of the print. Raises EngineError when nothing is left."""
        pixels = _cut(picture.pixels, options)
        height, width = pixels.shape[:2]
        size = print_size(options.size, options.side, options.unit, (width, height))
        scale = max(size[0] / width, size[1] / height)
        dpi: float | None = PRINT_DPI / scale
        if picture.source_format == "SVG":
            drawn = picture.height * picture.width
            largest = min((MAX_PIXELS / drawn) ** 0.5, MAX_SIDE / max(picture.height, picture.width))
            pixels = _cut(rasterize_svg(source, MAX_PIXELS, MAX_SIDE, min(scale, largest * 0.999))[0], options)
            size = print_size(options.size, options.side, options.unit, (pixels.shape[1], pixels.shape[0]))
            if scale < largest:
                dpi = None
        elif options.enlarge and scale > 1:
            pixels = self._enlarge(pixels, scale, picture.lossy)
        stretch = max(size[0] / pixels.shape[1], size[1] / pixels.shape[0])
        if (pixels.shape[1], pixels.shape[0]) != size:
            pixels = _resize(pixels, size)
        elif options.alpha == "halftone":
            pixels = np.dstack([bleed_colors(pixels), pixels[..., 3]])
        return _Art(pixels, dpi, stretch)

    def _enlarge(self, pixels: Pixels, scale: float, lossy: bool) -> Pixels:
        """Twice or four times the pixels, as far as the upscale engine goes."""
        for factor in (4, 2) if scale > 2 else (2,):
            if pixels.shape[0] * pixels.shape[1] * factor**2 <= MAX_OUTPUT_PIXELS:
                denoise: Denoise = "medium" if lossy else "none"
                return upscale(pixels, factor, choose_style(pixels), denoise, self._settings.engine_threads)
        return pixels


def mirror(pixels: Pixels) -> Pixels:
    """Left and right exchanged."""
    return np.ascontiguousarray(pixels[:, ::-1])


def _cut(pixels: Pixels, options: PrintReadyOptions) -> Pixels:
    """RGBA of which the garment's colour is knocked out, trimmed to what will be seen."""
    if options.knockout is not None:
        pixels = knock_out(pixels, options.knockout, options.tolerance, unmix=options.alpha != "harden")
    elif pixels.shape[2] == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)  # type: ignore[assignment]
    left, top, width, height = cv2.boundingRect(
        cv2.inRange(pixels[..., 3], _OPAQUE if options.alpha == "harden" else LEAST_VISIBLE, 255)
    )
    if not width:
        raise EngineError(_NOTHING_LEFT)
    return np.require(
        pixels[top : top + height, left : left + width] if options.trim else pixels, requirements=["C", "W"]
    )


def _resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    method = cv2.INTER_AREA if size[0] <= pixels.shape[1] else cv2.INTER_CUBIC
    resized = np.empty((size[1], size[0], 4), np.uint8)
    resized[..., 3] = cv2.resize(np.ascontiguousarray(pixels[..., 3]), size, interpolation=method)
    resized[..., :3] = cv2.resize(bleed_colors(pixels), size, interpolation=method)
    return resized


def _warnings_of_size(art: _Art, options: PrintReadyOptions) -> list[str]:
    if art.dpi is None or art.dpi >= GOOD_DPI or art.stretch <= 1:
        return []
    found = f"At this size the picture has {art.dpi:.0f} DPI; {PRINT_DPI} are asked for"
    if art.dpi >= SOFT_DPI:
        return [f"{found}: the print will look soft."]
    if options.enlarge:
        return [f"{found}: even enlarged it will look soft. Print it smaller."]
    return [f"{found}: the print will look blurred. Have it enlarged first, or print it smaller."]


def _warnings_of_thin_parts(thin: ThinParts, options: PrintReadyOptions) -> list[str]:
    found = (
        (thin.line_count, "thinner", "part", options.least_line, "red"),
        (thin.gap_count, "narrower", "gap", options.least_gap, "blue"),
    )
    return [
        f"{count} {noun}{'s are' if count > 1 else ' is'} {word} than {least:g} mm and may be lost: "
        f"see the {color} places in “Thin parts”."
        for count, word, noun, least, color in found
        if count
    ]
