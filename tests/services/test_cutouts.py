"""Cut-outs against the truth: pictures that were once cut out wrongly, and others like them."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from services.images.engines import EngineError, EngineResult, EngineSettings, build_engines
from services.images.engines.background import Shadows, remove_background
from services.images.engines.cutout.network import OnnxFile, U2NetSmall
from services.images.engines.cutout.surface import fit_surface
from services.images.engines.decode import decode
from services.images.weights import weight
from tests.cutouts import art, grounds
from tests.cutouts.case import RIGHT, WRONG, Case
from tests.cutouts.handed import handed_cases
from tests.cutouts.sets import random_cases
from tests.services.art import Pixels, decode_png, encode
from tests.services.engine_support import refusal, run


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


@pytest.mark.parametrize("quality", [None, 80])
@pytest.mark.parametrize("points", [6, 8])
def test_a_care_label_keeps_its_dots(points: int, quality: int | None) -> None:
    """At 300 DPI: full stops, the dots of i and j, colons, accents."""
    lines = ["100% cotton. Wash at 30.", "Do not iron; do not bleach!", "Made in Turin: i, j, é, ü."]
    label = art.label(lines, points)
    case = Case("label", "flat", label, grounds.flat(label.shape[:2], (255, 255, 255)), quality)
    kept = decode_png(run("background_removal", case.file).data)[..., 3] >= 128
    count, parts = cv2.connectedComponents(case.truth.astype(np.uint8))
    share = np.bincount(parts[kept], minlength=count) / np.bincount(parts.ravel(), minlength=count)
    assert count > 60
    assert share[1:].min() > 0.6


def test_outlines_that_touch_a_ground_of_their_color_are_doubted_aloud() -> None:
    result, _ = cut("black-ground-figure")
    assert result.confidence is not None
    assert result.confidence < 0.5
    assert "hardly differs from the background" in result.warnings[0]
    assert "black outlines" in " ".join(result.warnings)


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


def test_a_photo_comes_back_as_a_draft_that_says_so() -> None:
    result = run("background_removal", encode(data.coffee(), "JPEG", quality=90))  # type: ignore[no-untyped-call]
    alpha = decode_png(result.data)[..., 3]
    assert result.details["method"] == "network"
    assert result.confidence is not None
    assert 0.3 < result.confidence < 0.9
    assert "a draft" in result.warnings[0]
    # The cup and its saucer, none of the table.
    assert (alpha[200, 300], alpha[20, 20], alpha[380, 560]) == (255, 0, 0)


def test_where_nothing_stands_out_a_photo_is_refused() -> None:
    grass = encode(data.grass(), "JPEG", quality=90)  # type: ignore[no-untyped-call]
    assert "nothing stands out of it" in refusal("background_removal", grass).message


def test_a_model_file_that_is_not_there_is_named() -> None:
    with pytest.raises(RuntimeError, match="BACKGROUND_MODEL"):
        build_engines(EngineSettings(background_model=Path("missing.onnx")))


def test_a_model_file_is_asked_as_the_network_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights by both ways: onnxruntime, an extra, is stood in for by its documented calls on OpenCV."""

    class Session:
        def __init__(self, path: str, providers: list[str]) -> None:
            assert providers == ["CPUExecutionProvider"]
            self._network = cv2.dnn.readNetFromONNX(path)

        def get_inputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="input.1", shape=["batch", 3, 320, 320])]

        def run(self, names: None, feed: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
            self._network.setInput(feed["input.1"])
            return [np.asarray(self._network.forward(), dtype=np.float32)]

    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    cat = np.ascontiguousarray(data.chelsea())  # type: ignore[no-untyped-call]
    saliency = OnnxFile(Path(weight("u2net/u2netp.onnx")))(cat)
    assert saliency.shape == (320, 320)
    assert np.allclose(saliency, U2NetSmall()(cat), atol=1e-4)


@pytest.mark.parametrize(("shadows", "least", "most"), [("removed", 0, 0), ("soft", 60, 130), ("kept", 250, 255)])
def test_a_shadow_is_removed_or_kept_as_it_is_asked(shadows: Shadows, least: int, most: int) -> None:
    case = handed_cases()["shadow-shape"]
    pixels = decode(case.file).pixels
    cut_out = remove_background(pixels, fit_surface(pixels, False), lossy=False, shadows=shadows).pixels
    # Beside the star, in the middle of its shadow; and far from it.
    assert least <= cut_out[230, 403, 3] <= most
    assert cut_out[230, 500, 3] == 0


def test_of_what_claims_to_be_sure_nearly_all_is_right() -> None:
    """Random art on random grounds that the confidence was not fitted to."""
    sure, right, taken = 0, 0, 0
    for case in random_cases(3, 60):
        if max(case.truth.shape) > 640 or case.truth.sum() < 20:
            continue
        try:
            result = run("background_removal", case.file)
        except EngineError:
            continue
        taken += 1
        if result.confidence is not None and result.confidence >= 0.9:
            sure += 1
            right += case.overlap(decode_png(result.data)[..., 3]) >= WRONG
    assert sure >= 0.3 * taken
    assert right >= 0.95 * sure


def test_work_is_bounded_by_the_picture_and_not_by_what_is_in_it() -> None:
    """A quarter of a million specks: nothing may go over them one by one, or over the picture once for each."""
    picture = np.full((1000, 1000, 3), 255, np.uint8)
    picture[50:950:2, 50:950:2] = 0
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        run("background_removal", encode(picture, "PNG"))
    finally:
        sys.setprofile(None)
    assert calls < 50_000
