"""Reads from Stripe what an event is about.

Events come late, twice and out of order, and say how an object was. So only their type and the object's id are used:
the object is read again, with whatever its effect rests on. A refund's facts, for example, begin with the purchase
that it is a refund of, which need not have been heard of yet.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
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
INVOICED = frozenset({"open", "paid", "uncollectible", "void"})  # what an invoice is after being a draft


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
        self._amounts: dict[tuple[str, str], Decimal] = {}  # by price and its own currency, where it never changes
        self._readers: dict[str, Callable[[Object], Awaitable[Sequence[Fact]]]] = {
            "checkout.session.": self._of_checkout,
            "invoice.paid": self._of_invoice,
            "invoice.payment_": self._of_invoice,  # succeeded, failed, action_required
            "invoice.marked_uncollectible": self._of_invoice,
            "invoice.voided": self._of_invoice,
            "customer.subscription.": self._of_subscription,
            "refund.": self._of_return,
            # Endpoints of versions before 2024-10-28 hear of a card's refund by these two only. What was refunded is
            # read as the refunds that there are, so it counts once, however many events tell it.
            "charge.refunded": self._of_return,
            "charge.refund.updated": self._of_return,
            "charge.dispute.": self._of_return,
            "customer.deleted": self._of_customer,
            "price.updated": self._of_price,
            "price.deleted": self._of_price,
            "product.updated": self._of_product,
            "product.deleted": self._of_product,
        }

    def subject(self, event_type: str) -> str | None:
        """What events of this type are about, one of few words; None where nothing depends on it."""
        return next((prefix.rstrip("._") for prefix in self._readers if event_type.startswith(prefix)), None)

    async def facts_of(self, event_type: str, item: Object) -> Sequence[Fact]:
        """What to tell the database after an event of this type about `item`.

        Raises stripe.StripeError, and KeyError, TypeError or ValueError for an object of an unknown shape.
        """
        for prefix, read in self._readers.items():
            if event_type.startswith(prefix):
                facts.identifier(item["id"])
                return await read(item)
        return []

    async def checkout(self, session_id: str) -> Sequence[Fact]:
        """A payment page, and the subscription that it began: a paid page without it would let a second one begin."""
        params: Any = {"expand": ["payment_intent.latest_charge"]}
        session = (await self._api.checkout.sessions.retrieve_async(session_id, params)).to_dict()
        subscription_id = facts.identifier(session.get("subscription"))
        if subscription_id is None:
            intent = session.get("payment_intent") or {}
            return [facts.checkout(session, None, has_failed=intent.get("status") in facts.PAYMENT_FAILED)]
        (subscription,) = await self.subscription(subscription_id)
        has_failed = subscription["status"] == "incomplete_expired" or (
            subscription["status"] == "incomplete" and await self._has_failed(session)
        )
        return [facts.checkout(session, subscription, has_failed=has_failed), subscription]

    async def subscription(self, subscription_id: str) -> list[facts.Subscription]:
        """A subscription."""
        item = (await self._api.subscriptions.retrieve_async(subscription_id)).to_dict()
        lines: list[Object] = item["items"]["data"]
        if item["items"].get("has_more"):
            params: Any = {"subscription": subscription_id, "limit": PAGE}
            lines = [line async for line in every(await self._api.subscription_items.list_async(params))]
        return [facts.subscription(item, lines)]

    async def customer(self, customer_id: str) -> Sequence[facts.Customer]:
        """Whether a customer is deleted; one that Stripe has never had counts as deleted."""
        item = await find(self._api.customers, customer_id)
        return [{"kind": "customer", "id": customer_id, "is_deleted": item is None or bool(item.get("deleted"))}]

    async def invoice(self, invoice_id: str) -> list[facts.Invoice]:
        """An invoice of a subscription; nothing for a draft, which may still change.

        One that rests on the earlier ones is told after them.
        """
        item = (await self._api.invoices.retrieve_async(invoice_id)).to_dict()
        subscription_id = facts.subscription_of(item)
        if item["status"] not in INVOICED or subscription_id is None:
            return []
        told = await self._invoice_fact(item)
        if told["status"] != "paid" or not _rests_on_earlier(told):
            return [told]
        params: Any = {"subscription": subscription_id, "status": "paid", "limit": PAGE}
        earlier = [
            await self._invoice_fact(other)
            async for other in every(await self._api.invoices.list_async(params))
            if other["id"] != invoice_id and other["created"] <= item["created"]
        ]
        return [*sorted(earlier, key=lambda fact: (fact["created"], fact["id"])), told]

    async def payment(self, intent_id: str) -> Sequence[Fact]:
        """A payment: what it bought, maybe together with others, and what of that was refunded or disputed."""
        purchase, intent_ids, total = await self._purchase(intent_id)
        if not intent_ids:
            return purchase
        intents, refunds, disputes = [], [], []
        for item_id in intent_ids:
            intents.append((await self._api.payment_intents.retrieve_async(item_id)).to_dict())
            by_intent: Any = {"payment_intent": item_id, "limit": PAGE}
            refunds += [item async for item in every(await self._api.refunds.list_async(by_intent))]
            disputes += [item async for item in every(await self._api.disputes.list_async(by_intent))]
        return [*purchase, *facts.returns(intents, refunds, disputes, total)]

    async def _purchase(self, intent_id: str) -> tuple[Sequence[Fact], list[str], Decimal]:
        """What a payment bought, all payments for it, the one that the ledger names first, and what it came to."""
        sessions = await self._api.checkout.sessions.list_async({"payment_intent": intent_id})
        for session in sessions.data:
            return await self.checkout(session.id), [intent_id], Decimal(0)
        params: Any = {"payment": {"type": "payment_intent", "payment_intent": intent_id}}
        for payment in (await self._api.invoice_payments.list_async(params)).data:
            invoice_id = str(facts.identifier(payment.to_dict()["invoice"]))
            told = await self.invoice(invoice_id)
            total = Decimal(told[-1]["total"]) if told else Decimal(0)
            return told, await self._payments(invoice_id, "paid"), total
        return [], [intent_id], Decimal(0)

    async def _invoice_fact(self, item: Object) -> facts.Invoice:
        lines: list[Object] = item["lines"]["data"]
        if item["lines"].get("has_more"):
            page = await self._api.invoices.line_items.list_async(item["id"], {"limit": PAGE})
            lines = [line async for line in every(page)]
        prices = {facts.price_of(line)[0] for line in lines if facts.is_proration(line)}
        unit_amounts = {price: await self._unit_amount(price, item["currency"]) for price in prices if price}
        paid_by = await self._payments_of(item, "paid") if item["status"] == "paid" else []
        return facts.invoice(
            item,
            lines,
            next(iter(paid_by), None),
            unit_amounts.__getitem__,
            has_failed=facts.is_collecting(item) and await self._needs_customer(item),
        )

    async def _needs_customer(self, invoice: Object) -> bool:
        """Whether the payment of an open invoice failed; one by bank debit may also be under way for days."""
        intent_ids = await self._payments_of(invoice, "open")
        return any([await self._status_of(intent_id) in facts.NEEDS_CUSTOMER for intent_id in intent_ids])

    async def _has_failed(self, session: Object) -> bool:
        """Whether the first payment of a subscription that was begun by bank debit failed."""
        intent_ids = await self._payments(str(facts.identifier(session["invoice"])), "open")
        return any([await self._status_of(intent_id) in facts.PAYMENT_FAILED for intent_id in intent_ids])

    async def _status_of(self, intent_id: str) -> str:
        return str((await self._api.payment_intents.retrieve_async(intent_id)).status)

    async def _payments_of(self, invoice: Object, status: str) -> list[str]:
        """The payment intents of an invoice, the oldest first; none where a coupon or a balance paid it."""
        if "payment_intent" in invoice:
            return list(filter(None, [facts.identifier(invoice["payment_intent"])]))
        return await self._payments(invoice["id"], status)

    async def _payments(self, invoice_id: str, status: str) -> list[str]:
        params: Any = {"invoice": invoice_id, "status": status, "limit": PAGE}
        payments = [item async for item in every(await self._api.invoice_payments.list_async(params))]
        payments.sort(key=lambda item: (item["created"], item["id"]))
        return list(filter(None, (facts.identifier(item["payment"].get("payment_intent")) for item in payments)))

    async def _unit_amount(self, price_id: str, currency: str) -> Decimal:
        """The whole amount of a price, in units of a currency. Raises ValueError where it has none in that.

        A price may be offered in further currencies: a part in yen of an amount in dollars would be many times all.
        """
        if (price_id, currency) not in self._amounts:
            price = (await self._api.prices.retrieve_async(price_id)).to_dict()
            if price["currency"] != currency:
                return await self._further_amount(price_id, currency)
            self._amounts[price_id, currency] = _amount_of(price, currency)
        return self._amounts[price_id, currency]

    async def _further_amount(self, price_id: str, currency: str) -> Decimal:
        params: Any = {"expand": ["currency_options"]}
        price = (await self._api.prices.retrieve_async(price_id, params)).to_dict()
        option = (price.get("currency_options") or {}).get(currency)
        if option is None:
            raise ValueError(f"the price {price_id} has no amount in {currency.upper()}")
        return _amount_of(option, currency)

    async def _of_checkout(self, item: Object) -> Sequence[Fact]:
        return await self.checkout(item["id"])

    async def _of_invoice(self, item: Object) -> Sequence[Fact]:
        """The credits of a paid invoice, and what became of its subscription."""
        subscription_id = facts.subscription_of(item)
        if subscription_id is None:
            return []
        # In this order: a subscription that was moved to a price that no plan has is known by what was invoiced before.
        return [*await self.invoice(item["id"]), *await self.subscription(subscription_id)]

    async def _of_subscription(self, item: Object) -> Sequence[Fact]:
        """A subscription; with the payment page that made it where its first payment never came."""
        told = await self.subscription(item["id"])
        if told[0]["status"] == "incomplete_expired":
            for session in (await self._api.checkout.sessions.list_async({"subscription": item["id"]})).data:
                return await self.checkout(session.id)
        return told

    async def _of_return(self, item: Object) -> Sequence[Fact]:
        intent_id = facts.identifier(item.get("payment_intent"))
        return await self.payment(intent_id) if intent_id else []

    async def _of_customer(self, item: Object) -> Sequence[Fact]:
        return await self.customer(item["id"])

    async def _of_price(self, item: Object) -> Sequence[Fact]:
        return [{"kind": "price", "id": item["id"], "is_active": await _is_active(self._api.prices, item["id"])}]

    async def _of_product(self, item: Object) -> Sequence[Fact]:
        return [{"kind": "product", "id": item["id"], "is_active": await _is_active(self._api.products, item["id"])}]


def _amount_of(terms: Object, currency: str) -> Decimal:
    """In units; a price below the smallest one, such as half a cent for each piece, has a decimal amount only."""
    return to_units(Decimal(terms.get("unit_amount_decimal") or terms.get("unit_amount") or 0), currency)


async def _is_active(kind: Any, item_id: str) -> bool:
    """Whether a price or a product can be sold: it is there, and not archived."""
    item = await find(kind, item_id)
    return item is not None and bool(item.get("active"))


def _rests_on_earlier(told: facts.Invoice) -> bool:
    """Whether an invoice takes back what earlier ones brought, or extends the trial that the first one began."""
    return any(
        (line["is_proration"] and line["amount"].startswith("-"))
        or (line["is_trial"] and told["reason"] != "subscription_create")
        for line in told["lines"]
    )


async def find(kind: Any, item_id: str) -> Object | None:
    """An object by its id, such as `client.v1.prices` has, as a dict; None where Stripe has none."""
    try:
        item: Object = (await kind.retrieve_async(item_id)).to_dict()
    except stripe.InvalidRequestError as error:
        if error.code != "resource_missing":
            raise
        return None
    return item


async def every(page: Any) -> AsyncIterator[Object]:
    """All objects of a list, page after page, as dicts."""
    async for item in page.auto_paging_iter():
        yield item.to_dict()
