"""Realtime lost and back, the network lost and back, the server lost and back: the page says so and catches up."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from local.stack import Stack, StackStatus
from tests.browser.conftest import OpenPage
from tests.browser.steps import PHOTO, balance, give_credits, heading, message, open_picture, sign_up, start, upload
from tests.e2e.people import PASSWORD, Person, client
from tests.e2e.worker_process import WorkerProcess, until

MANY = 200
PAUSED = "Live updates are paused."


@pytest.fixture
def quick_worker(stack: StackStatus, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker whose engine returns its input, so that only what lies between counts."""
    worker = WorkerProcess(stack, tmp_path / "worker.log", real=False, CONCURRENCY=2)
    yield worker
    worker.signal(15)
    worker.wait(30)


@pytest.fixture
def realtime_comes_back(local_stack: Stack) -> Iterator[None]:
    """However a test ends, the next one finds Realtime running."""
    yield
    if not local_stack.realtime.running():
        local_stack.realtime.start()


def sign_in(stack: StackStatus, email: str) -> Person:
    """The user of a window, on another device."""
    api = client(stack, stack.publishable_key)
    user = api.auth.sign_in_with_password({"email": email, "password": PASSWORD}).user
    assert user is not None
    return Person(user.id, email, api)


def rows_of(person: Person) -> list[dict[str, Any]]:
    """The operations of a person."""
    rows: Any = person.api.table("image_operations").select("status,attempts,credits_refunded").execute().data
    return list(rows)


def is_live(page: Page) -> None:
    """Wait until the page listens: joining takes a moment after it was drawn."""
    expect(page.locator("html")).to_have_attribute("data-updates", "live")


def test_a_change_on_another_device_shows_at_once(open_page: OpenPage, stack: StackStatus) -> None:
    page = open_page()
    other = sign_in(stack, sign_up(page))
    is_live(page)
    other.upload("from-the-phone.jpg", PHOTO.read_bytes(), "image/jpeg")
    started = time.monotonic()
    expect(page.get_by_role("link", name="from-the-phone.jpg")).to_be_visible()
    # The timer alone looks every 20 seconds.
    assert time.monotonic() - started < 10


def test_with_realtime_lost_and_back_the_page_goes_on(
    open_page: OpenPage,
    local_stack: Stack,
    stack: StackStatus,
    quick_worker: WorkerProcess,
    realtime_comes_back: None,
) -> None:
    page = open_page()
    other = sign_in(stack, sign_up(page))
    is_live(page)
    local_stack.realtime.stop()
    expect(page.get_by_text(PAUSED)).to_be_visible()
    image = other.upload("while-it-was-away.jpg", PHOTO.read_bytes(), "image/jpeg")
    other.request(image, "upscale")
    expect(page.get_by_role("listitem").filter(has_text="while-it-was-away.jpg")).to_contain_text("1 result")
    expect(balance(page)).to_have_text("1 credit")
    local_stack.realtime.start()
    is_live(page)
    expect(page.get_by_text(PAUSED)).to_be_hidden()


def test_realtime_killed_in_the_middle_of_many_operations_each_is_done_once_and_the_page_catches_up(
    open_page: OpenPage,
    local_stack: Stack,
    stack: StackStatus,
    quick_worker: WorkerProcess,
    realtime_comes_back: None,
) -> None:
    page = open_page()
    email = sign_up(page)
    other = sign_in(stack, email)
    give_credits(stack, email, MANY)
    image = other.upload("many.jpg", PHOTO.read_bytes(), "image/jpeg")
    open_picture(page, "many.jpg")
    is_live(page)
    operations = [other.request(image, "upscale")["id"] for _ in range(MANY // 2)]
    for process in local_stack.realtime.processes():
        process.kill()
    operations += [other.request(image, "upscale")["id"] for _ in range(MANY // 2)]
    until(lambda: {row["status"] for row in rows_of(other)} == {"completed"}, 120)
    done = rows_of(other)
    assert len(done) == len(set(operations)) == MANY
    assert {(row["attempts"], row["credits_refunded"]) for row in done} == {(1, 0)}
    expect(page.get_by_text("Done", exact=True)).to_have_count(MANY)
    expect(page.locator(".in-work")).to_be_hidden()
    expect(balance(page)).to_have_text("2 credits")


def test_offline_the_page_says_so_and_goes_on_afterwards(open_page: OpenPage) -> None:
    page = open_page()
    sign_up(page)
    upload(page, PHOTO)
    open_picture(page, "photo.jpg")
    page.context.set_offline(True)
    expect(page.get_by_text("You are offline.")).to_be_visible()
    start(page, "Enlarge")
    expect(message(page).last).to_contain_text("The server cannot be reached.")
    expect(heading(page, "photo.jpg")).to_be_visible()
    page.get_by_role("link", name="Credits", exact=True).click()
    expect(heading(page, "This did not work")).to_be_visible()
    page.go_back()
    page.context.set_offline(False)
    expect(page.get_by_text("You are offline.")).to_be_hidden()
    expect(heading(page, "photo.jpg")).to_be_visible()
    start(page, "Enlarge")
    expect(page.get_by_text("Waiting", exact=True)).to_have_count(1)
    expect(balance(page)).to_have_text("1 credit")


def test_an_upload_that_was_cut_off_is_tried_again(open_page: OpenPage) -> None:
    page = open_page()
    sign_up(page)
    page.context.set_offline(True)
    upload(page, PHOTO)
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached.")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("link", name="photo.jpg")).to_be_visible()


def test_the_page_waits_for_a_server_that_is_restarted(
    open_page: OpenPage, local_stack: Stack, stack: StackStatus
) -> None:
    page = open_page()
    sign_up(page)
    upload(page, PHOTO)
    expect(page.get_by_role("link", name="photo.jpg")).to_be_visible()
    local_stack.gateway.stop()
    expect(page.get_by_text("The server cannot be reached. Trying again")).to_be_visible(timeout=40_000)
    expect(page.get_by_role("link", name="photo.jpg")).to_be_visible()
    local_stack.gateway.start(local_stack.state.api_port)
    expect(page.get_by_text("The server cannot be reached.")).to_be_hidden()
    is_live(page)
