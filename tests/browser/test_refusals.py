"""What the page says when something cannot be, and that nothing is lost by it. No worker runs here."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Request, Route, expect
from psycopg.types.json import Jsonb

from local.stack import StackStatus
from tests.browser.conftest import OpenPage, keep_screenshot
from tests.browser.steps import (
    FLAT_ART,
    PHOTO,
    balance,
    enter,
    expire_token,
    heading,
    message,
    open_picture,
    sign_up,
    start,
    start_button,
    upload,
)
from tests.database.personas import connect
from tests.e2e.people import operator

# The page knows the limits of the bucket; without them the server has to refuse.
FORGET_LIMITS = """
    import("/supabase.js").then(({ UPLOAD }) => {
        UPLOAD.bytes = 1e12;
        UPLOAD.types.push("text/plain");
    })
"""


@pytest.fixture
def too_large(tmp_path: Path) -> Path:
    """A file of more than the bucket takes."""
    path = tmp_path / "poster.png"
    with path.open("wb") as file:
        file.truncate(55 * 1024 * 1024)
    return path


@pytest.fixture
def not_a_picture(tmp_path: Path) -> Path:
    path = tmp_path / "notes.txt"
    path.write_text("Not a picture.")
    return path


def is_upload(request: Request) -> bool:
    return request.method == "POST" and "/storage/v1/object/originals" in request.url


def test_a_file_that_is_too_large_or_no_picture_is_refused_before_it_travels(
    open_page: OpenPage, too_large: Path, not_a_picture: Path
) -> None:
    page = open_page()
    sign_up(page)
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if is_upload(request) else None)
    upload(page, too_large, not_a_picture, PHOTO)
    uploads = page.get_by_role("list", name="Uploads").get_by_role("listitem")
    expect(page.get_by_role("link", name="photo.jpg")).to_be_visible()
    expect(uploads).to_contain_text(["Too large: 55 MB. The limit is 50 MB.", "Not a picture that can be printed."])
    assert len(sent) == 1
    uploads.first.get_by_role("button", name="Remove poster.png").click()
    expect(uploads).to_have_count(1)


def test_a_file_that_the_server_refuses_leaves_no_picture(
    open_page: OpenPage, too_large: Path, not_a_picture: Path
) -> None:
    page = open_page()
    sign_up(page)
    page.evaluate(FORGET_LIMITS)
    upload(page, not_a_picture, too_large)
    refusals = page.get_by_role("list", name="Uploads").get_by_role("alert")
    expect(refusals).to_contain_text(["mime type text/plain is not supported", "exceed"])
    page.reload()
    expect(page.get_by_text("No pictures yet.")).to_be_visible()


def test_whoever_has_no_room_is_told_why_and_how_much_he_uses(open_page: OpenPage, stack: StackStatus) -> None:
    page = open_page()
    email = sign_up(page)
    page.get_by_role("link", name="Account").click()
    expect(page.get_by_text("Your uploads take nothing of 2 GB.")).to_be_visible()
    with connect(stack.db_url) as db:
        db.execute(
            "insert into storage.objects (bucket_id, name, metadata)"
            " select 'originals', id || '/poster.tiff', %s from auth.users where email = %s",
            [Jsonb({"size": 2 * 1024**3 - 1024}), email],
        )
    page.get_by_role("link", name="Pictures").click()
    upload(page, PHOTO)
    refusal = page.get_by_role("list", name="Uploads").get_by_role("alert")
    expect(refusal).to_contain_text("There is no room for this file: 2 of your 2 GB are in use. Delete pictures")
    page.get_by_role("link", name="Account").click()
    expect(page.get_by_text("Your uploads take 2 GB of 2 GB.")).to_be_visible()


def test_whoever_has_too_few_credits_is_told_before_and_after(open_page: OpenPage) -> None:
    page = open_page()
    sign_up(page)
    upload(page, PHOTO)
    open_picture(page, "photo.jpg")
    start(page, "Enlarge")
    expect(page.get_by_text("You have only 1 credit left.")).to_be_visible()
    page.get_by_role("button", name="Vectorize").click()
    expect(page.get_by_text("This takes 2 credits; you have 1.")).to_be_visible()
    page.get_by_role("button", name="Start for 2 credits").click()
    expect(message(page).last).to_contain_text("Insufficient credits. Required: 2, Available: 1")
    expect(balance(page)).to_have_text("1 credit")
    message(page).last.get_by_role("link", name="Get credits").click()
    expect(heading(page, "Credits")).to_be_visible()
    expect(page.get_by_text("Buying is not set up on this server yet.")).to_be_visible()


def test_waiting_work_can_be_cancelled(open_page: OpenPage) -> None:
    page = open_page()
    sign_up(page)
    upload(page, PHOTO)
    open_picture(page, "photo.jpg")
    start(page, "Enlarge")
    expect(page.get_by_text("1 in work")).to_be_visible()
    expect(balance(page)).to_have_text("1 credit")
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_text("Cancelled", exact=True)).to_be_visible()
    expect(balance(page)).to_have_text("2 credits")
    expect(page.get_by_text("1 in work")).to_be_hidden()


def test_a_request_whose_answer_got_lost_is_charged_once(open_page: OpenPage) -> None:
    page = open_page()
    sign_up(page)
    upload(page, PHOTO)
    open_picture(page, "photo.jpg")

    def lose_the_answer(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/rpc/request_image_operation", lose_the_answer, times=1)
    start(page, "Enlarge")
    expect(message(page).last).to_contain_text("The server cannot be reached.")
    start(page, "Enlarge")
    expect(message(page).last).to_contain_text("Enlarge: requested.")
    expect(page.get_by_text("Waiting", exact=True)).to_have_count(1)
    expect(balance(page)).to_have_text("1 credit")


def test_what_one_user_could_not_upload_the_next_one_does_not_see(open_page: OpenPage, not_a_picture: Path) -> None:
    page = open_page()
    sign_up(page)
    upload(page, not_a_picture)
    expect(page.get_by_text("notes.txt")).to_be_visible()
    page.get_by_role("button", name="Sign out").first.click()
    sign_up(page)
    expect(page.get_by_text("No pictures yet.")).to_be_visible()
    expect(page.get_by_text("notes.txt")).to_be_hidden()


def test_a_strangers_deep_link_shows_nothing(open_page: OpenPage) -> None:
    owner = open_page()
    email = sign_up(owner)
    upload(owner, FLAT_ART)
    open_picture(owner, "flat-art.png")
    link = "#" + owner.url.partition("#")[2]

    stranger = open_page()
    sign_up(stranger)
    stranger.goto(f"/{link}")
    expect(heading(stranger, "No such picture")).to_be_visible()
    assert "flat-art" not in stranger.content()

    # Signed out it leads to the entrance, and from there, with the right account, to the picture.
    visitor = open_page(link)
    expect(visitor.get_by_role("heading", name="Sign in")).to_be_visible()
    enter(visitor, email)
    expect(heading(visitor, "flat-art.png")).to_be_visible()

    for path in ("no/such/view", "pictures/7", "collections/7"):
        visitor.goto("/")
        expect(heading(visitor, "Pictures")).to_be_visible()
        visitor.goto(f"/#/{path}")
        expect(heading(visitor, "There is nothing here")).to_be_visible()


def test_the_entrance_says_what_is_wrong(open_page: OpenPage) -> None:
    page = open_page()
    email = sign_up(page)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="New here").click()
    enter(page, email)
    expect(page.get_by_role("alert")).to_contain_text("already registered")
    page.get_by_role("button", name="I have an account").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    enter(page, email, "a wrong password")
    expect(page.get_by_role("alert")).to_contain_text("Invalid login credentials")
    enter(page, email)
    expect(heading(page, "Pictures")).to_be_visible()


def test_a_deactivated_account_looks_but_starts_nothing(open_page: OpenPage, stack: StackStatus) -> None:
    page = open_page()
    email = sign_up(page)
    upload(page, PHOTO)
    open_picture(page, "photo.jpg")
    operator(stack).table("profiles").update({"is_active": False}).eq("email", email).execute()
    start(page, "Enlarge")
    expect(message(page).last).to_contain_text("This account is deactivated")
    expect(balance(page)).to_have_text("2 credits")
    page.get_by_role("link", name="Account").click()
    page.get_by_role("switch", name="News and offers").click()
    expect(message(page).last).to_contain_text("deactivated and cannot be changed")
    expect(page.get_by_role("switch", name="News and offers")).to_be_checked()


def end_session(page: Page, stack: StackStatus, email: str) -> None:
    """The session ends on the server, and the browser's token with it."""
    with connect(stack.db_url) as connection:
        connection.execute(
            "delete from auth.sessions where user_id = (select id from auth.users where email = %s)", [email]
        )
    expire_token(page)


def test_when_the_session_ends_the_page_says_so_and_leads_back(open_page: OpenPage, stack: StackStatus) -> None:
    page = open_page()
    email = sign_up(page)
    upload(page, PHOTO)
    open_picture(page, "photo.jpg")
    end_session(page, stack, email)
    page.evaluate("dispatchEvent(new Event('focus'))")  # coming back to the tab
    expect(message(page).last).to_contain_text("Your session has ended. Sign in again to go on.")
    enter(page, email)
    expect(heading(page, "photo.jpg")).to_be_visible()
    page.get_by_role("button", name="Favourite").click()
    expect(page.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "true")


def test_signing_out_in_one_tab_signs_out_in_the_other(open_page: OpenPage) -> None:
    page = open_page()
    sign_up(page)
    second = open_page("#/credits", beside=page)
    expect(heading(second, "Credits")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(second.get_by_label("Password")).to_be_visible()
    assert "credits left" not in second.content()


def lettering_options(page: Page) -> Any:
    """What the form on the page asks for."""
    with page.expect_request("**/rpc/request_image_operation") as request:
        start_button(page).click()
    body: Any = request.value.post_data_json
    return body["p_options"]


def test_what_is_entered_is_what_is_asked_for(open_page: OpenPage) -> None:
    page = open_page()
    sign_up(page)
    page.goto("/#/lettering")
    color = page.locator('input[type="color"]')
    page.get_by_label("Text").fill("auto")
    color.fill("#1144cc")
    keep_screenshot(page, "lettering in a colour")
    page.route("**/rpc/request_image_operation", lambda route: route.abort())
    assert lettering_options(page) == {"prompt": "auto", "color": "#1144cc"}
    page.get_by_label("Colour of my own").uncheck()
    assert lettering_options(page) == {"prompt": "auto"}
    # Nobody can pick the colour that is shown already otherwise.
    color.press("Enter")
    assert lettering_options(page) == {"prompt": "auto", "color": "#1144cc"}


def test_a_result_that_is_awaited_is_not_paid_for_again_by_accident(open_page: OpenPage) -> None:
    page = open_page()
    sign_up(page)
    upload(page, PHOTO)
    open_picture(page, "photo.jpg")
    start(page, "Enlarge")
    expect(page.get_by_text("Waiting", exact=True)).to_have_count(1)
    start_button(page).click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("is at work already")
    question.get_by_role("button", name="Leave it").click()
    expect(balance(page)).to_have_text("1 credit")
    start_button(page).click()
    question.get_by_role("button", name="Pay again").click()
    expect(page.get_by_text("Waiting", exact=True)).to_have_count(2)


def test_the_limits_and_options_of_the_page_are_those_of_the_database(open_page: OpenPage, stack: StackStatus) -> None:
    page = open_page()
    limits: dict[str, Any] = page.evaluate("import('/supabase.js').then(({ UPLOAD }) => UPLOAD)")
    with connect(stack.db_url) as db:
        bucket = db.execute("select * from storage.buckets where id = 'originals'").fetchone()
        kinds = db.execute("select * from public.operation_types order by sort_order").fetchall()
    assert bucket is not None
    assert limits == {"bytes": bucket["file_size_limit"], "types": bucket["allowed_mime_types"]}

    sign_up(page)
    upload(page, PHOTO)
    open_picture(page, "photo.jpg")
    for kind in sorted(kinds, key=lambda kind: str(kind["works_on"])):  # those of the picture first
        if kind["works_on"] == "nothing":
            page.goto("/#/lettering")
        else:
            page.get_by_role("button", name=kind["title"]).first.click()
        expect(page.get_by_text(kind["description"])).to_be_visible()
        shown = {option["name"]: option for option in kind["options"] if option["type"] != "operation"}
        assert fields(page) == {name: expected(option) for name, option in shown.items()}


def fields(page: Page) -> dict[str, Any]:
    """What the form on the page lets through: all values of a choice, the ends of a range, the length of a text."""
    found: dict[str, Any] = page.locator("main form:has(button.primary)").last.evaluate(
        """(form) => {
            const found = {};
            for (const field of form.querySelectorAll("[name]:not([name^=own-])")) {
                if (field.type === "radio") (found[field.name] ??= []).push(field.value);
                else if (field.localName === "select") found[field.name] = [...field].map(({ value }) => value);
                else if (field.type === "number") found[field.name] = [Number(field.min), Number(field.max)];
                else found[field.name] = field.localName === "textarea" ? field.maxLength : field.type;
            }
            return found;
        }"""
    )
    return found


def expected(option: dict[str, Any]) -> Any:
    """The same by the option's rule."""
    match option["type"]:
        case "choice":
            return [str(choice) for choice in option["choices"]]
        case "integer" | "number":
            return [option["minimum"], option["maximum"]]
        case "text":
            return option["maximum"]
        case "color":
            return "color"
        case "boolean":
            return "checkbox"
        case kind:
            raise ValueError(f"no kind on the page has an option of the type {kind}")
