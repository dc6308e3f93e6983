"""`python -m tests.cutouts.calibrate`: fits the confidence of cut-outs, and tries it on sets it was not fitted to.

Logistic regression of "overlap at least .95" on the doubts of `trust.doubts`, none of which may raise a confidence. It
takes the sets of icons that `make bench` installs, and some minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from services.images.engines import EngineError
from services.images.engines.background import MIN_BORDER_SHARE, remove_background
from services.images.engines.cutout.surface import fit_surface
from services.images.engines.cutout.trust import doubts
from services.images.engines.decode import decode
from tests.cutouts.case import RIGHT, WRONG, Case
from tests.cutouts.icons import TUNED, icons
from tests.cutouts.sets import on_every_ground, random_cases

DRAWINGS, RANDOM, RANDOM_WEIGHT = 12, 110, 0.5
# A doubt that hardly occurs here keeps this weight; and how strongly.
USUAL, PENALTY = 0.3, 2.0
SURE = 0.9
Doubles = NDArray[np.float64]


def main() -> None:
    """Fit, check, print."""
    groups, rows, overlaps, plain = [], [], [], []
    for group, case in _cases():
        picture = decode(case.file)
        surface = fit_surface(picture.pixels, picture.lossy)
        if surface.share < MIN_BORDER_SHARE:
            continue
        try:
            cut_out = remove_background(picture.pixels, surface, lossy=picture.lossy)
        except EngineError:
            continue
        groups.append(group)
        rows.append(doubts(cut_out.evidence))
        overlaps.append(case.overlap(cut_out.pixels[..., 3]))
        plain.append(case.is_unambiguous)
    names = list(rows[0])
    seen = np.array([[row[name] for name in names] for row in rows])
    overlap, of = np.array(overlaps), np.array(groups)
    weight = np.where(of == "random", RANDOM_WEIGHT, 1.0)
    claimed = np.empty(len(rows))
    for name in dict.fromkeys(groups):
        out = of == name
        claimed[out] = _claims(_fit(seen[~out], overlap[~out] >= WRONG, weight[~out]), seen[out])
    factors = _fit(seen, overlap >= WRONG, weight)
    for what, claims in {"sets that were left out": claimed, "the fit itself": _claims(factors, seen)}.items():
        sure, right = claims >= SURE, np.array(plain) & (overlap >= RIGHT)
        print(
            f"{what}: of {sure.sum()} that claim {SURE}, {(overlap[sure] >= WRONG).mean():.1%} have {WRONG}; "
            f"of the right ones {sure[right].mean():.0%} claim it"
        )
    print({"intercept": round(float(factors[0]), 2)} | dict(zip(names, factors[1:].round(2).tolist(), strict=True)))


def _cases() -> Iterator[tuple[str, Case]]:
    for name in TUNED:
        for icon, art in icons(name, DRAWINGS):
            yield from ((name, case) for case in on_every_ground(icon, art, 1))
    for seed in (11, 12):
        yield from (("random", case) for case in random_cases(seed, RANDOM) if case.truth.sum() >= 20)


def _fit(seen: Doubles, is_right: NDArray[np.bool_], weight: Doubles) -> Doubles:
    """Intercept and weights, the latter not negative."""

    def loss(factors: Doubles) -> tuple[float, Doubles]:
        odds = factors[0] - seen @ factors[1:]
        error = weight * (1 / (1 + np.exp(-odds)) - is_right)
        value = (weight * (np.logaddexp(0, odds) - is_right * odds)).sum() + PENALTY * (
            (factors[1:] - USUAL) ** 2
        ).sum()
        return float(value), np.r_[error.sum(), -(seen.T @ error) + 2 * PENALTY * (factors[1:] - USUAL)]

    count = seen.shape[1]
    start, bounds = np.r_[3, np.full(count, 0.2)], [(None, None)] + [(0, None)] * count
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)


def _claims(factors: Doubles, seen: Doubles) -> Doubles:
    return np.asarray(1 / (1 + np.exp(seen @ factors[1:] - factors[0])))


if __name__ == "__main__":
    main()
