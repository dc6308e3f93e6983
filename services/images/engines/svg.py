"""SVG files: checked for anything that reaches outside the file, then drawn to pixels by resvg.

resvg opens local files named by an href, so references are settled here before it sees the file; what it
costs to draw is bounded by drawing in a process of limited time. All checks take time in proportion to the
file's size.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
import numpy.typing as npt
from PIL import Image

from services.images.engines import draw_svg
from services.images.engines.base import EngineError

SVG_NAMESPACE = "http://www.w3.org/2000/svg"

# A drawing has no pixels of its own: small ones are drawn at least this large on the longer side.
MIN_LONG_SIDE = 1024
# Drawings with a physical size are drawn at the print resolution.
PRINT_DPI = 300.0
# Also the most that tracing may return, so that its results are accepted as uploads.
MAX_SVG_BYTES = 20 * 1024 * 1024
MAX_ELEMENTS = 200_000
MAX_DEPTH = 200
# Every element below a namespace's declaration carries its whole name while the file is read.
_MAX_NAMESPACE_CHARACTERS = 1000
# No length or viewBox that a program writes is longer.
_MAX_NUMBER_CHARACTERS = 200
# Processor time. At 64 million pixels it is enough for a blur of everything or two gradients of full size
# on one 2026 server core; thousands of ordinary shapes take a tenth of it.
MAX_DRAWING_SECONDS = 20
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
_LENGTH = re.compile(r"\+?(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)\s*([a-zA-Z%]*)")
_CSS_URL = re.compile(r"(?:url|src|image)\(\s*[\"']?\s*([^\"')]*)", re.IGNORECASE)
_CSS_ESCAPE = re.compile(r"\\([0-9a-fA-F]{1,6})\s?|\\(.)")


def rasterize_svg(
    data: bytes, max_pixels: int, max_side: int, scale: float = 1.0
) -> tuple[npt.NDArray[np.uint8], float | None, tuple[str, ...]]:
    """Draw an SVG file, `scale` times as large as it says.

    Returns RGBA pixels of shape (height, width, 4) with straight alpha, the resolution if the drawing has
    a physical size, and warnings. Raises EngineError (permanent) when the file is broken, too large, takes
    too long to draw or refers to anything outside itself.
    """
    if len(data) > MAX_SVG_BYTES:
        raise EngineError(
            f"The SVG is {len(data) / 1024**2:.0f} MB; the limit is {MAX_SVG_BYTES // 1024**2} MB. "
            "Simplify its paths, or upload it as PNG."
        )
    root = _parse(data)
    _refuse_outside_references(root)
    _refuse_multiplication(root)
    width, height, dpi = _output_size(root)
    width, height = round(width * scale), round(height * scale)
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
    """Draw checked SVG text at exactly `width` by `height` px; RGBA with straight alpha.

    Raises EngineError (permanent) when resvg cannot draw it within MAX_DRAWING_SECONDS of processor time.
    """
    program = [sys.executable, "-P", str(Path(draw_svg.__file__)), str(width), str(height), str(MAX_DRAWING_SECONDS)]
    drawing = subprocess.run(program, input=svg.encode(), capture_output=True, check=False)
    if drawing.returncode == draw_svg.NOT_DRAWN:
        reason = drawing.stderr.decode(errors="replace").strip()
        raise EngineError(f"The SVG could not be drawn ({reason}). Save it as plain SVG and upload it once more.")
    if drawing.returncode != 0:
        too_slow = drawing.returncode == -signal.SIGXCPU
        problem = f"takes more than {MAX_DRAWING_SECONDS} s to draw" if too_slow else "is too complex to draw"
        raise EngineError(
            f"The SVG {problem} at {width} x {height} px. Flatten its effects (filters, masks, patterns) to "
            "pixels or paths, or give it a smaller width and height, then upload it again."
        )
    with Image.open(io.BytesIO(drawing.stdout), formats=["PNG"]) as image:
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
        for key, value in attributes.items():
            if key.startswith("xmlns") and len(value) > _MAX_NAMESPACE_CHARACTERS:
                raise EngineError("The SVG declares an endless namespace. Save it as plain SVG.")
        if depth > MAX_DEPTH or elements > MAX_ELEMENTS:
            raise EngineError(
                f"The SVG has more than {MAX_ELEMENTS} elements or is nested more than {MAX_DEPTH} deep. "
                "Simplify it or upload it as PNG."
            )

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*declaration: object) -> None:
        raise EngineError(
            "The SVG declares XML entities or default attributes, which are not accepted. Save it as plain SVG."
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    # Both repeat what they declare wherever it applies, so that a small file becomes a huge one.
    parser.EntityDeclHandler = refuse
    parser.AttlistDeclHandler = refuse
    parser.Parse(data, True)


def _local_name(tag: object) -> str:
    return tag.rsplit("}", 1)[-1] if isinstance(tag, str) else ""


def _refuse_multiplication(root: ElementTree.Element) -> None:
    """Bound what `use` elements unfold to: a chain of them multiplies a few lines into millions."""
    by_id = {element.get("id"): element for element in root.iter() if element.get("id")}

    def parts(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
        yield from element
        if _local_name(element.tag) == "use":
            for key, value in element.items():
                if _local_name(key) == "href" and (target := by_id.get(value.strip().removeprefix("#"))) is not None:
                    yield target

    # Elements and depth of what each element unfolds to. An element inside itself is left out by resvg and
    # counts as one here: its entry is there before its parts are looked at.
    unfolded: dict[ElementTree.Element, tuple[int, int]] = {root: (1, 1)}
    open_elements = [(root, parts(root))]
    while open_elements:
        element, remaining = open_elements[-1]
        part = next(remaining, None)
        if part is not None:
            if part not in unfolded:
                unfolded[part] = (1, 1)
                open_elements.append((part, parts(part)))
                continue
        else:
            open_elements.pop()
            if not open_elements:
                return
            element, part = open_elements[-1][0], element
        (elements, depth), (part_elements, part_depth) = unfolded[element], unfolded[part]
        elements, depth = elements + part_elements, max(depth, part_depth + 1)
        unfolded[element] = elements, depth
        if elements > MAX_ELEMENTS or depth > MAX_DEPTH:
            raise EngineError(
                f"The SVG unfolds to more than {MAX_ELEMENTS} elements, or to more than {MAX_DEPTH} levels, "
                "through its <use> references. Simplify it or upload it as PNG."
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
            # Style elements inside this one come up themselves.
            _check_css("".join([element.text or "", *(child.tail or "" for child in element)]))


def _check_css(text: str) -> None:
    # Escapes and comments can hide a keyword from a plain search.
    plain = _strip_comments(text)
    plain = _CSS_ESCAPE.sub(lambda match: chr(int(match[1], 16) % 0x110000) if match[1] else match[2], plain)
    if "@import" in plain.lower():
        raise _outside_reference("@import")
    for target in _CSS_URL.findall(plain):
        if target.strip() and not target.lstrip().lower().startswith(("#", "data:")):
            raise _outside_reference(target)


def _strip_comments(text: str) -> str:
    # A regular expression would look for the end anew at every beginning.
    parts, position = [], 0
    while (start := text.find("/*", position)) >= 0 and (end := text.find("*/", start + 2)) >= 0:
        parts.append(text[position:start])
        position = end + 2
    return "".join(parts) + text[position:]


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
    text = (text or "").strip()
    # The pattern tries every split of a long row of digits that something else follows.
    match = _LENGTH.fullmatch(text) if len(text) <= _MAX_NUMBER_CHARACTERS else None
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
    text = (text or "").strip()
    if len(text) > _MAX_NUMBER_CHARACTERS:
        return None
    try:
        numbers = [float(part) for part in re.split(r"[\s,]+", text)]
    except ValueError:
        return None
    if len(numbers) != 4 or not (0 < numbers[2] < 1e9 and 0 < numbers[3] < 1e9):
        return None
    return numbers[2], numbers[3]
