"""Reads from Stripe what an event is about.

Events come late, twice and out of order, and say how an object was. So only their type and the object's id are used:
the object is read again, with whatever its effect rests on. A refund's facts, for example, begin with the purchase
that it is a refund of, which need not have been heard of yet.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import stripe

from services.billing import facts
from services.billing.facts import Fact, Object
from services.billing.money import to_units
from services.billing.settings import StripeSettings

API_VERSION = "2026-10-28.endive"
TIMEOUT = 20.0  # seconds; Stripe waits about as long for the webhook's answer
RETRIES = 2
PAGE = 100


def connect(settings: StripeSettings) -> stripe.StripeClient:
    """Make the client of Stripe. Sends nothing yet."""
    return stripe.StripeClient(
        settings.stripe_secret_key.get_secret_value(),
        stripe_version=API_VERSION,
        base_addresses={"api": settings.stripe_api_url} if settings.stripe_api_url else {},
        http_client=stripe.HTTPXClient(timeout=TIMEOUT),
        max_network_retries=RETRIES,
    )


class Reader:
    """Facts from Stripe, by event or by object."""

    def __init__(self, client: stripe.StripeClient) -> None:
        self._api = client.v1
        self._unit_amounts: dict[str, Decimal] = {}  # the amount of a price never changes
        self._readers: dict[str, Callable[[Object], Awaitable[list[Fact]]]] = {
            "checkout.session.": self._of_checkout,
            "invoice.paid": self._of_invoice,
            "invoice.payment_": self._of_invoice,  # succeeded, failed, action_required
            "invoice.marked_uncollectible": self._of_invoice,
            "invoice.voided": self._of_invoice,
            "customer.subscription.": self._of_subscription,
            "refund.": self._of_return,
            "charge.refund.updated": self._of_return,
            "charge.dispute.": self._of_return,
            "customer.deleted": self._of_customer,
            "price.updated": self._of_price,
            "price.deleted": self._of_price,
        }

    def concerns(self, event_type: str) -> bool:
        """Whether anything depends on events of this type."""
        return event_type.startswith(tuple(self._readers))

    async def facts_of(self, event_type: str, item: Object) -> list[Fact]:
        """What to tell the database after an event of this type about `item`.

        Raises stripe.StripeError, and KeyError, TypeError or ValueError for an object of an unknown shape.
        """
        for prefix, read in self._readers.items():
            if event_type.startswith(prefix):
                facts.identifier(item["id"])
                return await read(item)
        return []

    async def checkout(self, session_id: str) -> list[Fact]:
        """A payment page, and the subscription that it began: a paid page without it would let a second one begin."""
        params: Any = {"expand": ["payment_intent"]}
        session = (await self._api.checkout.sessions.retrieve_async(session_id, params)).to_dict()
        subscription_id = facts.identifier(session.get("subscription"))
        return [facts.checkout(session), *(await self.subscription(subscription_id) if subscription_id else [])]

    async def subscription(self, subscription_id: str) -> list[Fact]:
        """A subscription."""
        return [facts.subscription((await self._api.subscriptions.retrieve_async(subscription_id)).to_dict())]

    async def invoice(self, invoice_id: str) -> list[Fact]:
        """An invoice of a subscription, if it is paid; nothing otherwise.

        One that takes credits back is told after the earlier ones, whose credits it takes.
        """
        item = (await self._api.invoices.retrieve_async(invoice_id)).to_dict()
        subscription_id = facts.subscription_of(item)
        if item["status"] != "paid" or subscription_id is None:
            return []
        told = await self._invoice_fact(item)
        if not any(line["is_proration"] and line["amount"].startswith("-") for line in told["lines"]):
            return [told]
        params: Any = {"subscription": subscription_id, "status": "paid", "limit": PAGE}
        earlier = [
            await self._invoice_fact(other)
            async for other in every(await self._api.invoices.list_async(params))
            if other["id"] != invoice_id and other["created"] <= item["created"]
        ]
        return [*sorted(earlier, key=lambda fact: (fact["created"], fact["id"])), told]

    async def payment(self, intent_id: str) -> list[Fact]:
        """A payment: what it bought, and what of it was refunded or disputed."""
        intent = (await self._api.payment_intents.retrieve_async(intent_id)).to_dict()
        by_intent: Any = {"payment_intent": intent_id, "limit": PAGE}
        refunds = [item async for item in every(await self._api.refunds.list_async(by_intent))]
        disputes = [item async for item in every(await self._api.disputes.list_async(by_intent))]
        return [*await self._purchase(intent_id), *facts.returns(intent, refunds, disputes)]

    async def _purchase(self, intent_id: str) -> list[Fact]:
        sessions = await self._api.checkout.sessions.list_async({"payment_intent": intent_id})
        for session in sessions.data:
            return await self.checkout(session.id)
        params: Any = {"payment": {"type": "payment_intent", "payment_intent": intent_id}}
        payments = await self._api.invoice_payments.list_async(params)
        for payment in payments.data:
            return await self.invoice(str(facts.identifier(payment.to_dict()["invoice"])))
        return []

    async def _invoice_fact(self, item: Object) -> Fact:
        lines: list[Object] = item["lines"]["data"]
        if item["lines"].get("has_more"):
            page = await self._api.invoices.line_items.list_async(item["id"], {"limit": PAGE})
            lines = [line async for line in every(page)]
        for line in lines:
            price, _ = facts.price_of(line)
            if price and facts.is_proration(line):
                await self._remember_unit_amount(price)
        return facts.invoice(item, lines, await self._payment_of(item), self._unit_amounts.__getitem__)

    async def _payment_of(self, invoice: Object) -> str | None:
        """The payment intent that paid an invoice; none where a coupon or a balance did."""
        if "payment_intent" in invoice:
            return facts.identifier(invoice["payment_intent"])
        params: Any = {"invoice": invoice["id"], "status": "paid"}
        payments = await self._api.invoice_payments.list_async(params)
        found = [facts.identifier(item.to_dict()["payment"].get("payment_intent")) for item in payments.data]
        return next(filter(None, found), None)

    async def _remember_unit_amount(self, price_id: str) -> None:
        if price_id not in self._unit_amounts:
            price = await self._api.prices.retrieve_async(price_id)
            self._unit_amounts[price_id] = to_units(price.unit_amount or 0, price.currency)

    async def _of_checkout(self, item: Object) -> list[Fact]:
        return await self.checkout(item["id"])

    async def _of_invoice(self, item: Object) -> list[Fact]:
        """The credits of a paid invoice, and what became of its subscription."""
        subscription_id = facts.subscription_of(item)
        if subscription_id is None:
            return []
        return [*await self.subscription(subscription_id), *await self.invoice(item["id"])]

    async def _of_subscription(self, item: Object) -> list[Fact]:
        return await self.subscription(item["id"])

    async def _of_return(self, item: Object) -> list[Fact]:
        intent_id = facts.identifier(item.get("payment_intent"))
        return await self.payment(intent_id) if intent_id else []

    async def _of_customer(self, item: Object) -> list[Fact]:
        customer = (await self._api.customers.retrieve_async(item["id"])).to_dict()
        return [{"kind": "customer", "id": item["id"], "is_deleted": bool(customer.get("deleted"))}]

    async def _of_price(self, item: Object) -> list[Fact]:
        try:
            is_active = bool((await self._api.prices.retrieve_async(item["id"])).active)
        except stripe.InvalidRequestError as error:
            if error.code != "resource_missing":
                raise
            is_active = False
        return [{"kind": "price", "id": item["id"], "is_active": is_active}]


async def every(page: Any) -> AsyncIterator[Object]:
    """All objects of a list, page after page, as dicts."""
    async for item in page.auto_paging_iter():
        yield item.to_dict()
