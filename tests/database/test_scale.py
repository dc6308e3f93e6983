"""What calls touch when tables are large, or when old versions of their rows cannot be removed.

Counted in blocks and bytes and not in time, which depends on what else the machine does.
"""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from local.state import StackState
from tests.database.personas import Connection, People, Person, Row, connect

FINISHED = 1_000_000
CLAIM = "select * from public.claim_image_operations('worker-1')"
COMPLETE = "select * from public.complete_image_operation(%s, %s, 'waifu2x', %s, 1.0)"
REQUEST = "select * from public.request_image_operation(%s, 'upscale')"
RELEASE = "select * from public.release_image_operation(%s, %s)"
QUEUE = "select * from public.stats_queue()"

pytestmark = [pytest.mark.usefixtures("empty_queue"), pytest.mark.timeout(400)]


def queue(people: People, count: int) -> tuple[Person, UUID]:
    user = people.new(credits=count + 100)
    image = people.image(user)
    for _ in range(count):
        user.call("request_image_operation", p_image_id=image, p_operation_type="upscale")
    return user, image


def result(job: Row) -> tuple[UUID, UUID, Jsonb]:
    """What COMPLETE takes."""
    folder = f"results/{job['user_id']}/{job['id']}"
    output = {"url": f"{folder}/a.png", "thumbnail_url": f"{folder}/a.webp"}
    return job["id"], job["lease_token"], Jsonb(output)


def blocks(connection: Connection, call: str, *parameters: Any) -> int:
    """How many blocks of tables and indexes a call reads, cached or not.

    Not those of the catalogs, hundreds of which are read anew whenever autovacuum has analyzed some tables.
    """
    so_far = "select sum(pg_stat_get_xact_blocks_fetched(c.oid))::integer as n from pg_class as c where c.oid >= 16384"
    with connection.transaction():
        (before,) = connection.execute(so_far).fetchall()
        connection.execute(call, parameters)
        (after,) = connection.execute(so_far).fetchall()
    return int(after["n"] - before["n"])


def round_of_calls(connection: Connection, user: Person, image: UUID) -> dict[str, int]:
    """The blocks of one call of each kind, plans and catalogs being cached."""
    connection.execute("select set_config('request.jwt.claim.sub', %s, true)", (str(user.id),))
    counts: dict[str, int] = {}
    for _ in range(3):
        counts["request"] = blocks(connection, REQUEST, image)
        counts["claim"] = blocks(connection, CLAIM)
        (job,) = connection.execute(CLAIM).fetchall()
        counts["release"] = blocks(connection, RELEASE, job["id"], job["lease_token"])
        (job,) = connection.execute(CLAIM).fetchall()
        counts["complete"] = blocks(connection, COMPLETE, *result(job))
    return counts


def fill(connection: Connection) -> None:
    """Insert finished operations of a thousand other accounts, with no statistics about them."""
    connection.execute("set local session_replication_role = replica")
    connection.execute("set local maintenance_work_mem = '256MB'")
    indexes = connection.execute(
        "select indexname, indexdef from pg_indexes"
        " where schemaname = 'public' and tablename = 'image_operations' and indexname not like '%_pkey'"
    ).fetchall()
    for index in indexes:
        connection.execute(f"drop index public.{index['indexname']}")
    connection.execute(
        """
        with people as (select array(select gen_random_uuid() from generate_series(1, 1000)) as ids)
        insert into public.image_operations (
            image_id, user_id, operation_type, status, credits_used, created_at, completed_at, lease_token
        )
        select
            gen_random_uuid(), p.ids[1 + n %% 1000], 'upscale', 'completed', 1,
            now() - make_interval(secs => n), now(), gen_random_uuid()
        from people as p, generate_series(1, %s) as n
        """,
        (FINISHED,),
    )
    for index in indexes:
        connection.execute(index["indexdef"])
    connection.execute("set local session_replication_role = origin")


def test_what_is_read_of_the_catalogs_is_not_counted(server: StackState) -> None:
    with connect(server.admin_url) as connection:
        cold, warm = blocks(connection, QUEUE), blocks(connection, QUEUE)
        assert warm <= cold <= warm + 10, "to plan it, the first page of each index is read, and 100 of the catalogs"


def test_calls_touch_as_little_with_a_million_finished_operations(people: People, admin: Connection) -> None:
    admin.execute("vacuum public.images, public.image_operations")  # of what other tests have left
    user, image = queue(people, 30)
    with admin.transaction(force_rollback=True):
        empty = round_of_calls(admin, user, image)
        empty["figures of the queue"] = blocks(admin, QUEUE)
        fill(admin)
        grown = round_of_calls(admin, user, image)
        admin.execute("analyze public.image_operations")
        analyzed = round_of_calls(admin, user, image)
        # Planned by what is known of the table, as any report: asked after that is known.
        grown["figures of the queue"] = analyzed["figures of the queue"] = blocks(admin, QUEUE)
    for name, count in empty.items():
        # Indexes are a level or two deeper; a scan is 20,000 blocks.
        assert max(grown[name], analyzed[name]) <= 2 * count + 200, (empty, grown, analyzed)


def test_plans_of_a_quiet_queue_hold_when_thousands_wait(people: People, admin: Connection) -> None:
    """Each index of the queue is one page then, and reading all of it looks as good as looking one entry up."""
    user, image = queue(people, 10)
    other = people.new()
    # With those 10 in it: of a table that was found empty Postgres believes that it stays so, whatever its size, and
    # then every index of it looks as good as another.
    admin.execute("vacuum analyze public.images, public.image_operations")
    with admin.transaction(force_rollback=True):
        quiet = round_of_calls(admin, user, image)
        admin.execute("set local session_replication_role = replica")
        admin.execute(
            "with waiting as ("
            "   insert into public.images (user_id, original_filename)"
            "   select %s, 'a.png' from generate_series(1, 20000)"
            "   returning id, user_id"
            ")"
            "insert into public.image_operations (image_id, user_id, operation_type, queue_tag)"
            " select w.id, w.user_id, 'upscale', 1000000 + row_number() over () from waiting as w",
            (other.id,),
        )
        admin.execute(
            "insert into public.images (user_id, original_filename) select %s, 'a.png' from generate_series(1, 5000)",
            (user.id,),
        )
        admin.execute("set local session_replication_role = origin")
        busy = round_of_calls(admin, user, image)
        # An account with many running ones is passed over, entry by entry.
        admin.execute("delete from public.image_operations where status = 'processing'")
        admin.execute("discard plans")
        replanned = round_of_calls(admin, user, image)
    for name, count in quiet.items():
        assert max(busy[name], replanned[name]) <= 2 * count + 200, (quiet, busy, replanned)


def test_a_long_transaction_slows_the_queue_and_stops_nothing(people: People, admin: Connection, db_url: str) -> None:
    """While it lasts, the entries of started operations stay in the queue's index, and each claim passes over them."""
    rounds = 500
    for _ in range(2):
        queue(people, rounds)
    with connect(db_url) as reader, reader.transaction():
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from public.image_operations")
        done = set()
        for _ in range(rounds):
            (job,) = admin.execute(CLAIM).fetchall()
            admin.execute(COMPLETE, result(job))
            done.add(job["id"])
        while_it_lasts = blocks(admin, CLAIM)
    admin.execute(CLAIM)  # finds the entries dead and marks them
    afterwards = blocks(admin, CLAIM)
    assert len(done) == rounds
    assert afterwards < while_it_lasts <= 5 * rounds, (while_it_lasts, afterwards)


def test_the_newest_images_of_a_quiet_account_are_found_without_reading_those_of_others(
    people: People, admin: Connection
) -> None:
    user, other = people.new(), people.new()
    fill_images = (
        "insert into public.images (user_id, original_filename, created_at)"
        " select %s, 'a.png', now() - %s::interval from generate_series(1, %s)"
    )
    with admin.transaction(force_rollback=True):
        admin.execute("set local session_replication_role = replica")
        admin.execute(fill_images, (user.id, "1 year", 1000))
        admin.execute(fill_images, (other.id, "1 hour", 50_000))
        admin.execute("analyze public.images")
        newest = "select * from public.images where user_id = %s order by created_at desc limit 24"
        assert blocks(admin, newest, user.id) < 100


def most_memory(connection: Connection) -> int:
    """The most bytes that the backend of a connection has had so far."""
    status = Path(f"/proc/{connection.info.backend_pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def test_the_export_of_a_large_account_takes_little_more_memory_than_its_text(
    people: People, admin: Connection, db_url: str
) -> None:
    user = people.new()
    admin.execute(
        "insert into public.user_activity_logs (user_id, activity_type, activity_data)"
        " select %s, 'download', '{}' from generate_series(1, 100000)",
        (user.id,),
    )
    with connect(db_url) as connection:
        acting = user.on(connection)
        acting.sql("select count(*) from public.user_activity_logs where user_id = %s", user.id)
        before = most_memory(connection)
        (row,) = acting.sql("select length(public.export_account()::text) as size")
        assert most_memory(connection) - before < 12 * row["size"], (before, most_memory(connection), row)
