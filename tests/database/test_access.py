"""Boundaries that the matrix does not show: single columns, functions, views, and people in special states."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.database.personas import Connection, People, Person, refused


@pytest.fixture(scope="module")
def world(people: People) -> dict[str, Person]:
    """One person of each kind; the owner has an image."""
    owner = people.new(credits=10)
    people.image(owner)
    return {
        "anon": people.anon,
        "owner": owner,
        "stranger": people.new(),
        "admin": people.new(is_admin=True),
        "service": people.service,
    }


@pytest.mark.parametrize(
    "column",
    [
        "is_admin", "is_active", "credits_remaining", "total_credits_purchased", "total_credits_used",
        "subscription_status", "subscription_plan", "stripe_customer_id", "email", "ledger_version", "id",
    ],
)  # fmt: skip
def test_nobody_writes_what_is_not_his_on_his_own_profile(world: dict[str, Person], column: str) -> None:
    for persona in ("owner", "admin"):
        person = world[persona]
        with refused("42501"), person.trying() as connection:
            connection.execute(f"update public.profiles set {column} = {column} where id = %s", (person.id,))


@pytest.mark.parametrize(
    "column", ["credits_remaining", "total_credits_purchased", "total_credits_used", "ledger_version"]
)
def test_not_even_the_service_role_writes_a_balance(world: dict[str, Person], column: str) -> None:
    with refused("42501"), world["service"].trying() as connection:
        connection.execute(f"update public.profiles set {column} = 5 where id = %s", (uuid4(),))


@pytest.mark.parametrize(
    "column",
    ["processing_status", "processed_url", "thumbnail_url", "download_count", "metadata", "user_id", "original_url"],
)
def test_an_owner_writes_no_result_on_his_image(world: dict[str, Person], column: str) -> None:
    with refused("42501"), world["owner"].trying() as connection:
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
        "claim_emails(1, '{id}')",
        "settle_emails('{id}', '[]')",
        "mark_lost_emails()",
        "queue_expiring_credit_emails()",
        "queue_expiring_image_emails()",
        "record_email_events('[]')",
        "unsubscribe_from_emails('{id}')",
    ],
)
def test_browsers_call_none_of_the_services_functions(world: dict[str, Person], call: str) -> None:
    for persona in ("anon", "owner", "admin"):
        with refused("42501"), world[persona].trying() as connection:
            connection.execute(f"select public.{call.format(id=uuid4())}")


@pytest.mark.parametrize(
    "call",
    ["request_image_operation(null, 'generate')", "cancel_image_operation(null)", "record_image_download(null)"],
)
def test_visitors_and_services_do_not_act_as_owners(world: dict[str, Person], call: str) -> None:
    for persona in ("anon", "service"):
        with refused("42501"), world[persona].trying() as connection:
            connection.execute(f"select public.{call}")


def test_views_show_a_user_himself_and_an_admin_everybody(world: dict[str, Person]) -> None:
    def seen(persona: str) -> set[UUID]:
        return {row["id"] for row in world[persona].sql("select id from public.user_analytics")}

    owner, stranger = world["owner"].id, world["stranger"].id
    assert seen("owner") == {owner}
    assert seen("admin") >= {owner, stranger}
    with refused("42501"):
        seen("anon")


def test_inactive_plans_packages_and_prices_are_shown_to_admins_only(world: dict[str, Person], db: Connection) -> None:
    for table in ("subscription_plans", "pay_as_you_go_packages", "operation_types"):
        count = f"select count(*) from public.{table} where not is_active"
        with db.transaction(force_rollback=True):
            db.execute(f"update public.{table} set is_active = false")
            hidden = {persona: world[persona].sql(count)[0]["count"] for persona in ("anon", "owner", "admin")}
        assert (hidden["anon"], hidden["owner"]) == (0, 0), table
        assert hidden["admin"] > 0, table


def test_an_inactive_admin_is_no_admin(people: People, world: dict[str, Person]) -> None:
    admin = people.new(is_admin=True, is_active=False)
    assert [row["id"] for row in admin.sql("select id from public.profiles")] == [admin.id]


# What each function that a browser may call does for a deactivated account: None, it works as for anybody else.
INACTIVE: dict[str, tuple[dict[str, Any], str | None]] = {
    "request_image_operation": ({"p_image_id": "image", "p_operation_type": "upscale"}, "PT403"),
    "quote_image_operation": ({"p_operation_type": "upscale"}, None),
    "cancel_image_operation": ({"p_operation_id": "operation"}, None),
    "record_image_download": ({"p_image_id": "image"}, None),
    "public_collection_images": ({"p_collection_id": "collection"}, None),
    "admin_set_user_active": ({"p_user_id": "user", "p_is_active": True, "p_reason": "x"}, "PT403"),
    "admin_set_user_admin": ({"p_user_id": "user", "p_is_admin": True, "p_reason": "x"}, "PT403"),
    "admin_adjust_credits": ({"p_user_id": "user", "p_amount": 1, "p_reason": "x"}, "PT403"),
    "admin_refund_transaction": ({"p_transaction_id": "user", "p_reason": "x"}, "PT403"),
    "admin_cancel_image_operation": ({"p_operation_id": "operation", "p_reason": "x"}, "PT403"),
    "admin_comp_subscription": ({"p_user_id": "user", "p_plan": "basic", "p_months": 1, "p_reason": "x"}, "PT403"),
    "retry_email": ({"p_email_id": "user", "p_reason": "x"}, "PT403"),
    "stats_revenue": ({}, "PT403"),
    "stats_margins": ({}, "PT403"),
    "stats_funnel": ({}, "PT403"),
    "stats_retention": ({}, "PT403"),
    "stats_queue": ({}, "PT403"),
    "stats_engines": ({}, "PT403"),
    "preview_email_campaign": ({"p_campaign_id": "user"}, "PT403"),
    "schedule_email_campaign": ({"p_campaign_id": "user"}, "PT403"),
    "cancel_email_campaign": ({"p_campaign_id": "user"}, "PT403"),
    "email_campaign_report": ({"p_campaign_id": "user"}, "PT403"),
    "export_account": ({}, None),
    "upload_usage": ({}, None),
    "delete_account": ({}, None),
}


def test_a_deactivated_user_reads_stops_and_leaves_and_starts_nothing(people: People, db: Connection) -> None:
    user, other = people.new(), people.new()
    ids = {"image": people.image(user), "user": user.id}
    ids["operation"] = user.call("request_image_operation", p_image_id=ids["image"], p_operation_type="upscale")["id"]
    shown = "insert into public.image_collections (name, is_public) values ('x', true) returning id"
    ids["collection"] = other.sql(shown)[0]["id"]
    db.execute("update public.profiles set is_active = false where id = %s", (user.id,))

    assert len(user.sql("select id from public.images")) == 1
    with refused("42501"):
        people.image(user, "second.png")
    with refused("42501"):
        user.sql("insert into public.image_collections (name) values ('x')")
    for function, (arguments, code) in INACTIVE.items():
        arguments = {name: ids.get(value, value) for name, value in arguments.items()}
        if code:
            with refused(code):
                user.rows(function, **arguments)
        else:
            user.rows(function, **arguments)


def test_there_is_no_function_for_browsers_that_the_test_above_forgets(db: Connection) -> None:
    rows = db.execute(
        "select proname from pg_proc where pronamespace = 'public'::regnamespace"
        " and has_function_privilege('authenticated', oid, 'execute')"
    ).fetchall()
    assert {row["proname"] for row in rows} == set(INACTIVE)


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


def test_a_deactivated_account_publishes_nothing_any_more(people: People, db: Connection) -> None:
    owner = people.new(credits=3)
    image = people.image(owner)
    operation = owner.call("request_image_operation", p_image_id=image, p_operation_type="upscale")["id"]
    thumbnail = f"{owner.id}/{operation}/thumbnail.webp"
    db.execute("update public.images set thumbnail_url = %s where id = %s", (f"results/{thumbnail}", image))
    db.execute("insert into storage.objects (bucket_id, name) values ('results', %s)", (thumbnail,))
    (collection,) = owner.sql(
        "insert into public.image_collections (name, is_public) values ('Best', true) returning id"
    )
    owner.sql(
        "insert into public.image_collection_items (collection_id, image_id) values (%s, %s)", collection["id"], image
    )

    def shown(person: Person) -> list[int]:
        return [
            len(person.sql(f"select 1 from {table} where {column} = %s", value))
            for table, column, value in (
                ("public.image_collections", "id", collection["id"]),
                ("public.image_collection_items", "collection_id", collection["id"]),
                ("storage.objects", "name", thumbnail),
            )
        ]

    for person in (people.anon, people.new()):
        db.execute("update public.profiles set is_active = true where id = %s", (owner.id,))
        assert shown(person) == [1, 1, 1]
        assert len(person.rows("public_collection_images", p_collection_id=collection["id"])) == 1
        db.execute("update public.profiles set is_active = false where id = %s", (owner.id,))
        assert shown(person) == [0, 0, 0]
        with refused("PT404"):
            person.rows("public_collection_images", p_collection_id=collection["id"])
    db.execute("delete from storage.objects where name = %s", (thumbnail,))


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


@pytest.mark.parametrize(
    "key",
    [
        "originals/{stranger}/a.png",
        "results/{owner}/a.png",
        "a.png",
        "originals/{owner}",
        "originals/{owner}/../{stranger}/a.png",
        "originals/{owner}/%2e%2e/{stranger}/a.png",
        "originals/{owner}/..%2f{stranger}/a.png",
        "originals/{owner}/.\t./{stranger}/a.png",
        r"originals/{owner}/..\{stranger}\a.png",
    ],
)
def test_an_image_points_into_its_owners_uploads_only(people: People, key: str) -> None:
    owner, stranger = people.new(), people.new()
    with refused("PT400", "The original_url"):
        owner.sql(
            "insert into public.images (original_filename, original_url) values ('a.png', %s)",
            key.format(owner=owner.id, stranger=stranger.id),
        )


@pytest.mark.parametrize(
    ("column", "longest"),
    [("first_name", 100), ("last_name", 100), ("company", 200), ("phone", 50), ("avatar_url", 1024)],
)
def test_what_a_user_says_of_himself_is_bounded(people: People, column: str, longest: int) -> None:
    user = people.new()
    user.sql(f"update public.profiles set {column} = %s", "x" * longest)
    with refused("PT413", f"{column} is longer than {longest} characters"):
        user.sql(f"update public.profiles set {column} = %s", "x" * (longest + 1))


def test_an_image_cannot_be_inserted_for_somebody_else(people: People) -> None:
    owner, stranger = people.new(), people.new()
    with refused("42501"):
        owner.sql("insert into public.images (user_id, original_filename) values (%s, 'a.png')", stranger.id)
