"""A Stripe on loopback: the objects that billing reads, in the shapes documented for the pinned API version.

It is a real HTTP server that the official SDK talks to. What customers, banks and time do to the objects is done by
methods of `Account`, each of which notes the events that Stripe would send. Nothing is delivered by itself.
"""

import asyncio
import copy
import hashlib
import hmac
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.billing.reader import API_VERSION

Object = dict[str, Any]

SECRET_KEY = "sk_test_double"
WEBHOOK_SECRET = "whsec_double"
MONTH = 30 * 24 * 3600

# Path below /v1 and the kind of object that lies there.
KINDS = {
    "customers": "customer",
    "products": "product",
    "prices": "price",
    "checkout/sessions": "checkout.session",
    "billing_portal/sessions": "billing_portal.session",
    "subscriptions": "subscription",
    "invoices": "invoice",
    "invoice_payments": "invoice_payment",
    "payment_intents": "payment_intent",
    "refunds": "refund",
    "disputes": "dispute",
    "events": "event",
}
PREFIXES = {
    "customer": "cus",
    "product": "prod",
    "price": "price",
    "checkout.session": "cs_test",
    "billing_portal.session": "bps",
    "subscription": "sub",
    "invoice": "in",
    "invoice_payment": "inpay",
    "payment_intent": "pi",
    "refund": "re",
    "dispute": "du",
    "event": "evt",
    "charge": "ch",
    "subscription_item": "si",
    "line_item": "il",
}


class Account:
    """The objects of one Stripe account, and what happens to them."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self._by_kind: dict[str, list[Object]] = {}
        self.delivered: set[str] = set()
        self._ids = itertools.count(1)
        self._word = hashlib.sha256(str(time.time_ns()).encode()).hexdigest()[:8]
        self._clock = itertools.count(int(time.time()))
        self._lock = threading.RLock()

    def new(self, kind: str, **fields: Any) -> Object:
        """Add an object."""
        with self._lock:
            item_id = fields.pop("id", None) or f"{PREFIXES[kind]}_{self._word}{next(self._ids):06d}"
            item = {"id": item_id, "object": kind, "created": next(self._clock), "livemode": False} | fields
            self.objects[item_id] = item
            self._by_kind.setdefault(kind, []).append(item)
            return item

    def all(self, kind: str, **equal: Any) -> list[Object]:
        """Objects of a kind, the newest first as in Stripe's lists."""
        with self._lock:
            found = [
                item
                for item in self._by_kind.get(kind, [])
                if all(item.get(name) == value for name, value in equal.items())
            ]
        return sorted(found, key=lambda item: -item["created"])

    def tell(self, event_type: str, item: Object) -> None:
        """Note an event with the object as it is now."""
        self.new(
            "event",
            api_version=API_VERSION,
            type=event_type,
            data={"object": copy.deepcopy(item)},
            pending_webhooks=1,
            request={"id": None, "idempotency_key": None},
        )

    def events(self, customer: str | None = None) -> list[Object]:
        """The events in their order, of one customer where named."""
        found = list(reversed(self.all("event")))
        return [event for event in found if customer is None or self._customer_of(event["data"]["object"]) == customer]

    def _customer_of(self, item: Object) -> Any:
        if item["object"] == "customer":
            return item["id"]
        if "customer" not in item and "payment_intent" in item:
            return self.objects[item["payment_intent"]]["customer"]
        return item.get("customer")

    # What is for sale.

    def price(self, amount: int, *, product: str | None = None, recurring: bool = False) -> Object:
        """A price of a product, of a new one where none is named; `amount` in cents."""
        return self.new(
            "price",
            active=True,
            currency="usd",
            unit_amount=amount,
            unit_amount_decimal=str(amount),
            product=product or self.new("product", active=True, name="Something", metadata={})["id"],
            recurring={"interval": "month", "interval_count": 1} if recurring else None,
            type="recurring" if recurring else "one_time",
            metadata={},
            lookup_key=None,
        )

    # Payments.

    def _intent(self, customer: str, amount: int, status: str = "succeeded") -> Object:
        paid = status == "succeeded"
        return self.new(
            "payment_intent",
            amount=amount,
            amount_received=amount if paid else 0,
            currency="usd",
            customer=customer,
            status=status,
            latest_charge=f"ch_{self._word}{next(self._ids):06d}",
        )

    def pay(self, session_id: str, *, delayed: bool = False) -> Object:
        """The customer pays at the payment page; with a delayed method the money comes, or not, with `settle`."""
        session = self.objects[session_id]
        session |= {"status": "complete", "url": None}
        if session["mode"] == "subscription":
            session["payment_status"] = "paid"
            price = session["line_items"][0]["price"]
            data = session["subscription_data"]
            subscription = self._subscription(session["customer"], price, int(data.get("trial_period_days", 0)))
            session["subscription"] = subscription["id"]
            self.tell("checkout.session.completed", session)
            return subscription
        status = "processing" if delayed else "succeeded"
        session["payment_intent"] = self._intent(session["customer"], session["amount_total"], status)["id"]
        session["payment_status"] = "unpaid" if delayed else "paid"
        self.tell("checkout.session.completed", session)
        return session

    def settle(self, session_id: str, *, paid: bool) -> None:
        """The money of a delayed payment comes, or does not."""
        session = self.objects[session_id]
        intent = self.objects[session["payment_intent"]]
        if paid:
            intent |= {"status": "succeeded", "amount_received": intent["amount"]}
            session["payment_status"] = "paid"
        else:
            intent["status"] = "requires_payment_method"
        self.tell(f"checkout.session.async_payment_{'succeeded' if paid else 'failed'}", session)

    def expire(self, session_id: str) -> Object:
        """A payment page is closed."""
        session = self.objects[session_id]
        session |= {"status": "expired", "url": None}
        self.tell("checkout.session.expired", session)
        return session

    def refund(self, intent_id: str, amount: int, status: str = "succeeded") -> Object:
        """Money goes back to the customer."""
        intent = self.objects[intent_id]
        item = self.new(
            "refund",
            amount=amount,
            charge=intent["latest_charge"],
            currency="usd",
            payment_intent=intent_id,
            reason=None,
            status=status,
        )
        self.tell("refund.created", item)
        charge = {"id": intent["latest_charge"], "object": "charge", "customer": intent["customer"]}
        self.tell("charge.refunded", charge | {"payment_intent": intent_id, "amount_refunded": amount})
        return item

    def update_refund(self, refund: Object, status: str) -> None:
        """A refund that was under way arrives, or fails."""
        refund["status"] = status
        self.tell("refund.updated", refund)
        if status == "failed":
            self.tell("refund.failed", refund)

    def dispute(self, intent_id: str, amount: int, status: str = "needs_response") -> Object:
        """The customer's bank takes the money back until the dispute is closed; an inquiry takes none."""
        intent = self.objects[intent_id]
        item = self.new(
            "dispute",
            amount=amount,
            charge=intent["latest_charge"],
            currency="usd",
            payment_intent=intent_id,
            reason="fraudulent",
            status=status,
        )
        self.tell("charge.dispute.created", item)
        if not status.startswith("warning"):
            self.tell("charge.dispute.funds_withdrawn", item)
        return item

    def close_dispute(self, dispute: Object, status: str) -> None:
        """The bank decides: won, lost, or warning_closed."""
        dispute["status"] = status
        self.tell("charge.dispute.closed", dispute)
        if status == "won":
            self.tell("charge.dispute.funds_reinstated", dispute)

    # Subscriptions.

    def _subscription(self, customer: str, price_id: str, trial_days: int) -> Object:
        now = next(self._clock)
        end = now + (trial_days * 24 * 3600 or MONTH)
        item = {
            "id": f"si_{self._word}{next(self._ids):06d}",
            "object": "subscription_item",
            "price": self.objects[price_id],
            "quantity": 1,
            "current_period_start": now,
            "current_period_end": end,
        }
        subscription = self.new(
            "subscription",
            customer=customer,
            status="trialing" if trial_days else "active",
            start_date=now,
            trial_end=end if trial_days else None,
            canceled_at=None,
            cancel_at=None,
            cancel_at_period_end=False,
            ended_at=None,
            pause_collection=None,
            items={"object": "list", "data": [item], "has_more": False},
            metadata={},
        )
        self.tell("customer.subscription.created", subscription)
        amount = 0 if trial_days else self.objects[price_id]["unit_amount"]
        self._pay_invoice(self._invoice(subscription, "subscription_create", [self._line(item, amount)]))
        return subscription

    def _line(
        self, item: Object, amount: int, *, price: Object | None = None, proration: bool = False, **fields: Any
    ) -> Object:
        price = price or item["price"]
        return {
            "id": f"il_{self._word}{next(self._ids):06d}",
            "object": "line_item",
            "amount": amount,
            "currency": "usd",
            "quantity": 1,
            "period": {"start": item["current_period_start"], "end": item["current_period_end"]},
            "parent": {
                "type": "subscription_item_details",
                "subscription_item_details": {"proration": proration, "subscription_item": item["id"]},
            },
            "pricing": {
                "type": "price_details",
                "price_details": {"price": price["id"], "product": price["product"]},
                "unit_amount_decimal": str(abs(amount)),
            },
        } | fields

    def _invoice(self, subscription: Object, reason: str, lines: list[Object]) -> Object:
        total = sum(line["amount"] for line in lines)
        return self.new(
            "invoice",
            customer=subscription["customer"],
            billing_reason=reason,
            currency="usd",
            status="open",
            total=total,
            amount_due=max(total, 0),
            amount_paid=0,
            parent={
                "type": "subscription_details",
                "subscription_details": {"subscription": subscription["id"], "metadata": {}},
            },
            lines={"object": "list", "data": lines, "has_more": False},
            payments={"object": "list", "data": [], "has_more": False},
        )

    def _pay_invoice(self, invoice: Object) -> None:
        invoice |= {"status": "paid", "amount_paid": invoice["amount_due"]}
        if invoice["amount_due"]:
            intent = self._intent(invoice["customer"], invoice["amount_due"])
            payment = self.new(
                "invoice_payment",
                invoice=invoice["id"],
                status="paid",
                amount_paid=invoice["amount_due"],
                payment={"type": "payment_intent", "payment_intent": intent["id"]},
            )
            invoice["payments"]["data"].append(payment)
        self.tell("invoice.paid", invoice)
        self.tell("invoice.payment_succeeded", invoice)

    def payment_of(self, invoice: Object) -> str:
        """The payment intent that paid an invoice."""
        return str(invoice["payments"]["data"][0]["payment"]["payment_intent"])

    def invoices(self, subscription: Object) -> list[Object]:
        """The invoices of a subscription, the oldest first."""
        found = [
            item
            for item in self.all("invoice", customer=subscription["customer"])
            if item["parent"]["subscription_details"]["subscription"] == subscription["id"]
        ]
        return found[::-1]

    def renew(self, subscription: Object, *, paid: bool = True) -> Object:
        """The next period begins; its payment works or fails."""
        (item,) = subscription["items"]["data"]
        item["current_period_start"] = item["current_period_end"]
        item["current_period_end"] += MONTH
        invoice = self._invoice(subscription, "subscription_cycle", [self._line(item, item["price"]["unit_amount"])])
        if paid:
            subscription["status"] = "active"
            self._pay_invoice(invoice)
        else:
            subscription["status"] = "past_due"
            self.tell("invoice.payment_failed", invoice)
        self.tell("customer.subscription.updated", subscription)
        return invoice

    def retry(self, subscription: Object, invoice: Object) -> None:
        """Another try to collect a failed payment works."""
        self._pay_invoice(invoice)
        self.set_status(subscription, "active")

    def set_status(self, subscription: Object, status: str) -> None:
        """Stripe gives up, pauses or resumes."""
        subscription["status"] = status
        kind = {"paused": "paused", "canceled": "deleted"}.get(status, "updated")
        self.tell(f"customer.subscription.{kind}", subscription)

    def cancel(self, subscription: Object, *, at_period_end: bool = False) -> None:
        """The customer cancels."""
        now = next(self._clock)
        subscription["canceled_at"] = now
        if at_period_end:
            subscription["cancel_at_period_end"] = True
            self.tell("customer.subscription.updated", subscription)
        else:
            subscription["ended_at"] = now
            self.set_status(subscription, "canceled")

    def change(self, subscription: Object, price: Object, share: float) -> Object:
        """The customer changes the plan when `share` of the period is left, invoiced at once."""
        (item,) = subscription["items"]["data"]
        old = item["price"]
        lines = [
            self._line(item, -round(old["unit_amount"] * share), price=old, proration=True),
            self._line(item, round(price["unit_amount"] * share), price=price, proration=True),
        ]
        item["price"] = price
        self.tell("customer.subscription.updated", subscription)
        invoice = self._invoice(subscription, "subscription_update", lines)
        self._pay_invoice(invoice)
        return invoice


class StripeDouble:
    """The server. `faults` maps part of a path to the status that requests to it get."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.account = Account()
        self.faults: dict[str, int] = {}
        self.delays: dict[str, float] = {}
        self.calls: list[str] = []
        self._answers: dict[str, tuple[bytes, Object]] = {}
        self._app = Starlette(routes=[Route("/v1/{path:path}", self._answer, methods=["GET", "POST", "DELETE"])])
        self._server = uvicorn.Server(
            uvicorn.Config(self._app, port=self._port, log_level="critical", lifespan="off", access_log=False)
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _answer(self, request: Request) -> Response:
        path, body = request.path_params["path"], await request.body()
        self.calls.append(f"{request.method} {path}")
        for part, seconds in self.delays.items():
            if part in path:
                await asyncio.sleep(seconds)
        for part, status in self.faults.items():
            if part in path:
                return _error("api_error", "broken on purpose", status=status)
        if request.headers.get("authorization") != f"Bearer {SECRET_KEY}":
            return _error("invalid_request_error", "Invalid API Key provided", status=401)
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        if key and key in self._answers:
            first_body, answer = self._answers[key]
            if first_body != body:
                return _error("idempotency_error", "Keys can only be used with the same parameters")
            return JSONResponse(answer)
        params = _nested(parse_qsl(body.decode() if body else request.url.query, keep_blank_values=True))
        answer_or_error = self._route(request.method, path, params)
        if isinstance(answer_or_error, Response):
            return answer_or_error
        if key:
            self._answers[key] = body, copy.deepcopy(answer_or_error)
        return JSONResponse(answer_or_error)

    def _route(self, method: str, path: str, params: Object) -> Object | Response:
        account = self.account
        for base, kind in KINDS.items():
            if path == base:
                return self._create(kind, params) if method == "POST" else self._list(base, kind, params)
            if path.startswith(f"{base}/"):
                item_id, _, action = path.removeprefix(f"{base}/").partition("/")
                item = account.objects.get(item_id)
                if item is None or item["object"] != kind:
                    return _error("invalid_request_error", f"No such {kind}: '{item_id}'", "resource_missing", 404)
                return self._one(method, item, action, params)
        return _error("invalid_request_error", f"Unrecognized request URL ({method}: /v1/{path})", status=404)

    def _one(self, method: str, item: Object, action: str, params: Object) -> Object | Response:
        if action == "lines":
            return dict(item["lines"], url="/v1/lines")
        if action == "expire":
            if item["status"] != "open":
                return _error("invalid_request_error", "Only Checkout Sessions with a status in [open] can be expired")
            return self.account.expire(item["id"])
        if method == "POST":
            item |= {name: {"true": True, "false": False}.get(str(value), value) for name, value in params.items()}
        answer = copy.deepcopy(item)
        for path in params.get("expand", []) if method == "GET" else []:
            name, _, inner = path.partition(".")
            if isinstance(answer.get(name), str):
                answer[name] = copy.deepcopy(self.account.objects[answer[name]])
                if isinstance(answer[name].get(inner), str):
                    charge_id = answer[name][inner]
                    answer[name][inner] = {"id": charge_id, "receipt_url": f"https://pay.stripe.com/{charge_id}"}
        return answer

    def _list(self, base: str, kind: str, params: Object) -> Object:
        params = {name: value for name, value in params.items() if name not in ("expand", "types")}
        limit, after = int(params.pop("limit", 10)), params.pop("starting_after", None)
        since = int(params.pop("created", {}).get("gte", 0))
        undelivered = params.pop("delivery_success", None) == "false"
        found = [
            item
            for item in self.account.all(kind)
            if item["created"] >= since
            and not (undelivered and item["id"] in self.account.delivered)
            and all(_matches(item, name, value) for name, value in params.items())
        ]
        if after:
            ids = [item["id"] for item in found]
            found = found[ids.index(after) + 1 :]
        return {"object": "list", "url": f"/v1/{base}", "has_more": len(found) > limit, "data": found[:limit]}

    def _create(self, kind: str, params: Object) -> Object | Response:
        account = self.account
        if kind == "checkout.session":
            price = account.objects.get(params["line_items"][0]["price"])
            if price is None or not price["active"]:
                return _error("invalid_request_error", "No such price", "resource_missing")
            session = account.new(kind, **params | {"status": "open", "payment_status": "unpaid"})
            session |= {
                "url": f"https://checkout.stripe.com/c/pay/{session['id']}",
                "amount_total": price["unit_amount"],
                "currency": price["currency"],
                "payment_intent": None,
                "subscription": None,
            }
            return session
        if kind == "billing_portal.session":
            return account.new(kind, **params | {"url": "https://billing.stripe.com/p/session/test"})
        if kind == "price":
            params |= {"unit_amount": int(params["unit_amount"]), "active": True}
            if params.get("transfer_lookup_key") == "true":
                for other in account.all("price", lookup_key=params["lookup_key"]):
                    other["lookup_key"] = None
            params.setdefault("recurring", None)
        if kind == "product":
            params.setdefault("active", True)
            if "id" in params and params["id"] in account.objects:
                return _error("invalid_request_error", "Product already exists.", "resource_already_exists")
        return account.new(kind, **params)


def _matches(item: Object, name: str, value: Any) -> bool:
    if name == "status" and value == "all":
        return True
    if name == "payment":
        return bool(item["payment"]["payment_intent"] == value["payment_intent"])
    if name == "subscription" and item["object"] == "invoice":
        return bool(item["parent"]["subscription_details"]["subscription"] == value)
    if name == "lookup_keys":
        return item.get("lookup_key") in value
    return str(item.get(name)).lower() == str(value).lower()


def _nested(pairs: list[tuple[str, str]]) -> Object:
    """Form fields such as line_items[0][price] as nested objects."""
    root: Object = {}
    for name, value in pairs:
        first, *rest = name.replace("]", "").split("[")
        keys, node = [first, *rest], root
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = value
    return {name: _lists(value) for name, value in root.items()}


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _lists(item) for key, item in value.items()}
    return list(inner.values()) if all(key.isdigit() for key in inner) else inner


def _error(kind: str, message: str, code: str | None = None, status: int = 400) -> Response:
    return JSONResponse({"error": {"type": kind, "message": message, "code": code}}, status_code=status)


def signed(event: Object, secret: str = WEBHOOK_SECRET, at: float | None = None) -> tuple[bytes, str]:
    """An event as Stripe sends it: the body and the Stripe-Signature header."""
    body = json.dumps(event).encode()
    return body, signature(body, secret, at)


def signature(body: bytes, secret: str = WEBHOOK_SECRET, at: float | None = None) -> str:
    """The Stripe-Signature header of a body."""
    stamp = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


@contextmanager
def serve() -> Iterator[StripeDouble]:
    """Run a double while the context lasts."""
    double = StripeDouble()
    double.start()
    try:
        yield double
    finally:
        double.stop()
