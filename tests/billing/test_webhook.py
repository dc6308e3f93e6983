"""Events as Stripe sends them, one after the other: what each does to credits and subscriptions."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from local.stripe import WEBHOOK_SECRET, Object, signature, signed
from tests.billing.service_process import ServiceProcess
from tests.billing.shop import Buyer, Shop
from tests.billing.stripe_double import StripeDouble
from tests.database.personas import Connection

Deliver = Callable[[Buyer], list[str]]


@pytest.fixture
def deliver(service: ServiceProcess, stripe: StripeDouble) -> Deliver:
    """Delivers what is new of a buyer's events, in their order; the answers' statuses."""

    def deliver(buyer: Buyer) -> list[str]:
        statuses = []
        for event in stripe.account.events(buyer.customer):
            if event["id"] not in stripe.account.delivered:
                answer = service.deliver(event)
                assert answer.status_code == 200, (event["type"], answer.text, service.log.read_text()[-3000:])
                stripe.account.delivered.add(event["id"])
                statuses.append(answer.json()["status"])
        return statuses

    return deliver


def credits(shop: Shop, buyer: Buyer) -> int:
    return shop.people.balance(buyer.person)


def profile(shop: Shop, buyer: Buyer) -> tuple[str, str, bool]:
    held = shop.holdings(buyer)
    return held["subscription_status"], held["subscription_plan"], not held["has_none"]


def event_row(db: Connection, event: Object) -> Any:
    return db.execute("select * from public.stripe_events where id = %s", (event["id"],)).fetchone()


# Packs.


def test_a_pack_is_granted_when_it_is_paid_with_its_money(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    intent = shop.buy(buyer)
    assert deliver(buyer) == ["processed"]
    (grant,) = [row for row in shop.holdings(buyer)["grants"] if row["source"] == "purchase"]
    assert (grant["amount"], grant["money_amount"], grant["currency"]) == (10, Decimal("7.99"), "USD")
    assert shop.people.ledger(buyer.person)[-1]["stripe_payment_intent_id"] == intent
    assert shop.holdings(buyer)["orders"] == [{"status": "paid", "credits": 10}]


def test_a_pack_keeps_what_it_promised_when_it_was_ordered(shop: Shop, deliver: Deliver, db: Connection) -> None:
    buyer = shop.buyer()
    session = shop.order(buyer, shop.pack)
    change = "update public.pay_as_you_go_packages set credits = %s where stripe_price_id = %s"
    db.execute(change, (1, shop.pack["id"]))
    try:
        shop.account.pay(session)
        deliver(buyer)
    finally:
        db.execute(change, (10, shop.pack["id"]))
    assert credits(shop, buyer) == 12


def test_a_delayed_payment_brings_credits_when_the_money_is_there(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    session = shop.order(buyer, shop.pack)
    shop.account.pay(session, delayed=True)
    deliver(buyer)
    assert credits(shop, buyer) == 2
    shop.account.settle(session, paid=True)
    deliver(buyer)
    assert credits(shop, buyer) == 12


def test_a_delayed_payment_that_fails_closes_the_order(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    session = shop.order(buyer, shop.pack)
    shop.account.pay(session, delayed=True)
    shop.account.settle(session, paid=False)
    deliver(buyer)
    assert credits(shop, buyer) == 2
    assert shop.holdings(buyer)["orders"] == [{"status": "failed", "credits": 10}]


def test_a_payment_page_that_expires_closes_the_order(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    shop.account.expire(shop.order(buyer, shop.pack))
    deliver(buyer)
    assert shop.holdings(buyer)["orders"] == [{"status": "expired", "credits": 10}]


def test_a_session_of_another_customer_does_not_pay_an_order(shop: Shop, service: ServiceProcess) -> None:
    buyer, other = shop.buyer(), shop.buyer()
    session = shop.order(buyer, shop.pack)
    shop.account.objects[session]["customer"] = other.customer
    shop.account.pay(session)
    (event,) = shop.account.events(other.customer)
    assert service.deliver(event).status_code == 500
    assert (credits(shop, buyer), credits(shop, other)) == (2, 2)


# Refunds and disputes.


def test_refunds_in_parts_take_exactly_what_one_refund_takes(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    intent = shop.buy(buyer)
    for cents in (100, 266, 133, 300):
        shop.account.refund(intent, cents)
        deliver(buyer)
    taken = [row["amount"] for row in shop.holdings(buyer)["clawbacks"]]
    assert (sum(taken), credits(shop, buyer)) == (10, 2)
    assert taken == [1, 4, 1, 4], "1.00 of 7.99 is 1.25 credits, 3.66 are 4.58, 4.99 are 6.25"


def test_a_refund_of_spent_credits_is_a_debt_that_the_next_pack_pays(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer(credits=0)
    intent = shop.buy(buyer)
    deliver(buyer)
    shop.people.service.call("deduct_user_credits", p_user_id=buyer.person.id, p_amount=7, p_transaction_type="usage")
    shop.account.refund(intent, 799)
    deliver(buyer)
    assert (credits(shop, buyer), shop.holdings(buyer)["credit_debt"]) == (0, 7)
    shop.buy(buyer)
    deliver(buyer)
    assert (credits(shop, buyer), shop.holdings(buyer)["credit_debt"]) == (3, 0)


def test_a_refund_counts_when_it_succeeds_and_comes_back_when_it_fails(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    refund = shop.account.refund(shop.buy(buyer), 799, status="pending")
    deliver(buyer)
    assert credits(shop, buyer) == 12
    shop.account.update_refund(refund, "succeeded")
    deliver(buyer)
    assert credits(shop, buyer) == 2
    shop.account.update_refund(refund, "failed")
    deliver(buyer)
    assert credits(shop, buyer) == 12


def told(shop: Shop, buyer: Buyer, *types: str) -> list[Object]:
    """A buyer's events of these types, in the order of the types."""
    found = {event["type"]: event for event in shop.account.events(buyer.customer)}
    return [found[name] for name in types]


@pytest.mark.parametrize(
    "types",
    [
        ("charge.refunded",),
        ("charge.refunded", "charge.refunded"),
        ("charge.refunded", "refund.created"),
        ("refund.created", "charge.refunded"),
        ("charge.refunded", "checkout.session.completed"),
    ],
)
def test_a_refund_counts_once_by_whichever_event_it_is_heard_of(
    shop: Shop, service: ServiceProcess, types: tuple[str, ...]
) -> None:
    buyer = shop.buyer()
    shop.account.refund(shop.buy(buyer), 400)
    for event in told(shop, buyer, *types):
        assert service.deliver(event).json() == {"status": "processed"}
    assert credits(shop, buyer) == 7
    assert [row["amount"] for row in shop.holdings(buyer)["clawbacks"]] == [5]


def test_older_endpoints_hear_of_refunds_and_of_their_failures_by_charges_alone(
    shop: Shop, service: ServiceProcess
) -> None:
    buyer = shop.buyer()
    intent = shop.buy(buyer)
    first, second = shop.account.refund(intent, 266), shop.account.refund(intent, 533)
    charges = [event for event in shop.account.events(buyer.customer) if event["type"] == "charge.refunded"]
    for event in reversed(charges):
        assert service.deliver(event).status_code == 200
    assert credits(shop, buyer) == 2
    shop.account.update_refund(second, "failed")
    (failed,) = told(shop, buyer, "charge.refund.updated")
    assert failed["data"]["object"]["id"] != first["id"]
    for event in (failed, *charges):
        assert service.deliver(event).status_code == 200
    assert credits(shop, buyer) == 9, "3 of the 10 stay away with the first"


@pytest.mark.parametrize(("end", "left"), [("won", 12), ("lost", 2)])
def test_a_dispute_takes_the_credits_until_it_is_won(shop: Shop, deliver: Deliver, end: str, left: int) -> None:
    buyer = shop.buyer()
    dispute = shop.account.dispute(shop.buy(buyer), 799)
    deliver(buyer)
    assert credits(shop, buyer) == 2
    shop.account.close_dispute(dispute, end)
    deliver(buyer)
    assert credits(shop, buyer) == left


def test_an_inquiry_takes_nothing(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    inquiry = shop.account.dispute(shop.buy(buyer), 799, status="warning_needs_response")
    shop.account.close_dispute(inquiry, "warning_closed")
    deliver(buyer)
    assert credits(shop, buyer) == 12


def test_a_refund_that_is_heard_before_its_purchase_brings_the_purchase_along(
    shop: Shop, service: ServiceProcess
) -> None:
    buyer = shop.buyer()
    shop.account.refund(shop.buy(buyer), 400)
    bought, refunded, *_ = shop.account.events(buyer.customer)
    assert service.deliver(refunded).json() == {"status": "processed"}
    assert credits(shop, buyer) == 7
    assert service.deliver(bought).json() == {"status": "processed"}
    assert credits(shop, buyer) == 7


# Subscriptions.


def test_a_subscription_grants_its_credits_and_the_profile_follows(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    deliver(buyer)
    assert credits(shop, buyer) == 22
    assert profile(shop, buyer) == ("basic", "basic", True)
    (grant,) = buyer.person.sql("select * from public.credit_grants where source = 'subscription'")
    end = subscription["items"]["data"][0]["current_period_end"]
    assert timedelta(days=27) < grant["expires_at"] - grant["created_at"] - timedelta(days=30) < timedelta(days=32)
    assert (grant["money_amount"], grant["currency"]) == (Decimal("9.99"), "USD")
    (row,) = buyer.person.sql("select * from public.subscription_history")
    assert (row["status"], row["current_period_end"].timestamp()) == ("active", end)


def test_each_renewal_grants_once_and_a_failed_payment_nothing(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    shop.account.renew(subscription)
    deliver(buyer)
    assert credits(shop, buyer) == 42
    invoice = shop.account.renew(subscription, paid=False)
    deliver(buyer)
    assert credits(shop, buyer) == 42
    assert profile(shop, buyer) == ("basic", "basic", True), "access stays while Stripe tries to collect"
    assert shop.holdings(buyer)["history"][0]["status"] == "past_due"
    shop.account.collect(invoice)
    deliver(buyer)
    assert credits(shop, buyer) == 62


@pytest.mark.parametrize("status", ["unpaid", "paused"])
def test_an_unpaid_or_paused_subscription_gives_no_access_and_comes_back(
    shop: Shop, deliver: Deliver, status: str
) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    shop.account.set_status(subscription, status)
    deliver(buyer)
    assert profile(shop, buyer) == ("cancelled", "free", True)
    assert credits(shop, buyer) == 22, "what is paid for stays"
    shop.account.set_status(subscription, "active")
    deliver(buyer)
    assert profile(shop, buyer) == ("basic", "basic", True)


def test_collection_that_is_paused_counts_as_paused(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    subscription["pause_collection"] = {"behavior": "void", "resumes_at": None}
    shop.account.set_status(subscription, "active")
    deliver(buyer)
    assert profile(shop, buyer) == ("cancelled", "free", True)


def test_a_cancelled_subscription_runs_to_the_end_of_its_period(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    shop.account.cancel(subscription, at_period_end=True)
    deliver(buyer)
    assert profile(shop, buyer) == ("basic", "basic", True)
    (row,) = buyer.person.sql("select * from public.subscription_history")
    assert row["cancel_at"] == row["current_period_end"]
    assert row["cancelled_at"] is not None
    shop.account.cancel(subscription)
    deliver(buyer)
    assert profile(shop, buyer) == ("cancelled", "free", False)
    assert credits(shop, buyer) == 22


def test_a_trial_grants_the_plan_s_trial_credits_until_it_ends(shop: Shop, deliver: Deliver, db: Connection) -> None:
    db.execute("update public.subscription_plans set trial_credits = 3 where name = 'basic'")
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer, trial_period_days="7")
    deliver(buyer)
    db.execute("update public.subscription_plans set trial_credits = 0 where name = 'basic'")
    (grant,) = buyer.person.sql("select * from public.credit_grants where source = 'subscription'")
    assert (grant["amount"], grant["money_amount"]) == (3, Decimal(0))
    assert grant["expires_at"].timestamp() == subscription["trial_end"]
    assert profile(shop, buyer) == ("basic", "basic", True)
    assert buyer.person.sql("select total_credits_purchased from public.profiles")[0]["total_credits_purchased"] == 0
    shop.account.renew(subscription)
    deliver(buyer)
    assert credits(shop, buyer) == 25


def test_an_upgrade_grants_the_difference_for_the_rest_of_the_period(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    shop.account.change(subscription, shop.prices["starter"], 0.5)
    deliver(buyer)
    assert credits(shop, buyer) == 22 + 20, "half of 60 minus half of 20"
    assert profile(shop, buyer) == ("starter", "starter", True)


def test_a_downgrade_takes_the_difference_back(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer, "starter")
    shop.account.change(subscription, shop.prices["basic"], 0.5)
    deliver(buyer)
    assert credits(shop, buyer) == 62 - 21, "cents are rounded, and a broken credit goes to the house"


def test_up_and_down_again_wins_nothing(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer(credits=0)
    subscription = shop.subscribe(buyer, "starter")
    deliver(buyer)
    shop.people.service.call("deduct_user_credits", p_user_id=buyer.person.id, p_amount=60, p_transaction_type="usage")
    for plan in ("basic", "starter") * 3:
        shop.account.change(subscription, shop.prices[plan], 1.0)
        deliver(buyer)
    held = shop.holdings(buyer)
    assert held["credits_remaining"] - held["credit_debt"] <= 0


def test_a_refund_of_an_invoice_takes_its_period_s_credits(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    shop.account.renew(subscription)
    deliver(buyer)
    shop.account.refund(shop.account.payment_of(shop.account.invoices(subscription)[0]), 999)
    deliver(buyer)
    assert credits(shop, buyer) == 22


def test_a_refund_of_any_payment_of_an_invoice_takes_credits(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    invoice = shop.account.renew(subscription, paid=False)
    deliver(buyer)
    first, second = shop.account.pay_in_parts(invoice, 400, 599)
    deliver(buyer)
    assert credits(shop, buyer) == 42
    shop.account.refund(second, 599)
    deliver(buyer)
    assert credits(shop, buyer) == 42 - 12, "5.99 of 9.99"
    shop.account.refund(first, 400)
    deliver(buyer)
    assert credits(shop, buyer) == 22


def test_a_trial_that_is_extended_brings_its_credits_once(shop: Shop, deliver: Deliver, db: Connection) -> None:
    db.execute("update public.subscription_plans set trial_credits = 3 where name = 'basic'")
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer, trial_period_days="7")
    until = subscription["trial_end"]
    shop.account.extend_trial(subscription, 7)
    *_, paid = [event for event in shop.account.events(buyer.customer) if event["type"] == "invoice.paid"]
    shop.account.delivered |= {event["id"] for event in shop.account.events(buyer.customer)} - {paid["id"]}
    deliver(buyer)
    shop.account.delivered.clear()
    deliver(buyer)
    db.execute("update public.subscription_plans set trial_credits = 0 where name = 'basic'")
    (grant,) = buyer.person.sql("select * from public.credit_grants where source = 'subscription'")
    assert (grant["amount"], grant["expires_at"].timestamp()) == (3, until)


def invoice_row(buyer: Buyer, invoice: Object) -> Any:
    (row,) = buyer.person.sql("select * from public.billing_invoices where id = %s", invoice["id"])
    return row


def test_each_failed_attempt_is_seen_with_when_the_next_one_is(shop: Shop, deliver: Deliver, db: Connection) -> None:
    buyer = shop.buyer()
    invoice = shop.account.renew(shop.subscribe(buyer), paid=False)
    for attempt in (1, 2):
        deliver(buyer)
        row = invoice_row(buyer, invoice)
        assert (row["status"], row["failed_attempt"], row["amount_due"]) == ("open", attempt, Decimal("9.99"))
        assert row["next_attempt_at"].timestamp() == invoice["next_payment_attempt"]
        assert row["hosted_url"] == invoice["hosted_invoice_url"]
        shop.account.collect(invoice, paid=False)
    shop.account.collect(invoice)
    deliver(buyer)
    row = invoice_row(buyer, invoice)
    assert (row["status"], row["next_attempt_at"], row["amount_paid"]) == ("paid", None, Decimal("9.99"))
    assert row["paid_at"].timestamp() == invoice["status_transitions"]["paid_at"]
    mails = db.execute(
        "select l.dedupe_key from public.email_logs as l where l.user_id = %s and l.dedupe_key like 'payment_failed:%%'"
        " order by 1",
        (buyer.id,),
    ).fetchall()
    assert [row["dedupe_key"] for row in mails] == [f"payment_failed:{invoice['id']}"], "once for an invoice"


def test_a_payment_that_is_under_way_has_not_failed(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    invoice = shop.account.renew(shop.subscribe(buyer), paid=False)
    (payment,) = shop.account.all("invoice_payment", invoice=invoice["id"])
    shop.account.objects[payment["payment"]["payment_intent"]]["status"] = "processing"
    deliver(buyer)
    assert (invoice_row(buyer, invoice)["attempts"], invoice_row(buyer, invoice)["failed_attempt"]) == (1, None)


def test_a_pack_has_a_receipt(shop: Shop, deliver: Deliver) -> None:
    buyer = shop.buyer()
    shop.buy(buyer)
    deliver(buyer)
    (row,) = buyer.person.sql("select * from public.billing_orders")
    assert (row["amount"], row["currency"]) == (Decimal("7.99"), "USD")
    assert row["receipt_url"].startswith(f"{shop.account.url}/receipts/ch_")


def test_a_deleted_customer_is_forgotten_but_his_last_events_still_count(
    shop: Shop, service: ServiceProcess, stripe: StripeDouble, deliver: Deliver
) -> None:
    buyer = shop.buyer()
    shop.subscribe(buyer)
    deliver(buyer)
    stripe.account.delete_customer(stripe.account.objects[buyer.customer])
    deliver(buyer)
    assert profile(shop, buyer) == ("cancelled", "free", False)
    assert buyer.person.sql("select stripe_customer_id from public.profiles") == [{"stripe_customer_id": None}]


# Every delivery.


def test_the_same_event_ten_times_counts_once(shop: Shop, service: ServiceProcess, db: Connection) -> None:
    buyer = shop.buyer()
    shop.buy(buyer)
    (event,) = shop.account.events(buyer.customer)
    assert {service.deliver(event).status_code for _ in range(10)} == {200}
    assert credits(shop, buyer) == 12
    assert event_row(db, event)["attempts"] == 1


def test_an_event_that_nothing_depends_on_is_recorded_as_ignored(
    shop: Shop, service: ServiceProcess, stripe: StripeDouble, db: Connection
) -> None:
    buyer = shop.buyer()
    stripe.account.tell("customer.tax_id.created", {"id": "txi_1", "object": "tax_id", "customer": buyer.customer})
    (event,) = stripe.account.events(buyer.customer)
    assert service.deliver(event).json() == {"status": "ignored"}
    row = event_row(db, event)
    assert (row["status"], row["payload"]) == (
        "ignored",
        {"object": "tax_id", "object_id": "txi_1", "customer": buyer.customer},
    )


def test_a_customer_of_nobody_is_ignored(shop: Shop, service: ServiceProcess, stripe: StripeDouble) -> None:
    stranger = stripe.account.customer()["id"]
    session = stripe.account.session(stranger, shop.prices["basic"])
    stripe.account.pay(session["id"])
    answers = [service.deliver(event).json()["status"] for event in stripe.account.events(stranger)]
    assert set(answers) == {"ignored"}


def test_money_at_a_price_that_no_plan_has_brings_credits_when_one_has_it(
    shop: Shop, service: ServiceProcess, stripe: StripeDouble, db: Connection
) -> None:
    buyer = shop.buyer()
    session = shop.order(buyer, shop.prices["basic"])
    unknown = stripe.account.price(999, recurring=True)
    stripe.account.objects[session]["line_items"] = [{"price": unknown["id"]}]
    stripe.account.pay(session)
    (paid,) = [event for event in stripe.account.events(buyer.customer) if event["type"] == "invoice.paid"]
    for attempt in (1, 2):
        assert service.deliver(paid).status_code == 200, "Stripe switches endpoints off that fail for long"
        row = event_row(db, paid)
        assert (row["status"], row["attempts"]) == ("processed", attempt), "its subscription is the order's"
    assert unknown["id"] in row["error"]
    assert credits(shop, buyer) == 2

    db.execute(
        "update public.subscription_plans set stripe_product_id = %s where name = 'basic'", (unknown["product"],)
    )
    try:
        assert service.deliver(paid).json() == {"status": "processed"}
    finally:
        db.execute(
            "update public.subscription_plans set stripe_product_id = %s where name = 'basic'",
            (shop.prices["basic"]["product"],),
        )
    row = event_row(db, paid)
    assert (credits(shop, buyer), row["status"], row["attempts"], row["error"]) == (22, "processed", 3, None)


def test_while_stripe_is_down_events_fail_and_count_when_they_come_again(
    shop: Shop, service: ServiceProcess, stripe: StripeDouble, db: Connection
) -> None:
    buyer = shop.buyer()
    shop.buy(buyer)
    (event,) = shop.account.events(buyer.customer)
    stripe.faults["checkout/sessions"] = 500
    assert service.deliver(event).status_code == 503
    assert event_row(db, event)["status"] == "failed"
    stripe.faults.clear()
    assert service.deliver(event).status_code == 200
    assert credits(shop, buyer) == 12


def test_a_price_that_is_retired_at_stripe_is_not_offered_any_more(
    shop: Shop, service: ServiceProcess, stripe: StripeDouble, db: Connection
) -> None:
    plan = f"plan {uuid.uuid4()}"
    price = stripe.account.price(100, recurring=True)
    db.execute("insert into public.subscription_plans (name, stripe_price_id) values (%s, %s)", (plan, price["id"]))
    price["active"] = False
    stripe.account.tell("price.updated", price)
    assert service.deliver(stripe.account.events()[-1]).status_code == 200
    found = db.execute("delete from public.subscription_plans where name = %s returning stripe_price_id", (plan,))
    assert found.fetchall() == [{"stripe_price_id": None}]


def test_what_is_archived_at_stripe_is_not_offered_any_more_and_a_name_stays_ours(
    service: ServiceProcess, stripe: StripeDouble, db: Connection
) -> None:
    plan = f"plan {uuid.uuid4()}"
    price = stripe.account.price(100, recurring=True)
    product = stripe.account.objects[price["product"]]
    db.execute(
        "insert into public.subscription_plans (name, stripe_price_id, stripe_product_id) values (%s, %s, %s)",
        (plan, price["id"], product["id"]),
    )
    for change, offered in (({"name": "Renamed"}, price["id"]), ({"active": False}, None)):
        product |= change
        stripe.account.tell("product.updated", product)
        assert service.deliver(stripe.account.events()[-1]).json() == {"status": "processed"}
        found = db.execute("select name, stripe_price_id from public.subscription_plans where name = %s", (plan,))
        assert found.fetchall() == [{"name": plan, "stripe_price_id": offered}]
    db.execute("delete from public.subscription_plans where name = %s", (plan,))


def test_what_a_customer_enters_at_stripe_stays_there(shop: Shop, stripe: StripeDouble, deliver: Deliver) -> None:
    buyer = shop.buyer()
    customer = stripe.account.objects[buyer.customer] | {"email": "accounts@example.test"}
    stripe.account.tell("customer.updated", customer)
    assert deliver(buyer) == ["ignored"]
    assert buyer.person.sql("select email from public.profiles") == [{"email": buyer.person.email}]


# Bodies that are not events.


def refused(service: ServiceProcess, db: Connection, body: bytes, header: str, status: int = 400) -> None:
    before = db.execute("select count(*) as n from public.stripe_events").fetchall()
    answer = service.post(body, header)
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]
    assert db.execute("select count(*) as n from public.stripe_events").fetchall() == before


@pytest.fixture
def purchase(shop: Shop) -> Object:
    buyer = shop.buyer()
    shop.buy(buyer)
    return shop.account.events(buyer.customer)[0]


def test_a_forged_body_is_refused(service: ServiceProcess, db: Connection, purchase: Object) -> None:
    body, header = signed(purchase, WEBHOOK_SECRET)
    refused(service, db, body, signature(body, "whsec_wrong"))
    refused(service, db, body.replace(b"paid", b"paix"), header)
    refused(service, db, body, "")
    refused(service, db, body, "t=1,v1=")
    assert "whsec" not in service.log.read_text()


def test_a_stale_body_is_refused_and_so_a_replayed_one(
    service: ServiceProcess, db: Connection, purchase: Object
) -> None:
    body, _ = signed(purchase, WEBHOOK_SECRET)
    refused(service, db, body, signature(body, WEBHOOK_SECRET, at=1_700_000_000))


def test_a_body_under_the_older_secret_is_accepted_while_it_is_rolled(
    service: ServiceProcess, purchase: Object
) -> None:
    assert service.deliver(purchase, secret="whsec_older").status_code == 200


def test_an_oversized_body_is_refused(service: ServiceProcess, db: Connection, purchase: Object) -> None:
    body, header = signed(purchase | {"padding": "x" * 1024 * 1024}, WEBHOOK_SECRET)
    refused(service, db, body, header, 413)


@pytest.mark.parametrize(
    "change",
    [
        *({"livemode": True}, {"account": "acct_other"}, {"data": {}}),
        *({"id": ""}, {"id": "x" * 300}, {"id": "evt_\0"}, {"id": "evt_\ud800"}),
        *({"type": None}, {"type": "invoice.paid\ud800"}, {"type": "invoice.paid\n"}),
    ],
    ids=ascii,
)
def test_an_event_of_another_mode_or_account_or_shape_is_refused(
    service: ServiceProcess, db: Connection, purchase: Object, change: Object
) -> None:
    refused(service, db, *signed(purchase | change, WEBHOOK_SECRET))


DEEP = [b'{"data": {"object": ' + b'{"a": ' * depth + b"1" + b"}" * (depth + 2) for depth in (150, 400, 980, 100_000)]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'"x"', b"{", b"\xff\xfe", b"{}", b'{"object": "event"}', *DEEP], ids=range(12)
)
def test_a_signed_body_that_is_no_event_is_refused(service: ServiceProcess, db: Connection, body: bytes) -> None:
    refused(service, db, body, signature(body, WEBHOOK_SECRET))
    assert "Traceback" not in service.log.read_text()


def test_figures_are_counted_under_few_names(service: ServiceProcess) -> None:
    for event_type in ("ping", "made.up.by.somebody", "invoice.paid_by_somebody"):
        data = {"object": {"id": "in_none"}}
        service.deliver({"id": f"evt_{uuid.uuid4().hex}", "type": event_type, "livemode": False, "data": data})
    figures = service.http.get("/metrics").text
    assert 'dtf_billing_events_total{outcome="ignored",subject="other"}' in figures
    assert 'subject="invoice.paid"' in figures
    assert "somebody" not in figures


def test_whoever_asks_for_its_health_leaves_no_trace(service: ServiceProcess, db: Connection) -> None:
    tickets = "select last_value, is_called from private.stripe_read_tickets"
    before = db.execute(tickets).fetchall()
    assert service.http.get("/healthz").json() == {"status": "ok"}
    assert db.execute(tickets).fetchall() == before
