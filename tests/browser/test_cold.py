"""Every address opened cold, over a slow line, as after paying: no view asks for what is not there yet."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from local.stack import StackStatus
from tests.browser.conftest import OpenPage
from tests.browser.steps import PHOTO, expire_token, heading, open_picture, sign_up, upload
from tests.database.personas import connect

ENTRANCE = "Artwork, ready for print."
MISSING = "There is nothing here"
SLOW_LINE = {"offline": False, "latency": 250, "downloadThroughput": -1, "uploadThroughput": -1}
# A heading that is there for a moment only counts, too.
REMEMBER_HEADINGS = """
    globalThis.headings = [];
    new MutationObserver(() => {
        for (const { textContent } of document.querySelectorAll("h1")) {
            if (headings.at(-1) !== textContent) headings.push(textContent);
        }
    }).observe(document, { childList: true, subtree: true, characterData: true });
"""


@dataclass
class Visitor:
    """A stored session, and by address the heading that its owner and a stranger are to see there."""

    session: Any
    own: dict[str, str]
    strangers: dict[str, str]


@pytest.fixture
def visitor(open_page: OpenPage, stack: StackStatus) -> Visitor:
    page = open_page()
    email = sign_up(page)
    upload(page, PHOTO)
    open_picture(page, "photo.jpg")
    picture = page.url.partition("#/")[2]
    with connect(stack.db_url) as db:
        row = db.execute(
            "insert into public.image_collections (user_id, name, is_public) "
            "select id, 'Spring order', true from public.profiles where email = %s returning id",
            [email],
        ).fetchone()
        assert row is not None
        db.execute(
            "insert into public.image_collection_items (collection_id, image_id) values (%s, %s)",
            [row["id"], picture.removeprefix("pictures/")],
        )
    collection = f"collections/{row['id']}"
    own = {
        "": "Pictures",
        picture: "photo.jpg",
        "lettering": "Lettering",
        "collections": "Collections",
        collection: "Spring order",
        "credits": "Credits",
        "credits/paid": "Credits",
        "account": "Account",
        "no/such/view": MISSING,
    }
    strangers = dict.fromkeys(own, ENTRANCE) | {collection: "Spring order", "no/such/view": MISSING}
    return Visitor(page.context.storage_state(), own, strangers)


def open_cold(open_page: OpenPage, session: Any, expected: dict[str, str]) -> None:
    """Open each address in a new tab; its heading is the only one that is ever shown, and nothing is complained of."""
    first = open_page(storage_state=session)
    complaints: list[str] = []
    tabs: dict[str, Page] = {}
    for path in expected:
        tabs[path] = page = first.context.new_page()
        keep_complaints(page, path, complaints)
        page.add_init_script(REMEMBER_HEADINGS)
        slow_down(page)
        page.goto(f"/#/{path}", wait_until="commit")
    for path, name in expected.items():
        expect(heading(tabs[path], name)).to_be_visible()
        expect(tabs[path].locator("main")).to_have_attribute("aria-busy", "false")
    seen = {path: page.evaluate("headings.map((text) => text.trim())") for path, page in tabs.items()}
    assert seen == {path: [name] for path, name in expected.items()}
    assert complaints == []


def slow_down(page: Page) -> None:
    line = page.context.new_cdp_session(page)
    line.send("Network.enable")
    line.send("Network.emulateNetworkConditions", SLOW_LINE)


def keep_complaints(page: Page, path: str, complaints: list[str]) -> None:
    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(f"{path}: {message.text}")

    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(f"{path}: {error}"))


def test_every_address_opens_cold(open_page: OpenPage, visitor: Visitor) -> None:
    open_cold(open_page, visitor.session, visitor.own)
    open_cold(open_page, None, visitor.strangers)
    patterns = open_page().evaluate("import('/app.js').then(({ ROUTES }) => ROUTES.map(([{ source }]) => source))")
    assert [pattern for pattern in patterns if not any(re.search(pattern, path) for path in visitor.own)] == []


def test_while_the_session_is_renewed_the_entrance_is_not_shown(open_page: OpenPage) -> None:
    page = open_page()
    sign_up(page)
    expire_token(page)
    page.goto("about:blank")
    page.add_init_script(REMEMBER_HEADINGS)
    slow_down(page)
    with page.expect_request("**/auth/v1/token?grant_type=refresh_token"):
        page.goto("/#/credits", wait_until="commit")
    page.evaluate("location.hash = '#/account'")
    expect(heading(page, "Account")).to_be_visible()
    assert page.evaluate("headings") == ["Account"]
