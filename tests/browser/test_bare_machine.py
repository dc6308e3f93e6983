"""What a machine that has nothing else lacks, and the browser needs."""

import psutil
from playwright.sync_api import Browser

from local.packages import NODE


def test_the_browser_is_driven_by_the_node_that_is_installed_here(browser: Browser) -> None:
    assert browser.is_connected()
    assert str(NODE) in {child.exe() for child in psutil.Process().children()}, "playwright's own needs libatomic"
