"""Buying on the page, with billing and the stand-in for Stripe running as the manual tells."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect

from local.stack import Stack
from local.stripe import SECRET_KEY
from tests.browser.conftest import OpenPage, keep_screenshot
from tests.browser.steps import balance, sign_up
from tests.e2e.manual import Selling, selling
from tests.e2e.worker_process import until


@pytest.fixture(scope="module")
def shop(local_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Selling]:
    with selling(local_stack, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


def test_credits_and_a_plan_are_bought_and_the_plan_is_managed(open_page: OpenPage, shop: Selling) -> None:
    page = open_page()
    email = sign_up(page)
    page.goto("/#/credits")
    page.get_by_role("button", name="Buy 10 credits").click()
    expect(page.get_by_text("7.99 USD")).to_be_visible()
    expect(page.get_by_text(email)).to_be_visible()
    page.get_by_role("button", name="Pay with a card that is declined").click()
    expect(page.get_by_role("alert")).to_have_text("Your card was declined.")
    page.get_by_role("button", name="Go back without paying").click()
    expect(page.get_by_text("2 credits left")).to_be_visible()

    page.get_by_role("button", name="Buy 10 credits").click()
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.get_by_text("Thank you.")).to_be_visible()
    expect(page.get_by_text("12 credits left")).to_be_visible()
    expect(balance(page)).to_contain_text("12")

    page.get_by_role("button", name="Buy Plan basic").click()
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.get_by_text("You have the plan basic.")).to_be_visible()
    expect(page.get_by_text("32 credits left")).to_be_visible()
    expect(page.get_by_role("button", name="Buy Plan basic")).to_be_hidden()
    expect(page.get_by_role("button", name="Buy 20 credits")).to_be_visible()
    keep_screenshot(page, "credits of a subscriber")

    page.get_by_role("button", name="Manage subscription").click()
    page.get_by_role("button", name="Change to starter").click()
    expect(page.get_by_text("starter (24.99 USD a month)")).to_be_visible()
    page.get_by_role("link", name="Back").click()
    expect(page.get_by_text("You have the plan starter.")).to_be_visible()
    expect(page.get_by_text("72 credits left")).to_be_visible()


def test_a_failed_payment_is_told_and_made_good(open_page: OpenPage, shop: Selling) -> None:
    page = open_page()
    email = sign_up(page)
    page.goto("/#/credits")
    page.get_by_role("button", name="Buy Plan basic").click()
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.get_by_text("22 credits left")).to_be_visible()
    page.get_by_role("button", name="Manage subscription").click()
    page.get_by_role("button", name="Enter a card that will be declined").click()
    page.get_by_role("link", name="Back").click()

    world = open_page(beside=page)
    world.goto(shop.stripe_url)
    world.get_by_role("row", name=email).get_by_role("button", name="End the period").click()
    expect(world.get_by_role("row", name="past_due")).to_contain_text(email)
    notice = page.get_by_role("alert").filter(has_text="A payment of $9.99 failed.")
    until(lambda: is_heard(shop, "invoice.payment_failed"))
    page.reload()
    expect(notice).to_contain_text("It is tried again on")
    keep_screenshot(page, "credits after a failed payment")
    notice.get_by_role("link", name="Pay it now").click()
    page.get_by_role("button", name="Pay", exact=True).click()
    page.goto("/#/credits")
    expect(page.get_by_text("42 credits left")).to_be_visible()
    expect(notice).to_have_count(0)


def is_heard(shop: Selling, event_type: str) -> bool:
    """Whether billing has accepted all events of a type."""
    parameters = {"type": event_type, "delivery_success": "false"}
    unheard = httpx.get(f"{shop.stripe_url}/v1/events", params=parameters, auth=(SECRET_KEY, "")).json()["data"]
    return not unheard
