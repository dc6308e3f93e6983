"""Which stored objects nothing needs any more."""

from typing import Any
from uuid import uuid4

import pytest

from tests.database.personas import Connection, People, Row, refused

pytestmark = pytest.mark.usefixtures("empty_queue")


def _store(db: Connection, url: str, *, days: int = 2) -> None:
    bucket, _, name = url.partition("/")
    # Inside a transaction, the last person's role would still be on.
    db.execute("reset role")
    db.execute(
        "insert into storage.objects (bucket_id, name, created_at) values (%s, %s, now() - make_interval(days => %s))",
        (bucket, name, days),
    )


def _orphans(people: People, owner: Any) -> set[str]:
    rows = people.service.rows("orphaned_storage_objects", p_limit=1000)
    return {f"{row['bucket_id']}/{row['name']}" for row in rows if str(owner) in row["name"]}


def _claim(people: People) -> tuple[Row, str]:
    (job,) = people.service.rows("claim_image_operations", p_worker_id="test")
    return job, f"results/{job['user_id']}/{job['id']}/{job['lease_token']}"


def test_what_no_row_names_is_an_orphan_once_it_is_a_day_old(people: People, db: Connection) -> None:
    user = people.new()
    with db.transaction(force_rollback=True):
        image = people.image(user)
        _store(db, f"originals/{user.id}/shirt.png")
        _store(db, f"originals/{user.id}/forgotten.png")
        _store(db, f"originals/{user.id}/uploading.png", days=0)
        _store(db, f"results/{user.id}/{uuid4()}/gone.png")
        _store(db, f"results/{user.id}/{uuid4()}/new.png", days=0)
        _store(db, f"results/{user.id}/put-here-by-hand.png")
        _store(db, f"avatars/{user.id}/me.png")
        found = _orphans(people, user.id)
        assert {url.rpartition("/")[2] for url in found} == {"forgotten.png", "gone.png"}
        user.sql("delete from public.images where id = %s", image)
        assert f"originals/{user.id}/shirt.png" in _orphans(people, user.id)
        assert len(people.service.rows("orphaned_storage_objects", p_limit=1)) == 1


def test_files_of_an_operation_stay_while_it_may_need_them(people: People, db: Connection) -> None:
    user = people.new()
    with db.transaction(force_rollback=True):
        image = people.image(user)
        user.call("request_image_operation", p_image_id=image, p_operation_type="upscale")
        job, first = _claim(people)
        _store(db, f"{first}.png")
        people.service.call("release_image_operation", p_operation_id=job["id"], p_lease_token=job["lease_token"])
        assert _orphans(people, user.id) == set()
        job, second = _claim(people)
        _store(db, f"{second}.png")
        _store(db, f"{second}.thumb.webp")
        _store(db, f"{second}.white.png")
        assert _orphans(people, user.id) == set()
        people.service.call(
            "complete_image_operation",
            p_operation_id=job["id"],
            p_lease_token=job["lease_token"],
            p_api_provider="waifu2x",
            p_output={
                "url": f"{second}.png",
                "thumbnail_url": f"{second}.thumb.webp",
                "files": [{"url": f"{second}.white.png"}],
            },
            p_processing_time=None,
        )
        assert _orphans(people, user.id) == {f"{first}.png"}
        user.sql("delete from public.images where id = %s", image)
        assert _orphans(people, user.id) == {
            f"{first}.png", f"{second}.png", f"{second}.thumb.webp", f"{second}.white.png"
        }  # fmt: skip


@pytest.mark.parametrize("limit", [0, 1001, None])
def test_a_limit_out_of_range_is_refused(people: People, limit: int | None) -> None:
    with refused("PT400", "limit"):
        people.service.rows("orphaned_storage_objects", p_limit=limit)
