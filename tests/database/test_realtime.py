"""What Realtime tells whom: the published tables, and the topic of each user."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.database.personas import Connection, People, Person

PUBLISHED = {"profiles", "images", "image_operations", "credit_transactions"}


@pytest.fixture
def telling(db: Connection) -> Iterator[None]:
    """A project that has chosen to tell users on their topics."""
    db.execute("select private.broadcast_to_users(true)")
    yield
    db.execute("select private.broadcast_to_users(false)")


def told(db: Connection, person: Person) -> list[tuple[Any, ...]]:
    """What was sent on a person's topic, oldest first: table, operation, id of the row."""
    rows = db.execute(
        "select event, payload, private from realtime.messages where topic = %s order by inserted_at",
        (f"user:{person.id}",),
    ).fetchall()
    assert all(row["private"] and row["event"] == row["payload"]["table"] for row in rows)
    assert all(set(row["payload"]) == {"table", "operation", "record_id", "id"} for row in rows)
    return [(row["payload"]["table"], row["payload"]["operation"], row["payload"]["record_id"]) for row in rows]


def forget(db: Connection) -> None:
    db.execute("delete from realtime.messages")


def test_four_tables_are_published(db: Connection) -> None:
    rows = db.execute("select tablename from pg_publication_tables where pubname = 'supabase_realtime'").fetchall()
    assert {row["tablename"] for row in rows} == PUBLISHED


def test_a_delete_gives_away_a_random_id_and_nothing_else(db: Connection) -> None:
    """Subscribers of every kind learn the replica identity of a deleted row."""
    rows = db.execute(
        "select c.relname, c.relreplident, a.attname, a.atttypid::regtype::text as type, a.attnum, c.relrowsecurity"
        " from pg_class as c join pg_index as i on i.indrelid = c.oid and i.indisprimary"
        " join pg_attribute as a on a.attrelid = c.oid and a.attnum = any (i.indkey)"
        " where c.relnamespace = 'public'::regnamespace and c.relname = any (%s)",
        (list(PUBLISHED),),
    ).fetchall()
    assert len(rows) == len(PUBLISHED)
    assert {(row["relreplident"], row["attname"], row["type"], row["relrowsecurity"]) for row in rows} == {
        ("d", "id", "uuid", True)
    }


def test_users_are_told_on_their_topics_only_where_the_project_chose_it(db: Connection, people: People) -> None:
    person = people.new()
    forget(db)
    people.image(person)
    people.service.call("add_user_credits", p_user_id=person.id, p_amount=5, p_transaction_type="purchase")
    assert told(db, person) == []


@pytest.mark.usefixtures("telling")
def test_a_user_is_told_of_his_operations(db: Connection, people: People, empty_queue: None) -> None:
    person = people.new(credits=5)
    image = people.image(person)
    forget(db)
    arguments = {"p_image_id": image, "p_operation_type": "upscale", "p_options": {}}
    operation = person.call("request_image_operation", **arguments)["id"]
    assert told(db, person) == [("image_operations", "INSERT", str(operation))]
    people.service.rows("claim_image_operations", p_worker_id="w", p_limit=1, p_operation_types=["upscale"])
    assert told(db, person)[1:] == [("image_operations", "UPDATE", str(operation))]


@pytest.mark.usefixtures("telling")
def test_a_user_is_told_of_credits_that_he_gets_and_of_his_account(db: Connection, people: People) -> None:
    person = people.new()
    forget(db)
    people.service.call("add_user_credits", p_user_id=person.id, p_amount=5, p_transaction_type="purchase")
    people.service.call("deduct_user_credits", p_user_id=person.id, p_amount=1, p_transaction_type="usage")
    (entry,) = told(db, person)
    assert entry[:2] == ("credit_transactions", "INSERT")
    forget(db)
    person.sql("update public.profiles set first_name = 'Ada' where id = auth.uid()")
    assert told(db, person) == [("profiles", "UPDATE", str(person.id))]


@pytest.mark.usefixtures("telling")
def test_a_user_is_told_of_his_images(db: Connection, people: People) -> None:
    person = people.new()
    forget(db)
    image = people.image(person)
    person.sql("update public.images set is_favorite = true where id = %s", image)
    person.sql("delete from public.images where id = %s", image)
    assert told(db, person) == [("images", operation, str(image)) for operation in ("INSERT", "UPDATE", "DELETE")]


@pytest.fixture
def probe(people: People) -> Person:
    """Somebody whose topic others are curious about."""
    return people.new()


def reads(person: Person, topic: str, extension: str = "broadcast") -> bool:
    """Whether Realtime would let a person listen: it inserts a row for the topic, and looks whether he sees it."""
    with person.connection.transaction(force_rollback=True):
        person.connection.execute(
            "insert into realtime.messages (topic, extension) values (%s, %s)", (topic, extension)
        )
        person.connection.execute("select set_config('realtime.topic', %s, true)", (topic,))
        with person.trying() as connection:
            return bool(connection.execute("select from realtime.messages where extension = %s", (extension,)).rowcount)


def test_users_listen_to_their_own_topic_and_to_no_other(people: People, probe: Person) -> None:
    stranger = people.new()
    assert reads(probe, f"user:{probe.id}")
    assert not reads(probe, f"user:{probe.id}", "presence")
    assert not reads(probe, f"user:{stranger.id}")
    assert not reads(probe, "user:")
    assert not reads(probe, "anything")
    assert not reads(people.anon, f"user:{probe.id}")
    assert not reads(people.anon, "user:")


def test_nobody_but_the_database_sends_there(people: People, probe: Person) -> None:
    for person in (probe, people.anon):
        with person.trying() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "insert into realtime.messages (topic, extension) values (%s, 'broadcast')", (f"user:{probe.id}",)
            )


@pytest.mark.usefixtures("telling")
def test_what_cannot_be_told_fails_nothing(db: Connection, people: People) -> None:
    person = people.new()
    with db.transaction(force_rollback=True):
        db.execute("alter table realtime.messages add constraint closed check (false) not valid")
        people.image(person)
