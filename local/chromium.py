"""The browser that takes pictures of mails and that tests drive: the Chromium of an npm package, or the one that
$BROWSER_EXECUTABLE names.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

from playwright.sync_api import Browser, Error, sync_playwright

from local.environment import NO_HOME, own
from local.errors import StackError
from local.gateway import node_environment
from local.packages import NODE
from local.stack import PROJECT

HOME = PROJECT / ".dtf" / "browser"
UNPACK_SECONDS = 120
# The package's own switches are for AWS Lambda and turn the same-origin policy off; these are all that is needed.
# Without the sandbox it runs as root and inside containers; it only ever opens pages of this machine.
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
# With one font the pages look the same on every machine.
FONTS = f"""<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{escape(str(HOME / "fonts" / "fonts"))}</dir><cachedir>{escape(str(HOME / "font-cache"))}</cachedir>
</fontconfig>
"""


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless browser while the block runs. It is unpacked once; nothing is downloaded or installed.

    Raises StackError.
    """
    named = os.environ.get("BROWSER_EXECUTABLE")
    executable = named or unpacked()
    # Playwright's own Node needs a library (libatomic) that a bare machine lacks.
    os.environ.setdefault("PLAYWRIGHT_NODEJS_PATH", str(NODE))
    os.environ.setdefault("HOME", NO_HOME)
    with sync_playwright() as playwright:
        try:
            own = playwright.chromium.launch(
                executable_path=executable,
                args=SWITCHES,
                env=None if named else {**os.environ, **surroundings()},
            )
        except Error as error:
            raise StackError(
                f"Chromium does not start here: {error.message.splitlines()[0]} Name another with BROWSER_EXECUTABLE."
            ) from error
        yield own
        own.close()


def unpacked() -> Path:
    """The executable of the package, with the libraries and the font that a bare machine lacks beside it."""
    HOME.parent.mkdir(exist_ok=True, mode=0o700)
    with HOME.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not HOME.exists():
            _unpack(HOME.with_suffix(".new"))
        (HOME / "fonts.conf").write_text(FONTS, "utf-8")  # a checkout may be moved
    return HOME / "chromium"


def _unpack(draft: Path) -> None:
    """Unpack into `draft` and move that into place, so that what is there is whole."""
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    done = subprocess.run(
        [str(NODE), str(Path(__file__).with_name("unpack.mjs"))],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=UNPACK_SECONDS,
        env=own(**node_environment(), TMPDIR=str(draft)),
    )
    if done.returncode != 0:
        raise StackError(f"Chromium could not be unpacked: {done.stderr.strip()}")
    draft.replace(HOME)


def surroundings() -> dict[str, str]:
    """Libraries and fonts where the machine has none; its own libraries come first, because they are newer."""
    libraries = [os.environ.get("LD_LIBRARY_PATH"), str(HOME / "al2023" / "lib")]
    return {
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        "FONTCONFIG_FILE": str(HOME / "fonts.conf"),
    }
