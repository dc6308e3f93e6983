"""Figures and how they are taken: neighbours in turn, several rounds, ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Progress = Callable[[str], None]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Effort:
    """How much is measured: `seconds` is the length of one run of pgbench, `jobs` that of one run through a queue.

    Many short rounds stand a busy machine better than few long ones. What takes seconds has a number of its own.
    """

    rounds: int
    slow_rounds: int
    seconds: float
    jobs: int
    people: int
    clients: tuple[int, ...]
    sizes: tuple[int, ...]


FULL = Effort(
    rounds=9,
    slow_rounds=5,
    seconds=0.3,
    jobs=500,
    people=10_000,
    clients=(1, 4, 8, 16),
    sizes=(10_000, 100_000, 1_000_000),
)


@dataclass(frozen=True)
class Figure:
    """One line of the table: what we measured against what, in the same rounds.

    `ours` and `theirs` are in `unit`, one value a round. `goal` bounds the ratio ours / theirs: from above where
    `at_most` (times, counts), else from below (rates); None is a line for information.
    """

    section: str
    what: str
    ours: tuple[float, ...]
    against: str
    theirs: tuple[float, ...]
    unit: str
    goal: float | None = None
    at_most: bool = False

    @property
    def ratios(self) -> tuple[float, ...]:
        """ours / theirs, round by round: what disturbs the whole machine disturbs both sides."""
        return tuple(mine / other for mine, other in zip(self.ours, self.theirs, strict=True))

    @property
    def ratio(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.ratios)

    @property
    def middle_half(self) -> tuple[float, float]:
        """The first and the third quartile of the ratio: half of the rounds lie between."""
        if len(self.ratios) == 1:
            return self.ratio, self.ratio
        first, _, third = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return first, third

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal


def in_turn(contenders: Mapping[Name, Callable[[], float]], rounds: int) -> dict[Name, tuple[float, ...]]:
    """Run every contender once a round, in the opposite order every other round, so that drift hits all alike."""
    taken: dict[Name, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names if number % 2 == 0 else reversed(names):
            taken[name].append(contenders[name]())
    return {name: tuple(values) for name, values in taken.items()}
