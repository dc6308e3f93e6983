"""Life stories in any order: shuffled, doubled, in parallel, with the service killed amid them.

Each story is told twice: straight, every event delivered when it happens, and then for many accounts in an order of
their own. All must have the same in the end.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from local.stack import Stack
from local.stripe import Object
from tests.billing.service_process import ServiceProcess
from tests.billing.shop import Buyer, Shop
from tests.billing.stripe_double import StripeDouble

ORDERS = 25  # of each story
AT_ONCE = 8
KILLS = 8
SEED = 20261122

Story = Callable[[Shop, Buyer], Iterator[None]]


def pack_refunded_in_two_parts(shop: Shop, buyer: Buyer) -> Iterator[None]:
    intent = shop.buy(buyer)
    yield
    shop.account.refund(intent, 266)
    yield
    shop.account.refund(intent, 533)
    yield


def pack_paid_late_and_its_refund_fails(shop: Shop, buyer: Buyer) -> Iterator[None]:
    session = shop.order(buyer, shop.pack)
    shop.account.pay(session, delayed=True)
    yield
    shop.account.settle(session, paid=True)
    yield
    refund = shop.account.refund(shop.account.objects[session]["payment_intent"], 799, status="pending")
    yield
    shop.account.update_refund(refund, "succeeded")
    yield
    shop.account.update_refund(refund, "failed")
    yield


def plan_paid_late(shop: Shop, buyer: Buyer) -> Iterator[None]:
    session = shop.order(buyer, shop.prices["basic"])
    subscription = shop.account.pay(session, delayed=True)
    yield
    shop.account.settle(session, paid=True)
    yield
    shop.account.renew(subscription)
    yield


def three_periods_with_a_failed_payment(shop: Shop, buyer: Buyer) -> Iterator[None]:
    subscription = shop.subscribe(buyer)
    yield
    shop.account.renew(subscription)
    yield
    invoice = shop.account.renew(subscription, paid=False)
    yield
    shop.account.collect(invoice)
    yield
    shop.account.cancel(subscription)
    yield


def paid_in_parts_that_are_refunded(shop: Shop, buyer: Buyer) -> Iterator[None]:
    invoice = shop.account.renew(shop.subscribe(buyer), paid=False)
    yield
    first, second = shop.account.pay_in_parts(invoice, 400, 599)
    yield
    shop.account.refund(second, 599)
    yield
    shop.account.refund(first, 100)
    yield


def upgrade_in_mid_period_and_back(shop: Shop, buyer: Buyer) -> Iterator[None]:
    subscription = shop.subscribe(buyer)
    yield
    shop.account.change(subscription, shop.prices["starter"], 0.5)
    yield
    shop.account.change(subscription, shop.prices["basic"], 0.25)
    yield
    shop.account.renew(subscription)
    yield


def beside_other_items_and_moved_to_a_custom_price(shop: Shop, buyer: Buyer) -> Iterator[None]:
    subscription = shop.subscribe(buyer)
    yield
    shop.account.add_item(subscription, shop.account.price(300, recurring=True))
    yield
    shop.account.renew(subscription)
    yield
    shop.account.move(subscription, shop.account.price(500, recurring=True), place=1)
    yield
    shop.account.cancel(subscription)
    yield


def dispute_won(shop: Shop, buyer: Buyer) -> Iterator[None]:
    dispute = shop.account.dispute(shop.buy(buyer), 799)
    yield
    shop.account.close_dispute(dispute, "won")
    yield


def dispute_lost_after_a_refund(shop: Shop, buyer: Buyer) -> Iterator[None]:
    intent = shop.buy(buyer)
    yield
    shop.account.refund(intent, 100)
    yield
    dispute = shop.account.dispute(intent, 699)
    yield
    shop.account.close_dispute(dispute, "lost")
    yield


STORIES: list[Story] = [
    pack_refunded_in_two_parts,
    pack_paid_late_and_its_refund_fails,
    plan_paid_late,
    three_periods_with_a_failed_payment,
    paid_in_parts_that_are_refunded,
    upgrade_in_mid_period_and_back,
    beside_other_items_and_moved_to_a_custom_price,
    dispute_won,
    dispute_lost_after_a_refund,
]


@pytest.fixture(scope="module")
def mortal(
    local_stack: Stack, stripe: StripeDouble, shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """A service to be killed."""
    log = tmp_path_factory.mktemp("mortal") / "log"
    with ServiceProcess(local_stack.state, stripe.url, log) as service:
        yield service


def tell_straight(shop: Shop, story: Story, service: ServiceProcess) -> Buyer:
    buyer = shop.buyer()
    heard: set[str] = set()
    for _ in story(shop, buyer):
        for event in shop.account.events(buyer.customer):
            if event["id"] not in heard:
                assert service.deliver(event).status_code == 200
                heard.add(event["id"])
    return buyer


def deliver_until_heard(service: ServiceProcess, event: Object) -> None:
    """As Stripe does, but sooner."""
    while True:
        try:
            if service.deliver(event).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)  # it is being started again and needs the processor


def in_time(orders: list[list[Object]], chance: random.Random) -> list[Object]:
    """All deliveries of a run: some accounts' come close together, others' are spread over all of it."""
    timed = []
    for events in orders:
        spread = chance.choice([0.01, 1.0])
        start = chance.random() * (1 - spread)
        timed += [(start + chance.random() * spread, event) for event in events]
    return [event for _, event in sorted(timed, key=lambda entry: entry[0])]


@pytest.mark.timeout(600)
def test_any_order_and_number_of_deliveries_ends_in_the_same(shop: Shop, mortal: ServiceProcess) -> None:
    chance = random.Random(SEED)  # noqa: S311 - to be repeated
    expected = {story.__name__: shop.holdings(tell_straight(shop, story, mortal)) for story in STORIES}
    told: list[tuple[str, Buyer]] = []
    orders: list[list[Object]] = []
    for story in STORIES * ORDERS:
        buyer = shop.buyer()
        for _ in story(shop, buyer):
            pass
        events = shop.account.events(buyer.customer)
        events += chance.sample(events, len(events) // 2)
        chance.shuffle(events)
        told.append((story.__name__, buyer))
        orders.append(events)
    deliveries = in_time(orders, chance)

    over = threading.Event()

    def kill() -> int:
        kills = 0
        while kills < KILLS and not over.wait(chance.uniform(0.2, 1.0)):
            mortal.kill()
            mortal.start()
            kills += 1
        return kills

    with ThreadPoolExecutor(AT_ONCE + 1) as pool:
        killer = pool.submit(kill)
        list(pool.map(lambda event: deliver_until_heard(mortal, event), deliveries))
        over.set()
        assert killer.result() >= 3

    for name, buyer in told:
        assert shop.holdings(buyer) == expected[name], name


def test_whatever_is_spent_in_between_the_books_add_up(shop: Shop, mortal: ServiceProcess) -> None:
    """With spending, the order decides which grant is used; what is left after debts is the same."""
    chance = random.Random(SEED)  # noqa: S311 - to be repeated
    for story in STORIES:
        ends = set()
        for _ in range(2):
            buyer = shop.buyer(credits=10)
            for _ in story(shop, buyer):
                pass
            events = shop.account.events(buyer.customer)
            chance.shuffle(events)
            for place, event in enumerate(events):
                assert mortal.deliver(event).status_code == 200
                if place in (0, 2):
                    shop.people.service.call(
                        "deduct_user_credits", p_user_id=buyer.person.id, p_amount=4, p_transaction_type="usage"
                    )
            held = shop.holdings(buyer)
            ends.add(held["credits_remaining"] - held["credit_debt"])
        assert len(ends) == 1, story.__name__
