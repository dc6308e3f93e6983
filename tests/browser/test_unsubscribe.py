"""The page behind the link to unsubscribe, in every look: it can be read, and its button works."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from local.stack import StackStatus
from tests.browser.conftest import OpenPage
from tests.browser.steps import heading
from tests.browser.test_accessibility import LOOKS, check
from tests.database.personas import People, connect
from tests.email.http_service import HttpService


@pytest.fixture
def link(stack: StackStatus) -> Iterator[str]:
    """The link of somebody."""
    with connect(stack.db_url) as db, HttpService(stack) as service:
        people = People(db)
        yield service.link(people.new().id)
        people.remove()


@pytest.mark.parametrize("look", LOOKS)
def test_people_unsubscribe(open_page: OpenPage, link: str, look: str) -> None:
    page = open_page(bypass_csp=True, **LOOKS[look])
    page.goto(link)
    expect(heading(page, "No more news from DTF Editor?")).to_be_visible()
    check(page, f"unsubscribe, {look}")
    page.get_by_role("button", name="Unsubscribe").click()
    expect(heading(page, "You are unsubscribed")).to_be_visible()
    check(page, f"unsubscribed, {look}")


def test_the_page_is_drawn_under_its_own_policy(open_page: OpenPage, link: str) -> None:
    page = open_page()
    page.goto(link)
    expect(page.get_by_role("button", name="Unsubscribe")).to_have_css("font-weight", "600")
    page.get_by_role("button", name="Unsubscribe").press("Enter")
    expect(heading(page, "You are unsubscribed")).to_be_visible()
    page.goto(link[:-9])
    expect(heading(page, "This link is not complete")).to_be_visible()
