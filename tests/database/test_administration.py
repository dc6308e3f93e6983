"""What admins do to others: by which function, with which reason, and what the log says of it."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.database.personas import Connection, People, Person, connect, refused, together, wait_until_blocked


def entries(db: Connection, admin: Person) -> list[dict[str, Any]]:
    return db.execute("select * from public.admin_logs where actor_id = %s order by created_at", (admin.id,)).fetchall()


def collection_of(person: Person) -> UUID:
    (row,) = person.sql("insert into public.image_collections (name) values ('Best') returning id")
    collection: UUID = row["id"]
    return collection


def test_a_change_of_somebody_elses_data_is_logged_with_what_changed(people: People, db: Connection) -> None:
    admin, user = people.new(is_admin=True), people.new()
    image, collection = people.image(user), collection_of(user)
    admin.sql("update public.profiles set first_name = 'Ada', company = company where id = %s", user.id)
    admin.sql("update public.images set is_favorite = true where id = %s", image)
    admin.sql("update public.image_collections set is_public = false where id = %s", collection)
    admin.sql("insert into public.image_collection_items (collection_id, image_id) values (%s, %s)", collection, image)
    admin.sql("delete from public.images where id = %s", image)

    log = entries(db, admin)
    assert [(row["action"], row["target_type"]) for row in log] == [
        ("update", "profiles"),
        ("update", "images"),
        ("insert", "image_collection_items"),
        ("delete", "images"),
    ]
    assert {row["target_user_id"] for row in log} == {user.id}
    assert {row["admin_user_id"] for row in log} == {admin.id}
    assert [row["target_id"] for row in log][:2] == [user.id, image]
    assert log[0]["details"] == {"before": {"first_name": None}, "after": {"first_name": "Ada"}}
    assert log[1]["details"] == {"before": {"is_favorite": False}, "after": {"is_favorite": True}}
    assert log[3]["details"]["before"]["original_filename"] == "shirt.png"


def test_a_change_that_waited_while_its_admin_was_dismissed_is_logged(
    people: People, db: Connection, db_url: str
) -> None:
    admin, user = people.new(is_admin=True), people.new()
    image = people.image(user)
    with connect(db_url) as connection, ThreadPoolExecutor(1) as pool, connect(db_url) as other:
        with connection.transaction():
            connection.execute("update public.images set is_favorite = true where id = %s", (image,))
            rename = "update public.images set original_filename = 'x.png' where id = %s returning id"
            change = pool.submit(admin.on(other).sql, rename, image)
            wait_until_blocked(connection, other)
            people.new(is_admin=True).call(
                "admin_set_user_admin", p_user_id=admin.id, p_is_admin=False, p_reason="dismissed"
            )
        assert change.result(10) == [{"id": image}]
    assert [row["action"] for row in entries(db, admin)] == ["update"]


def test_where_an_admin_sat_is_logged(people: People, db: Connection) -> None:
    admin, user = people.new(is_admin=True), people.new()
    with admin.acting() as connection:
        headers = '{"cf-connecting-ip": "203.0.113.7", "user-agent": "browser"}'
        connection.execute("select set_config('request.headers', %s, true)", (headers,))
        connection.execute("update public.profiles set first_name = 'Ada' where id = %s", (user.id,))
    (row,) = entries(db, admin)
    assert (str(row["ip_address"]), row["user_agent"]) == ("203.0.113.7", "browser")


CATALOGUE = {
    "subscription_plans": ("(name) values ('{word}')", "description = '{word}'"),
    "pay_as_you_go_packages": ("(name, credits, price) values ('{word}', 1, 1)", "credits = 2"),
    "api_costs": (
        "(api_provider, operation_type, cost_per_operation, effective_date) values ('{word}', 'upscale', 1, now())",
        "cost_per_operation = 2",
    ),
    "email_templates": ("(name, subject, html_content) values ('{word}', 'x', 'x')", "subject = 'y'"),
    "email_campaigns": ("(name) values ('{word}')", "emails_per_minute = 60"),
}


@pytest.mark.parametrize("table", CATALOGUE)
def test_every_change_of_the_catalogue_is_logged(people: People, db: Connection, table: str) -> None:
    admin = people.new(is_admin=True)
    insert, update = (statement.format(word=uuid4()) for statement in CATALOGUE[table])
    (row,) = admin.sql(f"insert into public.{table} {insert} returning id")
    admin.sql(f"update public.{table} set {update} where id = %s", row["id"])
    admin.sql(f"update public.{table} set {update} where id = %s", row["id"])
    admin.sql(f"delete from public.{table} where id = %s", row["id"])
    log = entries(db, admin)
    assert [entry["action"] for entry in log] == ["insert", "update", "delete"], "the second update changed nothing"
    assert {(entry["target_type"], entry["target_id"]) for entry in log} == {(table, row["id"])}
    assert set(log[1]["details"]["after"]) == {update.partition(" =")[0]}


def test_a_changed_price_names_its_operation_in_the_log(people: People, db: Connection) -> None:
    admin = people.new(is_admin=True)
    admin.sql("update public.operation_types set credits = credits + 1 where name = 'vectorize'")
    admin.sql("update public.operation_types set credits = credits - 1 where name = 'vectorize'")
    assert [row["details"] for row in entries(db, admin)] == [
        {"key": "vectorize", "before": {"credits": 2}, "after": {"credits": 3}},
        {"key": "vectorize", "before": {"credits": 3}, "after": {"credits": 2}},
    ]


def test_what_people_and_services_do_to_their_own_is_not_logged(people: People, db: Connection) -> None:
    admin, user = people.new(is_admin=True), people.new()
    for person in (admin, user):
        image, collection = people.image(person), collection_of(person)
        person.sql("update public.profiles set first_name = 'Ada' where id = %s", person.id)
        person.sql("insert into public.image_collection_items (collection_id, image_id) values (%s, %s)",
                   collection, image)  # fmt: skip
        person.sql("delete from public.images where id = %s", image)
        person.sql("delete from public.image_collections where id = %s", collection)
    people.service.sql("update public.profiles set first_name = 'Eve' where id = %s", user.id)
    ids = [admin.id, user.id]
    found = db.execute(
        "select * from public.admin_logs where actor_id = any(%s) or target_user_id = any(%s)", (ids, ids)
    ).fetchall()
    assert found == []


def test_every_column_that_a_browser_may_write_is_watched(db: Connection) -> None:
    unwatched = db.execute(
        """
        select p.table_name as name, p.column_name
        from information_schema.column_privileges as p
        where
            p.table_schema = 'public' and p.grantee = 'authenticated' and p.privilege_type = 'UPDATE'
            and not exists (
                select from pg_trigger as t
                where
                    t.tgrelid = format('public.%I', p.table_name)::regclass and t.tgname = 'log_admin_change'
                    and t.tgtype & 16 > 0
                    and (
                        cardinality(t.tgattr::int2[]) = 0
                        or exists (
                            select from pg_attribute as a
                            where
                                a.attrelid = t.tgrelid and a.attname = p.column_name
                                and a.attnum = any (t.tgattr::int2[])
                        )
                    )
            )
        """
    ).fetchall()
    assert unwatched == []
    unwatched = db.execute(
        """
        select p.table_name as name, p.privilege_type
        from (
            select table_name, privilege_type from information_schema.role_table_grants
            where table_schema = 'public' and grantee = 'authenticated'
            union
            select table_name, privilege_type from information_schema.column_privileges
            where table_schema = 'public' and grantee = 'authenticated'
        ) as p
        where
            p.privilege_type in ('INSERT', 'DELETE')
            and not exists (
                select from pg_trigger as t
                where
                    t.tgrelid = format('public.%I', p.table_name)::regclass and t.tgname = 'log_admin_change'
                    and t.tgtype & case p.privilege_type when 'INSERT' then 4 else 8 end > 0
            )
        """
    ).fetchall()
    assert unwatched == []


# The functions that change an account's rights, and all of them with their own arguments.
RIGHTS = {"admin_set_user_active": {"p_is_active": False}, "admin_set_user_admin": {"p_is_admin": True}}
CALLS: dict[str, dict[str, Any]] = RIGHTS | {
    "admin_adjust_credits": {"p_amount": 5},
    "admin_refund_transaction": {},
    "admin_cancel_image_operation": {},
    "admin_comp_subscription": {"p_plan": "basic", "p_months": 1},
}
# What they act on, where it is no user.
OBJECTS = {"admin_refund_transaction": "p_transaction_id", "admin_cancel_image_operation": "p_operation_id"}


@pytest.mark.parametrize("function", CALLS)
def test_only_an_active_admin_or_the_operator_calls_an_admin_function_with_a_reason(
    people: People, function: str
) -> None:
    target = people.new()
    key = OBJECTS.get(function, "p_user_id")
    arguments = {key: target.id, "p_reason": "because"} | CALLS[function]
    with refused("PT403", "Only an admin"):
        people.new().call(function, **arguments)
    with refused("PT403", "Only an admin"):
        target.call(function, **arguments)
    with refused("PT403", "Only an admin"):
        people.new(is_admin=True, is_active=False).call(function, **arguments)
    with refused("42501"):
        people.anon.call(function, **arguments)
    for caller in (people.new(is_admin=True), people.service):
        for reason in (None, "", "  ", "x" * 301):
            with refused("PT400", "reason"):
                caller.call(function, **(arguments | {"p_reason": reason}))
        with refused("PT404", "not found"):
            caller.call(function, **(arguments | {key: uuid4()}))


def test_there_is_no_admin_function_that_the_test_above_forgets(db: Connection) -> None:
    rows = db.execute(
        "select proname from pg_proc where pronamespace = 'public'::regnamespace and proname like 'admin%'"
    ).fetchall()
    assert {row["proname"] for row in rows} == set(CALLS)


def test_an_admin_deactivates_and_activates_and_repeating_it_changes_nothing(people: People, db: Connection) -> None:
    admin, user = people.new(is_admin=True), people.new()
    for is_active in (False, False, True):
        profile = admin.call("admin_set_user_active", p_user_id=user.id, p_is_active=is_active, p_reason="spam")
        assert (profile["id"], profile["is_active"]) == (user.id, is_active)
    log = entries(db, admin)
    assert [row["details"] for row in log] == [
        {"is_active": False, "reason": "spam"},
        {"is_active": True, "reason": "spam"},
    ]
    assert {(row["action"], row["target_id"], row["target_user_id"]) for row in log} == {
        ("admin_set_user_active", user.id, user.id)
    }
    with refused("PT400"):
        admin.call("admin_set_user_active", p_user_id=user.id, p_is_active=None, p_reason="x")


def test_an_admin_makes_an_admin_who_may_unmake_him(people: People) -> None:
    first, second = people.new(is_admin=True), people.new()
    first.call("admin_set_user_admin", p_user_id=second.id, p_is_admin=True, p_reason="new colleague")
    second.call("admin_set_user_admin", p_user_id=first.id, p_is_admin=False, p_reason="has left")
    with refused("PT403"):
        first.call("admin_set_user_admin", p_user_id=second.id, p_is_admin=False, p_reason="revenge")


@pytest.mark.parametrize("function", RIGHTS)
def test_nobody_changes_his_own_rights(people: People, function: str) -> None:
    admin = people.new(is_admin=True)
    with refused("PT409", "own account"):
        admin.call(function, p_user_id=admin.id, p_reason="x", **RIGHTS[function])


def test_what_an_operator_does_is_logged_without_an_actor(people: People, db: Connection) -> None:
    user = people.new()
    people.service.call("admin_set_user_admin", p_user_id=user.id, p_is_admin=True, p_reason="founder")
    assert user.sql("select is_admin from public.profiles where id = auth.uid()") == [{"is_admin": True}]
    people.service.call("admin_set_user_admin", p_user_id=user.id, p_is_admin=False, p_reason="has left")
    gift = {"p_user_id": user.id, "p_amount": 3, "p_reason": "goodwill", "p_idempotency_key": "gift"}
    assert people.service.call("admin_adjust_credits", **gift) == people.service.call("admin_adjust_credits", **gift)
    log = db.execute(
        "select actor_id, action, details from public.admin_logs where target_user_id = %s order by created_at",
        (user.id,),
    ).fetchall()
    assert [(row["actor_id"], row["action"], row["details"]["reason"]) for row in log] == [
        (None, "admin_set_user_admin", "founder"),
        (None, "admin_set_user_admin", "has left"),
        (None, "admin_adjust_credits", "goodwill"),
    ]


def test_credits_may_be_given_for_a_while(people: People) -> None:
    admin, user = people.new(is_admin=True), people.new()
    adjust = {"p_user_id": user.id, "p_reason": "goodwill", "p_expires_at": "2099-01-01"}
    admin.call("admin_adjust_credits", p_amount=5, **adjust)
    (grant,) = user.sql("select amount, source, expires_at from public.credit_grants order by seq desc limit 1")
    assert (grant["amount"], grant["source"], grant["expires_at"].year) == (5, "adjustment", 2099)
    with refused("PT400", "do not expire"):
        admin.call("admin_adjust_credits", p_amount=-5, **adjust)


def test_an_admin_gives_and_takes_credits_once_for_each_key(people: People, db: Connection) -> None:
    admin, user = people.new(is_admin=True), people.new()
    for amount, key, balance in ((5, "gift", 7), (5, "gift", 7), (-3, "slip", 4), (-3, "slip", 4)):
        entry = admin.call(
            "admin_adjust_credits", p_user_id=user.id, p_amount=amount, p_reason="goodwill", p_idempotency_key=key
        )
        assert (entry["user_id"], entry["balance_after"], entry["description"]) == (user.id, balance, "goodwill")
    assert [(entry["transaction_type"], entry["amount"]) for entry in people.ledger(user)] == [
        ("bonus", 2),
        ("bonus", 5),
        ("expiration", 3),
    ]
    assert [(row["action"], row["target_type"], row["details"]) for row in entries(db, admin)] == [
        ("admin_adjust_credits", "credit_transactions", {"credits": 5, "reason": "goodwill"}),
        ("admin_adjust_credits", "credit_transactions", {"credits": -3, "reason": "goodwill"}),
    ]
    with refused("PT409", "idempotency key"):
        admin.call("admin_adjust_credits", p_user_id=user.id, p_amount=6, p_reason="x", p_idempotency_key="gift")
    with refused("PT402"):
        admin.call("admin_adjust_credits", p_user_id=user.id, p_amount=-5, p_reason="x")
    assert people.service.rows("verify_ledger") == []


@pytest.mark.parametrize("amount", [None, 0, 1_000_001, -1_000_001, -2_147_483_648])
def test_an_adjustment_out_of_bounds_is_refused(people: People, amount: int | None) -> None:
    admin = people.new(is_admin=True)
    with refused("PT400", "amount"):
        admin.call("admin_adjust_credits", p_user_id=admin.id, p_amount=amount, p_reason="x")


def test_an_admin_refunds_a_charge_once(people: People, db: Connection) -> None:
    admin, user = people.new(is_admin=True), people.new()
    people.service.call("deduct_user_credits", p_user_id=user.id, p_amount=2, p_transaction_type="usage")
    charge = people.ledger(user)[-1]
    refund = {"p_transaction_id": charge["id"], "p_reason": "bad print", "p_idempotency_key": "ticket 7"}
    first = admin.call("admin_refund_transaction", **refund)
    assert admin.call("admin_refund_transaction", **refund) == first
    assert (first["refunded_transaction_id"], people.balance(user)) == (charge["id"], 2)
    (entry,) = entries(db, admin)
    assert (entry["target_id"], entry["target_user_id"]) == (first["id"], user.id)
    assert entry["details"] == {"credits": 2, "reason": "bad print"}
    with refused("PT409", "refunded already"):
        admin.call("admin_refund_transaction", p_transaction_id=charge["id"], p_reason="again")


def test_an_admin_cancels_anybodys_operation_and_its_credits_come_back(people: People, db: Connection) -> None:
    admin, user = people.new(is_admin=True), people.new()
    operation = user.call("request_image_operation", p_image_id=people.image(user), p_operation_type="upscale")
    cancel = {"p_operation_id": operation["id"], "p_reason": "not a picture"}
    ended = admin.call("admin_cancel_image_operation", **cancel)
    assert (ended["status"], ended["error_message"]) == ("cancelled", "Cancelled: not a picture")
    assert people.balance(user) == 2
    (entry,) = entries(db, admin)
    assert (entry["target_id"], entry["target_user_id"]) == (operation["id"], user.id)
    assert entry["details"] == {"operation_type": "upscale", "reason": "not a picture"}
    with refused("PT409", "already cancelled"):
        admin.call("admin_cancel_image_operation", **cancel)
    assert people.service.rows("verify_ledger") == []


def test_admins_who_dismiss_each_other_at_once_leave_one(people: People, db_url: str) -> None:
    for _ in range(10):
        admins = [people.new(is_admin=True) for _ in range(4)]

        def dismiss(me: Person, other: Person, connection: Connection) -> bool:
            try:
                me.on(connection).call("admin_set_user_admin", p_user_id=other.id, p_is_admin=False, p_reason="x")
            except psycopg.Error as error:
                assert error.diag.sqlstate == "PT403"
                return False
            return True

        circle = zip(admins, [*admins[1:], admins[0]], strict=True)
        done = together(db_url, [partial(dismiss, me, other) for me, other in circle])
        left = [admin for admin in admins if admin.sql("select private.is_admin() as yes")[0]["yes"]]
        assert len(left) == len(admins) - sum(done) >= 1


def test_an_admin_manages_what_belongs_to_others_but_publishes_nothing_of_a_third(people: People) -> None:
    admin, user, third = people.new(is_admin=True), people.new(), people.new()
    collection = collection_of(user)
    insert = "insert into public.image_collection_items (collection_id, image_id) values (%s, %s)"
    admin.sql(insert, collection, people.image(user))
    with refused("42501"):
        admin.sql(insert, collection, people.image(third))


@pytest.mark.parametrize("table", ["subscription_plans", "pay_as_you_go_packages"])
def test_admins_do_not_touch_what_stripe_knows_a_product_by(people: People, table: str) -> None:
    with refused("42501"):
        people.new(is_admin=True).sql(f"update public.{table} set stripe_price_id = 'price_mine'")
