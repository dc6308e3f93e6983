"""How many bytes an account may upload: Storage's two steps of an upload, played as it writes them."""

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.database.personas import UNKNOWN, Connection, People, Person, connect, refused, together, wait_until_blocked

MB, GB = 1024**2, 1024**3
LEAST = 16 * 1024
FREE, CUSTOMER = 2 * GB, 100 * GB
FULL = "There is no room for this file"
INSERT = "insert into storage.objects (bucket_id, name, metadata, owner_id) values (%s, %s, %s, %s)"
UPSERT = (
    f"{INSERT} on conflict (name, bucket_id) do update set metadata = excluded.metadata, owner_id = excluded.owner_id"
)
DELETE = "delete from storage.objects where bucket_id = 'originals' and name = %s"


def ask(user: Person, size: int | None, name: str = "", *, bucket: str = "originals", upsert: bool = False) -> None:
    """Storage's first step: whether the user may, tried under his role and taken back. The size may be unknown."""
    metadata = {"mimetype": "image/png"} | ({} if size is None else {"contentLength": size})
    row = (bucket, name or f"{user.id}/{uuid4()}.png", Jsonb(metadata), str(user.id))
    with user.trying() as connection:
        connection.execute(UPSERT if upsert else INSERT, row)


def finish(
    service: Person, user: Person, size: Any, name: str = "", *, bucket: str = "originals", owned: bool = True
) -> str:
    """Its second step: the row, written as the service when the bytes are there."""
    name = name or f"{user.id}/{uuid4()}.png"
    service.sql(UPSERT, bucket, name, Jsonb({"size": size, "contentLength": size}), str(user.id) if owned else None)
    return name


def upload(people: People, user: Person, size: int, name: str = "", *, upsert: bool = False) -> str:
    """Both."""
    ask(user, size, name, upsert=upsert)
    return finish(people.service, user, size, name)


def remove(db: Connection, name: str) -> None:
    """What Storage does when a file is removed."""
    with db.transaction():
        db.execute("set local storage.allow_delete_query = 'true'")
        db.execute(DELETE, (name,))


def used(user: Person) -> int:
    return int(user.rows("upload_usage")[0]["used_bytes"])


def limit(user: Person) -> int:
    return int(user.rows("upload_usage")[0]["limit_bytes"])


def buy(people: People, user: Person) -> UUID:
    """A purchase as billing writes it; returns its grant."""
    paid = {"p_amount": 10, "p_transaction_type": "purchase", "p_money_amount": Decimal("7.99"), "p_currency": "USD"}
    grant: UUID = people.service.call("grant_credits", p_user_id=user.id, **paid)["id"]
    return grant


# The bound ------------------------------------------------------------------------------------------------------------


def test_a_free_account_uploads_up_to_its_bound_and_not_beyond(people: People) -> None:
    user = people.new()
    upload(people, user, FREE - MB)
    with refused("42501", FULL) as caught:
        ask(user, MB + 1)
    diagnosis = caught.value.diag
    assert diagnosis.message_primary == (
        f"{FULL}: 2 of your 2 GB are in use. "
        "Delete pictures that you no longer need, or buy credits and get 100 GB, then upload again."
    )
    assert diagnosis.message_primary.endswith(diagnosis.message_hint)
    assert json.loads(diagnosis.message_detail) == {
        "used_bytes": FREE - MB, "limit_bytes": FREE, "file_bytes": MB + 1,
    }  # fmt: skip
    upload(people, user, MB)
    with refused("42501", FULL):
        ask(user, None)
    assert user.rows("upload_usage") == [{"used_bytes": FREE, "limit_bytes": FREE}]


def test_what_was_deleted_makes_room_again(people: People, db: Connection) -> None:
    user = people.new()
    name = upload(people, user, FREE)
    with refused("42501", FULL):
        ask(user, MB)
    remove(db, name)
    assert used(user) == 0
    upload(people, user, FREE)


def test_asking_alone_takes_no_room(people: People) -> None:
    user = people.new()
    for _ in range(3):
        ask(user, FREE)
    assert used(user) == 0


@pytest.mark.parametrize("declared", [None, 0, 1, -FREE, "a lot", True])
def test_the_size_that_counts_is_the_one_that_storage_measured(people: People, declared: Any) -> None:
    user = people.new()
    upload(people, user, FREE - MB)
    ask(user, declared)
    with refused("42501", FULL):
        finish(people.service, user, 50 * MB)
    assert used(user) == FREE - MB


@pytest.mark.parametrize("forged", [-FREE, "-5", "1e3", "NaN", "9" * 30, None, {"a": 1}])
def test_no_size_makes_the_count_smaller_or_breaks_it(people: People, db: Connection, forged: Any) -> None:
    user = people.new()
    upload(people, user, MB)
    name = finish(people.service, user, forged)
    assert used(user) == MB + LEAST
    remove(db, name)
    assert used(user) == MB


def test_small_files_count_for_the_room_of_their_rows(people: People) -> None:
    user = people.new()
    upload(people, user, 0)
    upload(people, user, 1)
    assert used(user) == 2 * LEAST


def test_avatars_count_and_results_do_not(people: People) -> None:
    user = people.new()
    finish(people.service, user, FREE - MB, bucket="avatars")
    finish(people.service, user, CUSTOMER, bucket="results", owned=False)
    assert used(user) == FREE - MB
    for bucket in ("originals", "avatars"):
        with refused("42501", FULL):
            ask(user, 2 * MB, bucket=bucket)


def test_a_replaced_file_counts_once(people: People) -> None:
    user = people.new()
    name = upload(people, user, FREE)
    upload(people, user, FREE, name, upsert=True)
    upload(people, user, FREE - 5 * MB, name, upsert=True)
    assert used(user) == FREE - 5 * MB
    with refused("42501", FULL):
        ask(user, FREE + 1, name, upsert=True)


def test_a_moved_file_counts_once(people: People, db: Connection) -> None:
    user = people.new()
    name = upload(people, user, FREE)
    user.sql("update storage.objects set name = %s where name = %s", f"{name}.moved", name)
    user.sql("update storage.objects set bucket_id = 'avatars' where name = %s", f"{name}.moved")
    assert used(user) == FREE
    db.execute("update storage.objects set bucket_id = 'results' where name = %s", (f"{name}.moved",))
    assert used(user) == 0


# Whose ----------------------------------------------------------------------------------------------------------------


def test_nobody_fills_the_room_of_others(people: People) -> None:
    user, other = people.new(), people.new()
    upload(people, user, FREE)
    for person in (other, people.anon):
        with refused("42501", "row-level security"):
            ask(person, MB, f"{user.id}/{uuid4()}.png")
    upload(people, other, FREE)
    assert (used(user), used(other)) == (FREE, FREE)


def test_a_full_account_keeps_no_service_from_working(people: People) -> None:
    user = people.new()
    upload(people, user, FREE)
    finish(people.service, user, 50 * MB, owned=False)
    assert used(user) == FREE + 50 * MB
    with refused("42501", FULL):
        ask(user, None)


@pytest.mark.parametrize("folder", [str(UNKNOWN), "nobody", ""])
def test_what_lies_in_nobodys_folder_counts_for_nobody(people: People, db: Connection, folder: str) -> None:
    name = f"{folder}/{uuid4()}"
    people.service.sql(INSERT, "originals", name, Jsonb({"size": CUSTOMER}), folder)
    remove(db, name)


def test_one_statement_counts_for_each_account(people: People, db: Connection) -> None:
    one, two = people.new(), people.new()
    names = [f"{person.id}/{number}" for person in (one, two, one) for number in (uuid4(), uuid4())]
    db.execute(
        "insert into storage.objects (bucket_id, name, metadata)"
        " select 'originals', n, jsonb_build_object('size', 1048576) from unnest(%s::text[]) as n",
        (names,),
    )
    assert (used(one), used(two)) == (4 * MB, 2 * MB)
    with db.transaction():
        db.execute("set local storage.allow_delete_query = 'true'")
        db.execute("delete from storage.objects where name = any(%s)", (names[1:4],))
    assert (used(one), used(two)) == (3 * MB, 0)


# Customers ------------------------------------------------------------------------------------------------------------


def test_a_customer_has_more_room_and_keeps_it_when_the_credits_are_spent(people: People) -> None:
    user = people.new()
    upload(people, user, FREE)
    buy(people, user)
    people.service.call("deduct_user_credits", p_user_id=user.id, p_amount=12, p_transaction_type="usage")
    upload(people, user, CUSTOMER - FREE)
    with refused("42501", f"{FULL}: 100 of your 100 GB are in use. Delete pictures that you no longer need, then"):
        ask(user, MB)


def test_money_that_went_back_buys_no_room_and_takes_nothing_away(people: People, db: Connection) -> None:
    user = people.new()
    grant = buy(people, user)
    name = upload(people, user, 3 * GB)
    claw = {"p_grant_id": grant, "p_reason": "dispute", "p_currency": "USD"}
    people.service.call("clawback_credits", p_amount=1, p_money_amount=Decimal("0.80"), **claw)
    assert limit(user) == CUSTOMER
    rest = people.service.call("clawback_credits", p_amount=9, p_money_amount=Decimal("7.19"), **claw)
    assert user.rows("upload_usage") == [{"used_bytes": 3 * GB, "limit_bytes": FREE}]
    with refused("42501", FULL):
        ask(user, None)
    # He may still tidy up.
    upload(people, user, 3 * GB - MB, name, upsert=True)
    user.sql("update storage.objects set name = %s where name = %s", f"{name}.moved", name)
    people.service.call("reverse_clawback", p_clawback_id=rest["id"], p_reason="won")
    assert limit(user) == CUSTOMER
    remove(db, f"{name}.moved")


def test_a_trial_and_given_credits_are_no_payment_and_a_given_plan_is_one(people: People, db: Connection) -> None:
    user = people.new(credits=50, plan="basic")
    free = {"p_amount": 10, "p_transaction_type": "bonus", "p_money_amount": Decimal(0), "p_currency": "USD"}
    people.service.call("grant_credits", p_user_id=user.id, **free)
    db.execute(
        "insert into public.subscription_history (user_id, stripe_subscription_id, status, started_at)"
        " values (%s, %s, 'active', now())",
        (user.id, str(uuid4())),
    )
    assert limit(user) == FREE
    given = people.new()
    people.service.call(
        "admin_comp_subscription", p_user_id=given.id, p_plan="basic", p_months=1, p_reason="for the fair"
    )
    assert limit(given) == CUSTOMER
    db.execute("update public.subscription_history set ended_at = now() where user_id = %s", (given.id,))
    assert limit(given) == FREE


# The count ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [False, True], ids=["the first ones", "later ones"])
def test_many_uploads_at_once_do_not_pass_the_bound(people: People, db_url: str, *, begun: bool) -> None:
    user, size = people.new(), 50 * MB
    if begun:
        upload(people, user, size)

    def send(connection: Connection) -> int:
        sent = 0
        for _ in range(10):
            try:
                # All have asked before the first has ended: what an attacker would do.
                finish(people.service.on(connection), user, size)
                sent += 1
            except psycopg.Error as error:
                assert error.diag.sqlstate == "42501"
        return sent

    assert sum(together(db_url, [send] * 6)) + begun == FREE // size
    assert used(user) == FREE // size * size


def test_racing_uploads_and_removals_leave_the_right_count(people: People, db: Connection, db_url: str) -> None:
    user = people.new()

    def send(connection: Connection) -> None:
        names = [finish(people.service.on(connection), user, MB) for _ in range(10)]
        for name in names[:7]:
            remove(connection, name)

    together(db_url, [send] * 6)
    assert used(user) == 18 * MB
    db.execute("delete from private.upload_totals where user_id = %s", (user.id,))
    assert used(user) == 18 * MB


def test_two_first_uploads_of_an_account_wait_for_each_other(people: People, db_url: str) -> None:
    user = people.new()
    with connect(db_url) as one, connect(db_url) as two, ThreadPoolExecutor(1) as pool:
        with people.service.on(one).acting():
            one.execute(INSERT, ("originals", f"{user.id}/first.png", Jsonb({"size": MB}), str(user.id)))
            second = pool.submit(finish, people.service.on(two), user, MB)
            wait_until_blocked(one, two)
        second.result(30)
    assert used(user) == 2 * MB


def test_files_from_before_the_count_are_added_up_at_the_next_upload(people: People, db: Connection) -> None:
    user = people.new()
    name = upload(people, user, FREE - MB)
    db.execute("delete from private.upload_totals where user_id = %s", (user.id,))
    assert used(user) == FREE - MB
    with refused("42501", FULL):
        ask(user, 2 * MB)
    upload(people, user, MB)
    assert used(user) == FREE
    db.execute("delete from private.upload_totals where user_id = %s", (user.id,))
    remove(db, name)
    assert used(user) == MB


# Who sees it ----------------------------------------------------------------------------------------------------------


def test_a_user_sees_his_own_use_and_operators_everybodys(people: People) -> None:
    user = people.new()
    upload(people, user, MB)
    usage = [{"used_bytes": MB, "limit_bytes": FREE}]
    assert user.rows("upload_usage") == people.service.rows("user_upload_usage", p_user_id=user.id) == usage
    for person in (people.anon, people.service):
        with refused("42501"):
            person.rows("upload_usage")
    for person in (people.anon, user, people.new(is_admin=True)):
        with refused("42501"):
            person.rows("user_upload_usage", p_user_id=user.id)
    for unknown in (None, uuid4()):
        with refused("PT404"):
            people.service.rows("user_upload_usage", p_user_id=unknown)
    for person in (user, people.service):
        with refused("42501"):
            person.sql("select * from private.upload_totals")
