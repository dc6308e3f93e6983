"""Billing in the database: orders, facts from Stripe in any order, and reads that have become old."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.sql import SQL, Identifier

from tests.database.outbox import mails_to
from tests.database.personas import Connection, People, Person, Row, refused, together

PACKAGE = "a0000000-0000-4000-8000-000000000010"


class Facts:
    """Facts about one account's customer, and their application."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.user = people.new()
        self.word = uuid4().hex[:12]
        people.service.call("link_stripe_customer", p_user_id=self.user.id, p_stripe_customer_id=f"cus_{self.word}")
        self.order: Row = people.service.call(
            "place_billing_order", p_user_id=self.user.id, p_stripe_price_id="price_pack"
        )

    def checkout(self, **fields: Any) -> Row:
        return {
            "kind": "checkout", "id": f"cs_{self.word}", "order_id": str(self.order["id"]),
            "customer": f"cus_{self.word}", "mode": "payment", "status": "complete", "is_paid": True,
            "has_failed": False, "amount": "7.99", "currency": "usd", "payment_intent": f"pi_{self.word}",
            "receipt_url": "https://pay.stripe.test/receipts/1",
        } | fields  # fmt: skip

    def returned(self, kind: str, number: int, amount: str, before: str, status: str = "taken") -> Row:
        return {
            "kind": kind, "id": f"{kind}_{self.word}_{number}", "payment_intent": f"pi_{self.word}", "paid": "7.99",
            "before": before, "amount": amount, "status": status, "currency": "usd",
        }  # fmt: skip

    def subscription(self, status: str = "active", price: str = "price_basic") -> Row:
        return {
            "kind": "subscription", "id": f"sub_{self.word}", "customer": f"cus_{self.word}", "status": status,
            "price": price, "product": None, "started_at": 1_790_000_000, "cancelled_at": None, "cancel_at": None,
            "ended_at": 1_790_000_900 if status == "canceled" else None, "current_period_end": 1_792_000_000,
        }  # fmt: skip

    def invoice(self, number: int, *lines: Row, paid: str = "9.99", **fields: Any) -> Row:
        return {
            "kind": "invoice", "id": f"in_{self.word}_{number}", "customer": f"cus_{self.word}",
            "subscription": f"sub_{self.word}", "status": "paid", "reason": "subscription_cycle",
            "created": 1_790_000_000 + number, "due": paid, "paid": paid, "currency": "usd", "attempts": 1,
            "has_failed": False, "next_attempt_at": None, "hosted_url": "https://invoice.stripe.test/1",
            "paid_at": 1_790_000_009, "payment_intent": f"pi_{self.word}_{number}",
            "lines": [line | {"id": f"il_{self.word}_{number}_{n}"} for n, line in enumerate(lines)],
        } | fields  # fmt: skip

    def failed(self, attempt: int) -> Row:
        return self.invoice(
            1, line(), paid="0", due="9.99", status="open", attempts=attempt, has_failed=True, paid_at=None,
            next_attempt_at=1_790_300_000,
        )  # fmt: skip

    def ticket(self) -> int:
        return int(self.people.service.call("start_stripe_read")["ticket"])

    def apply(self, *facts: Row, event: str | None = None, ticket: int | None = None) -> Row:
        return dict(
            self.people.service.call(
                "apply_stripe_event",
                p_event_id=event or f"evt_{uuid4()}",
                p_type="test",
                p_payload={},
                p_facts=list(facts),
                p_ticket=self.ticket() if ticket is None else ticket,
            )
        )

    @property
    def credits(self) -> int:
        return self.people.balance(self.user)

    def profile(self) -> tuple[str, str, str | None]:
        (row,) = self.user.sql(
            "select subscription_status, subscription_plan, stripe_subscription_id from public.profiles"
        )
        return row["subscription_status"], row["subscription_plan"], row["stripe_subscription_id"]


def line(amount: str = "9.99", price: str = "price_basic", **fields: Any) -> Row:
    return {
        "price": price, "product": None, "amount": amount, "unit_amount": None, "quantity": 1, "is_proration": False,
        "is_trial": False, "period_start": 1_790_000_000, "period_end": 1_892_000_000,
    } | fields  # fmt: skip


@pytest.fixture(autouse=True)
def _catalogue(db: Connection, people: People) -> Iterator[None]:
    """Prices for the time of a test, and a sound ledger after it."""

    def sell(basic: str | None, starter: str | None, pack: str | None) -> None:
        for table, key, value, price in (
            ("subscription_plans", "name", "basic", basic),
            ("subscription_plans", "name", "starter", starter),
            ("pay_as_you_go_packages", "id", PACKAGE, pack),
        ):
            db.execute(f"update public.{table} set stripe_price_id = %s where {key} = %s", (price, value))

    sell("price_basic", "price_starter", "price_pack")
    yield
    sell(None, None, None)
    assert people.service.rows("verify_ledger") == []


@pytest.fixture
def facts(people: People) -> Facts:
    return Facts(people)


# Who may.


@pytest.mark.parametrize(
    "call",
    [
        ("start_stripe_read", {}),
        ("place_billing_order", {"p_user_id": None, "p_stripe_price_id": "price_pack"}),
        ("link_stripe_customer", {"p_user_id": None, "p_stripe_customer_id": "cus_1"}),
        ("attach_checkout_session", {"p_order_id": None, "p_session_id": "cs_1"}),
        ("apply_stripe_event", dict.fromkeys(("p_event_id", "p_type", "p_payload", "p_facts", "p_ticket"))),
        ("fail_stripe_event", dict.fromkeys(("p_event_id", "p_type", "p_payload", "p_error"))),
        ("reconcile_stripe", dict.fromkeys(("p_facts", "p_ticket"))),
    ],
    ids=lambda call: call[0],
)
def test_billing_is_the_service_s_alone(people: People, call: tuple[str, dict[str, Any]]) -> None:
    for person in (people.anon, people.new(), people.new(is_admin=True)):
        with refused("42501"):
            person.call(call[0], **call[1])


def test_owners_read_their_orders_and_invoices_and_admins_all_and_the_events(people: People, facts: Facts) -> None:
    facts.apply(facts.checkout())
    facts.apply(facts.invoice(1, line()))
    admin = people.new(is_admin=True)
    for table in ("billing_orders", "billing_invoices"):
        everything = f"select id from public.{table} where user_id = %s"
        assert len(facts.user.sql(everything, facts.user.id)) == 1
        assert people.new().sql(everything, facts.user.id) == []
        assert len(admin.sql(everything, facts.user.id)) == 1
    for table in ("stripe_events", "stripe_customers"):
        assert len(admin.sql(f"select id from public.{table} limit 1")) == 1
        assert facts.user.sql(f"select id from public.{table} limit 1") == []


# Orders.


def order(people: People, user: Person, price: str = "price_basic") -> Row:
    return dict(people.service.call("place_billing_order", p_user_id=user.id, p_stripe_price_id=price))


def test_an_order_needs_an_active_account_and_something_for_sale(people: People, db: Connection) -> None:
    with refused("PT404", "not for sale"):
        order(people, people.new(), "price_other")
    with refused("PT403"):
        order(people, people.new(is_active=False))
    with refused("PT404"):
        people.service.call("place_billing_order", p_user_id=uuid4(), p_stripe_price_id="price_pack")
    db.execute("update public.subscription_plans set is_active = false where name = 'basic'")
    try:
        with refused("PT404", "not for sale"):
            order(people, people.new())
    finally:
        db.execute("update public.subscription_plans set is_active = true where name = 'basic'")


def test_a_package_that_is_not_offered_is_not_sold(people: People, db: Connection) -> None:
    db.execute("update public.pay_as_you_go_packages set is_active = false where id = %s", (PACKAGE,))
    try:
        with refused("PT404", "not for sale"):
            order(people, people.new(), "price_pack")
    finally:
        db.execute("update public.pay_as_you_go_packages set is_active = true where id = %s", (PACKAGE,))


def test_a_plan_has_one_pending_order_and_another_plan_closes_it(people: People) -> None:
    user = people.new()
    first = order(people, user)
    assert order(people, user)["id"] == first["id"]
    second = order(people, user, "price_starter")
    assert second["id"] != first["id"]
    with refused("PT409", "closed"):
        people.service.call("attach_checkout_session", p_order_id=first["id"], p_session_id="cs_late")
    assert order(people, user, "price_pack")["id"] != order(people, user, "price_pack")["id"]


def test_an_address_tries_plans_once(people: People, db: Connection) -> None:
    def sign_up(address: str) -> tuple[UUID, int]:
        user_id = uuid4()
        db.execute("insert into auth.users (id, email) values (%s, %s)", (user_id, address))
        return user_id, int(
            people.service.call("place_billing_order", p_user_id=user_id, p_stripe_price_id="price_basic")["trial_days"]
        )

    first, second, never_paid = (f"{name}-{uuid4()}@example.test" for name in ("first", "second", "never"))
    db.execute("update public.subscription_plans set trial_days = 7 where name = 'basic'")
    try:
        user_id, trial_days = sign_up(first)
        assert trial_days == 7
        db.execute(
            "insert into public.subscription_history (user_id, status, started_at) values (%s, 'active', now())",
            (user_id,),
        )
        db.execute("update auth.users set email = %s where id = %s", (second, user_id))
        db.execute("delete from auth.users where id = %s", (user_id,))
        # Neither the address that was given up nor the last one tries again, however often they come; others may.
        for _ in range(2):
            for address, expected in ((first.upper(), 0), (second, 0), (never_paid, 7)):
                user_id, trial_days = sign_up(address)
                assert trial_days == expected
                db.execute("delete from auth.users where id = %s", (user_id,))
    finally:
        db.execute("update public.subscription_plans set trial_days = 0 where name = 'basic'")


def test_two_plans_ordered_at_once_leave_one_order(people: People, db_url: str) -> None:
    user = people.new()
    together(
        db_url,
        [
            lambda connection, price=price: order(People(connection), user, price)  # type: ignore[misc]
            for price in ("price_basic", "price_starter") * 4
        ],
    )
    assert len(user.sql("select id from public.billing_orders where status = 'pending'")) == 1


def test_who_has_a_subscription_changes_it_in_the_portal(people: People, facts: Facts) -> None:
    facts.apply(facts.subscription())
    with refused("PT409", "already has a subscription"):
        order(people, facts.user)
    facts.apply(facts.subscription("canceled"))
    order(people, facts.user)


def test_a_customer_belongs_to_one_account_and_an_account_keeps_its_first(people: People, facts: Facts) -> None:
    link = {"p_user_id": facts.user.id, "p_stripe_customer_id": "cus_other"}
    assert people.service.call("link_stripe_customer", **link) == f"cus_{facts.word}"
    with refused("PT409", "another account"):
        people.service.call("link_stripe_customer", p_user_id=people.new().id, p_stripe_customer_id=f"cus_{facts.word}")


# Facts in any order.


def test_every_order_of_a_purchase_and_its_returns_ends_the_same(people: People) -> None:
    ends = set()
    for permutation in itertools.permutations(range(4)):
        facts = Facts(people)
        bought = facts.checkout()
        told: list[list[Row]] = [
            [bought],
            [bought, facts.returned("refund", 1, "1.00", "0")],
            [bought, facts.returned("refund", 1, "1.00", "0"), facts.returned("refund", 2, "2.00", "1.00")],
            [bought, facts.returned("dispute", 3, "4.99", "3.00", "returned")],
        ]
        for index in (*permutation, permutation[0]):
            facts.apply(*told[index])
        ends.add(facts.credits)
    assert ends == {2 + 10 - 4}


def test_every_order_of_a_subscription_s_life_ends_the_same(people: People) -> None:
    ends = set()
    for permutation in itertools.permutations(range(4)):
        facts = Facts(people)
        told: list[list[Row]] = [
            [facts.subscription("canceled"), facts.invoice(0, line("0", is_trial=True), paid="0")],
            [facts.subscription("canceled"), facts.invoice(1, line())],
            [facts.subscription("canceled"), facts.invoice(2, line())],
            [facts.subscription("canceled")],
        ]
        for index in permutation:
            facts.apply(*told[index])
        ends.add((facts.credits, *facts.profile()))
    assert ends == {(42, "cancelled", "free", None)}


@pytest.mark.parametrize(
    ("status", "profile"),
    [
        ("trialing", ("basic", "basic")),
        ("active", ("basic", "basic")),
        ("past_due", ("basic", "basic")),
        ("unpaid", ("cancelled", "free")),
        ("paused", ("cancelled", "free")),
        ("canceled", ("cancelled", "free")),
    ],
)
def test_access_goes_on_while_stripe_still_tries_to_collect(
    facts: Facts, status: str, profile: tuple[str, str]
) -> None:
    facts.apply(facts.subscription(status))
    assert facts.profile()[:2] == profile


def test_of_two_subscriptions_the_one_that_gives_access_counts(facts: Facts) -> None:
    facts.apply(facts.subscription("past_due"))
    newer = {"id": f"sub_{facts.word}_2", "started_at": 1_790_000_500}
    facts.apply(facts.subscription("unpaid", "price_starter") | newer)
    assert facts.profile() == ("basic", "basic", f"sub_{facts.word}")


def test_a_read_that_has_become_old_changes_nothing(facts: Facts) -> None:
    old, new = facts.ticket(), facts.ticket()
    facts.apply(facts.subscription("canceled"), ticket=new)
    facts.apply(facts.subscription("active"), ticket=old)
    assert facts.profile() == ("cancelled", "free", None)
    facts.apply(facts.checkout(), facts.returned("refund", 1, "7.99", "0", "returned"), ticket=new)
    facts.apply(facts.returned("refund", 1, "7.99", "0", "taken"), ticket=old)
    assert facts.credits == 12


def test_the_same_event_at_once_is_applied_once(facts: Facts, db_url: str) -> None:
    def deliver(connection: Connection) -> str:
        service = People(connection).service
        return str(
            service.call(
                "apply_stripe_event", p_event_id=f"evt_{facts.word}", p_type="test", p_payload={},
                p_facts=[facts.checkout()], p_ticket=1,
            )["status"]
        )  # fmt: skip

    assert set(together(db_url, [deliver] * 8)) == {"processed"}
    assert facts.credits == 12


def test_an_event_and_its_effect_stand_or_fall_together(people: People, facts: Facts, db: Connection) -> None:
    with refused("PT400", "The kind of fact is unknown"):
        facts.apply(facts.checkout(), {"kind": "coupon"}, event=f"evt_{facts.word}")
    assert facts.credits == 2
    found = "select status, attempts, error from public.stripe_events where id = %s"
    assert db.execute(found, (f"evt_{facts.word}",)).fetchall() == []
    failure = {"p_event_id": f"evt_{facts.word}", "p_type": "test", "p_payload": {}}
    for _ in range(2):
        people.service.call("fail_stripe_event", **failure, p_error="no plan")
    assert facts.apply(facts.checkout(), event=f"evt_{facts.word}")["attempts"] == 3
    people.service.call("fail_stripe_event", **failure, p_error="late")
    assert db.execute(found, (f"evt_{facts.word}",)).fetchall() == [
        {"status": "processed", "attempts": 3, "error": None}
    ]


def test_an_event_that_was_used_in_part_says_what_was_not(facts: Facts) -> None:
    told = facts.apply(facts.subscription(), facts.invoice(1, line(price="price_unknown")))
    assert (told["status"], "No plan has the price price_unknown" in told["error"]) == ("processed", True)
    assert facts.profile()[1] == "basic"


def test_lines_that_are_for_no_plan_bring_nothing(facts: Facts) -> None:
    facts.apply(facts.invoice(1, line(), line("5.00", price="price_setup"), paid="14.99"))
    (grant,) = facts.user.sql("select amount, money_amount from public.credit_grants where source = 'subscription'")
    assert (grant["amount"], str(grant["money_amount"])) == (20, "9.99")


def test_prorated_lines_come_to_their_sum(facts: Facts) -> None:
    facts.apply(facts.invoice(1, line()))
    up = line("12.495", "price_starter", unit_amount="24.99", is_proration=True)
    down = line("-4.995", unit_amount="9.99", is_proration=True)
    facts.apply(facts.invoice(2, down, up, paid="7.50"))
    assert facts.credits == 2 + 20 + 20
    facts.apply(facts.invoice(3, line("-24.99", "price_starter", unit_amount="24.99", is_proration=True), paid="0"))
    # The newest grant first: 20 of the change, then all of the first period.
    assert facts.credits == 2
    taken = facts.user.sql("select amount from public.credit_clawbacks order by created_at, amount")
    assert [row["amount"] for row in taken] == [20, 20]


@pytest.fixture
def change_basic(db: Connection) -> Iterator[Callable[..., None]]:
    """Changes columns of the plan for the time of a test."""
    columns = ("credits_per_month", "trial_credits")
    (before,) = db.execute("select * from public.subscription_plans where name = 'basic'").fetchall()

    def change(**values: int) -> None:
        for column, value in values.items():
            db.execute(
                SQL("update public.subscription_plans set {} = %s where name = 'basic'").format(Identifier(column)),
                (value,),
            )

    yield change
    change(**{column: before[column] for column in columns})


def test_what_an_invoice_brought_stays_whatever_becomes_of_its_plan(
    facts: Facts, change_basic: Callable[..., None]
) -> None:
    up = line("12.495", "price_starter", unit_amount="24.99", is_proration=True)
    down = line("-4.995", unit_amount="9.99", is_proration=True)
    change_basic(credits_per_month=0)
    told = [
        facts.invoice(0, line("0", is_trial=True), paid="0"),
        facts.invoice(1, line()),
        facts.invoice(2, down, up, paid="7.50"),
    ]
    facts.apply(*told)
    assert facts.credits == 2 + 30
    for credits in (20, 1000):
        change_basic(credits_per_month=credits, trial_credits=credits)
        facts.apply(*told)
        assert facts.credits == 2 + 30
        assert facts.people.service.call("reconcile_stripe", p_facts=told, p_ticket=facts.ticket())["differences"] == []


@pytest.mark.parametrize("now", [0, 5, 400])
def test_who_leaves_a_plan_loses_what_it_brought_and_not_what_it_would_bring(
    facts: Facts, change_basic: Callable[..., None], now: int
) -> None:
    facts.apply(facts.invoice(1, line()))
    facts.apply(facts.invoice(2, line()))
    change_basic(credits_per_month=now)
    facts.apply(facts.invoice(3, line("-4.995", unit_amount="9.99", is_proration=True), paid="0"))
    assert facts.credits == 2 + 20 + 10


def test_a_part_of_a_larger_plan_that_nobody_knows_does_not_count_as_a_smaller_one(facts: Facts) -> None:
    facts.apply(facts.invoice(1, line()))
    up = line("12.495", "price_unknown", unit_amount="24.99", is_proration=True)
    down = line("-4.995", unit_amount="9.99", is_proration=True)
    told = facts.apply(facts.invoice(2, down, up, paid="7.50"))
    assert (told["status"], "No plan has the price price_unknown" in told["error"]) == ("ignored", True)
    assert facts.credits == 2 + 20
    facts.apply(facts.invoice(2, down, up | {"price": "price_starter"}, paid="7.50"))
    assert facts.credits == 2 + 20 + 20


def test_credits_of_a_plan_expire_as_the_plan_says(facts: Facts, db: Connection) -> None:
    for number, months in enumerate((0, None)):
        db.execute("update public.subscription_plans set credit_rollover_months = %s where name = 'basic'", (months,))
        facts.apply(facts.invoice(number, line()))
    db.execute("update public.subscription_plans set credit_rollover_months = 1 where name = 'basic'")
    expiries = facts.user.sql("select expires_at from public.credit_grants where source = 'subscription' order by seq")
    assert [row["expires_at"] and row["expires_at"].timestamp() for row in expiries] == [1_892_000_000, None]


@pytest.mark.parametrize("wrong", [None, {}, [{"kind": "x"}]], ids=str)
def test_facts_that_are_none_are_refused(facts: Facts, wrong: Any) -> None:
    with refused("PT400"):
        facts.people.service.call(
            "reconcile_stripe", p_facts=wrong if isinstance(wrong, dict | list) else None, p_ticket=1, p_apply=True
        )


def test_an_order_that_is_paid_says_what_for_and_has_a_receipt(facts: Facts) -> None:
    facts.apply(facts.checkout(is_paid=False, receipt_url=None))
    assert paid_orders(facts) == []
    facts.apply(facts.checkout())
    assert paid_orders(facts) == [("7.99", "USD", "https://pay.stripe.test/receipts/1", 12)]
    facts.apply(facts.checkout(receipt_url=None))
    assert len(paid_orders(facts)) == 1


def paid_orders(facts: Facts) -> list[Any]:
    rows = facts.user.sql("select * from public.billing_orders where status = 'paid'")
    return [(str(row["amount"]), row["currency"], row["receipt_url"], facts.credits) for row in rows]


def test_the_order_is_paid_when_its_credits_are_there(facts: Facts, db: Connection) -> None:
    """What hangs on the order, as a receipt does, reads the balance."""
    db.execute(
        """
        create table public.seen (credits integer);
        create function public.look() returns trigger language plpgsql as $$ begin
            insert into public.seen select p.credits_remaining from public.profiles as p where p.id = new.user_id;
            return new;
        end $$;
        create trigger look after update of status on public.billing_orders for each row execute function public.look()
        """
    )
    try:
        facts.apply(facts.checkout())
        assert db.execute("select credits from public.seen").fetchall() == [{"credits": 12}]
    finally:
        db.execute("drop table public.seen; drop function public.look() cascade")


def invoices(facts: Facts) -> list[Any]:
    columns = "status, amount_due, amount_paid, attempts, failed_attempt, next_attempt_at is not null as goes_on"
    rows = facts.user.sql(f"select {columns} from public.billing_invoices order by created_at")
    return [tuple(str(value) for value in row.values()) for row in rows]


def test_each_failed_attempt_to_collect_an_invoice_is_seen_until_it_is_paid(facts: Facts) -> None:
    for attempt in (1, 1, 2):
        facts.apply(facts.failed(attempt))
        assert invoices(facts) == [("open", "9.99", "0.00", str(attempt), str(attempt), "True")]
    assert facts.credits == 2
    facts.apply(facts.failed(3) | {"has_failed": False})
    assert invoices(facts) == [("open", "9.99", "0.00", "3", "2", "True")], "the third is under way"
    facts.apply(facts.invoice(1, line(), attempts=3))
    assert invoices(facts) == [("paid", "9.99", "9.99", "3", "2", "False")]
    assert facts.credits == 22
    (row,) = facts.user.sql("select * from public.billing_invoices")
    assert (row["reason"], row["currency"], row["hosted_url"], row["stripe_subscription_id"]) == (
        "subscription_cycle", "USD", "https://invoice.stripe.test/1", f"sub_{facts.word}",
    )  # fmt: skip
    assert facts.user.sql("select name from public.subscription_plans where id = %s", row["subscription_plan_id"]) == [
        {"name": "basic"}
    ]


def test_an_old_read_of_an_invoice_leaves_it_paid_and_brings_its_credits_all_the_same(facts: Facts) -> None:
    old, new = facts.ticket(), facts.ticket()
    facts.apply(facts.invoice(1, line()), ticket=new)
    facts.apply(facts.failed(1), ticket=old)
    assert [row[0] for row in invoices(facts)] == ["paid"]
    facts.apply(facts.invoice(2, line(), status="void"), ticket=new + 2)
    facts.apply(facts.invoice(2, line()), ticket=new + 1)
    assert facts.credits == 42, "what was paid once was paid"


def test_an_invoice_of_a_change_is_for_the_plan_that_goes_on(facts: Facts) -> None:
    up = line("12.50", "price_starter", unit_amount="24.99", is_proration=True)
    down = line("-5.00", unit_amount="9.99", is_proration=True)
    for number, lines in enumerate([(down, up), (up, down)]):
        facts.apply(facts.invoice(number, *lines, paid="7.50"))
    plans = facts.user.sql(
        "select s.name from public.billing_invoices as i join public.subscription_plans as s"
        " on s.id = i.subscription_plan_id"
    )
    assert [row["name"] for row in plans] == ["starter", "starter"]


def test_a_trial_that_is_extended_brings_its_credits_once(facts: Facts, db: Connection) -> None:
    db.execute("update public.subscription_plans set trial_credits = 3 where name = 'basic'")
    for number in (1, 2):
        facts.apply(facts.invoice(number, line("0", is_trial=True), paid="0"))
    db.execute("update public.subscription_plans set trial_credits = 0 where name = 'basic'")
    assert facts.credits == 5


def test_what_is_archived_at_stripe_is_not_for_sale_and_its_invoices_still_count(facts: Facts, db: Connection) -> None:
    change = "update public.subscription_plans set stripe_product_id = %s where name = 'basic'"
    db.execute(change, ("prod_basic",))
    try:
        facts.apply({"kind": "product", "id": "prod_basic", "is_active": True})
        assert order(facts.people, facts.people.new())["stripe_price_id"] == "price_basic"
        facts.apply({"kind": "product", "id": "prod_basic", "is_active": False})
        with refused("PT404", "not for sale"):
            order(facts.people, facts.people.new())
        facts.apply(facts.invoice(1, line(product="prod_basic")))
        assert facts.credits == 22
    finally:
        db.execute(change, (None,))


def test_the_address_that_stripe_was_told_goes_with_the_customer(people: People, facts: Facts, db: Connection) -> None:
    link = {"p_user_id": facts.user.id, "p_stripe_customer_id": f"cus_{facts.word}"}
    for told, noted in ((None, None), ("a@example.test", "a@example.test"), (None, "a@example.test")):
        people.service.call("link_stripe_customer", **link, p_email=told)
        rows = db.execute("select email from public.stripe_customers where user_id = %s", (facts.user.id,)).fetchall()
        assert rows == [{"email": noted}]


# Reconciling.


def test_a_comparison_shows_what_it_would_change_and_changes_it_only_when_told(people: People, facts: Facts) -> None:
    told = [facts.checkout(), facts.returned("refund", 1, "4.00", "0")]

    def compare(*, apply: bool) -> Any:
        return people.service.call("reconcile_stripe", p_facts=told, p_ticket=facts.ticket(), p_apply=apply)

    for _ in range(2):
        differences = compare(apply=False)["differences"]
        assert facts.credits == 2
    kinds = [difference["what"].split()[0] for difference in differences]
    assert kinds == ["clawback", "entry", "entry", "order"]
    assert compare(apply=True)["differences"] == differences
    assert facts.credits == 7
    assert compare(apply=False)["differences"] == []


# What the account's owner is told.


def test_what_was_paid_or_not_is_told_by_mail_once_however_often_it_is_heard(facts: Facts, db: Connection) -> None:
    now = int(time.time())
    news: Row = {"created": now, "paid_at": now}
    for _ in range(2):
        facts.apply(facts.checkout())
        facts.apply(facts.subscription())
        facts.apply(facts.invoice(0, line(), reason="subscription_create", **news))
        facts.apply(facts.failed(1) | {"created": now})
        facts.apply(facts.invoice(1, line(), **news))
        facts.apply(facts.subscription() | {"cancel_at": now + 86400, "cancelled_at": now})
        facts.apply(facts.subscription("canceled"))
    told = {mail["type"]: mail["data"] for mail in mails_to(db, facts.user)}
    assert sorted(mail["type"] for mail in mails_to(db, facts.user)) == sorted(told)
    assert {kind: (data.get("amount"), data.get("credits")) for kind, data in told.items()} == {
        "receipt": ("$7.99", "10 credits"),
        "subscription_started": ("$9.99", "20 credits"),
        "payment_failed": ("$9.99", None),
        "subscription_renewed": ("$9.99", "20 credits"),
        "subscription_cancelled": (None, None),
    }
    assert told["receipt"]["receipt_url"] == "https://pay.stripe.test/receipts/1"


def test_a_deleted_customer_is_found_without_reading_all_accounts(facts: Facts, db: Connection) -> None:
    gone = {"kind": "customer", "id": f"cus_{facts.word}", "is_deleted": True}
    with facts.people.service.on(db).acting() as connection:
        connection.execute("set local enable_seqscan = off")  # so that only what has no other way reads the table
        read = "select seq_scan from pg_stat_xact_user_tables where relid = 'public.profiles'::regclass"
        before = connection.execute(read).fetchall()
        facts.people.service.on(connection).call(
            "apply_stripe_event", p_event_id=f"evt_{uuid4()}", p_type="test", p_payload={}, p_facts=[gone],
            p_ticket=facts.ticket(),
        )  # fmt: skip
        assert connection.execute(read).fetchall() == before
    assert facts.user.sql("select stripe_customer_id from public.profiles") == [{"stripe_customer_id": None}]
