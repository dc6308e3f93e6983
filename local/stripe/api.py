"""Stripe's API, as far as billing and its tests use it; everything else is refused in Stripe's words."""

import base64
import binascii
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.stripe.account import ENDED, Account
from local.stripe.store import Object, shown

MOST = 100  # objects of a page of a list
BOOLEANS = {"true": True, "false": False}


class ApiError(Exception):
    """A refusal in Stripe's shape."""

    def __init__(
        self,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        status: int = 400,
    ) -> None:
        super().__init__(message)
        self.status = status
        fields = {"type": kind, "message": message, "code": code, "param": param}
        self.body = {"error": {name: value for name, value in fields.items() if value is not None}}

    def answer(self) -> Response:
        """The response."""
        return JSONResponse(self.body, self.status)


def missing(kind: str, item_id: str, param: str = "id") -> ApiError:
    """What Stripe says where there is no such object; in a parameter it is a wrong request, in the address a 404."""
    status = 404 if param == "id" else 400
    return ApiError(f"No such {kind}: '{item_id}'", code="resource_missing", param=param, status=status)


@dataclass(frozen=True)
class Call:
    """A request: the id in its path, if any, and its parameters."""

    id: str
    params: Object


Handler = Callable[[Call], Object]


class Api:
    """The endpoints, below /v1."""

    def __init__(self, account: Account, secret_key: str) -> None:
        self._account = account
        self._secret_key = secret_key
        self._answers: dict[str, tuple[str, bytes, int, Object]] = {}  # by idempotency key
        read = (
            *self._readable("customers", "customer", "email"),
            *self._readable("products", "product", "active"),
            *self._readable("prices", "price", "product", "lookup_keys", "active"),
            *self._readable(
                "checkout/sessions", "checkout.session", "payment_intent", "subscription", "customer", "status"
            ),
            *self._readable("subscriptions", "subscription", "customer", "status"),
            *self._readable("invoices", "invoice", "customer", "subscription", "status"),
            *self._readable("invoice_payments", "invoice_payment", "invoice", "payment", "status"),
            *self._readable("payment_intents", "payment_intent", "customer"),
            *self._readable("refunds", "refund", "payment_intent"),
            *self._readable("disputes", "dispute", "payment_intent"),
            *self._readable("events", "event", "type", "delivery_success"),
        )
        self.routes = [
            *read,
            self._route("POST", "customers", self._create_customer, "email", "metadata", "name"),
            self._route("POST", "customers/{id}", self._update("customer"), "email", "metadata", "name"),
            self._route("DELETE", "customers/{id}", self._delete_customer),
            self._route("POST", "products", self._create_product, "id", "name", "metadata"),
            self._route(
                "POST", "products/{id}", self._update_product, "name", "active", "metadata", "default_price"
            ),
            self._route(
                "POST", "prices", self._create_price,
                "product", "currency", "unit_amount", "recurring", "lookup_key", "transfer_lookup_key", "metadata",
            ),
            self._route("POST", "prices/{id}", self._update_price, "active", "metadata"),
            self._route(
                "POST", "checkout/sessions", self._create_session,
                "mode", "customer", "client_reference_id", "line_items", "metadata", "success_url", "cancel_url",
                "subscription_data",
            ),
            self._route("POST", "checkout/sessions/{id}/expire", self._expire_session),
            self._route("POST", "billing_portal/sessions", self._create_portal, "customer", "return_url"),
            self._route("POST", "subscriptions/{id}", self._update_subscription, "cancel_at_period_end"),
            self._route("DELETE", "subscriptions/{id}", self._cancel_subscription),
            self._route("GET", "subscription_items", self._items, "subscription", "limit", "starting_after"),
            self._route("GET", "invoices/{id}/lines", self._lines, "limit", "starting_after"),
            self._route("POST", "invoices/{id}/pay", self._pay_invoice),
            self._route("POST", "refunds", self._create_refund, "payment_intent", "amount", "reason", "metadata"),
            self._route("POST", "disputes/{id}/close", self._close_dispute),
            Route("/v1/{path:path}", self._unrecognized, methods=["GET", "POST", "DELETE", "PUT", "PATCH"]),
        ]  # fmt: skip

    # Requests.

    def _route(self, method: str, path: str, handler: Handler, *names: str) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return await self._answer(request, handler, set(names))
            except ApiError as error:
                return error.answer()

        return Route(f"/v1/{path}", endpoint, methods=[method])

    def _readable(self, path: str, kind: str, *filters: str) -> tuple[Route, Route]:
        paging = ("limit", "starting_after", "created")
        return (
            self._route("GET", path, lambda call: self._list(path, kind, call.params), *filters, *paging),
            self._route("GET", f"{path}/{{id}}", lambda call: self._find(kind, call.id)),
        )

    async def _unrecognized(self, request: Request) -> Response:
        message = (
            f"Unrecognized request URL ({request.method}: {request.url.path}). This stand-in knows what billing uses."
        )
        return ApiError(message, status=404).answer()

    async def _answer(self, request: Request, handler: Handler, names: set[str]) -> Response:
        self._check_key(request)
        body = await request.body()
        params = nested(parse_qsl(body.decode() if body else request.url.query, keep_blank_values=True))
        expand = params.pop("expand", [])
        for unknown in sorted(set(params) - names):
            raise ApiError(f"Received unknown parameter: {unknown}", code="parameter_unknown", param=unknown)
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        if key in self._answers:
            return self._first_answer(key, request.url.path, body)
        try:
            status, answer = 200, self._expanded(handler(Call(request.path_params.get("id", ""), params)), expand)
        except ApiError as error:
            status, answer = error.status, error.body
        if key:
            self._answers[key] = request.url.path, body, status, copy.deepcopy(answer)
        return JSONResponse(answer, status)

    def _check_key(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given).decode().partition(":")[0]
            except (binascii.Error, UnicodeDecodeError):
                given = ""
        if given != self._secret_key:
            raise ApiError(f"Invalid API Key provided: {given[:8]}{'*' * 8}", status=401)

    def _first_answer(self, key: str, path: str, body: bytes) -> Response:
        """What the first request got, also where that was a refusal."""
        first_path, first_body, status, answer = self._answers[key]
        if (first_path, first_body) != (path, body):
            raise ApiError(
                f"Keys for idempotent requests can only be used with the same parameters as the first time: {key}",
                kind="idempotency_error",
            )
        return JSONResponse(answer, status, {"idempotent-replayed": "true"})

    def _expanded(self, answer: Object, paths: list[str]) -> Object:
        """A copy of an object or a list with the objects that some of its ids stand for."""
        if answer["object"] == "list":
            inner = [path.removeprefix("data.") for path in paths]
            return answer | {"data": [self._expanded(item, inner) for item in answer["data"]]}
        answer = shown(answer)
        for path in paths:
            node = answer
            for name in path.split("."):
                if isinstance(node.get(name), str):
                    node[name] = shown(self._account.objects[node[name]])
                if not isinstance(node.get(name), dict):
                    break
                node = node[name]
        return answer

    # Reading.

    def _find(self, kind: str, item_id: str, param: str = "id") -> Object:
        item = self._account.objects.get(item_id)
        if item is None or item["object"] != kind:
            raise missing(kind, item_id, param)
        return item

    def _list(self, path: str, kind: str, params: Object) -> Object:
        filters = dict(params)
        limit, after = _whole(filters.pop("limit", 10), "limit"), filters.pop("starting_after", None)
        if not 0 < limit <= MOST:
            raise ApiError(f"Invalid integer: {limit}", code="parameter_invalid_integer", param="limit")
        since = int(filters.pop("created", {}).get("gte", 0))
        found = [
            item
            for item in self._account.all(kind)
            if item["created"] >= since
            and not item.get("deleted")
            and all(self._matches(item, name, value) for name, value in filters.items())
        ]
        if after:
            ids = [item["id"] for item in found]
            if after not in ids:
                raise missing(kind, after, "starting_after")
            found = found[ids.index(after) + 1 :]
        return {"object": "list", "url": f"/v1/{path}", "has_more": len(found) > limit, "data": found[:limit]}

    def _matches(self, item: Object, name: str, value: Any) -> bool:
        if name == "status" and value == "all":
            return True
        if name == "payment":
            return bool(item["payment"]["payment_intent"] == value["payment_intent"])
        if name == "subscription" and item["object"] == "invoice":
            return bool(self._account.subscription_of(item)["id"] == value)
        if name == "lookup_keys":
            return bool(item["lookup_key"] in value)
        if name == "delivery_success":
            return bool((item["id"] in self._account.delivered) == (value == "true"))
        return str(item.get(name)).lower() == str(value).lower()

    def _items(self, call: Call) -> Object:
        subscription = self._find("subscription", _required(call, "subscription")["subscription"], "subscription")
        items = subscription["items"]["data"]
        return {"object": "list", "url": "/v1/subscription_items", "has_more": False, "data": items}

    def _lines(self, call: Call) -> Object:
        lines = self._find("invoice", call.id)["lines"]["data"]
        return {"object": "list", "url": f"/v1/invoices/{call.id}/lines", "has_more": False, "data": lines}

    # Writing.

    def _update(self, kind: str) -> Handler:
        def update(call: Call) -> Object:
            item = self._find(kind, call.id)
            if item.get("deleted"):
                raise missing(kind, call.id)
            item |= {name: BOOLEANS.get(str(value), value) for name, value in call.params.items()}
            self._account.tell(f"{kind}.updated", item)
            return item

        return update

    def _create_customer(self, call: Call) -> Object:
        return self._account.customer(**call.params)

    def _delete_customer(self, call: Call) -> Object:
        customer = self._find("customer", call.id)
        self._account.delete_customer(customer)
        return customer

    def _create_product(self, call: Call) -> Object:
        if call.params.get("id") in self._account.objects:
            raise ApiError("Product already exists.", code="resource_already_exists", param="id")
        return self._account.product(**_required(call, "name"))

    def _update_product(self, call: Call) -> Object:
        default = call.params.get("default_price")
        if default:
            price = self._find("price", default, "default_price")
            if price["product"] != call.id:
                raise ApiError(f"The price {default} does not belong to the product.", param="default_price")
            if not price["active"]:
                raise _inactive(price, "default_price")
        elif default is not None:
            call.params["default_price"] = None  # an empty one unsets it
        return self._update("product")(call)

    def _update_price(self, call: Call) -> Object:
        price = self._find("price", call.id)
        is_default = self._account.objects[price["product"]]["default_price"] == price["id"]
        if is_default and call.params.get("active") == "false":
            raise ApiError("This price cannot be archived because it is the default price of its product.")
        return self._update("price")(call)

    def _create_price(self, call: Call) -> Object:
        params = _required(call, "product", "currency", "unit_amount")
        self._find("product", params["product"], "product")
        lookup_key = params.get("lookup_key")
        for other in self._account.all("price", lookup_key=lookup_key) if lookup_key else []:
            if params.get("transfer_lookup_key") != "true":
                raise ApiError(f"A price (`{other['id']}`) already uses that lookup key.", param="lookup_key")
            other["lookup_key"] = None
        return self._account.price(
            _whole(params["unit_amount"], "unit_amount"),
            product=params["product"],
            recurring="recurring" in params,
            currency=params["currency"],
            lookup_key=lookup_key,
            metadata=params.get("metadata", {}),
        )

    def _create_session(self, call: Call) -> Object:
        params = _required(call, "mode", "customer", "line_items", "success_url")
        customer = self._account.objects.get(params["customer"])
        if customer is None or customer.get("deleted"):
            raise missing("customer", params["customer"], "customer")
        price = self._find("price", params["line_items"][0]["price"], "line_items[0][price]")
        if not (price["active"] and self._account.objects[price["product"]]["active"]):
            raise _inactive(price, "line_items[0][price]")
        if (params["mode"] == "subscription") != bool(price["recurring"]):
            raise ApiError(f"The price {price['id']} does not go with `{params['mode']}` mode.", param="mode")
        rest = {name: value for name, value in params.items() if name != "customer"}
        return self._account.session(customer["id"], price, **rest)

    def _expire_session(self, call: Call) -> Object:
        if self._find("checkout.session", call.id)["status"] != "open":
            raise ApiError('Only Checkout Sessions with a status in ["open"] can be expired.')
        return self._account.expire(call.id)

    def _create_portal(self, call: Call) -> Object:
        params = _required(call, "customer")
        customer = self._account.objects.get(params["customer"])
        if customer is None or customer.get("deleted"):
            raise missing("customer", params["customer"], "customer")
        portal = self._account.new("billing_portal.session", **{"return_url": None} | params)
        portal["url"] = f"{self._account.url}/portal/{portal['id']}"
        return portal

    def _update_subscription(self, call: Call) -> Object:
        subscription = self._running(call.id)
        if _required(call, "cancel_at_period_end")["cancel_at_period_end"] == "true":
            self._account.cancel(subscription, at_period_end=True)
        else:
            self._account.keep(subscription)
        return subscription

    def _cancel_subscription(self, call: Call) -> Object:
        subscription = self._running(call.id)
        self._account.cancel(subscription)
        return subscription

    def _running(self, subscription_id: str) -> Object:
        subscription = self._find("subscription", subscription_id)
        if subscription["status"] in ENDED:
            raise missing("subscription", subscription_id)
        return subscription

    def _pay_invoice(self, call: Call) -> Object:
        invoice = self._find("invoice", call.id)
        if invoice["status"] != "open":
            raise ApiError(f"Invoice is already {invoice['status']}", code="invoice_not_open")
        works = invoice["customer"] not in self._account.declined
        self._account.collect(invoice, paid=works)
        if not works:
            raise ApiError("Your card was declined.", kind="card_error", code="card_declined", status=402)
        return invoice

    def _create_refund(self, call: Call) -> Object:
        intent = self._find("payment_intent", _required(call, "payment_intent")["payment_intent"], "payment_intent")
        charge = self._account.objects.get(intent["latest_charge"] or "")
        if charge is None:
            raise ApiError(f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.")
        left = charge["amount"] - charge["amount_refunded"]
        if not left:
            raise ApiError(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
        amount = _whole(call.params.get("amount", left), "amount")
        if not 0 < amount <= left:
            raise ApiError(
                f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", param="amount"
            )
        return self._account.refund(intent["id"], amount)

    def _close_dispute(self, call: Call) -> Object:
        dispute = self._find("dispute", call.id)
        if dispute["status"] in ("won", "lost"):
            raise ApiError("This dispute is already closed")
        self._account.close_dispute(dispute, "lost")
        return dispute


def _inactive(price: Object, param: str) -> ApiError:
    message = f"The price specified is inactive: {price['id']}. This field only accepts active prices."
    return ApiError(message, param=param)


def _required(call: Call, *names: str) -> Object:
    """The parameters of a call, among them these."""
    for name in names:
        if not call.params.get(name):
            raise ApiError(f"Missing required param: {name}.", code="parameter_missing", param=name)
    return call.params


def _whole(value: Any, param: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise ApiError(f"Invalid integer: {value}", code="parameter_invalid_integer", param=param) from error


def nested(pairs: list[tuple[str, str]]) -> Object:
    """Form fields such as line_items[0][price] as nested objects. Raises ApiError for names that contradict."""
    root: Object = {}
    for name, value in pairs:
        first, *rest = name.replace("]", "").split("[")
        keys, node = [first, *rest], root
        for key in keys[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ApiError("Invalid object", param=name)
        # Clients write a plain list as expand[]=a&expand[]=b.
        node[keys[-1] or str(len(node))] = value
    return {name: _lists(value) for name, value in root.items()}


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _lists(item) for key, item in value.items()}
    return list(inner.values()) if inner and all(key.isdigit() for key in inner) else inner
