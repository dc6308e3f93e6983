"""What the figures look like: a table for the terminal, a plot and the raw values for `bench-output/`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from statistics import median

import matplotlib as mpl
import matplotlib.pyplot as plt
from rich.table import Table

from tests.benchmarks.measure import Figure

REACHED, MISSED = "#2f7d4f", "#b3362c"


def table(figures: Sequence[Figure]) -> Table:
    """One line a figure: medians, and between what half of the ratios lie."""
    result = Table(title="Medians over the rounds. The ratio is ours / theirs within a round.", title_justify="left")
    result.add_column("", no_wrap=True)
    result.add_column("ours", justify="right", no_wrap=True)
    result.add_column("theirs", no_wrap=True)
    for heading in ("ratio", "half of them", "goal"):
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("", no_wrap=True)
    for section, members in groupby(figures, lambda figure: figure.section):
        result.add_section()
        result.add_row(f"[bold]{section}")
        for figure in members:
            low, high = figure.middle_half
            result.add_row(
                f"  {figure.what}",
                _value(median(figure.ours), figure.unit),
                f"{_value(median(figure.theirs), figure.unit)}  {figure.against}",
                f"{figure.ratio:.2f}",
                f"{low:.2f}–{high:.2f}",
                _goal(figure),
                {True: "[green]reached", False: "[red]missed", None: ""}[figure.reached],
            )
    return result


def save(figures: Sequence[Figure], directory: Path) -> Path:
    """Write figures.json and, where a figure has a goal, figures.png; returns the plot's path."""
    directory.mkdir(exist_ok=True)
    (directory / "figures.json").write_text(json.dumps([asdict(figure) for figure in figures], indent=1))
    path = directory / "figures.png"
    _plot([figure for figure in figures if figure.goal is not None], path)
    return path


def _plot(figures: Sequence[Figure], path: Path) -> None:
    """How far each ratio is from its goal: a line a figure, the goal at 1, better to the right."""
    mpl.use("agg")
    canvas, axes = plt.subplots(figsize=(11, 1.4 + 0.26 * len(figures)), layout="constrained")
    for line, figure in enumerate(figures):
        assert figure.goal is not None
        scores = sorted(_score(figure, ratio) for ratio in figure.middle_half)
        color = REACHED if figure.reached else MISSED
        axes.plot(scores, (line, line), color=color, alpha=0.35, linewidth=5, solid_capstyle="round")
        axes.plot(_score(figure, figure.ratio), line, "o", color=color)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10)
    axes.set_xticks(ticks, ["the goal" if tick == 1 else f"{tick:g} ×" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(
        range(len(figures)),
        [f"{figure.what}  /  {figure.against}   {figure.ratio:.2f}  ({_goal(figure)})" for figure in figures],
        fontsize=8,
    )
    axes.set_ylim(len(figures) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.25)
    axes.set_title(
        "Speed beside its goals: the right is better; dots are medians, bars the middle half of the rounds",
        fontsize=10,
        loc="left",
    )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    canvas.savefig(path, dpi=130)
    plt.close(canvas)


def _score(figure: Figure, ratio: float) -> float:
    assert figure.goal is not None
    return figure.goal / ratio if figure.at_most else ratio / figure.goal


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    return f"{'≤' if figure.at_most else '≥'} {figure.goal:.2f}"


def _value(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
