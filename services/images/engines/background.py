"""Background removal for artwork on a smooth ground, without a model.

The ground is a surface fitted to the picture's border: a plain colour, a gradient, a vignette, paper. What is reached
from the border along it is ground; so are soft shadows on it and what holes show of it. Pixels along the edges are
mixtures of artwork and ground and are taken apart again, so that no fringe of the old background is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from services.images.engines.base import JSON, EngineError, EngineResult
from services.images.engines.cutout.holes import Enclosed, decide_holes
from services.images.engines.cutout.key import Holes, measure_distance, reached_from_border
from services.images.engines.cutout.matte import lay_shadow, unmix
from services.images.engines.cutout.shade import find_shade
from services.images.engines.cutout.specks import find_specks
from services.images.engines.cutout.surface import Surface, fit_surface
from services.images.engines.cutout.trust import Evidence, confidence, gather
from services.images.engines.decode import Picture, Pixels, decode
from services.images.engines.encode import png_result
from services.images.engines.options import BackgroundRemovalOptions

Shadows: TypeAlias = Literal["removed", "soft", "kept"]

# Share of the border that must lie on one smooth surface. Measured: artwork .75 to 1, photos below .5.
MIN_BORDER_SHARE = 0.6

# A picture with at least this share of see-through pixels has had its background removed already.
_ALREADY_CUT_OUT_SHARE = 0.01

# From here on, a person should look at it.
_WEAK_OUTLINE, _UNDECIDED, _SHADED = 0.02, 0.02, 0.002


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


class SurfaceKeyEngine:
    """Makes the smooth background of artwork transparent."""

    name = "surface_key"
    operation_type = "background_removal"
    options_model = BackgroundRemovalOptions

    def run(self, source: bytes | None, options: BackgroundRemovalOptions) -> EngineResult:
        """Cut the artwork out; the result is a PNG with alpha at 300 DPI.

        Raises EngineError (permanent) when the picture has no smooth background.
        """
        picture = decode(source)
        if _is_cut_out(picture):
            return png_result(
                picture.pixels,
                confidence=1.0,
                warnings=(
                    *picture.warnings,
                    "The picture has a transparent background already; it was kept as it is.",
                ),
                details={"background": None},
            )
        cut_out = remove_background(
            picture.pixels, lossy=picture.lossy, tolerance=options.tolerance, holes=options.holes
        )
        return png_result(
            cut_out.pixels,
            confidence=round(cut_out.confidence, 3),
            warnings=(*picture.warnings, *_warnings(cut_out, options.holes)),
            details=_details(cut_out),
        )


def remove_background(
    pixels: Pixels,
    *,
    lossy: bool,
    tolerance: float | None = None,
    holes: Holes = "auto",
    shadows: Shadows = "removed",
) -> CutOut:
    """Make the background of RGB or RGBA pixels transparent.

    `tolerance` is a CIE76 colour distance, measured on the ground where it is None. Raises EngineError when the border
    does not lie on a smooth surface or when nothing but background is there.
    """
    colors = np.ascontiguousarray(pixels[..., :3])
    surface = fit_surface(colors, lossy)
    if surface.share < MIN_BORDER_SHARE:
        raise EngineError(
            f"The picture has no smooth background: only {surface.share:.0%} of its border is of one colour or "
            "gradient, so it looks like a photo. Upload artwork on a plain background or crop away a frame; "
            "photos need a background removal service."
        )
    distance = measure_distance(colors, surface, tolerance, lossy)
    outside = reached_from_border(distance.close)
    shade = find_shade(colors, surface, outside, lossy)
    if shade is not None:
        surface = surface.under(shade.light)
        distance = measure_distance(colors, surface, tolerance, lossy)
        outside = reached_from_border(distance.close | shade.mask | outside)
    outside |= find_specks(colors, surface, distance, outside, lossy)
    enclosed = decide_holes(colors, surface, distance, outside, holes, lossy)
    outside |= enclosed.opened
    if outside.all():
        raise EngineError(
            "The picture is nothing but background. Lower the tolerance or upload artwork that differs from "
            "its background."
        )
    cut_out = unmix(colors, outside, distance, surface)
    if pixels.shape[2] == 4:
        cut_out[..., 3] = np.minimum(cut_out[..., 3], pixels[..., 3])
    evidence = gather(
        cut_out,
        surface,
        tolerance=distance.tolerance,
        undecided=enclosed.undecided,
        shade=None if shade is None else shade.mask,
        lossy=lossy,
    )
    if shadows != "removed":
        lay_shadow(cut_out, colors, surface, shadows == "kept")
    return CutOut(cut_out, surface, distance.tolerance, enclosed, evidence, float(outside.mean()), confidence(evidence))


def _is_cut_out(picture: Picture) -> bool:
    return picture.has_alpha and float((picture.pixels[..., 3] < 128).mean()) >= _ALREADY_CUT_OUT_SHARE


def _warnings(cut_out: CutOut, holes: Holes) -> tuple[str, ...]:
    evidence, enclosed = cut_out.evidence, cut_out.holes
    words: list[str] = []
    if evidence.weak > _WEAK_OUTLINE:
        words.append(
            f"Look at the outline: {max(evidence.weak, 0.01):.0%} of it hardly differs from the background beside it, "
            "so parts of the artwork may be missing, or parts of the background left."
        )
    if enclosed.kept_count:
        places = ", ".join(f"{w} x {h} px at {x}, {y}" for x, y, w, h in enclosed.kept)
        more = "" if enclosed.kept_count <= len(enclosed.kept) else " and more"
        words.append(
            f"{enclosed.kept_count} enclosed areas of the background colour were kept ({places}{more}); "
            'choose holes "remove" to make them transparent.'
        )
    if holes == "auto" and enclosed.undecided_opened > _UNDECIDED * cut_out.pixels[..., 3].size * (
        1 - cut_out.removed_share
    ):
        words.append(
            f"{enclosed.opened_count} enclosed areas of the background colour were made transparent; "
            'choose holes "keep" if they are fillings.'
        )
    if evidence.shaded > _SHADED:
        words.append("A soft shadow was removed from the background. Look whether it was one.")
    return tuple(words)


def _details(cut_out: CutOut) -> dict[str, JSON]:
    first = cut_out.surface.rgb[0, 0] if cut_out.surface.is_flat else np.median(cut_out.surface.rgb, axis=(0, 1))
    evidence = cut_out.evidence
    return {
        "background": "#{:02x}{:02x}{:02x}".format(*(int(value) for value in np.rint(first))),
        "even": cut_out.surface.is_flat,
        "tolerance": round(cut_out.tolerance, 2),
        "kept_holes": cut_out.holes.kept_count,
        "removed_share": round(cut_out.removed_share, 4),
        "weak_outline": round(evidence.weak, 4),
        "undecided_share": round(evidence.undecided, 4),
        "shadow_share": round(evidence.shaded, 4),
    }
