"""The HTTP side of the e-mail service alone, on a real port, without the loop that sends."""

import asyncio
import threading
from typing import Any, Self

import httpx
from prometheus_client import CollectorRegistry

from local.stack import StackStatus
from local.state import free_port
from services.email.app import make_app
from services.email.links import unsubscribe_url
from services.email.outbox import Outbox
from services.email.settings import EmailSettings
from services.process import serve
from services.project import connect, http_client
from tests.email.signer import Signer

APP_URL = "https://app.example.test"


class HttpService:
    """Serves while its context lasts. `signer` holds the key of its webhook."""

    def __init__(self, stack: StackStatus, **settings: Any) -> None:
        self.signer = Signer()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = EmailSettings.model_validate(
            {
                "supabase_url": stack.api_url,
                "supabase_secret_key": stack.secret_key,
                "sender": "DTF Editor <hello@example.test>",
                "app_url": APP_URL,
                "public_url": self.url,
                "link_secret": "0123456789abcdef" * 2,
                "smtp_url": "smtp://127.0.0.1:9",
                "sendgrid_webhook_public_keys": (Signer().public_key, self.signer.public_key),
            }
            | settings
        )
        self.http = httpx.Client(base_url=self.url, timeout=60)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        registry = CollectorRegistry()
        async with http_client() as http:
            outbox = Outbox(await connect(self.settings, http))
            app = make_app(self.settings, outbox, lambda: (True, {"status": "ok"}), registry)
            async with serve(app, "127.0.0.1", self.port, "EMAIL_HTTP_PORT"):
                self._ready.set()
                await self._stop.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._loop.close()

    def deliver(self, *events: Any, **options: Any) -> httpx.Response:
        """Send events as SendGrid does."""
        body, headers = self.signer.deliver(*events, **options)
        return self.http.post("/webhooks/sendgrid", content=body, headers=headers)

    def link(self, user_id: object) -> str:
        """The link to unsubscribe in the mails of a user."""
        return unsubscribe_url(self.settings.public_url, self.settings.link_secret, str(user_id))
