"""Background removal: artwork on a smooth ground by its colours, photos by a network, as drafts.

The ground is a surface fitted to the picture's border: a plain colour, a gradient, a vignette, paper. What is reached
from the border along it is ground; so are soft shadows on it and what holes show of it. Pixels along the edges are
mixtures of artwork and ground and are taken apart again, so that no fringe of the old background is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from services.images.engines.base import JSON, ConfiguredEngine, EngineError, EngineResult
from services.images.engines.cutout.holes import Enclosed, decide_holes
from services.images.engines.cutout.key import Holes, measure_distance, reached_from_border
from services.images.engines.cutout.matte import lay_shadow, unmix
from services.images.engines.cutout.network import Draft, draft, load
from services.images.engines.cutout.shade import find_shade
from services.images.engines.cutout.specks import find_specks
from services.images.engines.cutout.surface import Surface, border_of, fit_surface
from services.images.engines.cutout.trust import LEAST_CAST, Evidence, Place, confidence, gather
from services.images.engines.decode import Picture, Pixels, decode
from services.images.engines.encode import png_result
from services.images.engines.options import BackgroundRemovalOptions
from services.images.engines.settings import EngineSettings

Shadows: TypeAlias = Literal["removed", "soft", "kept"]
Box: TypeAlias = tuple[slice, slice]

# Share of the border that must lie on one smooth surface. Measured: artwork .75 to 1, most photos below .5.
MIN_BORDER_SHARE = 0.6
# A photo may have a smooth border, too, though never quite: below this share, and with so much spread (CIE76), the
# network is asked where the colours leave doubts.
_PHOTO_BORDER_SHARE, _PHOTO_SPREAD, _DOUBTS = 0.85, 0.5, 0.8
# A network's draft that is good for nothing: unsure, or nearly the whole picture.
_LEAST_DRAFT, _MOST_DRAFT_BORDER = 0.12, 0.4

# A picture of which at least so much can be seen through has had its background removed, unless what is opaque fills
# its own bounding box to this share of the border: then that box has a background.
_ALREADY_CUT_OUT_SHARE, _BOX_SHARE = 0.01, 0.9

# Below this, and from the others on, a person should look at it.
_SURE = 0.8
_WEAK_OUTLINE, _SOFT_OUTLINE, _UNDECIDED, _SHADED, _SWALLOWED = 0.02, 0.1, 0.02, 0.002, 0.03


@dataclass(frozen=True, slots=True)
class CutOut:
    """RGBA pixels with the background transparent, and what was found on the way."""

    pixels: Pixels
    surface: Surface
    tolerance: float
    holes: Enclosed
    evidence: Evidence
    removed_share: float
    confidence: float


class SurfaceKeyEngine(ConfiguredEngine):
    """Makes the smooth background of artwork transparent."""

    name = "surface_key"
    operation_type = "background_removal"
    options_model = BackgroundRemovalOptions

    def __init__(self, settings: EngineSettings) -> None:
        """Use the network of the settings for photos, or the small one that is installed.

        Raises RuntimeError when it is not there.
        """
        super().__init__(settings)
        self._network = load(settings.background_model)

    def run(self, source: bytes | None, options: BackgroundRemovalOptions) -> EngineResult:
        """Cut the artwork out; the result is a PNG with alpha at 300 DPI.

        Raises EngineError (permanent) when the picture has no background, or no smooth one and nothing that stands out.
        """
        picture = decode(source)
        box = _visible_box(picture)
        pixels = picture.pixels[box]
        colors = np.ascontiguousarray(pixels[..., :3])
        surface = fit_surface(colors, picture.lossy)
        cut_out: CutOut | None = None
        if surface.share >= MIN_BORDER_SHARE:
            cut_out = remove_background(
                pixels,
                surface,
                lossy=picture.lossy,
                tolerance=options.tolerance,
                holes=options.holes,
                shadows=options.shadows,
            )
        may_be_photo = surface.share < _PHOTO_BORDER_SHARE and surface.spread > _PHOTO_SPREAD
        unsure = cut_out is None or (may_be_photo and cut_out.confidence < _DOUBTS)
        photo = draft(colors, self._network) if unsure else None
        if photo is not None and (photo.confidence < _LEAST_DRAFT or photo.border > _MOST_DRAFT_BORDER):
            photo = None
        if photo is not None and (cut_out is None or photo.certainty > cut_out.confidence):
            return _draft_result(picture, photo, box)
        if cut_out is None:
            raise EngineError(
                f"The picture has no smooth background: only {surface.share:.0%} of its border is of one colour or "
                "gradient. It looks like a photo, and nothing stands out of it clearly enough to be cut out. Upload "
                "artwork on a plain background, a photo with its subject whole and clear of the edges, or crop away a "
                "frame; other photos need a background removal service."
            )
        return png_result(
            _placed(cut_out.pixels, picture, box),
            confidence=round(cut_out.confidence, 3),
            warnings=(*picture.warnings, *_warnings(cut_out, options.holes, options.shadows)),
            details=_details(cut_out),
        )


def remove_background(
    pixels: Pixels,
    surface: Surface,
    *,
    lossy: bool,
    tolerance: float | None = None,
    holes: Holes = "auto",
    shadows: Shadows = "removed",
) -> CutOut:
    """Make the background, which lies on `surface`, of RGB or RGBA pixels transparent.

    `tolerance` is a CIE76 colour distance, measured on the ground where it is None. Raises EngineError when nothing but
    background is there.
    """
    colors = np.ascontiguousarray(pixels[..., :3])
    distance = measure_distance(colors, surface, tolerance, lossy)
    outside = reached_from_border(distance.close)
    shade = find_shade(colors, surface, outside & distance.is_plain, lossy)
    if shade is not None:
        surface = surface.under(shade.light)
        distance = measure_distance(colors, surface, tolerance, lossy)
        outside = reached_from_border(distance.close | shade.mask | outside)
    outside |= find_specks(colors, surface, distance, outside, lossy)
    enclosed = decide_holes(colors, surface, distance, outside, holes, lossy)
    everywhere = outside | enclosed.opened
    if everywhere.all():
        raise EngineError(
            "The picture is nothing but background. Lower the tolerance or upload artwork that differs from "
            "its background."
        )
    cut_out = unmix(colors, everywhere, distance, surface)
    if pixels.shape[2] == 4:
        cut_out[..., 3] = np.minimum(cut_out[..., 3], pixels[..., 3])
    evidence = gather(
        cut_out,
        colors,
        surface,
        distance,
        reached=outside,
        enclosed=enclosed,
        shade=None if shade is None else shade.mask,
        lossy=lossy,
    )
    if shadows != "removed":
        lay_shadow(cut_out, colors, surface, shadows == "kept")
    return CutOut(
        cut_out, surface, distance.tolerance, enclosed, evidence, float(everywhere.mean()), confidence(evidence)
    )


def _visible_box(picture: Picture) -> Box:
    """Rows and columns of what can be seen, which is the whole of an opaque picture.

    Raises EngineError when the background was removed before: a box of artwork and ground in a transparent margin is no
    cut-out, while artwork alone leaves gaps along its bounding box.
    """
    height, width = picture.pixels.shape[:2]
    whole = (slice(0, height), slice(0, width))
    if not picture.has_alpha:
        return whole
    opaque = picture.pixels[..., 3] >= 128
    if float(opaque.mean()) > 1 - _ALREADY_CUT_OUT_SHARE:
        return whole
    rows, columns = np.flatnonzero(opaque.any(axis=1)), np.flatnonzero(opaque.any(axis=0))
    if rows.size:
        box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        if border_of(opaque[box]).mean() >= _BOX_SHARE:
            return box
    raise EngineError(
        "The picture already has a transparent background, so there is nothing to remove. Use it as it is, or upload "
        "the version that still has its background."
    )


def _placed(cut_out: Pixels, picture: Picture, box: Box) -> Pixels:
    """A cut-out of a part of the picture, on a transparent canvas of the picture's size."""
    height, width = picture.pixels.shape[:2]
    if cut_out.shape[:2] == (height, width):
        return cut_out
    canvas = np.zeros((height, width, 4), np.uint8)
    canvas[box] = cut_out
    return canvas


def _warnings(cut_out: CutOut, holes: Holes, shadows: Shadows) -> tuple[str, ...]:
    evidence, enclosed = cut_out.evidence, cut_out.holes
    words: list[str] = []
    if evidence.weak > _WEAK_OUTLINE:
        words.append(
            f"Look at the outline: {max(evidence.weak, 0.01):.0%} of it hardly differs from the background beside it "
            f"({_named(evidence.weak_places)}), so parts of the artwork may be missing or parts of the background "
            "left."
        )
    if evidence.swallowed > _SWALLOWED:
        words.append(
            "Look for pale parts: areas that hardly differ from the background went with it, and may have been artwork "
            f"({_named(evidence.swallowed_places)})."
        )
    if evidence.is_black:
        words.append(
            "The background is black: look whether the artwork had black outlines or parts at its edge, which cannot "
            "be told from it."
        )
    if evidence.soft > _SOFT_OUTLINE:
        words.append(
            f"Look for a halo: {evidence.soft:.0%} of the outline has no edge in the picture, so part of a shadow or "
            "glow may have been kept."
        )
    if enclosed.kept_count:
        more = "" if enclosed.kept_count <= len(enclosed.kept) else " and more"
        words.append(
            f"{enclosed.kept_count} enclosed areas of the background colour were kept ({_named(enclosed.kept)}{more}); "
            'choose holes "remove" to make them transparent.'
        )
    if holes == "auto" and enclosed.undecided_opened > _UNDECIDED * cut_out.pixels[..., 3].size * (
        1 - cut_out.removed_share
    ):
        words.append(
            f"{enclosed.opened_count} enclosed areas of the background colour were made transparent; "
            'choose holes "keep" if they are fillings.'
        )
    if evidence.shaded > _SHADED and shadows == "removed":
        words.append(
            'A soft shadow was removed from the background; choose shadows "soft" to keep it.'
            if evidence.cast >= LEAST_CAST
            else "What looks like a soft shadow was removed from the background, but it has another shape than the "
            "artwork: look whether grey parts are missing."
        )
    if not words and cut_out.confidence < _SURE:
        words.append(
            "Look at the cut-out before it is printed: no single part stands out, but pictures like this one were cut "
            "out wrongly more often than others."
        )
    return tuple(words)


def _named(places: tuple[Place, ...]) -> str:
    return ", ".join(f"{width} x {height} px at {x}, {y}" for x, y, width, height in places)


def _draft_result(picture: Picture, photo: Draft, box: Box) -> EngineResult:
    pixels = photo.pixels
    if picture.has_alpha:
        pixels[..., 3] = np.minimum(pixels[..., 3], picture.pixels[box][..., 3])
    return png_result(
        _placed(pixels, picture, box),
        confidence=round(photo.confidence, 3),
        warnings=(
            *picture.warnings,
            "The picture looks like a photo. What stands out of it was cut out as a draft: look at the outline before "
            "it is printed.",
        ),
        details={
            "method": "network",
            "background": None,
            "removed_share": round(1 - photo.share, 4),
            "agreement": round(photo.agreement, 4),
            "vague_share": round(photo.vague, 4),
        },
    )


def _details(cut_out: CutOut) -> dict[str, JSON]:
    first = cut_out.surface.rgb[0, 0] if cut_out.surface.is_flat else np.median(cut_out.surface.rgb, axis=(0, 1))
    evidence = cut_out.evidence
    return {
        "method": "surface",
        "background": "#{:02x}{:02x}{:02x}".format(*(int(value) for value in np.rint(first))),
        "even": cut_out.surface.is_flat,
        "tolerance": round(cut_out.tolerance, 2),
        "kept_holes": cut_out.holes.kept_count,
        "removed_share": round(cut_out.removed_share, 4),
        "weak_outline": round(evidence.weak, 4),
        "undecided_share": round(evidence.guessed_open + evidence.guessed_kept, 4),
        "shadow_share": round(evidence.shaded, 4),
    }
