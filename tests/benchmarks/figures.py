"""The figures of the business over a year: from the totals of counted days, beside the entries themselves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.benchmarks.measure import Effort, Figure, Progress, in_turn
from tests.benchmarks.server import Database

SECTION = "Figures of the business"
GOAL = 0.2
NAMES = ("revenue", "margins", "retention")
DAY = "select public.refresh_stats();"
COUNTED_RUNS = 5


def run(base: Database, effort: Effort, report: Progress) -> Iterator[Figure]:
    """On the largest size of the effort."""
    entries = max(effort.sizes)
    report(f"making {entries:,} ledger entries")
    uncounted = base.clone("uncounted")
    uncounted.run("books.sql", entries=entries, people=effort.people)
    uncounted.settle()
    counted = uncounted.clone("counted")
    counted.execute("select public.refresh_stats(null, 1000)")
    counted.settle()

    report("the figures of the business")
    contenders = {}
    for name in NAMES:
        query = f"select * from public.stats_{name}();"
        contenders[name, "counted"] = partial(counted.pgbench, query, COUNTED_RUNS)
        contenders[name, "uncounted"] = partial(uncounted.pgbench, query, 1)
    contenders["refresh", "counted"] = partial(counted.pgbench, DAY, COUNTED_RUNS)
    rates = in_turn(contenders, effort.slow_rounds)
    times = {name: tuple(1000 / rate for rate in values) for name, values in rates.items()}
    for name in NAMES:
        yield Figure(
            SECTION, f"{name} of a year, {entries:,} entries", times[name, "counted"], "no day counted",
            times[name, "uncounted"], "ms", GOAL, at_most=True,
        )  # fmt: skip
    yield Figure(
        SECTION, "counting the newest two days again", times["refresh", "counted"], "margins, no day counted",
        times["margins", "uncounted"], "ms",
    )  # fmt: skip
