"""Clawbacks: what is left of a grant goes, the rest is a debt, and all of it can be undone."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.database.personas import UNKNOWN, Connection, People, Person, Row, refused, together
from tests.database.test_credit_grants import TOMORROW, grant, kinds, let_expire, remaining, use


def clawback(people: People, row: Row, **arguments: Any) -> Row:
    made: Row = people.service.call(
        "clawback_credits", **{"p_grant_id": row["id"], "p_reason": "Money back"} | arguments
    )
    return made


def reverse(people: People, row: Row, **arguments: Any) -> Row:
    made: Row = people.service.call(
        "reverse_clawback", **{"p_clawback_id": row["id"], "p_reason": "Dispute won"} | arguments
    )
    return made


def debt(user: Person) -> int:
    owed: int = user.sql("select credit_debt from public.profiles")[0]["credit_debt"]
    return owed


@pytest.fixture(autouse=True)
def _sound(people: People) -> Any:
    """Whatever a test did, the ledger is sound afterwards."""
    yield
    assert people.service.rows("verify_ledger") == []


def test_a_clawback_takes_its_own_grant_only(people: People) -> None:
    user = people.new()
    grant(people, user, 5, p_expires_at=TOMORROW)
    made = clawback(people, grant(people, user, 10), p_money_amount=Decimal("7.99"), p_currency="usd")
    assert remaining(user) == [2, 5, 0]
    assert (made["user_id"], made["amount"], made["owed"], made["reason"]) == (user.id, 10, 0, "Money back")
    assert (made["money_amount"], made["currency"], made["reversed_at"]) == (Decimal("7.99"), "USD", None)
    entry = people.ledger(user)[-1]
    assert (entry["transaction_type"], entry["amount"], entry["balance_after"]) == ("clawback", 10, 7)
    assert (entry["clawback_id"], entry["description"]) == (made["id"], "Money back")


def test_what_is_spent_already_becomes_a_debt_and_the_balance_stays_zero_or_more(people: People) -> None:
    user = people.new(credits=0)
    row = grant(people, user, 10)
    use(people, user, 7)
    assert clawback(people, row)["owed"] == 7
    assert (people.balance(user), debt(user)) == (0, 7)


def test_what_expired_unspent_is_no_debt(people: People, db: Connection) -> None:
    user = people.new(credits=0)
    row = grant(people, user, 10, p_expires_at=TOMORROW)
    usage = use(people, user, 3)
    let_expire(db, row)
    people.service.rows("expire_credits")
    # First what is left, then what ended unspent, then what was spent.
    made = [clawback(people, row, p_amount=amount) for amount in (5, 4, 1)]
    assert [(part["expired"], part["owed"]) for part in made] == [(5, 0), (2, 2), (0, 1)]
    # What no clawback stands for any more counts for the next.
    reverse(people, made[0])
    assert debt(user) == 3
    again = clawback(people, row)
    assert (again["amount"], again["expired"], again["owed"]) == (5, 5, 0)
    people.service.call("refund_transaction", p_transaction_id=usage)
    assert (people.balance(user), debt(user), remaining(user)) == (0, 0, [0, 0])


def test_what_an_operator_took_from_a_grant_is_no_debt_either(people: People) -> None:
    user = people.new(credits=0)
    row = grant(people, user, 5)
    people.service.call("deduct_user_credits", p_user_id=user.id, p_amount=2, p_transaction_type="expiration")
    use(people, user, 2)
    made = clawback(people, row)
    assert (made["expired"], made["owed"], people.balance(user)) == (2, 2, 0)


def test_a_clawback_of_a_spent_grant_writes_no_entry(people: People) -> None:
    user = people.new(credits=0)
    row = grant(people, user, 3)
    use(people, user, 3)
    assert clawback(people, row)["owed"] == 3
    assert kinds(people, user)[-1] == "usage"


def test_a_grant_can_be_clawed_back_in_parts_up_to_its_amount(people: People) -> None:
    user = people.new(credits=0)
    row = grant(people, user, 10)
    use(people, user, 5)
    assert [clawback(people, row, p_amount=amount)["owed"] for amount in (3, 3)] == [0, 1]
    with refused("PT409", "Only 4 of the 10 credits"):
        clawback(people, row, p_amount=5)
    assert clawback(people, row)["amount"] == 4
    for amount in (None, 1):
        with refused("PT409", "Only 0 of the 10 credits"):
            clawback(people, row, p_amount=amount)
    assert (people.balance(user), debt(user)) == (0, 5)


def test_the_next_credits_settle_the_debt(people: People) -> None:
    user = people.new(credits=0)
    row = grant(people, user, 10)
    use(people, user, 10)
    made = clawback(people, row)
    add = {"p_user_id": user.id, "p_amount": 4, "p_transaction_type": "bonus", "p_idempotency_key": "gift"}
    assert people.service.call("add_user_credits", **add) == 0
    assert (people.balance(user), debt(user)) == (0, 6)
    assert grant(people, user, 20)["remaining"] == 14
    assert (people.balance(user), debt(user)) == (14, 0)
    assert kinds(people, user)[-4:] == ["bonus", "clawback", "purchase", "clawback"]
    assert {entry["clawback_id"] for entry in people.ledger(user) if entry["transaction_type"] == "clawback"} == {
        made["id"]
    }
    # The first answer, although the balance went on.
    assert people.service.call("add_user_credits", **add) == 0


def test_credits_that_were_there_before_settle_nothing(people: People) -> None:
    user = people.new()
    row = grant(people, user, 3, p_priority=-1)
    use(people, user, 3)
    clawback(people, row)
    assert (people.balance(user), debt(user)) == (2, 3)


def test_debts_are_settled_the_oldest_first(people: People, db: Connection) -> None:
    user = people.new(credits=0)
    rows = [grant(people, user, 3), grant(people, user, 4)]
    use(people, user, 7)
    made = [clawback(people, row) for row in rows]
    grant(people, user, 5)
    owed = "select owed from public.credit_clawbacks where id = %s"
    assert [db.execute(owed, (row["id"],)).fetchall()[0]["owed"] for row in made] == [0, 2]
    assert [entry["amount"] for entry in people.ledger(user)[-2:]] == [3, 2]


def test_a_refund_settles_the_debt_too(people: People) -> None:
    user = people.new(credits=0)
    row = grant(people, user, 10)
    usage = use(people, user, 6)
    clawback(people, row)
    assert debt(user) == 6
    people.service.call("refund_transaction", p_transaction_id=usage)
    assert (people.balance(user), debt(user), remaining(user)) == (0, 0, [0, 0])
    assert kinds(people, user)[-2:] == ["refund", "clawback"]


def test_a_refund_to_several_grants_settles_from_what_expires_first(people: People) -> None:
    user = people.new(credits=0)
    spent = grant(people, user, 4)
    use(people, user, 4)
    grant(people, user, 3)
    grant(people, user, 3, p_expires_at=TOMORROW)
    usage = use(people, user, 6)
    clawback(people, spent)
    people.service.call("refund_transaction", p_transaction_id=usage)
    assert remaining(user) == [0, 0, 2, 0]
    assert debt(user) == 0


def test_a_cancelled_operation_settles_the_debt_too(people: People) -> None:
    user = people.new(credits=0)
    row = grant(people, user, 2)
    operation = user.call("request_image_operation", p_image_id=people.image(user), p_operation_type="vectorize")
    clawback(people, row)
    user.call("cancel_image_operation", p_operation_id=operation["id"])
    assert (people.balance(user), debt(user)) == (0, 0)


def test_a_reversal_gives_back_what_was_taken_and_forgives_the_rest(people: People) -> None:
    user = people.new(credits=0)
    row = grant(people, user, 10)
    use(people, user, 4)
    made = clawback(people, row)
    later = grant(people, user, 3)
    assert (people.balance(user), debt(user)) == (0, 1)
    undone = reverse(people, made)
    assert (undone["owed"], undone["reversal_reason"]) == (0, "Dispute won")
    assert undone["reversed_at"] is not None
    assert (people.balance(user), debt(user)) == (9, 0)
    assert remaining(user) == [0, 6, 3]
    entry = people.ledger(user)[-1]
    assert (entry["transaction_type"], entry["amount"], entry["clawback_id"]) == ("clawback_reversal", 9, made["id"])
    assert clawback(people, later)["amount"] == 3


def test_a_reversed_clawback_can_be_made_again(people: People) -> None:
    user = people.new()
    row = grant(people, user, 10)
    reverse(people, clawback(people, row))
    assert clawback(people, row)["amount"] == 10
    assert people.balance(user) == 2


def test_a_reversal_of_a_mere_debt_writes_no_entry(people: People) -> None:
    user = people.new(credits=0)
    row = grant(people, user, 3)
    use(people, user, 3)
    reverse(people, clawback(people, row))
    assert debt(user) == 0
    assert kinds(people, user)[-1] == "usage"


def test_a_reversal_settles_other_debts(people: People) -> None:
    user = people.new(credits=0)
    kept, spent = grant(people, user, 5), grant(people, user, 4, p_priority=-1)
    use(people, user, 4)
    made = clawback(people, kept)
    clawback(people, spent)
    assert (people.balance(user), debt(user)) == (0, 4)
    reverse(people, made)
    assert (people.balance(user), debt(user)) == (1, 0)


def test_credits_taken_back_from_a_grant_that_settled_an_older_debt_add_up(people: People) -> None:
    user = people.new(credits=0)
    first = grant(people, user, 4)
    use(people, user, 4)
    first_clawback = clawback(people, first)
    second = grant(people, user, 6)
    assert people.balance(user) == 2
    assert clawback(people, second)["owed"] == 4
    # What the first took from the second grant comes back, and pays what the second still owes.
    reverse(people, first_clawback)
    assert (people.balance(user), debt(user)) == (0, 0)


def test_what_a_reversal_gives_back_to_an_expired_grant_expires(people: People, db: Connection) -> None:
    user = people.new()
    row = grant(people, user, 5, p_expires_at=TOMORROW)
    made = clawback(people, row)
    let_expire(db, row)
    reverse(people, made)
    use(people, user, 1)
    assert people.balance(user) == 1


def test_the_same_key_and_request_claw_back_and_reverse_once(people: People) -> None:
    user = people.new()
    row = grant(people, user, 10)
    request = {"p_idempotency_key": "re_1", "p_money_amount": 5, "p_currency": "usd"}
    made = clawback(people, row, **request)
    assert clawback(people, row, **request) == made
    undone = reverse(people, made, p_idempotency_key="dp_1")
    assert reverse(people, made, p_idempotency_key="dp_1") == undone
    assert people.balance(user) == 12
    for key in (None, "dp_2"):
        with refused("PT409", "reversed already"):
            reverse(people, made, p_idempotency_key=key)


@pytest.mark.parametrize(
    "other",
    [{"p_amount": 3}, {"p_reason": "x"}, {"p_money_amount": 6}, {"p_currency": "eur"}, {"p_grant_id": "other"}],
    ids=str,
)
def test_the_same_key_with_another_clawback_is_refused(people: People, other: dict[str, Any]) -> None:
    user = people.new()
    row, second = grant(people, user, 10), grant(people, user, 10)
    request = {"p_amount": 2, "p_idempotency_key": "re_1", "p_money_amount": 5, "p_currency": "usd"}
    clawback(people, row, **request)
    if "p_grant_id" in other:
        other = {"p_grant_id": second["id"]}
    with refused("PT409", "used for another request"):
        clawback(people, row, **request | other)
    assert people.balance(user) == 20


def test_the_key_of_a_reversal_belongs_to_its_clawback(people: People) -> None:
    user = people.new()
    row = grant(people, user, 10)
    first, second = clawback(people, row, p_amount=2), clawback(people, row, p_amount=3)
    reverse(people, first, p_idempotency_key="dp_1")
    with refused("PT409", "used for another request"):
        reverse(people, second, p_idempotency_key="dp_1")
    with refused("PT409", "used for another request"):
        reverse(people, first, p_idempotency_key="dp_1", p_reason="Something else")


@pytest.mark.parametrize(
    ("wrong", "sqlstate"),
    [
        ({"p_grant_id": UNKNOWN}, "PT404"),
        ({"p_grant_id": None}, "PT404"),
        ({"p_amount": 0}, "PT400"),
        ({"p_amount": -1}, "PT400"),
        ({"p_reason": None}, "PT400"),
        ({"p_reason": " "}, "PT400"),
        ({"p_reason": "x" * 501}, "PT413"),
        ({"p_money_amount": 1}, "PT400"),
        ({"p_idempotency_key": "operation:x"}, "PT400"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_clawback_is_refused_and_changes_nothing(people: People, wrong: dict[str, Any], sqlstate: str) -> None:
    user = people.new()
    row = grant(people, user, 10)
    with refused(sqlstate):
        clawback(people, row, **wrong)
    assert people.balance(user) == 12


@pytest.mark.parametrize("wrong", [{"p_clawback_id": UNKNOWN}, {"p_clawback_id": None}, {"p_reason": ""}], ids=str)
def test_a_bad_reversal_is_refused(people: People, wrong: dict[str, Any]) -> None:
    with refused("PT400" if "p_reason" in wrong else "PT404"):
        reverse(people, clawback(people, grant(people, people.new(), 1)), **wrong)


def test_clawbacks_of_one_grant_at_once_take_it_once(people: People, db_url: str) -> None:
    user = people.new()
    row = grant(people, user, 10)

    def take(connection: Connection) -> UUID:
        other = People(connection)
        made: UUID = clawback(other, row, p_idempotency_key="re_1")["id"]
        return made

    assert len(set(together(db_url, [take] * 8))) == 1
    assert people.balance(user) == 2
