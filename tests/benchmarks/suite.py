"""What is measured, part by part, on one server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.benchmarks import (
    billing,
    contest,
    disk,
    email,
    engines,
    figures,
    instructions,
    ledger,
    listing,
    operations,
    printing,
    wakeup,
)
from tests.benchmarks.measure import Effort, Figure, Progress
from tests.benchmarks.peers import run as peers
from tests.benchmarks.server import Database, Server, running_server

PARTS = (
    "ledger",
    "listing",
    "queue",
    "figures",
    "instructions",
    "peers",
    "wakeup",
    "billing",
    "email",
    "engines",
    "printing",
    "cutouts",
)
APART = {
    "engines",
    "printing",
    "cutouts",
    "wakeup",
    "billing",
    "email",
    "instructions",
}  # need no accounts by the thousand


def measure(parts: Sequence[str], effort: Effort, progress: Progress) -> Iterator[Figure]:
    """The figures of the parts, as they come; cut-outs are judged, not timed, and have tables of their own."""
    if set(parts) - {"engines", "printing", "cutouts"}:
        with running_server() as server:
            yield from _measure_database(server, parts, effort, progress)
    if "engines" in parts:
        yield from engines.run(progress)
    if "printing" in parts:
        yield from printing.run(progress)


def _measure_database(server: Server, parts: Sequence[str], effort: Effort, progress: Progress) -> Iterator[Figure]:
    if "wakeup" in parts:
        yield from wakeup.run(server, progress)
    if "billing" in parts:
        yield from billing.run(server, effort, progress)
    if "email" in parts:
        yield from email.run(server, effort, progress)
    if "instructions" in parts:
        yield from instructions.run(server, progress)
    if not set(parts) - APART:
        return
    base = server.base
    progress(f"making {effort.people:,} accounts")
    for file in ("people.sql", "ceiling.sql", "minimal_queue.sql", "requests.sql"):
        base.run(file, people=effort.people)
    base.settle()
    empty, books, others = base.clone("empty"), base.clone("ledger"), base.clone("others")
    if "peers" in parts:
        peers.install(others)
    if {"ledger", "queue", "peers"} & set(parts):
        with disk.slow_flushes(books, effort, progress):
            yield from disk.labelled(_commits(empty, books, others, parts, effort, progress), flushed=True)
        yield from disk.labelled(_commits(empty, books, others, parts, effort, progress), flushed=False)
    if "queue" in parts:
        yield from operations.fairness(empty, progress)
    sizes = _history(base, effort, progress) if {"listing", "queue"} & set(parts) else {}
    if "queue" in parts:
        yield from operations.flatness({0: empty} | sizes, effort, progress)
    if "listing" in parts:
        yield from listing.run(sizes, effort, progress)
    if "figures" in parts:
        yield from figures.run(base, effort, progress)
    if "peers" in parts:
        yield from contest.pick_ups(server, others, progress)


def _commits(
    queue: Database, books: Database, others: Database, parts: Sequence[str], effort: Effort, progress: Progress
) -> Iterator[Figure]:
    """What depends on how long a commit takes."""
    if "ledger" in parts:
        yield from ledger.run(books, effort, progress)
    if "queue" in parts:
        yield from operations.pairs(queue, effort, progress)
        yield from operations.requests(queue, effort, progress)
    if "peers" in parts:
        yield from contest.drains(queue, others, effort, progress)


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
