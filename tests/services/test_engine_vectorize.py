"""Vectorising: close to the picture, few and true colours, a file that editors scale."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from services.images.engines import vectorize
from services.images.engines.svg import render_svg
from tests.services.art import CORAL, CREAM, MUSTARD, NAVY, TEAL, Pixels, badge, badge_on, encode
from tests.services.engine_support import PHOTO, overlap, refusal, run

WHITE = (255, 255, 255)


def likeness(truth: Pixels, svg: bytes) -> float:
    drawn = render_svg(svg.decode(), truth.shape[1], truth.shape[0])
    return float(structural_similarity(truth, drawn[..., :3], channel_axis=2))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("detail", ["low", "medium", "high"])
def test_the_drawing_looks_like_the_art(detail: str) -> None:
    art = badge_on(1024, WHITE)
    result = run("vectorize", encode(art, "PNG"), detail=detail)
    assert likeness(art, result.data) >= 0.97
    assert len(result.data) < 250_000


@pytest.mark.parametrize("background", [WHITE, (20, 20, 20)])
def test_no_other_colour_lies_under_the_background(background: tuple[int, int, int]) -> None:
    art = badge_on(512, background)
    svg = run("vectorize", encode(art, "PNG")).data
    first, *rest = list(ElementTree.fromstring(svg))  # noqa: S314
    assert first.get("fill") == "#{:02x}{:02x}{:02x}".format(*background)
    canvas = (first.get("d") or "").removesuffix(" Z")
    assert not [path for path in rest if (path.get("d") or "").startswith(canvas)]
    # An edge between two pixels is mixed with nothing: no rim of a colour from below.
    drawn = render_svg(svg.decode().replace('viewBox="0 0 1024 1024"', 'viewBox="-1 -1 1026 1026"'), 301, 301)
    assert 0 < drawn[0, 150, 3] < 255
    assert np.abs(drawn[0, 10:-10, :3].astype(int) - background).max() <= 2
    assert likeness(art, svg) >= 0.97


def test_a_jpeg_is_traced_as_well() -> None:
    result = run("vectorize", encode(badge_on(1024, WHITE), "JPEG", quality=60))
    assert likeness(badge_on(1024, WHITE), result.data) >= 0.97


def test_the_palette_is_the_drawn_colours_and_nothing_else() -> None:
    result = run("vectorize", encode(badge_on(512, WHITE), "PNG"))
    drawn = {"#{:02x}{:02x}{:02x}".format(*color) for color in (WHITE, NAVY, CORAL, MUSTARD, TEAL, CREAM)}
    assert set(result.details["palette"]) == drawn  # type: ignore[arg-type]
    fills = {path.get("fill") for path in ElementTree.fromstring(result.data)}  # noqa: S314
    assert fills <= drawn


def test_colors_limits_the_palette() -> None:
    result = run("vectorize", encode(badge_on(512, WHITE), "PNG"), colors=3)
    assert len(result.details["palette"]) == 3  # type: ignore[arg-type]


def test_the_file_has_a_size_and_a_view_box() -> None:
    result = run("vectorize", encode(badge_on(512, WHITE)[:301, :507], "PNG"))
    root = ElementTree.fromstring(result.data)  # noqa: S314
    assert (root.get("width"), root.get("height")) == ("507", "301")
    assert root.get("viewBox") == "0 0 1014 602"
    assert (result.width, result.height, result.media_type) == (507, 301, "image/svg+xml")


def test_transparent_areas_are_not_painted() -> None:
    art = badge(512)
    result = run("vectorize", encode(art, "PNG"))
    drawn = render_svg(result.data.decode(), 512, 512)
    assert overlap(art[..., 3] >= 128, drawn[..., 3] >= 128) >= 0.99
    with Image.open(io.BytesIO(result.thumbnail)) as thumbnail:
        assert np.asarray(thumbnail.convert("RGBA"))[0, 0, 3] == 0


def test_a_photo_is_traced_with_a_warning() -> None:
    result = run("vectorize", PHOTO.read_bytes(), colors=8, detail="low")
    assert "photo" in result.warnings[0]


def test_a_drawing_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectorize, "MAX_SVG_BYTES", 1000)
    assert "fewer colors" in refusal("vectorize", encode(badge_on(256, WHITE), "PNG")).message


def test_a_picture_without_anything_solid_is_refused() -> None:
    faint = encode(np.full((20, 20, 4), 100, np.uint8), "PNG")
    assert "see-through" in refusal("vectorize", faint).message


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (40, 1)])
def test_tiny_pictures_are_traced(size: tuple[int, int]) -> None:
    result = run("vectorize", encode(np.full((*size, 3), 200, np.uint8), "PNG"))
    assert (render_svg(result.data.decode(), size[1], size[0]) == (200, 200, 200, 255)).all()
