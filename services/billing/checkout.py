"""Payment pages and the portal, which Stripe hosts."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import stripe
import structlog
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.billing.database import Database
from services.billing.facts import Object
from services.billing.once import create_once
from services.billing.reader import Reader
from services.billing.settings import BillingSettings
from services.http import WrongRequestError
from services.project import RefusedError

log = structlog.get_logger(__name__)

T = TypeVar("T")


class CheckoutRequest(BaseModel):
    """What to buy: a plan by name, a package by id, or either by the id of its price."""

    model_config = ConfigDict(extra="forbid", str_max_length=2000)

    plan: str | None = Field(default=None, max_length=200, pattern="^[^\\x00]*$")
    package: str | None = Field(default=None, pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
    price_id: str | None = Field(default=None, pattern="^[A-Za-z0-9_]{1,255}$")
    success_url: str | None = None
    cancel_url: str | None = None

    @model_validator(mode="after")
    def _one_product(self) -> "CheckoutRequest":
        if sum(value is not None for value in (self.plan, self.package, self.price_id)) != 1:
            raise ValueError("name one of plan, package and price_id")
        return self


class PortalRequest(BaseModel):
    """Where the portal's way back leads."""

    model_config = ConfigDict(extra="forbid", str_max_length=2000)

    return_url: str | None = None


class Shop:
    """Makes payment pages and portals for users. Methods raise WrongRequestError, RefusedError, stripe.StripeError."""

    def __init__(self, settings: BillingSettings, database: Database, client: stripe.StripeClient) -> None:
        self._settings = settings
        self._database = database
        self._api = client.v1
        self._reader = Reader(client)

    async def checkout(self, user_id: str, request: CheckoutRequest) -> str:
        """The address of a payment page."""
        success, cancel = self._way_back(request.success_url), self._way_back(request.cancel_url)
        price_id = await self._price_id(request)
        for other in await self._open_plan_orders(user_id):
            page = other["stripe_checkout_session_id"]
            if page and other["stripe_price_id"] != price_id and await self._is_plan(price_id):
                await self._close(page)
        order = await self._database.place_order(user_id, price_id)
        if order["stripe_checkout_session_id"]:
            return await self._same_page(order["stripe_checkout_session_id"])
        session = await self._session(user_id, order, success, cancel)
        try:
            await self._database.attach_session(order["id"], session.id)
        except RefusedError:
            # Another plan was chosen meanwhile: this page must not be paid as well.
            await self._close(session.id)
            raise
        log.info("checkout_started", user_id=user_id, order_id=order["id"], session_id=session.id)
        return str(session.url)

    async def portal(self, user_id: str, request: PortalRequest) -> str:
        """The address of the page where a customer changes his plan, his card and his invoices."""
        url = self._way_back(request.return_url)

        async def make(customer: str) -> str:
            return (await self._api.billing_portal.sessions.create_async({"customer": customer, "return_url": url})).url

        return await self._with_customer(user_id, make)

    def _way_back(self, url: str | None) -> str:
        """A return address, if it leads to one of the configured origins."""
        if url is None:
            return f"{self._settings.origins[0]}/"
        try:
            parts = urlsplit(url)
        except ValueError:  # half an IPv6 address, or characters that browsers read as / or @
            parts = urlsplit("")
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._settings.origins or "\\" in url:
            raise WrongRequestError(400, "The return address is not allowed", "Use one of the app's own pages.")
        return url

    async def _price_id(self, request: CheckoutRequest) -> str:
        if request.price_id:
            return request.price_id
        if request.plan:
            rows = await self._database.rows("subscription_plans", "stripe_price_id", name=request.plan)
        else:
            rows = await self._database.rows("pay_as_you_go_packages", "stripe_price_id", id=request.package)
        if not rows or not rows[0]["stripe_price_id"]:
            raise WrongRequestError(404, "This is not for sale", "Read the plans and packages again.")
        return str(rows[0]["stripe_price_id"])

    async def _open_plan_orders(self, user_id: str) -> list[Object]:
        orders = await self._database.rows("billing_orders", user_id=user_id, status="pending")
        return [order for order in orders if order["subscription_plan_id"]]

    async def _is_plan(self, price_id: str) -> bool:
        return bool(await self._database.rows("subscription_plans", "id", stripe_price_id=price_id))

    async def _with_customer(self, user_id: str, make: Callable[[str], Awaitable[T]]) -> T:
        """Make something for the customer of an account; for a new one where the old one was deleted at Stripe."""
        try:
            return await make(await self._customer(user_id))
        except stripe.InvalidRequestError as error:
            if error.code != "resource_missing" or not await self._forget_deleted_customer(user_id):
                raise
        return await make(await self._customer(user_id))

    async def _customer(self, user_id: str) -> str:
        # In this order: an account that gets its first customer in between shows it in its profile.
        known = {row["id"]: row["email"] for row in await self._database.rows("stripe_customers", user_id=user_id)}
        profile = await self._profile(user_id)
        email = None if profile["email"].endswith(".invalid") else profile["email"]
        customer = profile["stripe_customer_id"]
        if customer:
            # Receipts must not go to an address that the account has given up.
            if email is not None and known.get(customer) != email:
                await self._api.customers.update_async(customer, {"email": email})
                await self._database.link_customer(user_id, customer, email)
            return str(customer)
        # Asked for twice at once, the same key gives the same customer; after a deleted one, another key another.
        params: Any = {"metadata": {"user_id": user_id}} | ({"email": email} if email is not None else {})
        made = await create_once(self._api.customers.create_async, f"customer:{user_id}:{len(known)}", params)
        return await self._database.link_customer(user_id, made.id, email)

    async def _profile(self, user_id: str) -> Object:
        rows = await self._database.rows("profiles", "stripe_customer_id,email", id=user_id)
        if not rows:
            raise WrongRequestError(404, "The account does not exist any more", "Sign up again.")
        return rows[0]

    async def _forget_deleted_customer(self, user_id: str) -> bool:
        """Do now what the event of a deleted customer would have done; whether he is deleted."""
        customer = (await self._profile(user_id))["stripe_customer_id"]
        if not customer:
            return True
        ticket, _ = await self._database.start_read()
        told = await self._reader.customer(customer)
        await self._database.reconcile(told, ticket, apply=True)
        return all(fact["is_deleted"] for fact in told)

    async def _session(self, user_id: str, order: Object, success: str, cancel: str) -> Any:
        params: Any = {
            "mode": "subscription" if order["subscription_plan_id"] else "payment",
            "client_reference_id": order["id"],
            "line_items": [{"price": order["stripe_price_id"], "quantity": 1}],
            "metadata": {"order_id": order["id"], "user_id": user_id},
            "success_url": success,
            "cancel_url": cancel,
        }
        if order["subscription_plan_id"]:
            params["subscription_data"] = _subscription_data(user_id, order)

        async def make(customer: str) -> Any:
            whole: Any = params | {"customer": customer}
            return await create_once(self._api.checkout.sessions.create_async, f"checkout:{order['id']}", whole)

        return await self._with_customer(user_id, make)

    async def _same_page(self, session_id: str) -> str:
        """The payment page of a plan that was asked for again."""
        session = await self._api.checkout.sessions.retrieve_async(session_id)
        if session.status == "open" and session.url:
            return session.url
        await self._settle(session.id)
        if _is_under_way(session):
            raise _under_way()
        raise WrongRequestError(409, "The payment page was used or has expired", "Reload, and try again in a moment.")

    async def _close(self, session_id: str) -> None:
        """Make sure that a payment page cannot be paid. Raises WrongRequestError where it was."""
        try:
            await self._api.checkout.sessions.expire_async(session_id)
        except stripe.InvalidRequestError as error:
            session = await self._api.checkout.sessions.retrieve_async(session_id)
            if session.status == "complete":
                await self._settle(session_id)
                if _is_under_way(session):
                    raise _under_way() from error
                raise WrongRequestError(
                    409, "A subscription has just been paid for", "Reload, and change it in the portal."
                ) from error
            if session.status == "open":
                raise

    async def _settle(self, session_id: str) -> None:
        """Do now what the page's own event will do."""
        ticket, _ = await self._database.start_read()
        await self._database.reconcile(await self._reader.checkout(session_id), ticket, apply=True)


def _subscription_data(user_id: str, order: Object) -> Object:
    # Amounts of parts of a period before discounts, as those of whole ones: otherwise a discount would let a change to
    # a smaller plan take fewer credits than the larger one brought.
    data: Object = {
        "metadata": {"user_id": user_id, "order_id": order["id"]},
        "billing_mode": {"type": "flexible", "flexible": {"proration_discounts": "itemized"}},
    }
    if order["trial_days"]:
        data["trial_period_days"] = order["trial_days"]
    return data


def _is_under_way(session: Any) -> bool:
    """Whether the money of a page that was used may take days to come."""
    return bool(session.status == "complete" and session.payment_status == "unpaid")


def _under_way() -> WrongRequestError:
    return WrongRequestError(
        409, "The payment of a subscription is under way", "It begins when the money has come, which may take days."
    )
