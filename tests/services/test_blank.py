"""Nothing is sold of which nothing can be seen: not made of an empty picture, and not made by any engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from services.images.engines import EngineError, EngineResult, ProviderCall, run_operation
from services.images.engines.decode import Pixels
from services.images.engines.encode import png_result
from tests.services.art import encode
from tests.services.engine_support import offline_engines, refusal, run
from tests.services.hostile_files import SIZED

REQUIRED: dict[str, dict[str, Any]] = {"generate": {"prompt": "Nothing"}, "print_ready": {"size": 2}}
ON_PICTURES = ["upscale", "background_removal", "vectorize", "print_ready"]


def clear(height: int = 40, width: int = 60, alpha: int = 0) -> Pixels:
    """Navy pixels of which little or nothing is to be seen."""
    return np.full((height, width, 4), (27, 45, 72, alpha), np.uint8)


BLANK: dict[str, tuple[Callable[[], bytes], str]] = {
    "a transparent PNG": (lambda: encode(clear(), "PNG"), "wholly transparent"),
    "a transparent WebP": (lambda: encode(clear(), "WEBP", lossless=True), "wholly transparent"),
    "what an eraser left": (lambda: encode(clear(alpha=3), "PNG"), "wholly transparent"),
    "an empty SVG": (lambda: (SIZED + "</svg>").encode(), "The SVG draws nothing"),
    "a web page in an SVG": (
        lambda: (
            SIZED + '<foreignObject width="90" height="90"><p xmlns="http://www.w3.org/1999/xhtml">Hi</p>'
            "</foreignObject></svg>"
        ).encode(),
        "foreignObject",
    ),
}


@pytest.mark.parametrize("operation_type", ON_PICTURES)
@pytest.mark.parametrize(("make", "reason"), BLANK.values(), ids=BLANK)
def test_an_empty_picture_is_refused(operation_type: str, make: Callable[[], bytes], reason: str) -> None:
    assert reason in refusal(operation_type, make(), **REQUIRED.get(operation_type, {})).message


class Painter:
    """An engine of any kind that returns what it was given, after a call to a provider."""

    name = "painter"

    def __init__(self, operation_type: str, pixels: Pixels) -> None:
        self.operation_type = operation_type
        self.options_model: type[BaseModel] = offline_engines()[operation_type].options_model
        self._pixels = pixels

    def run(self, source: bytes | None, options: Any) -> EngineResult:
        return png_result(self._pixels, confidence=1.0, calls=(ProviderCall("painter", model="brush-1"),))


@pytest.mark.parametrize("operation_type", offline_engines())
@pytest.mark.parametrize("pixels", [clear(), clear(3000, 2000), clear(alpha=3)], ids=["small", "large", "faint"])
def test_a_blank_result_is_refused_whichever_engine_made_it(operation_type: str, pixels: Pixels) -> None:
    with pytest.raises(EngineError, match="Nothing can be seen of the result") as caught:
        run_operation(Painter(operation_type, pixels), b"", REQUIRED.get(operation_type, {}))
    assert not caught.value.retryable
    # It was paid for, and counts among the failures of which an account has so many a day.
    (call,) = caught.value.calls
    assert (call.model, call.error_message) == ("brush-1", "nothing can be seen of the result")


def test_a_cut_out_that_leaves_nothing_is_refused() -> None:
    # The only part that is not background is transparent.
    picture = np.full((100, 100, 4), 255, np.uint8)
    picture[40:49, 40:49] = (27, 45, 72, 0)
    assert "Nothing can be seen of the result" in refusal("background_removal", encode(picture, "PNG")).message


def test_fine_lines_on_a_large_sheet_are_something() -> None:
    sheet = clear(6600, 6600)
    sheet[3000, 1000:5000, 3] = 255
    assert run_operation(Painter("upscale", sheet), b"", {}).width == 6600


def test_a_plain_white_picture_is_something() -> None:
    # On a garment it is a white box.
    assert run("upscale", encode(np.full((20, 20, 3), 255, np.uint8), "PNG"), scale=2).width == 40
