"""Requesting and cancelling operations: prices, options, owners, refunds, and what the image shows."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.database.personas import UNKNOWN, Connection, People, Person, Row, connect, refused, together

REQUEST, CANCEL = "request_image_operation", "cancel_image_operation"
pytestmark = pytest.mark.usefixtures("empty_queue")


def request(user: Person, image: UUID | None, kind: str = "upscale", **arguments: Any) -> Row:
    row: Row = user.call(REQUEST, p_image_id=image, p_operation_type=kind, **arguments)
    return row


def claim(people: People) -> Row:
    (job,) = people.service.rows("claim_image_operations", p_worker_id="test")
    return job


def output(job: Row) -> dict[str, str]:
    folder = f"results/{job['user_id']}/{job['id']}/{job['lease_token']}"
    return {"url": f"{folder}.png", "thumbnail_url": f"{folder}.thumb.webp"}


def complete(service: Person, job: Row, **changes: Any) -> Row:
    arguments = {
        "p_operation_id": job["id"],
        "p_lease_token": job["lease_token"],
        "p_api_provider": "waifu2x",
        "p_output": output(job),
        "p_processing_time": Decimal("1.5"),
    }
    row: Row = service.call("complete_image_operation", **arguments | changes)
    return row


def image_row(db: Connection, image: UUID) -> Row:
    row = db.execute("select * from public.images where id = %s", (image,)).fetchone()
    assert row is not None
    return row


def test_a_request_charges_the_price_and_queues_the_operation(people: People, db: Connection) -> None:
    user = people.new(credits=5)
    image = people.image(user)
    operation = request(user, image, "vectorize", p_options={"colors": 8})
    assert (operation["status"], operation["credits_used"], operation["attempts"]) == ("pending", 2, 0)
    assert operation["options"] == {"colors": 8}
    assert people.balance(user) == 3
    charge = people.ledger(user)[-1]
    assert (charge["transaction_type"], charge["amount"]) == ("usage", 2)
    assert charge["metadata"]["operation_id"] == str(operation["id"])
    assert image_row(db, image)["processing_status"] == "pending"


def test_each_move_of_an_operation_moves_updated_at_of_its_image(people: People, db: Connection) -> None:
    user = people.new()
    image = people.image(user)

    def moved() -> bool:
        is_new: bool = image_row(db, image)["updated_at"].year > 2000
        db.execute("update public.images set updated_at = '2000-01-01' where id = %s", (image,))
        return is_new

    assert moved()
    request(user, image)
    job = claim(people)
    assert moved()
    complete(people.service, job)
    assert moved()
    request(user, image)
    assert moved()


def test_a_request_is_logged_as_the_users_activity(people: People) -> None:
    user = people.new()
    row = user.call("request_image_operation", p_image_id=people.image(user), p_operation_type="upscale")
    (activity,) = user.sql("select activity_data from public.user_activity_logs where activity_type = 'request'")
    assert activity["activity_data"] == {
        "operation_id": str(row["id"]),
        "operation_type": "upscale",
        "image_id": str(row["image_id"]),
    }


def test_without_enough_credits_nothing_is_written(people: People) -> None:
    user = people.new(credits=1)
    image = people.image(user)
    with refused("PT402", "Insufficient credits. Required: 2, Available: 1"):
        request(user, image, "vectorize")
    assert user.sql("select id from public.image_operations") == []
    with refused("PT402"):
        request(user, None, "generate", p_options={"prompt": "Hi"})
    assert len(user.sql("select id from public.images")) == 1


def test_generate_needs_no_image_and_makes_one(people: People) -> None:
    user = people.new()
    operation = request(user, None, "generate", p_options={"prompt": "Good vibes"})
    (image,) = user.sql("select * from public.images")
    assert operation["image_id"] == image["id"]
    assert (image["original_filename"], image["original_url"]) == ("Good vibes.png", None)
    assert claim(people)["input_url"] is None


def test_somebody_elses_image_is_as_unknown_as_none(people: People) -> None:
    user, stranger = people.new(), people.new()
    for image in (people.image(stranger), uuid4(), None):
        with refused("PT404", "Image not found"):
            request(user, image)
    assert people.balance(user) == 2


def test_an_image_without_an_upload_cannot_be_worked_on(people: People) -> None:
    user = people.new()
    (image,) = user.sql("insert into public.images (original_filename) values ('a.png') returning id")
    with refused("PT409", "no original"):
        request(user, image["id"])


def test_an_operation_that_is_not_offered_is_refused(people: People, db: Connection) -> None:
    user = people.new()
    image = people.image(user)
    with db.transaction(force_rollback=True):
        db.execute("update public.operation_types set is_active = false where name = 'upscale'")
        with refused("PT409", "not offered"):
            request(user, image)


def test_a_free_operation_writes_no_ledger_entry(people: People, db: Connection) -> None:
    user = people.new()
    image = people.image(user)
    with db.transaction(force_rollback=True):
        db.execute("update public.operation_types set credits = 0 where name = 'upscale'")
        operation = request(user, image)
        assert user.call(CANCEL, p_operation_id=operation["id"])["credits_refunded"] == 0
        assert len(people.ledger(user)) == 1


def test_the_same_key_and_request_get_the_first_operation(people: People) -> None:
    user = people.new(credits=9)
    image = people.image(user)
    first = request(user, image, p_options={"scale": 2}, p_idempotency_key="k")
    assert request(user, image, p_options={"scale": 2}, p_idempotency_key="k")["id"] == first["id"]
    made = request(user, None, "generate", p_options={"prompt": "x"}, p_idempotency_key="g")
    assert request(user, None, "generate", p_options={"prompt": "x"}, p_idempotency_key="g")["id"] == made["id"]
    assert people.balance(user) == 9 - 1 - 2
    with refused("PT409", "another request"):
        request(user, image, p_options={"scale": 4}, p_idempotency_key="k")
    with refused("PT409", "another request"):
        request(user, made["image_id"], "generate", p_options={"prompt": "x"}, p_idempotency_key="g")
    # Another user may use the same key.
    other = people.new()
    assert request(other, people.image(other), p_idempotency_key="k")["id"] != first["id"]


@pytest.mark.parametrize("price", [1, 0])
def test_a_key_outlives_its_image_and_never_charges_again(people: People, db: Connection, price: int) -> None:
    user = people.new(credits=9)
    image = people.image(user)
    db.execute("update public.operation_types set credits = %s where name = 'upscale'", (price,))
    try:
        operation = request(user, image, p_idempotency_key="k")
        made = request(user, None, "generate", p_options={"prompt": "x"}, p_idempotency_key="g")
        for job in (claim(people), claim(people)):
            complete(people.service, job)
        user.sql("delete from public.images")
        balance = people.balance(user)
        for again, first in (
            (partial(request, user, image, p_idempotency_key="k"), operation),
            (partial(request, user, None, "generate", p_options={"prompt": "x"}, p_idempotency_key="g"), made),
        ):
            with refused("PT410", "deleted with its image") as caught:
                again()
            assert str(first["id"]) in (caught.value.diag.message_detail or "")
        with refused("PT409", "another request"):
            request(user, people.image(user), p_idempotency_key="k")
        assert people.balance(user) == balance
        assert people.service.rows("claim_image_operations", p_worker_id="test") == []
    finally:
        db.execute("update public.operation_types set credits = 1 where name = 'upscale'")


def test_the_same_key_sent_many_times_at_once_makes_one_operation(people: People, db_url: str) -> None:
    user = people.new(credits=9)
    image = people.image(user)

    def send(connection: Connection) -> UUID:
        operation: UUID = request(user.on(connection), image, p_idempotency_key="k")["id"]
        return operation

    assert len(set(together(db_url, [send] * 8))) == 1
    assert people.balance(user) == 8


def test_requests_at_once_spend_the_balance_exactly(people: People, db_url: str) -> None:
    user = people.new(credits=10)
    image = people.image(user)

    def send(connection: Connection) -> int:
        done = 0
        for _ in range(4):
            try:
                request(user.on(connection), image)
                done += 1
            except psycopg.Error as error:
                assert error.diag.sqlstate == "PT402"
        return done

    assert sum(together(db_url, [send] * 6)) == 10
    assert people.balance(user) == 0
    assert people.service.rows("verify_ledger") == []


def test_a_thousand_unfinished_operations_are_the_most(people: People, db: Connection) -> None:
    user = people.new()
    image = people.image(user)
    with db.transaction(force_rollback=True):
        db.execute(
            "insert into public.image_operations (image_id, user_id, operation_type)"
            " select %s, %s, 'upscale' from generate_series(1, 1000)",
            (image, user.id),
        )
        with refused("PT429", "unfinished"):
            request(user, image)


@pytest.mark.parametrize(
    ("arguments", "sqlstate"),
    [
        ({"kind": "sharpen"}, "PT400"),
        ({"kind": None}, "PT400"),
        ({"p_options": []}, "PT400"),
        ({"p_options": {"scale": 3}}, "PT400"),
        ({"p_options": {"x": "y" * 9000}}, "PT413"),
        ({"p_options": {"input": str(UNKNOWN)}}, "PT404"),
        ({"p_idempotency_key": ""}, "PT400"),
        ({"p_idempotency_key": "x" * 201}, "PT400"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_request_is_refused_and_costs_nothing(people: People, arguments: dict[str, Any], sqlstate: str) -> None:
    user = people.new()
    with refused(sqlstate):
        request(user, people.image(user), **arguments)
    assert people.balance(user) == 2


@pytest.mark.parametrize(("numbers", "sqlstate"), [(400, "PT400"), (9000, "PT413")])
def test_options_whose_text_would_fill_the_memory_are_refused_unread(
    people: People, numbers: int, sqlstate: str
) -> None:
    # A few bytes each, and 131 KB as text: of these, two requests would take a server of 2 GB down.
    user = people.new()
    options = '{"scale": [' + ", ".join(["1e131071"] * numbers) + "]}"
    with refused(sqlstate) as caught:
        user.sql("select public.request_image_operation(%s, 'upscale', %s)", people.image(user), options)
    assert len(caught.value.diag.message_detail) < 100


def test_null_options_mean_the_defaults(people: People) -> None:
    user = people.new()
    assert request(user, people.image(user), p_options=None)["options"] == {}


def test_a_wrong_option_is_named_with_what_it_may_be(people: People) -> None:
    user = people.new()
    with refused("PT400", 'The option "scale" has a wrong value') as caught:
        request(user, people.image(user), p_options={"scale": 3})
    assert caught.value.diag.message_hint == "Pass 2 or 4."
    with refused("PT400", 'Unknown option "colour" for upscale'):
        request(user, people.image(user), p_options={"colour": "red"})


def test_an_operation_can_work_on_the_result_of_another(people: People) -> None:
    user = people.new(credits=9)
    image = people.image(user)
    first = request(user, image)
    with refused("PT404", "not a completed operation"):
        request(user, image, p_options={"input": str(first["id"])})
    job = claim(people)
    assert job["input_url"] == f"originals/{user.id}/shirt.png"
    complete(people.service, job)
    request(user, image, "vectorize", p_options={"input": str(first["id"])})
    assert claim(people)["input_url"] == output(job)["url"]
    other = people.image(user, "other.png")
    with refused("PT404", "not a completed operation"):
        request(user, other, p_options={"input": str(first["id"])})


def test_cancelling_a_waiting_operation_refunds_it(people: People, db: Connection) -> None:
    user = people.new()
    image = people.image(user)
    operation = request(user, image)
    cancelled = user.call(CANCEL, p_operation_id=operation["id"])
    assert (cancelled["status"], cancelled["credits_refunded"]) == ("cancelled", 1)
    assert people.balance(user) == 2
    assert people.ledger(user)[-1]["transaction_type"] == "refund"
    assert user.sql("select total_credits_used from public.profiles")[0]["total_credits_used"] == 0
    picture = image_row(db, image)
    assert (picture["processing_status"], picture["processing_error"]) == ("failed", "Cancelled by the owner.")
    with refused("PT409", "already cancelled"):
        user.call(CANCEL, p_operation_id=operation["id"])
    assert people.balance(user) == 2


def test_cancelling_a_running_operation_refunds_it_and_cuts_the_worker_off(people: People) -> None:
    user = people.new()
    request(user, people.image(user))
    job = claim(people)
    user.call(CANCEL, p_operation_id=job["id"])
    assert people.balance(user) == 2
    with refused("PT409", "Lease lost"):
        complete(people.service, job)


def test_only_so_many_running_operations_are_stopped_in_a_day(people: People, db: Connection) -> None:
    user = people.new()
    image = people.image(user)

    def stop() -> None:
        # An operation goes with its image, and counts all the same.
        other = people.image(user)
        request(user, other)
        user.call(CANCEL, p_operation_id=claim(people)["id"])
        user.sql("delete from public.images where id = %s", other)

    # What an admin cancels is not the owner's doing.
    request(user, image)
    service = {"p_operation_id": claim(people)["id"], "p_reason": "Stuck"}
    people.service.call("admin_cancel_image_operation", **service)
    for _ in range(20):
        stop()
    with refused("PT429", "stopped 20 running operations"):
        stop()
    assert people.balance(user) == 1
    (row,) = user.sql("select id from public.image_operations where status = 'processing'")

    # Nobody has paid for one that waits, nor does yesterday count.
    waiting = request(user, image)
    assert user.call(CANCEL, p_operation_id=waiting["id"])["credits_refunded"] == 1
    db.execute(
        "update public.user_activity_logs set created_at = created_at - interval '1 day' where user_id = %s",
        (user.id,),
    )
    assert user.call(CANCEL, p_operation_id=row["id"])["credits_refunded"] == 1


@pytest.mark.parametrize(("cost", "is_barred"), [(None, True), (0.04, True), (0, False)])
def test_only_so_many_failures_that_a_provider_takes_money_for_are_given_back_in_a_day(
    people: People, db: Connection, cost: float | None, is_barred: bool
) -> None:
    user = people.new(credits=10)

    def generate() -> None:
        user.call(
            "request_image_operation", p_image_id=None, p_operation_type="generate", p_options={"prompt": "a cat"}
        )

    call = {"api_provider": "openai", "status_code": 400, "error_message": "It was refused.", "cost": cost}
    for _ in range(5):
        generate()
        job = claim(people)
        people.service.call(
            "fail_image_operation", p_operation_id=job["id"], p_lease_token=job["lease_token"],
            p_error_message="It was refused.", p_retryable=False, p_usage=[call] * 10,
        )  # fmt: skip
        user.sql("delete from public.images where id = %s", job["image_id"])
    assert people.balance(user) == 10
    if is_barred:
        with refused("PT429", "50 of your pictures failed today"):
            generate()
        db.execute(
            "update public.api_usage_logs set created_at = created_at - interval '1 day' where user_id = %s", (user.id,)
        )
    generate()


def test_nobody_cancels_a_strangers_operation(people: People) -> None:
    user, stranger = people.new(), people.new()
    operation = request(user, people.image(user))
    for unknown in (operation["id"], uuid4(), None):
        with refused("PT404", "Operation not found"):
            stranger.call(CANCEL, p_operation_id=unknown)


def test_a_completed_operation_cannot_be_cancelled(people: People) -> None:
    user = people.new()
    request(user, people.image(user))
    job = claim(people)
    complete(people.service, job)
    with refused("PT409", "already completed"):
        user.call(CANCEL, p_operation_id=job["id"])


def test_the_image_follows_its_operations(people: People, db: Connection) -> None:
    user = people.new(credits=9)
    image = people.image(user)

    def status() -> tuple[str, str | None]:
        row = image_row(db, image)
        return row["processing_status"], row["processing_error"]

    request(user, image)
    assert status() == ("pending", None)
    job = claim(people)
    assert status() == ("processing", None)
    complete(people.service, job)
    assert status() == ("completed", None)
    picture = image_row(db, image)
    assert {"url": picture["processed_url"], "thumbnail_url": picture["thumbnail_url"]} == output(job)

    request(user, image)
    job = claim(people)
    people.service.call(
        "fail_image_operation",
        p_operation_id=job["id"],
        p_lease_token=job["lease_token"],
        p_error_message="Too blurred.",
        p_retryable=False,
    )
    assert status() == ("failed", "Too blurred.")
    # A cancellation does not hide how the last real attempt ended.
    user.call(CANCEL, p_operation_id=request(user, image)["id"])
    assert status() == ("failed", "Too blurred.")


def test_only_a_result_of_the_image_becomes_its_final_url(people: People) -> None:
    user = people.new(credits=9)
    image, other = people.image(user), people.image(user, "other.png")
    request(user, image)
    job = claim(people)
    complete(people.service, job)
    update = "update public.images set final_url = %s where id = %s"
    user.sql(update, output(job)["url"], image)
    user.sql(update, None, image)
    for url, target in ((output(job)["url"], other), (f"originals/{user.id}/shirt.png", image), ("x", image)):
        with refused("PT400", "final_url"):
            user.sql(update, url, target)


def test_an_image_with_unfinished_work_stays(people: People) -> None:
    user = people.new()
    image = people.image(user)
    operation = request(user, image)
    with refused("PT409", "unfinished operations"):
        user.sql("delete from public.images where id = %s", image)
    user.call(CANCEL, p_operation_id=operation["id"])
    user.sql("delete from public.images where id = %s", image)
    assert user.sql("select id from public.images") == []
    assert people.balance(user) == 2


def test_downloads_are_counted_for_the_owner_only(people: People) -> None:
    user, stranger = people.new(), people.new()
    image = people.image(user)
    assert [user.call("record_image_download", p_image_id=image) for _ in range(2)] == [1, 2]
    with refused("PT404"):
        stranger.call("record_image_download", p_image_id=image)


def test_accounts_deleted_while_they_request_and_workers_claim_leave_nothing(people: People, db_url: str) -> None:
    users = [people.new(credits=50) for _ in range(4)]
    images = [people.image(user) for user in users]

    def work(user: Person, image: UUID, connection: Connection) -> None:
        acting = user.on(connection)
        for _ in range(15):
            try:
                request(acting, image)
            except psycopg.Error as error:
                assert error.diag.sqlstate in ("PT401", "PT404")
        connection.execute("delete from auth.users where id = %s", (user.id,))

    def claims(connection: Connection) -> None:
        service = people.service.on(connection)
        for _ in range(60):
            for job in service.rows("claim_image_operations", p_worker_id="test", p_limit=3):
                try:
                    complete(service, job)
                except psycopg.Error as error:
                    assert error.diag.sqlstate == "PT409"

    tasks: list[Callable[[Connection], None]] = [claims, claims]
    tasks += [partial(work, user, image) for user, image in zip(users, images, strict=True)]
    together(db_url, tasks)
    assert people.service.rows("verify_ledger") == []


def _wait_until_blocked(db: Connection, pid: int) -> None:
    """Return once the server process `pid` waits for a lock."""
    for _ in range(500):
        (row,) = db.execute("select cardinality(pg_blocking_pids(%s)) as blockers", (pid,)).fetchall()
        if row["blockers"]:
            return
        time.sleep(0.01)
    pytest.fail("The statement was never blocked.")


def test_an_account_deleted_while_a_worker_completes_does_not_deadlock(
    people: People, db: Connection, db_url: str
) -> None:
    user = people.new()
    request(user, people.image(user))
    job = claim(people)
    with connect(db_url) as worker, connect(db_url) as deleter, ThreadPoolExecutor(2) as pool:
        # Holding the log stops the worker when it has locked the operation and is about to write.
        with db.transaction():
            db.execute("lock table public.api_usage_logs in share mode")
            completing = pool.submit(complete, people.service.on(worker), job)
            _wait_until_blocked(db, worker.info.backend_pid)
            deleting = pool.submit(deleter.execute, "delete from auth.users where id = %s", (user.id,))
            _wait_until_blocked(db, deleter.info.backend_pid)
        assert completing.result(30)["status"] == "completed"
        deleting.result(30)
    assert db.execute("select 1 from public.profiles where id = %s", (user.id,)).fetchall() == []
