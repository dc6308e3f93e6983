"""People who buy at the double, and what they have in the end."""

from dataclasses import dataclass
from typing import Any

from local.stripe import Account, Object
from tests.database.personas import People, Person, Row

PACKAGE = "a0000000-0000-4000-8000-000000000010"  # 10 credits for 7.99
PLANS = {"basic": 999, "starter": 2499}


@dataclass(frozen=True)
class Buyer:
    """Somebody with an account here and a customer at Stripe."""

    person: Person
    customer: str

    @property
    def id(self) -> str:
        return str(self.person.id)


class Shop:
    """The catalogue with prices at the double, taken back at the end."""

    def __init__(self, people: People, account: Account) -> None:
        self.people = people
        self.account = account
        self.prices = {name: account.price(amount, recurring=True) for name, amount in PLANS.items()}
        for name, price in self.prices.items():
            self._set("subscription_plans", "name", name, price["id"], price["product"])
        self.pack = account.price(799)
        self._set("pay_as_you_go_packages", "id", PACKAGE, self.pack["id"], self.pack["product"])

    def _set(self, table: str, key: str, value: str, price: str | None, product: str | None) -> None:
        self.people.connection.execute(
            f"update public.{table} set stripe_price_id = %s, stripe_product_id = %s where {key} = %s",
            (price, product, value),
        )

    def close(self) -> None:
        for name in self.prices:
            self._set("subscription_plans", "name", name, None, None)
        self.people.connection.execute("delete from public.billing_orders")
        self._set("pay_as_you_go_packages", "id", PACKAGE, None, None)

    def buyer(self, credits: int = 2) -> Buyer:
        person = self.people.new(credits=credits)
        customer = self.account.customer(metadata={"user_id": str(person.id)})["id"]
        self.people.service.call("link_stripe_customer", p_user_id=person.id, p_stripe_customer_id=customer)
        return Buyer(person, customer)

    def order(self, buyer: Buyer, price: Object, **fields: Any) -> str:
        """The buyer is on the payment page; its id."""
        order = self.people.service.call(
            "place_billing_order", p_user_id=buyer.person.id, p_stripe_price_id=price["id"]
        )
        data = {"metadata": {"user_id": buyer.id, "order_id": str(order["id"])}} | fields
        session = self.account.session(
            buyer.customer, price, client_reference_id=str(order["id"]), subscription_data=data
        )
        self.people.service.call("attach_checkout_session", p_order_id=order["id"], p_session_id=session["id"])
        return str(session["id"])

    def buy(self, buyer: Buyer) -> str:
        """The buyer pays for a pack; the id of the payment."""
        return str(self.account.pay(self.order(buyer, self.pack))["payment_intent"])

    def subscribe(self, buyer: Buyer, plan: str = "basic", **fields: Any) -> Object:
        """The buyer subscribes."""
        return self.account.pay(self.order(buyer, self.prices[plan], **fields))

    def holdings(self, buyer: Buyer) -> Row:
        """Everything that a set of events leads to, without what tells accounts or moments apart."""

        def rows(statement: str) -> list[Row]:
            return self.people.connection.execute(statement, (buyer.id,)).fetchall()

        (profile,) = rows(
            "select credits_remaining, credit_debt, total_credits_purchased, subscription_status, subscription_plan,"
            " stripe_subscription_id is null as has_none from public.profiles where id = %s"
        )
        return profile | {
            "grants": rows(
                "select g.source, g.amount, g.remaining, g.money_amount, g.currency, t.transaction_type, t.description,"
                " g.expires_at is null as is_forever"
                " from public.credit_grants as g join public.credit_transactions as t on t.id = g.transaction_id"
                " where g.user_id = %s order by t.idempotency_key"
            ),
            "clawbacks": rows(
                "select c.amount, c.owed, c.money_amount, c.reason, c.idempotency_key is null as is_bare"
                " from public.credit_clawbacks as c where c.user_id = %s and c.reversed_at is null"
                " order by c.idempotency_key"
            ),
            "history": rows(
                "select s.name, h.status, h.ended_at is null as runs, h.cancelled_at is null as stays,"
                " h.cancel_at is null as is_open"
                " from public.subscription_history as h join public.subscription_plans as s"
                " on s.id = h.subscription_plan_id where h.user_id = %s order by h.started_at"
            ),
            "invoices": rows(
                "select reason, status, amount_due, amount_paid, attempts, next_attempt_at from public.billing_invoices"
                " where user_id = %s order by created_at"
            ),
            "orders": rows("select status, credits from public.billing_orders where user_id = %s order by created_at"),
        }
