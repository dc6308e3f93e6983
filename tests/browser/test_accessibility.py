"""Every view for everybody: the rules of axe in light, dark and on a phone, and the whole path with keys alone."""

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from local.stack import PROJECT, StackStatus
from tests.browser.conftest import PHONE, OpenPage, keep_screenshot
from tests.browser.steps import FLAT_ART, PHOTO, heading, open_picture, sign_up, start, upload
from tests.e2e.people import PASSWORD
from tests.e2e.worker_process import WorkerProcess

AXE = PROJECT / "tests" / "node_modules" / "axe-core" / "axe.min.js"
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", **PHONE},
    "dark phone": {"color_scheme": "dark", **PHONE},
}
Signed = dict[str, Any]


@pytest.fixture(scope="module")
def signed_in(browser: Browser, stack: StackStatus, worker: WorkerProcess) -> Iterator[Signed]:
    """The stored session of somebody who has two pictures, a result and a collection."""
    context = browser.new_context(base_url=stack.web_url)
    page = context.new_page()
    page.goto("/")
    sign_up(page)
    upload(page, FLAT_ART, PHOTO)
    open_picture(page, "flat-art.png")
    start(page, "Remove background")
    expect(page.get_by_role("radio", name="Cut out")).to_be_checked()
    open_menu(page, "Collections")
    page.get_by_label("New collection").fill("Spring order")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("checkbox", name="Spring order")).to_be_checked()
    yield dict(context.storage_state())
    context.close()


def open_menu(page: Page, name: str) -> None:
    page.locator("summary", has_text=name).click()


def check(page: Page, name: str) -> None:
    """No rule of axe is broken, nothing sticks out sideways; and keep a picture of it."""
    keep_screenshot(page, name)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    problems = [
        f"{violation['id']}: {node['html'][:200]}" for violation in found["violations"] for node in violation["nodes"]
    ]
    assert problems == []
    assert page.viewport_size is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


# The policy of the page lets no other script in; here the tool of the test may.
@pytest.mark.parametrize("look", LOOKS)
def test_the_entrance_is_accessible(open_page: OpenPage, look: str) -> None:
    page = open_page(bypass_csp=True, **LOOKS[look])
    expect(page.get_by_text("1 credit").first).to_be_visible()
    check(page, f"welcome, {look}")


@pytest.mark.parametrize("look", LOOKS)
def test_every_view_is_accessible(open_page: OpenPage, signed_in: Signed, look: str) -> None:
    page = open_page(bypass_csp=True, storage_state=signed_in, **LOOKS[look])
    for path, title in (
        ("", "Pictures"),
        ("lettering", "Lettering"),
        ("collections", "Collections"),
        ("credits", "Credits"),
        ("account", "Account"),
    ):
        page.goto(f"/#/{path}")
        expect(heading(page, title)).to_be_visible()
        check(page, f"{title.lower()}, {look}")
    page.goto("/#/collections")
    page.get_by_role("link", name="Spring order").click()
    expect(heading(page, "Spring order")).to_be_visible()
    check(page, f"collection, {look}")
    page.goto("/")
    open_picture(page, "flat-art.png")
    expect(page.get_by_role("slider")).to_be_visible()
    open_menu(page, "Collections")
    check(page, f"picture with a menu, {look}")
    open_menu(page, "Collections")
    open_menu(page, "More")
    page.get_by_role("button", name="Delete this picture").click()
    check(page, f"question, {look}")


FOCUSED = "document.activeElement.ariaLabel || (document.activeElement.labels?.[0] ?? document.activeElement).innerText"


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has the focus is called so."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if re.match(re.escape(name), page.evaluate(FOCUSED).strip()):
            return
    raise AssertionError(f"Tab does not lead to {name}")


def test_the_whole_path_goes_with_the_keyboard_alone(open_page: OpenPage, worker: WorkerProcess) -> None:
    page = open_page()
    # Listening from the start: it takes effect a moment later.
    page.on("filechooser", lambda chooser: chooser.set_files(PHOTO))
    expect(page.get_by_label("E-mail")).to_be_visible()
    tab_to(page, "E-mail")
    page.keyboard.type(f"{uuid.uuid4().hex}@example.com")
    tab_to(page, "Password")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(heading(page, "Pictures")).to_be_visible()

    tab_to(page, "Drop pictures here")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="photo.jpg")).to_be_visible()
    tab_to(page, "photo.jpg")
    page.keyboard.press("Enter")
    expect(heading(page, "photo.jpg")).to_be_focused()

    tab_to(page, "×4")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("radio", name="×2")).to_be_checked()
    tab_to(page, "Start for")
    page.keyboard.press("Enter")
    expect(page.get_by_role("radio", name="Enlarged ×2")).to_be_checked()
    # Nothing that was drawn meanwhile took the focus away.
    expect(page.get_by_role("button", name="Start for")).to_be_focused()

    page.reload()
    expect(page.get_by_role("slider")).to_be_visible()
    tab_to(page, "Skip to the content")
    page.keyboard.press("Enter")
    expect(heading(page, "photo.jpg")).to_be_focused()
    tab_to(page, "How much of Original")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("slider")).to_have_value("51")
    tab_to(page, "Download")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "photo, Enlarged ×2.png"
