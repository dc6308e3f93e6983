"""What is measured, part by part, on one server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.benchmarks import billing, contest, engines, figures, ledger, listing, operations, wakeup
from tests.benchmarks.measure import Effort, Figure, Progress
from tests.benchmarks.server import Database, Server, running_server

PARTS = ("ledger", "listing", "queue", "figures", "peers", "wakeup", "billing", "engines")


def measure(parts: Sequence[str], effort: Effort, progress: Progress) -> Iterator[Figure]:
    """The figures of the parts, as they come."""
    if set(parts) - {"engines"}:
        with running_server() as server:
            yield from _measure_database(server, parts, effort, progress)
    if "engines" in parts:
        yield from engines.run(progress)


def _measure_database(server: Server, parts: Sequence[str], effort: Effort, progress: Progress) -> Iterator[Figure]:
    if "wakeup" in parts:
        yield from wakeup.run(server, progress)
    if "billing" in parts:
        yield from billing.run(server, effort, progress)
    if not set(parts) - {"engines", "wakeup", "billing"}:
        return
    base = server.base
    progress(f"making {effort.people:,} accounts")
    for file in ("people.sql", "ceiling.sql", "minimal_queue.sql", "requests.sql"):
        base.run(file, people=effort.people)
    base.settle()
    if "ledger" in parts:
        yield from ledger.run(base.clone("ledger"), effort, progress)
    empty = base.clone("empty")
    if "queue" in parts:
        yield from operations.pairs(empty, effort, progress)
        yield from operations.requests(empty, effort, progress)
        yield from operations.fairness(empty, progress)
    sizes = _history(base, effort, progress) if {"listing", "queue"} & set(parts) else {}
    if "queue" in parts:
        yield from operations.flatness({0: empty} | sizes, effort, progress)
    if "listing" in parts:
        yield from listing.run(sizes, effort, progress)
    if "figures" in parts:
        yield from figures.run(base, effort, progress)
    if "peers" in parts:
        others = base.clone("others")
        yield from contest.drains(empty, others, effort, progress)
        yield from contest.pick_ups(server, others, progress)


def _history(base: Database, effort: Effort, progress: Progress) -> dict[int, Database]:
    """A database for each size: so many images, each with a completed operation."""
    sizes: dict[int, Database] = {}
    newest = base
    for size in effort.sizes:
        progress(f"making {size:,} images and operations")
        newest = newest.clone(f"history_{size}")
        newest.run("history.sql", images=size, people=effort.people)
        newest.settle()
        sizes[size] = newest
    return sizes
