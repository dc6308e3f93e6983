"""Subscriptions in the shapes that real accounts have: beside other items, at other prices, and of other products."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from local.stripe import Object
from tests.billing.service_process import ServiceProcess
from tests.billing.shop import Buyer, Shop
from tests.database.personas import Connection

Order = Callable[[list[Object]], list[Object]]

ORDERS: dict[str, Order] = {
    "as they happened": lambda events: events,
    "back to front": lambda events: events[::-1],
    "each twice": lambda events: [event for event in events for _ in range(2)],
    "the last alone": lambda events: events[-1:],
}
in_any_order = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())


def deliver(shop: Shop, service: ServiceProcess, buyer: Buyer, order: Order) -> list[str]:
    """What is new of a buyer's events arrives in an order; what was said to each."""
    new = [event for event in shop.account.events(buyer.customer) if event["id"] not in shop.account.delivered]
    statuses = []
    for event in order(new):
        answer = service.deliver(event)
        assert answer.status_code == 200, (event["type"], answer.text, service.log.read_text()[-3000:])
        statuses.append(answer.json()["status"])
    shop.account.delivered |= {event["id"] for event in new}
    return statuses


def plan(shop: Shop, buyer: Buyer) -> tuple[str, str, bool]:
    held = shop.holdings(buyer)
    return held["subscription_status"], held["subscription_plan"], not held["has_none"]


def add_ons(shop: Shop, count: int) -> list[Object]:
    return [shop.account.price(300 + number, recurring=True) for number in range(count)]


# The plan beside other items.


@in_any_order
@pytest.mark.parametrize("count", [1, 12])
def test_a_plan_is_found_behind_other_items_and_ends(
    shop: Shop, service: ServiceProcess, order: Order, count: int
) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    for price in add_ons(shop, count):
        shop.account.add_item(subscription, price)
    deliver(shop, service, buyer, order)
    assert plan(shop, buyer) == ("basic", "basic", True)
    shop.account.cancel(subscription, at_period_end=True)
    deliver(shop, service, buyer, order)
    (row,) = buyer.person.sql("select * from public.subscription_history")
    assert row["cancel_at"] == row["current_period_end"] is not None
    shop.account.cancel(subscription)
    deliver(shop, service, buyer, order)
    assert plan(shop, buyer) == ("cancelled", "free", False)


def test_a_renewal_beside_other_items_brings_the_plan_s_credits(shop: Shop, service: ServiceProcess) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    (add_on,) = add_ons(shop, 1)
    shop.account.add_item(subscription, add_on, place=1)
    invoice = shop.account.renew(subscription)
    deliver(shop, service, buyer, ORDERS["as they happened"])
    assert shop.people.balance(buyer.person) == 2 + 20 + 20
    (row,) = buyer.person.sql(
        "select s.name, i.trouble from public.billing_invoices as i"
        " join public.subscription_plans as s on s.id = i.subscription_plan_id where i.id = %s",
        invoice["id"],
    )
    assert row == {"name": "basic", "trouble": None}


def test_of_two_plans_in_one_subscription_the_larger_counts(shop: Shop, service: ServiceProcess) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    shop.account.add_item(subscription, shop.prices["starter"], place=1)
    deliver(shop, service, buyer, ORDERS["as they happened"])
    assert plan(shop, buyer) == ("starter", "starter", True)


# A plan's subscription at a price that no plan knows.


@in_any_order
def test_a_subscription_that_was_moved_to_a_custom_price_ends(
    shop: Shop, service: ServiceProcess, order: Order
) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    deliver(shop, service, buyer, ORDERS["as they happened"])
    shop.account.move(subscription, shop.account.price(500, recurring=True))
    deliver(shop, service, buyer, order)
    assert plan(shop, buyer) == ("basic", "basic", True), "until it ends, it goes on as what it was"
    shop.account.cancel(subscription)
    deliver(shop, service, buyer, order)
    assert plan(shop, buyer) == ("cancelled", "free", False)
    assert shop.people.balance(buyer.person) == 22


@pytest.mark.parametrize("share", [0.5, None])
def test_money_at_a_price_that_no_plan_has_is_trouble_that_the_customer_is_not_told(
    shop: Shop, service: ServiceProcess, db: Connection, share: float | None
) -> None:
    """Of a renewal, and of a change in mid-period. The operator's tests tell how it is mended."""
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    deliver(shop, service, buyer, ORDERS["as they happened"])
    custom = shop.account.price(500, recurring=True)
    if share:
        invoice = shop.account.change(subscription, custom, share)
    else:
        shop.account.move(subscription, custom)
        invoice = shop.account.renew(subscription)
    deliver(shop, service, buyer, ORDERS["back to front"])
    assert shop.people.balance(buyer.person) == 22
    (row,) = buyer.person.sql("select * from public.billing_invoices where id = %s", invoice["id"])
    assert (row["status"], custom["id"] in row["trouble"]) == ("paid", True)
    mails = "select l.dedupe_key from public.email_logs as l where l.user_id = %s and l.dedupe_key like %s"
    assert db.execute(mails, (buyer.id, f"%{invoice['id']}")).fetchall() == []


def test_a_payment_that_fails_at_a_custom_price_is_told_with_the_plan_s_name(
    shop: Shop, service: ServiceProcess, db: Connection
) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    deliver(shop, service, buyer, ORDERS["as they happened"])
    shop.account.move(subscription, shop.account.price(500, recurring=True))
    shop.account.renew(subscription, paid=False)
    deliver(shop, service, buyer, ORDERS["as they happened"])
    assert shop.holdings(buyer)["history"][0]["status"] == "past_due"
    (mail,) = db.execute(
        "select data from public.email_logs where user_id = %s and dedupe_key like 'payment_failed:%%'", (buyer.id,)
    ).fetchall()
    assert (mail["data"]["product"], mail["data"]["amount"]) == ("Basic", "$5.00")


# What is not of this project.


def another_product(shop: Shop, buyer: Buyer) -> Object:
    """Something else is sold to the customer at the same account of Stripe."""
    price = shop.account.price(4900, recurring=True)
    return shop.account.pay(shop.account.session(buyer.customer, price)["id"])


@in_any_order
def test_another_product_of_a_known_customer_changes_nothing(
    shop: Shop, service: ServiceProcess, db: Connection, order: Order
) -> None:
    buyer = shop.buyer()
    before = shop.holdings(buyer)
    subscription = another_product(shop, buyer)
    shop.account.add_item(subscription, shop.account.price(100, recurring=True))
    shop.account.change(subscription, shop.account.price(9900, recurring=True), 0.5, place=1)
    invoice = shop.account.renew(subscription)
    shop.account.refund(shop.account.payment_of(invoice), 1000)
    shop.account.dispute(shop.account.payment_of(invoice), 4000)
    unpaid = shop.account.renew(subscription, paid=False)
    for _ in range(3):
        shop.account.collect(unpaid, paid=False)
    assert set(deliver(shop, service, buyer, order)) == {"ignored"}
    assert shop.holdings(buyer) == before
    # What every account is told when it comes is not of this.
    assert (
        db.execute(
            "select 1 from public.email_logs where user_id = %s and dedupe_key not like 'welcome:%%'", (buyer.id,)
        ).fetchall()
        == []
    )


def test_another_product_beside_a_plan_leaves_the_plan_alone(shop: Shop, service: ServiceProcess) -> None:
    buyer = shop.buyer()
    shop.subscribe(buyer)
    other = another_product(shop, buyer)
    shop.account.cancel(other)
    deliver(shop, service, buyer, ORDERS["back to front"])
    assert plan(shop, buyer) == ("basic", "basic", True)
    assert [row["money_amount"] for row in shop.holdings(buyer)["grants"] if row["money_amount"]] == [Decimal("9.99")]
