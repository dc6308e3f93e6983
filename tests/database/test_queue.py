"""The queue as workers use it: claims, leases, fencing, retries, fairness, and that every refund happens once."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.database.personas import Connection, People, Person, Row, connect, refused, together

CLAIM, EXTEND, RELEASE = "claim_image_operations", "extend_image_operation_lease", "release_image_operation"
COMPLETE_AND_CLAIM = "complete_and_claim_image_operation"
COMPLETE, FAIL, SWEEP = "complete_image_operation", "fail_image_operation", "requeue_lost_image_operations"
pytestmark = pytest.mark.usefixtures("empty_queue")


def queue(people: People, count: int = 1, **who: Any) -> tuple[Person, list[UUID]]:
    """Somebody with `count` waiting operations of 1 credit each, and 2 credits left."""
    user = people.new(**{"credits": count + 2} | who)
    image = people.image(user)
    return user, [request(user, image) for _ in range(count)]


def request(user: Person, image: UUID, kind: str = "upscale") -> UUID:
    operation: UUID = user.call("request_image_operation", p_image_id=image, p_operation_type=kind)["id"]
    return operation


def claim(service: Person, **arguments: Any) -> list[Row]:
    return service.rows(CLAIM, **{"p_worker_id": "worker-1"} | arguments)


def lease(job: Row) -> dict[str, Any]:
    return {"p_operation_id": job["id"], "p_lease_token": job["lease_token"]}


def result(job: Row) -> dict[str, Any]:
    folder = f"results/{job['user_id']}/{job['id']}/{job['lease_token']}"
    output = {"url": f"{folder}.png", "thumbnail_url": f"{folder}.thumb.webp", "media_type": "image/png"}
    return lease(job) | {"p_api_provider": "waifu2x", "p_output": output, "p_processing_time": Decimal("1.25")}


def complete(service: Person, job: Row, **changes: Any) -> Row:
    row: Row = service.call(COMPLETE, **result(job) | changes)
    return row


def complete_and_claim(service: Person, job: Row, **changes: Any) -> list[Row]:
    arguments = result(job) | {"p_usage": Jsonb([]), "p_worker_id": "worker-1"}
    return service.rows(COMPLETE_AND_CLAIM, **arguments | changes)


def fail(service: Person, job: Row, *, retryable: bool = True, **more: Any) -> Row:
    row: Row = service.call(FAIL, **lease(job) | {"p_error_message": "It broke.", "p_retryable": retryable} | more)
    return row


def operation(db: Connection, operation_id: UUID) -> Row:
    row = db.execute("select * from public.image_operations where id = %s", (operation_id,)).fetchone()
    assert row is not None
    return row


def expire_leases(db: Connection) -> None:
    """As if the workers had been silent for an hour."""
    db.execute(
        "update public.image_operations set lease_expires_at = now() - interval '1 hour' where status = 'processing'"
    )


def make_due(db: Connection) -> None:
    """As if the delays before the next attempts were over."""
    # In one order, because several threads do so at once.
    db.execute(
        "update public.image_operations set run_after = now() where id in"
        " (select id from public.image_operations where status = 'pending' order by id for update)"
    )


def refunds(people: People, user: Person) -> int:
    return sum(1 for entry in people.ledger(user) if entry["transaction_type"] == "refund")


def server_time(db: Connection) -> datetime:
    (row,) = db.execute("select clock_timestamp() as now").fetchall()
    now: datetime = row["now"]
    return now


def test_a_claim_leases_the_operation_and_counts_the_attempt(people: People, db: Connection) -> None:
    user, (operation_id,) = queue(people)
    before = server_time(db)
    (job,) = claim(people.service, p_lease_seconds=30)
    assert (job["id"], job["user_id"], job["attempts"], job["max_attempts"]) == (operation_id, user.id, 1, 3)
    assert (job["input_url"], job["original_filename"]) == (f"originals/{user.id}/shirt.png", "shirt.png")
    assert timedelta(seconds=30) <= job["lease_expires_at"] - before < timedelta(seconds=40)
    row = operation(db, operation_id)
    assert (row["status"], row["worker_id"], row["lease_token"]) == ("processing", "worker-1", job["lease_token"])
    assert row["started_at"] is not None
    assert claim(people.service) == []


def test_a_claim_takes_only_the_types_a_worker_can_do(people: People) -> None:
    user, _ = queue(people)
    assert claim(people.service, p_operation_types=["vectorize", "generate"]) == []
    assert claim(people.service, p_operation_types=[]) == []
    assert len(claim(people.service, p_operation_types=["vectorize", "upscale"])) == 1
    assert people.balance(user) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"p_worker_id": None}, {"p_worker_id": ""}, {"p_worker_id": "x" * 201}, {"p_limit": 0}, {"p_limit": 101},
        {"p_limit": None}, {"p_lease_seconds": 0}, {"p_lease_seconds": 3601}, {"p_lease_seconds": None},
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_bad_claim_is_refused(people: People, wrong: dict[str, Any]) -> None:
    queue(people)
    with refused("PT400"):
        claim(people.service, **wrong)
    assert len(claim(people.service)) == 1


def test_a_claim_sent_again_gets_what_it_took_and_no_more(people: People, db: Connection) -> None:
    queue(people, 5)
    claim_id = uuid4()
    first = claim(people.service, p_limit=2, p_claim_id=claim_id, p_lease_seconds=5)
    assert [job["lease_token"] for job in first] == [claim_id, claim_id]
    started = [operation(db, job["id"])["started_at"] for job in first]
    again = claim(people.service, p_limit=4, p_claim_id=claim_id, p_lease_seconds=600)
    assert [job["lease_expires_at"] - first[0]["lease_expires_at"] > timedelta(seconds=500) for job in again] == [
        True,
        True,
    ]
    unchanged = [{key: value for key, value in job.items() if key != "lease_expires_at"} for job in first]
    assert [{key: value for key, value in job.items() if key != "lease_expires_at"} for job in again] == unchanged
    assert [operation(db, job["id"])["started_at"] for job in again] == started
    complete(people.service, first[0])
    assert [job["id"] for job in claim(people.service, p_limit=4, p_claim_id=claim_id)] == [first[1]["id"]]
    assert len(claim(people.service, p_limit=5, p_claim_id=uuid4())) == 3


def test_a_claim_sent_again_after_its_leases_ran_out_gets_only_what_nobody_took(people: People, db: Connection) -> None:
    queue(people, 2)
    claim_id = uuid4()
    claim(people.service, p_limit=2, p_claim_id=claim_id)
    expire_leases(db)
    (still_there, again) = claim(people.service, p_limit=2, p_claim_id=claim_id)
    assert (still_there["attempts"], again["attempts"]) == (1, 1)
    expire_leases(db)
    assert len(claim(people.service, p_limit=2, p_worker_id="worker-2")) == 2
    assert claim(people.service, p_limit=2, p_claim_id=claim_id) == []
    with refused("PT409", "Lease lost"):
        complete(people.service, again)


def test_a_claim_sent_twice_at_the_same_time_takes_its_operations_once(people: People, db_url: str) -> None:
    queue(people, 6)
    claim_id = uuid4()

    def take(connection: Connection) -> set[UUID]:
        return {job["id"] for job in claim(people.service.on(connection), p_limit=2, p_claim_id=claim_id)}

    answers = together(db_url, [take] * 6)
    assert len(answers[0]) == 2
    assert answers == [answers[0]] * 6


def test_one_call_completes_an_operation_and_claims_the_next(people: People, db: Connection) -> None:
    user, ids = queue(people, 3)
    (job,) = claim(people.service)
    (following,) = complete_and_claim(people.service, job, p_lease_seconds=30)
    done = operation(db, job["id"])
    assert (done["status"], done["api_provider"], done["lease_expires_at"]) == ("completed", "waifu2x", None)
    assert (following["id"], following["attempts"]) == (ids[1], 1)
    assert operation(db, ids[1])["status"] == "processing"
    (image,) = user.sql("select * from public.images")
    assert (image["processing_status"], image["processed_url"]) == ("processing", done["output_data"]["url"])
    assert image["thumbnail_url"] == done["output_data"]["thumbnail_url"]

    (last,) = complete_and_claim(people.service, following)
    assert complete_and_claim(people.service, last) == []
    (image,) = user.sql("select * from public.images")
    assert (image["processing_status"], image["processed_url"]) == (
        "completed",
        operation(db, last["id"])["output_data"]["url"],
    )


def test_a_completion_and_claim_sent_again_gives_the_same_answer(people: People, db: Connection) -> None:
    queue(people)
    queue(people, 2)
    (job,) = claim(people.service)
    first = complete_and_claim(people.service, job, p_claim_id=(claim_id := uuid4()), p_lease_seconds=5)
    again = complete_and_claim(people.service, job, p_claim_id=claim_id, p_lease_seconds=600)
    assert [(row["id"], row["attempts"], row["lease_token"]) for row in again] == [(first[0]["id"], 1, claim_id)]
    assert again[0]["lease_expires_at"] > first[0]["lease_expires_at"]
    logs = db.execute("select from public.api_usage_logs where operation_id = %s", (job["id"],)).fetchall()
    assert len(logs) == 1


def test_a_completion_and_claim_sent_again_does_not_hide_a_newer_result(people: People) -> None:
    user, _ = queue(people, 2)
    older, newer = claim(people.service, p_limit=2)
    complete_and_claim(people.service, older, p_claim_id=(claim_id := uuid4()))
    shown = complete(people.service, newer)["output_data"]["url"]
    complete_and_claim(people.service, older, p_claim_id=claim_id)
    assert user.sql("select processed_url from public.images") == [{"processed_url": shown}]


def give_up(service: Person, job: Row) -> Row:
    return fail(service, job, retryable=False)


@pytest.mark.parametrize(
    ("end", "shown"), [(complete, "completed"), (complete_and_claim, "completed"), (give_up, "failed")]
)
def test_of_two_operations_of_an_image_that_end_at_once_the_second_sees_the_first(
    people: People, db: Connection, db_url: str, end: Callable[[Person, Row], Any], shown: str
) -> None:
    user, _ = queue(people, 2)
    first, second = claim(people.service, p_limit=2)
    with connect(db_url) as other, ThreadPoolExecutor(1) as pool:
        with db.transaction():
            complete(people.service, first)
            ending = pool.submit(end, people.service.on(other), second)
            wait_until_blocked(db, other)
        ending.result(30)
    assert user.sql("select processing_status from public.images") == [{"processing_status": shown}]


def test_a_completion_during_the_deletion_of_the_account_is_refused_and_no_deadlock(
    people: People, db: Connection, db_url: str
) -> None:
    user, _ = queue(people, 2)
    first, second = claim(people.service, p_limit=2)
    with connect(db_url) as deleter, connect(db_url) as worker, ThreadPoolExecutor(2) as pool:
        with db.transaction():
            db.execute("select from public.image_operations where id = %s for update", (first["id"],))
            deletion = pool.submit(deleter.execute, "delete from auth.users where id = %s", (user.id,))
            wait_until_blocked(db, deleter)
            ending = pool.submit(complete, people.service.on(worker), second)
            wait_until_blocked(db, worker)
        deletion.result(30)
        with refused("PT409", "Lease lost"):
            ending.result(30)


def wait_until_blocked(db: Connection, other: Connection) -> None:
    deadline = time.monotonic() + 30
    while not db.execute("select from pg_locks where pid = %s and not granted", (other.info.backend_pid,)).fetchall():
        assert time.monotonic() < deadline, "it waits for nobody"
        time.sleep(0.01)


def test_a_completion_that_is_refused_claims_nothing(people: People, db: Connection) -> None:
    _, ids = queue(people, 2)
    (job,) = claim(people.service)
    with refused("PT400"):
        complete_and_claim(people.service, job, p_output={})
    with refused("PT400"):
        complete_and_claim(people.service, job, p_worker_id="")
    with refused("PT409", "Lease lost"):
        complete_and_claim(people.service, job | {"lease_token": uuid4()})
    assert [operation(db, operation_id)["status"] for operation_id in ids] == ["processing", "pending"]


def test_workers_that_complete_and_claim_at_once_do_each_operation_once(people: People, db_url: str) -> None:
    """Each account has one image, so that the workers meet on images as well as on operations."""
    waiting = {operation_id for _ in range(3) for operation_id in queue(people, 40)[1]}

    def work(_: int, connection: Connection) -> list[UUID]:
        service, done = people.service.on(connection), []
        jobs = claim(service)
        while jobs:
            done.append(jobs[0]["id"])
            jobs = complete_and_claim(service, jobs[0])
        return done

    done = together(db_url, [partial(work, number) for number in range(6)])
    assert Counter(job for jobs in done for job in jobs) == Counter(waiting)


def test_a_heartbeat_extends_the_lease(people: People, db: Connection) -> None:
    queue(people)
    (job,) = claim(people.service, p_lease_seconds=5)
    until = people.service.call(EXTEND, **lease(job), p_lease_seconds=600)
    assert until - job["lease_expires_at"] > timedelta(seconds=500)
    assert operation(db, job["id"])["lease_expires_at"] == until
    with refused("PT400"):
        people.service.call(EXTEND, **lease(job), p_lease_seconds=0)


def test_a_completed_operation_has_its_result_cost_and_log(people: People, db: Connection) -> None:
    queue(people)
    (job,) = claim(people.service)
    row = complete(people.service, job)
    assert (row["status"], row["api_provider"], row["processing_time"]) == ("completed", "waifu2x", Decimal("1.25"))
    assert row["api_cost"] == 0
    (log,) = db.execute("select * from public.api_usage_logs where operation_id = %s", (job["id"],)).fetchall()
    assert (log["user_id"], log["api_provider"], log["cost"], log["response_time"]) == (
        job["user_id"],
        "waifu2x",
        0,
        Decimal("1.25"),
    )


def test_the_cost_of_an_operation_counts_its_failed_attempts(people: People, db: Connection) -> None:
    queue(people)
    (job,) = claim(people.service)
    call = {"api_provider": "openai", "model": "a-model", "status_code": 500, "response_time": 2.5, "cost": 0.01}
    fail(people.service, job, p_api_provider="openai", p_usage=[call, call | {"cost": 0.02, "error_message": "x"}])
    make_due(db)
    (job,) = claim(people.service)
    fail(people.service, job, p_api_provider="openai", p_usage=[call])
    make_due(db)
    (job,) = claim(people.service)
    row = complete(people.service, job, p_api_provider="openai", p_usage=[call | {"status_code": 200}])
    assert (row["api_cost"], row["error_message"]) == (Decimal("0.05"), None)
    logs = db.execute("select * from public.api_usage_logs where operation_id = %s", (job["id"],)).fetchall()
    assert sorted(log["status_code"] for log in logs) == [200, 500, 500, 500]
    assert {log["model"] for log in logs} == {"a-model"}


def test_an_unknown_cost_is_looked_up_in_the_price_list(people: People, db: Connection) -> None:
    provider = f"provider-{uuid4()}"
    prices = [
        ("1", "2026-01-01", True),
        ("2", "2026-02-01", True),
        ("3", "2026-03-01", False),
        ("4", "2999-01-01", True),
    ]
    queue(people, 2)
    first, second = claim(people.service, p_limit=2)
    with db.transaction(force_rollback=True):
        for cost, day, is_active in prices:
            db.execute(
                "insert into public.api_costs"
                " (api_provider, operation_type, cost_per_operation, effective_date, is_active)"
                " values (%s, 'upscale', %s, %s, %s)",
                (provider, cost, day, is_active),
            )
        assert complete(people.service, first, p_api_provider=provider)["api_cost"] == 2
        usage = [{"api_provider": provider, "cost": None}, {"api_provider": provider, "cost": 0.5}]
        assert complete(people.service, second, p_api_provider=provider, p_usage=usage)["api_cost"] == Decimal("2.5")
    assert complete(people.service, first, p_api_provider=provider)["api_cost"] is None


@pytest.mark.parametrize(
    ("call", "cost"),
    [
        ({}, 2),
        ({"cost": None, "status_code": 200}, 2),
        ({"cost": 0}, 0),
        ({"cost": 0, "status_code": 429, "error_message": "Too many requests"}, 0),
        ({"cost": 0.5, "status_code": 500}, Decimal("0.5")),
        ({"status_code": 400}, None),
        ({"status_code": 429, "error_message": "Too many requests"}, None),
        ({"status_code": None, "error_message": "Connection refused"}, None),
        ({"status_code": 200, "error_message": "The prompt was refused"}, None),
    ],
    ids=str,
)
def test_the_list_price_stands_in_for_successful_calls_only(
    people: People, db: Connection, call: dict[str, Any], cost: Decimal | None
) -> None:
    provider = f"provider-{uuid4()}"
    queue(people)
    (job,) = claim(people.service)
    with db.transaction(force_rollback=True):
        db.execute(
            "insert into public.api_costs (api_provider, operation_type, cost_per_operation, effective_date)"
            " values (%s, 'upscale', 2, '2026-01-01')",
            (provider,),
        )
        row = fail(people.service, job, p_usage=[{"api_provider": provider} | call])
        (log,) = db.execute("select cost from public.api_usage_logs where operation_id = %s", (job["id"],)).fetchall()
        assert (row["api_cost"], log["cost"]) == (cost, cost)


def test_completing_again_with_the_same_lease_gives_the_same_answer(people: People, db: Connection) -> None:
    queue(people)
    (job,) = claim(people.service)
    assert complete(people.service, job) == complete(people.service, job)
    logs = db.execute("select 1 from public.api_usage_logs where operation_id = %s", (job["id"],)).fetchall()
    assert len(logs) == 1


def test_completions_of_one_lease_at_the_same_time_are_one_completion(
    people: People, db: Connection, db_url: str
) -> None:
    queue(people, 20)
    jobs = claim(people.service, p_limit=20)

    def finish(connection: Connection) -> list[Row]:
        return [complete(people.service.on(connection), job) for job in jobs]

    answers = together(db_url, [finish] * 4)
    assert answers == [answers[0]] * 4
    logs = db.execute(
        "select operation_id from public.api_usage_logs where operation_id = any(%s)", ([job["id"] for job in jobs],)
    ).fetchall()
    assert Counter(log["operation_id"] for log in logs) == {job["id"]: 1 for job in jobs}


@pytest.mark.parametrize(
    "wrong",
    [
        {"p_output": None},
        {"p_output": []},
        {"p_output": {}},
        {"p_output": {"url": "{folder}a.png"}},
        {"p_output": {"url": "{folder}a.png", "thumbnail_url": "results/elsewhere/a.webp"}},
        {"p_output": {"url": "originals/x/a.png", "thumbnail_url": "{folder}a.webp"}},
        {"p_output": {"url": "{folder}../../b/a.png", "thumbnail_url": "{folder}a.webp"}},
        {"p_output": {"url": "{folder}", "thumbnail_url": "{folder}a.webp"}},
        {"p_output": {"url": 5, "thumbnail_url": "{folder}a.webp"}},
        {"p_output": {"url": "{folder}a.png", "thumbnail_url": "{folder}a.webp", "files": {}}},
        {"p_output": {"url": "{folder}a.png", "thumbnail_url": "{folder}a.webp", "files": [{"url": "results/b.png"}]}},
        {"p_output": {"url": "{folder}a.png", "thumbnail_url": "{folder}a.webp", "files": ["{folder}b.png"]}},
        {"p_output": {"url": "{folder}a.png", "thumbnail_url": "{folder}a.webp", "files": [None] * 9}},
        {"p_api_provider": None},
        {"p_api_provider": ""},
        {"p_processing_time": Decimal(-1)},
        {"p_processing_time": Decimal("NaN")},
        {"p_usage": {}},
        {"p_usage": [5]},
        {"p_usage": [{}]},
        {"p_usage": [{"api_provider": "x", "cost": -1}]},
        {"p_usage": [{"api_provider": "x", "cost": "1"}]},
        {"p_usage": [{"api_provider": "x", "cost": 1e300}]},
        {"p_usage": [{"api_provider": "x", "status_code": 1000}]},
        {"p_usage": [{"api_provider": "x", "request_data": []}]},
        {"p_usage": [{"api_provider": "x"}] * 101},
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_bad_result_is_refused_and_the_lease_stays(people: People, db: Connection, wrong: dict[str, Any]) -> None:
    queue(people)
    (job,) = claim(people.service)
    folder = f"results/{job['user_id']}/{job['id']}/"
    output = wrong.get("p_output")
    if isinstance(output, dict):
        wrong = {"p_output": {k: v.format(folder=folder) if isinstance(v, str) else v for k, v in output.items()}}
    with refused("PT400"):
        complete(people.service, job, **wrong)
    assert operation(db, job["id"])["status"] == "processing"
    assert complete(people.service, job)["status"] == "completed"


def test_a_retryable_failure_comes_back_later_each_time(people: People, db: Connection) -> None:
    user, (operation_id,) = queue(people)
    for attempt, (least, most) in enumerate([(2.5, 5), (5, 10)], start=1):
        (job,) = claim(people.service)
        assert job["attempts"] == attempt
        now = server_time(db)
        row = fail(people.service, job)
        assert (row["status"], row["error_message"]) == ("pending", "It broke.")
        assert timedelta(seconds=least) <= row["run_after"] - now <= timedelta(seconds=most + 1)
        assert claim(people.service) == []
        make_due(db)
    (job,) = claim(people.service)
    row = fail(people.service, job)
    assert (row["status"], row["credits_refunded"], row["attempts"]) == ("failed", 1, 3)
    assert people.balance(user) == 3
    assert operation(db, operation_id)["completed_at"] is not None


def test_a_provider_that_says_when_to_come_back_is_heard(people: People, db: Connection) -> None:
    queue(people, 2)
    first, second = claim(people.service, p_limit=2)
    now = server_time(db)
    row = fail(people.service, first, p_retry_after_seconds=300)
    assert timedelta(seconds=299) < row["run_after"] - now < timedelta(seconds=305)
    row = fail(people.service, second, p_retry_after_seconds=10**9)
    assert row["run_after"] - now < timedelta(days=1, seconds=5)


@pytest.mark.parametrize("message", [None, "", "  ", "x" * 5000])
def test_a_failure_with_an_unusable_message_is_recorded_all_the_same(people: People, message: str | None) -> None:
    user, _ = queue(people)
    (job,) = claim(people.service)
    row = fail(people.service, job, retryable=False, p_error_message=message)
    assert row["status"] == "failed"
    assert 0 < len(row["error_message"]) <= 2000
    assert people.balance(user) == 3


def test_a_permanent_failure_refunds_at_once_and_once(people: People) -> None:
    user, _ = queue(people)
    (job,) = claim(people.service)
    assert fail(people.service, job, retryable=False) == fail(people.service, job, retryable=False)
    assert (people.balance(user), refunds(people, user)) == (3, 1)
    with refused("PT409", "Lease lost"):
        complete(people.service, job)


def test_a_released_operation_is_free_at_once_and_loses_no_attempt(people: People) -> None:
    queue(people)
    (job,) = claim(people.service)
    row = people.service.call(RELEASE, **lease(job))
    assert (row["status"], row["attempts"]) == ("pending", 0)
    assert people.service.call(RELEASE, **lease(job)) == row
    (again,) = claim(people.service)
    assert (again["id"], again["attempts"]) == (job["id"], 1)
    assert again["lease_token"] != job["lease_token"]


def test_a_worker_that_lost_its_lease_changes_nothing(people: People, db: Connection) -> None:
    queue(people)
    (stale,) = claim(people.service)
    expire_leases(db)
    (job,) = claim(people.service, p_worker_id="worker-2")
    assert (job["id"], job["attempts"]) == (stale["id"], 2)
    before = operation(db, job["id"])
    attempts = [
        partial(complete, people.service, stale),
        partial(fail, people.service, stale),
        partial(people.service.call, RELEASE, **lease(stale)),
        partial(people.service.call, EXTEND, **lease(stale)),
        partial(people.service.call, EXTEND, p_operation_id=job["id"], p_lease_token=None),
        partial(people.service.call, EXTEND, p_operation_id=None, p_lease_token=uuid4()),
        partial(people.service.call, RELEASE, p_operation_id=uuid4(), p_lease_token=job["lease_token"]),
    ]
    for attempt in attempts:
        with refused("PT409", "Lease lost"):
            attempt()
    assert operation(db, job["id"]) == before


def test_a_lease_that_was_swept_is_lost_before_anybody_claims(people: People, db: Connection) -> None:
    queue(people)
    (job,) = claim(people.service)
    expire_leases(db)
    assert people.service.call(SWEEP) == 1
    for call in (complete, fail):
        with refused("PT409", "Lease lost"):
            call(people.service, job)


def test_a_late_worker_whose_operation_nobody_took_may_still_complete(people: People, db: Connection) -> None:
    queue(people)
    (job,) = claim(people.service)
    expire_leases(db)
    assert complete(people.service, job)["status"] == "completed"


def test_an_operation_that_kills_its_workers_is_given_up_and_refunded_once(people: People, db: Connection) -> None:
    user, (operation_id,) = queue(people)
    for attempt in (1, 2, 3):
        (job,) = claim(people.service)
        assert job["attempts"] == attempt
        expire_leases(db)
    assert claim(people.service) == []
    row = operation(db, operation_id)
    assert (row["status"], row["error_message"]) == (
        "failed",
        "The operation was interrupted 3 times and was given up.",
    )
    assert (people.balance(user), refunds(people, user)) == (3, 1)
    (image,) = user.sql("select processing_status, processing_error from public.images")
    assert (image["processing_status"], image["processing_error"]) == ("failed", row["error_message"])
    assert people.service.call(SWEEP) == 0
    with refused("PT409", "Lease lost"):
        fail(people.service, job)


def test_the_sweep_is_bounded_and_leaves_live_leases_alone(people: People, db: Connection) -> None:
    queue(people, 5)
    jobs = claim(people.service, p_limit=5)
    assert people.service.call(SWEEP) == 0
    expire_leases(db)
    people.service.call(EXTEND, **lease(jobs[0]))
    assert people.service.call(SWEEP, p_limit=3) == 3
    assert people.service.call(SWEEP) == 1
    for wrong in (0, 1001, None):
        with refused("PT400"):
            people.service.call(SWEEP, p_limit=wrong)


def test_claimers_at_once_take_each_operation_once(people: People, db_url: str) -> None:
    waiting = {operation_id for _ in range(3) for operation_id in queue(people, 40)[1]}

    def work(size: int, connection: Connection) -> list[UUID]:
        service, done = people.service.on(connection), []
        while jobs := claim(service, p_limit=size):
            for job in jobs:
                complete(service, job)
                done.append(job["id"])
        return done

    done = together(db_url, [partial(work, size) for size in (1, 1, 1, 1, 2, 3, 5, 7)])
    counts = Counter(job for jobs in done for job in jobs)
    assert counts == Counter(waiting)


def test_completing_while_the_owner_cancels_ends_one_way_only(people: People, db: Connection, db_url: str) -> None:
    user, ids = queue(people, 20)
    jobs = claim(people.service, p_limit=20)

    def race(action: str, connection: Connection) -> int:
        won = 0
        for job in jobs:
            try:
                if action == "complete":
                    complete(people.service.on(connection), job)
                else:
                    user.on(connection).call("cancel_image_operation", p_operation_id=job["id"])
                won += 1
            except psycopg.Error as error:
                assert error.diag.sqlstate == "PT409"
        return won

    wins = together(db_url, [partial(race, action) for action in ("complete", "cancel")])
    assert sum(wins) == 20
    ended = Counter(operation(db, operation_id)["status"] for operation_id in ids)
    assert set(ended) <= {"completed", "cancelled"}
    assert refunds(people, user) == ended["cancelled"]
    assert people.balance(user) == 2 + ended["cancelled"]


def test_cancelling_failing_and_sweeping_at_once_refunds_once(people: People, db: Connection, db_url: str) -> None:
    user, ids = queue(people, 20)
    jobs = claim(people.service, p_limit=20)
    db.execute("update public.image_operations set attempts = max_attempts where status = 'processing'")
    expire_leases(db)

    def race(action: str, connection: Connection) -> None:
        service, owner = people.service.on(connection), user.on(connection)
        for job in jobs:
            try:
                if action == "cancel":
                    owner.call("cancel_image_operation", p_operation_id=job["id"])
                elif action == "fail":
                    fail(service, job, retryable=False)
                else:
                    service.call(SWEEP)
            except psycopg.Error as error:
                assert error.diag.sqlstate == "PT409"

    together(db_url, [partial(race, action) for action in ("cancel", "fail", "sweep", "sweep")])
    assert {operation(db, operation_id)["status"] for operation_id in ids} <= {"failed", "cancelled"}
    assert (refunds(people, user), people.balance(user)) == (20, 22)
    assert people.service.rows("verify_ledger") == []


@pytest.mark.parametrize("slots", [1, 4])
def test_one_job_behind_a_crowd_starts_within_as_many_starts_as_there_are_slots(people: People, slots: int) -> None:
    queue(people, 60)
    running = claim(people.service, p_limit=slots)
    _, (waiting,) = queue(people)
    starts = []
    for job in running:
        complete(people.service, job)
        starts += [started["id"] for started in claim(people.service)]
    assert waiting in starts


@pytest.mark.parametrize("slots", [1, 3])
def test_users_take_turns_however_many_operations_each_has(people: People, slots: int) -> None:
    crowd = [queue(people, count)[0] for count in (30, 10, 3)]
    order: list[UUID] = []
    while jobs := claim(people.service, p_limit=slots):
        for job in jobs:
            order.append(job["user_id"])
            complete(people.service, job)
    # In the first nine starts everybody has three, in the next fourteen the two that are left have seven.
    assert Counter(order[:9]) == {user.id: 3 for user in crowd}
    assert Counter(order[9:23]) == {crowd[0].id: 7, crowd[1].id: 7}


def test_a_user_who_comes_back_does_not_jump_the_queue_again_and_again(people: People) -> None:
    busy, _ = queue(people, 20)
    regular = people.new(credits=30)
    image = people.image(regular)
    order = []
    for _ in range(10):
        request(regular, image)
        for _ in range(2):
            (job,) = claim(people.service)
            order.append(job["user_id"])
            complete(people.service, job)
    assert Counter(order) == {busy.id: 10, regular.id: 10}


def test_paying_plans_start_first_but_a_free_user_does_not_starve(people: People, db: Connection) -> None:
    free, (waiting,) = queue(people)
    queue(people, 40, plan="starter")
    first = claim(people.service, p_limit=5)
    assert waiting not in {job["id"] for job in first}
    for job in first:
        complete(people.service, job)
    db.execute(
        "update public.image_operations set created_at = now() - interval '6 minutes' where user_id = %s", (free.id,)
    )
    starts = []
    for _ in range(35):
        (job,) = claim(people.service)
        complete(people.service, job)
        starts.append(job["id"])
    # One claim in four looks at the free queue first: 35 misses in a row have a chance of 1 in 20,000.
    assert waiting in starts


@pytest.mark.parametrize("most", [4, 6], ids=["at the bound", "beyond it"])
def test_an_account_with_slow_jobs_does_not_hold_every_worker(people: People, most: int) -> None:
    slow, _ = queue(people, 20)
    alone = [claim(people.service)[0] for _ in range(most)]
    assert {job["user_id"] for job in alone} == {slow.id}  # nobody else waits
    quick, _ = queue(people, 20)
    running = list(alone)
    starts = []
    for _ in range(10):
        (job,) = claim(people.service)
        starts.append(job["user_id"])
        if job["user_id"] == quick.id:
            complete(people.service, job)
        else:
            running.append(job)
    assert starts == [quick.id] * 10
    # Below the bound again, the two take turns; and a worker that can serve the slow account only, does.
    for job in running[: most - 3]:
        complete(people.service, job)
    assert slow.id in {job["user_id"] for _ in range(2) for job in claim(people.service)}
    for job in claim(people.service, p_limit=100):
        complete(people.service, job)
    assert claim(people.service) == []


def test_the_bound_on_running_jobs_passes_over_a_types_only_customer(people: People) -> None:
    user, _ = queue(people, 6)
    other = people.new()
    request(other, people.image(other), "vectorize")
    jobs = [job for _ in range(6) for job in claim(people.service, p_operation_types=["upscale"])]
    assert [job["user_id"] for job in jobs] == [user.id] * 6


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_retry_keeps_its_place_and_does_not_pull_newcomers_ahead(
    people: People, db: Connection, is_lost: bool
) -> None:
    queue(people, 10)
    first, *others = claim(people.service, p_limit=6)
    if is_lost:
        expire_leases(db)
        for job in others:
            people.service.call(EXTEND, **lease(job))
        assert people.service.call(SWEEP) == 1
    else:
        fail(people.service, first)
    for job in others:
        complete(people.service, job)
    newcomer, ids = queue(people, 3)
    make_due(db)
    order = [job["id"] for _ in range(4) for job in claim(people.service)]
    assert first["id"] in order
    assert sum(1 for operation_id in order if operation_id in ids) <= 2
    assert newcomer.id is not None


def test_a_claim_waits_for_nobody(people: People, db: Connection, db_url: str) -> None:
    user, _ = queue(people)
    _, (free,) = queue(people)
    done = threading.Event()
    with db.transaction():
        db.execute("select id from public.image_operations where user_id = %s for update", (user.id,))
        db.execute("select id from public.profiles where id = %s for update", (user.id,))

        def take(connection: Connection) -> list[UUID]:
            jobs = claim(people.service.on(connection), p_limit=5)
            done.set()
            return [job["id"] for job in jobs]

        assert together(db_url, [take]) == [[free]]
        assert done.is_set()


def test_a_slow_request_that_writes_an_image_holds_up_no_worker(people: People, db: Connection, db_url: str) -> None:
    user, both = queue(people, 2)
    claim(people.service)
    expire_leases(db)
    (_, (first,)), (_, (second,)) = queue(people), queue(people)

    def work(connection: Connection) -> list[UUID]:
        service = people.service.on(connection)
        connection.execute("set lock_timeout = '5s'")
        assert service.call(SWEEP) == 0
        (job,) = claim(service)
        (following,) = complete_and_claim(service, job)
        complete(service, following)
        return [job["id"], following["id"]]

    with user.acting() as browser:
        browser.execute("update public.images set is_favorite = true where user_id = %s", (user.id,))
        assert together(db_url, [work]) == [[first, second]]
    assert {job["id"] for job in claim(people.service, p_limit=5)} == set(both)


def test_a_claim_that_is_not_committed_yet_holds_only_what_it_took(people: People, db_url: str) -> None:
    waiting = [queue(people)[1][0] for _ in range(5)]

    def take(connection: Connection) -> list[UUID]:
        return [job["id"] for job in claim(people.service.on(connection), p_limit=5)]

    with connect(db_url) as first, people.service.on(first).acting():
        (taken,) = first.execute("select id from public.claim_image_operations('worker-1')").fetchall()
        (others,) = together(db_url, [take])
    assert [taken["id"], *others] == waiting


def test_workers_owners_and_sweeps_at_once_leave_a_sound_ledger(people: People, db: Connection, db_url: str) -> None:
    users = [people.new(credits=40) for _ in range(4)]
    images = {user.id: [people.image(user, f"{n}.png") for n in range(2)] for user in users}
    expected = {"PT402", "PT409"}

    def guarded(call: Any) -> Any:
        try:
            return call()
        except psycopg.Error as error:
            assert error.diag.sqlstate in expected, error
            return None

    def owner(user: Person, connection: Connection) -> None:
        acting = user.on(connection)
        for step in range(25):
            made = guarded(partial(request, acting, images[user.id][step % 2]))
            if made and step % 5 == 0:
                guarded(partial(acting.call, "cancel_image_operation", p_operation_id=made))

    def worker(number: int, connection: Connection) -> None:
        service = people.service.on(connection)
        for step in range(40):
            for job in claim(service, p_limit=1 + number, p_lease_seconds=60):
                if step % 7 == 0:
                    continue  # the worker dies
                if step % 5 == 0:
                    guarded(partial(fail, service, job, retryable=step % 2 == 0))
                else:
                    guarded(partial(complete, service, job))
            if step % 6 == 0:
                expire_leases(connection)
                make_due(connection)

    tasks = [partial(owner, user) for user in users] + [partial(worker, number) for number in range(3)]
    together(db_url, tasks)
    for _ in range(40):
        expire_leases(db)
        make_due(db)
        jobs = claim(people.service, p_limit=50)
        for job in jobs:
            complete(people.service, job)
        if not jobs:
            break

    for user in users:
        rows = user.sql("select status, credits_used, credits_refunded from public.image_operations")
        assert {row["status"] for row in rows} <= {"completed", "failed", "cancelled"}
        spent = sum(row["credits_used"] - row["credits_refunded"] for row in rows)
        assert people.balance(user) == 40 - spent
        assert all((row["credits_refunded"] == 0) == (row["status"] == "completed") for row in rows)
    assert people.service.rows("verify_ledger") == []
