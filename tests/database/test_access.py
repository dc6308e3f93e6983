"""Who may do what with whose row: every table, every persona, every action, allowed and refused."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.database.personas import Connection, People, Person, refused

PERSONAS = ("anon", "owner", "stranger", "inactive", "admin", "service")
ACTIONS = ("select", "insert", "update", "delete")

# One word for each persona in the order above, one letter for each of select, insert, update, delete on a row that
# belongs to the owner: y done, 0 allowed but the row is out of sight, - refused.
# `update` writes the first column that the persona's role may write; `-` where there is none.
MATRIX = {
    #                           anon   owner  stranger inactive admin service
    "profiles": "               ----   y-y-   0-0-     0-0-     y-y-  y-y-",
    "subscription_plans": "     y---   y-00   y-00     y-00     yyyy  yyyy",
    "pay_as_you_go_packages": " y---   y-00   y-00     y-00     yyyy  yyyy",
    "operation_prices": "       y---   y-00   y-00     y-00     yyyy  y-yy",
    "credit_transactions": "    ----   y---   0---     0---     y---  y---",
    "credit_grants": "          ----   y---   0---     0---     y---  y---",
    "credit_allocations": "     ----   0---   0---     0---     y---  y---",
    "credit_clawbacks": "       ----   y---   0---     0---     y---  y---",
    "closed_account_totals": "  ----   0---   0---     0---     y---  y---",
    "subscription_history": "   ----   y---   0---     0---     y---  yyy-",
    "images": "                 ----   yyyy   0-00     0-00     yyyy  yyyy",
    "image_operations": "       ----   y---   0---     0---     y---  y---",
    "image_collections": "      0---   yyyy   0-00     0-00     yyyy  yyyy",
    "image_collection_items": " 0---   yy-y   0--0     0--0     yy-y  yyyy",
    "api_costs": "              ----   0-00   0-00     0-00     yyyy  yyyy",
    "api_usage_logs": "         ----   0---   0---     0---     y---  yy--",
    "admin_logs": "             ----   0---   0---     0---     y---  yy--",
    "system_metrics": "         ----   0---   0---     0---     y---  yy-y",
    "user_activity_logs": "     ----   y---   0---     0---     y---  yy-y",
    "email_templates": "        ----   0-00   0-00     0-00     yyyy  yyyy",
    "email_campaigns": "        ----   0-00   0-00     0-00     yyyy  yyyy",
    "email_logs": "             ----   y---   0---     0---     y---  yyy-",
}


@dataclass(frozen=True)
class World:
    """The personas, and one row of each table that belongs to the owner."""

    personas: dict[str, Person]
    rows: dict[str, UUID | str]
    columns: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def world(people: People, db: Connection) -> Iterator[World]:
    """One row in each table, written by the table's owner; what has no user is removed again."""
    owner = people.new(credits=10)
    image = people.image(owner)
    operation = owner.call("request_image_operation", p_image_id=image, p_operation_type="upscale")
    other_image = people.image(owner, "other.png")
    word = str(uuid4())
    columns: dict[str, dict[str, Any]] = {
        "profiles": {"id": uuid4(), "email": f"{word}@example.test"},
        "subscription_plans": {"name": word},
        "pay_as_you_go_packages": {"name": word, "credits": 1, "price": 1},
        "operation_prices": {"operation_type": "upscale", "credits": 1},
        "credit_transactions": {
            "user_id": owner.id, "seq": 99, "transaction_type": "bonus",
            "amount": 1, "balance_before": 8, "balance_after": 9,
        },
        "credit_grants": {"user_id": owner.id, "seq": 1, "source": "bonus", "amount": 1, "remaining": 0},
        "credit_allocations": {"amount": -1},
        "credit_clawbacks": {"user_id": owner.id, "amount": 1, "owed": 0, "reason": word},
        "closed_account_totals": {"month": "2020-01-01", "transaction_type": word},
        "subscription_history": {"user_id": owner.id, "status": "active", "started_at": "2026-01-01"},
        "images": {"user_id": owner.id, "original_filename": "a.png", "original_url": f"originals/{owner.id}/a.png"},
        "image_operations": {"image_id": image, "user_id": owner.id, "operation_type": "upscale"},
        "image_collections": {"user_id": owner.id, "name": word},
        "image_collection_items": {},
        "api_costs": {
            "api_provider": word, "operation_type": "upscale", "cost_per_operation": 1, "effective_date": "2026-01-01",
        },
        "api_usage_logs": {"user_id": owner.id, "api_provider": word, "operation_type": "upscale"},
        "admin_logs": {"admin_user_id": owner.id, "action": word},
        "system_metrics": {"metric_name": word},
        "user_activity_logs": {"user_id": owner.id, "activity_type": word},
        "email_templates": {"name": word, "subject": "x", "html_content": "x"},
        "email_campaigns": {"name": word},
        "email_logs": {"user_id": owner.id, "status": "sent"},
    }  # fmt: skip
    rows: dict[str, UUID | str] = {"profiles": cast("UUID", owner.id), "operation_prices": "upscale"}
    rows |= {"images": image, "image_operations": operation["id"]}
    rows["credit_transactions"] = people.ledger(owner)[0]["id"]
    (grant,) = owner.sql("select * from public.credit_grants where amount = 8")
    clawback = people.service.call("clawback_credits", p_grant_id=grant["id"], p_amount=1, p_reason="Money back")
    rows |= {"credit_grants": grant["id"], "credit_clawbacks": clawback["id"]}
    rows["credit_allocations"] = people.ledger(owner)[-1]["id"]
    for table, values in columns.items():
        if table == "image_collection_items":
            values |= {"collection_id": rows["image_collections"], "image_id": image}
        if table not in rows:
            rows[table] = _insert(db, table, values)[0][_key(table)]
    # What the personas try to insert must not collide with the row that is there.
    columns["image_collection_items"]["image_id"] = other_image
    for table in ("subscription_plans", "email_templates"):
        columns[table]["name"] = str(uuid4())
    columns["api_costs"]["api_provider"] = str(uuid4())
    owner.call("cancel_image_operation", p_operation_id=operation["id"])

    yield World(
        {
            "anon": people.anon,
            "owner": owner,
            "stranger": people.new(),
            "inactive": people.new(is_active=False),
            "admin": people.new(is_admin=True),
            "service": people.service,
        },
        rows,
        columns,
    )
    for table in (
        "subscription_plans", "pay_as_you_go_packages", "api_costs", "admin_logs", "system_metrics",
        "email_logs", "email_campaigns", "email_templates", "closed_account_totals",
    ):  # fmt: skip
        db.execute(f"delete from public.{table} where id = %s", (rows[table],))


def _insert(connection: Connection, table: str, values: dict[str, Any], returning: str = "returning *") -> list[Any]:
    names, places = ", ".join(values), ", ".join(["%s"] * len(values))
    statement = f"insert into public.{table} ({names}) values ({places}) {returning}"
    cursor = connection.execute(statement, list(values.values()))
    return cursor.fetchall() if returning else [None] * cursor.rowcount


def _key(table: str) -> str:
    return {"operation_prices": "operation_type", "credit_allocations": "transaction_id"}.get(table, "id")


def _writable_column(connection: Connection, person: Person, table: str) -> str:
    row = connection.execute(
        "select column_name as name from information_schema.column_privileges where table_schema = 'public'"
        " and table_name = %s and grantee = %s and privilege_type = 'UPDATE' and column_name <> 'final_url'"
        " order by column_name limit 1",
        (table, person.role),
    ).fetchone()
    return str(row["name"]) if row else _key(table)


def _attempt(connection: Connection, world: World, person: Person, table: str, action: str) -> str:
    key = _key(table)
    if action == "insert":
        values = world.columns[table]
        try:
            with person.trying():
                return "y" if _insert(connection, table, values, returning="") else "0"
        except psycopg.errors.InsufficientPrivilege:
            return "-"
        except psycopg.errors.UniqueViolation:
            return "y" if person.role != "service_role" else "-"
    column = _writable_column(connection, person, table)
    statement = {
        "select": f"select 1 from public.{table} where {key} = %s",
        "update": f"update public.{table} set {column} = {column} where {key} = %s",
        "delete": f"delete from public.{table} where {key} = %s",
    }[action]
    try:
        with person.trying():
            count = connection.execute(statement, (world.rows[table],)).rowcount
    except psycopg.errors.InsufficientPrivilege:
        return "-"
    return "y" if count == 1 else "0"


@pytest.mark.parametrize("persona", PERSONAS)
@pytest.mark.parametrize("table", MATRIX)
def test_each_persona_does_exactly_what_the_matrix_says(db: Connection, world: World, table: str, persona: str) -> None:
    expected = dict(zip(PERSONAS, MATRIX[table].split(), strict=True))[persona]
    person = world.personas[persona]
    actual = "".join(_attempt(db, world, person, table, action) for action in ACTIONS)
    assert actual == expected, f"{persona} on {table}: select insert update delete"


def test_the_matrix_has_every_table(db: Connection) -> None:
    tables = db.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
    assert {table["tablename"] for table in tables} == set(MATRIX)


@pytest.mark.parametrize(
    "column",
    [
        "is_admin", "is_active", "credits_remaining", "total_credits_purchased", "total_credits_used",
        "subscription_status", "subscription_plan", "stripe_customer_id", "email", "ledger_version", "id",
    ],
)  # fmt: skip
def test_nobody_writes_what_is_not_his_on_his_own_profile(world: World, column: str) -> None:
    for persona in ("owner", "admin"):
        person = world.personas[persona]
        with refused("42501"), person.trying() as connection:
            connection.execute(f"update public.profiles set {column} = {column} where id = %s", (person.id,))


@pytest.mark.parametrize(
    "column", ["credits_remaining", "total_credits_purchased", "total_credits_used", "ledger_version"]
)
def test_not_even_the_service_role_writes_a_balance(world: World, column: str) -> None:
    with refused("42501"), world.personas["service"].trying() as connection:
        connection.execute(f"update public.profiles set {column} = 5 where id = %s", (uuid4(),))


@pytest.mark.parametrize(
    "column",
    ["processing_status", "processed_url", "thumbnail_url", "download_count", "metadata", "user_id", "original_url"],
)
def test_an_owner_writes_no_result_on_his_image(world: World, column: str) -> None:
    with refused("42501"), world.personas["owner"].trying() as connection:
        connection.execute(f"update public.images set {column} = {column}")


@pytest.mark.parametrize(
    "call",
    [
        "add_user_credits('{id}', 1, 'bonus')",
        "deduct_user_credits('{id}', 1, 'usage')",
        "verify_ledger()",
        "claim_image_operations('w')",
        "extend_image_operation_lease('{id}', '{id}')",
        "complete_image_operation('{id}', '{id}', 'x', '{{}}', 1)",
        "fail_image_operation('{id}', '{id}', 'x', true)",
        "release_image_operation('{id}', '{id}')",
        "requeue_lost_image_operations()",
        "orphaned_storage_objects()",
    ],
)
def test_browsers_call_none_of_the_services_functions(world: World, call: str) -> None:
    for persona in ("anon", "owner", "admin"):
        with refused("42501"), world.personas[persona].trying() as connection:
            connection.execute(f"select public.{call.format(id=uuid4())}")


@pytest.mark.parametrize(
    "call",
    ["request_image_operation(null, 'generate')", "cancel_image_operation(null)", "record_image_download(null)"],
)
def test_visitors_and_services_do_not_act_as_owners(world: World, call: str) -> None:
    for persona in ("anon", "service"):
        with refused("42501"), world.personas[persona].trying() as connection:
            connection.execute(f"select public.{call}")


def test_views_show_a_user_himself_and_an_admin_everybody(world: World) -> None:
    def seen(persona: str) -> set[UUID]:
        return {row["id"] for row in world.personas[persona].sql("select id from public.user_analytics")}

    owner, stranger = world.personas["owner"].id, world.personas["stranger"].id
    assert seen("owner") == {owner}
    assert seen("admin") >= {owner, stranger}
    with refused("42501"):
        seen("anon")


def test_inactive_plans_packages_and_prices_are_shown_to_admins_only(world: World, db: Connection) -> None:
    for table in ("subscription_plans", "pay_as_you_go_packages", "operation_prices"):
        count = f"select count(*) from public.{table} where not is_active"
        with db.transaction(force_rollback=True):
            db.execute(f"update public.{table} set is_active = false")
            hidden = {persona: world.personas[persona].sql(count)[0]["count"] for persona in ("anon", "owner", "admin")}
        assert (hidden["anon"], hidden["owner"]) == (0, 0), table
        assert hidden["admin"] > 0, table


def test_an_inactive_admin_is_no_admin(people: People, world: World) -> None:
    admin = people.new(is_admin=True, is_active=False)
    assert [row["id"] for row in admin.sql("select id from public.profiles")] == [admin.id]


def test_an_inactive_user_reads_his_own_and_starts_nothing(people: People, db: Connection) -> None:
    user = people.new()
    image = people.image(user)
    db.execute("update public.profiles set is_active = false where id = %s", (user.id,))
    assert len(user.sql("select id from public.images")) == 1
    with refused("42501"):
        people.image(user, "second.png")
    with refused("42501"):
        user.sql("insert into public.image_collections (name) values ('x')")
    with refused("PT403", "deactivated"):
        user.call("request_image_operation", p_image_id=image, p_operation_type="upscale")


def test_a_public_collection_is_read_by_everybody_with_its_items(people: People) -> None:
    owner = people.new()
    image = people.image(owner)
    (collection,) = owner.sql("insert into public.image_collections (name) values ('Best') returning id")
    owner.sql(
        "insert into public.image_collection_items (collection_id, image_id) values (%s, %s)", collection["id"], image
    )
    query = "select 1 from public.image_collection_items where collection_id = %s"
    assert people.anon.sql(query, collection["id"]) == []
    owner.sql("update public.image_collections set is_public = true")
    assert len(people.anon.sql(query, collection["id"])) == 1
    assert len(people.new().sql(query, collection["id"])) == 1


def test_nobody_puts_a_strangers_image_into_a_collection(people: People) -> None:
    owner, stranger = people.new(), people.new()
    image = people.image(stranger)
    (collection,) = owner.sql("insert into public.image_collections (name) values ('Best') returning id")
    with refused("42501"):
        owner.sql(
            "insert into public.image_collection_items (collection_id, image_id) values (%s, %s)",
            collection["id"],
            image,
        )


@pytest.mark.parametrize("key", ["originals/{stranger}/a.png", "results/{owner}/a.png", "a.png", "originals/{owner}"])
def test_an_image_points_into_its_owners_uploads_only(people: People, key: str) -> None:
    owner, stranger = people.new(), people.new()
    with refused("23514"):
        owner.sql(
            "insert into public.images (original_filename, original_url) values ('a.png', %s)",
            key.format(owner=owner.id, stranger=stranger.id),
        )


def test_an_image_cannot_be_inserted_for_somebody_else(people: People) -> None:
    owner, stranger = people.new(), people.new()
    with refused("42501"):
        owner.sql("insert into public.images (user_id, original_filename) values (%s, 'a.png')", stranger.id)


# Storage: select insert update delete on an object in the owner's folder.
STORAGE = {
    #            anon  owner stranger inactive admin service
    "originals": "0-00 yyyy  0-00     0-00     y-00  yyyy",
    "results": "  0-00 y-0y  0-00     0-00     y-00  yyyy",
    "avatars": "  0-00 yyyy  0-00     0-00     y-00  yyyy",
}


@pytest.mark.parametrize("persona", PERSONAS)
@pytest.mark.parametrize("bucket", STORAGE)
def test_objects_belong_to_the_folder_of_their_owner(db: Connection, world: World, bucket: str, persona: str) -> None:
    expected = dict(zip(PERSONAS, STORAGE[bucket].split(), strict=True))[persona]
    person, folder = world.personas[persona], world.personas["owner"].id
    insert = "insert into storage.objects (bucket_id, name) values (%s, %s)"
    statements = [
        "select 1 from storage.objects where bucket_id = %s and name = %s",
        insert,
        "update storage.objects set metadata = '{}' where bucket_id = %s and name = %s",
        "delete from storage.objects where bucket_id = %s and name = %s",
    ]
    actual = ""
    with db.transaction(force_rollback=True):
        db.execute("insert into storage.objects (bucket_id, name) values (%s, %s)", (bucket, f"{folder}/a.png"))
        for statement in statements:
            name = f"{folder}/b.png" if statement == insert else f"{folder}/a.png"
            try:
                with person.trying():
                    count = db.execute(statement, (bucket, name)).rowcount
                actual += "y" if count else "0"
            except psycopg.errors.InsufficientPrivilege:
                actual += "-"
    assert actual == expected
