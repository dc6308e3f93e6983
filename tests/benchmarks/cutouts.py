"""How good cut-outs are, against the truth, on drawings of others: tables, a reliability diagram, the worst to look at.

The rules stand in `tests/cutouts/case.py`; which drawings are held out, in `tests/cutouts/icons.py`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import cv2
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage import data

from services.images.engines import EngineError, run_operation
from services.images.engines.cutout.network import U2NetSmall
from tests.benchmarks.measure import Progress
from tests.cutouts.case import RIGHT, WRONG, Bytes, Case
from tests.cutouts.handed import handed_cases
from tests.cutouts.icons import HELD_OUT, TUNED, icons
from tests.cutouts.sets import on_every_ground, on_photo, random_cases
from tests.services.art import decode_png, encode
from tests.services.engine_support import offline_engines, over

SURE = 0.9
DRAWINGS = 22  # of each set
OF_TUNED, RANDOM = 1, 60
EVERY = 11  # of the held-out cases, for the network alone and for rembg's pipeline
SIMPLE = ("white", "color", "black", "subtle", "strong", "vignette", "paper")
WORST = 24
TILE = 180


@dataclass(frozen=True)
class Outcome:
    """What came of one case: its overlap with the truth (None: refused) and the confidence claimed.

    `ways` says for each way of cutting out that was tried its overlap and the mean error of its alpha (0..1), with
    refusals as nothing. `tile` is there where there is something to see.
    """

    group: str
    case: str
    kind: str
    is_unambiguous: bool
    overlap: float | None
    confidence: float
    tile: Bytes | None
    ways: dict[str, tuple[float, float]]


def run(console: Console, progress: Progress, output: Path) -> None:
    """Judge the engine, print the tables, and write the pictures into `output`."""
    output.mkdir(exist_ok=True)
    outcomes: list[Outcome] = []
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        for group in GROUPS:
            progress(f"cutouts: {group}")
            parts = list(pool.map(_judged, [group] * workers, range(workers), [workers] * workers))
            outcomes += [outcome for part in parts for outcome in part]
    console.print(_by_kind(outcomes))
    console.print(_promises(outcomes))
    console.print(_against_networks(outcomes))
    _reliability([outcome for outcome in outcomes if outcome.group == "held out"], output / "cutouts-reliability.png")
    for group in ("held out", "random", "photo"):
        of_group = [outcome for outcome in outcomes if outcome.group == group and outcome.overlap is not None]
        worst = sorted(of_group, key=lambda outcome: outcome.overlap or 0)[:WORST]
        _sheet([o.tile for o in worst if o.tile is not None], output / f"cutouts-worst-{group.replace(' ', '-')}.png")
    _sheet([_photo_tile(photo) for photo in _photos()], output / "cutouts-photos.png")
    console.print(f"Reliability, the worst cut-outs, and photos: {output}/cutouts-*.png", highlight=False)


def _judged(group: str, part: int, parts: int) -> list[Outcome]:
    """Every case of a group whose number leaves `part` when divided by `parts`."""
    outcomes = []
    for number, case in enumerate(GROUPS[group]()):
        if number % parts == part and case.truth.any():
            outcomes.append(_judge(group, case, group == "photo" or (group == "held out" and number % EVERY == 0)))
    return outcomes


def _on_grounds(names: Sequence[str], count: int) -> Iterator[Case]:
    for name in names:
        for icon, art in icons(name, count):
            yield from on_every_ground(icon, art, 1)


def _photos() -> list[Bytes]:
    grass = np.dstack([data.grass()] * 3)  # type: ignore[no-untyped-call]
    return [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), grass]  # type: ignore[no-untyped-call]


def _on_photos() -> Iterator[Case]:
    photos = _photos()
    for name in HELD_OUT:
        for number, (icon, art) in enumerate(icons(name, 10)):
            yield on_photo(icon, art, photos[number % len(photos)] / 255)


GROUPS: dict[str, Callable[[], Iterable[Case]]] = {
    "handed": lambda: handed_cases().values(),
    "held out": lambda: _on_grounds(HELD_OUT, DRAWINGS),
    "tuned": lambda: _on_grounds(TUNED, OF_TUNED),
    "random": lambda: random_cases(1, RANDOM),
    "photo": _on_photos,
}


def _judge(group: str, case: Case, with_network: bool) -> Outcome:
    overlap: float | None = None
    confidence = 0.0
    try:
        result = run_operation(offline_engines()["background_removal"], case.file, {})
        cut_out = decode_png(result.data)
        overlap, confidence = case.overlap(cut_out[..., 3]), result.confidence or 0
    except EngineError:
        cut_out = np.zeros((*case.truth.shape, 4), np.uint8)
    ways = {"ours": cut_out[..., 3]} if with_network else {}
    if with_network:
        saliency = _as_rembg(np.asarray(Image.open(io.BytesIO(case.file)).convert("RGB")))
        ways |= {"u2netp alone, at one half": (saliency >= 128) * np.uint8(255), "rembg with u2netp": saliency}
    return Outcome(
        group,
        case.name,
        case.kind,
        case.is_unambiguous,
        overlap,
        confidence,
        None if overlap is not None and overlap >= RIGHT else _tile(case, cut_out),
        {way: (case.overlap(a), float(np.abs(a / 255 - case.art[..., 3]).mean())) for way, a in ways.items()},
    )


@lru_cache(maxsize=1)
def _network() -> U2NetSmall:
    return U2NetSmall()


def _as_rembg(colors: Bytes) -> Bytes:
    """Alpha as rembg's plain pipeline makes it: reduced by Lanczos, stretched to 0..1, enlarged by Lanczos."""
    small = Image.fromarray(colors).resize((320, 320), Image.Resampling.LANCZOS)
    answer = Image.fromarray((_network()(np.asarray(small)) * 255).astype(np.uint8))
    return np.asarray(answer.resize((colors.shape[1], colors.shape[0]), Image.Resampling.LANCZOS))


def _photo_tile(photo: Bytes) -> Bytes:
    """A photo, what we make of it, and what rembg makes of it, over magenta."""
    file = encode(photo, "JPEG", quality=90)
    try:
        ours = decode_png(run_operation(offline_engines()["background_removal"], file, {}).data)
    except EngineError:
        ours = np.zeros((*photo.shape[:2], 4), np.uint8)
    theirs = np.dstack([photo, _as_rembg(photo)])
    shown = [photo, *(over(cut_out, (255, 0, 255)).astype(np.uint8) for cut_out in (ours, theirs))]
    return np.hstack([np.asarray(Image.fromarray(picture).resize((TILE, TILE))) for picture in shown])


def _tile(case: Case, cut_out: Bytes) -> Bytes:
    """The picture, and beside it what was found: right grey, missing red, left over green."""
    found, truth = cut_out[..., 3] >= 128, case.truth
    marks = np.zeros((*truth.shape, 3), np.uint8)
    marks[truth & found], marks[truth & ~found], marks[found & ~truth] = (120, 120, 120), (255, 0, 0), (0, 255, 0)
    with Image.open(io.BytesIO(case.file)) as picture:
        both = [picture.convert("RGB"), Image.fromarray(marks)]
    return np.hstack([np.asarray(image.resize((TILE, TILE))) for image in both])


def _share(some: Sequence[object], of: Sequence[object]) -> str:
    return f"{len(some) / len(of):.0%} ({len(some)}/{len(of)})" if of else "–"


def _by_kind(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="Cut-outs of unambiguous art, by ground", title_justify="left")
    for heading in ("", "refused", f"overlap ≥ {RIGHT}", f"accepted, < {WRONG}", f"right ones that claim ≥ {SURE}"):
        table.add_column(heading, justify="right")
    key = lambda outcome: (outcome.group, outcome.kind)  # noqa: E731
    for (group, kind), members in groupby(sorted(outcomes, key=key), key):
        plain = [outcome for outcome in members if outcome.is_unambiguous]
        table.add_row(f"{group}, {kind}", *_figures(plain))
    simple = [o for o in outcomes if o.group == "held out" and o.kind in SIMPLE and o.is_unambiguous]
    table.add_section()
    table.add_row("held out, flat, graded, vignetted, paper", *_figures(simple))
    table.add_row("held out, all", *_figures([o for o in outcomes if o.group == "held out" and o.is_unambiguous]))
    return table


def _figures(of: Sequence[Outcome]) -> tuple[str, str, str, str]:
    taken = [outcome for outcome in of if outcome.overlap is not None]
    right = [outcome for outcome in taken if (outcome.overlap or 0) >= RIGHT]
    return (
        _share([outcome for outcome in of if outcome.overlap is None], of),
        _share(right, of),
        _share([outcome for outcome in taken if (outcome.overlap or 0) < WRONG], of),
        _share([outcome for outcome in right if outcome.confidence >= SURE], right),
    )


def _promises(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="What the confidence is worth, ambiguous art and all", title_justify="left")
    for heading in (
        "",
        f"of those that claim ≥ {SURE}, overlap ≥ {WRONG}",
        f"wrong and ≥ {SURE} sure",
        "wrong and ≥ .5 sure",
    ):
        table.add_column(heading, justify="right")
    for group in dict.fromkeys(outcome.group for outcome in outcomes):
        of = [outcome for outcome in outcomes if outcome.group == group]
        sure = [outcome for outcome in of if outcome.overlap is not None and outcome.confidence >= SURE]
        wrong = [outcome for outcome in of if outcome.overlap is not None and outcome.overlap < WRONG]
        table.add_row(
            group,
            _share([outcome for outcome in sure if (outcome.overlap or 0) >= WRONG], sure),
            _share([outcome for outcome in wrong if outcome.confidence >= SURE], of),
            _share([outcome for outcome in wrong if outcome.confidence >= 0.5], of),
        )
    return table


def _against_networks(outcomes: Sequence[Outcome]) -> Table:
    """The same cases by the network alone, as rembg runs it, with its mask as it is and cut at one half."""
    table = Table(
        title=f"Mean overlap, share ≥ {RIGHT}, mean error of alpha; of the held-out cases every {EVERY}th",
        title_justify="left",
    )
    names = list(dict.fromkeys(way for outcome in outcomes for way in outcome.ways))
    for heading in ("", *names):
        table.add_column(heading, justify="right")
    for group in ("held out", "photo"):
        cells = []
        for name in names:
            seen = np.array([outcome.ways[name] for outcome in outcomes if outcome.group == group and outcome.ways])
            cells.append(f"{seen[:, 0].mean():.3f}, {(seen[:, 0] >= RIGHT).mean():.0%}, {seen[:, 1].mean():.3f}")
        table.add_row({"held out": "drawings on smooth grounds", "photo": "drawings on photos"}[group], *cells)
    return table


def _reliability(outcomes: Sequence[Outcome], path: Path) -> None:
    """How often what claims a confidence is not wrong, in tenths."""
    mpl.use("agg")
    taken = [outcome for outcome in outcomes if outcome.overlap is not None]
    claimed = np.array([outcome.confidence for outcome in taken])
    good = np.array([(outcome.overlap or 0) >= WRONG for outcome in taken])
    canvas, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for low in np.arange(0, 1, 0.1):
        inside = (claimed >= low) & (claimed < low + 0.1)
        if inside.any():
            axes.scatter(claimed[inside].mean(), good[inside].mean(), s=20 + inside.sum(), color="#2f7d4f")
            axes.annotate(str(int(inside.sum())), (float(claimed[inside].mean()), float(good[inside].mean())))
    axes.set(
        xlabel="confidence claimed", ylabel=f"share with an overlap of at least {WRONG}", xlim=(0, 1), ylim=(0, 1.05)
    )
    canvas.savefig(path, dpi=110)
    plt.close(canvas)


def _sheet(tiles: Sequence[Bytes], path: Path) -> None:
    if not tiles:
        return
    across = 4 if len(tiles) > 8 else 1
    wide, rows = tiles[0].shape[1] + 6, -(-len(tiles) // across)
    sheet = Image.new("RGB", (across * wide, rows * (TILE + 6)), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(Image.fromarray(tile), (number % across * wide, number // across * (TILE + 6)))
    sheet.save(path)
