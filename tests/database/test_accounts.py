"""The end of an account and what stays of it, and everything about an account as one JSON."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.database.personas import Connection, People, Person, connect, refused, together, wait_until_blocked


def store(db: Connection, bucket: str, name: str) -> None:
    db.execute(
        "insert into storage.objects (bucket_id, name, metadata) values (%s, %s, '{\"size\": 7}')", (bucket, name)
    )


def clear(db: Connection, person: Person) -> None:
    db.execute("delete from storage.objects where starts_with(name, %s)", (str(person.id),))


def busy_account(people: People, db: Connection) -> Person:
    """Somebody with a row in every table that knows accounts, and three objects in storage."""
    user, admin = people.new(credits=10), people.new(is_admin=True)
    image = people.image(user)
    operation = user.call(
        "request_image_operation", p_image_id=image, p_operation_type="upscale", p_idempotency_key="one"
    )
    (collection,) = user.sql("insert into public.image_collections (name) values ('Best') returning id")
    user.sql(
        "insert into public.image_collection_items (collection_id, image_id) values (%s, %s)", collection["id"], image
    )
    (grant,) = db.execute("select * from public.credit_grants where user_id = %s limit 1", (user.id,)).fetchall()
    for statement in (
        "insert into public.subscription_history (user_id, status, started_at) values (%(user)s, 'active', now())",
        "with mail as (insert into public.email_logs (user_id, status) values (%(user)s, 'sent') returning id)"
        " insert into public.email_events (sg_event_id, email_log_id, event_type, occurred_at)"
        " select id::text, id, 'open', now() from mail",
        "insert into public.email_suppressions (email, reason)"
        " select email, 'bounce' from public.profiles where id = %(user)s",
        "insert into public.stripe_customers (id, user_id) values (gen_random_uuid()::text, %(user)s)",
        "insert into public.billing_orders (user_id, subscription_plan_id, stripe_price_id)"
        " select %(user)s, s.id, 'price_1' from public.subscription_plans as s limit 1",
        "insert into public.billing_invoices (id, user_id, stripe_subscription_id, reason, status, amount_due,"
        " amount_paid, currency, attempts, created_at)"
        " values (gen_random_uuid()::text, %(user)s, 'sub_1', 'manual', 'open', 1, 0, 'USD', 0, now())",
        "insert into public.api_usage_logs (user_id, operation_id, api_provider, operation_type)"
        " values (%(user)s, %(operation)s, 'openai', 'generate')",
    ):
        db.execute(statement, {"user": user.id, "operation": operation["id"]})
    people.service.call("clawback_credits", p_grant_id=grant["id"], p_amount=1, p_reason="chargeback")
    admin.sql("update public.profiles set company = 'Secret Ltd' where id = %s", user.id)
    second = user.call("request_image_operation", p_image_id=image, p_operation_type="upscale")
    user.call("cancel_image_operation", p_operation_id=second["id"])
    for bucket, name in (("originals", "shirt.png"), ("results", f"{operation['id']}/a.png"), ("avatars", "me.png")):
        store(db, bucket, f"{user.id}/{name}")
    return user


def rows_about(db: Connection, user_id: UUID | None) -> dict[str, int]:
    """How many rows of each table name the account in any column of type uuid."""
    columns = db.execute(
        """
        select c.table_schema || '.' || c.table_name as name, c.column_name
        from information_schema.columns as c
        inner join information_schema.tables as t using (table_schema, table_name)
        where c.table_schema in ('public', 'private') and t.table_type = 'BASE TABLE' and c.data_type = 'uuid'
        """
    ).fetchall()
    found: dict[str, int] = {}
    for column in columns:
        (row,) = db.execute(
            f"select count(*) from {column['name']} where {column['column_name']} = %s", (user_id,)
        ).fetchall()
        if row["count"]:
            found[column["name"]] = found.get(column["name"], 0) + row["count"]
    return found


def tables_about_accounts(db: Connection) -> set[str]:
    """Tables with a foreign key to profiles or to a table that has one: what an account may have rows in."""
    rows = db.execute(
        """
        with recursive about as (
            select 'public.profiles'::regclass::oid as oid
            union
            select c.conrelid from pg_constraint as c inner join about as a on c.confrelid = a.oid where c.contype = 'f'
        )
        select relname as name from pg_class where oid in (select oid from about)
        """
    ).fetchall()
    return {row["name"] for row in rows}


# The account goes -----------------------------------------------------------------------------------------------------


def test_an_account_stays_while_it_has_objects_and_the_refusal_says_which(people: People, db: Connection) -> None:
    user = busy_account(people, db)
    with refused("PT409", "objects in storage") as caught:
        user.call("delete_account")
    detail = json.loads(caught.value.diag.message_detail)
    assert detail["counts"] == {"originals": 1, "results": 1, "avatars": 1}
    assert detail["first_keys"][:2] == [f"avatars/{user.id}/me.png", f"originals/{user.id}/shirt.png"]
    for number in range(150):
        store(db, "originals", f"{user.id}/{number}.png")
    with refused("PT409") as caught:
        people.service.call("delete_user_account", p_user_id=user.id, p_reason="asked by mail")
    detail = json.loads(caught.value.diag.message_detail)
    assert (detail["counts"]["originals"], len(detail["first_keys"])) == (151, 100)
    clear(db, user)


def test_objects_of_somebody_whose_id_begins_alike_are_not_his(people: People, db: Connection) -> None:
    user = people.new()
    neighbour = f"{user.id}x/a.png"
    store(db, "originals", neighbour)
    user.call("delete_account")
    db.execute("delete from storage.objects where name = %s", (neighbour,))


def test_nothing_stays_of_a_deleted_account_but_its_id_in_the_admins_log(people: People, db: Connection) -> None:
    user = busy_account(people, db)
    assert len(rows_about(db, user.id)) > 10
    clear(db, user)
    user.call("delete_account")
    assert set(rows_about(db, user.id)) == {"public.admin_logs"}
    assert db.execute("select 1 from auth.users where id = %s", (user.id,)).fetchall() == []
    log = db.execute("select * from public.admin_logs where target_user_id = %s", (user.id,)).fetchall()
    assert [(row["action"], row["details"]) for row in log] == [("update", None)]
    assert people.service.rows("verify_ledger") == []


def test_a_deleted_accounts_token_starts_nothing(people: People) -> None:
    user = people.new()
    user.call("delete_account")
    with refused("PT404"):
        user.call("delete_account")
    with refused("PT404"):
        user.call("export_account")
    with refused("PT401"):
        user.call("request_image_operation", p_image_id=None, p_operation_type="generate", p_options={"prompt": "x"})
    for statement in (
        "insert into public.images (original_filename) values ('a.png')",
        "insert into public.image_collections (name) values ('x')",
        f"insert into storage.objects (bucket_id, name) values ('originals', '{user.id}/a.png')",
    ):
        with refused("42501"):
            user.sql(statement)


def test_an_admin_gives_up_his_rights_before_his_account(people: People, db: Connection) -> None:
    admin, other = people.new(is_admin=True), people.new(is_admin=True)
    admin.sql("update public.profiles set first_name = 'Ada' where id = %s", other.id)
    with refused("PT409", "admin's rights"):
        admin.call("delete_account")
    other.call("admin_set_user_admin", p_user_id=admin.id, p_is_admin=False, p_reason="leaves")
    admin.call("delete_account")
    (entry,) = db.execute("select * from public.admin_logs where actor_id = %s", (admin.id,)).fetchall()
    assert (entry["admin_user_id"], entry["target_user_id"]) == (None, other.id)
    assert entry["details"]["after"] == {"first_name": "Ada"}


def test_a_running_subscription_is_cancelled_first(people: People, db: Connection) -> None:
    user = people.new(plan="basic")
    db.execute("update public.profiles set stripe_subscription_id = 'sub_1' where id = %s", (user.id,))
    with refused("PT409", "running subscription"):
        user.call("delete_account")
    # Paused or unpaid, it may still charge the card one day.
    db.execute("update public.profiles set subscription_status = 'cancelled' where id = %s", (user.id,))
    with refused("PT409", "running subscription"):
        user.call("delete_account")
    db.execute("update public.profiles set stripe_subscription_id = null where id = %s", (user.id,))
    user.call("delete_account")


@pytest.mark.parametrize("then", ["expired", "subscribed", "forgotten"])
def test_a_payment_under_way_is_waited_for(people: People, db: Connection, then: str) -> None:
    user = people.new()
    order = (
        "insert into public.billing_orders (user_id, subscription_plan_id, stripe_price_id, stripe_checkout_session_id)"
        " select %s, id, 'price_1', %s from public.subscription_plans limit 1"
    )
    db.execute(order, (user.id, f"cs_{user.id}"))
    mine = " where user_id = %s"
    with refused("PT409", "payment of the account is under way"):
        user.call("delete_account")
    if then == "expired":
        db.execute("update public.billing_orders set status = 'expired', closed_at = now()" + mine, (user.id,))
    elif then == "forgotten":
        db.execute("update public.billing_orders set created_at = now() - interval '31 days'" + mine, (user.id,))
    else:
        db.execute("update public.billing_orders set status = 'paid', closed_at = now()" + mine, (user.id,))
        with refused("PT409", "payment of the account is under way"):
            user.call("delete_account")
        db.execute(
            "insert into public.subscription_history (user_id, status, started_at, ended_at)"
            " values (%s, 'cancelled', now(), now())",
            (user.id,),
        )
    user.call("delete_account")


def test_a_deactivated_account_may_go_too(people: People) -> None:
    people.new(is_active=False).call("delete_account")


def test_an_operator_deletes_with_a_reason_that_stays(people: People, db: Connection) -> None:
    user = people.new()
    for reason in (None, " ", "x" * 301):
        with refused("PT400", "reason"):
            people.service.call("delete_user_account", p_user_id=user.id, p_reason=reason)
    people.service.call("delete_user_account", p_user_id=user.id, p_reason="asked by mail")
    (entry,) = db.execute("select * from public.admin_logs where target_user_id = %s", (user.id,)).fetchall()
    assert (entry["action"], entry["target_id"], entry["actor_id"]) == ("delete_user_account", user.id, None)
    assert entry["details"] == {"reason": "asked by mail"}
    with refused("PT404"):
        people.service.call("delete_user_account", p_user_id=user.id, p_reason="again")


def test_the_ledger_of_a_closed_account_stays_in_the_totals(people: People, db: Connection) -> None:
    def totals() -> dict[str, tuple[int, int]]:
        rows = db.execute(
            "select transaction_type, sum(transaction_count)::int as count, sum(credits)::int as credits"
            " from public.closed_account_totals group by 1"
        ).fetchall()
        return {row["transaction_type"]: (row["count"], row["credits"]) for row in rows}

    user = people.new()
    people.service.call("add_user_credits", p_user_id=user.id, p_amount=10, p_transaction_type="purchase")
    people.service.call("deduct_user_credits", p_user_id=user.id, p_amount=4, p_transaction_type="usage")
    before = totals()
    user.call("delete_account")
    after = totals()
    grown = {
        kind: tuple(new - old for new, old in zip(after[kind], before.get(kind, (0, 0)), strict=True)) for kind in after
    }
    assert {kind: growth for kind, growth in grown.items() if growth != (0, 0)} == {
        "bonus": (1, 2),
        "purchase": (1, 10),
        "usage": (1, 4),
    }
    columns = db.execute(
        "select column_name from information_schema.columns where table_name = 'closed_account_totals'"
    ).fetchall()
    assert not [row for row in columns if "user" in row["column_name"]]


def test_money_stays_in_the_totals_with_its_currency_and_product(people: People, db: Connection) -> None:
    user = people.new()
    (package,) = people.service.sql(
        "insert into public.pay_as_you_go_packages (name, credits, price) values ('Ten', 10, 7.99) returning id"
    )
    bought = {"p_money_amount": Decimal("7.99"), "p_currency": "CHF", "p_pay_as_you_go_package_id": package["id"]}
    arguments = {"p_user_id": user.id, "p_amount": 10, "p_transaction_type": "purchase"} | bought
    grant = people.service.call("grant_credits", **arguments, p_stripe_payment_intent_id="pi_1")
    people.service.call(
        "clawback_credits",
        p_grant_id=grant["id"], p_amount=4, p_reason="refunded", p_money_amount=Decimal("3.2"), p_currency="CHF",
    )  # fmt: skip
    db.execute("delete from public.closed_account_totals where currency = 'CHF'")
    user.call("delete_account")
    rows = db.execute(
        "select transaction_type, pay_as_you_go_package_id as package, credits, paid_transactions as paid,"
        " money_amount::float as money from public.closed_account_totals where currency = 'CHF' order by 1"
    ).fetchall()
    assert rows == [
        {"transaction_type": "clawback", "package": package["id"], "credits": 0, "paid": 0, "money": 3.2},
        {"transaction_type": "purchase", "package": package["id"], "credits": 10, "paid": 1, "money": 7.99},
    ]
    db.execute("delete from public.closed_account_totals where pay_as_you_go_package_id = %s", (package["id"],))
    people.service.sql("delete from public.pay_as_you_go_packages where id = %s", package["id"])


def test_accounts_that_go_at_once_are_each_counted_once(people: People, db: Connection, db_url: str) -> None:
    def bonuses() -> int:
        (row,) = db.execute(
            "select coalesce(sum(credits), 0)::int as credits from public.closed_account_totals"
            " where transaction_type = 'bonus'"
        ).fetchall()
        return int(row["credits"])

    users = [people.new() for _ in range(8)]
    before = bonuses()

    def delete(user: Person, connection: Connection) -> bool:
        try:
            user.on(connection).call("delete_account")
        except psycopg.Error as error:
            assert error.diag.sqlstate == "PT404"
            return False
        return True

    gone = together(db_url, [partial(delete, user) for user in users for _ in range(2)])
    assert sum(gone) == len(users)
    assert bonuses() - before == 2 * len(users)


def test_deleting_and_changing_the_address_at_once_do_not_wait_for_each_other_for_ever(
    people: People, db_url: str
) -> None:
    for _ in range(10):
        user = people.new()

        def delete(connection: Connection, user: Person = user) -> None:
            user.on(connection).call("delete_account")

        def change(connection: Connection, user: Person = user) -> None:
            connection.execute("update auth.users set email = %s where id = %s", (f"{uuid4()}@example.test", user.id))

        together(db_url, [delete, change])


def test_a_deletion_does_not_hold_up_the_one_whom_it_waits_for(people: People, db_url: str) -> None:
    user = people.new(credits=5)
    take = {"p_user_id": user.id, "p_amount": 1, "p_transaction_type": "usage"}

    def delete(connection: Connection) -> None:
        user.on(connection).call("delete_account")

    with connect(db_url) as connection, ThreadPoolExecutor(1) as pool, connect(db_url) as other:
        with people.service.on(connection).acting():
            # Writing a profile for the second time makes Postgres look for its account in auth.users.
            people.service.on(connection).call("deduct_user_credits", **take)
            deletion = pool.submit(delete, other)
            wait_until_blocked(connection, other)
            people.service.on(connection).call("deduct_user_credits", **take)
        deletion.result(10)


def test_the_log_forgets_what_an_admin_did_while_the_account_went(people: People, db: Connection, db_url: str) -> None:
    admin, user = people.new(is_admin=True), people.new()
    image = people.image(user)
    with connect(db_url) as connection, ThreadPoolExecutor(1) as pool, connect(db_url) as other:
        with admin.on(connection).acting():
            connection.execute("update public.images set original_filename = 'his.png' where id = %s", (image,))
            deletion = pool.submit(user.on(other).call, "delete_account")
            wait_until_blocked(connection, other)
        deletion.result(10)
    log = db.execute("select details from public.admin_logs where target_user_id = %s", (user.id,)).fetchall()
    assert log == [{"details": None}]


def test_accounts_that_go_amid_everything_deadlock_nobody(people: People, db: Connection, db_url: str) -> None:
    admin, users = people.new(is_admin=True), [people.new(credits=100) for _ in range(4)]
    images = {user.id: people.image(user) for user in users}
    deadline = time.monotonic() + 1.5
    seen: set[str | None] = set()

    def repeat(step: Callable[[Connection], object], connection: Connection) -> None:
        while time.monotonic() < deadline:
            try:
                step(connection)
            except psycopg.Error as error:
                seen.add(error.diag.sqlstate)

    def live(user: Person, connection: Connection) -> None:
        me, image = user.on(connection), images[user.id]
        operation = me.call("request_image_operation", p_image_id=image, p_operation_type="upscale")
        me.call("record_image_download", p_image_id=image)
        me.sql("insert into public.image_collections (name) values ('x')")
        me.call("cancel_image_operation", p_operation_id=operation["id"])

    def work(connection: Connection) -> None:
        for job in people.service.on(connection).rows("claim_image_operations", p_worker_id="test", p_limit=3):
            fence = {"p_operation_id": job["id"], "p_lease_token": job["lease_token"]}
            people.service.on(connection).call("fail_image_operation", **fence, p_error_message="x", p_retryable=False)

    def manage(connection: Connection) -> None:
        for user in users:
            admin.on(connection).sql("update public.images set is_favorite = true where user_id = %s", user.id)
            admin.on(connection).call("admin_adjust_credits", p_user_id=user.id, p_amount=1, p_reason="x")
            connection.execute("update auth.users set email = %s where id = %s", (f"{uuid4()}@x.test", user.id))

    def leave(connection: Connection) -> None:
        for user in users:
            time.sleep(0.3)
            user.on(connection).call("delete_account")

    tasks: list[Callable[[Connection], None]] = [partial(repeat, partial(live, user)) for user in users]
    tasks += [partial(repeat, work), partial(repeat, work), partial(repeat, manage), leave]
    together(db_url, tasks)
    # Gone, not signed in any more, no such row, somebody else was faster, too many stopped: nothing else, and no 40P01.
    assert seen <= {"PT404", "PT401", "PT409", "PT429", "42501", "23503"}
    assert people.service.rows("verify_ledger") == []
    for user in users:
        assert set(rows_about(db, user.id)) == {"public.admin_logs"}


# The account as JSON --------------------------------------------------------------------------------------------------

# Not about the person: sums without anybody in them.
NOT_EXPORTED = {"closed_account_totals"}


def test_an_export_has_a_part_for_every_table_that_knows_accounts(people: People, db: Connection) -> None:
    user = busy_account(people, db)
    export: dict[str, Any] = user.call("export_account")
    tables = tables_about_accounts(db) - NOT_EXPORTED
    assert export.pop("profile")["id"] == str(user.id)
    assert tables - {"profiles"} == set(export) - {"account", "exported_at", "objects"}
    empty = [key for key, value in export.items() if not value]
    assert empty == []
    assert export["account"]["email"] == user.email
    assert [(row["bucket_id"], row["size"]) for row in export["objects"]] == [
        ("avatars", 7),
        ("originals", 7),
        ("results", 7),
    ]
    assert people.service.call("export_user_account", p_user_id=user.id).keys() >= export.keys()
    clear(db, user)


def test_an_export_has_nothing_of_other_people_and_no_secret_of_the_engine(people: People, db: Connection) -> None:
    other = busy_account(people, db)
    user = busy_account(people, db)
    text = json.dumps(user.call("export_account"))
    assert str(other.id) not in text
    (entry,) = db.execute("select * from public.admin_logs where target_user_id = %s", (user.id,)).fetchall()
    assert str(entry["actor_id"]) not in text
    (account,) = db.execute("select * from auth.users where id = %s", (user.id,)).fetchall()
    assert not [key for key in account if ("token" in key or "password" in key) and key in text]
    for secret in ("lease_token", "worker_id", "queue_tag", "response_data", "user_agent_of_admin"):
        assert secret not in text, secret
    for person in (user, other):
        clear(db, person)


def test_nobody_exports_or_deletes_somebody_else(people: People) -> None:
    user, admin = people.new(), people.new(is_admin=True)
    for somebody in (people.anon, user, admin):
        with refused("42501"):
            somebody.call("export_user_account", p_user_id=people.new().id)
        with refused("42501"):
            somebody.call("delete_user_account", p_user_id=people.new().id, p_reason="x")
    for function in ("export_account", "delete_account"):
        for somebody in (people.anon, people.service):
            with refused("42501"):
                somebody.call(function)
    with refused("PT404"):
        people.service.call("export_user_account", p_user_id=uuid4())


# What was still on its way --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bucket", ["originals", "results", "avatars"])
def test_what_arrived_while_the_account_went_is_an_orphan(people: People, db: Connection, bucket: str) -> None:
    user = people.new()
    user.call("delete_account")
    db.execute(
        "insert into storage.objects (bucket_id, name, created_at) values (%s, %s, now() - interval '2 days')",
        (bucket, f"{user.id}/late.png"),
    )
    found = {row["name"] for row in people.service.rows("orphaned_storage_objects", p_limit=1000)}
    clear(db, user)
    assert f"{user.id}/late.png" in found
