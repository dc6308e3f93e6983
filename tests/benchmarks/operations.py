"""The queue in SQL: claims and completions, requests, and whose turn it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from uuid import UUID

import psycopg

from tests.benchmarks import workers
from tests.benchmarks.ledger import ANYBODY, USER
from tests.benchmarks.measure import Effort, Figure, Progress, in_turn
from tests.benchmarks.server import Database

SECTION = "Queue"
PAIR_GOAL, NEXT_GOAL, FLAT_GOAL = 0.55, 1.1, 1 / 1.2
REQUEST_GOAL = 0.5
WAKE_GOALS = {1: 0.9, 16: 0.8}
POLL_SECONDS = 0.1  # how often Realtime reads the changes
SLOTS = 4
WAITING = 1000

MINIMAL_PAIR = (
    workers.MINIMAL_CLAIM.format(limit=1).rstrip()
    + """ \\gset
update minimal.jobs set status = 'completed', finished_at = now() where id = :id;
"""
)
OUTPUT = (
    "jsonb_build_object('url', format('results/%s/%s/1.png', :user_id::uuid, :id::uuid),"
    " 'thumbnail_url', format('results/%s/%s/1.webp', :user_id::uuid, :id::uuid))"
)
PAIR = f"""
select id, lease_token, user_id from public.claim_image_operations('worker') \\gset
select public.complete_image_operation(:id, :lease_token, 'waifu2x', {OUTPUT}, 1.5);
"""
NEXT = f"""
select id, lease_token, user_id from public.complete_and_claim_image_operation(
    :id, :lease_token, 'waifu2x', {OUTPUT}, 1.5, '[]', 'worker') \\gset
"""


def pairs(database: Database, effort: Effort, report: Progress) -> Iterator[Figure]:
    """Claim and complete on one connection, beside the least that two transactions on a queue can cost."""
    report("claim and complete")
    rates = in_turn(
        {
            "minimal": partial(minimal_pairs, database, effort.jobs),
            "pair": partial(claim_and_complete, database, effort.jobs, fresh=True),
            "next": partial(complete_and_claim, database, effort.jobs),
        },
        effort.rounds,
    )
    yield Figure(SECTION, "claim + complete", rates["pair"], "minimal queue", rates["minimal"], "/s", PAIR_GOAL)
    yield Figure(SECTION, "complete and claim next", rates["next"], "minimal queue", rates["minimal"], "/s", NEXT_GOAL)


def flatness(sizes: Mapping[int, Database], effort: Effort, report: Progress) -> Iterator[Figure]:
    """Claim and complete in front of a table of finished operations, beside an empty one."""
    report("claim and complete beside finished operations")
    rates = in_turn(
        {size: partial(claim_and_complete, database, effort.jobs, fresh=size == 0) for size, database in sizes.items()},
        effort.rounds,
    )
    for size in sizes:
        if size:
            yield Figure(
                SECTION, f"claim + complete, {size:,} finished", rates[size], "none finished", rates[0], "/s", FLAT_GOAL
            )


def minimal_pairs(database: Database, jobs: int) -> float:
    """Jobs a second through the minimal queue, one connection."""
    fill_minimal(database, jobs)
    return database.pgbench(MINIMAL_PAIR, jobs)


def claim_and_complete(database: Database, jobs: int, *, fresh: bool) -> float:
    """Operations a second, one connection; `fresh` begins with no other operation in the table."""
    fill(database, jobs, fresh=fresh)
    return database.pgbench(PAIR, jobs)


def complete_and_claim(database: Database, jobs: int) -> float:
    """Operations a second, one connection, each call the end of one and the beginning of the next."""
    fill(database, jobs + 1, fresh=True)
    with database.connect() as connection:
        (first,) = workers.claim(connection, 1)
    return database.pgbench(NEXT, jobs, variables=first._asdict())


def fill(database: Database, jobs: int, *, fresh: bool) -> None:
    """Let `jobs` operations wait."""
    if fresh:
        database.execute("truncate public.image_operations, public.api_usage_logs")
    database.run("waiting.sql", count=jobs)


def fill_minimal(database: Database, jobs: int) -> None:
    """Let `jobs` minimal jobs wait, and no others."""
    database.execute(
        "truncate minimal.jobs", f"insert into minimal.jobs (payload) select '{{}}' from generate_series(1, {jobs})"
    )


def requests(database: Database, effort: Effort, report: Progress) -> Iterator[Figure]:
    """Requests beside the ceiling of any commit, and with Realtime reading the changes beside without."""
    pick = ANYBODY.format(people=effort.people)
    ceiling = pick + "update ceiling.rows set number = number + 1 where id = :n;"
    request = pick + f"select api.request({USER});"

    def ask(run: Callable[[], float], *, read: bool) -> float:
        database.execute("truncate public.image_operations, public.api_usage_logs")
        with _changes_read(database) if read else nullcontext():
            return run()

    for clients, goal in WAKE_GOALS.items():
        report(f"requests, {clients} clients")
        run = database.timed(request, effort.seconds, clients=clients, role="authenticated")
        rates = in_turn(
            {
                "ceiling": database.timed(ceiling, effort.seconds, clients=clients),
                "request": partial(ask, run, read=False),
                "read": partial(ask, run, read=True),
            },
            effort.rounds,
        )
        what = f"request, {clients} client{'s' if clients > 1 else ''}"
        yield Figure(
            SECTION, what, rates["request"], "one-row update", rates["ceiling"], "/s",
            REQUEST_GOAL if clients == 1 else None,
        )  # fmt: skip
        yield Figure(
            SECTION, f"{what}, Realtime reading", rates["read"], "nobody reading", rates["request"], "/s", goal
        )


@contextmanager
def _changes_read(database: Database) -> Iterator[None]:
    """Meanwhile somebody decodes the published changes of a logical slot, as Realtime does."""
    stop = threading.Event()
    failed: list[psycopg.Error] = []

    def read() -> None:
        try:
            with database.connect() as connection:
                connection.execute("select pg_create_logical_replication_slot('reader', 'pgoutput', true)")
                while not stop.wait(POLL_SECONDS):
                    connection.execute(
                        "select count(*) from pg_logical_slot_get_binary_changes("
                        "'reader', null, null, 'proto_version', '1', 'publication_names', 'supabase_realtime')"
                    )
        except psycopg.Error as error:
            failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        stop.set()
        reader.join()
    if failed:
        raise failed[0]


def fairness(database: Database, report: Progress) -> Iterator[Figure]:
    """The start, counted from 1, that a newcomer's only job gets while another user's thousand wait."""
    report("fairness")
    crowd, newcomer = (UUID(int=number) for number in (1, 2))
    database.execute("truncate public.image_operations, public.api_usage_logs")
    with database.connect() as connection:
        for _ in range(WAITING):
            connection.execute("select api.request(%s)", (crowd,))
        running = workers.claim(connection, SLOTS)
        connection.execute("select api.request(%s)", (newcomer,))
        starts = 0
        while all(job.user_id != newcomer for job in running):
            workers.complete(connection, running.pop(0))
            running += workers.claim(connection, 1)
            starts += 1
    yield Figure(
        SECTION, f"newcomer behind {WAITING:,} waiting: his start", (float(starts),), "slots", (float(SLOTS),), "th",
        1.0, at_most=True,
    )  # fmt: skip
