"""What the manual (the README and docs/) tells to type, and its way to sell without a Stripe account."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from local.stack import PROJECT, Stack
from local.state import free_port
from tests.database.personas import connect
from tests.e2e.worker_process import until

SECTION = "## Without a Stripe account"
CATALOGUE = ("subscription_plans", "pay_as_you_go_packages")


def manual() -> str:
    """The README and the pages that it leads to."""
    pages = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
    return "\n".join(page.read_text() for page in pages)


def snippets(section: str, language: str) -> list[str]:
    """The pieces of code in a section of the manual."""
    text = manual().split(f"\n{section}\n", 1)[1]
    return re.findall(rf"```{language}\n(.*?)```", re.split(r"\n##+ ", text)[0], re.DOTALL)


class Selling:
    """Terminals in which the snippets run, on ports that are free."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        billing, stripe = free_port(), free_port()
        self.billing_url, self.stripe_url = f"http://127.0.0.1:{billing}", f"http://127.0.0.1:{stripe}"
        self._folder = folder
        self._environment = os.environ | {"DTF_DIRECTORY": str(stack.directory), "BILLING_HTTP_PORT": str(billing)}
        for name in ("SUPABASE_URL", "STRIPE_SECRET_KEY"):
            self._environment.pop(name, None)
        self._changes = {
            "http://127.0.0.1:8080": self.billing_url,
            "http://127.0.0.1:12111": self.stripe_url,
            "dtf stripe local": f"dtf stripe local --port {stripe}",
            ".venv/bin/": f"{shlex.quote(str(Path(sys.executable).parent))}/",
        }
        self._open: list[subprocess.Popen[bytes]] = []

    def as_here(self, snippet: str) -> str:
        for written, here in self._changes.items():
            snippet = snippet.replace(written, here)
        return snippet

    def open(self, snippet: str, url: str) -> None:
        """Run a snippet that goes on, and wait for what it serves."""
        log = self._folder / f"terminal-{len(self._open)}"
        with log.open("wb") as output:
            terminal = subprocess.Popen(
                ["/usr/bin/env", "bash", "-ec", self.as_here(snippet)],
                cwd=PROJECT,
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._open.append(terminal)
        until(lambda: _answers(url) or terminal.poll() is not None, 60)
        assert terminal.poll() is None, log.read_text()

    def run(self, snippet: str) -> str:
        """Run a snippet to its end; what it prints."""
        done = subprocess.run(
            ["/usr/bin/env", "bash", "-euo", "pipefail", "-c", self.as_here(snippet)],
            cwd=PROJECT,
            env=self._environment | {"COLUMNS": "200"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def close(self) -> None:
        for terminal in reversed(self._open):
            with suppress(ProcessLookupError):
                os.killpg(terminal.pid, signal.SIGTERM)
            terminal.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@contextmanager
def selling(stack: Stack, folder: Path) -> Iterator[Selling]:
    """The stand-in and billing run, and the web client knows; then everything is as before."""
    shop = Selling(stack, folder)
    first, second, _ = snippets(SECTION, "sh")
    try:
        shop.open(first, shop.stripe_url)
        shop.open(second, shop.billing_url)
        yield shop
    finally:
        shop.close()
        stack.up(billing_url="")
        with connect(stack.state.db_url) as db:
            db.execute("delete from public.billing_orders")
            for table in CATALOGUE:
                db.execute(f"update public.{table} set stripe_price_id = null, stripe_product_id = null")
