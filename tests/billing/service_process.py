"""The billing service as an operator runs it: a process of its own on a running stack."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import httpx

from local.stack import PROJECT
from local.state import StackState, free_port
from local.stripe import SECRET_KEY, WEBHOOK_SECRET, Object, signed

ORIGIN = "https://app.example.test"


class ServiceProcess:
    """`python -m services.billing` on a port that stays the same when it is killed and started again."""

    def __init__(self, state: StackState, stripe_url: str, log: Path, **settings: Any) -> None:
        self.log = log
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "SUPABASE_URL": state.api_url,
            "SUPABASE_SECRET_KEY": state.secret_key,
            "SUPABASE_JWT_SECRET": state.jwt_secret,
            "STRIPE_SECRET_KEY": SECRET_KEY,
            "STRIPE_WEBHOOK_SECRET": f"whsec_older,{WEBHOOK_SECRET}",
            "STRIPE_API_URL": stripe_url,
            "BILLING_ORIGINS": ORIGIN,
            "BILLING_HTTP_PORT": str(self.port),
        } | {name: str(value) for name, value in settings.items()}
        self.http = httpx.Client(base_url=self.url, timeout=60)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(20) == 0, self.log.read_text()

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.billing"],
                cwd=PROJECT,
                stdout=output,
                stderr=output,
                env=os.environ | self.environment,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                if httpx.get(f"{self.url}/healthz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                assert time.monotonic() < deadline, self.log.read_text()
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at whatever instruction it is."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def deliver(self, event: Object, secret: str = WEBHOOK_SECRET) -> httpx.Response:
        """Send an event as Stripe does."""
        body, header = signed(event, secret)
        return self.post(body, header)

    def post(self, body: bytes, header: str) -> httpx.Response:
        return self.http.post("/webhooks/stripe", content=body, headers={"stripe-signature": header})

    def logged(self, event: str) -> list[Object]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]
