"""Cut-outs against the truth: pictures that were once cut out wrongly, and others like them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from services.images.engines import EngineResult
from tests.cutouts.case import RIGHT
from tests.cutouts.handed import handed_cases
from tests.services.art import Pixels, decode_png
from tests.services.engine_support import run


@lru_cache(maxsize=32)
def cut(name: str) -> tuple[EngineResult, Pixels]:
    result = run("background_removal", handed_cases()[name].file)
    return result, decode_png(result.data)


@pytest.mark.parametrize("name", [name for name in handed_cases() if name != "black-ground-figure"])
def test_what_was_cut_out_wrongly_is_right(name: str) -> None:
    _, cut_out = cut(name)
    assert handed_cases()[name].overlap(cut_out[..., 3]) >= RIGHT


@pytest.mark.parametrize("name", ["halftone-25lpi", "halftone-35lpi", "halftone-45lpi"])
def test_a_halftone_keeps_its_ink(name: str) -> None:
    _, cut_out = cut(name)
    assert cut_out[..., 3].sum() / 255 == pytest.approx(handed_cases()[name].art[..., 3].sum(), rel=0.02)


def test_outlines_that_touch_a_ground_of_their_color_are_doubted_aloud() -> None:
    result, _ = cut("black-ground-figure")
    assert result.confidence is not None
    assert result.confidence < 0.5
    assert "hardly differs from the background" in result.warnings[0]


def test_each_enclosed_area_that_stays_is_named_with_its_place() -> None:
    result, _ = cut("white-inside-badge")
    assert "300 x 223 px at 106, 107, 192 x 36 px at 160, 370" in result.warnings[0]


@pytest.mark.parametrize("name", ["shadow-shape", "shadow-figure"])
def test_of_a_shadow_no_opaque_grey_is_left(name: str) -> None:
    result, cut_out = cut(name)
    beyond = handed_cases()[name].art[..., 3] == 0
    assert (cut_out[..., 3][beyond] > 128).mean() < 0.001
    assert np.median(cut_out[..., 3][beyond]) == 0
    assert "shadow was removed" in result.warnings[0]
