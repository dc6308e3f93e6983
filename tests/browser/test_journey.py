"""From the sign-up to the downloaded result, as a person does it in a browser."""

import json
import re
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, expect

from local.stack import StackStatus
from tests.browser.conftest import OpenPage, keep_screenshot
from tests.browser.steps import (
    FLAT_ART,
    PHOTO,
    balance,
    give_credits,
    heading,
    message,
    open_picture,
    sign_up,
    start,
    start_button,
    upload,
)
from tests.database.personas import connect
from tests.e2e.worker_process import WorkerProcess


def has_loaded(page: Page, name: str) -> None:
    """The picture with this text is really shown, not as a broken one."""
    picture = page.get_by_role("img", name=name, exact=True)
    expect(picture).to_be_visible()
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("image => image.naturalWidth") > 0


def test_from_sign_up_to_the_downloaded_result(open_page: OpenPage, worker: WorkerProcess) -> None:
    page = open_page()
    sign_up(page)
    expect(balance(page)).to_have_text("2 credits")
    upload(page, PHOTO)
    open_picture(page, "photo.jpg")
    has_loaded(page, "Original")
    page.get_by_role("radio", name="×2").check()
    start(page, "Enlarge")
    expect(page.get_by_role("radio", name="Enlarged ×2")).to_be_checked()
    expect(balance(page)).to_have_text("1 credit")
    has_loaded(page, "Enlarged ×2")
    expect(page.get_by_text("902 × 600 px")).to_be_visible()

    slider = page.get_by_role("slider")
    slider.press("End")
    expect(slider).to_have_value("100")
    slider.press("Home")
    expect(slider).to_have_value("0")

    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "photo, Enlarged ×2.png"
    with Image.open(download.value.path()) as result:
        assert result.size == (902, 600)


def test_work_goes_on_from_a_result_and_the_last_one_is_chosen_for_print(
    open_page: OpenPage, stack: StackStatus, worker: WorkerProcess
) -> None:
    page = open_page()
    give_credits(stack, sign_up(page), 8)
    upload(page, FLAT_ART)
    open_picture(page, "flat-art.png")
    start(page, "Remove background")
    expect(page.get_by_role("radio", name="Cut out")).to_be_checked()
    page.get_by_role("button", name="Vectorize").click()
    expect(page.get_by_text("Works on: Cut out")).to_be_visible()
    start_button(page).click()
    expect(page.get_by_role("radio", name="Vectors")).to_be_checked()
    has_loaded(page, "Vectors")
    has_loaded(page, "Cut out")
    page.get_by_title("Navy").click()
    page.get_by_role("button", name="Choose for print").click()
    expect(page.get_by_role("radio", name=re.compile("Vectors.*chosen for print"))).to_be_checked()
    keep_screenshot(page, "picture")
    page.get_by_role("radio", name="Original").check(force=True)
    expect(page.get_by_text("Works on: Original")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "flat-art.png"


def requests_of(stack: StackStatus, email: str) -> list[dict[str, Any]]:
    """The operations of somebody, from old to new."""
    with connect(stack.db_url) as db:
        rows = db.execute(
            "select o.id, o.operation_type, o.options from public.image_operations as o "
            "join public.profiles as p on p.id = o.user_id where p.email = %s order by o.created_at",
            [email],
        )
        return list(rows)


def test_nobody_pays_for_the_same_result_twice_by_accident(
    open_page: OpenPage, stack: StackStatus, worker: WorkerProcess, tmp_path: Path
) -> None:
    with Image.open(FLAT_ART) as art:
        art.resize((200, 200)).save(tmp_path / "small.png")
    page = open_page()
    email = sign_up(page)
    give_credits(stack, email, 8)
    upload(page, tmp_path / "small.png")
    open_picture(page, "small.png")
    start(page, "Remove background")
    expect(page.get_by_role("radio", name="Cut out")).to_be_checked()
    start_button(page).click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("“Remove background” with the same options was done already on “Original”.")
    keep_screenshot(page, "asked before paying again")
    question.get_by_role("button", name="Leave it").click()
    expect(question).to_have_count(0)
    expect(start_button(page)).to_be_focused()
    assert len(requests_of(stack, email)) == 1

    # Other options make another result of the same picture, and not one of the result.
    page.get_by_label("Enclosed areas").select_option("keep")
    expect(page.get_by_text("Works on: Original")).to_be_visible()
    start_button(page).click()
    expect(page.get_by_role("radio", name="Cut out")).to_have_count(2)
    page.get_by_role("button", name="Enlarge").click()
    page.get_by_role("radio", name="×2").check()
    expect(page.get_by_text("Works on: Cut out")).to_be_visible()
    start_button(page).click()
    expect(page.get_by_role("radio", name="Enlarged ×2")).to_be_checked()
    expect(page.get_by_text("Works on: Cut out")).to_be_visible()
    page.get_by_label("once more").check()
    expect(page.get_by_text("Works on: Enlarged ×2")).to_be_visible()
    keep_screenshot(page, "enlarge the enlarged")
    start_button(page).click()
    expect(page.get_by_role("radio", name="Enlarged ×2")).to_have_count(2)
    expect(page.get_by_label("once more")).not_to_be_checked()

    first, second, third, fourth = requests_of(stack, email)
    assert (first["options"], second["options"]) == ({}, {"holes": "keep"})
    assert third["options"] == {"scale": 2, "input": str(second["id"])}
    assert fourth["options"] == {"scale": 2, "input": str(third["id"])}


def test_a_text_becomes_a_picture(open_page: OpenPage, worker: WorkerProcess) -> None:
    page = open_page()
    sign_up(page)
    page.get_by_role("link", name="Lettering").click()
    page.get_by_label("Text").fill("Print <b>what</b> you love")
    page.get_by_label("Longest side").fill("512")
    page.get_by_label("Colour of my own").check()
    page.get_by_role("button", name="Start for 2 credits").click()
    expect(heading(page, "Print <b>what</b> you love.png")).to_be_visible()
    has_loaded(page, "Lettering")
    expect(page.get_by_text("You have no credits left.")).to_be_visible()


def test_a_photo_that_cannot_be_cut_out_costs_nothing(open_page: OpenPage, worker: WorkerProcess) -> None:
    page = open_page()
    sign_up(page)
    upload(page, PHOTO)
    open_picture(page, "photo.jpg")
    start(page, "Remove background")
    expect(page.get_by_text("Failed", exact=True)).to_be_visible()
    expect(page.get_by_text("credits returned")).to_be_visible()
    expect(balance(page)).to_have_text("2 credits")
    page.get_by_role("link", name="Credits", exact=True).click()
    expect(page.get_by_role("row").filter(has_text="Returned: Remove background")).to_contain_text("+1")


def test_a_second_tab_shows_what_the_first_one_starts(open_page: OpenPage, worker: WorkerProcess) -> None:
    page = open_page()
    sign_up(page)
    second = open_page(beside=page)
    expect(heading(second, "Pictures")).to_be_visible()
    upload(page, FLAT_ART)
    expect(second.get_by_role("link", name="flat-art.png")).to_be_visible()
    open_picture(page, "flat-art.png")
    start(page, "Remove background")
    expect(second.get_by_role("listitem").filter(has_text="flat-art.png")).to_contain_text("1 result")
    expect(balance(second)).to_have_text("1 credit")


def test_pictures_are_named_marked_and_deleted(open_page: OpenPage) -> None:
    page = open_page()
    sign_up(page)
    upload(page, PHOTO, FLAT_ART)
    page.get_by_role("button", name="Favourite: photo.jpg").click()
    page.get_by_role("button", name="Favourites").click()
    expect(page.get_by_role("link", name="flat-art.png")).to_have_count(0)
    open_picture(page, "photo.jpg")
    expect(page.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "true")
    page.locator("summary", has_text="More").click()
    page.get_by_role("textbox", name="Name").fill("Chelsea.jpg")
    page.get_by_role("button", name="Rename").click()
    expect(heading(page, "Chelsea.jpg")).to_be_visible()
    page.locator("summary", has_text="More").click()
    page.get_by_role("button", name="Delete this picture").click()
    page.get_by_role("button", name="Keep it").click()
    expect(heading(page, "Chelsea.jpg")).to_be_visible()
    page.locator("summary", has_text="More").click()
    page.get_by_role("button", name="Delete this picture").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(heading(page, "Pictures")).to_be_visible()
    expect(message(page)).to_contain_text(["Chelsea.jpg is deleted."])
    expect(page.get_by_role("link", name="flat-art.png")).to_be_visible()
    expect(page.get_by_role("link", name="Chelsea.jpg")).to_have_count(0)


def test_pictures_are_dropped_onto_the_page(open_page: OpenPage) -> None:
    page = open_page()
    sign_up(page)
    dropped = page.evaluate_handle(
        """async (bytes) => {
            const transfer = new DataTransfer();
            for (const name of ["left.jpg", "right.jpg"]) {
                transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
            }
            return transfer;
        }""",
        list(PHOTO.read_bytes()),
    )
    page.locator(".drop-zone").dispatch_event("drop", {"dataTransfer": dropped})
    expect(page.get_by_role("link", name="left.jpg")).to_be_visible()
    expect(page.get_by_role("link", name="right.jpg")).to_be_visible()


def test_many_pictures_come_page_by_page(open_page: OpenPage, stack: StackStatus) -> None:
    page = open_page()
    email = sign_up(page)
    name = "a-very-long-name-" * 10
    with connect(stack.db_url) as db:
        db.execute(
            "insert into public.images (user_id, original_filename) select p.id, %s || n from public.profiles as p,"
            " generate_series(1, 30) as n where p.email = %s",
            (name, email),
        )
    page.reload()
    pictures = page.locator(".grid > li")
    expect(pictures).to_have_count(24)
    page.get_by_role("button", name="Show more (6)").click()
    expect(pictures).to_have_count(30)
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)
    pictures.first.get_by_role("link").click()
    expect(heading(page, name)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_file_that_no_browser_shows_is_accepted_all_the_same(
    open_page: OpenPage, worker: WorkerProcess, tmp_path: Path
) -> None:
    poster = tmp_path / "poster.tiff"
    with Image.open(FLAT_ART) as art:
        art.resize((300, 300)).save(poster)
    page = open_page()
    sign_up(page)
    upload(page, poster)
    open_picture(page, "poster.tiff")
    expect(page.get_by_text("This file cannot be shown.")).to_be_visible()
    start(page, "Remove background")
    expect(page.get_by_role("radio", name="Cut out")).to_be_checked()
    has_loaded(page, "Cut out")


def test_an_original_of_vectors_is_shown(open_page: OpenPage, tmp_path: Path) -> None:
    logo = tmp_path / "logo.svg"
    logo.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"><circle r="90"/></svg>')
    page = open_page()
    sign_up(page)
    upload(page, logo)
    open_picture(page, "logo.svg")
    has_loaded(page, "Original")


def test_an_upload_shows_how_far_it_is_and_can_be_cancelled(open_page: OpenPage) -> None:
    page = open_page()
    sign_up(page)
    slow_line = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 10_000}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", slow_line)
    upload(page, PHOTO, FLAT_ART)
    bar = page.get_by_role("progressbar", name="Upload of photo.jpg")
    expect(bar).not_to_have_js_property("value", 0)
    assert bar.evaluate("bar => bar.value") < 1
    page.get_by_role("button", name="Cancel photo.jpg").click()
    page.get_by_role("button", name="Cancel flat-art.png").click()
    expect(page.get_by_role("list", name="Uploads")).to_have_count(0)
    page.reload()
    expect(page.get_by_text("No pictures yet.")).to_be_visible()


def test_the_account_is_edited_taken_along_and_deleted(
    open_page: OpenPage, stack: StackStatus, worker: WorkerProcess
) -> None:
    page = open_page()
    email = sign_up(page)
    upload(page, FLAT_ART)
    open_picture(page, "flat-art.png")
    start(page, "Remove background")
    expect(page.get_by_role("radio", name="Cut out")).to_be_checked()
    page.get_by_role("link", name="Account").click()
    page.get_by_label("Company").fill("Pine Ridge Outfitters")
    page.get_by_role("button", name="Save").click()
    expect(message(page)).to_contain_text(["Saved."])
    with page.expect_download() as download:
        page.get_by_role("button", name="Download everything").click()
    everything = json.loads(download.value.path().read_text())
    assert everything["profile"]["company"] == "Pine Ridge Outfitters"
    assert len(everything["images"]) == 1

    page.get_by_role("button", name="Delete this account").click()
    page.get_by_role("button", name="Delete everything").click()
    expect(page.get_by_label("Password")).to_be_visible()
    expect(message(page)).to_contain_text(["Your account is deleted."])
    with connect(stack.db_url) as db:
        assert db.execute("select from auth.users where email = %s", [email]).fetchall() == []
        folder = f"{everything['profile']['id']}/%"
        assert db.execute("select from storage.objects where name like %s", [folder]).fetchall() == []


def test_a_public_collection_is_seen_by_everybody_who_has_the_link(open_page: OpenPage, worker: WorkerProcess) -> None:
    page = open_page()
    sign_up(page)
    upload(page, FLAT_ART)
    open_picture(page, "flat-art.png")
    start(page, "Remove background")
    expect(page.get_by_role("radio", name="Cut out")).to_be_checked()
    page.get_by_role("button", name="Choose for print").click()
    page.locator("summary", has_text="Collections").click()
    page.get_by_label("New collection").fill("Spring order")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("checkbox", name="Spring order")).to_be_checked()
    page.get_by_role("link", name="Collections").click()
    page.get_by_role("link", name="Spring order").click()
    expect(heading(page, "Spring order")).to_be_visible()
    link = page.url

    visitor = open_page("#" + link.partition("#")[2])
    expect(heading(visitor, "No such collection")).to_be_visible()
    page.get_by_role("switch").check()
    expect(page.get_by_role("button", name="Copy the link")).to_be_visible()
    visitor.reload()
    expect(heading(visitor, "Spring order")).to_be_visible()
    expect(visitor.get_by_text("flat-art.png")).to_be_visible()
    assert visitor.locator(".thumbnail img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    with visitor.context.expect_page() as print_file:
        visitor.get_by_role("link", name="Print file").click()
    expect(print_file.value).to_have_url(re.compile("/storage/v1/object/sign/results/"))
    keep_screenshot(visitor, "public-collection")

    page.get_by_role("switch").uncheck()
    expect(page.get_by_role("button", name="Copy the link")).to_be_hidden()
    visitor.reload()
    expect(heading(visitor, "No such collection")).to_be_visible()
