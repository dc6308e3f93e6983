"""The objects and events of one Stripe account, in memory."""

import copy
import secrets
import threading
import time
from typing import Any

Object = dict[str, Any]

API_VERSION = "2026-10-28.endive"  # whose shapes these are, as the events say

PREFIXES = {
    "billing_portal.session": "bps",
    "charge": "ch",
    "checkout.session": "cs_test",
    "customer": "cus",
    "dispute": "du",
    "event": "evt",
    "invoice": "in",
    "invoice_payment": "inpay",
    "line_item": "il",
    "payment_intent": "pi",
    "price": "price",
    "product": "prod",
    "refund": "re",
    "subscription": "sub",
    "subscription_item": "si",
}

LISTED = 10  # of a list inside an object, such as the items of a subscription

# What a payment page was made of. Stripe shows the first only where it is asked for, the second never.
HIDDEN = ("line_items", "subscription_data")


class Store:
    """Objects by id; they change only by what happens to them."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.delivered: set[str] = set()  # events that the endpoint accepted
        self._by_kind: dict[str, list[Object]] = {}
        self._word = secrets.token_hex(4)
        self._number = 0
        self._time = 0
        self._lock = threading.RLock()

    def now(self) -> int:
        """Seconds since 1970, later than the last time, so that newer objects are told from older ones."""
        with self._lock:
            self._time = max(self._time + 1, int(time.time()))
            return self._time

    def new_id(self, kind: str) -> str:
        """An id that no object of this or an earlier run has."""
        with self._lock:
            self._number += 1
            return f"{PREFIXES[kind]}_{self._word}{self._number:06d}"

    def new(self, kind: str, **fields: Any) -> Object:
        """Add an object."""
        with self._lock:
            item_id = fields.pop("id", None) or self.new_id(kind)
            item = {"id": item_id, "object": kind, "created": self.now(), "livemode": False} | fields
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
            data={"object": shown(item)},
            pending_webhooks=1,
            request={"id": None, "idempotency_key": None},
        )

    def events(self, customer: str | None = None, *, after: int = 0) -> list[Object]:
        """The events in their order but for the first so many, of one customer where named."""
        with self._lock:
            found = self._by_kind.get("event", [])[after:]
        return [event for event in found if customer is None or self._customer_of(event["data"]["object"]) == customer]

    def _customer_of(self, item: Object) -> Any:
        if item["object"] == "customer":
            return item["id"]
        if "customer" not in item and "payment_intent" in item:
            return self.objects[item["payment_intent"]]["customer"]
        return item.get("customer")


def shown(item: Object) -> Object:
    """A copy of an object as Stripe shows it."""
    if item.get("deleted"):
        return {"id": item["id"], "object": item["object"], "deleted": True}
    copied = copy.deepcopy({name: value for name, value in item.items() if name not in HIDDEN})
    for inner in copied.values():
        if isinstance(inner, dict) and inner.get("object") == "list":
            inner |= {"data": inner["data"][:LISTED], "has_more": len(inner["data"]) > LISTED}
    return copied
