"""verify_ledger() finds every way in which a ledger can be wrong, and names it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest

from tests.database.personas import Connection, People, Person

CHAIN = "chain unbroken"
ENTRY = "entry adds up and is not negative"
BALANCE = "balance equals the ledger"
TOTALS = "totals equal the ledger"
GRANTS = "balance equals the grants"
DEBT = "debt equals the clawbacks"
GRANT = "grant adds up"
ORIGIN = "grant matches its entry"
ALLOCATED = "entry is granted or allocated"
ACCOUNT = "allocation stays in its account"
SURPLUS = "nothing comes back that was not taken"
REFUND = "refund equals its usage"
CLAWBACK = "clawback adds up"
CLAWBACKS = "clawbacks fit their grant"

# Each breaks the ledger of one account, which has: the bonus of 2 (spent), a purchase of 10 of which 3 were used and
# refunded and 4 used, a purchase of 5 clawed back by 2, and a purchase of 3, used and clawed back: a debt of 3.
# What else does not add up any more is named as well.
TAMPERINGS: dict[str, tuple[str, set[str]]] = {
    "a balance": ("update profiles set credits_remaining = 99 where id = %(user)s", {BALANCE, GRANTS}),
    "a version": ("update profiles set ledger_version = 99 where id = %(user)s", {BALANCE}),
    "a total": ("update profiles set total_credits_used = 99 where id = %(user)s", {TOTALS}),
    "a purchase": ("update profiles set total_credits_purchased = 1 where id = %(user)s", {TOTALS}),
    "a debt": ("update profiles set credit_debt = 0 where id = %(user)s", {DEBT}),
    "what is owed": (
        "update credit_clawbacks set owed = 2 where user_id = %(user)s and owed = 3",
        {DEBT, CLAWBACK},
    ),
    "a remainder": (
        "update credit_grants set remaining = remaining - 1 where user_id = %(user)s and amount = 10",
        {GRANT, GRANTS},
    ),
    "a remainder on the wrong grant": (
        "update credit_grants set remaining = remaining + case amount when 10 then 1 else -1 end"
        " where user_id = %(user)s and amount in (10, 5)",
        {GRANT},
    ),
    "a grant's age": ("update credit_grants set seq = 99 where user_id = %(user)s and amount = 10", {ORIGIN}),
    "a grant's size": (
        "update credit_grants set amount = 11 where user_id = %(user)s and amount = 10",
        {ORIGIN, GRANT},
    ),
    "a grant's owner": (
        "update credit_grants set user_id = %(other)s where user_id = %(user)s and amount = 10",
        {ORIGIN, GRANTS, ACCOUNT},
    ),
    "a missing grant": (
        "delete from credit_grants where user_id = %(user)s and amount = 5",
        {ALLOCATED, GRANTS, ACCOUNT, CLAWBACKS},
    ),
    "a missing allocation": (
        "update credit_transactions set allocations = null"
        " where user_id = %(user)s and transaction_type = 'usage' and amount = 4",
        {ALLOCATED, GRANT},
    ),
    "a changed allocation": (
        "update credit_transactions set allocations[1].amount = -5"
        " where user_id = %(user)s and transaction_type = 'usage' and amount = 4",
        {ALLOCATED, GRANT},
    ),
    "a grant that is allocated twice": (
        "update credit_transactions set allocations = array[(allocations[1].grant_id, -1),"
        " (allocations[1].grant_id, -3)]::credit_allocation[]"
        " where user_id = %(user)s and transaction_type = 'usage' and amount = 4",
        {ALLOCATED},
    ),
    "an allocation of nothing": (
        "update credit_transactions set allocations = allocations || (allocations[1].grant_id, 0)::credit_allocation"
        " where user_id = %(user)s and transaction_type = 'usage' and amount = 4",
        {ALLOCATED},
    ),
    "an allocation without an amount": (
        "update credit_transactions set allocations = allocations || (allocations[1].grant_id, null)::credit_allocation"
        " where user_id = %(user)s and transaction_type = 'usage' and amount = 4",
        {ALLOCATED},
    ),
    "a refund to the wrong grant": (
        "update credit_transactions set allocations[1].grant_id = (select id from credit_grants"
        " where user_id = %(user)s and amount = 5) where transaction_type = 'refund' and user_id = %(user)s",
        {GRANT, SURPLUS},
    ),
    "a refund that is too large": (
        "update credit_transactions set amount = 4, balance_after = balance_after + 1"
        " where user_id = %(user)s and transaction_type = 'refund'",
        {REFUND, ALLOCATED, CHAIN, TOTALS, BALANCE},
    ),
    "a refund of a purchase": (
        "update credit_transactions set refunded_transaction_id = (select id from credit_transactions"
        " where user_id = %(user)s and transaction_type = 'purchase' and amount = 10)"
        " where user_id = %(user)s and transaction_type = 'refund'",
        {REFUND, SURPLUS},
    ),
    "an entry's direction": (
        "update credit_transactions set transaction_type = 'bonus'"
        " where user_id = %(user)s and transaction_type = 'usage' and amount = 4",
        {ENTRY, TOTALS, ALLOCATED},
    ),
    "an entry's balances": (
        "update credit_transactions set balance_before = balance_before + 1, balance_after = balance_after + 1"
        " where user_id = %(user)s and seq = 2",
        {CHAIN},
    ),
    "the newest balance": (
        "update credit_transactions set balance_before = balance_before + 1, balance_after = balance_after + 1"
        " where user_id = %(user)s and seq = (select max(seq) from credit_transactions where user_id = %(user)s)",
        {CHAIN, BALANCE},
    ),
    "a missing entry": (
        "delete from credit_transactions where user_id = %(user)s and seq = 1",
        {CHAIN, BALANCE, ORIGIN},
    ),
    "an invented entry": (
        "insert into credit_transactions (user_id, seq, transaction_type, amount, balance_before, balance_after)"
        " values (%(user)s, 99, 'bonus', 1, 5, 6)",
        {CHAIN, BALANCE, ALLOCATED},
    ),
    "a clawback's size": (
        "update credit_clawbacks set amount = 4 where user_id = %(user)s and amount = 2",
        {CLAWBACK},
    ),
    "a debt taken for an expiry": (
        "update credit_clawbacks set expired = 3, owed = 0 where user_id = %(user)s and owed = 3",
        {CLAWBACKS, DEBT},
    ),
    "a reversal that gave nothing back": (
        "update credit_clawbacks set reversed_at = now() where user_id = %(user)s and amount = 2",
        {CLAWBACK},
    ),
    "a clawback beyond its grant": (
        "update credit_clawbacks set amount = 6, owed = 4 where user_id = %(user)s and amount = 2",
        {CLAWBACKS, DEBT},
    ),
    "a clawback of another account": (
        "update credit_clawbacks set user_id = %(other)s where user_id = %(user)s and amount = 2",
        {CLAWBACKS},
    ),
}


@pytest.fixture(scope="module")
def user(people: People) -> Person:
    person, service = people.new(), people.service

    def use(amount: int) -> UUID:
        service.call("deduct_user_credits", p_user_id=person.id, p_amount=amount, p_transaction_type="usage")
        newest: UUID = people.ledger(person)[-1]["id"]
        return newest

    def buy(amount: int) -> UUID:
        grant: UUID = service.call(
            "grant_credits", p_user_id=person.id, p_amount=amount, p_transaction_type="purchase"
        )["id"]
        return grant

    use(2)
    spent = buy(3)
    use(3)
    buy(10)
    service.call("refund_transaction", p_transaction_id=use(3))
    use(4)
    service.call("clawback_credits", p_grant_id=buy(5), p_amount=2, p_reason="Money back")
    service.call("clawback_credits", p_grant_id=spent, p_reason="Chargeback")
    return person


@contextmanager
def tampered(db: Connection, statement: str, values: dict[str, Any]) -> Iterator[None]:
    """The tables' owner at work without triggers and constraints, for the length of the block."""
    tables = ("profiles", "credit_transactions", "credit_grants", "credit_clawbacks")
    with db.transaction(force_rollback=True):
        for table in tables:
            db.execute(f"alter table public.{table} disable trigger user")
            db.execute(
                f"""
                do $$
                declare name text;
                begin
                    for name in select conname from pg_constraint
                        where conrelid = 'public.{table}'::regclass and contype in ('c', 'f')
                    loop
                        execute format('alter table public.{table} drop constraint %I', name);
                    end loop;
                end
                $$
                """
            )
        db.execute("set local search_path = public")
        assert db.execute(statement, values).rowcount > 0
        yield


def test_a_ledger_of_every_kind_of_entry_is_sound(people: People, user: Person) -> None:
    (profile,) = user.sql("select credits_remaining, credit_debt from public.profiles")
    assert profile == {"credits_remaining": 9, "credit_debt": 3}
    assert people.service.rows("verify_ledger") == []


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampering_is_found_and_named(people: People, db: Connection, user: Person, tampering: str) -> None:
    statement, expected = TAMPERINGS[tampering]
    with tampered(db, statement, {"user": user.id, "other": people.new().id}):
        found = people.service.rows("verify_ledger")
    assert {row["invariant"] for row in found} == expected


def test_every_invariant_is_broken_by_one_of_them() -> None:
    names = {value for key, value in globals().items() if key.isupper() and isinstance(value, str)}
    assert set().union(*(expected for _, expected in TAMPERINGS.values())) == names
