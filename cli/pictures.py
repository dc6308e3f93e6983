"""Pictures of mails, as mail programs show them: in a window or on a phone, light or dark."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Error, Route

from cli.errors import CommandError
from local.chromium import browser

SCALE = 2
"""Device pixels per CSS pixel."""

TRIES = 5
PAUSE_SECONDS = 0.5
"""How often a picture is tried, and the pause in between."""


@dataclass(frozen=True, slots=True)
class View:
    """A way to look at a mail; `width` in CSS pixels."""

    name: str
    width: int
    is_dark: bool = False


LIGHT = View("light", 680)
DARK = View("dark", 680, is_dark=True)
PHONE = View("phone", 375)
VIEWS = (LIGHT, DARK, PHONE)


class Camera:
    """Takes pictures with one browser."""

    def __init__(self, own: Browser) -> None:
        self._browser = own

    def take(self, html: str, view: View, path: Path) -> None:
        """Write a PNG of the whole mail. Nothing is fetched and no script runs, as in most mail programs.

        Raises CommandError.
        """
        context = self._browser.new_context(
            viewport={"width": view.width, "height": 400},
            color_scheme="dark" if view.is_dark else "light",
            device_scale_factor=SCALE,
            java_script_enabled=False,
            offline=True,
        )
        page = context.new_page()
        page.route("**/*", _refuse)
        page.set_content(html, wait_until="load")
        for attempt in range(1, TRIES + 1):
            try:
                page.screenshot(path=path, full_page=True)
                break
            except Error as error:  # on a busy machine a browser that has only just started may have no frame yet
                if attempt == TRIES:
                    raise CommandError(
                        f"Chromium took no picture: {error.message.splitlines()[0]} Try again in a moment."
                    ) from error
                time.sleep(PAUSE_SECONDS)
        context.close()


def _refuse(route: Route) -> None:
    route.abort()


@contextmanager
def camera() -> Iterator[Camera]:
    """A camera with a browser of its own while the block runs. Raises CommandError and StackError."""
    with browser() as own:
        yield Camera(own)
