"""SVG files: checked for anything that reaches outside the file, then drawn to pixels by resvg.

resvg opens local files named by an href and aborts the process on absurd sizes, so both are settled here
before it sees the file.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings
from importlib.resources import files
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
import numpy.typing as npt
import resvg_py
from PIL import Image

from services.images.engines.base import EngineError

SVG_NAMESPACE = "http://www.w3.org/2000/svg"

# A drawing has no pixels of its own: small ones are drawn at least this large on the longer side.
MIN_LONG_SIDE = 1024
# Drawings with a physical size are drawn at the print resolution.
PRINT_DPI = 300.0
MAX_ELEMENTS = 200_000
MAX_DEPTH = 200
# All pictures embedded in one file together.
MAX_EMBEDDED_PIXELS = 64_000_000

_EMBEDDED_TYPES = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/jpg": "JPEG",
    "image/gif": "GIF",
    "image/webp": "WEBP",
}
_INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "q": 1 / 101.6, "pt": 1 / 72, "pc": 1 / 6}
_LENGTH = re.compile(r"\s*\+?(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)\s*([a-zA-Z%]*)\s*\Z")
_CSS_URL = re.compile(r"(?:url|src|image)\(\s*[\"']?\s*([^\"')]*)", re.IGNORECASE)
_CSS_ESCAPE = re.compile(r"\\([0-9a-fA-F]{1,6})\s?|\\(.)")
_FONT_FILES = (
    ("font_manrope", "Manrope-Regular.ttf"),
    ("font_manrope", "Manrope-Bold.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Regular.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Bold.ttf"),
    ("font_fredoka_one", "FredokaOne-Regular.ttf"),
    ("font_amatic_sc", "AmaticSC-Bold.ttf"),
)


def rasterize_svg(
    data: bytes, max_pixels: int, max_side: int
) -> tuple[npt.NDArray[np.uint8], float | None, tuple[str, ...]]:
    """Draw an SVG file.

    Returns RGBA pixels of shape (height, width, 4) with straight alpha, the resolution if the drawing has
    a physical size, and warnings. Raises EngineError (permanent) when the file is broken, too large or
    refers to anything outside itself.
    """
    root = _parse(data)
    _refuse_outside_references(root)
    _refuse_multiplication(root)
    width, height, dpi = _output_size(root)
    if width * height > max_pixels or max(width, height) > max_side:
        raise EngineError(
            f"The SVG is {width} x {height} px; the limit is {max_pixels // 10**6} million pixels and "
            f"{max_side} px a side. Give it a smaller width and height and try again."
        )
    notes: tuple[str, ...] = ()
    if any(_local_name(element.tag) == "text" for element in root.iter()):
        notes = ("The SVG holds text, which may be set in another font. Convert it to outlines to keep it.",)
    return render_svg(ElementTree.tostring(root, encoding="unicode"), width, height), dpi, notes


def render_svg(svg: str, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Draw trusted SVG text at exactly `width` by `height` px; RGBA with straight alpha."""
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=svg,
            width=width,
            height=height,
            skip_system_fonts=True,
            font_files=[str(files(package) / "files" / name) for package, name in _FONT_FILES],
            font_family="Manrope",
            sans_serif_family="Manrope",
            monospace_family="Manrope",
            serif_family="Source Serif Pro",
            cursive_family="Amatic SC",
            fantasy_family="Fredoka One",
        )
    except ValueError as error:
        raise EngineError(
            f"The SVG could not be drawn ({error}). Save it as plain SVG and upload it once more."
        ) from error
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGBA"))


def _parse(data: bytes) -> ElementTree.Element:
    try:
        _check_structure(data)
        root = ElementTree.fromstring(data)  # noqa: S314 - entities and depth were checked just above
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise EngineError(f"The SVG is not well-formed ({error}). Export it again and upload it once more.") from error
    if root.tag != f"{{{SVG_NAMESPACE}}}svg":
        raise EngineError("The file is XML but not an SVG picture. Upload an SVG or another picture.")
    return root


def _check_structure(data: bytes) -> None:
    """Refuse entity declarations and absurd structure while reading, before a tree is built."""
    parser = expat.ParserCreate()
    depth = elements = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements
        depth += 1
        elements += 1
        if depth > MAX_DEPTH or elements > MAX_ELEMENTS:
            raise EngineError(
                f"The SVG has more than {MAX_ELEMENTS} elements or is nested more than {MAX_DEPTH} deep. "
                "Simplify it or upload it as PNG."
            )

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def entity(*declaration: object) -> None:
        raise EngineError("The SVG declares XML entities, which are not accepted. Save it as plain SVG.")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.EntityDeclHandler = entity
    parser.Parse(data, True)


def _local_name(tag: object) -> str:
    return tag.rsplit("}", 1)[-1] if isinstance(tag, str) else ""


def _refuse_multiplication(root: ElementTree.Element) -> None:
    """Bound what `use` elements unfold to: a chain of them multiplies a few lines into millions."""
    by_id = {element.get("id"): element for element in root.iter() if element.get("id")}
    unfolded: dict[ElementTree.Element, int] = {}

    def count(element: ElementTree.Element) -> int:
        if element not in unfolded:
            # Elements that contain themselves are left out by resvg; the entry stops the recursion here.
            unfolded[element] = 1
            parts = list(element)
            for key, value in element.items():
                if _local_name(key) == "href" and _local_name(element.tag) == "use":
                    parts.extend(filter(None, [by_id.get(value.strip().removeprefix("#"))]))
            unfolded[element] = 1 + sum(count(part) for part in parts)
        return unfolded[element]

    if count(root) > MAX_ELEMENTS:
        raise EngineError(
            f"The SVG unfolds to more than {MAX_ELEMENTS} elements through its <use> references. "
            "Simplify it or upload it as PNG."
        )


def _refuse_outside_references(root: ElementTree.Element) -> None:
    budget = MAX_EMBEDDED_PIXELS
    for element in root.iter():
        name = _local_name(element.tag)
        for key in list(element.attrib):
            attribute = _local_name(key).lower()
            value = element.attrib[key]
            if attribute == "base" or (attribute == "href" and name == "a"):
                # A link to a web page draws nothing; a base would move the other references.
                del element.attrib[key]
            elif attribute in ("href", "src"):
                budget -= _check_reference(value, budget)
            else:
                _check_css(value)
        if name == "style":
            _check_css("".join(element.itertext()))


def _check_css(text: str) -> None:
    # Escapes and comments can hide a keyword from a plain search.
    plain = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    plain = _CSS_ESCAPE.sub(lambda match: chr(int(match[1], 16) % 0x110000) if match[1] else match[2], plain)
    if "@import" in plain.lower():
        raise _outside_reference("@import")
    for target in _CSS_URL.findall(plain):
        if target.strip() and not target.lstrip().lower().startswith(("#", "data:")):
            raise _outside_reference(target)


def _check_reference(value: str, budget: int) -> int:
    """Accept `#fragment` and embedded raster pictures; returns the pixels of the embedded picture."""
    reference = value.strip()
    if not reference or reference.startswith("#"):
        return 0
    if not reference.lower().startswith("data:"):
        raise _outside_reference(reference)
    header, _, body = reference[5:].partition(",")
    media_type, *parameters = header.lower().split(";")
    format_name = _EMBEDDED_TYPES.get(media_type.strip())
    if format_name is None:
        # Among them SVG inside SVG, whose own references nobody would have checked.
        raise EngineError(
            f"The SVG embeds a file of type {media_type or 'text/plain'}; only PNG, JPEG, GIF and WebP "
            "pictures may be embedded. Flatten it and upload it once more."
        )
    try:
        raw = unquote_to_bytes(body)
        content = base64.b64decode(raw) if "base64" in (p.strip() for p in parameters) else raw
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=list(set(_EMBEDDED_TYPES.values()))) as image:
                pixels = image.width * image.height
    except (
        binascii.Error,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombWarning,
        Image.DecompressionBombError,
    ) as error:
        raise EngineError(
            "A picture embedded in the SVG is damaged or too large. Replace it and upload the SVG once more."
        ) from error
    if pixels > budget:
        raise EngineError(
            f"The pictures embedded in the SVG have more than {MAX_EMBEDDED_PIXELS // 10**6} million pixels. "
            "Make them smaller and upload the SVG once more."
        )
    return pixels


def _outside_reference(target: str) -> EngineError:
    shown = target if len(target) <= 60 else target[:57] + "…"
    return EngineError(f"The SVG refers to something outside the file ({shown}). Embed it in the SVG or upload a PNG.")


def _output_size(root: ElementTree.Element) -> tuple[int, int, float | None]:
    """Pixels to draw and the resolution they mean, and make the root's own size agree with it."""
    width, physical = _length(root.get("width"))
    height, _ = _length(root.get("height"))
    box = _view_box(root.get("viewBox"))
    if box is not None:
        aspect = box[0] / box[1]
        if width is None and height is None:
            width, height = box
        elif width is None and height is not None:
            width = height * aspect
        elif height is None and width is not None:
            height = width / aspect
    if width is None or height is None:
        raise EngineError("The SVG has neither a width and height nor a viewBox. Export it with a size.")
    if not (0 < width < 1e9 and 0 < height < 1e9):
        raise EngineError("The SVG's width and height must be above zero. Export it with a size.")
    if box is None:
        root.set("viewBox", f"0 0 {width!r} {height!r}")
    scale = PRINT_DPI / 96 if physical else 1.0
    scale = max(scale, MIN_LONG_SIDE / max(width, height))
    dpi = scale * 96 if physical else None
    columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
    if box is None or abs(width / height / (box[0] / box[1]) - 1) < 0.01:
        # Whole pixels differ a little from the drawing's shape; without this a see-through edge remains.
        root.set("preserveAspectRatio", "none")
    root.set("width", str(columns))
    root.set("height", str(rows))
    return columns, rows, dpi


def _length(text: str | None) -> tuple[float | None, bool]:
    """A length in CSS pixels (96 per inch), and whether it was given in a physical unit."""
    match = _LENGTH.match(text or "")
    if match is None:
        return None, False
    number, unit = float(match[1]), match[2].lower()
    if unit in ("", "px"):
        return number, False
    if unit in _INCHES:
        return number * _INCHES[unit] * 96, True
    # A share of a page that does not exist, or a font size: the viewBox decides.
    return None, False


def _view_box(text: str | None) -> tuple[float, float] | None:
    try:
        numbers = [float(part) for part in re.split(r"[\s,]+", (text or "").strip())]
    except ValueError:
        return None
    if len(numbers) != 4 or not (0 < numbers[2] < 1e9 and 0 < numbers[3] < 1e9):
        return None
    return numbers[2], numbers[3]
