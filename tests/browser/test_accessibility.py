"""Every view for everybody: the rules of axe in light, dark and on a phone, and the whole path with keys alone."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from cli.local.stack import PROJECT
from tests.browser.conftest import PHONE, OpenPage, keep_screenshot
from tests.browser.steps import FLAT_ART, PHOTO, heading, open_picture, sign_up, start, upload
from tests.e2e.people import PASSWORD
from tests.e2e.worker_process import WorkerProcess

AXE = PROJECT / "node_modules" / "axe-core" / "axe.min.js"
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", **PHONE},
    "dark phone": {"color_scheme": "dark", **PHONE},
}


def check(page: Page, name: str) -> None:
    """No rule of axe is broken, nothing sticks out sideways; and keep a picture of it."""
    keep_screenshot(page, name)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    problems = [
        f"{violation['id']}: {node['html'][:200]}" for violation in found["violations"] for node in violation["nodes"]
    ]
    assert problems == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("look", LOOKS)
def test_every_view_is_accessible(open_page: OpenPage, worker: WorkerProcess, look: str) -> None:
    # The policy of the page lets no other script in; the tool of this test may.
    page = open_page(bypass_csp=True, **LOOKS[look])
    expect(page.get_by_text("1 credit").first).to_be_visible()
    check(page, f"welcome, {look}")
    sign_up(page)
    check(page, f"pictures at first, {look}")
    upload(page, FLAT_ART, PHOTO)
    open_picture(page, "flat-art.png")
    start(page, "Remove background")
    expect(page.get_by_role("radio", name="Cut out")).to_be_checked()
    page.locator("summary", has_text="Collections").click()
    page.get_by_label("New collection").fill("Spring order")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("checkbox", name="Spring order")).to_be_checked()
    check(page, f"picture with a menu, {look}")
    page.locator("summary", has_text="Collections").click()
    page.locator("summary", has_text="More").click()
    page.get_by_role("button", name="Delete this picture").click()
    check(page, f"question, {look}")
    page.get_by_role("button", name="Keep it").click()
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


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has the focus is called so."""
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "document.activeElement.ariaLabel || document.activeElement.labels?.[0]?.innerText"
            " || document.activeElement.innerText || ''"
        )
        if focused.strip().startswith(name):
            return
    raise AssertionError(f"Tab does not lead to {name}")


def test_the_whole_path_goes_with_the_keyboard_alone(
    open_page: OpenPage, worker: WorkerProcess, tmp_path: Path
) -> None:
    page = open_page()
    expect(page.get_by_label("E-mail")).to_be_visible()
    tab_to(page, "E-mail")
    page.keyboard.type(f"{tmp_path.name}-{id(page)}@example.com")
    tab_to(page, "Password")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(heading(page, "Pictures")).to_be_visible()

    tab_to(page, "Drop pictures here")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(PHOTO)
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
    page.keyboard.press("Shift+Tab")
    page.goto(page.url)
    expect(page.get_by_role("slider")).to_be_visible()
    tab_to(page, "How much of Original")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("slider")).to_have_value("51")
    tab_to(page, "Download")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "photo, Enlarged ×2.png"
    page.keyboard.press("Control+Home")
    page.get_by_role("link", name="Skip to the content").focus()
    page.keyboard.press("Enter")
    expect(heading(page, "photo.jpg")).to_be_focused()
