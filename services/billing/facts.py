"""Objects of Stripe as facts: the few fields that the database decides by.

Each function takes an object as a dict, in the shape of the pinned API version or of those before 2025-03-31, which an
account's older webhook endpoints and test servers still send, and returns what `apply_stripe_event` expects.
Amounts become strings in units of the currency; times stay seconds since 1970.
"""

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from services.billing.money import to_units

Object = dict[str, Any]
Fact = dict[str, Any]

PAID = frozenset({"paid", "no_payment_required"})
PAYMENT_FAILED = frozenset({"requires_payment_method", "canceled"})

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


def checkout(session: Object) -> Fact:
    """A checkout session, with its payment intent expanded where there is one."""
    currency = session.get("currency") or "usd"
    intent = session.get("payment_intent")
    return {
        "kind": "checkout",
        "id": session["id"],
        "order_id": session.get("client_reference_id"),
        "customer": identifier(session.get("customer")),
        "mode": session["mode"],
        "status": session.get("status"),
        # A subscription's own invoices tell what was paid for it.
        "is_paid": session.get("status") == "complete"
        and (session["mode"] == "subscription" or session["payment_status"] in PAID),
        "has_failed": session.get("status") == "complete"
        and session["payment_status"] == "unpaid"
        and isinstance(intent, dict)
        and intent.get("status") in PAYMENT_FAILED,
        "amount": str(to_units(session.get("amount_total") or 0, currency)),
        "currency": currency,
        "payment_intent": identifier(intent),
    }


def returns(intent: Object, refunds: Iterable[Object], disputes: Iterable[Object]) -> list[Fact]:
    """The refunds and disputes of a payment, each with what those made before it come to.

    Those that came to nothing are told first: what they give back is there for the others to take.
    """
    found = [("refund", item, REFUNDS) for item in refunds] + [("dispute", item, DISPUTES) for item in disputes]
    found.sort(key=lambda entry: (entry[1]["created"], entry[1]["id"]))
    currency = intent["currency"]
    facts: list[Fact] = []
    before = 0
    for kind, item, meanings in found:
        facts.append(
            {
                "kind": kind,
                "id": item["id"],
                "payment_intent": intent["id"],
                "paid": str(to_units(intent["amount_received"], currency)),
                "before": str(to_units(before, currency)),
                "amount": str(to_units(item["amount"], currency)),
                "currency": currency,
                "status": meanings.get(item["status"], "open"),
            }
        )
        before += item["amount"]
    return sorted(facts, key=lambda fact: fact["status"] != "returned")


def subscription(item: Object) -> Fact:
    """A subscription. Payments that are paused (`pause_collection`) bring no credits, so it counts as paused."""
    (line, *_) = item["items"]["data"] or [{}]
    price = line.get("price") or line.get("plan") or {}
    return {
        "kind": "subscription",
        "id": item["id"],
        "customer": identifier(item["customer"]),
        "status": "paused" if item["status"] == "active" and item.get("pause_collection") else item["status"],
        "price": price.get("id"),
        "product": identifier(price.get("product")),
        "started_at": item["start_date"],
        "cancelled_at": item.get("canceled_at"),
        "cancel_at": item.get("cancel_at") or (_period_end(item, line) if item.get("cancel_at_period_end") else None),
        "ended_at": item.get("ended_at"),
        "current_period_end": _period_end(item, line),
    }


def _period_end(item: Object, line: Object) -> int | None:
    end = line.get("current_period_end") or item.get("current_period_end")
    return int(end) if end else None


def subscription_of(invoice: Object) -> str | None:
    """The subscription that an invoice is for."""
    details = (invoice.get("parent") or {}).get("subscription_details") or {}
    return identifier(details.get("subscription")) or identifier(invoice.get("subscription"))


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
    item: Object, lines: Iterable[Object], payment_intent: str | None, unit_amount: Callable[[str], Decimal]
) -> Fact:
    """A paid invoice with all its lines; `unit_amount` gives the whole amount of a price, in units."""
    currency = item["currency"]
    return {
        "kind": "invoice",
        "id": item["id"],
        "customer": identifier(item["customer"]),
        "subscription": subscription_of(item),
        "created": item["created"],
        "paid": str(to_units(item["amount_paid"], currency)),
        "currency": currency,
        "payment_intent": payment_intent,
        "lines": [_line(line, currency, unit_amount) for line in lines],
    }


def _line(line: Object, currency: str, unit_amount: Callable[[str], Decimal]) -> Fact:
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
