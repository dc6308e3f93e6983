"""What nobody can ask Stripe for: that time passes, that a bank decides, that a customer's card stops working.

`POST /simulate/…` with a form, as curl sends it; each answers with the object as it is then. A browser goes back.
"""

from collections.abc import Callable
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from local.stripe.account import ENDED, Account
from local.stripe.api import ApiError, missing
from local.stripe.store import Object, shown

Act = Callable[[Object, dict[str, str]], Object]


class Simulation:
    """The endpoints."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.routes = [
            self._route("subscriptions/{id}/renew", "subscription", self._renew),
            self._route("customers/{id}/card", "customer", self._card),
            self._route("checkout/sessions/{id}/settle", "checkout.session", self._settle),
            self._route("payment_intents/{id}/refund", "payment_intent", self._refund),
            self._route("payment_intents/{id}/dispute", "payment_intent", self._dispute),
            self._route("disputes/{id}/close", "dispute", self._close),
            self._route("refunds/{id}/fail", "refund", self._fail),
        ]

    def _route(self, path: str, kind: str, act: Act) -> Route:
        async def endpoint(request: Request) -> Response:
            fields = dict(parse_qsl((await request.body()).decode()))
            try:
                item = self._account.objects.get(request.path_params["id"])
                if item is None or item["object"] != kind:
                    raise missing(kind, request.path_params["id"])
                answer = act(item, fields)
            except ApiError as error:
                return error.answer()
            if "text/html" in request.headers.get("accept", ""):
                return RedirectResponse("/", 303)
            return JSONResponse(shown(answer))

        return Route(f"/simulate/{path}", endpoint, methods=["POST"])

    def _renew(self, subscription: Object, _: dict[str, str]) -> Object:
        """The period is over."""
        if self._has_ended(subscription["id"]):
            raise ApiError("The subscription has ended.")
        self._account.pass_period(subscription)
        return subscription

    def _card(self, customer: Object, fields: dict[str, str]) -> Object:
        """`works`: whether the customer's card pays from now on."""
        if _choice(fields, "works", "true", "false") == "true":
            self._account.declined.discard(customer["id"])
        else:
            self._account.declined.add(customer["id"])
        return customer

    def _settle(self, session: Object, fields: dict[str, str]) -> Object:
        """`paid`: whether the money of a delayed payment comes."""
        is_waiting = (session["status"], session["payment_status"]) == ("complete", "unpaid")
        if not is_waiting or (session["subscription"] and self._has_ended(session["subscription"])):
            raise ApiError("The session waits for no money.")
        self._account.settle(session["id"], paid=_choice(fields, "paid", "true", "false") == "true")
        return session

    def _refund(self, intent: Object, _: dict[str, str]) -> Object:
        """All that is left of a payment goes back. In parts: POST /v1/refunds."""
        charge = self._charge(intent)
        if charge["refunded"]:
            raise ApiError("The payment has been refunded already.")
        return self._account.refund(intent["id"], charge["amount"] - charge["amount_refunded"])

    def _dispute(self, intent: Object, _: dict[str, str]) -> Object:
        """The customer's bank takes back all that is left of a payment."""
        charge = self._charge(intent)
        if charge["disputed"] or charge["refunded"]:
            raise ApiError("The payment was refunded, or has a dispute.")
        return self._account.dispute(intent["id"], charge["amount"] - charge["amount_refunded"])

    def _close(self, dispute: Object, fields: dict[str, str]) -> Object:
        """`status`: won or lost."""
        if dispute["status"] in ("won", "lost"):
            raise ApiError("This dispute is already closed")
        self._account.close_dispute(dispute, _choice(fields, "status", "won", "lost"))
        return dispute

    def _fail(self, refund: Object, _: dict[str, str]) -> Object:
        """The customer's bank sends a refund back."""
        if refund["status"] != "succeeded":
            raise ApiError("The refund has not succeeded.")
        self._account.update_refund(refund, "failed")
        return refund

    def _has_ended(self, subscription_id: str) -> bool:
        return self._account.objects[subscription_id]["status"] in ENDED

    def _charge(self, intent: Object) -> Object:
        charge = self._account.objects.get(intent["latest_charge"] or "")
        if charge is None:
            raise ApiError("The payment has no money to give back.")
        return charge


def _choice(fields: dict[str, str], name: str, *choices: str) -> str:
    if fields.get(name) not in choices:
        raise ApiError(f"{name} must be one of: {', '.join(choices)}", param=name)
    return fields[name]
