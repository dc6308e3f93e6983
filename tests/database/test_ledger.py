"""The credit ledger: what it adds up to, what it refuses, and that two calls at once cannot fool it."""

from functools import partial
from typing import Any

import psycopg
import pytest

from tests.database.personas import UNKNOWN, Connection, People, Person, refused, together

ADD, DEDUCT = "add_user_credits", "deduct_user_credits"


def violations(people: People) -> list[dict[str, Any]]:
    return people.service.rows("verify_ledger")


def test_a_new_account_starts_with_two_free_credits_that_the_ledger_explains(people: People) -> None:
    user = people.new()
    (entry,) = people.ledger(user)
    assert people.balance(user) == 2
    assert (entry["transaction_type"], entry["amount"], entry["balance_before"], entry["balance_after"]) == (
        "bonus",
        2,
        0,
        2,
    )


def test_adding_and_deducting_return_the_balance_and_chain_the_entries(people: People) -> None:
    user = people.new()
    service = people.service
    assert service.call(ADD, p_user_id=user.id, p_amount=10, p_transaction_type="purchase") == 12
    assert service.call(DEDUCT, p_user_id=user.id, p_amount=5, p_transaction_type="usage") == 7
    assert service.call(DEDUCT, p_user_id=user.id, p_amount=1, p_transaction_type="expiration") == 6
    assert service.call(ADD, p_user_id=user.id, p_amount=3, p_transaction_type="refund") == 9

    entries = people.ledger(user)
    assert [entry["seq"] for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry["balance_after"] for entry in entries] == [2, 12, 7, 6, 9]
    assert [entry["balance_before"] for entry in entries] == [0, 2, 12, 7, 6]
    (profile,) = user.sql("select total_credits_purchased, total_credits_used from public.profiles")
    assert profile == {"total_credits_purchased": 10, "total_credits_used": 5}
    assert violations(people) == []


def test_the_seeds_calls_by_position_still_work(people: People) -> None:
    user = people.new()
    (row,) = people.service.sql(
        "select public.add_user_credits(%s, 5, 'purchase', 'Ten', '{\"a\": 1}') as balance", user.id
    )
    assert row["balance"] == 7


def test_too_few_credits_are_refused_with_what_is_needed_and_what_is_there(people: People) -> None:
    user = people.new()
    with refused("PT402", "Insufficient credits. Required: 3, Available: 2") as caught:
        people.service.call(DEDUCT, p_user_id=user.id, p_amount=3, p_transaction_type="usage")
    assert caught.value.diag.message_detail == '{"required": 3, "available": 2}'
    assert people.balance(user) == 2
    assert len(people.ledger(user)) == 1


@pytest.mark.parametrize("function", [ADD, DEDUCT])
@pytest.mark.parametrize(
    ("wrong", "sqlstate"),
    [
        ({"p_amount": 0}, "PT400"),
        ({"p_amount": -1}, "PT400"),
        ({"p_amount": None}, "PT400"),
        ({"p_user_id": None}, "PT400"),
        ({"p_user_id": UNKNOWN}, "PT404"),
        ({"p_transaction_type": None}, "PT400"),
        ({"p_transaction_type": "gift"}, "PT400"),
        ({"p_description": "x" * 501}, "PT413"),
        ({"p_metadata": []}, "PT400"),
        ({"p_metadata": {"x": "y" * 9000}}, "PT413"),
        ({"p_idempotency_key": ""}, "PT400"),
        ({"p_idempotency_key": "x" * 201}, "PT400"),
        ({"p_idempotency_key": "operation:x"}, "PT400"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_argument_is_refused_and_changes_nothing(
    people: People, function: str, wrong: dict[str, Any], sqlstate: str
) -> None:
    user = people.new()
    kind = "purchase" if function == ADD else "usage"
    with refused(sqlstate):
        people.service.call(function, **{"p_user_id": user.id, "p_amount": 1, "p_transaction_type": kind} | wrong)
    assert people.balance(user) == 2
    assert len(people.ledger(user)) == 1


def test_each_direction_takes_its_own_types_only(people: People) -> None:
    user = people.new()
    for function, kinds in ((ADD, ("usage", "expiration")), (DEDUCT, ("purchase", "refund", "bonus"))):
        for kind in kinds:
            with refused("PT400"):
                people.service.call(function, p_user_id=user.id, p_amount=1, p_transaction_type=kind)


def test_a_balance_beyond_the_limit_is_refused(people: People) -> None:
    user = people.new()
    with refused("PT400", "would exceed 1000000000 credits"):
        people.service.call(ADD, p_user_id=user.id, p_amount=2147483647, p_transaction_type="purchase")
    assert people.service.call(ADD, p_user_id=user.id, p_amount=999999998, p_transaction_type="purchase") == 10**9
    # A refund must always fit.
    assert people.service.call(ADD, p_user_id=user.id, p_amount=5, p_transaction_type="refund") == 10**9 + 5
    with refused("PT400", "would exceed 2147483647 credits"):
        people.service.call(ADD, p_user_id=user.id, p_amount=2147483647, p_transaction_type="refund")


def test_totals_stop_at_the_largest_integer(people: People) -> None:
    user = people.new()
    for _ in range(3):
        people.service.call(ADD, p_user_id=user.id, p_amount=999999998, p_transaction_type="purchase")
        assert people.service.call(DEDUCT, p_user_id=user.id, p_amount=999999998, p_transaction_type="usage") == 2
    (totals,) = user.sql("select total_credits_purchased, total_credits_used from public.profiles")
    assert set(totals.values()) == {2147483647}
    assert violations(people) == []


def test_the_same_key_and_request_get_the_first_answer(people: People) -> None:
    user = people.new()
    request = {"p_user_id": user.id, "p_amount": 10, "p_transaction_type": "purchase", "p_idempotency_key": "event-1"}
    assert people.service.call(ADD, **request) == 12
    people.service.call(DEDUCT, p_user_id=user.id, p_amount=4, p_transaction_type="usage")
    assert people.service.call(ADD, **request) == 12
    assert people.balance(user) == 8


@pytest.mark.parametrize(
    "other",
    [{"p_amount": 11}, {"p_transaction_type": "bonus"}, {"p_description": "x"}, {"p_metadata": {"a": 1}}],
    ids=str,
)
def test_the_same_key_with_another_request_is_refused(people: People, other: dict[str, Any]) -> None:
    user = people.new()
    request = {"p_user_id": user.id, "p_amount": 10, "p_transaction_type": "purchase", "p_idempotency_key": "event-1"}
    people.service.call(ADD, **request)
    with refused("PT409", "used for another request"):
        people.service.call(ADD, **request | other)
    assert people.balance(user) == 12


def test_a_key_belongs_to_one_account(people: People) -> None:
    for user in (people.new(), people.new()):
        request = {"p_user_id": user.id, "p_amount": 1, "p_transaction_type": "bonus", "p_idempotency_key": "gift"}
        assert people.service.call(ADD, **request) == 3


def test_the_ledger_cannot_be_changed_even_by_its_owner(people: People, db: Connection) -> None:
    user = people.new()
    with refused("PT403", "append-only"):
        db.execute("update public.credit_transactions set amount = 1 where user_id = %s", (user.id,))
    with refused("PT403", "append-only"):
        db.execute("delete from public.credit_transactions where user_id = %s", (user.id,))
    with refused("PT403", "append-only"):
        db.execute("truncate public.credit_transactions cascade")


def test_deleting_an_account_takes_its_ledger_images_and_operations_along(people: People, db: Connection) -> None:
    user = people.new(credits=10)
    image = people.image(user)
    user.call("request_image_operation", p_image_id=image, p_operation_type="upscale")
    db.execute("delete from auth.users where id = %s", (user.id,))
    for table in ("profiles", "credit_transactions", "images", "image_operations"):
        column = "id" if table == "profiles" else "user_id"
        rows = db.execute(f"select 1 from public.{table} where {column} = %s", (user.id,)).fetchall()
        assert rows == [], table


def _deduct(user: Person, service: Person, times: int, connection: Connection) -> int:
    done = 0
    for _ in range(times):
        try:
            service.on(connection).call(DEDUCT, p_user_id=user.id, p_amount=1, p_transaction_type="usage")
            done += 1
        except psycopg.Error as error:
            assert error.diag.sqlstate == "PT402"
    return done


def test_deductions_at_once_never_overdraw_and_never_lose_one(people: People, db_url: str) -> None:
    user = people.new(credits=100)
    done = together(db_url, [partial(_deduct, user, people.service, 20) for _ in range(8)])
    assert sum(done) == 100
    assert people.balance(user) == 0
    assert len([entry for entry in people.ledger(user) if entry["transaction_type"] == "usage"]) == 100
    assert violations(people) == []


def test_the_same_key_sent_many_times_at_once_counts_once(people: People, db_url: str) -> None:
    user = people.new()

    def add(connection: Connection) -> int:
        balance: int = people.service.on(connection).call(
            ADD, p_user_id=user.id, p_amount=10, p_transaction_type="purchase", p_idempotency_key="event-1"
        )
        return balance

    assert together(db_url, [add] * 8) == [12] * 8
    assert people.balance(user) == 12


def test_adding_and_deducting_at_once_adds_up(people: People, db_url: str) -> None:
    users = [people.new(credits=50) for _ in range(3)]

    def mixed(connection: Connection) -> None:
        service = people.service.on(connection)
        for step in range(15):
            user = users[step % 3]
            service.call(ADD, p_user_id=user.id, p_amount=3, p_transaction_type="purchase")
            service.call(DEDUCT, p_user_id=user.id, p_amount=2, p_transaction_type="usage")

    together(db_url, [mixed] * 6)
    assert [people.balance(user) for user in users] == [50 + 30] * 3
    assert violations(people) == []
