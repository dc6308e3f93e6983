"""A worker process on the real stack: the whole path, and what happens when something dies in the middle.

After each fault the same must hold: one ending for each operation, and credits that add up.
"""

import io
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from PIL import Image, ImageDraw
from psycopg.rows import DictRow, dict_row

from cli.local.stack import Stack, StackStatus
from cli.local.state import free_port
from tests.e2e.people import Person, give_credits, operator, sign_up
from tests.e2e.proxy import Proxy
from tests.e2e.worker_process import WorkerProcess, until
from tests.services.hostile_files import SIZED, SVG, animated, bomb, truncated

CREDITS = 20


@pytest.fixture
def start(stack: StackStatus, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers; those that still run at the end are killed."""
    started: list[WorkerProcess] = []

    def start(*, real: bool = False, **settings: Any) -> WorkerProcess:
        # Long enough for a busy machine to extend it, short enough to wait for its end.
        settings = {"LEASE_SECONDS": 4, "SHUTDOWN_GRACE_SECONDS": 60} | settings
        worker = WorkerProcess(stack, tmp_path / f"worker-{len(started)}.log", real=real, **settings)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.process.kill()
        worker.process.wait()


@pytest.fixture
def db(stack: StackStatus) -> Iterator[psycopg.Connection[DictRow]]:
    """The database as the owner of its tables, with no operation waiting."""
    with connect(stack) as connection:
        connection.execute("delete from public.image_operations where status in ('pending', 'processing')")
        yield connection


@pytest.fixture
def person(stack: StackStatus) -> Person:
    person = sign_up(stack)
    give_credits(stack, person, CREDITS - person.credits())
    return person


@contextmanager
def connect(stack: StackStatus) -> Iterator[psycopg.Connection[DictRow]]:
    with psycopg.connect(stack.db_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def orders(do: str, **more: Any) -> bytes:
    """A "picture" that tells the fake engine what to do."""
    return json.dumps({"do": do} | more).encode()


def upscale(person: Person, picture: bytes, media_type: str = "image/png") -> str:
    """Upload and ask for an upscale; returns the operation's id."""
    return str(person.request(person.upload("art", picture, media_type), "upscale")["id"])


def status(person: Person, operation_id: str) -> str:
    return str(person.operation(operation_id)["status"])


def statuses(db: psycopg.Connection[DictRow], operations: list[str]) -> dict[str, int]:
    rows = db.execute(
        "select status, count(*)::int as operations from public.image_operations where id = any(%s) group by 1",
        (operations,),
    )
    return {row["status"]: row["operations"] for row in rows}


def works(db: psycopg.Connection[DictRow], worker: WorkerProcess) -> bool:
    """Whether an operation is leased to this worker, dead or alive."""
    found = db.execute(
        "select from public.image_operations where status = 'processing' and worker_id like %s limit 1",
        (f"%-{worker.process.pid}-%",),
    )
    return found.fetchone() is not None


def results(db: psycopg.Connection[DictRow], operation_id: str) -> list[str]:
    rows = db.execute(
        "select name from storage.objects where bucket_id = 'results' and name like %s", (f"%/{operation_id}/%",)
    )
    return [row["name"] for row in rows]


def assert_ledger(db: psycopg.Connection[DictRow], person: Person, *, completed: int, failed: int) -> None:
    """Every operation was charged once, every failed one refunded once, and the balance says the same."""
    rows = db.execute(
        "select transaction_type, sum(amount)::int as credits, count(*)::int as entries"
        " from public.credit_transactions where user_id = %s group by 1",
        (person.id,),
    ).fetchall()
    entries = {row["transaction_type"]: row["entries"] for row in rows}
    assert entries.get("usage", 0) == completed + failed
    assert entries.get("refund", 0) == failed
    assert person.credits() == CREDITS - completed


def assert_completed_once(db: psycopg.Connection[DictRow], person: Person, operation_id: str) -> dict[str, Any]:
    operation = person.operation(operation_id)
    assert operation["status"] == "completed"
    output = operation["output_data"]
    assert sorted(f"results/{name}" for name in results(db, operation_id)) == sorted(
        [output["url"], output["thumbnail_url"]]
    )
    assert_ledger(db, person, completed=1, failed=0)
    return operation


def png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def test_a_picture_is_uploaded_enlarged_paid_for_and_delivered(
    stack: StackStatus, db: psycopg.Connection[DictRow], person: Person, start: Callable[..., WorkerProcess]
) -> None:
    port = free_port()
    worker = start(real=True, LEASE_SECONDS=20, HTTP_PORT=port)
    art = Image.new("RGBA", (48, 32), (0, 0, 0, 0))
    ImageDraw.Draw(art).ellipse((4, 4, 40, 28), fill=(200, 30, 30, 255))
    operation_id = upscale(person, png(art))
    until(lambda: status(person, operation_id) in {"completed", "failed"}, 60)

    operation = assert_completed_once(db, person, operation_id)
    bucket, _, key = operation["output_data"]["url"].partition("/")
    with Image.open(io.BytesIO(person.api.storage.from_(bucket).download(key))) as result:
        assert result.size == (192, 128)
    assert operation["api_provider"] == "waifu2x"
    assert db.execute(
        "select count(*)::int as calls from public.api_usage_logs where operation_id = %s", (operation_id,)
    ).fetchone() == {"calls": 1}
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'dtf_worker_operations_total{event="completed",operation_type="upscale"} 1.0' in metrics
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert stack.secret_key not in worker.log.read_text()


def test_killed_in_mid_operation_it_is_done_once_by_the_next_worker(
    db: psycopg.Connection[DictRow], person: Person, start: Callable[..., WorkerProcess]
) -> None:
    operation_id = upscale(person, orders("sleep", seconds=1))
    first = start()
    until(lambda: status(person, operation_id) == "processing")
    first.signal(signal.SIGKILL)
    first.wait()
    assert status(person, operation_id) == "processing"
    start()
    until(lambda: status(person, operation_id) == "completed")
    assert assert_completed_once(db, person, operation_id)["attempts"] == 2


def test_a_worker_that_was_paused_until_its_lease_was_taken_changes_nothing(
    db: psycopg.Connection[DictRow], person: Person, start: Callable[..., WorkerProcess]
) -> None:
    operation_id = upscale(person, orders("sleep", seconds=1.5))
    paused = start()
    until(lambda: status(person, operation_id) == "processing")
    paused.signal(signal.SIGSTOP)  # its child goes on and has the result ready when the worker comes back
    start()
    until(lambda: status(person, operation_id) == "completed")
    before = assert_completed_once(db, person, operation_id)
    paused.signal(signal.SIGCONT)
    until(lambda: paused.said("lease_lost"))
    paused.signal(signal.SIGTERM)
    assert paused.wait() == 0
    assert assert_completed_once(db, person, operation_id) == before


def test_killed_again_and_again_under_load_nothing_is_lost_or_done_twice(
    db: psycopg.Connection[DictRow], person: Person, start: Callable[..., WorkerProcess]
) -> None:
    operations = [upscale(person, orders("sleep", seconds=1)) for _ in range(10)]
    steady = start(CONCURRENCY=2)
    for _ in range(2):
        victim = start(CONCURRENCY=2)
        until(partial(works, db, victim))
        victim.signal(signal.SIGKILL)
        victim.wait()
        assert works(db, victim), "it was killed between two operations"
    until(lambda: statuses(db, operations) == {"completed": len(operations)})
    assert all(len(results(db, operation)) == 2 for operation in operations)
    assert_ledger(db, person, completed=len(operations), failed=0)
    assert steady.process.poll() is None


def test_an_operation_cancelled_in_the_middle_is_stopped_and_refunded(
    db: psycopg.Connection[DictRow], person: Person, start: Callable[..., WorkerProcess]
) -> None:
    operation_id = upscale(person, orders("sleep", seconds=60))
    worker = start()
    until(lambda: status(person, operation_id) == "processing")
    person.api.rpc("cancel_image_operation", {"p_operation_id": operation_id}).execute()
    until(lambda: worker.said("lease_lost"))
    next_one = upscale(person, orders("echo"))
    until(lambda: status(person, next_one) == "completed")
    assert status(person, operation_id) == "cancelled"
    assert results(db, operation_id) == []
    assert_ledger(db, person, completed=1, failed=1)


def test_asked_to_stop_it_finishes_and_exits_cleanly(
    db: psycopg.Connection[DictRow], person: Person, start: Callable[..., WorkerProcess]
) -> None:
    first = upscale(person, orders("sleep", seconds=1))
    worker = start()
    until(lambda: status(person, first) == "processing")
    second = upscale(person, orders("echo"))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert (status(person, first), status(person, second)) == ("completed", "pending")


def test_asked_to_stop_it_hands_back_what_takes_too_long(
    db: psycopg.Connection[DictRow], person: Person, start: Callable[..., WorkerProcess]
) -> None:
    operation_id = upscale(person, orders("sleep", seconds=60))
    worker = start(SHUTDOWN_GRACE_SECONDS=0.2)
    until(lambda: status(person, operation_id) == "processing")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    operation = person.operation(operation_id)
    assert (operation["status"], operation["attempts"]) == ("pending", 0)


def test_it_survives_a_restart_of_the_database(tmp_path: Path) -> None:
    """One operation runs when the database stops; of another the claim is committed and its answer lost."""
    own_stack = Stack(tmp_path / "stack")  # other tests keep connections to theirs
    try:
        stack = own_stack.up()
        person = sign_up(stack)
        give_credits(stack, person, CREDITS - person.credits())
        running = upscale(person, orders("sleep", seconds=3))
        with Proxy(stack.api_url) as proxy:
            log = tmp_path / "worker.log"
            worker = WorkerProcess(stack, log, real=False, url=proxy.url, CONCURRENCY=2, LEASE_SECONDS=30)
            try:
                until(lambda: worker.said("operation_started"))
                proxy.loses = b"claim_image_operation"
                claimed = upscale(person, orders("echo"))
                until(lambda: status(person, claimed) == "processing")
                until(lambda: worker.said("api_unreachable"))
                own_stack.postgres.stop()
                time.sleep(1)  # the outage
                proxy.loses = None
                own_stack.postgres.start()
                until(lambda: {status(person, running), status(person, claimed)} == {"completed"})
                waiting = upscale(person, orders("echo"))
                until(lambda: status(person, waiting) == "completed")
                assert worker.process.poll() is None
            finally:
                worker.process.kill()
                worker.process.wait()
        with connect(stack) as db:
            assert_ledger(db, person, completed=3, failed=0)
        assert [person.operation(operation)["attempts"] for operation in (running, claimed, waiting)] == [1, 1, 1]
    finally:
        own_stack.down()


def test_a_poison_picture_fails_is_refunded_and_the_next_one_is_done(
    db: psycopg.Connection[DictRow], person: Person, start: Callable[..., WorkerProcess]
) -> None:
    poison, fine = upscale(person, orders("segfault")), upscale(person, orders("echo"))
    start()

    def ended() -> bool:
        # Nobody waits for the pauses between attempts here.
        db.execute(
            "update public.image_operations set run_after = now() where id = %s and status = 'pending'", (poison,)
        )
        return status(person, poison) == "failed" and status(person, fine) == "completed"

    until(ended)
    operation = person.operation(poison)
    assert operation["attempts"] == operation["max_attempts"]
    assert "engine stopped" in operation["error_message"]
    assert_ledger(db, person, completed=1, failed=1)


HOSTILE = {
    "empty": (b"", "image/png", "is empty"),
    "truncated": (truncated("PNG"), "image/png", "damaged or incomplete"),
    "not a picture": (b"<html><body>hello</body></html>", "image/png", "Upload"),
    "decompression bomb": (bomb(50_000, 50_000), "image/png", "64 million pixels"),
    "animation": (animated("GIF"), "image/gif", "animation of 3 frames"),
    "huge drawing": (f'{SVG} width="100000" height="100000"/>'.encode(), "image/svg+xml", "100000 x 100000 px"),
    "drawing with a local file": (
        f'{SIZED}<image href="/etc/passwd" width="9" height="9"/></svg>'.encode(),
        "image/svg+xml",
        "outside",
    ),
}


def test_hostile_pictures_fail_are_refunded_and_the_worker_goes_on(
    local_stack: Stack,
    stack: StackStatus,
    db: psycopg.Connection[DictRow],
    person: Person,
    start: Callable[..., WorkerProcess],
) -> None:
    reasons = {upscale(person, data, media_type): reason for data, media_type, reason in HOSTILE.values()}
    missing = person.upload("gone.png", b"soon gone")
    operator(stack).storage.from_("originals").remove([original(person, missing)])
    reasons[str(person.request(missing, "upscale")["id"])] = "not in storage"
    # Storage takes no file above the limit, so this one grows where it lies.
    large = person.upload("large.png", b"small")
    objects = local_stack.directory / "project" / "supabase" / ".temp" / "storage" / "originals"
    (objects / original(person, large)).write_bytes(bytes(60 << 20))
    reasons[str(person.request(large, "upscale")["id"])] = "larger than 50 MiB"

    start(real=True, LEASE_SECONDS=20)
    until(lambda: all(status(person, operation) in {"failed", "completed"} for operation in reasons), 60)
    for operation_id, reason in reasons.items():
        operation = person.operation(operation_id)
        assert (operation["status"], operation["attempts"]) == ("failed", 1), reason
        assert reason in operation["error_message"]
    fine = upscale(person, png(Image.new("RGB", (16, 16), (250, 10, 10))))
    until(lambda: status(person, fine) == "completed", 30)
    assert_ledger(db, person, completed=1, failed=len(reasons))


def original(person: Person, image_id: str) -> str:
    """The key of an image's upload in the bucket."""
    row: Any = person.api.table("images").select("original_url").eq("id", image_id).single().execute().data
    return str(row["original_url"]).partition("/")[2]
