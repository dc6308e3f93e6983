"""What seldom happens together: returns that overlap, changes after returns, answers that got lost, strange input."""

import asyncio
import base64
import socket

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from local.stack import Stack
from local.stripe import Object
from services.billing.settings import BillingSettings
from services.billing.tokens import Tokens
from tests.billing.service_process import ORIGIN, ServiceProcess
from tests.billing.shop import PACKAGE, Buyer, Shop
from tests.billing.stripe_double import StripeDouble
from tests.billing.test_checkout import Page
from tests.database.personas import Connection, Person


class Post:
    """Delivers events of a buyer, each once, as far as they are chosen."""

    def __init__(self, shop: Shop, service: ServiceProcess) -> None:
        self.shop = shop
        self.service = service

    def deliver(self, buyer: Buyer, *types: str) -> None:
        """Deliver what is new, of the types that begin so where some are named."""
        for event in self.shop.account.events(buyer.customer):
            if event["id"] not in self.shop.account.delivered and event["type"].startswith(types or ("",)):
                answer = self.service.deliver(event)
                assert answer.status_code == 200, (event["type"], answer.text, self.service.log.read_text()[-3000:])
                self.shop.account.delivered.add(event["id"])

    def worth(self, buyer: Buyer) -> int:
        """The credits of a buyer, less his debt."""
        held = self.shop.holdings(buyer)
        return int(held["credits_remaining"] - held["credit_debt"])


@pytest.fixture
def post(shop: Shop, service: ServiceProcess) -> Post:
    return Post(shop, service)


@pytest.fixture
def page(service: ServiceProcess, shop: Shop, local_stack: Stack) -> Page:
    return page_of(service, shop.people.new(), local_stack)


def page_of(service: ServiceProcess, person: Person, stack: Stack) -> Page:
    return Page(service, person, stack.state.jwt_secret)


# Returns of one payment that overlap.


def test_a_refund_still_counts_when_the_dispute_that_covered_it_is_won(shop: Shop, post: Post) -> None:
    buyer = shop.buyer()
    intent = shop.buy(buyer)
    refund = shop.account.refund(intent, 799, status="pending")
    dispute = shop.account.dispute(intent, 799)
    post.deliver(buyer)
    shop.account.update_refund(refund, "succeeded")
    post.deliver(buyer)
    assert post.worth(buyer) == 2
    shop.account.close_dispute(dispute, "won")
    post.deliver(buyer, "charge.dispute.closed")
    assert post.worth(buyer) == 2, "the refund has the money"


def test_a_dispute_takes_the_rest_when_a_refund_beside_it_fails(shop: Shop, post: Post) -> None:
    buyer = shop.buyer()
    intent = shop.buy(buyer)
    refund = shop.account.refund(intent, 400)
    dispute = shop.account.dispute(intent, 799)
    post.deliver(buyer)
    assert post.worth(buyer) == 2
    shop.account.update_refund(refund, "failed")
    post.deliver(buyer)
    assert post.worth(buyer) == 2, "the dispute has all of the money"
    shop.account.close_dispute(dispute, "won")
    post.deliver(buyer)
    assert post.worth(buyer) == 12


@pytest.mark.parametrize("first", ["refund", "invoice"])
def test_a_refund_and_a_change_to_a_smaller_plan_take_the_same_in_either_order(
    shop: Shop, post: Post, first: str
) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer, "starter")
    renewal = shop.account.renew(subscription)
    post.deliver(buyer)
    shop.account.change(subscription, shop.prices["basic"], 0.5)
    shop.account.refund(shop.account.payment_of(renewal), 2499)
    post.deliver(buyer, first)
    post.deliver(buyer)
    assert post.worth(buyer) == 2 + 60


# Invoices.


def test_a_line_that_gives_money_back_brings_no_credits(shop: Shop, post: Post) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    post.deliver(buyer)
    (item,) = subscription["items"]["data"]
    lines = [shop.account._line(item, -500), shop.account._line(item, 100, price=shop.account.price(100))]
    shop.account._pay_invoice(shop.account._invoice(subscription, "manual", lines))
    post.deliver(buyer)
    assert post.worth(buyer) == 22


def test_an_object_that_stripe_does_not_know_is_a_failure(shop: Shop, service: ServiceProcess, db: Connection) -> None:
    buyer = shop.buyer()
    shop.buy(buyer)
    (event,) = shop.account.events(buyer.customer)
    hidden = shop.account.objects.pop(event["data"]["object"]["id"])
    assert service.deliver(event).status_code == 500
    (row,) = db.execute("select status from public.stripe_events where id = %s", (event["id"],)).fetchall()
    assert row == {"status": "failed"}, "the secret key may be another account's, and the money is paid"
    shop.account.objects[hidden["id"]] = hidden
    assert service.deliver(event).json() == {"status": "processed"}
    assert shop.people.balance(buyer.person) == 12


# Payment pages.


def test_a_subscription_that_was_just_paid_keeps_the_next_page_shut(
    shop: Shop, post: Post, service: ServiceProcess, local_stack: Stack, stripe: StripeDouble
) -> None:
    buyer = shop.buyer()
    shop.subscribe(buyer)
    post.deliver(buyer, "checkout.session.completed")
    answer = page_of(service, buyer.person, local_stack).post(plan="starter")
    assert answer.status_code == 409, answer.text
    assert len(stripe.account.all("checkout.session", customer=buyer.customer)) == 1


def test_a_page_whose_answer_got_lost_does_not_bar_the_next(page: Page, db: Connection) -> None:
    first = page.post(plan="basic", success_url=f"{ORIGIN}/a")
    db.execute("update public.billing_orders set stripe_checkout_session_id = null where status = 'pending'")
    again = page.post(plan="basic", success_url=f"{ORIGIN}/b")
    assert (first.status_code, again.status_code) == (200, 200), again.text


def test_parts_of_periods_are_told_before_discounts(page: Page, stripe: StripeDouble) -> None:
    assert page.post(plan="basic").status_code == 200
    mode = stripe.account.all("checkout.session")[0]["subscription_data"]["billing_mode"]
    assert mode == {"type": "flexible", "flexible": {"proration_discounts": "itemized"}}


def test_a_page_that_is_open_is_not_given_to_who_may_not_buy_any_more(
    page: Page, service: ServiceProcess, shop: Shop, local_stack: Stack, db: Connection
) -> None:
    person = shop.people.new()
    page = page_of(service, person, local_stack)
    assert page.post(plan="basic").status_code == 200
    db.execute("update public.profiles set is_active = false where id = %s", (person.id,))
    assert page.post(plan="basic").status_code == 403


# Strange input.


@pytest.mark.parametrize("url", ["https://[", "https://[x]/", f"{ORIGIN}\uff0f", f"{ORIGIN}\u3002evil.test/"])
def test_an_address_that_is_none_is_refused(page: Page, url: str) -> None:
    for answer in (page.post(package=PACKAGE, success_url=url), page.post("/portal", return_url=url)):
        assert answer.status_code == 400, answer.text


def test_a_name_with_a_nul_is_not_for_sale(page: Page) -> None:
    assert page.post(plan="basic\0").status_code in (400, 404)


def test_forged_tokens_leave_threads_to_others() -> None:
    token = jwt.encode({"sub": "x"}, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers={"kid": "x"})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = BillingSettings.model_validate(
            {
                "supabase_url": url,
                "supabase_secret_key": "x",
                "stripe_secret_key": "sk_test_x",
                "webhook_secrets": "whsec_x",
                "origins": ORIGIN,
            }
        )

        async def attack() -> None:
            tokens = Tokens(settings)
            forged = [asyncio.create_task(tokens.user_id(f"Bearer {token}")) for _ in range(64)]
            await asyncio.sleep(0.2)
            async with asyncio.timeout(2):
                await asyncio.get_running_loop().getaddrinfo("localhost", 80)
            for task in forged:
                task.cancel()

        asyncio.run(attack())


def test_a_deeply_nested_token_is_refused(service: ServiceProcess) -> None:
    header = base64.urlsafe_b64encode(b'{"a":' + b"[" * 40_000).rstrip(b"=").decode()
    for token in (f"{header}.e30.x", f"e30.{header}.x"):
        answer = service.http.post("/checkout", json={}, headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 401, answer.text


# Subscriptions whose first payment takes days.


@pytest.mark.parametrize("plan", ["basic", "starter"])
def test_a_plan_whose_payment_is_under_way_keeps_the_next_page_shut(
    shop: Shop, post: Post, service: ServiceProcess, local_stack: Stack, stripe: StripeDouble, plan: str
) -> None:
    buyer = shop.buyer()
    session = shop.order(buyer, shop.prices["basic"])
    shop.account.pay(session, delayed=True)
    post.deliver(buyer)
    page = page_of(service, buyer.person, local_stack)
    for _ in range(2):
        answer = page.post(plan=plan)
        assert (answer.status_code, "under way" in answer.json()["message"]) == (409, True), answer.text
    assert len(stripe.account.all("checkout.session", customer=buyer.customer)) == 1
    shop.account.settle(session, paid=True)
    post.deliver(buyer)
    assert post.worth(buyer) == 22
    assert [row["status"] for row in shop.holdings(buyer)["orders"]] == ["paid"]
    assert page.post(plan=plan).json()["message"] == "The account already has a subscription"


def test_a_plan_whose_payment_does_not_come_is_sold_again(
    shop: Shop, post: Post, service: ServiceProcess, local_stack: Stack, db: Connection
) -> None:
    buyer = shop.buyer()
    session = shop.order(buyer, shop.prices["basic"])
    shop.account.pay(session, delayed=True)
    post.deliver(buyer)
    shop.account.settle(session, paid=False)
    post.deliver(buyer)
    assert [row["status"] for row in shop.holdings(buyer)["orders"]] == ["failed"]
    (mail,) = db.execute(
        "select data from public.email_logs where user_id = %s and dedupe_key like 'payment_failed:%%'", (buyer.id,)
    ).fetchall()
    assert (mail["data"]["product"], mail["data"]["amount"]) == ("Plan Basic", "$9.99")
    assert page_of(service, buyer.person, local_stack).post(plan="basic").status_code == 200


def test_a_plan_that_stripe_has_given_up_is_sold_again(shop: Shop, post: Post) -> None:
    buyer = shop.buyer()
    session = shop.order(buyer, shop.prices["basic"])
    subscription = shop.account.pay(session, delayed=True)
    post.deliver(buyer)
    shop.account.give_up(subscription)
    post.deliver(buyer, "customer.subscription.updated")
    assert [row["status"] for row in shop.holdings(buyer)["orders"]] == ["failed"]


# Gifts beside what is paid for.


def test_a_gift_does_not_hide_a_subscription_that_is_heard_of_later(
    shop: Shop, post: Post, service: ServiceProcess, local_stack: Stack
) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    subscription["start_date"] -= 24 * 3600
    shop.people.service.call(
        "admin_comp_subscription", p_user_id=buyer.person.id, p_plan="starter", p_months=1, p_reason="Sorry."
    )
    post.deliver(buyer)
    answer = page_of(service, buyer.person, local_stack).post(plan="starter")
    assert answer.status_code == 409, "a second subscription beside the one that runs"


# Mails of payments.


def mails(db: Connection, buyer: Buyer) -> list[tuple[str, dict[str, object]]]:
    """What a buyer is told of his payments, in the order in which it was queued."""
    rows = db.execute(
        "select t.type, l.data from public.email_logs as l join public.email_templates as t on t.id = l.template_id"
        " where l.user_id = %s and t.type in ('receipt', 'payment_failed') or l.user_id = %s and t.type like"
        " 'subscription_%%' order by l.created_at, l.id",
        (buyer.id, buyer.id),
    ).fetchall()
    return [(row["type"], row["data"]) for row in rows]


def test_a_plan_that_a_balance_pays_is_no_trial(shop: Shop, post: Post, db: Connection) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    (invoice,) = shop.account.invoices(subscription)
    invoice |= {"amount_due": 0, "amount_paid": 0}
    post.deliver(buyer)
    assert post.worth(buyer) == 22
    ((name, told),) = mails(db, buyer)
    assert (name, told["is_trial"], told["amount"]) == ("subscription_started", False, "")


def test_a_trial_that_is_paid_for_then_is_told_as_such(shop: Shop, post: Post, db: Connection) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer, trial_period_days="7")
    post.deliver(buyer)
    shop.account.renew(subscription)
    post.deliver(buyer)
    shop.account.cancel(subscription, at_period_end=True)
    post.deliver(buyer)
    shop.account.pass_period(subscription)
    post.deliver(buyer)
    told = mails(db, buyer)
    assert [name for name, _ in told] == ["subscription_started", "subscription_renewed", "subscription_cancelled"]
    assert (told[0][1]["is_trial"], told[1][1]["amount"]) == (True, "$9.99")


def test_a_renewal_that_fails_thrice_and_an_upgrade_are_told_once_each(shop: Shop, post: Post, db: Connection) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    invoice = shop.account.renew(subscription, paid=False)
    post.deliver(buyer)
    for paid in (False, False, True):
        shop.account.collect(invoice, paid=paid)
        post.deliver(buyer)
    shop.account.change(subscription, shop.prices["starter"], 0.5)
    post.deliver(buyer)
    shop.account.refund(shop.account.payment_of(invoice), 999)
    post.deliver(buyer)
    told = mails(db, buyer)
    assert [name for name, _ in told] == [
        "subscription_started",
        "payment_failed",
        "subscription_renewed",
        "receipt",
    ]
    assert told[-1][1] | {"receipt_url": "", "date": ""} == {
        "product": "Plan Starter", "credits": "20 credits", "amount": "$7.50", "balance": "62 credits",
        "date": "", "receipt_url": "",
    }  # fmt: skip


def test_a_price_of_nothing_does_not_keep_an_upgrade_from_bringing_credits(shop: Shop, post: Post) -> None:
    buyer = shop.buyer()
    free = shop.account.price(0, product=shop.prices["basic"]["product"], recurring=True)
    subscription = shop.account._subscription(buyer.customer, free, 0, {}, delayed=False)
    post.deliver(buyer)
    shop.account.change(subscription, shop.prices["starter"], 0.5)
    post.deliver(buyer)
    assert post.worth(buyer) == 2 + 30


def test_a_change_that_is_invoiced_with_the_renewal_brings_both(shop: Shop, post: Post, db: Connection) -> None:
    buyer = shop.buyer()
    account, subscription = shop.account, shop.subscribe(buyer)
    (item,) = subscription["items"]["data"]
    lines = [
        account._line(item, -500, proration=True),
        account._line(item, 1250, price=shop.prices["starter"], proration=True),
    ]
    item["price"] = shop.prices["starter"]
    lines.append(account._line(item, 2499))
    account._pay_invoice(account._invoice(subscription, "subscription_cycle", lines))
    post.deliver(buyer)
    # 20 of the first period, half of 40 more, and 60; rounding takes from the parts.
    assert post.worth(buyer) == 2 + 20 + 20 + 60
    (money,) = db.execute(
        "select sum(money_amount) as sum from public.credit_grants where user_id = %s and source = 'subscription'",
        (buyer.id,),
    ).fetchall()
    assert str(money["sum"]) == "42.48"
    assert [name for name, _ in mails(db, buyer)] == ["subscription_started", "subscription_renewed"]


def offer(shop: Shop, price: Object, currency: str, amount: int) -> None:
    """A price in dollars is offered in another currency, too."""
    options = shop.account.objects[price["id"]].setdefault("currency_options", {})
    options[currency] = {"unit_amount": amount, "unit_amount_decimal": str(amount)}


def test_a_part_of_a_price_in_another_currency_is_that_part_of_its_credits(shop: Shop, post: Post) -> None:
    buyer, account = shop.buyer(), shop.account
    subscription = shop.subscribe(buyer)
    post.deliver(buyer)
    basic, starter = shop.prices["basic"], shop.prices["starter"]
    offer(shop, basic, "jpy", 1500)
    offer(shop, starter, "jpy", 3800)
    subscription["currency"] = "jpy"
    (item,) = subscription["items"]["data"]
    lines = [
        account._line(item, -750, price=basic, proration=True),
        account._line(item, 1900, price=starter, proration=True),
    ]
    account._pay_invoice(account._invoice(subscription, "subscription_update", lines))
    post.deliver(buyer)
    assert post.worth(buyer) == 2 + 20 + 20, "half of each plan"


def test_a_part_of_a_price_without_an_amount_in_that_currency_is_left_to_the_replay(
    shop: Shop, post: Post, service: ServiceProcess
) -> None:
    buyer, account = shop.buyer(), shop.account
    subscription = shop.subscribe(buyer)
    post.deliver(buyer)
    subscription["currency"] = "chf"
    (item,) = subscription["items"]["data"]
    starter = shop.prices["starter"]
    invoice = account._invoice(
        subscription, "subscription_update", [account._line(item, 1900, price=starter, proration=True)]
    )
    account._pay_invoice(invoice)
    (event,) = [e for e in account.events(buyer.customer) if e["type"] == "invoice.paid"][-1:]
    assert service.deliver(event).status_code == 500
    assert post.worth(buyer) == 22
    offer(shop, starter, "chf", 3800)
    post.deliver(buyer)
    assert post.worth(buyer) == 22 + 30


def test_a_refund_of_what_a_card_paid_beside_a_balance_takes_that_part_of_the_credits(shop: Shop, post: Post) -> None:
    buyer = shop.buyer()
    subscription = shop.subscribe(buyer)
    invoice = shop.account.renew(subscription)
    payment = shop.account.payment_of(invoice)
    shop.account.objects[payment] |= {"amount": 499, "amount_received": 499}
    invoice |= {"amount_due": 499, "amount_paid": 499, "starting_balance": -500}
    post.deliver(buyer)
    shop.account.refund(payment, 499)
    post.deliver(buyer)
    assert post.worth(buyer) == 2 + 20 + 10, "4.99 of 9.99"
