"""What users did leaves a row, with where it came from; what others did for them does not."""

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.database.personas import Connection, People, Person


def activities(db: Connection, person: Person) -> list[dict[str, Any]]:
    return db.execute(
        "select * from public.user_activity_logs where user_id = %s order by created_at, activity_type", (person.id,)
    ).fetchall()


def test_a_sign_up_and_each_upload_and_download_are_logged(people: People, db: Connection) -> None:
    user = people.new()
    image = people.image(user)
    user.call("record_image_download", p_image_id=image)
    logged = [(row["activity_type"], row["activity_data"].get("image_id")) for row in activities(db, user)]
    assert logged == [("sign_up", None), ("upload", str(image)), ("download", str(image))]


def test_many_uploads_at_once_are_one_entry(people: People, db: Connection) -> None:
    # Or whoever inserts and deletes 10,000 of them in turn fills the log, which keeps them.
    user = people.new()
    insert = "insert into public.images (original_filename, original_url)"
    user.sql(f"{insert} select 'a.png', %s || n from generate_series(1, 3) as n", f"originals/{user.id}/")
    logged = [(row["activity_type"], row["activity_data"]) for row in activities(db, user)]
    assert logged[1:] == [("upload", {"images": 3})]


def test_what_a_service_or_an_admin_puts_in_is_not_the_users_upload(people: People, db: Connection) -> None:
    user, admin = people.new(), people.new(is_admin=True)
    insert = "insert into public.images (user_id, original_filename, original_url) values (%s, 'a.png', %s)"
    for somebody in (people.service, admin):
        somebody.sql(insert, user.id, f"originals/{user.id}/a.png")
    user.sql("insert into public.images (original_filename) values ('nothing uploaded yet.png')")
    for person in (user, admin):
        assert [row["activity_type"] for row in activities(db, person)] == ["sign_up"]


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"cf-connecting-ip": "203.0.113.7", "x-forwarded-for": "10.0.0.1"}, "203.0.113.7"),
        ({"x-forwarded-for": " 2001:db8::1 , 10.0.0.1"}, "2001:db8::1"),
        ({"x-forwarded-for": "203.0.113.0/24"}, None),
        ({"x-forwarded-for": "999.1.1.1"}, None),
        ({"x-forwarded-for": "'; drop table images; --"}, None),
        ({"x-forwarded-for": ""}, None),
        ({}, None),
    ],
)
def test_where_it_came_from_is_taken_from_the_headers(
    people: People, db: Connection, headers: dict[str, str], address: str | None
) -> None:
    user = people.new()
    image = people.image(user)
    with user.acting() as connection:
        agent = {"user-agent": "browser " * 200}
        connection.execute("select set_config('request.headers', %s, true)", (json.dumps(headers | agent),))
        connection.execute("select public.record_image_download(%s)", (image,))
    row = activities(db, user)[-1]
    assert (str(row["ip_address"]) if row["ip_address"] else None) == address
    assert len(row["user_agent"]) == 500


@pytest.mark.parametrize("headers", ["", "no json", "[1]", '"text"', '{"user-agent": "\\u0000"}'])
def test_headers_that_cannot_be_read_refuse_nothing(people: People, db: Connection, headers: str) -> None:
    user = people.new()
    image = people.image(user)
    with user.acting() as connection:
        connection.execute("select set_config('request.headers', %s, true)", (headers,))
        connection.execute("select public.record_image_download(%s)", (image,))
    row = activities(db, user)[-1]
    assert (row["activity_type"], row["ip_address"], row["user_agent"]) == ("download", None, None)


def test_the_last_activity_moves_at_most_once_an_hour(people: People, db: Connection) -> None:
    user = people.new()
    image = people.image(user)

    def last_activity_after_a_download(seconds_ago: int) -> float:
        db.execute(
            "update public.profiles set last_activity_at = now() - make_interval(secs => %s) where id = %s",
            (seconds_ago, user.id),
        )
        user.call("record_image_download", p_image_id=image)
        (row,) = user.sql("select extract(epoch from now() - last_activity_at)::float as age from public.profiles")
        return float(row["age"])

    assert last_activity_after_a_download(3500) > 3400
    assert last_activity_after_a_download(3700) < 60


def test_a_user_reads_his_own_activity_only(people: People) -> None:
    user, other = people.new(), people.new()
    query = "select distinct user_id from public.user_activity_logs where user_id = any(%s)"
    both = [user.id, other.id]
    assert [row["user_id"] for row in user.sql(query, both)] == [user.id]
    assert len(people.new(is_admin=True).sql(query, both)) == 2
    assert user.sql(query, [uuid4()]) == []
