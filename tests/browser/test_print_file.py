"""A print file on the page: the form as its row draws it, what came out, and every file of it."""

from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from local.stack import StackStatus
from tests.browser.conftest import OpenPage, keep_screenshot
from tests.browser.steps import FLAT_ART, balance, give_credits, open_picture, sign_up, start_button, upload
from tests.e2e.worker_process import WorkerProcess


def downloaded(page: Page, name: str, to: Path) -> tuple[str, tuple[int, int]]:
    """The file that a button gives: its name, and its pixels."""
    with page.expect_download() as download:
        page.get_by_role("button", name=name, exact=True).click()
    download.value.save_as(to)
    with Image.open(to) as image:
        return download.value.suggested_filename, image.size


def test_a_print_file_is_made_and_all_of_it_downloaded(
    open_page: OpenPage, stack: StackStatus, worker: WorkerProcess, tmp_path: Path
) -> None:
    with Image.open(FLAT_ART) as art:
        art.resize((400, 400)).save(tmp_path / "small.png")
    page = open_page()
    email = sign_up(page)
    give_credits(stack, email, 5)
    upload(page, tmp_path / "small.png")
    open_picture(page, "small.png")
    page.get_by_role("button", name="Print file").click()
    keep_screenshot(page, "the form of a print file")

    # A size of nothing is no size: the browser says so, and nothing is asked for.
    page.get_by_label("Size of the print").fill("0")
    start_button(page).click()
    assert page.get_by_label("Size of the print").evaluate("field => field.validity.rangeUnderflow")
    expect(balance(page)).to_have_text("7 credits")

    page.get_by_label("Size of the print").fill("5")
    page.get_by_role("radio", name="cm", exact=True).check()
    page.get_by_label("Mock-up on a colour of my own").check()
    start_button(page).click()
    expect(page.get_by_role("radio", name="Print file, 5 cm")).to_be_checked()
    keep_screenshot(page, "a print file")
    assert downloaded(page, "Download", tmp_path / "print.png") == ("small, Print file, 5 cm.png", (591, 591))
    assert downloaded(page, "White", tmp_path / "white.png") == ("small, Print file, 5 cm, White.png", (591, 591))
    assert downloaded(page, "Mock-up", tmp_path / "mock-up.png")[1] == (1360, 1280)

    # As a PDF, which browsers do not show in a picture: its thumbnail stands for it.
    page.get_by_label("Size of the print").fill("5")
    page.get_by_role("radio", name="cm", exact=True).check()
    page.get_by_role("radio", name="PDF", exact=True).check()
    start_button(page).click()
    expect(page.get_by_role("radio", name="Print file, 5 cm")).to_have_count(2)
    shown = page.locator(".stage img").first
    expect(shown).to_have_js_property("complete", True)
    assert shown.evaluate("image => image.naturalWidth") > 0
    with page.expect_download() as download:
        page.get_by_role("button", name="Download", exact=True).click()
    assert download.value.path().read_bytes().startswith(b"%PDF-1.7")
