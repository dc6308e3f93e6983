"""A kind of operation that nobody has heard of: one row and one engine take it from the page to the figures."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from psycopg.types.json import Jsonb

from local.stack import StackStatus
from tests.browser.conftest import OpenPage, keep_screenshot
from tests.browser.steps import FLAT_ART, balance, give_credits, open_picture, sign_up, start_button, upload
from tests.database.personas import Connection, connect
from tests.e2e.worker_process import WorkerProcess

OPTIONS = [
    {"name": "input", "label": "Works on", "type": "operation", "default": None},
    {
        "name": "film",
        "label": "Film",
        "type": "choice",
        "choices": ["colour", "grey"],
        "words": ["Colour film", "Grey film"],
        "default": "colour",
    },
]


@pytest.fixture
def db(stack: StackStatus) -> Iterator[Connection]:
    with connect(stack.db_url) as db:
        yield db


@pytest.fixture
def kind(db: Connection) -> Iterator[None]:
    """The whole of what a new kind takes, besides its engine."""
    db.execute(
        "insert into public.operation_types"
        " (name, title, activity, result_title, description, works_on, credits, surcharges, options)"
        " values ('negative', 'Negative', 'Developing', '{film} negative', 'Turns the colours round.', 'image', 2,"
        """ '{"film": {"grey": 1}}', %s)""",
        [Jsonb(OPTIONS)],
    )
    yield
    db.execute("delete from public.image_operations where operation_type = 'negative'")
    db.execute("delete from public.operation_types where name = 'negative'")


@pytest.fixture
def made_up_worker(
    stack: StackStatus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: None
) -> Iterator[WorkerProcess]:
    """A worker that has the engine beside those that came with it."""
    monkeypatch.setenv("ENGINE_CLASSES", "tests.services.made_up_engine:Negative")
    worker = WorkerProcess(stack, tmp_path / "worker.log", real=True)
    yield worker
    worker.signal(15)
    worker.wait(30)


def test_a_new_kind_takes_a_row_and_an_engine(
    open_page: OpenPage, stack: StackStatus, db: Connection, made_up_worker: WorkerProcess
) -> None:
    page = open_page()
    email = sign_up(page)
    give_credits(stack, email, 10)
    upload(page, FLAT_ART)
    open_picture(page, "flat-art.png")

    # The page: words, form, price with its surcharge, request, result.
    page.get_by_role("button", name="Negative").click()
    expect(page.get_by_text("Turns the colours round.")).to_be_visible()
    expect(start_button(page)).to_have_text("Start for 2 credits")
    keep_screenshot(page, "a made-up kind")
    start_button(page).click()
    expect(page.get_by_role("radio", name="Colour film negative")).to_be_checked()
    expect(balance(page)).to_have_text("10 credits")

    # A failure: what it cost comes back, and a mail says so in the row's words.
    page.get_by_label("Film", exact=True).select_option("grey")
    expect(start_button(page)).to_have_text("Start for 3 credits")
    start_button(page).click()
    expect(page.get_by_text("There is no grey film left. Choose colour.")).to_be_visible()
    expect(balance(page)).to_have_text("10 credits")
    mail = db.execute(
        "select l.data from public.email_logs as l"
        " join public.email_templates as t on t.id = l.template_id and t.type = 'operation_failed'"
        " join public.profiles as p on p.id = l.user_id where p.email = %s",
        [email],
    ).fetchone()
    assert mail is not None
    assert (mail["data"]["operation"], mail["data"]["credits"]) == ("Developing", "3 credits")

    # The ledger and the figures know it.
    page.get_by_role("link", name="Credits", exact=True).click()
    expect(page.get_by_role("cell", name="Returned: Negative")).to_be_visible()
    engines = db.execute("select * from public.stats_engines()").fetchall()
    assert "made_up" in {row["api_provider"] for row in engines}

    # Switched off, it is not offered, and what was done with it stays, under a plain name.
    db.execute("update public.operation_types set is_active = false where name = 'negative'")
    page.get_by_role("link", name="Pictures").click()
    open_picture(page, "flat-art.png")
    expect(page.get_by_role("radio", name="Negative")).to_be_checked()
    expect(page.get_by_role("button", name="Negative")).to_have_count(0)
    expect(page.locator(".history").get_by_text("Negative")).to_have_count(2)
