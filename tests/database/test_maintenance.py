"""What a clock calls: expired images, snapshots, old logs."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.database.personas import Connection, People, Person, Row, refused, together
from tests.e2e.manual import manual

pytestmark = pytest.mark.usefixtures("empty_queue")


def expire(db: Connection, *images: UUID) -> None:
    db.execute("reset role")  # inside a transaction, the last person's would still be on
    db.execute("update public.images set expires_at = now() - interval '1 second' where id = any(%s)", (list(images),))


def store(db: Connection, *keys: str) -> None:
    db.execute("reset role")
    for key in keys:
        db.execute("insert into storage.objects (bucket_id, name) values (%s, %s)", tuple(key.split("/", 1)))


def lose_objects(db: Connection, owner: Person) -> None:
    """What the Storage API does; bytes there are none in these tests."""
    db.execute("reset role")
    db.execute("set local storage.allow_delete_query = 'true'")
    db.execute("delete from storage.objects where name like %s", (f"{owner.id}/%",))


def sweep(people: People) -> dict[UUID, set[str]]:
    return {row["image_id"]: set(row["object_keys"]) for row in people.service.rows("delete_expired_images")}


def is_there(db: Connection, image: UUID) -> bool:
    db.execute("reset role")
    return db.execute("select from public.images where id = %s", (image,)).fetchone() is not None


def complete(people: People, job: Row) -> list[str]:
    folder = f"results/{job['user_id']}/{job['id']}"
    urls = {"url": f"{folder}/result.png", "thumbnail_url": f"{folder}/thumb.webp"}
    white = f"{folder}/white.png"
    people.service.call(
        "complete_image_operation",
        p_operation_id=job["id"],
        p_lease_token=job["lease_token"],
        p_api_provider="waifu2x",
        p_output=urls | {"files": [{"url": white}]},
        p_processing_time=None,
    )
    return [*urls.values(), white]


def test_an_expired_image_goes_after_its_objects(people: People, db: Connection) -> None:
    user = people.new()
    with db.transaction(force_rollback=True):
        image, kept = people.image(user), people.image(user, "kept.png")
        user.call("request_image_operation", p_image_id=image, p_operation_type="upscale")
        (job,) = people.service.rows("claim_image_operations", p_worker_id="test")
        results = complete(people, job)
        original = f"originals/{user.id}/shirt.png"
        store(db, original, *results, f"originals/{user.id}/kept.png")
        assert sweep(people) == {}, "no time is over"
        expire(db, image)
        for _ in range(2):  # until the objects are gone, every call says the same
            assert sweep(people) == {image: {original, *results}}
        assert is_there(db, image)
        lose_objects(db, user)
        assert sweep(people) == {image: set()}
        assert not is_there(db, image)
        assert is_there(db, kept)
        assert sweep(people) == {}


@pytest.mark.parametrize("status", ["pending", "processing"])
def test_an_image_in_work_stays_until_the_work_is_done(people: People, db: Connection, status: str) -> None:
    user = people.new()
    with db.transaction(force_rollback=True):
        image = people.image(user)
        user.call("request_image_operation", p_image_id=image, p_operation_type="upscale")
        if status == "processing":
            people.service.rows("claim_image_operations", p_worker_id="test")
        expire(db, image)
        assert sweep(people) == {}
        operation = user.sql("select id from public.image_operations where image_id = %s", image)[0]["id"]
        user.call("cancel_image_operation", p_operation_id=operation)
        assert sweep(people) == {image: set()}


def test_an_expired_image_takes_no_request(people: People, db: Connection) -> None:
    user = people.new()
    with db.transaction(force_rollback=True):
        image = people.image(user)
        expire(db, image)
        with refused("PT410", "The image has expired"):
            user.call("request_image_operation", p_image_id=image, p_operation_type="upscale")
        db.execute("reset role")
        assert people.balance(user) == 2


def test_an_upload_of_two_images_stays_for_the_other(people: People, db: Connection) -> None:
    user = people.new()
    with db.transaction(force_rollback=True):
        first, second = people.image(user), people.image(user)
        store(db, f"originals/{user.id}/shirt.png")
        expire(db, first)
        assert sweep(people) == {first: set()}
        expire(db, second)
        assert sweep(people) == {second: {f"originals/{user.id}/shirt.png"}}


def test_sweeps_at_once_neither_wait_nor_take_the_same_image(people: People, db: Connection, db_url: str) -> None:
    user = people.new()
    images = [people.image(user, f"{number}.png") for number in range(40)]
    expire(db, *images)

    def sweep_all(connection: Connection) -> list[UUID]:
        gone: list[UUID] = []
        while rows := people.service.on(connection).rows("delete_expired_images", p_limit=5):
            gone += [row["image_id"] for row in rows]
        return gone

    gone = [image for part in together(db_url, [sweep_all] * 4) for image in part]
    # One that finds everything locked stops early; the next sweep takes the rest.
    gone += sweep(people)
    assert sorted(gone) == sorted(images)


def snapshot(db: Connection) -> dict[str, Any]:
    rows = db.execute(
        "select metric_name, metric_value from public.system_metrics"
        " where recorded_at = (select max(recorded_at) from public.system_metrics)"
    ).fetchall()
    return {row["metric_name"]: row["metric_value"] for row in rows}


def test_a_snapshot_tells_of_the_queue_the_outbox_the_accounts_and_the_credits(people: People, db: Connection) -> None:
    user = people.new(credits=10)
    with db.transaction(force_rollback=True):
        db.execute("delete from public.system_metrics")
        for _ in range(2):
            user.call(
                "request_image_operation", p_image_id=people.image(user), p_operation_type="upscale", p_options={}
            )
        people.service.rows("claim_image_operations", p_worker_id="test")
        db.execute("reset role")
        db.execute("update public.image_operations set run_after = now() - interval '1 minute' where status='pending'")
        db.execute(
            "update public.image_operations set lease_expires_at = now() - interval '1 s' where status = 'processing'"
        )
        db.execute("delete from public.email_logs where status in ('queued', 'unknown')")
        db.execute(
            "insert into public.email_logs (user_id, template_id, recipient, status, sent_at, next_attempt_at)"
            " select %s, id, %s, 'queued', null, now() - interval '2 minutes' from public.email_templates limit 1",
            (user.id, user.email),
        )
        assert people.service.call("record_system_metrics") == 11
        db.execute("reset role")
        found = snapshot(db)
        totals = db.execute(
            "select count(*) as accounts, sum(credits_remaining) as credits, sum(credit_debt) as debt"
            " from public.profiles"
        ).fetchone()
        assert totals is not None
        assert found == {
            "queue_waiting": 1,
            "queue_oldest_wait": 60,
            "queue_running": 1,
            "queue_lost": 1,
            "emails_waiting": 1,
            "emails_oldest_wait": 120,
            "emails_unknown": 0,
            "accounts": totals["accounts"],
            "accounts_active_30_days": found["accounts_active_30_days"],
            "credits_outstanding": totals["credits"],
            "credits_owed": totals["debt"],
        }
        assert 0 < found["accounts_active_30_days"] <= totals["accounts"]


def test_a_minute_has_one_snapshot(people: People, db: Connection, db_url: str) -> None:
    together(db_url, [lambda connection: people.service.on(connection).call("record_system_metrics")] * 4)
    doubles = db.execute(
        "select from public.system_metrics group by metric_name, recorded_at having count(*) > 1"
    ).fetchall()
    assert doubles == []


def test_old_logs_go_in_batches(people: People, db: Connection) -> None:
    user = people.new()
    before = datetime.now(UTC) - timedelta(days=400)
    with db.transaction(force_rollback=True):
        db.execute("delete from public.system_metrics where recorded_at < %s", (before,))
        db.execute(
            "insert into public.user_activity_logs (user_id, activity_type, created_at)"
            " select %s, 'upload', now() - make_interval(days => 397 + n) from generate_series(1, 6) as n",
            (user.id,),
        )
        db.execute(
            "insert into public.system_metrics (metric_name, metric_value, recorded_at)"
            " select 'accounts', 1, now() - make_interval(days => 397 + n) from generate_series(1, 6) as n"
        )
        counts = [people.service.call("prune_logs", p_before=before, p_limit=4) for _ in range(3)]
        assert counts == [4, 2, 0]
        db.execute("reset role")
        left = db.execute(
            "select count(*) as rows from public.user_activity_logs where user_id = %s and activity_type = 'upload'",
            (user.id,),
        ).fetchone()
        assert left == {"rows": 3}


def test_pg_cron_can_run_what_the_manual_schedules(db: Connection) -> None:
    (schedules,) = [block for block in re.findall(r"```sql\n(.*?)```", manual(), re.DOTALL) if "cron.schedule" in block]
    with db.transaction(force_rollback=True):
        db.execute("create schema cron")
        db.execute("create table cron.job (jobname text, schedule text, command text)")
        db.execute(  # pg_cron itself is on none of these servers
            "create function cron.schedule(text, text, text) returns void"
            " language sql as 'insert into cron.job values ($1, $2, $3)'"
        )
        db.execute(schedules)
        jobs = db.execute("select jobname, command from cron.job").fetchall()
        assert len(jobs) == schedules.count("cron.schedule")
        for job in jobs:
            db.execute(job["command"])


@pytest.mark.parametrize(("age", "limit"), [(29, 100), (400, 0), (400, 10001), (400, None), (None, 100)])
def test_young_logs_and_odd_limits_are_refused(people: People, age: int | None, limit: int | None) -> None:
    with refused("PT400"):
        people.service.call("prune_logs", p_before=age and datetime.now(UTC) - timedelta(days=age), p_limit=limit)


@pytest.mark.parametrize("limit", [0, 101, None])
def test_a_limit_out_of_range_is_refused(people: People, limit: int | None) -> None:
    with refused("PT400", "limit"):
        people.service.rows("delete_expired_images", p_limit=limit)
