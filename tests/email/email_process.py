"""The e-mail service as an operator runs it: a process of its own on a running stack."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx

from local.stack import PROJECT, StackStatus
from local.state import free_port
from tests.e2e.worker_process import until
from tests.email.sendgrid_double import KEY

SENDER = "DTF Editor <hello@example.test>"
APP_URL = "https://app.example.test"
STARTED = "sender_started"


class EmailProcess:
    """`python -m services.email`; `url` stands in for the stack's own. It may be killed and started again."""

    def __init__(
        self, stack: StackStatus, sendgrid_url: str, log: Path, *, url: str | None = None, **settings: Any
    ) -> None:
        self.log = log
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environment = {
            "SUPABASE_URL": url or stack.api_url,
            "SUPABASE_SECRET_KEY": stack.secret_key,
            "SENDGRID_API_KEY": KEY,
            "SENDGRID_API_URL": sendgrid_url,
            "EMAIL_FROM": SENDER,
            "EMAIL_APP_URL": APP_URL,
            "EMAIL_PUBLIC_URL": self.url,
            "EMAIL_LINK_SECRET": "0123456789abcdef" * 2,
            "EMAIL_HTTP_PORT": self.url.rpartition(":")[2],
            "EMAIL_POLL_SECONDS": "0.3",
        } | {name: str(value) for name, value in settings.items()}
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def start(self) -> None:
        """Start, and wait until it sends."""
        starts = len(self.said(STARTED))
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.email"],
                cwd=PROJECT,
                stdout=output,
                stderr=output,
                env=os.environ | self.environment,
            )
        until(lambda: len(self.said(STARTED)) > starts or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.log.read_text()

    def kill(self) -> None:
        """End it at whatever instruction it is."""
        self.process.kill()
        self.process.wait()

    def end(self, seconds: float = 20) -> int:
        """Ask it to end; returns its status."""
        self.process.terminate()
        return self.process.wait(seconds)

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log for an event."""
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def health(self) -> httpx.Response:
        """Ask whether it is well."""
        return httpx.get(f"{self.url}/healthz", timeout=10)

    def metrics(self) -> str:
        """What Prometheus gets."""
        return httpx.get(f"{self.url}/metrics", timeout=10).text
