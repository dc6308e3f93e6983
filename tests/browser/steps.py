"""What people do on the page, as they would say it."""

import re
import uuid
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from cli.demo import SAMPLES
from local.stack import StackStatus
from tests.e2e.people import PASSWORD, operator

PHOTO = SAMPLES / "photo.jpg"
FLAT_ART = SAMPLES / "flat-art.png"


def sign_up(page: Page) -> str:
    """Make an account in the form; returns its address."""
    email = f"{uuid.uuid4().hex}@example.com"
    page.get_by_role("button", name="New here").click()
    enter(page, email)
    expect(heading(page, "Pictures")).to_be_visible()
    return email


def enter(page: Page, email: str, password: str = PASSWORD) -> None:
    """Fill in the form of the entrance and send it."""
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_label("Password").press("Enter")


def give_credits(stack: StackStatus, email: str, amount: int) -> None:
    api = operator(stack)
    row = api.table("profiles").select("id").eq("email", email).single().execute().data
    arguments = {"p_user_id": row["id"], "p_amount": amount, "p_transaction_type": "bonus"}  # type: ignore[call-overload, index]
    api.rpc("add_user_credits", arguments).execute()


def upload(page: Page, *files: Path) -> None:
    page.get_by_label("Drop pictures here").set_input_files(list(files))


def open_picture(page: Page, name: str) -> None:
    page.get_by_role("link", name=name).click()
    expect(heading(page, name)).to_be_visible()


def start(page: Page, operation: str) -> None:
    """Choose an operation on the open picture and start it with its standard options."""
    page.get_by_role("button", name=operation).first.click()
    start_button(page).click()


def start_button(page: Page) -> Locator:
    """The button that starts an operation, once it takes clicks: what was started before has been told to the page."""
    button = page.get_by_role("button", name=re.compile("^Start for"))
    expect(button).not_to_have_attribute("aria-busy", "true")
    return button


def heading(page: Page, name: str) -> Locator:
    return page.get_by_role("heading", level=1, name=name)


def balance(page: Page) -> Locator:
    return page.locator(".balance")


def message(page: Page) -> Locator:
    return page.locator(".message")


def expire_token(page: Page) -> None:
    """The browser's token has run out: the next call renews it first."""
    page.evaluate(
        """() => {
            const key = Object.keys(localStorage).find((name) => name.endsWith("-auth-token"));
            const session = JSON.parse(localStorage[key]);
            localStorage[key] = JSON.stringify({ ...session, expires_at: 1 });
        }"""
    )
