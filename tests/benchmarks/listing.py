"""Reading one's own images through row level security, beside the same query without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.benchmarks.measure import Effort, Figure, Progress, in_turn
from tests.benchmarks.server import Database

SECTION = "Row level security"
PERSON = "00000000-0000-0000-0000-000000000001"  # has the same images at every size
GOAL = 1.1
FLAT_GOAL = 1.2

OWN = f"select * from public.images where user_id = '{PERSON}' order by created_at desc limit 50;"
# What a browser may send as well: then the policy alone says whose images they are.
BARE = "select * from public.images order by created_at desc limit 50;"


def run(sizes: Mapping[int, Database], effort: Effort, report: Progress) -> Iterator[Figure]:
    """At each size of the table (its number of rows), and the largest beside the smallest."""
    report("row level security: listing one's own images")
    contenders = {}
    for size, database in sizes.items():
        contenders["without", size] = database.timed(OWN, effort.seconds)
        for name, query in (("own", OWN), ("bare", BARE)):
            contenders[name, size] = database.timed(query, effort.seconds, role="authenticated", user_id=PERSON)
    rates = in_turn(contenders, effort.rounds)
    times = {name: tuple(1000 / rate for rate in values) for name, values in rates.items()}
    for size in sizes:
        for query, what, goal in (("own", "own images", GOAL), ("bare", "own images, no filter in the query", None)):
            yield Figure(
                SECTION, f"{what}, {size:,} rows", times[query, size], "without RLS", times["without", size],
                "ms", goal, at_most=True,
            )  # fmt: skip
    smallest, largest = min(sizes), max(sizes)
    yield Figure(
        SECTION, f"own images, {largest:,} rows", times["own", largest], f"{smallest:,} rows",
        times["own", smallest], "ms", FLAT_GOAL, at_most=True,
    )  # fmt: skip
