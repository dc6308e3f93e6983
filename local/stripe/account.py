"""What customers, banks and time do to the objects of a Stripe account, each with the events that Stripe would send.

Objects have the shapes documented for the pinned version of the API. Nothing happens by itself: time passes for a
customer when a period of his subscription is said to be over.
"""

from typing import Any

from local.stripe.store import Object, Store

DAY = 24 * 3600
MONTH = 30 * DAY
ENDED = ("canceled", "incomplete_expired")
RETRY_DAYS = (3, 5, 7)  # after a failed attempt to collect an invoice; then the subscription ends


class Account(Store):
    """One account; `url` is where its pages are."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.declined: set[str] = set()  # customers whose card is declined
        self._ahead: dict[str, int] = {}  # seconds that simulated periods have taken, by customer

    def time_of(self, customer: str) -> int:
        """What time it is for a customer."""
        return self.now() + self._ahead.get(customer, 0)

    # What is for sale, and to whom.

    def customer(self, **fields: Any) -> Object:
        """Somebody who can pay."""
        return self.new(
            "customer", **{"balance": 0, "delinquent": False, "email": None, "metadata": {}, "name": None} | fields
        )

    def delete_customer(self, customer: Object) -> None:
        """The customer is deleted, and his subscriptions end at once."""
        for subscription in self.all("subscription", customer=customer["id"]):
            if subscription["status"] not in ENDED:
                self.cancel(subscription)
        self.tell("customer.deleted", customer)
        customer["deleted"] = True

    def price(self, amount: int, *, product: str | None = None, recurring: bool = False, **fields: Any) -> Object:
        """A price of a product, of a new one where none is named; `amount` in cents."""
        return self.new(
            "price",
            **{
                "active": True,
                "billing_scheme": "per_unit",
                "currency": "usd",
                "lookup_key": None,
                "metadata": {},
                "product": product or self.product("Something")["id"],
                "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}
                if recurring
                else None,
                "type": "recurring" if recurring else "one_time",
                "unit_amount": amount,
                "unit_amount_decimal": str(amount),
            }
            | fields,
        )

    def product(self, name: str, **fields: Any) -> Object:
        """Something to put a price on. One that is made in the dashboard has a `default_price`."""
        return self.new("product", **{"active": True, "default_price": None, "metadata": {}, "name": name} | fields)

    # Payment pages.

    def session(self, customer: str, price: Object, **fields: Any) -> Object:
        """A payment page for one piece of a price."""
        session = self.new(
            "checkout.session",
            **{
                "amount_subtotal": price["unit_amount"],
                "amount_total": price["unit_amount"],
                "cancel_url": None,
                "client_reference_id": None,
                "currency": price["currency"],
                "customer": customer,
                "invoice": None,
                "line_items": [{"price": price["id"], "quantity": 1}],
                "metadata": {},
                "mode": "subscription" if price["recurring"] else "payment",
                "payment_intent": None,
                "payment_status": "unpaid",
                "status": "open",
                "subscription": None,
                "subscription_data": {},
                "success_url": None,
            }
            | fields,
        )
        session["expires_at"] = session["created"] + DAY
        session["url"] = f"{self.url}/pay/{session['id']}"
        return session

    def pay(self, session_id: str, *, delayed: bool = False) -> Object:
        """The customer pays at the payment page; with a delayed method the money comes, or not, with `settle`."""
        session = self.objects[session_id]
        session |= {"status": "complete", "url": None}
        if session["mode"] == "subscription":
            return self._begin_subscription(session, delayed=delayed)
        intent = self._intent(session["customer"], session["amount_total"], session["currency"])
        if delayed:
            intent["status"] = "processing"
        else:
            self._charge(intent)
        session |= {"payment_intent": intent["id"], "payment_status": "unpaid" if delayed else "paid"}
        self.tell("checkout.session.completed", session)
        return session

    def settle(self, session_id: str, *, paid: bool) -> None:
        """The money of a delayed payment comes, or does not."""
        session = self.objects[session_id]
        if session["mode"] == "subscription":
            (invoice,) = self.invoices(self.objects[session["subscription"]])
            self.collect(invoice, paid=paid)
        elif paid:
            self._charge(self.objects[session["payment_intent"]])
        else:
            self.objects[session["payment_intent"]]["status"] = "requires_payment_method"
        session["payment_status"] = "paid" if paid else "unpaid"
        self.tell(f"checkout.session.async_payment_{'succeeded' if paid else 'failed'}", session)

    def expire(self, session_id: str) -> Object:
        """A payment page is closed."""
        session = self.objects[session_id]
        session |= {"status": "expired", "url": None}
        self.tell("checkout.session.expired", session)
        return session

    # Payments, and money that goes back.

    def _intent(self, customer: str, amount: int, currency: str) -> Object:
        return self.new(
            "payment_intent",
            amount=amount,
            amount_received=0,
            currency=currency,
            customer=customer,
            latest_charge=None,
            metadata={},
            payment_method_types=["card"],
            status="requires_payment_method",
        )

    def _charge(self, intent: Object) -> None:
        charge = self.new(
            "charge",
            amount=intent["amount"],
            amount_refunded=0,
            currency=intent["currency"],
            customer=intent["customer"],
            disputed=False,
            paid=True,
            payment_intent=intent["id"],
            refunded=False,
            status="succeeded",
        )
        charge["receipt_url"] = f"{self.url}/receipts/{charge['id']}"
        intent |= {"status": "succeeded", "amount_received": intent["amount"], "latest_charge": charge["id"]}

    def refund(self, intent_id: str, amount: int, status: str = "succeeded") -> Object:
        """Money goes back to the customer."""
        intent = self.objects[intent_id]
        charge = self.objects[intent["latest_charge"]]
        item = self.new(
            "refund",
            amount=amount,
            charge=charge["id"],
            currency=intent["currency"],
            metadata={},
            payment_intent=intent_id,
            reason=None,
            status=status,
        )
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] >= charge["amount"]
        self.tell("refund.created", item)
        self.tell("charge.refunded", charge)
        return item

    def update_refund(self, refund: Object, status: str) -> None:
        """A refund that was under way arrives, or fails."""
        refund["status"] = status
        self.tell("refund.updated", refund)
        self.tell("charge.refund.updated", refund)
        if status == "failed":
            charge = self.objects[refund["charge"]]
            charge |= {"amount_refunded": charge["amount_refunded"] - refund["amount"], "refunded": False}
            self.tell("refund.failed", refund)

    def dispute(self, intent_id: str, amount: int, status: str = "needs_response") -> Object:
        """The customer's bank takes the money back until the dispute is closed; an inquiry takes none."""
        intent = self.objects[intent_id]
        self.objects[intent["latest_charge"]]["disputed"] = True
        item = self.new(
            "dispute",
            amount=amount,
            charge=intent["latest_charge"],
            currency=intent["currency"],
            metadata={},
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

    def _begin_subscription(self, session: Object, *, delayed: bool) -> Object:
        data, (line,) = session["subscription_data"], session["line_items"]
        trial_days = int(data.get("trial_period_days", 0))
        subscription = self._subscription(
            session["customer"], self.objects[line["price"]], trial_days, data, delayed=delayed
        )
        session["payment_status"] = "no_payment_required" if trial_days else "unpaid" if delayed else "paid"
        session["subscription"] = subscription["id"]
        session["invoice"] = self.invoices(subscription)[0]["id"]
        self.tell("checkout.session.completed", session)
        return subscription

    def _subscription(self, customer: str, price: Object, trial_days: int, data: Object, *, delayed: bool) -> Object:
        now = self.time_of(customer)
        end = now + (trial_days * DAY or MONTH)
        item = self._item(price, now, end)
        subscription = self.new(
            "subscription",
            billing_mode=data.get("billing_mode", {"type": "classic"}),
            cancel_at=None,
            cancel_at_period_end=False,
            canceled_at=None,
            collection_method="charge_automatically",
            currency=price["currency"],
            customer=customer,
            ended_at=None,
            items={"object": "list", "data": [item], "has_more": False},
            metadata=data.get("metadata", {}),
            pause_collection=None,
            start_date=now,
            status="trialing" if trial_days else "incomplete" if delayed else "active",
            trial_end=end if trial_days else None,
        )
        self.tell("customer.subscription.created", subscription)
        line = self._line(item, 0 if trial_days else price["unit_amount"])
        invoice = self._invoice(subscription, "subscription_create", [line])
        if delayed and not trial_days:
            payment = self._invoice_payment(invoice)
            self.objects[payment["payment"]["payment_intent"]]["status"] = "processing"
        else:
            self._pay_invoice(invoice)
        return subscription

    def _item(self, price: Object, start: int, end: int) -> Object:
        return {
            "id": self.new_id("subscription_item"),
            "object": "subscription_item",
            "current_period_end": end,
            "current_period_start": start,
            "price": price,
            "quantity": 1,
        }

    def add_item(self, subscription: Object, price: Object, place: int = 0) -> None:
        """Something else is sold with a subscription, from its next period on: before the others, or at a place."""
        items = subscription["items"]["data"]
        items.insert(place, self._item(price, items[0]["current_period_start"], items[0]["current_period_end"]))
        self.tell("customer.subscription.updated", subscription)

    def move(self, subscription: Object, price: Object, place: int = 0) -> None:
        """An item gets another price from its next period on, as a person does it in the dashboard."""
        subscription["items"]["data"][place]["price"] = price
        self.tell("customer.subscription.updated", subscription)

    def _next_period(self, subscription: Object, seconds: int) -> list[Object]:
        items: list[Object] = subscription["items"]["data"]
        for item in items:
            item["current_period_start"] = item["current_period_end"]
            item["current_period_end"] += seconds
        return items

    def renew(self, subscription: Object, *, paid: bool = True) -> Object:
        """The next period begins, or the trial is over; its payment works or fails. Returns the invoice."""
        customer = subscription["customer"]
        items = self._next_period(subscription, MONTH)
        self._ahead[customer] = max(self._ahead.get(customer, 0), items[0]["current_period_start"] - self.now())
        lines = [self._line(item, item["price"]["unit_amount"]) for item in items]
        invoice = self._invoice(subscription, "subscription_cycle", lines)
        if paid:
            subscription["status"] = "active"
        self.collect(invoice, paid=paid)
        if paid:
            self.tell("customer.subscription.updated", subscription)
        return invoice

    def pass_period(self, subscription: Object) -> None:
        """The current period is over: the next one begins, paid if the customer's card works, or the end has come.

        One whose first payment failed is given up.
        """
        if subscription["status"] == "incomplete":
            self.give_up(subscription)
        elif subscription["cancel_at_period_end"]:
            self.cancel(subscription)
        else:
            self.renew(subscription, paid=subscription["customer"] not in self.declined)

    def extend_trial(self, subscription: Object, days: int) -> Object:
        """The trial goes on for longer; Stripe makes an invoice for that too. Returns it."""
        items = self._next_period(subscription, days * DAY)
        subscription["trial_end"] = items[0]["current_period_end"]
        self.tell("customer.subscription.updated", subscription)
        invoice = self._invoice(subscription, "subscription_update", [self._line(item, 0) for item in items])
        self._pay_invoice(invoice)
        return invoice

    def set_status(self, subscription: Object, status: str) -> None:
        """Stripe gives up, pauses or resumes."""
        subscription["status"] = status
        kind = {"paused": "paused", "canceled": "deleted"}.get(status, "updated")
        self.tell(f"customer.subscription.{kind}", subscription)

    def cancel(self, subscription: Object, *, at_period_end: bool = False) -> None:
        """The customer cancels, or Stripe has given up."""
        if subscription["status"] == "incomplete":
            self.give_up(subscription)
            return
        now = self.time_of(subscription["customer"])
        subscription["canceled_at"] = subscription["canceled_at"] or now
        if at_period_end:
            subscription["cancel_at_period_end"] = True
            self.tell("customer.subscription.updated", subscription)
        else:
            subscription["ended_at"] = now
            self.set_status(subscription, "canceled")

    def give_up(self, subscription: Object) -> None:
        """The first payment did not come in time."""
        for invoice in self.invoices(subscription):
            invoice |= {"status": "void", "next_payment_attempt": None}
            self.tell("invoice.voided", invoice)
        subscription["ended_at"] = self.time_of(subscription["customer"])
        self.set_status(subscription, "incomplete_expired")

    def keep(self, subscription: Object) -> None:
        """The customer has thought better of it before the end came."""
        subscription |= {"cancel_at_period_end": False, "canceled_at": None}
        self.tell("customer.subscription.updated", subscription)

    def change(self, subscription: Object, price: Object, share: float | None = None, place: int = 0) -> Object:
        """An item gets another price when `share` of the period is left, invoiced at once. Returns the invoice."""
        item = subscription["items"]["data"][place]
        old, start, end = item["price"], item["current_period_start"], item["current_period_end"]
        if share is None:
            share = min(max((end - self.time_of(subscription["customer"])) / (end - start), 0), 1)
        lines = [
            self._line(item, -round(old["unit_amount"] * share), price=old, proration=True),
            self._line(item, round(price["unit_amount"] * share), price=price, proration=True),
        ]
        item["price"] = price
        self.tell("customer.subscription.updated", subscription)
        invoice = self._invoice(subscription, "subscription_update", lines)
        self._pay_invoice(invoice)
        return invoice

    # Invoices.

    def _line(self, item: Object, amount: int, *, price: Object | None = None, proration: bool = False) -> Object:
        price = price or item["price"]
        return {
            "id": self.new_id("line_item"),
            "object": "line_item",
            "amount": amount,
            "currency": price["currency"],
            "parent": {
                "type": "subscription_item_details",
                "subscription_item_details": {"proration": proration, "subscription_item": item["id"]},
            },
            "period": {"start": item["current_period_start"], "end": item["current_period_end"]},
            "pricing": {
                "type": "price_details",
                "price_details": {"price": price["id"], "product": price["product"]},
                "unit_amount_decimal": str(abs(amount)),
            },
            "quantity": 1,
        }

    def _invoice(self, subscription: Object, reason: str, lines: list[Object]) -> Object:
        total = sum(line["amount"] for line in lines)
        invoice = self.new(
            "invoice",
            amount_due=max(total, 0),
            amount_paid=0,
            amount_remaining=max(total, 0),
            attempt_count=0,
            attempted=False,
            auto_advance=True,
            billing_reason=reason,
            collection_method="charge_automatically",
            currency=subscription["currency"],
            customer=subscription["customer"],
            lines={"object": "list", "data": lines, "has_more": False},
            next_payment_attempt=None,
            parent={
                "type": "subscription_details",
                "subscription_details": {"subscription": subscription["id"], "metadata": subscription["metadata"]},
            },
            status="open",
            status_transitions={"finalized_at": self.time_of(subscription["customer"]), "paid_at": None},
            total=total,
        )
        invoice["hosted_invoice_url"] = f"{self.url}/invoices/{invoice['id']}"
        return invoice

    def collect(self, invoice: Object, *, paid: bool = True) -> None:
        """A try to get the money of an open invoice, the first one or another."""
        invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
        if paid:
            self._pay_invoice(invoice)
        else:
            self._fail_invoice(invoice)

    def _pay_invoice(self, invoice: Object) -> None:
        if invoice["amount_due"]:
            payment = self._invoice_payment(invoice)
            self._charge(self.objects[payment["payment"]["payment_intent"]])
            payment |= {"status": "paid", "amount_paid": invoice["amount_due"]}
        self._mark_paid(invoice)

    def _mark_paid(self, invoice: Object) -> None:
        invoice |= {
            "status": "paid",
            "amount_paid": invoice["amount_due"],
            "amount_remaining": 0,
            "next_payment_attempt": None,
        }
        invoice["status_transitions"]["paid_at"] = self.time_of(invoice["customer"])
        self.tell("invoice.paid", invoice)
        self.tell("invoice.payment_succeeded", invoice)
        subscription = self.subscription_of(invoice)
        if subscription["status"] in ("past_due", "unpaid", "incomplete"):
            self.set_status(subscription, "active")

    def _fail_invoice(self, invoice: Object) -> None:
        payment = self._invoice_payment(invoice)
        self.objects[payment["payment"]["payment_intent"]]["status"] = "requires_payment_method"
        subscription = self.subscription_of(invoice)
        if subscription["status"] == "incomplete":
            self.tell("invoice.payment_failed", invoice)
            return
        attempt, goes_on = invoice["attempt_count"], invoice["attempt_count"] <= len(RETRY_DAYS)
        if goes_on:
            invoice["next_payment_attempt"] = self.time_of(invoice["customer"]) + RETRY_DAYS[attempt - 1] * DAY
        else:
            invoice["next_payment_attempt"] = None
        subscription["status"] = "past_due"
        self.tell("invoice.payment_failed", invoice)
        if goes_on:
            self.tell("customer.subscription.updated", subscription)
        else:
            self.cancel(subscription)

    def _invoice_payment(self, invoice: Object) -> Object:
        """The open payment of an invoice, which the next attempt uses again."""
        for payment in self.all("invoice_payment", invoice=invoice["id"], status="open"):
            return payment
        intent = self._intent(invoice["customer"], invoice["amount_due"], invoice["currency"])
        return self.new(
            "invoice_payment",
            amount_paid=None,
            amount_requested=invoice["amount_due"],
            currency=invoice["currency"],
            invoice=invoice["id"],
            is_default=True,
            payment={"type": "payment_intent", "payment_intent": intent["id"]},
            status="open",
        )

    def pay_in_parts(self, invoice: Object, *amounts: int) -> list[str]:
        """Several payments, all of an open invoice together. Returns the payment intents."""
        intents = []
        for amount in amounts:
            intent = self._intent(invoice["customer"], amount, invoice["currency"])
            self._charge(intent)
            self.new(
                "invoice_payment",
                amount_paid=amount,
                amount_requested=amount,
                currency=invoice["currency"],
                invoice=invoice["id"],
                is_default=False,
                payment={"type": "payment_intent", "payment_intent": intent["id"]},
                status="paid",
            )
            intents.append(str(intent["id"]))
        self._mark_paid(invoice)
        return intents

    def payment_of(self, invoice: Object) -> str:
        """The payment intent that paid an invoice."""
        (payment,) = self.all("invoice_payment", invoice=invoice["id"], status="paid")
        return str(payment["payment"]["payment_intent"])

    def subscription_of(self, invoice: Object) -> Object:
        """The subscription that an invoice is for."""
        return self.objects[invoice["parent"]["subscription_details"]["subscription"]]

    def invoices(self, subscription: Object) -> list[Object]:
        """The invoices of a subscription, the oldest first."""
        found = self.all("invoice", customer=subscription["customer"])
        return [item for item in reversed(found) if self.subscription_of(item) is subscription]
