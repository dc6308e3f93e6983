"""Our queue beside others on the same server: one worker process each, jobs that do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import quantiles

from tests.benchmarks import operations, workers
from tests.benchmarks.measure import Effort, Figure, Progress, in_turn
from tests.benchmarks.peers import run as peers
from tests.benchmarks.server import Database, Server

SECTION = "Queue against others, one worker in Python"
# Enough for a run of about two seconds.
JOBS = {"ours": 2000, "procrastinate": 800, "graphile-worker": 4000, "pgqueuer": 15_000, "minimal queue": 30_000}
PICK_UPS = 40


def drains(ours: Database, theirs: Database, effort: Effort, report: Progress) -> Iterator[Figure]:
    """Draining what waits, one by one and in batches."""
    report("queue against others: draining")

    def drain(batch: int) -> float:
        operations.fill(ours, JOBS["ours"], fresh=True)
        return workers.drain(ours, batch)

    def drain_by_turns() -> float:
        operations.fill(ours, JOBS["ours"], fresh=True)
        return workers.drain_by_turns(ours)

    def drain_minimal() -> float:
        operations.fill_minimal(ours, JOBS["minimal queue"])
        return workers.drain_minimal(ours, workers.BATCH)

    rates = in_turn(
        {
            "one": partial(drain, 1),
            "turns": drain_by_turns,
            "batch": partial(drain, workers.BATCH),
            "minimal": drain_minimal,
            **{name: partial(peers.drain, name, theirs, JOBS[name]) for name in peers.COMMANDS},
        },
        effort.slow_rounds,
    )
    yield Figure(SECTION, "claim + complete", rates["one"], "procrastinate", rates["procrastinate"], "/s", 2.0)
    what = "complete and claim next"
    yield Figure(SECTION, what, rates["turns"], "graphile-worker", rates["graphile-worker"], "/s", 1.2)
    batch = (SECTION, "claim 100 + complete", rates["batch"])
    yield Figure(*batch, "pgqueuer, batch 100", rates["pgqueuer"], "/s", 1.7)
    yield Figure(*batch, "minimal queue, batch 100", rates["minimal"], "/s", 0.7)


def pick_ups(server: Server, theirs: Database, report: Progress) -> Iterator[Figure]:
    """From the commit of a job that arrives alone to its start; ours goes through Realtime and the API."""
    report("queue against others: pick-up")
    with server.whole_stack() as stack:
        ours = workers.pick_ups(stack, PICK_UPS)
    waits = {name: peers.pick_ups(name, theirs, PICK_UPS) for name in peers.COMMANDS}
    for name, theirs_waits in waits.items():
        for what, percent in (("half", 50), ("19 of 20", 95)):
            mine, other = (quantiles(values, n=100)[percent - 1] for values in (ours, theirs_waits))
            yield Figure(SECTION, f"{what} picked up within", (mine,), name, (other,), "ms", at_most=True)
