"""A worker process on the real stack: the whole path, and what happens when something dies in the middle.

After each fault the same must hold: one ending for each operation, and credits that add up.
"""

import io
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image, ImageDraw

from local.stack import Stack, StackStatus
from local.state import free_port
from tests.e2e.operations import (
    CREDITS,
    Database,
    assert_completed_once,
    assert_ledger,
    connect,
    customer,
    orders,
    results,
    status,
    statuses,
    upscale,
    works,
)
from tests.e2e.people import Person, operator
from tests.e2e.proxy import Proxy
from tests.e2e.worker_process import WorkerProcess, until
from tests.services.hostile_files import SIZED, SVG, animated, bomb, truncated


@pytest.fixture
def start(db: Database, stack: StackStatus, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers on an empty queue; those that still run at the end are killed."""
    started: list[WorkerProcess] = []

    def start(*, real: bool = False, url: str | None = None, clock_error: float = 0, **settings: Any) -> WorkerProcess:
        # Long enough for a busy machine to extend it, short enough to wait for its end.
        settings = {"LEASE_SECONDS": 4, "SHUTDOWN_GRACE_SECONDS": 60} | settings
        log = tmp_path / f"worker-{len(started)}.log"
        worker = WorkerProcess(stack, log, real=real, url=url, clock_error=clock_error, **settings)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.process.kill()
        worker.process.wait()


@pytest.fixture
def person(stack: StackStatus) -> Person:
    return customer(stack)


def png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def test_a_picture_is_uploaded_enlarged_paid_for_and_delivered(
    stack: StackStatus, db: Database, person: Person, start: Callable[..., WorkerProcess]
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
    db: Database, person: Person, start: Callable[..., WorkerProcess]
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
    db: Database, person: Person, start: Callable[..., WorkerProcess]
) -> None:
    operation_id = upscale(person, orders("sleep", seconds=1.5))
    paused = start()
    until(lambda: paused.said("operation_started"))
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
    db: Database, person: Person, start: Callable[..., WorkerProcess]
) -> None:
    operations: list[str] = []
    steady = start(CONCURRENCY=2)
    for _ in range(2):
        victim = start(CONCURRENCY=2)
        operations += [upscale(person, orders("sleep", seconds=1)) for _ in range(5)]
        until(partial(works, db, victim))
        victim.signal(signal.SIGKILL)
        victim.wait()
        assert works(db, victim), "it was killed between two operations"
    until(lambda: statuses(db, operations) == {"completed": len(operations)})
    assert all(len(results(db, operation)) == 2 for operation in operations)
    assert_ledger(db, person, completed=len(operations), failed=0)
    assert steady.process.poll() is None


def test_killed_before_its_claim_is_committed_it_loses_nothing(
    db: Database, person: Person, start: Callable[..., WorkerProcess], stack: StackStatus
) -> None:
    """The claim waits to write images, a table that somebody holds, while its worker dies."""
    first = start()
    image_id = person.upload("art", orders("echo"))
    with connect(stack) as blocker, blocker.transaction():
        blocker.execute("lock table public.images in share mode")
        operation_id = str(person.request(image_id, "upscale")["id"])
        until(partial(waits, db, "claim_image_operations"))
        first.signal(signal.SIGKILL)
        first.wait()
        assert status(person, operation_id) == "pending"
    start()
    until(lambda: status(person, operation_id) == "completed")
    assert assert_completed_once(db, person, operation_id)["attempts"] <= 2


def test_killed_after_its_uploads_and_before_the_completion_it_is_done_again(
    db: Database, person: Person, start: Callable[..., WorkerProcess], stack: StackStatus
) -> None:
    operation_id = upscale(person, orders("echo"))
    with Proxy(stack.api_url) as proxy:
        proxy.swallows = b"complete"
        first = start(url=proxy.url)
        until(lambda: len(results(db, operation_id)) == 2)
        first.signal(signal.SIGKILL)
        first.wait()
    assert status(person, operation_id) == "processing"
    start()
    until(lambda: status(person, operation_id) == "completed")
    operation = person.operation(operation_id)
    assert operation["attempts"] == 2
    assert_ledger(db, person, completed=1, failed=0)
    # What the dead worker uploaded is under another name, and nobody refers to it.
    names = {f"results/{name}" for name in results(db, operation_id)}
    assert {operation["output_data"]["url"], operation["output_data"]["thumbnail_url"]} < names
    assert len(names) == 4


def test_killed_while_its_completion_waits_it_is_done_once(
    db: Database, person: Person, start: Callable[..., WorkerProcess], stack: StackStatus
) -> None:
    operation_id = upscale(person, orders("sleep", seconds=1))
    first = start()
    until(lambda: status(person, operation_id) == "processing")
    with connect(stack) as blocker, blocker.transaction():
        blocker.execute("select from public.image_operations where id = %s for update", (operation_id,))
        until(partial(waits, db, "complete"))
        first.signal(signal.SIGKILL)
        first.wait()
    start()
    until(lambda: status(person, operation_id) == "completed")
    # The database heard the dead worker's last word, or not; never both words.
    assert_ledger(db, person, completed=1, failed=0)
    logs = db.execute("select from public.api_usage_logs where operation_id = %s", (operation_id,)).fetchall()
    assert len(logs) == 1


def test_connections_that_go_silent_cost_time_and_nothing_else(
    db: Database, person: Person, start: Callable[..., WorkerProcess], stack: StackStatus, tmp_path: Path
) -> None:
    engine = tmp_path / "engine"
    engine.mkdir()
    operation_id = upscale(person, orders("meet", folder=str(engine), expected=2))
    with Proxy(stack.api_url) as proxy:
        # An answer that takes longer than a third of the lease is given up.
        worker = start(url=proxy.url, CONCURRENCY=2, LEASE_SECONDS=15)
        until(lambda: list(engine.iterdir()))
        proxy.silent = True
        until(lambda: worker.said("api_unreachable"))
        time.sleep(1)  # by now the connections that lay idle are given up as well
        proxy.silent = False
        (engine / "go on").touch()
        until(lambda: status(person, operation_id) == "completed")
        later = upscale(person, orders("echo"))
        until(lambda: status(person, later) == "completed")
        assert worker.process.poll() is None
    assert [person.operation(operation)["attempts"] for operation in (operation_id, later)] == [1, 1]
    assert_ledger(db, person, completed=2, failed=0)


def test_workers_whose_clocks_are_wrong_take_nothing_from_each_other(
    db: Database, person: Person, start: Callable[..., WorkerProcess]
) -> None:
    operations = [upscale(person, orders("sleep", seconds=6)) for _ in range(2)]
    for seconds in (300, -300):
        start(clock_error=seconds)
    until(lambda: statuses(db, operations) == {"completed": 2}, 30)
    assert [person.operation(operation)["attempts"] for operation in operations] == [1, 1]
    assert_ledger(db, person, completed=2, failed=0)


def test_realtime_wakes_it_also_after_it_was_killed(
    local_stack: Stack, person: Person, start: Callable[..., WorkerProcess]
) -> None:
    worker = start(POLL_SECONDS=100)

    def subscriptions() -> int:
        return len(worker.said("realtime_subscribed"))

    def is_done_soon() -> None:
        operation = str(person.request(None, "generate", prompt="DTF")["id"])
        until(lambda: status(person, operation) == "completed", 15)

    until(subscriptions)
    is_done_soon()
    kill_realtime(local_stack)
    until(lambda: subscriptions() == 2)
    is_done_soon()
    assert worker.said("realtime_away")


def kill_realtime(stack: Stack) -> None:
    """Its serving process, which is replaced at once."""
    server = max(stack.realtime.processes(), key=psutil.Process.create_time)
    server.kill()
    server.wait()


def test_realtime_killed_amid_two_hundred_operations_loses_and_repeats_none(
    stack: StackStatus, local_stack: Stack, db: Database, start: Callable[..., WorkerProcess]
) -> None:
    people = [customer(stack) for _ in range(20)]
    for _ in range(2):
        start(CONCURRENCY=2, POLL_SECONDS=2)
    operations = []
    for person in people:
        for number in range(CREDITS // 2):
            operations.append(str(person.request(None, "generate", prompt=f"{number}")["id"]))
        if len(operations) in (50, 120):
            kill_realtime(local_stack)
    assert len(operations) == 200
    until(lambda: statuses(db, operations) == {"completed": 200}, 120)
    rows = db.execute("select distinct attempts from public.image_operations where id = any(%s)", (operations,))
    assert [row["attempts"] for row in rows] == [1]
    for person in people:
        assert_charged_once(db, person)


def assert_charged_once(db: Database, person: Person) -> None:
    """Ten operations of two credits each, and no refund."""
    rows = db.execute(
        "select transaction_type, count(*)::int as entries from public.credit_transactions"
        " where user_id = %s and transaction_type in ('usage', 'refund') group by 1",
        (person.id,),
    ).fetchall()
    assert [(row["transaction_type"], row["entries"]) for row in rows] == [("usage", CREDITS // 2)]
    assert person.credits() == 0


def test_an_operation_cancelled_in_the_middle_is_stopped_and_refunded(
    db: Database, person: Person, start: Callable[..., WorkerProcess]
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


def test_asked_to_stop_it_finishes_and_exits_cleanly(person: Person, start: Callable[..., WorkerProcess]) -> None:
    first, second = upscale(person, orders("sleep", seconds=1)), upscale(person, orders("echo"))
    worker = start()
    until(lambda: worker.said("operation_started"))  # asked before it has begun, it would hand it back
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert (status(person, first), status(person, second)) == ("completed", "pending")


def test_asked_to_stop_it_hands_back_what_takes_too_long(person: Person, start: Callable[..., WorkerProcess]) -> None:
    operation_id = upscale(person, orders("sleep", seconds=60))
    worker = start(SHUTDOWN_GRACE_SECONDS=0.2)
    until(lambda: worker.said("operation_started"))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    operation = person.operation(operation_id)
    assert (operation["status"], operation["attempts"]) == ("pending", 0)


def test_a_poison_picture_fails_is_refunded_and_the_next_one_is_done(
    db: Database, person: Person, start: Callable[..., WorkerProcess]
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
    db: Database,
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


def waits(db: Database, function: str) -> bool:
    """Whether a call of the function waits for a lock."""
    found = db.execute(
        "select from pg_stat_activity where wait_event_type = 'Lock' and query like %s", (f"%{function}%",)
    )
    return found.fetchone() is not None


def original(person: Person, image_id: str) -> str:
    """The key of an image's upload in the bucket."""
    row: Any = person.api.table("images").select("original_url").eq("id", image_id).single().execute().data
    return str(row["original_url"]).partition("/")[2]
