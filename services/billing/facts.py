"""Objects of Stripe as facts: the few fields that the database decides by.

Each function takes an object as a dict, in the shape of the pinned API version or of those before 2025-03-31, which an
account's older webhook endpoints and test servers still send, and returns what `apply_stripe_event` expects.
Amounts become strings in units of the currency; times stay seconds since 1970.
"""

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Literal, TypedDict

from services.billing.money import to_units

Object = dict[str, Any]
"""An object of Stripe's, in the shape of any version, or a row."""


class Checkout(TypedDict):
    """A payment page."""

    kind: Literal["checkout"]
    id: str
    order_id: str | None
    customer: str | None
    mode: str
    status: str | None
    is_paid: bool
    has_failed: bool
    amount: str
    currency: str
    payment_intent: str | None
    receipt_url: str | None


class Return(TypedDict):
    """A refund or a dispute; `before` is what those made before it come to."""

    kind: Literal["refund", "dispute"]
    id: str
    payment_intent: str
    paid: str
    before: str
    amount: str
    currency: str
    status: str


class Item(TypedDict):
    """What a subscription is for."""

    price: str | None
    product: str | None
    current_period_end: int | None


class Subscription(TypedDict):
    """A subscription with all its items."""

    kind: Literal["subscription"]
    id: str
    customer: str | None
    status: str
    order_id: str | None
    items: list[Item]
    started_at: int
    cancelled_at: int | None
    cancel_at: int | None
    ends_with_period: bool
    ended_at: int | None


class Line(TypedDict):
    """A line of an invoice; `unit_amount` is the whole amount of the price of a part of a period."""

    id: str
    price: str | None
    product: str | None
    amount: str
    unit_amount: str | None
    quantity: int
    is_proration: bool
    is_trial: bool
    period_start: int
    period_end: int


class Invoice(TypedDict):
    """An invoice with all its lines."""

    kind: Literal["invoice"]
    id: str
    customer: str | None
    subscription: str | None
    order_id: str | None
    status: str
    reason: str
    created: int
    total: str
    due: str
    paid: str
    currency: str
    attempts: int
    has_failed: bool
    next_attempt_at: int | None
    hosted_url: str | None
    paid_at: int | None
    payment_intent: str | None
    lines: list[Line]


class Customer(TypedDict):
    """Whether a customer is gone."""

    kind: Literal["customer"]
    id: str
    is_deleted: bool


class Sale(TypedDict):
    """Whether a price or a product can be sold."""

    kind: Literal["price", "product"]
    id: str
    is_active: bool


Fact = Checkout | Return | Subscription | Invoice | Customer | Sale

UNBEGUN = frozenset({"incomplete", "incomplete_expired"})  # subscriptions whose first payment did not come, or not yet
PAID = frozenset({"paid", "no_payment_required"})
PAYMENT_FAILED = frozenset({"requires_payment_method", "canceled"})
# Of a subscription's invoice: the customer's bank may want to ask him, who is not there.
NEEDS_CUSTOMER = frozenset({"requires_payment_method", "requires_action"})

# What a refund or a dispute has done with the money. An inquiry (warning_…) has not moved any.
REFUNDS = {"succeeded": "taken", "failed": "returned", "canceled": "returned"}
DISPUTES = {
    "needs_response": "taken",
    "under_review": "taken",
    "lost": "taken",
    "won": "returned",
    "prevented": "returned",
}


IDENTIFIER = re.compile(r"[A-Za-z0-9_.]{1,255}")


def identifier(value: Any) -> str | None:
    """The id of an object that may have been expanded. Raises ValueError for what cannot be one."""
    found = value.get("id") if isinstance(value, dict) else value
    if found is None or found == "":
        return None
    if not isinstance(found, str) or not IDENTIFIER.fullmatch(found):
        raise ValueError("not an id of Stripe's")
    return found


def checkout(session: Object, subscription: Subscription | None, *, has_failed: bool) -> Checkout:
    """A checkout session, with its payment intent and that one's charge expanded where there are any.

    One for a plan comes with the subscription that it made; `has_failed` tells whether a delayed payment came to
    nothing.
    """
    currency = session.get("currency") or "usd"
    intent = session.get("payment_intent")
    charge = intent.get("latest_charge") if isinstance(intent, dict) else None
    is_complete = session.get("status") == "complete"
    # A subscription's own invoices tell what was paid for it.
    is_paid = subscription["status"] not in UNBEGUN if subscription else session["payment_status"] in PAID
    return {
        "kind": "checkout",
        "id": session["id"],
        "order_id": session.get("client_reference_id"),
        "customer": identifier(session.get("customer")),
        "mode": session["mode"],
        "status": session.get("status"),
        "is_paid": is_complete and is_paid,
        "has_failed": is_complete and not is_paid and has_failed,
        "amount": str(to_units(session.get("amount_total") or 0, currency)),
        "currency": currency,
        "payment_intent": identifier(intent),
        "receipt_url": charge.get("receipt_url") if isinstance(charge, dict) else None,
    }


def returns(
    intents: list[Object], refunds: Iterable[Object], disputes: Iterable[Object], total: Decimal
) -> list[Return]:
    """The refunds and disputes of what one or more payments paid, each with what those made before it come to.

    The first payment is the one that the ledger names. `total` is what all that they paid for came to, in units: more
    than the payments where a balance paid a part, which does not come back with them. Those that came to nothing are
    told first: what they give back is there for the others to take.
    """
    kinds: list[tuple[Literal["refund", "dispute"], Iterable[Object], dict[str, str]]] = [
        ("refund", refunds, REFUNDS),
        ("dispute", disputes, DISPUTES),
    ]
    found = [(kind, item, meanings) for kind, items, meanings in kinds for item in items]
    found.sort(key=lambda entry: (entry[1]["created"], entry[1]["id"]))
    currency = intents[0]["currency"]
    paid = max(to_units(sum(intent["amount_received"] for intent in intents), currency), total)
    facts: list[Return] = []
    before = 0
    for kind, item, meanings in found:
        facts.append(
            {
                "kind": kind,
                "id": item["id"],
                "payment_intent": intents[0]["id"],
                "paid": str(paid),
                "before": str(to_units(before, currency)),
                "amount": str(to_units(item["amount"], currency)),
                "currency": currency,
                "status": meanings.get(item["status"], "open"),
            }
        )
        before += item["amount"]
    return sorted(facts, key=lambda fact: fact["status"] != "returned")


def subscription(item: Object, lines: Iterable[Object]) -> Subscription:
    """A subscription with all its items: which of them is for a plan, the database knows.

    Payments that are paused (`pause_collection`) bring no credits, so it counts as paused.
    """
    return {
        "kind": "subscription",
        "id": item["id"],
        "customer": identifier(item["customer"]),
        "status": "paused" if item["status"] == "active" and item.get("pause_collection") else item["status"],
        "order_id": (item.get("metadata") or {}).get("order_id"),
        "items": [_item(item, line) for line in lines],
        "started_at": item["start_date"],
        "cancelled_at": item.get("canceled_at"),
        "cancel_at": item.get("cancel_at"),
        "ends_with_period": bool(item.get("cancel_at_period_end")),
        "ended_at": item.get("ended_at"),
    }


def _item(subscription: Object, line: Object) -> Item:
    price = line.get("price") or line.get("plan") or {}
    end = line.get("current_period_end") or subscription.get("current_period_end")
    return {
        "price": price.get("id"),
        "product": identifier(price.get("product")),
        "current_period_end": int(end) if end else None,
    }


def subscription_of(invoice: Object) -> str | None:
    """The subscription that an invoice is for."""
    return identifier(_details(invoice).get("subscription")) or identifier(invoice.get("subscription"))


def _details(invoice: Object) -> Object:
    """What an invoice tells of its subscription; before 2025-03-31 only the metadata stood there."""
    return (invoice.get("parent") or invoice).get("subscription_details") or {}


def is_proration(line: Object) -> bool:
    """Whether a line of an invoice stands for a part of a period."""
    parent = line.get("parent") or {}
    details = parent.get("subscription_item_details") or parent.get("invoice_item_details") or {}
    return bool(details.get("proration", line.get("proration", False)))


def price_of(line: Object) -> tuple[str | None, str | None]:
    """The price and the product of a line of an invoice."""
    details = (line.get("pricing") or {}).get("price_details")
    if details:
        return details.get("price"), identifier(details.get("product"))
    price = line.get("price") or line.get("plan") or {}
    return price.get("id"), identifier(price.get("product"))


def invoice(
    item: Object,
    lines: Iterable[Object],
    payment_intent: str | None,
    unit_amount: Callable[[str], Decimal],
    *,
    has_failed: bool,
) -> Invoice:
    """An invoice with all its lines; `unit_amount` gives the whole amount of a price, in units.

    `payment_intent` is the one that paid it, `has_failed` whether its last attempt failed.
    """
    currency = item["currency"]
    return {
        "kind": "invoice",
        "id": item["id"],
        "customer": identifier(item["customer"]),
        "subscription": subscription_of(item),
        "order_id": (_details(item).get("metadata") or {}).get("order_id"),
        "status": item["status"],
        "reason": item.get("billing_reason") or "manual",
        "created": item["created"],
        "total": str(to_units(item["total"], currency)),
        "due": str(to_units(item["amount_due"], currency)),
        "paid": str(to_units(item["amount_paid"], currency)),
        "currency": currency,
        "attempts": item.get("attempt_count") or 0,
        "has_failed": has_failed,
        "next_attempt_at": item.get("next_payment_attempt"),
        "hosted_url": item.get("hosted_invoice_url"),
        "paid_at": (item.get("status_transitions") or {}).get("paid_at"),
        "payment_intent": payment_intent,
        "lines": [_line(line, currency, unit_amount) for line in lines],
    }


def is_collecting(item: Object) -> bool:
    """Whether Stripe has tried to collect an invoice that is not paid."""
    return bool(item["status"] == "open" and item.get("attempted") and item.get("attempt_count"))


def _line(line: Object, currency: str, unit_amount: Callable[[str], Decimal]) -> Line:
    price, product = price_of(line)
    proration = is_proration(line)
    return {
        "id": line["id"],
        "price": price,
        "product": product,
        "amount": str(to_units(line["amount"], currency)),
        "unit_amount": str(unit_amount(price)) if proration and price else None,
        "quantity": 1 if line.get("quantity") is None else line["quantity"],
        "is_proration": proration,
        "is_trial": not proration and line["amount"] == 0,
        "period_start": line["period"]["start"],
        "period_end": line["period"]["end"],
    }
