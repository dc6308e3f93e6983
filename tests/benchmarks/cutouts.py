"""How good cut-outs are, against the truth, on drawings of others: tables, a reliability diagram, the worst to look at.

The rules stand in `tests/cutouts/case.py`; which drawings are held out, in `tests/cutouts/icons.py`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

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
from tests.services.art import decode_png
from tests.services.engine_support import offline_engines

SURE = 0.9
DRAWINGS = 22  # of each set
OF_TUNED, RANDOM = 2, 100
EVERY = 6  # of the held-out cases, for the network alone and for rembg's pipeline
SIMPLE = ("white", "color", "black", "subtle", "strong", "vignette", "paper")
WORST = 24
TILE = 180


@dataclass(frozen=True)
class Outcome:
    """What came of one case: its overlap with the truth (None: refused) and the confidence claimed."""

    group: str
    case: str
    kind: str
    is_unambiguous: bool
    overlap: float | None
    confidence: float
    tile: Bytes


def run(console: Console, progress: Progress, output: Path) -> None:
    """Judge the engine, print the tables, and write the pictures into `output`."""
    output.mkdir(exist_ok=True)
    outcomes: list[Outcome] = []
    for group, cases in _groups():
        for number, case in enumerate(cases):
            if number % 50 == 0:
                progress(f"cutouts: {group}, {number}")
            if case.truth.any():
                outcomes.append(_judge(group, case))
    console.print(_by_kind(outcomes))
    console.print(_promises(outcomes))
    console.print(_against_networks(progress))
    _reliability([outcome for outcome in outcomes if outcome.group == "held out"], output / "cutouts-reliability.png")
    for group in ("held out", "random", "photo"):
        of_group = [outcome for outcome in outcomes if outcome.group == group and outcome.overlap is not None]
        worst = sorted(of_group, key=lambda outcome: outcome.overlap or 0)[:WORST]
        _sheet(worst, output / f"cutouts-worst-{group.replace(' ', '-')}.png")
    console.print(f"Reliability and the worst cut-outs: {output}/cutouts-*.png", highlight=False)


def _groups() -> Iterator[tuple[str, Iterable[Case]]]:
    yield "handed", handed_cases().values()
    yield "held out", _on_grounds(HELD_OUT, DRAWINGS)
    yield "tuned", _on_grounds(TUNED, OF_TUNED)
    yield "random", random_cases(1, RANDOM)
    yield "photo", _on_photos()


def _on_grounds(names: Sequence[str], count: int) -> Iterator[Case]:
    for name in names:
        for icon, art in icons(name, count):
            yield from on_every_ground(icon, art, 1)


def _on_photos() -> Iterator[Case]:
    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), np.dstack([data.grass()] * 3)]  # type: ignore[no-untyped-call]
    for name in HELD_OUT:
        for number, (icon, art) in enumerate(icons(name, 10)):
            yield on_photo(icon, art, photos[number % len(photos)] / 255)


def _judge(group: str, case: Case) -> Outcome:
    try:
        result = run_operation(offline_engines()["background_removal"], case.file, {})
    except EngineError:
        empty = np.zeros((*case.truth.shape, 4), np.uint8)
        return Outcome(group, case.name, case.kind, case.is_unambiguous, None, 0, _tile(case, empty))
    cut_out = decode_png(result.data)
    overlap = case.overlap(cut_out[..., 3])
    confidence = result.confidence or 0
    return Outcome(group, case.name, case.kind, case.is_unambiguous, overlap, confidence, _tile(case, cut_out))


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


def _against_networks(progress: Progress) -> Table:
    """The same cases by the network alone, as rembg runs it, with its mask as it is and cut at one half."""
    network = U2NetSmall()

    def saliency(case: Case) -> Bytes:
        with Image.open(io.BytesIO(case.file)) as picture:
            colors = np.asarray(picture.convert("RGB"))
        answer = Image.fromarray((network(colors) * 255).astype(np.uint8))
        # What rembg's plain pipeline does: stretch the answer, and enlarge it by Lanczos into the alpha.
        return np.asarray(answer.resize((colors.shape[1], colors.shape[0]), Image.Resampling.LANCZOS))

    def engine(case: Case) -> Bytes:
        try:
            return decode_png(run_operation(offline_engines()["background_removal"], case.file, {}).data)[..., 3]
        except EngineError:
            return np.zeros(case.truth.shape, np.uint8)

    ways: dict[str, Callable[[Case], Bytes]] = {"ours": engine, "u2netp as rembg runs it": saliency}
    table = Table(
        title=f"Mean overlap, and share ≥ {RIGHT}: every {EVERY}th case, refusals as nothing", title_justify="left"
    )
    table.add_column("")
    for name in ways:
        table.add_column(name, justify="right")
    for what, cases in {
        "held out": [case for n, case in enumerate(_on_grounds(HELD_OUT, DRAWINGS)) if n % EVERY == 0],
        "drawings on photos": list(_on_photos()),
    }.items():
        progress(f"cutouts: networks, {what}")
        cells = []
        for way in ways.values():
            overlaps = np.array([case.overlap(way(case)) for case in cases])
            cells.append(f"{overlaps.mean():.3f}, {(overlaps >= RIGHT).mean():.0%}")
        table.add_row(what, *cells)
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


def _sheet(outcomes: Sequence[Outcome], path: Path) -> None:
    if not outcomes:
        return
    across = 4
    rows = -(-len(outcomes) // across)
    sheet = Image.new("RGB", (across * (2 * TILE + 6), rows * (TILE + 6)), "white")
    for number, outcome in enumerate(outcomes):
        sheet.paste(Image.fromarray(outcome.tile), (number % across * (2 * TILE + 6), number // across * (TILE + 6)))
    sheet.save(path)
