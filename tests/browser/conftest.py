"""A browser, and windows of it that keep what they see: an error of a script fails the test."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from local import chromium
from local.stack import PROJECT, StackStatus
from tests.database.personas import connect
from tests.e2e.worker_process import WorkerProcess

SCREENSHOTS = PROJECT / "screenshots"
WAIT_MS = 20_000
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

OpenPage = Callable[..., Page]


# Playwright's loop may not run while other tests call asyncio.run, so it ends with this package.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=WAIT_MS)
    with chromium.browser() as started:
        yield started


@pytest.fixture(scope="module")
def worker(stack: StackStatus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker with the real engines, while the tests of a module run."""
    worker = WorkerProcess(stack, tmp_path_factory.mktemp("worker") / "worker.log", real=True, CONCURRENCY=2)
    yield worker
    worker.signal(15)
    worker.wait(30)


@pytest.fixture(autouse=True)
def no_work_is_left(stack: StackStatus) -> Iterator[None]:
    """What a test left waiting, the worker of the next one would take."""
    yield
    with connect(stack.db_url) as db:
        db.execute("delete from public.image_operations where status in ('pending', 'processing')")


@pytest.fixture
def open_page(browser: Browser, stack: StackStatus, request: pytest.FixtureRequest) -> Iterator[OpenPage]:
    """Opens windows of separate people: open_page("#/credits", color_scheme="dark"), or another tab of `beside`."""
    contexts: list[BrowserContext] = []
    script_errors: list[str] = []

    def open_page(path: str = "", *, beside: Page | None = None, **settings: Any) -> Page:
        if beside is None:
            contexts.append(browser.new_context(base_url=stack.web_url, accept_downloads=True, **settings))
        page = (beside.context if beside else contexts[-1]).new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: script_errors.append(str(error)))
        page.on("console", lambda message: script_errors.extend(policy_violations(message.text)))
        page.goto(f"/{path}")
        return page

    yield open_page
    name = re.sub(r"\W+", "-", request.node.name)
    for number, page in enumerate(page for context in contexts for page in context.pages):
        keep_screenshot(page, f"{name}-{number}")
    for context in contexts:
        context.close()
    assert script_errors == []


def policy_violations(text: str) -> list[str]:
    return [text] if "Content Security Policy" in text else []


def keep_screenshot(page: Page, name: str) -> Path:
    """What the window shows, in screenshots/."""
    SCREENSHOTS.mkdir(exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path)
    return path
