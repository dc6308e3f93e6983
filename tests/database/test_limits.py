"""How much one account may hold, and that the bound holds under racing inserts."""

from functools import partial
from uuid import uuid4

import psycopg
import pytest

from tests.database.personas import Connection, People, Person, refused, together

IMAGES = "insert into public.images (user_id, original_filename) select %s, 'a.png' from generate_series(1, %s)"
COLLECTIONS = "insert into public.image_collections (user_id, name) select %s, 'x' from generate_series(1, %s)"


@pytest.mark.parametrize(
    ("table", "insert", "limit"),
    [("images", IMAGES, 10_000), ("image_collections", COLLECTIONS, 200)],
    ids=["images", "collections"],
)
def test_an_account_holds_a_bounded_number(people: People, db: Connection, table: str, insert: str, limit: int) -> None:
    user, other = people.new(), people.new()
    with db.transaction(force_rollback=True):
        with refused("PT429", f"The limit of {limit} "), user.acting() as connection:
            connection.execute(insert, (user.id, limit + 1))
        with user.acting() as connection:
            connection.execute(insert, (user.id, limit))
        with refused("PT429"), user.acting() as connection:
            connection.execute(insert, (user.id, 1))
        with other.acting() as connection:
            connection.execute(insert, (other.id, 1))
        if insert == IMAGES:
            with refused("PT429"):
                user.call(
                    "request_image_operation",
                    p_image_id=None,
                    p_operation_type="generate",
                    p_options={"prompt": "x"},
                )
            assert user.sql("select credits_remaining from public.profiles") == [{"credits_remaining": 2}]
        with user.acting() as connection:
            connection.execute(f"delete from public.{table}")
            connection.execute(insert, (user.id, 1))


def test_a_collection_holds_a_bounded_number_of_images(people: People, db: Connection) -> None:
    user = people.new()
    items = (
        "insert into public.image_collection_items (collection_id, image_id)"
        " select c.id, i.id from public.image_collections as c,"
        " (select id from public.images order by id limit %s offset %s) as i where c.name = %s"
    )
    with db.transaction(force_rollback=True):
        with user.acting() as connection:
            connection.execute(IMAGES, (user.id, 2_001))
            connection.execute("insert into public.image_collections (name) values ('a'), ('b')")
            connection.execute(items, (2_000, 0, "a"))
            connection.execute(items, (2_000, 0, "b"))
        with refused("PT429", "limit of 2000 images in a collection"), user.acting() as connection:
            connection.execute(items, (1, 2_000, "a"))


def test_racing_inserts_do_not_pass_the_bound(people: People, db: Connection, db_url: str) -> None:
    user = people.new()
    db.execute(COLLECTIONS, (user.id, 190))

    def add(person: Person, connection: Connection) -> int:
        added = 0
        for _ in range(5):
            try:
                person.on(connection).sql(COLLECTIONS, person.id, 1)
                added += 1
            except psycopg.Error as error:
                assert error.diag.sqlstate == "PT429"
        return added

    assert sum(together(db_url, [partial(add, user)] * 6)) == 10
    mine = user.sql("select count(*) from public.image_collections where user_id = %s", user.id)
    assert mine == [{"count": 200}]


def test_every_function_that_is_called_again_and_again_bounds_one_call(people: People, db: Connection) -> None:
    functions = db.execute(
        "select proname as name, proargnames as arguments from pg_proc"
        " where pronamespace = 'public'::regnamespace and 'p_limit' = any (proargnames)"
    ).fetchall()
    needed = {"p_worker_id": "worker-1", "p_claim_id": uuid4(), "p_before": "2000-01-01"}
    assert len(functions) > 10
    for function in functions:
        others = {name: value for name, value in needed.items() if name in function["arguments"]}
        for limit in (None, -1, 0, 1_000_000):
            with refused("PT400", "The limit must be between 1 and "):
                people.service.rows(function["name"], p_limit=limit, **others)
