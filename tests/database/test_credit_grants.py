"""Grants: in which order they are spent, when they expire, and where a refund goes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.database.personas import UNKNOWN, Connection, People, Person, Row, refused, together

TOMORROW = datetime.now(UTC) + timedelta(days=1)
NEXT_WEEK = datetime.now(UTC) + timedelta(days=7)


def grant(people: People, user: Person, amount: int, kind: str = "purchase", **terms: Any) -> Row:
    row: Row = people.service.call(
        "grant_credits", p_user_id=user.id, p_amount=amount, p_transaction_type=kind, **terms
    )
    return row


def use(people: People, user: Person, amount: int, **arguments: Any) -> UUID:
    """Deduct, and return the id of the usage entry."""
    request = {"p_user_id": user.id, "p_amount": amount, "p_transaction_type": "usage"}
    people.service.call("deduct_user_credits", **request, **arguments)
    newest: UUID = people.ledger(user)[-1]["id"]
    return newest


def remaining(user: Person) -> list[int]:
    return [row["remaining"] for row in user.sql("select remaining from public.credit_grants order by seq")]


def let_expire(db: Connection, row: Row) -> None:
    """As if the grant's time had come."""
    db.execute("update public.credit_grants set expires_at = now() where id = %s", (row["id"],))


def kinds(people: People, user: Person) -> list[str]:
    return [entry["transaction_type"] for entry in people.ledger(user)]


@pytest.fixture(autouse=True)
def _sound(people: People) -> Any:
    """Whatever a test did, the ledger is sound afterwards."""
    yield
    assert people.service.rows("verify_ledger") == []


@pytest.fixture
def _nothing_expires(people: People) -> None:
    """No grant of another test is left to expire."""
    people.service.rows("expire_credits", p_now="infinity", p_limit=10000)


def test_every_credit_makes_a_grant(people: People) -> None:
    user = people.new()
    people.service.call("add_user_credits", p_user_id=user.id, p_amount=5, p_transaction_type="refund")
    grants = user.sql("select source, amount, remaining, seq, expires_at from public.credit_grants order by seq")
    never = {"expires_at": None}
    assert grants == [
        {"source": "bonus", "amount": 2, "remaining": 2, "seq": 1} | never,
        {"source": "refund", "amount": 5, "remaining": 5, "seq": 2} | never,
    ]


def test_a_grant_keeps_its_terms_and_so_does_its_entry(people: People, db: Connection) -> None:
    user = people.new()
    (package,) = db.execute("select id from public.pay_as_you_go_packages limit 1").fetchall()
    (plan,) = db.execute("select id from public.subscription_plans limit 1").fetchall()
    row = grant(
        people, user, 20, p_source="subscription", p_expires_at=TOMORROW, p_priority=5, p_description="May",
        p_metadata={"invoice": "in_1"}, p_money_amount=Decimal("7.99"), p_currency="usd",
        p_stripe_payment_intent_id="pi_1", p_subscription_plan_id=plan["id"],
        p_pay_as_you_go_package_id=package["id"],
    )  # fmt: skip
    entry = people.ledger(user)[-1]
    assert (row["user_id"], row["transaction_id"], row["seq"]) == (user.id, entry["id"], 2)
    assert (row["source"], row["amount"], row["remaining"], row["is_spent"]) == ("subscription", 20, 20, False)
    assert (row["priority"], row["expires_at"]) == (5, TOMORROW)
    assert (row["money_amount"], row["currency"]) == (Decimal("7.99"), "USD")
    assert (entry["transaction_type"], entry["balance_after"], entry["expires_at"]) == ("purchase", 22, TOMORROW)
    assert (entry["description"], entry["metadata"]) == ("May", {"invoice": "in_1"})
    assert entry["stripe_payment_intent_id"] == "pi_1"
    assert (entry["subscription_plan_id"], entry["pay_as_you_go_package_id"]) == (plan["id"], package["id"])


@pytest.mark.parametrize(
    ("wrong", "sqlstate"),
    [
        ({"p_user_id": UNKNOWN}, "PT404"),
        ({"p_amount": 0}, "PT400"),
        ({"p_transaction_type": "usage"}, "PT400"),
        ({"p_source": "gift"}, "PT400"),
        ({"p_priority": None}, "PT400"),
        ({"p_priority": 1001}, "PT400"),
        ({"p_money_amount": 1}, "PT400"),
        ({"p_currency": "USD"}, "PT400"),
        ({"p_money_amount": -1, "p_currency": "USD"}, "PT400"),
        ({"p_money_amount": Decimal("1e11"), "p_currency": "USD"}, "PT400"),
        ({"p_money_amount": Decimal("NaN"), "p_currency": "USD"}, "PT400"),
        ({"p_money_amount": 1, "p_currency": "$"}, "PT400"),
        ({"p_stripe_payment_intent_id": "x" * 256}, "PT413"),
        ({"p_subscription_plan_id": UNKNOWN}, "PT404"),
        ({"p_pay_as_you_go_package_id": UNKNOWN}, "PT404"),
        ({"p_idempotency_key": "operation:x"}, "PT400"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_terms_are_refused_and_change_nothing(people: People, wrong: dict[str, Any], sqlstate: str) -> None:
    user = people.new()
    request = {"p_user_id": user.id, "p_amount": 1, "p_transaction_type": "purchase"}
    with refused(sqlstate):
        people.service.call("grant_credits", **request | wrong)
    assert remaining(user) == [2]


@pytest.mark.parametrize(
    "wrong",
    [
        "source = 'gift'",
        "amount = 0, remaining = 0",
        "money_amount = 1",
        "currency = 'USD'",
        "money_amount = 1, currency = 'usd'",
    ],
)
def test_a_grant_with_bad_terms_cannot_be_written_by_hand(people: People, db: Connection, wrong: str) -> None:
    user = people.new()
    values = dict(part.split(" = ") for part in wrong.split(", "))
    terms = {"source": "'bonus'", "amount": "1", "remaining": "1"} | values
    with refused("PT400", "The source, the amount or the money"), db.transaction():
        db.execute(
            f"insert into public.credit_grants (user_id, transaction_id, seq, {', '.join(terms)})"
            f" values (%s, gen_random_uuid(), 9, {', '.join(terms.values())})",
            (user.id,),
        )


def test_the_same_key_and_terms_get_the_same_grant(people: People) -> None:
    user = people.new()
    terms: dict[str, Any] = {
        "p_idempotency_key": "event-1",
        "p_expires_at": TOMORROW,
        "p_money_amount": 5,
        "p_currency": "eur",
    }
    first = grant(people, user, 10, **terms)
    use(people, user, 4)
    assert grant(people, user, 10, **terms)["id"] == first["id"]
    assert people.balance(user) == 8


@pytest.mark.parametrize(
    "other",
    [
        {"p_expires_at": datetime(2100, 1, 1, tzinfo=UTC)}, {"p_expires_at": None}, {"p_priority": 1},
        {"p_source": "subscription"}, {"p_money_amount": 6}, {"p_currency": "usd"}, {"p_amount": 11},
        {"p_stripe_payment_intent_id": "pi_2"}, {"p_transaction_type": "bonus"}, {"p_description": "x"},
        {"p_metadata": {"a": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_the_same_key_with_other_terms_is_refused(people: People, other: dict[str, Any]) -> None:
    user = people.new()
    request = {
        "p_user_id": user.id, "p_amount": 10, "p_transaction_type": "purchase", "p_idempotency_key": "event-1",
        "p_expires_at": TOMORROW, "p_money_amount": 5, "p_currency": "eur",
    }  # fmt: skip
    people.service.call("grant_credits", **request)
    with refused("PT409", "used for another request"):
        people.service.call("grant_credits", **request | other)
    assert people.balance(user) == 12


def test_what_expires_first_is_spent_first_then_by_priority_then_by_age(people: People) -> None:
    user = people.new(credits=0)
    terms: list[dict[str, Any]] = [
        {}, {"p_priority": -1}, {"p_expires_at": NEXT_WEEK}, {"p_expires_at": TOMORROW, "p_priority": 9}, {},
        {"p_expires_at": NEXT_WEEK, "p_priority": -1},
    ]  # fmt: skip
    for term in terms:
        grant(people, user, 2, **term)
    order = []
    while people.balance(user):
        before = remaining(user)
        use(people, user, 1)
        order += [place for place, (old, new) in enumerate(zip(before, remaining(user), strict=True)) if old != new]
    # The first grant is the bonus that was taken away at the start.
    assert order == [4, 4, 6, 6, 3, 3, 2, 2, 1, 1, 5, 5]


def test_a_debit_takes_from_as_many_grants_as_it_needs(people: People, db: Connection) -> None:
    user = people.new()
    grant(people, user, 3, p_expires_at=TOMORROW)
    usage = use(people, user, 4)
    assert remaining(user) == [1, 0]
    rows = db.execute(
        "select amount from public.credit_allocations where transaction_id = %s order by amount", (usage,)
    ).fetchall()
    assert [row["amount"] for row in rows] == [-3, -1]


def test_a_grant_past_its_expiry_is_never_spent(people: People, db: Connection) -> None:
    user = people.new()
    let_expire(db, grant(people, user, 10, p_expires_at=TOMORROW))
    use(people, user, 1)
    assert kinds(people, user) == ["bonus", "purchase", "expiration", "usage"]
    assert [entry["balance_after"] for entry in people.ledger(user)] == [2, 12, 2, 1]
    assert remaining(user) == [1, 0]


@pytest.mark.usefixtures("_nothing_expires")
def test_expired_credits_are_not_available_and_a_refusal_writes_nothing(people: People, db: Connection) -> None:
    user = people.new()
    let_expire(db, grant(people, user, 10, p_expires_at=TOMORROW))
    with refused("PT402", "Required: 3, Available: 2"):
        use(people, user, 3)
    assert people.balance(user) == 12
    assert people.service.rows("expire_credits") == [{"user_id": user.id, "credits": 10}]
    assert people.balance(user) == 2


@pytest.mark.usefixtures("_nothing_expires")
def test_expiring_is_idempotent_and_looks_at_the_time_it_is_given(people: People) -> None:
    users = [people.new(), people.new()]
    for user in users:
        grant(people, user, 4, p_expires_at=TOMORROW)
        grant(people, user, 3, p_expires_at=TOMORROW)
        grant(people, user, 5, p_expires_at=NEXT_WEEK)
        use(people, user, 1)
    assert people.service.rows("expire_credits") == []
    found = people.service.rows("expire_credits", p_now=TOMORROW)
    assert {row["user_id"]: row["credits"] for row in found} == {user.id: 6 for user in users}
    assert people.service.rows("expire_credits", p_now=TOMORROW) == []
    for user in users:
        assert remaining(user) == [2, 0, 0, 5]
        assert [entry["amount"] for entry in people.ledger(user)[-2:]] == [3, 3]
        assert {entry["expires_at"] for entry in people.ledger(user)[-2:]} == {TOMORROW}


@pytest.mark.usefixtures("_nothing_expires")
def test_expiring_in_small_steps_comes_to_an_end(people: People) -> None:
    users = [people.new() for _ in range(3)]
    for user in users:
        grant(people, user, 4, p_expires_at=TOMORROW)
    steps = 0
    while people.service.rows("expire_credits", p_now=TOMORROW, p_limit=1):
        steps += 1
    assert steps == 3
    assert [people.balance(user) for user in users] == [2, 2, 2]


@pytest.mark.parametrize("wrong", [{"p_now": None}, {"p_limit": 0}, {"p_limit": 10001}, {"p_limit": None}], ids=str)
def test_expiring_with_a_bad_argument_is_refused(people: People, wrong: dict[str, Any]) -> None:
    with refused("PT400"):
        people.service.rows("expire_credits", **wrong)


@pytest.mark.usefixtures("_nothing_expires")
def test_expiring_passes_over_a_busy_account(people: People, db_url: str) -> None:
    busy, idle = people.new(), people.new()
    for user in (busy, idle):
        grant(people, user, 4, p_expires_at=TOMORROW)

    def hold(connection: Connection) -> None:
        with connection.transaction():
            connection.execute("select 1 from public.profiles where id = %s for no key update", (busy.id,))
            found = people.service.rows("expire_credits", p_now=TOMORROW)
            assert found == [{"user_id": idle.id, "credits": 4}]

    together(db_url, [hold])
    assert people.service.rows("expire_credits", p_now=TOMORROW) == [{"user_id": busy.id, "credits": 4}]


def test_expiring_and_spending_at_once_lose_nothing(people: People, db: Connection, db_url: str) -> None:
    users = [people.new() for _ in range(4)]
    for user in users:
        for _ in range(5):
            let_expire(db, grant(people, user, 4, p_expires_at=TOMORROW))
        grant(people, user, 20)

    def expire(connection: Connection) -> int:
        rows = people.service.on(connection).rows("expire_credits")
        return sum(row["credits"] for row in rows)

    def spend(user: Person, connection: Connection) -> int:
        for _ in range(5):
            use(People(connection), user, 1)
        return 0

    together(db_url, [expire] * 4 + [partial(spend, user) for user in users])
    assert [people.balance(user) for user in users] == [17] * 4


def test_a_refund_returns_to_the_grants_it_came_from(people: People) -> None:
    user = people.new()
    grant(people, user, 3, p_expires_at=TOMORROW)
    usage = use(people, user, 4, p_metadata={"why": "test"})
    refund = people.service.call("refund_transaction", p_transaction_id=usage, p_description="Sorry")
    assert remaining(user) == [2, 3]
    assert (refund["transaction_type"], refund["amount"], refund["balance_after"]) == ("refund", 4, 5)
    assert (refund["refunded_transaction_id"], refund["description"]) == (usage, "Sorry")
    assert refund["metadata"] == {"why": "test"}
    assert user.sql("select total_credits_used from public.profiles") == [{"total_credits_used": 0}]
    assert len(user.sql("select 1 from public.credit_grants")) == 2


def test_a_refund_of_expired_credits_expires_again(people: People, db: Connection) -> None:
    user = people.new()
    row = grant(people, user, 3, p_expires_at=TOMORROW)
    usage = use(people, user, 3)
    let_expire(db, row)
    people.service.call("refund_transaction", p_transaction_id=usage)
    with refused("PT402", "Available: 2"):
        use(people, user, 3)
    use(people, user, 2)
    assert people.balance(user) == 0


def test_nothing_is_refunded_twice(people: People) -> None:
    user = people.new()
    usage = use(people, user, 1)
    refund = people.service.call("refund_transaction", p_transaction_id=usage, p_idempotency_key="ticket-1")
    again = people.service.call("refund_transaction", p_transaction_id=usage, p_idempotency_key="ticket-1")
    assert again == refund
    for key in (None, "ticket-2"):
        with refused("PT409", "refunded already"):
            people.service.call("refund_transaction", p_transaction_id=usage, p_idempotency_key=key)
    assert people.balance(user) == 2


def test_the_key_of_a_refund_belongs_to_its_request(people: People) -> None:
    user = people.new()
    first, second = use(people, user, 1), use(people, user, 1, p_idempotency_key="spent")
    people.service.call("refund_transaction", p_transaction_id=first, p_idempotency_key="ticket-1")
    for other in (
        {"p_transaction_id": second, "p_idempotency_key": "ticket-1"},
        {"p_transaction_id": first, "p_idempotency_key": "ticket-1", "p_description": "x"},
        {"p_transaction_id": second, "p_idempotency_key": "spent"},
    ):
        with refused("PT409", "used for another request"):
            people.service.call("refund_transaction", **other)


def test_only_a_usage_is_refunded(people: People) -> None:
    user = people.new()
    for entry in people.ledger(user):
        with refused("PT409", "An entry of type bonus cannot be refunded"):
            people.service.call("refund_transaction", p_transaction_id=entry["id"])
    for unknown in (uuid4(), None):
        with refused("PT404"):
            people.service.call("refund_transaction", p_transaction_id=unknown)


def test_refunds_of_one_usage_at_once_give_back_once(people: People, db_url: str) -> None:
    user = people.new()
    usage = use(people, user, 2)

    def refund(connection: Connection) -> UUID:
        arguments = {"p_transaction_id": usage, "p_idempotency_key": "ticket-1"}
        answer: UUID = people.service.on(connection).call("refund_transaction", **arguments)["id"]
        return answer

    assert len(set(together(db_url, [refund] * 8))) == 1
    assert people.balance(user) == 2


def test_an_operation_returns_its_charge_to_the_grants_it_came_from(people: People) -> None:
    user = people.new()
    grant(people, user, 1, p_expires_at=TOMORROW)
    operation = user.call("request_image_operation", p_image_id=people.image(user), p_operation_type="vectorize")
    assert remaining(user) == [1, 0]
    user.call("cancel_image_operation", p_operation_id=operation["id"])
    assert remaining(user) == [2, 1]


@pytest.mark.parametrize("ends", ["cancelled", "refunded only"])
def test_the_charge_of_an_operation_refunded_by_an_operator_comes_back_once(people: People, ends: str) -> None:
    user = people.new()
    operation = user.call("request_image_operation", p_image_id=people.image(user), p_operation_type="vectorize")
    people.service.call("refund_transaction", p_transaction_id=people.ledger(user)[-1]["id"])
    if ends == "cancelled":
        user.call("cancel_image_operation", p_operation_id=operation["id"])
    (row,) = user.sql("select credits_refunded from public.image_operations")
    assert row["credits_refunded"] == 2
    assert people.balance(user) == 2
    if ends != "cancelled":
        user.call("cancel_image_operation", p_operation_id=operation["id"])


@pytest.mark.parametrize(
    "statement",
    [
        "delete from public.credit_grants", "delete from public.credit_clawbacks",
        "update public.credit_transactions set allocations[1].amount = -9 where allocations is not null",
        "update public.credit_grants set amount = 9", "update public.credit_grants set seq = 9",
        "truncate public.credit_grants cascade", "truncate public.credit_clawbacks cascade",
    ],
)  # fmt: skip
def test_the_books_cannot_be_changed_even_by_their_owner(people: People, db: Connection, statement: str) -> None:
    user = people.new()
    row = grant(people, user, 3)
    use(people, user, 1)
    people.service.call("clawback_credits", p_grant_id=row["id"], p_reason="Money back")
    with refused("PT403", "append-only"), db.transaction():
        db.execute(statement)


def test_an_account_goes_with_its_grants_allocations_and_clawbacks(people: People, db: Connection) -> None:
    user = people.new()
    row = grant(people, user, 3)
    people.service.call("refund_transaction", p_transaction_id=use(people, user, 4))
    clawback = people.service.call("clawback_credits", p_grant_id=row["id"], p_reason="Money back")
    people.service.call("reverse_clawback", p_clawback_id=clawback["id"], p_reason="Won")
    db.execute("delete from auth.users where id = %s", (user.id,))
    for table in ("credit_transactions", "credit_grants", "credit_clawbacks"):
        assert db.execute(f"select 1 from public.{table} where user_id = %s", (user.id,)).fetchall() == []
    allocations = "select 1 from public.credit_allocations where grant_id = %s"
    assert db.execute(allocations, (row["id"],)).fetchall() == []
