"""The browser that the tests drive: the Chromium of an npm package, or the one that $BROWSER_EXECUTABLE names."""

import os
from pathlib import Path

from playwright.sync_api import Browser, Playwright

from cli.local.stack import PROJECT
from tests.node import run_node

HOME = PROJECT / ".dtf" / "browser"
# The package's own switches are for AWS Lambda and turn the same-origin policy off; these are all that is needed.
# Without the sandbox it runs as root and inside containers; it only ever opens pages of the test stack.
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
# With one font the pages look the same on every machine.
FONTS = f"""<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{HOME / "fonts" / "fonts"}</dir><cachedir>{HOME / "font-cache"}</cachedir></fontconfig>
"""


def launch(playwright: Playwright) -> Browser:
    """A headless browser. It is unpacked once; nothing is downloaded or installed."""
    named = os.environ.get("BROWSER_EXECUTABLE")
    return playwright.chromium.launch(
        executable_path=named or unpacked(),
        args=SWITCHES,
        env=None if named else {**os.environ, **surroundings()},
    )


def unpacked() -> Path:
    """The executable of the package, with the libraries and the font that a bare machine lacks beside it."""
    ready = HOME / "ready"
    if not ready.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        done = run_node(Path(__file__).with_name("unpack.mjs"), TMPDIR=str(HOME))
        assert done.returncode == 0, done.stderr
        (HOME / "fonts.conf").write_text(FONTS)
        ready.touch()
    return HOME / "chromium"


def surroundings() -> dict[str, str]:
    """Libraries and fonts where the machine has none; its own libraries come first, because they are newer."""
    libraries = [os.environ.get("LD_LIBRARY_PATH"), str(HOME / "al2023" / "lib")]
    return {
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        "FONTCONFIG_FILE": str(HOME / "fonts.conf"),
    }
